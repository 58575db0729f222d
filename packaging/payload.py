"""What the agent's packages put on a machine, whichever their kind: the program, unit, account, manual,
completion of three shells, SBOM.

``deb.py`` and ``rpm.py`` wrap the same folder. The same program gives the same bytes: owners, times, order are fixed.
What is made at installation rather than shipped (state and configuration folders) belongs to the scripts of each kind.
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import completion
from fieldwatch_agent.__main__ import _parser

ROOT = Path(__file__).resolve().parent.parent
NAME = "fieldwatch-agent"
SBOM, LICENCES = f"{NAME}.cdx.json", f"{NAME}.licences.txt"
"""What ``sbom.py`` writes beside the frozen agent, and the packages carry."""
SUMMARY = "scores the log of a research device on the spot"
DESCRIPTION = """\
The agent reads the text log of the device beside it, runs a fault classifier
and an anomaly detector on every line, and sends results and alerts over MQTT.
It needs no Python and no connection to score."""
EPOCH = 1_767_225_600
"""The time of every file, so that the same source gives the same bytes."""
NEXT_STEP = """\
echo "fieldwatch-agent is installed. Next, with the token you were given:"
        echo "    fieldwatch-agent setup --url https://HOST:8443"\
"""


@dataclass(frozen=True)
class Places:
    """Where a kind of distribution keeps the units of its packages, and what completes for zsh."""

    units: str
    zsh: str


def version() -> str:
    """Return the program's version, as ``pyproject.toml`` has it."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def newer() -> str:
    """Return the version after it: an upgrade is tried with the same program, packed once more."""
    kept, _, last = version().rpartition(".")
    return f"{kept}.{int(last) + 1}"


def program(folder: Path) -> Path:
    """Return the executable in the frozen agent's folder."""
    return folder / (f"{NAME}.exe" if sys.platform == "win32" else NAME)


def glibc_floor(symbols: str) -> tuple[int, int]:
    """Return the highest glibc version that ``objdump -T`` output asks for.

    >>> glibc_floor("GLIBC_2.34 x (GLIBC_2.9) y GLIBC_PRIVATE")
    (2, 34)
    """
    return max(((int(a), int(b)) for a, b in re.findall(r"GLIBC_(\d+)\.(\d+)", symbols)), default=(0, 0))


def glibc(program: Path) -> tuple[int, int]:
    """Return the glibc that the frozen agent's folder needs: what a package must declare.

    Raises :class:`OSError` where ``objdump`` (binutils) is missing.
    """
    binaries = [program / NAME, *(path for path in sorted(program.rglob("*.so*")) if path.is_file())]
    dump = subprocess.run(["objdump", "-T", *binaries], capture_output=True, text=True, check=False).stdout
    return glibc_floor(dump)


def lay_out(folder: Path, program: Path, places: Places) -> None:
    """Lay out in ``folder``, which is made anew, the files of the frozen agent in ``program`` and what ``sbom.py``
    wrote beside it.

    Raises :class:`OSError` or :class:`subprocess.CalledProcessError`, as the program is asked for its help.
    """
    shutil.rmtree(folder, ignore_errors=True)
    number, parser = version(), _parser()
    shutil.copytree(program, folder / "opt" / NAME, symlinks=True)
    _write(folder / places.units / f"{NAME}.service", (ROOT / "packaging" / f"{NAME}.service").read_text())
    _write(folder / "usr/lib/sysusers.d" / f"{NAME}.conf", (ROOT / "packaging" / f"{NAME}.sysusers").read_text())
    link = folder / "usr/bin" / NAME
    link.parent.mkdir(parents=True)
    link.symlink_to(f"/opt/{NAME}/{NAME}")
    _write_gz(folder / f"usr/share/man/man1/{NAME}.1.gz", manual(_help(program), number))
    _write(folder / f"usr/share/bash-completion/completions/{NAME}", completion.bash(parser))
    _write(folder / places.zsh / f"_{NAME}", completion.zsh(parser))
    _write(folder / f"usr/share/fish/vendor_completions.d/{NAME}.fish", completion.fish(parser))
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    _write(folder / f"usr/share/doc/{NAME}/copyright", f"Fieldwatch {number}, licence Apache-2.0:\n\n{licence}")
    for name in (SBOM, LICENCES):
        _write(folder / f"usr/share/doc/{NAME}" / name, (program.parent / name).read_text(encoding="utf-8"))


def settle(folder: Path) -> None:
    """Give every file the same time and plain rights: to run where it is a program, not where it is a library."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if not path.is_symlink():
            executable = path.is_dir() or (path.stat().st_mode & 0o100 and ".so" not in path.suffixes)
            path.chmod(0o755 if executable else 0o644)
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=not path.is_symlink())  # Windows knows no other
    folder.chmod(0o755)
    os.utime(folder, (EPOCH, EPOCH))


def main(kind: str, build: Callable[[Path, Path, tuple[int, int]], Path]) -> int:
    """Build one kind of package of the frozen agent, as a command; 0 done, 1 failed."""
    parser = argparse.ArgumentParser(description=f"Build the .{kind}.", epilog=f"example: python packaging/{kind}.py")
    parser.add_argument(
        "--dist", type=Path, default=ROOT / "dist", help="where the frozen agent is, and the package goes"
    )
    dist = parser.parse_args().dist
    try:
        out = build(dist / NAME, dist, glibc(dist / NAME))
    except (OSError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{out}: {out.stat().st_size / 1e6:.0f} MB")
    return 0


def manual(help_text: str, version: str) -> str:
    """Return the manual page, made from what ``--help`` says."""
    body = re.sub(r"^(\S.*):$", r'.SH "\1"', help_text, flags=re.M).replace("\\", "\\e").replace("\n\n", "\n.PP\n")
    body = re.sub(r"^(['.])(?!SH|PP)", r"\\&\1", body, flags=re.M)
    return (
        f'.TH FIELDWATCH-AGENT 1 "" "fieldwatch-agent {version}" ""\n.SH NAME\nfieldwatch-agent \\- scores a device\'s '
        f"log on the spot\n.SH SYNOPSIS\n.nf\n{body}\n.fi\n.SH FILES\n/etc/fieldwatch-agent/agent.toml\n.br\n"
        "/var/lib/fieldwatch-agent\n"
    )


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _write_gz(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def _help(program: Path) -> str:
    done = subprocess.run([program / NAME, "--help"], capture_output=True, text=True, check=True, env={"COLUMNS": "80"})
    return done.stdout
