"""Sliding-window counts of what became of the last minutes' lines, for ``status``, health and the service's log.

One-minute buckets, summed over the span. Pure: the caller passes the time, from a monotonic clock.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from fieldwatch_contract.verdicts import Why

SPAN_S = 600.0
"""The counts reach back this far, or :data:`SPAN_PERIODS` periods where that is longer."""
SPAN_PERIODS = 5
BUCKET_S = 60.0


@dataclass
class Tally:
    """Counts of lines. ``refused`` by reason, ``bad_values`` by sensor, ``unjudged`` by model and reason.

    ``scored`` are the readings that got a result, ``unknown`` those that every model called unknown. ``examples``: the
    newest line of each reason, with file and line number. ``lost``: what is gone from the log, in words.
    """

    read: int = 0
    scored: int = 0
    unknown: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    bad_values: Counter[str] = field(default_factory=Counter)
    unjudged: Counter[tuple[str, Why]] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add the counts of ``other``, the newer one."""
        self.read += other.read
        self.scored += other.scored
        self.unknown += other.unknown
        self.refused.update(other.refused)
        self.bad_values.update(other.bad_values)
        self.unjudged.update(other.unjudged)
        self.examples |= other.examples
        self.lost += [each for each in other.lost if each not in self.lost]


class Recent:
    """The tallies of the last minutes."""

    def __init__(self, period_s: float) -> None:
        """``period_s``: seconds between two readings; a long period makes the span longer."""
        self.span = max(SPAN_S, SPAN_PERIODS * period_s)
        self._buckets: deque[tuple[float, Tally]] = deque()

    def add(self, at: float, tally: Tally) -> None:
        """Count what happened at ``at`` seconds."""
        if not self._buckets or at - self._buckets[-1][0] >= BUCKET_S:
            self._buckets.append((at, Tally()))
        self._buckets[-1][1].add(tally)
        self._forget(at)

    def sum(self, at: float) -> tuple[Tally, float]:
        """Return the counts of the span before ``at``, and how many seconds ago it begins."""
        self._forget(at)
        total = Tally()
        for _, tally in self._buckets:
            total.add(tally)
        return total, at - self._buckets[0][0] if self._buckets else 0.0

    def _forget(self, at: float) -> None:
        while self._buckets and at - self._buckets[0][0] > self.span:
            self._buckets.popleft()
