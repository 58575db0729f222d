"""The journal's promises: one transaction, nothing twice, nothing lost in silence, and a way back from damage."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from fieldwatch_agent import durable
from fieldwatch_agent.send.journal import (
    DAYS_AT_ONCE,
    DAYS_KEPT,
    DAYS_TOLD,
    Commit,
    Draft,
    Journal,
    JournalError,
    Outbox,
    Progress,
    Reject,
    read_status,
)
from fieldwatch_contract.alerts import AlertState, RuleState
from fieldwatch_contract.events import Ack, HealthData, LedgerDay

DAY = "2026-01-17"


def block(start: int, count: int, refused: int = 0, size: int = 20) -> Commit:
    """``count`` results from ``start`` and ``refused`` bad lines."""
    drafts = [
        Draft("result", DAY, json.dumps({"ts": f"{DAY}T00:00:00Z", "n": n, "pad": "x" * size}))
        for n in range(start, start + count)
    ]
    return Commit(
        Progress(position=str(start + count), rewind="0", newest=7, alerts={"m": RuleState(AlertState(above=2))}),
        {DAY: count + refused},
        {(DAY, "columns"): refused} if refused else {},
        [Reject("columns", "2 fields", b"a,b")] * refused,
        drafts,
    )


def balance(journal: Journal) -> bool:
    """The conservation equation for every day."""
    return all(
        day.read == day.scored + sum(day.refused.values()) + day.evicted + day.pending for day in journal.ledger()
    )


def test_progress_and_messages_come_back_as_committed(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1 << 30)
    first = block(0, 3, refused=2)
    journal.commit(first)
    epoch = journal.epoch
    journal.close()

    again = Journal(tmp_path, 1 << 30)
    assert again.epoch == epoch
    assert again.progress() == first.progress
    outbox = Outbox(again.path)
    assert [json.loads(message.data)["n"] for message in outbox.pending(0, 10)] == [0, 1, 2]
    assert balance(again)
    status = read_status(again.path)
    assert (
        status["rejects"]
        == [
            {"at": status["rejects"][0]["at"], "reason": "columns", "detail": "2 fields", "line": "a,b"}  # type: ignore[index]
        ]
        * 2
    )


def test_those_who_read_write_nothing(tmp_path: Path) -> None:
    """A disk without room for one more page must not keep ``status`` and the uplink from reading."""
    journal = Journal(tmp_path, 1 << 30)
    journal.commit(block(0, 3))
    files = [tmp_path / name for name in (journal.path.name, f"{journal.path.name}-wal")]
    before = [file.read_bytes() for file in files]
    read_status(journal.path)
    outbox = Outbox(journal.path)
    assert len(outbox.pending(0, 10)) == 3
    outbox.close()
    assert [file.read_bytes() for file in files] == before
    journal.close()
    with sqlite3.connect(journal.path) as db:
        assert db.execute("PRAGMA auto_vacuum").fetchone() == (2,), "pages are given back"


def test_acknowledged_messages_leave_and_count_as_scored(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1 << 30)
    journal.commit(block(0, 10))
    outbox = Outbox(journal.path)
    assert outbox.acknowledge(Ack(epoch="another epoch", upto=10)) == 0
    assert outbox.acknowledge(Ack(epoch=journal.epoch, upto=4, also=[2, 8])) == 5
    assert [message.seq for message in outbox.pending(0, 10)] == [5, 6, 7, 9, 10]
    assert outbox.floor() == 5
    day = journal.ledger()[0]
    assert (day.scored, day.pending, day.read) == (5, 5, 10)
    assert outbox.acknowledge(Ack(epoch=journal.epoch, upto=10)) == 5
    assert outbox.floor() == 11
    journal.commit(block(10, 1))
    assert outbox.pending(0, 10)[0].seq == 11, "a sequence number never comes again"


def test_what_was_never_given_out_is_not_acknowledged(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1 << 30)
    journal.commit(block(0, 10))
    outbox = Outbox(journal.path)
    assert outbox.acknowledge(Ack(epoch=journal.epoch, upto=11)) == 0
    assert outbox.acknowledge(Ack(epoch=journal.epoch, upto=3, also=[2**53])) == 0
    assert len(outbox.pending(0, 99)) == 10


def test_a_journal_that_was_set_back_takes_a_new_epoch(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1 << 30)
    journal.commit(block(0, 10))
    outbox = Outbox(journal.path)
    outbox.sending(6)
    outbox.close()
    outbox = Outbox(journal.path)  # it remembers
    assert not outbox.foreign(Ack(epoch="", upto=6))
    assert outbox.foreign(Ack(epoch="", upto=7))
    assert outbox.foreign(Ack(epoch="", upto=0, also=[5, 7]))
    outbox.renew()
    assert outbox.foreign(Ack(epoch="", upto=1))
    outbox.close()
    journal.close()
    again = Journal(tmp_path, 1 << 30)
    assert again.epoch == outbox.epoch != journal.epoch
    messages = Outbox(again.path).pending(0, 99)
    assert [message.seq for message in messages] == list(range(1, 12)), "all of it is sent again"
    assert json.loads(messages[-1].data)["reason"] == "journal_rebuilt"
    assert balance(again)


def test_full_outbox_gives_up_results_announces_them_and_keeps_alerts(tmp_path: Path) -> None:
    limit = 400_000
    journal = Journal(tmp_path, limit)
    journal.enqueue([Draft("alert", DAY, '{"sensors":[]}')])
    for start in range(0, 3000, 100):
        journal.commit(block(start, 100, size=300))
        assert journal.outbox().bytes <= limit * 1.2
        assert balance(journal)
    day = journal.ledger()[0]
    outbox = Outbox(journal.path)
    kept = outbox.pending(0, 10_000)
    gaps = [json.loads(message.data) for message in kept if message.event == "gap"]
    assert kept[0].event == "alert"
    assert day.read == 3000
    assert day.evicted == sum(gap["lines"] for gap in gaps) > 1000
    assert all(gap["reason"] == "evicted" and gap["start"] for gap in gaps)
    results = [json.loads(message.data)["n"] for message in kept if message.event == "result"]
    assert results == list(range(day.evicted, 3000)), "the oldest go first"


def health(journal: Journal, n: int = 0) -> HealthData:
    """A report as the service makes it."""
    return HealthData(
        ts=f"{DAY}T00:00:00Z",
        agent="0.1.0",
        bundle=None,
        log="following",
        last_reading=None,
        lag_bytes=n,
        outbox=journal.outbox(),
        ledger=journal.unreported_days(),
    )


def test_health_is_queued_once_while_it_waits(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1 << 30)
    outbox = Outbox(journal.path)
    for n in range(5):
        journal.report(health(journal, n))
    assert [message.event for message in outbox.pending(0, 10)] == ["health"]
    assert read_status(journal.path)["health"]["lag_bytes"] == 4  # type: ignore[index]
    outbox.acknowledge(Ack(epoch=journal.epoch, upto=1))
    journal.report(health(journal, 5))
    assert len(outbox.pending(0, 10)) == 1


def test_each_day_of_a_backlog_is_told_until_its_numbers_are_final(tmp_path: Path) -> None:
    """The cloud, which takes each day from the newest event that names it, ends with the ledger of the device."""
    journal = Journal(tmp_path, 1 << 30)
    outbox = Outbox(journal.path)
    days = [f"2025-{month:02d}-{day:02d}" for month in range(1, 13) for day in range(1, 29)]
    cloud: dict[str, LedgerDay] = {}
    told_at_once = []

    def deliver() -> None:
        waiting = outbox.pending(0, 10_000)
        for message in waiting:
            if message.event == "health":
                ledger = HealthData.model_validate_json(message.data).ledger
                told_at_once.append(len(ledger))
                cloud.update({day.day: day for day in ledger})
        outbox.acknowledge(Ack(epoch=journal.epoch, upto=waiting[-1].seq if waiting else 0))

    expected = {}
    for n, day in enumerate(days):
        drafts = [Draft("result", day, json.dumps({"ts": f"{day}T00:00:00Z"})) for _ in range(3)]
        journal.commit(Commit(Progress(), {day: 4}, {(day, "columns"): 1}, [], drafts))
        expected[day] = LedgerDay(day=day, read=4, scored=3, refused={"columns": 1}, evicted=0, pending=0)
        if n == len(days) // 2:
            journal.report(health(journal))  # on the way, while nothing has arrived
    assert not journal.all_reported()
    for _ in range(9):
        deliver()
        if journal.all_reported():
            break
        journal.report(health(journal))
    assert cloud == expected
    assert max(told_at_once) == DAYS_AT_ONCE
    journal.report(health(journal))
    deliver()
    assert told_at_once[-1] == DAYS_TOLD, "what was told is not told again, but for the newest days"
    assert [day.day for day in journal.ledger()] == days[-DAYS_KEPT:]
    assert cloud == expected


@pytest.mark.parametrize("damage", ["header", "middle", "empty", "text"])
def test_damaged_journal_is_set_aside_and_announced(tmp_path: Path, damage: str) -> None:
    journal = Journal(tmp_path, 1 << 30)
    for start in range(0, 2000, 500):
        journal.commit(block(start, 500))
    old = journal.epoch
    journal.close()
    data = bytearray(journal.path.read_bytes())
    match damage:
        case "header":
            data[:64] = bytes(64)
        case "middle":
            data[8192:-4096] = os.urandom(len(data) - 12288)
        case "empty":
            data = bytearray()
        case "text":
            data = bytearray(b"not a database" * 100)
    journal.path.write_bytes(data)

    again = Journal(tmp_path, 1 << 30)
    assert again.epoch != old
    assert again.progress() == Progress()
    messages = Outbox(again.path).pending(0, 10)
    assert [json.loads(message.data)["reason"] for message in messages] == ["journal_rebuilt"]
    aside = list(tmp_path.glob("journal.db.damaged-*"))
    assert len(aside) == 1
    if damage != "empty":  # opening a file may touch its header
        assert aside[0].read_bytes()[100:] == bytes(data)[100:]


def test_failed_commit_changes_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1 << 30)
    journal.commit(block(0, 2))
    blocker = sqlite3.connect(journal.path, isolation_level=None)
    pages = blocker.execute("PRAGMA page_count").fetchone()[0]
    journal._file.db.execute(f"PRAGMA max_page_count = {pages + 1}")  # SQLite's own way to make the disk full
    with pytest.raises(JournalError, match="disk full"):
        journal.commit(block(2, 5000))
    assert journal.progress().position == "2"
    assert len(Outbox(journal.path).pending(0, 9999)) == 2
    assert balance(journal)
    journal._file.db.execute("PRAGMA max_page_count = 1000000")
    journal.commit(block(2, 5000))
    assert journal.progress().position == "5002"


def test_what_the_cloud_could_not_store_counts_as_refused_and_is_told(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1 << 30)
    journal.commit(block(0, 5))
    journal.enqueue([Draft("alert", DAY, "{}"), Draft("gap", DAY, "{}"), Draft("alert", DAY, "{}")])
    outbox = Outbox(journal.path)
    ack = Ack(epoch=journal.epoch, upto=4, also=[6, 7], refused=[2, 3, 5, 6, 7])
    outbox.acknowledge(ack)
    (day,) = journal.ledger()
    assert (day.read, day.scored, day.refused, day.pending) == (5, 2, {"quarantined": 2}, 1)
    five, alert, gap = outbox.pending(0, 9)
    assert (five.seq, alert.seq) == (5, 8), "5 is refused, and not settled"
    told = json.loads(gap.data)
    assert (told["reason"], told["lines"]) == ("evicted", 2)
    assert told["detail"].startswith("2 result(s) and 1 alert(s): the cloud could not read them")
    outbox.acknowledge(Ack(epoch=journal.epoch, upto=9, refused=[9]))
    assert outbox.pending(0, 9) == [], "a gap of a gap would never end"
    assert balance(journal)


def used(folder: Path) -> int:
    """Bytes of the journal's file on the disk."""
    return (folder / "journal.db").stat().st_size


@pytest.mark.parametrize("size", [300, 3000, 30_000])
def test_the_limit_holds_after_each_commit_however_much_one_brings(tmp_path: Path, size: int) -> None:
    """A month with every reading in the results, the broker away: each block is larger than a tenth of the limit."""
    limit = 1_000_000
    journal = Journal(tmp_path, limit)
    read = 0
    for _ in range(6):
        journal.commit(block(read, 400, refused=20, size=size))
        read += 400
        assert journal.outbox().bytes <= limit
        assert used(tmp_path) <= limit
        assert balance(journal)
    gaps = [json.loads(message.data) for message in Outbox(journal.path).pending(0, 9999) if message.event == "gap"]
    (day,) = journal.ledger()
    assert day.evicted == sum(gap["lines"] for gap in gaps)
    assert day.evicted + day.pending == read


def test_at_the_last_alerts_give_up_their_evidence_and_stay(tmp_path: Path) -> None:
    limit = 1_000_000
    journal = Journal(tmp_path, limit)
    for number in range(120):
        text = json.dumps({"alert_id": str(number), "sensors": [], "evidence": {"z": "x" * 30_000}})
        journal.commit(Commit(Progress(), {}, {}, [], [Draft("alert", DAY, text)]))
        assert used(tmp_path) <= limit
    messages = Outbox(journal.path).pending(0, 999)
    alerts = [json.loads(message.data) for message in messages if message.event == "alert"]
    assert [alert["alert_id"] for alert in alerts] == [str(number) for number in range(120)]
    bare = sum("evidence" not in alert for alert in alerts)
    told = [json.loads(message.data)["detail"] for message in messages if message.event == "gap"]
    assert bare == sum(int(detail.rpartition("; ")[2].split()[0]) for detail in told) > 60


def test_the_low_water_mark_is_read_in_one_statement(tmp_path: Path) -> None:
    """Between two, another connection may add a row and have it acknowledged: the mark would lie above it."""
    journal = Journal(tmp_path, 1 << 30)
    outbox = Outbox(journal.path)
    statements: list[str] = []
    outbox._db.set_trace_callback(statements.append)
    assert outbox.floor() == 1
    journal.commit(block(0, 3))
    assert outbox.floor() == 1
    outbox._db.set_trace_callback(None)
    assert len(statements) == 2
    outbox.acknowledge(Ack(epoch=journal.epoch, upto=3))
    assert outbox.floor() == 4


def test_commits_are_on_the_disk(tmp_path: Path) -> None:
    """Under WAL anything less than FULL forgets the last commits in a power cut (measured)."""
    journal = Journal(tmp_path, 1 << 30)
    for db in (journal._file.db, Outbox(journal.path)._db):
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


class Synced:
    """Which files and folders were flushed, made and renamed, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[tuple[str, str]] = []
        fsync, replace, mkdir = os.fsync, Path.replace, Path.mkdir

        def flushed(handle: int) -> None:
            self.steps.append(("sync", os.path.realpath(f"/proc/self/fd/{handle}")))
            fsync(handle)

        def replaced(path: Path, target: Path) -> Path:
            self.steps.append(("rename", str(target)))
            return replace(path, target)

        def made(path: Path, *arguments: int, **more: bool) -> None:
            self.steps.append(("mkdir", str(path)))
            mkdir(path, *arguments, **more)

        monkeypatch.setattr(os, "fsync", flushed)
        monkeypatch.setattr(Path, "replace", replaced)
        monkeypatch.setattr(Path, "mkdir", made)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_file_is_flushed_before_it_gets_its_name_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = Synced(monkeypatch)
    durable.write(tmp_path / "a.json", b"{}")
    assert synced.steps == [
        ("sync", str(tmp_path / "a.json.tmp")),
        ("rename", str(tmp_path / "a.json")),
        ("sync", str(tmp_path)),
    ]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_new_state_folder_and_journal_survive_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = Synced(monkeypatch)
    state = tmp_path / "var" / "state"
    Journal(state, 1 << 30)
    assert synced.steps == [
        ("mkdir", str(tmp_path / "var")),
        ("sync", str(tmp_path)),
        ("mkdir", str(state)),
        ("sync", str(tmp_path / "var")),
        ("sync", str(state / "journal.db.new")),
        ("rename", str(state / "journal.db")),
        ("sync", str(state)),
    ]


WRITER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from fieldwatch_agent.send.journal import Journal
from tests.unit.agent.test_journal import block
journal = Journal(Path(sys.argv[1]), 1 << 30)
print("ready", flush=True)
start = int(journal.progress().position or 0)
while True:
    journal.commit(block(start, 7, refused=1))
    start += 7
"""


def test_killed_writer_leaves_whole_blocks(tmp_path: Path) -> None:
    """Position, results and ledger agree after each of many real kills."""
    root = Path(__file__).parents[3]
    for _ in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(root)], stdout=subprocess.PIPE, cwd=root
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        writer.stdout.read(0)
        try:
            writer.wait(0.05)
        except subprocess.TimeoutExpired:
            writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        journal = Journal(tmp_path, 1 << 30)
        position = int(journal.progress().position or 0)
        results = [json.loads(m.data)["n"] for m in Outbox(journal.path).pending(0, 10**6)]
        assert results == list(range(position))
        assert balance(journal)
        journal.close()
    assert position > 0
