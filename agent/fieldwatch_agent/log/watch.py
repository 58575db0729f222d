"""Wakes the service when the log's folder changes: only a hint, so that it need not wait for the next poll.

Network shares and some containers deliver no file events; then polling alone finds new lines, at most a second later.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

log = logging.getLogger("fieldwatch.agent")

_CHANGES = ("modified", "created", "moved")


class _Handler(FileSystemEventHandler):
    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Wake on changes only: reading the log raises events too."""
        if event.event_type in _CHANGES:
            self._wake()


class Watcher:
    """Watches the folder of a log pattern while it exists."""

    def __init__(self, pattern: Path | str, wake: Callable[[], None]) -> None:
        """Start watching; if the folder cannot be watched, polling has to do."""
        folder = Path(pattern).parent
        self._observer = Observer()
        try:
            self._observer.schedule(_Handler(wake), str(folder), recursive=False)
            self._observer.start()
        except OSError as error:
            log.info("no file events for %s (%s): polling once a second", folder, error)

    def close(self) -> None:
        """Stop watching."""
        if self._observer.is_alive():
            self._observer.stop()
            self._observer.join()
