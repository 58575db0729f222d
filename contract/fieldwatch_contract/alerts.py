"""When scores become an alert: persistence before it opens, hysteresis before it ends.

One rule for both sides. The agent raises alerts with it; the trainer counts with it how many episodes a threshold
would have raised, so the false-alarm budget speaks of the alerts that people will really get.

1. An alert opens when ``persistence`` judged rows in a row reach the threshold.
2. It lives until ``resolve_after`` judged rows in a row stay below ``clear_ratio`` × threshold.
3. It is updated when the peak grows by half since it was last told, so a worsening fault is news and a steady one
   is not.
4. Rows with verdict ``unknown`` neither open nor end anything: silence proves nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fieldwatch_contract import clock
from fieldwatch_contract.verdicts import Kind

WORSE = 1.5
"""An update is due when the peak reaches this multiple of the last one told."""

Transition = Literal["opened", "updated", "resolved"]


class AlertRule(BaseModel):
    """Persistence and hysteresis of one model, part of the bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    persistence: int = Field(default=3, ge=1)
    clear_ratio: float = Field(default=0.8, gt=0, le=1)
    resolve_after: int = Field(default=10, ge=1)


def alert_id(device: str, model: str, opened: int) -> str:
    """Return the id of the alert that ``model`` opened on ``device`` at ``opened`` (µs).

    A function of the log alone, so a journal that was lost finds the same alert again. The device is part of it and
    known to the reader from the topic, so no device can speak of another one's alert.
    """
    return hashlib.sha256(f"{device}\0{model}\0{clock.iso(opened)}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class AlertState:
    """Where one model's alert stands after a row; a plain value, kept in the journal.

    ``above`` and ``below`` count judged rows in a row; ``opened`` and ``ts`` are µs, ``opened`` None when no alert
    is open; ``peak`` and ``told`` are scores. ``kind`` and ``threshold`` are the model's while an alert is open: a
    later bundle may not have it any more, and must still be able to tell of its end.
    """

    above: int = 0
    below: int = 0
    first_above: int | None = None
    opened: int | None = None
    peak: float = 0.0
    told: float = 0.0
    rows: int = 0
    kind: Kind | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Change:
    """A transition at row ``index`` of the block, with the state after it."""

    index: int
    transition: Transition
    state: AlertState


def advance(
    rule: AlertRule,
    threshold: float,
    state: AlertState,
    ts: NDArray[np.int64],
    score: NDArray[np.float32],
    judged: NDArray[np.bool_],
) -> tuple[AlertState, list[Change]]:
    """Carry ``state`` over a block of rows and return the new state and the transitions in order.

    All arrays have shape ``[n]``; ``ts`` in µs; ``judged`` is False for missing rows and verdict ``unknown``. The
    result does not depend on how rows are cut into blocks. The ``opened`` time is that of the first row of the run
    that opened the alert, so a replay finds the same alert.
    """
    changes: list[Change] = []
    values = score.astype(np.float64)
    judged = judged & ~np.isnan(values)
    clear = threshold * rule.clear_ratio
    if state.opened is None and not (judged & (values >= threshold)).any():
        return (state if not judged.any() else AlertState()), changes
    for index in np.flatnonzero(judged).tolist():
        value = float(values[index])
        high = value >= threshold
        if state.opened is None:
            if not high:
                state = AlertState()
                continue
            state = replace(
                state,
                above=state.above + 1,
                first_above=int(ts[index]) if state.first_above is None else state.first_above,
                peak=max(state.peak, value),
                rows=state.rows + 1,
            )
            if state.above >= rule.persistence:
                state = replace(state, opened=state.first_above, told=state.peak, below=0)
                changes.append(Change(index, "opened", state))
            continue
        state = replace(
            state,
            below=state.below + 1 if value < clear else 0,
            peak=max(state.peak, value),
            rows=state.rows + (1 if high else 0),
        )
        if state.below >= rule.resolve_after:
            changes.append(Change(index, "resolved", state))
            state = AlertState()
        elif state.peak >= WORSE * state.told:
            state = replace(state, told=state.peak)
            changes.append(Change(index, "updated", state))
    return state, changes


def episodes(
    rule: AlertRule,
    threshold: float,
    ts: NDArray[np.int64],
    score: NDArray[np.float32],
    judged: NDArray[np.bool_],
) -> list[tuple[int, int]]:
    """Return the alerts of a whole history as pairs of row indices: opened at, last row (inclusive)."""
    _, changes = advance(rule, threshold, AlertState(), ts, score, judged)
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
