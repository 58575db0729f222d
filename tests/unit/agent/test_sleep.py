"""A PC that sleeps for a night and wakes: nobody is blamed for the hours that have passed, and the cloud hears at once.

Windows' monotonic clock goes on while the computer sleeps, the clock of :func:`system.awake` does not. That is played
here with both clocks; no computer sleeps.
"""

from __future__ import annotations

import math
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from fieldwatch_agent import system
from fieldwatch_agent.command.answer import Task
from fieldwatch_agent.command.desk import _Worker
from fieldwatch_agent.config import Config, MqttConfig
from fieldwatch_agent.log.tail import Tail
from fieldwatch_agent.log.trail import Patience
from fieldwatch_agent.send.connection import Timing
from fieldwatch_agent.send.journal import FILE, Journal
from fieldwatch_agent.send.uplink import Uplink
from fieldwatch_agent.send.view import read_status
from fieldwatch_agent.service import Service
from fieldwatch_agent.update.child import LIMIT_S, Updating

from tests.conftest import find_port, wait_until

NIGHT_S = 8 * 3600.0
DEVICE = "press-0001"
WAITS = [sys.executable, "-c", "import time; time.sleep(600)"]


class Clocks:
    """The agent's monotonic clock and the one that stands still in sleep.

    The process keeps its own: in another thread an event loop whose timer was set by tomorrow's clock waits until then.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asleep = self.later = 0.0
        shown = SimpleNamespace(**vars(time))
        shown.monotonic = lambda: time.monotonic() + self.later + self.asleep
        for name, module in list(sys.modules.items()):
            if name.startswith("fieldwatch_agent") and getattr(module, "time", None) is time:
                monkeypatch.setattr(module, "time", shown)
        monkeypatch.setattr(system, "awake", lambda: time.monotonic() + self.later)
        monkeypatch.setattr(system, "slept", lambda: self.asleep)

    def sleep(self) -> None:
        """Let a night pass asleep."""
        self.asleep += NIGHT_S

    def wait(self, seconds: float) -> None:
        """Let time pass awake."""
        self.later += seconds


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


def test_the_clock_that_stands_still_goes_on_while_the_computer_is_awake() -> None:
    before, asleep = system.awake(), system.slept()
    wait_until(lambda: system.awake() > before, "it to go on")
    assert abs(system.slept() - asleep) < NIGHT_S


def test_a_device_that_slept_with_its_pc_is_not_silent(clocks: Clocks, tmp_path: Path) -> None:
    path = tmp_path / "readings.csv"
    path.write_bytes(b"a line\n")
    tail = Tail(path, silent_after=180)
    assert tail.read() is not None
    clocks.sleep()
    assert (tail.read(), tail.state) == (None, "following")
    clocks.wait(181)
    assert (tail.read(), tail.state) == (None, "silent")


def test_a_writer_that_slept_with_its_pc_is_waited_for(clocks: Clocks) -> None:
    patience = Patience(60)
    assert not patience.is_over("half a gzip file")
    clocks.sleep()
    assert not patience.is_over("half a gzip file")
    clocks.wait(60)
    assert patience.is_over("half a gzip file")


def test_an_updater_that_slept_has_not_taken_too_long(clocks: Clocks) -> None:
    updating = Updating(WAITS, 3600)
    updating.follow()
    clocks.sleep()
    updating.follow()
    assert not updating._killed
    clocks.wait(LIMIT_S + 1)
    updating.follow()
    assert updating._killed
    updating.stop()


def test_a_command_that_was_carried_out_over_night_is_not_late(clocks: Clocks) -> None:
    worker = _Worker(WAITS, Task(command="c-1", kind="replay", start=0, end=1, model=""))
    clocks.sleep()
    assert (worker.reply(), worker._failure) == (None, "")
    clocks.wait(NIGHT_S)
    worker.reply()
    assert "was not done within" in worker._failure


@pytest.fixture
def uplink(tmp_path: Path, port: int) -> Iterator[Uplink]:
    """With a pause of minutes after a connection that failed."""
    timing = Timing(first_retry=4800, last_retry=4800, start_delay=0.01)
    journal = Journal(tmp_path, 1 << 30)
    uplink = Uplink(MqttConfig(url=f"mqtt://127.0.0.1:{port}"), DEVICE, journal, timing)
    yield uplink
    uplink.stop()
    journal.close()


@pytest.fixture
def port() -> int:
    return find_port()


def test_a_loop_that_slept_has_not_stalled(clocks: Clocks, uplink: Uplink, caplog: pytest.LogCaptureFixture) -> None:
    uplink._traffic.open()
    uplink.beat()
    uplink._attempts.due = math.inf
    clocks.sleep()
    uplink._step()
    assert "no progress" not in caplog.text
    clocks.wait(181)
    uplink._step()
    assert "no progress" in caplog.text
    uplink._traffic.close()


def test_after_a_sleep_the_next_connection_does_not_wait_for_its_turn(uplink: Uplink, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as broker:
        broker.settimeout(60)
        uplink.start()
        broker.accept()[0].close()
        wait_until(lambda: uplink._attempts.due > time.monotonic() + 60, "the pause after it")
        uplink.woken()
        connection, _ = broker.accept()
        wait_until(lambda: uplink._link is not None, "another connection")
        uplink.woken()  # the broker has forgotten this one, which looks well from here
        broker.accept()[0].close()
        connection.close()


@pytest.fixture
def running(clocks: Clocks, tmp_path: Path, port: int) -> Iterator[Callable[[bool], Service]]:
    """Start the real service, with an uplink to a broker that is not there or without one."""
    started: list[tuple[Service, threading.Thread]] = []

    def start(uplink: bool) -> Service:
        settings = {
            "device": {"id": DEVICE, "type": "press"},
            "log": {"path": str(tmp_path / "readings.csv"), "period": "60s"},
            "state": {"dir": str(tmp_path / "state")},
        }
        if uplink:
            settings["mqtt"] = {"url": f"mqtt://127.0.0.1:{port}"}
        service = Service(Config.model_validate(settings), tmp_path / "agent.toml")
        started.append((service, threading.Thread(target=service.run)))
        started[-1][1].start()
        return service

    yield start
    for service, thread in started:
        service.stop()
        thread.join()


def test_after_a_sleep_health_is_told_at_once(
    clocks: Clocks, tmp_path: Path, running: Callable[[bool], Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fieldwatch_agent.service.HEALTH_S", 10 * NIGHT_S)

    def told() -> str:
        return str((read_status(tmp_path / "state" / FILE)["health"] or {"ts": ""})["ts"])

    running(False)
    first = wait_until(told, "the first report")
    clocks.sleep()
    wait_until(lambda: told() != first, "the next report")


def test_after_a_sleep_the_uplink_is_told(
    clocks: Clocks, running: Callable[[bool], Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[Uplink] = []

    def hear(uplink: Uplink) -> None:
        woken.append(uplink)

    monkeypatch.setattr(Uplink, "woken", hear)
    service = running(True)
    for night in (1, 2):
        clocks.sleep()
        wait_until(lambda: len(woken) >= night, "the uplink to be told")  # noqa: B023
    assert woken == [service._uplink] * 2, "once a night"
