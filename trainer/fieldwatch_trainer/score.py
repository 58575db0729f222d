"""Scores of a lake or a table, exactly as a device would compute them.

Readings go through :class:`.grid.Grid` and :class:`.scoring.Scorer`, in blocks, with everything before
the first row asked for as history: what a replay of the same log prints, bit for bit. The result has one line a
reading and model; rows that stand for a missing period are scored on a device too, but nobody is told, so they are left
out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fieldwatch_contract.alerts import Rule, alert_id
from fieldwatch_contract.backtest import Backtest
from fieldwatch_contract.bundle import Bundle, BundleError, BundleFailed, read_bundle
from fieldwatch_contract.clock import SECOND
from fieldwatch_contract.fold import Explain
from fieldwatch_contract.scoring import Scorer, Scores, responsible
from fieldwatch_contract.verdicts import CODES, VERDICTS, Verdict
from numpy.typing import NDArray

from fieldwatch_trainer.lake import GridRows, Lake, LakeError
from fieldwatch_trainer.split import Split
from fieldwatch_trainer.table import Table

BLOCK = 512
"""Rows scored together; no effect on any bit."""

SCHEMA = pa.schema(
    [
        ("device", pa.string()),
        ("ts", pa.timestamp("us", tz="UTC")),
        ("model", pa.string()),
        ("score", pa.float64()),
        ("threshold", pa.float64()),
        ("verdict", pa.string()),
        ("sensors", pa.list_(pa.string())),
        ("shares", pa.list_(pa.float64())),
        ("level", pa.float64()),
        ("alert", pa.string()),
    ]
)
"""``level``: what an alert needed in that row, by the device's rule from the first row scored on, without history and
without anybody who answers; ``alert``: id of the model's open alert, null where there is none.

For a plain table ``ts`` and ``alert`` are null, ``device`` is the file's name, ``level`` the threshold, and the schema
ends with ``line``, int64."""

TABLE_SCHEMA = SCHEMA.append(pa.field("line", pa.int64()))


MOST_ABSENT = 1 / 3
"""Share of a bundle's sensors without a column from which on its scores would mean nothing."""


class ScoreError(Exception):
    """The bundle cannot score this; the message says why and what would."""


class AbsentError(Exception):
    """So many of the bundle's sensors are absent that its scores would mean nothing; the message names them."""


@dataclass(frozen=True)
class Scored:
    """Rows ``start`` to ``stop`` of a device's grid, scored; one :class:`.scoring.Scores` a model."""

    start: int
    stop: int
    scores: list[Scores]


def open_bundle(path: Path) -> Bundle:
    """Read a bundle. Raises :class:`.bundle.BundleError` also where there is no such file."""
    try:
        return read_bundle(path)
    except OSError as error:
        raise BundleFailed(f"{path}: {error.strerror or error}") from error
    except BundleError as error:
        raise type(error)(f"{path}: {error.what}", error.remedy) from error


def blocks(scorer: Scorer, rows: NDArray[np.float64], first: int, last: int, size: int = BLOCK) -> Iterator[Scored]:
    """Score ``rows[first:last]`` (float64 ``[T, S]``) with everything before as history."""
    past = scorer.manifest.window - 1
    for start in range(first, last, size):
        stop = min(start + size, last)
        fed = rows[max(start - past, 0) : stop]
        if start < past:
            fed = np.concatenate((np.full((past - start, rows.shape[1]), np.nan), fed))
        yield Scored(start, stop, scorer.score(fed))


def first_row(grid: GridRows, device: str, split: Split) -> int:
    """Return the index of the first row to score: the device's border, or 0."""
    border = split.border(device)
    return 0 if border is None else int(np.searchsorted(grid.ts, border))


def devices_for(bundle: Bundle, lake: Lake, split: Split, where: str) -> list[str]:
    """Return the lake's devices that the bundle is for.

    Raises :class:`ScoreError` for a bundle of a plain table, another period, and a lake without any of its sensors;
    :class:`AbsentError` for one without more than a third of them; :class:`.lake.LakeError` and
    :class:`.split.SplitError` as they do.
    """
    manifest = bundle.manifest
    if not manifest.timed:
        raise ScoreError(f"{manifest.name}/{manifest.version} is for a plain table, not for a lake: score --csv FILE")
    infos = lake.devices(manifest.device_type)
    if infos[0].period != manifest.period:
        raise ScoreError(
            f"{manifest.name}/{manifest.version} is for a period of {manifest.period_s:g} s, the lake's devices have "
            f"{infos[0].period / SECOND:g} s"
        )
    there = lake.sensors(manifest.device_type)
    if not set(there) & set(manifest.sensors):
        raise ScoreError(
            f"the lake has none of the sensors of {manifest.name}/{manifest.version} "
            f"({', '.join(manifest.sensors[:5])}); its columns are {', '.join(there[:5])}"
        )
    if len(missing := absent(bundle, lake)) > MOST_ABSENT * len(manifest.sensors):
        raise AbsentError(
            f"the lake has no column for {len(missing)} of the {len(manifest.sensors)} sensors of "
            f"{manifest.name}/{manifest.version}: {_some(missing)}. {_renamed(missing, there, manifest.sensors)}"
            "Rename them as the bundle has them, train again, or, if they are gone for good, add empty columns"
        )
    names = [info.device for info in infos]
    split.check(names, where)
    return names


def absent(bundle: Bundle, lake: Lake) -> list[str]:
    """Return the bundle's sensors for which no device of its type has a column."""
    there = set(lake.sensors(bundle.manifest.device_type))
    return [name for name in bundle.manifest.sensors if name not in there]


def _renamed(missing: list[str], there: list[str], known: list[str]) -> str:
    new = [name for name in there if name not in set(known)]
    return f"Columns that the bundle does not know: {_some(new)}. " if new and missing else ""


def _some(names: list[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def score_lake(
    bundle: Bundle, lake: Lake, split: Split, out: Path, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Write ``scores.parquet`` for every device of the bundle's type; return a summary for people and programs."""
    scorer = Scorer(bundle)
    manifest = bundle.manifest
    counts: dict[str, dict[str, int]] = {model.name: {} for model in manifest.models}
    readings = 0
    silent: dict[str, list[str]] = {}
    names = devices_for(bundle, lake, split, "--split")
    with _writing(out, SCHEMA, bundle) as writer:
        for number, name in enumerate(names):
            progress(f"{name} ({number + 1} of {len(names)})")
            grid = lake.grid(name, manifest.sensors, manifest.window)
            first = first_row(grid, name, split)
            without = np.isnan(grid.rows[first:]).all(axis=0) if len(grid.rows) > first else np.zeros(0, bool)
            if without.any():
                silent[name] = [manifest.sensors[place] for place in np.flatnonzero(without)]
            rules = [Backtest(Rule.of(name, spec)) for spec in manifest.models]
            for block in blocks(scorer, grid.rows, first, len(grid.rows)):
                kept = np.flatnonzero(grid.reading[block.start : block.stop])
                readings += len(kept)
                lines = _lines(block.scores, kept, manifest.sensors, counts)
                lines |= _raised(name, rules, grid.ts[block.start : block.stop], block.scores, kept)
                lines["device"] = [name] * len(lines["model"])
                lines["ts"] = np.repeat(grid.ts[block.start + kept], len(block.scores))
                writer.write_table(pa.table(lines, schema=SCHEMA))
        if not readings:
            raise LakeError(f"{lake.url}: no reading of {', '.join(names[:5])} lies at or after --since or the split")
    return _summary(bundle, len(names), readings, counts, out) | {"absent": silent}


def score_table(bundle: Bundle, table: Table, out: Path) -> dict[str, Any]:
    """Write the scores of a plain table; the bundle must be one of a plain table."""
    manifest = bundle.manifest
    if manifest.timed or manifest.window != 1:
        raise ScoreError(
            f"{manifest.name}/{manifest.version} scores windows of {manifest.window} rows in time: "
            "use --lake, or fieldwatch-agent replay for a log"
        )
    scorer = Scorer(bundle)
    counts: dict[str, dict[str, int]] = {model.name: {} for model in manifest.models}
    with _writing(out, TABLE_SCHEMA, bundle) as writer:
        for block in blocks(scorer, table.values, 0, len(table.values)):
            kept = np.arange(block.stop - block.start)
            lines = _lines(block.scores, kept, manifest.sensors, counts)
            lines["device"] = [table.name] * len(lines["model"])
            lines["level"], lines["alert"] = lines["threshold"], [None] * len(lines["model"])
            lines["ts"] = [None] * len(lines["model"])
            lines["line"] = np.repeat(table.line[block.start : block.stop], len(block.scores))
            writer.write_table(pa.table(lines, schema=TABLE_SCHEMA))
    return _summary(bundle, 1, len(table.values), counts, out)


@contextmanager
def _writing(out: Path, schema: Any, bundle: Bundle) -> Iterator[Any]:
    """Write beside ``out`` and take its place at the end: there is never half a file, and a failure leaves the old."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    ref = bundle.ref
    facts = {"fieldwatch.bundle": f"{ref.name}/{ref.version}", "fieldwatch.bundle.sha256": ref.sha256}
    try:
        with pq.ParquetWriter(part, schema.with_metadata(facts), compression="zstd") as writer:
            yield writer
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def _lines(
    scores: list[Scores], kept: NDArray[np.int64], sensors: list[str], counts: dict[str, dict[str, int]]
) -> dict[str, Any]:
    """Return the columns of a block, row by row, within a row model by model; count verdicts."""
    columns: dict[str, list[Any]] = {key: [] for key in ("model", "score", "threshold", "verdict", "sensors", "shares")}
    for row in kept.tolist():
        for one in scores:
            value = float(one.score[row])
            verdict = VERDICTS[int(one.verdict[row])].value
            named, shares = responsible(one.contributions[row], sensors)
            columns["model"].append(one.model)
            columns["score"].append(None if np.isnan(value) else value)
            columns["threshold"].append(one.threshold)
            columns["verdict"].append(verdict)
            columns["sensors"].append(named)
            columns["shares"].append(shares)
            counts[one.model][verdict] = counts[one.model].get(verdict, 0) + 1
    return dict(columns)


def _raised(
    device: str, rules: list[Backtest], ts: NDArray[np.int64], scores: list[Scores], kept: NDArray[np.int64]
) -> dict[str, Any]:
    """Return level and alert of the rows ``kept``, row by row, within a row model by model."""
    levels, ids = [], []
    for rule, one in zip(rules, scores, strict=True):
        judged = one.verdict[kept] != CODES[Verdict.UNKNOWN]
        level, opened = rule.feed(ts[kept], one.score[kept], judged, explained(one, kept))
        known = {at: alert_id(device, one.model, at) for at in np.unique(opened).tolist() if at >= 0}
        levels.append(level)
        ids.append([known.get(at) for at in opened.tolist()])
    return {
        "level": np.stack(levels, axis=1).ravel(),
        "alert": [each for row in zip(*ids, strict=True) for each in row],
    }


def explained(scores: Scores, kept: NDArray[np.int64]) -> Explain:
    """Return what explains the rows ``kept`` of a block, by their place among these."""
    return lambda rows: scores.explain(kept[rows])


def _summary(
    bundle: Bundle, devices: int, readings: int, counts: dict[str, dict[str, int]], out: Path
) -> dict[str, Any]:
    ref = bundle.ref
    return {
        "bundle": f"{ref.name}/{ref.version}",
        "sha256": ref.sha256,
        "devices": devices,
        "readings": readings,
        "verdicts": {model: dict(sorted(found.items())) for model, found in counts.items()},
        "out": str(out),
    }


def said(summary: dict[str, Any]) -> str:
    """Tell a summary to a person."""
    lines = [f"{summary['readings']:,} readings of {summary['devices']} devices scored with {summary['bundle']}"]
    for model, verdicts in summary["verdicts"].items():
        lines.append(f"  {model}: " + ", ".join(f"{count:,} {verdict}" for verdict, count in verdicts.items()))
    by_sensor: dict[str, list[str]] = {}
    for device, sensors in summary.get("absent", {}).items():
        for sensor in sensors:
            by_sensor.setdefault(sensor, []).append(device)
    for sensor, devices in by_sensor.items():
        where = "any device" if len(devices) == summary["devices"] else _some(devices, 3)
        lines.append(f"  {sensor}: no value on {where}; it is missing from every score there")
    lines.append(f"written to {summary['out']}")
    return "\n".join(lines) + "\n"
