"""Who a request comes from, and what a browser may do with the answer.

The rules, each of which prevents one attack; what a role may do is asked at the route (:mod:`.routes`):

1. ``Host`` must name us: a foreign name that resolves to our address (DNS rebinding) gets nothing.
2. A connection that could be read on its way (neither TLS, nor this machine, nor our proxy) is refused.
3. A bearer token or a session cookie says who asks (:mod:`.access.sessions`); guessing them is slowed down.
4. A request that changes something must come from a page of ours: ``Origin`` and ``Sec-Fetch-Site`` must not say
   otherwise, and the route asks for the session's CSRF token. A bearer token needs none: no browser adds it by itself.
5. Pages may load only from their own origin, run no inline script, use no inline style and not be framed (CSP); over
   TLS browsers are told to stay there (HSTS).
"""

from __future__ import annotations

import hmac
import time

from fieldwatch_contract import clock
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fieldwatch_cloud.access.address import Address
from fieldwatch_cloud.access.limits import LINK_ADDRESS, Limiter
from fieldwatch_cloud.access.roles import NOBODY, Permission, Principal
from fieldwatch_cloud.access.secret import digest
from fieldwatch_cloud.access.sessions import Sessions
from fieldwatch_cloud.web.problems import problem
from fieldwatch_cloud.web.routes import SAFE_METHODS
from fieldwatch_cloud.web.settings import WebSettings

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
STAY_SECURE = {"Strict-Transport-Security": f"max-age={365 * clock.DAY // clock.SECOND}"}

CONFIGURED = Principal(
    "web.api_token",
    frozenset({Permission.OPEN, Permission.SEE, Permission.ANSWER, Permission.EXPORT, Permission.ARRANGE}),
)
"""A script on this machine with the token of the configuration."""


class Guard:
    """The middleware that enforces the rules, before everything else.

    It leaves ``scope["state"]["principal"]``, and ``["client"]``: the address of who asks. Paths lose the prefix of
    ``web.url``, whether the proxy has taken it off or not.
    """

    def __init__(self, app: ASGIApp, settings: WebSettings, sessions: Sessions, limits: Limiter) -> None:
        self.app = app
        self.settings = settings
        self.address: Address = settings.address
        self.sessions = sessions
        self.limits = limits
        self.headers = HEADERS | (STAY_SECURE if self.address.secure else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge a request and pass it on or answer it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        prefix = self.address.prefix

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent = MutableHeaders(scope=message)
                sent.update(self.headers)
                if prefix and sent.get("location", "").startswith("/"):
                    sent["location"] = prefix + sent["location"]
            await send(message)

        if prefix and (scope["path"] == prefix or scope["path"].startswith(f"{prefix}/")):
            scope = dict(scope, path=scope["path"][len(prefix) :] or "/")
        refusal = await self._judge(scope, headers)
        await (refusal or self.app)(scope, receive, send_safely)

    async def _judge(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        """Return the answer to a request that may not pass, None for one that may."""
        peer = scope["client"][0] if scope.get("client") else None
        state = scope.setdefault("state", {})
        state["principal"] = NOBODY
        state["client"] = self.address.client(peer, headers.getlist("x-forwarded-for"))
        if not self.address.knows_host(headers.get("host")):
            return problem(421, "Misdirected request", f"This server answers as {self.address.home} alone.")
        if not self.address.came_safely(peer):
            return problem(403, "Not over TLS", f"Use {self.address.home}: this connection could be read on its way.")
        if scope["path"].startswith("/static/"):
            return None
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return await self._bearer(state, token.strip())
        cookie = cookie_parser(headers.get("cookie", "")).get(self.address.cookie)
        if cookie:
            state["principal"] = await run_in_threadpool(self.sessions.find, cookie) or NOBODY
        if scope["method"] not in SAFE_METHODS and not self._from_our_page(headers):
            return problem(403, "Foreign origin", "This request did not come from a page of this dashboard.")
        return None

    async def _bearer(self, state: dict[str, object], token: str) -> ASGIApp | None:
        """Find out whose token it is."""
        key, now = str(state["client"]), time.monotonic()
        if (wait := self.limits.wait(LINK_ADDRESS, key, now)) > 0:
            return problem(429, "Too many unknown tokens", f"Wait {wait:.0f} s.", wait=wait)
        expected = self.settings.api_token
        if expected is not None and hmac.compare_digest(digest(expected), digest(token)):
            state["principal"] = CONFIGURED
            return None
        found = await run_in_threadpool(self.sessions.find_token, token)
        if found is None:
            self.limits.count(LINK_ADDRESS, key, now)
            return problem(401, "Unknown token", "No API token is so: it has ended, was revoked, or is mistyped.")
        state["principal"] = found
        return None

    def _from_our_page(self, headers: Headers) -> bool:
        """Tell whether a changing request may come from a page of ours, by what the browser says of its origin."""
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return False
        return self.address.knows_origin(headers.get("origin"), headers.get("host"))
