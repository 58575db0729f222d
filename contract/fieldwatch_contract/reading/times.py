"""The time of a reading: text → µs UTC, one at a time or a column at once, with the same result.

Recognised by shape

    | written | is |
    |---|---|
    | ``2026-01-17T10:54:00.5+01:00`` | ISO 8601: year first, with ``-``, ``/`` or ``.``; zone or none |
    | ``17.01.2026 10:54:00`` | European: a dot after the day |
    | ``1768647240`` | Unix time: 10, 13, 16 or 19 digits are s, ms, µs or ns; with a fraction or not |
    | ``10:54:00:123``, ``10:54:00,123`` | a fraction of the second after ``.``, ``,`` or ``:`` |
    | ``10:54:00 PM`` | twelve hours |
    | ``24:00:00`` | the next day's midnight |
    | ``01/02/2026`` | no time: whether it is January or February is for the configuration to say |

Only by configuration (``format``): a pattern, and numbers that count from another epoch, see :data:`FORMATS`. A number
does not reveal its epoch; :mod:`.reading.advice` compares it with the clock.

Times without a zone are in the configured one. When clocks go back, an hour comes twice: a time in it that lies more
than half an hour before its predecessor belongs to the second pass. In the hour that clocks skip, the offset before the
change holds.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from fieldwatch_contract.clock import DAY, MINUTE, SECOND
from fieldwatch_contract.reading.settings import TimestampConfig

_CLOCK = r"(?P<h>\d{1,2}):(?P<i>\d\d)(?::(?P<sec>\d\d)(?:[.,:](?P<f>\d{1,9}))?)?(?:\s*(?P<p>[AaPp])\.?\s?[Mm]\.?)?"
_OFFSET = r"(?:(?P<utc>[Zz]|UTC|GMT)|(?:UTC|GMT)?(?P<sign>[+-])(?P<zh>\d{1,2})(?::?(?P<zm>\d\d))?)"
_SHAPE = re.compile(
    r"(?:(?P<Y>\d{4})(?P<s>[-/.])(?P<M>\d\d)(?P=s)(?P<D>\d\d)|(?P<d>\d{1,2})\.(?P<m>\d{1,2})\.(?P<y>\d{4}))"
    rf"(?:(?:[Tt_]|,?\s+){_CLOCK}\s*{_OFFSET}?)?",
    re.ASCII,
)
_EPOCH = re.compile(r"(?P<whole>\d{9,19})(?:[.,](?P<f>\d{1,9})\d*)?", re.ASCII)
_UNIX = re.compile(r"(?P<whole>\d{10}|\d{13}|\d{16}|\d{19})(?:[.,](?P<f>\d{1,9})\d*)?", re.ASCII)
"""What is taken for Unix time without being told so: other counts of digits are dates without signs, or numbers."""
_NUMBER = re.compile(r"(?P<whole>\d{1,19})(?:[.,](?P<f>\d{1,18})\d*)?", re.ASCII)
_UNITS = ((10**11, SECOND), (10**14, 1000), (10**17, 1), (10**20, 0))
"""Pairs of an upper bound for Unix times and the unit (µs) of times below it; 0 = nanoseconds."""
_DIRECTIVES = {
    "%d": r"(?P<D>\d{1,2})", "%m": r"(?P<M>\d{1,2})", "%Y": r"(?P<Y>\d{4})", "%y": r"(?P<c>\d\d)",
    "%H": r"(?P<h>\d{1,2})", "%I": r"(?P<h>\d{1,2})", "%M": r"(?P<i>\d{1,2})", "%S": r"(?P<sec>\d{1,2})",
    "%f": r"(?P<f>\d{1,9})", "%p": r"(?P<p>[AaPp])\.?\s?[Mm]\.?", "%z": _OFFSET, "%%": "%",
}  # fmt: skip
"""Directives of strptime that are read as shapes are, a column at once; patterns with others are left to strptime."""
EARLIEST, LATEST = 0, 7_258_118_400 * SECOND
"""1970 and 2200: a time outside is a placeholder of a device without a set clock ("0001-01-01"), not a time."""
_EPOCH_0 = datetime(1970, 1, 1)
_LEAPS = ((1_483_228_800, 18), (1_435_708_800, 17), (1_341_100_800, 16), (1_230_768_000, 15), (1_136_073_600, 14))
"""Seconds by which GPS is ahead of UTC since a Unix time; 13 from 1999 to 2005, before which no log was written."""
_ABUTTING = re.compile(r"%[YymdHIMSj]%[YymdHIMSj]")
_QUARTER = 15 * MINUTE
"""Offsets change at whole quarters of an hour of local time."""
_BACK = 30 * MINUTE
_LONGEST = 48
_ZERO, _NINE = ord("0"), ord("9")

_Ints = NDArray[np.int64]
_N = TypeVar("_N", int, NDArray[np.int64])


def _gps(amount: int) -> int:
    unix = amount + 315_964_800 * SECOND
    return unix - next((leap for since, leap in _LEAPS if unix >= (since + leap) * SECOND), 13) * SECOND


FORMATS = {
    "labview": (SECOND, lambda amount: amount - 2_082_844_800 * SECOND),
    "gps": (SECOND, _gps),
    "filetime": (1, lambda amount: amount // 10 - 11_644_473_600 * SECOND),
    "excel": (DAY, lambda amount: (amount + 500) // 1000 * 1000 - 25_569 * DAY),
}
"""Formats that count from another epoch: µs a unit, and µs since then → µs since 1970 (FILETIME: its own unit, 100 ns).
Excel's days are local time and hold no more than milliseconds."""


class Times:
    """Parses the times of one log; remembers the last one, for the hour that comes twice."""

    def __init__(self, config: TimestampConfig) -> None:
        self._format = config.format
        self._epoch = {None: _UNIX, "epoch": _EPOCH}.get(config.format)
        self._shape = _SHAPE if config.format in {None, "iso"} else _compiled(config.format or "")
        self._zone = None if config.timezone == "UTC" else ZoneInfo(config.timezone)
        self._zone_is_set = "timezone" in config.model_fields_set
        self._offsets: dict[int, tuple[int, int]] = {}
        self._shapes: dict[bytes, re.Match[str] | None] = {}
        self.last: int | None = None
        self.assumed = False
        """Whether a time without a zone was read, so that the configured one counts."""
        self.offset: int | None = None
        """µs: the offset from UTC that the name of the time's column tells; the configured zone wins."""

    def one(self, text: str) -> int | None:
        """Return the time written in ``text`` (µs), None where it is none."""
        if not text.isascii():
            text = " ".join(text.split())  # no-break spaces, as before AM and PM
        time = self._read(text.strip())
        return time if time is not None and EARLIEST <= time < LATEST else None

    def _read(self, text: str) -> int | None:
        if self._format in FORMATS:
            match = _NUMBER.fullmatch(text)
            return self._counted(match, *FORMATS[self._format]) if match else None
        if self._shape is not None and (match := self._shape.fullmatch(text)):
            return self._calendar_one(match.groupdict())
        if self._epoch is not None and (match := self._epoch.fullmatch(text)):
            whole, fraction = int(match["whole"]), match["f"] or ""
            unit = next(unit for bound, unit in _UNITS if whole < bound)
            return whole // 1000 if not unit else whole * unit + int(fraction.ljust(9, "0")) * unit // 10**9
        if self._shape is None and self._format not in {None, "iso", "epoch"}:
            return self._by_pattern(text)
        return None

    def _calendar_one(self, parts: dict[str, str | None]) -> int | None:
        year, month, day = (int(parts.get(a) or parts.get(b) or 0) for a, b in ("Yy", "Mm", "Dd"))
        if two := parts.get("c"):
            year = int(two) + (2000 if int(two) < 69 else 1900)
        hour, minute, second = (int(parts.get(key) or 0) for key in ("h", "i", "sec"))
        if not (year >= 1 and 1 <= month <= 12 and 1 <= day <= _days_in(year, month)):
            return None
        if half := parts.get("p"):
            if not 1 <= hour <= 12:
                return None
            hour = hour % 12 + 12 * (half in "Pp")
        fraction = int((parts.get("f") or "")[:6].ljust(6, "0"))
        midnight = hour == 24 and not (half or minute or second or fraction)
        if (hour > 23 and not midnight) or minute > 59 or second > 59:
            return None
        local = ((_days(year, month, day) * 24 + hour) * 60 + minute) * MINUTE + second * SECOND + fraction
        if parts.get("utc"):
            return local
        if sign := parts.get("sign"):
            zone = (int(parts["zh"] or 0) * 60 + int(parts["zm"] or 0)) * MINUTE
            return local - (zone if sign == "+" else -zone)
        return self._to_utc(local)

    def _counted(self, match: re.Match[str], unit: int, convert: Callable[[int], int]) -> int:
        fraction = match["f"] or ""
        time = convert(int(match["whole"]) * unit + int(fraction or 0) * unit // 10 ** len(fraction))
        return self._to_utc(time) if self._format == "excel" else time

    def column(self, text: NDArray[np.uint8], starts: _Ints, ends: _Ints) -> tuple[_Ints, int]:
        """Return the times (int64 µs) in ``text[starts[i]:ends[i]]`` and how many of the first ones are valid.

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
            match = self._shape.fullmatch(shape) if self._shape is not None else None
            self._shapes[template] = match or (self._epoch.fullmatch(shape) if self._epoch is not None else None)
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
        parts = match.groupdict()
        year, month, day = (_integer(cells, match, a if parts.get(a) else b) for a, b in ("Yy", "Mm", "Dd"))
        if parts.get("c"):
            year = _integer(cells, match, "c")
            year += np.where(year < 69, 2000, 1900)
        hour, minute, second = (_integer(cells, match, key) for key in ("h", "i", "sec"))
        if parts.get("p"):
            fine &= (hour >= 1) & (hour <= 12)
            hour = hour % 12 + 12 * (pattern[match.start("p")] in b"Pp")
        fine &= (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1)
        fraction = np.zeros(len(cells), np.int64)
        if parts.get("f"):
            start, stop = match.span("f")
            fraction = _digits(cells[:, start : min(stop, start + 6)]) * 10 ** max(0, 6 - (stop - start))
        midnight = (hour == 24) & (minute + second + fraction == 0)
        fine &= ((hour <= 23) | midnight) & (minute <= 59) & (second <= 59)
        month = np.clip(month, 1, 12)
        fine &= day <= _days_in(year, month)
        local = ((_days(year, month, day) * 24 + hour) * 60 + minute) * MINUTE + second * SECOND + fraction
        if parts.get("sign"):
            zone = (_integer(cells, match, "zh") * 60 + _integer(cells, match, "zm")) * MINUTE
            local -= zone if pattern[match.start("sign")] == ord("+") else -zone
        elif parts.get("utc"):
            pass
        elif self._fixed is not None:
            local -= self._fixed
        elif self._zone is None:
            self.assumed = True
        else:
            self.assumed = True
            quarters, index = np.unique(local // _QUARTER, return_inverse=True)
            pairs = [self._offset(int(quarter)) for quarter in quarters]
            fine &= np.array([first <= second for first, second in pairs])[index]
            local -= np.array([first for first, _ in pairs])[index]
        return self._checked(local, fine)

    def _checked(self, times: _Ints, fine: NDArray[np.bool_]) -> tuple[_Ints, int]:
        fine &= (times >= EARLIEST) & (times < LATEST)
        return times, len(fine) if fine.all() else int(np.argmin(fine))

    def _by_pattern(self, text: str) -> int | None:
        pattern = str(self._format)
        try:
            stamp = datetime.strptime(text, pattern)
            if _ABUTTING.search(pattern) and _bare(stamp.strftime(pattern)) != _bare(text):
                return None  # strptime takes "54" for 5:04 by "%H%M"
            if stamp.tzinfo is not None:
                stamp = stamp.astimezone(UTC)
                return _micros(stamp.replace(tzinfo=None))
        except (ValueError, OverflowError):
            return None
        return self._to_utc(_micros(stamp))

    @property
    def _fixed(self) -> int | None:
        return None if self._zone_is_set else self.offset

    def _to_utc(self, local: int) -> int:
        if self._fixed is not None:
            return local - self._fixed
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


def _compiled(pattern: str) -> re.Pattern[str] | None:
    """Return a strptime pattern as a regular expression; None where a directive is not numeric or occurs twice."""
    parts = re.findall(r"%.?|\s+|[^%\s]+", pattern)
    asked = {part for part in parts if part[0] == "%"}
    if not asked or not asked <= _DIRECTIVES.keys() or ("%I" in asked) != ("%p" in asked):
        return None
    shapes = [_DIRECTIVES.get(part) or (r"\s+" if part.isspace() else re.escape(part)) for part in parts]
    for at, (one, next_one) in enumerate(itertools.pairwise(parts)):
        if one[0] == next_one[0] == "%":  # "%H%M": nothing but its place tells which digit belongs to which
            shapes[at : at + 2] = [shape.replace(r"\d{1,2}", r"\d\d") for shape in shapes[at : at + 2]]
    try:
        return re.compile("".join(shapes), re.ASCII)
    except re.error:
        return None


def _bare(text: str) -> str:
    """Return a text without what strptime does not look at: case, zeros in front of numbers."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", text.casefold())


def _whole(offset: timedelta | None) -> int:
    return 0 if offset is None else (offset.days * 86_400 + offset.seconds) * SECOND + offset.microseconds


def _micros(stamp: datetime) -> int:
    return (stamp - _EPOCH_0) // timedelta(microseconds=1)


def _integer(cells: _Ints, match: re.Match[str], group: str) -> _Ints:
    """Return the integers in a group's columns; zeros where the shape has no such group."""
    start, stop = match.span(group) if group in match.re.groupindex else (-1, -1)
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
