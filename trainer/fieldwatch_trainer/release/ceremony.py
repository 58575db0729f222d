"""Who signs: the yearly renewal, keys that come and go, and a change that is signed at two desks.

The rules are in :mod:`.release.rekey` and :mod:`.release.proposal`; here they meet the folder, the keys and the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from fieldwatch_contract.policy import Policy, policy_path
from securesystemslib.signer import Key

from fieldwatch_trainer.release import disk, effects, proposal, rekey
from fieldwatch_trainer.release.effects import Fleet
from fieldwatch_trainer.release.errors import Refused, ReleaseError
from fieldwatch_trainer.release.keys import Keyring, generate, read_public, save
from fieldwatch_trainer.release.metadata import Expiry
from fieldwatch_trainer.release.proposal import Proposal, Wish
from fieldwatch_trainer.release.repository import Repository
from fieldwatch_trainer.release.roles import LIFETIME, POLICY, ROLES
from fieldwatch_trainer.release.storage import Where
from fieldwatch_trainer.release.work import (
    ANYBODY,
    Changed,
    changing,
    known_channel,
    micros,
    offer_bundle,
    open_bundle,
    place_beside,
    put,
    read_file,
    read_policy,
    utc_now,
    write_policy,
)


def refresh(repo: Where, keys: Sequence[Path], everything: bool = False, now: datetime | None = None) -> list[Expiry]:
    """Sign snapshot and timestamp anew, and the policies past half of their life where their key is at hand.

    ``everything``: every role, which takes the offline keys: the yearly ceremony. Raises :class:`ReleaseError` where a
    bundle or policy is lost: over that nothing is signed.
    """
    with changing(repo, now, False) as (folder, repository, moment):
        folder.check(repository)
        ring = Keyring.load(keys)
        ends = {expiry.role: expiry.expires for expiry in repository.expiries()}
        if ends[POLICY] - moment < LIFETIME[POLICY] / 2 and repository.can_sign(POLICY, ring):
            repository.touch(POLICY)
        for role in ROLES if everything else ():
            repository.touch(role)
        put(folder, repository, repository.seal(ring))
    return repository.expiries()


def propose_refresh(repo: Where, keys: Sequence[Path], out: Path, now: datetime | None = None) -> Changed:
    """Make a proposal to renew what people sign: the yearly ceremony, where the keys are in several places."""
    with changing(repo, now, True) as (folder, repository, _):
        folder.check(repository)
        for role in ROLES:
            repository.touch(role)
        drafts = repository.draft(Keyring.load(keys))
        _propose(out, Proposal(folder.state(), drafts))
        words = [f"Role {role} then holds until {repository.ends(role):%Y-%m-%d}." for role in drafts]
    return Changed((*words, *_waiting(repository, drafts)))


def change_keys(
    repo: Where,
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
    if propose is not None:
        _is_free(propose)
    with changing(repo, now, dry_run or propose is not None) as (folder, repository, moment):
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
                _propose(propose, Proposal(folder.state(), drafts))
                words += _waiting(repository, drafts)
            else:
                files = repository.seal(ring)
                save(keys[0], signers, secret)
                put(folder, repository, files)
    return Changed(tuple(words))


def sign(
    repo: Where,
    keys: Sequence[Path],
    bundle: Path,
    out: Path,
    wish: Wish,
    security_floor: int = 0,
    now: datetime | None = None,
    *,
    model_key: Path | None = None,
    fleet: Fleet = ANYBODY,
    accept: Sequence[str] = (),
    dry_run: bool = False,
) -> Changed:
    """Make a proposal to publish a bundle, signed by the keys at hand; the repository stays as it is."""
    data, opened = open_bundle(bundle)
    with changing(repo, now, True) as (folder, repository, moment):
        published, policy, changed = offer_bundle(folder, repository, data, opened, wish, security_floor)
        words = proposal.describe(opened, published.sha256, published.facts.release_seq, security_floor)
        words += place_beside(repository, published, data, opened, bundle.with_name("run.json"), accept, model_key)
        words += effects.tell(policy, changed, fleet, micros(moment))
        drafts = repository.draft(Keyring.load(keys))
        if not drafts:
            raise Refused(f"{effects.bundle_of(published.target)} is published already: 'publish' or 'rollout set' it")
        path = policy_path(opened.manifest.name, wish.channel)
        policies = {path: policy.model_dump_json(indent=1).encode()}
        files = tuple(file for file in repository.waiting() if file.path.startswith("targets/prod/"))
        if not dry_run:
            _propose(out, Proposal(folder.state(), drafts, policies, files, wish))
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
    held = _held(path)
    reading = proposal.read(held, trusted, fleet, now or utc_now())
    ring = Keyring.load(keys)
    if not any(reading.after.would_sign(role, ring) for role in held.drafts):
        where = ", ".join(map(str, keys))
        why = f"the keys in {where} count for nothing in this proposal"
        if any(reading.after.knows(role, ring) for role in held.drafts):
            why = f"what {where} can sign is signed already"
        raise Refused(f"{why}. {_waiting(reading.after, held.drafts)[0]}")
    if not agree(reading.words):
        raise Refused("not signed")
    drafts = reading.after.draft(ring)
    disk.write(path, Proposal(held.state, drafts, held.policies, held.files, held.wish).to_bytes())
    return Changed((*reading.words, *_waiting(reading.after, drafts)))


def complete(
    repo: Where,
    keys: Sequence[Path],
    path: Path,
    now: datetime | None = None,
    *,
    fleet: Fleet = ANYBODY,
    dry_run: bool = False,
) -> Changed:
    """Put out a proposal that enough people have signed. Raises :class:`ReleaseError` where it no longer fits."""
    held = _held(path)
    with changing(repo, now, dry_run) as (folder, repository, moment):
        # The policies may have moved on since; what is told here is what is there now.
        policies = {p: folder.target(repository, p) for p in repository.policies()}
        here = Proposal(folder.state(), held.drafts, policies, held.files, held.wish)
        if repository.shows(held.drafts):
            raise Refused(f"{path} is published already, nothing is left to do")
        reading = proposal.read(here, here.state.roots[-1], fleet, moment)
        repository.adopt(held.drafts, held.files)
        if reading.bundle is not None and held.wish is not None:
            known_channel(repository, held.wish.channel)
            place = policy_path(reading.bundle.facts.name, held.wish.channel)
            policy = read_policy(folder, repository, place) or Policy()
            write_policy(repository, place, held.wish.apply(policy, reading.bundle.target, reading.bundle.sha256))
        if not dry_run:
            ring = Keyring.load(keys)
            if missing := _missing(repository, repository.draft(ring)):
                raise Refused(f"{path} waits for signatures: {missing}; 'countersign' adds them")
            put(folder, repository, repository.seal(ring))
    return Changed(reading.words)


def _held(path: Path) -> Proposal:
    data = read_file(path)
    try:
        return Proposal.from_bytes(data)
    except ReleaseError as error:
        raise ReleaseError(f"{path}: {error}") from error


def _is_free(out: Path) -> None:
    if out.exists():
        raise Refused(f"{out} is there already and may carry signatures: delete it, or name another file")


def _propose(out: Path, held: Proposal) -> None:
    _is_free(out)
    disk.write(out, held.to_bytes())


def _missing(repository: Repository, drafts: Mapping[str, bytes]) -> str:
    return "; ".join(said for role in drafts if (said := repository.unsigned(role)))


def _waiting(repository: Repository, drafts: Mapping[str, bytes]) -> list[str]:
    missing = _missing(repository, drafts)
    return [f"Still to sign: {missing}." if missing else "All have signed: 'publish' the proposal."]
