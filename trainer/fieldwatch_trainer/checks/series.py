"""What the checks look at: one sensor of one device over time, and the few figures that several of them need."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

SAMPLE = 20_000
"""Values, evenly spread, from which quantiles are taken."""


@dataclass(frozen=True)
class Series:
    """One sensor of one device.

    ``ts`` int64 ``[m]`` µs, not descending; ``x`` float64 ``[m]``, NaN and infinite = missing; ``free`` bool ``[m]``:
    outside every labelled interval; ``period`` µs.
    """

    device: str
    sensor: str
    ts: NDArray[np.int64]
    x: NDArray[np.float64]
    free: NDArray[np.bool_]
    period: int

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Rows with a value."""
        return np.flatnonzero(np.isfinite(self.x))

    @cached_property
    def calm(self) -> NDArray[np.int64]:
        """Rows with a value, outside every labelled interval."""
        return self.rows[self.free[self.rows]]


@dataclass(frozen=True)
class Level:
    """Where values lie and how they move: median, robust standard deviation, median step between neighbours."""

    middle: float
    spread: float
    step: float
    constant: bool = False

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Level:
        """Measure values in time order."""
        low, middle, high = quantiles(thinned(values), QUARTILES)
        step = float(quantiles(np.abs(np.diff(values[:SAMPLE])), HALF)[0]) if len(values) > 1 else 0.0
        return cls(float(middle), float(high - low) / 1.349, step, bool(values.min() == values.max()))


QUARTILES = np.array([0.25, 0.5, 0.75])
HALF = np.array([0.5])


def quantiles(values: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return quantiles of at least one finite value, linear between neighbours (type 7 of Hyndman and Fan, 1996).

    ``numpy.quantile`` to the last bits, at a tenth of its price for the short stretches that the checks ask for by the
    ten thousand.
    """
    ordered = np.sort(values)
    place = shares * (len(ordered) - 1)
    low = place.astype(np.intp)
    high = np.minimum(low + 1, len(ordered) - 1)
    return np.asarray(ordered[low] + (ordered[high] - ordered[low]) * (place - low), np.float64)


def thinned(values: NDArray[np.float64], most: int = SAMPLE) -> NDArray[np.float64]:
    """Return at most about ``most`` of the values, evenly spread."""
    return values[:: max(1, len(values) // most)]


def runs(held: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return first and last index (inclusive) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], held, [False])).astype(np.int8)))
    return edges[::2], edges[1::2] - 1
