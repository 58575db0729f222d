"""The current state of the fleet: facts about all devices, read in a few queries, and the health status of each.

One row a device, its hourly rows of two days, its newest reading, its open alerts and its gaps of a day. Raw results
and reports are read only where an agent is too old to tell its period (the newest few results) or to count its newest
lines (one report), or where the hourly rows say that readings are missing. Times are µs.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from fieldwatch_contract import clock
from fieldwatch_contract.verdicts import VERDICTS, Verdict
from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select

from fieldwatch_cloud import words
from fieldwatch_cloud.alerts.standing import ORDER, RECENT, SERVER, Facts, Finding, Standing, State, of_health, standing
from fieldwatch_cloud.store import tables
from fieldwatch_cloud.store.cards import Card, cards
from fieldwatch_cloud.store.results import ratio

log = logging.getLogger("fieldwatch.web")

AnyRow = Row[*tuple[Any, ...]]

SPARK_HOURS = 24
EARLIER = 10 * clock.MINUTE
"""How far back the report lies with which the ledger of an agent is compared that does not count its newest lines."""
STEPS = 6
"""Newest readings from which the period of an agent is taken that does not tell it."""
AT_ONCE = 1000
"""Devices named in one query."""
DAY_HOURS = clock.DAY // tables.HOUR


@dataclass(frozen=True)
class ModelNow:
    """One model's result for the newest reading."""

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
    """The current state of one device, as on the fleet page.

    ``spark``: highest score/threshold of each of 24 hours, the newest last; ``told``: what its last health report alone
    says is wrong; ``period``: µs from one reading to the next, as far as it is known.
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
    card: Card
    period: int | None

    @property
    def ratio(self) -> float | None:
        """The highest score/threshold of the newest reading."""
        return max((model.ratio for model in self.models if model.ratio is not None), default=None)

    @property
    def hour(self) -> int | None:
        """The hour of the last point of ``spark``, hours since 1970."""
        return None if self.last_ts is None else self.last_ts // tables.HOUR


class _Hour(NamedTuple):
    """One device's hour: its highest score/threshold, and its readings (of the model that has most)."""

    ratio: float | None
    rows: int


def told_by(health: Mapping[str, Any]) -> list[State]:
    """Return the states that follow from a health report alone, worst first."""
    return sorted({one.state for one in of_health(health)}, key=ORDER.__getitem__)


def read_fleet(db: Connection, now: int, only: str | None = None) -> list[DeviceNow]:
    """Return all devices, or ``only`` one, worst first; in one state by score/threshold."""
    d = tables.device
    one = d.c.id == only if only is not None else d.c.id.is_not(None)
    devices = db.execute(select(d).where(one)).all()
    named = cards(db, None if only is None else [only])
    alerts, models, hours = _open_alerts(db, one), _newest(db, one), _recent_hours(db, one)
    silent = [row.id for row in devices if not (row.health or {}).get("period")]
    uncounted = [row.id for row in devices if row.health is not None and not row.health.get("lines")]
    periods, earlier = _periods(db, silent), _earlier(db, uncounted)
    gaps = _gaps(db, [row.id for row in devices], now - RECENT)
    found = []
    for row in devices:
        try:
            facts = _facts(db, row, models[row.id], hours[row.id], periods.get(row.id), earlier.get(row.id))
            facts = replace(facts, **alerts.get(row.id, {}), **gaps.get(row.id, {}))
            known = named.get(row.id, Card())
            found.append(_device_now(row, models[row.id], facts, hours[row.id], now, known))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            log.error("device %s: what the store holds of it is damaged: %r", row.id, error)
            found.append(_damaged(row, named.get(row.id, Card())))
    return sorted(found, key=lambda one: (ORDER[one.standing.condition], -(one.ratio or 0.0), one.id))


def count_stored(db: Connection, name: str, days: Sequence[str]) -> dict[str, int]:
    """Count the readings (not the rows: there is one a model) of a device that are stored of each day."""
    r = tables.result
    start = clock.parse_iso(min(days))
    end = clock.parse_iso(max(days)) + clock.DAY
    day = (r.c.ts // clock.DAY).label("day")
    rows = db.execute(
        select(day, func.count(r.c.ts.distinct()))
        .where(r.c.device == name, r.c.ts >= start, r.c.ts < end)
        .group_by("day")
    )
    return {clock.day_of(number * clock.DAY): count for number, count in rows}


def _facts(
    db: Connection,
    row: AnyRow,
    models: Sequence[ModelNow],
    hours: Mapping[int, _Hour],
    period: int | None,
    earlier: Sequence[Mapping[str, Any]] | None,
) -> Facts:
    """Return what the device's own row tells, and its newest readings."""
    health = row.health or {}
    return Facts(
        last_seen=row.last_seen,
        first_seen=row.first_seen,
        status=row.status,
        reason=row.status_reason,
        status_since=row.status_since,
        last_ts=row.last_ts,
        period=round(health["period"] * clock.SECOND) if health.get("period") else period,
        verdicts={model.model: model.verdict for model in models},
        why=next((model.why for model in models if model.verdict == "unknown" and model.why), ""),
        health=health,
        health_at=row.health_at,
        health_received=row.health_received,
        behind_by=row.behind_by or 0,
        ahead_at=row.ahead_at,
        ahead_by=row.ahead_by or 0,
        earlier=earlier,
        missing=_missing(db, row, hours),
    )


def _damaged(row: AnyRow, known: Card) -> DeviceNow:
    """Return a device of which nothing can be told: one damaged row must not hide all the others."""
    says = "What this server’s store holds of it is damaged, so nothing can be said of it."
    finding = Finding("unknown", "record damaged", says, SERVER, "Look at the server’s disk and its log.")
    return DeviceNow(
        id=row.id,
        type=None,
        bundle=None,
        agent=None,
        first_seen=0,
        last_seen=0,
        last_ts=None,
        status="unknown",
        status_since=None,
        status_reason=None,
        open_alerts=0,
        models=[],
        spark=[],
        standing=Standing((finding,)),
        told=[],
        card=known,
        period=None,
    )


def _device_now(
    row: AnyRow, models: list[ModelNow], facts: Facts, hours: Mapping[int, _Hour], now: int, known: Card
) -> DeviceNow:
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
        card=known,
        period=facts.period,
    )


def _spark(last_ts: int | None, hours: Mapping[int, _Hour]) -> list[float | None]:
    if last_ts is None:
        return []
    last = last_ts // tables.HOUR
    return [hours[hour].ratio if hour in hours else None for hour in range(last - SPARK_HOURS + 1, last + 1)]


def _open_alerts(db: Connection, one: ColumnElement[bool]) -> dict[str, dict[str, Any]]:
    """Return what each device's open alerts are, the worst one in words, as facts."""
    d, a = tables.device, tables.alert
    found: dict[str, dict[str, Any]] = {}
    for row in db.execute(
        select(a.c.device, a.c.severity, a.c.kind, a.c.sensors, a.c.shares, a.c.opened_at)
        .join_from(d, a, and_(a.c.device == d.c.id, a.c.state == "open"))
        .where(one)
        .order_by(a.c.severity != "critical", a.c.opened_at)
    ):
        worst = {
            "open_alerts": 0,
            "critical": row.severity == "critical",
            "alert": words.alert_what(row.kind, row.sensors, row.shares),
            "alert_at": row.opened_at,
        }
        found.setdefault(row.device, worst)["open_alerts"] += 1
    return found


def _newest(db: Connection, one: ColumnElement[bool]) -> dict[str, list[ModelNow]]:
    """Return the models' results for each device's newest reading, the highest first."""
    d, r = tables.device, tables.result
    found: dict[str, list[ModelNow]] = defaultdict(list)
    for name, model, kind, score, threshold, verdict, why in db.execute(
        select(r.c.device, r.c.model, r.c.kind, r.c.score, r.c.threshold, r.c.verdict, r.c.why)
        .join_from(d, r, and_(r.c.device == d.c.id, r.c.ts == d.c.last_ts))
        .where(one)
    ).all():
        found[name].append(ModelNow(model, kind, _number(score), _number(threshold) or 0.0, _verdict(verdict), why))
    for models in found.values():
        models.sort(key=lambda model: (-(model.ratio or 0.0), model.model))
    return found


def _verdict(code: Any) -> str:
    """Return a verdict in a word; one that a damaged disk has made something else judges nothing."""
    return (VERDICTS[code] if code in range(len(VERDICTS)) else Verdict.UNKNOWN).value


def _number(value: Any) -> float | None:
    return value if isinstance(value, float | int) else None


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
    ).all():
        found[name][hour // tables.HOUR] = _Hour(ratio_max, rows)
    return found


def _gaps(db: Connection, names: Sequence[str], since: int) -> dict[str, dict[str, Any]]:
    """Return the gaps that we have heard of since then: ``gaps`` how many, ``gap`` the newest in words, ``gap_at``."""
    e = tables.event.c
    found: dict[str, dict[str, Any]] = {}
    for some in _chunks(names):
        query = select(e.device, e.received, e.seq, e.data).where(e.device.in_(some), e.type == "gap")
        # in the order of an index, without which every report that is stored would be looked at
        rows = db.execute(query.where(e.received >= since).order_by(e.device, e.time)).all()
        for name, received, _, data in sorted(rows, key=lambda row: (row.received, row.seq)):
            count = found.get(name, {}).get("gaps", 0) + 1
            found[name] = {"gaps": count, "gap": words.gap(data), "gap_at": received}
    return found


def _periods(db: Connection, names: Sequence[str]) -> dict[str, int]:
    """Return the shortest step between the newest readings of these devices, whose health tells no period."""
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
    found: dict[str, int] = {}
    for some in _chunks(names):
        rows = db.execute(select(d.c.id, shortest).where(d.c.id.in_(some), d.c.last_ts.is_not(None)))
        found |= {name: step for name, step in rows if step}
    return found


def _earlier(db: Connection, names: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return an earlier ledger of these devices, whose health does not count their newest lines.

    It is of :data:`EARLIER` before the newest report, or the last one before the clock was set, or the first one of
    the journal where there is neither.
    """
    d, e = tables.device, tables.event
    mine = select(e.c.data).where(e.c.device == d.c.id, e.c.epoch == d.c.health_epoch, e.c.seq < d.c.health_seq)
    mine = mine.where(e.c.type == "health").limit(1)
    apart = or_(e.c.time <= d.c.health_at - EARLIER, e.c.time >= d.c.health_at + EARLIER)
    before = mine.where(apart).order_by(e.c.seq.desc()).correlate(d).scalar_subquery()
    first = mine.order_by(e.c.seq).correlate(d).scalar_subquery()
    found: dict[str, list[dict[str, Any]]] = {}
    for some in _chunks(names):
        rows = db.execute(select(d.c.id, before.label("before"), first.label("first")).where(d.c.id.in_(some)))
        found |= {row.id: (row.before or row.first)["ledger"] for row in rows if "ledger" in (row.before or row.first)}
    return found


def _chunks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), AT_ONCE):
        yield names[start : start + AT_ONCE]


def _missing(db: Connection, device: AnyRow, hours: Mapping[int, _Hour]) -> int:
    """Return how many readings a device counts as delivered that are not in the store, on its last two days.

    The hourly rows cannot say too much, so only a device that they find short is counted exactly.
    """
    if device.last_ts is None or device.health is None:
        return 0
    newest = device.last_ts // clock.DAY
    stored: dict[int, int] = defaultdict(int)
    for hour, one in hours.items():
        stored[hour // DAY_HOURS] += one.rows
    short = {}
    for told in device.health.get("ledger", ()):
        day = clock.parse_iso(told["day"]) // clock.DAY
        if newest - 1 <= day <= newest and told["scored"] > stored[day]:
            short[told["day"]] = told["scored"]
    if not short:
        return 0
    exact = count_stored(db, device.id, list(short))
    return sum(max(0, scored - exact.get(day, 0)) for day, scored in short.items())
