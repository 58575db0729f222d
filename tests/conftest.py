"""What every test may lean on: real programs on free ports of 127.0.0.1, ended by their process id when the test ends.

A test that needs a program or data says so by its fixture or marker (``mosquitto``, ``browser``, ``realdata``). Where
that is absent the test is skipped with the reason; with ``FIELDWATCH_REQUIRE_ALL=1``, as continuous integration runs
it, a missing broker or browser is a failure. Real data may not be published with the project, so its absence stays a
skip.

Hypothesis runs without deadlines (the machine may be busy) and from a fixed seed, so that a red run is red again;
``--hypothesis-profile=explore`` searches anew with ten times the examples.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI
    from fieldwatch_cloud.web import WebSettings

    from tests.mailbox import Mailbox
    from tests.windows import Windows

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60.0
"""Seconds that something may take before a test gives up on it; never a promise of speed."""

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # some tests import onnxruntime before contract.scoring does
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each of hundreds of processes compiles its libraries anew
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # jsonschema imports it, for 4 s, to know IRIs

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("steady", deadline=None, derandomize=True, print_blob=True, suppress_health_check=_SLOW)
settings.register_profile("explore", deadline=None, max_examples=1000, print_blob=True, suppress_health_check=_SLOW)
settings.load_profile("steady")


# ---- what is there ---------------------------------------------------------------------------------------------


def find_mosquitto() -> str | None:
    """Where the broker is; None where it is not installed."""
    return shutil.which(
        "mosquitto", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin{os.pathsep}/usr/local/sbin"
    )


def find_chromium() -> str | None:
    """Where Chromium is; None where it is not installed."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


def softhsm_module() -> Path | None:
    """The PKCS #11 module of a token in software."""
    places = (Path("/usr/lib"), Path("/usr/lib64"), Path("/usr/local/lib"))
    found = (path for place in places for path in sorted(place.glob("**/softhsm/libsofthsm2.so")))
    return next(found, None) if shutil.which("softhsm2-util") else None


def _node() -> str | None:
    """Node.js, where the example's packages are installed too."""
    return shutil.which("node") if (ROOT / "examples/javascript/node_modules/mqtt").is_dir() else None


def _data() -> Path | None:
    folder = Path(os.environ.get("FIELDWATCH_DATA") or ROOT.parent / "shared" / "data")
    return folder if folder.is_dir() else None


NEEDS: dict[str, tuple[Callable[[], object], str]] = {
    "mosquitto": (find_mosquitto, "the Mosquitto broker is not on the PATH"),
    "browser": (find_chromium, "Chromium is not on the PATH"),
    "systemd": (lambda: shutil.which("systemd-analyze"), "systemd-analyze is not on the PATH"),
    "caddy": (lambda: shutil.which("caddy"), "the web server Caddy is not on the PATH"),
    "nginx": (lambda: shutil.which("nginx"), "the web server nginx is not on the PATH"),
    "dpkg": (lambda: shutil.which("dpkg-deb"), "dpkg-deb is not on the PATH"),
    "objdump": (lambda: shutil.which("objdump"), "objdump (binutils) is not on the PATH"),
    "rpm": (lambda: shutil.which("rpmbuild"), "rpmbuild is not on the PATH"),
    "node": (_node, "Node.js is not on the PATH, or `npm ci` was not done in examples/javascript"),
    "azurite": (lambda: shutil.which("azurite-blob"), "Azurite, an Azure blob store, is not on the PATH"),
    "fake_gcs": (lambda: shutil.which("fake-gcs-server"), "fake-gcs-server, a Google store, is not on the PATH"),
    "softhsm": (softhsm_module, "SoftHSM (softhsm2-util and libsofthsm2.so) is not installed"),
    "realdata": (_data, "no real data: set FIELDWATCH_DATA to its folder, see docs/your-own-data.md"),
}
BY_FIXTURE = {"mosquitto": "mosquitto", "chromium_path": "browser", "data_dir": "realdata"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use such a fixture, so that ``-m`` selects by what a test needs."""
    for item in items:
        for fixture, marker in BY_FIXTURE.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail where everything is required, a test whose programs or data are missing."""
    for marker, (find, reason) in NEEDS.items():
        if item.get_closest_marker(marker) is None or find() is not None:
            continue
        if os.environ.get("FIELDWATCH_REQUIRE_ALL") == "1" and marker != "realdata":
            pytest.fail(f"{reason}, and FIELDWATCH_REQUIRE_ALL=1 wants it", pytrace=False)
        pytest.skip(reason)


# ---- small things ----------------------------------------------------------------------------------------------


def wait_until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Return the first true value of ``condition``; fail with ``what`` when patience ends.

    It is asked every 20 ms, a dear one less often: asking takes a fifth of the time, or what is waited for is slowed
    down.
    """
    end = time.monotonic() + patience
    while True:
        asked = time.monotonic()
        if value := condition():
            return value
        answered = time.monotonic()
        if answered > end:
            pytest.fail(f"waited {patience:.0f} s in vain for: {what}")
        time.sleep(min(0.5, max(0.02, 4 * (answered - asked))))


def find_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def running(server: ThreadingTCPServer) -> Iterator[int]:
    """Let a server answer until the end of the block; its port."""
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serving(app: FastAPI, settings: WebSettings) -> Iterator[uvicorn.Server]:
    """Let a dashboard answer until the end of the block."""
    from fieldwatch_cloud.web import make_server

    server = make_server(app, settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), "the dashboard's server")
        yield server
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


def answers(port: int) -> bool:
    """Tell whether somebody accepts connections on the port."""
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0


def end(process: subprocess.Popen[Any], patience: float = 10.0) -> int:
    """End one process that the test started: politely, then not; return its exit code."""
    if process.poll() is None:
        if os.name == "posix":
            process.send_signal(signal.SIGCONT)  # a stopped process hears nothing else
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


@pytest.fixture
def free_port() -> int:
    """A free TCP port of 127.0.0.1; :func:`find_port` gives more of them."""
    return find_port()


@pytest.fixture
def data_dir() -> Path:
    """The folder with the public data sets."""
    folder = _data()
    assert folder is not None  # the hook has skipped already
    return folder


@pytest.fixture
def chromium_path() -> str:
    """Where Chromium is."""
    path = find_chromium()
    assert path is not None
    return path


Spawn = Callable[..., "subprocess.Popen[Any]"]


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Start a subprocess that ends with the test: ``spawn([program, …], **popen_arguments)``."""
    started: list[subprocess.Popen[Any]] = []

    def start(command: Sequence[str | Path], **options: Any) -> subprocess.Popen[Any]:
        started.append(subprocess.Popen([str(part) for part in command], **options))
        return started[-1]

    yield start
    for process in reversed(started):
        end(process)


@pytest.fixture
def box() -> Iterator[Mailbox]:
    """A mail server that takes everything."""
    from tests.mailbox import Mailbox

    made = Mailbox()
    yield made
    made.stop()


@pytest.fixture
def windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Windows:
    """From here on, what Windows would refuse below ``tmp_path`` is refused; see :mod:`tests.windows`."""
    from tests.windows import Windows

    if not Path("/proc/self/fd").exists():
        pytest.skip("who has a file open is read from /proc")
    windows = Windows(tmp_path)
    windows.begin(monkeypatch)
    return windows


# ---- the broker ------------------------------------------------------------------------------------------------


class Broker:
    """A real Mosquitto on 127.0.0.1 with its own folder; the port stays the same over restarts."""

    def __init__(self, folder: Path, port: int, persistence: bool, extra: Sequence[str]) -> None:
        program = find_mosquitto()
        assert program is not None
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = port
        self.log = folder / "mosquitto.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._command = [program, "-c", str(folder / "mosquitto.conf")]
        lines = [f"listener {port} 127.0.0.1", "log_type all", *extra]
        if not any(line.startswith(("allow_anonymous", "password_file")) for line in extra):
            lines.append("allow_anonymous true")
        if os.name == "posix" and os.geteuid() == 0:
            lines.insert(0, "user root")  # started by root it would become a user who cannot write here
        if persistence:
            lines += ["persistence true", f"persistence_location {folder}/"]
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")

    @property
    def url(self) -> str:
        """As ``mqtt.url`` of a configuration."""
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the running broker."""
        assert self.process is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> Broker:
        """Start and return when it accepts connections."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

        def ready() -> bool:
            if not self.running:
                pytest.fail(f"mosquitto ended at once:\n{self.log.read_text(errors='replace')[-2000:]}")
            return answers(self.port)

        wait_until(ready, f"mosquitto on port {self.port}")
        return self

    def stop(self) -> None:
        """End it in good order: it writes its persistence file."""
        if self.process is not None:
            end(self.process)

    def kill(self) -> None:
        """SIGKILL: what it had only in memory is lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def restart(self) -> Broker:
        """Stop in good order and start again on the same port with the same folder."""
        self.stop()
        return self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing moves."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


@pytest.fixture
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Broker]]:
    """Start brokers: ``broker = mosquitto(persistence=False, extra=["max_queued_messages 10"], port=None)``.

    Each has its own folder and port and runs when the call returns; all end with the test.
    """
    brokers: list[Broker] = []

    def start(*, persistence: bool = False, extra: Sequence[str] = (), port: int | None = None) -> Broker:
        brokers.append(Broker(tmp_path_factory.mktemp("mosquitto"), port or find_port(), persistence, extra))
        return brokers[-1].start()

    yield start
    for broker in brokers:
        broker.stop()


@pytest.fixture
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash passwords at next to no cost: for tests of who may do what, which sign in by the hundred."""
    from argon2 import PasswordHasher
    from fieldwatch_cloud.access import passwords

    monkeypatch.setattr(passwords, "HASHER", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))


@pytest.fixture
def clean_env(tmp_path: Path) -> Mapping[str, str]:
    """An environment for subprocesses: a fresh home, no ``FIELDWATCH_*`` of the person who runs the tests."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("FIELDWATCH_", "ORT_", "XDG_"))}
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    return kept | {"HOME": str(home), "PYTHONPATH": str(ROOT)}
