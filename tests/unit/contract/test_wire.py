"""Clock, topics and events: what is written is read, and what does not belong is told apart."""

from __future__ import annotations

import json

import pytest
from fieldwatch_contract import topics
from fieldwatch_contract.clock import DAY, SECOND, day_of, iso, now, parse_iso
from fieldwatch_contract.events import EVENT, EVENT_TYPES, EVENTS, Ack, envelope
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

YEAR_9999 = 253_402_300_799 * SECOND
DATA = {
    "gap": {"reason": "evicted", "detail": "outbox full", "lines": 3},
    "model": {"transition": "activated", "bundle": {"name": "press", "version": "1", "sha256": "0" * 64}},
}


@given(st.integers(0, YEAR_9999))
def test_time_survives_text(ts):
    assert parse_iso(iso(ts)) == ts
    assert day_of(ts) == iso(ts)[:10]


def test_text_without_a_zone_is_utc_and_other_zones_are_converted():
    assert parse_iso("2026-01-17T10:54:00") == parse_iso("2026-01-17T11:54:00+01:00") == 1_768_647_240 * SECOND
    assert day_of(parse_iso("2026-01-17T00:30:00+01:00")) == "2026-01-16"


def test_times_before_the_epoch_hold():
    assert iso(-1) == "1969-12-31T23:59:59.999999Z" and parse_iso(iso(-DAY)) == -DAY
    assert day_of(-1) == "1969-12-31"


@pytest.mark.parametrize("number", [-1, 2**53 + 1, 10**30])
def test_an_acknowledgement_names_numbers_that_events_can_have(number):
    assert Ack(epoch="0a", upto=2**53, also=[0]).upto == 2**53
    for numbers in ({"upto": number}, {"upto": 0, "also": [number]}):
        with pytest.raises(ValidationError):
            Ack(epoch="0a", **numbers)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01T00:00:00Z", "1768647240"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError):
        parse_iso(text)


def test_now_is_microseconds():
    assert parse_iso("2020-01-01T00:00:00Z") < now() < parse_iso("2200-01-01T00:00:00Z")


devices = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=3, max_size=64)


@given(devices, st.sampled_from([*map(topics.channel_of, topics.EVENTS), "bulk", "state", "ack", "command"]))
def test_a_topic_tells_device_and_channel(device, channel):
    assert topics.parse(topics.topic(device, channel)) == (device, channel)


@pytest.mark.parametrize("device", ["", "ab", "+", "#", "a/b/c", "press 1", "Press-1", "a" * 65, "abc\n"])
def test_a_device_id_cannot_reach_beyond_its_level(device):
    with pytest.raises(ValueError, match="must match"):
        topics.topic(device, "ack")


@pytest.mark.parametrize("text", ["", "x", "fieldwatch/v1/d/", "fieldwatch/v1/d/press-1", "fieldwatch/v1/d/X/ack",
                                  "fieldwatch/v2/d/press-1/ack", "/fieldwatch/v1/d/press-1/ack"])  # fmt: skip
def test_other_topics_are_not_ours(text):
    assert topics.parse(text) is None


@pytest.mark.parametrize("event", DATA)
def test_an_envelope_is_a_valid_event(event):
    text = envelope("press-0001", "0a1b", 7, event, "2026-01-17T10:54:00Z", json.dumps(DATA[event]))
    parsed = EVENT.validate_json(text)
    assert isinstance(parsed, EVENT_TYPES[event]) and parsed.type == f"fieldwatch.{event}.v1"
    assert parsed.id == "press-0001:0a1b:7"
    assert json.loads(text)["source"] == "//fieldwatch/press-0001"


def test_a_reader_ignores_what_a_later_version_adds_and_takes_a_batch():
    text = envelope("press-0001", "0a", 1, "gap", "2026-01-17T10:54:00Z", json.dumps(DATA["gap"] | {"new": 1}))
    assert not hasattr(EVENTS.validate_json(b"[" + text + b"]")[0].data, "new")


@pytest.mark.parametrize("change", [{"id": "press-0001:xyz:1"}, {"id": "press-0001"}, {"specversion": "0.3"},
                                    {"type": "other.v1"}, {"time": "yesterday"}, {"data": {}}])  # fmt: skip
def test_a_wrong_event_is_refused(change):
    good = json.loads(envelope("press-0001", "0a", 1, "gap", "2026-01-17T10:54:00Z", json.dumps(DATA["gap"])))
    EVENT.validate_python(good)
    with pytest.raises(ValidationError):
        EVENT.validate_python(good | change)
