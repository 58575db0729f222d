"""The RPM package, installed by the real ``rpm`` on a machine with a real systemd; upgraded and removed.

No RPM distribution can be fetched where this runs, so the machine is the bare Debian of the other tests with an RPM
database of its own: program, unit, account, scriptlets and their arguments are proven, the names of what the package
requires are not (``--nodeps``), nor SELinux. ``rpm`` of this machine works inside the other's root.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e.test_enrolment import Centre
from tests.packages.device import CONFIG, STATE, Device
from tests.packages.machine import Machine

pytestmark = pytest.mark.timeout(600)


def rpm(machine: Machine, *arguments: str | Path) -> str:
    """Run ``rpm`` on the machine's own root, where scriptlets see its systemd."""
    command = ["rpm", "--root", f"/proc/{machine.leader()}/root", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "scriptlet failed" not in done.stderr, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_installed_enrolled_upgraded_and_removed(machine: Machine, centre: Centre, rpm_package: Path) -> None:
    device = Device("press-9101", machine, centre)
    device.writes(60)
    said = rpm(machine, "-i", "--nodeps", rpm_package)
    assert "fieldwatch-agent enroll" in said, "the next step is said"
    device.enroll()
    device.all_arrived("results in the cloud")
    assert machine.run(f"stat -c '%U %a' {STATE}").stdout.strip() == "fieldwatch-agent 750"
    machine.run("man_page=/usr/share/man/man1/fieldwatch-agent.1.gz; test -s $man_page")

    centre.broker.stop()
    device.writes(20)
    old = device.pid()
    rpm(machine, "-U", "--nodeps", "--replacepkgs", rpm_package)
    device.started_again(old, "the restart by the upgrade")
    centre.broker.start()
    device.all_arrived("what waited in the journal over the upgrade")

    rpm(machine, "-e", "fieldwatch-agent")
    assert machine.run("systemctl is-active fieldwatch-agent", check=False).stdout.strip() != "active"
    assert not (machine.root / "opt/fieldwatch-agent").exists()
    assert machine.run(f"ls {STATE}/journal.db {CONFIG}").returncode == 0, "state and configuration are kept"
