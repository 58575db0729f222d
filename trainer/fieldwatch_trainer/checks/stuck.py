"""A sensor that stands still although it usually moves: stuck, disconnected, or its last value repeated.

Still is a step of less than :data:`TINY` of the sensor's usual step, so that a stuck input with a little noise is found
too. Many sensors stand still by habit (set points, a pump that is off). So a run is strange only where few runs are
much longer than all others, by a factor of :data:`RATIO`, and the sensor moves for most of the remaining time, for at
least :data:`LEAST` readings.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from fieldwatch_contract.clock import iso
from numpy.typing import NDArray

from fieldwatch_trainer.checks.finding import Finding
from fieldwatch_trainer.checks.series import Series, runs

LEAST = 60
"""Shorter runs are not looked at."""
RATIO = 5
FEW = 6
TINY = 0.02
MOVING = 0.5

_REMEDY = "look at the sensor and its wiring; export these values as missing, or label the time maintenance"


def stuck(series: Series) -> Iterator[tuple[Finding, NDArray[np.int64]]]:
    """Find the runs in which one device's sensor stood still; yield the finding with the rows that it concerns."""
    values = series.x[series.rows]
    if len(values) < 2 * LEAST:
        return
    steps = np.abs(np.diff(values))
    usual = _usual(steps)
    if usual == 0:
        return
    still = steps <= TINY * usual
    first, last = runs(still)
    length = last - first + 2  # values of a run: one more than its steps
    strange = _strange(length, still)
    strange = strange[~_labelled(series, first[strange], last[strange])]
    if not len(strange):
        return
    rows = int(length[strange].sum())
    longest = strange[int(np.argmax(length[strange]))]
    start, end = (int(series.ts[series.rows[place]]) for place in (first[longest], last[longest] + 1))
    what = (
        f"stands still at {values[first[longest]]:.6g} for {rows / len(values):.0%} of its time ({rows} readings"
        + (f", {len(strange)} times" if len(strange) > 1 else "")
        + f"), the longest from {iso(start)} to {iso(end)}, while it usually moves"
    )
    held = [series.rows[first[place] : last[place] + 2] for place in strange.tolist()]
    yield Finding("stuck", what, _REMEDY, series.device, series.sensor, start, end), np.concatenate(held)


def _usual(steps: NDArray[np.float64]) -> float:
    """Return the usual size of a step, of those that are the upper half of all that are not tiny."""
    moving = steps[steps > 0]
    if not len(moving):
        return 0.0
    return float(np.median(moving[moving >= TINY * np.quantile(moving, 0.9)]))


def _strange(length: NDArray[np.int64], still: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the indices of the few runs that are much longer than all others."""
    order = np.argsort(-length, kind="stable")
    sizes = length[order]
    for count in range(min(FEW, len(sizes)), 0, -1):
        if sizes[count - 1] < LEAST:
            continue
        following = sizes[count] if count < len(sizes) else 1
        rest = len(still) + 1 - int(sizes[:count].sum())
        moves = int((~still).sum())
        if sizes[count - 1] >= RATIO * following and moves > max(MOVING * rest, LEAST):
            return np.sort(order[:count])
    return order[:0]


def _labelled(series: Series, first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which runs lie mostly within labelled time: there standing still may be the fault."""
    free = np.concatenate(([0], np.cumsum(series.free[series.rows])))
    count = last - first + 2
    return np.asarray(free[last + 2] - free[first] < count / 2)
