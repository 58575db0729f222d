"""The alert rule: persistence (debouncing) before an alert opens, hysteresis before it is resolved, a level that moves.

One rule for all sides: the agent raises alerts with it, ``replay`` and ``backtest`` repeat it, and the trainer chooses
thresholds by it, so the false-alarm budget refers to the alerts that people will really get.

1. An alert opens when ``persistence`` consecutive judged rows reach the level in force (:mod:`.level`).
2. It is resolved when ``resolve_after`` consecutive judged rows stay below ``clear_ratio`` × the level at which it
   opened: a level that rises meanwhile must not end it.
3. It is updated when the peak has grown by half since it was last reported: a worsening fault is reported again, a
   steady one is not.
4. Rows with verdict ``unknown`` neither open nor resolve anything, and count nowhere: no data proves nothing.
5. What people said of alerts moves the level from the row on from which it holds, within the bounds of the bundle.

The rule is a fold over rows and verdicts (:func:`.fold.advance`); here are its inputs, its state and what it gives, all
plain values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fieldwatch_contract import clock
from fieldwatch_contract.level import PATIENCE, AtBound, LevelRule
from fieldwatch_contract.likeness import Answer, PastAlert
from fieldwatch_contract.verdicts import Kind

if TYPE_CHECKING:
    from fieldwatch_contract.bundle import ModelSpec

WORSE = 1.5
"""An update is due when the peak reaches this multiple of the last reported one."""

Transition = Literal["opened", "updated", "resolved"]


class AlertRule(BaseModel):
    """Persistence and hysteresis of one model, part of the bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    persistence: int = Field(default=3, ge=1)
    clear_ratio: float = Field(default=0.8, gt=0, le=1)
    resolve_after: int = Field(default=10, ge=1)


@dataclass(frozen=True)
class Rule:
    """What a bundle says of the alerts of one model, on one device. Without ``level`` the threshold is fixed."""

    device: str
    model: str
    kind: Kind
    threshold: float
    alert: AlertRule
    level: LevelRule | None = None

    @classmethod
    def of(cls, device: str, spec: ModelSpec) -> Rule:
        """Return the rule of a bundle's model."""
        return cls(device, spec.name, spec.kind, spec.threshold, spec.alert, spec.level)

    @property
    def moving(self) -> LevelRule | None:
        """How the level moves; None where it is the bundle's threshold for ever."""
        return self.level if self.level is not None and self.level.adapt else None

    def start(self) -> RuleState:
        """Return the state before the first row."""
        return RuleState(rung=self.moving.start if self.moving is not None else 0)

    def level_at(self, state: RuleState) -> float:
        """Return the level in force: what a score must reach for an alert."""
        return self.moving.ladder[state.rung] if self.moving is not None else self.threshold

    def at_bound(self, state: RuleState) -> AtBound:
        """Tell at which end of its ladder the level is."""
        return self.moving.at_bound(state.rung) if self.moving is not None else ""


@dataclass(frozen=True)
class Said:
    """What a person said of an alert; None: nothing any more (withdrawn). It holds for rows from ``since`` (µs) on."""

    alert_id: str
    model: str
    verdict: Answer | None
    since: int


def alert_id(device: str, model: str, opened: int) -> str:
    """Return the id of the alert that ``model`` opened on ``device`` at ``opened`` (µs).

    A function of the log alone, so a lost journal recomputes the same id. It includes the device, which the receiver
    knows from the topic, so no device can report on another one's alert.
    """
    return hashlib.sha256(f"{device}\0{model}\0{clock.iso(opened)}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class AlertState:
    """The state of one model's alert after a row.

    ``above`` and ``below`` count consecutive judged rows; ``first_above`` and ``opened`` are µs, ``opened`` None when
    no alert is open; ``peak`` is the highest score, ``told`` the peak last reported; ``rows`` reached the level, and
    ``sums`` (length S, or empty) is what the sensors contributed in them. ``kind`` and ``threshold`` are the model's
    while an alert is open: a later bundle may lack that model and must still be able to resolve the alert. ``level``:
    the one at which it opened. ``like``: id of the dismissed alert that it resembles, while its peak does not exceed
    ``like_limit``. ``raised``: rungs that it put on, ``returned``: of them, given back by ``verdict``; ``held``: judged
    rows since it last put on some. Not ``announced``: it was found open when a bundle was taken up, and is reported
    with the next row.
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
    level: float | None = None
    sums: tuple[float, ...] = ()
    like: str | None = None
    like_limit: float = 0.0
    raised: int = 0
    returned: int = 0
    held: int = 0
    verdict: Answer | None = None
    announced: bool = True


@dataclass(frozen=True)
class RuleState:
    """The rule's state after a row; kept in the journal.

    ``rung`` of the ladder; ``quiet``: judged rows without an open alert since it last fell; ``past``: alerts that have
    ended; ``upto``: µs of the last row, None before the first; ``ignored``: verdicts on alerts that are not known;
    ``unheard``: alerts since the last verdict, at most :data:`.level.PATIENCE`, as on a new device.
    """

    alert: AlertState = AlertState()
    rung: int = 0
    quiet: int = 0
    past: tuple[PastAlert, ...] = ()
    upto: int | None = None
    ignored: int = 0
    unheard: int = PATIENCE

    def to_dict(self) -> dict[str, Any]:
        """Return it in plain values, as the journal stores it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> RuleState:
        """Read what :meth:`to_dict` gave, also after it was JSON, or a state of before there were levels.

        Raises :class:`ValueError`, :class:`TypeError`, :class:`KeyError` or :class:`AttributeError` for anything else.
        """
        if "alert" not in value:
            return cls(alert=AlertState(**value))
        past = [
            PastAlert(**(one | {"signature": tuple((int(s), int(units)) for s, units in one["signature"])}))
            for one in value["past"]
        ]
        alert = AlertState(**(value["alert"] | {"sums": tuple(float(x) for x in value["alert"]["sums"])}))
        return cls(**(dict(value) | {"alert": alert, "past": tuple(past)}))


@dataclass(frozen=True)
class Change:
    """A transition at row ``index`` of the block, with the alert's state after it and the bound the level is at."""

    index: int
    transition: Transition
    state: AlertState
    at_bound: AtBound = ""
