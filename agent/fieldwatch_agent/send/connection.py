"""One connection to the broker, from name resolution to the last byte; each attempt creates a new one.

The MQTT library's own reconnection has no jitter, sends everything queued at once whatever the broker's limits are, and
dies silently of an exception in a callback. So a client is used for one connection only, and its callbacks do nothing
but pass events on. Connecting runs in a separate thread: name resolution may block for minutes.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

from fieldwatch_contract import causes, topics

from fieldwatch_agent import system
from fieldwatch_agent.send.flight import WINDOW, Flight, Stage

if TYPE_CHECKING:
    from paho.mqtt.client import Client
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

    from fieldwatch_agent.config import MqttConfig
    from fieldwatch_agent.send.packer import Parcel

CHANNELS = ("ack", "verdicts", "command")
"""What the cloud says to a device; delivery needs the first of them."""
_LOG_ERROR = 8
ALERT_S = 2.0
"""Seconds to wait for the broker's reason at each step."""


@dataclass(frozen=True)
class Timing:
    """Seconds. Delays are random below the given bound (jitter), so that a fleet does not reconnect all at once."""

    start_delay: float = 2.0
    first_retry: float = 4.0
    last_retry: float = 120.0
    stable: float = 60.0
    connect: float = 10.0
    keepalive: int = 30
    will_delay: int = 30
    session_expiry: int = 86_400
    stall: float = 60.0
    stalled: float = 180.0
    retained_ack: float = 0.3
    no_ack: float = 30.0
    no_ack_longest: float = 600.0
    hold: float = 5.0
    hold_longest: float = 600.0
    poll: float = 1.0
    goodbye: float = 2.0
    note: float = 2.0


class Listener(Protocol):
    """Receives a connection's events, always in the thread that ``post`` dispatches to."""

    def on_failed(self, link: Connection, reason: str) -> None:
        """Connecting failed."""

    def on_connect(self, link: Connection, code: ReasonCode, properties: Properties) -> None:
        """The broker has answered."""

    def on_disconnect(self, link: Connection, code: ReasonCode) -> None:
        """The connection has ended."""

    def on_subscribe(self, link: Connection, codes: list[ReasonCode]) -> None:
        """The broker has answered the subscription."""

    def on_publish(self, link: Connection, mid: int, code: ReasonCode) -> None:
        """The broker has accepted or refused a message."""

    def on_message(self, link: Connection, topic: str, payload: bytes) -> None:
        """A message for this device has arrived."""


class Connection:
    """One connection. ``opener``: the thread that connects, None before :meth:`open`."""

    def __init__(
        self, config: MqttConfig, device: str, timing: Timing, post: Callable[[Callable[[], None]], None]
    ) -> None:
        """``post`` dispatches a call to the listener's thread. Does nothing before :meth:`open`."""
        self._config = config
        self._device = device
        self._timing = timing
        self._post = post
        self._client = self._make_client()
        self._heard = ""
        self._discarded = False
        self.id = secrets.token_hex(8)
        self.opener: threading.Thread | None = None
        self.stage = Stage(time.monotonic())
        self.flight = Flight()

    def open(self, listener: Listener, will: bytes, retain: bool) -> None:
        """Connect, with ``will`` as the last will, published by the broker if we disappear.

        Raises :class:`ValueError` where a file of the configuration cannot be used.
        """
        if self._config.tls:
            self._client.tls_set_context(_tls(self._config))
        if self._config.username is not None:
            self._client.username_pw_set(self._config.username, _password(self._config))
        properties = _will_properties(self._timing.will_delay)
        self._client.will_set(topics.topic(self._device, "state"), will, qos=1, retain=retain, properties=properties)
        self._listen(listener)
        self.opener = threading.Thread(target=self._open, args=(listener,), name="uplink-connect", daemon=True)
        self.opener.start()

    def publish(self, parcel: Parcel, floor: int) -> bool:
        """Hand a parcel to the library, with the low-water mark; tell whether it was accepted."""
        bulk = parcel.channel == "bulk"
        properties = _event_properties(bulk, floor)
        topic = topics.topic(self._device, parcel.channel)
        info = self._client.publish(topic, parcel.payload, qos=1, properties=properties)
        if info.rc != 0:
            return False  # not accepted, or the connection is ending: it stays in the outbox
        self.flight.put(info.mid, parcel.channel, parcel.numbers, time.monotonic())
        return True

    def publish_state(self, payload: bytes, retain: bool) -> Any:
        """Publish the device's state and return the library's handle for it."""
        properties = _json_properties()
        topic = topics.topic(self._device, "state")
        info = self._client.publish(topic, payload, qos=1, retain=retain, properties=properties)
        self.flight.put(info.mid, "state", (), time.monotonic())
        return info

    def subscribe(self) -> None:
        """Subscribe to our acknowledgements, to what people said of our alerts, and to commands."""
        self._client.subscribe([(topics.topic(self._device, channel), 1) for channel in CHANNELS])

    def why_lost(self, code: ReasonCode) -> str:
        """Say why the connection ended, from the reason code or the socket's last error."""
        if code.value == causes.LOST:
            answered = self.stage.connected is not None
            if self._config.tls and not answered and not causes.alert(self._heard):
                self._heard = self._alert()
            return causes.dropped(self._heard, answered, self._config.tls)
        return causes.code(code) if code.is_failure else "disconnected"

    def _alert(self) -> str:
        """Ask the broker once more why it refuses us, and only listen.

        With TLS 1.3 a refusal of our certificate comes after our side of the handshake; what we have sent by then can
        make the network stack throw the alert away.
        """
        host, port = self._config.host, self._config.port
        try:
            with (
                socket.create_connection((host, port), ALERT_S) as raw,
                _tls(self._config).wrap_socket(raw, server_hostname=host) as sock,
            ):
                sock.recv(1)
        except (OSError, ValueError) as error:
            return str(error)
        return ""

    def leave(self) -> None:
        """Disconnect cleanly: the broker then discards our last will."""
        self._client.disconnect()
        end = time.monotonic() + self._timing.goodbye
        while self._client.socket() is not None and time.monotonic() < end:
            time.sleep(0.01)  # if we cut the connection earlier, the broker would publish our last will

    def discard(self) -> None:
        """Cut the connection and end the library's thread, even if the broker has stopped answering."""
        self._discarded = True
        sock = cast("socket.socket | None", self._client.socket())
        if sock is not None:
            with contextlib.suppress(OSError, ValueError):  # it is closed already
                sock.shutdown(socket.SHUT_RDWR)
        self._client.loop_stop()

    # ---- inside ----

    def _make_client(self) -> Client:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._device,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        client.connect_timeout = 0.8 * self._timing.connect  # so that its error message comes before our own timeout
        client.max_inflight_messages_set(0)  # we enforce the window ourselves
        client.max_queued_messages_set(2 * WINDOW)
        return client

    def _open(self, listener: Listener) -> None:
        """Resolve and connect, in a separate thread."""
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        wishes = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        wishes.SessionExpiryInterval = self._timing.session_expiry
        host, port = self._config.host, self._config.port
        try:
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            self.stage.phase = "no answer to our connection"
            self._client.connect(
                host,
                port,
                keepalive=self._timing.keepalive,
                clean_start=False,  # a clean start would end the old session and publish its will
                properties=wishes,
            )
        except (OSError, ValueError) as error:
            reason = causes.network(error, host)
            self._post(lambda: listener.on_failed(self, reason))
            return
        other = "mqtt:// without TLS" if self._config.tls else "TLS, mqtts://"
        self.stage.phase = f"it takes the connection and does not answer; does this port want {other}?"
        self._post(self._begin)

    def _begin(self) -> None:
        """Start the library's network thread, unless this connection was discarded while connecting."""
        if self._discarded:
            self.discard()
        else:
            self._client.loop_start()

    def _listen(self, listener: Listener) -> None:
        """Pass events on: callbacks run in the library's thread and must not fail there."""
        client, post = self._client, self._post

        def hear(_client: Any, _data: Any, level: int, text: str) -> None:
            if level == _LOG_ERROR:
                self._heard = text

        client.on_log = hear
        client.on_connect = lambda _c, _d, _f, code, properties: post(
            lambda: listener.on_connect(self, code, properties)
        )
        client.on_disconnect = lambda _c, _d, _f, code, _p: post(lambda: listener.on_disconnect(self, code))
        client.on_subscribe = lambda _c, _d, _mid, codes, _p: post(lambda: listener.on_subscribe(self, codes))
        client.on_publish = lambda _c, _d, mid, code, _p: post(lambda: listener.on_publish(self, mid, code))
        client.on_message = lambda _c, _d, message: post(
            lambda: listener.on_message(self, message.topic, bytes(message.payload))
        )


class Dialer:
    """Makes connections, one at a time: an attempt that was given up may still wait for a silent name server."""

    def __init__(
        self, config: MqttConfig, device: str, timing: Timing, post: Callable[[Callable[[], None]], None]
    ) -> None:
        """As for :class:`Connection`."""
        self.where = f"broker {config.host}:{config.port}"
        self._make = partial(Connection, config, device, timing, post)
        self._last: Connection | None = None

    def dial(self) -> Connection | None:
        """Return a connection to be opened; None while the last one is still being made."""
        last = self._last
        if last is not None and last.opener is not None and last.opener.is_alive():
            return None
        self._last = self._make()
        return self._last


def _tls(config: MqttConfig) -> ssl.SSLContext:
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


def _password(config: MqttConfig) -> str | None:
    path = config.password_file
    if path is None:
        return None
    try:
        return system.decode(path.read_bytes()).split("\n", 1)[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"mqtt.password_file {path} cannot be read: {error}") from error


def _event_properties(bulk: bool, floor: int) -> Properties:
    from fieldwatch_contract.events import BATCH_CONTENT_TYPE, CONTENT_TYPE
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = BATCH_CONTENT_TYPE if bulk else CONTENT_TYPE
    mark = (topics.FLOOR, str(floor))
    if bulk:
        properties.UserProperty = [("content-encoding", "zstd"), mark]
    else:
        properties.PayloadFormatIndicator = 1
        properties.UserProperty = [mark]
    return properties


def _json_properties() -> Properties:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = "application/json"
    properties.PayloadFormatIndicator = 1
    return properties


def _will_properties(delay: int) -> Properties:
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    properties = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
    properties.WillDelayInterval = delay
    properties.ContentType = "application/json"
    properties.PayloadFormatIndicator = 1
    return properties
