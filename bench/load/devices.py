"""Devices as a broker sees them: one MQTT 5 connection each, the agent's events, its numbers, its acknowledgements.

A device sends, each minute at a second of its own, a result with two models' scores and a health report, as the agent
does while its log is live. The agent's code makes results and alerts from readings of 100 sensors; they are made once
and sent with each device's name and the present time. One thread serves all connections.
"""

from __future__ import annotations

import random
import selectors
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import numpy as np
from fieldwatch_agent import __version__
from fieldwatch_agent.score.decide import Decider
from fieldwatch_contract import clock, topics
from fieldwatch_contract.bundle import Bundle, read_bundle
from fieldwatch_contract.delivery import Settled
from fieldwatch_contract.events import (
    Ack,
    AlertData,
    DeviceState,
    HealthData,
    LedgerDay,
    LineCounts,
    OutboxState,
    envelope,
)
from fieldwatch_contract.grid import Grid
from fieldwatch_contract.scoring import Scorer
from paho.mqtt.client import MQTT_ERR_SUCCESS, Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bench.material import NAMES
from tests.bundles import make_bundle

EPOCH = "10ad"
KEEPALIVE_S = 30
PERIOD_S = 60.0
HEALTH_AFTER_S = 7.0
"""Between a device's result and its health report: they are not sent in one packet."""
QUIET_ROWS = 300
FAULT_ROWS = 20
CONNECTS_AT_ONCE = 5


@dataclass(frozen=True)
class Material:
    """What the agent's code made: ``results`` of quiet rows without their time, the ``bundle``."""

    bundle: Bundle
    results: list[str]

    def alerts(self, device: str, now: int) -> list[AlertData]:
        """Return the alerts, one a model, that open on a device whose newest row is of ``now``, µs."""
        rows = _rows()
        ts = now - np.arange(len(rows) - 1, -1, -1, dtype=np.int64) * clock.MINUTE
        return [
            AlertData.model_validate_json(draft.data)
            for draft in _decide(device, self.bundle, rows, ts)
            if draft.event == "alert"
        ]


@cache
def _scorer() -> Scorer:
    return Scorer(_bundle())


@cache
def _bundle() -> Bundle:
    return read_bundle(make_bundle(list(NAMES), classifier=True, name="load"))


def _rows(quiet: int = QUIET_ROWS) -> Any:
    """Readings of a device that is well, and then five of its sensors leave."""
    rows = np.random.default_rng(1).normal(10, 0.5, (quiet + FAULT_ROWS, len(NAMES)))
    rows[quiet:, :5] += 400
    return rows


def _decide(device: str, bundle: Bundle, rows: Any, ts: Any) -> list[Any]:
    manifest = bundle.manifest
    block = Grid(manifest.period, max(manifest.window, len(rows)), len(manifest.sensors)).place(ts, rows)
    scores = _scorer().score(block.rows[len(block.rows) - len(block.ts) - manifest.window + 1 :])
    return Decider(device, bundle, "on-alert").decide(block, scores, {}).drafts


def material() -> Material:
    """Score the rows. Raises :class:`RuntimeError` where they do not open an alert: then nothing could be measured."""
    rows = _rows()
    ts = clock.now() - np.arange(len(rows) - 1, -1, -1, dtype=np.int64) * clock.MINUTE
    drafts = _decide("load-0000", _bundle(), rows, ts)
    if {AlertData.model_validate_json(one.data).model for one in drafts if one.event == "alert"} != {
        "detector",
        "classifier",
    }:
        raise RuntimeError("the rows of a fault do not open an alert of both models")
    results = [one.data for one in drafts if one.event == "result"][50:QUIET_ROWS]
    return Material(_bundle(), [text.split('"', 4)[4] for text in results])


@dataclass
class Sent:
    """What a device has published."""

    results: set[int] = field(default_factory=set)
    health: set[int] = field(default_factory=set)
    alerts: dict[str, float] = field(default_factory=dict)
    """When each alert was published, seconds since 1970, by its id."""


class Device:
    """One connection."""

    def __init__(self, name: str, port: int, material: Material, rng: random.Random) -> None:
        self.name = name
        self.sent = Sent()
        self.seq = 0
        self.settled = Settled()
        self.up = False
        self.reconnects = 0
        self.slowest = 0.0
        """Longest time until an event was acknowledged, seconds."""
        self._port = port
        self._material = material
        self._rng = rng
        self._waiting: dict[int, tuple[float, str, bytes]] = {}
        self.due = rng.random() * PERIOD_S
        self._health_next = False
        self.client = Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5, reconnect_on_failure=False
        )
        self.client.on_connect = lambda *_: self._on_connect()
        self.client.on_message = lambda _c, _d, message: self._on_message(message)
        self.client.on_disconnect = lambda *_: self._on_disconnect()

    @property
    def open(self) -> int:
        """How many events are not acknowledged."""
        return len(self._waiting)

    def connect(self) -> None:
        """Open the connection; the rest happens in the loop."""
        wishes = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        wishes.SessionExpiryInterval = 3600
        will = self._state("offline", "connection lost")
        self.client.will_set(topics.topic(self.name, "state"), will, qos=1, retain=True)
        self.client.connect("127.0.0.1", self._port, keepalive=KEEPALIVE_S, clean_start=False, properties=wishes)

    def tick(self, now: float) -> None:
        """Send what is due."""
        if not self.up or now < self.due:
            return
        if self._health_next:
            self._health()
            self.due += PERIOD_S - HEALTH_AFTER_S
        else:
            self._result()
            self.due += HEALTH_AFTER_S
        self._health_next = not self._health_next

    def alert(self) -> list[str]:
        """Open an alert of each model, and return their ids."""
        opened = self._material.alerts(self.name, clock.now())
        for one in opened:
            self.sent.alerts[one.alert_id] = time.time()
            self._publish("alert", one.model_dump_json())
        return [one.alert_id for one in opened]

    def last_report(self) -> None:
        """Tell how many readings were read and scored, now that all are acknowledged."""
        self._health()

    def _result(self) -> None:
        ts = clock.now()
        self.sent.results.add(ts)
        self._publish("result", f'{{"ts":"{clock.iso(ts)}"{self._rng.choice(self._material.results)}')

    def _health(self) -> None:
        now = clock.iso(clock.now())
        days = Counter(clock.iso(ts)[:10] for ts in self.sent.results)
        waiting = Counter(day for _, day, _ in self._waiting.values() if day)
        ledger = [
            LedgerDay(day=day, read=n, scored=n - waiting[day], refused={}, evicted=0, pending=waiting[day])
            for day, n in days.items()
        ]
        newest = max(self.sent.results, default=None)
        report = HealthData(
            ts=now,
            agent=__version__,
            bundle=self._material.bundle.ref,
            log="following",
            last_reading=None if newest is None else clock.iso(newest),
            lag_bytes=0,
            outbox=OutboxState(events=self.open, bytes=400 * self.open, oldest=None),
            ledger=ledger,
            lines=LineCounts(since=now, read=10, scored=10, unknown=0, refused={}),
            period=PERIOD_S,
        )
        self.sent.health.add(self.seq + 1)
        self._publish("health", report.model_dump_json())

    def _publish(self, event: str, data: str) -> None:
        self.seq += 1
        at = clock.iso(clock.now())
        payload = envelope(self.name, EPOCH, self.seq, event, at, data)
        day = at[:10] if event == "result" else ""
        self._waiting[self.seq] = (time.monotonic(), day, payload)
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.UserProperty = (topics.FLOOR, str(min(self._waiting)))
        self.client.publish(topics.topic(self.name, f"evt/{event}"), payload, qos=1, properties=properties)

    def _state(self, status: str, reason: str) -> bytes:
        state = DeviceState.model_validate(
            {"status": status, "since": clock.iso(clock.now()), "connection": "load", "epoch": EPOCH, "reason": reason}
        )
        return state.model_dump_json().encode()

    def _on_connect(self) -> None:
        self.up = True
        self.client.subscribe([(topics.topic(self.name, channel), 1) for channel in ("ack", "verdicts")])
        self.client.publish(topics.topic(self.name, "state"), self._state("online", "started"), qos=1, retain=True)

    def _on_disconnect(self) -> None:
        self.up = False

    def _on_message(self, message: MQTTMessage) -> None:
        if not message.topic.endswith("/ack"):
            return
        ack = Ack.model_validate_json(message.payload)
        if ack.epoch != EPOCH or ack.refused:
            raise RuntimeError(f"{self.name}: an acknowledgement that says {ack}")
        self.settled = Settled(ack.upto, tuple(sorted(ack.also)))
        now = time.monotonic()
        for number in [number for number in self._waiting if number in self.settled]:
            self.slowest = max(self.slowest, now - self._waiting.pop(number)[0])


class Fleet:
    """All devices, and the thread that serves their connections: ``with Fleet(…) as fleet``."""

    def __init__(self, count: int, port: int, seed: int = 1) -> None:
        rng = random.Random(seed)
        made = material()
        self.devices = [Device(f"load-{number:04d}", port, made, rng) for number in range(count)]
        self.error: Exception | None = None
        self.cpu = 0.0
        """Seconds of the thread, for the conditions."""
        self._orders: list[Any] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)

    def __enter__(self) -> Fleet:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    @property
    def connected(self) -> int:
        """How many devices are."""
        return sum(one.up for one in self.devices)

    def order(self, act: Any) -> None:
        """Let the thread do something with the devices."""
        with self._lock:
            self._orders.append(act)

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:  # the program says it and ends
            self.error = error

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            waiting = list(self.devices)
            misc, began = 0.0, time.monotonic()
            for one in self.devices:
                one.due += began
            while not self._stop.is_set():
                for one in waiting[:CONNECTS_AT_ONCE]:
                    one.connect()
                    selector.register(cast(Any, one.client.socket()), selectors.EVENT_READ, one)
                del waiting[:CONNECTS_AT_ONCE]
                for key, _ in selector.select(0.02):
                    if key.data.client.loop_read() != MQTT_ERR_SUCCESS:
                        raise RuntimeError(f"{key.data.name} has lost its connection")
                with self._lock:
                    orders, self._orders = self._orders, []
                for act in orders:
                    act()
                now = time.monotonic()
                for one in self.devices:
                    one.tick(now)
                    if one.client.want_write():
                        one.client.loop_write()
                if now - misc > 1:
                    misc = now
                    for one in self.devices:
                        if one.up:
                            one.client.loop_misc()
                self.cpu = time.thread_time()
            for one in self.devices:
                if (sock := cast(Any, one.client.socket())) is not None:
                    selector.unregister(sock)
                    one.client.disconnect()
