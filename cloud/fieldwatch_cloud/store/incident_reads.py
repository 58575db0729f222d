"""What pages ask about incidents, issues, maintenance windows and messages. Nothing here writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select

from fieldwatch_cloud.alerts.routing import SELF_TEST
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.sql import containing

Row = Any
LIVE = ("open", "acknowledged")
_WAITS = and_(t.incident.c.state == "open", t.incident.c.wake_at.is_(None))
"""Nobody has answered, and it is not hushed."""
_URGENCY = (
    case((_WAITS, 0), (t.incident.c.state == "acknowledged", 1), (t.incident.c.state == "open", 2), else_=3),
    t.incident.c.severity != "critical",
    t.incident.c.id.desc(),
)
"""What waits for somebody first; then what is taken, what is hushed, what is over; the worst of each first."""


@dataclass(frozen=True)
class Wanted:
    """Which incidents: ``live`` None = all; ``text`` in the device, its name, site or tags, or in what it is;
    ``site`` exactly.
    """

    live: bool | None = True
    text: str = ""
    site: str = ""


@dataclass(frozen=True)
class Case:
    """An incident with its life: ``events`` in order, ``alerts`` of the models with their ``steps`` and ``verdicts``,
    ``others`` of its issue.
    """

    row: Row
    events: list[Row]
    alerts: list[Row]
    steps: list[Row]
    verdicts: list[Row]
    issue: Row | None
    others: list[Row]
    messages: list[Row]


def incidents(db: Connection, wanted: Wanted, limit: int, skip: int = 0) -> list[Row]:
    """Return incidents, the most urgent first, without self-tests."""
    query = select(t.incident).where(_fits(wanted)).order_by(*_URGENCY)
    return list(db.execute(query.limit(limit).offset(skip)))


def numbered(db: Connection, live: bool | None, device: str | None, before: int | None, limit: int) -> list[Row]:
    """Return incidents by number, the newest first, without self-tests: a list in pages that stay what they are.

    ``live`` None = all; ``before``: a number to go on from.
    """
    i = t.incident.c
    query = select(t.incident).where(i.kind != SELF_TEST)
    if live is not None:
        query = query.where(i.state.in_(LIVE) if live else i.state.not_in(LIVE))
    if device:
        query = query.where(i.device == device)
    if before is not None:
        query = query.where(i.id < before)
    return list(db.execute(query.order_by(i.id.desc()).limit(limit)))


def unanswered(db: Connection) -> int:
    """Count the incidents that wait for somebody."""
    query = select(func.count()).select_from(t.incident).where(_WAITS, t.incident.c.kind != SELF_TEST)
    return int(db.execute(query).scalar_one())


def case_of(db: Connection, incident_id: int) -> Case | None:
    """Return one incident; None where there is none."""
    i, e, s, a = t.incident.c, t.incident_event.c, t.incident_signal.c, t.alert.c
    row = db.execute(select(t.incident).where(i.id == incident_id)).first()
    if row is None:
        return None
    mine = select(s.key).where(s.incident_id == incident_id)
    steps = [column for column in t.alert_event.c if column.name != "evidence"]
    issue, others = None, []
    if row.issue_id is not None:
        issue = issue_of(db, row.issue_id)
        others = [one for one in of_issue(db, row.issue_id, 50) if one.id != incident_id]
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
        steps=list(db.execute(select(*steps).where(t.alert_event.c.alert_id.in_(mine)).order_by(t.alert_event.c.ts))),
        verdicts=list(db.execute(select(t.verdict).where(t.verdict.c.alert_id.in_(mine)).order_by(t.verdict.c.id))),
        issue=issue,
        others=others,
        messages=list(db.execute(told)),
    )


def of_alert(db: Connection, alert_id: str) -> int | None:
    """Return the number of the incident that an alert belongs to; None where it is older than incidents."""
    found = db.execute(select(t.incident_signal.c.incident_id).where(t.incident_signal.c.key == alert_id)).scalar()
    return int(found) if found else None


def issues(db: Connection, limit: int, live: bool = False) -> list[Row]:
    """Return issues, the newest first, each with how many ``devices`` and ``incidents`` it has, and how many ``wait``.

    ``live``: only those of which an incident is still live.
    """
    i = t.incident.c
    counted = (
        select(
            i.issue_id,
            func.count(i.device.distinct()).label("devices"),
            func.count().label("incidents"),
            func.sum(case((_WAITS, 1), else_=0)).label("wait"),
            func.sum(case((i.state.in_(LIVE), 1), else_=0)).label("live"),
        )
        .where(i.issue_id.is_not(None))
        .group_by(i.issue_id)
        .subquery()
    )
    query = select(t.issue, counted.c.devices, counted.c.incidents, counted.c.wait, counted.c.live).join(
        counted, counted.c.issue_id == t.issue.c.id
    )
    if live:
        query = query.where(counted.c.live > 0)
    return list(db.execute(query.order_by(t.issue.c.last_at.desc()).limit(limit)))


def issue_of(db: Connection, issue_id: int) -> Row | None:
    """Return one issue; None where there is none."""
    return db.execute(select(t.issue).where(t.issue.c.id == issue_id)).first()


def of_issue(db: Connection, issue_id: int, limit: int) -> list[Row]:
    """Return the incidents of an issue, the most urgent first."""
    query = select(t.incident).where(t.incident.c.issue_id == issue_id).order_by(*_URGENCY)
    return list(db.execute(query.limit(limit)))


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


def _fits(wanted: Wanted) -> ColumnElement[bool]:
    i = t.incident.c
    rules: Sequence[ColumnElement[bool]] = [i.kind != SELF_TEST]
    if wanted.live is not None:
        rules = [*rules, i.state.in_(LIVE) if wanted.live else i.state.not_in(LIVE)]
    if wanted.site:
        rules = [*rules, i.site == wanted.site]
    if wanted.text:
        named = select(t.card.c.device).where(
            or_(containing(t.card.c.name, wanted.text), containing(t.card.c.tags, wanted.text))
        )
        inside = [containing(column, wanted.text) for column in (i.device, i.what, i.site)]
        rules = [*rules, or_(*inside, i.device.in_(named))]
    return and_(*rules)
