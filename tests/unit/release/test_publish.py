"""What release engineers do, and what the repository refuses to do for them."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fieldwatch_contract.bundle import read_bundle, write_bundle
from fieldwatch_contract.features import KERNEL
from fieldwatch_contract.policy import Policy
from fieldwatch_trainer.release import actions, ceremony, rollout
from fieldwatch_trainer.release.__main__ import main
from fieldwatch_trainer.release.errors import ReleaseError
from fieldwatch_trainer.release.roles import KEYS, NAMES, OFFLINE
from fieldwatch_trainer.release.verify import verify
from tuf.api.metadata import Metadata, Root

from tests.bundles import make_bundle
from tests.updates import Site, serve


def the_policy(site: Site, channel: str = "stable") -> Policy:
    return next(item.policy for item in actions.channels(site.repo) if item.channel == channel)


def test_a_cold_client_accepts_what_was_published(site: Site, v1: bytes, v2: bytes) -> None:
    site.publish(v1)
    site.publish(v2, bp=1000)
    actions.create_channel(site.repo, [site.keys], "early")
    site.publish(v2, channel="early")
    for source in (str(site.repo), None):
        with serve(site.repo) as server:
            found = verify(source or server.url, site.root)
        assert found.bundles == ["prod/press/v1.zip", "prod/press/v2.zip"]
        assert found.policies == ["policy/press/early.json", "policy/press/stable.json"]
    policy = the_policy(site)
    assert [(r.target, r.bp) for r in policy.releases] == [("prod/press/v2.zip", 1000), ("prod/press/v1.zip", 10000)]
    assert policy.releases[0].salt != policy.releases[1].salt


def test_the_root_wants_two_of_three_and_the_policy_key_cannot_sign_bundles(site: Site) -> None:
    root = Metadata[Root].from_bytes(site.root).signed
    assert root.consistent_snapshot
    assert (root.roles["root"].threshold, len(root.roles["root"].keyids)) == (2, 3)
    targets = Metadata.from_file(str(site.repo / "metadata" / "1.targets.json")).signed
    prod, policy = targets.delegations.roles["prod"], targets.delegations.roles["prod-policy"]
    assert prod.paths == ["prod/*/*"]
    assert prod.terminating
    assert policy.paths == ["policy/*/*"]
    used = [set(r.keyids) for r in (root.roles["root"], prod, policy, root.roles["snapshot"], root.roles["timestamp"])]
    assert sum(map(len, used)) == len(set().union(*used)), "roles share keys"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
def test_keys_are_for_their_owner_and_outside_what_is_served(site: Site, tmp_path: Path) -> None:
    assert sorted(path.stem for path in site.keys.glob("*.pem")) == sorted(
        {n for names in KEYS.values() for n in names}
    )
    assert {stat.S_IMODE(path.stat().st_mode) for path in site.keys.glob("*.pem")} == {0o600}
    assert not list(site.repo.rglob("*.pem"))
    with pytest.raises(ReleaseError, match="which a server offers to everybody"):
        actions.init(tmp_path / "new", tmp_path / "new" / "keys")
    with pytest.raises(ReleaseError, match="keys are never replaced"):
        actions.init(tmp_path / "new", site.keys)
    with pytest.raises(ReleaseError, match="repository already"):
        actions.init(site.repo, tmp_path / "other-keys")


def test_a_version_is_never_used_twice(site: Site, v1: bytes) -> None:
    first = site.publish(v1)
    with pytest.raises(ReleaseError, match="v1 is published already with other bytes"):
        site.publish(make_bundle(version="v1", mean=3.0))
    assert site.publish(v1, bp=10_000) == first, "the same bytes again are no error"
    assert verify(str(site.repo), site.root).bundles == ["prod/press/v1.zip"]


def test_bundles_are_numbered_and_carry_facts(site: Site, v1: bytes, v2: bytes) -> None:
    assert site.publish(v1).facts.release_seq == 1
    facts = site.publish(v2, security_floor=2).facts
    assert (facts.release_seq, facts.security_floor, facts.kernel) == (2, 2, KERNEL)
    assert site.publish(make_bundle(version="v1", name="mill")).facts.release_seq == 1
    with pytest.raises(ReleaseError, match="security floor 9 is above this release"):
        site.publish(make_bundle(version="v3"), security_floor=9)
    assert site.publish(v2, security_floor=2).facts == facts
    assert site.publish(v2).facts == facts
    with pytest.raises(ReleaseError, match=r"already, with security floor 2, .* with a new version"):
        site.publish(v2, security_floor=1)


def test_a_bundle_that_fails_its_own_test_is_not_published(site: Site, tmp_path: Path) -> None:
    before = sorted(path.name for path in site.repo.rglob("*"))
    with pytest.raises(ReleaseError, match=r"golden vectors: score\.detector differs"):
        site.publish(make_bundle(wrong_golden=True))
    with pytest.raises(ReleaseError, match="not a readable zip"):
        site.publish(b"PK something else")
    sound = read_bundle(make_bundle(classifier=True))
    with pytest.raises(ReleaseError, match=r"bundle\.zip: baseline\.npz cannot be read"):
        site.publish(write_bundle(sound.manifest, sound.files | {"baseline.npz": b"garbage"}))
    with pytest.raises(ReleaseError, match="cannot be read: No such file"):
        actions.publish(site.repo, [site.keys], tmp_path / "none.zip", "stable")
    with pytest.raises(ReleaseError, match="cannot name a channel"):
        site.publish(make_bundle(), channel="../stable")
    assert sorted(path.name for path in site.repo.rglob("*")) == before


@pytest.mark.parametrize("lost", NAMES)
def test_any_one_key_can_be_missing(site: Site, v1: bytes, lost: str) -> None:
    (site.keys / f"{lost}.pem").unlink()
    assert site.publish(v1).facts.version == "v1"
    ceremony.refresh(site.repo, [site.keys], everything=True)
    assert verify(str(site.repo), site.root).bundles == ["prod/press/v1.zip"]


@pytest.mark.parametrize("role", ["prod", "prod-policy", "snapshot", "timestamp"])
def test_missing_keys_are_named_and_nothing_changes(site: Site, v1: bytes, role: str) -> None:
    away = site.repo.with_name("stick")
    away.mkdir()
    for name in KEYS[role]:
        (site.keys / f"{name}.pem").rename(away / f"{name}.pem")
    timestamp = (site.repo / "metadata" / "timestamp.json").read_bytes()
    with pytest.raises(ReleaseError, match=rf"role {role} is signed by .*such as {KEYS[role][0]}\.pem"):
        site.publish(v1)
    assert (site.repo / "metadata" / "timestamp.json").read_bytes() == timestamp
    # …and a second folder, such as a stick, brings them back
    bundle = site.repo.with_name("bundle.zip")
    assert actions.publish(site.repo, [site.keys, away], bundle, "stable", accept=["no-gates"]).facts.version == "v1"


def test_publishing_again_widens_no_rollout(site: Site, v1: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = site.repo.with_name("bundle.zip")
    bundle.write_bytes(v1)
    command = [
        "publish",
        str(bundle),
        "--repo",
        str(site.repo),
        "--channel",
        "stable",
        "--json",
        "--accept",
        "no-gates",
    ]
    for share, expected in ((["--percent", "10"], 1000), ([], 1000), (["--percent", "50"], 5000), ([], 5000)):
        assert main([*command, *share]) == 0
        assert json.loads(capsys.readouterr().out)["bp"] == expected
    assert main(["channel", "create", "other", "--repo", str(site.repo)]) == 0
    capsys.readouterr()
    assert main([*command[:-3], "--channel", "other", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bp"] == 10_000, "a new release is for all"


def test_a_damaged_key_file_is_named(site: Site, v1: bytes) -> None:
    (site.keys / "prod-1.pem").write_bytes(b"-----BEGIN PRIVATE KEY-----\nrubbish\n")
    with pytest.raises(ReleaseError, match=r"prod-1\.pem: not a private key in PKCS #8 PEM"):
        site.publish(v1)
    (site.keys / "prod-1.pem").write_bytes(b"")
    with pytest.raises(ReleaseError, match=r"prod-1\.pem: empty: the key is lost; restore it from its copy"):
        site.publish(v1)


def test_the_daily_refresh_needs_the_online_keys_alone(tmp_path: Path, v1: bytes) -> None:
    start = datetime.now(UTC) - timedelta(days=20)
    site = Site.make(tmp_path, start)
    site.publish(v1, now=start)
    with pytest.raises(ReleaseError, match=r"timestamp\.json is expired"):
        verify(str(site.repo), site.root)
    for name in OFFLINE:
        (site.keys / f"{name}.pem").unlink()
    expiries = {item.role: item for item in ceremony.refresh(site.repo, [site.keys])}
    assert expiries["prod"].version == 2
    assert expiries["prod-policy"].version == 3, "past half of its life, its key at hand: renewed too"
    assert verify(str(site.repo), site.root).bundles == ["prod/press/v1.zip"]
    again = {item.role: item.version for item in ceremony.refresh(site.repo, [site.keys])}
    assert again["prod-policy"] == 3
    (site.keys / "policy-1.pem").unlink()
    ceremony.refresh(site.repo, [site.keys], now=start + timedelta(days=30))


def test_an_expired_root_is_said_and_the_yearly_ceremony_mends_it(tmp_path: Path, v1: bytes) -> None:
    start = datetime.now(UTC) - timedelta(days=400)
    site = Site.make(tmp_path, start)
    site.publish(v1, now=start)
    installed = site.root
    with pytest.raises(ReleaseError, match=r"root expired at .*root-1, root-2, root-3.*refresh --all"):
        ceremony.refresh(site.repo, [site.keys])
    assert {item.version for item in ceremony.refresh(site.repo, [site.keys], everything=True)} == {2, 3}
    assert verify(str(site.repo), installed).bundles == ["prod/press/v1.zip"], "devices with the old root follow"
    assert site.root != installed


def test_remains_of_an_interrupted_publication_are_not_seen(site: Site, v1: bytes, v2: bytes) -> None:
    site.publish(v1)
    timestamp = (site.repo / "metadata" / "timestamp.json").read_bytes()
    site.publish(v2)
    (site.repo / "metadata" / "timestamp.json").write_bytes(timestamp)  # killed just before the last file
    assert verify(str(site.repo), site.root).bundles == ["prod/press/v1.zip"]
    assert site.publish(v2).facts.release_seq == 2
    assert verify(str(site.repo), site.root).bundles == ["prod/press/v1.zip", "prod/press/v2.zip"]


def test_damage_in_the_repository_stops_a_publication(site: Site, v1: bytes, v2: bytes) -> None:
    site.publish(v1)
    path = site.repo / "metadata" / "2.prod.json"
    whole = path.read_text()
    path.write_text(whole.replace('"release_seq":1', '"release_seq":7'))
    with pytest.raises(ReleaseError, match="prod: its signatures do not hold"):
        site.publish(v2)
    path.write_text(whole[:100])
    with pytest.raises(ReleaseError, match="prod: the metadata is damaged"):
        site.publish(v2)


def test_verify_finds_a_flipped_byte_and_a_foreign_root(site: Site, tmp_path: Path, v1: bytes) -> None:
    file = site.file(site.publish(v1))
    foreign = Site.make(tmp_path / "foreign")
    with pytest.raises(ReleaseError, match="UnsignedMetadataError"):
        verify(str(site.repo), foreign.root)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ReleaseError, match="LengthOrHashMismatchError"):
        verify(str(site.repo), site.root)


def test_two_publishers_do_not_meet(site: Site, v1: bytes) -> None:
    holder = (
        "import sys; from pathlib import Path; from fieldwatch_trainer.release.folder import Folder\n"
        "with Folder(Path(sys.argv[1])).only_publisher(): print('in', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", holder, str(site.repo)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        with pytest.raises(ReleaseError, match="somebody else is publishing"):
            site.publish(v1)
        other.kill()
    assert site.publish(v1).facts.version == "v1", "the lock dies with its holder"


def test_rollout_edits_keep_what_devices_fall_back_to() -> None:
    policy = Policy()
    for place in range(5):
        policy = rollout.offer(policy, f"prod/press/v{place}.zip", f"{place}" * 64, 10_000 if place in {0, 2} else 100)
    assert [release.target[-6:-4] for release in policy.releases] == ["v4", "v3", "v2"]
    policy = rollout.share(policy, "4" * 64, 10_000)
    assert [release.target[-6:-4] for release in policy.releases] == ["v4", "v3", "v2"]
    revoked = rollout.revoke(policy, "2" * 64)
    assert [r.target[-6:-4] for r in rollout.offer(revoked, "prod/press/v5.zip", "5" * 64, 10).releases] == ["v5", "v4"]
    with pytest.raises(ReleaseError, match="is revoked in this channel"):
        rollout.offer(revoked, "prod/press/v2.zip", "2" * 64, 10)
    with pytest.raises(ReleaseError, match="not in the channel's policy"):
        rollout.share(policy, "9" * 64, 10)
    only = rollout.offer(Policy(), "prod/press/v0.zip", "0" * 64, 10_000)
    with pytest.raises(ReleaseError, match="publish a replacement first"):
        rollout.revoke(only, "0" * 64)


def test_the_command_line(tmp_path: Path, v1: bytes, v2: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*command: str | Path) -> str:
        assert main([str(part) for part in command]) == 0
        return capsys.readouterr().out

    for name, data in (("v1", v1), ("v2", v2)):
        (tmp_path / f"{name}.zip").write_bytes(data)
    repo = tmp_path / "updates"
    assert "keep off line" in run("init", repo)
    run("publish", tmp_path / "v1.zip", "--repo", repo, "--channel", "stable", "--accept", "no-gates")
    told = json.loads(
        run(
            "publish",
            tmp_path / "v2.zip",
            "--repo",
            repo,
            "--channel",
            "stable",
            "--percent",
            "2.5",
            "--json",
            "--accept",
            "no-gates",
        )
    )
    assert (told["target"], told["bp"], told["release_seq"]) == ("prod/press/v2.zip", 250, 2)
    run("rollout", "set", "press/v2", "--repo", repo, "--channel", "stable", "--bp", "5000")
    run("halt", "press", "--repo", repo, "--channel", "stable")
    assert json.loads(run("rollout", "status", "--repo", repo, "--json"))["channels"][0]["halt"] is True
    run("halt", "press", "--lift", "--repo", repo, "--channel", "stable")
    run("revoke", "press/v2", "--repo", repo, "--channel", "stable")
    assert "50.00 %  prod/press/v2.zip" in run("rollout", "status", "--repo", repo)
    run("refresh", "--repo", repo)
    assert json.loads(run("verify", repo, "--json"))["bundles"] == ["prod/press/v1.zip", "prod/press/v2.zip"]


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        (["publish", "x.zip"], 2, "--channel"),
        (["publish", "x.zip", "--channel", "s", "--percent", "101"], 2, "not between 0 and 100"),
        (["publish", "x.zip", "--channel", "s", "--percent", "abc"], 2, "--percent: 'abc' is no number"),
        (["publish", "x.zip", "--channel", "s", "--percent", "nan"], 2, "nan is not between 0 and 100"),
        (["publish", "x.zip", "--channel", "s", "--bp", "1.5"], 2, "--bp: '1.5' is no whole number"),
        (["publish", "x.zip", "--channel", "s", "--security-floor", "-1"], 2, "-1 is no release number"),
        (["publish", "x.zip", "--channel", "s", "--security-floor", "x"], 2, "'x' is no whole number"),
        (["publish", "x.zip", "--channel", "s"], 1, "x.zip: cannot be read"),
        (["refresh", "--repo", "nowhere"], 1, "no repository at nowhere"),
        (["revoke", "press/v9", "--channel", "s", "--repo", "SITE"], 1, "no bundle press/v9"),
        (["halt", "press", "--channel", "s", "--repo", "SITE"], 1, "nothing is published for press in channel s"),
        (["verify", "http://127.0.0.1:9/"], 2, "--root"),
        (["verify", "nowhere"], 1, "No such file"),
    ],
)
def test_mistakes_are_answered_with_one_line(
    site: Site, command: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(site.repo) if part == "SITE" else part for part in command]
    try:
        assert main(command) == code
    except SystemExit as exit_:
        assert exit_.code == code
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error
    assert not Path("nowhere").exists(), "a slip makes no folder"
