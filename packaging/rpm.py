"""Builds the RPM package around the frozen agent: ``dist/fieldwatch-agent-VERSION-1.ARCH.rpm``.

``make package`` runs this after the freeze, with rpmbuild. What is in it is ``payload.py``, as in the Debian package.
The same folder gives the same bytes.

The scriptlets promise what those of the Debian package do: an upgrade keeps state and configuration and restarts what
ran; removing stops the service and keeps both. RPM knows no purge: what is left then is named in ``docs/install.md``.
Whether the service starts with the machine follows the distribution's presets until the device is enrolled, which
enables it. The scriptlets succeed where no systemd runs, as in a container image that is built.

What it needs of the system is said as library versions (``libc.so.6(GLIBC_2.36)``), which every RPM distribution
provides under the same names, unlike package names. rpmbuild's own search for dependencies stays off: it would list
each library inside the frozen folder as one that others must provide.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from payload import DESCRIPTION, EPOCH, NAME, NEXT_STEP, SUMMARY, Places, lay_out, main, settle, version

PLACES = Places(units="usr/lib/systemd/system", zsh="usr/share/zsh/site-functions")

POST = f"""\
set -e
systemd-sysusers fieldwatch-agent.conf
install -d -o fieldwatch-agent -g fieldwatch-agent -m 0750 /var/lib/fieldwatch-agent
install -d -m 0755 /etc/fieldwatch-agent
if [ "$1" -eq 1 ]; then
    systemctl --no-reload preset fieldwatch-agent.service >/dev/null 2>&1 || true
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload >/dev/null 2>&1 || true
    if [ "$1" -eq 1 ] && [ -e /etc/fieldwatch-agent/agent.toml ]; then
        systemctl enable --now fieldwatch-agent.service >/dev/null 2>&1 || true
    fi
fi
if [ ! -e /etc/fieldwatch-agent/agent.toml ]; then
        {NEXT_STEP}
fi
"""
PREUN = """\
set -e
if [ "$1" -eq 0 ]; then
    if [ -d /run/systemd/system ]; then
        systemctl --no-reload disable --now fieldwatch-agent.service >/dev/null 2>&1 || true
    else
        systemctl --no-reload disable fieldwatch-agent.service >/dev/null 2>&1 || true
    fi
fi
"""
POSTUN = """\
set -e
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload >/dev/null 2>&1 || true
    if [ "$1" -ge 1 ]; then
        systemctl try-restart fieldwatch-agent.service >/dev/null 2>&1 || true
    fi
fi
"""


def spec(tree: Path, number: str, needs: tuple[int, int]) -> str:
    """Return rpmbuild's specification; ``needs``: the glibc of the program."""
    return f"""\
Name: {NAME}
Version: {number}
Release: 1
Summary: {SUMMARY}
License: Apache-2.0
Group: System Environment/Daemons
AutoReqProv: no
Requires: libc.so.6(GLIBC_{needs[0]}.{needs[1]})(64bit)
Requires: libz.so.1()(64bit)
Requires: systemd >= 250
Requires(post): systemd, coreutils
Requires(preun): systemd
Requires(postun): systemd

%description
{DESCRIPTION}

%install
cp -a {tree}/. %{{buildroot}}

%files
{chr(10).join(files(tree))}

%post
{POST}
%preun
{PREUN}
%postun
{POSTUN}"""


def files(tree: Path) -> list[str]:
    """Return the lines of ``%files``: the program's own folder whole, elsewhere files alone, as their folders are the
    system's.
    """
    lines = [f"/opt/{NAME}"]
    for path in sorted(tree.rglob("*")):
        place = "/" + path.relative_to(tree).as_posix()
        if path.is_dir() or place.startswith(f"/opt/{NAME}/"):
            continue
        kind = "%license " if path.name == "copyright" else "%doc " if "/man/" in place else ""
        lines.append(kind + place)
    return lines


def build(program: Path, dist: Path, needs: tuple[int, int]) -> Path:
    """Build the package and return its path; ``needs``: the glibc of the program.

    Raises :class:`OSError` or :class:`subprocess.CalledProcessError`.
    """
    if shutil.which("rpmbuild") is None:
        raise OSError("rpmbuild is missing: install the system package rpm (Debian) or rpm-build (others)")
    work, number, architecture = dist / "rpm", version(), os.uname().machine
    shutil.rmtree(work, ignore_errors=True)
    tree = work / "tree"
    lay_out(tree, program, PLACES)
    settle(tree)
    (work / "agent.spec").write_text(spec(tree.resolve(), number, needs), encoding="utf-8")
    settings = {
        "_topdir": str(work.resolve()),
        "_rpmdir": str(work.resolve()),
        "_build_name_fmt": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
        "_buildhost": "fieldwatch.invalid",
        "_binary_payload": "w9.zstdio",
        "use_source_date_epoch_as_buildtime": "1",
        "clamp_mtime_to_source_date_epoch": "1",
        "__os_install_post": "%{nil}",  # no stripping: OpenBLAS does not survive it
        "debug_package": "%{nil}",
        "_build_id_links": "none",
    }
    defined = [word for name, value in settings.items() for word in ("--define", f"{name} {value}")]
    done = subprocess.run(
        ["rpmbuild", "-bb", "--quiet", "--target", f"{architecture}-linux", *defined, str(work / "agent.spec")],
        env=os.environ | {"SOURCE_DATE_EPOCH": str(EPOCH)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise OSError(f"rpmbuild ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    name = f"{NAME}-{number}-1.{architecture}.rpm"
    (work / name).replace(dist / name)
    shutil.rmtree(work)
    return dist / name


if __name__ == "__main__":
    sys.exit(main("rpm", build))
