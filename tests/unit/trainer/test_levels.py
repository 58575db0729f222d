"""The ladder in the bundle: around the threshold, as fast as the budget says, never beyond what a model can give."""

from __future__ import annotations

import numpy as np
import pytest
from fieldwatch_contract.alerts import AlertRule, Rule
from fieldwatch_contract.backtest import Answers, Backtest
from fieldwatch_contract.clock import DAY
from fieldwatch_contract.fold import unexplained
from fieldwatch_contract.level import LevelRule
from fieldwatch_trainer.levels import ABOVE, BELOW, RISE, level_rule
from fieldwatch_trainer.thresholds import HeldOut, from_budget

from tests.lakes import MINUTE

ALERT = AlertRule(persistence=2, resolve_after=25)


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


# ---- the budget on new time ----------------------------------------------------------------------------------------


def noise(days: int, seed: int, scale: float) -> np.ndarray:
    """Return a score a minute, without any event, that grows to ``scale`` times its size within the first day."""
    score = np.convolve(np.random.default_rng(seed).exponential(size=days * 1440), np.ones(5) / 5, "same")
    return np.asarray(score * np.minimum(1 + (scale - 1) * np.arange(len(score)) / 1440, scale), np.float32)


def alerts_a_day(score: np.ndarray, threshold: float, level: LevelRule, *, answered: bool) -> float:
    ts = np.arange(len(score)) * MINUTE
    test = Backtest(
        Rule("d", "detector", "detector", threshold, ALERT, level),
        Answers(480 * MINUTE, lambda opened, until: "false") if answered else None,
    )
    test.feed(ts, score, np.ones(len(score), bool), unexplained)
    return len(test.fired) / (len(score) / 1440)


def test_the_level_keeps_the_budget_where_a_fixed_threshold_does_not() -> None:
    """Half an alert a day on held-back days, and dozens on the days that follow, because the device has changed."""
    past = noise(20, 1, 1.0)
    held = HeldOut("d", np.arange(len(past)) * MINUTE, past, np.ones(len(past), bool), np.zeros(len(past), np.int8))
    threshold = from_budget(ALERT, [held], MINUTE, budget=0.5, guard=0, unit=1.0).value
    later = noise(40, 2, 1.6)
    frozen = level_rule("detector", threshold, MINUTE, 0.5, adapt=False)
    moving = level_rule("detector", threshold, MINUTE, 0.5, adapt=True)
    assert alerts_a_day(past, threshold, frozen, answered=False) <= 0.5
    assert alerts_a_day(later, threshold, frozen, answered=False) > 5
    assert alerts_a_day(later, threshold, moving, answered=False) < 1.6
    assert alerts_a_day(later, threshold, moving, answered=True) < 0.8
