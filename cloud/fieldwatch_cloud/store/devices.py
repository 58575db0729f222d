"""Devices: the newest that is known of each, its ledger, its connection.

What a device says of itself is ordered as it said it, whatever its clock does: of its reports the one with the highest
number of its journal's current incarnation (epoch) is the newest. Which incarnation that is no number tells, for epochs
are drawn at random, and a backup brings an earlier one back:

* the one that the device named when it last connected;
* else, where nothing has come of that one for :data:`SILENT` (by our clock), the one of which something does come.

What comes late of another incarnation is kept, and is never the newest.

Readings have times of their own, those of the log, and the newest reading is the one with the latest. A device row
never keeps one from the future for good: a clock that was wrong once would freeze it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fieldwatch_contract import clock
from fieldwatch_contract.clock import parse_iso
from sqlalchemy import Connection, and_, bindparam, case, func, not_, or_, select, update

from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.batch import REASON_LIMIT, Batch, HealthSeen, StateSeen
from fieldwatch_cloud.store.sql import chunks, insert_new, upsert

AHEAD = clock.DAY
"""How far a device's clock may be ahead of ours (µs) before its times stop counting as progress."""
CLOCK_WRONG = 10 * clock.MINUTE
"""A clock further from ours than this (µs) is wrong; a reading further ahead is replaced by any other."""
SILENT = 5 * clock.MINUTE
"""A device reports every minute: an incarnation of which nothing has come for so long may have been replaced."""
SPACED, STEADY = 30 * clock.SECOND, 15 * clock.SECOND
"""Reports that arrive at least so far apart, and were made equally far apart but for so much, come as they are made."""

_NUMBERS = ("last_seen", "epoch_heard", "last_ts", "ahead_at", "ahead_by")
_REPORT = ("health_seq", "health_at", "health_received", "behind_by")


def balance(db: Connection, healths: list[HealthSeen]) -> None:
    """Update the ledger in the order of the journal; an older report changes nothing."""
    days = [
        day.model_dump() | {"device": seen.device, "epoch": seen.epoch, "seq": seen.seq, "at": at}
        for seen in sorted(healths, key=lambda health: health.seq)
        for at in [parse_iso(seen.event.data.ts)]
        for day in sorted(seen.event.data.ledger, key=lambda day: day.day)
    ]
    if not days:
        return
    statement = upsert(db, t.ledger)
    values = ("read", "scored", "refused", "evicted", "pending", "seq", "at")
    db.execute(
        statement.on_conflict_do_update(
            index_elements=list(t.ledger.primary_key.columns),
            set_={name: statement.excluded[name] for name in values},
            where=t.ledger.c.seq < statement.excluded.seq,
        ),
        days,
    )


class Advanced(NamedTuple):
    """What :func:`advance_devices` found: each device's current epoch, and the reports that are the newest now."""

    epochs: dict[str, str | None]
    newest: list[HealthSeen]


def hold(db: Connection, batch: Batch, now: int) -> None:
    """Make the rows of devices that are new, and keep other processes from those of this batch until we commit."""
    names = _named(batch)
    known: set[str] = set()
    for chunk in chunks(names):
        query = select(t.device.c.id).where(t.device.c.id.in_(chunk)).order_by(t.device.c.id).with_for_update()
        known |= set(db.execute(query).scalars())
    new = {"first_seen": now, "last_seen": now, "status": "unknown"}
    insert_new(db, t.device, [new | {"id": name} for name in names if name not in known])


def advance_devices(db: Connection, batch: Batch, now: int) -> Advanced:
    """Update the device rows: last seen, current incarnation, newest reading, newest report. They are held."""
    names = _named(batch)
    reports: dict[str, list[HealthSeen]] = defaultdict(list)
    readings: dict[str, list[int]] = defaultdict(list)
    heard = dict(batch.numbers.keys())
    spoke = heard.keys() | {seen.device for seen in batch.states if seen.state.status == "online"}  # a will is no word
    for health in batch.healths:
        reports[health.device].append(health)
    for result in batch.results:
        readings[result["device"]].append(result["ts"])
    found = Advanced({}, [])
    changed, told = [], []
    d = t.device.c
    columns = [d.id, d.type, d.epoch, d.health_epoch, *(d[name] for name in (*_NUMBERS, *_REPORT))]
    for chunk in chunks(names):
        for row in db.execute(select(*columns).where(d.id.in_(chunk))).mappings():
            mine = dict(row) | {name: _whole(row[name]) for name in (*_NUMBERS, *_REPORT)}
            mine["last_seen"] = max(mine["last_seen"] or 0, now if row["id"] in spoke else 0)
            if mine["epoch"] is None and row["id"] in heard:
                mine |= {"epoch": heard[row["id"]], "epoch_heard": now}
            if (ahead := max(readings[row["id"]], default=now) - now) > CLOCK_WRONG:
                mine |= {"ahead_at": now, "ahead_by": ahead}
            for ts in readings[row["id"]]:
                if _forward(mine["last_ts"], ts, now):
                    mine["last_ts"] = ts
            if (newest := _report(mine, reports[row["id"]], now)) is not None:
                found.newest.append(newest)
                told.append(_told(mine, newest))
            found.epochs[row["id"]] = mine["epoch"]
            changed.append({"b_id": row["id"]} | {name: mine[name] for name in ("epoch", *_NUMBERS)})
    mine_alone = update(t.device).where(d.id == bindparam("b_id"))
    for rows in (changed, told):
        if rows:
            db.execute(mine_alone, rows)
    return found


def _named(batch: Batch) -> list[str]:
    """Return the devices of a batch in one order for all writers: no deadlocks."""
    return sorted({device for device, _ in batch.numbers} | {seen.device for seen in batch.states})


def _report(mine: dict[str, Any], reports: Sequence[HealthSeen], now: int) -> HealthSeen | None:
    """Put these reports of a device into what is known of it; return the newest one if it is among them."""
    newest = None
    arrived = {epoch: place for place, epoch in enumerate(dict.fromkeys(seen.epoch for seen in reports))}
    for seen in sorted(reports, key=lambda one: (arrived[one.epoch], one.seq)):
        if seen.epoch != mine["epoch"] and now - (mine["epoch_heard"] or 0) <= SILENT:
            continue
        held = mine["health_seq"] if seen.epoch == mine["health_epoch"] else None
        if held is not None and seen.seq <= held:
            continue
        made = parse_iso(seen.event.data.ts)
        mine["behind_by"] = _behind(mine, seen.epoch, made, now)
        mine |= {"epoch": seen.epoch, "epoch_heard": now, "health_epoch": seen.epoch, "health_seq": seen.seq}
        mine |= {"health_at": made, "health_received": now}
        newest = seen
    return newest


def _behind(before: Mapping[str, Any], epoch: str, made: int, now: int) -> int | None:
    """Return how far the clock is behind by which the next report was ``made``; None where it is right or unknown.

    A report that was long on its way looks the same. It was not where it was made *earlier* than the one before it; nor
    where two came in the distance in which they were made. A backlog comes faster than it was made.
    """
    late = now - made
    if late <= CLOCK_WRONG or before["health_at"] is None or before["health_received"] is None:
        return None
    late_before = before["health_received"] - before["health_at"]
    back = made < before["health_at"] - SPACED and late_before >= -CLOCK_WRONG and epoch == before["health_epoch"]
    shrinks, grows = late < late_before - STEADY, late > late_before + STEADY
    spaced = now - before["health_received"] >= SPACED
    steady = not shrinks and (before["behind_by"] is not None or (spaced and not grows))
    return late if back or steady else None


def _told(mine: Mapping[str, Any], newest: HealthSeen) -> dict[str, Any]:
    """Return the columns of a device that its newest report fills."""
    data = newest.event.data
    row = {"b_id": mine["id"], "health": data.model_dump(mode="json"), "agent_version": data.agent}
    row |= {name: mine[name] for name in ("health_epoch", *_REPORT)}
    row |= {"type": mine["type"], "bundle_name": None, "bundle_version": None, "bundle_sha256": None}
    if data.bundle is not None:
        row |= {"type": data.bundle.name, "bundle_name": data.bundle.name}
        row |= {"bundle_version": data.bundle.version, "bundle_sha256": data.bundle.sha256}
    return row


def connect(db: Connection, states: list[StateSeen], now: int) -> list[StateSeen]:
    """Apply connection states in order; return those that counted.

    An ``online`` is the device's own word and counts, unless it comes late: of the connection before the known one, or
    again of one that has ended since, as two workers overtake each other and a broker that was killed keeps an old one.
    A last will counts only for the known connection or one that began after it. When it began is the device's word; but
    of the connection before the known one we know that it is the older, whatever the clock was then. One dated in the
    future counts as older.
    """
    applied = []
    limit = now + AHEAD
    d = t.device.c
    for seen in states:
        state = seen.state
        since = parse_iso(state.since)
        begun, same = d.connection_since, d.connection == state.connection
        other = d.connection.is_distinct_from(state.connection)
        not_before = d.connection_before.is_distinct_from(state.connection)
        named: dict[str, Any] = {"epoch": state.epoch, "epoch_heard": now}
        if state.status == "offline":
            later = or_(begun > limit, begun < since) if since <= limit else and_(begun > limit, begun < since)
            counts = or_(d.connection.is_(None), same, and_(later, not_before))
            named = {}  # a will names the epoch of when it was made
        else:
            ended = and_(same, d.status == "offline", begun >= since, begun <= limit)
            counts = and_(not_before, not_(func.coalesce(ended, False)))
        unchanged = and_(
            same,
            d.status == state.status,
            func.coalesce(d.status_reason, "") == state.reason[:REASON_LIMIT],
        )
        statement = (
            update(t.device)
            .where(d.id == seen.device, counts)
            .values(
                status=state.status,
                status_since=case((func.coalesce(unchanged, False), d.status_since), else_=now),
                status_reason=state.reason[:REASON_LIMIT],
                connection_before=case((other, d.connection), else_=d.connection_before),
                connection=state.connection,
                connection_since=case((and_(same, begun > since, begun <= limit), begun), else_=since),
                **named,
            )
        )
        if db.execute(statement).rowcount:
            applied.append(seen)
    return applied


def _forward(old: int | None, new: int, now: int) -> bool:
    """Tell whether the reading of ``new`` replaces that of ``old``; a wrong one is replaced by any other."""
    return old is None or old > now + CLOCK_WRONG or old < new <= now + AHEAD


def _whole(value: Any) -> int | None:
    """Return a number; what a damaged disk has made something else is unknown."""
    return value if isinstance(value, int) else None
