"""Who is told of what, when, and in which message."""

from __future__ import annotations

import tomllib
from datetime import time

import pytest
from fieldwatch_cloud.alerts.routing import STORM, STORM_WAIT, Due, Hours, Match, Route, Routing, Step, Subject, plan
from fieldwatch_cloud.config import Config
from fieldwatch_cloud.notify import routing_of
from fieldwatch_contract import clock
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT

MINUTE = clock.MINUTE
T0 = clock.parse_iso("2026-11-26T09:00:00Z")  # a Thursday
OFFICE = Hours(("mon", "tue", "wed", "thu", "fri"), time(8), time(18), "Europe/Berlin")
FAULT = Subject("press-0001", "fault", "critical", "berlin", "device")


def at(text: str) -> int:
    return clock.parse_iso(text)


@pytest.mark.parametrize(
    ("hours", "now", "then"),
    [
        (OFFICE, "2026-11-26T09:00:00Z", "2026-11-26T09:00:00Z"),
        (OFFICE, "2026-11-26T06:59:00Z", "2026-11-26T07:00:00Z"),
        (OFFICE, "2026-11-26T17:00:00Z", "2026-11-27T07:00:00Z"),  # 18:00 is over
        (OFFICE, "2026-11-27T20:00:00Z", "2026-11-30T07:00:00Z"),  # over the weekend
        (OFFICE, "2026-07-01T05:59:00Z", "2026-07-01T06:00:00Z"),  # summer time
        (Hours(begin=time(22), end=time(6)), "2026-11-26T23:00:00Z", "2026-11-26T23:00:00Z"),
        (Hours(begin=time(22), end=time(6)), "2026-11-26T05:00:00Z", "2026-11-26T05:00:00Z"),
        (Hours(begin=time(22), end=time(6)), "2026-11-26T07:00:00Z", "2026-11-26T22:00:00Z"),
        (Hours(begin=time(2, 30), end=time(3), zone="Europe/Berlin"), "2026-03-29T00:00:00Z", "2026-03-29T01:30:00Z"),
    ],
)
def test_hours_are_local_and_never_lose_anything(hours: Hours, now: str, then: str) -> None:
    assert clock.iso(hours.next(at(now))) == then


@given(st.integers(0, 400 * clock.DAY), st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]))
def test_the_next_hour_is_not_before_and_within_eight_days(shift: int, zone: str) -> None:
    hours = Hours(("tue", "sat"), time(8), time(18), zone)
    now = T0 + shift
    found = hours.next(now)
    assert now <= found < now + 8 * clock.DAY
    assert hours.next(found) == found, "it lies within"


def routing(*routes: Route) -> Routing:
    return Routing(routes)


def told(*routes: Route, what: str = "opened", now: int = T0, digest: bool = False, **recent: int) -> list[Due]:
    return plan(routing(*routes), FAULT, what, digest, now, T0, recent)  # type: ignore[arg-type]


def test_every_route_that_matches_tells_and_a_channel_is_told_once() -> None:
    lab = Route("lab", (Step(("mail", "chat")),), Match(site=("ber*",), kind=("fault",)))
    rest = Route("rest", (Step(("mail", "desk")),))
    other = Route("other", (Step(("x",)),), Match(audience=("models",)))
    assert [(due.channel, due.route) for due in told(lab, rest, other)] == [
        ("mail", "lab"), ("chat", "lab"), ("desk", "rest")
    ]  # fmt: skip


def test_steps_follow_and_the_end_is_told_to_those_who_heard_of_it() -> None:
    route = Route("lab", (Step(("a",)), Step(("b",), 15 * MINUTE), Step(("c",), 60 * MINUTE)))
    assert [(due.channel, due.due_at - T0, due.step) for due in told(route)] == [
        ("a", 0, 0), ("b", 15 * MINUTE, 1), ("c", 60 * MINUTE, 2)
    ]  # fmt: skip
    ended = told(route, what="resolved", now=T0 + 20 * MINUTE)
    assert [(due.channel, due.due_at - T0, due.step) for due in ended] == [("a", 20 * MINUTE, 0), ("b", 20 * MINUTE, 0)]


def test_a_digest_is_gathered_and_comes_in_the_morning() -> None:
    route = Route("lab", (Step(("a",)), Step(("b",), MINUTE)), digest_at=Hours(begin=time(7), end=time(7, 1)))
    for due in (told(route, digest=True), told(Route("lab", route.steps, digest=True))):
        assert due == [Due("a", "lab", at("2026-11-27T07:00:00Z"), "digest")]


def test_beyond_a_storm_s_beginning_messages_are_gathered() -> None:
    route = Route("lab", (Step(("a",)), Step(("b",), MINUTE)))
    assert told(route, a=STORM - 1)[0].batch is None
    held, later = told(route, a=STORM)
    assert (held.batch, held.due_at) == ("storm", T0 + STORM_WAIT)
    assert later.batch is None


def test_the_self_test_is_taken_by_its_own_route_alone() -> None:
    everything = Route("all", (Step(("mail",)),))
    own = Route("self-test", (Step(("self-test",)),), Match(kind=("self-test",)))
    test = Subject("self-test 1", "self-test", "warning")
    found = plan(routing(everything, own), test, "opened", False, T0, T0, {})
    assert [due.channel for due in found] == ["self-test"]
    assert [due.channel for due in told(everything, own)] == ["mail"]


def test_the_routes_of_the_manual_are_right() -> None:
    text = (ROOT / "docs" / "operate-cloud.md").read_text(encoding="utf-8")
    (block,) = [part.split("```")[0] for part in text.split("```toml\n")[1:] if "[[alerts.routes]]" in part]
    found = routing_of(Config.model_validate(tomllib.loads(block)))
    assert [route.name for route in found.routes] == ["self-test", "lab", "infrastructure", "models"]
    assert found.routes[1].steps[0].channels == ("lab-mail ana@lab.example", "lab-mail ben@lab.example")
    assert found.routes[1].steps[1].after == 15 * MINUTE
    assert found.routes[3].digest
