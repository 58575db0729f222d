"""What people say of alerts reaches the device and moves its level, nothing else, and can be repeated bit for bit.

``python -m pytest tests/faults/test_verdicts.py -k ninety -s`` prints what was cut, killed and compared.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fieldwatch_agent.config import Config
from fieldwatch_agent.score.pipeline import Pipeline
from fieldwatch_agent.send import said
from fieldwatch_agent.send.database import SAID, connect, write_meta
from fieldwatch_agent.send.journal import FILE, Journal, Outbox, read_progress, read_status
from fieldwatch_agent.send.uplink import Uplink
from fieldwatch_agent.update.activation import Activation
from fieldwatch_cloud.store import Store
from fieldwatch_contract import clock
from fieldwatch_contract.alerts import AlertRule
from fieldwatch_contract.bundle import read_bundle
from fieldwatch_contract.events import Verdicts
from fieldwatch_contract.level import LevelRule
from paho.mqtt import publish
from paho.mqtt.enums import MQTTProtocolVersion

from tests.bundles import make_bundle
from tests.conftest import Broker, wait_until
from tests.delivery import DEVICE, alert, alert_draft, make_journal, result, stored, waiting

START = clock.parse_iso("2026-01-17T00:00:00Z")
MINUTES = 90 * 24 * 60
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
BAD: list[bytes | list[dict[str, Any]]] = [
    b"\xff\x00",
    b"[]",
    b"{}",
    b"null",
    b"[" * 100_000,
    b'{"verdicts": [' + b" " * 300_000 + b"]}",
    [GOOD] * 201,
    [GOOD | {"alert_id": "../../etc"}],
    [GOOD | {"alert_id": 7}],
    [GOOD | {"model": "a/b"}],
    [GOOD | {"verdict": "x" * 99}],
    [GOOD | {"since": "soon"}],
    [{"update": "now", "command": "rm"}],
]


def test_no_document_of_verdicts_stops_delivery(
    mosquitto: Callable[..., Broker], linked: Callable[..., Uplink], taken: Callable[..., Store], tmp_path: Path
) -> None:
    broker = mosquitto()
    store = taken(broker.url)
    journal = make_journal(tmp_path / "state", [result(0)])
    uplink = linked(journal, broker.url)
    wait_until(lambda: waiting(journal.path) == 0, "the first event")
    for document in BAD:
        say(broker, document)
    say(broker, b"")  # the retained message is removed
    wait_until(lambda: uplink.verdicts.refused == len(BAD), "all of it to be counted")
    wait_until(lambda: not uplink.verdicts.problem, "nothing wrong any more: there is none")
    assert uplink.verdicts.take() is None
    say(broker, [GOOD | {"more": "of a later cloud"}])
    wait_until(uplink.verdicts.take, "a good one")
    journal.enqueue([result(1), alert_draft(alert(1))])
    uplink.wake()
    wait_until(lambda: waiting(journal.path) == 0, "the events after all that")
    assert stored(store) == 2


def test_what_a_person_says_reaches_the_device_that_comes_later_and_after_a_loss(
    mosquitto: Callable[..., Broker], linked: Callable[..., Uplink], taken: Callable[..., Store], tmp_path: Path
) -> None:
    """The broker keeps it for a device that is off; a broker that has lost it gets it again."""
    broker = mosquitto()
    store = taken(broker.url)
    journal = make_journal(tmp_path / "state", [alert_draft(alert(1)), alert_draft(alert(5))])
    uplink = linked(journal, broker.url)
    wait_until(lambda: waiting(journal.path) == 0, "the alerts to be stored")
    assert store.add_verdict(alert(1).alert_id, "false")

    def told() -> list[tuple[str, str | None]]:
        document = uplink.verdicts.take()
        return [(each.alert_id, each.verdict) for each in document.verdicts] if document else []

    wait_until(lambda: told() == [(alert(1).alert_id, "false")], "the verdict")
    broker.stop()
    uplink.verdicts.take()
    broker.start()  # without what it retained
    wait_until(lambda: told() == [(alert(1).alert_id, "false")], "it again")
    assert store.add_verdict(alert(1).alert_id, "unclear")
    assert store.add_verdict(alert(5).alert_id, "real")
    wait_until(lambda: told() == [(alert(5).alert_id, "real"), (alert(1).alert_id, None)], "the revision")


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-99-99T99:99:99Z"])
def test_a_time_that_is_none_of_ours_moves_nothing_before_the_next_row(tmp_path: Path, since: str) -> None:
    document = Verdicts.model_validate({"verdicts": [GOOD | {"since": since}]})
    (kept,) = said.with_new((), document, START)
    assert kept.since > START
    assert said.from_json(said.to_json((kept,))) == (kept,)


def test_a_document_that_is_none_is_a_trouble_until_a_good_one_comes(
    mosquitto: Callable[..., Broker], clean_env: Mapping[str, str], tmp_path: Path
) -> None:
    """Also after a restart: the broker retains it, and gives it to the device again."""
    broker = mosquitto()
    site = Site(tmp_path / "site", broker, clean_env)

    def told() -> list[str]:
        """What ``status`` and the cloud are told of it."""
        health = read_status(site.state / FILE)["health"] if (site.state / FILE).exists() else None
        troubles = health["troubles"] if isinstance(health, dict) else []
        return [f"{each['detail']}; {each['remedy']}" for each in troubles if each["kind"] == "verdicts_unread"]

    site.start()
    try:
        say(broker, [GOOD])
        wait_until((site.state / FILE).exists, "the journal")
        wait_until(site.heard, "the device to listen")
        assert told() == []
        say(broker, [GOOD | {"model": "a/b"}])
        wait_until(told, "the trouble")
        assert "1 in a row" in told()[0] and "verdicts.0.model: String should match" in told()[0]
        assert "the cloud writes the document anew" in told()[0]
        site.end(signal.SIGTERM)
        say(broker, b"{}")
        site.start()
        wait_until(lambda: "verdicts: Field required" in "".join(told()), "the trouble, after a restart")
        say(broker, [GOOD | {"verdict": "false"}])
        wait_until(lambda: site.heard() == {GOOD["alert_id"]: "false"} and not told(), "its end")
    finally:
        site.end(signal.SIGKILL)


# ---- ninety days, cut and killed ------------------------------------------------------------------------------------


def ninety_days(seed: int) -> list[str]:
    """A line a minute: quiet, with jobs that come back and look alike, and faults of other sensors."""
    rng = np.random.default_rng(seed)
    values = rng.normal(10, 1.2, (MINUTES, 3))
    for start in range(2_000, MINUTES - 500, 4_300):
        values[start : start + 40, 0] += 22
    for start in rng.integers(1_000, MINUTES - 2_000, 25).tolist():
        values[start : start + int(rng.integers(5, 900)), int(rng.integers(0, 3))] += float(rng.uniform(8, 40))
    times = clock.iso_column(START + np.arange(MINUTES) * clock.MINUTE)
    return [
        f"{ts},{a:.3f},{b:.3f},{c:.3f}\n" for ts, (a, b, c) in zip(times, values.tolist(), strict=True)
    ]  # fmt: skip


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


def alerts(journal: Path) -> list[dict[str, Any]]:
    """The alerts in the outbox; how far a picture's scores reach depends on the block, nothing else does."""
    with closing(Outbox(journal)) as outbox:
        found = [json.loads(each.data) for each in outbox.pending(0, 10**7) if each.event == "alert"]
    for one in found:
        if one["evidence"]:
            one["evidence"].pop("scores")
    return found


@pytest.mark.timeout(600)
def test_ninety_days_cut_and_killed_anywhere_are_one_pass(
    mosquitto: Callable[..., Broker], clean_env: Mapping[str, str], tmp_path: Path
) -> None:
    """Alerts, their levels, marks and sensors, and the rule's state: the bits of one pass over all of it, by replay and
    by an agent that nobody disturbs; given the rows from which the journal says that verdicts hold."""
    dice, broker = random.Random(7), mosquitto()
    lines = ninety_days(7)
    site = Site(tmp_path / "site", broker, clean_env)
    document: dict[str, dict[str, Any]] = {}
    written = kills = torn = 0
    site.start()
    try:
        while written < len(lines):
            count = dice.randint(3_000, 16_000)
            until = START + (written + dice.randint(0, count // 2)) * clock.MINUTE
            with site.log.open("a") as file:
                file.writelines(lines[written : written + count])
            written = min(written + count, len(lines))
            if dice.random() < 0.7:
                wait_until(partial(site.has_read, min(until, START + (written - 1) * clock.MINUTE)), "some rows")
            time.sleep(dice.uniform(0, 0.1))  # somewhere in a block, its commit, or after it
            site.end(signal.SIGKILL)
            kills += 1
            torn += site.newest < START + (written - 1) * clock.MINUTE
            for each in alerts(site.state / FILE) if (site.state / FILE).exists() else []:
                if each["transition"] == "opened" and dice.random() < 0.3:
                    document[each["alert_id"]] = GOOD | {
                        "alert_id": each["alert_id"], "verdict": dice.choice(["real", "false", "false", None]),
                    }  # fmt: skip
            latest = list(document.values())[-200:]
            say(broker, latest)
            site.start()
            if dice.random() < 0.7:
                wait_until(partial(site.has_heard, latest), "the verdicts")
        last = START + (len(lines) - 1) * clock.MINUTE
        wait_until(lambda: site.newest == last, "the log's end", 120)
        site.end(signal.SIGTERM)
    finally:
        if site.process is not None:
            site.end(signal.SIGKILL)
    ours = site.state / FILE
    told, progress = alerts(ours), read_progress(ours)
    status = tmp_path / "status.json"
    status.write_text(json.dumps(read_status(ours)))
    known = said.from_json(status.read_text())

    config = Config.model_validate(
        site.wanted | {"state": {"dir": str(tmp_path / "calm"), "outbox_limit": "500MB"}, "mqtt": None}
    )
    calm = Journal(config.state.dir, 1 << 30)
    with closing(connect(calm.path)) as db:
        write_meta(db, SAID, said.to_json(known))
    pipeline = Pipeline(config, read_bundle(BUNDLE), calm)
    while pipeline.step() is not None:
        pass
    assert calm.progress().alerts == progress.alerts
    assert alerts(calm.path) == told
    calm.close()

    zipped = tmp_path / "bundle.zip"
    zipped.write_bytes(BUNDLE)
    command = [sys.executable, "-m", "fieldwatch_agent", "replay", str(site.log), "--bundle", str(zipped),
               "--config", str(site.toml), "--verdicts", str(status)]  # fmt: skip
    done = subprocess.run(command, env=dict(clean_env), capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == len(lines)
    by_time = {row["ts"]: row for row in rows}
    opened = [each for each in told if each["transition"] == "opened"]
    assert [by_time[each["ts"]]["level"] for each in opened] == [each["level"] for each in opened]
    assert list(dict.fromkeys(row["alert"] for row in rows if row["alert"])) == [each["alert_id"] for each in opened]
    effective = [each for each in known if each.verdict is not None]
    alike = sum(each["like"] is not None for each in opened)
    assert kills >= 8 and torn and len(opened) > 30 and len(known) > len(effective) > 10 and alike
    print(
        f"\n90 days, {len(lines)} rows: killed {kills} times, {torn} of them before the log's end; {len(known)} "
        f"verdicts and revisions; {len(opened)} alerts, {alike} of them like a dismissed one: the same bits as one pass"
    )
