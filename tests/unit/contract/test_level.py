"""The level: how it moves, that it stays between its bounds, and that neither blocks nor kills leave a trace.

``Oracle`` is the rule once more, row by row, in plain Python: the fold must say the same however rows are cut.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace

import hypothesis
import numpy as np
import pytest
from fieldwatch_contract.alerts import WORSE, AlertRule, AlertState, Rule, RuleState, Said, alert_id
from fieldwatch_contract.fold import Folded, advance
from fieldwatch_contract.level import PATIENCE, LevelRule
from fieldwatch_contract.likeness import JUDGED_KEPT, STRONGER, UNJUDGED_KEPT, Answer
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numpy.typing import NDArray
from pydantic import ValidationError

DEVICE = "press-0001"
MINUTE = 60_000_000
LADDER = tuple(2.0**step for step in range(-3, 6))
ALERT = AlertRule(persistence=2, clear_ratio=0.5, resolve_after=3)
LEVEL = LevelRule(ladder=LADDER, start=3, rise=2, hold=4, fall=5, like=0.9)
SENSORS = 3


def made(level: LevelRule | None = LEVEL, alert: AlertRule = ALERT, threshold: float = 1.0) -> Rule:
    return Rule(DEVICE, "detector", "detector", threshold, alert, level)


@dataclass(frozen=True)
class Rows:
    """Rows from ``start`` on: ``score`` NaN is a row that nobody judges; ``sensor`` is what contributes."""

    start: int
    score: NDArray[np.float32]
    sensor: NDArray[np.int64]

    @property
    def ts(self) -> NDArray[np.int64]:
        return (self.start + np.arange(len(self.score))) * MINUTE

    def __getitem__(self, cut: slice) -> Rows:
        return Rows(self.start + cut.start, self.score[cut], self.sensor[cut])

    def explain(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        found = np.zeros((len(rows), SENSORS), np.float32)
        found[np.arange(len(rows)), self.sensor[rows]] = self.score[rows]
        return found

    def fold(self, given: Rule, state: RuleState, said: list[Said] | tuple[Said, ...] = ()) -> Folded:
        return advance(given, state, self.ts, self.score, ~np.isnan(self.score), self.explain, said)


def rows(scores: list[float], sensor: int | list[int] = 0, start: int = 1) -> Rows:
    return Rows(start, np.array(scores, np.float32), np.zeros(len(scores), np.int64) + sensor)


def id_at(row: int) -> str:
    """Id of the alert whose run began at ``row``."""
    return alert_id(DEVICE, "detector", row * MINUTE)


def said(row: int, verdict: Answer | None, since: int) -> Said:
    return Said(id_at(row), "detector", verdict, since * MINUTE)


NAN = float("nan")
OPENS, ENDS = [90.0, 90.0], [0.0, 0.0, 0.0]


# ---- how it moves --------------------------------------------------------------------------------------------------


def test_an_opening_puts_the_level_up_and_quiet_rows_put_it_down() -> None:
    done = rows([*OPENS, *ENDS, *[0.0] * 20]).fold(made(), made().start())
    assert done.level[0] == LADDER[3] and done.level[2] == LADDER[5]
    falls = np.flatnonzero(np.diff(done.level) < 0)
    assert len(falls) == 4 and set(np.diff(falls)) == {5}
    assert done.state.rung == 5 - 4


def test_each_hold_that_an_alert_stays_open_puts_it_up_again_until_the_end_of_the_ladder() -> None:
    done = rows([90.0] * 40).fold(made(), made().start())
    assert done.level.tolist()[:11] == [LADDER[r] for r in (3, 3, 5, 5, 5, 5, 7, 7, 7, 7, 8)]
    assert made().at_bound(done.state) == "highest"
    assert done.changes[-1].transition == "opened", "the level passed its score and did not end it"
    assert done.opened[-1] == MINUTE


def test_the_clearing_level_is_the_one_at_opening() -> None:
    """Else a long fault would resolve itself as the level rises."""
    done = rows([1.0, 1.0, *[0.6] * 50]).fold(made(), made().start())
    assert [change.transition for change in done.changes] == ["opened"]
    assert done.state.alert.level == 1.0


def test_rows_that_nobody_judges_move_nothing() -> None:
    """A device that was off does not decay."""
    done = rows([NAN] * 1000).fold(made(), made().start())
    assert done.state == replace(made().start(), upto=1000 * MINUTE)


def test_a_quiet_device_ends_at_the_lowest_level_and_says_so() -> None:
    done = rows([0.0] * 100).fold(made(), made().start())
    assert done.state.rung == 0 and made().at_bound(done.state) == "lowest"
    assert rows([0.2, 0.2], start=101).fold(made(), done.state).changes[0].at_bound == ""


def test_an_alert_carries_its_level_and_what_each_sensor_contributed_since_it_began() -> None:
    whole = rows([2.0, 3.0, 0.1, 5.0, 0.6, *ENDS], [0, 1, 2, 2, 0, 0, 0, 0])
    opened, updated, resolved = whole.fold(made(), made().start()).changes
    assert opened.state.level == 1.0
    assert opened.state.sums == (2.0, 3.0, 0.0)
    assert (updated.transition, updated.state.sums) == ("updated", (2.0, 3.0, 5.0))
    assert resolved.state.sums == (2.0, 3.0, 5.0), "rows below the level are no part of it"


def test_rows_are_explained_only_where_an_alert_can_open() -> None:
    asked: list[int] = []
    whole = rows([0.0, 5.0, 0.0, *OPENS, 0.7, *ENDS, 0.2])

    def explain(those: NDArray[np.int64]) -> NDArray[np.float32]:
        asked.extend(those.tolist())
        return whole.explain(those)

    advance(made(), made().start(), whole.ts, whole.score, np.ones(10, bool), explain)
    assert asked == [3, 4], "the lone peak came to nothing before anybody asked"


# ---- what people say ------------------------------------------------------------------------------------------------


def test_a_real_alert_gives_its_rise_back_and_a_withdrawn_verdict_takes_it_again() -> None:
    whole = rows([*OPENS, *ENDS, 0.0, 0.0, 0.0])
    done = whole.fold(made(), made().start(), [said(1, "real", 7), said(1, None, 8)])
    assert done.level.tolist()[5:] == [LADDER[5], LADDER[3], LADDER[5]]


def test_a_real_alert_that_is_open_puts_nothing_on_any_more() -> None:
    done = rows([90.0] * 40).fold(made(), made().start(), [said(1, "real", 4)])
    assert done.level.tolist()[3:] == [LADDER[3]] * 37


@pytest.mark.parametrize("until", [5, 9])
def test_the_same_verdict_again_changes_nothing(until: int) -> None:
    whole = rows([*OPENS, *ENDS, *[0.0] * 9])
    once = whole.fold(made(), made().start(), [said(1, "real", 4)])
    again = whole.fold(made(), made().start(), [said(1, "real", row) for row in range(4, until)])
    assert again.state == once.state


def test_a_verdict_on_an_alert_that_is_not_known_is_ignored_and_counted() -> None:
    done = rows([0.0] * 4).fold(made(), made().start(), [said(77, "real", 2), said(77, "false", 3)])
    assert done.state == replace(rows([0.0] * 4).fold(made(), made().start()).state, ignored=2)


def test_what_resembles_a_dismissed_alert_is_marked_and_does_not_move_the_level() -> None:
    whole = rows([*OPENS, *ENDS, *OPENS, *ENDS])
    done = whole.fold(made(), made().start(), [said(1, "false", 5)])
    assert [change.state.like for change in done.changes] == [None, None, id_at(1), id_at(1)]
    assert done.state.rung == 5


def test_other_sensors_or_a_much_higher_score_make_it_another_alert() -> None:
    answers = [said(1, "false", 5)]
    elsewhere = rows([*OPENS, *ENDS, *OPENS], [0] * 5 + [1, 1]).fold(made(), made().start(), answers)
    assert elsewhere.changes[-1].state.like is None and elsewhere.state.rung == 7
    higher = rows([*OPENS, *ENDS, 136.0, 136.0]).fold(made(), made().start(), answers)
    assert higher.changes[-1].state.like is None and higher.state.rung == 7


def test_a_look_alike_that_grows_beyond_what_was_dismissed_counts_and_is_reported() -> None:
    done = rows([*OPENS, *ENDS, *OPENS, 100.0, 136.0]).fold(made(), made().start(), [said(1, "false", 5)])
    assert [change.transition for change in done.changes[-2:]] == ["opened", "updated"]
    assert [change.state.like for change in done.changes[-2:]] == [id_at(1), None]
    assert done.state.rung == 7


def test_of_similar_alerts_the_most_similar_judged_one_decides() -> None:
    """Else a dismissed alert would hide a fault that a person has told from it."""
    whole = rows([*OPENS, *ENDS] * 3)
    done = whole.fold(made(), made().start(), [said(1, "false", 5), said(6, "real", 10)])
    assert [change.state.like for change in done.changes if change.transition == "opened"] == [None, id_at(1), None]


def test_a_withdrawn_dismissal_marks_nothing_any_more() -> None:
    whole = rows([*OPENS, *ENDS] * 2)
    done = whole.fold(made(), made().start(), [said(1, "false", 4), said(1, None, 5)])
    assert {change.state.like for change in done.changes} == {None}


def test_an_alert_that_nobody_judged_decides_nothing() -> None:
    """However similar: of what it was nobody knows."""
    one, other = [90.0, 60.0, 0.0, 0.0, 0.0], [90.0, 45.0, 0.0, 0.0, 0.0]
    whole = rows([*one, *other, *other], [0, 1, 0, 0, 0] * 3)
    done = whole.fold(made(), made().start(), [said(1, "false", 5)])
    assert [change.state.like for change in done.changes if change.transition == "opened"] == [
        None, id_at(1), id_at(1)
    ]  # fmt: skip


def test_what_comes_back_is_remembered_longest() -> None:
    """A job of each night must not be forgotten for the many alerts of one bad week."""
    alike, others = [0] * 5, [1] * 5
    whole = rows([*OPENS, *ENDS] * (JUDGED_KEPT + 2), [*alike, *others * 10, *alike, *others * (JUDGED_KEPT - 10)])
    verdicts = [said(1 + 5 * each, "false", 5 + 5 * each) for each in range(JUDGED_KEPT + 2)]
    level = LEVEL.model_copy(update={"like": 0.9, "rise": 0})
    past = whole.fold(made(level), made(level).start(), verdicts).state.past
    assert id_at(1) in {one.alert_id for one in past}


def test_a_row_or_verdict_that_comes_again_is_not_folded_again() -> None:
    whole = rows([*OPENS, *ENDS, 0.0, 0.0])
    answers = [said(1, "real", 3), said(77, "false", 4)]
    once = whole.fold(made(), made().start(), answers)
    again = whole.fold(made(), once.state, answers)
    assert (again.state, again.changes) == (once.state, [])
    more = rows([0.0], start=8).fold(made(), once.state, answers)
    assert more.state.ignored == 1


def test_what_is_given_back_ends_at_the_lowest_level_and_is_what_was_given() -> None:
    level = LEVEL.model_copy(update={"fall": 2, "fall_unanswered": None})
    whole = rows([*OPENS, *ENDS, *[0.0] * 7])
    quiet = whole.fold(made(level), made(level).start()).state
    assert 0 < quiet.rung < level.rise
    more = rows([0.0] * 2, start=13)
    back = more.fold(made(level), quiet, [said(1, "real", 13), said(1, None, 14)])
    assert back.level.tolist() == [LADDER[0], LADDER[quiet.rung]]


def test_past_alerts_are_bounded() -> None:
    level = LevelRule(ladder=LADDER, start=3, rise=0, like=None)
    whole = rows([*OPENS, *ENDS] * 99)
    dismissed = [said(1 + 5 * each, "false", 5 + 5 * each) for each in range(40)]
    past = whole.fold(made(level), made(level).start(), dismissed).state.past
    assert [one.verdict for one in past] == ["false"] * JUDGED_KEPT + [None] * UNJUDGED_KEPT


def test_the_level_falls_at_another_speed_while_nobody_answers() -> None:
    """A new device has heard nobody; three alerts in a row without a verdict, and nobody answers any more."""
    level = LEVEL.model_copy(update={"fall_unanswered": 2, "rise": 0, "start": 8})
    quiet, alert = [0.0] * 20, [*OPENS, *ENDS]

    def falls(scores: list[float], *answers: Said) -> int:
        """Return by how many rungs the last 20 rows put the level down."""
        done = rows(scores).fold(made(level), made(level).start(), answers)
        return LADDER.index(done.level[-20]) - done.state.rung

    assert falls(quiet) == 8, "to the lowest: a new device"
    assert falls([*alert, *quiet], said(1, "false", 5)) == 4
    assert falls([*alert, *quiet], said(1, "false", 5), said(1, None, 6)) == 4
    assert falls([*alert, *alert, *alert, *quiet], said(1, "real", 5)) == 4, "two may lie on a desk"
    assert falls([*alert, *alert, *alert, *alert, *quiet], said(1, "real", 5)) > 4
    assert falls([*alert, *quiet], said(77, "real", 5)) > 4, "an alert that nobody knows"


# ---- what a bundle may forbid --------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [None, LEVEL.model_copy(update={"adapt": False})])
def test_a_frozen_bundle_does_not_adapt(level: LevelRule | None) -> None:
    """Neither time nor alerts nor verdicts move it: the level is the bundle's threshold."""
    whole = rows([*[0.0] * 40, *OPENS, *[90.0] * 30, *ENDS, *OPENS, *ENDS])
    done = whole.fold(made(level), made(level).start(), [said(41, "false", 44), said(77, "real", 79)])
    assert set(done.level) == {1.0}
    assert done.state == RuleState(upto=len(whole.score) * MINUTE)
    assert made(level).at_bound(done.state) == ""
    assert {change.state.like for change in done.changes} == {None}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ladder": (1.0, 1.0)}, "must rise"),
        ({"ladder": (1.0, float("inf"))}, "finite"),
        ({"ladder": ()}, "at least 1"),
        ({"ladder": (1.0, 2.0), "start": 2}, "start is rung 2"),
    ],
)
def test_a_ladder_that_is_none_is_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        LevelRule.model_validate({"ladder": (1.0, 2.0, 3.0), "start": 1} | changes)


# ---- the oracle ----------------------------------------------------------------------------------------------------


Seen = tuple[int, str, float, str | None, str]
"""Of a transition: row, which it is, level at opening, what the alert is like, the bound at which the level is."""


@dataclass
class Oracle:
    """The rule row by row; what people can see: transitions with level, mark and bound, the rung after each row.

    And what is remembered of past alerts, for it decides what people will see.
    """

    given: Rule
    rung: int = field(init=False)
    quiet: int = 0
    unheard: int = PATIENCE
    above: list[tuple[int, float, int]] = field(default_factory=list)
    alert: dict[str, object] | None = None
    past: list[dict[str, object]] = field(default_factory=list)
    ignored: int = 0
    seen: list[Seen] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rung = self.level.start

    @property
    def level(self) -> LevelRule:
        assert self.given.level is not None
        return self.given.level

    @property
    def speed(self) -> int:
        return self.level.fall if self.unheard < PATIENCE else self.level.fall_unanswered or self.level.fall

    def heard(self, unheard: int) -> None:
        self.unheard = unheard
        self.quiet = min(self.quiet, self.speed - 1)

    def told(self) -> None:
        self.heard(min(self.unheard + 1, PATIENCE))
        self.rise()

    def rise(self) -> None:
        up = min(self.rung + self.level.rise, self.level.top)
        self.alert["raised"] += up - self.rung
        self.rung = up

    def hear(self, each: Said) -> None:
        if each.model != self.given.model:
            return
        known = ([self.alert] if self.alert else []) + self.past
        self.ignored += all(one["id"] != each.alert_id for one in known)
        for one in known:
            if one["id"] == each.alert_id and each.verdict is not None:
                self.heard(0)
            if one["id"] == each.alert_id and one["verdict"] != each.verdict:
                self.rung = min(self.rung + one["returned"], self.level.top)
                one["returned"] = min(one["raised"], self.rung) if each.verdict == "real" else 0
                self.rung -= one["returned"]
                one["verdict"] = each.verdict
        self.forget()

    def forget(self) -> None:
        """The oldest judged and the oldest unjudged ones, each beyond their number."""
        for judged, most in ((True, JUDGED_KEPT), (False, UNJUDGED_KEPT)):
            mine = [place for place, one in enumerate(self.past) if (one["verdict"] is not None) == judged]
            self.past = [one for place, one in enumerate(self.past) if place not in mine[:-most]]

    def see(self, number: int, transition: str) -> None:
        bound = {0: "lowest", self.level.top: "highest"}.get(self.rung, "")
        self.seen.append((number, transition, self.alert["level"], self.alert["like"], bound))

    def row(self, number: int, score: float, sensor: int) -> None:
        level = self.level.ladder[self.rung]
        if np.isnan(score):
            self.levels.append(level)
            return
        if self.alert is None:
            self.levels.append(level)
            self.above = [*self.above, (number, score, sensor)] if score >= level else []
            self.quiet += 1
            if self.quiet == self.speed:
                self.quiet, self.rung = 0, max(0, self.rung - 1)
            if len(self.above) == self.given.alert.persistence:
                self.begin(number, level)
            return
        self.levels.append(level)
        one = self.alert
        if one["like"] is None and one["verdict"] != "real":
            one["held"] += 1
            if one["held"] == self.level.hold:
                one["held"] = 0
                self.rise()
        one["low"] = one["low"] + 1 if score < one["level"] * self.given.alert.clear_ratio else 0
        one["peak"] = max(one["peak"], score)
        if score >= one["level"]:
            one["sums"][sensor] += score
        if one["low"] == self.given.alert.resolve_after:
            self.see(number, "resolved")
            self.past.append(one)
            self.alert, self.above = None, []
            self.forget()
            return
        grown = one["like"] is not None and one["peak"] > one["limit"]
        if grown:
            one["like"] = None
            if one["verdict"] != "real":
                self.told()
        if grown or (one["peak"] >= WORSE * one["told"] and one["peak"] > one["told"]):
            one["told"] = one["peak"]
            self.see(number, "updated")

    def begin(self, number: int, level: float) -> None:
        peak = max(score for _, score, _ in self.above)
        sums = np.zeros(SENSORS)
        for _, score, sensor in self.above:
            sums[sensor] += score
        self.alert = {
            "id": id_at(self.above[0][0]), "level": level, "peak": peak, "told": peak, "sums": sums, "low": 0,
            "held": 0, "raised": 0, "returned": 0, "verdict": None, "like": None,
        }  # fmt: skip
        judged = [one for one in self.past if one["verdict"] is not None]
        best = max(judged, key=lambda one: (cosine(one["sums"], sums), self.past.index(one)), default=None)
        if best is not None and self.level.like is not None and cosine(best["sums"], sums) >= self.level.like:
            self.past.remove(best)
            self.past.append(best)
            if best["verdict"] == "false" and peak <= STRONGER * best["peak"]:
                self.alert |= {"like": best["id"], "limit": STRONGER * best["peak"]}
        if self.alert["like"] is None:
            self.told()
        self.see(number, "opened")


def cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    units = [np.rint(each / each.max() * 100) for each in (one, other)]
    return float((units[0] * units[1]).sum() / np.sqrt((units[0] ** 2).sum() * (units[1] ** 2).sum()))


def watched(done: Folded, start: int) -> list[Seen]:
    return [
        (start + one.index, one.transition, one.state.level or 0.0, one.state.like, one.at_bound)
        for one in done.changes
    ]


scores = st.lists(st.sampled_from([NAN, 0.0, 0.1, 0.3, 0.7, 1.5, 3.0, 5.0, 9.0, 20.0, 90.0]), min_size=1, max_size=25)
heights = st.sampled_from([5.0, 9.0, 20.0, 30.0, 90.0])
patterns = st.sampled_from([(0,), (1,), (0, 1), (0, 0, 1), (2, 0, 0, 0)])
"""Which sensors contribute, row after row: alerts that are alike, nearly alike, and not."""
verdicts = st.sampled_from(["real", "false", None])
ENOUGH = 250
"""Rows after which no bad week comes any more: each step folds all of them again."""


class Device(RuleBasedStateMachine):
    """A device reads, people answer, the power fails: at each moment the state is that of one pass over all of it.

    Beside steps that come as they may stand a few that lead where chance seldom does: a verdict that gives back more
    than there is, or is withdrawn under the top of the ladder; a job that comes again; more alerts than are remembered.
    """

    def __init__(self) -> None:
        super().__init__()
        self.score: list[float] = []
        self.sensor: list[int] = []
        self.said: list[Said] = []
        self.watched: list[Seen] = []
        self.levels: list[float] = []

    @initialize(
        persistence=st.integers(1, 3), resolve_after=st.integers(1, 4), rise=st.integers(0, 10),
        hold=st.integers(1, 9), fall=st.integers(1, 9), start=st.integers(0, len(LADDER) - 1),
        unanswered=st.none() | st.integers(1, 9), like=st.sampled_from([None, 0.5, 0.7, 0.9, 1.0]),
    )  # fmt: skip
    def install(
        self, persistence: int, resolve_after: int, rise: int, hold: int, fall: int, start: int,
        unanswered: int | None, like: float | None,
    ) -> None:  # fmt: skip
        alert = AlertRule(persistence=persistence, clear_ratio=0.5, resolve_after=resolve_after)
        level = LevelRule(
            ladder=LADDER, start=start, rise=rise, hold=hold, fall=fall, fall_unanswered=unanswered, like=like
        )
        self.rule = made(level, alert)
        self.state = self.rule.start()
        self.oracle = Oracle(self.rule)
        self.heard = 0

    # ---- as it may come ----

    @rule(more=scores, pattern=patterns)
    def read(self, more: list[float], pattern: tuple[int, ...] = (0,)) -> None:
        """The next rows."""
        sensor = [pattern[place % len(pattern)] for place in range(len(more))]
        block = rows(more, sensor, len(self.score) + 1)
        done = block.fold(self.rule, self.state, self.said)
        self.state = done.state
        self.watched += watched(done, block.start)
        self.levels += done.level.tolist()
        for place, score in enumerate(more):
            number = block.start + place
            while self.heard < len(self.said) and self.said[self.heard].since <= number * MINUTE:
                self.oracle.hear(self.said[self.heard])
                self.heard += 1
            self.oracle.row(number, score, sensor[place])
        self.score += more
        self.sensor += sensor

    @rule(height=heights, length=st.integers(2, 9), pattern=patterns)
    def fail(self, height: float, length: int, pattern: tuple[int, ...]) -> None:
        """An alert from its opening to its end."""
        self.read([height] * length + [0.0] * 4, pattern)

    @rule(which=st.integers(0, 9), verdict=verdicts, later=st.integers(1, 12))
    def say(self, which: int, verdict: Answer | None, later: int) -> None:
        """Somebody judges one of the last alerts, for a row to come."""
        opened = [state for state in [self.state.alert] if state.opened is not None]
        ids = [alert_id(DEVICE, "detector", state.opened) for state in opened]
        ids += [one.alert_id for one in reversed(self.state.past)]
        if ids:
            self.judge(ids[which % len(ids)], verdict, later)

    def judge(self, which: str, verdict: Answer | None, later: int = 1) -> None:
        since = max([one.since for one in self.said] + [(len(self.score) + later) * MINUTE])
        self.said.append(Said(which, "detector", verdict, since))

    @rule(model=st.sampled_from(["detector", "classifier"]))
    def mistake(self, model: str) -> None:
        """Somebody judges what never was, or an alert of another model."""
        since = max([one.since for one in self.said] + [(len(self.score) + 1) * MINUTE])
        self.said.append(Said(id_at(10**6), model, "real", since))

    @rule()
    def die(self) -> None:
        """Nothing survives but what the journal has."""
        self.state = RuleState.from_dict(json.loads(json.dumps(self.state.to_dict())))

    # ---- where chance seldom leads ----

    @rule(
        height=heights, pattern=patterns, quiet=st.integers(0, 30), first=verdicts,
        others=st.integers(0, 4), second=verdicts,
    )  # fmt: skip
    def change_of_mind(
        self, height: float, pattern: tuple[int, ...], quiet: int, first: Answer | None, others: int,
        second: Answer | None,
    ) -> None:  # fmt: skip
        """An alert is judged once the level has fallen, and again once other alerts have put it up."""
        self.fail(height, 3, pattern)
        self.read([0.0] * quiet + [NAN])
        if self.state.past:
            which = self.state.past[-1].alert_id
            self.judge(which, first)
            self.read([90.0] * 3 * min(others, 1) + [0.0] * 4, (1,))
            for _ in range(others - 1):
                self.fail(90.0, 3, (1,))
            self.judge(which, second)
            self.read([NAN, 0.0])

    def sink(self, rung: int) -> None:
        """Quiet rows until the level has fallen to a rung."""
        while self.state.alert.opened is None and self.state.rung > rung:
            self.read([0.0] * (self.rule.level.fall_after(self.state.unheard) - self.state.quiet))

    @precondition(lambda self: len(self.score) < ENOUGH)
    @rule(height=heights, pattern=patterns, left=st.integers(0, 4), verdict=verdicts)
    def called_real_too_late(self, height: float, pattern: tuple[int, ...], left: int, verdict: Answer | None) -> None:
        """An alert put the level up from the lowest rung, and quiet time took it down again: there is not as much left
        as "real" gives back, and revising gives back no more than that."""
        self.read([0.0] * 4)
        self.sink(0)
        self.fail(height, 3, pattern)
        self.sink(left)
        if self.state.past and self.state.alert.opened is None:
            which = self.state.past[-1].alert_id
            self.judge(which, "real")
            self.read([NAN, 0.0])
            self.judge(which, verdict)
            self.read([NAN, 0.0])

    @precondition(lambda self: len(self.score) < ENOUGH)
    @rule(height=heights, pattern=patterns, verdict=verdicts)
    def taken_back_at_the_top(self, height: float, pattern: tuple[int, ...], verdict: Answer | None) -> None:
        """An alert was called real, and a long one has put the level to the top since: revising puts it no higher."""
        self.fail(height, 3, pattern)
        if self.state.past and self.state.alert.opened is None:
            which = self.state.past[-1].alert_id
            self.judge(which, "real")
            for _ in range(len(LADDER)):
                if self.state.rung < self.rule.level.top:
                    self.read([90.0] * self.rule.level.hold, (1,))
            self.judge(which, verdict)
            self.read([NAN, 0.0])

    @rule(height=heights, again=heights, pattern=patterns, other=patterns, verdict=verdicts, grows=heights)
    def recurring_job(
        self, height: float, again: float, pattern: tuple[int, ...], other: tuple[int, ...], verdict: Answer | None,
        grows: float,
    ) -> None:  # fmt: skip
        """What was judged comes again, as high or higher, and may grow while it lasts."""
        self.fail(height, 3, pattern)
        if self.state.past:
            self.judge(self.state.past[-1].alert_id, verdict)
        self.read([0.0, *[again] * 3, grows, 0.0, 0.0], other)
        self.read([0.0] * 4)

    @precondition(lambda self: len(self.score) < ENOUGH)
    @rule(more=st.integers(0, 3), verdict=verdicts, pattern=patterns)
    def bad_week(self, more: int, verdict: Answer | None, pattern: tuple[int, ...]) -> None:
        """More alerts than a device remembers; people say the same of all of them."""
        self.read([*[90.0] * 3, *[0.0] * 4] * (JUDGED_KEPT + more), pattern)
        for one in self.state.past:
            if one.verdict is None:
                self.judge(one.alert_id, verdict)
        self.read([0.0])

    # ---- what always holds ----

    @invariant()
    def bounds(self) -> None:
        if self.score:
            assert 0 <= self.state.rung < len(LADDER)
            assert set(self.levels) <= set(LADDER)
            assert 0 <= self.state.quiet < self.rule.level.fall_after(self.state.unheard)
            assert len(self.state.past) <= JUDGED_KEPT + UNJUDGED_KEPT

    @invariant()
    def one_pass(self) -> None:
        if self.score:
            whole = Rows(1, np.array(self.score, np.float32), np.array(self.sensor))
            done = whole.fold(self.rule, self.rule.start(), self.said)
            assert done.state == self.state
            assert watched(done, 1) == self.watched
            assert done.level.tolist() == self.levels

    @invariant()
    def as_the_oracle(self) -> None:
        if self.score:
            assert self.watched == self.oracle.seen
            assert self.levels == self.oracle.levels
            assert self.state.rung == self.oracle.rung
            assert (self.state.alert.opened is None) == (self.oracle.alert is None)
            assert [(one.alert_id, one.verdict) for one in self.state.past] == [
                (one["id"], one["verdict"]) for one in self.oracle.past
            ]
            assert self.state.ignored == self.oracle.ignored


TestDevice = Device.TestCase
TestDevice.settings = hypothesis.settings(max_examples=30, stateful_step_count=12, deadline=None)


@given(scores, st.integers(0, 8), st.sampled_from([1.0, 1.5, 4.0]))
def test_a_higher_ladder_never_alerts_sooner(more: list[float], start: int, factor: float) -> None:
    """Monotone: of two ladders that differ by a factor, the higher one's first alert is not the earlier one."""
    first = []
    for ladder in (LADDER, tuple(level * factor for level in LADDER)):
        given_rule = made(LEVEL.model_copy(update={"ladder": ladder, "start": start}))
        changes = rows(more).fold(given_rule, given_rule.start()).changes
        first.append(changes[0].index if changes else len(more))
    assert first[0] <= first[1]


def test_a_state_of_before_there_were_levels_is_taken_over() -> None:
    """As a journal has it that an older agent wrote, its alert open."""
    old = {"above": 3, "below": 1, "first_above": MINUTE, "opened": MINUTE, "peak": 9.0, "told": 9.0, "rows": 3,
           "kind": "detector", "threshold": 2.0}  # fmt: skip
    state = RuleState.from_dict(old)
    assert state.alert == AlertState(**old)
    fixed = made(None, threshold=2.0)
    done = rows([0.9, 0.9], start=4).fold(fixed, state)
    assert [change.transition for change in done.changes] == ["resolved"]
    assert alert_id(DEVICE, "detector", done.changes[0].state.opened or 0) == id_at(1)
