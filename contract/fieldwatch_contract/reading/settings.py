"""``[log]``: which files a log is and how they are written. What is not configured is detected from the first lines.

Agent and trainer read the same logs, so the settings of reading are contract. Paths are resolved against
``context["base"]``, the folder of the file that holds the setting, wherever the program was started.
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


def amount(value: object, units: Mapping[str, int], example: str) -> int:
    """Return a number with a unit as an integer; raises :class:`ValueError` for anything without a known unit."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zµ]+)\s*", value.lower()) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f'{value!r} is not an amount with a unit: write, for example, "{example}"')
    return int(Decimal(match[1]) * units[match[2]])


def duration(value: object) -> int:
    """Return "60s" in µs; raises :class:`ValueError` for anything without a unit."""
    return amount(value, _DURATIONS, "60s")


def base_folder(info: ValidationInfo) -> Path:
    """Return the folder at which relative paths start."""
    return Path(info.context["base"]) if info.context else Path()


def _resolve_pattern(pattern: str, info: ValidationInfo) -> str:
    if not pattern.strip():
        raise ValueError('is empty: name the log, for example "logs/readings*.csv"')
    expanded = Path(pattern).expanduser()
    return str(expanded if expanded.is_absolute() else Path(glob.escape(str(base_folder(info)))) / expanded)


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


def _time_format(value: str) -> str:
    if value not in {"iso", "epoch"} and "%" not in value:
        raise ValueError(f'{value!r} is not "iso", "epoch" or a pattern such as "%d/%m/%Y %H:%M:%S"')
    if "%" in value:
        sample = datetime(2026, 12, 31, 23, 58, tzinfo=UTC)
        try:
            again = datetime.strptime(sample.strftime(value), value)
        except (ValueError, re.error) as error:
            raise ValueError(f"{value!r} is no pattern of strptime: {error}") from None
        if again.date() != sample.date():
            raise ValueError(f'{value!r} must hold day, month and year, like "%d/%m/%Y %H:%M:%S"')
    return value


Duration = Annotated[int, BeforeValidator(duration)]


class Section(BaseModel):
    """Part of a configuration: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TimestampConfig(Section):
    """``[log.timestamp]``, or ``timestamp = "column"``: where a reading's time stands and how it is written.

    ``column``: None = found by name or as the first column that holds a time; two names = date and time apart.
    ``format``: None = ISO 8601, Unix time or dd.mm.yyyy, told apart by shape; "iso", "epoch", or a strptime pattern
    such as "%m/%d/%Y %I:%M:%S %p" (forms with slashes are never guessed).
    ``timezone``: of times that carry none.
    """

    column: str | tuple[str, str] | None = None
    format: Annotated[str, AfterValidator(_time_format)] | None = None
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"


def _timestamp(value: object) -> object:
    return {"column": value} if isinstance(value, str | list) else value


def _format(value: object) -> object:
    if value in {"long", "jsonl"}:
        raise ValueError(f'{value!r} is not read yet: write the log as "csv", a column a sensor')
    return value


def _delimiter(value: object) -> object:
    names = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
    if not isinstance(value, str) or len(names.get(value, value)) != 1 or value in '\n\r"':
        raise ValueError(f'{value!r} is not a delimiter: write one character, or "tab"')
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
    format: Annotated[Literal["csv"], BeforeValidator(_format)] = "csv"
    period: Annotated[Duration, at_least(1, '"1us"')] = Field(description="µs between two readings")
    delimiter: Annotated[str | None, BeforeValidator(_delimiter)] = None
    decimal: Literal[".", ","] | None = None
    encoding: Annotated[str, AfterValidator(_encoding)] | None = None
    comment: str = Field(default="#", description="lines that begin so are skipped; empty: none are")
    timestamp: Annotated[TimestampConfig, BeforeValidator(_timestamp)] = TimestampConfig()

    @model_validator(mode="after")
    def _consistent(self) -> LogConfig:
        if self.delimiter is not None and self.delimiter == self.decimal:
            raise ValueError(f"delimiter and decimal are both {self.decimal!r}: a number could not be told from two")
        return self
