"""The grid: each reading makes one row or is refused, and how the log was cut leaves no trace."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from fieldwatch_contract.clock import DAY, MINUTE
from fieldwatch_contract.grid import MOST_ROWS, Block, Grid
from hypothesis import given
from hypothesis import strategies as st


class PlainGrid:
    """The rules of fieldwatch_contract/grid.py, one reading at a time, in the plainest Python."""

    def __init__(self, period: int, window: int, sensors: int) -> None:
        self.period, self.window, self.sensors = period, window, sensors
        self.newest: int | None = None
        self.edge = 0  # where slot 0 begins, in quarters of a period
        self.seen: set[int] = set()  # the quarters that have a reading in the newest slot
        self.rows: list[tuple[float, ...]] = []
        self.ts: list[int] = []
        self.source: list[int] = []
        self.slots: list[int] = []
        self.duplicate: list[int] = []
        self.late: list[int] = []

    def add(self, index: int, ts: int, values: tuple[float, ...]) -> None:
        quarter = ts * 4 // self.period - self.edge
        slot = quarter // 4
        if self.newest is not None:
            if slot == self.newest:
                self.seen.add(ts * 4 // self.period)
                self.duplicate.append(index)
                return
            if slot < self.newest:
                self.late.append(index)
                return
            for back in range(min(slot - self.newest - 1, self.window), 0, -1):
                self.rows.append((float("nan"),) * self.sensors)
                self.ts.append(ts - back * self.period)
                self.source.append(-1)
                self.slots.append(slot - back)
        if len(self.seen) < 2 or slot - 1 != self.newest:
            self.edge += (-1, 0, 0, 1)[quarter - 4 * slot]
        self.seen = {ts * 4 // self.period}
        self.rows.append(tuple(float("nan") if abs(v) == float("inf") else v for v in values))
        self.ts.append(ts)
        self.source.append(index)
        self.slots.append(slot)
        self.newest = slot


steps = st.one_of(st.integers(-3, 3), st.just(1), st.integers(-200, 200), st.sampled_from([10_000, -10_000]))
numbers = st.one_of(st.floats(-5, 5), st.sampled_from([float("nan"), float("inf"), float("-inf"), 1e300]))


@st.composite
def logs(draw):
    """Readings about a minute apart, with jumps both ways, twins and jitter; and where to cut them."""
    period = draw(st.sampled_from([1, 7, MINUTE]))
    sensors = draw(st.integers(1, 3))
    moves = draw(st.lists(st.tuples(steps, st.floats(0, 0.999)), max_size=60))
    slot = draw(st.sampled_from([0, -50, 29_000_000]))
    ts = []
    for move, jitter in moves:
        slot += move
        ts.append(slot * period + int(jitter * period))
    values = [tuple(draw(st.lists(numbers, min_size=sensors, max_size=sensors))) for _ in ts]
    cuts = draw(st.lists(st.integers(0, len(ts)), max_size=6))
    return period, sensors, ts, values, sorted({0, len(ts), *cuts})


@given(logs(), st.integers(1, 9))
def test_any_cut_gives_what_plain_python_gives(log, window):
    period, sensors, ts, values, edges = log
    plain = PlainGrid(period, window, sensors)
    for index, (stamp, row) in enumerate(zip(ts, values, strict=True)):
        plain.add(index, stamp, row)

    grid = Grid(period, window, sensors)
    seen = [(float("nan"),) * sensors] * (window - 1)
    found = PlainGrid(period, window, sensors)
    for start, stop in pairwise(edges):
        block = grid.place(
            np.array(ts[start:stop], np.int64), np.array(values[start:stop], np.float64).reshape(stop - start, sensors)
        )
        assert block.rows.flags.c_contiguous and block.rows.dtype == np.float64
        assert np.array_equal(
            block.rows[: window - 1], np.array(seen[len(seen) - window + 1 :]).reshape(-1, sensors), True
        )
        new = [tuple(row) for row in block.rows[window - 1 :].tolist()]
        seen += new
        found.rows += new
        found.ts += block.ts.tolist()
        found.slots += block.slots.tolist()
        found.source += [index + start if index >= 0 else -1 for index in block.source.tolist()]
        found.duplicate += (block.duplicate + start).tolist()
        found.late += (block.late + start).tolist()

    assert np.array_equal(np.array(found.rows), np.array(plain.rows), equal_nan=True)
    assert (found.ts, found.source, found.slots) == (plain.ts, plain.source, plain.slots)
    assert (found.duplicate, found.late) == (plain.duplicate, plain.late)
    assert grid.newest == plain.newest
    made = sorted(index for index in found.source if index >= 0)
    assert sorted(made + found.duplicate + found.late) == list(range(len(ts)))  # each reading once: the ledger adds up


def place(grid: Grid, ts: list[int]) -> Block:
    return grid.place(np.array(ts, np.int64), np.array(ts, np.float64)[:, None])


def test_the_first_reading_of_a_slot_stands():
    block = place(Grid(MINUTE, 2, 1), [0, MINUTE // 2, MINUTE])
    assert block.source.tolist() == [0, 2] and block.duplicate.tolist() == [1]


def test_a_gap_of_years_costs_no_more_than_a_window():
    grid = Grid(MINUTE, 60, 1)
    place(grid, [0])
    block = place(grid, [3650 * DAY])
    assert len(block.ts) == 61
    assert np.isnan(block.rows[59:-1]).all() and block.rows[-1, 0] == 3650 * DAY
    assert block.ts[-2] == 3650 * DAY - MINUTE


def test_readings_far_apart_come_in_blocks_of_bounded_size():
    ts = np.arange(2_000, dtype=np.int64) * 200 * MINUTE
    values = np.arange(2_000.0)[:, None]
    whole, parts = Grid(MINUTE, 60, 1).place(ts, values), list(Grid(MINUTE, 60, 1).blocks(ts, values))
    assert len(parts) > 10 and max(len(part.ts) for part in parts) <= MOST_ROWS + 61
    for name in ("ts", "slots", "source", "duplicate", "late"):
        assert np.array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name))
    assert np.array_equal(np.concatenate([part.rows[59:] for part in parts]), whole.rows[59:], equal_nan=True)


def test_a_clock_set_back_refuses_until_it_has_caught_up():
    block = place(Grid(MINUTE, 2, 1), [0, 10 * MINUTE, 5 * MINUTE, 10 * MINUTE, 11 * MINUTE])
    assert block.late.tolist() == [2] and block.duplicate.tolist() == [3]
    assert block.source.tolist()[-1] == 4


def test_nothing_in_gives_nothing_out_and_forgets_nothing():
    grid = Grid(MINUTE, 3, 1)
    assert len(place(grid, []).ts) == 0 and grid.newest is None
    place(grid, [MINUTE])
    block = place(grid, [])
    assert len(block.ts) == 0 and block.rows[-1, 0] == MINUTE


def test_the_caller_may_change_its_block_without_harm():
    grid = Grid(MINUTE, 3, 1)
    place(grid, [0, MINUTE]).rows[:] = -1
    assert place(grid, [2 * MINUTE]).rows.ravel().tolist() == [0, MINUTE, 2 * MINUTE]


@pytest.mark.parametrize("wrong", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_a_grid_without_size_is_refused(wrong):
    with pytest.raises(ValueError, match="must be positive"):
        Grid(*wrong)
