"""The loggers of a running fleet: each device's log goes on, a line a period, at a multiple of real time.

Simulated time starts where the history ends and runs ``speed`` times as fast as the wall clock until it has caught up
with it; from there on it runs in real time, because no logger writes tomorrow's readings.

A line is written with one call and is whole when a reader sees it. At midnight the log is rotated as loggers do: the
finished file is renamed to ``readings-<day>.csv`` and a new one is begun. Where the rename is refused (Windows, while a
reader without delete sharing holds the file) the old file is used on and the rename tried again with the next line.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from fieldwatch_contract import clock
from fieldwatch_contract.clock import SECOND

from fieldwatch_demo.device import Device, Fault
from fieldwatch_demo.fleet import LOG_NAME, fault, log_header, log_lines, rotated_name
from fieldwatch_demo.plant import FaultKind

TICK = 0.05
"""Seconds between looks at the clock; a line is at most this late."""


class LogWriter:
    """Appends a device's rows to its log, which ends before row ``index``; nothing is written twice or left out."""

    def __init__(self, device: Device, folder: Path, index: int) -> None:
        self.device = device
        self.index = index
        self._path = folder / LOG_NAME
        self._day = (index - 1) // device.per_day

    def write(self, until: int) -> list[int]:
        """Write every line due by ``until`` (µs of simulated time) and return their timestamps."""
        written: list[int] = []
        while True:
            rows = self.device.rows(self.index, self.index + 1)
            ts = int(rows.ts[0])
            if ts > until:
                return written
            self._rotate()
            with self._path.open("ab", buffering=0) as log:
                for line in log_lines(self.device, rows):
                    log.write(line)
                    written.append(ts)
            self.index += 1

    def _rotate(self) -> None:
        day = self.index // self.device.per_day
        if day == self._day:
            return
        try:
            self._path.rename(self._path.with_name(rotated_name(self.device.time(self._day * self.device.per_day))))
        except OSError:
            return
        self._path.write_bytes(log_header(self.device))
        self._day = day


@dataclass
class Written:
    """What has been written for a device: the number of lines, and when each of the newest ones was (wall clock, s)."""

    lines: int = 0
    at: dict[int, float] = field(default_factory=dict)


class Live(threading.Thread):
    """Writes the logs of several devices until it is stopped. ``reached``: the devices' clock, µs."""

    KEPT = 5000

    def __init__(self, writers: list[LogWriter], start: int, speed: float) -> None:
        """``start``: simulated time (µs) of the first moment; rows before it have been written."""
        super().__init__(name="loggers", daemon=True)
        self.written = {writer.device.name: Written() for writer in writers}
        self.error: Exception | None = None
        self._writers = writers
        self.reached = start
        self._speed = speed
        self._lock = threading.Lock()
        self._stop_asked = threading.Event()

    def run(self) -> None:
        """Write what is due, look again; an error ends the thread and is kept in ``error``."""
        start, began = self.reached, time.monotonic()
        try:
            while not self._stop_asked.wait(TICK):
                passed = round((time.monotonic() - began) * self._speed * SECOND)
                self.reached = min(start + passed, clock.now())
                self._write_due(self.reached)
        except Exception as error:
            self.error = error

    def _write_due(self, until: int) -> None:
        with self._lock:
            for writer in self._writers:
                record = self.written[writer.device.name]
                for ts in writer.write(until):
                    record.lines += 1
                    record.at[ts] = time.time()
                    if len(record.at) > self.KEPT:
                        del record.at[next(iter(record.at))]

    def inject(self, name: str, kind: FaultKind, hours: float, size: float = 1.0) -> Fault:
        """Let a fault begin with the device's next line. Raises :class:`KeyError` for an unknown device."""
        with self._lock:
            writer = next((writer for writer in self._writers if writer.device.name == name), None)
            if writer is None:
                raise KeyError(name)
            new = fault(writer.device, kind, writer.index, hours, size)
            writer.device.faults.append(new)
            return new

    def written_at(self, name: str, since: int) -> float | None:
        """Return when (wall clock, s) the device's first line at or after ``since`` (µs) was written."""
        with self._lock:
            return next((at for ts, at in self.written[name].at.items() if ts >= since), None)

    def stop(self) -> None:
        """End after the line being written."""
        self._stop_asked.set()
        if self.is_alive():
            self.join()
