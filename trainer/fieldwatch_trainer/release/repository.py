"""The rules of the update repository, without I/O: metadata in, metadata and target files out.

What it contains and how that changes: :class:`.release.content.Content`. Here is how it begins and how it is signed.

What it promises
    1. A role that changes gets the next version, a new expiry and signatures of at least its threshold; a role that
       does not change keeps its bytes, so its signatures need no key.
    2. The snapshot lists every role by version, length and hash, the timestamp the snapshot; both follow any change.
    3. :meth:`Repository.seal` gives the files in the order in which they may be put out: nothing refers to what is
       not there yet, and ``timestamp.json`` makes all of it visible at once. A version number that a file bears, be it
       left by a publication that was cut short, is not used again: no file is ever written twice.
    4. A new root is signed by the keys of the old one as well, so that every device that was ever installed follows.
       Devices may hold either: what the root names is signed by the keys of both where they are at hand, and the root
       is then put out after all of it, so that at no moment a device finds what it cannot verify. Where the old keys
       are gone it is put out first; one that was put out alone, because the power went, is taken up.
    5. Nothing is signed by a clock that is behind everything that was signed here: devices would find it ended.

Which roles there are and with what keys they begin: :mod:`.release.roles`. How keys change: :mod:`.release.rekey`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from securesystemslib.signer import Key
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from fieldwatch_trainer.release.content import CHANNELS, Content
from fieldwatch_trainer.release.errors import ReleaseError
from fieldwatch_trainer.release.keys import Keyring, key_name
from fieldwatch_trainer.release.metadata import TIMESTAMP, File, State, authority, holds, listed, parse
from fieldwatch_trainer.release.roles import LIFETIME, POLICY, PROD, ROLES, TABLE, delegator


class Repository(Content):
    """All metadata of one repository, the changes collected since it was loaded, and the way to sign them."""

    def __init__(self, roles: dict[str, Metadata[Any]], now: datetime, state: State | None = None) -> None:
        super().__init__(roles)
        self._before: Root | None = None if state is None else deepcopy(roles["root"].signed)
        self._now = now
        self._taken: Mapping[str, int] = {} if state is None else state.taken
        self.over = None if state is None else state.roles["timestamp"]
        """The timestamp over which the changes are made; None for a new repository."""
        self._adopted: set[str] = set()

    # ---- how it begins -----------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        keys: Mapping[str, Key],
        now: datetime,
        channels: Sequence[str] = (),
        taken: Mapping[str, int] | None = None,
    ) -> Repository:
        """Start a repository; ``keys`` are the public keys by the names in :data:`.release.roles.TABLE`.

        ``taken``: see :class:`State`, where an attempt was cut short.
        """
        root = Root(consistent_snapshot=True)
        delegations = Delegations({}, {})
        targets, policy = Targets(delegations=delegations), Targets()
        for name, role in TABLE.items():
            holder: Root | Targets = root if delegator(name) == "root" else targets
            if role.paths:
                assert delegations.roles is not None
                delegations.roles[name] = DelegatedRole(name, [], role.threshold, True, [role.paths])
            for key in role.keys:
                holder.add_key(keys[key], name)
            holder.get_delegated_role(name).threshold = role.threshold
        policy.unrecognized_fields[CHANNELS] = sorted(channels)
        signed = {"root": root, "targets": targets, PROD: Targets(), POLICY: policy}
        signed |= {"snapshot": Snapshot(), "timestamp": Timestamp()}
        made = cls({role: Metadata(signed[role]) for role in ROLES}, now)
        for metadata in made._roles.values():
            metadata.signed.version = 0
        made._touched = set(ROLES)
        made._taken = taken or {}
        return made

    def begun(self, root: bytes) -> None:
        """Take up the first root of an attempt that was cut short. Raises :class:`ReleaseError` for other keys."""
        metadata = parse("root", root)
        ours, theirs = (m.signed.to_dict() for m in (self._roles["root"], metadata))
        if any(ours[key] != theirs[key] for key in ("keys", "roles")):
            raise ReleaseError("there is a root already, of other keys: its devices trust it, so it is never made anew")
        self._roles["root"] = metadata
        self._touched.discard("root")

    @classmethod
    def load(cls, state: State, now: datetime) -> Repository:
        """Take up a repository. Raises :class:`ReleaseError` where a file is damaged or its signatures do not hold."""
        roots = [parse("root", data) for data in state.roots]
        roles = {"root": roots[-1]} | {role: parse(role, state.roles[role]) for role in ROLES[1:]}
        for old, new in pairwise(roots):
            if new.signed.version != old.signed.version + 1 or not holds(old.signed, "root", new):
                raise ReleaseError(f"{new.signed.version}.root.json is not signed by the keys of the root before it")
        loaded = cls(roles, now, state)
        for role in ROLES:
            holder = roles[delegator(role)].signed
            if holds(holder, role, roles[role]):
                continue
            if delegator(role) == "root" and len(roots) > 1 and holds(roots[-2].signed, role, roles[role]):
                loaded.touch(role)  # the root was put out, the power went, the rest was not
                continue
            raise ReleaseError(f"{role}: its signatures do not hold; devices would refuse it: restore the file")
        listed(roles, state)
        return loaded

    def begin_anew(self, keys: Mapping[str, Sequence[Key]], thresholds: Mapping[str, int] | None = None) -> None:
        """Become a repository of the same content under other keys by role: from its own first root on."""
        for role in ROLES:
            self.set_keys(role, keys[role], (thresholds or {}).get(role, self.authority(role)[1]))
            self._roles[role].signed.version = 0
        self._before, self.over, self._taken = None, None, {}
        self._touched = set(ROLES)

    def follow(self, source: Repository) -> None:
        """Take over another repository's bundles as people signed them there, and its channels, to be signed here."""
        keys, threshold = source.authority(PROD)
        if ([key.keyid for key in keys], threshold) != (
            [k.keyid for k in self.authority(PROD)[0]],
            self.authority(PROD)[1],
        ):
            self.set_keys(PROD, keys, threshold)
        if source.ends(PROD) != self.ends(PROD) or source.content(PROD) != self.content(PROD) or PROD in self._touched:
            self._roles[PROD] = deepcopy(source._roles[PROD])
            self._touched.add(PROD)
            self._adopted.add(PROD)
        policy, theirs = self._roles[POLICY].signed, source._roles[POLICY].signed
        policy.targets, policy.unrecognized_fields = deepcopy(theirs.targets), deepcopy(theirs.unrecognized_fields)
        self._touched.add(POLICY)

    # ---- signatures --------------------------------------------------------------------------------------------

    def can_sign(self, role: str, ring: Keyring) -> bool:
        """Tell whether the ring holds enough keys of a role."""
        keys, threshold = self.authority(role)
        return sum(key.keyid in ring for key in keys) >= threshold

    def would_sign(self, role: str, ring: Keyring) -> bool:
        """Tell whether a key at hand counts for a role and has not signed it."""
        signed = self._roles[role].signatures
        return any(key.keyid in ring and key.keyid not in signed for keys, _ in self._rules(role) for key in keys)

    def knows(self, role: str, ring: Keyring) -> bool:
        """Tell whether a key at hand counts for a role, whether it has signed or not."""
        return any(key.keyid in ring for keys, _ in self._rules(role) for key in keys)

    def shows(self, drafts: Mapping[str, bytes]) -> bool:
        """Tell whether what others have drafted is out already, all of it."""
        known = drafts.keys() <= self._roles.keys() and not self._touched
        return known and all(parse(role, data).signed == self._roles[role].signed for role, data in drafts.items())

    def unsigned(self, role: str) -> str:
        """Say who must still sign a drafted role; empty where it is complete."""
        said = []
        for keys, threshold in self._rules(role):
            signed = [key for key in keys if key.keyid in self._roles[role].signatures]
            if len(signed) < threshold:
                rest = ", ".join(key_name(key) for key in keys if key not in signed)
                said.append(f"{role} wants {threshold - len(signed)} more of {rest}")
        return "; ".join(dict.fromkeys(said))

    def draft(self, ring: Keyring) -> dict[str, bytes]:
        """Sign what people sign with the keys at hand, be they too few, and return it; others sign elsewhere."""
        self._tell_time()
        for role in ROLES:
            if role in self._touched and TABLE[role].offline:
                if role not in self._adopted:
                    self._bump(role)
                    self._adopted.add(role)
                self._add_signatures(role, ring)
        return {role: self._roles[role].to_bytes() for role in ROLES if role in self._adopted}

    def adopt(self, drafts: Mapping[str, bytes], files: Sequence[File] = ()) -> None:
        """Take over what others have drafted and signed, to be sealed here.

        Raises :class:`ReleaseError` where it was made for another state of this repository.
        """
        for role, data in drafts.items():
            metadata, now = parse(role, data), self._roles[role].signed.version
            if metadata.signed.type != self._roles[role].signed.type or not TABLE[role].offline:
                raise ReleaseError(f"a proposal does not carry {role} of type {metadata.signed.type}")
            if metadata.signed == self._roles[role].signed and (len(drafts) > 1 or self._touched):
                continue  # it is out already: the publication was cut short after it
            if metadata.signed.version not in {now + 1, self._next(role)}:
                raise ReleaseError(
                    f"{role} is at version {now} here, the proposal was made for {metadata.signed.version - 1}: the "
                    "repository has moved on; make the proposal anew"
                )
            self._roles[role] = metadata
            self._touched.add(role)
            self._adopted.add(role)
        self._touch_unsigned()
        self._files += files

    def seal(self, ring: Keyring, valid: timedelta | None = None) -> list[File]:
        """Version, sign and verify what changed; return the files in the order in which to put them out.

        ``valid``: how long what the release job signs holds, where that is not as in :mod:`.release.roles`.
        Raises :class:`ReleaseError` for a missing key, or where a role that must hold for devices to accept the
        result has expired.
        """
        self._tell_time()
        self._touched |= {"snapshot", "timestamp"}
        for role in ROLES:
            if role not in self._touched and self._roles[role].signed.expires <= self._now:
                names = ", ".join(key_name(key) for key in self.authority(role)[0])
                raise ReleaseError(
                    f"{role} expired at {self._roles[role].signed.expires:%Y-%m-%d %H:%M} UTC, devices accept nothing: "
                    f"bring its keys ({names}) and run 'refresh --all'; unless this computer's clock is wrong "
                    f"({self._now:%Y-%m-%d %H:%M} UTC)"
                )
        out = list(self._files)
        for role in ROLES:
            if role in self._touched:
                self._sign(role, ring, None if TABLE[role].offline else valid)
                out.append(self._file(role))
        if "root" in self._touched and self._before is not None and self._holds_under(self._before):
            out.sort(key=lambda file: file.path.endswith(".root.json"))
        self._before = deepcopy(self._roles["root"].signed)
        self._touched.clear()
        self._adopted.clear()
        self._files.clear()
        return out

    # ---- within ------------------------------------------------------------------------------------------------

    def _tell_time(self) -> None:
        """Raise :class:`ReleaseError` where everything here was signed in this clock's future."""
        signed = min(self._roles[role].signed.expires - LIFETIME[role] for role in ROLES)
        if self._before is not None and self._now < signed - timedelta(days=1):
            raise ReleaseError(
                f"this computer's clock says {self._now:%Y-%m-%d %H:%M} UTC, and everything here was signed after "
                f"{signed:%Y-%m-%d}: set the clock, or devices would take what is signed now for ended"
            )

    def _rules(self, role: str) -> list[tuple[list[Key], int]]:
        """Return each set of keys, with its threshold, that must sign a role."""
        rules = [self.authority(role)]
        if role == "root" and self._before is not None:
            rules.append(authority(self._before, role))
        return rules

    def _bump(self, role: str, valid: timedelta | None = None) -> None:
        metadata = self._roles[role]
        metadata.signed.version = self._next(role)
        metadata.signed.expires = self._now + (valid or LIFETIME[role])
        metadata.signatures.clear()

    def _next(self, role: str) -> int:
        """Return the first version number that no file bears; roots have no gap."""
        used = 0 if role == "root" else self._taken.get(role, 0)
        return int(max(self._roles[role].signed.version, used)) + 1

    def _holds_under(self, root: Root) -> bool:
        """Tell whether a device that knows only this root accepts what is to be put out."""
        return all(holds(root, role, self._roles[role]) for role in ROLES if delegator(role) == "root" != role)

    def _sign(self, role: str, ring: Keyring, valid: timedelta | None) -> None:
        metadata = self._roles[role]
        if role not in self._adopted:
            self._bump(role, valid)
        for keys, threshold in self._rules(role):
            _expect(role, keys, threshold, ring, metadata)
        self._add_signatures(role, ring)
        holders = [self._roles[delegator(role)].signed] + ([self._before] if role == "root" and self._before else [])
        if not all(holds(holder, role, metadata) for holder in holders):
            raise ReleaseError(f"{role}: its signatures do not hold; devices would refuse it")

    def _add_signatures(self, role: str, ring: Keyring) -> list[str]:
        """Sign with every key at hand that counts and has not signed; return their names."""
        wanted = [key for keys, _ in self._rules(role) for key in keys]
        if "root" in self._touched and self._before is not None and delegator(role) == "root":
            wanted += authority(self._before, role)[0]  # for a device between the two
        new = {key.keyid: key for key in wanted if key.keyid in ring}
        found = [key for keyid, key in new.items() if keyid not in self._roles[role].signatures]
        for key in found:
            try:
                self._roles[role].sign(ring.signer(key.keyid), append=True)
            except UnsignedMetadataError as error:
                why = error.__cause__
                said = str(why) or type(why).__name__
                raise ReleaseError(f"{key_name(key)} does not sign {role}: {said}; nothing is put out") from error
        return [key_name(key) for key in found]

    def _file(self, role: str) -> File:
        data, version = self._roles[role].to_bytes(), self._roles[role].signed.version
        if role == "snapshot":
            self._roles["timestamp"].signed.snapshot_meta = MetaFile.from_data(version, data, ["sha256"])
        elif role not in {"root", "timestamp"}:
            self._roles["snapshot"].signed.meta[f"{role}.json"] = MetaFile.from_data(version, data, ["sha256"])
        return File(TIMESTAMP if role == "timestamp" else f"metadata/{version}.{role}.json", data)


def _expect(role: str, keys: Sequence[Key], threshold: int, ring: Keyring, metadata: Metadata[Any]) -> None:
    """Raise :class:`ReleaseError` that names the missing keys where too few are at hand or have signed already."""
    have = [key_name(key) for key in keys if key.keyid in ring or key.keyid in metadata.signatures]
    if len(have) < threshold:
        names = [key_name(key) for key in keys]
        raise ReleaseError(
            f"role {role} is signed by {threshold} of {', '.join(names)}; "
            f"at hand: {', '.join(have) or 'none of them'}. Name the folder of the missing key file "
            f"(such as {next(n for n in names if n not in have)}.pem) by a further --keys"
        )
