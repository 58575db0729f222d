"""A hostile device against a real Mosquitto with the generated configuration: nothing comes of what it tries.

``make attacks`` prints the matrix, identity × action. The victim's connection and ingest's are open all the time; at
the end both must still be the same, and have received what they were sent and nothing else.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fieldwatch_cloud.enrolment import broker_config
from fieldwatch_cloud.enrolment.authority import Authority, Refused, key_pem, pem
from fieldwatch_cloud.enrolment.folder import Folder, init
from fieldwatch_cloud.enrolment.register import Device
from fieldwatch_contract.enrolment import Token
from fieldwatch_contract.topics import PREFIX
from paho.mqtt.client import CallbackAPIVersion, Client, MQTTMessage, MQTTv5
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.conftest import Broker, find_port, wait_until

MakeBroker = Callable[..., Broker]

VICTIM, ATTACKER = "press-0001", "press-0002"
NOW = datetime.now(UTC)
MARK = b"forged"


class Peer:
    """A client with a certificate, that notes what happens to it."""

    def __init__(self, broker: Broker, ca: Path, pair: tuple[Path, Path] | None, client_id: str) -> None:
        self.pair = pair
        self.received: list[tuple[str, bytes]] = []
        self.connections = 0
        self.lost = 0
        self.confirmed: dict[int, int] = {}
        self.failed = ""
        self._joined = threading.Event()
        self.client = Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTv5, reconnect_on_failure=False
        )
        context = ssl.create_default_context(cafile=str(ca))
        if pair is not None:
            context.load_cert_chain(*pair)
        self.client.tls_set_context(context)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_message = self._on_message
        self.client.on_publish = lambda _c, _d, mid, code, _p: self.confirmed.update({mid: code.value})
        self._port = broker.port

    def open(self) -> bool:
        """Connect; tell whether the broker let us in."""
        try:
            self.client.connect("localhost", self._port, 30)
        except (OSError, ValueError) as error:
            self.failed = str(error)
            return False
        self.client.loop_start()
        return self._joined.wait(3) and self.connections == 1

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def publish(self, topic: str, payload: bytes = MARK, retain: bool = False) -> int | None:
        """Publish and return the broker's reason code, None where none came (it cut the connection)."""
        mid = self.client.publish(topic, payload, qos=1, retain=retain).mid
        end = time.monotonic() + 3
        while mid not in self.confirmed and time.monotonic() < end and not self.lost:
            time.sleep(0.01)
        return self.confirmed.get(mid)

    def _on_connect(self, _client: object, _data: object, _flags: object, code: object, _properties: object) -> None:
        if getattr(code, "is_failure", True):
            self.failed = str(code)
        else:
            self.connections += 1
        self._joined.set()

    def _on_disconnect(self, *_: object) -> None:
        self.lost += 1
        self._joined.set()

    def _on_message(self, _client: object, _data: object, message: MQTTMessage) -> None:
        self.received.append((message.topic, message.payload))


class Site:
    """An installation: authority, broker with the generated configuration, certificates to try."""

    def __init__(self, folder: Path, mosquitto: MakeBroker) -> None:
        self.path = folder
        self.folder: Folder = init(folder / "enrolment", "test", ["localhost"], [broker_config.INGEST], NOW)
        self.foreign = Authority.create("Fieldwatch devices", NOW)
        self.ca = folder / "enrolment" / "ca.pem"
        revoked = self.pair(ATTACKER, "revoked")
        self.folder.register.revoke(ATTACKER, NOW)
        self.folder.write_revocations(NOW)
        self.identities: dict[str, tuple[Path, Path] | None] = {
            "no certificate": None,
            "foreign authority": self.pair(VICTIM, "foreign", self.foreign),
            "expired": self.pair(ATTACKER, "expired", days=-1),
            "revoked": revoked,
            "server's certificate": (self.ca.with_name("server.pem"), self.ca.with_name("server.key")),
            "another device": self.pair(ATTACKER, "device"),
            "device named like ingest": self.pair("fieldwatch-ingest", "like"),
            "name with +": self.pair("+", "plus"),
            "name with #": self.pair("#", "hash"),
            "name with a topic": self.pair(f"{ATTACKER}/../{VICTIM}", "path"),
        }
        port = find_port()
        paths = broker_config.Files(
            self.ca, self.ca.with_name("server.pem"), self.ca.with_name("server.key"), self.ca.with_name("revoked.pem"),
            folder / "data", folder / "access.acl",
        )  # fmt: skip
        texts = broker_config.render("mosquitto", paths, port=port)
        (folder / "data").mkdir()
        (folder / "access.acl").write_text(texts["access.acl"])
        kept = [
            line
            for line in texts["mosquitto.conf"].splitlines()
            if not line.startswith(("listener", "persist", "per_"))
        ]
        self.broker = mosquitto(extra=kept)

    def pair(self, name: str, stem: str, authority: Authority | None = None, days: int = 2) -> tuple[Path, Path]:
        """A certificate for ``name``, which the real authority would refuse for most of these."""
        key = ec.generate_private_key(ec.SECP256R1())
        own = authority or self.folder.authority
        now = NOW - timedelta(days=30) if days < 0 else NOW
        certificate = own.client(name, key.public_key(), now, 29 if days < 0 else days)
        self.folder.register.note(certificate.serial_number, name, NOW, certificate.not_valid_after_utc)
        paths = self.path / f"{stem}.pem", self.path / f"{stem}.key"
        paths[0].write_bytes(pem(certificate))
        paths[1].write_bytes(key_pem(key))
        return paths

    def peer(self, pair: tuple[Path, Path] | None, client_id: str = "anybody") -> Peer:
        return Peer(self.broker, self.ca, pair, client_id)


@pytest.fixture
def site(tmp_path: Path, mosquitto: MakeBroker) -> Site:
    return Site(tmp_path, mosquitto)


@pytest.fixture
def ingest(site: Site) -> Iterator[Peer]:
    peer = site.peer((site.ca.with_name("ingest.pem"), site.ca.with_name("ingest.key")), broker_config.INGEST)
    assert peer.open(), peer.failed
    peer.client.subscribe([(f"{PREFIX}/+/{part}", 1) for part in ("evt/#", "bulk", "state", "reply")])
    yield peer
    peer.close()


@pytest.fixture
def victim(site: Site) -> Iterator[Peer]:
    peer = site.peer(site.pair(VICTIM, "victim"), VICTIM)
    peer.client.will_set(f"{PREFIX}/{VICTIM}/state", b"gone", qos=1)
    assert peer.open(), peer.failed
    peer.client.subscribe([(f"{PREFIX}/{VICTIM}/{part}", 1) for part in ("ack", "verdicts", "command")])
    yield peer
    peer.close()


def _writes(channel: str, retain: bool = False) -> Callable[[Site, Peer], str]:
    return lambda _site, peer: _refusal(peer.publish(f"{PREFIX}/{VICTIM}/{channel}", retain=retain))


def _refusal(code: int | None) -> str:
    return "refused" if code is None or code >= 0x80 else "ACCEPTED"


def _reads(name: str) -> Callable[[Site, Peer], str]:
    """Subscribing may be granted: what counts is whether anything comes."""

    def act(_site: Site, peer: Peer) -> str:
        peer.client.subscribe(name, options=SubscribeOptions(qos=1))
        return "watched"

    return act


def _place_of(name: str) -> Callable[[Site, Peer], str]:
    """A second connection under another's client id must not end the other's."""

    def act(site: Site, peer: Peer) -> str:
        other = site.peer(peer.pair, name)
        other.open()
        other.close()
        return "watched"

    return act


def _will(site: Site, peer: Peer) -> str:
    other = site.peer(peer.pair)
    other.client.will_set(f"{PREFIX}/{VICTIM}/state", MARK, qos=1, retain=True)
    if other.open():
        other.client.loop_stop()
        sock = other.client.socket()
        assert sock is not None
        sock.close()  # without a goodbye: the broker publishes the will
    return "watched"


ACTIONS: dict[str, Callable[[Site, Peer], str]] = {
    "event of the victim": _writes("evt/alert"),
    "bulk of the victim": _writes("bulk"),
    "state of the victim, retained": _writes("state", retain=True),
    "reply of the victim": _writes("reply"),
    "acknowledge to the victim": _writes("ack"),
    "verdicts to the victim": _writes("verdicts", retain=True),
    "command to the victim": _writes("command"),
    "command to the victim, retained": _writes("command", retain=True),
    "command to oneself": lambda _site, peer: _refusal(peer.publish(f"{PREFIX}/{ATTACKER}/command")),
    "deeper than an event": _writes("evt/alert/critical"),
    "write $SYS": lambda _site, peer: _refusal(peer.publish("$SYS/broker/version")),
    "write $CONTROL": lambda _site, peer: _refusal(peer.publish("$CONTROL/dynamic-security/v1")),
    "write elsewhere": lambda _site, peer: _refusal(peer.publish("anything")),
    "read the victim's verdicts": _reads(f"{PREFIX}/{VICTIM}/verdicts"),
    "read the victim's commands": _reads(f"{PREFIX}/{VICTIM}/command"),
    "read the victim's replies": _reads(f"{PREFIX}/{VICTIM}/reply"),
    "read all": _reads("#"),
    "read all events": _reads(f"{PREFIX}/+/evt/#"),
    "read $SYS": _reads("$SYS/#"),
    "share ingest's subscription": _reads(f"$share/ingest/{PREFIX}/+/evt/#"),
    "will in the victim's name": _will,
    "victim's client id": _place_of(VICTIM),
    "ingest's client id": _place_of(broker_config.INGEST),
}
SHUT_OUT = ("no certificate", "foreign authority", "expired", "revoked", "server's certificate")


def test_matrix(site: Site, ingest: Peer, victim: Peer) -> None:
    """Each identity tries each action; the victim and ingest go on as if nobody were there."""
    table: dict[tuple[str, str], str] = {}
    sent = 0
    for who, pair in site.identities.items():
        peer = site.peer(pair)
        if not peer.open():
            table |= {(who, action): "shut out" for action in ACTIONS}
            peer.close()
            continue
        for action, act in ACTIONS.items():
            if peer.lost:
                peer.close()
                peer = site.peer(pair)
                assert peer.open()
            table[who, action] = act(site, peer)
        sent += 1
        for channel in ("evt/alert", "reply"):
            victim.publish(f"{PREFIX}/{VICTIM}/{channel}", b"true %d" % sent)
        ingest.publish(f"{PREFIX}/{VICTIM}/command", b"true %d" % sent)
        ingest.publish(f"{PREFIX}/{VICTIM}/verdicts", b"true %d" % sent, retain=True)
        wait_until(lambda count=sent: _true(ingest, "evt/alert") == count, "the victim's event at ingest")
        wait_until(lambda count=sent: _true(ingest, "reply") == count, "the victim's reply at ingest")
        wait_until(lambda count=sent: _true(victim, "command") == count, "the command at the victim")
        wait_until(lambda count=sent: _true(victim, "verdicts") == count, "the verdicts at the victim")
        time.sleep(0.2)  # whatever would come to the attacker had time to
        foreign = [topic for topic, _ in peer.received]
        for action in table:
            if table[action] == "watched" and action[0] == who:
                table[action] = "refused" if not foreign else f"GOT {foreign[0]}"
        peer.close()
    _show(table)
    assert {who for who, _ in table if table[who, "read all"] == "shut out"} == set(SHUT_OUT)
    assert set(table.values()) == {"refused", "shut out"}
    assert (victim.lost, victim.connections, ingest.lost, ingest.connections) == (0, 1, 0, 1)
    assert not [pair for pair in ingest.received + victim.received if not pair[1].startswith(b"true")]


def _true(peer: Peer, channel: str) -> int:
    return sum(topic.endswith(channel) and payload.startswith(b"true") for topic, payload in peer.received)


def _show(table: dict[tuple[str, str], str]) -> None:
    names = list(dict.fromkeys(who for who, _ in table))
    for number, who in enumerate(names, 1):
        print(f"{number:3} {who}")
    print(f"{'':36}" + "".join(f"{number:>10}" for number in range(1, len(names) + 1)))
    for action in ACTIONS:
        print(f"{action:36}" + "".join(f"{table[who, action]:>10}" for who in names))


def test_a_device_can_do_what_is_its_own(site: Site, ingest: Peer, victim: Peer) -> None:
    """The other half: rules that refuse everything would pass the matrix."""
    for channel in ("evt/result", "bulk", "state", "reply"):
        assert victim.publish(f"{PREFIX}/{VICTIM}/{channel}", channel.encode()) == 0
    for channel in ("ack", "verdicts", "command"):
        assert ingest.publish(f"{PREFIX}/{VICTIM}/{channel}", channel.encode()) == 0
    wait_until(lambda: len(ingest.received) == 4, "what the device wrote")
    wait_until(lambda: len(victim.received) == 3, "what it was sent")


def test_a_revoked_device_is_shut_out_when_the_list_is_read_again(site: Site) -> None:
    pair = site.identities["another device"]
    peer = site.peer(pair)
    assert peer.open()
    peer.close()
    assert site.folder.register.revoke(ATTACKER, NOW) >= 1
    site.folder.write_revocations(NOW)
    site.broker.restart()
    again = site.peer(pair)
    assert not again.open()
    again.close()


@pytest.mark.parametrize("name", ["press-0001", "fieldwatch-ingest", "a+b.c", "", "a/b", "in gest."])
def test_ingest_gets_no_name_that_a_device_could_have(name: str, tmp_path: Path) -> None:
    paths = broker_config.Files(*[tmp_path] * 6)
    with pytest.raises(ValueError, match=r"could be a device's id|no name for ingest"):
        broker_config.render("mosquitto", paths, ingest=[name])


def test_several_ingest_processes_have_a_rule_each_and_a_secret_group(tmp_path: Path) -> None:
    paths = broker_config.Files(*[tmp_path / "x"] * 6)
    text = broker_config.render("mosquitto", paths, ingest=["ingest.1", "ingest.2"])["x"]
    assert text.count("topic read") == 8
    assert broker_config.group_name() != broker_config.group_name()


def test_tokens_for_the_same_device_do_not_outlive_its_revocation(site: Site) -> None:
    token = Token.draw(site.folder.pin, bytes(32))
    site.folder.register.add(token, [Device("press-0009")], NOW, timedelta(hours=1), False)
    site.folder.register.revoke("press-0009", NOW)
    with pytest.raises(Refused, match="not known here"):
        site.folder.register.redeem(token.secret, None, b"k", NOW)
