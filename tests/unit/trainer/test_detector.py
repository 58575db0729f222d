"""The detector's graph is the formula, and its scores do not know how rows were cut into blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from fieldwatch_contract.bundle import Baseline
from fieldwatch_contract.scoring import Scorer
from fieldwatch_trainer import bundle as bundles
from fieldwatch_trainer.models import ANOMALY, DeviceRows, Fitted, TooLittleData
from fieldwatch_trainer.models.detector import CAP, LOOKBACK, WEIGHTS, Detector
from numpy.typing import NDArray

from tests.lakes import MINUTE, correlated


@dataclass
class Rows:
    """Training data from arrays, a device each."""

    devices: list[NDArray[np.float64]]
    labels: list[NDArray[np.int8]] | None = None
    period: int = MINUTE
    device_type: str = "press"
    sensors: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.sensors = [f"s{i}" for i in range(self.devices[0].shape[1])]

    def __iter__(self) -> Iterator[DeviceRows]:
        for number, rows in enumerate(self.devices):
            count = len(rows)
            label = self.labels[number] if self.labels else np.zeros(count, np.int8)
            yield DeviceRows(f"d{number}", np.arange(count) * MINUTE, rows, np.ones(count, bool), label)


def bundle_of(fitted: Fitted, sensors: int) -> Scorer:
    zeros = [0.0] * sensors
    baseline = Baseline(mean=zeros, scale=zeros, low=zeros, high=zeros)
    frame = bundles.Frame("press", [f"s{i}" for i in range(sensors)], MINUTE, baseline, True, "", "2026-01-01")
    return Scorer(bundles.draft(frame, [fitted]))


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return Detector().fit(Rows([correlated(2000, 7, 0, missing=0.01), correlated(1500, 7, 1)]))


@pytest.fixture(scope="module")
def scorer(fitted: Fitted) -> Scorer:
    return bundle_of(fitted, 7)


def spoiled(rows: int = 900) -> NDArray[np.float64]:
    """Return rows with every kind of missing value, and absurd ones."""
    x = correlated(rows, 7, 5, missing=0.03)
    x[100:103] = np.nan
    x[200:260, 2] = np.nan
    x[300:420] = np.nan
    x[500, 4] = 1e300
    x[501, 4] = -1e300
    x[600:620, 1] += 30
    return x


@pytest.mark.parametrize("size", [1, 2, 7, 64, 512])
def test_scores_have_the_same_bits_however_rows_are_cut(scorer: Scorer, size: int) -> None:
    x = spoiled()
    past = scorer.manifest.window - 1
    whole = scorer.score(x)[0]
    for start in range(past, len(x), size):
        part = scorer.score(x[start - past : start + size])[0]
        stop = start + len(part.score)
        np.testing.assert_array_equal(part.score, whole.score[start - past : stop - past])
        np.testing.assert_array_equal(part.contributions, whole.contributions[start - past : stop - past])
        np.testing.assert_array_equal(part.verdict, whole.verdict[start - past : stop - past])


def test_bits_hold_for_widths_that_fill_no_register() -> None:
    for sensors in (1, 5, 38):
        x = correlated(700, sensors, 2, missing=0.02)
        scorer = bundle_of(Detector().fit(Rows([x])), sensors)
        past = scorer.manifest.window - 1
        whole = scorer.score(x)[0].score
        for start in range(past, past + 60):
            assert scorer.score(x[start - past : start + 1])[0].score[0] == whole[start - past]


def test_a_score_sees_the_last_rows_only(scorer: Scorer) -> None:
    x = spoiled()
    changed = x.copy()
    row = 800
    changed[: row - LOOKBACK + 1] = 99.0
    changed[row + 1 :] = -99.0
    past = scorer.manifest.window - 1
    assert scorer.score(changed)[0].score[row - past] == scorer.score(x)[0].score[row - past]


def test_the_graph_computes_the_reference(fitted: Fitted, scorer: Scorer) -> None:
    x = spoiled()
    score = scorer.score(x)[0].score.astype(np.float64)
    expected = np.asarray(fitted.reference(x), np.float64)[LOOKBACK - 1 :]
    assert float(expected.max()) > 1
    assert float((np.abs(score - expected) / np.maximum(1, expected)).max()) < 1e-5


def test_contributions_sum_to_the_score_and_name_the_sensor(scorer: Scorer) -> None:
    x = correlated(400, 7, 9)
    x[300:330, 3] += 25
    scores = scorer.score(x)[0]
    np.testing.assert_allclose(scores.contributions.sum(axis=1), scores.score, rtol=1e-5, atol=1e-6)
    assert (scores.contributions >= 0).all()
    row = 310 - (LOOKBACK - 1)
    assert scores.score[row] > 20 * scores.score[:200].max()
    assert scores.contributions[row].argmax() == 3


def test_a_missing_value_never_contributes(scorer: Scorer) -> None:
    x = correlated(400, 7, 9)
    x[100:, 2] = np.nan
    assert not scorer.score(x)[0].contributions[100 + LOOKBACK :, 2].any()


def test_a_lost_sensor_or_a_gap_is_no_anomaly(scorer: Scorer) -> None:
    x = correlated(900, 7, 9)
    usual = float(scorer.score(x)[0].score.max())
    for rows, columns in ((slice(200, 900), [1]), (slice(300, 304), slice(None)), (slice(300, 500), slice(None))):
        holed = x.copy()
        holed[rows, columns] = np.nan
        assert float(scorer.score(holed)[0].score.max()) < max(3 * usual, 0.3)


def test_the_score_of_one_wild_sensor_is_bounded(scorer: Scorer) -> None:
    x = correlated(400, 7, 9)
    x[200:, 0] = 1e12
    contributions = scorer.score(x)[0].contributions
    assert np.isfinite(contributions).all()
    assert float(contributions.max()) <= sum(WEIGHTS.values()) * CAP / 7 * 1.0001


def test_constant_and_never_seen_sensors_are_handled() -> None:
    x = correlated(800, 5, 3)
    x[:, 1] = 4.0
    x[:, 2] = np.nan
    fitted = Detector().fit(Rows([x]))
    scorer = bundle_of(fitted, 5)
    assert fitted.facts["never_seen"] == ["s2"]
    assert float(scorer.score(x)[0].score.max()) < 1
    x[500:, 2] = 123.0
    assert not scorer.score(x)[0].contributions[:, 2].any()
    x[600:640, 1] = 4.5
    row = 610 - (LOOKBACK - 1)
    assert scorer.score(x)[0].contributions[row].argmax() == 1


@pytest.mark.parametrize(
    ("unit", "origin", "tolerance"),
    [(2.0**-40, 0.0, 0.0), (2.0**-400, 0.0, 0.0), (2.0**60, 0.0, 0.0), (1e-12, 0.0, 1e-4), (1.0, 1e9, 1e-3)],
)
def test_scores_are_free_of_unit_and_origin(unit: float, origin: float, tolerance: float) -> None:
    seen, later = correlated(1500, 4, 3), correlated(600, 4, 4)
    later[300:330, 1] += 6
    plain = bundle_of(Detector().fit(Rows([seen])), 4).score(later)[0].score
    moved = bundle_of(Detector().fit(Rows([seen * unit + origin])), 4).score(later * unit + origin)[0].score
    assert np.nanmax(plain) > 20 * np.nanmedian(plain)
    np.testing.assert_allclose(moved, plain, rtol=tolerance, atol=tolerance)


def test_a_constant_that_was_stored_in_single_precision_has_not_changed() -> None:
    x = correlated(1000, 3, 6)
    x[:, 2] = float(np.float32(0.1))
    scorer = bundle_of(Detector().fit(Rows([x])), 3)
    later = correlated(400, 3, 7)
    later[:, 2] = 0.1
    quiet = scorer.score(later)[0].contributions[:, 2]
    later[200:, 2] = 0.1001
    assert quiet.max() == 0.0 and scorer.score(later)[0].contributions[-1, 2] > 1.0


def test_labelled_rows_teach_nothing() -> None:
    clean = correlated(1500, 4, 3)
    label = np.zeros(1500, np.int8)
    label[700:900] = ANOMALY
    wild, wilder = clean.copy(), clean.copy()
    wild[700:900] += 50
    wilder[700:900] = -1e6
    first, second = (Detector().fit(Rows([rows], [label])).onnx for rows in (wild, wilder))
    assert first == second


def test_training_is_deterministic_and_blind_to_how_it_is_read(fitted: Fitted) -> None:
    again = Detector().fit(Rows([correlated(2000, 7, 0, missing=0.01), correlated(1500, 7, 1)]))
    assert again.onnx == fitted.onnx


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(TooLittleData, match="99 normal rows"):
        Detector().fit(Rows([correlated(99, 3)]))


def test_a_draft_never_alarms(scorer: Scorer) -> None:
    assert set(scorer.score(spoiled())[0].verdict.tolist()) <= {0, 3}
