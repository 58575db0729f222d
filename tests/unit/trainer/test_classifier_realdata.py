"""The classifier on run-to-failure turbofans: it must rank the last cycles of engines that it has never seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fieldwatch_contract.features import FeatureSpec, compute
from fieldwatch_trainer.lake import Lake, label_codes
from fieldwatch_trainer.metrics import average_precision, brier
from fieldwatch_trainer.models import FAULT, DeviceRows
from fieldwatch_trainer.models.classifier import Classifier

SPEC = FeatureSpec(windows=(5, 15, 30))


@dataclass
class Engines:
    lake: Lake
    names: list[str]
    device_type: str = "turbofan"
    period: int = 3_600_000_000

    @property
    def sensors(self) -> list[str]:
        return self.lake.sensors(self.device_type)

    def __iter__(self) -> Iterator[DeviceRows]:
        for name in self.names:
            grid = self.lake.grid(name, self.sensors, SPEC.longest)
            label = label_codes(grid.ts, self.lake.labels(name))
            yield DeviceRows(name, grid.ts, grid.rows, grid.reading, label)


@pytest.mark.soak
@pytest.mark.realdata
def test_faults_of_unseen_engines(data_dir: Path) -> None:
    lake = Lake(data_dir / "cmapss")
    names = [info.device for info in lake.devices("turbofan")]
    fitted = Classifier(SPEC).fit(Engines(lake, names[:70]))
    score, fault = [], []
    for engine in Engines(lake, names[70:]):
        score.append(fitted.reference(compute(engine.rows, len(engine.rows), SPEC)))
        fault.append(engine.label == FAULT)
    p, y = np.concatenate(score), np.concatenate(fault)
    quality = average_precision(y, p)
    assert quality is not None
    assert quality >= 0.95  # .978 when written; a random score gets .14
    assert brier(y, p) <= 0.022
    assert abs(fitted.facts["calibration"]["average_precision"] - quality) < 0.02  # the run's own figure is honest
