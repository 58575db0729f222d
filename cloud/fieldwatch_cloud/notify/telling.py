"""Telling as one part of a server: worker, watch and self-test, started and stopped together.

Of several processes on one store one tells (:mod:`.store.runners`); the others wait, and one of them goes on where that
one ends.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from fieldwatch_contract import clock
from sqlalchemy.exc import SQLAlchemyError

from fieldwatch_cloud.notify.channels import Channels
from fieldwatch_cloud.notify.watch import Chain, Parts, Watch
from fieldwatch_cloud.notify.worker import Worker
from fieldwatch_cloud.store import runners

if TYPE_CHECKING:
    from fieldwatch_cloud.config import Config
    from fieldwatch_cloud.store import Store

PART = "telling"

log = logging.getLogger("fieldwatch.notify")


class Telling:
    """Messages go out, time passes, the chain is proved, as long as this process has the work."""

    def __init__(self, store: Store, config: Config) -> None:
        heartbeat = config.notify.heartbeat
        self._store = store
        self.chain = Chain(heartbeat.get_secret_value() if heartbeat is not None else None)
        self._channels = Channels(config, store, self.chain)
        self.worker = Worker(store, self._channels)
        self._watch: Watch | None = None
        self._parts: Parts = dict
        self._taken = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telling", daemon=True)

    @property
    def active(self) -> bool:
        """Whether this process tells; else another one does."""
        return self._watch is not None

    @property
    def error(self) -> str:
        """Why people may not be told, in words; "" while all is well."""
        if not self.active:
            return ""
        if not self.worker.alive:
            return "the thread that sends messages has ended: restart this server"
        return self.chain.error

    def start(self, parts: Parts = dict) -> None:
        """Begin, or wait for the work; ``parts``: how this server's parts are."""
        self._parts = parts
        self._turn()
        self._thread.start()

    def stop(self) -> None:
        """End; what is not sent yet waits in the store, and another process may go on."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(runners.RENEW_S)
        self._end()
        try:
            with self._store.write() as db:
                runners.leave(db, PART, self._store.origin)
        except SQLAlchemyError as error:
            log.warning("the store cannot be written: %s", getattr(error, "orig", None) or error)

    def _run(self) -> None:
        while not self._stop.wait(runners.RENEW_S):
            self._turn()

    def _turn(self) -> None:
        """Take the work or keep it; leave it where another process has it."""
        try:
            with self._store.write() as db:
                mine = runners.take(db, PART, self._store.origin, self.error, clock.now())
        except SQLAlchemyError as error:
            log.warning("the store cannot be written: %s", getattr(error, "orig", None) or error)
            mine = self.active and time.monotonic() - self._taken < runners.LEASE / clock.SECOND
        else:
            self._taken = time.monotonic() if mine else 0.0
        if mine and not self.active:
            self._begin()
        elif not mine and self.active:
            log.warning("another process tells people now")
            self._end()

    def _begin(self) -> None:
        self.chain.begin()
        self.worker = Worker(self._store, self._channels)
        self.worker.start()
        self._watch = Watch(self._store, self.chain, self._parts)
        self._watch.start()

    def _end(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
            self.worker.stop()
