"""``activation.json``: the state of :mod:`.update.states` on disk, shared by two processes, service and updater.

What it promises
    * A change is applied to the newest state on disk, under a lock, and replaces the file atomically.
    * A file that cannot be read at the moment is not treated as damaged: the known state stays in force, the file is
      not overwritten, and reading is retried. Only a missing or corrupt file is recovered, from its copy or, failing
      that, from the intact bundles. So the security floor never falls.
    * A change that cannot be written takes effect in memory, and is written once that is possible.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from fieldwatch_contract import clock
from fieldwatch_contract.bundle import BundleError, read_bundle
from pydantic import ValidationError

from fieldwatch_agent import durable
from fieldwatch_agent.update.states import RULES, State

LOCK_S = 5.0
AGAIN_S = 1.0
"""Seconds before an unreadable file is tried again."""
WRITE_AGAIN_S = 5.0
"""Seconds before a change that could not be written is written again."""
EMPTY = State(rules=RULES)
_NEVER = object()
"""Signature of a file that was not read yet."""

log = logging.getLogger("fieldwatch.agent")


class Record:
    """The state file in a folder. One instance per process; not thread-safe."""

    def __init__(self, folder: Path, bundles: Path) -> None:
        """``folder``: the state folder; ``bundles``: where the bundle files are. Nothing is written yet."""
        self.unreadable: OSError | None = None
        """Why the file cannot be read at the moment."""
        self.unwritable: OSError | None = None
        """Why the last change is in memory alone."""
        self._folder = folder
        self._file = folder / "activation.json"
        self._copy = folder / "activation.copy.json"
        self._bundles = bundles
        self._state = EMPTY
        self._mark: object = _NEVER
        self._again = 0.0
        self._unwritten: State | None = None
        self._write_again = 0.0
        self._to_heal = False  # the recovered state must still be written to the file

    def state(self) -> State:
        """Return the state; the file is read only where it has changed.

        While it cannot be read the state known before holds, at the very start that of the copy.
        """
        if self.unreadable is None or time.monotonic() >= self._again:
            with suppress(OSError):
                self.refresh()
        return self._unwritten or self._state

    def refresh(self) -> None:
        """Read the file if it has changed. Raises :class:`OSError` where it exists but cannot be read."""
        try:
            mark = self._signature()
            if mark != self._mark:
                self._state = self._read()
                self._mark = mark
                self._unwritten = None
        except OSError as error:
            if self._mark is _NEVER and self.unreadable is None:
                log.error("%s cannot be read (%s): trying again", self._file, error)
                self._state = self._from_copy() or EMPTY
            self.unreadable = error
            self._again = time.monotonic() + AGAIN_S
            raise
        self.unreadable = None

    def change(self, step: Callable[[State], State], must: bool = False) -> State:
        """Apply ``step`` to the newest state and write it; return the state after it.

        If the disk fails, keep it in memory; with ``must``, raise the :class:`OSError` instead.
        """
        try:
            durable.make_folder(self._folder)
            with self.locked():
                self.refresh()
                before = self.state()
                after = step(before)
                if after != before or self._to_heal or self._unwritten is not None:
                    data = after.model_dump_json(indent=1).encode()
                    durable.write(self._copy, data)
                    durable.write(self._file, data)
                    self._state, self._mark, self._unwritten = after, self._signature(), None
                    self._to_heal = False
                if self.unwritable is not None:
                    log.info("activation.json can be written again")
                    self.unwritable = None
                return after
        except OSError as error:
            if must:
                raise
            if self.unwritable is None:
                log.warning("activation.json cannot be written (%s): changes are kept in memory", error)
            self.unwritable, self._write_again = error, time.monotonic() + WRITE_AGAIN_S
            self._unwritten = step(self.state())
            return self._unwritten

    def catch_up(self) -> None:
        """Write what could not be written, once the pause since the last attempt is over."""
        if self._unwritten is not None and time.monotonic() >= self._write_again:
            self.change(lambda state: state)

    def heal(self) -> None:
        """Write the state back if it was recovered."""
        if self._to_heal:
            self.change(lambda state: state)

    def locked(self) -> AbstractContextManager[object]:
        """Return the context manager that keeps the other process from changing the state; raises OSError."""
        return durable.lock(self._folder / "activation.lock", LOCK_S)

    # ---- reading it ----------------------------------------------------------------------------------------------

    def _signature(self) -> object:
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> State:
        try:
            return State.model_validate_json(durable.read(self._file)).taken_over()
        except FileNotFoundError:
            said = "is missing"
        except ValidationError as error:
            said = f"is damaged ({error.errors()[0]['msg']})"
        state = self._from_copy() or self._recovered()
        if state != EMPTY:
            log.error("activation.json %s: recovered from its copy or the bundles", said)
            self._to_heal = True
        return state

    def _from_copy(self) -> State | None:
        with suppress(OSError, ValidationError):
            return State.model_validate_json(durable.read(self._copy)).taken_over()
        return None

    def _recovered(self) -> State:
        """Reconstruct a state from the bundles alone, newest first, when neither file is usable."""
        whole = []
        with suppress(OSError):
            files = sorted(self._bundles.glob("*.zip"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
            for file in files:
                with suppress(BundleError, OSError):
                    whole.append(read_bundle(file, file.stem).ref)
        if not whole:
            return EMPTY
        state = State(rules=RULES, generation=clock.now(), previous=whole[1] if len(whole) > 1 else None)
        return state.switched(whole[0], 0, clock.now())
