"""People answer from the lists and from a phone, and look at any stretch of time in their own zone."""

from __future__ import annotations

import re
from itertools import pairwise
from urllib.parse import unquote

import numpy as np
import pytest
from fieldwatch_cloud.store import tables as t
from fieldwatch_contract import clock
from playwright.sync_api import Page, expect
from sqlalchemy import select

from tests.browser import seed
from tests.browser.conftest import Enter, Site
from tests.browser.every import address, settled


def incident(site: Site, name: str) -> int:
    """Add a device with an open alert, and return its incident's number."""
    device = seed.Device(name, clock.now() - clock.MINUTE, 12, epoch="ad")
    device.state("online", device.at, "started")
    device.results({"detector": np.array([1.7])}, [1])
    device.alert(site.store, [1], ["opened"], "detector", [1, 2])
    with site.store.read() as db:
        return int(db.execute(select(t.incident.c.id).where(t.incident.c.device == name)).scalar_one())


def state(site: Site, number: int) -> tuple[str, bool]:
    """Return the state of an incident, and whether it is snoozed."""
    with site.store.read() as db:
        row = db.execute(select(t.incident.c.state, t.incident.c.wake_at).where(t.incident.c.id == number)).one()
    return row.state, row.wake_at is not None


def test_a_snooze_is_one_click_from_the_list_and_has_an_end(site: Site, enter: Enter) -> None:
    number = incident(site, "furnace-0001")
    context, _ = enter(400)
    page = context.new_page()
    page.goto(f"{site.url}/incidents?q=furnace-0001")
    settled(page)
    page.get_by_role("button", name="Snooze furnace-0001 for 1 day").click()
    expect(page.locator("tbody tr")).to_contain_text("snoozed until")
    assert page.url == f"{site.url}/incidents?state=live&q=furnace-0001", "back where one was"
    assert state(site, number) == ("open", True)


def test_several_are_taken_at_once_and_news_keep_what_is_chosen(site: Site, enter: Enter) -> None:
    numbers = [incident(site, f"kiln-000{one}") for one in (1, 2, 3)]
    context, _ = enter()
    page = context.new_page()
    page.goto(f"{site.url}/incidents?q=kiln")
    settled(page)
    take = page.get_by_role("button", name="I take them")
    expect(take).to_be_hidden()
    for one in (1, 2):
        page.get_by_role("checkbox", name=f"Choose kiln-000{one}").check()
    incident(site, "kiln-0004")  # somebody else's news replace the list
    expect(page.locator("tbody tr")).to_have_count(4)
    expect(page.get_by_role("checkbox", name="Choose kiln-0001")).to_be_checked()
    take.click()
    expect(page.locator("tbody .state", has_text="taken")).to_have_count(2)
    assert [state(site, one)[0] for one in numbers] == ["acknowledged", "acknowledged", "open"]


def test_an_incident_is_taken_by_keyboard_and_closing_asks_why(site: Site, enter: Enter) -> None:
    number = incident(site, "oven-0001")
    context, _ = enter()
    page = context.new_page()
    page.goto(f"{site.url}/incidents/{number}")
    settled(page)
    page.get_by_role("button", name="Close").click()
    assert page.get_by_label("Note").evaluate("field => field.validationMessage") == "Say why: others rely on it."
    page.get_by_label("Note").focus()
    page.keyboard.type("on my way")
    while page.evaluate("document.activeElement.id") != "acknowledge":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#facts")).to_contain_text("on my way")
    assert state(site, number)[0] == "acknowledged"


def test_on_a_phone_every_answer_is_within_reach_of_a_thumb(site: Site, enter: Enter) -> None:
    """C7: within the first screen, large enough, and not touching each other."""
    context, _ = enter(400)
    page = context.new_page()
    page.goto(address(site, "incident"))
    settled(page)
    boxes = [one.bounding_box() for one in page.locator("#answer button").all()]
    placed = [box for box in boxes if box is not None]
    assert len(placed) == len(boxes) >= 6
    for box in placed:
        assert box["y"] + box["height"] <= 900
        assert box["height"] >= 28
    for one, other in pairwise(placed):
        beside = other["x"] - (one["x"] + one["width"]) >= 6
        below = other["y"] - (one["y"] + one["height"]) >= 6
        assert beside or below, (one, other)


def test_times_are_those_of_the_browser_and_utc_is_one_click_away(site: Site, enter: Enter) -> None:
    context, _ = enter(zone="Asia/Kolkata")
    page = context.new_page()
    page.goto(address(site, "device with readings"))
    settled(page)
    told = page.locator("#facts time").nth(1)
    utc = told.get_attribute("datetime") or ""
    expect(told).to_have_text(wall(utc, 330) + " GMT+5:30")
    assert told.get_attribute("title") == f"{utc[:19].replace('T', ' ')} UTC"
    expect(page.locator("#zone")).to_contain_text("(GMT+5:30)")
    start = page.locator("[name=from]").input_value()
    page.locator("#face").click()
    expect(told).to_have_text(wall(utc, 0) + " UTC")
    assert page.locator("[name=from]").input_value() == wall(f"{start}:00Z", -330).replace(" ", "T")
    page.reload()
    expect(told).to_have_text(wall(utc, 0) + " UTC")
    page.locator("#face").click()
    expect(told).to_contain_text("GMT+5:30")


def wall(utc: str, minutes: int) -> str:
    """Return a time in UTC as a clock shows it that is ``minutes`` ahead."""
    return clock.iso(clock.parse_iso(utc) + minutes * clock.MINUTE)[:16].replace("T", " ")


def shown(page: Page) -> tuple[int, int]:
    """Return the stretch that the address of a device page has, µs."""
    found = re.search(r"\?from=([^&]+)&to=([^&]+)$", unquote(page.url))
    assert found is not None, page.url
    return clock.parse_iso(f"{found[1]}:00Z"), clock.parse_iso(f"{found[2]}:00Z")


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_a_stretch_is_dragged_over_and_kept_in_the_address(site: Site, enter: Enter, zone: str) -> None:
    context, _ = enter(zone=zone)
    page = context.new_page()
    page.goto(f"{address(site, 'device')}?span=6h")
    settled(page)
    ends = (page.locator("#device").get_attribute(name) or "" for name in ("data-start", "data-end"))
    begin, end = map(clock.parse_iso, ends)
    plot = page.locator("#scores .u-over").first.bounding_box()
    assert plot is not None
    page.mouse.move(plot["x"] + plot["width"] / 4, plot["y"] + 40)
    page.mouse.down()
    page.mouse.move(plot["x"] + plot["width"] / 2, plot["y"] + 60, steps=4)
    page.mouse.up()
    page.wait_for_url(re.compile("from="))
    settled(page)
    first, last = shown(page)
    quarter = (end - begin) / 4
    assert abs(first - begin - quarter) < 5 * clock.MINUTE
    assert abs(last - begin - 2 * quarter) < 5 * clock.MINUTE
    page.get_by_role("link", name="Earlier").click()
    settled(page)
    assert shown(page) == (2 * first - last, first)
    page.get_by_role("button", name="Show").click()
    page.wait_for_url(re.compile("from="))
    assert shown(page) == (2 * first - last, first), "the form says what is shown, in whichever zone"


def test_a_trace_has_no_more_points_than_the_chart_has_pixels(site: Site, enter: Enter) -> None:
    context, _ = enter(400)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/results?" in request.url else None)
    page.goto(f"{address(site, 'device')}?span=7d")
    settled(page)
    (url,) = asked
    steps = 7 * 86400 / float(url.rpartition("step=")[2])
    assert steps <= 400


def test_maintenance_is_planned_in_the_zone_that_is_shown(site: Site, enter: Enter) -> None:
    context, _ = enter(zone="America/New_York")
    page = context.new_page()
    page.goto(f"{site.url}/telling")
    settled(page)
    page.get_by_label("Device").fill("nothing-*")
    page.get_by_label("From").fill("2099-07-01T08:00")
    page.get_by_label("Why").fill("belt change")
    page.get_by_role("button", name="Plan").click()
    expect(page.locator("main")).to_contain_text("2099-07-01 08:00 GMT-4 to 2099-07-01 09:00 GMT-4: nothing-*")
    with site.store.read() as db:
        begin = db.execute(select(t.maintenance.c.begin)).scalar_one()
    assert clock.iso(begin) == "2099-07-01T12:00:00Z"
