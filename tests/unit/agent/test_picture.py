"""The picture of a replay: a chart a model with a time axis, its alerts, and no line across a gap."""

from __future__ import annotations

import re

from fieldwatch_agent.score.picture import picture
from fieldwatch_agent.score.replay import Row
from fieldwatch_contract.clock import MINUTE, iso

START = 1_767_225_600_000_000


def rows(minutes: list[int], high: range) -> list[Row]:
    return [
        Row(iso(START + minute * MINUTE), model, None if minute == 3 else 2.0 if minute in high else 0.1, 1.0, "normal",
            [], [], 1.0, "an-alert" if minute in high else None)
        for minute in minutes
        for model in ("detector", "classifier")
    ]  # fmt: skip


def test_each_model_has_a_chart_with_times_and_alerts() -> None:
    html = picture(rows(list(range(120)), range(60, 70)), "press/1 on <log>", MINUTE)
    assert html.count("<svg") == 2 and "press/1 on &lt;log&gt;" in html and "<script" not in html
    assert html.count(">00:30</text>") == 2 and html.count("class='a'") == 2
    assert "120 normal; 1 alerts" in html
    assert html.count("<div class='c'") == html.count("</svg></div>") == 2 and ".c{overflow-x:auto}" in html, "scrolled"
    assert set(re.findall(r"https?://", html)) == set()


def test_no_line_crosses_a_gap() -> None:
    whole = picture(rows(list(range(100)), range(0)), "t", MINUTE)
    holed = picture(rows([*range(50), *range(150, 200)], range(0)), "t", MINUTE)
    assert holed.count("<polyline class='s'") == whole.count("<polyline class='s'") + 2


def test_a_log_whose_last_row_is_in_alert_and_one_of_unknown_scores() -> None:
    assert picture(rows(list(range(10)), range(8, 10)), "t", MINUTE).count("class='a'") == 2
    assert "1 normal" in picture(rows([3], range(0)), "t", MINUTE)
