"""What ingest has done since it started, as plain counters."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Stats:
    """Counters since the start."""

    messages: int = 0
    stored: int = 0
    duplicates: int = 0
    conflicts: int = 0
    refused: int = 0
    dropped: int = 0
    """Messages of QoS 0 beyond what the queue takes."""
    connections: int = 0
