"""The alert rule of each model of a bundle, folded over a block of one device's rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from fieldwatch_contract.alerts import Rule, RuleState, Said
from fieldwatch_contract.bundle import Manifest
from fieldwatch_contract.events import LevelNow
from fieldwatch_contract.fold import Folded, advance
from fieldwatch_contract.grid import Block
from fieldwatch_contract.scoring import Scores
from fieldwatch_contract.verdicts import CODES, Verdict
from numpy.typing import NDArray

States = Mapping[str, RuleState]
"""The rule's state of each model, by name; a model without one begins."""


class Rules:
    """What a bundle says of alerts on one device."""

    def __init__(self, device: str, manifest: Manifest) -> None:
        self._rules = [Rule.of(device, spec) for spec in manifest.models]

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules)

    def fold(self, block: Block, scores: Sequence[Scores], states: States, said: Sequence[Said] = ()) -> list[Folded]:
        """Return what ``block``, whose rows have ``scores``, gives under each model, in the bundle's order."""
        return [
            _folded(rule, block, judged, states, said, len(block.ts))
            for rule, judged in zip(self._rules, scores, strict=True)
        ]

    def before(self, block: Block, judged: Scores, states: States, said: Sequence[Said], index: int) -> RuleState:
        """Return the state of one model's rule before row ``index`` of ``block``, which was folded like this."""
        rule = next(rule for rule in self._rules if rule.model == judged.model)
        return _folded(rule, block, judged, states, said, index).state

    def states(self, folded: Sequence[Folded]) -> dict[str, RuleState]:
        """Return the states after what :meth:`fold` gave."""
        return {rule.model: done.state for rule, done in zip(self._rules, folded, strict=True)}

    def levels(self, states: States) -> list[LevelNow]:
        """Return the level of each model whose bundle lets it move."""
        return [
            LevelNow(model=rule.model, level=rule.level_at(state), at_bound=rule.at_bound(state))
            for rule in self._rules
            for state in [states.get(rule.model, rule.start())]
            if rule.moving is not None
        ]


def _folded(rule: Rule, block: Block, judged: Scores, states: States, said: Sequence[Said], stop: int) -> Folded:
    """Fold the rows of ``block`` before ``stop``."""
    return advance(
        rule,
        states.get(rule.model, rule.start()),
        block.ts[:stop],
        judged.score[:stop],
        counted(block, judged)[:stop],
        judged.explain,
        said,
    )


def counted(block: Block, judged: Scores) -> NDArray[np.bool_]:
    """Tell which rows count: there was a reading, and the model judged it."""
    return np.asarray((block.source >= 0) & (judged.verdict != CODES[Verdict.UNKNOWN]))
