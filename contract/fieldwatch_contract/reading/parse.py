"""Lines → readings: in the dialects that laboratories write, column by name, nothing dropped without a reason.

The dialect follows from the header and the first line of data after it, not from how far the file has been written: a
log read line by line gives what it gives in one piece.

* *Columns* are found by name and put in the order of the bundle's sensors. A sensor without a column is missing, a
  column without a sensor is ignored; both are told. A new header in the middle of a file (a restart, a rotation, other
  sensors) holds from there on; a file without any goes on with the header of the one before it.
* *Delimiter*: the one of tab, ``;``, ``|`` and ``,`` by which header and data have the same number of fields. Where it
  is not the comma, a decimal comma is understood as well as a point.
* *Time*: the column called time, timestamp, Zeit, …; one called date and one called time; or the first that holds a
  time. See :mod:`.reading.times`.
* *Values*: what is not a finite number up to 10¹⁰⁰ is NaN and counted; an empty field is NaN and nothing more.
* A line is a reading, or refused with a reason, or skipped: blank, comment, header, what stands before a header.

Lines that look alike are read in blocks, their numbers as one JSON array: pydantic's reader rounds as ``float()`` does
and takes a quarter of the time of ``numpy.loadtxt``. The other lines are read one by one; the results are identical,
bit for bit.
"""

from __future__ import annotations

import csv
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from fieldwatch_contract.grid import ABSURD
from fieldwatch_contract.reading.lines import Lines
from fieldwatch_contract.reading.settings import LogConfig
from fieldwatch_contract.reading.times import Times

PREAMBLE = 50
"""Lines of text are passed over at the beginning of a file, up to so many; then they are refused."""
FEW = 8
"""Fewer lines than this are read one by one: a block costs more."""
CELLS = 51_200
"""Fields read together: enough that the calls of numpy do not count, few enough to stay in the cache."""

TIME_NAMES = frozenset([
    "time", "timestamp", "timestamputc", "timeutc", "utc", "utctime", "localtime", "datetime", "ts",
    "zeit", "zeitstempel", "zeitpunkt", "datumzeit", "datumuhrzeit", "messzeit", "dateheure", "horodatage", "fechahora",
])  # fmt: skip
"""Names of the column that holds the time, without case, blanks and signs."""
DATE_NAMES = frozenset(["date", "datum", "fecha"])
CLOCK_NAMES = frozenset(["time", "zeit", "uhrzeit", "heure", "hora", "clock"])

_DELIMITERS: tuple[bytes, ...] = (b"\t", b";", b"|", b",")
_EITHER = bytes.maketrans(b",", b".")
_COMMA_ONLY = bytes.maketrans(b",.", b".x")
_REPLACED = "\ufffd".encode()
_NUMERIC = b"0123456789+-.eE"
_BLANKS = b" \t\n\r\v\f"
_SIGNS = bytes(each if each in _NUMERIC else ord(" ") if each in _BLANKS else ord("?") for each in range(256))
"""Makes unreadable what no number holds, lest JSON take it for something else than a number."""
_PLUS = re.compile(rb"(?<=[, ])\+(?=\d)")
"""A sign that JSON does not know."""

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Refusal:
    """Line ``line`` of the block is no reading; ``reason`` is counted, ``detail`` is for people.

    Reasons of this module: ``header`` (no column names are known), ``columns`` (more or fewer fields than the header),
    ``timestamp``, ``empty``, ``malformed`` (quotes), ``encoding``, ``torn``, ``too_long``.
    """

    line: int
    reason: str
    detail: str


@dataclass(frozen=True)
class Readings:
    """What a block of lines says.

    ``ts``          int64 ``[m]`` µs UTC, in the order of the lines
    ``values``      float64 ``[m, S]`` in the bundle's order, NaN = missing
    ``line``        int64 ``[m]``: which line of the block each is
    ``refused``     in the order of the lines
    ``skipped``     how many lines are neither: blank, comment, header, before a header
    ``bad_values``  by sensor: how many fields should have been numbers and are not
    ``changes``     what a header says that the bundle or the header before it does not, in words
    """

    ts: _Ints
    values: _Floats
    line: _Ints
    refused: list[Refusal]
    skipped: int
    bad_values: dict[str, int]
    changes: list[str]


@dataclass(frozen=True)
class Columns:
    """What a header means. ``time``: one column, or date and time. ``order[i]``: column of sensor i, -1 = none."""

    names: tuple[str, ...]
    delimiter: bytes
    time: tuple[int, ...]
    order: _Ints
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    repeated: tuple[str, ...]

    def describe(self) -> str:
        """Tell in what the columns differ from the bundle's sensors; empty where they do not."""
        parts = []
        if self.missing:
            parts.append(f"no column for {_some(self.missing)}")
        if self.unknown:
            parts.append(f"columns that the bundle does not know: {_some(self.unknown)}")
        if self.repeated:
            parts.append(f"columns that are there twice, of which the first counts: {_some(self.repeated)}")
        return "; ".join(parts)


@dataclass
class _Found:
    """Readings as they are collected; ``bad`` by the sensor's place."""

    ts: list[_Ints] = field(default_factory=list)
    values: list[_Floats] = field(default_factory=list)
    line: list[_Ints] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    skipped: int = 0
    bad: Counter[int] = field(default_factory=Counter)
    changes: list[str] = field(default_factory=list)


class _RefusedError(Exception):
    """A line cannot be a reading."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class Parser:
    """Reads the lines of one log, block after block; knows the header in effect."""

    def __init__(self, log: LogConfig, sensors: Sequence[str]) -> None:
        """``sensors``: the bundle's, in its order."""
        self._log = log
        self.sensors = tuple(_plain(sensor) for sensor in sensors)
        self._comment = log.comment.encode() or None
        self._delimiters = _DELIMITERS if log.delimiter is None else (log.delimiter.encode(),)
        if log.decimal == ",":
            self._delimiters = tuple(each for each in self._delimiters if each != b",")
        self._times = Times(log.timestamp)
        self._header: bytes | None = None
        self._opening = True
        self._seeking = True
        self._passed = 0
        self._before: Columns | None = None
        self.columns: Columns | None = None
        """The columns in effect, None until a header and a line of data have been seen."""

    # ---- a block -----------------------------------------------------------------------------------------------

    def parse(self, lines: Lines) -> Readings:
        """Return the readings of a block. Blocks come in the order of the log, cut as they may be."""
        found = _Found()
        if lines.fresh:
            self._resume(lines, found)
        whole = len(lines) - (lines.torn or lines.overlong)
        at, stride = 0, whole
        while at < whole:
            stop = min(at + stride, whole, at + self._stride())
            read = self._block(lines.lines, at, stop, found) if stop - at >= FEW else 0
            stride = stride * 4 if read == stop - at else 2 * FEW  # odd lines come in company
            at += read
            if not read or at < stop:
                self._single(lines.lines[at], at, found)
                at += 1
        if whole < len(lines):
            what = (
                ("too_long", "longer than 1 MiB") if lines.overlong else ("torn", "the file ends in the middle of it")
            )
            found.refused.append(Refusal(whole, *what))
        return Readings(
            np.concatenate(found.ts) if found.ts else np.empty(0, np.int64),
            np.concatenate(found.values) if found.values else np.empty((0, len(self.sensors))),
            np.concatenate(found.line) if found.line else np.empty(0, np.int64),
            found.refused,
            found.skipped,
            {self.sensors[place]: count for place, count in sorted(found.bad.items())},
            found.changes,
        )

    def _resume(self, lines: Lines, found: _Found) -> None:
        """Begin a file, or go on in the middle of one after a restart."""
        if lines.header is not None:
            self._take_header(lines.header)
        if lines.at_start:
            self._opening, self._seeking, self._passed = True, True, 0
            return
        self._opening = False
        self._times.last = None
        known = _Found()
        for line in lines.before:  # they were read before the restart; here they tell times and columns
            self._single(line, 0, known)
        found.changes += known.changes

    # ---- one line ----------------------------------------------------------------------------------------------

    def _single(self, line: bytes, at: int, found: _Found) -> None:
        """Read one line into ``found``."""
        if self.is_header(line, None if self._opening else self._header):
            self._take_header(line)
            found.skipped += 1
            return
        if not line.strip() or (self._comment and line.startswith(self._comment)):
            found.skipped += 1
            return
        try:
            ts, fields = self._reading(line, found)
        except _RefusedError as refused:
            if self._is_preamble(line):
                self._passed += 1
                found.skipped += 1
            else:
                found.refused.append(Refusal(at, refused.reason, refused.detail))
            return
        assert self.columns is not None
        row = np.full((1, len(self.sensors)), np.nan)
        table = self._table(self.columns)
        for place, column in enumerate(self.columns.order.tolist()):
            if column >= 0:
                raw = fields[column]
                value = _number(raw if table is None else raw.translate(table))
                if value == math.inf:
                    found.bad[place] += 1
                else:
                    row[0, place] = value
        found.ts.append(np.array([ts], np.int64))
        found.values.append(row)
        found.line.append(np.array([at], np.int64))

    def _reading(self, line: bytes, found: _Found) -> tuple[int, list[bytes]]:
        """Return time and fields of a line; raises :class:`_RefusedError`."""
        if b"\0" in line or _REPLACED in line:
            raise _RefusedError("encoding", "holds bytes that are no text; is [log] encoding right?")
        if self._header is None and self.columns is None:
            raise _RefusedError("header", "no line with column names has come before it")
        columns = self.columns or self._understand(line)
        fields = _split(line, columns.delimiter, self._decode)
        if not any(each.strip() for each in fields):
            raise _RefusedError("empty", "has no values")
        wanted = len(columns.names)
        if len(fields) == wanted + 1 and not fields[-1].strip():
            fields.pop()
        if len(fields) != wanted:
            raise _RefusedError("columns", f"has {len(fields)} fields, the header has {wanted}")
        text = self._time_text(fields, columns.time)
        ts = self._times.one(text)
        if ts is None:
            pattern = self._log.timestamp.format
            fits = f"does not fit [log.timestamp] format {pattern!r}" if pattern else "is no time that is understood"
            raise _RefusedError("timestamp", f"{text!r} {fits}; see [log] timestamp")
        self._times.last = ts
        self._opening = self._seeking = False
        if self.columns is None:
            self.columns = columns
            self._tell(columns, found)
        return ts, fields

    def _time_text(self, fields: Sequence[bytes], columns: Sequence[int]) -> str:
        return " ".join(self._decode(fields[column]).strip() for column in columns)

    def _is_preamble(self, line: bytes) -> bool:
        """Tell whether a line that is no reading is text before the data: a title, a serial number, a row of units."""
        if not self._seeking or self._passed >= PREAMBLE or line.lstrip(b' "\t')[:1].isdigit():
            return False
        delimiters = self._delimiters if self.columns is None else (self.columns.delimiter,)
        fields = max((line.split(each) for each in delimiters), key=len)
        unknown = self._header is None and self.columns is None
        return (unknown and len(fields) < 3) or not any(_is_number(self._decode(each)) for each in fields)

    # ---- many lines ----------------------------------------------------------------------------------------------

    def _stride(self) -> int:
        return max(2 * FEW, CELLS // len(self.columns.names)) if self.columns else 1

    def _block(self, lines: list[bytes], at: int, stop: int, found: _Found) -> int:
        """Read ``lines[at:stop]`` up to the first that is not like the others; return how many that were."""
        columns = self.columns
        if columns is None or len(columns.delimiter) > 1 or columns.delimiter in _NUMERIC:
            return 0
        delimiter, rows = columns.delimiter, lines[at:stop]
        data = b"".join(rows)
        if b'"' in data or b"\0" in data or not data.isascii():
            rows = [_bare(row, delimiter, self._decode) for row in rows]
        cuts = rows[0].count(delimiter)
        spare = cuts + 1 - len(columns.names)
        if spare not in {0, 1}:
            return 0
        alike = [row.count(delimiter) == cuts for row in rows]
        if self._comment and self._comment in data:
            bare = [not line.startswith(self._comment) for line in lines[at:stop]]
            alike = [fits and reads for fits, reads in zip(alike, bare, strict=True)]
        if spare:
            alike = [fits and row.endswith(delimiter) for fits, row in zip(alike, rows, strict=True)]
        if not all(alike):
            rows = rows[: alike.index(False)]
        if spare:
            rows = [row[:-1] for row in rows]
        ts, count = self._times_of(rows, columns) if rows else (None, 0)
        if ts is None or not count:
            return 0
        found.ts.append(ts[:count])
        found.values.append(self._values(rows[:count], columns, found))
        found.line.append(np.arange(at, at + count))
        self._times.last = int(ts[count - 1])
        self._opening = self._seeking = False
        return count

    def _times_of(self, rows: list[bytes], columns: Columns) -> tuple[_Ints, int]:
        """Return the rows' times and how many of them, from the first on, hold."""
        some = max(columns.time) + 1
        cut = [[row.split(columns.delimiter, some)[column] for row in rows] for column in columns.time]
        texts = cut[0] if len(cut) == 1 else list(map(b" ".join, zip(*cut, strict=True)))
        lengths = np.array(list(map(len, texts)))
        ends = np.cumsum(lengths)
        return self._times.column(np.frombuffer(b"".join(texts), np.uint8), ends - lengths, ends)

    def _values(self, rows: list[bytes], columns: Columns, found: _Found) -> _Floats:
        """Return the sensors' values, ``[rows, S]``; field by field where one is a number that JSON does not know.

        Columns that no sensor has are cut off first, so that what stands there cannot stand in the way.
        """
        present = np.flatnonzero(columns.order >= 0)
        if not len(present):
            return np.full((len(rows), len(self.sensors)), np.nan)
        delimiter, some = columns.delimiter, max(columns.time) + 1
        chosen = columns.order[present]
        if len(chosen) == len(columns.names) - some and chosen.min() >= some:
            rows, chosen = [row.split(delimiter, some)[-1] for row in rows], chosen - some
        else:
            use = chosen.tolist()
            cells = [row.split(delimiter) for row in rows]
            rows = [delimiter.join([fields[column] for column in use]) for fields in cells]
            chosen = np.arange(len(use))
        signs = bytearray(_SIGNS if (table := self._table(columns)) is None else table.translate(_SIGNS))
        signs[delimiter[0]] = ord(",")
        data = (delimiter + delimiter.join(rows) + delimiter).translate(signs)
        try:
            numbers = np.array(from_json(b"[" + _marked(data) + b"]"), np.float64)
        except (ValueError, OverflowError):  # the latter for a whole number beyond any float
            numbers = np.array([_number(each) for each in data[1:-1].split(b",")])
        values = numbers.reshape(len(rows), -1)[:, chosen] + 0.0  # a zero has no sign
        bad = np.flatnonzero(np.abs(values) > ABSURD)
        values.flat[bad] = np.nan
        found.bad.update(present[bad % len(present)].tolist())
        if len(present) == len(self.sensors):
            return values
        out = np.full((len(rows), len(self.sensors)), np.nan)
        out[:, present] = values
        return out

    def _table(self, columns: Columns) -> bytes | None:
        """Return how to translate a number's text to the form with a point; None where it has it already."""
        if self._log.decimal == ",":
            return _COMMA_ONLY
        return None if self._log.decimal == "." or columns.delimiter == b"," else _EITHER

    # ---- headers ---------------------------------------------------------------------------------------------------

    def is_header(self, line: bytes, current: bytes | None) -> bool:
        """Tell whether ``line`` names columns; ``current`` is the header in effect before it.

        In the middle of a file more is asked of it than at the beginning: a message that happens to hold the word
        "time" must not take the columns away.
        """
        if current is not None and line[:1] in b"0123456789+-. " and not line.startswith(current[:4]):
            return False
        if line == current:
            return True
        commented = self._comment is not None and line.startswith(self._comment)
        for delimiter in self._delimiters:
            if delimiter not in line:
                continue
            names = self._names(line, delimiter)
            known = 2 * len(set(names) & set(self.sensors)) >= max(1, len(self.sensors))
            time = self._named_time(names)
            if any(self._times.one(name) is not None for name in names if not name.isdigit()):
                continue
            words = not any(_is_number(name) for name in names)
            if commented:
                if time and (known or not self.sensors) and current is None:
                    return True
            elif current is None:
                if time or known or (words and all(names) and len(set(names)) == len(names) > 2):
                    return True
            elif known:
                return True
            elif words and time:
                before = self._names(current, delimiter)
                if 2 * len(names) >= len(before) and self._named_time(before) in {(), time}:
                    return True
        return False

    def first_time(self, lines: Sequence[bytes]) -> int | None:
        """Return the time (µs) of the first reading among a file's first lines, or None."""
        probe = Parser(self._log, self.sensors)
        for line in lines:
            if probe.is_header(line, probe._header):
                probe._take_header(line)
            elif line.strip() and not (self._comment and line.startswith(self._comment)):
                try:
                    return probe._reading(line, _Found())[0]
                except _RefusedError:
                    if probe._header is None and (ts := probe._leading_time(line)) is not None:
                        return ts
        return None

    @property
    def assumed_zone(self) -> bool:
        """Whether times without a zone have been read one by one: the configured time zone counts for them."""
        return self._times.assumed

    def last_time(self, lines: Sequence[bytes]) -> int | None:
        """Return the time (µs) of the last reading among ``lines``, with the columns in effect."""
        for line in reversed(lines):
            try:
                return self._reading(line.rstrip(b"\r"), _Found())[0]
            except _RefusedError:
                continue
        return None

    def _leading_time(self, line: bytes) -> int | None:
        for delimiter in self._delimiters:
            fields = line.replace(b'"', b"").split(delimiter)
            for columns in ((0,), (0, 1)):
                if len(fields) > 1 and (ts := self._times.one(self._time_text(fields, columns))) is not None:
                    return ts
        return None

    def _take_header(self, line: bytes) -> None:
        self._opening = False
        if line == self._header and self.columns is not None:
            return
        self._header = line
        self._before = self.columns or self._before
        self.columns = None
        self._opening, self._seeking, self._passed = False, True, 0

    def _understand(self, sample: bytes) -> Columns:
        """Find out what the header means, with the first line of data to help; raises :class:`_RefusedError`."""
        assert self._header is not None
        best: tuple[int, bytes, tuple[str, ...], list[bytes]] | None = None
        for delimiter in self._delimiters:
            names = self._names(self._header, delimiter)
            try:
                fields = _split(sample, delimiter, self._decode)
            except _RefusedError:
                continue
            if len(fields) == len(names) + 1 and not fields[-1].strip():
                fields.pop()
            if len(names) > 1 and len(fields) == len(names) and (best is None or len(names) > best[0]):
                best = len(names), delimiter, names, fields
        if best is None:
            header = self._decode(self._header)
            raise _RefusedError("columns", f"does not have the columns of the header {header[:80]!r}")
        _, delimiter, names, fields = best
        time = self._named_time(names) or self._shown_time(fields)
        if len(time) == 2 and self._log.timestamp.column is None:
            whole = [column for column in time if self._is_whole(self._time_text(fields, (column,)))]
            time = (whole[0],) if whole else time
        if not time:
            wanted = self._log.timestamp.column
            what = f"no column {wanted!r}" if wanted else "no column that holds a time"
            raise _RefusedError("header", f"the header has {what}; see [log] timestamp")
        place = {name: column for column, name in reversed(list(enumerate(names))) if column not in time}
        return Columns(
            names,
            delimiter,
            time,
            np.array([place.get(sensor, -1) for sensor in self.sensors], np.int64),
            tuple(sensor for sensor in self.sensors if sensor not in place),
            tuple(name for name in dict.fromkeys(names) if name in place and name and name not in self.sensors),
            tuple(name for name, count in Counter(names).items() if count > 1 and name),
        )

    def _is_whole(self, text: str) -> bool:
        return ":" in text and self._times.one(text) is not None

    def _names(self, header: bytes, delimiter: bytes) -> tuple[str, ...]:
        if self._comment and header.startswith(self._comment):
            header = header[len(self._comment) :]
        try:
            names = [_plain(self._decode(each)) for each in _split(header, delimiter, self._decode)]
        except _RefusedError:
            names = [_plain(each) for each in self._decode(header).split(delimiter.decode())]
        while len(names) > 1 and not names[-1]:
            names.pop()
        return tuple(names)

    def _named_time(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return the columns that hold the time by their names, none where no name tells."""
        wanted = self._log.timestamp.column
        if wanted is not None:
            folded = [name.casefold() for name in names]
            asked = [_plain(each).casefold() for each in ([wanted] if isinstance(wanted, str) else wanted)]
            return tuple(folded.index(each) for each in asked) if set(asked) <= set(folded) else ()
        words = ["".join(letter for letter in name.casefold() if letter.isalnum()) for name in names]
        dates = [column for column, word in enumerate(words) if word in DATE_NAMES]
        clocks = [column for column, word in enumerate(words) if word in CLOCK_NAMES]
        if dates and clocks:
            return dates[0], clocks[0]
        times = [column for column, word in enumerate(words) if word in TIME_NAMES]
        return tuple((times or dates)[:1])

    def _shown_time(self, fields: Sequence[bytes]) -> tuple[int, ...]:
        """Return the first column whose field is a time; a bare number is taken for one only in the first column."""
        if self._log.timestamp.column is not None:
            return ()
        for column, each in enumerate(fields):
            text = self._decode(each).strip()
            if self._times.one(text) is not None and (column == 0 or not _is_number(text)):
                return (column,)
        return ()

    def _tell(self, columns: Columns, found: _Found) -> None:
        """Announce columns that differ from those before, or from the bundle's sensors."""
        before = self._before
        if before is None:
            if text := columns.describe():
                found.changes.append(text)
        elif before.names != columns.names:
            gone = [name for name in before.names if name not in columns.names]
            new = [name for name in columns.names if name not in before.names]
            parts = [f"gone: {_some(gone)}"] if gone else []
            parts += [f"new: {_some(new)}"] if new else []
            parts += [] if parts else ["other order"]
            parts += [text] if (text := columns.describe()) else []
            found.changes.append(f"the log's columns changed ({'; '.join(parts)})")

    def _decode(self, raw: bytes) -> str:
        """Return text as configured, or else as UTF-8, Windows-1252 or Latin-1: the first that fits."""
        encoding = self._log.encoding
        if encoding is not None and not encoding.startswith("utf-16"):
            return raw.decode(encoding, "replace")
        for each in ("utf-8", "cp1252"):
            try:
                return raw.decode(each)
            except UnicodeDecodeError:
                continue
        return raw.decode("latin-1")


def _plain(name: str) -> str:
    """Return a name as it is compared: composed characters, no blanks around it."""
    return unicodedata.normalize("NFC", name).strip().strip("\ufeff")


def _split(line: bytes, delimiter: bytes, decode: Callable[[bytes], str]) -> list[bytes]:
    """Cut a line into fields and take off their quotes; raises :class:`_RefusedError` where these do not match."""
    if b'"' not in line:
        return line.split(delimiter)
    try:
        row = next(csv.reader([decode(line)], delimiter=delimiter.decode(), strict=True))
    except (csv.Error, StopIteration):
        raise _RefusedError("malformed", "has a quotation mark that does not fit") from None
    return [each.encode() for each in row]


def _bare(line: bytes, delimiter: bytes, decode: Callable[[bytes], str]) -> bytes:
    """Return a readable line without its quotes, nothing where it cannot do without them."""
    if b"\0" in line or _REPLACED in line:
        return b""
    try:
        fields = _split(line, delimiter, decode)
    except _RefusedError:
        return b""
    bare = delimiter.join(fields)
    return bare if bare.count(delimiter) == len(fields) - 1 else b""


def _marked(data: bytes) -> bytes:
    """Return ``,field,field,`` without the outer commas, NaN in empty fields and Infinity for words.

    A word is told by its last character. What ends with a digit and is no number all the same ("1.2.3", "T1") is left,
    and JSON refuses it.
    """
    if b"+" in data:
        data = _PLUS.sub(b"", data)
    text = np.frombuffer(data, np.uint8)
    before = text[:-1]
    no_digit = before - np.uint8(ord(".")) > ord("9") - ord(".")
    ends = np.flatnonzero((text[1:] == ord(",")) & no_digit) + 1
    pieces: list[bytes] = []
    done = 1
    for end in ends.tolist():
        if data[end - 1] == ord(","):
            pieces += data[done:end], b"NaN"
            done = end
        elif not math.isfinite(value := _number(data[(start := data.rindex(b",", 0, end) + 1) : end])):
            pieces += data[done:start], b"NaN" if math.isnan(value) else b"Infinity"
            done = end
    return b"".join([*pieces, data[done:-1]])


def _number(raw: bytes) -> float:
    """Return the value of a field, NaN where it is empty, infinity where it should have been a number and is none."""
    text = raw.strip()
    if not text:
        return math.nan
    try:
        value = math.inf if b"_" in text else float(text)
    except ValueError:
        return math.inf
    return value + 0.0 if abs(value) <= ABSURD else math.inf  # a zero has no sign


def _is_number(text: str) -> bool:
    text = text.strip()
    return text[-1:].isdigit() and math.isfinite(_number(text.replace(",", ".").encode()))


def _some(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
