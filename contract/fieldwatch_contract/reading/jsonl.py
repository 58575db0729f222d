"""One JSON object per line → time and values. Names are the object's keys; nested objects add their own keys.

    | value | is |
    |---|---|
    | a number | itself, if finite and at most 10¹⁰⁰ |
    | a text | a number where it is one (see :mod:`.reading.values`), else missing and counted |
    | null | missing |
    | true, a list | missing and counted |

The keys of the time are found as columns are (:mod:`.reading.time_columns`), from the first object with these keys.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldwatch_contract.grid import ABSURD
from fieldwatch_contract.reading.lines import RefusedError
from fieldwatch_contract.reading.occurred import Occurred
from fieldwatch_contract.reading.settings import LogConfig
from fieldwatch_contract.reading.time_columns import TimeColumns
from fieldwatch_contract.reading.times import Times
from fieldwatch_contract.reading.values import Numbers
from fieldwatch_contract.reading.words import plain, some

MOST_KINDS = 1000
"""Sets of keys that are cached; objects with further ones are handled one by one."""


class JsonObjects:
    """Parses the lines of one log of JSON objects."""

    def __init__(
        self,
        log: LogConfig,
        sensors: Sequence[str],
        times: Times,
        occurred: Occurred,
        why_no_time: Callable[[str], str],
    ) -> None:
        """``occurred`` is told of the keys of each object that has a time; ``why_no_time`` says why a text is none."""
        self._places = {sensor: place for place, sensor in enumerate(sensors)}
        self._occurred = occurred
        self._why_no_time = why_no_time
        self._times = times
        self._time_columns = TimeColumns(log, sensors, times)
        self._chosen: dict[tuple[str, ...], tuple[int, ...]] = {}

    def time(self, line: bytes) -> tuple[int, str]:
        """Return the time of a line (µs) and how it is written; raises :class:`.lines.RefusedError`."""
        return self._time(self._members(line))

    def read(self, line: bytes, numbers: Numbers) -> tuple[int, NDArray[np.float64], list[int]]:
        """Return time, values ``[S]`` and the places of what should have been numbers and is none.

        Raises :class:`.lines.RefusedError` where the line is no object, has no time or has no value.
        """
        members = self._members(line)
        ts, _ = self._time(members)
        self._note(members)
        out = np.full(len(self._places), np.nan)
        bad: list[int] = []
        texts: list[tuple[int, bytes]] = []
        known = 0
        for name, value in members.items():
            if (place := self._places.get(name)) is None:
                continue
            known += 1
            match value:
                case bool() | list() | dict():
                    bad.append(place)
                case int() | float():
                    texts.append((place, repr(float(value) if abs(value) <= ABSURD else "no number").encode()))
                case str():
                    texts.append((place, value.encode()))
        if self._places and not known:
            raise RefusedError(
                "header",
                f"none of the bundle's {len(self._places)} sensors is a key; the keys are {some(list(members))}",
            )
        values, more = numbers.row([text for _, text in texts], [place for place, _ in texts], b",")
        out[[place for place, _ in texts]] = values[[place for place, _ in texts]]
        return ts, out, bad + more

    def _note(self, members: Mapping[str, Any]) -> None:
        """Note the keys, but for those of the time."""
        time = set(self._chosen.get(tuple(members), ()))
        self._occurred.take(name for at, name in enumerate(members) if at not in time)
        self._occurred.readings += 1

    def _members(self, line: bytes) -> dict[str, Any]:
        pairs: list[tuple[str, Any]] = []
        try:
            value = json.loads(line, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError):
            raise RefusedError("malformed", 'is no JSON object; is [log] format = "jsonl" right?') from None
        if not isinstance(value, _Pairs):
            raise RefusedError("malformed", "is JSON, but no object of names and values")
        pairs = list(_flat(value))
        members = dict(pairs)
        if len(members) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise RefusedError("ambiguous", f"has the key {twice!r} twice")
        if not members:
            raise RefusedError("empty", "has no values")
        return members

    def _time(self, members: Mapping[str, Any]) -> tuple[int, str]:
        names = tuple(members)
        texts = [_text(value) for value in members.values()]
        chosen = self._chosen.get(names)
        columns = chosen if chosen is not None else self._time_columns.find(names, texts)
        text = " ".join(texts[at] for at in columns)
        self._times.offset = self._time_columns.offset(names, columns)
        if (ts := self._times.one(text)) is None:
            raise RefusedError("timestamp", self._why_no_time(text))
        if chosen is None and len(self._chosen) < MOST_KINDS:
            self._chosen[names] = columns
        return ts, text


class _Pairs(list[tuple[str, Any]]):
    """An object's members as they are written."""


def _flat(pairs: _Pairs) -> Iterator[tuple[str, Any]]:
    for name, value in pairs:
        if isinstance(value, _Pairs):
            yield from _flat(value)
        else:
            yield plain(name), value


def _text(value: Any) -> str:
    return "" if value is None or isinstance(value, bool | list) else str(value).strip()
