"""What happens to a Windows PC and to its log: kills, power cuts, every way to rotate, a program that holds the log."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import ROOT, wait_until
from tests.e2e.test_enrolment import Centre, centre
from tests.packages.windows.device import Device
from tests.packages.windows.pc import PATIENCE, Pc, until

__all__ = ["centre"]
pytestmark = pytest.mark.timeout(1800)
BACKLOG = 25_000
"""Lines, twice as many as the agent reads and journals at once."""


def test_killed_in_the_midst_of_a_backlog_it_loses_and_doubles_nothing(
    package: Path, centre: Centre, pc: Pc, tmp_path: Path
) -> None:
    device = Device("press-3001", pc, centre)
    device.writes(120)
    device.install(package)
    epoch = until(lambda: device.status().get("epoch"), "the journal")
    device.all_arrived("the first lines")
    unread = []
    for more in (0, 1000):
        before = device.arrived()
        device.writes(BACKLOG)
        wait_until(lambda before=before: device.arrived() > before, "the backlog's first results", PATIENCE)
        device.writes(more)
        pc.kill_service()
        unread.append(device.written - device.counted("read"))
        pc.comes_up_again()
        device.all_arrived("everything, after the kill")
    print(f"\nlines that were not read yet when it was killed: {unread}")
    assert unread[1], "it was killed in the midst of reading"
    assert device.status()["epoch"] == epoch, "the journal is the same one"
    assert (device.counted("read"), device.counted("scored")) == (device.written, device.written)
    device.same_bits(tmp_path / "bits")
    pc.agent("service", "stop")
    with closing(sqlite3.connect(pc.data / "state" / "journal.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_log_is_rotated_in_every_way_while_it_is_followed(
    package: Path, centre: Centre, pc: Pc, tmp_path: Path
) -> None:
    device = Device("press-3002", pc, centre)
    device.writes(120)
    device.acts("beneath", pc.called(ROOT / "agent"))
    device.install(package)
    device.all_arrived("the first lines")
    device.writes(6000)
    device.acts("rename")  # while it reads
    device.writes(30)
    device.all_arrived("lines before and after the file was renamed")
    device.acts("cut")
    device.writes(40)
    device.all_arrived("lines after the file was copied and cut")
    gone = tmp_path / "deleted.csv"
    gone.write_bytes(device.log.read_bytes())
    device.acts("delete")
    device.writes(50)
    device.all_arrived("lines after the file was deleted and made anew")
    assert (device.counted("read"), device.counted("scored")) == (device.written, device.written)
    (device.log.parent / "readings.csv.3").write_bytes(gone.read_bytes())
    device.same_bits(tmp_path / "bits")


def test_a_log_that_its_program_holds_is_read_when_it_lets_go(package: Path, centre: Centre, pc: Pc) -> None:
    device = Device("press-3003", pc, centre)
    device.writes(120)
    device.install(package)
    device.all_arrived("the first lines")
    rows = pc.c / "data" / "rows.txt"
    rows.write_bytes(device.rows(10))
    command = pc.program_of_ours("instrument", "hold", r"C:\data\readings.csv", r"C:\data\rows.txt", r"C:\data\flag")
    holding = pc.start(*command)
    try:
        assert holding.stdout is not None
        assert holding.stdout.readline().strip() == b"held"
        until(lambda: device.log_state() == "unreadable", "the state 'unreadable'")
        assert device.arrived() == device.written - 10
    finally:
        (pc.c / "data" / "flag").touch()
        holding.wait(PATIENCE)
    device.all_arrived("what was written meanwhile")
    until(lambda: device.log_state() != "unreadable", "another state than 'unreadable'")
