"""Thresholds from what people can bear: so many false alarms a device and day.

A quantile of scores promises nothing about alarms, because alarms come in runs. So the budget is in *episodes*, counted
by :func:`.fold.episodes` with the persistence and hysteresis that the agent will use, on scores of time that
the model has not seen (:mod:`.train` fits on the past and scores what follows). The threshold is the lowest that
keeps the budget there. Where so little was held back that the budget allows not one episode, silence there proves
little, and the detector's threshold takes a margin on top.

What counts as a false alarm is defined in :mod:`.events`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from fieldwatch_contract.alerts import AlertRule
from fieldwatch_contract.clock import DAY
from fieldwatch_contract.fold import episodes
from numpy.typing import NDArray

from fieldwatch_trainer.events import false_at, unexplained

BUDGET = 0.5
"""Default false-alarm episodes a device and day, on held-back time: one in two days. The models there have learnt from
less than the final one; on public data half of the devices stay below 0.2 with it."""

MARGIN = 1.5
"""Factor on a detector's threshold that too little time stands behind; a probability takes none."""

QUANTILES = (0.5, 0.9, 0.99, 0.999, 1.0)


@dataclass(frozen=True)
class HeldOut:
    """Scores of one device's rows that the model has not seen; all arrays ``[n]``, one a reading.

    ``ts`` int64 µs; ``score`` float32; ``judged`` False where the verdict is unknown; ``label`` as in
    :class:`.models.DeviceRows`.
    """

    device: str
    ts: NDArray[np.int64]
    score: NDArray[np.float32]
    judged: NDArray[np.bool_]
    label: NDArray[np.int8]

    @property
    def normal(self) -> NDArray[np.bool_]:
        """Rows that are judged, scored and outside every labelled interval."""
        return np.asarray(self.judged & (self.label == 0) & ~np.isnan(self.score))


@dataclass(frozen=True)
class Threshold:
    """A threshold and how it came about."""

    value: float
    facts: dict[str, Any]


def device_days(held: Sequence[HeldOut], period: int) -> float:
    """Return the normal time in ``held``, in days; ``period`` in µs."""
    return sum(int(one.normal.sum()) for one in held) * period / DAY


def alarms(rule: AlertRule, threshold: float, held: HeldOut) -> list[tuple[int, int]]:
    """Return the alerts as pairs of row indices, opened at and last row; the same as :func:`.fold.episodes`.

    Of a run of rows below the clearing level only the first ``resolve_after`` can change anything, so the others are
    left out: a year of quiet costs nothing.
    """
    values = held.score.astype(np.float64)
    judged = np.flatnonzero(held.judged & ~np.isnan(values))
    low = values[judged] < threshold * rule.clear_ratio
    position = np.arange(len(judged))
    last_high = np.maximum.accumulate(np.where(low, -1 - rule.resolve_after, position))
    kept = judged[position - last_high <= rule.resolve_after]
    found = episodes(rule, threshold, held.ts[kept], held.score[kept], np.ones(len(kept), bool))
    return [(int(kept[first]), int(kept[last])) for first, last in found]


def false_alarms(rule: AlertRule, threshold: float, held: HeldOut, period: int, guard: int) -> int:
    """Count the false alerts as :mod:`.events` defines them; ``period`` in µs, ``guard`` rows after a label."""
    free = unexplained(held.label, guard)
    return sum(len(false_at(alert, free, period)) for alert in alarms(rule, threshold, held))


def from_budget(
    rule: AlertRule,
    held: Sequence[HeldOut],
    period: int,
    *,
    budget: float,
    margin: float,
    least: float,
    guard: int,
) -> Threshold:
    """Return the lowest threshold that keeps ``budget`` episodes a device-day on ``held``.

    Times ``margin`` where ``held`` is too short for a single episode. ``least`` is a floor on the result; with nothing
    held back it is the result.
    """
    scores = np.sort(np.concatenate([one.score[one.normal] for one in held]))[::-1] if held else np.zeros(0)
    days = device_days(held, period)
    if not len(scores):
        return Threshold(least, {"rule": "floor: no held-back rows", "device_days": 0.0})

    def count(threshold: float) -> int:
        return sum(false_alarms(rule, threshold, one, period, guard) for one in held)

    allowed = int(budget * days)
    # The count mostly falls as the threshold rises: bisect over the ranks of the scores. Where it does not, because a
    # lower threshold makes one long alert of many short ones, this ends at one of several thresholds that keep it.
    good, bad = -1, len(scores)
    while bad - good > max(1, good // 100):
        middle = (good + bad) // 2
        if scores[middle] > 0 and count(float(scores[middle])) <= allowed:
            good = middle
        else:
            bad = middle
    before = float(np.nextafter(scores[0], np.float32(np.inf))) if good < 0 else float(scores[good])
    factor = margin if allowed == 0 else 1.0
    value = float(np.float32(max(before * factor, least)))
    facts = {
        "rule": f"at most {budget:g} false-alarm episodes a device-day on held-back time, at least {least:.4g}",
        "margin": factor,
        "device_days": days,
        "allowed_episodes": allowed,
        "threshold_before_margin": before,
        "episodes": count(value),
        "episodes_per_device_day": count(value) / days if days else None,
        "quantiles": {str(q): float(np.quantile(scores, q)) for q in QUANTILES},
    }
    return Threshold(value, facts)
