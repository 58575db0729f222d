"""The durable record of which bundle this device runs; the device is never left without one.

This module is the storage (files, locks, recovery); the state machine is :mod:`.update.states`, and loading the bundle
into the running service is :mod:`.update.takeup`.

What it promises
    * The active bundle is always complete: it was written to disk in full before an atomic rename of
      ``activation.json`` made it active, and its hash is checked whenever it is read.
    * A new bundle is on probation until it has scored. Each attempt to load its models or to score a block is recorded
      *before* it is made (:meth:`attempt`), so a model that crashes the process is detected (crash-loop detection); a
      start without a block to score does not count.
    * A bundle refused here is not tried again by the same version of this program; a new version tries it again.
    * A file that cannot be read at the moment is not treated as damaged: the known state stays in force, the file is
      not overwritten, and reading is retried. Only a missing or corrupt file is recovered, from its copy or, failing
      that, from the intact bundles. So the security floor never falls.
    * Events are kept until the service has journalled them, so no crash loses one. A crash between journalling and
      :meth:`Activation.announced` repeats one.

On disk, in the state folder
    ``bundles/<sha256>.zip``   immutable; only the current, the previous and a staged one are kept
    ``activation.json``        :class:`.states.State`, replaced atomically
    ``activation.copy.json``   the same, written first, in case the other is lost
    ``activation.lock``        lock file, held only while changing state: service and updater are two processes

Scoring matters more than bookkeeping: where the service cannot write a change (full disk), the change takes effect in
memory only.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from fieldwatch_contract import clock
from fieldwatch_contract.bundle import Bundle, BundleBroken, BundleError, BundleFailed, no_memory, read_bundle
from fieldwatch_contract.events import BundleRef, ModelData, Trouble
from pydantic import ValidationError

from fieldwatch_agent import durable
from fieldwatch_agent.update import troubles
from fieldwatch_agent.update.states import RULES, TRIES, Happening, State

LOCK_S = 5.0
AGAIN_S = 1.0
"""Seconds before an unreadable file is tried again."""
WRITE_AGAIN_S = 5.0
"""Seconds before a change that could not be written is written again."""
EMPTY = State(rules=RULES)

log = logging.getLogger("fieldwatch.agent")


class Activation:
    """The bundles in the state folder. One instance per process; not thread-safe.

    The methods that the service calls never raise because the disk cannot be written; :meth:`stage` and :meth:`switch`,
    which the updater calls, raise :class:`OSError`.
    """

    def __init__(self, folder: Path) -> None:
        """``folder``: the state folder; nothing is written yet."""
        self._folder = folder
        self._file = folder / "activation.json"
        self._copy = folder / "activation.copy.json"
        self._bundles = folder / "bundles"
        self._state = EMPTY
        self._mark: object = _NEVER
        self._unreadable: OSError | None = None
        self._again = 0.0
        self._unwritten: State | None = None
        self._unwritable: OSError | None = None  # why the last change is in memory alone
        self._write_again = 0.0
        self._to_heal = False  # the recovered state must still be written to the file
        self._told = 0

    def state(self) -> State:
        """Return the state; the file is read only where it has changed.

        While it cannot be read the state known before holds, at the very start that of the copy.
        """
        if self._unreadable is None or time.monotonic() >= self._again:
            with suppress(OSError):
                self._refresh()
        return self._unwritten or self._state

    def generation(self) -> int:
        """Return a number that changes whenever another bundle becomes the current one."""
        return self.state().generation

    def note(self) -> str:
        """Return the updater's status in words; empty when all is well."""
        return self.state().note

    def troubles(self) -> list[Trouble]:
        """Return the troubles with bundle and updates, worst first."""
        return troubles.of(self.state(), self._unreadable, self._unwritable)

    # ---- for the service ---------------------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Write what could not be written, once the pause since the last attempt is over."""
        if self._unwritten is not None and time.monotonic() >= self._write_again:
            self._change(lambda state: state)

    def start(self) -> Bundle | None:
        """Return the bundle to load; None where there is none.

        One that crashed the program :data:`.states.TRIES` times is replaced first. Raises
        :class:`.bundle.BundleMisfit` and :class:`.bundle.BundleFailed`, see :meth:`current`.
        """
        state = self.state()
        if self._to_heal:
            self._change(lambda state: state)
        if state.current is not None and state.crashes():
            reason = f"tried {TRIES} times without finishing: it crashes the program"
            self.happened("crashed", state.current.sha256, reason)
        return self.current()

    def current(self) -> Bundle | None:
        """Return the active bundle; None where there is none.

        If its file is missing or damaged, that is announced and the previous bundle takes over; the updater fetches
        the lost one again. Raises :class:`.bundle.BundleMisfit` where this program cannot run it, and
        :class:`.bundle.BundleFailed` where it, or ``activation.json``, cannot be read now.
        """
        while (ref := self.state().current) is not None:
            try:
                return self._open(ref.sha256)
            except (BundleBroken, FileNotFoundError, IsADirectoryError) as error:
                reason = f"its file is lost ({error}); it is fetched again with the next update"
                log.error("bundle %s/%s: %s", ref.name, ref.version, reason)
                self.happened("lost", ref.sha256, reason)
        if self._unreadable is not None:
            raise BundleFailed(f"activation.json cannot be read ({self._unreadable})", troubles.READ)
        return None

    @contextmanager
    def attempt(
        self, sha256: str, survivable: tuple[type[Exception], ...] = (), *, load: bool = False
    ) -> Iterator[None]:
        """Record an attempt to score, or to ``load``, before it is made, and remove the record when it has ended.

        An exception that is not ``survivable`` ends the program, so the attempt stays counted.
        """
        ended: Happening = "loaded" if load else "survived"
        self.happened("loading" if load else "attempted", sha256)
        try:
            yield
        except survivable:
            self.happened(ended, sha256)
            raise
        self.happened(ended, sha256)

    def commit(self, sha256: str) -> None:
        """The bundle has scored enough live blocks: its probation ends, and older files are deleted."""
        if self.state().probation is not None:
            self.happened("committed", sha256)
            self._collect()

    def happened(self, event: Happening, sha256: str, reason: str = "") -> None:
        """Apply an event to the current bundle; see :mod:`.update.states` for the transitions."""
        step = partial(State.after, event=event, sha256=sha256, reason=reason, now=clock.now())
        if step(self.state()) != self.state():
            self._change(step)

    def events(self) -> list[ModelData]:
        """Return the events that are not announced yet, oldest first."""
        state = self.state()
        return list(state.pending[max(self._told - state.told, 0) :])

    def announced(self, count: int) -> None:
        """The first ``count`` of :meth:`events` are in the journal."""
        self._told = max(self._told, self.state().told) + count
        self._change(partial(State.announced, upto=self._told))

    # ---- for the updater ---------------------------------------------------------------------------------------

    def require(self) -> State:
        """Return the state on disk. Raises :class:`OSError` where it cannot be read: then refusals and the security
        floor are unknown, and nothing may be decided."""
        self._refresh()
        return self.state()

    def refuse(self, bundle: BundleRef, reason: str) -> None:
        """Never run an offered bundle with this version of the program."""
        self._change(partial(State.refusing, bundle=bundle, reason=reason))

    def stage(self, data: bytes) -> str:
        """Write a bundle to disk and return its sha256; it does not run yet.

        Raises :class:`.bundle.BundleError` for bytes that are no bundle, :class:`OSError` for the disk.
        """
        bundle = read_bundle(data)
        durable.make_folder(self._bundles)
        self._change(partial(State.with_staged, bundle=bundle.ref), must=True)
        self._collect()
        durable.write(self.path(bundle.sha256), data)
        return bundle.sha256

    def switch(self, sha256: str, security_floor: int = 0) -> None:
        """Make a staged bundle the current one, atomically.

        Raises :class:`.bundle.BundleError` or :class:`OSError` where it is missing or incomplete.
        """
        bundle = self._open(sha256)
        step = partial(State.switched, bundle=bundle.ref, security_floor=security_floor, now=clock.now())
        self._change(step, must=True)

    def trying(self, bundle: BundleRef) -> bool:
        """Record a self-test before it begins; False where too many self-tests of this bundle never ended."""
        return self._change(partial(State.tried, bundle=bundle, now=clock.now()), must=True).trial is not None

    def tested(self) -> None:
        """The self-test that :meth:`trying` recorded has ended."""
        self._change(State.tested)

    def forget_previous(self, sha256: str) -> None:
        """Rule out a revoked bundle as the one to fall back to."""
        previous = self.state().previous
        if previous is not None and previous.sha256 == sha256:
            self._change(State.without_previous)

    def end_update(self, trouble: str = "", note: str = "", announce: bool = True) -> None:
        """Record how an update ended: the kind of trouble and its description; both empty where all is well."""
        state = self.state()
        if (state.trouble, state.note) != (trouble, note):
            self._change(partial(State.noted, trouble=trouble, note=note, announce=announce, now=clock.now()))

    def path(self, sha256: str) -> Path:
        """Return the path of a bundle's file."""
        return self._bundles / f"{sha256}.zip"

    # ---- within ------------------------------------------------------------------------------------------------

    def _open(self, sha256: str) -> Bundle:
        path = self.path(sha256)
        try:
            data = durable.read(path)
        except (FileNotFoundError, IsADirectoryError):
            raise
        except OSError as error:
            raise BundleFailed(f"{path} cannot be read ({error.strerror or error})", troubles.READ) from error
        except MemoryError as error:
            raise no_memory() from error
        return read_bundle(data, sha256)

    def _change(self, step: Callable[[State], State], must: bool = False) -> State:
        """Apply ``step`` to the newest state and write it; without ``must``, if the disk fails, keep it in memory."""
        try:
            durable.make_folder(self._folder)
            with durable.lock(self._folder / "activation.lock", LOCK_S):
                self._refresh()
                before = self.state()
                after = step(before)
                if after != before or self._to_heal or self._unwritten is not None:
                    data = after.model_dump_json(indent=1).encode()
                    durable.write(self._copy, data)
                    durable.write(self._file, data)
                    self._state, self._mark, self._unwritten = after, self._signature(), None
                    self._to_heal = False
                if self._unwritable is not None:
                    log.info("activation.json can be written again")
                    self._unwritable = None
                return after
        except OSError as error:
            if must:
                raise
            if self._unwritable is None:
                log.warning("activation.json cannot be written (%s): changes are kept in memory", error)
            self._unwritable, self._write_again = error, time.monotonic() + WRITE_AGAIN_S
            self._unwritten = step(self.state())
            return self._unwritten

    def _refresh(self) -> None:
        """Read the file if it has changed. Raises :class:`OSError` where it exists but cannot be read."""
        try:
            mark = self._signature()
            if mark != self._mark:
                self._state = self._read()
                self._mark = mark
                self._unwritten = None
        except OSError as error:
            if self._mark is _NEVER and self._unreadable is None:
                log.error("%s cannot be read (%s): trying again", self._file, error)
                self._state = self._from_copy() or EMPTY
            self._unreadable = error
            self._again = time.monotonic() + AGAIN_S
            raise
        self._unreadable = None

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

    def _collect(self) -> None:
        """Delete bundle files that nothing refers to; one that is held open is deleted next time."""
        with suppress(OSError), durable.lock(self._folder / "activation.lock", LOCK_S):
            self._refresh()
            state = self.state()
            kept = {bundle.sha256 for bundle in (state.current, state.previous, state.staged) if bundle is not None}
            for path in self._bundles.iterdir():
                if path.name.partition(".")[0] not in kept:
                    with suppress(OSError):
                        path.unlink()


_NEVER = object()
"""Signature of a file that was not read yet."""
