"""The acceptance rule: which reading becomes a row. One rule for reading a log, re-reading it, and ``check``.

| a reading whose time lies | is |
|---|---|
| in a later period than the newest row | a row |
| in the period of the newest row | refused, ``duplicate``: the first one counts, it has been scored and sent |
| in an earlier period | refused, ``late``: waiting for it would delay every other reading |
| a day ahead of the clock, and the log does not confirm it | refused, ``future``: otherwise all others would be late |
| a day ahead of the clock, and the log confirms it | left unread, with all after it: the clock is behind |
| read again | a row if it was one before, whatever the clock says now |

The log confirms a reading if it follows an accepted one by at most a day, or if its file was modified at that time or
later. If the log itself returns to the clock's time, the modification time confirms nothing; a row still does, because
a clock that agreed with it accepted it. Where a period begins follows from the device's readings (:mod:`.phase`).

A row must be the same row when it is read again. By then time has passed and some lines may be gone, so the rule is not
applied a second time: the journal records which readings of the last day made a row (:class:`Rows`), and
:meth:`Rows.among` finds them.
"""

from __future__ import annotations

import base64
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldwatch_contract import clock
from fieldwatch_contract.phase import MOVES, PARTS, Phase

AHEAD = clock.DAY
"""Tolerance (µs): covers time zones, daylight saving and clock drift."""

_Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Ahead:
    """Readings ahead of the clock.

    ``future`` bool ``[n]``: refused, now or when their turn comes; from ``waits`` on all stay unread (None: none).
    """

    future: NDArray[np.bool_]
    waits: int | None = None


def ahead(ts: _Ints, now: int, newest: int | None = None, written: int | None = None) -> Ahead:
    """Tell which of a block's readings are ahead of the clock, and whether log or clock is right.

    ``ts``: int64 ``[n]`` µs in the order of the log; ``now``: the clock; ``newest``: the newest row before the block;
    ``written``: the file's modification time, None = unknown.

    >>> day = clock.DAY
    >>> ahead(np.array([0, 3 * day, 60]), now=0).future.tolist()
    [False, True, False]
    >>> ahead(np.array([0, 3 * day]), now=0, written=3 * day).waits
    1
    >>> ahead(np.array([3 * day, 60]), now=0, newest=3 * day - 60).waits
    0
    """
    future = ts > now + AHEAD
    beyond = np.flatnonzero(future)
    if not len(beyond):
        return Ahead(future)
    returns = not future[-1]
    least = np.iinfo(np.int64).min // 2
    accepted = np.maximum.accumulate(np.where(future, least, ts))[beyond]
    last, waits = least if newest is None else newest, None
    for place, time, before in zip(beyond.tolist(), ts[beyond].tolist(), accepted.tolist(), strict=True):
        last = max(last, before)
        if time <= last + AHEAD or (written is not None and not returns and time <= written + AHEAD):
            future[place] = False
            last = max(last, time)
            waits = place if waits is None else waits
    return Ahead(future, waits)


def in_order(slots: _Ints, newest: int | None) -> tuple[_Ints, _Ints, _Ints]:
    """Return the indices of the readings that make rows, of the duplicates and of the late ones.

    ``slots``: int64 ``[n]``, each reading's (:mod:`.phase`) in the order of the log; ``newest``: that of the last row.

    >>> [each.tolist() for each in in_order(np.array([5, 7, 7, 6, 8]), newest=5)]
    [[1, 4], [0, 2], [3]]
    """
    if not len(slots):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64)
    floor = newest if newest is not None else int(slots[0]) - 1
    before = np.maximum.accumulate(np.concatenate(([floor], slots)))[:-1]
    return np.flatnonzero(slots > before), np.flatnonzero(slots == before), np.flatnonzero(slots < before)


@dataclass(frozen=True)
class Rows:
    """Which readings made the rows of the last periods, and where the grid stands.

    int64 ``[n]``, ascending: ``quarters`` (:mod:`.phase`) in which the readings lie, ``slots`` of their rows. ``moved``
    int64 ``[n]``: the grid's after each row. ``crowded``: of the newest row's slot. ``period`` in µs. ``rough``: only
    the slots are known; they were recorded by an earlier version, whose grid never moved.
    """

    period: int
    quarters: _Ints
    slots: _Ints
    moved: _Ints
    crowded: bool = False
    rough: bool = False

    @classmethod
    def none(cls, period: int) -> Rows:
        """Return no rows."""
        empty = np.empty(0, np.int64)
        return cls(period, empty, empty, empty)

    @property
    def phase(self) -> Phase:
        """Where the grid stands after these rows."""
        if not len(self.slots):
            return Phase()
        return Phase(int(self.slots[-1]), int(self.quarters[-1]), int(self.moved[-1]), self.crowded)

    def then(self, new: Rows, reach: int) -> Rows:
        """Return the rows of the last ``reach`` periods after adding ``new`` ones."""
        slots = np.concatenate((self.slots, new.slots))
        kept = slots > slots[-1] - reach if len(slots) else slice(0)
        quarters, moved = np.concatenate((self.quarters, new.quarters)), np.concatenate((self.moved, new.moved))
        return Rows(self.period, quarters[kept], slots[kept], moved[kept], new.crowded)

    def exact(self, rows: _Ints, quarters: _Ints) -> Rows:
        """Return rough rows after the quarters of some of them have been read again; ``rows``: their indices."""
        found, moved = self.quarters.copy(), self.moved.copy()
        found[rows] = quarters
        moved[-1:] = [MOVES[place] for place in (found[-1:] % PARTS).tolist()]
        return Rows(self.period, found, self.slots, moved)

    def may_hold(self, quarters: _Ints) -> NDArray[np.bool_]:
        """Tell for each reading whether there is a row in its quarter, so that it may have made it."""
        rows, readings = self._keys(quarters)
        return np.isin(readings, rows)

    def among(self, quarters: _Ints) -> tuple[_Ints, _Ints]:
        """Find the rows among readings: return the readings' indices, in row order, and those of rows that have none.

        ``quarters``: int64 ``[n]``, each reading's in the order of the log. A reading in a row's quarter need not
        be the one that made the row: it may have been refused as duplicate, late or future. Rows were accepted in
        order, so among several candidates it is the first one after the previous row.

        >>> rows = Rows(60, np.array([13, 17, 25, 37]), np.array([3, 4, 6, 9]), np.zeros(4, np.int64))
        >>> [each.tolist() for each in rows.among(np.array([13, 25, 17, 17, 21, 25]))]
        [[0, 2, 5], [3]]
        """
        rows, readings = self._keys(quarters)
        wanted = np.flatnonzero(np.isin(readings, rows))
        places: dict[int, list[int]] = {}
        for place, key in zip(wanted.tolist(), readings[wanted].tolist(), strict=True):
            places.setdefault(key, []).append(place)
        found: list[int] = []
        missing: list[int] = []
        last = -1
        for row, key in enumerate(rows.tolist()):
            candidates = places.get(key)
            if candidates is None:
                missing.append(row)
                continue
            after = bisect_right(candidates, last)
            last = candidates[after] if after < len(candidates) else candidates[0]
            found.append(last)
        return np.array(found, np.int64), np.array(missing, np.int64)

    def _keys(self, quarters: _Ints) -> tuple[_Ints, _Ints]:
        """By what readings are recognised: the rows' keys, and those of readings in ``quarters``."""
        return (self.slots, quarters // PARTS) if self.rough else (self.quarters, quarters)

    def to_text(self) -> str:
        """Encode it compactly, from the newest row backwards: bits of the quarters that made rows, bits of the rows
        before which the grid moved back, and of those before which it moved forward."""
        if not len(self.slots):
            return ""
        newest, moves = int(self.quarters[-1]), np.diff(self.moved)[::-1]
        made = np.zeros(newest - int(self.quarters[0]) + 1, np.bool_)
        made[newest - self.quarters] = True
        bits = ":".join(_pack(each) for each in (made, moves > 0, moves < 0))
        return f"{self.period}:{newest}:{bits}:{self.moved[-1]}:{int(self.crowded)}"

    @classmethod
    def from_text(cls, text: str) -> Rows:
        """Read what :meth:`to_text` of this or an earlier version wrote; raises :class:`ValueError` for anything else.

        >>> rows = Rows(60, np.array([13, 17, 25]), np.array([3, 4, 6]), np.zeros(3, np.int64))
        >>> Rows.from_text(rows.to_text()).slots.tolist()
        [3, 4, 6]
        """
        period, newest, made, *rest = text.split(":")
        found = int(newest) - np.flatnonzero(_unpack(made))[::-1].astype(np.int64)
        if not rest:
            return cls(int(period), found * PARTS + 1, found, np.zeros_like(found), rough=True)
        forward, back, last, crowded = rest
        moves = np.zeros(len(found), np.int64)
        for sign, bits in ((1, forward), (-1, back)):
            moves[1:][np.flatnonzero(_unpack(bits)[: max(0, len(found) - 1)])] += sign
        moved = int(last) - np.cumsum(moves)[::-1]
        return cls(int(period), found, (found - moved) // PARTS, moved, bool(int(crowded)))


def _pack(bits: NDArray[np.bool_]) -> str:
    """Encode bits; none at all where none is set."""
    return base64.b64encode(np.packbits(bits).tobytes()).decode() if bits.any() else ""


def _unpack(text: str) -> NDArray[np.uint8]:
    return np.unpackbits(np.frombuffer(base64.b64decode(text, validate=True), np.uint8))
