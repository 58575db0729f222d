"""Agents and clouds are updated apart: each understands the other of the version before, cc72598.

``tests/data/wire-cc72598`` has that version's schemas, whose lists of words are closed, and what its agent sent: an
alert from its opening to its end, results of every kind, a gap, health, a bundle that was activated.
"""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_agent.config import Config
from fieldwatch_agent.send.journal import Outbox
from fieldwatch_agent.service import Service
from fieldwatch_agent.update.activation import Activation
from fieldwatch_cloud.ingest.decode import Message, decode
from fieldwatch_contract import clock, events
from fieldwatch_contract.events import Ack
from fieldwatch_contract.topics import topic
from jsonschema import Draft202012Validator

from tests.bundles import make_bundle

OLD = Path(__file__).parents[2] / "data" / "wire-cc72598"
START = 1_768_608_000_000_000


def old_schema(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((OLD / f"{name}.v1.json").read_text()))


def old_events() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (OLD / "events.jsonl").read_text().splitlines()]


def of(event: dict[str, Any]) -> str:
    return str(event["type"]).split(".")[1]


def row(minute: int, value: object = 10.0) -> str:
    return f"{clock.iso(START + minute * clock.MINUTE)},{value},10,10,1\n"


@pytest.fixture(scope="module")
def new_events(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What today's agent sends of a log with all that it has new words for."""
    folder = tmp_path_factory.mktemp("agent")
    log = folder / "readings.csv"
    log.write_text(
        "timestamp,s0,s1,s2,status\n"
        + "".join(row(minute) for minute in range(20))
        + "nonsense,1,2,3,4\n1,2\n2099-01-01T00:00:00Z,1,1,1,1\n"
        + row(5)
        + row(20, "ERR")
        + "".join(row(minute, 1000) for minute in range(21, 25))
    )
    config = Config.model_validate(
        {
            "device": {"id": "press-0001", "type": "press"},
            "log": {"path": str(log), "period": "60s"},
            "state": {"dir": str(folder / "state")},
            "privacy": {"evidence": "full"},
        }
    )
    activation = Activation(config.state.dir)
    for classifier in (True, False):  # the second bundle lacks a model that has an alert
        bundle = make_bundle(3, f"v{2 - classifier}", lookback=5, classifier=classifier, min_rows=3)
        activation.switch(activation.stage(bundle))
        state = activation.state()
        assert state.current is not None
        activation.commit(state.current.sha256)
        assert Service(config, folder / "agent.toml").run(until_idle=True) == 0
        with closing(Outbox(config.state.dir / "journal.db")) as outbox:  # so that the next health event is queued
            sent = outbox.pending(0, 10**6)
            healths = [message for message in sent if message.event == "health"]
            outbox.acknowledge(Ack(epoch=outbox.epoch, upto=0, also=[message.seq for message in healths]))
        with log.open("a") as file:
            file.write("".join(row(minute) for minute in range(25, 28)))
    with closing(Outbox(config.state.dir / "journal.db")) as outbox:
        sent = [*healths, *outbox.pending(0, 10**6)]
        found = [json.loads(events.envelope("press-0001", outbox.epoch, m.seq, m.event, m.time, m.data)) for m in sent]
    return found


def test_the_sample_has_all_that_is_new(new_events: list[dict[str, Any]]) -> None:
    text = json.dumps(new_events)
    for word in (
        '"troubles": [{',
        '"lines": {',
        '"why": "few_rows"',
        "has no model classifier",
        '"period": 60',
        '"onnxruntime": [',
    ):
        assert word in text, word
    assert {of(event) for event in new_events} >= {"alert", "result", "health", "model"}


def test_an_old_cloud_understands_a_new_agent(new_events: list[dict[str, Any]]) -> None:
    for event in new_events:
        old_schema(of(event)).validate(event)


def test_a_new_cloud_understands_an_old_agent() -> None:
    """Each is taken, none set aside; and what is new has the value that says that nothing is known of it."""
    sent = old_events()
    assert {of(event) for event in sent} == set(events.EVENT_TYPES) - {"reply"}, "which old agents did not send"
    for event in sent:
        old_schema(of(event)).validate(event)
        events.EVENT.validate_python(event)
    messages = [Message(topic("press-0001", f"evt/{of(event)}"), json.dumps(event).encode()) for event in sent]
    batch = decode(messages)
    assert batch.refused == []
    health = next(event for event in sent if of(event) == "health")
    read = events.HealthEvent.model_validate(health).data
    assert (read.troubles, read.lines, read.period, read.components) == ([], None, None, None)


def test_what_goes_beside_events_is_understood_both_ways() -> None:
    others = json.loads((OLD / "others.json").read_text())
    assert events.Ack.model_validate(others["ack"]).also == [5]
    assert events.DeviceState.model_validate(others["state"]).reason == "shutdown"
    since = "2026-01-17T00:00:00Z"
    for reason in ("", "stopped", "connection lost", "started after a crash or power loss", "stalled"):
        state = events.DeviceState(status="online", since=since, connection="ab", epoch="12", reason=reason)
        old_schema("state").validate(json.loads(state.model_dump_json()))
    ack = events.Ack(epoch="12", upto=7, also=[9, 11])
    old_schema("ack").validate(json.loads(ack.model_dump_json()))
