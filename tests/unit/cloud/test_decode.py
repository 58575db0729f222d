"""Decoding: what breaks the contract is set aside with its reason, and stops nothing."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import pytest
import zstandard
from fieldwatch_cloud.ingest.decode import UNPACKED_LIMIT, Message, decode, floor_of
from fieldwatch_cloud.store.batch import Batch
from fieldwatch_contract import topics
from fieldwatch_contract.events import BULK_EVENTS, GapData, LineCounts, Trouble, envelope
from hypothesis import given
from hypothesis import strategies as st

from tests.delivery import DEVICE, alert, health, result

TIME = "2026-11-01T00:00:00Z"
KEY = (DEVICE, "ab12")


def good(seq: int = 1, **changes: object) -> bytes:
    text = json.loads(envelope(DEVICE, "ab12", seq, "result", TIME, result(seq).data))
    return json.dumps(text | changes).encode()


def read(payload: bytes, channel: str = "evt/result", device: str = DEVICE) -> Batch:
    return decode([Message(topics.topic(device, channel), payload)])


@pytest.mark.parametrize(
    ("payload", "reason", "delivered"),
    [
        (b"", "Invalid JSON", False),
        (b"\xff\xfe", "Invalid JSON", False),
        (b"[]", "should be an object", False),
        (good(type="fieldwatch.telepathy.v1"), "does not match any of the expected tags", True),
        (good(type="fieldwatch.health.v1"), "fieldwatch.health.v1", True),
        (good(specversion="2.0"), "specversion", True),
        (good(id="press-0002:ab12:1"), "but names press-0002", False),
        (good(source="//fieldwatch/press-0002"), "//fieldwatch/press-0002", True),
        (good(subject="press-0002"), "press-0002", True),
        (good(id=f"{DEVICE}:ab12:0"), "out of range", False),
        (good(id=f"{DEVICE}:ab12:{2**53}"), "out of range", False),
        (good(id=f"{DEVICE}:ab12:{2**70}"), "should match pattern", False),
        (good(id=f"{DEVICE}:ab12:" + "9" * 5000), "should match pattern", False),
        (good(id=f"{DEVICE}:ab12:١٢"), "should match pattern", False),
        (good(id="1"), "should match pattern", False),
        (good(data={"ts": "2026-13-45T00:00:00Z", "bundle": "b", "scores": []}), "", True),
        (good(data={"ts": TIME, "bundle": "b", "scores": [{"model": "m"}]}), "scores.0.kind", True),
    ],
)
def test_a_broken_event_is_set_aside_with_its_reason(payload: bytes, reason: str, delivered: bool) -> None:
    batch = read(payload)
    (refused,) = batch.refused
    assert reason in refused.reason
    assert batch.results == []
    # A number that can be read is acknowledged: the device would send it for ever.
    assert batch.numbers == ({KEY: [1]} if delivered else {})
    assert batch.aside == ({KEY: {1}} if delivered else {}), "but never as stored"


def test_an_event_on_the_wrong_channel_is_set_aside() -> None:
    (refused,) = read(good(), "evt/health").refused
    assert refused.reason == "a result event on channel evt/health"


@pytest.mark.parametrize("topic", ["fieldwatch/v1/d/UPPER/evt/result", "elsewhere", f"fieldwatch/v1/d/{DEVICE}/reply"])
def test_a_topic_that_nobody_reads_is_set_aside(topic: str) -> None:
    assert len(decode([Message(topic, good())]).refused) == 1


def test_neighbours_in_a_batch_are_not_affected() -> None:
    broken = zstandard.compress(b"[" + b",".join([good(1), good(2, data={}), good(3, unknown_key=1), good(4)]) + b"]")
    batch = read(broken, "bulk")
    assert batch.numbers == {KEY: [1, 2, 3, 4]}
    assert batch.aside == {KEY: {2}}
    assert len(batch.results) == 6
    assert [refused.reason for refused in batch.refused] == ["fieldwatch.result.v1.data.ts: Field required"]
    no_events = read(zstandard.compress(b'[{"half":]'), "bulk")
    assert no_events.numbers == {}
    assert "not JSON" in no_events.refused[0].reason


@pytest.mark.parametrize("start", [0, 1, 150, 300, 600])
@pytest.mark.parametrize("bad", [b"\xff", b'"', b"{", b"}", b"\0", b"\n", b"["])
def test_a_byte_that_makes_a_batch_no_json_costs_one_event(start: int, bad: bytes) -> None:
    """The others are stored, and the device learns which one it was."""
    events = [good(seq) for seq in range(1, 8)]
    whole = bytearray(b"[" + b",".join(events) + b"]")
    whole[len(events[0]) + 2 + start] = bad[0]
    batch = read(zstandard.compress(bytes(whole)), "bulk")
    hit = {KEY: {2 if start < 600 else 3}}
    assert set(batch.numbers[KEY]) == set(range(1, 8))
    assert batch.aside in ({}, hit)
    assert len({row["ts"] for row in batch.results}) == (7 if batch.aside == {} else 6)


@pytest.mark.parametrize("item", [b"1", good()])
def test_a_batch_of_too_many_events_is_set_aside_as_one(item: bytes) -> None:
    whole = zstandard.compress(b"[" + b",".join([item] * (BULK_EVENTS + 1)) + b"]")
    batch = read(whole, "bulk")
    assert [refused.reason for refused in batch.refused] == ["2001 events in one batch, at most 2000 are read"]
    assert batch.refused[0].payload == whole
    assert (batch.results, batch.numbers) == ([], {})
    assert len(read(zstandard.compress(b"[" + b",".join([good()] * BULK_EVENTS) + b"]"), "bulk").refused) == 0


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"plain", "not a zstd batch"),
        (zstandard.compress(b'{"a":1}'), "must be a JSON array"),
        (zstandard.compress(b" " * (UNPACKED_LIMIT + 1)), f"more than {UNPACKED_LIMIT} bytes"),
        (zstandard.compress(good())[:-4], ""),
    ],
)
def test_a_batch_that_cannot_be_unpacked_is_set_aside(payload: bytes, reason: str) -> None:
    (refused,) = read(payload, "bulk").refused
    assert reason in refused.reason
    assert refused.payload == payload


def test_a_bomb_that_lies_about_its_size_is_cut_off() -> None:
    compressor = zstandard.ZstdCompressor(level=19, write_content_size=False).compressobj()
    bomb = compressor.compress(b"\0" * (64 * UNPACKED_LIMIT)) + compressor.flush()
    assert len(bomb) < 60_000
    assert "unpacks to more" in read(bomb, "bulk").refused[0].reason


CROWDS = [b"[]", b"{}", b"1", b'""', b'{"specversion":1}', b"[[1],[2]]"]
_MEASURE = """
import resource, sys
from fieldwatch_cloud.ingest.decode import Message, decode
payload = sys.stdin.buffer.read()
decode([Message("fieldwatch/v1/d/press-0001/bulk", b"x")])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(refused,) = decode([Message("fieldwatch/v1/d/press-0001/bulk", payload)]).refused
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, refused.reason)
"""


@pytest.mark.parametrize("item", CROWDS)
def test_millions_of_nothing_in_a_few_bytes_take_no_memory(item: bytes) -> None:
    """C7: 782 bytes of empty lists took 495 MB and seven seconds."""
    count = (UNPACKED_LIMIT - 2) // (len(item) + 1)
    bomb = zstandard.compress(b"[" + b",".join([item] * count) + b"]")
    assert len(bomb) < 2_000
    done = subprocess.run([sys.executable, "-c", _MEASURE], input=bomb, capture_output=True, check=True)
    grown, reason = done.stdout.decode().split(maxsplit=1)
    assert int(grown) < 100 * 1024, f"{int(grown) // 1024} MiB"
    assert "at most" in reason


def test_the_largest_batch_that_an_agent_sends_is_read() -> None:
    """4 MiB of readings with the shortest numbers there are."""
    event = json.loads(good())
    event["data"]["values"] = {f"s{number}": 1.0 for number in range(1000)}
    one = json.dumps(event, separators=(",", ":")).encode()
    batch = read(zstandard.compress(b"[" + b",".join([one] * (4 * 1024 * 1024 // len(one) - 1)) + b"]"), "bulk")
    assert batch.refused == [] and len(batch.readings) > 100


@pytest.mark.parametrize("channel", ["evt/result", "state"])
def test_a_single_message_may_hold_no_more(channel: str) -> None:
    assert "at most" in read(b"[" + b"[]," * 1_000_000 + b"1]", channel).refused[0].reason
    assert "at most" in read(b" " * (UNPACKED_LIMIT + 1), channel).refused[0].reason


def put(document: dict[str, Any], path: str, value: object) -> str:
    """Return the document as JSON with ``value`` at ``path``."""
    inner: Any = document
    *way, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
    for part in way:
        inner = inner[part]
    inner[last] = value
    return json.dumps(document)


TROUBLE = Trouble(kind="log_silent", detail="no new line", since=TIME)
LINES = LineCounts(since=TIME, read=3, scored=1, unknown=0, refused={"late": 2})
LATE, EARLY, NEVER, HUGE = "2200-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "2026-13-45T00:00:00Z", 10**400


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        *(("alert", path, math.inf) for path in ("score", "peak", "threshold", "shares.0")),
        *(("alert", path, math.nan) for path in ("evidence.mean.0", "evidence.scale.0")),
        *(("alert", "evidence.times.0", time) for time in (LATE, EARLY, NEVER)),
        *(("result", path, math.nan) for path in ("scores.0.threshold", "scores.1.shares.0")),
        *(("result", path, -math.inf) for path in ("scores.0.threshold", "scores.1.shares.0")),
        *(("result", "ts", time) for time in (LATE, EARLY, "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z")),
        *(("health", path, LATE) for path in ("ts", "last_reading", "outbox.oldest")),
        *(("health", path, HUGE) for path in ("lag_bytes", "outbox.events", "outbox.bytes", "ledger.0.read")),
        *(("health", path, -1) for path in ("lag_bytes", "outbox.events", "outbox.bytes", "ledger.0.read")),
        *(("health", "ledger.0.day", day) for day in ("x", "20261101", "2026-W01-1", "9999-12-31", "2026-11-31")),
        *(("health", path, NEVER) for path in ("troubles.0.since", "lines.since")),
        *(("health", f"lines.{path}", -1) for path in ("read", "scored", "unknown", "refused.late")),
        *(("health", "period", seconds) for seconds in (0, -60, 1e300, math.inf)),
        ("gap", "start", NEVER),
        ("gap", "end", LATE),
    ],
)
def test_a_value_that_nobody_could_show_is_set_aside_alone(kind: str, path: str, value: object) -> None:
    documents = {
        "alert": alert(0).model_dump_json(),
        "result": result(0).data,
        "health": health(0).model_copy(update={"troubles": [TROUBLE], "lines": LINES}).model_dump_json(),
        "gap": GapData(reason="evicted", detail="full").model_dump_json(),
    }
    bad = envelope(DEVICE, "ab12", 2, kind, TIME, put(json.loads(documents[kind]), path, value))
    batch = read(zstandard.compress(b"[" + b",".join([good(1), bad, good(3)]) + b"]"), "bulk")
    assert len(batch.refused) == 1
    assert (len(batch.results), len(batch.alerts), len(batch.events)) == (4, 0, 0)
    assert batch.numbers == {KEY: [1, 2, 3]}
    assert len(decode([Message(topics.topic(DEVICE, f"evt/{kind}"), bad)]).refused) == 1


@pytest.mark.parametrize("payload", [b"x", b'{"status":"asleep"}', b"[1]"])
def test_a_state_that_is_none_is_set_aside(payload: bytes) -> None:
    assert len(read(payload, "state").refused) == 1


def test_a_cleared_state_is_nothing() -> None:
    assert len(read(b"", "state")) == 0


@pytest.mark.parametrize(
    ("properties", "floor"), [({}, None), ({"floor": "7"}, 7), ({"floor": "-7"}, None), ({"floor": "9" * 40}, None)]
)
def test_the_floor_is_a_number_or_nothing(properties: dict[str, str], floor: int | None) -> None:
    assert floor_of(properties) == floor


def test_even_a_mistake_of_ours_costs_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack(payload: bytes, limit: int) -> bytes:
        raise RuntimeError("never thought of")

    monkeypatch.setattr("fieldwatch_cloud.ingest.decode.unpack", unpack)
    topic = topics.topic(DEVICE, "evt/result")
    batch = decode([Message(topic, good(1)), Message(topics.topic(DEVICE, "bulk"), b"x"), Message(topic, good(2))])
    assert batch.numbers == {KEY: [1, 2]}
    assert [refused.reason for refused in batch.refused] == ["cannot be decoded: RuntimeError: never thought of"]


@given(st.binary(max_size=200), st.sampled_from(["evt/result", "evt/alert", "bulk", "state", "evt/", "evt/x"]))
def test_no_payload_raises(payload: bytes, channel: str) -> None:
    decode([Message(f"{topics.PREFIX}/{DEVICE}/{channel}", payload)])


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists))
def test_no_json_in_a_batch_raises(value: object) -> None:
    decode([Message(topics.topic(DEVICE, "bulk"), zstandard.compress(json.dumps(value).encode()))])
    decode([Message(topics.topic(DEVICE, "bulk"), zstandard.compress(json.dumps([value, {"id": value}]).encode()))])
