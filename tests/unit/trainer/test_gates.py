"""Each gate by itself, on figures by hand: what passes, what fails, and what nobody can know."""

from __future__ import annotations

from typing import Any

import pytest
from fieldwatch_trainer import gates
from fieldwatch_trainer.bootstrap import Interval

SURE = {
    "average_precision_pooled": Interval(0.05, 0.01, 0.09),
    "event_recall": Interval(0.0, -0.1, 0.1),
    "false_alarms_per_day": Interval(0.0, -0.1, 0.1),
    "brier": Interval(0.0, -0.01, 0.01),
}


def figures(**changes: Any) -> dict[str, Any]:
    quarters = [
        {"quarter": n + 1, "false_alarms": 5, "normal_days": 25.0, "false_alarms_per_day": 0.2} for n in range(4)
    ]
    told = {
        "kind": "detector", "threshold": 1.0, "events": 40, "event_recall": 0.8, "average_precision": 0.6, "alerts": 50,
        "everything": {"average_precision": 0.05}, "random": {"average_precision": 0.05, "brier": 0.05},
        "turned": {"median": 0.05, "high": 0.1}, "unknown_share": 0.0, "highest_score": 9.0, "false_alarms": 20,
        "false_alarms_per_day": 0.2, "normal_days": 100.0, "intervals": {"false_alarms_per_day": [0.1, 0.3]},
        "delay_p90_s": 600.0, "quarters": quarters,
        "slices": [{"slice": "device a", "events": 20, "event_recall": 0.8}],
    }  # fmt: skip
    return told | changes


CALIBRATED = {
    "kind": "classifier", "brier": 0.02, "ece": 0.01, "miscalibration": 0.01, "expected_positive": 90.0,
    "observed_positive": 100,
}  # fmt: skip


def side(**models: dict[str, Any]) -> gates.Side:
    return gates.Side(models or {"detector": figures()}, {}, "", 0.1, 1.0)


def status(
    challenger: gates.Side, apart: dict[str, Interval] | None = None, **champion: dict[str, Any]
) -> dict[str, str]:
    old = side(**champion)
    differences = dict.fromkeys(old.figures, apart or SURE)
    found = gates.fit_to_replace(old, challenger, differences, budget=0.5, window_s=3600.0)
    return {gate.id: gate.status for gate in found if gate.status != "passed"}


def test_figures_that_are_fine_pass_every_gate() -> None:
    assert status(side()) == {}


@pytest.mark.parametrize(
    ("change", "gate", "expected"),
    [
        ({"average_precision": 0.05}, "chance", "failed"),
        ({"average_precision": 0.09}, "chance", "unknown"),
        ({"event_recall": 0.0}, "deaf", "failed"),
        ({"events": 9}, "events", "unknown"),
        ({"false_alarms_per_day": 0.6, "intervals": {"false_alarms_per_day": [0.55, 0.7]}}, "budget", "failed"),
        ({"false_alarms_per_day": 0.6, "intervals": {"false_alarms_per_day": [0.4, 0.7]}}, "budget", "unknown"),
        ({"false_alarms_per_day": 0.3, "false_alarms": 30}, "budget", "unknown"),
        ({"event_recall": 0.7}, "recall", "unknown"),
        ({"slices": [{"slice": "device a", "events": 20, "event_recall": 0.7}]}, "recall", "failed"),
        ({"slices": [{"slice": "device a", "events": 20, "event_recall": 0.76}]}, "recall", None),
        ({"delay_p90_s": 4300.0}, "delay", "failed"),
        ({"delay_p90_s": 4100.0}, "delay", None),
    ],
)  # fmt: skip
def test_one_figure_that_is_off_moves_its_own_gate(change: dict[str, Any], gate: str, expected: str | None) -> None:
    found = status(side(detector=figures(**change)))
    assert found.get(f"{gate}:detector") == expected
    assert set(found) <= {f"{gate}:detector", "recall:detector", "deaf:detector"}


@pytest.mark.parametrize(
    ("count", "days", "expected"),
    [
        (12, 4.13, "failed"), (12, 4.14, "passed"),  # 12 may be 6.2006 by chance, and 1.5 a day are 6.2006 in 4.1337
        (4, 0.72, "failed"), (4, 0.73, "passed"),  # 1.0899
        (2000, 1275.0, "failed"), (2000, 1275.7, "passed"),  # 1913.3
        (0, 1000.0, "passed"), (1, 0.001, "failed"), (0, 0.0, "unknown"),
    ],
)  # fmt: skip
def test_noise_is_what_does_not_come_by_chance_at_three_times_the_budget(
    count: int, days: float, expected: str
) -> None:
    rate = count / days if days else None
    told = figures(false_alarms=count, normal_days=days, false_alarms_per_day=rate)
    (noise,) = [gate for gate in gates.sound({"detector": told}, 0.5) if gate.name == "noise"]
    assert (noise.id, noise.status) == ("noise:detector", expected)
    if rate is not None:
        assert f"{count} false alarms in {days:.3g} device-days" in noise.says and "the budget is 0.5" in noise.says
    generous = [gate.status for gate in gates.sound({"detector": told}, 5000.0) if gate.name == "noise"]
    assert generous == ["passed" if days else "unknown"], "it is the bundle's own budget that counts"


def test_a_table_has_no_time_to_be_noisy_in() -> None:
    assert [gate.id for gate in gates.sound({"classifier": figures()}, None)] == [
        "chance:classifier", "deaf:classifier",
    ]  # fmt: skip


def test_more_false_alarms_in_a_late_quarter_are_no_chance() -> None:
    counts = (1, 1, 1, 27)
    late = [
        {"quarter": place, "false_alarms": count, "normal_days": 25.0, "false_alarms_per_day": count / 25}
        for place, count in enumerate(counts, start=1)
    ]
    found = gates.fit_to_replace(
        side(),
        side(detector=figures(quarters=late, false_alarms=30, false_alarms_per_day=0.3)),
        {"detector": SURE},
        0.5,
        60.0,
    )
    steady = next(gate for gate in found if gate.name == "steady")
    assert steady.status == "failed" and "quarter 4 of the time 1.080, 0.300 in all" in steady.says


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (Interval(0.0, -0.009, 0.01), None), (Interval(-0.05, -0.1, -0.01), "failed"),
        (Interval(0.01, -0.05, 0.06), "unknown"), (Interval(0.2), "unknown"),
    ],
)  # fmt: skip
def test_ranking_is_worse_better_or_nobody_can_say(interval: Interval, expected: str | None) -> None:
    assert status(side(), SURE | {"average_precision_pooled": interval}).get("ranking:detector") == expected


@pytest.mark.parametrize(
    "change",
    [
        {"ece": 0.06},
        {"miscalibration": 0.06},
        {"expected_positive": 210.0},
        {"expected_positive": 40.0},
        {"brier": 0.06},
    ],
)
def test_each_way_of_being_miscalibrated_fails(change: dict[str, float]) -> None:
    well, off = figures(**CALIBRATED), figures(**(CALIBRATED | change))
    assert status(side(classifier=well), classifier=well) == {}
    assert status(side(classifier=off), classifier=well) == {"calibration:classifier": "failed"}


def test_models_may_come_and_may_not_go() -> None:
    classifier = figures(**CALIBRATED)
    assert status(side(detector=figures(), classifier=classifier)) == {}
    assert status(side(), detector=figures(), classifier=classifier) == {"models:classifier": "failed"}
    deaf = figures(**(CALIBRATED | {"event_recall": 0.0}))
    assert status(side(detector=figures(), classifier=deaf)) == {"deaf:classifier": "failed"}


def test_a_bundle_that_is_large_or_slow_fails() -> None:
    for size, time in ((11.0, 1.0), (1.0, 51.0)):
        assert status(gates.Side({"detector": figures()}, {}, "", size, time)) == {"cost": "failed"}


def test_a_sensor_beyond_the_range_of_both_is_no_drift_of_the_challenger() -> None:
    beyond = gates.Side({"detector": figures()}, {"heat": 0.9}, "", 0.1, 1.0)
    assert status(beyond) == {"range": "failed"}
    found = gates.fit_to_replace(beyond, beyond, {"detector": SURE}, 0.5, 60.0)
    assert gates.decision(found) == (True, "the challenger may replace the champion: every gate passed")


def test_what_failed_decides_before_what_is_not_known() -> None:
    few, none = (
        gates.Gate("events", "detector", "unknown", "few"),
        gates.Gate("budget", "detector", "failed", "over it"),
    )
    assert gates.decision([few, none]) == (False, "the champion stays: detector: over it")
    assert gates.decision([few]) == (False, "insufficient evidence, the champion stays: detector: few")
