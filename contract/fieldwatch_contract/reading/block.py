"""Many lines alike → times and values at once; identical, bit for bit, to parsing each line alone, and far faster.

A block ends before the first line that is not like the others: another number of fields, a comment, quotes that are
needed, a time of another shape, signs that need individual treatment. That line is for :mod:`.reading.row`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fieldwatch_contract.reading.dialect import SPACE, Columns, Dialects, split
from fieldwatch_contract.reading.lines import RefusedError
from fieldwatch_contract.reading.times import Times
from fieldwatch_contract.reading.values import NUMERIC, Numbers
from fieldwatch_contract.reading.words import is_text, typewritten

FEW = 8
"""Fewer lines than this are parsed one by one, because a block costs more; the last few after a block join it."""
CELLS = 51_200
"""Fields parsed together: enough to amortise numpy's call overhead, few enough to stay in the cache."""

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]
_NONE: tuple[_Ints, _Floats, list[int]] = np.empty(0, np.int64), np.empty((0, 0)), []


def stride(columns: Columns | None) -> int:
    """Return how many lines to parse together."""
    return max(2 * FEW, CELLS // len(columns.names)) if columns else 1


class BlockReader:
    """Parses lines of one log, many at once, by the columns given."""

    def __init__(self, comment: bytes | None, dialects: Dialects, times: Times, numbers: Numbers) -> None:
        """``comment``: the sign that begins a comment, None where the log has none."""
        self._comment = comment
        self._dialects = dialects
        self._times = times
        self._numbers = numbers

    def read(self, lines: list[bytes], columns: Columns) -> tuple[_Ints, _Floats, list[int]]:
        """Return times (µs) and values, ``[n, S]``, of the first ``n`` lines, those alike, and places of bad fields."""
        if len(columns.delimiter) > 1 or columns.delimiter in NUMERIC:
            return _NONE
        rows, width = self._alike(lines, columns)
        if not rows:
            return _NONE
        last = self._times.last
        ts, count = self._times_of(rows, columns)
        values, bad = self._values(rows[:count], columns, width)
        self._times.last = int(ts[len(values) - 1]) if len(values) else last
        return ts[: len(values)], values, bad

    def _alike(self, lines: list[bytes], columns: Columns) -> tuple[list[bytes], int]:
        """Return the first lines that split alike, without quotes and spare fields, and their number of fields."""
        delimiter, rows = columns.delimiter, lines
        data = b"".join(rows)
        if delimiter == SPACE:
            rows = [SPACE.join(row.split()) for row in rows]
        if b'"' in data or b"\0" in data or not data.isascii():
            rows = [self._bare(row, delimiter) for row in rows]
        cuts = rows[0].count(delimiter)
        spare = max(0, cuts + 1 - len(columns.names))
        if cuts + 1 not in columns.widths:
            return [], 0
        alike = [row.count(delimiter) == cuts for row in rows]
        if self._comment and self._comment in data:
            bare = [not line.startswith(self._comment) for line in lines]
            alike = [fits and reads for fits, reads in zip(alike, bare, strict=True)]
        if spare:
            alike = [fits and row.endswith(delimiter * spare) for fits, row in zip(alike, rows, strict=True)]
        if not all(alike):
            rows = rows[: alike.index(False)]
        if spare:
            rows = [row[:-spare] for row in rows]
        return rows, cuts + 1 - spare

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
            return np.full((len(rows), len(columns.order)), np.nan), []
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
        if not is_text(line):
            return b""
        try:
            fields = split(line, delimiter, self._dialects.decode)
        except RefusedError:
            return b""
        bare = delimiter.join(fields)
        return bare if bare.count(delimiter) == len(fields) - 1 else b""
