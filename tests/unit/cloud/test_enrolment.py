"""The desk: who gets a certificate and who does not; the register under lost answers and two processes."""

from __future__ import annotations

import os
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.client import HTTPSConnection
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from fastapi.testclient import TestClient
from fieldwatch_agent.enrol.identity import check, new_key, request, sign
from fieldwatch_cloud.enrolment import folder as folders
from fieldwatch_cloud.enrolment.authority import LATE_DAYS, SERVER_DAYS, Authority, Refused, common_name, pem
from fieldwatch_cloud.enrolment.desk import Addresses, Desk
from fieldwatch_cloud.enrolment.folder import Folder, FolderError
from fieldwatch_cloud.enrolment.register import Device, RegisterError
from fieldwatch_cloud.enrolment.service import BODY_LIMIT, REFUSALS_A_MINUTE, Service, create_app
from fieldwatch_contract.enrolment import AUTHORITY, ENROL, EnrolRequest, RenewRequest, Token, TokenError

from tests.conftest import find_port

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return folders.init(tmp_path / "enrolment", "test", ["localhost"], ["fieldwatch.ingest"], NOW)


class Clock:
    now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(folder: Folder, clock: Clock) -> Desk:
    return Desk(folder, Addresses("mqtts://localhost:8883", None), now=clock)


def token(folder: Folder, *devices: str, replaces: bool = False, now: datetime = NOW) -> Token:
    drawn = Token.draw(folder.pin, bytes(32))
    folder.register.add(drawn, [Device(each, "press") for each in devices], now, HOUR, replaces)
    return drawn


def ask(given: Token, key: ec.EllipticCurvePrivateKey, device: str | None = None) -> EnrolRequest:
    return EnrolRequest(secret=given.secret.hex(), device=device, request=request(key).decode())


def test_a_certificate_names_the_device_and_is_good_for_a_client_only(folder: Folder, desk: Desk) -> None:
    key = new_key()
    answer = desk.enrol(ask(token(folder, "press-0001"), key))
    check(answer.certificate.encode(), answer.ca.encode(), key, "press-0001")
    certificate = x509.load_pem_x509_certificate(answer.certificate.encode())
    assert common_name(certificate) == "press-0001"
    assert list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    known = folder.register.issued(certificate.serial_number)
    assert known is not None and known.name == "press-0001"


def test_a_name_in_the_request_counts_for_nothing(folder: Folder, desk: Desk) -> None:
    key = new_key()
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fieldwatch.ingest")])
    ).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)  # fmt: skip
    asked = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    answer = desk.enrol(EnrolRequest(secret=token(folder, "press-0001").secret.hex(), request=asked))
    certificate = x509.load_pem_x509_certificate(answer.certificate.encode())
    assert common_name(certificate) == "press-0001"
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_lost_answer_is_given_again_to_the_same_key_only(folder: Folder, desk: Desk) -> None:
    given, key = token(folder, "press-0001"), new_key()
    desk.enrol(ask(given, key))
    assert desk.enrol(ask(given, key)).device == "press-0001"
    with pytest.raises(Refused, match="by another key"):
        desk.enrol(ask(given, new_key()))


@pytest.mark.parametrize(
    ("after", "words"),
    [(timedelta(minutes=61), "has expired"), (timedelta(minutes=59), "")],
)
def test_a_token_ends(folder: Folder, desk: Desk, clock: Clock, after: timedelta, words: str) -> None:
    given = token(folder, "press-0001")
    clock.now = NOW + after
    if not words:
        desk.enrol(ask(given, new_key()))
        return
    with pytest.raises(Refused, match=words):
        desk.enrol(ask(given, new_key()))


def test_who_has_no_token_gets_nothing(folder: Folder, desk: Desk) -> None:
    token(folder, "press-0001")
    with pytest.raises(Refused, match="not known here"):
        desk.enrol(ask(Token.draw(folder.pin, bytes(32)), new_key()))


def test_keys_of_other_kinds_and_broken_requests_are_refused(folder: Folder, desk: Desk) -> None:
    key = rsa.generate_private_key(65537, 2048)
    asked = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    given = token(folder, "press-0001")
    for text in (asked.public_bytes(serialization.Encoding.PEM).decode(), "-----BEGIN nonsense", ""):
        with pytest.raises(Refused, match=r"EC P-256|no PKCS"):
            desk.enrol(EnrolRequest(secret=given.secret.hex(), request=text))
    desk.enrol(ask(given, new_key()))  # and the token is still good


def test_a_replacement_revokes_what_was_there(folder: Folder, desk: Desk) -> None:
    first = desk.enrol(ask(token(folder, "press-0001"), new_key()))
    with pytest.raises(Refused, match="--replace"):
        token(folder, "press-0001")
    desk.enrol(ask(token(folder, "press-0001", replaces=True), new_key()))
    listed = x509.load_pem_x509_crl((folder.path / "revoked.pem").read_bytes())
    serial = x509.load_pem_x509_certificate(first.certificate.encode()).serial_number
    assert [entry.serial_number for entry in listed] == [serial]
    assert listed.is_signature_valid(folder.authority.key.public_key())  # type: ignore[arg-type]


def renewal(folder: Folder, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey) -> RenewRequest:  # fmt: skip  # noqa: E501
    asked = request(key)
    signature = sign(signer, asked).hex()
    return RenewRequest(certificate=pem(certificate).decode(), request=asked.decode(), signature=signature)


@pytest.mark.parametrize(("days", "granted"), [(100, True), (180 + LATE_DAYS - 1, True), (180 + LATE_DAYS + 1, False)])
def test_renewal_needs_the_old_key_and_comes_late_at_most(
    folder: Folder, desk: Desk, clock: Clock, days: int, granted: bool
) -> None:
    old, key = new_key(), new_key()
    certificate = x509.load_pem_x509_certificate(desk.enrol(ask(token(folder, "press-0001"), old)).certificate.encode())
    clock.now = NOW + timedelta(days=days)
    with pytest.raises(Refused, match=r"not signed with the key|expired on"):
        desk.renew(renewal(folder, certificate, key, key))
    if not granted:
        with pytest.raises(Refused, match="expired on"):
            desk.renew(renewal(folder, certificate, key, old))
        return
    new = desk.renew(renewal(folder, certificate, key, old)).certificate.encode()
    check(new, folder.ca, key, "press-0001")


def test_no_foreign_and_no_revoked_certificate_is_renewed(folder: Folder, desk: Desk) -> None:
    key = new_key()
    foreign = Authority.create("test", NOW).client("press-0001", key.public_key(), NOW, 10)
    with pytest.raises(Refused, match="not one of this installation's"):
        desk.renew(renewal(folder, foreign, new_key(), key))
    mine = x509.load_pem_x509_certificate(desk.enrol(ask(token(folder, "press-0001"), key)).certificate.encode())
    assert folder.register.revoke("press-0001", NOW) == 1
    with pytest.raises(Refused, match="was revoked"):
        desk.renew(renewal(folder, mine, new_key(), key))


def test_no_device_gets_the_name_of_ingest(folder: Folder) -> None:
    for name in ("fieldwatch.ingest", "Press", "a", "press/0001", "press+", ""):
        with pytest.raises(Refused, match="must be 3 to 64"):
            folder.authority.issue(name, request(new_key()), NOW)


def test_of_two_that_use_a_token_at_once_one_gets_it(folder: Folder, desk: Desk) -> None:
    given = token(folder, "press-0001")
    outcomes: list[str] = []

    def use() -> None:
        try:
            desk.enrol(ask(given, new_key()))
            outcomes.append("granted")
        except Refused:
            outcomes.append("refused")

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["granted"] + ["refused"] * 7


@pytest.mark.skipif(os.name == "nt", reason="file modes are POSIX; on Windows the folder's rights protect keys")
def test_keys_are_their_owner_s(folder: Folder) -> None:
    for name in ("authority.key", "server.key", "ingest.key"):
        assert (folder.path / name).stat().st_mode & 0o077 == 0


def test_an_authority_is_never_replaced(folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="lock its devices out"):
        folders.init(folder.path, "other", ["localhost"], ["x.y"], NOW)
    (folder.path / "authority.key").unlink()
    with pytest.raises(FolderError, match=r"authority\.key is missing"):
        Folder(folder.path)
    with pytest.raises(FolderError, match="lock its devices out"):
        folders.init(folder.path, "other", ["localhost"], ["x.y"], NOW)


def test_over_http(folder: Folder, desk: Desk) -> None:
    with TestClient(create_app(desk)) as client:
        assert client.get(AUTHORITY).content == folder.ca
        good = client.post(ENROL, json=ask(token(folder, "press-0001"), new_key()).model_dump())
        assert good.status_code == 200 and good.json()["device"] == "press-0001"
        assert client.post(ENROL, content=b"x" * (BODY_LIMIT + 1)).status_code == 413
        assert client.post(ENROL, json={"secret": "no"}).status_code == 422
        body = ask(Token.draw(folder.pin, bytes(32)), new_key()).model_dump()
        codes = [client.post(ENROL, json=body).status_code for _ in range(REFUSALS_A_MINUTE + 1)]
        assert codes == [403] * REFUSALS_A_MINUTE + [429], "guessing is slowed down"


def test_who_guesses_keeps_nobody_else_from_enrolling(desk: Desk) -> None:
    app, body = create_app(desk), ask(Token.draw(bytes(32), bytes(32)), new_key()).model_dump()
    hostile = TestClient(app, client=("2001:db8:0:1::7", 1))
    for _ in range(REFUSALS_A_MINUTE):
        hostile.post(ENROL, json=body)
    asked = {
        address: TestClient(app, client=(address, 1)).get(AUTHORITY).status_code
        for address in ("2001:db8:0:1::8", "2001:db8:0:2::7", "192.0.2.1")
    }
    assert asked == {"2001:db8:0:1::8": 429, "2001:db8:0:2::7": 200, "192.0.2.1": 200}


def test_a_header_makes_nobody_another(folder: Folder, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy on this machine passes TLS through: what a request says of where it comes from is its sender's word."""
    monkeypatch.setattr("fieldwatch_cloud.enrolment.service.REFUSALS_A_MINUTE", 3)
    port = find_port()
    service = Service(desk, "127.0.0.1", port, folder.path / "server.pem", folder.path / "server.key")
    service.start()
    body = ask(Token.draw(bytes(32), bytes(32)), new_key()).model_dump_json()
    client = HTTPSConnection("localhost", port, context=ssl.create_default_context(cadata=folder.ca.decode()))
    try:
        codes = []
        for number in range(4):
            headers = {"Content-Type": "application/json", "X-Forwarded-For": f"192.0.2.{number}"}
            client.request("POST", ENROL, body, headers)
            answer = client.getresponse()
            answer.read()
            codes.append(answer.status)
    finally:
        client.close()
        service.stop()
    assert codes == [403, 403, 403, 429]


def test_what_is_revoked_does_not_come_back_by_the_token_that_brought_it(folder: Folder, desk: Desk) -> None:
    given, key = token(folder, "press-0001", "press-0002"), new_key()
    for device in ("press-0001", "press-0002"):
        desk.enrol(ask(given, key, device))
    folder.register.revoke("press-0001", NOW)
    with pytest.raises(Refused, match="its certificate was revoked"):
        desk.enrol(ask(given, key, "press-0001"))
    desk.enrol(ask(given, key, "press-0002"))  # of the others nothing changed
    desk.enrol(ask(token(folder, "press-0002", replaces=True), new_key()))
    with pytest.raises(Refused, match="its certificate was revoked"):
        desk.enrol(ask(given, key, "press-0002"))


class RevokedMeanwhile:
    """An issuer during whose work the device is revoked."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def issue(self, device: str, request: bytes, now: datetime) -> x509.Certificate:
        self._folder.register.revoke(device, now)
        return self._folder.authority.issue(device, request, now)


def test_nothing_is_handed_out_that_is_issued_while_the_device_is_revoked(folder: Folder, desk: Desk) -> None:
    late = Desk(folder, Addresses("mqtts://localhost:8883", None), RevokedMeanwhile(folder), lambda: NOW)
    with pytest.raises(Refused, match="revoked at this moment"):
        late.enrol(ask(token(folder, "press-0001"), new_key()))
    key = new_key()
    old = x509.load_pem_x509_certificate(desk.enrol(ask(token(folder, "press-0002"), key)).certificate.encode())
    with pytest.raises(Refused, match="revoked at this moment"):
        late.renew(renewal(folder, old, new_key(), key))
    assert folder.register.revoke("press-0002", NOW) == 0, "no certificate that counts is left"


def test_devices_may_be_named_like_our_files(folder: Folder, desk: Desk) -> None:
    for name in ("server", "ingest"):
        desk.enrol(ask(token(folder, name), new_key()))
        assert folder.register.revoke(name, NOW) == 1, "the device's alone"


def test_the_list_of_revoked_certificates_is_whole_while_many_write_it(folder: Folder) -> None:
    """Requests are answered in threads, and each that redeems a token writes it."""
    failed: list[Exception] = []

    def write() -> None:
        for _ in range(10):
            try:
                x509.load_pem_x509_crl(folder.write_revocations(NOW).read_bytes())
            except (OSError, ValueError) as error:
                failed.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failed == []


def test_a_register_that_is_lost_under_the_service_is_not_made_anew(folder: Folder) -> None:
    path = folder.path / "register.db"
    path.unlink()
    with pytest.raises(RegisterError, match="cannot be used"):
        folder.register.issued(1)
    assert not path.exists()


def test_servers_whose_certificates_end_are_named(folder: Folder) -> None:
    assert folder.ending(NOW + timedelta(days=SERVER_DAYS - 91)) == []
    named = [
        Path(each.partition(" ends on ")[0]).name for each in folder.ending(NOW + timedelta(days=SERVER_DAYS - 89))
    ]
    assert named == ["ingest.pem", "server.pem"]


def test_a_server_does_not_become_a_device(tmp_path: Path) -> None:
    folder = folders.init(tmp_path / "enrolment", "test", ["press-0001"], ["fieldwatch.ingest"], NOW)
    certificate = x509.load_pem_x509_certificate((folder.path / "server.pem").read_bytes())
    key = serialization.load_pem_private_key((folder.path / "server.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    desk = Desk(folder, Addresses("mqtts://localhost:8883", None), now=lambda: NOW)
    with pytest.raises(Refused, match="is a server's"):
        desk.renew(renewal(folder, certificate, new_key(), key))


@pytest.mark.parametrize("broken", ["", "fw1-", "fw2-abc", "hello"])
def test_no_token(broken: str) -> None:
    with pytest.raises(TokenError):
        Token.parse(broken)


def test_each_mistyped_character_of_a_token_is_noticed(folder: Folder) -> None:
    text = Token.draw(folder.pin, bytes(32)).text()
    assert Token.parse(f" {text[:40]}\n{text[40:]} ").text() == text
    for place in range(4, len(text) - 1):
        other = "A" if text[place] != "A" else "B"
        with pytest.raises(TokenError, match="incomplete or mistyped"):
            Token.parse(text[:place] + other + text[place + 1 :])
    assert Token.parse(text).secret.hex() not in repr(Token.parse(text))
