"""Every page, light and dark, at a desk and on a phone: clean, of one width, without a barrier, by keyboard alone."""

from __future__ import annotations

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page, expect

from tests.browser.conftest import Enter, Site
from tests.browser.every import CHARTS, PAGES, PAINTED, address, settled
from tests.conftest import wait_until

LOOKS = [(1440, "light"), (1440, "dark"), (400, "dark"), (400, "light")]
BY_THEME = ["color-contrast", "link-in-text-block"]
"""What a theme can change; the other rules are asked once at each width."""


def barriers(page: Page, *rules: str) -> list[str]:
    """Return what axe finds, by all its rules or these: which, and where."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    options = {"resultTypes": ["violations"]} | ({"runOnly": rules} if rules else {})
    found = page.evaluate("(options) => axe.run(options).then((result) => result.violations)", options)
    return [f"{one['id']}: {node['target']} {node.get('failureSummary', '')}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("name", PAGES)
def test_page_is_clean_fits_and_has_no_barrier(site: Site, enter: Enter, name: str) -> None:
    """No console error, no CSP violation, no foreign request (the fixture looks), nothing wider than the window."""
    context, _ = enter(*LOOKS[0])
    page = context.new_page()
    page.goto(address(site, name))
    settled(page)
    assert page.evaluate("document.title") != ""
    assert page.evaluate("[...document.forms].every((one) => typeof one.matches === 'function')")  # not its field
    asked = set()
    for width, scheme in LOOKS:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        expect(page.locator(".uplot")).to_have_count(CHARTS.get(name, 0))
        for canvas in page.locator("canvas").all():
            wait_until(lambda canvas=canvas: canvas.evaluate(PAINTED) > 2, "a picture on every canvas")
        wait_until(
            lambda width=width: page.evaluate("document.documentElement.scrollWidth") <= width, f"fits in {width} px"
        )
        assert barriers(page, *(BY_THEME if width in asked else ())) == [], (width, scheme)
        asked.add(width)


def test_a_barrier_would_be_noticed(site: Site, enter: Enter) -> None:
    context, _ = enter()
    page = context.new_page()
    page.goto(site.url)
    settled(page)
    page.evaluate("document.getElementById('main').insertAdjacentHTML('beforeend', '<input><a href=\"/\"></a>')")
    assert {one.split(":")[0] for one in barriers(page)} >= {"label", "link-name"}


@pytest.mark.parametrize("path", ["/start", "/sign-in", "/link?token=none"])
def test_the_way_in_has_no_barrier(site: Site, enter: Enter, path: str) -> None:
    context, _ = enter()
    for width, scheme in LOOKS[::2]:
        stranger = context.browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,  # type: ignore[arg-type]
        )
        page = stranger.new_page()
        page.goto(f"{site.url}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert barriers(page) == [], (width, scheme)
        stranger.close()


WATCH = """() => {
    // Note which elements the keyboard reaches, and those of which one cannot see that it has reached them.
    window.reached = new Set();
    window.unseen = [];
    addEventListener("focusin", ({ target }) => {
        reached.add(target);
        const { outlineStyle, outlineWidth } = getComputedStyle(target);
        if (outlineStyle === "none" || parseFloat(outlineWidth) < 1) unseen.push(target.outerHTML.slice(0, 120));
    });
}"""
CONTROLS = "a[href], button:enabled, input:not([type=hidden]), select, textarea, summary, .scroll"
MISSED = f"""() => [...document.querySelectorAll({CONTROLS!r})]
    .filter((one) => one.checkVisibility({{ visibilityProperty: true }}) && !reached.has(one))
    .map((one) => one.outerHTML.slice(0, 120))"""


BY_KEYBOARD = ["fleet", "device with readings", "incidents", "incident", "critical alert", "notifications", "people"]


@pytest.mark.parametrize("name", BY_KEYBOARD)
def test_the_keyboard_reaches_every_control_and_shows_where_it_is(site: Site, enter: Enter, name: str) -> None:
    context, _ = enter()
    page = context.new_page()
    page.goto(address(site, name))
    settled(page)
    page.evaluate(WATCH)
    parts = 8 * page.locator("input[type=datetime-local]").count()  # a field of a date has a stop for each part
    for _ in range(page.locator(CONTROLS).count() + parts + 10):
        page.keyboard.press("Tab")
    assert page.evaluate(MISSED) == []
    assert page.evaluate("unseen") == []
