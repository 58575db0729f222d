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
a clock that agreed with it accepted it.

A row must be the same row when it is read again. By then time has passed and some lines may be gone, so the rule is not
applied a second time: the journal records which periods of the last day have a row (:class:`Rows`), and
:meth:`Rows.among` finds their readings.
"""

from __future__ import annotations

import base64
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldwatch_contract import clock

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

    ``slots``: int64 ``[n]``, each reading's period in the order of the log; ``newest``: that of the newest row.

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
    """The periods that have a row: ``slots`` int64, ascending; ``period`` in µs."""

    period: int
    slots: _Ints

    def with_new(self, slots: _Ints, reach: int) -> Rows:
        """Return the rows of the last ``reach`` periods after adding ``slots``."""
        joined = np.concatenate((self.slots, slots))
        return Rows(self.period, joined[joined > joined[-1] - reach] if len(joined) else joined)

    def among(self, slots: _Ints) -> tuple[_Ints, _Ints]:
        """Find the rows among readings: return the readings' indices, in row order, and the slots that have none.

        ``slots``: int64 ``[n]``, each reading's period in the order of the log. A reading in a row's period need not
        be the one that made the row: it may have been refused as duplicate, late or future. Rows were accepted in
        order, so among several candidates it is the first one after the previous row.

        >>> rows = Rows(60, np.array([3, 4, 6, 9]))
        >>> [each.tolist() for each in rows.among(np.array([3, 6, 4, 4, 5, 6]))]
        [[0, 2, 5], [9]]
        """
        wanted = np.flatnonzero(np.isin(slots, self.slots))
        places: dict[int, list[int]] = {}
        for place, slot in zip(wanted.tolist(), slots[wanted].tolist(), strict=True):
            places.setdefault(slot, []).append(place)
        found: list[int] = []
        missing: list[int] = []
        last = -1
        for slot in self.slots.tolist():
            candidates = places.get(slot)
            if candidates is None:
                missing.append(slot)
                continue
            after = bisect_right(candidates, last)
            last = candidates[after] if after < len(candidates) else candidates[0]
            found.append(last)
        return np.array(found, np.int64), np.array(missing, np.int64)

    def to_text(self) -> str:
        """Encode it compactly as a bitmap: one bit per period, from the newest row backwards."""
        if not len(self.slots):
            return ""
        newest = int(self.slots[-1])
        bits = np.zeros(newest - int(self.slots[0]) + 1, np.uint8)
        bits[newest - self.slots] = 1
        return f"{self.period}:{newest}:{base64.b64encode(np.packbits(bits).tobytes()).decode()}"

    @classmethod
    def from_text(cls, text: str) -> Rows:
        """Read what :meth:`to_text` wrote; raises :class:`ValueError` for anything else.

        >>> Rows.from_text(Rows(60, np.array([3, 4, 6])).to_text()).slots.tolist()
        [3, 4, 6]
        """
        period, newest, packed = text.split(":")
        bits = np.unpackbits(np.frombuffer(base64.b64decode(packed, validate=True), np.uint8))
        return cls(int(period), int(newest) - np.flatnonzero(bits)[::-1].astype(np.int64))
