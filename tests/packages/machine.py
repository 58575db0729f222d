"""A bare Debian with a real systemd in a container, made once and copied for each test; needs root.

``systemd-nspawn`` boots it, ``nsenter`` runs commands in it, at a terminal where somebody has to be asked. It shares
the network of this machine, so that a centre on 127.0.0.1 is its centre too.
"""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASE = Path(os.environ.get("FIELDWATCH_DEBIAN") or ROOT / "build" / "debian-root")
PACKAGES = "systemd,dbus,init-system-helpers"
FETCHED = "python3-venv"
"""Lies in the root's ``/var/cache/apt`` with what it needs: ``apt install`` installs it there without a network."""


def base() -> Path:
    """Return the bare root, made with debootstrap if it is not there yet (some minutes).

    A mirror may be slow or fail in between: what was fetched is kept beside it, and tried three times.
    """
    done, wanted = BASE / ".complete", f"{PACKAGES} {FETCHED}"
    if done.exists() and done.read_text() == wanted:
        return BASE
    packages = BASE.with_name(f"{BASE.name}-packages")
    packages.mkdir(parents=True, exist_ok=True)
    make = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", f"--cache-dir={packages.resolve()}"]
    fetch = f"apt-get clean && apt-get -qq update && apt-get -qq install --download-only {FETCHED}"
    for pause in (5, 30, None):
        shutil.rmtree(BASE, ignore_errors=True)
        BASE.mkdir(parents=True)
        steps = ([*make, "bookworm", str(BASE)], ["chroot", str(BASE), "/bin/sh", "-c", fetch])
        if all(subprocess.run(step, check=False).returncode == 0 for step in steps):
            done.write_text(wanted)
            return BASE
        if pause is not None:
            time.sleep(pause)
    raise AssertionError(f"debootstrap failed three times; what it says is above, and in {BASE}/debootstrap")


PATIENCE = 300
"""Seconds that one command may take."""
ENVIRON = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "DEBIAN_FRONTEND": "noninteractive",
}


class Machine:
    """One booted copy."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        subprocess.run(["cp", "-a", "--reflink=auto", str(base()), str(self.root)], check=True)
        self.knows()
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

    def knows(self, *names: str, elsewhere: Iterable[str] = ()) -> None:
        """Let ``names`` be this machine too, and ``elsewhere`` an address at which nobody answers."""
        hosts = [f"127.0.0.1 {name}" for name in ("localhost", *names)] + [f"127.0.0.2 {name}" for name in elsewhere]
        (self.root / "etc" / "hosts").write_text("\n".join(hosts) + "\n")

    def put(self, file: Path, name: str) -> str:
        """Lay a file on the machine, and return where."""
        (self.root / name).write_bytes(file.read_bytes())
        return f"/{name}"

    def files(self) -> set[str]:
        """What is on it, without what tests lay there and what comes and goes with every use."""
        passing = ("/proc/*", "/sys/*", "/run/*", "/tmp/*")
        listed = self.run(f"find / -xdev {' '.join(f'-not -path {each!r}' for each in passing)}")
        ignored = (
            "/var/cache", "/var/lib/dpkg", "/var/log", "/data", "/etc/passwd", "/etc/group", "/etc/shadow",
            "/etc/gshadow", "/etc/.pwd.lock", "/var/lib/systemd", "/root", "/var/tmp", "/fieldwatch",
        )  # fmt: skip
        return {path for path in listed.stdout.splitlines() if not path.startswith(ignored)}

    def run(self, script: str, *, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a shell script inside."""
        done = subprocess.run(
            self._inside(script),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            env=ENVIRON,
            timeout=PATIENCE,
        )
        assert not check or done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done

    def talk(self, script: str, answers: Iterable[tuple[str, str]] = ()) -> str:
        """Run a shell script inside at a terminal: as soon as each text is shown, in this order, its answer is typed.

        Returns all that was shown. Fails where the script does, or a text does not appear.
        """
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            self._inside(script), stdin=theirs, stdout=theirs, stderr=theirs, env=ENVIRON, start_new_session=True
        )
        os.close(theirs)
        shown, at, left = "", 0, deque(answers)
        try:
            while select.select([ours], [], [], PATIENCE)[0]:
                try:
                    data = os.read(ours, 65536)
                except OSError:  # so Linux says that nobody holds the other end any more
                    break
                shown += data.decode(errors="replace")
                while left and (found := shown.find(left[0][0], at)) >= 0:
                    text, answer = left.popleft()
                    at = found + len(text)
                    os.write(ours, f"{answer}\n".encode())
            code = process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
            os.close(ours)
        assert code == 0 and not left, f"{script}\n{shown}\nexit code {code}; not shown: {[text for text, _ in left]}"
        return shown

    def _inside(self, script: str) -> list[str]:
        return ["nsenter", "-t", str(self.leader()), "-a", "--", "/bin/sh", "-c", script]

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
