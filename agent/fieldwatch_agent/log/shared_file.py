"""Opens a file that another program owns without getting in its way.

On POSIX an open file may be renamed, truncated and deleted by others. On Windows the *reader* decides what others may
do meanwhile, and Python's ``open`` forbids renaming and deleting: an instrument's nightly rotation would fail because
of us. So there files are opened with all sharing modes (read, write, delete) allowed. Keep a file open no longer than a
read takes.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import BinaryIO


def file_id(status: os.stat_result) -> str:
    """Return device and inode."""
    return f"{status.st_dev}:{status.st_ino}"


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
            raise ctypes.WinError(ctypes.get_last_error())
        return os.fdopen(msvcrt.open_osfhandle(handle, os.O_RDONLY | os.O_BINARY), "rb", buffering=0)

else:

    def open_shared(path: Path) -> BinaryIO:
        """Open for reading, unbuffered; raises :class:`OSError` as ``open`` does."""
        return path.open("rb", buffering=0)


def open_same(path: Path, file: str) -> BinaryIO:
    """Open the file with that device and inode; raises :class:`FileNotFoundError` where the path is now another file's.

    A rotation may happen between examining a path and reading from it.
    """
    opened = open_shared(path)
    try:
        if file_id(path.stat()) == file:
            return opened
        raise FileNotFoundError(errno.ENOENT, "replaced meanwhile", str(path))
    except OSError:
        opened.close()
        raise
