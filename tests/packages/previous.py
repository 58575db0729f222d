"""The previous version's Debian package, built from this repository's history as it was built then.

Until there is a release, the previous version is the first commit that could build a package. Its sources are frozen
with today's libraries; the program, unit and maintainer scripts are that commit's. It is given the version ``0~first``,
older than any: both say 0.1.0. Built once, then kept in ``build/previous``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.packages.machine import ROOT

VERSION = "0~first"


def previous() -> Path:
    """Return the package; fails where the history does not reach back to it (a shallow clone, an archive)."""
    asked = ["git", "-C", str(ROOT), "log", "--diff-filter=A", "--format=%H", "--", "packaging/deb.py"]
    commits = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    assert commits, "the history does not hold the commit of the first package: clone without --depth"
    folder = ROOT / "build" / "previous" / commits[-1][:12]
    package = folder / "fieldwatch-agent-previous.deb"
    if not package.exists():
        shutil.rmtree(folder, ignore_errors=True)
        tree = folder / "tree"
        tree.mkdir(parents=True)
        archive = subprocess.run(["git", "-C", str(ROOT), "archive", commits[-1]], capture_output=True, check=True)
        subprocess.run(["tar", "-x", "-C", str(tree)], input=archive.stdout, check=True)
        for script in ("build.py", "deb.py"):
            subprocess.run([sys.executable, str(tree / "packaging" / script)], cwd=tree, check=True)
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
