"""From a bare Debian with nothing but the package, an address and a token to a scoring device; then what befalls it.

``make test-packages`` runs this as root, with the packages that ``make package`` built.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.conftest import wait_until
from tests.e2e.test_enrolment import Centre
from tests.packages.device import CONFIG, PATIENCE, STATE, Device
from tests.packages.machine import Machine
from tests.packages.previous import bundle_for_both
from tests.updates import Site

pytestmark = pytest.mark.timeout(1500)


def test_the_whole_life_of_an_installation(machine: Machine, centre: Centre, package: Path) -> None:
    assert machine.run("command -v python3", check=False).returncode != 0, "bare: nothing is there to help"
    before = machine.files()
    device = Device("press-9001", machine, centre)
    device.writes(120)
    laid = machine.put(package, "fieldwatch.deb")
    begun = time.monotonic()
    installed = machine.run(f"dpkg -i {laid}")
    assert "fieldwatch-agent setup " in installed.stdout, "the next step is said"
    packed = time.monotonic()
    device.enroll()
    device.all_arrived("results in the cloud")
    ended = time.monotonic()
    print(
        f"\nfrom a bare system to results in the cloud: {ended - begun:.0f} s; dpkg took {packed - begun:.0f} s of it, "
        f"the one command after it to the last of {device.written} results {ended - packed:.0f} s"
    )
    machine.run(f"fieldwatch-agent doctor --config {CONFIG}")
    status = machine.run("systemctl show -p StatusText --value fieldwatch-agent").stdout
    assert "scoring with press/v1" in status
    owners = machine.run(f"stat -c '%U %a %n' {STATE} {STATE}/identity/device.pem").stdout
    assert owners.splitlines() == [
        f"fieldwatch-agent 750 {STATE}",
        f"fieldwatch-agent 600 {STATE}/identity/device.pem",
    ]

    old = device.pid()  # killed: it comes back and goes on
    machine.run(f"kill -9 {old}")
    device.writes(10)
    device.started_again(old, "the service to be started again")
    device.all_arrived("the lines after the kill")

    machine.run(  # hung: the watchdog ends it
        "mkdir -p /etc/systemd/system/fieldwatch-agent.service.d; printf '[Service]\\nWatchdogSec=4\\n' > "
        "/etc/systemd/system/fieldwatch-agent.service.d/quick.conf; systemctl daemon-reload"
    )
    machine.run("systemctl restart fieldwatch-agent")
    old = device.pid()
    machine.run(f"kill -STOP {old}")
    device.started_again(old, "the watchdog")
    machine.run("rm -r /etc/systemd/system/fieldwatch-agent.service.d; systemctl daemon-reload")
    machine.run("systemctl restart fieldwatch-agent")

    device.writes(5)
    machine.power_off()  # the power fails
    device.writes(5)
    machine.boot()
    device.all_arrived("the lines before and after the power cut")

    machine.run("dpkg -r fieldwatch-agent")
    assert machine.run("systemctl is-active fieldwatch-agent", check=False).stdout.strip() != "active"
    assert machine.run(f"ls {STATE}/journal.db {CONFIG}").returncode == 0
    machine.run("dpkg -P fieldwatch-agent")
    assert machine.files() - before == set(), "a purge leaves nothing"
    assert machine.run("getent passwd fieldwatch-agent", check=False).returncode != 0


def test_upgraded_and_downgraded_with_a_full_journal(
    previous_package: Path, machine: Machine, centre: Centre, package: Path
) -> None:
    """From the previous version's package to this one and back: nothing that waits is lost or counts twice."""
    older, newer = machine.put(previous_package, "fieldwatch-previous.deb"), machine.put(package, "fieldwatch.deb")
    release = centre.folder / "release"
    Site(release / "repo", release / "repo-keys").publish(bundle_for_both())
    device = Device("press-9002", machine, centre)
    device.writes(60)
    machine.run(f"dpkg -i {older}")
    device.enroll("enroll")
    device.all_arrived("results of the previous version")
    assert device.alerts() == []

    for number, (step, laid) in enumerate((("upgrade", newer), ("downgrade", older), ("upgrade again", newer)), 1):
        centre.broker.stop()
        device.writes(10, faulty=True)
        device.writes(30)
        wait_until(lambda: device.status()["outbox"]["events"] >= 40, f"a full journal before the {step}", PATIENCE)
        waiting = device.status()["outbox"]["events"]
        old = device.pid()
        identity = machine.run(f"sha256sum {STATE}/identity/device.pem {CONFIG}").stdout
        machine.run(f"dpkg -i {laid}")
        device.started_again(old, f"the restart by the {step}")
        assert device.status()["outbox"]["events"] >= waiting, "what waited still waits"
        assert machine.run(f"sha256sum {STATE}/identity/device.pem {CONFIG}").stdout == identity
        centre.broker.start()
        device.all_arrived(f"what waited in the journal over the {step}")
        wait_until(lambda number=number: len(device.alerts()) >= number, f"the alert that waited over the {step}")
        assert len(device.alerts()) == number
        print(f"{step}: {waiting} events waited, one alert among them, and arrived once each")
