"""What a device sent, through the store, onto the tile, the counts, the API and the stream: nothing wrong looks right.

The rules have their own table in ``test_standing.py``; here each fact takes its whole way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fieldwatch_cloud.live import Notice
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.web.stream import told
from fieldwatch_cloud.words import STATE_WORDS
from fieldwatch_contract import clock

from tests.browser import seed
from tests.delivery import rows
from tests.unit.web.conftest import Site
from tests.unit.web.test_pages import text_of

MINUTE = clock.MINUTE
NAME = "press-0001"


@pytest.fixture
def site(fresh: Callable[..., Site]) -> Site:
    """A site with nothing in it."""
    return fresh()


def device(site: Site, readings: int = 3, at: int = 0, ratios: dict[str, Any] | None = None) -> seed.Device:
    """A device that is online and sends a reading a minute, the last one ``at`` µs from now."""
    one = seed.Device(NAME, site.now - site.now % MINUTE + at, 45)
    one.state("online", site.now - clock.DAY, "started")
    quiet = np.full(readings, 0.3)
    one.results({"detector": quiet, "classifier": quiet} | (ratios or {}), [1])
    one.store(site.store, site.now)
    return one


def lines(site: Site, **numbers: Any) -> dict[str, Any]:
    since = clock.iso(site.now - 10 * MINUTE)
    return {"since": since, "read": 10, "scored": 10, "unknown": 0, "refused": {}} | numbers


def well(site: Site) -> None:
    one = device(site)
    one.health(3, at=site.now, lines=lines(site), period=60)
    one.store(site.store, site.now)


def nine_days_old(site: Site) -> None:
    device(site, at=-9 * clock.DAY)


def ahead(site: Site) -> None:
    device(site, at=20 * 60 * MINUTE)


def ahead_after_a_sane_one(site: Site) -> None:
    one = device(site)
    one.at += 20 * 60 * MINUTE
    one.results({"detector": np.array([0.3])}, [1])
    one.store(site.store, site.now)


def years_ahead_after_a_sane_one(site: Site) -> None:
    one = device(site)
    one.at += 700 * clock.DAY
    one.results({"detector": np.array([0.3])}, [1])
    one.store(site.store, site.now)


def set_back(site: Site, **more: Any) -> None:
    """A report by the right clock, and the next one, a minute later, by one that was set back."""
    one = device(site)
    one.health(3, at=site.now - MINUTE, lines=lines(site), period=60)
    one.store(site.store, site.now - MINUTE)
    one.health(3, at=site.now - clock.DAY, lines=lines(site), period=60, **more)
    one.store(site.store, site.now)


def trouble_since_the_clock_was_set_back(site: Site) -> None:
    set_back(site, troubles=[{"kind": "disk_low", "detail": "3 MB are free", "remedy": "make room"}])


def set_ahead(site: Site) -> None:
    one = device(site)
    for at in (site.now, site.now + 5 * clock.DAY):
        one.health(3, at=at, lines=lines(site), period=60)
    one.store(site.store, site.now)


def detector_unknown(site: Site) -> None:
    device(site, ratios={"detector": np.array([0.3, 0.3, np.nan])})


def gap(site: Site) -> None:
    one = device(site)
    one.send("gap", json.dumps({"reason": "log_truncated", "detail": "the file became shorter", "lines": 5000}))
    one.store(site.store, site.now)


def gap_announced_late(site: Site) -> None:
    one = device(site)
    one.send("gap", json.dumps({"reason": "evicted", "detail": "storage full", "lines": 5}), site.now - 9 * clock.DAY)
    one.store(site.store, site.now)


def all_refused(site: Site) -> None:
    one = device(site)
    one.health(3, at=site.now, lines=lines(site, scored=0, refused={"columns": 10}))
    one.store(site.store, site.now)


def refused_by_an_old_agent(site: Site) -> None:
    """Two reports without ``lines``: today's refusals have grown between them."""
    one = device(site)
    for minute, late in ((12, 7), (11, 9), (0, 40)):
        day = clock.day_of(one.at)
        ledger = [{"day": day, "read": 3 + late, "scored": 3, "refused": {"late": late}, "evicted": 0, "pending": 0}]
        one.health(3, at=site.now - minute * MINUTE, ledger=ledger)
    one.store(site.store, site.now)


def refused_some_minutes_ago_by_an_old_agent(site: Site) -> None:
    """The newest reports are equal; the growth lies five minutes back."""
    one = device(site)
    for minute, late in ((12, 7), (6, 7), (5, 9), (1, 9), (0, 9)):
        day = clock.day_of(one.at)
        ledger = [{"day": day, "read": 3 + late, "scored": 3, "refused": {"late": late}, "evicted": 0, "pending": 0}]
        one.health(3, at=site.now - minute * MINUTE, ledger=ledger)
    one.store(site.store, site.now)


def only_refusals_by_an_old_agent(site: Site) -> None:
    """Nothing was ever scored, and there is one report."""
    one = seed.Device(NAME, site.now, 45)
    one.state("online", site.now)
    day = clock.day_of(site.now)
    ledger = [{"day": day, "read": 90, "scored": 0, "refused": {"malformed": 90}, "evicted": 0, "pending": 0}]
    one.health(0, ledger=ledger)
    one.store(site.store, site.now)


def a_trouble_nobody_knows(site: Site) -> None:
    one = device(site)
    one.health(3, at=site.now, troubles=[{"kind": "gremlins", "detail": "in the pipes", "remedy": "call someone"}])
    one.store(site.store, site.now)


def updates_fail(site: Site) -> None:
    one = device(site)
    one.health(3, at=site.now, update="the server does not answer")
    one.store(site.store, site.now)


def ledger_that_does_not_add_up(site: Site) -> None:
    one = device(site)
    day = clock.day_of(one.at)
    ledger = [{"day": day, "read": 9, "scored": 3, "refused": {}, "evicted": 0, "pending": 0}]
    one.health(3, at=site.now, ledger=ledger)
    one.store(site.store, site.now)


def results_that_are_not_here(site: Site) -> None:
    one = device(site)
    day = clock.day_of(one.at)
    ledger = [{"day": day, "read": 9, "scored": 9, "refused": {}, "evicted": 0, "pending": 0}]
    one.health(3, at=site.now, ledger=ledger)
    one.store(site.store, site.now)


def results_of_yesterday_that_are_not_here(site: Site) -> None:
    one = device(site)
    day = clock.day_of(one.at - clock.DAY)
    ledger = [{"day": day, "read": 9, "scored": 9, "refused": {}, "evicted": 0, "pending": 0}]
    one.health(3, at=site.now, ledger=ledger)
    one.store(site.store, site.now)


def log_missing(site: Site) -> None:
    one = device(site)
    one.health(3, at=site.now, log="missing")
    one.store(site.store, site.now)


def leaves(reason: str) -> Callable[[Site], None]:
    def go(site: Site) -> None:
        one = device(site)
        one.state("offline", site.now, reason)
        one.store(site.store, site.now)

    return go


def stalled(site: Site) -> None:
    one = device(site)
    one.state("online", site.now, "stalled")
    one.store(site.store, site.now)


WRONG: dict[str, tuple[Callable[[Site], None], str, str]] = {
    "readings of nine days ago": (nine_days_old, "stale", "readings old"),
    "clock ahead": (ahead, "clock", "clock ahead"),
    "clock ahead after a sane reading": (ahead_after_a_sane_one, "clock", "clock ahead"),
    "clock years ahead": (years_ahead_after_a_sane_one, "clock", "clock ahead"),
    "clock set back": (set_back, "clock", "clock behind"),
    "clock set back, and a trouble since": (
        trouble_since_the_clock_was_set_back,
        "clock",
        "clock behind, disk low",
    ),
    "clock set ahead": (set_ahead, "clock", "clock ahead"),
    "one model unknown": (detector_unknown, "unknown", "detector does not judge"),
    "a gap": (gap, "lost", "lines lost"),
    "a gap announced late": (gap_announced_late, "lost", "lines lost"),
    "every line refused": (all_refused, "refused", "all lines refused"),
    "lines refused, old agent": (refused_by_an_old_agent, "refused", "lines refused"),
    "lines refused some minutes ago, old agent": (
        refused_some_minutes_ago_by_an_old_agent,
        "refused",
        "lines refused",
    ),
    "every line refused, old agent": (only_refusals_by_an_old_agent, "refused", "all lines refused, no reading yet"),
    "unknown trouble": (a_trouble_nobody_knows, "trouble", "gremlins"),
    "updates fail": (updates_fail, "trouble", "update failing"),
    "ledger": (ledger_that_does_not_add_up, "lost", "ledger does not add up"),
    "missing here": (results_that_are_not_here, "lost", "results missing here"),
    "missing here since yesterday": (results_of_yesterday_that_are_not_here, "lost", "results missing here"),
    "log missing": (log_missing, "log", "log missing"),
    "connection lost": (leaves("connection lost"), "offline", "connection lost"),
    "stopped": (leaves("stopped"), "stopped", "stopped"),
    "stopped by an old agent": (leaves("shutdown"), "stopped", "stopped"),
    "a reason nobody knows": (leaves("bored"), "offline", "offline: bored"),
    "stalled": (stalled, "stalled", "agent stalled"),
}


def test_a_device_that_is_well_is_normal_everywhere(site: Site) -> None:
    well(site)
    assert "1 device: 1 normal Well" in text_of(site.person().get("/").text)
    assert site.script().get(f"/api/v1/devices/{NAME}").json()["condition"] == "normal"


@pytest.mark.parametrize(("act", "dated"), [(set_back, True), (set_ahead, True), (well, False)])
def test_a_report_says_when_it_came_and_where_its_date_is_another(
    site: Site, act: Callable[[Site], None], dated: bool
) -> None:
    act(site)
    reported = text_of(site.person().get(f"/devices/{NAME}").text).partition("Reported")[2]
    assert re.match(r" (just now|\d+ (s|min) ago)", reported), reported[:60]
    assert ("by its own clock" in reported) == dated


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_shows_everywhere(site: Site, name: str) -> None:
    act, state, word = WRONG[name]
    act(site)
    found = site.script().get(f"/api/v1/devices/{NAME}").json()
    assert (found["condition"], found["state"]) == (state, word)
    assert found["findings"][0]["reason"]
    assert found["findings"][0]["who"]
    summary = site.script().get("/api/v1/summary").json()
    assert summary["devices"] == 1
    assert summary["states"][state] == 1
    assert "normal" not in summary["states"]
    page = site.person().get("/").text
    (tile,) = re.findall(r'<a class="(tile [^"]+)"[^>]* data-states="([^"]+)"', page)
    assert tile == (f"tile {state} needs", " ".join(summary["states"]))
    words = text_of(page)
    assert f"1 {STATE_WORDS[state]}" in words
    assert f"{NAME} {word} {found['findings'][0]['reason']}" in words
    assert "normal" not in words.split("Worst first")[0].split("Needs a person")[1]
    words = text_of(site.person().get(f"/devices/{NAME}").text)
    for one in found["findings"]:
        assert one["reason"] in words
        assert one["remedy"] in words


def test_the_end_of_support_is_told_to_staff_and_wakes_nobody(site: Site) -> None:
    day = clock.day_of(site.now - 2 * clock.DAY)
    one = device(site)
    one.health(3, at=site.now, lines=lines(site), period=60, supported_until=day)
    one.store(site.store, site.now)
    page = text_of(site.person().get("/").text)
    assert "1 of 1 devices have an agent whose support has ended: plan its update." in page
    assert "normal, support has ended" in page
    own = text_of(site.person().get(f"/devices/{NAME}").text)
    assert f"Support ended on {day}: agent 0.1.0 gets no security mends after that day." in own
    assert f"0.1.0, supported until {day}" in own
    assert rows(site.store, t.incident) == [] and rows(site.store, t.message) == []


def test_a_gap_marks_its_device_for_a_day(site: Site) -> None:
    one = device(site)
    for hours, condition in ((25, "normal"), (23, "lost")):
        one.send("gap", json.dumps({"reason": "log_vanished", "detail": f"{hours} h ago"}))
        one.store(site.store, site.now - hours * 60 * MINUTE)
        assert site.script().get(f"/api/v1/devices/{NAME}").json()["condition"] == condition


def test_the_period_is_the_devices_own(site: Site) -> None:
    """An hourly device is no older after two hours than another after two minutes; told by it, or by its readings."""
    for name, told_period in (("press-0001", 3600), ("press-0002", None)):
        one = seed.Device(name, site.now - 120 * MINUTE, 45)
        for hours in (4, 2, 1, 0):
            ts = one.at - hours * 60 * MINUTE
            score = {"model": "detector", "kind": "detector", "score": 0.1, "threshold": 1, "verdict": "normal"}
            data = {"ts": clock.iso(ts), "bundle": "press/1", "scores": [score | {"sensors": [], "shares": []}]}
            one.send("result", json.dumps(data), ts)
        day = {"day": clock.day_of(one.at), "read": 0, "scored": 0, "refused": {}, "evicted": 0, "pending": 0}
        one.health(0, at=site.now, period=told_period, ledger=[day])
        one.store(site.store, site.now)
    found = site.script().get("/api/v1/devices").json()["items"]
    assert [one["condition"] for one in found] == ["normal", "normal"]


def test_a_change_of_models_within_the_day_loses_nothing(site: Site) -> None:
    """The hourly rows count by model; what they find short is counted exactly before it is called missing."""
    one = seed.Device(NAME, site.now - site.now % MINUTE, 45)
    one.at -= 2 * MINUTE
    one.results({"detector": np.array([0.3, 0.3])}, [1])
    one.at += 2 * MINUTE
    one.results({"classifier": np.array([0.3, 0.3])}, [1])
    today = min(4, one.at % clock.DAY // MINUTE + 1)
    day = {"day": clock.day_of(one.at), "read": today, "scored": today, "refused": {}, "evicted": 0, "pending": 0}
    one.health(0, at=site.now, ledger=[day])
    one.store(site.store, site.now)
    assert site.script().get(f"/api/v1/devices/{NAME}").json()["condition"] == "normal"


def test_a_report_tells_the_open_page_what_it_says_is_wrong(site: Site) -> None:
    """Also of an agent that sends neither ``troubles`` nor ``lines``."""
    one = device(site)
    one.health(3, at=site.now, log="silent", update="no answer")
    one.store(site.store, site.now)
    _, notices = site.store.live.after(0)
    (report,) = [notice for _, notice in notices if notice.kind == "health"]  # type: ignore[union-attr]
    assert told(report)["told"] == ["log", "trouble"]
    old = {key: value for key, value in report.data.items() if key not in ("troubles", "lines", "period")}
    assert told(Notice("health", NAME, old))["told"] == ["log", "trouble"]


def test_why_a_device_came_or_went_is_on_its_page(site: Site) -> None:
    one = device(site)
    one.state("online", site.now, "started after a crash or power loss", connection="c2")
    one.store(site.store, site.now)
    words = text_of(site.person().get(f"/devices/{NAME}").text)
    assert re.search(r"online since \S+ \S+ UTC : started after a crash or power loss", words)


def test_the_newest_lines_are_on_the_device_page(site: Site) -> None:
    one = device(site)
    one.health(3, at=site.now, lines=lines(site, scored=7, unknown=2, refused={"late": 2, "columns": 1}))
    one.store(site.store, site.now)
    words = text_of(site.person().get(f"/devices/{NAME}").text)
    assert "10 read, 7 scored, 2 of them not judged, 1 refused as columns, 2 refused as late" in words
    assert "3 of 10 lines since" in words


def test_an_alert_that_was_closed_says_why(site: Site) -> None:
    one = device(site)
    alert = one.alert(site.store, [2], ["opened"], "classifier", [1, 2])
    assert f"{NAME} 1 open alert Signs of a known fault in" in text_of(site.person().get("/").text)
    data: dict[str, Any] = site.script().get(f"/api/v1/alerts/{alert}").json()
    resolved = {
        name: data[name] for name in ("alert_id", "model", "kind", "severity", "opened_at", "peak", "threshold")
    }
    resolved |= {
        "transition": "resolved",
        "ts": clock.iso(one.at),
        "score": 0.1,
        "rows": 2,
        "sensors": [],
        "shares": [],
    }
    resolved |= {"bundle": one.bundle.model_dump(), "reason": "press/2 has no classifier"}
    one.send("alert", json.dumps(resolved))
    one.store(site.store, site.now)
    words = text_of(site.person().get(f"/alerts/{alert}").text)
    assert "It was closed, not cured: press/2 has no classifier." in words
    assert "Press/2 has no classifier" in words.split("Life of the alert")[1]
    assert "closed" in text_of(site.person().get("/alerts?state=resolved").text)
    assert site.script().get(f"/api/v1/alerts/{alert}").json()["reason"] == "press/2 has no classifier"
    assert site.script().get(f"/api/v1/devices/{NAME}").json()["condition"] == "normal"
