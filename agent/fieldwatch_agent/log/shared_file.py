"""Looks at files that another program owns, and opens them without getting in its way.

On POSIX an open file may be renamed, truncated and deleted by others. On Windows the *reader* decides what others may
do meanwhile, and Python's ``open`` forbids renaming and deleting: an instrument's nightly rotation would fail because
of us. So there files are opened with all sharing modes (read, write, delete) allowed. Keep a file open no longer than a
read takes.

A file that is not there and one on a share that is not there are two things: what was read of the first is gone, the
second comes back. Python calls both :class:`FileNotFoundError` on Windows; here only the first is.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_NOT_THERE = frozenset({None, 2, 3})
"""Windows' numbers of "no such file" and "no such folder", None elsewhere. Python says the same of others, such as 53
(network path not found), 67 (network name) and 15 (drive)."""


def file_id(status: os.stat_result) -> str:
    """Return device and inode."""
    return f"{status.st_dev}:{status.st_ino}"


def status(path: Path) -> os.stat_result:
    """Return what ``path.stat()`` does; raises :class:`FileNotFoundError` only where the file is not there."""
    with _told_apart():
        return path.stat()


def entries(folder: Path) -> list[Path]:
    """Return what ``folder.iterdir()`` does; raises :class:`FileNotFoundError` only where the folder is not there."""
    with _told_apart():
        return list(folder.iterdir())


@contextmanager
def _told_apart() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        if getattr(error, "winerror", None) in _NOT_THERE:
            raise
        raise OSError(errno.EHOSTUNREACH, error.strerror, error.filename) from error


if sys.platform == "win32":
    import ctypes
    import msvcrt
    from ctypes import wintypes

    _GENERIC_READ = 0x80000000
    _SHARE_READ_WRITE_DELETE = 0x7
    _OPEN_EXISTING = 3
    _SEQUENTIAL = 0x08000000
    _INVALID = wintypes.HANDLE(-1).value

    _create = ctypes.WinDLL("kernel32", use_last_error=True).CreateFileW
    _create.restype = wintypes.HANDLE
    _create.argtypes = [
        wintypes.LPCWSTR,
        wintypes.DWORD,
        wintypes.DWORD,
        wintypes.LPVOID,
        wintypes.DWORD,
        wintypes.DWORD,
        wintypes.HANDLE,
    ]

    def open_shared(path: Path) -> BinaryIO:
        """Open for reading, unbuffered; raises :class:`OSError` as ``open`` does."""
        handle = _create(str(path), _GENERIC_READ, _SHARE_READ_WRITE_DELETE, None, _OPEN_EXISTING, _SEQUENTIAL, None)
        if handle == _INVALID:
            with _told_apart():
                raise ctypes.WinError(ctypes.get_last_error())
        return os.fdopen(msvcrt.open_osfhandle(handle, os.O_RDONLY | os.O_BINARY), "rb", buffering=0)

else:

    def open_shared(path: Path) -> BinaryIO:
        """Open for reading, unbuffered; raises :class:`OSError` as ``open`` does."""
        with _told_apart():
            return path.open("rb", buffering=0)


def open_same(path: Path, file: str) -> BinaryIO:
    """Open the file with that device and inode; raises :class:`FileNotFoundError` where the path is now another file's.

    A rotation may happen between examining a path and reading from it.
    """
    opened = open_shared(path)
    try:
        if file_id(status(path)) == file:
            return opened
        raise FileNotFoundError(errno.ENOENT, "replaced meanwhile", str(path))
    except OSError:
        opened.close()
        raise
