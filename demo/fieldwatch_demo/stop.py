"""How the demo is asked to end: Ctrl-C, SIGTERM, a closed terminal. It notices where it waits, nowhere else.

An exception out of a signal handler could strike between the start of a child and the line that remembers it, and
leave an orphan. So a handler only sets a flag, and every wait of the demo is a :meth:`Stop.pause`, which raises.
"""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


class Stopped(Exception):
    """The demo was asked to end."""


class Overdue(Exception):
    """The demo has taken longer than it was given."""


class Stop:
    """The flag and the waits. ``deadline``: monotonic seconds at which patience ends, None = never."""

    def __init__(self) -> None:
        self.deadline: float | None = None
        self._asked = threading.Event()

    def listen(self) -> None:
        """Take over the signals that mean the end, for the rest of the process; main thread only."""
        for name in SIGNALS:
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._note)

    def ask(self) -> None:
        """Ask for the end."""
        self._asked.set()

    def pause(self, seconds: float) -> None:
        """Wait. Raises :class:`Stopped` as soon as the end is asked for, :class:`Overdue` after the deadline."""
        if self._asked.wait(seconds):
            raise Stopped
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise Overdue

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._asked.set()
