"""A picture's time axis: few ticks at round times, enough to read a time from it, whatever the span."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
from fieldwatch_contract.chart import TICKS, chart, ticks
from fieldwatch_contract.clock import DAY, MINUTE, SECOND
from hypothesis import given
from hypothesis import strategies as st

START = 1_767_225_600_000_000


@given(st.integers(0, 10 * 365 * DAY), st.integers(10 * SECOND, 12 * 365 * DAY))
def test_few_ticks_at_round_times_and_the_first_says_the_day(offset: int, span: int) -> None:
    first = START + offset
    found = ticks(first, first + span)
    times = [time for time, _ in found]
    assert 1 <= len(found) <= TICKS + 1
    assert all(first <= time < first + span for time in times)
    assert len(set(np.diff(times).tolist())) <= 1
    assert re.match(r"\d{4}-\d\d-\d\d", found[0][1])
    assert all(one[1] != other[1] for one, other in pairwise(found))


def test_midnight_says_the_day_and_other_ticks_the_time() -> None:
    labels = [label for _, label in ticks(START + 1200 * MINUTE, START + 1800 * MINUTE)]
    assert labels == ["2026-01-01 20:00", "22:00", "2026-01-02", "02:00", "04:00"]


def test_a_chart_has_the_axis() -> None:
    ts = START + np.arange(120) * MINUTE
    svg = chart("press <1>", ts, np.ones(120, np.float32), np.full(120, 2.0), [], (), MINUTE)
    assert "2026-01-01</text>" in svg and ">00:30</text>" in svg and "press &lt;1&gt;" in svg
