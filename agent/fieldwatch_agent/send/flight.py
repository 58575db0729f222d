"""A connection's stage, and what is in flight on it: sent and not yet confirmed by the broker. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

WINDOW = 100
"""Most messages in flight; fewer if the broker's Receive Maximum is lower."""


@dataclass
class Stage:
    """The stage of a connection; times are seconds of the monotonic clock, None: not yet.

    ``phase``: what it waits for, in words. ``connected``: since when the broker has accepted us. ``ready``: from when
    events may be sent.
    """

    started: float
    phase: str = "the name server has not answered"
    connected: float | None = None
    ready: float | None = None

    def held(self, now: float) -> float:
        """Return for how long it has been connected, 0 where it never was."""
        return now - self.connected if self.connected is not None else 0.0


@dataclass
class Flight:
    """Messages in flight, by packet identifier: their channel and the numbers of their events.

    ``progress``: when the broker last confirmed something, or the first message went out. ``carried``: whether it has
    confirmed an event.
    """

    window: int = WINDOW
    progress: float = 0.0
    messages: dict[int, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    carried: bool = False

    def __len__(self) -> int:
        return len(self.messages)

    def limit(self, window: int) -> None:
        """Apply the broker's Receive Maximum."""
        self.window = max(1, min(WINDOW, window))

    def put(self, mid: int, channel: str, numbers: tuple[int, ...], now: float) -> None:
        """Note a message as sent."""
        if not self.messages:
            self.progress = now
        self.messages[mid] = (channel, numbers)

    def take(self, mid: int, now: float) -> tuple[str, tuple[int, ...]]:
        """Remove and return the message that the broker has answered."""
        self.progress = now
        channel, numbers = self.messages.pop(mid, ("", ()))
        self.carried = self.carried or bool(numbers)
        return channel, numbers

    def stalled(self, now: float, patience: float) -> bool:
        """Tell whether the broker has confirmed nothing for too long."""
        return bool(self.messages) and now - self.progress > patience
