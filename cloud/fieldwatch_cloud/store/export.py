"""Export: the store's content as rows for other programs.

Times are RFC 3339 text in JSON lines and CSV and timestamps in Parquet; lists are lists, in CSV as JSON. ``labels``
starts with the columns of the lake's ``labels.parquet``, so that verdicts can be used for training: a confirmed alert
of a classifier is a ``fault``, of a detector an ``anomaly``, a false one is ``normal``, an unclear one has no label.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal

from fieldwatch_contract import clock
from fieldwatch_contract.verdicts import VERDICTS
from sqlalchemy import Select, and_, case, func, select

from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.database import Database

What = Literal["results", "alerts", "labels", "audit"]
Format = Literal["jsonl", "csv", "parquet"]

CHUNK = 5_000
_TIMES = frozenset({"ts", "start", "end", "opened_at", "last_at", "resolved_at", "received", "first_received", "at"})
_LISTS = {"sensors": "string", "shares": "float"}
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
"""How a formula begins in a spreadsheet."""
_NUMBERS = frozenset({"score", "threshold", "peak"})


def rows(store: Database, what: What, device: str | None, since: int | None) -> Iterator[dict[str, Any]]:
    """Yield rows in the order of their time; times as µs, verdicts of results as words. ``since`` in µs."""
    query = _QUERIES[what](device, since)
    with store.read() as db:
        for row in db.execution_options(yield_per=CHUNK).execute(query).mappings():
            item = dict(row)
            if what == "results":
                item["verdict"] = VERDICTS[item["verdict"]].value
            yield item


def columns(what: What) -> list[str]:
    """Return the names of the columns, in order."""
    return [column.name for column in _QUERIES[what](None, None).selected_columns]


def write_text(found: Iterator[dict[str, Any]], what: What, form: Literal["jsonl", "csv"], out: IO[str]) -> int:
    """Write rows as JSON lines or CSV and return how many; a CSV has its header even where there is no row."""
    count = 0
    writer = csv.DictWriter(out, columns(what), lineterminator="\n")
    if form == "csv":
        writer.writeheader()
    for row in found:
        item = {key: clock.iso(value) if key in _TIMES and value is not None else value for key, value in row.items()}
        if form == "jsonl":
            out.write(json.dumps(item, ensure_ascii=False) + "\n")
        else:
            writer.writerow({key: json.dumps(value) if key in _LISTS else _cell(value) for key, value in item.items()})
        count += 1
    return count


def _cell(value: Any) -> Any:
    """Keep a spreadsheet from taking a text (a note, a name that a device chose) for a formula.

    >>> _cell("=HYPERLINK(0)"), _cell("-12 °C"), _cell(-12.0), _cell("a = b")
    ("'=HYPERLINK(0)", "'-12 °C", -12.0, 'a = b')
    """
    return f"'{value}" if isinstance(value, str) and value.lstrip()[:1] in _FORMULA else value


def write_parquet(found: Iterator[dict[str, Any]], what: What, path: Path) -> int:
    """Write rows as one Parquet file and return how many. Raises :class:`OSError` where it cannot be written."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, _arrow_type(pa, name)) for name in columns(what)])
    count = 0
    with pq.ParquetWriter(path, schema) as writer:
        chunk: list[dict[str, Any]] = []

        def flush() -> None:
            writer.write_table(pa.Table.from_pylist(chunk, schema=schema))
            chunk.clear()

        for row in found:
            chunk.append(row)
            count += 1
            if len(chunk) == CHUNK:
                flush()
        flush()
    return count


def _arrow_type(pa: Any, name: str) -> Any:
    if name in _TIMES:
        return pa.timestamp("us", tz="UTC")
    if name in _LISTS:
        return pa.list_(pa.string() if _LISTS[name] == "string" else pa.float64())
    if name in _NUMBERS:
        return pa.float64()
    return pa.int64() if name in ("rows", "id") else pa.string()


def _narrow(query: Select[Any], device_column: Any, time_column: Any, device: str | None, since: int | None) -> Any:
    if device is not None:
        query = query.where(device_column == device)
    if since is not None:
        query = query.where(time_column >= since)
    return query


def _results(device: str | None, since: int | None) -> Any:
    c = t.result.c
    return _narrow(select(t.result), c.device, c.ts, device, since).order_by(c.device, c.ts, c.model)


def _alerts(device: str | None, since: int | None) -> Any:
    c = t.alert.c
    return _narrow(select(t.alert), c.device, c.opened_at, device, since).order_by(c.opened_at, c.alert_id)


def _labels(device: str | None, since: int | None) -> Any:
    a, v = t.alert.c, t.verdict.c
    newest = select(func.max(v.id)).where(v.alert_id == a.alert_id).correlate(t.alert).scalar_subquery()
    label = case(
        (v.verdict == "false", "normal"),
        (and_(v.verdict == "real", a.kind == "classifier"), "fault"),
        (v.verdict == "real", "anomaly"),
    )
    query = select(
        a.device,
        a.opened_at.label("start"),
        func.coalesce(a.resolved_at, a.last_at).label("end"),
        label.label("label"),
        a.sensors,
        v.verdict,
        v.note,
        v.at,
        a.alert_id,
        a.model,
        a.bundle_name,
        a.bundle_version,
    ).join_from(t.alert, t.verdict, and_(v.alert_id == a.alert_id, v.id == newest))
    return _narrow(query, a.device, a.opened_at, device, since).order_by(a.opened_at, a.alert_id)


def _audit(device: str | None, since: int | None) -> Any:
    """The whole trail: the hashes of a part of it would prove nothing. It names no device."""
    return select(t.audit).order_by(t.audit.c.id)


_QUERIES: dict[What, Callable[[str | None, int | None], Any]] = {
    "results": _results,
    "alerts": _alerts,
    "labels": _labels,
    "audit": _audit,
}
