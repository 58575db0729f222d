"""The sliding window: the rows before each new one, where a restart finds them again, and which of them are missing.

A row whose window lacks a row that was there before a restart must not be judged: it would get a different score and
look like any other. :meth:`Window.unfilled` marks such rows until the missing ones are found (:meth:`Window.fill` may
be called again) or have left the window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from fieldwatch_contract.acceptance import Rows
from fieldwatch_contract.grid import Block, Grid
from fieldwatch_contract.phase import quarters
from fieldwatch_contract.still import Still
from numpy.typing import NDArray

from fieldwatch_agent.log.tail import LogLines, Position
from fieldwatch_agent.score.past import Past, Place
from fieldwatch_agent.send.journal import Progress

REWIND_ROWS = 1440
"""A restart re-reads at least this many rows, a day of minutes, so that a new bundle with a longer window finds its
past, and the shadow test (:mod:`.score.shadow`) has something to judge."""
SMALL_BLOCK = 16
"""A block of at most this many lines is not worth keeping in memory; see :class:`_Recent`."""


@dataclass(frozen=True)
class _Recent:
    """Where the lines of recent rows begin: one block's slots and line indices.

    Computing a position hashes 64 KiB, and a block keeps at least as many bytes alive. So for a large block only the
    position of the row that turns out to be the oldest is computed; for live lines, which come one per block, the
    positions are computed at once and the block is released. ``first``: of a first row that began before the block.
    """

    slots: NDArray[np.int64]
    at: NDArray[np.int64]
    lines: LogLines | None
    positions: tuple[Position, ...]
    first: Position | None = None

    @classmethod
    def of(cls, place: Place) -> _Recent:
        """Keep what is needed of a block."""
        slots, at, lines = place.slots, place.at, place.lines
        first = place.begun if at[0] < 0 else None
        if len(lines.starts) > SMALL_BLOCK:
            return cls(slots, at, lines.without_text(), (), first)
        return cls(slots, at, None, tuple(lines.position_of(max(0, index)) for index in at.tolist()), first)

    def first_after(self, slot: int) -> Position:
        """Return the position of the line of the first row after ``slot``."""
        row = int(np.searchsorted(self.slots, slot, side="right"))
        if row == 0 and self.first is not None:
            return self.first
        return self.positions[row] if self.lines is None else self.lines.position_of(int(self.at[row]))


class Window:
    """The last rows of one device's grid."""

    def __init__(self, period: int, window: int, shown: int, sensors: int, still: Still) -> None:
        """``window``: rows that a score depends on; ``shown``: rows that each block includes, at least as many.

        ``still`` follows the same readings.
        """
        self.still = still
        self._shape = period, max(window, shown), sensors
        self._window = window
        self._reach = max(window - 1, shown - 1, REWIND_ROWS)
        self._begin()

    def _begin(self) -> None:
        self._grid = Grid(*self._shape)
        self.still.forget()
        self._recent: deque[_Recent] = deque()
        self._rows = Rows.none(self._shape[0])
        self._missing = np.empty(0, np.int64)
        self._rewind: str | None = None
        self.why = ""

    def fill(self, past: Past, progress: Progress) -> None:
        """Start over with the rows before ``progress.position``, as far as they were found."""
        self._begin()
        self._grid.resume(past.slots, past.values, past.rows.phase)
        self.still.feed(past.ts, past.values)
        self._rows, self._missing, self._rewind, self.why = past.rows, past.missing, progress.rewind, past.why
        for place in past.places:
            self._remember(place)

    def place(
        self,
        ts: NDArray[np.int64],
        values: NDArray[np.float64],
        line: NDArray[np.int64],
        lines: LogLines,
        begun: Position | None = None,
    ) -> Iterator[Block]:
        """Place readings on the grid and yield them as blocks of rows with their past.

        Their lines are ``line`` of ``lines``; ``begun``: where a reading with line -1 begins.
        """
        for block in self._grid.blocks(ts, values):
            rows = np.flatnonzero(block.source >= 0)
            period, crowded = self._grid.period, self._grid.phase.crowded
            new = Rows(period, quarters(block.ts[rows], period), block.slots[rows], block.moved[rows], crowded)
            self._rows = self._rows.then(new, self._reach)
            if len(rows):
                self.still.feed(block.ts[rows], values[block.source[rows]])
                newest = rows[-self._reach :]
                self._remember(Place(block.slots[newest], line[block.source[newest]], lines, begun))
            yield block
        self._missing = self._missing[self._missing > self._before]

    def unfilled(self, block: Block) -> NDArray[np.bool_]:
        """Tell for each row of ``block`` whether its window lacks rows that could not be read again."""
        if not len(self._missing):
            return np.zeros(len(block.ts), np.bool_)
        first = np.searchsorted(self._missing, block.slots - self._window, side="right")
        return np.asarray(first < np.searchsorted(self._missing, block.slots))

    @property
    def lacking(self) -> int:
        """How many rows the next row's window lacks."""
        return int((self._missing > (self._grid.newest or 0) + 1 - self._window).sum())

    @property
    def missing(self) -> NDArray[np.int64]:
        """The slots of rows that were not found again, as far back as a restart reads."""
        return self._missing

    @property
    def rows(self) -> Rows:
        """The slots that have a row, as far back as a restart reads."""
        return self._rows

    def rewind(self) -> str | None:
        """Return the position from which a restart must read, as the tail's JSON; None before the first row."""
        if self._rewind is not None and len(self._missing):
            return self._rewind  # what is missing may still be found there
        return self._recent[0].first_after(self._before).to_json() if self._recent else self._rewind

    def _remember(self, place: Place) -> None:
        """Keep where the lines of rows begin."""
        self._recent.append(_Recent.of(place))
        while self._recent and self._recent[0].slots[-1] <= self._before:
            self._recent.popleft()

    @property
    def _before(self) -> int:
        """The newest slot that a restart need not read again."""
        return (self._grid.newest or 0) - self._reach
