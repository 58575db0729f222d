"""The service manager hears that we live, by systemd's own protocol, on a real socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fieldwatch_agent.supervisor import Supervisor

from tests.bundles import make_bundle
from tests.conftest import Spawn, end, wait_until

pytestmark = pytest.mark.skipif(os.name == "nt", reason="systemd speaks over Unix sockets; Windows has neither")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        yield sock


def drain(sock: socket.socket) -> list[str]:
    heard = []
    sock.setblocking(False)
    try:
        while True:
            heard.append(sock.recv(4096).decode())
    except BlockingIOError:
        return heard


def test_ready_status_and_the_watchdog_at_half_its_time(manager: socket.socket, tmp_path: Path) -> None:
    supervisor = Supervisor({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000000"})
    supervisor.ready()
    for _ in range(3):
        supervisor.beat()
        supervisor.status("scoring")
    supervisor.status("waiting")
    supervisor.stopping()
    assert drain(manager) == ["READY=1", "WATCHDOG=1", "STATUS=scoring", "STATUS=waiting", "STOPPING=1"]
    quick = Supervisor({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2"})
    quick.beat()
    wait_until(lambda: (quick.beat(), drain(manager).count("WATCHDOG=1"))[1], "the next one")


def test_without_a_manager_nothing_happens(tmp_path: Path) -> None:
    for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "nobody")}, {"NOTIFY_SOCKET": "@nobody-listens"}):
        supervisor = Supervisor(environ)
        supervisor.ready()
        supervisor.beat()
        supervisor.status("x")
        supervisor.stopping()


def test_the_watchdog_of_another_process_is_not_ours(manager: socket.socket, tmp_path: Path) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2", "WATCHDOG_PID": "1"}
    Supervisor(environ).beat()
    assert drain(manager) == []


def test_the_service_says_what_it_does(manager: socket.socket, tmp_path: Path, spawn: Spawn) -> None:
    config = tmp_path / "agent.toml"
    config.write_text('[device]\nid = "press-0001"\ntype = "press"\n[log]\npath = "r.csv"\nperiod = "60s"\n'
                      '[state]\ndir = "state"\n')  # fmt: skip
    (tmp_path / "r.csv").write_text("timestamp,s0,s1,s2\n2026-11-26T00:00:00Z,10,10,10\n")
    (tmp_path / "bundle.zip").write_bytes(make_bundle(3))
    from fieldwatch_agent.update.activation import Activation

    (tmp_path / "state").mkdir()
    activation = Activation(tmp_path / "state")
    activation.switch(activation.stage(make_bundle(3)), 0)
    environ = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
    environ.pop("WATCHDOG_PID", None)
    command = [sys.executable, "-m", "fieldwatch_agent", "run", "--config", config]
    process = spawn(command, env=environ, stderr=subprocess.DEVNULL)
    heard: list[str] = []

    def said(words: str) -> bool:
        heard.extend(drain(manager))
        return any(words in each for each in heard)

    wait_until(lambda: said("STATUS=scoring with press/v1, newest reading 2026-11-26T00:00"), "its status")
    assert heard[0] == "READY=1" and "WATCHDOG=1" in heard
    end(process)
    assert said("STOPPING=1")
