"""The previous version's Debian package, built from this repository's history as it was built then.

Until there is a release, the previous version is the first commit that could build a package. Its sources are frozen
with today's libraries; the program, unit and maintainer scripts are that commit's. It is given the version ``0~first``,
older than any: both say 0.1.0. Built once, then kept in ``build/previous``.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.bundles import make_bundle
from tests.packages.machine import ROOT

VERSION = "0~first"


def git(*arguments: str, at: Path = ROOT) -> bytes:
    """Run git in this repository or the one ``at``, whoever owns the checkout."""
    command = ["git", "-c", "safe.directory=*", "-C", str(at), *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout


def history_missing(checkout: Path) -> str | None:
    """Return what brings the history to a checkout that lacks it, None where it is there."""
    if not (checkout / ".git").exists():
        return "this is no clone; git clone the repository"
    if git("rev-parse", "--is-shallow-repository", at=checkout).strip() == b"true":
        return "this clone is shallow; git fetch --unshallow"
    return None


def previous() -> Path:
    """Return the package. Skips the test, with the reason, where there is no history to build it from; fails it where
    everything is required.
    """
    if (remedy := history_missing(ROOT)) is not None:
        reason = f"the previous version is built from the history, which is not here: {remedy}"
        if os.environ.get("FIELDWATCH_REQUIRE_ALL") == "1":
            pytest.fail(f"{reason}; FIELDWATCH_REQUIRE_ALL=1 wants it", pytrace=False)
        pytest.skip(reason)
    commits = git("log", "--diff-filter=A", "--format=%H", "--", "packaging/deb.py").decode().split()
    folder = ROOT / "build" / "previous" / commits[-1][:12]
    package = folder / "fieldwatch-agent-previous.deb"
    if not package.exists():
        shutil.rmtree(folder, ignore_errors=True)
        tree = folder / "tree"
        tree.mkdir(parents=True)
        subprocess.run(["tar", "-x", "-C", str(tree)], input=git("archive", commits[-1]), check=True)
        for script, *flags in (["build.py"], ["deb.py", "--compression", "zstd"]):
            subprocess.run([sys.executable, str(tree / "packaging" / script), *flags], cwd=tree, check=True)
        (built,) = (tree / "dist").glob("*.deb")
        with_version(built, VERSION, package)
        shutil.rmtree(tree)
    return package


def with_version(package: Path, version: str, out: Path) -> None:
    """Write the same package under another version."""
    folder = out.with_suffix(".tmp")
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(["dpkg-deb", "-R", package, folder], check=True)
    control = folder / "DEBIAN" / "control"
    lines = control.read_text().split("\n")
    control.write_text("\n".join(f"Version: {version}" if each.startswith("Version:") else each for each in lines))
    subprocess.run(
        ["dpkg-deb", "-Znone", "--root-owner-group", "-b", folder, out], check=True, stdout=subprocess.DEVNULL
    )
    shutil.rmtree(folder)


def bundle_for_both() -> bytes:
    """A bundle that the previous version reads too: it refuses the fields that came after it, and says so."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(make_bundle(3, "v0"))) as old, zipfile.ZipFile(made, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename == "manifest.json":
                manifest = json.loads(data)
                manifest["baseline"].pop("still", None)
                (manifest.get("features") or {}).pop("centre", None)
                data = json.dumps(manifest).encode()
            new.writestr(info, data)
    return made.getvalue()
