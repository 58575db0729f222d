"""The live loggers go on where the history ends: no line twice, none left out, whole lines, rotation at midnight."""

from __future__ import annotations

import time
from pathlib import Path

from fieldwatch_contract import clock
from fieldwatch_contract.clock import DAY, MINUTE, parse_iso
from fieldwatch_demo.device import Device
from fieldwatch_demo.fleet import log_lines, make_fleet, write_log
from fieldwatch_demo.live import Live, LogWriter

MIDNIGHT = parse_iso("2026-01-05T00:00:00Z")


def fleet_device(days: int = 2, start: int = MIDNIGHT) -> Device:
    return make_fleet("press", 1, days, start, sensors=20).devices[0]


def data_lines(folder: Path) -> list[bytes]:
    files = [*sorted(folder.glob("readings-*.csv")), folder / "readings.csv"]
    return [line for path in files for line in path.read_bytes().splitlines(keepends=True)[1:]]


def test_history_and_live_lines_make_one_seamless_log(tmp_path: Path) -> None:
    device = fleet_device()
    write_log(device, tmp_path, device.rows(0, 1000))
    writer = LogWriter(device, tmp_path, 1000)
    stamps: list[int] = []
    for until in range(1000, 2001, 7):
        stamps += writer.write(device.time(until))
    stamps += writer.write(device.time(2000))

    whole = fleet_device()
    expected = log_lines(whole, whole.rows(0, 2000))
    assert data_lines(tmp_path) == expected
    assert len(stamps) == len(log_lines(whole, whole.rows(1000, 2000)))
    assert stamps == sorted(set(stamps))


def test_rotates_at_midnight_by_rename(tmp_path: Path) -> None:
    device = fleet_device()
    write_log(device, tmp_path, device.rows(0, 1430))
    inode = (tmp_path / "readings.csv").stat().st_ino
    LogWriter(device, tmp_path, 1430).write(device.time(1450))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["readings-2026-01-05.csv", "readings.csv"]
    assert (tmp_path / "readings-2026-01-05.csv").stat().st_ino == inode
    fresh = (tmp_path / "readings.csv").read_bytes().splitlines()
    assert fresh[0].startswith(b"timestamp,") and fresh[1].startswith(b"2026-01-06T00:00")


def test_runs_at_speed_and_stops(tmp_path: Path) -> None:
    device = fleet_device()
    write_log(device, tmp_path, device.rows(0, 600))
    live = Live([LogWriter(device, tmp_path, 600)], device.time(600), speed=3600)
    live.start()
    wait_for(lambda: live.written["press-0001"].lines >= 30)
    live.stop()
    assert live.error is None and not live.is_alive()
    lines = data_lines(tmp_path)
    assert lines == log_lines(fleet_device(), fleet_device().rows(0, 600 + len(lines)))[: len(lines)]


def test_an_injected_fault_begins_with_the_next_line_and_its_moment_is_known(tmp_path: Path) -> None:
    device = fleet_device(days=1)
    device.faults = []
    write_log(device, tmp_path, device.rows(0, 600))
    live = Live([LogWriter(device, tmp_path, 600)], device.time(600), speed=3600)
    live.start()
    wait_for(lambda: live.written["press-0001"].lines >= 5)
    fault = live.inject("press-0001", device.plant.faults[0], hours=1.0)
    since = device.time(fault.start)
    wait_for(lambda: live.written_at("press-0001", since) is not None)
    wait_for(lambda: live.written["press-0001"].lines >= 30)
    live.stop()
    at = live.written_at("press-0001", since)
    assert at is not None and at <= time.time()

    healthy = fleet_device(days=1)
    healthy.faults = []
    lines, stop = data_lines(tmp_path), 600 + live.written["press-0001"].lines
    assert lines != log_lines(healthy, healthy.rows(0, stop))[: len(lines)]
    before = sum(parse_iso(line.split(b",")[0].decode()) < since for line in lines)
    assert lines[:before] == log_lines(healthy, healthy.rows(0, stop))[:before]


def test_never_writes_tomorrows_readings(tmp_path: Path) -> None:
    today = clock.now() // DAY * DAY
    device = fleet_device(start=today - DAY)
    now = device.index(clock.now())
    write_log(device, tmp_path, device.rows(0, now - 5))
    live = Live([LogWriter(device, tmp_path, now - 5)], device.time(now - 5), speed=1_000_000)
    live.start()
    wait_for(lambda: live.written["press-0001"].lines >= 3)
    time.sleep(0.3)
    live.stop()
    newest = parse_iso(data_lines(tmp_path)[-1].split(b",")[0].decode())
    assert clock.now() - 3 * MINUTE < newest <= clock.now()


def wait_for(condition: object) -> None:
    deadline = time.monotonic() + 30
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "did not happen within 30 s"
        time.sleep(0.01)
