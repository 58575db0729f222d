"""What pages ask about incidents, issues, maintenance windows and messages. Nothing here writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select

from fieldwatch_cloud.alerts.routing import SELF_TEST
from fieldwatch_cloud.store import tables as t

Row = Any
LIVE = ("open", "acknowledged")


@dataclass(frozen=True)
class Case:
    """An incident with its life: ``events`` in order, ``alerts`` of the models, ``others`` of its issue."""

    row: Row
    events: list[Row]
    alerts: list[Row]
    issue: Row | None
    others: list[Row]
    messages: list[Row]


def incidents(db: Connection, live: bool | None, device: str | None, before: int | None, limit: int) -> list[Row]:
    """Return incidents, newest first, without self-tests; ``live`` None = all; ``before``: a number to go on from."""
    i = t.incident.c
    query = select(t.incident).where(i.kind != SELF_TEST)
    if live is not None:
        query = query.where(i.state.in_(LIVE) if live else i.state.not_in(LIVE))
    if device:
        query = query.where(i.device == device)
    if before is not None:
        query = query.where(i.id < before)
    return list(db.execute(query.order_by(i.id.desc()).limit(limit)))


def case(db: Connection, incident_id: int) -> Case | None:
    """Return one incident; None where there is none."""
    i, e, s, a = t.incident.c, t.incident_event.c, t.incident_signal.c, t.alert.c
    row = db.execute(select(t.incident).where(i.id == incident_id)).first()
    if row is None:
        return None
    mine = select(s.key).where(s.incident_id == incident_id)
    issue, others = None, []
    if row.issue_id is not None:
        issue = db.execute(select(t.issue).where(t.issue.c.id == row.issue_id)).first()
        alike = and_(i.issue_id == row.issue_id, i.id != incident_id)
        others = list(db.execute(select(t.incident).where(alike).order_by(i.id.desc()).limit(50)))
    told = (
        select(t.message)
        .join(t.message_item, t.message_item.c.message_id == t.message.c.id)
        .join(t.incident_event, e.id == t.message_item.c.event_id)
        .where(e.incident_id == incident_id)
        .distinct()
        .order_by(t.message.c.made_at, t.message.c.id)
        .limit(100)
    )
    return Case(
        row=row,
        events=list(db.execute(select(t.incident_event).where(e.incident_id == incident_id).order_by(e.id))),
        alerts=list(db.execute(select(t.alert).where(a.alert_id.in_(mine)).order_by(a.opened_at))),
        issue=issue,
        others=others,
        messages=list(db.execute(told)),
    )


def of_alert(db: Connection, alert_id: str) -> int | None:
    """Return the number of the incident that an alert belongs to; None where it is older than incidents."""
    found = db.execute(select(t.incident_signal.c.incident_id).where(t.incident_signal.c.key == alert_id)).scalar()
    return int(found) if found else None


def windows(db: Connection, now: int) -> list[Row]:
    """Return the maintenance windows that are not over, the next one first."""
    m = t.maintenance.c
    return list(db.execute(select(t.maintenance).where(m.end > now).order_by(m.begin)))


def dead_letters(db: Connection, limit: int) -> list[Row]:
    """Return the messages that no channel took, newest first."""
    m = t.message.c
    return list(db.execute(select(t.message).where(m.state == "dead").order_by(m.done_at.desc()).limit(limit)))


def waiting(db: Connection, limit: int) -> list[Row]:
    """Return the messages that wait for their time or another try."""
    m = t.message.c
    mine = and_(or_(m.state == "waiting", m.state == "sending"), m.channel != SELF_TEST)
    return list(db.execute(select(t.message).where(mine).order_by(m.due_at).limit(limit)))


def counts(db: Connection) -> dict[str, int]:
    """Count the messages by state, without self-tests."""
    m = t.message.c
    query = select(m.state, func.count()).where(m.channel != SELF_TEST).group_by(m.state)
    return {row[0]: row[1] for row in db.execute(query)}
