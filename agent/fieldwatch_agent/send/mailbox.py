"""What the cloud says, on its way from the uplink's thread to the service's.

Of verdicts only the latest document counts (:class:`Mailbox`). It is retained at the broker, so it comes again with
every connection: what is lost on the way is not lost. Whatever it is, delivery goes on: a document that is none is
ignored, counted, and a trouble (:attr:`Mailbox.problem`) until one comes that can be read, or the broker has none any
more.

Of commands each counts (:class:`Letterbox`). The cloud publishes one again until it is answered, so those that do not
fit in may be dropped.
"""

from __future__ import annotations

import logging
import threading
from collections import deque

from fieldwatch_contract.commands import COMMAND_BYTES
from fieldwatch_contract.events import Verdicts
from pydantic import ValidationError

MOST_BYTES = 256 * 1024
"""A larger document is not looked at; a full one has about 30 KB."""

MOST_LETTERS = 50

log = logging.getLogger("fieldwatch.uplink")


class Mailbox:
    """Holds one document. All methods may be used from any thread.

    ``refused``: documents that were none. ``closed``: why the broker gives us none at all; empty where it does.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._document: Verdicts | None = None
        self._unread = 0
        self._why = ""
        self.refused = 0
        self.closed = ""

    @property
    def problem(self) -> str:
        """Why what people say of alerts does not arrive, in words; empty where it does."""
        with self._lock:
            if self._unread:
                return f"{self._unread} in a row of the documents with people's verdicts were none: {self._why}"
        return self.closed

    def put(self, payload: bytes) -> None:
        """Take what came from the broker; an empty payload is a retained message that was removed."""
        document, why = _read(payload)
        with self._lock:
            if why:
                self.refused, self._unread, self._why = self.refused + 1, self._unread + 1, why
            else:
                self._unread, self._document = 0, document or self._document
        if why:
            log.warning("an invalid document of verdicts was ignored (%d so far): %s", self.refused, why)

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


def _read(payload: bytes) -> tuple[Verdicts | None, str]:
    """Return a document (None where there is none any more) and what is wrong with it, its content left out."""
    if not payload:
        return None, ""
    if len(payload) > MOST_BYTES:
        return None, f"{len(payload)} bytes, {MOST_BYTES} at most are read"
    try:
        return Verdicts.model_validate_json(payload), ""
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return None, f"{place}: {first['msg']}" if place else first["msg"]


class Letterbox:
    """Holds the commands that came, oldest first; both methods may be used from any thread."""

    def __init__(self) -> None:
        self._letters: deque[bytes] = deque()

    def put(self, payload: bytes) -> None:
        """Take what came from the broker, as far as a reader could make anything of it."""
        if len(self._letters) >= MOST_LETTERS:
            log.warning("more than %d commands at once: one was dropped, the cloud repeats it", MOST_LETTERS)
        elif payload:
            self._letters.append(payload[: COMMAND_BYTES + 1])  # one byte more tells that it was too large

    def take(self) -> list[bytes]:
        """Return what came, and keep nothing."""
        return [self._letters.popleft() for _ in range(len(self._letters))]
