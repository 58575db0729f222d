"""Advice on a time or a value that can be read in more than one way. Advice only; nothing is decided here.

    | found | told |
    |---|---|
    | a time that is not understood | the formats that would read it, each with what it would say |
    | the newest reading is far from when its file was written | formats by which it is near: another epoch, day and \
month exchanged |
    | a value that comes again and again, far from all others | that it may stand for "no value" |
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fieldwatch_contract import clock
from fieldwatch_contract.reading.sentinels import suspects
from fieldwatch_contract.reading.settings import TimestampConfig
from fieldwatch_contract.reading.time_columns import is_clock
from fieldwatch_contract.reading.times import Times

_DATES = (
    "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%m.%d.%Y", "%y-%m-%d",
    "%d-%m-%y", "%m-%d-%y", "%y.%m.%d", "%y/%m/%d",
    "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%b %d %Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y", "%d/%b/%Y",
    "%Y%m%d", "%d%m%Y", "%m%d%Y", "%Y-%m-%d",
)  # fmt: skip
_CLOCKS = (
    " %H:%M:%S", " %H:%M", " %I:%M:%S %p", " %I:%M %p", " %H:%M:%S.%f", " %H:%M:%S:%f", " %I:%M:%S.%f %p", "T%H:%M:%S",
    " %H:%M:%S %z", "T%H%M%S", " %H%M%S", "%H%M%S", ", %H:%M:%S", ", %I:%M:%S %p", " %H.%M.%S", " %H-%M-%S",
    ":%H:%M:%S", "T%H%M%S%z", " %H:%M Uhr", " %H:%M:%S Uhr", "",
)  # fmt: skip
_OTHERS = ("%a %b %d %H:%M:%S %Y", "%H:%M:%S %d/%m/%Y", "%H:%M:%S %m/%d/%Y", "%H:%M:%S %d.%m.%Y", "excel", "labview")
_WORDS = frozenset("bBapzT")
"""Letters of formats that no text without letters fits."""
_NUMBERS = (
    "epoch", "labview", "gps", "filetime", "excel", "%Y%m%d%H%M%S", "%Y%m%d%H%M", "%y%m%d%H%M%S", "%y%m%d%H%M",
)  # fmt: skip
_PLAUSIBLE = 946_684_800 * clock.SECOND, 4_102_444_800 * clock.SECOND
"""2000 to 2100."""


_ZONE_NAME = re.compile(r"(?<=\d) ?(?!AM|PM)[A-Z]{3,4}$")


@dataclass(frozen=True)
class Sense:
    """One way to read a time: by ``[log.timestamp] format`` it is ``ts`` (µs)."""

    format: str
    ts: int


@functools.cache
def _readers(formats: tuple[str, ...], timezone: str) -> tuple[tuple[str, Times], ...]:
    return tuple((each, Times(TimestampConfig(format=each, timezone=timezone))) for each in formats)


def senses(text: str, timezone: str = "UTC", among: tuple[str, ...] | None = None) -> list[Sense]:
    """Return the ways to read a time that are plausible: between 2000 and 2100.

    ``among``: only these formats are tried; some 500 where it is None, which costs milliseconds.
    """
    text = text.strip()
    if sum(each.isdigit() for each in text) < 4:
        return []
    number = text.replace(",", ".").replace(".", "", 1).isdigit() and len(text) != 8
    worded = any(each.isalpha() for each in text)
    formats = among
    if formats is None:
        formats = _NUMBERS if number else tuple(each for each in _patterns() if worded or not _WORDS & set(each))
    found = []
    for name, reader in _readers(formats, timezone):
        ts = reader.one(text)
        if ts is not None and _PLAUSIBLE[0] <= ts < _PLAUSIBLE[1]:
            found.append(Sense(name, ts))
    return found


def _patterns() -> Iterator[str]:
    for date in _DATES:
        yield from (date + each for each in _CLOCKS)
    yield from _OTHERS


_SHAPES = 100
"""So many unlike shapes of times are looked into: a log has one or two, and what has more is no time."""


class TimeAdvice:
    """Suggests formats for the refused times of one log: those that fit all times of the same shape so far.

    All formats are tried for the first time of a shape, for the next ones those that are left: a long log whose format
    has not been set must not cost much more than one that is understood.
    """

    def __init__(self, timezone: str) -> None:
        self._timezone = timezone
        self._fit: dict[str, tuple[str, ...]] = {}

    def __call__(self, text: str) -> str:
        """Return the advice for a refused time, empty where there is none."""
        shape = "".join("0" if each.isdigit() else each for each in text)[:64]
        found: list[Sense] = []
        if shape in self._fit or len(self._fit) < _SHAPES:
            found = senses(text, self._timezone, self._fit.get(shape))
            self._fit[shape] = tuple(each.format for each in found)
        if is_clock(text):
            return "it has no date: name the date's column too, [log.timestamp] column = [date, time]"
        if match := _ZONE_NAME.search(text):
            example = f"%Y-%m-%d %H:%M:%S{match[0]}"
            return f'names of zones are not read: write it into [log.timestamp] format, "{example}", and say timezone'
        told = " or ".join(f'"{each.format}" ({clock.iso(each.ts)})' for each in found[:3])
        return f"say [log.timestamp] format = {told}" if told else ""

    @property
    def fits(self) -> tuple[str, ...]:
        """The formats that fit all times refused so far, none where there is none or nothing was refused."""
        shapes = list(self._fit.values())
        return tuple(each for each in shapes[0] if all(each in other for other in shapes)) if shapes else ()


def repeated_extremes(values: NDArray[np.float64], sensors: Sequence[str]) -> dict[float, list[str]]:
    """Return values that stand for "no value" beyond doubt (:mod:`.sentinels`), with the sensors that hold them.

    ``values`` ``[n, S]``.
    """
    found: dict[float, list[str]] = {}
    for place, name in enumerate(sensors):
        for suspect in suspects(values[:, place]):
            if suspect.sure:
                found.setdefault(suspect.value, []).append(name)
    return found


_ZONE_STEP = 15 * clock.MINUTE
_NEAR = 2 * clock.MINUTE
"""A newest reading that is off by whole quarters of an hour, give or take this (µs), is in another time zone."""


def zone_between(ts: int, written: int) -> int:
    """Return by how much ``ts`` is ahead of ``written`` (µs) if that is so many quarters of an hour and less than a
    day, as where a time is read in another zone than it was written in; else 0."""
    away = ts - written
    steps = round(away / _ZONE_STEP) * _ZONE_STEP
    return steps if abs(away) < clock.DAY and abs(away - steps) <= _NEAR else 0


Advice = tuple[Literal["warning", "error"], str, str]
"""How bad, what it is, what to do."""


def far_from(text: str, ts: int, written: int, config: TimestampConfig) -> Advice | None:
    """Compare the newest reading with its file's modification time; None if it is near.

    ``text``: the time as it stands there, ``ts``: as it was read, ``written``: both µs.
    """
    away, zones = ts - written, zone_between(ts, written)
    told = f"the newest reading, {text!r}, is {clock.iso(ts)}, its file was written at {clock.iso(written)}"
    if abs(away) < clock.DAY:
        if not zones:
            return None
        hours, side = abs(zones) / (60 * clock.MINUTE), "after" if zones > 0 else "before"
        what = f"the newest reading, {clock.iso(ts)}, lies {hours:g} h {side} the time its file was written"
        return "warning", what, "set timezone in [log.timestamp] to that of the device's clock"
    others = [sense for sense in senses(text, config.timezone) if abs(sense.ts - ts) >= clock.DAY]
    near = [sense for sense in others if abs(sense.ts - written) < clock.DAY]
    if near:
        best = min(near, key=lambda sense: abs(sense.ts - written))
        what = f'{told}; by format "{best.format}" it is {clock.iso(best.ts)}'
        return "error", what, f'set [log.timestamp] format = "{best.format}"'
    more = "".join(f'; by format "{sense.format}" it would be {clock.iso(sense.ts)}' for sense in others[:2])
    return (
        "warning",
        f"{told}, {abs(away) / clock.DAY:.0f} days {'earlier' if away > 0 else 'later'}{more}",
        "right if the file was copied or the device has stopped; else say in [log.timestamp] how the time is written, "
        "or set the device's clock",
    )


def exchanged(config: TimestampConfig) -> TimestampConfig | None:
    """Return the configuration with day and month swapped, None where no pattern has both as numbers."""
    pattern = config.format or ""
    if "%d" not in pattern or "%m" not in pattern:
        return None
    other = pattern.replace("%d", "%\0").replace("%m", "%d").replace("%\0", "%m")
    return config.model_copy(update={"format": other})
