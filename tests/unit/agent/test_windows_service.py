"""The Windows service as far as it is no Windows: what its host promises, and what ``service install`` would ask for.

The host runs the real service in a thread; pywin32's side of it ran under Wine, see docs/install-windows.md.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

import pytest
from fieldwatch_agent import places, service, system, watchdog, windows_host, windows_service
from fieldwatch_agent.__main__ import main
from fieldwatch_agent.exits import HUNG
from fieldwatch_agent.send.journal import Journal
from fieldwatch_agent.windows_host import Hosted

from tests.conftest import ROOT, Spawn, wait_until

CONFIG = """\
[device]
id = "press-0001"
type = "press"
[log]
path = "readings*.csv"
period = "60s"
[state]
dir = "state"
"""


class Manager:
    """The service manager's end, and the process that is not really left."""

    def __init__(self, config: Path) -> None:
        self.pending = self.stopped = 0
        self.told: list[str] = []
        self.left: list[int] = []
        self.gone = threading.Event()
        self.hosted = Hosted(config, self._still, self._stopped, self.told.append, self._leave)
        self.thread = threading.Thread(target=self.hosted.run)

    def _still(self) -> None:
        self.pending += 1

    def _stopped(self) -> None:
        self.stopped += 1

    def _stopped(self) -> None:
        self.stopped += 1

    def _leave(self, code: int) -> None:
        self.left.append(code)
        self.gone.set()

    @property
    def runs(self) -> bool:
        return self.hosted._service is not None


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    (tmp_path / "agent.toml").write_text(CONFIG, encoding="utf-8")
    manager = Manager(tmp_path / "agent.toml")
    yield manager
    if manager.thread.ident is not None:
        manager.hosted.stop()
        manager.thread.join()


def test_a_stop_ends_it_in_good_order(manager: Manager, tmp_path: Path) -> None:
    manager.thread.start()
    wait_until(lambda: manager.runs, "the service to begin")
    manager.hosted.stop()
    manager.hosted.stop()  # a shutdown in the midst of it
    manager.thread.join()
    assert (manager.left, manager.told) == ([], [])
    assert manager.pending >= 1, "the service manager was told at once"
    journal = Journal(tmp_path / "state", 1 << 30)
    assert not journal.crashed
    journal.close()


def test_a_stop_while_it_still_imports_is_kept(manager: Manager) -> None:
    manager.hosted.stop()
    manager.thread.start()
    manager.thread.join()
    assert (manager.left, manager.told) == ([], [])


def test_a_configuration_that_cannot_be_used_is_no_stop(manager: Manager, tmp_path: Path) -> None:
    """Windows starts only what has ended with an exit code and without the state STOPPED."""
    (tmp_path / "agent.toml").write_text(CONFIG.replace("press-0001", "P"), encoding="utf-8")
    manager.hosted.run()
    assert manager.left == [2]
    assert "agent.toml:2: [device] id" in manager.told[0]


def test_a_journal_that_is_in_use_is_no_stop(manager: Manager, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "state", 1 << 30)
    manager.hosted.run()
    journal.close()
    assert manager.left == [1]
    assert "another fieldwatch-agent works in this state folder" in manager.told[0]


@pytest.mark.parametrize("end", [KeyError("x"), SystemExit(0), None])
def test_whatever_ends_it_unasked_has_an_exit_code(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, end: BaseException | None
) -> None:
    def run(*_: object, **__: object) -> int:
        if end is not None:
            raise end
        return 0

    monkeypatch.setattr(service, "run", run)
    manager.hosted.run()
    assert manager.left == [1 if end is None else 70]
    assert [type(end).__name__ in told for told in manager.told] == ([] if end is None else [True])


def test_a_loop_that_hangs_is_waited_for_and_ended(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    hung = threading.Event()
    monkeypatch.setattr(service, "run", lambda *_, **__: 0 if hung.wait(60) else 1)
    monkeypatch.setattr(windows_host, "CHECK_S", 0.01)
    monkeypatch.setattr(windows_host, "STOP_S", 0.05)
    manager.thread.start()
    manager.hosted.stop()
    assert manager.gone.wait(30)
    hung.set()
    manager.thread.join()
    assert manager.left == [1]
    assert manager.pending == 6, "with the stop, and each time that it was waited for"
    assert manager.stopped == 1, "else Windows would start again what somebody has stopped"
    assert "did not stop within" in manager.told[0]
    assert "hung.wait(60)" in manager.told[0], "what it was doing"


STOPS = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="a process sleeps by SIGSTOP, which Windows lacks")
HANGING = """\
import sys, threading
from pathlib import Path
from fieldwatch_agent import service, watchdog, windows_host

watchdog.LOOK_S, looks = 0.05, 0
folder = Path(sys.argv[1])
wait = threading.Event.wait

def counting(event, timeout=None):
    global looks
    looks += event is hosted._watchdog._over
    return wait(event, timeout)

def step(self):
    global looks
    self._manager.beat()
    watchdog.LONGEST_S, looks = 2.0, 0
    print("hangs", flush=True)
    stuck = threading.Lock()
    stuck.acquire()
    stuck.acquire()

def tell(words):
    (folder / "events").write_text(f"{looks}\\n{words}", encoding="utf-8")

threading.Event.wait, service.Service._step = counting, step
hosted = windows_host.Hosted(folder / "agent.toml", print, print, tell)
hosted.run()
"""


@pytest.mark.parametrize("sleeps", [False, pytest.param(True, marks=STOPS)])
def test_a_loop_that_hangs_ends_the_process_and_a_sleep_is_no_hang(tmp_path: Path, spawn: Spawn, sleeps: bool) -> None:
    """The real agent and a real deadlock; the process sleeps for longer than a loop may hang, and is not blamed."""
    told = tmp_path / "agent.log"
    (tmp_path / "agent.toml").write_text(CONFIG + f"[service]\nlog_file = {str(told)!r}\n", encoding="utf-8")
    process = spawn([sys.executable, "-c", HANGING, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "hangs\n"
    if sleeps:
        process.send_signal(signal.SIGSTOP)
        time.sleep(2.5)
        process.send_signal(signal.SIGCONT)
    assert process.wait(60) == HUNG
    looks, _, words = (tmp_path / "events").read_text(encoding="utf-8").partition("\n")
    assert int(looks) >= 39, "each look counts once, however long it took"
    assert words.startswith("The agent gave no sign of life for 2 s")
    assert "in _loop" in words and "in step" in words, "what it was doing"
    assert "no sign of life" in told.read_text(encoding="utf-8")


def test_the_loop_gives_signs_of_life(manager: Manager) -> None:
    manager.thread.start()
    wait_until(lambda: manager.runs, "the service to begin")
    manager.hosted._watchdog._silent = 50
    wait_until(lambda: manager.hosted._watchdog._silent < 50, "a sign of life")
    assert manager.left == []


def test_a_log_that_hangs_as_well_keeps_nobody_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "LOOK_S", 0.01)
    monkeypatch.setattr(watchdog, "LONGEST_S", 0.02)
    monkeypatch.setattr(watchdog, "TELL_S", 0.01)
    stuck, left, gone = threading.Event(), [], threading.Event()
    watchdog.Watchdog(lambda _: stuck.wait(60), lambda code: (left.append(code), gone.set())).start()
    assert gone.wait(30)
    stuck.set()
    assert left == [HUNG]


def test_a_loop_may_take_as_long_as_systemd_allows() -> None:
    unit = (ROOT / "packaging" / "fieldwatch-agent.service").read_text(encoding="utf-8")
    assert f"\nWatchdogSec={watchdog.LONGEST_S:.0f}\n" in unit


def test_the_accounts_sid_is_the_one_that_windows_computes() -> None:
    expected = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
    assert places.sid_of("TrustedInstaller") == places.sid_of("trustedinstaller") == expected


def test_each_configuration_has_a_service_of_its_own() -> None:
    assert windows_service.name_of(places.config_file(), "press-0001") == "FieldwatchAgent"
    assert windows_service.name_of(Path("/second/agent.toml"), "press-0002") == "FieldwatchAgent-press-0002"


def test_a_second_instrument_of_the_same_id_does_not_take_the_firsts_service() -> None:
    """As after a copy of its agent.toml; a service that is there is corrected where it is the same instrument's."""
    program = [r"C:\Program Files\Fieldwatch\fieldwatch-agent.exe"]
    first, second = (PureWindowsPath(rf"C:\Lab data\{name}\agent.toml") for name in ("first", "second"))
    command = windows_service.command_line(program, first)
    shouted = command.replace(str(first), str(first).upper())
    assert [windows_service.other(each, first) for each in (None, command, shouted)] == ["", "", ""]
    assert windows_service.other(command, second) == str(first)


def test_what_windows_runs_is_quoted() -> None:
    program = r"C:\Program Files\Fieldwatch\fieldwatch-agent.exe"
    line = windows_service.command_line([program], PureWindowsPath(r"C:\Lab data\agent.toml"))
    assert line == f'"{program}" service run --config "C:\\Lab data\\agent.toml"'


def test_the_service_reads_its_configuration_and_changes_its_state() -> None:
    folder = PureWindowsPath(r"C:\ProgramData\Fieldwatch\second")
    calls = windows_service.rights("X", folder / "agent.toml", folder / "state")
    sid = places.sid_of("X")
    assert [(call[1], call[-1]) for call in calls] == [
        (str(folder), f"*{sid}:(OI)(CI)RX"),
        (str(folder / "state"), f"*{sid}:(OI)(CI)M"),
        (str(folder / "state" / "identity"), f"*{sid}:(OI)(CI)M"),  # enrolment closed it to all but administrators
    ], "the outer folder first"
    assert all("/inheritance:r" in call and "*S-1-5-18:(OI)(CI)F" in call for call in calls)
    same = windows_service.rights("X", folder / "agent.toml", folder)
    assert [call[-1] for call in same] == [f"*{sid}:(OI)(CI)M"] * 2


def test_a_folder_for_keys_is_closed_before_there_is_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = tmp_path / "calls"
    program = tmp_path / "icacls"
    program.write_text(f'#!/bin/sh\necho "$@" > {calls}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    places.close_to_others(tmp_path)
    assert not calls.exists(), "POSIX has modes"
    monkeypatch.setattr(system, "WINDOWS", True)
    places.close_to_others(tmp_path)
    assert calls.read_text() == (
        f"{tmp_path} /inheritance:r /grant:r *S-1-5-18:(OI)(CI)F *S-1-5-32-544:(OI)(CI)F *S-1-3-4:(OI)(CI)F "
        f"*{places.sid_of('FieldwatchAgent')}:(OI)(CI)M\n"
    )
    program.write_text("#!/bin/sh\necho no such rights here >&2; exit 5\n")
    with pytest.raises(OSError, match="its rights cannot be set: no such rights here"):
        places.close_to_others(tmp_path)


@pytest.mark.parametrize("arguments", [["run"], ["install", "--config", "x.toml"], ["stop", "--all"]])
def test_elsewhere_it_is_told_what_is_windows_alone(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["service", *arguments]) == 1
    assert "is for Windows" in capsys.readouterr().err
