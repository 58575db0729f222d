"""The journal: one SQLite file in which everything that follows from a line commits together, or not at all.

What it promises
    * The read position, the results and alert states that follow from it, the ledger and the messages to send are
      one transaction. Kill the process anywhere, cut the power anywhere: nothing is lost, nothing counts twice.
    * A message leaves the outbox only when the cloud has acknowledged it as settled (:mod:`.send.outbox`), or when the
      outbox is full and a ``gap`` event, in the same transaction, reports what was evicted. The limit holds after each
      commit. Alerts are never evicted; as a last resort they lose their evidence.
    * ``epoch`` identifies this incarnation of the file, and ``seq`` is never reused within it: device, epoch and seq
      identify a message for good. A file restored from a disk image would break this; it is detected when the cloud
      acknowledges what this file never sent, and a new epoch is drawn (:meth:`.Outbox.renew`).
    * Damage is repaired, at a start or while running (:mod:`.send.damage`): reading the log again produces everything
      under the same natural keys of results and alerts, so the cloud stores nothing twice.
    * One agent per state folder (a lock file): a second one is refused, with the process that holds the lock.

Why it is built this way
    ``synchronous=FULL`` costs about a millisecond a minute and makes the promise hold under power loss. WAL lets the
    uplink's thread read and acknowledge on its own connection while the pipeline commits. Data is stored as the JSON
    text that is sent, so sending only copies it.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from fieldwatch_contract import clock
from fieldwatch_contract.events import HealthData, LedgerDay, OutboxState

from fieldwatch_agent import durable
from fieldwatch_agent.send import ledger, limit
from fieldwatch_agent.send.damage import open_sound
from fieldwatch_agent.send.database import (
    FILE,
    TIME,
    Damaged,
    Draft,
    JournalError,
    connect,
    enqueue,
    is_damage,
    read_meta,
    transaction,
    write_meta,
)
from fieldwatch_agent.send.outbox import Outbox, depth
from fieldwatch_agent.send.progress import COPIES, Progress

__all__ = [
    "FILE",
    "REJECTS_KEPT",
    "Commit",
    "Draft",
    "Journal",
    "JournalError",
    "Outbox",
    "Progress",
    "Reject",
    "read_progress",
    "read_status",
]

LOCK = "agent.lock"
REJECTS_KEPT = 1000
"""Refused lines kept for inspection, newest last."""
HEALTH_HOLD = clock.SECOND * 3600
"""While a health event is still unacknowledged, another one is queued only after this long (µs)."""
DAYS_KEPT = 40
"""Ledger days kept at least; older ones are deleted once their final counts were reported."""
DAYS_TOLD = 8
"""Number of newest ledger days in every health event."""
DAYS_AT_ONCE = 200
"""Most ledger days in one health event: a year of backlog is reported in two."""

log = logging.getLogger("fieldwatch.journal")


@dataclass(frozen=True)
class Reject:
    """A refused line, kept for inspection."""

    reason: str
    detail: str
    line: bytes


@dataclass(frozen=True)
class Commit:
    """Everything that follows from one block of lines."""

    progress: Progress
    read: Mapping[str, int]
    refused: Mapping[tuple[str, str], int]
    rejects: Sequence[Reject]
    drafts: Sequence[Draft]


class Journal:
    """The pipeline's side: it reads progress and commits.

    ``crashed``: whether the previous run ended without :meth:`stopped`.
    """

    def __init__(self, state_dir: Path, outbox_limit: int) -> None:
        """Open or create the journal in ``state_dir``; ``outbox_limit``: bytes, of the whole file.

        Raises :class:`.JournalError` where the folder cannot be written, or another agent is using it.
        """
        self.path = state_dir / FILE
        self._limit = outbox_limit
        self._suspicion = self._mended = ""
        self._mending = threading.Lock()
        self._outboxes: list[Outbox] = []
        with ExitStack() as opened:
            try:
                durable.make_folder(state_dir)
                opened.enter_context(durable.lock(state_dir / LOCK, owner=f"process {os.getpid()}"))
                self._db = open_sound(self.path)
            except durable.Busy as error:
                raise JournalError(
                    f"{state_dir}: another fieldwatch-agent works in this state folder ({error.strerror}): "
                    "stop it, or give this one a [state] dir of its own"
                ) from error
            except (OSError, sqlite3.Error) as error:
                raise JournalError(
                    f"{self.path}: cannot open the journal: {error}; is the folder writable, with room?"
                ) from error
            self._opened = opened.pop_all()
        self.epoch = ""
        self.crashed = self._begin()

    def close(self) -> None:
        """Close; everything committed stays."""
        self._db.close()
        self._opened.close()

    def stopped(self) -> None:
        """Record a clean shutdown; if the disk is full, the next start will take it for a crash."""
        with suppress(JournalError), self._write() as db:
            write_meta(db, "running", "")

    def open_outbox(self) -> Outbox:
        """Open the uplink's side. The journal closes it before it moves a damaged file away.

        Raises :class:`sqlite3.Error` where it cannot be opened now.
        """
        with self._mending:
            outbox = Outbox(self.path)
            self._outboxes.append(outbox)
        return outbox

    def close_outbox(self, outbox: Outbox, error: sqlite3.Error | None = None) -> None:
        """Close the uplink's side; ``error``: what made it fail. Damage is repaired in the journal's next operation."""
        outbox.close()
        with self._mending:
            self._outboxes = [other for other in self._outboxes if other is not outbox]
        if error is not None and is_damage(error):
            self._suspicion = str(error)

    def progress(self) -> Progress:
        """Return the progress of the last commit."""
        with self._reading():
            try:
                return Progress.from_json(read_meta(self._db, COPIES[0]))
            except ValueError as error:
                raise Damaged(str(error)) from error

    def commit(self, commit: Commit) -> None:
        """Write one block: position, ledger, results, alerts, messages, in one transaction.

        Raises :class:`.JournalError` where the disk is full or the file cannot be written; then nothing has changed,
        and the same block can be committed again.
        """
        now = clock.iso(clock.now())
        text = commit.progress.to_json()
        with self._write() as db:
            for key in COPIES:
                write_meta(db, key, text)
            ledger.add(db, "read", commit.read.items())
            ledger.add_refused(db, [(day, reason, lines) for (day, reason), lines in commit.refused.items()])
            enqueue(db, now, commit.drafts)
            if commit.rejects:
                db.executemany(
                    "INSERT INTO reject (at, reason, detail, line) VALUES (?, ?, ?, ?)",
                    [(now, reject.reason, reject.detail, reject.line) for reject in commit.rejects],
                )
                limit.keep_rejects(db, REJECTS_KEPT)
            limit.evict(db, self._limit, now)
        limit.shrink(self._db, self._limit)

    def enqueue(self, drafts: Iterable[Draft]) -> None:
        """Queue events that do not result from lines: gaps in the log, bundle changes."""
        now = clock.iso(clock.now())
        with self._write() as db:
            enqueue(db, now, drafts)
            limit.evict(db, self._limit, now)

    def report(self, health: HealthData, *, queue: bool = False) -> None:
        """Keep ``health`` for ``status``, queue it as an event, and record which ledger days it reports.

        While the last one is unacknowledged, at most one an hour is queued: the newest one contains everything.
        ``queue``: queue it all the same, because it has what the next one may not contain.
        """
        now = clock.now()
        text = health.model_dump_json()
        with self._write() as db:
            write_meta(db, "health", text)
            waiting = db.execute(
                "SELECT max(time) FROM outbox WHERE event <> 'result' AND event = 'health'"
            ).fetchone()[0]
            since = clock.parse_iso(waiting) if isinstance(waiting, str) and TIME.fullmatch(waiting) else 0
            if queue or now - since >= HEALTH_HOLD or since > now:
                enqueue(db, clock.iso(now), [Draft("health", clock.day_of(now), text)])
                db.executemany(
                    "UPDATE ledger SET told = ? WHERE day = ?",
                    [(day.model_dump_json(), day.day) for day in health.ledger],
                )
            ended = [(day.day,) for day, told in ledger.days(db)[:-DAYS_KEPT] if told and not day.pending]
            db.executemany("DELETE FROM ledger WHERE day = ?", ended)
            db.executemany("DELETE FROM refused WHERE day = ?", ended)
            limit.evict(db, self._limit, clock.iso(now))
        limit.shrink(self._db, self._limit)

    def news(self) -> list[LedgerDay]:
        """Return the ledger days for the next health event, oldest first.

        The newest days, and before them the days whose counts have changed since they were last reported: a backlog is
        read faster than it is reported, and the final count of each of its days must still be reported.
        """
        with self._reading(), transaction(self._db, "DEFERRED") as db:
            days = ledger.days(db)
        changed = [day for day, told in days[:-DAYS_TOLD] if not told]
        return changed[: DAYS_AT_ONCE - DAYS_TOLD] + [day for day, _ in days[-DAYS_TOLD:]]

    def told(self) -> bool:
        """Tell whether the current counts of every day were queued in a health event."""
        with self._reading(), transaction(self._db, "DEFERRED") as db:
            return all(told for _, told in ledger.days(db))

    def ledger(self) -> list[LedgerDay]:
        """Return all stored days, oldest first."""
        with self._reading():
            return ledger.read(self._db)

    def outbox(self) -> OutboxState:
        """Return the depth of the outbox as health reports it."""
        with self._reading():
            found = depth(self._db)
        return OutboxState(events=found.events, bytes=found.bytes, oldest=found.oldest)

    # ---- damage ----

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._healing("write", "is the disk full?"), transaction(self._db) as db:
            yield db

    def _reading(self) -> AbstractContextManager[None]:
        return self._healing("read", "is the disk sound?")

    @contextmanager
    def _healing(self, what: str, question: str) -> Iterator[None]:
        """Turn errors into :class:`.JournalError`, after repairing the file where it is damaged."""
        try:
            if self._suspicion:
                raise Damaged(self._suspicion)
            yield
        except Damaged as error:
            self._mend(str(error))
            raise JournalError(f"{self.path}: was damaged ({error}) and is repaired; going on with it") from error
        except sqlite3.Error as error:
            if not is_damage(error):
                raise JournalError(f"{self.path}: cannot {what} the journal: {error}; {question}") from error
            self._mend(str(error))
            raise JournalError(f"{self.path}: was damaged ({error}) and is repaired; going on with it") from error

    def _mend(self, damage: str) -> None:
        """Repair the file while running, as at a start; the uplink's connections are closed first.

        Damage that the integrity check does not find, but that shows again at once, is believed all the same.
        """
        with self._mending:
            for outbox in self._outboxes:
                outbox.close()
            self._outboxes.clear()
            self._db.close()
            again = damage if damage == self._mended else ""
            try:
                self._db = open_sound(self.path, again)
            except (OSError, sqlite3.Error) as error:
                raise JournalError(f"{self.path}: damaged ({damage}), and cannot be set aside: {error}") from error
            self._suspicion = ""
            self._mended = damage
            self.epoch = read_meta(self._db, "epoch") or ""

    def _begin(self) -> bool:
        """Record that we are running; return whether the previous run ended without a clean shutdown."""
        with self._reading():
            self.epoch = read_meta(self._db, "epoch") or ""
            crashed = bool(read_meta(self._db, "running"))
        with suppress(JournalError), self._write() as db:  # a full disk must not keep the agent from starting
            write_meta(db, "running", "yes")
        return crashed


def read_progress(path: Path) -> Progress:
    """Return the progress of the last commit, from a journal that may be in use; an empty one if there is no journal.

    Raises :class:`.JournalError` where it cannot be read.
    """
    if not path.exists():
        return Progress()
    try:
        with closing(connect(path)) as db:
            return Progress.from_json(read_meta(db, COPIES[0]))
    except (sqlite3.Error, ValueError) as error:
        raise JournalError(f"{path}: cannot read the journal: {error}") from error


def read_status(path: Path) -> dict[str, object]:
    """Return what ``status`` shows, from a journal that may be in use: epoch, progress, health, ledger, outbox, disk.

    ``damaged`` names what does not parse: the agent repairs it at its next start. Raises :class:`.JournalError` where
    there is no journal, or the file cannot be read at all.
    """
    status: dict[str, object] = {
        "epoch": None,
        "progress": None,
        "health": None,
        "ledger": [],
        "outbox": {"events": 0, "bytes": 0, "oldest": None},
        "disk_free": 0,
        "uplink": "",
        "alert_waiting": None,
        "last_alert": None,
        "rejects": [],
        "damaged": [],
    }
    try:
        path.stat()
    except FileNotFoundError:
        raise JournalError(f"{path}: no journal yet; has the agent run with this configuration?") from None
    except OSError as error:
        raise JournalError(f"{path}: {error.strerror}; use the agent's account, or root's") from error
    status["disk_free"] = shutil.disk_usage(path.parent).free
    damaged: list[str] = []
    try:
        with closing(connect(path)) as db:
            parts: dict[str, Callable[[], object]] = {
                "epoch": lambda: read_meta(db, "epoch"),
                "progress": lambda: _json(read_meta(db, COPIES[0])),
                "health": lambda: _json(read_meta(db, "health")),
                "ledger": lambda: [day.model_dump() for day in ledger.read(db)],
                "outbox": lambda: asdict(depth(db)),
                "uplink": lambda: read_meta(db, "uplink") or "",
                "alert_waiting": lambda: _newest_alert(db),
                "last_alert": lambda: _json(read_meta(db, "last_alert")),
                "rejects": lambda: _rejects(db),
            }
            for name, read in parts.items():
                try:
                    status[name] = read()
                except (ValueError, TypeError, AttributeError) as error:
                    damaged.append(f"{name}: {error}")
    except sqlite3.Error as error:
        remedy = "; the agent repairs it at its next start" if is_damage(error) else ""
        raise JournalError(f"{path}: cannot read the journal: {error}{remedy}") from error
    return status | {"damaged": damaged}


def _json(text: str | None) -> object:
    return json.loads(text) if text else None


def _newest_alert(db: sqlite3.Connection) -> object:
    row = db.execute("SELECT data FROM outbox WHERE event = 'alert' ORDER BY seq DESC LIMIT 1").fetchone()
    return _json(row[0]) if row is not None else None


def _rejects(db: sqlite3.Connection) -> list[dict[str, str]]:
    query = "SELECT at, reason, detail, line FROM reject ORDER BY id DESC LIMIT 10"
    return [
        {"at": at, "reason": reason, "detail": detail, "line": line.decode("utf-8", "replace")}
        for at, reason, detail, line in db.execute(query)
    ]
