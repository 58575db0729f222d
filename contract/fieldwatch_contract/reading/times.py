"""The time of a reading: text → µs UTC, one at a time or a column at once, with the same result.

Told apart by shape: ISO 8601 (``2026-01-17T10:54:00.5+01:00``; 'T' or space, '-' or '/' after a four-digit year, zone
or none), European (``17.01.2026 10:54:00``), Unix time (seconds, ms, µs or ns by magnitude, with a fraction or not).
``01/02/2026`` is never guessed: whether it is January or February is for the configuration to say.

Times without a zone are in the configured one. When clocks go back, an hour comes twice: a time in it that lies more
than half an hour before its predecessor belongs to the second pass. In the hour that clocks skip, the offset before the
change holds.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from fieldwatch_contract.clock import MINUTE, SECOND
from fieldwatch_contract.reading.settings import TimestampConfig

_SHAPE = re.compile(
    r"(?:(?P<Y>\d{4})(?P<s>[-/])(?P<M>\d\d)(?P=s)(?P<D>\d\d)|(?P<d>\d{1,2})\.(?P<m>\d{1,2})\.(?P<y>\d{4}))"
    r"(?:(?:T|\s+)(?P<h>\d{1,2}):(?P<i>\d\d)(?::(?P<sec>\d\d)(?:[.,](?P<f>\d{1,9}))?)?"
    r"\s*(?:(?P<utc>Z|UTC)|(?P<sign>[+-])(?P<zh>\d\d):?(?P<zm>\d\d))?)?",
    re.ASCII,
)
_EPOCH = re.compile(r"(?P<whole>\d{9,19})(?:\.(?P<f>\d{1,9})\d*)?", re.ASCII)
_UNITS = ((10**11, SECOND), (10**14, 1000), (10**17, 1), (10**20, 0))
"""Unix times below a bound are in units of so many µs; 0 = nanoseconds."""
EARLIEST, LATEST = 0, 7_258_118_400 * SECOND
"""1970 and 2200: a time outside is what a device writes before it knows better ("0001-01-01"), and no time."""
_EPOCH_0 = datetime(1970, 1, 1)
_QUARTER = 15 * MINUTE
"""Offsets change at whole quarters of an hour of local time."""
_BACK = 30 * MINUTE
_LONGEST = 48
_ZERO, _NINE = ord("0"), ord("9")

_Ints = NDArray[np.int64]
_N = TypeVar("_N", int, NDArray[np.int64])


class Times:
    """Reads the times of one log; remembers the last one, for the hour that comes twice."""

    def __init__(self, config: TimestampConfig) -> None:
        self._format = config.format
        self._zone = None if config.timezone == "UTC" else ZoneInfo(config.timezone)
        self._offsets: dict[int, tuple[int, int]] = {}
        self._shapes: dict[bytes, re.Match[str] | None] = {}
        self.last: int | None = None
        self.assumed = False
        """Whether a time without a zone was read, so that the configured one counts."""

    def one(self, text: str) -> int | None:
        """Return the time written in ``text`` (µs), None where it is none."""
        text = text.strip()
        time = self._read(text)
        return time if time is not None and EARLIEST <= time < LATEST else None

    def _read(self, text: str) -> int | None:
        if self._format not in {None, "iso", "epoch"}:
            return self._by_pattern(text)
        if self._format != "epoch" and (match := _SHAPE.fullmatch(text)):
            parts = match.groupdict()
            year, month, day = (int(parts[a] or parts[b]) for a, b in ("Yy", "Mm", "Dd"))
            hour, minute, second = (int(parts[key] or 0) for key in ("h", "i", "sec"))
            if not (year >= 1 and 1 <= month <= 12 and 1 <= day <= _days_in(year, month)):
                return None
            if hour > 23 or minute > 59 or second > 59:
                return None
            local = ((_days(year, month, day) * 24 + hour) * 60 + minute) * MINUTE + second * SECOND
            local += int((parts["f"] or "")[:6].ljust(6, "0"))
            if parts["utc"]:
                return local
            if parts["sign"]:
                zone = (int(parts["zh"]) * 60 + int(parts["zm"])) * MINUTE
                return local - (zone if parts["sign"] == "+" else -zone)
            return self._to_utc(local)
        if self._format != "iso" and (match := _EPOCH.fullmatch(text)):
            whole, fraction = int(match["whole"]), match["f"] or ""
            unit = next(unit for bound, unit in _UNITS if whole < bound)
            return whole // 1000 if not unit else whole * unit + int(fraction.ljust(9, "0")) * unit // 10**9
        return None

    def column(self, text: NDArray[np.uint8], starts: _Ints, ends: _Ints) -> tuple[_Ints, int]:
        """Return the times (int64 µs) in ``text[starts[i]:ends[i]]`` and how many of them, from the first on, hold.

        The others are for :meth:`one`: another shape than the first, out of range, or in the hour that comes twice.
        """
        length = int(ends[0] - starts[0])
        if length > _LONGEST:
            return np.empty(0, np.int64), 0
        alike = ends - starts == length
        count = len(starts) if alike.all() else int(np.argmin(alike))
        cells = text[starts[:count, None] + np.arange(length)].astype(np.int64)
        pattern = bytes(cells[0].astype(np.uint8))
        template = re.sub(rb"\d", b"0", pattern)
        if template not in self._shapes:
            shape = template.decode("latin-1")
            match = _SHAPE.fullmatch(shape) if self._format in {None, "iso"} else None
            self._shapes[template] = match or (_EPOCH.fullmatch(shape) if self._format in {None, "epoch"} else None)
        match = self._shapes[template]
        if match is None:
            return np.empty(0, np.int64), 0
        digit = np.frombuffer(template, np.uint8) == _ZERO
        fine = np.where(digit, (cells >= _ZERO) & (cells <= _NINE), cells == cells[0]).all(axis=1)
        cells -= _ZERO
        if "whole" in match.groupdict():
            return self._epochs(cells, match, fine)
        return self._calendar(cells, match, fine, pattern)

    def _epochs(self, cells: _Ints, match: re.Match[str], fine: NDArray[np.bool_]) -> tuple[_Ints, int]:
        whole, fraction = _integer(cells, match, "whole"), _integer(cells, match, "f")
        upper, unit = next((bound, unit) for bound, unit in _UNITS if int(whole[0]) < bound)
        lower = max((bound for bound, _ in _UNITS if bound < upper), default=0)
        fine &= (whole >= lower) & (whole < min(upper, 2**63 - 1))
        places = len(match["f"] or "")
        times = whole // 1000 if not unit else whole * unit + fraction * 10 ** (9 - places) * unit // 10**9
        return self._checked(times, fine)

    def _calendar(
        self, cells: _Ints, match: re.Match[str], fine: NDArray[np.bool_], pattern: bytes
    ) -> tuple[_Ints, int]:
        year, month, day = (_integer(cells, match, a if match[a] else b) for a, b in ("Yy", "Mm", "Dd"))
        hour, minute, second = (_integer(cells, match, key) for key in ("h", "i", "sec"))
        fine &= (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1)
        fine &= (hour <= 23) & (minute <= 59) & (second <= 59)
        month = np.clip(month, 1, 12)
        fine &= day <= _days_in(year, month)
        local = ((_days(year, month, day) * 24 + hour) * 60 + minute) * MINUTE + second * SECOND
        if match["f"]:
            start, stop = match.span("f")
            local += _digits(cells[:, start : min(stop, start + 6)]) * 10 ** max(0, 6 - (stop - start))
        if match["sign"]:
            zone = (_integer(cells, match, "zh") * 60 + _integer(cells, match, "zm")) * MINUTE
            local -= zone if pattern[match.start("sign")] == ord("+") else -zone
        elif not match["utc"] and self._zone is not None:
            quarters, index = np.unique(local // _QUARTER, return_inverse=True)
            pairs = [self._offset(int(quarter)) for quarter in quarters]
            fine &= np.array([first <= second for first, second in pairs])[index]
            local -= np.array([first for first, _ in pairs])[index]
        return self._checked(local, fine)

    def _checked(self, times: _Ints, fine: NDArray[np.bool_]) -> tuple[_Ints, int]:
        fine &= (times >= EARLIEST) & (times < LATEST)
        return times, len(fine) if fine.all() else int(np.argmin(fine))

    def _by_pattern(self, text: str) -> int | None:
        try:
            stamp = datetime.strptime(text, str(self._format))
            if stamp.tzinfo is not None:
                stamp = stamp.astimezone(UTC)
                return _micros(stamp.replace(tzinfo=None))
        except (ValueError, OverflowError):
            return None
        return self._to_utc(_micros(stamp))

    def _to_utc(self, local: int) -> int:
        self.assumed = True
        if self._zone is None:
            return local
        first, second = self._offset(local // _QUARTER)
        if first > second and self.last is not None and local - first < self.last - _BACK:
            return local - second
        return local - first

    def _offset(self, quarter: int) -> tuple[int, int]:
        """Return the zone's offset (µs) in a quarter of an hour of local time, for the first and the second pass."""
        found = self._offsets.get(quarter)
        if found is None:
            assert self._zone is not None
            try:
                stamp = _EPOCH_0 + timedelta(microseconds=quarter * _QUARTER)
                offsets = [stamp.replace(tzinfo=self._zone, fold=fold).utcoffset() for fold in (0, 1)]
                found = _whole(offsets[0]), _whole(offsets[1])
            except (OverflowError, ValueError):
                found = 0, 0
            self._offsets[quarter] = found
            if len(self._offsets) > 100_000:
                self._offsets.clear()
        return found


def _whole(offset: timedelta | None) -> int:
    return 0 if offset is None else (offset.days * 86_400 + offset.seconds) * SECOND + offset.microseconds


def _micros(stamp: datetime) -> int:
    return (stamp - _EPOCH_0) // timedelta(microseconds=1)


def _integer(cells: _Ints, match: re.Match[str], group: str) -> _Ints:
    """Return the integers in a group's columns; zeros where the shape has no such group."""
    start, stop = match.span(group)
    return _digits(cells[:, start:stop]) if start >= 0 else np.zeros(len(cells), np.int64)


def _digits(cells: _Ints) -> _Ints:
    number: _Ints = np.zeros(len(cells), np.int64)
    for column in cells.T:
        number *= 10
        number += column
    return number


def _days(year: _N, month: _N, day: _N) -> _N:
    """Return days since 1970-01-01; H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil."""
    year = year - (month <= 2)
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days: _N = era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
    return days


def _days_in(year: _N, month: _N) -> _N:
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    days: _N = 30 + ((month + (month >> 3)) & 1) - (month == 2) * (2 - leap * 1)
    return days
