"""REST under ``/api/v1``: what the pages show, for scripts.

Times are RFC 3339 in UTC; the time axes of series are seconds since 1970, because chart libraries expect that.
Errors are RFC 9457 problem details. Lists come in pages: ``next`` is the cursor of the following one, null at the end.
"""

from __future__ import annotations

import base64
import math
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from fieldwatch_contract import clock
from fieldwatch_contract.events import Evidence
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from fieldwatch_cloud import words
from fieldwatch_cloud.access.roles import Permission
from fieldwatch_cloud.alerts.standing import State, counts, fleet_notes
from fieldwatch_cloud.store import Store, unpack_evidence
from fieldwatch_cloud.store.fleet import AnyRow, DeviceNow
from fieldwatch_cloud.web.parts import Monitor
from fieldwatch_cloud.web.problems import MEDIA_TYPE, Problem, ProblemError
from fieldwatch_cloud.web.queries import HEAT_UNIT, Place, Queries
from fieldwatch_cloud.web.routes import Route, needs, person
from fieldwatch_cloud.web.series import HEAT_COLUMNS, Range, cut
from fieldwatch_cloud.web.stream import STREAMS, Stream

NOTE_LIMIT = 2000
MAX_SENSORS = 20


class _Model(BaseModel):
    model_config = ConfigDict(from_attributes=True)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_finite), Field(description="null where what is stored is no number")]
"""A number of the store, in JSON, which has no infinity: a damaged disk, or a release that did not check, left some."""


class ModelOut(_Model):
    """One model's result for the newest reading."""

    model: str
    kind: str
    score: Number
    threshold: Number
    ratio: Number = Field(description="score / threshold; 1 or more raises")
    verdict: str
    why: str | None = Field(description="of a verdict unknown: why the model did not judge")


class FindingOut(_Model):
    """One thing that is wrong with a device."""

    state: State
    word: str
    reason: str
    who: str = Field(description="who can act; empty where nobody needs to")
    remedy: str
    since: str | None


class DeviceOut(_Model):
    """A device as the fleet page shows it."""

    id: str
    type: str | None
    bundle: str | None = Field(description="<name>/<version>")
    agent: str | None = Field(description="version of the agent")
    condition: State = Field(description="the worst of its states; normal where there is none")
    state: str = Field(description="its two worst states in words, and how many more there are")
    findings: list[FindingOut] = Field(description="everything that is wrong, worst first")
    status: str = Field(description="of the connection: online, offline, unknown")
    status_reason: str | None = Field(description="why, in the device’s words")
    open_alerts: int
    ratio: Number = Field(description="highest score / threshold of the newest reading")
    last_reading: str | None
    last_seen: str
    models: list[ModelOut]
    hours: list[Number] = Field(description="highest ratio of each of the 24 hours up to the last reading")


class DevicePage(_Model):
    """A page of devices, by id."""

    items: list[DeviceOut]
    next: str | None


class PartOut(_Model):
    """A part of this server."""

    name: str
    ok: bool
    says: str
    since: str | None


class SummaryOut(_Model):
    """The fleet in numbers: a device with two troubles counts in both of its states."""

    devices: int
    states: dict[State, int]
    notes: list[str] = Field(description="what concerns most devices at once")
    parts: list[PartOut]


class TraceOut(_Model):
    """One model's scores. All lists are of one length: one entry a bucket that has a reading."""

    model: str
    kind: str
    t: list[float] = Field(description="start of the bucket, seconds since 1970")
    low: list[Number]
    high: list[Number]
    threshold: list[Number]
    rows: list[int]
    raised: list[int] = Field(description="readings judged anomalous or faulty")
    unknown: list[int]


class Span(_Model):
    """A range cut into buckets; bounds RFC 3339, step in seconds."""

    start: str
    end: str
    step: float


class ResultsOut(Span):
    """Scores over time, and the alerts in that time."""

    models: list[TraceOut]
    alerts: list[AlertOut]


class HeatOut(Span):
    """Which sensors made the score: share × score / threshold of the worst reading of each bucket."""

    columns: int
    unit: int = Field(default=HEAT_UNIT, description="cell value of a sensor that reaches the threshold by itself")
    sensors: list[str] = Field(description="highest peak first")
    cells: str = Field(description="base64 of uint8 [sensors, columns]; 255: no reading")
    peak: list[Number]
    peak_at: list[str]


class ReadingTraceOut(_Model):
    """One sensor's readings, lowest and highest of each bucket."""

    sensor: str
    t: list[float]
    low: list[Number]
    high: list[Number]


class ReadingsOut(Span):
    """Readings over time."""

    traces: list[ReadingTraceOut]


class AlertOut(_Model):
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


class AlertPage(_Model):
    """A page of alerts, newest first."""

    items: list[AlertOut]
    next: str | None


class TransitionOut(_Model):
    """A step in an alert's life. ``late``: it arrived much later than it happened."""

    transition: str
    ts: str
    received: str
    late: bool
    score: Number
    peak: Number
    rows: int


class VerdictOut(_Model):
    """A person's judgement."""

    id: int
    verdict: Literal["real", "false", "unclear"]
    note: str
    at: str


class EvidenceOut(_Model):
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


class LabelOut(_Model):
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


class LabelPage(_Model):
    """A page of labels, oldest first."""

    items: list[LabelOut]
    next: int | None


class DayOut(_Model):
    """``read = scored + Σ refused + evicted + pending`` by the device's count; ``stored`` is the cloud's."""

    day: str
    read: int
    scored: int
    refused: dict[str, int]
    evicted: int
    pending: int
    stored: int
    balanced: bool
    missing: int = Field(description="counted as stored by the device, not found in the store")
    counted_at: str | None


class ConservationOut(_Model):
    """The ledger of a device, newest day first."""

    device: str
    days: list[DayOut]


class AnnouncementOut(_Model):
    """A gap or a step of the bundle, as the device announced it."""

    type: str
    time: str
    received: str
    data: dict[str, Any]


class AnnouncementsOut(_Model):
    """Newest first."""

    items: list[AnnouncementOut]


def _problem(what: str) -> dict[str, Any]:
    return {"description": what, "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}


ERRORS: dict[int | str, dict[str, Any]] = {
    400: _problem("The request cannot be read"),
    401: _problem("No session and no bearer token"),
    421: _problem("The Host header names another machine"),
    403: _problem("Your role or token does not have the permission"),
    422: _problem("A parameter is wrong; the problem says which and why"),
    429: _problem("Too many requests; Retry-After says when to try again"),
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: _problem("There is no such thing")}
NO_RANGE: dict[int | str, dict[str, Any]] = {409: _problem("'from', 'to', 'step' and what is stored do not fit")}
FORBIDDEN: dict[int | str, dict[str, Any]] = {
    403: _problem("Your role or token does not have the permission, or the request did not come from a page of ours")
}

router = APIRouter(prefix="/api/v1", responses=ERRORS, route_class=Route)

DeviceId = Annotated[str, Path(pattern=r"^[a-z0-9-]{3,64}$", examples=["press-0001"])]
AlertId = Annotated[str, Path(min_length=1, max_length=200, examples=["6f1d…"])]
_DAY = (
    r"(?:(?:19[7-9]|20\d)\d-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)"
    r"|02-(?:0[1-9]|1\d|2[0-8]))|(?:19(?:7[26]|8[048]|9[26])|20(?:[02468][048]|[13579][26]))-02-29)"
)
TIME = rf"^{_DAY}T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{{1,6}})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)$"
"""RFC 3339, a real day of 1970 to 2099: as strict as what reads it."""
From = Annotated[str | None, Query(alias="from", description="RFC 3339; default: a day before 'to'", pattern=TIME)]
To = Annotated[str | None, Query(description="RFC 3339; default: the last reading", pattern=TIME)]
Step = Annotated[float | None, Query(ge=1, le=31 * 86400, description="seconds; default: the shortest that fits")]
ALERT_CURSOR = r"^[0-9]{1,16}\.[^\n]{1,200}$"
"""Where a page of alerts ends: when the last one opened (µs), and its id."""
Limit = Annotated[int, Query(ge=1, le=1000)]


def _queries(request: Request) -> Queries:
    queries: Queries = request.app.state.queries
    return queries


def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


def _stream(request: Request) -> Stream:
    stream: Stream = request.app.state.stream
    return stream


Reads = Annotated[Queries, Depends(_queries)]


def known(queries: Queries, device: str) -> DeviceNow:
    """Return the device; 404 where it is not known."""
    found = queries.device(device)
    if found is None:
        raise ProblemError(404, "Unknown device", f"No device {device!r} has reported yet.")
    return found


def span_of(device: DeviceNow, start: str | None, end: str | None, step: float | None, limit: int | None) -> Range:
    """Read a range from query parameters; 409 where they contradict one another or what is stored."""
    try:
        stop = clock.parse_iso(end) if end else (device.last_ts or clock.now()) + clock.SECOND
        first = clock.parse_iso(start) if start else stop - clock.DAY
        first = max(first, 0)
        micros = None if step is None else round(step * clock.SECOND)
        return cut(first, stop, micros) if limit is None else cut(first, stop, micros, limit)
    except (ValueError, OverflowError) as error:
        raise ProblemError(409, "Wrong range", str(error)) from error


def device_out(device: DeviceNow) -> DeviceOut:
    """Write a device for the API."""
    return DeviceOut(
        id=device.id,
        type=device.type,
        bundle=device.bundle,
        agent=device.agent,
        condition=device.standing.condition,
        state=device.standing.word,
        findings=[FindingOut(**vars(one) | {"since": _iso(one.since)}) for one in device.standing.findings],
        status=device.status,
        status_reason=device.status_reason,
        open_alerts=device.open_alerts,
        ratio=device.ratio,
        last_reading=_iso(device.last_ts),
        last_seen=clock.iso(device.last_seen),
        models=[ModelOut.model_validate(model) for model in device.models],
        hours=device.spark,
    )


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
        "resolved_at": _iso(row.resolved_at),
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


@router.get("/devices", summary="Devices, by id")
@needs(Permission.SEE)
def devices(
    queries: Reads,
    limit: Limit = 1000,
    cursor: Annotated[str | None, Query(max_length=64, description="'next' of the last page")] = None,
) -> DevicePage:
    """List the devices that have ever reported."""
    rest = sorted((one for one in queries.fleet() if cursor is None or one.id > cursor), key=lambda one: one.id)
    more = len(rest) > limit
    return DevicePage(items=[device_out(one) for one in rest[:limit]], next=rest[limit - 1].id if more else None)


@router.get("/summary", summary="The fleet in numbers")
@needs(Permission.SEE)
def summary(request: Request, queries: Reads) -> SummaryOut:
    """Count the devices in each state, and tell which parts of this server work."""
    devices = [one.standing for one in queries.fleet()]
    monitor: Monitor = request.app.state.monitor
    return SummaryOut(
        devices=len(devices),
        states=counts(devices),
        notes=fleet_notes(devices),
        parts=[PartOut(name=part.name, ok=part.ok, says=part.says, since=_iso(part.since)) for part in monitor.parts()],
    )


@router.get("/devices/{device}", summary="One device", responses=NOT_FOUND)
@needs(Permission.SEE)
def device(queries: Reads, device: DeviceId) -> DeviceOut:
    """Return one device as it stands."""
    return device_out(known(queries, device))


@router.get("/devices/{device}/results", summary="Scores over time", responses=NOT_FOUND | NO_RANGE)
@needs(Permission.SEE)
def results(
    queries: Reads,
    device: DeviceId,
    start: From = None,
    to: To = None,
    step: Step = None,
    model: Annotated[str | None, Query(max_length=32)] = None,
) -> ResultsOut:
    """Return the lowest and highest score of each model in each step, at most 1000 steps."""
    now = known(queries, device)
    span = span_of(now, start, to, step, None)
    traces = [
        TraceOut(
            model=trace.model,
            kind=trace.kind,
            t=[ts / clock.SECOND for ts in trace.start],
            low=trace.low,
            high=trace.high,
            threshold=trace.threshold,
            rows=trace.rows,
            raised=trace.raised,
            unknown=trace.unknown,
        )
        for trace in queries.traces(device, span, model)
    ]
    alerts = [AlertOut(**alert_fields(row)) for row in queries.alerts_within(device, span.start, span.end)]
    return ResultsOut(**_span(span), models=traces, alerts=alerts)


@router.get("/devices/{device}/heat", summary="Which sensors made the score", responses=NOT_FOUND | NO_RANGE)
@needs(Permission.SEE)
def heat(queries: Reads, device: DeviceId, start: From = None, to: To = None, step: Step = None) -> HeatOut:
    """Return the sensor heat map, at most 240 columns."""
    span = span_of(known(queries, device), start, to, step, HEAT_COLUMNS)
    picture = queries.heat(device, span)
    return HeatOut(
        **_span(span),
        columns=span.buckets,
        sensors=picture.sensors,
        cells=base64.b64encode(picture.cells.tobytes()).decode(),
        peak=picture.peak,
        peak_at=[clock.iso(ts) for ts in picture.peak_at],
    )


@router.get("/devices/{device}/readings", summary="Readings over time", responses=NOT_FOUND | NO_RANGE)
@needs(Permission.SEE)
def readings(
    queries: Reads,
    device: DeviceId,
    sensors: Annotated[list[str], Query(min_length=1, max_length=MAX_SENSORS, description="repeat for several")],
    start: From = None,
    to: To = None,
    step: Step = None,
) -> ReadingsOut:
    """Return readings; 404 where the device's privacy is not ``full``, for then they never left the lab."""
    span = span_of(known(queries, device), start, to, step, None)
    if span.end - span.start > 8 * clock.DAY:
        raise ProblemError(409, "Wrong range", "Readings come for at most 7 days at once.")
    stored = queries.sensors(device)
    if not stored:
        raise ProblemError(404, "No readings", f"Device {device!r} keeps its readings in the lab (privacy.evidence).")
    unknown = [sensor for sensor in sensors if sensor not in stored]
    if unknown:
        raise ProblemError(404, "Unknown sensor", f"Device {device!r} has no sensor {unknown[0]!r}.")
    traces = [
        ReadingTraceOut(
            sensor=trace.sensor, t=[ts / clock.SECOND for ts in trace.start], low=trace.low, high=trace.high
        )
        for trace in queries.readings(device, sensors, span)
    ]
    return ReadingsOut(**_span(span), traces=traces)


@router.get("/devices/{device}/conservation", summary="Conservation ledger", responses=NOT_FOUND)
@needs(Permission.SEE)
def conservation(queries: Reads, device: DeviceId, days: Annotated[int, Query(ge=1, le=40)] = 7) -> ConservationOut:
    """Return the device's daily ledger next to the cloud's own count."""
    known(queries, device)
    return ConservationOut(
        device=device,
        days=[
            DayOut(
                day=day.day,
                read=day.read,
                scored=day.scored,
                refused=day.refused,
                evicted=day.evicted,
                pending=day.pending,
                stored=day.stored,
                balanced=day.balanced,
                missing=day.missing,
                counted_at=_iso(day.at),
            )
            for day in queries.conservation(device, days)
        ],
    )


@router.get("/devices/{device}/announcements", summary="Gaps and bundle changes", responses=NOT_FOUND)
@needs(Permission.SEE)
def announcements(
    queries: Reads, device: DeviceId, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> AnnouncementsOut:
    """Return what the device announced about missing lines and about its bundle, newest first."""
    known(queries, device)
    return AnnouncementsOut(
        items=[
            AnnouncementOut(
                type=row.type, time=clock.iso(row.time), received=clock.iso(row.received), data=dict(row.data)
            )
            for row in queries.announcements(device, limit)
        ]
    )


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
            EvidenceOut(transition=transition, ts=clock.iso(ts), evidence=unpack_evidence(blob))
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
    if not _store(request).add_verdict(alert_id, body.verdict, body.note.strip(), person(request).name):
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


@router.get(
    "/events",
    summary="What changes, as it changes",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "server-sent events; ids count up"},
        503: _problem("Too many streams are open"),
    },
)
@needs(Permission.SEE)
async def events(
    request: Request,
    after: Annotated[str | None, Query(max_length=40, description="id of the last event seen")] = None,
    last_event_id: Annotated[str | None, Header(max_length=40)] = None,
) -> Response:
    """Follow the live feed: ``result, alert, state, health, event, verdict``, and ``resync`` and ``beat``."""
    stream = _stream(request)
    if stream.open >= STREAMS:
        raise ProblemError(503, "Too many streams", f"{STREAMS} event streams are open; close some windows.")
    return StreamingResponse(
        stream.follow(last_event_id or after, request.app.state.still_allowed(request)),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.get("/openapi.json", include_in_schema=False)
@needs(Permission.SEE)
def openapi(request: Request) -> JSONResponse:
    """Return this API's OpenAPI document."""
    return JSONResponse(request.app.openapi())


def cursor_of(row: AnyRow) -> str:
    """Return the cursor after this alert."""
    return f"{row.opened_at}.{row.alert_id}"


def place_of(cursor: str | None) -> Place | None:
    """Read a cursor of the form :data:`ALERT_CURSOR`."""
    if cursor is None:
        return None
    opened, _, alert_id = cursor.partition(".")
    return Place(int(opened), alert_id)


def _verdict_out(row: AnyRow) -> VerdictOut:
    return VerdictOut(id=row.id, verdict=row.verdict, note=row.note, at=clock.iso(row.at))


def _label(verdict: str, kind: str) -> str | None:
    """Return a verdict as the lake writes it, the same as ``fieldwatch-cloud export labels``."""
    if verdict == "real":
        return "fault" if kind == "classifier" else "anomaly"
    return "normal" if verdict == "false" else None


def _span(span: Range) -> dict[str, Any]:
    return {"start": clock.iso(span.start), "end": clock.iso(span.end), "step": span.step / clock.SECOND}


def _iso(ts: int | None) -> str | None:
    return None if ts is None else clock.iso(ts)


ResultsOut.model_rebuild()
