"""Ingest: receives from the broker, stores, and only then acknowledges.

What it promises
    * A message is confirmed to the broker, and its events are acknowledged to the device, only after the commit that
      stored them. If ingest is killed at any point, the devices still have everything that is not stored.
    * While the store cannot be written (disk full, locked, damaged) nothing is confirmed and nothing is lost; the
      broker's flow control bounds the memory (QoS 0 has none: the surplus is dropped).

How
    One thread connects (:mod:`.link`), gathers a batch (at most :data:`BATCH_ROWS` rows or :data:`LINGER_S`, so a live
    event waits no longer than that), stores it (:mod:`.intake`), confirms it, and publishes acknowledgements as
    :class:`.AckPacer` allows. In between it tells devices what people have said of their alerts, and what they ask for
    (:mod:`.store.commands`). With a ``group`` any number of processes share the subscription: the store does not depend
    on their order.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import threading
import time
from typing import TYPE_CHECKING

from fieldwatch_contract import causes
from sqlalchemy.exc import SQLAlchemyError

from fieldwatch_cloud.ingest.intake import Intake
from fieldwatch_cloud.ingest.link import CONNECT_S, KEYS, Link, Received, Target
from fieldwatch_cloud.ingest.pacer import AckPacer
from fieldwatch_cloud.ingest.stats import Stats

if TYPE_CHECKING:
    from fieldwatch_cloud.config import BrokerConfig
    from fieldwatch_cloud.store import Store

BATCH_ROWS = 1_000
LINGER_S = 0.05
"""Seconds that a batch waits for further messages."""
FIRST_RETRY_S = 0.5
LAST_RETRY_S = 15.0
STORE_RETRY_S = 1.0
SAY_S = 1.0
"""Seconds between two looks for new verdicts and commands: another process may have stored them."""

log = logging.getLogger("fieldwatch.ingest")


class Ingest:
    """The ingest thread. Public members may be used from any thread."""

    def __init__(self, store: Store, config: BrokerConfig, url: str | None = None) -> None:
        """``url``: the broker's, where it is not ``config.url`` (an embedded one)."""
        self._store = store
        self._target = Target(config, url or config.url)
        self._queue: queue.SimpleQueue[Received | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._link: Link | None = None
        self._next_attempt = 0.0
        self._clean = False
        self._retry = FIRST_RETRY_S
        self._said = 0
        self._say_again = 0.0
        self._pacer = AckPacer()
        self._error: str | None = None
        self._turned = time.monotonic()
        self.stats = Stats()
        self._intake = Intake(store, self._pacer, self.stats)

    @property
    def connected(self) -> bool:
        """Whether we are subscribed."""
        link = self._link
        return link is not None and link.up

    @property
    def error(self) -> str | None:
        """What keeps events from being stored, in words; None while all is well."""
        return self._error

    @property
    def idle(self) -> float | None:
        """Seconds since the thread's last iteration, of which there is about one per second; None if not running."""
        running = self._thread is not None and self._thread.is_alive()
        return time.monotonic() - self._turned if running else None

    def start(self) -> None:
        """Start the thread."""
        self._turned = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="ingest", daemon=True)
        self._thread.start()

    def wait_connected(self, seconds: float) -> bool:
        """Wait until we are subscribed, at most ``seconds``, and tell whether we are."""
        end = time.monotonic() + seconds
        while not self.connected and time.monotonic() < end and not self._stop.is_set():
            time.sleep(0.02)
        return self.connected

    def stop(self) -> None:
        """Store what has been received, acknowledge it, disconnect and end the thread."""
        self._stop.set()
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(CONNECT_S + STORE_RETRY_S)

    # ---- the thread ----

    def _run(self) -> None:
        while not self._stop.is_set():
            self._turned = time.monotonic()
            try:
                self._tend()
                self._take(self._gather())
                self._tell()
            except Exception as error:
                log.exception("ingest: unexpected error; reconnecting")
                self._drop(f"unexpected: {type(error).__name__}: {error}")
                self._stop.wait(STORE_RETRY_S)
        self._leave()

    def _gather(self) -> list[Received]:
        """Wait for messages and return one batch."""
        now = time.monotonic()
        due = self._pacer.wait(now) if self._link is not None else max(0.0, self._next_attempt - now)
        try:
            first = self._queue.get(timeout=1.0 if due is None else min(1.0, due))
        except queue.Empty:
            return []
        taken: list[Received] = []
        rows, end = 0, time.monotonic() + LINGER_S
        item: Received | None = first
        while item is not None:  # None: wake-up for something else
            taken.append(item)
            # an estimate without unpacking: a compressed event takes about 40 bytes
            rows += 1 + len(item.message.payload) // 40 if item.message.topic.endswith("/bulk") else 1
            if rows >= BATCH_ROWS or self._stop.is_set():
                return taken
            try:
                item = self._queue.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                break
        return taken

    def _take(self, received: list[Received]) -> None:
        """Store messages, then confirm them; retries while the store cannot be written."""
        if not received:
            return
        messages = [item.message for item in received]
        while True:
            try:
                left = self._intake.take(messages)
                break
            except SQLAlchemyError as error:
                self._turned = time.monotonic()
                self._fail(f"the store cannot be written: {getattr(error, 'orig', None) or error}; retrying")
                if self._stop.wait(STORE_RETRY_S):
                    return  # not confirmed: the devices will send it again
        self.stats.messages += len(messages)
        for item in received:
            if item.link is self._link:
                item.confirm()
        if left is not None:
            self._fail(left)
        elif self.connected:
            self._error = None

    def _tell(self) -> None:
        """Publish the acknowledgements that are due; those lost with a connection are recreated later."""
        link = self._link
        if link is None or not self.connected:
            return
        if not link.greeted:  # after connecting, acknowledge to every device where it stands
            link.greeted = True
            self._error = None  # the connection works, though no message has come yet
            self._said, self._say_again = 0, 0.0
            for device, receipt in self._store.receipts():
                link.acknowledge(device, receipt.ack())
        for device, ack in self._pacer.due(time.monotonic()):
            link.acknowledge(device, ack)
        self._say(link, time.monotonic())

    def _say(self, link: Link, now: float) -> None:
        """Tell devices what people have said of their alerts since last time (after connecting, all of it), and what
        they ask for."""
        if now < self._say_again:
            return
        self._say_again = now + SAY_S
        try:
            self._said, documents = self._store.said(self._said)
            for device, verdicts in documents.items():
                link.tell(device, verdicts)
            given = [command.id for command, left in self._store.commands_due() if link.command(command, left)]
            if given:
                self._store.commands_published(given)
        except SQLAlchemyError as error:
            log.warning("verdicts or commands: the store: %s; retrying", getattr(error, "orig", None) or error)

    # ---- connection ----

    def _tend(self) -> None:
        """Maintain the connection: make one, drop one that is lost or does not answer."""
        link, now = self._link, time.monotonic()
        if link is None:
            if now >= self._next_attempt:
                self._connect()
        elif (ended := link.lost or link.overdue(now)) is not None:
            self._drop(ended)
        elif link.connected is not None:
            self._clean = False
            if now - link.connected > LAST_RETRY_S:
                self._retry = FIRST_RETRY_S

    def _connect(self) -> None:
        # After a protocol error the session is discarded: otherwise the broker would resend what we cannot parse
        # forever. The devices retransmit what was not acknowledged.
        link = Link(self._target, self._queue, self.stats, self._clean)
        try:
            link.open()
        except (OSError, ValueError) as error:
            self._drop(f"{self._target}: {causes.network(error, self._target.host, KEYS)}")
            return
        self._link = link

    def _drop(self, reason: str) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.discard()
            self._clean = self._clean or link.broken
        self._fail(reason)
        self._next_attempt = time.monotonic() + random.uniform(self._retry / 2, self._retry)  # noqa: S311
        self._retry = min(2 * self._retry, LAST_RETRY_S)

    def _leave(self) -> None:
        """Store and confirm what is queued, acknowledge it to the devices, and disconnect."""
        waiting: list[Received] = []
        with contextlib.suppress(queue.Empty):
            while True:
                if (item := self._queue.get_nowait()) is not None:
                    waiting.append(item)
        try:
            self._take(waiting)
        except Exception:
            log.exception("ingest: error during shutdown; the devices will send it again")
        link, self._link = self._link, None
        if link is None:
            return
        for device, ack in self._pacer.due(float("inf")):
            link.acknowledge(device, ack)
        link.leave()

    def _fail(self, reason: str) -> None:
        if reason != self._error:
            log.warning("%s", reason)
        self._error = reason
