"""Runs the updater as a child process when it is due, and checks how it ends.

A separate, short-lived process, so that neither its memory nor a crash in a model's self-test affects the service. The
updater itself records how the update went, in ``activation.json``; this module reports only what it cannot record:
that it could not be started, crashed, or had to be stopped.
"""

from __future__ import annotations

import logging
import random
import subprocess
import time
from collections.abc import Sequence

from fieldwatch_contract import clock
from fieldwatch_contract.events import Trouble

from fieldwatch_agent import system
from fieldwatch_agent.exits import DONE, FAILED, REFUSED, USAGE

LIMIT_S = 3600.0
"""An updater that runs longer, sleep not counted, is stopped: its self-test never ends. Such attempts are counted."""
RECORDED = frozenset({DONE, FAILED, REFUSED})
"""Exit codes with which the updater has recorded its result."""

SHOW = "'fieldwatch-agent update --config F' shows why; report it if it happens again"

log = logging.getLogger("fieldwatch.agent")


class Updating:
    """The updater's process, or none; ``interval`` in seconds."""

    def __init__(self, command: Sequence[str], interval: float) -> None:
        """The first update is due at once. ``ended``: how many have ended, see :meth:`hurry`; ``code``: the last one's
        exit code, None where it had none."""
        self._command = list(command)
        self._interval = interval
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._killed = False  # by us: on Windows its exit code is then 1, that of a failure which it has recorded
        self._due = time.monotonic()
        self._trouble: Trouble | None = None
        self._begun = self._wanted = self.ended = 0
        self.code: int | None = None

    def hurry(self) -> int:
        """Let an update begin now, after one that is running; return what :attr:`ended` will be after it."""
        self._wanted = self._begun + 1
        return self._wanted

    @property
    def running(self) -> bool:
        """Whether an update is running, or has ended and was not evaluated yet."""
        return self._process is not None

    def follow(self) -> None:
        """Start the updater when it is due, evaluate how it ended, stop it when it takes too long."""
        if self._process is None:
            if time.monotonic() >= self._due or self._wanted > self._begun:
                self._start()
            return
        code = self._process.poll()
        if code is None:
            if system.awake() - self._started > LIMIT_S:
                log.error("the updater has not ended within %.0f s: it is stopped", LIMIT_S)
                self._killed = True
                self._process.kill()
            return
        self._process = None
        self.ended, self.code = self._begun, code
        self._plan()
        if code == USAGE:  # it was changed since the service read it
            self._tell(
                "the updater cannot use the configuration as it is now; the service still runs with the one before",
                "'fieldwatch-agent check --config F' names the lines: correct them before the next start",
            )
        else:
            known = code in RECORDED and not self._killed
            self._tell("" if known else f"the updater ended without a result (exit code {code})")

    def stop(self) -> bool:
        """Stop a running updater; tell whether there was one."""
        if self._process is None or self._process.poll() is not None:
            return False
        self._process.terminate()
        self._process.wait()
        return True

    def trouble(self) -> Trouble | None:
        """Return what the updater could not report itself; None when all is well."""
        return self._trouble

    def _start(self) -> None:
        self._started = system.awake()
        self._begun += 1
        self._killed = False
        try:
            self._process = subprocess.Popen(self._command)
        except OSError as error:
            self.ended, self.code = self._begun, None
            self._plan()
            self._tell(f"the updater cannot be started: {error}")

    def _plan(self) -> None:
        self._due = time.monotonic() + self._interval * random.uniform(0.9, 1.1)  # noqa: S311

    def _tell(self, what: str, remedy: str = SHOW) -> None:
        if not what:
            self._trouble = None
        elif self._trouble is None or self._trouble.detail != what:
            log.error("%s; %s", what, remedy)
            self._trouble = Trouble(kind="update_failing", detail=what, remedy=remedy, since=clock.iso(clock.now()))
