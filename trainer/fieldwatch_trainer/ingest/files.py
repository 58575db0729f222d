"""Logs on disk: which files belong to which device, and their lines, block by block.

A log belongs to the device that a person names, or to that of the folder it stands in: ``logs/press-0001/readings.csv``
and all its rotated and packed copies are of ``press-0001``.
"""

from __future__ import annotations

import glob
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fieldwatch_contract.reading.lines import Lines
from fieldwatch_contract.reading.text import cut, detect, line_end, unit

BLOCK = 1 << 20
PACKED = 1 << 16
LONGEST = 1 << 20
"""A line of more bytes is refused."""
_NO_LOGS = (".parquet", ".toml", ".zip", ".onnx", ".html", ".pem")


class DamagedError(Exception):
    """A packed file ends too early; what was read before is fine."""


def logs(places: Iterable[str]) -> list[Path]:
    """Return the files that paths, folders and patterns name, each once; hidden ones and those of a lake left out.

    Raises :class:`FileNotFoundError` for a place where there is nothing.
    """
    found: dict[Path, None] = {}
    for place in places:
        path = Path(place)
        if path.is_dir():
            matches = sorted(each for each in path.rglob("*") if each.is_file() and not _hidden(each, path))
        else:
            matches = [path] if path.is_file() else _matching(place)
            matches = [each for each in matches if each.is_file()]
        matches = [each for each in matches if each.suffix not in _NO_LOGS]
        if not matches:
            raise FileNotFoundError(2, "there is no log", place)
        found.update(dict.fromkeys(matches))
    return list(found)


def _matching(pattern: str) -> list[Path]:
    return [Path(each) for each in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207 absolute patterns too


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.relative_to(root).parts)


def by_device(files: Sequence[Path], device: str | None) -> dict[str, list[Path]]:
    """Group files: all of ``device``, or each of the device that its folder names."""
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(device or file.absolute().parent.name, []).append(file)
    return found


def blocks(path: Path, encoding: str | None) -> Iterator[Lines]:
    """Yield a whole file in blocks of lines; a last line without an end is marked as torn.

    Raises :class:`OSError` where it cannot be read, :class:`DamagedError` behind what a packed file still gave.
    """
    rest, kind, first, skipping = b"", "", True, False
    source = _unpacked(path) if path.suffix == ".gz" else _plain(path)
    damaged = False
    while True:
        try:
            chunk = next(source, b"")
        except DamagedError:
            chunk, damaged = b"", True
        rest += chunk
        if not kind and (len(rest) >= 4 or not chunk):
            kind, mark = detect(rest[:4], encoding) or ("8-bit", 0)
            rest = rest[mark:]
        if skipping:  # in the middle of a line that is too long
            end = line_end(rest, kind)
            rest, skipping = (rest[end:], False) if end is not None else (b"", bool(chunk))
        lines, lengths = cut(rest, kind) if kind else ([], [])
        rest = rest[sum(lengths) :]
        if lines:
            yield Lines(lines=lines, fresh=first, at_start=first)
            first = False
        if len(rest) > LONGEST:
            yield Lines(lines=[rest[:200]], fresh=first, at_start=first, overlong=True)
            rest, first, skipping = b"", False, True
        if not chunk:
            break
    if rest.strip(b"\0"):
        lines, _ = cut(rest + (b"\n" if unit(kind) == 1 else "\n".encode(kind)), kind)
        yield Lines(lines=lines, fresh=first, at_start=first, torn=True)
    if damaged:
        raise DamagedError(f"{path}: the packed file ends too early, or is damaged; what came before was read")


def _plain(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(BLOCK):
            yield chunk


def _unpacked(path: Path) -> Iterator[bytes]:
    """Yield what a gzip file holds, also of several joined ones, up to where it is damaged."""
    engine, begun = zlib.decompressobj(wbits=31), False
    with path.open("rb") as file:
        while packed := file.read(PACKED):
            while packed:
                if engine.eof:
                    if not packed.strip(b"\0"):
                        break
                    engine = zlib.decompressobj(wbits=31)
                try:
                    yield engine.decompress(packed)
                except zlib.error as error:
                    raise DamagedError from error
                packed, begun = engine.unused_data, True
    if begun and not engine.eof:
        raise DamagedError
