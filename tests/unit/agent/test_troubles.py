"""What a person must know of: each state has its trouble with a remedy, and none outlives it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from fieldwatch_agent.score.tally import BUCKET_S, SPAN_PERIODS, SPAN_S, Recent, Tally
from fieldwatch_agent.troubles import LITTLE_ROOM, Facts, derive
from fieldwatch_contract.events import LevelNow, Trouble
from fieldwatch_contract.level import AtBound
from fieldwatch_contract.reading.occurred import Names
from fieldwatch_contract.reading.parse import Columns
from fieldwatch_contract.verdicts import Why


def columns(**differences: tuple[str, ...]) -> Columns:
    given: dict[str, Any] = {"missing": (), "unknown": (), "repeated": ()} | differences
    fields = {name: given.get(name) for name in Columns.__dataclass_fields__}
    fields |= {"names": ("time",), "delimiter": b",", "time": (0,), "order": np.empty(0, np.int64)}
    return Columns(**fields)  # type: ignore[arg-type]


def refusals(read: int, examples: dict[str, str] | None = None, **counts: int) -> Tally:
    return Tally(read=read, refused=Counter(counts), examples=examples or {})


def unjudged(scored: int, why: Why, count: int) -> Tally:
    return Tally(read=scored, scored=scored, unjudged=Counter({("detector", why): count}))


EXAMPLE = {"columns": "readings.csv line 12: has 4 fields, the header has 3"}


@pytest.mark.parametrize(
    ("facts", "kind", "words", "remedy"),
    [
        (Facts(log="waiting", log_detail="no file matches x"), "log_missing", "no file matches x", "[log] path"),
        (Facts(clock_wrong="x waits"), "clock_wrong", "x waits", "move that file aside"),
        (Facts(clock_wrong="x waits", overtaken="y"), "clock_wrong", "x waits; y", "journal.db*"),
        (Facts(overtaken="y"), "clock_wrong", "y", "journal.db*"),
        (Facts(log="missing", log_detail="x is gone"), "log_missing", "x is gone", "[log] path"),
        (Facts(log="unreadable", log_detail="x: denied"), "log_unreadable", "x: denied", "right to read"),
        (Facts(log="silent", log_detail="no new line for 300 s"), "log_silent", "300 s", "writes its log"),
        (Facts(unreadable=["a.1: denied"]), "log_unreadable", "a.1: denied", "right to read"),
        (Facts(clock_wrong="it is 1970"), "clock_wrong", "it is 1970", "set this computer's clock"),
        (
            Facts(recent=refusals(10, EXAMPLE, columns=7, late=1)),
            "lines_refused",
            "8 of 10 lines of the last 10 minutes were refused: 7 columns, 1 late; readings.csv line 12: has 4 fields",
            "compare the line with the header",
        ),
        (Facts(recent=refusals(1, future=1)), "lines_refused", "1 of 1 lines", "clock"),
        (Facts(recent=refusals(1, nobody_knows=1)), "lines_refused", "1 nobody_knows", ""),
        (Facts(recent=Tally(lost=["x was truncated"])), "lines_lost", "x was truncated", "rotated"),
        (Facts(passed_over=["b.csv"]), "file_passed_over", "files skipped: b.csv", "move copies"),
        (Facts(unfilled="3 rows"), "window_unfilled", "3 rows", "verdicts return"),
        (
            Facts(columns=columns(missing=("s1", "s2")), sensors=3),
            "sensors_missing",
            "2 of the bundle's 3 sensors have no column: s1, s2",
            "renamed",
        ),
        (Facts(columns=columns(unknown=("flow",))), "columns_unknown", "1 columns are unknown", "train it with them"),
        (
            Facts(columns=Names(("flow",), ()), sensors=2),
            "sensors_missing",
            "1 of the bundle's 2 sensors do not occur in the log: flow",
            "renamed",
        ),
        (
            Facts(columns=Names((), ("Flow",))),
            "columns_unknown",
            "1 names are unknown to the bundle: Flow",
            "train it",
        ),
        (Facts(columns=columns(repeated=("s1",))), "columns_unknown", "occur twice, of which the first counts: s1", ""),
        (
            Facts(recent=Tally(read=2, bad_values=Counter(s1=2, s2=1))),
            "values_unreadable",
            "values that are not numbers: s1 2×, s2 1×",
            "missing",
        ),
        (
            Facts(recent=unjudged(10, Why.OUT_OF_RANGE, 5)),
            "models_unknown",
            "detector could not judge 5 of 10 (out of the range",
            "train it again",
        ),
        (Facts(recent=unjudged(2, Why.FEW_ROWS, 2)), "models_unknown", "too few readings", "when enough readings"),
        (
            Facts(damage=["2026-01-17T00:00:00Z: x", "2026-01-17T01:00:00Z: y"]),
            "journal_damaged",
            "2026-01-17T01:00:00Z: y, 2026-01-17T00:00:00Z: x",
            "disk is sound",
        ),
        (
            Facts(recent=unjudged(5, Why.SENSORS_MISSING, 5)),
            "models_unknown",
            "without a value",
            "why the log has no values",
        ),
        (Facts(disk_free=LITTLE_ROOM - 1), "disk_low", "20.0 MB free", "make room"),
        (
            Facts(levels=[LevelNow(model="detector", level=36.25, at_bound="highest")]),
            "level_highest",
            "has risen as far as the bundle allows: detector (36.2)",
            "judge the alerts on the dashboard",
        ),
        (
            Facts(unheard="2 in a row of the documents were none"),
            "verdicts_unread",
            "does not reach this device: 2 in a row",
            "the cloud writes the document anew",
        ),
    ],
)
def test_each_state_has_its_trouble(facts: Facts, kind: str, words: str, remedy: str) -> None:
    (found,) = derive(facts)
    assert found.kind == kind
    assert words in found.detail
    assert remedy in found.remedy
    assert found.since("2026-01-17T00:00:00Z") == Trouble(
        kind=kind, detail=found.detail, remedy=found.remedy, since="2026-01-17T00:00:00Z"
    )


@pytest.mark.parametrize(
    "facts",
    [
        Facts(),
        Facts(columns=columns(), sensors=3, disk_free=LITTLE_ROOM),
        Facts(recent=Tally(read=10, scored=10)),
        Facts(recent=unjudged(10, Why.OUT_OF_RANGE, 4)),
        Facts(recent=unjudged(10, Why.WINDOW_UNFILLED, 10)),  # has a trouble of its own
    ],
)
def test_what_is_well_is_no_trouble(facts: Facts) -> None:
    assert derive(facts) == []


def test_the_worst_comes_first() -> None:
    facts = Facts(
        log="silent",
        recent=refusals(3, late=1),
        columns=columns(missing=("s1",), unknown=("x",)),
        unfilled="rows",
        disk_free=0,
    )
    kinds = ["log_silent", "lines_refused", "window_unfilled", "sensors_missing", "columns_unknown", "disk_low"]
    assert [each.kind for each in derive(facts)] == kinds


def test_counts_do_not_make_a_trouble_a_new_one_but_another_reason_does() -> None:
    (few,), (more,), (other,) = (
        derive(Facts(recent=tally)) for tally in (refusals(9, late=1), refusals(99, late=50), refusals(9, columns=1))
    )
    assert few.key == more.key != other.key


def test_the_last_minutes_are_summed_and_then_forgotten() -> None:
    recent = Recent(period_s=60)
    recent.add(0, refusals(2, {"late": "line 1"}, late=1))
    recent.add(BUCKET_S, refusals(3, {"late": "line 9"}, late=2))
    total, age = recent.sum(BUCKET_S)
    assert (total.read, total.refused, total.examples, age) == (5, {"late": 3}, {"late": "line 9"}, BUCKET_S)
    total, _ = recent.sum(SPAN_S + 1)
    assert (total.read, total.refused) == (3, {"late": 2})
    assert recent.sum(SPAN_S + BUCKET_S + 1)[0] == Tally()


def test_a_device_with_hours_between_readings_has_a_longer_memory() -> None:
    recent = Recent(period_s=3600)
    recent.add(0, refusals(1, late=1))
    assert recent.sum(3600)[0].refused == {"late": 1}
    assert recent.sum(SPAN_PERIODS * 3600 + 1)[0].refused == {}


@pytest.mark.parametrize("bound", ["", "lowest"])
def test_a_level_that_is_low_is_no_trouble(bound: AtBound) -> None:
    """A quiet device ends there; ``status`` shows it."""
    assert derive(Facts(levels=[LevelNow(model="detector", level=2.0, at_bound=bound)])) == []
