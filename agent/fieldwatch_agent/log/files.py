"""The files of a log: listing them, examining them, reading bytes from them. No file stays open.

A listing is a snapshot of a folder in which files are being renamed, packed and deleted. So when a file disappears
before it was examined, the folder is listed again; and a file that cannot be read is listed with the reason rather than
left out, because nobody would notice a file that is not listed.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from glob import glob, has_magic
from pathlib import Path, PurePath
from typing import Protocol, TypeVar

from fieldwatch_contract.clock import DAY, SECOND, now
from fieldwatch_contract.reading.text import Format, cut, detect, looks_like_data, unit

from fieldwatch_agent.log.inflate import Inflater, claimed_size
from fieldwatch_agent.log.position import MARK, Identity, Place, fingerprint, identity
from fieldwatch_agent.log.shared_file import entries, file_id, open_same, status

HEAD = 64 * 1024
"""Bytes at a file's beginning that are searched for its first reading."""
SANE = 946_684_800 * SECOND
"""2000-01-01: an earlier first reading means a dead clock battery, not an old file."""
TRIES = 5
"""Listings taken in a row while files vanish under them."""

_ROTATED = re.compile(r"^(?P<base>.*?)(?P<suffix>[.-]\d[\d.T_-]*)?(?P<old>\.(old|bak))?(?P<gz>\.gz)?$", re.DOTALL)


AnyPath = TypeVar("AnyPath", bound=PurePath)


@dataclass(frozen=True)
class File:
    """One file as the last listing found it.

    ``file``: device and inode. ``size``: unpacked bytes. ``mtime``: µs. ``first``: time of the first reading (µs), None
    if none can be dated. ``data``: offset of the first reading, of what looks like one, or of the first line after the
    column names; None if there is none. ``blank``: it holds nothing but column names. ``problem``: why it cannot be
    read.
    """

    path: Path
    file: str
    size: int
    mtime: int
    packed: bool
    first: int | None = None
    data: int | None = None
    blank: bool = False
    problem: str = ""

    @property
    def key(self) -> tuple[int, tuple[object, ...]]:
        """Sort key: its place in the order of the log."""
        return (self.mtime if self.first is None else self.first), natural(self.path.name)


class Source(Protocol):
    """A file that was seen at a path; ``file`` is its device and inode."""

    @property
    def path(self) -> Path:
        """Where it was."""

    @property
    def file(self) -> str:
        """Its device and inode."""


class Folder:
    """The files that match a pattern, and the rotated ones next to them."""

    def __init__(self, pattern: str, encoding: str | None, format: Format | None, *, alone: bool = False) -> None:
        """``alone``: the pattern is the path of a single file; no rotated files are looked for."""
        self.pattern = pattern
        self.format = format
        self.files: list[File] = []
        """As last listed, oldest first."""
        self._encoding = encoding
        self._alone = alone
        self._known: dict[tuple[str, Identity], File] = {}
        self._begun: dict[str, tuple[int, bytes, tuple[int | None, int | None, bool]]] = {}
        self._hollow: dict[str, Identity] = {}
        self._lasts: dict[File, int | None] = {}
        self._holds: dict[tuple[File, Place], int | None] = {}
        self._inflater: Inflater | None = None

    # ---- listing -----------------------------------------------------------------------------------------------

    def relist(self) -> bool:
        """List the files again, one entry per inode. False: they kept changing meanwhile.

        Raises :class:`OSError` where the folder cannot be read.
        """
        settled = False
        for _ in range(TRIES):
            files, settled = self._listing()
            if settled:
                break
        self.files = sorted(files, key=lambda file: file.key)
        there = set(self.files)
        self._begun = {file.file: self._begun[file.file] for file in self.files if file.file in self._begun}
        self._hollow = {file.file: self._hollow[file.file] for file in self.files if file.file in self._hollow}
        self._lasts = {file: last for file, last in self._lasts.items() if file in there}
        self._holds = {known: held for known, held in self._holds.items() if known[0] in there}
        return settled

    def settles(self) -> bool:
        """List again and tell whether the files, their names and their first readings are still the same."""
        before = [(file.path, file.file, file.first, file.blank) for file in self.files]
        return self.relist() and before == [(file.path, file.file, file.first, file.blank) for file in self.files]

    def _listing(self) -> tuple[list[File], bool]:
        found: dict[str, File] = {}
        known: dict[tuple[str, Identity], File] = {}
        settled = True
        for path in self._paths():
            if isinstance(path, File):
                found[path.file] = path
                continue
            try:
                seen = status(path)
                if not stat.S_ISREG(seen.st_mode):
                    continue
                key = (str(path), identity(seen))
                file = self._known.get(key) or self._look(path, seen)
                if not (file.problem or file.blank):  # what is written into preallocated space shows in no size,
                    known[key] = file  # and twice within a tick of the clock in no time either
            except FileNotFoundError:
                settled = path.is_symlink() and settled  # a dangling link is not a file about to be renamed
                continue
            except OSError as error:
                file = File(path, str(path), 0, 0, _packed(path), problem=_reason(error))
            same = file.file if not file.file.endswith(":0") else str(path)
            twin = found.get(same)
            if twin is None or twin.path.is_symlink():
                found[same] = file
        self._known = known
        plain = {file.path: file for file in found.values() if not file.packed}
        return [file for file in found.values() if not _in_the_making(file, plain)], settled

    def _paths(self) -> Iterator[Path | File]:
        """Yield the paths that match; of several folders one that cannot be listed comes as a file with that problem.

        Raises :class:`OSError` where the only folder, or what all of them are in, cannot be listed.
        """
        if self._alone:
            yield Path(self.pattern)
            return
        plain, parts = split(Path(self.pattern))
        yield from _below(plain, parts, alone=True)

    # ---- looking at one ------------------------------------------------------------------------------------------

    def _look(self, path: Path, seen: os.stat_result) -> File:
        """Examine a file; again if it changes meanwhile, so that its size and its first reading belong together."""
        for _ in range(TRIES):
            file = self._examine(path, seen)
            before, seen = seen, status(path)
            if identity(before) == identity(seen):
                break
        return file

    def _examine(self, path: Path, seen: os.stat_result) -> File:
        packed = _packed(path)
        size, mtime = seen.st_size, seen.st_mtime_ns // 1000
        try:
            size = claimed_size(path) if packed else size
            first, data, blank = self._beginning(File(path, file_id(seen), size, mtime, packed))
        except FileNotFoundError:
            raise
        except OSError as error:
            return File(path, file_id(seen), size, mtime, packed, problem=_reason(error))
        return File(path, file_id(seen), size, mtime, packed, first, data, blank)

    def _beginning(self, file: Source) -> tuple[int | None, int | None, bool]:
        """Return time and offset of the file's first reading, and whether it holds nothing but column names.

        What is once known of a file holds as long as it begins with the same bytes.
        """
        known = self._begun.get(file.file)
        if known is not None and _digest(self.fetch(file, 0, known[0])) == known[1]:
            return known[2]
        found = self.encoding(file)
        if found is None:
            return None, None, True
        head = self.fetch(file, 0, HEAD)
        encoding, start = found
        lines, lengths = cut(head[start:], encoding)
        if self.format is None:
            return None, start if lines else None, not lines
        header = next((i for i, line in enumerate(lines) if self.format.is_header(line, None)), None)
        first = sane(self.format.first_time(lines))
        rest = head[start + sum(lengths) :].strip(b"\0")
        after = 0 if header is None else header + 1
        place = next((i for i in range(after, len(lines)) if looks_like_data(lines[i]) and lines[i].strip()), None)
        if first is not None and (header is None or place is None):
            place = self._place_of_first(lines)
        if place is None:
            place = next((i for i in range(after, len(lines)) if lines[i].strip()), None)
        blank = place is None and (header is None or not rest)
        result = first, None if place is None else start + sum(lengths[:place]), blank
        if first is not None and place is not None:
            enough = place + 1 if self.format.first_time(lines[: place + 1]) is not None else len(lines)
            length = start + sum(lengths[:enough])
            self._begun[file.file] = length, _digest(head[:length]), result
        return result

    def beginning(self, file: Source) -> tuple[int | None, int | None]:
        """Return time (µs) and offset of the file's first reading; None where there is none."""
        return self._beginning(file)[:2]

    def _place_of_first(self, lines: list[bytes]) -> int:
        """Return the index of the first reading, by bisection: the last line of the shortest prefix that has one."""
        assert self.format is not None
        none, some = 0, len(lines)
        while some - none > 1:
            middle = (none + some) // 2
            none, some = (none, middle) if self.format.first_time(lines[:middle]) is not None else (middle, some)
        return some - 1

    def last(self, file: File) -> int | None:
        """Return the time of the file's last reading (µs), None if there is none or it is implausible."""
        if file not in self._lasts:
            self._lasts[file] = self._ending(file)
        return self._lasts[file]

    def _ending(self, file: File) -> int | None:
        found = self.encoding(file)
        if found is None or self.format is None:
            return None
        encoding, skip = found
        start = max(skip, file.size - MARK)
        start -= (start - skip) % unit(encoding)
        ending = cut(self.fetch(file, start, file.size - start), encoding)[0][start > skip :]
        beginning = cut(self.fetch(file, skip, HEAD), encoding)[0]
        header = [line for line in beginning if self.format.is_header(line, None)][:1]
        return sane(self.format.first_time([*header, *reversed(ending)]))

    def encoding(self, file: Source) -> tuple[str, int] | None:
        """Return the file's encoding and the length of its byte order mark; None: not known yet."""
        head = self.fetch(file, 0, 4)
        return None if head == bytes(4) and self._is_empty_space(file) else detect(head, self._encoding)

    def _is_empty_space(self, file: Source) -> bool:
        """Tell whether a file holds nothing but NULs, so that not even its encoding has been written yet.

        Space is filled from its beginning: what follows the first :data:`HEAD` bytes is looked at once.
        """
        seen, at = identity(status(file.path)), 0
        if self._hollow.get(file.file) == seen:
            return not self.fetch(file, 0, HEAD).strip(b"\0")
        while chunk := self.fetch(file, at, 16 * HEAD):
            if chunk.strip(b"\0"):
                return False
            at += len(chunk)
        self._hollow[file.file] = seen
        return True

    def find(self, file: File, place: Place) -> int | None:
        """Return the offset in ``file`` up to which it holds what was read at ``place``; None if it does not."""
        if (file, place) not in self._holds:
            self._holds[file, place] = self._find(file, place)
        return self._holds[file, place]

    def _find(self, file: File, place: Place) -> int | None:
        tries = [(place.offset, place.data)]
        if place.data is not None and file.data not in {None, place.data}:  # what stands before the data has changed
            tries.append((place.offset + file.data - place.data, file.data))
        for offset, data in tries:
            start = max(0, offset - MARK)
            if file.problem or (file.size < offset and not file.packed):
                continue
            if fingerprint(self.fetch(file, start, offset - start), start, data)[0] == place.mark:
                return offset
        return None

    def is_whole(self, file: File) -> bool:
        """Tell whether a packed file is complete; a plain one always is."""
        return not file.packed or self._inflate(file).is_whole()

    def fetch(self, source: Source, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes from ``offset`` of the (unpacked) file; fewer only at its end.

        Raises :class:`FileNotFoundError` where the path now belongs to another file.
        """
        if _packed(source.path):
            return self._inflate(source).read(offset, size)
        with open_same(source.path, source.file) as file:
            file.seek(offset)
            parts: list[bytes] = []
            while size > 0 and (part := file.read(size)):
                parts.append(part)
                size -= len(part)
        return b"".join(parts)

    def _inflate(self, source: Source) -> Inflater:
        if self._inflater is None or not self._inflater.is_for(source.path, source.file):
            self._inflater = Inflater(source.path, source.file)
        return self._inflater


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def sane(time: int | None) -> int | None:
    """Return a time that files can be ordered by, None for an implausible one."""
    return time if time is not None and SANE <= time <= now() + DAY else None


def natural(name: str) -> tuple[object, ...]:
    """Order names as rotation numbers them: ``a.2``, ``a.1``, ``a``; ``a-20260117``, ``a-20260118``, ``a``."""
    match = _ROTATED.match(name)
    assert match is not None
    suffix = match["suffix"] or ""
    digits = re.sub(r"\D", "", suffix)
    number = 0 if not digits else -int(digits) if len(digits) < 6 else int(digits)
    base = tuple(part.zfill(20) if part.isdigit() else part for part in re.split(r"(\d+)", match["base"]))
    return base, not suffix, number, name


def _packed(path: Path) -> bool:
    return path.suffix == ".gz"


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _in_the_making(file: File, plain: dict[Path, File]) -> bool:
    """Tell whether a packed file is the copy of the plain one next to it, finished or not.

    Not every ``x.1.gz`` next to an ``x.1`` is: that may be the next file, renamed before the older one was shifted.
    """
    original = plain.get(file.path.with_suffix("")) if file.packed else None
    if original is None:
        return False
    return file.first is None or file.first == original.first or bool(file.problem)


def split(pattern: AnyPath) -> tuple[AnyPath, list[str]]:
    """Return the folder that all files of a pattern are in, and the rest of it.

    >>> from pathlib import PureWindowsPath
    >>> split(PureWindowsPath("//server/share/press/*/readings*.csv"))
    (PureWindowsPath('//server/share/press'), ['*', 'readings*.csv'])

    What a path begins with is no pattern, though there may be a question mark in it.

    >>> split(PureWindowsPath("//?/C:/logs/readings*.csv"))[1]
    ['readings*.csv']
    """
    parts = pattern.parts
    plain = next((at for at, part in enumerate(parts[:-1]) if has_magic(part) and part != pattern.anchor), -1)
    return type(pattern)(*parts[:plain]), list(parts[plain:])


def _below(folder: Path, parts: list[str], *, alone: bool = False) -> Iterator[Path | File]:
    """Yield what matches ``parts`` of a pattern below a folder.

    ``alone``: there is no other folder, so that its problem is raised.
    """
    part, rest = parts[0], parts[1:]
    if rest and not has_magic(part):
        yield from _below(folder / part, rest)
        return
    if rest and part == "**":
        inner = glob(os.path.join(folder, "**", ""), recursive=True)  # noqa: PTH118, PTH207
        for each in sorted({folder, *map(Path, inner)}):
            yield from _below(each, rest)
        return
    try:
        if not stat.S_ISDIR(status(folder).st_mode):
            return
        inside = sorted(entries(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        if alone:
            raise
        if not isinstance(error, PermissionError):  # a folder of others, such as those of the system on a drive
            yield File(folder, str(folder), 0, 0, packed=False, problem=_reason(error))
        return
    if not rest:
        yield from (path for path in inside if _matches(path.name, part))
        return
    for path in inside:
        if fnmatch(path.name, part) and (part.startswith(".") or not path.name.startswith(".")):
            yield from _below(path, rest)


def _matches(name: str, pattern: str) -> bool:
    """Tell whether a file name matches the pattern, or is a rotated file of one that does."""
    if name.startswith(".") and not pattern.startswith("."):
        return False
    if fnmatch(name, pattern):
        return True
    match = _ROTATED.match(name)
    return match is not None and match["base"] != name and fnmatch(match["base"], pattern)
