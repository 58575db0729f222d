"""Header and first row → dialect: the delimiter and the meaning of each column. Fixed from there on for the file.

When a line is a header

    | before it | a line is a header if |
    |---|---|
    | nothing | it names the time, or half of the bundle's sensors, or has three names or more, none a number |
    | a header | it repeats it, or names half of the sensors; or it names the time as and where the header does, is no \
row of units, and has at least half as many columns |
    | ``[log] columns`` | it has most of their names. It is skipped, or if a place differs what follows is refused |

How many fields a row has (n names, f fields in the first row)

    | first row | rows have |
    |---|---|
    | f = n | n fields |
    | f > n, the spare ones empty | f fields, the spare ones empty: a trailing delimiter |
    | f < n, the header's last names empty | f fields |
    | the last name is that of a remark | one field less in rows without a remark |
    | anything else | refused, with both counts |

Which columns hold the time: :mod:`.reading.time_columns`.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fieldwatch_contract.reading.lines import RefusedError
from fieldwatch_contract.reading.settings import LogConfig
from fieldwatch_contract.reading.signs import is_number
from fieldwatch_contract.reading.text import BOM
from fieldwatch_contract.reading.time_columns import TimeColumns, is_clock
from fieldwatch_contract.reading.times import Times
from fieldwatch_contract.reading.words import (
    REMARKS,
    is_unit,
    plain,
    some,
    value_a_line,
    word,
)

SPACE = b" "
"""Where blanks separate columns, any run of them counts as one."""

_DELIMITERS: tuple[bytes, ...] = (b"\t", b";", b"|", b",")


@dataclass(frozen=True)
class Columns:
    """What a header means.

    ``widths``: how many fields a row may have. ``time``: columns whose fields, joined by blanks, are the time.
    ``order[i]``: column of sensor i, -1 = none. ``pair``: in a log with one value per line, the columns of
    the sensor's name and of the value. ``offset``: µs from UTC that the time column's name tells.
    """

    names: tuple[str, ...]
    delimiter: bytes
    widths: tuple[int, ...]
    time: tuple[int, ...]
    order: NDArray[np.int64]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    repeated: tuple[str, ...]
    pair: tuple[int, int] | None = None
    offset: int | None = None

    @property
    def foreign(self) -> bool:
        """Whether no column is one of the bundle's sensors, though the bundle has sensors."""
        return self.pair is None and len(self.order) > 0 and len(self.missing) == len(self.order)

    def describe(self) -> str:
        """Describe how the columns differ from the bundle's sensors; empty where they do not."""
        parts = []
        if self.missing:
            parts.append(f"no column for {some(self.missing)}")
        if self.unknown:
            parts.append(f"columns that the bundle does not know: {some(self.unknown)}")
        if self.repeated:
            parts.append(f"columns that occur twice, of which the first counts: {some(self.repeated)}")
        return "; ".join(parts)

    def change_from(self, before: Columns) -> str:
        """Describe how the columns differ from the previous ones; empty where they do not."""
        if before.names == self.names:
            return ""
        gone = [name for name in before.names if name not in self.names]
        new = [name for name in self.names if name not in before.names]
        parts = [f"gone: {some(gone)}"] if gone else []
        parts += [f"new: {some(new)}"] if new else []
        parts += [] if parts else ["other order"]
        parts += [text] if (text := self.describe()) else []
        return f"the log's columns changed ({'; '.join(parts)})"


class Dialects:
    """Recognises and interprets headers; stateless, depends only on the configuration."""

    def __init__(self, log: LogConfig, sensors: Sequence[str], times: Times) -> None:
        """``sensors``: the bundle's as :func:`.words.plain` gives them. ``times`` tells what is a time."""
        self._log = log
        self._sensors = tuple(sensors)
        self._times = times
        self.time_columns = TimeColumns(log, self._sensors, times)
        self._comment = log.comment.encode() or None
        self._columns = None if log.columns is None else tuple(plain(name) for name in log.columns)
        self.delimiters = _DELIMITERS if log.delimiter is None else (log.delimiter.encode(),)
        if log.decimal == ",":
            self.delimiters = tuple(each for each in self.delimiters if each != b",")

    # ---- headers ---------------------------------------------------------------------------------------------------

    def is_header(self, line: bytes, current: bytes | None) -> bool:
        """Tell whether ``line`` names columns; ``current`` is the header in effect before it.

        In the middle of a file the test is stricter than at the beginning: a message that happens to contain the word
        "time" must not replace the columns.
        """
        line = line.removeprefix(BOM)
        if self._log.format == "jsonl" or line.startswith(b"{"):
            return False
        if self._columns is not None:
            asked = set(self._columns)
            shared = (len(asked.intersection(self.names(line, each))) for each in self.delimiters if each in line)
            return 2 * max(shared, default=0) > len(asked)
        if current is not None:
            current = current.removeprefix(BOM)
            if line == current:
                return True
            if line[:1] in b"0123456789+-. " and not line.startswith(current[:4]):
                return False
        return any(self._names_columns(line, current, each) for each in self._candidates(line))

    def _candidates(self, line: bytes) -> tuple[bytes, ...]:
        """Return the delimiters that may separate a line's fields; blanks if there is no other."""
        found = tuple(each for each in self.delimiters if each in line)
        return found or ((SPACE,) if self._log.delimiter is None and SPACE in line.strip() else ())

    def _names_columns(self, line: bytes, current: bytes | None, delimiter: bytes) -> bool:
        names = self.names(line, delimiter)
        if any(self._is_time(name) for name in names if not name.isdigit()):
            return False
        known, time = self._known(names), self.time_columns.named(names)
        many = known and 2 * known >= len(self._sensors)
        words = not any(is_number(name) for name in names)
        if self._comment is not None and line.startswith(self._comment):
            return bool(time) and (bool(many) or (current is None and not self._sensors))
        if many:
            return True
        if delimiter == SPACE and not (time and words and len(names) > 2):
            return False
        if current is None:
            filled = [name for name in names if name]
            twice = len({names[at] for at in time}) < len(time)
            several = words and len(filled) == len(names) == len(set(names)) > 2
            return (bool(time) and not twice) or several
        before = self.names(current, delimiter)
        where = self.time_columns.named(before)
        if not (words and time and 2 * len(names) >= len(before)) or self.is_units(names):
            return False
        if known:
            return where in {(), time}
        return not where or (where == time and all(names[each] == before[each] for each in time))

    def _is_time(self, text: str) -> bool:
        return self._times.one(text) is not None or is_clock(text)

    def _known(self, names: Sequence[str]) -> int:
        """Return how many sensors are named here; in a log with one value per line, all if it is the header."""
        if self._log.format == "long":
            return len(self._sensors) if value_a_line(names) is not None else 0
        return len(set(names) & set(self._sensors))

    def is_foreign(self, header: bytes) -> bool:
        """Tell whether a header names none of the bundle's sensors, though there are some."""
        return bool(self._sensors) and not any(self._known(self.names(header, each)) for each in self.delimiters)

    def is_units(self, cells: Sequence[str]) -> bool:
        """Tell whether a row below the names holds units, or says how values were computed."""
        filled = [cell for cell in cells if cell]
        return bool(filled) and 2 * sum(map(is_unit, filled)) > len(filled)

    def names(self, header: bytes, delimiter: bytes) -> tuple[str, ...]:
        """Return the names in a header, the empty ones at its end too."""
        header = header.removeprefix(BOM)
        if self._comment and header.startswith(self._comment):
            header = header[len(self._comment) :]
        try:
            fields = split(header, delimiter, self.decode)
        except RefusedError:
            fields = header.split(delimiter)
        return tuple(plain(self.decode(each)) for each in fields)

    def misplaced(self, header: bytes) -> str | None:
        """Return a name of the configured columns that has another place in a header, None where there is none."""
        columns = self._columns or ()
        for names in (self.names(header, each) for each in self.delimiters if each in header):
            for at, name in enumerate(names):
                if name and name in columns and columns[at : at + 1] != (name,):
                    return name
        return None

    # ---- what a header means -----------------------------------------------------------------------------------------

    def understand(self, header: bytes | None, sample: bytes) -> Columns:
        """Interpret the header with the help of the first line of data; ``header`` None: the configured names.

        Raises :class:`.lines.RefusedError` where it does not fit.
        """
        best: tuple[int, bytes, tuple[str, ...], list[bytes], tuple[int, ...]] | None = None
        seen: list[tuple[int, int, bytes]] = []
        for delimiter in (*self.delimiters, *(() if self._log.delimiter else (SPACE,))):
            names = self._columns if header is None else self.names(header, delimiter)
            assert names is not None
            try:
                fields = split(sample, delimiter, self.decode)
            except RefusedError:
                continue
            named = len(_trimmed(names))
            widths = self._widths(names, fields)
            if named > 1 and widths and (best is None or named > best[0]) and not (best and delimiter == SPACE):
                best = named, delimiter, names, fields, widths
            seen.append((named, len(fields), delimiter))
        if best is None:
            raise RefusedError("columns", self._misfit(header, seen))
        _, delimiter, names, fields, widths = best
        texts = [self.decode(each).strip() for each in fields[: len(names)]]
        time = self.time_columns.find(names, texts + [""] * (len(names) - len(texts)))
        pair = value_a_line(names) if self._log.format == "long" else None
        if self._log.format == "long" and pair is None:
            raise RefusedError(
                "header",
                f'the columns are {some(names)}; format = "long" needs one named "sensor" and one named "value" '
                "beside the time: name them in [log] columns",
            )
        place = {name: column for column, name in reversed(list(enumerate(names))) if column not in time}
        missing = () if pair else tuple(sensor for sensor in self._sensors if sensor not in place)
        beside = [name for name in names if name in place and name and name not in self._sensors]
        return Columns(
            names,
            delimiter,
            widths,
            time,
            np.array([place.get(sensor, -1) for sensor in self._sensors], np.int64),
            missing,
            () if pair else tuple(dict.fromkeys(beside)),
            tuple(name for name, count in Counter(names).items() if count > 1 and name),
            pair,
            self.time_columns.offset(names, time),
        )

    def _widths(self, names: Sequence[str], fields: Sequence[bytes]) -> tuple[int, ...]:
        """Return how many fields rows may have where ``fields`` are the first row's; none where they do not fit."""
        count, wanted, named = len(fields), len(names), len(_trimmed(names))
        last = names[named - 1] if named else ""
        remark = word(last) in REMARKS and last not in self._sensors
        if count == wanted or (named <= count < wanted):
            return (count, count - 1) if remark and count == named else (count,)
        if count > wanted and not any(each.strip() for each in fields[wanted:]):
            return (count,)
        return (count, named) if remark and count == named - 1 else ()

    def _misfit(self, header: bytes | None, seen: Sequence[tuple[int, int, bytes]]) -> str:
        """Explain that a row does not match the header, with both counts and the remedy."""
        if not seen:
            return "has a quotation mark that does not fit"
        names, fields, delimiter = max(seen, key=lambda each: (each[0], each[1]))
        where = "[log] columns has" if header is None else f"the header {self.decode(header)[:80]!r} has"
        by = {b"\t": "tab", SPACE: "blank"}.get(delimiter, delimiter.decode())
        told = f"has {fields} field{'s' * (fields != 1)} by the delimiter {by!r}, {where} {names}"
        if header is not None and header.count(b'"') % 2:
            return f"{told} and a name with a line break; name the {fields} columns in [log] columns"
        other = "say [log] delimiter, or name the columns in [log] columns"
        return f"{told}; {comma_cure(delimiter, names, fields) or other}"

    def decode(self, raw: bytes) -> str:
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


def split(line: bytes, delimiter: bytes, decode: Callable[[bytes], str]) -> list[bytes]:
    """Split a line into unquoted fields; raises :class:`.lines.RefusedError` where quotes do not match."""
    if delimiter == SPACE:
        line = SPACE.join(line.split())
    if b'"' not in line:
        return line.split(delimiter)
    try:
        row = next(csv.reader([decode(line)], delimiter=delimiter.decode(), strict=True))
    except (csv.Error, StopIteration):
        raise RefusedError("malformed", "has a quotation mark that does not fit") from None
    return [each.encode() for each in row]


def comma_cure(delimiter: bytes, names: int, fields: int) -> str:
    """Return the remedy for rows with decimal commas in a comma-separated file, empty where there is no sign of it."""
    if delimiter != b"," or names < 2 or not 1.5 * names <= fields <= 2 * names:
        return ""
    return (
        "is the comma the decimal sign too? Let the device write a decimal point, or another delimiter such as "
        "';', or quotes around numbers"
    )


def _trimmed(names: Sequence[str]) -> Sequence[str]:
    count = len(names)
    while count and not names[count - 1]:
        count -= 1
    return names[:count]
