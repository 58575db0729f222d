"""What release engineers do, one function a command: read the folder, change it by the rules, sign, put it out.

Each change is worked out first and told in words (``words`` of what a function returns): what differs afterwards, on
how many devices. With ``dry_run`` that is all. A command that would do something else than its name says is
:class:`.errors.Refused`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path

from fieldwatch_contract.bundle import Bundle, BundleError, read_bundle
from fieldwatch_contract.policy import SHARES, Policy, policy_path
from fieldwatch_contract.scoring import self_test
from pydantic import ValidationError
from securesystemslib.signer import Key
from tuf.api.exceptions import RepositoryError

from fieldwatch_trainer.release import disk, effects, proposal, provenance, rekey, rollout
from fieldwatch_trainer.release.effects import Fleet
from fieldwatch_trainer.release.errors import Refused, ReleaseError
from fieldwatch_trainer.release.folder import Folder
from fieldwatch_trainer.release.keys import Keyring, generate, named, read_public, save
from fieldwatch_trainer.release.proposal import Proposal, Wish
from fieldwatch_trainer.release.repository import Expiry, File, Published, Repository
from fieldwatch_trainer.release.roles import LIFETIME, NAMES, POLICY, PROD, ROLES
from fieldwatch_trainer.release.verify import offered

ROOT = "root.json"
"""Copy of the newest root beside ``metadata/``: what an installer embeds. Devices never fetch it."""
UNFINISHED = "unfinished"
"""Marks a folder of keys whose ``init`` has not put out a repository yet."""
CHANNEL = r"[a-z0-9][a-z0-9._-]{0,63}"
ANYBODY = Fleet()


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


@dataclass(frozen=True)
class Changed:
    """A change and what it does; ``policy`` where it is one of a channel's."""

    words: tuple[str, ...]
    policy: Policy | None = None


# ---- a repository and its bundles ------------------------------------------------------------------------------


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
    unfinished = keys / UNFINISHED
    if folder.exists and unfinished.exists():
        found = folder.load(now or _now())
        if found.can_sign("root", Keyring.load([keys])):
            return _finished(folder, keys, found)
    may_init(repo, keys, channels)
    disk.make_folder(keys, 0o700)
    disk.write(unfinished, b"An init that was cut short; run it again to finish it.\n", 0o600)
    missing = [name for name in NAMES if not (keys / f"{name}.pem").exists()]
    save(keys, generate(missing), secret)
    ring = Keyring.load([keys])
    public = {h.path.stem: named(ring.signer(keyid).public_key, h.path.stem) for keyid, h in ring.holders.items()}
    repository = Repository.create(public, now or _now(), channels)
    disk.make_folder(repo)
    with folder.only_publisher():
        put(folder, repository.seal(ring))
    return _finished(folder, keys, repository)


def _finished(folder: Folder, keys: Path, repository: Repository) -> list[Expiry]:
    disk.write(keys / ROOT, folder.read(ROOT))
    disk.remove(keys / UNFINISHED)
    return repository.expiries()


def may_init(repo: Path, keys: Path, channels: Sequence[str]) -> None:
    """Raise :class:`ReleaseError` where :func:`init` must not be done."""
    if keys.resolve().is_relative_to(repo.resolve()):
        raise ReleaseError(f"{keys} is inside {repo}, which a server offers to everybody: choose another --keys")
    if Folder(repo).exists:
        raise ReleaseError(f"{repo} is a repository already: its devices trust its root, so it is never made anew")
    for channel in channels:
        _named_well(channel)
    if keys.is_dir() and not (keys / UNFINISHED).exists() and any(keys.glob("*.pem")):
        raise ReleaseError(f"{keys} holds keys already: keys are never replaced; choose another folder by --keys")


def publish(
    repo: Path,
    keys: Sequence[Path],
    bundle: Path,
    channel: str,
    bp: int | None = None,
    security_floor: int = 0,
    now: datetime | None = None,
    *,
    lift: bool = False,
    fleet: Fleet = ANYBODY,
    dry_run: bool = False,
) -> Offered:
    """Publish a bundle in a channel for ``bp`` of 10,000 devices (None: see :func:`.release.rollout.offer`).

    The bundle must read, and reproduce its golden vectors on this machine. ``lift`` ends a halt of the channel in the
    same step. Raises :class:`ReleaseError`, :class:`Refused`.
    """
    data, opened = _bundle(bundle)
    with _changing(repo, now, dry_run) as (folder, repository, moment):
        published, policy, changed = _offer(folder, repository, data, opened, Wish(channel, bp, lift), security_floor)
        words = proposal.describe(opened, published.sha256, published.facts.release_seq, security_floor)
        words += _beside(repository, published, bundle.with_name("run.json"))
        words += effects.tell(policy, changed, fleet, _micros(moment))
        if not dry_run:
            put(folder, repository.seal(Keyring.load(keys)))
    share = next(r.bp for r in changed.releases if r.sha256 == published.sha256)
    return Offered(published.target, published.sha256, published.facts, share, tuple(words))


def promote(
    repo: Path,
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
    data, stated, policy = offered(source, source_root, name, version, source_channel, now)
    where = f"{reference} in channel {source_channel} of {source}"
    release = next((r for r in policy.releases if effects.bundle_of(r.target) == reference), None)
    if release is None or release.sha256 in policy.revoke or policy.halt:
        state = "not offered" if release is None else "halted" if policy.halt else "revoked"
        raise Refused(f"{where} is {state}")
    if release.bp < SHARES:
        raise Refused(f"{where} has {release.bp / 100:g} % of the devices only: it is proven when it has all of them")
    with _changing(repo, now, dry_run) as (folder, repository, moment):
        opened = read_bundle(data)
        published, before, changed = _offer(folder, repository, data, opened, Wish(channel, bp))
        words = proposal.describe(opened, published.sha256, published.facts.release_seq, 0)
        if stated is not None and repository.changes(PROD):
            repository.put_target(PROD, provenance.path_of(published.target), stated)
            words += provenance.read(stated, published.target, published.sha256)
        words += effects.tell(before, changed, fleet, _micros(moment))
        if not dry_run:
            put(folder, repository.seal(Keyring.load(keys)))
    share = next(r.bp for r in changed.releases if r.sha256 == published.sha256)
    return Offered(published.target, published.sha256, published.facts, share, tuple(words))


def find(repo: Path, reference: str, now: datetime | None = None) -> Published:
    """Return the published bundle ``<name>/<version>``. Raises :class:`ReleaseError`."""
    name, _, version = reference.partition("/")
    bundles = Folder(repo).load(now or _now()).bundles(name)
    for bundle in bundles:
        if bundle.facts.version == version:
            return bundle
    known = ", ".join(f"{b.facts.name}/{b.facts.version}" for b in bundles) or "none"
    raise ReleaseError(f"no bundle {reference} (<name>/<version>) is published; of {name}: {known}")


# ---- who runs what ---------------------------------------------------------------------------------------------


def change_policy(
    repo: Path,
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
    with _changing(repo, now, dry_run) as (folder, repository, moment):
        path = policy_path(name, channel)
        policy = _read_policy(folder, repository, path)
        if policy is None:
            known = ", ".join(repository.policies()) or "none yet"
            raise ReleaseError(f"nothing is published for {name} in channel {channel}; policies: {known}")
        changed = edit(policy)
        words = effects.tell(policy, changed, fleet, _micros(moment)) + _kept(policy, changed)
        if changed == policy:
            words.insert(0, "That is how it stands already.")
        elif not dry_run:
            _write_policy(repository, path, changed)
            put(folder, repository.seal(Keyring.load(keys)))
    return Changed(tuple(words), changed)


def back(repo: Path, name: str, channel: str, version: str | None) -> Callable[[Policy], Policy]:
    """Return the edit that brings a channel back to ``version`` (None: the release proven before the newest).

    Raises :class:`Refused` where devices would not take it.
    """
    folder = Folder(repo)
    repository = folder.load(_now())
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


def channels(repo: Path, now: datetime | None = None) -> list[Channel]:
    """Return every channel that has a policy, with it."""
    folder = Folder(repo)
    repository = folder.load(now or _now())
    found = []
    for path in repository.policies():
        _, name, file = path.split("/")
        policy = _read_policy(folder, repository, path)
        assert policy is not None
        found.append(Channel(name, file.removesuffix(".json"), policy))
    return found


def create_channel(
    repo: Path, keys: Sequence[Path], channel: str, now: datetime | None = None, *, dry_run: bool = False
) -> Changed:
    """Make a channel into which bundles can be published. Raises :class:`Refused` where it is there."""
    _named_well(channel)
    with _changing(repo, now, dry_run) as (folder, repository, _):
        if channel in repository.channels():
            raise Refused(f"there is a channel {channel} already")
        repository.set_channels([*repository.channels(), channel])
        if not dry_run:
            put(folder, repository.seal(Keyring.load(keys)))
    return Changed((f"Channel {channel} is empty: devices in it (updates.channel) get nothing until a publication.",))


def delete_channel(
    repo: Path,
    keys: Sequence[Path],
    channel: str,
    now: datetime | None = None,
    *,
    force: bool = False,
    dry_run: bool = False,
) -> Changed:
    """Delete a channel; one with releases only by ``force``. Raises :class:`Refused`."""
    with _changing(repo, now, dry_run) as (folder, repository, _):
        _known(repository, channel)
        used = [item.name for item in channels(repo, now) if item.channel == channel and item.policy.releases]
        after = f"its devices of {', '.join(used)} keep what they run and get no update any more"
        if used and not force:
            raise Refused(f"channel {channel} has releases: {after}. Move the devices first, or say --force")
        repository.set_channels([other for other in repository.channels() if other != channel])
        if not dry_run:
            put(folder, repository.seal(Keyring.load(keys)))
    return Changed((f"Channel {channel} is gone" + (f": {after}." if used else "; nobody used it."),))


# ---- signatures and keys ---------------------------------------------------------------------------------------


def refresh(repo: Path, keys: Sequence[Path], everything: bool = False, now: datetime | None = None) -> list[Expiry]:
    """Sign snapshot and timestamp anew, and the policies past half of their life where their key is at hand.

    ``everything``: every role, which takes the offline keys: the yearly ceremony. Raises :class:`ReleaseError` where a
    bundle or policy is lost: over that nothing is signed.
    """
    with _changing(repo, now, False) as (folder, repository, moment):
        folder.check(repository)
        ring = Keyring.load(keys)
        ends = {expiry.role: expiry.expires for expiry in repository.expiries()}
        if ends[POLICY] - moment < LIFETIME[POLICY] / 2 and repository.can_sign(POLICY, ring):
            repository.touch(POLICY)
        for role in ROLES if everything else ():
            repository.touch(role)
        put(folder, repository.seal(ring))
    return repository.expiries()


def propose_refresh(repo: Path, keys: Sequence[Path], out: Path, now: datetime | None = None) -> Changed:
    """Make a proposal to renew what people sign: the yearly ceremony, where the keys are in several places."""
    with _changing(repo, now, True) as (folder, repository, _):
        folder.check(repository)
        for role in ROLES:
            repository.touch(role)
        drafts = repository.draft(Keyring.load(keys))
        disk.write(out, Proposal(folder.state(), drafts).to_bytes())
        words = [f"Role {role} then holds until {repository.ends(role):%Y-%m-%d}." for role in drafts]
    return Changed((*words, *_waiting(repository, drafts)))


def change_keys(
    repo: Path,
    keys: Sequence[Path],
    edit: Callable[[Repository, Callable[[str], Key]], None],
    now: datetime | None = None,
    *,
    secret: bytes | None = None,
    public: Path | None = None,
    propose: Path | None = None,
    dry_run: bool = False,
) -> Changed:
    """Change who signs (:mod:`.release.rekey`); ``edit`` gets a way to a new key for a role.

    The new key is the one in ``public``, else it is made in the first folder of ``keys``, and on the disk before
    anything names it. ``propose``: signed as far as the keys at hand go, and written there for others to countersign.
    """
    made: dict[str, Key] = {}
    with _changing(repo, now, dry_run or propose is not None) as (folder, repository, moment):
        before = folder.load(moment)
        taken = {path.stem for one in keys for path in (*one.glob("*.pem"), *one.glob("*.uri"))}
        signers = {}

        def new_key(role: str) -> Key:
            if public is not None:
                return read_public(public)
            name = rekey.next_name(repository, role, taken)
            signers.update(generate([name]))
            made[name] = signers[name].public_key
            return made[name]

        edit(repository, new_key)
        words = rekey.tell(before, repository)
        words += [f"The new key {name} is {keys[0] / name}.pem: keep a copy elsewhere." for name in made]
        if not dry_run:
            ring = Keyring.load(keys).with_new(signers)
            if propose is not None:
                drafts = repository.draft(ring)
                save(keys[0], signers, secret)
                disk.write(propose, Proposal(folder.state(), drafts).to_bytes())
                words += _waiting(repository, drafts)
            else:
                files = repository.seal(ring)
                save(keys[0], signers, secret)
                put(folder, files)
    return Changed(tuple(words))


def sign(
    repo: Path,
    keys: Sequence[Path],
    bundle: Path,
    out: Path,
    wish: Wish,
    security_floor: int = 0,
    now: datetime | None = None,
    *,
    fleet: Fleet = ANYBODY,
    dry_run: bool = False,
) -> Changed:
    """Make a proposal to publish a bundle, signed by the keys at hand; the repository stays as it is."""
    data, opened = _bundle(bundle)
    with _changing(repo, now, True) as (folder, repository, moment):
        published, policy, changed = _offer(folder, repository, data, opened, wish, security_floor)
        words = proposal.describe(opened, published.sha256, published.facts.release_seq, security_floor)
        words += _beside(repository, published, bundle.with_name("run.json"))
        words += effects.tell(policy, changed, fleet, _micros(moment))
        drafts = repository.draft(Keyring.load(keys))
        if not drafts:
            raise Refused(f"{effects.bundle_of(published.target)} is published already: 'publish' or 'rollout set' it")
        path = policy_path(opened.manifest.name, wish.channel)
        policies = {path: policy.model_dump_json(indent=1).encode()}
        files = tuple(file for file in repository.waiting() if file.path.startswith("targets/prod/"))
        if not dry_run:
            disk.write(out, Proposal(folder.state(), drafts, policies, files, wish).to_bytes())
        words += _waiting(repository, drafts)
    return Changed(tuple(words))


def countersign(
    path: Path,
    keys: Sequence[Path],
    trusted: bytes,
    agree: Callable[[Sequence[str]], bool],
    now: datetime | None = None,
    *,
    fleet: Fleet = ANYBODY,
) -> Changed:
    """Tell what a proposal does and, where ``agree`` says yes to the words, add the signatures of the keys at hand.

    ``trusted``: the signer's own copy of ``root.json``. Raises :class:`ReleaseError`, :class:`Refused`.
    """
    held = Proposal.from_bytes(_read(path))
    reading = proposal.read(held, trusted, fleet, now or _now())
    ring = Keyring.load(keys)
    if not any(reading.after.would_sign(role, ring) for role in held.drafts):
        raise Refused(f"no key in {', '.join(map(str, keys))} counts for this proposal, or it has signed already")
    if not agree(reading.words):
        raise Refused("not signed")
    drafts = reading.after.draft(ring)
    disk.write(path, Proposal(held.state, drafts, held.policies, held.files, held.wish).to_bytes())
    return Changed((*reading.words, *_waiting(reading.after, drafts)))


def complete(
    repo: Path,
    keys: Sequence[Path],
    path: Path,
    now: datetime | None = None,
    *,
    fleet: Fleet = ANYBODY,
    dry_run: bool = False,
) -> Changed:
    """Put out a proposal that enough people have signed. Raises :class:`ReleaseError` where it no longer fits."""
    held = Proposal.from_bytes(_read(path))
    with _changing(repo, now, dry_run) as (folder, repository, moment):
        # The policies may have moved on since; what is told here is what is there now.
        policies = {p: folder.target(repository, p) for p in repository.policies()}
        here = Proposal(folder.state(), held.drafts, policies, held.files, held.wish)
        reading = proposal.read(here, here.state.roots[-1], fleet, moment)
        repository.adopt(held.drafts, held.files)
        if reading.bundle is not None and held.wish is not None:
            _known(repository, held.wish.channel)
            place = policy_path(reading.bundle.facts.name, held.wish.channel)
            policy = _read_policy(folder, repository, place) or Policy()
            _write_policy(repository, place, held.wish.apply(policy, reading.bundle.target, reading.bundle.sha256))
        if not dry_run:
            put(folder, repository.seal(Keyring.load(keys)))
    return Changed(reading.words)


# ---- within ----------------------------------------------------------------------------------------------------


@contextmanager
def _changing(repo: Path, now: datetime | None, dry_run: bool) -> Iterator[tuple[Folder, Repository, datetime]]:
    folder, moment = Folder(repo), now or _now()
    if dry_run:
        yield folder, folder.load(moment), moment
        return
    with folder.only_publisher():
        yield folder, folder.load(moment), moment


def _offer(
    folder: Folder, repository: Repository, data: bytes, opened: Bundle, wish: Wish, security_floor: int = 0
) -> tuple[Published, Policy, Policy]:
    """Add the bundle and edit the channel's policy; return the bundle, the policy so far and the new one."""
    _named_well(wish.channel)
    _known(repository, wish.channel)
    manifest = opened.manifest
    published = repository.add_bundle(manifest.name, manifest.version, manifest.kernel, data, security_floor)
    path = policy_path(manifest.name, wish.channel)
    policy = _read_policy(folder, repository, path) or Policy()
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
    _write_policy(repository, path, changed)
    return published, policy, changed


def _beside(repository: Repository, published: Published, run: Path) -> list[str]:
    """Put a bundle's provenance beside it, out of the run's folder; return what it says."""
    path = provenance.path_of(published.target)
    if not repository.changes(PROD):
        return []  # it is published already, as it was signed then
    if not run.is_file():
        return [f"There is no {run.name} beside it: it is published without provenance."]
    try:
        data = provenance.statement(published.target, published.sha256, json.loads(_read(run)))
    except (ValueError, AttributeError) as error:
        raise ReleaseError(f"{run}: not what a training run writes: {error}") from error
    repository.put_target(PROD, path, data)
    return provenance.read(data, published.target, published.sha256)


def _kept(before: Policy, after: Policy) -> list[str]:
    """Say where a smaller share takes nothing away."""
    old = {release.sha256: release.bp for release in before.releases}
    less = [r for r in after.releases if r.bp < old.get(r.sha256, 0)]
    return [
        f"Devices that run {effects.bundle_of(r.target)} already keep it; 'rollback' or 'revoke' brings them back."
        for r in less
    ]


def _waiting(repository: Repository, drafts: dict[str, bytes]) -> list[str]:
    missing = [said for role in drafts if (said := repository.unsigned(role))]
    return [f"Still to sign: {'; '.join(missing)}." if missing else "All have signed: 'publish' the proposal."]


def _bundle(path: Path) -> tuple[bytes, Bundle]:
    data = _read(path)
    try:
        opened = read_bundle(data)
        self_test(opened)
    except BundleError as error:
        raise ReleaseError(f"{path}: {error}") from error
    return data, opened


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ReleaseError(f"{path}: cannot be read: {error.strerror}") from error


def _read_policy(folder: Folder, repository: Repository, path: str) -> Policy | None:
    if repository.target(path) is None:
        return None
    try:
        return Policy.model_validate_json(folder.target(repository, path))
    except (RepositoryError, ValidationError) as error:
        raise ReleaseError(f"{folder.path}: {path} is damaged, restore it: {error}") from error


def _write_policy(repository: Repository, path: str, policy: Policy) -> None:
    repository.put_policy(path, policy.model_dump_json(indent=1).encode())


def put(folder: Folder, files: Sequence[File]) -> None:
    """Put out what :meth:`.Repository.seal` gave, and beside it the newest root for installers."""
    roots = [File(ROOT, file.data) for file in files if file.path.endswith(".root.json")]
    folder.put([*files[:-1], *roots, *files[-1:]])  # a root that installers get is out already


def _named_well(channel: str) -> None:
    if not re.fullmatch(CHANNEL, channel):
        raise ReleaseError(
            f"{channel!r} cannot name a channel: small letters, digits, '.', '_' and '-', such as stable"
        )


def _known(repository: Repository, channel: str) -> None:
    known = repository.channels()
    if channel not in known:
        near = get_close_matches(channel, known, 1)
        raise Refused(
            f"there is no channel {channel}"
            + (f"; did you mean {near[0]}?" if near else f"; channels: {', '.join(known) or 'none'}.")
            + f" 'channel create {channel}' makes a new one"
        )


def _micros(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000)


def _now() -> datetime:
    return datetime.now(UTC)
