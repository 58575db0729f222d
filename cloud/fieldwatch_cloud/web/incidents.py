"""Incidents, and how people are told of them: the pages on which they answer.

A link in a message leads here and only shows; what changes something is a form's POST. Every act is in the timeline and
in the audit trail, in one transaction.
"""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response
from fieldwatch_contract import clock

from fieldwatch_cloud.access.roles import Permission
from fieldwatch_cloud.alerts.life import Acknowledged, Assigned, Closed, Commented, Event, NotNowError, Snoozed
from fieldwatch_cloud.live import Notice
from fieldwatch_cloud.store import audit, outbox
from fieldwatch_cloud.store import incident_reads as reads
from fieldwatch_cloud.store.incidents import UnknownIncidentError
from fieldwatch_cloud.web.api.common import NOTE_LIMIT, Reads, store_of
from fieldwatch_cloud.web.frame import Pages, frame, html
from fieldwatch_cloud.web.problems import ProblemError
from fieldwatch_cloud.web.routes import Route, needs, person

SHOWN = 50
SNOOZES = {"1h": 60, "4h": 240, "1d": 1440, "3d": 3 * 1440, "7d": 7 * 1440}
"""Minutes, by the word of the form."""
WINDOWS = {"1h": 60, "4h": 240, "1d": 1440, "7d": 7 * 1440}

router = APIRouter(include_in_schema=False, route_class=Route)

Text = Annotated[str, Form(max_length=NOTE_LIMIT)]


@router.get("/incidents")
@needs(Permission.SEE)
def incidents(
    request: Request,
    queries: Reads,
    pages: Pages,
    state: Literal["live", "over", "all"] = "live",
    device: Annotated[str | None, Query(max_length=64)] = None,
    before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
) -> Response:
    """What waits for somebody, newest first."""
    head = frame(request, queries, "incidents")
    live = {"live": True, "over": False, "all": None}[state]
    with store_of(request).read() as db:
        rows = reads.incidents(db, live, device, before, SHOWN + 1)
    query = f"state={state}" + (f"&device={quote(device)}" if device else "")
    older = rows[SHOWN - 1].id if len(rows) > SHOWN else None
    shown = {"incidents": rows[:SHOWN], "state": state, "only": device or "", "query": query, "older": older}
    return html(request, pages.render("incidents.html", **shown, first=before is None, **head))


@router.get("/incidents/{number}")
@needs(Permission.SEE)
def incident(request: Request, queries: Reads, pages: Pages, number: int) -> Response:
    """One incident: what, since when, who answered what, who was told, and the forms to answer."""
    head = frame(request, queries, "incidents")
    with store_of(request).read() as db:
        found = reads.case(db, number)
    if found is None:
        raise ProblemError(404, "Unknown incident", "There is no such incident.")
    more = {"case": found, "row": found.row, "life": found.row.life or {}, "snoozes": list(SNOOZES)}
    return html(request, pages.render("incident.html", **more, note_limit=NOTE_LIMIT, **head))


@router.post("/incidents/{number}/{act}")
@needs(Permission.ANSWER)
def answer(
    request: Request,
    number: int,
    act: Literal["acknowledge", "assign", "comment", "snooze", "close"],
    why: Text = "",
    to: Annotated[str, Form(max_length=200)] = "",
    until: Annotated[str, Form(max_length=8)] = "",
) -> Response:
    """Apply what a person says, and show the incident again."""
    who, now = person(request).name, clock.now()
    event = _event(act, who, why.strip(), to.strip(), until, now)
    try:
        with store_of(request).write() as db:
            device = store_of(request).incidents.act(db, number, event)
            said = f"to {to.strip()}" if act == "assign" else f"for {until}: {why.strip()}" if act == "snooze" else why
            audit.record(db, who, f"incident.{act}", str(number), said.strip(), now)
    except UnknownIncidentError:
        raise ProblemError(404, "Unknown incident", "There is no such incident.") from None
    except NotNowError as error:
        raise ProblemError(409, "Not any more", f"{str(error)[:1].upper()}{str(error)[1:]}.") from None
    told = {"type": "incident", "time": now, "data": {"number": number, "act": act}}
    store_of(request).live.publish([Notice("event", device, told)])  # other people's pages
    return RedirectResponse(f"/incidents/{number}#timeline", status_code=303)


def _event(act: str, who: str, why: str, to: str, until: str, now: int) -> Event:
    """Return what a form says. Raises :class:`.ProblemError` for what is missing in it."""
    if act == "acknowledge":
        return Acknowledged(now, who, why)
    if act == "assign":
        if not to:
            raise ProblemError(422, "Nobody named", "Say to whom it is assigned.")
        return Assigned(now, who, to)
    if act == "comment":
        if not why:
            raise ProblemError(422, "Nothing said", "Write what is to be remembered.")
        return Commented(now, who, why)
    if act == "snooze":
        if until not in SNOOZES:
            raise ProblemError(422, "No end", f"A snooze ends: choose one of {', '.join(SNOOZES)}.")
        return Snoozed(now, who, now + SNOOZES[until] * clock.MINUTE, why)
    if not why:
        raise ProblemError(422, "No reason", "Say why it is closed: others rely on it.")
    return Closed(now, who, why)


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
        start = clock.parse_iso(begin.strip()) if begin.strip() else now
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
