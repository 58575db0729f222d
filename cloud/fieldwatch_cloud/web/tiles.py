"""The fleet page: worst first; what needs a person large, what is well small, so that a thousand well devices fit on
one screen.

A page holds :data:`PAGE` devices in the order of the fleet. The first :data:`LARGE` that need a person are told with
their reason, the others of them in a line each; well devices are tiles with their day's line while there are few, and
cells of a grid otherwise. The facts of all devices are read once for everybody who looks, and kept for a moment.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from urllib.parse import urlencode

from fieldwatch_cloud.alerts.standing import State, counts, fleet_notes
from fieldwatch_cloud.live import LiveFeed, Resync
from fieldwatch_cloud.store.fleet import DeviceNow, told_by
from fieldwatch_cloud.store.incidents import Incidents
from fieldwatch_cloud.web.frame import Renderer
from fieldwatch_cloud.web.queries import Queries
from fieldwatch_cloud.web.stream import Stream

FLEET_AGE = 5.0
"""Seconds for which the facts are kept, unless an alert or a lost connection comes in."""
COSTLY = 0.2
SHARE = 3
"""Reading the facts, where it takes longer than :data:`COSTLY` seconds, is followed by a pause of so many times that,
however loud the news: the pages of a large fleet must not take the machine from ingest."""
PAGE = 1000
LARGE = 60
TILES = 60
"""Well devices that get a tile each; more of them are cells."""
TAIL = 7
"""Characters of a name that a cell shows."""
PAGES_KEPT = 32


@dataclass(frozen=True)
class Wish:
    """What the address asks for: ``text`` in id, name, tags, type, bundle or sensor; devices in ``state`` and of
    ``site``; a page from 1 on.
    """

    text: str = ""
    state: str = ""
    site: str = ""
    page: int = 1

    @property
    def narrowed(self) -> bool:
        """Whether it asks for some devices only."""
        return bool(self.text or self.state or self.site)

    def narrow(self, state: str) -> str:
        """Return the address of the devices of the same site in a state."""
        return Wish("", state, self.site).address(1)

    def address(self, page: int) -> str:
        """Return the address of another page of the same."""
        asked = {"q": self.text, "state": self.state, "site": self.site, "page": str(page) if page > 1 else ""}
        query = urlencode({name: value for name, value in asked.items() if value})
        return f"/?{query}" if query else "/"


@dataclass(frozen=True)
class Cell:
    """A well device in a grid: the end of its name, and how near its score is to the threshold, 0 to 3."""

    id: str
    tail: str
    level: int


@dataclass(frozen=True)
class Rendered:
    """A page, and at which place of the feed its facts were read; ``found`` of ``all`` devices are asked for.

    ``sites``: all that there are.
    """

    html: str
    position: str
    found: int
    all: int
    sites: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether it shows every device: then one that is not on it is new."""
        return self.found == self.all <= PAGE


@dataclass
class _Facts:
    """All devices, when and at which place of the feed they were read, and what each one's report told."""

    devices: list[DeviceNow]
    made: float
    cost: float
    number: int
    position: str
    told: dict[str, list[State]]
    pages: dict[Wish, Rendered] = field(default_factory=dict)


class Tiles:
    """The fleet as it was read last, and the pages made of it."""

    def __init__(self, pages: Renderer, stream: Stream, incidents: Incidents) -> None:
        """``incidents`` knows the site that the configuration gives a device."""
        self._pages = pages
        self._stream = stream
        self._incidents = incidents
        self._lock = threading.Lock()
        self._kept: _Facts | None = None

    def get(self, queries: Queries, wish: Wish = Wish()) -> Rendered:
        """Return a page, of facts that are at most a moment old and not older than the newest alert."""
        with self._lock:
            facts = self._facts(queries, exact=wish.narrowed)
            page = facts.pages.get(wish)
            if page is None:
                page = self._page(facts, queries, wish)
                if len(facts.pages) < PAGES_KEPT:
                    facts.pages[wish] = page
            return page

    def _facts(self, queries: Queries, exact: bool) -> _Facts:
        """Return the facts; ``exact``: with the newest readings, for who asks for a state sees what has it now."""
        live, kept, now = self._stream.live, self._kept, time.monotonic()
        if kept is not None and kept.cost > COSTLY and now - kept.made < SHARE * kept.cost:
            return kept
        old = kept is None or now - kept.made > FLEET_AGE or (exact and live.last != kept.number)
        if kept is None or old or _is_news(live, kept):
            number, position = live.last, self._stream.position
            devices = queries.fleet()
            told = {one.id: one.told for one in devices}
            done = time.monotonic()
            kept = self._kept = _Facts(devices, done, done - now, number, position, told)
        return kept

    def _page(self, facts: _Facts, queries: Queries, wish: Wish) -> Rendered:
        sites = {one.id: one.card.site or self._incidents.routing.site(one.id) for one in facts.devices}
        chosen = _chosen(facts.devices, queries, wish, sites)
        last = max(1, -(-len(chosen) // PAGE))
        wish = replace(wish, page=min(wish.page, last))
        shown = chosen[(wish.page - 1) * PAGE : wish.page * PAGE]
        troubled = [one for one in shown if one.standing.condition != "normal"]
        well = [one for one in shown if one.standing.condition == "normal"]
        standings = [one.standing for one in facts.devices]
        html = self._pages.render(
            "tiles.html",
            all=len(facts.devices),
            found=len(chosen),
            size=PAGE,
            wish=wish,
            last=last,
            large=troubled[:LARGE],
            brief=troubled[LARGE:],
            tiles=well if len(well) <= TILES else [],
            cells=_cells(well) if len(well) > TILES else [],
            counts=counts(standings),
            notes=fleet_notes(standings),
            spark=spark_path,
        )
        places = tuple(sorted(set(sites.values()) - {""}))
        return Rendered(html if facts.devices else "", facts.position, len(chosen), len(facts.devices), places)


def _chosen(devices: Sequence[DeviceNow], queries: Queries, wish: Wish, sites: Mapping[str, str]) -> list[DeviceNow]:
    """Return the devices that are asked for."""
    text = wish.text.strip().lower()
    sensing = queries.with_sensor(text) if text else frozenset()
    return [
        one
        for one in devices
        if (not wish.state or wish.state in one.standing.states)
        and (not wish.site or wish.site == sites[one.id])
        and (
            not text
            or text in one.id
            or one.card.has(text)
            or text in (one.type or "").lower()
            or text in (one.bundle or "").lower()
            or one.id in sensing
        )
    ]


def _cells(devices: Sequence[DeviceNow]) -> list[tuple[str, list[Cell]]]:
    """Group devices by the beginning of their names, so that a cell shows only the end."""

    def beginning(one: DeviceNow) -> str:
        return one.id.rpartition("-")[0]

    groups = []
    for name, members in groupby(sorted(devices, key=lambda one: (beginning(one), one.id)), key=beginning):
        cells = [Cell(one.id, _tail(one.id), min(3, int(4 * max(0.0, one.ratio or 0.0)))) for one in members]
        groups.append((name, cells))
    return groups


def _tail(name: str) -> str:
    """Return the end of a name that fits into a cell.

    >>> _tail("press-0001"), _tail("furnace"), _tail("lab-thermocycler")
    ('0001', 'furnace', '…cycler')
    """
    tail = name.rpartition("-")[2] or name
    return tail if len(tail) <= TAIL else f"…{tail[-TAIL + 1 :]}"


def _is_news(live: LiveFeed, kept: _Facts) -> bool:
    """Tell whether something urgent happened after ``kept`` was read."""
    _, notices = live.after(kept.number)
    if isinstance(notices, Resync):
        return True
    return any(
        notice.kind in ("alert", "state", "event")
        or (notice.kind == "health" and told_by(notice.data) != kept.told.get(notice.device, []))
        for _, notice in notices
    )


def spark_path(hours: list[float | None]) -> str:
    """Draw 24 hourly ratios as an SVG path, 4 units an hour and 24 high; ``static/fleet.js`` continues it.

    Linear up to the threshold at half height, logarithmic from there to ten times the threshold at the top, so that
    quiet devices differ and loud ones fit.

    >>> spark_path([0.0, 1.0, None, 10.0])
    'M0 24L4 12M12 0'
    """
    from math import log10

    parts = []
    pen = "M"
    for index, value in enumerate(hours):
        if value is None:
            pen = "M"
            continue
        height = max(0.0, value) / 2 if value <= 1 else 0.5 + 0.5 * min(1.0, log10(value))
        parts.append(f"{pen}{index * 4} {round(24 * (1 - height))}")
        pen = "L"
    return "".join(parts)
