"""What the report begins with: what to do, and each miss and false alarm with what happened around it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from fieldwatch_contract.alerts import AlertRule
from fieldwatch_trainer import cases
from fieldwatch_trainer.advice import advice
from fieldwatch_trainer.events import Event
from fieldwatch_trainer.judging import evaluation, figures
from fieldwatch_trainer.outcomes import LISTED, PICTURED, DeviceScores, Judge, Leaders, Outcome, trace
from fieldwatch_trainer.thresholds import HeldOut

from tests.lakes import MINUTE, START

DAY = 1440
JUDGE = Judge("detector", "detector", 1.0, AlertRule(persistence=1, clear_ratio=1.0, resolve_after=1), MINUTE, 5)


def device(name: str, high: list[int], events: list[tuple[int, int]], ts: np.ndarray | None = None) -> DeviceScores:
    ts = START + np.arange(3 * DAY) * MINUTE if ts is None else ts
    score, label = np.full(len(ts), 0.1, np.float32), np.zeros(len(ts), np.int8)
    score[high] = 2.0
    for first, last in events:
        label[first : last + 1] = 1
    given = np.zeros((len(ts), 5), np.float32)
    given[:, 3], given[:, 1] = 2.0, 1.0
    held = HeldOut(name, ts, score, np.ones(len(ts), bool), label)
    return DeviceScores(held, [Event("fault", *e) for e in events], None, Leaders.of(list("abcde"), given))


def test_every_false_alarm_is_listed_with_its_sensors_and_the_first_are_pictured() -> None:
    count = PICTURED + 8
    one = device("press-0", list(range(100, 100 + 50 * count, 50)), [(4000, 4100)])
    told = figures(JUDGE, [one])
    assert len(told["false"]) == told["false_alarms"] == count <= LISTED
    assert sum("picture" in case for case in told["false"]) == PICTURED
    assert all(case["sensors"] == ["d", "b"] for case in told["false"])
    html = cases.section("detector", told, [], "x", {})
    assert f"Alerts for nothing ({count})" in html and "Missed (1)" in html
    assert html.index("Missed (1)") < html.index("Alerts for nothing")
    assert "8 more" in html and html.count("led by d, b") == count + 1
    assert "highest score 2, 2 times the level; led by" in html


def test_alerts_where_nothing_is_labelled_are_said_to_count_as_false_for_that() -> None:
    html = cases.section("detector", figures(JUDGE, [device("press-0", [100], [])]), [], "x", {})
    assert "No event is labelled, so every alert counts as false</b>; 1 alerts, 1 false alarms" in html


def test_leaders_are_the_sensors_with_the_largest_sum() -> None:
    rng = np.random.default_rng(0)
    given = (rng.random((50, 9)) * np.arange(9)).astype(np.float32)
    halves = Leaders.joined([Leaders.of(list("abcdefghi"), part) for part in (given[:20], given[20:])])
    assert halves.names(0, 49)[0] == "i"
    assert Leaders.of(["a"], np.zeros((4, 1), np.float32)).names(0, 3) == []


def test_no_line_crosses_a_gap() -> None:
    ts = START + np.concatenate((np.arange(400), 900 + np.arange(400))) * MINUTE
    one = device("press-0", [10], [], ts)
    told = trace(JUDGE, one, Outcome.of(JUDGE, one, *JUDGE.raised(one.held)), slice(0, 800), 100)
    hole = told["score"].index(None)
    assert told["ts"][hole] == int(ts[399]) + MINUTE and told["ts"][hole + 1] == int(ts[400])
    assert told["score"].count(None) == 1 and len(told["ts"]) == len(told["score"]) == len(told["level"])
    svg = cases.section("detector", {}, [told | {"device": "press-0", "model": "detector"}], "x", {})
    line = max(re.findall(r'<path d="([^"]+)"', svg), key=len)
    assert line.count("M") == 2, "the pen is lifted once"


def test_every_part_is_there_those_with_something_wrong_first() -> None:
    parts = [device(f"press-{number}", [500] if number == 7 else [], []) for number in range(10)]
    told = evaluation([JUDGE], {"detector": parts}, "rows")["timelines"]
    assert len(told) == 10 and told[0]["device"] == "press-7"
    html = cases.section("detector", {}, told, "x", {})
    assert html.count("<svg") == 10 and "press-7: 1 for nothing" in html and "4 more" in html


def run(**model: Any) -> dict[str, Any]:
    return {"evaluation": {"models": {"detector": {"events": 20, "kind": "detector"} | model}}}


def said(**model: Any) -> str:
    return " ".join(advice(run(**model)))


def false(count: int, sensor: str = "heat", device: str = "press-0") -> list[dict[str, Any]]:
    return [{"device": device, "sensors": [sensor], "start": str(n)} for n in range(count)]


def test_a_run_in_which_nothing_stands_out_needs_nothing() -> None:
    assert advice(run()) == [] == advice({})


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"false": false(4) + false(3, "flow")}, "heat leads 4 of 7 false alarms"),
        ({"false": false(4), "devices": [{}] * 3}, "press-0 has 4 of 4 false alarms"),
        (
            {"false": false(4), "false_alarms_per_day": 0.2,
             "quarters": [{"false_alarms": n, "false_alarms_per_day": 0.3 * n} for n in (1, 3)]},
            "false alarms rise with time, to 0.9 a device-day",
        ),
        ({"missed": [{"of_threshold": 0.8}, {"of_threshold": 0.1}]}, "1 of 2 missed events came to 60% of"),
        ({"missed": [{"of_threshold": None}]}, "1 of 1 missed events look normal to it"),
        ({"events": 3}, "only 3 labelled events"),
        ({"events": 0}, "no labelled event"),
        ({"unknown_share": 0.4}, "40% of the rows are unknown to it"),
    ],
)  # fmt: skip
def test_what_stands_out_is_told_with_what_to_do(model: dict[str, Any], words: str) -> None:
    assert words in said(**model)


@pytest.mark.parametrize(("rate", "told"), [(0.7, []), (2.97, ["2.97 false alarms"]), (None, [])])
def test_a_model_that_breaks_its_budget_on_the_time_it_was_set_on_is_told_first(
    rate: float | None, told: list[str]
) -> None:
    worlds = {"backtest": {"unanswered": {}, "answered": {"false_alarms_per_day": rate}}}
    content = {"budget": {"episodes_per_device_day": 0.5}, "calibration": {"classifier": worlds}}
    found = advice(content)
    assert [line.split(": ", 1)[1].split(" a device", 1)[0] for line in found] == (["3 false alarms"] if told else [])


def test_a_counter_among_the_most_used_sensors_is_told() -> None:
    importance = {"flow": 0.5, "heat": 0.2, "hours_run": 0.3}
    content = {
        "models": {"classifier": {"facts": {"importance": importance}}},
        "findings": {"findings": [{"kind": "counter", "sensor": "hours_run"}, {"kind": "drift", "sensor": "flow"}]},
    }
    (told,) = advice(content)
    assert "hours_run only ever grows, and is number 2 of the sensors it uses most (30% of the gain)" in told


def test_what_a_gate_refused_comes_first() -> None:
    gates = [
        {"id": "leak-sensor", "status": "unknown", "says": "s"},
        {"id": "deaf:detector", "status": "failed", "says": "d"},
    ]
    told = advice(run(events=3) | {"gates": gates})
    assert told[0] == "Refused, deaf:detector: d." and told[1].startswith("To look at, leak-sensor")
