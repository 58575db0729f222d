"""Incidents, and people's answers to them: as on the pages, for the program of a desk or a pager.

A fault's verdict is given on its alerts (``/alerts/{alert_id}/verdict``), which ``alerts`` of the incident names.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path, Query, Request
from fieldwatch_contract import clock
from pydantic import BaseModel, ConfigDict, Field

from fieldwatch_cloud.access.roles import Permission
from fieldwatch_cloud.alerts.life import SNOOZE_LIMIT, Acknowledged, Assigned, Closed, Commented, Snoozed
from fieldwatch_cloud.store import incident_reads as reads
from fieldwatch_cloud.web.acts import Answer, do
from fieldwatch_cloud.web.api.alerts import AlertOut, alert_fields
from fieldwatch_cloud.web.api.common import (
    FORBIDDEN,
    NOT_FOUND,
    NOTE_LIMIT,
    TIME,
    Limit,
    Model,
    iso,
    make_router,
    problem_of,
    store_of,
)
from fieldwatch_cloud.web.problems import ProblemError
from fieldwatch_cloud.web.routes import needs, person

router = make_router()

NOT_NOW: dict[int | str, dict[str, Any]] = {409: problem_of("The incident's state does not allow it")}
ACTED = NOT_FOUND | FORBIDDEN | NOT_NOW
LARGEST = 2**53
SAID = r"[^\s\x00-\x20\x7f-\xa0]"
"""Something can be read in it, whichever kinds of space a reader of the schema knows."""

Number = Annotated[int, Path(ge=1, le=LARGEST, examples=[17])]
Said = Annotated[str, Field(max_length=NOTE_LIMIT, pattern=SAID)]


class IncidentOut(Model):
    """One fault or one state of a device, of this server (``device`` empty), or of the fleet."""

    number: int
    device: str
    site: str
    kind: str
    severity: str
    state: Literal["open", "acknowledged", "resolved", "closed"]
    audience: str = Field(description="who can act: device, pc, network, server, models")
    what: str
    remedy: str
    opened_at: str
    ended_at: str | None
    occurrences: int = Field(description="how often it began")
    assignee: str
    acknowledged_by: str | None
    snoozed_until: str | None
    issue: int | None = Field(description="number of the issue: the same fault on several devices")


class IncidentPage(Model):
    """A page of incidents, newest first."""

    items: list[IncidentOut]
    next: int | None


class HappenedOut(Model):
    """A line of the timeline: what a device, a person or time did."""

    at: str
    what: str
    by: str
    text: str
    told: bool = Field(description="whether people were told of it")


class MessageOut(Model):
    """A message to people."""

    channel: str
    state: str
    made_at: str
    done_at: str | None
    error: str | None


class IncidentDetailOut(IncidentOut):
    """An incident with everything that is known of it."""

    timeline: list[HappenedOut]
    alerts: list[AlertOut]
    others: list[int] = Field(description="the issue's other incidents")
    messages: list[MessageOut]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AcknowledgeIn(_In):
    """Somebody takes care."""

    why: str = Field(default="", max_length=NOTE_LIMIT)


class AssignIn(_In):
    """Somebody is to take care."""

    to: str = Field(max_length=200, pattern=SAID)


class CommentIn(_In):
    """What is to be remembered."""

    text: Said


class SnoozeIn(_In):
    """Nobody wants to hear of it until then."""

    until: str = Field(pattern=TIME, description=f"at most {SNOOZE_LIMIT // clock.DAY} days from now")
    why: str = Field(default="", max_length=NOTE_LIMIT)


class CloseIn(_In):
    """It is over, whatever the device says."""

    why: Said


@router.get("/incidents", summary="Incidents, newest first")
@needs(Permission.SEE)
def incidents(
    request: Request,
    state: Annotated[Literal["live", "over"] | None, Query(description="live: open or acknowledged")] = None,
    device: Annotated[str | None, Query(max_length=64)] = None,
    limit: Limit = 100,
    cursor: Annotated[int | None, Query(ge=1, le=LARGEST, description="'next' of the last page")] = None,
) -> IncidentPage:
    """List what waits for somebody, or what is over, or both."""
    with store_of(request).read() as db:
        rows = reads.numbered(db, None if state is None else state == "live", device, cursor, limit + 1)
    shown = rows[:limit]
    return IncidentPage(
        items=[IncidentOut(**_fields(row)) for row in shown], next=shown[-1].id if len(rows) > limit else None
    )


@router.get("/incidents/{number}", summary="One incident", responses=NOT_FOUND)
@needs(Permission.SEE)
def incident(request: Request, number: Number) -> IncidentDetailOut:
    """Return an incident, its timeline, its alerts and the messages that told of it."""
    with store_of(request).read() as db:
        case = reads.case_of(db, number)
    if case is None:
        raise ProblemError(404, "Unknown incident", "There is no such incident.")
    return IncidentDetailOut(
        **_fields(case.row),
        timeline=[
            HappenedOut(at=clock.iso(one.at), what=one.what, by=one.by, text=one.text, told=one.told)
            for one in case.events
        ],
        alerts=[AlertOut(**alert_fields(row)) for row in case.alerts],
        others=[row.id for row in case.others],
        messages=[
            MessageOut(
                channel=one.channel,
                state=one.state,
                made_at=clock.iso(one.made_at),
                done_at=iso(one.done_at),
                error=one.error,
            )
            for one in case.messages
        ],
    )


@router.post("/incidents/{number}/acknowledge", summary="Acknowledge", responses=ACTED)
@needs(Permission.ANSWER)
def acknowledge(request: Request, number: Number, body: AcknowledgeIn) -> IncidentDetailOut:
    """Say that somebody has seen it and takes care; no later step of a route is told."""
    return _act(request, number, Acknowledged(clock.now(), person(request).name, body.why.strip()))


@router.post("/incidents/{number}/assign", summary="Assign", responses=ACTED)
@needs(Permission.ANSWER)
def assign(request: Request, number: Number, body: AssignIn) -> IncidentDetailOut:
    """Give it to somebody."""
    return _act(request, number, Assigned(clock.now(), person(request).name, body.to.strip()))


@router.post("/incidents/{number}/comment", summary="Comment", responses=ACTED)
@needs(Permission.ANSWER)
def comment(request: Request, number: Number, body: CommentIn) -> IncidentDetailOut:
    """Write something into the timeline."""
    return _act(request, number, Commented(clock.now(), person(request).name, body.text.strip()))


@router.post("/incidents/{number}/snooze", summary="Snooze", responses=ACTED)
@needs(Permission.ANSWER)
def snooze(request: Request, number: Number, body: SnoozeIn) -> IncidentDetailOut:
    """Let nobody be told of it for a while; it ends, and a rise in severity breaks through."""
    until = clock.parse_iso(body.until)
    answer = Snoozed(clock.now(), person(request).name, until, body.why.strip())
    return _act(request, number, answer)


@router.post("/incidents/{number}/close", summary="Close", responses=ACTED)
@needs(Permission.ANSWER)
def close(request: Request, number: Number, body: CloseIn) -> IncidentDetailOut:
    """Say that it is over, and why: others rely on it."""
    return _act(request, number, Closed(clock.now(), person(request).name, body.why.strip()))


def _act(request: Request, number: int, answer: Answer) -> IncidentDetailOut:
    do(store_of(request), number, answer)
    return incident(request, number)


def _fields(row: Any) -> dict[str, Any]:
    life = row.life or {}
    names = ("device", "site", "kind", "severity", "state", "audience", "what", "remedy")
    return {name: getattr(row, name) for name in names} | {
        "number": row.id,
        "opened_at": clock.iso(row.opened_at),
        "ended_at": iso(row.ended_at),
        "occurrences": life.get("occurrences", 1),
        "assignee": life.get("assignee", ""),
        "acknowledged_by": (life.get("acknowledged") or {}).get("by"),
        "snoozed_until": iso(life.get("snoozed_until")),
        "issue": row.issue_id,
    }
