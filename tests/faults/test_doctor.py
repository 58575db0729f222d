"""The doctor names the cause: one healthy set-up, broken in many ways, one at a time.

Real broker with the generated rules, real update repository, real files; ingest is a subscriber with ingest's
certificate. The texts are part of the contract with whoever stands at the device: a change here is a change for them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fieldwatch_agent.config import load
from fieldwatch_agent.doctor.examine import examine
from fieldwatch_agent.enrol.identity import key_text
from fieldwatch_agent.findings import Finding
from fieldwatch_cloud.enrolment import broker_config
from fieldwatch_cloud.enrolment.authority import Authority, pem
from fieldwatch_cloud.enrolment.folder import Folder, init
from fieldwatch_contract import clock
from fieldwatch_contract.topics import PREFIX
from paho.mqtt.client import CallbackAPIVersion, Client, MQTTv5

from tests.brokers import Hostile
from tests.bundles import make_bundle
from tests.conftest import Broker, end, find_port, wait_until
from tests.updates import Server, Site, body, serve, status

DEVICE = "press-0001"
NOW = datetime.now(UTC)


@dataclass
class Setup:
    """A healthy device. ``text``: its agent.toml, to be changed before :meth:`examine`."""

    folder: Path
    text: str
    authority: Folder
    broker: Broker
    site: Site
    server: Server
    ingest: Client

    @property
    def identity(self) -> Path:
        return self.folder / "device.pem"

    def change(self, old: str, new: str) -> None:
        assert old in self.text, old
        self.text = self.text.replace(old, new)

    def certify(self, name: str = DEVICE, authority: Authority | None = None, begun: int = 0, days: int = 90) -> None:
        """Give the device another certificate, ``begun`` days ago."""
        key = ec.generate_private_key(ec.SECP256R1())
        own = authority or self.authority.authority
        certificate = own.client(name, key.public_key(), NOW - timedelta(days=begun), days)
        self.authority.register.note(certificate.serial_number, name, NOW, certificate.not_valid_after_utc)
        self.identity.write_bytes(key_text(key) + pem(certificate))

    def examine(self) -> list[Finding]:
        path = self.folder / "agent.toml"
        path.write_text(self.text, encoding="utf-8")
        return examine(load(path, {}))

    def complaints(self) -> list[str]:
        found = [each for each in self.examine() if each.level != "ok" and each.where != "service"]
        assert all(each.remedy for each in found), "each with what to do"
        return [f"{each.where}: {each.what}" for each in found]


def readings(count: int = 30, names: str = "s0,s1,s2") -> str:
    start = clock.now() // clock.MINUTE * clock.MINUTE - count * clock.MINUTE
    rows = [
        f"{clock.iso(start + i * clock.MINUTE)},{10 + i % 7 / 7},{10 + i % 11 / 9},{9 + i % 5 / 3}"
        for i in range(count)
    ]
    return "\n".join([f"timestamp,{names}", *rows]) + "\n"


def start_ingest(setup_ca: Path, port: int) -> Client:
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5, client_id=broker_config.INGEST)
    client.tls_set(str(setup_ca), str(setup_ca.with_name("ingest.pem")), str(setup_ca.with_name("ingest.key")))
    subscribed: list[bool] = []
    client.on_subscribe = lambda *_: subscribed.append(True)
    client.on_connect = lambda *_: client.subscribe(f"{PREFIX}/+/state", 1)
    client.reconnect_delay_set(1, 1)
    client.connect("localhost", port)
    client.loop_start()
    wait_until(lambda: subscribed, "ingest")
    return client


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Folder, Broker, Site, Client]]:
    folder = tmp_path_factory.mktemp("centre")
    authority = init(folder / "enrolment", "test", ["localhost"], [broker_config.INGEST], NOW)
    ca = folder / "enrolment" / "ca.pem"
    port = find_port()
    paths = broker_config.Files(
        ca, ca.with_name("server.pem"), ca.with_name("server.key"), ca.with_name("revoked.pem"), folder, folder / "acl"
    )
    texts = broker_config.render("mosquitto", paths, port=port)
    (folder / "acl").write_text(texts["acl"])
    lines = texts["mosquitto.conf"].splitlines()
    kept = [line for line in lines if not line.startswith(("listener", "persistence", "per_"))]
    broker = Broker(folder / "mosquitto", port, False, kept).start()
    ingest = start_ingest(ca, port)
    site = Site.make(folder / "release")
    site.publish(make_bundle(3))
    yield authority, broker, site, ingest
    ingest.disconnect()
    ingest.loop_stop()
    broker.stop()


@pytest.fixture
def setup(shared: tuple[Folder, Broker, Site, Client], tmp_path: Path) -> Iterator[Setup]:
    authority, broker, site, ingest = shared
    (tmp_path / "readings.csv").write_text(readings())
    (tmp_path / "root.json").write_bytes(site.root)
    (tmp_path / "ca.pem").write_bytes(authority.ca)
    with serve(site.repo) as server:
        text = f"""
[device]
id = "{DEVICE}"
type = "press"
[log]
path = "readings*.csv"
period = "60s"
[mqtt]
url = "mqtts://localhost:{broker.port}"
ca = "ca.pem"
certificate = "device.pem"
key = "device.pem"
[updates]
url = "{server.url}"
root = "root.json"
[state]
dir = "state"
"""
        made = Setup(tmp_path, text, authority, broker, site, server, ingest)
        made.certify()
        yield made


pytestmark = pytest.mark.mosquitto


def test_a_healthy_set_up_has_nothing_to_complain_of(setup: Setup) -> None:
    found = setup.examine()
    assert [each for each in found if each.level == "error"] == []
    told = {(each.level, each.where, each.what) for each in found}
    assert ("ok", "broker", "what we publish is taken, and ingest listens") in told
    assert ("ok", "updates", "press/v1 comes whole and passes its self-test here") in told
    assert ("ok", "clock", "agrees with the update server's") in told
    assert not (setup.folder / "state").exists(), "the doctor leaves nothing behind"


Break = Callable[[Setup], None]
BROKEN: dict[str, tuple[Break, str]] = {}


def broken(name: str, *words: str) -> Callable[[Break], Break]:
    def keep(function: Break) -> Break:
        BROKEN[name] = function, words[0]
        return function

    return keep


@broken("no log", "[log] path: no file matches")
def _(setup: Setup) -> None:
    (setup.folder / "readings.csv").unlink()


@broken("log of another device", "none of the bundle's 3 sensors has a column")
def _(setup: Setup) -> None:
    (setup.folder / "readings.csv").write_text(readings(names="x,y,z"))
    _install(setup, make_bundle(3))


@broken("log that is no log", "readings.csv: no reading in the first")
def _(setup: Setup) -> None:
    (setup.folder / "readings.csv").write_bytes(bytes(range(1, 256)) * 16 + b"\n")


@broken("wrong authority", "broker: localhost port {port}: its certificate is not trusted")
def _(setup: Setup) -> None:
    (setup.folder / "ca.pem").write_bytes(pem(Authority.create("other", NOW).certificate))


@broken("authority's file is empty", "[mqtt] ca: {folder}/ca.pem holds no certificate")
def _(setup: Setup) -> None:
    (setup.folder / "ca.pem").write_text("")


@broken("certificate of a foreign authority", "broker: localhost port {port}: it does not know the authority")
def _(setup: Setup) -> None:
    setup.certify(authority=Authority.create("other", NOW))


@broken("certificate has expired", "[mqtt] certificate: expired on")
def _(setup: Setup) -> None:
    setup.certify(begun=30, days=20)


@broken("certificate is revoked", "broker: localhost port {port}: our certificate was revoked")
def _(setup: Setup) -> None:
    setup.authority.register.revoke(DEVICE, NOW)
    setup.authority.write_revocations(NOW)
    setup.broker.restart()
    wait_until(setup.ingest.is_connected, "ingest to come back")


@broken("certificate of another device", "[mqtt] certificate: is for press-0002, the device is press-0001")
def _(setup: Setup) -> None:
    setup.certify("press-0002")


@broken("no certificate", "broker: localhost port {port}: it asks for a certificate")
def _(setup: Setup) -> None:
    setup.change('certificate = "device.pem"\nkey = "device.pem"\n', "")


@broken("certificate is missing", "[mqtt] certificate: {folder}/device.pem cannot be read: No such file")
def _(setup: Setup) -> None:
    setup.identity.unlink()


@broken("key of another certificate", "[mqtt] key: {folder}/other.key does not belong to the certificate")
def _(setup: Setup) -> None:
    (setup.folder / "other.key").write_bytes(key_text(ec.generate_private_key(ec.SECP256R1())))
    setup.change('key = "device.pem"', 'key = "other.key"')


@broken(
    "host name is not the certificate's", "broker: 127.0.0.1 port {port}: its certificate is not trusted: IP address"
)
def _(setup: Setup) -> None:
    setup.change("mqtts://localhost", "mqtts://127.0.0.1")


@broken("plain MQTT at a TLS port", "broker: localhost port {port}: it closed the connection without an answer")
def _(setup: Setup) -> None:
    setup.change("mqtts://", "mqtt://")
    setup.change('ca = "ca.pem"\ncertificate = "device.pem"\nkey = "device.pem"\n', "")


@broken("dead broker", "nobody listens there; is the broker running?")
def _(setup: Setup) -> None:
    setup.change(f"localhost:{setup.broker.port}", f"localhost:{find_port()}")


@broken("unknown host", "this host name is unknown: broker.invalid; check mqtt.url and the name server")
def _(setup: Setup) -> None:
    setup.change("mqtts://localhost", "mqtts://broker.invalid")


@broken("update server's name is unknown", "cannot be reached")
def _(setup: Setup) -> None:
    setup.change("http://127.0.0.1", "http://updates.invalid")


@broken("nothing at the update server's port", "cannot be reached")
def _(setup: Setup) -> None:
    setup.change(str(setup.server.port), str(find_port()))


@broken("update server without a repository", "updates: no repository at")
def _(setup: Setup) -> None:
    setup.change(f":{setup.server.port}/", f":{setup.server.port}/elsewhere/")


@broken("captive portal", "a web page came instead of")
def _(setup: Setup) -> None:
    setup.server.answers["metadata"] = body(b"<html>Log in</html>", "text/html")


@broken("proxy refuses", "the server answers 407")
def _(setup: Setup) -> None:
    setup.server.answers["metadata"] = status(407)


@broken("foreign trust root", "is not signed by the keys that updates.root names")
def _(setup: Setup) -> None:
    foreign = Site.make(setup.folder / "foreign")
    (setup.folder / "root.json").write_bytes(foreign.root)


@broken("trust root is missing", "[updates] root: {folder}/root.json cannot be read: No such file")
def _(setup: Setup) -> None:
    (setup.folder / "root.json").unlink()


@broken("trust root is none", "[updates] root: {folder}/root.json is not a root of trust")
def _(setup: Setup) -> None:
    (setup.folder / "root.json").write_text('{"signed": {"_type": "timestamp"}}')


@broken("wrong device type", "updates: nothing is published for devices of type pump in channel stable")
def _(setup: Setup) -> None:
    setup.change('type = "press"', 'type = "pump"')


@broken("wrong channel", "updates: nothing is published for devices of type press in channel beta")
def _(setup: Setup) -> None:
    setup.change('root = "root.json"', 'root = "root.json"\nchannel = "beta"')


@broken("damaged bundle at the server", "updates: a file of {updates} is not what was signed")
def _(setup: Setup) -> None:
    (published,) = (setup.site.repo / "targets").rglob("*.zip")
    setup.server.answers[".zip"] = body(b"x" * published.stat().st_size)


@broken("updates' authority is missing", "[updates] ca: {folder}/none.pem cannot be read: No such file")
def _(setup: Setup) -> None:
    setup.change('root = "root.json"', 'root = "root.json"\nca = "none.pem"')


@broken("state is a file", "[state] dir: {folder}/state is not a folder")
def _(setup: Setup) -> None:
    (setup.folder / "state").write_text("")


@broken("wrong period", "is made for a period of 60 s")
def _(setup: Setup) -> None:
    _install(setup, make_bundle(3))
    setup.change('period = "60s"', 'period = "10s"')


def _install(setup: Setup, bundle: bytes) -> None:
    from fieldwatch_agent.update.activation import Activation

    state = setup.folder / "state"
    state.mkdir()
    activation = Activation(state)
    activation.switch(activation.stage(bundle), 0)


def names() -> list[str]:
    return list(BROKEN)


@pytest.mark.parametrize("name", names())
def test_a_broken_set_up_is_named(setup: Setup, name: str) -> None:
    spoil, words = BROKEN[name]
    spoil(setup)
    told = setup.complaints()
    wanted = words.format(port=setup.broker.port, folder=setup.folder, updates=setup.server.url)
    assert any(wanted in each for each in told), told
    assert len(told) <= 3, "and nothing else is blamed"


def test_enough_is_broken() -> None:
    assert len(BROKEN) >= 25


def test_nobody_listens_is_told_apart_from_a_refusal(setup: Setup) -> None:
    setup.ingest.unsubscribe(f"{PREFIX}/+/state")
    try:
        wait_until(lambda: any("nobody listens" in each for each in setup.complaints()), "the unsubscription")
    finally:
        setup.ingest.subscribe(f"{PREFIX}/+/state", 1)


@pytest.mark.parametrize(
    ("code", "words"),
    [(0x87, "it does not take what we publish: not authorized (0x87)"), (0x97, "quota exceeded (0x97)")],
)
def test_a_broker_that_refuses_our_topics_is_named(setup: Setup, code: int, words: str) -> None:
    hostile = Hostile(lambda _: code)
    setup.change(f'url = "mqtts://localhost:{setup.broker.port}"', f'url = "{hostile.url}"')
    setup.change('ca = "ca.pem"\ncertificate = "device.pem"\nkey = "device.pem"\n', "")
    assert any(words in each for each in setup.complaints())
    hostile.close()


def serve_the_time(setup: Setup, ahead: timedelta) -> None:
    """Let the update server say another time than this PC."""

    def answer(handler: Any) -> None:
        handler.send_response_only(200)
        handler.send_header("Date", format_datetime(datetime.now(UTC) + ahead, usegmt=True))
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    setup.server.answers["timestamp.json"] = answer


def clocks(setup: Setup) -> list[tuple[str, str, str, str]]:
    wheres = {"clock", "device's clock", "[log.timestamp] timezone", "[log.timestamp]"}
    found = [each for each in setup.examine() if each.where in wheres and each.level != "ok"]
    return [(each.level, each.where, each.what, each.remedy) for each in found]


def local_log(setup: Setup, ahead: timedelta, form: str = "%Y-%m-%d %H:%M:%S") -> None:
    """A log without zones whose newest line was written now, by a clock that is ahead."""
    now = datetime.now(UTC) + ahead
    rows = [f"{now - timedelta(minutes=29 - i):{form}},10,{i % 5},9" for i in range(30)]
    (setup.folder / "readings.csv").write_text("\n".join(["timestamp,s0,s1,s2", *rows]) + "\n")


SET_CLOCK = "set the clock, or switch on time synchronisation"


def test_this_pcs_clock_is_wrong_and_the_log_is_right(setup: Setup) -> None:
    serve_the_time(setup, timedelta(hours=3))
    local_log(setup, timedelta(hours=3))
    what = (
        "this PC's clock is 3 hours behind the update server's; the log's times agree with the server, so the "
        "device's clock is right"
    )
    assert clocks(setup) == [("error", "clock", what, SET_CLOCK)]


def test_this_pcs_clock_is_wrong(setup: Setup) -> None:
    serve_the_time(setup, timedelta(days=-8))
    assert clocks(setup) == [
        ("error", "clock", "this PC's clock is 8 days ahead of the update server's", SET_CLOCK),
    ]


def test_the_logs_zone_is_wrong(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    local_log(setup, timedelta(hours=2))
    monkeypatch.setenv("TZ", "UTC")
    what = "the log's times are 2 h ahead of this PC's and the update server's clock, read as UTC"
    fixed = '; or the zone\'s name, such as "Europe/Berlin", if its clock changes in summer'
    remedy = f'set [log.timestamp] timezone = "Etc/GMT-2"{fixed}'
    assert clocks(setup) == [("warning", "[log.timestamp] timezone", what, remedy)]
    monkeypatch.setenv("TZ", "Africa/Johannesburg")  # two hours ahead of UTC all the year
    (told,) = clocks(setup)
    assert told[3] == 'set [log.timestamp] timezone = "Africa/Johannesburg"'
    setup.change('period = "60s"', 'period = "60s"\ntimestamp.timezone = "Africa/Johannesburg"')
    assert clocks(setup) == []
    setup.change('"Africa/Johannesburg"', '"Etc/GMT-5"')
    (told,) = clocks(setup)
    assert told[2] == "the log's times are 3 h behind this PC's and the update server's clock, read as Etc/GMT-5"
    assert told[3] == 'set [log.timestamp] timezone = "Africa/Johannesburg"'


def test_a_clock_that_says_its_zone_is_hours_off(setup: Setup) -> None:
    local_log(setup, timedelta(hours=-6), "%Y-%m-%dT%H:%M:%SZ")
    what = "the log's times are 6 h behind this PC's and the update server's clock, and say their zone"
    assert clocks(setup) == [("warning", "device's clock", what, "set the device's clock or zone")]


def test_the_devices_clock_is_off_by_minutes(setup: Setup) -> None:
    local_log(setup, timedelta(minutes=7, seconds=20))
    what = "the log's times are 7 minutes ahead of this PC's and the update server's clock"
    assert clocks(setup) == [("warning", "device's clock", what, "set the device's clock")]
    local_log(setup, timedelta(minutes=-9))
    setup.change(f"127.0.0.1:{setup.server.port}", f"127.0.0.1:{find_port()}")  # no server tells the time
    (told,) = clocks(setup)
    assert told[2] == "the log's times are 9 minutes behind this PC's clock"
    assert told[3] == "set the device's clock; or its program writes late, and all is well"


def test_a_reading_may_be_as_old_as_its_period(setup: Setup) -> None:
    now = datetime.now(UTC)
    rows = [f"{now - timedelta(hours=30 - i):%Y-%m-%d %H:%M:%S},10,{i % 5},9" for i in range(30)]
    (setup.folder / "readings.csv").write_text("\n".join(["timestamp,s0,s1,s2", *rows]) + "\n")
    setup.change('period = "60s"', 'period = "1h"')
    assert "device's clock" not in {where for _, where, _, _ in clocks(setup)}


def test_a_running_service_is_left_alone_and_asked(setup: Setup, spawn: Callable[..., Any]) -> None:
    path = setup.folder / "agent.toml"
    path.write_text(setup.text)
    process = spawn([sys.executable, "-m", "fieldwatch_agent", "run", "--config", path], stderr=subprocess.DEVNULL)
    journal = setup.folder / "state" / "journal.db"
    wait_until(journal.exists, "the service")

    def told() -> list[str]:
        return [f"{each.level} {each.what}" for each in setup.examine() if each.where == "service"]

    wait_until(lambda: any(each.startswith("ok runs") for each in told()), "the service to be found running")
    assert not [each for each in setup.examine() if each.where == "broker"]
    end(process)
    assert any("does not run" in each for each in told())


def test_the_command_has_an_exit_code_and_json(setup: Setup) -> None:
    path = setup.folder / "agent.toml"
    path.write_text(setup.text)
    command = [sys.executable, "-m", "fieldwatch_agent", "doctor", "--config", str(path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert {each["level"] for each in json.loads(done.stdout)} <= {"ok", "warning"}
    (setup.folder / "root.json").unlink()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3 and "Traceback" not in done.stderr
