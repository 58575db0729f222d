"""Files that are whole or absent after a power cut, and locks that die with their holder; on Windows and POSIX.

``write`` follows the only order that holds: new bytes into a temporary file, flushed to the disk, renamed over the
old file, and the folder flushed so that the rename itself is on the disk. Windows refuses the rename while a virus
scanner looks at the file, so it is tried again for about three seconds.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

RENAMES = 10
"""Tries to rename over a file that somebody holds open on Windows."""
LOCK_PAUSE_S = 0.01
READS = 4
"""Tries to read a file that is there and cannot be read, as while a virus scanner holds it."""


class Busy(OSError):
    """Another process holds the lock; ``strerror`` says who, where that is known."""


def write(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``, all or nothing. Raises :class:`OSError`; the old file is then still there."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def read(path: Path) -> bytes:
    """Return a file's bytes; one that is held for a moment is tried again for a tenth of a second.

    Raises :class:`FileNotFoundError` where there is none, any other :class:`OSError` where it cannot be read now.
    """
    for attempt in range(1, READS):
        try:
            return path.read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            raise
        except OSError:
            time.sleep(0.02 * attempt)
    return path.read_bytes()


def make_folder(folder: Path) -> None:
    """Make a folder and its parents so that they survive a power cut: each new one is flushed into its parent."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk; Windows does so by itself and cannot be asked."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def lock(path: Path, patience: float = 0.0, owner: str = "") -> Iterator[None]:
    """Hold an exclusive lock on ``path`` among processes, waiting at most ``patience`` seconds.

    ``owner`` is written into the file, for the message of those who come second. Raises :class:`Busy` where another
    process keeps it, :class:`OSError` where the file cannot be opened. The system lifts the lock when the holder
    ends, however it ends.
    """
    end = time.monotonic() + patience
    with path.open("ab") as file:
        while not _try_lock(file.fileno()):
            if time.monotonic() >= end:
                holder = path.read_text(encoding="utf-8", errors="replace") or "another process"
                raise Busy(errno.EAGAIN, f"held by {holder}", str(path))
            time.sleep(LOCK_PAUSE_S)
        try:
            if owner:
                file.truncate(0)
                file.write(owner.encode())
                file.flush()
            yield
        finally:
            _unlock(file.fileno())


def _replace(source: Path, target: Path) -> None:
    for attempt in range(1, RENAMES + 1):
        try:
            source.replace(target)
            return
        except PermissionError:
            if os.name != "nt" or attempt == RENAMES:
                raise
            time.sleep(0.05 * attempt)


if os.name == "nt":  # pragma: no cover
    import msvcrt

    _FAR = 1 << 30  # a locked range cannot be read by others, so it lies beyond what is written into the file

    def _try_lock(handle: int) -> bool:
        os.lseek(handle, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        except OSError:
            return False
        return True

    def _unlock(handle: int) -> None:
        os.lseek(handle, _FAR, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)  # type: ignore[attr-defined, unused-ignore]

else:
    import fcntl

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)
