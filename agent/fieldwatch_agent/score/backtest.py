"""How often would this have fired here? A log through the alert rule of a bundle, before the bundle runs.

The rule begins with the first line, without history, and nobody answers: a log does not say what was true. So the trade
is told between alerts and budgets; against labels the trainer's ``backtest`` holds it. Alerts, their weeks and pictures
are those of the trainer, from the same functions.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from fieldwatch_contract.alerts import Rule
from fieldwatch_contract.backtest import FACTORS, Backtest, with_budget
from fieldwatch_contract.bundle import Bundle
from fieldwatch_contract.chart import chart
from fieldwatch_contract.grid import Block
from fieldwatch_contract.scoring import Scores
from fieldwatch_contract.told import Curve, Told, line_of, weeks
from numpy.typing import NDArray

from fieldwatch_agent.score.rules import counted


def backtest(bundle: Bundle, device: str, scored: Iterable[tuple[Block, list[Scores]]], about: str) -> Told:
    """Return what would have been told; ``scored``: all blocks of the log, in order; ``about`` says what was read."""
    manifest = bundle.manifest
    told = Told(f"{manifest.name}/{manifest.version}", manifest.period, manifest.sensors, [about])
    models = [_Model(Rule.of(device, spec)) for spec in manifest.models]
    for block, scores in scored:
        for model, judged in zip(models, scores, strict=True):
            model.feed(block, judged)
    for model in models:
        model.tell(told)
    return told


class _Model:
    """One model while blocks pass: the bundle's own rule first, then other budgets."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._tests = {factor: Backtest(with_budget(rule, factor)) for factor in sorted({1.0, *FACTORS})}
        self._parts: list[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_], NDArray[np.float64]]] = []

    def feed(self, block: Block, judged: Scores) -> None:
        counts = counted(block, judged)
        levels = {
            factor: test.feed(block.ts, judged.score, counts, judged.explain)[0] for factor, test in self._tests.items()
        }
        self._parts.append((block.ts, judged.score, counts, levels[1.0]))

    def tell(self, told: Told) -> None:
        if not self._parts:
            return
        ts, score, judged, level = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        score = np.where(judged, score, np.float32("nan"))
        device, model, fired = self._rule.device, self._rule.model, self._tests[1.0].fired
        for one in fired:
            told.alerts.append(line_of(device, model, one, told.sensors, "", ts, score, level, [], told.period))
        told.weeks += weeks(device, model, ts, judged, fired, told.period)
        told.devices.append(chart(f"{device}, {model}", ts, score, level, fired, [], told.period))
        told.curves.append(
            Curve(model, [{"factor": factor, "alerts": len(test.fired)} for factor, test in self._tests.items()])
        )
