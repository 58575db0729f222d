"""``check``: what a lake really holds, before anybody trains on it. ``train`` asks it too, about its training rows.

What can be wrong, and how bad it is, stands in :mod:`.checks.finding`; each kind has a module in :mod:`.checks`. Here
the lake is read and the report put together: a device at a time, of a wide lake some sensors at a time, reduced to
counts and findings, so that memory follows neither the number of devices nor that of sensors.

A lake that cannot be opened at all raises :class:`.lake.LakeError` before there is anything to report.
"""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from fieldwatch_contract.clock import SECOND
from numpy.typing import NDArray

from fieldwatch_trainer import terminal
from fieldwatch_trainer.checks import (
    changes,
    clocks,
    drift,
    fleet,
    labelling,
    leaks,
    names,
    rows,
    steps,
    stuck,
    told,
    values,
)
from fieldwatch_trainer.checks.finding import KINDS, Accepted, Finding, stopping
from fieldwatch_trainer.checks.rows import DeviceReport
from fieldwatch_trainer.checks.series import Level, Series
from fieldwatch_trainer.checks.values import SensorReport
from fieldwatch_trainer.labels import EVENTS, Label
from fieldwatch_trainer.lake import Lake, LakeError, label_codes
from fieldwatch_trainer.models import ANOMALY, FAULT, MAINTENANCE, NORMAL, SEED
from fieldwatch_trainer.split import Split

MIN_ROWS = 300
"""Fewer readings of a type are not enough for any model."""
MIN_VALUES = 50
"""Fewer values of a sensor on a device tell nothing of its level."""


class CheckError(Exception):
    """The data would make a model meaningless; the message says what to do, finding by finding."""


@dataclass
class TypeReport:
    """Everything about one device type."""

    device_type: str
    accepted: Accepted = field(default_factory=Accepted)
    period_s: float = 0.0
    devices: list[DeviceReport] = field(default_factory=list)
    sensors: list[SensorReport] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def stopping(self) -> list[Finding]:
        """What stops training: of that severity, and not accepted."""
        return stopping(self.findings, self.accepted)

    @property
    def usable(self) -> bool:
        """Whether a model of this type can be trained."""
        return not self.stopping

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "device_type": self.device_type,
            "usable": self.usable,
            "period_s": self.period_s,
            "findings": [one.as_json(self.accepted.covers(one)) for one in self.findings],
            "labels": self.labels,
            "devices": [asdict(one) for one in self.devices],
            "sensors": [asdict(one) for one in self.sensors],
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fieldwatch-trainer check``."""
    parser.add_argument("--lake", required=True, metavar="L", help="folder or s3://, abfs://, gs:// address")
    parser.add_argument("--device-type", metavar="T", help="this type alone; default: every type in devices.parquet")
    parser.add_argument(
        "--accept", action="append", default=[], metavar="FINDING[:SENSOR]",
        help="do not stop over this finding, such as unit-change:humidity; may be repeated",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="the whole report as JSON on stdout")
    parser.add_argument("--html", metavar="FILE", type=Path, help="also write the report as a page")


def main(args: argparse.Namespace) -> int:
    """Check a lake and print the report; return 0, or 3 where a type is unusable.

    Raises :class:`.lake.LakeError` for a lake that cannot be opened or lacks the type asked for,
    :class:`.checks.finding.AcceptError` for an ``--accept`` that names nothing.
    """
    accepted = Accepted.read(args.accept)
    lake = Lake(args.lake, strict=False)
    types = [args.device_type] if args.device_type else list(lake.device_types())
    if args.device_type and args.device_type not in lake.device_types():
        lake.devices(args.device_type)  # raises, and says which types there are
    reports = [inspect(lake, one, accepted, None, terminal.progress, place == 0) for place, one in enumerate(types)]
    accepted.check_sensors([sensor.sensor for report in reports for sensor in report.sensors])
    idle = accepted.idle([one for report in reports for one in report.findings])
    result = {
        "lake": args.lake,
        "usable": bool(reports) and all(report.usable for report in reports),
        "accepted_without_effect": idle,
        "types": [report.as_json() for report in reports],
    }
    if args.html:
        from fieldwatch_trainer import report

        report.write_check(args.html, result)
    sys.stdout.write(json.dumps(result, indent=1) + "\n" if args.json else told.report(result))
    return 0 if result["usable"] else 3


RECORDED = 200
"""Findings that a run keeps with their words; all are counted."""


def checked(
    lake: Lake, device_type: str, accepted: Accepted, split: Split, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Check what training would read; return the findings as ``run.json`` holds them.

    Raises :class:`CheckError` where something stops training, :class:`.checks.finding.AcceptError` for a sensor
    accepted that there is not.
    """
    report = inspect(lake, device_type, accepted, split, progress)
    accepted.check_sensors([one.sensor for one in report.sensors])
    if stop := report.stopping:
        lines = told.actions([one.as_json() for one in stop])
        raise CheckError("\n".join([f"the data of type {device_type!r} would make the result meaningless", *lines]))
    return {
        "accepted": [one.as_json(True) for one in report.findings if accepted.covers(one)],
        "accepted_without_effect": accepted.idle(report.findings),
        "findings": [one.as_json() for one in report.findings if not accepted.covers(one)][:RECORDED],
        "told": dict(Counter(one.kind for one in report.findings if not accepted.covers(one))),
    }


def inspect(
    lake: Lake,
    device_type: str,
    accepted: Accepted | None = None,
    split: Split | None = None,
    progress: Callable[[str], None] = lambda _text: None,
    whole: bool = True,
) -> TypeReport:
    """Look at the readings and labels of a type; of each device those before its border in ``split``, else all.

    ``whole``: also tell what concerns no type but the lake.
    """
    report = TypeReport(device_type, accepted or Accepted())
    report.findings.extend(_of_lists(lake, device_type))
    if whole:
        report.findings.extend(_of_lake(lake))
    try:
        infos = lake.devices(device_type)
        sensors = lake.sensors(device_type)
    except LakeError as error:
        report.findings.append(Finding("unreadable", str(error), "see docs/your-own-data.md, The lake"))
        return report
    report.period_s = infos[0].period / SECOND
    look = _Look(lake, sensors, split or Split())
    for number, info in enumerate(infos):
        progress(f"{device_type}: {info.device} ({number + 1} of {len(infos)})")
        try:
            report.findings.extend(look.at(info.device, info.period))
        except LakeError as error:
            remedy = "mend or replace the file"
            report.findings.append(Finding("unreadable", str(error), remedy, info.device))
    progress("")
    report.devices, report.sensors = look.devices, look.reports
    for label in (label for all_of in look.labels.values() for label in all_of):
        report.labels[label.label] = report.labels.get(label.label, 0) + 1
    report.findings.extend(look.over_devices())
    report.findings.extend(_columns(lake, device_type, sensors))
    report.findings.extend(labelling.of_type(look.devices, look.labels, lake.labelled))
    order = list(KINDS)
    report.findings.sort(key=lambda one: (one.severity == "told", order.index(one.kind), one.device, one.sensor))
    return report


class _Look:
    """Goes over a type's devices, one after the other, and keeps what a judgement over all of them needs."""

    def __init__(self, lake: Lake, sensors: list[str], split: Split) -> None:
        self._lake = lake
        self._sensors = sensors
        self._split = split
        self.devices: list[DeviceReport] = []
        self.labels: dict[str, list[Label]] = {}
        self.reports = [SensorReport(name) for name in sensors]
        self._counts = np.zeros((len(sensors), drift.BLOCKS, drift.BINS))
        self._leaks = [leaks.Evidence(name) for name in sensors]
        self._levels: dict[str, dict[str, Level]] = {}
        self._presence: dict[str, list[names.Presence]] = {}
        self._rhythms: dict[str, clocks.Rhythm] = {}
        self._fits: list[clocks.Fit] = []
        self._valid_rows = 0

    def at(self, device: str, period: int) -> list[Finding]:
        """Look at one device; return what can be said of it alone. Raises :class:`.lake.LakeError`."""
        border = self._split.border(device)
        labels = [one for one in self._lake.labels(device) if border is None or one.start < border]
        found: list[Finding] = []
        about: _Device | None = None
        for group, readings in self._lake.columns(device, self._sensors):
            stop = len(readings.ts) if border is None else int(np.searchsorted(readings.ts, border))
            if about is None:
                about = _Device(device, readings.ts[:stop], labels, period)
                about.report.disorder = readings.disorder
            about.merged[0] += int(np.isfinite(readings.values).sum()) if readings.repeats else 0
            about.merged[1] += readings.repeats
            about.report.conflicting += readings.conflicts
            about.fold(readings.values[:stop])
            for place, name in enumerate(group):
                found.extend(self._sensor(about, self._sensors.index(name), readings.values[:stop, place]))
        if about is None or not len(about.ts):
            return found
        self._valid_rows += int(about.valid.sum())
        self.devices.append(about.report)
        self.labels[device] = labels
        found.extend(rows.findings(about.finished(), about.ts, period, (about.merged[0], about.merged[1])))
        found.extend(changes.findings(about.changes))
        found.extend(clocks.local_time(device, about.ts, period))
        found.extend(steps.findings(device, about.ts, period))
        found.extend(labelling.of_device(device, labels, about.ts, set(self._sensors)))
        found.extend(
            names.in_history(device, int(about.ts[0]), int(about.ts[-1]), period, self._presence.get(device, []))
        )
        events = [(one.start, one.end) for one in labels if one.label in EVENTS]
        labelled = clocks.Labelled(device, about.ts, about.unrest.ranks(), events)
        self._fits.extend(clocks.fits(labelled, np.random.default_rng(SEED)))
        return found

    def _sensor(self, about: _Device, place: int, x: NDArray[np.float64]) -> list[Finding]:
        """Look at one sensor of one device."""
        name, device = self._sensors[place], about.report.device
        raw = Series(device, name, about.ts, x, about.free, about.period)
        coded = list(values.codes(raw))
        found = [finding for finding, _ in coded]
        series = replace(raw, x=_without(x, *(suspect.rows for _, suspect in coded)))
        values.count(self.reports[place], series)
        self._counts[place] += drift.distribution(series)
        self._leaks[place].add(series, (about.codes == FAULT) | (about.codes == ANOMALY))
        self._presence.setdefault(device, []).append(names.presence(series))
        about.unrest.add(series)
        self._rhythms.setdefault(device, clocks.Rhythm()).add(series)
        changed = changes.changes(series)
        if not any(change.how for change in changed):  # after a change of unit steps may be a thousandth
            for finding, held in stuck.stuck(series):
                found.append(finding)
                series = replace(series, x=_without(series.x, held))
                changed = changes.changes(series)
        about.changes.extend(changed)
        if len(series.calm) >= MIN_VALUES:
            self._levels.setdefault(name, {})[device] = Level.of(series.x[series.calm])
        return found

    def over_devices(self) -> list[Finding]:
        """Return what can be said of all devices together."""
        readings = sum(one.readings for one in self.devices)
        found: list[Finding] = []
        if readings < MIN_ROWS:
            what = f"{readings} readings in all; at least {MIN_ROWS} are needed"
            found.append(Finding("too-few-readings", what, "collect more, or look for files that were not exported"))
        found.extend(values.judge(self.reports, len(self.devices), readings, self._valid_rows))
        found.extend(drift.judge(self.reports, self._counts))
        found.extend(names.spellings(self._sensors))
        found.extend(names.between_devices(self._presence))
        found.extend(fleet.differences(self._levels))
        labelled = any(one.fault_rows or one.anomaly_rows for one in self.devices)
        for evidence in self._leaks:
            found.extend(evidence.findings(labelled))
        found.extend(clocks.slips(self._fits))
        found.extend(clocks.offsets(self._rhythms))
        return found


class _Device:
    """What is gathered of one device while its sensors pass by."""

    def __init__(self, device: str, ts: NDArray[np.int64], labels: Sequence[Label], period: int) -> None:
        self.ts = ts
        self.period = period
        self.codes = label_codes(ts, list(labels))
        self.free = self.codes == NORMAL
        self.report = rows.report(device, ts, period)
        self.report.fault_rows = int((self.codes == FAULT).sum())
        self.report.anomaly_rows = int((self.codes == ANOMALY).sum())
        self.report.maintenance_rows = int((self.codes == MAINTENANCE).sum())
        self.unrest = clocks.Unrest(len(ts))
        self.changes: list[changes.Change] = []
        self.valid = np.zeros(len(ts), bool)
        self.merged = [0, 0]
        self._again, self._first = rows.repeated(ts, period)
        self._conflict = np.zeros(len(self._again), bool)

    def fold(self, columns: NDArray[np.float64]) -> None:
        """Take note of some columns ``[m, s]``: which rows have a value, which duplicates have another."""
        self.valid |= np.isfinite(columns).any(axis=1)
        a, b = columns[self._again], columns[self._first]
        self._conflict |= ~((a == b) | (np.isnan(a) & np.isnan(b))).all(axis=1)

    def finished(self) -> DeviceReport:
        """Return the counts, after the last column."""
        self.report.conflicting += int(self._conflict.sum())
        return self.report


def _without(x: NDArray[np.float64], *rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return values with those of some rows missing."""
    if not rows:
        return x
    left = x.copy()
    left[np.concatenate(rows)] = np.nan
    return left


def _of_lists(lake: Lake, device_type: str) -> list[Finding]:
    """Return what is wrong with files and lists and concerns the type."""
    found = [Finding("unreadable", message, "mend, replace or delete the file") for message in lake.broken.values()]
    devices = lake.device_types().get(device_type, [])
    for device in (device for device in lake.twice if device in devices):
        what = "stands more than once in devices.parquet"
        found.append(Finding("device-twice", what, "delete the other lines", device))
    for device in (device for device in devices if not lake.sources(device)):
        what = "stands in devices.parquet and has no readings"
        found.append(Finding("silent-device", what, "export them, or delete the line", device))
    sources = {one.path: one.zoned for device in devices for one in lake.sources(device)}
    found.extend(clocks.zones(sorted(sources.items()), lake.labels_zoned))
    return found


def _of_lake(lake: Lake) -> list[Finding]:
    """Return what is wrong with the lake and concerns no type."""
    found = []
    if lake.others:
        what = f"{_some(lake.others)}: no Parquet"
        found.append(Finding("other-file", what, "convert it (ingest reads logs), or move it elsewhere"))
    for path, count in lake.nameless.items():
        found.append(Finding("no-device", f"{path}: {count} rows without a device", "name their device"))
    everyone = [device for all_of in lake.device_types().values() for device in all_of]
    for device in lake.unregistered():
        near = difflib.get_close_matches(device, everyone, 1, 0.8)
        like = f"; is it {near[0]}?" if near else ""
        what = f"has readings and no line in devices.parquet{like}"
        found.append(Finding("unregistered-device", what, "add it to devices.parquet, or delete its readings", device))
    for device in lake.labelled_devices():
        if device not in everyone:
            near = difflib.get_close_matches(device, everyone, 1)
            what = "has labels and no line in devices.parquet" + (f"; is it {near[0]}?" if near else "")
            found.append(Finding("label-unknown-device", what, "correct the name, or add the device", device))
    if lake.labels_left_out:
        what = ", ".join(f"{count} lines {reason}" for reason, count in lake.labels_left_out.items())
        found.append(Finding("labels-left-out", what, "right for what nobody could tell; else complete them"))
    return found


def _columns(lake: Lake, device_type: str, sensors: list[str]) -> list[Finding]:
    """Return which columns are no sensors, or not in every file."""
    found = []
    for name, path in lake.passed_over(device_type).items():
        if name in sensors:
            what = f"numbers in some files and none in others: {path}"
            found.append(Finding("mixed-type", what, "write numbers in every file", sensor=name))
        else:
            remedy = "write numbers if it is a sensor; else nothing"
            found.append(Finding("text-column", f"no numbers: {path}", remedy, sensor=name))
    return found


def _some(listed: Sequence[str], limit: int = 3) -> str:
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
