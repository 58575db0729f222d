"""The agent's commands as a person runs them: the real program, a log, a bundle."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fieldwatch_agent.send.journal import FILE, read_status
from fieldwatch_agent.update.activation import Activation

from tests.bundles import make_bundle

ROOT = Path(__file__).parents[3]
START = datetime(2026, 1, 17, tzinfo=UTC)


def lines(count: int, header: str = "time,s0,s1,s2") -> Iterator[str]:
    yield header
    for minute in range(count):
        yield f"{START + timedelta(minutes=minute):%Y-%m-%dT%H:%M:%SZ},10.0,{minute % 7},11.5"


def agent(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "fieldwatch_agent", *map(str, arguments)]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(agent(*arguments), capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of several blocks."""
    path = tmp_path / "readings.csv"
    path.write_text("\n".join(lines(40_000)) + "\n")
    return path


def test_status_after_a_backlog_says_how_it_ended(tmp_path: Path, log: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(
        '[device]\nid = "press-0001"\ntype = "press"\n'
        f"[log]\npath = '{log}'\nperiod = \"60s\"\n"
        '[state]\ndir = "state"\n'
    )
    activation = Activation(tmp_path / "state")
    activation.switch(activation.stage(make_bundle(3)))
    done = run("run", "--config", config, "--until-idle")
    assert done.returncode == 0, done.stderr
    health = read_status(tmp_path / "state" / FILE)["health"]
    assert (health["lag_bytes"], health["last_reading"]) == (0, "2026-02-13T18:39:00Z")


def test_replay_names_sensors_without_a_column(tmp_path: Path, log: Path) -> None:
    bundle = tmp_path / "b.zip"
    bundle.write_bytes(make_bundle(3))
    assert "note:" not in run("replay", log, "--bundle", bundle).stderr
    log.write_text("\n".join(lines(5, "time,s0,S-one,s2")) + "\n")
    done = run("replay", log, "--bundle", bundle)
    assert done.returncode == 0
    assert "note: no column for s1; columns that the bundle does not know: S-one" in done.stderr


def test_replay_into_a_reader_that_leaves_ends_quietly(tmp_path: Path, log: Path) -> None:
    bundle = tmp_path / "b.zip"
    bundle.write_bytes(make_bundle(3))
    command = agent("replay", log, "--bundle", bundle)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as replay:
        assert replay.stdout is not None and replay.stderr is not None
        assert replay.stdout.readline().startswith(b'{"ts":')
        replay.stdout.close()
        assert replay.stderr.read() == b""
