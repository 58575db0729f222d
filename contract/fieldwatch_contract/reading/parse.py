"""Lines → readings, in the dialects that laboratories write; columns by name; nothing is dropped without a reason.

The dialect follows from the header and the first line of data after it, not from how much of the file is written: a log
read line by line gives the same readings as in one piece.

    | a line | is |
    |---|---|
    | blank, a comment | skipped |
    | a header (:mod:`.reading.dialect`) | skipped; applies from there on, also to later files without a header |
    | before the first reading after a header (or a file's start): text without numbers, units | skipped, up to \
:data:`.headers.PREAMBLE` lines |
    | of the dialect's number of fields, with a time (:mod:`.reading.times`) | a reading, see :mod:`.reading.values` |
    | the same, of a log with one value per line | part of a reading, see :mod:`.reading.long` |
    | under a header without any of the bundle's sensors | refused; read by the columns before if it fits those alone |
    | anything else | refused with a reason |

A sensor without a column is missing, a column without a sensor is ignored; both are reported.

Lines alike are parsed in blocks (:mod:`.reading.block`), others one by one (:mod:`.reading.row`); the results are
identical, bit for bit. :mod:`.reading.headers` follows the headers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from fieldwatch_contract.reading.block import FEW, BlockReader, stride
from fieldwatch_contract.reading.dialect import Columns, Dialects
from fieldwatch_contract.reading.headers import PREAMBLE, Headers
from fieldwatch_contract.reading.lines import Found, Lines, Readings, Refusal, RefusedError
from fieldwatch_contract.reading.long import Assembly
from fieldwatch_contract.reading.occurred import Names, Occurred
from fieldwatch_contract.reading.row import RowReader
from fieldwatch_contract.reading.settings import LogConfig
from fieldwatch_contract.reading.text import BOM
from fieldwatch_contract.reading.times import Times
from fieldwatch_contract.reading.values import Numbers
from fieldwatch_contract.reading.words import plain

__all__ = ["PREAMBLE", "Columns", "Parser", "Readings", "Refusal"]


class Parser:
    """Parses the lines of one log, block by block: decides what each line is, and collects what it holds."""

    def __init__(self, log: LogConfig, sensors: Sequence[str]) -> None:
        """``sensors``: the bundle's, in its order."""
        self._log = log
        self.sensors = tuple(plain(sensor) for sensor in sensors)
        self._comment = log.comment.encode() or None
        self._times = Times(log.timestamp)
        self._numbers = Numbers(log, self.sensors)
        self._dialects = Dialects(log, self.sensors, self._times)
        self._headers = Headers(log, self._dialects, self._times)
        self._occurred = Occurred(self.sensors)
        self._rows = RowReader(
            log, self.sensors, self._dialects, self._headers, self._times, self._numbers, self._occurred
        )
        self._blocks = BlockReader(self._comment, self._dialects, self._times, self._numbers)
        self._assembly = Assembly(log.period, self.sensors) if log.format == "long" else None

    # ---- what is known of the log ----------------------------------------------------------------------------------

    @property
    def columns(self) -> Columns | None:
        """The columns in effect, None until a header and a line of data have been seen."""
        return self._headers.columns

    @property
    def names(self) -> Names | None:
        """Which sensors occur in a log without column names; None for other logs, and before that can be told."""
        return self._occurred.names

    @property
    def met(self) -> tuple[str, ...]:
        """Every name that has occurred in a log without column names, in the order of their coming."""
        return self._occurred.met

    @property
    def units(self) -> dict[str, str]:
        """Units by column, where a row below the names gives them."""
        return self._headers.units

    @property
    def assumed_zone(self) -> bool:
        """Whether times without a zone have been read, to which the configured time zone applies."""
        return self._times.assumed

    @property
    def time_formats(self) -> tuple[str, ...]:
        """Formats that would read every time that was refused so far (``[log.timestamp] format``)."""
        return self._rows.advice.fits

    @property
    def decimal(self) -> str:
        """The decimal sign as far as it is known from the log: ".", "," or ""."""
        return self._numbers.signs.decimal

    # ---- readings --------------------------------------------------------------------------------------------------

    def parse(self, lines: Lines) -> Readings:
        """Return the readings of a block. Blocks come in log order; their boundaries do not matter."""
        found = Found()
        if self._assembly is not None:
            self._assembly.begin_block()
        if lines.fresh:
            self._resume(lines, found)
        whole = len(lines) - (lines.torn or lines.overlong)
        at, length = 0, whole
        while at < whole:
            stop = min(at + length, whole, at + stride(self.columns))
            stop = whole if whole - stop < FEW else stop
            read = self._block(lines.lines, at, stop, found) if stop - at >= FEW else 0
            length = length * 4 if read == stop - at else 2 * FEW  # odd lines come in company
            at += read
            found.changes += self._numbers.signs.doubts()
            if not read or at < stop:
                self._single(lines.lines[at], at, found)
                found.changes += self._numbers.signs.doubts()
                at += 1
        if whole < len(lines):
            what = (
                ("too_long", "longer than 1 MiB") if lines.overlong else ("torn", "the file ends in the middle of it")
            )
            found.refused.append(Refusal(whole, *what))
        return found.readings(self.sensors, self._assembly.open_line if self._assembly else None)

    def _resume(self, lines: Lines, found: Found) -> None:
        """Begin a file, or continue in the middle of one after a restart."""
        if lines.header is not None:
            self._headers.take(lines.header)
        if lines.at_start:
            self._headers.begin_file()
            return
        self._headers.resume_file()
        self._times.last = None
        self._settle(lines.before)
        known, assembly = Found(), self._assembly
        if assembly is not None:
            self._assembly = Assembly(self._log.period, self.sensors)
        for line in lines.before:  # they were read before the restart; here they tell times and columns
            self._single(line, 0, known)
        if assembly is not None and self._assembly is not None:
            assembly.remind(self._assembly)
            self._assembly = assembly
        found.changes += known.changes

    def _settle(self, before: Sequence[bytes]) -> None:
        """Learn the columns from a line like most of those before: a single unusual one must not fix the dialect."""
        if self.columns is not None or self._log.format == "jsonl":
            return
        counts = [tuple(line.count(each) for each in self._dialects.delimiters) for line in before]
        for usual, _ in Counter(counts).most_common(1):
            try:
                self._rows.fields(before[counts.index(usual)].removeprefix(BOM), Found())
            except RefusedError:
                return

    def _single(self, line: bytes, at: int, found: Found) -> None:
        """Parse one line into ``found``."""
        line = line.removeprefix(BOM)
        if self._headers.is_header(line):
            self._headers.take(line)
            found.skipped += 1
            return
        if self._is_skipped(line):
            found.skipped += 1
            return
        try:
            self._read(line, at, found)
        except RefusedError as refused:
            if self._headers.skip(line):
                found.skipped += 1
            elif self._assembly is not None:
                self._assembly.refuse(Refusal(at, refused.reason, refused.detail), found)
            else:
                found.refused.append(Refusal(at, refused.reason, refused.detail))

    def _is_skipped(self, line: bytes) -> bool:
        return not line.strip() or (self._comment is not None and line.startswith(self._comment))

    def _read(self, line: bytes, at: int, found: Found) -> None:
        """Take a line's reading, or its part of one; raises :class:`.lines.RefusedError`."""
        if self._assembly is not None:
            ready = len(found.ts)
            self._assembly.take(*self._rows.part(line, found), at, found)
            self._occurred.readings += len(found.ts) - ready
            return
        ts, values, bad = self._rows.reading(line, found)
        found.add(ts, values, at)
        found.bad.update(bad)

    def _block(self, lines: list[bytes], at: int, stop: int, found: Found) -> int:
        """Parse ``lines[at:stop]`` up to the first that is not like the others; return how many were parsed."""
        if self.columns is None or self._assembly is not None:
            return 0
        ts, values, bad = self._blocks.read(lines[at:stop], self.columns)
        if not len(ts):
            return 0
        found.ts.append(ts)
        found.values.append(values)
        found.line.append(np.arange(at, at + len(ts)))
        found.bad.update(bad)
        self._headers.begin_data()
        return len(ts)

    # ---- questions about a file's lines ----------------------------------------------------------------------------

    def is_header(self, line: bytes, current: bytes | None) -> bool:
        """Tell whether ``line`` names columns; ``current`` is the header in effect before it."""
        return self._dialects.is_header(line, current)

    def first_time(self, lines: Sequence[bytes]) -> int | None:
        """Return the time (µs) of the first reading among a file's first lines, or None."""
        probe = Parser(self._log, self.sensors)
        for each in lines:
            line = each.removeprefix(BOM)
            if probe._headers.is_header(line):
                probe._headers.take(line)
            elif not self._is_skipped(line):
                try:
                    return probe._rows.time(line)[0]
                except RefusedError:
                    if probe._headers.current is None and (ts := probe._rows.leading_time(line)) is not None:
                        return ts
        return None

    def last_reading(self, lines: Sequence[bytes]) -> tuple[int, str] | None:
        """Return the time (µs) of the last reading among ``lines`` with the columns in effect, and its text."""
        for line in reversed(lines):
            try:
                return self._rows.time(line.removeprefix(BOM))
            except RefusedError:
                continue
        return None
