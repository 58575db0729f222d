"""Every page of the dashboard: where it is, what it draws, and when it is ready to be looked at."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.conftest import Site

PAGES = {
    "fleet": "/",
    "device": "/devices/press-0001",
    "device with readings": "/devices/centrifuge-0003",
    "device that is offline": "/devices/press-0005",
    "alerts": "/alerts?state=all",
    "no alerts": "/alerts?device=nobody",
    "critical alert": "/alerts/{critical}",
    "detector alert": "/alerts/{warning}",
    "resolved alert": "/alerts/{resolved}",
    "alert without evidence": "/alerts/{private}",
    "api": "/api",
    "search": "/?q=freezer&state=warning",
    "account": "/account",
    "people": "/users",
    "audit trail": "/audit",
    "incidents": "/incidents?state=all",
    "incident": "/incidents/1",
    "issues": "/issues",
    "issue": "/issues/1",
    "a stretch of a device": "/devices/press-0001?from=2026-01-01T00:00&to=2026-01-02T00:00",
    "notifications": "/telling",
    "this server": "/server",
}
CHARTS = {
    "device": 6,
    "device with readings": 6,
    "device that is offline": 2,
    "critical alert": 5,
    "detector alert": 3,
    "resolved alert": 4,
    "alert without evidence": 1,
    "incident": 5,
    "a stretch of a device": 4,
}
PAINTED = """(canvas) => {
    const { width, height } = canvas;
    const copy = Object.assign(document.createElement("canvas"), { width, height });
    const pen = copy.getContext("2d", { willReadFrequently: true });  // or the browser warns where this asks again
    pen.drawImage(canvas, 0, 0);
    const data = pen.getImageData(0, 0, width, height).data;
    const seen = new Set();
    for (let i = 0; i < data.length; i += 4) if (data[i + 3]) seen.add(data[i] << 16 | data[i + 1] << 8 | data[i + 2]);
    return seen.size;
}"""


def address(site: Site, name: str) -> str:
    return site.url + PAGES[name].format(**site.alerts)


def settled(page: Page) -> None:
    """Wait until the page hears the news and its charts are drawn."""
    expect(page.locator("#feed")).to_have_text("live")
    expect(page.locator(".wait:visible")).to_have_count(0)
