"""The store: whatever the order and the number of deliveries, the tables are the same."""

from __future__ import annotations

import json
import sqlite3
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from fieldwatch_agent.send.journal import Draft
from fieldwatch_cloud.ingest.decode import Message, decode
from fieldwatch_cloud.store import Outcome, Store, StoreError, sqlite_url, unpack_evidence
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.batch import Batch
from fieldwatch_cloud.store.migrate import NEWEST, config
from fieldwatch_contract import clock, topics
from fieldwatch_contract.events import Ack, AlertData, Components, DeviceState, GapData, envelope
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from tests.conftest import ROOT
from tests.delivery import DEVICE, START, alert, alert_draft, health, last_ack, make_store, result, rows, stored

OTHER = "press-0002"
TIME = "2026-11-01T00:00:00Z"
WHEN = ("received", "first_received", "first_seen", "last_seen", "health_received", "epoch_heard")


def event(seq: int, draft: Draft, device: str = DEVICE, epoch: str = "ab12") -> bytes:
    return envelope(device, epoch, seq, draft.event, TIME, draft.data)


def bulk(events: Sequence[bytes], device: str = DEVICE, floor: int | None = None) -> Message:
    payload = zstandard.compress(b"[" + b",".join(events) + b"]")
    return Message(topics.topic(device, "bulk"), payload, floor)


def single(seq: int, draft: Draft, device: str = DEVICE, floor: int | None = None, epoch: str = "ab12") -> Message:
    return Message(topics.topic(device, f"evt/{draft.event}"), event(seq, draft, device, epoch), floor)


def story(device: str) -> list[Message]:
    """Everything a device may say: results over two hours, an alert's life, health, a gap, and something broken."""
    drafts = [result(minute, 0.5 if minute % 7 else 4.0, {"s1": float(minute)}) for minute in range(0, 100, 5)]
    drafts += [alert_draft(alert(10, device=device)), alert_draft(alert(20, "updated", device, 10))]
    drafts += [alert_draft(alert(40, "resolved", device, 10)), alert_draft(alert(60, device=device))]
    for minute in (1, 2, 3):
        parts = Components(versions={"numpy": [f"2.{minute}"]}, complete=True) if minute != 3 else None
        drafts.append(Draft("health", "", health(minute, parts, read=10 * minute, scored=minute).model_dump_json()))
    drafts.append(Draft("gap", "", GapData(reason="evicted", detail="full", lines=3).model_dump_json()))
    drafts.append(Draft("result", "", '{"ts":"no time","bundle":"b","scores":[]}'))
    events = [event(seq, draft, device) for seq, draft in enumerate(drafts, 1)]
    live = [Message(topics.topic(device, f"evt/{d.event}"), e) for d, e in zip(drafts[:9], events[:9], strict=True)]
    return [*live, *(bulk(events[start : start + 4], device) for start in range(9, len(events), 4))]


HEARD = (t.incident, t.incident_signal, t.incident_event, t.issue, t.message, t.message_item, t.notice)
"""What people heard and pages showed, which depends on the order in which it came."""


def content(store: Store) -> dict[str, Any]:
    """All tables, without our own clock and without serial numbers; of incidents the devices that wait for somebody."""
    live = {row["device"] for row in rows(store, t.incident) if row["state"] in ("open", "acknowledged")}
    return {
        table.name: rows(store, table, *WHEN)
        for table in t.metadata.sorted_tables
        if table not in (t.quarantine, *HEARD)
    } | {"quarantine": sorted(row["sha256"] for row in rows(store, t.quarantine)), "live": live}


STORY = story(DEVICE) + story(OTHER)


def told(deliveries: Sequence[Sequence[Message]]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder))
        for messages in deliveries:
            store.ingest(decode(messages))
        found = content(store)
        store.close()
        return found


ONCE_IN_ORDER = told([[message] for message in STORY])


@settings(max_examples=25)
@given(data=st.data())
def test_order_repetition_and_cut_change_nothing(data: st.DataObject) -> None:
    twice = data.draw(st.lists(st.sampled_from(range(len(STORY))), max_size=12))
    order = data.draw(st.permutations([*range(len(STORY)), *twice]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(order)), max_size=4)))
    parts = [order[a:b] for a, b in zip([0, *cuts], [*cuts, len(order)], strict=True)]
    assert told([[STORY[i] for i in part] for part in parts]) == ONCE_IN_ORDER


def test_the_story_is_stored_as_it_was_told(store: Store) -> None:
    outcome = store.ingest(decode(story(DEVICE)))
    assert stored(store) == 20
    assert (outcome.refused, outcome.conflicts, outcome.duplicates) == (1, 0, 0)
    first, second = sorted(rows(store, t.alert), key=lambda row: int(row["opened_at"]))
    assert (first["state"], first["transition"], first["peak"]) == ("resolved", "resolved", 34.0)
    assert first["resolved_at"] == START + 40 * 60_000_000
    assert (second["state"], second["resolved_at"]) == ("open", None)
    (ledger,) = rows(store, t.ledger)
    assert (ledger["read"], ledger["scored"], ledger["refused"]) == (30, 3, {"malformed": 1})
    (device,) = rows(store, t.device)
    assert (device["type"], device["agent_version"], device["bundle_version"]) == ("press", "0.1.0", "1")
    assert device["last_ts"] == START + 95 * 60_000_000
    assert device["health"]["log"] == "following"
    assert [row["versions"] for row in rows(store, t.inventory)] == [{"numpy": ["2.2"]}], "the newest that was told"
    assert [row["values"] for row in rows(store, t.reading)][:2] == [{"s1": 0.0}, {"s1": 5.0}]
    evidence = [row["evidence"] for row in rows(store, t.alert_event) if row["transition"] == "opened"]
    assert unpack_evidence(evidence[0]).values == [[1.0, None, 9.5]]
    assert last_ack(store) == outcome.receipts[0][1].ack()
    assert outcome.receipts[0][1].ack().upto == len(story(DEVICE)[:9]) + 20
    assert outcome.receipts[0][1].ack().also == []


def test_the_rollup_counts_what_a_recount_finds(store: Store) -> None:
    for messages in (story(DEVICE), story(DEVICE)):
        store.ingest(decode(messages))
    results = rows(store, t.result)
    for hour in rows(store, t.result_1h):
        mine = [row for row in results if (row["ts"] // t.HOUR * t.HOUR, row["model"]) == (hour["hour"], hour["model"])]
        assert hour["n"] == len(mine)
        assert hour["raised"] == sum(row["verdict"] in (1, 2) for row in mine)
        assert hour["score_max"] == max(row["score"] for row in mine)
        assert hour["ratio_max"] == max(row["score"] for row in mine) / 3.0
    assert sum(row["n"] for row in rows(store, t.result_1h)) == len(results) == 40


def test_the_first_content_of_a_key_stays_and_another_is_counted(store: Store) -> None:
    store.ingest(decode([single(1, result(0, 0.5))]))
    again = store.ingest(decode([single(7, result(0, 0.9), epoch="cd34"), single(8, result(0, 0.8), epoch="cd34")]))
    assert again.conflicts == 4  # two models, each against the store and against its neighbour
    assert {row["score"] for row in rows(store, t.result)} == {0.5}
    assert ("press-0001", 8) in [(device, max(receipt.settled.beyond)) for device, receipt in again.receipts]


def test_an_event_under_a_number_of_another_one_is_set_aside_once(store: Store) -> None:
    """A journal restored from an image of the disk, and no acknowledgement that told it so in time."""
    first, second = (
        Draft("gap", "2026-11-01", GapData(reason="evicted", detail=text).model_dump_json()) for text in "ab"
    )
    store.ingest(decode([single(1, first)]))
    assert store.ingest(decode([single(1, first)])).refused == 0, "a repetition"
    later = decode([single(1, second)])
    later.events[0]["time"] += clock.MINUTE
    for _ in range(2):
        assert store.ingest(later).refused == 1
    assert [row["data"]["detail"] for row in rows(store, t.event)] == ["a"]
    (aside,) = rows(store, t.quarantine)
    assert "was set back" in aside["reason"]
    assert json.loads(aside["payload"])["data"]["detail"] == "b"


def test_a_new_epoch_with_the_same_facts_adds_no_row(store: Store) -> None:
    store.ingest(decode([single(1, result(0)), single(2, alert_draft(alert(0)))]))
    before = content(store)
    outcome = store.ingest(decode([single(1, result(0), epoch="ff"), single(2, alert_draft(alert(0)), epoch="ff")]))
    after = content(store)
    assert {name for name in after if after[name] != before[name]} == {"ack"}
    assert outcome.inserted == 0
    assert told_of(outcome) == [(2, [])]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_an_alert_that_is_over_keeps_the_sensors_of_the_trouble(store: Store, order: list[int]) -> None:
    life = [alert(0), alert(5, "updated", DEVICE, 0), alert(9, "resolved", DEVICE, 0)]
    for number in order:
        store.ingest(decode([single(number + 1, alert_draft(life[number]))]))
    (found,) = rows(store, t.alert)
    assert (found["state"], found["sensors"], found["shares"]) == ("resolved", ["s2"], [0.9])


def test_an_alert_first_heard_of_as_resolved_says_what_that_says(store: Store) -> None:
    last = alert(9, "resolved", DEVICE, 0).model_copy(update={"sensors": ["s3"], "shares": [0.4]})
    store.ingest(decode([single(1, alert_draft(last))]))
    (found,) = rows(store, t.alert)
    assert (found["sensors"], found["shares"]) == (["s3"], [0.4])


def test_another_device_cannot_touch_an_alert(store: Store) -> None:
    store.ingest(decode([single(1, alert_draft(alert(0)))]))
    before = rows(store, t.alert), rows(store, t.alert_event)
    stolen = alert_draft(alert(5, "resolved", DEVICE, 0))
    store.ingest(decode([single(1, stolen, OTHER)]))
    assert (rows(store, t.alert), rows(store, t.alert_event)) == before
    first = alert_draft(alert(5, device=DEVICE))  # it cannot come before the owner either
    store.ingest(decode([single(2, first, OTHER)]))
    assert (rows(store, t.alert), rows(store, t.alert_event)) == before
    reasons = [row["reason"] for row in rows(store, t.quarantine)]
    assert reasons == 2 * ["alert_id is not the one of this device, model and opened_at"]
    assert last_ack(store, OTHER) is not None  # it would send it for ever


def test_a_score_that_is_no_number_is_stored_as_none(store: Store) -> None:
    data = json.loads(result(0).data)
    data["scores"][0]["score"] = None
    text = json.dumps(data).replace("0.5", "NaN")
    store.ingest(decode([single(1, Draft("result", "", text))]))
    assert [row["score"] for row in rows(store, t.result)] == [None, None]
    assert [row["score_max"] for row in rows(store, t.result_1h)] == [None, None]


# ---- acknowledgement -------------------------------------------------------------------------------------------


def told_of(outcome: Outcome) -> list[tuple[int, list[int]]]:
    """``upto`` and ``also`` of each acknowledgement."""
    return [(ack.upto, ack.also) for ack in (receipt.ack() for _, receipt in outcome.receipts)]


def test_numbers_below_the_floor_are_not_waited_for(store: Store) -> None:
    outcome = store.ingest(decode([single(21, result(0), floor=21), single(25, result(1), floor=21)]))
    assert told_of(outcome) == [(21, [25])]
    outcome = store.ingest(decode([single(26, result(2), floor=25)]))
    assert told_of(outcome) == [(26, [])]


def test_a_floor_never_takes_back(store: Store) -> None:
    store.ingest(decode([bulk([event(seq, result(seq)) for seq in range(1, 6)])]))
    outcome = store.ingest(decode([single(7, result(9), floor=2)]))
    assert told_of(outcome) == [(5, [7])]


BROKEN = Draft("result", "", '{"ts":"no time","bundle":"b","scores":[]}')


def test_what_lies_in_quarantine_is_settled_and_never_told_as_stored(store: Store) -> None:
    """Told until the device's low-water mark has passed it: an acknowledgement may be lost, and the cloud restarted."""
    store.ingest(decode([single(1, result(0)), single(2, BROKEN), single(3, result(1)), single(6, BROKEN)]))
    assert last_ack_of(store) == Ack(epoch="ab12", upto=3, also=[6], refused=[2, 6])
    store.ingest(decode([single(4, result(2), floor=2)]))
    assert last_ack_of(store) == Ack(epoch="ab12", upto=4, also=[6], refused=[2, 6])
    store.ingest(decode([single(5, result(3), floor=3)]))
    assert last_ack_of(store) == Ack(epoch="ab12", upto=6, also=[], refused=[6])


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_sound_copy_of_a_number_counts(store: Store, order: list[int], at_once: bool) -> None:
    copies = [[single(1, BROKEN), single(1, result(0))][index] for index in order]
    for messages in [copies] if at_once else [[copy] for copy in copies]:
        store.ingest(decode(messages))
    assert stored(store) == 1
    assert last_ack_of(store) == Ack(epoch="ab12", upto=1)


def last_ack_of(store: Store) -> Ack:
    """What the store would tell the device after a restart, which has sent no ``state`` here."""
    (row,) = rows(store, t.ack)
    store.ingest(decode([state("online", "c1", TIME, epoch=row["epoch"])]))
    found = last_ack(store)
    assert found is not None
    return found


def test_acknowledgements_of_current_epochs_can_be_told_again(store: Store) -> None:
    store.ingest(decode([single(1, result(0), epoch="aa"), state("online", "c1", TIME, epoch="aa")]))
    store.ingest(decode([state("online", "c2", "2026-11-02T00:00:00Z", epoch="bb"), single(3, result(1), epoch="bb")]))
    assert [(device, receipt.ack()) for device, receipt in store.receipts()] == [
        (DEVICE, Ack(epoch="bb", upto=0, also=[3]))
    ]


# ---- connection state ------------------------------------------------------------------------------------------


def state(status: str, connection: str, since: str, epoch: str = "ab12", reason: str = "") -> Message:
    data = DeviceState.model_validate(
        {"status": status, "since": since, "connection": connection, "epoch": epoch, "reason": reason}
    )
    return Message(topics.topic(DEVICE, "state"), data.model_dump_json().encode())


def status(store: Store) -> tuple[str, str]:
    (device,) = rows(store, t.device)
    return device["status"], device["connection"]


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_late_will_of_an_older_connection_says_nothing(store: Store, cut: int) -> None:
    messages = [
        state("online", "c1", "2026-11-01T00:00:00Z"),
        state("online", "c2", "2026-11-01T00:05:00Z"),
        state("offline", "c1", "2026-11-01T00:00:00Z"),
    ]
    store.ingest(decode(messages[:cut]))
    store.ingest(decode(messages[cut:]))
    assert status(store) == ("online", "c2")
    store.ingest(decode([state("offline", "c1", "2026-11-01T00:00:00Z")]))
    assert status(store) == ("online", "c2")
    store.ingest(decode([state("offline", "c2", "2026-11-01T00:05:00Z")]))
    assert status(store) == ("offline", "c2")


def test_a_connection_of_the_future_is_an_older_one(store: Store) -> None:
    now = clock.parse_iso("2026-11-05T00:00:00Z")
    future = state("offline", "c1", "2099-01-01T00:00:00Z")
    store.ingest(decode([state("online", "c1", "2099-01-01T00:00:00Z")]), now)
    store.ingest(decode([state("online", "c2", "2026-11-04T00:00:00Z")]), now)
    assert status(store) == ("online", "c2")
    store.ingest(decode([future]), now)
    assert status(store) == ("online", "c2")
    store.ingest(decode([state("online", "c3", "2099-01-02T00:00:00Z"), future]), now)
    assert status(store) == ("online", "c3")


def test_the_reason_of_a_state_is_kept_with_the_time_it_was_given(store: Store) -> None:
    begun = clock.parse_iso("2026-11-05T00:00:00Z")
    for minute, reason in enumerate(["started", "started", "stalled", "stalled"]):
        message = state("online", "c1", "2026-11-05T00:00:00Z", reason=reason)
        store.ingest(decode([message]), begun + minute * clock.MINUTE)
    (device,) = rows(store, t.device)
    assert (device["status_reason"], device["status_since"]) == ("stalled", begun + 2 * clock.MINUTE)


def test_why_an_alert_ended_is_kept(store: Store) -> None:
    gone = alert(9, "resolved", opened=0).model_copy(update={"reason": "the new bundle has no detector"})
    store.ingest(decode([single(1, alert_draft(alert(0))), single(2, alert_draft(gone))]))
    assert [row["reason"] for row in rows(store, t.alert)] == [gone.reason]
    assert {row["transition"]: row["reason"] for row in rows(store, t.alert_event)} == {
        "opened": None,
        "resolved": gone.reason,
    }


def test_a_device_whose_clock_went_back_is_online_again(store: Store) -> None:
    store.ingest(
        decode([state("online", "c1", "2026-11-05T00:00:00Z"), state("offline", "c1", "2026-11-05T00:00:00Z")])
    )
    store.ingest(decode([state("online", "c2", "2026-11-01T00:00:00Z")]))
    assert status(store) == ("online", "c2")


# ---- clocks ------------------------------------------------------------------------------------------------------


def late_health(day: str, version: str) -> Draft:
    data = health(0).model_copy(update={"ts": f"{day}T00:00:00Z", "agent": version})
    return Draft("health", day, data.model_dump_json())


def at(day: str) -> Draft:
    return Draft("result", day, result(0).data.replace("2026-11-01", day))


@pytest.mark.parametrize("cut", range(1, 7))
def test_a_clock_that_was_once_in_the_future_does_not_freeze_the_device(store: Store, cut: int) -> None:
    now = clock.parse_iso("2026-11-05T00:00:00Z")
    drafts = [late_health("2099-01-01", "0.1"), at("2099-01-01"), late_health("2026-11-03", "0.2"), at("2026-11-03")]
    drafts += [late_health("2098-01-01", "0.3"), at("2098-01-01")]  # the reading does not come back later
    messages = [single(seq, draft) for seq, draft in enumerate(drafts, 1)]
    store.ingest(decode(messages[:cut]), now)
    store.ingest(decode(messages[cut:]), now)
    (device,) = rows(store, t.device)
    third = clock.parse_iso("2026-11-03T00:00:00Z")
    assert (device["agent_version"], device["last_ts"]) == ("0.3", third)
    messages = [single(7, late_health("2026-11-04", "0.4")), single(8, at("2026-11-04"))]
    store.ingest(decode(messages), now)
    (device,) = rows(store, t.device)
    assert (device["agent_version"], device["last_ts"]) == ("0.4", third + clock.DAY)


def test_a_clock_a_little_ahead_is_believed(store: Store) -> None:
    now = clock.parse_iso("2026-11-05T00:00:00Z")
    store.ingest(decode([single(1, at("2026-11-04"))]), now)
    store.ingest(decode([single(2, at("2026-11-05"))]), now - 5 * clock.MINUTE)
    assert rows(store, t.device)[0]["last_ts"] == now


def test_a_reading_of_the_future_gives_way_to_the_next(store: Store) -> None:
    now = clock.parse_iso("2026-11-05T04:00:00Z")
    store.ingest(decode([single(1, at("2026-11-06"))]), now)
    ahead = now + 20 * 60 * clock.MINUTE
    assert rows(store, t.device)[0]["last_ts"] == ahead
    store.ingest(decode([single(2, at("2026-11-05"))]), now)
    assert rows(store, t.device)[0]["last_ts"] == now - 4 * 60 * clock.MINUTE
    later = now + 11 * clock.MINUTE
    store.ingest(decode([single(3, at("2026-11-06"))]), later)  # the same reading again: the clock is ahead again
    (device,) = rows(store, t.device)
    assert (device["last_ts"], device["ahead_at"], device["ahead_by"]) == (ahead, later, ahead - later)
    store.ingest(decode([single(4, at("2026-11-05"))]), later)
    store.ingest(decode([single(5, at("2028-11-06"))]), later + 1)  # too far to follow, but told
    (device,) = rows(store, t.device)
    assert (device["last_ts"], device["ahead_at"]) == (now - 4 * 60 * clock.MINUTE, later + 1)


def test_a_reading_of_the_future_gives_way_within_its_batch(store: Store) -> None:
    now = clock.parse_iso("2026-11-05T04:00:00Z")
    store.ingest(decode([single(1, at("2026-11-06")), single(2, at("2026-11-05"))]), now)
    (device,) = rows(store, t.device)
    assert (device["last_ts"], device["ahead_at"]) == (now - 4 * 60 * clock.MINUTE, now)


# ---- what is told to those who watch ---------------------------------------------------------------------------


def test_notices_name_what_is_new_and_nothing_else(store: Store) -> None:
    messages = [*story(DEVICE), state("online", "c1", TIME)]
    notices = store.ingest(decode(messages)).notices
    assert [notice.kind for notice in notices].count("alert") == 2
    (newest,) = [notice for notice in notices if notice.kind == "result"]
    assert (newest.data["ts"], newest.data["n"]) == (START + 95 * 60_000_000, 20)
    assert {score["verdict"] for score in newest.data["scores"]} == {"normal"}
    assert json.dumps([notice.data for notice in notices])  # JSON-ready
    assert store.live.after(0)[0] == len(notices)
    assert [notice.kind for notice in store.ingest(decode(messages)).notices] == ["state"]


def test_a_verdict_is_a_label_of_an_alert_that_exists(store: Store) -> None:
    assert not store.add_verdict("nothing", "real")
    store.ingest(decode([single(1, alert_draft(alert(0)))]))
    (found,) = rows(store, t.alert)
    assert store.add_verdict(found["alert_id"], "false", "pump was cleaned")
    assert store.add_verdict(found["alert_id"], "real", "")
    assert [(row["verdict"], row["note"]) for row in rows(store, t.verdict)] == [
        ("false", "pump was cleaned"),
        ("real", ""),
    ]


def just_after(transition: AlertData) -> str:
    """A device that reads its log again must know the alert before it takes what was said of it."""
    return clock.iso(clock.parse_iso(transition.ts) + 1)


def test_devices_are_told_the_newest_verdict_of_each_alert_and_from_when_it_holds(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)
    assert store.said(0) == (0, {})
    first, second = alert(0), alert(7)
    store.ingest(decode([single(1, alert_draft(first)), single(2, alert_draft(second))]), now)
    store.add_verdict(first.alert_id, "false")
    store.add_verdict(first.alert_id, "real")
    store.add_verdict(second.alert_id, "unclear")
    ended = alert(9, "resolved", opened=0)
    store.ingest(decode([single(3, alert_draft(ended))]), now + 1)
    after, told = store.said(0)
    assert [each.model_dump() for each in told[DEVICE].verdicts] == [
        {"alert_id": second.alert_id, "model": "detector", "verdict": None, "since": just_after(second)},
        {"alert_id": first.alert_id, "model": "detector", "verdict": "real", "since": just_after(first)},
    ]
    assert after == 0, "a smaller number may still be on its way into the store"
    now += 20 * clock.SECOND
    after, _ = store.said(after)
    assert store.said(after) == (after, {})
    store.add_verdict(first.alert_id, "false")
    _, told = store.said(after)
    assert [each.verdict for each in told[DEVICE].verdicts] == ["false", None]
    assert told[DEVICE].verdicts[0].since == just_after(ended)


@pytest.mark.soak
@given(st.permutations([0, 1, 2, 3]), st.booleans())
def test_an_alert_whose_end_was_lost_with_the_journal_ends_where_the_next_one_begins(
    order: list[int], late: bool
) -> None:
    """A device opens at minute 10, loses its journal, and reads the log again: it opens at 12, and once more at 70."""
    events = [alert(10), alert(12), alert(20, "updated", opened=10 if late else 12), alert(70)]
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder))
        for place in order:
            store.ingest(decode([single(place + 1, alert_draft(events[place]))]))
        found = sorted((row["opened_at"], row["state"], row["resolved_at"]) for row in rows(store, t.alert))
        store.close()
    at = [START + minute * clock.MINUTE for minute in (10, 12, 70)]
    assert found == [(at[0], "resolved", at[1]), (at[1], "resolved", at[2]), (at[2], "open", None)]


# ---- the file --------------------------------------------------------------------------------------------------


def test_a_failing_batch_changes_nothing(store: Store) -> None:
    batch = decode([single(1, result(0))])
    batch.readings.append({"device": DEVICE, "ts": 2**70, "values": {}})
    with pytest.raises(OverflowError):
        store.ingest(batch)
    assert not any(content(store).values())
    assert store.ingest(Batch()).receipts == []


def test_commits_survive_a_power_cut(store: Store) -> None:
    with store.write() as db:
        assert db.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert db.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_a_writer_that_reads_first_waits_for_another_one(store: Store, tmp_path: Path) -> None:
    """Begun as readers, the second to write would fail instead: what it has read is old."""
    other = make_store(tmp_path)
    errors: list[Exception] = []

    def write() -> None:
        try:
            with other.write() as db:
                db.execute(select(t.verdict)).all()
                db.execute(insert(t.verdict), {"alert_id": "b", "verdict": "real", "note": "", "at": 2})
        except Exception as error:
            errors.append(error)

    with store.write() as db:
        db.execute(select(t.verdict)).all()
        second = threading.Thread(target=write)
        second.start()
        second.join(0.5)
        db.execute(insert(t.verdict), {"alert_id": "a", "verdict": "real", "note": "", "at": 1})
    second.join()
    assert errors == []
    assert [row["alert_id"] for row in rows(store, t.verdict)] == ["a", "b"]
    other.close()


def test_reading_does_not_wait_for_writing(store: Store) -> None:
    with store.write() as writer:
        writer.execute(insert(t.verdict), {"alert_id": "a", "verdict": "real", "note": "", "at": 1})
        assert rows(store, t.verdict) == []


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    make_store(tmp_path).close()
    with sqlite3.connect(tmp_path / "cloud.db") as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match=f"schema 9999, this program has {NEWEST}"):
        make_store(tmp_path)


def test_a_store_of_an_unknown_version_before_alembic_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "cloud.db") as db:
        db.executescript((ROOT / "tests" / "data" / "store-v1.sql").read_text())
        db.execute("UPDATE schema_version SET version = 4")
    db.close()
    with pytest.raises(StoreError, match="schema 4, this program takes over 1 to 3"):
        make_store(tmp_path)


@pytest.mark.parametrize("old", [True, False], ids=["taken over", "new"])
def test_the_steps_lead_to_the_tables_of_this_program(tmp_path: Path, old: bool) -> None:
    """A store that was taken over has the columns in another order, and else the same."""
    if old:
        with sqlite3.connect(tmp_path / "cloud.db") as db:
            db.executescript((ROOT / "tests" / "data" / "store-v1.sql").read_text())
        db.close()
    store = make_store(tmp_path)
    with store.read() as db:
        context = MigrationContext.configure(db, opts={"compare_type": True})
        assert compare_metadata(context, t.metadata) == []
    assert ScriptDirectory.from_config(config()).get_heads() == [NEWEST]
    store.close()


def test_a_failing_step_changes_nothing(tmp_path: Path) -> None:
    """The whole way is one transaction: the program before can still open it."""
    path = tmp_path / "cloud.db"
    with sqlite3.connect(path) as db:
        db.executescript((ROOT / "tests" / "data" / "store-v1.sql").read_text())
        db.execute("ALTER TABLE result ADD COLUMN why TEXT")  # the step to version 3 will fail
    db.close()
    with pytest.raises(StoreError, match="duplicate column name: why"):
        make_store(tmp_path)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT version FROM schema_version").fetchall() == [(1,)]
        assert "reason" not in [row[1] for row in db.execute("PRAGMA table_info(alert)")]
    db.close()


def test_a_store_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    """``store-v1.sql`` is what commit cc72598 made of two messages."""
    with sqlite3.connect(tmp_path / "cloud.db") as db:
        db.executescript((ROOT / "tests" / "data" / "store-v1.sql").read_text())
    db.close()
    for _ in range(2):  # the second time nothing is left to do
        store = make_store(tmp_path)
        (device,) = rows(store, t.device)
        assert (device["id"], device["status"], device["status_reason"]) == (DEVICE, "online", None)
        assert (device["health_received"] is None) == (device["health"] is None), "none came where none is held"
        store.ingest(decode([state("offline", "c1", "2026-11-01T00:00:00Z", reason="stopped")]))
        assert rows(store, t.device)[0]["status_reason"] == "stopped"
        store.ingest(decode([state("online", "c1", "2026-11-01T00:01:00Z", reason="")]))
        assert [row["reason"] for row in rows(store, t.alert)] == [None]
        unknown = Draft("result", "", result(7).data.replace('"normal"', '"unknown", "why": "few_rows"', 1))
        store.ingest(decode([single(2, unknown)]))
        assert [row["why"] for row in rows(store, t.result)] == [None, "few_rows"]
        with store.write() as write:
            write.exec_driver_sql("UPDATE device SET status_reason = NULL")
        store.close()


@pytest.mark.parametrize("text", ["no database at all, but long enough to be read as one" * 30])
def test_a_file_that_is_no_store_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cloud.db"
    path.write_text(text)
    with pytest.raises(StoreError, match=r"cloud\.db: cannot open the store: file is not a database"):
        Store(sqlite_url(path))
    assert path.read_text() == text
