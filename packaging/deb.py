"""Builds the Debian package around the frozen agent: ``dist/fieldwatch-agent_VERSION_ARCH.deb``.

``make package`` runs this after the freeze. The same folder gives the same bytes: owners, times and order are fixed.
What the package puts on a machine, and how each thing goes away again, is in ``docs/install.md``.

The maintainer scripts promise: an upgrade keeps state and configuration and restarts what ran; removing stops the
service and keeps both; purging leaves nothing. They use what every Debian has (``deb-systemd-helper`` of
init-system-helpers, ``systemd-sysusers``), and succeed where no systemd runs, as in a container image that is built.
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
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "fieldwatch-agent"
EPOCH = 1_767_225_600
"""The time of every file, so that the same source gives the same bytes."""
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

POSTINST = """\
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    systemd-sysusers fieldwatch-agent.conf
    install -d -o fieldwatch-agent -g fieldwatch-agent -m 0750 /var/lib/fieldwatch-agent
    install -d -m 0755 /etc/fieldwatch-agent
    deb-systemd-helper unmask fieldwatch-agent.service >/dev/null || true
    if deb-systemd-helper --quiet was-enabled fieldwatch-agent.service; then
        deb-systemd-helper enable fieldwatch-agent.service >/dev/null || true
    else
        deb-systemd-helper update-state fieldwatch-agent.service >/dev/null || true
    fi
    if [ -d /run/systemd/system ]; then
        systemctl --system daemon-reload >/dev/null || true
        if [ -n "$2" ]; then
            deb-systemd-invoke try-restart fieldwatch-agent.service >/dev/null || true
        elif [ -e /etc/fieldwatch-agent/agent.toml ]; then
            deb-systemd-invoke start fieldwatch-agent.service >/dev/null || true
        fi
    fi
    if [ ! -e /etc/fieldwatch-agent/agent.toml ]; then
        echo "fieldwatch-agent is installed. Next, with the token you were given:"
        echo "    fieldwatch-agent enroll --url https://HOST:8443 --log '/path/of/the/log*.csv'"
    fi
fi
"""
PRERM = """\
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    deb-systemd-invoke stop fieldwatch-agent.service >/dev/null || true
fi
"""
POSTRM = """\
#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then
    systemctl --system daemon-reload >/dev/null || true
fi
if [ "$1" = remove ]; then
    deb-systemd-helper mask fieldwatch-agent.service >/dev/null || true
fi
if [ "$1" = purge ]; then
    deb-systemd-helper purge fieldwatch-agent.service >/dev/null || true
    deb-systemd-helper unmask fieldwatch-agent.service >/dev/null || true
    rm -rf /var/lib/fieldwatch-agent /var/log/fieldwatch-agent /etc/fieldwatch-agent
    if command -v deluser >/dev/null; then deluser --quiet --system fieldwatch-agent || true
    elif command -v userdel >/dev/null; then userdel fieldwatch-agent || true
    fi
fi
"""


def version() -> str:
    """Return the program's version, as ``pyproject.toml`` has it."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def control(version: str, architecture: str, glibc: tuple[int, int], size_kb: int) -> str:
    """Return the package's ``control``."""
    return f"""\
Package: {NAME}
Version: {version}
Architecture: {architecture}
Maintainer: Fieldwatch maintainers <maintainers@fieldwatch.invalid>
Installed-Size: {size_kb}
Depends: libc6 (>= {glibc[0]}.{glibc[1]}), zlib1g, systemd (>= 250), init-system-helpers
Section: science
Priority: optional
Description: scores the log of a research device on the spot
 The agent reads the text log of the device beside it, runs a fault classifier
 and an anomaly detector on every line, and sends results and alerts over MQTT.
 It needs no Python and no connection to score.
"""


def lay_out(folder: Path, program: Path, manual: str, completion: str, changes: str, version: str) -> None:
    """Lay out the package's files in ``folder``, without the maintainer's part."""
    shutil.copytree(program, folder / "opt" / NAME, symlinks=True)
    _write(folder / "lib/systemd/system" / f"{NAME}.service", (ROOT / "packaging" / f"{NAME}.service").read_text())
    _write(folder / "usr/lib/sysusers.d" / f"{NAME}.conf", (ROOT / "packaging" / f"{NAME}.sysusers").read_text())
    link = folder / "usr/bin" / NAME
    link.parent.mkdir(parents=True)
    link.symlink_to(f"/opt/{NAME}/{NAME}")
    _write_gz(folder / f"usr/share/man/man1/{NAME}.1.gz", manual)
    _write(folder / f"usr/share/bash-completion/completions/{NAME}", completion)
    _write_gz(folder / f"usr/share/doc/{NAME}/changelog.gz", changes)
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    _write(folder / f"usr/share/doc/{NAME}/copyright", f"Fieldwatch {version}, licence Apache-2.0:\n\n{licence}")


def scripts(folder: Path, control_text: str) -> None:
    """Write the maintainer's part."""
    for name, text in {"control": control_text, "postinst": POSTINST, "prerm": PRERM, "postrm": POSTRM}.items():
        _write(folder / "DEBIAN" / name, text)
        (folder / "DEBIAN" / name).chmod(0o644 if name == "control" else 0o755)


def settle(folder: Path) -> None:
    """Give every file the same time and plain rights."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
        os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
    folder.chmod(0o755)
    os.utime(folder, (EPOCH, EPOCH))


def manual(help_text: str, version: str) -> str:
    """Return the manual page, made from what ``--help`` says."""
    body = re.sub(r"^(\S.*):$", r'.SH "\1"', help_text, flags=re.M).replace("\\", "\\e").replace("\n\n", "\n.PP\n")
    body = re.sub(r"^(['.])(?!SH|PP)", r"\\&\1", body, flags=re.M)
    return (
        f'.TH FIELDWATCH-AGENT 1 "" "fieldwatch-agent {version}" ""\n.SH NAME\nfieldwatch-agent \\- scores a device\'s '
        f"log on the spot\n.SH SYNOPSIS\n.nf\n{body}\n.fi\n.SH FILES\n/etc/fieldwatch-agent/agent.toml\n.br\n"
        "/var/lib/fieldwatch-agent\n"
    )


def completion(commands: list[str]) -> str:
    """Return bash's completion: commands first, then files."""
    return f"""\
_fieldwatch_agent() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}"
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{" ".join(commands)}" -- "$word"))
    elif [ "${{word#-}}" != "$word" ]; then
        COMPREPLY=($(compgen -W "$(fieldwatch-agent "${{COMP_WORDS[1]}}" --help | grep -o -- '--[a-z-]*')" -- "$word"))
    else
        COMPREPLY=($(compgen -f -- "$word"))
    fi
}}
complete -o filenames -F _fieldwatch_agent fieldwatch-agent
"""


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _write_gz(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def build(program: Path, dist: Path, glibc: tuple[int, int], compression: str = "xz") -> Path:
    """Build the package and return its path. Raises :class:`OSError` or :class:`subprocess.CalledProcessError`."""
    folder = dist / "deb"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    number, architecture = version(), ARCHITECTURES[os.uname().machine]
    text = _help(program)
    commands = re.findall(r"^    ([a-z-]+) ", text, re.M)
    changes = f"fieldwatch-agent ({number}) stable; urgency=medium\n\n  * See CHANGELOG.md of the project.\n"
    lay_out(folder, program, manual(text, number), completion(commands), changes, number)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) // 1024
    settle(folder)
    scripts(folder, control(number, architecture, glibc, size))
    for path in (*(folder / "DEBIAN").iterdir(), folder / "DEBIAN", folder):
        os.utime(path, (EPOCH, EPOCH))
    out = dist / f"{NAME}_{number}_{architecture}.deb"
    level = ["-z1"] if compression == "xz" else []
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", f"-Z{compression}", *level, "--build", str(folder), str(out)],
        check=True, env=os.environ | {"SOURCE_DATE_EPOCH": str(EPOCH)}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    shutil.rmtree(folder)
    return out


def _help(program: Path) -> str:
    done = subprocess.run([program / NAME, "--help"], capture_output=True, text=True, check=True, env={"COLUMNS": "80"})
    return done.stdout


def main() -> int:
    """Build; 0 done, 1 failed."""
    parser = argparse.ArgumentParser(description="Build the .deb.", epilog="example: python packaging/deb.py")
    parser.add_argument(
        "--dist", type=Path, default=ROOT / "dist", help="where the frozen agent is, and the package goes"
    )
    parser.add_argument("--glibc", default="2.36", help="the version that the frozen agent needs")
    parser.add_argument("--compression", choices=["xz", "zstd"], default="xz")
    options = parser.parse_args()
    major, _, minor = options.glibc.partition(".")
    try:
        out = build(options.dist / NAME, options.dist, (int(major), int(minor)), options.compression)
    except (OSError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{out}: {out.stat().st_size / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
