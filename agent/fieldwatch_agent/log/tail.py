"""Follows a log through growth, rotation, truncation and restarts: each line exactly once, or announced.

What it promises
    * Lines come whole, in order, once. However the writer's bytes trickle in and however blocks are cut, the lines are
      the same; a torn last line waits for its end, and is given away only when its file has been left for a newer one
      (then marked torn: it may be half a number).
    * ``Tail(pattern, position)`` continues exactly after ``position``, also after renames, copies and compression, and
      when several rotations happened meanwhile.
    * A file is left only when its end was read or its rest is announced (:meth:`Tail.changes`). The last few files are
      watched: what a writer flushes into them late is read too.
    * What may pass (a lock, a half-written gzip file, a folder in the midst of a rotation) is waited for, a minute at
      most; :attr:`Tail.state` says so. Then it is announced, and the live file goes on.
    * The log's writer is never disturbed: a poll opens, reads and closes, with every sharing right given away.

Where to look: :mod:`.position` how a place is found again, :mod:`.files` listing and bytes, :mod:`.text` bytes → lines,
:mod:`.cursor` one file, :mod:`.order` which comes next, :mod:`.memory` what is known of the others.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fieldwatch_contract.clock import SECOND, iso, now
from fieldwatch_contract.reading.settings import LogConfig

from fieldwatch_agent.log.cursor import LINE_LIMIT, Cursor, LostError, Piece
from fieldwatch_agent.log.files import TRIES, File, Folder
from fieldwatch_agent.log.memory import Memory, key
from fieldwatch_agent.log.order import Front, Known, Standing, between, earliest, standing
from fieldwatch_agent.log.position import MARK, LogChange, LogLines, Place, Position
from fieldwatch_agent.log.resume import header_before, locate
from fieldwatch_agent.log.shared_file import open_shared
from fieldwatch_agent.log.text import Format, cut, headers

__all__ = ["LINE_LIMIT", "MARK", "Format", "LogChange", "LogLines", "Position", "Tail", "read_file"]

CROWD = 64
"""Above this many files the folder is listed only every :data:`CROWD_PAUSE` seconds while nothing seems to change."""
CROWD_PAUSE = 10.0
ANCESTORS = 8
"""Older files searched for the header of a file that has none, where the position does not name it."""
PATIENCE = 60.0
"""Seconds for which something that may pass is waited for."""
LINGER = 5.0
"""Seconds after the last write for which the end of a torn line is waited for in a file that was left."""

State = Literal["following", "silent", "missing", "unreadable", "waiting"]


class UnsettledError(Exception):
    """Files are being renamed: an unread one may be missing in the listing. The next poll will tell."""


@dataclass
class Patience:
    """Since when something stands in the way; each thing has a name."""

    seconds: float
    since: dict[str, float] = field(default_factory=dict)

    def is_over(self, what: str) -> bool:
        """Begin or go on waiting for ``what``; tell whether that has lasted long enough."""
        since = self.since.setdefault(what, time.monotonic())
        return time.monotonic() - since >= self.seconds

    def forget(self, what: str) -> None:
        """It passed."""
        self.since.pop(what, None)


@dataclass(frozen=True)
class Chosen:
    """The next front; ``offset``: where to go on in a longer copy of the last one."""

    file: File
    offset: int | None = None


class Tail:
    """Follows the files that match a glob pattern; :meth:`read` is a poll."""

    def __init__(
        self,
        pattern: str | Path,
        position: Position | None = None,
        *,
        encoding: str | None = None,
        format: Format | None = None,
        silent_after: float = 180.0,
        patience: float = PATIENCE,
        alone: bool = False,
    ) -> None:
        """Continue after ``position``, or begin with the oldest file. No file is touched yet.

        ``encoding``: of the files, None = told by their first bytes. ``format``: the parser; without it, files are
        ordered by modification time and headers are not looked for. ``silent_after``: seconds without a new line
        until ``state`` says ``silent``. ``patience``: seconds for which something that may pass is waited for.
        ``alone``: the pattern is one file's path, and nothing beside it is looked for.
        """
        self._folder = Folder(str(pattern), encoding, format, alone=alone)
        self._format = format
        self._wanted = position
        self._silent_after = silent_after
        self._patience = Patience(patience)
        self._memory = Memory()
        self._dry: set[File] = set()
        self._cursor: Cursor | None = None
        self._name: Path | None = None
        self._header: bytes | None = None
        self._fresh = True
        self._tell_header = False
        self._listed: float | None = None
        self._grown = time.monotonic()
        self._changes: list[LogChange] = []
        self.state: State = "waiting"
        self.detail = ""
        self.resumed: bool | None = None
        """Whether ``position`` was found: True, or False when it is gone for good (announced by :meth:`changes`). None
        = not known yet: no file is there, or something stands in the way that may pass; ask :meth:`read` again."""

    # ---- what the pipeline uses --------------------------------------------------------------------------------

    def read(self, limit: int = 1 << 20, most: int | None = None, *, final: bool = False) -> LogLines | None:
        """Return the next whole lines, about ``limit`` bytes and at most ``most`` of them, or None if there are none.

        ``final``: nobody writes the log any more; a torn last line is returned too, marked. Raises nothing for a file
        that is missing, locked or unreadable: :attr:`state` and :attr:`detail` say so, and the next call tries again.
        """
        try:
            block = self._read_settled(min(limit, LINE_LIMIT), most, final)
        except (UnsettledError, FileNotFoundError):
            self.state, self.detail = "unreadable", f"the files of {self._folder.pattern} are being renamed"
            return None
        except OSError as error:
            name = error.filename or self._folder.pattern
            self.state, self.detail = "unreadable", f"{name}: {error.strerror or error}"
            return None
        if block is not None:
            self._grown = time.monotonic()
            self.state, self.detail = "following", block.file
        elif self._cursor is not None and self.state not in {"missing", "waiting", "unreadable"}:
            quiet = time.monotonic() - self._grown
            self.state = "silent" if quiet > self._silent_after else "following"
            self.detail = self._silence(quiet) if self.state == "silent" else str(self._cursor.path)
        return block

    @property
    def passed_over(self) -> list[str]:
        """Files that are not read though they may hold unread lines; each was announced."""
        return sorted(str(file.path) for file in self._memory.told.values())

    @property
    def unreadable(self) -> list[str]:
        """Files of the log that cannot be read, with the reason; what was read of them before is not lost."""
        return [f"{file.path}: {file.problem}" for file in self._folder.files if file.problem]

    def changes(self) -> list[LogChange]:
        """Return what is to be announced and has not been yet."""
        found, self._changes = self._changes, []
        return found

    def lag(self) -> int:
        """Return the bytes written and not yet read, as far as they can be seen; also of files that are passed over."""
        if self._cursor is None:
            return sum(file.size for file in self._folder.files)
        unread = 0
        try:
            unread += self._cursor.unread()
            for known, how in self._others():
                if how is Standing.LONGER:
                    unread += known.file.size - self._cursor.offset
                elif how not in {Standing.DONE, Standing.BLANK} and known.file not in self._dry:
                    unread += known.unread
        except OSError:
            pass  # it changed under our eyes: what was counted so far is there
        return unread

    def files(self) -> list[Path]:
        """Return the log's files, oldest first; raises :class:`OSError` where they cannot be read."""
        self._folder.relist()
        return [file.path for file in self._folder.files]

    def _silence(self, quiet: float) -> str:
        """Say since when nothing is new, and whether what is there could not be cut into lines."""
        assert self._cursor is not None
        unread = self._cursor.unread()
        lost = f"; {unread} bytes are there without a line end: is [log] encoding right?" if unread else ""
        return f"no new line for {quiet:.0f} s{lost}"

    # ---- one poll ----------------------------------------------------------------------------------------------

    def _read_settled(self, limit: int, most: int | None, final: bool) -> LogLines | None:
        for _ in range(TRIES):
            try:
                return self._read(limit, most, final)
            except (UnsettledError, FileNotFoundError):
                continue  # a rotation takes a moment
        return self._read(limit, most, final)

    def _read(self, limit: int, most: int | None, final: bool) -> LogLines | None:
        if self._cursor is None and not self._begin():
            return None
        for _ in range(len(self._folder.files) + CROWD):
            try:
                if (block := self._go_on(limit, most)) is not None:
                    return block
                self.state = "following"
                self._list_if_due()
                if (block := self._late_lines(limit, most)) is not None:
                    return block
                chosen = self._choose()
                if chosen is None:
                    return self._rest() if final else None
                if (block := self._go_on(limit, most)) is not None:  # written before it was left?
                    return block
                if (block := self._rest_if_final(chosen)) is not None:
                    return block
            except (LostError, FileNotFoundError):
                if not self._find_again():
                    return None
                continue
            except OSError as error:
                if not self._is_given_up(error):
                    raise
                continue
            if not self._is_whole():
                return None
            self._leave(chosen)
            self._enter(chosen)
        return None

    def _go_on(self, limit: int, most: int | None) -> LogLines | None:
        """Read on in the front; None at its end."""
        assert self._cursor is not None
        if not self._cursor.has_data and self._format is not None and not self._cursor.is_at_end():
            self._check_beginning(self._cursor)
        cursor = self._cursor
        piece = cursor.read(self._folder, limit, most)
        if piece is None:
            return None
        self._memory.begin(cursor.first)
        self._patience.forget(str(cursor.path))
        block = self._block(cursor, piece, self._header)
        self._header = block.position.header
        return block

    def _check_beginning(self, cursor: Cursor) -> None:
        """Before the first reading of a file: see that it is still the file, and the earliest that is unread.

        By column names alone, or by a piece of a line, it cannot be told from one that took its place.
        """
        self._folder.relist()
        file = self._file()
        if cursor.torn:
            found = locate(self._folder, cursor.place(), self._memory.floor, cursor.torn)
            if found is None or found[0].path != cursor.path:
                raise LostError
        elif cursor.first is not None:
            if file is None or file.first != cursor.first:
                raise LostError
        elif file is not None and not file.blank:
            unread = [known.file for known, how in self._others() if how is Standing.NEXT]
            self._see_it_settle()
            chosen = earliest([file, *unread])
            if chosen is not None and chosen is not file:
                self._enter(Chosen(chosen))

    def _late_lines(self, limit: int, most: int | None) -> LogLines | None:
        """Return what was written into a file after it was left, as far as that belongs before the front."""
        assert self._cursor is not None
        for known, how in self._others():
            found = self._memory.place_of(known.file, self._folder) if how is Standing.FLUSH else None
            if found is None or known.file in self._dry:
                continue
            index, offset = found
            try:
                cursor = Cursor.at(self._folder, known.file, offset, self._memory.left[index])
                header = self._header_at(known.file, offset)
                piece = cursor.read(self._folder, limit, most)
                if piece is None and not cursor.pending:
                    self._dry.add(known.file)
                elif piece is None and not _is_warm(known.file):
                    piece = cursor.rest(self._folder)
            except (LostError, FileNotFoundError):
                continue  # the next listing tells
            if piece is not None:
                self._fresh = self._tell_header = True
                self._memory.moved(index, cursor.place())
                block = self._block(cursor, piece, header, late=index)
                self._fresh = self._tell_header = True
                return block
        return None

    def _block(self, cursor: Cursor, piece: Piece, header: bytes | None, late: int | None = None) -> LogLines:
        """Describe lines that were read; ``header`` was in effect before them."""
        assert self._cursor is not None
        fresh, at_start, found = self._fresh, piece.ends[0] == cursor.start, []
        if self._format is not None:
            data = piece.ends[-1] if piece.data is None else piece.data
            opening = 0 if cursor.titled else bisect_left(piece.ends, data, hi=len(piece.lines))
            found = headers(piece.lines, self._format, header, opening)
            cursor.titled |= bool(found)
        before = piece.raw[: piece.ends[0] - piece.base]
        after = found[-1][1] if found else header
        block = LogLines(
            lines=piece.lines,
            header=header if fresh and self._tell_header else None,
            fresh=fresh,
            at_start=at_start,
            before=cut(before, cursor.encoding or "")[0][piece.base > (piece.data or 0) :]
            if fresh and not at_start
            else [],
            torn=piece.torn,
            overlong=piece.overlong,
            starts=piece.ends[:-1],
            position=self._memory.position(self._cursor.place(), after if late is None else self._header),
            file=str(cursor.path),
            encoding=cursor.encoding or "8-bit",
            _raw=piece.raw,
            _base=piece.base,
            _data=piece.data,
            _first_header=header,
            _headers=tuple(found),
            _late=late,
        )
        self._fresh = self._tell_header = False
        return block

    def _rest(self) -> LogLines | None:
        """Return the torn last line of the front, which gets no more."""
        assert self._cursor is not None
        piece = self._cursor.rest(self._folder)
        return None if piece is None else self._block(self._cursor, piece, self._header)

    def _rest_if_final(self, chosen: Chosen) -> LogLines | None:
        """The same when another file is begun, unless the rest of the line may still come."""
        file = self._file()
        return None if chosen.offset is not None or (file is not None and _is_warm(file)) else self._rest()

    # ---- which file ----------------------------------------------------------------------------------------------

    def _choose(self) -> Chosen | None:
        """Return what comes after the front, which was read to its end; tells what is passed over."""
        front = self._file()
        if front is None:
            raise LostError  # it is listed under another name
        locked, following, blank = [], [], []
        for known, how in self._others():
            if how is Standing.LONGER:
                assert self._cursor is not None
                return Chosen(known.file, self._cursor.offset)
            if how is Standing.NEXT:
                following.append(known.file)
            elif how is Standing.PASSED:
                self._tell_passed(known.file)
            elif how is Standing.LOCKED:
                locked.append(known.file)
            elif how is Standing.BLANK and known.unread:
                blank.append(known.file)
        chosen = earliest(following)
        if chosen is None or self._waits_for(locked, chosen):
            return None
        self._see_it_settle()
        return Chosen(earliest(between(front, blank, chosen)) or chosen)

    def _waits_for(self, locked: list[File], chosen: File) -> bool:
        """Tell whether a file that cannot be read may come before ``chosen`` and is still waited for."""
        for file in locked:
            if file.mtime > chosen.mtime or key(file) in self._memory.told:
                continue
            if not self._patience.is_over(str(file.path)):
                self.state, self.detail = "unreadable", f"{file.path}: {file.problem}"
                return True
            self._memory.told[key(file)] = file
            what = f"{file.path} is passed over: it cannot be read ({file.problem}). Reading goes on with {chosen.path}"
            self._changes.append(LogChange("log_vanished", f"{what}; its lines are read when it can be read again"))
        return False

    def _tell_passed(self, file: File) -> None:
        if key(file) in self._memory.told:
            return
        assert self._cursor is not None
        self._memory.told[key(file)] = file
        begins = f"its first reading, {iso(file.first)}, is" if file.first is not None else "its readings are"
        floor = f", {iso(self._memory.floor)}" if self._memory.floor is not None else ""
        self._changes.append(
            LogChange(
                "log_vanished",
                f"{file.path} is passed over: {begins} not later than the newest first reading of a file that was "
                f"read{floor}; was the clock set back? It will be read when its readings are newer than those of "
                f"{self._cursor.path} and that is written no more. If it is a copy, move it out of the folder",
            )
        )

    def _is_whole(self) -> bool:
        """Tell whether the front may be left: a packed file that is still written may not; a damaged one is told."""
        file = self._file()
        if file is None or self._folder.is_whole(file):
            return True
        assert self._cursor is not None
        if now() - file.mtime < self._patience.seconds * SECOND and not self._patience.is_over(str(file.path)):
            self.state, self.detail = "unreadable", f"{file.path}: not yet written to its end"
            return False
        what = f"{file.path} is damaged after {self._cursor.offset} bytes of what it unpacks to; what follows is lost"
        self._changes.append(LogChange("log_truncated", what))
        return True

    def _leave(self, chosen: Chosen) -> None:
        """The front is left: its end was read, and what is written into it later is looked for."""
        assert self._cursor is not None
        assert self._cursor.at_end is not None, "left without its end read or its rest announced"
        if chosen.offset is None:  # else the same content goes on
            self._memory.leave(self._cursor.place())

    def _enter(self, chosen: Chosen) -> None:
        """Make a file the front; one that was left before is gone on with where it was left."""
        file, offset = chosen.file, chosen.offset
        self._memory.told.pop(key(file), None)
        self._name = None
        if offset is not None:
            self._cursor = Cursor.at(self._folder, file, offset)
            return
        self._memory.watch((each for each in self._folder.files if each.path != file.path), self._folder)
        left = self._memory.place_of(file, self._folder)
        if left is None:
            self._cursor = Cursor.at(self._folder, file)
        else:
            index, read = left
            self._cursor = Cursor.at(self._folder, file, read, self._memory.take_back(index))
            if read:
                self._header = self._header_at(file, read)
                self._tell_header = True
        self._memory.begin(self._cursor.first)
        self._fresh = True

    def _begin(self) -> bool:
        """Find the wanted position, or the oldest file."""
        settled = self._list()
        if not self._folder.files:
            self.state = "missing" if self._wanted else "waiting"
            self.detail = f"no file matches {self._folder.pattern}"
            return False
        if self._wanted is None:
            readable = [file for file in self._folder.files if not file.problem]
            chosen = earliest(readable)
            locked = [file for file in self._folder.files if file.problem]
            if chosen is None:
                raise PermissionError(None, locked[0].problem, str(locked[0].path))
            if self._waits_for(locked, chosen):
                return False
            self._see_it_settle()
            self._enter(Chosen(chosen))
            return True
        wanted = self._wanted
        self._memory.floor, self._memory.left = wanted.floor, list(wanted.left)
        self._header, self._tell_header = wanted.header, True
        found = locate(self._folder, wanted, wanted.floor)
        if found is None:
            return self._lose(wanted, settled, nothing_read=wanted.data is None and wanted.first is None)
        self.resumed = True
        file, offset = found
        if file.first is not None and wanted.first is not None and wanted.floor is not None:
            self._memory.floor = wanted.floor + file.first - wanted.first  # read with another zone than now
        self._cursor = Cursor.at(self._folder, file, offset, wanted)
        self._name = Path(wanted.path) if Path(wanted.path) != file.path else None
        self._presume(file)
        self._memory.begin(self._cursor.first)
        if self._header is None:
            self._header = self._header_at(file, offset)
        return True

    def _find_again(self) -> bool:
        """The front is no longer what it was: look for what has been read under another name."""
        cursor = self._cursor
        assert cursor is not None
        settled = self._list()
        found = locate(self._folder, cursor.place(), self._memory.floor, cursor.torn)
        if found is None:
            nothing_read = cursor.first is None and not cursor.has_data and not cursor.torn
            return self._lose(cursor.place(), settled, nothing_read)
        file, offset = found
        if file.path != cursor.path:
            self._name = cursor.path
        self._cursor = Cursor.at(self._folder, file, offset, cursor.place())
        self._patience.forget("lost")
        return True

    def _lose(self, place: Place, settled: bool, nothing_read: bool) -> bool:
        """What was read is nowhere. Go on with the earliest unread file and say so; False: not now.

        ``nothing_read``: but column names, so that nothing can be missing.
        """
        floor = self._memory.floor
        there = [file for file in self._folder.files if str(file.path) == place.path and not file.problem]
        newer = [
            f for f in self._folder.files if not f.problem and (floor is None or f.first is None or f.first > floor)
        ]
        ready = [file for file in (*there, *newer) if not file.blank]
        chosen = earliest(ready) or earliest(there or newer)
        if chosen is None:
            self.state = "missing"
            self.detail = f"{place.path} is gone, and no newer file matches {self._folder.pattern}"
            return False
        if nothing_read:
            self._see_it_settle()
        obstacle = "" if nothing_read else self._obstacle(settled)
        if obstacle and not self._patience.is_over("lost"):
            self.state, self.detail = "unreadable", f"{place.path} is not found yet: {obstacle}"
            return False
        self._patience.forget("lost")
        if not nothing_read:
            what = "was truncated or replaced" if there else "is gone"
            self._changes.append(
                LogChange(
                    "log_truncated" if there else "log_vanished",
                    f"{place.path} {what} after {place.offset} bytes of it had been read; if more had been written it "
                    f"is lost. Reading goes on with {chosen.path}",
                )
            )
        if self._cursor is None:
            self.resumed = nothing_read
            self._presume(chosen)
        self._cursor = None
        self._enter(Chosen(chosen))
        return True

    def _obstacle(self, settled: bool) -> str:
        """Say what may hide a file for a moment; empty if nothing does."""
        if not (settled and self._folder.settles()):
            return "the folder is changing"
        for file in self._folder.files:
            if file.problem:
                return f"{file.path}: {file.problem}"
            if now() - file.mtime < self._patience.seconds * SECOND and not self._folder.is_whole(file):
                return f"{file.path} is not yet written to its end"
        return ""

    def _is_given_up(self, error: OSError) -> bool:
        """Tell whether the front cannot be read for so long that another file is begun; says so."""
        cursor = self._cursor
        assert cursor is not None
        self._list()
        if self._file() is None or not self._patience.is_over(str(cursor.path)):
            return False
        following = [known.file for known, how in self._others() if how is Standing.NEXT]
        chosen = earliest(following)
        if chosen is None:
            return False
        what = f"{cursor.path} cannot be read ({error.strerror or error}) after {cursor.offset} bytes of it were read"
        remedy = f"Reading goes on with {chosen.path}; the rest is read when it can be"
        self._changes.append(LogChange("log_vanished", f"{what}. {remedy}"))
        self._memory.leave(cursor.place())
        self._enter(Chosen(chosen))
        return True

    # ---- what the listing says -----------------------------------------------------------------------------------

    def _list_if_due(self) -> None:
        crowd = len(self._folder.files) > CROWD
        if self._listed is None or not crowd or time.monotonic() - self._listed > CROWD_PAUSE:
            self._list()

    def _list(self) -> bool:
        self._listed = time.monotonic()
        settled = self._folder.relist()
        self._dry.intersection_update(self._folder.files)
        return settled

    def _see_it_settle(self) -> None:
        """Before a file is begun: see that no earlier one is just being renamed; raises :class:`UnsettledError`."""
        if not self._folder.settles():
            raise UnsettledError

    def _file(self) -> File | None:
        """Return the front as listed."""
        path = self._cursor.path if self._cursor is not None else None
        return next((file for file in self._folder.files if file.path == path), None)

    def _front(self, file: File) -> Front:
        offset = self._cursor.offset if self._cursor is not None else 0
        return Front(file, offset, self._memory.floor, self._name, self._silent_after)

    def _others(self) -> Iterator[tuple[Known, Standing]]:
        """Yield the other files and how they stand to the front; none while that is not listed."""
        file, cursor = self._file(), self._cursor
        if file is None or cursor is None:
            return
        front = self._front(file)
        for other in self._folder.files:
            if other is not file:
                known = self._memory.known(other, cursor, self._folder)
                yield known, standing(known, front, self._folder.last)

    def _presume(self, file: File) -> None:
        """After a restart: take for read what comes before ``file``, if nothing speaks against it."""
        self._memory.presume(self._folder.files, self._front(file), self._folder.last, self._folder)

    def _header_at(self, file: File, offset: int) -> bytes | None:
        if self._format is None:
            return None
        return header_before(self._folder, file, offset, self._format, ANCESTORS) or self._header


def _is_warm(file: File) -> bool:
    """Tell whether a file was written so recently that the writer may be about to end its line."""
    return now() - file.mtime < LINGER * SECOND


def read_file(path: Path, log: LogConfig, limit: int = 1 << 20) -> Iterator[LogLines]:
    """Yield the whole of one finished file in blocks of about ``limit`` bytes; a torn last line is marked.

    Raises :class:`OSError` where the file cannot be read.
    """
    tail = Tail(path, encoding=log.encoding, alone=True)
    with open_shared(path):
        pass
    while (block := tail.read(limit, final=True)) is not None:
        yield block
    if tail.state == "unreadable":
        raise OSError(tail.detail)
