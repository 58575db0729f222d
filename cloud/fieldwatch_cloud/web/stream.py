"""The event stream: every notice of the live feed, as server-sent events.

An event's id is ``<boot>-<number>``: numbers are consecutive within a process, ``boot`` identifies the process. A
reconnecting browser sends the last id it saw and gets what it missed from the ring, or ``resync``: reload the page's
data. An idle stream sends the heartbeat ``beat`` with the newest number, so that a reader can tell whether it missed
something. A slow reader only falls behind the ring; nothing waits for it.
"""

from __future__ import annotations

import asyncio
import json
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Any

from fieldwatch_cloud.live import LiveFeed, Notice, Resync
from fieldwatch_cloud.store import ratio
from fieldwatch_cloud.store.fleet import told_by

HEARTBEAT = 10.0
"""Seconds of silence after which a beat is sent."""
CHECK = 10.0
"""Seconds after which a stream asks again whether its reader may still read: that is a question to the database."""
STREAMS = 64
"""Open streams at once: one browser needs one."""

ENCODED = 256
"""Encoded events kept for the other readers."""

_SEVERITY = {"normal": 0, "unknown": 1, "anomalous": 2, "faulty": 3}
"""A model that did not judge is no reason to call the device normal."""


class Stream:
    """Encodes the feed for browsers; an event is encoded once, however many read it."""

    def __init__(self, live: LiveFeed) -> None:
        self.live = live
        self._ends: set[asyncio.Event] = set()
        self._boot = secrets.token_hex(4)
        self._encoded: OrderedDict[int, bytes] = OrderedDict()

    @property
    def open(self) -> int:
        """How many streams are open."""
        return len(self._ends)

    @property
    def position(self) -> str:
        """Id of the newest event: where a page that is rendered now stands."""
        return self._id(self.live.last)

    def close(self) -> None:
        """End all streams; called in the event loop when the server stops, which would wait for them otherwise."""
        for end in self._ends:
            end.set()

    async def follow(self, after: str | None, allowed: Callable[[], bool]) -> AsyncIterator[bytes]:
        """Yield the stream from the event after the one named ``after``; ends when ``allowed`` says no."""
        feed = self.live.follow(self._number(after), HEARTBEAT)
        end = asyncio.Event()
        closed = asyncio.ensure_future(end.wait())
        step: asyncio.Future[tuple[int, Notice | Resync | None]] | None = None
        self._ends.add(end)
        checked = time.monotonic()
        try:
            yield b"retry: 3000\n\n"
            while True:
                step = asyncio.ensure_future(anext(feed))
                await asyncio.wait({step, closed}, return_when=asyncio.FIRST_COMPLETED)
                if closed.done():
                    return
                if (now := time.monotonic()) - checked >= CHECK:
                    checked = now
                    if not await asyncio.to_thread(allowed):
                        return
                number, notice = step.result()
                if notice is None:
                    yield self._plain(number, "beat")
                elif isinstance(notice, Resync):
                    yield self._plain(number, "resync")
                else:
                    yield self._encode(number, notice)
        finally:
            self._ends.discard(end)
            closed.cancel()
            if step is not None:
                step.cancel()

    def _number(self, after: str | None) -> int | None:
        """Return the number of an id; one of another process is from the future: the feed answers with a resync."""
        if not after:
            return None
        boot, _, number = after.partition("-")
        return int(number) if boot == self._boot and number.isdecimal() and len(number) < 17 else 2**62

    def _id(self, number: int) -> str:
        return f"{self._boot}-{number}"

    def _plain(self, number: int, kind: str) -> bytes:
        return f"event: {kind}\nid: {self._id(number)}\ndata: {{}}\n\n".encode()

    def _encode(self, number: int, notice: Notice) -> bytes:
        encoded = self._encoded.get(number)
        if encoded is None:
            data = json.dumps(told(notice), separators=(",", ":"), allow_nan=False)
            encoded = f"event: {notice.kind}\nid: {self._id(number)}\ndata: {data}\n\n".encode()
            self._encoded[number] = encoded
            if len(self._encoded) > ENCODED:
                self._encoded.popitem(last=False)
        return encoded


def told(notice: Notice) -> dict[str, Any]:
    """Return what is sent to browsers of a notice: what a page shows immediately; it requests the rest."""
    if notice.kind == "parts":
        return dict(notice.data)
    data: dict[str, Any] = {"device": notice.device}
    if notice.kind == "result":
        models = [
            {"model": one["model"], "ratio": ratio(one["score"], one["threshold"]), "verdict": one["verdict"]}
            for one in notice.data["scores"]
        ]
        ratios = [model["ratio"] for model in models if model["ratio"] is not None]
        worst = max((model["verdict"] for model in models), key=_SEVERITY.__getitem__, default="unknown")
        return data | {
            "ts": notice.data["ts"],
            "n": notice.data["n"],
            "ratio": max(ratios, default=None),
            "verdict": worst,
            "models": models,
        }
    if notice.kind == "alert":
        names = ("alert_id", "state", "transition", "severity", "kind", "model", "opened_at", "last_at", "peak")
        return data | {name: finite(notice.data[name]) for name in names}
    if notice.kind == "verdict":
        return data | {name: notice.data[name] for name in ("alert_id", "verdict", "at")}
    if notice.kind == "state":
        return data | {name: notice.data[name] for name in ("status", "since", "reason")}
    if notice.kind == "health":
        return data | {"log": notice.data["log"], "told": told_by(notice.data)}
    return data | {"type": notice.data["type"]}


def finite(value: Any) -> Any:
    """JSON has no infinity, and one number must not end everybody's stream."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
