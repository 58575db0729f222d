"""``python -m bench.pages``: what the fleet page costs a browser: bytes on the wire and CPU until it is ready.

A real server over 1,000 and 10,000 devices, a real Chromium without a cache, several rounds each. CPU is that of the
page's main thread (``TaskDuration`` of the DevTools protocol in thread ticks); the least of the rounds is compared with
the limit, as other load on the machine lengthens it. Exit code 3 where a limit is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from fieldwatch_cloud.store import Store, sqlite_url
from fieldwatch_cloud.web import WebSettings, create_app
from fieldwatch_contract import clock
from playwright.sync_api import Browser, sync_playwright

from bench.rounds import conditions
from tests.browser import seed
from tests.conftest import find_chromium, find_port, serving

ROUNDS = 5
PATIENCE_MS = 120_000
"""A machine that others use reads ten thousand devices slowly."""
LIMITS = {1000: (40_000, 0.4), 10_000: (60_000, None)}
"""Bytes of the page with its scripts and sheets, and seconds of CPU, by the number of devices."""


def main() -> int:
    """Measure and print; 0 done, 1 no browser, 3 a limit is missed."""
    argparse.ArgumentParser(prog="python -m bench.pages", description=__doc__).parse_args()
    chromium = find_chromium()
    if chromium is None:
        print("no Chromium on the path: install it", file=sys.stderr)
        return 1
    print(json.dumps(conditions()))
    missed = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--no-proxy-server"])
        for devices, (most, longest) in LIMITS.items():
            sizes, times = fleet(browser, devices)
            print(f"{devices:6,} devices: {min(sizes):,} bytes (limit {most:,}), CPU {min(times):.2f} s least, "
                  f"{sorted(times)[len(times) // 2]:.2f} s median (limit {longest or 'none'})")  # fmt: skip
            missed += [devices] if min(sizes) > most or (longest is not None and min(times) > longest) else []
    return 3 if missed else 0


def fleet(browser: Browser, devices: int) -> tuple[list[int], list[float]]:
    """Return the bytes and the CPU seconds of each round."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(sqlite_url(Path(folder) / "cloud.db"))
        seed.many(store, clock.now(), devices, devices // 50)
        settings = WebSettings(port=find_port())
        with closing(store), serving(create_app(store, store.live, settings), settings):
            first = browser.new_context()
            first.set_default_timeout(PATIENCE_MS)
            page = first.new_page()
            page.goto(settings.start_url)
            session = first.storage_state()
            return tuple(zip(*(once(browser, settings.url, session) for _ in range(ROUNDS)), strict=True))  # type: ignore[return-value]


def once(browser: Browser, url: str, session: object) -> tuple[int, float]:
    """Load the page with an empty cache."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, storage_state=session)  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    tools = context.new_cdp_session(page)
    sizes: list[float] = []
    tools.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
    tools.send("Network.enable")
    tools.send("Performance.enable", {"timeDomain": "threadTicks"})  # CPU of the main thread, not the time on the wall
    page.goto(url)
    page.locator("#feed[data-state=live]").wait_for()
    metrics = {one["name"]: one["value"] for one in tools.send("Performance.getMetrics")["metrics"]}
    context.close()
    return round(sum(sizes)), metrics["TaskDuration"]


if __name__ == "__main__":
    raise SystemExit(main())
