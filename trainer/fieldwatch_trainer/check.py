"""``check``: what a lake really holds, before anybody trains on it.

Every finding names a place, what is wrong there and what would be right, and has a level:

* ``error``    training this type would fail or mean nothing: exit code 3
* ``warning``  the models will be worse than they could be, or an evaluation would mislead
* ``note``     worth knowing

Devices are read one at a time and reduced to counts, so memory depends on the largest device alone. A lake that cannot
be opened at all raises :class:`.lake.LakeError` before there is anything to report.

Training against recent distribution: the newest ninth of each device's normal rows is held against the eight ninths
before it, in bins at the device's own quantiles, by the population stability index. The usual fixed limits (0.1, 0.25)
are wrong: chance alone gives about (bins - 1)(1/n + 1/m) for independent rows, and far more for sensors that remember.
So each earlier ninth is held against the others too, and the recent one stands out only where it moved more than
twice as far as any of them did.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from fieldwatch_contract import clock
from fieldwatch_contract.clock import SECOND, iso
from numpy.typing import NDArray

from fieldwatch_trainer.lake import Label, Lake, LakeError, label_codes
from fieldwatch_trainer.models import ANOMALY, FAULT, NORMAL

MIN_ROWS = 300
"""Fewer readings of a type are not enough for any model."""

FLAT = 60
"""Readings with the same value in a row that make a flat line, for a sensor that otherwise moves."""

ABSURD = 1000.0
"""Values further from the median than this many times the 1..99 % spread are probably codes, not measurements."""

MOSTLY_FAULT = 0.5
BLOCKS = 9
BINS = 20
SAMPLE = 20_000
"""Rows of a device, evenly spread, from which quantiles and distributions are taken."""

DRIFT_RATIO = 2.0
DRIFT_LEAST = 0.2

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing worth saying: ``code`` for programs, ``where`` a device, sensor or file, ``message`` for people."""

    level: Level
    code: str
    where: str
    message: str


@dataclass
class DeviceReport:
    """Counts of one device; times in RFC 3339, lengths in seconds."""

    device: str
    readings: int
    first: str
    last: str
    missing_periods: int
    gaps: int
    longest_gap_s: float
    duplicates: int
    conflicting: int
    disorder: int = 0
    fault_rows: int = 0
    anomaly_rows: int = 0


@dataclass
class SensorReport:
    """Counts of one sensor over the devices of a type. ``psi*`` are None where there were too few rows."""

    sensor: str
    low: float | None = None
    high: float | None = None
    missing: int = 0
    infinite: int = 0
    absurd: int = 0
    constant_on: int = 0
    absent_on: int = 0
    flat_rows: int = 0
    flat_device: str = ""
    psi: float | None = None
    psi_chance: float | None = None
    psi_before: float | None = None


@dataclass
class TypeReport:
    """Everything about one device type."""

    device_type: str
    period_s: float = 0.0
    devices: list[DeviceReport] = field(default_factory=list)
    sensors: list[SensorReport] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """Whether a model of this type can be trained."""
        return not any(finding.level == "error" for finding in self.findings)

    def say(self, level: Level, code: str, where: str, message: str) -> None:
        """Add a finding."""
        self.findings.append(Finding(level, code, where, message))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fieldwatch-trainer check``."""
    parser.add_argument("--lake", required=True, metavar="L", help="folder or s3://, abfs://, gs:// address")
    parser.add_argument("--device-type", metavar="T", help="this type alone; default: every type in devices.parquet")
    parser.add_argument("--json", action="store_true", help="the whole report as JSON on stdout")
    parser.add_argument("--html", metavar="FILE", type=Path, help="also write the report as a page")


def main(args: argparse.Namespace) -> int:
    """Check a lake and print the report; return 0, or 3 where a type is unusable.

    Raises :class:`.lake.LakeError` for a lake that cannot be opened or lacks the type asked for.
    """
    lake = Lake(args.lake)
    types = [args.device_type] if args.device_type else list(lake.device_types())
    if args.device_type and args.device_type not in lake.device_types():
        lake.devices(args.device_type)  # raises, and says which types there are
    reports = [inspect(lake, one, _progress) for one in types]
    result = as_json(args.lake, reports)
    if args.html:
        from fieldwatch_trainer import report

        report.write_check(args.html, result)
    sys.stdout.write(json.dumps(result, indent=1) + "\n" if args.json else as_text(args.lake, reports))
    return 0 if result["usable"] else 3


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


# -- looking ----------------------------------------------------------------------------------------------------------


def inspect(lake: Lake, device_type: str, progress: Callable[[str], None] = lambda _text: None) -> TypeReport:
    """Look at every reading and label of a type."""
    report = TypeReport(device_type)
    try:
        infos = lake.devices(device_type)
        names = lake.sensors(device_type)
    except LakeError as error:
        report.say("error", "unreadable", device_type, str(error))
        return report
    report.period_s = infos[0].period / SECOND
    sensors = [SensorReport(name) for name in names]
    report.sensors = sensors
    counts = np.zeros((BLOCKS, len(names), BINS))
    valid_rows = 0
    for number, info in enumerate(infos):
        progress(f"{device_type}: {info.device} ({number + 1} of {len(infos)})")
        try:
            readings = lake.readings(info.device, names)
        except LakeError as error:
            report.say("error", "unreadable", info.device, str(error))
            continue
        labels = lake.labels(info.device)
        _look_at_labels(report, info.device, labels, readings.ts, set(names))
        codes = label_codes(readings.ts, labels)
        device = _look_at_times(report, info.device, readings.ts, readings.values, info.period)
        device.disorder = readings.disorder
        device.fault_rows = int((codes == FAULT).sum())
        device.anomaly_rows = int((codes == ANOMALY).sum())
        report.devices.append(device)
        _look_at_values(sensors, info.device, readings.values)
        counts += _distribution(readings.values, codes == NORMAL)
        valid_rows += int((~np.isnan(readings.values)).any(axis=1).sum())
    progress("")
    _judge_devices(report)
    known = set(lake.sensors(device_type))
    passed_over = lake.passed_over(device_type)
    if left := [name for name in passed_over if name not in known]:
        report.say("warning", "text", _list(left), "no column of numbers, so no sensor: write numbers if it is one")
    for name in known & set(passed_over):
        report.say("error", "text", name, f"numbers in some files and none in others: see {passed_over[name]}")
    _judge_sensors(report, valid_rows)
    _judge_drift(report, counts)
    _judge_labels(report, lake, {info.device for info in infos})
    report.findings.sort(key=lambda finding: LEVELS.index(finding.level))
    return report


def _look_at_times(
    report: TypeReport,
    device: str,
    ts: NDArray[np.int64],
    values: NDArray[np.float64],
    period: int,
) -> DeviceReport:
    """Count gaps and duplicates. ``ts`` µs ascending ``[m]``, ``values`` ``[m, S]``."""
    slots = ts // period
    steps = np.diff(slots)
    same = np.flatnonzero(steps == 0)
    first_of_slot = np.searchsorted(slots, slots[same + 1])
    a, b = values[same + 1], values[first_of_slot]
    conflicting = int((~((a == b) | (np.isnan(a) & np.isnan(b)))).any(axis=1).sum())
    gaps = steps[steps > 1]
    if len(ts) and ts[-1] > clock.now() + clock.DAY:
        report.say("warning", "future", device, f"newest reading is of {iso(int(ts[-1]))}: clock or time zone is wrong")
    if len(steps) and float(np.median(np.diff(ts)[steps > 0]) if (steps > 0).any() else 0) > 1.5 * period:
        step = float(np.median(np.diff(ts)[steps > 0])) / SECOND
        report.say(
            "error",
            "period",
            device,
            f"readings come every {step:g} s, devices.parquet says period_s = {period / SECOND:g}: most rows would be "
            f"missing; set period_s to {step:g}",
        )
    return DeviceReport(
        device=device,
        readings=len(ts),
        first=iso(int(ts[0])) if len(ts) else "",
        last=iso(int(ts[-1])) if len(ts) else "",
        missing_periods=int((gaps - 1).sum()),
        gaps=len(gaps),
        longest_gap_s=float((gaps.max(initial=1) - 1) * period / SECOND),
        duplicates=len(same),
        conflicting=conflicting,
    )


def _look_at_values(sensors: list[SensorReport], device: str, values: NDArray[np.float64]) -> None:
    """Fold one device's values ``[m, S]`` into the sensors' counts."""
    for column, sensor in enumerate(sensors):
        x = values[:, column]
        infinite = np.isinf(x)
        sensor.infinite += int(infinite.sum())
        valid = x[~np.isnan(x) & ~infinite]
        sensor.missing += len(x) - len(valid) - int(infinite.sum())
        if not len(valid):
            sensor.absent_on += 1
            continue
        low, high = float(valid.min()), float(valid.max())
        sensor.low = low if sensor.low is None else min(sensor.low, low)
        sensor.high = high if sensor.high is None else max(sensor.high, high)
        if low == high:
            sensor.constant_on += 1
            continue
        q01, median, q99 = np.quantile(valid[:: max(1, len(valid) // SAMPLE)], (0.01, 0.5, 0.99))
        if q99 > q01:
            sensor.absurd += int((np.abs(valid - median) > ABSURD * (q99 - q01)).sum())
        changed = np.flatnonzero(np.diff(valid))
        if len(changed) > len(valid) / 2:  # it moves more often than not, so standing still is strange
            runs = np.diff(np.concatenate(([-1], changed, [len(valid) - 1])))
            flat = int(runs[runs >= FLAT].sum())
            if flat and flat > sensor.flat_rows:
                sensor.flat_device = device
            sensor.flat_rows += flat


def _look_at_labels(
    report: TypeReport, device: str, labels: list[Label], ts: NDArray[np.int64], sensors: set[str]
) -> None:
    """Judge a device's labels against its readings."""
    for label in labels:
        report.labels[label.label] = report.labels.get(label.label, 0) + 1
        span = f"{label.label} {iso(label.start)} to {iso(label.end)}"
        inside = np.searchsorted(ts, label.end, side="right") - np.searchsorted(ts, label.start, side="left")
        if not inside:
            report.say("warning", "label_outside", device, f"label {span} covers no reading: it teaches nothing")
        if unknown := [name for name in label.sensors if name not in sensors]:
            report.say(
                "warning", "label_sensor", device, f"label {span} names sensor {unknown[0]!r}, which no reading has"
            )
    for before, after in pairwise(labels):
        if after.start < before.end and after.label != before.label:
            report.say(
                "warning",
                "label_overlap",
                device,
                f"labels {before.label} and {after.label} overlap from {iso(after.start)}: fault wins over anomaly, "
                "both win over normal; correct the one that is wrong",
            )


def _distribution(values: NDArray[np.float64], normal: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Count values ``[m, S]`` of normal rows by ninth of the rows and bin: ``[BLOCKS, S, BINS]``.

    Zeros where there are too few.
    """
    step = max(1, len(values) // SAMPLE)
    values, normal = values[::step], normal[::step]
    sensors = values.shape[1]
    counts = np.zeros((BLOCKS, sensors, BINS))
    if len(values) < BLOCKS * BINS * 2:
        return counts
    block = np.arange(len(values)) * BLOCKS // len(values)
    for column in range(sensors):
        x = values[:, column]
        valid = np.isfinite(x) & normal
        train = x[valid & (block < BLOCKS - 1)]
        if len(train) < BINS * 10:
            continue
        edges = np.quantile(train, np.linspace(0, 1, BINS + 1)[1:-1])
        place = np.searchsorted(edges, x[valid], side="left")
        np.add.at(counts[:, column], (block[valid], place), 1)
    return counts


def psi(expected: NDArray[np.float64], actual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the population stability index of counts ``[…, bins]``, half a count added to each bin."""
    bins = expected.shape[-1]
    e = (expected + 0.5) / (expected.sum(-1, keepdims=True) + 0.5 * bins)
    a = (actual + 0.5) / (actual.sum(-1, keepdims=True) + 0.5 * bins)
    return np.asarray(((a - e) * np.log(a / e)).sum(-1))


# -- judging ----------------------------------------------------------------------------------------------------------


def _judge_devices(report: TypeReport) -> None:
    total = sum(device.readings for device in report.devices)
    if total < MIN_ROWS:
        report.say(
            "error", "rows", report.device_type, f"{total} readings in all; at least {MIN_ROWS} are needed to train"
        )
    for device in report.devices:
        expected = device.readings - device.duplicates + device.missing_periods
        if device.missing_periods > 0.2 * max(1, expected):
            report.say(
                "warning",
                "gaps",
                device.device,
                f"{device.missing_periods} of {expected} periods have no reading ({device.gaps} gaps, the longest "
                f"{_duration(device.longest_gap_s)})",
            )
        if device.duplicates:
            report.say(
                "warning" if device.conflicting else "note",
                "duplicates",
                device.device,
                f"{device.duplicates} readings share a period with an earlier one, {device.conflicting} with other "
                "values; the first counts",
            )
        if device.disorder:
            report.say(
                "note", "disorder", device.device, f"{device.disorder} readings are older than the one before them"
            )


def _judge_sensors(report: TypeReport, valid_rows: int) -> None:
    devices = len(report.devices)
    total = sum(device.readings for device in report.devices)
    constant = [s for s in report.sensors if s.low is not None and s.low == s.high]
    absent = [s for s in report.sensors if s.low is None]
    if devices and len(constant) + len(absent) == len(report.sensors):
        report.say(
            "error",
            "constant",
            report.device_type,
            "every sensor is constant or empty: there is nothing to learn; were the right columns exported?",
        )
    elif constant:
        report.say("warning", "constant", _some(constant), "never changes on any device: adds nothing to a model")
    if absent and len(absent) < len(report.sensors):
        report.say("warning", "empty", _some(absent), "has no value on any device: leave the column out")
    if devices and total and valid_rows < total / 2:
        report.say("error", "empty_rows", report.device_type, f"{total - valid_rows} of {total} readings have no value")
    for sensor in report.sensors:
        if sensor.infinite:
            report.say(
                "warning", "infinite", sensor.sensor, f"{sensor.infinite} infinite or absurd values, taken as missing"
            )
        if sensor.absurd:
            report.say(
                "warning",
                "range",
                sensor.sensor,
                f"{sensor.absurd} values lie far outside the rest (range {sensor.low:.6g} to {sensor.high:.6g}): error "
                "codes? Export them as missing",
            )
        if sensor.low is not None and sensor.missing > total / 2:
            report.say("warning", "missing", sensor.sensor, f"{sensor.missing / total:.0%} of its values are missing")
        if sensor.flat_rows:
            report.say(
                "note",
                "flat",
                sensor.sensor,
                f"stands still for {FLAT} readings or more, {sensor.flat_rows} readings in all (most on "
                f"{sensor.flat_device}), while it usually moves: a stuck sensor?",
            )
        if 0 < sensor.absent_on < devices:
            report.say("note", "absent", sensor.sensor, f"{sensor.absent_on} of {devices} devices do not have it")
    if devices > 1:
        some = [s for s in report.sensors if s.constant_on > 0 and s.low != s.high]
        if some:
            report.say("note", "constant_on", _some(some), "does not change on some of the devices")


def _judge_drift(report: TypeReport, counts: NDArray[np.float64]) -> None:
    """``counts`` ``[BLOCKS, S, BINS]``: hold the newest block against the others, and each of those likewise."""
    train, recent = counts[:-1], counts[-1]
    total = train.sum(axis=0)
    moved = psi(total, recent)
    before = psi(total[None] - train, train).max(axis=0)
    drifted = []
    for column, sensor in enumerate(report.sensors):
        n, m = float(total[column].sum()), float(recent[column].sum())
        if not n or not m or sensor.low == sensor.high:
            continue
        sensor.psi = float(moved[column])
        sensor.psi_chance = (BINS - 1) * (1 / n + 1 / m)
        sensor.psi_before = float(before[column])
        if sensor.psi > DRIFT_RATIO * sensor.psi_before and sensor.psi > DRIFT_LEAST + sensor.psi_chance:
            drifted.append(sensor)
    if not drifted:
        return
    drifted.sort(key=lambda sensor: -(sensor.psi or 0.0))
    worst = drifted[0]
    report.say(
        "warning",
        "drift",
        _some(drifted),
        f"the newest ninth of the rows is unlike the rest (worst: {worst.sensor}, PSI {worst.psi:.2f}; never above "
        f"{worst.psi_before:.2f} before, {worst.psi_chance:.3f} by chance alone): a model trained now may not fit",
    )


def _judge_labels(report: TypeReport, lake: Lake, devices: set[str]) -> None:
    known = {device for names in lake.device_types().values() for device in names}
    if unknown := sorted(set(lake.labelled_devices()) - known):
        report.say(
            "warning",
            "label_device",
            _list(unknown),
            "has labels but is not in devices.parquet: a typing mistake or a device to add",
        )
    if not lake.labelled:
        report.say(
            "warning",
            "no_labels",
            report.device_type,
            "the lake has no labels: only a detector can be trained, and nothing can be evaluated; add labels.parquet",
        )
    elif not report.labels:
        report.say(
            "warning",
            "no_labels",
            report.device_type,
            "no label concerns this type: only a detector can be trained, and nothing can be evaluated",
        )
    elif "fault" not in report.labels:
        report.say("note", "no_faults", report.device_type, "no label of kind fault: there will be no classifier")
    total = sum(device.readings for device in report.devices)
    faulty = sum(device.fault_rows for device in report.devices)
    if total and faulty > MOSTLY_FAULT * total:
        report.say(
            "warning",
            "label_rate",
            report.device_type,
            f"{faulty / total:.0%} of all readings are labelled fault: too few normal ones to tell what normal is",
        )
    if "fault" in report.labels and sum(1 for device in report.devices if device.fault_rows) < 2:
        report.say(
            "note",
            "one_device",
            report.device_type,
            "one device alone has faults: how a classifier does on another device cannot be measured",
        )


# -- telling ----------------------------------------------------------------------------------------------------------


def as_json(lake: str, reports: list[TypeReport]) -> dict[str, Any]:
    """Return the report as plain values."""
    return {
        "lake": lake,
        "usable": bool(reports) and all(report.usable for report in reports),
        "types": [asdict(report) | {"usable": report.usable} for report in reports],
    }


def as_text(lake: str, reports: list[TypeReport]) -> str:
    """Return the report for a terminal."""
    lines = []
    for report in reports:
        readings = sum(device.readings for device in report.devices)
        days = readings * report.period_s / 86_400
        lines.append(f"{report.device_type}  ({lake})")
        lines.append(
            f"  {len(report.devices)} devices, {len(report.sensors)} sensors, a reading every "
            f"{_duration(report.period_s)}, {readings} readings ({days:.1f} device-days)"
        )
        if report.devices:
            first = min((device.first for device in report.devices if device.first), default="")
            last = max((device.last for device in report.devices), default="")
            missing = sum(device.missing_periods for device in report.devices)
            expected = readings + missing - sum(device.duplicates for device in report.devices)
            lines.append(f"  from {first} to {last}; {missing / max(1, expected):.2%} of the periods without a reading")
            faulty = sum(device.fault_rows for device in report.devices)
            odd = sum(device.anomaly_rows for device in report.devices)
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(report.labels.items())) or "none"
            lines.append(
                f"  labels: {kinds}; {faulty / max(1, readings):.2%} of readings in a fault, "
                f"{odd / max(1, readings):.2%} in an anomaly"
            )
        for level in LEVELS:
            lines.extend(
                f"  {level:<8} {finding.where}: {finding.message}"
                for finding in report.findings
                if finding.level == level
            )
        verdict = "usable" if report.usable else "NOT usable"
        lines.extend([f"  {verdict} for training", ""])
    if not reports:
        lines.append(f"{lake}: devices.parquet names no device: nothing to check\n")
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:g} s"


def _some(sensors: list[SensorReport]) -> str:
    return _list([sensor.sensor for sensor in sensors])


def _list(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
