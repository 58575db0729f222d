"""A damaged journal: healed in place or row by row, or set aside; announced; never a traceback, never wrong data sent.

Two journals: one that this program made, and one of the first version, whose rows have no checksums.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from fieldwatch_agent import durable
from fieldwatch_agent.send.database import Damaged
from fieldwatch_agent.send.journal import Commit, Draft, Journal, JournalError, JournalGone, Progress, read_status
from fieldwatch_agent.send.packer import Packer
from fieldwatch_agent.send.plan import Plan
from fieldwatch_agent.send.seen import Seen
from fieldwatch_agent.send.sender import Sender
from fieldwatch_contract import clock
from fieldwatch_contract.alerts import AlertState, RuleState
from fieldwatch_contract.events import Ack

from tests.unit.agent.test_journal import DAY, balance, block

OLD = Path(__file__).parents[2] / "data" / "journal-v1" / "journal.sql"


def old_journal(folder: Path) -> Path:
    """The journal of the first version, as its own program left it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "journal.db"
    db = sqlite3.connect(path)
    db.executescript("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL;" + OLD.read_text(encoding="utf-8"))
    db.close()
    return path


def new_journal(folder: Path, results: int = 20) -> Path:
    """A journal with results, an alert and a gap in its outbox, and a command that it remembers."""
    journal = Journal(folder, 1 << 30)
    journal.commit(block(0, results, refused=2))
    journal.enqueue([Draft("alert", DAY, '{"alert_id":"a","sensors":[]}'), Draft("gap", DAY, '{"reason":"evicted"}')])
    journal.commit(block(results, 5))
    journal.remember([Seen("ab" * 16, clock.now(), "ended")])
    journal.close()
    return journal.path


def change(path: Path, *statements: str) -> None:
    """Damage a journal by SQL."""
    db = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        db.execute(statement)
    db.close()


def drain(journal: Journal) -> list[tuple[int, str, str]]:
    """Send everything and have it settled; return number, event and data of what went out."""
    outbox = journal.open_outbox()
    sent = []
    while page := outbox.pending(0, 7):
        sent += [(message.seq, message.event, message.data.decode()) for message in page]
        outbox.acknowledge(Ack(epoch=outbox.epoch, upto=page[-1].seq))
    journal.close_outbox(outbox)
    return sent


def told(sent: list[tuple[int, str, str]]) -> list[dict[str, object]]:
    """The gaps among what was sent."""
    return [json.loads(data) for _, event, data in sent if event == "gap"]


# ---- the first version --------------------------------------------------------------------------------------------


def test_the_journal_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    path = old_journal(tmp_path)
    before = sqlite3.connect(path)
    rows = before.execute("SELECT seq, event, data FROM outbox ORDER BY seq").fetchall()
    epoch = before.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()[0]
    before.close()
    for _ in range(2):  # the second time it is a journal of today
        journal = Journal(tmp_path, 1 << 30)
        assert not journal.crashed
        assert journal.epoch == epoch
        found = journal.progress()
        assert (found.position, found.rewind, found.newest) == ('{"offset": 100}', '{"offset": 0}', 1768608000000000)
        assert found.alerts == {"detector": RuleState(AlertState(3, 0, None, 1768608000000000, 4.5, 4.5, 3))}
        (day,) = journal.ledger()
        assert (day.read, day.scored, day.refused, day.pending) == (12, 3, {"columns": 2}, 7)
        outbox = journal.open_outbox()
        assert [(each.seq, each.event, each.data.decode()) for each in outbox.pending(0, 99)] == rows
        assert not outbox.foreign(Ack(epoch=epoch, upto=9))
        assert outbox.foreign(Ack(epoch=epoch, upto=10)), "the high-water mark came along"
        journal.stopped()
        journal.close()
        assert not list(tmp_path.glob("*.damaged-*"))
    journal = Journal(tmp_path, 1 << 30)
    journal.enqueue([Draft("alert", DAY, "{}")])
    assert [number for number, _, _ in drain(journal)] == [3, *range(5, 15)], "nothing is renumbered"
    assert balance(journal)
    journal.close()


def test_a_takeover_that_fails_half_way_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old_journal(tmp_path)
    monkeypatch.setattr(
        "fieldwatch_agent.send.database.MIGRATIONS",
        {2: ("ALTER TABLE meta ADD COLUMN sum INTEGER", "ALTER TABLE no_such ADD COLUMN sum INTEGER")},
    )
    with pytest.raises(sqlite3.OperationalError):
        from fieldwatch_agent.send.database import connect, migrate

        db = connect(path)
        migrate(db, 1)
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    assert len(db.execute("PRAGMA table_info(meta)").fetchall()) == 2
    db.close()


# ---- what is told of it -------------------------------------------------------------------------------------------


def test_damage_is_told_for_a_day_and_then_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Healed, set aside, and damage of the note itself; a sound journal tells nothing."""
    path = new_journal(tmp_path)
    journal = Journal(tmp_path, 1 << 30)
    assert journal.damage() == []
    journal.close()
    change(path, "UPDATE meta SET value = 'x' WHERE key = 'epoch'")
    journal = Journal(tmp_path, 1 << 30)
    (healed,) = journal.damage()
    assert "repaired: epoch has " in healed
    journal.close()
    change(path, "UPDATE meta SET value = '[[1]]' WHERE key = 'damage'")
    journal = Journal(tmp_path, 1 << 30)
    (noted,) = journal.damage()
    assert "repaired: damage, which is only shown, was removed" in noted
    journal.close()
    change(path, "DROP TABLE ledger")
    journal = Journal(tmp_path, 1 << 30)
    (aside,) = journal.damage()
    assert "set aside as journal.db.damaged-" in aside
    later = clock.now() + clock.DAY + clock.SECOND
    monkeypatch.setattr(clock, "now", lambda: later)
    assert journal.damage() == []
    journal.close()


def test_a_journal_that_was_set_back_is_told(tmp_path: Path) -> None:
    new_journal(tmp_path)
    journal = Journal(tmp_path, 1 << 30)
    outbox = journal.open_outbox()
    outbox.renew()
    assert "it was set back" in journal.damage()[0]
    journal.close_outbox(outbox)
    journal.close()


# ---- what does not parse, wherever it stands ----------------------------------------------------------------------


@pytest.mark.parametrize("make", [new_journal, old_journal], ids=["new", "old"])
@pytest.mark.parametrize(
    "value", ["'{'", "'null'", "'[1]'", "CAST(x'ff00' AS TEXT)", "''", "7", "x'00'"], ids=lambda v: v[:12]
)
@pytest.mark.parametrize("key", ["progress", "epoch", "sent", "last_alert"])
def test_a_value_that_does_not_parse_is_healed_and_announced(
    tmp_path: Path, make: object, key: str, value: str
) -> None:
    path: Path = make(tmp_path)  # type: ignore[operator]
    change(path, f"UPDATE meta SET value = {value} WHERE key = '{key}'")
    journal = Journal(tmp_path, 1 << 30)
    journal.progress()
    assert balance(journal)
    read_status(path)
    sent = drain(journal)
    harmless = key == "sent" and value in ("'7'", "7", "''")
    assert harmless or any(gap["reason"] == "journal_rebuilt" for gap in told(sent))
    assert {event for _, event, _ in sent} >= {"alert", "gap"}, "what no log brings again is not lost"
    assert balance(journal)
    journal.close()
    again = Journal(tmp_path, 1 << 30)
    assert drain(again) == [], "it is healed for good"
    again.close()


def test_one_of_two_positions_is_mended_from_the_other_and_nothing_is_lost(tmp_path: Path) -> None:
    for key in ("progress", "progress_copy"):
        path = new_journal(tmp_path / key)
        change(path, f"UPDATE meta SET value = replace(value, '25', '26') WHERE key = '{key}'")
        journal = Journal(tmp_path / key, 1 << 30)
        assert journal.progress().position == "25"
        assert len([event for _, event, _ in drain(journal) if event == "result"]) == 25
        journal.close()
        assert not list((tmp_path / key).glob("*.damaged-*"))


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE ledger SET read = 'x'",
        "UPDATE ledger SET day = 'yesterday'",
        "UPDATE ledger SET scored = -1",
        "UPDATE ledger SET day = CAST(x'ff' AS TEXT)",
        "UPDATE refused SET lines = 1.5",
        "UPDATE refused SET reason = CAST(x'fe' AS TEXT)",
        "UPDATE sqlite_sequence SET seq = 9223372036854775807 WHERE name = 'outbox'",
        "UPDATE sqlite_sequence SET seq = 1 WHERE name = 'outbox'",
        "UPDATE sqlite_sequence SET seq = 'x' WHERE name = 'outbox'",
        "UPDATE meta SET value = '{' WHERE key = 'commands'",
        "UPDATE meta SET value = '[]' WHERE key = 'raised'",
        "DELETE FROM meta",
        "DROP TABLE ledger",
        "PRAGMA user_version = 77",
    ],
)
def test_damage_outside_the_outbox_keeps_nobody_from_starting(tmp_path: Path, damage: str) -> None:
    path = new_journal(tmp_path)
    change(path, damage)
    journal = Journal(tmp_path, 1 << 30)
    journal.commit(block(25, 3))
    journal.remember(journal.commands())
    assert isinstance(journal.raised(), dict)
    sent = drain(journal)
    assert any(gap["reason"] == "journal_rebuilt" for gap in told(sent))
    assert "alert" in {event for _, event, _ in sent}
    journal.close()


DAMAGED_ROWS = [
    "data = CAST(x'7b22ff227d' AS TEXT)",
    "data = '{'",
    "data = x'00ff'",
    "data = replace(data, '20', '21')",
    "data = ''",
    "time = 'noon'",
    "day = '2026-01-71'",
    "event = 'resulu'",
    "sum = 7",
]


@pytest.mark.parametrize("damage", DAMAGED_ROWS)
def test_a_row_of_the_outbox_that_is_damaged_is_set_aside_alone_and_counted(tmp_path: Path, damage: str) -> None:
    path = new_journal(tmp_path)
    change(path, f"UPDATE outbox SET {damage} WHERE seq = 5")
    journal = Journal(tmp_path, 1 << 30)
    read_status(path)
    journal.outbox()
    sent = drain(journal)
    assert [number for number, event, _ in sent if event == "result"] == [*range(1, 5), *range(6, 21), *range(23, 28)]
    (gap,) = [gap for gap in told(sent) if gap.get("lines")]
    assert (gap["reason"], gap["lines"]) == ("evicted", 1)
    assert "damaged on the disk" in str(gap["detail"])
    (day,) = journal.ledger()
    assert (day.read, day.scored, day.evicted, day.pending) == (27, 24, 1, 0)
    assert balance(journal)
    assert read_status(path)["rejects"][0]["reason"] == "damaged"  # type: ignore[index]
    (noted,) = journal.damage()
    assert "1 event(s) of the outbox were damaged and set aside" in noted
    journal.close()


@pytest.mark.parametrize("damage", ["data = CAST(x'ff' AS TEXT)", "data = '[1'", "time = 'x'", "event = 'x'"])
def test_rows_without_a_checksum_are_judged_by_whether_they_parse(tmp_path: Path, damage: str) -> None:
    change(old_journal(tmp_path), f"UPDATE outbox SET {damage} WHERE seq = 8")
    journal = Journal(tmp_path, 1 << 30)
    assert [number for number, _, _ in drain(journal)][:9] == [3, 5, 6, 7, 9, 10, 11, 12, 13]
    assert balance(journal)
    journal.close()


def test_a_damaged_alert_is_told_too(tmp_path: Path) -> None:
    change(new_journal(tmp_path), "UPDATE outbox SET data = 'x' WHERE event = 'alert'")
    journal = Journal(tmp_path, 1 << 30)
    assert "1 alert(s): damaged on the disk" in str(told(drain(journal))[-1]["detail"])
    journal.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE ledger SET read = 16384 + read",
        "UPDATE ledger SET read = read - 3",
        "UPDATE ledger SET scored = 3",
        "UPDATE ledger SET day = '2066-01-17'",
        "UPDATE ledger SET day = '2026m01-17'",
        "UPDATE refused SET lines = 300",
        "UPDATE refused SET day = '2026-09-17'",
    ],
)
@pytest.mark.parametrize("running", [False, True])
def test_counts_that_do_not_add_up_are_told_and_do_again(tmp_path: Path, damage: str, running: bool) -> None:
    """A changed number is a number: only the equation shows it, and nothing is called lost that is not."""
    path = new_journal(tmp_path)
    journal = Journal(tmp_path, 1 << 30) if running else None
    change(path, damage)
    if journal is None:
        journal = Journal(tmp_path, 1 << 30)
    else:
        with pytest.raises(JournalError, match="is repaired"):
            journal.unreported_days()
    journal.unreported_days()
    assert balance(journal)
    assert sum(day.evicted for day in journal.ledger()) == 0
    assert sum(day.pending for day in journal.ledger()) == 25
    assert "ledger" in journal.damage()[-1]
    sent = drain(journal)
    assert balance(journal)
    assert sum(day.scored for day in journal.ledger()) >= 25
    assert [gap["reason"] for gap in told(sent)] == ["evicted", "journal_rebuilt"], "the first is the journal's own"
    journal.close()


@pytest.mark.parametrize("number", ["seq = 4", "NULL"])
def test_numbers_that_would_be_given_out_again_are_of_a_new_epoch(tmp_path: Path, number: str) -> None:
    """The cloud has settled them: what is sent under them it would acknowledge, and gaps it would not even store."""
    path = new_journal(tmp_path)
    journal = Journal(tmp_path, 1 << 30)
    outbox = journal.open_outbox()
    outbox.sending(27)
    outbox.acknowledge(Ack(epoch=outbox.epoch, upto=27))
    old = journal.epoch
    journal.close_outbox(outbox)
    journal.close()
    change(path, "DELETE FROM sqlite_sequence" if number == "NULL" else f"UPDATE sqlite_sequence SET {number}")
    journal = Journal(tmp_path, 1 << 30)
    assert journal.epoch != old
    assert "event 27 was sent" in journal.damage()[0]
    journal.close()


def test_an_alert_that_its_index_has_lost_is_found_and_sent(tmp_path: Path) -> None:
    """While the agent runs: alerts are looked up in an index, and everything else leaves them out."""
    journal = Journal(tmp_path, 1 << 30)
    sender = Sender(journal.open_outbox(), Plan(30, 600), Packer("press-0001"))
    with pytest.raises(Damaged, match="event 2 waits in the outbox") as found:
        drop_from_index(journal)
        while (parcel := sender.next(spare=True)) is not None:
            sender.sent(parcel, 0.0)
            sender.acknowledged(Ack(epoch=journal.epoch, upto=0, also=list(parcel.numbers)), 1.0)
    journal.close_outbox(sender.outbox, found.value)
    with pytest.raises(JournalError, match="is repaired"):
        journal.damage()
    assert [event for _, event, _ in drain(journal)] == ["alert", "gap"]
    journal.close()


def drop_from_index(journal: Journal) -> None:
    """Queue a gap and an alert, and take the alert out of its index, as a changed bit there does."""
    journal.enqueue([Draft("gap", DAY, '{"reason":"evicted"}'), Draft("alert", DAY, '{"alert_id":"a","sensors":[]}')])
    with sqlite3.connect(journal.path, isolation_level=None) as db:
        where = "WHERE type = 'index' AND name = 'outbox_others'"
        db.execute("PRAGMA writable_schema = ON")
        (sql,) = db.execute(f"SELECT sql FROM sqlite_master {where}").fetchone()
        db.execute(f"UPDATE sqlite_master SET sql = ? {where}", (sql.replace("'result'", "'alert'"),))
        db.execute("PRAGMA schema_version = 90")
    with sqlite3.connect(journal.path, isolation_level=None) as db:
        db.execute("REINDEX outbox_others")
        db.execute("PRAGMA writable_schema = ON")
        db.execute(f"UPDATE sqlite_master SET sql = ? {where}", (sql,))
        db.execute("PRAGMA schema_version = 91")
    db.close()


def test_damage_that_nobody_meets_is_found_by_a_look_at_the_whole_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1 << 30)
    for start in range(0, 3000, 500):
        journal.commit(block(start, 500))
    journal._file.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    journal.check()
    with journal.path.open("r+b") as file:
        file.seek(4096 * 40)
        file.write(os.urandom(4096))
    journal.release()
    journal.progress()
    with pytest.raises(JournalError, match="is repaired"):
        journal.check()
    journal.check()
    assert journal.damage()
    journal.close()


def test_the_same_damage_another_day_is_repaired_again(tmp_path: Path) -> None:
    """Only what shows again at once is believed against a sound file, and sets the journal aside."""
    journal = Journal(tmp_path, 1 << 30)
    for _ in range(2):
        drop_from_index(journal)
        with pytest.raises(JournalError, match="is repaired"):
            journal.check()
        journal.check()
    assert [event for _, event, _ in drain(journal)].count("alert") == 2
    assert not list(tmp_path.glob("*damaged*"))
    journal.close()


def test_a_damaged_schema_whose_message_is_no_text_is_damage(tmp_path: Path) -> None:
    """SQLite quotes what it cannot understand, and the words are then not UTF-8."""
    journal = Journal(tmp_path, 1 << 30)
    journal.commit(block(0, 20))
    journal._file.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    data = journal.path.read_bytes()
    with journal.path.open("r+b") as file:
        file.seek(data.index(b"tableledgerledger") + 6)
        file.write(b"\xec")
        file.seek(data.index(b"CREATE TABLE ledger"))
        file.write(b"C\xecEATE")
    with pytest.raises(UnicodeDecodeError):
        journal.open_outbox()
    with pytest.raises(JournalError, match="is repaired"):
        journal.progress()
    assert journal.damage()
    journal.close_outbox(journal.open_outbox())
    journal.close()


def test_a_folder_in_the_journals_place_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "journal.db").mkdir()
    (tmp_path / "journal.db" / "what.txt").touch()
    journal = Journal(tmp_path, 1 << 30)
    assert "it is a folder" in journal.damage()[0]
    assert [path.name for path in tmp_path.glob("journal.db.damaged-*/*")] == ["what.txt"]
    journal.close()


def test_who_holds_the_journal_is_asked_for_and_not_room(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1 << 30)
    journal._file.db.execute("PRAGMA busy_timeout = 1")
    with sqlite3.connect(journal.path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalError, match="database is locked; which other program has it open"):
            journal.commit(block(0, 1))
        other.execute("ROLLBACK")
    other.close()
    journal._file.db.execute("PRAGMA query_only = ON")
    with pytest.raises(JournalError, match="may the agent's account write it"):
        journal.commit(block(0, 1))
    journal._file.db.execute("PRAGMA query_only = OFF")
    journal.commit(block(0, 1))
    journal.close()


def test_an_index_that_lost_a_row_is_built_again(tmp_path: Path) -> None:
    """Otherwise the row would never be found, and never be sent."""
    path = new_journal(tmp_path)
    change(
        path,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = replace(sql, '''result''', '''health''') WHERE name = 'outbox_others'",
    )
    change(path, "REINDEX outbox_others")
    change(
        path,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = replace(sql, '''health''', '''result''') WHERE name = 'outbox_others'",
    )
    assert sqlite3.connect(path).execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok"
    journal = Journal(tmp_path, 1 << 30)
    outbox = journal.open_outbox()
    assert [message.event for message in outbox.urgent(0, 9)] == ["alert"]
    assert journal.progress().position == "25"
    journal.close()


# ---- the file -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_random_bytes_end_in_no_traceback_and_send_nothing_wrong(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    path = new_journal(tmp_path, results=300)
    whole = path.read_bytes()
    original = {(event, data) for _, event, data in _content(path)}
    data = bytearray(whole)
    for _ in range(dice.choice([1, 1, 1, 4, 40])):
        data[dice.randrange(100, len(data))] = dice.randrange(256)
    path.write_bytes(data)
    journal = _open(tmp_path)
    lost = journal.progress().position is None
    sent = _drained(journal)
    journal = sent[0]
    new = [(event, text) for _, event, text in sent[1] if (event, text) not in original]
    assert {event for event, _ in new} <= {"gap"}, "nothing wrong looks right"
    results = [event for _, event, _ in sent[1] if event == "result"]
    if not lost and journal.progress().position is not None:
        gaps = [gap for gap in told(sent[1]) if gap.get("lines")]
        assert len(results) + sum(int(str(gap["lines"])) for gap in gaps) >= 305, "what is missing is told"
    else:
        assert any(gap["reason"] == "journal_rebuilt" for gap in told(sent[1]))
    journal.close()


def _content(path: Path) -> list[tuple[int, str, str]]:
    db = sqlite3.connect(path)
    found = db.execute("SELECT seq, event, data FROM outbox").fetchall()
    db.close()
    return found


def _open(folder: Path) -> Journal:
    return Journal(folder, 1 << 30)


def _drained(journal: Journal) -> tuple[Journal, list[tuple[int, str, str]]]:
    """As the service and the uplink do it: damage that shows late is healed with the journal's next step."""
    for _ in range(5):
        try:
            journal.commit(Commit(journal.progress(), {}, {}, [], []))
            outbox = journal.open_outbox()
        except JournalError as error:
            assert "is repaired" in str(error)
            continue
        sent = []
        try:
            while page := outbox.pending(0, 50):
                sent += [(message.seq, message.event, message.data.decode()) for message in page]
                outbox.acknowledge(Ack(epoch=outbox.epoch, upto=page[-1].seq))
        except sqlite3.Error as error:
            journal.close_outbox(outbox, error)
            continue
        journal.close_outbox(outbox)
        return journal, sent
    pytest.fail("it is not healed")


@pytest.mark.parametrize("beside", ["nothing", "new"])
def test_a_write_ahead_log_of_another_life_is_not_replayed(tmp_path: Path, beside: str) -> None:
    """The file was lost, or replaced by a new one, and its log stayed."""
    state = tmp_path / "state"
    journal = Journal(state, 1 << 30)
    journal.commit(block(0, 300, size=200))
    stale = (state / "journal.db-wal").read_bytes()
    assert len(stale) > 50_000
    journal.close()
    (state / "journal.db").unlink()
    if beside == "new":
        new_journal(state)
    (state / "journal.db-wal").write_bytes(stale)
    again = Journal(state, 1 << 30)
    again.commit(Commit(Progress(position="1"), {DAY: 1}, {}, [], [Draft("result", DAY, "{}")]))
    assert drain(again)
    assert balance(again) or beside == "new", "what SQLite has mixed does not add up, and status shows that"
    again.close()


def test_damage_in_the_middle_of_a_run_is_healed_in_place(tmp_path: Path) -> None:
    """The file is closed by everybody before it is set aside, the uplink's side too."""
    journal = Journal(tmp_path, 1 << 30)
    for start in range(0, 3000, 500):
        journal.commit(block(start, 500))
    journal.enqueue([Draft("alert", DAY, '{"alert_id":"a","sensors":[]}')])
    journal._file.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    outbox, old = journal.open_outbox(), journal.epoch
    with journal.path.open("r+b") as file:
        file.seek(4096 * 4)
        file.write(os.urandom(4096 * 30))
    with pytest.raises(sqlite3.DatabaseError) as found:
        while page := outbox.pending(0, 400):
            outbox.acknowledge(Ack(epoch=old, upto=page[-1].seq))
    journal.close_outbox(outbox, found.value)
    second = journal.open_outbox()
    with pytest.raises(JournalError, match=r"was damaged .* and is repaired"):
        journal.progress()
    with pytest.raises(sqlite3.ProgrammingError):
        second.depth()
    assert len(list(tmp_path.glob("journal.db.damaged-*"))) == 1
    assert journal.epoch != old
    assert journal.progress() == Progress()
    journal.commit(block(0, 3))
    sent = drain(journal)
    assert [event for _, event, _ in sent] == ["alert", "gap", "result", "result", "result"]
    journal.close()


def test_a_write_ahead_log_that_is_cut_under_us_is_survived(tmp_path: Path) -> None:
    """SQLite then says "disk I/O error" for as long as the file stays open."""
    journal = Journal(tmp_path, 1 << 30)
    journal.commit(block(0, 20))
    os.truncate(tmp_path / "journal.db-wal", 0)
    told = []
    for _ in range(6):
        try:
            with suppress(sqlite3.Error):
                outbox = journal.open_outbox()
                try:
                    outbox.pending(0, 7)
                except sqlite3.Error as error:
                    journal.close_outbox(outbox, error)
            journal.commit(block(100, 3))
            break
        except JournalError as error:
            told.append(str(error))
    else:
        pytest.fail(f"never over: {told}")
    assert told
    assert [event for _, event, _ in drain(journal)][-3:] == ["result"] * 3
    assert balance(journal)
    journal.close()


def test_a_file_that_cannot_be_opened_again_is_tried_again(tmp_path: Path) -> None:
    """After a repair that failed the connection is closed: once the obstacle is gone, it goes on."""
    journal = Journal(tmp_path, 1 << 30)
    journal.commit(block(0, 20))
    journal.close_outbox(journal.open_outbox(), sqlite3.DatabaseError("x"))
    journal._file.db.close()
    away = tmp_path / "away"
    journal.path.rename(away)
    journal.path.mkdir()
    for _ in range(3):
        with pytest.raises(JournalError):
            journal.progress()
    journal.path.rmdir()
    away.rename(journal.path)
    with pytest.raises(JournalError):
        journal.progress()
    assert journal.progress().position is not None
    journal.close()


# ---- one agent ----------------------------------------------------------------------------------------------------

HOLDER = """
import sys, time
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from fieldwatch_agent.send.journal import Journal
journal = Journal(Path(sys.argv[1]), 1 << 30)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a symbolic link needs a right there")
def test_a_folder_that_does_not_answer_for_a_moment_is_not_gone(tmp_path: Path) -> None:
    """No right to it, a share that reconnects: what is open can be written, and nobody says that it was removed."""
    (tmp_path / "state").mkdir()
    (tmp_path / "way").symlink_to("state")
    journal = Journal(tmp_path / "way", 1 << 30)
    (tmp_path / "way").unlink()
    (tmp_path / "way").symlink_to("way")
    with pytest.raises(OSError, match="symbolic link"):
        journal.path.stat()
    journal.commit(block(0, 3))
    (tmp_path / "way").unlink()
    with pytest.raises(JournalGone, match="was removed"):
        journal.commit(block(3, 3))
    journal.close()


def test_a_second_agent_is_refused_and_told_who_is_there(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", HOLDER, str(tmp_path), str(root)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"ready\n"
    with pytest.raises(
        JournalError, match=rf"held by process {holder.pid}\): stop it, or give this one a \[state\] dir"
    ):
        Journal(tmp_path, 1 << 30)
    read_status(tmp_path / "journal.db")  # those who only look are not refused
    holder.kill()
    holder.wait()
    holder.stdout.close()
    journal = Journal(tmp_path, 1 << 30)  # the lock died with its holder
    assert journal.crashed, "it never said that it stops"
    journal.stopped()
    journal.close()
    assert not Journal(tmp_path, 1 << 30).crashed


@pytest.mark.parametrize("cut", ["-wal", "-shm", "", "new", "named"])
def test_a_replacement_that_is_cut_short_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    """By a full disk, by a program that holds a file, by a kill: alerts and the announcement are not forgotten."""
    path = new_journal(tmp_path)
    change(path, "PRAGMA user_version = 9")
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).write_bytes(b"")  # as a kill leaves them
    real, cuts = durable.replace, []

    def replace(source: Path, target: Path) -> None:
        last = {"new": source.name == f"{path.name}.new", "named": source.name == f"{path.name}.damaged"}
        if not cuts and last.get(cut, source.name == path.name + cut):
            cuts.append(source)
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(durable, "replace", replace)
    if cut != "named":
        with pytest.raises(JournalError):
            Journal(tmp_path, 1 << 30)
    for again in range(2):
        journal = Journal(tmp_path, 1 << 30)
        assert len(journal.damage()) == 1
        if again:
            sent = drain(journal)
        journal.close()
    assert [data for _, event, data in sent if event == "alert"] == ['{"alert_id":"a","sensors":[]}']
    assert [gap["reason"] for gap in told(sent)] == ["evicted", "journal_rebuilt"]
    assert len(cuts) == 1
    assert len([each for each in tmp_path.glob("*.damaged*") if not each.name.endswith(("-wal", "-shm"))]) == 1
    assert not path.with_name(f"{path.name}.damaged").exists()


def test_a_copy_of_the_file_is_not_touched_when_it_is_set_aside(tmp_path: Path) -> None:
    path = new_journal(tmp_path)
    change(path, "PRAGMA user_version = 9")
    shutil.copy(path, tmp_path / "copy")
    Journal(tmp_path, 1 << 30).close()
    (aside,) = tmp_path.glob("journal.db.damaged-*")
    assert aside.read_bytes() == (tmp_path / "copy").read_bytes()
