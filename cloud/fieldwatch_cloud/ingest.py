"""Ingest: receives from the broker, stores, and only then acknowledges.

What it promises
    * A message is confirmed to the broker, and its events are acknowledged to the device, only after the commit that
      stored them. If ingest is killed at any point, the devices still have everything that is not stored.
    * One bad message never stops the others (poison message): what violates the contract is quarantined while decoding;
      a value that the database rejects is isolated by storing the batch message by message, a bulk event by event.
    * While the store cannot be written (disk full, locked, damaged) nothing is confirmed and nothing is lost; the
      broker's flow control bounds the memory (QoS 0 has none: the surplus is dropped). Only an error about a value is
      blamed on a message: a damaged store must not empty the devices' outboxes.

How
    A client is used for one connection only; its callbacks just put messages into a queue. One thread connects, gathers
    a batch (at most :data:`BATCH_ROWS` rows or :data:`LINGER_S`, so a live event waits no longer than that), stores it,
    confirms it, and publishes acknowledgements as :class:`AckPacer` allows. With a ``group`` any number of processes
    share the subscription: the store does not depend on their order.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from fieldwatch_contract import causes, topics
from fieldwatch_contract.delivery import Receipt
from fieldwatch_contract.events import Ack
from paho.mqtt.client import MQTT_LOG_ERR, Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError, StatementError

from fieldwatch_cloud.decode import Batch, Message, Refused, decode, floor_of, split

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessage
    from paho.mqtt.reasoncodes import ReasonCode

    from fieldwatch_cloud.config import BrokerConfig
    from fieldwatch_cloud.store import Outcome, Store

BATCH_ROWS = 1_000
LINGER_S = 0.05
"""Seconds that a batch waits for further messages."""
RECEIVE_MAXIMUM = 500
"""Unconfirmed messages that the broker may send: this bounds our memory."""
ACK_INTERVAL_S = 1.0
ACK_ROWS = 1_000
"""A device with this many newly stored events is acknowledged at once: its window may be full."""
SESSION_EXPIRY_S = 3_600
CONNECT_S = 10.0
KEEPALIVE_S = 30
FIRST_RETRY_S = 0.5
LAST_RETRY_S = 15.0
STORE_RETRY_S = 1.0
BAD_VALUE = (ValueError, TypeError, OverflowError)
"""What Python raises for a value that cannot be stored."""
KEYS = "broker"
"""The section of the configuration that a remedy names."""
PROTOCOL_ERROR = 0x82
"""MQTT 5's reason code; the library also reports it for a packet that it cannot parse."""

log = logging.getLogger("fieldwatch.ingest")


@dataclass
class Stats:
    """Counters since the start."""

    messages: int = 0
    stored: int = 0
    duplicates: int = 0
    conflicts: int = 0
    refused: int = 0
    dropped: int = 0
    """Messages of QoS 0 beyond what the queue takes."""
    connections: int = 0


class AckPacer:
    """Rate-limits acknowledgements: one per device and second, but at once after an alert or many rows. No I/O.

    Waiting receipts of the same device and epoch are merged into one that names everything that arrived meanwhile.
    """

    def __init__(self, interval: float = ACK_INTERVAL_S, rows: int = ACK_ROWS) -> None:
        self._interval = interval
        self._rows = rows
        self._waiting: dict[tuple[str, str], tuple[Receipt, bool]] = {}
        self._told: dict[tuple[str, str], float] = {}

    def add(self, device: str, receipt: Receipt, urgent: bool) -> None:
        """Add what has arrived from a device."""
        key = (device, receipt.epoch)
        before, was_urgent = self._waiting.get(key, (receipt, False))
        self._waiting[key] = (before.then(receipt), urgent or was_urgent)

    def due(self, now: float) -> list[tuple[str, Ack]]:
        """Return what to publish now."""
        result = []
        for key, (receipt, urgent) in list(self._waiting.items()):
            many = len(receipt.arrived) >= self._rows
            if urgent or many or now - self._told.get(key, -self._interval) >= self._interval:
                del self._waiting[key]
                self._told[key] = now
                result.append((key[0], receipt.ack()))
        return result

    def wait(self, now: float) -> float | None:
        """Return the seconds until something is due; None while nothing waits."""
        if not self._waiting:
            return None
        return max(0.0, min(self._told.get(key, now - self._interval) for key in self._waiting) + self._interval - now)


class _Client(Client):
    """The library's client, except that a message it cannot parse is passed on instead of ending the connection.

    The library rejects packets that a broker may forward (U+FEFF in a property, which MQTT allows) without confirming
    them: the broker would resend such a message on every connection, and no other message would get through.
    """

    on_unreadable: Callable[[Message, int, int], None]
    """Called with the message, its packet identifier and its quality of service."""

    def _handle_publish(self) -> MQTTErrorCode:
        try:
            return super()._handle_publish()
        except MalformedPacket as error:
            packet, qos = bytes(self._in_packet["packet"]), self._in_packet["command"] >> 1 & 3
            end = 2 + int.from_bytes(packet[:2], "big")
            if len(packet) < end + 2 or qos > 1:
                raise  # without its identifier it cannot be confirmed
            topic = packet[2:end].decode(errors="replace")
            message = Message(topic, packet, broken=f"a packet that cannot be read: {error}")
            self.on_unreadable(message, int.from_bytes(packet[end : end + 2], "big"), qos)
            return MQTTErrorCode.MQTT_ERR_SUCCESS


@dataclass(frozen=True)
class _Received:
    link: _Link
    message: Message
    mid: int
    qos: int


@dataclass(eq=False)
class _Link:
    """One connection."""

    client: _Client
    started: float
    connected: float | None = None
    greeted: bool = False
    lost: str | None = None
    heard: str = ""
    """The last error of the library's socket, which has the other side's TLS alert in it."""
    broken: bool = False
    """Whether it ended because we could not read what the broker sent."""


class Ingest:
    """The ingest thread. Public members may be used from any thread."""

    def __init__(self, store: Store, config: BrokerConfig, url: str | None = None) -> None:
        """``url``: the broker's, where it is not ``config.url`` (an embedded one)."""
        self._store = store
        self._config = config
        parts = urlsplit(url or config.url)
        self._host = parts.hostname or ""
        self._secure = parts.scheme == "mqtts"
        self._port = parts.port or (8883 if self._secure else 1883)
        self._queue: queue.SimpleQueue[_Received | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._link: _Link | None = None
        self._next_attempt = 0.0
        self._clean = False
        self._retry = FIRST_RETRY_S
        self._pacer = AckPacer()
        self._error: str | None = None
        self._unstored: str | None = None
        self._turned = time.monotonic()
        self.stats = Stats()

    @property
    def connected(self) -> bool:
        """Whether we are subscribed."""
        link = self._link
        return link is not None and link.connected is not None and link.lost is None

    @property
    def error(self) -> str | None:
        """What keeps events from being stored, in words; None while all is well."""
        return self._error

    @property
    def idle(self) -> float | None:
        """Seconds since the thread's last iteration, of which there is about one per second; None if not running."""
        running = self._thread is not None and self._thread.is_alive()
        return time.monotonic() - self._turned if running else None

    def start(self) -> None:
        """Start the thread."""
        self._turned = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)
        self._thread.start()

    def wait_connected(self, seconds: float) -> bool:
        """Wait until we are subscribed, at most ``seconds``, and tell whether we are."""
        end = time.monotonic() + seconds
        while not self.connected and time.monotonic() < end and not self._stop.is_set():
            time.sleep(0.02)
        return self.connected

    def stop(self) -> None:
        """Store what has been received, acknowledge it, disconnect and end the thread."""
        self._stop.set()
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(CONNECT_S + STORE_RETRY_S)

    # ---- the thread ----

    def _run(self) -> None:
        while not self._stop.is_set():
            self._turned = time.monotonic()
            try:
                self._tend()
                self._take(self._gather())
                self._tell()
            except Exception as error:
                log.exception("ingest: unexpected error; reconnecting")
                self._drop(f"unexpected: {type(error).__name__}: {error}")
                self._stop.wait(STORE_RETRY_S)
        self._leave()

    def _gather(self) -> list[_Received]:
        """Wait for messages and return one batch."""
        now = time.monotonic()
        due = self._pacer.wait(now) if self._link is not None else max(0.0, self._next_attempt - now)
        try:
            first = self._queue.get(timeout=1.0 if due is None else min(1.0, due))
        except queue.Empty:
            return []
        taken: list[_Received] = []
        rows, end = 0, time.monotonic() + LINGER_S
        item: _Received | None = first
        while item is not None:  # None: wake-up for something else
            taken.append(item)
            # an estimate without unpacking: a compressed event takes about 40 bytes
            rows += 1 + len(item.message.payload) // 40 if item.message.topic.endswith("/bulk") else 1
            if rows >= BATCH_ROWS or self._stop.is_set():
                return taken
            try:
                item = self._queue.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
        return taken

    def _take(self, received: list[_Received]) -> None:
        """Store messages, then confirm them; retries while the store cannot be written."""
        if not received:
            return
        messages = [item.message for item in received]
        self._unstored = None
        while True:
            try:
                self._store_all(messages)
                break
            except SQLAlchemyError as error:
                self._turned = time.monotonic()
                self._fail(f"the store cannot be written: {getattr(error, 'orig', None) or error}; retrying")
                if self._stop.wait(STORE_RETRY_S):
                    return  # not confirmed: the devices will send it again
        self.stats.messages += len(messages)
        for item in received:
            if item.qos and item.link is self._link:
                item.link.client.ack(item.mid, item.qos)
        if self.connected:
            self._error = self._unstored

    def _store_all(self, messages: list[Message]) -> None:
        batch = decode(messages)
        try:
            self._count(batch, self._store.ingest(batch))
        except (SQLAlchemyError, *BAD_VALUE) as error:
            if not _speaks_of_a_value(error):
                raise
            if parts := messages if len(messages) > 1 else split(messages[0]):
                for part in parts:
                    self._store_all([part])
                return
            self._set_aside(messages[0], error)

    def _set_aside(self, message: Message, error: Exception) -> None:
        """Take a message into quarantine. Where not even that is stored, the fault lies in what the store holds of its
        device: it is confirmed to the broker, so that the others get through, but the device keeps it and tries again.
        """
        cause = error.orig if isinstance(error, StatementError) else error
        aside = Batch()
        aside.set_aside(message, f"the store does not take it: {cause}")
        try:
            self._count(aside, self._store.ingest(aside))
            log.warning("set aside: a message on %s: %s", message.topic, error)
        except (SQLAlchemyError, *BAD_VALUE) as second:
            if not _speaks_of_a_value(second):
                raise
            self._unstored = f"what comes on {message.topic} can be neither stored nor set aside: {second}"
            self._fail(self._unstored)

    def _count(self, batch: Batch, outcome: Outcome) -> None:
        urgent = {alert.device for alert in batch.alerts}
        for device, receipt in outcome.receipts:
            self._pacer.add(device, receipt, device in urgent)
        self.stats.stored += outcome.inserted
        self.stats.duplicates += outcome.duplicates
        self.stats.conflicts += outcome.conflicts
        self.stats.refused += outcome.refused
        by_topic: dict[str, list[Refused]] = {}
        for refused in batch.refused:
            by_topic.setdefault(refused.topic, []).append(refused)
        for topic, found in by_topic.items():  # one line per topic: a line per event could fill the disk
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            log.warning("set aside: %s: %s%s", topic, found[0].reason, more)
        if outcome.conflicts:
            log.warning("%d results came again with different content; the first ones are kept", outcome.conflicts)

    def _tell(self) -> None:
        """Publish the acknowledgements that are due; those lost with a connection are recreated later."""
        link = self._link
        if link is None or not self.connected:
            return
        if not link.greeted:  # after connecting, acknowledge to every device where it stands
            link.greeted = True
            self._error = None  # the connection works, though no message has come yet
            for device, receipt in self._store.receipts():
                self._publish_ack(link, device, receipt.ack())
        for device, ack in self._pacer.due(time.monotonic()):
            self._publish_ack(link, device, ack)

    def _publish_ack(self, link: _Link, device: str, ack: Ack) -> None:
        # QoS 0 needs no window; a lost one is recreated when the device retransmits.
        link.client.publish(topics.topic(device, "ack"), ack.model_dump_json().encode(), qos=0, retain=True)

    # ---- connection ----

    def _tend(self) -> None:
        """Maintain the connection: make one, drop one that is lost or does not answer."""
        link, now = self._link, time.monotonic()
        if link is None:
            if now >= self._next_attempt:
                self._connect()
        elif link.lost is not None:
            self._drop(link.lost)
        elif link.connected is None and now - link.started > CONNECT_S:
            other = "mqtt:// without TLS" if self._secure else "TLS, mqtts://"
            said = f"it takes the connection and does not answer within {CONNECT_S:.0f} s"
            self._drop(f"{self._where()}: {said}; does this port want {other}?")
        elif link.connected is not None and now - link.connected > LAST_RETRY_S:
            self._retry = FIRST_RETRY_S

    def _connect(self) -> None:
        shared = self._config.group is not None
        # After a protocol error the session is discarded: otherwise the broker would resend what we cannot parse
        # forever. The devices retransmit what was not acknowledged.
        clean = shared or self._clean
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._config.client_id + (f"-{secrets.token_hex(4)}" if shared else ""),
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        link = _Link(client, time.monotonic())
        wishes = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        wishes.ReceiveMaximum = RECEIVE_MAXIMUM
        if not shared:
            # A worker of a group keeps no session: its messages would be stranded if it never came back.
            wishes.SessionExpiryInterval = SESSION_EXPIRY_S
        self._listen(client, link)
        try:
            if self._secure:
                client.tls_set_context(self._tls())
            if self._config.username is not None:
                client.username_pw_set(self._config.username, self._password())
            client.connect_timeout = CONNECT_S
            client.connect(self._host, self._port, keepalive=KEEPALIVE_S, clean_start=clean, properties=wishes)
        except (OSError, ValueError) as error:
            self._drop(f"{self._where()}: {causes.network(error, self._host, KEYS)}")
            return
        self._link = link
        client.loop_start()

    def _listen(self, client: _Client, link: _Link) -> None:
        """Callbacks run in the library's thread: they only record and enqueue, and must not raise."""

        def guarded(action: Any) -> Any:
            def call(*arguments: Any) -> None:
                try:
                    action(*arguments)
                except Exception as error:
                    log.exception("ingest: in a callback")
                    link.lost, link.broken = f"unexpected: {error}", True
                    self._queue.put(None)

            return call

        def hear(_client: Any, _data: Any, level: int, text: str) -> None:
            if level == MQTT_LOG_ERR:
                link.heard = text

        client.on_log = hear
        client.on_connect = guarded(lambda _c, _d, _f, code, _p: self._on_connect(link, code))
        client.on_subscribe = guarded(lambda _c, _d, _mid, codes, _p: self._on_subscribe(link, codes))
        client.on_disconnect = guarded(lambda _c, _d, _f, code, _p: self._on_disconnect(link, code))
        client.on_unreadable = guarded(lambda message, mid, qos: self._enqueue(_Received(link, message, mid, qos)))
        client.on_message = guarded(lambda _c, _d, message: self._on_message(link, message))

    def _on_connect(self, link: _Link, code: ReasonCode) -> None:
        if code.is_failure:
            link.lost = f"{self._where()} refuses the connection: {causes.code(code, KEYS)}"
            self._queue.put(None)
            return
        group = self._config.group
        share = f"$share/{group}/" if group else ""
        filters = [(f"{share}{name}", 1) for name in (topics.ALL_EVENTS, topics.ALL_BULK, topics.ALL_STATES)]
        link.client.subscribe(filters)

    def _on_subscribe(self, link: _Link, codes: list[ReasonCode]) -> None:
        if refused := [code for code in codes if code.is_failure]:
            link.lost = f"{self._where()} refuses our subscription: {causes.code(refused[0], KEYS)}"
        else:
            link.connected = time.monotonic()
            self._clean = False
            self.stats.connections += 1
            log.info("subscribed at %s", self._where())
        self._queue.put(None)

    def _on_disconnect(self, link: _Link, code: ReasonCode) -> None:
        if code.value == causes.LOST:
            why = causes.dropped(link.heard, link.connected is not None, self._secure, KEYS)
        else:
            why = causes.code(code, KEYS) if code.is_failure else "disconnected"
        link.lost = link.lost or f"{self._where()}: {why}"
        link.broken = code.value == PROTOCOL_ERROR
        self._queue.put(None)

    def _on_message(self, link: _Link, message: MQTTMessage) -> None:
        pairs = getattr(message.properties, "UserProperty", [])
        item = Message(message.topic, bytes(message.payload), message.retain, floor_of(dict(pairs)))
        self._enqueue(_Received(link, item, message.mid, message.qos))

    def _enqueue(self, received: _Received) -> None:
        """Queue a message. QoS 0 has no flow control, so its messages are dropped while the queue is full."""
        if not received.qos and self._queue.qsize() >= RECEIVE_MAXIMUM:
            if not self.stats.dropped:
                log.warning("more messages of QoS 0 than can be stored: dropped; devices must send with QoS 1")
            self.stats.dropped += 1
            return
        self._queue.put(received)

    def _drop(self, reason: str) -> None:
        link, self._link = self._link, None
        if link is not None:
            _discard(link.client)
            self._clean = self._clean or link.broken
        self._fail(reason)
        self._next_attempt = time.monotonic() + random.uniform(self._retry / 2, self._retry)  # noqa: S311
        self._retry = min(2 * self._retry, LAST_RETRY_S)

    def _leave(self) -> None:
        """Store and confirm what is queued, acknowledge it to the devices, and disconnect."""
        waiting: list[_Received] = []
        with contextlib.suppress(queue.Empty):
            while True:
                if (item := self._queue.get_nowait()) is not None:
                    waiting.append(item)
        try:
            self._take(waiting)
        except Exception:
            log.exception("ingest: error during shutdown; the devices will send it again")
        link, self._link = self._link, None
        if link is None:
            return
        for device, ack in self._pacer.due(float("inf")):
            self._publish_ack(link, device, ack)
        link.client.disconnect()
        end = time.monotonic() + 2
        while link.client.socket() is not None and time.monotonic() < end:
            time.sleep(0.01)
        _discard(link.client)

    def _fail(self, reason: str) -> None:
        if reason != self._error:
            log.warning("%s", reason)
        self._error = reason

    def _where(self) -> str:
        return f"broker {self._host}:{self._port}"

    def _tls(self) -> ssl.SSLContext:
        config = self._config
        try:
            context = ssl.create_default_context(cafile=str(config.ca) if config.ca is not None else None)
        except OSError as error:
            raise ValueError(f"broker.ca {config.ca} cannot be used: {error}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if config.certificate is not None:
            try:
                context.load_cert_chain(config.certificate, config.key)
            except OSError as error:
                files = f"broker.certificate {config.certificate} with broker.key {config.key}"
                raise ValueError(f"{files} cannot be used: {error}") from error
        return context

    def _password(self) -> str | None:
        path = self._config.password_file
        if path is None:
            return None
        try:
            return path.read_text(encoding="utf-8").split("\n", 1)[0].rstrip("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"broker.password_file {path} cannot be read: {error}") from error


def _speaks_of_a_value(error: Exception) -> bool:
    """Tell whether the store's error is about what was to be stored, and not about the store."""
    cause = error.orig if isinstance(error, StatementError) else error
    return isinstance(error, DataError | IntegrityError) or isinstance(cause, BAD_VALUE)


def _discard(client: Client) -> None:
    """Cut the connection and end the library's thread, even if the broker has stopped answering."""
    sock = cast("socket.socket | None", client.socket())
    if sock is not None:
        with contextlib.suppress(OSError, ValueError):  # it is closed already
            sock.shutdown(socket.SHUT_RDWR)
    client.loop_stop()
