"""``python -m bench.screenshots``: draw the pictures of the dashboard in ``docs/`` from a seeded server.

A real server over a made-up fleet and the Chromium on the path; the fleet is the same each time, so that a picture
changes only where a page or the time of day has. Colours are reduced to a palette, so that each file stays small.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from fieldwatch_cloud.alerts.routing import Route, Routing, Step
from fieldwatch_cloud.store import Store, cards, sqlite_url
from fieldwatch_cloud.web import WebSettings, create_app
from fieldwatch_contract import clock
from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser import seed
from tests.conftest import find_chromium, find_port, serving

DOCS = Path(__file__).parents[1] / "docs"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-proxy-server"]
LIMIT = 150_000
"""Bytes of a picture."""
COLOURS = 256
PICTURES: dict[str, tuple[str, int, int, str]] = {
    "fleet": ("/", 1280, 800, "light"),
    "fleet-dark": ("/", 1280, 800, "dark"),
    "device": ("/devices/press-0001", 1280, 1000, "light"),
    "incident": ("/incidents/{incident}", 1280, 1000, "light"),
    "incidents": ("/incidents", 1280, 560, "light"),
    "incident-phone": ("/incidents/{incident}", 400, 800, "dark"),
}
"""Address, width, height and theme, by the name of the file."""
ROUTING = Routing((Route("lab", (Step(("mail ana@lab.example",)),)),))
CARDS = {
    "press-0001": cards.Card("Tablet press, line 2", "Berlin", ("gmp",)),
    "freezer-0002": cards.Card("Sample freezer", "Berlin", ("-80",)),
    "press-0005": cards.Card("Tablet press, line 3", "Hamburg", ("gmp",)),
}


def main() -> int:
    """Draw them; 0 done, 1 one is too large or a page did not come."""
    parser = argparse.ArgumentParser(prog="python -m bench.screenshots", description=__doc__)
    parser.add_argument("--out", type=Path, default=DOCS, help="folder, docs/ by default")
    options = parser.parse_args()
    chromium = find_chromium()
    if chromium is None:
        print("no Chromium on the path: install it", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        store = Store(sqlite_url(Path(folder) / "cloud.db"), routing=ROUTING)
        seed.fleet(store, clock.now(), devices=24, hours=24)
        for device, card in CARDS.items():
            store.name(device, card, "demo")
        settings = WebSettings(port=find_port())
        app = create_app(store, store.live, settings)
        with closing(store), serving(app, settings), sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
            large = draw(browser, settings.start_url, options.out)
    return 1 if large else 0


def draw(browser: Browser, start: str, out: Path) -> list[str]:
    """Write every picture, and return the names of those that are too large."""
    first = browser.new_page()
    first.goto(start)
    home, session = first.url.rstrip("/"), first.context.storage_state()
    first.goto(f"{home}/incidents?q=press-0001")
    incident = first.locator(".what a").first.get_attribute("href") or ""
    large = []
    for name, (path, width, height, scheme) in PICTURES.items():
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]
            storage_state=session,
            timezone_id="UTC",
        )
        page = context.new_page()
        page.goto(home + path.format(incident=incident.rpartition("/")[2]))
        page.locator("#feed[data-state=live]").wait_for()
        expect(page.locator(".wait")).to_have_count(0)
        page.wait_for_timeout(500)
        data = small(page.screenshot())
        (out / f"{name}.png").write_bytes(data)
        print(f"{name}.png {len(data) / 1000:.0f} kB")
        large += [name] if len(data) > LIMIT else []
        context.close()
    return large


def small(png: bytes) -> bytes:
    """Return the same picture with a palette."""
    picture = Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True)
    return out.getvalue()


if __name__ == "__main__":
    raise SystemExit(main())
