"""The audit trail notices what was changed behind its back."""

from __future__ import annotations

import pytest
from fieldwatch_cloud.store import Store
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.audit import START, check, digest, entries, newest, record
from sqlalchemy import delete, update
from sqlalchemy.exc import SQLAlchemyError


@pytest.fixture
def five(store: Store) -> Store:
    with store.write() as db:
        for number in range(5):
            record(db, "ada", "alert.acknowledge", f"alert {number}", "seen\nit", at=1000 + number)
    return store


def verdict(store: Store, expect: tuple[int, str] | None = None) -> tuple[int, str, str]:
    with store.read() as db:
        return check(entries(db), expect)


def test_a_sound_trail_is_told_with_its_end(five: Store) -> None:
    number, end, wrong = verdict(five)
    assert (number, wrong) == (5, "")
    assert verdict(five, (number, end))[2] == ""
    with five.read() as db:
        assert [one.id for one in newest(db, 2)] == [5, 4]
        assert [one.id for one in newest(db, 2, before=4)] == [3, 2]
        assert [one.id for one in entries(db, since=1003)] == [4, 5]


@pytest.mark.parametrize("change", [{"who": "bob"}, {"why": ""}, {"at": 1}, {"target": "alert 9"}, {"hash": "0" * 64}])
def test_a_changed_entry_is_noticed(five: Store, change: dict[str, object]) -> None:
    with five.write() as db:
        db.execute(update(t.audit).where(t.audit.c.id == 3).values(**change))
    number, _, wrong = verdict(five)
    assert number == 2 and "entry 3 was changed" in wrong


def test_an_entry_that_was_changed_with_its_hash_breaks_the_next(five: Store) -> None:
    with five.write() as db:
        row = next(one for one in entries(db) if one.id == 2)
        forged = digest(START, 3, 1002, "bob", "x", "y", "z")
        assert row.hash != forged
        db.execute(update(t.audit).where(t.audit.c.id == 3).values(who="bob", hash=forged))
    assert verdict(five)[2]


def test_a_removed_entry_is_noticed(five: Store) -> None:
    _, end, _ = verdict(five)
    with five.write() as db:
        db.execute(delete(t.audit).where(t.audit.c.id == 2))
    assert verdict(five)[2] == "entry 2 is missing: after 1 comes 3"
    with five.write() as db:
        db.execute(delete(t.audit).where(t.audit.c.id > 1))
    assert verdict(five)[2] == ""  # the rest is sound: only who noted the end can tell
    assert "the end was cut or rewritten" in verdict(five, (5, end))[2]


def test_an_act_that_fails_leaves_no_entry(store: Store) -> None:
    with pytest.raises(SQLAlchemyError), store.write() as db:
        record(db, "ada", "alert.close")
        db.exec_driver_sql("INSERT INTO nowhere VALUES (1)")
    assert verdict(store)[0] == 0


def test_texts_join_to_nothing_that_another_entry_could_be() -> None:
    one = digest(START, 1, 1, "a", "b", "c", "d")
    assert one != digest(START, 1, 1, "ab", "", "c", "d")
    assert one != digest(START, 1, 1, "a", "b", 'c","d', "")
