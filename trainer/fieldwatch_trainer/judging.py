"""What a model is worth: figures from its scores, its alerts and the labels, each beside scores that know nothing.

For each model, on rows that it has not learnt from:

* **average precision** and **VUS-PR** of the score for labelled rows (detector: fault or anomaly; classifier: fault,
  anomalies left out), mean over the devices that have any; average precision pooled over all rows too;
* **event recall**, **alert precision** and **false alerts** a device-day, in all and by quarter of each device's time:
  :mod:`.events` defines them; **delay** from the start of an event to its alert, median and 90 %;
* **hit rate** at 100 % and 150 %: where a label names its sensors, the share of them among the first n, or 1.5 n,
  ranked by their mean contribution over the event;
* of a classifier **calibration**: Brier score, log loss, calibration error over tenths of the probability.

Beside them stand :mod:`.baselines` and, where there are enough units, a bootstrap interval (:mod:`.bootstrap`). Nothing
is point-adjusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from fieldwatch_contract.clock import DAY
from numpy.typing import NDArray

from fieldwatch_trainer import metrics
from fieldwatch_trainer.baselines import as_quiet, chance, turned
from fieldwatch_trainer.bootstrap import intervals, tally
from fieldwatch_trainer.events import Event
from fieldwatch_trainer.outcomes import DeviceScores, Judge, Outcome, counts, listed, quarters, slices, trace
from fieldwatch_trainer.thresholds import HeldOut, alarms

POINTS = 400
"""Points of a timeline."""
TIMELINES = 60
"""Devices, or held-back parts of them, that are pictured; those with most to tell first."""


def evaluation(judges: Iterable[Judge], found: Mapping[str, Sequence[DeviceScores]], scope: str) -> dict[str, Any]:
    """Return the figures of every model, with timelines, as :mod:`.report` describes them."""
    models: dict[str, Any] = {}
    timelines: list[dict[str, Any]] = []
    rows = days = 0.0
    devices: set[str] = set()
    for judge in judges:
        scored = found.get(judge.name, [])
        if not scored:
            continue
        models[judge.name] = figures(judge, scored)
        devices.update(one.held.device for one in scored)
        rows = max(rows, sum(len(one.held.ts) for one in scored))
        days = max(days, sum(len(one.held.ts) for one in scored) * judge.period / DAY)
        timelines.extend(_timelines(judge, scored))
    return {
        "scope": scope,
        "devices": len(devices),
        "rows": int(rows),
        "device_days": round(days, 3),
        "models": models,
        "timelines": timelines,
    }


def _timelines(judge: Judge, scored: Sequence[DeviceScores]) -> list[dict[str, Any]]:
    pairs = [(one, Outcome.of(judge, one, *judge.raised(one.held))) for one in scored if len(one.held.ts)]
    wrong = [(len(o.events) - o.found + len(o.false), len(o.events)) for _, o in pairs]
    order = sorted(range(len(pairs)), key=lambda n: (-wrong[n][0], -wrong[n][1], pairs[n][0].held.device))
    return [
        {"device": one.held.device, "model": judge.name, "missed": len(outcome.events) - outcome.found,
         "false": len(outcome.false)} | trace(judge, one, outcome, slice(0, len(one.held.ts)), POINTS)
        for one, outcome in (pairs[number] for number in order[:TIMELINES])
    ]  # fmt: skip


def figures(judge: Judge, scored: Sequence[DeviceScores]) -> dict[str, Any]:
    """Return the figures of one model, those of the baselines and the intervals."""
    outcomes = [Outcome.of(judge, one, *judge.raised(one.held)) for one in scored]
    truth = [judge.truth(one.held) for one in scored]
    positive = np.concatenate([part for _, part in truth])
    score = np.concatenate([one.held.score[counted] for one, (counted, _) in zip(scored, truth, strict=True)])
    came = counts(judge, scored, outcomes)
    hits = [_hits(event) for outcome in outcomes for event in outcome.events if event.responsible is not None]
    each = [_device(judge, *part) for part in zip(scored, outcomes, truth, strict=True)]
    result: dict[str, Any] = {
        "kind": judge.kind,
        "threshold": judge.threshold,
        "average_precision": _mean(one["average_precision"] for one in each),
        "average_precision_pooled": metrics.average_precision(positive, score),
        "vus_pr": _mean(one["vus_pr"] for one in each),
        **came,
        "positive_share": float(positive.mean()) if len(positive) else None,
        "unknown_share": float(np.mean(np.concatenate([~one.held.judged for one in scored]))),
        "lowest_level": judge.lowest,
        "highest_score": _largest(one.held.score[one.held.judged] for one in scored),
    }
    if hits:
        result |= {"hit_100": float(np.mean([hit[0] for hit in hits])), "hit_150": float(np.mean([h[1] for h in hits]))}
    if judge.kind == "classifier":
        judged = np.concatenate([one.held.judged[counted] for one, (counted, _) in zip(scored, truth, strict=True)])
        result |= _calibration(positive[judged & ~np.isnan(score)], score[judged & ~np.isnan(score)])
    if positive.any():
        curve = metrics.precision_recall(positive, score)
        result["curve"] = {"recall": [point[0] for point in curve], "precision": [point[1] for point in curve]}
    result["intervals"] = {
        name: [interval.low, interval.high]
        for name, interval in intervals(tally(judge, scored, outcomes)).items()
        if interval.low is not None and (name != "brier" or judge.kind == "classifier")
    }
    result["random"] = _random(result, positive, truth, outcomes, scored, hits)
    result["everything"] = _everything(judge, result, positive, truth, scored)
    result["variance"] = _variance(judge, scored, truth, came["false_alarms"])
    counted = [(part, one.held.score[rows]) for one, (rows, part) in zip(scored, truth, strict=True)]
    result["turned"] = chance(counted)
    result["slices"] = slices(scored, outcomes)
    result["quarters"] = quarters(judge, scored, outcomes)
    result["missed"], result["false"] = listed(judge, scored, outcomes)
    result["devices"] = each
    return result


# ---- figures -------------------------------------------------------------------------------------------------------


def _calibration(positive: NDArray[np.bool_], probability: NDArray[np.float32]) -> dict[str, Any]:
    if not len(positive):
        return {}
    table = metrics.reliability(positive, probability)
    return {
        "brier": metrics.brier(positive, probability),
        "log_loss": metrics.log_loss(positive, probability),
        "ece": metrics.calibration_error(table),
        "miscalibration": metrics.miscalibration(table),
        "expected_positive": float(probability.sum(dtype=np.float64)),
        "observed_positive": int(positive.sum()),
        "reliability": table,
    }


def _device(
    judge: Judge, one: DeviceScores, outcome: Outcome, truth: tuple[NDArray[np.bool_], NDArray[np.bool_]]
) -> dict[str, Any]:
    held, (counted, positive) = one.held, truth
    normal = int(held.normal.sum())
    days = normal * judge.period / DAY
    return {
        "device": held.device,
        "average_precision": metrics.average_precision(positive, held.score[counted]),
        "random_average_precision": metrics.random_average_precision(positive),
        "vus_pr": metrics.vus_pr(positive, held.score[counted]),
        "events": len(outcome.events),
        "found": outcome.found,
        "false_alarms": len(outcome.false),
        "false_alarms_per_day": len(outcome.false) / days if days else None,
        "alert_share": sum(int(held.normal[a : b + 1].sum()) for a, b in outcome.alerts) / max(normal, 1),
        "normal_days": days,
        "rows": len(held.ts),
    }


Truth = Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]]


def _random(
    result: Mapping[str, Any], positive: NDArray[np.bool_], truth: Truth, outcomes: Sequence[Outcome],
    scored: Sequence[DeviceScores], hits: Sequence[tuple[float, float, float, float]],
) -> dict[str, Any]:  # fmt: skip
    rng = np.random.default_rng(0)
    found: dict[str, Any] = {
        "average_precision": _mean(metrics.random_average_precision(part) for _, part in truth),
        "average_precision_pooled": metrics.random_average_precision(positive),
        "vus_pr": _mean(metrics.vus_pr(part, rng.random(len(part))) for _, part in truth),
        "false_alarms_per_day": result["false_alarms_per_day"],
    }
    if result["events"]:
        met = [turned(o.events, o.alerts, len(one.held.ts)) for one, o in zip(scored, outcomes, strict=True)]
        found["event_recall"] = float(sum(met)) / result["events"]
    if hits:
        found |= {"hit_100": float(np.mean([h[2] for h in hits])), "hit_150": float(np.mean([h[3] for h in hits]))}
    if "brier" in result:
        base = np.full(len(positive), positive.mean())
        found |= {"brier": metrics.brier(positive, base), "log_loss": metrics.log_loss(positive, base), "ece": 0.0}
    return found


def _everything(
    judge: Judge, result: Mapping[str, Any], positive: NDArray[np.bool_], truth: Truth, scored: Sequence[DeviceScores]
) -> dict[str, Any]:
    shares = [float(part.mean()) for _, part in truth if part.any()]
    outcomes = [Outcome.of(judge, one, [(0, len(one.held.ts) - 1)] if len(one.held.ts) else []) for one in scored]
    came = counts(judge, scored, outcomes)
    found = {
        "average_precision": float(np.mean(shares)) if shares else None,
        "average_precision_pooled": float(positive.mean()) if positive.any() else None,
        "vus_pr": _mean(metrics.vus_pr(part, np.ones(len(part))) for _, part in truth),
        **{name: came[name] for name in ("event_recall", "false_alarms_per_day", "alert_share", "delay_median_s")},
    }
    if "brier" in result:
        found |= {"brier": 1 - float(positive.mean()), "ece": 1 - float(positive.mean())}
    return found


def _variance(judge: Judge, scored: Sequence[DeviceScores], truth: Truth, allowed: int) -> dict[str, Any]:
    """Return the figures of the moving variance at the threshold that raises no more false alerts than the model."""
    moved = []
    for one in scored:
        if one.variance is None:
            return {}
        held = HeldOut(one.held.device, one.held.ts, one.variance, one.held.judged, one.held.label)
        moved.append(DeviceScores(held, one.events))
    normal = np.concatenate([one.held.score[one.held.normal] for one in moved])
    if not len(normal):
        return {}

    def outcomes(threshold: float) -> list[Outcome]:
        return [Outcome.of(judge, one, alarms(judge.alert, threshold, one.held)) for one in moved]

    threshold = as_quiet(normal, lambda level: sum(len(one.false) for one in outcomes(level)), allowed)
    came = counts(judge, moved, outcomes(threshold))
    parts = [(part, one.held.score[counted]) for one, (counted, part) in zip(moved, truth, strict=True)]
    kept = ("event_recall", "alert_precision", "false_alarms_per_day", "alert_share", "delay_median_s", "delay_p90_s")
    return {
        "average_precision": _mean(metrics.average_precision(*part) for part in parts),
        "average_precision_pooled": metrics.average_precision(
            np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
        ),
        "vus_pr": _mean(metrics.vus_pr(*part) for part in parts),
        **{name: came[name] for name in kept},
    }


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


def _largest(parts: Iterable[NDArray[np.float32]]) -> float | None:
    peaks = [float(np.nanmax(part)) for part in parts if (~np.isnan(part)).any()]
    return max(peaks) if peaks else None
