"""What a verb has said is on a real file system: the power goes right after it, without a flush of the system.

An ext4 image is mounted through a loop device, a verb is done on it, and the image copied as it is at that moment: what
the kernel still holds in memory is not in the copy. The copy is mounted and must have every byte. That this would
notice a missing flush is shown with the flushes taken away. Needs root; cuts before each call are in ``test_power.py``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fieldwatch_trainer.release import actions, ceremony, disk, rekey, rollout
from fieldwatch_trainer.release.verify import verify

from tests.updates import UNJUDGED, Site

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux mounts a file as a disk (loop device)")


class Image:
    """An ext4 file system in a file."""

    def __init__(self, folder: Path) -> None:
        self.file, self.mount = folder / "disk.img", folder / "disk"
        self._count = 0

    def start(self) -> str:
        """Make and mount it; return why that cannot be done, empty where it is."""
        if shutil.which("mkfs.ext4") is None:
            return "mkfs.ext4 is not on the PATH"
        with self.file.open("wb") as file:
            file.truncate(32 << 20)
        self.mount.mkdir()
        for command in (["mkfs.ext4", "-q", "-F", self.file], ["mount", "-o", "loop", self.file, self.mount]):
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
            if done.returncode:
                return f"{command[0]}: {done.stderr.strip()}"
        return ""

    def after_a_cut(self) -> dict[str, bytes]:
        """Return every file that is there if the power goes now."""
        self._count += 1
        copy, place = self.file.with_name(f"cut-{self._count}.img"), self.file.with_name(f"cut-{self._count}")
        shutil.copyfile(self.file, copy)
        place.mkdir()
        subprocess.run(["mount", "-o", "loop", copy, place], check=True, capture_output=True)
        try:
            return files(place)
        finally:
            subprocess.run(["umount", place], check=True, capture_output=True)
            copy.unlink()

    def end(self) -> None:
        if self.mount.is_mount():
            subprocess.run(["umount", self.mount], check=True, capture_output=True)


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".publisher")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Image]:
    made = Image(tmp_path)
    try:
        if why := made.start():
            if os.environ.get("FIELDWATCH_REQUIRE_ALL") == "1":
                pytest.fail(f"no file system of its own ({why}), and FIELDWATCH_REQUIRE_ALL=1 wants it", pytrace=False)
            pytest.skip(f"a file system of its own takes root and a loop device: {why}")
        yield made
    finally:
        made.end()


def _policy(site: Site, edit: Callable[..., object], *args: object) -> None:
    actions.change_policy(site.repo, [site.keys], "press", "stable", lambda policy: edit(policy, *args))  # type: ignore[arg-type, return-value]


def _rotate(site: Site, name: str) -> None:
    ceremony.change_keys(site.repo, [site.keys], lambda r, new: rekey.rotate(r, name, new(rekey.role_of(r, name))))


def test_what_was_said_is_kept_on_ext4(image: Image, tmp_path: Path, v1: bytes, v2: bytes) -> None:
    site = Site(image.mount / "repo", image.mount / "repo-keys")
    for name, data in (("v1", v1), ("v2", v2)):
        (tmp_path / f"{name}.zip").write_bytes(data)
    steps: dict[str, Callable[[], object]] = {
        "init": lambda: actions.init(site.repo, site.keys),
        "publish": lambda: actions.publish(site.repo, [site.keys], tmp_path / "v1.zip", "stable", **UNJUDGED),
        "publish once more": lambda: actions.publish(site.repo, [site.keys], tmp_path / "v2.zip", "stable", **UNJUDGED),
        "halt": lambda: _policy(site, rollout.halt, True),
        "revoke": lambda: _policy(site, rollout.revoke, actions.find(site.repo, "press/v2").sha256),
        "refresh": lambda: ceremony.refresh(site.repo, [site.keys]),
        "rotate timestamp-1": lambda: _rotate(site, "timestamp-1"),
        "rotate root-1": lambda: _rotate(site, "root-1"),
        "refresh --all": lambda: ceremony.refresh(site.repo, [site.keys], everything=True),
    }
    for name, step in steps.items():
        step()
        kept, there = image.after_a_cut(), files(image.mount)
        assert sorted(there.keys() - kept.keys()) == [], f"after {name}"
        assert {path for path in there if there[path] != kept[path]} == set(), f"after {name}"
    assert verify(str(site.repo), site.root).bundles == ["prod/press/v1.zip", "prod/press/v2.zip"]


def test_the_instrument_notices_that_nothing_was_flushed(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unflushed:
        def __getattr__(self, name: str) -> object:
            return (lambda handle: None) if name == "fsync" else getattr(os, name)

    monkeypatch.setattr(disk, "os", Unflushed())
    site = Site(image.mount / "repo", image.mount / "repo-keys")
    actions.init(site.repo, site.keys)
    kept, there = image.after_a_cut(), files(image.mount)
    assert [path for path in there if kept.get(path) != there[path]], "a cut without a flush must lose something"
