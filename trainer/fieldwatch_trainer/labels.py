"""Labels: what people said of a device's time. The one place that knows the words.

| label | in training | in figures |
|---|---|---|
| ``fault`` | the classifier learns it; no detector learns from it | an event |
| ``anomaly`` | nothing learns from it | an event of the detector's |
| ``normal`` | what is not labelled is normal; the word alone corrects nothing | – |
| ``maintenance`` | nothing learns from it: somebody worked on the device | its rows count for nothing, alerts neither |
| ``unclear``, or none | left out and counted: a person looked and could not tell | – |

Where labels overlap, maintenance wins over fault, fault over anomaly, all over normal. Case and blanks around a word
do not matter.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fieldwatch_contract.clock import iso
from fieldwatch_contract.labels import UNCLEAR, WORDS
from numpy.typing import NDArray

from fieldwatch_trainer.columns import ColumnError, has_zone, micros, texts
from fieldwatch_trainer.models import ANOMALY, FAULT, MAINTENANCE, NORMAL

CODES = dict(zip(WORDS, (NORMAL, ANOMALY, FAULT, MAINTENANCE), strict=True))
"""Later ones win where labels overlap."""
EVENTS = ("fault", "anomaly")

COLUMNS = ("device", "start", "end", "label")


@dataclass(frozen=True)
class Label:
    """A line of ``labels.parquet``; ``start`` and ``end`` in µs, both inclusive; ``label`` one of :data:`CODES`."""

    device: str
    start: int
    end: int
    label: str
    sensors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Labels:
    """All labels of a lake by device, by start; ``left_out`` counts lines without a use, by reason.

    ``zoned``: whether the times carry a zone, None without labels.
    """

    by_device: dict[str, list[Label]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    zoned: bool | None = None


def read(table: Any, path: str) -> Labels:
    """Read a table of labels. Raises :class:`.columns.ColumnError` for what cannot be right, naming column and row."""
    left_out: Counter[str] = Counter()
    devices = texts(table["device"], f"{path}: column 'device'")
    words = texts(table["label"], f"{path}: column 'label'")
    ended = table["start"].is_valid().to_numpy() & table["end"].is_valid().to_numpy()
    rows = np.flatnonzero(ended)
    left_out["without a start or an end"] = int((~ended).sum())
    start = micros(table["start"].take(rows), f"{path}: column 'start'")
    end = micros(table["end"].take(rows), f"{path}: column 'end'")
    named = _sensors(table, path)
    found: dict[str, list[Label]] = {}
    for place, row in enumerate(rows.tolist()):
        device, word = devices[row], (words[row] or "").strip().casefold()
        if word in UNCLEAR:
            left_out["with no verdict, or an unclear one"] += 1
            continue
        if device is None or not device.strip():
            left_out["without a device"] += 1
            continue
        if word not in CODES:
            raise ColumnError(f"{path}: row {row + 1}: label {words[row]!r} must be one of {_known(word)}")
        if end[place] < start[place]:
            raise ColumnError(
                f"{path}: row {row + 1} ({device}): end {iso(int(end[place]))} is before start "
                f"{iso(int(start[place]))}: are the columns exchanged?"
            )
        label = Label(device, int(start[place]), int(end[place]), word, named[row])
        found.setdefault(device, []).append(label)
    by_device = {device: sorted(labels, key=lambda one: (one.start, one.end)) for device, labels in found.items()}
    return Labels(by_device, +left_out, has_zone(table["start"].type) if len(rows) else None)


def codes(ts: NDArray[np.int64], labels: Sequence[Label]) -> NDArray[np.int8]:
    """Return the code (:mod:`.models`) of each time ``[n]`` µs; where labels overlap, the stronger word wins."""
    found = np.full(len(ts), NORMAL, np.int8)
    for word, code in CODES.items():
        for label in labels:
            if label.label == word and word != "normal":
                found[(ts >= label.start) & (ts <= label.end)] = code
    return found


def _sensors(table: Any, path: str) -> list[tuple[str, ...]]:
    if "sensors" not in table.column_names:
        return [()] * table.num_rows
    values = table["sensors"].to_pylist()
    if any(isinstance(value, str) for value in values):
        raise ColumnError(f"{path}: column 'sensors' is text, must be lists of names: ['s1', 's2'], not 's1, s2'")
    return [tuple(str(name) for name in value or () if name is not None) for value in values]


def _known(word: str) -> str:
    near = difflib.get_close_matches(word, CODES, 1)
    return ", ".join(sorted(CODES)) + (f"; did you mean {near[0]!r}?" if near else "")
