"""The RPM package, installed by the real ``rpm`` on a machine with a real systemd; upgraded and removed.

No RPM distribution can be fetched where this runs, so the machine is the bare Debian of the other tests with an RPM
database of its own, to which this machine lends its ``rpm``: program, unit, account, scriptlets and their arguments are
proven, the names of what the package requires are not (``--nodeps``), nor SELinux.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.test_enrolment import Centre
from tests.packages.device import CONFIG, STATE, Device
from tests.packages.machine import Machine

pytestmark = pytest.mark.timeout(600)


LENT = "/fieldwatch-rpm"


def lend_rpm(machine: Machine) -> None:
    """Copy ``rpm`` with its libraries and settings onto the machine, which is of the same Debian or an older one."""
    place = machine.root / LENT.strip("/")
    (place / "lib").mkdir(parents=True)
    program = shutil.which("rpm")
    assert program is not None, "rpm is missing: install the system package rpm"
    shutil.copy(program, place / "rpm")
    shutil.copytree("/usr/lib/rpm", place / "settings", symlinks=True)
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"=> (/\S+)", listed):
        if not re.match(r"lib(c|m|dl|pthread)\.so", Path(library).name):
            shutil.copy(library, place / "lib")


def rpm(machine: Machine, *arguments: str) -> str:
    """Run the lent ``rpm`` on the machine."""
    settings = f"LD_LIBRARY_PATH={LENT}/lib RPM_CONFIGDIR={LENT}/settings"
    done = machine.run(f"{settings} {LENT}/rpm --dbpath /var/lib/rpm {' '.join(arguments)}")
    assert "scriptlet failed" not in done.stderr, done.stderr
    return done.stdout


def test_installed_enrolled_upgraded_and_removed(machine: Machine, centre: Centre, rpm_package: Path) -> None:
    device = Device("press-9101", machine, centre)
    device.writes(60)
    lend_rpm(machine)
    shutil.copy(rpm_package, machine.root / "fieldwatch.rpm")
    said = rpm(machine, "-i", "--nodeps", "/fieldwatch.rpm")
    assert "fieldwatch-agent setup " in said, "the next step is said"
    device.enroll()
    device.all_arrived("results in the cloud")
    assert machine.run(f"stat -c '%U %a' {STATE}").stdout.strip() == "fieldwatch-agent 750"

    centre.broker.stop()
    device.writes(20)
    old = device.pid()
    rpm(machine, "-U", "--nodeps", "--replacepkgs", "/fieldwatch.rpm")
    device.started_again(old, "the restart by the upgrade")
    centre.broker.start()
    device.all_arrived("what waited in the journal over the upgrade")

    rpm(machine, "-e", "fieldwatch-agent")
    assert machine.run("systemctl is-active fieldwatch-agent", check=False).stdout.strip() != "active"
    assert not (machine.root / "opt/fieldwatch-agent").exists()
    assert machine.run(f"ls {STATE}/journal.db {CONFIG}").returncode == 0, "state and configuration are kept"
