"""Tries the way to the cloud: name, network, TLS, login, our topics, and whether ingest listens.

The device's state is published, as a clean goodbye would: the broker answers whether anybody takes it, and that can
only be ingest. Each step that fails ends the trial with the cause in words.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from fieldwatch_contract import causes

from fieldwatch_agent.config import Config
from fieldwatch_agent.findings import Finding
from fieldwatch_agent.send.answers import NO_SUBSCRIBERS
from fieldwatch_agent.send.connection import Connection, Timing
from fieldwatch_agent.send.presence import STOPPED, Presence

if TYPE_CHECKING:
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

PATIENCE_S = 20.0
WHERE = "broker"


class _Trial:
    """Listens to one connection; what happened first decides."""

    def __init__(self) -> None:
        self.failed = ""
        self.connected = self.published = False
        self.subscribed: list[ReasonCode] | None = None
        self.taken: ReasonCode | None = None

    @property
    def over(self) -> bool:
        return bool(self.failed) or self.taken is not None

    def on_failed(self, link: Connection, reason: str) -> None:
        self.failed = reason

    def on_connect(self, link: Connection, code: ReasonCode, properties: Properties) -> None:
        if code.is_failure:
            self.failed = f"it refuses the connection: {causes.code(code)}"
        else:
            self.connected = True
            link.stage.connected = time.monotonic()
            link.subscribe()

    def on_disconnect(self, link: Connection, code: ReasonCode) -> None:
        if not self.over:
            self.failed = link.why_lost(code)

    def on_subscribe(self, link: Connection, codes: list[ReasonCode]) -> None:
        self.subscribed = codes
        if codes[0].is_failure:
            self.failed = f"it refuses the subscription to our acknowledgements: {causes.code(codes[0])}"
            return
        link.publish_state(Presence(False, 0).offline(link.id, "", STOPPED), retain=False)
        self.published = True

    def on_publish(self, link: Connection, mid: int, code: ReasonCode) -> None:
        self.taken = code

    def on_message(self, link: Connection, topic: str, payload: bytes) -> None:
        pass


def try_broker(config: Config) -> Iterator[Finding]:
    """Yield what comes of a connection; nothing where the configuration has no broker."""
    mqtt = config.mqtt
    if mqtt is None:
        return
    calls: queue.Queue[Callable[[], None]] = queue.Queue()
    trial, timing = _Trial(), Timing()
    link = Connection(mqtt, config.device.id, timing, calls.put)
    will = Presence(False, 0).offline(link.id, "", STOPPED)
    name = f"{mqtt.host} port {mqtt.port}"
    try:
        link.open(trial, will, retain=False)
    except ValueError as error:
        yield Finding("error", WHERE, str(error), "correct that file; 'check' says more")
        return
    end = time.monotonic() + PATIENCE_S
    while not trial.over and (left := end - time.monotonic()) > 0:
        try:
            calls.get(timeout=left)()
        except queue.Empty:
            break
    yield from _judge(trial, link, name)
    if trial.connected and not trial.failed:
        link.leave()
    link.discard()


def _judge(trial: _Trial, link: Connection, name: str) -> Iterator[Finding]:
    if trial.connected and not trial.failed and trial.subscribed is not None:
        yield Finding("ok", WHERE, f"{name} lets us in")
    if trial.failed:
        yield Finding("error", WHERE, f"{name}: {trial.failed}", "results wait in the outbox until that is mended")
    elif trial.taken is None:
        waits = link.stage.phase if not trial.connected else "it confirms nothing"
        yield Finding("error", WHERE, f"{name}: {waits}, in {PATIENCE_S:.0f} s", "check address, firewall and broker")
    elif trial.taken.is_failure:
        what = f"it does not take what we publish: {causes.code(trial.taken)}"
        yield Finding("error", WHERE, f"{name}: {what}", "its access rules must let this device write its own topics")
    elif trial.taken.value == NO_SUBSCRIBERS:
        what = "it takes what we publish, but nobody listens: ingest does not run, or has no access"
        yield Finding("error", WHERE, f"{name}: {what}", "start ingest at the centre; nothing is lost meanwhile")
    else:
        yield Finding("ok", WHERE, "what we publish is taken, and ingest listens")
    if trial.subscribed is not None and any(code.is_failure for code in trial.subscribed[1:]):
        yield Finding(
            "warning", WHERE, "we may not read 'verdicts': what people say of alerts does not reach this device",
            "write the broker's rules anew: fieldwatch-cloud broker-config",
        )  # fmt: skip
