"""The grid's phase follows the device: in which slot a reading lies where the device's minute is not the clock's.

A device that writes once a minute does so at :17.4, or at :59.9 and :00.1 in turn, and its clock drifts. Slots with
fixed edges would then hold two readings or none. So the edges move: **each reading that makes a row is kept in the
middle half of its slot**. Time is counted in quarters of the period.

| a row's reading lies in | the grid moves, for all readings that come later |
|---|---|
| the first quarter of its slot | a quarter back |
| the second or third | not |
| the fourth | a quarter forward |
| any, and the slot just before is crowded | not |

A slot is crowded that has readings in several quarters: a device that writes more often than once a period has no
phase, and its first reading after an edge says nothing about one.

What follows, whatever the period and the phase:

* Readings whose phases differ by at most a quarter of a period from one to the next make a row each, without gaps.
  That covers jitter, a drift in either direction for years, and a period that is up to a quarter longer or shorter.
* A device whose readings lie in one and the same quarter has the slots of a grid that never moves.

It is a fold over readings with the state :class:`Phase`, from the first one on. Where reading begins later the state
may be another for a while; the same readings make rows, but after a break that ends in the middle of a period the
number of missing rows may differ by one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PARTS = 4
"""Parts of a period: the unit in which the grid moves."""
CHUNK = 1024
"""Readings placed at once where the grid does not move among them. No effect on the result."""
MOVES = (-1, 0, 0, 1)
"""How many quarters the grid moves, by the quarter of its slot in which a row's reading lies."""

_Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Phase:
    """Where the grid stands after a reading.

    ``slot``: the newest row's, None before the first; ``quarter``: its reading's; ``moved``: quarters that the grid has
    moved so far; ``crowded``: whether that slot has a reading in another quarter, too.
    """

    slot: int | None = None
    quarter: int = 0
    moved: int = 0
    crowded: bool = False


@dataclass(frozen=True)
class Placed:
    """Readings on the grid: ``slots`` int64 ``[n]``; ``moved`` int64 ``[n]``, the grid's after each; ``phase``: at the
    end."""

    slots: _Ints
    moved: _Ints
    phase: Phase


def quarters(ts: _Ints, period: int) -> _Ints:
    """Return the quarter of a period (µs) in which each time (µs) lies, counted from 1970."""
    return np.floor_divide(ts * PARTS, period)


def follow(quarter: _Ints, phase: Phase = Phase()) -> Placed:
    """Place readings in the order in which they were read; ``quarter``: int64 ``[n]``.

    >>> second = 1_000_000
    >>> ts = np.array([60_100_000, 119_900_000, 180_100_000, 240_200_000, 299_900_000])
    >>> follow(quarters(ts, 60 * second)).slots.tolist()
    [1, 2, 3, 4, 5]
    """
    slots, moved = np.empty_like(quarter), np.empty_like(quarter)
    for start in range(0, len(quarter), CHUNK):
        part = slice(start, start + CHUNK)
        slots[part], moved[part], phase = _at_rest(quarter[part], phase) or _one_by_one(quarter[part], phase)
    return Placed(slots, moved, phase)


def _at_rest(quarter: _Ints, phase: Phase) -> tuple[_Ints, int, Phase] | None:
    """Place readings among which the grid does not move; None where it may."""
    slots, place = np.divmod(quarter - phase.moved, PARTS)
    newest = slots[0] - 1 if phase.slot is None else phase.slot
    rows = slots > np.maximum.accumulate(np.concatenate(([newest], slots)))[:-1]
    if (rows & ((place == 0) | (place == PARTS - 1))).any():
        return None
    slot, row, crowded, after = phase.slot, phase.quarter, phase.crowded, 0
    if rows.any():
        last = int(np.flatnonzero(rows)[-1])
        slot, row, crowded, after = int(slots[last]), int(quarter[last]), False, last + 1
    crowded |= bool(((slots[after:] == slot) & (quarter[after:] != row)).any())
    return slots, phase.moved, Phase(slot, row, phase.moved, crowded)


def _one_by_one(quarter: _Ints, phase: Phase) -> tuple[list[int], list[int], Phase]:
    slots, after = [], []
    newest, row, moved, crowded = phase.slot, phase.quarter, phase.moved, phase.crowded
    for each in quarter.tolist():
        slot, place = divmod(each - moved, PARTS)
        if newest is None or slot > newest:
            if not crowded or slot - 1 != newest:
                moved += MOVES[place]
            newest, row, crowded = slot, each, False
        elif slot == newest:
            crowded = crowded or each != row
        slots.append(slot)
        after.append(moved)
    return slots, after, Phase(newest, row, moved, crowded)
