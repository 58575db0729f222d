"""The simulated history: reproducible, in the documented layout, and with faults that show where the truth says."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fieldwatch_contract.clock import DAY, MINUTE, parse_iso
from fieldwatch_demo.device import Device
from fieldwatch_demo.fleet import make_fleet, write_fleet
from fieldwatch_demo.plant import TYPES, plant
from numpy.typing import NDArray

MIDNIGHT = parse_iso("2026-01-05T00:00:00Z")


def healthy(name: str = "press-0001", seed: int = 1, sensors: int = 100) -> Device:
    return Device(name, plant("press", sensors), MIDNIGHT, MINUTE, seed)


def test_same_seed_same_rows_however_they_are_asked_for() -> None:
    whole = healthy().rows(0, 3200)
    other = healthy()
    cuts = [0, 1, 700, 1439, 1441, 2000, 3200]
    pieces = [other.rows(a, b) for a, b in itertools.pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate([piece.values for piece in pieces]), whole.values)
    np.testing.assert_array_equal(np.concatenate([piece.ts for piece in pieces]), whole.ts)
    np.testing.assert_array_equal(np.concatenate([piece.logged for piece in pieces]), whole.logged)


def test_another_seed_or_device_is_another_history() -> None:
    rows = healthy().rows(0, 100).values
    assert not np.array_equal(rows, healthy(seed=2).rows(0, 100).values, equal_nan=True)
    assert not np.array_equal(rows, healthy("press-0002").rows(0, 100).values, equal_nan=True)


def test_a_reading_lies_in_its_period_and_time_only_grows() -> None:
    device = healthy()
    rows = device.rows(0, 3000)
    np.testing.assert_array_equal((rows.ts - device.start) // device.period, np.arange(3000))
    assert len(set(np.diff(rows.ts).tolist())) > 1, "a real logger's seconds jitter"


def test_values_are_what_three_decimals_say_and_some_are_missing() -> None:
    rows = healthy().rows(0, 3 * 1440)
    values = rows.values[~np.isnan(rows.values)]
    assert values.tolist() == [float(f"{value:.3f}") for value in values.tolist()]
    assert 0.002 < np.isnan(rows.values).mean() < 0.01
    assert 0 < (~rows.logged).sum() < 30


def test_sensors_hang_together() -> None:
    rows = healthy().rows(0, 3 * 1440).values
    rows = rows[~np.isnan(rows).any(axis=1)]
    related = np.abs(np.corrcoef(rows.T)) - np.eye(rows.shape[1])
    assert np.median(related.max(axis=1)) > 0.8
    assert np.median(np.abs(related)) < 0.8, "but they are not copies of one another"


def test_history_in_lake_logs_and_truth_agrees(tmp_path: Path) -> None:
    fleet = make_fleet("press", 2, 2, MIDNIGHT, sensors=30)
    lines = write_fleet(fleet, tmp_path)
    truth = json.loads((tmp_path / "truth.json").read_text())

    devices = pq.read_table(tmp_path / "lake" / "devices.parquet").to_pylist()
    assert devices == [
        {"device": f"press-000{n}", "device_type": "press", "period_s": 60.0} for n in (1, 2)
    ]  # fmt: skip
    labels = pq.read_table(tmp_path / "lake" / "labels.parquet").to_pylist()
    assert [(row["device"], row["sensors"]) for row in labels] == [
        (fault["device"], fault["sensors"]) for fault in truth["faults"]
    ]
    assert {row["label"] for row in labels} == {"fault"}

    readings = pq.read_table(tmp_path / "lake" / "readings")
    assert readings.column_names == ["device", "ts", *truth["sensors"]]
    assert str(readings.schema.field("ts").type) == "timestamp[us, tz=UTC]"
    assert len(readings) == lines

    with (tmp_path / "logs" / "press-0002" / "readings.csv").open() as log:
        logged = list(csv.reader(log))
    assert logged[0] == ["timestamp", *truth["sensors"]]
    lake = pq.read_table(tmp_path / "lake" / "readings" / "press-0002.parquet").drop_columns("device").to_pylist()
    assert len(logged) == len(lake) + 1
    for text, row in zip(logged[1:], lake, strict=True):
        assert parse_iso(text[0]) == int(row["ts"].timestamp()) * 1_000_000
        assert [float(value) if value else None for value in text[1:]] == [row[name] for name in truth["sensors"]]


def test_rotated_logs_hold_the_same_lines(tmp_path: Path) -> None:
    write_fleet(make_fleet("press", 1, 3, MIDNIGHT, sensors=20), tmp_path / "one")
    write_fleet(make_fleet("press", 1, 3, MIDNIGHT, sensors=20), tmp_path / "many", rotate=True)
    folder = tmp_path / "many" / "logs" / "press-0001"
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["readings-2026-01-05.csv", "readings-2026-01-06.csv", "readings.csv"]
    whole = (tmp_path / "one" / "logs" / "press-0001" / "readings.csv").read_bytes().splitlines()
    parts = [(folder / name).read_bytes().splitlines() for name in names]
    assert [part[0] for part in parts] == [whole[0]] * 3
    assert [line for part in parts for line in part[1:]] == whole[1:]


@pytest.mark.parametrize("type", TYPES)
def test_each_fault_shows_in_its_sensors_and_in_no_other(type: str) -> None:
    kinds = plant(type).faults
    assert any(kind.slow for kind in kinds) and any(not kind.slow for kind in kinds)
    for number, kind in enumerate(kinds):
        fleet = make_fleet(type, number + 1, 2, MIDNIGHT)  # kinds are planned in turn, so this device has this one
        device = fleet.devices[number]
        (fault,) = device.faults
        assert fault.kind == kind
        faulty = device.rows(0, fleet.rows)
        well = Device(device.name, device.plant, MIDNIGHT, MINUTE, fleet.seed).rows(0, fleet.rows)
        during = slice(fault.start + (fault.stop - fault.start) // 2, fault.stop)
        changed = np.flatnonzero(_mean_shift(faulty.values[during], well.values[during]) > 0)
        assert {device.plant.sensors[i] for i in changed} == set(fault.sensors)
        outside = np.ones(fleet.rows, bool)
        outside[fault.start : fault.stop] = False
        np.testing.assert_array_equal(faulty.values[outside], well.values[outside])
        spread = np.nanstd(well.values, axis=0)
        share = _mean_shift(faulty.values[during], well.values[during]) / spread
        assert share.max() > 0.8, "at its height a fault moves at least one sensor by about its spread"


def test_a_slow_fault_grows() -> None:
    device = make_fleet("press", 2, 1, MIDNIGHT).devices[1]
    (fault,) = device.faults
    assert fault.kind.slow
    well = Device(device.name, device.plant, MIDNIGHT, MINUTE, 1).rows(0, 1440)
    column = device.plant.sensors.index("main_drive_bearing_front_temp_C")
    shift = (device.rows(0, 1440).values - well.values)[fault.start : fault.stop, column]
    thirds = [float(np.nanmean(part)) for part in np.array_split(shift, 3)]
    assert 0 < thirds[0] < thirds[1] < thirds[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"type": "toaster"}, "one of press, pump, microscope"),
        ({"sensors": 5}, "at least 20 sensors"),
        ({"devices": 0}, "at least one device"),
        ({"days": 0}, "one day"),
        ({"period": 7 * MINUTE + 1}, "must divide a day"),
        ({"start": MIDNIGHT + 1}, "midnight"),
    ],
)
def test_impossible_fleets_are_refused_with_a_reason(arguments: dict[str, object], message: str) -> None:
    given: dict[str, object] = {"type": "press", "devices": 1, "days": 1, "start": MIDNIGHT} | arguments
    with pytest.raises(ValueError, match=message):
        make_fleet(**given)  # type: ignore[arg-type]


def test_other_periods_work() -> None:
    fleet = make_fleet("pump", 1, 1, MIDNIGHT, sensors=24, period=10 * MINUTE)
    rows = fleet.devices[0].rows(0, fleet.rows)
    assert len(rows.ts) == DAY // (10 * MINUTE)
    assert np.isfinite(rows.values).mean() > 0.98


def _mean_shift(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.abs(np.nanmean(a - b, axis=0))
