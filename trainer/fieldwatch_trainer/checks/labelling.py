"""Labels against readings: where they lie, whom they name, and how much of a device they cover."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from fieldwatch_contract.clock import iso
from numpy.typing import NDArray

from fieldwatch_trainer.checks.finding import Finding
from fieldwatch_trainer.checks.rows import DeviceReport
from fieldwatch_trainer.labels import EVENTS, Label

MOSTLY = 0.5
THROUGHOUT = 0.95
LAST = 0.02
"""A fault that ends within this share of a device's time of its last reading is the end of its life."""


def of_device(device: str, labels: Sequence[Label], ts: NDArray[np.int64], sensors: set[str]) -> Iterator[Finding]:
    """Judge one device's labels; ``ts`` µs not descending."""
    for label in labels:
        said = f"label {label.label} {iso(label.start)} to {iso(label.end)}"
        span = (device, "", label.start, label.end)
        inside = int(np.searchsorted(ts, label.end, "right") - np.searchsorted(ts, label.start))
        if not inside:
            yield Finding("label-outside", f"{said} covers no reading", "correct its times, or delete it", *span)
        elif label.start == label.end and label.label in EVENTS:
            yield Finding(
                "label-instant", f"{said} ends as it begins", "label the time from first sign to repair", *span
            )
        elif len(ts) and (label.start < ts[0] and label.label in EVENTS):
            what = f"{said} begins before the first reading, {iso(int(ts[0]))}"
            yield Finding("label-outside", what, "right if the device was faulty before; else correct its times", *span)
        if unknown := [name for name in label.sensors if name not in sensors]:
            what = f"{said} names {unknown[0]!r}, which no reading has"
            yield Finding("label-unknown-sensor", what, "write the sensor as the readings do", *span)
    for before, after in pairwise(sorted(labels, key=lambda one: (one.start, one.end))):
        if after.start < before.end and after.label != before.label:
            what = f"labels {before.label} and {after.label} overlap from {iso(after.start)}"
            yield Finding("label-overlap", what, "correct the one that is wrong", device, "", after.start, before.end)


def of_type(reports: Sequence[DeviceReport], labels: dict[str, list[Label]], labelled: bool) -> Iterator[Finding]:
    """Judge a type's labels as a whole; ``labelled``: whether the lake has any."""
    kinds = Counter(label.label for all_of in labels.values() for label in all_of)
    events = sum(kinds[kind] for kind in EVENTS)
    total = sum(one.readings for one in reports)
    faulty = sum(one.fault_rows for one in reports)
    normal = total - faulty - sum(one.anomaly_rows + one.maintenance_rows for one in reports)
    if not kinds:
        what = "no label concerns this type" if labelled else "the lake has no labels"
        yield Finding("no-labels", what, "add labels.parquet: device, start, end, label; ingest --labels makes it")
        return
    if events and total and not any(one.fault_rows or one.anomaly_rows for one in reports):
        what = f"none of {events} labels of faults or anomalies covers a reading"
        yield Finding("labels-elsewhere", what, "compare the times of labels and readings: zone, date, unit")
        return
    if not kinds["fault"]:
        yield Finding("no-faults", "no label of kind fault", "label faults, or go without a classifier")
    if total and normal <= 0:
        yield Finding("all-faulty", "every reading is labelled", "add readings of healthy devices")
        return
    throughout = [one for one in reports if one.readings and one.fault_rows >= THROUGHOUT * one.readings]
    for one in throughout:
        what = f"{one.fault_rows / one.readings:.0%} of its readings are labelled fault"
        yield Finding("faulty-throughout", what, "right if it never worked; else correct its labels", one.device)
    if faulty > MOSTLY * total and not throughout:
        what = f"{faulty / total:.0%} of all readings are labelled fault"
        yield Finding("mostly-faulty", what, "add readings of healthy time")
    if kinds["fault"] and sum(1 for one in reports if one.fault_rows) < 2:
        remedy = "add another device that had a fault, as soon as there is one"
        yield Finding("one-faulty-device", "one device alone has faults", remedy)
    yield from _run_to_failure(reports, labels)


def _run_to_failure(reports: Sequence[DeviceReport], labels: dict[str, list[Label]]) -> Iterator[Finding]:
    """Tell where the fault rows are the last ones of nearly every device that has any."""
    with_fault = [one for one in reports if one.fault_rows]
    ending = [one for one in with_fault if _ends_faulty(one, labels.get(one.device, []))]
    if len(ending) < 2 or len(ending) < 0.8 * len(with_fault):
        return
    what = f"the fault rows of {len(ending)} of {len(with_fault)} devices with faults are their last ones"
    remedy = "split by device: give some devices in split.json a train_until before their first reading"
    yield Finding("run-to-failure", what, remedy)


def _ends_faulty(one: DeviceReport, labels: Sequence[Label]) -> bool:
    from fieldwatch_contract.clock import parse_iso

    first, last = parse_iso(one.first), parse_iso(one.last)
    return any(each.label == "fault" and each.end >= last - LAST * (last - first) for each in labels)
