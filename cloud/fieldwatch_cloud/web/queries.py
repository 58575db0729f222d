"""Queries of the pages and the API: SQLAlchemy Core on :mod:`.tables`, without dialect-specific SQL.

Every query reads one device by the leading columns of a primary key; those of the whole fleet are in
:mod:`.fleet`. Times are µs. Nothing here writes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from fieldwatch_contract import clock
from numpy.typing import NDArray
from sqlalchemy import Engine, and_, case, func, or_, select

from fieldwatch_cloud.store import ratio, tables
from fieldwatch_cloud.store.fleet import AnyRow, DeviceNow, count_stored, read_fleet
from fieldwatch_cloud.store.incident_reads import unanswered
from fieldwatch_cloud.store.sql import containing
from fieldwatch_cloud.web.series import HEAT_COLUMNS, Range

HEAT_SENSORS = 60
"""Rows of a heat map; the sensors beyond them have the smallest peaks."""
HEAT_UNIT = 64
"""The cell's value of a sensor that reaches the threshold by itself; 254 at most, 255 = no reading."""
HEAT_EMPTY = 255
SIMILAR = 5
"""Earlier alerts that an alert's page shows."""
SIMILAR_LOOKED_AT = 500
"""Newest earlier alerts among which similar ones are looked for."""


@dataclass(frozen=True)
class Trace:
    """One model's scores in buckets: ``start`` µs of each bucket that has a row, its lowest and highest score."""

    model: str
    kind: str
    start: list[int]
    low: list[float | None]
    high: list[float | None]
    threshold: list[float]
    rows: list[int]
    raised: list[int]
    unknown: list[int]


@dataclass(frozen=True)
class HeatMap:
    """Share × score/threshold of each sensor over time, from the worst row of each bucket.

    ``cells`` uint8 ``[sensors, columns]``, :data:`HEAT_UNIT` = this sensor alone reaches the threshold;
    ``peak`` the same as a number, ``peak_at`` µs, ``columns_high`` buckets with at least a quarter of the unit.
    """

    range: Range
    sensors: list[str]
    cells: NDArray[np.uint8]
    peak: list[float]
    peak_at: list[int]
    columns_high: list[int]


@dataclass(frozen=True)
class ReadingTrace:
    """One sensor's readings in buckets."""

    sensor: str
    start: list[int]
    low: list[float | None]
    high: list[float | None]


@dataclass(frozen=True)
class DayBalance:
    """Conservation of one device and day; ``stored`` is the cloud's own count of minutes, the rest is the device's."""

    day: str
    read: int
    scored: int
    refused: dict[str, int]
    evicted: int
    pending: int
    stored: int
    at: int | None
    epochs: int

    @property
    def balanced(self) -> bool:
        """Whether the device's own equation holds."""
        return self.read == self.scored + sum(self.refused.values()) + self.evicted + self.pending

    @property
    def missing(self) -> int:
        """Minutes that the device counts as stored and that we do not have."""
        return max(0, self.scored - self.stored)

    @property
    def ahead(self) -> int:
        """Minutes stored since the device last counted."""
        return max(0, self.stored - self.scored)


@dataclass(frozen=True)
class AlertDetail:
    """An alert with its life: ``events`` in order, ``verdicts`` newest first."""

    alert: AnyRow
    events: list[AnyRow]
    verdicts: list[AnyRow]


class Place(NamedTuple):
    """Where a page of the alert list ends."""

    opened_at: int
    alert_id: str


@dataclass(frozen=True)
class Queries:
    """Reads through ``engine``; each method is one snapshot."""

    engine: Engine
    clock: Any = field(default=clock.now)

    def fleet(self, only: str | None = None) -> list[DeviceNow]:
        """Return all devices, or ``only`` one, worst first; in one state by score/threshold."""
        with self.engine.connect() as db:
            return read_fleet(db, self.clock(), only)

    def device(self, name: str) -> DeviceNow | None:
        """Return one device, None where it is not known."""
        return next(iter(self.fleet(only=name)), None)

    def with_sensor(self, text: str) -> frozenset[str]:
        """Return the devices with a sensor whose name contains ``text`` (lower case), as far as the store knows.

        It knows those in the newest reading, those named by the newest results, and those of open alerts.
        """
        d, r, g, a = tables.device, tables.result, tables.reading, tables.alert
        newest = and_(r.c.device == d.c.id, r.c.ts == d.c.last_ts)
        reading = and_(g.c.device == d.c.id, g.c.ts == d.c.last_ts)
        asked = (
            select(d.c.id, r.c.sensors).join_from(d, r, newest).where(containing(r.c.sensors, text)),
            select(d.c.id, g.c["values"]).join_from(d, g, reading).where(containing(g.c["values"], text)),
            select(a.c.device, a.c.sensors).where(a.c.state == "open", containing(a.c.sensors, text)),
        )
        with self.engine.connect() as db:
            return frozenset(
                device
                for query in asked
                for device, sensors in db.execute(query)
                if any(text in sensor.lower() for sensor in sensors)
            )

    def health(self, name: str) -> tuple[int, dict[str, Any]] | None:
        """Return the newest report of a device and when it came."""
        d = tables.device
        with self.engine.connect() as db:
            row = db.execute(select(d.c.health_received, d.c.health).where(d.c.id == name)).one_or_none()
        return None if row is None or row.health is None else (row.health_received, row.health)

    def traces(self, name: str, span: Range, model: str | None = None) -> list[Trace]:
        """Return the scores of every model, or one, in the buckets of ``span``."""
        r = tables.result
        bucket = ((r.c.ts - span.start) // span.step).label("bucket")
        query = (
            select(
                r.c.model,
                bucket,
                func.max(r.c.kind).label("kind"),
                func.min(r.c.score).label("low"),
                func.max(r.c.score).label("high"),
                func.max(r.c.threshold).label("threshold"),
                func.count().label("rows"),
                func.sum(case((r.c.verdict.in_((1, 2)), 1), else_=0)).label("raised"),
                func.sum(case((r.c.verdict == 3, 1), else_=0)).label("unknown"),
            )
            .where(r.c.device == name, r.c.ts >= span.start, r.c.ts < span.end)
            .group_by(r.c.model, "bucket")
            .order_by(r.c.model, "bucket")
        )
        if model is not None:
            query = query.where(r.c.model == model)
        traces: dict[str, Trace] = {}
        with self.engine.connect() as db:
            for row in db.execute(query):
                trace = traces.setdefault(row.model, Trace(row.model, row.kind, [], [], [], [], [], [], []))
                trace.start.append(span.start + row.bucket * span.step)
                trace.low.append(row.low)
                trace.high.append(row.high)
                trace.threshold.append(row.threshold)
                trace.rows.append(row.rows)
                trace.raised.append(int(row.raised))
                trace.unknown.append(int(row.unknown))
        return sorted(traces.values(), key=lambda trace: (trace.kind != "detector", trace.model))

    def heat(self, name: str, span: Range) -> HeatMap:
        """Return which sensors made the score, over time; ``span`` has at most :data:`HEAT_COLUMNS` buckets."""
        if span.buckets > HEAT_COLUMNS:
            raise ValueError(f"{span.buckets} columns, at most {HEAT_COLUMNS}")
        r = tables.result
        bucket = ((r.c.ts - span.start) // span.step).label("bucket")
        place = (
            func.row_number()
            .over(partition_by=(r.c.model, bucket), order_by=(func.coalesce(r.c.score, -1e300).desc(), r.c.ts))
            .label("place")
        )
        rows = (
            select(bucket, r.c.ts, r.c.score, r.c.threshold, r.c.sensors, r.c.shares, place)
            .where(r.c.device == name, r.c.ts >= span.start, r.c.ts < span.end)
            .subquery()
        )
        with self.engine.connect() as db:
            return _heat(db.execute(select(rows).where(rows.c.place == 1)).all(), span)

    def sensors(self, name: str) -> list[str]:
        """Return the sensors whose readings are stored: none where the device keeps its readings in the lab."""
        r = tables.reading
        with self.engine.connect() as db:
            values = db.execute(
                select(r.c["values"]).where(r.c.device == name).order_by(r.c.ts.desc()).limit(1)
            ).scalar_one_or_none()
        return list(values) if values else []

    def readings(self, name: str, sensors: list[str], span: Range) -> list[ReadingTrace]:
        """Return the readings of ``sensors`` in the buckets of ``span``.

        The documents are read here and not by the database: any sensor name works, and one pass serves all sensors.
        """
        r = tables.reading
        query = (
            select(r.c.ts, r.c["values"])
            .where(r.c.device == name, r.c.ts >= span.start, r.c.ts < span.end)
            .order_by(r.c.ts)
        )
        traces = [ReadingTrace(sensor, [], [], []) for sensor in sensors]
        with self.engine.connect() as db:
            for ts, values in db.execute(query.execution_options(yield_per=1000)):
                start = ts - (ts - span.start) % span.step
                for trace in traces:
                    _extend(trace, start, values.get(trace.sensor))
        return traces

    def alerts(
        self,
        state: str | None = None,
        device: str | None = None,
        limit: int = 100,
        before: Place | None = None,
        text: str = "",
    ) -> list[AnyRow]:
        """Return alerts, newest first, with the newest verdict of each.

        ``before``: where the last page ended; ``text``: a part of the device's id.
        """
        a = tables.alert
        query = select(a, *_newest_verdict()).order_by(a.c.opened_at.desc(), a.c.alert_id.desc()).limit(limit)
        if state is not None:
            query = query.where(a.c.state == state)
        if device is not None:
            query = query.where(a.c.device == device)
        if text:
            query = query.where(containing(a.c.device, text))
        if before is not None:
            query = query.where(
                or_(
                    a.c.opened_at < before.opened_at,
                    and_(a.c.opened_at == before.opened_at, a.c.alert_id < before.alert_id),
                )
            )
        with self.engine.connect() as db:
            return list(db.execute(query))

    def similar(self, alert: AnyRow) -> list[AnyRow]:
        """Return earlier alerts of the same kind, on any device of the type, that name the same sensors first.

        Those that share most of the three most responsible sensors come first, then the newest.
        """
        a = tables.alert
        mine = set(alert.sensors[:3])
        query = (
            select(a, *_newest_verdict())
            .where(a.c.kind == alert.kind, a.c.bundle_name == alert.bundle_name, a.c.alert_id != alert.alert_id)
            .where(a.c.opened_at <= alert.opened_at)
            .order_by(a.c.opened_at.desc())
            .limit(SIMILAR_LOOKED_AT)
        )
        with self.engine.connect() as db:
            shared = [(len(mine & set(row.sensors[:3])), row) for row in db.execute(query)]
        alike = [one for one in shared if one[0]]
        return [row for _, row in sorted(alike, key=lambda one: (-one[0], -one[1].opened_at))[:SIMILAR]]

    def alerts_within(self, device: str, start: int, end: int) -> list[AnyRow]:
        """Return the alerts of a device whose life touches the range, oldest first."""
        a = tables.alert
        with self.engine.connect() as db:
            return list(
                db.execute(
                    select(a)
                    .where(a.c.device == device, a.c.opened_at < end)
                    .where(or_(a.c.state == "open", a.c.last_at >= start))
                    .order_by(a.c.opened_at)
                    .limit(200)
                )
            )

    def unanswered(self) -> int:
        """Return how many incidents wait for somebody."""
        with self.engine.connect() as db:
            return unanswered(db)

    def alert(self, alert_id: str) -> AlertDetail | None:
        """Return an alert with its transitions (without evidence) and verdicts, None where it is not known."""
        a, e, v = tables.alert, tables.alert_event, tables.verdict
        columns: list[Any] = [column for column in e.c if column.name != "evidence"]
        with self.engine.connect() as db:
            row = db.execute(select(a).where(a.c.alert_id == alert_id)).one_or_none()
            if row is None:
                return None
            events = db.execute(
                select(*columns).where(e.c.alert_id == alert_id).order_by(e.c.ts, _life(e.c.transition))
            ).all()
            verdicts = db.execute(select(v).where(v.c.alert_id == alert_id).order_by(v.c.id.desc())).all()
        return AlertDetail(row, list(events), list(verdicts))

    def evidence(self, alert_id: str) -> list[tuple[str, int, bytes]]:
        """Return transition, time and packed evidence of every transition that has some, oldest first."""
        e = tables.alert_event
        with self.engine.connect() as db:
            rows = db.execute(
                select(e.c.transition, e.c.ts, e.c.evidence)
                .where(e.c.alert_id == alert_id, e.c.evidence.is_not(None))
                .order_by(e.c.ts, _life(e.c.transition))
            ).all()
        return [(row.transition, row.ts, row.evidence) for row in rows]

    def labels(self, limit: int, after: int = 0) -> list[AnyRow]:
        """Return verdicts with the alert they judge, oldest first, from verdict number ``after`` on."""
        a, v = tables.alert, tables.verdict
        with self.engine.connect() as db:
            return list(
                db.execute(
                    select(v, a.c.device, a.c.model, a.c.kind, a.c.opened_at, a.c.last_at, a.c.resolved_at, a.c.sensors)
                    .add_columns(a.c.bundle_name, a.c.bundle_version)
                    .join_from(v, a, a.c.alert_id == v.c.alert_id)
                    .where(v.c.id > after)
                    .order_by(v.c.id)
                    .limit(limit)
                )
            )

    def conservation(self, name: str, days: int) -> list[DayBalance]:
        """Return the ledger of the newest ``days`` days beside our own count, newest first.

        A journal that was rebuilt counts its log again under a new epoch: the current one speaks, and of a day that it
        does not know the one that told last.
        """
        g, d = tables.ledger, tables.device
        current = select(d.c.epoch).where(d.c.id == name).scalar_subquery()
        with self.engine.connect() as db:
            newest = select(g.c.day).distinct().where(g.c.device == name).order_by(g.c.day.desc()).limit(days)
            chosen = list(db.execute(newest).scalars())
            if not chosen:
                return []
            by_day: dict[str, list[AnyRow]] = defaultdict(list)
            for row in db.execute(
                select(g)
                .where(g.c.device == name, g.c.day.in_(chosen))
                .order_by(g.c.epoch.is_distinct_from(current), g.c.at.desc(), g.c.seq.desc())
            ):
                by_day[row.day].append(row)
            stored = count_stored(db, name, chosen)
        return [
            DayBalance(
                day=day,
                read=by_day[day][0].read,
                scored=by_day[day][0].scored,
                refused=dict(by_day[day][0].refused),
                evicted=by_day[day][0].evicted,
                pending=by_day[day][0].pending,
                stored=stored.get(day, 0),
                at=by_day[day][0].at,
                epochs=len(by_day[day]),
            )
            for day in chosen
        ]

    def announcements(self, name: str, limit: int = 30) -> list[AnyRow]:
        """Return gaps and steps of the bundle, in the order in which they came, the last one first."""
        e = tables.event
        with self.engine.connect() as db:
            return list(
                db.execute(
                    select(e)
                    .where(e.c.device == name, e.c.type.in_(("gap", "model")))
                    .order_by(e.c.received.desc(), e.c.seq.desc())
                    .limit(limit)
                )
            )


def _extend(trace: ReadingTrace, start: int, value: float | None) -> None:
    """Add the next reading to its bucket."""
    if not trace.start or trace.start[-1] != start:
        trace.start.append(start)
        trace.low.append(value)
        trace.high.append(value)
        return
    low, high = trace.low[-1], trace.high[-1]
    if value is not None:
        trace.low[-1] = value if low is None else min(low, value)
        trace.high[-1] = value if high is None else max(high, value)


def _life(transition: Any) -> Any:
    """Order transitions of the same minute as they happen."""
    return case((transition == "opened", 0), (transition == "updated", 1), else_=2)


def _newest_verdict() -> list[Any]:
    """Columns with the newest verdict of the alert of the row, and its note."""
    a = tables.alert
    columns = []
    for name in ("verdict", "note"):
        v = tables.verdict.alias(f"newest_{name}")
        columns.append(
            select(v.c[name])
            .where(v.c.alert_id == a.c.alert_id)
            .order_by(v.c.id.desc())
            .limit(1)
            .scalar_subquery()
            .label(name)
        )
    return columns


def _heat(rows: Iterable[AnyRow], span: Range) -> HeatMap:
    """Fill the picture from the worst row of each model and bucket; where two models name a sensor the higher holds."""
    columns = span.buckets
    cells: dict[str, NDArray[np.float64]] = {}
    seen = np.zeros(columns, bool)
    when: dict[tuple[str, int], int] = {}
    for row in rows:
        seen[row.bucket] = True
        height = ratio(row.score, row.threshold)
        if height is None:
            continue
        for sensor, share in zip(row.sensors, row.shares, strict=False):
            line = cells.setdefault(sensor, np.zeros(columns))
            if share * height > line[row.bucket]:
                line[row.bucket] = share * height
                when[sensor, row.bucket] = row.ts
    order = sorted(cells, key=lambda sensor: (-float(cells[sensor].max()), sensor))[:HEAT_SENSORS]
    picture = np.zeros((len(order), columns), np.uint8)
    peaks, peak_at, high = [], [], []
    for index, sensor in enumerate(order):
        line = cells[sensor]
        picture[index] = np.minimum(np.round(line * HEAT_UNIT), HEAT_EMPTY - 1).astype(np.uint8)
        best = int(line.argmax())
        peaks.append(float(line[best]))
        peak_at.append(when.get((sensor, best), span.start))
        high.append(int((line >= 0.25).sum()))
    picture[:, ~seen] = HEAT_EMPTY
    return HeatMap(span, order, picture, peaks, peak_at, high)
