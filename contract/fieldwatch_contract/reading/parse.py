"""Lines → readings, in the dialects that laboratories write; columns by name; nothing is dropped without a reason.

The dialect follows from the header and the first line of data after it, not from how much of the file is written: a log
read line by line gives the same readings as in one piece.

    | a line | is |
    |---|---|
    | blank, a comment | skipped |
    | a header (:mod:`.reading.dialect`) | skipped; applies from there on, also to later files without a header |
    | before the first reading after a header (or a file's start): text without numbers, units | skipped, up to \
:data:`PREAMBLE` lines |
    | of the dialect's number of fields, with a time (:mod:`.reading.times`) | a reading, see :mod:`.reading.values` |
    | the same, of a log with one value per line | part of a reading, see :mod:`.reading.long` |
    | under a header without any of the bundle's sensors | refused; read by the columns before if it fits those alone |
    | anything else | refused with a reason |

A sensor without a column is missing, a column without a sensor is ignored; both are reported.

Similar lines are parsed in blocks, others one by one; the results are identical, bit for bit.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fieldwatch_contract.reading.advice import TimeAdvice
from fieldwatch_contract.reading.dialect import MARK, SPACE, Columns, Dialects, comma_cure, split
from fieldwatch_contract.reading.jsonl import JsonObjects
from fieldwatch_contract.reading.lines import Found, Lines, Readings, Refusal, RefusedError
from fieldwatch_contract.reading.long import Assembly
from fieldwatch_contract.reading.settings import LogConfig
from fieldwatch_contract.reading.signs import is_number
from fieldwatch_contract.reading.times import Times
from fieldwatch_contract.reading.values import Numbers
from fieldwatch_contract.reading.words import is_processing, plain, some, typewritten

__all__ = ["PREAMBLE", "Columns", "Parser", "Readings", "Refusal"]

PREAMBLE = 50
"""Lines of text at the beginning of a file that are skipped at most; further ones are refused."""
FEW = 8
"""Fewer lines than this are parsed one by one, because a block costs more; the last few after a block join it."""
CELLS = 51_200
"""Fields parsed together: enough to amortise numpy's call overhead, few enough to stay in the cache."""

_REPLACED = "\ufffd".encode()
_NUMERIC = b"0123456789+-.eE"
_NEW_HEADER = "a device that writes other columns must write a new header; or name them in [log] columns"
_DATA = frozenset(bytes([each]) for each in b"0123456789{")
_EUROPEAN = re.compile(r"\d{1,2}\.\d{1,2}\.\d{2,4}\b")

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


class Parser:
    """Parses the lines of one log, block by block; keeps the header in effect."""

    def __init__(self, log: LogConfig, sensors: Sequence[str]) -> None:
        """``sensors``: the bundle's, in its order."""
        self._log = log
        self.sensors = tuple(plain(sensor) for sensor in sensors)
        self._comment = log.comment.encode() or None
        self._times = Times(log.timestamp)
        self._dialects = Dialects(log, self.sensors, self._times)
        self._numbers = Numbers(log, self.sensors)
        self._objects = JsonObjects(log, self.sensors, self._times) if log.format == "jsonl" else None
        self._assembly = Assembly(log.period, self.sensors) if log.format == "long" else None
        self._advice = TimeAdvice(log.timestamp.timezone)
        self._header: bytes | None = None
        self._opening = True
        self._seeking = True
        self._passed = 0
        self._before: tuple[bytes | None, Columns] | None = None
        self._misplaced: str | None = None
        self.columns: Columns | None = None
        """The columns in effect, None until a header and a line of data have been seen."""
        self.units: dict[str, str] = {}
        """Units by column, where a row below the names gives them."""

    # ---- a block -----------------------------------------------------------------------------------------------

    def parse(self, lines: Lines) -> Readings:
        """Return the readings of a block. Blocks come in log order; their boundaries do not matter."""
        found = Found()
        if self._assembly is not None:
            self._assembly.begin_block()
        if lines.fresh:
            self._resume(lines, found)
        whole = len(lines) - (lines.torn or lines.overlong)
        at, stride = 0, whole
        while at < whole:
            stop = min(at + stride, whole, at + self._stride())
            stop = whole if whole - stop < FEW else stop
            read = self._block(lines.lines, at, stop, found) if stop - at >= FEW else 0
            stride = stride * 4 if read == stop - at else 2 * FEW  # odd lines come in company
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
            self._take_header(lines.header)
        if lines.at_start:
            self._opening, self._seeking, self._passed = True, True, 0
            return
        self._opening = False
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
        if self.columns is not None or self._objects is not None:
            return
        counts = [tuple(line.count(each) for each in self._dialects.delimiters) for line in before]
        for usual, _ in Counter(counts).most_common(1):
            try:
                self._fields(before[counts.index(usual)].removeprefix(MARK), Found())
            except RefusedError:
                return

    # ---- one line ----------------------------------------------------------------------------------------------

    def _single(self, line: bytes, at: int, found: Found) -> None:
        """Parse one line into ``found``."""
        line = line.removeprefix(MARK)
        if self.is_header(line, None if self._opening else self._header):
            self._take_header(line)
            found.skipped += 1
            return
        if not line.strip() or (self._comment and line.startswith(self._comment)):
            found.skipped += 1
            return
        try:
            self._read(line, at, found)
        except RefusedError as refused:
            if self._is_preamble(line):
                self._passed += 1
                found.skipped += 1
            elif self._assembly is not None:
                self._assembly.refuse(Refusal(at, refused.reason, refused.detail), found)
            else:
                found.refused.append(Refusal(at, refused.reason, refused.detail))

    def _read(self, line: bytes, at: int, found: Found) -> None:
        """Take a line's reading, or its part of one; raises :class:`.lines.RefusedError`."""
        if self._objects is not None:
            _check_text(line)
            ts, values, bad = self._objects.read(line, self._numbers)
            self._times.last = ts
            found.add(ts, values, at)
            found.bad.update(bad)
            return
        ts, fields = self._fields(line, found)
        columns = self.columns
        assert columns is not None
        if self._assembly is not None:
            self._assembly.take(ts, self._name(fields, columns), self._values_of(fields, columns), at, found)
            return
        places = [place for place, column in enumerate(columns.order.tolist()) if 0 <= column < len(fields)]
        cells = [fields[columns.order[place]] for place in places]
        values, bad = self._numbers.row(cells, places, columns.delimiter)
        found.add(ts, values, at)
        found.bad.update(bad)

    def _fields(self, line: bytes, found: Found) -> tuple[int, list[bytes]]:
        """Return time and fields of a line; raises :class:`.lines.RefusedError`."""
        _check_text(line)
        if self._header is None and self.columns is None and self._log.columns is None:
            raise RefusedError("header", f"no line with column names has come before it; {_cure(line)}")
        columns = self.columns or self._learn(line)
        line = typewritten(line)
        fields = split(line, columns.delimiter, self._dialects.decode)
        if not any(each.strip() for each in fields):
            raise RefusedError("empty", "has no values")
        wanted, named = columns.widths[0], len(columns.names)
        if len(fields) not in columns.widths or any(each.strip() for each in fields[named:]):
            spare = f" (and {wanted - named} empty at the end)" if wanted > named else ""
            names = "[log] columns" if self._header is None else "the header"
            raise RefusedError(
                "columns",
                f"has {len(fields)} fields, {names} has {min(wanted, named)}{spare}; "
                + (comma_cure(columns.delimiter, named, sum(1 for each in fields if each.strip())) or _NEW_HEADER),
            )
        text = self._time_text(fields, columns.time)
        self._times.offset = columns.offset
        ts = self._times.one(text)
        if ts is None:
            raise RefusedError("timestamp", self._why_no_time(text))
        self._times.last = ts
        self._opening = self._seeking = False
        if self.columns is not columns:
            form = self._log.timestamp.format or ""
            day_first = columns.delimiter == b";" and form.startswith("%d")
            if self._before is not None and self._before[1].delimiter != columns.delimiter:
                self._numbers = Numbers(self._log, self.sensors)  # what signs meant there, they need not mean here
            self._numbers.signs.european = day_first or _EUROPEAN.match(text) is not None
            self.columns = columns
            self._tell(columns, found)
        return ts, fields

    def _learn(self, line: bytes) -> Columns:
        """Return the columns of the header in effect, from its first row; raises :class:`.lines.RefusedError`."""
        if self._misplaced is not None:
            raise RefusedError(
                "header",
                f"{self._misplaced!r} has another place among the names in the file than in [log] columns; "
                "put [log] columns right, or leave it out",
            )
        before, header = self._before, self._header or b""
        if before is None or not self._dialects.is_foreign(header):
            columns = self._dialects.understand(self._header, line)
            names = columns.names if columns.foreign else ()
        else:
            columns = before[1]
            names = self._dialects.names(header, columns.delimiter)
            count = len(split(line, columns.delimiter, self._dialects.decode))
            if count in columns.widths and count != len(names):
                self._header, self._before = before[0], None
                return columns
        if names:
            known = f"none of the bundle's {len(self.sensors)} sensors has a column"
            raise RefusedError("header", f"{known}; the columns are {some(names)}")
        return columns

    def _name(self, fields: Sequence[bytes], columns: Columns) -> str:
        assert columns.pair is not None
        return plain(self._dialects.decode(fields[columns.pair[0]]))

    def _values_of(self, fields: Sequence[bytes], columns: Columns) -> tuple[int, float, bool]:
        """Return a line's sensor index (-1: not in the bundle), its value, and whether that is not a number."""
        assert columns.pair is not None
        name = self._name(fields, columns)
        if name not in self.sensors:
            return -1, np.nan, False
        place = self.sensors.index(name)
        values, bad = self._numbers.row([fields[columns.pair[1]]], [place], columns.delimiter)
        return place, float(values[place]), bool(bad)

    def _why_no_time(self, text: str) -> str:
        pattern = self._log.timestamp.format
        fits = f"does not fit [log.timestamp] format {pattern!r}" if pattern else "is no time that is understood"
        return f"{text!r} {fits}; {self._advice(text) or 'see [log] timestamp'}"

    def _time_text(self, fields: Sequence[bytes], columns: Sequence[int]) -> str:
        return " ".join(self._dialects.decode(fields[column]).strip() for column in columns)

    def _is_preamble(self, line: bytes) -> bool:
        """Tell whether a line that is not a reading is text before the data: a title, a serial number, units."""
        if not self._seeking or self._passed >= PREAMBLE or line.lstrip(b' "\t')[:1] in _DATA or self._objects:
            return False
        delimiters = self._dialects.delimiters if self.columns is None else (self.columns.delimiter,)
        fields = max((line.split(each) for each in delimiters), key=len)
        unknown = self._header is None and self.columns is None
        texts = [self._dialects.decode(each) for each in fields]
        titled = unknown and not any(":" in each and self._times.one(each) is not None for each in texts)
        if titled or not any(is_number(each) for each in texts):
            self._note_units(line)
            return True
        return False

    def _note_units(self, line: bytes) -> None:
        """Keep a row of units below the names."""
        for delimiter in self._dialects.delimiters if self._header is not None else ():
            names, cells = (self._dialects.names(each, delimiter) for each in (self._header or b"", line))
            if len(names) == len(cells) > 1 and self._dialects.is_units(cells):
                if all(is_processing(cell) for cell in cells if cell):
                    return
                self.units = {name: cell for name, cell in zip(names, cells, strict=True) if name and cell}

    # ---- many lines ----------------------------------------------------------------------------------------------

    def _stride(self) -> int:
        return max(2 * FEW, CELLS // len(self.columns.names)) if self.columns else 1

    def _block(self, lines: list[bytes], at: int, stop: int, found: Found) -> int:
        """Parse ``lines[at:stop]`` up to the first that is not like the others; return how many were parsed."""
        columns = self.columns
        if columns is None or self._assembly is not None:
            return 0
        if len(columns.delimiter) > 1 or columns.delimiter in _NUMERIC:
            return 0
        delimiter, rows = columns.delimiter, lines[at:stop]
        data = b"".join(rows)
        if delimiter == SPACE:
            rows = [SPACE.join(row.split()) for row in rows]
        if b'"' in data or b"\0" in data or not data.isascii():
            rows = [self._bare(row, delimiter) for row in rows]
        cuts = rows[0].count(delimiter)
        spare = max(0, cuts + 1 - len(columns.names))
        if cuts + 1 not in columns.widths:
            return 0
        alike = [row.count(delimiter) == cuts for row in rows]
        if self._comment and self._comment in data:
            bare = [not line.startswith(self._comment) for line in lines[at:stop]]
            alike = [fits and reads for fits, reads in zip(alike, bare, strict=True)]
        if spare:
            alike = [fits and row.endswith(delimiter * spare) for fits, row in zip(alike, rows, strict=True)]
        if not all(alike):
            rows = rows[: alike.index(False)]
        if spare:
            rows = [row[:-spare] for row in rows]
        if not rows:
            return 0
        last = self._times.last
        ts, count = self._times_of(rows, columns)
        values, bad = self._values(rows[:count], columns, cuts + 1 - spare)
        self._times.last = last
        if not (count := len(values)):
            return 0
        found.ts.append(ts[:count])
        found.values.append(values)
        found.line.append(np.arange(at, at + count))
        found.bad.update(bad)
        self._times.last = int(ts[count - 1])
        self._opening = self._seeking = False
        return count

    def _times_of(self, rows: list[bytes], columns: Columns) -> tuple[_Ints, int]:
        """Return the rows' times and how many of them, from the first on, hold."""
        some_more = max(columns.time) + 1
        cut = [[row.split(columns.delimiter, some_more)[column] for row in rows] for column in columns.time]
        texts = cut[0] if len(cut) == 1 else [b" ".join(map(bytes.strip, each)) for each in zip(*cut, strict=True)]
        lengths = np.array(list(map(len, texts)))
        ends = np.cumsum(lengths)
        ts, count = self._times.column(np.frombuffer(b"".join(texts), np.uint8), ends - lengths, ends)
        if count or not texts:
            return ts, count
        times: list[int] = []
        for text in texts:
            if (time := self._times.one(self._dialects.decode(text))) is None:
                break
            times.append(time)
            self._times.last = time
        return np.array(times, np.int64), len(times)

    def _values(self, rows: list[bytes], columns: Columns, width: int) -> tuple[_Floats, list[int]]:
        """Return the values, ``[n, S]``, of the first ``n`` rows and the places of fields that are no numbers.

        Columns that belong to no sensor are removed first, so that their content cannot interfere.
        """
        present = np.flatnonzero(columns.order >= 0)
        if not len(present):
            return np.full((len(rows), len(self.sensors)), np.nan), []
        delimiter, first = columns.delimiter, max(columns.time) + 1
        chosen = columns.order[present]
        if len(chosen) == width - first and chosen.min() >= first:
            places = present[np.argsort(chosen)]
            return self._numbers.block([row.split(delimiter, first)[-1] for row in rows], delimiter, places)
        use = chosen.tolist()
        cells = [row.split(delimiter) for row in rows]
        return self._numbers.block([delimiter.join([row[each] for each in use]) for row in cells], delimiter, present)

    def _bare(self, line: bytes, delimiter: bytes) -> bytes:
        """Return a readable line without its quotes, nothing where the quotes are needed."""
        line = typewritten(line)
        if b"\0" in line or _REPLACED in line:
            return b""
        try:
            fields = split(line, delimiter, self._dialects.decode)
        except RefusedError:
            return b""
        bare = delimiter.join(fields)
        return bare if bare.count(delimiter) == len(fields) - 1 else b""

    # ---- headers ---------------------------------------------------------------------------------------------------

    def is_header(self, line: bytes, current: bytes | None) -> bool:
        """Tell whether ``line`` names columns; ``current`` is the header in effect before it."""
        return self._dialects.is_header(line, current)

    def first_time(self, lines: Sequence[bytes]) -> int | None:
        """Return the time (µs) of the first reading among a file's first lines, or None."""
        probe = Parser(self._log, self.sensors)
        for each in lines:
            line = each.removeprefix(MARK)
            if probe.is_header(line, probe._header):
                probe._take_header(line)
            elif line.strip() and not (self._comment and line.startswith(self._comment)):
                try:
                    return probe._time(line)[0]
                except RefusedError:
                    if probe._header is None and (ts := probe._leading_time(line)) is not None:
                        return ts
        return None

    def last_reading(self, lines: Sequence[bytes]) -> tuple[int, str] | None:
        """Return the time (µs) of the last reading among ``lines`` with the columns in effect, and its text."""
        for line in reversed(lines):
            try:
                return self._time(line.removeprefix(MARK))
            except RefusedError:
                continue
        return None

    @property
    def assumed_zone(self) -> bool:
        """Whether times without a zone have been read, to which the configured time zone applies."""
        return self._times.assumed

    @property
    def decimal(self) -> str:
        """The decimal sign as far as it is known from the log: ".", "," or ""."""
        return self._numbers.signs.decimal

    def _time(self, line: bytes) -> tuple[int, str]:
        if self._objects is not None:
            return self._objects.time(line)
        ts, fields = self._fields(line, Found())
        return ts, self._time_text(fields, self.columns.time if self.columns else ())

    def _leading_time(self, line: bytes) -> int | None:
        for delimiter in self._dialects.delimiters:
            fields = line.replace(b'"', b"").split(delimiter)
            for columns in ((0,), (0, 1)):
                if len(fields) > 1 and (ts := self._times.one(self._time_text(fields, columns))) is not None:
                    return ts
        return None

    def _take_header(self, line: bytes) -> None:
        line = line.removeprefix(MARK)
        self._opening, self._seeking, self._passed = False, True, 0
        if self._log.columns is not None:
            self._misplaced = self._dialects.misplaced(line)
            self.columns = None if self._misplaced else self.columns
            return
        if line == self._header and self.columns is not None:
            return
        if self.columns is not None:
            self._before = self._header, self.columns
        self._header = line
        self.columns = None

    def _tell(self, columns: Columns, found: Found) -> None:
        """Report columns that differ from the previous ones, or from the bundle's sensors."""
        text = columns.describe() if self._before is None else columns.change_from(self._before[1])
        if text:
            found.changes.append(text)


def _cure(line: bytes) -> str:
    if line.lstrip().startswith(b"{"):
        return 'it is a JSON object: say [log] format = "jsonl"'
    return "if the log has none, name the columns in [log] columns"


def _check_text(line: bytes) -> None:
    """Raise :class:`.lines.RefusedError` where a line contains anything but text."""
    if b"\0" in line or _REPLACED in line:
        raise RefusedError("encoding", "holds bytes that are no text; is [log] encoding right?")
