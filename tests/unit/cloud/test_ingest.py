"""When acknowledgements go out, and how a message that the database will not take is isolated."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
import zstandard
from fieldwatch_cloud.config import BrokerConfig
from fieldwatch_cloud.ingest import Ingest
from fieldwatch_cloud.ingest.decode import Message, decode
from fieldwatch_cloud.ingest.link import RECEIVE_MAXIMUM, Link, Received
from fieldwatch_cloud.ingest.pacer import AckPacer
from fieldwatch_cloud.store import Store
from fieldwatch_cloud.store import tables as t
from fieldwatch_contract import topics
from fieldwatch_contract.delivery import Receipt, Settled
from fieldwatch_contract.events import Ack, envelope
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import wait_until
from tests.delivery import DEVICE, last_ack, make_store, result, rows, stored

TIME = "2026-11-01T00:00:00Z"


def ack(upto: int, epoch: str = "e") -> Ack:
    return Ack(epoch=epoch, upto=upto)


def receipt(upto: int, epoch: str = "e", rows: int = 1) -> Receipt:
    return Receipt(epoch, Settled(upto), frozenset(range(upto - rows + 1, upto + 1)))


def test_at_most_one_a_second_and_the_newest_of_them() -> None:
    pacer = AckPacer()
    pacer.add("a", receipt(1), False)
    assert pacer.due(10.0) == [("a", ack(1))]
    pacer.add("a", receipt(2), False)
    pacer.add("a", receipt(3), False)
    assert pacer.due(10.9) == []
    assert pacer.wait(10.9) is not None
    assert pacer.due(11.0) == [("a", ack(3))]
    assert pacer.due(12.0) == []
    assert pacer.wait(12.0) is None


def test_at_once_after_an_alert_and_after_many_rows() -> None:
    pacer = AckPacer()
    pacer.add("a", receipt(1), False)
    pacer.due(10.0)
    pacer.add("a", receipt(2), True)
    assert pacer.due(10.1) == [("a", ack(2))]
    pacer.add("a", receipt(700, rows=600), False)
    assert pacer.due(10.2) == []
    pacer.add("a", receipt(1300, rows=600), False)
    assert pacer.due(10.3) == [("a", ack(1300))]


def test_epochs_do_not_hide_one_another() -> None:
    pacer = AckPacer()
    pacer.add("a", receipt(9, "old"), False)
    pacer.add("a", receipt(1, "new"), False)
    assert pacer.due(1.0) == [("a", ack(9, "old")), ("a", ack(1, "new"))]


def test_a_receipt_that_waits_hands_on_what_arrived() -> None:
    """The device waits for 7 and 9; an acknowledgement for 9 alone would have it send 7 again."""
    pacer = AckPacer()
    pacer.add("a", Receipt("e", Settled(1), frozenset([1])), False)
    pacer.due(10.0)
    pacer.add("a", Receipt("e", Settled(1, (3, 7)), frozenset([7])), False)
    pacer.add("a", Receipt("e", Settled(1, (3, 7, 9)), frozenset([9])), True)
    assert pacer.due(10.1) == [("a", Ack(epoch="e", upto=1, also=[7, 9, 3]))]


@given(st.lists(st.tuples(st.floats(0, 0.7), st.integers(1, 400), st.booleans()), max_size=30))
def test_the_last_one_is_always_told(steps: list[tuple[float, int, bool]]) -> None:
    pacer, now, told = AckPacer(), 0.0, None
    for number, (pause, count, urgent) in enumerate(steps):
        now += pause
        pacer.add("a", receipt(number, rows=count), urgent)
        told = [found.upto for _, found in pacer.due(now)] or told
    while (wait := pacer.wait(now)) is not None:
        now += wait + 1e-6
        told = [found.upto for _, found in pacer.due(now)] or told
    assert told == ([len(steps) - 1] if steps else None)


def event(seq: int, text: str) -> bytes:
    return envelope(DEVICE, "ab12", seq, "result", TIME, text)


def message(seq: int, text: str) -> Message:
    return Message(topics.topic(DEVICE, "evt/result"), event(seq, text))


@pytest.fixture
def ingest(store: Store) -> Ingest:
    """An ingest without a broker, whose store refuses the bundle "bad", as PostgreSQL refuses NUL."""
    with store.write() as db:
        db.exec_driver_sql(
            "CREATE TRIGGER refuse BEFORE INSERT ON result WHEN new.bundle = 'bad' "
            "BEGIN SELECT RAISE(ABORT, 'not with me'); END"
        )
    return Ingest(store, BrokerConfig(), "mqtt://127.0.0.1:1")


def link_of(ingest: Ingest) -> Link:
    """A connection that was never made."""
    return Link(ingest._target, ingest._queue, ingest.stats, clean=False)


def test_one_message_that_the_database_refuses_does_not_hold_up_the_others(store: Store, ingest: Ingest) -> None:
    bad = result(2).data.replace("press/1", "bad")
    ingest._intake.take([message(1, result(1).data), message(2, bad), message(3, result(3).data)])
    assert stored(store) == 2
    (refused,) = rows(store, t.quarantine)
    assert refused["reason"] == "the store does not take it: not with me"
    found = last_ack(store)
    assert found is not None
    assert (found.upto, found.also, found.refused) == (3, [], [2])


def test_one_event_that_the_database_refuses_does_not_take_its_bulk_along(store: Store, ingest: Ingest) -> None:
    events = [event(seq, result(seq).data) for seq in range(1, 6)]
    events[2] = event(3, result(3).data.replace("press/1", "bad"))
    bulk = zstandard.compress(b"[" + b",".join(events) + b"]")
    ingest._intake.take([Message(topics.topic(DEVICE, "bulk"), bulk)])
    assert stored(store) == 4
    (refused,) = rows(store, t.quarantine)
    assert refused["reason"] == "the store does not take it: not with me"
    found = last_ack(store)
    assert found is not None
    assert (found.upto, found.also, found.refused) == (5, [], [3])
    assert ingest.stats.refused == 1


def test_a_damaged_store_is_no_message_s_fault(tmp_path: Path) -> None:
    """It would be emptied into quarantine and acknowledged, and the devices would forget."""
    store = make_store(tmp_path)
    store.ingest(decode([message(seq, result(seq).data) for seq in range(1, 20)]))
    before = last_ack(store)
    store.close()
    path = tmp_path / "cloud.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'result'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    db.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * 64)
    store = make_store(tmp_path)
    ingest = Ingest(store, BrokerConfig(), "mqtt://127.0.0.1:1")
    received = [Received(link_of(ingest), message(30, result(30).data), 1, 1)]
    taking = threading.Thread(target=ingest._take, args=(received,), daemon=True)
    taking.start()
    error = wait_until(lambda: ingest.error, "the error to be shown")
    ingest._stop.set()
    taking.join()
    assert "the store cannot be written: database disk image is malformed; retrying" in error
    assert rows(store, t.quarantine) == []
    assert last_ack(store) == before
    assert ingest.stats.messages == 0
    store.close()


def test_refusals_are_logged_once_a_topic(ingest: Ingest, caplog: pytest.LogCaptureFixture) -> None:
    bulk = zstandard.compress(b"[" + b",".join([b"1"] * 500) + b"]")
    ingest._intake.take([Message(topics.topic(DEVICE, "bulk"), bulk), message(1, "{}")])
    first, second = [record.message for record in caplog.records]
    assert first.startswith(f"set aside: fieldwatch/v1/d/{DEVICE}/bulk: ")
    assert first.endswith(" (and 499 more)")
    assert second.endswith("ts: Field required")


def test_messages_without_flow_control_are_dropped_before_the_queue_grows_without_bound(ingest: Ingest) -> None:
    link = link_of(ingest)
    for number in range(RECEIVE_MAXIMUM + 7):
        link._enqueue(Received(link, message(number, "{}"), 0, 0))
    assert (ingest._queue.qsize(), ingest.stats.dropped) == (RECEIVE_MAXIMUM, 7)
    link._enqueue(Received(link, message(1, "{}"), 1, 1))  # these are bounded by the broker
    assert (ingest._queue.qsize(), ingest.stats.dropped) == (RECEIVE_MAXIMUM + 1, 7)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"ca": "ca.pem"}, ["broker.ca ca.pem cannot be used", "No such file"]),
        ({"certificate": "a.pem", "key": "a.key"}, ["broker.certificate a.pem with broker.key a.key cannot be used"]),
        ({"username": "u", "password_file": "secret"}, ["broker.password_file secret cannot be read", "No such file"]),
    ],
)
def test_a_file_that_is_missing_is_named(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, str], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ingest = Ingest(store, BrokerConfig.model_validate({"url": "mqtts://127.0.0.1:1", **more}))
    ingest._connect()
    for word in ["broker 127.0.0.1:1: ", *words]:
        assert word in (ingest.error or "")
