"""``fieldwatch-trainer ingest LOG… --out LAKE``: the command, and what it tells."""

from __future__ import annotations

import argparse
import csv
import glob
import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fieldwatch_contract.clock import SECOND, iso
from fieldwatch_contract.reading.settings import LogConfig
from fieldwatch_contract.topics import DEVICE_ID
from pydantic import ValidationError

from fieldwatch_trainer.ingest import files, intervals, reading, store
from fieldwatch_trainer.ingest.reading import Count, Part
from fieldwatch_trainer.ingest.store import Added, Rows

DEFAULT_TYPE = "device"
PENDING = 128 * 1024 * 1024
"""Bytes of values that wait in memory before they are put into the lake."""


class IngestError(Exception):
    """The command cannot be done as asked; the message says why and what would be right."""


@dataclass(frozen=True)
class Job:
    """One device's logs: ``log`` are settings as in ``[log]`` of ``agent.toml``."""

    device: str
    device_type: str
    paths: Sequence[Path]
    log: Mapping[str, Any]


@dataclass
class Done:
    """What became of one device."""

    device: str
    device_type: str
    format: str
    period_s: float
    sensors: list[str]
    span: str
    count: Count
    added: Added


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("logs", nargs="*", metavar="LOG", help="files, folders or patterns; .gz too")
    parser.add_argument("--out", required=True, type=Path, metavar="LAKE", help="folder of the lake, new or not")
    parser.add_argument("--device", metavar="ID", help="whose logs these are; default: the name of a log's folder")
    parser.add_argument("--device-type", metavar="T", help=f"of the devices (default {DEFAULT_TYPE!r})")
    parser.add_argument("--period", metavar="60s", help="time between two readings; default: measured")
    parser.add_argument(
        "--format",
        choices=("csv", "long", "jsonl"),
        help="a column a sensor, a line a value, a JSON object a reading; default: found out",
    )
    parser.add_argument(
        "--missing", action="append", default=[], metavar="V", help="a number or word for no value; may be repeated"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="agent.toml: how its [log] is written")
    parser.add_argument("--devices", type=Path, metavar="CSV", help="with columns device, device_type, period, logs")
    parser.add_argument("--labels", type=Path, metavar="CSV", help="labelled intervals: start, end; or with names")
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout")


def main(args: argparse.Namespace) -> int:
    """Ingest; return 0, or 1 where a file could not be read to its end or gave no reading at all.

    Raises :class:`IngestError`, :class:`.ingest.store.StoreError`, :class:`.ingest.intervals.IntervalsError`.
    """
    settings = _settings(args)
    jobs = _jobs(args, settings)
    done = [_ingest(job, args.out) for job in jobs]
    labelled = _labels(args, settings, done) if args.labels else None
    if args.json:
        sys.stdout.write(json.dumps(_plain(done, labelled), indent=1) + "\n")
    else:
        sys.stdout.write(said(done, labelled, args.out))
    return 1 if any(one.count.problems or not one.count.readings for one in done) else 0


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return ``{"device": …, "log": …}`` from ``--config``, with the options on top."""
    content: dict[str, Any] = {}
    if args.config is not None:
        try:
            content = tomllib.loads(args.config.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise IngestError(f"{args.config}: cannot be read: {error}") from error
    log = dict(content.get("log", {}))
    if args.period:
        log["period"] = args.period
    if args.format:
        log["format"] = args.format
    if args.missing:
        log["missing"] = [*log.get("missing", []), *(_number(value) for value in args.missing)]
    return {"device": dict(content.get("device", {})), "log": log}


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _jobs(args: argparse.Namespace, settings: Mapping[str, Any]) -> list[Job]:
    kind = args.device_type or settings["device"].get("type") or DEFAULT_TYPE
    log = settings["log"]
    try:
        if args.devices is not None:
            if args.logs or args.device:
                raise IngestError("--devices names logs and devices; leave LOG and --device out")
            return [_line(line, args.devices, kind, log) for line in _table(args.devices)]
        places = args.logs
        if not places and args.config is not None and "path" in log:
            places = [str(args.config.absolute().parent / log["path"])]
        if not places:
            raise IngestError("name a log, a folder of logs, or --devices")
        found = files.logs(places)
        mine = settings["device"].get("id")  # of one device's configuration: not the name of other devices' logs
        theirs = len(args.logs) > 0 and len({file.absolute().parent for file in found}) > 1
        grouped = files.by_device(found, args.device or (None if theirs else mine))
    except FileNotFoundError as error:
        raise IngestError(f"{error.filename}: {error.strerror}") from error
    return [Job(device, kind, paths, log) for device, paths in sorted(grouped.items())]


def _table(path: Path) -> list[dict[str, str]]:
    try:
        lines = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise IngestError(f"{path}: cannot be read: {error}") from error
    for column in ("device", "logs"):
        if not lines or column not in lines[0]:
            told = "it needs device, logs (a pattern) and may have device_type, period"
            raise IngestError(f"{path}: column {column!r} is missing; {told}")
    return lines


def _line(line: Mapping[str, str], path: Path, kind: str, log: Mapping[str, Any]) -> Job:
    pattern = Path(line["logs"])
    place = str(pattern if pattern.is_absolute() else Path(glob.escape(str(path.absolute().parent))) / pattern)
    more = {"period": line["period"]} if line.get("period") else {}
    return Job(line["device"], line.get("device_type") or kind, files.logs([place]), {**log, **more})


def _ingest(job: Job, lake: Path) -> Done:
    told = dict(job.log)
    log = _config(reading.assumed(told) | {"path": "log"})
    if "format" not in told:
        told["format"] = reading.layout(job.paths[0], log)
        log = _config(reading.assumed(told) | {"path": "log"})
    paths = reading.order(job.paths, log)
    names = list(dict.fromkeys(name for path in paths for name in reading.names_of(path, log)))
    measured = "period" not in told
    if measured and log.format == "long":  # values of one period make one reading, so it comes first
        period = reading.period_of_values(paths, log, names)
        if not period:
            raise IngestError(f"{paths[0]}: too few values to measure their period: say --period")
        log, measured = log.model_copy(update={"period": period}), False
    done = Done(job.device, job.device_type, log.format, log.period / SECOND, [], "", Count(), Added())
    pending: list[Part] = []
    edges: list[int] = []
    for part in reading.readings(paths, log, names, done.count):
        pending.append(part)
        edges += [int(part.ts.min()), int(part.ts.max())]
        if sum(each.values.nbytes for each in pending) > PENDING:
            measured = _flush(job, lake, names, pending, done, measured)
            pending.clear()
    _flush(job, lake, names, pending, done, measured)
    done.span = f"{iso(min(edges))} to {iso(max(edges))}" if edges else "no reading"
    return done


def _flush(job: Job, lake: Path, names: list[str], parts: list[Part], done: Done, measured: bool) -> bool:
    """Put readings into the lake; return whether the period is still to be measured."""
    if not parts:
        return measured
    ts, values = np.concatenate([part.ts for part in parts]), np.concatenate([part.values for part in parts])
    if measured:
        done.period_s = (reading.period_of(parts) or reading.PERIOD) / SECOND
    covers = np.repeat([part.covers for part in parts], [len(part.ts) for part in parts], axis=0)
    there = np.isfinite(values).any(axis=0)
    sensors = [name for name, some in zip(names, there, strict=True) if some]
    if sensors:
        period = round(done.period_s * SECOND)
        store.add_device(lake, job.device, job.device_type, period)
        one = store.add(lake, job.device, Rows(ts, values[:, there], tuple(sensors), covers[:, there]), period)
        done.added.new += one.new
        done.added.known += one.known
        done.added.conflicts += one.conflicts
        done.sensors += [name for name in sensors if name not in done.sensors]
    return False


def _config(log: Mapping[str, Any]) -> LogConfig:
    try:
        return LogConfig.model_validate(dict(log))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise IngestError(f"[log] {key}: {first['msg'].removeprefix('Value error, ')}") from error


def _labels(args: argparse.Namespace, settings: Mapping[str, Any], done: Sequence[Done]) -> tuple[int, list[str]]:
    """Add labels; return how many are new, and the lines that were refused."""
    log = _config(reading.assumed(settings["log"]) | {"path": "log"})
    devices = {one.device for one in done}
    only = next(iter(devices)) if len(devices) == 1 else args.device
    sensors = {name for one in done for name in one.sensors}
    found = intervals.read(args.labels, only, log.timestamp, sensors)
    return store.add_labels(args.out, found.labels), [f"{args.labels} {each}" for each in found.refused]


def _plain(done: Sequence[Done], labelled: tuple[int, list[str]] | None) -> dict[str, Any]:
    result: dict[str, Any] = {"devices": [asdict(one) for one in done]}
    if labelled is not None:
        result["labels"] = {"new": labelled[0], "refused": labelled[1]}
    return result


def said(done: Sequence[Done], labelled: tuple[int, list[str]] | None, lake: Path) -> str:
    """Tell a person what became of the lines."""
    lines = []
    for one in done:
        count, added = one.count, one.added
        lines.append(
            f"{one.device} ({one.device_type}): {count.readings:,} readings of {len(one.sensors)} sensors, one every "
            f"{one.period_s:g} s, {one.span}; {added.new:,} new rows"
            + (f", {added.known:,} readings on rows that were there already" if added.known else "")
            + (f" ({added.conflicts:,} of their values are others: the first ones stay)" if added.conflicts else "")
        )
        if not DEVICE_ID.fullmatch(one.device):
            lines.append(
                f"  {one.device!r} is no id that an agent may have (3 to 64 of a-z, 0-9, '-'): what people say of its "
                "alerts comes back under that id. Rename the folder, or say --device or --devices"
            )
        if one.count.zone:
            lines.append(
                f"  times have no zone and are taken as {one.count.zone}; another one: [log.timestamp] timezone = "
                '"Europe/Berlin" in --config agent.toml. Those of --labels are read alike'
            )
        refused = sum(each.count for each in count.refused.values())
        of = f"  {count.files} files, {count.read:,} lines"
        if one.format == "long":
            lines.append(f"{of} with a value each (format long), {refused:,} refused")
        else:
            lines.append(f"{of}: {count.skipped:,} with names, comments or nothing, {refused:,} refused")
        lines += [f"  {each.count:,} {reason}: {each.where} {each.detail}" for reason, each in count.refused.items()]
        if count.late:
            lines.append(
                f"  {count.late:,} readings are older than one before them in their file, and are put in their place; "
                f"an agent refuses such as late. {count.first_late}: was the clock set back?"
            )
        for name, number in count.no_numbers.items():
            lines.append(f"  {name}: {number:,} values are no numbers, taken as missing")
        lines += [f"  {change}" for change in dict.fromkeys(count.changes)]
        lines += [f"  {problem}" for problem in count.problems]
        if count.waiting:
            lines.append("  the last reading is taken when a later one begins: ingest again when the log has grown")
        if not count.readings:
            lines.append("  no reading: is --format right? [log] keys in --config agent.toml say how it is written")
    if labelled is not None:
        lines.append(f"labels: {labelled[0]} new" + "".join(f"\n  refused: {each}" for each in labelled[1]))
    lines.append(f"next: fieldwatch-trainer check --lake {lake}")
    return "\n".join(lines) + "\n"
