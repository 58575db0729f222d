"""A fleet of simulated devices with a history of faults, and how it is written down.

Three outputs, all from the same rows: each device's log as its logger would have written it, the lake in the layout
that ``fieldwatch-trainer`` reads (``readings/``, ``devices.parquet``, ``labels.parquet``), and ``truth.json`` with
what really happened. Values in the lake and in the logs have the same float64 bits: three decimals say it all.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from math import isnan
from pathlib import Path

import numpy as np
from fieldwatch_contract.clock import MINUTE, SECOND, day_of, iso

from fieldwatch_demo.device import Device, Fault, Rows
from fieldwatch_demo.plant import FaultKind, plant

DAYS_PER_FAULT = 1.3
"""A simulated device fails once in about this many days: far too often for a real one, enough to learn from."""

LOG_NAME = "readings.csv"


@dataclass(frozen=True)
class Fleet:
    """Devices of one type over the same span: rows 0 … ``rows`` of each."""

    type: str
    devices: list[Device]
    rows: int
    seed: int


def make_fleet(
    type: str, devices: int, days: int, start: int, seed: int = 1, sensors: int = 100, period: int = 60 * SECOND
) -> Fleet:
    """Return ``devices`` devices ``<type>-0001`` … with faults planned over ``days`` days from ``start``.

    ``start`` is a UTC midnight and, like ``period``, in µs. The same arguments give the same fleet, and a device does
    not depend on how many others there are. Raises :class:`ValueError` with what would be right.
    """
    if devices < 1 or days < 1:
        raise ValueError(f"a fleet needs at least one device and one day, not {devices} and {days}")
    kind = plant(type, sensors)
    made = [Device(f"{type}-{number:04d}", kind, start, period, seed) for number in range(1, devices + 1)]
    for number, device in enumerate(made):
        device.faults = _plan(device, number, days, seed)
    return Fleet(type, made, days * made[0].per_day, seed)


def fault(device: Device, kind: FaultKind, start: int, hours: float, size: float = 1.0) -> Fault:
    """Return a fault of ``kind`` that begins at row ``start`` and lasts ``hours``."""
    return Fault(kind, start, start + max(1, round(hours * 60 * MINUTE / device.period)), size)


def _plan(device: Device, number: int, days: int, seed: int) -> list[Fault]:
    """Spread faults over the device's days, kinds in turn, a little different in time, length and size."""
    rng = np.random.default_rng([seed, zlib.crc32(device.name.encode()), 1 << 33])
    kinds = device.plant.faults
    planned: list[Fault] = []
    count = max(1, int(days / DAYS_PER_FAULT))
    room = days * device.per_day / count
    for place in range(count):
        kind = kinds[(number + place) % len(kinds)]
        hours = rng.uniform(*kind.hours)
        begin = round(room * place + rng.uniform(0.1, 0.6) * room)
        planned.append(fault(device, kind, begin, hours, rng.uniform(0.8, 1.2)))
    return planned


def log_lines(device: Device, rows: Rows) -> list[bytes]:
    """Return the log's lines for ``rows``, missing lines left out: ISO time in UTC, three decimals, empty = missing."""
    lines = []
    for ts, values, logged in zip(rows.ts.tolist(), rows.values.tolist(), rows.logged.tolist(), strict=True):
        if logged:
            text = ",".join(["" if isnan(value) else f"{value:.3f}" for value in values])
            lines.append(f"{iso(ts)},{text}\n".encode())
    return lines


def log_header(device: Device) -> bytes:
    """Return the log's first line."""
    return ("timestamp," + ",".join(device.plant.sensors) + "\n").encode()


def write_log(device: Device, folder: Path, rows: Rows, rotate: bool = False) -> int:
    """Write ``rows`` as the log ``folder/readings.csv``, in place of any that is there; return the number of lines.

    With ``rotate`` every finished UTC day is in a file of its own, ``readings-<day>.csv``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("readings*.csv"):
        old.unlink()
    days = device.day(rows.ts)
    cuts = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist()] if rotate else [0]
    count = 0
    for begin, end in zip(cuts, [*cuts[1:], len(rows.ts)], strict=True):
        last = end == len(rows.ts)
        path = folder / (LOG_NAME if last else rotated_name(int(rows.ts[begin])))
        lines = log_lines(device, rows.part(begin, end))
        with path.open("wb") as log:
            log.writelines([log_header(device), *lines])
        count += len(lines)
    return count


def rotated_name(ts: int) -> str:
    """Return the name of the finished log of the day of ``ts``."""
    return f"readings-{day_of(ts)}.csv"


class Lake:
    """Writes a lake: :meth:`add` the rows of each device, then :meth:`close`."""

    def __init__(self, root: Path, type: str) -> None:
        self.root = root
        self._type = type
        self._devices: list[Device] = []
        self._labels: list[tuple[Device, Fault]] = []
        (root / "readings").mkdir(parents=True, exist_ok=True)

    def add(self, device: Device, rows: Rows, faults: Iterable[Fault]) -> None:
        """Write a device's readings and remember its labels."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        logged = rows.logged
        ts = pa.array(rows.ts[logged], pa.timestamp("us", tz="UTC"))
        name = pa.DictionaryArray.from_arrays(np.zeros(len(ts), np.int32), [device.name])
        values = rows.values[logged]
        columns = [pa.array(values[:, i], from_pandas=True) for i in range(values.shape[1])]
        table = pa.table([name, ts, *columns], names=["device", "ts", *device.plant.sensors])
        pq.write_table(table, self.root / "readings" / f"{device.name}.parquet", compression="zstd")
        self._devices.append(device)
        self._labels += [(device, fault) for fault in faults]

    def close(self) -> None:
        """Write ``devices.parquet`` and ``labels.parquet``."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        devices = [
            {"device": device.name, "device_type": self._type, "period_s": device.period / SECOND}
            for device in self._devices
        ]
        pq.write_table(pa.Table.from_pylist(devices), self.root / "devices.parquet")
        utc = pa.timestamp("us", tz="UTC")
        schema = pa.schema(
            [
                ("device", pa.string()),
                ("start", utc),
                ("end", utc),
                ("label", pa.string()),
                ("sensors", pa.list_(pa.string())),
            ]
        )
        labels = [
            {
                "device": device.name,
                "start": device.time(fault.start),
                "end": device.time(fault.stop),
                "label": "fault",
                "sensors": list(fault.sensors),
            }
            for device, fault in self._labels
        ]
        pq.write_table(pa.Table.from_pylist(labels, schema), self.root / "labels.parquet")


def truth(fleet: Fleet) -> dict[str, object]:
    """Return what really happened, as JSON types."""
    first = fleet.devices[0]
    return {
        "device_type": fleet.type,
        "seed": fleet.seed,
        "period_s": first.period / SECOND,
        "sensors": list(first.plant.sensors),
        "start": iso(first.start),
        "end": iso(first.time(fleet.rows)),
        "devices": [device.name for device in fleet.devices],
        "faults": [fault_truth(device, fault) for device in fleet.devices for fault in device.faults],
    }


def fault_truth(device: Device, fault: Fault) -> dict[str, object]:
    """Return one fault as JSON types."""
    return {
        "device": device.name,
        "kind": fault.kind.name,
        "slow": fault.kind.slow,
        "start": iso(device.time(fault.start)),
        "end": iso(device.time(fault.stop)),
        "size": round(fault.size, 3),
        "sensors": [name for name in fault.sensors if name in device.plant.sensors],
    }


def write_fleet(fleet: Fleet, out: Path, rotate: bool = False) -> int:
    """Write ``logs/``, ``lake/`` and ``truth.json`` under ``out`` and return the number of log lines."""
    lake = Lake(out / "lake", fleet.type)
    count = 0
    for device in fleet.devices:
        rows = device.rows(0, fleet.rows)
        count += write_log(device, out / "logs" / device.name, rows, rotate)
        lake.add(device, rows, device.faults)
    lake.close()
    (out / "truth.json").write_text(json.dumps(truth(fleet), indent=1) + "\n", encoding="utf-8")
    return count
