"""Packs events into MQTT payloads: single events unchanged, a backlog as zstd batches that fit the broker's limit."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from fieldwatch_contract import topics
from fieldwatch_contract.events import BULK_LIMIT, envelope

from fieldwatch_agent.send.message import Message
from fieldwatch_agent.send.outbox import lighter, without_evidence

BATCH_ROWS = 400
BATCH_BYTES = 4 * 1024 * 1024
"""Largest batch before compression."""
HEADER_BYTES = 1024
"""Bytes of the broker's maximum packet size reserved for a message's topic and properties."""
SMALLEST_LIMIT = 1024
BARREN = 5
"""Connections in a row on which nothing was confirmed, before alerts go without their evidence."""

log = logging.getLogger("fieldwatch.uplink")


@dataclass(frozen=True)
class Parcel:
    """The payload of one MQTT message, for ``channel``, and the numbers of the events in it, ascending."""

    channel: str
    payload: bytes
    numbers: tuple[int, ...]


class Packer:
    """Packs payloads; adapts to the broker's size limit and to how many events recently filled a payload.

    ``limit``: bytes of a payload; ``rows``: events to offer for the next batch. As in TCP's slow start a connection
    begins with one event and doubles from there, so that one which is cut after a few kilobytes still carries some.
    ``closed``: channels that the broker rejects on this connection. An event whose channel is closed goes as a batch of
    one, and where batches are rejected each event goes alone. ``suspects``: events at which connections end.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self.limit = BULK_LIMIT
        self.rows = 1
        self.closed: set[str] = set()
        self.suspects: set[int] = set()
        self._barren = 0

    def packet_limit(self, size: int) -> None:
        """Apply the broker's maximum packet size."""
        self.limit = max(SMALLEST_LIMIT, min(self.limit, size - HEADER_BYTES))

    def slow_start(self, barren: bool) -> None:
        """Begin a new connection; ``barren``: the last one was lost before the broker confirmed a single event."""
        self.rows = 1
        self.closed.clear()
        self._barren = self._barren + 1 if barren else 0

    @property
    def hopeless(self) -> bool:
        """Whether connections go on ending without a confirmation, though alerts go without their evidence."""
        return self._barren > BARREN

    def other_way(self, channel: str) -> bool:
        """Tell whether the events of a channel that the broker rejects can go on another one."""
        return not self.closed - {channel} if channel == topics.BULK else topics.BULK not in self.closed

    def grow(self, parcel: Parcel) -> None:
        """Offer twice as many events for the next batch where ``parcel``, which was sent, had room for them."""
        if len(parcel.numbers) >= self.rows and 3 * len(parcel.payload) < self.limit:
            self.rows = min(BATCH_ROWS, 2 * self.rows)

    def shrink(self) -> bool:
        """Halve the limit after the broker found a message too large; tell whether that was possible."""
        if self.limit <= SMALLEST_LIMIT:
            return False
        self.limit = max(SMALLEST_LIMIT, self.limit // 2)
        return True

    def pack(self, epoch: str, messages: list[Message]) -> Parcel | None:
        """Pack as many of ``messages`` as fit into one payload, from the first on; None where not even that one fits.

        An alert that is too large is sent without what it was made of, then without its evidence, a reply without its
        evidence; an alert for which :data:`BARREN` connections in a row were too short, or a suspect, without either.
        """
        if messages[0].event == "alert" and (self._barren >= BARREN or messages[0].seq in self.suspects):
            bare = without_evidence(messages[0].data)
            if bare is not None:
                log.warning("alert %d is sent without its evidence: no connection lasts for it", messages[0].seq)
                messages = [messages[0]._replace(data=bare.encode()), *messages[1:]]
        alone = topics.channel_of(messages[0].event)
        if topics.BULK in self.closed:
            messages = messages[:1]
        events = [envelope(self._device, epoch, each.seq, each.event, each.time, each.data) for each in messages]
        if len(events) == 1 and len(events[0]) <= self.limit and alone not in self.closed:
            return Parcel(alone, events[0], (messages[0].seq,))
        count = len(events) if topics.BULK not in self.closed else 0
        while count:
            text = b"[" + b",".join(events[:count]) + b"]"
            payload = _zstd(text) if len(text) <= BATCH_BYTES else None
            if payload is not None and len(payload) <= self.limit:
                return Parcel(topics.BULK, payload, tuple(message.seq for message in messages[:count]))
            count //= 2
            self.rows = max(1, count)
        first = messages[0]
        if first.event in ("alert", "reply") and (less := lighter(first.data)) is not None:
            log.warning("%s %d goes without part of its evidence: the broker takes no more", first.event, first.seq)
            return self.pack(epoch, [first._replace(data=less.encode())])
        return None


def _zstd(text: bytes) -> bytes:
    """Compress a batch. The compressor (a megabyte) is not kept: usually there is no backlog."""
    from zstandard import ZstdCompressor

    return ZstdCompressor(level=3).compress(text)
