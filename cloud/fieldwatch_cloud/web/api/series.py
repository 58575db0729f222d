"""A device over time: scores, responsible sensors, readings, cut into steps."""

from __future__ import annotations

import base64
from typing import Annotated, Any

from fastapi import Query
from fieldwatch_contract import clock
from pydantic import Field

from fieldwatch_cloud.access.roles import Permission
from fieldwatch_cloud.store.fleet import DeviceNow
from fieldwatch_cloud.web.api.alerts import AlertOut, alert_fields
from fieldwatch_cloud.web.api.common import (
    NO_RANGE,
    NOT_FOUND,
    TIME,
    DeviceId,
    Model,
    Number,
    Reads,
    known,
    make_router,
)
from fieldwatch_cloud.web.problems import ProblemError
from fieldwatch_cloud.web.queries import HEAT_UNIT
from fieldwatch_cloud.web.routes import needs
from fieldwatch_cloud.web.series import BUCKETS, HEAT_COLUMNS, Range, cut

router = make_router()

MAX_SENSORS = 20


From = Annotated[str | None, Query(alias="from", description="RFC 3339; default: a day before 'to'", pattern=TIME)]


To = Annotated[str | None, Query(description="RFC 3339; default: the last reading", pattern=TIME)]


Step = Annotated[float | None, Query(ge=1, le=31 * 86400, description="seconds; default: the shortest that fits")]


class TraceOut(Model):
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


class Span(Model):
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


class ReadingTraceOut(Model):
    """One sensor's readings, lowest and highest of each bucket."""

    sensor: str
    t: list[float]
    low: list[Number]
    high: list[Number]


class ReadingsOut(Span):
    """Readings over time."""

    traces: list[ReadingTraceOut]


def span_of(device: DeviceNow, start: str | None, end: str | None, step: float | None, limit: int | None) -> Range:
    """Read a range from query parameters; 409 where they contradict one another or what is stored."""
    try:
        stop = clock.parse_iso(end) if end else (device.last_ts or clock.now()) + clock.SECOND
        first = clock.parse_iso(start) if start else stop - clock.DAY
        first = max(first, 0)
        micros = None if step is None else round(step * clock.SECOND)
        return cut(first, stop, micros, limit or BUCKETS, device.period or 0)
    except (ValueError, OverflowError) as error:
        raise ProblemError(409, "Wrong range", str(error)) from error


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


def _span(span: Range) -> dict[str, Any]:
    return {"start": clock.iso(span.start), "end": clock.iso(span.end), "step": span.step / clock.SECOND}
