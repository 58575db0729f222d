"""What release engineers do, one function a command: read the folder, change it by the rules, sign, put it out.

Each change is worked out first and told in words (``words`` of what a function returns): what differs afterwards, on
how many devices. With ``dry_run`` that is all. A command that would do something else than its name says is
:class:`.errors.Refused`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from fieldwatch_contract.bundle import read_bundle
from fieldwatch_contract.policy import SHARES, Policy, policy_path

from fieldwatch_trainer.release import beside, disk, effects, proposal, rollout
from fieldwatch_trainer.release.effects import Fleet
from fieldwatch_trainer.release.errors import Refused, ReleaseError
from fieldwatch_trainer.release.folder import Folder
from fieldwatch_trainer.release.keys import Keyring, generate, named, never_served, save
from fieldwatch_trainer.release.metadata import Expiry, File, Published
from fieldwatch_trainer.release.proposal import Wish
from fieldwatch_trainer.release.repository import Repository
from fieldwatch_trainer.release.roles import NAMES, PROD
from fieldwatch_trainer.release.storage import Where
from fieldwatch_trainer.release.verify import offered
from fieldwatch_trainer.release.work import (
    ANYBODY,
    ROOT,
    Changed,
    changing,
    known_channel,
    micros,
    named_well,
    offer_bundle,
    open_bundle,
    place_beside,
    put,
    read_policy,
    utc_now,
    write_policy,
)

FIRST = "metadata/1.root.json"
UNFINISHED = "unfinished"
"""Marks a folder of keys whose ``init`` has not put out a repository yet."""


@dataclass(frozen=True)
class Channel:
    """A channel with its policy."""

    name: str
    channel: str
    policy: Policy


@dataclass(frozen=True)
class Offered(Published):
    """A bundle that was put into a channel for ``bp`` of 10,000 devices."""

    bp: int = field(default=SHARES, compare=False)
    words: tuple[str, ...] = field(default=(), compare=False)


# ---- a repository and its bundles ------------------------------------------------------------------------------


def init(
    repo: Where,
    keys: Path,
    now: datetime | None = None,
    channels: Sequence[str] = ("stable",),
    secret: bytes | None = None,
) -> list[Expiry]:
    """Make a repository at ``repo`` without a bundle, and its keys at ``keys``, encrypted where there is a ``secret``.

    The keys are on the disk before anything is signed by them. An ``init`` that was cut short is finished by the next
    one with the keys that it has made. Raises :class:`ReleaseError` where either is there already, or where the keys
    would be served.
    """
    folder = Folder(repo)
    unfinished = keys / UNFINISHED
    if unfinished.exists() and folder.exists:
        found = folder.load(now or utc_now())
        if found.can_sign("root", Keyring.load([keys])):
            return _finished(folder, keys, found)
    may_init(repo, keys, channels)
    disk.make_folder(keys, 0o700)
    disk.write(unfinished, b"An init that was cut short; run it again to finish it.\n", 0o600)
    missing = [name for name in NAMES if not (keys / f"{name}.pem").exists()]
    save(keys, generate(missing), secret)
    ring = Keyring.load([keys])
    public = {h.path.stem: named(ring.signer(keyid).public_key, h.path.stem) for keyid, h in ring.holders.items()}
    taken = folder.taken()
    repository = Repository.create(public, now or utc_now(), channels, taken)
    begun = [File(FIRST, folder.read(FIRST))] if taken["root"] else []
    if begun:
        repository.begun(begun[0].data)
    if isinstance(repo, Path):
        disk.make_folder(repo)
    with folder.only_publisher():
        put(folder, repository, [*begun, *repository.seal(ring)])
    return _finished(folder, keys, repository)


def _finished(folder: Folder, keys: Path, repository: Repository) -> list[Expiry]:
    disk.write(keys / ROOT, folder.read(ROOT))
    disk.remove(keys / UNFINISHED)
    return repository.expiries()


def may_init(repo: Where, keys: Path, channels: Sequence[str]) -> None:
    """Raise :class:`ReleaseError` where :func:`init` must not be done."""
    if isinstance(repo, Path) and keys.resolve().is_relative_to(repo.resolve()):
        raise ReleaseError(f"{keys} is inside {repo}, which a server offers to everybody: choose another --keys")
    never_served(keys)
    if Folder(repo).exists:
        raise ReleaseError(f"{repo} is a repository already: its devices trust its root, so it is never made anew")
    for channel in channels:
        named_well(channel)
    if keys.is_dir() and not (keys / UNFINISHED).exists() and any(keys.glob("*.pem")):
        raise ReleaseError(f"{keys} holds keys already: keys are never replaced; choose another folder by --keys")


def publish(
    repo: Where,
    keys: Sequence[Path],
    bundle: Path,
    channel: str,
    bp: int | None = None,
    security_floor: int = 0,
    now: datetime | None = None,
    *,
    lift: bool = False,
    accept: Sequence[str] = (),
    model_key: Path | None = None,
    fleet: Fleet = ANYBODY,
    dry_run: bool = False,
) -> Offered:
    """Publish a bundle in a channel for ``bp`` of 10,000 devices (None: see :func:`.release.rollout.offer`).

    The bundle must read, and reproduce its golden vectors on this machine; its gates must have passed, or be named in
    ``accept`` (:mod:`.release.admission`). ``lift`` ends a halt of the channel in the same step; ``model_key`` signs
    the bundle for auditors (:mod:`.release.signature`). Raises :class:`ReleaseError`, :class:`Refused`.
    """
    data, opened = open_bundle(bundle)
    with changing(repo, now, dry_run) as (folder, repository, moment):
        published, policy, changed = offer_bundle(
            folder, repository, data, opened, Wish(channel, bp, lift), security_floor
        )
        words = proposal.describe(opened, published.sha256, published.facts.release_seq, security_floor)
        words += place_beside(repository, published, data, opened, bundle.with_name("run.json"), accept, model_key)
        words += effects.tell(policy, changed, fleet, micros(moment))
        if not dry_run:
            put(folder, repository, repository.seal(Keyring.load(keys)))
    share = next(r.bp for r in changed.releases if r.sha256 == published.sha256)
    return Offered(published.target, published.sha256, published.facts, share, tuple(words))


def promote(
    repo: Where,
    keys: Sequence[Path],
    reference: str,
    channel: str,
    source: str,
    source_root: bytes,
    source_channel: str,
    bp: int | None = None,
    now: datetime | None = None,
    *,
    fleet: Fleet = ANYBODY,
    dry_run: bool = False,
) -> Offered:
    """Publish here, byte for byte, what a channel of another repository (or of this one) has proven.

    Proven is what its whole channel may run, not halted, not revoked. Raises :class:`ReleaseError`, :class:`Refused`.
    """
    name, _, version = reference.partition("/")
    data, others, policy = offered(source, source_root, name, version, source_channel, now)
    where = f"{reference} in channel {source_channel} of {source}"
    release = next((r for r in policy.releases if effects.bundle_of(r.target) == reference), None)
    if release is None or release.sha256 in policy.revoke or policy.halt:
        state = "not offered" if release is None else "halted" if policy.halt else "revoked"
        raise Refused(f"{where} is {state}")
    if release.bp < SHARES:
        raise Refused(f"{where} has {release.bp / 100:g} % of the devices only: it is proven when it has all of them")
    with changing(repo, now, dry_run) as (folder, repository, moment):
        opened = read_bundle(data)
        published, before, changed = offer_bundle(folder, repository, data, opened, Wish(channel, bp))
        words = proposal.describe(opened, published.sha256, published.facts.release_seq, 0)
        for path, other in others.items() if repository.changes(PROD) else ():
            repository.put_target(PROD, path, other)
            words += beside.read(path, other, published.target, opened)
        words += effects.tell(before, changed, fleet, micros(moment))
        if not dry_run:
            put(folder, repository, repository.seal(Keyring.load(keys)))
    share = next(r.bp for r in changed.releases if r.sha256 == published.sha256)
    return Offered(published.target, published.sha256, published.facts, share, tuple(words))


def find(repo: Where, reference: str, now: datetime | None = None) -> Published:
    """Return the published bundle ``<name>/<version>``. Raises :class:`ReleaseError`."""
    name, _, version = reference.partition("/")
    bundles = Folder(repo).load(now or utc_now()).bundles(name)
    for bundle in bundles:
        if bundle.facts.version == version:
            return bundle
    known = ", ".join(f"{b.facts.name}/{b.facts.version}" for b in bundles) or "none"
    raise ReleaseError(f"no bundle {reference} (<name>/<version>) is published; of {name}: {known}")


# ---- who runs what ---------------------------------------------------------------------------------------------


def change_policy(
    repo: Where,
    keys: Sequence[Path],
    name: str,
    channel: str,
    edit: Callable[[Policy], Policy],
    now: datetime | None = None,
    *,
    fleet: Fleet = ANYBODY,
    dry_run: bool = False,
) -> Changed:
    """Edit a channel's policy (see :mod:`.release.rollout`) and put it out; needs no key of ``prod``."""
    with changing(repo, now, dry_run) as (folder, repository, moment):
        path = policy_path(name, channel)
        policy = read_policy(folder, repository, path)
        if policy is None:
            known = ", ".join(repository.policies()) or "none yet"
            raise ReleaseError(f"nothing is published for {name} in channel {channel}; policies: {known}")
        changed = edit(policy)
        words = effects.tell(policy, changed, fleet, micros(moment)) + _kept(policy, changed)
        if changed == policy:
            words.insert(0, "That is how it stands already.")
        elif not dry_run:
            write_policy(repository, path, changed)
            put(folder, repository, repository.seal(Keyring.load(keys)))
    return Changed(tuple(words), changed)


def back(repo: Where, name: str, channel: str, version: str | None) -> Callable[[Policy], Policy]:
    """Return the edit that brings a channel back to ``version`` (None: the release proven before the newest).

    Raises :class:`Refused` where devices would not take it.
    """
    folder = Folder(repo)
    repository = folder.load(utc_now())
    bundles = {bundle.sha256: bundle for bundle in repository.bundles(name)}

    def edit(policy: Policy) -> Policy:
        goal = rollout.proven(policy)
        if version is not None:
            found = find(repo, f"{name}/{version}")
        elif goal is not None:
            found = bundles[goal.sha256]
        else:
            raise Refused(f"channel {channel} has no earlier release for all: name one by --to")
        above = [b for b in bundles.values() if b.facts.release_seq > found.facts.release_seq]
        floor = max((bundle.facts.security_floor for bundle in above), default=0)
        if floor > found.facts.release_seq:
            raise Refused(
                f"devices that ran a later bundle never again take a release below {floor} (its security floor), and "
                f"{name}/{found.facts.version} is release {found.facts.release_seq}: publish a repaired bundle instead"
            )
        return rollout.rollback(policy, found.target, found.sha256)

    return edit


def channels(repo: Where, now: datetime | None = None) -> list[Channel]:
    """Return every channel that has a policy, with it."""
    folder = Folder(repo)
    repository = folder.load(now or utc_now())
    found = []
    for path in repository.policies():
        _, name, file = path.split("/")
        policy = read_policy(folder, repository, path)
        assert policy is not None
        found.append(Channel(name, file.removesuffix(".json"), policy))
    return found


def create_channel(
    repo: Where, keys: Sequence[Path], channel: str, now: datetime | None = None, *, dry_run: bool = False
) -> Changed:
    """Make a channel into which bundles can be published. Raises :class:`Refused` where it is there."""
    named_well(channel)
    with changing(repo, now, dry_run) as (folder, repository, _):
        if channel in repository.channels():
            raise Refused(f"there is a channel {channel} already")
        repository.set_channels([*repository.channels(), channel])
        if not dry_run:
            put(folder, repository, repository.seal(Keyring.load(keys)))
    return Changed((f"Channel {channel} is empty: devices in it (updates.channel) get nothing until a publication.",))


def delete_channel(
    repo: Where,
    keys: Sequence[Path],
    channel: str,
    now: datetime | None = None,
    *,
    force: bool = False,
    dry_run: bool = False,
) -> Changed:
    """Delete a channel; one with releases only by ``force``. Raises :class:`Refused`."""
    with changing(repo, now, dry_run) as (folder, repository, _):
        known_channel(repository, channel)
        used = [item.name for item in channels(repo, now) if item.channel == channel and item.policy.releases]
        after = f"its devices of {', '.join(used)} keep what they run and get no update any more"
        if used and not force:
            raise Refused(f"channel {channel} has releases: {after}. Move the devices first, or say --force")
        repository.set_channels([other for other in repository.channels() if other != channel])
        if not dry_run:
            put(folder, repository, repository.seal(Keyring.load(keys)))
    return Changed((f"Channel {channel} is gone" + (f": {after}." if used else "; nobody used it."),))


def _kept(before: Policy, after: Policy) -> list[str]:
    """Say where a smaller share takes nothing away."""
    old = {release.sha256: release.bp for release in before.releases}
    less = [r for r in after.releases if r.bp < old.get(r.sha256, 0)]
    return [
        f"Devices that run {effects.bundle_of(r.target)} already keep it; 'rollback' or 'revoke' brings them back."
        for r in less
    ]
