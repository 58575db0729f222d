"""What people said of alerts, as the devices are told: the newest verdict of each alert, and from which row it holds.

A verdict holds from the row after the newest transition of its alert that was stored when it was given: no row before
that was judged with it. A device that has lost its journal and reads its log again would else take the verdict before
it knows the alert.
"""

from __future__ import annotations

from fieldwatch_contract.clock import SECOND, iso
from fieldwatch_contract.events import MOST_VERDICTS, AlertVerdict, Verdicts
from sqlalchemy import Connection, func, select

from fieldwatch_cloud.store import tables as t

SETTLED = 10 * SECOND
"""µs: an older verdict's number has no smaller one that is still being stored."""


def documents(db: Connection, after: int, now: int) -> tuple[int, dict[str, Verdicts]]:
    """Return from which number on to ask again, and the document of each device with a verdict newer than ``after``.

    Of numbers given out together the larger may be stored first, so what is younger than :data:`SETTLED` is told again.
    """
    settled = select(func.max(t.verdict.c.id)).where(t.verdict.c.id > after, t.verdict.c.at <= now - SETTLED)
    judged = t.verdict.join(t.alert, t.alert.c.alert_id == t.verdict.c.alert_id)
    devices = select(t.alert.c.device).select_from(judged).where(t.verdict.c.id > after).distinct()
    found = {device: _of(db, device) for device in db.execute(devices).scalars()}
    return db.execute(settled).scalar() or after, found


def _of(db: Connection, device: str) -> Verdicts:
    a, v, e = t.alert.c, t.verdict.c, t.alert_event.c
    latest = select(func.max(v.id)).group_by(v.alert_id).scalar_subquery()
    since = select(func.max(e.ts)).where(e.alert_id == a.alert_id, e.received <= v.at).scalar_subquery()
    query = (
        select(a.alert_id, a.model, v.verdict, since.label("since"))
        .join_from(t.alert, t.verdict, v.alert_id == a.alert_id)
        .where(a.device == device, v.id.in_(latest))
        .order_by(v.id.desc())
        .limit(MOST_VERDICTS)
    )
    rows = db.execute(query).all()
    return Verdicts(
        verdicts=[
            AlertVerdict(
                alert_id=row.alert_id,
                model=row.model,
                verdict=None if row.verdict == "unclear" else row.verdict,
                since=iso(row.since + 1) if row.since is not None else None,
            )
            for row in rows
        ]
    )
