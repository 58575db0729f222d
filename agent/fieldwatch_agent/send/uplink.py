"""The uplink: delivers the outbox to the cloud over MQTT 5, however long that takes (store and forward).

What it promises
    * A message leaves the outbox only when the cloud has settled it (or, with ``acknowledge = "puback"``, when the
      broker has taken it, which is weaker). Until then it is retransmitted: after every reconnection, and when no
      acknowledgement arrives for a while.
    * An acknowledgement of what this journal never sent is not believed: the file was set back, for example by a
      restored disk image, so it draws a new epoch and sends everything that is waiting.
    * Alerts have priority: a new alert is the next message sent, whatever the backlog.
    * Live events are sent one per message as they occur; a backlog is sent in compressed batches.
    * Nothing the broker or the network does ends the thread or exhausts memory: at most a window of messages is in
      flight, at most :data:`.delivery.WINDOW` events are unacknowledged.
    * The cloud shows why a device is online or offline (:mod:`.send.presence`), also when the agent's main loop hangs
      while this thread is alive.

How
    One thread maintains a :class:`.Connection`, whose events reach it through an inbox queue; :class:`.Traffic` sends
    and receives over it. MQTT 5, because only there does a broker report that it refused a message; under 3.1.1 it
    would be lost silently.
"""

from __future__ import annotations

import logging
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from fieldwatch_contract import causes

from fieldwatch_agent import system
from fieldwatch_agent.send.connection import CHANNELS, Connection, Dialer, Timing
from fieldwatch_agent.send.database import UNUSABLE, is_damage, question
from fieldwatch_agent.send.mailbox import Letterbox, Mailbox
from fieldwatch_agent.send.plan import Attempts
from fieldwatch_agent.send.presence import LOST, STOPPED, Presence
from fieldwatch_agent.send.traffic import Traffic
from fieldwatch_agent.send.words import Words

if TYPE_CHECKING:
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

    from fieldwatch_agent.config import MqttConfig
    from fieldwatch_agent.send.journal import Journal

RETAIN_UNSUPPORTED = 0x9A

log = logging.getLogger("fieldwatch.uplink")


class Uplink:
    """The thread that sends. All public members may be used from any thread. ``verdicts``: what people said of alerts,
    and ``commands``: what they ask for; both to be taken by the service."""

    def __init__(self, config: MqttConfig, device: str, journal: Journal, timing: Timing | None = None) -> None:
        """Does nothing before :meth:`start`."""
        self._timing = timing or Timing()
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._wanted = True
        self._thread: threading.Thread | None = None
        self._attempts = Attempts(self._timing.first_retry, self._timing.last_retry, self._timing.stable)
        self._presence = Presence(journal.crashed, self._timing.stalled)
        self._words = Words(self._timing.note, self._timing.stable)
        self._traffic = Traffic(journal, device, config.acknowledge == "application", self._timing, self._words)
        self._dialer = Dialer(config, device, self._timing, self._inbox.put)
        self._link: Connection | None = None
        self.verdicts = Mailbox()
        self.commands = Letterbox()

    @property
    def idle(self) -> bool:
        """Whether the outbox was fully acknowledged when last checked."""
        return self._traffic.idle

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted our connection."""
        link = self._link
        return link is not None and link.stage.connected is not None

    @property
    def error(self) -> str | None:
        """What keeps messages from being delivered, in words; None while all is well."""
        return self._words.error

    def start(self) -> None:
        """Start the thread."""
        self._attempts.due = time.monotonic() + random.uniform(0, self._timing.start_delay)  # noqa: S311
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Signal that the outbox has something new."""
        self._inbox.put(None)

    def beat(self) -> None:
        """Heartbeat of the main loop; once the first one came, their absence is reported to the cloud."""
        self._presence.beat(system.awake())

    def woken(self) -> None:
        """Signal that this computer has slept: the broker has given up our connection, and does not tell us so."""
        self._inbox.put(self._afresh)

    def stop(self, wanted: bool = True) -> None:
        """Disconnect from the broker and end the thread; what is unacknowledged stays in the outbox.

        Not ``wanted``: the agent is failing. Then no clean disconnect is made, and the broker publishes our last will.
        """
        self._wanted = wanted
        self._stop.set()
        self._inbox.put(None)
        if self._thread is not None:
            self._thread.join(self._timing.goodbye + self._timing.connect)

    # ---- the thread ----

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._traffic.open()
                self._step()
                self._wait()
            except sqlite3.ProgrammingError:
                self._traffic.close()
                self._drop("the journal was damaged and has been repaired")
            except UNUSABLE as error:
                # For example, no room to apply an acknowledgement: an immediate retry would resend the whole outbox
                look = "the agent repairs it" if is_damage(error) else question(error, "is the disk full?")
                self._words.fail(f"{self._traffic.path}: the outbox cannot be read or cleared: {error}; {look}")
                self._traffic.close(error)
                self._stop.wait(self._timing.hold)
            except Exception as error:
                log.exception("uplink: unexpected error; reconnecting")
                self._drop(f"unexpected: {type(error).__name__}: {error}")
                self._stop.wait(self._timing.poll)  # whatever it is, it may come again at once
        self._goodbye()
        self._traffic.close()

    def _step(self) -> None:
        """Do what is due: connect, give up a connection that does not answer, send, tell how we are."""
        link, now = self._link, time.monotonic()
        if link is None:
            if now >= self._attempts.due:
                self._connect()
        elif link.stage.connected is None:
            if now - link.stage.started > self._timing.connect:
                self._drop(f"{self._dialer.where}: {link.stage.phase} within {self._timing.connect:.0f} s")
        elif link.flight.stalled(now, self._timing.stall):
            self._drop(f"{self._dialer.where}: nothing was confirmed for {self._timing.stall:.0f} s")
        elif link.stage.ready is None:
            if now - link.stage.connected > self._timing.stall:
                self._drop(f"{self._dialer.where}: no answer to our subscriptions for {self._timing.stall:.0f} s")
        elif now >= link.stage.ready:
            self._traffic.send(link, self._dialer.where)
        if self._presence.turned(system.awake()) and link is not None and link.stage.connected is not None:
            self._say_online(link)
        if (words := self._words.due(now, self.connected, self._traffic.idle)) is not None:
            self._traffic.note(words)

    def _wait(self) -> None:
        """Sleep until something happens or is due, and process everything in the inbox."""
        link, now = self._link, time.monotonic()
        timeout = self._timing.poll
        if link is None:
            timeout = min(timeout, max(self._attempts.due - now, 0.0))
        elif link.stage.ready is not None and link.stage.ready > now:
            timeout = min(timeout, link.stage.ready - now)
        try:
            happened = self._inbox.get(timeout=timeout)
            while True:
                if happened is not None:
                    happened()
                happened = self._inbox.get_nowait()
        except queue.Empty:
            return

    # ---- the connection ----

    def _connect(self) -> None:
        link = self._dialer.dial()
        if link is None:
            self._attempts.due = time.monotonic() + self._timing.poll  # the last attempt is still resolving the name
            return
        self._link = link
        try:
            will = self._presence.offline(link.id, self._traffic.epoch, LOST)
            link.open(self, will, self._presence.retain)
        except ValueError as error:
            self._drop(str(error))

    def on_failed(self, link: Connection, reason: str) -> None:
        """Plan the next attempt: the connection failed."""
        if link is self._link:
            self._drop(f"{self._dialer.where}: {reason}")

    def on_connect(self, link: Connection, code: ReasonCode, properties: Properties) -> None:
        """Take over the broker's limits, publish that we are online, and subscribe to our acknowledgements."""
        if link is not self._link:
            return
        if code.is_failure:
            if code.value == RETAIN_UNSUPPORTED:
                self._presence.retain = False
            self._drop(f"{self._dialer.where} refuses the connection: {causes.code(code)}")
            return
        now = time.monotonic()
        link.stage.connected = now
        link.flight.limit(getattr(properties, "ReceiveMaximum", link.flight.window))
        if not getattr(properties, "RetainAvailable", 1):
            self._presence.retain = False
        packer = self._traffic.packer
        if (packet := getattr(properties, "MaximumPacketSize", None)) is not None:
            packer.packet_limit(packet)
        limits = f"window {link.flight.window}, messages up to {packer.limit} bytes"
        log.info("connected to %s, %s", self._dialer.where, limits)
        self._words.well(now)
        self._traffic.restart()
        self._say_online(link)
        if self._traffic.application:
            link.subscribe()
        else:
            link.stage.ready = now

    def on_subscribe(self, link: Connection, codes: list[ReasonCode]) -> None:
        """Begin to send after a short delay: a retained acknowledgement may save much of it.

        Delivery needs nothing else, and a broker with access rules of before there was more refuses the rest.
        """
        if link is not self._link:
            return
        answers = dict(zip(CHANNELS, codes, strict=False))  # what a broker leaves out it has not granted
        refused = {
            channel: causes.code(answers[channel]) if channel in answers else "it did not answer"
            for channel in CHANNELS
            if channel not in answers or answers[channel].is_failure
        }
        if "ack" in refused:
            self._drop(f"{self._dialer.where} refuses the subscription to our acknowledgements: {refused['ack']}")
            return
        why = refused.get("verdicts", "")
        self.verdicts.closed = why and f"{self._dialer.where} refuses the subscription to 'verdicts': {why}"
        if "command" in refused:
            log.warning("%s: no command reaches this device: it may not read 'command'", self._dialer.where)
        link.stage.ready = time.monotonic() + self._timing.retained_ack

    def on_publish(self, link: Connection, mid: int, code: ReasonCode) -> None:
        """Process the broker's answer to a message."""
        if link is self._link:
            channel, numbers = link.flight.take(mid, time.monotonic())
            self._traffic.answered(channel, numbers, code, self._dialer.where)

    def on_message(self, link: Connection, topic: str, payload: bytes) -> None:
        """Process an acknowledgement, or keep verdicts and commands for the service."""
        if link is not self._link:
            return
        if topic.endswith("/verdicts"):
            self.verdicts.put(payload)
        elif topic.endswith("/command"):
            self.commands.put(payload)
        elif not self._traffic.acknowledged(payload):
            self._drop(
                "the cloud holds more than this journal ever sent: it was set back; everything waiting is sent again"
            )

    def on_disconnect(self, link: Connection, code: ReasonCode) -> None:
        """Plan the next connection, and find out why this one ended."""
        if link is not self._link:
            return
        if code.value == causes.TOO_LARGE:
            self._traffic.packer.shrink()
        now, why = time.monotonic(), link.why_lost(code)
        again = self._attempts.cut_short(link.stage.held(now) if self.connected else None)
        if again and code.value != causes.TAKEN_OVER:
            why = f"{why}, three times within seconds; is the line bad, or is this device's id used twice?"
        if again or code.value == causes.TAKEN_OVER:
            self._words.stick(now)
        self._drop(f"{self._dialer.where}: {why}")

    def _drop(self, reason: str) -> None:
        """Close the connection, whatever state it is in, and plan the next one (backoff)."""
        link, self._link = self._link, None
        now, held = time.monotonic(), 0.0
        if link is not None:
            link.discard()
            if link.stage.connected is not None:
                held = link.stage.held(now)
                self._presence.lost()
                self._traffic.lost(link.flight)
        delay = self._attempts.failed(now, held)
        self._words.fail(reason)
        log.info("next connection in %.1f s", delay)

    def _afresh(self) -> None:
        """Connect anew."""
        if self._link is not None:
            self._drop("this computer has slept")
        self._attempts.afresh(time.monotonic(), self._timing.start_delay)

    def _goodbye(self) -> None:
        """Publish that we stop on purpose, wait briefly for the broker to confirm it, and disconnect."""
        link, self._link = self._link, None
        if link is None:
            return
        try:
            if link.stage.connected is not None and self._wanted:
                state = self._presence.offline(link.id, self._traffic.epoch, STOPPED)
                link.publish_state(state, self._presence.retain).wait_for_publish(self._timing.goodbye)
                link.leave()
        except (ValueError, RuntimeError) as error:
            log.debug("goodbye: %s", error)
        link.discard()

    def _say_online(self, link: Connection) -> None:
        link.publish_state(self._presence.online(link.id, self._traffic.epoch), self._presence.retain)
