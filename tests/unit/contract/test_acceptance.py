"""Which reading becomes a row, and that it is the same one when the log is read again."""

from __future__ import annotations

import numpy as np
import pytest
from fieldwatch_contract.acceptance import AHEAD, Rows, ahead, in_order
from fieldwatch_contract.clock import DAY, MINUTE
from fieldwatch_contract.phase import follow
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_768_608_000_000_000


def judged(*days: float, newest: float | None = None, written: float | None = None) -> tuple[list[float], int | None]:
    """Judge readings so many days ahead of the clock; return which are refused, and which one waits."""
    ts = np.array([NOW + round(day * DAY) for day in days], np.int64)
    log = [None if day is None else NOW + round(day * DAY) for day in (newest, written)]
    found = ahead(ts, NOW, *log)
    return [day for day, future in zip(days, found.future, strict=True) if future], found.waits


@pytest.mark.parametrize(
    ("days", "written", "future", "waits"),
    [
        ((-3, -2, 0), None, [], None),
        ((0, 2), None, [2], None),  # also where nothing follows: the device's clock is wrong, or ours
        ((0, 29, 0.1), None, [29], None),
        ((0, 29, 0.1), 0, [29], None),  # its file was written now: the clock agrees
        ((0.5, 2, 2.5, 3), 3, [], 1),  # the log was written three days ahead: the clock is behind
        ((2, 3), 3, [], 0),
        ((0.5, 400, 2, 3), 3, [400], 2),  # a wrong line among them is no less wrong
        ((0.5, 2, 3, 0.6), 3, [2, 3], None),  # the log has returned: it was wrong, and the clock is right
        ((), 3, [], None),
    ],
)
def test_readings_ahead_of_the_clock(
    days: tuple[float, ...], written: float | None, future: list[float], waits: int | None
) -> None:
    assert judged(*days, written=written) == (future, waits)


@pytest.mark.parametrize(
    ("days", "newest", "future", "waits"),
    [
        ((2, 2.5, 3), 1.5, [], 0),  # they go on from a row
        ((0.1, 0.9, 1.8, 2.7), 0, [], 2),  # or from one another
        ((2, 2.1, -3, -2.9), 1.9, [], 0),  # also where the writer now has the same wrong clock
        ((2, 400, 401, 2.1, -3), 1.9, [400, 401], 0),  # wrong lines among them
        ((1.2, -3), -3, [1.2], None),  # a day and more after the row before: a wrong line
        ((400, 401), -3, [400, 401], None),
    ],
)
def test_what_goes_on_from_a_row_waits_for_the_clock(
    days: tuple[float, ...], newest: float, future: list[float], waits: int | None
) -> None:
    assert judged(*days, newest=newest) == (future, waits)


def test_a_day_ahead_is_the_limit() -> None:
    assert [ahead(np.array([NOW + AHEAD + more]), NOW).future.tolist() for more in (0, 1)] == [[False], [True]]
    assert AHEAD == DAY


moves = st.lists(
    st.one_of(st.just(1), st.just(1), st.integers(-3, 3), st.just(0), st.sampled_from([40, -40])),
    min_size=1,
    max_size=60,
)


@given(moves, st.dictionaries(st.integers(0, 59), st.integers(2, 30), max_size=5), st.integers(1, 80), st.data())
def test_rows_are_found_again_whatever_was_refused_between_them(moves, ahead_by, reach, data):
    """``ahead_by``: before which readings one stands that was ahead of a clock of which nothing is known any more."""
    quarters: list[int] = []
    future: list[bool] = []
    for place, slot in enumerate(np.cumsum([1000, *moves]).tolist()):
        quarter = 4 * slot + data.draw(st.integers(0, 3))
        if place in ahead_by:
            quarters.append(quarter + 4 * ahead_by[place])  # a row stands between it and its true twin
            future.append(True)
        quarters.append(quarter)
        future.append(False)
    read, taken = np.array(quarters, np.int64), np.flatnonzero(~np.array(future))
    placed = follow(read[taken])
    made = in_order(placed.slots, None)[0]
    kept = taken[made]
    new = Rows(MINUTE, read[kept], placed.slots[made], placed.moved[made], placed.phase.crowded)
    rows = Rows.none(MINUTE).then(new, reach)
    kept, made = kept[len(kept) - len(rows.slots) :], made[len(made) - len(rows.slots) :]
    again = Rows.from_text(rows.to_text())
    assert (again.period, again.quarters.tolist()) == (MINUTE, read[kept].tolist())
    assert (again.slots.tolist(), again.moved.tolist()) == (placed.slots[made].tolist(), placed.moved[made].tolist())
    assert again.phase == placed.phase
    assert again.slots[0] > again.slots[-1] - reach
    found, missing = again.among(read[kept[0] :])  # a restart reads from the line of the oldest row
    assert (found + kept[0]).tolist() == kept.tolist()
    assert not len(missing)


def rows_of(*slots: int) -> Rows:
    """Rows of readings in the middle of these slots."""
    return Rows(MINUTE, 4 * np.array(slots) + 1, np.array(slots), np.zeros(len(slots), np.int64))


def test_what_is_gone_from_the_log_is_missed() -> None:
    rows = rows_of(3, 4, 6, 9)
    found, missing = rows.among(4 * np.array([6, 7, 9]) + 1)
    assert found.tolist() == [0, 2]
    assert rows.slots[missing].tolist() == [3, 4]
    assert [each.tolist() for each in rows.among(np.empty(0, np.int64))] == [[], [0, 1, 2, 3]]


def test_a_reading_that_was_refused_as_future_does_not_take_the_place_of_its_true_twin() -> None:
    found, missing = rows_of(*range(10, 60)).among(4 * np.array([10, 11, 50, *range(12, 60)]) + 1)
    assert found.tolist() == [0, 1, *range(3, 51)]
    assert not len(missing)


def test_rows_recorded_before_the_grid_moved_are_found_by_their_slots() -> None:
    rows = Rows.from_text("60000000:1009:Gw==")  # bits 00011011, newest first
    assert rows.slots.tolist() == [1002, 1003, 1005, 1006]
    assert rows.may_hold(4 * np.array([1002, 1004]) + 3).tolist() == [True, False]
    found, missing = rows.among(np.array([4 * 1002 + 3, 4 * 1003, 4 * 1005, 4 * 1005 + 3]))
    assert found.tolist() == [0, 1, 2]
    assert rows.slots[missing].tolist() == [1006]


@pytest.mark.parametrize(
    "text", ["", "60", "60:5:§", "a:5:gA==", "60:5", "60:5:gA==:x", "60:5:gA==:::1", "60:5:gA==:::x:1"]
)
def test_rows_that_do_not_parse_are_told_as_such(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Rows.from_text(text)


def test_a_day_of_rows_is_a_thousand_bytes() -> None:
    assert len(rows_of(*range(29_000_000, 29_001_440)).to_text()) < 1000
