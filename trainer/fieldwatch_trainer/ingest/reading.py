"""Lines → readings of one device, with the agent's parser; what is refused is counted by reason, with line numbers.

The sensors of a log are not known beforehand. So each file is read twice: once for the names of all its columns, also
those that a later header brings, and once for the values. A column that never held a number is no sensor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from fieldwatch_contract.clock import MINUTE, SECOND, iso
from fieldwatch_contract.reading.lines import Lines, Refusal
from fieldwatch_contract.reading.parse import Parser
from fieldwatch_contract.reading.settings import LogConfig
from fieldwatch_contract.reading.words import value_a_line
from numpy.typing import NDArray

from fieldwatch_trainer.ingest.files import DamagedError, blocks

NICE = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 86_400)
"""Periods, in seconds, that devices have; a measured one within two per cent is taken for it."""


PERIOD = MINUTE
"""Until it is measured; µs."""


@dataclass
class Refused:
    """Lines refused for one reason: how many, the first one's place and what is wrong with it."""

    count: int
    where: str
    detail: str


@dataclass
class Count:
    """What became of one device's lines: readings, refused, or ``skipped`` (headers, comments, blanks).

    Of a log with a value a line several make one reading. ``late`` are readings that an agent would have refused: the
    lake has them, in their place, and the rows behind them have a past that no device had.
    """

    files: int = 0
    read: int = 0
    readings: int = 0
    skipped: int = 0
    refused: dict[str, Refused] = field(default_factory=dict)
    no_numbers: dict[str, int] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    late: int = 0
    first_late: str = ""
    zone: str = ""
    """The zone in which times were read that name none; empty where all did."""
    waiting: bool = False
    """Whether the last reading, of a log with a value a line, may still grow: it is taken when a later one begins."""

    def refuse(self, path: Path, first: int, refusals: Sequence[Refusal]) -> None:
        """Count refusals of a block whose first line is number ``first`` of the file."""
        for each in refusals:
            known = self.refused.setdefault(each.reason, Refused(0, f"{path} line {first + each.line}", each.detail))
            known.count += 1

    def order(self, path: Path, first: int, ts: NDArray[np.int64], line: NDArray[np.int64], newest: int) -> int:
        """Count the readings of a block that are older than one before them in their file; return the newest by now."""
        so_far = np.maximum.accumulate(np.concatenate(([newest], ts)))
        late = np.flatnonzero(ts < so_far[:-1])
        if len(late) and not self.late:
            at = int(late[0])
            before = iso(int(so_far[at]))
            self.first_late = f"{path} line {first + int(line[at])} has {iso(int(ts[at]))} after {before}"
        self.late += len(late)
        return int(so_far[-1])


@dataclass(frozen=True)
class Part:
    """Readings of one block: ``ts`` int64 ``[n]`` µs, ``values`` float64 ``[n, S]``; ``covers`` bool ``[S]``: the
    sensors that the file has had so far."""

    ts: NDArray[np.int64]
    values: NDArray[np.float64]
    covers: NDArray[np.bool_]


def names_of(path: Path, log: LogConfig) -> list[str]:
    """Return every column of a log that may be a sensor, in the order of their coming."""
    parser = Parser(log, ())
    found: dict[str, None] = {}
    for lines in _blocks(path, log):
        readings = parser.parse(lines)
        if len(readings.changes) > 1:  # several headers in one block: the last alone would be known
            parser = Parser(log, ())
            for at, line in enumerate(lines.lines):
                start = at == 0 and lines.at_start
                parser.parse(Lines(lines=[line], fresh=at == 0 and lines.fresh, at_start=start))
                found.update(dict.fromkeys(parser.columns.unknown if parser.columns else ()))
        columns = parser.columns
        found.update(dict.fromkeys(columns.unknown if columns and not columns.pair else ()))
    found.update(dict.fromkeys(parser.met))
    return [name for name in found if name]


def layout(path: Path, log: LogConfig) -> str:
    """Return the format of a log of which nobody said it: JSON objects, a value a line by names and text, else columns.

    Told from the first block, which is read as columns (``log``).
    """
    for lines in _blocks(path, log):
        if any(line.lstrip().startswith(b"{") for line in lines.lines[:1]):
            return "jsonl"
        probe = Parser(log, ())
        probe.parse(lines)
        names = probe.columns.unknown if probe.columns else ()
        if pair := value_a_line(names):
            read = Parser(log, names).parse(lines)
            return "long" if read.bad_values.get(names[pair[0]], 0) * 2 > len(read.ts) else "csv"
        break
    return "csv"


def order(paths: Sequence[Path], log: LogConfig) -> list[Path]:
    """Return the files of one device, oldest first; those without a time last."""

    def first(path: Path) -> tuple[float, str]:
        for lines in _blocks(path, log):
            ts = Parser(log, ()).first_time(lines.lines[:200])
            return (float("inf") if ts is None else ts, str(path))
        return (float("inf"), str(path))

    return sorted(paths, key=first)


def readings(paths: Sequence[Path], log: LogConfig, sensors: Sequence[str], count: Count) -> Iterator[Part]:
    """Yield the readings of one device's files, in order, and count what becomes of the lines."""
    parser = Parser(log, sensors)
    for path in paths:
        count.files += 1
        first, seen, newest = 1, np.zeros(len(sensors), np.bool_), np.iinfo(np.int64).min
        try:
            for lines in blocks(path, log.encoding):
                read = parser.parse(lines)
                count.read += len(lines)
                count.readings += len(read.ts)
                count.skipped += read.skipped
                count.refuse(path, first, read.refused)
                for name, bad in read.bad_values.items():
                    count.no_numbers[name] = count.no_numbers.get(name, 0) + bad
                count.changes += [f"{path}: {change}" for change in read.changes if "changed" in change]
                count.waiting = read.open_line is not None
                count.zone = log.timestamp.timezone if parser.assumed_zone else ""
                newest = count.order(path, first, read.ts, read.line, newest)
                first += len(lines)
                if len(read.ts):
                    seen = seen | np.isfinite(read.values).any(axis=0)
                    yield Part(read.ts, read.values, seen)
        except DamagedError as error:
            count.problems.append(str(error))
        except OSError as error:
            count.problems.append(f"{path}: cannot be read: {error.strerror or error}")


def period_of(parts: Sequence[Part]) -> int:
    """Return the usual time between readings (µs), a nice one where it is near; 0 where there are too few.

    Logs of several components have times of their own; the period is that of most.
    """
    steps = (np.diff(np.unique(part.ts)) for part in parts)
    usual = Counter(_nice(float(np.median(step)) / SECOND) for step in steps if len(step) > 1)
    return usual.most_common(1)[0][0] if usual else 0


def period_of_values(paths: Sequence[Path], log: LogConfig, sensors: Sequence[str]) -> int:
    """Return the usual time (µs) between two values of a sensor, in a log with a value a line; 0 where there are none.

    Every time counts by itself, as what makes a reading depends on the period. The first block that tells is enough.
    """
    apart = log.model_copy(update={"period": SECOND // 1000})
    for path in paths:
        for lines in _blocks(path, log):
            read = Parser(apart, sensors).parse(lines)
            steps = (np.diff(np.unique(read.ts[~np.isnan(column)])) for column in read.values.T)
            usual = Counter(_nice(float(np.median(step)) / SECOND) for step in steps if len(step) > 1)
            if usual:
                return min(usual, key=lambda period: (-usual[period], period))
    return 0


def _nice(seconds: float) -> int:
    near = min(NICE, key=lambda nice: abs(nice - seconds))
    return round((near if abs(near - seconds) <= 0.02 * near else float(f"{seconds:.3g}")) * SECOND)


def assumed(log: dict[str, object]) -> dict[str, object]:
    """Return settings that a parser accepts while the period is not known."""
    return {"path": "log", "period": f"{PERIOD // SECOND}s"} | log


def _blocks(path: Path, log: LogConfig) -> Iterator[Lines]:
    try:
        yield from blocks(path, log.encoding)
    except (DamagedError, OSError):
        return  # told when the values are read
