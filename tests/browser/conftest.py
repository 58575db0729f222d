"""A real server on a free port and a real Chromium; every page is watched for errors and foreign requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from fieldwatch_cloud.store import Store
from fieldwatch_cloud.web import WebSettings, create_app
from fieldwatch_contract import clock
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.browser import seed
from tests.conftest import find_port, serving

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
]

expect.set_options(timeout=30_000)  # a machine may be busy


@dataclass
class Site:
    """A running dashboard."""

    store: Store
    settings: WebSettings
    server: uvicorn.Server
    alerts: dict[str, str]
    now: int
    admit: Callable[[], str]
    session: Any = None

    @property
    def url(self) -> str:
        """Without the slash at the end."""
        return self.settings.url.rstrip("/")

    def start_url(self) -> str:
        """A fresh start link."""
        return f"{self.url}/start?token={self.admit()}"


@dataclass
class Watch:
    """What went wrong in the pages of a context: console errors (with them CSP violations) and foreign requests."""

    home: str
    problems: list[str] = field(default_factory=list)

    def look_at(self, page: Page) -> None:
        """Watch a page."""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("request", self._request)
        page.on("requestfailed", self._failed)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text}")

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if f"{parts.scheme}://{parts.netloc}" != self.home:
            self.problems.append(f"foreign request: {request.url}")

    def _failed(self, request: Request) -> None:
        if "/api/v1/events" not in request.url and "ERR_ABORTED" not in str(request.failure):
            self.problems.append(f"failed: {request.url} {request.failure}")


def _serve(store: Store, alerts: dict[str, str], now: int) -> Iterator[Site]:
    settings = WebSettings(port=find_port())
    app = create_app(store, store.live, settings)
    with closing(store), serving(app, settings) as server:
        yield Site(store, settings, server, alerts, now, app.state.accounts.admit)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A dashboard of nine devices with six hours, two with one fault; tests may add to it, not rely on counts."""
    now = clock.now()
    store, alerts = seed.make(tmp_path_factory.mktemp("browser"), now, devices=8, sensors=100, hours=6)
    seed.same_fault(store, now)
    yield from _serve(store, alerts, now)


@pytest.fixture(scope="module")
def _chromium() -> Iterator[Callable[[str], Browser]]:
    """Chromium, started when the first test asks for it; Playwright's event loop must not outlive its tests."""
    with sync_playwright() as playwright:
        browsers: list[Browser] = []

        def get(path: str) -> Browser:
            if not browsers:
                browsers.append(playwright.chromium.launch(executable_path=path, args=ARGUMENTS))
            return browsers[0]

        yield get
        for browser in browsers:
            browser.close()


Enter = Callable[..., tuple[BrowserContext, Watch]]


@pytest.fixture
def enter(site: Site, chromium_path: str, _chromium: Callable[[str], Browser]) -> Iterator[Enter]:
    """Open a context with a session: ``context, watch = enter(width=400, scheme="dark")``.

    When the test ends, nothing may have gone wrong in any of its pages.
    """
    opened: list[tuple[BrowserContext, Watch]] = []

    def make(width: int = 1440, scheme: str = "light", zone: str = "UTC") -> tuple[BrowserContext, Watch]:
        browser = _chromium(chromium_path)
        if site.session is None:
            first = browser.new_context()
            page = first.new_page()
            page.goto(site.start_url())
            assert page.url == f"{site.url}/"
            site.session = first.storage_state()
            first.close()
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,  # type: ignore[arg-type]
            storage_state=site.session,
            timezone_id=zone,
        )
        watch = Watch(site.url)
        context.on("page", watch.look_at)
        opened.append((context, watch))
        return context, watch

    yield make
    for context, watch in opened:
        context.close()
        assert watch.problems == []
