"""The repository as a folder of static files: read it whole, put files out one by one, one publisher at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import Metadata, Root, Snapshot, Timestamp
from tuf.api.serialization import DeserializationError

from fieldwatch_trainer.release.keys import ReleaseError
from fieldwatch_trainer.release.repository import ROLES, File, Repository


class Folder:
    """A repository on disk with ``metadata/`` and ``targets/``; any static web server can offer it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        """Whether a repository has been put out here."""
        return (self.path / "metadata" / "timestamp.json").is_file()

    def load(self, now: datetime) -> Repository:
        """Read what devices see: from the timestamp down, so that remains of an interrupted publication are not seen.

        Raises :class:`ReleaseError` for a folder that is no repository or is damaged.
        """
        if not self.exists:
            raise self._missing()
        files = {"timestamp": self.read("metadata/timestamp.json")}
        try:
            timestamp = Metadata[Timestamp].from_bytes(files["timestamp"]).signed
            version = timestamp.snapshot_meta.version
            files["snapshot"] = self.read(f"metadata/{version}.snapshot.json")
            snapshot = Metadata[Snapshot].from_bytes(files["snapshot"]).signed
            files["root"] = self._newest_root()
        except DeserializationError as error:
            raise ReleaseError(f"{self.path}: the metadata is damaged ({error}); restore the file") from error
        for role in ROLES[1:4]:
            meta = snapshot.meta.get(f"{role}.json")
            if meta is None:
                raise ReleaseError(f"{self.path}: the snapshot does not list {role}: not a repository made by init")
            files[role] = self.read(f"metadata/{meta.version}.{role}.json")
        return Repository.load(files, now)

    def read(self, name: str) -> bytes:
        """Return a file's bytes. Raises :class:`ReleaseError` where it cannot be read."""
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise ReleaseError(f"{self.path / name}: cannot be read: {error.strerror}") from error

    def put(self, files: Iterable[File]) -> None:
        """Write the files in the given order, each whole or not at all."""
        for file in files:
            path = self.path / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(path.name + ".tmp")
            with temporary.open("wb") as stream:
                stream.write(file.data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)

    @contextmanager
    def only_publisher(self) -> Iterator[None]:
        """Keep every other publisher out; the system lifts the lock should this process die.

        Two at once would write different files under one version, and devices would refuse both. Raises
        :class:`ReleaseError` where there is no such folder: a slip in --repo must not make one.
        """
        if not self.path.is_dir():
            raise self._missing()
        with (self.path / ".publisher").open("ab") as stream:
            try:
                _lock(stream.fileno())
            except OSError as error:
                raise ReleaseError(f"{self.path}: somebody else is publishing there now; try again") from error
            yield

    def _missing(self) -> ReleaseError:
        return ReleaseError(
            f"no repository at {self.path} (metadata/timestamp.json is missing): "
            "name it by --repo, or make one by 'fieldwatch-release init DIR'"
        )

    def _newest_root(self) -> bytes:
        version = 1
        while (self.path / "metadata" / f"{version + 1}.root.json").is_file():
            version += 1
        data = self.read(f"metadata/{version}.root.json")
        Metadata[Root].from_bytes(data)
        return data


if os.name == "nt":  # pragma: no cover
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]

else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
