"""Data that would spoil a model says so: each spoilt lake is told by name, or is read as its clean twin."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from fieldwatch_trainer.__main__ import main
from fieldwatch_trainer.check import inspect
from fieldwatch_trainer.checks.finding import KINDS
from fieldwatch_trainer.lake import Lake, LakeError

from tests.spoilt import DEVICES, SPOILT, clean


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean") / "lake"
    clean(folder)
    return folder


@pytest.fixture
def lake(twin: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(twin, tmp_path / "lake"))


def test_the_clean_twin_raises_nothing(twin: Path) -> None:
    assert inspect(Lake(twin), "press").findings == []


def test_each_kind_of_row_has_two_forms() -> None:
    assert len(SPOILT) >= 100
    told = [spoil.kind for spoil in SPOILT.values()]
    for kind in ("sentinel", "stuck", "unit-change", "time-slip", "leak", "renamed-sensor", "wrong-period", "gaps"):
        assert told.count(kind) >= 2, kind
    assert set(told) - {""} <= set(KINDS)


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_lake_is_told_or_read_as_its_twin(name: str, lake: Path, twin: Path) -> None:
    spoil = SPOILT[name]
    spoil.act(lake)
    if spoil.error:
        with pytest.raises(LakeError, match=spoil.error):
            Lake(lake)
        return
    findings = inspect(Lake(lake, strict=False), "press").findings
    if not spoil.kind:
        assert findings == []
        for device in DEVICES:
            one, two = (Lake(folder).readings(device, list("abcde")) for folder in (lake, twin))
            assert one.ts.tolist() == two.ts.tolist()
            np.testing.assert_allclose(one.values, two.values, rtol=1e-3)
        return
    mine = [one for one in findings if one.kind == spoil.kind]
    assert mine, [(one.kind, one.device, one.sensor) for one in findings]
    assert any(spoil.device in (None, one.device) and spoil.sensor in (None, one.sensor) for one in mine), mine
    for one in findings:
        assert one.what and one.remedy and one.consequence
        assert (one.start is None) == (one.end is None)


# ---- what train does with it ----


def train(lake: Path, *more: str) -> int:
    return main(["train", "--lake", str(lake), "--device-type", "press", "--out", str(lake.parent / "run"), *more])


def test_what_would_make_the_result_meaningless_ends_training(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SPOILT["C to F"].act(lake)
    SPOILT["is_fault"].act(lake)
    assert train(lake) == 3
    told = capsys.readouterr().err
    assert "unit-change (STOPS TRAINING)" in told and "--accept unit-change:b" in told
    assert "leak (STOPS TRAINING)" in told and "--accept leak:is_fault" in told
    assert train(lake, "--accept", "unit-change:b") == 3
    told = capsys.readouterr().err
    assert "unit-change" not in told and "leak" in told
    assert not (lake.parent / "run").exists()


def test_what_is_accepted_by_name_stands_in_the_card_and_in_the_run(
    lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    SPOILT["C to F"].act(lake)
    assert train(lake, "--accept", "unit-change:b", "--accept", "sentinel") == 0
    said = capsys.readouterr().out
    assert "accepted: press-0 / b (2026-01-02T06:00:00Z to" in said
    assert "Accepted and not found: sentinel." in said
    card = (lake.parent / "run" / "model_card.md").read_text(encoding="utf-8")
    assert "## Accepted findings" in card and "- **unit-change**: press-0 / b (2026-01-02T06:00:00Z to" in card
    assert '"accept": "unit-change:b"' in (lake.parent / "run" / "run.json").read_text(encoding="utf-8")


def test_a_finding_behind_the_border_does_not_stop_training(lake: Path) -> None:
    SPOILT["C to F"].act(lake)  # at 06:00 of the second day
    assert train(lake, "--train-until", "2026-01-02T06:00:00Z") == 0


@pytest.mark.parametrize("command", ["train", "check"])
@pytest.mark.parametrize(
    ("accept", "told"),
    [
        ("unit-chnage:b", "--accept unit-chnage:b: no such finding; did you mean unit-change"),
        ("unit-change:bb", "--accept unit-change:bb: no such sensor; did you mean b?"),
    ],
)
def test_a_typing_mistake_in_accept_is_told(
    lake: Path, capsys: pytest.CaptureFixture[str], command: str, accept: str, told: str
) -> None:
    more = ["--out", str(lake.parent / "run")] if command == "train" else []
    assert main([command, "--lake", str(lake), "--device-type", "press", *more, "--accept", accept]) == 2
    assert told in capsys.readouterr().err


def test_check_accepts_too_and_says_what_had_no_effect(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SPOILT["is_fault"].act(lake)
    assert main(["check", "--lake", str(lake)]) == 3
    assert "NOT usable for training: 1 finding" in capsys.readouterr().out
    assert main(["check", "--lake", str(lake), "--accept", "leak:is_fault", "--accept", "drift"]) == 0
    told = capsys.readouterr().out
    assert "leak (accepted)" in told and "accepted and not found: drift" in told


def test_a_broken_file_stops_training_by_name(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SPOILT["torn file"].act(lake)
    assert train(lake) == 3
    assert "press-1.parquet: not a readable Parquet file" in " ".join(capsys.readouterr().err.split())
