"""A lake in any type, layout or table format that a writer may choose gives the rows of its plain twin."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fieldwatch_trainer.lake import Lake, LakeError

from tests.lakes import MINUTE, START, UTC, LakeMaker

ROWS = 40
FILE = "press-0.parquet"


def maker(folder: Path) -> LakeMaker:
    return LakeMaker(folder, rows=ROWS, count=2)


def recast(column: str, make: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Write one column of the first device in another type."""

    def spoil(folder: Path) -> None:
        file = folder / "readings" / FILE
        table = pq.read_table(file)
        place = table.column_names.index(column)
        pq.write_table(table.set_column(place, column, make(table[column])), file)

    return spoil


def half(column: Any) -> Any:
    return pa.array(column.to_numpy().astype(np.float16))


def by_sensor(folder: Path) -> None:
    """The long layout in Hive folders of sensors (and devices): D4."""
    for file in sorted((folder / "readings").iterdir()):
        table = pq.read_table(file)
        for name in "abcd":
            into = folder / "readings" / f"device={file.stem}" / f"sensor={name}"
            into.mkdir(parents=True)
            pq.write_table(pa.table({"ts": table["ts"], "value": table[name]}), into / "part.parquet")
        file.unlink()


def by_part(folder: Path) -> None:
    """Half of the sensors in a file of their own, a few seconds later: rows that belong together."""
    file = folder / "readings" / FILE
    table = pq.read_table(file)
    later = pa.array(np.asarray(table["ts"].cast(pa.int64())) + 7_000_000, UTC)
    pq.write_table(table.drop_columns(["c", "d"]), file)
    pq.write_table(table.drop_columns(["a", "b"]).set_column(1, "ts", later), file.with_name("pumps.parquet"))


def beside(folder: Path) -> None:
    """Files that engines and people leave in a folder."""
    (folder / "readings" / "_SUCCESS").write_bytes(b"")
    (folder / "readings" / ".part.crc").write_bytes(b"crc")
    (folder / "readings" / "README.txt").write_text("see the wiki")
    (folder / "readings" / FILE).rename(folder / "readings" / "part-00000")


def devices_as_folder(folder: Path) -> None:
    table = pq.read_table(folder / "devices.parquet")
    (folder / "devices.parquet").unlink()
    (folder / "devices.parquet").mkdir()
    pq.write_table(table, folder / "devices.parquet" / "part-0.parquet")


FORMS: dict[str, Callable[[Path], None]] = {
    "float16": recast("a", half),
    "decimal": recast("a", lambda column: column.cast(pa.decimal128(20, 3))),
    "large_string": recast("device", lambda column: column.cast(pa.large_string())),
    "string_view": recast("device", lambda column: column.cast(pa.string_view())),
    "dictionary": recast("device", lambda column: column.dictionary_encode()),
    "nanoseconds": recast("ts", lambda column: column.cast(pa.timestamp("ns", tz="UTC"))),
    "no zone": recast("ts", lambda column: column.cast(pa.timestamp("ms"))),
    "another zone": recast("ts", lambda column: column.cast(pa.timestamp("us", tz="Asia/Tokyo"))),
    "sensor folders": by_sensor,
    "a file a part": by_part,
    "other files": beside,
    "a folder of devices": devices_as_folder,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_lake_in_another_form_has_the_same_rows(tmp_path: Path, form: str) -> None:
    made = maker(tmp_path)
    made.write()
    FORMS[form](tmp_path)
    lake = Lake(tmp_path)
    assert sorted(lake.sensors("press")) == list("abcd")
    for device in ("press-0", "press-1"):
        readings = lake.readings(device, made.names)
        want = made.values[device].copy()
        if form == "float16" and device == "press-0":
            want[:, 0] = want[:, 0].astype(np.float16)
        assert readings.ts.tolist() == made.ts[device].tolist()
        np.testing.assert_array_equal(readings.values, want)
        assert (readings.repeats, readings.conflicts) == (0, 0)


def test_a_column_without_a_type_is_a_sensor_without_a_value(tmp_path: Path) -> None:
    maker(tmp_path).write()
    recast("b", lambda column: pa.nulls(len(column)))(tmp_path)
    lake = Lake(tmp_path)
    assert lake.sensors("press") == list("abcd")
    assert np.isnan(lake.readings("press-0", ["b"]).values).all()
    assert not np.isnan(lake.readings("press-1", ["b"]).values).any()


def test_nested_columns_and_text_are_no_sensors_and_are_named(tmp_path: Path) -> None:
    maker(tmp_path).write()
    recast("b", lambda column: pa.array([[1.0]] * len(column)))(tmp_path)
    assert list(Lake(tmp_path).passed_over("press")) == ["b"]


@pytest.mark.parametrize(
    ("column", "make", "message"),
    [
        ("ts", lambda c: c.cast(pa.int64()), r"'ts' is int64, must be a timestamp.* may be µs since 1970 \(2026-01-01"),
        ("ts", lambda c: pa.array(np.asarray(c.cast(pa.int64())) // 1000), r"may be ms since 1970 \(2026-01-01"),
        ("ts", lambda c: pa.array(np.asarray(c.cast(pa.int64())) / 1e6), r"may be s since 1970 \(2026-01-01"),
        ("ts", lambda c: pa.array(np.asarray(c.cast(pa.int64())) * 1000), r"may be ns since 1970 \(2026-01-01"),
        ("ts", lambda c: c.cast(pa.string()), "'2026-01-01 00:00:00.*' is text: write it with a type of time"),
        ("ts", lambda c: pa.array([None, *c.to_pylist()[1:]], UTC), "'ts' has 1 empty values"),
        ("device", lambda c: pa.array([7] * len(c)), "'device' is int64, must be text"),
    ],
)
def test_a_column_of_a_wrong_type_is_named_with_what_it_looks_like(
    tmp_path: Path, column: str, make: Callable[[Any], Any], message: str
) -> None:
    maker(tmp_path).write()
    recast(column, make)(tmp_path)
    with pytest.raises(LakeError, match=rf"{FILE}: column {message}" if column != "ts" else message):
        Lake(tmp_path).readings("press-0", ["a"])


def test_one_broken_file_is_an_error_or_told_beside_the_others(tmp_path: Path) -> None:
    maker(tmp_path).write()
    file = tmp_path / "readings" / FILE
    whole = file.read_bytes()
    for broken in (whole[:-40], b"", whole[:-8] + b"\0\0\0\0PAR1"):
        file.write_bytes(broken)
        with pytest.raises(LakeError, match=rf"{FILE}: not a readable Parquet file"):
            Lake(tmp_path)
        lake = Lake(tmp_path, strict=False)
        assert [Path(path).name for path in lake.broken] == [FILE]
        assert len(lake.readings("press-1", ["a"]).ts) == ROWS


def test_rows_without_a_device_are_counted(tmp_path: Path) -> None:
    maker(tmp_path).write()
    recast("device", lambda column: pa.array([None] * 3 + column.to_pylist()[3:], pa.string()))(tmp_path)
    lake = Lake(tmp_path)
    assert list(lake.nameless.values()) == [3]
    assert len(lake.readings("press-0", ["a"]).ts) == ROWS - 3


def test_repeats_and_conflicts_of_the_long_layout_are_counted(tmp_path: Path) -> None:
    made = maker(tmp_path)
    made.write("long")
    file = tmp_path / "readings" / FILE
    table = pq.read_table(file)
    more = table.slice(0, 3)
    other = more.set_column(3, "value", pa.array([1e3, 2e3, more["value"][2].as_py()]))
    pq.write_table(pa.concat_tables([table, other]), file)
    readings = Lake(tmp_path).readings("press-0", made.names)
    assert (readings.repeats, readings.conflicts) == (3, 2)
    np.testing.assert_array_equal(readings.values, made.values["press-0"])


def write_devices(folder: Path, *lines: tuple[object, object, float]) -> None:
    names = ("device", "device_type", "period_s")
    pq.write_table(
        pa.Table.from_pylist([dict(zip(names, line, strict=True)) for line in lines]), folder / "devices.parquet"
    )


def test_a_device_listed_twice_is_told_and_refused_where_the_lines_differ(tmp_path: Path) -> None:
    maker(tmp_path).write()
    write_devices(tmp_path, ("press-0", "press", 60.0), ("press-0", "press", 60.0))
    assert Lake(tmp_path).twice == ["press-0"]
    assert Lake(tmp_path).unregistered() == ["press-1"]
    write_devices(tmp_path, ("press-0", "press", 60.0), ("press-0", "lathe", 1.0))
    with pytest.raises(
        LakeError, match=r"'press-0' stands there twice, as press with period_s = 60 and as lathe with period_s = 1"
    ):
        Lake(tmp_path)


@pytest.mark.parametrize(
    ("period", "message"), [(1e-7, "less than a microsecond"), (0.0, "above 0"), (float("nan"), "nan")]
)
def test_a_period_that_is_none_is_named(tmp_path: Path, period: float, message: str) -> None:
    maker(tmp_path).write()
    write_devices(tmp_path, ("press-0", "press", period))
    with pytest.raises(LakeError, match=f"device 'press-0': period_s is {period}.*{message}|{message}"):
        Lake(tmp_path)


def test_a_line_of_devices_without_a_name_is_named(tmp_path: Path) -> None:
    maker(tmp_path).write()
    write_devices(tmp_path, ("press-0", "press", 60.0), (None, "press", 60.0))
    with pytest.raises(LakeError, match="row 2: device is None"):
        Lake(tmp_path)


# ---- labels ----


def write_labels(folder: Path, lines: list[tuple[object, int | None, int | None, object]]) -> None:
    def time(row: int | None) -> int | None:
        return None if row is None else START + row * MINUTE

    table = pa.table(
        {
            "device": pa.array([line[0] for line in lines], pa.string()),
            "start": pa.array([time(line[1]) for line in lines], UTC),
            "end": pa.array([time(line[2]) for line in lines], UTC),
            "label": pa.array([line[3] for line in lines], pa.string()),
        }
    )
    pq.write_table(table, folder / "labels.parquet")


def test_lines_that_label_nothing_are_left_out_and_counted(tmp_path: Path) -> None:
    maker(tmp_path).write()
    write_labels(
        tmp_path,
        [
            ("press-0", 1, 2, " Fault "),
            ("press-0", 3, 4, None),
            ("press-0", 3, 4, "unclear"),
            (None, 3, 4, "fault"),
            ("press-1", None, 4, "fault"),
            ("press-1", 3, None, "fault"),
            ("press-1", 5, 6, "MAINTENANCE"),
        ],
    )
    lake = Lake(tmp_path)
    assert [label.label for label in lake.labels("press-0") + lake.labels("press-1")] == ["fault", "maintenance"]
    assert dict(lake.labels_left_out) == {
        "with no verdict, or an unclear one": 2, "without a device": 1, "without a start or an end": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("press-0", 4, 3, "fault"), r"row 1 \(press-0\): end 2026-01-01T00:03:00Z is before start .*exchanged\?"),
        (("press-0", 1, 3, "faulty"), "label 'faulty' must be one of .*; did you mean 'fault'"),
    ],
)
def test_a_label_that_cannot_be_right_is_named(tmp_path: Path, line: tuple[str, int, int, str], message: str) -> None:
    maker(tmp_path).write()
    write_labels(tmp_path, [line])
    with pytest.raises(LakeError, match=message):
        Lake(tmp_path)


# ---- tables of other engines ----


def as_delta(folder: Path, made: LakeMaker) -> None:
    """Write the readings as a Delta table whose log deletes some rows and rewrites others."""
    deltalake = pytest.importorskip("deltalake")
    made.write()
    files = sorted((folder / "readings").iterdir())
    table = pa.concat_tables([pq.read_table(file) for file in files])
    shutil.rmtree(folder / "readings")
    spoilt = table.set_column(2, "a", pa.array(np.where(np.arange(len(table)) < 5, 1e6, table["a"].to_numpy())))
    extra = table.slice(0, 2).set_column(
        1, "ts", pa.array([START - MINUTE, START - 2 * MINUTE], UTC)
    )  # rows that are deleted again
    deltalake.write_deltalake(folder / "readings", pa.concat_tables([spoilt, extra]), partition_by=["device"])
    store = deltalake.DeltaTable(folder / "readings")
    store.delete("ts < '2026-01-01T00:00:00Z'")
    for row in range(5):
        store.update(
            predicate=f"a = 1000000.0 and ts = '2026-01-01T00:{row:02d}:00Z'",
            updates={"a": str(table["a"][row].as_py())},
        )


def as_iceberg(folder: Path, made: LakeMaker) -> None:
    """Write the readings as an Iceberg table with a snapshot that deletes rows and one that adds others."""
    pytest.importorskip("pyiceberg")
    from pyiceberg.catalog.sql import SqlCatalog

    made.write()
    files = sorted((folder / "readings").iterdir())
    table = pa.concat_tables([pq.read_table(file) for file in files])
    shutil.rmtree(folder / "readings")
    catalog = SqlCatalog("local", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}/warehouse")
    catalog.create_namespace("lake")
    store = catalog.create_table("lake.readings", schema=table.schema, location=f"file://{folder}/readings")
    store.append(table.slice(0, ROWS + 7).set_column(2, "a", pa.array(np.full(ROWS + 7, 1e6))))
    store.delete("a = 1000000.0")
    store.append(table)


@pytest.mark.parametrize("write", [as_delta, as_iceberg])
def test_a_table_of_another_engine_gives_the_rows_that_its_log_says(
    tmp_path: Path, write: Callable[[Path, LakeMaker], None]
) -> None:
    made = maker(tmp_path)
    write(tmp_path, made)
    lake = Lake(tmp_path)
    assert lake.sensors("press") == made.names
    for device in made.values:
        readings = lake.readings(device, made.names)
        assert readings.ts.tolist() == made.ts[device].tolist()
        np.testing.assert_array_equal(readings.values, made.values[device])


@pytest.mark.parametrize(("write", "library"), [(as_delta, "deltalake"), (as_iceberg, "pyiceberg")])
def test_without_the_library_the_table_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, LakeMaker], None], library: str
) -> None:
    write(tmp_path, maker(tmp_path))
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    extra = {"deltalake": "delta", "pyiceberg": "iceberg"}[library]
    with pytest.raises(LakeError, match=rf"readings: an? (Delta|Iceberg) table; .*deleted rows.*\.\[{extra}\]"):
        Lake(tmp_path)


def test_a_delta_table_with_deletion_vectors_is_refused_by_name(tmp_path: Path) -> None:
    import json

    as_delta(tmp_path, maker(tmp_path))
    log = sorted((tmp_path / "readings" / "_delta_log").glob("*.json"))[0]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        if "protocol" in line:
            line["protocol"] = {
                "minReaderVersion": 3, "minWriterVersion": 7,
                "readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"],
            }  # fmt: skip
    log.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    with pytest.raises(LakeError, match=r"the Delta table cannot be read: .*(?i:deletionvectors)"):
        Lake(tmp_path)


def test_an_iceberg_table_that_lost_a_file_is_named(tmp_path: Path) -> None:
    as_iceberg(tmp_path, maker(tmp_path))
    for file in (tmp_path / "readings" / "data").iterdir():
        file.unlink()
    with pytest.raises(LakeError, match=r"readings: (the table )?cannot be read"):
        Lake(tmp_path).readings("press-0", ["a"])
