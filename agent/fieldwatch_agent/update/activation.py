"""The durable record of which bundle this device runs; the device is never left without one.

The state machine is :mod:`.update.states`, its file :mod:`.update.record` (lock, recovery); this module keeps the
bundles and offers what service and updater do with them. Loading the active one into the running service is
:mod:`.update.takeup`.

What it promises
    * The active bundle is always complete: it was written to disk in full before an atomic rename of
      ``activation.json`` made it active, and its hash is checked whenever it is read.
    * A new bundle is on probation until it has scored. Each attempt to load its models or to score a block is recorded
      *before* it is made (:meth:`attempt`), so a model that crashes the process is detected (crash-loop detection); a
      start without a block to score does not count.
    * A bundle refused here is not tried again by the same version of this program; a new version tries it again.
    * A bundle that cannot be read at the moment is not treated as lost.
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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from fieldwatch_contract import clock
from fieldwatch_contract.bundle import Bundle, BundleBroken, BundleFailed, no_memory, read_bundle
from fieldwatch_contract.events import BundleRef, ModelData, Trouble

from fieldwatch_agent import durable
from fieldwatch_agent.update import troubles
from fieldwatch_agent.update.record import Record
from fieldwatch_agent.update.states import TRIES, Happening, State

log = logging.getLogger("fieldwatch.agent")


class Activation:
    """The bundles in the state folder. One instance per process; not thread-safe.

    The methods that the service calls never raise because the disk cannot be written; :meth:`stage` and :meth:`switch`,
    which the updater calls, raise :class:`OSError`.
    """

    def __init__(self, folder: Path) -> None:
        """``folder``: the state folder; nothing is written yet."""
        self._bundles = folder / "bundles"
        self._record = Record(folder, self._bundles)
        self._told = 0

    def state(self) -> State:
        """Return the state, as far as it is known; see :meth:`.record.Record.state`."""
        return self._record.state()

    def generation(self) -> int:
        """Return a number that changes whenever another bundle becomes the current one."""
        return self.state().generation

    def note(self) -> str:
        """Return the updater's status in words; empty when all is well."""
        return self.state().note

    def troubles(self) -> list[Trouble]:
        """Return the troubles with bundle and updates, worst first."""
        return troubles.of(self.state(), self._record.unreadable, self._record.unwritable)

    # ---- for the service ---------------------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Write what could not be written, once the pause since the last attempt is over."""
        self._record.catch_up()

    def start(self) -> Bundle | None:
        """Return the bundle to load; None where there is none.

        One that crashed the program :data:`.states.TRIES` times is replaced first. Raises
        :class:`.bundle.BundleMisfit` and :class:`.bundle.BundleFailed`, see :meth:`current`.
        """
        state = self.state()
        self._record.heal()
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
        if (unreadable := self._record.unreadable) is not None:
            raise BundleFailed(f"activation.json cannot be read ({unreadable})", troubles.READ)
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
            self._record.change(step)

    def events(self) -> list[ModelData]:
        """Return the events that are not announced yet, oldest first."""
        state = self.state()
        return list(state.pending[max(self._told - state.told, 0) :])

    def announced(self, count: int) -> None:
        """The first ``count`` of :meth:`events` are in the journal."""
        self._told = max(self._told, self.state().told) + count
        self._record.change(partial(State.announced, upto=self._told))

    # ---- for the updater ---------------------------------------------------------------------------------------

    def require(self) -> State:
        """Return the state on disk. Raises :class:`OSError` where it cannot be read: then refusals and the security
        floor are unknown, and nothing may be decided."""
        self._record.refresh()
        return self.state()

    def refuse(self, bundle: BundleRef, reason: str) -> None:
        """Never run an offered bundle with this version of the program."""
        self._record.change(partial(State.refusing, bundle=bundle, reason=reason))

    def stage(self, data: bytes) -> str:
        """Write a bundle to disk and return its sha256; it does not run yet.

        Raises :class:`.bundle.BundleError` for bytes that are no bundle, :class:`OSError` for the disk.
        """
        bundle = read_bundle(data)
        durable.make_folder(self._bundles)
        self._record.change(partial(State.with_staged, bundle=bundle.ref), must=True)
        self._collect()
        durable.write(self.path(bundle.sha256), data)
        return bundle.sha256

    def switch(self, sha256: str, security_floor: int = 0) -> None:
        """Make a staged bundle the current one, atomically.

        Raises :class:`.bundle.BundleError` or :class:`OSError` where it is missing or incomplete.
        """
        bundle = self._open(sha256)
        step = partial(State.switched, bundle=bundle.ref, security_floor=security_floor, now=clock.now())
        self._record.change(step, must=True)

    def trying(self, bundle: BundleRef) -> bool:
        """Record a self-test before it begins; False where too many self-tests of this bundle never ended."""
        return self._record.change(partial(State.tried, bundle=bundle, now=clock.now()), must=True).trial is not None

    def tested(self) -> None:
        """The self-test that :meth:`trying` recorded has ended."""
        self._record.change(State.tested)

    def forget_previous(self, sha256: str) -> None:
        """Rule out a revoked bundle as the one to fall back to."""
        previous = self.state().previous
        if previous is not None and previous.sha256 == sha256:
            self._record.change(State.without_previous)

    def end_update(self, trouble: str = "", note: str = "", announce: bool = True) -> None:
        """Record how an update ended: the kind of trouble and its description; both empty where all is well."""
        state = self.state()
        if (state.trouble, state.note) != (trouble, note):
            self._record.change(partial(State.noted, trouble=trouble, note=note, announce=announce, now=clock.now()))

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

    def _collect(self) -> None:
        """Delete bundle files that nothing refers to; one that is held open is deleted next time."""
        with suppress(OSError), self._record.locked():
            self._record.refresh()
            state = self.state()
            kept = {bundle.sha256 for bundle in (state.current, state.previous, state.staged) if bundle is not None}
            for path in self._bundles.iterdir():
                if path.name.partition(".")[0] not in kept:
                    with suppress(OSError):
                        path.unlink()
