"""The life of an alert: what opens it, what keeps it, what ends it, and that blocks leave no trace."""

from __future__ import annotations

from itertools import pairwise
from math import isnan

import numpy as np
from fieldwatch_contract import clock
from fieldwatch_contract.alerts import WORSE, AlertRule, AlertState, Rule, RuleState, alert_id
from fieldwatch_contract.fold import advance, episodes, unexplained
from hypothesis import given
from hypothesis import strategies as st

RULE = AlertRule(persistence=2, clear_ratio=0.5, resolve_after=3)
UNJUDGED = object()


def fixed(rule: AlertRule, threshold: float = 1.0) -> Rule:
    """The rule of a bundle without levels."""
    return Rule("press-0001", "detector", "detector", threshold, rule)


def run(scores: list[object], rule: AlertRule = RULE, threshold: float = 1.0, state: AlertState | None = None):
    """Advance over one block; ``UNJUDGED`` stands for a row that no model may judge, here with a high score."""
    judged = np.array([score is not UNJUDGED for score in scores], bool)
    values = np.array([99.0 if score is UNJUDGED else score for score in scores], np.float32)
    ts = np.arange(len(scores), dtype=np.int64) * 60 + 1000
    done = advance(fixed(rule, threshold), RuleState(state or AlertState()), ts, values, judged, unexplained)
    return done.state.alert, done.changes


def story(scores: list[object], **kwargs: object) -> list[tuple[int, str]]:
    return [(change.index, change.transition) for change in run(scores, **kwargs)[1]]


def test_a_lone_peak_is_no_alert():
    assert story([0, 9, 0, 9, 0]) == []


def test_persistence_opens_and_counts_from_the_first_row_of_the_run():
    state, changes = run([0, 1, 1])
    assert [(c.index, c.transition) for c in changes] == [(2, "opened")]
    assert state.opened == 1000 + 60 and state.rows == 2


def test_hysteresis_needs_a_run_below_the_clear_level():
    between = 0.7
    assert story([1, 1, 0, 0, between, 0, 0, 0]) == [(1, "opened"), (7, "resolved")]
    assert story([1, 1] + [between] * 50) == [(1, "opened")]


def test_a_steady_fault_is_told_once_and_a_worse_one_again():
    assert story([1, 1] + [1.4] * 20) == [(1, "opened")]
    assert story([1, 1, 1.6, 1.7, 2.4]) == [(1, "opened"), (2, "updated"), (4, "updated")]
    assert story([0.0] * 9, threshold=0.0) == [(1, "opened")], "0 is no half more than 0"


def test_rows_that_nobody_judges_prove_nothing():
    assert story([1, UNJUDGED, UNJUDGED, 1]) == [(3, "opened")]
    assert story([1, 1] + [UNJUDGED] * 50) == [(1, "opened")]
    assert story([1, 1, 0, 0, UNJUDGED, float("nan"), 0]) == [(1, "opened"), (6, "resolved")]
    assert story([UNJUDGED] * 10) == []


def test_after_its_end_an_alert_is_forgotten():
    state, changes = run([1, 5, 0, 0, 0])
    assert changes[-1].state.peak == 5 and state == AlertState()
    assert story([1, 5, 0, 0, 0, 1, 1]) == [(1, "opened"), (4, "resolved"), (6, "opened")]


def test_episodes_are_the_alerts_of_a_whole_history():
    scores = np.array([0, 1, 1, 1, 0, 0, 0, 0, 1, 1, 0], np.float32)
    ts = np.arange(len(scores), dtype=np.int64)
    assert episodes(RULE, 1.0, ts, scores, np.ones(len(scores), bool)) == [(2, 6), (9, 10)]


score = st.one_of(st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0, 1.2, 2.0, 4.0]), st.just(UNJUDGED), st.just(float("nan")))
rules = st.builds(
    AlertRule, persistence=st.integers(1, 4), clear_ratio=st.sampled_from([0.3, 0.8, 1.0]),
    resolve_after=st.integers(1, 4),
)  # fmt: skip


@given(rules, st.lists(score, max_size=60), st.lists(st.integers(0, 60), max_size=6))
def test_blocks_leave_no_trace(rule, scores, cuts):
    """Also not where a block brings nothing above the threshold and takes the short way."""
    whole, changes = run(scores, rule)
    edges = sorted({0, len(scores), *(min(cut, len(scores)) for cut in cuts)})
    state, found = RuleState(), []
    judged = np.array([score is not UNJUDGED for score in scores], bool)
    values = np.array([99.0 if score is UNJUDGED else score for score in scores], np.float32)
    ts = np.arange(len(scores), dtype=np.int64) * 60 + 1000
    for start, stop in pairwise(edges):
        cut = slice(start, stop)
        done = advance(fixed(rule), state, ts[cut], values[cut], judged[cut], unexplained)
        state = done.state
        found += [(change.index + start, change.transition, change.state) for change in done.changes]
    assert state.alert == whole
    assert found == [(change.index, change.transition, change.state) for change in changes]


@given(rules, st.lists(score, max_size=80))
def test_every_life_is_opened_then_updated_then_resolved(rule, scores):
    _, changes = run(scores, rule)
    judged = [(i, s) for i, s in enumerate(scores) if s is not UNJUDGED and not isnan(s)]
    told, is_open = 0.0, False
    for change in changes:
        before = [s for i, s in judged if i <= change.index]
        match change.transition:
            case "opened":
                assert not is_open and min(before[-rule.persistence :]) >= 1.0
                is_open, told = True, change.state.peak
            case "updated":
                assert is_open and change.state.peak >= WORSE * told
                told = change.state.peak
            case "resolved":
                assert is_open and max(before[-rule.resolve_after :]) < 1.0 * rule.clear_ratio
                is_open = False
        assert change.state.opened is not None and change.state.rows >= rule.persistence


@given(rules, st.lists(score, max_size=60))
def test_unjudged_rows_might_as_well_be_absent(rule, scores):
    judged = [s for s in scores if s is not UNJUDGED and not isnan(s)]
    assert [t for _, t in story(scores, rule=rule)] == [t for _, t in story(judged, rule=rule)]


def test_the_id_of_an_alert_never_changes() -> None:
    """Devices and stores in the field hold such ids: another one for the same alert would be a second alert."""
    opened = clock.parse_iso("2026-01-17T10:54:00Z")
    assert alert_id("press-0001", "detector", opened) == "e28ff43b4bd14f97f6ee1606f5115f74"
    others = [("press-0002", "detector", opened), ("press-0001", "classifier", opened)]
    others.append(("press-0001", "detector", opened + clock.MINUTE))
    assert len({alert_id(*other) for other in others} | {alert_id("press-0001", "detector", opened)}) == 4


def test_scores_on_the_boundaries() -> None:
    """The threshold itself is above, the clear level itself is not below, half as much again is worse."""
    assert story([1.0, 1.0]) == [(1, "opened")]
    just_below = float(np.nextafter(np.float32(1), np.float32(0)))
    assert story([just_below] * 5) == []
    assert story([9, just_below, 9]) == [], "it breaks a run of persistence"
    assert story([9, 1.0]) == [(1, "opened")]
    clear = RULE.clear_ratio
    assert story([1, 1, *[clear] * 9]) == [(1, "opened")]
    under = float(np.nextafter(np.float32(clear), np.float32(0)))
    assert story([1, 1, under, under, clear, under, under]) == [(1, "opened")]
    assert story([1, 1, under, under, under]) == [(1, "opened"), (4, "resolved")]
    assert story([1, 1, WORSE]) == [(1, "opened"), (2, "updated")]
    assert story([1, 1, float(np.nextafter(np.float32(WORSE), np.float32(0)))]) == [(1, "opened")]
    state, _ = run([1, 1, 1.0, just_below])
    assert state.rows == 3, "rows at the threshold count, rows below it do not"


def test_what_the_state_says_of_its_model_stays_while_the_alert_is_open() -> None:
    state = AlertState(above=2, opened=5, first_above=5, peak=1.0, told=1.0, kind="classifier", threshold=1.0)
    after, _ = run([1, 1], state=state)
    assert (after.kind, after.threshold) == ("classifier", 1.0)
    after, changes = run([0, 0, 0], state=state)
    assert changes[-1].state.kind == "classifier" and after == AlertState()
