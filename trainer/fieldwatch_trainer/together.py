"""Rows that make one reading: its values stand in several rows of a lake, or in logs of several components.

A row *covers* the sensors that its source writes, whether it has their values or not. Rows of one time, or of one
period, are put together where they cover different sensors. Two rows that cover the same sensor are two readings, also
where one lacks what the other has: the device reads them as two, and the second is refused (:mod:`.acceptance`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Starts = NDArray[np.int64]
"""Where groups of consecutive rows begin, the first at 0."""


def put(values: Floats, covers: Bools, starts: Starts) -> tuple[Floats, Bools, int, int]:
    """Put each group into a row: of each sensor what the first row says that covers it.

    ``values`` and ``covers`` ``[n, S]``. Return both ``[len(starts), S]``, how many values were there already, and how
    many of those differ.
    """
    group = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(values)))
    out, covered = np.full((len(starts), values.shape[1]), np.nan), np.zeros((len(starts), values.shape[1]), np.bool_)
    rows, columns = np.nonzero(covers)
    rows, columns = rows[::-1], columns[::-1]  # the last assignment stands: go backwards, so that the first row's does
    out[group[rows], columns] = values[rows, columns]
    covered[group[rows], columns] = True
    told = ~np.isnan(values[rows, columns])
    repeats = int(told.sum()) - int((~np.isnan(out)).sum())
    differ = int((told & (out[group[rows], columns] != values[rows, columns])).sum())
    return out, covered, repeats, differ


def parted(covers: Bools, starts: Starts) -> Starts:
    """Return ``starts`` with each row by itself in the groups in which two rows cover the same sensor."""
    if not len(starts):
        return starts
    twice = (np.add.reduceat(covers, starts, axis=0, dtype=np.int64) > 1).any(axis=1)
    alone = np.repeat(twice, np.diff(starts, append=len(covers)))
    return np.union1d(starts, np.flatnonzero(alone))
