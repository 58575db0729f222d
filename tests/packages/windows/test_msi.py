"""The MSI on a Windows that Wine plays: one silent command makes a device that scores, an upgrade keeps its state, and
a removal leaves what the documents name.

``make test-windows`` runs it after ``make package``. What Wine cannot tell stands in ``docs/install-windows.md``.
"""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_cloud.store import Store, sqlite_url

from tests.bundles import make_bundle
from tests.conftest import ROOT
from tests.e2e.test_enrolment import Centre, centre
from tests.scripts import script

__all__ = ["centre"]
pytestmark = pytest.mark.timeout(1800)
windows, msi, payload = script("windows"), script("msi"), script("payload")
FROZEN = ROOT / "dist" / "windows" / payload.NAME
AGENT = r"C:\Program Files\Fieldwatch\fieldwatch-agent.exe"
PATIENCE = 300.0
"""Seconds that something may take under Wine before a test gives up on it."""


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait, asking once a second: under Wine a question takes a second itself."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {PATIENCE:.0f} s in vain for: {what}"
        time.sleep(1)
    return value


@pytest.fixture(scope="session")
def package() -> Path:
    """The MSI that ``make msi`` built."""
    windows.require()
    found = list((ROOT / "dist").glob("fieldwatch-agent-*-x64.msi"))
    assert len(found) == 1 and FROZEN.is_dir(), "make msi"
    return found[0]


@pytest.fixture
def pc(tmp_path: Path) -> Iterator[Any]:
    wine = windows.Wine(tmp_path / "pc")
    wine.furnish(windows.parts(ROOT / "build" / "windows" / "parts"))
    with wine.awake():
        yield wine


def agent(pc: Any, *arguments: str, check: bool = True) -> str:
    return str(pc.run(AGENT, *arguments, check=check).stdout)


def status(pc: Any) -> dict[str, Any]:
    told = agent(pc, "status", "--config", r"C:\ProgramData\Fieldwatch\config\agent.toml", "--json", check=False)
    try:
        return dict(json.loads(told[told.index("{") :]))
    except ValueError:
        return {}


class Log:
    """The instrument's log, a reading a minute up to now."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.path = folder / "readings.csv"
        self.next = datetime.now(UTC).replace(second=0, microsecond=0, tzinfo=None) - timedelta(minutes=300)
        self.path.write_bytes(b"timestamp,s0,s1,s2\n")

    def write(self, count: int) -> None:
        rows = []
        for _ in range(count):
            minute = self.next.minute
            rows.append(f"{self.next:%Y-%m-%dT%H:%M:%SZ},{10 + minute % 3},10.5,{9 + minute % 2}\n")
            self.next += timedelta(minutes=1)
        with self.path.open("ab") as file:
            file.write("".join(rows).encode())


def results(centre: Centre, device: str) -> list[tuple[Any, ...]]:
    """What the centre has stored of a device: time, model, score."""
    store = Store(sqlite_url(centre.folder / "fieldwatch.db"))
    try:
        with store.engine.connect() as connection:
            found = connection.exec_driver_sql(
                "SELECT ts, model, score FROM result WHERE device = ? ORDER BY ts, model", (device,)
            )
            return [tuple(row) for row in found]
    finally:
        store.close()


def test_built_again_it_is_the_same_byte_for_byte(package: Path, tmp_path: Path) -> None:
    again = msi.build(FROZEN, tmp_path, payload.version())
    assert again.read_bytes() == package.read_bytes()


def test_a_silent_installation_scores_is_upgraded_and_removed(
    package: Path, centre: Centre, pc: Any, tmp_path: Path
) -> None:
    log = Log(pc.c / "data")
    log.write(120)
    token = centre.token("press-2001", "--type", "press")
    begun = time.monotonic()
    pc.run(
        "msiexec", "/i", windows.windows_path(package), "/qn", f"ENROLL_URL={centre.url}", f"TOKEN={token}",
        r"LOG_PATH=C:\data\readings*.csv", timeout=900,
    )  # fmt: skip
    print(f"\nsilent installation with enrolment: {time.monotonic() - begun:.0f} s")
    assert "running" in agent(pc, "service", "status")
    epoch = until(lambda: status(pc).get("epoch"), "the journal")

    until(lambda: len(results(centre, "press-2001")) >= 120, "the backlog at the centre")
    log.write(30)
    until(lambda: len(results(centre, "press-2001")) >= 150, "new lines at the centre")
    pc.run("cmd", "/c", "ren", r"C:\data\readings.csv", "readings.csv.1")  # while the service follows it
    log.path.write_bytes(b"timestamp,s0,s1,s2\n")
    log.write(20)
    until(lambda: len(results(centre, "press-2001")) >= 170, "lines after the rotation")
    assert len(results(centre, "press-2001")) == 170

    agent(pc, "service", "stop")
    assert "stopped" in agent(pc, "service", "status", check=False)
    log.write(10)

    newer = msi.build(FROZEN, tmp_path, "0.1.99")
    pc.run("msiexec", "/i", windows.windows_path(newer), "/qn", timeout=900)
    until(lambda: "running" in agent(pc, "service", "status", check=False), "the service after the upgrade")
    assert status(pc)["epoch"] == epoch, "the journal was kept"
    until(lambda: len(results(centre, "press-2001")) >= 180, "what was written meanwhile")

    bundle = tmp_path / "bundle.zip"
    bundle.write_bytes(make_bundle(3))
    logs = [str(pc.c / "data" / "readings.csv.1"), str(log.path)]
    command = [sys.executable, "-m", "fieldwatch_agent", "replay", *logs, "--bundle", str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    rows = sorted(map(json.loads, done.stdout.splitlines()), key=lambda row: (row["ts"], row["model"]))
    there = results(centre, "press-2001")
    assert len(there) == len(rows) == 180
    assert [score for _, _, score in there] == [row["score"] for row in rows], "the same bits on Windows and on Linux"

    product = re.search(r"ProductCode\s+(\{.*\})", subprocess.run(
        ["msiinfo", "export", newer, "Property"], capture_output=True, text=True, check=True).stdout)  # fmt: skip
    assert product is not None
    pc.run("msiexec", "/x", product[1], "/qn", timeout=900)
    assert (
        "FieldwatchAgent" not in pc.run("reg", "query", r"HKLM\SYSTEM\CurrentControlSet\Services", check=False).stdout
    )
    left = [path for path in (pc.c / "Program Files" / "Fieldwatch").rglob("*") if path.is_file()]
    print(f"files that stay in C:\\Program Files\\Fieldwatch: {len(left)}")
    state = pc.c / "ProgramData" / "Fieldwatch" / "state"
    with closing(sqlite3.connect(state / "journal.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert {path.name for path in state.iterdir()} >= {"identity", "journal.db", "bundles", "logs"}
    assert (pc.c / "ProgramData" / "Fieldwatch" / "config" / "agent.toml").exists()


def test_what_cannot_enrol_is_undone_and_several_instruments_have_a_service_each(package: Path, pc: Any) -> None:
    (pc.c / "data").mkdir()
    said = ("ENROLL_URL=https://127.0.0.1:9", "TOKEN=fw1-mistyped", r"LOG_PATH=C:\data\*.csv")
    done = pc.run("msiexec", "/i", windows.windows_path(package), "/qn", *said, check=False, timeout=900)
    assert done.returncode != 0 and "the token is incomplete" in done.stdout, done.stdout
    assert not (pc.c / "Program Files" / "Fieldwatch" / "fieldwatch-agent.exe").exists()

    pc.run("msiexec", "/i", windows.windows_path(package), "/qn", timeout=900)
    assert "run 'fieldwatch-agent setup' first" in agent(pc, "service", "install", check=False)
    for folder, device in (("config", "press-0001"), ("press-0002", "press-0002")):
        place = pc.c / "ProgramData" / "Fieldwatch" / folder
        place.mkdir(parents=True)
        text = f'[device]\nid = "{device}"\ntype = "press"\n[log]\npath = \'C:\\data\\{device}*.csv\'\nperiod = "60s"\n'
        (place / "agent.toml").write_text(f'{text}[state]\ndir = "state"\n', encoding="utf-8")
    agent(pc, "service", "install", "--all")
    second = ("--config", r"C:\ProgramData\Fieldwatch\press-0002\agent.toml")
    assert "FieldwatchAgent: running" in agent(pc, "service", "status")
    assert "FieldwatchAgent-press-0002: running" in agent(pc, "service", "status", *second)
    agent(pc, "service", "stop", *second)
    assert "FieldwatchAgent: running" in agent(pc, "service", "status"), "the other one goes on"
    assert "this is what Windows starts" in agent(pc, "service", "run", check=False)
    agent(pc, "service", "uninstall", "--all")
    assert "not installed" in agent(pc, "service", "status", check=False)
