"""The service as it stands beside a device: how soon a line is journalled, and what it costs to wait for the next.

A fresh ``fieldwatch-agent run`` in its own process, two models, the uplink connected where Mosquitto is there. The
time of a line is measured from outside: from the write that appended it until its result can be read in the journal.
"""

from __future__ import annotations

import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fieldwatch_contract.clock import DAY, MINUTE, now

from bench.catchup import write_config
from bench.material import bundle, log_lines, readings, times
from tests.conftest import find_mosquitto, find_port

HISTORY = 400
PATIENCE_S = 60.0
PROGRAM = (
    "import sys\n"
    "sys.modules['dns'] = None\n"  # paho takes it, 3 MB, where developers' tools have brought it; at no device
    "from fieldwatch_agent.__main__ import main\n"
    "sys.exit(main())"
)
FROZEN = Path(__file__).parent.parent / "dist" / "fieldwatch-agent"


@contextmanager
def broker(folder: Path) -> Iterator[str | None]:
    """Run Mosquitto on a free port; yield its URL, or None where it is not installed."""
    program = find_mosquitto()
    if program is None:
        yield None
        return
    port = find_port()
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n", encoding="utf-8")
    with subprocess.Popen([program, "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield f"mqtt://127.0.0.1:{port}"
        finally:
            process.terminate()


class Device:
    """A running agent, its log and its journal."""

    def __init__(self, folder: Path, url: str | None, program: list[str]) -> None:
        from fieldwatch_agent.update.activation import Activation

        self.count = HISTORY
        self._lines = log_lines(readings(2_000), times(2_000, (now() - 2 * DAY) // MINUTE * MINUTE))
        self.log = folder / "readings.csv"
        self.log.write_bytes(b"".join(self._lines[: HISTORY + 1]))
        mqtt = f'[mqtt]\nurl = "{url}"\nacknowledge = "puback"\n' if url else ""
        config = write_config(folder, self.log.as_posix(), mqtt)
        activation = Activation(folder / "state")
        activation.switch(activation.stage(bundle()))
        self.process = subprocess.Popen(
            [*program, "run", "--config", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self.journal = folder / "state" / "journal.db"
        end = time.monotonic() + PATIENCE_S
        while self.read() < HISTORY:
            if self.process.poll() is not None:
                raise RuntimeError(f"the agent ended: {self.process.communicate()[1].decode()}")
            if time.monotonic() > end:
                raise RuntimeError(f"the agent has read {self.read()} of {HISTORY} lines in {PATIENCE_S:.0f} s")
            time.sleep(0.1)
        self._db = sqlite3.connect(f"file:{self.journal}?mode=ro", uri=True, isolation_level=None)

    def read(self) -> int:
        """Lines in the committed ledger."""
        try:
            with sqlite3.connect(f"file:{self.journal}?mode=ro", uri=True) as db:
                return int(db.execute("SELECT coalesce(sum(read), 0) FROM ledger").fetchone()[0])
        except sqlite3.OperationalError:  # not there yet
            return 0

    def append(self) -> float:
        """Append one line; return the seconds until it is committed."""
        self.count += 1
        with self.log.open("ab") as log:
            log.write(self._lines[self.count])
        start = time.perf_counter()
        while self._db.execute("SELECT sum(read) FROM ledger").fetchone()[0] < self.count:
            if time.perf_counter() - start > PATIENCE_S:
                raise RuntimeError(f"a line is not in the journal after {PATIENCE_S:.0f} s")
            time.sleep(0.001)
        return time.perf_counter() - start

    def memory(self) -> dict[str, float]:
        """Resident and unshared memory of the process, MB; empty where the system does not tell."""
        try:
            lines = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
        except OSError:
            return {}
        kb = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
        unshared = kb["Private_Clean"] + kb["Private_Dirty"]
        return {"RSS, MB": round(kb["Rss"] / 1024, 1), "USS, MB": round(unshared / 1024, 1)}

    def cpu(self) -> float:
        """CPU seconds used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End the agent."""
        self._db.close()
        self.process.terminate()
        self.process.communicate(timeout=PATIENCE_S)


@contextmanager
def device(program: list[str] | None = None) -> Iterator[tuple[Device, str]]:
    """Start an agent; yield it and what it is connected to."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fieldwatch-bench-")))
        url = stack.enter_context(broker(folder))
        running = Device(folder, url, program or [sys.executable, "-c", PROGRAM])
        stack.callback(running.close)
        yield running, "uplink connected to Mosquitto" if url else "no uplink: Mosquitto is not installed"


def latency(quick: bool) -> dict[str, Any]:
    """Append lines at random moments; how long until each is committed."""
    from fieldwatch_agent.service import POLL_S

    count = 5 if quick else 200
    rng = random.Random(1)
    with device() as (running, uplink):
        seconds = []
        for _ in range(count):
            time.sleep(rng.uniform(0.02, 0.2))
            seconds.append(running.append())
    seconds.sort()
    p99 = seconds[min(count - 1, int(count * 0.99))]
    return {
        "what": f"{count} lines appended at random moments, two models, {uplink}",
        "p50, ms": round(statistics.median(seconds) * 1e3, 1),
        "p99, ms": round(p99 * 1e3, 1),
        "poll interval, ms": round(POLL_S * 1e3),
        "p99 below poll interval + 100 ms": p99 < POLL_S + 0.1,
    }


def idle(quick: bool) -> dict[str, Any]:
    """Memory and CPU of an agent that has caught up and waits; of the frozen one too, where it has been built."""
    wait, live = (3.0, 5) if quick else (30.0, 300)
    figures: dict[str, Any] = {}
    program = FROZEN / ("fieldwatch-agent.exe" if sys.platform == "win32" else "fieldwatch-agent")
    for name, command in (("python", None), ("frozen", [str(program)])):
        if command and not program.exists():
            continue
        with device(command) as (running, uplink):
            for _ in range(live):
                running.append()
            time.sleep(wait / 3)
            before = running.cpu()
            time.sleep(wait)
            busy = running.cpu() - before
            figures |= {f"{name}: {key}": value for key, value in running.memory().items()}
            figures[f"{name}: CPU, s per hour"] = round(busy / wait * 3600, 1)
    what = f"after {HISTORY} lines in one piece and {live} one by one, two models, {uplink}, {wait:.0f} s of waiting"
    return {"what": what, **figures}


def frozen(quick: bool) -> dict[str, Any]:
    """Size of the frozen agent, where ``make package`` has built it."""
    if not FROZEN.is_dir():
        return {"what": "not built: run make package"}
    files = [path for path in FROZEN.rglob("*") if path.is_file() and not path.is_symlink()]
    size = sum(path.stat().st_size for path in files)
    return {"what": "dist/fieldwatch-agent", "MB": round(size / 1e6), "files": len(files)}
