"""Incidents and issues: the pages on which people answer.

A link in a message leads here and only shows; what changes something is a form's POST. Every act is in the timeline and
in the audit trail, in one transaction; what is done to several incidents at once is done to each, and those that do
not allow it any more are named.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response
from fieldwatch_contract import clock

from fieldwatch_cloud import words
from fieldwatch_cloud.access.roles import Permission
from fieldwatch_cloud.alerts.life import Acknowledged, Assigned, Closed, Commented, NotNowError, Snoozed
from fieldwatch_cloud.store import USER_VERDICTS, cards
from fieldwatch_cloud.store import incident_reads as reads
from fieldwatch_cloud.store.incident_reads import Wanted
from fieldwatch_cloud.store.incidents import UnknownIncidentError
from fieldwatch_cloud.web.acts import Act, Answer, apply, do
from fieldwatch_cloud.web.api.common import NOTE_LIMIT, Reads, store_of
from fieldwatch_cloud.web.frame import Pages, frame, html
from fieldwatch_cloud.web.problems import ProblemError
from fieldwatch_cloud.web.routes import Route, needs, person
from fieldwatch_cloud.web.seen import look, main_alert
from fieldwatch_cloud.web.timeline import timeline

SHOWN = 50
AT_ONCE = 200
"""Incidents that one answer may be for."""
SNOOZES = {"1h": 60, "4h": 240, "1d": 1440, "3d": 3 * 1440, "7d": 7 * 1440}
"""Minutes, by the word of the form."""

router = APIRouter(include_in_schema=False, route_class=Route)

Text = Annotated[str, Form(max_length=NOTE_LIMIT)]
Until = Annotated[str, Form(max_length=8)]
Then = Annotated[str, Form(max_length=300)]


@router.get("/incidents")
@needs(Permission.SEE)
def incidents(
    request: Request,
    queries: Reads,
    pages: Pages,
    state: Literal["live", "over", "all"] = "live",
    q: Annotated[str, Query(max_length=100)] = "",
    site: Annotated[str, Query(max_length=64)] = "",
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
    failed: Annotated[int, Query(ge=0, le=AT_ONCE)] = 0,
) -> Response:
    """What waits for somebody first, the worst of it first."""
    head = frame(request, queries, "incidents")
    wanted = Wanted({"live": True, "over": False, "all": None}[state], q.strip(), site.strip())
    with store_of(request).read() as db:
        rows = reads.incidents(db, wanted, SHOWN + 1, (page - 1) * SHOWN)
        named = cards.cards(db, [row.device for row in rows])
        issues = reads.issues(db, 5, live=True) if state == "live" and page == 1 else []
    asked = {"state": state, "q": wanted.text, "site": wanted.site}
    here = urlencode({name: value for name, value in asked.items() if value})
    shown = {"incidents": rows[:SHOWN], "cards": named, "issues": issues, "late": words.LATE, "failed": failed}
    shown |= {"state": state, "wanted": wanted, "query": here, "page": page, "more": len(rows) > SHOWN}
    return html(request, pages.render("incidents.html", **shown, snoozes=list(SNOOZES), **head))


@router.get("/issues")
@needs(Permission.SEE)
def issues(request: Request, queries: Reads, pages: Pages) -> Response:
    """The faults that several devices have in common, newest first."""
    head = frame(request, queries, "incidents")
    with store_of(request).read() as db:
        rows = reads.issues(db, 200)
    return html(request, pages.render("issues.html", issues=rows, **head))


@router.get("/issues/{number}")
@needs(Permission.SEE)
def issue(request: Request, queries: Reads, pages: Pages, number: int) -> Response:
    """One fault and the devices that have it."""
    head = frame(request, queries, "incidents")
    with store_of(request).read() as db:
        row = reads.issue_of(db, number)
        rows = reads.of_issue(db, number, AT_ONCE) if row is not None else []
        named = cards.cards(db, [one.device for one in rows])
    if row is None:
        raise ProblemError(404, "Unknown issue", "There is no such issue.")
    shown = {"issue": row, "incidents": rows, "cards": named, "late": words.LATE, "snoozes": list(SNOOZES)}
    return html(request, pages.render("issue.html", **shown, **head))


@router.get("/incidents/{number}")
@needs(Permission.SEE)
def incident(request: Request, queries: Reads, pages: Pages, number: int) -> Response:
    """One incident: what, since when, what changed, who answered what, who was told, and the forms to answer."""
    head = frame(request, queries, "incidents")
    with store_of(request).read() as db:
        found = reads.case_of(db, number)
        card = cards.card(db, found.row.device) if found is not None else cards.Card()
    if found is None:
        raise ProblemError(404, "Unknown incident", "There is no such incident.")
    alert = main_alert(found.alerts)
    seen = look(queries, alert.alert_id) if alert is not None else None
    shown: dict[str, Any] = {"case": found, "row": found.row, "life": found.row.life or {}, "card": card, "seen": seen}
    shown |= {"entries": timeline(found.events, found.alerts, found.steps, found.verdicts)}
    shown |= {"device": queries.device(found.row.device) if found.row.device else None}
    more = {"snoozes": list(SNOOZES), "choices": USER_VERDICTS, "note_limit": NOTE_LIMIT}
    return html(request, pages.render("incident.html", **shown, **more, **head))


@router.post("/incidents/{number}/verdict")
@needs(Permission.ANSWER)
def judge(request: Request, number: int, verdict: Annotated[str, Form(max_length=16)] = "", why: Text = "") -> Response:
    """Say what it was: the verdict counts for every alert of the incident."""
    chosen = next((known for known in USER_VERDICTS if known == verdict), None)
    if chosen is None:
        raise ProblemError(422, "No verdict", f"verdict must be one of {', '.join(USER_VERDICTS)}.")
    store = store_of(request)
    with store.read() as db:
        found = reads.case_of(db, number)
    if found is None:
        raise ProblemError(404, "Unknown incident", "There is no such incident.")
    if not found.alerts:
        raise ProblemError(409, "Nothing to judge", "No model saw this: there is no alert to judge.")
    store.add_verdicts([one.alert_id for one in found.alerts], chosen, why.strip(), person(request).name)
    return RedirectResponse(f"/incidents/{number}#verdict", status_code=303)


@router.post("/incidents/{number}/{act}")
@needs(Permission.ANSWER)
def answer(
    request: Request,
    number: int,
    act: Act,
    why: Text = "",
    to: Annotated[str, Form(max_length=200)] = "",
    until: Until = "",
    then: Then = "",
    seen: Annotated[str | None, Form(max_length=200)] = None,
) -> Response:
    """Apply what a person says, and show the incident again, or the list ``then``.

    ``seen``: who had it when the page was loaded.
    """
    event = _event(act, person(request).name, why.strip(), to.strip(), until, clock.now())
    if isinstance(event, Acknowledged):
        event = replace(event, seen=seen)
    do(store_of(request), number, event)
    return RedirectResponse(_list(then) or f"/incidents/{number}#timeline", status_code=303)


@router.post("/incidents")
@needs(Permission.ANSWER)
def answer_several(
    request: Request,
    act: Annotated[Act | Literal[""], Form()] = "",
    number: Annotated[list[int] | None, Form(max_length=AT_ONCE)] = None,
    why: Text = "",
    to: Annotated[str, Form(max_length=200)] = "",
    until: Until = "",
    then: Then = "",
) -> Response:
    """Apply one answer to several incidents, and show the list again with how many could not take it."""
    if not act or not number:
        raise ProblemError(422, "Nothing chosen", "Choose incidents, and what is to happen to them.")
    event = _event(act, person(request).name, why.strip(), to.strip(), until, clock.now())
    failed = 0
    for one in dict.fromkeys(number):
        try:
            apply(store_of(request), one, event)
        except (UnknownIncidentError, NotNowError):
            failed += 1
    back = _list(then) or "/incidents"
    told = f"{'&' if '?' in back else '?'}failed={failed}" if failed and back.startswith("/incidents") else ""
    return RedirectResponse(f"{back}{told}", status_code=303)


def _event(act: Act, who: str, why: str, to: str, until: str, now: int) -> Answer:
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


def _list(then: str) -> str:
    """Return the list to go back to, "" where that is none of ours."""
    path, _, _ = then.partition("?")
    ours = path == "/incidents" or (path.startswith("/issues/") and path[8:].isdecimal())
    return then if ours and "\n" not in then and "\r" not in then else ""
