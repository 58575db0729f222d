"""Bytes → lines: how a file is encoded, where its lines end, what is stripped from them. No I/O.

| the bytes | what happens to them |
|---|---|
| ``\\n`` or ``\\r\\n`` | ends a line; a carriage return alone does not |
| UTF-16, recognised by its byte order mark, its zero bytes or the configuration | converted to UTF-8 |
| a byte order mark before the first or any later line (the writer reopened the file) | dropped |
| NULs before a line (left behind by a crash or by preallocated space) | dropped |
| NULs after the last line (preallocated space) | treated as not written yet |
| anything else | passed on unchanged, 8-bit |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

BOM = b"\xef\xbb\xbf"
"""UTF-8's byte order mark; a writer that reopens its file may put one before any line."""
_DIGITS = b"0123456789"
_NUMERIC = b"0123456789+-. \t"


class Format(Protocol):
    """What the tail needs from the parser."""

    def is_header(self, line: bytes, current: bytes | None) -> bool:
        """Tell whether ``line`` names columns; ``current`` is the header in effect before it."""

    def first_time(self, lines: Sequence[bytes]) -> int | None:
        """Return the time (µs) of the first reading among a file's first lines, or None."""


def detect(head: bytes, configured: str | None) -> tuple[str, int] | None:
    """Return the encoding ("8-bit", "utf-16-le", "utf-16-be") and the length of the byte order mark.

    ``head``: the first four bytes, fewer if there are no more yet. None: not yet known from them.
    """
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (BOM, "8-bit")):
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


def unit(encoding: str) -> int:
    """Return the size of a code unit in bytes."""
    return 1 if encoding == "8-bit" else 2


def text(raw: bytes, encoding: str) -> bytes:
    """Return one line as 8-bit text without its line end and without what is dropped before it."""
    if encoding != "8-bit":
        return raw.decode(encoding, "replace").rstrip("\r\n").lstrip("\0\ufeff").encode("utf-8", "replace")
    line = raw.rstrip(b"\r\n").lstrip(b"\0")
    return line[len(BOM) :] if line.startswith(BOM) else line


def line_end(chunk: bytes, encoding: str, at: int = 0) -> int | None:
    """Return the offset after the first line end from ``at`` on; ``chunk`` starts at a character boundary."""
    if encoding == "8-bit":
        found = chunk.find(b"\n", at)
        return None if found < 0 else found + 1
    newline = "\n".encode(encoding)
    at = chunk.find(newline, at)
    while at >= 0 and at % 2:
        at = chunk.find(newline, at + 1)
    return None if at < 0 else at + 2


def cut(chunk: bytes, encoding: str, most: int | None = None) -> tuple[list[bytes], list[int]]:
    """Return the whole lines of ``chunk`` (at most ``most``) and how many bytes each took, including its line end."""
    if encoding != "8-bit":
        return _cut_wide(chunk, encoding, most)
    raw = chunk.split(b"\n") if most is None else chunk.split(b"\n", most)
    raw.pop()
    lengths = [len(line) + 1 for line in raw]
    if b"\r" in chunk:
        raw = [line.rstrip(b"\r") for line in raw]
    if b"\0" in chunk:
        raw = [line.lstrip(b"\0") for line in raw]
    if not chunk.isascii() and BOM in chunk:
        raw = [line[len(BOM) :] if line.startswith(BOM) else line for line in raw]
    return raw, lengths


def _cut_wide(chunk: bytes, encoding: str, most: int | None) -> tuple[list[bytes], list[int]]:
    lines: list[bytes] = []
    lengths: list[int] = []
    at = 0
    while (most is None or len(lines) < most) and (end := line_end(chunk, encoding, at)) is not None:
        lines.append(text(chunk[at:end], encoding))
        lengths.append(end - at)
        at = end
    return lines, lengths


def headers(lines: Sequence[bytes], format: Format, current: bytes | None, opening: int) -> list[tuple[int, bytes]]:
    """Return which of ``lines`` name columns, with their index; ``current`` is the header in effect before them.

    ``opening``: how many of the lines come before the file's first reading; there a header need not resemble the
    previous one. Lines that look like readings are not tested: that would cost more than parsing them.
    """
    found: list[tuple[int, bytes]] = []
    numeric = current is not None and current[:1] in _NUMERIC
    for place in [at for at, line in enumerate(lines) if at < opening or numeric or line[:1] not in _NUMERIC]:
        line = lines[place]
        if line == current or (place >= opening and looks_like_data(line) and line[:4] != (current or b"")[:4]):
            continue
        if format.is_header(line, current if found or place >= opening else None):
            current = line
            found.append((place, line))
    return found


def looks_like_data(line: bytes) -> bool:
    """Tell whether a line begins like a reading, or consists mostly of digits."""
    start = line[1:2] if line[:1] == b'"' else line[:1]
    return start in _NUMERIC or 4 * len(line.translate(None, _DIGITS)) < len(line)
