"""What a channel is: it takes a message, or says whether it is worth another try."""

from __future__ import annotations

from typing import Protocol

from fieldwatch_cloud.store.outbox import Letter

TIMEOUT_S = 20.0
"""Longest silence of the other side."""
TOTAL_S = 60.0
"""Longest attempt; less than the lease of the outbox, so that an attempt is never given up while it is under way."""


class TryLaterError(Exception):
    """It was not taken, or we do not know: the same message again later."""


class RefusedError(Exception):
    """It will never be taken: a person must look."""


class Channel(Protocol):
    """Sends messages. An implementation is used by one thread at a time."""

    def send(self, letter: Letter) -> None:
        """Return when the other side has taken it. Raises :class:`TryLaterError`, :class:`RefusedError`."""
