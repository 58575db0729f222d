"""The programs that the demo starts, and their end: none may outlive it.

Each child has its own process group, so that Ctrl-C in the terminal reaches the demo alone, which then ends the
children in the order it wants; and its own log file, whose tail is what one wants to see when it fails.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Container, Sequence
from pathlib import Path

from fieldwatch_demo.failure import DemoError, reason

GRACE = 6.0
"""Seconds a child has to end by itself before it is killed."""

TAIL = 20
"""Lines of a failed child's log that are shown."""


class ChildError(DemoError):
    """A child ended when it should not have, or with a failure; the details are the end of its log."""


class Child:
    """One program of the project, run by this interpreter as ``python -m module …``."""

    def __init__(
        self, name: str, arguments: Sequence[str], log: Path, environment: dict[str, str] | None = None
    ) -> None:
        """Start it. ``arguments`` begin with the module's name; output of both kinds goes to the end of ``log``."""
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        flags = 0
        if sys.platform == "win32":
            flags = subprocess.CREATE_NEW_PROCESS_GROUP
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
                creationflags=flags,
                start_new_session=sys.platform != "win32",
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    def finish(self, pause: Callable[[float], None]) -> None:
        """Wait for its end. Raises :class:`ChildError` unless it ends with 0, and what ``pause`` raises."""
        while self.code is None:
            pause(0.05)
        if self.code != 0:
            raise self.failure()

    def expect_alive(self) -> None:
        """Raise :class:`ChildError` if it has ended."""
        if self.code is not None:
            raise self.failure()

    def failure(self) -> ChildError:
        """Return an error that tells how it ended and, by its log, why."""
        code = self.code or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        why = reason(self._lines())
        return ChildError(f"{self.name} {how}" + (f": {why}" if why else ""), f"read {self.log}", self.tail())

    def tail(self) -> str:
        """Return the end of its log with a heading."""
        lines = self._lines()[-TAIL:] or ["(it wrote nothing)"]
        return "\n".join([f"the end of {self.log}:", *(f"    {line}" for line in lines)])

    def _lines(self) -> list[str]:
        return self.log.read_text(encoding="utf-8", errors="replace").splitlines()

    def ask_to_end(self) -> None:
        """Send the signal that means "end cleanly" to it and to what it has started."""
        if self.code is None:
            self._signal(hard=False)

    def end(self, deadline: float) -> None:
        """Wait until ``deadline`` (monotonic seconds), then kill it and its group, and reap it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))
        self._signal(hard=True)
        self._process.wait()

    def _signal(self, hard: bool) -> None:
        if sys.platform == "win32":
            if self.code is None:
                if hard:
                    subprocess.run(["taskkill", "/F", "/T", "/PID", str(self.pid)], capture_output=True, check=False)
                else:
                    self._process.send_signal(signal.CTRL_BREAK_EVENT)
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left in the group
            os.killpg(self.pid, signal.SIGKILL if hard else signal.SIGTERM)


class Children:
    """All children; waits are calls of ``pause`` (seconds)."""

    def __init__(self, logs: Path, pause: Callable[[float], None] = time.sleep) -> None:
        self._logs = logs
        self._pause = pause
        self.running: list[Child] = []

    def start(self, name: str, *arguments: str) -> Child:
        """Start ``python -m arguments…`` with its log in ``<logs>/<name>.log``."""
        child = Child(name, arguments, self._logs / f"{name}.log")
        self.running.append(child)
        return child

    def run(self, name: str, *arguments: str) -> None:
        """Start a child and wait for its success. Raises :class:`ChildError`."""
        self.wait(self.start(name, *arguments))

    def wait(self, *children: Child) -> None:
        """Wait for the success of children that end by themselves. Raises :class:`ChildError` for the first failure."""
        for child in children:
            child.finish(self._pause)
            self.running.remove(child)

    def named(self, name: str) -> Child | None:
        """Return the running child of that name."""
        return next((child for child in self.running if child.name == name), None)

    def expect_alive(self) -> None:
        """Raise :class:`ChildError` if one that should run has ended."""
        for child in self.running:
            child.expect_alive()

    def stop(self, keep: Container[str] = ()) -> None:
        """End those whose names are not in ``keep``: asked politely together, killed after :data:`GRACE` seconds."""
        ending = [child for child in reversed(self.running) if child.name not in keep]
        for child in ending:
            child.ask_to_end()
        deadline = time.monotonic() + GRACE
        for child in ending:
            child.end(deadline)
        self.running = [child for child in self.running if child not in ending]
