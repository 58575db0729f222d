"""Where the service has its configuration and state, under which account it runs, how it is started: by system."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from fieldwatch_agent import system

UNITS = tuple(Path(folder) / "fieldwatch-agent.service" for folder in ("/etc/systemd/system", "/lib/systemd/system"))
"""The unit that ``service install`` writes, and the packages'."""
SYSTEMD = Path("/run/systemd/system")
"""Is there where systemd has started this computer; its programs may be there without it, as in a container."""
USER = "fieldwatch-agent"
"""The service's account on Linux; the package makes it."""
SERVICE = "FieldwatchAgent"
"""The service on Windows."""
ALREADY_RUNS = 1056
SYSTEM, ADMINISTRATORS, OWNER = "S-1-5-18", "S-1-5-32-544", "S-1-3-4"


class ServiceError(Exception):
    """The service cannot be installed, or the system refuses; the message says why and what would be right."""


def config_file() -> Path:
    """Return where the service looks for its configuration."""
    if sys.platform == "win32":
        return Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData")) / "Fieldwatch" / "config" / "agent.toml"
    return Path("/etc/fieldwatch-agent/agent.toml")


def state_folder() -> Path:
    """Return where the service keeps its state."""
    if sys.platform == "win32":
        return Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData")) / "Fieldwatch" / "state"
    return Path("/var/lib/fieldwatch-agent")


def sid_of(service: str) -> str:
    """Return the SID of a Windows service's account, which is computed from the service's name.

    >>> sid_of("TrustedInstaller")
    'S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464'
    """
    digest = hashlib.sha1(service.upper().encode("utf-16-le"), usedforsecurity=False).digest()
    return "-".join(["S-1-5-80", *map(str, struct.unpack("<5I", digest))])


def icacls(folder: PurePath, more: Mapping[str, str]) -> list[str]:
    """Return the call that closes a folder, and all in it, to everybody but the system, administrators and ``more``.

    ``more``: a right ("RX", "M", "F") for each SID. A SID, because names of groups are written in the local language.
    """
    given = {SYSTEM: "F", ADMINISTRATORS: "F", **more}
    return [
        "icacls",
        str(folder),
        "/inheritance:r",
        "/grant:r",
        *(f"*{sid}:(OI)(CI){right}" for sid, right in given.items()),
    ]


def close_to_others(folder: Path) -> None:
    """Let nobody but administrators, the service and its owner look into a new folder for keys; raises OSError.

    Only Windows needs it, where everybody may read what stands below ``ProgramData``: files have modes elsewhere.
    """
    if not system.WINDOWS:
        return
    done = subprocess.run(icacls(folder, {OWNER: "F", sid_of(SERVICE): "M"}), capture_output=True, check=False)
    if done.returncode != 0:
        told = system.printed(done.stderr or done.stdout)
        raise OSError(errno.EACCES, f"its rights cannot be set: {told}", str(folder))


def folders(config: Path | None, state: Path | None) -> tuple[Path, Path]:
    """Return configuration file and state folder of what was said: the service's, or the state beside the file."""
    own = config_file()
    chosen = (config or own).absolute()
    return chosen, (state or (state_folder() if chosen == own else chosen.parent / "state")).absolute()


def why_not(error: OSError) -> str:
    """Say why a file of the configuration or the state cannot be read or written, and what would help."""
    told = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return f"{told}; run this as root, or say --config FILE" if isinstance(error, PermissionError) else told


def systemd_runs() -> bool:
    """Tell whether systemd can be asked for anything."""
    return SYSTEMD.is_dir() and shutil.which("systemctl") is not None


if os.name == "posix":
    import pwd

    def give_to_service(folder: Path) -> None:
        """Let the service's account own what an administrator wrote for it."""
        if os.geteuid() != 0:
            return
        try:
            account = pwd.getpwnam(USER)
        except KeyError:
            return  # not installed as a service
        folder = folder.resolve()  # an administrator may have moved it to another disk; what is in it is the account's
        identity = folder / "identity"
        for path in (folder, identity, *(() if identity.is_symlink() else identity.glob("*"))):
            own(path, account)

    def own(path: Path, account: pwd.struct_passwd) -> None:
        """Give a file to an account, never what a link of that account leads to; raises OSError."""
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)

    def start_service() -> str:
        """Enable and start the installed service; return what came of it, empty where there is none or we may not."""
        if os.geteuid() != 0 or not systemd_runs() or not any(map(Path.exists, UNITS)):
            return ""
        done = subprocess.run(["systemctl", "enable", "--now", UNITS[0].name], capture_output=True, check=False)
        return "the service runs" if done.returncode == 0 else done.stderr.decode(errors="replace").strip()

    def run_as_service(command: Sequence[str], *, capture: bool = False) -> subprocess.CompletedProcess[str] | None:
        """Run ``command`` under the service's account, with its proxies where the environment names none.

        Returns None where we are not root, or no service is installed.
        """
        if os.geteuid() != 0:
            return None
        try:
            account = pwd.getpwnam(USER)
        except KeyError:
            return None
        groups = os.getgrouplist(USER, account.pw_gid)
        return subprocess.run(
            command, check=False, user=account.pw_uid, group=account.pw_gid, extra_groups=groups,
            env={**_proxies(), **os.environ}, capture_output=capture, encoding="utf-8", errors="replace",
        )  # fmt: skip

    def _proxies() -> dict[str, str]:
        """Return the proxies that the running service was given, by a drop-in or a file: a shell knows none of them."""
        if not systemd_runs():
            return {}
        asked = ["systemctl", "show", "--value", "-pMainPID", UNITS[0].name]
        pid = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
        try:
            pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return {}  # it does not run
        given = (os.fsdecode(pair).partition("=") for pair in pairs)
        return {name: value for name, _, value in given if name.lower().endswith("_proxy")}

else:  # pragma: no cover

    def start_service() -> str:
        """Start the installed service; empty where there is none or we may not."""
        done = subprocess.run(["sc.exe", "start", SERVICE], capture_output=True, check=False)
        return "the service runs" if done.returncode in {0, ALREADY_RUNS} else ""

    def run_as_service(command: Sequence[str], *, capture: bool = False) -> subprocess.CompletedProcess[str] | None:
        """On Windows the account of a service has no way in for others."""
        return None

    def give_to_service(folder: Path) -> None:
        """On Windows the folder's rights are set by the installation and inherited."""
