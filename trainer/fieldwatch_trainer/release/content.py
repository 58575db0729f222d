"""What a repository contains: bundles, policies, channels and the keys that count; and how each of them changes.

What it promises
    1. A published bundle never changes: the same path with other bytes is refused, whatever the channel.
    2. Every bundle of a name has a higher ``release_seq`` than all before it.
    3. Each change marks the role whose metadata it is in, and the roles whose signatures no longer reach their
       threshold: those are signed anew by :class:`.release.repository.Repository`; no other role is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from fieldwatch_contract.policy import BundleFacts, bundle_path
from pydantic import ValidationError
from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, TargetFile

from fieldwatch_trainer.release.errors import ReleaseError
from fieldwatch_trainer.release.keys import key_name
from fieldwatch_trainer.release.metadata import Expiry, File, Published, authority, holds, target_file
from fieldwatch_trainer.release.roles import POLICY, PROD, ROLES, delegator

CHANNELS = "x-fieldwatch-channels"
"""Field of the policy role's metadata: the channels that were created, sorted."""


class Content:
    """The metadata of each role, and the changes collected since they were loaded."""

    def __init__(self, roles: dict[str, Metadata[Any]]) -> None:
        self._roles = roles
        self._touched: set[str] = set()
        self._files: list[File] = []

    # ---- what there is -----------------------------------------------------------------------------------------

    def bundles(self, name: str | None = None) -> list[Published]:
        """Return the published bundles, of one name or of all, in order of release."""
        found = []
        for target, info in self._targets(PROD).items():
            if not target.endswith(".zip"):
                continue
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

    def changes(self, role: str) -> bool:
        """Tell whether a role will be signed anew."""
        return role in self._touched

    def waiting(self) -> tuple[File, ...]:
        """Return the new target files, which :meth:`.repository.Repository.seal` will put out."""
        return tuple(self._files)

    def files(self) -> list[TargetFile]:
        """Return all targets, bundles and policies."""
        return [info for role in (PROD, POLICY) for _, info in sorted(self._targets(role).items())]

    def policies(self) -> list[str]:
        """Return the target paths of all policies."""
        return sorted(self._targets(POLICY))

    def root(self) -> bytes:
        """Return the newest root: what an installer embeds."""
        return bytes(self._roles["root"].to_bytes())

    def channels(self) -> list[str]:
        """Return the channels that exist."""
        made = self._roles[POLICY].signed.unrecognized_fields.get(CHANNELS, [])
        used = (path.rpartition("/")[2].removesuffix(".json") for path in self.policies())
        return sorted({*map(str, made), *used})

    def expiries(self) -> list[Expiry]:
        """Return when each role's metadata ends, in the order of :data:`.release.roles.ROLES`."""
        return [Expiry(r, self._roles[r].signed.version, self._roles[r].signed.expires) for r in ROLES]

    def ends(self, role: str) -> datetime:
        """Return when a role's metadata ends."""
        expires: datetime = self._roles[role].signed.expires
        return expires

    def authority(self, role: str) -> tuple[list[Key], int]:
        """Return the keys that count for a role, and how many of them must sign."""
        return authority(self._roles[delegator(role)].signed, role)

    def signed_by(self, role: str) -> list[str]:
        """Return the names of the keys that have signed a role's metadata as it stands."""
        return [key_name(key) for key in self.authority(role)[0] if key.keyid in self._roles[role].signatures]

    def content(self, role: str) -> dict[str, Any]:
        """Return what a role's metadata says, without version and expiry."""
        found: dict[str, Any] = self._roles[role].signed.to_dict()
        return {key: value for key, value in found.items() if key not in {"version", "expires"}}

    # ---- changes -----------------------------------------------------------------------------------------------

    def add_bundle(self, name: str, version: str, kernel: int, data: bytes, security_floor: int = 0) -> Published:
        """Add a bundle, or find that it is there already with the same bytes; its file is then put out once more.

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
                self._files.append(target_file(self._targets(PROD)[path], data))
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
        self.put_target(PROD, path, data, facts.model_dump())
        return Published(path, digest, facts)

    def put_policy(self, path: str, data: bytes) -> None:
        """Replace a channel's policy file."""
        self.put_target(POLICY, path, data)

    def put_target(self, role: str, path: str, data: bytes, custom: dict[str, Any] | None = None) -> None:
        """Make a file a target of a delegated role."""
        info = TargetFile.from_data(path, data, ["sha256"])
        if custom is not None:
            info.unrecognized_fields["custom"] = custom
        self._targets(role)[path] = info
        self._files.append(target_file(info, data))
        self._touched.add(role)

    def set_channels(self, channels: Sequence[str]) -> None:
        """Say which channels exist; the policies of the others are no longer targets."""
        policy = self._roles[POLICY].signed
        policy.unrecognized_fields[CHANNELS] = sorted(channels)
        for path in self.policies():
            if path.rpartition("/")[2].removesuffix(".json") not in channels:
                del policy.targets[path]
        self._touched.add(POLICY)

    def set_keys(self, role: str, keys: Sequence[Key], threshold: int) -> None:
        """Say which keys count for a role (:mod:`.release.rekey` has the rules)."""
        holder = self._roles[delegator(role)].signed
        rule = holder.get_delegated_role(role)
        for keyid in list(rule.keyids):
            holder.revoke_key(keyid, role)
        for key in keys:
            holder.add_key(key, role)
        rule.threshold = threshold
        self._touched.add(delegator(role))
        self._touch_unsigned()

    def touch(self, role: str) -> None:
        """Sign a role anew with a new expiry although nothing in it changes."""
        self._touched.add(role)

    # ---- within ------------------------------------------------------------------------------------------------

    def _targets(self, role: str) -> dict[str, TargetFile]:
        targets: dict[str, TargetFile] = self._roles[role].signed.targets
        return targets

    def _touch_unsigned(self) -> None:
        """Sign anew what the keys that count have not signed."""
        for role in ROLES[1:]:
            if not holds(self._roles[delegator(role)].signed, role, self._roles[role]):
                self._touched.add(role)
