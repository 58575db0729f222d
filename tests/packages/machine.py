"""A bare Debian with a real systemd in a container, made once and copied for each test; needs root.

``systemd-nspawn`` boots it, ``nsenter`` runs commands in it. It shares the network of this machine, so that a centre on
127.0.0.1 is its centre too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASE = Path(os.environ.get("FIELDWATCH_DEBIAN") or ROOT / "build" / "debian-root")
PACKAGES = "systemd,dbus,init-system-helpers"


def base() -> Path:
    """Return the bare root, made with debootstrap if it is not there yet (some minutes).

    A mirror may be slow or fail in between: what was fetched is kept beside it, and tried three times.
    """
    done = BASE / ".complete"
    if done.exists():
        return BASE
    fetched = BASE.with_name(f"{BASE.name}-packages")
    fetched.mkdir(parents=True, exist_ok=True)
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", f"--cache-dir={fetched.resolve()}"]
    for pause in (5, 30, None):
        shutil.rmtree(BASE, ignore_errors=True)
        BASE.mkdir(parents=True)
        if subprocess.run([*command, "bookworm", str(BASE)], check=False).returncode == 0:
            done.touch()
            return BASE
        if pause is not None:
            time.sleep(pause)
    raise AssertionError(f"debootstrap failed three times; what it says is above, and in {BASE}/debootstrap")


class Machine:
    """One booted copy."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        subprocess.run(["cp", "-a", "--reflink=auto", str(base()), str(self.root)], check=True)
        (self.root / "etc" / "hosts").write_text("127.0.0.1 localhost\n")  # minbase has none
        self._name = f"fieldwatch-{os.getpid()}-{folder.name[-12:]}".replace("_", "-")
        self._log = folder / "console.log"
        self._process: subprocess.Popen[bytes] | None = None

    def boot(self) -> Machine:
        """Start it and wait until systemd says that it runs."""
        command = [
            "systemd-nspawn", "-q", "-M", self._name, "-D", str(self.root), "--boot", "--register=no", "--keep-unit",
        ]  # fmt: skip
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        end = time.monotonic() + 120
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise AssertionError(f"the container ended:\n{self._log.read_text(errors='replace')[-3000:]}")
            if self.leader() and self.run("systemctl is-system-running", check=False).stdout.strip() in {
                "running",
                "degraded",
            }:
                return self
            time.sleep(0.3)
        raise AssertionError(f"the container does not start:\n{self._log.read_text(errors='replace')[-3000:]}")

    def run(self, script: str, *, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a shell script inside."""
        command = ["nsenter", "-t", str(self.leader()), "-a", "--", "/bin/sh", "-c", script]
        environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, env=environ, timeout=300
        )
        assert not check or done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done

    def power_off(self) -> None:
        """Cut the power: every process of the machine ends at once."""
        if self._process is not None and self._process.poll() is None:
            if leader := self.leader():
                subprocess.run(["kill", "-9", str(leader)], check=False)
            self._process.terminate()
            self._process.wait(30)
        self._process = None

    def leader(self) -> int:
        """Return the process id, outside, of its systemd; 0 where there is none yet. ``/proc/PID/root`` is its root as
        its own processes see it.
        """
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        pids = children.read_text().split() if children.exists() else []
        return int(pids[0]) if pids else 0
