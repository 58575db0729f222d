"""From a lake to a bundle, scores and an evaluation through the door a user takes, on lakes of a few seconds' work."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from fieldwatch_agent.__main__ import main as agent
from fieldwatch_contract.alerts import alert_id
from fieldwatch_contract.bundle import read_bundle
from fieldwatch_contract.clock import iso, parse_iso
from fieldwatch_contract.grid import Grid
from fieldwatch_contract.scoring import Scorer, responsible, self_test
from fieldwatch_contract.verdicts import VERDICTS
from fieldwatch_trainer import train
from fieldwatch_trainer.__main__ import main
from fieldwatch_trainer.data import LakeData
from fieldwatch_trainer.lake import Lake
from fieldwatch_trainer.split import Split

from tests.lakes import MINUTE, START, LakeMaker

BORDER = 1500
ROWS = 2400
SENSORS = ["a", "b", "c", "d"]


def made(folder: Path, *, faults: bool = True) -> LakeMaker:
    maker = LakeMaker(folder, rows=ROWS, count=3, missing=0.01)
    for number, name in enumerate(maker.values):
        if faults:
            for start in (300, 800):
                maker.fault(name, start + 50 * number, start + 50 * number + 60, ("b",))
        maker.fault(name, 1900 + 20 * number, 1960 + 20 * number, ("b",) if number < 2 else ("c", "d"))
    return maker


def split_file(folder: Path, maker: LakeMaker) -> Path:
    path = folder / "split.json"
    until = {name: iso(START + BORDER * MINUTE) for name in maker.values}
    path.write_text(json.dumps({"train_until": until}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with faults, trained: ``lake/``, ``split.json``, ``run/``, ``scores.parquet``, ``evaluation.json``."""
    folder = tmp_path_factory.mktemp("trained")
    maker = made(folder / "lake")
    maker.write()
    lake, split = str(folder / "lake"), str(split_file(folder, maker))
    bundle = str(folder / "run" / "bundle.zip")
    hold_back, platt = train._hold_back, {}

    def watched(plugin: Any, *rest: Any) -> Any:
        platt[plugin.name] = getattr(plugin, "platt", None)
        return hold_back(plugin, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "_hold_back", watched)
        assert main(["train", "--lake", lake, "--device-type", "press", "--split", split, "--out", bundle[:-11]]) == 0
    (folder / "held.json").write_text(json.dumps(platt), encoding="utf-8")
    out = str(folder / "scores.parquet")
    assert main(["score", "--bundle", bundle, "--lake", lake, "--split", split, "--out", out]) == 0
    told = ["--out", str(folder / "evaluation.json"), "--html", str(folder / "evaluation.html")]
    assert main(["evaluate", "--bundle", bundle, "--lake", lake, "--split", split, *told]) == 0
    return folder


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_what_is_held_back_is_scored_in_the_scale_of_the_model_that_ships(trained: Path) -> None:
    """A part finds another scale: with few faults a flat one, and the threshold chosen in it alerts all day."""
    found = load(trained / "run" / "run.json")["models"]["classifier"]["facts"]["calibration"]
    assert load(trained / "held.json") == {"detector": None, "classifier": [found["slope"], found["offset"]]}


def test_a_run_holds_what_it_should(trained: Path) -> None:
    names = {path.name for path in (trained / "run").iterdir()}
    assert names == {"bundle.zip", "run.json", "report.html", "model_card.md", "gates.json"}, "the last from evaluate"
    run, bundle = load(trained / "run" / "run.json"), read_bundle(trained / "run" / "bundle.zip")
    manifest = bundle.manifest
    assert [model.name for model in manifest.models] == ["detector", "classifier"]
    assert run["sha256"] == bundle.sha256 and run["version"] == manifest.version
    assert manifest.version.startswith("2026-01-02-") and manifest.trained_until == iso(START + BORDER * MINUTE)
    assert manifest.sensors == SENSORS and manifest.window == 71 and manifest.features is not None
    classifier = manifest.models[1]
    assert classifier.range is not None and classifier.range.model == "detector" and classifier.range.limit > 0
    assert run["data"]["labels"] == {"fault": 6} and run["gate"]["passed"]
    assert manifest.baseline.still is not None and all(1 <= longest < 10 for longest in manifest.baseline.still)
    self_test(bundle)
    for model in run["evaluation"]["models"].values():
        assert model["average_precision"] > 3 * model["random"]["average_precision"]


def test_both_models_find_the_faults(trained: Path) -> None:
    result = load(trained / "evaluation.json")
    detector, classifier = result["models"]["detector"], result["models"]["classifier"]
    assert detector["events"] == 3 and detector["event_recall"] == 1.0
    assert detector["average_precision"] > 0.6 and detector["random"]["average_precision"] < 0.2
    assert detector["hit_100"] > detector["random"]["hit_100"]
    assert classifier["average_precision"] > 0.5 and classifier["brier"] < classifier["random"]["brier"]
    assert {one["device"] for one in detector["devices"]} == {"press-0", "press-1", "press-2"}
    assert "average precision" in (trained / "evaluation.html").read_text(encoding="utf-8")


def test_scores_are_those_of_a_device_that_reads_the_log_line_by_line(trained: Path) -> None:
    scorer = Scorer(read_bundle(trained / "run" / "bundle.zip"))
    manifest = scorer.manifest
    table = pq.read_table(trained / "lake" / "readings" / "press-0.parquet")
    ts = table["ts"].cast("int64").to_numpy()
    values = np.column_stack([table[name].to_numpy() for name in SENSORS])
    expected = pq.read_table(trained / "scores.parquet").to_pylist()
    expected = [line for line in expected if line["device"] == "press-0"]
    assert len(expected) == 2 * (ROWS - BORDER)
    grid = Grid(manifest.period, manifest.window, len(SENSORS))
    grid.place(ts[: BORDER + 300], values[: BORDER + 300])
    for row in range(BORDER + 300, BORDER + 420):
        block = grid.place(ts[row : row + 1], values[row : row + 1])
        for place, scores in enumerate(scorer.score(block.rows)):
            line = expected[2 * (row - BORDER) + place]
            named, shares = responsible(scores.contributions[0], SENSORS)
            assert line["model"] == scores.model and line["score"] == float(scores.score[0])
            assert line["verdict"] == VERDICTS[int(scores.verdict[0])].value
            assert line["threshold"] == scores.threshold
            assert (line["sensors"], line["shares"]) == (named, shares)


def test_evaluating_a_scores_file_gives_the_same_figures(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--bundle", str(trained / "run" / "bundle.zip"), "--lake", str(trained / "lake")]
    split, scores = ["--split", str(trained / "split.json")], ["--scores", str(trained / "scores.parquet")]
    assert main(["evaluate", *arguments, *split, *scores, "--json"]) == 0
    found, expected = json.loads(capsys.readouterr().out), load(trained / "evaluation.json")
    for name in ("detector", "classifier"):
        for key in ("average_precision", "event_recall", "false_alarms", "delay_median_s"):
            assert found["models"][name][key] == pytest.approx(expected["models"][name][key])


def test_a_scores_file_is_judged_from_the_border_on_and_must_be_whole(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--bundle", str(trained / "run" / "bundle.zip"), "--lake", str(trained / "lake")]
    split, whole = ["--split", str(trained / "split.json")], tmp_path / "all.parquet"
    assert main(["score", *arguments, "--out", str(whole)]) == 0
    capsys.readouterr()
    assert main(["evaluate", *arguments, *split, "--scores", str(whole), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == load(trained / "evaluation.json")["rows"]
    table = pq.read_table(whole)
    pq.write_table(table.filter(pc.field("device") != "press-1"), whole)
    assert main(["evaluate", *arguments, *split, "--scores", str(whole)]) == 2
    assert "scores of press-1" in capsys.readouterr().err


def test_a_score_that_fails_leaves_the_scores_that_were_there(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    out.write_bytes((trained / "scores.parquet").read_bytes())
    lake = tmp_path / "lake"
    shutil.copytree(trained / "lake", lake)
    damaged = lake / "readings" / "press-2.parquet"
    data = bytearray(damaged.read_bytes())
    data[100:3000] = bytes(2900)
    damaged.write_bytes(data)
    assert main(["score", "--bundle", str(trained / "run" / "bundle.zip"), "--lake", str(lake), "--out", str(out)]) == 2
    assert out.read_bytes() == (trained / "scores.parquet").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


def test_the_last_rows_before_the_border_are_not_learnt_from_where_later_readings_share_them(tmp_path: Path) -> None:
    border = START + 1000 * MINUTE
    learnt = []
    for rows in (1000, 1500):
        lake = Lake(LakeMaker(tmp_path / str(rows), rows=rows, count=1).write())
        (device,) = LakeData.of(lake, "press", 60, Split(border))
        learnt.append(int(device.ts[device.use][-1]))
    assert learnt == [border - MINUTE, border - 61 * MINUTE]


def test_a_run_to_failure_that_ends_at_the_border_gets_its_classifier(tmp_path: Path) -> None:
    """As laid out in public sets: the fault is what comes last, and every device ends at its border."""
    maker = LakeMaker(tmp_path / "lake", rows=500, count=4)
    for number, name in enumerate(maker.values):
        maker.values[name] = maker.values[name][: 500 - 20 * number]
        maker.ts[name] = maker.ts[name][: 500 - 20 * number]
        maker.fault(name, 460 - 20 * number, 499 - 20 * number)
    lake = maker.write()
    until = {name: iso(int(ts[-1]) + MINUTE) for name, ts in maker.ts.items()}
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train_until": until}), encoding="utf-8")
    told = ["--lake", str(lake), "--device-type", "press", "--split", str(split), "--out", str(tmp_path / "run")]
    assert main(["train", *told]) == 0
    assert set(load(tmp_path / "run" / "run.json")["models"]) == {"detector", "classifier"}


def test_an_embargo_that_takes_every_fault_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    maker = LakeMaker(tmp_path / "lake")
    for name in maker.values:
        maker.fault(name, 960, 990)
    lake, until = str(maker.write()), iso(START + 1000 * MINUTE)
    run = str(tmp_path / "run")
    assert main(["train", "--lake", lake, "--device-type", "press", "--train-until", until, "--out", run]) == 0
    told = capsys.readouterr().out
    assert "No classifier: all 62 readings with a fault lie within 71 periods before testing time" in told


@pytest.mark.parametrize(("episodes", "count"), [pytest.param(1, 3, marks=pytest.mark.soak), (2, 3)])
def test_a_classifier_with_few_faults_can_alert_and_says_what_is_not_known(
    tmp_path: Path, episodes: int, count: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A floor of one half let one fault of three through, though nothing else came near its score."""
    maker = LakeMaker(tmp_path / "lake", rows=9000, count=count)
    for number in range(episodes):
        maker.fault("press-0", 1500 + 2500 * number, 1560 + 2500 * number)
    for name in maker.values:  # the next one is weaker
        maker.values[name][7500:7561, 1] -= 7 if episodes == 2 else 8
        maker.fault(name, 7500, 7560)
    lake, border, run = str(maker.write()), iso(START + 6500 * MINUTE), str(tmp_path / "run")
    assert main(["train", "--lake", lake, "--device-type", "press", "--train-until", border, "--out", run]) == 0
    said = capsys.readouterr().out
    assert ("How many faults the classifier finds is not known" in said) == (episodes == 1)
    out = str(tmp_path / "evaluation.json")
    told = ["--bundle", f"{run}/bundle.zip", "--lake", lake, "--since", border]
    assert main(["evaluate", *told, "--out", out]) in (0, 3)
    assert load(Path(out))["models"]["classifier"]["event_recall"] == 1.0
    capsys.readouterr()
    assert main(["backtest", *told, "--json"]) == 0
    alerts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    first, last = iso(START + 7500 * MINUTE), iso(START + 7560 * MINUTE)
    found = [one for one in alerts if one["model"] == "classifier" and one["opened_at"] <= last]
    assert {one["device"] for one in found if one["ended_at"] >= first} == set(maker.values)


def test_the_same_lake_gives_the_same_bytes_wide_or_long(trained: Path, tmp_path: Path) -> None:
    maker = made(tmp_path / "lake")
    lake = maker.write("long")
    split = split_file(tmp_path, maker)
    arguments = ["train", "--lake", str(lake), "--device-type", "press", "--split", str(split)]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "bundle.zip").read_bytes() == (trained / "run" / "bundle.zip").read_bytes()
    first, second = load(trained / "run" / "run.json"), load(tmp_path / "run" / "run.json")
    for run in (first, second):
        del run["timings"], run["data"]["lake"]
    digests = [run["data"].pop("digests") for run in (first, second)]
    assert first == second
    assert [item["name"] for item in digests[0]][-1].startswith("readings/")
    assert digests[0] != digests[1], "the same values in other files"


def test_without_fault_labels_there_is_a_detector_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    maker = made(tmp_path / "lake", faults=False)
    lake = maker.write()
    until = iso(START + BORDER * MINUTE)
    arguments = ["train", "--lake", str(lake), "--device-type", "press", "--train-until", until]
    assert main([*arguments, "--out", str(tmp_path / "run"), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["models"]) == ["detector"]


def test_rows_of_missing_periods_get_no_line(trained: Path, tmp_path: Path) -> None:
    maker = made(tmp_path / "lake")
    for name in maker.values:
        kept = np.ones(ROWS, bool)
        kept[1700:1750] = False
        maker.ts[name], maker.values[name] = maker.ts[name][kept], maker.values[name][kept]
    out = tmp_path / "s.parquet"
    bundle = str(trained / "run" / "bundle.zip")
    since = ["--since", iso(START + BORDER * MINUTE)]
    assert main(["score", "--bundle", bundle, "--lake", str(maker.write()), *since, "--out", str(out)]) == 0
    table = pq.read_table(out)
    assert table.num_rows == 3 * 2 * (ROWS - BORDER - 50)
    assert table.schema.field("ts").type == pa.timestamp("us", tz="UTC")


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str], code: int = 2) -> str:
    assert main(arguments) == code
    message = capsys.readouterr().err
    assert message.startswith("fieldwatch-trainer: ") and "Traceback" not in message
    return message


def test_a_bundle_may_be_trained_not_to_adapt(trained: Path, tmp_path: Path) -> None:
    told = ["--lake", str(trained / "lake"), "--device-type", "press", "--split", str(trained / "split.json")]
    assert main(["train", *told, "--out", str(tmp_path / "run"), "--no-adapt"]) == 0
    frozen = read_bundle(tmp_path / "run" / "bundle.zip").manifest.models
    moving = read_bundle(trained / "run" / "bundle.zip").manifest.models
    assert [model.level.adapt for model in frozen if model.level] == [False, False]
    assert [model.level.adapt for model in moving if model.level] == [True, True]
    assert [model.threshold for model in frozen] == [model.threshold for model in moving]


# ---- how often would this have fired -------------------------------------------------------------------------------


def test_a_back_test_tells_alerts_events_and_the_trade(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "pages" / "backtest.html"
    told = ["backtest", "--bundle", str(trained / "run" / "bundle.zip"), "--lake", str(trained / "lake"),
            "--split", str(trained / "split.json")]  # fmt: skip
    assert main([*told, "--answers", "labels:8h", "--html", str(page)]) == 0
    said = capsys.readouterr().out
    assert "people answer after 8 h, from the labels" in said and "100% of 3 events found" in said
    assert "detector, week of 2025-12-29" in said and "x 0.25: " in said and "Found: fault of 2026-01-0" in said
    assert main([*told, "--json"]) == 0
    alerts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {tuple(one) for one in alerts} == {("device", "model", "opened_at", "ended_at", "level", "like", "sensors")}
    detector = [one for one in alerts if one["model"] == "detector"]
    assert {one["device"] for one in detector} == {"press-0", "press-1", "press-2"}
    assert all(one["sensors"] and one["level"] > 0 and one["like"] is None for one in detector)
    shown = page.read_text(encoding="utf-8")
    assert shown.count("<svg") == len(alerts) + 6 + 2 and "press-2" in shown


def test_a_back_test_tells_first_which_alerts_were_false(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a lake whose last fault on one device nobody labelled."""
    lake = shutil.copytree(trained / "lake", tmp_path / "lake")
    lines = pq.read_table(lake / "labels.parquet").to_pylist()
    kept = [
        one for one in lines if one["device"] != "press-2" or one["start"].timestamp() * 1e6 < START + BORDER * MINUTE
    ]
    assert len(kept) == len(lines) - 1
    pq.write_table(pa.Table.from_pylist(kept, pq.read_schema(lake / "labels.parquet")), lake / "labels.parquet")
    told = ["--bundle", str(trained / "run" / "bundle.zip"), "--split", str(trained / "split.json")]
    assert main(["backtest", *told, "--lake", str(lake)]) == 0
    said = capsys.readouterr().out
    false = [line for line in said.splitlines() if line.startswith("  false alarm: ")]
    assert any("  press-2  detector  " in line and line.endswith("No label there") for line in false)
    assert not any("Found: " in line for line in false) and "Found: fault of 2026-01-0" in said
    assert said.index("false alarm: ") < said.index("week of") < said.index("Found: ")


def test_a_back_test_raises_the_alerts_of_the_scores_file(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = ["--bundle", str(trained / "run" / "bundle.zip"), "--lake", str(trained / "lake"),
            "--split", str(trained / "split.json")]  # fmt: skip
    assert main(["backtest", *told, "--json"]) == 0
    alerts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    raised = {
        (line["device"], line["model"], line["alert"])
        for line in pq.read_table(trained / "scores.parquet").to_pylist()
        if line["alert"]
    }
    told = [(one["device"], one["model"], parse_iso(one["opened_at"])) for one in alerts]
    assert raised == {(device, model, alert_id(device, model, opened)) for device, model, opened in told}


def test_a_log_fires_as_its_lake_does(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Agent and trainer: one rule, one function; the agent counts from the log's first line."""
    bundle, log = str(trained / "run" / "bundle.zip"), tmp_path / "press-1" / "readings.csv"
    table = pq.read_table(trained / "lake" / "readings" / "press-1.parquet")
    ts = table["ts"].cast("int64").to_pylist()
    values = zip(*(table[name].to_pylist() for name in SENSORS), strict=True)
    lines = [",".join(["timestamp", *SENSORS])]
    lines += [
        ",".join([iso(time), *("" if value is None or value != value else repr(value) for value in row)])  # noqa: PLR0124
        for time, row in zip(ts, values, strict=True)
    ]
    log.parent.mkdir()
    log.write_text("\n".join(lines) + "\n")
    assert main(["backtest", "--bundle", bundle, "--lake", str(trained / "lake"), "--json"]) == 0
    of_lake = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = ["backtest", "--bundle", bundle, str(log), "--html", str(tmp_path / "page.html")]
    assert agent([*told, "--json"]) == 0
    of_log = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert of_log == [one for one in of_lake if one["device"] == "press-1"] and {one["model"] for one in of_log} == {
        "detector", "classifier"
    }  # fmt: skip
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("<svg") == len(of_log) + 2
    assert agent(told) == 0
    assert "detector, week of 2025-12-29" in (said := capsys.readouterr().out) and "x 4: " in said
    assert agent([*told, "--answers", "labels:8h"]) == 2
    assert "a log has no labels to answer from" in capsys.readouterr().err
    assert agent([*told, "--answers", "soon"]) == 2
    assert "must be none, or labels: and a time" in capsys.readouterr().err


def test_a_back_test_says_what_it_cannot_do(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = str(LakeMaker(tmp_path / "lake").write())
    told = ["backtest", "--bundle", str(trained / "run" / "bundle.zip"), "--lake", lake]
    assert main([*told, "--answers", "labels:8h"]) == 2
    assert "no labels to answer from: use --answers none" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit_:
        main([*told, "--answers", "soon"])
    assert exit_.value.code == 2 and "labels:8h" in capsys.readouterr().err
    assert main([*told, "--since", "2027-01-01T00:00:00Z"]) == 2
    assert "no reading of press-0, press-1 lies at or after --since" in capsys.readouterr().err
    assert main(told) == 0
    assert "nobody answers" in capsys.readouterr().out


def test_bad_input_is_told_in_one_line(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake, bundle = str(trained / "lake"), str(trained / "run" / "bundle.zip")
    train = ["train", "--out", str(tmp_path / "run")]
    scored = ["--out", str(tmp_path / "s.parquet")]
    other = tmp_path / "other.json"
    other.write_text('{"train_until": {"lathe-1": "2026-01-01T00:00:00Z"}}', encoding="utf-8")

    assert "no such lake" in fails([*train, "--lake", str(tmp_path / "no"), "--device-type", "press"], capsys)
    assert "devices.parquet has: press" in fails([*train, "--lake", lake, "--device-type", "lathe"], capsys)
    told = fails([*train, "--lake", lake, "--device-type", "press", "--split", str(other)], capsys)
    assert "no overlap" in told and "lathe-1" in told
    early, late = ["--train-until", "2025-01-01"], ["--since", "2027-01-01"]
    told = fails([*train, "--lake", lake, "--device-type", "press", *early], capsys)
    assert "no reading of type 'press' lies before the split" in told
    told = fails(["score", "--bundle", bundle, "--lake", lake, *late, *scored], capsys)
    assert "lies at or after --since or the split" in told
    told = fails(["score", "--bundle", bundle, "--csv", str(trained / "lake" / "x.csv"), *scored], capsys)
    assert "No such file" in told
    told = fails(["score", "--bundle", str(tmp_path / "b.zip"), "--lake", lake, *scored], capsys)
    assert "b.zip: No such file" in told
    (tmp_path / "b.zip").write_bytes(b"not a zip")
    assert "b.zip: " in fails(["score", "--bundle", str(tmp_path / "b.zip"), "--lake", lake, *scored], capsys)
    assert not (tmp_path / "run").exists()


def test_a_lake_that_does_not_fit_the_bundle(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = ["--bundle", str(trained / "run" / "bundle.zip")]
    out = ["--out", str(tmp_path / "s.parquet")]
    slow = LakeMaker(tmp_path / "slow", rows=50)
    slow.write(period_s=300.0)
    assert "period of 60 s, the lake's devices have 300 s" in fails(
        ["score", *bundle, "--lake", str(tmp_path / "slow"), *out], capsys
    )
    strange = LakeMaker(tmp_path / "strange", rows=50)
    strange.names = ["w", "x", "y", "z"]
    strange.write()
    assert "none of the sensors" in fails(["score", *bundle, "--lake", str(tmp_path / "strange"), *out], capsys)
    LakeMaker(tmp_path / "bare", rows=200).write()
    assert "no labels" in fails(["evaluate", *bundle, "--lake", str(tmp_path / "bare")], capsys)
    (tmp_path / "t.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    assert "scores windows of 71 rows" in fails(["score", *bundle, "--csv", str(tmp_path / "t.csv"), *out], capsys)
    assert "another bundle" in fails(
        ["evaluate", *bundle, "--lake", str(trained / "lake"), "--scores", _scores_of_nobody(tmp_path)], capsys
    )


def _scores_of_nobody(folder: Path) -> str:
    path = folder / "nobody.parquet"
    pq.write_table(pa.table({"device": ["press-0"]}), path)
    return str(path)


def test_too_little_to_learn_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = LakeMaker(tmp_path / "lake", rows=40).write()
    train = ["train", "--lake", str(lake), "--device-type", "press", "--out", str(tmp_path / "run")]
    assert main(train) == 3
    assert "80 readings in all; at least 300 are needed" in capsys.readouterr().err
    told = fails([*train, "--accept", "too-few-readings"], capsys)
    assert "80 normal rows to learn from; the detector needs at least 100" in told


def test_constant_and_empty_sensors_are_told_and_survive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    maker = LakeMaker(tmp_path / "lake", rows=800, count=1)
    maker.values["press-0"][:, 0] = 3.5
    maker.values["press-0"][:, 3] = np.nan
    assert main(
        ["train", "--lake", str(maker.write()), "--device-type", "press", "--out", str(tmp_path / "run"), "--json"]
    ) == 0  # fmt: skip
    run = json.loads(capsys.readouterr().out)
    assert run["data"]["constant_sensors"] == ["a"]
    assert any("single value" in note and "d" in note for note in run["notes"])


def test_a_lake_in_which_nothing_varies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    maker = LakeMaker(tmp_path / "lake", rows=300, count=1)
    maker.values["press-0"][:] = 3.5
    maker.values["press-0"][:, 3] = np.nan
    lake = ["--lake", str(maker.write()), "--device-type", "press"]
    told = fails(["train", *lake, "--out", str(tmp_path / "run")], capsys)
    assert "every sensor is constant or empty" in told
    assert "were the right columns exported?" in told
    assert not (tmp_path / "run").exists()


def test_a_column_of_text_is_told_and_no_sensor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = LakeMaker(tmp_path / "lake", rows=300, count=1).write()
    (file,) = (root / "readings").rglob("*.parquet")
    table = pq.read_table(file)
    pq.write_table(table.append_column("mode", pa.array(["warm"] * table.num_rows)), file)
    assert main(["check", "--lake", str(root), "--device-type", "press"]) == 0
    assert "mode: no numbers" in capsys.readouterr().out


@pytest.mark.filterwarnings("error")
def test_infinite_and_absurd_values_are_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    maker = LakeMaker(tmp_path / "lake", rows=800, count=1)
    maker.values["press-0"][::50, 0] = np.inf
    maker.values["press-0"][10::50, 0] = -1e250
    lake = ["--lake", str(maker.write()), "--device-type", "press"]
    assert main(["check", *lake]) == 0
    assert "a: 32 values are infinite or absurd" in capsys.readouterr().out
    assert main(["train", *lake, "--out", str(tmp_path / "run")]) == 0
    mean = read_bundle(tmp_path / "run" / "bundle.zip").manifest.baseline.mean[0]
    assert abs(mean) < 1000


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--out", "r"],
        ["train", "--lake", "l", "--csv", "c", "--out", "r"],
        ["train", "--lake", "l", "--out", "r"],
        ["train", "--csv", "c", "--out", "r"],
        ["train", "--csv", "c", "--label", "y", "--split", "s", "--out", "r"],
        ["train", "--lake", "l", "--device-type", "t", "--budget", "-1", "--out", "r"],
        ["score", "--lake", "l"],
        [],
    ],
)
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


def test_the_door_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = None; from fieldwatch_trainer.__main__ import main; "
        "sys.exit(main(['train', '--lake', 'l', '--device-type', 't', '--out', 'r']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "pip install '.[trainer]' in the checkout" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["train", "score", "evaluate", "compare", "check"])
def test_help_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"example: fieldwatch-trainer {command}" in " ".join(capsys.readouterr().out.split())


def renamed(trained: Path, folder: Path, names: dict[str, str]) -> str:
    """Copy the lake with other names of sensors."""
    lake = shutil.copytree(trained / "lake", folder / "renamed")
    for file in (lake / "readings").iterdir():
        table = pq.read_table(file)
        pq.write_table(table.rename_columns([names.get(name, name) for name in table.column_names]), file)
    return str(lake)


def test_absent_sensors_are_named_when_scoring_and_evaluating(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = ["--bundle", str(trained / "run" / "bundle.zip"), "--lake", renamed(trained, tmp_path, {"b": "b_new"})]
    assert main(["score", *lake, "--out", str(tmp_path / "s.parquet")]) == 0
    assert "b: no value on any device; it is missing from every score there" in capsys.readouterr().out
    main(["evaluate", *lake])  # a gate may refuse it: without a sensor it is poor
    assert "missing from every score: b\n" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["score", "--out", "s.parquet"], ["evaluate"]])
def test_too_many_absent_sensors_are_refused_by_name(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    other = renamed(trained, tmp_path, {"b": "b_new", "c": "C"})
    assert main([*command, "--bundle", str(trained / "run" / "bundle.zip"), "--lake", other]) == 3
    told = capsys.readouterr().err
    assert "no column for 2 of the 4 sensors" in told and "b, c" in told
    assert "Columns that the bundle does not know: b_new, C" in told
