"""Which file comes next: rules without I/O.

One file is the *front*: the newest that was begun, the one being read. Every other file relates to it in one of these
ways (:class:`Standing`):

| the file | standing | what becomes of it |
|---|---|---|
| was read to its end, or is too old to be remembered | done | nothing |
| has the same content as the front and nothing new | done | nothing |
| has the same content as the front and more | longer | reading continues in it, at the same offset |
| has the name that the front had before it was renamed | next | it becomes the front |
| begins later (first reading) than every file that was begun | next | becomes the front, the earliest first |
| has lines, but no reading that can be dated, and was not begun | next | in order of modification times |
| holds only column names, or nothing | blank | waits until it, or the one after it, has a line |
| was left and has grown, and no file with readings was begun after it | next | it becomes the front again |
| was left and has grown by readings older than those of all files begun after it | flush | the rest is read |
| begins no later than what was read, or grew otherwise, and outruns a silent front | next | it becomes the front |
| the same, but does not outrun it | passed | skipped and announced; its bytes count as lag |
| cannot be read, and it is not known whether it was | locked | waited for, then announced |

A file *outruns* the front if its last reading is later and it was written after the front had been silent for a while.
Without this rule two logs written at the same time would make us switch between them. A clock that was set back, an
hour that comes twice (end of daylight saving) and an edited copy all end up here.
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
    """How a file relates to the front; see the table above."""

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
    files begun. ``name``: the front's path before it was renamed. ``silent_after``: seconds."""

    file: File
    offset: int
    floor: int | None = None
    name: Path | None = None
    silent_after: float = 180.0


@dataclass(frozen=True)
class Known:
    """What is known of another file.

    ``read``: bytes that were read before it was left, None if not remembered. ``later``: the earliest first reading
    (µs) of the files begun after that. ``presumed``: its size when it was presumed read. ``copy``: it begins with what
    was read of the front.
    """

    file: File
    read: int | None = None
    later: int | None = None
    presumed: int | None = None
    copy: bool = False

    @property
    def unread(self) -> int:
        """Return how many of its bytes were not read."""
        return max(0, self.file.size - (self.read or 0))


def standing(known: Known, front: Front, last: Last) -> Standing:
    """Return how a file other than the front relates to it."""
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
    """Tell whether ``file`` is the one being written now, although it does not begin later than what was read."""
    if file.packed or file.mtime - front.file.mtime <= front.silent_after * SECOND:
        return False
    last_of_file, last_of_front = last(file), last(front.file)
    return last_of_file is not None and last_of_front is not None and last_of_file > last_of_front


def is_suspect(file: File, front: Front, last: Last) -> bool:
    """Tell whether a file that begins no later than the front may be unread, after a restart without memory of it.

    It may be if it was written last and does not belong before the front.
    """
    if file.packed or file.problem or file.first is None or front.file.first is None or file.mtime < front.file.mtime:
        return False
    last_of_file, last_of_front = last(file), last(front.file)
    beyond = last_of_file is not None and last_of_front is not None and last_of_file > last_of_front
    return beyond or file.first == front.file.first


def earliest(files: Iterable[File]) -> File | None:
    """Return the file to read first: by first reading; where there is none, by modification time, then by name."""
    chosen: File | None = None
    for file in sorted(files, key=lambda file: (file.first is None, file.key)):
        if chosen is None or (file.first is None and _written(file) < _written(chosen)):
            chosen = file
    return chosen


def between(front: File, blank: Iterable[File], chosen: File) -> list[File]:
    """Return the files without a line that were written after the front and before ``chosen``.

    Their column names may belong to a later file that has none.
    """
    return [file for file in blank if _written(front) < _written(file) < _written(chosen)]


def _written(file: File) -> tuple[int, tuple[object, ...]]:
    return file.mtime, natural(file.path.name)
