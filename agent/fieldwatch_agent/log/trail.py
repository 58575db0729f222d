"""The rotation follower: which file is read, and which one after it.

The rules are in :mod:`.order`, the remembered state in :mod:`.memory`; this module applies them to the folder. The file
being read is called the *front*; after a restart or a rotation :mod:`.search` finds it again. Two invariants: no file
is begun while an earlier one may be missing from the listing only for a moment, and the front is never left before its
end was read or its unread rest announced.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fieldwatch_contract.clock import SECOND, now

from fieldwatch_agent import system
from fieldwatch_agent.log import notices
from fieldwatch_agent.log.cursor import Cursor, LostError
from fieldwatch_agent.log.files import File, Folder
from fieldwatch_agent.log.memory import Memory, key
from fieldwatch_agent.log.order import Front, Known, Standing, between, earliest, standing
from fieldwatch_agent.log.position import LogChange, Place
from fieldwatch_agent.log.resume import header_before

CROWD = 64
"""With more files than this the folder is listed only every :data:`CROWD_PAUSE` seconds while nothing changes."""
CROWD_PAUSE = 10.0
ANCESTORS = 8
"""Number of older files searched for the header of a file that has none, where the position does not name it."""

State = Literal["following", "silent", "missing", "unreadable", "waiting"]


class NotYetError(Exception):
    """Nothing can be read at the moment; ``state`` and ``detail`` say why."""

    def __init__(self, state: State, detail: str) -> None:
        super().__init__(state, detail)
        self.state = state
        self.detail = detail


class UnsettledError(Exception):
    """Files are being renamed, so the listing may lack an unread one; try again."""


@dataclass
class Patience:
    """Deadlines for temporary obstacles, by name: since when each is there."""

    seconds: float
    since: dict[str, float] = field(default_factory=dict)

    def is_over(self, what: str) -> bool:
        """Start or continue waiting for ``what``; tell whether the time is up."""
        now = system.awake()  # who hides it may have slept as we have
        return now - self.since.setdefault(what, now) >= self.seconds

    def forget(self, what: str) -> None:
        """The obstacle is gone."""
        self.since.pop(what, None)


@dataclass(frozen=True)
class Chosen:
    """The next front; ``offset``: where to continue in a longer copy of the current one."""

    file: File
    offset: int | None = None


class Trail:
    """The front, and the moves from file to file. There is no ``cursor`` while there is no front."""

    def __init__(self, folder: Folder, silent_after: float, patience: float) -> None:
        """``silent_after``, ``patience``: seconds; see :class:`.tail.Tail`."""
        self.folder = folder
        self.memory = Memory()
        self.patience = Patience(patience)
        self.changes: list[LogChange] = []
        self.header: bytes | None = None
        """The column names in effect at the cursor."""
        self.fresh = True
        """Whether the next block does not continue the one before it."""
        self.tell_header = False
        """Whether the parser must be told the header because it cannot know it."""
        self._cursor: Cursor | None = None
        self._silent_after = silent_after
        self._name: Path | None = None
        self._listed: float | None = None

    @property
    def is_begun(self) -> bool:
        """Whether there is a front."""
        return self._cursor is not None

    @property
    def cursor(self) -> Cursor:
        """Where the front is read."""
        assert self._cursor is not None
        return self._cursor

    # ---- going on ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin with the oldest file; raises :class:`NotYetError` if there is none or it is locked."""
        self.list_some("waiting")
        readable = [file for file in self.folder.files if not file.problem]
        locked = [file for file in self.folder.files if file.problem]
        chosen = earliest(readable)
        if chosen is None:
            raise NotYetError("unreadable", f"{locked[0].path}: {locked[0].problem}")
        if locked and self.header_at(chosen, chosen.data or 0) is None:  # one of those may hold its column names
            for file in locked:
                self.be_patient(file)
        self.wait_for(locked, chosen)
        self.see_it_settle()
        self.enter(Chosen(chosen))

    def choose(self) -> Chosen | None:
        """Return what comes after the front, which was read to its end; announces the files that are skipped."""
        front = self.file()
        if front is None:
            raise LostError  # it is listed under another name
        locked, following, blank, hidden = [], [], [], []
        for known, how in self.others():
            if known.file.problem and known.read != known.file.size:  # what its modification time says may be wrong
                hidden.append(known.file)
            if how is Standing.LONGER:
                return Chosen(known.file, self.cursor.offset)
            if how is Standing.NEXT:
                following.append(known.file)
            elif how is Standing.PASSED:
                self._tell(known.file, notices.passed(known.file, self.memory.floor, str(self.cursor.path)))
            elif how is Standing.LOCKED:
                locked.append(known.file)
            elif how is Standing.BLANK and known.unread:
                blank.append(known.file)
        chosen = earliest(following)
        if chosen is None:
            return None
        for file in hidden:
            self.be_patient(file)
        self.wait_for(locked, chosen)
        self.see_it_settle()
        return Chosen(earliest(between(front, blank, chosen)) or chosen)

    def move_on(self, chosen: Chosen) -> None:
        """Leave the front, which was read to its end, and begin the next file."""
        file, change = self.file(), None
        if file is not None and not self.folder.is_whole(file):
            if self.is_fresh(file) and not self.patience.is_over(str(file.path)):
                raise NotYetError("unreadable", f"{file.path}: not yet written to its end")
            change = notices.damaged(file, self.cursor.offset)
        assert self.cursor.at_end is not None, "left without its end read or its rest announced"
        place, pending = self.cursor.place(), self.cursor.pending
        self.enter(chosen, place)
        self.changes += [change] if change else []
        if file is not None and not pending:
            self.memory.ended(file)

    def give_up(self, error: OSError) -> bool:
        """The front cannot be read: once patience is over, announce it and begin another file; tell whether it was."""
        self.relist()
        place = self.cursor.place()
        if self.file() is None or not self.patience.is_over(place.path):
            return False
        chosen = earliest(known.file for known, how in self.others() if how is Standing.NEXT)
        if chosen is None:
            return False
        self.enter(Chosen(chosen), place)
        self.changes.append(notices.front_locked(place, error.strerror or str(error), chosen))
        return True

    def enter(self, chosen: Chosen, leaving: Place | None = None) -> None:
        """Make a file the front; one that was left before is continued where it was left.

        ``leaving``: the place in the front before it, to be remembered. Where the file cannot be read, which raises
        :class:`OSError`, nothing has changed: announce a move only after it.
        """
        file, offset = chosen.file, chosen.offset
        if offset is not None:  # the same content goes on
            self._cursor = Cursor.at(self.folder, file, offset)
        else:
            self.memory.watch((each for each in self.folder.files if each.path != file.path), self.folder)
            left = self.memory.place_of(file, self.folder)
            index, read = left or (None, 0)
            place = None if index is None else self.memory.left[index]
            cursor = Cursor.at(self.folder, file, read, place)
            header = self.header_at(file, read) if read else None
            self._cursor, self.fresh = cursor, True
            if index is not None:
                self.memory.left.pop(index)
            if read:
                self.header, self.tell_header = header, True
            if leaving is not None:
                self.memory.leave(leaving)
            self.memory.begin(cursor.first)
        self.memory.told.pop(key(file), None)
        self._name = None

    def continue_at(self, file: File, offset: int, place: Place) -> None:
        """Make ``file`` the front again: up to ``offset`` it holds what was read up to ``place``."""
        self._cursor = Cursor.at(self.folder, file, offset, place)
        if str(file.path) != place.path:
            self._name = Path(place.path)

    def step_back(self, cursor: Cursor) -> None:
        """The front was read too early: continue at ``cursor``, its state before that."""
        self._cursor = cursor

    def wait_for(self, locked: list[File], chosen: File) -> None:
        """Raise :class:`NotYetError` while a file that cannot be read may come before ``chosen``; then announce it."""
        for file in locked:
            if file.mtime <= chosen.mtime and key(file) not in self.memory.told:
                self.be_patient(file)
                self._tell(file, notices.locked(file, chosen))

    def be_patient(self, file: File) -> None:
        """Raise :class:`NotYetError` until patience with a file that cannot be read is over."""
        if not self.patience.is_over(str(file.path)):
            raise NotYetError("unreadable", f"{file.path}: {file.problem}")

    def _tell(self, file: File, change: LogChange) -> None:
        if key(file) not in self.memory.told:
            self.memory.told[key(file)] = file
            self.changes.append(change)

    # ---- what the listing says -----------------------------------------------------------------------------------

    def list_if_due(self) -> None:
        """List the folder, unless it is large and was listed recently."""
        crowd = len(self.folder.files) > CROWD
        if self._listed is None or not crowd or time.monotonic() - self._listed > CROWD_PAUSE:
            self.relist()

    def relist(self) -> bool:
        """List the folder; False: it kept changing meanwhile."""
        self._listed = time.monotonic()
        return self.folder.relist()

    def list_some(self, otherwise: State) -> bool:
        """List the folder; raises :class:`NotYetError`, with state ``otherwise``, where it has no file of the log."""
        settled = self.relist()
        if not self.folder.files:
            raise NotYetError(otherwise, f"no file matches {self.folder.pattern}")
        return settled

    def see_it_settle(self) -> None:
        """Before a file is begun: check that no earlier one is being renamed; raises :class:`UnsettledError`."""
        if not self.folder.settles():
            raise UnsettledError

    def file(self) -> File | None:
        """Return the front as listed."""
        path = self._cursor.path if self._cursor is not None else None
        return next((file for file in self.folder.files if file.path == path), None)

    def others(self) -> Iterator[tuple[Known, Standing]]:
        """Yield the other files and how they relate to the front; none while the front is not listed."""
        file = self.file()
        if file is None:
            return
        front = self._front(file)
        if self.memory.shut:
            self.memory.presume_opened(self.folder.files, front, self.folder.last, self.folder)
        for other in self.folder.files:
            if other is not file:
                known = self.memory.known(other, self.cursor, self.folder)
                yield known, standing(known, front, self.folder.last)

    def header_at(self, file: File, offset: int) -> bytes | None:
        """Return the header in effect at an offset of a file; the current one where none is found."""
        if self.folder.format is None:
            return None
        return header_before(self.folder, file, offset, self.folder.format, ANCESTORS) or self.header

    def presume(self, file: File) -> None:
        """After a restart: presume that what comes before ``file`` was read, unless there is evidence against it."""
        self.memory.presume(self.folder.files, self._front(file), self.folder.last, self.folder)

    def is_fresh(self, file: File) -> bool:
        """Tell whether a file was written so recently that it may not yet be whole."""
        return now() - file.mtime < self.patience.seconds * SECOND

    def _front(self, file: File) -> Front:
        offset = self._cursor.offset if self._cursor is not None else 0
        return Front(file, offset, self.memory.floor, self._name, self._silent_after)
