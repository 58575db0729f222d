"""What changed since an alert began, in numbers: the table of the alert page. No I/O.

An alert opens after several readings in a row above the level, so it began at the first of those. What a sensor was
before is the median of its readings before that; what it became is the reading since then that lies farthest from that
median, whatever it was earlier in the window: a dip an hour before the fault is no sign of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from fieldwatch_contract.clock import parse_iso
from fieldwatch_contract.fields import Evidence


@dataclass(frozen=True)
class Change:
    """One sensor. ``far`` at ``at`` (µs): farthest from ``before`` since the alert began, ``scales`` from it.

    ``before`` is None where the window has no reading from before, and then the training mean stands in for it;
    ``low`` to ``high``: lowest and highest reading in training, None where the agent did not tell them.
    """

    sensor: str
    before: float | None
    far: float
    at: int
    newest: float
    scales: float | None
    low: float | None
    high: float | None

    @property
    def outside(self) -> bool:
        """Whether it went where it never was in training."""
        return self.low is not None and self.high is not None and not self.low <= self.far <= self.high

    @property
    def words(self) -> str:
        """The direction in a word."""
        if self.scales is None or abs(self.scales) < 0.5:
            return "hardly moved"
        return "rose" if self.scales > 0 else "fell"


def began(evidence: Evidence, opened_at: int, threshold: float) -> int:
    """Return when the readings above the threshold began that made the alert open at ``opened_at``, both µs."""
    times = [parse_iso(time) for time in evidence.times]
    start = opened_at
    for ts, score in zip(reversed(times), reversed(evidence.scores), strict=False):
        if ts > opened_at:
            continue
        if score is None or score < threshold:
            break
        start = ts
    return start


def changes(evidence: Evidence, opened_at: int, threshold: float) -> list[Change]:
    """Return what each named sensor did, in the order of the evidence; one without a reading since then is left out."""
    times = [parse_iso(time) for time in evidence.times]
    start = began(evidence, opened_at, threshold)
    found = []
    for index, sensor in enumerate(evidence.sensors[: len(evidence.values)]):
        known = [(ts, value) for ts, value in zip(times, evidence.values[index], strict=False) if value is not None]
        earlier = [value for ts, value in known if ts < start]
        since = [(ts, value) for ts, value in known if ts >= start]
        if not since:
            continue
        before = median(earlier) if earlier else None
        usual = before if before is not None else _at(evidence.mean, index)
        at, far = since[-1] if usual is None else max(since, key=lambda one: abs(one[1] - usual))
        scale = _at(evidence.scale, index)
        scales = (far - usual) / scale if usual is not None and scale else None
        low, high = _at(evidence.low, index), _at(evidence.high, index)
        found.append(Change(sensor, before, far, at, since[-1][1], scales, low, high))
    return found


def _at(numbers: list[float], index: int) -> float | None:
    return numbers[index] if index < len(numbers) else None
