"""What the uplink does with an answer, a silence, an end of its connection; and what it tells. Rules, no network."""

from __future__ import annotations

import json

import pytest
from fieldwatch_agent.send.answers import NO_SUBSCRIBERS, Then, follows
from fieldwatch_agent.send.flight import WINDOW, Flight, Stage
from fieldwatch_agent.send.plan import SHORT, Attempts
from fieldwatch_agent.send.presence import Presence
from fieldwatch_agent.send.words import Words
from fieldwatch_contract.causes import NOT_AUTHORISED, QUOTA, TOO_LARGE


@pytest.mark.parametrize(
    ("code", "events", "application", "shrinks", "then"),
    [
        (0, 1, True, False, Then.TAKEN),
        (NO_SUBSCRIBERS, 5, True, False, Then.PAUSE_FOR_INGEST),
        (NO_SUBSCRIBERS, 5, False, False, Then.TAKEN),
        (TOO_LARGE, 5, True, True, Then.SMALLER),
        (TOO_LARGE, 5, True, False, Then.ONE_BY_ONE),
        (TOO_LARGE, 1, True, False, Then.SET_ASIDE),
        (NOT_AUTHORISED, 1, True, False, Then.LONG_PAUSE),
        (QUOTA, 9, True, False, Then.LONG_PAUSE),
        (0x99, 9, True, False, Then.ONE_BY_ONE),
        (0x80, 1, True, False, Then.SET_ASIDE),
    ],
)
def test_what_follows_from_an_answer(code: int, events: int, application: bool, shrinks: bool, then: Then) -> None:
    assert follows(code, events, application, shrinks) is then


@pytest.mark.parametrize(
    ("code", "events", "then"),
    [
        (NOT_AUTHORISED, 1, Then.OTHER_WAY),
        (NOT_AUTHORISED, 9, Then.OTHER_WAY),
        (0x90, 1, Then.OTHER_WAY),
        (0x99, 9, Then.ONE_BY_ONE),
        (QUOTA, 1, Then.LONG_PAUSE),
        (TOO_LARGE, 1, Then.SET_ASIDE),
    ],
)
def test_what_follows_where_there_is_another_topic(code: int, events: int, then: Then) -> None:
    assert follows(code, events, True, False, other_way=True) is then


def test_a_connection_on_which_nothing_is_confirmed_has_stalled() -> None:
    flight = Flight()
    assert not flight.stalled(1e9, 60), "nothing is in flight"
    flight.put(1, "bulk", (1, 2), 100.0)
    flight.put(2, "evt/alert", (3,), 150.0)
    assert not flight.stalled(160.0, 60)
    assert flight.stalled(160.1, 60)
    assert flight.take(1, 170.0) == ("bulk", (1, 2))
    assert not flight.stalled(230.0, 60)
    assert flight.stalled(230.1, 60)
    assert flight.take(9, 231.0) == ("", ()), "an answer to what is not ours"


@pytest.mark.parametrize(("said", "window"), [(0, 1), (7, 7), (65_535, WINDOW)])
def test_the_window_is_the_brokers_within_bounds(said: int, window: int) -> None:
    flight = Flight()
    flight.limit(said)
    assert flight.window == window


def test_how_long_a_connection_held() -> None:
    stage = Stage(10.0)
    assert stage.held(50.0) == 0
    stage.connected = 20.0
    assert stage.held(50.0) == 30


def test_three_short_connections_in_a_row_look_like_a_twin() -> None:
    attempts = Attempts(4, 120, 60)
    assert [attempts.cut_short(held) for held in (1, 1, SHORT, 1, 1, 1)] == [False, False, False, False, False, True]
    assert not attempts.cut_short(None)
    delay = attempts.failed(100.0, 0.0)
    assert attempts.due == 100.0 + delay


def test_the_reason_why_a_device_is_there() -> None:
    def told(presence: Presence) -> object:
        return json.loads(presence.online("c", "e"))["reason"]

    assert told(Presence(crashed=True, patience=5)) == "started after a crash or power loss"
    presence = Presence(crashed=False, patience=5)
    assert told(presence) == "started"
    assert not presence.turned(1e9), "a loop that has not begun is not called stalled"
    presence.beat(100.0)
    assert not presence.turned(105.0)
    assert presence.turned(105.1)
    assert told(presence) == "stalled"
    assert not presence.turned(200.0), "told once"
    presence.lost()
    presence.beat(201.0)
    assert presence.turned(201.0)
    assert told(presence) == "reconnected"
    assert json.loads(presence.offline("c", "e", "stopped"))["status"] == "offline"


def test_words_are_kept_when_they_have_lasted() -> None:
    words = Words(hold=2, stable=60)
    assert words.due(10.0, connected=False, idle=False) is None
    assert words.due(12.0, connected=False, idle=False) == "connecting"
    assert words.due(13.0, connected=False, idle=False) is None, "nothing new"
    words.fail("refused")
    assert words.due(13.0, connected=False, idle=False) is None
    assert words.due(15.0, connected=False, idle=False) == "refused"
    words.well(16.0)
    assert words.error is None


def test_a_twin_stays_told_until_a_connection_has_held() -> None:
    words = Words(hold=0, stable=60)
    words.fail("another client has our id")
    words.stick(100.0)
    words.well(120.0)
    assert words.error == "another client has our id"
    assert words.due(159.0, connected=True, idle=True) == "another client has our id"
    assert words.due(160.0, connected=True, idle=True) == ""
    assert words.error is None
