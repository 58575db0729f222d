"""The dashboard in a real browser: it loads clean, follows the news, takes a verdict, and fits."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fieldwatch_cloud.config import BrokerConfig
from fieldwatch_cloud.ingest import Ingest
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.web import WebSettings, create_app, tiles
from fieldwatch_cloud.web.assets import Assets
from fieldwatch_contract import clock
from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlalchemy import delete

from tests.browser import seed
from tests.browser.conftest import Enter, Site
from tests.browser.every import address, settled
from tests.conftest import Broker, find_port, serving, wait_until


def add(site: Site, name: str) -> seed.Device:
    """Add a device that is well."""
    device = seed.Device(name, clock.now() - 5 * clock.MINUTE, 100, epoch="ad")
    device.state("online", device.at, "started")
    device.results({"detector": np.array([0.3, 0.3, 0.3])}, [1])
    device.health(3)
    device.store(site.store)
    return device


def news(site: Site, name: str, ratio: float, minutes: int = 1) -> int:
    """Store one more reading of a device; returns its µs."""
    with site.store.read() as db:
        last = db.execute(t.device.select().where(t.device.c.id == name)).one()
    device = seed.Device(name, last.last_ts + minutes * clock.MINUTE, 100, epoch="ab", seq=last.last_ts // clock.MINUTE)
    device.results({"detector": np.array([ratio])}, [1])
    device.store(site.store)
    return device.at


def test_a_violation_of_the_policy_would_be_noticed(site: Site, enter: Enter) -> None:
    """What the other tests lean on: the browser refuses inline styles and foreign pictures, and the watch sees it."""
    context, watch = enter()
    page = context.new_page()
    page.goto(site.url)
    settled(page)
    for html in ("<style>main { color: red }</style>", '<img src="http://127.0.0.1:9/x.png">'):
        watch.problems.clear()
        page.evaluate("(html) => document.body.insertAdjacentHTML('beforeend', html)", html)
        wait_until(lambda: (page.wait_for_timeout(20), watch.problems)[1], "a violation")
    assert "Content Security Policy" in watch.problems[0]
    watch.problems.clear()


def test_charts_follow_the_window(site: Site, enter: Enter) -> None:
    context, _ = enter(1440)
    page = context.new_page()
    page.goto(address(site, "critical alert"))
    settled(page)
    page.set_viewport_size({"width": 400, "height": 800})
    wait_until(
        lambda: page.evaluate(
            "[...document.querySelectorAll('.uplot, canvas')].every(e => e.getBoundingClientRect().right <= 400)"
        ),
        "charts that fit into 400 px",
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_on_a_phone_the_sensors_come_before_the_charts(site: Site, enter: Enter) -> None:
    context, _ = enter(400)
    page = context.new_page()
    page.goto(address(site, "critical alert"))
    settled(page)
    places = ["#means", "#facts", "#shares", "#verdict", "#score"]
    tops = [page.locator(one).evaluate("e => e.getBoundingClientRect().top") for one in places]
    assert tops == sorted(tops)
    page.set_viewport_size({"width": 1440, "height": 900})
    beside = page.locator("#shares").bounding_box()
    assert beside is not None
    assert beside["x"] > 1000


def test_the_start_link_leaves_no_token_behind(site: Site, enter: Enter) -> None:
    context, _ = enter()
    fresh = context.browser.new_context()
    page = fresh.new_page()
    link = site.start_url()
    page.goto(link)
    assert page.url == f"{site.url}/"
    assert "token" not in page.evaluate("document.referrer")
    assert page.evaluate("document.cookie") == ""
    page.goto(link)
    assert page.url == f"{site.url}/"
    stranger = context.browser.new_context().new_page()
    stranger.goto(link)
    expect(stranger.get_by_role("heading", level=1)).to_have_text("This start link no longer works")
    stranger.context.close()
    fresh.close()


def test_the_first_tab_stop_skips_to_the_content(site: Site, enter: Enter) -> None:
    context, _ = enter()
    page = context.new_page()
    page.goto(site.url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_pages_read_without_javascript(site: Site, enter: Enter) -> None:
    context, _ = enter()
    plain = context.browser.new_context(java_script_enabled=False, storage_state=context.storage_state())
    page = plain.new_page()
    page.goto(address(site, "critical alert"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("press-0001: signs of a known fault")
    page.get_by_label("Note").fill("without a script")
    page.get_by_role("button", name="Unclear").click()
    expect(page.locator("#verdict-now")).to_contain_text("without a script")
    plain.close()


def test_a_reading_reaches_the_open_fleet_page(site: Site, enter: Enter) -> None:
    context, _ = enter()
    page = context.new_page()
    page.goto(site.url)
    settled(page)
    tile = page.locator("#d-incubator-0008")
    path = tile.locator(".line").get_attribute("d")
    at = news(site, "incubator-0008", 0.77, minutes=61)  # in an hour of its own, so that the line must change
    expect(tile.locator(".ratio")).to_have_text("0.77")
    assert page.evaluate("Date.parse(document.querySelector('#d-incubator-0008 time').dateTime)") == at // 1000
    assert tile.locator(".line").get_attribute("d") != path
    page.reload()
    expect(page.locator("#d-incubator-0008 .ratio")).to_have_text("0.77")


def test_the_page_continues_the_line_as_the_server_draws_it(site: Site, enter: Enter) -> None:
    context, _ = enter()
    page = context.new_page()
    page.goto(site.url)
    settled(page)
    drawn = page.locator("#d-centrifuge-0007 .line")
    for minutes, ratio in ((1, 0.91), (61, 0.4), (185, 2.5)):
        at = news(site, "centrifuge-0007", ratio, minutes)
        expect(page.locator("#d-centrifuge-0007 .ratio")).to_have_text(f"{ratio:.2f}")
        expect(page.locator("#d-centrifuge-0007")).to_have_attribute("data-hour", str(at // t.HOUR))
        live = drawn.get_attribute("d")
        page.reload()
        settled(page)
        expect(drawn).to_have_attribute("d", live)  # the page may come from the cache; the feed brings it up to date


def test_an_alert_reaches_every_open_tab_through_one_stream(site: Site, enter: Enter) -> None:
    """Eight tabs: with a stream each, the seventh would hang at the browser's limit of six connections."""
    context, _ = enter()
    streams: list[str] = []
    context.on("request", lambda request: streams.append(request.url) if "/api/v1/events" in request.url else None)
    pages = [context.new_page() for _ in range(8)]
    for page in pages:
        page.goto(site.url)
    for page in pages:
        settled(page)
    assert len(streams) == 1
    device = seed.Device("centrifuge-0011", clock.now(), 100, epoch="cd")
    device.results({"detector": np.array([1.7])}, [1])
    alert = device.alert(site.store, [0], ["opened"], "detector", [1, 2])
    for page in pages:
        expect(page.locator("#d-centrifuge-0011 .state")).to_have_text("1 open alert")
        expect(page.locator("#toast")).to_contain_text("New alert on centrifuge-0011")
    pages[0].close()  # it held the stream: another tab takes over
    device = seed.Device("centrifuge-0011", device.at, 100, epoch="ce")
    with site.store.read() as db:
        opened = db.execute(t.alert.select().where(t.alert.c.alert_id == alert)).one().opened_at
    data = resolved(device, alert, opened)
    device.send("alert", json.dumps(data))
    device.store(site.store)
    for page in pages[1:]:
        expect(page.locator("#d-centrifuge-0011 .state")).to_have_text("above threshold")
    assert len(streams) == 2


def resolved(device: seed.Device, alert: str, opened: int) -> dict[str, Any]:
    return {
        "alert_id": alert,
        "transition": "resolved",
        "model": "detector",
        "kind": "detector",
        "severity": "warning",
        "opened_at": clock.iso(opened),
        "ts": clock.iso(device.at + 10 * clock.MINUTE),
        "score": 1.0,
        "peak": 20.0,
        "threshold": 12.5,
        "rows": 5,
        "sensors": [],
        "shares": [],
        "bundle": device.bundle.model_dump(),
    }


def judge(context: BrowserContext, site: Site, role: str) -> Page:
    page = context.new_page()
    page.goto(f"{site.url}/alerts/{site.alerts[role]}")
    settled(page)
    page.get_by_label("Note").fill("Bearing <i>worn</i>")
    page.get_by_role("button", name="Real fault").click()
    return page


def test_a_verdict_is_stored_shown_and_told_to_other_tabs(site: Site, enter: Enter) -> None:
    context, _ = enter()
    other = context.new_page()
    other.goto(address(site, "alerts"))
    settled(other)
    page = judge(context, site, "warning")
    expect(page.locator("#verdict-now")).to_contain_text("Real fault")
    expect(page.locator("#verdict-now")).to_contain_text("Bearing <i>worn</i>")
    assert page.get_by_role("button", name="Real fault").get_attribute("aria-pressed") == "true"
    row = other.locator("tr", has_text="freezer-0002")
    expect(row).to_contain_text("real fault")
    with site.store.read() as db:
        stored = db.execute(t.verdict.select().where(t.verdict.c.alert_id == site.alerts["warning"])).all()
    assert [(one.verdict, one.note) for one in stored] == [("real", "Bearing <i>worn</i>")]


def test_the_heat_map_speaks_under_the_pointer(site: Site, enter: Enter) -> None:
    context, _ = enter()
    page = context.new_page()
    page.goto(address(site, "critical alert"))
    settled(page)
    canvas = page.locator("#heat")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 4, box["y"] + 6)
    expect(page.locator("#heat-says")).to_contain_text(seed.Device("x", 0, 100).names[3])
    expect(page.locator("#heat-says")).to_contain_text("scales")


def test_the_search_is_in_the_address(site: Site, enter: Enter) -> None:
    context, _ = enter()
    page = context.new_page()
    page.goto(site.url)
    settled(page)
    freezers = page.locator(".tile b", has_text="freezer").count()
    page.get_by_label("Find").fill("freezer")
    expect(page.locator(".tile")).to_have_count(freezers)
    expect(page.locator("#counted")).to_contain_text(f"{freezers} of ")
    page.get_by_label("Show").select_option("with an open alert")
    expect(page.locator(".tile")).to_have_count(1)
    assert page.url == f"{site.url}/?q=freezer&state=warning"
    news(site, "freezer-0006", 0.33)
    news(site, "press-0001", 0.33)
    page.wait_for_timeout(300)
    expect(page.locator(".tile")).to_have_count(1)
    expect(page.get_by_label("Find")).to_be_focused()  # or on the select: what one types in stays
    other = context.new_page()
    other.goto(page.url)
    settled(other)
    expect(other.get_by_label("Find")).to_have_value("freezer")
    expect(other.locator(".tile")).to_have_count(1)
    other.get_by_label("Find").fill("")
    other.get_by_label("Show").select_option("all")
    wait_until(lambda: (other.wait_for_timeout(20), other.url)[1] == f"{site.url}/", "an address without a search")


def test_a_fleet_is_searched_by_sensor_and_by_keyboard_alone(site: Site, enter: Enter) -> None:
    context, _ = enter()
    page = context.new_page()
    page.goto(site.url)
    settled(page)
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Find")).to_be_focused()
    page.keyboard.type("freezer-0002")
    expect(page.locator(".tile")).to_have_count(1)
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
        if reached[-1] == "d-freezer-0002":
            break
    assert reached[-1] == "d-freezer-0002"
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("freezer-0002")
    page.go_back()
    names = page.locator(".tile b").count()
    with site.store.read() as db:
        row = db.execute(t.alert.select().where(t.alert.c.alert_id == site.alerts["critical"])).one()
    page.get_by_label("Find").fill(row.sensors[0].upper())
    wait_until(lambda: (page.wait_for_timeout(20), "of" in page.locator("#counted").inner_text())[1], "an answer")
    expect(page.locator("#d-press-0001")).to_be_visible()
    assert names >= 1


@pytest.mark.parametrize("role", ["critical", "warning"])
def test_a_verdict_is_within_reach_on_a_phone(site: Site, enter: Enter, role: str) -> None:
    """C7: the buttons were 2,100 px down."""
    context, _ = enter(400)
    page = context.new_page()
    page.goto(f"{site.url}/alerts/{site.alerts[role]}")
    settled(page)
    for button in page.locator(".choices button").all():
        box = button.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 900
        assert box["height"] >= 34


LONG = "x" * 40


def test_long_names_overflow_nothing(site: Site, enter: Enter, monkeypatch: pytest.MonkeyPatch) -> None:
    """C7: the longest names there are, in words without a gap, at both widths."""
    name = f"lab-{'a' * 55}-0001"
    monkeypatch.setattr(seed.Device, "names", property(lambda one: [f"{LONG}_{n}_{LONG}" for n in range(one.sensors)]))
    device = seed.Device(name, clock.now() - clock.MINUTE, 12, epoch="1a")
    device.state("online", device.at, "started")
    device.results({"detector": np.array([1.7, 1.7])}, [1, 2])
    alert = device.alert(site.store, [1], ["opened"], "detector", [1, 2, 3, 4])
    device.health(3)
    device.store(site.store)
    for width in (400, 1440):
        context, _ = enter(width)
        page = context.new_page()
        for path in ("/", f"/?q={name}", f"/devices/{name}", f"/alerts/{alert}", "/alerts"):
            page.goto(f"{site.url}{path}")
            settled(page)
            assert page.evaluate(OVERFLOWING) == [], (path, width)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path


OVERFLOWING = """() => {
    // Elements that stick out of the nearest box that neither scrolls nor cuts them off.
    const boxes = ".scroll, section, .tile, .findings li, table.wide, .head, .facts div, main";
    const found = [];
    for (const one of document.querySelectorAll("main :is(a, b, h1, h2, p, dd, th, td, li, span)")) {
        const box = one.closest(boxes);
        const placed = one.getClientRects().length && getComputedStyle(one).position !== "absolute";
        if (!placed || !box || box === one || box.matches(".scroll")) continue;
        const inner = one.getBoundingClientRect();
        if (inner.width && inner.right > box.getBoundingClientRect().right + 1) {
            found.push(`${one.tagName}.${one.className}: ${one.textContent.slice(0, 40)}`);
        }
    }
    return found.slice(0, 5);
}"""


def test_a_reading_above_the_threshold_loses_its_tick(site: Site, enter: Enter) -> None:
    """In the open page as in a new one: another sign, another word, not among those that are well."""
    add(site, "incubator-0020")
    context, _ = enter()
    page = context.new_page()
    page.goto(site.url)
    settled(page)
    tile = page.locator("#d-incubator-0020")
    page.get_by_label("Show").select_option("normal")
    expect(tile).to_be_visible()
    news(site, "incubator-0020", 1.3)
    expect(tile).to_be_hidden()
    page.get_by_label("Show").select_option("above threshold")
    expect(tile).to_be_visible()
    expect(tile.locator(".state")).to_have_text("above threshold")
    expect(tile.locator("use")).to_have_attribute("href", "#above")
    page.goto(site.url)
    expect(tile).to_have_class("tile above needs")
    news(site, "incubator-0020", np.nan)
    expect(tile.locator(".state")).to_have_text("not judged")
    expect(tile.locator("use")).to_have_attribute("href", "#unknown")
    news(site, "incubator-0020", 0.3)
    expect(tile).to_have_class("tile normal")
    expect(tile.locator("use")).to_have_attribute("href", "#normal")


def test_news_that_a_busy_server_held_back_reach_the_page_all_the_same(
    site: Site, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that takes long to read its fleet answers with what it read a moment ago: the page asks once more."""
    context, _ = enter()
    page = context.new_page()
    page.goto(site.url)
    settled(page)
    device = add(site, "incubator-0024")
    tile = page.locator("#d-incubator-0024")
    expect(tile).to_have_class("tile normal")
    monkeypatch.setattr(tiles, "COSTLY", -1.0)
    monkeypatch.setattr(tiles, "SHARE", 10_000)  # whatever is read from now on is kept for half a minute
    device.state("offline", device.at, "stopped")
    page.reload()
    device.store(site.store)
    page.wait_for_timeout(3_000)
    expect(tile).to_have_class("tile normal")
    monkeypatch.setattr(tiles, "SHARE", 3)
    expect(tile.locator(".state")).to_have_text("stopped")


def test_what_is_wrong_reaches_the_open_page(site: Site, enter: Enter) -> None:
    """By its report, its connection, a gap and a clock that is wrong: on the tile and in the counts at the top."""
    context, _ = enter()
    page = context.new_page()
    page.goto(site.url)
    settled(page)
    device = add(site, "incubator-0021")
    tile, counted = page.locator("#d-incubator-0021"), page.locator("#tiles .sum")
    expect(tile).to_have_class("tile normal")
    refused = {"since": clock.iso(device.at), "read": 10, "scored": 0, "unknown": 0, "refused": {"columns": 10}}
    device.health(3, lines=refused, at=device.at + clock.SECOND)
    device.store(site.store)
    expect(tile.locator(".state")).to_have_text("all lines refused")
    expect(tile.locator(".why")).to_contain_text("10 of 10 lines")
    expect(counted).to_contain_text("with refused lines")
    device.health(3, lines=None, at=device.at + 2 * clock.SECOND)
    device.store(site.store)
    expect(tile).to_have_class("tile normal")
    device.state("offline", device.at, "stopped")
    device.store(site.store)
    expect(tile.locator(".state")).to_have_text("stopped")
    expect(counted).to_contain_text("stopped on purpose")
    device.state("online", device.at, "started", connection="c2")
    device.store(site.store)
    expect(tile).to_have_class("tile normal")
    device.at += 20 * t.HOUR
    device.results({"detector": np.array([0.3])}, [1])
    device.store(site.store)
    expect(tile.locator(".state")).to_have_text("clock ahead")
    device.send("gap", json.dumps({"reason": "log_truncated", "detail": "cut", "lines": 5000}))
    device.store(site.store)
    expect(tile.locator(".state")).to_have_text("clock ahead, lines lost")
    page.goto(f"{site.url}/devices/incubator-0021")
    expect(page.locator("#findings li")).to_have_count(2)
    expect(page.locator("#findings")).to_contain_text("The log was cut (5,000 lines)")


def test_the_filter_finds_a_device_that_went_with_an_open_alert(site: Site, enter: Enter) -> None:
    device = seed.Device("centrifuge-0019", clock.now() - 2 * t.HOUR, 100, epoch="cf")
    device.results({"detector": np.array([1.7])}, [1])
    device.alert(site.store, [0], ["opened"], "detector", [1, 2])
    context, _ = enter()
    page = context.new_page()
    page.goto(site.url)
    settled(page)
    tile = page.locator("#d-centrifuge-0019")
    expect(tile.locator(".state")).to_have_text("1 open alert, no contact")
    page.get_by_label("Show").select_option("out of contact")
    expect(tile).to_be_visible()


def test_a_dead_server_is_called_so_and_the_page_comes_back(
    tmp_path: Path, chromium_path: str, _chromium: Callable[[str], Browser]
) -> None:
    """Stopped, started again, started again and signed out: the word at the top says each of them."""
    store, _ = seed.make(tmp_path, clock.now(), devices=0)
    settings = WebSettings(port=find_port())
    app = create_app(store, store.live, settings)
    page = _chromium(chromium_path).new_page()
    feed = page.locator("#feed")
    try:
        with serving(app, settings):
            page.goto(settings.start_url)
            expect(feed).to_have_text("live")
        expect(feed).to_have_text(re.compile(r"^server not reachable since \d\d:\d\d UTC$"), timeout=20_000)
        with serving(app, settings):
            expect(feed).to_have_text("live", timeout=20_000)
            with store.write() as db:
                db.execute(delete(t.session))
        with serving(app, settings):
            expect(feed).to_have_text("signed out: sign in again", timeout=20_000)
    finally:
        page.close()
        store.close()


def test_a_stream_that_lives_is_not_live_without_a_broker(
    tmp_path: Path, chromium_path: str, _chromium: Callable[[str], Browser], mosquitto: Callable[..., Broker]
) -> None:
    """The broker is killed and comes back: the word at the top and the line below it follow, in every tab."""
    store, _ = seed.make(tmp_path, clock.now(), devices=1, hours=5)
    broker = mosquitto()
    ingest = Ingest(store, BrokerConfig(url=broker.url))
    ingest.start()
    assert ingest.wait_connected(30)
    settings = WebSettings(port=find_port())
    app = create_app(store, store.live, settings, ingest)
    context = _chromium(chromium_path).new_context()
    first = context.new_page()
    try:
        with serving(app, settings):
            first.goto(settings.start_url)
            second = context.new_page()
            second.goto(f"{settings.url}alerts")
            for page in (first, second):
                expect(page.locator("#feed")).to_have_text("live")
            broker.kill()
            for page in (first, second):
                expect(page.locator("#feed")).to_have_text(
                    re.compile(r"^broker down since \d\d:\d\d UTC$"), timeout=20_000
                )
                expect(page.locator("#parts")).to_contain_text(f"broker 127.0.0.1:{broker.port}", timeout=20_000)
            first.reload()
            expect(first.locator("#feed")).to_have_text(re.compile("^broker down"))
            broker.start()
            for page in (first, second):
                expect(page.locator("#feed")).to_have_text("live", timeout=40_000)
                expect(page.locator("#parts p")).to_have_count(0, timeout=20_000)
    finally:
        context.close()
        ingest.stop()
        store.close()


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0, 2.5, 5, 7.5], ["0.0", "2.5", "5.0", "7.5"]),
        ([0.25, 0.5, 0.75], ["0.25", "0.50", "0.75"]),
        ([0.1, 0.2, 0.30000000000000004], ["0.1", "0.2", "0.3"]),
        ([10, 20, 30], ["10", "20", "30"]),
        ([0, 25, 50], ["0", "25", "50"]),
        ([1e6, 1.25e6, 1.5e6], ["1.00e+6", "1.25e+6", "1.50e+6"]),
        ([0.5], ["0.5"]),
    ],
)
def test_the_numbers_at_an_axis_are_those_of_its_lines(
    site: Site, enter: Enter, values: list[float], labels: list[str]
) -> None:
    context, _ = enter()
    page = context.new_page()
    page.goto(f"{site.url}/api")
    script = "async ([url, values]) => (await import(url)).ticks(values)"
    assert page.evaluate(script, [Assets().url("say.js"), values]) == labels


def test_a_sensor_can_be_picked(site: Site, enter: Enter) -> None:
    context, _ = enter()
    page = context.new_page()
    page.goto(address(site, "device with readings"))
    settled(page)
    name = page.locator("#sensor option").last.text_content() or ""
    page.locator("#sensor").select_option(name)
    expect(page.locator("#readings .title b").first).to_have_text(name)
    expect(page.locator("#readings .uplot")).to_have_count(4)
