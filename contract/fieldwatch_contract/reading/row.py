"""One line → its time and values, or the reason why it has none; the first row below a header settles the columns.

    | a line | is refused as |
    |---|---|
    | that holds anything but text | ``encoding`` |
    | before any header, or under one without the bundle's sensors | ``header`` |
    | without a value | ``empty`` |
    | with more or fewer fields than the header | ``columns`` |
    | whose time is not understood | ``timestamp`` |

The rules of objects are those of :mod:`.reading.jsonl`, of numbers :mod:`.reading.values`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fieldwatch_contract.reading.advice import TimeAdvice
from fieldwatch_contract.reading.dialect import Columns, Dialects, comma_cure, split
from fieldwatch_contract.reading.headers import Headers
from fieldwatch_contract.reading.jsonl import JsonObjects
from fieldwatch_contract.reading.lines import Found, RefusedError
from fieldwatch_contract.reading.occurred import Occurred
from fieldwatch_contract.reading.settings import LogConfig
from fieldwatch_contract.reading.signs import Signs
from fieldwatch_contract.reading.times import Times
from fieldwatch_contract.reading.values import Numbers
from fieldwatch_contract.reading.words import is_text, plain, typewritten

_NEW_HEADER = "a device that writes other columns must write a new header; or name them in [log] columns"
_EUROPEAN = re.compile(r"\d{1,2}\.\d{1,2}\.\d{2,4}\b")


class RowReader:
    """Parses lines of one log, one by one, by the columns in effect."""

    def __init__(
        self,
        log: LogConfig,
        sensors: Sequence[str],
        dialects: Dialects,
        headers: Headers,
        times: Times,
        numbers: Numbers,
        occurred: Occurred,
    ) -> None:
        """``sensors``: the bundle's as :func:`.words.plain` gives them."""
        self._log = log
        self._sensors = tuple(sensors)
        self._dialects = dialects
        self._headers = headers
        self._times = times
        self._numbers = numbers
        self._occurred = occurred
        self.advice = TimeAdvice(log.timestamp.timezone)
        self._objects: JsonObjects | None = None
        if log.format == "jsonl":
            self._objects = JsonObjects(log, self._sensors, times, occurred, self._why_no_time)

    def reading(self, line: bytes, found: Found) -> tuple[int, NDArray[np.float64], list[int]]:
        """Return time (µs), values ``[S]`` and the places of what should have been numbers and is none.

        ``found`` is told of new columns, here and below. Raises :class:`.lines.RefusedError`.
        """
        if self._objects is not None:
            _check_text(line)
            ts, values, bad = self._objects.read(line, self._numbers)
            self._times.last = ts
            return ts, values, bad
        ts, fields, columns = self.fields(line, found)
        places = [place for place, column in enumerate(columns.order.tolist()) if 0 <= column < len(fields)]
        cells = [fields[columns.order[place]] for place in places]
        return ts, *self._numbers.row(cells, places, columns.delimiter)

    def part(self, line: bytes, found: Found) -> tuple[int, str, tuple[int, float, bool]]:
        """Return what a line of a log with one value per line holds: time (µs), sensor name, and the value.

        The value: sensor index (-1: not in the bundle), number, and whether it is none though it should be. Raises
        :class:`.lines.RefusedError`.
        """
        ts, fields, columns = self.fields(line, found)
        assert columns.pair is not None
        name = plain(self._dialects.decode(fields[columns.pair[0]]))
        self._occurred.take((name,))
        if name not in self._sensors:
            return ts, name, (-1, np.nan, False)
        place = self._sensors.index(name)
        values, bad = self._numbers.row([fields[columns.pair[1]]], [place], columns.delimiter)
        return ts, name, (place, float(values[place]), bool(bad))

    def time(self, line: bytes) -> tuple[int, str]:
        """Return the time of a line (µs) and how it is written; raises :class:`.lines.RefusedError`."""
        if self._objects is not None:
            return self._objects.time(line)
        ts, fields, columns = self.fields(line, Found())
        return ts, self._time_text(fields, columns.time)

    def leading_time(self, line: bytes) -> int | None:
        """Return the time (µs) with which a line begins, whatever its columns are; None where there is none."""
        for delimiter in self._dialects.delimiters:
            fields = line.replace(b'"', b"").split(delimiter)
            for columns in ((0,), (0, 1)):
                if len(fields) > 1 and (ts := self._times.one(self._time_text(fields, columns))) is not None:
                    return ts
        return None

    def fields(self, line: bytes, found: Found) -> tuple[int, list[bytes], Columns]:
        """Return time (µs) and fields of a line, and its columns; raises :class:`.lines.RefusedError`."""
        _check_text(line)
        columns = self._headers.columns_for(line)
        fields = split(typewritten(line), columns.delimiter, self._dialects.decode)
        if not any(each.strip() for each in fields):
            raise RefusedError("empty", "has no values")
        if len(fields) not in columns.widths or any(each.strip() for each in fields[len(columns.names) :]):
            raise RefusedError("columns", self._misfit(fields, columns))
        text = self._time_text(fields, columns.time)
        self._times.offset = columns.offset
        ts = self._times.one(text)
        if ts is None:
            raise RefusedError("timestamp", self._why_no_time(text))
        self._times.last = ts
        self._headers.begin_data()
        if self._headers.columns is not columns:
            self._settle(columns, text, found)
        return ts, fields, columns

    def _settle(self, columns: Columns, time: str, found: Found) -> None:
        """Put new columns into effect; ``time``: of their first row."""
        form = self._log.timestamp.format or ""
        day_first = columns.delimiter == b";" and form.startswith("%d")
        if self._headers.is_other_delimiter(columns):
            self._numbers.signs = Signs(self._log, self._sensors)  # what signs meant there, they need not mean here
        self._numbers.signs.european = day_first or _EUROPEAN.match(time) is not None
        if change := self._headers.settle(columns):
            found.changes.append(change)

    def _misfit(self, fields: Sequence[bytes], columns: Columns) -> str:
        wanted, named = columns.widths[0], len(columns.names)
        spare = f" (and {wanted - named} empty at the end)" if wanted > named else ""
        names = "[log] columns" if self._headers.current is None else "the header"
        cure = comma_cure(columns.delimiter, named, sum(1 for each in fields if each.strip())) or _NEW_HEADER
        return f"has {len(fields)} fields, {names} has {min(wanted, named)}{spare}; {cure}"

    def _why_no_time(self, text: str) -> str:
        pattern = self._log.timestamp.format
        fits = f"does not fit [log.timestamp] format {pattern!r}" if pattern else "is no time that is understood"
        return f"{text!r} {fits}; {self.advice(text) or 'see [log] timestamp'}"

    def _time_text(self, fields: Sequence[bytes], columns: Sequence[int]) -> str:
        return " ".join(self._dialects.decode(fields[column]).strip() for column in columns)


def _check_text(line: bytes) -> None:
    """Raise :class:`.lines.RefusedError` where a line contains anything but text."""
    if not is_text(line):
        raise RefusedError("encoding", "holds bytes that are no text; is [log] encoding right?")
