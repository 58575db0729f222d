"""No child outlives the demo, a failed one shows why, and those that behave are asked before they are killed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from fieldwatch_demo.children import ChildError, Children

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
program = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
grandchild = subprocess.Popen([sys.executable, "-c", program])
print("grandchild", grandchild.pid, flush=True)
time.sleep(600)
"""
POLITE = """
import signal, sys, time
def end(*_):
    print("ended by itself", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules that children can run."""
    for name, text in (("stubborn", STUBBORN), ("polite", POLITE), ("failing", "print('why'); raise SystemExit(3)")):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_a_polite_child_ends_by_itself(programs: Path) -> None:
    children = Children(programs / "logs")
    child = children.start("polite", "polite")
    wait_for_text(child.log, "ready")
    children.stop()
    assert child.code == 0
    assert "ended by itself" in child.log.read_text()


def test_some_can_be_kept_until_the_others_have_ended(programs: Path) -> None:
    children = Children(programs / "logs")
    cloud, agent = children.start("cloud", "polite"), children.start("agent", "polite")
    wait_for_text(cloud.log, "ready")
    wait_for_text(agent.log, "ready")
    children.stop(keep={"cloud"})
    assert (agent.code, cloud.code) == (0, None)
    assert children.running == [cloud] and children.named("agent") is None
    children.stop()
    assert cloud.code == 0


def test_a_stubborn_child_and_its_own_children_are_killed(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fieldwatch_demo.children.GRACE", 0.3)
    children = Children(programs / "logs")
    child = children.start("stubborn", "stubborn")
    wait_for_text(child.log, "grandchild")
    grandchild = int(child.log.read_text().split()[1])
    children.stop()
    assert child.code is not None and child.code != 0
    deadline = time.monotonic() + 30
    while alive(grandchild):
        assert time.monotonic() < deadline, "the grandchild is an orphan"
        time.sleep(0.02)


def test_a_failure_tells_exit_code_and_the_end_of_its_log(programs: Path) -> None:
    children = Children(programs / "logs")
    with pytest.raises(ChildError, match=r"^trainer ended with exit code 3: why$") as error:
        children.run("trainer", "failing")
    assert error.value.details.splitlines()[-1].strip() == "why"
    assert error.value.remedy == f"read {programs / 'logs' / 'trainer.log'}"
    children.stop()


def test_a_service_that_ended_is_noticed(programs: Path) -> None:
    children = Children(programs / "logs")
    children.expect_alive()
    child = children.start("agent", "failing")
    while child.code is None:
        time.sleep(0.01)
    with pytest.raises(ChildError, match="agent ended with exit code 3"):
        children.expect_alive()
    children.stop()


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that is dead and waits to be reaped by init does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def wait_for_text(path: Path, text: str) -> None:
    deadline = time.monotonic() + 30
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline, f"{text!r} never came"
        time.sleep(0.01)
