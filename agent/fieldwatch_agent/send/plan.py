"""What is sent next, what is retransmitted, and how long to wait after a failure (backoff): rules without I/O.

==============================================  ==============================================================
a number is in flight                           from being sent until an acknowledgement names it
the window is full (:mod:`.delivery`)           only the lowest waiting number may be sent
the oldest in flight exceeds the                everything is retransmitted; the timeout doubles from ``no_ack``
retransmission timeout                          to ``no_ack_longest``, and is reset when something is acknowledged
one sent :data:`OVERTAKEN` seconds later was    it is lost: everything is retransmitted
acknowledged before it
a new connection                                everything in the outbox (all that is not settled) is sent again
the broker rejects a number for its content     excluded until the next connection or for ``no_ack_longest``, whichever
                                                is shorter; given up after :data:`TRIES`, between which the broker
                                                accepts others: one that rejects all of them is out of order
connections end without a confirmation          what each began with is sent last, when all else is settled
no connection, or one that ended                the next one after a random delay, whose bound doubles
the computer has slept                          the next one within seconds; the bound is the first one again
three that ended within :data:`SHORT` seconds   another client with our id may be ending them
==============================================  ==============================================================
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable

from fieldwatch_contract import delivery

from fieldwatch_agent.send.message import Message

OVERTAKEN = 5.0
"""Seconds. Several ingest workers may store messages out of order, but not by this much."""
SHORT = 10.0
"""Three connections in a row that the broker ends within this many seconds suggest another client with our id."""
TRIES = 5
"""Times that an event is rejected for its content before it is given up."""


class Plan:
    """Two cursors over the outbox, ``urgent`` for alerts and ``cursor`` for the rest, and the numbers in flight.

    ``rewinds`` counts retransmissions, so that others notice them.
    """

    def __init__(self, no_ack: float, no_ack_longest: float, window: int = delivery.WINDOW) -> None:
        self._no_ack = no_ack
        self._longest = no_ack_longest
        self._window = window
        self._retry = no_ack
        self._newest_acked = 0.0
        self._unacked: dict[int, float] = {}
        self._aside: set[int] = set()
        self._aside_until: float | None = None
        self._last: set[int] = set()
        self._refusals: Counter[int] = Counter()
        self._refused: set[int] = set()
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

    def in_flight(self, number: int) -> bool:
        """Whether a number was sent and is not acknowledged."""
        return number in self._unacked

    @property
    def excluding(self) -> bool:
        """Whether something is excluded because the broker rejects it."""
        return bool(self._aside)

    def restart(self, last: Collection[int] = ()) -> None:
        """Start from the oldest number, for a new connection; ``last``: what may be ending the connections."""
        self._aside.clear()
        self._aside_until = None
        self._last = set(last)
        self.rewind()

    def readmit(self, now: float) -> None:
        """Include again what the broker rejected, once it has been excluded for long enough."""
        if self._aside and self._aside_until is None:
            self._aside_until = now + self._longest
        if self._aside_until is not None and now >= self._aside_until:
            self._go_back_to(self._aside)
            self._aside_until = None

    def admit_last(self) -> bool:
        """Include what is sent last, where all else is settled; tell whether there was any."""
        if self._unacked or not self._last:
            return False
        self._go_back_to(self._last)
        return True

    def _go_back_to(self, numbers: set[int]) -> None:
        if numbers:
            self.cursor, self.urgent = min(self.cursor, *numbers) - 1, min(self.urgent, *numbers) - 1
            self.rewinds += 1
        numbers.clear()

    def rewind(self) -> None:
        """Retransmit everything that is still in the outbox."""
        self._unacked.clear()
        self.cursor = self.urgent = 0
        self.rewinds += 1

    def sent(self, numbers: Iterable[int], now: float) -> None:
        """Note numbers as in flight."""
        for number in numbers:
            self._unacked.setdefault(number, now)

    def accepted(self) -> None:
        """Note that the broker accepts an event: what it rejects besides is rejected for what it is."""
        self._refused.clear()

    def set_aside(self, numbers: Iterable[int], *, certain: bool = False) -> list[int]:
        """Exclude these for now; return those that were refused too often to retry.

        ``certain``: it is for what they are, also where the broker has not accepted another event since the last time.
        """
        hopeless = []
        for number in numbers:
            self._aside.add(number)
            self._unacked.pop(number, None)
            if certain or number not in self._refused:
                self._refused.add(number)
                self._refusals[number] += 1
            if self._refusals[number] >= TRIES:
                hopeless.append(number)
                self._aside.discard(number)
                del self._refusals[number]
        return hopeless

    def wanted(self, messages: Iterable[Message]) -> list[Message]:
        """Filter out what is excluded or in flight."""
        return [message for message in self._admitted(messages) if message.seq not in self._unacked]

    def lowest(self, messages: Iterable[Message]) -> list[Message]:
        """Return which of the oldest ``messages`` may be sent although the window is full: the lowest number and on."""
        waiting = self._admitted(messages)
        if not waiting or not delivery.admits(self._unacked.keys(), waiting[0].seq, self._window):
            return []
        return self.wanted(waiting)

    def _admitted(self, messages: Iterable[Message]) -> list[Message]:
        return [message for message in messages if message.seq not in self._aside and message.seq not in self._last]

    def acknowledged(self, upto: int, also: Collection[int], now: float) -> bool:
        """Process an acknowledgement and tell whether it settled anything in flight."""
        extra = set(also)
        gone = [number for number in self._unacked if number <= upto or number in extra]
        if gone:
            self._newest_acked = max(self._newest_acked, max(map(self._unacked.pop, gone)))  # noqa: PLW3301 (in C)
            self._retry = self._no_ack
        return bool(gone)

    def waiting_since(self) -> float | None:
        """When the oldest unacknowledged number was sent."""
        return next(iter(self._unacked.values()), None)  # kept in the order of sending

    def overdue(self, now: float) -> bool:
        """Tell whether it is time to retransmit; doubles the timeout if so."""
        since = self.waiting_since()
        if since is None:
            return False
        if since < self._newest_acked - OVERTAKEN:
            return True  # lost: something sent after it has arrived
        if now - since < self._retry:
            return False
        self._retry = min(2 * self._retry, self._longest)
        return True


class Backoff:
    """Exponential backoff with jitter: random below a bound that doubles; reset by a stable connection."""

    def __init__(self, first: float, last: float, stable: float) -> None:
        self._first = first
        self._last = last
        self._stable = stable
        self._bound = first

    def failed(self, held: float) -> float:
        """Return the delay after a connection that lasted ``held`` seconds (0 where connecting failed)."""
        if held >= self._stable:
            self.forget()
        delay = random.uniform(self._bound / 8, self._bound)  # noqa: S311 (spread, not secrecy)
        self._bound = min(2 * self._bound, self._last)
        return delay

    def forget(self) -> None:
        """Forget the failures so far."""
        self._bound = self._first


class Attempts:
    """When the next connection is ``due`` (monotonic seconds)."""

    def __init__(self, first: float, last: float, stable: float) -> None:
        """The bounds of the delay, and for how long a connection must hold until failures are forgotten."""
        self.due = 0.0
        self._backoff = Backoff(first, last, stable)
        self._short = 0

    def failed(self, now: float, held: float) -> float:
        """Plan the next one after one that held for ``held`` seconds; return the delay."""
        delay = self._backoff.failed(held)
        self.due = now + delay
        return delay

    def afresh(self, now: float, delay: float) -> None:
        """Let the next one come within ``delay`` seconds, and forget failures: what they said holds no longer."""
        self._backoff.forget()
        self.due = min(self.due, now + random.uniform(0, delay))  # noqa: S311

    def cut_short(self, held: float | None) -> bool:
        """Note how long a connection that the broker ended had held (None: never); tell whether a twin may end ours."""
        self._short = self._short + 1 if held is not None and held < SHORT else 0
        return self._short >= 3


class Hold:
    """A pause after the broker refused us rather than one message; it doubles until a message is accepted."""

    def __init__(self, first: float) -> None:
        self._first = first
        self._length = first
        self._until = 0.0

    def active(self, now: float) -> bool:
        """Whether sending is paused."""
        return now < self._until

    def begin(self, now: float, longest: float, again: bool) -> None:
        """Begin a pause; ``again``: the probe after the last one was refused. Simultaneous refusals count once."""
        if not again or now >= self._until:
            self._until = now + self._length
            self._length = min(2 * self._length, longest)

    def passed(self) -> None:
        """Note that the broker accepts messages."""
        self._length = self._first
