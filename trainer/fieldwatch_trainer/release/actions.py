"""What release engineers do, one function a command: read the folder, change it by the rules, sign, put it out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fieldwatch_contract.bundle import BundleError, read_bundle
from fieldwatch_contract.policy import Policy, policy_path
from fieldwatch_contract.scoring import self_test
from pydantic import ValidationError
from tuf.api.exceptions import RepositoryError

from fieldwatch_trainer.release import disk, rollout
from fieldwatch_trainer.release.errors import ReleaseError
from fieldwatch_trainer.release.folder import Folder
from fieldwatch_trainer.release.keys import Keyring, generate, named, save
from fieldwatch_trainer.release.repository import Expiry, File, Published, Repository
from fieldwatch_trainer.release.roles import LIFETIME, NAMES, POLICY, ROLES

ROOT = "root.json"
"""Copy of the newest root beside ``metadata/``: what an installer embeds. Devices never fetch it."""


UNFINISHED = "unfinished"
"""Marks a folder of keys whose ``init`` has not put out a repository yet."""
CHANNEL = r"[a-z0-9][a-z0-9._-]{0,63}"


@dataclass(frozen=True)
class Channel:
    """A channel with its policy."""

    name: str
    channel: str
    policy: Policy


def init(
    repo: Path,
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
    if keys.resolve().is_relative_to(repo.resolve()):
        raise ReleaseError(f"{keys} is inside {repo}, which a server offers to everybody: choose another --keys")
    if folder.exists:
        raise ReleaseError(f"{repo} is a repository already: its devices trust its root, so it is never made anew")
    for channel in channels:
        _check_channel(channel)
    unfinished = keys / UNFINISHED
    if keys.is_dir() and not unfinished.exists() and any(keys.glob("*.pem")):
        raise ReleaseError(f"{keys} holds keys already: keys are never replaced; choose another folder by --keys")
    disk.make_folder(keys, 0o700)
    disk.write(unfinished, b"An init that was cut short; run it again to finish it.\n", 0o600)
    missing = [name for name in NAMES if not (keys / f"{name}.pem").exists()]
    save(keys, generate(missing), secret)
    ring = Keyring.load([keys])
    public = {name: named(ring.signer(keyid).public_key, name) for keyid, name in _names(ring).items()}
    repository = Repository.create(public, now or _now(), channels)
    disk.make_folder(repo)
    with folder.only_publisher():
        _put(folder, repository, ring)
    disk.remove(unfinished)
    return repository.expiries()


def publish(
    repo: Path,
    keys: Sequence[Path],
    bundle: Path,
    channel: str,
    bp: int | None = None,
    security_floor: int = 0,
    now: datetime | None = None,
) -> Published:
    """Publish a bundle in a channel for ``bp`` of 10,000 devices (None: see :func:`.release.rollout.offer`).

    The bundle must read, and reproduce its golden vectors on this machine. Raises :class:`ReleaseError`.
    """
    _check_channel(channel)
    try:
        data = bundle.read_bytes()
        opened = read_bundle(data)
        self_test(opened)
    except OSError as error:
        raise ReleaseError(f"{bundle}: cannot be read: {error.strerror}") from error
    except BundleError as error:
        raise ReleaseError(f"{bundle}: {error}") from error
    manifest = opened.manifest
    folder = Folder(repo)
    with folder.only_publisher():
        repository = folder.load(now or _now())
        ring = Keyring.load(keys)
        published = repository.add_bundle(manifest.name, manifest.version, manifest.kernel, data, security_floor)
        path = policy_path(manifest.name, channel)
        policy = _read_policy(folder, repository, path) or Policy()
        _write_policy(repository, path, rollout.offer(policy, published.target, published.sha256, bp))
        _put(folder, repository, ring)
    return published


def change_policy(
    repo: Path,
    keys: Sequence[Path],
    name: str,
    channel: str,
    edit: Callable[[Policy], Policy],
    now: datetime | None = None,
) -> Policy:
    """Edit a channel's policy (see :mod:`.release.rollout`) and put it out; needs no key of ``prod``."""
    folder = Folder(repo)
    with folder.only_publisher():
        repository = folder.load(now or _now())
        ring = Keyring.load(keys)
        path = policy_path(name, channel)
        policy = _read_policy(folder, repository, path)
        if policy is None:
            known = ", ".join(repository.policies()) or "none yet"
            raise ReleaseError(f"nothing is published for {name} in channel {channel}; policies: {known}")
        changed = edit(policy)
        _write_policy(repository, path, changed)
        _put(folder, repository, ring)
    return changed


def find(repo: Path, reference: str, now: datetime | None = None) -> Published:
    """Return the published bundle ``<name>/<version>``. Raises :class:`ReleaseError`."""
    name, _, version = reference.partition("/")
    bundles = Folder(repo).load(now or _now()).bundles(name)
    for bundle in bundles:
        if bundle.facts.version == version:
            return bundle
    known = ", ".join(f"{b.facts.name}/{b.facts.version}" for b in bundles) or "none"
    raise ReleaseError(f"no bundle {reference} (<name>/<version>) is published; of {name}: {known}")


def refresh(repo: Path, keys: Sequence[Path], everything: bool = False, now: datetime | None = None) -> list[Expiry]:
    """Sign snapshot and timestamp anew, and the policies past half of their life where their key is at hand.

    ``everything``: every role, which takes the offline keys: the yearly ceremony.
    """
    moment = now or _now()
    folder = Folder(repo)
    with folder.only_publisher():
        repository = folder.load(moment)
        folder.check(repository)
        ring = Keyring.load(keys)
        ends = {expiry.role: expiry.expires for expiry in repository.expiries()}
        if ends[POLICY] - moment < LIFETIME[POLICY] / 2 and repository.can_sign(POLICY, ring):
            repository.touch(POLICY)
        for role in ROLES if everything else ():
            repository.touch(role)
        _put(folder, repository, ring)
    return repository.expiries()


def channels(repo: Path, now: datetime | None = None) -> list[Channel]:
    """Return every channel with its policy."""
    folder = Folder(repo)
    repository = folder.load(now or _now())
    found = []
    for path in repository.policies():
        _, name, file = path.split("/")
        policy = _read_policy(folder, repository, path)
        assert policy is not None
        found.append(Channel(name, file.removesuffix(".json"), policy))
    return found


def ending(expiries: Sequence[Expiry], now: datetime | None = None) -> list[Expiry]:
    """Return the roles that want attention: ended, or less than a third of their life left and under 30 days."""
    moment = now or _now()
    limit = timedelta(days=30)
    return [e for e in expiries if e.expires - moment < min(limit, LIFETIME[e.role] / 3)]


def _read_policy(folder: Folder, repository: Repository, path: str) -> Policy | None:
    info = repository.target(path)
    if info is None:
        return None
    name = f"targets/{info.get_prefixed_paths()[0]}"
    data = folder.read(name)
    try:
        info.verify_length_and_hashes(data)
        return Policy.model_validate_json(data)
    except (RepositoryError, ValidationError) as error:
        raise ReleaseError(f"{folder.path / name}: damaged, restore it: {error}") from error


def _write_policy(repository: Repository, path: str, policy: Policy) -> None:
    repository.put_policy(path, policy.model_dump_json(indent=1).encode())


def _put(folder: Folder, repository: Repository, ring: Keyring) -> None:
    files = repository.seal(ring)
    roots = [File(ROOT, file.data) for file in files if file.path.endswith(".root.json")]
    folder.put(roots + files)


def _check_channel(channel: str) -> None:
    if not re.fullmatch(CHANNEL, channel):
        raise ReleaseError(
            f"{channel!r} cannot name a channel: small letters, digits, '.', '_' and '-', such as stable"
        )


def _names(ring: Keyring) -> dict[str, str]:
    return {keyid: holder.path.stem for keyid, holder in ring.holders.items()}


def _now() -> datetime:
    return datetime.now(UTC)
