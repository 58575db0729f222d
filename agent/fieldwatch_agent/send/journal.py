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
    * One agent per state folder (a lock file): a second one is refused, with the process that holds the lock. And one
      device (:meth:`Journal.claim`): what one instrument did is never told as another's.

Why it is built this way
    ``synchronous=FULL`` costs about a millisecond a minute and makes the promise hold under power loss. WAL lets the
    uplink's thread read and acknowledge on its own connection while the pipeline commits. Data is stored as the JSON
    text that is sent, so sending only copies it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fieldwatch_contract import clock
from fieldwatch_contract.alerts import Said
from fieldwatch_contract.commands import ReplyData
from fieldwatch_contract.events import HealthData, LedgerDay, OutboxState, Verdicts

from fieldwatch_agent.send import ledger, limit, raised, said, seen
from fieldwatch_agent.send.database import (
    COMMANDS,
    DEVICE,
    FILE,
    RAISED,
    SAID,
    TIME,
    Damaged,
    Draft,
    JournalError,
    JournalGone,
    damage_noted,
    enqueue,
    read_meta,
    transaction,
    write_meta,
)
from fieldwatch_agent.send.file import JournalFile
from fieldwatch_agent.send.outbox import Outbox, depth
from fieldwatch_agent.send.progress import COPIES, Progress
from fieldwatch_agent.send.raised import Raised
from fieldwatch_agent.send.seen import Seen
from fieldwatch_agent.send.view import foreign, read_progress, read_status

__all__ = [
    "FILE",
    "REJECTS_KEPT",
    "Commit",
    "Draft",
    "Journal",
    "JournalError",
    "JournalGone",
    "Outbox",
    "Progress",
    "Reject",
    "read_progress",
    "read_status",
]

REJECTS_KEPT = 1000
"""Refused lines kept for inspection, newest last."""
HEALTH_HOLD = clock.SECOND * 3600
"""While a health event is still unacknowledged, another one is queued only after this long (µs)."""
DAMAGE_TOLD = clock.DAY
"""Damage is a trouble for this long after it was found (µs)."""
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
        self._file = JournalFile(state_dir)
        self._limit = outbox_limit
        self.crashed = self._begin()

    def claim(self, device: str) -> None:
        """Make this the journal of ``device``, where it is nobody's yet.

        Raises :class:`.JournalError` where it is another device's: what waits would be sent, and what alerts would be
        continued, as this one's.
        """
        with self._file.reading():
            owner = read_meta(self._file.db, DEVICE)
        if owner is None:
            with suppress(JournalError), self._file.write() as db:  # with a full disk, at the next start
                write_meta(db, DEVICE, device)
        elif owner != device:
            raise JournalError("; ".join(foreign(self.path.parent, owner, device)))

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    @property
    def epoch(self) -> str:
        """The file's incarnation, as of when it was opened or repaired."""
        return self._file.epoch

    def release(self) -> None:
        """Free the memory in which SQLite caches pages of the file, on both sides; where it cannot, it keeps it."""
        with suppress(JournalError):
            self._file.release()

    def check(self) -> None:
        """Look for damage that nothing has met yet. Raises :class:`.JournalError` where there was some: it is repaired.

        Reads the whole file: a second for some hundred megabytes.
        """
        self._file.check()

    def close(self) -> None:
        """Close; everything committed stays."""
        self._file.close()

    def stopped(self) -> None:
        """Record a clean shutdown; if the disk is full, the next start will take it for a crash."""
        with suppress(JournalError), self._file.write() as db:
            write_meta(db, "running", "")

    def open_outbox(self) -> Outbox:
        """Open the uplink's side. The journal closes it before it moves a damaged file away.

        Raises what :data:`.database.UNUSABLE` names where it cannot be opened now.
        """
        return self._file.open_outbox()

    def close_outbox(self, outbox: Outbox, error: Exception | None = None) -> None:
        """Close the uplink's side; ``error``: what made it fail. Damage is repaired in the journal's next operation."""
        self._file.close_outbox(outbox, error)

    def progress(self) -> Progress:
        """Return the progress of the last commit."""
        with self._file.reading():
            try:
                return Progress.from_json(read_meta(self._file.db, COPIES[0]))
            except ValueError as error:
                raise Damaged(str(error)) from error

    def commit(self, commit: Commit) -> None:
        """Write one block: position, ledger, results, alerts, messages, in one transaction.

        Raises :class:`.JournalError` where the disk is full or the file cannot be written; then nothing has changed,
        and the same block can be committed again.
        """
        now = clock.iso(clock.now())
        text = commit.progress.to_json()
        with self._file.write() as db:
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
        limit.shrink(self._file.db, self._limit)

    def said(self) -> tuple[Said, ...]:
        """Return what people said of alerts, in the order in which it holds."""
        with self._file.reading():
            try:
                return said.from_json(read_meta(self._file.db, SAID))
            except ValueError as error:
                raise Damaged(f"{SAID}: {error}") from error

    def hear(self, document: Verdicts) -> tuple[Said, ...]:
        """Keep what ``document`` says anew, to hold from the next row on; return all that was said."""
        known = self.said()
        found = said.with_new(known, document, self.progress().newest)
        if found != known:
            with self._file.write() as db:
                write_meta(db, SAID, said.to_json(found))
        return found

    def commands(self) -> tuple[Seen, ...]:
        """Return the commands that were received and must be remembered, oldest first."""
        with self._file.reading():
            try:
                return seen.from_json(read_meta(self._file.db, COMMANDS))
            except ValueError as error:
                raise Damaged(f"{COMMANDS}: {error}") from error

    def remember(self, commands: Sequence[Seen], replies: Sequence[ReplyData] = ()) -> None:
        """Keep ``commands`` and queue ``replies`` in one transaction: what is answered is ended, and the reverse."""
        now = clock.now()
        with self._file.write() as db:
            write_meta(db, COMMANDS, seen.to_json(seen.kept(commands, now)))
            enqueue(db, clock.iso(now), [Draft("reply", clock.day_of(now), each.model_dump_json()) for each in replies])
            limit.evict(db, self._limit, clock.iso(now))

    def raised(self) -> Mapping[str, Raised]:
        """Return the newest alerts that were raised, by id."""
        with self._file.reading():
            try:
                return raised.from_json(read_meta(self._file.db, RAISED))
            except ValueError as error:
                raise Damaged(f"{RAISED}: {error}") from error

    def enqueue(self, drafts: Iterable[Draft]) -> None:
        """Queue events that do not result from lines: gaps in the log, bundle changes."""
        now = clock.iso(clock.now())
        with self._file.write() as db:
            enqueue(db, now, drafts)
            limit.evict(db, self._limit, now)

    def report(self, health: HealthData, *, queue: bool = False) -> bool:
        """Keep ``health`` for ``status``, queue it as an event, and record which ledger days it reports.

        While the last one is unacknowledged, at most one an hour is queued: the newest one contains everything.
        ``queue``: queue it all the same, because it has what the next one may not contain. Tells whether it was queued.
        """
        now = clock.now()
        text = health.model_dump_json()
        with self._file.write() as db:
            write_meta(db, "health", text)
            waiting = db.execute(
                "SELECT max(time) FROM outbox WHERE event <> 'result' AND event = 'health'"
            ).fetchone()[0]
            since = clock.parse_iso(waiting) if isinstance(waiting, str) and TIME.fullmatch(waiting) else 0
            if queued := queue or now - since >= HEALTH_HOLD or since > now:
                enqueue(db, clock.iso(now), [Draft("health", clock.day_of(now), text)])
                db.executemany(
                    "UPDATE ledger SET told = ? WHERE day = ?",
                    [(day.model_dump_json(), day.day) for day in health.ledger],
                )
            ended = [(day.day,) for day, told in ledger.days(db)[:-DAYS_KEPT] if told and not day.pending]
            db.executemany("DELETE FROM ledger WHERE day = ?", ended)
            db.executemany("DELETE FROM refused WHERE day = ?", ended)
            limit.evict(db, self._limit, clock.iso(now))
        limit.shrink(self._file.db, self._limit)
        return queued

    def unreported_days(self) -> list[LedgerDay]:
        """Return the ledger days for the next health event, oldest first.

        The newest days, and before them the days whose counts have changed since they were last reported: a backlog is
        read faster than it is reported, and the final count of each of its days must still be reported.
        """
        with self._file.reading(), transaction(self._file.db, "DEFERRED") as db:
            days = ledger.days(db)
            if wrong := ledger.unbalanced(db):
                raise Damaged(f"ledger: {'; '.join(wrong)}")
        changed = [day for day, told in days[:-DAYS_TOLD] if not told]
        return changed[: DAYS_AT_ONCE - DAYS_TOLD] + [day for day, _ in days[-DAYS_TOLD:]]

    def all_reported(self) -> bool:
        """Tell whether the current counts of every day were queued in a health event."""
        with self._file.reading(), transaction(self._file.db, "DEFERRED") as db:
            return all(told for _, told in ledger.days(db))

    def ledger(self) -> list[LedgerDay]:
        """Return all stored days, oldest first."""
        with self._file.reading():
            return ledger.read(self._file.db)

    def damage(self) -> list[str]:
        """Return what was found damaged within the last day, oldest first: when, what, and what became of it."""
        since = clock.iso(clock.now() - DAMAGE_TOLD)
        with self._file.reading():
            return [f"{at}: {what}" for at, what in damage_noted(self._file.db) if at >= since]

    def outbox(self) -> OutboxState:
        """Return the depth of the outbox as health reports it."""
        with self._file.reading():
            found = depth(self._file.db)
        return OutboxState(events=found.events, bytes=found.bytes, oldest=found.oldest)

    def _begin(self) -> bool:
        """Record that we are running; return whether the previous run ended without a clean shutdown."""
        with self._file.reading():
            crashed = bool(read_meta(self._file.db, "running"))
        with suppress(JournalError), self._file.write() as db:  # a full disk must not keep the agent from starting
            write_meta(db, "running", "yes")
        return crashed
