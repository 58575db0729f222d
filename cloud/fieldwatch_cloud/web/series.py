"""Time ranges and steps of charts (min/max downsampling). No I/O.

No trace has more than :data:`POINTS` points: rows are grouped into buckets of one step, each with its lowest and
its highest value, so a spike of one minute shows in a chart of a month.
"""

from __future__ import annotations

from dataclasses import dataclass

from fieldwatch_contract import clock

POINTS = 2000
"""Largest number of points in a trace: two a bucket."""
BUCKETS = POINTS // 2
HEAT_COLUMNS = 240
"""Columns of a heat map: more cannot be told apart at the width of a page."""

SPANS = {"6h": 6 * 60 * clock.MINUTE, "24h": clock.DAY, "7d": 7 * clock.DAY, "30d": 30 * clock.DAY}
"""What the device page offers."""

LONGEST = 366 * clock.DAY
"""Longest range that a page shows."""
SHORTEST = 2 * clock.MINUTE


@dataclass(frozen=True)
class Stretch:
    """What the device page shows: ``start`` ≤ ts < ``end``, µs; ``span``: its word, if one of :data:`SPANS`."""

    start: int
    end: int
    span: str = ""

    def addresses(self, newest: int) -> dict[str, str]:
        """Return the queries of the stretches beside it, by their words; ``newest``: nothing lies after it."""
        length = self.end - self.start
        beside = {"earlier": (self.start - length, self.start)}
        if self.end < newest:
            beside["later"] = (self.end, self.end + length)
        if 3 * length <= LONGEST:
            beside["wider"] = (self.start - length, min(self.end + length, max(newest, self.end)))
        return {word: f"?from={_minute(start)}&to={_minute(end)}" for word, (start, end) in beside.items() if start > 0}

    @property
    def fields(self) -> tuple[str, str]:
        """Both ends as a form has them, UTC."""
        return _minute(self.start), _minute(self.end)


def stretch(newest: int, span: str, start: str = "", end: str = "") -> Stretch:
    """Return the stretch that an address asks for: from ``start`` to ``end``, or the newest ``span``.

    Both are UTC, such as ``2026-01-17T10:00``, as forms send them; one alone is completed by ``span``. Raises
    :class:`ValueError` with words for a person.

    >>> stretch(clock.DAY, "6h").start // clock.MINUTE, stretch(0, "6h", "1970-01-01T06:00").end // clock.MINUTE
    (1080, 720)
    """
    if not start and not end:
        return Stretch(newest - SPANS[span], newest, span)
    length = SPANS[span]
    try:
        first, last = (parse(one) if one else None for one in (start, end))
    except ValueError:
        raise ValueError("A time is such as 2026-01-17T10:00, in UTC.") from None
    begin = first if first is not None else (last or 0) - length
    finish = last if last is not None else begin + length
    if not SHORTEST <= finish - begin <= LONGEST:
        raise ValueError("A range begins before it ends, and is between 2 minutes and 366 days long.")
    return Stretch(begin, finish)


def parse(text: str) -> int:
    """Read a time in UTC as forms send it, with or without seconds and Z. Raises :class:`ValueError`.

    >>> parse("1970-01-02T00:00") == parse("1970-01-02T00:00:00Z") == clock.DAY
    True
    """
    return clock.parse_iso(text if text.endswith("Z") else f"{text}Z" if text.count(":") == 2 else f"{text}:00Z")


def _minute(ts: int) -> str:
    return clock.iso(ts)[:16]


STEPS = tuple(
    seconds * clock.SECOND
    for seconds in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
)


@dataclass(frozen=True)
class Range:
    """``start`` ≤ ts < ``end`` in buckets of ``step``, all µs; ``start`` is a multiple of ``step``."""

    start: int
    end: int
    step: int

    @property
    def buckets(self) -> int:
        """How many buckets the range has."""
        return -(-(self.end - self.start) // self.step)


def cut(start: int, end: int, step: int | None = None, limit: int = BUCKETS, least: int = 0) -> Range:
    """Cut a range into at most ``limit`` buckets: of ``step`` µs, or of the smallest round step that does.

    ``least``: that step is not smaller, for buckets shorter than the device's period would be empty now and then.

    Raises :class:`ValueError` for an empty range and for a step that would make too many buckets.

    >>> cut(0, clock.DAY).step // clock.SECOND
    120
    >>> cut(30_000_000, 90_000_000, clock.MINUTE)
    Range(start=0, end=120000000, step=60000000)
    """
    if end <= start:
        raise ValueError(f"'from' ({clock.iso(start)}) must be before 'to' ({clock.iso(end)})")
    if step is not None:
        whole = _aligned(start, end, step)
        if whole.buckets > limit:
            raise ValueError(
                f"{whole.buckets} steps of {step / clock.SECOND:g} s from {clock.iso(start)} to {clock.iso(end)}: "
                f"at most {limit} fit into one answer; ask for a longer step or a shorter range"
            )
        return whole
    for candidate in (one for one in STEPS if one >= least):
        whole = _aligned(start, end, candidate)
        if whole.buckets <= limit:
            return whole
    return _aligned(start, end, -(-(end - start) // (limit - 1) // clock.DAY) * clock.DAY + clock.DAY)


def _aligned(start: int, end: int, step: int) -> Range:
    return Range(start - start % step, end + -end % step, step)
