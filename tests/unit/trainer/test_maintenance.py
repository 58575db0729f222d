"""Label ``maintenance``: nothing learns from such rows, no alert and no row of them counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fieldwatch_contract.alerts import AlertRule
from fieldwatch_trainer.data import LakeData
from fieldwatch_trainer.events import unexplained
from fieldwatch_trainer.judging import evaluation
from fieldwatch_trainer.labels import codes
from fieldwatch_trainer.lake import Label, Lake
from fieldwatch_trainer.models import ANOMALY, FAULT, MAINTENANCE, NORMAL, DeviceRows
from fieldwatch_trainer.outcomes import DeviceScores, Judge
from fieldwatch_trainer.split import Split
from fieldwatch_trainer.thresholds import HeldOut
from fieldwatch_trainer.train import held_rows

from tests.lakes import MINUTE, LakeMaker


def test_maintenance_wins_over_a_fault_that_it_mends() -> None:
    labels = [Label("d", 2, 6, "fault"), Label("d", 5, 8, "maintenance"), Label("d", 0, 3, "anomaly")]
    assert codes(np.arange(10), labels).tolist() == [
        ANOMALY, ANOMALY, FAULT, FAULT, FAULT, MAINTENANCE, MAINTENANCE, MAINTENANCE, MAINTENANCE, NORMAL,
    ]  # fmt: skip


def test_training_does_not_use_rows_of_maintenance(tmp_path: Path) -> None:
    made = LakeMaker(tmp_path, rows=500, count=1)
    made.label("press-0", 100, 199, "maintenance")
    data = LakeData.of(Lake(made.write()), "press", 60, Split())
    (device,) = data
    assert device.use.sum() == 400
    assert not device.use[100:200].any()


def test_maintenance_explains_what_comes_right_after_it_on_held_back_time_too() -> None:
    """Its rows were left out there: each return to work was a false alarm, and put the threshold up."""
    label = np.zeros(100, np.int8)
    label[[10, *range(50, 60), 90]] = MAINTENANCE
    rows = np.zeros((100, 2))
    rows[55] = np.nan  # nothing was written
    use = (np.arange(100) >= 20) & (np.arange(100) < 80) & (label == 0)
    held = held_rows(DeviceRows("d", np.arange(100) * MINUTE, rows, use, label))
    assert np.flatnonzero(held).tolist() == [row for row in range(20, 80) if row != 55]
    free = unexplained(label[held], 5)
    assert not free[np.flatnonzero(held) == 61]


@pytest.mark.parametrize("kind", ["detector", "classifier"])
def test_alerts_and_rows_of_maintenance_count_for_nothing(kind: str) -> None:
    score = np.zeros(1000, np.float32)
    score[100:200] = 9.0  # a person works on it
    score[500:600] = 9.0  # a fault, found
    label = np.zeros(1000, np.int8)
    label[500:600] = FAULT
    ts = np.arange(1000) * MINUTE

    def figures(label: np.ndarray) -> dict[str, object]:
        held = HeldOut("d", ts, score, np.ones(1000, bool), label)
        judge = Judge("m", kind, 1.0, AlertRule(), MINUTE, 0)  # type: ignore[arg-type]
        found: dict[str, object] = evaluation([judge], {"m": [DeviceScores(held)]}, "")["models"]["m"]
        return found

    assert figures(label)["false_alarms"] == 1
    assert figures(label)["average_precision"] == pytest.approx(0.5)
    label[100:200] = MAINTENANCE
    assert figures(label)["false_alarms"] == 0
    assert figures(label)["average_precision"] == pytest.approx(1.0)
    days = figures(label)["devices"][0]["normal_days"]  # type: ignore[index]
    assert days == pytest.approx(800 / 1440)
