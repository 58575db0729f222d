"""Readings → the lake: one Parquet file a device and month, whole or not at all.

What stands in the lake already stays: a reading of the same time is a repetition, with another value a conflict, which
is counted. So the same log may be ingested again, or after it has grown, or in its rotated copies, and nothing comes
twice. Rows of one period from logs of different components make one reading (:mod:`.together`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fieldwatch_contract.clock import SECOND
from numpy.typing import NDArray

from fieldwatch_trainer import labels as label_table
from fieldwatch_trainer import together
from fieldwatch_trainer.checks.rows import repeated
from fieldwatch_trainer.columns import floats, micros
from fieldwatch_trainer.labels import Label

UTC = pa.timestamp("us", tz="UTC")
DEVICES = pa.schema([("device", pa.string()), ("device_type", pa.string()), ("period_s", pa.float64())])
LABELS = pa.schema(
    [
        ("device", pa.string()),
        ("start", UTC),
        ("end", UTC),
        ("label", pa.string()),
        ("sensors", pa.list_(pa.string())),
    ]
)


class StoreError(Exception):
    """The lake holds something that contradicts what is to be added; the message names it."""


@dataclass
class Added:
    """What became of readings: ``new`` rows, ``known`` ones that the lake had, values in ``conflict`` with it."""

    new: int = 0
    known: int = 0
    conflicts: int = 0


@dataclass(frozen=True)
class Rows:
    """Rows of one device in time order: ``ts`` int64 ``[n]`` µs, ``values`` float64 ``[n, S]`` of ``sensors``.

    ``covers`` bool ``[n, S]``: the sensors of each row's log (:mod:`.together`); None: those that have a value.
    """

    ts: NDArray[np.int64]
    values: NDArray[np.float64]
    sensors: tuple[str, ...]
    covers: NDArray[np.bool_] | None = None


def merged(parts: Sequence[Rows], period: int) -> tuple[Rows, int]:
    """Put rows together, earlier parts first; return them and how many values contradict an earlier one."""
    sensors = tuple(dict.fromkeys(name for part in parts for name in part.sensors))
    ts = np.concatenate([part.ts for part in parts])
    values = np.full((len(ts), len(sensors)), np.nan)
    covers = np.zeros(values.shape, np.bool_)
    start = 0
    for part in parts:
        places, stop = [sensors.index(name) for name in part.sensors], start + len(part.ts)
        values[start:stop, places] = part.values
        covers[start:stop, places] = ~np.isnan(part.values) if part.covers is None else part.covers
        start = stop
    order = np.argsort(ts, kind="stable")
    ts, values, covers = ts[order], values[order], covers[order]
    starts = np.flatnonzero(np.diff(ts, prepend=ts[0] - 1)) if len(ts) else np.zeros(0, np.int64)
    values, covers, _, conflicts = together.put(values, covers, starts)
    ts = ts[starts]
    again, _ = repeated(ts, period)
    starts = together.parted(covers, np.delete(np.arange(len(ts)), again))  # two readings stay two: check tells
    values, covers, _, _ = together.put(values, covers, starts)
    return Rows(ts[starts], values, sensors), conflicts


def add(lake: Path, device: str, rows: Rows, period: int) -> Added:
    """Add a device's readings to the lake."""
    added = Added()
    months = rows.ts.astype("datetime64[us]").astype("datetime64[M]")
    for month in np.unique(months):
        kept = months == month
        covers = None if rows.covers is None else rows.covers[kept]
        new = Rows(rows.ts[kept], rows.values[kept], rows.sensors, covers)
        file = lake / "readings" / device / f"{month}.parquet"
        old = _read(file)
        whole, conflicts = merged([part for part in (old, new) if part is not None], period)
        before = 0 if old is None else len(old.ts)
        added.new += len(whole.ts) - before
        added.known += len(new.ts) - (len(whole.ts) - before)
        added.conflicts += conflicts
        if old is None or len(whole.ts) != before or not _equal(old, whole):
            _write(file, _table(device, whole))
    return added


def _equal(one: Rows, two: Rows) -> bool:
    return one.sensors == two.sensors and np.array_equal(one.values, two.values, equal_nan=True)


def _read(file: Path) -> Rows | None:
    if not file.exists():
        return None
    table = pq.read_table(file)
    sensors = tuple(name for name in table.column_names if name not in ("device", "ts"))
    values = np.stack([floats(table[name], f"{file}: column {name!r}") for name in sensors], axis=1)
    return Rows(micros(table["ts"], f"{file}: column 'ts'"), values, sensors)


def _table(device: str, rows: Rows) -> Any:
    columns: dict[str, Any] = {"device": pa.array([device] * len(rows.ts)), "ts": pa.array(rows.ts, UTC)}
    return pa.table(columns | {name: rows.values[:, place] for place, name in enumerate(rows.sensors)})


def _write(file: Path, table: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    try:
        pq.write_table(table, part, compression="zstd")
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def add_device(lake: Path, device: str, device_type: str, period: int) -> None:
    """Register a device; raises :class:`StoreError` where it stands there with another type or period."""
    file = lake / "devices.parquet"
    lines = pq.read_table(file).to_pylist() if file.exists() else []
    line = {"device": device, "device_type": device_type, "period_s": period / SECOND}
    for old in lines:
        if old["device"] == device:
            if any(old[key] != line[key] for key in line):
                raise StoreError(
                    f"{file}: {device} stands there as {old['device_type']} with period_s = {old['period_s']:g}, not "
                    f"as {device_type} with {period / SECOND:g}: say --device-type and --period as there, or correct it"
                )
            return
    _write(file, pa.Table.from_pylist([*lines, line], DEVICES))


def add_labels(lake: Path, new: Sequence[Label]) -> int:
    """Add labels that are not there yet; return how many."""
    file = lake / "labels.parquet"
    table = pq.read_table(file) if file.exists() else LABELS.empty_table()
    old = label_table.read(table, str(file)).by_device
    known = {label for labels in old.values() for label in labels}
    added = [label for label in dict.fromkeys(new) if label not in known]
    if added:
        lines = [
            {"device": one.device, "start": one.start, "end": one.end, "label": one.label, "sensors": list(one.sensors)}
            for one in added
        ]
        more = pa.Table.from_pylist(lines, LABELS)
        _write(file, pa.concat_tables([table.select(LABELS.names).cast(LABELS), more]))
    return len(added)
