"""``check`` of the log: what ``run`` would do with the newest file, read the same way, and what a person should decide.

| examined | reported if |
|---|---|
| the whole newest file; if larger than :data:`WHOLE`, its head and tail, and that is reported | – |
| each line, parsed and placed on the grid as in ``run`` | it would be refused: how many, why, which, the remedy |
| the columns | they differ from the bundle's, or change within the file |
| the values | they are not numbers; one may stand for "no value" |
| times compared with each other | the period differs; they run backwards; day and month seem swapped |
| the newest time compared with the file's modification time | another zone, another epoch, or simply far off |
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from fieldwatch_contract import clock
from fieldwatch_contract.acceptance import ahead, in_order
from fieldwatch_contract.phase import Phase, follow, quarters
from fieldwatch_contract.reading.advice import Advice, exchanged, far_from, repeated_extremes
from fieldwatch_contract.reading.lines import Lines
from fieldwatch_contract.reading.parse import Parser, Refusal
from fieldwatch_contract.reading.settings import LogConfig
from fieldwatch_contract.reading.text import cut, unit
from fieldwatch_contract.reading.words import REMARKS, some, value_a_line, word
from numpy.typing import NDArray

from fieldwatch_agent.findings import Finding, Level
from fieldwatch_agent.log.shared_file import open_shared
from fieldwatch_agent.log.tail import Tail, read_file

WHOLE = 64 * 1024 * 1024
"""Bytes: of a larger file only half of this is read at each end."""
LAST = 20
"""If this many newest lines are all refused it is an error, however many lines before them are fine."""


@dataclass
class Sample:
    """What was read of a file. ``skipped``: bytes between head and tail. ``torn``: the last line has no end."""

    path: Path
    encoding: str = "8-bit"
    blocks: list[Lines] = field(default_factory=list)
    size: int = 0
    skipped: int = 0
    torn: bool = False

    @property
    def count(self) -> int:
        """How many lines were read."""
        return sum(len(block) for block in self.blocks)

    @property
    def told(self) -> str:
        """How much of the file was read, in words."""
        if not self.skipped:
            return f"all {self.count} lines"
        return f"{self.count} lines at its beginning and its end, not the {self.skipped} bytes between"


def take_sample(path: Path, log: LogConfig, whole: int | None = None) -> Sample:
    """Read the file, or of one above ``whole`` bytes (:data:`WHOLE`) its head and tail; a packed one always whole.

    Raises :class:`OSError` where it cannot be read.
    """
    whole = WHOLE if whole is None else whole
    with open_shared(path) as file:
        size = file.seek(0, os.SEEK_END)
    packed = path.suffix == ".gz"
    sample = Sample(path, size=size)
    read = 0
    for block in read_file(path, log, min(1 << 20, whole // 2)):
        sample.blocks.append(block)
        sample.encoding = block.encoding
        sample.torn = block.torn
        read = block.position.offset
        if not packed and size > whole and read >= whole // 2:
            break
    if not packed and sample.blocks and size > whole:
        start = max(read, size - whole // 2)
        start -= (start - read) % unit(sample.encoding)
        with open_shared(path) as file:
            file.seek(start)
            lines, _ = cut(file.read(), sample.encoding)
        if lines[start > read :]:
            sample.blocks.append(Lines(lines=lines[start > read :]))
        sample.skipped = start - read
    return sample


@dataclass
class Outcome:
    """What ``run`` would do with a sample: all times read, those of rows, and all values; line numbers from 1."""

    parser: Parser
    ts: NDArray[np.int64]
    taken: NDArray[np.int64]
    values: NDArray[np.float64]
    refused: list[Refusal]
    bad: Counter[str]
    changes: list[str]
    skipped: int

    def by_reason(self) -> list[tuple[str, list[Refusal]]]:
        """The refusals grouped by reason, the most frequent first."""
        counts = Counter(refusal.reason for refusal in self.refused)
        return [
            (reason, [each for each in self.refused if each.reason == reason]) for reason, _ in counts.most_common()
        ]


def outcome(sample: Sample, log: LogConfig, sensors: Sequence[str]) -> Outcome:
    """Read a sample as ``run`` would: the same parser, the same acceptance rule."""
    parser = Parser(log, sensors)
    newest: int | None = None
    phase = Phase()
    written = sample.path.stat().st_mtime_ns // 1000
    times, taken, values = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty((0, len(sensors)))]
    found = Outcome(parser, times[0], taken[0], values[0], [], Counter(), [], 0)
    number = 1
    for lines in sample.blocks:
        readings = parser.parse(lines)
        line = readings.line + number
        refused = [Refusal(each.line + number, each.reason, each.detail) for each in readings.refused]
        future = ahead(readings.ts, clock.now(), newest, written).future
        refused += [
            Refusal(int(at), "future", "is more than a day ahead of this computer's clock") for at in line[future]
        ]
        ts, line = readings.ts[~future], line[~future]
        placed = follow(quarters(ts, log.period), phase)
        rows, duplicate, late = in_order(placed.slots, phase.slot)
        newest, phase = int(ts[rows[-1]]) if len(rows) else newest, placed.phase
        refused += [Refusal(int(line[at]), "duplicate", "has the period of a reading before it") for at in duplicate]
        refused += [Refusal(int(line[at]), "late", "is older than a reading before it") for at in late]
        taken.append(ts[rows])
        times.append(readings.ts)
        values.append(readings.values)
        found.refused += sorted(refused, key=lambda each: each.line)
        found.bad.update(readings.bad_values)
        found.changes += readings.changes
        found.skipped += readings.skipped
        number += len(lines)
    found.ts, found.taken, found.values = np.concatenate(times), np.concatenate(taken), np.concatenate(values)
    return found


def columns_of(found: Outcome) -> tuple[str, ...]:
    """Return what would be sensors if no bundle says it: every name that has values, a column of remarks not."""
    columns = found.parser.columns
    if columns is None or columns.pair:
        return found.parser.met
    return tuple(name for name in columns.unknown if word(name) not in REMARKS)


def pairs_of(found: Outcome) -> tuple[str, str] | None:
    """Return the columns of sensors' names, which are no numbers, and of values, where a line holds one value."""
    pair = value_a_line(found.parser.sensors)
    if pair is None:
        return None
    sensor, value = (found.parser.sensors[at] for at in pair)
    return (sensor, value) if found.bad[sensor] * 2 > len(found.ts) else None


def check_log(log: LogConfig, sensors: Sequence[str]) -> Iterator[Finding]:
    """Yield the findings; ``sensors``: the bundle's, none where there is no bundle yet."""
    where = "[log] path"
    try:
        files = Tail(log.path, encoding=log.encoding, format=Parser(log, sensors)).files()
        if not files:
            if Path(log.path).is_dir():
                what = f"{log.path} is a folder"
                yield Finding("error", where, what, f"name the files in it, such as {Path(log.path, '*.csv')}")
                return
            folder = Path(log.path).parent
            missing = "" if folder.is_dir() or "*" in str(folder) else f"; there is not even a folder {folder}"
            remedy = "right if the device has not written yet"
            yield Finding("warning", where, f"no file matches {log.path}{missing}", remedy)
            return
        sample = take_sample(files[-1], log)
    except OSError as error:
        what = f"{error.filename or log.path} cannot be read: {error.strerror or error}"
        yield Finding("error", where, what, "give the agent's account the right to read it")
        return
    newest = str(sample.path)
    yield Finding("ok", where, f"{len(files)} file{'s' * (len(files) > 1)}, newest {newest}")
    if not sample.count:
        yield Finding("warning", newest, "has no whole line yet", "right if the device has just begun it")
        return
    if sample.torn and sample.count == 1:
        what = f"no line end in the first {sample.size} bytes, read as {_encoding(log, sample)}"
        remedy = "is [log] encoding right? A line must end with a line feed; a carriage return alone is none"
        yield Finding("error", newest, what, remedy)
        return
    found = outcome(sample, log, sensors)
    if not sensors and found.parser.columns is not None and not found.parser.columns.pair:
        found = outcome(sample, log, columns_of(found))
    if not len(found.ts):
        yield _nothing(found, sample)
        return
    if not sensors and log.format == "csv" and (pair := pairs_of(found)) is not None:
        what = f"a line seems to hold one value: {pair[0]!r} names the sensor, {pair[1]!r} is its value"
        yield Finding("error", newest, what, 'set [log] format = "long"')
        return
    yield from _dialect(log, found, sample)
    yield from _refused(found, sample)
    yield from _values(found, sensors, newest)
    yield from _columns(found, sensors, newest)
    yield from _times(log, found, sample)


def _nothing(found: Outcome, sample: Sample) -> Finding:
    (detail, _), *_ = Counter(refusal.detail for refusal in found.refused).most_common(1) or [("", 0)]
    told, _, cure = detail.partition("; ")
    what = f"no reading in the first {sample.count} lines" + (f": {told}" if told else "")
    remedy = cure or "the first line must name the columns; say delimiter and timestamp in [log]"
    return Finding("error" if found.refused else "warning", str(sample.path), what, remedy)


def _dialect(log: LogConfig, found: Outcome, sample: Sample) -> Iterator[Finding]:
    """Report how the log is written."""
    parser, columns = found.parser, found.parser.columns
    zone = "" if not parser.assumed_zone else f", times without zone are {log.timestamp.timezone}"
    if columns is None:
        yield Finding(
            "ok", str(sample.path), f"{log.format}, encoding {_encoding(log, sample)}{zone}; read {sample.told}"
        )
        return
    delimiter = {"\t": "tab", " ": "blanks"}.get(columns.delimiter.decode(), repr(columns.delimiter.decode()))
    time = " + ".join(repr(columns.names[column]) for column in columns.time)
    usual = "." if columns.delimiter == b"," else ""
    decimal = repr(parser.decimal or usual) if parser.decimal or usual else "'.' or ','"
    units = ", ".join(f"{name} in {unit}" for name, unit in list(parser.units.items())[:5])
    yield Finding(
        "ok",
        str(sample.path),
        f"encoding {_encoding(log, sample)}, delimiter {delimiter}, decimal {decimal}, time in {time}{zone}, "
        f"{len(columns.names) - len(columns.time)} columns of values" + (f"; units: {units}" if units else ""),
    )
    yield Finding("ok", str(sample.path), f"read {sample.told}: {len(found.taken)} readings would be scored")


def _refused(found: Outcome, sample: Sample) -> Iterator[Finding]:
    """Report what ``run`` would refuse, and why."""
    end = _end_refused(found.refused, sample)
    for reason, refusals in found.by_reason():
        first, last = refusals[0], refusals[-1].line
        span = f"line {first.line}" if len(refusals) == 1 else f"lines {first.line} to {last}, the first of which"
        newest = " and with them the newest" if end and last == sample.count else ""
        told, _, cure = first.detail.partition("; ")
        what = f"{len(refusals)} of {sample.count} lines{newest} would be refused ({reason}): {span} {told}"
        if reason == "late" and len(refusals) > len(found.taken):
            what += "; the readings come newest first"
        level: Level = "error" if newest or len(refusals) > len(found.taken) else "warning"
        yield Finding(level, str(sample.path), what, cure or _REMEDIES.get(reason, ""))


_REMEDIES = {
    "late": "the device must append its newest reading at the end; was its clock set back?",
    "duplicate": "set [log] period to the time between two readings",
    "future": "set this computer's clock, or the device's; does [log.timestamp] say how the time is written?",
    "encoding": "set [log] encoding",
    "malformed": "compare with the lines around",
    "empty": "right if the device writes lines without values",
}


def _values(found: Outcome, sensors: Sequence[str], path: str) -> Iterator[Finding]:
    bad = found.bad
    if not sensors:  # a column without any number is none of a sensor
        seen = enumerate(found.parser.sensors)
        bad = Counter({name: bad[name] for place, name in seen if np.isfinite(found.values[:, place]).any()})
    if bad := +bad:
        told = ", ".join(f"{name} ({count})" for name, count in bad.most_common(3))
        remedy = "they count as missing; a word that stands for no value belongs into [log] missing"
        yield Finding("warning", path, f"values that are no numbers: {told}", remedy)
    for value, names in repeated_extremes(found.values, found.parser.sensors).items():
        number = f"{value:g}" if float(f"{value:g}") == value else repr(value)
        what = f"{number} comes again and again in {some(names, 3)}, far from all others: does it stand for no value?"
        yield Finding("warning", path, what, f"then say [log] missing = [{number}]")


def _columns(found: Outcome, sensors: Sequence[str], path: str) -> Iterator[Finding]:
    columns = found.parser.columns
    level: Level
    first = [] if sensors else found.changes[:1]
    for change in dict.fromkeys(each for each in found.changes if each not in first and "changed" in each):
        yield Finding("warning", path, change, "what follows is read with the new columns")
    for doubt in dict.fromkeys(each for each in found.changes if "thousands" in each):
        yield Finding("error", path, doubt)
    if sensors and (columns is None or columns.pair):
        silent = [name for place, name in enumerate(sensors) if not np.isfinite(found.values[:, place]).any()]
        if silent:
            level = "error" if len(silent) * 2 > len(sensors) else "warning"
            yield Finding(level, path, f"no value for {some(silent)}", "do the names in the log differ?")
        return
    if columns is None or not sensors:
        return
    if text := columns.describe():
        level = "error" if len(columns.missing) * 2 > len(sensors) else "warning"
        yield Finding(level, path, text, "the bundle was trained with other columns: rename, or train again")
    else:
        yield Finding("ok", path, f"has a column for each of the bundle's {len(sensors)} sensors")


def _times(log: LogConfig, found: Outcome, sample: Sample) -> Iterator[Finding]:
    """Compare the readings' times with the period, with each other and with the file's modification time."""
    where = "[log.timestamp]"
    if len(found.ts) > 2:
        observed = abs(float(np.median(np.diff(found.ts))))
        told = f"readings come every {observed / clock.SECOND:g} s, period is {log.period / clock.SECOND:g} s"
        if not 0.7 * log.period <= observed <= 1.5 * log.period:
            yield Finding("warning", "[log] period", told, "set it to the time between two readings")
        else:
            yield Finding("ok", "[log] period", told)
    last = found.parser.last_reading([line for block in sample.blocks[-2:] for line in block.lines])
    if last is None:
        return
    ts, text = last
    advice = _exchanged(log, found, sample)
    newest = int(found.taken[-1]) if len(found.taken) else ts
    other_causes = (refusal for refusal in found.refused if refusal.reason not in {"future", "timestamp", "duplicate"})
    if advice is None and not _end_refused(other_causes, sample):
        newest = ts
        advice = far_from(text, ts, sample.path.stat().st_mtime_ns // 1000, log.timestamp)
    if advice is None:
        yield Finding("ok", where, f"newest reading {clock.iso(newest)}")
    else:
        yield Finding(advice[0], where, advice[1], advice[2])


def _end_refused(refused: Iterable[Refusal], sample: Sample) -> bool:
    """Whether all of the newest lines are among those refused."""
    lines = {refusal.line for refusal in refused}
    return all(number in lines for number in range(max(1, sample.count - LAST + 1), sample.count + 1))


def _exchanged(log: LogConfig, found: Outcome, sample: Sample) -> Advice | None:
    """Report day and month that seem swapped: with the other order more times are valid, or they are more regular."""
    other = exchanged(log.timestamp)
    jump = int(np.abs(np.diff(found.ts)).max()) if len(found.ts) > 2 else 0
    if other is None or (jump < 20 * clock.DAY and not any(each.reason == "timestamp" for each in found.refused)):
        return None
    again = outcome(sample, log.model_copy(update={"timestamp": other}), found.parser.sensors)
    better = len(again.ts) > len(found.ts)
    if not better and (len(again.ts) < len(found.ts) or int(np.abs(np.diff(again.ts)).max()) > jump / 2):
        return None
    one, two = (clock.iso(int(each.ts[-1])) for each in (found, again))
    what = (
        f"day and month seem exchanged: the newest reading is {one} as configured; by format "
        f'"{other.format}", which fits the others better, it is {two}'
    )
    return "error", what, f'set [log.timestamp] format = "{other.format}"'


def _encoding(log: LogConfig, sample: Sample) -> str:
    if sample.encoding != "8-bit":
        return sample.encoding
    try:
        for block in sample.blocks:
            b"".join(block.lines).decode()
    except UnicodeDecodeError:
        return log.encoding or "cp1252"
    return log.encoding or "utf-8"
