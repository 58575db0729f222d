"""What alerts begin with under another bundle: its own rule, folded over the device's available history.

A level is never inherited: what one bundle has learnt to bear says nothing of the scores of another. So the log is read
once more, as far back as it is there and at most :data:`HISTORY_ROWS`, and the new bundle's rule is folded over it with
what people said. A bundle that comes back (after a rollback) goes on from its own state, over the rows it has missed.

| an alert is open | then |
|---|---|
| under both, begun at the same row | it stays what it is |
| under the old bundle alone | it is resolved, with the reason; nothing else would ever end it |
| under the new one alone | it is reported with the next row |

A journal of before there were levels does not say which bundle its alerts belong to: one without levels takes them
over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from fieldwatch_contract.alerts import RuleState, Said
from fieldwatch_contract.bundle import Manifest
from fieldwatch_contract.grid import Grid
from fieldwatch_contract.reading.parse import Parser
from fieldwatch_contract.reading.settings import LogConfig
from fieldwatch_contract.scoring import Scores
from numpy.typing import NDArray

from fieldwatch_agent.log.tail import Tail
from fieldwatch_agent.score.past import BLOCK_BYTES
from fieldwatch_agent.score.rules import Rules, States
from fieldwatch_agent.send.journal import Progress

HISTORY_ROWS = 43_200
"""Periods before the newest row that are folded at most: thirty days of minutes."""


class Handover:
    """From the states that the journal has to those of the bundle that is taken up.

    Each :meth:`step` reads one block, so that the service stays responsive; nothing is written before the end.
    """

    def __init__(
        self,
        log: LogConfig,
        manifest: Manifest,
        sha256: str,
        rules: Rules,
        progress: Progress,
        said: Sequence[Said],
    ) -> None:
        """``progress``: of the last commit, under another bundle."""
        self._rules, self._progress, self._said = rules, progress, said
        self._states: States = progress.kept.get(sha256, {})
        self._ended = False
        if not progress.bundle and all(rule.moving is None for rule in rules):
            self._states, self._ended = progress.alerts, True
        self._period = manifest.period
        self._grid = Grid(manifest.period, manifest.window, len(manifest.sensors))
        self._parser = Parser(log, manifest.sensors)
        self._tail = Tail(log.path, None, encoding=log.encoding, format=self._parser)

    def step(self, score: Callable[[NDArray[np.float64]], list[Scores]]) -> int | None:
        """Fold the next block of the log; return how many lines it has, None after the last one.

        ``score``: :meth:`.scoring.Scorer.score`; what it raises is raised.
        """
        newest = self._progress.newest
        lines = None if self._ended or newest is None else self._tail.read(BLOCK_BYTES)
        if lines is None or newest is None:
            return None
        readings = self._parser.parse(lines)
        wanted = (readings.ts <= newest) & (readings.ts > newest - HISTORY_ROWS * self._period)
        self._ended = bool(len(readings.ts)) and bool((readings.ts > newest).all())
        for block in self._grid.blocks(readings.ts[wanted], readings.values[wanted]):
            if len(block.ts) and not all(self._is_folded(state, int(block.ts[-1])) for state in self._begun()):
                folded = self._rules.fold(block, score(block.rows), self._states, self._said)
                self._states = self._rules.states(folded)
        return len(lines)

    def states(self) -> dict[str, RuleState]:
        """Return the bundle's states after the newest row; an alert of which nobody was told yet is marked so."""
        newest = self._progress.newest
        found = {}
        for rule in self._rules:
            state = replace(self._states.get(rule.model, rule.start()), upto=newest)
            before = self._progress.alerts.get(rule.model, RuleState()).alert
            told = before.announced and before.opened == state.alert.opened
            found[rule.model] = replace(state, alert=replace(state.alert, announced=state.alert.opened is None or told))
        return found

    def _begun(self) -> list[RuleState]:
        return [self._states.get(rule.model, RuleState()) for rule in self._rules]

    @staticmethod
    def _is_folded(state: RuleState, ts: int) -> bool:
        return state.upto is not None and ts <= state.upto
