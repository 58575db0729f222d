"""The feature kernel: window statistics with the same bits for one new row and for a year of rows.

A window is composed of shorter runs of rows, and these of shorter ones: 60 rows are 30 and 30, 30 are 15 and 15, 15 are
5 and 10. Neighbouring windows share their runs, so a row costs seven joins instead of sixty additions. How a window is
split depends only on its length, and every operation is elementwise; so trainer and agent get identical bits, and so
does a restart that re-reads the window. Running sums would be even cheaper but drift; BLAS, pairwise and SIMD-width
dependent reductions would change bits with the shape.

The values of a run are centred on its newest valid value, its *pivot*, and shifted to the newer run's pivot when two
are joined (the pairwise update of Chan, Golub and LeVeque, 1979, with a pivot for the mean). A pivot lies within
its run, which bounds cancellation by the window's own spread: a sensor at 10⁹ that moves by 10⁻³ keeps its standard
deviation.

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

from functools import cache
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

KERNEL = 2
"""Version of the arithmetic. A bundle made for another kernel is refused, because its features would differ.
``agent/self_test.zip`` is one, see ``tests/bundles.py``."""

Statistic = Literal["mean", "std", "min", "max", "last", "slope"]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)

ROWS = 256
CELLS = 32_000
"""Rows and cells (rows times sensors) computed together, so that the working set fits the cache and memory stays small.
No effect on the bits."""
TINY = 1e-30


class FeatureSpec(BaseModel):
    """Which statistics over which windows (rows, ascending); the layout is ``[window, statistic, sensor]``.

    ``centre``: a number a sensor, subtracted before anything else, where a sensor's values are so large that single
    precision would not show how they move; None: nothing is subtracted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    windows: tuple[int, ...] = Field(default=(5, 15, 60), min_length=1)
    statistics: tuple[Statistic, ...] = Field(default=STATISTICS, min_length=1)
    centre: tuple[FiniteFloat, ...] | None = None

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
    Result: float32 ``[count, spec.width(S)]``. Raises :class:`ValueError` for ``count`` outside ``0..len(rows)``, and
    for a centre of other sensors.
    """
    total, sensors = rows.shape
    if not 0 <= count <= total:
        raise ValueError(f"count {count} is outside 0..{total}")
    if spec.centre is not None and len(spec.centre) != sensors:
        raise ValueError(f"centre has {len(spec.centre)} numbers for {sensors} sensors")
    reach = spec.longest - 1
    history = total - count
    if history < reach:
        rows = np.concatenate((np.full((reach - history, sensors), np.nan), rows))
    elif history > reach:
        rows = rows[history - reach :]
    stride = max(ROWS, reach)
    width = max(1, CELLS // (reach + min(stride, max(count, 1))))
    out = np.empty((count, len(spec.windows), len(spec.statistics), sensors), np.float32)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # extreme values give inf or NaN silently
        for left in range(0, sensors, width):
            strip = slice(left, left + width)
            # + 0.0 removes -0.0, because min and max of the two zeros are not defined
            some = np.ascontiguousarray(rows[:, strip], dtype=np.float64) + 0.0
            if spec.centre is not None:
                some = some - np.array(spec.centre[strip]) + 0.0
            for start in range(0, count, stride):
                stop = min(start + stride, count)
                _fill(out[start:stop, :, :, strip], some[start : stop + reach], spec)
    return out.reshape(count, spec.width(sensors))


Count = NDArray[np.float64] | float


class _Run(NamedTuple):
    """Sums over runs of ``length`` rows: entry ``i`` of each array ``[m, S]`` belongs to rows ``i..i + length - 1``.

    ``n``, ``k1`` and ``k2`` are the number of valid values, the sum of their ages and of their squares: integers
    below 2⁵³, hence exact, and plain numbers where no value is missing. ``s1``, ``s2`` and ``sk`` are Σd, Σd², Σk·d.
    ``low`` and ``high`` are rounded before they are compared, which gives what rounding afterwards would.
    Where ``n`` is 0, all sums and the pivot are 0 and ``low`` and ``high`` NaN.
    """

    length: int
    pivot: NDArray[np.float64]
    n: Count
    k1: Count
    k2: Count
    s1: Count
    s2: Count
    sk: Count
    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @classmethod
    def single(cls, rows: NDArray[np.float64]) -> _Run:
        """Return the runs of one row each."""
        valid = ~np.isnan(rows)
        size = rows.astype(np.float32) + np.float32(0.0)  # no -0.0 here either
        if valid.all():
            return cls(1, rows, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, size, size)
        return cls(1, np.where(valid, rows, 0.0), valid.astype(np.float64), 0.0, 0.0, 0.0, 0.0, 0.0, size, size)

    def _part(self, part: slice) -> _Run:
        return _Run._make([self.length, *[each if isinstance(each, float) else each[part] for each in self[1:]]])

    def newest(self, count: int) -> _Run:
        """Return the last ``count`` of these runs."""
        return self._part(slice(len(self.pivot) - count, None))

    def after(self, older: _Run) -> _Run:
        """Return the runs that are one of ``older`` and then one of these."""
        count = len(self.pivot) - older.length
        new, old = self.newest(count), older._part(slice(count))
        age = float(self.length)  # what the older rows have more of it
        pivot = new.pivot
        if not isinstance(new.n, float):
            pivot = pivot.copy()
            np.copyto(pivot, old.pivot, where=new.n == 0)
        # each sum in the memory of a term that is no longer needed: a new array costs more than the addition itself
        delta = old.pivot - pivot
        moved = old.n * delta
        moved += old.s1  # the older run's Σd around the new pivot
        added = age * old.n
        k2 = 2 * old.k1
        k2 += added
        k2 *= age
        k2 += old.k2
        k2 += new.k2
        k1 = added
        k1 += old.k1
        k1 += new.k1
        s2 = old.s1 + moved
        s2 *= delta
        s2 += old.s2
        s2 += new.s2
        sk = age * moved
        delta *= old.k1
        delta += old.sk
        sk += delta
        sk += new.sk
        s1 = moved
        s1 += new.s1
        return _Run(
            self.length + older.length,
            pivot,
            n=new.n + old.n,
            k1=k1,
            k2=k2,
            s1=s1,
            s2=s2,
            sk=sk,
            low=np.fmin(new.low, old.low),
            high=np.fmax(new.high, old.high),
        )


@cache
def _steps(windows: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Return the joins (newer length, older length) that lead to all ``windows``, in order.

    A length is cut at its largest divisor, so that windows that are multiples of one another share their runs.
    """
    steps: list[tuple[int, int]] = []

    def lead_to(length: int) -> None:
        if length > 1 and length not in map(sum, steps):
            newer = next(length // factor for factor in range(2, length + 1) if length % factor == 0)
            lead_to(newer)
            lead_to(length - newer)
            steps.append((newer, length - newer))

    for window in windows:
        lead_to(window)
    return tuple(steps)


def _fill(out: NDArray[np.float32], rows: NDArray[np.float64], spec: FeatureSpec) -> None:
    """Fill ``out`` ``[T, windows, statistics, S]`` from ``rows`` ``[longest - 1 + T, S]``."""
    runs = {1: _Run.single(rows)}
    steps = list(_steps(spec.windows))
    for place, window in enumerate(spec.windows):
        while window not in runs:
            newer, older = steps.pop(0)
            runs[newer + older] = runs[newer].after(runs[older])
        _emit(out[:, place], runs[window].newest(len(out)), spec)
        needed = {*spec.windows[place + 1 :], *(length for step in steps for length in step)}
        runs = {length: run for length, run in runs.items() if length in needed}


def _emit(out: NDArray[np.float32], run: _Run, spec: FeatureSpec) -> None:
    """Turn the sums of one window into its statistics, ``out`` ``[T, statistics, S]``."""
    mu = run.s1 / run.n
    for place, statistic in enumerate(spec.statistics):
        target = out[:, place]
        match statistic:
            case "mean":
                target[...] = run.pivot + mu
            case "std":
                spread = run.s2 / run.n
                spread -= mu * mu
                target[...] = np.sqrt(np.abs(spread))
            case "min":
                target[...] = run.low
            case "max":
                target[...] = run.high
            case "last":
                target[...] = run.pivot
            case "slope":
                # Σk² - (Σk)²/n is 0 for one value, as the numerator is; for more at least ½, which TINY leaves alone
                spread = run.k1 * run.k1
                spread /= run.n
                spread = run.k2 - spread
                spread += TINY
                slope = run.k1 * mu
                slope -= run.sk
                slope /= spread
                target[...] = slope
    if not isinstance(run.n, float) and (empty := run.n == 0).any():
        out[np.broadcast_to(empty[:, None, :], out.shape)] = np.nan
