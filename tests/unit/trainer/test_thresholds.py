"""The budget is kept as it is counted for people, and the shortcut counts what the agent would raise."""

from __future__ import annotations

import numpy as np
import pytest
from fieldwatch_contract.alerts import AlertRule
from fieldwatch_contract.fold import episodes
from fieldwatch_trainer.models import FAULT
from fieldwatch_trainer.thresholds import HeldOut, alarms, device_days, false_alarms, for_faults, from_budget
from hypothesis import given
from hypothesis import strategies as st

from tests.lakes import MINUTE

RULE = AlertRule(persistence=2, clear_ratio=0.8, resolve_after=3)


def held(score: np.ndarray, label: np.ndarray | None = None, judged: np.ndarray | None = None) -> HeldOut:
    count = len(score)
    return HeldOut(
        "d",
        np.arange(count) * MINUTE,
        np.asarray(score, np.float32),
        np.ones(count, bool) if judged is None else judged,
        np.zeros(count, np.int8) if label is None else label,
    )


@given(
    st.lists(st.sampled_from([0.0, 0.7, 0.85, 1.0, 2.0, float("nan")]), min_size=1, max_size=80),
    st.randoms(use_true_random=False),
)
def test_leaving_out_quiet_rows_changes_no_alert(values: list[float], random: object) -> None:
    judged = np.array([random.random() > 0.1 for _ in values])  # type: ignore[attr-defined]
    one = held(np.array(values), judged=judged)
    expected = episodes(RULE, 1.0, one.ts, one.score, one.judged)
    found = alarms(RULE, 1.0, one)
    assert [pair[0] for pair in found] == [pair[0] for pair in expected]
    resolved = [pair for pair in expected if pair[1] < len(values) - 1]
    assert found[: len(resolved)] == resolved


def test_the_budget_is_kept_and_not_wasted() -> None:
    rng = np.random.default_rng(0)
    parts = [held(np.convolve(rng.exponential(size=20_000), np.ones(5) / 5, "same")) for _ in range(2)]
    days = device_days(parts, MINUTE)
    assert days == pytest.approx(2 * 20_000 / 1440)
    found = from_budget(RULE, parts, MINUTE, budget=0.5, guard=0, unit=9.0)
    allowed = int(0.5 * days)
    count = sum(false_alarms(RULE, found.value, part, MINUTE, 0) for part in parts)
    assert count == found.facts["episodes"] <= allowed
    assert count >= 0.6 * allowed
    assert found.facts["known"]


def test_alarms_in_labelled_time_cost_nothing() -> None:
    score, label = np.zeros(3000), np.zeros(3000, np.int8)
    score[1000:1100] = 5.0
    label[990:1050] = 1
    one = held(score, label)
    assert false_alarms(RULE, 1.0, one, MINUTE, guard=0) == 0
    assert false_alarms(RULE, 1.0, held(score), MINUTE, guard=0) == 1
    late = np.zeros(3000)
    late[1052:1060] = 5.0
    assert false_alarms(RULE, 1.0, held(late, label), MINUTE, guard=0) == 1
    assert false_alarms(RULE, 1.0, held(late, label), MINUTE, guard=10) == 0


def test_an_alert_without_end_costs_each_of_its_shifts() -> None:
    days = 4 * 1440
    assert false_alarms(RULE, 1.0, held(np.full(days, 5.0)), MINUTE, guard=0) == 12
    label = np.zeros(days, np.int8)
    label[:100] = 1
    assert false_alarms(RULE, 1.0, held(np.full(days, 5.0), label), MINUTE, guard=0) == 11


def test_no_threshold_below_what_a_device_hovers_at() -> None:
    """One device of four reads high for four days: always in alarm is one episode, and must not be cheap."""
    rng = np.random.default_rng(1)
    quiet = [held(rng.exponential(0.05, size=4 * 1440)) for _ in range(3)]
    hovering = held(5 + rng.normal(0, 0.3, size=4 * 1440))
    found = from_budget(RULE, [*quiet, hovering], MINUTE, budget=0.25, guard=0, unit=1.0)
    alarmed = sum(last - first + 1 for first, last in alarms(RULE, found.value, hovering))
    assert alarmed < 0.5 * len(hovering.ts)


def test_time_too_short_for_the_budget_gives_a_threshold_above_all_it_saw_and_says_so() -> None:
    score = np.full(300, 0.001)
    score[100:110] = 0.004
    found = from_budget(RULE, [held(score)], MINUTE, budget=0.5, guard=0, unit=0.25)
    assert 0.004 < found.value < 0.0041, "no floor"
    assert found.facts["episodes"] == 0 and not found.facts["known"]


def test_silence_does_not_make_a_threshold_of_zero() -> None:
    assert from_budget(RULE, [held(np.zeros(5000))], MINUTE, budget=1, guard=0, unit=0.25).value == 0.25
    assert from_budget(RULE, [], MINUTE, budget=1, guard=0, unit=0.25).value == 0.25


# ---- classifiers ---------------------------------------------------------------------------------------------------


def probabilities(fault: float, normal: float = 0.01, rows: int = 6000) -> HeldOut:
    """Return a device with a fault of an hour, to which the classifier gives ``fault``, and noise below ``normal``."""
    score, label = np.random.default_rng(3).uniform(0, normal, rows), np.zeros(rows, np.int8)
    score[3000:3060], label[3000:3060] = fault, FAULT
    return held(score, label)


@pytest.mark.parametrize("fault", [0.03, 0.2, 0.9])
def test_a_classifier_can_alert_whatever_its_probabilities_reach(fault: float) -> None:
    """With few faults in training the probability of the next one stays far below one half."""
    one = probabilities(fault)
    found = for_faults(RULE, [one], MINUTE, budget=0.5, guard=0)
    assert 0.01 < found.value < fault, "between what is normal and what is not"
    assert [alert for alert in alarms(RULE, found.value, one) if alert[1] >= 3000] == alarms(RULE, found.value, one)
    assert (found.facts["faults"], found.facts["recall"], found.facts["episodes"]) == (1, 1.0, 0)


def test_a_threshold_for_faults_trades_them_against_false_alarms() -> None:
    """Two faults; one lies below what ten false alarms reach: not worth them, though the budget would allow it."""
    score, label = np.random.default_rng(5).uniform(0, 0.02, 60_000), np.zeros(60_000, np.int8)
    for start in range(5000, 55_000, 5000):
        score[start : start + 5] = 0.4
    score[3000:3060], label[3000:3060] = 0.3, FAULT
    score[58_000:58_060], label[58_000:58_060] = 0.8, FAULT
    found = for_faults(RULE, [held(score, label)], MINUTE, budget=0.5, guard=0)
    assert found.facts["lowest"] < 0.3 and 0.4 < found.value < 0.8
    assert (found.facts["recall"], found.facts["episodes"]) == (0.5, 0)


def test_an_alert_that_begins_at_a_fault_and_never_ends_breaks_the_budget() -> None:
    """All scores lie within a fifth of each other: whatever opens stays open, 8 h after 8 h."""
    score, label = np.random.default_rng(5).uniform(0.0088, 0.00885, 20_000), np.zeros(20_000, np.int8)
    for start in (2000, 9000):
        score[start : start + 60], label[start : start + 60] = 0.0089, FAULT
    one = held(score, label)
    found = for_faults(RULE, [one], MINUTE, budget=0.1, guard=0)
    assert false_alarms(RULE, found.value, one, MINUTE, 0) == found.facts["episodes"] <= found.facts["allowed_episodes"]
    assert found.facts["recall"] == 0.0, "and nobody claims that it finds any"


def test_without_a_held_back_fault_recall_is_not_known() -> None:
    found = for_faults(RULE, [held(np.full(6000, 0.02))], MINUTE, budget=0.5, guard=0)
    assert 0.02 <= found.value < 0.021 and found.facts["recall"] is None and found.facts["faults"] == 0
