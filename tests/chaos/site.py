"""The programs of a kill run as real processes: agents, brokers, ingest; each can die at any moment and start again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fieldwatch_agent.update.activation import Activation

from tests.bundles import make_bundle
from tests.chaos.writer import SENSORS, Writer, make_writer
from tests.conftest import ROOT, Broker, answers, find_port

PATIENCE = 300.0
"""Seconds after which something that should happen is given up."""
LOOKBACK = 30
"""Rows that a score depends on: a window that was not refilled shows in so many rows."""


class Program:
    """One of our programs; its output is appended to a file, its unwanted ends are counted."""

    def __init__(self, folder: Path, name: str, *arguments: str) -> None:
        self.name = name
        self.command = [sys.executable, "-m", *arguments]
        self.output = folder / f"{name}.log"
        self.deaths: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it where it does not run."""
        if self.running:
            return
        with self.output.open("ab") as output:
            output.write(f"---- started at {time.strftime('%H:%M:%S')}\n".encode())
            output.flush()
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=ROOT
            )

    @property
    def running(self) -> bool:
        """Whether it lives; an end that nobody asked for is noted in :attr:`deaths`."""
        if self._process is None:
            return False
        code = self._process.poll()
        if code is None:
            return True
        last = self.output.read_text(errors="replace").strip().splitlines()[-1:]
        self.deaths.append(f"{self.name} ended by itself with code {code}: {' '.join(last)}")
        self._process = None
        return False

    def send(self, number: int, wait: bool = True) -> None:
        """Send a signal; ``wait`` for its end."""
        if not self.running or self._process is None:
            return
        self._process.send_signal(number)
        if wait:
            process, self._process = self._process, None
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.deaths.append(f"{self.name} did not stop within {PATIENCE:.0f} s of signal {number}")
                process.kill()
                process.wait()

    def kill(self) -> None:
        """SIGKILL."""
        self.send(signal.SIGKILL)

    def stop(self) -> None:
        """End it in good order."""
        self.send(signal.SIGTERM)

    def freeze(self) -> None:
        """SIGSTOP."""
        self.send(signal.SIGSTOP, wait=False)

    def thaw(self) -> None:
        """SIGCONT."""
        self.send(signal.SIGCONT, wait=False)

    def run(self, *more: str) -> str:
        """Run it to its end with ``more`` arguments; return its output, raise :class:`RuntimeError` where it failed."""
        try:
            done = subprocess.run(
                [*self.command, *more], capture_output=True, timeout=PATIENCE, check=False, cwd=ROOT, text=True
            )
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"{self.name} {' '.join(more)}: no end within {PATIENCE:.0f} s") from error
        with self.output.open("a") as output:
            output.write(done.stderr)
        if done.returncode != 0:
            words = " ".join(done.stderr.strip().splitlines()[-1:])
            raise RuntimeError(f"{self.name} {' '.join(more)} ended with code {done.returncode}: {words}")
        return done.stdout


class Cloud:
    """Where the results go: ``mosquitto`` (a broker that keeps nothing and an ingest) or ``embedded`` (one process)."""

    def __init__(self, folder: Path, broker: str) -> None:
        folder.mkdir()
        self.database = folder / "cloud.db"
        self.port = find_port()
        self.broker: Broker | None = None
        url = f"mqtt://127.0.0.1:{self.port}"
        if broker == "mosquitto":
            self.broker = Broker(folder / "mosquitto", self.port, persistence=False, extra=())
            text = f'[broker]\nurl = "{url}"\n'
        else:
            text = f'[broker]\nport = {self.port}\nprogram = "iotcore"\n[web]\nport = {find_port()}\n'
        config = folder / "cloud.toml"
        config.write_text(f'[store]\npath = "cloud.db"\n{text}')
        command = "ingest" if self.broker is not None else "serve"
        self.ingest = Program(folder, command, "fieldwatch_cloud", command, "--config", str(config))
        self.victims = ("ingest", "broker", "both") if self.broker is not None else ("ingest",)

    def start(self) -> None:
        """Start what does not run."""
        if self.broker is not None and not self.broker.running:
            self.broker.start()
        self.ingest.start()

    def wait_for_broker(self) -> None:
        """Return when the broker accepts connections."""
        end = time.monotonic() + PATIENCE
        while not answers(self.port):
            if time.monotonic() > end:
                raise RuntimeError(f"no broker answers on port {self.port}")
            self.start()
            time.sleep(0.1)

    def kill(self, victim: str, pause: float) -> None:
        """Kill ingest, the broker, or (``both``) first ingest and then the broker with all that it had confirmed."""
        if victim in ("ingest", "both"):
            self.ingest.kill()
        if victim == "both":
            time.sleep(1.0)  # the agent goes on sending, the broker alone confirms
        if victim in ("broker", "both") and self.broker is not None:
            self.broker.kill()
        time.sleep(pause)
        self.start()

    def end(self) -> None:
        """End all of it."""
        self.ingest.stop()
        if self.broker is not None:
            self.broker.stop()


class Station:
    """A device: the writer of its log, its agent and the bundle that the agent scores with."""

    def __init__(self, folder: Path, device: str, manner: str, cloud: Cloud, seed: int) -> None:
        folder.mkdir()
        self.folder = folder
        self.device = device
        self.manner = manner
        self.cloud = cloud
        self.bundle = make_bundle(SENSORS, lookback=LOOKBACK, classifier=True)
        (folder / "bundle.zip").write_bytes(self.bundle)
        self.config = folder / "agent.toml"
        self.config.write_text(
            f'[device]\nid = "{device}"\ntype = "press"\n'
            '[log]\npath = "logs/readings*.csv"\nperiod = "60s"\n'
            f'[mqtt]\nurl = "mqtt://127.0.0.1:{cloud.port}"\n'
            '[state]\ndir = "state"\n'
        )
        self.agent = Program(folder, "agent", "fieldwatch_agent", "run", "--config", str(self.config))
        self.writer: Writer = make_writer(manner, folder / "logs", seed)
        self.install()

    def install(self) -> None:
        """Put the bundle on the device, as an installer would."""
        activation = Activation(self.folder / "state")
        activation.switch(activation.stage(self.bundle))

    def replay(self, log: bytes) -> str:
        """What one pass of ``fieldwatch-agent replay`` over ``log``, one file, says of each reading: JSON lines."""
        path = self.folder / "whole.csv"
        path.write_bytes(log)
        command = [
            sys.executable, "-m", "fieldwatch_agent", "replay", str(path), "--bundle", str(self.folder / "bundle.zip")
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, check=False, cwd=ROOT, env=os.environ)
        if done.returncode != 0:
            raise RuntimeError(f"replay of {path}: {done.stderr.decode()[-500:]}")
        (self.folder / "replay.jsonl").write_bytes(done.stdout)
        return done.stdout.decode()


def wait_for(condition: Callable[[], bool], patience: float) -> bool:
    """Return whether ``condition`` came true within ``patience`` seconds."""
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
