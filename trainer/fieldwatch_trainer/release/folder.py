"""The repository as a folder of static files: read it whole, put files out one by one, in an order that is safe.

The folder may be on this machine or in an object store (:mod:`.release.storage`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from fieldwatch_trainer.release.errors import ReleaseError
from fieldwatch_trainer.release.metadata import TIMESTAMP, File, State
from fieldwatch_trainer.release.repository import Repository
from fieldwatch_trainer.release.roles import POLICY, PROD, ROLES
from fieldwatch_trainer.release.storage import Where, storage_at

_VERSIONED = re.compile(r"metadata/([0-9]+)\.([a-z-]+)\.json")


class Folder:
    """A repository with ``metadata/`` and ``targets/``; any static web server or object store can offer it."""

    def __init__(self, where: Where) -> None:
        self.files = storage_at(where)
        self.where = self.files.where

    @property
    def exists(self) -> bool:
        """Whether a repository has been put out here."""
        return self.optional(TIMESTAMP) is not None

    def load(self, now: datetime) -> Repository:
        """Read what devices see: from the timestamp down, so that remains of an interrupted publication are not seen.

        Raises :class:`ReleaseError` for a folder that is no repository or is damaged.
        """
        return Repository.load(self.state(), now)

    def state(self) -> State:
        """Return the metadata that devices see, every root, and which version numbers are used up."""
        timestamp = self.optional(TIMESTAMP)
        if timestamp is None:
            raise self._missing()
        roles = {"timestamp": timestamp}
        try:
            version = Metadata[Timestamp].from_bytes(timestamp).signed.snapshot_meta.version
            roles["snapshot"] = self.read(f"metadata/{version}.snapshot.json")
            snapshot = Metadata[Snapshot].from_bytes(roles["snapshot"]).signed
        except DeserializationError as error:
            raise ReleaseError(f"{self.where}: the metadata is damaged ({error}); restore the file") from error
        for role in ROLES[1:4]:
            meta = snapshot.meta.get(f"{role}.json")
            if meta is None:
                raise ReleaseError(f"{self.where}: the snapshot does not list {role}: not a repository made by init")
            roles[role] = self.read(f"metadata/{meta.version}.{role}.json")
        taken = self.taken()
        return State(
            tuple(self.read(f"metadata/{n + 1}.root.json") for n in range(max(1, taken["root"]))), roles, taken
        )

    def taken(self) -> dict[str, int]:
        """Return the highest version number of each role that a file bears; of roots the last without a gap."""
        found: dict[str, set[int]] = {role: {0} for role in ROLES}
        for name in self.files.names("metadata"):
            if (match := _VERSIONED.fullmatch(name)) and match[2] in found:
                found[match[2]].add(int(match[1]))
        roots = next(n for n in range(1, len(found["root"]) + 1) if n not in found["root"]) - 1
        return {role: max(numbers) for role, numbers in found.items()} | {"root": roots}

    def check(self, repository: Repository) -> None:
        """Hold every bundle and policy against the metadata. Raises :class:`ReleaseError` for one that is lost."""
        for info in repository.files():
            name = f"targets/{info.get_prefixed_paths()[0]}"
            try:
                info.verify_length_and_hashes(self.read(name))
            except (RepositoryError, ReleaseError) as error:
                raise ReleaseError(
                    f"{self.where}/{name} is lost or damaged ({error}): devices cannot fetch it, so nothing is signed "
                    "over it. Restore the file, or publish the same bundle.zip once more"
                ) from error

    def known_files(self) -> set[str]:
        """Return every target that any kept metadata names; older policies stay for devices in mid-update."""
        found = set()
        for name in self.files.names("metadata"):
            match = _VERSIONED.fullmatch(name)
            if match is None or match[2] not in {PROD, POLICY}:
                continue
            try:
                targets = Metadata[Targets].from_bytes(self.read(name)).signed.targets
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
            return self.files.read(name)
        except OSError as error:
            raise ReleaseError(f"{self.where}/{name}: cannot be read: {error.strerror}") from error

    def optional(self, name: str) -> bytes | None:
        """Return a file's bytes, None where there is none. Raises :class:`ReleaseError` where it cannot be read."""
        try:
            return self.files.read(name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ReleaseError(f"{self.where}/{name}: cannot be read: {error.strerror}") from error

    def put(self, files: Iterable[File], over: bytes | None) -> None:
        """Write the files in the given order, each whole or not at all, and each before the next.

        ``over``: the timestamp over which they were made, None for a new repository. Raises :class:`.errors.Taken`
        where somebody else has published since; devices then see nothing of these files.
        """
        for file in files:
            if file.path == TIMESTAMP:
                self.files.swap(file.path, file.data, over)
            elif _VERSIONED.fullmatch(file.path):
                self.files.create(file.path, file.data)
            else:
                self.files.write(file.path, file.data)

    @contextmanager
    def only_publisher(self) -> Iterator[None]:
        """Keep every other publisher out, where the place knows how to. Raises :class:`ReleaseError`."""
        try:
            with self.files.only_publisher():
                yield
        except FileNotFoundError as error:
            if error.filename != self.where:
                raise
            raise self._missing() from error

    def _missing(self) -> ReleaseError:
        return ReleaseError(
            f"no repository at {self.where} (metadata/timestamp.json is missing): "
            "name it by --repo, or make one by 'fieldwatch-release init DIR'"
        )
