"""How people are told: routes, what waits, what no channel took, and planned maintenance."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from fieldwatch_contract import clock

from fieldwatch_cloud.access.roles import Permission
from fieldwatch_cloud.store import audit, outbox
from fieldwatch_cloud.store import incident_reads as reads
from fieldwatch_cloud.web.api.common import NOTE_LIMIT, Reads, store_of
from fieldwatch_cloud.web.frame import Pages, frame, html
from fieldwatch_cloud.web.problems import ProblemError
from fieldwatch_cloud.web.routes import Route, needs, person
from fieldwatch_cloud.web.series import parse

SHOWN = 50
WINDOWS = {"1h": 60, "4h": 240, "1d": 1440, "7d": 7 * 1440}
"""Minutes, by the word of the form."""

router = APIRouter(include_in_schema=False, route_class=Route)

Text = Annotated[str, Form(max_length=NOTE_LIMIT)]


@router.get("/telling")
@needs(Permission.SEE)
def telling(request: Request, queries: Reads, pages: Pages) -> Response:
    """Who is told of what, what waits, what no channel took, and planned maintenance."""
    head = frame(request, queries, "telling")
    now = clock.now()
    store = store_of(request)
    with store.read() as db:
        shown = {
            "windows": reads.windows(db, now),
            "dead": reads.dead_letters(db, SHOWN),
            "waiting": reads.waiting(db, SHOWN),
            "counts": reads.counts(db),
        }
    routes = [route for route in store.incidents.routing.routes if route.match.kind != ("self-test",)]
    chain = getattr(request.app.state.telling, "chain", None)
    more = {"routes": routes, "lengths": list(WINDOWS), "arrived": chain.arrived if chain is not None else None}
    return html(request, pages.render("telling.html", **shown, **more, **head))


@router.post("/telling/maintenance")
@needs(Permission.ARRANGE)
def plan_maintenance(
    request: Request,
    device: Annotated[str, Form(max_length=64)] = "*",
    site: Annotated[str, Form(max_length=64)] = "*",
    kind: Annotated[str, Form(max_length=64)] = "*",
    length: Annotated[str, Form(max_length=8)] = "",
    begin: Annotated[str, Form(max_length=40)] = "",
    why: Text = "",
) -> Response:
    """Plan a window in which nobody is told."""
    who, now = person(request).name, clock.now()
    if length not in WINDOWS or not why.strip():
        raise ProblemError(422, "Not complete", "A window has a length and a reason.")
    try:
        start = parse(begin.strip()) if begin.strip() else now
    except ValueError:
        raise ProblemError(
            422, "No time", "The beginning is a time such as 2026-11-26T18:00:00Z, or empty: now."
        ) from None
    end = start + WINDOWS[length] * clock.MINUTE
    if end <= now:
        raise ProblemError(422, "Over already", "This window lies in the past.")
    store = store_of(request)
    device, site, kind = device.strip() or "*", site.strip() or "*", kind.strip() or "*"
    with store.write() as db:
        store.incidents.plan_maintenance(db, device, site, kind, start, end, why.strip(), who, now)
        target = f"{device} at {site}, {kind}, {clock.iso(start)} to {clock.iso(end)}"
        audit.record(db, who, "maintenance.plan", target, why.strip(), now)
    return RedirectResponse("/telling#windows", status_code=303)


@router.post("/telling/maintenance/{number}/end")
@needs(Permission.ARRANGE)
def end_maintenance(request: Request, number: int) -> Response:
    """End a window before its time."""
    who, now = person(request).name, clock.now()
    store = store_of(request)
    with store.write() as db:
        row = store.incidents.end_maintenance(db, number, now)
        if row is None:
            raise ProblemError(404, "No such window", "It is over, or there is none.")
        audit.record(db, who, "maintenance.end", f"{row.device} at {row.site}, {row.kind}", row.why, now)
    return RedirectResponse("/telling#windows", status_code=303)


@router.post("/telling/messages/{message_id}/retry")
@needs(Permission.ARRANGE)
def retry(request: Request, message_id: str) -> Response:
    """Let a dead message be tried again."""
    who, now = person(request).name, clock.now()
    with store_of(request).write() as db:
        if not outbox.revive(db, message_id, now):
            raise ProblemError(404, "Unknown message", "There is no such message that was given up.")
        audit.record(db, who, "message.retry", message_id, "", now)
    return RedirectResponse("/telling#dead", status_code=303)
