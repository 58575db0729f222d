"""What came of a model's alerts: which events they found and how late, how many were false, when and where.

:mod:`.events` defines what is an event found and what is a false alert; here it is counted over devices and told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fieldwatch_contract.alerts import AlertRule
from fieldwatch_contract.clock import DAY, iso
from fieldwatch_contract.verdicts import Kind
from numpy.typing import NDArray

from fieldwatch_trainer.events import Alert, Event, delay, false_at, finder, unexplained
from fieldwatch_trainer.models import ANOMALY, FAULT
from fieldwatch_trainer.thresholds import HeldOut, alarms

QUARTERS = 4
LISTED = 100
"""Missed events and false alerts that are listed, the worst first; all are counted."""


@dataclass(frozen=True)
class DeviceScores:
    """What one model said of one device, with what was true; ``variance`` float32 ``[n]``: the baseline's score."""

    held: HeldOut
    events: list[Event] = field(default_factory=list)
    variance: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Judge:
    """What turns one model's scores into alerts; ``period`` in µs, ``guard`` rows after a label are explained."""

    name: str
    kind: Kind
    threshold: float
    alert: AlertRule
    period: int
    guard: int

    def alerts(self, held: HeldOut) -> list[Alert]:
        """Return the alerts that the model raises on these rows."""
        return alarms(self.alert, self.threshold, held)

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

    @classmethod
    def of(cls, judge: Judge, one: DeviceScores, alerts: list[Alert]) -> Outcome:
        """Hold alerts against the labels."""
        events = judge.events(one)
        free = unexplained(one.held.label, judge.guard)
        counted = [false_at(alert, free, judge.period) for alert in alerts]
        false = np.concatenate(counted) if counted else np.zeros(0, np.int64)
        met = sum(any(a <= e.last and b >= e.first for e in events) for a, b in alerts)
        return cls(alerts, events, [finder(event, alerts) for event in events], np.sort(false), met)

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
        "alert_precision": true / (true + false) if true + false else None,
        "false_alarms": false,
        "false_alarms_per_day": false / days if days else None,
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
    """Return missed events, those nearest to an alert first, and false alerts, the costliest first."""
    missed, false = [], []
    for one, outcome in zip(scored, outcomes, strict=True):
        held = one.held
        value = np.where(np.isnan(held.score) | ~held.judged, -np.inf, held.score)

        def told(
            first: int, last: int, device: str = held.device, ts: NDArray[np.int64] = held.ts,
            value: NDArray[np.float32] = value,
        ) -> dict[str, Any]:  # fmt: skip
            peak = float(value[first : last + 1].max())
            return {
                "device": device,
                "model": judge.name,
                "start": iso(int(ts[first])),
                "end": iso(int(ts[last])),
                "peak": peak if np.isfinite(peak) else None,
                "of_threshold": peak / judge.threshold if np.isfinite(peak) and judge.threshold > 0 else None,
            }

        for event, place in zip(outcome.events, outcome.finders, strict=True):
            if place is None:
                missed.append(told(event.first, event.last) | {"label": event.label})
        for first, last in outcome.alerts:
            count = int(((outcome.false >= first) & (outcome.false <= last)).sum())
            if count:
                false.append(told(first, last) | {"counts": count})
    missed.sort(key=lambda line: (-(line["peak"] or 0.0), line["device"], line["start"]))
    false.sort(key=lambda line: (-line["counts"], -(line["peak"] or 0.0), line["device"], line["start"]))
    return missed[:LISTED], false[:LISTED]
