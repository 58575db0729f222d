"""Which part of the server is down, and what the answers are then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from fieldwatch_cloud.web import parts as module
from fieldwatch_cloud.web.parts import Monitor, judge_ingest
from sqlalchemy import text

from tests.conftest import wait_until
from tests.unit.web.conftest import Site


@dataclass
class Told:
    """An ingest that says what the test wants."""

    connected: bool = True
    error: str | None = None
    idle: float | None = 0.5


@pytest.mark.parametrize(
    ("connected", "error", "idle", "running", "down"),
    [
        (True, None, 0.5, 99.0, {}),
        (False, None, 0.5, 2.0, {}),  # it has only just begun
        (False, None, 0.5, 11.0, {"broker": "no answer to our connection yet"}),
        (False, "broker b:1: refused", 0.5, 2.0, {"broker": "broker b:1: refused"}),
        (True, "the store cannot be written", 0.5, 99.0, {"ingest": "the store cannot be written"}),
        (True, None, 46.0, 99.0, {"ingest": "ingest makes no progress for 46 s"}),
        (False, "refused", 46.0, 99.0, {"ingest": "ingest makes no progress for 46 s"}),
        (True, None, None, 99.0, {"ingest": "ingest has ended: restart this server"}),
    ],
)
def test_broker_and_ingest_are_told_apart(
    connected: bool, error: str | None, idle: float | None, running: float, down: dict[str, str]
) -> None:
    assert {name: says for name, says in judge_ingest(connected, error, idle, running).items() if says} == down


def test_since_when_a_part_is_down_stays_until_it_is_well(fresh: Callable[..., Site]) -> None:
    ingest = Told()
    times = iter(range(1, 100))
    monitor = Monitor(fresh().store, ingest, now=lambda: next(times))
    assert monitor.down() == []
    ingest.error = "disk"
    (first,) = monitor.down()
    ingest.error = "another disk"
    (second,) = monitor.down()
    assert (first.since, second.says, second.since) == (1, "another disk", 1)
    ingest.error = None
    assert monitor.down() == []
    ingest.error = "disk"
    assert monitor.down()[0].since == 2


def test_a_change_reaches_the_live_feed_once(fresh: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0.1)
    site, ingest = fresh(), Told()
    monitor = Monitor(site.store, ingest)

    def told() -> list[list[str]]:
        _, notices = site.store.live.after(0)
        assert isinstance(notices, list)
        return [[part["name"] for part in notice.data["down"]] for _, notice in notices if notice.kind == "parts"]

    monitor.start()
    try:
        ingest.connected, ingest.error = False, "refused"
        wait_until(lambda: told() == [["broker"]], "word of the broker")
        ingest.error = "refused again"
        ingest.connected, ingest.error = True, None
        wait_until(lambda: told() == [["broker"], []], "word that it is back")
    finally:
        monitor.stop()


def test_a_database_that_does_not_answer_holds_up_no_answer(
    fresh: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HUNG_S", 0.5)
    site = fresh()
    monitor = Monitor(site.store)
    with site.store.write() as db:  # the one who writes now keeps the monitor's try waiting
        db.execute(text("UPDATE heartbeat SET at = 1"))
        monitor.start()
        try:
            down = wait_until(monitor.down, "word of the database")
        finally:
            monitor.stop()
    assert down[0].name == "database"
    assert "does not answer" in down[0].says


def test_health_is_open_and_says_what_is_down(fresh: Callable[..., Site]) -> None:
    site = fresh()
    stranger = site.stranger()
    answer = stranger.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "parts": {"database": {"status": "ok"}}})
    site.app.state.monitor.ingest = Told(connected=False, error="broker b:1: refused")
    answer = stranger.get("/healthz")
    assert answer.status_code == 503
    assert answer.json()["parts"]["broker"]["says"] == "broker b:1: refused"
    assert answer.json()["parts"]["ingest"] == {"status": "ok"}
    assert stranger.head("/healthz").status_code == 503
    summary = site.script().get("/api/v1/summary").json()
    assert {part["name"]: part["ok"] for part in summary["parts"]} == {
        "database": True,
        "broker": False,
        "ingest": True,
    }
    page = site.person().get("/").text
    assert "No contact with the broker" in page
    assert "Nothing new comes in; the pages show what was stored before." in page


def test_a_database_that_cannot_be_read_is_a_503_in_words(fresh: Callable[..., Site]) -> None:
    site = fresh()
    person, script = site.person(), site.script()
    with site.store.write() as db:
        db.execute(text("DROP TABLE device"))
    for client, path in ((person, "/"), (script, "/api/v1/devices")):
        answer = client.get(path)
        assert answer.status_code == 503
        assert "No such table: device" in answer.text
