"""The event stream: every notice once, in order, or the word that something was missed."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable

import httpx
import pytest
from fieldwatch_cloud.live import LiveFeed, Notice
from fieldwatch_cloud.web import WebSettings, create_app
from fieldwatch_cloud.web import stream as module
from fieldwatch_cloud.web.stream import Stream, told

from tests.conftest import find_port, serving
from tests.unit.web.conftest import API_TOKEN, Site


def result(device: str, score: float = 1.0) -> Notice:
    score_out = {"model": "detector", "kind": "detector", "score": score, "threshold": 2.0, "verdict": "normal"}
    return Notice("result", device, {"ts": 60_000_000, "n": 1, "scores": [score_out | {"sensors": [], "shares": []}]})


def read(
    stream: Stream, after: str | None, count: int, allowed: Callable[[], bool] = lambda: True, publish: int = 0
) -> list[tuple[str, str, dict[str, object]]]:
    """The first ``count`` events: kind, id, data."""

    async def run() -> list[bytes]:
        found: list[bytes] = []
        follower = stream.follow(after, allowed)
        try:
            async for chunk in follower:
                if chunk.startswith(b"retry"):
                    stream.live.publish([result(f"dev-{number}") for number in range(publish)])
                    continue
                found.append(chunk)
                if len(found) == count:
                    break
        finally:
            await follower.aclose()  # type: ignore[attr-defined]
        return found

    events = []
    for chunk in asyncio.run(run()):
        lines = dict(line.split(": ", 1) for line in chunk.decode().strip().split("\n"))
        assert chunk.endswith(b"\n\n")
        events.append((lines["event"], lines["id"], json.loads(lines["data"])))
    return events


def test_events_come_in_order_with_numbers_without_holes() -> None:
    stream = Stream(LiveFeed())
    events = read(stream, stream.position, 3, publish=3)
    assert [data["device"] for _, _, data in events] == ["dev-0", "dev-1", "dev-2"]
    assert [int(name.split("-")[1]) for _, name, _ in events] == [1, 2, 3]
    assert stream.position == events[-1][1]
    assert stream.open == 0


def test_a_reader_that_comes_back_gets_what_it_missed() -> None:
    live = LiveFeed()
    stream = Stream(live)
    live.publish([result(f"dev-{number}") for number in range(5)])
    boot = stream.position.split("-")[0]
    assert [data["device"] for _, _, data in read(stream, f"{boot}-3", 2)] == ["dev-3", "dev-4"]


@pytest.mark.parametrize("after", ["gone-3", "nonsense", "-", "1-2-3", "é-5"])
def test_a_number_of_another_process_means_load_again(after: str) -> None:
    live = LiveFeed()
    stream = Stream(live)
    live.publish([result("dev-0")])
    kind, name, _ = read(stream, after, 1)[0]
    assert (kind, name) == ("resync", stream.position)


def test_a_reader_that_fell_out_of_the_ring_must_load_again() -> None:
    live = LiveFeed(size=4)
    stream = Stream(live)
    start = stream.position
    live.publish([result(f"dev-{number}") for number in range(9)])
    assert read(stream, start, 1)[0][0] == "resync"


def test_silence_beats_with_the_newest_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT", 0.01)
    live = LiveFeed()
    stream = Stream(live)
    live.publish([result("dev-0")])
    assert read(stream, None, 1)[0][:2] == ("beat", stream.position)


def test_a_session_that_ended_ends_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT", 0.01)
    monkeypatch.setattr(module, "CHECK", 0.0)
    answers = iter([True, True, False])
    assert len(read(Stream(LiveFeed()), None, 10, allowed=lambda: next(answers))) == 2


def test_many_events_are_not_a_question_each_to_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHECK", 600.0)
    asked: list[None] = []
    live = LiveFeed()
    stream = Stream(live)
    start = stream.position
    live.publish([result(f"dev-{number}") for number in range(50)])
    assert len(read(stream, start, 50, allowed=lambda: asked.append(None) is None)) == 50
    assert asked == []


def test_an_open_stream_does_not_hold_up_a_stop(fresh: Callable[..., Site], caplog: pytest.LogCaptureFixture) -> None:
    site = fresh()
    settings = WebSettings(port=find_port(), api_token=API_TOKEN)
    with serving(create_app(site.store, site.store.live, settings), settings) as server:
        headers = {"Authorization": f"Bearer {API_TOKEN}"}
        with httpx.stream("GET", f"{settings.url}api/v1/events", headers=headers, timeout=30) as answer:
            lines = answer.iter_lines()
            assert next(lines) == "retry: 3000"
            server.should_exit = True
            assert [line for line in lines if line] == []
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_each_event_is_encoded_once_for_all_readers() -> None:
    live = LiveFeed()
    stream = Stream(live)
    start = stream.position
    live.publish([result("dev-0")])
    assert read(stream, start, 1) == read(stream, start, 1)
    assert len(stream._encoded) == 1
    live.publish([result("dev-1")] * (module.ENCODED + 10))
    read(stream, start, module.ENCODED + 11)
    assert len(stream._encoded) == module.ENCODED


def test_a_result_tells_the_worst_model() -> None:
    scores = [
        {"model": "detector", "kind": "detector", "score": 1.0, "threshold": 2.0, "verdict": "normal"},
        {"model": "classifier", "kind": "classifier", "score": 0.9, "threshold": 0.6, "verdict": "faulty"},
        {"model": "other", "kind": "detector", "score": None, "threshold": 0.6, "verdict": "unknown"},
    ]
    data = told(Notice("result", "press-0001", {"ts": 5, "n": 1, "scores": scores}))
    assert (data["verdict"], data["ratio"]) == ("faulty", 0.9 / 0.6)
    quiet = told(Notice("result", "press-0001", {"ts": 5, "n": 1, "scores": [scores[0], scores[2]]}))
    assert quiet["verdict"] == "unknown"  # one model is content, the other did not look
    loud = told(Notice("result", "p", {"ts": 5, "n": 1, "scores": [scores[0] | {"score": 1e300, "threshold": 1e-300}]}))
    assert json.loads(json.dumps(loud, allow_nan=False))["ratio"] == 1e9
    empty = told(Notice("result", "press-0001", {"ts": 5, "n": 1, "scores": []}))
    assert (empty["verdict"], empty["ratio"]) == ("unknown", None)
