"""Messages about lines that may be missing: one sentence on what happened, one on what happens now. No I/O."""

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
        f"{file.path} is skipped: {begins} not later than the newest first reading of a file that was read"
        f"{newest}; was the clock set back? It will be read once its readings are newer than those of {front} and that "
        f"file is no longer written. If it is a copy, move it out of the folder",
    )


def locked(file: File, following: File) -> LogChange:
    """``file`` cannot be read, and ``following`` has waited for it long enough."""
    return LogChange(
        "log_vanished",
        f"{file.path} is skipped: it cannot be read ({file.problem}). Reading continues with {following.path}; the "
        f"lines of the skipped file are read once it can be read again",
    )


def front_locked(place: Place, problem: str, following: File) -> LogChange:
    """The file that was read up to ``place`` can no longer be read."""
    return LogChange(
        "log_vanished",
        f"{place.path} cannot be read ({problem}) after {place.offset} bytes of it were read. Reading continues with "
        f"{following.path}; the rest is read once that is possible",
    )


def lost(place: Place, replaced: bool, following: File) -> LogChange:
    """What was read up to ``place`` is in no file any more; ``replaced``: another file now has its path."""
    what = "was truncated or replaced" if replaced else "is gone"
    return LogChange(
        "log_truncated" if replaced else "log_vanished",
        f"{place.path} {what} after {place.offset} bytes of it had been read; anything written after them is lost. "
        f"Reading continues with {following.path}",
    )


def damaged(file: File, offset: int) -> LogChange:
    """The packed ``file`` breaks off after ``offset`` unpacked bytes and is no longer being written."""
    return LogChange(
        "log_truncated",
        f"{file.path} is damaged after {offset} unpacked bytes; what follows is lost",
    )
