"""A message in the outbox."""

from __future__ import annotations

from typing import NamedTuple


class Message(NamedTuple):
    """An event in the outbox; ``data`` is the stored JSON of its data, ``time`` RFC 3339."""

    seq: int
    event: str
    time: str
    data: bytes
