"""Labels among the readings: a column that was made from what the model is to find out.

| a sensor | is |
|---|---|
| with few values, which tell labelled rows from all others | a leak |
| whose values in labelled time lie apart from all others by five times their own spread, on every device | a leak |
| named like a label (``is_fault``, ``target``, ``rul``), which tells them apart on the whole | a leak |

A real sensor may tell faults well. It does not do so without exception, from the first labelled row to the last.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fieldwatch_trainer.checks.finding import Finding
from fieldwatch_trainer.checks.series import Series, thinned

FEW_VALUES = 6
BALANCED = 0.95
APART = 5.0
NAMED = 0.8
LEAST = 5
"""Labelled rows, and rows without a label, that a device must have."""
_NAME = re.compile(
    r"(is|has|y|flag|state|status)?_?(faulty?|fault|anomal(y|ous|ies)|labels?|target|fail(ed|ure)?|broken|defect|rul|ttf"
    r"|remaining_?useful_?life|time_?to_?failure|ground_?truth|class)_?(label|flag|id|type|code|state|prob(ability)?|"
    r"score|in_.*)?",
    re.IGNORECASE,
)
_REMEDY = "leave the column out of the readings: on a device nobody writes it"


@dataclass
class Evidence:
    """What is known of one sensor over the devices so far."""

    sensor: str
    values: dict[float, list[int]] | None = field(default_factory=dict)
    """Rows without and with a label by value; None once there are too many values."""
    apart: bool = True
    devices: int = 0
    ranks: list[float] = field(default_factory=list)

    def add(self, series: Series, labelled: NDArray[np.bool_]) -> None:
        """Fold one device in; ``labelled`` bool ``[m]``: fault or anomaly. Rows of maintenance count for neither."""
        positive = series.x[series.rows[labelled[series.rows]]]
        negative = series.x[series.calm]
        if self.values is not None and not self._count(negative, positive):
            self.values = None
        if len(positive) < LEAST or len(negative) < LEAST:
            return
        self.devices += 1
        self.apart &= _apart(negative, positive)
        self.ranks.append(_rank(negative, positive))

    def _count(self, negative: NDArray[np.float64], positive: NDArray[np.float64]) -> bool:
        assert self.values is not None
        for place, part in enumerate((negative, positive)):
            if len(np.unique(part[:1000])) > FEW_VALUES:
                return False
            for value, count in zip(*np.unique(part, return_counts=True), strict=True):
                self.values.setdefault(float(value), [0, 0])[place] += int(count)
        return len(self.values) <= FEW_VALUES

    def findings(self, labelled: bool) -> Iterator[Finding]:
        """Tell whether it is a leak; ``labelled``: whether the type has any labelled time."""
        named = _NAME.fullmatch(self.sensor) is not None
        rank = float(np.mean(self.ranks)) if self.ranks else 0.5
        balanced = self._balanced()
        if balanced >= BALANCED:
            what = f"its {len(self.values or ())} values tell labelled rows from all others ({balanced:.1%} right)"
        elif self.devices and self.apart:
            what = "in labelled time it lies apart from all its other values, from the first row to the last"
        elif named and (abs(rank - 0.5) > NAMED - 0.5 or (not labelled and self.values is not None)):
            what = "it is named like a label" + (f", and tells labelled rows (AUC {rank:.2f})" if labelled else "")
        else:
            return
        yield Finding("leak", what, _REMEDY, sensor=self.sensor)

    def _balanced(self) -> float:
        """Return the mean share of rows of both kinds that are right where each value stands for one kind."""
        if self.values is None or len(self.values) < 2:
            return 0.0
        counts = np.array(list(self.values.values()), float)
        whole = counts.sum(axis=0)
        if not whole.all():
            return 0.0
        shares = counts / whole
        return float(np.maximum(shares[:, 0], shares[:, 1]).sum() / 2)


def _apart(negative: NDArray[np.float64], positive: NDArray[np.float64]) -> bool:
    """Tell whether two groups of values lie apart by far more than either is wide."""
    gap = max(positive.min() - negative.max(), negative.min() - positive.max())
    widths = (float(np.ptp(np.quantile(thinned(part), (0.05, 0.95)))) for part in (negative, positive))
    return bool(gap > 0 and gap > APART * max(widths))


def _rank(negative: NDArray[np.float64], positive: NDArray[np.float64]) -> float:
    """Return the area under ROC of the values, ties counted half."""
    low, high = np.sort(thinned(negative)), thinned(positive)
    below = np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")
    return float(below.mean() / 2 / len(low))
