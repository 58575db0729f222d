"""What is sent next and what is sent again, and how long to wait after a failure: rules without I/O.

==============================================  ==============================================================
a number is under way                           from being sent until an acknowledgement names it
the window is full (:mod:`.delivery`)           only the lowest number that waits may go
the oldest under way waits longer than the      everything is sent again from the start; the retry time doubles
retry time                                      from ``no_ack`` to ``no_ack_longest``, and falls back with news
one sent :data:`OVERTAKEN` seconds later was    it is lost: everything is sent again
acknowledged before it
a new connection                                everything is sent again: the outbox holds what is not settled
the broker refuses a number for what it is      set aside until the next connection; after :data:`TRIES` given up
==============================================  ==============================================================
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable

from fieldwatch_contract import delivery

from fieldwatch_agent.send.message import Message

OVERTAKEN = 5.0
"""Several ingest workers may store messages in another order, but not this many seconds apart."""
TRIES = 5
"""Connections on which the same event was refused for what it is."""


class Plan:
    """Two cursors over the outbox, ``urgent`` over alerts and ``cursor`` over the rest, and what is under way."""

    def __init__(self, no_ack: float, no_ack_longest: float, window: int = delivery.WINDOW) -> None:
        self._no_ack = no_ack
        self._longest = no_ack_longest
        self._window = window
        self._retry = no_ack
        self._newest_acked = 0.0
        self._unacked: dict[int, float] = {}
        self._aside: set[int] = set()
        self._refusals: Counter[int] = Counter()
        self.cursor = 0
        self.urgent = 0
        self.rewinds = 0

    @property
    def unacked(self) -> int:
        """Events sent and not acknowledged."""
        return len(self._unacked)

    @property
    def open(self) -> bool:
        """Whether the window has room."""
        return len(self._unacked) < self._window

    def restart(self) -> None:
        """Begin from the oldest number: a new connection."""
        self._aside.clear()
        self.rewind()

    def rewind(self) -> None:
        """Send again whatever the outbox still holds."""
        self._unacked.clear()
        self.cursor = self.urgent = 0
        self.rewinds += 1

    def sent(self, numbers: Iterable[int], now: float) -> None:
        """Note numbers as under way."""
        for number in numbers:
            self._unacked.setdefault(number, now)

    def set_aside(self, numbers: Iterable[int]) -> list[int]:
        """Leave these out until the next connection; return those that were refused too often to try again."""
        hopeless = []
        for number in numbers:
            self._aside.add(number)
            self._unacked.pop(number, None)
            self._refusals[number] += 1
            if self._refusals[number] >= TRIES:
                hopeless.append(number)
                del self._refusals[number]
        return hopeless

    def wanted(self, messages: Iterable[Message]) -> list[Message]:
        """Leave out what was set aside and what is under way."""
        return [message for message in messages if message.seq not in self._aside and message.seq not in self._unacked]

    def lowest(self, messages: Iterable[Message]) -> list[Message]:
        """Return what may go though the window is full, of the oldest ``messages``: from the lowest number on."""
        waiting = [message for message in messages if message.seq not in self._aside]
        if not waiting or not delivery.admits(self._unacked.keys(), waiting[0].seq, self._window):
            return []
        return self.wanted(waiting)

    def acknowledged(self, upto: int, also: Collection[int], now: float) -> bool:
        """Take an acknowledgement and tell whether it had news."""
        extra = set(also)
        gone = [number for number in self._unacked if number <= upto or number in extra]
        for number in gone:
            self._newest_acked = max(self._newest_acked, self._unacked.pop(number))
        if gone:
            self._retry = self._no_ack
        return bool(gone)

    def waiting_since(self) -> float | None:
        """When the oldest unacknowledged number was sent."""
        return next(iter(self._unacked.values()), None)  # kept in the order of sending

    def overdue(self, now: float) -> bool:
        """Tell whether it is time to send again, and double the retry time if so."""
        since = self.waiting_since()
        if since is None:
            return False
        if since < self._newest_acked - OVERTAKEN:
            return True  # lost: what was sent after it has arrived
        if now - since < self._retry:
            return False
        self._retry = min(2 * self._retry, self._longest)
        return True


class Backoff:
    """How long to wait before the next attempt: random, with a bound that doubles; forgotten after a stable while."""

    def __init__(self, first: float, last: float, stable: float) -> None:
        self._first = first
        self._last = last
        self._stable = stable
        self._bound = first

    def failed(self, held: float) -> float:
        """Return the delay after a connection that held for ``held`` seconds (0 where none came about)."""
        if held >= self._stable:
            self._bound = self._first
        delay = random.uniform(self._bound / 8, self._bound)  # noqa: S311 (spread, not secrecy)
        self._bound = min(2 * self._bound, self._last)
        return delay


class Hold:
    """A pause after a refusal that concerns us and not one message; it doubles until something passes."""

    def __init__(self, first: float) -> None:
        self._first = first
        self._length = first
        self._until = 0.0

    def active(self, now: float) -> bool:
        """Whether nothing may be sent."""
        return now < self._until

    def begin(self, now: float, longest: float, again: bool) -> None:
        """Begin a pause; ``again``: the try after the last one was refused. Several refusals at once are one."""
        if not again or now >= self._until:
            self._until = now + self._length
            self._length = min(2 * self._length, longest)

    def passed(self) -> None:
        """Note that the broker takes messages."""
        self._length = self._first
