"""From an address and a token to a scoring device: the whole way as processes, over TLS, with the generated broker."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_agent.config import load
from fieldwatch_cloud.store import Store, sqlite_url
from fieldwatch_contract import clock

from tests.bundles import make_bundle
from tests.conftest import ROOT, Broker, answers, end, find_port, wait_until
from tests.updates import Site, serve

pytestmark = [pytest.mark.timeout(400), pytest.mark.mosquitto]
START = 1_768_608_000_000_000


class Centre:
    """The centre of an installation, made by its own commands.

    ``hosts``: more names of its servers; ``updates_ca``: who vouches for the one of the updates.
    """

    def __init__(
        self, folder: Path, updates: str, root: Path, hosts: Sequence[str] = (), updates_ca: Path | None = None
    ) -> None:
        self.folder = folder
        self._env = {key: value for key, value in os.environ.items() if not key.startswith("FIELDWATCH_")}
        self._env |= {"HOME": str(folder), "PYTHONPATH": str(ROOT)}
        self.port, web, broker = find_port(), find_port(), find_port()
        self.config = folder / "cloud.toml"
        self.config.write_text(f"""
[web]
port = {web}
[broker]
url = "mqtts://localhost:{broker}"
ca = "enrolment/ca.pem"
certificate = "enrolment/ingest.pem"
key = "enrolment/ingest.key"
[enrolment]
port = {self.port}
broker = "mqtts://localhost:{broker}"
updates = "{updates}"
root = "{root.as_posix()}"
{f'updates_ca = "{updates_ca.as_posix()}"' if updates_ca else ""}
""")
        named = [word for host in ("localhost", "127.0.0.1", *hosts) for word in ("--host", host)]
        done = self.cloud("enrolment", "init", *named)
        assert done.returncode == 0, done.stderr
        done = self.cloud("broker-config", "mosquitto", "--out", "broker", "--port", str(broker))
        assert done.returncode == 0, done.stderr
        lines = (folder / "broker" / "mosquitto.conf").read_text().splitlines()
        kept = [line for line in lines if not line.startswith(("listener", "persistence", "per_"))]
        self.broker = Broker(folder / "mosquitto", broker, False, kept).start()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def cloud(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fieldwatch_cloud", *arguments, "--config", str(self.config)]
        return subprocess.run(command, cwd=self.folder, env=self._env, capture_output=True, text=True, check=False)

    def ask(self, query: str, *values: str) -> list[Any]:
        """The rows that its store gives for a query."""
        with closing(Store(sqlite_url(self.folder / "fieldwatch.db"))) as store, store.engine.connect() as connection:
            return list(connection.exec_driver_sql(query, values))

    def token(self, *arguments: str) -> str:
        done = self.cloud("enroll", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @contextmanager
    def serving(self) -> Iterator[Centre]:
        """Serve until the end of the block, and stop the broker then."""
        command = [sys.executable, "-m", "fieldwatch_cloud", "serve", "--config", str(self.config)]
        with (self.folder / "serve.log").open("wb") as log:
            process = subprocess.Popen(command, cwd=self.folder, env=self._env, stdout=log, stderr=log)
        try:
            wait_until(lambda: answers(self.port), "the enrolment service", 120)
            yield self
        finally:
            end(process)
            self.broker.stop()


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    """One for all tests, each of which has device ids of its own."""
    folder = tmp_path_factory.mktemp("centre")
    site = Site.make(folder / "release")
    site.publish(make_bundle(3))
    with serve(site.repo) as server, Centre(folder, server.url, site.root_file).serving() as made:
        yield made


class Pc:
    """A device's PC."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        folder.mkdir()
        self.folder, self._env = folder, env
        self.config = folder / "etc" / "agent.toml"
        rows = [f"{clock.iso(START + i * clock.MINUTE)},{10 + i % 3},10.5,{9 + i % 2}" for i in range(120)]
        (folder / "readings.csv").write_text("\n".join(["timestamp,s0,s1,s2", *rows]) + "\n")

    def agent(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fieldwatch_agent", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self._env, capture_output=True, text=True, check=False, input=stdin
        )

    def said_by_service(self, *words: str) -> None:
        """Run the service until its log says each of ``words``."""
        log = self.folder / "service.log"
        command = [sys.executable, "-m", "fieldwatch_agent", "run", "--config", str(self.config)]
        with log.open("wb") as output:
            process = subprocess.Popen(command, cwd=self.folder, env=self._env, stderr=output)
        try:
            wait_until(lambda: all(each in log.read_text() for each in words), f"{words} in the service's log")
        finally:
            end(process)

    def enroll(self, centre: Centre, token: str, *more: str) -> subprocess.CompletedProcess[str]:
        log = str(self.folder / "readings*.csv")
        return self.agent(
            "enroll", "--url", centre.url, "--log", log, "--config", str(self.config), *more, stdin=token + "\n"
        )


@pytest.fixture
def pc(tmp_path: Path, clean_env: Mapping[str, str]) -> Callable[[str], Pc]:
    return lambda name: Pc(tmp_path / name, clean_env)


def on_the_page(verb: str, ours: Mapping[str, str]) -> list[str]:
    """The first command of ``docs/install.md`` with this verb, with addresses and paths of the test."""
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    shown = next(line for line in page.splitlines() if line.startswith(f"# fieldwatch-agent {verb} "))
    words = shlex.split(shown.removeprefix("# fieldwatch-agent "))
    assert set(ours) <= set(words)
    return [ours.get(word, word) for word in words]


@pytest.mark.soak
def test_one_command_to_a_scoring_device(centre: Centre, pc: Callable[[str], Pc]) -> None:
    device = pc("device")
    arguments = on_the_page("setup", {"https://fieldwatch.example.org:8443": centre.url})
    arguments += [str(device.folder), "--config", str(device.config)]
    done = device.agent(*arguments, stdin=centre.token("press-1001", "--type", "press") + "\n")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "press-1001 is enrolled" in done.stdout and "next: run it here" in done.stdout
    before = device.config.read_text()
    again = device.agent(*arguments)
    assert again.returncode == 0 and "enrolled already" in again.stdout and device.config.read_text() == before
    ran = device.agent("run", "--config", str(device.config), "--until-idle")
    assert ran.returncode == 0, ran.stderr
    own = {"/etc/fieldwatch-agent/agent.toml": str(device.config)}
    looked = device.agent(*on_the_page("doctor", own))
    assert looked.returncode == 0 and "ingest listens" in looked.stdout, looked.stdout + looked.stderr
    assert centre.ask("SELECT count(*) FROM result WHERE device = ?", "press-1001")[0][0] == 120
    secret = (device.config.parent / "state" / "identity" / "device.pem").stat()
    assert os.name == "nt" or secret.st_mode & 0o077 == 0


def test_who_tried_it_out_first_enrols_later_and_keeps_what_was_set(centre: Centre, pc: Callable[[str], Pc]) -> None:
    device = pc("device")
    config = ("--config", str(device.config))
    tried = device.agent("setup", str(device.folder), *config, "--device", "press-1003", "--type", "press")
    assert tried.returncode == 0 and "next: to send results" in tried.stdout
    own = device.config.read_text().replace('"on-alert"', '"none"')
    device.config.write_text(own)
    token = centre.token("press-1003", "--type", "press")
    done = device.agent("setup", "--url", centre.url, *config, stdin=token + "\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "added [enrolment], [mqtt], [updates]" in done.stdout
    assert device.config.read_text().startswith(own.rstrip("\n"))
    assert load(device.config, {}).mqtt is not None


def test_the_device_is_refused_in_words_and_nothing_is_left_half_done(centre: Centre, pc: Callable[[str], Pc]) -> None:
    first, second = pc("first"), pc("second")
    token = centre.token("press-2001", "--type", "press")
    assert first.enroll(centre, token).returncode == 0
    again = first.enroll(centre, token)
    assert again.returncode == 3 and "enrolled already" in again.stderr
    stolen = second.enroll(centre, token)
    assert stolen.returncode == 3 and "used already, by another key" in stolen.stderr
    assert not second.config.exists()
    refused = centre.cloud("enroll", "press-2001")
    assert refused.returncode == 3 and "--replace" in refused.stderr
    replaced = second.enroll(centre, centre.token("press-2001", "--type", "press", "--replace"))
    assert replaced.returncode == 0, replaced.stderr
    centre.broker.restart()
    first.said_by_service("our certificate was revoked")


def test_a_token_of_another_installation_is_not_sent(
    centre: Centre, pc: Callable[[str], Pc], tmp_path: Path, clean_env: Mapping[str, str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "cloud.toml").write_text('[enrolment]\nbroker = "mqtts://localhost:1"\n')
    for arguments in (["enrolment", "init", "--host", "localhost"], ["enroll", "press-3001", "--type", "press"]):
        command = [sys.executable, "-m", "fieldwatch_cloud", *arguments, "--config", str(other / "cloud.toml")]
        done = subprocess.run(command, env=clean_env, capture_output=True, text=True, check=True)
    refused = pc("device").enroll(centre, done.stdout.strip())
    assert refused.returncode == 3 and "the token was not sent" in refused.stderr


def test_a_batch_has_one_token_and_each_device_uses_it_once(centre: Centre, pc: Callable[[str], Pc]) -> None:
    listed = centre.folder / "devices.csv"
    listed.write_text("device,type\npress-4001,press\npress-4002,press\n")
    token = centre.token("--from", str(listed))
    one, two = pc("one"), pc("two")
    unnamed = one.enroll(centre, token)
    assert unnamed.returncode == 3 and "--device" in unnamed.stderr
    assert one.enroll(centre, token, "--device", "press-4001").returncode == 0
    taken = two.enroll(centre, token, "--device", "press-4001")
    assert taken.returncode == 3 and "by another key" in taken.stderr
    assert two.enroll(centre, token, "--device", "press-4002").returncode == 0


@pytest.mark.soak
def test_the_certificate_is_renewed_without_a_person(centre: Centre, pc: Callable[[str], Pc]) -> None:
    device = pc("device")
    assert device.enroll(centre, centre.token("press-5001", "--type", "press")).returncode == 0
    identity = device.config.parent / "state" / "identity" / "device.pem"
    before = identity.read_bytes()
    assert device.agent("update", "--config", str(device.config)).returncode == 0
    assert identity.read_bytes() == before, "not due yet"
    _age(centre, identity, "press-5001")
    updated = device.agent("update", "--config", str(device.config))
    assert updated.returncode == 0 and "renewed" in updated.stderr, updated.stderr
    assert identity.read_bytes() != before
    ran = device.agent("run", "--config", str(device.config), "--until-idle")
    assert ran.returncode == 0, ran.stderr


def _age(centre: Centre, identity: Path, device: str) -> None:
    """Give the device a certificate for its key of which little is left, as the authority would have issued it."""
    from datetime import UTC, datetime, timedelta

    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from fieldwatch_cloud.enrolment.authority import pem
    from fieldwatch_cloud.enrolment.folder import Folder

    folder = Folder(centre.folder / "enrolment")
    text = identity.read_bytes()
    key = serialization.load_pem_private_key(text, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    begun = datetime.now(UTC) - timedelta(days=150)
    old = folder.authority.client(device, key.public_key(), begun, 180)
    folder.register.note(old.serial_number, device, begun, old.not_valid_after_utc)
    identity.write_bytes(text[: text.index(b"-----BEGIN CERTIFICATE")] + pem(old))


@pytest.mark.soak
def test_who_is_revoked_cannot_renew(centre: Centre, pc: Callable[[str], Pc]) -> None:
    device = pc("device")
    assert device.enroll(centre, centre.token("press-6001", "--type", "press")).returncode == 0
    _age(centre, device.config.parent / "state" / "identity" / "device.pem", "press-6001")
    revoked = centre.cloud("enrolment", "revoke", "press-6001")
    assert revoked.returncode == 0 and "restart" in revoked.stdout
    updated = device.agent("update", "--config", str(device.config))
    assert "was revoked" in updated.stderr
    device.said_by_service("the device's certificate expires in", "was revoked: enrol anew")
