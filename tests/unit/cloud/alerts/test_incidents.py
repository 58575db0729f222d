"""Incidents in the store: written with what the device sent, and never twice; issues, jumps, maintenance."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from fieldwatch_agent.send.journal import Draft
from fieldwatch_cloud.alerts.life import Acknowledged, Closed, Commented, NotNowError, Snoozed
from fieldwatch_cloud.alerts.routing import Route, Routing, Step
from fieldwatch_cloud.ingest.decode import decode
from fieldwatch_cloud.store import Store, outbox, sqlite_url
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.incidents import UnknownIncidentError
from fieldwatch_contract import clock
from fieldwatch_contract.events import AlertData, BundleRef
from sqlalchemy import Connection

from tests.conftest import ROOT
from tests.delivery import DEVICE, START, alert, alert_draft, make_store, rows
from tests.unit.cloud.wire import message

MINUTE = clock.MINUTE
NOW = START + 70 * MINUTE
EVERYTHING = Routing((Route("all", (Step(("mail",)), Step(("boss",), 15 * MINUTE))),), {"berlin": ("press-*",)})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(sqlite_url(tmp_path / "cloud.db"), routing=EVERYTHING)
    yield made
    made.close()


def tell(store: Store, *alerts: AlertData, device: str = DEVICE, at: int = NOW, first: int = 1) -> None:
    store.ingest(decode([message(first + i, alert_draft(one), device) for i, one in enumerate(alerts)]), at)


def whats(store: Store) -> list[str]:
    return [row["what"] for row in rows(store, t.incident_event)]


def messages(store: Store) -> list[tuple[str, int, int]]:
    return sorted((row["channel"], row["step"], row["due_at"] - NOW) for row in rows(store, t.message))


def test_an_alert_its_incident_and_its_messages_are_one_commit(store: Store) -> None:
    tell(store, alert(60))
    (incident,) = rows(store, t.incident)
    assert (incident["device"], incident["kind"], incident["site"]) == (DEVICE, "fault", "berlin")
    assert incident["what"] == "Unusual readings in s1"
    assert messages(store) == [("boss", 1, 15 * MINUTE), ("mail", 0, 0)]
    with store.write() as db:
        db.exec_driver_sql("CREATE TRIGGER no BEFORE INSERT ON message BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    with pytest.raises(Exception, match="disk full"):
        tell(store, alert(61, device="press-0002"), device="press-0002")
    assert len(rows(store, t.alert)) == 1, "an alert of which nobody would be told is not acknowledged to its device"


def test_hearing_it_again_tells_nobody(store: Store) -> None:
    for _ in range(3):
        tell(store, alert(60), alert(62, "updated", opened=60))
    assert whats(store) == ["opened"]
    assert len(messages(store)) == 2


def test_the_end_is_told_to_those_who_heard_of_the_beginning(store: Store) -> None:
    tell(store, alert(60))
    tell(store, alert(65, "resolved", opened=60), first=2)
    assert whats(store) == ["opened", "resolved"]
    assert messages(store) == [("boss", 1, 15 * MINUTE), ("mail", 0, 0), ("mail", 0, 0)], "the boss heard nothing yet"
    with store.write() as db:
        for _ in range(2):
            letter = outbox.claim(db, NOW)
            assert letter is not None
            outbox.sent(db, letter, NOW)
        assert outbox.claim(db, NOW + 16 * MINUTE) is None
    assert {row["state"] for row in rows(store, t.message) if row["channel"] == "boss"} == {"dropped"}


def test_the_next_step_waits_for_an_acknowledgement(store: Store) -> None:
    tell(store, alert(60))
    with store.write() as db:
        first = outbox.claim(db, NOW)
        assert first is not None
        outbox.sent(db, first, NOW)
        second = outbox.claim(db, NOW + 15 * MINUTE)
        assert second is not None
        assert (second.channel, second.items[0].event.what) == ("boss", "opened")


@pytest.mark.parametrize("answer", ["acknowledged", "snoozed"])
def test_an_answer_stops_the_next_step(store: Store, answer: str) -> None:
    tell(store, alert(60))
    event = Acknowledged(NOW, "ana") if answer == "acknowledged" else Snoozed(NOW, "ana", NOW + 60 * MINUTE)
    with store.write() as db:
        store.incidents.act(db, 1, event)
        claimed = []
        while (letter := outbox.claim(db, NOW + 20 * MINUTE)) is not None:
            claimed.append(letter)
    assert [letter.channel for letter in claimed if letter.items[0].event.what == "opened"] == ["mail"]


def test_what_a_person_may_not_do_changes_nothing(store: Store) -> None:
    tell(store, alert(60), alert(61, "resolved", opened=60))
    with store.write() as db, pytest.raises(NotNowError, match="resolved: nobody can acknowledge"):
        store.incidents.act(db, 1, Acknowledged(NOW, "ana"))
    with store.write() as db, pytest.raises(UnknownIncidentError):
        store.incidents.act(db, 99, Closed(NOW, "ana"))
    assert whats(store) == ["opened"]


def test_a_replayed_backlog_is_one_digest(store: Store) -> None:
    """Twelve old alerts of twelve devices: one message in the morning, not twelve in the night."""
    late = START + 30 * clock.DAY
    for number in range(12):
        device = f"press-{number:04d}"
        tell(store, alert(60, device=device), device=device, at=late)
    (only,) = rows(store, t.message)
    assert (only["batch"], only["channel"]) == ("digest", "mail")
    assert only["due_at"] > late
    assert len(rows(store, t.message_item)) == 12


def test_a_storm_is_gathered(store: Store) -> None:
    for number in range(15):
        device = f"press-{number:04d}"
        tell(store, alert(60, device=device), device=device)
    mails = [row for row in rows(store, t.message) if row["channel"] == "mail"]
    assert [row["batch"] for row in mails].count(None) == 10
    (storm,) = [row for row in mails if row["batch"] == "storm"]
    held = [row for row in rows(store, t.message_item) if row["message_id"] == storm["id"]]
    assert len(held) == 5


def test_the_same_fault_on_two_devices_is_an_issue_and_on_a_third_the_same(store: Store) -> None:
    for number in range(3):
        device = f"press-{number:04d}"
        tell(store, alert(60 + number, device=device), device=device)
        (issues, members) = (rows(store, t.issue), [row["issue_id"] for row in rows(store, t.incident)])
        assert (len(issues), members) == ((0, [None]) if number == 0 else (1, [issues[0]["id"]] * (number + 1)))
    assert (issues[0]["type"], issues[0]["sensors"], issues[0]["bundle"]) == ("press", ["s1"], "press/1")


def activated(seq: int, device: str) -> object:
    bundle = BundleRef(name="press", version="1", sha256="ab" * 32).model_dump_json()
    data = f'{{"transition":"activated","bundle":{bundle}}}'
    return message(seq, Draft("model", "", data), device)


def test_a_jump_after_a_new_bundle_goes_to_those_who_released_it(store: Store) -> None:
    devices = [f"press-{number:04d}" for number in range(8)]
    store.ingest(decode([activated(1, device) for device in devices]), NOW - 60 * MINUTE)
    for device in devices[:4]:
        tell(store, alert(60, device=device), device=device, first=2)
    (jump,) = [row for row in rows(store, t.incident) if row["kind"] == "bundle"]
    assert (jump["audience"], jump["severity"], jump["device"]) == ("models", "critical", "")
    assert jump["what"] == "press/1 came to 8 devices in the last day, and 3 of them alert"
    batches = [row["batch"] for row in rows(store, t.message) if row["channel"] == "mail"]
    assert batches.count("digest") == 1, "the fourth device is told in the digest"


def test_the_same_without_a_new_bundle_is_no_jump(store: Store) -> None:
    for number in range(6):
        device = f"press-{number:04d}"
        tell(store, alert(60, device=device), device=device)
    assert {row["kind"] for row in rows(store, t.incident)} == {"fault"}


def test_a_maintenance_window_hushes_what_begins_in_it_and_what_is_there(store: Store) -> None:
    tell(store, alert(55))
    with store.write() as db:
        window = ("press-*", "*", "*", NOW - MINUTE, NOW + 30 * MINUTE, "belt change", "ana", NOW)
        store.incidents.plan_maintenance(db, *window)
        store.incidents.pass_time(db, NOW)
    tell(store, alert(60, device="press-0002"), device="press-0002")
    tell(store, alert(58, "resolved", opened=55), first=2)
    told = [row["what"] for row in rows(store, t.incident_event) if row["told"]]
    assert told == ["opened"]
    with store.write() as db:
        assert store.incidents.pass_time(db, NOW + 30 * MINUTE) == 2
    told = [(row["incident_id"], row["what"]) for row in rows(store, t.incident_event) if row["told"]]
    assert told == [(1, "opened"), (1, "hush over"), (2, "hush over")]


@pytest.mark.parametrize("before", [True, False], ids=["planned before it began", "planned while it is open"])
def test_a_window_that_is_still_to_come_hushes_what_is_open_then(store: Store, before: bool) -> None:
    """The second step falls into the window; a comment in between must not make the window forgotten."""

    def plan() -> None:
        with store.write() as db:
            store.incidents.plan_maintenance(
                db, DEVICE, "*", "*", NOW + 10 * MINUTE, NOW + 60 * MINUTE, "filter", "ana", NOW
            )

    if before:
        plan()
    tell(store, alert(60))
    if not before:
        plan()
    with store.write() as db:
        store.incidents.act(db, 1, Commented(NOW + MINUTE, "ana", "noise"))
        store.incidents.pass_time(db, NOW + 10 * MINUTE)
        assert [one.channel for one in claimed(db, NOW + 20 * MINUTE)] == ["mail"], "the boss is not called in it"
        store.incidents.pass_time(db, NOW + 60 * MINUTE)
    assert whats(store)[-1] == "commented", "people know already that it is open"


def claimed(db: Connection, at: int) -> list[outbox.Letter]:
    found = []
    while (letter := outbox.claim(db, at)) is not None:
        found.append(letter)
        outbox.sent(db, letter, at)
    return found


def test_overlapping_windows_hush_to_the_end_of_the_last(store: Store) -> None:
    tell(store, alert(60))
    with store.write() as db:
        for begin, end in ((0, 30), (20, 90), (25, 40)):
            store.incidents.plan_maintenance(
                db, "press-*", "berlin", "*", NOW + begin * MINUTE, NOW + end * MINUTE, "filter", "ana", NOW
            )
        for minute in (0, 20, 30, 40, 89):
            store.incidents.pass_time(db, NOW + minute * MINUTE)
    (row,) = rows(store, t.incident)
    assert (row["life"]["maintenance_until"], row["wake_at"]) == (NOW + 90 * MINUTE, NOW + 90 * MINUTE)


YEAR = 365 * 24 * 60
"""Minutes."""


def test_a_clock_that_was_a_year_ahead_hides_no_later_fault(store: Store) -> None:
    """Its alert never ends, for the device's journal was reset; the next ones, dated rightly, are told and end."""
    tell(store, alert(YEAR))
    (incident,) = rows(store, t.incident)
    assert incident["opened_at"] == NOW, "nothing begins after we hear of it"
    with store.write() as db:
        store.incidents.act(db, 1, Closed(NOW + MINUTE, "ana", "the clock was wrong"))
    tell(store, alert(200), at=START + 201 * MINUTE, first=2)
    states = {row["alert_id"]: (row["state"], row["resolved_at"]) for row in rows(store, t.alert)}
    assert states == {
        alert(YEAR).alert_id: ("resolved", START + 200 * MINUTE),
        alert(200).alert_id: ("open", None),
    }
    assert [row["state"] for row in rows(store, t.incident)] == ["closed", "open"]
    assert whats(store) == ["opened", "closed", "opened"]
    tell(store, alert(210, "resolved", opened=200), at=START + 211 * MINUTE, first=3)
    assert rows(store, t.incident)[1]["state"] == "resolved"


def test_a_clock_a_year_ahead_ends_its_own_alert_when_we_hear_of_it(store: Store) -> None:
    tell(store, alert(YEAR))
    tell(store, alert(YEAR + 20, "resolved", opened=YEAR), at=NOW + 20 * MINUTE, first=2)
    (row,) = rows(store, t.incident)
    assert (row["state"], row["opened_at"], row["ended_at"]) == ("resolved", NOW, NOW + 20 * MINUTE)
    tell(store, alert(300), at=START + 301 * MINUTE, first=3)
    assert [row["state"] for row in rows(store, t.incident)] == ["resolved", "open"], "another fault, hours later"


def test_a_clock_a_year_behind_is_told_in_the_digest_and_its_alert_ends_with_the_next_one(store: Store) -> None:
    tell(store, alert(60 - YEAR))
    assert [row["batch"] for row in rows(store, t.message)] == ["digest"]
    tell(store, alert(60), first=2)
    states = {row["opened_at"]: row["state"] for row in rows(store, t.alert)}
    assert states == {START + (60 - YEAR) * MINUTE: "resolved", START + 60 * MINUTE: "open"}


def test_an_end_that_comes_before_its_beginning_is_one_piece_of_news(store: Store) -> None:
    tell(store, alert(65, "resolved", opened=60))
    tell(store, alert(60), alert(62, "updated", opened=60), first=2)
    (row,) = rows(store, t.incident)
    assert (row["state"], whats(store)) == ("resolved", ["opened"])
    assert rows(store, t.alert)[0]["sensors"] == ["s2"], "the cause, not the recovery"


def test_of_two_who_take_it_at_once_the_second_hears_of_the_first(store: Store) -> None:
    tell(store, alert(60))
    with store.write() as db:
        store.incidents.act(db, 1, Acknowledged(NOW, "ana", "mine", seen=""))
        with pytest.raises(NotNowError, match="ana has taken it meanwhile"):
            store.incidents.act(db, 1, Acknowledged(NOW, "ben", "mine", seen=""))
        store.incidents.act(db, 1, Acknowledged(NOW, "ana", "mine", seen=""))
        store.incidents.act(db, 1, Acknowledged(NOW, "ben", "ana is ill", seen="ana"))
    assert whats(store) == ["opened", "acknowledged", "acknowledged"], "a button pressed twice is one answer"
    assert rows(store, t.incident)[0]["life"]["acknowledged"]["by"] == "ben"


def test_where_no_route_takes_it_the_timeline_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = make_store(tmp_path)
    tell(store, alert(60))
    assert whats(store) == ["opened", "unrouted"]
    assert "nobody is told: no route takes fault of press-0001" in caplog.text
    store.close()


def test_a_damaged_incident_holds_up_nobody(store: Store, tmp_path: Path) -> None:
    tell(store, alert(60))
    with sqlite3.connect(tmp_path / "cloud.db") as db:
        db.execute("UPDATE incident SET life = '{', wake_at = 1")
    db.close()
    tell(store, alert(62, "updated", opened=60), alert(64), first=2)
    with store.write() as write:
        store.incidents.pass_time(write, NOW)
        with pytest.raises(NotNowError, match="damaged"):
            store.incidents.act(write, 1, Acknowledged(NOW, "ana"))
    assert len(rows(store, t.alert)) == 2
    assert len(rows(store, t.incident)) == 2


def test_what_could_not_be_taken_in_is_taken_in_later(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a mistake of ours")

    monkeypatch.setattr(store.incidents, "see", fail)
    tell(store, alert(60))
    assert (len(rows(store, t.alert)), rows(store, t.incident)) == (1, [])
    monkeypatch.undo()
    with store.write() as db:
        store.incidents.see_alerts(db, store.incidents.left(db), NOW)
    assert whats(store) == ["opened"]


def test_the_past_of_an_older_store_is_not_told(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "cloud.db") as db:
        db.executescript((ROOT / "tests" / "data" / "store-v1.sql").read_text())
        db.execute("UPDATE alert SET state = 'resolved', resolved_at = opened_at")
    db.close()
    store = make_store(tmp_path)
    with store.write() as write:
        assert store.incidents.left(write) == []
    assert rows(store, t.incident) == []
    store.close()


def states(store: Store, of: Sequence[str]) -> list[str]:
    return [row["state"] for row in rows(store, t.message) if row["channel"] in of]


def test_a_lost_answer_is_sent_again_under_the_same_id(store: Store) -> None:
    tell(store, alert(60))
    with store.write() as db:
        first = outbox.claim(db, NOW)
        assert first is not None
        assert outbox.claim(db, NOW + outbox.LEASE) is None, "the attempt is under way"
        again = outbox.claim(db, NOW + outbox.LEASE + 1)
        assert again is not None
        assert (again.id, again.attempt) == (first.id, 2)
        outbox.failed(db, first, "too late", True, NOW)
        assert states(store, ["mail"]) == ["waiting"], "not yet committed"
        outbox.sent(db, again, NOW)
    assert states(store, ["mail"]) == ["sent"]


def test_waits_double_and_then_the_message_is_dead_and_can_be_revived(store: Store) -> None:
    tell(store, alert(60))
    now, waits = NOW, []
    while True:
        with store.write() as db:
            letter = outbox.claim(db, now)
            assert letter is not None
            if letter.channel != "mail":
                outbox.sent(db, letter, now)
                continue
            dead = outbox.failed(db, letter, "451 try later", False, now)
            due = db.execute(t.message.select().where(t.message.c.channel == "mail")).one().due_at
        if dead:
            break
        waits.append((due - now) // clock.SECOND)
        now = due
    assert waits[:4] == [5, 10, 20, 40]
    assert (max(waits), len(waits)) == (3600, outbox.ATTEMPTS - 1)
    (mail,) = [row for row in rows(store, t.message) if row["channel"] == "mail"]
    assert (mail["state"], mail["error"]) == ("dead", "451 try later")
    with store.write() as db:
        assert outbox.revive(db, mail["id"], now)
        letter = outbox.claim(db, now)
        assert letter is not None
        assert letter.id == mail["id"]


def test_an_alert_like_one_that_was_dismissed_is_for_the_digest(store: Store) -> None:
    tell(store, alert(60).model_copy(update={"like": "ab" * 16, "level": 3.5}))
    (row,) = rows(store, t.alert)
    assert (row["like"], row["level"], row["at_bound"]) == ("ab" * 16, 3.5, None)
    (only,) = rows(store, t.message)
    assert (only["channel"], only["batch"]) == ("mail", "digest")
