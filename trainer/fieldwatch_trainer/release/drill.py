"""Rehearse what is rare: a key is lost or stolen, the release job stops, a device comes back after three years.

A drill works on a twin: the same bundles, policies, numbers of keys and thresholds under new keys, in a folder that is
thrown away. No real key is read, and nothing that a drill does can reach a device. Each gives the lines of what it
did; where something does not hold it raises :class:`ReleaseError`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Metadata, MetaFile

from fieldwatch_trainer.release import ceremony, rekey, watch, work
from fieldwatch_trainer.release.errors import ReleaseError
from fieldwatch_trainer.release.folder import Folder
from fieldwatch_trainer.release.keys import Keyring, generate, key_name, save
from fieldwatch_trainer.release.metadata import File
from fieldwatch_trainer.release.repository import Repository
from fieldwatch_trainer.release.roles import ROLES
from fieldwatch_trainer.release.storage import Where
from fieldwatch_trainer.release.verify import verify

DAY = timedelta(days=1)


@dataclass
class Twin:
    """A copy to rehearse on; ``root`` is what a device got that was installed before the drill."""

    repo: Path
    keys: Path
    root: bytes
    now: datetime

    def device(self) -> str:
        """Let a device that was installed before the drill look; return what it sees."""
        found = verify(str(self.repo), self.root, self.now)
        return f"a device installed before follows to root version {found.expiries[0].version} and accepts all"

    def copy(self, folder: Path) -> Twin:
        """Return another one to break."""
        shutil.copytree(self.repo, folder / "repo")
        shutil.copytree(self.keys, folder / "keys")
        return Twin(folder / "repo", folder / "keys", self.root, self.now)


@contextmanager
def twin(repo: Where, now: datetime) -> Iterator[Twin]:
    """Make a twin of a repository for the length of the block."""
    source = Folder(repo)
    with tempfile.TemporaryDirectory(prefix="fieldwatch-drill-") as name:
        copy = Twin(Path(name) / "repo", Path(name) / "keys", b"", now)
        repository = source.load(now)
        names = {role: [key_name(key) for key in repository.authority(role)[0]] for role in ROLES}
        signers = generate(dict.fromkeys(key for keys in names.values() for key in keys))
        repository.begin_anew({role: [signers[key].public_key for key in keys] for role, keys in names.items()})
        save(copy.keys, signers)
        copy.repo.mkdir()
        for info in repository.files():
            target = f"targets/{info.get_prefixed_paths()[0]}"
            Folder(copy.repo).files.write(target, source.read(target))
        work.put(Folder(copy.repo), repository, repository.seal(Keyring(signers.values())))
        copy.root = (copy.repo / work.ROOT).read_bytes()
        yield copy


def lost_key(repo: Where, only: str | None = None, now: datetime | None = None) -> Iterator[str]:
    """Each key is lost: the work goes on, the key is replaced, devices follow."""
    with twin(repo, now or datetime.now(UTC)) as whole:
        for name, role in _keys(whole, only):
            with tempfile.TemporaryDirectory(prefix="fieldwatch-drill-") as folder:
                one = whole.copy(Path(folder))
                (one.keys / f"{name}.pem").unlink()
                try:
                    ceremony.refresh(one.repo, [one.keys], everything=True, now=one.now)
                    goes_on = f"{role} is signed without it"
                except ReleaseError as error:
                    goes_on = f"{role} CANNOT be signed without it"
                    if role == "root":
                        raise ReleaseError(
                            f"{name} lost: nobody can sign {role} any more, for ever: {error}"
                        ) from error
                _rotate(one, name)
                ceremony.refresh(one.repo, [one.keys], everything=True, now=one.now)
                yield f"{name} lost: {goes_on}; replaced by 'keys rotate {name}'; {one.device()}."


def stolen_key(repo: Where, only: str | None = None, now: datetime | None = None) -> Iterator[str]:
    """Each key is stolen and replaced: a thief who has it, and the server, gets nothing into a device."""
    with twin(repo, now or datetime.now(UTC)) as whole:
        for name, role in _keys(whole, only):
            with tempfile.TemporaryDirectory(prefix="fieldwatch-drill-") as folder:
                one = whole.copy(Path(folder))
                ring = Keyring.load([one.keys])
                thief = next(ring.signer(k) for k, holder in ring.holders.items() if holder.path.stem == name)
                _rotate(one, name)
                (one.keys / f"{name}.pem").unlink()
                told = one.device()
                refused = _attack(one, role, thief)
                yield f"{name} stolen: replaced; {told}; what the thief signs as {role} is refused ({refused})."


def expired(repo: Where, now: datetime | None = None) -> Iterator[str]:
    """The release job stops for 3, 8 and 40 days, then everybody for 400."""
    with twin(repo, now or datetime.now(UTC)) as one:
        for days in (3, 8, 40, 400):
            one.now += days * DAY
            folder = Folder(one.repo)
            said = watch.ending(folder.load(one.now).expiries(), one.now)
            if not said:
                raise ReleaseError(f"after {days} days nobody is told")
            yield f"after {days} days without refresh: {' '.join(said)}"
            try:
                one.device()
                yield "  devices still update"
            except ReleaseError as error:
                yield f"  devices keep what they run and take no update ({error.__cause__})"
            ceremony.refresh(one.repo, [one.keys], everything=days > 300, now=one.now)
            yield f"  '{'refresh --all' if days > 300 else 'refresh'}' mends it: {one.device()}."


def offline(repo: Where, now: datetime | None = None) -> Iterator[str]:
    """A device is off for three years, in which every key of root is replaced and one twice more."""
    with twin(repo, now or datetime.now(UTC)) as one:
        root = Folder(one.repo).load(one.now).authority("root")[0]
        names = [key_name(key) for key in root]
        for step in range(5):
            one.now += 210 * DAY
            ceremony.refresh(one.repo, [one.keys], everything=True, now=one.now)
            old = names[step % len(names)]
            names[step % len(names)] = new = _rotate(one, old)
            (one.keys / f"{old}.pem").unlink()
            yield f"{one.now:%Y-%m}: ceremony; {old} gives way to {new}."
        one.now += 45 * DAY
        ceremony.refresh(one.repo, [one.keys], now=one.now)
        yield f"{one.now:%Y-%m}: {one.device()}."


def _keys(whole: Twin, only: str | None) -> list[tuple[str, str]]:
    repository = Folder(whole.repo).load(whole.now)
    if only is not None:
        return [(only, rekey.role_of(repository, only))]
    return [(key_name(key), role) for role in rekey.MEMBERS for key in repository.authority(role)[0]]


def _rotate(one: Twin, name: str) -> str:
    made: list[str] = []

    def edit(repository: Repository, new_key: Callable[[str], Key]) -> None:
        key = new_key(rekey.role_of(repository, name))
        made.append(key_name(key))
        rekey.rotate(repository, name, key)

    ceremony.change_keys(one.repo, [one.keys], edit, one.now)
    return made[0]


def _attack(one: Twin, role: str, thief: Signer) -> str:
    """Put out the next version of a role, signed by a stolen key, and above it all that the online keys can sign."""
    folder = Folder(one.repo)
    state, ring = folder.state(), Keyring.load([one.keys])
    repository = folder.load(one.now)
    roles: dict[str, Metadata[Any]] = {name: Metadata.from_bytes(data) for name, data in state.roles.items()}
    roles["root"] = Metadata.from_bytes(state.roots[-1])
    chain = [role, *(above for above in ("snapshot", "timestamp") if ROLES.index(above) > ROLES.index(role))]
    files = []
    for name in chain if role != "root" else ["root"]:
        metadata = roles[name]
        metadata.signed.version += 1
        own = [ring.signer(key.keyid) for key in repository.authority(name)[0] if key.keyid in ring]
        metadata.signatures.clear()
        for signer in [thief] if name == role else own:
            metadata.sign(signer, append=True)
        data, version = metadata.to_bytes(), metadata.signed.version
        if name == "snapshot":
            roles["timestamp"].signed.snapshot_meta = MetaFile.from_data(version, data, ["sha256"])
        elif name in ROLES[1:4]:
            roles["snapshot"].signed.meta[f"{name}.json"] = MetaFile.from_data(version, data, ["sha256"])
        files.append(File("metadata/" + ("timestamp.json" if name == "timestamp" else f"{version}.{name}.json"), data))
    folder.put(files, state.roles["timestamp"])
    try:
        verify(str(one.repo), one.root, one.now)
    except ReleaseError as error:
        return type(error.__cause__).__name__
    raise ReleaseError(f"a thief with a key of {role} got something into a device")
