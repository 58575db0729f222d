"""Delivery: which events of a device are settled, how the cloud says so, and how many may be under way.

The device is the sender, the cloud acknowledges. Within an epoch (one incarnation of the device's journal) every event
has a number, given out once and ascending.

==========================  =========================================================================================
cumulative acknowledgement  ``upto``: this number and every lower one is settled
selective acknowledgement   ``also``: these above ``upto`` are settled too, at most :data:`SELECTIVE_LIMIT`; those that
                            have arrived since the last acknowledgement come first (as RFC 2018 asks of TCP)
negative acknowledgement    ``refused``: of all these, the ones that are not stored but lie in quarantine, at most
                            :data:`REFUSED_LIMIT`; ``upto`` never passes one that there was no room to name
low-water mark              ``floor``, told with each message: the device will send nothing below it any more (settled,
                            or given up with a ``gap``), so nothing below it is waited for
window                      at most :data:`WINDOW` events sent and not settled, alerts included; only the lowest number
                            that waits may go whatever is under way
high-water mark             the highest number ever sent: an acknowledgement that names a higher one speaks of another
                            life of the journal (a restored disk image), and the device draws a new epoch
==========================  =========================================================================================

Why delivery cannot stop: the lowest number that waits is at the low-water mark and always admitted, and its arrival
moves ``upto`` whatever the selective part has room for. What has just arrived is named first, and the window is not
larger than what can be named, so nothing is sent again for want of room in an acknowledgement.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from fieldwatch_contract.events import Ack

WINDOW = 5_000
"""Events sent and not settled; further ones wait in the outbox."""
SELECTIVE_LIMIT = WINDOW
"""Numbers beyond ``upto`` that one acknowledgement names."""
REFUSED_LIMIT = 1_000
"""Refused numbers that one acknowledgement names."""


@dataclass(frozen=True)
class Settled:
    """What has arrived of one epoch: everything up to ``upto``, and ``beyond`` it these, ascending."""

    upto: int = 0
    beyond: tuple[int, ...] = ()

    def __contains__(self, number: int) -> bool:
        return number <= self.upto or number in self.beyond

    def add(self, numbers: Iterable[int], floor: int | None) -> Settled:
        """Return what is settled after ``numbers`` have arrived; ``floor`` is the device's low-water mark.

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
    """What the cloud has to tell a device: ``arrived`` since it last acknowledged, ``refused`` of all that is settled.

    ``refused`` are those at or above the device's low-water mark; what lies below it the device has no longer.
    """

    epoch: str
    settled: Settled
    arrived: frozenset[int] = frozenset()
    refused: frozenset[int] = frozenset()

    def then(self, later: Receipt) -> Receipt:
        """Return the receipt that stands for this one, which was not sent, and a later one of the same epoch."""
        return replace(later, arrived=self.arrived | later.arrived)

    def ack(self, selective: int = SELECTIVE_LIMIT, negative: int = REFUSED_LIMIT) -> Ack:
        """Put it into one acknowledgement that keeps both limits.

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
    """Tell whether an acknowledgement of our epoch speaks of what we never sent; ``sent`` is the high-water mark."""
    return max(ack.upto, *ack.also, 0) > sent


def admits(under_way: Collection[int], lowest: int | None, window: int = WINDOW) -> bool:
    """Tell whether the sender may send: there is room in the window, or the lowest number that waits is not under way.

    In the second case it may send from ``lowest`` on, and nothing else.

    >>> admits({7, 8}, 3, window=2), admits({3, 8}, 3, window=2)
    (True, False)
    """
    return len(under_way) < window or (lowest is not None and lowest not in under_way)
