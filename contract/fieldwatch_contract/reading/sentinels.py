"""Numbers that stand for "no value": -9999, 7999, 65535, 9.99e37. One rule for a log's columns and a lake's sensors.

A column's least or largest value is suspected where it occurs at least three times, exactly, and lies apart from all
others:

| value | apart by | |
|---|---|---|
| a code that loggers write (nines, the end of an integer type, 7999, beyond 1e15) | half of the others' spread | sure |
| any other beyond ±1 | ten times the others' whole range | sure |
| any, 0 and -1 too, in short dropouts of a sensor that otherwise moves | the others' spread | a dropout, not sure |
| 0 or -1, in short dropouts, before and after which the sensor reads the same | ten usual steps | a dropout, not sure |

*Spread* is from the 1st to the 99th percentile. A found value is set aside and the next extreme is judged, up to
:data:`MOST`. A code in the middle of a column's range cannot be told from a measurement.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST = 3
MOST = 4
FEW = 10
"""Columns with fewer values are not judged."""
DROPOUT_ROWS = 3
DROPOUT_SHARE = 0.2

_HUGE = 1e15
_NINES = re.compile(r"9{3,}(\.9+)?|9{2,}\.9+|99")
_ENDS = frozenset(
    [7999.0, 6999.0, 8888.0, 65535.0, 65534.0, 32767.0, 32768.0, 2147483647.0, 2147483648.0, 4294967295.0]
)


@dataclass(frozen=True)
class Suspect:
    """A value that may stand for none; ``rows`` int64: where. ``sure``: no plausible measurement."""

    value: float
    rows: NDArray[np.int64]
    sure: bool


def is_code(value: float) -> bool:
    """Tell whether loggers write this number for "no value".

    >>> [is_code(each) for each in (-9999.0, 999.9, 65535.0, 1e30, 99.0, 100.0)]
    [True, True, True, True, False, False]
    """
    size = abs(value)
    if size >= _HUGE or size in _ENDS:
        return True
    return size > 99 and _NINES.fullmatch(f"{size:.6f}".rstrip("0").rstrip(".")) is not None


def suspects(values: NDArray[np.float64]) -> list[Suspect]:
    """Return the values of a column (``[n]`` in time order, NaN or infinite = missing) that may stand for none."""
    rows = np.flatnonzero(np.isfinite(values))
    column = values[rows]
    found: list[Suspect] = []
    while len(found) < MOST and len(column) > FEW:
        low, high = float(column.min()), float(column.max())
        judged = [_judge(column, rows, extreme) for extreme in dict.fromkeys((low, high))]
        worst = next((one for one in judged if one is not None), None)
        if worst is None:
            break
        found.append(worst)
        kept = column != worst.value
        column, rows = column[kept], rows[kept]
    return found


def _judge(column: NDArray[np.float64], rows: NDArray[np.int64], extreme: float) -> Suspect | None:
    is_extreme = column == extreme
    count = int(is_extreme.sum())
    others = column[~is_extreme]
    if count < LEAST or len(others) < LEAST:
        return None
    apart = float(np.abs(others - extreme).min())
    low, high = (float(edge) for edge in np.quantile(others, (0.01, 0.99)))
    spread = high - low
    least = 1e-9 * max(abs(extreme), abs(low), abs(high))
    if is_code(extreme) and apart > max(spread / 2, least):
        return Suspect(extreme, rows[is_extreme], True)
    several = len(np.unique(others[:1000])) > 4
    whole = float(others.max() - others.min())
    if abs(extreme) > 1 and several and apart > 10 * max(whole, least):
        return Suspect(extreme, rows[is_extreme], True)
    if several and extreme in (0.0, -1.0) and _drops(column, is_extreme, extreme):
        return Suspect(extreme, rows[is_extreme], False)
    if several and apart > max(spread, least) and count < DROPOUT_SHARE * len(column) and _short(is_extreme):
        return Suspect(extreme, rows[is_extreme], False)
    return None


def _drops(column: NDArray[np.float64], held: NDArray[np.bool_], value: float) -> bool:
    """Tell whether a sensor falls to a value for moments, and is back where it was: in most of the runs."""
    if not held.any() or held.mean() > DROPOUT_SHARE or not _short(held):
        return False
    edges = np.flatnonzero(np.diff(np.concatenate(([False], held, [False])).astype(np.int8)))
    inner = (edges[::2] > 0) & (edges[1::2] < len(column))
    before, after = column[edges[::2][inner] - 1], column[edges[1::2][inner]]
    step = float(np.median(np.abs(np.diff(column[~held]))))
    depth = np.abs((before + after) / 2 - value)
    back = (depth > 10 * step) & (np.abs(after - before) < depth / 4) & (depth > 0)
    return len(before) >= LEAST and float(back.mean()) > 0.5


def _short(held: NDArray[np.bool_]) -> bool:
    """Tell whether the runs of True are short: at most :data:`DROPOUT_ROWS`, nine of ten."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], held, [False])).astype(np.int8)))
    lengths = edges[1::2] - edges[::2]
    return float(np.quantile(lengths, 0.9)) <= DROPOUT_ROWS and len(lengths) >= LEAST
