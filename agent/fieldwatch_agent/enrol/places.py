"""Where an installed agent has its configuration and state, and whose the state is: what differs between systems."""

from __future__ import annotations

import os
import sys
from pathlib import Path

USER = "fieldwatch-agent"
"""The service's account on Linux; the package makes it."""


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
        for path in (folder, folder / "identity", *(folder / "identity").glob("*")):
            os.chown(path, account.pw_uid, account.pw_gid)

else:  # pragma: no cover

    def give_to_service(folder: Path) -> None:
        """On Windows the folder's rights are set by the installation and inherited."""
