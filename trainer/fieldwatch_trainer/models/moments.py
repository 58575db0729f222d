"""Mean, spread and extremes of the sensors over the normal rows: one pass over the devices, one in memory at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldwatch_trainer.models import NORMAL, TrainingData


@dataclass(frozen=True)
class Moments:
    """Of every sensor over the normal rows that may be learnt from, ``[S]`` each; ``rows`` counts those rows.

    ``low`` is +inf and ``high`` -inf where ``count`` is 0.
    """

    rows: int
    count: NDArray[np.float64]
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def moments(data: TrainingData) -> Moments:
    """Return count, mean, standard deviation and extremes, device by device (Chan's merge)."""
    sensors = len(data.sensors)
    rows = 0
    n, mean, m2 = np.zeros(sensors), np.zeros(sensors), np.zeros(sensors)
    low, high = np.full(sensors, np.inf), np.full(sensors, -np.inf)
    for device in data:
        x = device.rows[device.use & (device.label == NORMAL)]
        rows += len(x)
        there = ~np.isnan(x)
        more = there.sum(axis=0)
        other = np.where(there, x, 0.0).sum(axis=0) / np.maximum(more, 1)
        total = np.maximum(n + more, 1)
        step = np.where(more > 0, other - mean, 0.0)
        m2 += (np.where(there, x - other, 0.0) ** 2).sum(axis=0) + step**2 * n * more / total
        mean = mean + step * more / total
        n += more
        low = np.minimum(low, np.where(there, x, np.inf).min(axis=0, initial=np.inf))
        high = np.maximum(high, np.where(there, x, -np.inf).max(axis=0, initial=-np.inf))
    return Moments(rows, n, mean, np.sqrt(m2 / np.maximum(n, 1)), low, high)
