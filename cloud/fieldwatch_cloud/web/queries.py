"""What the pages and the API read from the store: SQLAlchemy Core on :mod:`.tables`, no dialect's own words.

Every query touches one device by the leading columns of a primary key, or the whole fleet through one row a device,
its hourly rows of two days and its gaps. Raw results of the fleet are read only where the device's agent is too old to
tell its period (the newest few) or where the hourly rows miss some. Times are µs. Nothing here writes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from fieldwatch_contract import clock
from fieldwatch_contract.verdicts import VERDICTS
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Engine, Row, and_, case, func, or_, select

from fieldwatch_cloud import tables
from fieldwatch_cloud.store import ratio
from fieldwatch_cloud.web import words
from fieldwatch_cloud.web.series import HEAT_COLUMNS, Range
from fieldwatch_cloud.web.standing import ORDER, RECENT, Facts, Standing, State, of_health, standing

AnyRow = Row[*tuple[Any, ...]]

SPARK_HOURS = 24
EARLIER = 10 * clock.MINUTE
"""How far back the report lies with which the ledger of an agent is compared that does not count its newest lines."""
STEPS = 6
"""Newest readings from which the period of an agent is taken that does not tell it."""
HEAT_SENSORS = 60
"""Rows of a heat map; the sensors beyond them have the smallest peaks."""
HEAT_UNIT = 64
"""The cell's value of a sensor that reaches the threshold by itself; 254 at most, 255 = no reading."""
HEAT_EMPTY = 255


@dataclass(frozen=True)
class ModelNow:
    """What one model said of the newest reading."""

    model: str
    kind: str
    score: float | None
    threshold: float
    verdict: str
    why: str | None

    @property
    def ratio(self) -> float | None:
        """Score / threshold."""
        return ratio(self.score, self.threshold)


@dataclass(frozen=True)
class DeviceNow:
    """One device on the fleet page.

    ``spark``: highest score/threshold of each of 24 hours, the newest last; ``told``: what its last health report alone
    says is wrong.
    """

    id: str
    type: str | None
    bundle: str | None
    agent: str | None
    first_seen: int
    last_seen: int
    last_ts: int | None
    status: str
    status_since: int | None
    status_reason: str | None
    open_alerts: int
    models: list[ModelNow]
    spark: list[float | None]
    standing: Standing
    told: list[State]

    @property
    def ratio(self) -> float | None:
        """The highest score/threshold of the newest reading."""
        return max((model.ratio for model in self.models if model.ratio is not None), default=None)

    @property
    def hour(self) -> int | None:
        """The hour of the last point of ``spark``, hours since 1970."""
        return None if self.last_ts is None else self.last_ts // tables.HOUR


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


class _Hour(NamedTuple):
    """One device's hour: its highest score/threshold, and its readings (of the model that has most)."""

    ratio: float | None
    rows: int


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
        d, r, a = tables.device, tables.result, tables.alert
        one = d.c.id == only if only is not None else d.c.id.is_not(None)
        now = self.clock()
        with self.engine.connect() as db:
            devices = db.execute(select(d).where(one)).all()
            alerts: dict[str, list[AnyRow]] = defaultdict(list)
            for row in db.execute(
                select(a.c.device, a.c.severity, a.c.kind, a.c.sensors, a.c.shares, a.c.opened_at)
                .where(a.c.state == "open", a.c.device == only if only is not None else a.c.device.is_not(None))
                .order_by(a.c.severity != "critical", a.c.opened_at)
            ):
                alerts[row.device].append(row)
            newest: dict[str, list[ModelNow]] = defaultdict(list)
            for one_score in db.execute(
                select(r.c.device, r.c.model, r.c.kind, r.c.score, r.c.threshold, r.c.verdict, r.c.why)
                .join_from(d, r, and_(r.c.device == d.c.id, r.c.ts == d.c.last_ts))
                .where(one)
            ):
                name, model, kind, score, threshold, verdict, why = one_score
                newest[name].append(ModelNow(model, kind, score, threshold, VERDICTS[verdict].value, why))
            hours = _recent_hours(db, one)
            gaps = _gaps(db, one, now - RECENT)
            periods, earlier = _periods(db, one), _earlier(db, one)
            missing = _missing(db, devices, hours)
        found = []
        for row in devices:
            models = sorted(newest[row.id], key=lambda model: (-(model.ratio or 0.0), model.model))
            told = row.health or {}
            facts = Facts(
                last_seen=row.last_seen,
                first_seen=row.first_seen,
                status=row.status,
                reason=row.status_reason,
                status_since=row.status_since,
                last_ts=row.last_ts,
                period=round(told["period"] * clock.SECOND) if told.get("period") else periods.get(row.id),
                **_open_alerts(alerts[row.id]),
                verdicts={model.model: model.verdict for model in models},
                why=next((model.why for model in models if model.verdict == "unknown" and model.why), ""),
                health=told,
                health_at=row.health_at,
                ahead_at=row.ahead_at,
                ahead_by=row.ahead_by or 0,
                earlier=earlier.get(row.id),
                missing=missing.get(row.id, 0),
                **gaps.get(row.id, {}),
            )
            found.append(_device_now(row, models, facts, hours[row.id], now))
        return sorted(found, key=lambda one: (ORDER[one.standing.condition], -(one.ratio or 0.0), one.id))

    def device(self, name: str) -> DeviceNow | None:
        """Return one device, None where it is not known."""
        return next(iter(self.fleet(only=name)), None)

    def health(self, name: str) -> tuple[int, dict[str, Any]] | None:
        """Return the newest health event of a device and when it was made."""
        d = tables.device
        with self.engine.connect() as db:
            row = db.execute(select(d.c.health_at, d.c.health).where(d.c.id == name)).one_or_none()
        return None if row is None or row.health is None else (row.health_at, row.health)

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
        self, state: str | None = None, device: str | None = None, limit: int = 100, before: Place | None = None
    ) -> list[AnyRow]:
        """Return alerts, newest first, with the newest verdict of each; ``before``: where the last page ended."""
        a = tables.alert
        query = select(a, *_newest_verdict()).order_by(a.c.opened_at.desc(), a.c.alert_id.desc()).limit(limit)
        if state is not None:
            query = query.where(a.c.state == state)
        if device is not None:
            query = query.where(a.c.device == device)
        if before is not None:
            query = query.where(
                or_(
                    a.c.opened_at < before.opened_at,
                    and_(a.c.opened_at == before.opened_at, a.c.alert_id < before.alert_id),
                )
            )
        with self.engine.connect() as db:
            return list(db.execute(query))

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

    def open_alerts(self) -> int:
        """Return how many alerts are open."""
        with self.engine.connect() as db:
            return int(
                db.execute(
                    select(func.count()).select_from(tables.alert).where(tables.alert.c.state == "open")
                ).scalar_one()
            )

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

        A journal that was rebuilt counts its log again under a new epoch: the newest epoch of a day speaks.
        """
        g, r = tables.ledger, tables.result
        with self.engine.connect() as db:
            newest = select(g.c.day).distinct().where(g.c.device == name).order_by(g.c.day.desc()).limit(days)
            chosen = list(db.execute(newest).scalars())
            if not chosen:
                return []
            by_day: dict[str, list[AnyRow]] = defaultdict(list)
            for row in db.execute(
                select(g).where(g.c.device == name, g.c.day.in_(chosen)).order_by(g.c.at.desc(), g.c.seq.desc())
            ):
                by_day[row.day].append(row)
            stored = _stored(db, r, name, chosen)
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
        """Return gaps and steps of the bundle, newest first."""
        e = tables.event
        with self.engine.connect() as db:
            return list(
                db.execute(
                    select(e)
                    .where(e.c.device == name, e.c.type.in_(("gap", "model")))
                    .order_by(e.c.time.desc(), e.c.seq.desc())
                    .limit(limit)
                )
            )


def _device_now(row: AnyRow, models: list[ModelNow], facts: Facts, hours: Mapping[int, _Hour], now: int) -> DeviceNow:
    """Put together what is known of one device."""
    return DeviceNow(
        id=row.id,
        type=row.type,
        bundle=f"{row.bundle_name}/{row.bundle_version}" if row.bundle_name else None,
        agent=row.agent_version,
        first_seen=row.first_seen,
        last_seen=row.last_seen,
        last_ts=row.last_ts,
        status=row.status,
        status_since=row.status_since,
        status_reason=row.status_reason,
        open_alerts=facts.open_alerts,
        models=models,
        spark=_spark(row.last_ts, hours),
        standing=standing(facts, now),
        told=told_by(facts.health or {}),
    )


def _open_alerts(rows: list[AnyRow]) -> dict[str, Any]:
    """Return what a device's open alerts are, worst first, as facts."""
    if not rows:
        return {}
    worst = rows[0]
    what = words.alert_what(worst.kind, worst.sensors, worst.shares)
    return {
        "open_alerts": len(rows),
        "critical": worst.severity == "critical",
        "alert": what,
        "alert_at": worst.opened_at,
    }


def told_by(health: Mapping[str, Any]) -> list[State]:
    """Return the states that a health report alone tells of, worst first."""
    return sorted({one.state for one in of_health(health)}, key=ORDER.__getitem__)


def _recent_hours(db: Connection, one: ColumnElement[bool]) -> dict[str, dict[int, _Hour]]:
    """Return the hours of the last two days up to each device's newest reading, by device and hour since 1970."""
    d, h = tables.device, tables.result_1h
    first = (d.c.last_ts // clock.DAY - 1) * clock.DAY
    found: dict[str, dict[int, _Hour]] = defaultdict(dict)
    for name, hour, ratio_max, rows in db.execute(
        select(h.c.device, h.c.hour, func.max(h.c.ratio_max), func.max(h.c.n))
        .join_from(d, h, and_(h.c.device == d.c.id, h.c.hour >= first))
        .where(one)
        .group_by(h.c.device, h.c.hour)
    ):
        found[name][hour // tables.HOUR] = _Hour(ratio_max, rows)
    return found


def _gaps(db: Connection, one: ColumnElement[bool], since: int) -> dict[str, dict[str, Any]]:
    """Return the gaps that we have heard of since then: ``gaps`` how many, ``gap`` the newest in words, ``gap_at``."""
    d, e = tables.device, tables.event
    found: dict[str, dict[str, Any]] = {}
    for name, received, data in db.execute(
        select(e.c.device, e.c.received, e.c.data)
        .join_from(d, e, and_(e.c.device == d.c.id, e.c.type == "gap", e.c.received >= since))
        .where(one)
        .order_by(e.c.device, e.c.time)
    ):
        count = found.get(name, {}).get("gaps", 0) + 1
        found[name] = {"gaps": count, "gap": words.gap(data), "gap_at": received}
    return found


def _periods(db: Connection, one: ColumnElement[bool]) -> dict[str, int]:
    """Return the shortest step between the newest readings of the devices whose health does not tell their period."""
    d, r = tables.device, tables.result
    newest = (
        select(r.c.ts)
        .distinct()
        .where(r.c.device == d.c.id, r.c.ts <= d.c.last_ts)
        .order_by(r.c.ts.desc())
        .limit(STEPS)
        .correlate(d)
        .subquery()
    )
    steps = select((newest.c.ts - func.lag(newest.c.ts).over(order_by=newest.c.ts)).label("step")).subquery()
    shortest = select(func.min(steps.c.step)).scalar_subquery()
    silent = or_(d.c.health.is_(None), d.c.health["period"].as_string().is_(None))
    rows = db.execute(select(d.c.id, shortest).where(one, silent, d.c.last_ts.is_not(None)))
    return {name: step for name, step in rows if step}


def _earlier(db: Connection, one: ColumnElement[bool]) -> dict[str, list[dict[str, Any]]]:
    """Return an earlier ledger of the devices whose health does not count their newest lines.

    It is of :data:`EARLIER` before the newest report, or of the first report where there is none so old.
    """
    d, e = tables.device, tables.event
    mine = select(e.c.data).where(e.c.device == d.c.id, e.c.type == "health", e.c.time < d.c.health_at).limit(1)
    before = mine.where(e.c.time <= d.c.health_at - EARLIER).order_by(e.c.time.desc()).correlate(d).scalar_subquery()
    first = mine.order_by(e.c.time).correlate(d).scalar_subquery()
    silent = and_(d.c.health.is_not(None), d.c.health["lines"].as_string().is_(None))
    rows = db.execute(select(d.c.id, before.label("before"), first.label("first")).where(one, silent))
    return {row.id: (row.before or row.first)["ledger"] for row in rows if row.before or row.first}


def _missing(db: Connection, devices: Sequence[AnyRow], hours: Mapping[str, Mapping[int, _Hour]]) -> dict[str, int]:
    """Return how many readings each device counts as delivered that are not in the store, on its last two days.

    The hourly rows cannot say too much, so only a device that they find short is counted exactly.
    """
    found: dict[str, int] = {}
    for row in devices:
        if row.last_ts is None or row.health is None:
            continue
        newest = row.last_ts // clock.DAY
        told = {
            day["day"]: day["scored"]
            for day in row.health.get("ledger", ())
            if newest - 1 <= clock.parse_iso(day["day"]) // clock.DAY <= newest
        }
        about: dict[str, int] = defaultdict(int)
        for hour, one in hours.get(row.id, {}).items():
            about[clock.day_of(hour * tables.HOUR)] += one.rows
        short = [day for day, scored in told.items() if scored > about[day]]
        if short:
            stored = _stored(db, tables.result, row.id, short)
            if lost := sum(max(0, told[day] - stored.get(day, 0)) for day in short):
                found[row.id] = lost
    return found


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


def _spark(last_ts: int | None, hours: Mapping[int, _Hour]) -> list[float | None]:
    if last_ts is None:
        return []
    last = last_ts // tables.HOUR
    return [hours[hour].ratio if hour in hours else None for hour in range(last - SPARK_HOURS + 1, last + 1)]


def _stored(db: Connection, r: Any, name: str, days: list[str]) -> dict[str, int]:
    """Count the readings (not the rows: there is one a model) that are stored of each day."""
    start = clock.parse_iso(min(days))
    end = clock.parse_iso(max(days)) + clock.DAY
    day = (r.c.ts // clock.DAY).label("day")
    rows = db.execute(
        select(day, func.count(r.c.ts.distinct()))
        .where(r.c.device == name, r.c.ts >= start, r.c.ts < end)
        .group_by("day")
    )
    return {clock.day_of(number * clock.DAY): count for number, count in rows}


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
