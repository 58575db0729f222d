"""From a bare Debian with nothing but the package, an address and a token to a scoring device; then what befalls it.

``make test-packages`` runs this as root, with the package that ``make package`` built.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fieldwatch_contract import clock

from tests.conftest import wait_until
from tests.e2e.test_enrolment import Centre, centre
from tests.packages.machine import ROOT, Machine

__all__ = ["centre"]
pytestmark = pytest.mark.timeout(900)
PATIENCE = 120.0


@pytest.fixture(scope="module")
def package() -> Path:
    (found,) = (ROOT / "dist").glob("fieldwatch-agent_*.deb")
    return found


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path).boot()
    yield made
    print(made.run("journalctl -u fieldwatch-agent --no-pager -n 60", check=False).stdout)  # shown where a test fails
    made.power_off()


def rows(made: Centre, device: str) -> int:
    from fieldwatch_cloud.store import Store, sqlite_url

    store = Store(sqlite_url(made.folder / "fieldwatch.db"))
    try:
        with store.engine.connect() as connection:
            query = "SELECT count(*) FROM result WHERE device = ?"
            return int(connection.exec_driver_sql(query, (device,)).scalar_one())
    finally:
        store.close()


def pid(machine: Machine) -> int:
    return int(machine.run("systemctl show -p MainPID --value fieldwatch-agent").stdout)


def lines(machine: Machine, first: int, last: int) -> None:
    """Write readings ``first`` to ``last``, a minute apart, up to now."""
    now = int(time.time()) // 60 * 60 - 3600 * 24
    made = [
        f"{clock.iso((now + 60 * i) * clock.SECOND)},{10 + i % 7 / 7:.3f},10.5,{9 + i % 5 / 3:.3f}"
        for i in range(first, last)
    ]
    log = machine.root / "data" / "readings.csv"
    log.parent.mkdir(exist_ok=True)
    with log.open("a") as file:
        if first == 0:
            file.write("timestamp,s0,s1,s2\n")
        file.write("\n".join(made) + "\n")


def files(machine: Machine) -> set[str]:
    listed = machine.run(
        "find / -xdev -not -path '/proc/*' -not -path '/sys/*' -not -path '/run/*' -not -path '/tmp/*'"
    )
    ignored = ("/var/cache", "/var/lib/dpkg", "/var/log", "/data", "/etc/passwd", "/etc/group", "/etc/shadow",
               "/etc/gshadow", "/etc/.pwd.lock", "/var/lib/systemd", "/root", "/var/tmp", "/fieldwatch")  # fmt: skip
    return {path for path in listed.stdout.splitlines() if not path.startswith(ignored)}


def test_the_whole_life_of_an_installation(machine: Machine, centre: Centre, package: Path) -> None:
    before = files(machine)
    lines(machine, 0, 120)
    (machine.root / "fieldwatch.deb").write_bytes(package.read_bytes())
    token = centre.token("press-9001", "--type", "press")
    begun = time.monotonic()
    installed = machine.run("dpkg -i /fieldwatch.deb")
    assert "fieldwatch-agent enroll" in installed.stdout, "the next step is said"
    done = machine.run(f"fieldwatch-agent enroll --url {centre.url} --log '/data/readings*.csv'", stdin=token + "\n")
    assert "the service runs" in done.stdout, done.stdout + done.stderr
    wait_until(lambda: rows(centre, "press-9001") == 120, "results in the cloud", PATIENCE)
    print(f"from a bare system to results in the cloud: {time.monotonic() - begun:.0f} s, one command after dpkg")
    machine.run("fieldwatch-agent doctor --config /etc/fieldwatch-agent/agent.toml")
    status = machine.run("systemctl show -p StatusText --value fieldwatch-agent").stdout
    assert "scoring with press/v1" in status
    state = "/var/lib/fieldwatch-agent"
    owners = machine.run(f"stat -c '%U %a %n' {state} {state}/identity/device.pem").stdout
    assert owners.splitlines() == [
        f"fieldwatch-agent 750 {state}",
        f"fieldwatch-agent 600 {state}/identity/device.pem",
    ]

    old = pid(machine)  # killed: it comes back and goes on
    machine.run(f"kill -9 {old}")
    lines(machine, 120, 130)
    wait_until(lambda: pid(machine) not in {0, old}, "the service to be started again", PATIENCE)
    wait_until(lambda: rows(centre, "press-9001") == 130, "the lines after the kill", PATIENCE)

    machine.run(  # hung: the watchdog ends it
        "mkdir -p /etc/systemd/system/fieldwatch-agent.service.d; printf '[Service]\\nWatchdogSec=4\\n' > "
        "/etc/systemd/system/fieldwatch-agent.service.d/quick.conf; systemctl daemon-reload"
    )
    machine.run("systemctl restart fieldwatch-agent")
    old = pid(machine)
    machine.run(f"kill -STOP {old}")
    wait_until(lambda: pid(machine) not in {0, old}, "the watchdog", PATIENCE)
    machine.run("rm -r /etc/systemd/system/fieldwatch-agent.service.d; systemctl daemon-reload")
    machine.run("systemctl restart fieldwatch-agent")

    centre.broker.stop()  # upgraded with a full journal, then back again
    lines(machine, 130, 150)
    newer = repack(machine, package, "9.9.9")
    old = pid(machine)
    machine.run(f"dpkg -i {newer}")
    wait_until(lambda: pid(machine) not in {0, old}, "the restart by the upgrade", PATIENCE)
    machine.run("dpkg -i /fieldwatch.deb")
    centre.broker.start()
    wait_until(lambda: rows(centre, "press-9001") == 150, "what waited in the journal", PATIENCE)

    machine.power_off()  # and the power fails
    lines(machine, 150, 160)
    machine.boot()
    wait_until(lambda: rows(centre, "press-9001") == 160, "the lines after the power cut", PATIENCE)

    machine.run("dpkg -r fieldwatch-agent")
    assert machine.run("systemctl is-active fieldwatch-agent", check=False).stdout.strip() != "active"
    assert machine.run("ls /var/lib/fieldwatch-agent/journal.db /etc/fieldwatch-agent/agent.toml").returncode == 0
    machine.run("dpkg -P fieldwatch-agent")
    assert files(machine) - before == set(), "a purge leaves nothing"
    assert machine.run("getent passwd fieldwatch-agent", check=False).returncode != 0


def repack(machine: Machine, package: Path, version: str) -> str:
    """The same package under another version, as the next release would be."""
    folder = machine.root / "fieldwatch-next"
    subprocess.run(["dpkg-deb", "-R", package, folder], check=True)
    control = folder / "DEBIAN" / "control"
    text = control.read_text()
    control.write_text(
        "\n".join(f"Version: {version}" if each.startswith("Version:") else each for each in text.split("\n"))
    )
    out = machine.root / "fieldwatch-next.deb"
    subprocess.run(
        ["dpkg-deb", "-Znone", "--root-owner-group", "-b", folder, out], check=True, stdout=subprocess.DEVNULL
    )
    subprocess.run(["rm", "-r", folder], check=True)
    return "/fieldwatch-next.deb"


def test_python_is_not_there(machine: Machine) -> None:
    """What 'bare' means."""
    assert machine.run("command -v python3", check=False).returncode != 0
