"""Leaks are told: a sensor made of the label, a copied device, folds that overlap, and labels that reach the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fieldwatch_trainer import leaks
from fieldwatch_trainer.data import Fold, LakeData
from fieldwatch_trainer.gates import Gate
from fieldwatch_trainer.lake import Lake
from fieldwatch_trainer.models import FAULT
from fieldwatch_trainer.outcomes import DeviceScores
from fieldwatch_trainer.split import Split
from fieldwatch_trainer.table import TableData
from fieldwatch_trainer.thresholds import HeldOut
from sklearn.metrics import roc_auc_score

from tests.lakes import MINUTE, START, LakeMaker

BORDER = START + 1500 * MINUTE


def lake(folder: Path, size: float = 1.0) -> LakeMaker:
    made = LakeMaker(folder, rows=2000, count=3)
    for name in made.values:
        for start in (200, 700, 1200):
            made.values[name][start : start + 60, 1] += size
            made.label(name, start, start + 59, "fault", ["b"])
    return made


def seen(made: LakeMaker, held: list[DeviceScores] | None = None, folds: leaks.Folds = ()) -> dict[str, Gate]:
    data = LakeData.of(Lake(made.write()), "press", 60, Split(BORDER))
    return {gate.name: gate for gate in leaks.examine(data, {"classifier": held or []}, {"classifier": folds})}


def test_a_clean_lake_raises_nothing(tmp_path: Path) -> None:
    assert {gate.status for gate in seen(lake(tmp_path)).values()} == {"passed"}


@pytest.mark.parametrize("form", ["status", "upside down", "missing"])
def test_a_sensor_made_of_the_label_is_told_and_left_to_a_person(tmp_path: Path, form: str) -> None:
    made = lake(tmp_path)
    for values in made.values.values():
        for start in (200, 700, 1200):
            rows = slice(start, start + 60)
            if form == "missing":
                values[rows, 3] = np.nan
            else:
                values[rows, 3] = 4.0 if form == "status" else -50.0
        if form == "status":
            values[values[:, 3] != 4.0, 3] = 1.0
    gate = seen(made)["leak-sensor"]
    assert gate.status == "unknown"
    assert gate.says.startswith("d (missing or not)" if form == "missing" else "d (area under ROC 1.000)")


@pytest.mark.parametrize("digits", [None, 0])
def test_a_copied_device_is_told_and_rounded_values_alone_are_none(tmp_path: Path, digits: int | None) -> None:
    made = lake(tmp_path)
    if digits is not None:
        for name in made.values:
            made.values[name] = np.round(made.values[name], digits)
    assert seen(made)["leak-copy"].status == "passed"
    shifted = np.concatenate((made.values["press-0"][37:], made.values["press-0"][:37]))
    made.values["press-2"] = shifted
    gate = seen(made)["leak-copy"]
    assert gate.status == "failed" and "press-2 has the same readings as press-0" in gate.says


def test_folds_must_not_overlap_and_held_back_rows_end_before_testing_time(tmp_path: Path) -> None:
    made = lake(tmp_path)
    fair = [
        (Fold(("press-0",)), Fold(("press-1", "press-2"))),
        (Fold(("press-0",), 0.0, 0.5), Fold(("press-0",), 0.5, 1.0)),
    ]
    assert seen(made, folds=fair)["leak-order"].status == "passed"
    for unfair in (
        (Fold(("press-0", "press-1")), Fold(("press-1",))),
        (Fold(("press-0",), 0, 0.6), Fold(("press-0",), 0.5)),
    ):
        gate = seen(made, folds=[*fair, unfair])["leak-order"]
        assert gate.status == "failed" and "in the same time" in gate.says
    ts = BORDER + np.arange(-20, 5) * MINUTE
    late = HeldOut("press-1", ts, np.zeros(25, np.float32), np.ones(25, bool), np.zeros(25, np.int8))
    gate = seen(made, [DeviceScores(late)])["leak-order"]
    assert gate.status == "failed" and "press-1: held-back rows reach into testing time" in gate.says
    early = replace(late, ts=ts - 10 * MINUTE)
    assert seen(made, [DeviceScores(early)])["leak-order"].status == "passed"


def test_area_under_roc_is_that_of_scikit_learn_with_ties() -> None:
    rng = np.random.default_rng(0)
    value, positive = np.round(rng.random(300), 1), rng.random(300) < 0.3
    assert leaks.area_under_roc(positive, value) == pytest.approx(roc_auc_score(positive, value))


def table(copies: int) -> TableData:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(240, 2))
    label = (values[:, 0] + 0.5 * rng.normal(size=240) > 0.8).astype(np.int8)
    return TableData("t", ["x", "y"], np.repeat(values, copies, axis=0), np.repeat(label, copies))


def test_shuffled_labels_teach_nothing() -> None:
    gate = leaks.shuffled(table(1))
    assert gate.status == "passed" and "fitted on shuffled labels" in gate.says


def test_shuffled_labels_that_can_be_learnt_are_a_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier that has the answers to the test, as one that was fitted on all rows has."""
    asked: list[np.ndarray] = []

    class Cheat(leaks.TableClassifier):
        def fit(self, data: TableData) -> object:  # type: ignore[override]
            answers = dict(zip(map(tuple, whole.values), asked[0], strict=True))

            class Fitted:
                @staticmethod
                def reference(rows: np.ndarray) -> np.ndarray:
                    return np.array([answers[tuple(row)] == FAULT for row in rows], float)

            return Fitted()

    whole = table(1)
    split = leaks.split_rows

    def remember(label: np.ndarray, count: int, seed: int) -> list[np.ndarray]:
        asked.append(label)
        return split(label, count, seed)

    monkeypatch.setattr(leaks, "split_rows", remember)
    monkeypatch.setattr(leaks, "TableClassifier", Cheat)
    gate = leaks.shuffled(whole)
    assert gate.status == "failed" and "average precision 1.000" in gate.says
