"""Keys come and go: any one of them lost or stolen, root rotated while a device was off; drills rehearse it."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fieldwatch_trainer.release import actions, ceremony, drill, keys, rekey
from fieldwatch_trainer.release.__main__ import main
from fieldwatch_trainer.release.errors import Refused, ReleaseError
from fieldwatch_trainer.release.folder import Folder
from fieldwatch_trainer.release.keys import Keyring, key_name
from fieldwatch_trainer.release.repository import Repository
from fieldwatch_trainer.release.roles import NAMES
from fieldwatch_trainer.release.verify import verify
from securesystemslib.signer import Key

from tests.power import Disk
from tests.updates import Site

Edit = Callable[[Repository, Callable[[str], Key]], None]


def rotation(name: str) -> Edit:
    return lambda repository, new: rekey.rotate(repository, name, new(rekey.role_of(repository, name)))


def rotate(site: Site, name: str, now: datetime | None = None) -> None:
    ceremony.change_keys(site.repo, [site.keys], rotation(name), now)


def names(site: Site, role: str) -> list[str]:
    return [key_name(key) for key in Folder(site.repo).load(datetime.now(UTC)).authority(role)[0]]


@pytest.mark.parametrize("lost", NAMES)
def test_any_one_lost_key_is_replaced_and_devices_follow(site: Site, v1: bytes, v2: bytes, lost: str) -> None:
    site.publish(v1)
    installed = site.root
    (site.keys / f"{lost}.pem").unlink()
    rotate(site, lost)
    site.publish(v2)
    ceremony.refresh(site.repo, [site.keys], everything=True)
    assert verify(str(site.repo), installed).bundles == ["prod/press/v1.zip", "prod/press/v2.zip"]
    role = (
        rekey.role_of(Folder(site.repo).load(datetime.now(UTC)), lost.replace("-1", "-2"))
        if lost.endswith("-1")
        else ""
    )
    assert lost not in names(site, role or "root")


def test_two_lost_prod_keys_are_replaced_by_the_holders_of_root(site: Site, v1: bytes) -> None:
    """With fewer keys than the threshold nobody can publish; root says who can from now on."""
    for name in ("prod-1", "prod-2"):
        (site.keys / f"{name}.pem").unlink()
    with pytest.raises(ReleaseError, match="role prod is signed by 2 of"):
        site.publish(v1)
    ceremony.change_keys(
        site.repo,
        [site.keys],
        lambda repository, new: rekey.rotate(repository, "prod-1", new("prod")),
    )
    site.publish(v1)
    assert verify(str(site.repo), site.root).bundles == ["prod/press/v1.zip"]


def test_root_rotated_five_times_while_a_device_was_off(tmp_path: Path, v1: bytes) -> None:
    start = datetime.now(UTC) - timedelta(days=3 * 365)
    site = Site.make(tmp_path, start)
    site.publish(v1, now=start)
    installed = site.root
    for step in range(5):
        now = start + timedelta(days=200 * (step + 1))
        old = names(site, "root")[step % 3]
        ceremony.refresh(site.repo, [site.keys], everything=True, now=now)
        rotate(site, old, now)
        (site.keys / f"{old}.pem").unlink()
    ceremony.refresh(site.repo, [site.keys], everything=True)
    found = verify(str(site.repo), installed)
    assert found.expiries[0].version >= 6
    assert not {"root-1", "root-2", "root-3"} & set(names(site, "root")[:2])


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["root-1", "timestamp-1", "prod-1"])
def test_the_power_goes_while_a_key_is_replaced(tmp_path: Path, v1: bytes, name: str) -> None:
    """Before each call: the old key or the new counts, each is on the disk, and the next command mends the rest."""
    base = tmp_path / "base"
    base.mkdir()
    site = Site.make(base)
    site.publish(v1)

    def attempt(folder: Path, cut: int | None) -> Disk:
        subprocess.run(["cp", "-r", str(base), str(folder)], check=True)
        record = Disk(folder, cut)
        with record.recorded():
            rotate(Site(folder / "repo", folder / "repo-keys"), name)
        return record

    calls = len(attempt(tmp_path / "whole", None).calls)
    for cut in range(calls + 1):
        record = attempt(tmp_path / f"cut-{cut}", cut)
        for way in ("promised", "names" if cut % 2 else str(cut)):
            left = record.after(tmp_path / f"{cut}-{way}", way)
            there = Site(left / "repo", left / "repo-keys")
            with Disk(left).recorded():
                ceremony.refresh(there.repo, [there.keys], everything=True)
            assert verify(str(there.repo), site.root).bundles == ["prod/press/v1.zip"]
            ring, repository = Keyring.load([there.keys]), Folder(there.repo).load(datetime.now(UTC))
            for role in rekey.MEMBERS:
                assert all(key.keyid in ring for key in repository.authority(role)[0]), "a key that counts is lost"


def test_a_root_that_was_put_out_alone_is_taken_up(site: Site, v1: bytes) -> None:
    """Devices may hold it already: the rest must follow under it, whichever keys it names."""
    site.publish(v1)
    installed, timestamp = site.root, (site.repo / "metadata" / "timestamp.json").read_bytes()
    rotate(site, "timestamp-1")
    rotate(site, "timestamp-2")
    (site.repo / "metadata" / "timestamp.json").write_bytes(timestamp)
    (site.repo / "metadata" / "3.root.json").unlink()
    (site.keys / "timestamp-1.pem").unlink()
    (site.keys / "timestamp-2.pem").unlink()
    ceremony.refresh(site.repo, [site.keys])
    assert verify(str(site.repo), installed).bundles == ["prod/press/v1.zip"]


def test_a_key_made_elsewhere_is_added_by_its_public_half(site: Site, v1: bytes, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    assert main(["keys", "new", "prod-7", "--keys", str(mine)]) == 0
    assert main(["keys", "add", "prod", "--public", str(mine / "prod-7.pub"), "--repo", str(site.repo)]) == 0
    assert names(site, "prod") == ["prod-1", "prod-2", "prod-3", "prod-7"]
    for name in ("prod-1", "prod-2"):
        (site.keys / f"{name}.pem").unlink()
    bundle = tmp_path / "v1.zip"
    bundle.write_bytes(v1)
    actions.publish(site.repo, [site.keys, mine], bundle, "stable", accept=["no-gates"])
    with pytest.raises(Refused, match="counts for prod already"):
        ceremony.change_keys(
            site.repo,
            [site.keys, mine],
            lambda repository, _: rekey.add(repository, "snapshot", keys.read_public(mine / "prod-7.pub")),
        )
    with pytest.raises(ReleaseError, match="not the public half of a key"):
        keys.read_public(bundle)


def test_encrypted_keys_are_asked_for_only_when_they_sign(
    tmp_path: Path, v1: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo, folder = tmp_path / "repo", tmp_path / "keys"
    monkeypatch.setenv(keys.PASSPHRASE, "correct horse")
    assert main(["init", str(repo), "--keys", str(folder), "--encrypt"]) == 0
    for path in folder.glob("*.pem"):
        assert b"BEGIN ENCRYPTED PRIVATE KEY" in path.read_bytes()
    bundle = tmp_path / "v1.zip"
    bundle.write_bytes(v1)
    command = [
        "publish",
        str(bundle),
        "--repo",
        str(repo),
        "--keys",
        str(folder),
        "--channel",
        "stable",
        "--accept",
        "no-gates",
    ]
    monkeypatch.setenv(keys.PASSPHRASE, "wrong")
    assert main(command) == 1
    monkeypatch.delenv(keys.PASSPHRASE)
    asked = tmp_path / "asked"
    program = tmp_path / "askpass"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nopen({str(asked)!r}, 'a').write(sys.argv[1] + '\\n')\nprint('correct horse')"
    )
    program.chmod(0o755)
    monkeypatch.setenv(keys.ASKPASS, str(program))
    assert main(["refresh", "--repo", str(repo), "--keys", str(folder)]) == 0
    assert {Path(line).stem for line in asked.read_text().splitlines()} == {
        "snapshot-1",
        "snapshot-2",
        "timestamp-1",
        "timestamp-2",
    }
    assert main(command) == 0


def test_without_a_terminal_the_way_to_give_a_passphrase_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert main(["init", str(tmp_path / "repo"), "--encrypt"]) == 1
    assert keys.PASSPHRASE in capsys.readouterr().err
    assert not (tmp_path / "repo").exists()


def test_keys_list_shows_what_counts_and_what_is_at_hand(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    (site.keys / "prod-3.pem").unlink()
    assert main(["keys", "list", "--repo", str(site.repo)]) == 0
    said = capsys.readouterr().out
    assert "prod: 2 of 3 must sign" in said
    lines = {line.split()[0]: line for line in said.splitlines() if line.startswith("  ")}
    assert "at hand" in lines["prod-1"]
    assert "at hand" not in lines["prod-3"]


# ---- drills ----------------------------------------------------------------------------------------------------


def test_drill_lost_key(site: Site, v1: bytes) -> None:
    site.publish(v1)
    said = list(drill.lost_key(site.repo))
    assert [line.split()[0] for line in said] == list(NAMES)
    assert all("is signed without it" in line and "accepts all" in line for line in said)


def test_drill_lost_key_finds_a_role_without_a_spare(site: Site) -> None:
    ceremony.change_keys(site.repo, [site.keys], lambda repository, _: rekey.remove(repository, "prod-3"))
    assert "prod CANNOT be signed without it; replaced" in next(drill.lost_key(site.repo, "prod-1"))
    ceremony.change_keys(site.repo, [site.keys], lambda repository, _: rekey.remove(repository, "root-3"))
    with pytest.raises(ReleaseError, match="root-1 lost: nobody can sign root any more"):
        list(drill.lost_key(site.repo, "root-1"))


def test_drill_stolen_key(site: Site, v1: bytes) -> None:
    site.publish(v1)
    said = list(drill.stolen_key(site.repo))
    assert [line.split()[0] for line in said] == list(NAMES)
    assert all("is refused (UnsignedMetadataError)" in line for line in said)


def test_drill_stolen_key_would_notice_a_key_that_still_counts(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drill, "_rotate", lambda one, name: name)
    with pytest.raises(ReleaseError, match="a thief with a key of timestamp got something into a device"):
        list(drill.stolen_key(site.repo, "timestamp-1"))


def test_drill_expired(site: Site, v1: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    site.publish(v1)
    assert main(["drill", "expired", "--repo", str(site.repo), "--json"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    assert [line.startswith("  devices still update") for line in steps[1::3]] == [True, False, False, False]
    assert "'refresh --all' mends it" in steps[-1]


def test_drill_offline(site: Site, v1: bytes) -> None:
    site.publish(v1)
    said = list(drill.offline(site.repo))
    assert len(said) == 6
    assert "follows to root version 11 and accepts all" in said[-1]


def test_a_drill_needs_no_key_and_touches_nothing(site: Site, v1: bytes) -> None:
    site.publish(v1)
    for path in site.keys.glob("*.pem"):
        path.unlink()
    before = {path: path.read_bytes() for path in site.repo.rglob("*") if path.is_file()}
    list(drill.lost_key(site.repo, "prod-1"))
    assert {path: path.read_bytes() for path in site.repo.rglob("*") if path.is_file()} == before


SERVED = [
    "init REPO/dev",
    "export REPO/lab-7 --site lab-7 --repo REPO",
    "keys new prod-4 --keys REPO/desk",
    "keys new auditors --model --keys REPO/desk",
]


@pytest.mark.parametrize("command", SERVED)
def test_a_key_never_comes_to_lie_where_it_is_served(
    site: Site, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """Everything below the repository's folder is offered by a web server, be it deep within."""
    before = sorted(site.repo.rglob("*"))
    assert main(command.replace("REPO", str(site.repo)).split()) == 1
    assert f"is inside {site.repo}, which a server offers to everybody" in capsys.readouterr().err
    assert sorted(site.repo.rglob("*")) == before


def test_keys_that_are_served_are_found(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(site.keys, site.repo / "keys")
    assert main(["doctor", "--repo", str(site.repo), "--keys", str(site.repo / "keys")]) == 3
    assert f"keys is inside {site.repo}, which a server offers to everybody" in capsys.readouterr().out


def test_ctrl_c_at_the_passphrase_ends_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pressed(prompt: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.delenv(keys.PASSPHRASE, raising=False)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(getpass, "getpass", pressed)
    assert main(["init", str(tmp_path / "repo"), "--encrypt"]) == 1
    assert "stopped; devices see all of this command or nothing" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
