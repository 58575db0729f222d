"""The level and the past alerts while a fold is under way: how they move (:mod:`.level`) and what they answer.

Belongs to :mod:`.fold`, which says what happens; everything here is integers and their bounds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fieldwatch_contract.alerts import AlertState, Rule, RuleState
from fieldwatch_contract.level import PATIENCE, AtBound
from fieldwatch_contract.likeness import STRONGER, Answer, PastAlert, kept, resembled, signature


class Budget:
    """Begins with a state; :attr:`rung`, :attr:`quiet`, :attr:`past`, :attr:`ignored` and :attr:`unheard` are those of
    the next one.

    ``levels`` float64: the ladder; where the level does not move, the threshold alone.
    """

    def __init__(self, rule: Rule, state: RuleState) -> None:
        self._moving = rule.moving
        self.levels = np.array(self._moving.ladder if self._moving is not None else (rule.threshold,))
        self._top = len(self.levels) - 1
        self.rung, self.quiet = min(state.rung, self._top), state.quiet
        self.past, self.ignored, self.unheard = state.past, state.ignored, state.unheard

    @property
    def at_bound(self) -> AtBound:
        """At which end of the ladder the level is."""
        return self._moving.at_bound(self.rung) if self._moving is not None else ""

    def while_quiet(self, count: int) -> NDArray[np.int64]:
        """Return the rung that each of the next ``count`` judged rows finds while no alert is open."""
        if self._moving is None:
            return np.zeros(count, np.int64)
        return np.maximum(self.rung - (self.quiet + np.arange(count)) // self._moving.fall_after(self.unheard), 0)

    def quiet_rows(self, count: int) -> None:
        """Count judged rows without an open alert."""
        if self._moving is not None:
            falls, self.quiet = divmod(self.quiet + count, self._moving.fall_after(self.unheard))
            self.rung = max(0, self.rung - falls)

    def open_rows(self, alert: AlertState, count: int) -> tuple[AlertState, NDArray[np.int64]]:
        """Count judged rows of an open alert; return its state and the rung that each of them finds."""
        moving = self._moving
        if moving is None or not self._counts(alert):
            return alert, np.full(count, self.rung)
        held = alert.held + np.arange(count + 1)
        rungs = np.minimum(self.rung + held // moving.hold * moving.rise, self._top)
        rises, left = divmod(int(held[-1]), moving.hold)
        return self._rise(replace(alert, held=left), rises), rungs[:-1]

    def opened(self, alert: AlertState, sums: NDArray[np.float64]) -> AlertState:
        """Put the level up for an alert that opens, unless it is like a dismissed one. ``sums`` float64 ``[S]``.

        What it resembles stays in the table longest.
        """
        if self._moving is None:
            return alert
        limit = self._moving.like
        if limit is not None and (found := resembled(self.past, sums, limit)) is not None:
            self.past = (*(one for one in self.past if one is not found), found)
            if found.verdict == "false" and alert.peak <= STRONGER * found.peak:
                return replace(alert, like=found.alert_id, like_limit=STRONGER * found.peak)
        return self._counted(alert)

    def grown(self, alert: AlertState) -> AlertState:
        """Return the alert without the mark of what it was like, once it is much stronger: now it counts."""
        if alert.like is None or alert.peak <= alert.like_limit:
            return alert
        alert = replace(alert, like=None)
        return self._counted(alert) if self._counts(alert) else alert

    def ended(self, alert: AlertState, alert_id: str, sums: NDArray[np.float64]) -> None:
        """Keep an alert that has ended: what people say of it comes later."""
        if self._moving is not None:
            one = PastAlert(alert_id, alert.peak, alert.raised, alert.returned, alert.verdict, signature(sums))
            self.past = kept((*self.past, one))

    def heard(self, alert: AlertState, is_it: bool, alert_id: str, verdict: Answer | None) -> AlertState:
        """Take a verdict on ``alert``, where it ``is_it``, else on a past one; return the alert.

        The effect of the verdict before it is undone first; the same one again changes nothing.
        """
        if self._moving is None:
            return alert
        if is_it:
            self._answered(verdict)
            if alert.verdict == verdict:
                return alert
            returned = self._give_back(alert.raised, alert.returned, verdict == "real")
            return replace(alert, verdict=verdict, returned=returned)
        for place, one in enumerate(self.past):
            if one.alert_id == alert_id:
                self._answered(verdict)
                if one.verdict != verdict:
                    returned = self._give_back(one.raised, one.returned, verdict == "real")
                    judged = replace(one, verdict=verdict, returned=returned)
                    self.past = kept((*self.past[:place], judged, *self.past[place + 1 :]))
                return alert
        self.ignored += 1
        return alert

    @staticmethod
    def _counts(alert: AlertState) -> bool:
        """Tell whether an open alert puts the level up."""
        return alert.like is None and alert.verdict != "real"

    def _counted(self, alert: AlertState) -> AlertState:
        """Put the level up for an alert that people are told of."""
        self._since_heard(min(self.unheard + 1, PATIENCE))
        return self._rise(alert, 1)

    def _answered(self, verdict: Answer | None) -> None:
        if verdict is not None:
            self._since_heard(0)

    def _since_heard(self, alerts: int) -> None:
        """Set the speed of falling; the next rung down is at least a row away."""
        self.unheard = alerts
        if self._moving is not None:
            self.quiet = min(self.quiet, self._moving.fall_after(alerts) - 1)

    def _rise(self, alert: AlertState, times: int) -> AlertState:
        if self._moving is None:
            return alert
        before, self.rung = self.rung, min(self.rung + times * self._moving.rise, self._top)
        return replace(alert, raised=alert.raised + self.rung - before)

    def _give_back(self, raised: int, returned: int, real: bool) -> int:
        """Take back what was ``returned``, then return what was ``raised`` where the alert is ``real``, as far as the
        ladder goes. Return how much that was."""
        self.rung = min(self.rung + returned, self._top)
        returning = min(raised, self.rung) if real else 0
        self.rung -= returning
        return returning
