"""The real programs of a run: broker, mail server, and the cloud in a process of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from bench.load.people import DEVICE, Door, enter
from tests.authority import Authority
from tests.conftest import answers, find_mosquitto, find_port
from tests.mailbox import Mailbox

ROOT = Path(__file__).parent.parent.parent
START_S = 60.0
STOP_S = 60.0
SITE = 50
"""Devices of a site, which has a route and a mail address of its own."""


class Post(Mailbox):
    """A mail server that notes when it took the first mail about each device."""

    def __init__(self, folder: Path) -> None:
        import ssl

        authority = Authority(folder, "mail-authority")
        self.authority = authority.file
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*authority.issue("localhost", "localhost"))
        self.first: dict[str, float] = {}
        super().__init__(tls=context)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Take a mail."""
        answer = await super().handle_DATA(server, session, envelope)
        for name in DEVICE.findall(str(self.taken[-1]["Subject"])):
            self.first.setdefault(name, time.time())
        return answer


@dataclass(frozen=True)
class Running:
    """A program that runs, and the CPU seconds that it had spent when it was ready."""

    process: subprocess.Popen[Any]
    spent: float

    @property
    def cpu(self) -> float:
        """CPU seconds since then, of this process and those it has waited for."""
        return cpu(self.process.pid) - self.spent

    @property
    def memory(self) -> int:
        """Resident memory, MiB."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") // 2**20


def cpu(pid: int) -> float:
    """Return the CPU seconds of a process, with its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return sum(int(one) for one in fields[11:15]) / os.sysconf("SC_CLK_TCK")


@contextmanager
def broker(folder: Path) -> Iterator[tuple[Running, int]]:
    """Run Mosquitto. Raises :class:`RuntimeError` where it is not installed or does not start."""
    program = find_mosquitto()
    if program is None:
        raise RuntimeError("Mosquitto is not on the PATH")
    port = find_port()
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n", encoding="utf-8")
    with (
        (folder / "mosquitto.log").open("wb") as log,
        subprocess.Popen([program, "-c", config], stdout=log, stderr=log) as process,
    ):
        try:
            end = time.monotonic() + START_S
            while not answers(port):
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"Mosquitto does not start: {(folder / 'mosquitto.log').read_text()[-500:]}")
                time.sleep(0.05)
            yield Running(process, cpu(process.pid)), port
        finally:
            process.terminate()


def sites(devices: int) -> dict[str, str]:
    """Return the sites of so many devices: name and pattern of the device ids."""
    count = -(-devices // SITE)
    return {f"lab{n}": f"load-{n // 2:02d}[{'0-4' if n % 2 == 0 else '5-9'}]*" for n in range(count)}


def site_of(number: int) -> int:
    """Return the number of the site of a device."""
    return number // SITE


def configure(folder: Path, devices: int, broker_port: int, post: Post, web: int, token: str) -> Path:
    """Write ``cloud.toml``: each site has a route that tells its own address at once."""
    lines = [
        f'[web]\nport = {web}\nstart_token = "{token}"',
        f'[broker]\nurl = "mqtt://127.0.0.1:{broker_port}"',
        f'[notify.smtp]\nhost = "localhost"\nport = {post.port}\nca = "{post.authority.as_posix()}"',
        'sender = "Fieldwatch <fieldwatch@lab.example>"',
        "[alerts.sites]",
        *(f'{name} = ["{pattern}"]' for name, pattern in sites(devices).items()),
    ]
    for name in sites(devices):
        lines.append(f'[[alerts.routes]]\nname = "{name}"\nmatch = {{site = ["{name}"], kind = ["fault"]}}')
        lines.append(f'steps = [{{to = ["{name}-mail"]}}]')
        lines.append(f'[notify.channels.{name}-mail]\nkind = "email"\nto = ["{name}@lab.example"]')
    path = folder / "cloud.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@contextmanager
def cloud(folder: Path, devices: int, broker_port: int, post: Post) -> Iterator[tuple[Running, Door]]:
    """Run ``fieldwatch-cloud serve``. Raises :class:`RuntimeError` where it does not start or does not end well."""
    port, token = find_port(), secrets.token_hex(16)
    config = configure(folder, devices, broker_port, post, port, token)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FIELDWATCH_")}
    log = folder / "cloud.log"
    with log.open("wb") as out, subprocess.Popen(
        [sys.executable, "-m", "fieldwatch_cloud", "serve", "--config", str(config)],
        cwd=ROOT, env=kept | {"PYTHONPATH": str(ROOT)}, stdout=out, stderr=out,
    ) as process:  # fmt: skip
        try:
            end = time.monotonic() + START_S
            while not answers(port):
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"the cloud does not start: {log.read_text()[-1000:]}")
                time.sleep(0.1)
            yield Running(process, cpu(process.pid)), enter(port, token)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
            process.kill()
    if process.returncode != 0:
        raise RuntimeError(f"the cloud ended with {process.returncode}: {log.read_text()[-1000:]}")
