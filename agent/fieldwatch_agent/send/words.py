"""The uplink's status text: for the service's log at once, for ``status`` when it has lasted a moment."""

from __future__ import annotations

import logging

log = logging.getLogger("fieldwatch.uplink")


class Words:
    """``error`` is what keeps messages from being delivered, None while all is well.

    An error that :meth:`stick` marked persists over reconnections and acknowledgements until a connection has been
    stable for a while: with another client under our id everything works between two session takeovers.
    """

    def __init__(self, hold: float, stable: float) -> None:
        """``hold``: seconds that words must last before they are kept; ``stable``: seconds that a reason sticks."""
        self._hold = hold
        self._stable = stable
        self._stuck = 0.0
        self._now = self._noted = ""
        self._since = 0.0
        self.error: str | None = None

    def fail(self, reason: str) -> None:
        """Set what keeps messages from being delivered."""
        if reason != self.error:
            log.warning("%s", reason)
        self.error = reason

    def stick(self, now: float) -> None:
        """Make the next error persist for a while."""
        self._stuck = now + self._stable

    def well(self, now: float) -> None:
        """Note that the broker has accepted us, or that something was delivered."""
        if now >= self._stuck:
            self.error = None

    def due(self, now: float, connected: bool, idle: bool) -> str | None:
        """Return the text for ``status`` once it has been stable (debounced); None where there is nothing to write."""
        if self._stuck and now >= self._stuck and connected and idle:
            self._stuck, self.error = 0.0, None
        words = self.error or ("" if idle else "connected, sending the backlog" if connected else "connecting")
        if words != self._now:
            self._now, self._since = words, now
        if words == self._noted or now - self._since < self._hold:
            return None
        self._noted = words
        return words
