"""A broker that refuses, or takes little: the reason is readable, nothing is lost, and what may pass does."""

from __future__ import annotations

import json
import logging
import random
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_agent.send.connection import Timing
from fieldwatch_agent.send.flight import Flight
from fieldwatch_agent.send.journal import Draft, Outbox, read_status
from fieldwatch_agent.send.packer import BARREN
from fieldwatch_agent.send.traffic import Traffic
from fieldwatch_agent.send.uplink import Uplink
from fieldwatch_agent.send.words import Words
from fieldwatch_cloud.config import BrokerConfig
from fieldwatch_cloud.ingest import Ingest
from fieldwatch_cloud.store import Store
from fieldwatch_cloud.store import tables as t
from fieldwatch_contract.events import Ack
from fieldwatch_contract.fields import Evidence

from tests.authority import Authority
from tests.brokers import Hostile
from tests.conftest import Broker, find_port, wait_until
from tests.delivery import (
    DEVICE,
    alert,
    alert_draft,
    health,
    last_ack,
    make_journal,
    make_store,
    result,
    rows,
    stored,
    waiting,
)

MakeBroker = Callable[..., Broker]
Linked = Callable[..., Uplink]


def error_of(uplink: Uplink, words: str) -> str:
    return str(wait_until(lambda: uplink.error if words in (uplink.error or "") else None, f"an error with {words!r}"))


def test_events_that_the_broker_does_not_allow_stay_and_pass_later(
    mosquitto: MakeBroker, linked: Linked, taken: Callable[..., Store], tmp_path: Path
) -> None:
    """Under MQTT 3.1.1 the broker would confirm and drop them; MQTT 5 says 0x87."""
    rules = tmp_path / "acl"
    rules.write_text("topic write fieldwatch/v1/d/+/state\ntopic read fieldwatch/v1/d/#\n")
    broker = mosquitto(extra=[f"acl_file {rules}"])
    store = taken(broker.url)
    journal = make_journal(tmp_path / "state", [result(minute) for minute in range(50)])
    uplink = linked(journal, broker.url)
    reason = error_of(uplink, "0x87")
    assert "evt/result: not authorized (0x87); check our certificate or password" in reason
    assert waiting(journal.path) == 50
    assert uplink.connected
    rules.write_text("topic readwrite fieldwatch/v1/d/#\n")
    broker.restart()
    wait_until(lambda: waiting(journal.path) == 0, "the outbox to empty")
    assert stored(store) == 50
    wait_until(lambda: uplink.error is None, "the error to end")


def test_events_pass_when_only_batches_are_forbidden(
    mosquitto: MakeBroker, linked: Linked, taken: Callable[..., Store], tmp_path: Path
) -> None:
    rules = tmp_path / "acl"
    rules.write_text(
        "topic readwrite fieldwatch/v1/d/+/state\ntopic readwrite fieldwatch/v1/d/+/evt/#\n"
        "topic readwrite fieldwatch/v1/d/+/ack\ntopic read fieldwatch/v1/d/+/bulk\n"
    )
    broker = mosquitto(extra=[f"acl_file {rules}"])
    store = taken(broker.url)
    journal = make_journal(tmp_path / "state", [*(result(minute) for minute in range(50)), alert_draft(alert(3))])
    linked(journal, broker.url)
    wait_until(lambda: waiting(journal.path) == 0, "the outbox to empty")
    assert stored(store) == 50
    assert rows(store, t.alert)


@pytest.mark.parametrize("code", [0x87, *(pytest.param(code, marks=pytest.mark.soak) for code in (0x80, 0x90))])
@pytest.mark.parametrize("closed", ["evt/alert", "evt/health", "evt/result", "bulk"])
def test_a_topic_that_the_broker_refuses_holds_up_nothing(
    linked: Linked, tmp_path: Path, caplog: pytest.LogCaptureFixture, closed: str, code: int
) -> None:
    """The access rules forget one: its events take the other way that there is, and all others go on."""
    broker = Hostile(lambda topic: code if topic.endswith(closed) else 0)
    events = [alert_draft(alert(3)), Draft("health", "2026-11-01", health(1).model_dump_json())]
    journal = make_journal(tmp_path / "state", [*events, *(result(minute) for minute in range(30)), *events])
    uplink = linked(journal, broker.url, acknowledge="puback")
    wait_until(lambda: waiting(journal.path) == 0, "the outbox to empty")
    assert broker.connections == 1
    assert read_status(journal.path)["rejects"] == []
    if any(topic.endswith(closed) for topic in broker.published):
        assert f"refuses {closed}: " in caplog.text
    wait_until(lambda: uplink.error is None, "the error to end")
    broker.close()


def test_a_connection_that_ended_before_anything_was_sent_clears_no_suspect(tmp_path: Path) -> None:
    journal = make_journal(tmp_path, [])
    traffic = Traffic(journal, "press-0001", True, Timing(), Words(0.0, 0.0))

    def ends_at(*numbers: int) -> None:
        flight = Flight()
        for number in numbers:
            flight.put(number, "bulk", (number,), 0.0)
        traffic.lost(flight)

    for _ in range(BARREN + 1):
        ends_at(7, 8)
    assert traffic.packer.suspects == {7}
    ends_at()
    assert traffic.packer.suspects == {7}
    ends_at(9)
    assert traffic.packer.suspects == set(), "it was another one"
    journal.close()


def test_an_event_that_ends_each_connection_holds_up_nothing(linked: Linked, tmp_path: Path) -> None:
    """A broker, or what looks into the traffic on the way, cuts the line at it: all others pass it, and it waits."""
    cut = [True]

    def answer(topic: str) -> int:
        if cut[0] and topic.endswith("evt/alert"):
            raise ConnectionResetError
        return 0

    broker = Hostile(answer)
    journal = make_journal(tmp_path / "state", [alert_draft(alert(3)), *(result(minute) for minute in range(30))])
    uplink = linked(journal, broker.url, acknowledge="puback")
    wait_until(lambda: waiting(journal.path) == 1, "all others")
    before = broker.connections
    wait_until(lambda: broker.connections > before, "the next connection, after it was tried last")
    journal.enqueue([result(30)])
    since = len(broker.published)
    uplink.wake()
    wait_until(lambda: waiting(journal.path) == 1, "another one")
    topics = [topic.rpartition("/")[2] for topic in broker.published[since:]]
    tries = topics[: topics.index("result")].count("alert")
    assert tries < BARREN, "what is known to end connections is not tried first again"
    cut[0] = False
    wait_until(lambda: waiting(journal.path) == 0, "the alert")
    broker.close()


def test_an_event_that_is_rejected_once_is_sent_again_on_the_same_connection(linked: Linked, tmp_path: Path) -> None:
    """A broker that is out of order for a moment says 0x80; the connection may hold for weeks."""
    codes = iter([0x80, 0x80])
    broker = Hostile(lambda topic: 0 if topic.endswith(("state", "result")) else next(codes, 0))
    journal = make_journal(tmp_path / "state", [alert_draft(alert(3)), result(0)])
    uplink = linked(journal, broker.url, acknowledge="puback")
    error_of(uplink, "refuses bulk, evt/alert: unspecified")
    assert waiting(journal.path) == 1
    wait_until(lambda: waiting(journal.path) == 0, "the alert")
    wait_until(lambda: uplink.error is None, "the error to end")
    assert broker.connections == 1
    broker.close()


def test_a_wrong_password_is_named_and_never_shown(
    mosquitto: MakeBroker, linked: Linked, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    empty = tmp_path / "passwords"
    empty.touch(mode=0o600)
    broker = mosquitto(extra=[f"password_file {empty}", "allow_anonymous false"])
    secret = tmp_path / "secret"
    secret.write_text("open-sesame-4711\n")
    journal = make_journal(tmp_path / "state", [result(0)])
    uplink = linked(journal, broker.url, username=DEVICE, password_file=secret)
    reason = error_of(uplink, "refuses the connection")
    assert f"broker 127.0.0.1:{broker.port} refuses the connection: not authorized (0x87)" in reason
    assert "4711" not in caplog.text + reason
    assert not uplink.connected
    assert waiting(journal.path) == 1


def test_a_missing_password_file_is_named(linked: Linked, tmp_path: Path) -> None:
    journal = make_journal(tmp_path / "state", [result(0)])
    uplink = linked(journal, "mqtt://127.0.0.1:1", username="me", password_file=tmp_path / "none")
    assert str(tmp_path / "none") in error_of(uplink, "mqtt.password_file")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mqtt://127.0.0.1:{port}", "nobody listens there; is the broker running?"),
        ("mqtt://no-such-host.invalid:1883", "this host name is unknown"),
    ],
)
def test_a_broker_that_is_not_there_is_named(linked: Linked, tmp_path: Path, url: str, words: str) -> None:
    journal = make_journal(tmp_path / "state", [result(0)])
    error_of(linked(journal, url.format(port=find_port())), words)


def test_a_broker_that_takes_little_at_a_time(
    mosquitto: MakeBroker, linked: Linked, taken: Callable[..., Store], tmp_path: Path
) -> None:
    """Receive maximum 5, packets up to 16 KiB: everything passes in parts, and the broker never has to complain."""
    broker = mosquitto(extra=["max_inflight_messages 5", "max_packet_size 16384"])
    store = taken(broker.url)
    noise = random.Random(7)
    drafts = [result(minute, values={f"s{i}": noise.random() for i in range(100)}) for minute in range(600)]
    large = alert(3)
    size = 4000
    large.evidence = Evidence(
        times=large.evidence.times[:1] * size if large.evidence else [],
        sensors=["s1"],
        values=[[noise.random() for _ in range(size)]],
        mean=[0.0],
        scale=[1.0],
        scores=[noise.random() for _ in range(size)],
    )
    journal = make_journal(tmp_path / "state", [*drafts, alert_draft(large), alert_draft(alert(9))])
    uplink = linked(journal, broker.url)
    wait_until(lambda: waiting(journal.path) == 0, "the outbox to empty")
    assert stored(store) == len(rows(store, t.reading)) == 600
    evidence = {row["alert_id"]: row["evidence"] is not None for row in rows(store, t.alert_event)}
    assert evidence == {alert(3).alert_id: False, alert(9).alert_id: True}  # without it rather than not
    assert uplink.error is None
    log = broker.log.read_text()
    assert "protocol error" not in log.lower()
    assert log.count(f"as {DEVICE} ") == 1  # one connection


def test_numbers_given_up_on_the_device_are_not_waited_for(
    mosquitto: MakeBroker, linked: Linked, taken: Callable[..., Store], tmp_path: Path
) -> None:
    broker = mosquitto()
    store = taken(broker.url)
    journal = make_journal(tmp_path / "state", [result(minute) for minute in range(50)])
    outbox = Outbox(journal.path)
    outbox.acknowledge(Ack(epoch=journal.epoch, upto=20))  # as an eviction does: the cloud will never see these numbers
    outbox.close()
    linked(journal, broker.url)
    wait_until(lambda: waiting(journal.path) == 0, "the outbox to empty")
    ack = last_ack(store)
    assert ack is not None
    assert (ack.upto, ack.also) == (50, [])


def test_nonsense_on_the_wire_stops_nobody(
    mosquitto: MakeBroker, linked: Linked, taken: Callable[..., Store], tmp_path: Path
) -> None:
    from paho.mqtt import publish
    from paho.mqtt.enums import MQTTProtocolVersion

    broker = mosquitto()
    store = taken(broker.url)
    journal = make_journal(tmp_path / "state", [result(0)])
    uplink = linked(journal, broker.url)
    wait_until(lambda: waiting(journal.path) == 0, "the first event")
    for channel, payload in (
        ("evt/result", b"\x00\xff"),
        ("evt/result/deeper", b"{}"),
        ("bulk", b"\x28\xb5\x2f\xfd" + b"\x00" * 99),
        ("state", b"[]"),
        ("ack", b"not an acknowledgement"),
        ("ack", json.dumps({"epoch": journal.epoch, "upto": -5, "also": ["x"]}).encode()),
        ("ack", json.dumps({"epoch": "feed", "upto": 10**9}).encode()),
    ):
        publish.single(
            f"fieldwatch/v1/d/{DEVICE}/{channel}",
            payload,
            qos=1,
            hostname="127.0.0.1",
            port=broker.port,
            protocol=MQTTProtocolVersion.MQTTv5,
        )
    journal.enqueue([result(1), alert_draft(alert(1))])
    uplink.wake()
    wait_until(lambda: waiting(journal.path) == 0, "the events after the nonsense")
    assert stored(store) == 2
    wait_until(lambda: len(rows(store, t.quarantine)) == 4, "the nonsense in quarantine")


def publish_unreadable(port: int) -> None:
    """Publish what MQTT allows and the library cannot read: U+FEFF in a property."""
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.connect("127.0.0.1", port)
    client.loop_start()
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.UserProperty = ("floor", "1\ufeff")
    client.publish(f"fieldwatch/v1/d/{DEVICE}/evt/result", b"{}", qos=1, properties=properties).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


def test_a_packet_that_the_library_cannot_read_is_set_aside(
    mosquitto: MakeBroker, taken: Callable[..., Store], linked: Linked, tmp_path: Path
) -> None:
    broker = mosquitto()
    store = taken(broker.url)
    publish_unreadable(broker.port)
    journal = make_journal(tmp_path / "state", [result(0)])
    linked(journal, broker.url)
    wait_until(lambda: waiting(journal.path) == 0, "the event after the packet")
    (refused,) = rows(store, t.quarantine)
    assert "cannot be read: [MQTT-1.5.4-3] U+FEFF" in refused["reason"]
    assert refused["topic"] == f"fieldwatch/v1/d/{DEVICE}/evt/result"
    assert broker.log.read_text().count("as fieldwatch.ingest ") == 1  # one connection


def test_after_a_protocol_error_the_session_is_given_up(
    mosquitto: MakeBroker,
    taken: Callable[..., Store],
    linked: Linked,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from fieldwatch_cloud.ingest import link

    monkeypatch.delattr(link._Client, "_handle_publish")
    broker = mosquitto()
    store = taken(broker.url)
    publish_unreadable(broker.port)
    journal = make_journal(tmp_path / "state", [result(0)])
    linked(journal, broker.url)
    wait_until(lambda: waiting(journal.path) == 0, "the event after the packet")
    assert stored(store) == 1


# ---- TLS -------------------------------------------------------------------------------------------------------


@pytest.fixture
def secure(mosquitto: MakeBroker, tmp_path: Path) -> tuple[Authority, Broker]:
    """A broker that asks for certificates and takes the device's name from them."""
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("server", "localhost")
    rules = tmp_path / "acl"
    rules.write_text(
        "user fieldwatch.ingest\ntopic readwrite fieldwatch/v1/d/#\n"
        "pattern write fieldwatch/v1/d/%u/evt/#\npattern write fieldwatch/v1/d/%u/bulk\n"
        "pattern write fieldwatch/v1/d/%u/state\npattern read fieldwatch/v1/d/%u/ack\n"
    )
    extra = [f"cafile {authority.file}", f"certfile {certificate}", f"keyfile {key}", "require_certificate true"]
    extra += ["use_identity_as_username true", "allow_anonymous false", f"acl_file {rules}"]
    return authority, mosquitto(extra=extra)


def test_certificates_admit_device_and_ingest(
    secure: tuple[Authority, Broker], linked: Linked, taken: Callable[..., Store], tmp_path: Path
) -> None:
    authority, broker = secure
    url = f"mqtts://localhost:{broker.port}"
    certificate, key = authority.issue("fieldwatch.ingest")
    store = taken(url, ca=authority.file, certificate=certificate, key=key)
    certificate, key = authority.issue(DEVICE)
    journal = make_journal(tmp_path / "state", [*(result(minute) for minute in range(30)), alert_draft(alert(1))])
    uplink = linked(journal, url, ca=authority.file, certificate=certificate, key=key)
    wait_until(lambda: waiting(journal.path) == 0, "the outbox to empty")
    assert (stored(store), len(rows(store, t.alert)), uplink.error) == (30, 1, None)


def test_a_broker_that_cannot_prove_itself_gets_nothing(
    secure: tuple[Authority, Broker], linked: Linked, tmp_path: Path
) -> None:
    authority, broker = secure
    certificate, key = authority.issue(DEVICE)
    ours: dict[str, Any] = {"ca": authority.file, "certificate": certificate, "key": key}
    foreign = Authority(tmp_path, "foreign")
    journal = make_journal(tmp_path / "state", [result(0)])
    url = f"mqtts://localhost:{broker.port}"
    uplink = linked(journal, url, **(ours | {"ca": foreign.file}))
    assert "check mqtt.ca and the host name in mqtt.url" in error_of(uplink, "its certificate is not trusted")
    other_name = linked(journal, f"mqtts://127.0.0.1:{broker.port}", **ours)
    error_of(other_name, "its certificate is not trusted")
    broken = linked(journal, url, **(ours | {"key": certificate}))
    error_of(broken, f"mqtt.certificate {certificate} cannot be used")
    assert waiting(journal.path) == 1


def test_a_plain_port_for_tls_is_named(mosquitto: MakeBroker, linked: Linked, tmp_path: Path) -> None:
    broker = mosquitto()
    journal = make_journal(tmp_path / "state", [result(0)])
    error_of(linked(journal, f"mqtts://127.0.0.1:{broker.port}"), "is mqtt:// or mqtts:// right for this port?")


def test_a_tls_port_for_plain_mqtt_is_named(secure: tuple[Authority, Broker], linked: Linked, tmp_path: Path) -> None:
    _, broker = secure
    journal = make_journal(tmp_path / "state", [result(0)])
    uplink = linked(journal, f"mqtt://127.0.0.1:{broker.port}")
    error_of(uplink, "does this port want TLS, mqtts://")


def test_certificates_that_have_expired_are_named(
    secure: tuple[Authority, Broker], mosquitto: MakeBroker, linked: Linked, tmp_path: Path
) -> None:
    """Ours, and the broker's: another person has to renew each."""
    authority, broker = secure
    certificate, key = authority.issue(DEVICE, days=-2)
    old = linked(
        make_journal(tmp_path / "one", [result(0)]),
        f"mqtts://localhost:{broker.port}",
        ca=authority.file,
        certificate=certificate,
        key=key,
    )
    error_of(old, "our certificate has expired: renew mqtt.certificate")
    certificate, key = authority.issue("old-server", "localhost", days=-2)
    other = mosquitto(extra=[f"certfile {certificate}", f"keyfile {key}"])
    url = f"mqtts://localhost:{other.port}"
    error_of(
        linked(make_journal(tmp_path / "two", [result(0)]), url, ca=authority.file),
        "its certificate has expired, or this computer's clock is wrong",
    )


def test_a_certificate_that_is_asked_for_is_named(
    secure: tuple[Authority, Broker], linked: Linked, tmp_path: Path
) -> None:
    authority, broker = secure
    journal = make_journal(tmp_path / "state", [result(0)])
    uplink = linked(journal, f"mqtts://localhost:{broker.port}", ca=authority.file)
    error_of(uplink, "it asks for a certificate: set mqtt.certificate and mqtt.key")


@pytest.mark.parametrize(
    ("scheme", "words"),
    [("mqtt", "it takes the connection and does not answer; does this port want TLS"), ("mqtts", "the TLS handshake")],
)
def test_a_port_that_takes_connections_and_says_nothing_is_named(
    linked: Linked, tmp_path: Path, scheme: str, words: str
) -> None:
    broker = Hostile(lambda _: None, silent=True)
    journal = make_journal(tmp_path / "state", [result(0)])
    error_of(linked(journal, f"{scheme}://127.0.0.1:{broker.port}"), words)
    broker.close()


def test_a_name_server_that_is_silent_is_named_and_does_not_hold_up_the_end(
    linked: Linked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()

    def silent(*_: object, **__: object) -> None:
        answered.wait(60)
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    uplink = linked(make_journal(tmp_path / "state", [result(0)]), "mqtt://broker.example:1883")
    error_of(uplink, "the name server has not answered within")
    before = threading.active_count()
    time.sleep(2)
    assert threading.active_count() <= before, "it is not asked again before it has answered"
    answered.set()
    error_of(uplink, "this host name is unknown: broker.example")


def test_a_twin_with_our_identity_is_named_and_stays_named(
    mosquitto: MakeBroker, linked: Linked, taken: Callable[..., Store], tmp_path: Path
) -> None:
    broker = mosquitto()
    taken(broker.url)
    first = linked(make_journal(tmp_path / "one", [result(0)]), broker.url)
    wait_until(lambda: first.connected, "the first one")
    second = linked(make_journal(tmp_path / "two", [result(1)]), broker.url)
    for uplink in (first, second):
        error_of(uplink, "this device's id")
    wait_until(lambda: first.connected, "it to come back")
    assert first.error is not None, "what it could send meanwhile is no news"


# ---- a broker that misbehaves --------------------------------------------------------------------------------------


def test_a_broker_that_answers_pings_and_confirms_nothing_is_left(linked: Linked, tmp_path: Path) -> None:
    broker = Hostile(lambda topic: None if "/evt/" in topic else 0)
    uplink = linked(make_journal(tmp_path / "state", [result(0)]), broker.url)
    error_of(uplink, "nothing was confirmed for 3 s")
    wait_until(lambda: broker.connections > 1, "the next connection")
    broker.close()


def test_a_broker_that_does_not_answer_a_subscription_is_left_and_named(linked: Linked, tmp_path: Path) -> None:
    """It confirms everything else, so nothing else tells that no event will ever be sent."""
    broker = Hostile(lambda topic: 0, deaf=True)
    uplink = linked(make_journal(tmp_path / "state", [result(0)]), broker.url)
    error_of(uplink, "no answer to our subscriptions for 3 s")
    wait_until(lambda: broker.connections > 1, "the next connection")
    broker.close()


def test_a_broker_that_is_over_its_quota_is_asked_again_with_one_message_only(linked: Linked, tmp_path: Path) -> None:
    """Not with the whole window, and not at once; when it takes messages again everything follows."""
    full = [True]
    broker = Hostile(lambda topic: 0 if topic.endswith("/state") or not full[0] else 0x97)
    journal = make_journal(tmp_path / "state", [alert_draft(alert(minute)) for minute in range(30)])
    uplink = linked(journal, broker.url, acknowledge="puback")
    error_of(uplink, "0x97")
    wait_until(lambda: sum("/evt/" in topic for topic in broker.published) >= 32, "two more tries")
    time.sleep(1.5)
    assert sum("/evt/" in topic for topic in broker.published) <= 30 + 6, "one at a time, with longer pauses"
    assert broker.connections == 1
    full[0] = False
    wait_until(lambda: waiting(journal.path) == 0, "the outbox to empty")
    broker.close()


# ---- the cloud's side says it in the same words -------------------------------------------------------------------


def said_by_ingest(store: Store, url: str, words: str, **more: Any) -> str:
    ingest = Ingest(store, BrokerConfig.model_validate({"url": url, **more}))
    ingest.start()
    try:
        return str(wait_until(lambda: ingest.error if words in (ingest.error or "") else None, f"ingest: {words!r}"))
    finally:
        ingest.stop()


def test_ingest_says_in_words_why_there_is_no_way_to_the_broker(mosquitto: MakeBroker, tmp_path: Path) -> None:
    """With the remedy, and with the keys of its own configuration."""
    store = make_store(tmp_path)
    port = find_port()
    reason = said_by_ingest(store, f"mqtt://127.0.0.1:{port}", "nobody listens")
    assert reason == f"broker 127.0.0.1:{port}: nobody listens there; is the broker running?"
    (tmp_path / "passwords").touch(mode=0o600)
    broker = mosquitto(extra=[f"password_file {tmp_path / 'passwords'}", "allow_anonymous false"])
    reason = said_by_ingest(store, broker.url, "refuses the connection")
    assert "not authorized (0x87); check our certificate or password and the broker's access rules" in reason
    said_by_ingest(store, broker.url.replace("mqtt:", "mqtts:"), "mqtts:// right for this port?")
    store.close()
