"""Ends the process when the service's loop hangs, where the service manager does not: Windows has no watchdog.

What it promises
    * A loop that gives no sign of life for as long as systemd would allow (:data:`.supervisor.LONGEST_S`), from the
      first import on, ends the process with an exit code, so that Windows starts it again. Nothing is lost: what was
      not committed is read again.
    * Before that the event log and the service's log are told what every thread was doing, if they can be: nobody
      waits for a log that may itself be what hangs.
    * Only looks count, not the time between them. A computer that slept for a night, a virtual machine that was
      paused and a process that got no turn have missed one look, and have not hung.

Not seen: a library that hangs without ever giving Python's interpreter back. Then this thread does not run either.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable

from fieldwatch_agent.exits import HUNG
from fieldwatch_agent.supervisor import LONGEST_S

LOOK_S = 5.0
"""Seconds from one look to the next, while the computer is awake."""
TELL_S = 10.0
"""Seconds that the logs have to take what is told."""

log = logging.getLogger("fieldwatch.agent")


class Watchdog:
    """One process's watchdog, and the service's line to it (:class:`.supervisor.Manager`).

    ``tell`` writes into the event log; ``leave`` ends the process.
    """

    def __init__(self, tell: Callable[[str], object], leave: Callable[[int], object]) -> None:
        """Nobody watches before :meth:`start`."""
        self._tell = tell
        self._leave = leave
        self._silent = 0  # looks since the last sign of life
        self._over = threading.Event()

    def start(self) -> None:
        """Begin to watch: from now on signs of life are expected."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def close(self) -> None:
        """End; the loop has ended."""
        self._over.set()

    def ready(self) -> None:
        """The service has started."""
        self.beat()

    def beat(self) -> None:
        """The loop makes progress."""
        self._silent = 0

    def status(self, text: str) -> None:
        """What the service does; Windows shows no such line."""

    def stopping(self) -> None:
        """The service ends on purpose: the last of its work may hang as well."""

    def _watch(self) -> None:
        while not self._over.wait(LOOK_S):
            self._silent += 1
            if self._silent * LOOK_S >= LONGEST_S:
                say_last(self._tell, f"The agent gave no sign of life for {LONGEST_S:.0f} s and was ended.")
                self._leave(HUNG)
                return


def say_last(tell: Callable[[str], object], words: str) -> None:
    """Tell the event log and the service's log why the process ends, and what each of its threads is doing."""
    told = f"{words}\n{_stacks()}"

    def say() -> None:
        try:
            tell(told)
        finally:
            log.critical("%s", told)

    telling = threading.Thread(target=say, name="last words", daemon=True)
    telling.start()
    telling.join(TELL_S)


def _stacks() -> str:
    """Return the stack of every thread but this one, as Python knows them."""
    stacks = sys._current_frames()
    told = [
        f"Thread {thread.name}:\n{''.join(traceback.format_stack(stacks[thread.ident]))}"
        for thread in threading.enumerate()
        if thread.ident in stacks and thread is not threading.current_thread()
    ]
    return "\n".join(told)
