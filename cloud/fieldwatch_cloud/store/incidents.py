"""Keeps incidents: applies the rules of :mod:`.alerts` to what is stored, and writes their news and messages with it.

Promise: an incident, its timeline and the messages that follow from it are written in the transaction of the caller,
which is the one that stored what the device sent. Seeing the same again changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, and_, func, insert, or_, select, update

from fieldwatch_cloud.alerts import issues, life
from fieldwatch_cloud.alerts.life import Incident, News, NotNowError, Passed, Seen, Signal, begin, home, step
from fieldwatch_cloud.alerts.routing import Match, Routing, Subject, plan
from fieldwatch_cloud.alerts.sightings import FAULT, Sighting, of_alert
from fieldwatch_cloud.store import outbox
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.alerts import begun
from fieldwatch_cloud.store.cards import card
from fieldwatch_cloud.store.sql import chunks, insert_new

BUNDLE = "bundle"
"""The kind of the incident that says that a new bundle makes the fleet alert."""
CANDIDATES = 20
"""Newest incidents of a device and kind that a signal may belong to."""

log = logging.getLogger("fieldwatch.alerts")
_LIFE = TypeAdapter(Incident)
_Row = Any


class UnknownIncidentError(LookupError):
    """There is no such incident."""


class Incidents:
    """Applies the rules in a transaction; ``routing`` says who is told."""

    def __init__(self, routing: Routing) -> None:
        self.routing = routing

    def site(self, db: Connection, device: str) -> str:
        """Return the site of a device: the one that people set, else that of the configuration; "" if neither does."""
        return card(db, device).site or self.routing.site(device)

    # ---- what devices tell ----

    def see_alerts(self, db: Connection, alert_ids: Sequence[str], now: int) -> None:
        """Take in what has changed of these alerts. A mistake of ours here must not keep them from being stored:
        :meth:`left` finds them again.
        """
        try:
            with db.begin_nested():
                self._see_alerts(db, alert_ids, now)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            log.exception("alerts %s cannot be taken in; trying again", ", ".join(alert_ids[:5]))

    def wakes(self, db: Connection, now: int) -> bool:
        """Tell whether :meth:`pass_time` has something to do."""
        return db.execute(select(t.incident.c.id).where(t.incident.c.wake_at <= now).limit(1)).first() is not None

    def left(self, db: Connection) -> list[str]:
        """Return alerts that belong to no incident yet, some at a time."""
        a, s = t.alert.c, t.incident_signal.c
        query = select(a.alert_id).where(a.alert_id.not_in(select(s.key))).order_by(a.opened_at).limit(500)
        return list(db.execute(query).scalars())

    def _see_alerts(self, db: Connection, alert_ids: Sequence[str], now: int) -> None:
        found: list[Sighting] = []
        e = t.alert_event.c
        heard = select(func.max(e.received)).where(e.alert_id == t.alert.c.alert_id).scalar_subquery()
        for chunk in chunks(alert_ids):
            query = (
                select(t.alert, heard.label("heard_at")).where(t.alert.c.alert_id.in_(chunk)).order_by(begun(t.alert))
            )
            found += [of_alert(dict(row)) for row in db.execute(query).mappings()]
        self.see(db, found, now)

    def see(self, db: Connection, sightings: Iterable[Sighting], now: int) -> None:
        """Take in what was seen, in this order."""
        for one in sightings:
            self._see(db, one, now)

    def end(self, db: Connection, kind: str, source: str, now: int) -> None:
        """End what a source of this kind has open, if anything."""
        i = t.incident.c
        for row in db.execute(select(t.incident).where(i.kind == kind, i.state.in_(("open", "acknowledged")))).all():
            for one in _LIFE.validate_python(row.life).signals if row.life is not None else ():
                if one.source == source and one.ended_at is None:
                    ended = Sighting(row.device, kind, replace(one, ended_at=now), row.what, row.audience)
                    self._see(db, ended, now)

    def _see(self, db: Connection, one: Sighting, now: int) -> None:
        rows = self._candidates(db, one)
        lives = [_LIFE.validate_python(row.life) for row in rows]
        found = home(lives, one.signal)
        seen = Seen(now, one.signal, self._maintenance(db, one.device, one.kind, now), self.routing.late)
        if found is None:
            after, news = begin(seen)
            incident_id = self._make(db, one, after, now)
            self._gather(db, incident_id, one, now)
        else:
            incident_id = rows[found].id
            before = lives[found]
            after, news = step(before, seen)
            if after == before and not news:
                return
            words = {"what": one.what, "remedy": one.remedy} if _speaks_for(after, one.signal) else {}
            self._keep(db, incident_id, after, now, **words)
        insert_new(db, t.incident_signal, [{"key": one.signal.key, "incident_id": incident_id}])
        self._tell(db, incident_id, after, news, now)

    def _candidates(self, db: Connection, one: Sighting) -> list[_Row]:
        i, s = t.incident, t.incident_signal
        mine = select(s.c.incident_id).where(s.c.key == one.signal.key)
        same = and_(i.c.device == one.device, i.c.kind == one.kind)
        query = select(i).where(or_(i.c.id.in_(mine), same)).order_by(i.c.opened_at.desc()).limit(CANDIDATES)
        return [row for row in db.execute(query) if row.life is not None]

    def _make(self, db: Connection, one: Sighting, made: Incident, now: int) -> int:
        key = None
        if one.kind == FAULT:
            key = issues.key_of(one.kind, one.type, one.signal.sensors, one.shares, one.bundle or "")
        row = {name: getattr(one, name) for name in ("device", "kind", "audience", "type", "bundle", "what", "remedy")}
        row |= {"site": self.site(db, one.device), "begun": now, "issue_key": str(key) if key else None}
        row |= _columns(made) | {"wake_at": self._wake_at(db, one.device, one.kind, made, now)}
        return int(db.execute(insert(t.incident).returning(t.incident.c.id), row).scalar_one())

    # ---- issues ----

    def _gather(self, db: Connection, incident_id: int, one: Sighting, now: int) -> None:
        """Put an incident into the issue of its key, which begins with the second device; look for a jump."""
        i = t.incident.c
        key = issues.key_of(one.kind, one.type, one.signal.sensors, one.shares, one.bundle or "")
        if one.kind != FAULT or key is None:
            return
        alike = and_(i.issue_key == str(key), i.begun > now - issues.ISSUE_SPAN)
        found = db.execute(select(i.id, i.device, i.issue_id).where(alike)).all()
        if len({row.device for row in found}) >= issues.ISSUE_DEVICES:
            issue = next((row.issue_id for row in found if row.issue_id is not None), None)
            if issue is None:
                row = {"key": str(key), "opened_at": now, "last_at": now}
                row |= {"kind": key.kind, "type": key.type, "sensors": list(key.sensors), "bundle": key.bundle}
                issue = db.execute(insert(t.issue).returning(t.issue.c.id), row).scalar_one()
            db.execute(update(t.incident).where(alike).values(issue_id=issue))
            db.execute(update(t.issue).where(t.issue.c.id == issue).values(last_at=now))
        self._look_for_a_jump(db, one, now)

    def _look_for_a_jump(self, db: Connection, one: Sighting, now: int) -> None:
        i, e = t.incident.c, t.event.c
        recent = now - issues.JUMP_SPAN
        mine = and_(i.kind == FAULT, i.bundle == one.bundle, i.begun > recent)
        alerting = set(db.execute(select(i.device).distinct().where(mine)).scalars())
        if len(alerting) < issues.JUMP_DEVICES or one.bundle is None:
            return
        changed = {}
        for device, received, data in db.execute(
            select(e.device, e.received, e.data).where(e.type == "model", e.received > recent)
        ):
            bundle = data.get("bundle") or {}
            if data.get("transition") == "activated" and f"{bundle.get('name')}/{bundle.get('version')}" == one.bundle:
                changed[device] = received
        if issues.jumps(alerting, changed, now):
            what = f"{one.bundle} came to {len(changed)} devices in the last day, and {len(alerting)} of them alert"
            signal = Signal(f"{BUNDLE}:{one.bundle}", one.bundle, "critical", now)
            jump = Sighting("", BUNDLE, signal, what, "models", one.type, one.bundle)
            held = self._candidates(db, jump)
            if not any(row.bundle == one.bundle for row in held):
                self._see(db, jump, now)

    def _doubtful(self, db: Connection, row: _Row) -> bool:
        """Tell whether an incident comes from a bundle that makes the fleet alert: that is no fault of this device."""
        i = t.incident.c
        jump = and_(i.kind == BUNDLE, i.bundle == row.bundle, i.state.in_(("open", "acknowledged")))
        return row.kind == FAULT and db.execute(select(i.id).where(jump).limit(1)).first() is not None

    # ---- people and time ----

    def act(self, db: Connection, incident_id: int, event: life.Event) -> str:
        """Apply what a person did, and return the device.

        Raises :class:`UnknownIncidentError`, :class:`.life.NotNowError`.
        """
        row = db.execute(select(t.incident).where(t.incident.c.id == incident_id)).first()
        if row is None:
            raise UnknownIncidentError(incident_id)
        if row.life is None:
            raise NotNowError("what this server’s store holds of it is damaged")
        after, news = step(_LIFE.validate_python(row.life), event)
        self._keep(db, incident_id, after, event.at)
        self._tell(db, incident_id, after, news, event.at)
        return str(row.device)

    def pass_time(self, db: Connection, now: int) -> int:
        """Let time pass for those incidents that it changes; return how many."""
        i = t.incident.c
        rows = db.execute(select(t.incident).where(i.wake_at <= now).order_by(i.id).limit(500)).all()
        for row in rows:
            if row.life is None:
                db.execute(update(t.incident).where(i.id == row.id).values(wake_at=None))
                continue
            maintenance = self._maintenance(db, row.device, row.kind, now)
            after, news = step(_LIFE.validate_python(row.life), Passed(now, maintenance))
            self._keep(db, row.id, after, now)
            self._tell(db, row.id, after, news, now)
        return len(rows)

    def plan_maintenance(
        self, db: Connection, device: str, site: str, kind: str, begin_at: int, end: int, why: str, by: str, now: int
    ) -> int:
        """Write a maintenance window; what is live within it is hushed when the window begins."""
        row = {"device": device, "site": site, "kind": kind, "begin": begin_at, "end": end, "why": why, "by": by}
        made = db.execute(insert(t.maintenance).returning(t.maintenance.c.id), row | {"made_at": now}).scalar_one()
        self._wake(db, max(begin_at, now))
        return int(made)

    def end_maintenance(self, db: Connection, window: int, now: int) -> Any | None:
        """End a window that is planned or under way, and return it; None where it is over or there is none.

        What it has hushed is told when time passes next, if it is still news.
        """
        m = t.maintenance
        row = db.execute(select(m).where(m.c.id == window, m.c.end > now)).first()
        if row is not None:
            db.execute(update(m).where(m.c.id == window).values(end=now))
            self._wake(db, now)
        return row

    def _wake(self, db: Connection, at: int) -> None:
        """Look at everything that is live at this time, or before."""
        i = t.incident.c
        live = and_(i.state.in_(("open", "acknowledged")), or_(i.wake_at.is_(None), i.wake_at > at))
        db.execute(update(t.incident).where(live).values(wake_at=at))

    def _maintenance(self, db: Connection, device: str, kind: str, now: int) -> int | None:
        """Return when the last window ends that covers this; None where none does."""
        m = t.maintenance.c
        subject = Subject(device, kind, "warning", self.site(db, device))
        windows = db.execute(select(t.maintenance).where(m.begin <= now, m.end > now)).all()
        return max((row.end for row in windows if _covers(row, subject)), default=None)

    def _next_window(self, db: Connection, device: str, kind: str, now: int) -> int | None:
        """Return when the next window begins that covers this; None where none is planned."""
        m = t.maintenance.c
        subject = Subject(device, kind, "warning", self.site(db, device))
        windows = db.execute(select(t.maintenance).where(m.begin > now)).all()
        return min((row.begin for row in windows if _covers(row, subject)), default=None)

    # ---- keeping ----

    def _keep(self, db: Connection, incident_id: int, after: Incident, now: int, **more: Any) -> None:
        i = t.incident.c
        row = db.execute(select(i.device, i.kind).where(i.id == incident_id)).one()
        more["wake_at"] = self._wake_at(db, row.device, row.kind, after, now)
        db.execute(update(t.incident).where(i.id == incident_id).values(_columns(after) | more))

    def _wake_at(self, db: Connection, device: str, kind: str, after: Incident, now: int) -> int | None:
        """Return when time alone changes an incident, which a window that is planned does too."""
        window = self._next_window(db, device, kind, now) if after.live else None
        return min((at for at in (after.wake_at, window) if at is not None), default=None)

    def _tell(self, db: Connection, incident_id: int, after: Incident, news: list[News], now: int) -> None:
        """Write the timeline, and to whom each piece is told."""
        if not news:
            return
        row = db.execute(select(t.incident).where(t.incident.c.id == incident_id)).one()
        subject = Subject(row.device, row.kind, after.severity, row.site, row.audience)
        for one in news:
            event_id = self._write(db, incident_id, one)
            if not one.tell:
                continue
            digest = one.digest or self._doubtful(db, row)
            dues = plan(self.routing, subject, one.what, digest, now, row.begun, outbox.recent(db, now))
            outbox.enqueue(db, dues, event_id, now)
            if not dues:
                log.warning("nobody is told: no route takes %s of %s", row.kind, row.device or "this server")
                self._write(db, incident_id, replace(one, what="unrouted", tell=False, text="no route takes it"))

    def _write(self, db: Connection, incident_id: int, one: News) -> int:
        row = vars(one) | {"incident_id": incident_id, "told": one.tell}
        row = {name: row[name] for name in ("incident_id", "at", "what", "told", "by", "text")}
        return int(db.execute(insert(t.incident_event).returning(t.incident_event.c.id), row).scalar_one())


def _covers(window: _Row, subject: Subject) -> bool:
    return Match(device=(window.device,), site=(window.site,), kind=(window.kind,)).takes(subject)


def live_states(db: Connection) -> list[Sighting]:
    """Return the open incidents that are no faults, as they were seen last: what a restart must remember."""
    i = t.incident.c
    found = []
    for row in db.execute(select(t.incident).where(i.state.in_(("open", "acknowledged", "closed")), i.kind != FAULT)):
        open_ones = [one for one in _LIFE.validate_python(row.life).signals if one.ended_at is None] if row.life else []
        found += [Sighting(row.device, row.kind, one, row.what, row.audience, row.type) for one in open_ones[-1:]]
    return found


def unrouted(db: Connection, since: int) -> int:
    """Count the news since then of which nobody was told."""
    e = t.incident_event.c
    return int(db.execute(select(func.count()).where(e.what == "unrouted", e.at >= since)).scalar_one())


def _columns(incident: Incident) -> dict[str, Any]:
    return {
        "severity": incident.severity,
        "state": incident.state,
        "opened_at": incident.opened_at,
        "ended_at": incident.ended_at,
        "wake_at": incident.wake_at,
        "life": _LIFE.dump_python(incident, mode="json"),
    }


def _speaks_for(incident: Incident, signal: Signal) -> bool:
    """Tell whether an incident's words are this signal's: those of its newest opening, while that is open."""
    return signal.ended_at is None and signal.key == incident.signals[-1].key
