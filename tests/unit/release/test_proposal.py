"""Two desks that share nothing but the proposal file, and what a proposal must not get past the second."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_trainer.release import actions, ceremony, rekey
from fieldwatch_trainer.release.__main__ import main
from fieldwatch_trainer.release.errors import Refused, ReleaseError
from fieldwatch_trainer.release.folder import Folder
from fieldwatch_trainer.release.keys import Keyring, generate
from fieldwatch_trainer.release.metadata import File
from fieldwatch_trainer.release.proposal import Proposal, Wish
from fieldwatch_trainer.release.verify import verify
from tuf.api.metadata import Metadata, TargetFile

from tests.bundles import make_bundle
from tests.updates import Site

Run = Callable[..., tuple[int, str]]


@dataclasses.dataclass
class Desks:
    """A's desk has the repository and a key of ``prod``; B's has a key and the root from the ceremony; the release job
    has the online keys."""

    site: Site
    a: Path
    b: Path
    job: Path
    file: Path

    def keep(self, folder: Path, *names: str) -> None:
        folder.mkdir(exist_ok=True)
        for name in names:
            (self.site.keys / f"{name}.pem").rename(folder / f"{name}.pem")


@pytest.fixture
def desks(site: Site, tmp_path: Path, v1: bytes, v2: bytes) -> Desks:
    site.publish(v1)
    for version, data in (("v1", v1), ("v2", v2)):
        (tmp_path / f"{version}.zip").write_bytes(data)
    found = Desks(site, tmp_path / "a", tmp_path / "b", tmp_path / "job", tmp_path / "v2.proposal")
    found.keep(found.a, "prod-1", "root-1")
    found.keep(found.b, "prod-2", "root-2")
    found.keep(found.job, "policy-1", "snapshot-1", "timestamp-1")
    shutil.copy(site.repo / "root.json", found.b / "root.json")
    return found


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command; return its exit code and all that it said."""

    def run(*words: object) -> tuple[int, str]:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def test_two_desks_sign_one_release(desks: Desks, tmp_path: Path, run: Run) -> None:
    repo, installed = desks.site.repo, desks.site.root

    code, said = run("sign", tmp_path / "v2.zip", "--out", desks.file, "--channel", "stable", "--percent", 10,
                     "--accept", "no-gates", "--repo", repo, "--keys", desks.a, "--devices", 300)  # fmt: skip
    assert (code, "Still to sign: prod wants 1 more of prod-2, prod-3." in said) == (0, True)
    code, said = run("publish", desks.file, "--repo", repo, "--keys", desks.job)
    assert (code, "waits for signatures: prod wants 1 more of prod-2, prod-3" in said) == (3, True)

    # B has never seen the repository: the file travels on a stick
    away = tmp_path / "elsewhere"
    away.mkdir()
    shutil.move(desks.file, away / "it")
    hidden = repo.rename(tmp_path / "hidden")
    code, told = run("countersign", away / "it", "--keys", desks.b, "--devices", 300, "--dry-run")
    assert code == 0
    for text in (
        "Bundle press/v2, release 2, sha256 ",
        "for devices of type press with 3 sensors; models: detector (threshold 27)",
        "It reproduces its golden vectors here.",
        "Then, in channel stable, for 10 % of its devices:",
        "about 30 of 300 devices go from press/v1 to press/v2 at their next poll.",
        "Role prod then holds until ",
    ):
        assert text in told
    code, said = run("countersign", away / "it", "--keys", desks.b)
    assert (code, "nobody is there to say yes" in said) == (1, True)
    code, said = run("countersign", away / "it", "--keys", desks.b, "--yes")
    assert (code, "All have signed: 'publish' the proposal." in said) == (0, True)
    code, said = run("countersign", away / "it", "--keys", desks.b, "--yes")
    assert (code, "can sign is signed already. All have signed: 'publish' the proposal." in said) == (3, True)

    hidden.rename(repo)
    code, said = run("publish", away / "it", "--repo", repo, "--keys", desks.job, "--channel", "stable")
    assert (code, "leave --channel and the share away" in said) == (2, True)
    assert run("publish", away / "it", "--repo", repo, "--keys", desks.job)[0] == 0
    assert verify(str(repo), installed).bundles == ["prod/press/v1.zip", "prod/press/v2.zip"]
    policy = actions.channels(repo)[0].policy
    assert [(r.target, r.bp) for r in policy.releases] == [("prod/press/v2.zip", 1000), ("prod/press/v1.zip", 10_000)]
    code, said = run("publish", away / "it", "--repo", repo, "--keys", desks.job)
    assert (code, "is published already, nothing is left to do" in said) == (3, True), "a second time"


@pytest.mark.parametrize("name", ["root-1", "prod-1"])
def test_a_lost_key_is_replaced_from_two_desks(desks: Desks, tmp_path: Path, name: str) -> None:
    """The holder of the lost key is A; B and C hold enough of root."""
    repo, installed = desks.site.repo, desks.site.root
    c, file = tmp_path / "c", tmp_path / "rotation"
    desks.keep(c, "root-3", "prod-3")
    shutil.copy(repo / "root.json", c / "root.json")
    (desks.a / f"{name}.pem").unlink()
    command = ["keys", "rotate", name, "--repo", str(repo), "--keys", str(desks.b), "--propose", str(file)]
    assert main(command) == 0
    assert verify(str(repo), installed).expiries[0].version == 1, "nothing is published yet"
    assert main(["countersign", str(file), "--keys", str(c), "--yes"]) == 0
    assert main(["publish", str(file), "--repo", str(repo), "--keys", str(desks.job)]) == 0
    found = verify(str(repo), installed)
    assert found.expiries[0].version == (2 if name == "root-1" else 1)
    assert name not in [n for role in rekey.MEMBERS for n in Folder(repo).load(datetime.now(UTC)).signed_by(role)]


def test_a_device_count_and_a_share_are_those_of_the_moment_of_publishing(desks: Desks, tmp_path: Path) -> None:
    """The channel was halted meanwhile: the release job refuses what was agreed on under other conditions."""
    main(["sign", str(tmp_path / "v2.zip"), "--out", str(desks.file), "--channel", "stable", "--accept", "no-gates",
          "--repo", str(desks.site.repo), "--keys", str(desks.a)])  # fmt: skip
    main(["countersign", str(desks.file), "--keys", str(desks.b), "--yes"])
    main(["halt", "press", "--channel", "stable", "--repo", str(desks.site.repo), "--keys", str(desks.job)])
    assert main(["publish", str(desks.file), "--repo", str(desks.site.repo), "--keys", str(desks.job)]) == 3


# ---- what must not get past the second desk --------------------------------------------------------------------

Signed = dict[str, Any]


def made(desks: Desks, tmp_path: Path) -> Proposal:
    ceremony.sign(
        desks.site.repo, [desks.a], tmp_path / "v2.zip", desks.file, Wish("stable", 1000), accept=["no-gates"]
    )
    return Proposal.from_bytes(desks.file.read_bytes())


def resigned(desks: Desks, proposal: Proposal, role: str, change: Callable[[Any], None]) -> Proposal:
    """A changes what is proposed and signs it in due form."""
    metadata = Metadata[Any].from_bytes(proposal.drafts.get(role) or proposal.state.roles[role])
    if role not in proposal.drafts:
        metadata.signed.version += 1
    change(metadata.signed)
    metadata.signatures.clear()
    ring = Keyring.load([desks.a])
    for keyid in ring.holders:
        metadata.sign(ring.signer(keyid), append=True)
    return dataclasses.replace(proposal, drafts={**proposal.drafts, role: metadata.to_bytes()})


def _second(signed: Any) -> None:
    signed.targets["prod/press/evil.zip"] = TargetFile.from_data("prod/press/evil.zip", b"evil", ["sha256"])


def _no_bundle(signed: Any) -> None:
    signed.targets["prod/press/notes.txt"] = TargetFile.from_data("prod/press/notes.txt", b"x", ["sha256"])


def _drop(signed: Any) -> None:
    del signed.targets["prod/press/v1.zip"]


def _swap(signed: Any) -> None:
    signed.targets["prod/press/v1.zip"].hashes["sha256"] = "0" * 64


def _facts(**changes: Any) -> Callable[[Any], None]:
    def change(signed: Any) -> None:
        signed.targets["prod/press/v2.zip"].unrecognized_fields["custom"].update(changes)

    return change


def _field(signed: Any) -> None:
    signed.unrecognized_fields["x-run"] = "everything"


def _place(signed: Any) -> None:
    for ending in ("zip", "cdx.json"):
        signed.targets[f"prod/mill/v2.{ending}"] = signed.targets.pop(f"prod/press/v2.{ending}")


def _wider(signed: Any) -> None:
    signed.delegations.roles["prod-policy"].paths = ["policy/*/*", "prod/*/*"]


def _one_key(signed: Any) -> None:
    signed.delegations.roles["prod"].threshold = 1


def _key_under_an_old_id(signed: Any) -> None:
    evil = generate(["evil"])["evil"].public_key
    keyid = signed.delegations.roles["prod"].keyids[1]
    signed.delegations.keys[keyid].keyval = evil.keyval


def _third_role(signed: Any) -> None:
    from tuf.api.metadata import DelegatedRole

    role = signed.delegations.roles["prod"]
    signed.delegations.roles["more"] = DelegatedRole("more", role.keyids, 2, True, ["prod/*/*"])


ATTACKS: dict[str, tuple[str, Callable[[Any], None], str]] = {
    "a second bundle": ("prod", _second, "custom facts do not hold"),
    "a file that is no bundle": ("prod", _no_bundle, "something that is none"),
    "a bundle is taken away": ("prod", _drop, "takes away or changes prod/press/v1.zip"),
    "a published bundle is exchanged": ("prod", _swap, "takes away or changes prod/press/v1.zip"),
    "facts of another bundle": ("prod", _facts(version="v9"), "is not the place of press/v9"),
    "another kernel": ("prod", _facts(kernel=99), "the bundle's manifest of another"),
    "a release number of the past": ("prod", _facts(release_seq=1), "release number 1 is taken"),
    "more than the facts": ("prod", _facts(run_as="root"), "says more of the bundle than its facts"),
    "another field": ("prod", _field, "changes more in prod than bundles and keys"),
    "another place": ("prod", _place, "is not the place of press/v2"),
    "online keys get the bundles": ("targets", _wider, "changes more in targets than bundles and keys"),
    "one key alone ships": ("targets", _one_key, "lets one key alone sign prod"),
    "another key under an old id": ("targets", _key_under_an_old_id, "under an id that is not its own"),
    "a further role": ("targets", _third_role, "changes more in targets than bundles and keys"),
    "the version after the next": (
        "prod",
        lambda s: setattr(s, "version", s.version + 1),
        "the repository has moved on",
    ),
    "an older version": ("prod", lambda s: setattr(s, "version", 1), "the repository has moved on"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_proposal_that_does_more_than_it_says_is_not_signed(desks: Desks, tmp_path: Path, attack: str) -> None:
    role, change, says = ATTACKS[attack]
    desks.file.write_bytes(resigned(desks, made(desks, tmp_path), role, change).to_bytes())
    refuse(desks, says)


def _other_bytes(proposal: Proposal) -> Proposal:
    file = proposal.files[0]
    return dataclasses.replace(proposal, files=(File(file.path, make_bundle(version="v2", mean=3.0)),))


def _broken_bytes(proposal: Proposal) -> Proposal:
    return dataclasses.replace(proposal, files=(File(proposal.files[0].path, b"PK no bundle"),))


def _extra_file(proposal: Proposal) -> Proposal:
    return dataclasses.replace(proposal, files=(*proposal.files, File("targets/../../etc/cron.d/x", b"x")))


def _other_policy(proposal: Proposal) -> Proposal:
    path = next(iter(proposal.policies))
    return dataclasses.replace(proposal, policies={path: proposal.policies[path].replace(b"10000", b"5000")})


def _online_draft(proposal: Proposal) -> Proposal:
    drafts = {**proposal.drafts, "prod-policy": proposal.state.roles["prod-policy"]}
    return dataclasses.replace(proposal, drafts=drafts)


def _forged_state(proposal: Proposal) -> Proposal:
    old = json.loads(proposal.state.roles["prod"])
    old["signed"]["targets"]["prod/press/v2.zip"] = old["signed"]["targets"]["prod/press/v1.zip"]
    roles = {**proposal.state.roles, "prod": json.dumps(old).encode()}
    return dataclasses.replace(proposal, state=dataclasses.replace(proposal.state, roles=roles))


def _no_change(proposal: Proposal) -> Proposal:
    return dataclasses.replace(proposal, drafts={})


FORGERIES: dict[str, tuple[Callable[[Proposal], Proposal], str]] = {
    "other bytes than signed": (_other_bytes, "is not the one that it signs"),
    "bytes that are no bundle": (_broken_bytes, "does not hold"),
    "a file beside the bundle": (_extra_file, "which it does not sign"),
    "a policy that is not the signed one": (_other_policy, "is not the one that is signed"),
    "a role of the release job": (_online_draft, "a proposal does not carry prod-policy"),
    "a false picture of what is there": (_forged_state, "prod: its signatures do not hold"),
    "nothing at all": (_no_change, "changes nothing"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_file_that_was_changed_on_its_way_is_not_signed(desks: Desks, tmp_path: Path, forgery: str) -> None:
    forge, says = FORGERIES[forgery]
    desks.file.write_bytes(forge(made(desks, tmp_path)).to_bytes())
    refuse(desks, says)


def test_a_proposal_for_another_repository_is_not_signed(desks: Desks, tmp_path: Path) -> None:
    """An attacker's repository that names B's key too: only B's own root tells them apart."""
    made(desks, tmp_path)
    foreign = Site.make(tmp_path / "foreign")
    shutil.copy(foreign.repo / "root.json", desks.b / "root.json")
    refuse(desks, "is for another repository, or somebody interferes")


def test_without_a_root_of_ones_own_nothing_is_signed(desks: Desks, tmp_path: Path) -> None:
    made(desks, tmp_path)
    (desks.b / "root.json").unlink()
    assert main(["countersign", str(desks.file), "--keys", str(desks.b), "--yes"]) == 2


@pytest.mark.parametrize("data", [b"", b"{}", b"PK", b'{"fieldwatch": "proposal", "v": 2}', b"[1]"])
def test_what_is_no_proposal_is_said(desks: Desks, data: bytes) -> None:
    desks.file.write_bytes(data)
    with pytest.raises(ReleaseError, match=r"not a proposal|another version"):
        ceremony.countersign(desks.file, [desks.b], (desks.b / "root.json").read_bytes(), lambda _: True)


def test_the_publisher_believes_a_proposal_no_more_than_the_signers(desks: Desks, tmp_path: Path) -> None:
    """Both signers are deceived or bribed: what no sentence tells does not go out either."""
    proposal = resigned(desks, made(desks, tmp_path), "targets", _wider)
    desks.file.write_bytes(proposal.to_bytes())
    before = {path: path.read_bytes() for path in desks.site.repo.rglob("*") if path.is_file()}
    assert main(["publish", str(desks.file), "--repo", str(desks.site.repo), "--keys", str(desks.job)]) == 3
    assert {path: path.read_bytes() for path in desks.site.repo.rglob("*") if path.is_file()} == before


def refuse(desks: Desks, says: str) -> None:
    before = desks.file.read_bytes()
    with pytest.raises(ReleaseError) as caught:
        ceremony.countersign(desks.file, [desks.b], (desks.b / "root.json").read_bytes(), lambda _: True)
    assert says in str(caught.value)
    assert desks.file.read_bytes() == before, "no signature was given"


def test_a_no_is_a_no(desks: Desks, tmp_path: Path) -> None:
    made(desks, tmp_path)
    before = desks.file.read_bytes()
    with pytest.raises(Refused, match="not signed"):
        ceremony.countersign(desks.file, [desks.b], (desks.b / "root.json").read_bytes(), lambda _: False)
    assert desks.file.read_bytes() == before


def test_slips_at_the_second_desk(desks: Desks, tmp_path: Path, run: Run) -> None:
    """A wrong file, a wrong folder, the first signer again, publishing too early: each in words that lead on."""
    repo, file = desks.site.repo, desks.file
    say = ("sign", tmp_path / "v2.zip", "--out", file, "--channel", "stable", "--accept", "no-gates")
    assert run(*say, "--repo", repo, "--keys", desks.a)[0] == 0
    code, said = run("countersign", tmp_path / "v2.zip", "--keys", desks.b, "--yes")
    assert (code, f"{tmp_path / 'v2.zip'}: not a proposal as 'sign' makes it" in said) == (1, True)
    assert len(said) < 400, "not the bundle's bytes"
    code, said = run("countersign", file, "--keys", tmp_path / "none", "--yes")
    assert (code, f"no folder of keys at {tmp_path / 'none'}" in said) == (1, True)
    for desk in (desks.a, desks.job):
        (desk / "root.json").write_bytes(desks.site.root)
    code, said = run("countersign", file, "--keys", desks.a, "--yes")
    assert (code, f"what {desks.a} can sign is signed already. Still to sign: prod wants 1" in said) == (3, True)
    code, said = run("countersign", file, "--keys", desks.job, "--yes")
    assert (code, f"the keys in {desks.job} count for nothing in this proposal. Still to sign" in said) == (3, True)
    before = {path: path.read_bytes() for path in repo.rglob("*") if path.is_file()}
    code, said = run("publish", file, "--repo", repo, "--keys", desks.job)
    assert (code, "waits for signatures: prod wants 1 more of" in said) == (3, True), said
    assert {path: path.read_bytes() for path in repo.rglob("*") if path.is_file()} == before
