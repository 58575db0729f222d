"""Alerts as their devices tell of them: every transition is kept, and the alert moves forward in the device's time.

A resolved alert still names the sensors of its cause: a ``resolved`` describes the recovery, so its sensors count only
while nothing else of the alert has come.

A model has one open alert at most. One that was never resolved although a newer one has begun lost its end with the
device's journal: it ends where the newer one begins, in whatever order they come. No alert began after we heard of it:
one that a clock a year ahead has dated would else be the newest for a year, and end whatever comes.
"""

from __future__ import annotations

from typing import Any

from fieldwatch_contract.clock import parse_iso
from sqlalchemy import ColumnElement, Connection, FromClause, and_, case, func, or_, select, update

from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.batch import AlertSeen
from fieldwatch_cloud.store.packed import pack
from fieldwatch_cloud.store.sql import insert_new_keys

FORGOTTEN = "the device opened it again, its journal was lost"
_RANK = {"opened": 0, "updated": 1, "resolved": 2}


def add_transitions(db: Connection, seen: list[AlertSeen], now: int) -> tuple[list[str], int]:
    """Insert transitions and bring alerts forward; return the ids of those with news and how much that was."""
    news: dict[str, None] = {}
    count = 0
    for device, data in sorted(seen, key=lambda alert: (alert.data.alert_id, alert.data.ts)):
        ts = parse_iso(data.ts)
        resolved = data.transition == "resolved"
        told: dict[str, Any] = {
            "score": data.score,
            "peak": data.peak,
            "rows": data.rows,
            "sensors": data.sensors,
            "shares": data.shares,
            "reason": data.reason or None,
        }
        row = told | {
            "severity": data.severity,
            "state": "resolved" if resolved else "open",
            "transition": data.transition,
            "last_at": ts,
            "resolved_at": ts if resolved else None,
            "threshold": data.threshold,
            "bundle_name": data.bundle.name,
            "bundle_version": data.bundle.version,
            "bundle_sha256": data.bundle.sha256,
            "level": data.level,
            "like": data.like,
            "at_bound": data.at_bound or None,
        }
        fixed = {
            "alert_id": data.alert_id,
            "device": device,
            "model": data.model,
            "kind": data.kind,
            "opened_at": parse_iso(data.opened_at),
            "first_received": now,
        }
        first = insert_new_keys(db, t.alert, [fixed | row])
        key = {"alert_id": data.alert_id, "transition": data.transition, "ts": ts}
        evidence = pack(data.evidence) if data.evidence is not None else None
        if not insert_new_keys(db, t.alert_event, [key | told | {"received": now, "evidence": evidence}]):
            continue
        if not first:
            lower = [name for name, rank in _RANK.items() if rank < _RANK[data.transition]]
            mine = t.alert.c.alert_id == data.alert_id
            same_time = and_(t.alert.c.last_at == ts, t.alert.c.transition.in_(lower))
            db.execute(update(t.alert).where(mine, or_(t.alert.c.last_at < ts, same_time)).values(row))
            db.execute(update(t.alert).where(mine).values(_blamed(db, data.alert_id)))
        news[data.alert_id] = None
        count += 1
    for device, model in sorted({(device, data.model) for device, data in seen if data.alert_id in news}):
        _end_forgotten(db, device, model)
    return list(news), count


def begun(alert: FromClause) -> ColumnElement[int]:
    """Return when an alert of the table ``alert`` began: when its device says, but not after we first heard of it."""
    c = alert.c
    return case((c.opened_at < c.first_received, c.opened_at), else_=c.first_received)


def _end_forgotten(db: Connection, device: str, model: str) -> None:
    """End the alerts of a model that its device has forgotten: it would have resolved them before it opened another."""
    a, newer = t.alert, t.alert.alias()
    same = and_(newer.c.device == a.c.device, newer.c.model == a.c.model, begun(newer) > begun(a))
    next_ = select(func.min(begun(newer))).where(same).correlate(a).scalar_subquery()
    mine = and_(a.c.device == device, a.c.model == model, a.c.transition != "resolved")
    ended = {"state": "resolved", "resolved_at": next_, "reason": FORGOTTEN}
    db.execute(update(a).where(mine, next_.is_not(None)).values(ended))


def _blamed(db: Connection, alert_id: str) -> dict[str, Any]:
    """Return sensors and shares of the newest transition that is not ``resolved``; of that where it is alone."""
    e = t.alert_event.c
    order = (e.transition == "resolved", e.ts.desc(), (e.transition == "opened"))
    query = select(e.sensors, e.shares).where(e.alert_id == alert_id).order_by(*order).limit(1)
    return dict(db.execute(query).mappings().one())
