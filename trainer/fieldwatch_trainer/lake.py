"""The lake: Parquet in, one device at a time out.

``LAKE/readings/**.parquet`` holds ``device``, ``ts`` and then either a numeric column a sensor (*wide*) or ``sensor``
and ``value`` (*long*), in any number of files, with or without Hive folders (``date=2026-01-01/``).
``devices.parquet`` holds ``device, device_type, period_s``; ``labels.parquet``, where there is one, ``device, start,
end, label, sensors``.

Files are never concatenated. Opening a lake reads footers (and the ``device`` column of files that hold several
devices) to learn which files hold which device; :meth:`Lake.readings` then reads the files of one device. So memory
depends on the largest device, not on their number. Paths may be local or ``s3://``, ``abfs://``, ``gs://``: the file
systems are pyarrow's.

What a user can get wrong raises :class:`LakeError`, and the message names the file or column and what would be right.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from fieldwatch_contract.clock import SECOND
from fieldwatch_contract.grid import ABSURD, Grid
from numpy.typing import NDArray

from fieldwatch_trainer.models import ANOMALY, FAULT, NORMAL

LABELS = {"normal": NORMAL, "fault": FAULT, "anomaly": ANOMALY}

DEVICES_COLUMNS = ("device", "device_type", "period_s")
LABEL_COLUMNS = ("device", "start", "end", "label")


class LakeError(Exception):
    """The lake cannot be used as asked; the message says where, what is wrong and what would be right."""


@dataclass(frozen=True)
class DeviceInfo:
    """A line of ``devices.parquet``; ``period`` in µs."""

    device: str
    device_type: str
    period: int


@dataclass(frozen=True)
class Label:
    """A line of ``labels.parquet``; ``start`` and ``end`` in µs, both inclusive; ``label`` fault, anomaly or normal."""

    device: str
    start: int
    end: int
    label: str
    sensors: tuple[str, ...] = ()


@dataclass(frozen=True)
class Readings:
    """A device's readings in time order.

    ``ts`` int64 ``[m]`` µs, not descending; ``values`` float64 ``[m, S]`` in the order asked for, NaN = missing;
    ``disorder`` counts those that were older than the one before them in the files.
    """

    ts: NDArray[np.int64]
    values: NDArray[np.float64]
    disorder: int = 0


@dataclass(frozen=True)
class GridRows:
    """A device's readings on its grid.

    ``ts`` int64 ``[T]`` µs; ``rows`` float64 ``[T, S]``; ``reading`` bool ``[T]``, False for rows that stand for a
    missing period; ``duplicate`` counts readings refused because their slot was taken.
    """

    ts: NDArray[np.int64]
    rows: NDArray[np.float64]
    reading: NDArray[np.bool_]
    duplicate: int


@dataclass
class _File:
    """A Parquet file of readings: its fragment, sensor columns in order, whether it is long, and what is no number."""

    fragment: Any
    path: str
    sensors: list[str]
    long: bool
    partition: dict[str, Any] = field(default_factory=dict)
    passed_over: list[str] = field(default_factory=list)

    def read(self, columns: list[str], device: str | None = None) -> Any:
        """Return ``columns`` as a table, of ``device`` alone where one is given."""
        wanted = None if device is None or "device" in self.partition else pc.field("device") == device
        try:
            return self.fragment.to_table(columns=columns, filter=wanted)
        except (pa.ArrowException, OSError) as error:
            raise LakeError(f"{self.path}: cannot be read: {str(error)[:300]}") from error

    def floats(self, table: Any, column: str) -> NDArray[np.float64]:
        """Return a column as float64, nulls as NaN, absurd values as infinities, which count as missing."""
        values = table[column]
        try:
            values = values.cast(pa.int8() if pa.types.is_boolean(values.type) else pa.float64(), safe=False)
        except pa.ArrowException as error:
            raise LakeError(f"{self.path}: column {column!r} must hold numbers: {str(error)[:200]}") from error
        floats = np.asarray(values.to_numpy(zero_copy_only=False), np.float64)
        absurd = np.abs(floats) > ABSURD
        return np.where(absurd, np.inf, floats) if absurd.any() else floats


class Lake:
    """A lake at ``url``. Raises :class:`LakeError` where there is none."""

    def __init__(self, url: str | Path) -> None:
        self.url = str(url)
        self._fs, self._root = _open(self.url)
        self._devices = self._read_devices()
        self._files = self._index()
        self._labels = self._read_labels()
        self._names: dict[str, list[str]] = {}

    # ---- what there is ---------------------------------------------------------------------------------------

    def device_types(self) -> dict[str, list[str]]:
        """Return the devices of ``devices.parquet`` by type, both sorted."""
        found: dict[str, list[str]] = {}
        for info in sorted(self._devices.values(), key=lambda info: (info.device_type, info.device)):
            found.setdefault(info.device_type, []).append(info.device)
        return found

    def devices(self, device_type: str) -> list[DeviceInfo]:
        """Return the type's devices that have readings, by name.

        Raises :class:`LakeError` for a type without devices or readings, and where their periods differ: one grid, one
        model.
        """
        types = self.device_types()
        if device_type not in types:
            known = ", ".join(types) or "none at all"
            raise LakeError(f"{self.url}: no device of type {device_type!r}; devices.parquet has: {known}")
        infos = [self._devices[name] for name in types[device_type] if name in self._files]
        if not infos:
            raise LakeError(
                f"{self.url}: devices of type {device_type!r} ({_some(types[device_type])}) have no readings; "
                f"readings are there for: {_some(sorted(self._files)) or 'no device'}"
            )
        periods = sorted({info.period for info in infos})
        if len(periods) > 1:
            named = ", ".join(f"{period / SECOND:g} s" for period in periods)
            raise LakeError(
                f"{self.url}: devices of type {device_type!r} have different periods ({named}); "
                "a model needs one: give them different types in devices.parquet"
            )
        return infos

    def info(self, device: str) -> DeviceInfo:
        """Return a device's line of ``devices.parquet``."""
        if device not in self._devices:
            raise LakeError(f"{self.url}: devices.parquet has no device {device!r}")
        return self._devices[device]

    def sensors(self, device_type: str) -> list[str]:
        """Return every sensor of the type's devices, in the files' column order, new ones appended as they come.

        In the long layout there is no column order, so names are sorted.
        """
        if device_type not in self._names:
            names: dict[str, None] = {}
            named: set[str] = set()
            for info in self.devices(device_type):
                for file in self._files[info.device]:
                    if file.long:
                        column = file.read(["sensor"], info.device)["sensor"]
                        named.update(name for name in column.unique().to_pylist() if name is not None)
                    else:
                        names.update(dict.fromkeys(file.sensors))
            found = [*names, *sorted(named - set(names))]
            if not found:
                raise LakeError(f"{self.url}: devices of type {device_type!r} have no numeric sensor column")
            self._names[device_type] = found
        return self._names[device_type]

    def passed_over(self, device_type: str) -> dict[str, str]:
        """Return the columns that are no sensors, with a file that has one: text, or the index of a data frame."""
        files = [file for info in self.devices(device_type) for file in self._files[info.device]]
        return {name: file.path for file in reversed(files) for name in reversed(file.passed_over)}

    def labels(self, device: str) -> list[Label]:
        """Return the device's labels by start; empty where there are none."""
        return self._labels.get(device, [])

    def labelled_devices(self) -> list[str]:
        """Return the devices that ``labels.parquet`` names, also those that nothing else knows."""
        return sorted(self._labels)

    @property
    def labelled(self) -> bool:
        """Whether the lake has any label at all."""
        return bool(self._labels)

    # ---- readings --------------------------------------------------------------------------------------------

    def readings(self, device: str, sensors: list[str]) -> Readings:
        """Read one device. Sensors that it does not have are NaN; columns that are not asked for are not read.

        Long rows make one reading a slot of the device's period, with the time of the slot's first value.
        """
        if device not in self._files:
            raise LakeError(f"{self.url}: no readings of device {device!r}")
        parts = [self._read(file, device, sensors) for file in self._files[device]]
        ts = np.concatenate([part[0] for part in parts])
        values = np.concatenate([part[1] for part in parts])
        disorder = int((np.diff(ts) < 0).sum())
        if disorder:
            order = np.argsort(ts, kind="stable")
            ts, values = ts[order], values[order]
        if any(file.long for file in self._files[device]):
            ts, values = _merge_slots(ts, values, self.info(device).period)
        return Readings(ts, values, disorder)

    def grid(self, device: str, sensors: list[str], window: int) -> GridRows:
        """Read one device and place it on its grid; gaps are at most ``window`` rows long (see contract.grid)."""
        readings = self.readings(device, sensors)
        grid = Grid(self.info(device).period, window, len(sensors))
        block = grid.place(readings.ts, readings.values)
        return GridRows(block.ts, block.rows[window - 1 :], block.source >= 0, len(block.duplicate))

    def _read(self, file: _File, device: str, sensors: list[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        wanted = ["sensor", "value"] if file.long else [name for name in file.sensors if name in set(sensors)]
        table = file.read(["ts", *wanted], device)
        ts = _micros(table["ts"], file.path, "ts")
        values = np.full((len(ts), len(sensors)), np.nan)
        place = {name: index for index, name in enumerate(sensors)}
        if file.long:
            names = table["sensor"].combine_chunks().dictionary_encode()
            columns = np.array([place.get(name, -1) for name in names.dictionary.to_pylist()] or [-1])
            index = names.indices.fill_null(0).to_numpy(zero_copy_only=False)
            column = np.where(names.is_valid().to_numpy(zero_copy_only=False), columns[index], -1)
            kept = np.flatnonzero(column >= 0)
            values[kept, column[kept]] = file.floats(table, "value")[kept]
            return ts[kept], values[kept]
        for name in wanted:
            values[:, place[name]] = file.floats(table, name)
        return ts, values

    # ---- opening ---------------------------------------------------------------------------------------------

    def _path(self, *parts: str) -> str:
        return posixpath.join(self._root, *parts)

    def _table(self, name: str, columns: Iterable[str]) -> Any:
        path = self._path(name)
        try:
            table = pq.read_table(self._fs.open_input_file(path))
        except FileNotFoundError:
            return None
        except (pa.ArrowException, OSError) as error:
            raise LakeError(f"{path}: not a readable Parquet file: {str(error)[:300]}") from error
        if missing := [column for column in columns if column not in table.column_names]:
            raise LakeError(
                f"{path}: column {missing[0]!r} is missing; it needs {', '.join(columns)} "
                f"and has {', '.join(table.column_names)}"
            )
        return table

    def _read_devices(self) -> dict[str, DeviceInfo]:
        table = self._table("devices.parquet", DEVICES_COLUMNS)
        if table is None:
            raise LakeError(
                f"{self.url}: no devices.parquet there; a lake needs devices.parquet (device, device_type, period_s) "
                "and readings/**.parquet"
            )
        found: dict[str, DeviceInfo] = {}
        for line in table.select(DEVICES_COLUMNS).to_pylist():
            period = line["period_s"]
            if not isinstance(period, int | float) or not 0 < period < math.inf:
                raise LakeError(
                    f"{self._path('devices.parquet')}: device {line['device']!r}: period_s is {period!r}, "
                    "must be a number of seconds above 0"
                )
            found[str(line["device"])] = DeviceInfo(
                str(line["device"]), str(line["device_type"]), round(period * SECOND)
            )
        return found

    def _index(self) -> dict[str, list[_File]]:
        """Learn which files hold which device, in path order."""
        folder = self._path("readings")
        try:
            whole = ds.dataset(folder, filesystem=self._fs, format="parquet", partitioning="hive")
        except (FileNotFoundError, OSError) as error:
            raise LakeError(f"{self.url}: no folder readings/ with Parquet files: {str(error)[:200]}") from error
        except pa.ArrowException as error:
            raise LakeError(f"{folder}: {str(error)[:300]}") from error
        found: dict[str, list[_File]] = {}
        fragments = sorted(whole.get_fragments(), key=lambda fragment: str(fragment.path))
        if not fragments:
            raise LakeError(f"{folder}: no Parquet file in it")
        for fragment in fragments:
            file = self._file(fragment)
            for device in _devices_of(file):
                found.setdefault(device, []).append(file)
        return found

    def _file(self, fragment: Any) -> _File:
        path = str(fragment.path)
        try:
            schema = fragment.physical_schema
        except (pa.ArrowException, OSError) as error:
            raise LakeError(f"{path}: not a readable Parquet file: {str(error)[:300]}") from error
        partition = ds.get_partition_keys(fragment.partition_expression)
        for column in ("device", "ts"):
            if column not in schema.names and column not in partition:
                raise LakeError(f"{path}: column {column!r} is missing; columns are {_some(schema.names)}")
        if not pa.types.is_timestamp(schema.field("ts").type):
            raise LakeError(f"{path}: column 'ts' is {schema.field('ts').type}, must be a timestamp (UTC)")
        if "device" in schema.names and not _text(schema.field("device").type):
            raise LakeError(f"{path}: column 'device' is {schema.field('device').type}, must be text")
        long = "sensor" in schema.names and "value" in schema.names
        other = {"device", "ts", *_index_columns(schema)}
        sensors = [] if long else [f.name for f in schema if f.name not in other and _numeric(f.type)]
        known = {"device", "ts", *sensors, *partition}
        return _File(
            fragment, path, sensors, long, partition, [] if long else [n for n in schema.names if n not in known]
        )

    def _read_labels(self) -> dict[str, list[Label]]:
        table = self._table("labels.parquet", LABEL_COLUMNS)
        if table is None:
            return {}
        path = self._path("labels.parquet")
        start, end = _micros(table["start"], path, "start"), _micros(table["end"], path, "end")
        sensors = table["sensors"].to_pylist() if "sensors" in table.column_names else [None] * len(start)
        if any(isinstance(named, str) for named in sensors):
            raise LakeError(f"{path}: column 'sensors' is text, must be lists of names: ['s1', 's2'], not 's1, s2'")
        names = zip(table["device"].to_pylist(), table["label"].to_pylist(), sensors, strict=True)
        found: dict[str, list[Label]] = {}
        for line, (device, label, named) in enumerate(names):
            if label not in LABELS:
                raise LakeError(f"{path}: row {line + 1}: label {label!r} must be one of {', '.join(sorted(LABELS))}")
            if end[line] < start[line]:
                raise LakeError(f"{path}: row {line + 1} ({device}): end is before start")
            found.setdefault(device, []).append(
                Label(device, int(start[line]), int(end[line]), label, tuple(named or ()))
            )
        return {device: sorted(labels, key=lambda one: (one.start, one.end)) for device, labels in found.items()}


def label_codes(ts: NDArray[np.int64], labels: list[Label]) -> NDArray[np.int8]:
    """Return :data:`.models.NORMAL`, ``FAULT`` or ``ANOMALY`` for each time; where they overlap, fault wins."""
    codes = np.full(len(ts), NORMAL, np.int8)
    for kind in ("anomaly", "fault"):
        for label in labels:
            if label.label == kind:
                codes[(ts >= label.start) & (ts <= label.end)] = LABELS[kind]
    return codes


def _open(url: str) -> tuple[Any, str]:
    if "://" not in url:
        if not Path(url).is_dir():
            raise LakeError(f"{url}: no such lake folder")
        return pafs.LocalFileSystem(), Path(url).resolve().as_posix()
    try:
        filesystem, root = pafs.FileSystem.from_uri(url)
        exists = filesystem.get_file_info(root).type != pafs.FileType.NotFound
    except (pa.ArrowException, OSError, ValueError) as error:
        raise LakeError(f"{url}: cannot be opened: {str(error)[:300]}") from error
    if not exists:
        raise LakeError(f"{url}: no such lake folder")
    return filesystem, root


def _devices_of(file: _File) -> list[str]:
    """Return the devices in a file: from its folder, else from the footer's statistics, else from the column."""
    if "device" in file.partition:
        folder = next(part for part in file.path.split("/") if part.startswith("device="))
        return [unquote(folder.removeprefix("device="))]  # pyarrow would make a number of "001"
    fragment = file.fragment
    values: set[str] = set()
    for group in fragment.row_groups:
        bounds = (group.statistics or {}).get("device")
        if bounds is None or bounds["min"] != bounds["max"]:
            column = file.read(["device"])["device"]
            return sorted(str(name) for name in pc.unique(column).to_pylist() if name is not None)
        values.add(str(bounds["min"]))
    return sorted(values)


def _numeric(kind: Any) -> bool:
    tests = (pa.types.is_floating, pa.types.is_integer, pa.types.is_boolean, pa.types.is_decimal)
    return any(test(kind) for test in tests)


def _text(kind: Any) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _index_columns(schema: Any) -> list[str]:
    """Return the columns that are a pandas index: row numbers, which would be a clock in the guise of a sensor."""
    told = (schema.pandas_metadata or {}).get("index_columns") or []
    return [name for name in told if isinstance(name, str)]


def _micros(column: Any, path: str, name: str) -> NDArray[np.int64]:
    """Return a timestamp column as int64 µs UTC; without a zone it is UTC."""
    if not pa.types.is_timestamp(column.type):
        raise LakeError(f"{path}: column {name!r} is {column.type}, must be a timestamp (UTC)")
    if column.null_count:
        raise LakeError(f"{path}: column {name!r} has {column.null_count} empty values")
    micros = column.cast(pa.timestamp("us", tz=column.type.tz), safe=False).cast(pa.int64())
    return np.asarray(micros.to_numpy(zero_copy_only=False), np.int64)


def _merge_slots(
    ts: NDArray[np.int64], values: NDArray[np.float64], period: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Merge rows of one slot into one reading: of each sensor the first value that is there."""
    slots = ts // period
    starts = np.flatnonzero(np.diff(slots, prepend=slots[0] - 1)) if len(slots) else np.zeros(0, np.int64)
    group = np.cumsum(np.isin(np.arange(len(slots)), starts)) - 1
    merged = np.full((len(starts), values.shape[1]), np.nan)
    rows, columns = np.nonzero(~np.isnan(values))
    rows, columns = rows[::-1], columns[::-1]  # the last assignment stands: go backwards, so the first value does
    merged[group[rows], columns] = values[rows, columns]
    return ts[starts], merged


def _some(names: Iterable[str], limit: int = 8) -> str:
    listed = list(names)
    more = f", … ({len(listed)} in all)" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
