"""What came of a model's alerts: which events they found and how late, how many were false, when and where.

:mod:`.events` defines what is an event found and what is a false alert; here it is counted over devices and told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fieldwatch_contract.alerts import AlertRule, Rule
from fieldwatch_contract.backtest import Backtest
from fieldwatch_contract.clock import DAY, iso
from fieldwatch_contract.fold import unexplained as nothing
from fieldwatch_contract.level import LevelRule
from fieldwatch_contract.verdicts import Kind
from numpy.typing import NDArray

from fieldwatch_trainer.events import Alert, Event, delay, false_at, finder, unexplained
from fieldwatch_trainer.models import ANOMALY, FAULT
from fieldwatch_trainer.thresholds import HeldOut, alarms

QUARTERS = 4
LED = 3
"""Sensors of a row that are kept."""
PICTURED, AROUND, POINTS = 12, 90, 180
"""Missed events and false alerts with a picture; rows around them; points of it."""
LISTED = 100
"""Missed events and false alerts that are listed, the worst first; all are counted."""


@dataclass(frozen=True)
class Leaders:
    """The sensors that contributed most to each row: ``place`` int16 and ``share`` float32, both ``[n, 3]``."""

    sensors: tuple[str, ...]
    place: NDArray[np.int16]
    share: NDArray[np.float32]

    @classmethod
    def of(cls, sensors: Sequence[str], contributions: NDArray[np.float32]) -> Leaders:
        """Keep the :data:`LED` largest contributions (float32 ``[n, S]``) of each row."""
        keep = min(LED, contributions.shape[1])
        top = np.argpartition(-contributions, keep - 1, axis=1)[:, :keep]
        return cls(tuple(sensors), top.astype(np.int16), np.take_along_axis(contributions, top, axis=1))

    @classmethod
    def joined(cls, parts: Sequence[Leaders]) -> Leaders:
        """Return blocks as one."""
        place, share = (np.concatenate([getattr(part, name) for part in parts]) for name in ("place", "share"))
        return cls(parts[0].sensors, place, share)

    def names(self, first: int, last: int) -> list[str]:
        """Return the sensors that contributed most from ``first`` to ``last``, most first; none where nothing did."""
        rows = slice(first, last + 1)
        total = np.bincount(self.place[rows].ravel(), self.share[rows].ravel(), minlength=len(self.sensors))
        order = np.argsort(-total, kind="stable")[:LED]
        return [self.sensors[place] for place in order if total[place] > 0]


@dataclass(frozen=True)
class DeviceScores:
    """What one model said of one device, with what was true; ``variance`` float32 ``[n]``: the baseline's score."""

    held: HeldOut
    events: list[Event] = field(default_factory=list)
    variance: NDArray[np.float32] | None = None
    leaders: Leaders | None = None


@dataclass(frozen=True)
class Judge:
    """What turns one model's scores into alerts; ``period`` in µs, ``guard`` rows after a label are explained.

    ``level`` None: a fixed threshold. Else the device's own rule, on a device without history whose alerts nobody
    answers.
    """

    name: str
    kind: Kind
    threshold: float
    alert: AlertRule
    period: int
    guard: int
    level: LevelRule | None = None

    @property
    def lowest(self) -> float:
        """The least score that could ever raise an alert."""
        return self.level.ladder[0] if self.level is not None and self.level.adapt else self.threshold

    def alerts(self, held: HeldOut) -> list[Alert]:
        """Return the alerts that the model raises on these rows."""
        return self.raised(held)[0]

    def raised(self, held: HeldOut) -> tuple[list[Alert], NDArray[np.float64]]:
        """Return the alerts, and the level ``[n]`` that each row was compared with."""
        if self.level is None or not self.level.adapt:
            return alarms(self.alert, self.threshold, held), np.full(len(held.ts), self.threshold)
        test = Backtest(Rule(held.device, self.name, self.kind, self.threshold, self.alert, self.level))
        levels, _ = test.feed(held.ts, held.score, held.judged, nothing)
        return [(one.first, one.last) for one in test.fired], levels

    def events(self, one: DeviceScores) -> list[Event]:
        """Return the events that this kind of model is meant to find."""
        wanted = ("fault", "anomaly") if self.kind == "detector" else ("fault",)
        return [event for event in one.events if event.label in wanted]

    def truth(self, held: HeldOut) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which rows count, and which of those counted are positive."""
        if self.kind == "detector":
            counted = (held.label == FAULT) | (held.label == ANOMALY) | (held.label == 0)
            return counted, held.label[counted] != 0
        counted = (held.label == FAULT) | (held.label == 0)
        return counted, held.label[counted] == FAULT


@dataclass(frozen=True)
class Outcome:
    """What came of one model's alerts on one device: for each event the alert that found it, and the false ones."""

    alerts: list[Alert]
    events: list[Event]
    finders: list[int | None]
    false: NDArray[np.int64]
    true: int
    level: NDArray[np.float64] | None = None

    @classmethod
    def of(
        cls, judge: Judge, one: DeviceScores, alerts: list[Alert], level: NDArray[np.float64] | None = None
    ) -> Outcome:
        """Hold alerts against the labels; ``level`` float64 ``[n]`` is what rows were compared with, for pictures."""
        events = judge.events(one)
        free = unexplained(one.held.label, judge.guard)
        counted = [false_at(alert, free, judge.period) for alert in alerts]
        false = np.concatenate(counted) if counted else np.zeros(0, np.int64)
        met = sum(any(a <= e.last and b >= e.first for e in events) for a, b in alerts)
        return cls(alerts, events, [finder(event, alerts) for event in events], np.sort(false), met, level)

    @property
    def found(self) -> int:
        """How many events had an alert."""
        return sum(place is not None for place in self.finders)

    def delays(self, ts: NDArray[np.int64]) -> list[float]:
        """Return the seconds to the alert of each event that had one."""
        return [
            delay(event, self.alerts[place], ts)
            for event, place in zip(self.events, self.finders, strict=True)
            if place is not None
        ]


def counts(judge: Judge, scored: Sequence[DeviceScores], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return what came of the alerts."""
    pairs = list(zip(scored, outcomes, strict=True))
    events = sum(len(outcome.events) for outcome in outcomes)
    alerts = sum(len(outcome.alerts) for outcome in outcomes)
    false = sum(len(outcome.false) for outcome in outcomes)
    true = sum(outcome.true for outcome in outcomes)
    normal = sum(int(one.held.normal.sum()) for one in scored)
    days = normal * judge.period / DAY
    open_rows = sum(int(one.held.normal[a : b + 1].sum()) for one, outcome in pairs for a, b in outcome.alerts)
    delays = [seconds for one, outcome in pairs for seconds in outcome.delays(one.held.ts)]
    return {
        "events": events,
        "event_recall": sum(outcome.found for outcome in outcomes) / events if events else None,
        "alerts": alerts,
        "alert_precision": true / (true + false) if events and true + false else None,
        "false_alarms": false,
        "false_alarms_per_day": false / days if days else None,
        "normal_days": days,
        "alert_share": open_rows / normal if normal else None,
        "delay_median_s": float(np.median(delays)) if delays else None,
        "delay_p90_s": float(np.quantile(delays, 0.9)) if delays else None,
    }


def quarters(judge: Judge, scored: Sequence[DeviceScores], outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return false alerts by quarter of each device's time: a budget that is kept is kept in the last one too."""
    false, days = np.zeros(QUARTERS), np.zeros(QUARTERS)
    for one, outcome in zip(scored, outcomes, strict=True):
        ts = one.held.ts
        if not len(ts):
            continue
        quarter = np.minimum((ts - ts[0]) * QUARTERS // (int(ts[-1] - ts[0]) + 1), QUARTERS - 1)
        false += np.bincount(quarter[outcome.false], minlength=QUARTERS)
        days += np.bincount(quarter[one.held.normal], minlength=QUARTERS) * judge.period / DAY
    return [
        {
            "quarter": number + 1,
            "false_alarms": int(false[number]),
            "normal_days": float(days[number]),
            "false_alarms_per_day": float(false[number] / days[number]) if days[number] else None,
        }
        for number in range(QUARTERS)
    ]


def slices(scored: Sequence[DeviceScores], outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return event recall by device and by kind of label, so that a mean hides no place where a model fails."""
    found: dict[str, list[bool]] = {}
    for one, outcome in zip(scored, outcomes, strict=True):
        for event, place in zip(outcome.events, outcome.finders, strict=True):
            for name in (f"device {one.held.device}", f"label {event.label}"):
                found.setdefault(name, []).append(place is not None)
    return [
        {"slice": name, "events": len(met), "event_recall": float(np.mean(met))} for name, met in sorted(found.items())
    ]


def listed(
    judge: Judge, scored: Sequence[DeviceScores], outcomes: Sequence[Outcome]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return missed events, those nearest to an alert first, and false alerts, the costliest first.

    The first :data:`PICTURED` of each have a ``picture``: ``ts``, ``score``, ``labels``, ``alerts``, as a timeline has.
    """
    missed: list[tuple[dict[str, Any], DeviceScores, Outcome, Alert]] = []
    false: list[tuple[dict[str, Any], DeviceScores, Outcome, Alert]] = []
    for one, outcome in zip(scored, outcomes, strict=True):
        for event, place in zip(outcome.events, outcome.finders, strict=True):
            if place is None:
                span = (event.first, event.last)
                missed.append((_case(judge, one, outcome.level, span) | {"label": event.label}, one, outcome, span))
        for first, last in outcome.alerts:
            count = int(((outcome.false >= first) & (outcome.false <= last)).sum())
            if count:
                false.append(
                    (_case(judge, one, outcome.level, (first, last)) | {"counts": count}, one, outcome, (first, last))
                )
    missed.sort(key=lambda case: (-(case[0]["peak"] or 0.0), case[0]["device"], case[0]["start"]))
    false.sort(key=lambda case: (-case[0]["counts"], -(case[0]["peak"] or 0.0), case[0]["device"], case[0]["start"]))
    for line, one, outcome, (first, last) in [*missed[:PICTURED], *false[:PICTURED]]:
        rows = slice(max(first - AROUND, 0), last + 1 + AROUND)
        line["picture"] = trace(judge, one, outcome, rows, POINTS)
    return [case[0] for case in missed[:LISTED]], [case[0] for case in false[:LISTED]]


def _case(judge: Judge, one: DeviceScores, level: NDArray[np.float64] | None, span: Alert) -> dict[str, Any]:
    rows = slice(span[0], span[1] + 1)
    known = one.held.score[rows][one.held.judged[rows] & ~np.isnan(one.held.score[rows])]
    peak = float(known.max()) if len(known) else None
    least = judge.threshold if level is None else float(level[rows].min())
    return {
        "device": one.held.device,
        "model": judge.name,
        "start": iso(int(one.held.ts[span[0]])),
        "end": iso(int(one.held.ts[span[1]])),
        "peak": peak,
        "of_threshold": peak / least if peak is not None and least > 0 else None,
        "sensors": one.leaders.names(*span) if one.leaders is not None else [],
    }


def trace(judge: Judge, one: DeviceScores, outcome: Outcome, rows: slice, points: int) -> dict[str, Any]:
    """Return what a picture of these rows needs: ``ts`` (µs) and the largest ``score`` of at most about ``points``
    stretches, None where readings are missing for long, so that no line crosses a gap; the ``level`` there;
    ``labels`` and ``alerts`` ``[start, end, kind]`` in µs, alerts being ``found`` or ``false``.
    """
    held = one.held
    ts, score = held.ts[rows], held.score[rows]
    begin, end = int(ts[0]), int(ts[-1])
    gap = max(5 * judge.period, (end - begin) // 200)
    size = -(-len(ts) // points)
    apart = np.flatnonzero(np.diff(ts, prepend=ts[0]) > gap)
    starts = np.unique(np.concatenate((np.arange(0, len(ts), size), apart)))
    peak = np.maximum.reduceat(np.where(np.isnan(score), -np.inf, score), starts)
    times: list[int] = []
    values: list[float | None] = []
    for place, value in zip(starts.tolist(), peak.tolist(), strict=True):
        if place in apart:
            times.append(int(ts[place - 1]) + judge.period)
            values.append(None)
        times.append(int(ts[place]))
        values.append(round(value, 6) if np.isfinite(value) else None)
    false = {int(row) for row in outcome.false}
    spans = [(event.first, event.last, event.label) for event in outcome.events]
    raised = [
        (first, last, "false" if any(first <= row <= last for row in false) else "found")
        for first, last in outcome.alerts
    ]  # fmt: skip
    level = outcome.level[rows][starts] if outcome.level is not None else np.full(len(starts), judge.threshold)
    return {
        "threshold": judge.threshold,
        "ts": times,
        "score": values,
        "level": [float(f"{value:.5g}") for value in np.repeat(level, 1 + np.isin(starts, apart))],
        **{
            name: [
                [max(int(held.ts[first]), begin), min(int(held.ts[last]), end), kind]
                for first, last, kind in marks
                if held.ts[last] >= begin and held.ts[first] <= end
            ]
            for name, marks in (("labels", spans), ("alerts", raised))
        },
    }
