"""Sensors that stand still: counted alike in one pass and reading by reading, and told where training saw them move."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from fieldwatch_contract.bundle import Baseline
from fieldwatch_contract.still import LEAST, MOST, RATIO, TINY, Still, runs
from hypothesis import given
from hypothesis import strategies as st

NAN = float("nan")


def baseline(still: list[int] | None, scale: float = 1.0) -> Baseline:
    count = len(still or [0])
    return Baseline(mean=[0] * count, scale=[scale] * count, low=[0] * count, high=[0] * count, still=still)


def feed(still: Still, values: list[float], start: int = 0) -> None:
    still.feed(start + np.arange(len(values)), np.array(values)[:, None])


@given(
    st.lists(st.sampled_from([0.0, 0.0, 0.0, TINY / 2, 1.0, NAN]), min_size=1, max_size=300),
    st.lists(st.integers(0, 300), max_size=5),
)
def test_any_cut_gives_what_plain_python_gives(values, cuts):
    last, run, since, plain = NAN, 0, 0, []
    for row, value in enumerate(values):
        if value == value:  # noqa: PLR0124 - NaN
            still = abs(value - last) <= TINY
            run, since, last = (run + 1 if still else 1), (since if still else row), value
        plain.append(run)
    counted, _, _ = runs(np.array(values)[:, None], np.ones(1), np.array([NAN]))
    assert counted.ravel().tolist() == plain
    found = Still(baseline([0]))
    for start, stop in pairwise(sorted({0, len(values), *(min(cut, len(values)) for cut in cuts)})):
        feed(found, values[start:stop], start)
    told = [(each.readings, each.since, each.value) for each in found.stuck()]
    assert told == ([(run, since, last)] if run >= LEAST else [])


def test_a_sensor_is_stuck_after_five_times_what_training_saw_and_an_hour_at_least():
    for longest, limit in ((1, LEAST), (12, LEAST), (30, 30 * RATIO), (MOST // RATIO, MOST)):
        still = Still(baseline([longest]))
        feed(still, [3.0, *([4.0] * (limit - 1))])
        assert still.stuck() == []
        feed(still, [4.0], limit)
        assert [(each.value, each.since, each.readings, each.longest) for each in still.stuck()] == [
            (4.0, 1, limit, longest)
        ]
        feed(still, [4.0 + TINY / 2], limit + 1)
        assert len(still.stuck()) == 1
        feed(still, [4.1], limit + 2)
        assert still.stuck() == []


def test_what_stands_still_by_habit_or_never_moved_is_not_watched():
    for unwatched in (baseline([MOST]), baseline([1], scale=0), baseline(None)):
        still = Still(unwatched)
        feed(still, [4.0] * 2 * MOST)
        assert still.stuck() == []
