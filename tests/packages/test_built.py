"""What ``make package`` built keeps its promises: reproducible, small, and honest about the glibc that it needs."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packages.machine import ROOT
from tests.scripts import script

pytestmark = pytest.mark.timeout(1200)
build, payload, sbom = script("build"), script("payload"), script("sbom")
FROZEN = ROOT / "dist" / payload.NAME


def entries(folder: Path) -> dict[str, tuple[str, str]]:
    """Return what lies in a folder: by path its kind and rights, and its target or the digest of its bytes."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            content = str(path.readlink())
        else:
            content = "" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        found[path.relative_to(folder).as_posix()] = (oct(path.lstat().st_mode), content)
    return found


def test_built_again_elsewhere_it_is_the_same_byte_for_byte(tmp_path: Path) -> None:
    """From sources on another path with other times, under another umask, account's home, zone and hash seed."""
    tree = tmp_path / "another" / "checkout"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("agent", "contract", "packaging"):
        shutil.copytree(ROOT / name, tree / name, copy_function=shutil.copyfile, ignore=ignored)
    (tree / "requirements").mkdir()
    for name in ("pyproject.toml", "requirements/agent.txt"):
        shutil.copyfile(ROOT / name, tree / name)
    surroundings = {"HOME": str(tmp_path), "TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "77"}
    for step in ("build.py", "sbom.py"):
        command = [sys.executable, str(tree / "packaging" / step), "--dist", str(tmp_path / "out")]
        subprocess.run(command, check=True, cwd=tmp_path, env=os.environ | surroundings, umask=0o077)
    first, second = entries(FROZEN), entries(tmp_path / "out" / payload.NAME)
    differing = sorted(path for path in first.keys() | second.keys() if first.get(path) != second.get(path))
    for path in differing[:1]:
        pytest.fail(
            f"{len(differing)} of {len(first)} differ, the first is {path}:\n  {first.get(path)}\n"
            f"  {second.get(path)}\nif the sources were changed since: make package, then again",
        )
    for name in (payload.SBOM, payload.LICENCES):
        assert (FROZEN.parent / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name
    print(f"\ntwo builds of the folder are the same: {len(first)} files, folders and links")


def test_size_and_start() -> None:
    size = build.size_mb(FROZEN)
    print(f"\n{size:.0f} MB of {build.SIZE_LIMIT_MB}; --version takes {build.start_s(FROZEN):.2f} s")
    assert size <= build.SIZE_LIMIT_MB


def test_no_library_looks_for_others_outside_of_the_folder() -> None:
    libraries = [path for path in FROZEN.rglob("*.so*") if not path.is_symlink()]
    said = subprocess.run(["objdump", "-p", *libraries], capture_output=True, text=True, check=True).stdout
    searched = re.findall(r"^ +(?:RPATH|RUNPATH) +(\S+)$", said, re.M)
    assert searched and all(part.startswith("$ORIGIN") for each in searched for part in each.split(":")), searched


def test_the_package_says_what_it_consists_of(package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "-x", package, tmp_path], check=True)
    text = (tmp_path / f"usr/share/doc/{payload.NAME}" / payload.SBOM).read_text(encoding="utf-8")
    assert sbom.differences(text, tmp_path / "opt" / payload.NAME) == []
    for name in ("cpython", "numpy", "onnxruntime", "openblas", "openssl", "sqlite3", "zlib"):
        assert f'"name": "{name}"' in text, name
    assert (tmp_path / f"usr/share/doc/{payload.NAME}" / payload.LICENCES).stat().st_size > 100_000


def test_both_packages_ask_for_the_glibc_that_the_program_needs(package: Path, rpm_package: Path) -> None:
    major, minor = payload.glibc(FROZEN)
    assert (major, minor) > (2, 17), "measured"
    asked = subprocess.run(["dpkg-deb", "-f", package, "Depends"], capture_output=True, text=True, check=True).stdout
    assert f"libc6 (>= {major}.{minor})" in asked
    asked = subprocess.run(["rpm", "-qp", "--requires", rpm_package], capture_output=True, text=True, check=True).stdout
    assert f"libc.so.6(GLIBC_{major}.{minor})(64bit)" in asked.split("\n")
