"""States of devices and of this server as incidents, each to whoever can act; the self-test through the whole chain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_agent.send.journal import Draft
from fieldwatch_cloud.alerts.routing import SELF_TEST, Match, Route, Routing, Step
from fieldwatch_cloud.alerts.sightings import CALM, PATIENCE
from fieldwatch_cloud.config import Config
from fieldwatch_cloud.ingest.decode import decode
from fieldwatch_cloud.notify import Channels, Worker, routing_of
from fieldwatch_cloud.notify.watch import SELF_TEST_S, Chain, Watch
from fieldwatch_cloud.store import Store, sqlite_url
from fieldwatch_cloud.store import tables as t
from fieldwatch_contract import clock
from fieldwatch_contract.events import HealthData, Trouble
from sqlalchemy import update

from tests.conftest import wait_until
from tests.delivery import START, health, result, rows
from tests.unit.cloud.wire import message

MINUTE = clock.MINUTE
CONFIG = Config.model_validate({})


class Fleet:
    """A store, a watch, and a clock that the test moves. ``down``: parts of this server that do not work."""

    def __init__(self, folder: Path) -> None:
        self.now = START
        own = routing_of(CONFIG).routes
        everybody = Route("all", (Step(("mail",)),), Match())
        self.store = Store(sqlite_url(folder / "cloud.db"), routing=Routing((*own, everybody), {"berlin": ("*-0*",)}))
        self.down: dict[str, str] = {}
        self.chain = Chain(None, self.clock)
        self.watch = Watch(self.store, self.chain, lambda: self.down, self.clock)
        self._seq: dict[str, int] = {}

    def clock(self) -> int:
        return self.now

    def report(self, device: str = "press-0001", troubles: tuple[Trouble, ...] = (), **more: Any) -> None:
        """A reading and a report of a device, at the present minute."""
        minute = (self.now - START) // MINUTE
        data = replace_health(health(minute), troubles, **more)
        drafts = [result(minute), Draft("health", "", data.model_dump_json())]
        first = self._seq.get(device, 0)
        self._seq[device] = first + len(drafts)
        self.store.ingest(decode([message(first + i, d, device) for i, d in enumerate(drafts, 1)]), self.now)

    def pass_minutes(self, count: int, each: Callable[[], object] = lambda: None) -> None:
        """Let time pass, minute by minute."""
        for _ in range(count):
            self.now += MINUTE
            each()
            self.watch.tick()

    def incidents(self) -> list[tuple[str, str, str, str]]:
        """Device, kind, audience and state of all incidents but self-tests."""
        names = ("device", "kind", "audience", "state")
        return [
            tuple(row[name] for name in names)  # type: ignore[misc]
            for row in rows(self.store, t.incident)
            if row["kind"] != SELF_TEST
        ]


def replace_health(data: HealthData, troubles: tuple[Trouble, ...], **more: Any) -> HealthData:
    return data.model_copy(update={"troubles": list(troubles), "ledger": [], **more})


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    yield made
    made.store.close()


def trouble(kind: str) -> Trouble:
    return Trouble(kind=kind, detail=f"it is {kind}", remedy="look at it", since=clock.iso(START))


@pytest.mark.parametrize(
    ("kind", "incident", "audience"),
    [
        ("log_silent", "log", "device"),
        ("lines_refused", "refused", "pc"),
        ("clock_wrong", "clock", "pc"),
        ("disk_low", "disk low", "pc"),
        ("no_bundle", "no bundle", "models"),
        ("update_failing", "update failing", "pc"),
        ("lines_lost", "lines lost", "pc"),
        ("agent_stalled", "stalled", "pc"),
        ("never_heard_of", "never heard of", "pc"),
    ],
)
def test_each_trouble_goes_to_whoever_can_act_and_ends(fleet: Fleet, kind: str, incident: str, audience: str) -> None:
    fleet.pass_minutes(PATIENCE // MINUTE, lambda: fleet.report(troubles=(trouble(kind),)))
    assert fleet.incidents() == [], "it may pass by itself"
    fleet.pass_minutes(1, lambda: fleet.report(troubles=(trouble(kind),)))
    assert fleet.incidents() == [("press-0001", incident, audience, "open")]
    (row,) = [row for row in rows(fleet.store, t.incident) if row["kind"] == incident]
    assert (row["remedy"], f"it is {kind}" in row["what"]) == ("look at it", True)
    fleet.pass_minutes(CALM // MINUTE + 1, fleet.report)
    assert fleet.incidents() == [("press-0001", incident, audience, "resolved")]
    heard = [
        one["what"] for one in rows(fleet.store, t.incident_event) if one["told"] and one["incident_id"] == row["id"]
    ]
    assert heard == ["opened", "resolved"]


@pytest.mark.parametrize("off", [-clock.DAY, 3 * clock.DAY])
def test_a_clock_that_is_set_is_told_itself_and_ends_and_reopens_nothing_else(fleet: Fleet, off: int) -> None:
    def report(off: int, *kinds: str) -> Callable[[], None]:
        troubles = tuple(trouble(kind) for kind in kinds)
        return lambda: fleet.report(troubles=troubles, ts=clock.iso(fleet.now + off))

    fleet.pass_minutes(12, report(0, "disk_low"))
    fleet.pass_minutes(12, report(off, "disk_low", "sensors_stuck"))
    opened = [("disk low", "open"), ("clock", "open"), ("sensor stuck", "open")]
    assert sorted((kind, state) for _, kind, _, state in fleet.incidents()) == sorted(opened)
    fleet.pass_minutes(12, report(0, "sensors_stuck"))
    ended = [("disk low", "resolved"), ("clock", "resolved"), ("sensor stuck", "open")]
    assert sorted((kind, state) for _, kind, _, state in fleet.incidents()) == sorted(ended)
    mine = {row["id"] for row in rows(fleet.store, t.incident) if row["kind"] != SELF_TEST}
    heard = [one["what"] for one in rows(fleet.store, t.incident_event) if one["told"] and one["incident_id"] in mine]
    assert sorted(heard) == ["opened"] * 3 + ["resolved"] * 2


def test_what_comes_and_goes_within_minutes_calls_nobody(fleet: Fleet) -> None:
    for _ in range(4):
        fleet.pass_minutes(5, lambda: fleet.report(troubles=(trouble("disk_low"),)))
        fleet.pass_minutes(5, fleet.report)
    assert fleet.incidents() == []


def test_a_dead_agent_is_told_to_those_who_run_the_network(fleet: Fleet) -> None:
    fleet.report()
    fleet.pass_minutes(22)
    assert ("press-0001", "offline", "network", "open") in fleet.incidents()


def test_a_ledger_that_does_not_add_up_is_told_to_those_who_run_the_server(fleet: Fleet) -> None:
    broken = [{"day": "2026-11-01", "read": 9, "scored": 1, "refused": {}, "evicted": 0, "pending": 0}]
    ledger = HealthData.model_validate(health(1).model_dump() | {"ledger": broken}).ledger
    fleet.pass_minutes(12, lambda: fleet.report(ledger=ledger))
    assert ("press-0001", "ledger does not add up", "server", "open") in fleet.incidents()


def test_devices_of_a_site_that_go_together_are_one_incident(fleet: Fleet) -> None:
    devices = [f"press-{n:04d}" for n in range(8)]
    fleet.pass_minutes(2, lambda: [fleet.report(one) for one in devices])
    fleet.pass_minutes(22)
    assert fleet.incidents() == [("", "out of contact at berlin", "network", "open")]
    fleet.pass_minutes(8, lambda: [fleet.report(one) for one in devices[:7]])
    assert fleet.incidents()[0] == ("", "out of contact at berlin", "network", "resolved")
    fleet.pass_minutes(2, lambda: [fleet.report(one) for one in devices[:7]])
    assert ("press-0007", "offline", "network", "open") in fleet.incidents(), "the one that did not come back"


def test_while_the_broker_is_away_only_that_is_told(fleet: Fleet) -> None:
    fleet.report()
    fleet.down = {"broker": "nobody listens there", "database": "", "ingest": ""}
    fleet.pass_minutes(30)
    assert fleet.incidents() == [("", "server broker", "server", "open")]
    fleet.down = {}
    fleet.report()
    fleet.pass_minutes(3, fleet.report)
    assert fleet.incidents() == [("", "server broker", "server", "resolved")]


def test_after_a_restart_what_was_told_is_not_told_again_and_still_ends(fleet: Fleet) -> None:
    fleet.pass_minutes(12, lambda: fleet.report(troubles=(trouble("disk_low"),)))
    assert len(fleet.incidents()) == 1
    second = Watch(fleet.store, fleet.chain, lambda: {}, fleet.clock)
    second.start()
    second.stop()
    fleet.watch = second
    fleet.pass_minutes(15, lambda: fleet.report(troubles=(trouble("disk_low"),)))
    assert [one[3] for one in fleet.incidents()] == ["open"]
    fleet.pass_minutes(8, fleet.report)
    assert [one[3] for one in fleet.incidents()] == ["resolved"]


def test_a_state_that_a_person_closed_stays_closed_while_it_lasts(fleet: Fleet) -> None:
    from fieldwatch_cloud.alerts.life import Closed

    fleet.pass_minutes(12, lambda: fleet.report(troubles=(trouble("disk_low"),)))
    (number,) = [row["id"] for row in rows(fleet.store, t.incident) if row["kind"] == "disk low"]
    with fleet.store.write() as db:
        fleet.store.incidents.act(db, number, Closed(fleet.now, "ana", "ordered"))
    fleet.pass_minutes(30, lambda: fleet.report(troubles=(trouble("disk_low"),)))
    assert fleet.incidents() == [("press-0001", "disk low", "pc", "closed")]


def test_a_synthetic_incident_goes_through_the_whole_chain_each_ten_minutes(fleet: Fleet) -> None:
    worker = Worker(fleet.store, Channels(CONFIG, fleet.store, fleet.chain), fleet.clock)
    worker.start()
    for _ in range(3):
        fleet.now += SELF_TEST_S * clock.SECOND
        fleet.watch.tick()
        wait_until(lambda: fleet.chain.arrived == fleet.now, "it to come through")
    assert fleet.chain.error == ""
    tests = [row for row in rows(fleet.store, t.message) if row["channel"] == SELF_TEST]
    assert len(tests) == 3
    assert {row["channel"] for row in rows(fleet.store, t.message)} == {SELF_TEST}, "nobody else is told of it"
    worker.stop()
    fleet.now += 3 * SELF_TEST_S * clock.SECOND
    fleet.watch.tick()
    assert "no self-test has come through for 30 min" in fleet.chain.error
    fleet.now += clock.DAY + MINUTE
    fleet.watch.tick()
    assert len([row for row in rows(fleet.store, t.incident) if row["kind"] == SELF_TEST]) == 1, "no history of these"


def test_a_self_test_that_nobody_sends_is_seen_even_if_the_store_forgets_it(fleet: Fleet) -> None:
    fleet.pass_minutes(1)
    with fleet.store.write() as db:
        db.execute(update(t.message).values(state="dropped"))
    fleet.pass_minutes(25)
    assert fleet.chain.error
