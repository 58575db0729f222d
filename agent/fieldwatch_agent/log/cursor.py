"""Continues reading one file: bytes → whole lines, and a check that it is still the same file.

A poll opens, reads and closes. Each poll compares the bytes that were read last: a file that was truncated, replaced or
rotated away is noticed even where the new one has the same inode, the same header and more bytes.
"""

from __future__ import annotations

import errno
import itertools
from dataclasses import dataclass, replace
from pathlib import Path

from fieldwatch_contract.reading.text import cut, line_end, text, unit

from fieldwatch_agent import system
from fieldwatch_agent.log.files import HEAD, File, Folder
from fieldwatch_agent.log.inflate import claimed_size
from fieldwatch_agent.log.position import MARK, Identity, Place, fingerprint, identity
from fieldwatch_agent.log.shared_file import status

LINE_LIMIT = 1024 * 1024
"""Bytes; a longer line is truncated and marked."""
CUT = 1024
"""Bytes kept of a truncated line."""


class LostError(Exception):
    """The file at the cursor's path is not the one that was read."""


@dataclass(frozen=True)
class Piece:
    """Whole lines of a file. ``ends``: offsets of the first line's start and of each line's end. ``raw``: the window
    before them and their own bytes, from offset ``base`` on. ``data``: as in :class:`.position.Place`."""

    lines: list[bytes]
    ends: list[int]
    raw: bytes
    base: int
    data: int | None
    torn: bool = False
    overlong: bool = False


@dataclass
class Cursor:
    """The read position in one file.

    ``window``: the bytes before ``offset`` by which the file is recognised. ``data``, ``first``: as in
    :class:`.position.Place`. ``encoding``: None = not yet known. ``start``: length of the byte order mark. ``torn``:
    the beginning of a line that has no end yet; ``pending`` counts its bytes. ``scanned``: offset up to which there is
    no line end. ``at_end``: the file's identity, size and time when it was last read to its end. ``titled``: its column
    names were read.
    """

    path: Path
    file: str
    offset: int = 0
    window: bytes = b""
    data: int | None = None
    first: int | None = None
    encoding: str | None = None
    start: int = 0
    torn: bytes = b""
    pending: int = 0
    scanned: int = 0
    at_end: Identity | None = None
    titled: bool = False

    @classmethod
    def at(cls, folder: Folder, file: File, offset: int = 0, place: Place | None = None) -> Cursor:
        """Begin a file, or continue it at ``offset``; ``place`` supplies what the current configuration cannot find.

        Raises :class:`FileNotFoundError` where the path now belongs to another file, or this one was truncated.
        """
        first, data = file.first, file.data
        if place is not None:
            first, data = (place.first if first is None else first), (place.data if data is None else data)
        cursor = cls(file.path, file.file, data=data, first=first)
        cursor._recognise(folder)
        if offset > cursor.offset:
            cursor.offset, cursor.titled = offset, True
            cursor.window = folder.fetch(file, max(0, offset - MARK), min(offset, MARK))
            if len(cursor.window) < min(offset, MARK):
                raise FileNotFoundError(errno.ENOENT, "truncated meanwhile", str(file.path))
            cursor._forget_titles()
        return cursor

    def is_at_end(self) -> bool:
        """Tell whether the file is unchanged since it was read to its end."""
        return identity(status(self.path)) == self.at_end

    def unread(self) -> int:
        """Return how many bytes are not yet read; preallocated space does not count. Raises OSError."""
        if self.is_at_end():
            return self.pending
        size = claimed_size(self.path) if self.path.suffix == ".gz" else status(self.path).st_size
        return max(0, size - self.offset)

    def place(self) -> Place:
        """Return the read position."""
        mark, data = fingerprint(self.window, self.offset - len(self.window), self.data)
        return Place(str(self.path), self.file, self.offset, mark, self.first, data)

    @property
    def has_data(self) -> bool:
        """Whether a reading was read: readings distinguish a file from others, column names alone do not."""
        return self.offset > (HEAD if self.data is None else self.data)

    def read(self, folder: Folder, limit: int, most: int | None) -> Piece | None:
        """Read on; None at the end. Raises :class:`LostError` if it is now another file, or :class:`OSError`."""
        seen = status(self.path)
        now = identity(seen)
        packed = self.path.suffix == ".gz"
        if now == self.at_end:
            full = packed or seen.st_size <= self.offset + self.pending  # what is written into space may not show,
            if (full and not system.WINDOWS) or self._is_quiet(folder):  # nor what is into a file held open there
                return None
        if now[0] != self.file or (seen.st_size < self.offset and not packed):
            raise LostError
        if self.encoding is None and not self._recognise(folder):
            self._ended(now, folder.fetch(self, 0, 4))
            return None
        base = self.offset - len(self.window)
        raw = folder.fetch(self, base, len(self.window) + limit)
        chunk = raw[len(self.window) :]
        if raw[: len(self.window)] != self.window or not chunk.startswith(self.torn):
            raise LostError
        lines, lengths = cut(chunk, self.encoding or "", most)
        if lines:
            return self._piece(folder, raw[: len(self.window) + sum(lengths)], lines, lengths)
        if len(chunk) == limit:
            return self.read(folder, LINE_LIMIT, 1) if limit < LINE_LIMIT else self._overlong(folder, now)
        self._ended(now, chunk)
        return None

    def rest(self, folder: Folder) -> Piece | None:
        """Return the torn last line of a finished file, marked; None if there is none.

        Raises :class:`LostError` where the file turns out not to be finished: it has whole lines now.
        """
        encoding = self.encoding or "8-bit"
        raw = folder.fetch(self, self.offset, LINE_LIMIT)
        if line_end(raw, encoding) is not None:
            raise LostError
        line = text(raw[: len(raw) // unit(encoding) * unit(encoding)], encoding).rstrip(b"\0")
        if not line:
            return None
        whole = len(raw) < LINE_LIMIT
        return replace(self._piece(folder, self.window + raw, [line if whole else line[:CUT]], [len(raw)]), torn=True)

    def _is_quiet(self, folder: Folder) -> bool:
        """Tell whether the file still holds what was seen of it, and behind that nothing but preallocated space."""
        known = len(self.window) + self.pending
        raw = folder.fetch(self, self.offset - len(self.window), known + CUT)
        return raw.startswith(self.window + self.torn) and not raw[known:].strip(b"\0")

    def _ended(self, now: Identity, chunk: bytes) -> None:
        filled = chunk.rstrip(b"\0")  # NULs may be preallocated space
        self.torn, self.pending, self.at_end = filled[:CUT], len(filled), now

    def _piece(self, folder: Folder, raw: bytes, lines: list[bytes], lengths: list[int]) -> Piece:
        """Advance past ``lines``; ``raw`` is the window before them and their bytes."""
        base, started = self.offset - len(self.window), self.offset
        if self.first is None and started < HEAD:
            self.first, self.data = folder.beginning(self)  # may fail, so before anything is moved
        ends = list(itertools.accumulate(lengths, initial=started))
        self.offset, self.window = ends[-1], raw
        self.torn, self.pending, self.scanned, self.at_end = b"", 0, 0, None
        piece = Piece(lines, ends, raw, base, self.data)
        self._forget_titles()
        return piece

    def _forget_titles(self) -> None:
        """Keep only that part of the window which the fingerprint is made of."""
        base = self.offset - len(self.window)
        if self.data is not None and base < self.data < self.offset:
            self.window = self.window[self.data - base :]
        self.window = self.window[-MARK:]

    def _overlong(self, folder: Folder, now: Identity) -> Piece | None:
        """Skip a line of more than :data:`LINE_LIMIT` bytes; None while it has no end."""
        encoding = self.encoding or ""
        at = max(self.scanned, self.offset)
        at -= (at - self.offset) % unit(encoding)
        while chunk := folder.fetch(self, at, LINE_LIMIT):
            ending = line_end(chunk, encoding)
            if ending is None:
                if filled := chunk.rstrip(b"\0"):
                    self.scanned = at + len(filled)  # NULs may be preallocated space, so they are scanned again
                at += len(chunk)
                continue
            return self._over(folder, at + ending)
        self.torn, self.at_end = b"", now
        self.pending = max(0, self.scanned - self.offset)
        return None

    def _over(self, folder: Folder, end: int) -> Piece:
        """Return the line that ends at ``end``: truncated and marked, or whole where only NULs made it long."""
        encoding = self.encoding or ""
        begin = self.offset
        while begin + MARK < end and not folder.fetch(self, begin, MARK).strip(b"\0"):
            begin += MARK
        long = end - begin > LINE_LIMIT
        raw = folder.fetch(self, begin, CUT if long else end - begin)
        line = text(raw[: len(raw) // unit(encoding) * unit(encoding)], encoding)
        length = end - self.offset
        window = folder.fetch(self, max(0, end - MARK), min(end, MARK))
        piece = self._piece(folder, self.window, [line], [length])
        self.window = window
        self._forget_titles()
        return replace(piece, overlong=long)

    def _recognise(self, folder: Folder) -> bool:
        """Detect the encoding from the file's first bytes and skip its byte order mark."""
        found = folder.encoding(self)
        if found is None:
            return False
        self.encoding, self.start = found
        if self.offset < self.start:
            self.offset = self.start
            self.window = folder.fetch(self, 0, self.start)
        return True
