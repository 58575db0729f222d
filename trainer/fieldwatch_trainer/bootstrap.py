"""How sure a figure is: the same figure on data drawn again, and for two models the difference on the same draws.

What is drawn are *units*: whole devices where there are at least :data:`DEVICES`, because a fault on one device says
little of another; else stretches of each device's time, never cut within an event. Rows are not drawn: neighbours are
alike, and an interval from rows would be far too narrow.

A draw is a count for each unit, so every figure is a ratio of weighted sums. For average precision the rows are kept as
counts over :data:`BINS` score bins (exact up to so many distinct scores, else finest among the highest).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from fieldwatch_contract.clock import DAY
from numpy.typing import NDArray

from fieldwatch_trainer.models import SEED
from fieldwatch_trainer.outcomes import DeviceScores, Judge, Outcome

DEVICES = 10
"""Units are devices from this many on."""
STRETCHES = 20
"""Stretches of a device's time where there are fewer devices."""
LEAST = 5
"""Units with an event in them, below which nothing is said of how sure a figure is."""
DRAWS = 1000
LEVEL = 0.95
BINS = 2000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tally:
    """What each of ``U`` units adds to the figures of one model.

    ``positive`` and ``negative`` float64 ``[U, K]``: rows by score bin, highest first; all others float64 ``[U]``:
    ``events`` and how many were ``found``, ``false`` alerts in ``days`` of normal time, ``squares`` the summed squared
    error of a probability over ``judged`` rows.
    """

    positive: Floats
    negative: Floats
    events: Floats
    found: Floats
    false: Floats
    days: Floats
    squares: Floats
    judged: Floats

    def figures(self, weights: Floats) -> dict[str, Floats]:
        """Return each figure ``[B]`` for ``weights`` ``[B, U]``; NaN where a draw has nothing to measure it on."""
        hits, rows = np.cumsum(weights @ self.positive, axis=1), np.cumsum(weights @ self.negative, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(hits + rows > 0, hits / (hits + rows), 0.0)
            recall = hits / hits[:, -1:]
            area = np.sum(np.diff(recall, axis=1, prepend=0.0) * precision, axis=1)
            return {
                "average_precision_pooled": area,
                "event_recall": (weights @ self.found) / (weights @ self.events),
                "false_alarms_per_day": (weights @ self.false) / (weights @ self.days),
                "brier": (weights @ self.squares) / (weights @ self.judged),
            }


@dataclass(frozen=True)
class Interval:
    """A figure and where it may lie at :data:`LEVEL`; ``low`` and ``high`` None where nobody can say."""

    value: float | None
    low: float | None = None
    high: float | None = None


def borders(labels: Sequence[NDArray[np.int8]], guard: int) -> list[NDArray[np.int64]]:
    """Return for each device's rows where its units begin (0 first), from their label codes ``[n]``."""
    if len(labels) >= DEVICES:
        return [np.zeros(1, np.int64) for _ in labels]
    found = []
    for label in labels:
        size = max(-(-len(label) // STRETCHES), 4 * guard, 1)
        busy = np.convolve(label != 0, np.ones(guard + 1), "full")[: len(label)] > 0 if len(label) else label != 0
        cuts = [0]
        for row in np.flatnonzero(~busy).tolist():
            if row >= cuts[-1] + size:
                cuts.append(row)
        found.append(np.array(cuts, np.int64))
    return found


def bins(scores: NDArray[np.float64]) -> Floats:
    """Return ascending lower edges of score bins: every distinct score, or, of too many, more among the highest."""
    distinct = np.unique(scores)
    if len(distinct) <= BINS:
        return distinct
    ranks = len(distinct) - np.geomspace(1, len(distinct), BINS)
    return np.asarray(distinct[np.unique(ranks.astype(np.int64))])


def tally(
    judge: Judge,
    scored: Sequence[DeviceScores],
    outcomes: Sequence[Outcome],
    cuts: Sequence[NDArray[np.int64]] | None = None,
) -> Tally:
    """Return what each unit adds; ``cuts`` from :func:`borders`, so that two models can share them."""
    labels = [one.held.label for one in scored]
    cuts = borders(labels, judge.guard) if cuts is None else cuts
    values, truths, units = [], [], []
    parts: dict[str, list[float]] = {name: [] for name in ("events", "found", "false", "days", "squares", "judged")}
    number = 0
    for one, outcome, begin in zip(scored, outcomes, cuts, strict=True):
        count, held = len(begin), one.held
        counted, positive = judge.truth(held)
        value = np.where(np.isnan(held.score), -np.inf, held.score.astype(np.float64))[counted]
        unit = np.searchsorted(begin, np.flatnonzero(counted), side="right") - 1
        values.append(value)
        truths.append(positive)
        units.append(number + unit)
        judged = held.judged[counted] & np.isfinite(value)
        errors = np.where(judged, (value - positive) ** 2, 0.0) if judge.kind == "classifier" else np.zeros(len(value))
        firsts = np.array([event.first for event in outcome.events], np.int64)
        met = np.array([place is not None for place in outcome.finders], np.float64)
        at = np.searchsorted(begin, firsts, side="right") - 1
        parts["events"] += np.bincount(at, minlength=count).tolist()
        parts["found"] += np.bincount(at, met, minlength=count).tolist()
        parts["false"] += np.bincount(np.searchsorted(begin, outcome.false, side="right") - 1, minlength=count).tolist()
        normal = np.searchsorted(begin, np.flatnonzero(held.normal), side="right") - 1
        parts["days"] += (np.bincount(normal, minlength=count) * judge.period / DAY).tolist()
        parts["squares"] += np.bincount(unit, errors, minlength=count).tolist()
        parts["judged"] += np.bincount(unit, judged.astype(np.float64), minlength=count).tolist()
        number += count
    value, positive, unit = np.concatenate(values), np.concatenate(truths), np.concatenate(units)
    edges = bins(value)
    place = len(edges) - np.searchsorted(edges, value, side="right")
    here = unit * len(edges) + place
    size = number * len(edges)
    true, other = (np.bincount(here[m], minlength=size).reshape(number, -1) for m in (positive, ~positive))
    return Tally(
        true.astype(np.float64), other.astype(np.float64), **{name: np.array(part) for name, part in parts.items()}
    )


def draws(units: int) -> Floats:
    """Return counts ``[DRAWS, units]``, the same for the same number of units."""
    rng = np.random.default_rng(SEED)
    return rng.multinomial(units, np.full(units, 1 / units), size=DRAWS).astype(np.float64)


def intervals(tally: Tally) -> dict[str, Interval]:
    """Return every figure with its interval.

    Where no draw can differ, because not one event was missed or found, or no alert was false, the other end is the
    rule of three: 3 in n is what n trials without one exclude at 95 %.
    """
    found = _summary(tally.figures(np.ones((1, len(tally.events)))), tally.figures(draws(len(tally.events))), tally)
    recall, rate = found["event_recall"], found["false_alarms_per_day"]
    three = min(3 / max(float(tally.events.sum()), 1.0), 1.0)
    if recall.low is not None and recall.value in (0.0, 1.0):
        found["event_recall"] = Interval(1.0, 1 - three, 1.0) if recall.value else Interval(0.0, 0.0, three)
    if rate.low is not None and rate.value == 0:
        found["false_alarms_per_day"] = Interval(0.0, 0.0, 3 / float(tally.days.sum()))
    return found


def differences(one: Tally, other: Tally) -> dict[str, Interval]:
    """Return ``other`` minus ``one``, both measured on the same draws of the same units."""
    whole, weights = np.ones((1, len(one.events))), draws(len(one.events))
    exact = _minus(other.figures(whole), one.figures(whole))
    return _summary(exact, _minus(other.figures(weights), one.figures(weights)), one)


def _minus(a: dict[str, Floats], b: dict[str, Floats]) -> dict[str, Floats]:
    return {name: a[name] - b[name] for name in a}


def _summary(exact: dict[str, Floats], drawn: dict[str, Floats], tally: Tally) -> dict[str, Interval]:
    found = {}
    for name, values in drawn.items():
        value = None if np.isnan(exact[name][0]) else float(exact[name][0])
        known = values[~np.isnan(values)]
        units = (tally.days > 0).sum() if name in ("false_alarms_per_day", "brier") else (tally.events > 0).sum()
        if value is None or units < LEAST or len(known) < DRAWS // 2:
            found[name] = Interval(value)
            continue
        low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        found[name] = Interval(value, float(low), float(high))
    return found
