"""A plain table: one independent reading a row, no device, no time.

CSV with a header; delimiter comma, semicolon, tab or pipe (found in the header); a decimal comma where the delimiter is
another character; UTF-8 with or without BOM. Empty cells and ``nan``, ``na``, ``n/a``, ``null``, ``none`` are missing.
Any other text raises :class:`TableError` with file, line and column: a sensor that is text half of the time is a
question for its owner, not a guess of ours.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fieldwatch_contract.grid import ABSURD
from numpy.typing import NDArray

from fieldwatch_trainer.models import FAULT, NORMAL, DeviceRows

MISSING = {"", "nan", "na", "n/a", "null", "none"}
LABELS = {
    "0": NORMAL, "1": FAULT, "0.0": NORMAL, "1.0": FAULT, "false": NORMAL, "true": FAULT,
}  # fmt: skip
DELIMITERS = ",;\t|"


class TableError(Exception):
    """The table cannot be used; the message names file, line and column, and what would be right."""


@dataclass(frozen=True)
class Table:
    """``values`` float64 ``[N, S]``, NaN = missing; ``label`` int8 ``[N]``, -1 where the cell is empty, or None without
    a label column; ``line`` int64 ``[N]``, 1 = the header."""

    path: str
    sensors: list[str]
    values: NDArray[np.float64]
    label: NDArray[np.int8] | None
    line: NDArray[np.int64]

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return Path(self.path).stem

    def data(self) -> TableData:
        """Return the labelled rows as training data."""
        assert self.label is not None
        kept = self.label >= 0
        return TableData(self.name, self.sensors, self.values[kept], self.label[kept])


@dataclass(frozen=True)
class TableData:
    """:class:`.models.TrainingData` over a table: one device, whose rows know nothing of each other."""

    device_type: str
    sensors: Sequence[str]
    values: NDArray[np.float64]
    label: NDArray[np.int8]
    period: int = 1_000_000

    def part(self, index: NDArray[np.int64]) -> TableData:
        """Return these rows alone."""
        return TableData(self.device_type, self.sensors, self.values[index], self.label[index])

    def __iter__(self) -> Iterator[DeviceRows]:
        """Yield the one device."""
        count = len(self.label)
        ts = np.arange(count, dtype=np.int64) * self.period
        yield DeviceRows(self.device_type, ts, self.values, np.ones(count, bool), self.label)


def read_table(path: Path, label: str | None = None, sensors: Sequence[str] | None = None) -> Table:
    """Read a CSV file. ``label`` names the label column; ``sensors`` are the columns wanted, in this order.

    Without ``sensors`` every column but the label is one. A wanted sensor that the file lacks is missing throughout;
    one that all are missing raises :class:`TableError`, as does everything else that is wrong with the file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TableError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    first = text.split("\n", 1)[0]
    if not first.strip():
        raise TableError(f"{path}: empty; its first line must name the columns")
    delimiter = max(DELIMITERS, key=first.count) if any(mark in first for mark in DELIMITERS) else ","
    reader = csv.reader(text.splitlines(), delimiter=delimiter)
    header = [name.strip() for name in next(reader)]
    if len(set(header)) != len(header):
        repeated = next(name for name in header if header.count(name) > 1)
        raise TableError(f"{path} line 1: column {repeated!r} repeats")
    if "" in header and sensors is None:
        raise TableError(
            f"{path} line 1: column {header.index('') + 1} has no name; name it, or leave it out: row numbers that a "
            "program wrote along would be learnt from like a sensor"
        )
    if label is not None and label not in header:
        raise TableError(f"{path} line 1: no column {label!r}; columns are {', '.join(header)}")
    wanted = list(sensors) if sensors is not None else [name for name in header if name != label]
    found = [name for name in wanted if name in header]
    if not found:
        raise TableError(f"{path} line 1: none of the sensors {', '.join(wanted[:8])}; columns are {', '.join(header)}")

    places = [(wanted.index(name), header.index(name), name) for name in found]
    where = header.index(label) if label is not None else -1
    values: list[list[float]] = []
    labels: list[int] = []
    lines: list[int] = []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise TableError(f"{path} line {reader.line_num}: {len(cells)} cells, the header has {len(header)}")
        row = [np.nan] * len(wanted)
        for place, column, name in places:
            row[place] = _number(cells[column], delimiter, f"{path} line {reader.line_num}: column {name!r}")
        values.append(row)
        lines.append(reader.line_num)
        if label is not None:
            labels.append(_label(cells[where], f"{path} line {reader.line_num}: column {label!r}"))
    if not values:
        raise TableError(f"{path}: a header and no rows")
    return Table(
        str(path),
        wanted,
        np.array(values, np.float64),
        np.array(labels, np.int8) if label is not None else None,
        np.array(lines, np.int64),
    )


def _number(cell: str, delimiter: str, where: str) -> float:
    text = cell.strip()
    if text.lower() in MISSING:
        return np.nan
    if delimiter != ",":
        text = text.replace(",", ".")
    try:
        value = float(text)
    except ValueError:
        raise TableError(f"{where}: {cell.strip()[:40]!r} is not a number; leave the cell empty if missing") from None
    return value if abs(value) <= ABSURD else np.nan


def _label(cell: str, where: str) -> int:
    text = cell.strip().lower().replace(",", ".")
    if text in MISSING:
        return -1
    if text not in LABELS:
        raise TableError(f"{where}: label {cell.strip()[:40]!r} must be 0 or 1 (or true or false)")
    return LABELS[text]
