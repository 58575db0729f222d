"""Bytes → whole lines: follows a log through growth, rotation, truncation and restarts, each line exactly once.

What it promises
    * Lines come whole, in order, once. However the writer's bytes trickle in and however blocks are cut, the lines are
      the same; a torn last line waits for its end, and is given away only when its file has been left for a newer one
      (then marked torn: it may be half a number).
    * ``Tail(pattern, position)`` continues exactly after ``position``, also after renames, copies and compression, also
      when several rotations happened meanwhile.
    * What cannot be found again is announced (:meth:`Tail.changes`), never skipped in silence.
    * The log's writer is never disturbed: a poll opens, reads and closes, with every sharing right given away.

How a file is recognised
    By what has been read of it. A position carries a hash of the 64 KiB before it (which hold whole readings with their
    times) and the time of the file's first reading. Names change in rotation, inodes are reused and unknown to network
    shares, and a hundred column names make every file begin with the same kilobytes; content that has been read is the
    one thing that a copy, a rename and gzip all keep. The time decides only where no reading was read yet: it changes
    when the zone, the format or the PC's clock are put right. Names and inodes only decide between equal candidates.

Which file comes next
    The one with the next later first reading; modification times stand in where no reading can be dated, then names.
    A different file under the name that was followed is always next: that is what rotation does. A file with an
    earlier first reading (the clock was set back, or there is an edited copy) is next once its readings and its
    modification time reach beyond the current one's; until then it is announced and counted in :meth:`Tail.lag`.

Text is handed on as 8-bit bytes without line ends: UTF-16 is rewritten as UTF-8, a byte order mark and NULs in front
of a line (what a crash leaves behind) are dropped.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import stat
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from glob import glob, has_magic
from pathlib import Path
from typing import Literal, Protocol

from fieldwatch_contract.clock import DAY, SECOND, iso, now
from fieldwatch_contract.reading.lines import Lines
from fieldwatch_contract.reading.settings import LogConfig

from fieldwatch_agent.log.shared_file import open_shared

MARK = 64 * 1024
"""Bytes before a position by which it is recognised; more than any plausible line."""
HEAD = 64 * 1024
"""Bytes at a file's beginning among which its first reading is looked for."""
LINE_LIMIT = 1024 * 1024
"""Bytes; a longer line is handed on cut, and marked."""
CUT = 1024
"""Bytes kept of such a line."""
CROWD = 64
"""Above this many files the folder is listed only every :data:`CROWD_PAUSE` seconds while nothing seems to change."""
CROWD_PAUSE = 10.0
ANCESTORS = 8
"""Older files searched for the header of a file that has none."""
SANE = 946_684_800 * SECOND
"""2000-01-01: an earlier first reading tells of a dead clock battery, not of an old file."""

_ROTATED = re.compile(r"^(?P<base>.*?)(?P<suffix>[.-]\d[\d.T_-]*)?(?P<old>\.(old|bak))?(?P<gz>\.gz)?$", re.DOTALL)

State = Literal["following", "silent", "missing", "unreadable", "waiting"]


class Format(Protocol):
    """What the tail asks of the parser."""

    def is_header(self, line: bytes, current: bytes | None) -> bool:
        """Tell whether ``line`` names columns; ``current`` is the header in effect before it."""

    def first_time(self, lines: Sequence[bytes]) -> int | None:
        """Return the time (µs) of the first reading among a file's first lines, or None."""


@dataclass(frozen=True)
class Position:
    """A place between two lines of the log, to be found again by content.

    ``offset`` counts bytes of the (unpacked) file. ``mark`` hashes the bytes before it. ``first`` is the time of the
    file's first reading, None if there was none yet; ``floor`` that of the newest file that had one. ``path`` and
    ``file`` (device and inode) are where it was last seen.
    """

    path: str
    file: str
    offset: int
    mark: str
    first: int | None = None
    floor: int | None = None

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Position:
        """Read what :meth:`to_json` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True, kw_only=True)
class LogLines(Lines):
    """A block of whole lines of one file, in order, with their place.

    ``starts``: byte offset of each in the file. ``position``: after the last. ``file``: where they stand.
    ``encoding``: "8-bit", "utf-16-le" or "utf-16-be", what the file has; the lines are 8-bit.
    """

    starts: list[int]
    position: Position
    file: str
    encoding: str = "8-bit"
    _raw: bytes = b""
    _base: int = 0

    def position_of(self, index: int) -> Position:
        """Return the position before line ``index``; ``len(self)`` gives the one after the last."""
        if index == len(self.starts):
            return self.position
        offset = self.starts[index]
        return replace(self.position, offset=offset, mark=_mark(self._raw[: offset - self._base]))

    def without_text(self) -> LogLines:
        """Return the block without its lines: half the memory, and :meth:`position_of` all the same."""
        return replace(self, lines=[], before=[])


@dataclass(frozen=True)
class LogChange:
    """Something happened to the log by which lines may be missing; ``lines`` None where it cannot be known."""

    reason: Literal["log_truncated", "log_vanished"]
    detail: str
    lines: int | None = None


@dataclass(frozen=True)
class _File:
    """One file as the last listing found it; ``key`` puts it in order."""

    path: Path
    file: str
    size: int
    mtime: int
    first: int | None
    packed: bool

    @property
    def key(self) -> tuple[int, tuple[object, ...]]:
        return (self.mtime if self.first is None else self.first), _natural(self.path.name)

    @property
    def identity(self) -> tuple[str, int | None]:
        """What stays when the file grows or is renamed; the first reading, for inodes are given out again."""
        return self.file, self.first


@dataclass
class _Cursor:
    """Where reading stands.

    ``window``: the last bytes before ``offset``. ``start``: length of the byte order mark. ``encoding``: None = not yet
    known. ``name``: the path the file had before it was rotated. ``scanned``: how far no line end was found.
    ``torn``: the beginning of a line after ``offset`` that had no end yet.
    ``at_end``: the file's identity, size and time when it was last read to its end.
    """

    path: Path
    file: str
    offset: int = 0
    window: bytes = b""
    first: int | None = None
    floor: int | None = None
    encoding: str | None = None
    start: int = 0
    name: Path | None = None
    scanned: int = 0
    torn: bytes = b""
    at_end: tuple[str, int, int] | None = None

    def position(self) -> Position:
        return Position(str(self.path), self.file, self.offset, _mark(self.window), self.first, self.floor)


class _LostError(Exception):
    """The file under the cursor is not the one that was read."""


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
    ) -> None:
        """Continue after ``position``, or begin with the oldest file. No file is touched yet.

        ``encoding``: of the files, None = told by their first bytes. ``format``: the parser; without it, files are
        ordered by modification time and headers are not looked for. ``silent_after``: seconds without a new line
        until ``state`` says ``silent``.
        """
        self._pattern = str(pattern)
        self._wanted = position
        self._encoding = encoding
        self._format = format
        self._silent_after = silent_after
        self._cursor: _Cursor | None = None
        self._files: list[_File] = []
        self._known: dict[tuple[str, str, int, int], _File] = {}
        self._unlike: dict[_File, str] = {}
        self._lasts: dict[_File, int | None] = {}
        self._left: dict[tuple[str, int | None], Position] = {}
        self._sizes: dict[tuple[str, int | None], int] = {}
        self._passed: dict[tuple[str, int | None], Path] = {}
        self._inflater: _Inflater | None = None
        self._listed: float | None = None
        self._grown = time.monotonic()
        self._changes: list[LogChange] = []
        self._fresh = True
        self._header: bytes | None = None
        self.state: State = "waiting"
        self.detail = ""
        self.resumed: bool | None = None
        """Whether ``position`` was found; None until files have been seen, or where none was given."""

    # ---- what the pipeline uses --------------------------------------------------------------------------------

    def read(self, limit: int = 1 << 20, most: int | None = None, *, final: bool = False) -> LogLines | None:
        """Return the next whole lines, about ``limit`` bytes and at most ``most`` of them, or None if there are none.

        ``final``: nobody writes the log any more; a torn last line is returned too, marked. Raises nothing for a file
        that is missing, locked or unreadable: :attr:`state` and :attr:`detail` say so, and the next call tries again.
        """
        try:
            block = self._read(min(limit, LINE_LIMIT), most, final)
        except OSError as error:
            self.state, self.detail = "unreadable", f"{error.filename or self._pattern}: {error.strerror or error}"
            return None
        if block is not None:
            self._grown = time.monotonic()
            self.state, self.detail = "following", block.file
        elif self._cursor is not None and self.state not in {"missing", "waiting"}:
            quiet = time.monotonic() - self._grown
            self.state = "silent" if quiet > self._silent_after else "following"
            self.detail = self._silence(quiet) if self.state == "silent" else str(self._cursor.path)
        return block

    def _silence(self, quiet: float) -> str:
        """Say since when nothing is new, and whether what is there could not be cut into lines."""
        unread = self._rest()
        lost = f"; {unread} bytes are there without a line end: is [log] encoding right?" if unread else ""
        return f"no new line for {quiet:.0f} s{lost}"

    @property
    def passed_over(self) -> list[str]:
        """Files that are not read though they may hold unread lines; each was announced."""
        return sorted(map(str, self._passed.values()))

    def changes(self) -> list[LogChange]:
        """Return what is to be announced and has not been yet."""
        found, self._changes = self._changes, []
        return found

    def lag(self) -> int:
        """Return the bytes written and not yet read, as far as they can be seen."""
        if self._cursor is None:
            return sum(file.size for file in self._files)
        current, unread = self._current(), self._rest()
        for file in self._files if current is not None else []:
            if file is not current and file.identity in self._passed:
                left = self._left.get(file.identity)
                unread += max(0, file.size - (left.offset if left else 0))
            elif current is not None and self._is_newer(file, current):
                unread += file.size
        return unread

    def _rest(self) -> int:
        """Return the unread bytes of the current file."""
        assert self._cursor is not None
        try:
            return max(0, _size(self._cursor.path) - self._cursor.offset)
        except OSError:
            return 0

    def files(self) -> list[Path]:
        """Return the log's files, oldest first; raises :class:`OSError` where they cannot be read."""
        self._list()
        return [file.path for file in self._files]

    # ---- one poll ----------------------------------------------------------------------------------------------

    def _read(self, limit: int, most: int | None, final: bool) -> LogLines | None:
        if self._cursor is None and not self._begin():
            return None
        for _ in range(len(self._files) + CROWD):
            assert self._cursor is not None
            try:
                block = self._advance(self._cursor, limit, most)
                if block is None and self._successor() is not None:
                    block = self._advance(self._cursor, limit, most)  # written before it was left?
            except (_LostError, FileNotFoundError):
                if not self._find_again():
                    return None
                continue
            if block is not None:
                return block
            self.state = "following"
            successor = self._successor(listing=False)
            if successor is None and not final:
                return None
            leftover = self._leftover(self._cursor)
            if leftover is not None:
                return leftover
            if successor is None:
                return None
            self._enter(*successor)
        return None

    def _advance(self, cursor: _Cursor, limit: int, most: int | None) -> LogLines | None:
        """Read on in the current file; None at its end; :class:`_LostError` if it is another file by now."""
        status = cursor.path.stat()
        identity = _identity(status)
        if identity == cursor.at_end and os.name == "posix":
            return None
        if identity[0] != cursor.file or (status.st_size < cursor.offset and not _packed(cursor.path)):
            raise _LostError
        if cursor.encoding is None and not self._recognise(cursor):
            cursor.at_end = identity
            return None
        if self._format is not None and cursor.first is None and cursor.offset < HEAD:
            # Only a header was read, or part of a line seen: no file can be told by that from one that took its place.
            header = cursor.offset > cursor.start
            if header or cursor.torn:
                self._list()
                found = self._locate(cursor.position(), cursor.torn)
                other = found is None or found.path != cursor.path
                if other and (header or (found is not None and found.first is not None)):
                    raise _LostError
        base = cursor.offset - len(cursor.window)
        raw = self._fetch(cursor.path, base, len(cursor.window) + limit)
        if raw[: len(cursor.window)] != cursor.window:
            raise _LostError
        chunk = raw[len(cursor.window) :]
        if not chunk.startswith(cursor.torn):
            raise _LostError
        lines, lengths = _cut(chunk, cursor.encoding or "", most)
        if not lines and len(chunk) == limit and limit < LINE_LIMIT:
            return self._advance(cursor, LINE_LIMIT, 1)
        if not lines and len(chunk) == limit:
            return self._overlong(cursor, identity)
        if not lines:
            cursor.torn = chunk[:CUT].rstrip(b"\0")  # NULs may yet be overwritten
            cursor.at_end = identity
            return None
        return self._block(cursor, raw[: len(cursor.window) + sum(lengths)], lines, lengths)

    def _block(
        self,
        cursor: _Cursor,
        raw: bytes,
        lines: list[bytes],
        lengths: list[int],
        torn: bool = False,
        overlong: bool = False,
    ) -> LogLines:
        """Move the cursor over ``lines`` and describe them; ``raw`` is the window before them and their bytes."""
        base = cursor.offset - len(cursor.window)
        ends = list(itertools.accumulate(lengths, initial=cursor.offset))
        at_start = cursor.offset == cursor.start
        fresh, header, before = self._fresh, self._header, []
        if fresh and not at_start:
            before = _cut(cursor.window, cursor.encoding or "", None)[0][1:]
        self._fresh, self._header = False, None
        started = cursor.offset
        cursor.offset = ends[-1]
        cursor.window = raw[-MARK:]
        cursor.torn = b""
        cursor.at_end = None
        if cursor.first is None and self._format is not None and started < HEAD:
            cursor.first = self._first(cursor.path)
            cursor.floor = _later(cursor.floor, cursor.first)
        return LogLines(
            lines=lines, header=header, fresh=fresh, at_start=at_start, before=before, torn=torn, overlong=overlong,
            starts=ends[:-1], position=cursor.position(), file=str(cursor.path), encoding=cursor.encoding or "8-bit",
            _raw=raw, _base=base,
        )  # fmt: skip

    def _overlong(self, cursor: _Cursor, identity: tuple[str, int, int]) -> LogLines | None:
        """Step over a line of more than :data:`LINE_LIMIT` bytes; None while it has no end."""
        encoding = cursor.encoding or ""
        unit = _unit(encoding)
        at = max(cursor.scanned, cursor.offset)
        at -= (at - cursor.offset) % unit
        while chunk := self._fetch(cursor.path, at, LINE_LIMIT):
            ending = _line_end(chunk, encoding)
            if ending is None:
                if filled := chunk.rstrip(b"\0"):
                    cursor.scanned = at + len(filled)  # NULs may yet be overwritten, so they are looked at again
                at += len(chunk)
                continue
            start = self._fetch(cursor.path, cursor.offset, CUT)
            text = _text(start[: len(start) // unit * unit], encoding)
            end = at + ending
            length = end - cursor.offset
            block = self._block(cursor, cursor.window, [text], [length], overlong=True)
            cursor.window = self._fetch(cursor.path, max(0, end - MARK), min(end, MARK))
            cursor.scanned = 0
            return replace(block, position=cursor.position())
        cursor.at_end = identity
        return None

    def _leftover(self, cursor: _Cursor) -> LogLines | None:
        """Return the torn last line of a file that gets no more, marked."""
        encoding = cursor.encoding or "8-bit"
        rest = self._fetch(cursor.path, cursor.offset, LINE_LIMIT)
        text = _text(rest[: len(rest) // _unit(encoding) * _unit(encoding)], encoding).rstrip(b"\0")
        if not text:
            return None
        raw = cursor.window + rest
        return self._block(cursor, raw, [text[:CUT] if len(rest) == LINE_LIMIT else text], [len(rest)], torn=True)

    def _recognise(self, cursor: _Cursor) -> bool:
        """Find out the encoding from the file's first bytes and step over its byte order mark."""
        found = _detect(self._fetch(cursor.path, 0, 4), self._encoding)
        if found is None:
            return False
        cursor.encoding, cursor.start = found
        if cursor.offset < cursor.start:
            cursor.offset = cursor.start
            cursor.window = self._fetch(cursor.path, 0, cursor.start)
        return True

    # ---- which file ----------------------------------------------------------------------------------------------

    def _begin(self) -> bool:
        """Find the wanted position, or the oldest file."""
        self._list()
        if not self._files:
            self.state, self.detail = ("missing" if self._wanted else "waiting"), f"no file matches {self._pattern}"
            return False
        if self._wanted is None:
            first = self._files[0]
            self._cursor = _Cursor(first.path, first.file, first=first.first, floor=first.first)
            return True
        wanted = self._wanted
        found = self._locate(wanted)
        self.resumed = found is not None
        if found is None:
            self._cursor = _Cursor(Path(wanted.path), wanted.file, wanted.offset, b"", wanted.first, wanted.floor)
            if not self._give_up(self._cursor, wanted.path):
                self._cursor = None
                return False
            return True
        self._cursor = self._cursor_at(found, wanted)
        self._header = self._header_before(found, wanted.offset)
        return True

    def _cursor_at(self, file: _File, position: Position) -> _Cursor:
        window = self._fetch(file.path, max(0, position.offset - MARK), min(position.offset, MARK))
        first, floor = file.first, position.floor
        if first is None:
            first = position.first
        elif position.first is not None and floor is not None:
            floor += first - position.first  # read with another zone than now
        floor = _later(floor, first)
        cursor = _Cursor(file.path, file.file, position.offset, window, first, floor, name=Path(position.path))
        self._recognise(cursor)
        return cursor

    def _find_again(self) -> bool:
        """The current file is no longer what it was: look for what has been read under another name."""
        cursor = self._cursor
        assert cursor is not None
        self._list()
        found = self._locate(cursor.position(), cursor.torn)
        cursor.torn = b""
        if found is not None:
            if found.path != cursor.path:
                cursor.name = cursor.path
            cursor.path, cursor.file, cursor.at_end = found.path, found.file, None
            return True
        return self._give_up(cursor, str(cursor.path))

    def _give_up(self, cursor: _Cursor, path: str) -> bool:
        """What was read is nowhere: go on with the oldest newer file and say so; False if there is none."""
        there = [file for file in self._files if str(file.path) == path]
        floor = cursor.floor
        newer = [f for f in self._files if f in there or floor is None or f.first is None or f.first > floor]
        if not newer:
            self.state = "missing"
            self.detail = f"{path} is gone, and no newer file matches {self._pattern}"
            return False
        successor = newer[0]
        reason: Literal["log_truncated", "log_vanished"] = "log_truncated" if there else "log_vanished"
        what = "was truncated or replaced" if there else "is gone"
        self._changes.append(
            LogChange(
                reason,
                f"{path} {what} after {cursor.offset} bytes of it had been read; if more had been written it is lost. "
                f"Reading goes on with {successor.path}",
            )
        )
        self._enter(successor, 0)
        return True

    def _enter(self, file: _File, offset: int) -> None:
        """Make ``file`` the current one, from ``offset``, which is 0 unless it is a longer copy of the last one.

        A file that was left before is gone on with where it was left.
        """
        cursor = self._cursor
        assert cursor is not None
        floor = _later(cursor.floor, file.first)
        current = self._current()
        if current is not None and current.file == cursor.file:
            self._left[current.identity] = cursor.position()
            self._sizes[current.identity] = max(current.size, cursor.offset)
        self._passed.pop(file.identity, None)
        if offset:
            self._cursor = replace(cursor, path=file.path, file=file.file, at_end=None, floor=floor, name=None)
            return
        self._fresh = True
        left = self._left.get(file.identity)
        if left is not None and left.offset and self._holds(file, left):
            self._cursor = replace(self._cursor_at(file, replace(left, floor=floor)), name=None)
            self._header = self._header_before(file, left.offset)
            return
        self._cursor = _Cursor(file.path, file.file, first=file.first, floor=floor)

    def _successor(self, listing: bool = True) -> tuple[_File, int] | None:
        """Return the file to read after the current one has been read to its end, and where to begin in it."""
        if listing:
            self._list_if_due()
        cursor, current = self._cursor, self._current()
        assert cursor is not None
        if current is None:
            return None
        for file in self._files:
            if file is current or not file.size:
                continue
            newer = self._is_newer(file, current)
            if file.first == current.first and (newer or file.first is not None):
                shared = min(file.size, cursor.offset)
                if shared > cursor.start and self._same_content(file, cursor, shared):
                    if file.size > cursor.offset and file.size > current.size:
                        return file, cursor.offset
                    continue  # a copy that has nothing new
            if newer or self._overtakes(file, current):
                return file, 0
            self._pass_over(file, current)
        return None

    def _current(self) -> _File | None:
        return next((file for file in self._files if self._cursor is not None and file.path == self._cursor.path), None)

    def _is_newer(self, file: _File, current: _File) -> bool:
        """Tell whether ``file`` comes after the current one.

        Never a file whose first reading is older than the newest first reading so far: a clock that was set back would
        send us to and fro between two files.
        """
        cursor = self._cursor
        assert cursor is not None
        if file is current:
            return False
        if file.path == cursor.name:
            return True
        if file.first is None:
            return (file.mtime, file.key[1]) > (current.mtime, current.key[1])
        return cursor.floor is None or file.first > cursor.floor

    def _overtakes(self, file: _File, current: _File) -> bool:
        """Tell whether ``file`` is the one that is written, though it does not begin later than what was read.

        It must have been written when the current one had been silent for a while: two logs that are both written
        would send us to and fro.
        """
        if file.mtime - current.mtime <= self._silent_after * SECOND or file.packed:
            return False
        last, reached = self._last(file), self._last(current)
        return last is not None and reached is not None and last > reached

    def _pass_over(self, file: _File, current: _File) -> None:
        """Announce, once, a file that is not read and may hold what nobody has read.

        That is so if it grows, or if it was written last and is no part of what comes before the current one. Other
        files with an earlier first reading were read before this one.
        """
        if file.packed or file.first is None or current.first is None or file.identity in self._passed:
            return
        unread = file.size > self._sizes.setdefault(file.identity, file.size)
        if not unread and file.mtime >= current.mtime and file.identity not in self._left:
            last, reached = self._last(file), self._last(current)
            beyond = last is not None and reached is not None and last > reached
            unread = beyond or file.first == current.first
        if unread:
            self._passed[file.identity] = file.path
            floor = max(file.first, (self._cursor.floor if self._cursor else None) or current.first)
            self._changes.append(
                LogChange(
                    "log_vanished",
                    f"{file.path} is passed over: its first reading, {iso(file.first)}, is not later than the newest "
                    f"first reading of a file that was read, {iso(floor)}; was the clock set back? It will be read "
                    f"when its readings are newer than those of {current.path} and that is written no more. If it is "
                    f"a copy, move it out of the folder",
                )
            )

    def _same_content(self, file: _File, cursor: _Cursor, length: int) -> bool:
        """Tell whether ``file`` begins with the first ``length`` bytes of the current file."""
        start = max(0, length - MARK)
        if length == cursor.offset:
            return self._fetch(file.path, start, length - start) == cursor.window
        return self._fetch(file.path, start, length - start) == self._fetch(cursor.path, start, length - start)

    def _locate(self, position: Position, torn: bytes = b"") -> _File | None:
        """Find the file that holds what was read up to ``position``; ``torn`` is what was seen after it.

        What was read decides. The time of the first reading follows from the configured format and zone and from this
        computer's clock too, all of which are corrected some day; it is asked only where no reading was read yet.
        There, the bytes of a reading without end tell as well.
        """
        same = [file for file in self._files if position.first is not None and file.first == position.first]
        found = [file for file in same if self._holds(file, position)]
        found = found or [file for file in self._files if file not in same and self._holds(file, position)]
        if self._format is not None and found and not self._has_reading(found[0], position.offset):
            found = [file for file in found if self._fetch(file.path, position.offset, len(torn)) == torn]
            if position.first is None:
                # Only a header was read, and every file has it: take the oldest of which nothing else has been read.
                floor = position.floor
                return next((file for file in found if floor is None or file.first is None or file.first > floor), None)
            found = [file for file in found if file in same]
        return max(found, key=lambda file: (file.file == position.file, file.size, not file.packed), default=None)

    def _holds(self, file: _File, position: Position) -> bool:
        """Tell whether ``file`` has the bytes that were read before ``position``."""
        if (file.size < position.offset and not file.packed) or self._unlike.get(file) == position.mark:
            return False
        start = max(0, position.offset - MARK)
        alike = _mark(self._fetch(file.path, start, position.offset - start)) == position.mark
        if file.packed and not alike:
            self._unlike[file] = position.mark  # not to be unpacked again at each poll
        return alike

    def _has_reading(self, file: _File, offset: int) -> bool:
        """Tell whether a reading stands before ``offset``, one that the present format does not understand too."""
        assert self._format is not None
        if offset > HEAD:
            return True
        head = self._fetch(file.path, 0, offset)
        found = _detect(head[:4], self._encoding)
        if found is None:
            return False
        lines = _cut(head[found[1] :], found[0], None)[0]
        data = (line[:1].isdigit() and not self._format.is_header(line, None) for line in lines)
        return any(data) or self._format.first_time(lines) is not None

    # ---- listing ---------------------------------------------------------------------------------------------------

    def _list_if_due(self) -> None:
        if self._listed is None or len(self._files) <= CROWD or time.monotonic() - self._listed > CROWD_PAUSE:
            self._list()

    def _list(self) -> None:
        """List the log's files, oldest first; one entry a file, whatever its names."""
        self._listed = time.monotonic()
        found: dict[str, _File] = {}
        known: dict[tuple[str, str, int, int], _File] = {}
        for path in self._paths():
            try:
                status = path.stat()
                if not stat.S_ISREG(status.st_mode):
                    continue
                key = (str(path), _file_id(status), status.st_size, status.st_mtime_ns)
                file = self._known.get(key) or self._look(path, status)
            except FileNotFoundError:
                continue  # rotated between listing and looking
            except PermissionError:
                if self._cursor is None:
                    raise
                continue
            known[key] = file
            identity = file.file if status.st_ino else str(path)
            twin = found.get(identity)
            if twin is None or twin.path.is_symlink():
                found[identity] = file
        self._known = known
        self._files = sorted(found.values(), key=lambda file: file.key)
        self._unlike = {file: self._unlike[file] for file in self._files if file in self._unlike}
        self._lasts = {file: self._lasts[file] for file in self._files if file in self._lasts}

    def _paths(self) -> Iterator[Path]:
        """Yield what matches the pattern, and rotated files beside it."""
        folder, name = os.path.split(self._pattern)
        if not has_magic(folder):
            try:
                paths = sorted(path for path in Path(folder or ".").iterdir() if _matches(path.name, name))
            except FileNotFoundError:
                return
        else:
            both = {*glob(self._pattern, recursive=True), *glob(self._pattern + "[.-]*", recursive=True)}  # noqa: PTH207
            paths = [path for path in map(Path, sorted(both)) if _matches(path.name, name)]
        there = set(paths)
        for path in paths:
            if not (_packed(path) and path.with_suffix("") in there):  # gzip has not finished
                yield path

    def _look(self, path: Path, status: os.stat_result) -> _File:
        packed = _packed(path)
        size = _size(path) if packed else status.st_size
        first = self._first(path) if self._format is not None else None
        return _File(path, _file_id(status), size, status.st_mtime_ns // 1000, first, packed)

    def _first(self, path: Path) -> int | None:
        """Return the time of the file's first reading, None if there is none or it is nonsense."""
        assert self._format is not None
        head = self._fetch(path, 0, HEAD)
        found = _detect(head[:4], self._encoding)
        if found is None:
            return None
        encoding, skip = found
        return _sane(self._format.first_time(_cut(head[skip:], encoding, None)[0]))

    def _last(self, file: _File) -> int | None:
        """Return the time of the file's last reading, None if there is none or it is nonsense."""
        if file not in self._lasts:
            self._lasts[file] = self._look_at_end(file)
        return self._lasts[file]

    def _look_at_end(self, file: _File) -> int | None:
        found = _detect(self._fetch(file.path, 0, 4), self._encoding)
        if found is None or self._format is None:
            return None
        encoding, skip = found
        start = max(skip, file.size - MARK)
        start -= (start - skip) % _unit(encoding)
        ending = _cut(self._fetch(file.path, start, file.size - start), encoding, None)[0][start > skip :]
        beginning = _cut(self._fetch(file.path, skip, HEAD), encoding, None)[0]
        header = [line for line in beginning if self._format.is_header(line, None)][:1]
        return _sane(self._format.first_time([*header, *reversed(ending)]))

    def _header_before(self, file: _File, offset: int) -> bytes | None:
        """Return the header in effect at ``offset``, from the file itself or the ones before it."""
        if self._format is None:
            return None
        place = self._files.index(file)
        for older, end in [
            (file, offset),
            *((f, f.size) for f in self._files[max(0, place - ANCESTORS) : place][::-1]),
        ]:
            header: bytes | None = None
            for line in self._lines_until(older, end):
                if self._format.is_header(line, header):
                    header = line
            if header is not None:
                return header
        return None

    def _lines_until(self, file: _File, end: int) -> Iterator[bytes]:
        found = _detect(self._fetch(file.path, 0, 4), self._encoding)
        if found is None:
            return
        encoding, at = found
        while at < end:
            chunk = self._fetch(file.path, at, min(LINE_LIMIT, end - at))
            lines, lengths = _cut(chunk, encoding, None)
            yield from lines
            if not chunk:
                return
            at += sum(lengths) or len(chunk)

    # ---- bytes -----------------------------------------------------------------------------------------------------

    def _fetch(self, path: Path, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes from ``offset`` of the (unpacked) file; fewer only at its end."""
        if _packed(path):
            if self._inflater is None or not self._inflater.is_for(path):
                self._inflater = _Inflater(path)
            return self._inflater.read(offset, size)
        with open_shared(path) as file:
            file.seek(offset)
            parts: list[bytes] = []
            while size > 0 and (part := file.read(size)):
                parts.append(part)
                size -= len(part)
        return b"".join(parts)


class _OneFile(Tail):
    """Reads a single file and nothing beside it."""

    def _paths(self) -> Iterator[Path]:
        yield Path(self._pattern)


def read_file(path: Path, log: LogConfig, limit: int = 1 << 20) -> Iterator[LogLines]:
    """Yield the whole of one finished file in blocks of about ``limit`` bytes; a torn last line is marked.

    Raises :class:`OSError` where the file cannot be read.
    """
    tail = _OneFile(path, encoding=log.encoding)
    with open_shared(path):
        pass
    while (block := tail.read(limit, final=True)) is not None:
        yield block
    if tail.state == "unreadable":
        raise OSError(tail.detail)


class _Inflater:
    """Reads a gzip file from front to back with little memory; what is damaged ends it."""

    CHUNK = 64 * 1024

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity = _identity(path.stat())
        self._rewind()

    def is_for(self, path: Path) -> bool:
        """Tell whether this reads the file that is at ``path`` now."""
        return path == self._path and _identity(path.stat()) == self._identity

    def _rewind(self) -> None:
        self._packed_at = 0
        self._engine = zlib.decompressobj(wbits=31)
        self._base = 0
        self._buffer = b""
        self._ended = False

    def read(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` unpacked bytes; going back more than :data:`MARK` starts over."""
        if offset < self._base:
            self._rewind()
        while not self._ended and self._base + len(self._buffer) < offset + size:
            self._inflate()
            if (spare := min(offset - MARK - self._base, len(self._buffer))) > 0:
                self._base += spare
                self._buffer = self._buffer[spare:]
        start = offset - self._base
        return self._buffer[start : start + size]

    def _inflate(self) -> None:
        with open_shared(self._path) as file:
            file.seek(self._packed_at)
            packed = file.read(self.CHUNK)
        self._packed_at += len(packed)
        self._ended = not packed
        try:
            while packed:
                if self._engine.eof:  # gzip files may be appended to one another
                    self._engine = zlib.decompressobj(wbits=31)
                self._buffer += self._engine.decompress(packed)
                packed = self._engine.unused_data
        except zlib.error:
            self._ended = True


def _size(path: Path) -> int:
    """Return the (unpacked) size; of a gzip file, what its last four bytes claim."""
    if not _packed(path):
        return path.stat().st_size
    with open_shared(path) as file:
        packed = file.seek(0, os.SEEK_END)
        file.seek(max(0, packed - 4))
        return int.from_bytes(file.read(4), "little") if packed > 18 else 0


def _sane(time: int | None) -> int | None:
    return time if time is not None and SANE <= time <= now() + DAY else None


def _later(one: int | None, other: int | None) -> int | None:
    return max((time for time in (one, other) if time is not None), default=None)


# ---- text ----------------------------------------------------------------------------------------------------------


def _mark(window: bytes) -> str:
    return hashlib.sha256(window[-MARK:]).hexdigest()[:32]


def _packed(path: Path) -> bool:
    return path.suffix == ".gz"


def _file_id(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}"


def _identity(status: os.stat_result) -> tuple[str, int, int]:
    return _file_id(status), status.st_size, status.st_mtime_ns


def _matches(name: str, pattern: str) -> bool:
    """Tell whether a file name is the pattern's, or that of a rotated file of it."""
    if name.startswith(".") and not pattern.startswith("."):
        return False
    if fnmatch(name, pattern):
        return True
    match = _ROTATED.match(name)
    return match is not None and match["base"] != name and fnmatch(match["base"], pattern)


def _natural(name: str) -> tuple[object, ...]:
    """Order names as rotation means them: ``a.2``, ``a.1``, ``a``; ``a-20260117``, ``a-20260118``, ``a``."""
    match = _ROTATED.match(name)
    assert match is not None
    suffix = match["suffix"] or ""
    digits = re.sub(r"\D", "", suffix)
    number = 0 if not digits else -int(digits) if len(digits) < 6 else int(digits)
    base = tuple(part.zfill(20) if part.isdigit() else part for part in re.split(r"(\d+)", match["base"]))
    return base, not suffix, number, name


def _detect(head: bytes, configured: str | None) -> tuple[str, int] | None:
    """Return how lines are written ("8-bit", "utf-16-le", "utf-16-be") and the length of the byte order mark.

    ``head``: the first four bytes, fewer if there are no more yet. None: they do not tell yet.
    """
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (b"\xef\xbb\xbf", "8-bit")):
        if head.startswith(mark):
            return encoding, len(mark)
        if mark.startswith(head):
            return None
    if configured is not None:
        wide = {"utf-16": "utf-16-le", "utf-16-le": "utf-16-le", "utf-16-be": "utf-16-be"}
        return wide.get(configured, "8-bit"), 0
    if len(head) == 1:
        return ("8-bit", 0) if head == b"\n" else None
    zeros = [not byte for byte in head]
    for pattern, encoding in (([False, True] * 2, "utf-16-le"), ([True, False] * 2, "utf-16-be")):
        if zeros == pattern:
            return encoding, 0
        if len(head) < 4 and zeros == pattern[: len(head)]:
            return None
    return "8-bit", 0


def _unit(encoding: str) -> int:
    return 1 if encoding == "8-bit" else 2


def _text(raw: bytes, encoding: str) -> bytes:
    """Return a line as 8-bit text without its end and without NULs in front."""
    if encoding == "8-bit":
        return raw.rstrip(b"\r\n").lstrip(b"\0") if raw[:1] == b"\0" or raw[-1:] in b"\r\n" else raw
    return raw.decode(encoding, "replace").rstrip("\r\n").lstrip("\0").encode("utf-8", "replace")


def _line_end(chunk: bytes, encoding: str) -> int | None:
    """Return the offset after the first line end."""
    if encoding == "8-bit":
        found = chunk.find(b"\n")
        return None if found < 0 else found + 1
    newline = "\n".encode(encoding)
    at = chunk.find(newline)
    while at >= 0 and at % 2:
        at = chunk.find(newline, at + 1)
    return None if at < 0 else at + 2


def _cut(chunk: bytes, encoding: str, most: int | None) -> tuple[list[bytes], list[int]]:
    """Return the whole lines of ``chunk`` (at most ``most``) and how many bytes each took, its end included."""
    if encoding != "8-bit":
        return _cut_wide(chunk, encoding, most)
    raw = chunk.split(b"\n") if most is None else chunk.split(b"\n", most)
    raw.pop()
    lengths = [len(line) + 1 for line in raw]
    if b"\r" in chunk:
        raw = [line.rstrip(b"\r") for line in raw]
    if b"\0" in chunk:
        raw = [line.lstrip(b"\0") for line in raw]
    return raw, lengths


def _cut_wide(chunk: bytes, encoding: str, most: int | None) -> tuple[list[bytes], list[int]]:
    lines: list[bytes] = []
    lengths: list[int] = []
    at = 0
    newline = "\n".encode(encoding)
    while most is None or len(lines) < most:
        end = chunk.find(newline, at)
        while end >= 0 and end % 2:
            end = chunk.find(newline, end + 1)
        if end < 0:
            break
        lines.append(_text(chunk[at : end + 2], encoding))
        lengths.append(end + 2 - at)
        at = end + 2
    return lines, lengths
