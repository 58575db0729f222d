"""The kernel's two promises: the same bits however rows are cut, and the value that exact arithmetic gives."""

from __future__ import annotations

import warnings
from fractions import Fraction
from itertools import pairwise
from math import isnan, sqrt

import numpy as np
import pytest
from fieldwatch_contract.features import ROWS, STATISTICS, FeatureSpec, compute
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

DEFAULT = FeatureSpec()
EPS32 = 2.0**-23

specs = st.builds(
    FeatureSpec,
    windows=st.sets(st.integers(1, 70), min_size=1, max_size=4).map(lambda w: tuple(sorted(w))),
    statistics=st.lists(st.sampled_from(STATISTICS), min_size=1, unique=True).map(tuple),
)
kinds = st.sampled_from(["noise", "far", "steps", "huge"])


def readings(seed: int, rows: int, sensors: int, missing: float, kind: str) -> np.ndarray:
    """Plausible and implausible sensor values with a share of NaN, and one dead sensor where there are several."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, sensors))
    match kind:
        case "far":
            values = 1e9 + 1e-3 * values
        case "steps":
            values = np.round(values) * 7.5
        case "huge":
            values *= 10.0 ** rng.integers(-300, 300, size=values.shape)
    values[rng.random(values.shape) < missing] = np.nan
    if sensors > 1 and missing:
        values[:, 0] = np.nan
    return values


def in_blocks(values: np.ndarray, cuts: list[int], spec: FeatureSpec) -> np.ndarray:
    """Compute block by block as an agent does: each with the rows before it, no more than the window."""
    edges = sorted({0, len(values), *(cut % (len(values) + 1) for cut in cuts)})
    parts = []
    for start, stop in pairwise(edges):
        history = max(0, start - spec.longest + 1)
        parts.append(compute(values[history:stop], stop - start, spec))
    return np.concatenate(parts)


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return one.dtype == other.dtype == np.float32 and one.shape == other.shape and one.tobytes() == other.tobytes()


@given(
    st.integers(0, 2**32), st.integers(1, 3 * ROWS), st.sampled_from([1, 2, 7, 100]),
    st.sampled_from([0.0, 0.005, 0.3, 0.97]), kinds, specs, st.lists(st.integers(0, 10_000), max_size=8),
)  # fmt: skip
def test_any_cut_gives_the_same_bits(seed, rows, sensors, missing, kind, spec, cuts):
    values = readings(seed, rows, sensors, missing, kind)
    whole = compute(values, rows, spec)
    assert whole.shape == (rows, spec.width(sensors))
    assert same_bits(whole, in_blocks(values, cuts, spec))


@pytest.mark.parametrize("sensors", [1, 2, 7, 100])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_a_stream_of_single_rows_gives_the_bits_of_the_batch(sensors, missing):
    values = readings(sensors, 2 * ROWS + 5, sensors, missing, "far")
    assert same_bits(compute(values, len(values), DEFAULT), in_blocks(values, list(range(len(values))), DEFAULT))


@given(arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=st.floats(allow_infinity=False)))
def test_absurd_numbers_keep_the_bits_and_warn_nobody(values):
    spec = FeatureSpec(windows=(3, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same_bits(compute(values, len(values), spec), in_blocks(values, list(range(30)), spec))


@given(st.integers(0, 2**32), specs, st.sampled_from([0.0, 0.3]))
def test_a_spec_asks_for_columns_and_changes_none(seed, spec, missing):
    """Fewer statistics or windows give the columns that all of them would give."""
    values = readings(seed, 40, 3, missing, "noise")
    part = compute(values, 40, spec).reshape(40, len(spec.windows), len(spec.statistics), 3)
    wide = FeatureSpec(windows=spec.windows)
    full = compute(values, 40, wide).reshape(40, len(spec.windows), len(STATISTICS), 3)
    for place, statistic in enumerate(spec.statistics):
        assert same_bits(part[:, :, place].copy(), full[:, :, STATISTICS.index(statistic)].copy())
    for place, window in enumerate(spec.windows):
        alone = compute(values, 40, FeatureSpec(windows=(window,), statistics=spec.statistics))
        # the pivot may be older than this window, but never for a window that holds a value
        assert same_bits(alone.reshape(40, len(spec.statistics), 3), part[:, place].copy())


def test_a_minus_before_zero_means_nothing():
    """Which of -0.0 and 0.0 is the minimum depends on the order of comparison, so neither may reach it."""
    values = np.array([[-0.0, 0.0], [0.0, -0.0], [-0.0, -0.0]])
    assert same_bits(compute(values, 3, DEFAULT), compute(np.zeros((3, 2)), 3, DEFAULT))


def test_order_of_memory_and_of_sensors_changes_nothing():
    values = readings(3, 100, 6, 0.2, "noise")
    whole = compute(values, 100, DEFAULT)
    assert same_bits(whole, compute(np.asfortranarray(values), 100, DEFAULT))
    assert same_bits(whole, compute(values[:, ::-1], 100, DEFAULT).reshape(100, -1, 6)[:, :, ::-1].reshape(100, -1))


def test_rows_older_than_the_window_are_not_seen():
    values = readings(5, 200, 4, 0.1, "noise")
    other = values.copy()
    other[: 200 - 60 - 9] += 1e6
    assert same_bits(compute(values, 10, DEFAULT), compute(other, 10, DEFAULT))
    assert not same_bits(compute(values, 11, DEFAULT), compute(other, 11, DEFAULT))


def test_no_rows_give_no_features():
    assert compute(np.zeros((3, 2)), 0, DEFAULT).shape == (0, DEFAULT.width(2))


@pytest.mark.parametrize("count", [-1, 4])
def test_a_count_that_rows_cannot_give_is_refused(count):
    with pytest.raises(ValueError, match=r"outside 0\.\.3"):
        compute(np.zeros((3, 1)), count, DEFAULT)


@pytest.mark.parametrize("windows", [(), (0,), (5, 5), (15, 5)])
def test_a_spec_with_wrong_windows_is_refused(windows):
    with pytest.raises(ValueError):
        FeatureSpec(windows=windows)


def test_names_follow_the_layout():
    spec = FeatureSpec(windows=(2, 3), statistics=("last", "max"))
    values = np.array([[1.0, 10.0], [4.0, 20.0], [2.0, 30.0]])
    row = dict(zip(spec.names(["a", "b"]), compute(values, 1, spec)[0].tolist(), strict=True))
    assert row == {
        "a.last.2": 2, "b.last.2": 30, "a.max.2": 4, "b.max.2": 30,
        "a.last.3": 2, "b.last.3": 30, "a.max.3": 4, "b.max.3": 30,
    }  # fmt: skip


# ---- against exact arithmetic ----------------------------------------------------------------------------------


def nasty() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    n = 90
    noise = rng.normal(size=n)
    spike = 1e-9 * noise
    spike[70] = 1e7
    gaps = np.where(rng.random(n) < 0.3, np.nan, 20 + noise)
    sparse = np.full(n, np.nan)
    sparse[[10, 47, 80]] = [1e9, -3.5, 1e9 + 1e-3]
    return {
        "offset 1e9, motion 1e-3": 1e9 + 1e-3 * noise,
        "noise of 1e-9": 1e-9 * noise,
        "constant": np.full(n, 0.1),
        "constant, huge": np.full(n, 1e300),
        "spike of 1e7": spike,
        "ramp": 1e6 + 0.25 * np.arange(n),
        "gaps": gaps,
        "three values": sparse,
        "never": np.full(n, np.nan),
    }


def exact(column: np.ndarray, window: int) -> dict[str, float]:
    """Return the statistics of the last ``window`` rows from rational numbers, rounded once at the end."""
    seen = [(k, Fraction(float(x))) for k, x in enumerate(column[::-1][:window].tolist()) if not isnan(x)]
    if not seen:
        return dict.fromkeys(STATISTICS, float("nan"))
    n = len(seen)
    mean = sum(x for _, x in seen) / n
    age = Fraction(sum(k for k, _ in seen), n)
    spread = sum((k - age) ** 2 for k, _ in seen)
    slope = -sum((k - age) * (x - mean) for k, x in seen) / spread if spread else Fraction(0)
    return {
        "mean": float(mean),
        "std": sqrt(sum((x - mean) ** 2 for _, x in seen) / n),
        "min": float(min(x for _, x in seen)),
        "max": float(max(x for _, x in seen)),
        "last": float(seen[0][1]),
        "slope": float(slope),
    }


@pytest.mark.parametrize("name", nasty())
def test_the_kernel_agrees_with_exact_arithmetic(name):
    """Beyond the rounding to float32, no more than 1e-12 of the size of what is summed, for every prefix."""
    column = nasty()[name]
    got = compute(column[:, None], len(column), DEFAULT).reshape(len(column), 3, len(STATISTICS))
    for row in range(len(column)):
        for place, window in enumerate(DEFAULT.windows):
            want = exact(column[: row + 1], window)
            for index, statistic in enumerate(STATISTICS):
                value, true = float(got[row, place, index]), want[statistic]
                if isnan(true):
                    assert isnan(value)
                    continue
                rounded = float(np.float32(true)) if abs(true) < 3e38 else float("inf")
                if statistic in {"min", "max", "last"} or name.startswith("constant"):
                    assert value == rounded, (row, window, statistic)
                    continue
                scale = {"mean": abs(true) + want["std"], "std": want["std"], "slope": want["std"]}[statistic]
                assert abs(value - true) <= EPS32 * abs(true) + 1e-12 * scale, (row, window, statistic, value, true)


def test_a_centre_is_subtracted_before_anything_else_and_changes_no_bit_of_the_rest():
    rng = np.random.default_rng(3)
    rows = np.round(rng.normal(size=(300, 3)), 3)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    centre = (0.0, 2.0**30, -(2.0**20))
    spec = FeatureSpec(windows=(3, 10), centre=centre)
    moved = compute(rows + centre, 300, spec)
    rounded = (rows + centre) - centre
    np.testing.assert_array_equal(moved, compute(rounded, 300, FeatureSpec(windows=(3, 10))))
    parts = [
        compute((rows + centre)[max(0, start - 9) : start + 7], min(7, 300 - start), spec) for start in range(0, 300, 7)
    ]
    assert np.concatenate(parts).tobytes() == moved.tobytes()
    with pytest.raises(ValueError, match="centre has 3 numbers for 2 sensors"):
        compute(rows[:, :2], 10, spec)
