"""The feature kernel in batch against what people would use instead: the same six statistics over 5, 15, 60 rows.

Everybody starts from the rows in the form that is native to it (numpy array, pandas and polars frame, River's
dictionaries) and ends with float32 ``[rows, 1800]``, which is what a model is fed (River: with its statistics). All
results are compared. The slope is least squares over the values that are there; peers get it from rolling sums over
the values and their positions, the fastest way to the right answer. A cheaper one, right only in windows without a
gap, is measured too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from fieldwatch_contract.features import STATISTICS, compute
from numpy.typing import NDArray

from bench.material import MISSING, NAMES, SENSORS, SPEC, readings
from bench.rounds import take_turns

Features = NDArray[np.float32]


def with_pandas(frame: Any, gaps: bool = True) -> Features:
    """Rolling statistics as the pandas manual would have them; without ``gaps`` the cheap slope."""
    n = len(frame)
    out = np.empty((n, len(SPEC.windows), len(STATISTICS), SENSORS), np.float32)
    position = np.arange(n, dtype=float)
    weighted = frame.mul(position, axis=0)
    if gaps:
        here = frame.notna().astype(float)
        at, squared = here.mul(position, axis=0), here.mul(position**2, axis=0)
    for place, window in enumerate(SPEC.windows):

        def rolled(of: Any, window: int = window) -> Any:
            return of.rolling(window, min_periods=1).sum().to_numpy()

        rolling = frame.rolling(window, min_periods=1)
        out[:, place, 0] = rolling.mean().to_numpy()
        out[:, place, 1] = rolling.std(ddof=0).to_numpy()
        out[:, place, 2] = rolling.min().to_numpy()
        out[:, place, 3] = rolling.max().to_numpy()
        out[:, place, 4] = frame.ffill(limit=window - 1).to_numpy()
        sx, sxt = rolled(frame), rolled(weighted)
        if gaps:
            count, st, stt = rolled(here), rolled(at), rolled(squared)
            spread = count * stt - st * st
            out[:, place, 5] = np.where(spread > 0.5, (count * sxt - st * sx) / np.maximum(spread, 0.5), sx * 0)
        else:
            out[:, place, 5] = (sxt - (position - (window - 1) / 2)[:, None] * sx) / ((window**3 - window) / 12)
    return out.reshape(n, -1)


def with_polars(frame: Any, gaps: bool = True) -> Features:
    """The same as polars expressions, six selects a window."""
    import polars as pl

    n = len(frame)
    out = np.empty((n, len(SPEC.windows), len(STATISTICS), SENSORS), np.float32)
    x = pl.all()
    position = pl.int_range(pl.len()).cast(pl.Float64)
    here = x.is_not_null().cast(pl.Float64)
    for place, window in enumerate(SPEC.windows):

        def rolled(of: Any, window: int = window) -> Any:
            return of.rolling_sum(window, min_samples=1)

        if gaps:
            count, st, stt = rolled(here), rolled(here * position), rolled(here * position * position)
            spread = count * stt - st * st
            slope = (count * rolled(x * position) - st * rolled(x)) / spread
        else:
            slope = (rolled(x * position) - (position - (window - 1) / 2) * rolled(x)) / ((window**3 - window) / 12)
        for index, expression in enumerate((
            x.rolling_mean(window, min_samples=1),
            x.rolling_std(window, min_samples=1, ddof=0),
            x.rolling_min(window, min_samples=1),
            x.rolling_max(window, min_samples=1),
            x.forward_fill(window - 1),
            slope,
        )):  # fmt: skip
            out[:, place, index] = frame.select(expression).to_numpy()
    return out.reshape(n, -1)


def with_river(rows: list[dict[str, float]]) -> int:
    """Rolling mean, variance, minimum and maximum, updated reading by reading; River has no rolling slope."""
    from river import stats, utils

    features: list[tuple[str, list[Any]]] = [
        (name, [make() for window in SPEC.windows for make in (
            lambda w=window: utils.Rolling(stats.Mean(), w), lambda w=window: utils.Rolling(stats.Var(ddof=0), w),
            lambda w=window: stats.RollingMin(w), lambda w=window: stats.RollingMax(w),
        )])
        for name in NAMES
    ]  # fmt: skip
    made = 0
    for row in rows:
        for name, statistics in features:
            value = row[name]
            for statistic in statistics:
                statistic.update(value)
                made += statistic.get() is not None
    return made


def check(rows: NDArray[np.float64], ours: Features, peer: Features) -> None:
    """Assert that the peer computed the same, as far as its running sums and one value alone in a window let it."""
    shape = (len(rows), len(SPEC.windows), len(STATISTICS), SENSORS)
    a, b = ours.reshape(shape), peer.reshape(shape)
    seen = np.cumsum(~np.isnan(rows), axis=0)
    for place, window in enumerate(SPEC.windows):
        several = seen > 1
        several[window:] = seen[window:] - seen[:-window] > 1
        for index, statistic in enumerate(STATISTICS):
            where = several if statistic == "slope" else np.ones(rows.shape, bool)
            tolerance = 2e-3 if statistic in {"std", "slope"} else 1e-4
            assert np.allclose(a[:, place, index][where], b[:, place, index][where], 1e-3, tolerance, equal_nan=True), (
                f"{statistic} over {window} rows differs"
            )


def run(quick: bool) -> dict[str, Any]:
    """Measure; correctness is asserted on the same rows."""
    import pandas as pd
    import polars as pl

    count, rounds = (600, 1) if quick else (10_000, 7)
    rows = readings(count)
    pandas_frame = pd.DataFrame(rows, columns=NAMES)
    polars_frame = pl.DataFrame(rows, schema=NAMES).fill_nan(None)
    river_rows = [dict(zip(NAMES, row, strict=True)) for row in np.nan_to_num(rows[: 20 if quick else 100]).tolist()]

    ours = compute(rows, count, SPEC)
    streamed = np.concatenate([compute(rows[max(0, i - 59) : i + 1], 1, SPEC) for i in range(count - 100, count)])
    assert streamed.tobytes() == ours[-100:].tobytes(), "one row at a time gives other bits than the batch"
    check(rows, ours, with_pandas(pandas_frame))
    check(rows, ours, with_polars(polars_frame))

    times = take_turns(
        {
            "kernel": lambda: compute(rows, count, SPEC),
            "pandas": lambda: with_pandas(pandas_frame),
            "polars": lambda: with_polars(polars_frame),
            "pandas, cheap slope": lambda: with_pandas(pandas_frame, gaps=False),
            "polars, cheap slope": lambda: with_polars(polars_frame, gaps=False),
            "river": lambda: with_river(river_rows),
        },
        rounds,
    )
    one = take_turns({"row": lambda: compute(rows[-60:], 1, SPEC)}, 50).median("row")
    per_reading = times.median("kernel") / rows.size
    river = times.median("river") / (len(river_rows) * SENSORS)
    return {
        "what": f"{count} rows x {SENSORS} sensors, {MISSING:.1%} missing, 6 statistics over {SPEC.windows} rows",
        "rounds": rounds,
        "million readings/s": round(1e-6 / per_reading, 2),
        "times faster than pandas rolling": times.faster("kernel", "pandas"),
        "times faster than polars rolling": times.faster("kernel", "polars"),
        "times faster than pandas with a slope wrong at gaps": times.faster("kernel", "pandas, cheap slope"),
        "times faster than polars with a slope wrong at gaps": times.faster("kernel", "polars, cheap slope"),
        "times faster than River (4 of the 6 statistics)": round(river / per_reading),
        "one row, µs": round(one * 1e6),
    }
