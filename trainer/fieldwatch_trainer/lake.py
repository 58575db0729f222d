"""The lake: Parquet in, one device at a time out.

``LAKE/readings/`` holds ``device``, ``ts`` and then either a numeric column a sensor (*wide*) or ``sensor`` and
``value`` (*long*), in any number of files and tables (:mod:`.sources`), with or without Hive folders
(``date=2026-01-01/``). ``devices.parquet`` holds ``device, device_type, period_s``; ``labels.parquet``, where there is
one, ``device, start, end, label, sensors`` (:mod:`.labels`).

Files are never concatenated. Opening a lake reads footers (and the ``device`` column of files that hold several
devices) to learn which files hold which device; :meth:`Lake.readings` then reads the files of one device. So memory
depends on the largest device, not on their number. Paths may be local or ``s3://``, ``abfs://``, ``gs://``: the file
systems are pyarrow's.

What a user can get wrong raises :class:`LakeError`, and the message names the file or column and what would be right.
With ``strict=False`` a file that cannot be read stands in :attr:`Lake.broken` instead, so that :mod:`.check` can tell
of it together with everything else.
"""

from __future__ import annotations

import math
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
from fieldwatch_contract.clock import SECOND
from fieldwatch_contract.grid import Grid
from fieldwatch_contract.phase import follow, quarters
from fieldwatch_contract.reading.long import beginnings
from numpy.typing import NDArray

from fieldwatch_trainer import digests, together
from fieldwatch_trainer import labels as label_table
from fieldwatch_trainer.columns import ColumnError, floats, micros, texts
from fieldwatch_trainer.labels import Label, Labels
from fieldwatch_trainer.labels import codes as label_codes
from fieldwatch_trainer.sources import Source, SourceError, discover, some, table_in

__all__ = ["DeviceInfo", "GridRows", "Label", "Lake", "LakeError", "Readings", "label_codes"]

DEVICES_COLUMNS = ("device", "device_type", "period_s")
COLUMNS = 64 * 1024 * 1024
FEW_COLUMNS = 8
"""As many sensors are read at first, until the number of rows is known."""


class LakeError(Exception):
    """The lake cannot be used as asked; the message says where, what is wrong and what would be right."""


@dataclass(frozen=True)
class DeviceInfo:
    """A line of ``devices.parquet``; ``period`` in µs."""

    device: str
    device_type: str
    period: int


@dataclass(frozen=True)
class Readings:
    """A device's readings in time order.

    ``ts`` int64 ``[m]`` µs, not descending; ``values`` float64 ``[m, S]`` in the order asked for, NaN = missing;
    ``disorder`` counts those that were older than the one before them in the files. Where rows were put together (see
    :meth:`Lake.readings`), ``repeats`` counts values that were there already, ``conflicts`` those of them that differ.
    """

    ts: NDArray[np.int64]
    values: NDArray[np.float64]
    disorder: int = 0
    repeats: int = 0
    conflicts: int = 0


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


class Lake:
    """A lake at ``url``. Raises :class:`LakeError` where there is none, and, if ``strict``, for a file that is broken.

    ``broken``: files that cannot be read, and why; ``others``: files that hold no readings; ``twice``: devices that
    stand more than once in ``devices.parquet``; ``nameless``: rows without a device, by file.
    """

    def __init__(self, url: str | Path, *, strict: bool = True) -> None:
        self.url = str(url)
        self._fs, self._root = _open(self.url)
        self.twice: list[str] = []
        self.broken: dict[str, str] = {}
        self.others: list[str] = []
        self.nameless: dict[str, int] = {}
        self._devices = self._read_devices()
        self._files = self._index()
        self._labels = self._read_labels()
        self._names: dict[str, list[str]] = {}
        if strict and self.broken:
            raise LakeError(next(iter(self.broken.values())))

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
                f"{self.url}: devices of type {device_type!r} ({some(types[device_type])}) have no readings; "
                f"readings are there for: {some(sorted(self._files)) or 'no device'}"
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
                        column = self._read(file, ["sensor"], info.device)["sensor"]
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

    def sources(self, device: str) -> list[Source]:
        """Return the files and tables that hold readings of a device, in path order."""
        return self._files.get(device, [])

    def digests(self, device_type: str) -> list[digests.Digest]:
        """Return the digests of what the type's devices, their labels and their list are read from.

        Raises :class:`LakeError`.
        """
        paths = {source.path for info in self.devices(device_type) for source in self.sources(info.device)}
        tables = map(self._path, ("devices.parquet", "labels.parquet"))
        paths |= {path for path in tables if self._fs.get_file_info(path).type != pafs.FileType.NotFound}
        try:
            return digests.of_lake(self._fs, self._root, paths)
        except OSError as error:
            raise LakeError(f"{self.url}: cannot be read: {error}") from error

    def unregistered(self) -> list[str]:
        """Return the devices that have readings and no line in ``devices.parquet``."""
        return sorted(set(self._files) - set(self._devices))

    def labels(self, device: str) -> list[Label]:
        """Return the device's labels by start; empty where there are none."""
        return self._labels.by_device.get(device, [])

    def labelled_devices(self) -> list[str]:
        """Return the devices that ``labels.parquet`` names, also those that nothing else knows."""
        return sorted(self._labels.by_device)

    @property
    def labelled(self) -> bool:
        """Whether the lake has any label at all."""
        return bool(self._labels.by_device)

    @property
    def labels_left_out(self) -> Counter[str]:
        """How many lines of ``labels.parquet`` label nothing, by reason."""
        return self._labels.left_out

    @property
    def labels_zoned(self) -> bool | None:
        """Whether the labels' times carry a zone; None without labels."""
        return self._labels.zoned

    # ---- readings --------------------------------------------------------------------------------------------

    def readings(self, device: str, sensors: list[str]) -> Readings:
        """Read one device. Sensors that it does not have are NaN; columns that are not asked for are not read.

        Rows are put together where a reading's values stand in several by nature: in the long layout, by the rule by
        which the device reads a log with a value a line; and from files that hold different sensors, those of one slot
        of the period (:mod:`.together`). Such a reading has the time of its first row.
        """
        if device not in self._files:
            raise LakeError(f"{self.url}: no readings of device {device!r}")
        period = self.info(device).period
        read = [(file, *self._values(file, device, sensors)) for file in self._files[device]]
        disorder = sum(int((np.diff(ts) < 0).sum()) for _, ts, _ in read)
        parts = [(frozenset(file.sensors), ts, values) for file, ts, values in read if not file.long]
        if long := [(ts, values) for file, ts, values in read if file.long]:
            ts, order = _sorted([ts for ts, _ in long])
            told = _of_values(ts, np.concatenate([values for _, values in long])[order], period)
            if not parts:
                return replace(told, disorder=disorder)
            names = np.array(sensors)[(~np.isnan(told.values)).any(axis=0)]
            parts.append((frozenset(names.tolist()), told.ts, told.values))
        ts, order = _sorted([ts for _, ts, _ in parts])
        values = np.concatenate([values for _, _, values in parts])[order]
        if len({names for names, _, _ in parts}) == 1:
            return Readings(ts, values, disorder)
        source = np.repeat(np.arange(len(parts)), [len(ts) for _, ts, _ in parts])[order]
        everyone = list(dict.fromkeys([*sensors, *(name for names, _, _ in parts for name in sorted(names))]))
        covers = np.array([[name in names for name in everyone] for names, _, _ in parts])[source]
        slots = follow(quarters(ts, period)).slots
        starts = together.parted(covers, np.flatnonzero(np.diff(slots, prepend=slots[:1] - 1)))
        values, _, repeats, conflicts = together.put(values, covers[:, : len(sensors)], starts)
        return Readings(ts[starts], values, disorder, repeats, conflicts)

    def columns(self, device: str, sensors: list[str]) -> Iterator[tuple[list[str], Readings]]:
        """Yield a device's readings some sensors at a time, about :data:`COLUMNS` bytes; ``ts`` is always the same.

        Where rows are put together (see :meth:`readings`) all sensors come at once.
        """
        files = self._files.get(device, [])
        whole = any(file.long for file in files) or len({frozenset(file.sensors) for file in files}) > 1
        width, start = len(sensors) if whole else FEW_COLUMNS, 0
        while start < len(sensors):
            group = sensors[start : start + width]
            readings = self.readings(device, group)
            yield group, readings
            start += len(group)
            width = max(1, COLUMNS // (8 * max(1, len(readings.ts))))

    def grid(self, device: str, sensors: list[str], window: int) -> GridRows:
        """Read one device and place it on its grid; gaps are at most ``window`` rows long (see contract.grid)."""
        readings = self.readings(device, sensors)
        grid = Grid(self.info(device).period, window, len(sensors))
        block = grid.place(readings.ts, readings.values)
        return GridRows(block.ts, block.rows[window - 1 :], block.source >= 0, len(block.duplicate))

    def _values(self, file: Source, device: str, sensors: list[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        wanted = ["sensor", "value"] if file.long else [name for name in file.sensors if name in set(sensors)]
        table = self._read(file, ["ts", *wanted], device)
        try:
            ts = micros(table["ts"], f"{file.path}: column 'ts'")
            values = np.full((len(ts), len(sensors)), np.nan)
            place = {name: index for index, name in enumerate(sensors)}
            if not file.long:
                for name in wanted:
                    values[:, place[name]] = floats(table[name], f"{file.path}: column {name!r}")
                return ts, values
            names = table["sensor"].combine_chunks().dictionary_encode()
            known = texts(names.dictionary, f"{file.path}: column 'sensor'")
            columns = np.array([place.get(name or "", -1) for name in known] or [-1])
            index = names.indices.fill_null(0).to_numpy(zero_copy_only=False)
            column = np.where(names.is_valid().to_numpy(zero_copy_only=False), columns[index], -1)
            known_ones = np.flatnonzero(column >= 0)
            told = floats(table["value"], f"{file.path}: column 'value'")
            values[known_ones, column[known_ones]] = told[known_ones]
            kept = np.flatnonzero(names.is_valid().to_numpy(zero_copy_only=False))  # others open readings all the same
        except ColumnError as error:
            raise LakeError(str(error)) from error
        return ts[kept], values[kept]

    @staticmethod
    def _read(file: Source, columns: list[str], device: str) -> Any:
        try:
            return file.read(columns, device)
        except SourceError as error:
            raise LakeError(str(error)) from error

    # ---- opening ---------------------------------------------------------------------------------------------

    def _path(self, *parts: str) -> str:
        return posixpath.join(self._root, *parts)

    def _table(self, name: str, columns: Iterable[str]) -> Any:
        path = self._path(name)
        try:
            table = table_in(self._fs, path, posixpath.join(self.url, name))
        except SourceError as error:
            raise LakeError(str(error)) from error
        if table is None:
            return None
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
        path = self._path("devices.parquet")
        found: dict[str, DeviceInfo] = {}
        for number, line in enumerate(table.select(DEVICES_COLUMNS).to_pylist()):
            device, kind = line["device"], line["device_type"]
            if device is None or kind is None:
                raise LakeError(f"{path}: row {number + 1}: device is {device!r} and device_type {kind!r}; name both")
            info = DeviceInfo(str(device), str(kind), _period(line["period_s"], f"{path}: device {device!r}"))
            if found.setdefault(info.device, info) != info:
                raise LakeError(
                    f"{path}: device {info.device!r} stands there twice, as {_about(found[info.device])} and as "
                    f"{_about(info)}: delete the line that is wrong"
                )
            self.twice.extend([info.device] * (found[info.device] is not info))
        return found

    def _index(self) -> dict[str, list[Source]]:
        """Learn which files hold which device, in path order."""
        folder = self._path("readings")
        try:
            listed = discover(self._fs, folder, self._address)
        except (OSError, pa.ArrowException) as error:
            raise LakeError(f"{self.url}: no folder readings/ with Parquet files: {str(error)[:200]}") from error
        self.broken, self.others = listed.broken, listed.others
        if not listed.sources and not listed.broken:
            others = f"; it holds {listed.others[0]}" if listed.others else ""
            raise LakeError(f"{folder}: no Parquet file in it{others}")
        found: dict[str, list[Source]] = {}
        for source in listed.sources:
            if source.nameless:
                self.nameless[source.path] = source.nameless
            for device in source.devices:
                found.setdefault(device, []).append(source)
        return found

    def _address(self, path: str) -> str:
        """Return the address of a path of the file system, for libraries with their own access."""
        return posixpath.join(self.url, posixpath.relpath(path, self._root)) if "://" in self.url else path

    def _read_labels(self) -> Labels:
        table = self._table("labels.parquet", label_table.COLUMNS)
        try:
            return Labels() if table is None else label_table.read(table, self._path("labels.parquet"))
        except ColumnError as error:
            raise LakeError(str(error)) from error


def _period(value: object, where: str) -> int:
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise LakeError(f"{where}: period_s is {value!r}, must be a number of seconds above 0")
    period = round(value * SECOND)
    if period < 1:
        raise LakeError(f"{where}: period_s is {value!r}, less than a microsecond: it is in seconds")
    return period


def _about(info: DeviceInfo) -> str:
    return f"{info.device_type} with period_s = {info.period / SECOND:g}"


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


def _sorted(parts: list[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.intp] | slice]:
    """Return times in order, and the order; those of one time stay as they came. A slice where nothing moves."""
    ts = np.concatenate(parts)
    if not (np.diff(ts) < 0).any():
        return ts, slice(None)
    order = np.argsort(ts, kind="stable")
    return ts[order], order


def _of_values(ts: NDArray[np.int64], values: NDArray[np.float64], period: int) -> Readings:
    """Return the readings of rows with a value each, in order of time: as the device reads such a log.

    Where most values follow one another without a pause, as from sensors that are read in turn all the time, that rule
    finds no readings; then those of one slot make one.
    """
    opens = beginnings(ts, period)
    apart = np.flatnonzero(np.diff(ts, prepend=ts[:1] - period) >= max(1, period // 2))
    chained = np.add.reduceat(opens, apart, dtype=np.int64) > 1 if len(apart) else np.zeros(0, np.bool_)
    if 2 * int(np.diff(apart, append=len(ts))[chained].sum()) > len(ts):
        opens = np.diff(follow(quarters(ts, period)).slots, prepend=-1) != 0
    starts = np.flatnonzero(opens)
    out, _, repeats, conflicts = together.put(values, ~np.isnan(values), starts)
    return Readings(ts[starts], out, 0, repeats, conflicts)
