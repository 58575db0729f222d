"""One's own account (password, sessions, API tokens), everybody's (for administrators), and the audit trail."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fieldwatch_contract import clock
from pydantic import BaseModel, Field

from fieldwatch_cloud.access.accounts import AccessError, Person
from fieldwatch_cloud.access.lifetimes import TOKEN_DAYS, TOKEN_DAYS_MOST
from fieldwatch_cloud.access.limits import TOKENS, Limiter
from fieldwatch_cloud.access.roles import MAY, SCOPES, Permission, Role
from fieldwatch_cloud.access.sessions import Sessions
from fieldwatch_cloud.store.audit import newest
from fieldwatch_cloud.web.api.common import FORBIDDEN, Limit, Reads, make_router
from fieldwatch_cloud.web.frame import Pages, frame
from fieldwatch_cloud.web.problems import ProblemError
from fieldwatch_cloud.web.routes import Route, accounts_of, needs, person

router = APIRouter(include_in_schema=False, route_class=Route)
api = make_router()

NO_STORE = {"Cache-Control": "no-store"}
SHOWN = 100
Why = Annotated[str, Form(max_length=500)]
Text = Annotated[str, Form(max_length=1000)]


def _sessions(request: Request) -> Sessions:
    sessions: Sessions = request.app.state.sessions
    return sessions


def _oneself(request: Request) -> Person:
    found = next((one for one in accounts_of(request).everybody() if one.id == person(request).person), None)
    if found is None:
        raise ProblemError(403, "No account", "This is not a person’s session.")
    return found


# ---- one's own account ----


@router.get("/account")
@needs(Permission.OWN)
def account(
    request: Request, queries: Reads, pages: Pages, done: Annotated[str, Query(max_length=20)] = ""
) -> Response:
    """Show one's own account."""
    return _account(request, queries, pages, done="The password is changed." if done == "password" else "")


@router.post("/account/password")
@needs(Permission.OWN)
def change_password(
    request: Request, queries: Reads, pages: Pages, old: Text = "", password: Text = "", again: Text = ""
) -> Response:
    """Change one's own password; every other session ends."""
    who = _oneself(request)
    if password != again:
        return _account(request, queries, pages, said="The two passwords differ.")
    try:
        accounts_of(request).change_password(who.id, old, password)
    except AccessError as error:
        return _account(request, queries, pages, said=str(error))
    address = request.app.state.settings.address
    cookie = _sessions(request).begin(who, request.state.client, request.headers.get("user-agent", ""))
    answer = RedirectResponse("/account?done=password", status_code=303, headers=NO_STORE)
    answer.set_cookie(address.cookie, cookie, path="/", secure=address.secure, httponly=True, samesite="lax")
    return answer


@router.post("/account/sessions")
@needs(Permission.OWN)
def end_sessions(request: Request) -> Response:
    """Sign out everywhere."""
    who = _oneself(request)
    _sessions(request).end_all(who.id, who.name)
    return RedirectResponse("/sign-in", status_code=303, headers=NO_STORE)


@router.post("/account/tokens")
@needs(Permission.OWN)
def make_token(
    request: Request,
    queries: Reads,
    pages: Pages,
    name: Text = "",
    scope: Annotated[list[str], Form(max_length=len(SCOPES))] = [],  # noqa: B006 (FastAPI copies it)
    days: Annotated[int, Form()] = TOKEN_DAYS,
) -> Response:
    """Make an API token and show it this once."""
    who = _oneself(request)
    limiter: Limiter = request.app.state.limits
    if (wait := limiter.wait(TOKENS, who.name, time.monotonic())) > 0:
        raise ProblemError(429, "Too many tokens", f"Wait {wait / 60:.0f} min.", wait)
    try:
        token = _sessions(request).make_token(who, name, scope, days, who.name)
    except AccessError as error:
        return _account(request, queries, pages, said=f"{str(error)[:1].upper()}{str(error)[1:]}.")
    limiter.count(TOKENS, who.name, time.monotonic())
    return _account(request, queries, pages, token=token)


@router.post("/account/tokens/{number}/revoke")
@needs(Permission.OWN)
def revoke_token(request: Request, number: int) -> Response:
    """End one of one's own tokens."""
    who = _oneself(request)
    try:
        _sessions(request).revoke(number, who.name, who.id)
    except AccessError as error:
        raise ProblemError(404, "No such token", str(error)) from error
    return RedirectResponse("/account", status_code=303, headers=NO_STORE)


def _account(
    request: Request, queries: Reads, pages: Pages, said: str = "", done: str = "", token: str = ""
) -> Response:
    head = frame(request, queries, "account")
    one = _oneself(request)
    sessions = _sessions(request)
    body = pages.render(
        "account.html",
        one=one,
        said=said,
        done=done,
        token=token,
        sessions=sessions.of(one.id),
        this=person(request).session,
        tokens=sessions.tokens(one.id),
        scopes=[scope for scope in SCOPES if scope in MAY[one.role]],
        days=TOKEN_DAYS,
        days_most=TOKEN_DAYS_MOST,
        **head,
    )
    return HTMLResponse(body, status_code=422 if said else 200, headers=NO_STORE)


# ---- everybody's ----


@router.get("/users")
@needs(Permission.ADMINISTER)
def users(request: Request, queries: Reads, pages: Pages) -> Response:
    """Show all accounts."""
    return _users(request, queries, pages)


@router.post("/users")
@needs(Permission.ADMINISTER)
def invite(
    request: Request, queries: Reads, pages: Pages, name: Text = "", role: Text = "viewer", why: Why = ""
) -> Response:
    """Invite somebody and show the link this once."""
    try:
        secret = accounts_of(request).invite(name, Role(role), person(request).name, why)
    except (AccessError, ValueError) as error:
        return _users(request, queries, pages, said=f"{str(error)[:1].upper()}{str(error)[1:]}.")
    return _users(request, queries, pages, link=(name.strip().lower(), _link(request, secret)))


@router.post("/users/{number}/{action}")
@needs(Permission.ADMINISTER)
def change_user(
    request: Request,
    queries: Reads,
    pages: Pages,
    number: int,
    action: Literal["reset", "disable", "enable", "role"],
    role: Text = "",
    why: Why = "",
) -> Response:
    """Change somebody's account."""
    accounts, who = accounts_of(request), person(request).name
    found = next((one for one in accounts.everybody() if one.id == number), None)
    if found is None:
        raise ProblemError(404, "No such account", "It is not here.")
    try:
        if action == "reset":
            return _users(
                request, queries, pages, link=(found.name, _link(request, accounts.reset(found.name, who, why)))
            )
        if action == "role":
            accounts.change_role(found.name, Role(role), who, why)
        elif action == "disable":
            accounts.disable(found.name, who, why)
        else:
            accounts.enable(found.name, who, why)
    except (AccessError, ValueError) as error:
        return _users(request, queries, pages, said=f"{str(error)[:1].upper()}{str(error)[1:]}.")
    return RedirectResponse("/users", status_code=303, headers=NO_STORE)


def _users(
    request: Request, queries: Reads, pages: Pages, said: str = "", link: tuple[str, str] | None = None
) -> Response:
    head = frame(request, queries, "users")
    everybody = accounts_of(request).everybody()
    body = pages.render("users.html", everybody=everybody, roles=list(Role), said=said, link=link, **head)
    return HTMLResponse(body, status_code=422 if said else 200, headers=NO_STORE)


def _link(request: Request, secret: str) -> str:
    return f"{request.app.state.settings.url}link?token={secret}"


@router.get("/audit")
@needs(Permission.ADMINISTER)
def audit_page(
    request: Request, queries: Reads, pages: Pages, before: Annotated[int | None, Query(ge=1, le=2**52)] = None
) -> Response:
    """Show who did what, the newest first."""
    head = frame(request, queries, "audit")
    with request.app.state.store.read() as db:
        rows = newest(db, SHOWN + 1, before)
    older = rows[SHOWN - 1].id if len(rows) > SHOWN else None
    body = pages.render("audit.html", rows=rows[:SHOWN], older=older, first=before is None, **head)
    return HTMLResponse(body, headers=NO_STORE)


# ---- the same for scripts ----


class MeOut(BaseModel):
    """Who asks, and what they may do."""

    name: str = Field(description="as the audit trail writes it")
    role: Role | None = Field(description="null for the token of the configuration")
    permissions: list[Permission]


class PersonOut(BaseModel):
    """An account."""

    name: str
    role: Role
    state: Literal["active", "disabled", "invited", "invitation expired"]
    signs_in: list[Literal["password", "provider"]]
    made_at: str
    last_sign_in: str | None


class PeopleOut(BaseModel):
    """All accounts, by name."""

    items: list[PersonOut]


class AuditOut(BaseModel):
    """An entry of the audit trail; ``hash`` binds it to the one before."""

    id: int
    at: str
    who: str
    action: str
    target: str
    why: str
    hash: str = Field(pattern="^[0-9a-f]{64}$")


class AuditPage(BaseModel):
    """A page of the audit trail, newest first."""

    items: list[AuditOut]
    next: int | None


@api.get("/me", summary="Who asks")
@needs(Permission.SEE)
def me(request: Request) -> MeOut:
    """Tell whose session or token this is and what it may do."""
    who = person(request)
    return MeOut(name=who.name, role=who.role, permissions=sorted(who.permissions))


@api.get("/users", summary="All accounts", responses=FORBIDDEN)
@needs(Permission.ADMINISTER)
def api_users(request: Request) -> PeopleOut:
    """List the accounts, for administrators."""
    return PeopleOut(
        items=[
            PersonOut(
                name=one.name,
                role=one.role,
                state=one.state,
                signs_in=list(one.signs_in),
                made_at=clock.iso(one.made_at),
                last_sign_in=None if one.last_at is None else clock.iso(one.last_at),
            )
            for one in accounts_of(request).everybody()
        ]
    )


@api.get("/audit", summary="The audit trail, newest first", responses=FORBIDDEN)
@needs(Permission.ADMINISTER)
def api_audit(
    request: Request,
    limit: Limit = 100,
    cursor: Annotated[int | None, Query(ge=1, le=2**52, description="'next' of the last page")] = None,
) -> AuditPage:
    """List who did what, when and why, for administrators."""
    with request.app.state.store.read() as db:
        rows = newest(db, limit + 1, cursor)
    return AuditPage(
        items=[AuditOut(**_entry(row)) for row in rows[:limit]],
        next=rows[limit - 1].id if len(rows) > limit else None,
    )


def _entry(row: Any) -> dict[str, Any]:
    fields: dict[str, Any] = dict(row._mapping)
    return fields | {"at": clock.iso(row.at)}
