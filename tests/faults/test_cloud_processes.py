"""The server in several processes on one store: two ingest, two workers, the pages; some are killed."""

from __future__ import annotations

import http.client
import json
import queue
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_cloud.store import Store, sqlite_url
from fieldwatch_cloud.store import tables as t
from fieldwatch_contract import clock
from paho.mqtt import publish
from paho.mqtt.client import MQTTv5
from sqlalchemy import select

from tests.conftest import ROOT, Broker, Spawn, end, find_port, wait_until
from tests.delivery import DEVICE, alert, alert_draft, result
from tests.mailbox import TO_MAIL, Mailbox
from tests.unit.cloud.wire import message

TOKEN = "t" * 32
PATIENCE = 120.0
CONFIG = """
[web]
port = {port}
api_token = "{token}"
[broker]
url = "{broker}"
group = "ingest"
"""


def healthz(port: int) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=30) as answer:
            return answer.status, json.load(answer)["parts"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["parts"]


def listen(port: int, kinds: queue.Queue[str]) -> None:
    """Follow the event stream of the pages' process."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", "/api/v1/events", headers={"Authorization": f"Bearer {TOKEN}"})
    answer = connection.getresponse()
    kinds.put(str(answer.status))
    try:
        while line := answer.readline():
            if line.startswith(b"event: "):
                kinds.put(line[7:].strip().decode())
    except (OSError, http.client.HTTPException):
        pass


@pytest.mark.timeout(600)
def test_processes_share_the_work_and_one_that_is_killed_is_followed(
    mosquitto: Callable[..., Broker], spawn: Spawn, clean_env: Mapping[str, str], tmp_path: Path
) -> None:
    broker, box, port = mosquitto(), Mailbox(), find_port()
    config = tmp_path / "cloud.toml"
    text = CONFIG.format(port=port, token=TOKEN, broker=broker.url)
    config.write_text(text + TO_MAIL.format(smtp=box.port, to=["ana@lab.example"]))
    store = Store(sqlite_url(tmp_path / "fieldwatch.db"))

    def start(command: str) -> subprocess.Popen[str]:
        child = spawn(
            [sys.executable, "-m", "fieldwatch_cloud", command, "--config", config],
            env=clean_env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        return child

    def ready(child: subprocess.Popen[str], says: str) -> None:
        assert child.stdout is not None
        assert child.stdout.readline().startswith(says)

    def send(seq: int, what: Any, device: str = DEVICE) -> None:
        found = message(seq, what, device)
        publish.single(found.topic, found.payload, qos=1, port=broker.port, protocol=MQTTv5)

    def rows(query: Any) -> list[Any]:
        with store.read() as db:
            return list(db.execute(query))

    def tellers() -> set[str]:
        r = t.runner.c
        return {row.holder for row in rows(select(r.holder).where(r.part == "telling", r.until > clock.now()))}

    first = start("worker")
    ready(first, "running")
    others = [start(command) for command in ("ingest", "ingest", "worker", "web")]
    for child, says in zip(others, ("running", "running", "running", "dashboard: "), strict=True):
        ready(child, says)
    one, two, second, _ = others
    try:
        wait_until(lambda: healthz(port)[0] == 200, "a server that is well", PATIENCE)
        assert set(healthz(port)[1]) == {"database", "broker", "ingest", "telling"}
        teller = tellers()
        assert len(teller) == 1

        kinds: queue.Queue[str] = queue.Queue()
        threading.Thread(target=listen, args=(port, kinds), daemon=True).start()
        assert kinds.get(timeout=PATIENCE) == "200"
        send(1, alert_draft(alert(60)))
        wait_until(lambda: len(box.taken) == 1, "the mail", PATIENCE)
        heard = [kinds.get(timeout=PATIENCE)]
        while heard[-1] != "alert":
            heard.append(kinds.get(timeout=PATIENCE))

        one.kill()
        first.kill()  # it had the work: the second worker was told to wait
        missing = {f"other-{number:02d}" for number in range(20)}

        def all_there() -> bool:  # what the broker gave to the killed one is sent again, as a device does
            for device in sorted(missing):
                send(1, result(1), device)
            time.sleep(1.0)
            missing.difference_update(row.id for row in rows(select(t.device.c.id)))
            return not missing

        wait_until(all_there, "the other ingest to take all", PATIENCE)
        send(2, alert_draft(alert(65, "resolved", opened=60)))
        wait_until(lambda: len(box.taken) == 2, "the mail of the other worker", PATIENCE)
        assert tellers().isdisjoint(teller)
        assert len(set(box.ids())) == 2

        assert (end(two), end(second)) == (0, 0)
        said = "no process does it: start `fieldwatch-cloud {}` with this configuration"
        wait_until(lambda: healthz(port)[0] == 503, "the pages to notice", PATIENCE)
        wait_until(lambda: len([p for p in healthz(port)[1].values() if p["status"] == "down"]) == 2, "both", PATIENCE)
        parts = healthz(port)[1]
        assert parts["ingest"]["says"] == said.format("ingest")
        assert parts["telling"]["says"] == said.format("worker")
    finally:
        store.close()
        box.stop()
