"""The codes with which the agent's commands end; the service tells by them how its own children ended."""

from __future__ import annotations

DONE, FAILED = 0, 1
USAGE = 2
"""Wrong usage or configuration."""
REFUSED = 3
"""A check or a gate said no."""
CRASHED = 70
"""An error that the command does not know, with a traceback."""
HUNG = 71
"""The loop gave no sign of life, and the watchdog ended the process."""
