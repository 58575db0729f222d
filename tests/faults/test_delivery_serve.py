"""The cloud as one process: it starts with everything, ends with everything, and leaves no orphan."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from fieldwatch_agent.send.uplink import Uplink

from tests.conftest import ROOT, Spawn, answers, find_port, wait_until
from tests.delivery import alert, alert_draft, make_journal, make_store, result, stored, waiting

Linked = Callable[..., Uplink]


def start(
    spawn: Spawn, env: Mapping[str, str], folder: Path, program: str
) -> tuple[subprocess.Popen[str], str, int, int]:
    """Start ``serve`` and return the process, its start URL, and the ports of web and broker."""
    web, broker = find_port(), find_port()
    config = folder / "cloud.toml"
    config.write_text(
        f'[web]\nport = {web}\n[store]\npath = "cloud.db"\n[broker]\nport = {broker}\nprogram = "{program}"\n'
    )
    command = [sys.executable, "-m", "fieldwatch_cloud", "serve", "--config", config]
    child = spawn(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    line = child.stdout.readline()
    assert line.startswith("dashboard: http://127.0.0.1:"), line
    return child, line.split()[1], web, broker


@pytest.mark.parametrize("program", ["iotcore", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
def test_a_line_reaches_the_dashboard_and_the_end_is_clean(
    spawn: Spawn, clean_env: Mapping[str, str], linked: Linked, tmp_path: Path, program: str
) -> None:
    child, url, web, broker = start(spawn, clean_env, tmp_path, program)
    journal = make_journal(tmp_path / "state", [*(result(minute) for minute in range(60)), alert_draft(alert(1))])
    uplink = linked(journal, f"mqtt://127.0.0.1:{broker}")
    wait_until(lambda: waiting(journal.path) == 0, "the outbox to empty")
    wait_until(lambda: answers(web), "the dashboard")
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(url, timeout=30) as page:
        assert "press-0001" in page.read().decode()
    uplink.stop()
    child.send_signal(signal.SIGTERM)
    assert child.wait(30) == 0
    assert not answers(web)
    assert not answers(broker)
    store = make_store(tmp_path)
    assert stored(store) == 60
    store.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its killed parent")
@pytest.mark.parametrize("program", ["iotcore", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
def test_a_killed_cloud_leaves_no_broker_behind(
    spawn: Spawn, clean_env: Mapping[str, str], tmp_path: Path, program: str
) -> None:
    child, _, _, broker = start(spawn, clean_env, tmp_path, program)
    assert answers(broker)
    child.kill()
    wait_until(lambda: not answers(broker), "the broker to end")


def test_a_port_that_is_taken_is_named(spawn: Spawn, clean_env: Mapping[str, str], tmp_path: Path) -> None:
    _, _, web, _ = start(spawn, clean_env, tmp_path, "iotcore")
    config = tmp_path / "second.toml"
    config.write_text(f'[web]\nport = {web}\n[store]\npath = "second.db"\n')
    command = [sys.executable, "-m", "fieldwatch_cloud", "serve", "--config", str(config)]
    second = subprocess.run(
        command, check=False, env=dict(clean_env), cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert second.returncode == 1
    assert second.stderr.splitlines()[-1] == f"port {web} of 127.0.0.1 is in use: set web.port to a free one"
    assert "Traceback" not in second.stderr
