"""Classifies the next lines of the log: readings, refused lines, or lines that must wait for the clock.

Combines the tail, the parser and the clock part of the acceptance rule (:mod:`.acceptance`); which readings are
duplicates or late is only known when they are placed on the grid.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fieldwatch_contract import clock
from fieldwatch_contract.acceptance import AHEAD, ahead
from fieldwatch_contract.reading.occurred import Names
from fieldwatch_contract.reading.parse import Columns, Parser, Readings, Refusal
from fieldwatch_contract.reading.settings import LogConfig
from numpy.typing import NDArray

from fieldwatch_agent.log.tail import LogLines, Position, Tail
from fieldwatch_agent.score.past import beginning

log = logging.getLogger("fieldwatch.agent")

SILENT_PERIODS = 3
"""A log without a new line for this many periods is silent."""
CLOCK_RETRY_S = 60.0
"""Lines ahead of the clock are checked again this often; the log may have returned to the clock's time."""


@dataclass(frozen=True)
class Accepted:
    """A block of lines: readings to be placed, and refused lines; ``position``: after the last line that was used.

    ``ts`` int64 ``[n]`` µs, ``values`` float64 ``[n, S]``, ``line`` int64 ``[n]``: their lines; ``begun``: where a
    reading of line -1 begins.
    """

    lines: LogLines
    ts: NDArray[np.int64]
    values: NDArray[np.float64]
    line: NDArray[np.int64]
    refused: list[Refusal]
    bad_values: Counter[str]
    position: Position
    begun: Position | None


@dataclass(frozen=True)
class _Ahead:
    """Lines that wait for the clock: the first one's time (µs), their bytes, when to check again (monotonic)."""

    ts: int
    file: str
    unread: int
    due: float


class Intake:
    """Reads one log from a position on."""

    def __init__(self, config: LogConfig, sensors: Sequence[str], position: str | None) -> None:
        """``position``: the tail's JSON, None to begin with the oldest file. No file is touched yet."""
        self._config = config
        self._sensors = sensors
        self._position = Position.from_json(position) if position else None
        self._ahead: _Ahead | None = None
        self._open()

    def _open(self) -> None:
        self._parser = Parser(self._config, self._sensors)
        self._begun: Position | None = None  # before the first line of a reading that is not complete
        self.tail = Tail(
            self._config.path,
            self._position,
            encoding=self._config.encoding,
            format=self._parser,
            silent_after=SILENT_PERIODS * self._config.period / clock.SECOND,
        )

    def read(self, limit: int, newest: int | None) -> Accepted | None:
        """Return the next block of about ``limit`` bytes; None when there is nothing new or it must wait for the clock.

        ``newest``: time (µs) of the newest row.
        """
        if self._waits():
            return None
        lines = self.tail.read(limit)
        if lines is None:
            return None
        readings = self._parser.parse(lines)
        for change in readings.changes:
            log.warning("%s: %s", lines.file, change)
        accepted = self._accept(lines, readings, newest)
        if self._ahead is not None and not len(accepted.ts) and not accepted.refused:
            return None
        self._position = accepted.position
        return accepted

    def _waits(self) -> bool:
        """Tell whether lines still wait for the clock; otherwise they are read again."""
        if self._ahead is None:
            return False
        if clock.now() + AHEAD < self._ahead.ts and time.monotonic() < self._ahead.due:
            return True
        self._ahead = None
        self._open()
        return False

    def _accept(self, lines: LogLines, readings: Readings, newest: int | None) -> Accepted:
        """Refuse, or leave unread, what is ahead of the clock."""
        ts, line, now = readings.ts, readings.line, clock.now()
        beyond = bool((ts > now + AHEAD).any())
        judged = ahead(ts, now, newest, _written(lines) if beyond else None)
        stop, read, before = len(ts), len(lines), self._begun
        self._begun = beginning(lines, readings, before)
        position = self._begun or lines.position
        if judged.waits is not None:
            stop, read = judged.waits, int(line[judged.waits])
            position = before if read < 0 and before is not None else lines.position_of(max(0, read))
            unread = lines.position.offset - position.offset
            self._ahead = _Ahead(int(ts[stop]), lines.file, unread, time.monotonic() + CLOCK_RETRY_S)
        taken = np.flatnonzero(~judged.future[:stop])
        refused = [each for each in readings.refused if each.line < read]
        refused += [
            Refusal(int(at), "future", "more than a day ahead of this computer's clock")
            for at in line[:stop][judged.future[:stop]]
        ]
        bad = Counter(readings.bad_values)
        return Accepted(lines, ts[taken], readings.values[taken], line[taken], refused, bad, position, before)

    def lag(self) -> int:
        """Return the bytes written and not yet read, as far as they can be seen."""
        return self.tail.lag() + (self._ahead.unread if self._ahead is not None else 0)

    @property
    def columns(self) -> Columns | None:
        """The log's columns in effect."""
        return self._parser.columns

    @property
    def names(self) -> Names | None:
        """Which sensors occur, in a log without column names."""
        return self._parser.names

    @property
    def clock_wrong(self) -> str:
        """The evidence that this computer's clock is wrong, in words; empty where there is none."""
        if self._ahead is None:
            return ""
        return (
            f"{Path(self._ahead.file).name} has readings of {clock.iso(self._ahead.ts)}, and other times in the log "
            f"agree with them, but this computer's clock says {clock.iso(clock.now())}; they wait unread"
        )


def _written(lines: LogLines) -> int | None:
    """Return when the file was written, in µs; None where it is gone."""
    try:
        return Path(lines.file).stat().st_mtime_ns // 1000
    except OSError:
        return None
