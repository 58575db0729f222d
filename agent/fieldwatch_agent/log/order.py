"""Which file comes next: rules without I/O.

One file is the *front*: the newest that was begun. Every other file stands to it in one of these ways:

| the file | standing | what becomes of it |
|---|---|---|
| was read to its end, or before this program's memory | done | nothing |
| has the same content as the front and nothing new | done | nothing |
| has the same content as the front and more | longer | reading goes on in it, at the same offset |
| has the name under which the front was followed before it was renamed | next | it is the front now |
| begins later (first reading) than every file that was begun | next | it is the front, the earliest of them first |
| has lines, but no reading that can be dated, and was not begun | next | in order of modification times |
| holds column names alone, or nothing | blank | waits until it has a line, or the one after it has |
| was left and has grown, and no file with readings was begun after it | next | it is the front again |
| was left and has grown by readings older than those of all files begun after it | flush | its rest is read |
| begins no later than what was read, or grew otherwise, and outruns a silent front | next | it is the front now |
| the same, but does not outrun it | passed | announced; its bytes count as lag |
| cannot be read, and whether it was read is not known | locked | waited for, then announced |

To outrun: its last reading is later than the front's and it was written when the front had been silent for a while. Two
logs that are both written would otherwise send us to and fro. A clock that was set back, an hour that comes twice, an
edited copy all end up there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from fieldwatch_contract.clock import SECOND

from fieldwatch_agent.log.files import File, natural

Last = Callable[[File], int | None]
"""Returns the time (µs) of a file's last reading."""


class Standing(Enum):
    """How a file stands to the front; see the table above."""

    DONE = "done"
    BLANK = "blank"
    NEXT = "next"
    LONGER = "longer"
    FLUSH = "flush"
    PASSED = "passed"
    LOCKED = "locked"


@dataclass(frozen=True)
class Front:
    """``file``: the front as listed. ``offset``: how far it was read. ``floor``: the latest first reading (µs) of all
    files that were begun. ``name``: the path that the front had before it was renamed. ``silent_after``: seconds."""

    file: File
    offset: int
    floor: int | None = None
    name: Path | None = None
    silent_after: float = 180.0


@dataclass(frozen=True)
class Known:
    """What is known of another file.

    ``read``: bytes of it that were read before it was left, None if that is not remembered. ``later``: the earliest
    first reading (µs) of the files begun after that. ``presumed``: its size when it was taken for read. ``copy``: it
    begins with what was read of the front.
    """

    file: File
    read: int | None = None
    later: int | None = None
    presumed: int | None = None
    copy: bool = False

    @property
    def unread(self) -> int:
        """Return its bytes that were not read."""
        return max(0, self.file.size - (self.read or 0))


def standing(known: Known, front: Front, last: Last) -> Standing:
    """Return how a file that is not the front stands to it."""
    file, floor = known.file, front.floor
    grown = known.presumed is None or (file.size > known.presumed and not file.packed)
    if file.problem:
        return Standing.DONE if not grown or known.read == file.size > 0 else Standing.LOCKED
    if known.copy:
        return Standing.LONGER if file.size > max(front.offset, front.file.size) else Standing.DONE
    if file.blank and not known.read:
        return Standing.BLANK
    if known.read is not None and not known.unread:
        return Standing.DONE
    if file.blank:
        return Standing.BLANK
    if file.first is not None and (floor is None or file.first > floor):
        return Standing.NEXT
    if known.read is not None:
        if known.later is None:
            return Standing.NEXT
        reached = last(file)
        if reached is None or reached < known.later:
            return Standing.FLUSH
    elif file.path == front.name:
        return Standing.NEXT
    elif file.first is None or not grown:
        return Standing.NEXT if grown else Standing.DONE
    return Standing.NEXT if outruns(file, front, last) else Standing.PASSED


def outruns(file: File, front: Front, last: Last) -> bool:
    """Tell whether ``file`` is the one that is written now, though it does not begin later than what was read."""
    if file.packed or file.mtime - front.file.mtime <= front.silent_after * SECOND:
        return False
    last_of_file, last_of_front = last(file), last(front.file)
    return last_of_file is not None and last_of_front is not None and last_of_file > last_of_front


def is_suspect(file: File, front: Front, last: Last) -> bool:
    """Tell whether a file that begins no later than the front may be unread, after a restart that remembers nothing.

    It is if it was written last and is no part of what comes before the front.
    """
    if file.packed or file.problem or file.first is None or front.file.first is None or file.mtime < front.file.mtime:
        return False
    last_of_file, last_of_front = last(file), last(front.file)
    beyond = last_of_file is not None and last_of_front is not None and last_of_file > last_of_front
    return beyond or file.first == front.file.first


def earliest(files: Iterable[File]) -> File | None:
    """Return the file to be read first: by first readings; one without, by modification times, then by names."""
    chosen: File | None = None
    for file in sorted(files, key=lambda file: (file.first is None, file.key)):
        if chosen is None or (file.first is None and _written(file) < _written(chosen)):
            chosen = file
    return chosen


def between(front: File, blank: Iterable[File], chosen: File) -> list[File]:
    """Return the files without a line that were written after the front and before ``chosen``.

    Their column names may be those of a file that has none.
    """
    return [file for file in blank if _written(front) < _written(file) < _written(chosen)]


def _written(file: File) -> tuple[int, tuple[object, ...]]:
    return file.mtime, natural(file.path.name)
