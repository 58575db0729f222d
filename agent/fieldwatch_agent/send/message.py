"""A message as it waits in the outbox."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    """An event in the outbox; ``data`` is the JSON text of its data, ``time`` RFC 3339."""

    seq: int
    event: str
    time: str
    data: str
