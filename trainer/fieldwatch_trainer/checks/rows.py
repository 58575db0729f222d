"""A device's times: how many readings there are, which are missing, which come twice, and how often they come.

A reading that follows another by less than half a period is a duplicate of it, whatever the phase of the clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from fieldwatch_contract import clock
from fieldwatch_contract.clock import DAY, SECOND, iso
from numpy.typing import NDArray

from fieldwatch_trainer.checks.finding import Finding

MISSING = 0.2
"""Share of missing periods from which gaps are told."""
POOR_DAY = 0.5
OFF = 0.02
LEAST = 20
"""Readings from which a period can be measured."""
EARLIEST = 946_684_800 * SECOND
"""2000-01-01: no device's log is older; a clock that was never set is."""


@dataclass
class DeviceReport:
    """Counts of one device; times in RFC 3339, lengths in seconds. ``step_s``: usual time between readings."""

    device: str
    readings: int
    first: str
    last: str
    step_s: float
    missing_periods: int
    gaps: int
    longest_gap_s: float
    poor_days: int
    duplicates: int
    conflicting: int = 0
    disorder: int = 0
    fault_rows: int = 0
    anomaly_rows: int = 0
    maintenance_rows: int = 0


def repeated(ts: NDArray[np.int64], period: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows that repeat an earlier one, and for each the row that it repeats; ``ts`` not descending."""
    fresh = np.concatenate(([True], np.diff(ts) * 2 >= period)) if len(ts) else np.zeros(0, bool)
    first = np.maximum.accumulate(np.where(fresh, np.arange(len(ts)), 0))
    again = np.flatnonzero(~fresh)
    return again, first[again]


def report(device: str, ts: NDArray[np.int64], period: int) -> DeviceReport:
    """Count; ``ts`` int64 ``[m]`` µs not descending, ``period`` µs."""
    again, _ = repeated(ts, period)
    steps = np.diff(np.delete(ts, again))
    holes = np.rint(steps / period).astype(np.int64) - 1
    holes = holes[holes > 0]
    usual = np.diff(ts)
    usual = usual[usual > 0]
    return DeviceReport(
        device=device,
        readings=len(ts),
        first=iso(int(ts[0])) if len(ts) else "",
        last=iso(int(ts[-1])) if len(ts) else "",
        step_s=float(np.median(usual)) / SECOND if len(usual) else 0.0,
        missing_periods=int(holes.sum()),
        gaps=len(holes),
        longest_gap_s=float(holes.max(initial=0) * period / SECOND),
        poor_days=len(_poor_days(ts, period)),
        duplicates=len(again),
    )


def _poor_days(ts: NDArray[np.int64], period: int) -> NDArray[np.int64]:
    """Return the whole days (UTC, as days since 1970) with less than half of the readings that they should have."""
    if not len(ts):
        return np.zeros(0, np.int64)
    days = ts // DAY
    first, last = int(days[0]) + 1, int(days[-1])
    if last <= first or last - first > 100_000:
        return np.zeros(0, np.int64)
    counts = np.bincount(np.clip(days - first, -1, last - first) + 1, minlength=last - first + 2)[1:-1]
    return first + np.flatnonzero(counts < POOR_DAY * DAY / period)


def findings(one: DeviceReport, ts: NDArray[np.int64], period: int, merged: tuple[int, int]) -> Iterator[Finding]:
    """Judge one device's times; ``merged``: values that were put together, and those there already (long layout)."""
    name, seconds = one.device, period / SECOND
    if not len(ts):
        return
    span = (int(ts[0]), int(ts[-1]))
    yield from _impossible(name, ts)
    wrong = _wrong_period(one, ts, seconds, merged)
    if wrong:
        remedy = f"set period_s of {name} to {wrong:g} in devices.parquet, or ingest anew with --period {wrong:g}s"
        what = f"readings come every {wrong:g} s, devices.parquet says period_s = {seconds:g}"
        yield Finding("wrong-period", what, remedy, name, "", *span)
        return
    expected = one.readings - one.duplicates + one.missing_periods
    if one.missing_periods > MISSING * expected or one.poor_days:
        days = _poor_days(ts, period)
        what = f"{one.missing_periods} of {expected} periods have no reading ({one.gaps} gaps, the longest "
        what += length(one.longest_gap_s)
        what += f"; {len(days)} days with less than half, first {iso(int(days[0]) * DAY)[:10]})" if len(days) else ")"
        yield Finding(
            "gaps", what, "right if the device was off; else look for files that were not exported", name, "", *span
        )
    if one.duplicates or merged[1]:
        kind = "conflicting-duplicates" if one.conflicting else "duplicates"
        count = one.duplicates or merged[1]
        what = f"{count} {'readings' if one.duplicates else 'values'} share a period with an earlier one"
        what += f", {one.conflicting} of them with other values" if one.conflicting else ", all with its values"
        what += _an_hour_twice(ts, period)
        yield Finding(kind, what, "look for a file or a partition that was exported twice", name, "", *span)
    if one.disorder:
        what = f"{one.disorder} readings are older than the one before them in the files"
        yield Finding("time-backwards", what, "right if files are not sorted; was the device's clock set back?", name)


def _impossible(name: str, ts: NDArray[np.int64]) -> Iterator[Finding]:
    early = ts[ts < EARLIEST]
    if len(early):
        what = (
            f"{len(early)} readings are of {iso(int(early[0]))[:10]} to {iso(int(early[-1]))[:10]}: a clock that was "
        )
        what += "not set, or seconds read as milliseconds"
        yield Finding("impossible-time", what, "correct or delete them", name, "", int(early[0]), int(early[-1]))
    late = ts[ts > clock.now() + DAY]
    if len(late):
        what = f"{len(late)} readings lie in the future, the newest at {iso(int(late[-1]))}"
        yield Finding("future", what, "correct the zone or the clock", name, "", int(late[0]), int(late[-1]))


def _wrong_period(one: DeviceReport, ts: NDArray[np.int64], seconds: float, merged: tuple[int, int]) -> float:
    """Return the period that the readings really have where it is not the one that is registered, else 0."""
    values, repeats = merged
    if values and repeats > 0.5 * values:
        return float(f"{seconds * values / (values + repeats):.3g}")
    if one.readings < LEAST or not one.step_s:
        return 0.0
    if 1 - OFF <= one.step_s / seconds <= 1 + OFF:
        return 0.0
    steps = np.diff(ts)
    steps = steps[steps > 0] / SECOND
    steady = float((np.abs(steps - one.step_s) <= OFF * one.step_s).mean())
    if one.step_s > 1.5 * seconds or one.step_s < 0.67 * seconds or steady > 0.8:
        return one.step_s
    return 0.0


def _an_hour_twice(ts: NDArray[np.int64], period: int) -> str:
    """Say where an hour stands twice, as when clocks are set back in autumn."""
    again, _ = repeated(ts, period)
    hour = 3600 * SECOND // period
    for start in np.flatnonzero(np.diff(np.concatenate(([-hour], again))) > hour):
        block = ts[again[start:]]
        block = block[block < block[0] + 3600 * SECOND]
        if hour >= 3 and len(block) >= 0.8 * hour:
            return f"; the hour from {iso(int(block[0]))} on stands twice, as when clocks are set back"
    return ""


def length(seconds: float) -> str:
    """Write a length of time."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:g} s"
