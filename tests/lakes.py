"""Small lakes on disk for tests of the trainer: correlated sensors, one minute a row, wide or long.

``LakeMaker(folder)`` holds devices in memory for a test to spoil, ``write()`` puts them on disk. A fault
(:meth:`LakeMaker.fault`) shifts some sensors, so that a detector and a classifier have something to find.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

MINUTE = 60_000_000
START = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z in µs."""
UTC = pa.timestamp("us", tz="UTC")


def correlated(rows: int, sensors: int, seed: int = 0, missing: float = 0.0) -> NDArray[np.float64]:
    """Return ``[rows, sensors]`` driven by two slow hidden factors, each sensor with its own unit and noise."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(7).normal(size=(2, sensors))
    noise = rng.normal(size=(rows, 2))
    hidden = np.zeros((rows, 2))
    for row in range(1, rows):
        hidden[row] = 0.95 * hidden[row - 1] + 0.3 * noise[row]
    values = hidden @ mixing + 0.2 * rng.normal(size=(rows, sensors))
    values = 10.0 * (np.arange(sensors) + 1) + values * (1 + np.arange(sensors) % 3)
    values[rng.random(values.shape) < missing] = np.nan
    return np.asarray(np.round(values, 3))


def in_step(
    rows: int, sensors: int, seed: int, shifts: Sequence[tuple[int, int, int, float]] = (), ramp: int = 120
) -> NDArray[np.float64]:
    """Return ``[rows, sensors]`` that swing together, each with its own lag, to a rhythm that wanders.

    ``shifts`` (first row, last row, sensor, radians) put a sensor out of step with the others, slowly at both ends.
    Nothing about that sensor alone changes: not its values, their spread or rhythm. Only between sensors does it show.
    """
    rng = np.random.default_rng(seed)
    pace = 2 * np.pi / 45 * np.exp(0.25 * np.sin(np.cumsum(rng.normal(0, 0.03, rows))))
    phase = np.cumsum(pace)[:, None] + np.linspace(0, 2, sensors)[None, :]
    for first, last, sensor, radians in shifts:
        edge = np.clip(np.minimum(np.arange(rows) - first + ramp, last + ramp - np.arange(rows)) / ramp, 0, 1)
        phase[:, sensor] += radians * edge
    return np.asarray(10.0 * (np.arange(sensors) + 1) + 3 * np.sin(phase) + 0.15 * rng.normal(size=phase.shape))


@dataclass
class LakeMaker:
    """Devices ``press-0``, ``press-1``, … of type ``press`` with sensors ``a``, ``b``, …"""

    folder: Path
    sensors: int = 4
    rows: int = 1500
    count: int = 2
    missing: float = 0.0
    names: list[str] = field(default_factory=list)
    values: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    ts: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    labels: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.names = [chr(ord("a") + place) for place in range(self.sensors)]
        for number in range(self.count):
            name = f"press-{number}"
            self.values[name] = correlated(self.rows, self.sensors, number, self.missing)
            self.ts[name] = START + np.arange(self.rows) * MINUTE

    def label(self, device: str, first: int, last: int, kind: str, sensors: Sequence[str] = ()) -> None:
        """Label rows ``first`` to ``last``, inclusive."""
        start, end = int(self.ts[device][first]), int(self.ts[device][last])
        self.labels.append({"device": device, "start": start, "end": end, "label": kind, "sensors": list(sensors)})

    def fault(self, device: str, first: int, last: int, sensors: Sequence[str] = ("b",), kind: str = "fault") -> None:
        """Shift sensors by many standard deviations, and label the rows."""
        for sensor in sensors:
            self.values[device][first : last + 1, self.names.index(sensor)] += 12.0
        self.label(device, first, last, kind, sensors)

    def write(self, layout: str = "wide", type_of: str = "press", period_s: float = 60.0) -> Path:
        """Write the lake as ``wide`` or ``long`` files, or as ``hive`` folders by day; return its folder."""
        readings = self.folder / "readings"
        readings.mkdir(parents=True, exist_ok=True)
        for name, values in self.values.items():
            ts = pa.array(self.ts[name], UTC)
            if layout == "long":
                row, column = np.nonzero(~np.isnan(values))
                table = pa.table(
                    {
                        "device": [name] * len(row),
                        "ts": ts.take(pa.array(row)),
                        "sensor": np.array(self.names)[column].tolist(),
                        "value": values[row, column],
                    }
                )
                pq.write_table(table, readings / f"{name}.parquet")
                continue
            columns = {sensor: values[:, place] for place, sensor in enumerate(self.names)}
            table = pa.table({"device": [name] * len(values), "ts": ts, **columns})
            if layout == "hive":
                days = self.ts[name] // (1440 * MINUTE)
                for day in np.unique(days):
                    folder = readings / f"date=day-{day}"
                    folder.mkdir(exist_ok=True)
                    pq.write_table(table.filter(pa.array(days == day)), folder / f"{name}.parquet")
            else:
                pq.write_table(table, readings / f"{name}.parquet")
        devices = [{"device": name, "device_type": type_of, "period_s": period_s} for name in self.values]
        pq.write_table(pa.Table.from_pylist(devices), self.folder / "devices.parquet")
        if self.labels:
            schema = pa.schema(
                [
                    ("device", pa.string()),
                    ("start", UTC),
                    ("end", UTC),
                    ("label", pa.string()),
                    ("sensors", pa.list_(pa.string())),
                ]
            )
            pq.write_table(pa.Table.from_pylist(self.labels, schema), self.folder / "labels.parquet")
        return self.folder
