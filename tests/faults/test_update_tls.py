"""An update server behind the laboratory's own certificate authority, and a proxy that wants a password."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import socket
import ssl
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from fieldwatch_agent.config import load
from fieldwatch_agent.update.activation import Activation
from fieldwatch_agent.update.source import Limits
from fieldwatch_agent.update.updater import UpdateResult, pull, update

from tests.bundles import make_bundle
from tests.conftest import running
from tests.updates import Site, serve

QUICK = Limits(connect=2, read=2, total=30)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(made.public_bytes(Encoding.PEM) + secret)
    return path


def test_a_server_is_trusted_by_the_authority_that_the_configuration_names(tmp_path: Path) -> None:
    site = Site.make(tmp_path)
    site.publish(make_bundle(version="v1"))
    own, other = certificate(tmp_path, "own"), certificate(tmp_path, "other")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site.repo)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    (tmp_path / "root.json").write_bytes(site.root)
    with running(server) as port:

        def configured(ca: str) -> UpdateResult:
            text = (
                '[device]\nid = "press-0001"\ntype = "press"\n[log]\npath = "logs/*.csv"\nperiod = "60s"\n'
                '[mqtt]\nurl = "mqtt://127.0.0.1:1"\n[state]\ndir = "state"\n'
                f'[updates]\nurl = "https://127.0.0.1:{port}/"\n{ca}\n'
            )
            (tmp_path / "agent.toml").write_text(text)
            return update(load(tmp_path / "agent.toml"))

        for ca in ("", f'ca = "{other}"'):
            result = configured(ca)
            assert (result.outcome, result.trouble) == ("failed", "down")
            assert "certificate" in result.detail
        result = configured('ca = "missing.pem"')
        assert (result.outcome, result.trouble) == ("failed", "configuration")
        assert "updates.ca: there is no file" in result.detail
        assert Activation(tmp_path / "state").note() == result.detail, "the service tells it"
        assert configured(f'ca = "{own}"').outcome == "activated"


class Proxy(BaseHTTPRequestHandler):
    """Forwards plain requests for whoever says the password."""

    def do_GET(self) -> None:
        if self.headers.get("Proxy-Authorization") != "Basic " + base64.b64encode(b"lab:p@ss word").decode():
            self.send_error(407)
            return
        host, _, rest = self.path.removeprefix("http://").partition("/")
        port = int(host.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as there:
            there.sendall(f"GET /{rest} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            while data := there.recv(65536):
                self.wfile.write(data)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


def test_a_proxy_gets_the_name_and_password_of_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site.make(tmp_path)
    site.publish(make_bundle(version="v1"))
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)

    def through(login: str, port: int, target: int) -> UpdateResult:
        monkeypatch.setenv("http_proxy", f"http://{login}127.0.0.1:{port}")
        url = f"http://updates.lab.example:{target}/"
        return pull(url, site.root, tmp_path / "state", "press-0001", "press", "stable", limits=QUICK)

    with serve(site.repo) as server, running(ThreadingHTTPServer(("127.0.0.1", 0), Proxy)) as port:
        refused = through("", port, server.port)
        assert (refused.outcome, "407" in refused.detail) == ("failed", True)
        assert through("lab:p%40ss%20word@", port, server.port).outcome == "activated"
