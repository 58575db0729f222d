"""Atomic file replacement that survives a power cut, and lock files released when their holder dies; Windows and POSIX.

``write`` follows the only safe order: write a temporary file, flush it to disk, rename it over the old file, and flush
the folder so that the rename itself is on disk. Windows refuses to rename and to delete a file while a virus scanner,
a backup or a reader has it open, so :func:`replace` and :func:`remove` try for about three seconds.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fieldwatch_agent import system

ATTEMPTS = 10
"""Attempts to rename or delete a file that another program holds open on Windows."""
LOCK_PAUSE_S = 0.01
READS = 4
"""Attempts to read an existing but unreadable file, for example while a virus scanner holds it."""


class Busy(OSError):
    """Another process holds the lock; ``strerror`` names it, where that is known."""


def write(path: Path, data: bytes, private: bool = False) -> None:
    """Replace ``path`` with ``data``, atomically. Raises :class:`OSError`; then the old file is still there.

    ``private``: at no moment can anybody but its owner read it (POSIX; on Windows the folder's rights decide).
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        if private:
            temporary.unlink(missing_ok=True)
            temporary.touch(mode=0o600)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def read(path: Path) -> bytes:
    """Return a file's bytes; one that another program holds briefly is retried for a tenth of a second.

    Raises :class:`FileNotFoundError` where there is none, :class:`IsADirectoryError` where it is a folder, any other
    :class:`OSError` where it cannot be read now.
    """
    for attempt in range(1, READS):
        try:
            return path.read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            raise
        except OSError as error:
            if path.is_dir():  # to Windows a folder is a file that one may not read
                raise IsADirectoryError(errno.EISDIR, "is a folder", str(path)) from error
            time.sleep(0.02 * attempt)
    return path.read_bytes()


def make_folder(folder: Path) -> None:
    """Create a folder and its parents so that they survive a power cut: the parent of each new one is flushed.

    Raises :class:`OSError`, also where there is no such drive or share.
    """
    if folder.is_dir():
        return
    if folder.parent == folder:
        raise FileNotFoundError(errno.ENOENT, "there is no such drive or share", str(folder))
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk; Windows does that by itself and has no call for it."""
    if system.WINDOWS:
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def lock(path: Path, patience: float = 0.0, owner: str = "") -> Iterator[None]:
    """Hold an exclusive inter-process lock on ``path``, waiting at most ``patience`` seconds for it.

    ``owner`` is written into the file, for the error message of other processes. Raises :class:`Busy` where another
    process holds it, :class:`OSError` where the file cannot be opened. The system releases the lock when the holder
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


def replace(source: Path, target: Path) -> None:
    """Rename a file over another one, or to a new name; the folder is not flushed. Raises :class:`OSError`."""
    _while_held(lambda: source.replace(target))


def remove(path: Path) -> bool:
    """Delete a file that nobody needs; False where it is held and stays, for whoever clears up later."""
    try:
        _while_held(lambda: path.unlink(missing_ok=True))
    except OSError:
        return False
    return True


def _while_held(act: Callable[[], object]) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            act()
            return
        except PermissionError:
            if not system.WINDOWS or attempt == ATTEMPTS:
                raise
            time.sleep(0.05 * attempt)


if os.name == "nt":  # pragma: no cover
    import msvcrt

    _FAR = 1 << 30  # others cannot read a locked range, so it lies beyond the file's content

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
