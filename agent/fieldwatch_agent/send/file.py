"""The agent's handle on the journal's file: opened intact, locked against a second agent, repaired when damage shows.

=============================================  ====================================================================
event                                          reaction
=============================================  ====================================================================
another process holds the lock file            refused, with that process's id
a transient error (disk full)                  :class:`.JournalError`: nothing has changed, try again
an I/O error, or a repair that failed          the same, and the file is opened again, as at a start
damage, found by the pipeline                  repaired as at a start (:mod:`.send.damage`); the step fails and is
                                               repeated on the repaired journal
damage, found by the uplink                    the same, in the pipeline's next step
the file was removed or replaced               :class:`.JournalGone` at the next write: the program ends, and its
                                               restart reads the log again
the same damage again, though the integrity    the file is set aside (renamed and replaced)
check found nothing
=============================================  ====================================================================
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from fieldwatch_agent import durable
from fieldwatch_agent.send.damage import open_sound
from fieldwatch_agent.send.database import (
    FILE,
    UNUSABLE,
    Damaged,
    JournalError,
    JournalGone,
    is_damage,
    needs_reopening,
    question,
    read_meta,
    release,
    transaction,
)
from fieldwatch_agent.send.outbox import Outbox

LOCK = "agent.lock"


class JournalFile:
    """The pipeline's connection ``db``, and the outboxes that the uplink has open."""

    def __init__(self, state_dir: Path) -> None:
        """Open or create the journal in ``state_dir``. Raises :class:`.JournalError`."""
        self.path = state_dir / FILE
        self._suspicion = self._stale = self._mended = ""
        self._mending = threading.Lock()
        self._outboxes: list[Outbox] = []
        with ExitStack() as opened:
            try:
                durable.make_folder(state_dir)
                opened.enter_context(durable.lock(state_dir / LOCK, owner=f"process {os.getpid()}"))
                self.db = open_sound(self.path, "it is a folder" if self.path.is_dir() else "")
            except durable.Busy as error:
                raise JournalError(
                    f"{state_dir}: another fieldwatch-agent works in this state folder ({error.strerror}): "
                    "stop it, or give this one a [state] dir of its own"
                ) from error
            except (OSError, sqlite3.Error) as error:
                what = question(error, "is the folder writable, with room?")
                raise JournalError(f"{self.path}: cannot open the journal: {error}; {what}") from error
            self._opened = opened.pop_all()
        self._identity = self._remember()
        with self.reading():
            self.epoch = read_meta(self.db, "epoch") or ""

    def close(self) -> None:
        """Close the file and release the lock."""
        self.db.close()
        self._opened.close()

    def release(self) -> None:
        """Free the memory of cached pages. Raises :class:`.JournalError`."""
        with self.reading():
            release(self.db)
        with self._mending:
            for outbox in self._outboxes:
                outbox.release()

    def check(self) -> None:
        """Let SQLite look at every page: what a disk has lost meanwhile is not seen by those who do not need it.

        Raises :class:`.JournalError`, after a repair, where it finds damage.
        """
        with self.reading():
            verdict = str(self.db.execute("PRAGMA integrity_check(1)").fetchone()[0])
            if verdict != "ok":
                raise Damaged(verdict)
        self._mended = ""  # the last repair has held

    def open_outbox(self) -> Outbox:
        """Open a connection for the uplink; it is closed before the file is repaired."""
        with self._mending:
            try:
                outbox = Outbox(self.path)
            except UNUSABLE as error:
                self._suspect(error)
                raise
            self._outboxes.append(outbox)
        return outbox

    def close_outbox(self, outbox: Outbox, error: Exception | None) -> None:
        """Close it; ``error``: what made it fail."""
        outbox.close()
        with self._mending:
            self._outboxes = [other for other in self._outboxes if other is not outbox]
        if error is not None:
            self._suspect(error)

    def _suspect(self, error: Exception) -> None:
        """Note what made the uplink's side fail, for the pipeline's next step."""
        if is_damage(error):
            self._suspicion = str(error)
        elif needs_reopening(error):
            self._stale = str(error)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Run a block in one transaction. Raises :class:`.JournalError`."""
        self._check_in_place()
        with self._guarded("write", "is the disk full?"), transaction(self.db) as db:
            yield db

    def _identify(self) -> tuple[int, int] | None:
        """Return the identity of the file that the path leads to; None if there is none.

        Raises :class:`OSError` where that cannot be told now.
        """
        try:
            status = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_dev, status.st_ino

    def _remember(self) -> tuple[int, int] | None:
        """Return the identity of the file that was just opened; None where it cannot be told."""
        with suppress(OSError):
            return self._identify()
        return None

    def _check_in_place(self) -> None:
        """Raise :class:`.JournalGone` unless the path still leads to the open file, as far as it can be told."""
        if self._identity is None:
            return
        try:
            found = self._identify()
        except OSError:
            return  # no right to the folder, no answer from its volume: SQLite says whether that matters
        if found != self._identity:
            what = "removed" if found is None else "replaced"
            raise JournalGone(
                f"{self.path}: was {what} while the agent was running; ending, because nothing more can be kept. "
                "Started again, the agent reads the log again; the bundle may have to be pulled again"
            )

    def reading(self) -> AbstractContextManager[None]:
        """Guard a block that reads ``db``. Raises :class:`.JournalError`."""
        return self._guarded("read", "is the disk sound?")

    @contextmanager
    def _guarded(self, what: str, otherwise: str) -> Iterator[None]:
        """Turn errors into :class:`.JournalError`, after repairing the file where it is damaged."""
        try:
            if self._suspicion:
                raise Damaged(self._suspicion)
            if self._stale:
                raise sqlite3.ProgrammingError(self._stale)
            yield
        except UNUSABLE as error:
            if needs_reopening(error):
                self._reopen(str(error))
            if not is_damage(error):
                look = question(error, otherwise)
                raise JournalError(f"{self.path}: cannot {what} the journal: {error}; {look}") from error
            self._mend(str(error))
            raise JournalError(f"{self.path}: was damaged ({error}) and is repaired; going on with it") from error

    def _mend(self, damage: str) -> None:
        """Repair the file while running, as at a start.

        Damage that the integrity check does not find, but that shows again at once, is believed all the same.
        """
        self._reopen(damage, damage if damage == self._mended else "")
        self._suspicion = ""
        self._mended = damage

    def _reopen(self, reason: str, suspicion: str = "") -> None:
        """Open the file again, repaired where it is damaged; the uplink's connections are closed first.

        Where that fails ``db`` stays closed, and the next step tries again.
        """
        with self._mending:
            for outbox in self._outboxes:
                outbox.close()
            self._outboxes.clear()
            self.db.close()
            self._identity = None
            try:
                self.db = open_sound(self.path, suspicion)
            except (OSError, sqlite3.Error) as error:
                raise JournalError(f"{self.path}: {reason}; and it cannot be opened again: {error}") from error
            self._identity = self._remember()
            self._stale = ""
            self.epoch = read_meta(self.db, "epoch") or ""
