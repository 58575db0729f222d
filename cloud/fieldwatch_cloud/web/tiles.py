"""The fleet as tiles, rendered once for all who look: worst first, the line of each device's last day."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from fieldwatch_cloud.alerts.standing import State, counts, fleet_notes
from fieldwatch_cloud.live import LiveFeed, Resync
from fieldwatch_cloud.store.fleet import told_by
from fieldwatch_cloud.web.frame import Renderer
from fieldwatch_cloud.web.queries import Queries
from fieldwatch_cloud.web.stream import Stream

FLEET_AGE = 5.0
"""Seconds for which the rendered fleet is kept, unless an alert or a lost connection comes in."""


class Tiles:
    """The fleet rendered last."""

    def __init__(self, pages: Renderer, stream: Stream) -> None:
        self._pages = pages
        self._stream = stream
        self._lock = threading.Lock()
        self._kept: Rendered | None = None

    def get(self, queries: Queries) -> Rendered:
        """Return the fleet as HTML, at most :data:`FLEET_AGE` old and never older than the newest alert."""
        live = self._stream.live
        with self._lock:
            kept = self._kept
            if kept is None or time.monotonic() - kept.made > FLEET_AGE or _is_news(live, kept):
                number, position = live.last, self._stream.position
                devices = queries.fleet()
                standings = [one.standing for one in devices]
                html = self._pages.render(
                    "tiles.html",
                    troubled=[one for one in devices if one.standing.condition != "normal"],
                    well=[one for one in devices if one.standing.condition == "normal"],
                    counts=counts(standings),
                    notes=fleet_notes(standings),
                    spark=spark_path,
                )
                told = {one.id: one.told for one in devices}
                kept = self._kept = Rendered(html if devices else "", time.monotonic(), number, position, told)
            return kept


@dataclass(frozen=True)
class Rendered:
    """The rendered tiles, when and at which place of the feed they were made, and what each device's report told."""

    html: str
    made: float
    number: int
    position: str
    told: dict[str, list[State]]


def _is_news(live: LiveFeed, kept: Rendered) -> bool:
    """Tell whether something urgent happened after ``kept`` was rendered."""
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
