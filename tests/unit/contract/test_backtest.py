"""A back-test raises what the device raises, hears people when they would speak, and tells it in three ways."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fieldwatch_contract.alerts import AlertRule, Rule, Said
from fieldwatch_contract.backtest import Answers, Backtest, Fired, answered_after
from fieldwatch_contract.chart import chart
from fieldwatch_contract.clock import DAY, MINUTE, iso
from fieldwatch_contract.fold import advance
from fieldwatch_contract.level import LevelRule
from fieldwatch_contract.likeness import Answer
from fieldwatch_contract.told import Curve, Told, line_of, page, text, weeks
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

START = 20_454 * DAY
LADDER = tuple(2.0**step for step in range(-3, 6))
LEVEL = LevelRule(ladder=LADDER, start=3, rise=1, hold=50, fall=40, like=0.9)
ALERT = AlertRule(persistence=2, clear_ratio=0.5, resolve_after=3)
RULE = Rule("press-0001", "detector", "detector", 1.0, ALERT, LEVEL)
AFTER = 20 * MINUTE


class Rows:
    """A row a minute; one sensor contributes the score, the first or, from row ``moved`` on, the second."""

    def __init__(self, score: list[float], moved: int | None = None) -> None:
        self.score = np.array(score, np.float32)
        self.ts = START + np.arange(len(score)) * MINUTE
        self.sensor = np.arange(len(score)) >= (len(score) if moved is None else moved)

    def test(
        self, answers: Answers | None = None, *, cut: int | None = None
    ) -> tuple[list[Fired], NDArray[np.float64]]:
        test = Backtest(RULE, answers)
        levels = []
        for start in range(0, len(self.ts), cut or len(self.ts)):
            part = slice(start, start + (cut or len(self.ts)))
            levels.append(
                test.feed(self.ts[part], self.score[part], ~np.isnan(self.score[part]), self.explain(start))[0]
            )
        return test.fired, np.concatenate(levels)

    def explain(self, before: int):  # type: ignore[no-untyped-def]
        def explain(rows: NDArray[np.int64]) -> NDArray[np.float32]:
            found = np.zeros((len(rows), 2), np.float32)
            found[np.arange(len(rows)), self.sensor[before + rows].astype(int)] = self.score[before + rows]
            return found

        return explain


def always(answer: Answer | None) -> Answers:
    return Answers(AFTER, lambda opened, until: answer)


def plain(fired: list[Fired]) -> list[tuple[object, ...]]:
    return [(f.alert_id, f.first, f.last, f.ended_at, f.level, f.peak, f.like, f.told, f.sums.tolist()) for f in fired]


QUIET, BURST = [0.0] * 30, [90.0, 90.0, 0.0, 0.0, 0.0]


def test_it_raises_what_the_device_raises() -> None:
    rows = Rows([*QUIET, *BURST, *QUIET, *BURST])
    fired, level = rows.test()
    folded = advance(RULE, RULE.start(), rows.ts, rows.score, np.ones(len(rows.ts), bool), rows.explain(0))
    assert level.tolist() == folded.level.tolist()
    opened = [change for change in folded.changes if change.transition == "opened"]
    assert [(one.first, one.opened_at, one.level) for one in fired] == [
        (change.index, change.state.opened, change.state.level) for change in opened
    ]
    assert [one.ended_at for one in fired] == [int(rows.ts[34]), int(rows.ts[69])]
    assert [one.last for one in fired] == [34, 69] and fired[0].sums.tolist() == [180.0, 0.0]


def test_an_alert_that_is_open_at_the_end_is_there() -> None:
    (fired,), _ = Rows([*QUIET, 90.0, 90.0, 95.0]).test()
    assert fired.ended_at is None and (fired.first, fired.last, fired.peak) == (31, 32, 95.0)


def test_people_answer_when_they_would_and_no_earlier() -> None:
    rows = Rows([*QUIET, *BURST, *QUIET])
    unanswered = rows.test()[1]
    asked: list[tuple[int, int]] = []

    def say(opened: int, until: int) -> Answer:
        asked.append((opened, until))
        return "real"

    fired, level = rows.test(Answers(AFTER, say))
    told_at = int(rows.ts[fired[0].first])
    assert asked == [(int(rows.ts[30]), int(rows.ts[34]))], "from what was known: it had ended before"
    assert rows.ts[np.flatnonzero(level != unanswered)[0]] == told_at + AFTER
    by_hand = advance(
        RULE, RULE.start(), rows.ts, rows.score, np.ones(len(rows.ts), bool), rows.explain(0),
        [Said(fired[0].alert_id, "detector", "real", told_at + AFTER)],
    )  # fmt: skip
    assert level.tolist() == by_hand.level.tolist()


def test_an_answer_is_given_from_what_is_known_of_an_open_alert() -> None:
    asked: list[tuple[int, int]] = []
    rows = Rows([*QUIET, *[90.0] * 60])
    rows.test(Answers(AFTER, lambda opened, until: asked.append((opened, until))))
    assert asked == [(int(rows.ts[30]), int(rows.ts[31]) + AFTER)]


def test_nobody_is_told_of_a_look_alike_until_it_grows() -> None:
    answers = always("false")
    again = Rows([*QUIET, *BURST, *QUIET, *BURST]).test(answers)[0]
    assert [one.told for one in again] == [31, None] and again[1].like == again[0].alert_id
    grown = Rows([*QUIET, *BURST, *QUIET, 90.0, 90.0, 100.0, 140.0, 0.0, 0.0, 0.0]).test(answers)[0]
    assert [one.told for one in grown] == [31, 68], "from the row on at which it is half as strong again"
    other = Rows([*QUIET, *BURST, *QUIET, *BURST], moved=60).test(answers)[0]
    assert [one.told for one in other] == [31, 66]


@given(
    st.lists(st.sampled_from([0.0, 0.3, 0.9, 1.2, 5.0, 90.0, float("nan")]), min_size=1, max_size=90),
    st.integers(1, 40), st.sampled_from([None, "real", "false"]), st.integers(0, 90),
)  # fmt: skip
def test_the_result_does_not_depend_on_how_rows_are_cut(
    score: list[float], cut: int, answer: Answer | None, moved: int
) -> None:
    rows = Rows(score, moved)
    for answers in (None, always(answer)):
        (one, level), (other, again) = rows.test(answers), rows.test(answers, cut=cut)
        assert plain(one) == plain(other) and level.tolist() == again.tolist()


def test_when_people_answer() -> None:
    assert answered_after("none") is None
    assert answered_after("labels:8h") == 8 * 60 * MINUTE
    assert [answered_after(f"labels:{text}") for text in ("90m", "2d")] == [90 * MINUTE, 2 * DAY]
    for wrong in ("labels", "labels:8", "labels:0h", "verdicts:8h", "8h", ""):
        with pytest.raises(ValueError, match="labels:8h"):
            answered_after(wrong)


# ---- what is told --------------------------------------------------------------------------------------------------


def told() -> Told:
    rows = Rows([*QUIET, *BURST, *QUIET, *BURST, *QUIET])
    fired, level = rows.test(always("false"))
    found = Told("press/1", MINUTE, ["a<b", "c"], ["3 alerts & more"])
    found.labelled = True
    spans = [(int(rows.ts[28]), int(rows.ts[33]))]
    for one, false in zip(fired, (False, True), strict=True):
        found.alerts.append(
            line_of("press-0001", "detector", one, ["a<b", "c"], "no label there", rows.ts, rows.score, level, spans,
                    MINUTE, false=false)
        )  # fmt: skip
    found.weeks += weeks("press-0001", "detector", rows.ts, np.ones(len(rows.ts), bool), fired, MINUTE)
    found.curves.append(Curve("detector", [{"factor": 1.0, "alerts": 1, "event_recall": 0.5}]))
    found.missed.append(
        {"device": "press-0001", "model": "detector", "label": "fault", "start": "a", "end": "b", "of_threshold": 0.4}
    )
    found.devices.append(chart("press-0001", rows.ts, rows.score, level, fired, spans, MINUTE))
    return found


def test_alerts_are_json_lines() -> None:
    first, second = (json.loads(line) for line in told().lines())
    assert list(first) == ["device", "model", "opened_at", "ended_at", "level", "like", "sensors"]
    assert first["opened_at"] == iso(START + 30 * MINUTE) and first["ended_at"] == iso(START + 34 * MINUTE)
    assert (first["level"], first["like"], first["sensors"]) == (1.0, None, ["a<b"])
    assert second["like"] == told().alerts[1].like


def test_people_read_the_same() -> None:
    said = text(told())
    assert "1 alerts a device-day" not in said and "10.00 alerts a device-day" in text(_dense())
    assert "and 1 look-alikes of dismissed ones" in said
    assert "missed: press-0001 detector fault a to b, highest score 0.4 of the threshold" in said
    assert "x 1: 1 alerts, events found 50%" in said


def in_order(text: str, *words: str) -> bool:
    places = [text.index(word) for word in words]
    return places == sorted(places)


def test_what_was_missed_and_what_was_false_comes_first() -> None:
    found = told()
    real, false = (one.opened_at for one in found.alerts)
    assert in_order(text(found), "missed: ", f"false alarm: {false}", "week of", f"  {real}", "with other budgets")
    shown = page(found)
    assert in_order(shown, "<h2>Missed", "<h2>False alarms", f": {false}", "with other budgets", "By week",
                    "<h2>Other alerts", f": {real}", "<h2>Devices")  # fmt: skip
    found.missed, found.alerts = [], found.alerts[:1]
    assert in_order(page(found), "<h2>No event missed", "<h2>No false alarm", "<h2>Alerts", f": {real}")
    found.labelled = False
    assert "missed" not in page(found) and "false alarm" not in page(found), "nobody knows"


def _dense() -> Told:
    rows = Rows(([0.0] * 139 + BURST) * 10)
    found = Told("press/1", MINUTE, ["a", "b"])
    found.weeks += weeks("press-0001", "detector", rows.ts, np.ones(len(rows.ts), bool), rows.test()[0], MINUTE)
    return found


def test_a_page_needs_nothing_from_anywhere_and_escapes_names() -> None:
    shown = page(told())
    assert "a&lt;b" in shown and "a<b" not in shown and "3 alerts &amp; more" in shown
    assert shown.count("<svg") == 3 and "http" not in shown and "Like dismissed alert" in shown


def test_the_trade_is_a_curve_where_labels_say_both() -> None:
    found = told()
    points = [
        {"factor": f, "alerts": 3, "event_recall": r, "false_alarms_per_day": r / 2} for f, r in ((1, 0.4), (2, 0.8))
    ]
    found.curves = [Curve("detector", points)]
    shown = page(found)
    assert "events found over false alarms of detector" in shown and shown.count("<circle") == 2
    assert "<circle" not in page(told())


def test_no_line_crosses_a_gap() -> None:
    ts = START + np.concatenate((np.arange(50), 500 + np.arange(50))) * MINUTE
    drawn = chart("x", ts, np.ones(100, np.float32), np.full(100, 2.0), [], [], MINUTE)
    assert drawn.count("class='s'") == 2 and drawn.count("class='t'") == 2
    long = START + np.concatenate((np.arange(5000), 9000 + np.arange(5000))) * MINUTE
    drawn = chart("x", long, np.ones(10_000, np.float32), np.full(10_000, 2.0), [], [], MINUTE)
    assert drawn.count("class='s'") == 2


def test_weeks_begin_on_monday_and_count_judged_time() -> None:
    ts = START + np.arange(10 * 1440) * MINUTE
    judged = np.ones(len(ts), bool)
    judged[:720] = False
    found = weeks("d", "detector", ts, judged, [], MINUTE)
    assert [iso(week.monday)[:10] for week in found] == ["2025-12-29", "2026-01-05"]
    assert sum(week.days for week in found) == pytest.approx(9.5)
