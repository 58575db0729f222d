"""Which bytes a training read: the same for a copy of the lake, another one for one changed byte or row."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fieldwatch_trainer import digests
from fieldwatch_trainer.lake import Lake

TS = pa.array([datetime(2026, 1, 1, 0, minute, tzinfo=UTC) for minute in range(3)], pa.timestamp("us", "UTC"))


def readings(device: str, value: float) -> pa.Table:
    return pa.table({"device": [device] * 3, "ts": TS, "rpm": [value] * 3})


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    folder = tmp_path / "lake"
    (folder / "readings").mkdir(parents=True)
    for device in ("press-1", "press-2", "mill-1"):
        pq.write_table(readings(device, 1.0), folder / "readings" / f"{device}.parquet")
    types = {
        "device": ["press-1", "press-2", "mill-1"],
        "device_type": ["press", "press", "mill"],
        "period_s": [60.0] * 3,
    }
    pq.write_table(pa.table(types), folder / "devices.parquet")
    return folder


def of(folder: Path) -> dict[str, str]:
    return {item["name"]: item["sha256"] for item in Lake(folder).digests("press")}


def test_every_file_of_the_type_is_named_by_its_bytes(lake: Path, tmp_path: Path) -> None:
    import hashlib

    found = of(lake)
    assert list(found) == ["devices.parquet", "readings/press-1.parquet", "readings/press-2.parquet"]
    assert found == {name: hashlib.sha256((lake / name).read_bytes()).hexdigest() for name in found}
    shutil.copytree(lake, tmp_path / "copy")
    assert of(tmp_path / "copy") == found
    pq.write_table(readings("press-1", 2.0), lake / "readings" / "press-1.parquet")
    changed = of(lake)
    assert {name for name in found if changed[name] != found[name]} == {"readings/press-1.parquet"}


def test_a_table_is_named_by_its_log_and_a_deleted_row_is_another_state(lake: Path) -> None:
    from deltalake import DeltaTable, write_deltalake

    table = lake / "readings" / "table"
    write_deltalake(table, readings("press-3", 1.0))
    write_deltalake(table, readings("press-4", 1.0), mode="append")
    types = {"device": ["press-3", "press-4"], "device_type": ["press"] * 2, "period_s": [60.0] * 2}
    pq.write_table(pa.table(types), lake / "devices.parquet")
    before = next(item for item in Lake(lake).digests("press") if item["name"] == "readings/table")
    assert before["log"] == "00000000000000000001.json"
    DeltaTable(table).delete("device = 'press-4' and rpm > 5")
    DeltaTable(table).delete("device = 'press-4' and ts > '2026-01-01T00:01:00Z'")
    after = next(item for item in Lake(lake).digests("press") if item["name"] == "readings/table")
    assert (after["log"], after["sha256"] == before["sha256"]) == ("00000000000000000002.json", False)


def test_the_code_has_a_digest() -> None:
    assert digests.of_code() == digests.of_code()
    assert len(digests.of_code()) == 64
