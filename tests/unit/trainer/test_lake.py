"""The lake gives the same rows for every layout, and a clear message for everything that is wrong with one."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fieldwatch_trainer.lake import Label, Lake, LakeError, label_codes

from tests.lakes import MINUTE, START, UTC, LakeMaker


def test_wide_long_and_hive_lakes_give_the_same_rows(tmp_path: Path) -> None:
    grids = []
    for layout in ("wide", "long", "hive"):
        lake = Lake(LakeMaker(tmp_path / layout, rows=3000, missing=0.05).write(layout))
        assert lake.sensors("press") == ["a", "b", "c", "d"]
        grids.append(lake.grid("press-1", lake.sensors("press"), window=60))
    for grid in grids[1:]:
        np.testing.assert_array_equal(grid.rows, grids[0].rows)
        np.testing.assert_array_equal(grid.ts, grids[0].ts)
        assert grid.reading.all()


def test_an_address_with_a_scheme_is_a_lake_too(tmp_path: Path) -> None:
    folder = LakeMaker(tmp_path / "lake").write()
    assert Lake(folder.as_uri()).sensors("press") == Lake(folder).sensors("press")


def test_one_file_of_several_devices_is_read_device_by_device(tmp_path: Path) -> None:
    maker = LakeMaker(tmp_path)
    maker.write()
    files = sorted((tmp_path / "readings").iterdir())
    pq.write_table(pa.concat_tables([pq.read_table(file) for file in files]), tmp_path / "readings" / "all.parquet")
    for file in files:
        file.unlink()
    lake = Lake(tmp_path)
    for name in ("press-0", "press-1"):
        np.testing.assert_array_equal(lake.readings(name, maker.names).values, maker.values[name])


def test_rows_out_of_order_are_sorted_and_gaps_are_rows_of_nan(tmp_path: Path) -> None:
    maker = LakeMaker(tmp_path, rows=50, count=1)
    maker.ts["press-0"][10:] += 5 * MINUTE
    order = np.random.default_rng(0).permutation(50)
    expected = maker.values["press-0"].copy()
    maker.ts["press-0"], maker.values["press-0"] = maker.ts["press-0"][order], expected[order]
    grid = Lake(maker.write()).grid("press-0", maker.names, window=20)
    assert grid.reading.sum() == 50
    assert np.flatnonzero(~grid.reading).tolist() == [10, 11, 12, 13, 14]
    np.testing.assert_array_equal(grid.rows[grid.reading], expected)


@pytest.mark.parametrize("layout", ["wide", "long"])
def test_readings_that_jitter_around_the_full_minute_are_a_row_each(tmp_path: Path, layout: str) -> None:
    maker = LakeMaker(tmp_path, rows=500, count=1)
    maker.ts["press-0"] += np.random.default_rng(3).integers(-200_000, 200_000, 500)
    grid = Lake(maker.write(layout)).grid("press-0", maker.names, window=20)
    assert grid.reading.all() and grid.duplicate == 0
    assert np.array_equal(grid.ts, maker.ts["press-0"])
    assert np.array_equal(grid.rows, maker.values["press-0"])


def test_long_values_of_one_slot_make_one_reading(tmp_path: Path) -> None:
    LakeMaker(tmp_path, rows=2, count=1).write()
    (tmp_path / "readings" / "press-0.parquet").unlink()
    seconds = [1, 9, 30, 61]
    table = pa.table(
        {
            "device": ["press-0"] * 4,
            "ts": pa.array([START + s * 1_000_000 for s in seconds], UTC),
            "sensor": ["b", "a", "b", "a"],
            "value": [1.0, 2.0, 3.0, 4.0],
        }
    )
    pq.write_table(table, tmp_path / "readings" / "long.parquet")
    readings = Lake(tmp_path).readings("press-0", ["a", "b"])
    assert (readings.ts - START).tolist() == [1_000_000, 61_000_000]
    np.testing.assert_array_equal(readings.values, [[2.0, 1.0], [4.0, np.nan]])


def test_an_index_is_no_sensor_and_a_decimal_is_one(tmp_path: Path) -> None:
    folder = LakeMaker(tmp_path, rows=4, count=1).write()
    file = folder / "readings" / "press-0.parquet"
    table = pq.read_table(file).append_column("e", pa.array([Decimal("1.50")] * 4))
    table = table.append_column("__index_level_0__", pa.array([7, 9, 11, 12]))
    facts = {"index_columns": ["__index_level_0__"], "columns": [], "column_indexes": []}
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(facts)}), file)
    lake = Lake(folder)
    assert lake.sensors("press") == ["a", "b", "c", "d", "e"]
    assert list(lake.passed_over("press")) == ["__index_level_0__"]
    assert lake.readings("press-0", ["e"]).values.tolist() == [[1.5]] * 4


def test_a_device_named_by_its_folder_keeps_its_zeros(tmp_path: Path) -> None:
    LakeMaker(tmp_path, rows=3, count=1).write()
    file = tmp_path / "readings" / "press-0.parquet"
    table = pq.read_table(file).drop_columns(["device"])
    file.unlink()
    (tmp_path / "readings" / "device=001").mkdir()
    pq.write_table(table, tmp_path / "readings" / "device=001" / "part.parquet")
    devices = {"device": ["001"], "device_type": ["press"], "period_s": [60.0]}
    pq.write_table(pa.table(devices), tmp_path / "devices.parquet")
    assert len(Lake(tmp_path).readings("001", ["a"]).ts) == 3


def test_a_sensor_that_a_device_lacks_is_missing(tmp_path: Path) -> None:
    lake = Lake(LakeMaker(tmp_path).write())
    values = lake.readings("press-0", ["b", "nowhere", "a"]).values
    assert np.isnan(values[:, 1]).all() and not np.isnan(values[:, [0, 2]]).any()


def test_fault_wins_over_anomaly_where_labels_overlap() -> None:
    labels = [Label("d", 10, 30, "fault"), Label("d", 0, 20, "anomaly"), Label("d", 40, 50, "normal")]
    assert label_codes(np.array([0, 10, 30, 31, 45]), labels).tolist() == [2, 1, 1, 0, 0]


def spoil_no_folder(folder: Path) -> None:
    for file in sorted(folder.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    folder.rmdir()


def spoil_no_devices(folder: Path) -> None:
    (folder / "devices.parquet").unlink()


def spoil_no_readings(folder: Path) -> None:
    for file in (folder / "readings").iterdir():
        file.unlink()
    (folder / "readings").rmdir()


def spoil_empty_readings(folder: Path) -> None:
    for file in (folder / "readings").iterdir():
        file.unlink()


def spoil_torn_file(folder: Path) -> None:
    (folder / "readings" / "press-0.parquet").write_bytes(b"PAR1 and then the disk was full")


def spoil_devices_column(folder: Path) -> None:
    pq.write_table(pa.table({"device": ["press-0"], "period_s": [60.0]}), folder / "devices.parquet")


def spoil_text_time(folder: Path) -> None:
    table = pa.table({"device": ["press-0"], "ts": ["yesterday"], "a": [1.0]})
    pq.write_table(table, folder / "readings" / "press-0.parquet")


def spoil_no_time(folder: Path) -> None:
    pq.write_table(pa.table({"device": ["press-0"], "a": [1.0]}), folder / "readings" / "press-0.parquet")


def spoil_period(folder: Path) -> None:
    devices = {"device": ["press-0", "press-1"], "device_type": ["press"] * 2, "period_s": [60.0, 10.0]}
    pq.write_table(pa.table(devices), folder / "devices.parquet")


def spoil_label(folder: Path) -> None:
    time = pa.array([START], UTC)
    table = pa.table({"device": ["press-0"], "start": time, "end": time, "label": ["broken"]})
    pq.write_table(table, folder / "labels.parquet")


def spoil_period_text(folder: Path) -> None:
    devices = {"device": ["press-0"], "device_type": ["press"], "period_s": ["a minute"]}
    pq.write_table(pa.table(devices), folder / "devices.parquet")


def spoil_long_value(folder: Path) -> None:
    time = pa.array([START], UTC)
    table = pa.table({"device": ["press-0"], "ts": time, "sensor": ["a"], "value": ["ERR"]})
    pq.write_table(table, folder / "readings" / "press-0.parquet")


def spoil_device_number(folder: Path) -> None:
    pq.write_table(
        pa.table({"device": [7], "ts": pa.array([START], UTC), "a": [1.0]}), folder / "readings" / "x.parquet"
    )


def spoil_label_sensors(folder: Path) -> None:
    time = pa.array([START], UTC)
    table = pa.table({"device": ["press-0"], "start": time, "end": time, "label": ["fault"], "sensors": ["s1, s2"]})
    pq.write_table(table, folder / "labels.parquet")


def spoil_type(folder: Path) -> None:
    devices = {"device": ["lathe-1"], "device_type": ["lathe"], "period_s": [60.0]}
    pq.write_table(pa.table(devices), folder / "devices.parquet")


def spoil_other_devices(folder: Path) -> None:
    devices = {"device": ["press-7"], "device_type": ["press"], "period_s": [60.0]}
    pq.write_table(pa.table(devices), folder / "devices.parquet")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_no_folder, "no such lake folder"),
        (spoil_no_devices, "no devices.parquet"),
        (spoil_no_readings, "no folder readings/"),
        (spoil_empty_readings, "no Parquet file"),
        (spoil_torn_file, "press-0.parquet.*Parquet"),
        (spoil_devices_column, "column 'device_type' is missing; it needs device, device_type, period_s"),
        (spoil_text_time, "'ts' is string, must be a timestamp"),
        (spoil_no_time, "column 'ts' is missing"),
        (spoil_period, "different periods.*10 s, 60 s"),
        (spoil_label, "row 1: label 'broken' must be one of anomaly, fault, maintenance, normal"),
        (spoil_type, "no device of type 'press'; devices.parquet has: lathe"),
        (spoil_period_text, "device 'press-0': period_s is 'a minute', must be a number of seconds"),
        (spoil_long_value, "press-0.parquet: column 'value' must hold numbers: .*ERR"),
        (spoil_device_number, "x.parquet: column 'device' is int64, must be text"),
        (spoil_label_sensors, "labels.parquet: column 'sensors' is text, must be lists of names"),
        (spoil_other_devices, "have no readings; readings are there for: press-0, press-1"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, spoil: object, message: str) -> None:
    folder = LakeMaker(tmp_path / "lake", rows=10).write()
    assert callable(spoil)
    spoil(folder)
    with pytest.raises(LakeError, match=message):
        lake = Lake(folder)
        lake.readings("press-0", lake.sensors("press"))


def test_a_scheme_nobody_knows_is_refused() -> None:
    with pytest.raises(LakeError, match="cannot be opened"):
        Lake("ftp://somewhere/lake")
