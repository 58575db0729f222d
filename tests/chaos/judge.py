"""What the cloud should hold, from the writer's own list of lines, and in what it differs.

====================  ===========================================================  =============
finding               when                                                         a difference?
====================  ===========================================================  =============
``lost``              a reading that was written has no result, untold             yes
``strange``           a result without a reading that was written                  yes
``doubled``           more lines read than written, by the device's own ledger     yes
``other``             score, threshold, verdict, sensors or shares are not bit     yes
                      for bit those of one pass over the whole log
``alerts``            an alert or a transition more or less than in that pass      yes
``ledger``            does not balance, or refused other lines than malformed      yes
                      ones
``false gap``         lines announced as lost, none was                            yes
``set aside``         messages of the device in quarantine                         yes
``told late``         a line that the writer flushed after later ones and the      counted apart
                      ledger counts as refused for that
``told unknown``      verdict ``unknown`` by reason of a window that could not be  counted apart
                      refilled, and a health event says so
====================  ===========================================================  =============

No I/O here: :func:`judge` compares plain values.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fieldwatch_contract import clock
from fieldwatch_contract.alerts import AlertRule, Rule, alert_id
from fieldwatch_contract.fold import advance, unexplained

from tests.chaos.writer import HEADER, Line

Score = tuple[float | None, float, str, tuple[str, ...], tuple[float, ...]]
Key = tuple[int, str]
"""Time (µs) and model."""
MALFORMED = "columns"
"""The reason for which the writer's malformed lines, a field short, are refused."""
SHOWN = 5


@dataclass(frozen=True)
class Ledger:
    """Sums over all days of one epoch; ``unbalanced`` days."""

    read: int
    refused: Counter[str]
    evicted: int
    unbalanced: list[str]


@dataclass(frozen=True)
class Stored:
    """What the cloud holds of one device."""

    scores: dict[Key, Score]
    ledger: Ledger
    gaps: list[str]
    unfilled: list[str]
    """What health events said of a window that was not refilled."""
    transitions: set[tuple[str, str, int]]
    """Alert, transition, time (µs)."""
    set_aside: list[str]


@dataclass
class Verdict:
    """Numbers for the table, and the differences in words; none: all is as it should be."""

    written: int = 0
    malformed: int = 0
    stored: int = 0
    lost: int = 0
    doubled: int = 0
    other: int = 0
    told_late: int = 0
    told_unknown: int = 0
    alerts: int = 0
    reasons: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


def late_lines(lines: Sequence[Line], stored: Stored) -> set[int]:
    """Times of the held lines without a result: they are expected to be told as ``late``."""
    have = {ts for ts, _ in stored.scores}
    return {line.ts for line in lines if line.held and line.good and line.ts not in have}


def whole_log(lines: Sequence[Line], without: set[int]) -> bytes:
    """The log in one file, in the order of time."""
    return HEADER + b"".join(line.text for line in lines if line.ts not in without)


def parse_replay(text: str) -> dict[Key, Score]:
    """Read what ``fieldwatch-agent replay`` printed."""
    rows = [json.loads(line) for line in text.splitlines()]
    return {(clock.parse_iso(row["ts"]), row["model"]): score_of(row) for row in rows}


def score_of(row: dict[str, Any]) -> Score:
    """What must agree bit for bit; floats are compared as such, JSON carries all their bits."""
    return row["score"], row["threshold"], row["verdict"], tuple(row["sensors"]), tuple(row["shares"])


def transitions(device: str, scores: dict[Key, Score], rules: dict[str, AlertRule]) -> set[tuple[str, str, int]]:
    """The alerts of a history: the contract's rule folded over its scores."""
    result = set()
    for model, rule in rules.items():
        times = sorted(ts for ts, name in scores if name == model)
        if not times:
            continue
        rows = [scores[ts, model] for ts in times]
        values = np.array([np.nan if row[0] is None else row[0] for row in rows], np.float32)
        known = np.array([row[2] != "unknown" for row in rows], bool)
        fixed = Rule(device, model, "detector", rows[0][1], rule)
        for change in advance(fixed, fixed.start(), np.array(times), values, known, unexplained).changes:
            result.add((alert_id(device, model, change.state.opened or 0), change.transition, times[change.index]))
    return result


def judge(
    device: str, lines: Sequence[Line], stored: Stored, expected: dict[Key, Score], rules: dict[str, AlertRule]
) -> Verdict:
    """Compare; ``expected`` is one pass over :func:`whole_log` without :func:`late_lines`."""
    late = late_lines(lines, stored)
    good = {line.ts for line in lines if line.good}
    have = {ts for ts, _ in stored.scores}
    malformed = sum(not line.good for line in lines)
    verdict = Verdict(
        written=len(lines),
        malformed=malformed,
        stored=len(have),
        told_late=len(late),
        alerts=sum(transition == "opened" for _, transition, _ in stored.transitions),
    )
    say = verdict.differences.append

    lost = sorted(good - have - late)
    verdict.lost = len(lost)
    if lost:
        say(f"{len(lost)} readings lost: {_times(lost)}")
    if strange := sorted(have - good):
        say(f"{len(strange)} results of readings that nobody wrote: {_times(strange)}")
    if half := sorted(key for key in expected if key not in stored.scores and key[0] in have):
        say(f"{len(half)} readings without the result of one model: {_times(ts for ts, _ in half)}")

    other, unknown = [], []
    for key, score in stored.scores.items():
        if key in expected and score != expected[key]:
            (unknown if score[2] == "unknown" and stored.unfilled else other).append(key)
    verdict.other, verdict.told_unknown = len(other), len(unknown)
    verdict.reasons = [text for text, _ in Counter(stored.unfilled).most_common(3)]
    if other:
        first = min(other)
        say(
            f"{len(other)} scores differ from one pass over the whole log: {_times(ts for ts, _ in sorted(other))}; "
            f"{first[1]} says {stored.scores[first][:3]} where one pass says {expected[first][:3]}"
        )

    ledger = stored.ledger
    verdict.doubled = max(0, ledger.read - len(lines))
    if ledger.read != len(lines):
        say(f"the ledger says {ledger.read} lines read, {len(lines)} were written")
    refused = Counter({MALFORMED: malformed, "late": len(late)})
    if +ledger.refused != +refused:
        say(f"refused {dict(+ledger.refused)}, right were {dict(+refused)}")
    if ledger.evicted:
        say(f"{ledger.evicted} lines evicted")
    if ledger.unbalanced:
        say(f"the ledger of {', '.join(ledger.unbalanced[:SHOWN])} does not balance")
    if stored.gaps:
        say(f"{len(stored.gaps)} gaps announced where nothing was lost, for example: {stored.gaps[0]}")
    if stored.set_aside:
        say(f"{len(stored.set_aside)} messages set aside, for example: {stored.set_aside[0]}")

    if not unknown:
        right = transitions(device, expected, rules)
        if missing := right - stored.transitions:
            say(f"{len(missing)} alert transitions missing, for example {_transition(min(missing, key=_at))}")
        if extra := stored.transitions - right:
            say(f"{len(extra)} alert transitions too many, for example {_transition(min(extra, key=_at))}")
    return verdict


def _at(transition: tuple[str, str, int]) -> int:
    return transition[2]


def _transition(transition: tuple[str, str, int]) -> str:
    return f"{transition[1]} at {clock.iso(transition[2])}"


def _times(times: Any) -> str:
    found = list(times)
    shown = ", ".join(clock.iso(ts) for ts in found[:SHOWN])
    return shown + (f" … {clock.iso(found[-1])}" if len(found) > SHOWN else "")
