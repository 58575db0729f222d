"""A Windows PC to install on: the one that Wine plays on Linux, or, where these tests run on Windows, this computer.

The tests are the same on both. What they may ask of a PC stands in :class:`Pc`; where the two differ in what they are
able to show, a property says so, and the test says what it leaves out.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.scripts import script

windows, msi = script("windows"), script("msi")
PROGRAMS = Path(__file__).parent / "programs"
AGENT = r"C:\Program Files\Fieldwatch\fieldwatch-agent.exe"
DATA = r"C:\ProgramData\Fieldwatch"
PATIENCE = 300.0
"""Seconds that something may take before a test gives up on it: under Wine on a busy machine all takes long."""


def until(condition: Callable[[], Any], what: str) -> Any:
    """Wait, asking once a second: under Wine a question takes a second itself."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {PATIENCE:.0f} s in vain for: {what}"
        time.sleep(1)
    return value


class Pc(ABC):
    """What a test does with a PC. ``c`` is its drive C, as the test sees it."""

    c: Path

    @property
    def data(self) -> Path:
        """Where the agent keeps configuration and state."""
        return self.c / "ProgramData" / "Fieldwatch"

    @property
    def program(self) -> Path:
        """Where the package puts the program."""
        return self.c / "Program Files" / "Fieldwatch"

    def run(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program to its end; its output is one text."""
        done = self._run([str(each) for each in command])
        assert not check or done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
        return done

    @abstractmethod
    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]: ...

    @abstractmethod
    def start(self, *command: str | Path) -> subprocess.Popen[bytes]:
        """Start a program beside the test."""

    @abstractmethod
    def called(self, path: Path) -> str:
        """Return what programs on the PC call a path of the test's."""

    @property
    @abstractmethod
    def python(self) -> str:
        """A Python for Windows with the agent's libraries, for what only a program on the PC can do."""

    @abstractmethod
    def kill_service(self) -> None:
        """End the default service's process as ``kill -9`` does: it is asked nothing."""

    @abstractmethod
    def comes_up_again(self) -> None:
        """After a kill, let happen what makes the service run again."""

    @abstractmethod
    def files(self) -> set[str]:
        """The files of drive C; on a real Windows, where others write too, those in the package's and the agent's
        folders.
        """

    @abstractmethod
    def traces(self) -> list[str]:
        """The names of the registry's keys that tell of the agent."""

    def agent(self, *arguments: str, check: bool = True) -> str:
        """Run the installed agent and return what it says."""
        return self.run(AGENT, *arguments, check=check).stdout

    def install(self, package: Path, *properties: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The silent installation, with the properties that the documents name."""
        return self.run("msiexec", "/i", self.called(package), "/qn", *properties, check=check)

    def remove(self, number: str, check: bool = True) -> None:
        """The silent removal of a version."""
        self.run("msiexec", "/x", f"{{{msi.code(f'product {number}')}}}", "/qn", check=check)

    def program_of_ours(self, name: str, *arguments: str) -> list[str]:
        """The command that runs ``programs/NAME.py`` on the PC."""
        return [self.python, self.called(PROGRAMS / f"{name}.py"), *arguments]


class WinePc(Pc):
    """Wine's, in a folder of its own.

    It plays no part of Windows in two things that matter here: its service manager starts nothing again and goes on
    saying that a killed service runs, so that a kill is followed by a power cut; and it has no accounts or rights.
    """

    def __init__(self, folder: Path, parts: Path, furnished: Path) -> None:
        """Make it from ``furnished``, a Wine that has run once."""
        shutil.copytree(furnished, folder, symlinks=True)
        self._wine, self._parts = windows.Wine(folder), parts
        self.c = self._wine.c
        self._awake = ExitStack()

    def switch_on(self) -> None:
        """Start it: services that start with Windows do."""
        self._awake.enter_context(self._wine.awake())

    def cut_power(self) -> None:
        """End every process at once."""
        self._awake.close()

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = self._wine.run(*command, check=False, timeout=PATIENCE * 3)
        return done

    def start(self, *command: str | Path) -> subprocess.Popen[bytes]:
        started: subprocess.Popen[bytes] = self._wine.start(*command)
        return started

    def called(self, path: Path) -> str:
        return str(windows.windows_path(path))

    @property
    def python(self) -> str:
        return self.called(self._parts / "python" / "python.exe")

    def kill_service(self) -> None:
        os.kill(self._service(), signal.SIGKILL)

    def comes_up_again(self) -> None:
        assert "running" in self.agent("service", "status"), "Wine would have noticed: then this is not needed any more"
        self.cut_power()
        self.switch_on()

    def files(self) -> set[str]:
        return {path.relative_to(self.c).as_posix() for path in self.c.rglob("*") if path.is_file()}

    def traces(self) -> list[str]:
        written = self.c / "registry.reg"
        self.run("regedit", "/E", r"C:\registry.reg", "HKEY_LOCAL_MACHINE")
        text = written.read_text(encoding="utf-16")
        written.unlink()
        blocks = re.findall(r"^\[(.*?)\](.*?)(?=^\[|\Z)", text, re.M | re.S)
        return [key for key, values in blocks if "fieldwatch" in f"{key}{values}".lower()]

    def _service(self) -> int:
        """Return the Linux process id of the default service, in this Wine."""
        ours = f"WINEPREFIX={self._wine.folder / 'prefix'}".encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
            except OSError:
                continue
            if b"fieldwatch-agent.exe" in command and ours in environment.split(b"\0"):
                words = command.replace(b"\0", b" ")
                if rb"service run --config C:\ProgramData\Fieldwatch\config" in words:
                    found.append(int(process.name))
        assert len(found) == 1, f"{len(found)} processes are the service"
        return found[0]


class RealPc(Pc):
    """This computer. It must be one that may be thrown away, and the tests must be an administrator's."""

    c = Path("C:/")

    def __init__(self) -> None:
        self._killed = ""

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
            errors="replace", check=False, timeout=PATIENCE * 3,
        )  # fmt: skip

    def start(self, *command: str | Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen([str(each) for each in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def called(self, path: Path) -> str:
        return str(path.resolve())

    @property
    def python(self) -> str:
        return sys.executable

    def kill_service(self) -> None:
        self._killed = self._service()
        self.run("taskkill", "/f", "/pid", self._killed)

    def comes_up_again(self) -> None:
        until(lambda: self._service() not in {"", self._killed}, "Windows to start the service again")

    def files(self) -> set[str]:
        found = [path for folder in (self.program, self.data) for path in folder.rglob("*") if path.is_file()]
        return {path.relative_to(self.c).as_posix() for path in found}

    def traces(self) -> list[str]:
        keys = (
            r"HKLM\SYSTEM\CurrentControlSet\Services",
            r"HKLM\SYSTEM\CurrentControlSet\Services\EventLog\Application",
            r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall",
        )
        told = [self.run("reg", "query", key, "/s", "/f", "Fieldwatch", check=False).stdout for key in keys]
        return [line.strip() for text in told for line in text.splitlines() if line.startswith("HKEY_")]

    def _service(self) -> str:
        """Return the process id of the default service, empty where it does not run."""
        told = re.search(r"process (\d+)", self.agent("service", "status", check=False))
        return told[1] if told is not None else ""

    def sweep(self, numbers: list[str]) -> None:
        """Take away what a test has left, so that the next one finds a PC without an agent."""
        for number in numbers:
            self.remove(number, check=False)
        for folder in (self.data, self.c / "data"):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def switched_on(folder: Path, parts: Path, furnished: Path) -> Iterator[WinePc]:
    """A Wine of its own, until the end of the block."""
    pc = WinePc(folder, parts, furnished)
    pc.switch_on()
    try:
        yield pc
    finally:
        pc.cut_power()


def furnished(folder: Path) -> tuple[Path, Path]:
    """Return what Wine lacks, and a Wine that has run once: made once, copied for each test."""
    parts: Path = windows.parts(ROOT / "build" / "windows" / "parts")
    wine = windows.Wine(folder)
    wine.furnish(parts)
    return parts, folder
