"""Builds the Debian package around the frozen agent: ``dist/fieldwatch-agent_VERSION_ARCH.deb``.

``make package`` runs this after the freeze. The same folder gives the same bytes. What is in it: ``payload.py``; what
the package puts on a machine, and how each thing goes away again: ``docs/install.md``.

The maintainer scripts promise: an upgrade keeps state and configuration and restarts what ran; removing stops the
service and keeps both; purging leaves nothing. They use what every Debian has (``deb-systemd-helper`` of
init-system-helpers, an essential package, and ``systemd-sysusers``), and succeed where no systemd runs, as in a
container image that is built.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

from payload import (
    DESCRIPTION,
    EPOCH,
    LICENCES,
    NAME,
    NEXT_STEP,
    ROOT,
    SUMMARY,
    Places,
    lay_out,
    main,
    settle,
    version,
)

PLACES = Places(units="lib/systemd/system", zsh="usr/share/zsh/vendor-completions")
MAINTAINER = "Fieldwatch maintainers <maintainers@fieldwatch.invalid>"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

POSTINST = f"""\
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
        {NEXT_STEP}
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

COPYRIGHT = f"""\
Copyright 2026 Fieldwatch maintainers

Licensed under the Apache License, Version 2.0, whose text is in
/usr/share/common-licenses/Apache-2.0 on Debian.

The interpreter and the libraries in /opt/{NAME} have licences and copyrights
of their own; {LICENCES} beside this file has each.
"""


def control(version: str, architecture: str, glibc: tuple[int, int], size_kb: int) -> str:
    """Return the package's ``control``."""
    return f"""\
Package: {NAME}
Version: {version}
Architecture: {architecture}
Maintainer: {MAINTAINER}
Installed-Size: {size_kb}
Depends: libc6 (>= {glibc[0]}.{glibc[1]}), zlib1g, systemd (>= 250)
Section: science
Priority: optional
Description: {SUMMARY}
 {DESCRIPTION.replace(chr(10), chr(10) + " ")}
"""


def documents(folder: Path, version: str) -> None:
    """Write what Debian asks of a package: changes, copyright, and why some of its rules are not followed."""
    made = folder / f"usr/share/doc/{NAME}"
    date = format_datetime(datetime.fromtimestamp(EPOCH, UTC))
    changes = f"{NAME} ({version}) stable; urgency=medium\n\n  * Release {version}.\n\n -- {MAINTAINER}  {date}\n"
    (made / "changelog.gz").write_bytes(gzip.compress(changes.encode(), mtime=0))
    (made / "copyright").write_text(COPYRIGHT, encoding="utf-8")
    overrides = folder / "usr/share/lintian/overrides" / NAME
    overrides.parent.mkdir(parents=True)
    shutil.copyfile(ROOT / "packaging" / f"{NAME}.lintian-overrides", overrides)


def scripts(folder: Path, control_text: str) -> None:
    """Write the maintainer's part."""
    made = folder / "DEBIAN"
    made.mkdir()
    made.chmod(0o755)  # mkdir would leave the umask's say
    for name, text in {"control": control_text, "postinst": POSTINST, "prerm": PRERM, "postrm": POSTRM}.items():
        (made / name).write_text(text, encoding="utf-8")
        (made / name).chmod(0o644 if name == "control" else 0o755)


def build(program: Path, dist: Path, needs: tuple[int, int]) -> Path:
    """Build the package and return its path; ``needs``: the glibc of the program.

    Raises :class:`OSError` or :class:`subprocess.CalledProcessError`.
    """
    folder = dist / "deb"
    number, architecture = version(), ARCHITECTURES[os.uname().machine]
    lay_out(folder, program, PLACES)
    documents(folder, number)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) // 1024
    settle(folder)
    scripts(folder, control(number, architecture, needs, size))
    for path in (*(folder / "DEBIAN").iterdir(), folder / "DEBIAN", folder):
        os.utime(path, (EPOCH, EPOCH))
    out = dist / f"{NAME}_{number}_{architecture}.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zzstd", "-z9", "--build", str(folder), str(out)],
        check=True, env=os.environ | {"SOURCE_DATE_EPOCH": str(EPOCH)}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    shutil.rmtree(folder)
    return out


if __name__ == "__main__":
    sys.exit(main("deb", build))
