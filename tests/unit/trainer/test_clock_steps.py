"""A clock that was set is told, with the time and the size; what only looks like one is not."""

from __future__ import annotations

import numpy as np
import pytest
from fieldwatch_trainer.checks.steps import findings, steps
from numpy.typing import NDArray

MINUTE = 60_000_000
START = 1_767_225_617_000_000
ROWS = 2000


def regular(period: int = 5 * MINUTE, jitter: float = 0.0) -> NDArray[np.int64]:
    moved = np.random.default_rng(3).normal(0, jitter, ROWS) * period
    return np.asarray(START + np.arange(ROWS) * period + moved.astype(np.int64))


def stepped(ts: NDArray[np.int64], *moves: tuple[int, int]) -> NDArray[np.int64]:
    """The clock moves by so many µs from a row on; an export sorts by time."""
    ts = ts.copy()
    for row, by in moves:
        ts[row:] += by
    return np.sort(ts)


@pytest.mark.parametrize("period", [MINUTE // 4, 5 * MINUTE, 10 * MINUTE])
@pytest.mark.parametrize("jitter", [0.0, 0.01])
@pytest.mark.parametrize("by", [4 * MINUTE + 4_000_000, -6 * MINUTE - 4_000_000])
def test_a_step_of_minutes_in_the_middle_is_told(period: int, jitter: float, by: int) -> None:
    ts = regular(period, jitter)
    ((when, size),) = steps(stepped(ts, (ROWS // 2 + 7, by)), period)
    assert abs(when - int(ts[ROWS // 2 + 7]) - by) <= 0.1 * period and abs(size - by) <= 0.1 * period


def test_steps_there_and_back_are_one_finding() -> None:
    (told,) = findings("press-0", stepped(regular(), (700, 4 * MINUTE), (1300, -6 * MINUTE)), 5 * MINUTE)
    assert told.kind == "clock-step" and told.severity == "told" and told.device == "press-0"
    assert "moved by +4 min at 2026-01-03T10:24:17Z, by -6 min at 2026-01-05T12:18:17Z" in told.what
    assert (told.start, told.end) == (START + 3504 * MINUTE, START + 6498 * MINUTE)


@pytest.mark.parametrize(
    "ts",
    [
        regular(jitter=0.02), regular(jitter=0.3), regular()[np.random.default_rng(1).random(ROWS) > 0.2],
        START + (np.arange(ROWS) * 5 * MINUTE * 1.003).astype(np.int64),  # a clock that runs slow
        stepped(regular(), (700, 20_000_000)),  # set by seconds, which moves nothing
        stepped(regular(), (700, 300 * MINUTE + 2 * MINUTE)),  # off for five hours
        stepped(regular(), (700, 2 * MINUTE), (710, -2 * MINUTE)),  # a few readings that are late
        np.repeat(regular(), 2), regular()[:30], regular()[:0],
    ],
    ids=["jitter", "no phase", "missing", "slow", "seconds", "off", "late", "twice", "few", "none"],
)  # fmt: skip
def test_what_is_no_step_is_not_told(ts: NDArray[np.int64]) -> None:
    assert list(findings("press-0", ts, 5 * MINUTE)) == []
