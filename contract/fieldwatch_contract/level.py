"""The level: what a score must reach for an alert now, kept between the bounds of the signed bundle.

A fixed threshold does not keep its budget of false alarms on new time: it holds 0.5 a device-day on the days it was
chosen on and drifts to twice that. So the level of a model's alerts moves on a *ladder* of levels that the bundle
carries, by rules in integers alone (an online budget, as in adaptive conformal inference):

1. An opening puts it ``rise`` rungs up, and so does each ``hold`` judged rows that the alert stays open.
2. Each ``fall`` judged rows without an open alert put it one rung down. Only judged rows count: a device that is off
   does not decay. While nobody answers, ``fall_unanswered`` rows do: then true alerts keep their rungs too, and one
   speed for both would be deaf in the one case or loud in the other. Nobody answers once the last :data:`PATIENCE`
   alerts that people were told of had no verdict, and on a new device.
3. An alert that a person calls real gives back what it put on; withdrawing the verdict takes that back again.
4. An alert that resembles one that a person called false does not move the level (:mod:`.likeness`).
5. The ends of the ladder are the bounds. Being there is a state that people see.

``adapt = false`` freezes all of it: the level is the bundle's threshold, and verdicts change nothing.

Source: Gibbs and Candès (2021), "Adaptive conformal inference under distribution shift"; the steps in integers are
ours, so that a state has the same bits however it came about.
"""

from __future__ import annotations

from itertools import pairwise
from math import isfinite
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_RUNGS = 1000
PATIENCE = 3
"""Alerts in a row without a verdict after which nobody answers: two may lie on a desk."""

AtBound = Literal["", "lowest", "highest"]
"""Whether a level stands at an end of its ladder; empty where it does not, or cannot move."""


class LevelRule(BaseModel):
    """How the level of one model's alerts moves, part of the bundle.

    ``ladder``: the levels, in the unit of the score, strictly increasing; a classifier's end below what its probability
    can reach. ``start``: the rung of a device without history. ``like``: from which cosine an opening resembles an
    earlier alert; None: none ever does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    adapt: bool = True
    ladder: tuple[float, ...] = Field(min_length=1, max_length=MOST_RUNGS)
    start: int = Field(ge=0)
    rise: int = Field(default=12, ge=0, le=MOST_RUNGS, description="rungs up at an opening, and again each hold")
    hold: int = Field(default=480, ge=1, description="judged rows that an alert stays open")
    fall: int = Field(default=480, ge=1, description="judged rows without an open alert, for one rung down")
    fall_unanswered: int | None = Field(default=None, ge=1, description="the same while nobody answers; null: as fall")
    like: float | None = Field(default=0.95, gt=0, le=1)

    @model_validator(mode="after")
    def _is_ladder(self) -> LevelRule:
        if not all(isfinite(level) for level in self.ladder):
            raise ValueError("every level of the ladder must be a finite number")
        if any(below >= above for below, above in pairwise(self.ladder)):
            raise ValueError("the levels of the ladder must rise")
        if self.start >= len(self.ladder):
            raise ValueError(f"start is rung {self.start}, the ladder has {len(self.ladder)}")
        return self

    def fall_after(self, unheard: int) -> int:
        """Return the rows for one rung down, ``unheard`` alerts after the last verdict."""
        return self.fall if unheard < PATIENCE or self.fall_unanswered is None else self.fall_unanswered

    @property
    def top(self) -> int:
        """The highest rung."""
        return len(self.ladder) - 1

    def at_bound(self, rung: int) -> AtBound:
        """Tell at which end of the ladder ``rung`` is."""
        if not self.adapt:
            return ""
        return "highest" if rung >= self.top else "lowest" if rung <= 0 else ""
