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


def cut(start: int, end: int, step: int | None = None, limit: int = BUCKETS) -> Range:
    """Cut a range into at most ``limit`` buckets: of ``step`` µs, or of the smallest round step that does.

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
    for candidate in STEPS:
        whole = _aligned(start, end, candidate)
        if whole.buckets <= limit:
            return whole
    return _aligned(start, end, -(-(end - start) // (limit - 1) // clock.DAY) * clock.DAY + clock.DAY)


def _aligned(start: int, end: int, step: int) -> Range:
    return Range(start - start % step, end + -end % step, step)
