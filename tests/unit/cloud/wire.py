"""Messages of a device, as ingest gets them."""

from __future__ import annotations

from fieldwatch_agent.send.journal import Draft
from fieldwatch_cloud.ingest.decode import Message
from fieldwatch_contract import topics
from fieldwatch_contract.events import envelope

TIME = "2026-11-01T00:00:00Z"


def message(seq: int, draft: Draft, device: str) -> Message:
    """One event, live."""
    return Message(
        topics.topic(device, topics.channel_of(draft.event)),
        envelope(device, "ab12", seq, draft.event, TIME, draft.data),
    )
