"""Signing at two desks: a file that carries a change from one signer to the next, by git, mail or stick.

A proposal holds the repository's metadata as it is, the changed metadata with the signatures so far, new bundles, and
for a bundle what the release job shall then do with it (channel and share; that signature is the job's own).

Nothing in the file is believed. The second desk has its own copy of ``root.json``; from there it verifies the metadata
so far, compares the changed with it, and tells the difference in words (:func:`read`):

1. Roots lead from the trusted one to the newest, each signed by the one before; all other roles are signed by them.
2. Each changed role follows the version that is there.
3. Whatever differs is one of: bundles added to ``prod`` (read, tested, facts equal to the manifest), keys and
   thresholds. Anything else (a bundle taken away, another path, another field) is refused: what cannot be said in
   words is not signed.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fieldwatch_contract.bundle import Bundle, BundleError, read_bundle
from fieldwatch_contract.policy import Policy, bundle_path, policy_path
from fieldwatch_contract.scoring import self_test
from pydantic import ValidationError
from securesystemslib.formats import encode_canonical
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, TargetFile

from fieldwatch_trainer.release import beside, effects, provenance, rekey, rollout
from fieldwatch_trainer.release.effects import Fleet
from fieldwatch_trainer.release.errors import Refused, ReleaseError
from fieldwatch_trainer.release.metadata import File, Published, State
from fieldwatch_trainer.release.repository import Repository
from fieldwatch_trainer.release.roles import PROD, ROLES, TABLE

PASSED_OVER = 8
"""Version numbers that a proposal may pass over: each publication that is cut short leaves one."""


@dataclass(frozen=True)
class Wish:
    """What the release job shall do with a bundle once it is signed; ``bp`` of 10,000 devices, None: all."""

    channel: str
    bp: int | None = None
    lift: bool = False

    def apply(self, policy: Policy, target: str, sha256: str) -> Policy:
        """Return the channel's policy with the bundle in it. Raises :class:`Refused`."""
        if policy.halt and not self.lift:
            raise Refused(
                f"channel {self.channel} is halted: nothing would start. Revoke or roll back what was bad, then "
                "publish with --lift"
            )
        return rollout.offer(policy.model_copy(update={"halt": False}), target, sha256, self.bp)


@dataclass(frozen=True)
class Proposal:
    """See the module. ``policies``: the policy files as they are, by target path; ``files``: new targets."""

    state: State
    drafts: Mapping[str, bytes]
    policies: Mapping[str, bytes] = field(default_factory=dict)
    files: tuple[File, ...] = ()
    wish: Wish | None = None

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        wish = None if self.wish is None else vars(self.wish)
        value = {"fieldwatch": "proposal", "v": 1, "roots": [_text(root) for root in self.state.roots]}
        value |= {"taken": dict(self.state.taken)}
        value |= {"now": _texts(self.state.roles), "drafts": _texts(self.drafts), "policies": _texts(self.policies)}
        value |= {"files": _texts({file.path: file.data for file in self.files}), "wish": wish}
        return json.dumps(value, indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Proposal:
        """Read a proposal. Raises :class:`ReleaseError` for anything else."""
        try:
            value = json.loads(data)
            if (value["fieldwatch"], value["v"]) != ("proposal", 1):
                raise ReleaseError("this proposal is of another version; bring this program up to date")
            taken = {role: int(number) for role, number in value.get("taken", {}).items()}
            state = State(tuple(b64decode(root) for root in value["roots"]), _bytes(value["now"]), taken)
            files = tuple(File(path, data) for path, data in _bytes(value["files"]).items())
            wish = None if value["wish"] is None else Wish(**value["wish"])
            return cls(state, _bytes(value["drafts"]), _bytes(value["policies"]), files, wish)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ReleaseError(f"not a proposal as 'sign' makes it ({type(error).__name__}: {error})") from error


def looks_like_one(data: bytes) -> bool:
    """Tell a proposal from a bundle."""
    return data[:64].lstrip().startswith(b"{")


@dataclass(frozen=True)
class Reading:
    """What a proposal says once nothing in it has to be believed; ``words`` tell a person."""

    after: Repository
    words: tuple[str, ...]
    bundle: Published | None


def read(proposal: Proposal, trusted: bytes, fleet: Fleet, now: datetime) -> Reading:
    """Verify a proposal from a trusted root and tell what it does. Raises :class:`ReleaseError`, :class:`Refused`."""
    _anchored(proposal.state.roots, trusted)
    if not proposal.drafts:
        raise ReleaseError("the proposal changes nothing")
    before, after = Repository.load(proposal.state, now), Repository.load(proposal.state, now)
    for expiry in before.expiries():
        if proposal.state.taken.get(expiry.role, 0) > expiry.version + PASSED_OVER:
            raise Refused(f"the proposal passes over more version numbers of {expiry.role} than cut publications leave")
    after.adopt(proposal.drafts)
    words = rekey.tell(before, after)
    _only_keys(before, after)
    added, said = _added(before, after, proposal, now)
    words += said
    if added is not None and proposal.wish is not None:
        words += _wished(before, proposal, added, fleet, now)
    for role in proposal.drafts:
        words.append(f"Role {role} then holds until {after.ends(role):%Y-%m-%d}.")
    return Reading(after, tuple(words), added)


def describe(bundle: Bundle, sha256: str, seq: int, floor: int) -> list[str]:
    """Say what a bundle is."""
    manifest = bundle.manifest
    models = ", ".join(f"{m.name} (threshold {m.threshold:g})" for m in manifest.models)
    said = [
        f"Bundle {manifest.name}/{manifest.version}, release {seq}, sha256 {sha256}: for devices of type "
        f"{manifest.device_type} with {len(manifest.sensors)} sensors; models: {models}; "
        f"trained on data until {manifest.trained_until or 'unknown'}. It reproduces its golden vectors here.",
    ]
    if floor:
        said.append(f"Devices that run it never again take a release below {floor}.")
    return said


def _anchored(roots: tuple[bytes, ...], trusted: bytes) -> None:
    version = Metadata.from_bytes(trusted).signed.version
    if version > len(roots):
        raise Refused(f"your root.json is version {version}, the proposal knows {len(roots)}: it is for an older state")
    if roots[version - 1] != trusted:
        raise Refused("the proposal is for another repository, or somebody interferes: its root is not your root.json")


def _only_keys(before: Repository, after: Repository) -> None:
    """Refuse differences that no sentence tells."""
    for role in ROLES:
        if not TABLE[role].offline:
            continue
        old, new = before.content(role), after.content(role)
        if role == PROD:
            old.pop("targets"), new.pop("targets")
        for value in (old, new):
            holder = value.get("delegations", value) if role != PROD else {}
            holder.pop("keys", None)
            rules = holder.get("roles", [])
            for rule in rules.values() if isinstance(rules, dict) else rules:
                rule.pop("keyids"), rule.pop("threshold")
        if old != new:
            raise Refused(f"the proposal changes more in {role} than bundles and keys: do not sign it")
    root, targets = (after.authority(role) for role in ("root", "targets"))
    if [key.keyid for key in root[0]] != [key.keyid for key in targets[0]] or root[1] != targets[1]:
        raise Refused("the proposal gives root and targets different keys: do not sign it")
    for role in rekey.MEMBERS:
        for key in after.authority(role)[0]:
            plain = {name: value for name, value in key.to_dict().items() if name in {"keytype", "scheme", "keyval"}}
            if hashlib.sha256(str(encode_canonical(plain)).encode()).hexdigest() != key.keyid:
                raise Refused(f"the proposal shows a key of {role} under an id that is not its own: do not sign it")
        if after.authority(role)[1] < (2 if TABLE[role].offline else 1):
            raise Refused(f"the proposal lets one key alone sign {role}: do not sign it")


def _added(
    before: Repository, after: Repository, proposal: Proposal, now: datetime
) -> tuple[Published | None, list[str]]:
    old, new = before.content(PROD)["targets"], after.content(PROD)["targets"]
    if lost := sorted(path for path in old if new.get(path) != old[path]):
        raise Refused(f"the proposal takes away or changes {', '.join(lost)}: bundles never change, do not sign it")
    come = [item for item in after.bundles() if item.target not in old]
    fresh = set(new) - set(old) - {path for item in come for path in beside.paths(item.target)}
    if fresh != {item.target for item in come} or len(come) > 1:
        raise Refused("the proposal brings in more than one bundle, or something that is none: do not sign it")
    if not come:
        if proposal.files or proposal.wish:
            raise Refused("the proposal carries a bundle that it does not sign: do not sign it")
        return None, []
    made, facts = come[0], come[0].facts
    if made.target != bundle_path(facts.name, facts.version):
        raise Refused(f"{made.target} is not the place of {facts.name}/{facts.version}")
    info = TargetFile.from_dict(dict(new[made.target]), made.target)
    files = {file.path: file.data for file in proposal.files}
    data = files.pop(f"targets/{info.get_prefixed_paths()[0]}", b"")
    try:
        bundle = read_bundle(data, hashlib.sha256(data).hexdigest())
        self_test(bundle)
    except BundleError as error:
        raise Refused(f"the bundle in the proposal does not hold: {error}") from error
    if hashlib.sha256(data).hexdigest() != made.sha256 or info.length != len(data):
        raise Refused("the bundle in the proposal is not the one that it signs: do not sign it")
    manifest = bundle.manifest
    if new[made.target] != {"length": len(data), "hashes": {"sha256": made.sha256}, "custom": facts.model_dump()}:
        raise Refused("the proposal says more of the bundle than its facts: do not sign it")
    if (facts.name, facts.version, facts.kernel) != (manifest.name, manifest.version, manifest.kernel):
        raise Refused(f"the facts speak of {facts.name}/{facts.version}, the bundle's manifest of another")
    if facts.release_seq <= max((b.facts.release_seq for b in before.bundles(facts.name)), default=0):
        raise Refused(f"release number {facts.release_seq} is taken: do not sign it")
    said = describe(bundle, made.sha256, facts.release_seq, facts.security_floor)
    return made, said + _beside(new, made, bundle, files)


def _beside(new: Mapping[str, Any], made: Published, bundle: Bundle, files: dict[str, bytes]) -> list[str]:
    """Tell what stands beside the bundle, and refuse any file that is left."""
    said = []
    if provenance.path_of(made.target) not in new:
        said = ["Nothing states where it comes from: there is no provenance beside it."]
    for path in beside.paths(made.target):
        stated = new.get(path)
        if stated is None:
            continue
        info = TargetFile.from_dict(dict(stated), path)
        data = files.pop(f"targets/{info.get_prefixed_paths()[0]}", b"")
        try:
            info.verify_length_and_hashes(data)
            said += beside.read(path, data, made.target, bundle)
        except (RepositoryError, ReleaseError) as error:
            raise Refused(f"{path} in the proposal does not hold: {error}") from error
        if set(stated) != {"length", "hashes"}:
            raise Refused(f"the proposal says more of {path} than its hash: do not sign it")
    if files:
        raise Refused(f"the proposal carries {', '.join(files)}, which it does not sign: do not sign it")
    return said


def _wished(before: Repository, proposal: Proposal, made: Published, fleet: Fleet, now: datetime) -> list[str]:
    assert proposal.wish is not None
    path = policy_path(made.facts.name, proposal.wish.channel)
    policy = Policy()
    if (info := before.target(path)) is not None:
        data = proposal.policies.get(path, b"")
        try:
            info.verify_length_and_hashes(data)
            policy = Policy.model_validate_json(data)
        except (RepositoryError, ValidationError) as error:
            raise Refused(f"the policy {path} in the proposal is not the one that is signed") from error
    changed = proposal.wish.apply(policy, made.target, made.sha256)
    share = changed.releases[0].bp / 100
    said = [f"Then, in channel {proposal.wish.channel}, for {share:g} % of its devices:"]
    return said + effects.tell(policy, changed, fleet, int(now.timestamp() * 1e6))


def _text(data: bytes) -> str:
    return b64encode(data).decode()


def _texts(values: Mapping[str, bytes]) -> dict[str, str]:
    return {name: _text(data) for name, data in values.items()}


def _bytes(values: Mapping[str, str]) -> dict[str, bytes]:
    return {name: b64decode(text) for name, text in values.items()}
