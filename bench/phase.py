"""Faults between sensors, none within one: does the detector see what no look at single sensors can?

    python -m bench.phase

In most public sets no fault shows between sensors only: they cannot tell whether a detector looks there. Here sensors
swing together (:func:`tests.lakes.in_step`) and one at a time falls out of step, slowly; its values, their spread and
its rhythm stay as they were. Average precision of the labelled rows, beside scores that look at each sensor alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from fieldwatch_trainer.baselines import moving_variance
from fieldwatch_trainer.metrics import average_precision, vus_pr
from fieldwatch_trainer.models import DeviceRows
from fieldwatch_trainer.models.detector import Detector
from numpy.typing import NDArray

from tests.lakes import MINUTE, in_step

Floats = NDArray[np.float64]
ROWS, SENSORS, LAGS, SMOOTH = 4000, 4, 5, 10
SHIFTS = ((600, 800, 1), (1500, 1700, 2), (2400, 2600, 3))
RADIANS = (0.7, 1.5, 3.0)


@dataclass(frozen=True)
class OneDevice:
    """:class:`.models.TrainingData` of one device without a label."""

    rows: Floats
    device_type: str = "press"
    period: int = MINUTE

    @property
    def sensors(self) -> list[str]:
        """Names, as many as columns."""
        return [f"s{place}" for place in range(self.rows.shape[1])]

    def __iter__(self) -> Iterator[DeviceRows]:
        """Yield it."""
        count = len(self.rows)
        yield DeviceRows(
            "press-0", np.arange(count) * MINUTE, self.rows, np.ones(count, bool), np.zeros(count, np.int8)
        )


def run(radians: float) -> dict[str, tuple[float, float]]:
    """Return average precision and VUS-PR by score; ``share``: of a constant score."""
    learn = in_step(ROWS, SENSORS, 0)
    test = in_step(ROWS, SENSORS, 1, [(*shift, radians) for shift in SHIFTS])
    positive = np.zeros(ROWS, bool)
    for first, last, _ in SHIFTS:
        positive[first : last + 1] = True
    mean, sd = learn.mean(axis=0), learn.std(axis=0)
    z = np.abs((test - mean) / sd)
    scores = {
        "detector": np.asarray(Detector().fit(OneDevice(learn)).reference(test), np.float64).ravel(),
        "largest z of a sensor": z.max(axis=1),
        "moving variance": moving_variance(test, sd, 0, ROWS).astype(np.float64),
        "own autoregression of each sensor": _own(learn, test),
        "share": np.zeros(ROWS),
    }
    return {name: (average_precision(positive, s) or 0.0, vus_pr(positive, s) or 0.0) for name, s in scores.items()}


def _own(learn: Floats, test: Floats) -> Floats:
    """Return the largest residual of each sensor's own autoregression, in its training sd, mean of the last rows."""
    worst = np.zeros(len(test))
    for place in range(learn.shape[1]):
        a, b = (_lagged(rows[:, place]) for rows in (learn, test))
        weights = np.linalg.lstsq(a, learn[LAGS:, place], rcond=None)[0]
        spread = (learn[LAGS:, place] - a @ weights).std()
        worst[LAGS:] = np.maximum(worst[LAGS:], np.abs(test[LAGS:, place] - b @ weights) / spread)
    return np.convolve(worst, np.ones(SMOOTH) / SMOOTH)[: len(test)]


def _lagged(values: Floats) -> Floats:
    past = [values[LAGS - lag : len(values) - lag] for lag in range(1, LAGS + 1)]
    return np.stack([*past, np.ones(len(values) - LAGS)], axis=1)


def main() -> int:
    """Print a line a score and size of the shift."""
    print(f"{'out of step by':<36}" + "".join(f"{radians:>14.1f} rad" for radians in RADIANS))
    found = {radians: run(radians) for radians in RADIANS}
    for name in found[RADIANS[0]]:
        cells = "".join(f"{found[r][name][0]:>11.3f}/{found[r][name][1]:.3f} " for r in RADIANS)
        print(f"{name:<36}{cells}")
    print("average precision/VUS-PR")
    return 0


if __name__ == "__main__":
    sys.exit(main())
