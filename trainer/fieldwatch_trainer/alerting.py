"""From held-back scores to a model's alerts: threshold, ladder, what to expect of them, and what is not known.

The parts are :mod:`.thresholds`, :mod:`.levels` and :mod:`.backtest`; this is how training puts them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from fieldwatch_contract.level import LevelRule

from fieldwatch_trainer.backtest import Tried
from fieldwatch_trainer.data import Fold, LakeData
from fieldwatch_trainer.levels import level_rule
from fieldwatch_trainer.models import FAULT, DeviceRows, Fitted
from fieldwatch_trainer.outcomes import DeviceScores, Judge, Outcome, counts
from fieldwatch_trainer.thresholds import Threshold, for_faults, from_budget


def beside_faults(device: DeviceRows, names: tuple[str, ...], gap: int) -> tuple[Fold, Fold]:
    """Return the part to learn from and the part to score, where one device alone had faults.

    The cut lies between the earlier and the later half of its faults. Of a single one nothing can be held back: the cut
    lies beside it, on the side with more rows, and tells how quiet the classifier is there.
    """
    fault = (device.label == FAULT)[device.use]
    edges = np.flatnonzero(np.diff(np.concatenate(([0], fault, [0]))))
    starts, stops = edges[::2] / len(fault), edges[1::2] / len(fault)
    if len(starts) > 1:
        half = len(starts) // 2
        cut = float(stops[half - 1] + starts[half]) / 2
    elif starts[0] > 1 - stops[0]:
        cut = float(starts[0]) / 2
        return Fold(names, cut, 1.0, gap=gap), Fold(names, 0.0, cut)
    else:
        cut = float(1 + stops[0]) / 2
    return Fold(names, 0.0, cut), Fold(names, cut, 1.0, gap=gap)


def threshold_of(one: Fitted, held: Sequence[DeviceScores], data: LakeData, budget: float, guard: int) -> Threshold:
    """Return a model's threshold, which is the budget's unless the model sets it itself."""
    if one.threshold is not None:
        return Threshold(one.threshold, {"rule": "set by the model"})
    parts = [part.held for part in held]
    if one.kind == "classifier":
        return for_faults(one.alert, parts, data.period, budget=budget, guard=guard)
    return from_budget(one.alert, parts, data.period, budget=budget, guard=guard, unit=_unit(data))


def _unit(data: LakeData) -> float:
    """Return a detector score that means something by itself: one sensor, one unit beyond the dead zone, for long."""
    return 1 / len(data.sensors)


def levels_of(
    one: Fitted, found: Threshold, held: Sequence[DeviceScores], data: LakeData, budget: float, adapt: bool
) -> LevelRule:
    """Return the ladder of a model's alerts; a classifier's ends at the most that it gave a held-back fault."""
    fault = [part.held.score[part.held.judged & (part.held.label == FAULT)] for part in held]
    reach = max((float(np.nanmax(score)) for score in fault if len(score)), default=1.0)
    return level_rule(one.kind, found.value, data.period, budget, unit=_unit(data), reach=reach, adapt=adapt)


def expected(
    one: Fitted, found: Threshold, level: LevelRule, held: Sequence[DeviceScores], data: LakeData, guard: int
) -> dict[str, Any]:
    """Return what the device's rule would have raised on held-back time, without and with people who answer.

    Nothing explains a row here, so no alert is like another: the figures with answers are those of people who are told
    of every repetition.
    """
    judge = Judge(one.name, one.kind, found.value, one.alert, data.period, guard)
    result = {}
    for answers in (False, True):
        tried = [Tried.of(judge, level, part, answers=answers) for part in held]
        outcomes = [Outcome.of(judge, each.scored, each.told) for each in tried]
        result["answered" if answers else "unanswered"] = counts(judge, held, outcomes)
    return {"backtest": result}


def unknown(one: Fitted, found: Threshold, budget: float) -> list[str]:
    """Say what held-back time cannot tell of a model."""
    facts, notes = found.facts, []
    if not facts.get("known", True):
        days = facts["device_days"]
        place = "just above all scores there" if days else "the score's unit"
        notes.append(
            f"The {one.name}'s false alarms are not known: {days:.3g} device-days were held back, and {budget:g} a day "
            "need more. "
            + (f"Its threshold is {place}; " if one.kind == "detector" else "")
            + "the level of its alerts finds its place on the device."
        )
    if one.kind == "classifier" and facts.get("faults") == 0:
        notes.append(
            "How many faults the classifier finds is not known: with a single one nothing can be held back. A second "
            "fault, on any device, would tell."
        )
    if facts.get("recall") == 0.0:
        notes.append(
            f"The classifier found none of {facts['faults']} held-back faults at any threshold that keeps the budget: "
            "do not rely on it."
        )
    return notes
