"""How often would this have fired? The device's own alert rule over a lake, held against its labels, if any.

Alerts are those of :class:`.backtest.Backtest` in the contract, which the agent uses too; what is an event found and
what a false alert says :mod:`.events`. Look-alikes of dismissed alerts are listed, and count for nothing: nobody is
told.

Every device begins without history at the first row asked for. ``answers``: whether people answer the alerts they are
told of, from the labels, some time after each opened. Beside the bundle's own rule the same is done with other budgets
(:data:`.backtest.FACTORS`): the trade between recall, delay and false alarms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fieldwatch_contract.alerts import Rule
from fieldwatch_contract.backtest import FACTORS, Answers, Backtest, Fired, with_budget
from fieldwatch_contract.bundle import Bundle, ModelSpec
from fieldwatch_contract.chart import chart
from fieldwatch_contract.clock import DAY, iso
from fieldwatch_contract.fold import unexplained as nothing
from fieldwatch_contract.level import LevelRule
from fieldwatch_contract.likeness import Answer
from fieldwatch_contract.scoring import Scorer, Scores
from fieldwatch_contract.told import Curve, Told, duration, line_of, weeks
from fieldwatch_contract.verdicts import CODES, Verdict
from numpy.typing import NDArray

from fieldwatch_trainer.evaluate import judges_of
from fieldwatch_trainer.events import LONG, Alert, Event, false_at, unexplained
from fieldwatch_trainer.labels import EVENTS, Label
from fieldwatch_trainer.labels import codes as label_codes
from fieldwatch_trainer.lake import GridRows, Lake, LakeError
from fieldwatch_trainer.outcomes import DeviceScores, Judge, Outcome, counts, listed, quarters
from fieldwatch_trainer.score import blocks, devices_for, explained, first_row
from fieldwatch_trainer.split import Split
from fieldwatch_trainer.thresholds import HeldOut

ANSWER_AFTER = LONG
"""People answer within a shift."""
UNKNOWN = CODES[Verdict.UNKNOWN]


@dataclass(frozen=True)
class FromLabels:
    """People who know the labels: an alert is real if one of its rows until they answer is explained by one."""

    ts: NDArray[np.int64]
    free: NDArray[np.bool_]

    @classmethod
    def of(cls, ts: NDArray[np.int64], label: NDArray[np.int8], guard: int) -> FromLabels:
        """``ts`` int64 ``[n]`` µs; ``label`` int8 ``[n]``; ``guard`` rows after a label are explained by it."""
        return cls(ts, unexplained(label, guard))

    def say(self, opened: int, until: int) -> Answer:
        """Judge an alert from what was known ``until`` then."""
        first, stop = np.searchsorted(self.ts, opened), np.searchsorted(self.ts, until, side="right")
        return "false" if self.free[first:stop].all() else "real"


@dataclass(frozen=True)
class Tried:
    """What came of one model's alerts on one device; ``level`` float64 ``[n]``: in force at each reading."""

    scored: DeviceScores
    fired: list[Fired]
    level: NDArray[np.float64]

    @classmethod
    def of(cls, judge: Judge, level: LevelRule | None, part: DeviceScores, *, answers: bool) -> Tried:
        """Try the rule on scores that nothing explains: no alert is like another."""
        held = part.held
        said = FromLabels.of(held.ts, held.label, judge.guard).say if answers else None
        test = Backtest(
            Rule(held.device, judge.name, judge.kind, judge.threshold, judge.alert, level),
            Answers(ANSWER_AFTER, said) if said else None,
        )
        levels, _ = test.feed(held.ts, held.score, held.judged, nothing)
        return cls(part, test.fired, levels)

    @property
    def told(self) -> list[Alert]:
        """The alerts that people are told of: the row from which they are, and the last one."""
        return [(one.told, one.last) for one in self.fired if one.told is not None]


@dataclass
class _Device:
    """One model on one device while blocks pass: the bundle's rule first, then the other budgets."""

    tests: list[Backtest]
    parts: list[tuple[NDArray[np.float32], NDArray[np.int8], NDArray[np.float64]]] = field(default_factory=list)

    def feed(self, ts: NDArray[np.int64], scores: Scores, here: NDArray[np.int64]) -> None:
        explain = explained(scores, here)
        judged = scores.verdict[here] != UNKNOWN
        levels = [test.feed(ts, scores.score[here], judged, explain)[0] for test in self.tests]
        self.parts.append((scores.score[here], scores.verdict[here], levels[0]))


def backtest_lake(
    bundle: Bundle,
    lake: Lake,
    split: Split,
    *,
    answered: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[dict[str, Any], Told]:
    """Return the figures by model, and what is told: alerts with pictures, weeks, the curve.

    ``answered``: µs after which people answer from the labels, None: nobody does. Raises :class:`.lake.LakeError` where
    no reading is left, or where answers are asked for and there is no label.
    """
    manifest = bundle.manifest
    names = devices_for(bundle, lake, split, "--split")
    told = Told(f"{manifest.name}/{manifest.version}", manifest.period, manifest.sensors)
    told.labelled = any(one.label in EVENTS for name in names for one in lake.labels(name))
    if answered is not None and not told.labelled:
        raise LakeError(f"{lake.url}: no labels to answer from: use --answers none, or add labels.parquet")
    scorer = Scorer(bundle)
    judges = {judge.name: judge for judge in judges_of(manifest)}
    tried: dict[str, list[list[Tried]]] = {spec.name: [] for spec in manifest.models}
    for number, name in enumerate(names):
        progress(f"{name} ({number + 1} of {len(names)})")
        grid = lake.grid(name, manifest.sensors, manifest.window)
        first = first_row(grid, name, split)
        if not grid.reading[first:].any():
            continue
        found = try_device(scorer, name, grid, first, lake.labels(name), answered, (1.0, *FACTORS))
        for spec, each in zip(manifest.models, found, strict=True):
            tried[spec.name].append(each)
            _tell(told, judges[spec.name], each[0], lake.labels(name))
    if not any(tried.values()):
        raise LakeError(f"{lake.url}: no reading of {', '.join(names[:5])} lies at or after --since or the split")
    models = {}
    for spec in manifest.models:
        judge = judges[spec.name]
        came = [_came(judge, [each[place] for each in tried[spec.name]]) for place in range(1 + len(FACTORS))]
        scored, outcomes = _outcomes(judge, [each[0] for each in tried[spec.name]])
        missed, false = listed(judge, scored, outcomes)
        models[spec.name] = came[0] | {
            "adapts": spec.level is not None and spec.level.adapt,
            "look_alikes": sum(one.told is None for each in tried[spec.name] for one in each[0].fired),
            "quarters": quarters(judge, scored, outcomes),
            "devices": [_came(judge, [each[0]]) | {"device": each[0].scored.held.device} for each in tried[spec.name]],
            "missed": missed,
            "false": false,
            "curve": _curve(spec, came),
        }
        told.curves.append(Curve(spec.name, models[spec.name]["curve"]))
        told.missed += missed
    answers = (
        "nobody answers" if answered is None else f"people answer after {answered / DAY * 24:g} h, from the labels"
    )
    about = {"bundle": told.title, "sha256": bundle.sha256, "lake": lake.url, "answers": answers}
    told.about = [f"{lake.url}; {answers}", *_said(models)]
    return about | {"models": models}, told


def try_device(
    scorer: Scorer, name: str, grid: GridRows, first: int, labels: Sequence[Label], answered: int | None,
    factors: Sequence[float] = (1.0,),
) -> list[list[Tried]]:  # fmt: skip
    """Return by model, and in it by factor, what came of the bundle's rule with a multiple of its budget.

    Rows from ``first`` on are scored; ``answered``: µs after which people answer, None: nobody does.
    """
    manifest = scorer.manifest
    rows = first + np.flatnonzero(grid.reading[first:])
    ts = grid.ts[rows]
    label = label_codes(ts, labels)
    answers = None if answered is None else Answers(answered, FromLabels.of(ts, label, manifest.window).say)
    devices = [
        _Device([Backtest(with_budget(Rule.of(name, spec), factor), answers) for factor in factors])
        for spec in manifest.models
    ]
    for block in blocks(scorer, grid.rows, first, len(grid.rows)):
        here = np.flatnonzero(grid.reading[block.start : block.stop])
        for device, scores in zip(devices, block.scores, strict=True):
            device.feed(grid.ts[block.start + here], scores, here)
    events = _events(ts, labels)
    found = []
    for device in devices:
        score, verdict, level = (np.concatenate(column) for column in zip(*device.parts, strict=True))
        scored = DeviceScores(HeldOut(name, ts, score, verdict != UNKNOWN, label), events)
        found.append([Tried(scored, test.fired, level) for test in device.tests])
    return found


def _events(ts: NDArray[np.int64], labels: Sequence[Label]) -> list[Event]:
    found = []
    for label in labels:
        start = int(np.searchsorted(ts, label.start))
        stop = int(np.searchsorted(ts, label.end, side="right")) - 1
        if label.label in EVENTS and stop >= start:
            found.append(Event(label.label, start, stop))
    return found


def _outcomes(judge: Judge, tried: Sequence[Tried]) -> tuple[list[DeviceScores], list[Outcome]]:
    scored = [one.scored for one in tried]
    return scored, [Outcome.of(judge, one.scored, one.told) for one in tried]


def _came(judge: Judge, tried: Sequence[Tried]) -> dict[str, Any]:
    """Return what came of the alerts that people are told of."""
    return counts(judge, *_outcomes(judge, tried))


def _curve(spec: ModelSpec, came: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the trade, fewest alarms first."""
    keys = ("event_recall", "false_alarms_per_day", "delay_median_s", "alerts")
    points = [
        {"factor": factor} | {key: each[key] for key in keys}
        for factor, each in zip((1.0, *FACTORS), came, strict=True)
    ]
    return sorted(points, key=lambda point: point["factor"])


def _tell(told: Told, judge: Judge, one: Tried, labels: Sequence[Label]) -> None:
    """Add a device's alerts, weeks and picture to what is told."""
    held = one.scored.held
    spans = [(label.start, label.end) for label in labels if label.label in EVENTS]
    told.devices.append(
        chart(f"{held.device}, {judge.name}", held.ts, held.score, one.level, one.fired, spans, judge.period)
    )
    told.weeks += weeks(held.device, judge.name, held.ts, held.judged, one.fired, judge.period)
    events = judge.events(one.scored)
    free = unexplained(held.label, judge.guard)
    for fired in one.fired:
        false, about = _judged(fired, events, held.ts, free, judge.period) if told.labelled else (False, "")
        told.alerts.append(
            line_of(held.device, judge.name, fired, told.sensors, about, held.ts, held.score, one.level, spans,
                    judge.period, false=false)
        )  # fmt: skip


def _judged(
    fired: Fired, events: Sequence[Event], ts: NDArray[np.int64], free: NDArray[np.bool_], period: int
) -> tuple[bool, str]:
    """Return whether an alert counts as false, and what the labels say of it; ``free``: rows that nothing explains."""
    false = fired.told is not None and len(false_at((fired.told, fired.last), free, period)) > 0
    met = next((event for event in events if fired.first <= event.last and fired.last >= event.first), None)
    if met is None:
        return false, "No label there" if free[fired.first : fired.last + 1].all() else "No event there, but a label"
    about = f"Found: {met.label} of {iso(int(ts[met.first]))}"
    return false, f"{about}; open for long without a label" if false else about


def _said(models: dict[str, Any]) -> list[str]:
    lines = []
    for name, model in models.items():
        rate, recall = model["false_alarms_per_day"], model["event_recall"]
        told = f"{name}: {model['alerts']} alerts"
        if model["look_alikes"]:
            told += f" and {model['look_alikes']} look-alikes of dismissed ones"
        if recall is not None:
            told += f"; {recall:.0%} of {model['events']} events found"
        if rate is not None:
            told += f"; false alarms a device-day {rate:.2f}"
        if model["delay_median_s"] is not None:
            told += f"; median delay {duration(model['delay_median_s'])}"
        lines.append(told + ("" if model["adapts"] else "; its level is fixed"))
    return lines
