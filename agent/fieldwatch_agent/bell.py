"""A signal-safe wake-up event for the service's loop: set by a signal handler or by the file watcher's thread.

A signal handler runs in the main thread between any two of its instructions, even while that thread holds a lock. So
:meth:`Bell.stop` must not take a lock that the loop takes too: ``threading.Event`` does, and would deadlock now and
then. ``queue.SimpleQueue.put`` is reentrant and made for this.
"""

from __future__ import annotations

import time
from queue import Empty, SimpleQueue


class Bell:
    """Wakes the thread that waits for it."""

    def __init__(self) -> None:
        """Not set yet."""
        self.stopped = False
        self._rings: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        """End the current wait, or the next one; safe in a signal handler and from any thread."""
        self._rings.put(None)

    def stop(self) -> None:
        """Ask the loop to end; safe in a signal handler and from any thread."""
        self.stopped = True
        self.ring()

    def wait(self, seconds: float) -> None:
        """Wait until :meth:`ring`, at most ``seconds``; a ring since the last wait ends it at once."""
        try:
            self._rings.get(timeout=seconds)
            while True:
                self._rings.get_nowait()
        except Empty:
            return

    def pause(self, seconds: float) -> None:
        """Wait ``seconds``, or until :meth:`stop`."""
        end = time.monotonic() + seconds
        while not self.stopped and (left := end - time.monotonic()) > 0:
            self.wait(left)
