"""What a device said last is its newest state, whatever its clock does and in whatever order it arrives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy
from fieldwatch_agent.send.journal import Draft
from fieldwatch_cloud.ingest.decode import Message, decode
from fieldwatch_cloud.store import Store
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.devices import SILENT
from fieldwatch_cloud.store.fleet import read_fleet
from fieldwatch_cloud.web.queries import Queries
from fieldwatch_contract import clock, topics
from fieldwatch_contract.events import BundleRef, Components, DeviceState, GapData, HealthData, LedgerDay, envelope

from tests.delivery import DEVICE, health, rows

NOON = clock.parse_iso("2026-11-05T12:00:00Z")
MINUTE, HOUR, DAY = clock.MINUTE, 60 * clock.MINUTE, clock.DAY


def event(seq: int, draft: Draft, at: int, epoch: str = "aa") -> Message:
    data = envelope(DEVICE, epoch, seq, draft.event, clock.iso(at), draft.data)
    return Message(topics.topic(DEVICE, f"evt/{draft.event}"), data)


def report(seq: int, at: int, epoch: str = "aa", **more: Any) -> Message:
    """A report that the device makes at ``at`` by its clock; it calls its agent by its place."""
    data = health(0).model_copy(update={"ts": clock.iso(at), "agent": f"{epoch}:{seq}", "last_reading": None} | more)
    return event(seq, Draft("health", "", HealthData.model_validate(data.model_dump()).model_dump_json()), at, epoch)


def online(epoch: str, at: int, connection: str | None = None, status: str = "online") -> Message:
    said: dict[str, Any] = {"status": status, "since": clock.iso(at), "connection": connection or f"of-{epoch}"}
    state = DeviceState.model_validate(said | {"epoch": epoch})
    return Message(topics.topic(DEVICE, "state"), state.model_dump_json().encode())


def take(store: Store, now: int, *messages: Message) -> None:
    """Let messages arrive together at ``now`` by our clock."""
    store.ingest(decode(messages), now)


def device(store: Store) -> dict[str, Any]:
    (row,) = rows(store, t.device)
    return row


def shown(store: Store, now: int) -> list[str]:
    """What the tile says about the device's clock."""
    with store.read() as db:
        (one,) = read_fleet(db, now)
    return [finding.word for finding in one.standing.findings if finding.state == "clock"]


def live(store: Store, first: int, count: int, off: int, begin: int = NOON) -> int:
    """Let reports arrive, one a minute from ``begin`` on, by a clock that is ``off``; return when the last one came."""
    for minute in range(count):
        take(store, begin + minute * MINUTE, report(first + minute, begin + minute * MINUTE + off))
    return begin + (count - 1) * MINUTE


# ---- which report is the newest ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "off", [-400 * DAY, -DAY, -HOUR, HOUR, 20 * HOUR, 400 * DAY], ids=lambda off: f"{off // HOUR}h"
)
def test_a_clock_that_is_set_freezes_nothing_neither_there_nor_back(store: Store, off: int) -> None:
    live(store, 1, 3, 0)
    live(store, 4, 2, off, NOON + 3 * MINUTE)
    now = NOON + 5 * MINUTE
    other = BundleRef(name="press", version="2", sha256="cd" * 32)
    take(store, now, report(6, now + off, bundle=other))
    row = device(store)
    assert (row["agent_version"], row["health"]["ts"]) == ("aa:6", clock.iso(now + off))
    assert (row["bundle_version"], row["health_received"]) == ("2", now)
    take(store, now + MINUTE, report(7, now + MINUTE))
    assert device(store)["agent_version"] == "aa:7"


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1), (1, 3, 0, 2)])
@pytest.mark.parametrize("cut", [0, 2])
def test_what_comes_late_of_before_says_nothing_new(store: Store, order: Sequence[int], cut: int) -> None:
    """Two reports of before the clock was set back, and two of after."""
    made = [NOON, NOON + MINUTE, NOON - DAY, NOON - DAY + MINUTE]
    messages = [report(seq, at, components=parts(seq)) for seq, at in enumerate(made, 1)]
    for part in (order[:cut], order[cut:]):
        take(store, NOON + HOUR, *(messages[place] for place in part))
    assert (device(store)["agent_version"], device(store)["health_at"]) == ("aa:4", made[3])
    assert [row["versions"] for row in rows(store, t.inventory)] == [{"numpy": ["4"]}]


def parts(number: int) -> Components:
    return Components(versions={"numpy": [str(number)]}, complete=True)


def test_only_the_newest_report_is_news_for_those_who_watch(store: Store) -> None:
    first, second, third = (report(seq, NOON + seq * MINUTE) for seq in (1, 2, 3))
    told = [store.ingest(decode(some), NOON).notices for some in ([first, third], [second], [third])]
    assert [[one.data["agent"] for one in notices] for notices in told] == [["aa:3"], [], []]


def test_a_report_from_before_places_were_kept_gives_way_to_the_next(store: Store) -> None:
    take(store, NOON, report(500, NOON + DAY))
    with store.write() as db:
        db.exec_driver_sql(
            "UPDATE device SET epoch = 'gone', epoch_heard = NULL, health_epoch = NULL, health_seq = NULL"
        )
    take(store, NOON + 1, report(501, NOON))
    assert (device(store)["agent_version"], device(store)["epoch"]) == ("aa:501", "aa")


# ---- incarnations of the journal ---------------------------------------------------------------------------------


@pytest.mark.parametrize("off", [-DAY, 0, DAY])
def test_a_new_journal_speaks_from_its_first_connection_on(store: Store, off: int) -> None:
    take(store, NOON, online("aa", NOON), report(500, NOON))
    take(store, NOON + 1, online("bb", NOON + off), report(1, NOON + off, "bb", components=parts(1)))
    assert device(store)["agent_version"] == "bb:1"
    take(store, NOON + 2, report(501, NOON + 2 * DAY, "aa", components=parts(501)))  # was still under way
    assert (device(store)["agent_version"], device(store)["epoch"]) == ("bb:1", "bb")
    assert [row["versions"] for row in rows(store, t.inventory)] == [{"numpy": ["1"]}]
    assert [(device_, receipt.epoch) for device_, receipt in store.receipts()] == [(DEVICE, "bb")]


def test_a_journal_that_a_backup_brings_back_speaks_again(store: Store) -> None:
    take(store, NOON, online("aa", NOON), report(500, NOON))
    take(store, NOON + 1, online("bb", NOON), report(1, NOON, "bb"))
    take(store, NOON + 2, online("aa", NOON - DAY, "c3"), report(501, NOON - DAY, "aa"))
    assert device(store)["agent_version"] == "aa:501"


def test_a_journal_of_which_no_connection_told_speaks_when_the_other_is_silent(store: Store) -> None:
    take(store, NOON, online("aa", NOON), report(500, NOON))
    take(store, NOON + SILENT, report(1, NOON - DAY, "bb"))
    assert device(store)["agent_version"] == "aa:500"
    take(store, NOON + SILENT + 1, report(2, NOON - DAY, "bb"))
    assert device(store)["agent_version"] == "bb:2"
    take(store, NOON + SILENT + 2, report(501, NOON, "aa"))
    assert device(store)["agent_version"] == "bb:2"


def test_the_ledger_of_the_current_journal_speaks_though_its_clock_is_behind(store: Store) -> None:
    def day(read: int) -> list[LedgerDay]:
        return [LedgerDay(day="2026-11-05", read=read, scored=read, refused={}, evicted=0, pending=0)]

    take(store, NOON, online("aa", NOON), report(500, NOON, ledger=day(900)))
    take(store, NOON + 1, online("bb", NOON - DAY), report(1, NOON - DAY, "bb", ledger=day(5)))
    (balance,) = Queries(store.engine).conservation(DEVICE, 5)
    assert (balance.read, balance.epochs) == (5, 2)


def test_what_was_announced_last_stands_first_whatever_its_date(store: Store) -> None:
    for number, at in enumerate((NOON, NOON - DAY, NOON - HOUR), 1):
        gap = GapData(reason="log_truncated", detail=f"no. {number}")
        take(store, NOON + number * MINUTE, event(number, Draft("gap", "", gap.model_dump_json()), at))
    assert [row.seq for row in Queries(store.engine).announcements(DEVICE)] == [3, 2, 1]
    with store.read() as db:
        (one,) = read_fleet(db, NOON + HOUR)
    (lost,) = [finding for finding in one.standing.findings if finding.state == "lost"]
    assert "no. 3" in lost.reason


def test_a_look_at_the_fleet_goes_through_no_report_that_is_stored(store: Store) -> None:
    take(store, NOON, online("aa", NOON), report(1, NOON, lines=None))
    asked: list[tuple[str, Any]] = []

    def note(_db: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        asked.append((statement, values))

    sqlalchemy.event.listen(store.engine, "before_cursor_execute", note)
    with store.read() as db:
        read_fleet(db, NOON)
    sqlalchemy.event.remove(store.engine, "before_cursor_execute", note)
    with store.read() as db:
        plans = [
            step
            for statement, values in asked
            if statement.startswith("SELECT")
            for *_, step in db.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
            if "event" in step.split()
        ]
    assert len(plans) == 3, "gaps, and two ledgers of before"
    assert all("(device=? AND type=?)" in step or "(device=? AND epoch=? AND seq<?)" in step for step in plans), plans


# ---- connections -------------------------------------------------------------------------------------------------


def test_a_late_will_says_nothing_though_the_clock_was_set_back_since(store: Store) -> None:
    take(store, NOON, online("aa", NOON, "c1"))
    take(store, NOON + 1, online("aa", NOON - DAY, "c2"))
    take(store, NOON + 2, online("aa", NOON, "c1", "offline"))
    assert (device(store)["status"], device(store)["connection"]) == ("online", "c2")
    take(store, NOON + 3, online("aa", NOON - DAY, "c2", "offline"))
    assert device(store)["status"] == "offline"


def test_an_online_that_comes_late_brings_no_older_connection_back(store: Store) -> None:
    """Two workers share a subscription, and one is slow."""
    take(store, NOON, online("aa", NOON, "c1"), online("aa", NOON + 1, "c2"), online("aa", NOON, "c1"))
    assert (device(store)["status"], device(store)["connection"]) == ("online", "c2")
    take(store, NOON + 2, online("aa", NOON + 1, "c2", "offline"))
    assert device(store)["status"] == "offline"


@pytest.mark.parametrize("ended", [-clock.SECOND, HOUR], ids=["by its will", "by itself"])
def test_an_online_that_was_said_does_not_bring_back_a_connection_that_has_ended(store: Store, ended: int) -> None:
    """A broker that was killed gives out the state that it had last written."""
    first = online("aa", NOON, "c1")
    take(store, NOON, first)
    take(store, NOON + HOUR, online("aa", NOON + ended, "c1", "offline"))
    take(store, NOON + 2 * HOUR, first)
    assert (device(store)["status"], device(store)["status_since"]) == ("offline", NOON + HOUR)
    take(store, NOON + 3 * HOUR, online("aa", NOON + 3 * HOUR, "c1"))
    assert device(store)["status"] == "online", "a simple client that gives all of them one name"


def test_a_will_is_no_word_of_the_device(store: Store) -> None:
    """The broker gives out what it retains at each start of ingest, also of a device that was given up years ago."""
    take(store, NOON, online("aa", NOON, "c1"))
    for later in (MINUTE, 400 * DAY):
        take(store, NOON + later, online("aa", NOON, "c1", "offline"))
    assert (device(store)["last_seen"], device(store)["status_since"]) == (NOON, NOON + MINUTE)


def test_a_will_does_not_bring_back_an_epoch(store: Store) -> None:
    """It names the epoch of when it was made; the journal was rebuilt since."""
    take(store, NOON, online("aa", NOON, "c1"), online("bb", NOON, "c1"), online("aa", NOON, "c1", "offline"))
    assert (device(store)["status"], device(store)["epoch"]) == ("offline", "bb")


# ---- a clock that is wrong is told as such -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("off", "word"),
    [(-DAY, "clock behind"), (-11 * MINUTE, "clock behind"), (11 * MINUTE, "clock ahead"), (3 * DAY, "clock ahead")],
)
def test_a_clock_that_is_set_is_told_with_the_next_report_and_over_with_the_one_that_is_right(
    store: Store, off: int, word: str
) -> None:
    now = live(store, 1, 3, 0)
    assert shown(store, now) == []
    now = live(store, 4, 1, off, NOON + 3 * MINUTE)
    assert shown(store, now) == [word]
    now = live(store, 5, 30, off, NOON + 4 * MINUTE)
    assert shown(store, now) == [word], "as long as it lasts"
    now = live(store, 35, 1, 0, now + MINUTE)
    assert shown(store, now) == []


@pytest.mark.parametrize("first", [-400 * DAY, 400 * DAY])
def test_a_clock_that_was_always_wrong_is_told_with_the_second_report(store: Store, first: int) -> None:
    now = live(store, 1, 2, first)
    assert shown(store, now) == ["clock behind" if first < 0 else "clock ahead"]


@pytest.mark.parametrize("delay", [MINUTE, 9 * HOUR, 30 * DAY])
def test_a_backlog_is_no_clock_that_is_behind(store: Store, delay: int) -> None:
    """A report an hour, as an agent keeps them while it is away, and then it is back: two batches, and live again."""
    now = live(store, 1, 3, 0)
    made = [now + hour * HOUR for hour in range(1, 8)]
    back = made[-1] + delay
    take(store, back, *(report(4 + place, at) for place, at in enumerate(made[:4])))
    assert shown(store, back) == []
    take(store, back + 40 * clock.SECOND, *(report(8 + place, at) for place, at in enumerate(made[4:])))
    assert shown(store, back + 40 * clock.SECOND) == []
    now = live(store, 11, 3, 0, back + MINUTE)
    assert shown(store, now) == []
    assert device(store)["agent_version"] == "aa:13"


def test_a_clock_that_was_ahead_and_is_right_again_is_not_behind(store: Store) -> None:
    live(store, 1, 3, 5 * HOUR)
    now = live(store, 4, 1, -30 * clock.SECOND, NOON + 3 * MINUTE)
    assert shown(store, now) == []


def test_a_report_that_a_restored_journal_kept_is_no_clock_that_is_behind(store: Store) -> None:
    """Its waiting events are sent under a new epoch, and the oldest are of when the backup was made."""
    take(store, NOON, online("aa", NOON), report(500, NOON))
    take(store, NOON + 1, online("bb", NOON), report(40, NOON - 3 * DAY, "bb"))
    assert shown(store, NOON + 1) == []
    take(store, NOON + MINUTE, report(42, NOON + MINUTE, "bb"))
    assert shown(store, NOON + MINUTE) == []
