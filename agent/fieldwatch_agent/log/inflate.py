"""Reads a gzip file like a plain one, from front to back, with little memory."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

from fieldwatch_agent.log.position import MARK, identity
from fieldwatch_agent.log.shared_file import file_id, open_same, open_shared, status

CHUNK = 64 * 1024
"""Packed bytes read at once."""


class Inflater:
    """The unpacked bytes of one gzip file.

    A file that is damaged or incomplete yields what comes before the damage; :meth:`is_whole` tells.
    """

    def __init__(self, path: Path, file: str) -> None:
        """Raises :class:`FileNotFoundError`, here and in later calls, where the path is not that of ``file``."""
        self._path = path
        self._file = file
        self._identity = identity(status(path))
        self._packed_at = 0
        self._engine = zlib.decompressobj(wbits=31)
        self._base = 0
        self._buffer = b""
        self._ended = False

    def is_for(self, path: Path, file: str) -> bool:
        """Tell whether this reads ``file`` as it is at ``path`` now."""
        return (path, file) == (self._path, self._file) and identity(status(path)) == self._identity

    def read(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` unpacked bytes; going back more than :data:`.position.MARK` starts over."""
        if offset < self._base:
            self._packed_at, self._base, self._buffer, self._ended = 0, 0, b"", False
            self._engine = zlib.decompressobj(wbits=31)
        while not self._ended and self._base + len(self._buffer) < offset + size:
            self._inflate()
            if (spare := min(offset - MARK - self._base, len(self._buffer))) > 0:
                self._base += spare
                self._buffer = self._buffer[spare:]
        start = offset - self._base
        return self._buffer[start : start + size]

    def is_whole(self) -> bool:
        """Tell whether the file is complete; unpacks the rest of it."""
        while not self._ended:
            self._inflate()
            spare = max(0, len(self._buffer) - 2 * MARK)
            self._base, self._buffer = self._base + spare, self._buffer[spare:]
        return self._engine.eof

    def _inflate(self) -> None:
        with open_same(self._path, self._file) as file:
            file.seek(self._packed_at)
            packed = file.read(CHUNK)
        self._packed_at += len(packed)
        self._ended = not packed
        try:
            while packed:
                if self._engine.eof:  # gzip files may be concatenated
                    if not packed.strip(b"\0"):
                        return
                    self._engine = zlib.decompressobj(wbits=31)
                self._buffer += self._engine.decompress(packed)
                packed = self._engine.unused_data
        except zlib.error:
            self._ended = True


def is_whole(path: Path) -> bool:
    """Tell whether a gzip file is complete."""
    return Inflater(path, file_id(status(path))).is_whole()


def claimed_size(path: Path) -> int:
    """Return the unpacked size that a gzip file's last four bytes claim; meaningless if it is incomplete."""
    with open_shared(path) as file:
        packed = file.seek(0, os.SEEK_END)
        file.seek(max(0, packed - 4))
        return int.from_bytes(file.read(4), "little") if packed > 18 else 0
