"""The timeline: device, people and time in one order, each in words."""

from __future__ import annotations

from types import SimpleNamespace

from fieldwatch_cloud.web.timeline import timeline
from fieldwatch_contract import clock

MINUTE = clock.MINUTE


def own(at: int, what: str, by: str = "", text: str = "", told: bool = True) -> SimpleNamespace:
    return SimpleNamespace(at=at * MINUTE, what=what, by=by, text=text, told=told)


def step(at: int, transition: str, late: int = 0, reason: str = "") -> SimpleNamespace:
    ts = at * MINUTE
    return SimpleNamespace(
        alert_id="a", transition=transition, ts=ts, received=ts + late * MINUTE, score=1.5, reason=reason
    )


def said(at: int, verdict: str, note: str, alert: str) -> SimpleNamespace:
    return SimpleNamespace(at=at * MINUTE, verdict=verdict, note=note, alert_id=alert)


ALERTS = [SimpleNamespace(alert_id="a", model="detector")]


def test_device_and_people_stand_in_one_order() -> None:
    entries = timeline(
        [own(3, "opened"), own(9, "acknowledged", "ana", "on my way"), own(12, "assigned", "ana", "ben")],
        ALERTS,
        [step(2, "opened"), step(20, "resolved", reason="the score is low again")],
        [said(15, "real", "belt worn", "a"), said(15, "real", "belt worn", "b")],
    )
    assert [(one.at // MINUTE, one.title, one.by, one.text) for one in entries] == [
        (2, "Detector alert opened", "", "score 1.50"),
        (3, "Incident opened", "", ""),
        (9, "Taken", "ana", "on my way"),
        (12, "Assigned to ben", "ana", ""),
        (15, "Judged: real fault", "", "belt worn"),
        (20, "Detector alert ended", "", "The score is low again"),
    ]
    assert [one.mark for one in entries] == ["opened", "", "person", "person", "person", "resolved"]


def test_what_came_late_says_by_how_much_and_what_nobody_was_told_says_so() -> None:
    late, quiet = timeline([own(5, "grew", told=False)], ALERTS, [step(1, "updated", late=11)], [])
    assert (late.title, late.arrived) == ("Detector alert rose", 11 * MINUTE)
    assert "Not told" in quiet.text


def test_kinds_that_this_program_does_not_know_keep_their_word() -> None:
    (one,) = timeline([own(1, "escalated")], [], [], [])
    assert one.title == "escalated"
