"""Figures of merit against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from fieldwatch_trainer import metrics
from sklearn.metrics import average_precision_score, brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss


def test_average_precision_is_that_of_scikit_learn_with_ties() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        score = np.round(rng.random(200), 1)
        positive = rng.random(200) < 0.2
        assert metrics.average_precision(positive, score) == pytest.approx(average_precision_score(positive, score))


def test_a_random_score_gets_the_share_of_positives() -> None:
    positive = np.arange(20_000) % 10 == 0
    assert metrics.random_average_precision(positive) == pytest.approx(0.1, abs=0.01)
    assert metrics.average_precision(np.zeros(5, bool), np.ones(5)) is None


def test_a_missing_score_ranks_last() -> None:
    positive = np.array([True, False, False])
    assert metrics.average_precision(positive, np.array([np.nan, 1.0, 2.0])) == pytest.approx(1 / 3)


def test_probabilities() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(5000)
    positive = rng.random(5000) < p
    assert metrics.brier(positive, p) == pytest.approx(brier_score_loss(positive, p))
    assert metrics.log_loss(positive, p) == pytest.approx(sklearn_log_loss(positive, p))
    bins = metrics.reliability(positive, p)
    assert sum(one["n"] for one in bins) == 5000
    assert all(abs(one["rate"] - one["mean_score"]) < 0.1 for one in bins)


def test_hit_rate() -> None:
    responsible = np.array([True, False, True, False, False])
    assert metrics.hit_rate(np.array([5.0, 4.0, 3.0, 2.0, 1.0]), responsible, 1.0) == 0.5
    assert metrics.hit_rate(np.array([5.0, 4.0, 3.0, 2.0, 1.0]), responsible, 1.5) == 1.0


def plain_vus_pr(positive: np.ndarray, score: np.ndarray) -> float:
    """The paper's definition, threshold by threshold and row by row."""
    areas = []
    for window in np.linspace(0, metrics.BUFFER, metrics.WINDOWS).round().astype(int):
        events = np.flatnonzero(np.diff(positive.astype(int), prepend=0, append=0)).reshape(-1, 2)
        label = np.zeros(len(positive))
        for row in range(len(positive)):
            away = [max(first - row, row - (end - 1), 0) for first, end in events]
            label[row] = min(sum(np.sqrt(1 - d / window) if d else 1.0 for d in away if d <= window / 2), 1.0)
        area, before = 0.0, 0.0
        edges = np.flatnonzero(np.diff((label > 0).astype(int), prepend=0, append=0)).reshape(-1, 2)
        for threshold in np.unique(score)[::-1]:
            told = score >= threshold
            met = np.mean([told[a:b].any() for a, b in edges])
            recall = min((told * label).sum() / ((positive.sum() + label.sum()) / 2), 1.0) * met
            area += (recall - before) * (told * label).sum() / told.sum()
            before = recall
        areas.append(area)
    return float(np.mean(areas))


def test_vus_pr_is_the_papers_row_by_row() -> None:
    rng = np.random.default_rng(4)
    for case in range(6):
        positive = np.zeros(300, bool)
        for start in rng.integers(0, 300, 1 + case % 3):
            positive[start : start + int(rng.integers(1, 40))] = True
        score = np.round(rng.random(300) + 0.6 * positive, 2)
        assert metrics.vus_pr(positive, score) == pytest.approx(plain_vus_pr(positive, score))
    assert metrics.vus_pr(np.zeros(9, bool), np.ones(9)) is None


def test_vus_pr_rewards_what_is_near_and_average_precision_does_not() -> None:
    positive = np.zeros(3000, bool)
    positive[1000:1050] = True
    near, far = np.zeros(3000), np.zeros(3000)
    near[960:1000], far[200:240] = 1.0, 1.0
    assert metrics.average_precision(positive, near) == metrics.average_precision(positive, far)
    assert metrics.vus_pr(positive, near) > 5 * metrics.vus_pr(positive, far)  # type: ignore[operator]


def test_calibration_error_is_the_weighted_gap() -> None:
    p, positive = np.repeat([0.05, 0.95], [900, 100]), np.zeros(1000, bool)
    positive[:45] = positive[900:950] = True
    assert metrics.calibration_error(metrics.reliability(positive, p)) == pytest.approx(0.1 * 0.45)
