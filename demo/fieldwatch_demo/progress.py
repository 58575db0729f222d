"""What the demo tells while it works: a line a step with its time, on standard error.

On a terminal the line of the step at hand counts the seconds; elsewhere (a file, a pipe, continuous integration) each
step is one plain line when it is done.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


class Progress:
    """Steps and remarks; ``seconds`` keeps each step's time for the summary."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._fancy = self._stream.isatty()
        self._lock = threading.Lock()
        self.seconds: dict[str, float] = {}
        self.current = ""

    @contextmanager
    def step(self, name: str, text: str) -> Iterator[None]:
        """Show ``text`` while the block runs, then its time; a failed step stays marked."""
        self.current = name
        began = time.monotonic()
        done = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(text, began, done), daemon=True)
        if self._fancy:
            ticker.start()
        good = False
        try:
            yield
            good = True
        finally:
            done.set()
            if self._fancy:
                ticker.join()
            self.seconds[name] = round(time.monotonic() - began, 1)
            self._write(f"  {'ok' if good else '!!'}  {text:<62}{self.seconds[name]:7.1f} s")

    def say(self, text: str = "") -> None:
        """Write a line of its own."""
        self._write(text)

    def _tick(self, text: str, began: float, done: threading.Event) -> None:
        while True:
            with self._lock:
                print(f"\r  ..  {text:<62}{time.monotonic() - began:7.1f} s", end="", file=self._stream, flush=True)
            if done.wait(0.2):
                return

    def _write(self, text: str) -> None:
        with self._lock:
            start = "\r" if self._fancy else ""
            print(f"{start}{text}", file=self._stream, flush=True)
