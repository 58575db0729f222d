"""The budget is kept as it is counted for people, and the shortcut counts what the agent would raise."""

from __future__ import annotations

import numpy as np
import pytest
from fieldwatch_contract.alerts import AlertRule
from fieldwatch_contract.fold import episodes
from fieldwatch_trainer.thresholds import HeldOut, alarms, device_days, false_alarms, from_budget
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
    found = from_budget(RULE, parts, MINUTE, budget=0.5, margin=9.0, least=0.0, guard=0)
    allowed = int(0.5 * days)
    count = sum(false_alarms(RULE, found.value, part, MINUTE, 0) for part in parts)
    assert count == found.facts["episodes"] <= allowed
    assert count >= 0.6 * allowed
    assert found.facts["margin"] == 1.0


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
    found = from_budget(RULE, [*quiet, hovering], MINUTE, budget=0.25, margin=1.0, least=0.0, guard=0)
    alarmed = sum(last - first + 1 for first, last in alarms(RULE, found.value, hovering))
    assert alarmed < 0.5 * len(hovering.ts)


def test_too_little_time_takes_the_margin() -> None:
    score = np.zeros(300)
    score[100:110] = 4.0
    found = from_budget(RULE, [held(score)], MINUTE, budget=0.5, margin=1.5, least=0.0, guard=0)
    assert found.value == pytest.approx(6.0, rel=1e-5)
    assert found.facts["episodes"] == 0


def test_silence_does_not_make_a_threshold_of_zero() -> None:
    assert from_budget(RULE, [held(np.zeros(5000))], MINUTE, budget=1, margin=1, least=0.25, guard=0).value == 0.25
    assert from_budget(RULE, [], MINUTE, budget=1, margin=1, least=0.25, guard=0).value == 0.25
