"""What the pages say, in plain words: states, ages, titles. No I/O; ``now`` is always given, in µs.

Colour is never the only signal, so every state has a word, and the words live here so that pages, titles and tests
use the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fieldwatch_contract import clock

NO_CONTACT = 10 * clock.MINUTE
"""A device reports every minute; after ten of them without a word it is out of contact (µs, our clock)."""
LATE = 10 * clock.MINUTE
"""A transition that arrived this long after it happened is marked late (µs)."""

MAIN_SHARE = 0.1
"""A sensor with at least this share of an alert's score belongs into its title."""

Condition = Literal["critical", "warning", "above", "offline", "log", "unknown", "normal"]
"""How a device is, worst first: an open alert, a reading above a threshold that is no alert yet, no contact, trouble
with its log, nothing to judge, all well."""
ORDER: dict[str, int] = {"critical": 0, "warning": 1, "above": 2, "offline": 3, "log": 3, "unknown": 4, "normal": 4}

LOG_WORDS = {
    "silent": "log silent",
    "missing": "log missing",
    "unreadable": "log unreadable",
}
VERDICT_WORDS = {"real": "real fault", "false": "false alarm", "unclear": "unclear"}
KIND_WORDS = {"detector": "unusual readings", "classifier": "signs of a known fault"}
MEANINGS = {
    "detector": "The readings are unlike those of this device when it is well; no known fault is recognised.",
    "classifier": "Looks like the time before a known fault.",
}
HASTE = {"warning": "when you are next at the device", "critical": "at the device now"}


@dataclass(frozen=True)
class Standing:
    """One device's condition and the word for it.

    ``away``: why nothing new comes from it, ``offline`` or ``no contact`` or the trouble with its log, and ``since``
    when; a fact of its own, for a device that has gone while an alert was open must not pass for present.
    """

    condition: Condition
    word: str
    away: str | None = None
    since: int | None = None


def standing(
    *,
    now: int,
    status: str,
    last_seen: int,
    status_since: int | None,
    last_ts: int | None,
    log: str | None,
    open_alerts: int,
    critical: bool,
    verdict: str | None,
) -> Standing:
    """Judge a device by everything that is known of it; the worst fact names it.

    ``status``: online, offline or unknown, ``status_since`` and ``last_seen`` by our clock; ``last_ts``: the newest
    reading; ``log``: state of the log in the last health event; ``verdict``: the worst verdict on the newest reading.
    """
    condition: Condition = "offline"
    away: str | None = None
    since: int | None = None
    if status == "offline":
        away, since = "offline", status_since or last_seen
    elif now - last_seen > NO_CONTACT:
        away, since = "no contact", last_seen
    elif log in LOG_WORDS:
        condition, away, since = "log", LOG_WORDS[log], last_seen if last_ts is None else last_ts
    if open_alerts:
        word = _count(open_alerts, "open alert")
        return Standing("critical" if critical else "warning", f"{word}, {away}" if away else word, away, since)
    if away:
        return Standing(condition, away, away, since)
    if verdict is None:
        return Standing("unknown", "no reading yet")
    if verdict == "unknown":
        return Standing("unknown", "not judged")
    if verdict != "normal":
        return Standing("above", "above threshold")
    return Standing("normal", "normal")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def age(ts: int | None, now: int) -> str:
    """Say how long ago ``ts`` was.

    >>> age(0, 90 * clock.SECOND), age(0, 3 * 3600 * clock.SECOND), age(120 * clock.SECOND, 0), age(None, 0)
    ('1 min ago', '3 h ago', '2 min ahead', 'never')
    """
    if ts is None:
        return "never"
    if abs(now - ts) < 5 * clock.SECOND:
        return "just now"
    return f"{duration(abs(now - ts))} {'ago' if now > ts else 'ahead'}"


def duration(span: int) -> str:
    """Say how long ``span`` (µs) is, in one unit.

    >>> duration(59 * clock.SECOND), duration(119 * clock.MINUTE), duration(50 * 3600 * clock.SECOND)
    ('59 s', '119 min', '2 d')
    """
    seconds = span // clock.SECOND
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{seconds // 60} min"
    if seconds < 48 * 3600:
        return f"{seconds // 3600} h"
    return f"{seconds // 86400} d"


def moment(ts: int | None) -> str:
    """Write a time as people read it: day, 24 hours, UTC.

    >>> moment(1_768_647_240_000_000)
    '2026-01-17 10:54 UTC'
    """
    return "never" if ts is None else f"{clock.iso(ts)[:16].replace('T', ' ')} UTC"


def second(ts: int | None) -> str:
    """Write a time to the second.

    >>> second(1_768_647_240_000_000)
    '2026-01-17 10:54:00'
    """
    return "never" if ts is None else clock.iso(ts)[:19].replace("T", " ")


def number(value: float | None) -> str:
    """Write a score with three significant digits.

    >>> number(0.01234), number(12345.6), number(2.0), number(None)
    ('0.0123', '12,346', '2.00', '–')
    """
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 0.001:
        return f"{value:.2e}"
    digits = 2 if abs(value) >= 1 else 3
    digits = 1 if abs(value) >= 100 else digits
    return f"{value:.{digits}f}" if abs(value) >= 1 else f"{value:.3g}"


def times(value: float | None) -> str:
    """Write a score as a multiple of its threshold, so that many of them line up.

    >>> times(0.5), times(12.34), times(1234.5), times(None)
    ('0.50', '12.3', '1,234', '–')
    """
    if value is None:
        return "–"
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{digits}f}"


def size(count: int) -> str:
    """Write a number of bytes.

    >>> size(512), size(3 << 20)
    ('512 B', '3.0 MiB')
    """
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def alert_title(device: str, kind: str, sensors: list[str], shares: list[float], opened_at: int) -> str:
    """Say which device, what, since when.

    >>> alert_title("press-0001", "detector", ["oil_temp", "flow", "rpm"], [0.5, 0.3, 0.1], 1_768_647_240_000_000)
    'press-0001: unusual readings in oil_temp, flow and 1 more since 2026-01-17 10:54 UTC'
    """
    return f"{device}: {alert_what(kind, sensors, shares)} since {moment(opened_at)}"


def alert_what(kind: str, sensors: list[str], shares: list[float]) -> str:
    """Say what an alert is about, without device and time: the sensors that stand for most of its score.

    >>> alert_what("classifier", ["pump_current", "pressure", "mains"], [0.46, 0.4, 0.03])
    'signs of a known fault in pump_current and pressure'
    """
    what = KIND_WORDS.get(kind, kind)
    if not sensors:
        return what
    main = [sensor for sensor, share in zip(sensors, shares, strict=False) if share >= MAIN_SHARE] or sensors[:1]
    named = ", ".join(main[:2])
    rest = len(main) - 2
    return f"{what} in {named} and {rest} more" if rest > 0 else f"{what} in {' and '.join(main)}"


def alert_means(kind: str, severity: str, state: str, named: bool) -> str:
    """Say what an alert means and what is asked of its reader; ``named``: whether it names sensors.

    >>> alert_means("classifier", "critical", "open", True)
    'Looks like the time before a known fault. Look at these sensors at the device now, then say below what it was.'
    >>> alert_means("classifier", "critical", "resolved", True)
    'Looks like the time before a known fault. It is over: say below what it was.'
    """
    if state != "open":
        ask = "It is over: say below what it was."
    else:
        look = "Look at these sensors" if named else "Look around"
        ask = f"{look} {HASTE.get(severity, 'at the device')}, then say below what it was."
    return f"{MEANINGS.get(kind, '')} {ask}".strip()


def sentence(text: str) -> str:
    """Begin with a capital and leave the rest alone: sensors have capitals of their own.

    >>> sentence("fault in pump_A")
    'Fault in pump_A'
    """
    return text[:1].upper() + text[1:]
