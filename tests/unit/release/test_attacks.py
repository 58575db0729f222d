"""Attacks on a device, by name: whoever holds the server, or the server and a key, gets nothing in.

The device has release v1; v2 is published for all. Then somebody interferes, and the device's own updater looks. It
must say what is wrong and keep v1; where no key was stolen, it takes v2 as soon as it sees the sound repository again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_agent.update.activation import Activation
from fieldwatch_agent.update.updater import pull
from fieldwatch_contract.policy import policy_path
from fieldwatch_trainer.release import ceremony, rekey
from fieldwatch_trainer.release.folder import Folder
from fieldwatch_trainer.release.keys import Keyring, generate, named, save
from fieldwatch_trainer.release.roles import ROLES
from fieldwatch_trainer.release.work import read_policy
from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import DelegatedRole, Metadata, MetaFile, Snapshot, TargetFile, Targets

from tests.bundles import make_bundle
from tests.unit.release.test_proposal import ATTACKS as ON_SIGNERS
from tests.unit.release.test_proposal import FORGERIES
from tests.unit.release.test_words import SLIPS
from tests.updates import Site

POLICY_NAME = policy_path("press", "stable")


@dataclass
class World:
    """A repository in an attacker's hands, a copy for this attack alone; ``before``: without a release."""

    site: Site
    before: Path

    @property
    def repo(self) -> Path:
        return self.site.repo

    def file(self, pattern: str) -> Path:
        """The newest file of a pattern below the repository."""
        found = sorted(self.repo.glob(pattern), key=lambda path: (len(path.name), path.name))
        return found[-1]

    def policy_file(self) -> Path:
        signed = Metadata[Any].from_file(str(self.metadata("prod-policy"))).signed
        return self.repo / "targets" / str(signed.targets[POLICY_NAME].get_prefixed_paths()[0])

    def metadata(self, role: str) -> Path:
        return self.repo / "metadata/timestamp.json" if role == "timestamp" else self.file(f"metadata/*.{role}.json")

    def sign(
        self,
        role: str,
        change: Callable[[Any], None],
        keys: Sequence[str] | None = None,
        forge: Callable[[Metadata[Any]], bytes] = Metadata.to_bytes,
        ahead: int = 1,
    ) -> None:
        """Put out the next version of a role, and above it all that refers to it.

        ``keys``: whose sign it (None: as many as it takes).
        So the attacker has the keys of everything above: snapshot and timestamp. ``forge`` makes the file of what was
        signed. What lies above gives the file the number that it has before ``change``; each number rises by ``ahead``.
        """
        folder = Folder(self.repo)
        ring = Keyring.load([self.site.keys])
        named = {holder.path.stem: ring.signer(keyid) for keyid, holder in ring.holders.items()}
        repository = folder.load(datetime.now(UTC))
        parsed = {name: Metadata[Any].from_file(str(self.metadata(name))) for name in ROLES}
        above = [name for name in ("snapshot", "timestamp") if ROLES.index(name) > ROLES.index(role)]
        for name in [role, *above]:
            metadata = parsed[name]
            metadata.signed.version += ahead
            version = metadata.signed.version
            if name == role:
                change(metadata.signed)
            counting, threshold = repository.authority(name)
            own = [key.keyid for key in counting[:threshold]]
            metadata.signatures.clear()
            for signer in [named[k] for k in keys] if name == role and keys is not None else map(ring.signer, own):
                metadata.sign(signer, append=True)
            data = forge(metadata) if name == role else metadata.to_bytes()
            if name == "snapshot":
                parsed["timestamp"].signed.snapshot_meta = MetaFile.from_data(version, data, ["sha256"])
            elif name in ROLES[1:4]:
                parsed["snapshot"].signed.meta[f"{name}.json"] = MetaFile.from_data(version, data, ["sha256"])
            path = "timestamp.json" if name == "timestamp" else f"{version}.{name}.json"
            (self.repo / "metadata" / path).write_bytes(data)

    def rotate(self, name: str, key: Key | None = None) -> None:
        """Let the engineers replace a key, by this one or a new one."""
        ceremony.change_keys(
            self.repo,
            [self.site.keys],
            lambda repository, new: rekey.rotate(repository, name, key or new(rekey.role_of(repository, name))),
        )

    def write_signed(self, name: str, metadata: Metadata[Any], key: str) -> None:
        """Put out a file of metadata signed by one key."""
        ring = Keyring.load([self.site.keys])
        metadata.signatures.clear()
        metadata.sign(next(ring.signer(k) for k, holder in ring.holders.items() if holder.path.stem == key))
        (self.repo / "metadata" / name).write_bytes(metadata.to_bytes())

    def target(
        self,
        signed: Any,
        path: str,
        data: bytes,
        custom: dict[str, Any] | None = None,
        hashes: Sequence[str] = ("sha256",),
    ) -> None:
        """Make some bytes a target of a role that is about to be signed."""
        info = TargetFile.from_data(path, data, list(hashes))
        if custom is not None:
            info.unrecognized_fields["custom"] = custom
        signed.targets[path] = info
        place = self.repo / "targets" / info.get_prefixed_paths()[0]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)

    def policy(self, change: Callable[[dict[str, Any]], None], ahead: int = 1) -> None:
        """Sign a changed policy with the stolen key of the release job."""
        folder = Folder(self.repo)
        policy = read_policy(folder, folder.load(datetime.now(UTC)), POLICY_NAME)
        assert policy is not None
        value = policy.model_dump(mode="json")
        change(value)
        self.sign(
            "prod-policy", lambda signed: self.target(signed, POLICY_NAME, json.dumps(value).encode()), ahead=ahead
        )


def _flip(world: World) -> None:
    path = world.file("targets/prod/press/*.v2.zip")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _write(pattern: str, data: Callable[[bytes], bytes]) -> Callable[[World], None]:
    def attack(world: World) -> None:
        path = world.file(pattern)
        path.write_bytes(data(path.read_bytes()))

    return attack


def _policy_changed(world: World) -> None:
    path = world.policy_file()
    path.write_bytes(path.read_bytes().replace(b"10000", b"10001"))


def _policy_gone(world: World) -> None:
    world.policy_file().unlink()


def _gone(pattern: str) -> Callable[[World], None]:
    return lambda world: world.file(pattern).unlink()


def _other_bundle(world: World) -> None:
    shutil.copy(world.file("targets/prod/press/*.v1.zip"), world.file("targets/prod/press/*.v2.zip"))


def _replay(world: World) -> None:
    shutil.rmtree(world.repo)
    shutil.copytree(world.before, world.repo)


def _old_under_new_name(role: str) -> Callable[[World], None]:
    def attack(world: World) -> None:
        newest = world.metadata(role)
        old = newest.with_name(f"{int(newest.name.split('.')[0]) - 1}.{role}.json")
        shutil.copy(old, newest)

    return attack


def _foreign(world: World) -> None:
    other = Site.make(world.repo.parent / "foreign")
    other.publish(make_bundle(version="v9"))
    shutil.rmtree(world.repo)
    shutil.copytree(other.repo, world.repo)


def _foreign_root(world: World) -> None:
    other = Site.make(world.repo.parent / "foreign")
    root = Metadata[Any].from_file(str(other.repo / "metadata/1.root.json"))
    root.signed.version = 2
    root.signatures.clear()
    ring = Keyring.load([other.keys])
    for keyid, holder in ring.holders.items():
        if holder.path.stem.startswith("root"):
            root.sign(ring.signer(keyid), append=True)
    root.to_file(str(world.repo / "metadata/2.root.json"))


def _signed(
    role: str,
    *keys: str,
    change: Callable[[Any], None] = lambda signed: None,
    forge: Callable[[Metadata[Any]], bytes] = Metadata.to_bytes,
) -> Callable[[World], None]:
    return lambda world: world.sign(role, change, keys, forge)


def _later(signed: Any) -> None:
    signed.version += 1


def _doubled(metadata: Metadata[Any]) -> bytes:
    """The file with its first signature twice, so that they are as many as are needed."""
    value = json.loads(metadata.to_bytes())
    value["signatures"].append(value["signatures"][0])
    return json.dumps(value).encode()


def _spoilt(metadata: Metadata[Any]) -> bytes:
    """The file with a last signature that does not hold."""
    *_, last = metadata.signatures.values()
    last.signature = last.signature[:-1] + ("0" if last.signature[-1] != "0" else "1")
    return metadata.to_bytes()


def _snapshot_as_timestamp(world: World) -> None:
    """What is signed by the timestamp's key, and is as new, but is a snapshot."""
    held = Metadata[Any].from_file(str(world.metadata("timestamp"))).signed.snapshot_meta
    body = Snapshot(
        99, meta={"snapshot.json": held}, expires=datetime.now(UTC).replace(microsecond=0) + timedelta(days=3)
    )
    world.write_signed("timestamp.json", Metadata(body), "timestamp-1")


def _second_of_a_number(world: World) -> None:
    """Another timestamp under the number that the device holds: one file for some devices, one for others."""
    newest = Metadata[Any].from_file(str(world.metadata("timestamp")))
    newest.signed.version -= 1
    world.write_signed("timestamp.json", newest, "timestamp-1")


def _leaving_the_folder(world: World) -> None:
    """The list of delegations sends devices to a role first whose name is a path out of their folder."""
    name = "../../evil"

    def change(signed: Any) -> None:
        keyids = signed.delegations.roles["prod-policy"].keyids
        evil = DelegatedRole(name, keyids, 1, True, ["policy/*/*"])
        signed.delegations.roles = {name: evil} | signed.delegations.roles

    world.sign("targets", change, ["root-1", "root-2"])
    world.sign("snapshot", lambda signed: signed.meta.update({f"{name}.json": MetaFile(1)}))
    (world.repo / "metadata/1...").mkdir()  # so that 1.../../evil.json is found
    world.write_signed(
        "evil.json",
        Metadata(Targets(expires=datetime.now(UTC).replace(microsecond=0) + timedelta(days=3))),
        "policy-1",
    )


def _same_root(world: World) -> None:
    shutil.copy(world.repo / "metadata/1.root.json", world.repo / "metadata/2.root.json")


def _own_key(signed: Any) -> None:
    """A thief of one root key names a key of their own for the bundles' role holder."""
    signed.add_key(generate(["thief"])["thief"].public_key, "targets")
    signed.roles["targets"].threshold = 1


def _expired(signed: Any) -> None:
    signed.expires = (datetime.now(UTC) - timedelta(days=1)).replace(microsecond=0)


def _evil_in_policy(world: World) -> None:
    """The policy role lists a bundle itself, and a policy that offers it."""
    evil = make_bundle(version="evil")

    def change(signed: Any) -> None:
        facts = {"name": "press", "version": "evil", "release_seq": 9, "kernel": 1, "security_floor": 0}
        world.target(signed, "prod/press/evil.zip", evil, facts)

    world.sign("prod-policy", change)
    world.policy(_offers("prod/press/evil.zip", hashlib.sha256(evil).hexdigest()))


def _offers(target: str, sha256: str) -> Callable[[dict[str, Any]], None]:
    def change(value: dict[str, Any]) -> None:
        value["releases"].insert(0, value["releases"][0] | {"target": target, "sha256": sha256, "salt": "x"})

    return change


def _bundle(data: bytes, version: str, hashes: Sequence[str] = ("sha256",), **facts: Any) -> Callable[[World], None]:
    """Two insiders sign a bundle that no device should run, and the job offers it."""

    def attack(world: World) -> None:
        path = f"prod/press/{version}.zip"
        kernel = json.loads(world.metadata("prod").read_bytes())["signed"]["targets"]["prod/press/v1.zip"]["custom"]
        custom = kernel | {"version": version, "release_seq": 9} | facts
        world.sign("prod", lambda signed: world.target(signed, path, data, custom, hashes))
        world.policy(_offers(path, hashlib.sha256(data).hexdigest()))

    return attack


def _policy_bytes(data: bytes) -> Callable[[World], None]:
    return lambda world: world.sign("prod-policy", lambda signed: world.target(signed, POLICY_NAME, data))


def _drops(role: str) -> Callable[[Any], None]:
    return lambda signed: signed.meta.pop(f"{role}.json")


def _older(role: str) -> Callable[[Any], None]:
    def change(signed: Any) -> None:
        signed.meta[f"{role}.json"] = MetaFile(1)

    return change


def _snapshot_back(world: World) -> None:
    data = (world.repo / "metadata/1.snapshot.json").read_bytes()
    world.sign("timestamp", lambda signed: setattr(signed, "snapshot_meta", MetaFile.from_data(1, data, ["sha256"])))


def _removed_key(world: World) -> None:
    """A key of prod was stolen and replaced; the thief has another one beside it, of the release job."""
    stolen = world.repo.parent / "stolen"
    stolen.mkdir()
    shutil.copy(world.site.keys / "prod-1.pem", stolen)
    world.rotate("prod-1")
    world.sign("prod", lambda signed: None, ["prod-1", "prod-2"])


HTML = b"<!doctype html><title>Log in</title>"
IS_DAMAGED, IS_HOSTILE = "is not what was signed", "is not signed by the keys"
Attack = tuple[Callable[[World], None], str, str]
SERVER: dict[str, Attack] = {
    "a byte of the bundle is changed": (_flip, "damaged", IS_DAMAGED),
    "the bundle is cut short": (_write("targets/prod/press/*.v2.zip", lambda d: d[:-7]), "truncated", "broke off"),
    "the bundle does not end": (
        _write("targets/prod/press/*.v2.zip", lambda d: d + d),
        "oversized",
        "more than was announced",
    ),
    "another bundle under its name": (_other_bundle, "damaged", IS_DAMAGED),
    "the bundle is withheld": (_gone("targets/prod/press/*.v2.zip"), "absent", "is missing"),
    "the policy is changed": (_policy_changed, "damaged", IS_DAMAGED),
    "the policy is withheld": (_policy_gone, "absent", "is missing"),
    "the timestamp is withheld": (_gone("metadata/timestamp.json"), "absent", "is missing"),
    "the timestamp is emptied": (_write("metadata/timestamp.json", lambda d: b""), "damaged", "not metadata"),
    "a web page in place of the timestamp": (
        _write("metadata/timestamp.json", lambda d: HTML),
        "damaged",
        "not metadata",
    ),
    "the timestamp's version is raised": (
        _write("metadata/timestamp.json", lambda d: d.replace(b'"version":3', b'"version":9')),
        "hostile",
        IS_HOSTILE,
    ),
    "the snapshot is withheld": (_gone("metadata/*.snapshot.json"), "absent", "is missing"),
    "the bundles' list is withheld": (_gone("metadata/*.prod.json"), "absent", "is missing"),
    "an older repository is shown again": (_replay, "hostile", "offers older metadata"),
    "an older snapshot under the new name": (_old_under_new_name("snapshot"), "damaged", IS_DAMAGED),
    "an older list of bundles under the new name": (_old_under_new_name("prod"), "damaged", IS_DAMAGED),
    "an older policy list under the new name": (_old_under_new_name("prod-policy"), "damaged", IS_DAMAGED),
    "the attacker's own repository": (_foreign, "hostile", IS_HOSTILE),
    "the attacker's own root": (_foreign_root, "hostile", IS_HOSTILE),
    "the same root once more": (_same_root, "hostile", "contradicts itself|older metadata"),
}
"""By who holds the server alone."""
THIEVES: dict[str, Attack] = {
    "a root by one key of two": (_signed("root", "root-1", change=_own_key), "hostile", IS_HOSTILE),
    "a root by the keys of the bundles": (
        _signed("root", "prod-1", "prod-2", "prod-3", change=_own_key),
        "hostile",
        IS_HOSTILE,
    ),
    "a root that skips a version": (
        _signed("root", "root-1", "root-2", change=_later),
        "hostile",
        "contradicts itself|older metadata",
    ),
    "a root that has ended": (_signed("root", "root-1", "root-2", change=_expired), "stale", "is stale"),
    "bundles by one key that signs twice": (_signed("prod", "prod-1", forge=_doubled), "damaged", "not metadata"),
    "bundles by one key and a signature that does not hold": (
        _signed("prod", "prod-1", "prod-2", forge=_spoilt),
        "hostile",
        IS_HOSTILE,
    ),
    "a list of bundles that bears another number": (
        _signed("prod", "prod-1", "prod-2", change=_later),
        "hostile",
        "older metadata",
    ),
    "a snapshot that bears another number": (
        _signed("snapshot", "snapshot-1", change=_later),
        "hostile",
        "older metadata",
    ),
    "a snapshot in the timestamp's place": (_snapshot_as_timestamp, "hostile", "contradicts itself"),
    "a second timestamp of the same number": (_second_of_a_number, "", "press/v1"),
    "the last snapshot for ever": (_signed("snapshot", "snapshot-1", change=_expired), "stale", "is stale"),
    "the last list of bundles for ever": (
        _signed("prod", "prod-1", "prod-2", change=_expired),
        "stale",
        "is stale",
    ),
    "the last policies for ever": (_signed("prod-policy", "policy-1", change=_expired), "stale", "is stale"),
    "delegations by one key of two": (_signed("targets", "root-1"), "hostile", IS_HOSTILE),
    "bundles by one key of two": (_signed("prod", "prod-1"), "hostile", IS_HOSTILE),
    "bundles by the release job's keys": (_signed("prod", "policy-1", "policy-2", "snapshot-1"), "hostile", IS_HOSTILE),
    "bundles by a key that was replaced": (_removed_key, "hostile", IS_HOSTILE),
    "a policy by the keys of the bundles": (_signed("prod-policy", "prod-1", "prod-2"), "hostile", IS_HOSTILE),
    "a snapshot by the timestamp's key": (_signed("snapshot", "timestamp-1", "timestamp-2"), "hostile", IS_HOSTILE),
    "a timestamp by the snapshot's key": (_signed("timestamp", "snapshot-1", "snapshot-2"), "hostile", IS_HOSTILE),
    "time stands still: the last timestamp for ever": (
        _signed("timestamp", "timestamp-1", change=_expired),
        "stale",
        "is stale",
    ),
    "the snapshot goes back": (_snapshot_back, "hostile", "older metadata"),
    "a snapshot without the bundles' list": (
        _signed("snapshot", "snapshot-1", change=_drops("prod")),
        "hostile",
        "contradicts itself",
    ),
    "a snapshot with an older list of bundles": (
        _signed("snapshot", "snapshot-1", change=_older("prod")),
        "hostile",
        "older metadata",
    ),
}
"""By who holds the server and some keys."""
INSIDERS: dict[str, Attack] = {
    "the policy role brings a bundle of its own": (
        _evil_in_policy,
        "nothing",
        "which is not published with this sha256",
    ),
    "a policy offers what nobody signed": (
        lambda w: w.policy(_offers("prod/press/v2.zip", "0" * 64)),
        "nothing",
        "not published with this sha256",
    ),
    "delegations that lead out of the device's folder": (_leaving_the_folder, "nothing", "nothing is published"),
    "a bundle without the hash that devices check": (
        _bundle(make_bundle(version="v8"), "v8", hashes=["sha512"]),
        "nothing",
        "not published with this sha256",
    ),
    "a policy that is no policy": (_policy_bytes(b"[]"), "nothing", "is not understood"),
    "a policy that fills the memory": (_policy_bytes(b" " * ((1 << 20) + 1)), "oversized", "a policy at most"),
    "a bundle that scores otherwise than signed": (
        _bundle(make_bundle(version="v8", wrong_golden=True), "v8"),
        "refused",
        "golden vectors",
    ),
    "a bundle for another type of device": (
        _bundle(make_bundle(version="v8", name="mill"), "v8", name="mill"),
        "misfit",
        "this device is of type press",
    ),
    "a bundle whose facts are another's": (
        _bundle(make_bundle(version="v7"), "v8"),
        "refused",
        "its manifest says press/v7",
    ),
    "a bundle for a kernel to come": (
        _bundle(make_bundle(version="v8"), "v8", kernel=99),
        "misfit",
        "feature kernel 99",
    ),
    "a bundle that is no bundle": (_bundle(b"PK\x03\x04 nothing", "v8"), "refused", "not a readable zip"),
}
"""By who holds the release job's keys, or two of the bundles' too."""


ATTACKS = SERVER | THIEVES | INSIDERS


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with v1 and v2, how it was before both, and a device that has v1."""
    base = tmp_path_factory.mktemp("attacks")
    site = Site.make(base)
    shutil.copytree(site.repo, base / "before")
    site.publish(make_bundle(version="v1"))
    assert pull(site.repo, site.root, base / "state", "press-1", "press", "stable").outcome == "activated"
    site.publish(make_bundle(version="v2"))
    return base


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_gets_nothing_in(prepared: Path, tmp_path: Path, attack: str) -> None:
    act, trouble, says = ATTACKS[attack]
    shutil.copytree(prepared, tmp_path / "it")
    base = tmp_path / "it"
    site, state, root = Site(base / "repo", base / "repo-keys"), base / "state", (base / "repo/root.json").read_bytes()
    act(World(site, base / "before"))
    beside = set(base.iterdir())
    result = pull(site.repo, root, state, "press-1", "press", "stable")
    assert result.trouble == trouble, result
    assert any(text in result.detail for text in says.split("|")), result
    running = Activation(state).current()
    assert running is not None
    assert running.manifest.version == "v1", "the bundle that it had goes on"
    assert set(base.iterdir()) == beside, "nothing is written outside of the device's own folder"
    if attack in SERVER:
        sound = pull(prepared / "repo", root, state, "press-1", "press", "stable")
        assert (sound.outcome, sound.bundle) == ("activated", "press/v2"), sound


def _unknown_fields(world: World) -> None:
    for role in ROLES:
        world.sign(role, lambda signed: signed.unrecognized_fields.update({"x-later": {"a": [1, None, "µ"]}}))


def _other_kind(make: Callable[[], CryptoSigner]) -> Callable[[World], None]:
    """The key of a role gives way to one of another kind, for root and for what is signed daily."""

    def change(world: World) -> None:
        for role in ("root", "timestamp"):
            new = make()
            named(new.public_key, f"{role}-9")
            save(world.site.keys, {f"{role}-9": new})
            world.rotate(f"{role}-1", new.public_key)
            (world.site.keys / f"{role}-1.pem").unlink()

    return change


SOUND: dict[str, Callable[[World], None]] = {
    "fields that nobody knows yet": _unknown_fields,
    "a signature that does not hold beside two that do": _signed("prod", "prod-1", "prod-2", "prod-3", forge=_spoilt),
    "keys on the curve P-256": _other_kind(CryptoSigner.generate_ecdsa),
    "keys of RSA": _other_kind(CryptoSigner.generate_rsa),
    "keys that withstand a quantum computer": _other_kind(CryptoSigner.generate_mldsa),
}
"""What looks unusual and is signed as it should be."""


@pytest.mark.parametrize("unusual", SOUND)
def test_what_is_sound_is_taken(prepared: Path, tmp_path: Path, unusual: str) -> None:
    shutil.copytree(prepared, tmp_path / "it")
    base = tmp_path / "it"
    root = (base / "repo/root.json").read_bytes()
    SOUND[unusual](World(Site(base / "repo", base / "repo-keys"), base / "before"))
    result = pull(base / "repo", root, base / "state", "press-1", "press", "stable")
    assert (result.outcome, result.bundle) == ("activated", "press/v2"), result


def test_a_thief_who_ran_ahead_is_overtaken(prepared: Path, tmp_path: Path) -> None:
    """With the release job's keys a thief raises every number, so that nothing newer can follow; new keys undo it."""
    shutil.copytree(prepared, tmp_path / "it")
    base = tmp_path / "it"
    site, state, root = Site(base / "repo", base / "repo-keys"), base / "state", (base / "repo/root.json").read_bytes()
    shutil.copytree(site.repo, base / "backup")
    world = World(site, base / "before")
    world.policy(lambda value: value.update(halt=True), ahead=1_000_000)
    assert pull(site.repo, root, state, "press-1", "press", "stable").trouble == ""
    assert json.loads((state / "tuf/timestamp.json").read_bytes())["signed"]["version"] > 1_000_000

    shutil.rmtree(site.repo)
    shutil.copytree(base / "backup", site.repo)
    assert pull(site.repo, root, state, "press-1", "press", "stable").trouble == "hostile", "the copy alone is older"
    for key in ("policy-1", "snapshot-1", "timestamp-1"):
        world.rotate(key)
    result = pull(site.repo, root, state, "press-1", "press", "stable")
    assert (result.outcome, result.bundle) == ("activated", "press/v2"), result


def test_there_are_as_many_as_were_asked_for() -> None:
    """At least 30 named attacks, and 25 named slips of an engineer, each with the words that it is answered with."""
    assert len(ATTACKS) >= 30
    assert len(ON_SIGNERS) + len(FORGERIES) >= 20
    assert len({command for _, command, _, _ in SLIPS}) >= 25
    assert all(len(says) >= 5 for _, _, says in ATTACKS.values())
