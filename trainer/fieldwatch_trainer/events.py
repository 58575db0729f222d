"""Which events the alerts found, and which alerts nobody had asked for: the one definition of both.

Thresholds, evaluation, back-test and gates count with it, whatever rule raised the alerts.

1. An *event* is a labelled interval of kind fault or anomaly. It is found by the first alert that was open during it;
   the delay counts from the event's start, and is 0 for an alert that was open before.
2. An alert is *false* where not one of its rows is explained. Explained are the rows in any labelled interval, those
   within ``guard`` rows after one (a window still contains it), and maintenance.
3. An alert counts once more for each :data:`LONG` that it stays open over rows without an explanation, found event or
   not: a person who comes to the next shift is bothered again, and a device in alarm for ever must not be cheap.

Nothing is point-adjusted: an alert makes no other row right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from fieldwatch_contract.clock import SECOND
from numpy.typing import NDArray

LONG = 8 * 3600 * SECOND
"""A false alert that is still open after a shift is one more for whoever comes next; µs."""

Alert = tuple[int, int]
"""Opening row and last row of an alert, inclusive; indices of a device's readings."""


@dataclass(frozen=True)
class Event:
    """A labelled interval as row indices, ``first`` to ``last`` inclusive.

    ``strength`` float64 ``[S]`` is the mean contribution of each sensor over it; ``responsible`` bool ``[S]``, None
    where the label names none that the model knows.
    """

    label: str
    first: int
    last: int
    strength: NDArray[np.float64] | None = None
    responsible: NDArray[np.bool_] | None = None


def unexplained(label: NDArray[np.int8], guard: int) -> NDArray[np.bool_]:
    """Return bool ``[n]``: no label on the row or on one of the ``guard`` rows before it; ``label`` 0 means none."""
    labelled = np.concatenate(([0], np.cumsum(label != 0)))
    row = np.arange(len(label))
    return np.asarray(labelled[row + 1] == labelled[np.maximum(row - guard, 0)])


def false_at(alert: Alert, free: NDArray[np.bool_], period: int) -> NDArray[np.int64]:
    """Return the rows at which an alert counts as false: none, or its opening, and each :data:`LONG` of free rows.

    ``free``: what :func:`unexplained` returned; ``period`` in µs.
    """
    first, last = alert
    rows = first + np.flatnonzero(free[first : last + 1])
    shifts = np.arange(1, len(rows) * period // LONG + 1)
    again = rows[-(-shifts * LONG // period) - 1]
    return np.concatenate(([first], again)) if len(rows) == last - first + 1 else again


def finder(event: Event, alerts: Sequence[Alert]) -> int | None:
    """Return the index of the first alert that was open during the event; ``alerts`` in time order."""
    for place, (first, last) in enumerate(alerts):
        if first <= event.last and last >= event.first:
            return place
    return None


def delay(event: Event, alert: Alert, ts: NDArray[np.int64]) -> float:
    """Return the seconds from the event's start to the alert that found it; ``ts`` int64 µs of all rows."""
    return max(float(ts[alert[0]] - ts[event.first]) / SECOND, 0.0)
