"""What points and commas in a log's numbers mean: decimal or thousands separators.

A field with only one possible meaning has that meaning. One with two is decided by the rest of the file, and refused
(``ambiguous``) where the file does not decide it.

    | field | is | and proves that decimals are written with |
    |---|---|---|
    | ``23.5``, ``0.123``, ``1234.567``, ``1.002e3``; ``23,5`` … | a decimal number | that sign |
    | ``1,234,567``; ``1,234.5`` | a number with thousands signs | the other sign; the last one |
    | ``1'234.5``, ``1 234,5`` (no-break space) | the same | the last sign |
    | ``1,002``, ``1.002`` | what that sign is in the rest of the file | – |
    | the same in a file with proof of both signs | ambiguous | – |
    | the same in a file without proof | see below | – |

Without proof, three digits after each sign are taken as decimals where that is usual for such files

    | columns are separated by | ``1.002`` | ``1,002`` |
    |---|---|---|
    | comma | decimal | ambiguous |
    | any, beside dates such as 17.01.2026; semicolon, beside a day-first format | ambiguous | decimal, but … |
    | semicolon | decimal, but … | decimal, where no column holds whole numbers such as ``998`` |
    | tab, ``|``, blank, … | decimal, but … | ambiguous |

… but ambiguous in a column that also holds whole numbers such as ``998``,
and where the log was read this way with the other sign before.

``decimal`` and ``thousands`` in ``[log]`` decide it without proof; a field that contradicts them is not a number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fieldwatch_contract.grid import ABSURD
from fieldwatch_contract.reading.lines import RefusedError
from fieldwatch_contract.reading.settings import LogConfig

_POINT, _COMMA = 1, 2
"""What is known of the decimal sign; both: two ways of writing in one file."""

_TO_POINT = bytes.maketrans(b",", b".")
_SWAP = bytes.maketrans(b".,", b",.")
_EITHER = re.compile(rb"[+-]?[1-9]\d{0,2}([.,])\d{3}")
_DECIMAL = re.compile(rb"[+-]?(?:\d+([.,])\d*|([.,])\d+)(?:[eE][+-]?\d+)?")
_GROUPED = re.compile(rb"[+-]?[1-9]\d{0,2}(?:([.,' ])\d{3})(?:\1\d{3})*(?:(?!\1)([.,])\d*)?")
_SPACES = (b"\xc2\xa0", b"\xe2\x80\xaf", b"\xe2\x80\x89", b"\xa0")
"""No-break, narrow and thin space in UTF-8, no-break space in Latin-1."""

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


class Signs:
    """Keeps what a log's fields have proven so far about the signs."""

    def __init__(self, log: LogConfig, sensors: Sequence[str]) -> None:
        """``sensors``: the bundle's, for what is said about a field."""
        self._sensors = tuple(sensors)
        self._thousands = None if log.thousands is None else log.thousands.encode()
        self._decimal = (log.decimal or {",": ".", ".": ","}.get(log.thousands or "", "")).encode()
        self._proven = 0
        self._habit = 0
        self._assumed = np.zeros(len(sensors), bool)
        self._whole = np.zeros(len(sensors), bool)
        self._doubtful = False
        self.european = False
        """Whether dates are written as in countries with a decimal comma."""

    @property
    def decimal(self) -> str:
        """The decimal sign as far as it is known: ".", "," or, both being possible, ""."""
        return self._decimal.decode() or {_POINT: ".", _COMMA: ","}.get(self._proven, "")

    @property
    def configured(self) -> bool:
        """Whether the configuration says it."""
        return bool(self._decimal) or self._thousands is not None

    def undecided(self, delimiter: bytes) -> bool:
        """Tell whether nothing has been proven, where that matters."""
        return not self.configured and not self._proven and delimiter != b","

    def to_point(self, delimiter: bytes) -> bytes | None:
        """Return how to translate a number to the form with a point; None where it has it already."""
        return None if delimiter == b"," or self.decimal == "." else _TO_POINT

    # ---- one field -------------------------------------------------------------------------------------------------

    def alone(self, field: bytes, delimiter: bytes) -> float | None:
        """Return the value of a field by itself: infinity where it is not a number, None where it has two meanings."""
        if self.configured:
            return self._as_configured(field)
        if b"." not in field and b"," not in field and b"'" not in field and field.isascii():
            return number(field)
        if _EITHER.fullmatch(field):
            return None
        if match := _DECIMAL.fullmatch(field):
            if delimiter != b"," or b"," in field:
                self._prove(match[1] or match[2])
            return number(field.translate(_TO_POINT))
        spaced = _plain_space(field)
        match = None if b" " in field else _GROUPED.fullmatch(spaced)  # an ordinary blank may be anything
        if match is None:
            return math.inf
        self._prove(match[2] or match[1].translate(_SWAP))
        return _ungrouped(spaced, match[1])

    def _as_configured(self, field: bytes) -> float:
        decimal, thousands = self._decimal, self._thousands or b""
        if thousands and (match := _GROUPED.fullmatch(spaced := _plain_space(field))) and match[1] == thousands:
            return math.inf if decimal and match[2] not in {None, decimal} else _ungrouped(spaced, thousands)
        if decimal and decimal.translate(_SWAP) in field:
            return math.inf
        return math.inf if thousands and thousands in field else number(field.translate(_TO_POINT))

    def _prove(self, sign: bytes) -> None:
        self._proven |= {b".": _POINT, b",": _COMMA}.get(sign, 0)

    def note(self, place: int, field: bytes, value: float, delimiter: bytes) -> None:
        """Remember what a field proves besides its own value."""
        if delimiter != b",":
            self._whole[place] |= 1 <= abs(value) < 1000 and not (b"." in field or b"," in field or value % 1)
        elif value % 1 and b"," not in field:
            self._proven |= _POINT

    def settle(self, place: int, field: bytes, delimiter: bytes) -> float:
        """Return the value of a field with two meanings; raises :class:`.lines.RefusedError` where undecided."""
        sign = _POINT if b"." in field else _COMMA
        proven = self._proven
        if not proven and self._is_habit(place, sign, delimiter):
            proven = sign
        if proven not in {_POINT, _COMMA}:
            raise RefusedError("ambiguous", self._ambiguous(place, field.decode()))
        if sign != proven:
            return _ungrouped(field, b"." if sign == _POINT else b",")
        value = number(field.translate(_TO_POINT))
        self.note(place, field, value, delimiter)
        return value

    def _is_habit(self, place: int, sign: int, delimiter: bytes) -> bool:
        if delimiter == b",":
            return sign == _POINT
        usual = self._comma_is_usual(delimiter) if sign == _COMMA else not self.european
        if self._habit & ~sign or not usual:
            return False
        if self._against(sign, self._whole)[place]:
            return False
        self._habit |= sign
        self._assumed[place] = True
        return True

    def _against(self, sign: int, whole: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Tell for which sensors whole numbers speak against decimals with this sign."""
        return whole if sign == _POINT or self.european else whole | whole.any()

    def _comma_is_usual(self, delimiter: bytes) -> bool:
        return delimiter == b";" or self.european

    def _ambiguous(self, place: int, text: str) -> str:
        sign = "." if "." in text else ","
        why = "the log has decimals with a point and with a comma" if self._proven else "nothing else in the log tells"
        return (
            f"{self._sensors[place]!r} is {text!r}: {text.replace(sign, '')} or {text.replace(sign, '.')}? {why}; "
            f'say [log] thousands = "{sign}" or decimal = "{sign}"'
        )

    # ---- many rows -------------------------------------------------------------------------------------------------

    def odd(self, data: bytes, delimiter: bytes) -> list[bytes]:
        """Return which characters in ``data`` must not occur in rows that are parsed together."""
        odd = [b"'"] if b"'" in data else []
        if not data.isascii():
            odd += [space for space in _SPACES if space in data]
        if self.configured:
            odd += [sign for sign in (self._decimal.translate(_SWAP), self._thousands) if sign]
        elif delimiter == b",":
            odd += [b"."] if self._proven & _COMMA else []
        elif self._proven:
            odd += [] if self._proven == _POINT else [b"."]
            odd += [] if self._proven == _COMMA else [b","]
        elif (self.european and b"." in data) or (
            b"," in data and (b"." in data or not self._comma_is_usual(delimiter))
        ):
            odd += [b".", b","]
        elif b"e" in data or b"E" in data:
            odd += [b"e", b"E"]
        return [sign for sign in odd if sign != delimiter and sign in data]

    def is_odd(self, field: bytes) -> bool:
        """Tell whether a field that is not a plain number is one with thousands separators."""
        return not self.configured and _GROUPED.fullmatch(field) is not None and _EITHER.fullmatch(field) is None

    def note_points(self, values: _Floats, delimiter: bytes) -> None:
        """Remember what many fields prove besides their values."""
        if delimiter == b"," and not self._proven & _POINT:
            self._proven |= _POINT * bool(np.nanmax(values % 1, initial=0.0) > 0)

    def take_habit(self, data: bytes, delimiter: bytes, values: _Floats, places: _Ints) -> int:
        """Return how many of the first rows can be read by the usual convention, and remember what they prove.

        ``data``: their fields, ``values`` ``[rows, places]`` what they are if each sign begins decimals.
        """
        text = np.frombuffer(data, np.uint8)
        ends = np.append(np.flatnonzero(text == delimiter[0]), len(text))
        at = np.flatnonzero((text == ord(".")) | (text == ord(",")))
        cell = np.searchsorted(ends, at)
        size = np.abs(values)
        either = (ends[cell] - at == 4) & ((size >= 1) & (size < 1000)).ravel()[cell]
        if not either.all():
            rows = int(cell[np.argmin(either)]) // len(places)
            shorter = data[: int(ends[rows * len(places) - 1])]
            return self.take_habit(shorter, delimiter, values[:rows], places) if rows else 0
        signed = np.zeros(values.shape, bool)
        signed.ravel()[cell] = True
        whole = self._whole.copy()
        whole[places] |= (~signed & (size >= 1) & (size < 1000) & (values == np.trunc(values))).any(axis=0)
        if len(at):
            sign, with_sign = _POINT if text[at[0]] == ord(".") else _COMMA, signed.any(axis=0)
            if self._habit & ~sign or self._against(sign, whole)[places][with_sign].any():
                return 0
            self._habit |= sign
            self._assumed[places] |= with_sign
        self._whole = whole
        return len(values)

    def doubts(self) -> list[str]:
        """Report, once, that fields were read as decimals by convention before the log cast doubt on that."""
        if self._doubtful or not self._habit or self._proven == self._habit:
            return []
        unsure = self._assumed & (self._against(self._habit, self._whole) | bool(self._proven))
        if not unsure.any():
            return []
        self._doubtful = True
        sign = "." if self._habit == _POINT else ","
        return [
            f"{self._sensors[int(np.argmax(unsure))]!r} was read with decimals so far, and what follows speaks for "
            f'thousands signs: say [log] decimal = "{sign}" or thousands = "{sign}"'
        ]


def is_number(text: str) -> bool:
    """Tell whether a cell is a number, with a point or a comma."""
    text = text.strip()
    return text[-1:].isdigit() and abs(number(text.replace(",", ".").encode())) < math.inf


def number(raw: bytes) -> float:
    """Return the value of a field with a decimal point: NaN where it is empty, infinity where it is not a number."""
    text = raw.strip()
    if not text:
        return math.nan
    try:
        value = math.inf if b"_" in text else float(text)
    except ValueError:
        return math.inf
    return value + 0.0 if abs(value) <= ABSURD else math.inf  # a zero has no sign


def _ungrouped(field: bytes, thousands: bytes) -> float:
    return number(field.replace(thousands, b"").translate(_TO_POINT))


def _plain_space(field: bytes) -> bytes:
    if not field.isascii():
        for space in _SPACES:
            field = field.replace(space, b" ")
    return field
