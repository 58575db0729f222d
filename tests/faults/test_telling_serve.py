"""The whole server: an alert comes over a real broker, a mail reaches a real SMTP server; `notify test` by command."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from fieldwatch_contract import topics
from paho.mqtt import publish
from paho.mqtt.client import MQTTv5

from tests.conftest import ROOT, Broker, Spawn, find_port, wait_until
from tests.delivery import DEVICE, alert, alert_draft
from tests.mailbox import TO_MAIL, Mailbox
from tests.unit.cloud.wire import message

PEOPLE = ["ana@lab.example", "ben@lab.example"]


def write_config(folder: Path, broker: str, smtp: int) -> tuple[Path, int]:
    port = find_port()
    path = folder / "cloud.toml"
    path.write_text(f'[web]\nport = {port}\n[broker]\nurl = "{broker}"\n{TO_MAIL.format(smtp=smtp, to=PEOPLE)}')
    return path, port


def test_an_alert_on_the_broker_is_a_mail_to_each_person(
    mosquitto: Callable[..., Broker], spawn: Spawn, clean_env: Mapping[str, str], tmp_path: Path, box: Mailbox
) -> None:
    broker = mosquitto()
    config, port = write_config(tmp_path, broker.url, box.port)
    command = [sys.executable, "-m", "fieldwatch_cloud", "serve", "--config", config]
    child = spawn(command, env=clean_env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert child.stdout.readline().startswith("dashboard: ")
    found = message(1, alert_draft(alert(60)), DEVICE)
    publish.single(found.topic, found.payload, qos=1, port=broker.port, protocol=MQTTv5)
    assert found.topic == topics.topic(DEVICE, "evt/alert")
    wait_until(lambda: len(box.taken) == 2, "both mails", 60)
    assert sorted(str(one["To"]) for one in box.taken) == ["ana@lab.example", "ben@lab.example"]
    assert len(set(box.ids())) == 2
    publish.single(found.topic, found.payload, qos=1, port=broker.port, protocol=MQTTv5)
    found = message(2, alert_draft(alert(65, "resolved", opened=60)), DEVICE)
    publish.single(found.topic, found.payload, qos=1, port=broker.port, protocol=MQTTv5)
    wait_until(lambda: len(box.taken) == 4, "the end", 60)
    assert [str(one["Subject"]).startswith("[Fieldwatch] over: ") for one in box.taken] == [False, False, True, True]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=30) as answer:
        ready = json.load(answer)
    assert (ready["status"], set(ready["parts"])) == ("ready", {"database", "broker", "ingest", "telling", "outbox"})


@pytest.mark.parametrize(("route", "code"), [("lab", 0), ("lap", 2)])
def test_a_test_message_by_command(
    clean_env: Mapping[str, str], tmp_path: Path, box: Mailbox, route: str, code: int
) -> None:
    config, _ = write_config(tmp_path, "embedded", box.port)
    command = [sys.executable, "-m", "fieldwatch_cloud", "notify", "test", route, "--config", str(config)]
    ended = subprocess.run(command, cwd=ROOT, env=dict(clean_env), capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stderr
    if code == 0:
        assert ended.stdout == "lab-mail ana@lab.example: taken\nlab-mail ben@lab.example: taken\n"
        assert all("this is a test: nothing is wrong" in str(one["Subject"]) for one in box.taken)
    else:
        assert "no route 'lap' in the configuration; known: lab" in ended.stderr
        assert box.taken == []


def test_a_test_message_that_nobody_takes_says_why(clean_env: Mapping[str, str], tmp_path: Path) -> None:
    config, _ = write_config(tmp_path, "embedded", find_port())
    command = [sys.executable, "-m", "fieldwatch_cloud", "notify", "test", "lab", "--config", str(config)]
    ended = subprocess.run(command, cwd=ROOT, env=dict(clean_env), capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "lab-mail ana@lab.example: 127.0.0.1: [Errno 111] Connection refused" in ended.stdout
