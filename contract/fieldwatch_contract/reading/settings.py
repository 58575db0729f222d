"""``[log]``: which files make up a log and how they are written. What is not configured is detected from the file.

Agent and trainer read the same logs, so these settings belong to the contract. Paths are resolved relative to
``context["base"]``, the folder of the configuration file, not to the working directory.
"""

from __future__ import annotations

import codecs
import glob
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from fieldwatch_contract.clock import DAY, MINUTE, SECOND

_DURATIONS = {"us": 1, "µs": 1, "ms": SECOND // 1000, "s": SECOND, "m": MINUTE, "h": 60 * MINUTE, "d": DAY}

LONGEST = 36_500 * DAY
NAME = 255
"""Characters of a file's or folder's name, on all common file systems."""


def amount(value: object, units: Mapping[str, int], example: str) -> int:
    """Return a number with a unit as an integer; raises :class:`ValueError` for anything without a known unit."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zµ]+)\s*", value.lower()) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f'{value!r} is not an amount with a unit: write, for example, "{example}"')
    return int(Decimal(match[1]) * units[match[2]])


def duration(value: object) -> int:
    """Return "60s" in µs; raises :class:`ValueError` for anything without a unit, and beyond a hundred years."""
    given = amount(value, _DURATIONS, "60s")
    if given > LONGEST:
        raise ValueError('must be at most "36500d"')
    return given


def base_folder(info: ValidationInfo) -> Path:
    """Return the folder that relative paths start from."""
    return Path(info.context["base"]) if info.context else Path()


def _resolve_pattern(pattern: str, info: ValidationInfo) -> str:
    if not pattern.strip():
        raise ValueError('is empty: name the log, for example "logs/readings*.csv"')
    expanded = whole(Path(pattern))
    return str(expanded if expanded.is_absolute() else Path(glob.escape(str(base_folder(info)))) / expanded)


def whole(path: Path) -> Path:
    """Return a path with ``~`` replaced; raises :class:`ValueError` where there can be no such file."""
    if "\0" in str(path):
        raise ValueError("holds a zero character, which no path can")
    if any(len(part) > NAME for part in path.parts):
        raise ValueError(f"holds a name of more than {NAME} characters")
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(f"begins with {path.parts[0]!r}, which is nobody's home here: write the whole path") from None


def at_least(least: int, text: str) -> AfterValidator:
    """Return a validator that refuses less than ``least``, which is written ``text``."""

    def check(value: int) -> int:
        if value < least:
            raise ValueError(f"must be at least {text}")
        return value

    return AfterValidator(check)


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (OSError, ValueError, LookupError):
        raise ValueError(f'{value!r} is unknown: write, for example, "Europe/Berlin"') from None
    return value


TIME_FORMATS = ("iso", "epoch", "labview", "gps", "filetime", "excel")
"""Time formats that have a name; any other is a strptime pattern."""


def _time_format(value: str) -> str:
    if value not in TIME_FORMATS and "%" not in value:
        known = ", ".join(f'"{name}"' for name in TIME_FORMATS)
        raise ValueError(f'{value!r} is not one of {known} or a pattern such as "%d/%m/%Y %H:%M:%S"')
    if "%" in value:
        sample = datetime(2026, 12, 31, 23, 58, tzinfo=UTC)
        try:
            again = datetime.strptime(sample.strftime(value), value)
        except (ValueError, re.error) as error:
            raise ValueError(f"{value!r} is no pattern of strptime: {error}") from None
        if again.date() != sample.date():
            raise ValueError(f'{value!r} must hold day, month and year, like "%d/%m/%Y %H:%M:%S"')
        if "%p" in value and "%I" not in value:
            raise ValueError(f"{value!r} has AM or PM (%p) and no hour of twelve: write %I for %H")
    return value


Duration = Annotated[int, BeforeValidator(duration)]


class Section(BaseModel):
    """Part of a configuration: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TimestampConfig(Section):
    """``[log.timestamp]``, or ``timestamp = "column"``: where a reading's time stands and how it is written.

    ``column``: None = found by name or as the first column that holds a time; a list of names (date, time, AM/PM) is
    read as one text, joined by blanks.
    ``format``: None = ISO 8601, Unix time or dd.mm.yyyy, told apart by shape; "iso"; "epoch" (Unix time); "labview"
    (seconds since 1904); "gps" (seconds since 1980-01-06, without leap seconds); "filetime" (Windows, 100 ns since
    1601); "excel" (days since 1899-12-30); or a strptime pattern such as "%m/%d/%Y %I:%M:%S %p" (forms with slashes
    are never guessed).
    ``timezone``: of times that carry none; where it is not set, a zone in the column's name ("GMT+01:00"), else UTC.
    """

    column: str | tuple[str, ...] | None = None
    format: Annotated[str, AfterValidator(_time_format)] | None = None
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"

    @property
    def columns(self) -> tuple[str, ...]:
        """The configured columns, none where they are to be found."""
        return () if self.column is None else (self.column,) if isinstance(self.column, str) else self.column


def _timestamp(value: object) -> object:
    return {"column": value} if isinstance(value, str | list) else value


def _columns(value: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if value is not None:
        twice = sorted({name for name in value if name.strip() and value.count(name) > 1})
        if len(value) < 2:
            raise ValueError('must name every column in order, for example ["time", "pressure", "temperature"]')
        if twice:
            raise ValueError(f"names {twice[0]!r} twice")
    return value


def _delimiter(value: object) -> object:
    names = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
    if not isinstance(value, str) or len(names.get(value, value)) != 1 or value in '\n\r"':
        raise ValueError(f'{value!r} is not a delimiter: write one character, "tab", or "space" for any run of blanks')
    return names.get(value, value)


def _encoding(value: str) -> str:
    try:
        name = codecs.lookup(value).name
        plain = "0,;\n".encode(name)
    except (LookupError, UnicodeError):
        raise ValueError(f'{value!r} is not a text encoding: write "utf-8", "utf-16", "cp1252" or "latin-1"') from None
    if plain != b"0,;\n" and name not in {"utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"}:
        raise ValueError(f'{value!r} cannot be followed line by line: write "utf-8", "utf-16", "cp1252" or "latin-1"')
    return name


class LogConfig(Section):
    """``[log]``: which files and how they are written. None = detected from the file's first lines.

    ``path`` is an absolute glob pattern; files rotated to ``<name>.1``, ``<name>-20260117``, ``….gz`` beside it are
    found without being named.
    """

    path: Annotated[str, AfterValidator(_resolve_pattern)]
    format: Literal["csv", "long", "jsonl"] = Field(
        default="csv", description="a column a sensor; a line a value (time, sensor, value); a JSON object a reading"
    )
    period: Annotated[Duration, at_least(1, '"1us"')] = Field(description="µs between two readings")
    columns: Annotated[tuple[str, ...] | None, AfterValidator(_columns)] = Field(
        default=None, description="the names of all columns in order, for a log without a line of names"
    )
    delimiter: Annotated[str | None, BeforeValidator(_delimiter)] = None
    decimal: Literal[".", ","] | None = None
    thousands: Literal[",", ".", " ", "'", ""] | None = Field(default=None, description="empty: none is written")
    missing: tuple[float | str, ...] = Field(
        default=(), description="numbers and words that stand for no value, such as -9999 or ERR"
    )
    encoding: Annotated[str, AfterValidator(_encoding)] | None = None
    comment: str = Field(default="#", description="lines that begin so are skipped; empty: none are")
    timestamp: Annotated[TimestampConfig, BeforeValidator(_timestamp)] = TimestampConfig()

    @model_validator(mode="after")
    def _consistent(self) -> LogConfig:
        if self.delimiter is not None and self.delimiter == self.decimal:
            raise ValueError(f"delimiter and decimal are both {self.decimal!r}: a number could not be told from two")
        if self.thousands and self.thousands == self.decimal:
            raise ValueError(f"thousands and decimal are both {self.decimal!r}: they must differ")
        if self.format == "jsonl" and self.columns is not None:
            raise ValueError('columns belong to "csv" and "long": in "jsonl" each object names its values')
        return self
