"""An embedded broker for a single machine: Mosquitto if it is installed, otherwise iotcore, installed by pip.

Both listen only on 127.0.0.1. No data depends on what a broker stores (the agents' outboxes are emptied by the cloud's
acknowledgement, not by the broker's), so the simple settings below are safe:

* Mosquitto, persistent, with queues large enough for a fleet on one machine; no access rules, because nobody else can
  reach it. It starts again when it dies.
* iotcore (rumqttd) has neither persistence nor access rules; its default address is 0.0.0.0, so it gets a
  configuration file from us. Only for trying things out.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Literal

from fieldwatch_contract.extras import how_to_install

HOST = "127.0.0.1"
START_LIMIT_S = 10.0
RESTART_S = 1.0

log = logging.getLogger("fieldwatch.broker")

_MOSQUITTO = """\
# Written by fieldwatch-cloud at every start.
listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {folder}/
autosave_interval 60
max_inflight_messages 200
max_queued_messages 100000
max_packet_size 262144
log_type error
log_type warning
"""

_IOTCORE = """\
# Written by fieldwatch-cloud at every start.
id = 0
[router]
id = 0
max_connections = 10010
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v5.1]
name = "v5"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1
[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = 262144
max_inflight_count = 200
dynamic_filters = true
"""

Program = Literal["auto", "mosquitto", "iotcore"]


class BrokerError(Exception):
    """No broker could be started; the message says why and what would help."""


class Broker:
    """A broker in a child process. ``with Broker(folder, 0) as broker: broker.url``."""

    def __init__(self, folder: Path, port: int = 1883, program: Program = "auto") -> None:
        """``folder``: for its configuration and data, made where needed; ``port`` 0 = any free one."""
        self._folder = folder.resolve()
        self.port = port
        self.program: str = program
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._iotcore: Any = None
        self._watch: threading.Thread | None = None

    @property
    def url(self) -> str:
        """As ``mqtt.url`` of an agent's configuration."""
        return f"mqtt://{HOST}:{self.port}"

    @property
    def note(self) -> str:
        """What the user should know about it."""
        if self.program == "mosquitto":
            return f"Mosquitto on {HOST}:{self.port}"
        return (
            f"embedded broker on {HOST}:{self.port}: keeps nothing over a restart and has no access rules; "
            "install Mosquitto for more than a trial"
        )

    def start(self) -> Broker:
        """Start it and return once it accepts connections. Raises :class:`BrokerError`."""
        path = find_mosquitto()
        if self.program == "auto":
            self.program = "mosquitto" if path else "iotcore"
        self.port = self.port or _free_port()
        if _answers(self.port):
            raise BrokerError(
                f"port {self.port} of {HOST} is in use: set broker.port to a free one (0 = any), or broker.url to the "
                f"broker that is there"
            )
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if self.program == "mosquitto":
                self._start_mosquitto(path)
            else:
                self._start_iotcore()
        except OSError as error:
            raise BrokerError(f"{self.program} cannot be started in {self._folder}: {error}") from error
        return self

    def stop(self) -> None:
        """End the child process."""
        self._stopping.set()
        if self._iotcore is not None:
            self._iotcore.stop()
        if self._process is not None:
            _end(self._process)
        if self._watch is not None:
            self._watch.join(START_LIMIT_S)

    def __enter__(self) -> Broker:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start_mosquitto(self, path: str | None) -> None:
        if path is None:
            raise BrokerError('Mosquitto is not installed: install it, or set broker.program = "iotcore"')
        text = _MOSQUITTO.format(port=self.port, folder=self._folder.as_posix())
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            text += "user root\n"  # otherwise it switches to a user that cannot write to our folder
        config = self._folder / "mosquitto.conf"
        config.write_text(text, encoding="utf-8")
        command = [path, "-c", str(config)]
        self._process = self._spawn(command)
        end = time.monotonic() + START_LIMIT_S
        while not _answers(self.port):
            if self._process.poll() is not None or time.monotonic() > end:
                _end(self._process)
                words = (self._folder / "mosquitto.log").read_text(encoding="utf-8", errors="replace")[-500:]
                raise BrokerError(f"Mosquitto did not start: {words.strip() or 'it says nothing'}")
            time.sleep(0.02)
        self._watch = threading.Thread(target=self._keep, args=(command,), name="broker", daemon=True)
        self._watch.start()

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        with (self._folder / "mosquitto.log").open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # keeps Ctrl-C from the broker, which must end after ingest
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
            )

    def _keep(self, command: list[str]) -> None:
        """Start Mosquitto again when it ends without being asked to."""
        while self._process is not None:
            code = self._process.wait()
            if self._stopping.wait(RESTART_S):
                return
            log.warning("Mosquitto ended with code %d: starting it again", code)
            self._process = self._spawn(command)
            if self._stopping.is_set():
                _end(self._process)
                return

    def _start_iotcore(self) -> None:
        try:
            from iotcore import Broker as Embedded
        except ImportError as error:
            raise BrokerError(
                f"no broker: install Mosquitto, or the embedded one: {how_to_install('cloud')}"
            ) from error
        config = self._folder / "iotcore.toml"
        config.write_text(_IOTCORE.format(port=self.port), encoding="utf-8")
        self._iotcore = Embedded(config_path=str(config))
        try:
            self._iotcore.start(timeout=START_LIMIT_S)
        except (OSError, RuntimeError) as error:
            raise BrokerError(f"the embedded broker did not start: {error}") from error


def find_mosquitto() -> str | None:
    """Return Mosquitto's path; Debian installs it in a folder that is not on a user's PATH."""
    return shutil.which("mosquitto", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))


def _die_with_parent() -> None:
    """Linux, in the child: end when the parent is killed, so that no orphan keeps the port."""
    import ctypes
    import signal

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex((HOST, port)) == 0
