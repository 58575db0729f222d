"""A device beside a Windows PC: its log, what the agent there did with it, and what of it reached the centre."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path, PureWindowsPath
from typing import Any

from tests.bundles import make_bundle
from tests.conftest import ROOT
from tests.e2e.test_enrolment import Centre
from tests.packages.windows.pc import DATA, Pc, until

HEADER = b"timestamp,s0,s1,s2\n"
LOG_PATH = r"LOG_PATH=C:\data\readings*.csv"
DAYS = 60
"""So long ago is the first reading."""


class Device:
    """``id``, with its log on drive C."""

    def __init__(self, name: str, pc: Pc, centre: Centre, log: str = r"data\readings.csv") -> None:
        self.id, self.pc, self.centre = name, pc, centre
        self.written = 0
        self.log = pc.c / PureWindowsPath(log)
        self._begun = datetime.now(UTC).replace(second=0, microsecond=0, tzinfo=None) - timedelta(days=DAYS)
        self.log.parent.mkdir(parents=True)
        self.log.write_bytes(HEADER)

    def rows(self, count: int) -> bytes:
        """The next ``count`` readings, a minute apart."""
        made = []
        for i in range(self.written, self.written + count):
            at = self._begun + timedelta(minutes=i)
            made.append(f"{at:%Y-%m-%dT%H:%M:%SZ},{10 + i % 7 / 7},{10.5 + i % 11 / 900},{9 + i % 5 / 3}\n")
        self.written += count
        return "".join(made).encode()

    def writes(self, count: int) -> None:
        """Append readings to the log."""
        with self.log.open("ab") as file:
            file.write(self.rows(count))

    def acts(self, act: str, *more: str) -> None:
        """Do something to the log as a program on the PC does; see ``programs/instrument.py``."""
        self.pc.run(*self.pc.program_of_ours("instrument", act, r"C:\data\readings.csv", *more))

    def install(self, package: Path) -> None:
        """The one silent command, with a token for this device."""
        token = self.centre.token(self.id, "--type", "press")
        self.pc.install(package, f"ENROLL_URL={self.centre.url}", f"TOKEN={token}", LOG_PATH)

    def status(self) -> dict[str, Any]:
        """What ``status --json`` says; nothing where there is no journal yet."""
        told = self.pc.agent("status", "--config", rf"{DATA}\config\agent.toml", "--json", check=False)
        try:
            return dict(json.loads(told[told.index("{") :]))
        except ValueError:
            return {}

    def counted(self, what: str) -> int:
        """How many lines were ``read`` or ``scored``, as the journal counts them."""
        return sum(day[what] for day in self.status().get("ledger", []))

    def log_state(self) -> str:
        return str((self.status().get("health") or {}).get("log"))

    def stored(self) -> list[float]:
        """The scores that the centre has of this device, in the order of their times."""
        query = "SELECT score FROM result WHERE device = ? ORDER BY ts, model"
        return [row[0] for row in self.centre.ask(query, self.id)]

    def arrived(self) -> int:
        """How many results the centre has of this device."""
        return int(self.centre.ask("SELECT count(*) FROM result WHERE device = ?", self.id)[0][0])

    def has(self, component: str) -> bool:
        """Whether the centre names this device when it is asked who has a component."""
        done = self.centre.cloud("affected", "--component", component, "--json")
        return self.id in {row["device"] for row in json.loads(done.stdout)["affected"]}

    def all_arrived(self, what: str) -> None:
        """Wait until the centre has one result of each reading, and no more."""
        until(lambda: self.arrived() >= self.written, what)
        assert self.arrived() == self.written

    def keep(self, folder: Path) -> None:
        """Write what the centre has, to be compared with a replay of ``logs`` in the same folder."""
        folder.mkdir(parents=True)
        (folder / "stored.json").write_text(json.dumps(self.stored()), encoding="utf-8")
        (folder / "bundle.zip").write_bytes(make_bundle(3))
        for path in sorted(self.log.parent.glob("readings.csv*")):
            shutil.copy(path, folder)

    def same_bits(self, folder: Path) -> None:
        """Every score at the centre has the bits of a replay of the logs.

        On Linux this compares Windows with Linux. On Windows it compares the frozen service with Python there, and with
        FIELDWATCH_KEEP the logs and scores are kept for the comparison on Linux: ``python -m
        tests.packages.windows.device FOLDER``.
        """
        self.keep(folder)
        assert replayed(folder) == self.written
        if kept := os.environ.get("FIELDWATCH_KEEP"):
            shutil.copytree(folder, Path(kept) / self.id)


def replayed(folder: Path) -> int:
    """Compare what :meth:`Device.keep` wrote with a replay of its logs; return the number of scores."""
    logs = sorted(folder.glob("readings.csv*"), key=lambda path: path.read_bytes().splitlines()[1])  # by their times
    bundle = str(folder / "bundle.zip")
    done = subprocess.run(
        [sys.executable, "-m", "fieldwatch_agent", "replay", *map(str, logs), "--bundle", bundle],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    rows = sorted(map(json.loads, done.stdout.splitlines()), key=lambda row: (row["ts"], row["model"]))
    stored = json.loads((folder / "stored.json").read_text(encoding="utf-8"))
    assert stored == [row["score"] for row in rows], f"{folder.name}: not the same bits"
    return len(stored)


if __name__ == "__main__":
    places = sorted(Path(sys.argv[1]).iterdir())
    assert places, f"{sys.argv[1]}: nothing to compare"
    for place in places:
        print(f"{place.name}: {replayed(place)} scores, the same bits on Windows and on {sys.platform}")
