"""Where the service writes what it does: standard error, which systemd's journal keeps, and on request a file.

The file is rotated (:data:`SIZE`, :data:`FILES`), so it never takes more than 25 MB of the device's disk. Writing it
must never stop the service: on a full disk, or where the file cannot be opened, records are counted and dropped, and
the count is written as soon as that is possible again. On Windows a file that somebody looks at cannot be renamed; then
the old file is written on, and rotation is tried again later; at twice the size it is cut instead.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING

from fieldwatch_contract.log_lines import OneLine, Structured

if TYPE_CHECKING:
    from fieldwatch_agent.config import Config

SIZE = 5_000_000
"""Bytes of one file."""
FILES = 5
"""The current file and the rotated ones, ``agent.log.1`` (the newest) and so on."""
AGAIN_S = 60.0
"""Seconds after which a rotation that failed is tried again."""
_FORMAT = "%(asctime)s %(levelname)s %(message)s"


class RotatingFile(RotatingFileHandler):
    """A rotating file that drops and counts what it cannot write, instead of failing."""

    def __init__(self, path: Path, size: int = SIZE, files: int = FILES) -> None:
        """Open nothing yet: the first record does."""
        super().__init__(path, maxBytes=size, backupCount=files - 1, encoding="utf-8", errors="replace", delay=True)
        self._lost = 0
        self._try_again = 0.0

    def shouldRollover(self, record: logging.LogRecord) -> int:
        """Tell whether to rotate before this record: never while a rotation has just failed."""
        return time.monotonic() >= self._try_again and super().shouldRollover(record)

    def doRollover(self) -> None:
        """Rotate; where another program holds a file, go on writing, and cut the file when it is twice as large."""
        try:
            super().doRollover()
        except OSError:
            self._try_again = time.monotonic() + AGAIN_S
            self.stream = self.stream or self._open()
            if self.stream.seek(0, 2) > 2 * self.maxBytes:
                self.stream.truncate(0)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, and before it how many could not be written."""
        if self._lost:
            lost, self._lost = self._lost, 0
            told = f"{lost} records before this could not be written here; was the disk full?"
            super().emit(logging.LogRecord(record.name, logging.WARNING, "", 0, told, None, None))
            if self._lost:
                self._lost += lost
                return
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Count what could not be written; a buffer that cannot be flushed is given up with its file."""
        self._lost += 1
        stream, self.stream = self.stream, None
        with contextlib.suppress(OSError):
            if stream is not None:
                stream.close()


def handlers(config: Config) -> list[logging.Handler]:
    """Return where the service's log goes: standard error, where there is one, and the configured file.

    A Windows service has no standard error: without a configured file it writes ``logs/agent.log`` in its state folder.
    """
    found: list[logging.Handler] = [] if sys.stderr is None else [logging.StreamHandler(sys.stderr)]
    path = config.service.log_file
    if path is None and sys.platform == "win32":
        path = config.state.dir / "logs" / "agent.log"
    if path is not None:
        found.append(_file(path))
    form: logging.Formatter = Structured() if config.service.log_format == "json" else OneLine(_FORMAT)
    for each in found:
        each.setFormatter(form)
    return found


def _file(path: Path) -> RotatingFile:
    with contextlib.suppress(OSError):  # the file drops and counts then; 'check' says why
        path.parent.mkdir(parents=True, exist_ok=True)
    return RotatingFile(path)


def begin(config: Config, verbose: bool) -> None:
    """Send the service's log where the configuration wants it; ``verbose``: debugging too."""
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=handlers(config))
