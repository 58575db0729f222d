"""The service's own log: text or JSON, rotated, and never a reason to stop."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from fieldwatch_agent import service_log
from fieldwatch_agent.check import check
from fieldwatch_agent.config import load
from fieldwatch_agent.service_log import RotatingFile
from fieldwatch_agent.update.activation import Activation

from tests.bundles import make_bundle

CONFIG = """\
[device]
id = "press-0001"
type = "press"
[log]
path = "readings.csv"
period = "60s"
[state]
dir = "state"
[service]
log_file = "logs/agent.log"
"""


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("fieldwatch.agent", logging.INFO, "", 1, message, None, None)


def folder_with_device(folder: Path, config: str) -> Path:
    rows = [f"2026-01-17T10:{i:02}:00Z,10.0,{i % 7},11.5" for i in range(60)]
    (folder / "readings.csv").write_text("\n".join(["time,s0,s1,s2", *rows]) + "\n")
    path = folder / "agent.toml"
    path.write_text(config)
    activation = Activation(folder / "state")
    activation.switch(activation.stage(make_bundle(3)))
    return path


def run(path: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fieldwatch_agent", "run", "--config", str(path), "--until-idle"]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_the_service_writes_json_to_the_file_and_to_standard_error(
    tmp_path: Path, clean_env: Mapping[str, str]
) -> None:
    path = folder_with_device(tmp_path, CONFIG + 'log_format = "json"\n')
    done = run(path, clean_env)
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "logs" / "agent.log").read_text().splitlines()
    assert written == done.stderr.splitlines()
    told = [json.loads(line) for line in written]
    assert {tuple(each) for each in told} == {("ts", "level", "logger", "message")}
    assert any("device press-0001" in each["message"] and each["level"] == "info" for each in told)
    assert all(each["ts"].endswith("Z") for each in told)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_a_full_disk_under_the_log_stops_nothing(tmp_path: Path, clean_env: Mapping[str, str]) -> None:
    path = folder_with_device(tmp_path, CONFIG)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "agent.log").symlink_to("/dev/full")
    done = run(path, clean_env)
    assert done.returncode == 0
    assert "device press-0001" in done.stderr and "Traceback" not in done.stderr


def test_what_could_not_be_written_is_counted_and_told(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    path.mkdir()  # it cannot be opened
    file = RotatingFile(path)
    for _ in range(3):
        file.handle(record("lost"))
    path.rmdir()
    file.handle(record("found"))
    file.close()
    assert path.read_text().splitlines() == [
        "3 records before this could not be written here; was the disk full?",
        "found",
    ]


def test_it_is_rotated_and_bounded(tmp_path: Path) -> None:
    path = tmp_path / "agent.log"
    file = RotatingFile(path, size=1000, files=3)
    for number in range(200):
        file.handle(record(f"record {number:06}"))
    file.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["agent.log", "agent.log.1", "agent.log.2"]
    assert all(each.stat().st_size <= 1000 for each in tmp_path.iterdir())
    assert path.read_text().endswith("record 000199\n")


def test_a_file_that_cannot_be_renamed_is_written_on_and_cut_at_twice_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows while somebody looks at it."""

    def held(source: str, target: str) -> None:
        raise PermissionError(13, "used by another process", source)

    monkeypatch.setattr(os, "rename", held)
    monkeypatch.setattr(service_log, "AGAIN_S", 0.0)
    path = tmp_path / "agent.log"
    file = RotatingFile(path, size=1000, files=3)
    largest = 0
    for number in range(300):
        file.handle(record(f"record {number:06}"))
        largest = max(largest, path.stat().st_size)
        assert path.read_text().endswith(f"record {number:06}\n")
    file.close()
    assert 1000 < largest < 2100
    assert [each.name for each in tmp_path.iterdir()] == ["agent.log"]


def test_a_line_of_the_device_forges_no_record(tmp_path: Path) -> None:
    path = folder_with_device(tmp_path, CONFIG)
    for form in ("text", "json"):
        path.write_text(CONFIG + f'log_format = "{form}"\n')
        for each in service_log.handlers(load(path, {})):
            assert len(each.format(record("refused: 1,2\n2026-01-17 INFO all is well")).splitlines()) == 1


def test_check_says_where_the_log_cannot_be_written(tmp_path: Path) -> None:
    path = folder_with_device(tmp_path, CONFIG)
    told = {each.where: each for each in check(load(path, {}))}
    assert told["[service] log_file"].level == "ok"
    (tmp_path / "logs").write_text("")
    found = {each.where: each for each in check(load(path, {}))}["[service] log_file"]
    assert (found.level, found.what) == ("error", f"{tmp_path / 'logs'} is not a folder")
    path.write_text(CONFIG.replace("logs/agent.log", "state"))
    found = {each.where: each for each in check(load(path, {}))}["[service] log_file"]
    assert (found.level, found.what) == ("error", f"{tmp_path / 'state'} is a folder")
