"""Labels from a table: a line an interval, as AWS Lookout for Equipment had them, or with names of columns.

Without a first line of names the columns are ``start, end`` and, where it is one of the lake's words, ``label``; of one
device. With names they are ``start, end`` and ``device``, ``label``, ``sensors`` as far as they
are there. An interval without a word is a ``fault``.

Sensors are separated by ``;``, ``|`` or ``,``, and by blanks where there is none of these and the whole is not the name
of one: ``Flow [l/min]`` is.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fieldwatch_contract.labels import UNCLEAR, WORDS
from fieldwatch_contract.reading.settings import TimestampConfig
from fieldwatch_contract.reading.times import Times

from fieldwatch_trainer.labels import Label

NAMES = ("device", "start", "end", "label", "sensors")


class IntervalsError(Exception):
    """The table cannot be used; the message names file and line, and what would be right."""


@dataclass
class Intervals:
    """The labels of a table; ``refused``: what is wrong with other lines, in words with their number."""

    labels: list[Label] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def read(path: Path, device: str | None, times: TimestampConfig, sensors: Collection[str] = ()) -> Intervals:
    """Read a table of intervals; ``device`` for lines that name none, ``sensors`` as the logs name them.

    Times without a zone are read as those of the logs. Raises :class:`IntervalsError`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise IntervalsError(f"{path}: cannot be read: {error}") from error
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t|", key=first.count)
    lines = list(csv.reader(text.splitlines(), delimiter=delimiter))
    head = [cell.strip().casefold() for cell in lines[0]] if lines else []
    clock = Times(times)
    columns: Sequence[str] = ("start", "end", "label")
    if head and "start" in head:
        columns = head
        lines = lines[1:]
    elif head and clock.one(lines[0][0]) is None:
        raise IntervalsError(
            f"{path} line 1: {lines[0][0]!r} is neither a time nor the names of the columns ({', '.join(NAMES)})"
        )
    if device is None and "device" not in columns:
        raise IntervalsError(f"{path}: its lines name no device: say --device ID, or add a column 'device'")
    found = Intervals()
    for number, cells in enumerate(lines, 2 if columns is head else 1):
        if any(cell.strip() for cell in cells):
            _take(
                dict(zip(columns, (cell.strip() for cell in cells), strict=False)),
                device,
                clock,
                number,
                sensors,
                found,
            )
    return found


def _take(
    line: dict[str, str], device: str | None, clock: Times, number: int, sensors: Collection[str], found: Intervals
) -> None:
    word = line.get("label", "").casefold()
    start, end = clock.one(line.get("start", "")), clock.one(line.get("end", ""))
    if start is None or end is None:
        bad = line.get("start", "") if start is None else line.get("end", "")
        found.refused.append(f"line {number}: {bad!r} is not a time")
    elif end < start:
        found.refused.append(f"line {number}: it ends before it starts")
    elif word in UNCLEAR and "label" in line and word:
        found.refused.append(f"line {number}: {word!r} labels nothing")
    else:
        name = line.get("device") or device or ""
        named = _named(line.get("sensors", ""), sensors)
        found.labels.append(Label(name, start, end, word if word in WORDS else "fault", named))


def _named(cell: str, sensors: Collection[str]) -> tuple[str, ...]:
    parts = [cell] if cell in sensors else re.split(r"[;|,]", cell)
    if len(parts) == 1 and cell not in sensors:
        parts = cell.split()
    return tuple(part.strip() for part in parts if part.strip())
