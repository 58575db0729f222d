"""How a log is written: reads its newest file as ``run`` would, and finds the settings that ``[log]`` must say.

| setting | found by |
|---|---|
| ``format`` | the first line is a JSON object; or the columns name a sensor and a value |
| ``timestamp.format`` | of the formats that read every time: the one by which the newest reading is near the time its \
file was written, or the only one. Else it is a :class:`Doubt` |
| ``timestamp.timezone`` | times without a zone, and the newest reading is whole hours from when its file was written |
| ``period`` | the median of the time between two readings |
| ``missing`` | a value that stands for "no value" beyond doubt |

What is given is never changed, and what the agent detects by itself is not written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fieldwatch_contract import clock
from fieldwatch_contract.reading.advice import repeated_extremes, senses, zone_between
from fieldwatch_contract.reading.parse import Parser
from fieldwatch_contract.reading.settings import LogConfig
from fieldwatch_contract.reading.text import cut, detect

from fieldwatch_agent.check_log import Outcome, Sample, columns_of, outcome, pairs_of, take_sample
from fieldwatch_agent.log.files import HEAD
from fieldwatch_agent.log.shared_file import open_shared
from fieldwatch_agent.log.tail import Tail
from fieldwatch_agent.zones import local_zone, zone_for

GLANCE = 512 * 1024
"""Bytes: of a larger file only half of this is read at each end."""
ENOUGH = 3
"""Readings that a file must have to be a log."""
QUIET_S = 600.0
"""Seconds after which a log that was not written any more is not growing, or three periods if that is longer."""


@dataclass(frozen=True)
class Doubt:
    """A question that the file does not answer. ``choices``: time formats, each with the newest reading's time."""

    key: str
    text: str
    choices: tuple[tuple[str, str], ...]


@dataclass
class Understood:
    """A log as it will be read. ``keys``: what ``[log]`` must say, as in ``agent.toml``; ``numeric``: columns that hold
    numbers; ``guessed_zone``: times without a zone are taken as UTC, and nothing proves it."""

    keys: dict[str, Any]
    log: LogConfig
    sample: Sample
    found: Outcome
    numeric: tuple[str, ...] = ()
    doubts: list[Doubt] = field(default_factory=list)
    guessed_zone: bool = False

    @property
    def readable(self) -> bool:
        """Whether it is the log of a device: a few readings with numbers, more of them than refused lines."""
        count = len(self.found.taken)
        return count >= ENOUGH and bool(self.numeric) and count >= len(self.found.refused)

    def growing(self, now: float) -> bool:
        """Tell whether the log was written a moment ago (Unix seconds)."""
        quiet = max(QUIET_S, 3 * self.log.period / clock.SECOND)
        return now - self.sample.path.stat().st_mtime < quiet

    @property
    def units(self) -> dict[str, str]:
        """Units by column, where the file gives them."""
        return self.found.parser.units


def newest_file(pattern: str) -> Path | None:
    """Return the file in which the log ends, None where nothing matches; raises :class:`OSError`."""
    files = Tail(pattern, format=Parser(LogConfig.model_validate({"path": pattern, "period": "60s"}), ())).files()
    return files[-1] if files else None


def is_text(path: Path) -> bool:
    """Tell whether a file begins with a line of text; raises :class:`OSError`. A packed one counts as text."""
    if path.suffix == ".gz":
        return True
    with open_shared(path) as file:
        head = file.read(HEAD)
    found = detect(head[:4], None)
    return found is not None and bool(cut(head[found[1] :], found[0])[0])


def understand(pattern: str, newest: Path, given: Mapping[str, Any]) -> Understood:
    """Read the log's newest file; ``given``: keys of ``[log]`` that somebody has said.

    Raises :class:`OSError` where it cannot be read, :class:`pydantic.ValidationError` where a given key is wrong.
    """
    keys: dict[str, Any] = {"path": pattern, **given}
    sample = take_sample(newest, _config(keys), GLANCE)
    if "format" not in keys and _first(sample).startswith(b"{"):
        keys["format"] = "jsonl"
    seen = _read(keys, sample)
    if "format" not in keys and pairs_of(seen.found):
        seen = _read({**keys, "format": "long"}, sample)
    if not _said(keys, "format"):
        seen = _with_time_format(seen)
    if not _said(keys, "timezone"):
        seen = _with_zone(seen)
    if "period" not in keys and (period := _period(seen.found)) is not None:
        seen.keys["period"] = period
    codes = repeated_extremes(seen.found.values, seen.found.parser.sensors)
    if "missing" not in keys and codes:
        seen.keys["missing"] = [int(code) if code.is_integer() and abs(code) < 1e15 else code for code in sorted(codes)]
    return _read(seen.keys, sample, seen)


def _read(keys: dict[str, Any], sample: Sample, before: Understood | None = None) -> Understood:
    """Read the sample with these keys; every column counts as a sensor."""
    log = _config(keys)
    found = outcome(sample, log, columns_of(outcome(sample, log, ())))
    names = found.parser.sensors
    numeric = tuple(name for place, name in enumerate(names) if np.isfinite(found.values[:, place]).any())
    seen = Understood(dict(keys), log, sample, found, numeric)
    if before is not None:
        seen.doubts, seen.guessed_zone = before.doubts, before.guessed_zone
    return seen


def _config(keys: Mapping[str, Any]) -> LogConfig:
    """``[log]`` of these keys; a period that is not known yet is so short that it refuses nothing."""
    return LogConfig.model_validate({"period": "1ms", **keys})


def _first(sample: Sample) -> bytes:
    lines = (line.strip() for block in sample.blocks for line in block.lines)
    return next((line for line in lines if line), b"")


def _said(keys: Mapping[str, Any], key: str) -> bool:
    time = keys.get("timestamp")
    return isinstance(time, dict) and key in time


def _time(keys: Mapping[str, Any], **more: str) -> dict[str, Any]:
    """Return ``[log.timestamp]`` with more keys; in its short form it is the column."""
    time = keys.get("timestamp", {})
    return {**(time if isinstance(time, dict) else {"column": time}), **more}


def _with_time_format(seen: Understood) -> Understood:
    """Choose the format of times that are refused, or that say something far from when the file was written."""
    written = int(seen.sample.path.stat().st_mtime * clock.SECOND)
    formats = seen.found.parser.time_formats
    last = seen.found.parser.last_reading(_last_lines(seen.sample))
    if last is not None and len(seen.found.ts) and abs(last[0] - written) >= clock.DAY:
        near = [each for each in senses(last[1], seen.log.timestamp.timezone) if abs(each.ts - written) < clock.DAY]
        other = _timed(seen, near[0].format) if len(near) == 1 else seen
        return other if len(other.found.ts) >= len(seen.found.ts) else seen
    if not formats or len(seen.found.ts) >= len(seen.found.refused):
        return seen
    made = [(each, _timed(seen, each)) for each in formats]
    ends = [(form, each, int(each.found.ts.max())) for form, each in made if _period(each.found) is not None]
    near_ones = [each for _, each, end in ends if abs(end - written) < clock.DAY]
    if len(near_ones) == 1 or len(ends) == 1:
        return near_ones[0] if near_ones else ends[0][1]
    if ends:
        choices = tuple((form, clock.iso(end)) for form, _, end in ends)
        seen.doubts.append(Doubt("timestamp.format", "How are the times written? The newest would be", choices))
    return seen


def _timed(seen: Understood, form: str) -> Understood:
    return _read({**seen.keys, "timestamp": _time(seen.keys, format=form)}, seen.sample)


def _with_zone(seen: Understood) -> Understood:
    parser = seen.found.parser
    if not len(seen.found.ts) or not parser.assumed_zone:
        return seen
    written = int(seen.sample.path.stat().st_mtime * clock.SECOND)
    newest = int(seen.found.ts[-1])
    ahead = zone_between(newest, written)
    zone = zone_for(ahead, newest, local_zone()) if ahead else None
    if zone is not None:
        return _read({**seen.keys, "timestamp": _time(seen.keys, timezone=zone)}, seen.sample, seen)
    seen.guessed_zone = abs(newest - written) > 8 * clock.MINUTE
    return seen


def _last_lines(sample: Sample) -> list[bytes]:
    return [line for block in sample.blocks[-2:] for line in block.lines]


def _period(found: Outcome) -> str | None:
    """Return the time between two readings, rounded as people say it; None where there are too few."""
    steps = np.diff(np.unique(found.ts))
    if len(steps) < 2:
        return None
    usual = float(np.median(steps))
    for unit, name in ((clock.SECOND, "s"), (clock.SECOND // 1000, "ms")):
        count = round(usual / unit)
        if count and abs(usual - count * unit) <= 0.02 * usual:
            return f"{count}{name}"
    return f"{round(usual)}us"
