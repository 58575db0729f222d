"""The repository as a folder of static files: read it whole, put files out one by one, one publisher at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from fieldwatch_trainer.release import disk
from fieldwatch_trainer.release.errors import ReleaseError
from fieldwatch_trainer.release.repository import File, Repository, State
from fieldwatch_trainer.release.roles import POLICY, PROD, ROLES


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
        return Repository.load(self.state(), now)

    def state(self) -> State:
        """Return the metadata that devices see, and every root."""
        roles = {"timestamp": self.read("metadata/timestamp.json")}
        try:
            version = Metadata[Timestamp].from_bytes(roles["timestamp"]).signed.snapshot_meta.version
            roles["snapshot"] = self.read(f"metadata/{version}.snapshot.json")
            snapshot = Metadata[Snapshot].from_bytes(roles["snapshot"]).signed
        except DeserializationError as error:
            raise ReleaseError(f"{self.path}: the metadata is damaged ({error}); restore the file") from error
        for role in ROLES[1:4]:
            meta = snapshot.meta.get(f"{role}.json")
            if meta is None:
                raise ReleaseError(f"{self.path}: the snapshot does not list {role}: not a repository made by init")
            roles[role] = self.read(f"metadata/{meta.version}.{role}.json")
        return State(self._roots(), roles)

    def check(self, repository: Repository) -> None:
        """Hold every bundle and policy against the metadata. Raises :class:`ReleaseError` for one that is lost."""
        for info in repository.files():
            name = f"targets/{info.get_prefixed_paths()[0]}"
            try:
                info.verify_length_and_hashes(self.read(name))
            except (RepositoryError, ReleaseError) as error:
                raise ReleaseError(
                    f"{self.path / name} is lost or damaged ({error}): devices cannot fetch it, so nothing is signed "
                    "over it. Restore the file, or publish the same bundle.zip once more"
                ) from error

    def known_files(self) -> set[str]:
        """Return every target that any kept metadata names; older policies stay for devices in mid-update."""
        found = set()
        for role in (PROD, POLICY):
            for path in (self.path / "metadata").glob(f"*.{role}.json"):
                try:
                    targets = Metadata[Targets].from_bytes(path.read_bytes()).signed.targets
                except DeserializationError:
                    continue
                found |= {f"targets/{info.get_prefixed_paths()[0]}" for info in targets.values()}
        return found

    def target(self, repository: Repository, path: str) -> bytes:
        """Return a policy file, held against the metadata. Raises what tuf raises where it differs."""
        info = repository.target(path)
        assert info is not None
        data = self.read(f"targets/{info.get_prefixed_paths()[0]}")
        info.verify_length_and_hashes(data)
        return data

    def read(self, name: str) -> bytes:
        """Return a file's bytes. Raises :class:`ReleaseError` where it cannot be read."""
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise ReleaseError(f"{self.path / name}: cannot be read: {error.strerror}") from error

    def put(self, files: Iterable[File]) -> None:
        """Write the files in the given order, each whole or not at all, and each before the next (:mod:`.disk`)."""
        made: set[Path] = set()
        for file in files:
            path = self.path / file.path
            for folder in reversed(Path(file.path).parents):
                if folder not in made:
                    disk.make_folder(self.path / folder)
                    made.add(folder)
            disk.write(path, file.data)

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

    def _roots(self) -> tuple[bytes, ...]:
        found = [self.read("metadata/1.root.json")]
        while (self.path / "metadata" / f"{len(found) + 1}.root.json").is_file():
            found.append(self.read(f"metadata/{len(found) + 1}.root.json"))
        return tuple(found)


if os.name == "nt":  # pragma: no cover
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]

else:
    import fcntl

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
