"""Which time zone a clock runs in that is off by whole hours: this PC's, or one of fixed distance from UTC."""

from __future__ import annotations

import ctypes
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from fieldwatch_contract.clock import SECOND

_HOUR = 3600 * SECOND


def local_zone() -> str | None:
    """Return the name of this PC's time zone, such as "Europe/Berlin"; None where the system does not tell it."""
    told = os.environ.get("TZ", "").lstrip(":")
    if not told:
        try:
            told = _of_windows() if sys.platform == "win32" else _of_posix()
        except (OSError, AttributeError):
            told = ""
    try:
        return ZoneInfo(told).key if told else None
    except (OSError, ValueError, LookupError):
        return None


def _of_posix() -> str:
    return str(Path("/etc/localtime").resolve()).partition("zoneinfo/")[2]


def _of_windows() -> str:
    """Ask the ICU library, part of Windows since 2019: Windows' own names of zones are other ones."""
    name = ctypes.create_unicode_buffer(64)
    failed = ctypes.c_int(0)
    ctypes.CDLL("icu.dll").ucal_getDefaultTimeZone(name, len(name), ctypes.byref(failed))
    return "" if failed.value > 0 else name.value


def offset(zone: str, ts: int) -> int:
    """Return by how much (µs) a zone is ahead of UTC at ``ts`` (µs)."""
    there = datetime.fromtimestamp(ts / SECOND, UTC).astimezone(ZoneInfo(zone)).utcoffset() or timedelta()
    return there // timedelta(microseconds=1)


def zone_for(ahead: int, ts: int, local: str | None) -> str | None:
    """Return the zone that is ``ahead`` (µs) of UTC at ``ts`` (µs): ``local`` where it fits, else a fixed one.

    None where no zone of whole hours fits.

    >>> zone_for(3_600_000_000, 1_768_608_000_000_000, "Europe/Berlin")
    'Europe/Berlin'
    >>> zone_for(-5 * 3_600_000_000, 1_768_608_000_000_000, "Europe/Berlin")
    'Etc/GMT+5'
    """
    if local is not None and offset(local, ts) == ahead:
        return local
    hours, rest = divmod(ahead, _HOUR)
    if rest or not -12 <= hours <= 14:
        return None
    return "UTC" if not hours else f"Etc/GMT{-hours:+d}"  # the sign is POSIX's: GMT+5 is behind UTC
