"""The commands of ``fieldwatch-release``: from arguments to an action, from what it did to words or JSON."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from fieldwatch_contract.policy import Policy
from securesystemslib.signer import Key

from fieldwatch_trainer.release import actions, ceremony, rekey, rollout, signature, tokens, watch, work
from fieldwatch_trainer.release import drill as drills
from fieldwatch_trainer.release import export as exports
from fieldwatch_trainer.release import keys as files
from fieldwatch_trainer.release.effects import Fleet
from fieldwatch_trainer.release.errors import Misused, ReleaseError
from fieldwatch_trainer.release.folder import Folder
from fieldwatch_trainer.release.metadata import Expiry
from fieldwatch_trainer.release.proposal import Wish, looks_like_one
from fieldwatch_trainer.release.repository import Repository
from fieldwatch_trainer.release.roles import OFFLINE, ONLINE
from fieldwatch_trainer.release.storage import place
from fieldwatch_trainer.release.verify import verify as look

ATTENTION = 3
"""Exit code: done, or sound, and something wants a person."""


# ---- bundles ---------------------------------------------------------------------------------------------------


def init(args: Namespace) -> int:
    """Make a repository and its keys."""
    if args.keys is None and not isinstance(args.folder, Path):
        return _usage("init in an object store needs --keys: a folder for the new keys")
    keys = args.keys or _beside(args.folder, "keys")
    channels = args.channel or ["stable"]
    if args.dry_run:
        actions.may_init(args.folder, keys, channels)
        print(f"Would make a repository at {args.folder} and {len(OFFLINE + ONLINE)} keys in {keys}.")
        return 0
    secret = files.passphrase(keys, new=True) if args.encrypt else None
    actions.init(args.folder, keys, channels=channels, secret=secret)
    print(f"Repository {args.folder}: offer it with any static web server.")
    print(f"Trust root {args.folder}/{work.ROOT}: give it to the agents (updates.root); it names the keys that count.")
    print(f"Keys in {keys}, each with a copy of the root beside it for its holder:")
    print(f"  keep off line, apart from one another: {', '.join(f'{name}.pem' for name in OFFLINE)}")
    print(f"  needed daily by the release job:       {', '.join(f'{name}.pem' for name in ONLINE)}")
    print("Any one of them may be lost: 'keys rotate' replaces it. Rehearse it by 'drill lost-key'.")
    return 0


def publish(args: Namespace) -> int:
    """Publish a bundle, or a proposal that is signed."""
    if args.bundle.is_file() and looks_like_one(args.bundle.read_bytes()):
        if args.channel or args.bp is not None:
            return _usage("a proposal says its channel and share itself: leave --channel and the share away")
        done = ceremony.complete(args.repo, _keys(args), args.bundle, fleet=_fleet(args), dry_run=args.dry_run)
        return _tell(args, {}, done.words, "The proposal is published.")
    if not args.channel:
        return _usage("publish BUNDLE needs --channel")
    bundle = actions.publish(
        args.repo, _keys(args), args.bundle, args.channel, args.bp, args.security_floor,
        lift=args.lift, accept=args.accept, model_key=args.model_key, fleet=_fleet(args), dry_run=args.dry_run,
    )  # fmt: skip
    return _offered(args, bundle)


def promote(args: Namespace) -> int:
    """Publish what another channel has proven."""
    source = args.source or str(args.repo)
    if args.from_root is None and args.source is not None and "://" in source:
        return _usage("promote --from URL needs --from-root: the root.json of that repository")
    root = args.from_root.read_bytes() if args.from_root else Folder(place(source)).read(work.ROOT)
    bundle = actions.promote(
        args.repo, _keys(args), args.bundle, args.channel, source, root, args.from_channel, args.bp,
        fleet=_fleet(args), dry_run=args.dry_run,
    )  # fmt: skip
    return _offered(args, bundle)


def _offered(args: Namespace, done: actions.Offered) -> int:
    facts = done.facts
    value = {"target": done.target, "sha256": done.sha256, "channel": args.channel, "bp": done.bp, **facts.model_dump()}
    text = (
        f"Published {facts.name}/{facts.version} (release {facts.release_seq}, sha256 {done.sha256[:12]}…) "
        f"in channel {args.channel} for {done.bp / 100:g} % of its devices."
    )
    return _tell(args, value, done.words, text)


# ---- who runs what ---------------------------------------------------------------------------------------------


def rollout_status(args: Namespace) -> int:
    """Show all channels."""
    found = actions.channels(args.repo)
    if args.json:
        value = {"channels": [{"name": c.name, "channel": c.channel, **c.policy.model_dump()} for c in found]}
        print(json.dumps(value))
        return 0
    return status(args)


def rollout_set(args: Namespace) -> int:
    """Give a release another share."""
    bundle = actions.find(args.repo, args.bundle)
    return _edit(args, bundle.facts.name, partial(rollout.share, sha256=bundle.sha256, bp=args.bp))


def rollback(args: Namespace) -> int:
    """Bring a channel back to an earlier release."""
    return _edit(args, args.name, actions.back(args.repo, args.name, args.channel, args.to))


def halt(args: Namespace) -> int:
    """Halt a channel, or lift it."""
    return _edit(args, args.name, partial(rollout.halt, halted=not args.lift))


def revoke(args: Namespace) -> int:
    """Forbid a bundle."""
    bundle = actions.find(args.repo, args.bundle)
    return _edit(args, bundle.facts.name, partial(rollout.revoke, sha256=bundle.sha256))


def _edit(args: Namespace, name: str, edit: Any) -> int:
    done = actions.change_policy(
        args.repo, _keys(args), name, args.channel, edit, fleet=_fleet(args), dry_run=args.dry_run
    )
    assert isinstance(done.policy, Policy)
    state = "halted" if done.policy.halt else "going on"
    value = {"name": name, "channel": args.channel, **done.policy.model_dump()}
    return _tell(args, value, done.words, f"{name}, channel {args.channel}: {state}.")


def channel_create(args: Namespace) -> int:
    """Make a channel."""
    done = actions.create_channel(args.repo, _keys(args), args.channel, dry_run=args.dry_run)
    return _tell(args, {"channel": args.channel}, done.words, f"Channel {args.channel} is made.")


def channel_delete(args: Namespace) -> int:
    """Delete a channel."""
    done = actions.delete_channel(args.repo, _keys(args), args.channel, force=args.force, dry_run=args.dry_run)
    return _tell(args, {"channel": args.channel}, done.words, f"Channel {args.channel} is deleted.")


# ---- keys and signatures ---------------------------------------------------------------------------------------


def keys_list(args: Namespace) -> int:
    """Show every role's keys."""
    repository = Folder(args.repo).load(_now())
    ring = files.Keyring.load(_keys_at_hand(args))
    lines, value = [], {}
    for role in rekey.MEMBERS:
        keys, threshold = repository.authority(role)
        signed = repository.signed_by(role)
        value[role] = {"threshold": threshold, "keys": [{"name": files.key_name(k), "keyid": k.keyid} for k in keys]}
        spare = "" if len(keys) > threshold else "  <- no spare key"
        lines.append(f"{role}: {threshold} of {len(keys)} must sign, until {repository.ends(role):%Y-%m-%d}{spare}")
        for key in keys:
            name = files.key_name(key)
            notes = ["at hand"] * (key.keyid in ring) + ["has signed"] * (name in signed)
            lines.append(f"  {name:<12} {key.keytype} {key.keyid[:12]}…  {', '.join(notes)}".rstrip())
    return _tell(args, {"roles": value}, (), "\n".join(lines))


def keys_new(args: Namespace) -> int:
    """Make a key that nothing names yet."""
    if args.model:
        secret = files.passphrase(args.keys / f"{args.name}.key", new=True) if args.encrypt else None
        private, public = signature.new_key(args.keys, args.name, secret)
        print(f"Key {private}: it signs models for auditors by --model-key; no role of the repository knows it.")
        print(f"Public half {public}: give it to whoever verifies by 'model_signing verify key'.")
        return 0
    public = args.keys / f"{args.name}.pub"
    if args.uri:
        reference = args.keys / f"{args.name}.uri"
        uri, key = tokens.public_half(args.uri, lambda: files.passphrase(reference))
        files.save_reference(reference, uri, files.named(key, args.name))
        print(f"Reference {reference}: it names {uri}, which signs where it is; only its public half is here.")
    else:
        secret = files.passphrase(args.keys / f"{args.name}.pem", new=True) if args.encrypt else None
        made = files.generate([args.name])
        files.save(args.keys, made, secret)
        key = made[args.name].public_key
        print(f"Key {args.keys / args.name}.pem: it stays with its holder, with a copy elsewhere.")
    files.write_public(public, key)
    print(f"Public half {public}: give it to the one who does 'keys add ROLE --public' or 'keys rotate KEY --public'.")
    return 0


def keys_rotate(args: Namespace) -> int:
    """Replace a key."""

    def edit(repository: Repository, new: Callable[[str], Key]) -> None:
        rekey.rotate(repository, args.name, new(rekey.role_of(repository, args.name)))

    return _rekey(args, edit)


def keys_add(args: Namespace) -> int:
    """Add a key."""
    return _rekey(args, lambda repository, new: rekey.add(repository, args.role, new(args.role), args.threshold))


def keys_remove(args: Namespace) -> int:
    """Remove a key."""
    args.public, args.encrypt = None, False
    return _rekey(args, lambda repository, _: rekey.remove(repository, args.name, args.threshold))


def _rekey(args: Namespace, edit: Any) -> int:
    keys = _keys(args)
    secret = files.passphrase(keys[0], new=True) if args.encrypt and not args.dry_run else None
    done = ceremony.change_keys(
        args.repo, keys, edit, secret=secret, public=args.public, propose=args.propose, dry_run=args.dry_run
    )
    text = (
        f"The proposal {args.propose} is made; nothing is published yet." if args.propose else "The keys are changed."
    )
    return _tell(args, {}, done.words, text)


def sign(args: Namespace) -> int:
    """Make a proposal."""
    done = ceremony.sign(
        args.repo, _keys(args), args.bundle, args.out, Wish(args.channel, args.bp, args.lift), args.security_floor,
        accept=args.accept, model_key=args.model_key, fleet=_fleet(args), dry_run=args.dry_run,
    )  # fmt: skip
    return _tell(args, {}, done.words, f"The proposal {args.out} is made; nothing is published yet.")


def countersign(args: Namespace) -> int:
    """Add a signature to a proposal."""
    files.Keyring.load(args.keys)  # a folder that is not there is told as that
    root = args.root or args.keys[0] / work.ROOT
    if not root.is_file():
        return _usage(
            f"no {root}: name your own root.json by --root (the one from the key ceremony, not the proposer's)"
        )

    def agree(words: Sequence[str]) -> bool:
        if args.dry_run:
            raise _Told(words)
        if args.yes:
            return True
        print("\n".join(words))
        if not sys.stdin.isatty():
            raise ReleaseError("nobody is there to say yes; read the words, then say --yes")
        return input("Sign this? (yes/no) ").strip() == "yes"

    try:
        done = ceremony.countersign(args.proposal, args.keys, root.read_bytes(), agree, fleet=_fleet(args))
    except _Told as told:
        return _tell(args, {}, told.words, "")
    return _tell(args, {}, done.words, f"Your signature is in {args.proposal}.")


class _Told(Exception):
    """A dry run has its words."""

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__()
        self.words = words


# ---- how it stands ---------------------------------------------------------------------------------------------


def refresh(args: Namespace) -> int:
    """Sign anew what ends soon; 3 where something else ends soon."""
    if args.dry_run:
        folder = Folder(args.repo)
        repository = folder.load(_now())
        folder.check(repository)
        return _tell(args, {}, ["Snapshot and timestamp would be signed anew; no device changes what it runs."], "")
    if args.propose is not None:
        if not args.all:
            return _usage("refresh --propose is for what people sign: say --all as well")
        done = ceremony.propose_refresh(args.repo, _keys(args), args.propose)
        return _tell(args, {}, done.words, f"The proposal {args.propose} is made; nothing is published yet.")
    expiries = ceremony.refresh(args.repo, _keys(args), args.all)
    said = watch.ending(expiries, _now())
    print(json.dumps({"expires": _ends(expiries), "attention": said}) if args.json else _table(expiries, said))
    return ATTENTION if said else 0


def verify(args: Namespace) -> int:
    """Look as a new device does; 3 where all is sound and something ends soon."""
    if args.root is None and "://" in args.source:
        return _usage("verify URL needs --root: the root.json that installers embed")
    found = look(args.source, args.root.read_bytes() if args.root else Folder(place(args.source)).read(work.ROOT))
    said = watch.ending(found.expiries, _now())
    value: dict[str, Any] = {"bundles": found.bundles, "policies": found.policies, "signed_by": found.signers}
    value |= {"beside": found.beside, "without_ml_bom": found.no_bom}
    value |= {"expires": _ends(found.expiries), "attention": said}
    signed = f", signed by {', '.join(found.signers)}" if found.bundles else ""
    text = f"Good: {len(found.bundles)} bundles{signed}; {len(found.policies)} policies."
    if found.beside:
        text += f"\nBeside the bundles, and of their very bytes: {', '.join(found.beside)}."
    if found.no_bom:
        text += f"\nPublished before there was an ML-BOM, so without one: {', '.join(found.no_bom)}."
    text += f"\n{_table(found.expiries, said)}"
    print(json.dumps(value) if args.json else text)
    return ATTENTION if said else 0


def export(args: Namespace) -> int:
    """Export for a site without a network."""
    keys = args.keys or _beside(args.out, "keys")
    done = exports.export(args.repo, args.out, keys, timedelta(days=args.valid), dry_run=args.dry_run)
    return _tell(args, {"site": args.site}, done.words, f"Exported for {args.site}.")


def status(args: Namespace) -> int:
    """Show how it stands and what to do next."""
    repository = Folder(args.repo).load(_now())
    lines = watch.stand(repository, actions.channels(args.repo), _now())
    print(json.dumps({"status": lines}) if args.json else "\n".join(lines))
    return 0


def doctor(args: Namespace) -> int:
    """Look for what is wrong; 3 where something is."""
    found = watch.examine(Folder(args.repo), _keys_at_hand(args), actions.channels(args.repo), _now())
    print(json.dumps({"findings": found}) if args.json else "\n".join(found) or "All is well.")
    return ATTENTION if found else 0


def drill(args: Namespace) -> int:
    """Rehearse on a copy."""
    cases: dict[str, Callable[[Path], Iterator[str]]] = {
        "lost-key": partial(drills.lost_key, only=args.key),
        "stolen-key": partial(drills.stolen_key, only=args.key),
        "expired": drills.expired,
        "offline-3-years": drills.offline,
    }
    lines = cases[args.case](args.repo)
    said = []
    for line in lines:
        said.append(line)
        if not args.json:
            print(line, flush=True)
    value = {"drill": args.case, "held": True, "steps": said}
    print(json.dumps(value) if args.json else "The drill held; the copy is gone.")
    return 0


# ---- within ----------------------------------------------------------------------------------------------------


def _tell(args: Namespace, value: dict[str, Any], words: Sequence[str], done: str) -> int:
    if args.json:
        print(json.dumps(value | {"dry_run": getattr(args, "dry_run", False), "changes": list(words)}))
        return 0
    if getattr(args, "dry_run", False):
        print("\n".join(["Dry run, nothing is signed or written. It would:", *(f"  {word}" for word in words)]))
        return 0
    print("\n".join([*filter(None, [done]), *words]))
    return 0


def _usage(text: str) -> int:
    print(f"fieldwatch-release: {text}", file=sys.stderr)
    return 2


def _beside(folder: Path, what: str) -> Path:
    whole = folder.resolve()
    return whole.with_name(f"{whole.name}-{what}")


def _keys(args: Namespace) -> list[Path]:
    if args.keys:
        return list(args.keys)
    if not isinstance(args.repo, Path):
        raise Misused(f"{args.repo} is an object store: name the folder of your key files by --keys")
    return [_beside(args.repo, "keys")]


def _keys_at_hand(args: Namespace) -> list[Path]:
    """Return the folders of keys where keys are not needed."""
    if args.keys or not isinstance(args.repo, Path):
        return args.keys or []
    return [folder for folder in _keys(args) if folder.is_dir()]


def _fleet(args: Namespace) -> Fleet:
    if args.devices:
        return Fleet.of(args.devices)
    repo = getattr(args, "repo", None)
    listed = _beside(repo, "devices.txt") if isinstance(repo, Path) else None
    return Fleet.of(str(listed)) if listed is not None and listed.is_file() else Fleet()


def _ends(expiries: Sequence[Expiry]) -> dict[str, str]:
    return {e.role: f"{e.expires:%Y-%m-%dT%H:%M:%SZ}" for e in expiries}


def _table(expiries: Sequence[Expiry], said: Sequence[str]) -> str:
    lines = [f"  {e.role:<12} version {e.version:<5} until {e.expires:%Y-%m-%d %H:%M} UTC" for e in expiries]
    return "\n".join([*lines, *(f"next: {line}" for line in said)])


def _now() -> datetime:
    return datetime.now(UTC)
