"""What is said of lines that may be missing: one sentence for what happened, one for what happens now. No I/O."""

from __future__ import annotations

from fieldwatch_contract.clock import iso

from fieldwatch_agent.log.files import File
from fieldwatch_agent.log.position import LogChange, Place


def passed(file: File, floor: int | None, front: str) -> LogChange:
    """``file`` begins no later than what was read (``floor``, µs), and ``front`` is read."""
    begins = f"its first reading, {iso(file.first)}, is" if file.first is not None else "its readings are"
    newest = f", {iso(floor)}" if floor is not None else ""
    return LogChange(
        "log_vanished",
        f"{file.path} is passed over: {begins} not later than the newest first reading of a file that was read"
        f"{newest}; was the clock set back? It will be read when its readings are newer than those of {front} and that "
        f"is written no more. If it is a copy, move it out of the folder",
    )


def locked(file: File, following: File) -> LogChange:
    """``file`` cannot be read, and ``following`` was waiting for it long enough."""
    return LogChange(
        "log_vanished",
        f"{file.path} is passed over: it cannot be read ({file.problem}). Reading goes on with {following.path}; its "
        f"lines are read when it can be read again",
    )


def front_locked(place: Place, problem: str, following: File) -> LogChange:
    """The file that was read to ``place`` cannot be read any more."""
    return LogChange(
        "log_vanished",
        f"{place.path} cannot be read ({problem}) after {place.offset} bytes of it were read. Reading goes on with "
        f"{following.path}; the rest is read when it can be",
    )


def lost(place: Place, replaced: bool, following: File) -> LogChange:
    """What was read up to ``place`` is in no file; ``replaced``: another file has its path."""
    what = "was truncated or replaced" if replaced else "is gone"
    return LogChange(
        "log_truncated" if replaced else "log_vanished",
        f"{place.path} {what} after {place.offset} bytes of it had been read; if more had been written it is lost. "
        f"Reading goes on with {following.path}",
    )


def damaged(file: File, offset: int) -> LogChange:
    """The packed ``file`` has no end after ``offset`` unpacked bytes, and nobody writes it any more."""
    return LogChange(
        "log_truncated",
        f"{file.path} is damaged after {offset} bytes of what it unpacks to; what follows is lost",
    )
