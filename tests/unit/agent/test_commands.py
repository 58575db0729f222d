"""The agent's commands as a person runs them: the real program, a log, a bundle."""

import errno
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fieldwatch_agent import system
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


@pytest.mark.parametrize("page", ["cp437", "cp1252", "ascii"])
def test_a_code_page_without_the_character_ends_no_command(tmp_path: Path, page: str) -> None:
    """As on Windows, where what goes into a file or a pipe is written in the code page of the country."""
    config = tmp_path / "agent.toml"
    device, log = '[device]\nid = "press-0001"\ntype = "press"\n', '[log]\npath = "µ→≠/*.csv"\nperiod = "60s"\n'
    config.write_text(f'{device}{log}[state]\ndir = "state"\n', encoding="utf-8")
    done = subprocess.run(
        agent("check", "--config", config), capture_output=True, cwd=ROOT, check=False, timeout=60,
        env=os.environ | {"PYTHONIOENCODING": f"{page}:strict"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert "µ→≠" in done.stdout.decode("utf-8"), "a pipe is UTF-8: our own programs read it"


def test_a_terminal_without_the_character_shows_its_number() -> None:
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    shown = io.BytesIO()
    terminal = Terminal(shown, encoding="cp437")
    system.speak_plainly(terminal, None)
    print("µ→", file=terminal, flush=True)
    assert shown.getvalue().splitlines() == ["µ".encode("cp437") + rb"\u2192"]


def test_windows_says_only_that_something_is_invalid_when_a_reader_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    closed, named = OSError(errno.EINVAL, "Invalid argument"), OSError(errno.EINVAL, "Invalid argument", "a?b")
    assert (system.reader_left(closed), system.reader_left(BrokenPipeError())) == (False, True)
    monkeypatch.setattr(system, "WINDOWS", True)
    assert (system.reader_left(closed), system.reader_left(named)) == (True, False)
