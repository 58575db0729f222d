"""One value per line (long format) → readings: lines that belong together become one reading.

    | line | |
    |---|---|
    | the first | opens a reading at its time |
    | less than half a period after the open reading's time, a sensor not yet seen in it | joins it |
    | the same, a sensor that it has | refused: ``duplicate`` |
    | half a period later or more | completes the open reading and opens the next |
    | earlier than the open reading | refused: ``late`` |
    | of a sensor that the bundle does not have | opens and completes like any other, and adds nothing |

A reading is complete when a later one begins, so it is returned a period after its time, and the last line of a log
leaves one open. Until then it does not count as read: the committed position stays before its first line
(:attr:`.lines.Readings.open_line`), and lines refused in the middle of it are reported when it is complete. So a
restart splits no reading and counts no line twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fieldwatch_contract.reading.lines import Found, Refusal, RefusedError


@dataclass
class _Open:
    """The open reading. ``line``: of this block, -1 where it began before. ``seen``: its sensors' names.
    ``known``: it was already read before a restart, unless a line is added to it."""

    ts: int
    values: NDArray[np.float64]
    line: int
    seen: set[str] = field(default_factory=set)
    bad: list[int] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    skipped: int = 0
    known: bool = False


def beginnings(ts: NDArray[np.int64], period: int) -> NDArray[np.bool_]:
    """Tell which lines open a reading, of lines in order of time, as :class:`Assembly` does it line by line.

    ``ts`` int64 ``[n]`` and ``period`` in µs.

    >>> beginnings(np.array([0, 5, 29, 30, 59, 61]), 60).tolist()
    [True, False, False, True, False, True]
    """
    half = max(1, period // 2)
    opens = np.diff(ts, prepend=ts[:1] - half) >= half
    first = np.flatnonzero(opens)
    for start, end in zip(first.tolist(), [*first[1:].tolist(), len(ts)], strict=True):
        place = start
        while ts[end - 1] >= ts[place] + half:  # lines that follow one another without such a pause
            place += int(np.searchsorted(ts[place:end], ts[place] + half))
            opens[place] = True
    return opens


class Assembly:
    """Assembles the readings of one log."""

    def __init__(self, period: int, sensors: Sequence[str]) -> None:
        """``period``: µs between two readings."""
        self._half = max(1, period // 2)
        self._count = len(sensors)
        self._open: _Open | None = None

    @property
    def open_line(self) -> int | None:
        """The line of the block at which the open reading begins: -1 = before this block, None = there is none."""
        return None if self._open is None or self._open.known else self._open.line

    def begin_block(self) -> None:
        """Begin a block: line numbers start at 0 again."""
        if self._open is not None:
            self._open.line = -1
            self._open.refused = [replace(refusal, line=-1) for refusal in self._open.refused]

    def remind(self, before: Assembly) -> None:
        """Take over the reading left open before a restart: it counts as read unless lines are added to it."""
        if self._open is None and before._open is not None:
            self._open = replace(before._open, line=-1, refused=[], skipped=0, bad=[], known=True)

    def take(self, ts: int, name: str, value: tuple[int, float, bool], line: int, found: Found) -> None:
        """Add a line: time, sensor name, and sensor index (-1: none), value and whether that is not a number.

        Raises :class:`.lines.RefusedError` where the line belongs to no reading.
        """
        if self._open is not None and ts >= self._open.ts + self._half:
            self._complete(found)
        if self._open is None:
            self._open = _Open(ts, np.full(self._count, np.nan), line)
        elif ts < self._open.ts:
            raise RefusedError(
                "late", "its time is before that of the line before it: the lines must be in order of time"
            )
        elif name in self._open.seen:
            raise RefusedError("duplicate", f"has {name!r} a second time within half a period")
        else:
            self._open.skipped += 1
            self._open.known = False
        self._open.seen.add(name)
        place, number, is_bad = value
        if place >= 0:
            self._open.values[place] = number
            self._open.bad += [place] * is_bad

    def refuse(self, refusal: Refusal, found: Found) -> None:
        """Record a refused line with the reading in the middle of which it is."""
        (found if self._open is None else self._open).refused.append(refusal)

    def _complete(self, found: Found) -> None:
        assert self._open is not None
        if self._open.known:
            self._open = None
            return
        found.add(self._open.ts, self._open.values, self._open.line)
        found.bad.update(self._open.bad)
        found.refused += self._open.refused
        found.skipped += self._open.skipped
        self._open = None
