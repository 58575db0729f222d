"""The parts of the demo around the simulator: its folder, its times, its command line."""

from __future__ import annotations

import io
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from fieldwatch_contract.clock import DAY, MINUTE, parse_iso
from fieldwatch_demo.__main__ import main
from fieldwatch_demo.folder import MARKER, FolderError, prepare
from fieldwatch_demo.progress import Progress
from fieldwatch_demo.stages import BACKLOG_DAYS, HISTORY_DAYS, make_plan, toml, write_history
from fieldwatch_demo.stop import Overdue, Stop, Stopped

NOW = parse_iso("2026-03-10T09:30:20Z")


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FolderError, match="not made by the demo"):
        prepare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_its_own_folder_is_made_anew(tmp_path: Path) -> None:
    prepare(tmp_path / "state").close()
    (tmp_path / "state" / "logs" / "old.csv").write_text("old")
    prepare(tmp_path / "state").close()
    assert (tmp_path / "state" / MARKER).exists()
    assert list((tmp_path / "state" / "logs").iterdir()) == []


def test_a_second_demo_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    lock = prepare(tmp_path / "state")
    program = (
        "import sys, pathlib; from fieldwatch_demo.folder import prepare, FolderError\n"
        "try: prepare(pathlib.Path(sys.argv[1]))\n"
        "except FolderError as error: print(error); sys.exit(7)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "state")]
    other = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (other.returncode, "another demo runs" in other.stdout) == (7, True), other.stdout + other.stderr
    lock.close()
    assert subprocess.run(command, capture_output=True, text=True, check=False).returncode == 0


@pytest.mark.parametrize(("devices", "speed"), [(1, 1.0), (3, 60.0), (8, 600.0)])
def test_history_backlog_and_live_follow_on_one_another(devices: int, speed: float) -> None:
    plan = make_plan(devices, speed, NOW)
    first = plan.watched[0]
    assert len(plan.watched) == devices
    assert plan.backlog - plan.history == HISTORY_DAYS * first.per_day
    assert plan.live - plan.backlog == BACKLOG_DAYS * first.per_day
    assert plan.history >= 0
    behind = NOW - first.time(plan.live)
    assert behind >= 0, "no reading of tomorrow"
    assert behind < MINUTE if speed == 1 else behind > 0
    learnt = [each for device in plan.fleet.devices for each in device.faults if each.start >= plan.history]
    learnt = [each for each in learnt if each.stop <= plan.backlog]
    assert {each.kind.slow for each in learnt} == {True, False}, "both kinds of fault can be learnt"
    for device in plan.watched[:-1]:
        assert all(each.stop <= plan.backlog for each in device.faults), "well when the demo begins"


def test_the_lake_ends_where_the_logs_begin(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    plan = make_plan(2, 60.0, NOW)
    lines = write_history(plan, tmp_path)
    device = plan.watched[0]
    ts = pq.read_table(tmp_path / "lake" / "readings" / f"{device.name}.parquet", columns=["ts"])["ts"].to_pylist()
    logs = sorted((tmp_path / "logs" / device.name).glob("readings*.csv"))
    logged = [line.split(",")[0] for path in logs for line in path.read_text().splitlines()[1:]]
    assert parse_iso(ts[-1].isoformat()) < device.time(plan.backlog) <= parse_iso(logged[0])
    assert parse_iso(logged[-1]) < device.time(plan.live)
    assert logged == sorted(logged)
    assert 2 * (DAY // MINUTE) * 0.99 < lines <= 2 * (DAY // MINUTE)
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["press-0001", "press-0002"]


def test_configuration_is_toml() -> None:
    sections: dict[str, dict[str, object]] = {"log": {"path": 'C:\\logs "new"\\ö*.csv', "n": 3}, "web": {"on": True}}
    assert tomllib.loads(toml(sections)) == sections


def test_a_pause_ends_when_the_demo_is_asked_to() -> None:
    stop = Stop()
    stop.pause(0.001)
    stop.ask()
    with pytest.raises(Stopped):
        stop.pause(60)


def test_a_pause_ends_the_demo_that_takes_too_long() -> None:
    stop = Stop()
    stop.deadline = time.monotonic() + 3600
    stop.pause(0.001)
    stop.deadline = time.monotonic() - 1
    with pytest.raises(Overdue):
        stop.pause(0.001)


def test_progress_tells_what_failed() -> None:
    out = io.StringIO()
    progress = Progress(out)
    with progress.step("good", "a good step"):
        pass
    with pytest.raises(ValueError, match="broken"), progress.step("bad", "a bad step"):
        raise ValueError("broken")
    lines = out.getvalue().splitlines()
    assert lines[0].split()[0] == "ok" and "a good step" in lines[0]
    assert lines[1].split()[0] == "!!" and "a bad step" in lines[1]
    assert progress.current == "bad" and set(progress.seconds) == {"good", "bad"}


def test_simulate_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["simulate", "--out", str(tmp_path), "--devices", "1", "--days", "1", "--sensors", "25"]
    assert main(command) == 0
    assert "1 × press, 25 sensors" in capsys.readouterr().out
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.relative_to(tmp_path).parts[0] for path in before} == {"logs", "lake", "truth.json"}
    assert main(command) == 0
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert main([*command, "--type", "pump"]) == 2
    assert "holds the lake of other devices (press-0001)" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["simulate", "--out", "x", "--sensors", "3"], "at least 20 sensors"),
        (["simulate", "--out", "x", "--period", "7"], "must divide a day"),
        (["--devices", "0"], "--devices must be"),
        (["--speed", "0.5"], "--speed must be"),
    ],
)
def test_wrong_usage_ends_with_2_and_a_reason(
    command: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = main(command)
    except SystemExit as ended:
        code = int(str(ended.code))
    assert code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
