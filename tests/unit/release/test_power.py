"""The power goes before each call that a verb makes on the disk, and after it said done.

What must hold: after exit 0 everything is there, keys and repository; before it the repository is sound for devices in
its old or its new state, and the same command, given again, does its work.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fieldwatch_trainer.release import actions, ceremony, rollout
from fieldwatch_trainer.release.errors import ReleaseError
from fieldwatch_trainer.release.folder import Folder
from fieldwatch_trainer.release.keys import Keyring
from fieldwatch_trainer.release.roles import NAMES
from fieldwatch_trainer.release.verify import verify

from tests.power import Disk
from tests.updates import Site

Verb = Callable[[Site], object]
WAYS = ("promised", "names", "1", "2", "3")


def site_in(folder: Path) -> Site:
    return Site(folder / "repo", folder / "repo-keys")


def files(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.endswith(".publisher")}


def init(site: Site) -> None:
    try:
        actions.init(site.repo, site.keys)
    except ReleaseError as error:
        assert "is a repository already" in str(error)


def publish(site: Site) -> None:
    actions.publish(site.repo, [site.keys], site.repo.parent / "v2.zip", "stable", 1000, accept=["no-gates"])


def halt(site: Site) -> None:
    actions.change_policy(site.repo, [site.keys], "press", "stable", lambda policy: rollout.halt(policy, True))


def revoke(site: Site) -> None:
    sha = actions.find(site.repo, "press/v2").sha256
    actions.change_policy(site.repo, [site.keys], "press", "stable", lambda policy: rollout.revoke(policy, sha))


def refresh(site: Site) -> None:
    ceremony.refresh(site.repo, [site.keys], everything=True)


VERBS: dict[str, Verb] = {"init": init, "publish": publish, "halt": halt, "revoke": revoke, "refresh": refresh}


@pytest.fixture
def start(tmp_path: Path, v1: bytes, v2: bytes) -> Callable[[str], Path]:
    """A folder in which a verb can begin."""
    base = tmp_path / "start"
    base.mkdir()
    (base / "v2.zip").write_bytes(v2)

    def prepare(verb: str) -> Path:
        if verb != "init":
            site = Site.make(base)
            site.publish(v1)
            if verb == "revoke":
                site.publish(v2)
        return base

    return prepare


def run(base: Path, work: Path, verb: Verb, cut: int | None = None) -> Disk:
    """Do the verb on a copy of ``base`` at ``work``."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(base, work)
    record = Disk(work, cut)
    with record.recorded():
        verb(site_in(work))
    return record


@pytest.mark.parametrize("verb", VERBS)
def test_what_was_said_is_kept(verb: str, start: Callable[[str], Path], tmp_path: Path) -> None:
    work = tmp_path / "work"
    record = run(start(verb), work, VERBS[verb])
    assert record.live() == files(work), "every byte goes through disk.py, or this test proves nothing"
    for way in WAYS:
        assert files(record.after(tmp_path / way, way)) == files(work)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("verb", VERBS)
def test_a_cut_before_each_call_leaves_a_sound_repository(
    verb: str, start: Callable[[str], Path], tmp_path: Path, v1: bytes
) -> None:
    base, work = start(verb), tmp_path / "work"
    calls = len(run(base, work, VERBS[verb]).calls)
    assert calls > 20
    root = site_in(base).root if verb != "init" else None
    for cut in range(calls):
        record = run(base, work, VERBS[verb], cut)
        assert len(record.calls) == cut
        for way in ("promised", WAYS[1 + cut % 4])[: 2 if cut % 3 == 0 else 1]:
            site = site_in(record.after(tmp_path / f"{cut}-{way}", way))
            if root is not None:
                assert "prod/press/v1.zip" in verify(str(site.repo), root).bundles
            with Disk(site.repo.parent).recorded():  # for its speed: nothing is flushed in earnest
                VERBS[verb](site)
            folder = Folder(site.repo)
            folder.check(folder.load(datetime.now(UTC)))
            assert len(Keyring.load([site.keys]).holders) == len(NAMES), "a key is lost"
            if root is None:
                site.publish(v1)
            shutil.rmtree(site.repo.parent)


@pytest.mark.parametrize("lost", ["targets/prod/press/*.zip", "targets/policy/press/*.json"])
@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
def test_refresh_signs_nothing_over_a_file_that_is_lost(
    site: Site, v1: bytes, lost: str, damage: Callable[[Path], None]
) -> None:
    site.publish(v1)
    timestamp = (site.repo / "metadata" / "timestamp.json").read_bytes()
    damage(next(site.repo.glob(lost)))
    with pytest.raises(ReleaseError, match="is lost or damaged"):
        ceremony.refresh(site.repo, [site.keys])
    assert (site.repo / "metadata" / "timestamp.json").read_bytes() == timestamp


def test_publishing_the_same_bundle_again_brings_a_lost_file_back(site: Site, v1: bytes) -> None:
    file = site.file(site.publish(v1))
    file.write_bytes(b"")
    site.publish(v1)
    assert file.read_bytes() == v1
    ceremony.refresh(site.repo, [site.keys])


def test_metadata_that_is_not_what_was_signed_above_it_is_not_signed_on(site: Site, v1: bytes, v2: bytes) -> None:
    """An older file under a newer name: its signatures hold, its place does not."""
    site.publish(v1)
    site.publish(v2)
    metadata = site.repo / "metadata"
    (metadata / "3.prod.json").write_bytes((metadata / "2.prod.json").read_bytes())
    with pytest.raises(ReleaseError, match="prod: not the file that was signed"):
        ceremony.refresh(site.repo, [site.keys])


def test_an_init_that_was_cut_short_is_finished_with_its_own_keys(tmp_path: Path) -> None:
    site = site_in(tmp_path)
    record = Disk(tmp_path, cut=150)
    with record.recorded():
        actions.init(site.repo, site.keys)
    made = {path.name: path.read_bytes() for path in site.keys.glob("*.pem")}
    assert made
    actions.init(site.repo, site.keys)
    assert {path.name: path.read_bytes() for path in site.keys.glob("*.pem")}.items() >= made.items()
    with pytest.raises(ReleaseError, match="keys are never replaced"):
        actions.init(tmp_path / "another", site.keys)
