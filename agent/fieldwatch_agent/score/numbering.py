"""Line numbers within a file, as an editor shows them.

The tail knows only byte offsets. Consecutive blocks are counted; only for the first refused line after a restart is the
file read from its beginning, unless it is very large or packed.
"""

from __future__ import annotations

from pathlib import Path

from fieldwatch_agent.log.shared_file import open_shared
from fieldwatch_agent.log.tail import LogLines

LARGEST = 256 * 1024 * 1024
"""Bytes; beyond this offset counting lines costs too much."""
CHUNK = 1024 * 1024


class Numbering:
    """Counts lines from block to block."""

    def __init__(self) -> None:
        self._file = ""
        self._offset = -1
        self._number: int | None = None

    def first_of(self, lines: LogLines) -> int | None:
        """Return the number (from 1) of a block's first line in its file; None where that is not known."""
        start = lines.starts[0]
        if lines.at_start:
            number: int | None = 1
        elif (lines.file, start) == (self._file, self._offset):
            number = self._number
        else:
            number = _count(lines.file, start)
        self._file, self._offset = lines.file, lines.position.offset
        self._number = None if number is None else number + len(lines.starts)
        return number


def _count(file: str, end: int) -> int | None:
    if end > LARGEST or file.endswith(".gz"):
        return None
    number, left = 1, end
    try:
        with open_shared(Path(file)) as stream:
            while left > 0 and (chunk := stream.read(min(CHUNK, left))):
                number += chunk.count(b"\n")
                left -= len(chunk)
    except OSError:
        return None
    return number
