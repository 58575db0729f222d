"""The classifier: honest sampling, grouping and calibration, and a graph that the scorer can run."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from fieldwatch_contract.features import FeatureSpec, compute
from fieldwatch_trainer.models import FAULT, DeviceRows, TooLittleData
from fieldwatch_trainer.models.classifier import MIN_SLOPE, Classifier, Settings, draw, features_at, platt
from numpy.typing import NDArray

SPEC = FeatureSpec(windows=(3, 9))
SETTINGS = Settings(trees=40, threads=1)
SENSORS = ["a", "b", "c", "d"]
MINUTE = 60_000_000


@dataclass
class Data:
    devices: list[DeviceRows]
    sensors: Sequence[str] = tuple(SENSORS)
    device_type: str = "press"
    period: int = MINUTE

    def __iter__(self) -> Iterator[DeviceRows]:
        return iter(self.devices)


def device(name: str, faults: Sequence[tuple[int, int]], rows: int = 600, size: float = 3.0) -> DeviceRows:
    rng = np.random.default_rng(sum(name.encode()))
    values = rng.standard_normal((rows, 4))
    values[rng.random(values.shape) < 0.02] = np.nan
    label = np.zeros(rows, np.int8)
    for start, stop in faults:
        values[start:stop, 1] += size
        label[start:stop] = FAULT
    return DeviceRows(name, np.arange(rows) * MINUTE, values, np.ones(rows, np.bool_), label)


def fleet() -> Data:
    return Data([device(f"press-{i}", [(300, 340 + i)] if i % 2 else []) for i in range(8)])


@pytest.mark.parametrize("origin", [1e9, -3e8])
def test_it_finds_a_fault_that_single_precision_would_not_show(origin: float) -> None:
    """At 1e9 ± 1 all values are one number in float32, and only spread and slope were left."""

    def far(device: DeviceRows) -> DeviceRows:
        return replace(device, rows=device.rows + np.array([0.0, origin, 0.0, 0.0]))

    fitted = Classifier(SPEC, SETTINGS).fit(Data([far(one) for one in fleet()]))
    assert fitted.features is not None and fitted.features.centre is not None
    assert [abs(x) > 1 for x in fitted.features.centre] == [False, True, False, False]
    new = far(device("new", [(100, 160)]))
    score = fitted.reference(compute(new.rows, len(new.rows), fitted.features))
    assert score[110:160].mean() > 0.8
    assert score[:100].mean() < 0.05


def test_it_finds_the_fault_on_an_unseen_device_and_names_the_sensor() -> None:
    fitted = Classifier(SPEC, SETTINGS).fit(fleet())
    new = device("new", [(100, 160)])
    score = fitted.reference(compute(new.rows, len(new.rows), SPEC))
    assert score[110:160].mean() > 0.8
    assert score[:100].mean() < 0.05
    importance = fitted.facts["importance"]
    assert max(importance, key=importance.get) == "b"
    assert sum(importance.values()) == pytest.approx(1)
    assert fitted.neutral is not None
    assert fitted.neutral.dtype == np.float32
    assert fitted.neutral.shape == (SPEC.width(4),)


def test_same_data_same_bytes() -> None:
    data = fleet()
    first = Classifier(SPEC, SETTINGS).fit(data)
    again = Classifier(SPEC, SETTINGS).fit(fleet())
    assert first.onnx == again.onnx
    assert first.facts == again.facts
    backwards = Classifier(SPEC, SETTINGS).fit(Data(data.devices[::-1]))
    assert backwards.facts["rows"] == first.facts["rows"]


def test_calibration_is_fitted_on_rows_the_trees_did_not_see() -> None:
    """Where faults leave no trace, scores of held-back rows say so; in-sample scores would claim certainty."""
    data = Data([device(f"press-{i}", [(300, 360)], size=0.0) for i in range(6)])
    fitted = Classifier(SPEC, SETTINGS).fit(data)
    calibration = fitted.facts["calibration"]
    assert calibration["grouped_by"] == "device"
    assert calibration["average_precision"] < 0.25  # 10 % of the rows are faults
    score = np.concatenate([fitted.reference(compute(d.rows, len(d.rows), SPEC)) for d in data])
    assert score.max() < 0.6


def test_held_back_probabilities_are_calibrated() -> None:
    data = Data([device(f"press-{i}", [(300, 360)], size=1.0) for i in range(12)])
    calibration = Classifier(SPEC, SETTINGS).fit(data).facts["calibration"]
    table = calibration["reliability"]
    rows = sum(row["n"] for row in table)
    assert rows == 12 * 600
    assert sum(row["n"] / rows * abs(row["mean_score"] - row["rate"]) for row in table) < 0.05


def test_one_device_is_held_back_by_episode() -> None:
    data = Data([device("press", [(100, 140), (300, 340), (500, 540)])])
    calibration = Classifier(SPEC, SETTINGS).fit(data).facts["calibration"]
    assert calibration["grouped_by"] == "episode"
    assert calibration["folds"] == 3


def test_one_episode_cannot_be_calibrated_and_the_report_says_so() -> None:
    fitted = Classifier(SPEC, SETTINGS).fit(Data([device("press", [(100, 140)]), device("good", [])]))
    assert fitted.facts["calibration"] is None
    assert "one episode" in fitted.facts["notes"][0]


def unlike() -> Data:
    """Two faults that have nothing in common: held back, each looks normal to what has learnt from the other."""
    other = device("press-2", [])
    other.rows[300:340, 3] += 3.0
    other.label[300:340] = FAULT
    return Data([device("press-1", [(300, 340)]), other])


def test_a_part_is_scored_in_the_scale_of_the_whole() -> None:
    """Else a threshold found in the scores of a part means nothing to the model that ships."""
    whole = Classifier(SPEC, SETTINGS).fit(Data([*fleet().devices, *unlike().devices]))
    assert whole.again is not None
    new = device("new", [(100, 160)])
    x = compute(new.rows, len(new.rows), SPEC)
    alone, part = Classifier(SPEC, SETTINGS).fit(unlike()).reference(x), whole.again.fit(unlike()).reference(x)
    assert part[110:160].mean() > 0.5 > alone[110:160].mean()
    assert part[:100].mean() < 0.1


def test_probabilities_that_know_nothing_still_tell_an_alerts_end_from_its_beginning() -> None:
    """Its end is at a share of its level: scores within a fifth of each other would be one alert for ever."""
    score = Classifier(SPEC, SETTINGS).fit(unlike())
    assert "no better than chance" in score.facts["notes"][0]
    known = unlike().devices[0]
    found = score.reference(compute(known.rows, len(known.rows), SPEC))
    assert found[:290].max() < 0.8 * found[310:335].min()


@pytest.mark.parametrize("faults", [[], [(100, 104)], [(0, 600)]])
def test_too_few_rows_of_a_class(faults: list[tuple[int, int]]) -> None:
    with pytest.raises(TooLittleData, match="normal rows to learn from"):
        Classifier(SPEC, SETTINGS).fit(Data([device("press", faults)]))


def test_sample_is_bounded_uniform_and_weighted_to_the_natural_share() -> None:
    devices = [device(f"press-{i}", [(100, 400)], rows=3000) for i in range(4)]
    sample, _ = draw(devices, SPEC, replace(SETTINGS, rows=500))
    assert len(sample.fault) == 1000
    assert sample.fault.sum() == 500
    assert (sample.fault_rows, sample.normal_rows) == (1200, 10_800)
    assert np.average(sample.fault, weights=sample.weight) == pytest.approx(0.1)
    fewer, _ = draw(devices, SPEC, replace(SETTINGS, rows=500, normal_least=100, normal_ratio=0))
    assert (fewer.fault.sum(), (~fewer.fault).sum()) == (500, 100)
    assert np.average(fewer.fault, weights=fewer.weight) == pytest.approx(0.1)
    backwards, _ = draw(devices[::-1], SPEC, replace(SETTINGS, rows=500))
    assert np.array_equal(np.sort(sample.features[:, 0]), np.sort(backwards.features[:, 0]))


def test_rows_that_may_not_teach_are_not_drawn() -> None:
    barred = device("press", [(100, 200)])
    use = np.ones(600, np.bool_)
    use[150:] = False
    barred = replace(barred, use=use)
    sample, _ = draw([barred], SPEC, SETTINGS)
    assert len(sample.fault) == 150
    anomaly = replace(barred, label=np.where(np.arange(600) < 50, 2, barred.label).astype(np.int8))
    sample, _ = draw([anomaly], SPEC, SETTINGS)
    assert len(sample.fault) == 100


def test_windows_that_straddle_a_fault_are_doubtful() -> None:
    sample, _ = draw([device("press", [(100, 200)])], SPEC, SETTINGS)
    assert np.flatnonzero(sample.doubtful).tolist() == [97, 98, 99, *range(200, 208)]


def test_features_of_single_rows_have_the_bits_of_the_kernel() -> None:
    rows = device("press", [(50, 80)]).rows
    rows[200:240] = np.nan
    index = np.array([0, 1, 5, 77, 199, 210, 230, 245, 599])
    assert features_at(rows, index, SPEC).tobytes() == compute(rows, 600, SPEC)[index].tobytes()


def test_platt_recovers_a_known_rule() -> None:
    rng = np.random.default_rng(5)
    margin = rng.normal(0, 4, 40_000)
    fault = rng.random(40_000) < 1 / (1 + np.exp(-(0.5 * margin - 2)))
    slope, offset = platt(margin, fault, np.ones(40_000))
    assert slope == pytest.approx(0.5, abs=0.03)
    assert offset == pytest.approx(-2, abs=0.1)


def test_platt_stays_finite_where_classes_separate_and_never_turns_round() -> None:
    margin = np.concatenate([np.full(50, -3.0), np.full(50, 3.0)])
    fault = margin > 0
    slope, offset = platt(margin, fault, np.ones(100))
    assert 0.5 < slope < 3
    assert abs(offset) < 0.1
    slope, offset = platt(margin, ~fault, np.ones(100))
    assert 0 < slope <= MIN_SLOPE
    assert 1 / (1 + np.exp(-offset)) == pytest.approx(0.5, abs=0.05)


def test_without_lightgbm_xgboost_takes_over_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "lightgbm":
            raise OSError("libgomp.so.1: cannot open shared object file")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    fitted = Classifier(SPEC, SETTINGS).fit(fleet())
    assert fitted.facts["library"].startswith("XGBoost")
    assert "libgomp" in fitted.facts["notes"][0]
    new = device("new", [(100, 160)])
    score: NDArray[np.float64] = fitted.reference(compute(new.rows, len(new.rows), SPEC))
    assert score[110:160].mean() > 0.8
