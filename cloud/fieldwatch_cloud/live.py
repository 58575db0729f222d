"""The live feed of changes: one ring buffer of notices, any number of readers (publish/subscribe).

Ingest publishes after its commit, from its own thread; each browser's event stream reads with its own cursor. There are
no per-reader queues: a reader that falls behind the ring gets :class:`Resync` (reload the page's data) and continues
with the newest, so a slow browser can neither block ingest nor increase its memory.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, Literal

RING = 4096
"""Notices kept for readers that reconnect with the number of the last one they saw."""

NoticeKind = Literal["result", "alert", "state", "health", "event", "verdict", "parts"]


@dataclass(frozen=True)
class Notice:
    """Something was stored. ``data`` is JSON-ready.

    =========== ==========================================================================================
    ``result``  newest reading of the device in this commit: ``ts`` (µs), ``n`` new rows, ``scores`` (list of
                ``model, kind, score, threshold, verdict`` (word), ``sensors, shares``)
    ``alert``   columns of :data:`.tables.alert`
    ``state``   ``status``, ``since`` (µs), ``reason``
    ``health``  contract.events.HealthData as sent
    ``event``   ``type`` (gap, model; incident: a person answered it), ``time`` (µs), ``data``
    ``verdict`` ``alert_id``, ``verdict``, ``note``, ``at`` (µs)
    ``parts``   ``down``: those of this server that do not work, with ``name``, ``says``, ``since`` (µs); no device
    =========== ==========================================================================================
    """

    kind: NoticeKind
    device: str
    data: dict[str, Any]


@dataclass(frozen=True)
class Resync:
    """Notices were missed: reload everything."""


class LiveFeed:
    """The ring. :meth:`publish` from any thread; :meth:`follow` in an event loop."""

    def __init__(self, size: int = RING) -> None:
        self._ring: deque[tuple[int, Notice]] = deque(maxlen=size)
        self._last = 0
        self._lock = threading.Lock()
        self._waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    @property
    def last(self) -> int:
        """Number of the newest notice; 0 before the first."""
        return self._last

    def publish(self, notices: Iterable[Notice]) -> None:
        """Append notices and wake all readers; never blocks."""
        with self._lock:
            before = self._last
            for notice in notices:
                self._last += 1
                self._ring.append((self._last, notice))
            waiting = list(self._waiting.items()) if self._last > before else []
        for event, loop in waiting:
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:  # that loop has closed; its reader is gone
                self._waiting.pop(event, None)

    def skip(self) -> None:
        """Let every reader load everything again: something came that is not in the ring."""
        with self._lock:
            self._ring.clear()
            self._last += 1

    def after(self, number: int) -> tuple[int, list[tuple[int, Notice]] | Resync]:
        """Return the newest number and all notices after ``number``, or :class:`Resync` if some are no longer kept.

        A number beyond the newest comes from an earlier process: that is a Resync as well.
        """
        with self._lock:
            oldest = self._ring[0][0] if self._ring else self._last + 1
            if number > self._last or number + 1 < oldest:
                return self._last, Resync()
            return self._last, [item for item in self._ring if item[0] > number]

    async def follow(
        self, after: int | None = None, heartbeat: float = 15.0
    ) -> AsyncIterator[tuple[int, Notice | Resync | None]]:
        """Yield ``(number, notice)`` endlessly; ``after``: number of the last notice seen, None = from now on.

        Yields ``(number, None)`` after ``heartbeat`` seconds of silence, so that the caller can write a comment and
        notice a reader that has gone.
        """
        cursor = self._last if after is None else after
        woken = asyncio.Event()
        with self._lock:
            self._waiting[woken] = asyncio.get_running_loop()
        try:
            while True:
                woken.clear()
                newest, news = self.after(cursor)
                if isinstance(news, Resync):
                    yield newest, news
                else:
                    for number, notice in news:
                        yield number, notice
                cursor = newest
                try:
                    await asyncio.wait_for(woken.wait(), heartbeat)
                except TimeoutError:
                    yield cursor, None
        finally:
            with self._lock:
                self._waiting.pop(woken, None)
