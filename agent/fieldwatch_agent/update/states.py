"""The state machine of a device's bundles: which one runs, and what each event changes. No disk, no clock.

The current bundle is in one of three phases; :data:`TABLE` has all its transitions:

===========  ==========================================  =============  =================  ==========
event        when                                        none           probation          proven
===========  ==========================================  =============  =================  ==========
loading      its models are about to be loaded           –              count a load       –
loaded       that has ended, whatever the result         –              forget all loads   –
attempted    a block is about to be scored               –              count a try        –
survived     that has ended, whatever the result         –              take the try back  –
committed    it has scored enough blocks                 –              **proven**         –
crashed      it is to be loaded, but :data:`TRIES`       –              refuse             –
             loads or tries never ended
broken       its models are wrong                        –              refuse             refuse
failing      this computer cannot run it for long        –              set aside          set aside
lost         its file is gone or damaged                 –              drop               drop
===========  ==========================================  =============  =================  ==========

* *refuse*, *set aside* and *drop* make the previous bundle the current one (rollback). *Refuse* is permanent for this
  version of the program; *set aside* lets the updater offer it again after a pause that doubles (backoff); *drop* only
  means that it must be fetched again.
* *Refuse* and *set aside* need another bundle to fall back to, and a proven one needs a proven one: **the last proven
  bundle is never refused**. Where there is none, the bundle stays and is tried again.
* A load that ends clears the loads that never did: they were killed, as by a power cut, for the models do load. Tries
  are few until a bundle has proven itself, and a model that fails on one block in three must not start afresh.
* Switching to another bundle leads to probation from every phase.
* The security floor never falls.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal

from fieldwatch_contract import clock
from fieldwatch_contract.events import BundleRef, ModelData
from pydantic import BaseModel, ConfigDict

from fieldwatch_agent import __version__

TRIES = 3
"""Attempts to load or to score, or self-tests, that never ended, after which a bundle is refused."""
REFUSALS_KEPT = 50
EVENTS_KEPT = 100
PAUSE = 60 * clock.MINUTE
LONGEST_PAUSE = clock.DAY
"""A bundle that was set aside is offered again after a pause (µs) that doubles each time."""
RULES = 2
"""Raised when the meaning of a stored state changes; see :meth:`State.taken_over`."""

Phase = Literal["none", "probation", "proven"]
Happening = Literal["loading", "loaded", "attempted", "survived", "committed", "crashed", "broken", "failing", "lost"]


class Move(Enum):
    """What an event does to the current bundle."""

    COUNT_LOAD = "count a load"
    FORGET_LOADS = "forget all loads"
    COUNT = "count a try"
    UNCOUNT = "take the try back"
    PROVE = "proven"
    REFUSE = "refuse"
    SET_ASIDE = "set aside"
    DROP = "drop"


TABLE: dict[tuple[Phase, Happening], Move] = {
    ("probation", "loading"): Move.COUNT_LOAD,
    ("probation", "loaded"): Move.FORGET_LOADS,
    ("probation", "attempted"): Move.COUNT,
    ("probation", "survived"): Move.UNCOUNT,
    ("probation", "committed"): Move.PROVE,
    ("probation", "crashed"): Move.REFUSE,
    ("probation", "broken"): Move.REFUSE,
    ("proven", "broken"): Move.REFUSE,
    ("probation", "failing"): Move.SET_ASIDE,
    ("proven", "failing"): Move.SET_ASIDE,
    ("probation", "lost"): Move.DROP,
    ("proven", "lost"): Move.DROP,
}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class Trial(_Model):
    """How often a bundle was tried, and loaded, without an end; ``since`` in µs."""

    sha256: str
    tries: int
    since: int
    loads: int = 0


class Refusal(_Model):
    """Why a bundle may not run here, and which version of the program decided it."""

    bundle: BundleRef
    reason: str
    program: str


class State(_Model):
    """``activation.json``. Each method returns the state after a step.

    ``generation`` grows whenever ``current`` changes. ``probation`` belongs to ``current``, ``trial`` to a bundle in
    self-test, ``aside`` to the bundle that was set aside last. ``told`` counts the events that were announced,
    ``pending`` are those after them. ``trouble`` is the kind of the updater's last failure, ``note`` describes it,
    ``trouble_since`` (µs) is when it began; all are empty when all is well.
    """

    format: Literal[1] = 1
    rules: int = 1
    generation: int = 0
    current: BundleRef | None = None
    previous: BundleRef | None = None
    staged: BundleRef | None = None
    proven: tuple[str, ...] = ()
    probation: Trial | None = None
    trial: Trial | None = None
    aside: Trial | None = None
    refused: dict[str, Refusal] = {}
    security_floor: int = 0
    trouble: str = ""
    note: str = ""
    trouble_since: int = 0
    told: int = 0
    pending: tuple[ModelData, ...] = ()

    @property
    def phase(self) -> Phase:
        """Of the current bundle."""
        if self.current is None:
            return "none"
        return "proven" if self.probation is None else "probation"

    def taken_over(self) -> State:
        """Migrate a state of an earlier version of these rules.

        Before rules 2 a bundle was also refused where the configuration or a lack of memory was at fault, and starts
        without a block to score counted as tries: neither says anything about the bundle.
        """
        if self.rules >= RULES:
            return self
        probation = self.probation.model_copy(update={"tries": 0}) if self.probation is not None else None
        return self._but(rules=RULES, refused={}, probation=probation, trial=None)

    # ---- the current bundle --------------------------------------------------------------------------------------

    def after(self, event: Happening, sha256: str, reason: str = "", now: int = 0) -> State:
        """Apply an event to the current bundle; events for any other bundle are ignored."""
        if self.current is None or self.current.sha256 != sha256:
            return self
        match TABLE.get((self.phase, event)):
            case Move.COUNT_LOAD:
                return self._counted(loads=+1)
            case Move.FORGET_LOADS:
                return self._but(probation=self.probation and self.probation.model_copy(update={"loads": 0}))
            case Move.COUNT:
                return self._counted(tries=+1)
            case Move.UNCOUNT:
                return self._counted(tries=-1)
            case Move.PROVE:
                done = ModelData(transition="activated", bundle=self.current, previous=self.previous)
                return self._but(probation=None, aside=None, proven=(*self.proven, sha256))._tell(done)
            case Move.REFUSE if self._can_give_way():
                return self._with_refusal(self.current, reason)._fallen_back(reason)
            case Move.REFUSE if self.phase == "probation" and event == "broken":
                return self._with_refusal(self.current, reason)  # it stays, but the updater may offer another
            case Move.SET_ASIDE if self._can_give_way():
                tries = self.aside.tries if self.aside is not None and self.aside.sha256 == sha256 else 0
                return self._but(aside=Trial(sha256=sha256, tries=tries + 1, since=now))._fallen_back(reason)
            case Move.DROP:
                return self._fallen_back(reason)
        return self

    def crashes(self) -> bool:
        """Tell whether too many attempts with the current bundle never ended."""
        return self.probation is not None and max(self.probation.tries, self.probation.loads) >= TRIES

    def switched(self, bundle: BundleRef, security_floor: int, now: int) -> State:
        """Make a staged bundle the current one, on probation.

        The replaced bundle becomes the previous one, unless it is unproven and there is a proven one to fall back to.
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

    # ---- other bundles -------------------------------------------------------------------------------------------

    def with_staged(self, bundle: BundleRef) -> State:
        """A bundle is about to be written to disk: keep its file."""
        return self._but(staged=bundle)

    def tried(self, bundle: BundleRef, now: int) -> State:
        """The updater is about to test a bundle; no trial is left after too many tests that never ended."""
        tries = self.trial.tries if self.trial is not None and self.trial.sha256 == bundle.sha256 else 0
        trial = Trial(sha256=bundle.sha256, tries=tries + 1, since=now)
        return self._but(trial=trial if tries < TRIES else None)

    def tested(self) -> State:
        """A self-test has ended, whatever its result."""
        return self._but(trial=None)

    def refusing(self, bundle: BundleRef, reason: str) -> State:
        """Refuse an offered bundle; the current one and proven ones cannot be refused this way."""
        if bundle.sha256 in self.proven or (self.current is not None and self.current.sha256 == bundle.sha256):
            return self
        state = self._with_refusal(bundle, reason)
        staged, previous = (
            None if other is not None and other.sha256 == bundle.sha256 else other
            for other in (state.staged, state.previous)
        )
        told = ModelData(transition="refused", bundle=bundle, previous=state.current, reason=reason)
        return state._but(staged=staged, previous=previous)._tell(told)

    def without_previous(self) -> State:
        """Drop the bundle to fall back to: it was revoked."""
        return self._but(previous=None)

    def refusal(self, sha256: str) -> Refusal | None:
        """Return why this version of the program may not run a bundle, or None."""
        found = self.refused.get(sha256)
        return found if found is not None and found.program == __version__ else None

    def put_off(self, sha256: str, now: int) -> bool:
        """Tell whether a bundle was set aside and its pause is not over; setting the clock back ends the pause."""
        aside = self.aside
        if aside is None or aside.sha256 != sha256:
            return False
        pause = min(PAUSE << min(aside.tries - 1, 10), LONGEST_PAUSE)
        return aside.since <= now < aside.since + pause

    # ---- what is told --------------------------------------------------------------------------------------------

    def noted(self, trouble: str, note: str, announce: bool, now: int = 0) -> State:
        """Record how the last update ended; a new kind of trouble is announced once."""
        since = 0 if not trouble else self.trouble_since if trouble == self.trouble else now
        state = self._but(trouble=trouble, note=note, trouble_since=since)
        if announce and trouble and trouble != self.trouble:
            return state._tell(ModelData(transition="update_failed", bundle=None, previous=self.current, reason=note))
        return state

    def announced(self, upto: int) -> State:
        """Drop the events before number ``upto``: they are in the journal."""
        done = min(max(upto - self.told, 0), len(self.pending))
        return self._but(told=self.told + done, pending=self.pending[done:])

    # ---- within --------------------------------------------------------------------------------------------------

    def _can_give_way(self) -> bool:
        if self.current is None or self.previous is None:
            return False
        return self.phase == "probation" or self.previous.sha256 in self.proven

    def _counted(self, **changes: int) -> State:
        if self.probation is None:
            return self
        counts = {name: max(getattr(self.probation, name) + change, 0) for name, change in changes.items()}
        return self._but(probation=self.probation.model_copy(update=counts))

    def _with_refusal(self, bundle: BundleRef, reason: str) -> State:
        refusal = Refusal(bundle=bundle, reason=reason, program=__version__)
        others = {sha: old for sha, old in self.refused.items() if sha != bundle.sha256}
        return self._but(refused=dict(list(others.items())[1 - REFUSALS_KEPT :]) | {bundle.sha256: refusal})

    def _fallen_back(self, reason: str) -> State:
        """Roll back to the previous bundle; it is on probation again if it was never proven."""
        back = self.previous
        unproven = back is not None and back.sha256 not in self.proven
        return self._but(
            generation=self.generation + 1,
            current=back,
            previous=None,
            note=reason if back is None else self.note,  # until an update has something newer to say
            probation=Trial(sha256=back.sha256, tries=0, since=0) if back is not None and unproven else None,
        )._tell(ModelData(transition="rolled_back", bundle=self.current, previous=back, reason=reason))

    def _tell(self, event: ModelData) -> State:
        pending = (*self.pending, event)
        lost = max(len(pending) - EVENTS_KEPT, 0)
        return self._but(pending=pending[lost:], told=self.told + lost)

    def _but(self, **changes: object) -> State:
        state = self.model_copy(update=changes)
        kept = {bundle.sha256 for bundle in (state.current, state.previous) if bundle is not None}
        return state.model_copy(update={"proven": tuple(sha for sha in dict.fromkeys(state.proven) if sha in kept)})
