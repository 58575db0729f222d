"""Which files on this PC may be the device's log: names and times only; what is in them, :mod:`.understand` tells.

Files that are pieces of one log are one candidate: those of the same name but for a date (``press_2026-11-26.csv``)
become a pattern, rotated and packed ones (``readings.csv.1``, ``.gz``) belong to the one they were. Numbers that are no
date are kept: ``press-0001.csv`` and ``press-0002.csv`` are two devices. The newest candidate comes first.

The search ends after :data:`FILES` files or at :data:`DEPTH` folders, and says so; links are not followed.
"""

from __future__ import annotations

import glob
import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

DEPTH = 4
FILES = 50_000
SUFFIXES = frozenset([".csv", ".txt", ".log", ".tsv", ".dat", ".asc", ".lvm", ".jsonl", ".ndjson", ".prn", ".tab"])
_SKIPPED = frozenset(
    ["node_modules", "site-packages", "proc", "sys", "dev", "run", "lost+found", "windows", "$recycle.bin"]
)
_ROTATED = re.compile(r"([.-]\d[\d.T_-]*)?(\.(old|bak))?(\.gz)?$")
_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_DATE = re.compile(
    rf"(?:{_YEAR}([-_.]?){_MONTH}(?:\1{_DAY})?|{_DAY}([-_.]){_MONTH}\2{_YEAR}|{_MONTH}([-_.]){_DAY}\3{_YEAR})"
    r"(?:[-_T ]?\d\d(?:[-_.h]?\d\d){1,2})?(?!\d)"
)
"""A date, or a year and a month, with a time of day or without."""


@dataclass(frozen=True)
class Candidate:
    """Files that may be one log. ``pattern``: as ``[log] path``; ``newest``: the file written last, at ``mtime`` (Unix
    seconds)."""

    pattern: str
    newest: Path
    mtime: float
    count: int


@dataclass
class Search:
    """What was found, the newest first. ``unreadable``: folders that could not be looked into. ``cut``: not all was
    looked at."""

    candidates: list[Candidate] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    cut: bool = False


def usual_places() -> list[Path]:
    """Return where devices' programs write their logs: the current folder, unless it is a whole disk, and what this
    system has for data.
    """
    places = [Path()] if Path.cwd() != Path(Path.cwd().anchor) else []
    if sys.platform == "win32":
        drives = [Path(f"{letter}:\\") for letter in "CDE"]
        places += [drive / name for drive in drives for name in ("Data", "Logs", "Log", "Daten", "Messdaten")]
        places += [Path(os.environ.get("PUBLIC", r"C:\Users\Public")) / "Documents", Path.home() / "Documents"]
        places.append(Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData")))
    else:
        places += [Path(name) for name in ("/data", "/srv", "/var/log", "/var/opt", "/opt", "/mnt", "/media", "/home")]
    return [place for place in places if place.is_dir()]


def search(places: Sequence[Path]) -> Search:
    """Look below the given folders; a place that is a file, or a pattern, is a candidate as it stands."""
    found, groups = Search(), dict[str, list[tuple[float, Path]]]()
    seen = 0
    for place in places:
        for path, status in _walk(place.absolute(), found):
            seen += 1
            if seen > FILES:
                found.cut = True
                break
            if _plain_name(path.name).suffix.lower() in SUFFIXES and status.st_size:
                entry = groups.setdefault(pattern_of(path), [])
                if all(path != known for _, known in entry):
                    entry.append((status.st_mtime, path))
    for pattern, files in groups.items():
        mtime, newest = max(files)
        found.candidates.append(Candidate(pattern, newest, mtime, len(files)))
    found.candidates.sort(key=lambda each: -each.mtime)
    return found


def pattern_of(path: Path) -> str:
    """Return ``[log] path`` for the log that a file belongs to.

    >>> pattern_of(Path("/data/press_2026-11-26.csv")), pattern_of(Path("/data/readings.csv.2.gz"))
    ('/data/press_*.csv', '/data/readings.csv')
    """
    name = _plain_name(path.name).name
    masked = "*".join(glob.escape(part) for part in _split_dates(name))
    return str(Path(glob.escape(str(path.parent))) / masked)


def _split_dates(name: str) -> list[str]:
    parts, at = [], 0
    for match in _DATE.finditer(name):
        parts.append(name[at : match.start()])
        at = match.end()
    return [*parts, name[at:]]


def _plain_name(name: str) -> Path:
    """Take from a name what rotation has added."""
    match = _ROTATED.search(name)
    base = name[: match.start()] if match else name
    return Path(base if Path(base).suffix.lower() in SUFFIXES else name.removesuffix(".gz"))


def _walk(folder: Path, found: Search, depth: int = 0) -> Iterator[tuple[Path, os.stat_result]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda each: each.name)
    except OSError as error:
        found.unreadable.append(f"{folder}: {error.strerror or error}")
        return
    folders = []
    for entry in entries:
        if entry.name.startswith("."):
            continue
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            continue  # gone meanwhile
        if stat.S_ISREG(status.st_mode):
            yield Path(entry.path), status
        elif stat.S_ISDIR(status.st_mode) and entry.name.lower() not in _SKIPPED and entry.path != sys.prefix:
            folders.append(Path(entry.path))  # what has come with this program is no device's
    if depth == DEPTH:
        found.cut = found.cut or bool(folders)
        return
    for each in folders:
        yield from _walk(each, found, depth + 1)
