"""Files that survive a power cut, in the order in which they were written.

POSIX promises nothing about a file, a rename or a new folder until it is flushed: the file by its own ``fsync``, its
name by that of the folder around it. So:

==========================  =========================================================================
:func:`write`               new bytes into a temporary file, flush, rename, flush the folder
:func:`make_folder`         each missing folder, and after it the folder that now holds its name
:func:`remove`              unlink, flush the folder
==========================  =========================================================================

When one of them returns, its effect is on the disk; so an earlier one is there whenever a later one is. Nothing else
in this room writes to a disk. Windows flushes folders by itself and cannot be asked.
"""

from __future__ import annotations

import os
from pathlib import Path


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace ``path`` by ``data``, all or nothing.

    Raises :class:`OSError`, which names ``path``; the old file is then still there.
    """
    try:
        _write(path, data, mode)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def _write(path: Path, data: bytes, mode: int) -> None:
    temporary = path.with_name(path.name + ".tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), mode)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    os.replace(temporary, path)
    _sync_folder(path.parent)


def make_folder(path: Path, mode: int = 0o777) -> None:
    """Make a folder and those above it; one that is there is flushed too, for who made it may have been killed."""
    if not path.parent.is_dir():
        make_folder(path.parent)
    if not path.is_dir():
        os.mkdir(path, mode)
    _sync_folder(path.parent)


def remove(path: Path) -> None:
    """Delete a file that may be there."""
    if path.exists():
        os.unlink(path)
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
