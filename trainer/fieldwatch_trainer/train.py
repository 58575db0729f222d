"""Training: from a lake or a table to ``RUN/``: ``bundle.zip``, ``run.json``, ``report.html``, ``model_card.md``.

1. Every plugin is fitted on all training rows: the detector always, the classifier where labels of kind ``fault`` are
   among them.
2. **Held-back scores.** Each is fitted again on a part and scores the rest, through the very
   :class:`.scoring.Scorer` of the device. The detector goes forward in time: fitted on the first half it scores
   the third quarter, fitted on three quarters it scores the last. The classifier leaves out a third of the devices,
   because a new device is what it will meet. Where a single device had faults it is cut in time, between two of them,
   or beside the only one, and then no fault can be held back.
3. **Thresholds** come from those scores and the false-alarm budget (:mod:`.thresholds`), and so do the figures
   in the report; from the threshold the ladder of the alerts' level (:mod:`.levels`). None of them has seen its own
   training rows. What could not be measured is said.
4. The bundle is put together, and the parity gate (:mod:`.gate`) runs it as a device does. If that fails there
   is no bundle.

Everything that draws has a fixed seed, devices come in name order, and linear algebra runs on one thread: the same
input gives the same bytes of ``bundle.zip`` on the same machine. ``run.json`` too, but for ``timings``.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from fieldwatch_contract import features
from fieldwatch_contract.bundle import Baseline, Bundle, Range, read_bundle
from fieldwatch_contract.clock import DAY, iso
from fieldwatch_contract.level import LevelRule
from fieldwatch_contract.scoring import Scorer
from fieldwatch_contract.still import runs
from numpy.typing import NDArray

from fieldwatch_trainer import bundle as bundles
from fieldwatch_trainer import check, digests, gate, gates, leaks, metrics, report
from fieldwatch_trainer.advice import advice
from fieldwatch_trainer.alerting import beside_faults, expected, levels_of, threshold_of, unknown
from fieldwatch_trainer.bundle import Frame
from fieldwatch_trainer.checks import told
from fieldwatch_trainer.checks.finding import Accepted
from fieldwatch_trainer.data import Fold, LakeData
from fieldwatch_trainer.evaluate import judges_of, lines_of, measure
from fieldwatch_trainer.judging import evaluation
from fieldwatch_trainer.lake import GridRows, Lake, LakeError
from fieldwatch_trainer.models import (
    ANOMALY,
    FAULT,
    MAINTENANCE,
    NORMAL,
    SEED,
    DeviceRows,
    Fitted,
    Plugin,
    TooLittleData,
    TrainingData,
)
from fieldwatch_trainer.models.detector import LOOKBACK, Detector
from fieldwatch_trainer.models.folds import folds
from fieldwatch_trainer.models.moments import moments
from fieldwatch_trainer.models.table import TableClassifier, TableDetector
from fieldwatch_trainer.outcomes import DeviceScores
from fieldwatch_trainer.score import blocks
from fieldwatch_trainer.split import Split, described
from fieldwatch_trainer.table import Table
from fieldwatch_trainer.thresholds import BUDGET

FORWARD = (0.5, 0.75, 1.0)
"""Shares of training time: fitted up to one, the model scores up to the next."""
GROUPS = 3
"""One of so many groups of devices is kept from the classifier, which then scores it."""
RANGE_MARGIN = 1.5
"""A classifier may speak up to this multiple of the largest detector score among its training rows."""
HELD_ROWS = 2_000_000
"""Held-back rows of a fold after which no further device is scored: enough for any threshold, and memory stays flat."""
GATE_DEVICES = 3
GATE_ROWS = 2000
TABLE_FOLDS = 10

Progress = Callable[[str], None]


class TrainError(Exception):
    """Training cannot be done with these data; the message says why and what would be needed."""


def train_lake(
    lake: Lake,
    device_type: str,
    out: Path,
    split: Split | None = None,
    budget: float = BUDGET,
    progress: Progress = lambda _: None,
    where: str = "--split",
    accepted: Accepted | None = None,
    *,
    adapt: bool = True,
) -> dict[str, Any]:
    """Train on a lake and write ``out``; return what ``run.json`` holds. Not ``adapt``: the level of alerts is fixed.

    Raises :class:`TrainError`, :class:`.lake.LakeError` and :class:`.split.SplitError` for what a
    user can mend, :class:`.check.CheckError` for data that would make the result meaningless and are not
    ``accepted``, :class:`.gate.GateError` where the bundle does not compute what was trained.
    """
    split = split or Split()
    clock = _Clock()
    with _one_thread():
        window = max(LOOKBACK, features.FeatureSpec().longest)
        data = LakeData.of(lake, device_type, window, split)
        names = list(data.fold.devices)
        split.check(names, where)
        progress("reading")
        read = lake.digests(device_type)
        facts = _describe(data)
        learnt = facts.pop("learnt")
        clock.lap("read")
        found = check.checked(lake, device_type, accepted or Accepted(), split, progress)
        clock.lap("check")

        notes: list[str] = []
        plugins: list[Plugin] = [Detector()]
        if facts["labels"].get("fault"):
            from fieldwatch_trainer.models.classifier import Classifier

            plugins.append(Classifier())
        elif facts["embargoed_faults"]:
            notes.append(
                f"No classifier: all {facts['embargoed_faults']} readings with a fault lie within {window} periods "
                "before testing time, whose windows contain them (embargo). Let training end later, or test on other "
                "devices."
            )
        fitted: list[Fitted] = []
        for plugin in plugins:
            progress(f"fitting the {plugin.name}")
            try:
                fitted.append(plugin.fit(data))
            except TooLittleData as error:
                if plugin.kind == "detector":
                    raise TrainError(f"{device_type}: {error}") from error
                notes.append(f"No {plugin.name}: {error}.")
            clock.lap(f"fit {plugin.name}")
        window = bundles.window_of(fitted)
        baseline, never = _baseline(data)
        if never:
            notes.append(f"Without a single value in training: {', '.join(never)}.")
        if facts["constant_sensors"]:
            notes.append(f"Constant in training, so any change counts: {', '.join(facts['constant_sensors'][:12])}.")
        until = described(split, names)
        frame = Frame(
            device_type, list(data.sensors), data.period, baseline, True, until, (until or facts["last"])[:10]
        )

        if kinds := found["told"]:
            counts = ", ".join(f"{kind} ({count})" for kind, count in kinds.items())
            notes.append(f"The data have findings, which fieldwatch-trainer check explains: {counts}.")
        if found["accepted_without_effect"]:
            notes.append(f"Accepted and not found: {', '.join(found['accepted_without_effect'])}.")
        columns = lake.passed_over(device_type)
        if mixed := [name for name in columns if name in data.sensors]:
            notes.append(f"Not numbers in every file, and missing where they are not: {', '.join(mixed)}.")
        if left := [name for name in columns if name not in data.sensors]:
            notes.append(f"No columns of numbers, so no sensors: {', '.join(left)}.")

        held: dict[str, list[DeviceScores]] = {}
        for one in fitted:
            again = one.again or next(plugin for plugin in plugins if plugin.name == one.name)
            progress(f"scoring held-back time with the {one.name}")
            held[one.name] = _hold_back(again, data, frame)
            clock.lap(f"hold back {one.name}")
        thresholds: dict[str, float] = {}
        levels: dict[str, LevelRule] = {}
        calibration: dict[str, dict[str, Any]] = {}
        for one in fitted:
            progress(f"threshold of the {one.name}")
            chosen = threshold_of(one, held[one.name], data, budget, window)
            level = levels_of(one, chosen, held[one.name], data, budget, adapt)
            thresholds[one.name], levels[one.name] = chosen.value, level
            calibration[one.name] = chosen.facts | expected(one, chosen, level, held[one.name], data, window)
            notes += unknown(one, chosen, budget)
            clock.lap(f"threshold {one.name}")

        progress("bundle and parity gate")
        ranges = _ranges(fitted, data, frame)
        content = bundles.assemble(frame, fitted, thresholds, ranges, bundles.golden_rows(data, window), levels)
        bundle = read_bundle(content)
        proof = gate.parity(bundle, fitted, _gate_blocks(data, window))
        clock.lap("bundle")

        progress("leakage and permutation checks")
        cuts = {plugin.name: list(_folds(plugin, data)) for plugin in plugins if plugin.name in held}
        checked = leaks.examine(data, held, cuts)
        checked += [leaks.permuted(plugin, data, frame, cuts[plugin.name]) for plugin in _small(plugins, held)]
        clock.lap("leakage")
        scope = "training time that the scoring model had not seen, and on which the thresholds were set"
        figures = evaluation(judges_of(bundle.manifest), held, scope)
        run = _run(bundle, content, frame, fitted, thresholds, ranges) | {
            "data": {"lake": lake.url} | facts | {"digests": read},
            "budget": {"episodes_per_device_day": budget},
            "calibration": calibration,
            "evaluation": figures,
            "learnt": learnt,
            "gates": [gate.to_json() for gate in [*checked, *gates.sound(figures["models"], budget)]],
            "gate": proof,
            "findings": found,
            "notes": notes,
        }
    return _write(out, content, run, clock)


def train_table(table: Table, label: str, out: Path, progress: Progress = lambda _: None) -> dict[str, Any]:
    """Train on a plain table and write ``out``; return what ``run.json`` holds.

    The figures are those of 10 folds: every row is judged by a model, scaler included, that was fitted without it.
    """
    clock = _Clock()
    with _one_thread():
        data = table.data()
        plugins: list[Plugin] = [TableDetector(), TableClassifier()]
        try:
            progress("fitting")
            fitted = [plugin.fit(data) for plugin in plugins]
            clock.lap("fit")
            progress(f"{TABLE_FOLDS}-fold cross-validation")
            figures, checked = _cross_validate(table, label)
            clock.lap("cross-validate")
        except TooLittleData as error:
            raise TrainError(f"{table.path}: {error}") from error
        baseline, never = _baseline(data)
        frame = Frame(table.name, table.sensors, data.period, baseline, False, "", "table")
        thresholds = {one.name: float(one.threshold or 0.0) for one in fitted}
        limit = float(np.nextafter(np.float32(thresholds["detector"]), np.float32(0)))
        ranges = {"classifier": Range(model="detector", limit=limit)}
        rows = bundles.golden_rows(data, 1)
        content = bundles.assemble(frame, fitted, thresholds, ranges, rows, {})
        bundle = read_bundle(content)
        proof = gate.parity(bundle, fitted, [data.values])
        clock.lap("bundle")
        unlabelled = len(table.values) - len(data.values)
        run = _run(bundle, content, frame, fitted, thresholds, ranges) | {
            "data": {
                "file": table.path,
                "rows": len(table.values),
                "labels": {"fault": int((data.label == FAULT).sum()), "normal": int((data.label == NORMAL).sum())},
                "missing_share": float(np.isnan(data.values).mean()),
                "digests": [digests.of_file(table.path)],
            },
            "table": figures,
            "gates": [gate.to_json() for gate in checked],
            "gate": proof,
            "notes": ([f"{unlabelled} rows without a label were left out."] if unlabelled else [])
            + ([f"Without a single value: {', '.join(never)}."] if never else []),
        }
    return _write(out, content, run, clock)


# ---- held-back scores and thresholds -------------------------------------------------------------------------------


def _hold_back(plugin: Plugin, data: LakeData, frame: Frame) -> list[DeviceScores]:
    """Return scores of rows by models that have not seen them; a fold with too little to learn from is left out."""
    found: list[DeviceScores] = []
    for learn, test in _folds(plugin, data):
        try:
            fitted = plugin.fit(data.part(learn))
        except TooLittleData:
            continue
        scorer = Scorer(bundles.draft(frame, [fitted]))
        rows = 0
        for name in np.random.default_rng(SEED).permutation(sorted(test.devices)).tolist():
            if rows >= HELD_ROWS:
                break
            device = next(iter(data.part(replace(test, devices=(name,)))))
            used = np.flatnonzero(device.use)
            if not len(used):
                continue
            rows += len(used)
            grid = GridRows(device.ts, device.rows, held_rows(device), 0)
            labels = data.lake.labels(device.device)
            scored = measure(scorer, device.device, grid, int(used[0]), labels, data.sensors, int(used[-1]) + 1)
            found.append(scored[plugin.name])
    return sorted(found, key=lambda one: (one.held.device, int(one.held.ts[0])))


def held_rows(device: DeviceRows) -> NDArray[np.bool_]:
    """Return which rows of a held-back part are scored: those in use, and maintenance between them, bool ``[T]``.

    Maintenance counts for nothing, but it explains the alert that follows when the device is itself again.
    """
    used = np.flatnonzero(device.use)
    held = device.use.copy()
    part = slice(used[0], used[-1] + 1)
    held[part] |= (device.label[part] == MAINTENANCE) & ~np.isnan(device.rows[part]).all(axis=1)
    return held


def _folds(plugin: Plugin, data: LakeData) -> Iterator[tuple[Fold, Fold]]:
    names = data.fold.devices
    if plugin.kind == "classifier":
        faulty = [device for device in data if (device.use & (device.label == FAULT)).any()]
        if len(faulty) == 1:
            yield beside_faults(faulty[0], names, data.window)
            return
        if faulty:
            ordered = [device.device for device in faulty]
            ordered += [name for name in names if name not in ordered]
            test = tuple(sorted(ordered[::GROUPS]))
            yield Fold(tuple(name for name in names if name not in test)), Fold(test)
            return
    for stop, after in pairwise(FORWARD):
        yield Fold(names, 0.0, stop), Fold(names, stop, after, gap=data.window)


def _small(plugins: Sequence[Plugin], held: dict[str, list[DeviceScores]]) -> list[Plugin]:
    """Return a small copy of every classifier that was held back, for the check on turned labels."""
    if not any(plugin.kind == "classifier" and held.get(plugin.name) for plugin in plugins):
        return []
    from fieldwatch_trainer.models.classifier import Classifier, Settings

    return [Classifier(settings=Settings(trees=20, rows=2000, normal_least=2000))]


def _ranges(fitted: Sequence[Fitted], data: LakeData, frame: Frame) -> dict[str, Range]:
    """Return where a classifier may speak: up to the largest detector score among the rows that it learnt from."""
    classifiers = [one.name for one in fitted if one.kind == "classifier"]
    if not classifiers:
        return {}
    scorer = Scorer(bundles.draft(frame, [one for one in fitted if one.name == "detector"]))
    largest = 0.0
    for device in data:
        learnt = device.use & ((device.label == NORMAL) | (device.label == FAULT))
        for block in blocks(scorer, device.rows, 0, len(device.rows)):
            score = block.scores[0].score[learnt[block.start : block.stop]]
            largest = max(largest, float(np.nan_to_num(score).max(initial=0.0)))
    limit = float(np.float32(max(largest * RANGE_MARGIN, 1.0)))
    return {name: Range(model="detector", limit=limit) for name in classifiers}


def _gate_blocks(data: LakeData, window: int) -> Iterator[NDArray[np.float64]]:
    """Yield the newest rows of a few devices, after the nothing that a device has before its first reading."""
    for device in islice((device for device in data if device.use.any()), GATE_DEVICES):
        past = np.full((window - 1, device.rows.shape[1]), np.nan)
        yield np.concatenate((past, device.rows))[-(window - 1 + GATE_ROWS) :]


def _cross_validate(table: Table, label: str) -> tuple[dict[str, Any], list[gates.Gate]]:
    data = table.data()
    positive = data.label == FAULT
    probability = np.zeros(len(positive))
    lines: list[dict[str, Any]] = []
    for number, test in enumerate(folds(data.label, TABLE_FOLDS, SEED)):
        train = np.setdiff1d(np.arange(len(positive)), test)
        fitted = TableClassifier().fit(data.part(train))
        p = fitted.reference(data.values[test])
        probability[test] = p
        lines.append({"fold": number + 1, "rows": len(test)} | _judged(positive[test], p))
    whole = _judged(positive, probability)
    checked = _table_gates(table, whole, float(probability.max()))
    base = np.full(len(positive), positive.mean())
    return {
        "label": label,
        "rows": len(positive),
        "folds": lines,
        "mean": whole,
        "sd": {key: float(np.std([line[key] for line in lines], ddof=1)) for key in whole},
        "random": _judged(positive, base),
    }, checked


def _judged(positive: NDArray[np.bool_], probability: NDArray[Any]) -> dict[str, float]:
    raised = probability >= 0.5
    right = int((raised & positive).sum())
    return {
        "log_loss": metrics.log_loss(positive, probability),
        "accuracy": float((raised == positive).mean()),
        "recall": right / max(int(positive.sum()), 1),
        "precision": right / max(int(raised.sum()), 1),
        "brier": metrics.brier(positive, probability),
        "ece": metrics.calibration_error(metrics.reliability(positive, probability)),
        "average_precision": metrics.average_precision(positive, probability) or 0.0,
    }


def _table_gates(table: Table, whole: dict[str, float], highest: float) -> list[gates.Gate]:
    """Return whether the classifier of a table is better than chance, hears a fault, and finds none in other labels."""
    data = table.data()
    share = {"average_precision": float((data.label == FAULT).mean())}
    figures = {
        "average_precision": whole["average_precision"], "random": share, "everything": share,
        "events": int((data.label == FAULT).sum()), "event_recall": whole["recall"], "alerts": 0,
        "threshold": 0.5, "highest_score": highest, "unknown_share": 0.0,
    }  # fmt: skip
    return [*gates.sound({"classifier": figures}, None), leaks.shuffled(data)]


# ---- telling -------------------------------------------------------------------------------------------------------


def _describe(data: LakeData) -> dict[str, Any]:
    """Return what the report says of the data, from one pass."""
    labels: dict[str, int] = {}
    learnt: dict[str, str] = {}
    periods = there = readings = fault = anomaly = embargoed = 0
    first, last = 2**62, -(2**62)
    for device in data:
        used = device.use
        if len(used):  # the grid cuts long gaps short, the times do not
            periods += int(device.ts[-1] // data.period - device.ts[0] // data.period) + 1
        filled = (~np.isnan(device.rows)).any(axis=1)
        there += int(filled.sum())
        embargoed += int((filled & ~used & (device.label == FAULT)).sum())
        readings += int(used.sum())
        fault += int((used & (device.label == FAULT)).sum())
        anomaly += int((used & (device.label == ANOMALY)).sum())
        if used.any():
            seen = device.ts[used]
            learnt[device.device] = iso(int(seen[-1]))
            first, last = min(first, int(seen[0])), max(last, int(seen[-1]))
            for label in data.lake.labels(device.device):
                if label.start <= seen[-1] and label.end >= seen[0]:
                    labels[label.label] = labels.get(label.label, 0) + 1
    if not readings:
        raise LakeError(
            f"{data.lake.url}: no reading of type {data.device_type!r} lies before the split; "
            "training needs readings before train_until"
        )
    found = moments(data)
    if (found.high <= found.low).all():
        raise LakeError(
            f"{data.lake.url}: every sensor is constant or empty in the normal readings of type {data.device_type!r}: "
            "there is nothing to learn; were the right columns exported?"
        )
    return {
        "devices": len(data.fold.devices),
        "readings": readings,
        "device_days": round(readings * data.period / DAY, 3),
        "first": iso(first),
        "last": iso(last),
        "missing_share": 1 - there / periods,
        "labels": dict(sorted(labels.items())),
        "fault_share": fault / readings,
        "anomaly_share": anomaly / readings,
        "embargoed_faults": embargoed,
        "learnt": learnt,
        "constant_sensors": [name for name, a, b in zip(data.sensors, found.low, found.high, strict=True) if a == b],
    }


def _baseline(data: TrainingData) -> tuple[Baseline, list[str]]:
    """Return mean, scale, least and largest value of every sensor, and the sensors that never had one."""
    found = moments(data)
    seen = found.count > 0

    def told(values: NDArray[np.float64]) -> list[float]:
        return [float(value) for value in np.where(seen, values, 0.0)]

    still = _still(data, found.sd) if isinstance(data, LakeData) else None
    baseline = Baseline(
        mean=told(found.mean), scale=told(found.sd), low=told(found.low), high=told(found.high), still=still
    )
    return baseline, [name for name, there in zip(data.sensors, seen, strict=True) if not there]


def _still(data: LakeData, scale: NDArray[np.float64]) -> list[int]:
    """Return for how many normal readings every sensor has stood still at most (see contract.still)."""
    longest = np.zeros(len(scale), np.int64)
    for device in data:
        learnt = device.use & (device.label == NORMAL)
        if not learnt.any():
            continue
        for sensor in range(len(scale)):  # one at a time, as counting takes several times the memory of the values
            counted, _, _ = runs(device.rows[learnt, sensor, None], scale[sensor, None], np.array([np.nan]))
            longest[sensor] = max(longest[sensor], counted.max())
    return longest.tolist()


def _run(
    bundle: Bundle,
    content: bytes,
    frame: Frame,
    fitted: Sequence[Fitted],
    thresholds: dict[str, float],
    ranges: dict[str, Range],
) -> dict[str, Any]:
    manifest = bundle.manifest
    return {
        "format": 1,
        "name": manifest.name,
        "version": manifest.version,
        "sha256": bundle.sha256,
        "bytes": len(content),
        "device_type": manifest.device_type,
        "period_s": manifest.period_s,
        "window": manifest.window,
        "min_rows": manifest.min_rows,
        "timed": manifest.timed,
        "sensors": manifest.sensors,
        "trained_until": manifest.trained_until,
        "baseline": frame.baseline.model_dump(),
        "models": {
            one.name: {
                "kind": one.kind,
                "input": one.input,
                "lookback": one.lookback,
                "bytes": len(one.onnx),
                "threshold": thresholds[one.name],
                "alert": one.alert.model_dump(),
                "range": ranges[one.name].model_dump() if one.name in ranges else None,
                "facts": one.facts,
            }
            for one in fitted
        },
        "versions": _versions(),
        "code": digests.of_code(),
        "seed": SEED,
    }


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), "feature_kernel": str(features.KERNEL)}
    for name in ("fieldwatch", "numpy", "onnx", "onnxruntime", "pyarrow", "lightgbm", "xgboost-cpu"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _write(out: Path, content: bytes, run: dict[str, Any], clock: _Clock) -> dict[str, Any]:
    run["timings"] = clock.laps
    run["advice"] = advice(run)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "bundle.zip").write_bytes(content)
        (out / "run.json").write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8", newline="\n")
        report.write(out, run)
    except OSError as error:
        raise TrainError(f"{error.filename or out}: {error.strerror or error}") from error
    return run


def said(run: dict[str, Any], out: Path) -> str:
    """Tell a run to a person, in a few lines."""
    lines = [f"{run['name']}/{run['version']}  {run['bytes'] / 1024:.0f} kB  window {run['window']} rows"]
    for name, model in run["models"].items():
        lines.append(f"  {name}: threshold {model['threshold']:.4g}")
    if figures := run.get("evaluation", {}).get("models"):
        lines.append("  on held-back time, on which the thresholds were set:")
        for name, model in figures.items():
            lines.extend(f"  {line}" for line in lines_of(name, model))
            lines.extend(f"      {line}" for line in answered(run["calibration"].get(name) or {}))
    if "table" in run:
        mean = run["table"]["mean"]
        count = len(run["table"]["folds"])
        lines.append(
            f"  {count} folds: log loss {mean['log_loss']:.4f}, accuracy {mean['accuracy']:.4f}, "
            f"recall {mean['recall']:.4f} at precision {mean['precision']:.4f}, calibration error {mean['ece']:.4f}"
        )
    lines.extend(f"  accepted: {told.place(one)}{one['what']}" for one in run.get("findings", {}).get("accepted", []))
    lines.extend(f"  {note}" for note in run["notes"])
    lines.extend(f"  next: {sentence}" for sentence in run["advice"])
    if any(one["status"] == "failed" for one in run["gates"]):
        lines.append("  publish refuses this bundle, unless what failed is accepted by name (--accept)")
    lines.append(f"written to {out}: bundle.zip, run.json, report.html, model_card.md")
    return "\n".join(lines) + "\n"


def answered(facts: Mapping[str, Any]) -> list[str]:
    """Tell what a model's alerts would have been where people answer them."""
    found = (facts.get("backtest") or {}).get("answered")
    if not found or found["event_recall"] is None or found["false_alarms_per_day"] is None:
        return []
    told = f"event recall {found['event_recall']:.3f}, false alarms a device-day {found['false_alarms_per_day']:.3f}"
    return [f"where people answer each alert after 8 h: {told}, of {found['alerts']} alerts"]


class _Clock:
    """Seconds of each step."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(now - self._last, 3)
        self._last = now


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep linear algebra on one thread: how a product is cut among threads shows in its last bits."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(limits=1, user_api="blas"):
        yield
