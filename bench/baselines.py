"""Simple detectors beside ours: what a week of work should beat. Same rows, same alert rule, same way to a threshold.

Each is fitted on the first three quarters of the training rows, and its threshold is the lowest that keeps the budget
on the last quarter, as in training; then its alerts are raised by the same rule with a level that moves, unanswered.
Features are the z-scores of a row; scores are averaged as ours are, so that smoothing is no advantage of ours.

* *moving variance*: of each sensor over 30 rows, mean over sensors; foundation models do not differ from it on public
  sets (ICLR 2026).
* *PCA*: what the components that hold 95 % of the variance leave over.
* *k-means*: distance to the nearest of 20 centres.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from fieldwatch_contract.alerts import Rule
from fieldwatch_contract.backtest import Backtest
from fieldwatch_contract.fold import unexplained
from fieldwatch_trainer.baselines import moving_variance
from fieldwatch_trainer.lake import GridRows
from fieldwatch_trainer.levels import level_rule
from fieldwatch_trainer.models import SEED
from fieldwatch_trainer.outcomes import Judge
from fieldwatch_trainer.thresholds import BUDGET, HeldOut, from_budget
from numpy.typing import NDArray

CENTRES = 20
ROUNDS = 25
KEPT = 0.95
CLIP = 20.0
DECAY = 0.8
TAPS = 32

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Alerts:
    """A baseline's scores of the readings that are tried, its threshold, and its alerts on them."""

    score: NDArray[np.float32]
    threshold: float
    alerts: list[tuple[int, int]]


def variance(rows: Floats, learn: int) -> Floats:
    """Score by how much the sensors moved of late."""
    with np.errstate(invalid="ignore"):
        scale = np.nanstd(rows[:learn], axis=0)
    return moving_variance(rows, scale, 0, len(rows)).astype(np.float64)


def pca(rows: Floats, learn: int) -> Floats:
    """Score by what the largest components leave over."""
    z = _z(rows, learn)
    values, vectors = np.linalg.eigh(np.cov(z[:learn].T))
    order = np.argsort(-values)
    kept = int(np.searchsorted(np.cumsum(values[order]) / values.sum(), KEPT)) + 1
    axes = vectors[:, order[:kept]]
    return _smooth(((z - (z @ axes) @ axes.T) ** 2).mean(axis=1))


def kmeans(rows: Floats, learn: int) -> Floats:
    """Score by the distance to the nearest centre (Lloyd's algorithm)."""
    z = _z(rows, learn)
    seen = z[:learn]
    centres = seen[np.random.default_rng(SEED).choice(len(seen), min(CENTRES, len(seen)), replace=False)].copy()
    for _ in range(ROUNDS):
        nearest = _distance(seen, centres).argmin(axis=1)
        for place in range(len(centres)):
            if (nearest == place).any():
                centres[place] = seen[nearest == place].mean(axis=0)
    return _smooth(np.sqrt(np.maximum(_distance(z, centres).min(axis=1), 0.0)))


def _distance(z: Floats, centres: Floats) -> Floats:
    return np.asarray((z**2).sum(axis=1)[:, None] - 2 * z @ centres.T + (centres**2).sum(axis=1)[None, :])


def _z(rows: Floats, learn: int) -> Floats:
    with np.errstate(invalid="ignore"):
        mean, sd = np.nanmean(rows[:learn], axis=0), np.nanstd(rows[:learn], axis=0)
        span = np.nanmax(rows[:learn], axis=0) - np.nanmin(rows[:learn], axis=0)
        scale = np.maximum(sd, 0.01 * span)
        return np.nan_to_num(np.clip((rows - mean) / np.where(scale > 0, scale, 1.0), -CLIP, CLIP))


def _smooth(score: Floats) -> Floats:
    weights = DECAY ** np.arange(TAPS)
    return np.convolve(score, weights / weights.sum())[: len(score)]


Made = Callable[[GridRows, int, HeldOut, Judge], Alerts]


def _made(score: Callable[[Floats, int], Floats]) -> Made:
    def run(grid: GridRows, first: int, held: HeldOut, judge: Judge) -> Alerts:
        """Fit on rows before ``first``, score the others; ``held`` has their times and labels."""
        learn = 3 * first // 4
        found = score(grid.rows, learn).astype(np.float32)
        seen = learn + np.flatnonzero(grid.reading[learn:first])
        quiet = HeldOut(held.device, grid.ts[seen], found[seen], np.ones(len(seen), bool), np.zeros(len(seen), np.int8))
        threshold = from_budget(judge.alert, [quiet], judge.period, budget=BUDGET, guard=judge.guard, unit=1.0).value
        level = level_rule("detector", threshold, judge.period, BUDGET, adapt=True)
        after = found[first:][grid.reading[first:]]
        test = Backtest(Rule(held.device, "baseline", "detector", threshold, judge.alert, level))
        test.feed(held.ts, after, held.judged, unexplained)
        return Alerts(after, threshold, [(one.told, one.last) for one in test.fired if one.told is not None])

    return run


BASELINES: dict[str, Made] = {
    "variance": _made(variance),
    "pca": _made(pca),
    "k-means": _made(kmeans),
}
