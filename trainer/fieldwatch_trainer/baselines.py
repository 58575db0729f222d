"""Scores that know nothing of a device, beside every figure: what a model must beat to have earned its place.

* *random*: a uniform score; for event recall the model's own alerts, turned around in time by random amounts, so that
  their number and length are those of the model; for the naming of sensors a random order.
* *everything*: every row flagged, an alert that never ends.
* *variance*: how much the sensors moved of late, whichever way: :func:`moving_variance`, with its threshold chosen in
  hindsight so that it raises as many false alerts as the model. On public data foundation models do not differ from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fieldwatch_trainer.events import Alert, Event
from fieldwatch_trainer.models import SEED

MOVING = 30
"""Rows over which :func:`moving_variance` looks back."""
CHUNK = 8192
TURNS = 20
"""Random turns of the alerts."""
LABEL_TURNS = 60
"""Random turns of the labels."""


def moving_variance(
    rows: NDArray[np.float64], scale: NDArray[np.float64], first: int, last: int
) -> NDArray[np.float32]:
    """Return float32 ``[last - first]``: the variance of each sensor's last :data:`MOVING` rows, mean over sensors.

    ``rows`` float64 ``[T, S]``, NaN = missing; ``scale`` float64 ``[S]``, the sensors' standard deviations in training.
    A row at which no sensor has two values gets 0.
    """
    inverse = np.where(scale > 0, 1 / np.where(scale > 0, scale, 1.0), 0.0)
    found = np.zeros(last - first, np.float32)
    for start in range(first, last, CHUNK):
        stop = min(start + CHUNK, last)
        past = min(start, MOVING - 1)
        piece = rows[start - past : stop]
        there = ~np.isnan(piece)
        centre = np.nan_to_num(np.where(there, piece, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1))
        z = np.where(there, np.clip((piece - centre) * inverse, -1e6, 1e6), 0.0)
        count, total, square = (_trailing(part) for part in (there.astype(np.float64), z, z * z))
        enough = count >= 2
        held = np.maximum(count, 1)
        variance = np.where(enough, np.maximum(square / held - (total / held) ** 2, 0.0), 0.0)
        mean = variance.sum(axis=1) / np.maximum(enough.sum(axis=1), 1)
        found[start - first : stop - first] = np.minimum(mean, 1e30)[past:]
    return found


def _trailing(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of the last :data:`MOVING` rows at each row; ``[n, S]``."""
    whole = np.concatenate((np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)))
    return np.asarray(whole[1:] - whole[np.maximum(np.arange(1, len(whole)) - MOVING, 0)])


def as_quiet(scores: NDArray[np.float32], count: Callable[[float], int], allowed: int) -> float:
    """Return about the lowest threshold at which ``count`` false alerts are at most ``allowed``.

    ``scores``: of normal rows. The count mostly falls as the threshold rises, so ranks are bisected.
    """
    ordered = np.sort(scores)[::-1]
    good, bad = -1, len(ordered)
    while bad - good > max(1, good // 50):
        middle = (good + bad) // 2
        if count(float(ordered[middle])) <= allowed:
            good = middle
        else:
            bad = middle
    return float(np.nextafter(ordered[0], np.float32(np.inf))) if good < 0 else float(ordered[good])


def chance(parts: Sequence[tuple[NDArray[np.bool_], NDArray[np.float32]]]) -> dict[str, float] | None:
    """Return which average precision the same scores get against labels turned around in time: median and 95 %.

    ``parts``: a device's positive rows and scores, in time order. Rows are no independent draws, so shuffled labels
    would make chance look narrower than it is; turned labels keep their length and the score its memory.
    """
    rng = np.random.default_rng(SEED)
    each = []
    for positive, score in parts:
        if not positive.any():
            continue
        value = np.where(np.isnan(score), -np.inf, score.astype(np.float64))
        order = np.argsort(-value, kind="stable")
        last = np.flatnonzero(np.diff(value[order], append=np.nan) != 0)
        found = []
        for turn in rng.integers(0, len(positive), LABEL_TURNS):
            hits = np.cumsum(np.roll(positive, turn)[order])[last]
            found.append(float(np.sum(np.diff(hits, prepend=0) * hits / (last + 1.0)) / hits[-1]))
        each.append(found)
    if not each:
        return None
    mean = np.mean(each, axis=0)
    return {"median": float(np.median(mean)), "high": float(np.quantile(mean, 0.95))}


def turned(events: Sequence[Event], alerts: Sequence[Alert], rows: int) -> float:
    """Return how many events the same alerts would meet at random times: the mean of :data:`TURNS` turns."""
    if not events or not alerts:
        return 0.0
    rng = np.random.default_rng(SEED)
    covered = np.zeros(rows, bool)
    for first, last in alerts:
        covered[first : last + 1] = True
    reach = np.concatenate(([0], np.cumsum(np.concatenate((covered, covered)))))
    begin = np.array([event.first for event in events])
    end = np.array([event.last for event in events]) + 1
    met = [float((reach[end + turn] > reach[begin + turn]).sum()) for turn in rng.integers(0, rows, TURNS)]
    return float(np.mean(met))
