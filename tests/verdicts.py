"""A device that people's verdicts reach: its agent a real process at a real broker."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fieldwatch_agent.send.journal import FILE, read_progress, read_status
from fieldwatch_agent.update.activation import Activation
from fieldwatch_contract import clock
from fieldwatch_contract.alerts import AlertRule
from fieldwatch_contract.level import LevelRule
from paho.mqtt import publish
from paho.mqtt.enums import MQTTProtocolVersion

from tests.bundles import make_bundle
from tests.conftest import Broker
from tests.delivery import DEVICE

START = clock.parse_iso("2026-01-17T00:00:00Z")
LADDER = tuple(float(9 * 1.1**step) for step in range(-10, 30))
LEVEL = LevelRule(ladder=LADDER, start=10, rise=3, hold=240, fall=240)
BUNDLE = make_bundle(3, "v1", lookback=2, level=LEVEL, rule=AlertRule(persistence=3))


def say(broker: Broker, payload: bytes | list[dict[str, Any]]) -> None:
    """Publish a document of verdicts as the cloud does: retained."""
    body = payload if isinstance(payload, bytes) else json.dumps({"verdicts": payload}).encode()
    publish.single(
        f"fieldwatch/v1/d/{DEVICE}/verdicts", body, qos=1, retain=True,
        hostname="127.0.0.1", port=broker.port, protocol=MQTTProtocolVersion.MQTTv5,
    )  # fmt: skip


GOOD = {"alert_id": "0" * 32, "model": "detector", "verdict": "real", "since": None}


class Site:
    """A device whose agent is a real process at a real broker."""

    def __init__(self, folder: Path, broker: Broker, environment: Mapping[str, str]) -> None:
        folder.mkdir(parents=True)
        self.log, self.toml, self.state = folder / "readings.csv", folder / "agent.toml", folder / "state"
        self.log.write_text("timestamp,s0,s1,s2\n")
        self.wanted = {
            "device": {"id": DEVICE, "type": "press"},
            "log": {"path": str(self.log), "period": "60s"},
            "state": {"dir": str(self.state), "outbox_limit": "500MB"},
            "mqtt": {"url": broker.url},
        }
        text = [
            f"[{part}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
            for part, keys in self.wanted.items()
        ]
        self.toml.write_text("".join(text))
        activation = Activation(self.state)
        activation.switch(activation.stage(BUNDLE))
        self._environment = dict(environment)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "fieldwatch_agent", "run", "--config", str(self.toml)]
        out = (self.state.parent / "agent.log").open("ab")
        with out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=self._environment)

    def end(self, how: int) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(30)
        self.process = None

    @property
    def newest(self) -> int:
        return read_progress(self.state / FILE).newest or 0 if (self.state / FILE).exists() else 0

    def has_read(self, ts: int) -> bool:
        return self.newest >= ts

    def has_heard(self, document: list[dict[str, Any]]) -> bool:
        """Whether the journal has what it says; what was never said need not be withdrawn."""
        known = self.heard()
        return all(known.get(each["alert_id"]) == each["verdict"] for each in document)

    def heard(self) -> dict[str, str | None]:
        """The latest verdict of each alert that the journal has."""
        found = read_status(self.state / FILE)["verdicts"]
        assert isinstance(found, list)
        return {each["alert_id"]: each["verdict"] for each in found}
