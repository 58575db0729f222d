"""The centre as ``packaging/centre/compose.yaml`` brings it up, in production mode, as processes without containers.

Each container's program runs here with the arguments of the file and the configuration of ``config/prod``: the real
Mosquitto under the generated rules, two Caddy with the files that are mounted, the cloud, and a mail server that wants
TLS. Only what a container would hide is translated: paths by the mounts of the file, names and ports to those of this
machine. A device enrols, fetches its bundle, and its fault reaches a person by mail, and the dashboard over TLS.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_cloud.__main__ import main
from fieldwatch_contract import clock

from tests.authority import Authority
from tests.bundles import make_bundle
from tests.compose import FOLDER, Service, services, variables
from tests.conftest import ROOT, answers, end, find_port, wait_until
from tests.e2e.test_enrolment import Pc
from tests.mailbox import Mailbox
from tests.updates import Site

pytestmark = [pytest.mark.timeout(600), pytest.mark.mosquitto, pytest.mark.caddy]
PATIENCE = 120.0


class Running:
    """The centre's programs; ``ports`` by what the configuration calls them."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.env = folder, environment
        self.url = ""
        self.ports = {name: find_port() for name in ("web", "enrolment", "broker", "updates", "dashboard")}
        values = variables("prod") | {
            "FIELDWATCH_CONFIG": str(folder / "centre.toml"),
            "FIELDWATCH_STATE": str(folder / "state"),
            "FIELDWATCH_UPDATES": str(folder / "updates"),
        }
        self.services = services(values)
        for name in ("cloud", "broker", "updates", "dashboard"):
            (folder / "state" / name).mkdir(parents=True)
        self._processes: list[subprocess.Popen[bytes]] = []

    def here(self, service: Service, text: str) -> str:
        """Translate a configuration or argument of a container: its mounts' paths to where they lie on this machine."""
        for mount in service.mounts:
            text = text.replace(mount.target, str((FOLDER / mount.source).resolve()))
        return text

    def configure(self, mail: Mailbox, authority: Authority) -> None:
        """Write the cloud's configuration, that of production, with names and ports of this machine."""
        text = (ROOT / "config" / "prod" / "centre.toml").read_text(encoding="utf-8")
        text = self.here(self.services["cloud"], text)
        port = self.ports
        for old, new in {
            'host = "0.0.0.0"': 'host = "127.0.0.1"',
            "port = 8080": f"port = {port['web']}",
            "port = 8443": f"port = {port['enrolment']}",
            '"mqtts://broker:8883"': f'"mqtts://localhost:{port["broker"]}"',
            '"mqtts://centre.example.org:8883"': f'"mqtts://localhost:{port["broker"]}"',
            '"https://centre.example.org:8444/"': f'"https://localhost:{port["updates"]}/"',
            '"https://centre.example.org/"': f'"https://localhost:{port["dashboard"]}/"',
            "172.31.240.0/28": "127.0.0.1",
            'host = "mail.example.org"\nport = 587': f'host = "localhost"\nport = {mail.port}\nca = "{authority.file}"',
            'username = "fieldwatch"\n': "",
        }.items():
            assert old in text, old
            text = text.replace(old, new)
        text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("password_file"))
        (self.folder / "centre.toml").write_text(text, encoding="utf-8")

    def cloud(self, *arguments: str) -> str:
        """Run a command of ``docs/install-centre.md`` and return what it prints."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            assert main([*arguments, "--config", str(self.folder / "centre.toml")]) == 0
        return printed.getvalue().strip()

    def up(self, name: str, program: list[str], **more: str) -> None:
        """Start a container's program with the container's arguments."""
        service = self.services[name]
        arguments = []
        for word in service.command[0 if name == "cloud" else 1 :]:
            place = self.here(service, word)
            arguments.append(self._caddyfile(service, Path(place)) if word.endswith(".Caddyfile") else place)
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [*program, *arguments], env=self.env | more, cwd=self.folder, stdout=log, stderr=log
            )
        self._processes.append(process)
        port = {"cloud": "web", "broker": "broker", "updates": "updates", "dashboard": "dashboard"}[name]

        def ready() -> bool:
            assert process.poll() is None, (self.folder / f"{name}.log").read_text(errors="replace")
            return answers(self.ports[port])

        wait_until(ready, name, PATIENCE)

    def _caddyfile(self, service: Service, path: Path) -> str:
        text = self.here(service, path.read_text(encoding="utf-8"))
        for old, new in {
            "https://:8444": f"https://localhost:{self.ports['updates']}",
            "https_port 8445": f"https_port {self.ports['dashboard']}\n\tdefault_bind 127.0.0.1",
            "cloud:8080": f"127.0.0.1:{self.ports['web']}",
        }.items():
            text = text.replace(old, new)
        out = self.folder / path.name
        out.write_text(text, encoding="utf-8")
        return str(out)

    def down(self) -> None:
        for process in reversed(self._processes):
            end(process)


@pytest.fixture
def mail(tmp_path: Path) -> Iterator[tuple[Mailbox, Authority]]:
    authority = Authority(tmp_path, "mail")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*authority.issue("server", "localhost"))
    box = Mailbox(tls=tls)
    yield box, authority
    box.stop()


@pytest.fixture
def running(tmp_path: Path, clean_env: dict[str, str], mail: tuple[Mailbox, Authority]) -> Iterator[Running]:
    made = Running(tmp_path / "centre", dict(clean_env) | {"HOME": str(tmp_path)})
    site = Site.make(tmp_path / "release")
    site.publish(make_bundle(3))
    shutil.copytree(site.repo, tmp_path / "centre" / "updates")
    made.configure(*mail)
    made.cloud("enrolment", "init", "--host", "localhost", "--host", "broker")
    broker = tmp_path / "centre" / "state" / "cloud" / "broker"
    made.cloud("broker-config", "mosquitto", "--out", str(broker), "--port", str(made.ports["broker"]),
               "--data", made.here(made.services["broker"], "/var/lib/mosquitto"))  # fmt: skip
    written = broker / "mosquitto.conf"
    listener = f"listener {made.ports['broker']}"
    text = written.read_text().replace(listener, f"{listener} 127.0.0.1")
    written.write_text(text + ("user root\n" if os.geteuid() == 0 else ""))  # else it could not read what root made
    made.cloud("user", "invite", "ada@lab.example", "--role", "admin")
    try:
        made.up("broker", [str(shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin"))])
        made.up("cloud", [sys.executable, "-m", "fieldwatch_cloud"])
        made.up("updates", ["caddy"])
        made.up("dashboard", ["caddy"], FIELDWATCH_HOST="localhost")
        yield made
    finally:
        made.down()


def test_from_the_files_to_a_fault_in_somebody_s_mail(
    running: Running, mail: tuple[Mailbox, Authority], tmp_path: Path
) -> None:
    root = running.folder / "state" / "dashboard" / "pki" / "authorities" / "local" / "root.crt"
    wait_until(root.exists, "the certificate of the dashboard's proxy", PATIENCE)
    trusting = ssl.create_default_context(cafile=str(root))

    def get(path: str) -> Any:
        return urllib.request.urlopen(
            f"https://localhost:{running.ports['dashboard']}{path}", context=trusting, timeout=30
        )

    def served() -> bool:
        """Whether the proxy has its own certificate too: it makes one for the name while it begins to answer."""
        try:
            with get("/") as page:
                return bool(page.url.endswith("/sign-in"))  # people have accounts, and are asked
        except urllib.error.URLError:
            return False

    wait_until(served, "the dashboard behind its proxy", PATIENCE)
    device = Pc(tmp_path / "pc", running.env)
    begun = clock.now() - 120 * clock.MINUTE  # what is old when it arrives is told in a digest
    rows = [
        f"{clock.iso(begun + i * clock.MINUTE)},{110 if i > 110 else 10 + i % 3},10.5,{9 + i % 2}" for i in range(120)
    ]
    (device.folder / "readings.csv").write_text("\n".join(["timestamp,s0,s1,s2", *rows]) + "\n")
    token = running.cloud("enroll", "press-0001", "--type", "press")
    done = device.agent(
        "enroll", "--url", f"https://localhost:{running.ports['enrolment']}", "--log",
        str(device.folder / "readings*.csv"), "--config", str(device.config), stdin=token + "\n",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    ran = device.agent("run", "--config", str(device.config), "--until-idle")
    assert ran.returncode == 0, ran.stderr
    box, _ = mail
    told = wait_until(lambda: [one for one in box.taken if "press-0001" in str(one)], "mail of the fault", PATIENCE)
    assert f"https://localhost:{running.ports['dashboard']}/" in str(told[0]), "the link leads to the dashboard"
    with get("/healthz") as health:
        assert health.status == 200, "every part works"
