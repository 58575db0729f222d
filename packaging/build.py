"""Freeze the agent into ``dist/fieldwatch-agent`` and prove that it works where there is no Python.

``make package`` runs this. The proof is the frozen program's own ``self-test``: it loads the built-in bundle, computes
features and scores and compares them with the trainer's, bit for bit and within tolerance. It runs

* as root on Linux, in a root folder that holds the program, glibc, zlib and an empty ``/tmp``, nothing else;
* otherwise with an empty environment and a PATH that leads nowhere.

Which of the two it was is printed. The same source and libraries give the same bytes and rights, whatever the path,
the time, the umask and the environment; ``tests/packages/test_built.py`` builds a second time and compares.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from elf import forget_search_path
from payload import EPOCH, NAME, ROOT, glibc, program, settle

SIZE_LIMIT_MB = 165
"""Above this something has crept in that the agent does not need."""
WITH_DEBUG_DATA = ("libpython3*.so*", "zstandard/*.so")
"""Libraries with data for a debugger, 27 MB, which goes. Nothing else is stripped: OpenBLAS would not survive it."""
START_LIMIT_S = 0.5
"""What ``--version`` may take."""
SYSTEM_LIBRARIES = "ld-linux|libc|libm|libdl|libpthread|librt|libutil|libresolv|libnss_files|libz"


class BuildError(Exception):
    """The frozen agent is not what it must be; the message says in what."""


def freeze(dist: Path, work: Path) -> Path:
    """Run PyInstaller and return the program's folder, without debugger's data and foreign paths, with plain rights."""
    fixed = {"PYTHONHASHSEED": "1", "SOURCE_DATE_EPOCH": str(EPOCH)}  # same source, same bytes
    subprocess.run(
        [sys.executable, "-m", "PyInstaller", str(ROOT / "packaging" / f"{NAME}.spec"), "--noconfirm", "--clean",
         "--log-level", "WARN", "--distpath", str(dist), "--workpath", str(work)],
        check=True, cwd=ROOT, env=os.environ | fixed,
    )  # fmt: skip
    folder = dist / NAME
    if sys.platform == "linux":
        slim(folder)
        for library in (folder / "_internal").rglob("*.so*"):
            if not library.is_symlink():
                forget_search_path(library)
    settle(folder)
    return folder


def slim(folder: Path) -> None:
    """Take the debugger's data out of the libraries that have it."""
    found = [path for pattern in WITH_DEBUG_DATA for path in sorted((folder / "_internal").glob(pattern))]
    subprocess.run(["strip", "--strip-debug", *(path for path in found if not path.is_symlink())], check=True)


def start_s(folder: Path) -> float:
    """Return what ``--version`` takes, in seconds: the quickest of five, as others use this machine too."""
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        subprocess.run([program(folder), "--version"], check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - begun)
    return min(took)


def size_mb(folder: Path) -> float:
    """Return what the files of the folder take, in MB (10⁶ bytes)."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


def prove(folder: Path) -> str:
    """Run the frozen ``self-test`` without Python in reach; return where it ran.

    Raises :class:`BuildError` where it does not pass.
    """
    if sys.platform == "linux" and os.geteuid() == 0 and shutil.which("chroot"):
        with tempfile.TemporaryDirectory(prefix="fieldwatch-root-") as bare:
            _furnish(Path(bare), folder)
            _run([str(shutil.which("chroot")), bare, f"/{NAME}/{NAME}", "self-test"], {})
        return "a root folder with glibc, zlib and nothing else"
    with tempfile.TemporaryDirectory(prefix="fieldwatch-empty-") as empty:
        keep = {key: os.environ[key] for key in ("SYSTEMROOT", "TEMP") if key in os.environ}
        _run([str(program(folder)), "self-test"], keep | {"PATH": empty})
    return "an empty environment with a PATH that leads nowhere"


def _furnish(bare: Path, folder: Path) -> None:
    """Lay out a root folder with the program, glibc, zlib and ``/tmp``."""
    shutil.copytree(folder, bare / NAME, symlinks=True)
    (bare / "tmp").mkdir(mode=0o1777)
    listed = subprocess.run(["ldd", str(program(folder))], capture_output=True, text=True, check=True).stdout
    for found in re.findall(r"(/\S+)", listed):
        for library in Path(found).parent.glob("*.so*"):
            if re.match(rf"({SYSTEM_LIBRARIES})[-.]", library.name):
                target = bare / library.relative_to("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(library, target)


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode != 0:
        raise BuildError(f"self-test of the frozen agent failed ({done.returncode}):\n{done.stdout}{done.stderr}")
    print(done.stdout.strip())


def main() -> int:
    """Build, prove, report; 0 done, 1 failed."""
    parser = argparse.ArgumentParser(description="Freeze the agent.", epilog="example: python packaging/build.py")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="where the program's folder is made")
    parser.add_argument("--prove-only", action="store_true", help="only prove the program that is there")
    options = parser.parse_args()
    folder = options.dist / NAME
    try:
        if not options.prove_only:
            folder = freeze(options.dist, ROOT / "build" / "pyinstaller")
        where = prove(folder)
    except (BuildError, ValueError, OSError, subprocess.SubprocessError) as error:
        print(error, file=sys.stderr)
        return 1
    size = size_mb(folder)
    print(f"{folder}: {size:.0f} MB in {sum(path.is_file() for path in folder.rglob('*'))} files")
    if sys.platform == "linux" and shutil.which("objdump"):
        print("needs glibc {}.{} or later".format(*glibc(folder)))
    print(f"self-test passed in {where}")
    took = start_s(folder)
    print(f"--version takes {took:.2f} s; at most {START_LIMIT_S} s on an idle machine")
    if size > SIZE_LIMIT_MB:
        print(f"larger than {SIZE_LIMIT_MB} MB: something crept in", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
