"""What no Wine can tell, because it has no accounts, rights, recovery and event log: on Windows alone.

The workflow ``windows.yml`` runs it; ``docs/install-windows.md`` lists what it proves.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.e2e.test_enrolment import Centre, centre
from tests.packages.windows.device import LOG_PATH, Device
from tests.packages.windows.pc import DATA, Pc, until

__all__ = ["centre"]
pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(sys.platform != "win32", reason="Wine has no accounts, rights, recovery and event log"),
]
OWN, ADMINISTRATION = r"NT SERVICE\FieldwatchAgent", {r"NT AUTHORITY\SYSTEM", r"BUILTIN\Administrators"}


def rights(pc: Pc, folder: str) -> dict[str, str]:
    """Who may do what in a folder, as ``icacls`` tells."""
    told = pc.run("icacls", folder).stdout.replace(folder, "", 1)
    return {who.strip(): what for who, what in re.findall(r"^\s*([^:\n]+):((?:\([^)]*\))+)", told, re.M)}


def test_the_service_is_what_the_page_says(package: Path, centre: Centre, pc: Pc) -> None:
    device = Device("press-4001", pc, centre)
    device.writes(120)
    token = centre.token(device.id, "--type", "press")
    said = pc.c / "data" / "installer.log"
    pc.install(package, "/l*v", str(said), f"ENROLL_URL={centre.url}", f"TOKEN={token}", LOG_PATH)
    device.all_arrived("the backlog, read and sent by an account that has no password")
    told = said.read_text(encoding="utf-16")
    assert centre.url in told and token not in told, "the installer's log shows the address, and stars for the token"

    config = pc.run("sc", "qc", "FieldwatchAgent").stdout
    assert re.search(r"SERVICE_START_NAME\s*: NT SERVICE\\FieldwatchAgent", config), config
    assert re.search(r'BINARY_PATH_NAME\s*: "C:\\Program Files\\Fieldwatch\\fieldwatch-agent\.exe" ', config), config
    assert re.search(r"START_TYPE\s*: 2\s+AUTO_START\s+\(DELAYED\)", config), config
    failure = pc.run("sc", "qfailure", "FieldwatchAgent").stdout
    assert re.findall(r"RESTART -- Delay = (\d+) milliseconds", failure) == ["5000", "30000", "60000"], failure
    assert "TRUE" in pc.run("sc", "qfailureflag", "FieldwatchAgent").stdout
    assert "UNRESTRICTED" in pc.run("sc", "qsidtype", "FieldwatchAgent").stdout

    read, change = "(OI)(CI)(RX)", "(OI)(CI)(M)"
    for folder, right in ((rf"{DATA}\config", read), (rf"{DATA}\state", change), (rf"{DATA}\state\identity", change)):
        found = rights(pc, folder)
        assert found.pop(OWN) == right, folder
        assert found.pop("OWNER RIGHTS", "(OI)(CI)(F)") == "(OI)(CI)(F)"
        assert set(found) == ADMINISTRATION, f"{folder}: {found}"
    query = "*[System[Provider[@Name='FieldwatchAgent']]]"
    events = pc.run("wevtutil", "qe", "Application", f"/q:{query}", "/f:text").stdout
    assert "The agent starts with" in events, events


def test_a_crash_is_followed_by_a_start_each_time(package: Path, centre: Centre, pc: Pc) -> None:
    """Killed three times, with nobody who starts it."""
    device = Device("press-4002", pc, centre)
    device.writes(120)
    device.install(package)
    device.all_arrived("the backlog")
    for _ in range(3):
        pc.kill_service()
        device.writes(10)
        pc.comes_up_again()
        device.all_arrived("what was written meanwhile")
    until(lambda: device.log_state() == "following", "the log is followed")
