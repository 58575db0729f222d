"""What changed since an alert began (C6)."""

from __future__ import annotations

import pytest
from fieldwatch_cloud.web.changes import began, changes
from fieldwatch_contract import clock
from fieldwatch_contract.fields import Evidence

START = clock.parse_iso("2026-11-01T00:00:00Z")


def at(minute: int) -> int:
    return START + minute * clock.MINUTE


def evidence(values: dict[str, list[float | None]], scores: list[float | None], **more: object) -> Evidence:
    count = len(scores)
    fields = {
        "times": [clock.iso(at(minute)) for minute in range(count)],
        "sensors": list(values),
        "values": list(values.values()),
        "mean": [10.0] * len(values),
        "scale": [2.0] * len(values),
        "scores": scores,
    }
    return Evidence.model_validate(fields | more)


SCORES: list[float | None] = [0.1, 0.9, 0.2, 0.2, 1.2, 1.5, 1.6, 1.1]
"""Above 1 from minute 4 on; with a persistence of three the alert opened in minute 6."""


def test_an_alert_began_with_the_first_reading_above() -> None:
    one = evidence({"current": [1.0] * 8}, SCORES)
    assert began(one, at(6), 1.0) == at(4)
    assert began(one, at(6), 1.55) == at(6)
    assert began(one, at(3), 1.0) == at(3)  # what came before its opening was not above
    assert began(evidence({"current": [1.0] * 4}, [None] * 4), at(2), 1.0) == at(2)


def test_the_farthest_is_the_farthest_since_then() -> None:
    """The current rose; a dropout an hour before lay farther from the training mean."""
    current = [10.0, 0.0, 10.2, 9.8, 11.0, 13.0, 15.0, 14.0]
    (change,) = changes(evidence({"current": current}, SCORES), at(6), 1.0)
    assert (change.far, change.at, change.newest) == (15.0, at(6), 14.0)
    assert change.before == 9.9
    assert change.scales == pytest.approx((15 - 9.9) / 2)
    assert change.words == "rose"


def test_the_range_is_that_of_the_training_readings_or_is_said_to_be_unknown() -> None:
    values: dict[str, list[float | None]] = {"flow": [20.0] * 4 + [60.0] * 4, "rpm": [5.0] * 8}
    told = changes(evidence(values, SCORES, low=[0.0, 0.0], high=[41.5, 9.0]), at(6), 1.0)
    assert [(one.low, one.high, one.outside) for one in told] == [(0.0, 41.5, True), (0.0, 9.0, False)]
    assert [one.words for one in told] == ["rose", "hardly moved"]
    for one in changes(evidence(values, SCORES), at(6), 1.0):
        assert (one.low, one.high, one.outside) == (None, None, False)


def test_gaps_and_windows_that_begin_with_the_alert() -> None:
    missing: list[float | None] = [None] * 8
    falling: list[float | None] = [None] * 4 + [9.0, None, 4.0, None]
    (change,) = changes(evidence({"none": missing, "flow": falling}, SCORES), at(6), 1.0)
    assert (change.sensor, change.before, change.far, change.newest) == ("flow", None, 4.0, 4.0)
    assert (change.words, change.scales) == ("fell", -3.0)  # from the training mean
    flat = evidence({"flow": falling}, SCORES, scale=[0.0])
    assert changes(flat, at(6), 1.0)[0].scales is None
