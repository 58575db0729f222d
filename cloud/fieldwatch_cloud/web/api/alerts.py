"""The models' alerts, people's verdicts on them, and the labels that these are."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path, Query, Request
from fieldwatch_contract import clock
from fieldwatch_contract.fields import Evidence
from pydantic import BaseModel, ConfigDict, Field

from fieldwatch_cloud import words
from fieldwatch_cloud.access.roles import Permission
from fieldwatch_cloud.store import unpack_evidence
from fieldwatch_cloud.store.fleet import AnyRow
from fieldwatch_cloud.web.api.common import (
    FORBIDDEN,
    NOT_FOUND,
    NOTE_LIMIT,
    Limit,
    Model,
    Number,
    Reads,
    iso,
    make_router,
    store_of,
)
from fieldwatch_cloud.web.problems import ProblemError
from fieldwatch_cloud.web.queries import Place
from fieldwatch_cloud.web.routes import needs, person

router = make_router()

AlertId = Annotated[str, Path(min_length=1, max_length=200, examples=["6f1d…"])]


ALERT_CURSOR = r"^[0-9]{1,16}\.[^\n]{1,200}$"
"""Where a page of alerts ends: when the last one opened (µs), and its id."""


class AlertOut(Model):
    """An alert as it stands."""

    alert_id: str
    device: str
    title: str
    model: str
    kind: str
    severity: str
    state: Literal["open", "resolved"]
    opened_at: str
    last_at: str
    resolved_at: str | None
    reason: str | None = Field(description="why it ended, where not because the score is low again")
    score: Number
    peak: Number
    threshold: Number
    rows: int
    sensors: list[str]
    shares: list[Number]
    bundle: str
    bundle_sha256: str
    verdict: str | None = Field(default=None, description="the newest judgement of a person: real, false, unclear")
    note: str | None = None


class AlertPage(Model):
    """A page of alerts, newest first."""

    items: list[AlertOut]
    next: str | None


class TransitionOut(Model):
    """A step in an alert's life. ``late``: it arrived much later than it happened."""

    transition: str
    ts: str
    received: str
    late: bool
    score: Number
    peak: Number
    rows: int


class VerdictOut(Model):
    """A person's judgement."""

    id: int
    verdict: Literal["real", "false", "unclear"]
    note: str
    at: str


class EvidenceOut(Model):
    """The readings around a transition."""

    transition: str
    ts: str
    evidence: Evidence


class AlertDetailOut(AlertOut):
    """An alert with everything that is known of it."""

    transitions: list[TransitionOut]
    verdicts: list[VerdictOut]
    evidence: list[EvidenceOut] = Field(description="empty where the device's privacy keeps the readings in the lab")


class VerdictIn(BaseModel):
    """``real`` fault, ``false`` alarm or ``unclear``."""

    model_config = ConfigDict(extra="forbid")

    verdict: Literal["real", "false", "unclear"]
    note: str = Field(default="", max_length=NOTE_LIMIT)


class LabelOut(Model):
    """A verdict as a training label; the newest of an alert counts."""

    id: int
    alert_id: str
    device: str
    start: str
    end: str
    label: str | None = Field(description="as in labels.parquet: fault, anomaly or normal; null for unclear")
    verdict: str
    sensors: list[str]
    note: str
    model: str
    bundle: str
    at: str


class LabelPage(Model):
    """A page of labels, oldest first."""

    items: list[LabelOut]
    next: int | None


def alert_fields(row: AnyRow) -> dict[str, Any]:
    """Write the columns of an alert for the API."""
    return {
        "alert_id": row.alert_id,
        "device": row.device,
        "title": words.alert_title(row.device, row.kind, row.sensors, row.shares, row.opened_at),
        "model": row.model,
        "kind": row.kind,
        "severity": row.severity,
        "state": row.state,
        "opened_at": clock.iso(row.opened_at),
        "last_at": clock.iso(row.last_at),
        "resolved_at": iso(row.resolved_at),
        "reason": row.reason,
        "score": row.score,
        "peak": row.peak,
        "threshold": row.threshold,
        "rows": row.rows,
        "sensors": row.sensors,
        "shares": row.shares,
        "bundle": f"{row.bundle_name}/{row.bundle_version}",
        "bundle_sha256": row.bundle_sha256,
        "verdict": getattr(row, "verdict", None),
        "note": getattr(row, "note", None),
    }


@router.get("/alerts", summary="Alerts, newest first")
@needs(Permission.SEE)
def alerts(
    queries: Reads,
    state: Annotated[Literal["open", "resolved"] | None, Query()] = None,
    device: Annotated[str | None, Query(max_length=64)] = None,
    limit: Limit = 100,
    cursor: Annotated[str | None, Query(pattern=ALERT_CURSOR, description="'next' of the last page")] = None,
) -> AlertPage:
    """List alerts with the newest verdict on each."""
    rows = queries.alerts(state, device, limit + 1, place_of(cursor))
    shown = rows[:limit]
    return AlertPage(
        items=[AlertOut(**alert_fields(row)) for row in shown],
        next=cursor_of(shown[-1]) if len(rows) > limit else None,
    )


@router.get("/alerts/{alert_id}", summary="One alert with its evidence", responses=NOT_FOUND)
@needs(Permission.SEE)
def alert(queries: Reads, alert_id: AlertId) -> AlertDetailOut:
    """Return an alert, its history, the readings around it and people's verdicts."""
    found = queries.alert(alert_id)
    if found is None:
        raise ProblemError(404, "Unknown alert", "There is no such alert.")
    newest = found.verdicts[0] if found.verdicts else None
    fields = alert_fields(found.alert) | {
        "verdict": newest.verdict if newest else None,
        "note": newest.note if newest else None,
    }
    return AlertDetailOut(
        **fields,
        transitions=[
            TransitionOut(
                transition=event.transition,
                ts=clock.iso(event.ts),
                received=clock.iso(event.received),
                late=event.received - event.ts > words.LATE,
                score=event.score,
                peak=event.peak,
                rows=event.rows,
            )
            for event in found.events
        ],
        verdicts=[_verdict_out(row) for row in found.verdicts],
        evidence=[
            EvidenceOut(transition=transition, ts=clock.iso(ts), evidence=_shown(unpack_evidence(blob)))
            for transition, ts, blob in queries.evidence(alert_id)
        ],
    )


@router.post("/alerts/{alert_id}/verdict", summary="Judge an alert", status_code=201, responses=NOT_FOUND | FORBIDDEN)
@needs(Permission.ANSWER)
def judge(
    request: Request,
    queries: Reads,
    alert_id: AlertId,
    body: VerdictIn,
) -> VerdictOut:
    """Store a person's judgement as a label. A session needs its CSRF token, a bearer token does not."""
    if not store_of(request).add_verdict(alert_id, body.verdict, body.note.strip(), person(request).name):
        raise ProblemError(404, "Unknown alert", "There is no such alert.")
    found = queries.alert(alert_id)
    assert found is not None and found.verdicts
    return _verdict_out(found.verdicts[0])


@router.get("/labels", summary="Verdicts as training labels, oldest first")
@needs(Permission.EXPORT)
def labels(
    queries: Reads,
    limit: Limit = 100,
    cursor: Annotated[int, Query(ge=0, le=2**52, description="'next' of the last page")] = 0,
) -> LabelPage:
    """List every judgement; where an alert has several, the newest counts."""
    rows = queries.labels(limit + 1, cursor)
    shown = rows[:limit]
    return LabelPage(
        items=[
            LabelOut(
                id=row.id,
                alert_id=row.alert_id,
                device=row.device,
                start=clock.iso(row.opened_at),
                end=clock.iso(row.resolved_at or row.last_at),
                label=_label(row.verdict, row.kind),
                verdict=row.verdict,
                sensors=row.sensors,
                note=row.note,
                model=row.model,
                bundle=f"{row.bundle_name}/{row.bundle_version}",
                at=clock.iso(row.at),
            )
            for row in shown
        ],
        next=shown[-1].id if len(rows) > limit else None,
    )


def cursor_of(row: AnyRow) -> str:
    """Return the cursor after this alert."""
    return f"{row.opened_at}.{row.alert_id}"


def place_of(cursor: str | None) -> Place | None:
    """Read a cursor of the form :data:`ALERT_CURSOR`."""
    if cursor is None:
        return None
    opened, _, alert_id = cursor.partition(".")
    return Place(int(opened), alert_id)


def _shown(evidence: Evidence) -> Evidence:
    """Leave out what only a dossier needs: half of the bytes."""
    return evidence.model_copy(update={"exact": ""})


def _verdict_out(row: AnyRow) -> VerdictOut:
    return VerdictOut(id=row.id, verdict=row.verdict, note=row.note, at=clock.iso(row.at))


def _label(verdict: str, kind: str) -> str | None:
    """Return a verdict as the lake writes it, the same as ``fieldwatch-cloud export labels``."""
    if verdict == "real":
        return "fault" if kind == "classifier" else "anomaly"
    return "normal" if verdict == "false" else None
