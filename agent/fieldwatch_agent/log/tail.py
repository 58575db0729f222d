"""Follows a log through growth, rotation, truncation and restarts: each line exactly once, or announced.

What it promises
    * Lines come whole, in order, once. They do not depend on how the writer's bytes arrive or how blocks are cut. An
      incomplete last line is held back until its end arrives, and returned only once its file has been left for a newer
      one (then marked torn: it may end in half a number).
    * ``Tail(pattern, position)`` continues exactly after ``position``, also after renames, copies and compression, and
      when several rotations happened meanwhile.
    * A file is left only after its end was read or its unread rest was announced (:meth:`Tail.changes`). The last few
      files stay watched: what a writer flushes into them late is read too.
    * A temporary obstacle (a lock, a half-written gzip file, a folder being rotated) is waited for, at most a minute;
      :attr:`Tail.state` shows it. After that it is announced, and reading goes on with the live file.
    * The log's writer is never disturbed: a poll opens, reads and closes, and lets others share the file in every way.

Where to look: :mod:`.position` how a read position is found again (by content fingerprint), :mod:`.files` listing and
bytes, :mod:`.text` bytes → lines, :mod:`.cursor` one file, :mod:`.order` which file comes next, :mod:`.memory` what is
known of the other files, :mod:`.trail` the rotation follower that puts these together, :mod:`.search` how it finds its
place again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fieldwatch_contract.clock import SECOND, now
from fieldwatch_contract.reading.settings import LogConfig
from fieldwatch_contract.reading.text import Format, cut, headers

from fieldwatch_agent import system
from fieldwatch_agent.log.cursor import LINE_LIMIT, Cursor, LostError, Piece
from fieldwatch_agent.log.files import TRIES, File, Folder
from fieldwatch_agent.log.order import Standing
from fieldwatch_agent.log.position import MARK, LogChange, LogLines, Position
from fieldwatch_agent.log.search import Search
from fieldwatch_agent.log.shared_file import open_shared
from fieldwatch_agent.log.trail import CROWD, Chosen, NotYetError, State, Trail, UnsettledError

__all__ = ["LINE_LIMIT", "MARK", "Format", "LogChange", "LogLines", "Position", "Tail", "read_file"]

PATIENCE = 60.0
"""Seconds to wait for a temporary obstacle."""
LINGER = 5.0
"""Seconds after the last write to wait for the end of a torn line in a file that was left."""


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

        ``encoding``: of the files, None = detected from their first bytes. ``format``: the parser; without it, files
        are ordered by modification time and headers are not looked for. ``silent_after``: seconds without a new line
        until ``state`` is ``silent``. ``patience``: seconds to wait for a temporary obstacle.
        ``alone``: the pattern is the path of a single file; no rotated files are looked for.
        """
        self._trail = Trail(Folder(str(pattern), encoding, format, alone=alone), silent_after, patience)
        self._search = Search(self._trail)
        self._format = format
        self._wanted = position
        self._silent_after = silent_after
        self._grown = system.awake()
        self.state: State = "waiting"
        self.detail = ""
        self.resumed: bool | None = None
        """Whether ``position`` was found: True, or False when it is gone for good (announced by :meth:`changes`). None
        = not known yet: there is no file, or a temporary obstacle; call :meth:`read` again."""

    # ---- what the pipeline uses --------------------------------------------------------------------------------

    def read(self, limit: int = 1 << 20, most: int | None = None, *, final: bool = False) -> LogLines | None:
        """Return the next whole lines, about ``limit`` bytes and at most ``most`` of them, or None if there are none.

        ``final``: the log is no longer being written, so a torn last line is returned too, marked. Does not raise for a
        file that is missing, locked or unreadable: :attr:`state` and :attr:`detail` show it, and the next call retries.
        """
        try:
            block = self._read_settled(min(limit, LINE_LIMIT), most, final)
        except NotYetError as error:
            self.state, self.detail = error.state, error.detail
            return None
        except (UnsettledError, FileNotFoundError):
            self.state, self.detail = "unreadable", f"the files of {self._trail.folder.pattern} are being renamed"
            return None
        except OSError as error:
            name = error.filename or self._trail.folder.pattern
            self.state, self.detail = "unreadable", f"{name}: {error.strerror or error}"
            return None
        quiet = system.awake() - self._grown  # a device sleeps with its PC
        if block is not None:
            self._grown = system.awake()
            self.state, self.detail = "following", block.file
        elif quiet > self._silent_after:
            self.state, self.detail = "silent", self._silence(quiet)
        else:
            self.state, self.detail = "following", str(self._trail.cursor.path)
        return block

    @property
    def passed_over(self) -> list[str]:
        """Files that are skipped although they may hold unread lines; each was announced."""
        return sorted(str(file.path) for file in self._trail.memory.told.values())

    @property
    def unreadable(self) -> list[str]:
        """Files of the log that cannot be read, with the reason; what was read of them before is not lost."""
        return [f"{file.path}: {file.problem}" for file in self._trail.folder.files if file.problem]

    def changes(self) -> list[LogChange]:
        """Return what must be announced and has not been yet."""
        found, self._trail.changes = self._trail.changes, []
        return found

    def lag(self) -> int:
        """Return the bytes written and not yet read, as far as they can be seen; skipped files included."""
        trail = self._trail
        if not trail.is_begun:
            return sum(file.size for file in trail.folder.files)
        unread = 0
        try:
            unread += trail.cursor.unread()
            for known, how in trail.others():
                if how is Standing.LONGER:
                    unread += known.file.size - trail.cursor.offset
                elif how not in {Standing.DONE, Standing.BLANK}:
                    unread += known.unread
        except OSError:
            pass  # it changed under our eyes: what was counted so far is there
        return unread

    def files(self) -> list[Path]:
        """Return the log's files, oldest first; raises :class:`OSError` where they cannot be read."""
        self._trail.folder.relist()
        return [file.path for file in self._trail.folder.files]

    def _silence(self, quiet: float) -> str:
        """Describe how long nothing new has come, and whether there are bytes that cannot be cut into lines."""
        try:
            unread = self._trail.cursor.unread()
        except OSError:
            unread = 0  # it was renamed a moment ago
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
        trail = self._trail
        if not trail.is_begun:
            if self._wanted is None:
                trail.begin()
            else:
                self.resumed = self._search.resume(self._wanted)
        for _ in range(len(trail.folder.files) + CROWD):
            try:
                if (block := self._go_on(limit, most)) is not None:
                    return block
                trail.list_if_due()
                if (block := self._late_lines(limit, most)) is not None:
                    return block
                chosen = trail.choose()
                if chosen is None:
                    return self._rest() if final else None
                if (block := self._go_on(limit, most)) is not None:  # written before it was left?
                    return block
                if (block := self._rest_before(chosen)) is not None:
                    return block
                trail.move_on(chosen)
            except (LostError, FileNotFoundError):
                self._search.find_again()
            except OSError as error:
                if not trail.give_up(error):
                    raise
        return None

    def _go_on(self, limit: int, most: int | None) -> LogLines | None:
        """Read on in the front (the file being read); None at its end."""
        trail = self._trail
        checked = trail.cursor.has_data or self._format is None
        if not checked and not trail.cursor.is_at_end():
            checked = self._search.check_beginning()
        cursor, before = trail.cursor, replace(trail.cursor)
        piece = cursor.read(trail.folder, limit, most)
        if not checked and before.data is None and cursor.data is not None:
            trail.step_back(before)
            raise UnsettledError
        if piece is None:
            return None
        trail.memory.begin(cursor.first)
        trail.patience.forget(str(cursor.path))
        block = self._block(cursor, piece, trail.header)
        trail.header = block.position.header
        return block

    def _late_lines(self, limit: int, most: int | None) -> LogLines | None:
        """Return what was written into a file after it was left, where it belongs before the front (a late flush)."""
        trail = self._trail
        for known, how in trail.others():
            found = trail.memory.place_of(known.file, trail.folder) if how is Standing.FLUSH else None
            if found is None:
                continue
            index, offset = found
            try:
                cursor = Cursor.at(trail.folder, known.file, offset, trail.memory.left[index])
                header = trail.header_at(known.file, offset)
                piece = cursor.read(trail.folder, limit, most)
                if piece is None and not cursor.pending:
                    trail.memory.ended(known.file)  # preallocated space
                elif piece is None and not _is_warm(known.file):
                    piece = cursor.rest(trail.folder)
            except (LostError, FileNotFoundError):
                continue  # the next listing tells
            if piece is not None:
                trail.memory.moved(index, cursor.place())
                trail.fresh = trail.tell_header = True
                block = self._block(cursor, piece, header, late=index)
                trail.fresh = trail.tell_header = True
                return block
        return None

    def _rest(self) -> LogLines | None:
        """Return the torn last line of the front, which will not be completed."""
        piece = self._trail.cursor.rest(self._trail.folder)
        return None if piece is None else self._block(self._trail.cursor, piece, self._trail.header)

    def _rest_before(self, chosen: Chosen) -> LogLines | None:
        """Return it before another file is begun, unless its end may still come: then it is read as a late line."""
        file = self._trail.file()
        return None if chosen.offset is not None or (file is not None and _is_warm(file)) else self._rest()

    def _block(self, cursor: Cursor, piece: Piece, header: bytes | None, late: int | None = None) -> LogLines:
        """Describe lines that were read; ``header`` was in effect before them.

        ``late``: the lines come from a file that was left; its index among the remembered places.
        """
        trail = self._trail
        fresh, at_start, found = trail.fresh, piece.ends[0] == cursor.start, []
        if self._format is not None:
            data = piece.ends[-1] if piece.data is None else piece.data
            opening = 0 if cursor.titled else bisect_left(piece.ends, data, hi=len(piece.lines))
            found = headers(piece.lines, self._format, header, opening)
            cursor.titled |= bool(found)
        before = piece.raw[: piece.ends[0] - piece.base]
        after = found[-1][1] if found else header
        block = LogLines(
            lines=piece.lines,
            header=header if fresh and trail.tell_header else None,
            fresh=fresh,
            at_start=at_start,
            before=cut(before, cursor.encoding or "")[0][piece.base > (piece.data or 0) :]
            if fresh and not at_start
            else [],
            torn=piece.torn,
            overlong=piece.overlong,
            starts=piece.ends[:-1],
            position=trail.memory.position(trail.cursor.place(), after if late is None else trail.header),
            file=str(cursor.path),
            encoding=cursor.encoding or "8-bit",
            _raw=piece.raw,
            _base=piece.base,
            _data=piece.data,
            _first_header=header,
            _headers=tuple(found),
            _late=late,
        )
        trail.fresh = trail.tell_header = False
        return block


def _is_warm(file: File) -> bool:
    """Tell whether a file was written so recently that its writer may still complete the last line.

    One of tomorrow was not: this computer's clock was set back, and does not say for how long that line has been there.
    """
    return abs(now() - file.mtime) < LINGER * SECOND


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
