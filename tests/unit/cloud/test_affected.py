"""Which devices a vulnerability concerns: nothing of which nothing is known may look well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_agent import components as told
from fieldwatch_agent.config import Config
from fieldwatch_agent.health import Reporter
from fieldwatch_agent.send.journal import Journal, Outbox
from fieldwatch_cloud import affected
from fieldwatch_cloud.__main__ import main
from fieldwatch_cloud.ingest.decode import Message, decode
from fieldwatch_cloud.store import Store, sqlite_url
from fieldwatch_cloud.store.cards import Card
from fieldwatch_cloud.store.inventory import Inventory
from fieldwatch_contract import events, topics
from fieldwatch_contract.events import Components

from tests.delivery import health

OLD = Path(__file__).parents[2] / "data" / "wire-cc72598" / "events.jsonl"


def report(
    device: str, minute: int, versions: dict[str, list[str]] | None, complete: bool = True, **more: str
) -> Message:
    """A health event of a device, as its broker hands it on."""
    parts = Components(versions=versions, complete=complete) if versions is not None else None
    data = health(minute, parts).model_copy(update=more)
    payload = events.envelope(device, "ab12", minute, "health", data.ts, data.model_dump_json())
    return Message(topics.topic(device, "evt/health"), payload)


def of_this_agent(folder: Path, device: str) -> list[Message]:
    """What today's agent really sends, with the libraries that are installed here."""
    config = Config.model_validate({
        "device": {"id": device, "type": "press"},
        "log": {"path": str(folder / "readings.csv"), "period": "60s"},
        "state": {"dir": str(folder / "state")},
    })  # fmt: skip
    with closing(Journal(folder / "state", 1 << 20)) as journal:
        Reporter(config, journal).report(None, [], "", "", 60.0)
    with closing(Outbox(folder / "state" / "journal.db")) as outbox:
        waiting = outbox.pending(0, 10**6)
        sent = [events.envelope(device, outbox.epoch, m.seq, m.event, m.time, m.data) for m in waiting]
    return [Message(topics.topic(device, f"evt/{m.event}"), one) for m, one in zip(waiting, sent, strict=True)]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A configuration whose store has taken in a fleet of mixed versions."""
    folder = tmp_path_factory.mktemp("cloud")
    (folder / "cloud.toml").write_text('[alerts.sites]\nberlin = ["press-1*"]\n[store]\npath = "cloud.db"\n')
    store = Store(sqlite_url(folder / "cloud.db"))
    old = [json.loads(line) for line in OLD.read_text().splitlines()]
    kinds = [str(event["type"]).split(".")[1] for event in old]
    fleet = [
        *(Message(topics.topic("press-0001", f"evt/{kind}"), json.dumps(event).encode())
          for kind, event in zip(kinds, old, strict=True)),
        *of_this_agent(tmp_path_factory.mktemp("agent"), "press-1001"),
        report("press-1002", 1, {"onnxruntime": ["1.33.1"], "openssl": ["3.0.17", "4.0.3"]}),
        report("press-1002", 2, None),
        report("press-1003", 2, {"onnxruntime": ["1.33.1"]}),
        report("press-1003", 1, {"onnxruntime": ["1.31.0"]}),  # late, from before an update
        report("press-1004", 1, {"onnxruntime": ["1.31.0"], "openssl": ["1.1.1w"]}),
        report("press-1005", 1, {"onnxruntime": ["1.33.1"]}, complete=False),
        report("press-1006", 1, {"onnxruntime": ["1.33.1"]}),
        report("press-1006", 2, None, agent="0.0.9"),  # another agent since, which tells none
    ]  # fmt: skip
    for message in fleet:
        assert decode([message]).refused == []
        store.ingest(decode([message]))
    assert store.name("press-1004", Card(site="hall 4"), "anna")
    store.close()
    yield folder / "cloud.toml"


def ask(cloud: Path, component: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(["affected", "--config", str(cloud), "--component", component, "--json"])
    return code, json.loads(capsys.readouterr().out)


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["device"] for row in rows]


def test_a_fleet_of_mixed_versions(cloud: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert metadata.version("onnxruntime") != "1.31.0"
    code, found = ask(cloud, "onnxruntime==1.31.0", capsys)
    assert (code, ids(found["affected"]), found["clear"]) == (3, ["press-1004"], 4), "of those that name it"
    (row,) = found["affected"]
    assert (row["versions"], row["agent"], row["site"]) == (["1.31.0"], "0.1.0", "hall 4")
    assert row["last_contact"].startswith("20") and row["last_contact"].endswith("Z")
    assert {row["device"]: row["why"] for row in found["unknown"]} == {
        "press-0001": "its agent has told no components",
        "press-1006": "its components were told by agent 0.1.0, another one runs now",
    }
    code, found = ask(cloud, f"onnxruntime=={metadata.version('onnxruntime')}", capsys)
    assert (code, ids(found["affected"])) == (3, ["press-1001"]), "what this agent really runs with"
    assert found["affected"][0]["site"] == "berlin"


def test_several_versions_and_such_that_cannot_be_compared(cloud: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = ask(cloud, "openssl==4.0.3", capsys)
    assert code == 3 and "press-1002" in ids(found["affected"])
    unknown = {row["device"]: row["why"] for row in found["unknown"]}
    assert unknown["press-1004"] == "version 1.1.1w cannot be compared"
    assert unknown["press-1005"] == "not in its list, where native libraries are missing"
    assert unknown["press-1003"].startswith("not in its list, where native libraries that others link in")
    assert found["clear"] == 0, "of those that do not name it nothing is known"
    code, found = ask(cloud, "openssl", capsys)
    assert {"press-1002", "press-1004"} <= set(ids(found["affected"])), "without versions each one counts"


def test_the_agent_itself_is_a_component_that_all_have(cloud: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = ask(cloud, "fieldwatch<0.1", capsys)
    assert (code, ids(found["affected"]), found["unknown"], found["clear"]) == (3, ["press-1006"], [], 6)
    code, found = ask(cloud, "fieldwatch>=99", capsys)
    assert (code, found["clear"]) == (0, 7), "all is known, and nobody has it"


def test_people_read_it_and_a_wrong_name_is_told(cloud: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["affected", "--config", str(cloud), "--component", "onnx-runtime<9"]) == 3
    said = capsys.readouterr().out
    assert "0 of 7 devices affected, 7 not known, 0 clear" in said
    assert "No device has told a component of this name; did you mean onnxruntime?" in said
    assert main(["affected", "--config", str(cloud), "--component", "onnxruntime==1.31.*"]) == 3
    assert "press-1004  1.31.0  agent 0.1.0  hall 4  20" in capsys.readouterr().out
    for wrong in ("onnxruntime<", "a b", "x[y]==1", "x @ https://example.org/x"):
        assert main(["affected", "--config", str(cloud), "--component", wrong]) == 2, wrong
        assert "onnxruntime<1.33" in capsys.readouterr().err


def test_a_store_without_devices_is_not_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "cloud.toml"
    config.write_text('[store]\npath = "cloud.db"\n')
    assert main(["affected", "--config", str(config), "--component", "numpy"]) == 1
    Store(sqlite_url(tmp_path / "cloud.db")).close()
    assert main(["affected", "--config", str(config), "--component", "numpy"]) == 3
    assert "0 of 0 devices" in capsys.readouterr().out


def test_a_damaged_list_is_not_known() -> None:
    one = Inventory("press-0001", "", 0, "0.1.0", "0.1.0", None, False)
    found = affected.answer(affected.parse("numpy"), [one], lambda _: "")
    assert [row.device for row in found.unknown] == ["press-0001"] and not found.well


def _nothing(name: str) -> metadata.Distribution:
    raise metadata.PackageNotFoundError(name)


def test_a_package_tells_the_list_that_lies_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "FILE", tmp_path / "components.json")
    asked = told.components.__wrapped__
    installed = asked()
    assert not installed.complete
    assert installed.versions["onnxruntime"] == [metadata.version("onnxruntime")]
    assert {"cpython", "sqlite3", "openssl", "zstd", "cryptography", "fieldwatch"} <= installed.versions.keys()
    assert "pytest" not in installed.versions and "fastapi" not in installed.versions, "only what an agent requires"
    with monkeypatch.context() as frozen:
        frozen.setattr(told.metadata, "distribution", _nothing)
        assert asked() is None, "frozen without a list: nothing is told rather than little"
    inside = Components(versions={"numpy": ["1"]}, complete=True)
    (tmp_path / "components.json").write_text(inside.model_dump_json())
    assert asked() == inside


@pytest.mark.parametrize(
    ("component", "version", "hit"),
    [
        ("onnxruntime<1.33", "1.33.0rc1", True),
        ("onnxruntime<1.33", "1.33.0.dev20261101", True),
        ("onnxruntime<1.33", "1.33.0", False),
        ("onnxruntime<1.33,>=1.30", "1.29.9", False),
        ("onnxruntime>1.32", "1.32.0.post1", True),
        ("onnxruntime>1.32", "1.32.0+cu13", False),
        ("onnxruntime==1.32.*", "1.32.1rc1", True),
        ("onnxruntime<2", "1!1.0", False),
    ],
)
def test_a_candidate_of_the_version_that_mends_it_is_not_well(component: str, version: str, hit: bool) -> None:
    one = Inventory("press-0001", "", 0, "1", "1", {"onnxruntime": [version]}, True)
    found = affected.answer(affected.parse(component), [one], lambda _: "")
    assert (len(found.affected), found.clear) == ((1, 0) if hit else (0, 1))
