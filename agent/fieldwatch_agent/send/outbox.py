"""The outbox as the uplink sees it, on a database connection of its own: what to send, and what has arrived.

A row leaves when the cloud has settled it, or when it can never be sent: damaged on the disk (its checksum is wrong),
or rejected by the broker because of its content. Such rows move to the journal's ``reject`` table (a dead-letter
queue), are counted, and announced with a ``gap``.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fieldwatch_contract import clock, delivery, topics
from fieldwatch_contract.events import Ack, GapData

from fieldwatch_agent.send import ledger
from fieldwatch_agent.send.database import (
    TIME,
    Draft,
    connect,
    enqueue,
    given,
    new_epoch,
    note_damage,
    raw,
    read_meta,
    release,
    size,
    transaction,
    verify,
    write_meta,
)
from fieldwatch_agent.send.message import Message

DAMAGED = "damaged on the disk"
LOSSES = ("result", "alert")
"""Events whose loss is announced with a gap. A lost gap is only logged: a gap about it might be lost as well."""


@dataclass(frozen=True)
class Depth:
    """How much is waiting in the outbox; ``oldest`` is RFC 3339."""

    events: int
    bytes: int
    oldest: str | None


class Outbox:
    """The uplink's side of a journal. Its methods may be used from any thread. After :meth:`close` they raise
    :class:`sqlite3.ProgrammingError`; the journal closes it while it repairs its file."""

    def __init__(self, path: Path) -> None:
        """Open the journal at ``path``, which :class:`.send.journal.Journal` has created."""
        self._lock = threading.RLock()
        self._db = connect(path)
        try:
            self.epoch = read_meta(self._db, "epoch") or ""
            self._sent = int(read_meta(self._db, "sent") or given(self._db))
        except BaseException:
            self._db.close()  # as long as it is open, no other connection sees the file afresh
            raise

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._db.close()

    def release(self) -> None:
        """Free the memory of cached pages."""
        with self._lock, suppress(sqlite3.Error):
            release(self._db)

    def pending(self, after: int, limit: int) -> list[Message]:
        """Return at most ``limit`` messages with ``seq`` above ``after``, oldest first."""
        return self._messages("seq > ?", after, limit)

    def urgent(self, after: int, limit: int) -> list[Message]:
        """Return at most ``limit`` of the alerts with ``seq`` above ``after``, oldest first: they have priority.

        An alert may carry tens of kilobytes of evidence, so they are never all read at once.
        """
        # "<> 'result'" makes SQLite use the partial index: otherwise every alert would cost a scan of the backlog
        return self._messages("event <> 'result' AND event = 'alert' AND seq > ?", after, limit)

    def others(self, after: int, limit: int) -> list[Message]:
        """Return at most ``limit`` messages other than alerts with ``seq`` above ``after``, oldest first."""
        return self._messages("event <> 'alert' AND seq > ?", after, limit)

    def _messages(self, which: str, after: int, limit: int) -> list[Message]:
        query = f"SELECT seq, event, time, day, data, sum FROM outbox WHERE {which} ORDER BY seq LIMIT ?"  # noqa: S608
        while True:
            with self._lock:
                rows = raw(self._db, query, (after, limit))
            sound, broken = verify(rows)
            if broken:
                self.give_up(broken, "damaged", DAMAGED)
                self._note_damage(f"{len(broken)} event(s) of the outbox were damaged and set aside")
            if sound or not rows:
                return sound

    def give_up(self, numbers: Sequence[int], reason: str, detail: str) -> None:
        """Move messages that can never be sent to the rejects, and announce it: why in words, ``reason`` in one."""
        with self._lock, transaction(self._db) as db:
            set_aside(db, numbers, reason, detail)

    def floor(self) -> int:
        """Return the low-water mark: everything below it is settled or evicted, and never sent again."""
        # a single statement: between two of them a row may be added and acknowledged
        query = (
            "SELECT coalesce((SELECT min(seq) FROM outbox), "
            "(SELECT seq + 1 FROM sqlite_sequence WHERE name = 'outbox'), 1)"
        )
        with self._lock:
            return int(self._db.execute(query).fetchone()[0])

    def sending(self, seq: int) -> None:
        """Raise the high-water mark before ``seq`` is sent: nothing above it can have been acknowledged to us.

        A full disk must not keep an alert from going out. In that case the mark is kept in memory only, and an
        acknowledgement that comes after a restart causes a new epoch that was not necessary.
        """
        if seq > self._sent:
            self._sent = seq
            with self._lock, suppress(sqlite3.OperationalError), transaction(self._db) as db:
                write_meta(db, "sent", str(seq))

    def foreign(self, ack: Ack) -> bool:
        """Tell whether an acknowledgement of our epoch covers what we never sent: this file was set back."""
        return delivery.foreign(ack, self._sent)

    def renew(self) -> None:
        """Draw a new epoch and announce why: this file was set back, so its numbers stand for other events."""
        detail = (
            "the cloud holds more than this journal ever sent: it was set back, as when a disk is restored from an "
            "image; everything waiting is sent under a new epoch"
        )
        gap = GapData(reason="journal_rebuilt", detail=detail)
        now = clock.now()
        with self._lock, transaction(self._db) as db:
            epoch = new_epoch(db)
            note_damage(db, detail)
            enqueue(db, clock.iso(now), [Draft("gap", clock.day_of(now), gap.model_dump_json())])
        self.epoch, self._sent = epoch, 0

    def acknowledge(self, ack: Ack) -> int:
        """Delete what the cloud has settled and return how many messages were deleted.

        Stored results count as scored, those in quarantine as refused, with a ``gap``. An acknowledgement of another
        epoch is ignored, and so is one that names a number we never assigned.
        """
        with self._lock:
            if ack.epoch != self.epoch or delivery.foreign(ack, given(self._db)):
                return 0
            beyond = json.dumps([seq for seq in ack.also if seq > ack.upto])
            settled = "(seq <= ? OR seq IN (SELECT value FROM json_each(?)))"
            with transaction(self._db) as db:
                if ack.refused:
                    self._refuse(db, settled, (ack.upto, beyond), ack.refused)
                query = (
                    f"SELECT day, count(*) FROM outbox NOT INDEXED WHERE event = 'result' AND {settled} GROUP BY day"  # noqa: S608
                )
                ledger.add(db, "scored", db.execute(query, (ack.upto, beyond)).fetchall())
                return int(db.execute(f"DELETE FROM outbox WHERE {settled}", (ack.upto, beyond)).rowcount)  # noqa: S608

    def _refuse(self, db: sqlite3.Connection, settled: str, which: tuple[int, str], refused: Sequence[int]) -> None:
        """Remove what is settled but not stored (negative acknowledgement)."""
        query = f"SELECT seq, event, day FROM outbox WHERE {settled} AND seq IN (SELECT value FROM json_each(?))"  # noqa: S608
        rows = db.execute(query, (*which, json.dumps(list(refused)))).fetchall()
        ledger.add_refused(db, [(day, ledger.QUARANTINED, 1) for _, event, day in rows if event == "result"])
        lost = {event: sum(row[1] == event for row in rows) for event in LOSSES}
        db.executemany("DELETE FROM outbox WHERE seq = ?", [(row[0],) for row in rows])
        _announce(db, clock.now(), lost, "the cloud could not read them and keeps them in quarantine, not stored")

    def _note_damage(self, what: str) -> None:
        with self._lock, suppress(sqlite3.OperationalError), transaction(self._db) as db:
            note_damage(db, what)

    def note(self, words: str) -> None:
        """Keep the uplink's state for ``status``; if the disk is full, only this is lost."""
        with self._lock, suppress(sqlite3.OperationalError), transaction(self._db) as db:
            write_meta(db, "uplink", words)

    def depth(self) -> Depth:
        """Return how much is waiting."""
        with self._lock:
            return depth(self._db)


def set_aside(db: sqlite3.Connection, numbers: Sequence[int], reason: str, detail: str) -> None:
    """Do what :meth:`Outbox.give_up` does, in the caller's transaction."""
    now = clock.now()
    lost = dict.fromkeys(LOSSES, 0)
    for number in numbers:
        row = db.execute("SELECT event, CAST(data AS BLOB) FROM outbox WHERE seq = ?", (number,)).fetchone()
        if row is None:
            continue
        if (event := row[0] if row[0] in topics.EVENTS else "result") in lost:
            lost[event] += 1
        db.execute(
            "INSERT INTO reject (at, reason, detail, line) VALUES (?, ?, ?, ?)",
            (clock.iso(now), reason, f"event {number} in the outbox: {detail}", row[1]),
        )
        db.execute("DELETE FROM outbox WHERE seq = ?", (number,))
    ledger.settle(db, lost["result"])
    _announce(db, now, lost, f"{detail}, set aside in the journal")


def damaged(db: sqlite3.Connection) -> list[int]:
    """Return the numbers of all damaged messages."""
    found: list[int] = []
    after = 0
    while rows := raw(db, "SELECT seq, event, time, day, data, sum FROM outbox WHERE seq > ? LIMIT 1000", (after,)):
        found += verify(rows)[1]
        after = rows[-1][0]
    return found


def _announce(db: sqlite3.Connection, now: int, lost: dict[str, int], detail: str) -> None:
    if not any(lost.values()):
        return
    what = " and ".join(f"{count} {event}(s)" for event, count in lost.items() if count)
    gap = GapData(reason="evicted", detail=f"{what}: {detail}", lines=lost["result"])
    enqueue(db, clock.iso(now), [Draft("gap", clock.day_of(now), gap.model_dump_json())])


def depth(db: sqlite3.Connection) -> Depth:
    """Return how much is waiting in the outbox of this journal."""
    events, oldest = db.execute("SELECT count(*), min(seq) FROM outbox").fetchone()
    row = db.execute("SELECT time FROM outbox WHERE seq = ?", (oldest,)).fetchone() if events else None
    time = row[0] if row is not None and isinstance(row[0], str) and TIME.fullmatch(row[0]) else None
    return Depth(events, size(db) if events else 0, time)


def lighter(data: bytes) -> str | None:
    """Return an alert's data without what it was made of, or else without its evidence; None where it has none."""
    value = json.loads(data)
    evidence = value.get("evidence")
    if not evidence:
        return None
    if evidence.pop("exact", ""):
        return json.dumps(value)
    return without_evidence(data)


def without_evidence(data: bytes) -> str | None:
    """Return an alert's data without its evidence, None where it has none."""
    value = json.loads(data)
    if value.pop("evidence", None) is None:
        return None
    return json.dumps(value)
