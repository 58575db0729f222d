"""``docs/operate-cloud.md``, "Who may come in": its commands run, its configurations start, in the page's order."""

from __future__ import annotations

import os
import re
import shlex
import ssl
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fieldwatch_cloud.access.accounts import Accounts
from fieldwatch_cloud.config import load
from fieldwatch_cloud.server import web_settings
from fieldwatch_cloud.store import Store, sqlite_url

from tests import identity
from tests.conftest import ROOT, Spawn, find_port, wait_until

PASSWORD = "correct horse battery"


def section() -> str:
    text = (ROOT / "docs" / "operate-cloud.md").read_text(encoding="utf-8")
    found = re.search(r"^## Who may come in\n(.*?)^## ", text, re.M | re.S)
    assert found is not None
    return found[1]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", section(), re.S)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_the_commands_of_the_page_run(tmp_path: Path, clean_env: Mapping[str, str]) -> None:
    (tmp_path / "cloud.toml").write_text('[store]\npath = "fieldwatch.db"\n')
    environment = {**clean_env, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(lines) >= 12
    for line in lines:
        command = shlex.split(line, comments=True)
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (line, done.stderr)
        link = re.search(r"\S+/link\?token=(\S+)", done.stdout)
        if link is not None:  # its person follows it, as the page says
            store = Store(sqlite_url(tmp_path / "fieldwatch.db"))
            Accounts(store).set_password(link[1], PASSWORD)
            store.close()
    assert (tmp_path / "audit.csv").read_text().count("\n") > len(lines) / 2


def test_the_configurations_of_the_page_are_taken(tmp_path: Path) -> None:
    (tmp_path / "oidc-secret").write_text("secret\n")
    certificate(tmp_path)
    examples = [one.replace("/etc/fieldwatch/", f"{tmp_path}/") for one in blocks("toml")]
    assert len(examples) == 3
    for number, example in enumerate(examples):
        path = tmp_path / f"{number}.toml"
        path.write_text(example)
        settings = web_settings(load(path), path)
        assert (settings.provider is not None) == ("[oidc]" in example)
        assert settings.address.secure == ("url" in example)
    assert web_settings(load(tmp_path / "0.toml"), None).address.prefix == "/watch"


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_the_annotated_configurations_are_taken(name: str) -> None:
    path = ROOT / "config" / name / "cloud.toml"
    assert web_settings(load(path), path).address.secure == (name == "prod")


def certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "web.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "web.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))


LATE = """
import asyncio, uvicorn

begin = uvicorn.Server.startup

async def startup(*arguments, **more):
    await asyncio.sleep(0.5)
    await begin(*arguments, **more)

uvicorn.Server.startup = startup
"""
"""As ``sitecustomize.py``: a machine so busy that the port opens late."""


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_person_signs_in_over_tls_while_the_command_line_goes_on(
    tmp_path: Path, spawn: Spawn, clean_env: Mapping[str, str]
) -> None:
    """The real program with a certificate: refused without an account, then invited, in, and shut out at once."""
    certificate(tmp_path)
    port, broker = find_port(), find_port()
    config = tmp_path / "cloud.toml"
    config.write_text(
        f'[web]\nport = {port}\nurl = "https://localhost:{port}/"\ncertificate = "web.pem"\nkey = "web.key"\n'
        f'[broker]\nport = {broker}\n[store]\npath = "fieldwatch.db"\n'
    )

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        full = [sys.executable, "-m", "fieldwatch_cloud", *command, "--config", str(config)]
        return subprocess.run(full, env=clean_env, capture_output=True, text=True, check=False, timeout=60)

    refused = run("serve")
    assert refused.returncode == 2 and "user invite NAME --role admin" in refused.stderr
    link = run("user", "invite", "ada", "--role", "admin").stdout.strip()
    assert link.startswith(f"https://localhost:{port}/link?token=")
    command = [sys.executable, "-m", "fieldwatch_cloud", "serve", "--config", config]
    (tmp_path / "sitecustomize.py").write_text(LATE)
    busy = {**clean_env, "PYTHONPATH": str(tmp_path)}
    server = spawn(command, env=busy, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout.readline() == f"dashboard: https://localhost:{port}/\n"  # no start link
    trust = ssl.create_default_context(cafile=str(tmp_path / "web.pem"))
    with httpx.Client(verify=trust, base_url=f"https://localhost:{port}") as browser:  # announced: nobody is refused
        wait_until(lambda: browser.get("/healthz").status_code == 200, "a server that is well")
        form = {"token": link.split("token=")[1], "password": PASSWORD, "again": PASSWORD}
        answer = browser.post("/link", data=form)
        assert answer.status_code == 303 and "__Host-fieldwatch" in answer.headers["set-cookie"]
        assert browser.get("/users").status_code == 200
        second = run("user", "invite", "bob", "--role", "admin").stdout.strip().split("token=")[1]
        httpx.post(
            f"https://localhost:{port}/link",
            data={"token": second, "password": PASSWORD, "again": PASSWORD},
            verify=trust,
        )
        assert run("user", "disable", "ada", "--why", "left").returncode == 0
        assert browser.get("/users").headers["location"].startswith("/sign-in")
    assert "unbroken" in run("audit", "verify").stdout


NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {folder}/web.pem;
        ssl_certificate_key {folder}/web.key;
        {location}
    }}
}}
"""


@pytest.mark.nginx
@pytest.mark.timeout(300)
def test_a_person_signs_in_behind_the_proxy_of_the_page_through_the_provider_of_the_page(
    tmp_path: Path, spawn: Spawn, clean_env: Mapping[str, str]
) -> None:
    """The page's own blocks, real nginx, a real provider: only ports, host and paths are those of this machine."""
    certificate(tmp_path)
    (tmp_path / "oidc-secret").write_text(identity.SECRET)
    inside, outside = find_port(), find_port()
    home = f"https://localhost:{outside}/watch/"
    web = next(one for one in blocks("toml") if "proxies" in one)
    by_provider = next(one for one in blocks("toml") if "[oidc]" in one)
    location = blocks("nginx")[0].replace("127.0.0.1:8080", f"127.0.0.1:{inside}")
    (tmp_path / "nginx.conf").write_text(NGINX.format(folder=tmp_path, port=outside, location=location))
    config = tmp_path / "cloud.toml"

    def run(*command: str) -> str:
        full = [sys.executable, "-m", "fieldwatch_cloud", *command, "--config", str(config)]
        return subprocess.run(full, env=clean_env, capture_output=True, text=True, check=True, timeout=60).stdout

    with identity.provider() as there:
        text = web.replace("port = 8080", f"port = {inside}").replace("https://lab.example.org/watch/", home)
        text += by_provider.replace("https://id.example.org/realms/lab", there.issuer)
        text = text.replace("/etc/fieldwatch/", f"{tmp_path}/")
        config.write_text(f'{text}\n[broker]\nport = {find_port()}\n[store]\npath = "fieldwatch.db"\n')
        link = run("user", "invite", "ada@lab.example", "--role", "admin").strip()
        assert link.startswith(f"{home}link?token=")
        server = [sys.executable, "-m", "fieldwatch_cloud", "serve", "--config", config]
        spawn(server, env=clean_env, stdout=subprocess.DEVNULL)
        spawn(["nginx", "-p", tmp_path, "-c", tmp_path / "nginx.conf"], stderr=subprocess.DEVNULL)
        trust = ssl.create_default_context(cafile=str(tmp_path / "web.pem"))
        with httpx.Client(verify=trust, base_url=home, follow_redirects=True, timeout=60) as browser:
            wait_until(lambda: _well(browser), "a server that is well behind its proxy")
            assert "Sign in with the institute" in browser.get("sign-in").text
            browser.get("sign-in/provider", params={"token": link.split("token=")[1]})
            assert browser.get("users").status_code == 200
            browser.cookies.clear()
            assert "/watch/sign-in" in str(browser.get("users").url)
            browser.get("sign-in/provider")  # the second time the provider alone is enough
            assert browser.get("users").status_code == 200
            with browser.stream("GET", "api/v1/events") as news:
                assert next(news.iter_lines()) == "retry: 3000"  # not held back until the end


def _well(browser: httpx.Client) -> bool:
    try:
        return browser.get("healthz").status_code == 200
    except httpx.TransportError:
        return False
