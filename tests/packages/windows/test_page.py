"""The commands of ``docs/install-windows.md`` do what it says, one after the other, as somebody would who reads it.

Names of the test stand in for the page's: its centre, its tokens, its package, and a Python that is not on the PATH.
What is not run, and why, is in :mod:`.page`.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.test_enrolment import Centre, centre
from tests.packages.windows import page
from tests.packages.windows.conftest import number
from tests.packages.windows.device import Device
from tests.packages.windows.pc import AGENT, Pc, until

__all__ = ["centre"]
pytestmark = pytest.mark.timeout(1800)
CENTRE = "https://fieldwatch.example.org:8443"


class Reader:
    """Whoever goes through the page, at a PC with a log in ``C:\\data\\press``."""

    def __init__(self, pc: Pc, centre: Centre, package: Path) -> None:
        self.pc, self.centre, self.package = pc, centre, package
        self.device = Device("press-0001", pc, centre, r"data\press\readings.csv")
        self.device.writes(120)
        self.done: list[str] = []

    def does(self, line: str) -> None:
        """Do what a line says. Raises :class:`AssertionError` where it fails."""
        acts: dict[str, Callable[[str], None]] = {
            "msiexec ": self._installs, "fieldwatch-agent setup ": self._enrols, "fieldwatch-agent run ": self._watches,
            "fieldwatch-agent ": self._says, "$env:Path +=": self._finds,
        }  # fmt: skip
        next(act for beginning, act in acts.items() if line.startswith(beginning))(line)
        self.done.append(line)

    def _installs(self, line: str) -> None:
        if "ENROLL_URL" in line:  # on another PC
            self.pc.remove(number(self.package))
            shutil.rmtree(self.pc.data)
            token = self.centre.token(self.device.id, "--type", "press", "--replace")
            line = line.replace("fw1-…", token).replace(CENTRE, self.centre.url)
        assert self.package.name in line
        self.pc.run(*line.replace(self.package.name, self.pc.called(self.package)).split(" "))

    def _enrols(self, line: str) -> None:
        """What ``setup`` asks is answered by options: there is nobody at a keyboard."""
        assert CENTRE in line
        name = "press-0002" if "press-0002" in line else self.device.id
        token = self.centre.token(name, "--type", "press")
        answers = ["--yes", "--token", token, "--log", r"C:\data\press\readings*.csv"]
        self.pc.agent(*line.replace(CENTRE, self.centre.url).split(" ")[1:], *answers)

    def _watches(self, line: str) -> None:
        before = self.device.arrived()
        running = self.pc.start(AGENT, *line.split(" ")[1:])
        self.device.writes(10)
        until(lambda: self.device.arrived() == before + 10, "it scores in a window")
        running.kill()
        running.wait()

    def _says(self, line: str) -> None:
        self.pc.agent(*line.split(" ")[1:])

    def _finds(self, line: str) -> None:
        folder = re.search(r";(.*)\"", line)
        assert folder is not None and AGENT.startswith(folder[1] + "\\")


def test_the_page_can_be_followed(package: Path, centre: Centre, pc: Pc) -> None:
    reader = Reader(pc, centre, package)
    for block in page.blocks():
        if not block[0].startswith(tuple(page.NOT_RUN)):  # then what follows hangs on it
            for line in block:
                reader.does(line)
    reader.device.all_arrived("what was scored on the way, once each")
    assert {beginning for beginning in page.RUN for line in reader.done if line.startswith(beginning)} == set(page.RUN)
    shown = page.within()
    for line in ("service stop --all", "service start --all", "service status", "service uninstall"):
        assert f"fieldwatch-agent {line}" in shown
        reader.does(f"fieldwatch-agent {line}")
    assert "not installed" in pc.agent("service", "status", check=False)
