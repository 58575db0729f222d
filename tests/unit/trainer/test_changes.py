"""Changes of unit in a device that works in jobs: its levels come and go, so only whole distributions tell."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from fieldwatch_trainer.checks.changes import changes
from fieldwatch_trainer.checks.series import Series

from tests.lakes import MINUTE, START

ROWS = 6000
AT = 2900


def jobs(seed: int) -> np.ndarray:
    """A temperature between idle (about 24) and a job's own level (40 to 60), a job every few hours."""
    rng = np.random.default_rng(seed)
    target = np.full(ROWS, 24.0)
    start = 0
    while start < ROWS:
        idle, work = rng.integers(40, 120), rng.integers(60, 240)
        target[start + idle : start + idle + work] = rng.uniform(40, 60)
        start += idle + work
    value = np.zeros(ROWS)
    value[0] = 24.0
    for row in range(1, ROWS):
        value[row] = value[row - 1] + 0.15 * (target[row] - value[row - 1])
    return np.asarray(np.round(value + 0.2 * rng.standard_normal(ROWS), 2))


def found(values: np.ndarray) -> list[tuple[int, float | None]]:
    ts = START + np.arange(ROWS) * MINUTE
    series = Series("d", "s", ts, values, np.ones(ROWS, bool), MINUTE)
    return [(one.place, one.how.factor if one.how else None) for one in changes(series)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("change", "factor"),
    [(lambda x: 1.8 * x + 32, 1.8), (lambda x: x * 100, 100.0), (lambda x: x / 1000, 0.001), (lambda x: -x, -1.0)],
)
def test_a_change_of_unit_is_found_between_jobs(
    seed: int, change: Callable[[np.ndarray], np.ndarray], factor: float
) -> None:
    values = jobs(seed)
    assert found(values) == [], "jobs alone are no change"
    values[AT:] = change(values[AT:])
    ((place, how),) = found(values)
    assert how == pytest.approx(factor)
    assert abs(place - AT) <= 3


@pytest.mark.parametrize("seed", range(4))
def test_a_load_that_doubles_is_no_change_of_unit(seed: int) -> None:
    values = jobs(seed) - 23
    values[AT:] *= 2.2
    assert all(how is None for _, how in found(values))


@pytest.mark.parametrize("seed", range(4))
def test_a_load_that_shifts_is_no_change_from_celsius_to_kelvin(seed: int) -> None:
    """A fan at 2,000 ± 400 rpm wanders by some hundreds: an offset within the spread says nothing of a unit."""
    values = 2000 + 25 * (jobs(seed) - 40)
    values[AT:] += 290
    assert all(how is None for _, how in found(values))
