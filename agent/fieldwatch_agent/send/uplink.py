"""The uplink: carries the outbox to the cloud over MQTT 5, for as long as it takes.

What it promises
    * A message leaves the outbox only when the cloud acknowledges it by number (or, with ``acknowledge = "puback"``,
      when the broker takes it, which is weaker). Until then it is sent again: after every reconnection, and when no
      acknowledgement came for a while.
    * An acknowledgement of what this journal never sent is not believed: the file was set back, as by a restored
      disk image, so it takes a new epoch and sends all that waits.
    * Alerts overtake: a new alert is the next message out, whatever backlog is being sent.
    * Live events go out one a message as they come; a backlog goes out in compressed batches.
    * Nothing the broker or the network does ends the thread or fills the memory: at most a window of messages is under
      way, at most :data:`UNACKED_LIMIT` events wait for their acknowledgement.

Why so
    The MQTT library's own reconnection has no jitter, sends everything queued at once whatever the broker's limits
    are, and dies silently of an exception in a callback. So a client lives for one connection; callbacks do nothing
    but put what happened into the inbox of one thread, which owns outbox, window and clock.
    MQTT 5 because only there a broker says that it has refused a message; under 3.1.1 it would be lost in silence.

:class:`Plan` holds the rules and does no I/O; :class:`Uplink` does the I/O.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import random
import secrets
import socket
import sqlite3
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fieldwatch_contract import clock, topics
from fieldwatch_contract.events import BATCH_CONTENT_TYPE, BULK_LIMIT, CONTENT_TYPE, Ack, DeviceState, envelope

from fieldwatch_agent.send.journal import Message, Outbox

if TYPE_CHECKING:
    from paho.mqtt.client import Client
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

    from fieldwatch_agent.config import MqttConfig

log = logging.getLogger("fieldwatch.uplink")

WINDOW = 100
"""Messages under way that the broker has not confirmed; less where the broker says so."""
UNACKED_LIMIT = 5_000
"""Events sent and not acknowledged by the cloud; further ones wait in the outbox."""
LIVE_LIMIT = 20
"""With more events than this waiting, they go in batches."""
ALERTS_AT_ONCE = 20
"""Alerts read at once; each may be as long as a message can be."""
BATCH_ROWS = 400
BATCH_BYTES = 4 * 1024 * 1024
"""Largest batch before compression."""
HEADER_BYTES = 1024
"""What topic and properties of a message may take of the broker's maximum packet size."""
SMALLEST_LIMIT = 1024
OVERTAKEN = 5.0
"""Several ingest workers may store messages in another order, but not this many seconds apart."""

NO_SUBSCRIBERS = 0x10
TOO_LARGE = 0x95
NOT_AUTHORISED = 0x87
QUOTA = 0x97
TAKEN_OVER = 0x8E
RETAIN_UNSUPPORTED = 0x9A
_HOLD_CODES = frozenset({NOT_AUTHORISED, QUOTA})
_ADVICE = {
    0x80: "the connection was lost",
    0x84: "it does not speak MQTT 5; use a broker that does",
    0x85: "the device id is not accepted as client id",
    0x86: "check mqtt.username and the password file",
    NOT_AUTHORISED: "check the device's certificate or password and the broker's access rules",
    TAKEN_OVER: "another client has connected with this device's id",
    QUOTA: "it will be tried again later",
    TOO_LARGE: "the message is sent again in smaller parts",
}


@dataclass(frozen=True)
class Timing:
    """Seconds. Delays are drawn at random below the given bound, so that a fleet does not come back at once."""

    start_delay: float = 2.0
    first_retry: float = 4.0
    last_retry: float = 120.0
    stable: float = 60.0
    connect: float = 10.0
    keepalive: int = 30
    will_delay: int = 30
    session_expiry: int = 86_400
    stall: float = 60.0
    retained_ack: float = 0.3
    no_ack: float = 30.0
    no_ack_longest: float = 600.0
    hold: float = 5.0
    hold_longest: float = 600.0
    poll: float = 1.0
    goodbye: float = 2.0


class Plan:
    """What is sent next and what is sent again: two cursors over the outbox and the numbers that are under way.

    1. The urgent cursor moves over alerts, the other over everything else; both only forward.
    2. A number is unacknowledged from being sent until an acknowledgement names it.
    3. Where the oldest of them has waited longer than the retry time, where one sent :data:`OVERTAKEN` seconds later
       was acknowledged before it, and after a reconnection, both cursors go back to the start: the outbox then holds
       exactly what the cloud has not stored. The retry time doubles from ``no_ack`` to ``no_ack_longest`` and falls
       back with the first acknowledgement that has news.
    4. A number that the broker refuses for what it is, not for who we are, is set aside until the next connection.
    """

    def __init__(self, no_ack: float, no_ack_longest: float) -> None:
        self._no_ack = no_ack
        self._longest = no_ack_longest
        self._retry = no_ack
        self._newest_acked = 0.0
        self._unacked: dict[int, float] = {}
        self._aside: set[int] = set()
        self.cursor = 0
        self.urgent = 0

    @property
    def unacked(self) -> int:
        """Events sent and not acknowledged."""
        return len(self._unacked)

    def restart(self) -> None:
        """Begin from the oldest number: a new connection."""
        self._aside.clear()
        self.rewind()

    def rewind(self) -> None:
        """Send again whatever the outbox still holds."""
        self._unacked.clear()
        self.cursor = self.urgent = 0

    def sent(self, numbers: Iterable[int], now: float) -> None:
        """Note numbers as under way."""
        for number in numbers:
            self._unacked.setdefault(number, now)

    def set_aside(self, numbers: Iterable[int]) -> None:
        """Leave these out until the next connection."""
        for number in numbers:
            self._aside.add(number)
            self._unacked.pop(number, None)

    def wanted(self, messages: Iterable[Message]) -> list[Message]:
        """Leave out what was set aside and what is under way."""
        return [message for message in messages if message.seq not in self._aside and message.seq not in self._unacked]

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


@dataclass
class _Link:
    """One connection."""

    client: Client
    connection: str
    started: float
    connected: float | None = None
    ready: float | None = None
    window: int = WINDOW
    progress: float = 0.0

    def __post_init__(self) -> None:
        self.under_way: dict[int, tuple[str, tuple[int, ...]]] = {}


class Uplink:
    """The thread that sends. All public members may be used from any thread."""

    def __init__(self, config: MqttConfig, device: str, outbox_path: Path, timing: Timing | None = None) -> None:
        """``outbox_path``: the journal, which exists. Nothing happens before :meth:`start`."""
        self._config = config
        self._device = device
        self._path = outbox_path
        self._timing = timing or Timing()
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._plan = Plan(self._timing.no_ack, self._timing.no_ack_longest)
        self._backoff = Backoff(self._timing.first_retry, self._timing.last_retry, self._timing.stable)
        self._outbox: Outbox | None = None
        self._link: _Link | None = None
        self._retain = True
        self._limit = BULK_LIMIT
        self._rows = BATCH_ROWS // 2
        self._hold = self._timing.hold
        self._held_until = 0.0
        self._probing = False
        self._next_attempt = 0.0
        self._error: str | None = None
        self._idle = False
        self._applied: frozenset[int] = frozenset()

    @property
    def idle(self) -> bool:
        """Whether everything in the outbox was acknowledged when last looked at."""
        return self._idle

    @property
    def connected(self) -> bool:
        """Whether the broker has let us in."""
        link = self._link
        return link is not None and link.connected is not None

    @property
    def error(self) -> str | None:
        """What keeps messages from arriving, in words; None while all is well."""
        return self._error

    def start(self) -> None:
        """Start the thread."""
        self._next_attempt = time.monotonic() + random.uniform(0, self._timing.start_delay)  # noqa: S311
        self._thread = threading.Thread(target=self._run, name="uplink", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Tell that the outbox has something new."""
        self._inbox.put(None)

    def stop(self) -> None:
        """Say goodbye to the broker and end the thread; what was not acknowledged stays in the outbox."""
        self._stop.set()
        self._inbox.put(None)
        if self._thread is not None:
            self._thread.join(self._timing.goodbye + self._timing.connect)

    # ---- the thread ----

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if self._outbox is None:
                    self._outbox = Outbox(self._path)
                    self._applied = frozenset()
                    self._plan.restart()
                self._step(self._outbox)
            except sqlite3.Error as error:
                # An acknowledgement finds no room, for example: trying at once would send the whole outbox again
                self._fail(f"{self._path}: the outbox cannot be read or cleared: {error}; is the disk full?")
                self._close_outbox()
                self._stop.wait(self._timing.hold)
            except Exception as error:
                log.exception("uplink: unexpected; the connection is made anew")
                self._drop(f"unexpected: {type(error).__name__}: {error}")
        self._goodbye()
        self._close_outbox()

    def _step(self, outbox: Outbox) -> None:
        link, now = self._link, time.monotonic()
        if link is None:
            if now >= self._next_attempt:
                self._connect(outbox)
        elif link.connected is None:
            if now - link.started > self._timing.connect:
                self._drop(f"{self._where()}: no answer to our connection within {self._timing.connect:.0f} s")
        elif link.under_way and now - link.progress > self._timing.stall:
            self._drop(f"{self._where()}: nothing was confirmed for {self._timing.stall:.0f} s")
        elif link.ready is not None and now >= link.ready:
            if self._config.acknowledge == "application" and self._plan.overdue(now):
                log.warning("no acknowledgement from the cloud: sending again from the oldest event")
                self._fail("the cloud does not acknowledge; is ingest running?")
                self._plan.rewind()
            if now >= self._held_until:
                self._send(link, outbox)
        self._wait()

    def _wait(self) -> None:
        """Sleep until something happens or is due, and take in everything that has happened."""
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

    def _connect(self, outbox: Outbox) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._device,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        link = _Link(client, secrets.token_hex(8), time.monotonic())
        try:
            if self._config.tls:
                client.tls_set_context(self._tls())
            if self._config.username is not None:
                client.username_pw_set(self._config.username, self._password())
        except (OSError, ValueError) as error:
            self._link = None
            self._lost(0.0, str(error))
            return
        client.connect_timeout = self._timing.connect
        client.max_inflight_messages_set(0)  # the window is ours
        client.max_queued_messages_set(2 * WINDOW)
        will = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
        will.WillDelayInterval = self._timing.will_delay
        will.ContentType = "application/json"
        will.PayloadFormatIndicator = 1
        client.will_set(
            topics.topic(self._device, "state"),
            self._state(outbox, link, "offline", "connection lost"),
            qos=1,
            retain=self._retain,
            properties=will,
        )
        self._listen(client, link)
        wishes = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        wishes.SessionExpiryInterval = self._timing.session_expiry
        self._link = link
        try:
            client.connect(
                self._config.host,
                self._config.port,
                keepalive=self._timing.keepalive,
                clean_start=False,  # a clean start would end the old session and publish its will
                properties=wishes,
            )
        except (OSError, ValueError) as error:
            self._link = None
            self._lost(0.0, f"{self._where()}: {_network(error)}")
            return
        client.loop_start()

    def _listen(self, client: Client, link: _Link) -> None:
        """Turn every callback into an entry of the inbox: they run in the library's thread and must not fail there."""

        def later(action: Callable[..., None], *arguments: Any) -> None:
            self._inbox.put(lambda: action(link, *arguments) if self._link is link else None)

        client.on_connect = lambda _client, _data, _flags, code, properties: later(self._on_connect, code, properties)
        client.on_disconnect = lambda _client, _data, _flags, code, _properties: later(self._on_disconnect, code)
        client.on_subscribe = lambda _client, _data, _mid, codes, _properties: later(self._on_subscribe, codes)
        client.on_publish = lambda _client, _data, mid, code, _properties: later(self._on_publish, mid, code)
        client.on_message = lambda _client, _data, message: later(self._on_message, bytes(message.payload))

    def _on_connect(self, link: _Link, code: ReasonCode, properties: Properties) -> None:
        if code.is_failure:
            if code.value == RETAIN_UNSUPPORTED:
                self._retain = False
            self._drop(f"{self._where()} refuses the connection: {_explain(code)}")
            return
        now = time.monotonic()
        link.connected = link.progress = now
        link.window = max(1, min(WINDOW, getattr(properties, "ReceiveMaximum", WINDOW)))
        if not getattr(properties, "RetainAvailable", 1):
            self._retain = False
        packet = getattr(properties, "MaximumPacketSize", None)
        if packet is not None:
            self._limit = max(SMALLEST_LIMIT, min(self._limit, packet - HEADER_BYTES))
        log.info("connected to %s, window %d, messages up to %d bytes", self._where(), link.window, self._limit)
        self._error = None
        self._plan.restart()
        self._publish_state(link, "online", "")
        if self._config.acknowledge == "application":
            link.client.subscribe(topics.topic(self._device, "ack"), qos=1)
        else:
            link.ready = now

    def _on_subscribe(self, link: _Link, codes: list[ReasonCode]) -> None:
        if refused := [code for code in codes if code.is_failure]:
            self._drop(f"{self._where()} refuses the subscription to our acknowledgements: {_explain(refused[0])}")
            return
        link.ready = time.monotonic() + self._timing.retained_ack

    def _on_disconnect(self, link: _Link, code: ReasonCode) -> None:
        if code.value == TOO_LARGE:
            self._shrink()
        self._drop(f"{self._where()}: {_explain(code)}" if code.is_failure else f"{self._where()}: disconnected")

    def _drop(self, reason: str) -> None:
        """End the connection, whatever state it is in, and plan the next one."""
        link, self._link = self._link, None
        if link is not None:
            _discard(link.client)
        held = time.monotonic() - link.connected if link is not None and link.connected is not None else 0.0
        self._lost(held, reason)

    def _lost(self, held: float, reason: str) -> None:
        delay = self._backoff.failed(held)
        self._next_attempt = time.monotonic() + delay
        self._fail(reason)
        log.info("next connection in %.1f s", delay)

    def _goodbye(self) -> None:
        """Tell the cloud that we leave on purpose, wait briefly for the broker to take it, and disconnect."""
        link = self._link
        if link is None:
            return
        try:
            if link.connected is not None:
                info = self._publish_state(link, "offline", "shutdown")
                info.wait_for_publish(self._timing.goodbye)
                link.client.disconnect()
                end = time.monotonic() + self._timing.goodbye
                while link.client.socket() is not None and time.monotonic() < end:
                    time.sleep(0.01)  # cut earlier, the broker would publish our will
        except (ValueError, RuntimeError, sqlite3.Error) as error:
            log.debug("goodbye: %s", error)
        self._link = None
        _discard(link.client)

    def _publish_state(self, link: _Link, status: str, reason: str) -> Any:
        assert self._outbox is not None
        payload = self._state(self._outbox, link, status, reason)
        properties = _properties("application/json", None, None)
        topic = topics.topic(self._device, "state")
        info = link.client.publish(topic, payload, qos=1, retain=self._retain, properties=properties)
        link.under_way[info.mid] = ("state", ())
        return info

    def _state(self, outbox: Outbox, link: _Link, status: Any, reason: str) -> bytes:
        since = clock.iso(clock.now())
        state = DeviceState(status=status, since=since, connection=link.connection, epoch=outbox.epoch, reason=reason)
        return state.model_dump_json().encode()

    def _tls(self) -> ssl.SSLContext:
        config = self._config
        try:
            context = ssl.create_default_context(cafile=str(config.ca) if config.ca is not None else None)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"mqtt.ca {config.ca} cannot be used: {error}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if config.certificate is not None:
            try:
                context.load_cert_chain(config.certificate, config.key)
            except (OSError, ssl.SSLError) as error:
                raise ValueError(f"mqtt.certificate {config.certificate} cannot be used: {error}") from error
        return context

    def _password(self) -> str | None:
        path = self._config.password_file
        if path is None:
            return None
        try:
            return path.read_text(encoding="utf-8").split("\n", 1)[0].rstrip("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"mqtt.password_file {path} cannot be read: {error}") from error

    def _where(self) -> str:
        return f"broker {self._config.host}:{self._config.port}"

    # ---- sending ----

    def _send(self, link: _Link, outbox: Outbox) -> None:
        """Fill the window: alerts first, then the rest; look for new alerts after each message."""
        waiting: list[Message] = []
        spare = 1 if self._probing else max(1, link.window - max(1, link.window // 10))
        floor = outbox.floor()
        while self._send_urgent(link, outbox, floor):
            if len(link.under_way) >= spare or self._plan.unacked >= UNACKED_LIMIT:
                break
            if not waiting:
                page = outbox.others(self._plan.cursor, BATCH_ROWS)
                if not page:
                    break
                waiting = self._plan.wanted(page)
                if not waiting:
                    self._plan.cursor = page[-1].seq
                    continue
            bulk = len(waiting) > LIVE_LIMIT or self._probing
            taken = waiting[: self._rows] if bulk else waiting[:1]
            count = self._publish(link, taken, floor)
            if count is None:
                break
            self._plan.cursor = max(self._plan.cursor, taken[count - 1].seq)
            waiting = waiting[count:]
        self._idle = self._plan.unacked == 0 and not link.under_way and not outbox.pending(0, 1)

    def _send_urgent(self, link: _Link, outbox: Outbox, floor: int) -> bool:
        """Send new alerts, one a message, and tell whether none is left."""
        window = 1 if self._probing else link.window
        while page := outbox.urgent(self._plan.urgent, max(1, min(ALERTS_AT_ONCE, window - len(link.under_way)))):
            for message in page:
                if len(link.under_way) >= window:
                    return False
                if self._plan.wanted([message]) and self._publish(link, [message], floor) is None:
                    return False
                self._plan.urgent = message.seq
        return True

    def _publish(self, link: _Link, messages: list[Message], floor: int) -> int | None:
        """Publish the first of ``messages`` that fit in one MQTT message.

        Returns how many were dealt with, or None where the client takes no more.
        """
        assert self._outbox is not None
        built = self._build(self._outbox.epoch, messages)
        if built is None:
            number = messages[0].seq
            self._fail(f"event {number} ({messages[0].event}) is larger than the broker takes ({self._limit} bytes)")
            self._plan.set_aside([number])
            return 1
        channel, payload, count = built
        bulk = channel == "bulk"
        properties = _properties(BATCH_CONTENT_TYPE if bulk else CONTENT_TYPE, floor, "zstd" if bulk else None)
        self._outbox.sending(messages[count - 1].seq)
        info = link.client.publish(topics.topic(self._device, channel), payload, qos=1, properties=properties)
        if info.rc != 0:
            return None  # not taken, or the connection is going: it stays in the outbox
        numbers = tuple(message.seq for message in messages[:count])
        now = time.monotonic()
        if not link.under_way:
            link.progress = now
        link.under_way[info.mid] = (channel, numbers)
        self._plan.sent(numbers, now)
        return count

    def _build(self, epoch: str, messages: list[Message]) -> tuple[str, bytes, int] | None:
        """Return channel, payload and number of events: as many as fit, None where not even the first does."""
        events = [self._envelope(epoch, message) for message in messages]
        if len(events) == 1 and len(events[0]) <= self._limit:
            self._rows = min(BATCH_ROWS, 2 * self._rows)
            return f"evt/{messages[0].event}", events[0], 1
        count = len(events)
        while count:
            text = b"[" + b",".join(events[:count]) + b"]"
            payload = _zstd(text) if len(text) <= BATCH_BYTES else None
            if payload is not None and len(payload) <= self._limit:
                if count == len(events) and 3 * len(payload) < self._limit:
                    self._rows = min(BATCH_ROWS, 2 * self._rows)
                return "bulk", payload, count
            count //= 2
            self._rows = max(1, count)
        first = messages[0]
        if first.event == "alert" and (bare := _without_evidence(first.data)) is not None:
            log.warning("alert %d is sent without its evidence: it is larger than the broker takes", first.seq)
            return self._build(epoch, [Message(first.seq, first.event, first.time, bare)])
        return None

    def _envelope(self, epoch: str, message: Message) -> bytes:
        return envelope(self._device, epoch, message.seq, message.event, message.time, message.data)

    def _shrink(self) -> None:
        self._limit = max(SMALLEST_LIMIT, self._limit // 2)

    # ---- answers ----

    def _on_publish(self, link: _Link, mid: int, code: ReasonCode) -> None:
        channel, numbers = link.under_way.pop(mid, ("", ()))
        link.progress = time.monotonic()
        if numbers and code.value == NO_SUBSCRIBERS and self._config.acknowledge == "application":
            self._fail(f"{self._where()}: nobody takes our events; is ingest running?")
            self._hold_back(self._timing.no_ack)
            return
        if not code.is_failure:
            if numbers:
                self._hold, self._probing = self._timing.hold, False
                if self._config.acknowledge == "puback":
                    self._acknowledge(Ack(epoch=self._epoch, upto=0, also=sorted(numbers)))
            return
        self._fail(f"{self._where()} refuses {channel}: {_explain(code)}")
        if not numbers:
            return
        if code.value == TOO_LARGE and self._limit > SMALLEST_LIMIT:
            self._shrink()
            self._plan.rewind()
        elif code.value in _HOLD_CODES:
            self._hold_back(self._timing.hold_longest)
        elif len(numbers) > 1:
            self._rows = 1
            self._probing = True
            self._plan.rewind()
        else:
            self._plan.set_aside(numbers)

    def _hold_back(self, longest: float) -> None:
        """Wait before anything is sent again, and then try with one message."""
        if not self._probing or time.monotonic() >= self._held_until:
            self._held_until = time.monotonic() + self._hold
            self._hold = min(2 * self._hold, longest)
        self._probing = True
        self._plan.rewind()

    def _on_message(self, link: _Link, payload: bytes) -> None:
        try:
            ack = Ack.model_validate_json(payload)
        except ValueError:
            log.warning("an acknowledgement that is none was ignored: %r", payload[:80])
            return
        if ack.epoch != self._epoch:
            return
        assert self._outbox is not None
        if self._outbox.foreign(ack.upto, ack.also):
            self._outbox.renew()
            self._applied = frozenset()
            self._drop(
                "the cloud holds more than this journal ever sent: it was set back; all that waits is sent again"
            )
            return
        since = self._plan.waiting_since()
        late = since is not None and time.monotonic() - since > min(5.0, self._timing.no_ack / 2)
        if not self._acknowledge(ack) and late:
            # It has nothing new, and yet it was sent: ingest has come back and tells everybody where it stands.
            self._plan.rewind()

    @property
    def _epoch(self) -> str:
        return self._outbox.epoch if self._outbox is not None else ""

    def _acknowledge(self, ack: Ack) -> bool:
        """Remove what has arrived from the outbox; tell whether any of it was under way."""
        assert self._outbox is not None
        removed = self._outbox.acknowledge(
            ack.epoch, ack.upto, [number for number in ack.also if number not in self._applied]
        )
        self._applied = frozenset(ack.also)
        news = self._plan.acknowledged(ack.upto, ack.also, time.monotonic())
        if removed:
            self._error = None
            self._idle = self._plan.unacked == 0 and not self._outbox.pending(0, 1)
        return news or removed > 0

    def _fail(self, reason: str) -> None:
        if reason != self._error:
            log.warning("%s", reason)
        self._error = reason

    def _close_outbox(self) -> None:
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None


def _properties(content: str, floor: int | None, encoding: str | None) -> Properties:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = content
    pairs = []
    if encoding is None:
        properties.PayloadFormatIndicator = 1
    else:
        pairs.append(("content-encoding", encoding))
    if floor is not None:
        pairs.append((topics.FLOOR, str(floor)))
    if pairs:
        properties.UserProperty = pairs
    return properties


def _discard(client: Client) -> None:
    """Cut the connection and end the library's thread, also where the broker has stopped answering."""
    sock = cast("socket.socket | None", client.socket())
    if sock is not None:
        with contextlib.suppress(OSError, ValueError):  # it is closed already
            sock.shutdown(socket.SHUT_RDWR)
    client.loop_stop()


def _without_evidence(data: str) -> str | None:
    """Return an alert's data without the readings around it, None where there were none."""
    value = json.loads(data)
    if value.pop("evidence", None) is None:
        return None
    return json.dumps(value)


def _explain(code: ReasonCode) -> str:
    advice = _ADVICE.get(code.value)
    text = f"{code.getName().lower()} (0x{code.value:02X})"
    return f"{text}; {advice}" if advice else text


def _network(error: OSError | ValueError) -> str:
    """Say in plain words what a failed connection means."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}; check mqtt.ca and the host name in mqtt.url"
    if isinstance(error, ssl.SSLError):
        return f"no TLS connection: {error.reason or error}; is mqtts:// right for this port?"
    if isinstance(error, socket.gaierror):
        return "this host name is unknown"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there; is the broker running?"
    if isinstance(error, ConnectionResetError):
        return "it cut the connection at once; is mqtt:// or mqtts:// right for this port?"
    if isinstance(error, TimeoutError):
        return "no answer"
    return str(error) or type(error).__name__


def _zstd(text: bytes) -> bytes:
    """Compress a batch. The compressor, a megabyte, is made anew each time: mostly there is no backlog."""
    from zstandard import ZstdCompressor

    return ZstdCompressor(level=3).compress(text)
