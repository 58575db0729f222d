"""The ladder in the bundle: around the threshold, as fast as the budget says, never beyond what a model can give."""

from __future__ import annotations

import numpy as np
import pytest
from fieldwatch_contract.clock import DAY
from fieldwatch_contract.level import LevelRule
from fieldwatch_trainer.levels import ABOVE, BELOW, RISE, level_rule

from tests.lakes import MINUTE


def detector(threshold: float = 0.5, **changes: object) -> LevelRule:
    given = {"period": MINUTE, "budget": 0.5, "unit": 0.1, "adapt": True} | changes
    return level_rule("detector", threshold, **given)  # type: ignore[arg-type]


def test_a_new_device_starts_at_the_threshold() -> None:
    for threshold in (3e-5, 0.5, 40.0):
        level = detector(threshold)
        assert level.ladder[level.start] == pytest.approx(threshold, rel=1e-9)
        assert level.ladder[0] == pytest.approx(threshold * np.exp(-1))
    assert len(detector().ladder) == BELOW + ABOVE + 1


def test_the_budget_sets_how_fast_the_level_falls() -> None:
    """As many alerts a day as it allows keep the level where it is."""
    level = detector()
    day = DAY / MINUTE
    assert day / level.fall_unanswered == pytest.approx(2 * 0.5 * RISE, rel=0.01)
    assert day / level.fall == pytest.approx(3 / 7 * 0.5 * RISE, rel=0.01)
    assert detector(budget=1.0).fall == pytest.approx(level.fall / 2, abs=1)
    slow = detector(period=DAY)
    assert (slow.fall, slow.fall_unanswered, slow.hold) == (1, 1, 1)


def test_a_history_in_which_nothing_happened_does_not_keep_the_level_down() -> None:
    assert detector(1e-6).ladder[-1] == pytest.approx(0.1 * np.exp(3), rel=0.05)
    assert len(detector(1e-38).ladder) <= 1000


@pytest.mark.parametrize("threshold", [1e-7, 0.02, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("reach", [0.3, 0.999, 1.0])
def test_a_classifiers_ladder_is_of_probabilities_and_ends_where_it_can_reach(threshold: float, reach: float) -> None:
    level = level_rule("classifier", threshold, MINUTE, 0.5, reach=reach, adapt=True)
    assert level.ladder[level.start] == pytest.approx(threshold, abs=2e-6)
    assert level.ladder[0] > 0 and level.ladder[-1] < 1
    assert level.ladder[-1] <= max(reach, level.ladder[level.start])


def test_a_bundle_may_be_frozen() -> None:
    assert not detector(adapt=False).adapt
