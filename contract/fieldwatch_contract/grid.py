"""Readings → rows of a regular grid (resampling): one row per period; a missing period is a row of NaN.

Every score is a function of the last W rows of this grid, so the rules must give the same rows whether a log arrives
line by line or as a whole year at once:

1. A reading belongs to the slot in which it lies; :mod:`.phase` moves the slots' edges away from the device's readings.
2. :mod:`.acceptance` decides which reading makes a slot's row and which is refused as ``duplicate`` or ``late``.
3. Missing slots become rows of NaN. After a gap of W rows or more nothing of the past is in the window, so at most W
   rows are inserted, however long the device was off.

So each reading makes exactly one row or is refused with a reason: the ledger adds up by construction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fieldwatch_contract.acceptance import in_order
from fieldwatch_contract.phase import Phase, follow, quarters

ABSURD = 1e100
"""A larger value is an error of the writer, not a measurement: it counts as missing, in the log as in the lake. Squares
of smaller ones, and their sums, stay finite."""
MOST_ROWS = 4096


@dataclass(frozen=True)
class Block:
    """Rows ready to be scored, with the W - 1 rows before them.

    ``rows``      float64 ``[W - 1 + n, S]``, C order; NaN = missing. The first W - 1 are history.
    ``ts``        int64 ``[n]`` µs; the reading's own time; for a missing row whole periods before the next reading
    ``slots``     int64 ``[n]``; ascending, consecutive but for gaps of more than W rows
    ``moved``     int64 ``[n]``; the grid's (:class:`.phase.Phase`) after the reading that made or follows the row
    ``source``    int64 ``[n]``; index of the reading that made the row, -1 for a missing row
    ``duplicate`` and ``late``: int64 indices of the refused readings
    """

    rows: NDArray[np.float64]
    ts: NDArray[np.int64]
    slots: NDArray[np.int64]
    moved: NDArray[np.int64]
    source: NDArray[np.int64]
    duplicate: NDArray[np.int64]
    late: NDArray[np.int64]


class Grid:
    """Places readings on the grid of one device; holds the last W - 1 rows, and the grid's phase.

    >>> grid = Grid(period=60_000_000, window=3, sensors=1)
    >>> block = grid.place(np.array([0, 120_000_000]), np.array([[1.0], [3.0]]))
    >>> block.rows[2:].ravel().tolist(), block.source.tolist()
    ([1.0, nan, 3.0], [0, -1, 1])
    """

    def __init__(self, period: int, window: int, sensors: int, phase: Phase = Phase()) -> None:  # noqa: B008
        """Start empty: ``period`` in µs, ``window`` rows, ``sensors`` columns, all at least 1."""
        if period < 1 or window < 1 or sensors < 1:
            raise ValueError(f"period, window and sensors must be positive, not {period}, {window}, {sensors}")
        self.period = period
        self.window = window
        self.phase = phase
        self._history = np.full((window - 1, sensors), np.nan)

    @property
    def newest(self) -> int | None:
        """The slot of the newest row."""
        return self.phase.slot

    def place(self, ts: NDArray[np.int64], values: NDArray[np.float64]) -> Block:
        """Place readings, in the order they were read.

        ``ts`` int64 ``[m]`` µs, ``values`` float64 ``[m, S]``. Infinities become NaN: the kernel knows one kind
        of missing. Returns the new rows; the grid advances.
        """
        placed = follow(quarters(ts, self.period), self.phase)
        slots = placed.slots
        floor = self.newest if self.newest is not None else (int(slots[0]) - 1 if len(slots) else 0)
        kept, duplicate, late = in_order(slots, self.newest)

        steps = np.diff(slots[kept], prepend=floor)
        positions = np.cumsum(np.minimum(steps, self.window + 1)) - 1
        count = int(positions[-1]) + 1 if len(kept) else 0

        history = len(self._history)
        rows = np.full((history + count, values.shape[1]), np.nan)
        rows[:history] = self._history
        rows[history + positions] = values[kept]
        rows[np.isinf(rows)] = np.nan
        source = np.full(count, -1, np.int64)
        source[positions] = kept
        following = np.searchsorted(positions, np.arange(count))
        before = positions[following] - np.arange(count)

        self.phase = placed.phase
        if count and history:
            self._history = rows[-history:].copy()
        made = kept[following]
        times, taken = ts[made] - before * self.period, slots[made] - before
        return Block(rows, times, taken, placed.moved[made], source, duplicate, late)

    def resume(self, slots: NDArray[np.int64], values: NDArray[np.float64], phase: Phase) -> None:
        """Go on at ``phase`` after rows of ``values`` float64 ``[m, S]`` in ascending ``slots``; others are missing."""
        self.phase = phase
        self._history[:] = np.nan
        place = slots - (phase.slot or 0) + len(self._history) - 1
        seen = place >= 0
        self._history[place[seen]] = np.where(np.isinf(values[seen]), np.nan, values[seen])

    def blocks(self, ts: NDArray[np.int64], values: NDArray[np.float64]) -> Iterator[Block]:
        """Place readings like :meth:`place`, in blocks of about :data:`MOST_ROWS` rows; indices are into ``ts``.

        This bounds memory: readings that are hours apart add a window of missing rows each.
        """
        steps = np.clip(np.diff(np.floor_divide(ts, self.period), prepend=0), 0, self.window + 1)
        cuts = np.flatnonzero(np.diff(np.cumsum(steps) // MOST_ROWS)) + 1
        for start, stop in pairwise([0, *cuts.tolist(), len(ts)]):
            block = self.place(ts[start:stop], values[start:stop])
            source = np.where(block.source >= 0, block.source + start, -1)
            yield replace(block, source=source, duplicate=block.duplicate + start, late=block.late + start)
