"""Where the demo fails, its last two lines say the one thing that failed and what would help; the programs are real."""

from __future__ import annotations

from pathlib import Path

import pytest
from fieldwatch_contract.bundle import read_bundle
from fieldwatch_demo.children import ChildError, Children
from fieldwatch_demo.failure import DemoError, reason, remedy
from fieldwatch_demo.progress import Progress
from fieldwatch_demo.run import Options, run
from fieldwatch_demo.stages import House
from fieldwatch_demo.stop import Stop
from fieldwatch_trainer import record

from tests.bundles import make_bundle

TRACEBACK = """Traceback (most recent call last):
  File "x.py", line 1, in <module>
    raise ValueError("no")
ValueError: no"""


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("lake: no readings of device type press\n", "lake: no readings of device type press"),
        (TRACEBACK, "ValueError: no"),
        ("it failed\n/lib/x.py:9: FutureWarning: soon gone\n  warnings.warn(\n\n", "it failed"),
        (
            "no broker\n2026-01-01 10:00:00,000 INFO fieldwatch.web: ends\n2026-01-01 10:00:00,000 WARNING x: y",
            "no broker",
        ),
        ("", ""),
        ("x.py:9: UserWarning: only this\n", ""),
    ],
)
def test_the_reason_is_found_among_what_libraries_say(output: str, why: str) -> None:
    assert reason(output.splitlines()) == why


@pytest.mark.parametrize(
    ("what", "word"),
    [
        ("[Errno 28] No space left on device: 'demo-state/lake'", "--dir"),
        ("cloud ended with exit code 1: port 8080 of 127.0.0.1 is in use: set web.port", "other ports"),
        ("train was killed by signal 9", "memory"),
    ],
)
def test_what_helps_is_known_for_what_happens_everywhere(what: str, word: str) -> None:
    assert word in remedy(what)
    assert word in DemoError(what, "read the log").remedy
    assert DemoError("something else", "read the log").remedy == "read the log"


def test_a_killed_program_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dying.py").write_text("import os; os.kill(os.getpid(), 9)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    children = Children(tmp_path / "logs")
    with pytest.raises(ChildError, match=r"^train was killed by signal 9$") as error:
        children.run("train", "dying")
    assert "memory" in error.value.remedy and "(it wrote nothing)" in error.value.details
    children.stop()


# ---- the whole demo ----------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training, the longest step, is left out: the bundle is there at once, with the gate that it would have passed."""

    def train(house: House) -> None:
        names = list(house.plan.watched[0].plant.sensors)
        bundle = house.folder / "run" / "bundle.zip"
        bundle.write_bytes(make_bundle(names, name="press"))
        gate = {"id": "chance:detector", "status": "passed", "says": "average precision .8"}
        record.note(bundle, "evaluate", {"sha256": read_bundle(bundle).sha256, "lake": "lake", "gates": [gate]})

    monkeypatch.setattr(House, "train", train)


def last_lines(folder: Path, capfd: pytest.CaptureFixture[str], timeout: float = 60.0) -> list[str]:
    """Run a demo that fails; return what it said last."""
    options = Options(devices=1, folder=folder / "state", until_alert=True, timeout=timeout)
    assert run(options, Stop(), Progress()) == (1, None)
    return capfd.readouterr().err.rstrip().splitlines()


def test_training_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def train(house: House) -> None:
        house.children.run(
            "train", "fieldwatch_trainer", "train", "--lake", str(house.folder / "lake"),
            "--device-type", "windmill", "--out", str(house.folder / "run"),
        )  # fmt: skip

    monkeypatch.setattr(House, "train", train)
    *_, failed, help_line = last_lines(tmp_path, capfd)
    assert failed.startswith("fieldwatch-demo failed at step 'train': train ended with exit code")
    assert "windmill" in failed
    assert help_line == f"remedy: read {tmp_path / 'state' / 'output' / 'train.log'}"


@pytest.mark.soak
@pytest.mark.usefixtures("quick")
def test_no_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    hidden = "import shutil, sys; sys.modules['iotcore'] = None; shutil.which = lambda *_, **__: None"
    (tmp_path / "sitecustomize.py").write_text(hidden)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    *_, failed, _ = last_lines(tmp_path, capfd)
    assert failed.startswith("fieldwatch-demo failed at step 'serve': cloud ended with exit code 1: no broker: install")


@pytest.mark.soak
@pytest.mark.usefixtures("quick")
def test_the_time_limit_counts_from_the_start_of_the_agents(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines = last_lines(tmp_path, capfd, timeout=0.3)
    assert [line for line in lines if line.startswith("  ok") and "start broker" in line], (
        "set-up takes longer than this"
    )
    assert lines[-2].startswith("fieldwatch-demo failed at step '")
    assert lines[-2].endswith("not done 0.3 s after the agents started")
    assert "--timeout" in lines[-1]
    assert any(line.startswith("press-0001: 0 lines written live") for line in lines)
