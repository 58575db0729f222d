"""The sender combines outbox, plan and packer: it decides what is sent next and processes acknowledgements.

It knows nothing about MQTT, so that tests can simulate broker and cloud.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from fieldwatch_contract.events import Ack

from fieldwatch_agent.send.database import Damaged
from fieldwatch_agent.send.message import Message
from fieldwatch_agent.send.outbox import Outbox
from fieldwatch_agent.send.packer import BATCH_ROWS, Packer, Parcel
from fieldwatch_agent.send.plan import Plan

LIVE_LIMIT = 20
"""When more events than this are waiting, they are sent in batches."""
ALERTS_AT_ONCE = 20
"""Alerts read at once; each may be as large as a message can be."""

log = logging.getLogger("fieldwatch.uplink")


class Sender:
    """Decides what is sent next: alerts first, one per message; then live events one per message, a backlog in batches.

    ``probing``: the broker refused something, so the next message, a batch of any size, is sent alone.
    """

    def __init__(self, outbox: Outbox, plan: Plan, packer: Packer) -> None:
        self.outbox = outbox
        self.plan = plan
        self.packer = packer
        self.probing = False
        self.refusal = ""
        self._alerts: list[Message] = []
        self._others: list[Message] = []
        self._rewinds = plan.rewinds
        self._applied: frozenset[int] = frozenset()

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight and nothing is waiting."""
        return self.plan.unacked == 0 and not self.outbox.pending(0, 1)

    def begin(self) -> None:
        """Begin a round: drop what was read before, as it may have been acknowledged or evicted meanwhile."""
        self._alerts, self._others = [], []

    def next(self, spare: bool) -> Parcel | None:
        """Return the next message, None where nothing may be sent now; ``spare``: there is room for more than alerts.

        Returns the same one until :meth:`sent` is called for it. Numbers that cannot be sent at all are excluded, and
        :attr:`refusal` says why. Raises :class:`.Damaged` where something waits that no query finds.
        """
        if self._rewinds != self.plan.rewinds:
            self._rewinds = self.plan.rewinds
            self.begin()
        while True:
            messages = self._choose(spare)
            if not messages:
                if not (spare and (self.plan.admit_last() or self._missed())):
                    return None
                self._rewinds = self.plan.rewinds  # there is more to send now
                self.begin()
                continue
            parcel = self.packer.pack(self.outbox.epoch, messages)
            if parcel is not None:
                self.outbox.sending(parcel.numbers[-1])
                return parcel
            first = messages[0]
            self.refusal = f"event {first.seq} ({first.event}) is larger than the broker takes"
            self.refused([first.seq], f"larger than the broker takes ({self.packer.limit} bytes)", certain=True)
            self._forget({first.seq})

    def sent(self, parcel: Parcel, now: float) -> None:
        """Note that a message is in flight."""
        numbers = set(parcel.numbers)
        self.plan.sent(parcel.numbers, now)
        self.packer.grow(parcel)
        self._forget(numbers)

    def refused(self, numbers: Iterable[int], detail: str, *, certain: bool = False) -> None:
        """Exclude events that the broker rejects because of their content; those rejected too often are given up.

        ``certain``: see :meth:`.Plan.set_aside`.
        """
        if hopeless := self.plan.set_aside(numbers, certain=certain):
            self.outbox.give_up(hopeless, "unsendable", detail)

    def acknowledged(self, ack: Ack, now: float) -> int:
        """Process an acknowledgement of our epoch; return how many messages left the outbox or were in flight."""
        fresh = ack.model_copy(update={"also": [number for number in ack.also if number not in self._applied]})
        removed = self.outbox.acknowledge(fresh)
        self._applied = frozenset(ack.also)
        news = self.plan.acknowledged(ack.upto, ack.also, now)
        return max(removed, int(news))

    def _choose(self, spare: bool) -> list[Message]:
        if not self.plan.open:
            return self._lowest()
        if alert := self._next_alert():
            return [alert]
        if not spare:
            return []
        if not self._others:
            self._others = self._page()
        bulk = len(self._others) > LIVE_LIMIT or self.probing
        return self._others[: self.packer.rows] if bulk else self._others[:1]

    def _missed(self) -> bool:
        """Tell whether something waits that was not found a moment ago. Raises :class:`.Damaged` if it still is not."""
        if self.plan.unacked or not (waiting := self.plan.wanted(self.outbox.pending(0, 1))):
            return False
        if not self._choose(spare=True):
            raise Damaged(f"event {waiting[0].seq} waits in the outbox, and its index does not have it")
        return True

    def _lowest(self) -> list[Message]:
        """Return what may be sent although the window is full: from the lowest waiting number on."""
        if self.plan.in_flight(self.outbox.floor()):
            return []  # the usual case, without reading a page
        waiting = self.plan.lowest(self.outbox.pending(0, self.packer.rows))
        if not waiting:
            return []
        first = waiting[0]
        if first.event == "alert":
            return [first]
        return [message for message in waiting if message.event != "alert"]

    def _next_alert(self) -> Message | None:
        while not self._alerts:
            page = self.outbox.urgent(self.plan.urgent, ALERTS_AT_ONCE)
            if not page:
                return None
            self._alerts = self.plan.wanted(page)
            if not self._alerts:
                self.plan.urgent = page[-1].seq
        return self._alerts[0]

    def _page(self) -> list[Message]:
        while page := self.outbox.others(self.plan.cursor, BATCH_ROWS):
            if waiting := self.plan.wanted(page):
                return waiting
            self.plan.cursor = page[-1].seq
        return []

    def _forget(self, numbers: set[int]) -> None:
        """Drop numbers from what was read, and move each cursor past the last one that was handled."""
        while self._alerts and self._alerts[0].seq in numbers:
            self.plan.urgent = self._alerts.pop(0).seq
        left = (place for place, message in enumerate(self._others) if message.seq not in numbers)
        gone = next(left, len(self._others))
        if gone:
            self.plan.cursor = self._others[gone - 1].seq
            self._others = self._others[gone:]
