"""Which earlier alert a new one resembles: most false alarms repeat an earlier one (a recurring job, a new workload).

An alert's *signature* is what its sensors contributed since it began, in whole numbers relative to the largest. Two
alerts resemble each other where the cosine of their signatures reaches the bundle's limit. Of the past alerts that a
person judged, the most similar decides: if that one was called false, and the new alert is not much stronger, the new
one is *like* it. Such an alert is raised and marked; who is told of it is the cloud's decision.

The past alerts are a table of bounded size (:func:`kept`), kept with the state of the rule. It is
not sent, but for the one alert that an alert is like, with what that was made of (:mod:`.dossier`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Answer = Literal["real", "false"]
"""What a person said of an alert."""

STRONGER = 1.5
"""An alert that exceeds this multiple of a dismissed one's peak is not like it, however similar its sensors."""
STEPS = 100
"""A signature's largest number; the others are rounded to the same unit."""
SENSORS = 16
"""Sensors in a signature at most: the most responsible ones."""
JUDGED_KEPT = 24
UNJUDGED_KEPT = 24

Signature = tuple[tuple[int, int], ...]
"""Pairs of sensor index and contribution in units, largest first; empty where nothing explains the alert."""


@dataclass(frozen=True)
class PastAlert:
    """An alert that has ended. ``raised``: the rungs it put on; ``returned``: of them, given back by its verdict."""

    alert_id: str
    peak: float
    raised: int
    returned: int
    verdict: Answer | None
    signature: Signature


def signature(sums: NDArray[np.float64]) -> Signature:
    """Return the signature of contributions ``sums`` (float64 ``[S]``, not negative)."""
    largest = float(sums.max(initial=0.0))
    if largest <= 0 or not isfinite(largest):
        return ()
    units = np.rint(sums / largest * STEPS).astype(np.int64)
    order = np.argsort(-units, kind="stable")[:SENSORS]
    return tuple((int(i), int(units[i])) for i in order if units[i] > 0)


def similarity(one: Signature, other: Signature) -> float:
    """Return the cosine of two signatures, 0 where one of them is empty.

    >>> similarity(((0, 100), (3, 50)), ((3, 50), (0, 100)))
    1.0
    """
    if not one or not other:
        return 0.0
    there = dict(other)
    dot = sum(value * there.get(sensor, 0) for sensor, value in one)
    squares = sum(value**2 for _, value in one) * sum(value**2 for _, value in other)
    return dot / sqrt(squares)


def resembled(past: Sequence[PastAlert], sums: NDArray[np.float64], limit: float) -> PastAlert | None:
    """Return the judged alert of ``past`` most similar to ``sums``, the latest of equals; None below ``limit``."""
    mine = signature(sums)
    found = [(similarity(mine, one.signature), place) for place, one in enumerate(past) if one.verdict is not None]
    best = max(found, default=(0.0, 0))
    return past[best[1]] if best[0] >= limit else None


def kept(past: Sequence[PastAlert]) -> tuple[PastAlert, ...]:
    """Return ``past`` without the oldest ones over :data:`JUDGED_KEPT` and :data:`UNJUDGED_KEPT`."""
    judged = [one for one in past if one.verdict is not None][-JUDGED_KEPT:]
    unjudged = [one for one in past if one.verdict is None][-UNJUDGED_KEPT:]
    stay = {id(one) for one in judged + unjudged}
    return tuple(one for one in past if id(one) in stay)
