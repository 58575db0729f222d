"""A message as it waits in the outbox."""

from __future__ import annotations

from typing import NamedTuple


class Message(NamedTuple):
    """An event in the outbox; ``data`` is the JSON of its data as it lies on the disk, ``time`` RFC 3339."""

    seq: int
    event: str
    time: str
    data: bytes
