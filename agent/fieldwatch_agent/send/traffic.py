"""What is sent and received over a connection: events, the broker's answers, the cloud's acknowledgements.

:class:`.Sender` decides what is sent next, :mod:`.send.answers` how to react to the broker's answers. The cases of an
acknowledgement (:mod:`.delivery`):

=======================================================  ===========================================================
it names                                                 reaction
=======================================================  ===========================================================
another epoch                                            ignored
what this journal never sent                             the file was set back (a restored image): a new epoch
what is waiting                                          it leaves the outbox
nothing new, though we have waited for some seconds      ingest has restarted and tells every device where it stands:
                                                         everything is retransmitted
=======================================================  ===========================================================
"""

from __future__ import annotations

import logging
import sqlite3
import time
from typing import TYPE_CHECKING

from fieldwatch_contract import causes, topics
from fieldwatch_contract.events import Ack

from fieldwatch_agent.send.answers import Then, follows
from fieldwatch_agent.send.packer import Packer
from fieldwatch_agent.send.plan import Hold, Plan
from fieldwatch_agent.send.sender import Sender

if TYPE_CHECKING:
    from pathlib import Path

    from paho.mqtt.reasoncodes import ReasonCode

    from fieldwatch_agent.send.connection import Connection, Timing
    from fieldwatch_agent.send.flight import Flight
    from fieldwatch_agent.send.journal import Journal
    from fieldwatch_agent.send.words import Words

log = logging.getLogger("fieldwatch.uplink")


class Traffic:
    """Belongs to the uplink's thread. Its methods raise :data:`.database.UNUSABLE` where the outbox cannot be used.

    ``application``: the cloud acknowledges, not the broker. ``epoch``: of the outbox when it was last opened. ``idle``:
    nothing waited and nothing was in flight when last looked at.
    """

    def __init__(self, journal: Journal, device: str, application: bool, timing: Timing, words: Words) -> None:
        """The outbox is opened by :meth:`open`."""
        self.application = application
        self.epoch = ""
        self.idle = False
        self.packer = Packer(device)
        self.plan = Plan(timing.no_ack, timing.no_ack_longest)
        self._journal = journal
        self._timing = timing
        self._words = words
        self._hold = Hold(timing.hold)
        self._sender: Sender | None = None

    # ---- the outbox ----

    def open(self) -> None:
        """Open the outbox, unless it is open."""
        if self._sender is None:
            self.restart()
            self._sender = Sender(self._journal.open_outbox(), self.plan, self.packer)
            self.epoch = self._sender.outbox.epoch

    def close(self, error: Exception | None = None) -> None:
        """Close the outbox; ``error``: what made it fail."""
        if self._sender is not None:
            self._journal.close_outbox(self._sender.outbox, error)
            self._sender = None

    def note(self, words: str) -> None:
        """Keep the uplink's status text for ``status``."""
        self._active.outbox.note(words)

    @property
    def path(self) -> Path:
        """The journal's file."""
        return self._journal.path

    @property
    def _active(self) -> Sender:
        if self._sender is None:
            raise sqlite3.ProgrammingError("the outbox is closed")
        return self._sender

    # ---- connections ----

    def restart(self) -> None:
        """Begin on a new connection with everything that waits."""
        self.plan.restart(self.packer.suspects)

    def lost(self, flight: Flight) -> None:
        """Note the first message that the broker had not confirmed when a connection ended: it may be what ended it.

        It is suspected once connections go on ending without a confirmation, and as long as they end at it. One that
        ended with nothing under way tells nothing of it.
        """
        self.packer.slow_start(barren=len(flight) > 0 and not flight.carried)
        first = set(next((numbers for _, numbers in flight.messages.values() if numbers), ()))
        suspects = self.packer.suspects
        if first:
            self.packer.suspects = suspects | first if self.packer.hopeless else suspects & first

    # ---- out ----

    def send(self, link: Connection, where: str) -> None:
        """Retransmit what is overdue, and fill the window; a tenth of it is reserved for alerts."""
        sender, now = self._active, time.monotonic()
        # while the broker still takes what was sent before, on a slow link, the cloud cannot have it
        if self.application and not len(link.flight) and self.plan.overdue(now):
            self._words.fail(
                f"{where}: the cloud does not acknowledge; is ingest running, and may this device read its topic 'ack'?"
            )
            self.plan.rewind()
        if self._hold.active(now):
            return
        self.plan.readmit(now)
        window = 1 if sender.probing else link.flight.window
        spare = 1 if sender.probing else max(1, window - max(1, window // 10))
        floor = sender.outbox.floor()
        sender.begin()
        while len(link.flight) < window:
            parcel = sender.next(len(link.flight) < spare)
            if sender.refusal:
                self._words.fail(sender.refusal)
                sender.refusal = ""
            if parcel is None or not link.publish(parcel, floor):
                break
            sender.sent(parcel, time.monotonic())
        self.idle = not len(link.flight) and sender.idle

    # ---- in ----

    def answered(self, channel: str, numbers: tuple[int, ...], code: ReasonCode, where: str) -> None:
        """Process the broker's answer to a message; one without ``numbers`` was not an event."""
        sender = self._active
        refused = f"{where} refuses {', '.join(sorted({channel, *self.packer.closed}))}: {causes.code(code)}"
        shrinks = code.value == causes.TOO_LARGE and self.packer.shrink()
        other_way = bool(numbers) and self.packer.other_way(channel)
        then = follows(code.value, len(numbers), self.application, shrinks, other_way)
        if then is Then.OTHER_WAY and channel not in self.packer.closed:
            log.warning("%s; its events are sent %s", refused, "one by one" if channel == topics.BULK else "in batches")
        elif code.is_failure and then is not Then.OTHER_WAY:
            self._words.fail(refused)
        if not numbers:
            return
        if then is Then.TAKEN:
            self._hold.passed()
            self.plan.accepted()
            sender.probing = False
            if not self.application:
                self._settle(sender, Ack(epoch=sender.outbox.epoch, upto=0, also=sorted(numbers)))
        elif then is Then.PAUSE_FOR_INGEST:
            self._words.fail(f"{where}: nobody takes our events; is ingest running?")
            self._pause(sender, self._timing.no_ack)
        elif then is Then.SMALLER:
            self.plan.rewind()
        elif then is Then.OTHER_WAY:
            self.packer.closed.add(channel)
            sender.probing = True
            self.plan.rewind()
        elif then is Then.LONG_PAUSE:
            self.packer.closed.clear()
            self._pause(sender, self._timing.hold_longest)
        elif then is Then.ONE_BY_ONE:
            self.packer.rows = 1
            sender.probing = True
            self.plan.rewind()
        else:
            sender.refused(numbers, f"refused by the broker: {causes.code(code)}")

    def acknowledged(self, payload: bytes) -> bool:
        """Process an acknowledgement; return False if it names what we never sent, so that a new epoch was drawn."""
        sender = self._active
        try:
            ack = Ack.model_validate_json(payload)
        except ValueError:
            log.warning("an invalid acknowledgement was ignored: %r", payload[:80])
            return True
        if ack.epoch != sender.outbox.epoch:
            return True
        if sender.outbox.foreign(ack):
            sender.outbox.renew()
            self.epoch = sender.outbox.epoch
            return False
        since = self.plan.waiting_since()
        late = since is not None and time.monotonic() - since > min(5.0, self._timing.no_ack / 2)
        if not self._settle(sender, ack) and late:
            self.plan.rewind()
        return True

    def _settle(self, sender: Sender, ack: Ack) -> int:
        news = sender.acknowledged(ack, time.monotonic())
        if news:
            if not self.plan.excluding:
                self._words.well(time.monotonic())
            self.idle = sender.idle
        return news

    def _pause(self, sender: Sender, longest: float) -> None:
        """Pause sending, then probe with one message."""
        self._hold.begin(time.monotonic(), longest, again=sender.probing)
        sender.probing = True
        self.plan.rewind()
