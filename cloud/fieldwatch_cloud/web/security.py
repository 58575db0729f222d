"""Access control, and what a browser may do with a response.

The rules, each of which prevents one attack:

1. The ``Host`` header must name this machine: a foreign name that resolves to 127.0.0.1 (DNS rebinding) gets nothing.
2. A start token works once and is exchanged for a session cookie (HttpOnly, SameSite=Lax) by a redirect, so that it
   stays neither in the address bar nor in a ``Referer``.
3. Without a session, or the bearer token of a script, only the start page and the static files answer.
4. A request that changes something must come from a page of ours: ``Origin`` and ``Sec-Fetch-Site`` must not say
   otherwise, and it must carry the session's CSRF token. A bearer token needs none: no browser adds it by itself.
5. Pages may load only from their own origin, run no inline script, use no inline style and not be framed (CSP).

Cookies are shared between ports, so the cookie's name contains the port: two dashboards on one machine do not mix.
Sessions are kept in memory: they end with the process.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fieldwatch_cloud.web.problems import problem
from fieldwatch_cloud.web.settings import WebSettings, is_loopback

IDLE = 12 * 3600.0
"""Idle timeout of a session in seconds."""
SESSIONS = 100
"""Most sessions, more than one person has browsers; beyond it the oldest one ends."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN_PATHS = ("/start", "/static/", "/healthz")

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass
class Session:
    """One browser that has presented the start token."""

    csrf: str
    used: float


@dataclass
class Sessions:
    """Start tokens become sessions; of both only hashes are kept. ``clock`` gives seconds."""

    clock: Callable[[], float] = time.monotonic
    _starts: set[str] = field(default_factory=set)
    _sessions: dict[str, Session] = field(default_factory=dict)

    def admit(self, token: str) -> None:
        """Let ``token`` open a session, once."""
        self._starts.add(_hash(token))

    def exchange(self, token: str) -> str | None:
        """Spend a start token and return the cookie of a new session; None for a wrong or spent token."""
        digest = _hash(token)
        match = next((start for start in self._starts if hmac.compare_digest(start, digest)), None)
        if match is None:
            return None
        self._starts.discard(match)
        cookie = secrets.token_urlsafe(32)
        while len(self._sessions) >= SESSIONS:
            self._sessions.pop(min(self._sessions, key=lambda key: self._sessions[key].used))
        self._sessions[_hash(cookie)] = Session(csrf=secrets.token_urlsafe(16), used=self.clock())
        return cookie

    def find(self, cookie: str | None) -> Session | None:
        """Return the session of a cookie and note its use; None where there is none any more."""
        if not cookie:
            return None
        key = _hash(cookie)
        session = self._sessions.get(key)
        if session is None:
            return None
        now = self.clock()
        if now - session.used > IDLE:
            del self._sessions[key]
            return None
        session.used = now
        return session


def host_is_ours(value: str | None) -> bool:
    """Tell whether a ``Host`` header names this machine, whatever the port.

    >>> host_is_ours("127.0.0.1:8080"), host_is_ours("[::1]:80"), host_is_ours("lab.example:8080")
    (True, True, False)
    """
    if not value:
        return False
    try:
        name = urlsplit(f"//{value}").hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name)


def comes_from_our_page(headers: Headers) -> bool:
    """Tell whether a changing request may come from a page of ours, by what the browser says of its origin."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or origin == f"http://{headers.get('host')}"


class Guard:
    """The middleware that enforces the rules, before everything else.

    It leaves the session in ``scope["state"]["session"]``, None for a script with the bearer token.
    """

    def __init__(self, app: ASGIApp, settings: WebSettings, sessions: Sessions) -> None:
        self.app = app
        self.settings = settings
        self.sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge a request and pass it on or answer it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refusal = self._judge(scope, headers)
        await (refusal or self.app)(scope, receive, send_safely)

    def _judge(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        """Return the answer to a request that may not pass, None for one that may."""
        if not host_is_ours(headers.get("host")):
            return problem(421, "Misdirected request", "This server answers to 127.0.0.1 and localhost alone.")
        state = scope.setdefault("state", {})
        state["session"] = None
        path = scope["path"]
        bearer = self._bearer(headers)
        if bearer is False:
            return problem(
                401, "Unknown token", "The bearer token is not the one in the configuration (web.api_token)."
            )
        if not bearer:
            session = self.sessions.find(cookie_parser(headers.get("cookie", "")).get(cookie_name(self.settings)))
            state["session"] = session
            if session is None and not path.startswith(OPEN_PATHS):
                return _no_session(path)
            if scope["method"] not in SAFE_METHODS and not comes_from_our_page(headers):
                return problem(403, "Foreign origin", "This request did not come from a page of this dashboard.")
        return None

    def _bearer(self, headers: Headers) -> bool | None:
        """Tell whether the request carries the script's token; None where it carries none."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        expected = self.settings.api_token
        return expected is not None and hmac.compare_digest(_hash(expected), _hash(token.strip()))


def cookie_name(settings: WebSettings) -> str:
    """Return the session cookie's name."""
    return f"fieldwatch_{settings.port}"


def csrf_holds(session: Session | None, token: str | None) -> bool:
    """Tell whether ``token`` is the session's; without a session (a script) there is nothing to forge."""
    return session is None or (token is not None and hmac.compare_digest(session.csrf.encode(), token.encode()))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _no_session(path: str) -> ASGIApp:
    if path.startswith("/api/"):
        return problem(401, "No session", "Open the start link that the server printed, or send a bearer token.")
    from starlette.responses import RedirectResponse

    return RedirectResponse("/start", status_code=303)
