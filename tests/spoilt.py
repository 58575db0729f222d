"""Spoilt lakes: a clean one, and every way to spoil it that ``fieldwatch-trainer check`` must tell by name.

:data:`SPOILT` maps a name to :class:`Spoil`: what is done to a clean lake on disk, and the finding that must tell of
it. Each kind comes in two forms at least. ``clean(folder)`` makes the clean twin: three presses of five sensors, sixty
hours of minutes, two labelled faults each; nothing is to be found in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tests.lakes import MINUTE, START, UTC, LakeMaker

ROWS = 3600
HALF = ROWS // 2
DEVICES = ("press-0", "press-1", "press-2")
FAULTS = ((700, 760), (2500, 2570))
HOUR = 60 * MINUTE


def clean(folder: Path) -> LakeMaker:
    """Write the clean lake."""
    made = LakeMaker(folder, sensors=5, rows=ROWS, count=3)
    for device in DEVICES:
        for first, last in FAULTS:
            made.fault(device, first, last, ("b", "d"))
    made.write()
    return made


@dataclass(frozen=True)
class Spoil:
    """``act`` spoils a lake on disk; ``kind``: the finding that tells, of ``device`` and ``sensor`` where not None.

    A kind of ``""`` means that the spoilt lake is read as its twin, ``error`` that opening it says so.
    """

    act: Callable[[Path], None]
    kind: str
    device: str | None = None
    sensor: str | None = None
    error: str = ""


# ---- tools ----


def edit(folder: Path, device: str, change: Callable[[Any], Any]) -> None:
    """Change the table of one device."""
    file = folder / "readings" / f"{device}.parquet"
    pq.write_table(change(pq.read_table(file)), file)


def values(
    device: str, sensor: str, change: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> Callable[[Path], None]:
    """Change one sensor's values."""

    def act(folder: Path) -> None:
        def one(table: Any) -> Any:
            place = table.column_names.index(sensor)
            return table.set_column(place, sensor, pa.array(change(table[sensor].to_numpy().copy())))

        edit(folder, device, one)

    return act


def everywhere(*acts: Callable[[Path], None]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        for one in acts:
            one(folder)

    return act


def on_all(sensor: str, change: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Callable[[Path], None]:
    return everywhere(*(values(device, sensor, change) for device in DEVICES))


def since(row: int, change: Callable[[NDArray[np.float64]], NDArray[np.float64]], stop: int | None = None) -> Any:
    """Change values from a row on."""

    def one(x: NDArray[np.float64]) -> NDArray[np.float64]:
        x[row:stop] = change(x[row:stop])
        return x

    return one


def some(value: float, share: float = 0.02, length: int = 1) -> Any:
    """Replace some values, in runs, by one."""

    def one(x: NDArray[np.float64]) -> NDArray[np.float64]:
        rng = np.random.default_rng(3)
        for start in rng.integers(0, len(x) - length, int(share * len(x) / length)):
            x[start : start + length] = value
        return x

    return one


def times(
    device: str, change: Callable[[NDArray[np.int64]], NDArray[np.int64]], kind: Any = UTC
) -> Callable[[Path], None]:
    """Change the times of one device."""

    def act(folder: Path) -> None:
        def one(table: Any) -> Any:
            micros = np.asarray(table["ts"].cast(pa.timestamp("us")).cast(pa.int64()))
            return table.set_column(1, "ts", pa.array(change(micros.copy()), pa.timestamp("us")).cast(kind))

        edit(folder, device, one)

    return act


def labels(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], kind: Any = UTC) -> Callable[[Path], None]:
    """Change the lines of labels.parquet; times are µs."""

    def act(folder: Path) -> None:
        file = folder / "labels.parquet"
        table = pq.read_table(file)
        lines = table.to_pylist()
        for line in lines:
            for key in ("start", "end"):
                line[key] = round(line[key].timestamp() * 1e6)
        schema = pa.schema(
            [field.with_type(kind) if field.name in ("start", "end") else field for field in table.schema]
        )
        pq.write_table(pa.Table.from_pylist(change(lines), schema), file)

    return act


def moved(by: int, device: str | None = None) -> Callable[[Path], None]:
    """Move labels in time."""

    def one(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            line | {"start": line["start"] + by, "end": line["end"] + by} if device in (None, line["device"]) else line
            for line in lines
        ]

    return labels(one)


def more_labels(*lines: dict[str, Any]) -> Callable[[Path], None]:
    return labels(lambda old: [*old, *({"sensors": [], "label": "fault"} | line for line in lines)])


def at(row: int) -> int:
    return START + row * MINUTE


def devices(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        file = folder / "devices.parquet"
        pq.write_table(pa.Table.from_pylist(change(pq.read_table(file).to_pylist())), file)

    return act


def add_column(
    name: str, make: Callable[[str, NDArray[np.int8]], Any], only: tuple[str, ...] = DEVICES
) -> Callable[[Path], None]:
    """Add a column; ``make`` gets the device and 1 where a row is labelled."""

    def act(folder: Path) -> None:
        for device in only:
            truth = np.zeros(ROWS, np.int8)
            for first, last in FAULTS:
                truth[first : last + 1] = 1
            edit(folder, device, lambda table, d=device, t=truth: table.append_column(name, pa.array(make(d, t))))

    return act


def rename(old: str, new: str, only: tuple[str, ...] = DEVICES) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        for device in only:
            edit(folder, device, lambda t: t.rename_columns([new if name == old else name for name in t.column_names]))

    return act


def rename_since(row: int, old: str, new: str, only: tuple[str, ...] = DEVICES) -> Callable[[Path], None]:
    """From a row on the sensor has another name, in a second file."""

    def act(folder: Path) -> None:
        for device in only:
            file = folder / "readings" / f"{device}.parquet"
            table = pq.read_table(file)
            later = table.slice(row).rename_columns([new if name == old else name for name in table.column_names])
            pq.write_table(table.slice(0, row), file)
            pq.write_table(later, file.with_name(f"{device}-later.parquet"))

    return act


def swap(one: str, two: str, row: int, device: str) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        def change(table: Any) -> Any:
            a, b = table[one].to_numpy().copy(), table[two].to_numpy().copy()
            a[row:], b[row:] = b[row:].copy(), a[row:].copy()
            for name, column in ((one, a), (two, b)):
                table = table.set_column(table.column_names.index(name), name, pa.array(column))
            return table

        edit(folder, device, change)

    return act


def copy_file(device: str, change: Callable[[Any], Any] = lambda table: table) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        file = folder / "readings" / f"{device}.parquet"
        pq.write_table(change(pq.read_table(file)), file.with_name(f"{device} (copy).parquet"))

    return act


def keep(device: str, rows: Callable[[NDArray[np.int64]], NDArray[np.bool_]]) -> Callable[[Path], None]:
    """Keep some rows of a device alone."""

    def act(folder: Path) -> None:
        edit(folder, device, lambda table: table.filter(pa.array(rows(np.arange(table.num_rows)))))

    return act


def put(name: str, content: bytes) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        (folder / "readings" / name).write_bytes(content)

    return act


def recast(column: str, make: Callable[[Any], Any], device: str = "press-0") -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        def one(table: Any) -> Any:
            return table.set_column(table.column_names.index(column), column, make(table[column]))

        edit(folder, device, one)

    return act


def long_value(row: int) -> Callable[[Path], None]:
    """The long layout, with a word among the values."""

    def act(folder: Path) -> None:
        file = folder / "readings" / "press-0.parquet"
        table = pq.read_table(file)
        text = [str(value) for value in table["a"].to_pylist()]
        text[row] = "" if row % 2 else "OVL"
        count = table.num_rows
        columns = {
            "device": table["device"],
            "ts": table["ts"],
            "sensor": pa.array(["a"] * count),
            "value": pa.array(text),
        }
        pq.write_table(pa.table(columns), file)

    return act


RNG = np.random.default_rng(11)
NOISE = 1e-6 * RNG.standard_normal(ROWS)


def frozen(start: int, stop: int, value: float | None = None, noise: float = 0.0) -> Any:
    def one(x: NDArray[np.float64]) -> NDArray[np.float64]:
        x[start:stop] = (x[start] if value is None else value) + noise * NOISE[start:stop]
        return x

    return one


def summer_time(folder: Path) -> None:
    """Local times of Berlin, read as UTC: winter to summer."""
    shift = 86 * 24 * HOUR  # the lake begins on 2026-03-28
    change = START + shift + 26 * HOUR
    for device in DEVICES:
        times(device, lambda ts: np.where(ts + shift >= change, ts + shift + HOUR, ts + shift))(folder)


def winter_time(folder: Path) -> None:
    """Local times of New York, read as UTC: summer to winter (2025-11-02, 02:00)."""
    shift = -61 * 24 * HOUR  # the lake begins on 2025-11-01
    change = START + shift + 26 * HOUR
    for device in DEVICES:
        times(device, lambda ts: np.where(ts + shift >= change, ts + shift - HOUR, ts + shift))(folder)


def daily(folder: Path, offset: int = 0) -> None:
    """A daily rhythm that all devices share, one of them some hours off."""
    for place, device in enumerate(DEVICES):
        late = offset if place == 1 else 0

        def wave(x: NDArray[np.float64], late: int = late) -> NDArray[np.float64]:
            return x + 6 * np.sin((np.arange(ROWS) / 60 - late) * 2 * np.pi / 24)

        for sensor in "ace":
            values(device, sensor, wave)(folder)


F_OF_C = since(HALF, lambda x: 1.8 * x + 32)

SPOILT: dict[str, Spoil] = {
    # sentinels
    "sentinel -9999": Spoil(values("press-1", "c", some(-9999)), "sentinel", "press-1", "c"),
    "sentinel 7999 on all": Spoil(on_all("a", some(7999)), "sentinel", None, "a"),
    "sentinel 9.99e37": Spoil(values("press-0", "e", some(9.99e37, 0.002)), "sentinel", "press-0", "e"),
    "sentinel 65535 in an outage": Spoil(values("press-0", "e", some(65535, 0.1, 180)), "sentinel", "press-0", "e"),
    "sentinel 999.9": Spoil(values("press-2", "b", some(999.9)), "sentinel", "press-2", "b"),
    "sentinel 1e30": Spoil(values("press-2", "b", some(1e30)), "sentinel", "press-2", "b"),
    "sentinel 0": Spoil(values("press-1", "d", some(0.0)), "dropout", "press-1", "d"),
    "sentinel -1": Spoil(values("press-1", "d", some(-1.0)), "dropout", "press-1", "d"),
    "infinite": Spoil(values("press-1", "d", some(np.inf)), "infinite", None, "d"),
    "one absurd value": Spoil(values("press-1", "d", since(99, lambda x: x * 0 - 9.87e8, 100)), "outliers", None, "d"),
    # stuck
    "stuck for most": Spoil(values("press-0", "a", frozen(900, 3100)), "stuck", "press-0", "a"),
    "stuck with noise": Spoil(values("press-1", "c", frozen(900, 1500, noise=1.0)), "stuck", "press-1", "c"),
    "stuck at zero": Spoil(values("press-1", "c", frozen(3000, ROWS, 0.0)), "stuck", "press-1", "c"),
    "stuck twice": Spoil(
        everywhere(values("press-1", "c", frozen(200, 400)), values("press-1", "c", frozen(1200, 1400))),
        "stuck",
        "press-1",
        "c",
    ),
    "constant on one": Spoil(values("press-2", "e", lambda x: 0 * x + 7), "stuck", "press-2", "e"),
    "constant on all": Spoil(on_all("e", lambda x: 0 * x + 7), "constant", None, "e"),
    # units and levels
    "C to F": Spoil(values("press-0", "b", F_OF_C), "unit-change", "press-0", "b"),
    "C to F on all": Spoil(on_all("b", F_OF_C), "unit-change", None, "b"),
    "F in the middle": Spoil(
        values("press-0", "b", since(1000, lambda x: 1.8 * x + 32, 2200)), "unit-change", "press-0", "b"
    ),
    "C to K": Spoil(values("press-0", "b", since(HALF, lambda x: x + 273.15)), "unit-change", "press-0", "b"),
    "kPa to bar": Spoil(values("press-1", "c", since(2700, lambda x: x / 100)), "unit-change", "press-1", "c"),
    "kPa to mbar": Spoil(values("press-1", "c", since(2700, lambda x: x * 10)), "unit-change", "press-1", "c"),
    "bar to psi": Spoil(values("press-1", "c", since(900, lambda x: x * 14.5038)), "unit-change", "press-1", "c"),
    "milli": Spoil(values("press-1", "a", since(900, lambda x: x * 1000)), "unit-change", "press-1", "a"),
    "round zero to milli": Spoil(
        everywhere(on_all("a", lambda x: x - 10), values("press-1", "a", since(HALF, lambda x: x * 1000))),
        "unit-change",
        "press-1",
        "a",
    ),
    "sign": Spoil(values("press-2", "d", since(HALF, lambda x: -x)), "sign-change", "press-2", "d"),
    "offset": Spoil(values("press-2", "d", since(HALF, lambda x: x + 55)), "level-change", "press-2", "d"),
    "odd factor": Spoil(values("press-2", "d", since(HALF, lambda x: x * 3.1)), "level-change", "press-2", "d"),
    "swapped since": Spoil(swap("a", "e", HALF, "press-0"), "swapped-sensors", "press-0", "a"),
    "swapped on one": Spoil(swap("b", "d", 0, "press-2"), "swapped-sensors", "press-2", "b"),
    "F on one": Spoil(values("press-2", "b", lambda x: 1.8 * x + 32), "unit-differs", "press-2", "b"),
    "bar on one": Spoil(values("press-2", "c", lambda x: x / 100), "unit-differs", "press-2", "c"),
    "sign on one": Spoil(values("press-2", "c", lambda x: -x), "sign-change", "press-2", "c"),
    "drifted": Spoil(on_all("c", since(3200, lambda x: x + 12)), "drift", None, "c"),
    # clocks
    "labels in local time": Spoil(moved(2 * HOUR), "time-slip"),
    "labels behind": Spoil(moved(-5 * HOUR), "time-slip"),
    "a device's clock": Spoil(
        everywhere(times("press-1", lambda ts: ts + 3 * HOUR), labels(lambda x: x)), "time-slip", "press-1"
    ),
    "naive readings": Spoil(everywhere(*(times(d, lambda ts: ts, pa.timestamp("us")) for d in DEVICES)), "mixed-zones"),
    "naive labels": Spoil(labels(lambda x: x, pa.timestamp("us")), "mixed-zones"),
    "one naive file": Spoil(times("press-1", lambda ts: ts, pa.timestamp("ns")), "mixed-zones"),
    "summer time": Spoil(summer_time, "local-time"),
    "winter time": Spoil(winter_time, "local-time"),
    "set back": Spoil(
        times("press-1", lambda ts: np.where(np.arange(ROWS) >= HALF, ts - 47 * MINUTE, ts)),
        "time-backwards",
        "press-1",
    ),
    "a clock set forward": Spoil(
        times("press-1", lambda ts: np.where(np.arange(ROWS) >= HALF, ts + 4 * MINUTE + MINUTE // 3, ts)),
        "clock-step",
        "press-1",
    ),
    "a clock set back, sorted": Spoil(
        times("press-1", lambda ts: np.sort(np.where(np.arange(ROWS) >= HALF, ts - 6 * MINUTE - MINUTE // 3, ts))),
        "clock-step",
        "press-1",
    ),
    "shuffled": Spoil(times("press-1", lambda ts: np.concatenate((ts[HALF:], ts[:HALF]))), "time-backwards", "press-1"),
    "future": Spoil(times("press-1", lambda ts: ts + 3650 * 24 * HOUR), "future", "press-1"),
    "seconds as milliseconds": Spoil(times("press-1", lambda ts: ts // 1000), "impossible-time", "press-1"),
    "a clock that was not set": Spoil(
        times("press-1", lambda ts: np.where(np.arange(ROWS) < 200, ts - START, ts)), "impossible-time", "press-1"
    ),
    "another zone": Spoil(lambda folder: daily(folder, 9), "clock-offset", "press-1"),
    # leaks
    "is_fault": Spoil(add_column("is_fault", lambda d, t: t), "leak", None, "is_fault"),
    "a state": Spoil(add_column("mode", lambda d, t: np.where(t, 7.0, 3.0)), "leak", None, "mode"),
    "a boolean": Spoil(add_column("ok", lambda d, t: t == 0), "leak", None, "ok"),
    "a probability": Spoil(
        add_column("q", lambda d, t: 0.03 + 0.9 * t + 0.01 * np.random.default_rng(1).standard_normal(ROWS)),
        "leak",
        None,
        "q",
    ),
    "a score by name": Spoil(
        add_column("anomaly_score", lambda d, t: t + 0.4 * np.random.default_rng(1).standard_normal(ROWS)),
        "leak",
        None,
        "anomaly_score",
    ),
    "a row number": Spoil(add_column("n", lambda d, t: np.arange(ROWS)), "counter", None, "n"),
    "seconds": Spoil(add_column("uptime", lambda d, t: 60.0 * np.arange(ROWS) + 5), "counter", None, "uptime"),
    # names
    "renamed since": Spoil(rename_since(HALF, "c", "c_flow"), "renamed-sensor", None, "c_flow"),
    "renamed on one, later": Spoil(rename_since(2600, "b", "pressure"), "renamed-sensor", "press-1", "pressure"),
    "renamed on one": Spoil(rename("c", "cc", ("press-2",)), "renamed-sensor"),
    "case": Spoil(rename("c", "C", ("press-2",)), "same-name"),
    "blanks": Spoil(rename("c", " c", ("press-2",)), "same-name"),
    "another µ": Spoil(
        everywhere(rename("c", "c_\u00b5m", ("press-0", "press-1")), rename("c", "c_\u03bcm", ("press-2",))),
        "same-name",
    ),
    "new": Spoil(
        add_column("new", lambda d, t: np.where(np.arange(ROWS) < HALF, np.nan, RNG.standard_normal(ROWS))),
        "new-sensor",
        None,
        "new",
    ),
    "lost": Spoil(values("press-1", "e", since(HALF, lambda x: x * np.nan)), "lost-sensor", "press-1", "e"),
    "absent": Spoil(
        add_column("extra", lambda d, t: 500 + RNG.standard_normal(ROWS), ("press-0",)), "absent-sensor", None, "extra"
    ),
    # rows
    "the file twice": Spoil(copy_file("press-1"), "duplicates", "press-1"),
    "other values": Spoil(
        copy_file("press-1", lambda t: t.slice(100, 500).set_column(2, "a", pa.array(np.full(500, 1.0)))),
        "conflicting-duplicates",
        "press-1",
    ),
    "1 Hz": Spoil(times("press-1", lambda ts: START + (ts - START) // 60), "wrong-period", "press-1"),
    "every 5 minutes": Spoil(times("press-1", lambda ts: START + (ts - START) * 5), "wrong-period", "press-1"),
    "every 70 s": Spoil(times("press-1", lambda ts: START + (ts - START) * 7 // 6), "wrong-period", "press-1"),
    "days missing": Spoil(keep("press-1", lambda row: (row < 700) | (row > 3000)), "gaps", "press-1"),
    "every third row": Spoil(keep("press-1", lambda row: row % 7 > 1), "gaps", "press-1"),
    "hardly any rows": Spoil(everywhere(*(keep(d, lambda row: row < 60) for d in DEVICES)), "too-few-readings"),
    # devices
    "unregistered": Spoil(devices(lambda lines: lines[:2]), "unregistered-device", "press-2"),
    "misspelt": Spoil(
        devices(lambda lines: [*lines[:2], lines[2] | {"device": "Press-2"}]), "unregistered-device", "press-2"
    ),
    "silent": Spoil(devices(lambda lines: [*lines, lines[0] | {"device": "press-9"}]), "silent-device", "press-9"),
    "twice": Spoil(devices(lambda lines: [*lines, lines[0]]), "device-twice", "press-0"),
    "twice, differing": Spoil(
        devices(lambda lines: [*lines, lines[0] | {"period_s": 1.0}]), "", error="stands there twice"
    ),
    "a tiny period": Spoil(
        devices(lambda lines: [line | {"period_s": 1e-7} for line in lines]), "", error="less than a microsecond"
    ),
    # labels
    "always faulty": Spoil(
        more_labels({"device": "press-1", "start": at(0), "end": at(ROWS)}), "faulty-throughout", "press-1"
    ),
    "all faulty": Spoil(more_labels(*({"device": d, "start": at(0), "end": at(ROWS)} for d in DEVICES)), "all-faulty"),
    "run to failure": Spoil(
        labels(lambda lines: [line | {"start": at(3400), "end": at(ROWS)} for line in lines[::2]]), "run-to-failure"
    ),
    "labels of another year": Spoil(moved(-8760 * HOUR), "labels-elsewhere"),
    "one far outside": Spoil(
        more_labels({"device": "press-1", "start": at(90000), "end": at(90010)}), "label-outside", "press-1"
    ),
    "before the first": Spoil(
        more_labels({"device": "press-1", "start": at(-90), "end": at(10)}), "label-outside", "press-1"
    ),
    "zero length": Spoil(
        more_labels({"device": "press-1", "start": at(90), "end": at(90)}), "label-instant", "press-1"
    ),
    "overlapping": Spoil(
        more_labels({"device": "press-1", "start": at(750), "end": at(800), "label": "normal"}),
        "label-overlap",
        "press-1",
    ),
    "unknown device": Spoil(
        more_labels({"device": "pres-1", "start": at(90), "end": at(99)}), "label-unknown-device", "pres-1"
    ),
    "unknown sensor": Spoil(
        more_labels({"device": "press-1", "start": at(90), "end": at(99), "sensors": ["flwo"]}),
        "label-unknown-sensor",
        "press-1",
    ),
    "unclear": Spoil(
        more_labels({"device": "press-1", "start": at(90), "end": at(99), "label": "unclear"}), "labels-left-out"
    ),
    "no verdict": Spoil(
        more_labels({"device": "press-1", "start": at(90), "end": at(99), "label": None}), "labels-left-out"
    ),
    "of nobody": Spoil(more_labels({"device": None, "start": at(90), "end": at(99)}), "labels-left-out"),
    "wrong case": Spoil(labels(lambda lines: [line | {"label": "FAULT "} for line in lines]), ""),
    "reversed": Spoil(
        labels(lambda lines: [line | {"start": line["end"], "end": line["start"]} for line in lines]),
        "",
        error="before start",
    ),
    "a word unknown": Spoil(
        labels(lambda lines: [line | {"label": "faulty"} for line in lines]), "", error="did you mean 'fault'"
    ),
    "no labels": Spoil(lambda folder: (folder / "labels.parquet").unlink(), "no-labels"),
    # files and types
    "torn file": Spoil(put("press-1.parquet", b"PAR1 and then the disk was full"), "unreadable"),
    "empty file": Spoil(put("more.parquet", b""), "unreadable"),
    "no Parquet": Spoil(put("notes.csv", b"a,b\n1,2\n"), "other-file"),
    "text in one file": Spoil(recast("c", lambda c: pa.array(["ERR"] * len(c))), "mixed-type", None, "c"),
    "a text column": Spoil(add_column("operator", lambda d, t: ["Kim"] * ROWS), "text-column", None, "operator"),
    "nested": Spoil(add_column("spectrum", lambda d, t: [[1.0, 2.0]] * ROWS), "text-column", None, "spectrum"),
    "all null": Spoil(everywhere(*(recast("c", lambda c: pa.nulls(len(c)), d) for d in DEVICES)), "empty", None, "c"),
    "no rows": Spoil(copy_file("press-1", lambda table: table.slice(0, 0)), ""),
    "rows of nobody": Spoil(
        recast("device", lambda c: pa.array([None] * 9 + c.to_pylist()[9:], pa.string())), "no-device"
    ),
    "numbers as times": Spoil(recast("ts", lambda c: c.cast(pa.int64())), "unreadable"),
    "text as times": Spoil(recast("ts", lambda c: c.cast(pa.string())), "unreadable"),
    "a date a row": Spoil(recast("ts", lambda c: c.cast(pa.date32())), "wrong-period", "press-0"),
    "long, a word": Spoil(long_value(10), "unreadable", "press-0"),
    "long, an empty text": Spoil(long_value(11), "absent-sensor"),
    "float16": Spoil(recast("a", lambda c: pa.array(c.to_numpy().astype(np.float16))), ""),
    "large_string": Spoil(recast("device", lambda c: c.cast(pa.large_string())), ""),
    "dictionary": Spoil(recast("device", lambda c: c.dictionary_encode()), ""),
    "decimal": Spoil(recast("a", lambda c: c.cast(pa.decimal128(20, 3))), ""),
}
