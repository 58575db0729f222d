"""Refills the window after a restart; retries (with backoff) until nothing that a score depends on is missing.

| what is found of the rows before the position | new lines |
|---|---|
| all that the next scores depend on | are processed |
| not all, and the obstacle may be temporary | wait a little, then are processed with unknown verdicts |
| not all, and the lines are gone | are processed; verdicts are unknown until the gap has left the window |
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from fieldwatch_contract.reading.settings import LogConfig

from fieldwatch_agent.score.past import read_past
from fieldwatch_agent.score.window import Window
from fieldwatch_agent.send.journal import Journal

log = logging.getLogger("fieldwatch.agent")

HOLD_S = 10.0
"""New lines wait at most this long after a restart for a temporary obstacle."""
PAUSE_S = 1.0
RETRY_MOST_S = 60.0


class Refill:
    """The attempts to refill a pipeline's window: when the last one was made, and with what result."""

    def __init__(self, window: Window, config: LogConfig, sensors: Sequence[str], period: int) -> None:
        self._window = window
        self._log = config, sensors
        self._period = period
        self._done = False
        self._since: float | None = None
        self._due = 0.0
        self._pause = PAUSE_S
        self._passing = False

    def may_carry(self, journal: Journal) -> bool:
        """Try to refill the window when that is due; tell whether new lines may be processed.

        Raises :class:`.send.journal.JournalError`.
        """
        now = time.monotonic()
        if not self._done and now >= self._due:
            self._done = self._fill(journal, now)
        return self._done or not self._passing or now - (self._since or now) >= HOLD_S

    def _fill(self, journal: Journal, now: float) -> bool:
        """Read the past again; tell whether everything was found that the next row depends on."""
        progress = journal.progress()
        past = read_past(*self._log, progress, self._period)
        first = self._since is None
        if first or len(past.missing) < len(self._window.missing):
            self._window.fill(past, progress)
        if not self._window.lacking:
            if not first:
                log.info("the rows before the last restart are complete again")
            return True
        if first:
            log.warning("%s; retrying, and until they are found the verdict is unknown", past.why)
            self._since = now
        self._passing = past.passing
        self._due = now + self._pause
        self._pause = min(2 * self._pause, RETRY_MOST_S)
        return False
