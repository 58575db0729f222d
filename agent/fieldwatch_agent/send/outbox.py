"""The outbox as the uplink sees it, with a connection of its own: what to send, and what has arrived.

A row leaves when the cloud has settled it, or when it cannot be sent: damaged on the disk (its checksum tells), or
refused for what it is. Those are set aside among the journal's rejects, counted, and announced with a ``gap``.
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
from fieldwatch_agent.send.damage import new_epoch, verified
from fieldwatch_agent.send.database import (
    TIME,
    Draft,
    connect,
    enqueue,
    given,
    read_meta,
    size,
    transaction,
    write_meta,
)
from fieldwatch_agent.send.message import Message

LOSSES = ("result", "alert")
"""Events whose loss is told. A gap that is lost tells of itself in the log; a gap about it might be lost as well."""


@dataclass(frozen=True)
class Depth:
    """How much waits in the outbox; ``oldest`` is RFC 3339."""

    events: int
    bytes: int
    oldest: str | None


class Outbox:
    """The uplink's side of a journal. Its methods may be used from any thread; closed, they raise
    :class:`sqlite3.ProgrammingError`: the journal is healing its file."""

    def __init__(self, path: Path) -> None:
        """Open the journal at ``path``, which :class:`.send.journal.Journal` has made."""
        self._lock = threading.RLock()
        self._db = connect(path)
        self.epoch = read_meta(self._db, "epoch") or ""
        self._sent = int(read_meta(self._db, "sent") or given(self._db))

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._db.close()

    def pending(self, after: int, limit: int) -> list[Message]:
        """Return at most ``limit`` messages with ``seq`` above ``after``, oldest first."""
        return self._messages("seq > ?", after, limit)

    def urgent(self, after: int, limit: int) -> list[Message]:
        """Return at most ``limit`` of the alerts with ``seq`` above ``after``, oldest first: they overtake everything.

        An alert may carry tens of kilobytes of evidence, so they are never read all at once.
        """
        # "<> 'result'" is what the index is for: without it every alert would cost a walk over a whole backlog
        return self._messages("event <> 'result' AND event = 'alert' AND seq > ?", after, limit)

    def others(self, after: int, limit: int) -> list[Message]:
        """Return at most ``limit`` messages that are no alerts with ``seq`` above ``after``, oldest first."""
        return self._messages("event <> 'alert' AND seq > ?", after, limit)

    def _messages(self, which: str, after: int, limit: int) -> list[Message]:
        query = f"SELECT seq, event, time, day, data, sum FROM outbox WHERE {which} ORDER BY seq LIMIT ?"  # noqa: S608
        while True:
            with self._lock:
                rows = self._rows(query, (after, limit))
            damaged = [row[0] for row in rows if not verified(*row[1:])]
            if damaged:
                self.give_up(damaged, "damaged", "damaged on the disk")
            sound = [Message(seq, event, time, data) for seq, event, time, _, data, _ in rows if seq not in damaged]
            if sound or not rows:
                return sound

    def _rows(self, query: str, values: tuple[int, int]) -> list[tuple[int, str, str, str, str, int | None]]:
        """Read rows as SQLite decodes them, which is quick; where one is no UTF-8, with its bytes escaped."""
        escaping = self._db.text_factory
        self._db.text_factory = str
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            if "decode" not in str(error):
                raise
        finally:
            self._db.text_factory = escaping
        return self._db.execute(query, values).fetchall()

    def give_up(self, numbers: Sequence[int], reason: str, detail: str) -> None:
        """Set messages aside that will never arrive, and say so: ``detail`` tells why, ``reason`` in a word."""
        now = clock.now()
        with self._lock, transaction(self._db) as db:
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
            ledger.settle(db)
            self._announce(db, now, lost, f"{detail}, set aside in the journal")

    def _announce(self, db: sqlite3.Connection, now: int, lost: dict[str, int], detail: str) -> None:
        if not any(lost.values()):
            return
        what = " and ".join(f"{count} {event}(s)" for event, count in lost.items() if count)
        gap = GapData(reason="evicted", detail=f"{what}: {detail}", lines=lost["result"])
        enqueue(db, clock.iso(now), [Draft("gap", clock.day_of(now), gap.model_dump_json())])

    def floor(self) -> int:
        """Return the low-water mark: what is below it is settled or given up, and never sent again."""
        # one statement: between two, a row may be added and acknowledged
        query = (
            "SELECT coalesce((SELECT min(seq) FROM outbox), "
            "(SELECT seq + 1 FROM sqlite_sequence WHERE name = 'outbox'), 1)"
        )
        with self._lock:
            return int(self._db.execute(query).fetchone()[0])

    def sending(self, seq: int) -> None:
        """Move the high-water mark before ``seq`` goes out: nothing above it can have been acknowledged to us.

        A disk that takes no more must not keep an alert from going out. Then the number is known only until the
        program ends, and its acknowledgement after that draws a new epoch for nothing.
        """
        if seq > self._sent:
            self._sent = seq
            with self._lock, suppress(sqlite3.OperationalError), transaction(self._db) as db:
                write_meta(db, "sent", str(seq))

    def foreign(self, ack: Ack) -> bool:
        """Tell whether an acknowledgement of our epoch speaks of what we never sent: it belongs to another life."""
        return delivery.foreign(ack, self._sent)

    def renew(self) -> None:
        """Draw a new epoch and say why: this file has been set back, and its numbers mean something else elsewhere."""
        detail = (
            "the cloud holds more than this journal ever sent: it was set back, as when a disk is restored from an "
            "image; all that waits is sent under a new epoch"
        )
        gap = GapData(reason="journal_rebuilt", detail=detail)
        now = clock.now()
        with self._lock, transaction(self._db) as db:
            epoch = new_epoch(db)
            enqueue(db, clock.iso(now), [Draft("gap", clock.day_of(now), gap.model_dump_json())])
        self.epoch, self._sent = epoch, 0

    def acknowledge(self, ack: Ack) -> int:
        """Delete what the cloud has settled and return how many messages that were.

        Results that are stored count as scored, those in quarantine as refused, with a ``gap``. Another epoch is
        ignored, and so is one that names a number which was never given out: it speaks of others.
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
        """Take out what is settled but not stored."""
        query = f"SELECT seq, event, day FROM outbox WHERE {settled} AND seq IN (SELECT value FROM json_each(?))"  # noqa: S608
        rows = db.execute(query, (*which, json.dumps(list(refused)))).fetchall()
        ledger.add_refused(db, [(day, ledger.QUARANTINED, 1) for _, event, day in rows if event == "result"])
        lost = {event: sum(row[1] == event for row in rows) for event in LOSSES}
        db.executemany("DELETE FROM outbox WHERE seq = ?", [(row[0],) for row in rows])
        self._announce(db, clock.now(), lost, "the cloud could not read them and keeps them in quarantine, not stored")

    def note(self, words: str) -> None:
        """Keep for ``status`` how the uplink is; a disk that takes no more loses nothing but this."""
        with self._lock, suppress(sqlite3.OperationalError), transaction(self._db) as db:
            write_meta(db, "uplink", words)

    def depth(self) -> Depth:
        """Return how much waits."""
        with self._lock:
            return depth(self._db)


def depth(db: sqlite3.Connection) -> Depth:
    """Return how much waits in the outbox of this journal."""
    events, oldest = db.execute("SELECT count(*), min(seq) FROM outbox").fetchone()
    row = db.execute("SELECT time FROM outbox WHERE seq = ?", (oldest,)).fetchone() if events else None
    time = row[0] if row is not None and isinstance(row[0], str) and TIME.fullmatch(row[0]) else None
    return Depth(events, size(db) if events else 0, time)


def without_evidence(data: str) -> str | None:
    """Return an alert's data without the readings around it, None where there were none."""
    value = json.loads(data)
    if value.pop("evidence", None) is None:
        return None
    return json.dumps(value)
