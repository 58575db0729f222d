"""What a lake's ``readings/`` folder consists of: Parquet files, and tables of other engines within it.

| found below ``readings/`` | read as |
|---|---|
| a folder with ``_delta_log/`` | one Delta table, by ``deltalake``: deleted and rewritten rows are not there |
| a folder with ``metadata/*.metadata.json`` | one Iceberg table, by ``pyiceberg``, as of its newest metadata file |
| any other file that is Parquet inside, or is named so | a Parquet file |
| names that begin with ``_`` or ``.``, their folders too | ignored, as all engines do |
| anything else | named in :attr:`Found.others` |

A table's own log decides which of its files count; without the library it is refused, because files read on their own
would bring deleted rows back. Hive folders (``date=…/sensor=…/``) are columns like any other.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
from fieldwatch_contract.extras import how_to_install

from fieldwatch_trainer.columns import ColumnError, has_zone, is_numeric, is_text, is_time, micros, texts

MAGIC = b"PAR1"
_ENDINGS = (".parquet", ".parq", ".pq")
_KEYS = ("device", "sensor")
"""Hive folders that are columns of readings; others (``date=``) only group files."""
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"

Scan = Callable[[list[str], str | None], Any]


class SourceError(Exception):
    """A file or table cannot be read; the message names it, the cause and the remedy."""


@dataclass
class Source:
    """One file or table of readings.

    ``sensors``: columns of numbers in order, empty in the long layout; ``passed_over``: what is no number;
    ``devices``: names in it; ``nameless``: rows without one; ``zoned``: whether its times carry a zone.
    """

    path: str
    schema: Any
    scan: Scan
    partition: Mapping[str, str | None] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    nameless: int = 0
    sensors: list[str] = field(init=False)
    passed_over: list[str] = field(init=False)
    long: bool = field(init=False)
    zoned: bool = field(init=False)

    def __post_init__(self) -> None:
        names = set(self.schema.names) | set(self.partition)
        for column in ("device", "ts"):
            if column not in names:
                raise SourceError(f"{self.path}: column {column!r} is missing; columns are {some(self.schema.names)}")
        if not is_time(self.schema.field("ts").type):
            try:
                micros(self.scan(["ts"], None)["ts"], f"{self.path}: column 'ts'")
            except ColumnError as error:
                raise SourceError(str(error)) from error
        if "device" in self.schema.names and not is_text(self.schema.field("device").type):
            raise SourceError(f"{self.path}: column 'device' is {self.schema.field('device').type}, must be text")
        self.long = "sensor" in names and "value" in names
        index = {"device", "ts", *self.partition, *_index_columns(self.schema)}
        self.sensors = [] if self.long else [f.name for f in self.schema if f.name not in index and is_numeric(f.type)]
        known = {"device", "ts", *self.sensors, *self.partition}
        self.passed_over = [] if self.long else [name for name in self.schema.names if name not in known]
        self.zoned = has_zone(self.schema.field("ts").type)

    def read(self, columns: list[str], device: str | None = None) -> Any:
        """Return ``columns`` as a table, of ``device`` alone where one is given; folder keys are columns too."""
        inside = [name for name in columns if name not in self.partition]
        try:
            table = self.scan(inside, None if "device" in self.partition else device)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise SourceError(f"{self.path}: cannot be read: {str(error)[:300]}") from error
        for name in (name for name in columns if name in self.partition):
            table = table.append_column(name, pa.array([self.partition[name]] * table.num_rows, pa.string()))
        return table


@dataclass
class Found:
    """The sources of a folder in path order; ``broken``: what cannot be read, and why; ``others``: no readings."""

    sources: list[Source] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)


def discover(fs: Any, folder: str, url: Callable[[str], str]) -> Found:
    """Find every source below ``folder``; ``url`` makes an address of a path, for libraries with their own access.

    Raises :class:`FileNotFoundError` where there is no such folder.
    """
    found = Found()
    entries = fs.get_file_info(pafs.FileSelector(folder, recursive=True))
    files = sorted(entry.path for entry in entries if entry.type == pafs.FileType.File)
    tables = _tables(folder, files)
    for root, opener in sorted(tables.items()):
        try:
            found.sources.append(opener(root, url(root)))
        except SourceError as error:
            found.broken[root] = str(error)
    for path in files:
        if any(path.startswith(root + "/") for root in tables) or _hidden(path, folder):
            continue
        try:
            source = _parquet(fs, path, folder)
        except SourceError as error:
            found.broken[path] = str(error)
            continue
        if source is None:
            found.others.append(path)
        else:
            found.sources.append(source)
    found.sources.sort(key=lambda source: source.path)
    return found


def table_in(fs: Any, path: str, address: str) -> Any:
    """Return a whole small table: a Parquet file, a folder of them, a Delta or an Iceberg table; None if absent.

    Raises :class:`SourceError` where it cannot be read.
    """
    info = fs.get_file_info(path)
    if info.type == pafs.FileType.NotFound:
        return None
    try:
        if info.type == pafs.FileType.Directory:
            files = [entry.path for entry in fs.get_file_info(pafs.FileSelector(path, recursive=True))]
            for root, opener in _tables(path, files).items():
                source = opener(root, address)
                return source.scan(list(source.schema.names), None)
            return ds.dataset(path, filesystem=fs, format="parquet").to_table()
        return ds.dataset([path], filesystem=fs, format="parquet").to_table()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"{path}: not a readable Parquet file: {str(error)[:300]}") from error


# ---- Parquet -------------------------------------------------------------------------------------------------------


def _parquet(fs: Any, path: str, folder: str) -> Source | None:
    """Open one file; None where it is none of ours."""
    if not path.casefold().endswith(_ENDINGS) and not _is_parquet(fs, path):
        return None
    try:
        fragment = ds.ParquetFileFormat().make_fragment(path, filesystem=fs)
        schema = fragment.physical_schema
        partition = _keys(path, folder)
        source = Source(path, schema, _scanner(fragment, schema), partition)
        source.devices, source.nameless = _devices(fragment, source)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"{path}: not a readable Parquet file: {str(error)[:300]}") from error
    return source


def _scanner(fragment: Any, schema: Any) -> Scan:
    viewed = "device" in schema.names and pa.types.is_string_view(schema.field("device").type)

    def scan(columns: list[str], device: str | None) -> Any:
        if device is not None and viewed:  # Arrow has no comparison for it
            table = _without_views(fragment.to_table(columns=list(dict.fromkeys([*columns, "device"]))))
            return table.filter(pc.equal(table["device"], device)).select(columns)
        wanted = None if device is None else pc.field("device") == _named(device, schema)
        return _without_views(fragment.to_table(columns=columns, filter=wanted))

    return scan


def _without_views(table: Any) -> Any:
    """Return a table with plain text for the views that most of Arrow's functions do not know."""
    for place, column in enumerate(table.schema):
        if pa.types.is_string_view(column.type):
            table = table.set_column(place, column.name, table[column.name].cast(pa.string()))
    return table


def _named(device: str, schema: Any) -> Any:
    """Return a device's name in the type of its column: text types are not compared with each other."""
    kind = schema.field("device").type
    return pa.scalar(device, pa.string() if pa.types.is_dictionary(kind) else kind)


def _devices(fragment: Any, source: Source) -> tuple[tuple[str, ...], int]:
    """Return a file's devices and its rows without one: from its folder, the footer's statistics, or the column."""
    rows = fragment.count_rows()
    if "device" in source.partition:
        name = source.partition["device"]
        return ((name,), 0) if name is not None and rows else ((), rows)
    footer = fragment.metadata
    values: set[str] = set()
    for number in range(footer.num_row_groups):
        known = _only(footer.row_group(number))
        if known is None:
            names = texts(source.read(["device"])["device"], f"{source.path}: column 'device'")
            return tuple(sorted({name for name in names if name is not None})), names.count(None)
        values.add(known)
    return tuple(sorted(values)), 0


def _only(group: Any) -> str | None:
    """Return the one device of a row group, None where the statistics do not prove that it is one."""
    columns = (group.column(place) for place in range(group.num_columns))
    stats = next((column.statistics for column in columns if column.path_in_schema == "device"), None)
    if stats is None or not stats.has_min_max or stats.min != stats.max or stats.null_count != 0:
        return None
    return stats.min.decode() if isinstance(stats.min, bytes) else str(stats.min)


def _is_parquet(fs: Any, path: str) -> bool:
    try:
        with fs.open_input_file(path) as file:
            return bool(file.read(len(MAGIC)) == MAGIC)
    except OSError:
        return False


def _keys(path: str, folder: str) -> dict[str, str | None]:
    """Return the columns that the folders between ``folder`` and the file stand for, as text: "001" is a name."""
    parts = path.removeprefix(folder).split("/")[:-1]
    pairs = (part.partition("=") for part in parts)
    found = {key: unquote(value) for key, sign, value in pairs if sign and key in _KEYS}
    return {key: None if value == _NO_VALUE else value for key, value in found.items()}


def _hidden(path: str, folder: str) -> bool:
    return any(part.startswith(("_", ".")) for part in path.removeprefix(folder).split("/"))


# ---- Delta and Iceberg ---------------------------------------------------------------------------------------------


def _tables(folder: str, files: Iterable[str]) -> dict[str, Callable[[str, str], Source]]:
    """Return the roots of tables at or below ``folder``, with what opens each."""
    found: dict[str, Callable[[str, str], Source]] = {}
    for path in files:
        inner = path.removeprefix(folder)
        if "/_delta_log/" in inner:
            found[path[: path.rindex("/_delta_log/")]] = _delta
        elif inner.endswith(".metadata.json") and posixpath.basename(posixpath.dirname(path)) == "metadata":
            found[posixpath.dirname(posixpath.dirname(path))] = _iceberg
    return found


def _delta(path: str, address: str) -> Source:
    try:
        from deltalake import DeltaTable
    except ModuleNotFoundError:
        raise SourceError(
            f"{path}: a Delta table; reading its files alone would bring deleted rows back: "
            f"{how_to_install('delta')}, or export it as Parquet"
        ) from None
    try:
        dataset = DeltaTable(address).to_pyarrow_dataset(as_large_types=False)
    except Exception as error:  # its own exceptions have no common ancestor
        raise SourceError(f"{path}: the Delta table cannot be read: {str(error)[:300]}") from error

    def scan(columns: list[str], device: str | None) -> Any:
        wanted = None if device is None else pc.field("device") == _named(device, dataset.schema)
        return dataset.to_table(columns=columns, filter=wanted)

    return _whole(path, dataset.schema, scan)


def _iceberg(path: str, address: str) -> Source:
    try:
        from pyiceberg.expressions import AlwaysTrue, EqualTo
        from pyiceberg.table import StaticTable
    except ModuleNotFoundError:
        raise SourceError(
            f"{path}: an Iceberg table; reading its files alone would bring deleted rows back: "
            f"{how_to_install('iceberg')}, or export it as Parquet"
        ) from None
    try:
        table = StaticTable.from_metadata(_newest_metadata(path, address))
        schema = table.schema().as_arrow()
    except Exception as error:  # its own exceptions have no common ancestor
        raise SourceError(f"{path}: the Iceberg table cannot be read: {str(error)[:300]}") from error

    def scan(columns: list[str], device: str | None) -> Any:
        rows = AlwaysTrue() if device is None else EqualTo(term="device", value=device)
        return table.scan(row_filter=rows, selected_fields=tuple(columns)).to_arrow()

    return _whole(path, schema, scan)


def _newest_metadata(path: str, address: str) -> str:
    """Return the address of the table's newest metadata file, by the number that its name begins with."""
    fs, root = pafs.FileSystem.from_uri(address) if "://" in address else (pafs.LocalFileSystem(), path)
    entries = fs.get_file_info(pafs.FileSelector(posixpath.join(root, "metadata")))
    names = [entry.base_name for entry in entries if entry.base_name.endswith(".metadata.json")]

    def number(name: str) -> tuple[int, str]:
        digits = name.removeprefix("v").split("-")[0].split(".")[0]
        return (int(digits) if digits.isdigit() else -1, name)

    return posixpath.join(address, "metadata", max(names, key=number))


def _whole(path: str, schema: Any, scan: Scan) -> Source:
    """Make a source of a table: what its library may raise while reading becomes one kind of error."""

    def careful(columns: list[str], device: str | None) -> Any:
        try:
            return scan(columns, device)
        except Exception as error:  # the libraries' own exceptions have no common ancestor
            raise SourceError(f"{path}: the table cannot be read: {str(error)[:300]}") from error

    source = Source(path, schema, careful)
    if is_text(schema.field("device").type):
        names = texts(source.read(["device"])["device"], f"{path}: column 'device'")
        source.devices = tuple(sorted({name for name in names if name is not None}))
        source.nameless = names.count(None)
    return source


# ---- words ---------------------------------------------------------------------------------------------------------


def _index_columns(schema: Any) -> list[str]:
    """Return the columns that are a pandas index: row numbers, which would be a clock in the guise of a sensor."""
    told = (schema.pandas_metadata or {}).get("index_columns") or []
    return [name for name in told if isinstance(name, str)]


def some(names: Iterable[str], limit: int = 8) -> str:
    """Return the first names, and how many there are."""
    listed = list(names)
    more = f", … ({len(listed)} in all)" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
