"""The words with which people label a device's time: what the dashboard exports and the lake holds.

``fault`` and ``anomaly`` are events; ``normal`` says that nothing was wrong; ``maintenance`` that somebody worked on
the device, so that its readings say nothing about it. A person who could not tell says ``unclear``, which labels
nothing.
"""

from __future__ import annotations

WORDS = ("normal", "anomaly", "fault", "maintenance")
"""From weak to strong: where labels overlap, the later one holds."""

UNCLEAR = frozenset(["", "unclear", "unknown", "none", "null", "nan", "?"])
"""What stands for no verdict."""
