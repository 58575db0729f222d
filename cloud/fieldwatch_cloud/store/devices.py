"""Devices: the newest that is known of each, its ledger, its connection; a row moves forward in the device's time only.

A device row never keeps a time in the future: a clock that was wrong once would freeze it.
"""

from __future__ import annotations

from typing import Any

from fieldwatch_contract import clock
from fieldwatch_contract.clock import parse_iso
from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, update

from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.batch import REASON_LIMIT, Batch, HealthSeen, StateSeen
from fieldwatch_cloud.store.sql import larger, upsert

AHEAD = clock.DAY
"""How far a device's clock may be ahead of ours (µs) before its times stop counting as progress."""
CLOCK_WRONG = 10 * clock.MINUTE
"""A time further ahead of us than this (µs) is considered wrong and is replaced by any later report."""


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


def advance_devices(db: Connection, batch: Batch, now: int) -> None:
    """Update the device rows: last seen, newest reading, newest health."""
    empty = {"last_ts": None, "health_at": None, "health": None, "type": None, "agent_version": None}
    empty |= {"bundle_name": None, "bundle_version": None, "bundle_sha256": None}
    empty |= {"ahead_at": None, "ahead_by": None}
    found: dict[str, dict[str, Any]] = {}

    def row(device: str) -> dict[str, Any]:
        return found.setdefault(
            device, {"id": device, "first_seen": now, "last_seen": now, "status": "unknown", "epoch": None} | empty
        )

    def advance(mine: dict[str, Any], name: str, at: int) -> bool:
        """Tell whether ``at`` replaces ``mine[name]``; note a clock that is ahead."""
        if at > now + CLOCK_WRONG:
            mine |= {"ahead_at": now, "ahead_by": max(at - now, mine["ahead_by"] or 0)}
        return _forward(mine[name], at, now)

    for device, epoch in batch.numbers:
        row(device)["epoch"] = epoch
    for seen in batch.states:
        row(seen.device)
    for result in batch.results:
        mine = row(result["device"])
        if advance(mine, "last_ts", result["ts"]):
            mine["last_ts"] = result["ts"]
    for health in batch.healths:
        mine, data = row(health.device), health.event.data
        at = parse_iso(data.ts)
        if advance(mine, "health_at", at):
            mine |= {"health_at": at, "health": data.model_dump(mode="json"), "agent_version": data.agent}
            if data.bundle is not None:
                mine |= {"type": data.bundle.name, "bundle_name": data.bundle.name}
                mine |= {"bundle_version": data.bundle.version, "bundle_sha256": data.bundle.sha256}
    if not found:
        return
    statement = upsert(db, t.device)
    old, new = t.device.c, statement.excluded
    newer = is_forward(old.health_at, new.health_at, now)
    by_health = ("health_at", "health", "agent_version", "bundle_name", "bundle_version", "bundle_sha256")
    db.execute(
        statement.on_conflict_do_update(
            index_elements=[t.device.c.id],
            set_={
                "last_seen": larger(old.last_seen, new.last_seen),
                "last_ts": case((is_forward(old.last_ts, new.last_ts, now), new.last_ts), else_=old.last_ts),
                "ahead_at": func.coalesce(new.ahead_at, old.ahead_at),
                "ahead_by": func.coalesce(new.ahead_by, old.ahead_by),
                "epoch": func.coalesce(old.epoch, new.epoch),
                "type": case((newer, func.coalesce(new.type, old.type)), else_=old.type),
                **{name: case((newer, new[name]), else_=old[name]) for name in by_health},
            },
        ),
        [found[device] for device in sorted(found)],
    )


def connect(db: Connection, states: list[StateSeen], now: int) -> list[StateSeen]:
    """Apply connection states in order; return those that counted.

    A late last will of an older connection is ignored. A retained message may be such a will, so its connection
    must not be older than the known one. One dated in the future counts as older.
    """
    applied = []
    limit = now + AHEAD
    for seen in states:
        state = seen.state
        since = parse_iso(state.since)
        where: ColumnElement[bool] = t.device.c.id == seen.device
        if state.status == "offline" or seen.retained:
            known = t.device.c.connection
            same_or_first = or_(known.is_(None), known == state.connection)
            begun = t.device.c.connection_since
            not_older = or_(begun > limit, begun < since) if since <= limit else and_(begun > limit, begun < since)
            where = and_(where, or_(same_or_first, not_older))
        d = t.device.c
        unchanged = and_(
            d.connection == state.connection,
            d.status == state.status,
            func.coalesce(d.status_reason, "") == state.reason[:REASON_LIMIT],
        )
        statement = (
            update(t.device)
            .where(where)
            .values(
                status=state.status,
                status_since=case((func.coalesce(unchanged, False), t.device.c.status_since), else_=now),
                status_reason=state.reason[:REASON_LIMIT],
                connection=state.connection,
                connection_since=since,
                epoch=state.epoch,
            )
        )
        if db.execute(statement).rowcount:
            applied.append(seen)
    return applied


def _forward(old: int | None, new: int, now: int) -> bool:
    """Tell whether the device's time ``new`` replaces ``old``; a wrong one is replaced by any other."""
    return old is None or old > now + CLOCK_WRONG or old < new <= now + AHEAD


def is_forward(old: ColumnElement[Any], new: ColumnElement[Any], now: int) -> ColumnElement[bool]:
    """As :func:`_forward` in the database; a ``new`` that is null replaces nothing."""
    return and_(new.is_not(None), or_(old.is_(None), old > now + CLOCK_WRONG, and_(old < new, new <= now + AHEAD)))
