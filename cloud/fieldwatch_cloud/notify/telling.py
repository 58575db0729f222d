"""Telling as one part of a server: worker, watch and self-test, started and stopped together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldwatch_cloud.notify.channels import Channels
from fieldwatch_cloud.notify.watch import Chain, Parts, Watch
from fieldwatch_cloud.notify.worker import Worker

if TYPE_CHECKING:
    from fieldwatch_cloud.config import Config
    from fieldwatch_cloud.store import Store


class Telling:
    """``with Telling(...)``: messages go out, time passes, the chain is proved."""

    def __init__(self, store: Store, config: Config) -> None:
        heartbeat = config.notify.heartbeat
        self._store = store
        self.chain = Chain(heartbeat.get_secret_value() if heartbeat is not None else None)
        self.worker = Worker(store, Channels(config, store, self.chain))
        self._watch: Watch | None = None

    @property
    def error(self) -> str:
        """Why people may not be told, in words; "" while all is well."""
        if self._watch is not None and not self.worker.alive:
            return "the thread that sends messages has ended: restart this server"
        return self.chain.error

    def start(self, parts: Parts = dict) -> None:
        """Begin; ``parts``: how this server's parts are."""
        self.worker.start()
        self._watch = Watch(self._store, self.chain, parts)
        self._watch.start()

    def stop(self) -> None:
        """End; what is not sent yet waits in the store."""
        if self._watch is not None:
            self._watch.stop()
        self.worker.stop()
