"""What the verbs have in common: a repository under its lock, a bundle put into a channel, files put out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path

from fieldwatch_contract.bundle import Bundle, BundleError, read_bundle
from fieldwatch_contract.policy import Policy, policy_path
from fieldwatch_contract.scoring import self_test
from pydantic import ValidationError
from tuf.api.exceptions import RepositoryError

from fieldwatch_trainer import record
from fieldwatch_trainer.release import admission, effects, mlbom, provenance, signature
from fieldwatch_trainer.release.effects import Fleet
from fieldwatch_trainer.release.errors import Refused, ReleaseError
from fieldwatch_trainer.release.folder import Folder
from fieldwatch_trainer.release.metadata import TIMESTAMP, File, Published
from fieldwatch_trainer.release.proposal import Wish
from fieldwatch_trainer.release.repository import Repository
from fieldwatch_trainer.release.roles import PROD
from fieldwatch_trainer.release.storage import Where

ROOT = "root.json"
"""Copy of the newest root beside ``metadata/``: what an installer embeds. Devices never fetch it."""
CHANNEL = r"[a-z0-9][a-z0-9._-]{0,63}"
ANYBODY = Fleet()


@dataclass(frozen=True)
class Changed:
    """A change and what it does; ``policy`` where it is one of a channel's."""

    words: tuple[str, ...]
    policy: Policy | None = None


@contextmanager
def changing(repo: Where, now: datetime | None, dry_run: bool) -> Iterator[tuple[Folder, Repository, datetime]]:
    """Load the repository, under its lock where it will be changed; give the moment too."""
    folder, moment = Folder(repo), now or utc_now()
    if dry_run:
        yield folder, folder.load(moment), moment
        return
    with folder.only_publisher():
        yield folder, folder.load(moment), moment


def offer_bundle(
    folder: Folder, repository: Repository, data: bytes, opened: Bundle, wish: Wish, security_floor: int = 0
) -> tuple[Published, Policy, Policy]:
    """Add the bundle and edit the channel's policy; return the bundle, the policy so far and the new one."""
    named_well(wish.channel)
    known_channel(repository, wish.channel)
    manifest = opened.manifest
    published = repository.add_bundle(manifest.name, manifest.version, manifest.kernel, data, security_floor)
    path = policy_path(manifest.name, wish.channel)
    policy = read_policy(folder, repository, path) or Policy()
    top = next((r for r in policy.releases if r.sha256 not in policy.revoke), None)
    seqs = {bundle.sha256: bundle.facts.release_seq for bundle in repository.bundles(manifest.name)}
    if top is not None and published.facts.release_seq < seqs.get(top.sha256, 0):
        reference = f"{manifest.name}/{manifest.version}"
        raise Refused(
            f"{reference} (release {published.facts.release_seq}) is older than {effects.bundle_of(top.target)} "
            f"(release {seqs[top.sha256]}) in channel {wish.channel}: publishing it again would change nothing. To go "
            f"back: "
            f"'rollback {manifest.name} --channel {wish.channel} --to {manifest.version}'"
        )
    changed = wish.apply(policy, published.target, published.sha256)
    write_policy(repository, path, changed)
    return published, policy, changed


def place_beside(
    repository: Repository,
    published: Published,
    data: bytes,
    opened: Bundle,
    run: Path,
    accept: Sequence[str] = (),
    model_key: Path | None = None,
) -> list[str]:
    """Admit a bundle that is new here; put its provenance, its ML-BOM and a model signature beside it.

    ``accept``: refusals that a person takes upon them, see :mod:`.release.admission`. Returns what all of it says.
    """
    if not repository.changes(PROD):
        return []  # it is published already, as it was signed then
    target, sha256 = published.target, published.sha256
    records = record.read(run.parent, sha256)
    if run.is_file():
        try:
            made = dict(json.loads(read_file(run)))
            provenance.check(sha256, made)
            admitted = admission.admit(made, records, accept)
            stated = provenance.statement(
                target, sha256, made | {"records": records, "accepted": list(admitted.accepted)}
            )
            bom = mlbom.document(target, opened, made)
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise ReleaseError(f"{run}: not what a training run writes: {error}") from error
        repository.put_target(PROD, provenance.path_of(target), stated)
        said = provenance.read(stated, target, sha256)
    else:
        admitted = admission.admit({}, records, accept)
        said = [f"There is no {run.name} beside it: it is published without provenance.", *admitted.words()]
        bom = mlbom.document(target, opened, {})
    repository.put_target(PROD, mlbom.path_of(target), bom)
    said.append(mlbom.read(bom, target, opened))
    if model_key is not None:
        signed = signature.sign(data, target, model_key)
        repository.put_target(PROD, signature.path_of(target), signed)
        said.append(signature.read(signed, target, sha256))
    return said


def open_bundle(path: Path) -> tuple[bytes, Bundle]:
    """Read a bundle and let it prove itself. Raises :class:`ReleaseError`."""
    if (path / "bundle.zip").is_file():
        raise ReleaseError(f"{path} is a folder: name {path / 'bundle.zip'}")
    data = read_file(path)
    try:
        opened = read_bundle(data)
        self_test(opened)
    except BundleError as error:
        raise ReleaseError(f"{path}: {error}") from error
    return data, opened


def read_file(path: Path) -> bytes:
    """Return a file's bytes. Raises :class:`ReleaseError`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ReleaseError(f"{path}: cannot be read: {error.strerror}") from error


def read_policy(folder: Folder, repository: Repository, path: str) -> Policy | None:
    """Return a channel's policy, None where it has none. Raises :class:`ReleaseError`."""
    if repository.target(path) is None:
        return None
    try:
        return Policy.model_validate_json(folder.target(repository, path))
    except (RepositoryError, ValidationError) as error:
        raise ReleaseError(f"{folder.where}: {path} is damaged, restore it: {error}") from error


def write_policy(repository: Repository, path: str, policy: Policy) -> None:
    """Make a policy the one of its channel."""
    repository.put_policy(path, policy.model_dump_json(indent=1).encode())


def put(folder: Folder, repository: Repository, files: Sequence[File]) -> None:
    """Put out what :meth:`.Repository.seal` gave, and the newest root's copy for installers right after the root.

    Raises :class:`.errors.Taken`; and :class:`ReleaseError` where another publication came between the timestamp and a
    root that is put out after it: signed without the new keys, it is not what devices need from now on.
    """
    copy = File(ROOT, repository.root())
    out = []
    for file in files:
        out += [file, copy] if file.data == copy.data else [file]
    if copy not in out and folder.optional(ROOT) != copy.data:
        out.insert(0, copy)  # the power went between a root and its copy
    folder.put(out, repository.over)
    ours = next(file.data for file in files if file.path == TIMESTAMP)
    if out[-1] == copy and folder.read(TIMESTAMP) != ours:
        raise ReleaseError(
            f"{folder.where}: the new root is out, and somebody else has published at the same moment without its "
            "keys: run 'refresh' with the new keys now"
        )


def named_well(channel: str) -> None:
    """Raise :class:`ReleaseError` for what cannot name a channel."""
    if not re.fullmatch(CHANNEL, channel):
        raise ReleaseError(
            f"{channel!r} cannot name a channel: small letters, digits, '.', '_' and '-', such as stable"
        )


def known_channel(repository: Repository, channel: str) -> None:
    """Raise :class:`Refused` for a channel that nobody has made."""
    known = repository.channels()
    if channel not in known:
        near = get_close_matches(channel, known, 1)
        raise Refused(
            f"there is no channel {channel}"
            + (f"; did you mean {near[0]}?" if near else f"; channels: {', '.join(known) or 'none'}.")
            + f" 'channel create {channel}' makes a new one"
        )


def micros(moment: datetime) -> int:
    """Return a moment in µs since 1970, as devices count."""
    return int(moment.timestamp() * 1_000_000)


def utc_now() -> datetime:
    """Return the time now."""
    return datetime.now(UTC)
