"""Figures of merit, each with the reason why it may be believed.

Average precision is the area under the precision-recall curve without interpolation, Σ (R_i - R_{i-1}) P_i over
distinct scores: unlike ROC-AUC it does not flatter where faults are rare. VUS-PR is its counterpart for intervals: rows
near an event count in part, and an event must be met to count. Nothing here is point-adjusted: that rule gives a
uniformly random score an F1 of .79 on public data. Every figure comes with those of scores that know nothing
(:mod:`.baselines`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldwatch_trainer.models import SEED

DRAWS = 5
"""Random scores whose average precision is averaged."""


def average_precision(positive: NDArray[np.bool_], score: NDArray[Any]) -> float | None:
    """Return the average precision of ``score`` ``[n]`` for ``positive`` bool ``[n]``; None without a positive row.

    >>> average_precision(np.array([True, False, True, False]), np.array([4.0, 3.0, 2.0, 1.0]))
    0.8333333333333333
    """
    if not positive.any():
        return None
    recall, precision = _curve(positive, score)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def random_average_precision(positive: NDArray[np.bool_]) -> float | None:
    """Return the mean average precision of uniformly random scores: about the share of positive rows."""
    if not positive.any():
        return None
    rng = np.random.default_rng(SEED)
    found = [average_precision(positive, rng.random(len(positive))) for _ in range(DRAWS)]
    return float(np.mean([value for value in found if value is not None]))


def precision_recall(positive: NDArray[np.bool_], score: NDArray[Any], points: int = 200) -> list[list[float]]:
    """Return the curve as ``[recall, precision]``, thinned to at most ``points``."""
    if not positive.any():
        return []
    recall, precision = _curve(positive, score)
    kept = np.unique(np.linspace(0, len(recall) - 1, points).round().astype(np.int64))
    return [[round(float(recall[i]), 5), round(float(precision[i]), 5)] for i in kept]


BUFFER = 100
"""Rows by which the widest of VUS-PR's windows blurs an event, half of them on either side."""

WINDOWS = 9
"""Windows that are averaged, from 0 to :data:`BUFFER`."""


def vus_pr(positive: NDArray[np.bool_], score: NDArray[Any]) -> float | None:
    """Return the volume under the precision-recall surface of one device's rows in time; None without an event.

    For each window w the labels become l = sqrt(1 - d / w) at d ≤ w / 2 rows from an event, 1 within. With the rows
    above a score as prediction, TP = Σ l there; precision is TP over their number; recall is TP over the mean of
    Σ l and the count of positive rows, at most 1, times the share of (blurred) events of which any row is predicted.
    The area under the curve is Σ (R_i - R_{i-1}) P_i over every distinct score; the volume is its mean over windows.

    Paparrizos et al. (2022), Volume Under the Surface, VLDB 15(11). An approximation of it in one point: it averages
    :data:`WINDOWS` windows of 0 to :data:`BUFFER` rows where the paper takes all; the authors' program samples 250
    thresholds, this one takes all.
    """
    if not positive.any():
        return None
    value = np.where(np.isnan(score), -np.inf, score.astype(np.float64))
    order = np.argsort(-value, kind="stable")
    last = np.flatnonzero(np.diff(value[order], append=np.nan) != 0)
    padded = np.append(value, -np.inf)  # an event may end with the last row
    areas = []
    for window in np.linspace(0, BUFFER, WINDOWS).round().astype(np.int64).tolist():
        blurred = _blurred(positive, window)
        true = np.cumsum(blurred[order])[last]
        first, end = _runs(blurred > 0)
        peaks = np.sort(-np.maximum.reduceat(padded, np.stack((first, end), 1).ravel())[::2])
        met = np.searchsorted(peaks, -value[order][last], side="right") / len(first)
        recall = np.minimum(true / ((positive.sum() + blurred.sum()) / 2), 1.0) * met
        areas.append(float(np.sum(np.diff(recall, prepend=0.0) * true / (last + 1.0))))
    return float(np.mean(areas))


def _blurred(positive: NDArray[np.bool_], window: int) -> NDArray[np.float64]:
    """Return the labels float64 ``[n]`` that fade out over ``window`` / 2 rows on either side of a positive run."""
    label = positive.astype(np.float64)
    if window == 0:
        return label
    first, end = _runs(positive)
    for away in range(1, window // 2 + 1):
        weight = np.sqrt(1 - away / window)
        for place in (first - away, end - 1 + away):
            inside = place[(place >= 0) & (place < len(label))]
            label[inside] += weight
    return np.minimum(label, 1.0)


def _runs(there: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the runs of True begin, and where they have ended."""
    edge = np.diff(there.astype(np.int8), prepend=0, append=0)
    return np.flatnonzero(edge == 1), np.flatnonzero(edge == -1)


def brier(positive: NDArray[np.bool_], probability: NDArray[Any]) -> float:
    """Return the mean squared error of a probability."""
    return float(np.mean((probability.astype(np.float64) - positive) ** 2))


def log_loss(positive: NDArray[Any], probability: NDArray[Any]) -> float:
    """Return the mean negative log likelihood; probabilities are held 1e-15 away from 0 and 1."""
    p = np.clip(probability.astype(np.float64), 1e-15, 1 - 1e-15)
    return float(-np.where(positive > 0, np.log(p), np.log(1 - p)).mean())


def reliability(positive: NDArray[np.bool_], probability: NDArray[Any], bins: int = 10) -> list[dict[str, Any]]:
    """Return, for each tenth of the probability, how often it came true."""
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    found = []
    for number in range(bins):
        here = place == number
        if here.any():
            found.append(
                {
                    "low": number / bins,
                    "high": (number + 1) / bins,
                    "mean_score": float(probability[here].mean(dtype=np.float64)),
                    "rate": float(positive[here].mean()),
                    "n": int(here.sum()),
                }
            )
    return found


def calibration_error(table: Sequence[Mapping[str, Any]]) -> float:
    """Return the expected calibration error of what :func:`reliability` returned: the mean gap, weighted by rows."""
    total = sum(row["n"] for row in table)
    return float(sum(row["n"] * abs(row["mean_score"] - row["rate"]) for row in table) / total) if total else 0.0


def miscalibration(table: Sequence[Mapping[str, Any]]) -> float:
    """Return the share of the base rate's Brier score that is lost by probabilities off their mark.

    The reliability term of the Brier score over its uncertainty, Σ n_k (p_k - y_k)² / (N y (1 - y)). Where faults are
    rare the calibration error is small whatever the model says of them; this is not.

    Murphy, A. (1973), A new vector partition of the probability score, Journal of Applied Meteorology 12.
    """
    total = sum(row["n"] for row in table)
    rate = sum(row["n"] * row["rate"] for row in table) / total if total else 0.0
    off = sum(row["n"] * (row["mean_score"] - row["rate"]) ** 2 for row in table)
    return float(off / (total * rate * (1 - rate))) if 0 < rate < 1 else 0.0


def hit_rate(strength: NDArray[Any], responsible: NDArray[np.bool_], factor: float) -> float:
    """Return the share of the responsible sensors among the ``factor`` x (their number) strongest.

    ``strength`` ``[S]``, ``responsible`` bool ``[S]`` with at least one True. Ties are broken by sensor order.
    """
    count = int(responsible.sum())
    top = np.argsort(-strength, kind="stable")[: int(np.floor(factor * count + 1e-9))]
    return float(responsible[top].sum() / count)


def _curve(positive: NDArray[np.bool_], score: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return recall and precision at every distinct score, highest first; a NaN score ranks last."""
    value = np.where(np.isnan(score), -np.inf, score.astype(np.float64))
    order = np.argsort(-value, kind="stable")
    hits = np.cumsum(positive[order])
    last = np.flatnonzero(np.diff(value[order], append=np.nan) != 0)
    return hits[last] / hits[-1], hits[last] / (last + 1.0)
