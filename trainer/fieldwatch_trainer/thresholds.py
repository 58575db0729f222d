"""Thresholds from what people can bear: so many false alarms a device and day.

A quantile of scores promises nothing about alarms, because alarms come in runs. So the budget is in *alerts*, counted
on scores of time that the model has not seen (:mod:`.train`) with the persistence and hysteresis of the device. What
counts as a false alarm is defined in :mod:`.events`.

* **Detector** (:func:`from_budget`): the lowest threshold that keeps the budget on held-back time. Where that time is
  too short for a single alert of the budget, it is just above all that was seen there, and the facts say that nothing
  more is known (``known`` False). There is no floor: a short history gives a low threshold, and the level of the alerts
  finds its place on the device (:mod:`.levels`).
* **Classifier** (:func:`for_faults`): of the thresholds that keep the budget, the one that finds most held-back faults
  for its false alarms (F1 of events); of all that do equally well one near the lowest, because the next fault will be
  another, and false alarms are what the level is for. With few faults the probability of the next one stays far below
  one half, and an alert must be possible all the same: there is no floor. Where no fault was held back, the lowest that
  keeps the budget; recall is then not known.

On new time no fixed threshold keeps its budget; that is what the level is for. The threshold stays what turns a row's
score into its verdict.
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

from fieldwatch_trainer.events import Event, false_at, finder, unexplained
from fieldwatch_trainer.models import FAULT

BUDGET = 0.5
"""Default false alarms a device and day that a fixed threshold may raise on held-back time: one in two days."""

CANDIDATES = 60
"""Thresholds of a classifier that are tried, evenly apart in log odds."""
LEAST_ODDS = 1e-6

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
    rule: AlertRule, held: Sequence[HeldOut], period: int, *, budget: float, guard: int, unit: float
) -> Threshold:
    """Return the lowest threshold that keeps ``budget`` false alarms a device-day on ``held``; ``period`` in µs.

    ``unit``: the score's own unit, the threshold where nothing was held back or no score there was above 0.
    """
    scores = np.sort(np.concatenate([one.score[one.normal] for one in held]))[::-1] if held else np.zeros(0)
    days = device_days(held, period)
    if not len(scores):
        return Threshold(unit, {"rule": "the score's unit: nothing was held back", "device_days": 0.0, "known": False})

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
    above_all = float(np.nextafter(scores[0], np.float32(np.inf)))
    value = unit if scores[0] <= 0 else above_all if good < 0 else float(scores[good])
    facts = {
        "rule": f"the lowest that keeps {budget:g} false alarms a device-day on held-back time",
        "device_days": days,
        "allowed_episodes": allowed,
        "known": allowed > 0,
        "episodes": count(value),
        "episodes_per_device_day": count(value) / days if days else None,
        "quantiles": {str(q): float(np.quantile(scores, q)) for q in QUANTILES},
    }
    return Threshold(float(np.float32(value)), facts)


def for_faults(rule: AlertRule, held: Sequence[HeldOut], period: int, *, budget: float, guard: int) -> Threshold:
    """Return the threshold of a classifier; scores are probabilities. ``period`` in µs."""
    lowest = from_budget(rule, held, period, budget=budget, guard=guard, unit=0.5)
    events = [_faults(one) for one in held]
    count = sum(len(each) for each in events)
    facts = lowest.facts | {"faults": count, "lowest": lowest.value}
    if not count:
        return Threshold(lowest.value, facts | {"recall": None})
    reach = max(float(np.nanmax(one.score, initial=0.0, where=one.judged)) for one in held)
    tried = np.append(_between(lowest.value, reach), np.nextafter(np.float32(reach), np.float32(1)))
    free = [unexplained(one.label, guard) for one in held]
    found, false = np.zeros(len(tried)), np.zeros(len(tried))
    for place, threshold in enumerate(tried):
        for one, faults, mine in zip(held, events, free, strict=True):
            alerts = alarms(rule, float(threshold), one)
            found[place] += sum(finder(event, alerts) is not None for event in faults)
            false[place] += sum(len(false_at(alert, mine, period)) for alert in alerts)
    f1 = 2 * found / (found + false + count)
    if lowest.facts["known"]:  # an alert that begins at a fault and never ends counts too: see what is kept
        f1[false > lowest.facts["allowed_episodes"]] = -1.0
    best = np.flatnonzero(f1 == f1.max())
    chosen = best[len(best) // 4]
    days = device_days(held, period)
    return Threshold(
        float(np.float32(tried[chosen])),
        facts
        | {
            "rule": f"keeps {budget:g} false alarms a device-day on held-back time, and finds most faults for them",
            "recall": float(found[chosen] / count),
            "episodes": int(false[chosen]),
            "episodes_per_device_day": float(false[chosen] / days) if days else None,
        },
    )


def _faults(held: HeldOut) -> list[Event]:
    """Return the runs of rows with a fault."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], held.label == FAULT, [0]))))
    return [Event("fault", int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _between(low: float, high: float) -> NDArray[np.float64]:
    """Return probabilities from ``low`` to ``high``, evenly apart in log odds."""
    first, last = (np.log(p / (1 - p)) for p in np.clip([low, max(low, high)], LEAST_ODDS, 1 - LEAST_ODDS))
    return np.asarray(1 / (1 + np.exp(-np.linspace(first, last, CANDIDATES))))
