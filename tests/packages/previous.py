"""The previous version's Debian package, built from this repository's history as it was built then.

Until there is a release, the previous version is the first commit that could build a package. Its sources are frozen
with today's libraries; the program, unit and maintainer scripts are that commit's. It is given the version ``0~first``,
older than any: both say 0.1.0. Built once, then kept in ``build/previous``.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.bundles import make_bundle
from tests.packages.machine import ROOT

VERSION = "0~first"


def git(*arguments: str) -> bytes:
    """Run git in this repository, whoever owns the checkout."""
    command = ["git", "-c", "safe.directory=*", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout


def previous() -> Path:
    """Return the package. Skips the test, with the reason, where there is no history to build it from."""
    if not (ROOT / ".git").exists() or git("rev-parse", "--is-shallow-repository").strip() == b"true":
        pytest.skip("the previous version is built from the history, which is not here: clone without --depth")
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
