"""The kill run's judge finds each kind of difference; otherwise a green run would say nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fieldwatch_contract import clock
from fieldwatch_contract.alerts import AlertRule

from tests.chaos.judge import Key, Ledger, Score, Stored, judge, late_lines, transitions, whole_log
from tests.chaos.run import rounds
from tests.chaos.writer import HEADER, MANNERS, START, Line, make_writer

DEVICE = "press-0001"
RULES = {"detector": AlertRule(persistence=2, resolve_after=2)}


def at(minute: int) -> int:
    return START + minute * clock.MINUTE


LINES = [Line(at(i), b"%d\n" % i, good=i != 4, held=i == 7) for i in range(12)]
EXPECTED: dict[Key, Score] = {
    (line.ts, "detector"): (
        9.5 if 5 <= i <= 8 else 0.25,
        3.0,
        "anomalous" if 5 <= i <= 8 else "normal",
        ("s0",),
        (1.0,),
    )
    for i, line in enumerate(LINES)
    if line.good
}
RIGHT = Stored(
    scores=EXPECTED,
    ledger=Ledger(read=12, refused=Counter(columns=1), evicted=0, unbalanced=[]),
    gaps=[],
    unfilled=[],
    transitions=transitions(DEVICE, EXPECTED, RULES),
    set_aside=[],
)


def without(minute: int) -> dict[Key, Score]:
    return {key: score for key, score in EXPECTED.items() if key[0] != at(minute)}


def with_score(minute: int, score: Score) -> dict[Key, Score]:
    return EXPECTED | {(at(minute), "detector"): score}


def test_what_is_right_is_found_right() -> None:
    verdict = judge(DEVICE, LINES, RIGHT, EXPECTED, RULES)
    assert verdict.differences == []
    assert (verdict.written, verdict.malformed, verdict.stored, verdict.alerts) == (12, 1, 11, 1)
    assert {transition for _, transition, _ in RIGHT.transitions} == {"opened", "resolved"}


NEXT_FLOAT = (0.25000003, 3.0, "normal", ("s0",), (1.0,))
CHANGES: dict[str, tuple[Callable[[Stored], Stored], str]] = {
    "lost": (lambda s: replace(s, scores=without(2)), "1 readings lost: 2026-01-17T00:02:00Z"),
    "strange": (lambda s: replace(s, scores=with_score(40, NEXT_FLOAT)), "1 results of readings that nobody wrote"),
    "a malformed line stored": (lambda s: replace(s, scores=with_score(4, NEXT_FLOAT)), "that nobody wrote"),
    "one bit": (lambda s: replace(s, scores=with_score(2, NEXT_FLOAT)), "1 scores differ from one pass"),
    "untold unknown": (
        lambda s: replace(s, scores=with_score(2, (None, 3.0, "unknown", (), ()))), "1 scores differ from one pass",
    ),
    "read twice": (lambda s: replace(s, ledger=replace(s.ledger, read=13)), "13 lines read, 12 were written"),
    "refused for another reason": (
        lambda s: replace(s, ledger=replace(s.ledger, refused=Counter(columns=1, header=3))), "refused",
    ),
    "evicted": (lambda s: replace(s, ledger=replace(s.ledger, evicted=2)), "2 lines evicted"),
    "unbalanced": (lambda s: replace(s, ledger=replace(s.ledger, unbalanced=["2026-01-17"])), "does not balance"),
    "false gap": (lambda s: replace(s, gaps=["log_truncated: lost"]), "1 gaps announced where nothing was lost"),
    "quarantine": (lambda s: replace(s, set_aside=["bulk: no JSON"]), "1 messages set aside"),
    "alert missing": (lambda s: replace(s, transitions=set()), "2 alert transitions missing"),
    "alert too many": (
        lambda s: replace(s, transitions=s.transitions | {("x", "opened", at(1))}), "1 alert transitions too many",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_each_difference_is_found(change: str) -> None:
    make, words = CHANGES[change]
    differences = judge(DEVICE, LINES, make(RIGHT), EXPECTED, RULES).differences
    assert any(words in text for text in differences), differences


def test_a_reading_without_the_result_of_one_model_is_a_difference() -> None:
    both = EXPECTED | {(ts, "classifier"): score for (ts, _), score in EXPECTED.items()}
    stored = replace(RIGHT, scores={key: score for key, score in both.items() if key != (at(2), "classifier")})
    assert (
        "1 readings without the result of one model: 2026-01-17T00:02:00Z"
        in judge(DEVICE, LINES, stored, both, RULES).differences
    )


def test_unknown_by_a_told_reason_is_counted_apart() -> None:
    stored = replace(RIGHT, scores=with_score(2, (None, 3.0, "unknown", (), ())), unfilled=["readings.csv.1.gz"])
    verdict = judge(DEVICE, LINES, stored, EXPECTED, RULES)
    assert (verdict.differences, verdict.told_unknown, verdict.reasons) == ([], 1, ["readings.csv.1.gz"])
    other = replace(stored, scores=with_score(2, NEXT_FLOAT))
    assert judge(DEVICE, LINES, other, EXPECTED, RULES).other == 1, "the reason excuses unknown, no other score"


def test_a_line_flushed_late_may_be_told_as_late_but_not_be_lost() -> None:
    scores = without(7)
    untold = replace(RIGHT, scores=scores, transitions=transitions(DEVICE, scores, RULES))
    assert late_lines(LINES, untold) == {at(7)}
    assert b"\n7\n" not in whole_log(LINES, {at(7)}) and whole_log(LINES, set()).startswith(HEADER)
    assert any("refused" in text for text in judge(DEVICE, LINES, untold, scores, RULES).differences)
    told = replace(untold, ledger=replace(RIGHT.ledger, refused=Counter(columns=1, late=1)))
    verdict = judge(DEVICE, LINES, told, scores, RULES)
    assert (verdict.differences, verdict.lost, verdict.told_late) == ([], 0, 1)


def test_each_manner_writes_all_its_lines_and_in_two_places_at_most(tmp_path: Path) -> None:
    """What lies in the folder in the end is what the writer says it wrote, whatever was renamed and packed."""
    import gzip
    import time

    for manner in MANNERS:
        writer = make_writer(manner, tmp_path / manner, 5)
        writer.lengths = (20, 50)
        writer.start()
        end = time.monotonic() + 30
        while writer.rotations < 2 and time.monotonic() < end:
            time.sleep(0.05)
        writer.stop()
        files = list((tmp_path / manner).iterdir())
        texts = [gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes() for path in files]
        found = [line + b"\n" for text in texts for line in text.splitlines()]
        headers = found.count(HEADER)
        assert writer.rotations >= 2 and headers == (1 if manner == "copytruncate" else len(files))
        assert sorted(line for line in found if line != HEADER) == sorted(line.text for line in writer.lines)


def test_each_manner_meets_each_broker() -> None:
    met = {pair for _, _, pairs in rounds(15, seed=1) for pair in pairs}
    assert {manner for manner, _ in met} == set(MANNERS)
    assert {broker for _, broker in met} == {"mosquitto", "embedded"}
    assert len(met) == 6
