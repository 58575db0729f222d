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
