"""The worker: takes messages from the outbox and hands them to their channels.

What it promises
    * A message is settled (sent, waiting for another try, dead) in the outbox whatever happens here; killed while it
      sends, it is sent again when its lease runs out.
    * Slow channels hold up nobody else: each channel has one message under way, several are served at once.
    * A message that makes us fail is dead, with the reason, and not tried for ever.
    * A dead message is an incident of its own (kind ``telling``), so that other channels tell of it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fieldwatch_contract import clock
from sqlalchemy.exc import SQLAlchemyError

from fieldwatch_cloud.alerts.life import Signal
from fieldwatch_cloud.alerts.routing import SELF_TEST
from fieldwatch_cloud.alerts.sightings import Sighting
from fieldwatch_cloud.notify.channel import RefusedError, TryLaterError
from fieldwatch_cloud.notify.channels import Channels
from fieldwatch_cloud.store import Store, outbox
from fieldwatch_cloud.store.outbox import Letter

POLL_S = 0.5
AT_ONCE = 8
"""Channels served at the same time."""
TELLING = "telling"
"""The kind of incident that a channel which takes nothing is."""

log = logging.getLogger("fieldwatch.notify")


@dataclass
class Tally:
    """Counters since the start."""

    sent: int = 0
    failed: int = 0
    dead: int = 0


class Worker:
    """Sends messages in threads of its own."""

    def __init__(self, store: Store, channels: Channels, now: Callable[[], int] = clock.now) -> None:
        self._store = store
        self._channels = channels
        self._now = now
        self._stop = threading.Event()
        self._busy: set[str] = set()
        self._lock = threading.Lock()
        self._free = threading.Event()
        self._thread: threading.Thread | None = None
        self._pool = ThreadPoolExecutor(AT_ONCE, "notify")
        self.tally = Tally()

    def start(self) -> None:
        """Begin to send."""
        self._thread = threading.Thread(target=self._run, name="notify", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; what is under way is settled first, or sent again later."""
        self._stop.set()
        self._free.set()
        if self._thread is not None:
            self._thread.join(POLL_S + 5)
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                while not self._stop.is_set() and self._take():
                    pass
            except SQLAlchemyError as error:
                log.warning("the outbox cannot be read: %s", getattr(error, "orig", None) or error)
            except Exception:
                log.exception("notify: unexpected error; trying again")
            self._free.wait(POLL_S)
            self._free.clear()

    def _take(self) -> bool:
        """Hand one message to a thread; return whether there was one."""
        with self._lock:
            busy = frozenset(self._busy)
        if len(busy) >= AT_ONCE:
            return False
        with self._store.read() as db:
            if not outbox.waits(db, self._now(), busy):
                return False
        with self._store.write() as db:
            letter = outbox.claim(db, self._now(), busy)
        if letter is None:
            return False
        with self._lock:
            self._busy.add(letter.channel)
        self._pool.submit(self._deliver, letter)
        return True

    def _deliver(self, letter: Letter) -> None:
        try:
            self.deliver(letter)
        except Exception:  # the lease runs out, and it is tried again
            log.exception("message %s cannot be settled", letter.id)
        finally:
            with self._lock:
                self._busy.discard(letter.channel)
            self._free.set()

    def deliver(self, letter: Letter) -> None:
        """Send a claimed message and settle it."""
        try:
            self._channels.find(letter.channel).send(letter)
        except (RefusedError, TryLaterError) as error:
            self._failed(letter, str(error), isinstance(error, RefusedError))
        except Exception as error:
            log.exception("message %s to %s cannot be sent", letter.id, letter.channel)
            self._failed(letter, f"unexpected: {type(error).__name__}: {error}", True)
        else:
            with self._store.write() as db:
                outbox.sent(db, letter, self._now())
                self._store.incidents.end(db, TELLING, letter.channel, self._now())
            self.tally.sent += 1

    def _failed(self, letter: Letter, error: str, for_good: bool) -> None:
        now = self._now()
        with self._store.write() as db:
            dead = outbox.failed(db, letter, error, for_good, now)
            if dead and letter.channel != SELF_TEST:
                self._store.incidents.see(db, [_untold(letter, error, now)], now)
        self.tally.failed += 1
        self.tally.dead += dead
        log.warning("message %s to %s: %s%s", letter.id, letter.channel, error, "; given up" if dead else "")


def _untold(letter: Letter, error: str, now: int) -> Sighting:
    what = f"A message could not be delivered to {letter.channel}: {error}"
    signal = Signal(f"{TELLING}:{letter.id}", letter.channel, "critical", now)
    remedy = "Look at the channel's configuration, then let it be tried again on the page of notifications."
    return Sighting("", TELLING, signal, what, "server", remedy=remedy)
