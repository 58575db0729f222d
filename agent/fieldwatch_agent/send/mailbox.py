"""What the cloud says of alerts, on its way from the uplink's thread to the service's: only the latest document counts.

It is retained at the broker, so it comes again with every connection: what is lost on the way is not lost. Whatever it
is, delivery goes on: a document that is none is ignored, counted and logged.
"""

from __future__ import annotations

import logging
import threading

from fieldwatch_contract.events import Verdicts

MOST_BYTES = 256 * 1024
"""A larger document is not looked at; a full one has about 30 KB."""

log = logging.getLogger("fieldwatch.uplink")


class Mailbox:
    """Holds one document. All methods may be used from any thread. ``refused``: documents that were none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._document: Verdicts | None = None
        self.refused = 0

    def put(self, payload: bytes) -> None:
        """Take what came from the broker; an empty payload is a retained message that was removed."""
        if not payload:
            return
        try:
            if len(payload) > MOST_BYTES:
                raise ValueError(f"{len(payload)} bytes")
            document = Verdicts.model_validate_json(payload)
        except ValueError:
            self.refused += 1
            log.warning("an invalid document of verdicts was ignored (%d so far): %r", self.refused, payload[:80])
            return
        with self._lock:
            self._document = document

    def take(self) -> Verdicts | None:
        """Return the latest document, and keep none."""
        with self._lock:
            document, self._document = self._document, None
            return document

    def put_back(self, document: Verdicts) -> None:
        """Keep a document that could not be journalled, unless a later one has come."""
        with self._lock:
            if self._document is None:
                self._document = document
