"""The small bundles that other tests stand on are what they say they are."""

from __future__ import annotations

import numpy as np
import pytest
from fieldwatch_contract.bundle import BundleError, read_bundle
from fieldwatch_contract.scoring import Scorer, self_test
from fieldwatch_contract.verdicts import CODES, Verdict

from tests.bundles import make_bundle


@pytest.mark.parametrize("lookback", [1, 2, 4])
def test_a_small_bundle_proves_itself_and_is_reproducible(lookback: int) -> None:
    data = make_bundle(classifier=True, lookback=lookback)
    self_test(read_bundle(data))
    assert make_bundle(classifier=True, lookback=lookback) == data
    assert make_bundle(version="v2", classifier=True, lookback=lookback) != data


def test_its_models_say_what_can_be_worked_out_by_hand() -> None:
    scorer = Scorer(read_bundle(make_bundle(sensors=["a", "b"], lookback=2, classifier=True)))
    rows = np.full((scorer.manifest.window - 1 + 3, 2), 10.0)
    rows[-1] = [10.0, 50.0]  # z of b = 20, the row before is normal
    detector, classifier = scorer.score(rows)
    assert detector.score.tolist() == [0, 0, 400]
    assert detector.contributions[-1].tolist() == [0, 400]
    normal = CODES[Verdict.NORMAL]
    assert detector.verdict.tolist() == [normal, normal, CODES[Verdict.ANOMALOUS]]
    assert classifier.verdict.tolist() == [normal, normal, CODES[Verdict.FAULTY]]
    assert classifier.score[-1] == pytest.approx(1 / (1 + np.exp(3 - 10)), rel=1e-6)
    assert classifier.contributions[-1, 1] > 0.9
    assert classifier.contributions[-1, 0] == 0


def test_wrong_golden_vectors_are_found_out() -> None:
    with pytest.raises(BundleError, match=r"score\.detector differs by 1"):
        self_test(read_bundle(make_bundle(wrong_golden=True)))
