"""The MSI on a Windows PC: one silent command makes a device that scores, an upgrade keeps its state, and a removal
leaves what the documents name.

``make test-windows`` runs it after ``make package``. What Wine cannot tell stands in ``docs/install-windows.md``.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.test_enrolment import Centre, centre
from tests.packages.windows import page
from tests.packages.windows.conftest import FROZEN, NEWER, msi, number
from tests.packages.windows.device import Device
from tests.packages.windows.pc import PATIENCE, Pc, until

__all__ = ["centre"]
pytestmark = pytest.mark.timeout(1800)


@pytest.mark.skipif(sys.platform == "win32", reason="the package is built on Linux")
def test_built_again_it_is_the_same_byte_for_byte(package: Path, tmp_path: Path) -> None:
    again = msi.build(FROZEN, tmp_path, number(package))
    assert again.read_bytes() == package.read_bytes()


def test_a_silent_installation_scores_is_upgraded_and_removed(
    package: Path, newer: Path, centre: Centre, pc: Pc, tmp_path: Path
) -> None:
    clean = pc.files()
    device = Device("press-2001", pc, centre)
    device.writes(120)
    begun = time.monotonic()
    device.install(package)
    print(f"\nsilent installation with enrolment: {time.monotonic() - begun:.0f} s")
    assert "running" in pc.agent("service", "status")
    epoch = until(lambda: device.status().get("epoch"), "the journal")
    device.all_arrived("the backlog at the centre")
    until(lambda: device.has("libffi"), "what the agent consists of; only a package names this library")
    device.writes(30)
    device.all_arrived("new lines at the centre")

    pc.agent("service", "stop")
    assert "stopped" in pc.agent("service", "status", check=False)
    device.writes(10)
    pc.install(newer)
    until(lambda: "running" in pc.agent("service", "status", check=False), "the service after the upgrade")
    assert device.status()["epoch"] == epoch, "the journal was kept"
    device.all_arrived("what was written meanwhile")
    device.same_bits(tmp_path / "bits")

    assert pc.traces(), "what is looked for after the removal is there before it"
    pc.remove(NEWER)
    assert pc.traces() == []
    left = pc.files() - clean - {device.log.relative_to(pc.c).as_posix()}
    assert page.unnamed(left) == [], "more stays than the page says"
    assert page.gone(left) == [], "the page names what does not stay"
    assert not pc.program.exists()
    with closing(sqlite3.connect(pc.data / "state" / "journal.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_the_service_runs_before_its_libraries_are_loaded(package: Path, centre: Centre, pc: Pc) -> None:
    """Windows gives a service 30 s. Which came first is asserted, how long it took is told."""
    device = Device("press-2002", pc, centre)
    device.writes(120)
    device.install(package)
    pc.agent("service", "stop")
    watched = ("FieldwatchAgent", "fieldwatch-agent.exe", "onnxruntime_pybind11_state.pyd", str(PATIENCE))
    command = pc.program_of_ours("starts", *watched)
    told = json.loads(pc.run(*command).stdout)
    print(f"\nRUNNING {told['running']} s after the start, onnxruntime loaded after {told['loaded']} s")
    assert told["running"] is not None and told["loaded"] is not None
    assert not told["early"]


def test_what_cannot_enrol_is_undone_and_several_instruments_have_a_service_each(package: Path, pc: Pc) -> None:
    (pc.c / "data").mkdir()
    said = ("ENROLL_URL=https://127.0.0.1:9", "TOKEN=fw1-mistyped", r"LOG_PATH=C:\data\*.csv")
    done = pc.install(package, *said, check=False)
    assert done.returncode != 0
    assert sys.platform == "win32" or "the token is incomplete" in done.stdout, done.stdout
    assert not (pc.program / "fieldwatch-agent.exe").exists()

    pc.install(package)
    assert "run 'fieldwatch-agent setup' first" in pc.agent("service", "install", check=False)
    for folder, device in (("config", "press-0001"), ("press-0002", "press-0002")):
        place = pc.data / folder
        place.mkdir(parents=True)
        text = f'[device]\nid = "{device}"\ntype = "press"\n[log]\npath = \'C:\\data\\{device}*.csv\'\nperiod = "60s"\n'
        (place / "agent.toml").write_text(f'{text}[state]\ndir = "state"\n', encoding="utf-8")
    pc.agent("service", "install", "--all")
    second = ("--config", r"C:\ProgramData\Fieldwatch\press-0002\agent.toml")
    assert "FieldwatchAgent: running" in pc.agent("service", "status")
    assert "FieldwatchAgent-press-0002: running" in pc.agent("service", "status", *second)
    pc.agent("service", "stop", *second)
    assert "FieldwatchAgent: running" in pc.agent("service", "status"), "the other one goes on"
    assert "this is what Windows starts" in pc.agent("service", "run", check=False)
    pc.agent("service", "uninstall", "--all")
    assert "not installed" in pc.agent("service", "status", check=False)
