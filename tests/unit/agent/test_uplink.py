"""The uplink's rules, without a network: what is sent next, what is sent again, how long to wait."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

from fieldwatch_agent.send.journal import Draft
from fieldwatch_agent.send.message import Message
from fieldwatch_agent.send.outbox import Outbox
from fieldwatch_agent.send.packer import Packer
from fieldwatch_agent.send.plan import OVERTAKEN, TRIES, Backoff, Hold, Plan
from fieldwatch_agent.send.sender import ALERTS_AT_ONCE, Sender
from fieldwatch_contract.events import Ack
from hypothesis import given
from hypothesis import strategies as st

from tests.delivery import DEVICE, make_journal, result


def message(seq: int) -> Message:
    return Message(seq, "result", "", b"")


def test_what_is_under_way_or_set_aside_is_not_sent() -> None:
    plan = Plan(30, 600)
    plan.sent([1, 2], 0.0)
    plan.set_aside([3])
    assert [item.seq for item in plan.wanted(map(message, range(1, 6)))] == [4, 5]
    plan.rewind()
    assert [item.seq for item in plan.wanted(map(message, range(1, 6)))] == [1, 2, 4, 5]
    plan.restart()
    assert [item.seq for item in plan.wanted(map(message, range(1, 6)))] == [1, 2, 3, 4, 5]


def test_what_the_broker_rejects_comes_again_on_a_connection_that_lasts() -> None:
    plan = Plan(30, 600)
    plan.sent([1, 2, 3], 0.0)
    plan.cursor = plan.urgent = 3
    assert plan.set_aside([2]) == []
    for now in (10.0, 609.0):
        plan.readmit(now)
        assert (plan.excluding, plan.cursor) == (True, 3)
    plan.readmit(610.0)
    assert (plan.excluding, plan.cursor, plan.urgent) == (False, 1, 1)


def test_a_broker_that_rejects_everything_for_hours_costs_no_event() -> None:
    """Only one that is rejected while others pass is at fault itself."""
    plan = Plan(30, 600)
    for _ in range(3 * TRIES):
        assert plan.set_aside([1, 2]) == []
    given_up: list[int] = []
    for _ in range(TRIES):
        plan.accepted()
        given_up += plan.set_aside([2])
    assert given_up == [2]


def test_what_may_end_the_connections_is_sent_last() -> None:
    plan = Plan(30, 600)
    waiting = [Message(seq, "result", "2026-11-01T00:00:00Z", b"{}") for seq in (1, 2)]
    plan.restart(last={1})
    assert plan.wanted(waiting) == waiting[1:]
    plan.sent([2], 0.0)
    assert not plan.admit_last(), "the other one has not arrived yet"
    plan.acknowledged(0, [2], 1.0)
    assert plan.admit_last()
    assert plan.wanted(waiting) == waiting
    assert not plan.admit_last()


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


def make_sender(outbox: Outbox, window: int = 5000) -> Sender:
    return Sender(outbox, Plan(30, 600, window), Packer(DEVICE))


def test_a_pile_of_alerts_is_read_once_and_a_few_at_a_time(tmp_path: Path) -> None:
    """They come before everything, each once, in order; a result that lies among them comes after."""
    drafts = [Draft("alert", "2026-11-01", '{"sensors":[]}') for _ in range(300)]
    journal = make_journal(tmp_path, [*drafts[:200], result(1), *drafts[200:]])
    read: Counter[int] = Counter()

    class Counting(Outbox):
        def _messages(self, *arguments: Any) -> list[Message]:
            found = super()._messages(*arguments)
            assert len([message for message in found if message.event == "alert"]) <= ALERTS_AT_ONCE
            read.update(message.seq for message in found)
            return found

    outbox = Counting(journal.path)
    sender, sent = make_sender(outbox), []
    while parcel := sender.next(spare=True):
        if len(sent) % 50 == 0:
            sender.begin()  # a new round, as after each acknowledgement
        sender.sent(parcel, 0.0)
        sent.append((parcel.channel, parcel.numbers))
    alerts = [*range(1, 201), *range(202, 302)]
    assert sent == [("evt/alert", (number,)) for number in alerts] + [("evt/result", (201,))]
    assert sum(read.values()) < 2 * 301, "most are read once, some again where a round began"
    outbox.close()
    journal.close()


def test_what_did_not_fit_is_next_and_nothing_is_passed_over(tmp_path: Path) -> None:
    journal = make_journal(tmp_path, [result(minute, values={"s": minute / 7}) for minute in range(500)])
    outbox = Outbox(journal.path)
    sender, sent = make_sender(outbox), []
    sender.packer.limit, sender.packer.rows = 2000, 100
    while parcel := sender.next(spare=True):
        assert sender.next(spare=True) == parcel, "until it is sent it stays the next one"
        sender.sent(parcel, 0.0)
        sent.append(parcel.numbers)
        sender.begin()  # another round: what was read and not sent is read again
    assert [number for numbers in sent for number in numbers] == list(range(1, 501))
    assert all(len(numbers) > 1 for numbers in sent)
    outbox.close()
    journal.close()


def test_a_full_window_stops_alerts_too_and_lets_the_oldest_one_go(tmp_path: Path) -> None:
    alerts = [Draft("alert", "2026-11-01", '{"sensors":[]}') for _ in range(30)]
    journal = make_journal(tmp_path, [*(result(minute) for minute in range(3)), *alerts])
    outbox = Outbox(journal.path)
    sender, sent = make_sender(outbox, window=10), []
    sender.packer.rows = 100
    while parcel := sender.next(spare=True):
        sender.sent(parcel, 0.0)
        sent.append(parcel.numbers)
    assert sent == [*((number,) for number in range(4, 14)), (1, 2, 3)], "and then nothing more"
    assert sender.acknowledged(Ack(epoch=journal.epoch, upto=3, also=[4, 5, 6, 7]), 1.0)
    following = sender.next(spare=True)
    assert following is not None
    assert following.numbers == (14,)
    outbox.close()
    journal.close()


def test_what_can_never_be_sent_is_given_up_with_a_gap(tmp_path: Path) -> None:
    """Tried at several connections, for the broker's limit may be raised; then it gives way."""
    noise = random.Random(3)
    big = Draft("result", "2026-11-01", json.dumps({"ts": "2026-11-01T00:00:00Z", "x": noise.randbytes(4000).hex()}))
    journal = make_journal(tmp_path, [big, result(1)])
    outbox = Outbox(journal.path)
    sender = make_sender(outbox)
    sender.packer.limit = 1500
    for _ in range(TRIES):
        assert [message.seq for message in outbox.pending(0, 9)] == [1, 2]
        sender.plan.restart()
        parcel = sender.next(spare=True)
        assert parcel is not None
        assert parcel.numbers == (2,)
        assert "event 1 (result) is larger than the broker takes" in sender.refusal
    assert outbox.floor() == 2
    gap = json.loads(outbox.pending(2, 9)[0].data)
    assert (gap["reason"], gap["lines"]) == ("evicted", 1)
    assert "larger than the broker takes" in gap["detail"]
    outbox.close()
    journal.close()


def test_refusals_at_once_are_one_pause_and_pauses_double_until_something_passes() -> None:
    hold = Hold(5.0)
    hold.begin(100.0, 600.0, again=False)
    hold.begin(101.0, 600.0, again=True)  # another message of the same moment
    assert hold.active(104.9)
    assert not hold.active(105.0)
    hold.begin(105.5, 600.0, again=True)
    assert hold.active(115.4)
    assert not hold.active(115.5)
    hold.passed()
    hold.begin(200.0, 600.0, again=False)
    assert not hold.active(205.0)


@given(st.integers(1, 12))
def test_delays_are_spread_below_a_bound_that_doubles(failures: int) -> None:
    backoff = Backoff(4.0, 120.0, 60.0)
    for count in range(failures):
        bound = min(4.0 * 2**count, 120.0)
        assert bound / 8 <= backoff.failed(held=59.0) <= bound
    assert 0.5 <= backoff.failed(held=60.0) <= 4.0
