"""Routes that name what they need: without a permission there is no route.

``@needs(Permission.SEE)`` under the route's own decorator names it; :class:`Route` refuses an endpoint without one when
the program starts, and asks before anything else of the request is looked at. What changes something in a session must
carry its CSRF token, as header ``X-CSRF-Token`` or form field ``csrf``. The permission is in the OpenAPI document
(``x-permission``), from which the test of every role on every route is made.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from fieldwatch_cloud.access.accounts import Accounts
from fieldwatch_cloud.access.limits import EXPORTS, Limiter
from fieldwatch_cloud.access.roles import MAY, NOBODY, Permission, Principal, Role
from fieldwatch_cloud.web.problems import ProblemError

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


class SignInError(ProblemError):
    """Nobody has signed in, and this route is not for everybody: pages answer with the way in."""


def needs(permission: Permission) -> Callable[[Endpoint], Endpoint]:
    """Name the permission that a route needs."""

    def mark(endpoint: Endpoint) -> Endpoint:
        endpoint.permission = permission  # type: ignore[attr-defined]
        return endpoint

    return mark


class Route(APIRoute):
    """A route that asks for its permission."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        permission = getattr(endpoint, "permission", None)
        if not isinstance(permission, Permission):
            raise TypeError(f"{path}: name its permission with @needs(…)")
        self.permission = permission
        options["openapi_extra"] = (options.get("openapi_extra") or {}) | {"x-permission": permission.value}
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, behind the question."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            who = person(request)
            ask(who, self.permission)
            if self.permission is Permission.EXPORT:
                slow_down(request, who)
            if (
                request.method not in SAFE_METHODS
                and who.csrf
                and not hmac.compare_digest(who.csrf.encode(), (await _csrf(request)).encode())
            ):
                raise ProblemError(403, "Wrong CSRF token", "Load the page again and repeat.")
            return await handle(request)

        return guarded


def person(request: Request) -> Principal:
    """Return who a request comes from."""
    who: Principal = request.state.principal
    return who


def accounts_of(request: Request) -> Accounts:
    """Return who may sign in here."""
    accounts: Accounts = request.app.state.accounts
    return accounts


def ask(who: Principal, permission: Permission) -> None:
    """Raise where they may not."""
    if who.may(permission):
        return
    if who is NOBODY:
        raise SignInError(401, "Not signed in", "Sign in, or send an API token: Authorization: Bearer fw_…")
    roles = ", ".join(role.value for role in Role if permission in MAY[role])
    raise ProblemError(
        403, "Not allowed", f"This needs the permission “{permission}”, which these roles have: {roles}."
    )


def slow_down(request: Request, who: Principal) -> None:
    """Count a bulk read and raise where there were too many."""
    limits: Limiter = request.app.state.limits
    now = time.monotonic()
    if (wait := limits.wait(EXPORTS, who.name, now)) > 0:
        raise ProblemError(429, "Too many requests", f"Wait {wait:.0f} s.", wait)
    limits.count(EXPORTS, who.name, now)


async def _csrf(request: Request) -> str:
    header = request.headers.get("x-csrf-token")
    if header is not None or not request.headers.get("content-type", "").lower().startswith(_FORMS):
        return header or ""
    field = (await request.form()).get("csrf")
    return field if isinstance(field, str) else ""
