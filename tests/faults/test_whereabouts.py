"""From the device to the page: a real agent, a real broker, and what the dashboard says of the device."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_agent.update.activation import Activation
from fieldwatch_cloud.store import Store
from fieldwatch_cloud.web import WebSettings, create_app
from fieldwatch_contract import clock
from starlette.testclient import TestClient

from tests.bundles import make_bundle
from tests.conftest import ROOT, Broker, Spawn, wait_until

pytestmark = pytest.mark.timeout(300)
TOKEN = "t" * 32
PATIENCE = 90.0


def readings(since: int, count: int, extra: str = "") -> str:
    return "".join(f"{clock.iso(since + i * clock.MINUTE)},10,10.5,9.5{extra}\n" for i in range(count))


def test_lines_refused_a_killed_agent_and_a_wanted_stop_are_told_apart(
    tmp_path: Path,
    spawn: Spawn,
    clean_env: Mapping[str, str],
    mosquitto: Callable[..., Broker],
    taken: Callable[..., Store],
) -> None:
    broker = mosquitto()
    store = taken(broker.url)
    log = tmp_path / "readings.csv"
    now = clock.now() - clock.now() % clock.MINUTE
    log.write_text("timestamp,s0,s1,s2\n" + readings(now - 29 * clock.MINUTE, 30))
    config = tmp_path / "agent.toml"
    config.write_text(
        f'[device]\nid = "press-0001"\ntype = "press"\n[log]\npath = "{log}"\nperiod = "60s"\n'
        f'[mqtt]\nurl = "{broker.url}"\n[state]\ndir = "{tmp_path / "state"}"\n'
    )
    activation = Activation(tmp_path / "state")
    activation.switch(activation.stage(make_bundle(3, lookback=5)))
    app = create_app(store, store.live, WebSettings(api_token=TOKEN))
    script = {"Authorization": f"Bearer {TOKEN}"}
    client = TestClient(app, base_url="http://127.0.0.1:8080", headers=script, client=("127.0.0.1", 50000))
    log_of_the_agent = tmp_path / "agent.log"
    log_of_the_agent.touch()

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "fieldwatch_agent", "run", "--config", str(config)]
        with log_of_the_agent.open("ab") as output:
            return spawn(command, stdout=output, stderr=output, cwd=ROOT, env=clean_env)

    def becomes(state: str) -> dict[str, Any]:
        """Wait until the device is in this state; return the finding that says so."""

        def found() -> dict[str, Any] | None:
            answer = client.get("/api/v1/devices/press-0001")
            device = answer.json() if answer.status_code == 200 else {"condition": "", "findings": []}
            if state == device["condition"] == "normal":
                return device
            return next((one for one in device["findings"] if one["state"] == state), None)

        return wait_until(found, f"a device that is {state}", PATIENCE)

    agent = start()
    becomes("normal")
    with log.open("a") as file:
        file.write(readings(now + clock.MINUTE, 3, ",1,2"))
    refused = becomes("refused")
    assert "columns" in refused["reason"]
    assert refused["remedy"]
    agent.kill()
    assert becomes("offline")["word"] == "connection lost"
    agent = start()
    wait_until(lambda: client.get("/api/v1/devices/press-0001").json()["status"] == "online", "online", PATIENCE)
    agent.terminate()
    assert agent.wait(60) == 0
    assert "on purpose" in becomes("stopped")["reason"]
