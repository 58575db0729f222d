"""The sender: outbox, plan and packer together say what goes out next, and take in what was acknowledged.

It knows nothing of MQTT, so that a simulator can stand in for broker and cloud.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from fieldwatch_contract.events import Ack

from fieldwatch_agent.send.message import Message
from fieldwatch_agent.send.outbox import Outbox
from fieldwatch_agent.send.packer import BATCH_ROWS, Packer, Parcel
from fieldwatch_agent.send.plan import Plan

LIVE_LIMIT = 20
"""With more events than this waiting, they go in batches."""
ALERTS_AT_ONCE = 20
"""Alerts read at once; each may be as long as a message can be."""

log = logging.getLogger("fieldwatch.uplink")


class Sender:
    """What goes out next. Alerts first, one a message; then the rest, live events one a message, a backlog in batches.

    ``probing``: something was refused, so the next message is a batch of whatever size, sent alone.
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
        """Whether nothing is under way and nothing waits."""
        return self.plan.unacked == 0 and not self.outbox.pending(0, 1)

    def begin(self) -> None:
        """Begin a round: what was read before may have been acknowledged or evicted meanwhile."""
        self._alerts, self._others = [], []

    def next(self, spare: bool) -> Parcel | None:
        """Return the next message, None where nothing may go now; ``spare``: there is room for more than alerts.

        It is the same one until :meth:`sent` is called for it. Numbers that cannot be sent at all are set aside, and
        :attr:`refusal` says so.
        """
        if self._rewinds != self.plan.rewinds:
            self._rewinds = self.plan.rewinds
            self.begin()
        while True:
            messages = self._choose(spare)
            if not messages:
                return None
            parcel = self.packer.pack(self.outbox.epoch, messages)
            if parcel is not None:
                self.outbox.sending(parcel.numbers[-1])
                return parcel
            first = messages[0]
            self.refusal = f"event {first.seq} ({first.event}) is larger than the broker takes"
            self.refused([first.seq], f"larger than the broker takes ({self.packer.limit} bytes)")
            self._forget({first.seq})

    def sent(self, parcel: Parcel, now: float) -> None:
        """Note that a message is under way."""
        numbers = set(parcel.numbers)
        self.plan.sent(parcel.numbers, now)
        self._forget(numbers)

    def refused(self, numbers: Iterable[int], detail: str) -> None:
        """Set events aside that the broker refuses for what they are; those refused too often are given up."""
        if hopeless := self.plan.set_aside(numbers):
            self.outbox.give_up(hopeless, "unsendable", detail)

    def acknowledged(self, ack: Ack, now: float) -> int:
        """Take an acknowledgement of our epoch; return how many messages left the outbox or were under way."""
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

    def _lowest(self) -> list[Message]:
        """Return what may go though the window is full: from the lowest number that waits."""
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
        """Take numbers off what was read, and move each cursor to the last one that was dealt with."""
        while self._alerts and self._alerts[0].seq in numbers:
            self.plan.urgent = self._alerts.pop(0).seq
        gone = 0
        while gone < len(self._others) and self._others[gone].seq in numbers:
            gone += 1
        if gone:
            self.plan.cursor = self._others[gone - 1].seq
            self._others = self._others[gone:]
