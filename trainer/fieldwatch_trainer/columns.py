"""Arrow columns → numpy: numbers, times, names. Whatever type a writer chose is read, or refused by name.

| column | may be | else |
|---|---|---|
| a sensor | floats of any width, integers, decimals, booleans, or null throughout (a sensor without a value) | text \
and nested columns are no sensors; they are named |
| a time | a timestamp of any unit, with or without zone (then UTC), or a date | refused, with what it looks like |
| a name | text in any of Arrow's encodings, dictionaries of it | refused |
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fieldwatch_contract.clock import SECOND, iso
from fieldwatch_contract.grid import ABSURD
from numpy.typing import NDArray

_UNITS = (("s", SECOND), ("ms", SECOND // 1000), ("µs", 1))
_PLAUSIBLE = 946_684_800 * SECOND, 4_102_444_800 * SECOND
"""2000 to 2100."""


class ColumnError(ValueError):
    """A column cannot be read as asked; the message names it, what is wrong, and what would be right."""


def is_numeric(kind: Any) -> bool:
    """Tell whether a column of this Arrow type is a sensor."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
    return any(test(kind) for test in tests)


def is_text(kind: Any) -> bool:
    """Tell whether a column of this Arrow type holds names."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def floats(column: Any, where: str) -> NDArray[np.float64]:
    """Return numbers as float64 ``[n]``: nulls as NaN, absurd values as infinities, which count as missing.

    Text is read where all of it is numbers; empty text is null. Raises :class:`ColumnError` for anything but numbers.
    """
    column = _plain(column)
    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if is_text(column.type):
        column = _numbers_of(column, where)
    if not is_numeric(column.type):
        raise ColumnError(f"{where} is {column.type}, must hold numbers")
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    elif pa.types.is_decimal(column.type):
        column = column.cast(pa.string()).cast(pa.float64())  # the direct way is not rounded right
    elif not pa.types.is_floating(column.type):
        column = column.cast(pa.float64(), safe=False)
    numbers = np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
    absurd = np.abs(numbers) > ABSURD
    return np.where(absurd, np.inf, numbers) if absurd.any() else numbers


def micros(column: Any, where: str) -> NDArray[np.int64]:
    """Return times as int64 µs UTC; a time without a zone is UTC.

    Raises :class:`ColumnError` for anything but timestamps and dates, and for empty ones.
    """
    column = _plain(column)
    if not is_time(column.type):
        raise ColumnError(f"{where} is {column.type}, must be a timestamp (UTC){_time_hint(column)}")
    if column.null_count:
        raise ColumnError(f"{where} has {column.null_count} empty values; every line needs a time")
    zone = None if pa.types.is_date(column.type) else column.type.tz
    whole = column.cast(pa.timestamp("us", tz=zone), safe=False).cast(pa.int64())
    return np.asarray(whole.to_numpy(zero_copy_only=False), np.int64)


def texts(column: Any, where: str) -> list[str | None]:
    """Return names as Python strings; raises :class:`ColumnError` for anything but text."""
    column = _plain(column)
    if pa.types.is_null(column.type):
        return [None] * len(column)
    if not is_text(column.type):
        raise ColumnError(f"{where} is {column.type}, must be text")
    found: list[str | None] = column.to_pylist()
    return found


def is_time(kind: Any) -> bool:
    """Tell whether a column of this Arrow type holds times."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def has_zone(kind: Any) -> bool:
    """Tell whether times of this type carry a zone: only then are they instants and not a clock's reading."""
    return bool(pa.types.is_timestamp(kind) and kind.tz is not None)


def _plain(column: Any) -> Any:
    """Return a column as one array whose values stand for themselves."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return whole.dictionary_decode() if pa.types.is_dictionary(whole.type) else whole


def _numbers_of(column: Any, where: str) -> Any:
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    text = pc.if_else(pc.equal(text, ""), None, text)
    try:
        return text.cast(pa.float64())
    except pa.ArrowException as error:
        raise ColumnError(f"{where} must hold numbers: {str(error)[:200]}") from error


def _time_hint(column: Any) -> str:
    """Say what the numbers or texts of a column without a time type would be as times."""
    there = pc.drop_null(column)
    if not len(there):
        return ""
    first = there[0].as_py()
    if is_text(column.type):
        return f"; {first[:40]!r} is text: write it with a type of time"
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        for unit, size in (*_UNITS, ("ns", 0)):
            ts = int(first * size) if size else int(first) // 1000
            if _PLAUSIBLE[0] <= ts < _PLAUSIBLE[1]:
                return f"; {first} may be {unit} since 1970 ({iso(ts)}): cast it to timestamp({unit})"
    return ""
