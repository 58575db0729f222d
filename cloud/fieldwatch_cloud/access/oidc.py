"""Sign-in through an identity provider: OpenID Connect, authorisation code with PKCE.

What it promises (OpenID Connect Core 1.0; RFC 7636; RFC 9207)
    * The answer belongs to the question: state, nonce and PKCE verifier are drawn for each attempt, and live for ten
      minutes in a cookie of the browser that began it, so that nobody else can finish it and nothing is kept here.
    * The ID token is signed by a key of the provider (asymmetric algorithms alone), for us, by it, and not expired.
    * The provider's documents are fetched over TLS (plain HTTP only from a loopback address), answers are bounded, and
      every failure is an :class:`OidcError` that says what to look at. Tokens are used once and not kept.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import time
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from fieldwatch_cloud.loopback import is_loopback

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
ATTEMPT_S = 600
"""Seconds that a person has at the provider."""
FRESH_S = 3600.0
"""Seconds that the provider's documents are kept; its keys are fetched anew for one that is not known."""
REFETCH_S = 30.0
LEEWAY_S = 60
ANSWER_LIMIT = 1 << 20
TIMEOUT_S = 10.0


class OidcError(Exception):
    """Sign-in failed; the message says why, and is for the person or for the log alike: it holds no secret."""


@dataclass(frozen=True)
class Attempt:
    """What the browser keeps while its person is at the provider."""

    state: str
    nonce: str
    verifier: str
    began: int
    invitation: str = ""
    then: str = "/"

    def packed(self) -> str:
        """Return it as the value of a cookie."""
        return base64.urlsafe_b64encode(json.dumps(asdict(self)).encode()).decode().rstrip("=")

    @classmethod
    def unpack(cls, cookie: str | None) -> Attempt | None:
        """Read a cookie; None for one that is none."""
        try:
            text = base64.urlsafe_b64decode((cookie or "") + "=" * (-len(cookie or "") % 4))
            fields = json.loads(text)
            attempt = cls(**fields)
            strings = (attempt.state, attempt.nonce, attempt.verifier, attempt.invitation, attempt.then)
            if all(isinstance(one, str) for one in strings) and isinstance(attempt.began, int):
                return attempt
        except (ValueError, TypeError):
            pass
        return None


@dataclass(frozen=True)
class Identity:
    """Who somebody is at the provider. ``email`` is for people to read and decides nothing."""

    issuer: str
    subject: str
    email: str = ""


@dataclass
class Provider:
    """An identity provider; ``secret`` is our client secret, None for a public client. Thread-safe enough: documents
    are fetched twice at worst.
    """

    issuer: str
    client_id: str
    secret: str | None = field(default=None, repr=False)
    name: str = "your organisation"
    _documents: dict[str, tuple[float, dict[str, Any]]] = field(default_factory=dict, repr=False)

    def begin(self, redirect: str, invitation: str = "", then: str = "/") -> tuple[str, Attempt]:
        """Return where to send the browser, and what it keeps meanwhile."""
        attempt = Attempt(
            secrets.token_urlsafe(24),
            secrets.token_urlsafe(24),
            secrets.token_urlsafe(48),
            int(time.time()),
            invitation,
            then,
        )
        url: str = prepare_grant_uri(
            self._endpoint("authorization_endpoint"),
            self.client_id,
            "code",
            redirect,
            ["openid", "email"],
            attempt.state,
            nonce=attempt.nonce,
            code_challenge=create_s256_code_challenge(attempt.verifier),
            code_challenge_method="S256",
        )
        return url, attempt

    def finish(self, attempt: Attempt, answer: dict[str, str], redirect: str) -> Identity:
        """Exchange the provider's ``answer`` (the query of the redirect back) for an identity."""
        if time.time() - attempt.began > ATTEMPT_S:
            raise OidcError("This sign-in took more than ten minutes. Begin again.")
        if not hmac.compare_digest(attempt.state.encode(), answer.get("state", "").encode()):
            raise OidcError("This answer belongs to another sign-in. Begin again.")
        if "error" in answer:
            raise OidcError(f"{self.name} refused: {answer.get('error_description') or answer['error']}"[:300])
        if answer.get("iss", self.issuer) != self.issuer:
            raise OidcError("The answer comes from another identity provider.")
        if not answer.get("code"):
            raise OidcError("The identity provider sent no code.")
        found = self._tokens(answer["code"], attempt.verifier, redirect)
        claims = self._claims(found, attempt.nonce)
        email = claims.get("email")
        return Identity(self.issuer, str(claims["sub"]), email if isinstance(email, str) else "")

    def _tokens(self, code: str, verifier: str, redirect: str) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect,
            "code_verifier": verifier,
            "client_id": self.client_id,
        }
        auth = None
        if self.secret is not None:
            ways = self._discovered().get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
            if "client_secret_basic" in ways:
                auth = (self.client_id, self.secret)
            else:
                form["client_secret"] = self.secret
        return self._fetch(self._endpoint("token_endpoint"), form, auth)

    def _claims(self, tokens: dict[str, Any], nonce: str) -> CodeIDToken:
        text = tokens.get("id_token")
        if not isinstance(text, str):
            raise OidcError("The identity provider sent no ID token: is the scope openid allowed for this client?")
        try:
            decoded = self._decoded(text)
            options = {
                "iss": {"essential": True, "value": self.issuer},
                "aud": {"essential": True, "value": self.client_id},
            }
            params = {"nonce": nonce, "client_id": self.client_id, "access_token": tokens.get("access_token")}
            claims = CodeIDToken(decoded.claims, decoded.header, options, params)
            claims.validate(leeway=LEEWAY_S)
        except (JoseError, ValueError) as error:
            raise OidcError(f"The ID token cannot be trusted: {error}") from error
        if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= 255:
            raise OidcError("The ID token names nobody.")
        return claims

    def _decoded(self, text: str) -> Any:
        """Check the signature; with keys fetched anew where none fits, for providers rotate them."""
        kept = self._kept("jwks")
        try:
            return jwt.decode(text, self._keys(), algorithms=ALGORITHMS)
        except (JoseError, ValueError):
            if kept is None or time.monotonic() - kept[0] < REFETCH_S:
                raise
            self._documents.pop("jwks", None)
            return jwt.decode(text, self._keys(), algorithms=ALGORITHMS)

    def _keys(self) -> KeySet:
        return KeySet.import_key_set(self._document("jwks", self._endpoint("jwks_uri")))  # type: ignore[arg-type]

    def _discovered(self) -> dict[str, Any]:
        found = self._document("discovery", f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != self.issuer:
            raise OidcError(
                f"{self.issuer} calls itself {str(found.get('issuer'))[:200]!r}: put that into access.oidc.issuer"
            )
        return found

    def _endpoint(self, name: str) -> str:
        url = self._discovered().get(name)
        if not isinstance(url, str) or not trustworthy(url):
            raise OidcError(f"The identity provider gives no https address as {name}.")
        return url

    def _kept(self, name: str) -> tuple[float, dict[str, Any]] | None:
        kept = self._documents.get(name)
        return None if kept is None or time.monotonic() - kept[0] > FRESH_S else kept

    def _document(self, name: str, url: str) -> dict[str, Any]:
        kept = self._kept(name)
        if kept is None:
            kept = self._documents[name] = (time.monotonic(), self._fetch(url))
        return kept[1]

    def _fetch(
        self, url: str, form: dict[str, str] | None = None, auth: tuple[str, str] | None = None
    ) -> dict[str, Any]:
        method = "GET" if form is None else "POST"
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        try:
            with (
                httpx.Client(timeout=TIMEOUT_S, follow_redirects=False) as client,
                client.stream(method, url, data=form, headers=headers, auth=auth) as response,
            ):
                body = b""
                for part in response.iter_bytes():
                    body += part
                    if len(body) > ANSWER_LIMIT:
                        raise OidcError(f"{url} answers with more than {ANSWER_LIMIT} bytes.")
                status = response.status_code
        except httpx.HTTPError as error:
            raise OidcError(f"{urlsplit(url).netloc} cannot be reached: {error or type(error).__name__}") from error
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if status != 200 or not isinstance(found, dict):
            said = found.get("error_description") or found.get("error") if isinstance(found, dict) else None
            raise OidcError(f"{url} answers {status}{f': {said}' if said else ''}"[:300])
        return found


def trustworthy(url: str) -> bool:
    """Tell whether a document may be fetched from there: over TLS, or from this machine.

    >>> trustworthy("https://id.example.org/keys"), trustworthy("http://id.example.org"), trustworthy("http://127.0.0.1:9")
    (True, False, True)
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
