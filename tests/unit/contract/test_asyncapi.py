"""The published contract: what is committed is what the code sends, and it only ever grows."""

from __future__ import annotations

import copy
import json
import shutil

import pytest
from fieldwatch_contract import commands, events, fields, topics
from fieldwatch_contract.asyncapi import FOLDER, RELEASED, breaking, documents, main, problems
from jsonschema import Draft7Validator, Draft202012Validator, ValidationError
from pydantic import TypeAdapter
from referencing import Registry, Resource

from tests.conftest import ROOT

TIME = "2026-01-17T10:54:00Z"
BUNDLE = {"name": "press", "version": "7", "sha256": "0" * 64}
SAMPLES = {
    "result": events.ResultData(
        ts=TIME, bundle="press/7", values={"a": 1.5, "b": None},
        scores=[events.ModelScore(model="detector", kind="detector", score=None, threshold=3, verdict="unknown"),
                events.ModelScore(model="c", kind="classifier", score=0.9, threshold=0.5, verdict="faulty",
                                  sensors=["a"], shares=[1.0])],
    ),
    "alert": events.AlertData(
        alert_id="x", transition="opened", model="detector", kind="detector", severity="critical", opened_at=TIME,
        ts="2026-01-17T10:55:00.250000Z", score=9.5, peak=9.5, threshold=3, rows=3, sensors=["a"], shares=[0.8],
        bundle=BUNDLE,
        evidence=fields.Evidence(times=[TIME], sensors=["a"], values=[[None]], mean=[0], scale=[1], scores=[None]),
    ),
    "health": events.HealthData(
        ts=TIME, agent="0.1.0", bundle=None, log="silent", last_reading=None, lag_bytes=0,
        outbox=events.OutboxState(events=0, bytes=0, oldest=None),
        ledger=[events.LedgerDay(day="2026-01-17", read=3, scored=1, refused={"malformed": 1}, evicted=0, pending=1)],
    ),
    "gap": events.GapData(reason="evicted", detail="full", lines=None),
    "model": events.ModelData(transition="activated", bundle=BUNDLE, previous=None),
    "reply": commands.ReplyData(
        command="ab" * 16, kind="replay", outcome="done", detail="readings", bundle="press/7",
        replay=[commands.ModelReplay(model="detector", kind="detector", rows=3, raised=1, unknown=0, highest=4.5,
                                     highest_at=TIME)],
        evidence=fields.Evidence(times=[TIME], sensors=["a"], values=[[1.5]], mean=[0], scale=[1], scores=[None]),
    ),
}  # fmt: skip


def committed(name: str) -> dict:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def validator(name: str) -> Draft202012Validator:
    """A validator of one committed schema that finds its neighbours."""
    found = [(path.name, Resource.from_contents(json.loads(path.read_text()))) for path in FOLDER.glob("*.v1.json")]
    schema = committed(name)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, registry=Registry().with_resources(found))


def sample(name: str) -> dict:
    """An event as the agent's journal writes it."""
    data = SAMPLES[name].model_dump_json()
    return json.loads(events.envelope("press-0001", "0a1b", 7, name, TIME, data))


def test_committed_files_are_what_the_code_generates_and_keep_their_promise():
    assert problems(FOLDER) == []
    assert main(["--check"]) == 0


def test_the_description_is_valid_asyncapi():
    schema = json.loads((ROOT / "tests/data/asyncapi/asyncapi-3.0.0.schema.json").read_text())
    official = Draft7Validator(schema)
    assert [error.message for error in official.iter_errors(committed("asyncapi.json"))] == []
    broken = committed("asyncapi.json")
    broken["channels"]["alert"]["adress"] = broken["channels"]["alert"].pop("address")
    assert not official.is_valid(broken)


def test_every_reference_of_the_description_leads_somewhere():
    document = committed("asyncapi.json")

    def references(node):
        if isinstance(node, dict):
            yield from ([node["$ref"]] if "$ref" in node else [])
            node = list(node.values())
        if isinstance(node, list):
            for part in node:
                yield from references(part)

    found = list(references(document))
    assert len(found) > 20
    for reference in found:
        if not reference.startswith("#/"):
            assert (FOLDER / reference).is_file(), reference
            continue
        node = document
        for part in reference[2:].split("/"):
            node = node[part]


def test_the_description_names_every_channel_of_the_code():
    channels = committed("asyncapi.json")["channels"].values()
    described = {topics.parse(channel["address"].replace("{device}", "press-0001")).channel for channel in channels}
    assert described == {*map(topics.channel_of, events.EVENT_TYPES), "bulk", "state", "ack", "verdicts", "command"}


@pytest.mark.parametrize("name", events.EVENT_TYPES)
def test_real_events_satisfy_their_schema_and_broken_ones_do_not(name):
    schema = validator(f"{name}.v1.json")
    event = sample(name)
    schema.validate(event)
    validator("bulk.v1.json").validate([event, event])
    schema.validate(event | {"traceparent": "an attribute we do not know"})
    for key in ("id", "type", "data", "time", "specversion"):
        with pytest.raises(ValidationError):
            schema.validate({k: v for k, v in event.items() if k != key})
    with pytest.raises(ValidationError):
        schema.validate(event | {"type": "fieldwatch.other.v1"})
    with pytest.raises(ValidationError):
        schema.validate(event | {"id": "press-0001"})


def test_schema_and_code_agree_about_wrong_values():
    event = sample("alert")
    for path, value in (("severity", "loud"), ("score", "high"), ("opened_at", "yesterday"), ("sensors", "a")):
        wrong = copy.deepcopy(event)
        wrong["data"][path] = value
        assert not validator("alert.v1.json").is_valid(wrong), path
        with pytest.raises(ValueError):
            events.EVENT.validate_python(wrong)


def test_acks_and_states_satisfy_their_schemas():
    validator("ack.v1.json").validate(json.loads(events.Ack(epoch="0a", upto=7, also=[9]).model_dump_json()))
    state = events.DeviceState(status="online", since=TIME, connection="c", epoch="0a")
    validator("state.v1.json").validate(json.loads(state.model_dump_json()))
    assert not validator("ack.v1.json").is_valid({"epoch": "0a"})


# ---- additive only ---------------------------------------------------------------------------------------------

OLD = {
    "type": "object",
    "required": ["a", "n"],
    "properties": {
        "a": {"type": "string", "title": "A"},
        "b": {"anyOf": [{"type": "number"}, {"type": "null"}], "default": None},
        "n": {"$ref": "#/$defs/N"},
        "l": {"type": "array", "items": {"$ref": "#/$defs/N"}},
    },
    "$defs": {"N": {"type": "object", "required": ["x"], "properties": {"x": {"enum": ["one", "two"]}}}},
}


def changed(edit) -> dict:
    new = copy.deepcopy(OLD)
    edit(new)
    return new


@pytest.mark.parametrize(
    "edit",
    [
        lambda s: None,
        lambda s: s["properties"].update({"new": {"type": "integer", "default": 1}}),
        lambda s: s["$defs"]["N"]["properties"].update({"new": {"type": "integer"}}),
        lambda s: s["properties"]["a"].update({"title": "Other", "description": "words"}),
        lambda s: (s["$defs"].update({"M": s["$defs"]["N"]}), s["properties"].update({"n": {"$ref": "#/$defs/M"}})),
    ],
)  # fmt: skip
def test_what_only_adds_or_explains_is_allowed(edit):
    assert breaking(OLD, changed(edit)) == []


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: s["properties"].pop("b"), "the document: field b was removed"),
        (lambda s: s["properties"]["a"].update({"type": "integer"}), "a: type was string, is integer"),
        (lambda s: s["required"].append("b"), "the document: field b is newly required"),
        (lambda s: (s["properties"].update({"new": {}}), s["required"].append("new")), "field new is newly required"),
        (lambda s: s["required"].remove("a"), "the document: field a is no longer required"),
        (lambda s: s["$defs"]["N"]["properties"].pop("x"), "n: field x was removed"),
        (lambda s: s["$defs"]["N"]["properties"]["x"]["enum"].append("three"), "n.x: enum was"),
        (lambda s: s["properties"]["b"]["anyOf"].pop(), "b: anyOf had 2 alternatives, has 1"),
        (lambda s: s["properties"]["b"]["anyOf"][0].update({"type": "integer"}), "b (anyOf 1): type was number"),
        (lambda s: s["properties"]["l"].update({"items": {"type": "string"}}), "l[]: field x was removed"),
        (lambda s: s["properties"]["l"].pop("items"), "l: items was removed"),
        (lambda s: s.update({"additionalProperties": False}), "additionalProperties was added"),
        (lambda s: s["properties"]["a"].update({"pattern": "^x"}), "a: pattern was None, is ^x"),
    ],
)
def test_what_breaks_the_other_side_is_named(edit, message):
    found = breaking(OLD, changed(edit))
    assert any(message in line for line in found), found


def test_the_released_promise_is_held_against_the_code(tmp_path):
    """A release that knew a field more, a type less or an event more is broken by today's code, by name."""
    shutil.copytree(FOLDER, tmp_path / "schemas")
    promise = tmp_path / "schemas" / RELEASED
    promise.mkdir(exist_ok=True)
    assert problems(tmp_path / "schemas") == []
    gap = copy.deepcopy(documents()["gap.v1.json"])
    gap["$defs"]["GapData"]["properties"]["site"] = {"type": "string"}
    (promise / "gap.v1.json").write_text(json.dumps(gap))
    (promise / "smell.v1.json").write_text("{}")
    (tmp_path / "schemas" / "alert.v1.json").write_text("{}")
    (tmp_path / "schemas" / "stray.json").write_text("{}")
    text = "\n".join(problems(tmp_path / "schemas"))
    for line in ("gap.v1.json: data: field site was removed", "smell.v1.json: the released event is gone",
                 "alert.v1.json is not what the code generates", "stray.json is no longer generated"):  # fmt: skip
        assert line in text


def test_a_command_satisfies_its_schema():
    data = commands.CommandData(kind="update", expires_at=TIME, issuer="eva@lab.example")
    command = json.loads(commands.Command(id="ab" * 16, subject="press-0001", time=TIME, data=data).model_dump_json())
    schema = validator("command.v1.json")
    schema.validate(command)
    for key in ("id", "type", "data", "time", "subject"):
        assert not schema.is_valid({name: value for name, value in command.items() if name != key}), key
    channel = committed("asyncapi.json")["operations"]["receiveCommand"]
    assert channel["bindings"]["mqtt"] == {"qos": 1, "retain": False, "bindingVersion": "0.2.0"}


def test_samples_cover_every_event():
    assert set(SAMPLES) == set(events.EVENT_TYPES)
    TypeAdapter(list[events.Event]).validate_python([sample(name) for name in SAMPLES])
