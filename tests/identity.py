"""A small OpenID provider that is real: discovery, authorisation, token endpoint with PKCE and client secret, keys.

It signs its one person in without asking. ``bend`` changes one thing of what it answers, as a hostile or broken
provider would.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.conftest import running

CLIENT, SECRET = "fieldwatch", "the client's secret"


def new_key(kid: str) -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": kid, "use": "sig", "alg": "RS256"})


@dataclass
class Provider:
    """What it knows. ``subject``: who signs in next; ``seen``: the forms its token endpoint got."""

    port: int = 0
    subject: str = "subject-1"
    key: RSAKey = field(default_factory=lambda: new_key("one"))
    signing: Any = None
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    seen: list[dict[str, str]] = field(default_factory=list)
    bend: Callable[[dict[str, Any], dict[str, Any]], None] = lambda header, claims: None
    bend_discovery: Callable[[dict[str, Any]], None] = lambda document: None

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def discovery(self) -> dict[str, Any]:
        document = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        }
        self.bend_discovery(document)
        return document

    def authorize(self, query: dict[str, str]) -> str:
        code = secrets.token_urlsafe()
        self.codes[code] = query
        answer = {"code": code, "state": query["state"], "iss": self.issuer}
        return f"{query['redirect_uri']}?{urlencode(answer)}"

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        self.seen.append(form)
        asked = self.codes.pop(form.get("code", ""), None)
        client = base64.b64decode(authorization.removeprefix("Basic ") or "").decode()
        if client != f"{CLIENT}:{SECRET}":
            return 401, {"error": "invalid_client"}
        challenge = _base64(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if asked is None or asked.get("code_challenge") != challenge:
            return 400, {"error": "invalid_grant"}
        if asked["redirect_uri"] != form["redirect_uri"] or asked["code_challenge_method"] != "S256":
            return 400, {"error": "invalid_grant"}
        return 200, {"access_token": secrets.token_urlsafe(), "token_type": "Bearer", "id_token": self.id_token(asked)}

    def id_token(self, asked: dict[str, str]) -> str:
        now = int(time.time())
        claims: dict[str, Any] = {"iss": self.issuer, "aud": CLIENT, "sub": self.subject, "iat": now, "exp": now + 300}
        claims |= {"nonce": asked["nonce"], "email": f"{self.subject}@lab.example"}
        header: dict[str, Any] = {"alg": "RS256", "kid": self.key.kid}
        self.bend(header, claims)
        if header["alg"] == "none":
            return ".".join(_base64(json.dumps(one).encode()) for one in (header, claims)) + "."
        if header["alg"] == "HS256":  # the public key taken for a shared secret
            text = ".".join(_base64(json.dumps(one).encode()) for one in (header, claims))
            return f"{text}.{_base64(hmac.digest(self.key.as_pem(private=False), text.encode(), 'sha256'))}"
        return jwt.encode(header, claims, self.signing or self.key)


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


@contextmanager
def provider() -> Iterator[Provider]:
    """Serve one on a free port of this machine."""
    known = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if parts.path == "/.well-known/openid-configuration":
                self.answer(200, known.discovery())
            elif parts.path == "/keys":
                self.answer(200, {"keys": [known.key.as_dict(private=False)]})
            elif parts.path == "/authorize":
                self.send_response(302)
                self.send_header("Location", known.authorize(query))
                self.end_headers()
            else:
                self.answer(404, {})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            self.answer(*known.token(form, self.headers.get("Authorization", "")))

        def answer(self, status: int, document: dict[str, Any]) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with running(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as known.port:
        yield known
