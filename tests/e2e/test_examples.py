"""The example programs read the alerts of a real agent's uplink from a real broker, by the contract alone."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from fieldwatch_agent.config import MqttConfig
from fieldwatch_agent.send.journal import Draft, Journal
from fieldwatch_agent.send.uplink import Uplink
from fieldwatch_contract import clock, topics
from paho.mqtt import publish
from paho.mqtt.client import MQTTv5

from bench.load.devices import material
from tests.conftest import ROOT, Broker, Spawn
from tests.delivery import QUICK
from tests.unit.cloud.wire import message

DEVICE = "press-0001"
PATIENCE = 60.0
PROGRAMS = {
    "python": [sys.executable, "examples/python/follow_alerts.py"],
    "javascript": ["node", "examples/javascript/follow_alerts.mjs"],
}


def lines_of(stream: object) -> queue.Queue[str]:
    """What a program writes, a line at a time."""
    found: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in stream:  # type: ignore[attr-defined]
            found.put(line.rstrip("\n"))

    threading.Thread(target=read, daemon=True).start()
    return found


@pytest.mark.parametrize("language", ["python", pytest.param("javascript", marks=pytest.mark.node)])
def test_an_example_tells_each_alert_once(
    mosquitto: Callable[..., Broker], spawn: Spawn, clean_env: Mapping[str, str], tmp_path: Path, language: str
) -> None:
    broker = mosquitto()
    command = [*PROGRAMS[language], broker.url]
    child = spawn(command, cwd=ROOT, env=clean_env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    told, said = lines_of(child.stdout), lines_of(child.stderr)
    assert said.get(timeout=PATIENCE) == "following fieldwatch/v1/d/+/evt/alert"

    alerts = material().alerts(DEVICE, clock.parse_iso("2026-11-01T12:00:00Z"))
    drafts = [Draft("alert", one.ts[:10], one.model_dump_json()) for one in alerts]
    journal = Journal(tmp_path / "state", 1 << 26)
    uplink = Uplink(MqttConfig.model_validate({"url": broker.url, "acknowledge": "puback"}), DEVICE, journal, QUICK)
    for payload in (b"no json", b'{"id": "x"}'):
        name = topics.topic(DEVICE, "evt/alert")
        publish.single(name, payload, qos=1, port=broker.port, protocol=MQTTv5)
    again = message(9, drafts[0], DEVICE)  # the same fact in another event, as after a lost journal
    journal.enqueue(drafts)
    uplink.start()
    try:
        found = [json.loads(told.get(timeout=PATIENCE)) for _ in drafts]
        publish.single(again.topic, again.payload, qos=1, port=broker.port, protocol=MQTTv5)
        new = alerts[0].model_copy(update={"alert_id": "f" * 32})
        other = message(1, Draft("alert", new.ts[:10], new.model_dump_json()), "press-0002")
        publish.single(other.topic, other.payload, qos=1, port=broker.port, protocol=MQTTv5)
        last = json.loads(told.get(timeout=PATIENCE))
    finally:
        uplink.stop()
        journal.close()
    assert {one["alert_id"] for one in found} == {one.alert_id for one in alerts}
    assert {(one["device"], one["transition"]) for one in found} == {(DEVICE, "opened")}
    assert all(set(one["sensors"]) <= {f"sensor_{n:03d}" for n in range(5)} for one in found)
    assert (last["device"], last["alert_id"]) == ("press-0002", "f" * 32)  # the copy was not told again
    refused = [said.get(timeout=PATIENCE) for _ in range(2)]
    assert "no JSON" in refused[0] and "not as in the contract" in refused[1]
