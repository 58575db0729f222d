"""Shared by all of ``/api/v1``: parameters, errors, and how numbers and times are written.

Times are RFC 3339 in UTC; the time axes of series are seconds since 1970, because chart libraries expect that.
Errors are RFC 9457 problem details. Lists come in pages: ``next`` is the cursor of the following one, null at the end.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fieldwatch_contract import clock
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from fieldwatch_cloud.store import Store
from fieldwatch_cloud.store.fleet import DeviceNow
from fieldwatch_cloud.web.problems import MEDIA_TYPE, Problem, ProblemError
from fieldwatch_cloud.web.queries import Queries
from fieldwatch_cloud.web.routes import Route
from fieldwatch_cloud.web.stream import finite

NOTE_LIMIT = 2000


class Model(BaseModel):
    """What an answer is made of; it is read from attributes too."""

    model_config = ConfigDict(from_attributes=True)


Number = Annotated[float | None, BeforeValidator(finite), Field(description="null where what is stored is no number")]
"""A number of the store, in JSON, which has no infinity: a damaged disk, or a release that did not check, left some."""


def problem_of(what: str) -> dict[str, Any]:
    """Describe an error answer in the OpenAPI document."""
    return {"description": what, "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}


ERRORS: dict[int | str, dict[str, Any]] = {
    400: problem_of("The request cannot be read"),
    401: problem_of("No session and no bearer token"),
    421: problem_of("The Host header names another machine"),
    403: problem_of("Your role or token does not have the permission"),
    422: problem_of("A parameter is wrong; the problem says which and why"),
    429: problem_of("Too many requests; Retry-After says when to try again"),
}


NOT_FOUND: dict[int | str, dict[str, Any]] = {404: problem_of("There is no such thing")}


NO_RANGE: dict[int | str, dict[str, Any]] = {409: problem_of("'from', 'to', 'step' and what is stored do not fit")}


FORBIDDEN: dict[int | str, dict[str, Any]] = {
    403: problem_of("Your role or token does not have the permission, or the request did not come from a page of ours")
}


DeviceId = Annotated[str, Path(pattern=r"^[a-z0-9-]{3,64}$", examples=["press-0001"])]


_DAY = (
    r"(?:(?:19[7-9]|20\d)\d-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)"
    r"|02-(?:0[1-9]|1\d|2[0-8]))|(?:19(?:7[26]|8[048]|9[26])|20(?:[02468][048]|[13579][26]))-02-29)"
)


TIME = rf"^{_DAY}T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{{1,6}})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)$"
"""RFC 3339, a real day of 1970 to 2099: as strict as what reads it."""


Limit = Annotated[int, Query(ge=1, le=1000)]


def make_router() -> APIRouter:
    """Return a router for a subject of the API."""
    return APIRouter(prefix="/api/v1", responses=ERRORS, route_class=Route)


def queries_of(request: Request) -> Queries:
    """Return the questions to the store."""
    queries: Queries = request.app.state.queries
    return queries


def store_of(request: Request) -> Store:
    """Return the store."""
    store: Store = request.app.state.store
    return store


Reads = Annotated[Queries, Depends(queries_of)]


def known(queries: Queries, device: str) -> DeviceNow:
    """Return the device; 404 where it is not known."""
    found = queries.device(device)
    if found is None:
        raise ProblemError(404, "Unknown device", f"No device {device!r} has reported yet.")
    return found


def iso(ts: int | None) -> str | None:
    """Write a time in µs as RFC 3339; None stays None."""
    return None if ts is None else clock.iso(ts)
