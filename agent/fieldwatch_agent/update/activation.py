"""Which bundle this device runs, and how it gets from one to the next without ever being left with none.

What it promises
    * The active bundle is always whole: it was written to the disk in full before one rename of ``activation.json``
      made it active, and it is hashed again whenever it is read.
    * A new bundle is on probation until it has scored (:meth:`Activation.commit`). Each start of the service is
      counted *before* the bundle is loaded; one that was started :data:`TRIES` times and never got there, as a model
      that crashes the process does, is refused, and the last proven bundle takes over.
    * A bundle refused here is not tried again by the same version of this program; a new program gives it a chance.
    * What happened is kept as events until the service has journalled them, so no crash swallows one. A crash
      between journalling and :meth:`Activation.announced` repeats one.

On the disk, in the state folder
    ``bundles/<sha256>.zip``  immutable; only the current, the previous and a staged one are kept
    ``activation.json``       :class:`State`, the only mutable file, replaced as a whole
    ``activation.lock``       held for the milliseconds of a change: service and updater are two processes

:class:`State` holds the rules and touches no disk; :class:`Activation` keeps it in the file. Scoring matters more
than bookkeeping: where the service cannot write its change (a full disk), the change holds in memory and goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal

from fieldwatch_contract import clock
from fieldwatch_contract.bundle import Bundle, BundleError, read_bundle
from fieldwatch_contract.events import BundleRef, ModelData
from pydantic import BaseModel, ConfigDict, ValidationError

from fieldwatch_agent import __version__, durable

TRIES = 3
"""Starts without a commit, or self-tests without an end, after which a bundle is refused."""
REFUSALS_KEPT = 50
EVENTS_KEPT = 100
LOCK_S = 5.0

log = logging.getLogger("fieldwatch.agent")


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class Trial(_Model):
    """How often a bundle was tried; ``since`` in µs."""

    sha256: str
    tries: int
    since: int


class Refusal(_Model):
    """Why a bundle may not run here, and which version of the program said so."""

    bundle: BundleRef
    reason: str
    program: str


class State(_Model):
    """``activation.json``. Each method returns the state after a step.

    ``generation`` grows whenever ``current`` changes. ``probation`` is that of ``current``, ``trial`` that of a bundle
    in self-test. ``told`` counts the events that were announced, ``pending`` are those after them. ``trouble`` names
    the kind of the updater's last failure and ``note`` says it in words; both are empty when all is well.
    """

    format: Literal[1] = 1
    generation: int = 0
    current: BundleRef | None = None
    previous: BundleRef | None = None
    staged: BundleRef | None = None
    proven: tuple[str, ...] = ()
    probation: Trial | None = None
    trial: Trial | None = None
    refused: dict[str, Refusal] = {}
    security_floor: int = 0
    trouble: str = ""
    note: str = ""
    told: int = 0
    pending: tuple[ModelData, ...] = ()

    def with_staged(self, bundle: BundleRef) -> State:
        """A bundle is about to be written to the disk: keep its file."""
        return self._but(staged=bundle)

    def switched(self, bundle: BundleRef, security_floor: int, now: int) -> State:
        """Make a staged bundle the current one, on probation.

        What it replaces becomes the previous one, unless that is unproven and a proven one is there to fall back to.
        """
        floor = max(self.security_floor, security_floor)
        if self.current is not None and self.current.sha256 == bundle.sha256:
            return self._but(staged=None, trial=None, security_floor=floor)
        previous = self.previous
        if self.current is not None and (previous is None or self.current.sha256 in self.proven):
            previous = self.current
        return self._but(
            generation=self.generation + 1,
            current=bundle,
            previous=None if previous is not None and previous.sha256 == bundle.sha256 else previous,
            staged=None,
            probation=Trial(sha256=bundle.sha256, tries=0, since=now),
            trial=None,
            refused={sha: refusal for sha, refusal in self.refused.items() if sha != bundle.sha256},
            security_floor=floor,
        )

    def started(self, sha256: str) -> State:
        """The service is about to load the bundle; too many tries refuse it where there is another to fall back to.

        Without another, trying again is all that is left; power cuts in the first minutes look the same.
        """
        if self.probation is None or self.probation.sha256 != sha256:
            return self
        if self.probation.tries >= TRIES and self.previous is not None:
            return self.with_refused(sha256, f"started {TRIES} times and never scored: it ends the program")
        return self._but(probation=self.probation.model_copy(update={"tries": self.probation.tries + 1}))

    def stopped(self, sha256: str) -> State:
        """The service ended in good order: that start proves nothing against the bundle."""
        if self.probation is None or self.probation.sha256 != sha256 or self.probation.tries == 0:
            return self
        return self._but(probation=self.probation.model_copy(update={"tries": self.probation.tries - 1}))

    def committed(self, sha256: str) -> State:
        """The current bundle has scored: it is proven, and activated for good."""
        if self.current is None or self.current.sha256 != sha256 or self.probation is None:
            return self
        done = ModelData(transition="activated", bundle=self.current, previous=self.previous)
        return self._but(probation=None, proven=(*self.proven, sha256))._tell(done)

    def tried(self, bundle: BundleRef, now: int) -> State:
        """The updater is about to test a bundle; too many tests without an end leave no trial."""
        tries = self.trial.tries if self.trial is not None and self.trial.sha256 == bundle.sha256 else 0
        trial = Trial(sha256=bundle.sha256, tries=tries + 1, since=now)
        return self._but(trial=trial if tries < TRIES else None)

    def tested(self) -> State:
        """A test has ended, whatever it found."""
        return self._but(trial=None)

    def with_refused(self, sha256: str, reason: str, bundle: BundleRef | None = None) -> State:
        """Never run a bundle again with this program; if it is the current one, the previous one takes over."""
        known = next((b for b in (self.current, self.previous, self.staged) if b and b.sha256 == sha256), bundle)
        if known is None:
            return self
        refusal = Refusal(bundle=known, reason=reason, program=__version__)
        others = {sha: old for sha, old in self.refused.items() if sha != sha256}
        kept = dict(list(others.items())[1 - REFUSALS_KEPT :])
        state = self._but(refused=kept | {sha256: refusal})
        if state.staged is not None and state.staged.sha256 == sha256:
            state = state._but(staged=None)
        if state.previous is not None and state.previous.sha256 == sha256:
            state = state._but(previous=None)
        if state.current is not None and state.current.sha256 == sha256:
            return state.fallen_back(reason)
        return state._tell(ModelData(transition="refused", bundle=known, previous=state.current, reason=reason))

    def lost(self, bundle: BundleRef, reason: str) -> State:
        """The file of the current bundle is missing or damaged; it is not refused, only gone."""
        return self.fallen_back(reason) if self.current == bundle else self

    def fallen_back(self, reason: str) -> State:
        """Return to the previous bundle; it is on probation again if it was never proven."""
        back = self.previous
        unproven = back is not None and back.sha256 not in self.proven
        return self._but(
            generation=self.generation + 1,
            current=back,
            previous=None,
            probation=Trial(sha256=back.sha256, tries=0, since=0) if back is not None and unproven else None,
        )._tell(ModelData(transition="rolled_back", bundle=self.current, previous=back, reason=reason))

    def without_previous(self) -> State:
        """Give up the bundle to fall back to: it is damaged or revoked."""
        return self._but(previous=None)

    def noted(self, trouble: str, note: str, announce: bool) -> State:
        """Keep how the last update ended; a new kind of trouble is announced once."""
        state = self._but(trouble=trouble, note=note)
        if announce and trouble and trouble != self.trouble:
            return state._tell(ModelData(transition="update_failed", bundle=None, previous=self.current, reason=note))
        return state

    def announced(self, upto: int) -> State:
        """Forget the events before number ``upto``: they are in the journal."""
        done = min(max(upto - self.told, 0), len(self.pending))
        return self._but(told=self.told + done, pending=self.pending[done:])

    def refusal(self, sha256: str) -> Refusal | None:
        """Return why this program may not run a bundle, or None."""
        found = self.refused.get(sha256)
        return found if found is not None and found.program == __version__ else None

    def _tell(self, event: ModelData) -> State:
        pending = (*self.pending, event)
        lost = max(len(pending) - EVENTS_KEPT, 0)
        return self._but(pending=pending[lost:], told=self.told + lost)

    def _but(self, **changes: object) -> State:
        state = self.model_copy(update=changes)
        kept = {bundle.sha256 for bundle in (state.current, state.previous) if bundle is not None}
        return state.model_copy(update={"proven": tuple(sha for sha in dict.fromkeys(state.proven) if sha in kept)})


class Activation:
    """The state folder's bundles. One instance a process; not for several threads.

    Methods the service calls never raise for a disk that cannot be written; :meth:`stage` and :meth:`switch`, which
    the updater calls, raise :class:`OSError`.
    """

    def __init__(self, folder: Path) -> None:
        """Look into ``folder``, the state folder; nothing is written yet."""
        self._folder = folder
        self._file = folder / "activation.json"
        self._bundles = folder / "bundles"
        self._state = State()
        self._mark: object = None
        self._unwritten: State | None = None
        self._told = 0
        self._counted: str | None = None

    def state(self) -> State:
        """Return the state; the file is read only where it has changed."""
        mark = self._signature()
        if mark != self._mark:
            self._state = self._read()
            self._mark = mark
            self._unwritten = None
        return self._unwritten or self._state

    def generation(self) -> int:
        """Return a number that changes whenever another bundle becomes the current one."""
        return self.state().generation

    def note(self) -> str:
        """Return how the updater is, in words; empty when all is well."""
        return self.state().note

    # ---- for the service ---------------------------------------------------------------------------------------

    def start(self) -> Bundle | None:
        """Return the bundle to load, after counting the attempt; None where there is none.

        Within one process a bundle is counted once, however often it is asked for.
        """
        while (bundle := self.current()) is not None:
            if self._counted == bundle.sha256:
                return bundle
            self._counted = bundle.sha256
            if self._change(partial(State.started, sha256=bundle.sha256)).current == bundle.ref:
                return bundle
            log.error("bundle %s/%s refused: it never scored", bundle.manifest.name, bundle.manifest.version)
        return None

    def current(self) -> Bundle | None:
        """Return the active bundle, whole; None where there is none.

        A file that is missing or damaged is announced and the previous bundle takes over; the updater then fetches
        the lost one again.
        """
        while (ref := self.state().current) is not None:
            try:
                return read_bundle(self.path(ref.sha256), ref.sha256)
            except (BundleError, OSError) as error:
                reason = f"its file is lost ({error}); it is fetched again with the next update"
                log.error("bundle %s/%s: %s", ref.name, ref.version, reason)
                self._change(partial(State.lost, bundle=ref, reason=reason))
        return None

    def commit(self, sha256: str) -> None:
        """The bundle has scored enough live blocks: its probation ends, and older files go."""
        if self.state().probation is not None:
            self._change(partial(State.committed, sha256=sha256))
            self._collect()

    def refuse(self, sha256: str, reason: str, bundle: BundleRef | None = None) -> None:
        """Never run a bundle again with this program; where it is the current one, fall back.

        ``bundle`` names one that is neither current, previous nor staged.
        """
        self._change(partial(State.with_refused, sha256=sha256, reason=reason, bundle=bundle))

    def stop(self) -> None:
        """The service ends in good order: a restart of a quiet device is no failed try."""
        if self._counted is not None and self.state().probation is not None:
            self._change(partial(State.stopped, sha256=self._counted))
        self._counted = None

    def events(self) -> list[ModelData]:
        """Return what has happened and is not announced yet, oldest first."""
        state = self.state()
        return list(state.pending[max(self._told - state.told, 0) :])

    def announced(self, count: int) -> None:
        """The first ``count`` of :meth:`events` are in the journal."""
        self._told = max(self._told, self.state().told) + count
        self._change(partial(State.announced, upto=self._told))

    # ---- for the updater ---------------------------------------------------------------------------------------

    def stage(self, data: bytes) -> str:
        """Write a bundle to the disk and return its sha256; it does not run yet.

        Raises :class:`.bundle.BundleError` for bytes that are no bundle, :class:`OSError` for the disk.
        """
        bundle = read_bundle(data)
        self._bundles.mkdir(parents=True, exist_ok=True)
        self._change(partial(State.with_staged, bundle=bundle.ref), must=True)
        self._collect()
        durable.write(self.path(bundle.sha256), data)
        return bundle.sha256

    def switch(self, sha256: str, security_floor: int = 0) -> None:
        """Make a staged bundle the current one, by one write.

        Raises :class:`.bundle.BundleError` or :class:`OSError` where it is not there, or not whole.
        """
        bundle = read_bundle(self.path(sha256), sha256)
        step = partial(State.switched, bundle=bundle.ref, security_floor=security_floor, now=clock.now())
        self._change(step, must=True)

    def trying(self, bundle: BundleRef) -> bool:
        """Count a self-test before it begins; False where too many of this bundle never ended."""
        return self._change(partial(State.tried, bundle=bundle, now=clock.now()), must=True).trial is not None

    def tested(self) -> None:
        """The test that :meth:`trying` counted has ended."""
        self._change(State.tested)

    def forget_previous(self, sha256: str) -> None:
        """Do not fall back to a bundle that was revoked."""
        previous = self.state().previous
        if previous is not None and previous.sha256 == sha256:
            self._change(State.without_previous)

    def end_update(self, trouble: str = "", note: str = "", announce: bool = True) -> None:
        """Keep how an update ended: the kind of trouble and what to say of it; nothing where all is well."""
        state = self.state()
        if (state.trouble, state.note) != (trouble, note):
            self._change(partial(State.noted, trouble=trouble, note=note, announce=announce))

    def path(self, sha256: str) -> Path:
        """Return where a bundle's file lies."""
        return self._bundles / f"{sha256}.zip"

    # ---- within ------------------------------------------------------------------------------------------------

    def _change(self, step: Callable[[State], State], must: bool = False) -> State:
        """Take a step from the newest state and write it; without ``must`` a failing disk leaves it in memory."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with durable.lock(self._folder / "activation.lock", LOCK_S):
                before = self.state()
                after = step(before)
                if after != before or self._unwritten is not None:
                    durable.write(self._file, after.model_dump_json(indent=1).encode())
                    self._state, self._mark, self._unwritten = after, self._signature(), None
                return after
        except OSError as error:
            if must:
                raise
            log.warning("activation.json cannot be written (%s): going on in memory", error)
            self._unwritten = step(self.state())
            return self._unwritten

    def _signature(self) -> object:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> State:
        try:
            return State.model_validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return State()
        except (OSError, ValidationError) as error:
            log.error("activation.json cannot be read (%s): taking the newest whole bundle", error)
            return self._recovered()

    def _recovered(self) -> State:
        """Make a state from the files alone, newest first, when ``activation.json`` is damaged."""
        whole = []
        with suppress(OSError):
            files = sorted(self._bundles.glob("*.zip"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
            for file in files:
                with suppress(BundleError, OSError):
                    whole.append(read_bundle(file, file.stem).ref)
        state = State(generation=clock.now(), previous=whole[1] if len(whole) > 1 else None)
        if not whole:
            return state
        return state.switched(whole[0], 0, clock.now())

    def _collect(self) -> None:
        """Delete the files of bundles that nothing refers to; one that is held open goes next time."""
        with suppress(OSError), durable.lock(self._folder / "activation.lock", LOCK_S):
            state = self.state()
            kept = {bundle.sha256 for bundle in (state.current, state.previous, state.staged) if bundle is not None}
            for path in self._bundles.iterdir():
                if path.name.partition(".")[0] not in kept:
                    with suppress(OSError):
                        path.unlink()
