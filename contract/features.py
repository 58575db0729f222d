"""The feature kernel: window statistics with the same bits for one new row and for a year of rows.

Statistics are accumulated newest row first, one row at a time, in float64, on values centred on the sensor's newest
valid value (the *pivot*). Every operation is elementwise, and the order of the additions depends on the age of a row
alone, never on how many rows are computed together; so trainer and agent get identical bits, and a restart that
re-reads the window does too. Running sums would be faster and drift; BLAS, pairwise and SIMD-width dependent
reductions would change bits with the shape.

The pivot lies inside every non-empty window, which bounds cancellation by the window's own spread: a sensor at 10⁹
that moves by 10⁻³ keeps its standard deviation.

Over the valid values of the last ``w`` rows, ``k`` the age in rows and ``d`` the value minus the pivot:

=========  =====================================================================
``mean``   pivot + Σd/n
``std``    √(Σd²/n − (Σd/n)²), population
``min``, ``max``
``last``   the newest valid value
``slope``  least squares, per row; 0 where fewer than two values
=========  =====================================================================

All are NaN where the window holds no valid value.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

KERNEL = 1
"""Version of the arithmetic. A bundle made for another kernel is refused, for its features would differ."""

Statistic = Literal["mean", "std", "min", "max", "last", "slope"]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)

TILE = 96
"""Rows computed together in :func:`compute`; a tile of 100 sensors stays in the cache. No effect on the bits."""


class FeatureSpec(BaseModel):
    """Which statistics over which windows (rows, ascending); the layout is ``[window, statistic, sensor]``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    windows: tuple[int, ...] = Field(default=(5, 15, 60), min_length=1)
    statistics: tuple[Statistic, ...] = Field(default=STATISTICS, min_length=1)

    def model_post_init(self, _context: object) -> None:
        """Refuse windows that are not positive and ascending, and repeated statistics."""
        if list(self.windows) != sorted(set(self.windows)) or self.windows[0] < 1:
            raise ValueError(f"windows must be positive and ascending, not {self.windows}")
        if len(set(self.statistics)) != len(self.statistics):
            raise ValueError(f"statistics repeat: {self.statistics}")

    @property
    def longest(self) -> int:
        """Rows that a feature can see."""
        return self.windows[-1]

    def width(self, sensors: int) -> int:
        """Features for ``sensors`` sensors."""
        return len(self.windows) * len(self.statistics) * sensors

    def names(self, sensors: list[str]) -> list[str]:
        """Feature names in layout order, ``<sensor>.<statistic>.<window>``."""
        return [f"{s}.{stat}.{w}" for w in self.windows for stat in self.statistics for s in sensors]


def compute(rows: NDArray[np.float64], count: int, spec: FeatureSpec) -> NDArray[np.float32]:
    """Return the features of the last ``count`` rows.

    ``rows``: float64 ``[h + count, S]``, NaN = missing, no infinities; rows before the first are taken as missing.
    Result: float32 ``[count, spec.width(S)]``. Raises :class:`ValueError` for ``count`` outside ``0..len(rows)``.
    """
    total, sensors = rows.shape
    if not 0 <= count <= total:
        raise ValueError(f"count {count} is outside 0..{total}")
    reach = spec.longest - 1
    history = total - count
    if history < reach:
        rows = np.concatenate((np.full((reach - history, sensors), np.nan), rows))
    elif history > reach:
        rows = rows[history - reach :]
    rows = np.ascontiguousarray(rows, dtype=np.float64) + 0.0  # no -0.0: which of the two zeros is less is not defined
    out = np.empty((count, len(spec.windows), len(spec.statistics), sensors), np.float32)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # absurd numbers give inf or NaN, not noise
        for start in range(0, count, TILE):
            stop = min(start + TILE, count)
            _tile(rows[start : stop + reach], out[start:stop], spec)
    return out.reshape(count, -1)


def _tile(rows: NDArray[np.float64], out: NDArray[np.float32], spec: FeatureSpec) -> None:
    """Fill ``out`` ``[T, windows, statistics, S]`` from ``rows`` ``[longest - 1 + T, S]``."""
    reach = spec.longest - 1
    shape = (len(out), rows.shape[1])
    wanted = set(spec.statistics)
    valid = ~np.isnan(rows)
    complete = bool(valid.all())
    pivot = rows[reach:] if complete else _newest_valid(rows, valid, len(out))
    counts = None if complete else _Counts(valid, reach)

    present = valid.astype(np.float64)
    filled = rows if complete else np.where(valid, rows, 0.0)
    s1 = np.zeros(shape)  # Σd
    s2 = np.zeros(shape)  # Σd²
    earlier = np.zeros(shape)  # the sum of what s1 was before each k, so that Σk·d = k·s1 - earlier
    d = np.empty(shape)
    work = np.empty(shape)
    low, high = _extremes(rows, spec, wanted)
    emit = 0
    for k in range(spec.longest):
        now = slice(reach - k, reach - k + len(out))
        np.subtract(filled[now], pivot, out=d)
        if not complete:
            d *= present[now]
        if "slope" in wanted:
            earlier += s1
        s1 += d
        if "std" in wanted:
            np.multiply(d, d, out=work)
            s2 += work
        if k + 1 == spec.windows[emit]:
            n, a, b = _ages(k + 1) if counts is None else counts.at(k + 1)
            sk = k * s1 - earlier
            _emit(out[:, emit], spec, pivot, s1, s2, sk, n, a, b, low.get(k + 1), high.get(k + 1))
            emit += 1


Count = NDArray[np.float64] | float


def _ages(window: int) -> tuple[float, float, float]:
    """Return n, Σk and Σk² of a complete window."""
    w = float(window)
    return w, w * (w - 1) / 2, (w - 1) * w * (2 * w - 1) / 6


class _Counts:
    """n, Σk and Σk² over the valid rows of a window: integers below 2⁵³, hence exact in any order.

    From cumulative sums over absolute positions p, with newest position T and k = T - p:
    Σk = T·n - Σp and Σk² = T²·n - 2T·Σp + Σp².
    """

    def __init__(self, valid: NDArray[np.bool_], reach: int) -> None:
        position = np.arange(1.0, len(valid) + 1)[:, None]
        zero = np.zeros((1, valid.shape[1]))
        self._sums = [
            np.concatenate((zero, np.cumsum(valid * weight, axis=0))) for weight in (1.0, position, position * position)
        ]
        self._reach = reach
        self._newest = position[reach:]

    def at(self, window: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        stop = slice(self._reach + 1, None)
        count = len(self._newest)
        start = slice(self._reach + 1 - window, self._reach + 1 - window + count)
        n, p1, p2 = (s[stop] - s[start] for s in self._sums)
        t = self._newest
        return n, t * n - p1, t * t * n - 2 * t * p1 + p2


def _newest_valid(rows: NDArray[np.float64], valid: NDArray[np.bool_], count: int) -> NDArray[np.float64]:
    """Return ``[count, S]``: each sensor's newest valid value at or before a row, 0 where there is none."""
    index = np.where(valid, np.arange(len(rows))[:, None], -1)
    index = np.maximum.accumulate(index, axis=0)[len(rows) - count :]
    values = np.take_along_axis(rows, np.maximum(index, 0), axis=0)
    oldest = np.arange(count)[:, None]  # outside the longest window is as good as never
    return np.where(index >= oldest, values, 0.0)


def _extremes(
    rows: NDArray[np.float64], spec: FeatureSpec, wanted: set[Statistic]
) -> tuple[dict[int, NDArray[np.float64]], dict[int, NDArray[np.float64]]]:
    """Return the minima and maxima by window, ``[T, S]`` each, NaN ignored.

    A window is the union of two overlapping runs of a power of two, and runs are built by doubling: min and max
    are exact in any order.
    """
    found: list[dict[int, NDArray[np.float64]]] = []
    reach = spec.longest - 1
    count = len(rows) - reach
    for name, pick in (("min", np.fmin), ("max", np.fmax)):
        result: dict[int, NDArray[np.float64]] = {}
        found.append(result)
        if name not in wanted:
            continue
        run, level = 1, rows  # level[i] = extreme of rows[i : i + run]
        for window in spec.windows:
            while run * 2 <= window:
                level = pick(level[:-run], level[run:])
                run *= 2
            first = reach + 1 - window
            second = reach + 1 - run
            result[window] = pick(level[first : first + count], level[second : second + count])
    return found[0], found[1]


def _emit(
    out: NDArray[np.float32],
    spec: FeatureSpec,
    pivot: NDArray[np.float64],
    s1: NDArray[np.float64],
    s2: NDArray[np.float64],
    sk: NDArray[np.float64],
    n: Count,
    a: Count,
    b: Count,
    low: NDArray[np.float64] | None,
    high: NDArray[np.float64] | None,
) -> None:
    """Turn the sums of one window into its statistics, ``out`` ``[T, statistics, S]``."""
    mu = s1 / n
    for place, statistic in enumerate(spec.statistics):
        target = out[:, place]
        match statistic:
            case "mean":
                target[...] = pivot + mu
            case "std":
                target[...] = np.sqrt(np.maximum(s2 / n - mu * mu, 0.0))
            case "min":
                target[...] = low
            case "max":
                target[...] = high
            case "last":
                target[...] = pivot
            case "slope":
                spread = b - a * a / n
                target[...] = np.where(spread > 0, (a * mu - sk) / spread, 0.0)
    if not isinstance(n, float) and (empty := n == 0).any():
        out[np.broadcast_to(empty[:, None, :], out.shape)] = np.nan
