"""How often would this have fired? The alert rule over a past, with or without people who answer.

One pure function of rows for everybody who asks: ``backtest`` of agent and trainer, the budget that training keeps,
the benchmark. It raises alerts by :func:`.fold.advance`, which is what the device does, from the state of a device
without history.

People are simulated where the caller knows what was true: each alert that people are told of gets its verdict
:attr:`Answers.after` µs after it opened, from what was known then. Look-alikes of dismissed alerts are raised, marked,
and nobody is told, so they get no verdict and :attr:`Fired.told` is None, until they grow beyond what they are like.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fieldwatch_contract.alerts import Change, Rule, RuleState, Said, alert_id
from fieldwatch_contract.clock import DAY, MINUTE
from fieldwatch_contract.fold import Explain, advance
from fieldwatch_contract.likeness import Answer

ANSWERED = re.compile(r"labels:([1-9][0-9]{0,6})([mhd])")


FACTORS = (0.125, 0.25, 0.5, 2.0, 4.0)
"""Multiples of a bundle's budget that are tried beside it: the trade between alerts and what they find."""


@dataclass(frozen=True)
class Answers:
    """People who answer each alert ``after`` µs with ``say(opened, until)``: of the span, in µs, in which it was open.

    None means that they say nothing.
    """

    after: int
    say: Callable[[int, int], Answer | None]


@dataclass(frozen=True)
class Fired:
    """An alert of a back-test; rows are counted over all that was fed.

    ``opened_at`` is its identity, the time (µs) of the first row of the run that opened it; ``first`` the row that
    opened it, ``last`` the last one in which it was open; ``ended_at`` µs, None where it still was at the end.
    ``told``: the row from which people are told, None for a look-alike. ``like``: id of the dismissed alert that it
    resembled when it opened. ``sums`` float64 ``[S]``: what the sensors contributed since it began.
    """

    alert_id: str
    opened_at: int
    first: int
    last: int
    ended_at: int | None
    level: float
    peak: float
    like: str | None
    told: int | None
    sums: NDArray[np.float64]


def with_budget(rule: Rule, factor: float) -> Rule:
    """Return ``rule`` with ``factor`` times its budget: its level falls faster. A fixed threshold is lower instead."""
    moving = rule.moving
    if factor == 1.0:
        return rule
    if moving is None:
        return replace(rule, threshold=rule.threshold * factor**-0.5)
    slow = moving.fall if moving.fall_unanswered is None else moving.fall_unanswered
    changed = {"fall": max(1, round(moving.fall / factor)), "fall_unanswered": max(1, round(slow / factor))}
    return replace(rule, level=moving.model_copy(update=changed))


def answered_after(text: str) -> int | None:
    """Return after how many µs people answer: None for ``none``, else the time of ``labels:8h``.

    Raises :class:`ValueError` for anything else, with what would be right.
    """
    if text == "none":
        return None
    found = ANSWERED.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} must be none, or labels: and a time: labels:8h, labels:90m, labels:1d")
    return int(found[1]) * {"m": MINUTE, "h": 60 * MINUTE, "d": DAY}[found[2]]


class Backtest:
    """Folds the rows of one device and model; :meth:`feed` takes them in blocks of any size, with the same result."""

    def __init__(self, rule: Rule, answers: Answers | None = None) -> None:
        self._rule, self._answers = rule, answers
        self.state: RuleState = rule.start()
        self._rows = 0
        self._done: list[Fired] = []
        self._open: Fired | None = None
        self._due: list[tuple[int, Fired]] = []
        self._newest = 0

    def feed(
        self, ts: NDArray[np.int64], score: NDArray[np.float32], judged: NDArray[np.bool_], explain: Explain
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Fold a block as :func:`.fold.advance` does; return its levels and the opening time of each row's alert."""
        levels, opened = np.empty(len(ts)), np.full(len(ts), -1, np.int64)
        start = 0
        while start < len(ts):
            said = self._answered(int(ts[start]))
            stop = self._until(ts, start)
            part = slice(start, stop)

            def explained(rows: NDArray[np.int64], before: int = start) -> NDArray[np.float32]:
                return explain(rows + before)

            folded = advance(self._rule, self.state, ts[part], score[part], judged[part], explained, said)
            self.state, levels[part], opened[part] = folded.state, folded.level, folded.opened
            for change in folded.changes:
                self._take(change, int(ts[start + change.index]))
            self._rows += stop - start
            self._newest = int(ts[stop - 1])
            if self._open is not None:
                self._open = self._renewed(self._open)
            start = stop
        return levels, opened

    @property
    def fired(self) -> list[Fired]:
        """The alerts so far, in order, with the one that is open."""
        return [*self._done, self._open] if self._open is not None else list(self._done)

    def _until(self, ts: NDArray[np.int64], start: int) -> int:
        """Return where to stop: the next answer may be due there."""
        if self._answers is None:
            return len(ts)
        due = int(ts[start]) + max(self._answers.after, 1)
        due = min([due, *(when for when, _ in self._due)])
        return max(start + 1, int(np.searchsorted(ts, due)))

    def _answered(self, now: int) -> list[Said]:
        """Return the answers that are given before the row at ``now``."""
        if self._answers is None:
            return []
        said, waiting = [], []
        for due, fired in self._due:
            if due > now:
                waiting.append((due, fired))
                continue
            known = next((one for one in reversed(self.fired) if one.alert_id == fired.alert_id), fired)
            until = due if known.ended_at is None else min(due, known.ended_at)
            verdict = self._answers.say(known.opened_at, until)
            if verdict is not None:
                said.append(Said(fired.alert_id, self._rule.model, verdict, max(due, self._newest + 1)))
        self._due = waiting
        return said

    def _take(self, change: Change, time: int) -> None:
        row, state = self._rows + change.index, change.state
        if change.transition == "opened":
            opened = state.opened or time
            found = Fired(
                alert_id(self._rule.device, self._rule.model, opened),
                opened, row, row, None, self._level(state.level), state.peak, state.like,
                None if state.like is not None else row, np.array(state.sums),
            )  # fmt: skip
            self._open = found
        elif self._open is not None:
            grown = self._open.told is None and state.like is None
            self._open = replace(
                self._open, last=row, peak=state.peak, sums=np.array(state.sums), told=row if grown else self._open.told
            )
        if self._open is None:
            return
        if self._answers is not None and self._open.told == row:
            self._due.append((time + self._answers.after, self._open))
        if change.transition == "resolved":
            self._done.append(replace(self._open, ended_at=time))
            self._open = None

    def _renewed(self, fired: Fired) -> Fired:
        alert = self.state.alert
        return replace(fired, last=self._rows - 1, peak=alert.peak, sums=np.array(alert.sums))

    def _level(self, level: float | None) -> float:
        return self._rule.threshold if level is None else level
