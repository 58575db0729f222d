"""Training against recent distribution: the newest ninth of each device's normal rows against the eight before it.

Values are counted in bins at the device's own quantiles and compared by the population stability index. The usual fixed
limits (0.1, 0.25) are wrong: chance alone gives about (bins - 1)(1/n + 1/m) for independent rows, and far more for
sensors that remember. So each earlier ninth is held against the others too, and the recent one stands out only where it
moved more than twice as far as any of them did.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fieldwatch_trainer.checks.finding import Finding
from fieldwatch_trainer.checks.series import SAMPLE, Series
from fieldwatch_trainer.checks.values import SensorReport

BLOCKS = 9
BINS = 20
RATIO = 2.0
LEAST = 0.2


def distribution(series: Series) -> NDArray[np.float64]:
    """Count one sensor's normal values by ninth of the rows and bin, ``[BLOCKS, BINS]``; zeros where too few."""
    counts = np.zeros((BLOCKS, BINS))
    step = max(1, len(series.x) // SAMPLE)
    values, free = series.x[::step], series.free[::step]
    if len(values) < BLOCKS * BINS * 2:
        return counts
    block = np.arange(len(values)) * BLOCKS // len(values)
    valid = np.isfinite(values) & free
    train = values[valid & (block < BLOCKS - 1)]
    if len(train) < BINS * 10:
        return counts
    edges = np.quantile(train, np.linspace(0, 1, BINS + 1)[1:-1])
    np.add.at(counts, (block[valid], np.searchsorted(edges, values[valid], side="left")), 1)
    return counts


def psi(expected: NDArray[np.float64], actual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the population stability index of counts ``[…, bins]``, half a count added to each bin."""
    bins = expected.shape[-1]
    e = (expected + 0.5) / (expected.sum(-1, keepdims=True) + 0.5 * bins)
    a = (actual + 0.5) / (actual.sum(-1, keepdims=True) + 0.5 * bins)
    return np.asarray(((a - e) * np.log(a / e)).sum(-1))


def judge(reports: Sequence[SensorReport], counts: NDArray[np.float64]) -> Iterator[Finding]:
    """``counts`` ``[S, BLOCKS, BINS]``: hold the newest block against the others, and each of those likewise."""
    train, recent = counts[:, :-1], counts[:, -1]
    total = train.sum(axis=1)
    moved = psi(total, recent)
    before = psi(total[:, None] - train, train).max(axis=1)
    for place, one in enumerate(reports):
        n, m = float(total[place].sum()), float(recent[place].sum())
        if not n or not m or one.low == one.high:
            continue
        one.psi, one.psi_before = float(moved[place]), float(before[place])
        one.psi_chance = (BINS - 1) * (1 / n + 1 / m)
        if one.psi > RATIO * one.psi_before and one.psi > LEAST + one.psi_chance:
            what = f"the newest ninth of the rows is unlike the rest (PSI {one.psi:.2f}; never above "
            what += f"{one.psi_before:.2f} before, {one.psi_chance:.3f} by chance alone)"
            yield Finding("drift", what, "wait for more readings like the newest, and train again", sensor=one.sensor)
