"""A second bundle is published: the agent picks it up while it scores; bad ones are refused and change nothing.

The real service reads a real log that grows all the while; its updater pulls from a real static web server. Whatever
the server offers, no line waits: the times between commits tell.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_agent.send.journal import FILE, Outbox, read_status
from fieldwatch_contract import clock
from fieldwatch_contract.alerts import AlertRule

from tests.bundles import make_bundle
from tests.conftest import running, wait_until

pytestmark = pytest.mark.timeout(180)
ROOT = Path(__file__).parents[2]
START = 1_768_608_000_000_000


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "www"
    folder.mkdir()
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    with running(served) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[list[int]]:
    """A log that grows by twenty lines a second; the list holds the times written."""
    log = tmp_path / "logs" / "readings.csv"
    log.parent.mkdir()
    log.write_text("timestamp,s0,s1,s2\n")
    times: list[int] = []
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.05):
            ts = START + len(times) * clock.MINUTE
            with log.open("a") as file:
                file.write(f"{clock.iso(ts)},10,10.5,9.5\n")
            times.append(ts)

    thread = threading.Thread(target=write)
    thread.start()
    yield times
    stop.set()
    thread.join()


def release(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "fieldwatch_trainer.release", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def publish(tmp_path: Path, version: str, repo: str = "www", **options: Any) -> None:
    bundle = tmp_path / f"{version}.zip"
    bundle.write_bytes(make_bundle(3, version, lookback=5, **options))
    release("publish", str(bundle), "--repo", str(tmp_path / repo), "--keys", str(tmp_path / f"{repo}-keys"),
            "--accept", "no-gates", "--channel", "stable")  # fmt: skip


class Device:
    """What the journal of the running agent tells."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "state" / FILE

    def results(self) -> list[tuple[str, str]]:
        """Time and bundle of every result, in order."""
        if not self._path.exists():
            return []
        outbox = Outbox(self._path)
        try:
            rows = [json.loads(m.data) for m in outbox.pending(0, 10**6) if m.event == "result"]
        finally:
            outbox.close()
        return [(row["ts"], row["bundle"]) for row in rows]

    def models(self) -> list[dict[str, Any]]:
        outbox = Outbox(self._path)
        try:
            return [json.loads(m.data) for m in outbox.pending(0, 10**6) if m.event == "model"]
        finally:
            outbox.close()

    def runs(self, version: str) -> bool:
        return any(bundle == f"press/{version}" for _, bundle in self.results()[-3:])

    def grows(self, since: int) -> bool:
        return len(self.results()) > since + 20


def test_new_bundle_is_taken_up_and_bad_ones_are_refused(
    tmp_path: Path, server: str, writer: list[int], spawn: Callable[..., subprocess.Popen[bytes]]
) -> None:
    release("init", str(tmp_path / "www"), "--keys", str(tmp_path / "www-keys"))
    publish(tmp_path, "v1")
    shutil.copy(tmp_path / "www" / "metadata" / "1.root.json", tmp_path / "root.json")
    (tmp_path / "agent.toml").write_text(
        f"""
[device]
id = "press-0001"
type = "press"
[log]
path = "logs/readings.csv"
period = "60s"
[updates]
url = "{server}"
interval = "1s"
[state]
dir = "state"
"""
    )
    device = Device(tmp_path)
    with (tmp_path / "agent.log").open("wb") as output:
        agent = spawn(
            [sys.executable, "-m", "fieldwatch_agent", "run", "--config", str(tmp_path / "agent.toml")],
            stdout=output, stderr=output, cwd=ROOT, env=os.environ,
        )  # fmt: skip
    wait_until(lambda: device.runs("v1"), "the first bundle scores")

    publish(tmp_path, "v2")
    wait_until(lambda: device.runs("v2"), "the second bundle scores")

    # a flipped byte on the server
    publish(tmp_path, "v3")
    target = next((tmp_path / "www" / "targets" / "prod" / "press").glob("*v3.zip"))
    data = bytearray(target.read_bytes())
    data[len(data) // 2] ^= 1
    target.write_bytes(bytes(data))
    refused = wait_until(lambda: _trouble(tmp_path), "the flipped byte is noticed")
    assert "v3" in refused or "damaged" in refused or "hash" in refused.lower(), refused
    assert_scores_on(device, "v2")

    # rightly signed, but its golden vectors promise what no machine computes
    target.write_bytes((tmp_path / "v3.zip").read_bytes())
    wait_until(lambda: device.runs("v3"), "the mended bundle scores")
    _publish_unchecked(tmp_path, "v4")
    wait_until(
        lambda: any(m["transition"] == "refused" and "golden" in m["reason"] for m in device.models()),
        "the wrong golden vectors are refused",
    )
    assert_scores_on(device, "v3")

    # computes what it promises, but finds this device's last day one long alarm
    wait_until(lambda: len(device.results()) > 40, "there are enough readings to judge by")
    publish(tmp_path, "v5", threshold=0.001, rule=AlertRule(persistence=1))
    against = wait_until(
        lambda: next((m["reason"] for m in device.models() if "the running bundle" in m["reason"]), None),
        "the shadow speaks against it",
    )
    assert against.startswith("press/v5 refused: it finds "), against
    assert_scores_on(device, "v3")

    # a whole repository under foreign keys in the place of ours
    release("init", str(tmp_path / "evil"), "--keys", str(tmp_path / "evil-keys"))
    publish(tmp_path, "v6", repo="evil")
    shutil.rmtree(tmp_path / "www" / "metadata")
    shutil.rmtree(tmp_path / "www" / "targets")
    shutil.copytree(tmp_path / "evil" / "metadata", tmp_path / "www" / "metadata")
    shutil.copytree(tmp_path / "evil" / "targets", tmp_path / "www" / "targets")
    foreign = wait_until(
        lambda: next((m["reason"] for m in device.models() if "sign" in m["reason"].lower()), None),
        "the foreign keys are noticed",
    )
    assert "sign" in foreign.lower()
    assert_scores_on(device, "v3")

    assert agent.poll() is None
    agent.terminate()
    assert agent.wait(10) == 0
    results = device.results()
    assert [ts for ts, _ in results] == [clock.iso(ts) for ts in writer[: len(results)]], "no line was passed over"
    versions = list(dict.fromkeys(bundle for _, bundle in results))
    assert versions == ["press/v1", "press/v2", "press/v3"]


def _publish_unchecked(tmp_path: Path, version: str) -> None:
    """Sign a bundle that the release tool itself would refuse: its self-test is taken out of the way."""
    bundle = tmp_path / f"{version}.zip"
    bundle.write_bytes(make_bundle(3, version, lookback=5, wrong_golden=True))
    script = (
        "import sys, fieldwatch_trainer.release.work as work\n"
        "work.self_test = lambda scorer: None\n"
        "from fieldwatch_trainer.release.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "publish", str(bundle), "--accept", "no-gates", "--repo", str(tmp_path / "www"),
         "--keys", str(tmp_path / "www-keys"), "--channel", "stable"],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def _trouble(tmp_path: Path) -> str:
    state = json.loads((tmp_path / "state" / "activation.json").read_text())
    return str(state["note"])


def assert_scores_on(device: Device, version: str) -> None:
    since = len(device.results())
    wait_until(lambda: device.grows(since), f"scoring goes on with {version}")
    assert device.runs(version)


def test_status_of_a_device_that_waits_for_its_first_bundle(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(
        """
[device]
id = "press-0001"
type = "press"
[log]
path = "readings.csv"
period = "60s"
[state]
dir = "state"
"""
    )
    run = subprocess.Popen(
        [sys.executable, "-m", "fieldwatch_agent", "run", "--config", str(tmp_path / "agent.toml")], cwd=ROOT
    )
    try:
        status = wait_until(
            lambda: (tmp_path / "state" / FILE).exists() and read_status(tmp_path / "state" / FILE)["health"],
            "the agent reports",
        )
    finally:
        run.terminate()
        run.wait()
    assert status["log"] == "waiting"
    assert "no bundle yet" in status["log_detail"]
