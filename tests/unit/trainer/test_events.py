"""What is an event found, what is a false alert, and when does it count: by hand, and against a plain count."""

from __future__ import annotations

import numpy as np
from fieldwatch_trainer.events import LONG, Event, delay, false_at, finder, unexplained
from hypothesis import given
from hypothesis import strategies as st

from tests.lakes import MINUTE

SHIFT = LONG // MINUTE


def codes(count: int, *spans: tuple[int, int]) -> np.ndarray:
    label = np.zeros(count, np.int8)
    for first, last in spans:
        label[first : last + 1] = 1
    return label


def test_an_alert_that_touches_a_label_or_its_guard_is_not_false() -> None:
    free = unexplained(codes(100, (40, 49)), 5)
    assert np.flatnonzero(~free).tolist() == list(range(40, 55))
    assert false_at((10, 20), free, MINUTE).tolist() == [10]
    assert false_at((30, 40), free, MINUTE).tolist() == []
    assert false_at((54, 60), free, MINUTE).tolist() == []
    assert false_at((55, 60), free, MINUTE).tolist() == [55]


def test_it_counts_again_at_the_end_of_each_shift() -> None:
    count = 3 * SHIFT + 10
    assert false_at((0, count - 1), np.ones(count, bool), MINUTE).tolist() == [
        0, SHIFT - 1, 2 * SHIFT - 1, 3 * SHIFT - 1,
    ]  # fmt: skip
    found = unexplained(codes(count, (100, 199)), 0)
    assert false_at((0, count - 1), found, MINUTE).tolist() == [SHIFT + 99, 2 * SHIFT + 99]


@given(
    st.lists(st.booleans(), min_size=1, max_size=60),
    st.integers(0, 59), st.integers(0, 59), st.sampled_from([LONG, LONG // 2, LONG // 3 + 1, LONG * 2 // 5]),
)  # fmt: skip
def test_the_count_is_that_of_a_person_who_goes_row_by_row(free: list[bool], a: int, b: int, period: int) -> None:
    first, last = min(a, b) % len(free), max(a, b) % len(free)
    first, last = min(first, last), max(first, last)
    waited, expected = 0, [first] if all(free[first : last + 1]) else []
    for row in range(first, last + 1):
        before = waited // LONG
        waited += period * free[row]
        expected += [row] * (waited // LONG - before)
    assert false_at((first, last), np.array(free), period).tolist() == expected


def test_the_first_open_alert_finds_the_event() -> None:
    event = Event("fault", 50, 59)
    ts = np.arange(100) * MINUTE
    assert finder(event, [(0, 49), (60, 70)]) is None
    assert finder(event, [(0, 49), (45, 50), (55, 56)]) == 1
    assert delay(event, (45, 50), ts) == 0.0
    assert delay(event, (53, 58), ts) == 180.0
