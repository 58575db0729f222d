"""The device's side of enrolment: the file it writes, when it renews, what people are told."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PureWindowsPath
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from fieldwatch_agent.config import ConfigError, load
from fieldwatch_agent.enrol.client import Client, Refused, Unreachable, _why
from fieldwatch_agent.enrol.enroll import Wish, enroll
from fieldwatch_agent.enrol.identity import IdentityError, check, key_text, new_key
from fieldwatch_agent.enrol.renewal import due
from fieldwatch_agent.enrol.settings import Enrolled, Settings, Unwritable, render
from fieldwatch_agent.enrol.watch import FILE, Certificate, CertificateWatch
from fieldwatch_agent.troubles import Facts, derive
from fieldwatch_cloud.enrolment.authority import Authority, pem
from fieldwatch_contract.enrolment import NO_PIN, Token, digest

from tests.conftest import running


@pytest.mark.parametrize("log", ["/data/press/readings*.csv", r"C:\Logs\it's\*.csv", r"D:\Messung Ä\*.csv"])
@pytest.mark.parametrize("updates", [None, "https://updates.example.org/"])
def test_the_written_configuration_is_one(tmp_path: Path, log: str, updates: str | None) -> None:
    identity = PureWindowsPath(r"C:\ProgramData\Fieldwatch\state\identity")
    given = Enrolled(
        url="https://fw.example.org:8443",
        broker="mqtts://fw.example.org:8883",
        identity=identity,  # type: ignore[arg-type]
        updates=updates,
        channel="stable",
        updates_ca=True,
    )
    keys = {"path": log, "period": "60s", "timestamp": {"timezone": "Europe/Berlin"}, "missing": [-9999, 'OV"LD']}
    settings = Settings("press-0001", "press", keys, tmp_path / "state", given)
    text = render(settings)
    path = tmp_path / "agent.toml"
    path.write_text(text, encoding="utf-8")
    config = load(path, {})
    assert config.log.missing == (-9999, 'OV"LD') and config.log.timestamp.timezone == "Europe/Berlin"
    assert config.log.path.endswith(log) and config.device.id == "press-0001"
    assert (config.updates is None) == (updates is None)
    assert config.enrolment is not None and config.enrolment.url == "https://fw.example.org:8443"
    assert config.mqtt is not None and config.mqtt.certificate == config.mqtt.key


def test_due_at_a_third_of_the_life() -> None:
    begins = datetime(2026, 1, 1, tzinfo=UTC)
    expires = begins + timedelta(days=180)
    assert [due(begins, expires, begins + timedelta(days=day)) for day in (0, 119, 120, 180, 300)] == [
        False, False, True, True, True,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("days", "problem", "words"),
    [
        (31.0, "no answer", None),
        (30.0, "no answer", "expires in 30 days, on 2026-12-26; it is not renewed: no answer"),
        (3.2, "", "expires in 3 days, on 2026-12-26"),
        (-1.0, "was revoked", "has expired, on 2026-12-26; it is not renewed: was revoked"),
    ],
)
def test_people_are_told_a_month_ahead(days: float, problem: str, words: str | None) -> None:
    found = derive(Facts(certificate=Certificate("2026-12-26", days, problem)))
    told = [each.detail for each in found if each.kind == "certificate_expiring"]
    assert told == ([f"the device's certificate {words}"] if words else [])


def test_a_damaged_record_tells_nothing_and_stops_nothing(tmp_path: Path) -> None:
    watch = CertificateWatch(tmp_path)
    assert watch.look() is None
    for text in (b"", b"[]", b'{"expires": 3}', b'{"expires": "2026-12-26T00:00:00", "problem": ""}', b"\xff"):
        (tmp_path / FILE).write_bytes(text)
        assert CertificateWatch(tmp_path).look() is None
    good = {"expires": (datetime.now(UTC) + timedelta(days=2)).isoformat(), "problem": "p"}
    (tmp_path / FILE).write_text(json.dumps(good))
    seen = CertificateWatch(tmp_path).look()
    assert seen is not None and 1.9 < seen.days < 2.1 and seen.problem == "p"


class InBetween:
    """A false server that knows the authority's certificate, which is no secret, and has an authority of its own."""

    def __init__(self, folder: Path) -> None:
        now = datetime.now(UTC)
        self.real, self.own = Authority.create("real", now), Authority.create("own", now)
        key = new_key()
        pair = folder / "server.pem"
        pair.write_bytes(key_text(key) + pem(self.own.server(["localhost"], key.public_key(), now)))
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pair)
        self.got: list[bytes] = []

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Its address, until the end of the block."""
        both, got = pem(self.real.certificate) + pem(self.own.certificate), self.got

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(both)

            def do_POST(self) -> None:
                got.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_error(500)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.socket = self._context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        with running(server) as port:
            yield f"https://localhost:{port}"


def test_an_authority_beside_the_pinned_one_is_not_trusted(tmp_path: Path) -> None:
    between = InBetween(tmp_path)
    token = Token.draw(digest(between.real.certificate.public_bytes(Encoding.DER)), NO_PIN)
    log = {"path": "/data/*.csv", "period": "60s"}
    with between.serving() as url, pytest.raises(Refused, match="certificate is not accepted"):
        enroll(Wish(url, token.text(), tmp_path / "agent.toml", tmp_path / "state", log=log), lambda _: None)
    assert not between.got, "the secret was not sent"


def wish(folder: Path, **more: Any) -> Wish:
    """An enrolment at a port where nobody listens."""
    token = Token.draw(b"a" * 32, NO_PIN).text()
    said: dict[str, Any] = {"device": None, "log": {"path": "/data/*.csv", "period": "60s"}} | more
    return Wish("https://127.0.0.1:1", token, folder / "agent.toml", folder / "state", **said)


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"log": {"path": "/data/*.csv", "period": "60"}}, ConfigError, "[log] period: '60' is not an amount"),
        ({"log": {"path": "~nobody-here/*.csv", "period": "60s"}}, ConfigError, "nobody's home"),
        ({"log": {"path": "/data/\udcff.csv", "period": "60s"}}, Unwritable, "no text in UTF-8"),
        ({"device": "Press 1"}, Refused, "must be 3 to 64"),
        ({"device": "a" * 65}, Refused, "must be 3 to 64"),
    ],
)
def test_what_could_not_be_written_is_said_before_anybody_is_asked(
    tmp_path: Path, more: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as raised:
        enroll(wish(tmp_path, **more), lambda _: None)
    assert words in str(raised.value) and not list(tmp_path.iterdir())


def test_a_configuration_that_is_there_must_be_good_and_says_which_device_this_is(tmp_path: Path) -> None:
    good = '[device]\nid = "press-0001"\ntype = "press"\n[log]\npath = "*.csv"\nperiod = "60s"\n'
    config = tmp_path / "agent.toml"
    for text, said, error, words in (
        (good + "[mqt]\n", None, ConfigError, "did you mean mqtt?"),
        (good, "press-0002", Refused, "[device] id is 'press-0001', and not 'press-0002'"),
        (good, "press-0001", Unreachable, "no answer"),
    ):
        config.write_text(text)
        with pytest.raises(error) as raised:
            enroll(wish(tmp_path, device=said), lambda _: None)
        assert words in str(raised.value) and [each.name for each in tmp_path.iterdir()] == ["agent.toml"]


@pytest.mark.parametrize(
    "url",
    ["", "host:8443", "http://host", "https://", "https://[::1", "https://h:99999", "https://h?x=1", "https://a..b",
     " https://h", "https://h\n", "https://me:secret@h"],
)  # fmt: skip
def test_an_address_that_can_be_none_is_not_tried(tmp_path: Path, url: str) -> None:
    with pytest.raises(Refused, match="the enrolment service's address: ") as raised:
        enroll(replace(wish(tmp_path), url=url), lambda _: None)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("proxy", ["http://me:secret@proxy:abc", "socks5://me:secret@proxy:1", "http://me:secret@[::"])
def test_a_proxy_that_can_be_none_is_said_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy)
    with pytest.raises(Unreachable, match=r"was not asked: the proxy for https, as https_proxy") as raised:
        enroll(replace(wish(tmp_path), url="https://fw.example.org"), lambda _: None)
    assert "secret" not in str(raised.value)


def test_who_answers_in_another_language_is_no_matter_of_certificates(tmp_path: Path) -> None:
    class Ssh(StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")

    with ThreadingTCPServer(("127.0.0.1", 0), Ssh) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"https://127.0.0.1:{server.server_address[1]}"
        with pytest.raises(Refused, match="does not speak TLS as the enrolment service does: is the port right"):
            enroll(replace(wish(tmp_path), url=url), lambda _: None)
        server.shutdown()


def test_an_authority_that_follows_another_vouches_too() -> None:
    now, key = datetime.now(UTC), new_key()
    old, new, other = (Authority.create(name, now) for name in ("old", "new", "other"))
    certificate = pem(new.client("press-0001", key.public_key(), now, 10))
    check(certificate, pem(old.certificate) + pem(new.certificate), key, "press-0001")
    for known in (pem(old.certificate) + pem(other.certificate), b"no certificate"):
        with pytest.raises(IdentityError, match="its own authority did not issue"):
            check(certificate, known, key, "press-0001")
    with pytest.raises(Refused, match="no certificate in PEM"):
        Client("https://127.0.0.1:1", old.certificate.public_bytes(Encoding.DER))


@pytest.mark.parametrize(
    "around", ['"{}"', "'{}'", " {}\n", *(b"\xef\xbb\xbf{}".decode(page) for page in ("utf-8", "cp1252", "cp437"))]
)
def test_a_token_as_shells_hand_it_on(around: str) -> None:
    token = Token.draw(bytes(32), bytes(32))
    assert Token.parse(around.format(token.text())) == token


def test_what_a_server_says_steers_no_terminal() -> None:
    assert _why(json.dumps({"error": "\x1b[31mno\nroot@pc:~# "}).encode()) == " [31mno root@pc:~# "
    assert _why(json.dumps({"error": "x" * 10_000}).encode()) == "x" * 500
    assert _why(b"[]") == _why(b"\xff") == ""
