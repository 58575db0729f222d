"""People and programs that look on: event streams, page loads, and one page in a real browser.

Each notes when it first saw an alert, by the same clock as the devices' sending.
"""

from __future__ import annotations

import http.client
import itertools
import json
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.conftest import find_chromium

PATIENCE_S = 60.0
THINK_S = 1.0
"""A reader's pause between two pages."""
SOON_S = 0.1
"""A reader who waits for one alert asks again after so long."""
DEVICE = re.compile(r"load-\d{4}")


@dataclass(frozen=True)
class Door:
    """Where the dashboard is, and the cookie that opens it."""

    port: int
    cookie: str

    def get(self, path: str) -> str:
        """Return a page. Raises :class:`RuntimeError` where the answer is not 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", path, headers={"Cookie": self.cookie})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status != 200:
            raise RuntimeError(f"GET {path}: {answer.status} {text[:200]}")
        return text


def enter(port: int, token: str) -> Door:
    """Sign in by the start link."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    connection.request("GET", f"/start?token={token}")
    answer = connection.getresponse()
    cookie = (answer.getheader("Set-Cookie") or "").partition(";")[0]
    connection.close()
    if not cookie:
        raise RuntimeError(f"no session: {answer.status}")
    return Door(port, cookie)


@dataclass
class Seen:
    """When each alert (stream: its id) or device (page) was seen first, seconds since 1970."""

    at: dict[str, float] = field(default_factory=dict)

    def note(self, name: str) -> None:
        """Note that it was seen, now."""
        self.at.setdefault(name, time.time())


class Onlooker(threading.Thread):
    """Does something until it is told to end; ``error`` is why it ended sooner."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        """Look until :attr:`ended`."""
        try:
            self.look()
        except Exception as error:
            if not self.ended.is_set():
                self.error = error

    def look(self) -> None:
        """Do it."""
        raise NotImplementedError


class Listener(Onlooker):
    """Follows the event stream."""

    def __init__(self, door: Door) -> None:
        super().__init__()
        self._door = door
        self.seen = Seen()
        self.events = 0

    def look(self) -> None:
        """Read events."""
        connection = http.client.HTTPConnection("127.0.0.1", self._door.port, timeout=PATIENCE_S)
        connection.request("GET", "/api/v1/events", headers={"Cookie": self._door.cookie})
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(f"the stream is refused: {answer.status}")
        kind = ""
        assert answer.fp is not None
        # Every event is a chunk of its own; reading through the library's chunks costs more than the server's work.
        while not self.ended.is_set() and (line := answer.fp.readline()):
            if line.startswith(b"event: "):
                kind = line[7:].strip().decode()
            elif line.startswith(b"data: "):
                self.events += 1
                if kind == "resync":
                    raise RuntimeError("the stream has lost events")
                if kind == "alert":
                    self.seen.note(json.loads(line[6:])["alert_id"])
        connection.close()
        if not self.ended.is_set():
            raise RuntimeError("the stream has ended")


class Reader(Onlooker):
    """Loads one page after another; notes which devices stand in the list of incidents."""

    def __init__(self, door: Door, pages: Sequence[str], pause: float) -> None:
        super().__init__()
        self._door = door
        self._pages = pages
        self._pause = pause
        self.took: list[float] = []
        """Seconds that each page took."""
        self.seen = Seen()

    def look(self) -> None:
        """Load pages."""
        for path in itertools.cycle(self._pages):
            before = time.time()
            text = self._door.get(path)
            self.took.append(time.time() - before)
            if path == "/incidents":
                for name in set(DEVICE.findall(text)):
                    self.seen.note(name)
            if self.ended.wait(self._pause):
                return


@contextmanager
def looking(onlookers: Sequence[Onlooker]) -> Iterator[None]:
    """Let them look. Raises :class:`RuntimeError` where one of them could not go on."""
    for one in onlookers:
        one.start()
    try:
        yield
    finally:
        for one in onlookers:
            one.ended.set()
    for one in onlookers:
        if one.error is not None:
            raise RuntimeError(f"{type(one).__name__}: {one.error}") from one.error


_WATCH = """() => {
  window.seen = {};
  const look = () => {
    for (const one of document.querySelector("main").textContent.match(/load-\\d{4}/g) ?? [])
      window.seen[one] ??= Date.now() / 1000;
  };
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true });
  look();
}"""


class Browser(Onlooker):
    """The list of incidents, open in Chromium; notes when a device appears in the page itself."""

    def __init__(self, door: Door) -> None:
        super().__init__()
        self._door = door
        self.ready = threading.Event()
        self.seen = Seen()

    def look(self) -> None:
        """Open the page, and wait."""
        from playwright.sync_api import sync_playwright

        name, _, value = self._door.cookie.partition("=")
        home = f"http://127.0.0.1:{self._door.port}"
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=find_chromium(), args=["--no-sandbox", "--disable-gpu", "--no-proxy-server"]
            )
            context = browser.new_context()
            context.add_cookies([{"name": name, "value": value, "url": home}])
            page = context.new_page()
            page.goto(f"{home}/incidents", timeout=PATIENCE_S * 1000)
            page.evaluate(_WATCH)
            self.ready.set()
            while not self.ended.is_set():
                page.wait_for_timeout(500)
            found: dict[str, Any] = page.evaluate("() => window.seen")
            self.seen.at.update(found)
            browser.close()
