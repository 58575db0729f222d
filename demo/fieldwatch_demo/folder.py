"""The demo's folder: made anew at each start, but only where the demo made it, and only while no other demo uses it.

A folder is ours if it holds :data:`MARKER`; anything else that is not empty is left alone. The operating system keeps
the marker locked while the demo lives: a second demo in the same folder is refused, and a killed one leaves nothing
to clean up.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import BinaryIO

MARKER = ".fieldwatch-demo"
SUBFOLDERS = ("agents", "logs", "lake", "run", "repository", "keys", "cloud", "output")


class FolderError(Exception):
    """The folder cannot be used; the message says why and what to do."""


def prepare(folder: Path) -> BinaryIO:
    """Empty ``folder`` and make its sub-folders; return the lock, held until it is closed.

    Raises :class:`FolderError` where the folder is not the demo's, or is in use.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise FolderError(f"{folder} is not empty and was not made by the demo: choose another --dir")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # keys and tokens will be in it
        lock = (folder / MARKER).open("ab")
    except OSError as error:
        raise FolderError(f"{folder}: {error.strerror}") from error
    try:
        _lock(lock)
    except OSError as error:
        lock.close()
        raise FolderError(f"another demo runs in {folder}: end it, or choose another --dir") from error
    for path in folder.iterdir():
        if path.name == MARKER:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    for name in SUBFOLDERS:
        (folder / name).mkdir()
    return lock


def _lock(file: BinaryIO) -> None:
    """Lock without waiting; raises :class:`OSError` where another process holds it."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
