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
    * The cloud shows why a device is online or offline (:data:`STARTED` and the other reasons), also when the agent's
      main loop hangs while this thread is alive.

How
    One thread owns outbox, window and clock; events of a :class:`.Connection` reach it through an inbox queue. What is
    sent next is decided by :class:`.Sender`. MQTT 5, because only there does a broker report that it refused a message;
    under 3.1.1 it would be lost silently.
"""

from __future__ import annotations

import logging
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from fieldwatch_contract import clock
from fieldwatch_contract.events import Ack, DeviceState

from fieldwatch_agent.send import causes
from fieldwatch_agent.send.connection import Connection, Timing
from fieldwatch_agent.send.packer import Packer
from fieldwatch_agent.send.plan import Backoff, Hold, Plan
from fieldwatch_agent.send.sender import Sender

if TYPE_CHECKING:
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

    from fieldwatch_agent.config import MqttConfig
    from fieldwatch_agent.send.journal import Journal

STARTED, CRASHED, RECONNECTED = "started", "started after a crash or power loss", "reconnected"
STALLED, STOPPED, LOST = "stalled", "stopped", "connection lost"
"""Reasons of the retained ``state``: why the device is online or offline."""

SHORT = 10.0
"""Three connections in a row that the broker ends within this many seconds suggest another client with our id."""
NO_SUBSCRIBERS = 0x10
RETAIN_UNSUPPORTED = 0x9A
_HOLD_CODES = frozenset({causes.NOT_AUTHORISED, causes.QUOTA})

log = logging.getLogger("fieldwatch.uplink")


class Uplink:
    """The thread that sends. All public members may be used from any thread."""

    def __init__(self, config: MqttConfig, device: str, journal: Journal, timing: Timing | None = None) -> None:
        """Does nothing before :meth:`start`."""
        self._config = config
        self._device = device
        self._journal = journal
        self._timing = timing or Timing()
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._wanted = True
        self._thread: threading.Thread | None = None
        self._plan = Plan(self._timing.no_ack, self._timing.no_ack_longest)
        self._packer = Packer(device)
        self._backoff = Backoff(self._timing.first_retry, self._timing.last_retry, self._timing.stable)
        self._hold = Hold(self._timing.hold)
        self._watch = Watch(self._timing.stalled)
        self._words = Words(self._timing.note, self._timing.stable)
        self._sender: Sender | None = None
        self._link: Connection | None = None
        self._opener: threading.Thread | None = None
        self._retain = True
        self._reason = CRASHED if journal.crashed else STARTED
        self._short = 0
        self._next_attempt = 0.0
        self._idle = False

    @property
    def idle(self) -> bool:
        """Whether the outbox was fully acknowledged when last checked."""
        return self._idle

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted our connection."""
        link = self._link
        return link is not None and link.connected is not None

    @property
    def error(self) -> str | None:
        """What keeps messages from being delivered, in words; None while all is well."""
        return self._words.error

    def start(self) -> None:
        """Start the thread."""
        self._next_attempt = time.monotonic() + random.uniform(0, self._timing.start_delay)  # noqa: S311
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Signal that the outbox has something new."""
        self._inbox.put(None)

    def beat(self) -> None:
        """Heartbeat of the main loop; once the first one came, their absence is reported to the cloud."""
        self._watch.beat()

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
                if self._sender is None:
                    self._plan.restart()
                    self._sender = Sender(self._journal.open_outbox(), self._plan, self._packer)
                self._step(self._sender)
            except sqlite3.ProgrammingError:
                self._close_outbox(None)  # the journal is repairing its file
                self._drop("the journal was damaged and has been repaired")
            except sqlite3.Error as error:
                # For example, no room to apply an acknowledgement: an immediate retry would resend the whole outbox
                self._fail(f"{self._journal.path}: the outbox cannot be read or cleared: {error}; is the disk full?")
                self._close_outbox(error)
                self._stop.wait(self._timing.hold)
            except Exception as error:
                log.exception("uplink: unexpected error; reconnecting")
                self._drop(f"unexpected: {type(error).__name__}: {error}")
        self._goodbye()
        self._close_outbox(None)

    def _step(self, sender: Sender) -> None:
        link, now = self._link, time.monotonic()
        if link is None:
            if now >= self._next_attempt:
                self._connect(sender)
        elif link.connected is None:
            if now - link.started > self._timing.connect:
                self._drop(f"{self._where()}: {link.phase} within {self._timing.connect:.0f} s")
        elif link.under_way and now - link.progress > self._timing.stall:
            self._drop(f"{self._where()}: nothing was confirmed for {self._timing.stall:.0f} s")
        elif link.ready is not None and now >= link.ready:
            if self._config.acknowledge == "application" and self._plan.overdue(now):
                self._fail(
                    "the cloud does not acknowledge; is ingest running, and may this device read its topic 'ack'?"
                )
                self._plan.rewind()
            if not self._hold.active(now):
                self._send(link, sender)
        if link is not None and link.connected is not None and self._watch.turned(now):
            self._publish_state(link, "online", STALLED if self._watch.silent else self._reason)
        if (words := self._words.due(now, self.connected, self._idle)) is not None:
            sender.outbox.note(words)
        self._wait()

    def _wait(self) -> None:
        """Sleep until something happens or is due, and process everything in the inbox."""
        link, now = self._link, time.monotonic()
        timeout = self._timing.poll
        if link is None:
            timeout = min(timeout, max(self._next_attempt - now, 0.0))
        elif link.ready is not None and link.ready > now:
            timeout = min(timeout, link.ready - now)
        try:
            happened = self._inbox.get(timeout=timeout)
            while True:
                if happened is not None:
                    happened()
                happened = self._inbox.get_nowait()
        except queue.Empty:
            return

    # ---- connection ----

    def _connect(self, sender: Sender) -> None:
        if self._opener is not None and self._opener.is_alive():
            self._next_attempt = time.monotonic() + self._timing.poll  # the last attempt is still resolving the name
            return
        link = Connection(self._config, self._device, self._timing, self._inbox.put)
        self._link = link
        try:
            link.open(self, self._state(sender, link, "offline", LOST), self._retain)
        except ValueError as error:
            self._drop(str(error))
            return
        self._opener = link.opener

    def on_failed(self, link: Connection, reason: str) -> None:
        """Plan the next attempt: the connection failed."""
        if link is self._link:
            self._drop(f"{self._where()}: {reason}")

    def on_connect(self, link: Connection, code: ReasonCode, properties: Properties) -> None:
        """Take over the broker's limits, publish that we are online, and subscribe to our acknowledgements."""
        if link is not self._link or self._sender is None:
            return
        if code.is_failure:
            if code.value == RETAIN_UNSUPPORTED:
                self._retain = False
            self._drop(f"{self._where()} refuses the connection: {causes.code(code)}")
            return
        link.confirm(getattr(properties, "ReceiveMaximum", link.window), time.monotonic())
        if not getattr(properties, "RetainAvailable", 1):
            self._retain = False
        if (packet := getattr(properties, "MaximumPacketSize", None)) is not None:
            self._packer.packet_limit(packet)
        limits = f"window {link.window}, messages up to {self._packer.limit} bytes"
        log.info("connected to %s, %s", self._where(), limits)
        self._words.connected()
        self._plan.restart()
        self._publish_state(link, "online", STALLED if self._watch.silent else self._reason)
        if self._config.acknowledge == "application":
            link.subscribe()
        else:
            link.ready = link.connected

    def on_subscribe(self, link: Connection, codes: list[ReasonCode]) -> None:
        """Begin to send after a short delay: a retained acknowledgement may save much of it."""
        if link is not self._link:
            return
        if refused := [code for code in codes if code.is_failure]:
            reason = causes.code(refused[0])
            self._drop(f"{self._where()} refuses the subscription to our acknowledgements: {reason}")
            return
        link.ready = time.monotonic() + self._timing.retained_ack

    def on_disconnect(self, link: Connection, code: ReasonCode) -> None:
        """Plan the next connection, and find out why this one ended."""
        if link is not self._link:
            return
        if code.value == causes.TOO_LARGE:
            self._packer.shrink()
        short = link.connected is not None and time.monotonic() - link.connected < SHORT
        self._short = self._short + 1 if short else 0
        why = link.why_lost(code)
        if code.value == causes.TAKEN_OVER:
            self._words.stick()
        elif self._short >= 3:
            self._words.stick()
            why = f"{why}, three times within seconds; does another computer run with this device's id?"
        self._drop(f"{self._where()}: {why}")

    def _drop(self, reason: str) -> None:
        """Close the connection, whatever state it is in, and plan the next one (backoff)."""
        link, self._link = self._link, None
        held = 0.0
        if link is not None:
            link.discard()
            if link.connected is not None:
                held = time.monotonic() - link.connected
                self._reason = RECONNECTED
        delay = self._backoff.failed(held)
        self._next_attempt = time.monotonic() + delay
        self._fail(reason)
        log.info("next connection in %.1f s", delay)

    def _goodbye(self) -> None:
        """Publish that we stop on purpose, wait briefly for the broker to confirm it, and disconnect."""
        link, self._link = self._link, None
        if link is None:
            return
        try:
            if link.connected is not None and self._wanted:
                info = self._publish_state(link, "offline", STOPPED)
                info.wait_for_publish(self._timing.goodbye)
                link.leave()
        except (ValueError, RuntimeError, sqlite3.Error) as error:
            log.debug("goodbye: %s", error)
        link.discard()

    def _publish_state(self, link: Connection, status: Literal["online", "offline"], reason: str) -> Any:
        assert self._sender is not None
        return link.publish_state(self._state(self._sender, link, status, reason), self._retain)

    def _state(self, sender: Sender, link: Connection, status: Literal["online", "offline"], reason: str) -> bytes:
        since = clock.iso(clock.now())
        epoch = sender.outbox.epoch
        state = DeviceState(status=status, since=since, connection=link.id, epoch=epoch, reason=reason)
        return state.model_dump_json().encode()

    def _where(self) -> str:
        return f"broker {self._config.host}:{self._config.port}"

    # ---- sending and answers ----

    def _send(self, link: Connection, sender: Sender) -> None:
        """Fill the window; a tenth of it is reserved for alerts."""
        window = 1 if sender.probing else link.window
        spare = 1 if sender.probing else max(1, window - max(1, window // 10))
        floor = sender.outbox.floor()
        sender.begin()
        while len(link.under_way) < window:
            parcel = sender.next(len(link.under_way) < spare)
            if sender.refusal:
                self._fail(sender.refusal)
                sender.refusal = ""
            if parcel is None or not link.publish(parcel, floor):
                break
            sender.sent(parcel, time.monotonic())
        self._idle = not link.under_way and sender.idle

    def on_publish(self, link: Connection, mid: int, code: ReasonCode) -> None:
        """Process the broker's answer to a message."""
        sender = self._sender
        if link is not self._link or sender is None:
            return
        channel, numbers = link.under_way.pop(mid, ("", ()))
        link.progress = time.monotonic()
        if numbers and code.value == NO_SUBSCRIBERS and self._config.acknowledge == "application":
            self._fail(f"{self._where()}: nobody takes our events; is ingest running?")
            self._hold_back(sender, self._timing.no_ack)
            return
        if not code.is_failure:
            if numbers:
                self._hold.passed()
                sender.probing = False
                if self._config.acknowledge == "puback":
                    self._acknowledged(sender, Ack(epoch=sender.outbox.epoch, upto=0, also=sorted(numbers)))
            return
        self._fail(f"{self._where()} refuses {channel}: {causes.code(code)}")
        if not numbers:
            return
        if code.value == causes.TOO_LARGE and self._packer.shrink():
            self._plan.rewind()
        elif code.value in _HOLD_CODES:
            self._hold_back(sender, self._timing.hold_longest)
        elif len(numbers) > 1:
            self._packer.rows = 1
            sender.probing = True
            self._plan.rewind()
        else:
            sender.refused(numbers, f"refused by the broker: {causes.code(code)}")

    def _hold_back(self, sender: Sender, longest: float) -> None:
        """Pause sending, then probe with one message."""
        self._hold.begin(time.monotonic(), longest, again=sender.probing)
        sender.probing = True
        self._plan.rewind()

    def on_message(self, link: Connection, payload: bytes) -> None:
        """Process an acknowledgement."""
        sender = self._sender
        if link is not self._link or sender is None:
            return
        try:
            ack = Ack.model_validate_json(payload)
        except ValueError:
            log.warning("an acknowledgement that is none was ignored: %r", payload[:80])
            return
        if ack.epoch != sender.outbox.epoch:
            return
        if sender.outbox.foreign(ack):
            sender.outbox.renew()
            self._drop(
                "the cloud holds more than this journal ever sent: it was set back; all that waits is sent again"
            )
            return
        since = self._plan.waiting_since()
        late = since is not None and time.monotonic() - since > min(5.0, self._timing.no_ack / 2)
        if not self._acknowledged(sender, ack) and late:
            # It brings nothing new, yet it was sent: ingest has restarted and is telling every device where it stands.
            self._plan.rewind()

    def _acknowledged(self, sender: Sender, ack: Ack) -> int:
        news = sender.acknowledged(ack, time.monotonic())
        if news:
            self._words.arrived()
            self._idle = sender.idle
        return news

    def _fail(self, reason: str) -> None:
        if reason != self._words.error:
            log.warning("%s", reason)
        self._words.error = reason

    def _close_outbox(self, error: sqlite3.Error | None) -> None:
        if self._sender is not None:
            self._journal.close_outbox(self._sender.outbox, error)
            self._sender = None


class Watch:
    """Watchdog of the main loop: :meth:`beat` is its heartbeat."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._last: float | None = None
        self.silent = False

    def beat(self) -> None:
        """Note that the loop is alive."""
        self._last = time.monotonic()

    def turned(self, now: float) -> bool:
        """Tell whether the loop has stalled or recovered since the last call."""
        silent = self._last is not None and now - self._last > self._patience
        if silent == self.silent:
            return False
        self.silent = silent
        if silent:
            log.error("the main loop has made no progress for %.0f s", self._patience)
        return True


class Words:
    """The uplink's status text for ``status``: ``error`` is what keeps messages from being delivered.

    An error that :meth:`stick` marked persists over reconnections and acknowledgements until a connection has been
    stable for a while: with another client under our id, everything works between two session takeovers.
    """

    def __init__(self, hold: float, stable: float) -> None:
        self._hold = hold
        self._stable = stable
        self._stuck = 0.0
        self._now = self._noted = ""
        self._since = 0.0
        self.error: str | None = None

    def stick(self) -> None:
        """Make the current error persist for a while."""
        self._stuck = time.monotonic() + self._stable

    def connected(self) -> None:
        """Note that the broker has accepted our connection."""
        if time.monotonic() >= self._stuck:
            self.error = None

    arrived = connected

    def due(self, now: float, connected: bool, idle: bool) -> str | None:
        """Return the text for ``status`` once it has been stable (debounced); None where there is nothing to write."""
        if self._stuck and now >= self._stuck and connected and idle:
            self._stuck, self.error = 0.0, None
        words = self.error or ("" if idle else "connected, sending what waits" if connected else "connecting")
        if words != self._now:
            self._now, self._since = words, now
        if words == self._noted or now - self._since < self._hold:
            return None
        self._noted = words
        return words
