"""What keeps the server from starting is told in words with the key to change, exit code 1 or 2, never a traceback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from fieldwatch_cloud.__main__ import main

from tests.authority import Authority
from tests.conftest import find_port


@pytest.fixture
def busy() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield int(sock.getsockname()[1])


def start(folder: Path, text: str, capsys: pytest.CaptureFixture[str], command: str = "serve") -> tuple[int, str]:
    """Return exit code and words of a server that cannot start."""
    config = folder / "cloud.toml"
    config.write_text(text, encoding="utf-8")
    code = main([command, "--config", str(config)])
    return code, capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("command", ["serve", "web"])
def test_a_web_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str], busy: int, command: str) -> None:
    code, said = start(tmp_path, f"[web]\nport = {busy}\n", capsys, command)
    assert (code, said) == (1, f"port {busy} of 127.0.0.1 is in use: set web.port to a free one")
    assert not (tmp_path / "fieldwatch.db").exists()  # nothing was begun


def test_a_web_address_that_is_not_this_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = '[web]\nhost = "203.0.113.9"\nurl = "https://x.example/"\nproxies = ["127.0.0.1"]\n'
    code, said = start(tmp_path, text, capsys)
    assert (code, said) == (1, "web.host 203.0.113.9 is no address of this machine: set it to one, such as 127.0.0.1")


def test_a_broker_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str], busy: int) -> None:
    code, said = start(tmp_path, f"[web]\nport = {find_port()}\n[broker]\nport = {busy}\n", capsys)
    assert code == 1
    assert said.startswith(f"port {busy} of 127.0.0.1 is in use: set broker.port to a free one")


def test_an_enrolment_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str], busy: int) -> None:
    enrolment = f'[enrolment]\nbroker = "mqtts://broker.example"\nport = {busy}\n'
    ports = f"[web]\nport = {find_port()}\n[broker]\nport = {find_port()}\n"
    config = tmp_path / "cloud.toml"
    config.write_text(ports + enrolment)
    assert main(["enrolment", "init", "--host", "broker.example", "--config", str(config)]) == 0
    for command in (["serve"], ["enrolment", "serve"]):
        assert main([*command, "--config", str(config)]) == 1
        said = capsys.readouterr().err.splitlines()[-1]
        assert said == f"port {busy} of 127.0.0.1 is in use: set enrolment.port to a free one"


def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    code, said = start(tmp_path, f'[web]\nport = {find_port()}\n[store]\npath = "file/below/x.db"\n', capsys)
    assert code == 1
    assert "cannot make its folder" in said


@pytest.mark.parametrize("wrong", ["absent", "text", "foreign key", "locked"])
def test_a_certificate_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str) -> None:
    authority = Authority(tmp_path, "ca")
    certificate, key = authority.issue("web", "localhost")
    if wrong == "absent":
        key.unlink()
    if wrong == "text":
        certificate.write_text("no certificate")
    if wrong == "foreign key":
        _, key = authority.issue("other", "localhost")
    if wrong == "locked":
        from cryptography.hazmat.primitives import serialization

        loaded = serialization.load_pem_private_key(key.read_bytes(), None)
        locked = serialization.BestAvailableEncryption(b"secret")
        key.write_bytes(loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    text = f'[web]\nport = {find_port()}\nurl = "https://x.example/"\ncertificate = "web.pem"\nkey = "{key.name}"\n'
    code, said = start(tmp_path, text, capsys)
    assert code == 2
    assert "web.key" in said
    assert ("cannot be read" if wrong == "absent" else "cannot be used") in said
