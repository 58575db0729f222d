"""The alert rule as a fold: rows and verdicts in, transitions and a new state out (the rule: :mod:`.alerts`).

Rows may come in blocks of any size, with the same bits. Where nothing happens a row costs no work of its own: the fold
jumps from event to event (an opening, an update, an end, a verdict) and does the arithmetic in between on whole arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fieldwatch_contract.alerts import (
    WORSE,
    AlertRule,
    AlertState,
    Change,
    Rule,
    RuleState,
    Said,
    Transition,
    alert_id,
)
from fieldwatch_contract.budget import Budget

CHUNK = 4096
"""Rows looked at together; bounds the work beyond the next event, no effect on any bit."""

Explain = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Row indices ``[k]`` of a block → contributions float32 ``[k, S]``."""


@dataclass(frozen=True)
class Folded:
    """What a block of ``n`` rows gave.

    ``level`` float64 ``[n]``: what a row was compared with, or what a new alert would have needed while one is open.
    ``opened`` int64 ``[n]``: opening time (µs) of the alert that is open after the row, -1 where none is.
    """

    state: RuleState
    changes: list[Change]
    level: NDArray[np.float64]
    opened: NDArray[np.int64]


def advance(
    rule: Rule,
    state: RuleState,
    ts: NDArray[np.int64],
    score: NDArray[np.float32],
    judged: NDArray[np.bool_],
    explain: Explain,
    said: Sequence[Said] = (),
) -> Folded:
    """Carry ``state`` over a block of rows.

    All arrays have shape ``[n]``; ``ts`` in µs, rising; ``judged`` is False for missing rows and verdict ``unknown``.
    ``explain`` is called only for rows that belong to an alert or may begin one. ``said``: verdicts in order; of this
    model those count whose ``since`` lies after the last row of ``state`` and not after the last one of the block, each
    before the first row from which it holds. So all that was ever said may be given each time. Rows up to the last one
    of ``state`` count for nothing: a row that is read again is not folded again.

    The result does not depend on how rows are split into blocks. An alert's ``opened`` is the time of the first row of
    the run that opened it, so a replay gives the same alert.
    """
    return _Fold(rule, state, ts, score, judged, explain).run(said)


class _Fold:
    """The fold over one block: the alert's life. What moves the level is :class:`.budget.Budget`'s."""

    def __init__(
        self,
        rule: Rule,
        state: RuleState,
        ts: NDArray[np.int64],
        score: NDArray[np.float32],
        judged: NDArray[np.bool_],
        explain: Explain,
    ) -> None:
        values = score.astype(np.float64)
        self._rule, self._ts, self._upto = rule, ts, state.upto
        if state.upto is not None:
            judged = judged & (ts > state.upto)
        self._at = np.flatnonzero(judged & ~np.isnan(values))  # the rows that count
        self._values = values[self._at]
        self._explain = explain
        self._budget = Budget(rule, state)
        self._alert, self._sums = state.alert, np.array(state.alert.sums)
        self._changes: list[Change] = []
        self._rungs = np.zeros(len(ts), np.int64)
        self._opened = np.full(len(ts), -1, np.int64)

    def run(self, said: Sequence[Said]) -> Folded:
        """Fold the whole block."""
        if not len(self._ts):
            return self._folded(self._upto)
        row, last = 0, int(self._ts[-1])
        for each in said:
            if (
                each.model == self._rule.model
                and (self._upto is None or each.since > self._upto)
                and each.since <= last
            ):
                stop = max(row, int(np.searchsorted(self._ts, each.since)))
                self._rows(row, stop)
                row = stop
                self._hear(each)
        self._rows(row, len(self._ts))
        return self._folded(last if self._upto is None else max(last, self._upto))

    def _folded(self, upto: int | None) -> Folded:
        budget = self._budget
        state = RuleState(
            self._snapshot(), budget.rung, budget.quiet, budget.past, upto, budget.ignored, budget.unheard
        )
        return Folded(state, self._changes, budget.levels[self._rungs], self._opened)

    def _hear(self, said: Said) -> None:
        is_it = self._alert.opened is not None and self._id() == said.alert_id
        self._alert = self._budget.heard(self._alert, is_it, said.alert_id, said.verdict)

    def _rows(self, start: int, stop: int) -> None:
        """Fold rows ``start`` to ``stop`` of the block, between which nobody said anything."""
        if stop <= start:
            return
        first, last = np.searchsorted(self._at, (start, stop)).tolist()
        before = np.empty(last - first + 1, np.int64)  # the rung that each judged row finds, and the one after them
        after = np.empty(last - first + 1, np.int64)  # the alert open before the first and after each judged row
        after[0] = self._open_since
        place = first
        while place < last:
            was_open = self._open_since
            scores = self._values[place : min(place + CHUNK, last)]
            rungs = self._closed(place, scores) if was_open < 0 else self._open(place, scores)
            done = place + len(rungs)
            before[place - first : done - first] = rungs
            after[place - first + 1 : done - first] = was_open
            after[done - first] = self._open_since
            place = done
        before[-1] = self._budget.rung
        rows, counted = np.arange(start, stop), self._at[first:last]
        self._rungs[start:stop] = before[np.searchsorted(counted, rows)]
        self._opened[start:stop] = after[np.searchsorted(counted, rows, side="right")]

    @property
    def _open_since(self) -> int:
        return -1 if self._alert.opened is None else self._alert.opened

    def _closed(self, place: int, scores: NDArray[np.float64]) -> NDArray[np.int64]:
        """Go on, while no alert is open, to the row that opens one or to the end; return the rung each row finds."""
        rungs = self._budget.while_quiet(len(scores))
        levels = self._budget.levels[rungs]
        run = _run(scores >= levels, self._alert.above)
        opening = np.flatnonzero(run >= self._rule.alert.persistence)
        count = int(opening[0]) + 1 if len(opening) else len(scores)
        self._budget.quiet_rows(count)
        self._alert = self._counted(place, scores[:count], int(run[count - 1]))
        if len(opening):
            self._begin(place + count - 1, float(levels[count - 1]))
        return rungs[:count]

    def _counted(self, place: int, scores: NDArray[np.float64], above: int) -> AlertState:
        """Return the state after rows of which the last ``above``, or all and some before them, reach their level."""
        mine = min(above, len(scores))
        alert = self._alert
        if above == mine:  # no row before these belongs to the run
            alert, self._sums = AlertState(), np.empty(0)
        if not above:
            return alert
        rows = self._at[place + len(scores) - mine : place + len(scores)]
        self._add(rows)
        return replace(
            alert,
            above=above,
            first_above=int(self._ts[rows[0]]) if alert.first_above is None else alert.first_above,
            peak=max(alert.peak, float(scores[-mine:].max())),
            rows=above,
        )

    def _begin(self, place: int, level: float) -> None:
        """Open the alert."""
        alert, rule = self._alert, self._rule
        alert = replace(
            alert,
            opened=alert.first_above,
            told=alert.peak,
            kind=rule.kind,
            threshold=rule.threshold,
            level=level,
        )
        self._alert = self._budget.opened(alert, self._sums)
        self._tell(place, "opened")

    def _open(self, place: int, scores: NDArray[np.float64]) -> NDArray[np.int64]:
        """Go on, while the alert is open, to the next event or to the end; return the rung that each row finds."""
        alert, rule = self._alert, self._rule.alert
        level = self._rule.threshold if alert.level is None else alert.level
        run = _run(scores < level * rule.clear_ratio, alert.below)
        peaks = np.maximum(np.maximum.accumulate(scores), alert.peak)
        event = (run >= rule.resolve_after) | ((peaks >= WORSE * alert.told) & (peaks > alert.told))
        if alert.like is not None:
            event |= peaks > alert.like_limit
        event[0] |= not alert.announced
        found = np.flatnonzero(event)
        count = int(found[0]) + 1 if len(found) else len(scores)
        high = np.flatnonzero(scores[:count] >= level)
        self._add(self._at[place + high])
        alert, rungs = self._budget.open_rows(alert, count)
        last = count - 1
        self._alert = replace(alert, below=int(run[last]), peak=float(peaks[last]), rows=alert.rows + len(high))
        if len(found):
            self._event(place + last)
        return rungs

    def _event(self, place: int) -> None:
        """What the last row brought: the alert's end, or that it must be reported (again)."""
        alert = self._alert
        if alert.below >= self._rule.alert.resolve_after:
            if alert.announced:
                self._tell(place, "resolved")
            self._budget.ended(alert, self._id(), self._sums)
            self._alert, self._sums = AlertState(), np.empty(0)
            return
        self._alert = replace(self._budget.grown(alert), told=alert.peak, announced=True)
        self._tell(place, "updated" if alert.announced else "opened")

    def _add(self, rows: NDArray[np.int64]) -> None:
        """Add what the sensors contributed in ``rows``, one after the other: sums of another order have other bits."""
        if len(rows):
            more = self._explain(rows).astype(np.float64)
            start = self._sums if self._sums.shape == more.shape[1:] else np.zeros(more.shape[1])
            self._sums = np.cumsum(np.concatenate((start[None, :], more)), axis=0)[-1]

    def _id(self) -> str:
        return alert_id(self._rule.device, self._rule.model, self._open_since)

    def _snapshot(self) -> AlertState:
        return replace(self._alert, sums=tuple(self._sums.tolist()))

    def _tell(self, place: int, transition: Transition) -> None:
        self._changes.append(Change(int(self._at[place]), transition, self._snapshot(), self._budget.at_bound))


def _run(rows: NDArray[np.bool_], before: int) -> NDArray[np.int64]:
    """Return at each row how many consecutive True end with it; ``before``: how many precede the first."""
    each = np.arange(len(rows))
    return np.asarray(each - np.maximum.accumulate(np.where(rows, -1 - before, each)))


def episodes(
    rule: AlertRule,
    threshold: float,
    ts: NDArray[np.int64],
    score: NDArray[np.float32],
    judged: NDArray[np.bool_],
) -> list[tuple[int, int]]:
    """Return the alerts of a whole history at a fixed threshold, as pairs of rows: opening row and last row."""
    fixed = Rule("", "", "detector", threshold, rule)
    changes = advance(fixed, fixed.start(), ts, score, judged, unexplained).changes
    result: list[tuple[int, int]] = []
    start: int | None = None
    for change in changes:
        if change.transition == "opened":
            start = change.index
        elif change.transition == "resolved" and start is not None:
            result.append((start, change.index))
            start = None
    if start is not None:
        result.append((start, len(ts) - 1))
    return result


def unexplained(rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Explain nothing: for counting alerts that nobody is told of."""
    return np.zeros((len(rows), 0), np.float32)
