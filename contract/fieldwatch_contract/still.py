"""Sensors that stand still: for how long each has not moved, counted alike in training and beside the device.

A sensor stands still from one reading to the next where its value changes by at most :data:`TINY` of its standard
deviation in training. Many do by habit: set points, a pump that is off. So the bundle has the longest run that training
has seen of each (:attr:`.bundle.Baseline.still`), and a sensor is *stuck* when it has stood still for :data:`RATIO`
times as many readings, at least :data:`LEAST`. One for which that is more than :data:`MOST` readings is not watched:
a restart reads a day again and must find what was known before it.

A missing value neither ends a run nor counts in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldwatch_contract.bundle import Baseline

TINY = 1e-3
FEW = 8
LEAST = 60
RATIO = 5
MOST = 720

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Stuck:
    """A sensor, by its index, that has stood still at ``value`` since ``since`` (µs), for ``readings``.

    ``longest``: for how many at most in training.
    """

    sensor: int
    value: float
    since: int
    readings: int
    longest: int


def runs(values: _Floats, scale: _Floats, before: _Floats) -> tuple[_Ints, _Ints, _Floats]:
    """Count how long sensors stand still.

    ``values`` float64 ``[n, S]``, NaN = missing; ``scale`` ``[S]``; ``before`` ``[S]``: the values before them, NaN
    where there is none. Returns int64 ``[n, S]``, the readings of the run that each row is in, since the block's
    beginning or the sensor's last move; int64 ``[S]``, the row of that move, -1 for none; and the last values ``[S]``.

    >>> runs(np.array([[1.0], [np.nan], [1.0], [2.0], [2.0]]), np.ones(1), np.ones(1))[0].ravel().tolist()
    [1, 1, 2, 1, 2]
    """
    count, sensors = values.shape
    valid = ~np.isnan(values)
    row = np.arange(count)[:, None]
    newest = np.maximum.accumulate(np.where(valid, row, -1), axis=0)
    filled = np.where(newest >= 0, values[newest, np.arange(sensors)], before)
    previous = np.concatenate((before[None], filled))[:-1]
    moved = valid & ~(np.abs(values - previous) <= TINY * scale)
    seen = np.cumsum(valid, axis=0)
    start = np.maximum.accumulate(np.where(moved, seen, 0), axis=0)
    last = np.maximum.accumulate(np.where(moved, row, -1), axis=0)
    return seen - np.maximum(start - 1, 0), last[-1], filled[-1]


class Still:
    """Follows a device's readings; where the bundle's baseline has no runs nothing is watched."""

    def __init__(self, baseline: Baseline) -> None:
        self._scale = np.array(baseline.scale)
        longest = np.array(baseline.still or [MOST] * len(self._scale))
        limit = np.maximum(LEAST, RATIO * longest)
        self._watched = np.flatnonzero((limit <= MOST) & (self._scale > 0))
        self._limit, self._longest = limit[self._watched], longest[self._watched]
        self.forget()

    def forget(self) -> None:
        """Start over."""
        count = len(self._watched)
        self._value = np.full(count, np.nan)
        self._readings, self._since = np.zeros(count, np.int64), np.zeros(count, np.int64)

    def feed(self, ts: _Ints, values: _Floats) -> None:
        """Go on with readings: ``ts`` int64 ``[n]`` µs, ``values`` float64 ``[n, S]``, in the order of the rows.

        Most sensors have moved within the last few readings; what was before that does not matter for them.
        """
        left, values = np.arange(len(self._watched)), values[:, self._watched]
        for reach in (FEW, LEAST, len(ts)):
            if not len(ts) or not len(left):
                return
            part, whole = values[-reach:][:, left], reach >= len(ts)
            before = self._value[left] if whole else _first(part)
            counted, move, last = runs(part, self._scale[self._watched[left]], before)
            moved = move >= 0
            at, rest = left[moved], left[~moved]
            self._value[at], self._readings[at] = last[moved], counted[-1, moved]
            self._since[at] = ts[-reach:][move[moved]]
            if whole:
                self._readings[rest] += counted[-1, ~moved]
                return
            left = rest

    def stuck(self) -> list[Stuck]:
        """Return the sensors that are stuck now."""
        return [
            Stuck(
                int(self._watched[at]),
                float(self._value[at]),
                int(self._since[at]),
                int(self._readings[at]),
                int(self._longest[at]),
            )
            for at in np.flatnonzero(self._readings >= self._limit)
        ]


def _first(values: _Floats) -> _Floats:
    """Return each column's first value, NaN where there is none."""
    return np.asarray(values[np.argmax(~np.isnan(values), axis=0), np.arange(values.shape[1])])
