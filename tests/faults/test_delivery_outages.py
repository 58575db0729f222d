"""Broker, network and ingest fail at the worst moments: afterwards every event is stored exactly once."""

from __future__ import annotations

import random
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_agent.send.journal import Draft, Outbox, read_status
from fieldwatch_agent.send.uplink import Uplink
from fieldwatch_cloud.config import BrokerConfig
from fieldwatch_cloud.ingest import Ingest
from fieldwatch_cloud.ingest.broker import Broker as OwnBroker
from fieldwatch_cloud.ingest.broker import BrokerError
from fieldwatch_cloud.store import Store
from fieldwatch_cloud.store import tables as t

from tests.brokers import Line
from tests.conftest import PATIENCE, ROOT, Broker, Spawn, find_port, wait_until
from tests.delivery import (
    DEVICE,
    QUICK,
    alert,
    alert_draft,
    health,
    last_ack,
    make_journal,
    make_store,
    mqtt,
    result,
    rows,
    stored,
    waiting,
)

MakeBroker = Callable[..., Broker]
Linked = Callable[..., Uplink]
Taken = Callable[..., Store]

DIE_AFTER_COMMIT = """
import os, sys
from fieldwatch_cloud.__main__ import main
from fieldwatch_cloud.store import Store
real, left = Store.ingest, [int(sys.argv[1])]
def ingest(self, batch, received=None):
    outcome = real(self, batch, received)
    if batch.numbers:
        left[0] -= 1
        if left[0] == 0:
            os._exit(9)  # stored, and nobody was told
    return outcome
Store.ingest = ingest
sys.exit(main(["ingest", "--config", sys.argv[2]]))
"""


def exactly_once(store: Store, readings: int) -> None:
    """Every reading has its two results, the rollup counted each once, and the device was told so."""
    assert stored(store) == readings
    assert len(rows(store, t.result)) == 2 * readings
    assert sum(row["n"] for row in rows(store, t.result_1h)) == 2 * readings


@pytest.mark.soak
def test_a_new_alert_overtakes_a_backlog_of_20000(
    mosquitto: MakeBroker, linked: Linked, taken: Taken, tmp_path: Path
) -> None:
    broker = mosquitto()
    journal = make_journal(tmp_path / "state", [result(minute) for minute in range(20_000)])
    journal.enqueue([alert_draft(alert(1))])
    store = taken(broker.url)
    uplink = linked(journal, broker.url)
    wait_until(lambda: stored(store) > 1000, "a part of the backlog")
    journal.enqueue([alert_draft(alert(2))])  # opens while the backlog is on its way
    uplink.wake()
    wait_until(lambda: waiting(journal.path) == 0, "the outbox to empty")
    exactly_once(store, 20_000)
    first, second = sorted(rows(store, t.alert), key=lambda row: int(row["opened_at"]))
    before = [
        sum(row["received"] < found["first_received"] for row in rows(store, t.result)) for found in (first, second)
    ]
    assert before[0] == 0
    assert before[1] < 2 * 20_000
    ack = last_ack(store)
    assert ack is not None
    assert (ack.upto, ack.also) == (20_002, [])


@pytest.mark.parametrize("persistence", [True, False])
def test_a_killed_broker_loses_nothing(
    mosquitto: MakeBroker, linked: Linked, taken: Taken, tmp_path: Path, persistence: bool
) -> None:
    broker = mosquitto(persistence=persistence)
    store = taken(broker.url)
    journal = make_journal(tmp_path / "state")
    uplink = linked(journal, broker.url)
    total = 0
    for round_ in range(4):
        drafts = [result(total + minute) for minute in range(300)]
        journal.enqueue([*drafts, alert_draft(alert(10_000 + round_))])
        uplink.wake()
        total += 300
        wait_until(lambda: uplink.connected, "the connection")
        broker.kill()
        broker.start()
    wait_until(lambda: waiting(journal.path) == 0, "the outbox to empty")
    exactly_once(store, total)
    assert len(rows(store, t.alert)) == 4


def test_a_line_that_is_cut_after_a_few_kilobytes_still_carries_everything(
    mosquitto: MakeBroker, linked: Linked, taken: Taken, tmp_path: Path
) -> None:
    """A backlog's batches and an alert's evidence are larger than what any connection lasts for."""
    broker = mosquitto()
    store = taken(broker.url)
    noise = random.Random(1)
    evidence = alert(1).evidence
    assert evidence is not None
    large = evidence.model_copy(update={"z": "".join(noise.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=20_000))})
    drafts = [result(minute, noise.random()) for minute in range(600)]
    drafts.append(alert_draft(alert(1).model_copy(update={"evidence": large})))
    journal = make_journal(tmp_path / "state", drafts)
    line = Line(broker.port, 6_000)
    linked(journal, line.url)
    wait_until(lambda: waiting(journal.path) == 0, "the outbox to empty", 2 * PATIENCE)
    exactly_once(store, 600)
    assert len(rows(store, t.alert)) == 1
    assert line.connections > 5
    line.close()


def test_a_broker_that_hangs_is_left_and_found_again(
    mosquitto: MakeBroker, linked: Linked, taken: Taken, tmp_path: Path
) -> None:
    broker = mosquitto()
    store = taken(broker.url)
    journal = make_journal(tmp_path / "state", [result(0)])
    uplink = linked(journal, broker.url)
    wait_until(lambda: waiting(journal.path) == 0, "the first event")
    broker.pause()
    journal.enqueue([result(minute) for minute in range(1, 100)])
    uplink.wake()
    wait_until(lambda: not uplink.connected, "the uplink to give the connection up")
    assert waiting(journal.path) == 99
    broker.resume()
    wait_until(lambda: waiting(journal.path) == 0, "the outbox to empty")
    exactly_once(store, 100)
    wait_until(lambda: uplink.error is None, "the error to end")


def test_ingest_killed_between_commit_and_acknowledgement(
    mosquitto: MakeBroker, linked: Linked, spawn: Spawn, clean_env: Mapping[str, str], tmp_path: Path
) -> None:
    broker = mosquitto()
    config = tmp_path / "cloud.toml"
    config.write_text(f'[store]\npath = "cloud.db"\n[broker]\nurl = "{broker.url}"\n')
    journal = make_journal(tmp_path / "state", [result(minute) for minute in range(2000)])
    journal.enqueue([alert_draft(alert(1))])
    store = make_store(tmp_path)
    linked(journal, broker.url)
    for after in (1, 2, 3):
        driver = [sys.executable, "-c", DIE_AFTER_COMMIT, str(after), str(config)]
        doomed = spawn(driver, env=clean_env, cwd=ROOT)
        if after == 1:
            assert doomed.wait(30) == 9
            assert stored(store) + len(rows(store, t.alert)) > 0
            assert waiting(journal.path) == 2001  # the device was not told and has everything
        else:
            wait_until(lambda child=doomed: child.poll() is not None or waiting(journal.path) == 0, "the next death")
        doomed.kill()
    spawn([sys.executable, "-m", "fieldwatch_cloud", "ingest", "--config", config], env=clean_env, cwd=ROOT)
    wait_until(lambda: waiting(journal.path) == 0, "the outbox to empty")
    exactly_once(store, 2000)
    assert len(rows(store, t.alert)) == len(rows(store, t.alert_event)) == 1
    store.close()


def test_workers_of_a_group_share_the_load_and_one_dies_for_good(
    mosquitto: MakeBroker, linked: Linked, spawn: Spawn, clean_env: Mapping[str, str], tmp_path: Path
) -> None:
    broker = mosquitto()
    config = tmp_path / "cloud.toml"
    config.write_text(f'[store]\npath = "cloud.db"\n[broker]\nurl = "{broker.url}"\ngroup = "ingest"\n')
    store = make_store(tmp_path)
    command = [sys.executable, "-m", "fieldwatch_cloud", "ingest", "--config", config]
    workers = [spawn(command, env=clean_env, cwd=ROOT) for _ in range(3)]
    journal = make_journal(tmp_path / "state", [result(minute) for minute in range(4000)])
    linked(journal, broker.url)
    wait_until(lambda: stored(store) > 0, "the first results")
    workers[0].kill()
    wait_until(lambda: waiting(journal.path) == 0, "the outbox to empty")
    exactly_once(store, 4000)
    store.close()


def test_a_store_that_cannot_be_written_confirms_nothing(
    mosquitto: MakeBroker, linked: Linked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fieldwatch_cloud.store.database.BUSY_TIMEOUT", 0.2)
    broker = mosquitto()
    store = make_store(tmp_path)
    ingest = Ingest(store, BrokerConfig(url=broker.url))
    ingest.start()
    wait_until(lambda: ingest.connected, "ingest to subscribe")
    journal = make_journal(tmp_path / "state")
    uplink = linked(journal, broker.url)
    other = make_store(tmp_path)
    with other.write():  # somebody else holds the only pen
        journal.enqueue([result(minute) for minute in range(100)])
        uplink.wake()
        wait_until(lambda: "cannot be written" in (ingest.error or ""), "ingest to notice")
        assert "database is locked" in str(ingest.error)
        assert waiting(journal.path) == 100
    wait_until(lambda: waiting(journal.path) == 0, "the outbox to empty")
    exactly_once(store, 100)
    assert ingest.error is None
    ingest.stop()
    other.close()
    store.close()


def test_without_application_acknowledgement_the_broker_is_believed(
    mosquitto: MakeBroker, linked: Linked, taken: Taken, tmp_path: Path
) -> None:
    broker = mosquitto(persistence=True)
    store = taken(broker.url)
    journal = make_journal(tmp_path / "state", [*(result(minute) for minute in range(500)), alert_draft(alert(1))])
    linked(journal, broker.url, acknowledge="puback")
    wait_until(lambda: waiting(journal.path) == 0, "the outbox to empty")
    wait_until(lambda: stored(store) == 500, "the results")
    exactly_once(store, 500)


def test_nothing_leaves_the_outbox_while_nobody_stores_it(
    mosquitto: MakeBroker, linked: Linked, tmp_path: Path
) -> None:
    broker = mosquitto()
    journal = make_journal(tmp_path / "state", [result(minute) for minute in range(100)])
    uplink = linked(journal, broker.url)
    wait_until(lambda: "nobody takes our events; is ingest running?" in (uplink.error or ""), "the uplink to notice")
    assert uplink.connected
    assert waiting(journal.path) == 100
    assert not uplink.idle


def test_a_cloud_that_stores_and_stays_silent_is_asked_again(
    mosquitto: MakeBroker, linked: Linked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = mosquitto()
    store = make_store(tmp_path)
    silent = Ingest(store, BrokerConfig(url=broker.url))
    monkeypatch.setattr(silent, "_tell", lambda: None)
    silent.start()
    assert silent.wait_connected(30)
    journal = make_journal(tmp_path / "state", [result(minute) for minute in range(100)])
    uplink = linked(journal, broker.url)
    wait_until(lambda: silent.stats.duplicates > 0, "the events to be sent again")
    assert "the cloud does not acknowledge; is ingest running" in str(uplink.error)
    assert waiting(journal.path) == 100
    silent.stop()
    exactly_once(store, 100)
    store.close()


def test_why_a_device_is_there_or_gone_is_told(
    mosquitto: MakeBroker, linked: Linked, taken: Taken, tmp_path: Path
) -> None:
    """A cable that was pulled, a main loop that hangs, a wanted stop, a crash: each sends another person."""
    broker = mosquitto()
    store = taken(broker.url)
    journal = make_journal(tmp_path / "state", [result(0)])

    def told(status: str, reason: str) -> None:
        def found() -> bool:
            return [(row["status"], row["status_reason"]) for row in rows(store, t.device)] == [(status, reason)]

        wait_until(found, f"{status}: {reason}")

    uplink = linked(journal, broker.url)
    told("online", "started")
    link = uplink._link
    assert link is not None
    sock: Any = link._client.socket()
    sock.shutdown(2)  # the cable is pulled
    told("offline", "connection lost")
    told("online", "reconnected")
    uplink.beat()  # the main loop lives, once
    told("online", "stalled")
    uplink.beat()
    told("online", "reconnected")
    journal.stopped()
    uplink.stop()
    told("offline", "stopped")
    journal.close()

    journal = make_journal(tmp_path / "state")
    uplink = linked(journal, broker.url)
    told("online", "started")
    uplink.stop(wanted=False)  # an exception ends the agent
    told("offline", "connection lost")
    journal.close()
    linked(make_journal(tmp_path / "state"), broker.url)
    told("online", "started after a crash or power loss")


def test_status_tells_of_the_uplink_at_once(
    mosquitto: MakeBroker, linked: Linked, taken: Taken, tmp_path: Path
) -> None:
    """Whatever the main loop does: what keeps messages away, that they are on their way, and that all is well."""
    broker = mosquitto()
    broker.stop()
    journal = make_journal(tmp_path / "state", [result(minute) for minute in range(100)])

    def line() -> str:
        return str(read_status(journal.path)["uplink"])

    linked(journal, broker.url)
    wait_until(lambda: "nobody listens there" in line(), "the broker to be missed")
    broker.start()
    wait_until(lambda: "nobody takes our events" in line() or "connected, sending" in line(), "the reconnection")
    taken(broker.url)
    wait_until(lambda: waiting(journal.path) == 0, "the outbox to empty")
    wait_until(lambda: line() == "", "all to be well")


def test_a_failing_callback_does_not_end_the_uplink(
    mosquitto: MakeBroker, linked: Linked, taken: Taken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = mosquitto()
    store = taken(broker.url)
    failures = [RuntimeError("one"), RuntimeError("two")]
    real = Uplink.on_publish

    def fail_twice(self: Uplink, *arguments: Any) -> None:
        if failures:
            raise failures.pop()
        real(self, *arguments)

    monkeypatch.setattr(Uplink, "on_publish", fail_twice)
    journal = make_journal(tmp_path / "state", [result(minute) for minute in range(30)])
    linked(journal, broker.url)
    wait_until(lambda: waiting(journal.path) == 0, "the outbox to empty")
    assert not failures
    exactly_once(store, 30)


def test_memory_and_threads_stay_while_the_broker_is_away(linked: Linked, tmp_path: Path) -> None:
    journal = make_journal(tmp_path / "state", [result(minute) for minute in range(3000)])
    before = threading.active_count()
    uplink = linked(journal, f"mqtt://127.0.0.1:{find_port()}")
    for _ in range(50):
        uplink.wake()
        time.sleep(0.01)
    wait_until(lambda: uplink.error is not None, "the error")
    assert uplink._traffic.plan.unacked == 0
    assert threading.active_count() <= before + 2, "the uplink's, and one that connects"


# ---- the broker that the cloud brings -----------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["iotcore", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
def test_the_embedded_broker_carries_everything(program: Any, tmp_path: Path) -> None:
    store = make_store(tmp_path)
    with OwnBroker(tmp_path / "broker", 0, program) as broker:
        ingest = Ingest(store, BrokerConfig(), broker.url)
        ingest.start()
        journal = make_journal(tmp_path / "state", [*(result(minute) for minute in range(3000)), alert_draft(alert(1))])
        uplink = Uplink(mqtt(broker.url), DEVICE, journal, QUICK)
        uplink.start()
        wait_until(lambda: waiting(journal.path) == 0, "the outbox to empty")
        exactly_once(store, 3000)
        journal.enqueue([result(3000)])
        uplink.wake()
        wait_until(lambda: stored(store) == 3001, "a live event")

        def status() -> str:
            return str(rows(store, t.device)[0]["status"])

        wait_until(lambda: status() == "online", "the state")
        link = uplink._link
        assert link is not None
        sock: Any = link._client.socket()
        sock.shutdown(2)
        wait_until(lambda: status() == "offline", "the last will")
        wait_until(lambda: status() == "online", "the device to come back")

        uplink.stop()
        ingest.stop()
    store.close()


def test_a_retained_acknowledgement_spares_sending_again(mosquitto: MakeBroker, linked: Linked, tmp_path: Path) -> None:
    from paho.mqtt import publish
    from paho.mqtt.enums import MQTTProtocolVersion

    broker = mosquitto()
    journal = make_journal(tmp_path / "state", [result(minute) for minute in range(100)])
    with closing(Outbox(journal.path)) as outbox:
        outbox.sending(100)  # before a restart
    text = f'{{"epoch":"{journal.epoch}","upto":90,"also":[95]}}'
    publish.single(
        f"fieldwatch/v1/d/{DEVICE}/ack",
        text,
        retain=True,
        qos=1,
        hostname="127.0.0.1",
        port=broker.port,
        protocol=MQTTProtocolVersion.MQTTv5,
    )
    linked(journal, broker.url)
    wait_until(lambda: waiting(journal.path) == 9, "the acknowledged events to leave")


@pytest.mark.parametrize("later", [20, 500], ids=["behind", "beyond"])
def test_a_journal_restored_from_an_image_of_the_disk_loses_nothing(
    mosquitto: MakeBroker, linked: Linked, taken: Taken, tmp_path: Path, later: int
) -> None:
    """Its numbers come a second time; ``later`` of them are given out before it hears of the first ones. The machine's
    clock is of the image, too: what it says then is its newest state all the same.
    """
    broker = mosquitto()
    store = taken(broker.url)
    state, image = tmp_path / "state", tmp_path / "image"
    make_journal(state, [result(minute) for minute in range(100)]).close()
    shutil.copytree(state, image)
    journal = make_journal(state, [result(minute) for minute in range(100, 300)])
    journal.enqueue([Draft("health", "", health(2000).model_dump_json())])
    uplink = linked(journal, broker.url)
    wait_until(lambda: waiting(journal.path) == 0, "the first life to be stored")
    uplink.stop()
    old = journal.epoch
    journal.close()

    shutil.rmtree(state)
    shutil.copytree(image, state)
    journal = make_journal(state, [result(minute) for minute in range(1000, 1000 + later)])
    journal.enqueue([alert_draft(alert(1000 + later)), Draft("health", "", health(7).model_dump_json())])
    linked(journal, broker.url)
    wait_until(lambda: waiting(journal.path) == 0, "the second life to be stored")
    assert stored(store) == 300 + later
    assert len(rows(store, t.alert)) == 1
    (gap,) = [row["data"] for row in rows(store, t.event) if row["type"] == "gap"]
    assert gap["reason"] == "journal_rebuilt"
    assert "restored from an image" in gap["detail"]
    with closing(Outbox(journal.path)) as outbox:
        assert outbox.epoch != old
        (device,) = rows(store, t.device)
        assert (device["health_epoch"], device["health"]["ts"]) == (outbox.epoch, health(7).ts)
    assert sum(day.scored for day in journal.ledger()) == 100 + later
    journal.close()


@pytest.mark.mosquitto
def test_the_embedded_mosquitto_starts_again_when_it_dies(tmp_path: Path) -> None:
    with OwnBroker(tmp_path / "broker", 0, "mosquitto") as broker:
        first = broker._process
        assert first is not None
        first.kill()
        wait_until(lambda: broker._process is not first and broker._process is not None, "another process")
        second: Any = broker._process
        wait_until(lambda: second.poll() is None and "127.0.0.1" in broker.note, "it to run")
    assert second.poll() is not None


def test_a_port_that_is_taken_is_named(mosquitto: MakeBroker, tmp_path: Path) -> None:
    broker = mosquitto()
    with pytest.raises(BrokerError, match=f"port {broker.port} of 127.0.0.1 is in use: set broker.port"):
        OwnBroker(tmp_path / "broker", broker.port).start()


def test_without_mosquitto_the_embedded_one_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fieldwatch_cloud.ingest.broker.find_mosquitto", lambda: None)
    with OwnBroker(tmp_path / "broker", 0) as broker:
        assert broker.program == "iotcore"
        assert "keeps nothing over a restart and has no access rules" in broker.note
    with pytest.raises(BrokerError, match="Mosquitto is not installed"):
        OwnBroker(tmp_path / "broker", 0, "mosquitto").start()
