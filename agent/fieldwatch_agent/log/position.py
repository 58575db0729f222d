"""Read positions that can be found again by content, and the blocks of lines that the tail returns.

A file is recognised by its fingerprint: a hash of the 64 KiB that were read last. Names change in rotation, inodes are
reused and do not exist on network shares, and a hundred column names make every file begin with the same kilobytes; the
content that was read is the one thing that a copy, a rename and gzip all preserve. Only readings count: what comes
before the first of them may be rewritten (a row count, a closing time), even with another length.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from fieldwatch_contract.reading.lines import Lines

from fieldwatch_agent.log.shared_file import file_id

MARK = 64 * 1024
"""Bytes before a place that its fingerprint covers."""


@dataclass(frozen=True)
class Place:
    """A place between two lines of one file.

    ``offset`` counts bytes of the (unpacked) file, ``data`` those before its first reading (None: none was read yet, or
    an earlier version wrote this). ``mark`` is the fingerprint: a hash of the last 64 KiB of the bytes from ``data`` to
    ``offset``. ``first`` is the time of the file's first reading, None if there was none. ``path`` and ``file`` (device
    and inode) are where it was last seen.
    """

    path: str
    file: str
    offset: int
    mark: str
    first: int | None = None
    data: int | None = None


@dataclass(frozen=True)
class Position(Place):
    """How far the log has been read: a place in the newest file, and what is remembered of those before it.

    ``floor``: the low-water mark, the latest first reading of all files begun: a file that begins later is unread.
    ``header``: the column names in effect, None where the position was written by a version that did not keep them.
    ``left``: where the last few files were left, oldest first; what is appended to them is read too. ``forgotten``: the
    latest first reading (µs) of files that were left before those, None if there are none.
    """

    floor: int | None = None
    header: bytes | None = None
    left: tuple[Place, ...] = ()
    forgotten: int | None = None

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        content = asdict(self)
        content["header"] = None if self.header is None else self.header.decode("latin-1")
        return json.dumps(content, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Position:
        """Read what :meth:`to_json` of this or an earlier version wrote; raises :class:`ValueError` otherwise."""
        try:
            content = json.loads(text)
            header = content.get("header")
            return cls(
                **_place(content),
                floor=_whole(content.get("floor")),
                header=None if header is None else header.encode("latin-1"),
                left=tuple(Place(**_place(each)) for each in content.get("left", ())),
                forgotten=_whole(content.get("forgotten")),
            )
        except (KeyError, TypeError, AttributeError, UnicodeError, ValueError) as error:
            raise ValueError(f"not a position in a log: {text[:80]!r} ({error})") from None


def _place(content: Mapping[str, Any]) -> dict[str, Any]:
    values = {each.name: content[each.name] for each in fields(Place) if each.name in content}
    for name in ("path", "file", "mark"):
        if not isinstance(values[name], str):
            raise TypeError(f"{name} is not a string")
    if _whole(values["offset"]) is None or values["offset"] < 0 or (_whole(values.get("data")) or 0) < 0:
        raise TypeError("offset or data is not a valid offset")
    _whole(values.get("first"))
    return values


def _whole(value: object) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise TypeError(f"{value!r} is not an integer")
    return value


@dataclass(frozen=True, kw_only=True)
class LogLines(Lines):
    """A block of whole lines of one file, in order, with their positions.

    ``starts``: byte offset of each line in the file. ``position``: after the last. ``file``: its path.
    ``encoding``: that of the file, "8-bit", "utf-16-le" or "utf-16-be"; the lines themselves are 8-bit.
    """

    starts: list[int]
    position: Position
    file: str
    encoding: str = "8-bit"
    _raw: bytes = b""
    _base: int = 0
    _data: int | None = None
    _first_header: bytes | None = None
    _headers: tuple[tuple[int, bytes], ...] = ()
    _late: int | None = None

    def position_of(self, index: int) -> Position:
        """Return the position before line ``index``; ``len(self)`` gives the one after the last."""
        if index == len(self.starts):
            return self.position
        offset = self.starts[index]
        mark, data = fingerprint(self._raw[: offset - self._base], self._base, self._data)
        if self._late is not None:  # lines of a file that was left: the position itself does not move
            left = list(self.position.left)
            left[self._late] = replace(left[self._late], offset=offset, mark=mark, data=data)
            return replace(self.position, left=tuple(left))
        header = next((line for at, line in reversed(self._headers) if at < index), self._first_header)
        return replace(self.position, offset=offset, mark=mark, data=data, header=header)

    def without_text(self) -> LogLines:
        """Return the block without its lines: half the memory, and :meth:`position_of` still works."""
        return replace(self, lines=[], before=[])


@dataclass(frozen=True)
class LogChange:
    """Something happened to the log because of which lines may be missing; ``lines``: how many, None = unknown."""

    reason: Literal["log_truncated", "log_vanished"]
    detail: str
    lines: int | None = None


def fingerprint(window: bytes, base: int, data: int | None) -> tuple[str, int | None]:
    """Return a place's fingerprint and its ``data``; ``window``: the bytes before it, from offset ``base`` on.

    Where no reading was read yet, the fingerprint covers what was: titles, column names.
    """
    if data is not None and data >= base + len(window):
        data = None
    return hashlib.sha256(window[max(0, (data or 0) - base) :][-MARK:]).hexdigest()[:32], data


Identity = tuple[str, int, int, int]


def identity(status: os.stat_result) -> Identity:
    """Return what changes when a file is replaced or written to, even if its modification time is set by hand."""
    return file_id(status), status.st_size, status.st_mtime_ns, status.st_ctime_ns
