"""Metadata of a repository as plain values, and the questions that are asked of it: who counts, whose signatures hold.

TUF's own types say what a file contains; here is what goes between folder and rules (:class:`State` in, :class:`File`
out), and what people are shown (:class:`Published`, :class:`Expiry`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fieldwatch_contract.policy import BundleFacts
from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import Key
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, TargetFile, Targets
from tuf.api.serialization import DeserializationError

from fieldwatch_trainer.release.errors import ReleaseError
from fieldwatch_trainer.release.roles import ROLES

TIMESTAMP = "metadata/timestamp.json"
"""The one file that is replaced; all other metadata carry their version in the name."""


@dataclass(frozen=True)
class File:
    """A file to put out; ``path`` is relative to the repository."""

    path: str
    data: bytes


@dataclass(frozen=True)
class State:
    """The bytes of a repository's metadata: every root from version 1 on, and the other roles by name.

    ``taken``: the highest version number of each role that a file bears.
    """

    roots: tuple[bytes, ...]
    roles: Mapping[str, bytes]
    taken: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """A bundle in the repository."""

    target: str
    sha256: str
    facts: BundleFacts


@dataclass(frozen=True)
class Expiry:
    """When a role's metadata ends, and what it is at now."""

    role: str
    version: int
    expires: datetime


def parse(role: str, data: bytes) -> Metadata[Any]:
    """Read a role's metadata. Raises :class:`ReleaseError` where the file is damaged."""
    try:
        return Metadata.from_bytes(data)
    except DeserializationError as error:
        raise ReleaseError(f"{role}: the metadata is damaged ({error}); restore the file") from error


def listed(roles: Mapping[str, Metadata[Any]], state: State) -> None:
    """Hold each file against what the one above it says of it."""
    for role in (*ROLES[1:4], "snapshot"):
        signed = roles["timestamp"].signed if role == "snapshot" else roles["snapshot"].signed
        meta = signed.snapshot_meta if role == "snapshot" else signed.meta[f"{role}.json"]
        try:
            meta.verify_length_and_hashes(state.roles[role])
        except RepositoryError as error:
            raise ReleaseError(f"{role}: not the file that was signed ({error}); restore it") from error


def target_file(info: TargetFile, data: bytes) -> File:
    """Return the file of a target, under the name that its hash gives it."""
    return File(f"targets/{info.get_prefixed_paths()[0]}", data)


def authority(holder: Root | Targets, role: str) -> tuple[list[Key], int]:
    """Return the keys that count for a role by its holder's metadata, and how many of them must sign."""
    rule = holder.get_delegated_role(role)
    return [holder.get_key(keyid) for keyid in rule.keyids], rule.threshold


def holds(holder: Root | Targets, role: str, metadata: Metadata[Any]) -> bool:
    """Tell whether a role's signatures reach the threshold that its holder's metadata names."""
    try:
        holder.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, VerificationError, UnverifiedSignatureError):
        return False
    return True
