"""The service's supervisor of the active bundle: loads it, proves it on live blocks, reacts when it does not work.

Which bundle is active is stored by :mod:`.update.activation`; this module decides what a failure of it means.

========================  ====================================================================================
result                    reaction
========================  ====================================================================================
misfit                    wait for another bundle: the configuration or the program must be corrected first
failed                    try again with growing pauses; after :data:`FAILURES` in a row set it aside, where
                          there is another
broken                    try again at once (it may have been this computer after all); after ``TRIES`` in a
                          row refuse it, where there is another; else go on trying with growing pauses
:data:`PROVEN_BLOCKS`     proven
scored
========================  ====================================================================================

Meanwhile a block that was not scored waits in the log. While one bundle scores, a new one that does not load changes
nothing.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from fieldwatch_contract import clock
from fieldwatch_contract.bundle import Bundle, BundleBroken, BundleError, BundleMisfit, no_memory
from fieldwatch_contract.events import Trouble

from fieldwatch_agent.update.activation import Activation
from fieldwatch_agent.update.states import TRIES

PROVEN_BLOCKS = 3
"""Blocks that a new bundle must score before it counts as proven."""
FAILURES = 20
"""Consecutive failures (about a quarter of an hour) after which a bundle is set aside."""
PAUSE_S = 5.0
LONGEST_PAUSE_S = 60.0

Loaded = TypeVar("Loaded")
log = logging.getLogger("fieldwatch.agent")


class Takeup:
    """Loads the active bundle into the service. ``survivable``: the exceptions that do not end the program."""

    def __init__(self, activation: Activation, survivable: tuple[type[Exception], ...]) -> None:
        """Nothing is loaded yet."""
        self._activation = activation
        self._survivable = survivable
        self._generation: int | None = None
        self._running = ""
        self._settled = False  # the active bundle runs
        self._blocks = 0
        self._failures = 0
        self._failing = ""  # the bundle that failed last
        self._at_load = True  # whether it failed while loading; then the trouble is over once it loads
        self._again = 0.0
        self._trouble: Trouble | None = None

    def due(self) -> bool:
        """Tell whether a bundle should be loaded: another became active, or it is not running and the pause is over."""
        if self._activation.generation() != self._generation:
            return True
        return not self._settled and time.monotonic() >= self._again

    def load(self, load: Callable[[Bundle], Loaded]) -> Loaded | None:
        """Return ``load`` of the active bundle; None if it failed, or if that bundle is already running."""
        self._generation, self._settled = self._activation.generation(), False
        try:
            bundle = self._activation.start()
            self._generation = self._activation.generation()
            if bundle is None:
                self._again = time.monotonic() + 1.0
                return None
            if bundle.sha256 == self._running:
                self._settled = True
                return None
            with self._activation.attempt(bundle.sha256, self._survivable, load=True):
                loaded = load(bundle)
        except (BundleError, MemoryError) as error:
            self._at_load = True
            self._failed(error)
            return None
        self._running, self._settled, self._blocks = bundle.sha256, True, 0
        if self._failing != bundle.sha256 or self._at_load:
            self._trouble, self._failures = None, 0
        if self._trouble is None:
            log.info("scoring with %s/%s", bundle.manifest.name, bundle.manifest.version)
        return loaded

    def block(self) -> AbstractContextManager[None]:
        """Return the context manager to score a block in, so that a crash of the program is counted."""
        return self._activation.attempt(self._running, self._survivable)

    def scored(self) -> None:
        """The running bundle has scored a block."""
        if not self._settled:
            return  # it is the previous one, while the active one does not load
        self._trouble, self._failures = None, 0
        self._blocks += 1
        if self._blocks == PROVEN_BLOCKS:
            self._activation.commit(self._running)

    def failed(self, error: BundleError | MemoryError) -> None:
        """The running bundle could not score a block; it has to be loaded again."""
        self.dropped()
        self._at_load = False
        self._failed(error)

    def dropped(self) -> None:
        """The running pipeline was discarded for another reason; it has to be loaded again."""
        self._running, self._settled = "", False

    def trouble(self) -> Trouble | None:
        """Return what is wrong with the active bundle; None while it runs."""
        return self._trouble

    def _failed(self, error: BundleError | MemoryError) -> None:
        current = self._activation.state().current
        cause = error if isinstance(error, BundleError) else no_memory()
        self._failures += 1
        self._failing = current.sha256 if current is not None else ""
        if isinstance(cause, BundleMisfit):
            self._tell("bundle_misfit", cause.what, cause.remedy)
            self._again = math.inf
            return
        broken = isinstance(cause, BundleBroken)
        if current is not None and self._failures >= (TRIES if broken else FAILURES):
            self._activation.happened("broken" if broken else "failing", current.sha256, str(cause))
            if self._activation.generation() != self._generation:
                log.error("bundle %s/%s is replaced by the previous one: %s", current.name, current.version, cause)
                self._failures = 0
                return
        remedy = cause.remedy or "report it to the release engineers; the lines wait in the log"
        name = f"bundle {current.name}/{current.version}" if current is not None else "the bundle"
        self._tell("bundle_failing", f"{name} cannot score: {cause.what}", remedy)
        self._again = time.monotonic() + min(PAUSE_S * self._failures, LONGEST_PAUSE_S)

    def _tell(self, kind: str, detail: str, remedy: str) -> None:
        if self._trouble is not None and (self._trouble.kind, self._trouble.detail) == (kind, detail):
            return
        log.error("%s; %s", detail, remedy)
        self._trouble = Trouble(kind=kind, detail=detail, remedy=remedy, since=clock.iso(clock.now()))
