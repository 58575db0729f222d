"""The store: one transaction per batch of events, idempotent, so that the effect is exactly once.

What it promises
    * :meth:`Store.ingest` commits the whole batch together with the record of what was delivered, or nothing. Only then
      may the caller acknowledge.
    * Delivering again, in any order and in any batches, changes nothing: rows have natural keys and the first one wins
      (other content under the same key is counted as a conflict, another event under the same number is set aside), the
      hourly rollup is updated only from rows that were really inserted, and what is replaced only moves forward: a
      device's report and ledger by their place in its journal (:mod:`.store.devices`), its newest reading and an alert
      by the times in its log.
    * What cannot be read is kept once in ``quarantine`` and never blocks the rest.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fieldwatch_contract import clock, topics
from fieldwatch_contract.clock import parse_iso
from fieldwatch_contract.commands import Arguments, Command, Kind
from fieldwatch_contract.delivery import Receipt
from fieldwatch_contract.events import Verdicts
from fieldwatch_contract.verdicts import VERDICTS
from pydantic_core import to_json
from sqlalchemy import Connection, delete, func, insert, select, tuple_

from fieldwatch_cloud.alerts.routing import Routing
from fieldwatch_cloud.live import LiveFeed, Notice
from fieldwatch_cloud.store import audit, cards, commands, inventory
from fieldwatch_cloud.store import notices as feed
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.alerts import add_transitions
from fieldwatch_cloud.store.batch import Batch, HealthSeen, Refused, ReplySeen, StateSeen
from fieldwatch_cloud.store.cards import Card
from fieldwatch_cloud.store.database import Database
from fieldwatch_cloud.store.devices import advance_devices, balance, connect, hold
from fieldwatch_cloud.store.incidents import Incidents
from fieldwatch_cloud.store.receipts import all_receipts, settle
from fieldwatch_cloud.store.results import add_results
from fieldwatch_cloud.store.said import documents
from fieldwatch_cloud.store.sql import chunks, insert_new, insert_new_keys

REUSED = "its number stands for another event: the device's journal was set back, as by a restored disk image"
QUARANTINE_KEPT = 10_000
"""Number of newest refused payloads kept."""

UserVerdict = Literal["real", "false", "unclear"]
USER_VERDICTS: tuple[UserVerdict, ...] = ("real", "false", "unclear")


@dataclass(frozen=True)
class Outcome:
    """What a batch changed. ``receipts``: what to acknowledge, by device; ``notices`` are already on the live feed."""

    receipts: list[tuple[str, Receipt]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    inserted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    refused: int = 0


class Store(Database):
    """The database and the live feed of its changes. Thread-safe."""

    def __init__(self, url: str, live: LiveFeed | None = None, routing: Routing | None = None) -> None:
        """Open the database as :class:`.Database` does; ``routing``: who is told of what (default: nobody)."""
        super().__init__(url, live)
        self.incidents = Incidents(routing or Routing())

    def ingest(self, batch: Batch, received: int | None = None) -> Outcome:
        """Store a batch in one transaction and tell the live feed; ``received`` in µs, default now.

        Raises :class:`sqlalchemy.exc.DataError`, :class:`sqlalchemy.exc.IntegrityError`, :class:`ValueError`,
        :class:`TypeError`, :class:`OverflowError`, or a :class:`sqlalchemy.exc.StatementError` around one of the last
        three, where the database will not take these values (set the offending message aside); any other
        :class:`sqlalchemy.exc.SQLAlchemyError` where it cannot be written now (try again).
        """
        now = clock.now() if received is None else received
        with self.write() as db:
            inserted, conflicts = add_results(db, batch.results, now)
            insert_new(db, t.reading, batch.readings)
            new_events, reused = _add_events(db, batch.events, now)
            balance(db, batch.healths)
            new_alerts, transitions = add_transitions(db, batch.alerts, now)
            strange = commands.answer(db, batch.replies, now)
            aside = [*batch.refused, *strange, *reused]
            _quarantine(db, aside, now)
            hold(db, batch, now)
            states = connect(db, batch.states, now)  # an "online" names the epoch of what comes with it
            epochs, newest = advance_devices(db, batch, now)
            inventory.keep(db, batch.healths, epochs)
            if new_alerts:
                self.incidents.see_alerts(db, new_alerts, now)
            receipts = settle(db, batch)
            notices = _notices(db, inserted, new_alerts, new_events, newest, states)
            notices += [_answered(seen, now) for seen in batch.replies]
            feed.write(db, self.origin, notices)
        self.live.publish(notices)
        taken = len(inserted) + transitions + len(new_events)
        offered = len(batch.results) + len(batch.alerts) + len(batch.events)
        return Outcome(receipts, notices, taken, offered - taken, conflicts, len(aside))

    def name(self, device: str, new: Card, who: str) -> bool:
        """Write what people call a device, and in the audit trail what it was.

        Returns False if there is no such device.
        """
        with self.write() as db:
            if db.execute(select(t.device.c.id).where(t.device.c.id == device)).first() is None:
                return False
            old = cards.card(db, device)
            cards.write(db, device, new)
            if new.site != old.site:
                cards.move(db, device, self.incidents.site(db, device))
            audit.record(db, who, "device.name", device, f"{new}, before: {old}", clock.now())
            told = [Notice("event", device, {"type": "named", "time": clock.now(), "data": {}})]
            feed.write(db, self.origin, told)
        self.live.publish(told)
        return True

    def receipts(self) -> list[tuple[str, Receipt]]:
        """Return the receipt of every device in its current epoch, to acknowledge to all of them after a restart."""
        with self.read() as db:
            return all_receipts(db)

    def said(self, after: int) -> tuple[int, dict[str, Verdicts]]:
        """Return what devices are to be told of verdicts newer than ``after``; see :func:`.store.said.documents`."""
        with self.read() as db:
            return documents(db, after, clock.now())

    def commands_due(self) -> list[tuple[Command, int]]:
        """Return the commands to publish now; see :func:`.store.commands.due`."""
        with self.read() as db:
            return commands.due(db, clock.now())

    def commands_published(self, names: Iterable[str]) -> None:
        """Note that commands were published."""
        with self.write() as db:
            commands.published(db, names, clock.now())

    def give_command(self, device: str, kind: Kind, arguments: Arguments, who: str) -> str:
        """Store a command of a person and return its id; see :func:`.store.commands.give`."""
        now = clock.now()
        with self.write() as db:
            name = commands.give(db, device, kind, arguments, who, now)
            told = [Notice("event", device, {"type": "command", "time": now, "data": {"id": name}})]
            feed.write(db, self.origin, told)
        self.live.publish(told)
        return name

    def add_verdict(self, alert_id: str, verdict: UserVerdict, note: str = "", who: str = "") -> bool:
        """Store a user's verdict on an alert, a label. Returns False if there is no such alert.

        ``who``: whose it is, as the audit trail writes it; without one it is not in there.
        """
        return self.add_verdicts([alert_id], verdict, note, who) == 1

    def add_verdicts(self, alert_ids: Sequence[str], verdict: UserVerdict, note: str = "", who: str = "") -> int:
        """Store one verdict on several alerts, those of an incident, together; return on how many there are."""
        now = clock.now()
        notices = []
        with self.write() as db:
            for alert_id in alert_ids:
                device = db.execute(select(t.alert.c.device).where(t.alert.c.alert_id == alert_id)).scalar()
                if device is None:
                    continue
                row = {"alert_id": alert_id, "verdict": verdict, "note": note, "at": now}
                db.execute(insert(t.verdict), row)
                if who:
                    audit.record(db, who, "alert.judge", f"alert {alert_id} of {device}", f"{verdict}: {note}", now)
                notices.append(Notice("verdict", device, row))
            feed.write(db, self.origin, notices)
        self.live.publish(notices)
        return len(notices)


def _answered(seen: ReplySeen, now: int) -> Notice:
    data = {"id": seen.reply.command, "outcome": seen.reply.outcome}
    return Notice("event", seen.device, {"type": "reply", "time": now, "data": data})


def _add_events(db: Connection, rows: list[dict[str, Any]], now: int) -> tuple[list[dict[str, Any]], list[Refused]]:
    """Insert events; return the new ones, and those whose number stands for another event already.

    A device whose disk was restored from an image gives numbers out again, until it hears of the first ones.
    """
    unique = {(row["device"], row["epoch"], row["seq"]): row | {"received": now} for row in reversed(rows)}
    new = insert_new_keys(db, t.event, [unique[key] for key in sorted(unique)])
    e = t.event.c
    reused = []
    for chunk in chunks([key for key in sorted(unique) if key not in new]):
        query = select(e.device, e.epoch, e.seq, e.type, e.time).where(tuple_(e.device, e.epoch, e.seq).in_(chunk))
        for *key, kind, time in db.execute(query):
            row = unique[tuple(key)]
            if (kind, time) != (row["type"], row["time"]):
                topic = topics.topic(row["device"], topics.channel_of(row["type"]))
                reused.append(Refused(topic, REUSED, to_json({name: row[name] for name in ("epoch", "seq", "data")})))
    return [unique[key] for key in sorted(new)], reused


def _quarantine(db: Connection, refused: list[Refused], now: int) -> None:
    if not refused:
        return
    rows = {}
    for item in refused:
        digest = hashlib.sha256(b"\0".join([item.topic.encode(), item.reason.encode(), item.payload])).hexdigest()
        rows[digest] = item._asdict() | {"sha256": digest, "received": now}
    insert_new(db, t.quarantine, list(rows.values()))
    newest = select(func.max(t.quarantine.c.id)).scalar_subquery()
    db.execute(delete(t.quarantine).where(t.quarantine.c.id <= newest - QUARANTINE_KEPT))


def _notices(
    db: Connection,
    results: list[dict[str, Any]],
    alerts: list[str],
    events: list[dict[str, Any]],
    newest: Sequence[HealthSeen],
    states: list[StateSeen],
) -> list[Notice]:
    """Return what is news; a report only where it is its device's newest."""
    notices = []
    by_device: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in results:
        by_device[row["device"]].append(row)
    for device, rows in by_device.items():
        ts = max(row["ts"] for row in rows)
        scores = [_score(row) for row in rows if row["ts"] == ts]
        notices.append(Notice("result", device, {"ts": ts, "n": len({row["ts"] for row in rows}), "scores": scores}))
    for chunk in chunks(alerts):
        for alert in db.execute(select(t.alert).where(t.alert.c.alert_id.in_(chunk))).mappings():
            notices.append(Notice("alert", alert["device"], dict(alert)))
    notices += [Notice("health", seen.device, seen.event.data.model_dump(mode="json")) for seen in newest]
    for row in events:
        if row["type"] != "health":
            data = {"type": row["type"], "time": row["time"], "data": row["data"]}
            notices.append(Notice("event", row["device"], data))
    for seen in states:
        since = parse_iso(seen.state.since)
        data = {"status": seen.state.status, "since": since, "reason": seen.state.reason}
        notices.append(Notice("state", seen.device, data))
    return notices


def _score(row: dict[str, Any]) -> dict[str, Any]:
    shown = {name: row[name] for name in ("model", "kind", "score", "threshold", "sensors", "shares")}
    return shown | {"verdict": VERDICTS[row["verdict"]].value}
