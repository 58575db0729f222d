"""Figures by hand: what alerts found and cost, where in time, beside scores that know nothing, and how sure it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fieldwatch_contract.alerts import AlertRule
from fieldwatch_trainer.baselines import MOVING, moving_variance, turned
from fieldwatch_trainer.bootstrap import DEVICES, borders, differences, intervals, tally
from fieldwatch_trainer.events import Event
from fieldwatch_trainer.judging import evaluation, figures
from fieldwatch_trainer.outcomes import DeviceScores, Judge, Outcome
from fieldwatch_trainer.thresholds import HeldOut

from tests.lakes import MINUTE, START

DAY = 1440
RULE = AlertRule(persistence=1, clear_ratio=1.0, resolve_after=1)


def judge(kind: Any = "detector", threshold: float = 1.0) -> Judge:
    return Judge(kind, kind, threshold, RULE, MINUTE, guard=5)


def scores(
    count: int, events: list[tuple[int, int, str]], high: list[tuple[int, int, float]], device: str = "press-0"
) -> DeviceScores:
    """A device with labelled events (first, last, kind) and a score that is high in places (first, last, value)."""
    score, label = np.full(count, 0.1, np.float32), np.zeros(count, np.int8)
    for first, last, value in high:
        score[first : last + 1] = value
    for first, last, kind in events:
        label[first : last + 1] = {"fault": 1, "anomaly": 2}[kind]
    held = HeldOut(device, START + np.arange(count) * MINUTE, score, np.ones(count, bool), label)
    return DeviceScores(held, [Event(kind, first, last) for first, last, kind in events])


def outcomes(who: Judge, parts: list[DeviceScores]) -> list[Outcome]:
    return [Outcome.of(who, part, who.alerts(part.held)) for part in parts]


def test_recall_stands_beside_precision_and_cost() -> None:
    events = [(100, 150, "fault"), (400, 450, "anomaly"), (700, 750, "fault")]
    one = scores(DAY, events, [(110, 120, 3.0), (440, 460, 2.0), (900, 905, 5.0), (1000, 1000, 1.5)])
    told = figures(judge(), [one])
    assert (told["events"], told["event_recall"]) == (3, pytest.approx(2 / 3))
    assert (told["alerts"], told["alert_precision"], told["false_alarms"]) == (4, 0.5, 2)
    assert (told["delay_median_s"], told["delay_p90_s"]) == (pytest.approx(1500), pytest.approx(2220))
    assert [line["peak"] for line in told["false"]] == [5.0, 1.5]
    (missed,) = told["missed"]
    assert (missed["label"], missed["start"]) == ("fault", "2026-01-01T11:40:00Z")
    assert missed["of_threshold"] == pytest.approx(0.1)
    faults = figures(judge("classifier"), [one])
    assert (faults["events"], faults["event_recall"]) == (2, 0.5)


def test_false_alerts_are_told_by_the_quarter_they_fall_into() -> None:
    one = scores(4 * DAY, [], [(100, 100, 2.0), (3 * DAY + 5, 3 * DAY + 5, 2.0), (4 * DAY - 1, 4 * DAY - 1, 2.0)])
    long = scores(4 * DAY, [], [(1000, 1000 + 8 * 60 - 1, 2.0)], "press-1")
    told = figures(judge(), [one, long])["quarters"]
    assert [quarter["false_alarms"] for quarter in told] == [2, 1, 0, 2], "one counts again after its shift"
    assert [quarter["normal_days"] for quarter in told] == [2.0] * 4
    assert told[3]["false_alarms_per_day"] == 1.0


def test_without_an_event_nobody_speaks_of_precision() -> None:
    told = figures(judge(), [scores(DAY, [], [(100, 100, 2.0)])])
    assert (told["alerts"], told["false_alarms"], told["alert_precision"], told["event_recall"]) == (1, 1, None, None)


def test_maintenance_is_no_event_and_its_alerts_are_not_false() -> None:
    one = scores(DAY, [(100, 150, "fault")], [(500, 505, 2.0)])
    one.held.label[490:520] = 3
    told = figures(judge(), [one])
    assert (told["events"], told["event_recall"], told["false_alarms"]) == (1, 0.0, 0)
    assert told["positive_share"] == pytest.approx(51 / (DAY - 30))


def test_flag_everything_finds_all_and_costs_every_shift() -> None:
    one = scores(4 * DAY, [(100, 150, "fault")], [(110, 120, 2.0)])
    everything = figures(judge(), [one])["everything"]
    assert everything["event_recall"] == 1.0
    assert everything["average_precision"] == pytest.approx(51 / (4 * DAY))
    assert everything["false_alarms_per_day"] == pytest.approx(11 / (one.held.normal.sum() / DAY))


def test_moving_variance_is_the_mean_over_sensors_and_does_not_care_how_it_is_cut() -> None:
    rng = np.random.default_rng(0)
    rows = 1e6 + rng.normal(size=(300, 3)) * [1.0, 10.0, 0.1]
    rows[100:140, 1] = np.nan
    rows[50, :] = np.nan
    scale = np.array([1.0, 10.0, 0.0])
    found = moving_variance(rows, scale, 0, 300)
    for row in (5, 60, 120, 139, 299):
        past = rows[max(row - MOVING + 1, 0) : row + 1]
        with np.errstate(invalid="ignore"):
            each = [
                np.nanvar(past[:, i] / s) if s else 0.0
                for i, s in enumerate(scale)
                if (~np.isnan(past[:, i])).sum() > 1
            ]
        assert found[row] == pytest.approx(np.mean(each), rel=1e-4)
    assert moving_variance(rows, scale, 200, 300) == pytest.approx(found[200:], rel=1e-4)


def test_moving_variance_stands_at_as_many_false_alerts_as_the_model() -> None:
    one = scores(4 * DAY, [(1000, 1100, "fault")], [(1010, 1020, 2.0), (3000, 3001, 2.0)])
    variance = np.random.default_rng(1).random(4 * DAY).astype(np.float32)
    variance[1050:1060] = 9.0
    told = figures(judge(), [DeviceScores(one.held, one.events, variance)])
    assert told["variance"]["event_recall"] == 1.0
    assert told["variance"]["false_alarms_per_day"] <= told["false_alarms_per_day"]
    assert told["variance"]["average_precision"] > told["random"]["average_precision"]


def test_turned_alerts_meet_by_chance() -> None:
    events = [Event("fault", start, start + 9) for start in range(0, 1000, 100)]
    assert turned(events, [(0, 499)], 1000) == pytest.approx(5.0, abs=0.6)
    assert turned(events, [], 1000) == 0.0


def test_a_classifier_is_calibrated_or_is_told_not_to_be() -> None:
    rng = np.random.default_rng(2)
    p = rng.choice([0.05, 0.5, 0.95], 5 * DAY).astype(np.float32)
    label = (rng.random(5 * DAY) < p).astype(np.int8)
    held = HeldOut("press-0", START + np.arange(5 * DAY) * MINUTE, p, np.ones(5 * DAY, bool), label)
    honest = figures(judge("classifier", 0.9), [DeviceScores(held)])
    loud = HeldOut(held.device, held.ts, np.sqrt(p), held.judged, label)
    told = figures(judge("classifier", 0.9), [DeviceScores(loud)])
    assert honest["ece"] < 0.02 and told["ece"] > 0.1
    assert honest["brier"] < told["brier"] and honest["expected_positive"] == pytest.approx(label.sum(), rel=0.05)


# ---- how sure --------------------------------------------------------------------------------------------------


def fleet(devices: int, recall: float, seed: int) -> list[DeviceScores]:
    rng = np.random.default_rng(seed)
    parts = []
    for number in range(devices):
        events = [(row, row + 20, "fault") for row in range(200, 5 * DAY, 700)]
        high = [(row + 5, row + 8, 2.0) for row, _, _ in events if rng.random() < recall]
        high += [(row, row, 2.0) for row in rng.integers(0, 5 * DAY, 3).tolist()]
        parts.append(scores(5 * DAY, events, high, f"press-{number}"))
    return parts


@pytest.mark.parametrize("devices", [3, DEVICES + 2])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(devices: int) -> None:
    held = 0
    for seed in range(40):
        parts = fleet(devices, 0.7, seed)
        found = intervals(tally(judge(), parts, outcomes(judge(), parts)))["event_recall"]
        assert found.low is not None and found.high is not None and found.value is not None
        assert found.low <= found.value <= found.high
        held += found.low <= 0.7 <= found.high
    assert held >= 34


def test_units_are_devices_where_there_are_enough_and_never_cut_an_event() -> None:
    parts = fleet(2, 1.0, 0)
    for begin, part in zip(borders([p.held.label for p in parts], 5), parts, strict=True):
        assert len(begin) > 5 and begin[0] == 0
        for event in part.events:
            assert not ((begin > event.first) & (begin <= event.last + 5)).any()
    many = fleet(DEVICES, 1.0, 0)
    assert all(len(begin) == 1 for begin in borders([p.held.label for p in many], 5))


def test_pairing_tells_a_small_difference_that_two_intervals_would_not() -> None:
    parts = fleet(12, 0.6, 3)
    better = []
    for part in parts:  # one more event found on each device, everything else the same
        score = part.held.score.copy()
        missed = [e for e in part.events if score[e.first : e.last].max() < 1]
        score[missed[0].first + 5] = 2.0
        better.append(
            DeviceScores(HeldOut(part.held.device, part.held.ts, score, part.held.judged, part.held.label), part.events)
        )
    one, other = (tally(judge(), p, outcomes(judge(), p)) for p in (parts, better))
    alone, apart = intervals(one)["event_recall"], differences(one, other)["event_recall"]
    assert apart.low is not None and apart.low > 0 and alone.low is not None and alone.high is not None
    assert apart.high is not None and apart.high - apart.low < (alone.high - alone.low) / 2
    same = differences(one, one)
    assert all(d.value == d.low == d.high == 0 for name, d in same.items() if name != "brier")


def test_nobody_can_say_from_two_events_and_silence_is_no_proof() -> None:
    few = [scores(5 * DAY, [(100, 150, "fault"), (3000, 3050, "fault")], [(110, 120, 2.0), (3010, 3020, 2.0)])]
    found = intervals(tally(judge(), few, outcomes(judge(), few)))
    assert found["event_recall"].value == 1.0 and found["event_recall"].low is None
    rate = found["false_alarms_per_day"]
    assert (rate.value, rate.low) == (0.0, 0.0) and rate.high == pytest.approx(3 / 4.93, rel=0.01)


def test_many_rows_are_binned_without_harm_to_average_precision() -> None:
    rng = np.random.default_rng(5)
    label = np.zeros(60_000, np.int8)
    label[rng.integers(0, 60_000, 900)] = 1
    score = (rng.random(60_000) + 0.8 * label * rng.random(60_000)).astype(np.float32)
    held = HeldOut("press-0", START + np.arange(60_000) * MINUTE, score, np.ones(60_000, bool), label)
    parts = [DeviceScores(held)]
    exact = figures(judge(), parts)["average_precision_pooled"]
    binned = intervals(tally(judge(), parts, outcomes(judge(), parts)))["average_precision_pooled"].value
    assert binned == pytest.approx(exact, rel=0.01)


def test_an_evaluation_has_every_model_and_device() -> None:
    parts = [scores(DAY, [(100, 150, "fault")], [(110, 120, 2.0)], f"press-{number}") for number in range(3)]
    told = evaluation([judge(), judge("classifier")], {"detector": parts, "classifier": parts}, "rows")
    assert (told["devices"], told["rows"], list(told["models"])) == (3, 3 * DAY, ["detector", "classifier"])
    assert [line["device"] for line in told["models"]["detector"]["devices"]] == [f"press-{n}" for n in range(3)]
