"""Values that are no measurements, and sensors that say nothing: codes for "no value", outliers, constants, counters.

Counts are of one sensor over the devices of a type (:class:`SensorReport`); what has a time and a place is a finding
at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from fieldwatch_contract.reading.sentinels import Suspect, suspects

from fieldwatch_trainer.checks.finding import Finding
from fieldwatch_trainer.checks.series import Series, thinned

ABSURD = 1000.0
"""Values further from the median than this many times the 1..99 % spread are probably no measurements."""
COUNTER_ROWS = 300


@dataclass
class SensorReport:
    """Counts of one sensor over the devices of a type.

    ``rows``: readings of the devices that have it. ``psi*`` are None where there were too few rows.
    """

    sensor: str
    low: float | None = None
    high: float | None = None
    rows: int = 0
    missing: int = 0
    infinite: int = 0
    outliers: int = 0
    constant_on: int = 0
    absent_on: int = 0
    growing_on: int = 0
    psi: float | None = None
    psi_chance: float | None = None
    psi_before: float | None = None


def codes(series: Series) -> Iterator[tuple[Finding, Suspect]]:
    """Find values that stand for none."""
    for suspect in suspects(series.x):
        value, count = f"{suspect.value:.12g}", len(suspect.rows)
        share = count / max(1, len(series.rows))
        what = f"{value} comes {count} times ({share:.1%} of its values), far from all others"
        kind, doubt = ("sentinel", "") if suspect.sure else ("dropout", ", in short dropouts")
        remedy = f"export it as missing (empty); ingest takes --missing {value}, the agent [log] missing = [{value}]"
        if not suspect.sure:
            remedy = f"if it stands for no value, {remedy}"
        first, last = (int(series.ts[suspect.rows[place]]) for place in (0, -1))
        yield Finding(kind, what + doubt, remedy, series.device, series.sensor, first, last), suspect


def count(report: SensorReport, series: Series) -> None:
    """Fold one device's series into the sensor's counts."""
    infinite = int(np.isinf(series.x).sum())
    report.infinite += infinite
    if not len(series.rows):
        report.absent_on += 1
        return
    report.rows += len(series.x)
    report.missing += len(series.x) - len(series.rows) - infinite
    valid = series.x[series.rows]
    low, high = float(valid.min()), float(valid.max())
    report.low = low if report.low is None else min(report.low, low)
    report.high = high if report.high is None else max(report.high, high)
    if low == high:
        report.constant_on += 1
        return
    q01, median, q99 = np.quantile(thinned(valid), (0.01, 0.5, 0.99))
    if q99 > q01:
        report.outliers += int((np.abs(valid - median) > ABSURD * (q99 - q01)).sum())
    report.growing_on += _grows(valid)


def _grows(valid: np.ndarray) -> bool:
    """Tell whether values only ever rise (or fall), a counter's resets apart."""
    steps = np.diff(valid)
    moving = int((steps != 0).sum())
    one_way = max(int((steps > 0).sum()), int((steps < 0).sum()))
    return len(valid) >= COUNTER_ROWS and moving > 0.02 * len(steps) and one_way >= 0.999 * moving


def judge(reports: Sequence[SensorReport], devices: int, readings: int, valid_rows: int) -> Iterator[Finding]:
    """Judge the counts of a type's sensors over ``devices`` devices; ``valid_rows``: readings with any value."""
    if not devices:
        return
    constant = [one for one in reports if one.low is not None and one.low == one.high]
    absent = [one for one in reports if one.low is None]
    if len(constant) + len(absent) == len(reports):
        yield Finding(
            "nothing-varies", "every sensor is constant or empty on every device", "were the right columns exported?"
        )
        return
    if readings and valid_rows < readings / 2:
        what = f"{readings - valid_rows} of {readings} readings have no value at all"
        yield Finding("no-values", what, "export the sensors' columns, or leave such rows out")
    for one in reports:
        name = one.sensor
        if one in constant:
            yield Finding("constant", "never changes on any device", "leave the column out", sensor=name)
        elif one in absent:
            yield Finding("empty", "has no value on any device", "leave the column out", sensor=name)
        elif one.missing > one.rows / 2:
            what = f"{one.missing / one.rows:.0%} of its values are missing on the devices that have it"
            yield Finding("missing", what, "right if it is read less often; else look at the export", sensor=name)
        if one.infinite:
            what = f"{one.infinite} values are infinite or absurd"
            yield Finding("infinite", what, "export them as missing", sensor=name)
        if one.outliers:
            what = f"{one.outliers} values lie far outside the rest (from {one.low:.6g} to {one.high:.6g})"
            yield Finding("outliers", what, "if they are codes, export them as missing", sensor=name)
        if one.growing_on and one.growing_on == devices - one.absent_on - one.constant_on:
            what = "only ever grows: a counter or a clock"
            yield Finding("counter", what, "leave it out, or export its difference", sensor=name)
