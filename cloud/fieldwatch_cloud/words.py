"""Texts of the pages: ages, numbers, titles. No I/O; ``now`` is always passed, in µs.

Colour is never the only signal, so every state has a word; they are defined here so that pages, titles and tests use
the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fieldwatch_contract import clock

LATE = 10 * clock.MINUTE
"""A transition that arrived this long after it happened is marked late (µs)."""

MAIN_SHARE = 0.1
"""A sensor with at least this share of an alert's score is named in its title."""

STATE_WORDS = {
    "critical": "with a critical alert",
    "warning": "with an open alert",
    "above": "above threshold",
    "offline": "out of contact",
    "stalled": "stalled",
    "log": "without a log to read",
    "refused": "with refused lines",
    "clock": "with a wrong clock",
    "stale": "with old readings",
    "lost": "with lost lines",
    "unknown": "not judged",
    "trouble": "with another trouble",
    "stopped": "stopped on purpose",
    "note": "with a note",
    "normal": "normal",
}
"""The fleet's counts: “3 with refused lines”."""
PART_WORDS = {
    "broker": "No contact with the broker",
    "ingest": "Nothing is taken in",
    "database": "The database cannot be used",
    "telling": "Nobody may be told",
}
"""Of this server's parts, when they are down."""
PART_TASKS = {
    "broker": "Devices and this server meet there.",
    "ingest": "Takes in what devices send, and tells them that it is stored.",
    "database": "Holds everything that these pages show.",
    "telling": "Sends messages to people.",
}
AUDIENCE_WORDS = {
    "device": "the person at the device",
    "pc": "who looks after its PC",
    "network": "who runs PCs and network",
    "server": "who runs this server",
    "models": "who releases the models",
}
VERDICT_WORDS = {"real": "real fault", "false": "false alarm", "unclear": "unclear"}
GAP_WORDS = {
    "evicted": "Results were given up",
    "log_truncated": "The log was cut",
    "log_vanished": "The log vanished",
    "journal_rebuilt": "The journal was rebuilt",
}
KIND_WORDS = {"detector": "unusual readings", "classifier": "signs of a known fault"}
MEANINGS = {
    "detector": "The readings are unlike those of this device when it is well; no known fault is recognised.",
    "classifier": "Looks like the time before a known fault.",
}
HASTE = {"warning": "when you are next at the device", "critical": "at the device now"}


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


def span(text: str) -> str:
    """Say a length of time that forms name by a number and a letter.

    >>> span("1h"), span("7d")
    ('1 hour', '7 days')
    """
    number, unit = text[:-1], {"m": "minute", "h": "hour", "d": "day"}[text[-1]]
    return f"{number} {unit}{'' if number == '1' else 's'}"


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


def alert_means(kind: str, severity: str, state: str, named: bool, reason: str = "") -> str:
    """Say what an alert means and what is asked of its reader.

    ``named``: whether it names sensors; ``reason``: why it ended, where not because the score is low again.

    >>> alert_means("classifier", "critical", "open", True)
    'Looks like the time before a known fault. Look at these sensors at the device now, then say below what it was.'
    >>> alert_means("classifier", "critical", "resolved", True)
    'Looks like the time before a known fault. It is over: say below what it was.'
    >>> alert_means("classifier", "critical", "resolved", True, "the new bundle has no classifier")
    'Looks like the time before a known fault. It was closed, not cured: the new bundle has no classifier.'
    """
    if state != "open" and reason:
        ask = f"It was closed, not cured: {reason.rstrip('.')}."
    elif state != "open":
        ask = "It is over: say below what it was."
    else:
        look = "Look at these sensors" if named else "Look around"
        ask = f"{look} {HASTE.get(severity, 'at the device')}, then say below what it was."
    return f"{MEANINGS.get(kind, '')} {ask}".strip()


def gap(data: Mapping[str, Any]) -> str:
    """Say a gap in one sentence; ``data``: :class:`.events.GapData` as sent.

    >>> gap({"reason": "evicted", "detail": "the outbox was full", "lines": 12})
    'Results were given up (12 lines): the outbox was full'
    """
    reason = data.get("reason", "a gap whose record is damaged")
    what = GAP_WORDS.get(reason, reason)
    lines = f" ({data['lines']:,} lines)" if data.get("lines") is not None else ""
    return f"{what}{lines}: {data['detail']}" if data.get("detail") else f"{what}{lines}"


def sentence(text: str) -> str:
    """Begin with a capital and leave the rest alone: sensors have capitals of their own.

    >>> sentence("fault in pump_A")
    'Fault in pump_A'
    """
    return text[:1].upper() + text[1:]
