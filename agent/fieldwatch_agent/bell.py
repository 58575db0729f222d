"""What the service's loop waits on: rung by a signal handler, by the file watcher's thread, or by nobody.

A signal handler runs in the main thread between any two of its instructions, also while that thread holds a lock. So
:meth:`Bell.stop` must not take one that the loop takes too: ``threading.Event`` does, and now and then waits for itself
for ever. ``queue.SimpleQueue.put`` is made for this ("reentrant").
"""

from __future__ import annotations

import time
from queue import Empty, SimpleQueue


class Bell:
    """Wakes the one thread that waits."""

    def __init__(self) -> None:
        """Nobody has rung yet."""
        self.stopped = False
        self._rings: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        """End a wait, or the next one; safe in a signal handler and from any thread."""
        self._rings.put(None)

    def stop(self) -> None:
        """The loop should end; safe in a signal handler and from any thread."""
        self.stopped = True
        self.ring()

    def wait(self, seconds: float) -> None:
        """Wait until somebody rings, at most ``seconds``; rings since the last wait end it at once."""
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
