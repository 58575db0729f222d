"""The uplink's rules, without a network: what is sent next, what is sent again, how long to wait."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fieldwatch_agent.send.journal import Draft, Message, Outbox
from fieldwatch_agent.send.uplink import ALERTS_AT_ONCE, OVERTAKEN, Backoff, Plan, Uplink, _Link
from hypothesis import given
from hypothesis import strategies as st

from tests.delivery import DEVICE, make_journal, mqtt, result


def message(seq: int) -> Message:
    return Message(seq, "result", "", "")


def test_what_is_under_way_or_set_aside_is_not_sent() -> None:
    plan = Plan(30, 600)
    plan.sent([1, 2], 0.0)
    plan.set_aside([3])
    assert [item.seq for item in plan.wanted(map(message, range(1, 6)))] == [4, 5]
    plan.rewind()
    assert [item.seq for item in plan.wanted(map(message, range(1, 6)))] == [1, 2, 4, 5]
    plan.restart()
    assert [item.seq for item in plan.wanted(map(message, range(1, 6)))] == [1, 2, 3, 4, 5]


def test_silence_doubles_the_time_until_it_is_sent_again_and_news_restores_it() -> None:
    plan, now, delays = Plan(30, 600), 0.0, []
    for _ in range(7):
        plan.sent([1], now)
        start = now
        while not plan.overdue(now):
            now += 1
        delays.append(now - start)
        plan.rewind()
    assert delays == [30, 60, 120, 240, 480, 600, 600]
    plan.sent([1], now)
    assert plan.acknowledged(1, [], now)
    plan.sent([2], now)
    assert not plan.overdue(now + 29)
    assert plan.overdue(now + 30)


def test_what_was_overtaken_is_lost_and_sent_again_soon() -> None:
    plan = Plan(30, 600)
    plan.sent([1], 10.0)
    plan.sent([2], 10.0 + OVERTAKEN)
    plan.sent([3], 10.1 + OVERTAKEN)
    plan.acknowledged(0, [2], 16.0)
    assert not plan.overdue(16.0)  # another worker may be slower
    plan.acknowledged(0, [3], 16.0)
    assert plan.overdue(16.0)
    plan.rewind()
    plan.sent([1], 16.0)
    assert not plan.overdue(45.0)
    assert plan.overdue(46.0)


def test_an_acknowledgement_without_news_is_told_apart() -> None:
    plan = Plan(30, 600)
    plan.sent([5, 6, 7], 1.0)
    assert not plan.acknowledged(4, [9], 2.0)
    assert plan.acknowledged(4, [6], 2.0)
    assert plan.unacked == 2
    assert plan.acknowledged(7, [], 2.0)
    assert plan.unacked == 0
    assert plan.waiting_since() is None


@given(st.lists(st.tuples(st.integers(0, 30), st.sets(st.integers(1, 30))), max_size=10))
def test_what_is_acknowledged_is_no_longer_waited_for(acks: list[tuple[int, set[int]]]) -> None:
    plan, known = Plan(30, 600), set(range(1, 31))
    plan.sent(sorted(known), 0.0)
    for upto, also in acks:
        before = len(known)
        known -= {*range(1, upto + 1), *also}
        assert plan.acknowledged(upto, sorted(also), 1.0) == (len(known) < before)
        assert plan.unacked == len(known)


def test_a_pile_of_alerts_is_read_once_and_a_few_at_a_time(tmp_path: Path) -> None:
    """They come before everything, each once, in order; a result that lies among them comes after."""
    drafts = [Draft("alert", "2026-11-01", '{"sensors":[]}') for _ in range(300)]
    journal = make_journal(tmp_path, [*drafts[:200], result(1), *drafts[200:]])
    uplink = Uplink(mqtt("mqtt://127.0.0.1:9"), DEVICE, journal.path)
    sent: list[str] = []
    read: Counter[int] = Counter()

    class Counting(Outbox):
        def _messages(self, *arguments: Any) -> list[Message]:
            found = super()._messages(*arguments)
            assert len([message for message in found if message.event == "alert"]) <= ALERTS_AT_ONCE
            read.update(message.seq for message in found)
            return found

    def publish(topic: str, payload: bytes, **_: object) -> SimpleNamespace:
        sent.append(topic.rpartition("/")[2])
        return SimpleNamespace(rc=0, mid=len(sent))

    uplink._outbox = outbox = Counting(journal.path)
    link = _Link(SimpleNamespace(publish=publish), "", 0.0)  # type: ignore[arg-type]
    while len(sent) < 301:
        uplink._send(link, outbox)
        link.under_way.popitem()
        if len(link.under_way) > 50:
            link.under_way.clear()
    assert sent == ["alert"] * 300 + ["result"]
    assert sum(read.values()) < 2 * 301, "most are read once, some again where the window was full"
    outbox.close()
    journal.close()


@given(st.integers(1, 12))
def test_delays_are_spread_below_a_bound_that_doubles(failures: int) -> None:
    backoff = Backoff(4.0, 120.0, 60.0)
    for count in range(failures):
        bound = min(4.0 * 2**count, 120.0)
        assert bound / 8 <= backoff.failed(held=59.0) <= bound
    assert 0.5 <= backoff.failed(held=60.0) <= 4.0
