"""The alert rule: persistence (debouncing) before an alert opens, hysteresis before it is resolved.

One rule for both sides. The agent raises alerts with it; the trainer uses it to count how many alerts a threshold would
have raised, so the false-alarm budget refers to the alerts that people will really get.

1. An alert opens when ``persistence`` consecutive judged rows reach the threshold.
2. It is resolved when ``resolve_after`` consecutive judged rows stay below ``clear_ratio`` × threshold.
3. It is updated when the peak has grown by half since it was last reported: a worsening fault is reported again, a
   steady one is not.
4. Rows with verdict ``unknown`` neither open nor resolve anything: no data proves nothing.
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
"""An update is due when the peak reaches this multiple of the last reported one."""

Transition = Literal["opened", "updated", "resolved"]


class AlertRule(BaseModel):
    """Persistence and hysteresis of one model, part of the bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    persistence: int = Field(default=3, ge=1)
    clear_ratio: float = Field(default=0.8, gt=0, le=1)
    resolve_after: int = Field(default=10, ge=1)


def alert_id(device: str, model: str, opened: int) -> str:
    """Return the id of the alert that ``model`` opened on ``device`` at ``opened`` (µs).

    A function of the log alone, so a lost journal recomputes the same id. It includes the device, which the receiver
    knows from the topic, so no device can report on another one's alert.
    """
    return hashlib.sha256(f"{device}\0{model}\0{clock.iso(opened)}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class AlertState:
    """The state of one model's alert after a row; a plain value, kept in the journal.

    ``above`` and ``below`` count consecutive judged rows; ``first_above`` and ``opened`` are µs, ``opened`` None when
    no alert is open; ``peak`` is the highest score, ``told`` the peak last reported. ``kind`` and ``threshold`` are the
    model's while an alert is open: a later bundle may lack that model and must still be able to resolve the alert.
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
    result does not depend on how rows are split into blocks. ``opened`` is the time of the first row of the run that
    opened the alert, so a replay gives the same alert.
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
    """Return the alerts of a whole history as pairs of row indices: opening row and last row (inclusive)."""
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
