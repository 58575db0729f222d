"""The level of a model's alerts in the bundle: its ladder, where a new device starts, how fast it moves.

The threshold (:mod:`.thresholds`) is where a device without history starts. Around it lies a ladder on which
:mod:`.level` moves: a detector's rungs are evenly apart in the logarithm of the score, a classifier's in log odds, and
end at what it was seen to give to a fault. One configuration for all, chosen on SMD and ASD; what either would have
chosen alone: ``bench/left_out.py``, ``docs/models.md``.

Speeds follow from the budget: an opening puts the level :data:`RISE` rungs up, and :data:`UNANSWERED` times the budget
alerts a day keep it where it is while nobody says which of them were true. Where people answer, a true alert gives its
rungs back, so only the false ones count, and fewer will do (:data:`ANSWERED`).
"""

from __future__ import annotations

import numpy as np
from fieldwatch_contract.clock import DAY
from fieldwatch_contract.level import MOST_RUNGS, LevelRule
from fieldwatch_contract.verdicts import Kind
from numpy.typing import NDArray

from fieldwatch_trainer.events import LONG

STEP = {"detector": 0.025, "classifier": 0.1}
"""One rung, in the logarithm of the score or in log odds."""
BELOW, ABOVE = 40, 120
"""Rungs below and above the start: a detector's level may fall to 0.37 of its threshold and rise to 20 times it."""
RISE = 14
ANSWERED, UNANSWERED = 3 / 7, 2.0
"""Alerts that keep the level where it is, as multiples of the budget: false ones, and all of them."""
LIKE = 0.95
"""Cosine from which an alert resembles a dismissed one."""
NEARLY_ONE = 1 - 1e-6


def level_rule(
    kind: Kind, threshold: float, period: int, budget: float, *, unit: float = 0.0, reach: float = 1.0, adapt: bool
) -> LevelRule:
    """Return how the level of a model moves from ``threshold``; ``period`` in µs, ``budget`` in alerts a device-day.

    ``unit``: a detector's ladder reaches at least as high as if it started there: a history in which nothing happened
    must not keep the level down. ``reach``: the highest probability of a fault; a classifier's ladder ends there.
    """
    if kind == "detector":
        top = max(threshold, unit) * np.exp(STEP[kind] * ABOVE)
        above = min(round(float(np.log(top / threshold) / STEP[kind])), MOST_RUNGS - BELOW - 1)
        rungs = threshold * np.exp(STEP[kind] * np.arange(-BELOW, above + 1))
    else:
        threshold = min(max(threshold, 1 - NEARLY_ONE), NEARLY_ONE)
        rungs = _odds(threshold, reach)
    day = DAY / period
    return LevelRule(
        adapt=adapt,
        ladder=tuple(float(level) for level in np.unique(rungs)),
        start=int(np.searchsorted(np.unique(rungs), threshold * (1 - 1e-12))),
        rise=RISE,
        hold=max(1, round(LONG / period)),
        fall=max(1, round(day / (RISE * budget * ANSWERED))),
        fall_unanswered=max(1, round(day / (RISE * budget * UNANSWERED))),
        like=LIKE,
    )


def _odds(threshold: float, reach: float) -> NDArray[np.float64]:
    """Return a classifier's rungs: the threshold is one of them, none is above ``reach`` but the threshold."""
    start = np.log(threshold / (1 - threshold))
    rungs = 1 / (1 + np.exp(-(start + STEP["classifier"] * np.arange(-BELOW, ABOVE + 1))))
    rungs[BELOW] = threshold
    return np.asarray(rungs[(rungs <= min(reach, NEARLY_ONE)) | (np.arange(len(rungs)) <= BELOW)])
