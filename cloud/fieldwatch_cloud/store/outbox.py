"""The outbox of messages to people: written in the transaction of the news, claimed by a conditional update.

Promise: a message is sent until its channel has taken it, or it is dead and shown. A worker that is killed while it
sends leaves a lease that runs out; the message is sent again under the same id, because the answer was lost.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from fieldwatch_contract import clock
from sqlalchemy import Connection, and_, func, insert, or_, select, update

from fieldwatch_cloud.alerts.routing import STORM_SPAN, Due
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.cards import Card, cards

LEASE = 2 * clock.MINUTE
"""How long an attempt may take; channels give up sooner."""
FIRST_WAIT = 5 * clock.SECOND
LONGEST_WAIT = 60 * clock.MINUTE
ATTEMPTS = 32
"""About a day, with waits that double up to an hour."""
ERROR_LIMIT = 500

AnyRow = Any


@dataclass(frozen=True)
class Item:
    """One piece of news in a message: rows of ``incident`` and ``incident_event``; ``name``: that of its card."""

    incident: AnyRow
    event: AnyRow
    name: str = ""


@dataclass(frozen=True)
class Letter:
    """A message that was claimed for an attempt. ``batch``: why it gathers, ``digest`` or ``storm``, or None."""

    id: str
    channel: str
    route: str
    batch: str | None
    attempt: int
    items: tuple[Item, ...]


def recent(db: Connection, now: int) -> dict[str, int]:
    """Count each channel's messages of the last :data:`.STORM_SPAN`; a digest is none."""
    m = t.message.c
    sudden = or_(m.batch.is_(None), m.batch == "storm")
    query = select(m.channel, func.count()).where(m.made_at > now - STORM_SPAN, m.step == 0, sudden).group_by(m.channel)
    return {row[0]: row[1] for row in db.execute(query)}


def enqueue(db: Connection, dues: Iterable[Due], event_id: int, now: int) -> None:
    """Write what is to be told; what gathers joins the message that still waits."""
    m = t.message
    for due in dues:
        found = None
        if due.batch is not None:
            waits = and_(m.c.channel == due.channel, m.c.batch == due.batch, m.c.state == "waiting", m.c.attempts == 0)
            found = db.execute(select(m.c.id).where(waits)).scalar()
        if found is None:
            found = secrets.token_hex(16)
            row = {"id": found, "state": "waiting", "made_at": now, "attempts": 0}
            row |= {name: getattr(due, name) for name in ("channel", "route", "batch", "step", "due_at")}
            db.execute(insert(m), row)
        db.execute(insert(t.message_item), {"message_id": found, "event_id": event_id})


def waits(db: Connection, now: int, busy: Collection[str] = ()) -> bool:
    """Tell whether a message is due to a channel that is not busy; without a writing transaction."""
    m = t.message.c
    due = or_(and_(m.state == "waiting", m.due_at <= now), and_(m.state == "sending", m.lease_until < now))
    return db.execute(select(m.id).where(due, m.channel.not_in(busy)).limit(1)).first() is not None


def claim(db: Connection, now: int, busy: Collection[str] = ()) -> Letter | None:
    """Take the message that has been due longest; None where none is. A lease that ran out is due again.

    ``busy``: channels that have one under way.
    """
    m = t.message
    lost = and_(m.c.state == "sending", m.c.lease_until < now)
    db.execute(update(m).where(lost).values(state="waiting", lease_until=None, error="the answer was lost"))
    while True:
        due = and_(m.c.state == "waiting", m.c.due_at <= now, m.c.channel.not_in(busy))
        row = db.execute(select(m).where(due).order_by(m.c.due_at, m.c.made_at, m.c.id).limit(1)).first()
        if row is None:
            return None
        mine = and_(m.c.id == row.id, m.c.state == "waiting", m.c.attempts == row.attempts)
        taken = {"state": "sending", "attempts": row.attempts + 1, "lease_until": now + LEASE}
        if not db.execute(update(m).where(mine).values(taken)).rowcount:
            continue  # another worker was quicker
        if items := _items(db, row):
            return Letter(row.id, row.channel, row.route, row.batch, row.attempts + 1, items)
        db.execute(update(m).where(m.c.id == row.id).values(state="dropped", done_at=now, lease_until=None))


def _items(db: Connection, row: AnyRow) -> tuple[Item, ...]:
    """Return a message's news; of a later step only of those incidents that still wait for somebody."""
    i, e, mi = t.incident, t.incident_event, t.message_item
    events = db.execute(
        select(e)
        .join(mi, and_(mi.c.event_id == e.c.id, mi.c.message_id == row.id))
        .order_by(e.c.id)
    ).all()  # fmt: skip
    ids = {event.incident_id for event in events}
    incidents = {one.id: one for one in db.execute(select(i).where(i.c.id.in_(ids)))}
    named = cards(db, [one.device for one in incidents.values()])
    found = [
        Item(one, event, named.get(one.device, Card()).name)
        for event in events
        if (one := incidents.get(event.incident_id)) is not None
    ]
    return tuple(one for one in found if not row.step or _unanswered(one.incident))


def _unanswered(incident: AnyRow) -> bool:
    life = incident.life or {}
    hush = (life.get("snoozed_until"), life.get("maintenance_until"))
    return incident.state == "open" and not any(hush)


def untried(db: Connection) -> int | None:
    """Return when the oldest message was due that nobody has tried to send yet; None where there is none."""
    m = t.message.c
    query = select(func.min(m.due_at)).where(m.state == "waiting", m.attempts == 0)
    found = db.execute(query).scalar()
    return None if found is None else int(found)


def sent(db: Connection, letter: Letter, now: int) -> None:
    """Note that the channel has taken a message."""
    _end(db, letter, state="sent", done_at=now, error=None)


def failed(db: Connection, letter: Letter, error: str, for_good: bool, now: int) -> bool:
    """Note that an attempt failed; return whether the message is dead: ``for_good``, or tried often enough."""
    dead = for_good or letter.attempt >= ATTEMPTS
    wait = min(FIRST_WAIT << min(letter.attempt - 1, 20), LONGEST_WAIT)
    after = {"state": "dead", "done_at": now} if dead else {"state": "waiting", "due_at": now + wait}
    _end(db, letter, error=error[:ERROR_LIMIT], **after)
    return dead


def revive(db: Connection, message_id: str, now: int) -> bool:
    """Let a dead message be tried again; return whether there is such a one."""
    mine = and_(t.message.c.id == message_id, t.message.c.state == "dead")
    again = {"state": "waiting", "due_at": now, "attempts": 1, "done_at": None}
    return bool(db.execute(update(t.message).where(mine).values(again)).rowcount)


def _end(db: Connection, letter: Letter, **values: Any) -> None:
    """End an attempt, unless its lease ran out and another attempt has begun."""
    m = t.message
    mine = and_(m.c.id == letter.id, m.c.state == "sending", m.c.attempts == letter.attempt)
    db.execute(update(m).where(mine).values(lease_until=None, **values))
