"""The grid's phase follows the device: jitter, drift and jumps lose nothing and make no gap, however a log is cut."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from fieldwatch_contract.acceptance import Rows, in_order
from fieldwatch_contract.clock import DAY, MINUTE, SECOND
from fieldwatch_contract.grid import Grid
from fieldwatch_contract.phase import CHUNK, Phase, follow, quarters
from hypothesis import given
from hypothesis import strategies as st

START = 1_768_608_000_000_000
periods = st.sampled_from([SECOND, 7 * SECOND, 37 * SECOND, MINUTE, MINUTE + 1, 3_600 * SECOND])


def slots(ts: list[int] | np.ndarray, period: int) -> list[int]:
    return follow(quarters(np.array(ts, np.int64), period)).slots.tolist()


def steps(ts: list[int] | np.ndarray, period: int) -> set[int]:
    return set(np.diff(slots(ts, period)).tolist())


@given(periods, st.floats(0, 1), st.integers(1, 2**32), st.integers(2, 200))
def test_jitter_around_any_phase_makes_a_row_each(period, phase, seed, count):
    """Up to an eighth of the period to either side."""
    jitter = np.random.default_rng(seed).integers(-(period // 8), period // 8, count, endpoint=True)
    ts = START // period * period + int(phase * period) + np.arange(count) * period + jitter
    assert steps(ts, period) == {1}


@given(periods, st.floats(0, 1), st.floats(-0.2, 0.2), st.integers(2, 3 * CHUNK))
def test_drift_in_either_direction_neither_loses_nor_doubles(period, phase, drift, count):
    ts = START + int(phase * period) + np.round(np.arange(count) * period * (1 + drift)).astype(np.int64)
    assert steps(ts, period) == {1}


def test_a_slow_drift_over_whole_periods_and_back():
    """Two seconds a day, for two months, then the other way: four edges of the clock's minute are crossed."""
    days = 60
    there = np.arange(days * 1440, dtype=np.int64) * (MINUTE + 2 * SECOND // 1440)
    back = there[-1] + np.arange(1, days * 1440, dtype=np.int64) * (MINUTE - 2 * SECOND // 1440)
    jitter = np.random.default_rng(1).integers(-SECOND, SECOND, 2 * days * 1440 - 1)
    assert steps(START + np.concatenate((there, back)) + jitter, MINUTE) == {1}


@given(periods, st.floats(0, 1), st.lists(st.integers(1, 300), min_size=1, max_size=20), st.integers(1, 2**32))
def test_missing_readings_are_as_many_rows(period, phase, away, seed):
    jitter = np.random.default_rng(seed).integers(-(period // 8), period // 8, len(away) + 1, endpoint=True)
    ts = START + int(phase * period) + np.cumsum([0, *away]) * period + jitter
    assert np.diff(slots(ts, period)).tolist() == away


@given(st.floats(0, 1), st.floats(0, 1), st.integers(2, 50))
def test_a_device_that_restarts_in_another_phase_goes_on(before, after, off):
    """One gap, as long as the device was off but for half a period; no reading is lost before or after."""
    old = START + int(before * MINUTE) + np.arange(20) * MINUTE
    new = START + int(after * MINUTE) + (np.arange(20) + 20 + off) * MINUTE
    found = np.diff(slots(np.concatenate((old, new)), MINUTE))
    assert set(found[:19].tolist()) == set(found[20:].tolist()) == {1}
    assert abs(found[19] - (new[0] - old[-1]) / MINUTE) < 1


@pytest.mark.parametrize("second", [0, 5, 14.9, 15, 29, 30, 44, 45, 59.9])
def test_a_device_that_keeps_its_phase_has_the_clocks_minutes(second):
    ts = START + round(second * SECOND) + np.array([0, 1, 2, 5, 6, 5000, 5001]) * MINUTE
    assert slots(ts, MINUTE) == (ts // MINUTE).tolist()


@pytest.mark.parametrize("every", [1, 7, 10, 14, 20, 25, 29, 30])
def test_a_device_that_writes_twice_a_period_or_more_has_a_row_a_period(every):
    count = 6000 // every
    found = follow(quarters(START + np.arange(count) * every * SECOND, MINUTE)).slots
    rows = len(in_order(found, None)[0])
    assert 98 <= rows <= 102


moves = st.lists(st.one_of(st.integers(3, 5), st.integers(-9, 60), st.just(0)), min_size=1, max_size=80)


@given(moves, st.lists(st.integers(0, 80), max_size=6), st.sampled_from([1, 3, CHUNK]))
def test_a_block_goes_on_where_the_one_before_it_ended(moves, cuts, chunk):
    quarter = 4_000_000 + np.cumsum(moves)
    whole = follow(quarter)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fieldwatch_contract.phase.CHUNK", chunk)
        phase = Phase()
        for start, stop in pairwise(sorted({0, len(quarter), *(min(cut, len(quarter)) for cut in cuts)})):
            part = follow(quarter[start:stop], phase)
            assert part.slots.tolist() == whole.slots[start:stop].tolist()
            assert part.moved.tolist() == whole.moved[start:stop].tolist()
            phase = part.phase
    assert phase == whole.phase


@given(moves, st.integers(1, 20), st.data())
def test_a_grid_that_resumes_gives_the_rows_of_one_that_did_not_stop(moves, window, data):
    ts = START + np.cumsum(moves) * (MINUTE // 4) + 1
    values = np.arange(len(ts), dtype=np.float64)[:, None]
    stop = data.draw(st.integers(1, len(ts)))
    whole = Grid(MINUTE, window, 1)
    first = whole.place(ts[:stop], values[:stop])
    made = np.flatnonzero(first.source >= 0)
    new = Rows(MINUTE, quarters(first.ts[made], MINUTE), first.slots[made], first.moved[made], whole.phase.crowded)
    rows = Rows.from_text(Rows.none(MINUTE).then(new, 1440).to_text())
    kept = first.source[made[len(made) - len(rows.slots) :]]
    resumed = Grid(MINUTE, window, 1)
    resumed.resume(rows.slots, values[kept], rows.phase)
    want, found = whole.place(ts[stop:], values[stop:]), resumed.place(ts[stop:], values[stop:])
    for name in ("rows", "ts", "slots", "moved", "source", "duplicate", "late"):
        assert np.array_equal(getattr(want, name), getattr(found, name), equal_nan=True), name


def test_a_month_of_jitter_is_placed_as_fast_as_it_is_read():
    """Each reading moves the grid: the worst case for placing many at once."""
    ts = START + np.arange(30 * 1440) * MINUTE + np.where(np.arange(30 * 1440) % 2, 20 * SECOND, 0)
    assert steps(ts, MINUTE) == {1}
    assert ts[-1] - ts[0] < 31 * DAY
