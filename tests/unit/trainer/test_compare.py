"""Of leaky, miscalibrated, drifted, deaf, worse-than-random and better challengers only the last replaces a champion.

Each is refused by the gate that is meant for it, in words that name the cause. All are real bundles, trained on a lake
or altered in one point, and judged on the same rows by the door that a person uses.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fieldwatch_contract.clock import iso
from fieldwatch_trainer.__main__ import main

from tests.challengers import altered
from tests.lakes import MINUTE, START, LakeMaker

pytestmark = pytest.mark.timeout(300)  # of a test that trains twice

ROWS, BORDER = 3400, 1700
SINCE = iso(START + BORDER * MINUTE)
SENSORS = {"b": 2.0, "c": 2.0, "e": 2.5}
"""What each fault moves, and by how many units: near what the sensors do anyway."""


def maker(folder: Path) -> LakeMaker:
    lake = LakeMaker(folder, sensors=6, rows=ROWS, count=5, missing=0.01)
    rng = np.random.default_rng(11)
    for name in lake.values:
        for start in [300, 700, 1100, 1450, 1900, 2400, 2900]:
            first = start + int(rng.integers(0, 150))
            for sensor, size in SENSORS.items():
                lake.values[name][first : first + 61, lake.names.index(sensor)] += size
            lake.label(name, first, first + 60, "fault", list(SENSORS))
    return lake


def train(lake: Path, out: Path, *more: str) -> Path:
    assert main(["train", "--lake", str(lake), "--device-type", "press", "--out", str(out), *more]) == 0
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``lake/``; ``champion/`` knows half of the sensors; ``better/`` knows all of them."""
    root = tmp_path_factory.mktemp("gates")
    whole = maker(root / "lake")
    whole.write()
    half = maker(root / "half")
    half.names = half.names[:2]
    half.write()
    train(root / "half", root / "champion", "--train-until", SINCE)
    train(root / "lake", root / "better", "--train-until", SINCE)
    return root


def judged(folder: Path, challenger: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    champion = str(folder / "champion" / "bundle.zip")
    code = main(["compare", champion, str(challenger), "--lake", str(folder / "lake"), "--since", SINCE, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_truly_better_challenger_passes_every_gate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, result = judged(folder, folder / "better" / "bundle.zip", capsys)
    assert code == 0 and result["replace"], result["says"]
    assert {gate["status"] for gate in result["gates"]} == {"passed"}
    for name in ("detector", "classifier"):
        figures = result["figures"][name]
        assert figures["challenger"]["average_precision"] > figures["champion"]["average_precision"] + 0.1
    assert result["says"] == "the challenger may replace the champion: every gate passed"


def test_the_champion_is_no_better_than_itself_and_may_stay_or_go(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, result = judged(folder, folder / "champion" / "bundle.zip", capsys)
    assert all(one["difference"]["event_recall"] == [0, 0, 0] for one in result["figures"].values())
    paired = [gate for gate in result["gates"] if gate["name"] in {"ranking", "recall"}]
    assert len(paired) == 4 and {gate["status"] for gate in paired} == {"passed"}


def refused(
    folder: Path, challenger: Path, gate: str, words: str, capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    code, result = judged(folder, challenger, capsys)
    assert code == 3 and not result["replace"]
    first = next(one for one in result["gates"] if one["status"] == "failed")
    assert first["id"] == gate, (result["says"], [one for one in result["gates"] if one["status"] != "passed"])
    assert words in result["says"] and result["says"].startswith("the champion stays: ")
    return result


@pytest.fixture(scope="module")
def leaky(folder: Path) -> Path:
    """Trained on all rows, those included by which it is judged."""
    return train(folder / "lake", folder / "leaky") / "bundle.zip"


def test_leaky_it_has_learnt_from_the_rows_that_judge_it(
    folder: Path, leaky: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = refused(folder, leaky, "unseen", "press-0 until 2026-01-03T08:39:00Z", capsys)
    assert result["figures"]["classifier"]["challenger"]["average_precision"] > 0.9, "and it looks splendid"


@pytest.mark.soak
def test_leaky_it_has_learnt_from_some_of_the_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    later = train(folder / "lake", folder / "later", "--train-until", iso(START + (BORDER + 700) * MINUTE))
    refused(folder, later / "bundle.zip", "unseen", "has learnt from rows on which it is judged", capsys)


def test_nobody_knows_what_a_bundle_without_its_run_has_learnt_from(
    folder: Path, leaky: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "bundle.zip"
    alone.write_bytes(leaky.read_bytes())
    (tmp_path / "run.json").write_bytes((folder / "better" / "run.json").read_bytes())  # of another bundle
    code, result = judged(folder, alone, capsys)
    assert code == 3 and "keep the run.json of its training beside it" in result["says"]
    assert result["says"].startswith("insufficient evidence, the champion stays")


@pytest.mark.parametrize(
    ("node", "by", "level", "where"),
    [("Pow", 0.4, 0.75, "loud"), pytest.param("Mul", 0.3, 0.15, "shy", marks=pytest.mark.soak)],
)
def test_miscalibrated_it_ranks_as_well_and_its_probability_means_something_else(
    folder: Path, node: str, by: float, level: float, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = altered(folder / "better", folder / where, "classifier", node=node, by=by, threshold=level)
    result = refused(folder, made, "calibration:classifier", "miscalibrated: calibration error", capsys)
    ranks = next(gate for gate in result["gates"] if gate["id"] == "ranking:classifier")
    assert ranks["status"] == "passed"


@pytest.mark.soak
@pytest.mark.parametrize(("where", "change"), [("level", (0.0, 1.0, 25.0)), ("unit", (0.0, 1.8, 32.0))])
def test_drifted_it_was_trained_on_what_the_devices_were_once(
    folder: Path, where: str, change: tuple[float, float, float], capsys: pytest.CaptureFixture[str]
) -> None:
    old = maker(folder / f"old-{where}")
    _, factor, offset = change
    for values in old.values.values():
        values[:, 0] = values[:, 0] * factor + offset
    drifted = train(old.write(), folder / f"drifted-{where}", "--train-until", SINCE)
    refused(folder, drifted / "bundle.zip", "range", "drifted: the challenger was trained on other data", capsys)


@pytest.mark.parametrize(
    ("model", "change", "words"),
    [
        ("detector", {"threshold": 1e9}, "no score reaches the 1e+09 that an alert needs"),
        pytest.param(
            "classifier", {"threshold": 1.0}, "no score reaches the 1 that an alert needs", marks=pytest.mark.soak
        ),
        ("classifier", {"limit": -1.0}, "every row is unknown to it"),
    ],
)
def test_deaf_it_ranks_well_and_never_speaks(
    folder: Path, model: str, change: dict[str, float], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"deaf-{model}-{next(iter(change))}"
    made = altered(folder / "better", folder / name, model, **change)  # type: ignore[arg-type]
    refused(folder, made, f"deaf:{model}", words, capsys)


@pytest.mark.parametrize(
    ("where", "change", "words"),
    [
        ("upside-down", {"node": "Sub", "by": 50.0, "threshold": 49.99}, "worse than a random score"),
        ("constant", {"node": "Mul", "by": 0.0, "threshold": 0.0}, "no better than a random score"),
    ],
)
def test_worse_than_random(
    folder: Path, where: str, change: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = altered(folder / "better", folder / where, "detector", **change)
    refused(folder, made, "chance:detector", words, capsys)
    arguments = ["evaluate", "--bundle", str(made), "--lake", str(folder / "lake"), "--since", SINCE]
    assert main(arguments) == 3, "evaluate refuses it too"
    assert f"REFUSED chance:detector: {words}" in capsys.readouterr().out
    noted = json.loads(made.with_name("gates.json").read_text())
    assert {one["by"] for one in noted["records"]} == {"compare", "evaluate"}


def test_too_eager_it_finds_more_and_cries_wolf(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = altered(folder / "better", folder / "eager", "detector", threshold=1e-6)
    result = refused(folder, made, "noise:detector", "noise: ", capsys)
    assert "budget:detector" in {gate["id"] for gate in result["gates"] if gate["status"] == "failed"}
    arguments = ["evaluate", "--bundle", str(made), "--lake", str(folder / "lake"), "--since", SINCE]
    assert main(arguments) == 3, "evaluate refuses it too, and so does publish"
    assert "REFUSED noise:detector: noise: " in capsys.readouterr().out
    noted = json.loads(made.with_name("gates.json").read_text())
    refusals = {gate["id"] for one in noted["records"] for gate in one["gates"] if gate["status"] == "failed"}
    assert "noise:detector" in refusals

    run = made.with_name("run.json")
    run.write_text(json.dumps(json.loads(run.read_text()) | {"budget": {"episodes_per_device_day": 50}}))
    assert main(arguments) == 0, "where people can bear fifty a day"


def test_too_few_events_keep_the_champion(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = maker(tmp_path / "few")
    few.labels = [label for label in few.labels if label["device"] == "press-0"]
    few.write()
    arguments = [str(folder / "champion" / "bundle.zip"), str(folder / "better" / "bundle.zip")]
    assert main(["compare", *arguments, "--lake", str(tmp_path / "few"), "--since", SINCE]) == 3
    said = capsys.readouterr().out
    assert "unknown events:detector: 3 events to judge by; at least 10 are needed" in said


def test_bundles_of_different_types_are_no_pair(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.bundles import make_bundle

    (tmp_path / "bundle.zip").write_bytes(make_bundle(name="lathe", sensors=["a", "b"]))
    arguments = [str(folder / "champion" / "bundle.zip"), str(tmp_path / "bundle.zip"), "--lake", str(folder / "lake")]
    assert main(["compare", *arguments]) == 2
    assert "is for devices of type 'lathe'" in capsys.readouterr().err
