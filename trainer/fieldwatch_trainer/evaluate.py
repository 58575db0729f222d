"""Evaluation of a bundle on a lake, against labels: scores of the readings from the split on, then :mod:`.judging`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from fieldwatch_contract.bundle import Bundle, Manifest
from fieldwatch_contract.clock import iso
from fieldwatch_contract.scoring import Scorer
from fieldwatch_contract.told import duration
from fieldwatch_contract.verdicts import CODES, Verdict
from numpy.typing import NDArray

from fieldwatch_trainer import gates
from fieldwatch_trainer.baselines import moving_variance
from fieldwatch_trainer.events import Event
from fieldwatch_trainer.judging import evaluation
from fieldwatch_trainer.labels import EVENTS
from fieldwatch_trainer.lake import GridRows, Label, Lake, LakeError, label_codes
from fieldwatch_trainer.outcomes import DeviceScores, Judge, Leaders
from fieldwatch_trainer.score import absent, blocks, devices_for, first_row
from fieldwatch_trainer.split import Split
from fieldwatch_trainer.thresholds import BUDGET, HeldOut

UNKNOWN = CODES[Verdict.UNKNOWN]


@dataclass(frozen=True)
class Scored:
    """What a bundle said of a lake: by model one :class:`.outcomes.DeviceScores` a device, and what judges them.

    ``strange``: by sensor the share of normal values that lie outside the least and largest value of training.
    """

    bundle: Bundle
    judges: list[Judge]
    found: dict[str, list[DeviceScores]]
    strange: dict[str, float]


def evaluate_lake(
    bundle: Bundle,
    lake: Lake,
    split: Split,
    scores: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
    budget: float = BUDGET,
) -> dict[str, Any]:
    """Return the evaluation of a bundle on the lake's readings from the split on, as :mod:`.report` tells it.

    ``scores``: a ``scores.parquet`` of the same bundle, to be used instead of scoring again; ``budget``: the false
    alarms a device-day that it was trained for. Raises :class:`.lake.LakeError` where there is nothing to evaluate: no
    labels, no readings after the split.
    """
    (scored,) = score_same_rows([bundle], lake, split, scores, progress)
    result = evaluation(scored.judges, scored.found, "readings from the split on")
    ref, checked = bundle.ref, gates.sound(result["models"], budget)
    about = {"bundle": f"{ref.name}/{ref.version}", "sha256": ref.sha256, "lake": lake.url, "strange": scored.strange}
    about["absent"] = absent(bundle, lake)
    return about | result | {"gates": [gate.to_json() for gate in checked]}


def score_same_rows(
    bundles: Sequence[Bundle],
    lake: Lake,
    split: Split,
    scores: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Scored]:
    """Score the lake's readings from the split on with every bundle: the same rows of the same devices.

    ``scores``: of the first bundle, in place of scoring. Raises as :func:`evaluate_lake` does.
    """
    names = devices_for(bundles[0], lake, split, "--split")
    for other in bundles[1:]:
        devices_for(other, lake, split, "--split")
    if not any(label.label in EVENTS for name in names for label in lake.labels(name)):
        raise LakeError(
            f"{lake.url}: no labels for {', '.join(names[:5])}: labels.parquet must hold "
            "device, start, end, label (fault or anomaly, and normal), sensors. Without any, 'backtest' tells "
            "how often a bundle would have fired"
        )
    manifests = [bundle.manifest for bundle in bundles]
    sensors = list(dict.fromkeys(sensor for manifest in manifests for sensor in manifest.sensors))
    window = max(manifest.window for manifest in manifests)
    scorers = [None if scores is not None else Scorer(bundle) for bundle in bundles]
    found: list[dict[str, list[DeviceScores]]] = [{model.name: [] for model in m.models} for m in manifests]
    range_ = [_Range(manifest) for manifest in manifests]
    for number, name in enumerate(names):
        progress(f"{name} ({number + 1} of {len(names)})")
        whole = lake.grid(name, sensors, window)
        first, labels = first_row(whole, name, split), lake.labels(name)
        if not whole.reading[first:].any():
            continue
        for place, (manifest, scorer) in enumerate(zip(manifests, scorers, strict=True)):
            columns = [sensors.index(sensor) for sensor in manifest.sensors]
            grid = GridRows(whole.ts, whole.rows[:, columns], whole.reading, whole.duplicate)
            range_[place].add(grid, first, labels)
            if scorer is not None:
                measured = measure(scorer, name, grid, first, labels, manifest.sensors)
            else:
                assert scores is not None
                measured = _from_file(scores, bundles[place], name, grid, first, labels)
            for model, one in measured.items():
                found[place][model].append(one)
    if not any(found[0].values()):
        raise LakeError(f"{lake.url}: no reading of {', '.join(names[:5])} lies at or after --since or the split")
    return [
        Scored(bundle, judges_of(bundle.manifest), part, strange.shares())
        for bundle, part, strange in zip(bundles, found, range_, strict=True)
    ]


def judges_of(manifest: Manifest) -> list[Judge]:
    """Return what judges each model of a bundle."""
    return [
        Judge(model.name, model.kind, model.threshold, model.alert, manifest.period, manifest.window, model.level)
        for model in manifest.models
    ]


class _Range:
    """Counts the normal values that lie outside what a sensor did in training."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._outside = np.zeros(len(manifest.sensors), np.int64)
        self._count = np.zeros(len(manifest.sensors), np.int64)

    def add(self, grid: GridRows, first: int, labels: Sequence[Label]) -> None:
        baseline = self._manifest.baseline
        normal = first + np.flatnonzero(grid.reading[first:] & (label_codes(grid.ts[first:], list(labels)) == 0))
        values = grid.rows[normal]
        self._count += (~np.isnan(values)).sum(axis=0)
        self._outside += ((values < np.array(baseline.low)) | (values > np.array(baseline.high))).sum(axis=0)

    def shares(self) -> dict[str, float]:
        """Return the shares by sensor, the largest first; a sensor without a value is left out."""
        told = zip(self._manifest.sensors, self._outside.tolist(), self._count.tolist(), strict=True)
        found = {sensor: outside / count for sensor, outside, count in told if count}
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def measure(
    scorer: Scorer, device: str, grid: GridRows, first: int, labels: Sequence[Label], sensors: Sequence[str],
    last: int | None = None,
) -> dict[str, DeviceScores]:  # fmt: skip
    """Score the readings ``first`` to ``last`` of a device and keep what an evaluation needs, by model.

    Contributions are summed over each labelled interval as the blocks pass; they are never held all at once.
    """
    last = len(grid.rows) if last is None else last
    rows = first + np.flatnonzero(grid.reading[first:last])
    ts = grid.ts[rows]
    spans = _spans(ts, labels)
    parts: dict[str, list[tuple[NDArray[np.float32], NDArray[np.int8]]]] = {}
    sums: dict[str, NDArray[np.float64]] = {}
    leaders: dict[str, list[Leaders]] = {}
    for block in blocks(scorer, grid.rows, first, last):
        here = grid.reading[block.start : block.stop]
        position = np.searchsorted(rows, block.start)
        for one in block.scores:
            parts.setdefault(one.model, []).append((one.score[here], one.verdict[here]))
            total = sums.setdefault(one.model, np.zeros((len(spans), len(sensors))))
            given = one.contributions[here]
            leaders.setdefault(one.model, []).append(Leaders.of(sensors, given))
            for number, (start, stop, _) in enumerate(spans):
                piece = given[max(start - position, 0) : max(stop + 1 - position, 0)]
                total[number] += piece.sum(axis=0, dtype=np.float64)
    scale = np.array(scorer.manifest.baseline.scale)
    moved = moving_variance(grid.rows, scale, first, last)[grid.reading[first:last]]
    result = {}
    for model, pieces in parts.items():
        score = np.concatenate([piece[0] for piece in pieces])
        verdict = np.concatenate([piece[1] for piece in pieces])
        held = HeldOut(device, ts, score, verdict != UNKNOWN, label_codes(ts, list(labels)))
        result[model] = DeviceScores(held, _events(spans, sums[model], sensors), moved, Leaders.joined(leaders[model]))
    return result


# ---- intervals -----------------------------------------------------------------------------------------------------


def _spans(ts: NDArray[np.int64], labels: Sequence[Label]) -> list[tuple[int, int, Label]]:
    """Return the labelled intervals that hold a reading, as first and last row."""
    spans = []
    for label in labels:
        start = int(np.searchsorted(ts, label.start))
        stop = int(np.searchsorted(ts, label.end, side="right")) - 1
        if label.label in EVENTS and stop >= start:
            spans.append((start, stop, label))
    return spans


def _events(spans: Sequence[tuple[int, int, Label]], sums: NDArray[np.float64], sensors: Sequence[str]) -> list[Event]:
    events = []
    for (start, stop, label), total in zip(spans, sums, strict=True):
        named = np.isin(np.array(sensors), np.array(label.sensors)) if label.sensors else np.zeros(len(sensors), bool)
        responsible = named if named.any() and total.any() else None
        events.append(Event(label.label, start, stop, total / (stop - start + 1), responsible))
    return events


def _from_file(
    path: Path, bundle: Bundle, device: str, grid: GridRows, first: int, labels: Sequence[Label]
) -> dict[str, DeviceScores]:
    """Read one device's scores of the readings from ``first`` on back from ``scores.parquet``, where all must be."""
    there = grid.reading[first:]
    ts = grid.ts[first:][there]
    moved = moving_variance(grid.rows, np.array(bundle.manifest.baseline.scale), first, len(grid.rows))[there]
    try:
        dataset = ds.dataset(path, format="parquet")
        table = dataset.to_table(filter=pc.field("device") == device)
    except (OSError, ValueError) as error:
        raise LakeError(f"{path}: not a readable scores file: {str(error)[:200]}") from error
    told = (dataset.schema.metadata or {}).get(b"fieldwatch.bundle.sha256", b"").decode()
    if told != bundle.sha256:
        raise LakeError(f"{path}: holds scores of another bundle ({told[:12] or 'unknown'}, not {bundle.sha256[:12]})")
    sensors = bundle.manifest.sensors
    place = {name: index for index, name in enumerate(sensors)}
    result = {}
    for model in bundle.manifest.models:
        part = table.filter(pc.equal(table["model"], model.name))
        found = part["ts"].cast("int64").to_numpy()
        part = part.filter(pa.array(found >= ts[0]))
        if not np.array_equal(found[found >= ts[0]], ts):
            raise LakeError(
                f"{path}: the scores of {device} from {iso(int(ts[0]))} on are not those of the lake's {len(ts):,} "
                "readings: score this lake, from this time or earlier on, with the same bundle"
            )
        score = part["score"].fill_null(float("nan")).to_numpy().astype(np.float32)
        judged = ~pc.equal(part["verdict"], Verdict.UNKNOWN.value).to_numpy(zero_copy_only=False)
        spans = _spans(ts, labels)
        sums = np.zeros((len(spans), len(sensors)))
        for number, (start, stop, _) in enumerate(spans):
            piece = part.slice(start, stop - start + 1)
            lines = zip(piece["sensors"].to_pylist(), piece["shares"].to_pylist(), score[start : stop + 1], strict=True)
            for names, shares, value in lines:
                sums[number, [place[name] for name in names]] += np.array(shares) * float(value)
        held = HeldOut(device, ts, score, judged, label_codes(ts, list(labels)))
        result[model.name] = DeviceScores(held, _events(spans, sums, sensors), moved)
    return result


def said(result: Mapping[str, Any]) -> str:
    """Tell an evaluation to a person, in a few lines."""
    lines = [f"{result.get('bundle', '')}: {result['rows']:,} rows, {result['devices']} devices"]
    if missing := result.get("absent"):
        lines.append(f"  without a column in the lake, so missing from every score: {', '.join(missing)}")
    lines.extend(line for name, model in result["models"].items() for line in lines_of(name, model))
    for one in result["gates"]:
        if one["status"] != "passed":
            lines.append(f"  {'REFUSED' if one['status'] == 'failed' else 'unknown'} {one['id']}: {one['says']}")
    return "\n".join(lines) + "\n"


def lines_of(name: str, model: Mapping[str, Any]) -> list[str]:
    """Tell one model's figures: what its alerts found beside what they cost, then the score, then the baselines."""

    def number(value: float | None) -> str:
        return "unknown" if value is None else f"{value:.3f}"

    def sure(figure: str) -> str:
        within = model["intervals"].get(figure)
        return f" ({within[0]:.3f} to {within[1]:.3f})" if within else ""

    baselines = {key: model[key] for key in ("random", "variance", "everything") if model.get(key)}

    def beside(figure: str) -> str:
        told = {"random": "random", "variance": "moving variance", "everything": "flag everything"}
        known = [f"{told[key]} {number(one[figure])}" for key, one in baselines.items() if one.get(figure) is not None]
        return f" [{', '.join(known)}]" if known else ""

    recall = f"event recall {number(model['event_recall'])}{sure('event_recall')} of {model['events']}"
    if not model["events"]:
        recall = "event recall unknown: no labelled event there"
    worst = max((q["false_alarms_per_day"] or 0.0 for q in model["quarters"]), default=0.0)
    lines = [
        f"  {name}: {recall}, alert precision {number(model['alert_precision'])} of {model['alerts']}, "
        f"false alarms a device-day {number(model['false_alarms_per_day'])}{sure('false_alarms_per_day')}, "
        f"worst quarter {number(worst)}",
        f"    average precision {number(model['average_precision'])}{beside('average_precision')}",
        f"    VUS-PR {number(model['vus_pr'])}{beside('vus_pr')}",
    ]
    if model["events"]:
        lines.append(f"    event recall of those that know nothing{beside('event_recall')}")
    if model["delay_median_s"] is not None:
        lines.append(f"    delay median {duration(model['delay_median_s'])}, 90 % {duration(model['delay_p90_s'])}")
    if "hit_100" in model:
        random = model["random"]
        lines.append(
            f"    responsible sensors among the first n {model['hit_100']:.3f} [random {random['hit_100']:.3f}], "
            f"first 1.5 n {model['hit_150']:.3f} [random {random['hit_150']:.3f}]"
        )
    if "brier" in model:
        lines.append(f"    Brier {model['brier']:.4f}{beside('brier')}, calibration error {model['ece']:.4f}")
    return lines
