"""Where the files of a repository lie: in a folder of this machine, or in an object store (:mod:`.release.stores`).

Devices read the files one by one while somebody publishes, and two engineers may publish at the same moment. What
keeps both from harm is that almost nothing is ever written twice:

==========  ==========================  =========================================================================
way         for                         what it does
==========  ==========================  =========================================================================
``write``   targets, copies             replaces; targets are named by their hash, so the bytes are the same ones
``create``  ``metadata/N.role.json``    only where nothing is, or the same bytes; else :class:`.errors.Taken`
``swap``    ``metadata/timestamp.json`` only where the bytes are still those that were read; else ``Taken``
==========  ==========================  =========================================================================

Each is whole or not at all. Of two publications one swaps the timestamp; the other has put out files that nothing
refers to, is told so, and begins again over what is there now. A publisher that was cut off and comes back to life
later cannot harm either: its files are still those that it wrote, or its swap fails.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol, TypeAlias

from fieldwatch_trainer.release import disk
from fieldwatch_trainer.release.errors import ReleaseError, Taken

Where: TypeAlias = Path | str
"""A folder, or the URL of an object store with a bucket and a prefix."""


class Storage(Protocol):
    """See the module. ``where`` is how people call the place; names are relative to it, with ``/``."""

    where: str

    def read(self, name: str) -> bytes:
        """Return a file. Raises :class:`FileNotFoundError`, or what keeps it from being read."""

    def names(self, under: str) -> list[str]:
        """Return every file below a folder, sorted; none where there is no such folder."""

    def write(self, name: str, data: bytes) -> None:
        """Put a file out, whatever is there."""

    def create(self, name: str, data: bytes) -> None:
        """Put out a file that never changes. Raises :class:`.errors.Taken`."""

    def swap(self, name: str, data: bytes, old: bytes | None) -> None:
        """Replace ``old`` (None: nothing) by ``data``. Raises :class:`.errors.Taken`."""

    def only_publisher(self) -> AbstractContextManager[None]:
        """Keep others out for the length of the block, where the place knows how to."""


def place(text: str) -> Where:
    """Read what people call a place on the command line.

    >>> place("s3://models/updates/")
    's3://models/updates'
    >>> place("updates").name
    'updates'
    """
    return text.rstrip("/") if "://" in text else Path(text)


def storage_at(where: Where) -> Storage:
    """Return the storage at a place; nothing is read yet. Raises :class:`ReleaseError` for a store nobody knows."""
    if isinstance(where, Path):
        return Local(where)
    from fieldwatch_trainer.release import stores

    return stores.connect(where)


class Local:
    """A folder of this machine; what is written survives a power cut (:mod:`.release.disk`)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = str(path)
        self._made: set[Path] = set()

    def read(self, name: str) -> bytes:
        """Return a file."""
        return (self.path / name).read_bytes()

    def names(self, under: str) -> list[str]:
        """Return every file below a folder."""
        found = (path for path in (self.path / under).rglob("*") if path.is_file())
        return sorted(path.relative_to(self.path).as_posix() for path in found)

    def write(self, name: str, data: bytes) -> None:
        """Put a file out, and the folders that it needs."""
        for folder in reversed(Path(name).parents):
            if folder not in self._made:
                disk.make_folder(self.path / folder)
                self._made.add(folder)
        disk.write(self.path / name, data)

    def create(self, name: str, data: bytes) -> None:
        """Put out a file that never changes."""
        if (self.path / name).exists() and self.read(name) != data:
            raise Taken(self.where, name)
        self.write(name, data)

    def swap(self, name: str, data: bytes, old: bytes | None) -> None:
        """Replace a file that nobody has changed."""
        try:
            there = self.read(name)
        except FileNotFoundError:
            there = None
        if there != old:
            raise Taken(self.where, name)
        self.write(name, data)

    @contextmanager
    def only_publisher(self) -> Iterator[None]:
        """Keep every other publisher out; the system lifts the lock should this process die.

        Raises :class:`FileNotFoundError` where there is no such folder: a slip in --repo must not make one.
        """
        if not self.path.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.where)
        with (self.path / ".publisher").open("ab") as stream:
            try:
                _lock(stream.fileno())
            except OSError as error:
                raise ReleaseError(f"{self.where}: somebody else is publishing there now; try again") from error
            yield


if os.name == "nt":  # pragma: no cover
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]

else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
