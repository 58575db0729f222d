"""Fields → numbers, a row or a block of rows at a time.

    | field | is |
    |---|---|
    | empty, a word or number of ``[log] missing`` | missing |
    | a finite number up to 10¹⁰⁰ | itself; what its signs mean: :mod:`.reading.signs` |
    | anything else | missing, and counted |

Blocks are parsed as one JSON array: pydantic's parser rounds like ``float()`` and takes a quarter of the time of
``numpy.loadtxt``. A block ends before the first row whose signs need individual treatment; the results are identical to
parsing each row alone, bit for bit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from fieldwatch_contract.grid import ABSURD
from fieldwatch_contract.reading.settings import LogConfig
from fieldwatch_contract.reading.signs import Signs, number

NUMERIC = b"0123456789+-.eE"
"""Characters of numbers."""
_BLANKS = b" \t\n\r\v\f"
_READABLE = bytes(each if each in NUMERIC else ord(" ") if each in _BLANKS else ord("?") for each in range(256))
"""Replaces characters that occur in no number, so that JSON accepts nothing but numbers."""
_PLUS = re.compile(rb"(?<=[, ])\+(?=\d)")
"""A sign that JSON does not know."""

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


class Numbers:
    """Parses the numbers of one log."""

    def __init__(self, log: LogConfig, sensors: Sequence[str]) -> None:
        """``sensors``: the bundle's, in its order."""
        self._count = len(sensors)
        self.signs = Signs(log, sensors)
        words = {each.strip().encode() for each in log.missing if isinstance(each, str)}
        numbers = {word: number(word) for word in words if math.isfinite(number(word))}
        self._words = frozenset(words - numbers.keys())
        self._missing = np.array([*numbers.values(), *(each for each in log.missing if not isinstance(each, str))])

    def row(self, fields: Sequence[bytes], places: Sequence[int], delimiter: bytes) -> tuple[_Floats, list[int]]:
        """Return the values ``[S]`` of a row, whose i-th field is sensor ``places[i]``'s, and the places of what should
        have been numbers and is none.

        Raises :class:`.lines.RefusedError` where a number can be read in two ways.
        """
        out = np.full(self._count, np.nan)
        if self._is_plain(b" ".join(fields), delimiter):
            table = self.signs.to_point(delimiter)
            values = np.array([number(field.translate(table) if table else field) for field in fields], np.float64)
            if not np.isinf(values).any():
                self.signs.note_points(values, delimiter)
                out[list(places)] = values
                return self._without_missing(out), []
        bad: list[int] = []
        unsettled: list[tuple[int, bytes]] = []
        for place, raw in zip(places, fields, strict=True):
            field = raw.strip()
            if not field or field in self._words:
                continue
            value = self.signs.alone(field, delimiter)
            if value is None:
                unsettled.append((place, field))
            elif value == math.inf:
                bad.append(place)
            else:
                out[place] = value
                self.signs.note(place, field, value, delimiter)
        for place, field in unsettled:
            out[place] = self.signs.settle(place, field, delimiter)
        return self._without_missing(out), bad

    def block(self, rows: Sequence[bytes], delimiter: bytes, places: _Ints) -> tuple[_Floats, list[int]]:
        """Return the values ``[n, S]`` of the first ``n`` rows, those that parse as a block, and places of bad fields.

        ``rows`` hold the fields of the sensors ``places`` alone, in this order.
        """
        data = delimiter.join(rows)
        if odd := self.signs.odd(data, delimiter):
            alike = [not any(sign in row for sign in odd) for row in rows]
            rows = rows if all(alike) else rows[: alike.index(False)]
            data = delimiter.join(rows)
        if not rows:
            return np.empty((0, self._count)), []
        undecided = self.signs.undecided(delimiter)
        numbers = self._numbers(data, delimiter)
        if numbers is None:
            fields = [field.strip() for field in data.split(delimiter)]
            grouped = [field not in self._words and self.signs.is_odd(field) for field in fields]
            if any(grouped):
                return self.block(rows[: grouped.index(True) // len(places)], delimiter, places)
            numbers = np.array([self._field(field, delimiter) for field in fields])
        values = numbers.reshape(len(rows), -1) + 0.0  # a zero has no sign
        if undecided:
            values = values[: self.signs.take_habit(data, delimiter, values, places)]
        if not len(values):
            return np.empty((0, self._count)), []
        bad = np.flatnonzero(np.abs(values) > ABSURD)
        values.flat[bad] = np.nan
        self.signs.note_points(values, delimiter)
        values = self._without_missing(values)
        if len(places) < self._count or not np.array_equal(places, np.arange(len(places))):
            out = np.full((len(values), self._count), np.nan)
            out[:, places] = values
            values = out
        return values, places[bad % len(places)].tolist()

    def _numbers(self, data: bytes, delimiter: bytes) -> _Floats | None:
        """Return the numbers of many fields, infinity for words; None where they must be parsed one by one."""
        table = self.signs.to_point(delimiter)
        readable = bytearray(_READABLE if table is None else table.translate(_READABLE))
        readable[delimiter[0]] = ord(",")
        text = (delimiter + data + delimiter).translate(readable)
        try:
            numbers = np.array(from_json(b"[" + _marked(text) + b"]"), np.float64)
        except (ValueError, OverflowError):  # the latter for a whole number beyond any float
            return None
        return None if self._words and np.isinf(numbers).any() else numbers

    def _field(self, field: bytes, delimiter: bytes) -> float:
        table = self.signs.to_point(delimiter)
        return math.nan if field in self._words else number(field.translate(table) if table else field)

    def _is_plain(self, data: bytes, delimiter: bytes) -> bool:
        """Tell whether fields can be parsed without examining each one's signs."""
        if self._words or self.signs.undecided(delimiter) or (delimiter == b"," and b"," in data):
            return False
        return not self.signs.odd(data, delimiter)

    def _without_missing(self, values: _Floats) -> _Floats:
        if len(self._missing):
            values[np.isin(values, self._missing)] = np.nan
        return values


def _marked(data: bytes) -> bytes:
    """Return ``,field,field,`` without the outer commas, NaN in empty fields and Infinity for words.

    A word is recognised by its last character. What ends with a digit but is not a number ("1.2.3", "T1") is left,
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
        elif not math.isfinite(value := number(data[(start := data.rindex(b",", 0, end) + 1) : end])):
            pieces += data[done:start], b"NaN" if math.isnan(value) else b"Infinity"
            done = end
    return b"".join([*pieces, data[done:-1]])
