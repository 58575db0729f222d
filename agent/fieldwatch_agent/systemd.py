"""``service``: makes the program a systemd service where no package did, as after an installation with pip.

The packages bring the same unit; theirs is only started and stopped, and taken away by removing the package. Ours is
written to :data:`OWN` with the command that runs this program. It needs root, and a program that the unit lets the
service see: nothing below ``/home``, ``/root`` or ``/tmp``.

| done by ``install`` | undone by |
|---|---|
| the account ``fieldwatch-agent``, without a shell | ``userdel fieldwatch-agent`` |
| ``/var/lib/fieldwatch-agent``, the account's | ``rm -r``: results that wait and the device's key are in it |
| the unit, enabled and started | ``uninstall`` |
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from fieldwatch_agent import places
from fieldwatch_agent.places import ServiceError

OWN = places.UNITS[0]
NAME = OWN.name
TEMPLATES = (Path(__file__).with_name(NAME), Path(__file__).parents[2] / "packaging" / NAME)
"""In a wheel and in the frozen program beside this module, in a checkout where the packages are made."""
HIDDEN = ("/home", "/root", "/tmp", "/var/tmp", "/run/user")  # noqa: S108 (not used, but refused)


def unit(template: str, command: Sequence[str]) -> str:
    """Return the unit that runs ``command``; everything else is the packages'."""
    quoted = " ".join(f'"{each}"' if re.search(r"\s", each) else each for each in command)
    return re.sub(r"^ExecStart=.*$", lambda _: f"ExecStart={quoted.replace('%', '%%')}", template, count=1, flags=re.M)


def unseen(paths: Sequence[Path]) -> str:
    """Return why the service could not see the program, empty where it can."""
    for path in paths:
        for each in (path.resolve(), path.absolute()):
            if each.is_relative_to(Path("/")) and any(each.is_relative_to(folder) for folder in HIDDEN):
                return f"{each} is not visible to the service, which sees nothing below {', '.join(HIDDEN)}"
    return ""


def install() -> Iterator[str]:
    """Install, enable and start the service; yield each thing that was done. Raises :class:`ServiceError`."""
    from fieldwatch_agent.service import own_command  # it brings all libraries along; the other verbs are quick

    _can_act()
    config = places.config_file()
    if not config.exists():
        raise ServiceError(f"{config} is not there: run 'fieldwatch-agent setup' first, as root and without --config")
    if _package_unit() is None:
        if why := unseen([Path(sys.executable), Path(__file__)]):
            raise ServiceError(f"{why}; install the program elsewhere, for example: python3 -m venv /opt/fieldwatch")
        template = next(path for path in TEMPLATES if path.exists()).read_text(encoding="utf-8")
        account = f'u {places.USER} - "Fieldwatch agent" {places.state_folder()}'
        _call("systemd-sysusers", "--inline", account)
        yield f"account {places.USER}"
        places.state_folder().mkdir(mode=0o750, exist_ok=True)
        OWN.write_text(unit(template, own_command("run", "--config", str(config))), encoding="utf-8")
        yield f"unit {OWN}"
    _own_state()
    _call("systemctl", "daemon-reload")
    _call("systemctl", "enable", "--now", NAME)
    yield "the service runs; it starts with this computer"


def uninstall() -> Iterator[str]:
    """Stop and disable the service and remove our unit; raises :class:`ServiceError`."""
    _can_act()
    if not OWN.exists() and _package_unit() is None:
        raise ServiceError("the service is not installed")
    _call("systemctl", "disable", "--now", NAME)
    yield "the service is stopped and does not start any more"
    if OWN.exists():
        OWN.unlink()
        _call("systemctl", "daemon-reload")
        yield f"removed {OWN}"
    else:
        yield f"the package's unit stays, until the package is removed: dpkg -r {places.USER}, or rpm -e"
    yield (
        f"kept: the account {places.USER}, {places.config_file().parent}, {places.state_folder()}; "
        "see docs/install.md for removing them"
    )


def control(verb: str) -> Iterator[str]:
    """``start`` or ``stop``; raises :class:`ServiceError`."""
    _can_act()
    if not OWN.exists() and _package_unit() is None:
        raise ServiceError("the service is not installed: fieldwatch-agent service install")
    _call("systemctl", verb, NAME)
    yield "the service runs" if verb == "start" else "the service is stopped, until this computer starts again"


def state() -> tuple[bool, str]:
    """Return whether the service runs, and systemd's words for what it does. Raises :class:`ServiceError`."""
    _has_systemd()
    asked = ("LoadState", "ActiveState", "SubState", "UnitFileState", "StatusText", "MainPID")
    told = dict(
        line.partition("=")[::2]
        for line in _call("systemctl", "show", NAME, *(f"-p{each}" for each in asked)).splitlines()
    )
    if told.get("LoadState") == "not-found":
        return False, "not installed: fieldwatch-agent service install"
    words = f"{told.get('ActiveState')} ({told.get('SubState')}), {told.get('UnitFileState')} at start-up"
    runs = told.get("ActiveState") == "active"
    return runs, f"{words}; {told['StatusText']}" if runs and told.get("StatusText") else words


def _package_unit() -> Path | None:
    return next((path for path in places.UNITS[1:] if path.exists()), None)


def _has_systemd() -> None:
    if not places.systemd_runs():
        why = "there is no systemd here"
        if shutil.which("systemctl") is not None:
            why = f"systemd did not start this computer ({places.SYSTEMD} is missing)"
        raise ServiceError(
            f"{why}: let what starts programs here run 'fieldwatch-agent run --config {places.config_file()}'"
        )


def _can_act() -> None:
    _has_systemd()
    if os.name == "posix" and os.geteuid() != 0:
        raise ServiceError("this needs root: sudo fieldwatch-agent service …")


def _own_state() -> None:
    """Give the account whatever root has written for it."""
    import pwd

    account, folder = pwd.getpwnam(places.USER), places.state_folder().resolve()
    for path in (folder, *folder.rglob("*")):
        places.own(path, account)


def _call(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ServiceError(f"{command[0]}: {error.strerror or error}") from error
    if done.returncode != 0:
        raise ServiceError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout
