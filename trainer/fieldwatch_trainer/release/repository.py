"""The rules of the update repository, without I/O: metadata in, metadata and target files out.

What it promises
    1. A published bundle never changes: the same path with other bytes is refused, whatever the channel.
    2. Every bundle of a name has a higher ``release_seq`` than all before it.
    3. A role that changes gets the next version, a new expiry and signatures of at least its threshold; a role that
       does not change keeps its bytes, so its signatures need no key.
    4. The snapshot lists every role by version, length and hash, the timestamp the snapshot; both follow any change.
    5. :meth:`Repository.seal` gives the files in the order in which they may be put out: nothing refers to what is
       not there yet, and ``timestamp.json``, which makes all of it visible at once, is last.

Who signs what (TUF, one flat level of delegations, consistent snapshots)

==============  ==========================  =========  ========  =======================================
role            keys                        threshold  lifetime  what for
==============  ==========================  =========  ========  =======================================
``root``        root-1…3, offline           2          395 d     says which keys count
``targets``     root-1…3, offline           2          395 d     the two delegations below, nothing else
``prod``        prod-1…2, release engineers 2          365 d     ``prod/*/*``: bundles, what may run
``prod-policy`` policy-1, release job       1          30 d      ``policy/*/*``: who runs it now
``snapshot``    snapshot-1, online          1          14 d      no mixing of old and new
``timestamp``   timestamp-1, online         1          7 d       no freezing
==============  ==========================  =========  ========  =======================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fieldwatch_contract.policy import BundleFacts, bundle_path
from pydantic import ValidationError
from securesystemslib.signer import Key
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from fieldwatch_trainer.release.keys import Keyring, ReleaseError

PROD = "prod"
POLICY = "prod-policy"
ROLES = ("root", "targets", PROD, POLICY, "snapshot", "timestamp")
LIFETIME = {
    "root": timedelta(days=395),
    "targets": timedelta(days=395),
    PROD: timedelta(days=365),
    POLICY: timedelta(days=30),
    "snapshot": timedelta(days=14),
    "timestamp": timedelta(days=7),
}
KEYS = {
    "root": ("root-1", "root-2", "root-3"),
    "targets": ("root-1", "root-2", "root-3"),
    PROD: ("prod-1", "prod-2"),
    POLICY: ("policy-1",),
    "snapshot": ("snapshot-1",),
    "timestamp": ("timestamp-1",),
}
THRESHOLD = {"root": 2, "targets": 2, PROD: 2, POLICY: 1, "snapshot": 1, "timestamp": 1}
OFFLINE = ("root-1", "root-2", "root-3", "prod-1", "prod-2")
"""Keys that never stay on a machine that is on line."""


@dataclass(frozen=True)
class File:
    """A file to put out; ``path`` is relative to the repository."""

    path: str
    data: bytes


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


class Repository:
    """All metadata of one repository, and the changes collected since it was loaded."""

    def __init__(self, roles: dict[str, Metadata[Any]], now: datetime) -> None:
        self._roles = roles
        self._now = now
        self._touched: set[str] = set()
        self._files: list[File] = []

    @classmethod
    def create(cls, keys: Mapping[str, Key], now: datetime) -> Repository:
        """Start a repository; ``keys`` are the public keys by the names in :data:`KEYS`."""
        root = Root(consistent_snapshot=True)
        for role in ("root", "targets", "snapshot", "timestamp"):
            for name in KEYS[role]:
                root.add_key(keys[name], role)
            root.roles[role].threshold = THRESHOLD[role]
        delegated = {
            role: DelegatedRole(role, [keys[n].keyid for n in KEYS[role]], THRESHOLD[role], True, [pattern])
            for role, pattern in ((PROD, "prod/*/*"), (POLICY, "policy/*/*"))
        }
        known = {keys[n].keyid: keys[n] for role in delegated for n in KEYS[role]}
        signed = {
            "root": root,
            "targets": Targets(delegations=Delegations(known, delegated)),
            PROD: Targets(),
            POLICY: Targets(),
            "snapshot": Snapshot(),
            "timestamp": Timestamp(),
        }
        made = cls({role: Metadata(signed[role]) for role in ROLES}, now)
        for metadata in made._roles.values():
            metadata.signed.version = 0
        made._touched = set(ROLES)
        return made

    @classmethod
    def load(cls, files: Mapping[str, bytes], now: datetime) -> Repository:
        """Take up a repository from the current bytes of each role.

        Raises :class:`ReleaseError` where a file is damaged or its signatures do not hold.
        """
        roles: dict[str, Metadata[Any]] = {}
        for role in ROLES:
            try:
                roles[role] = Metadata.from_bytes(files[role])
            except DeserializationError as error:
                raise ReleaseError(f"{role}: the metadata is damaged ({error}); restore the file") from error
        loaded = cls(roles, now)
        for role in ROLES:
            loaded._verify(role)
        return loaded

    # ---- what there is -----------------------------------------------------------------------------------------

    def bundles(self, name: str | None = None) -> list[Published]:
        """Return the published bundles, of one name or of all, in order of release."""
        found = []
        for target, info in self._targets(PROD).items():
            try:
                facts = BundleFacts.model_validate(info.custom)
            except ValidationError as error:
                raise ReleaseError(f"{target}: its custom facts do not hold: {error.errors()[0]['msg']}") from error
            if name in {None, facts.name}:
                found.append(Published(target, info.hashes["sha256"], facts))
        return sorted(found, key=lambda item: (item.facts.name, item.facts.release_seq))

    def target(self, path: str) -> TargetFile | None:
        """Return what the metadata says of a policy file."""
        return self._targets(POLICY).get(path)

    def policies(self) -> list[str]:
        """Return the target paths of all policies."""
        return sorted(self._targets(POLICY))

    def expiries(self) -> list[Expiry]:
        """Return when each role's metadata ends, in the order of :data:`ROLES`."""
        return [Expiry(r, self._roles[r].signed.version, self._roles[r].signed.expires) for r in ROLES]

    # ---- changes -----------------------------------------------------------------------------------------------

    def add_bundle(self, name: str, version: str, kernel: int, data: bytes, security_floor: int = 0) -> Published:
        """Add a bundle, or find that it is there already with the same bytes.

        Raises :class:`ReleaseError` where the version is taken by other bytes, or where a bundle that is there already
        would need another security floor: its facts are signed once.
        """
        path = bundle_path(name, version)
        digest = hashlib.sha256(data).hexdigest()
        for known in self.bundles(name):
            if known.target == path and known.sha256 == digest:
                if security_floor not in {0, known.facts.security_floor}:
                    raise ReleaseError(
                        f"{name}/{version} is published already, with security floor {known.facts.security_floor}, and "
                        f"that is signed for good: for a floor of {security_floor} publish a bundle with a new version"
                    )
                return known
            if known.target == path:
                raise ReleaseError(
                    f"{name}/{version} is published already with other bytes (sha256 {known.sha256[:12]}…, this file "
                    f"has {digest[:12]}…): a version is never used twice; train or name the bundle anew"
                )
        seq = max((known.facts.release_seq for known in self.bundles(name)), default=0) + 1
        if security_floor > seq:
            raise ReleaseError(f"security floor {security_floor} is above this release ({seq}): no device could run it")
        facts = BundleFacts(name=name, version=version, release_seq=seq, kernel=kernel, security_floor=security_floor)
        self._put(PROD, path, data, facts.model_dump())
        return Published(path, digest, facts)

    def put_policy(self, path: str, data: bytes) -> None:
        """Replace a channel's policy file."""
        self._put(POLICY, path, data, None)

    def touch(self, role: str) -> None:
        """Sign a role anew with a new expiry although nothing in it changes."""
        self._touched.add(role)

    def can_sign(self, role: str, ring: Keyring) -> bool:
        """Tell whether the ring holds enough keys of a role."""
        keys, threshold = self._authority(role)
        return sum(key.keyid in ring.signers for key in keys) >= threshold

    def seal(self, ring: Keyring) -> list[File]:
        """Version, sign and verify what changed; return the files in the order in which to put them out.

        Raises :class:`ReleaseError` for a missing key, or where a role that must hold for devices to accept the
        result has expired.
        """
        self._touched |= {"snapshot", "timestamp"}
        for role in ROLES:
            if role not in self._touched and self._roles[role].signed.expires <= self._now:
                raise ReleaseError(
                    f"{role} expired at {self._roles[role].signed.expires:%Y-%m-%d %H:%M} UTC, devices accept nothing: "
                    f"bring its keys ({', '.join(KEYS[role])}) and run 'refresh --all'"
                )
        out = list(self._files)
        for role in ROLES:
            if role in self._touched:
                out.append(self._sign(role, ring))
        self._touched.clear()
        self._files.clear()
        return out

    # ---- within ------------------------------------------------------------------------------------------------

    def _targets(self, role: str) -> dict[str, TargetFile]:
        targets: dict[str, TargetFile] = self._roles[role].signed.targets
        return targets

    def _put(self, role: str, path: str, data: bytes, custom: dict[str, Any] | None) -> None:
        info = TargetFile.from_data(path, data, ["sha256"])
        if custom is not None:
            info.unrecognized_fields["custom"] = custom
        self._targets(role)[path] = info
        self._files.append(File(f"targets/{info.get_prefixed_paths()[0]}", data))
        self._touched.add(role)

    def _sign(self, role: str, ring: Keyring) -> File:
        metadata = self._roles[role]
        metadata.signed.version += 1
        metadata.signed.expires = self._now + LIFETIME[role]
        keys, threshold = self._authority(role)
        metadata.signatures.clear()
        for signer in ring.choose(role, keys, threshold):
            metadata.sign(signer, append=True)
        self._verify(role)
        data = metadata.to_bytes()
        version = metadata.signed.version
        if role == "snapshot":
            self._roles["timestamp"].signed.snapshot_meta = MetaFile.from_data(version, data, ["sha256"])
        elif role not in {"root", "timestamp"}:
            self._roles["snapshot"].signed.meta[f"{role}.json"] = MetaFile.from_data(version, data, ["sha256"])
        name = "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"
        return File(f"metadata/{name}", data)

    def _authority(self, role: str) -> tuple[list[Key], int]:
        delegator = self._roles["targets" if role in {PROD, POLICY} else "root"].signed
        rule = delegator.get_delegated_role(role)
        return [delegator.get_key(keyid) for keyid in rule.keyids], rule.threshold

    def _verify(self, role: str) -> None:
        delegator = self._roles["targets" if role in {PROD, POLICY} else "root"].signed
        metadata = self._roles[role]
        try:
            delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except RepositoryError as error:
            raise ReleaseError(f"{role}: its signatures do not hold ({error}); devices would refuse it") from error
