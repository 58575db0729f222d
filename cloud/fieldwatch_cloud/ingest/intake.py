"""Storing what was received: one bad message never stops the others (poison message).

What violates the contract is quarantined while decoding; a value that the database rejects is isolated by storing the
batch message by message, a bulk event by event. Only an error about a value is blamed on a message: a damaged store
must not empty the devices' outboxes.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError, StatementError

from fieldwatch_cloud.ingest.decode import Message, decode, set_aside, split

if TYPE_CHECKING:
    from fieldwatch_cloud.ingest.pacer import AckPacer
    from fieldwatch_cloud.ingest.stats import Stats
    from fieldwatch_cloud.store import Outcome, Store
    from fieldwatch_cloud.store.batch import Batch, Refused

BAD_VALUE = (ValueError, TypeError, OverflowError)
"""What Python raises for a value that cannot be stored."""

log = logging.getLogger("fieldwatch.ingest")


class Intake:
    """Takes messages into the store, and tells the pacer what was stored."""

    def __init__(self, store: Store, pacer: AckPacer, stats: Stats) -> None:
        self._store = store
        self._pacer = pacer
        self._stats = stats

    def take(self, messages: list[Message]) -> str | None:
        """Store messages; return which one can be neither stored nor set aside, in words, None where all were.

        Raises :class:`sqlalchemy.exc.SQLAlchemyError` where the store cannot be written now: nothing may be confirmed.
        """
        batch = decode(messages)
        try:
            self._count(batch, self._store.ingest(batch))
        except (SQLAlchemyError, *BAD_VALUE) as error:
            if not _speaks_of_a_value(error):
                raise
            if parts := messages if len(messages) > 1 else split(messages[0]):
                left = [self.take([part]) for part in parts]
                return next((one for one in left if one is not None), None)
            return self._set_aside(messages[0], error)
        return None

    def _set_aside(self, message: Message, error: Exception) -> str | None:
        """Take a message into quarantine. Where not even that is stored, the fault lies in what the store holds of its
        device: it is confirmed to the broker, so that the others get through, but the device keeps it and tries again.
        """
        cause = error.orig if isinstance(error, StatementError) else error
        aside = set_aside(message, f"the store does not take it: {cause}")
        try:
            self._count(aside, self._store.ingest(aside))
        except (SQLAlchemyError, *BAD_VALUE) as second:
            if not _speaks_of_a_value(second):
                raise
            return f"what comes on {message.topic} can be neither stored nor set aside: {second}"
        log.warning("set aside: a message on %s: %s", message.topic, error)
        return None

    def _count(self, batch: Batch, outcome: Outcome) -> None:
        urgent = {alert.device for alert in batch.alerts}
        for device, receipt in outcome.receipts:
            self._pacer.add(device, receipt, device in urgent)
        self._stats.stored += outcome.inserted
        self._stats.duplicates += outcome.duplicates
        self._stats.conflicts += outcome.conflicts
        self._stats.refused += outcome.refused
        by_topic: dict[str, list[Refused]] = {}
        for refused in batch.refused:
            by_topic.setdefault(refused.topic, []).append(refused)
        for topic, found in by_topic.items():  # one line per topic: a line per event could fill the disk
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            log.warning("set aside: %s: %s%s", topic, found[0].reason, more)
        if outcome.conflicts:
            log.warning("%d results came again with different content; the first ones are kept", outcome.conflicts)


def _speaks_of_a_value(error: Exception) -> bool:
    """Tell whether the store's error is about what was to be stored, and not about the store."""
    cause = error.orig if isinstance(error, StatementError) else error
    return isinstance(error, DataError | IntegrityError) or isinstance(cause, BAD_VALUE)
