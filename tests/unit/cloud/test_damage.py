"""A store whose values were damaged on the disk, where SQLite notices nothing: nobody else's events wait for it.

The bookkeeping of one device is read in the transaction that stores the events of all.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from fieldwatch_cloud.config import BrokerConfig
from fieldwatch_cloud.ingest import Ingest
from fieldwatch_cloud.ingest.decode import Message
from fieldwatch_cloud.store import tables as t
from fieldwatch_contract import topics
from fieldwatch_contract.events import Ack, envelope

from tests.delivery import DEVICE, last_ack, make_store, result, rows, stored

OTHER = "press-0002"
TIME = "2026-11-01T00:00:00Z"


def message(seq: int, device: str = DEVICE, floor: int | None = None) -> Message:
    payload = envelope(device, "ab12", seq, "result", TIME, result(seq).data)
    return Message(topics.topic(device, "evt/result"), payload, floor=floor)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE ack SET also = '[1,'",
        "UPDATE ack SET also = '{\"a\": 1}'",
        "UPDATE ack SET also = '[\"x\", null]'",
        "UPDATE ack SET also = CAST(x'5bff5d' AS TEXT)",
        "UPDATE ack SET upto = 'xyz'",
        "UPDATE ack SET upto = -7",
        "INSERT INTO refused VALUES ('press-0001', 'ab12', 'x')",
        "UPDATE result SET sensors = '[\"a'",
        "UPDATE device SET health = '{', epoch = 'ab12'",
    ],
)
def test_one_damaged_row_stops_nobody_and_acknowledges_nothing_that_is_not_stored(tmp_path: Path, damage: str) -> None:
    store = make_store(tmp_path)
    ingest = Ingest(store, BrokerConfig(), "mqtt://127.0.0.1:1")
    ingest._intake.take([message(seq) for seq in (1, 2, 5)])
    with sqlite3.connect(tmp_path / "cloud.db") as db:
        db.execute(damage)
    db.close()
    store.receipts()
    ingest._intake.take([message(5, floor=3), message(6, floor=3), message(1, OTHER)])
    assert stored(store) == 4
    assert stored(store, OTHER) == 1
    assert rows(store, t.quarantine) == []
    found = last_ack(store)
    assert found is not None
    assert (found.upto, sorted(found.also)) == (2, [5, 6]), "4 has not come"
    store.close()


def test_what_can_be_neither_stored_nor_set_aside_is_not_acknowledged_and_holds_up_nobody(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    ingest = Ingest(store, BrokerConfig(), "mqtt://127.0.0.1:1")
    with sqlite3.connect(tmp_path / "cloud.db") as db:
        for table in ("result", "quarantine"):
            column = "device" if table == "result" else "topic"
            db.execute(
                f"CREATE TRIGGER no_{table} BEFORE INSERT ON {table} WHEN new.{column} LIKE '%{DEVICE}%' "
                "BEGIN SELECT RAISE(ABORT, 'not with me'); END"
            )
    db.close()
    left = ingest._intake.take([message(1), message(1, OTHER)])
    assert stored(store) == 0
    assert stored(store, OTHER) == 1
    assert last_ack(store) is None
    assert left is not None
    assert "can be neither stored nor set aside" in left
    store.close()


def test_an_acknowledgement_of_a_damaged_row_never_says_more(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    ingest = Ingest(store, BrokerConfig(), "mqtt://127.0.0.1:1")
    ingest._intake.take([message(seq) for seq in range(1, 9)])
    with sqlite3.connect(tmp_path / "cloud.db") as db:
        db.execute("UPDATE ack SET upto = 'x'")
    db.close()
    ingest._intake.take([message(9)])
    assert last_ack(store) == Ack(epoch="ab12", upto=0, also=[9])
    store.close()
