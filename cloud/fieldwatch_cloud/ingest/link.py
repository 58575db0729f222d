"""One connection to the broker: made once, ends once; what it receives goes into a queue.

Its callbacks run in the library's thread, so they only record and enqueue. Nothing is confirmed here by itself: the
caller confirms each message when it is stored.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import secrets
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from fieldwatch_contract import causes, clock, topics
from fieldwatch_contract.commands import Command
from fieldwatch_contract.events import CONTENT_TYPE, Ack, Verdicts
from paho.mqtt.client import MQTT_LOG_ERR, Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fieldwatch_cloud.ingest.decode import Message, floor_of

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessage
    from paho.mqtt.reasoncodes import ReasonCode

    from fieldwatch_cloud.config import BrokerConfig
    from fieldwatch_cloud.ingest.stats import Stats

SUBSCRIBED = (topics.ALL_EVENTS, topics.ALL_BULK, topics.ALL_STATES, topics.ALL_REPLIES)
RECEIVE_MAXIMUM = 500
"""Unconfirmed messages that the broker may send: this bounds our memory."""
SESSION_EXPIRY_S = 3_600
CONNECT_S = 10.0
KEEPALIVE_S = 30
KEYS = "broker"
"""The section of the configuration that a remedy names."""
PROTOCOL_ERROR = 0x82
"""MQTT 5's reason code; the library also reports it for a packet that it cannot parse."""

log = logging.getLogger("fieldwatch.ingest")


@dataclass(frozen=True)
class Target:
    """Where to connect to, and how: ``url`` of the broker where it is not the configured one (an embedded one)."""

    config: BrokerConfig
    url: str

    @property
    def host(self) -> str:
        """The broker's host."""
        return urlsplit(self.url).hostname or ""

    @property
    def secure(self) -> bool:
        """Whether by TLS."""
        return urlsplit(self.url).scheme == "mqtts"

    @property
    def port(self) -> int:
        """The broker's port."""
        return urlsplit(self.url).port or (8883 if self.secure else 1883)

    def __str__(self) -> str:
        return f"broker {self.host}:{self.port}"

    def context(self) -> ssl.SSLContext:
        """Return how TLS is done. Raises :class:`ValueError` that names the key of the file that cannot be used."""
        config = self.config
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

    def password(self) -> str | None:
        """Return the password. Raises :class:`ValueError` where its file cannot be read."""
        path = self.config.password_file
        if path is None:
            return None
        try:
            return path.read_text(encoding="utf-8").split("\n", 1)[0].rstrip("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"broker.password_file {path} cannot be read: {error}") from error


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
class Received:
    """A message, and where it is to be confirmed."""

    link: Link
    message: Message
    mid: int
    qos: int

    def confirm(self) -> None:
        """Tell the broker that it may forget the message."""
        if self.qos:
            self.link.client.ack(self.mid, self.qos)


class Link:
    """One connection. ``inbox`` gets what it receives, and a None for other news: connected, lost."""

    def __init__(self, target: Target, inbox: queue.SimpleQueue[Received | None], stats: Stats, clean: bool) -> None:
        """Nothing is sent yet. ``clean``: the broker shall forget what it holds for us."""
        self._target = target
        self._inbox = inbox
        self._stats = stats
        self._shared = target.config.group is not None
        self._clean = clean or self._shared
        self.client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=target.config.client_id + (f"-{secrets.token_hex(4)}" if self._shared else ""),
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self.started = time.monotonic()
        self.connected: float | None = None
        """When the broker took our subscription."""
        self.lost: str | None = None
        """Why it ended, in words."""
        self.broken = False
        """Whether it ended because we could not read what the broker sent."""
        self.greeted = False
        """Whether the caller has told every device where it stands."""
        self._heard = ""
        """The last error of the library's socket, which has the other side's TLS alert in it."""
        self._listen()

    @property
    def up(self) -> bool:
        """Whether we are subscribed."""
        return self.connected is not None and self.lost is None

    def open(self) -> None:
        """Connect and subscribe, in the background. Raises :class:`OSError` or :class:`ValueError` where that fails."""
        target, client = self._target, self.client
        wishes = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        wishes.ReceiveMaximum = RECEIVE_MAXIMUM
        if not self._shared:
            # A worker of a group keeps no session: its messages would be stranded if it never came back.
            wishes.SessionExpiryInterval = SESSION_EXPIRY_S
        if target.secure:
            client.tls_set_context(target.context())
        if target.config.username is not None:
            client.username_pw_set(target.config.username, target.password())
        client.connect_timeout = CONNECT_S
        client.connect(target.host, target.port, keepalive=KEEPALIVE_S, clean_start=self._clean, properties=wishes)
        client.loop_start()

    def overdue(self, now: float) -> str | None:
        """Return what is wrong where the broker should have answered by now."""
        if self.connected is not None or now - self.started <= CONNECT_S:
            return None
        other = "mqtt:// without TLS" if self._target.secure else "TLS, mqtts://"
        said = f"it takes the connection and does not answer within {CONNECT_S:.0f} s"
        return f"{self._target}: {said}; does this port want {other}?"

    def acknowledge(self, device: str, ack: Ack) -> None:
        """Tell a device what is stored. QoS 0 needs no window; a lost one is recreated when the device retransmits."""
        self.client.publish(topics.topic(device, "ack"), ack.model_dump_json().encode(), qos=0, retain=True)

    def tell(self, device: str, verdicts: Verdicts) -> None:
        """Tell a device what people said of its alerts; like an acknowledgement it is published again after a loss."""
        self.client.publish(topics.topic(device, "verdicts"), verdicts.model_dump_json().encode(), qos=0, retain=True)

    def command(self, command: Command, left: int) -> bool:
        """Publish a command that may begin within ``left`` µs, never retained; tell whether the library took it."""
        wishes = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        wishes.ContentType = CONTENT_TYPE
        wishes.PayloadFormatIndicator = 1
        wishes.MessageExpiryInterval = max(1, left // clock.SECOND)
        payload = command.model_dump_json().encode()
        return self.client.publish(topics.topic(command.subject, "command"), payload, qos=1, properties=wishes).rc == 0

    def leave(self) -> None:
        """Disconnect in good order, within two seconds."""
        self.client.disconnect()
        end = time.monotonic() + 2
        while self.client.socket() is not None and time.monotonic() < end:
            time.sleep(0.01)
        self.discard()

    def discard(self) -> None:
        """Cut the connection and end the library's thread, even if the broker has stopped answering."""
        sock = cast("socket.socket | None", self.client.socket())
        if sock is not None:
            with contextlib.suppress(OSError, ValueError):  # it is closed already
                sock.shutdown(socket.SHUT_RDWR)
        self.client.loop_stop()

    # ---- callbacks, in the library's thread: they must not raise ----

    def _listen(self) -> None:
        def guarded(action: Any) -> Any:
            def call(*arguments: Any) -> None:
                try:
                    action(*arguments)
                except Exception as error:
                    log.exception("ingest: in a callback")
                    self.lost, self.broken = f"unexpected: {error}", True
                    self._inbox.put(None)

            return call

        def hear(_client: Any, _data: Any, level: int, text: str) -> None:
            if level == MQTT_LOG_ERR:
                self._heard = text

        client = self.client
        client.on_log = hear
        client.on_connect = guarded(lambda _c, _d, _f, code, _p: self._on_connect(code))
        client.on_subscribe = guarded(lambda _c, _d, _mid, codes, _p: self._on_subscribe(codes))
        client.on_disconnect = guarded(lambda _c, _d, _f, code, _p: self._on_disconnect(code))
        client.on_unreadable = guarded(lambda message, mid, qos: self._enqueue(Received(self, message, mid, qos)))
        client.on_message = guarded(lambda _c, _d, message: self._on_message(message))

    def _on_connect(self, code: ReasonCode) -> None:
        if code.is_failure:
            self.lost = f"{self._target} refuses the connection: {causes.code(code, KEYS)}"
            self._inbox.put(None)
            return
        group = self._target.config.group
        share = f"$share/{group}/" if group else ""
        filters = [(f"{share}{name}", 1) for name in SUBSCRIBED]
        self.client.subscribe(filters)

    def _on_subscribe(self, codes: list[ReasonCode]) -> None:
        if refused := [code for code in codes if code.is_failure]:
            self.lost = f"{self._target} refuses our subscription: {causes.code(refused[0], KEYS)}"
        else:
            self.connected = time.monotonic()
            self._stats.connections += 1
            log.info("subscribed at %s", self._target)
        self._inbox.put(None)

    def _on_disconnect(self, code: ReasonCode) -> None:
        if code.value == causes.LOST:
            why = causes.dropped(self._heard, self.connected is not None, self._target.secure, KEYS)
        else:
            why = causes.code(code, KEYS) if code.is_failure else "disconnected"
        self.lost = self.lost or f"{self._target}: {why}"
        self.broken = code.value == PROTOCOL_ERROR
        self._inbox.put(None)

    def _on_message(self, message: MQTTMessage) -> None:
        pairs = getattr(message.properties, "UserProperty", [])
        item = Message(message.topic, bytes(message.payload), floor_of(dict(pairs)))
        self._enqueue(Received(self, item, message.mid, message.qos))

    def _enqueue(self, received: Received) -> None:
        """Queue a message. QoS 0 has no flow control, so its messages are dropped while the queue is full."""
        if not received.qos and self._inbox.qsize() >= RECEIVE_MAXIMUM:
            if not self._stats.dropped:
                log.warning("more messages of QoS 0 than can be stored: dropped; devices must send with QoS 1")
            self._stats.dropped += 1
            return
        self._inbox.put(received)
