"""How good the scores are, against labels, and how good a random score would have been.

For each device and model, on the readings from the split on:

* **average precision** of the score for labelled rows (detector: fault or anomaly; classifier: fault, anomalies left
  out), its mean over the devices that have any, and pooled over all rows;
* **event recall**: labelled intervals during which an alert was open, alerts being :func:`.alerts.episodes`;
* **false alarms**: alerts per day of normal time that touch no labelled interval;
* **delay** from the start of an interval to its alert, median and 90 %;
* **hit rate** at 100 % and 150 %: where a label names its sensors, the share of them among the first n, or 1.5 n,
  ranked by their mean contribution over the interval.

Nothing is point-adjusted. Beside them stand the figures of a random score: uniform for average precision, sensors in
random order for the hit rate, and for event recall the same alerts, turned around in time by random amounts, so that
their number and length are those of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from fieldwatch_contract.alerts import AlertRule
from fieldwatch_contract.bundle import Bundle
from fieldwatch_contract.clock import DAY, iso
from fieldwatch_contract.scoring import Scorer
from fieldwatch_contract.verdicts import CODES, Kind, Verdict
from numpy.typing import NDArray

from fieldwatch_trainer import metrics
from fieldwatch_trainer.events import Event, delay, finder
from fieldwatch_trainer.lake import GridRows, Label, Lake, LakeError, label_codes
from fieldwatch_trainer.models import ANOMALY, FAULT, SEED
from fieldwatch_trainer.score import blocks, devices_for, first_row
from fieldwatch_trainer.split import Split
from fieldwatch_trainer.thresholds import HeldOut, alarms, false_alarms

UNKNOWN = CODES[Verdict.UNKNOWN]
TURNS = 20
"""Random turns of the alerts for the baseline of event recall."""
POINTS = 600
"""Points of a timeline."""
TIMELINES = 6


@dataclass(frozen=True)
class DeviceScores:
    """What one model said of one device, with what was true."""

    held: HeldOut
    events: list[Event] = field(default_factory=list)


@dataclass(frozen=True)
class Judge:
    """What turns one model's scores into alerts."""

    name: str
    kind: Kind
    threshold: float
    alert: AlertRule


def evaluate_lake(
    bundle: Bundle,
    lake: Lake,
    split: Split,
    scores: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Return the evaluation of a bundle on the lake's readings from the split on, as :mod:`.report` tells it.

    ``scores``: a ``scores.parquet`` of the same bundle, to be used instead of scoring again. Raises
    :class:`.lake.LakeError` where there is nothing to evaluate: no labels, no readings after the split.
    """
    names = devices_for(bundle, lake, split, "--split")
    if not any(label.label != "normal" for name in names for label in lake.labels(name)):
        raise LakeError(
            f"{lake.url}: no labels for {', '.join(names[:5])}: labels.parquet must hold "
            "device, start, end, label (fault, anomaly or normal), sensors"
        )
    scorer = Scorer(bundle) if scores is None else None
    manifest = bundle.manifest
    found: dict[str, list[DeviceScores]] = {model.name: [] for model in manifest.models}
    for number, name in enumerate(names):
        progress(f"{name} ({number + 1} of {len(names)})")
        grid = lake.grid(name, manifest.sensors, manifest.window)
        first = first_row(grid, name, split)
        if not grid.reading[first:].any():
            continue
        if scorer is not None:
            measured = measure(scorer, name, grid, first, lake.labels(name), manifest.sensors)
        else:
            assert scores is not None
            ts = grid.ts[first:][grid.reading[first:]]
            measured = _from_file(scores, bundle, name, ts, lake.labels(name))
        for model, one in measured.items():
            found[model].append(one)
    if not any(found.values()):
        raise LakeError(f"{lake.url}: no reading of {', '.join(names[:5])} lies at or after --since or the split")
    judges = [Judge(model.name, model.kind, model.threshold, model.alert) for model in manifest.models]
    result = evaluation(judges, found, manifest.period, manifest.window, "readings from the split on")
    ref = bundle.ref
    return {"bundle": f"{ref.name}/{ref.version}", "sha256": ref.sha256, "lake": lake.url} | result


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
    for block in blocks(scorer, grid.rows, first, last):
        here = grid.reading[block.start : block.stop]
        position = np.searchsorted(rows, block.start)
        for one in block.scores:
            parts.setdefault(one.model, []).append((one.score[here], one.verdict[here]))
            total = sums.setdefault(one.model, np.zeros((len(spans), len(sensors))))
            given = one.contributions[here]
            for number, (start, stop, _) in enumerate(spans):
                piece = given[max(start - position, 0) : max(stop + 1 - position, 0)]
                total[number] += piece.sum(axis=0, dtype=np.float64)
    result = {}
    for model, pieces in parts.items():
        score = np.concatenate([piece[0] for piece in pieces])
        verdict = np.concatenate([piece[1] for piece in pieces])
        held = HeldOut(device, ts, score, verdict != UNKNOWN, label_codes(ts, list(labels)))
        result[model] = DeviceScores(held, _events(spans, sums[model], sensors))
    return result


def evaluation(
    judges: Iterable[Judge],
    found: Mapping[str, Sequence[DeviceScores]],
    period: int,
    guard: int,
    scope: str,
) -> dict[str, Any]:
    """Return the figures of every model, with timelines; ``period`` in µs; ``guard`` rows after a label are its own."""
    models: dict[str, Any] = {}
    timelines: list[dict[str, Any]] = []
    rows = days = 0.0
    devices: set[str] = set()
    for judge in judges:
        scored = found.get(judge.name, [])
        if not scored:
            continue
        models[judge.name] = _model(judge, scored, period, guard)
        devices.update(one.held.device for one in scored)
        rows = max(rows, sum(len(one.held.ts) for one in scored))
        days = max(days, sum(len(one.held.ts) for one in scored) * period / DAY)
        told = sorted(scored, key=lambda one: (-len(one.events), one.held.device))[:TIMELINES]
        timelines.extend(_timeline(judge, one) for one in told)
    return {
        "scope": scope,
        "devices": len(devices),
        "rows": int(rows),
        "device_days": round(days, 3),
        "models": models,
        "timelines": timelines,
    }


# ---- figures -------------------------------------------------------------------------------------------------------


def _model(judge: Judge, scored: Sequence[DeviceScores], period: int, guard: int) -> dict[str, Any]:
    each = [_device(judge, one, period, guard) for one in scored]
    pooled = [_positive(judge, one.held) for one in scored]
    positive = np.concatenate([part[0] for part in pooled])
    score = np.concatenate([part[1] for part in pooled])
    events = sum(one["events"] for one in each)
    caught = sum(one["caught"] for one in each)
    normal_days = sum(one["normal_days"] for one in each)
    false = sum(one["false_alarms"] for one in each)
    alert_days = sum(one["alert_share"] * one["normal_days"] for one in each)
    delays = [delay for one in each for delay in one.pop("delays")]
    hits = [hit for one in each for hit in one.pop("hits")]
    turned = [one.pop("turned") for one in each]
    random: dict[str, Any] = {
        "average_precision": _mean(metrics.random_average_precision(part[0]) for part in pooled),
        "average_precision_pooled": metrics.random_average_precision(positive),
    }
    result: dict[str, Any] = {
        "kind": judge.kind,
        "threshold": judge.threshold,
        "average_precision": _mean(one["average_precision"] for one in each),
        "average_precision_pooled": metrics.average_precision(positive, score),
        "events": events,
        "event_recall": caught / events if events else None,
        "false_alarms": false,
        "false_alarms_per_day": false / normal_days if normal_days else None,
        "alert_share": alert_days / normal_days if normal_days else None,
        "delay_median_s": float(np.median(delays)) if delays else None,
        "delay_p90_s": float(np.quantile(delays, 0.9)) if delays else None,
        "positive_share": float(positive.mean()) if len(positive) else None,
        "unknown_share": float(np.mean(np.concatenate([~one.held.judged for one in scored]))),
    }
    if events:
        random["event_recall"] = float(sum(turned)) / events
    for place, name in enumerate(("hit_100", "hit_150")):
        if hits:
            result[name] = float(np.mean([hit[place] for hit in hits]))
            random[name] = float(np.mean([hit[place + 2] for hit in hits]))
    if judge.kind == "classifier" and len(positive):
        finite = ~np.isnan(score)
        result["brier"] = metrics.brier(positive[finite], score[finite])
        result["log_loss"] = metrics.log_loss(positive[finite], score[finite])
        result["reliability"] = metrics.reliability(positive[finite], score[finite])
        base = np.full(len(positive), positive.mean())
        random["brier"] = metrics.brier(positive, base)
        random["log_loss"] = metrics.log_loss(positive, base)
    if positive.any():
        curve = metrics.precision_recall(positive, score)
        result["curve"] = {"recall": [point[0] for point in curve], "precision": [point[1] for point in curve]}
    result["random"] = random
    result["devices"] = each
    return result


def _device(judge: Judge, one: DeviceScores, period: int, guard: int) -> dict[str, Any]:
    held = one.held
    positive, score = _positive(judge, held)
    opened = alarms(judge.alert, judge.threshold, held)
    events = [event for event in one.events if judge.kind == "detector" or event.label == "fault"]
    met = [(event, place) for event in events if (place := finder(event, opened)) is not None]
    delays = [delay(event, opened[place], held.ts) for event, place in met]
    normal_days = int(held.normal.sum()) * period / DAY
    false = false_alarms(judge.alert, judge.threshold, held, period, guard)
    open_rows = sum(int(held.normal[first : last + 1].sum()) for first, last in opened)
    return {
        "device": held.device,
        "average_precision": metrics.average_precision(positive, score),
        "random_average_precision": metrics.random_average_precision(positive),
        "events": len(events),
        "caught": len(delays),
        "false_alarms": false,
        "false_alarms_per_day": false / normal_days if normal_days else None,
        "alert_share": open_rows / max(int(held.normal.sum()), 1),
        "normal_days": normal_days,
        "rows": len(held.ts),
        "delays": delays,
        "hits": [_hits(event) for event in events if event.responsible is not None],
        "turned": _turned(events, opened, len(held.ts)),
    }


def _positive(judge: Judge, held: HeldOut) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Return truth and score of the rows that count for this model."""
    if judge.kind == "detector":
        return held.label != 0, held.score
    counted = held.label != ANOMALY
    return held.label[counted] == FAULT, held.score[counted]


def _turned(events: Sequence[Event], opened: Sequence[tuple[int, int]], count: int) -> float:
    """Return how many events the same alerts would meet, turned around in time at random: the mean of many turns."""
    if not events or not opened:
        return 0.0
    rng = np.random.default_rng(SEED)
    covered = np.zeros(count, bool)
    for first, last in opened:
        covered[first : last + 1] = True
    reach = np.concatenate(([0], np.cumsum(np.concatenate((covered, covered)))))
    begin = np.array([event.first for event in events])
    end = np.array([event.last for event in events]) + 1
    met = [float((reach[end + turn] > reach[begin + turn]).sum()) for turn in rng.integers(0, count, TURNS)]
    return float(np.mean(met))


def _hits(event: Event) -> tuple[float, float, float, float]:
    """Return hit rate at 100 % and 150 %, and what a random order of the sensors would get."""
    assert event.strength is not None and event.responsible is not None
    count, sensors = int(event.responsible.sum()), len(event.responsible)
    return (
        metrics.hit_rate(event.strength, event.responsible, 1.0),
        metrics.hit_rate(event.strength, event.responsible, 1.5),
        count / sensors,
        min(int(1.5 * count), sensors) / sensors,
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


# ---- intervals -----------------------------------------------------------------------------------------------------


def _spans(ts: NDArray[np.int64], labels: Sequence[Label]) -> list[tuple[int, int, Label]]:
    """Return the labelled intervals that hold a reading, as first and last row."""
    spans = []
    for label in labels:
        start = int(np.searchsorted(ts, label.start))
        stop = int(np.searchsorted(ts, label.end, side="right")) - 1
        if label.label != "normal" and stop >= start:
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
    path: Path, bundle: Bundle, device: str, ts: NDArray[np.int64], labels: Sequence[Label]
) -> dict[str, DeviceScores]:
    """Read one device's scores of the readings at ``ts`` back from ``scores.parquet``, where all must be."""
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
        result[model.name] = DeviceScores(held, _events(spans, sums, sensors))
    return result


def _timeline(judge: Judge, one: DeviceScores) -> dict[str, Any]:
    """Return the score's maximum in at most :data:`POINTS` stretches of time, for a picture."""
    held = one.held
    size = -(-len(held.ts) // POINTS)
    starts = np.arange(0, len(held.ts), size)
    value = np.where(np.isnan(held.score), -np.inf, held.score)
    peak = np.maximum.reduceat(value, starts)
    peak[np.isinf(peak)] = 0.0
    return {
        "device": held.device,
        "model": judge.name,
        "threshold": judge.threshold,
        "ts": held.ts[starts].tolist(),
        "score": [round(float(point), 6) for point in peak],
        "labels": [[int(held.ts[e.first]), int(held.ts[e.last]), e.label] for e in one.events],
    }


def said(result: Mapping[str, Any]) -> str:
    """Tell an evaluation to a person, in a few lines."""
    lines = [f"{result.get('bundle', '')}: {result['rows']:,} rows, {result['devices']} devices"]

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    for name, model in result["models"].items():
        random = model["random"]
        lines.append(
            f"  {name}: average precision {number(model['average_precision'])} "
            f"(random {number(random['average_precision'])}), event recall {number(model['event_recall'])} "
            f"of {model['events']}, false alarms a device-day {number(model['false_alarms_per_day'])}, "
            f"normal time in alert {number(model['alert_share'])}"
        )
        if model["delay_median_s"] is not None:
            lines.append(f"    delay median {model['delay_median_s']:.0f} s, 90 % {model['delay_p90_s']:.0f} s")
        if "hit_100" in model:
            lines.append(
                f"    responsible sensors among the first n {model['hit_100']:.3f} (random {random['hit_100']:.3f}), "
                f"first 1.5 n {model['hit_150']:.3f} (random {random['hit_150']:.3f})"
            )
    return "\n".join(lines) + "\n"
