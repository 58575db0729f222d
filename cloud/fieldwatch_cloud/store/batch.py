"""What several messages say, ready to be stored in one transaction: plain values, made by :mod:`.ingest.decode`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fieldwatch_contract.commands import ReplyData
from fieldwatch_contract.events import AlertData, DeviceState, HealthEvent

REASON_LIMIT = 500
MAX_INT = 2**53
"""Integers beyond it are exact neither in JSON readers nor in a browser."""


class Refused(NamedTuple):
    """What was refused, and why."""

    topic: str
    reason: str
    payload: bytes


class StateSeen(NamedTuple):
    """A ``state`` message."""

    device: str
    state: DeviceState


class AlertSeen(NamedTuple):
    """An alert's transition."""

    device: str
    data: AlertData


class HealthSeen(NamedTuple):
    """A health report, with its event's place."""

    device: str
    epoch: str
    seq: int
    event: HealthEvent


class ReplySeen(NamedTuple):
    """A device's answer to a command."""

    device: str
    reply: ReplyData


@dataclass
class Batch:
    """The content of several messages, ready to be stored in one transaction.

    ``results``, ``readings`` and ``events`` are rows of the tables of those names without ``received``; ``numbers``
    (all that was delivered), ``aside`` (those of them in quarantine) and ``floors`` (low-water marks) are by
    ``(device, epoch)``.
    """

    results: list[dict[str, Any]] = field(default_factory=list)
    readings: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    alerts: list[AlertSeen] = field(default_factory=list)
    healths: list[HealthSeen] = field(default_factory=list)
    states: list[StateSeen] = field(default_factory=list)
    replies: list[ReplySeen] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    numbers: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    aside: dict[tuple[str, str], set[int]] = field(default_factory=dict)
    floors: dict[tuple[str, str], int] = field(default_factory=dict)

    def __len__(self) -> int:
        seen = len(self.alerts) + len(self.states) + len(self.replies)
        return len(self.results) + len(self.events) + seen + len(self.refused)

    def deliver(self, device: str, epoch: str, seq: int, floor: int | None, aside: bool) -> None:
        """Note that an event was delivered; ``aside``: into quarantine."""
        key = (device, epoch)
        if not aside:
            self.aside.get(key, set()).discard(seq)  # another copy of it was sound
        elif seq not in self.numbers.get(key, ()):
            self.aside.setdefault(key, set()).add(seq)
        self.numbers.setdefault(key, []).append(seq)
        if floor is not None and 0 < floor < MAX_INT:
            self.floors[key] = max(floor, self.floors.get(key, 0))
