"""A device on a machine: its log, what the agent there did with it, and what of it reached the centre."""

from __future__ import annotations

import json
import time
from typing import Any

from fieldwatch_contract import clock

from tests.conftest import wait_until
from tests.e2e.test_enrolment import Centre
from tests.packages.machine import Machine

PATIENCE = 120.0
CONFIG = "/etc/fieldwatch-agent/agent.toml"
STATE = "/var/lib/fieldwatch-agent"
BEGUN = int(time.time()) // 60 * 60 - 3600 * 24
"""The time of the first reading, in seconds since 1970: a day ago."""


class Device:
    """``id`` on a machine, enrolled or to be enrolled at a centre; it writes ``log``."""

    def __init__(self, name: str, machine: Machine, centre: Centre, log: str = "/data/readings.csv") -> None:
        self.id, self.machine, self.centre, self.log = name, machine, centre, log
        self.written = 0

    def writes(self, count: int, *, faulty: bool = False) -> None:
        """Append ``count`` readings, a minute apart; ``faulty``: far from anything seen in training."""
        log = self.machine.root / self.log.lstrip("/")
        log.parent.mkdir(parents=True, exist_ok=True)
        offset = 100.0 if faulty else 10.0
        with log.open("a") as file:
            if self.written == 0:
                file.write("timestamp,s0,s1,s2\n")
            for i in range(self.written, self.written + count):
                at = clock.iso((BEGUN + 60 * i) * clock.SECOND)
                file.write(f"{at},{offset + i % 7 / 7:.3f},10.5,{9 + i % 5 / 3:.3f}\n")
        self.written += count

    def enroll(self, verb: str = "setup") -> None:
        """The one command of ``docs/install.md``; the first version had ``enroll`` in its place."""
        token = self.centre.token(self.id, "--type", "press")
        command = f"fieldwatch-agent {verb} --url {self.centre.url} --log '/data/readings*.csv'"
        done = self.machine.run(command, stdin=token + "\n")
        assert "the service runs" in done.stdout, done.stdout + done.stderr

    def pid(self) -> int:
        """The service's process on the machine, 0 where it does not run."""
        return int(self.machine.run("systemctl show -p MainPID --value fieldwatch-agent").stdout)

    def started_again(self, old: int, why: str) -> None:
        """Wait until another process than ``old`` is the service."""
        wait_until(lambda: self.pid() not in {0, old}, why, PATIENCE)

    def all_arrived(self, what: str) -> None:
        """Wait until the centre has one result of each reading, and no more."""
        wait_until(lambda: self._count("result") >= self.written, what, PATIENCE)
        assert self._count("result") == self.written

    def alerts(self) -> list[str]:
        """The ids of its alerts at the centre."""
        query = "SELECT alert_id FROM alert WHERE device = ? ORDER BY opened_at"
        return [str(row[0]) for row in self.centre.ask(query, self.id)]

    def status(self) -> dict[str, Any]:
        """What ``status --json`` says."""
        said = json.loads(self.machine.run(f"fieldwatch-agent status --config {CONFIG} --json").stdout)
        assert isinstance(said, dict)
        return said

    def _count(self, table: str) -> int:
        return int(self.centre.ask(f"SELECT count(*) FROM {table} WHERE device = ?", self.id)[0][0])
