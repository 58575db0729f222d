"""Agent, broker and ingest are killed with SIGKILL at random while a log grows: every line arrives, exactly once.

Real processes, a real broker, a real log that is rotated meanwhile, and in the end the agent's whole state folder is
deleted, so that it reads its log again under a new epoch. The oracle knows every line that was written.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fieldwatch_contract import clock

from tests.bundles import make_bundle
from tests.conftest import wait_until

pytestmark = [pytest.mark.mosquitto, pytest.mark.timeout(300)]

VICTIMS = ["agent"] * 16 + ["broker"] * 6 + ["ingest"] * 6 + ["both"] * 4
"""``both``: ingest dies, then the broker with everything it had confirmed to the agent: 36 kills in all."""
START = 1_768_608_000_000_000  # 2026-01-17T00:00:00Z
MINUTE = clock.MINUTE
SENSORS = 3


class Log:
    """The device: appends whole lines, some of them bad, and rotates its file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "readings.csv"
        self.times: list[int] = []
        self.bad = 0
        self._rng = random.Random(3)
        self._rotations = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._new_file()

    def _new_file(self) -> None:
        self.path.write_text("timestamp," + ",".join(f"s{i}" for i in range(SENSORS)) + "\n")

    def _write(self) -> None:
        minute = 0
        while not self._stop.wait(0.01):
            if minute % 700 == 699:
                self._rotations += 1
                minute += 280  # the device was off; and the log spans more days than one health event tells
                self.path.rename(self.path.with_name(f"readings.csv.{1000 - self._rotations}"))
                self._new_file()
            with self.path.open("a") as file:
                for _ in range(self._rng.randint(1, 4)):
                    ts = START + minute * MINUTE
                    minute += 1
                    if self._rng.random() < 0.02:
                        file.write(f"{clock.iso(ts)},1,2\n")
                        self.bad += 1
                        continue
                    values = [10 + self._rng.gauss(0, 1) + (60 if minute % 900 > 880 else 0) for _ in range(SENSORS)]
                    file.write(clock.iso(ts) + "," + ",".join(f"{v:.3f}" for v in values) + "\n")
                    self.times.append(ts)

    def __enter__(self) -> Log:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


class Program:
    """One of our processes: started, killed, started again; its output is kept for the failure message."""

    def __init__(self, folder: Path, name: str, *arguments: str) -> None:
        self.name = name
        self._command = [sys.executable, "-m", *arguments]
        self._output = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stdout=output, stderr=output, cwd=Path(__file__).parents[2], env=os.environ
            )

    def kill(self) -> None:
        assert self._process is not None
        assert self._process.poll() is None, f"{self.name} died by itself:\n{self.tail()}"
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def run(self, *more: str, timeout: float) -> None:
        done = subprocess.run(
            [*self._command, *more], capture_output=True, timeout=timeout, check=False, cwd=Path(__file__).parents[2]
        )
        assert done.returncode == 0, done.stderr.decode()[-3000:]

    def tail(self) -> str:
        return self._output.read_text()[-3000:]


@pytest.fixture
def site(tmp_path: Path, mosquitto: Callable[..., object]) -> Iterator[tuple[Path, object, Program, Program]]:
    """A broker that keeps nothing, an ingest and an agent with a bundle, none of them started."""
    broker = mosquitto()
    (tmp_path / "logs").mkdir()
    (tmp_path / "agent.toml").write_text(
        f"""
[device]
id = "press-0001"
type = "press"
[log]
path = "logs/readings.csv*"
period = "60s"
[mqtt]
url = "mqtt://127.0.0.1:{broker.port}"
[state]
dir = "state"
"""
    )
    (tmp_path / "cloud.toml").write_text(
        f"""
[store]
path = "cloud.db"
[broker]
url = "mqtt://127.0.0.1:{broker.port}"
"""
    )
    agent = Program(tmp_path, "agent", "fieldwatch_agent", "run", "--config", str(tmp_path / "agent.toml"))
    ingest = Program(tmp_path, "ingest", "fieldwatch_cloud", "ingest", "--config", str(tmp_path / "cloud.toml"))
    yield tmp_path, broker, agent, ingest
    agent.end()
    ingest.end()


def install(folder: Path) -> None:
    """Put a bundle on the device, as an installer would."""
    from fieldwatch_agent.update.activation import Activation

    activation = Activation(folder / "state")
    sha256 = activation.stage(make_bundle(SENSORS, lookback=5, classifier=True))
    activation.switch(sha256)


def stored(folder: Path) -> tuple[Counter[int], dict[str, tuple[int, int, int, int, int]], list[tuple[str, str]]]:
    """What the cloud holds: rows a time, the newest epoch's ledger by day, alerts."""
    db = sqlite3.connect(f"file:{folder / 'cloud.db'}?mode=ro", uri=True)
    try:
        times = Counter(ts for (ts,) in db.execute("SELECT ts FROM result WHERE model = 'detector'"))
        both = Counter(ts for (ts,) in db.execute("SELECT ts FROM result WHERE model = 'classifier'"))
        assert both == times
        ledger = {
            day: (read, scored, sum(json.loads(refused).values()), evicted, pending)
            for day, read, scored, refused, evicted, pending in db.execute(
                "SELECT day, read, scored, refused, evicted, pending FROM ledger "
                "WHERE epoch = (SELECT epoch FROM device WHERE id = 'press-0001')"
            )
        }
        alerts = sorted(db.execute("SELECT alert_id, state FROM alert"))
    finally:
        db.close()
    return times, ledger, alerts


def stored_lines(folder: Path) -> int:
    """How many readings the cloud holds."""
    if not (folder / "cloud.db").exists():
        return 0
    with closing(sqlite3.connect(f"file:{folder / 'cloud.db'}?mode=ro", uri=True, timeout=30)) as db:
        return int(db.execute("SELECT count(*) FROM result WHERE model = 'detector'").fetchone()[0])


def assert_conserved(folder: Path, log: Log) -> list[tuple[str, str]]:
    times, ledger, alerts = stored(folder)
    assert times == Counter(log.times), (
        f"{len(log.times)} lines written, {len(times)} times stored; lost {sorted(set(log.times) - set(times))[:5]}"
    )
    assert set(times.values()) == {1}
    for day, (read, scored, refused, evicted, pending) in ledger.items():
        assert read == scored + refused + evicted + pending, day
    assert sum(entry[0] for entry in ledger.values()) == len(log.times) + log.bad
    assert sum(entry[2] for entry in ledger.values()) == log.bad
    assert sum(entry[3] for entry in ledger.values()) == 0
    return alerts


def test_every_line_arrives_exactly_once(site: tuple[Path, object, Program, Program]) -> None:
    folder, broker, agent, ingest = site
    install(folder)
    rng = random.Random(11)
    victims = rng.sample(VICTIMS, len(VICTIMS))
    with Log(folder / "logs") as log:
        agent.start()
        ingest.start()
        time.sleep(3)
        for victim in victims:
            if victim == "both":
                count = stored_lines(folder)
                wait_until(lambda before=count: stored_lines(folder) > before, "lines flow again", 60)
                ingest.kill()
                time.sleep(1.0)  # the agent goes on sending, the broker alone confirms
                broker.kill()
                broker.start()
                ingest.start()
            elif victim == "broker":
                broker.kill()
                time.sleep(rng.uniform(0, 0.3))
                broker.start()
            else:
                program = agent if victim == "agent" else ingest
                program.kill()
                time.sleep(rng.uniform(0, 0.3))
                program.start()
            time.sleep(rng.uniform(0.3, 1.8))
    agent.end()
    assert len(log.times) > 2000

    agent.run("--until-idle", timeout=150)
    before = assert_conserved(folder, log)
    assert before, "the faults in the log raised alerts"

    shutil.rmtree(folder / "state")
    install(folder)
    agent.run("--until-idle", timeout=150)
    assert assert_conserved(folder, log) == before, "the log read again under a new epoch changed nothing"
