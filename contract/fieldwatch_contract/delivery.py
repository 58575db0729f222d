"""The delivery protocol: which events of a device are settled, how they are acknowledged, how many may be in flight.

The device is the sender, the cloud acknowledges. Within an epoch (one incarnation of the device's journal) every event
has a sequence number, assigned once and ascending.

==========================  =========================================================================================
cumulative acknowledgement  ``upto``: this number and every lower one is settled
selective acknowledgement   ``also``: these above ``upto`` are settled too, at most :data:`SELECTIVE_LIMIT`; those that
                            arrived since the last acknowledgement come first (as RFC 2018 requires of TCP)
negative acknowledgement    ``refused``: of all these, the ones that are not stored but in quarantine, at most
                            :data:`REFUSED_LIMIT`; ``upto`` never passes one that did not fit in
low-water mark              ``floor``, sent with each message: the device will never send anything below it again
                            (settled, or evicted with a ``gap``), so the cloud does not wait for anything below it
window                      at most :data:`WINDOW` events in flight (sent, not settled), alerts included; only the
                            lowest waiting number may always be sent
high-water mark             the highest number ever sent: an acknowledgement that names a higher one belongs to another
                            incarnation of the journal (a restored disk image), so the device draws a new epoch
==========================  =========================================================================================

Why delivery cannot deadlock: the lowest waiting number is at the low-water mark and always admitted, and its arrival
advances ``upto`` whatever fits into the selective part. What has just arrived is named first, and the window is not
larger than what can be named, so nothing is retransmitted only because an acknowledgement was too small.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from fieldwatch_contract.events import Ack

WINDOW = 5_000
"""Most events in flight; further ones wait in the outbox."""
SELECTIVE_LIMIT = WINDOW
"""Most numbers above ``upto`` in one acknowledgement."""
REFUSED_LIMIT = 1_000
"""Most refused numbers in one acknowledgement."""


@dataclass(frozen=True)
class Settled:
    """What has arrived of one epoch: everything up to ``upto``, and the numbers in ``beyond``, ascending."""

    upto: int = 0
    beyond: tuple[int, ...] = ()

    def __contains__(self, number: int) -> bool:
        return number <= self.upto or number in self.beyond

    def add(self, numbers: Iterable[int], floor: int | None) -> Settled:
        """Return what is settled after ``numbers`` arrived; ``floor`` is the device's low-water mark, None = unknown.

        >>> Settled(3, (6,)).add([4, 8], None)
        Settled(upto=4, beyond=(6, 8))
        >>> Settled(3, (6,)).add([4, 8], 6)
        Settled(upto=6, beyond=(8,))
        """
        upto = self.upto if floor is None else max(self.upto, floor - 1)
        beyond = sorted({number for number in (*self.beyond, *numbers) if number > upto})
        closed = 0
        for number in beyond:
            if number != upto + 1:
                break
            upto = number
            closed += 1
        return Settled(upto, tuple(beyond[closed:]))


@dataclass(frozen=True)
class Receipt:
    """What the cloud must acknowledge to a device: ``arrived`` since the last time, ``refused`` of all that is settled.

    ``refused`` holds only numbers at or above the device's low-water mark; the device no longer has lower ones.
    """

    epoch: str
    settled: Settled
    arrived: frozenset[int] = frozenset()
    refused: frozenset[int] = frozenset()

    def then(self, later: Receipt) -> Receipt:
        """Merge this receipt, which was not sent, with a later one of the same epoch."""
        return replace(later, arrived=self.arrived | later.arrived)

    def ack(self, selective: int = SELECTIVE_LIMIT, negative: int = REFUSED_LIMIT) -> Ack:
        """Return it as one acknowledgement within both limits.

        >>> Receipt("e", Settled(4, (6, 7, 9)), arrived=frozenset([9])).ack(selective=2)
        Ack(epoch='e', upto=4, also=[9, 6], refused=[])
        """
        refused = self._first(self.refused, negative)
        unnamed = self.refused.difference(refused)
        upto = min(self.settled.upto, min(unnamed) - 1) if unnamed else self.settled.upto
        also = self._first((number for number in self.settled.beyond if number not in unnamed), selective)
        return Ack(epoch=self.epoch, upto=upto, also=also, refused=refused)

    def _first(self, numbers: Iterable[int], limit: int) -> list[int]:
        return sorted(numbers, key=lambda number: (number not in self.arrived, number))[:limit]


def foreign(ack: Ack, sent: int) -> bool:
    """Tell whether an acknowledgement of our epoch names what we never sent; ``sent`` is the high-water mark."""
    return max(ack.upto, *ack.also, 0) > sent


def admits(under_way: Collection[int], lowest: int | None, window: int = WINDOW) -> bool:
    """Tell whether the sender may send: the window has room, or the lowest waiting number is not in flight.

    In the second case it may send only from ``lowest`` on.

    >>> admits({7, 8}, 3, window=2), admits({3, 8}, 3, window=2)
    (True, False)
    """
    return len(under_way) < window or (lowest is not None and lowest not in under_way)
