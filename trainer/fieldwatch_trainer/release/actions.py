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

from fieldwatch_trainer.release import rollout
from fieldwatch_trainer.release.folder import Folder
from fieldwatch_trainer.release.keys import Keyring, ReleaseError, generate, save
from fieldwatch_trainer.release.repository import KEYS, LIFETIME, POLICY, ROLES, Expiry, File, Published, Repository

ROOT = "root.json"
"""Copy of the newest root beside ``metadata/``: what an installer embeds. Devices never fetch it."""


CHANNEL = r"[a-z0-9][a-z0-9._-]{0,63}"


@dataclass(frozen=True)
class Channel:
    """A channel with its policy."""

    name: str
    channel: str
    policy: Policy


def init(repo: Path, keys: Path, now: datetime | None = None) -> list[Expiry]:
    """Make an empty repository at ``repo`` and its keys at ``keys``.

    Raises :class:`ReleaseError` where either is there already, or where the keys would be served.
    """
    folder = Folder(repo)
    if keys.resolve().is_relative_to(repo.resolve()):
        raise ReleaseError(f"{keys} is inside {repo}, which a server offers to everybody: choose another --keys")
    if folder.exists:
        raise ReleaseError(f"{repo} is a repository already: its devices trust its root, so it is never made anew")
    made = generate(dict.fromkeys(name for names in KEYS.values() for name in names))
    repository = Repository.create({name: signer.public_key for name, signer in made.items()}, now or _now())
    repo.mkdir(parents=True, exist_ok=True)
    with folder.only_publisher():
        save(keys, made)
        _put(folder, repository, Keyring(made.values()))
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
    if not re.fullmatch(CHANNEL, channel):
        raise ReleaseError(
            f"{channel!r} cannot name a channel: small letters, digits, '.', '_' and '-', such as stable"
        )
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


def _now() -> datetime:
    return datetime.now(UTC)
