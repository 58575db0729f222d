"""The past: the rows before the read position, read again from the log (replay after a restart).

A score depends on the last W rows alone, so a restart needs no state except the position where they begin. Which
readings they are follows from what was committed (:class:`.acceptance.Rows`), not from applying the rule again: time
has passed. The commit also shows what is missing: a log being rotated, a locked file and a deleted file look the same
from here, and none of them may be mistaken for a quiet device.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from fieldwatch_contract.acceptance import Rows, in_order
from fieldwatch_contract.phase import Phase, follow, quarters
from fieldwatch_contract.reading.parse import Parser, Readings
from fieldwatch_contract.reading.settings import LogConfig
from numpy.typing import NDArray

from fieldwatch_agent.log.tail import LogLines, Position, Tail
from fieldwatch_agent.send.journal import Progress

log = logging.getLogger("fieldwatch.agent")

BLOCK_BYTES = 768 * 1024
"""Bytes read at once; about 1,000 lines of 100 sensors. Larger blocks score faster (10 % faster than 256 KiB) and take
more memory while a backlog is read (30 MB)."""


@dataclass(frozen=True)
class Place:
    """Where rows were read: their slots, and the indices of their lines in a block; ``begun``: where line -1 begins."""

    slots: NDArray[np.int64]
    at: NDArray[np.int64]
    lines: LogLines
    begun: Position | None


@dataclass(frozen=True)
class Past:
    """What was found of the rows from :attr:`.send.journal.Progress.rewind` to the newest one.

    ``ts`` int64 ``[n]`` µs and ``values`` float64 ``[n, S]``, in order; ``slots`` int64 ``[n]``: those of their rows;
    ``phase``: the grid's before the first of them. ``rows``: which rows there were. ``places``: where they were read.
    ``missing``: slots of rows that were not found. ``why``: in words, empty where none is missing. ``passing``: the
    obstacle may be temporary. ``lines``: how many lines were read.
    """

    ts: NDArray[np.int64]
    values: NDArray[np.float64]
    slots: NDArray[np.int64]
    phase: Phase
    rows: Rows
    places: list[Place] = field(default_factory=list)
    missing: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    why: str = ""
    passing: bool = False
    lines: int = 0


def read_past(log_config: LogConfig, sensors: Sequence[str], progress: Progress, period: int) -> Past:
    """Read again what was read from ``progress.rewind`` on, without side effects; never raises because of the log."""
    none = np.empty(0, np.int64)
    nothing = Past(none, np.empty((0, len(sensors))), none, Phase(), Rows.none(period))
    if progress.rewind is None or progress.newest is None:
        return nothing
    rows = committed_rows(progress, period)
    parser = Parser(log_config, sensors)
    tail = Tail(log_config.path, Position.from_json(progress.rewind), encoding=log_config.encoding, format=parser)
    found: list[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]] = []
    blocks: list[tuple[LogLines, Position | None]] = []
    begun: Position | None = None
    count = 0
    while (lines := tail.read(BLOCK_BYTES)) is not None:
        count += len(lines)
        readings = parser.parse(lines)
        known = readings.ts <= progress.newest if rows is None else rows.may_hold(quarters(readings.ts, period))
        if known.any():
            found.append((readings.ts[known], readings.values[known], readings.line[known]))
            blocks.append((lines.without_text(), begun))
        elif len(readings.ts) and (readings.ts > progress.newest).all():
            break
        begun = beginning(lines, readings, begun)
    ts = np.concatenate([each[0] for each in found]) if found else nothing.ts
    quarter = quarters(ts, period)
    if rows is None:  # written by an earlier version: applying the rule again is the best that can be done
        newest = quarters(np.array([progress.newest]), period)
        joined = np.concatenate((quarter, newest[~np.isin(newest, quarter)]))
        placed = follow(joined)
        chosen = in_order(placed.slots, None)[0]
        rows = Rows(period, joined[chosen], placed.slots[chosen], placed.moved[chosen], placed.phase.crowded)
        absent = np.flatnonzero(chosen >= len(quarter))
        chosen = chosen[: len(chosen) - len(absent)]
    else:
        chosen, absent = rows.among(quarter)
    present = np.delete(np.arange(len(rows.slots)), absent)
    if rows.rough:
        rows = rows.exact(present, quarter[chosen])
    slots, missing = rows.slots[present], rows.slots[absent]
    if not len(chosen):
        found = []
    values = np.concatenate([each[1] for each in found]) if found else nothing.values
    line = np.concatenate([each[2] for each in found]) if found else nothing.ts
    block = np.repeat(np.arange(len(found)), [len(each[0]) for each in found])
    places = []
    for place in range(len(found)):
        own = block[chosen] == place
        if own.any():
            places.append(Place(slots[own], line[chosen[own]], *blocks[place]))
    return Past(
        ts[chosen],
        values[chosen],
        slots,
        Phase(moved=int(rows.moved[present[0]])) if len(present) else Phase(),
        rows,
        places,
        missing,
        _why(tail, len(chosen), len(missing), count) if len(missing) else "",
        bool(len(missing)) and (tail.resumed is None or tail.state == "unreadable"),
        count,
    )


def beginning(lines: LogLines, readings: Readings, before: Position | None) -> Position | None:
    """Return where the reading that a block leaves incomplete begins; ``before``: that of the block before it."""
    if readings.open_line is None:
        return None
    return lines.position_of(readings.open_line) if readings.open_line >= 0 else before


def committed_rows(progress: Progress, period: int) -> Rows | None:
    """Return which periods had a row; None where the journal does not record it, or for another period length."""
    if not progress.rows:
        return None
    try:
        rows = Rows.from_text(progress.rows)
    except ValueError:
        log.warning("the journal does not tell which rows there were: the log is read again without it")
        return None
    return rows if rows.period == period else None


def _why(tail: Tail, found: int, missing: int, lines: int) -> str:
    count = f"{missing} of the {found + missing} rows before the last restart could not be read again"
    if tail.state in {"unreadable", "missing"} or tail.resumed is None:
        return f"{count}: {tail.detail}"
    if lines >= found + missing:
        return f"{count}: their lines are read otherwise now; was [log] changed, or the bundle?"
    return f"{count}: their lines are no longer in the log"
