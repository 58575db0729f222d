"""The way in and out: the demo's start link, sign-in, invitations and new passwords, the identity provider, sign-out.

All of it works without JavaScript. A link's secret stands in the address only until its form is sent; pages that hold
one are neither stored nor told to other sites.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from fieldwatch_cloud.access import limits
from fieldwatch_cloud.access.accounts import AccessError, Person
from fieldwatch_cloud.access.oidc import ATTEMPT_S, Attempt, OidcError
from fieldwatch_cloud.access.roles import NOBODY, Permission
from fieldwatch_cloud.access.sessions import Sessions
from fieldwatch_cloud.web.frame import Pages, outside
from fieldwatch_cloud.web.problems import ProblemError
from fieldwatch_cloud.web.routes import Route, accounts_of, needs, person
from fieldwatch_cloud.web.settings import WebSettings

log = logging.getLogger("fieldwatch.web")
router = APIRouter(include_in_schema=False, route_class=Route)

NO_STORE = {"Cache-Control": "no-store"}
Secret = Annotated[str, Query(max_length=200)]
Then = Annotated[str, Query(max_length=2000)]
Value = TypeVar("Value")


def _settings(request: Request) -> WebSettings:
    settings: WebSettings = request.app.state.settings
    return settings


@router.get("/start")
@needs(Permission.OPEN)
def start(request: Request, pages: Pages, token: Secret = "") -> Response:
    """Exchange a start link for a session of the demo's person, or say how to get in."""
    if person(request) is not NOBODY:
        return RedirectResponse("/", status_code=303)
    if token:
        found = _tried(request, lambda: accounts_of(request).enter(token))
        if found is not None:
            return _signed_in(request, found, "/")
    elif accounts_of(request).exist():
        return RedirectResponse("/sign-in", status_code=303)
    body = pages.render("start.html", spent=bool(token), **outside())
    return HTMLResponse(body, status_code=403 if token else 401, headers=NO_STORE)


@router.get("/sign-in")
@needs(Permission.OPEN)
def sign_in_page(request: Request, pages: Pages, then: Then = "/") -> Response:
    """Ask for name and password."""
    if person(request) is not NOBODY:
        return RedirectResponse(inside_path(then), status_code=303)
    if not accounts_of(request).exist():
        return RedirectResponse("/start", status_code=303)
    return _form(request, pages, then)


@router.post("/sign-in")
@needs(Permission.OPEN)
def sign_in(
    request: Request,
    pages: Pages,
    name: Annotated[str, Form(max_length=200)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
    then: Annotated[str, Form(max_length=2000)] = "/",
) -> Response:
    """Sign somebody in by password."""
    limiter: limits.Limiter = request.app.state.limits
    address, who, now = request.state.client, name.strip().lower()[:200], time.monotonic()
    keys = ((limits.SIGN_IN_PAIR, f"{who} {address}"), (limits.SIGN_IN_NAME, who), (limits.SIGN_IN_ADDRESS, address))
    wait = max(limiter.wait(rule, key, now) for rule, key in keys)
    if wait > 0:
        said = f"Too many wrong passwords. Try again in {wait / 60:.0f} min, or ask for a link to set a new one."
        return _form(request, pages, then, said, name, 429, wait)
    found = accounts_of(request).by_password(name, password)
    if found is None:
        for rule, key in keys:
            limiter.count(rule, key, now)
        log.warning("sign-in refused for %r from %s", who, address)
        return _form(request, pages, then, "This name and password do not belong together.", name, 403)
    limiter.forget(*keys[0])
    return _signed_in(request, found, inside_path(then))


@router.post("/sign-out")
@needs(Permission.OWN)
def sign_out(request: Request) -> Response:
    """End this browser's session."""
    sessions: Sessions = request.app.state.sessions
    who = person(request)
    sessions.end(who.session, who.name)
    answer = RedirectResponse("/sign-in", status_code=303, headers=NO_STORE)
    address = _settings(request).address
    answer.delete_cookie(address.cookie, path="/", secure=address.secure, httponly=True, samesite="lax")
    answer.headers["Clear-Site-Data"] = '"cache"'
    return answer


@router.get("/link")
@needs(Permission.OPEN)
def link_page(request: Request, pages: Pages, token: Secret = "") -> Response:
    """Show what an invitation or reset link is for, and ask for a password."""
    found = _tried(request, lambda: accounts_of(request).link(token))
    return _password_form(request, pages, token, found if found is None or found.kind != "start" else None)


@router.post("/link")
@needs(Permission.OPEN)
def take_link(
    request: Request,
    pages: Pages,
    token: Annotated[str, Form(max_length=200)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
    again: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Set the password of an invitation or reset link, and sign in."""
    accounts = accounts_of(request)
    found = _tried(request, lambda: accounts.link(token))
    if found is None or found.kind == "start":
        return _password_form(request, pages, "", None)
    if password != again:
        return _password_form(request, pages, token, found, "The two passwords differ.")
    try:
        who = accounts.set_password(token, password)
    except AccessError as error:
        return _password_form(request, pages, token, accounts.link(token), str(error))
    return _signed_in(request, who, "/")


@router.get("/sign-in/provider")
@needs(Permission.OPEN)
def to_provider(request: Request, pages: Pages, token: Secret = "", then: Then = "/") -> Response:
    """Send the browser to the identity provider; ``token``: of an invitation that the identity will be bound to."""
    settings = _settings(request)
    if settings.provider is None:
        raise ProblemError(404, "No identity provider", "None is configured here (access.oidc).")
    try:
        url, attempt = settings.provider.begin(_back(settings), token, inside_path(then))
    except OidcError as error:
        log.error("sign-in through the identity provider: %s", error)
        return _form(request, pages, then, str(error), status=502)
    answer = RedirectResponse(url, status_code=303, headers=NO_STORE)
    # Lax: the provider sends the browser back by a link, from its own site.
    answer.set_cookie(_attempt_cookie(settings), attempt.packed(), max_age=ATTEMPT_S, **_flags(settings))
    return answer


@router.get("/sign-in/back")
@needs(Permission.OPEN)
def from_provider(request: Request, pages: Pages) -> Response:
    """Take what the identity provider sends back, and sign in."""
    settings = _settings(request)
    attempt = Attempt.unpack(request.cookies.get(_attempt_cookie(settings)))
    if settings.provider is None or attempt is None:
        return _form(request, pages, "/", "This sign-in was not begun here, or took too long. Begin again.", status=403)
    try:
        identity = settings.provider.finish(attempt, dict(request.query_params), _back(settings))
        found = accounts_of(request).by_provider(identity.issuer, identity.subject, attempt.invitation or None)
    except (OidcError, AccessError) as error:
        log.warning("sign-in through the identity provider: %s", error)
        answer = _form(request, pages, attempt.then, str(error), status=403)
    else:
        answer = _signed_in(request, found, inside_path(attempt.then))
    answer.delete_cookie(_attempt_cookie(settings), **_flags(settings))
    return answer


def inside_path(then: str) -> str:
    """Return where to go after signing in: a path here, whatever the address said (open redirect).

    >>> inside_path("/alerts?state=all"), inside_path("//evil.example"), inside_path("https://evil.example")
    ('/alerts?state=all', '/', '/')
    """
    parts = urlsplit(then)
    safe = then.startswith("/") and not then.startswith("//") and "\\" not in then and then.isprintable()
    return then if safe and not parts.netloc and not parts.scheme else "/"


def _signed_in(request: Request, found: Person, then: str) -> Response:
    sessions: Sessions = request.app.state.sessions
    settings = _settings(request)
    name = settings.address.cookie
    agent = request.headers.get("user-agent", "")
    cookie = sessions.begin(found, request.state.client, agent, request.cookies.get(name))
    answer = RedirectResponse(then, status_code=303, headers=NO_STORE)
    answer.set_cookie(name, cookie, **_flags(settings))
    return answer


def _flags(settings: WebSettings) -> dict[str, Any]:
    return {"path": "/", "secure": settings.address.secure, "httponly": True, "samesite": "lax"}


def _attempt_cookie(settings: WebSettings) -> str:
    return f"{settings.address.cookie}-attempt"


def _back(settings: WebSettings) -> str:
    return f"{settings.address.home}sign-in/back"


def _tried(request: Request, ask: Callable[[], Value | None]) -> Value | None:
    """Look up a link; whoever guesses links is slowed down."""
    limiter: limits.Limiter = request.app.state.limits
    address, now = request.state.client, time.monotonic()
    if (wait := limiter.wait(limits.LINK_ADDRESS, address, now)) > 0:
        raise ProblemError(429, "Too many wrong links", f"Wait {wait:.0f} s.", wait)
    found = ask()
    if found is None:
        limiter.count(limits.LINK_ADDRESS, address, now)
    return found


def _form(
    request: Request,
    pages: Pages,
    then: str,
    said: str = "",
    name: str = "",
    status: int = 200,
    wait: float | None = None,
) -> Response:
    provider = _settings(request).provider
    body = pages.render("sign-in.html", then=inside_path(then), said=said, name=name, provider=provider, **outside())
    headers = NO_STORE | ({"Retry-After": f"{wait:.0f}"} if wait is not None else {})
    return HTMLResponse(body, status_code=status, headers=headers)


def _password_form(request: Request, pages: Pages, token: str, link: Any, said: str = "") -> Response:
    provider = _settings(request).provider
    body = pages.render("link.html", token=token, link=link, said=said, provider=provider, **outside())
    return HTMLResponse(body, status_code=403 if link is None or said else 200, headers=NO_STORE)
