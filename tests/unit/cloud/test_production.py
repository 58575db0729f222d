"""Production mode refuses each unsafe setting with its remedy, in every command; development mode takes them all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fieldwatch_cloud.__main__ import main
from fieldwatch_cloud.config import ConfigError, load
from fieldwatch_cloud.production import exposed, unsafe

from tests.conftest import ROOT

SAFE = """\
[web]
url = "https://watch.lab.test/"
proxies = ["127.0.0.1"]
{web}
[broker]
url = "mqtts://broker.lab.test:8883"
certificate = "ingest.pem"
key = "ingest.key"
{broker}
[enrolment]
broker = "mqtts://broker.lab.test:8883"
updates = "https://updates.lab.test/"
root = "root.json"
[notify]
url = "https://watch.lab.test/"
heartbeat = "https://hc.lab.test/ping"
[notify.smtp]
host = "mail.lab.test"
sender = "a@lab.test"
[notify.channels.desk]
kind = "webhook"
url = "https://desk.lab.test/"
secret_file = "hook"
[oidc]
issuer = "https://id.lab.test"
client_id = "x"
"""
SAFE_TEXT = SAFE.format(web="", broker="")
CASES = [
    ('url = "https://watch.lab.test/"\nproxies = ["127.0.0.1"]\n', "",
     "web.url is missing: without it there are no accounts; give the https address that people open"),
    ('[broker]\n', 'start_token = "0123456789012345678901"\n[broker]\n',
     "web.start_token stands in the file: remove it; people have accounts, scripts make tokens of their own"),
    ('[broker]\n', 'api_token = "0123456789012345678901"\n[broker]\n',
     "web.api_token stands in the file: remove it; people have accounts, scripts make tokens of their own"),
    ('url = "mqtts://broker.lab.test:8883"\ncertificate = "ingest.pem"\nkey = "ingest.key"\n', "",
     'broker.url is "embedded", a broker for trying out: name one of your own, "mqtts://broker.example.org:8883"'),
    ('url = "mqtts://broker.lab.test:8883"\ncertificate = "ingest.pem"\nkey = "ingest.key"\n',
     'url = "mqtt://broker.lab.test:1883"\n',
     'broker.url is mqtt://broker.lab.test:1883: without TLS everybody on the way can read and change: "mqtts://…"'),
    ('certificate = "ingest.pem"\nkey = "ingest.key"\n', "",
     "broker: neither certificate nor username: a broker that lets us in so lets anybody in as ingest"),
    ('key = "ingest.key"\n', 'key = "ingest.key"\ngroup = "many"\n',
     "broker.group is for several ingest processes, and the store is an SQLite file, which one process writes: "
     "remove it"),
    ('\nbroker = "mqtts://', '\nbroker = "mqtt://',
     'enrolment.broker is mqtt://broker.lab.test:8883: devices would send without TLS: "mqtts://…"'),
    ('updates = "https://', 'updates = "http://',
     "enrolment.updates is http://updates.lab.test/: devices would fetch without TLS: https"),
    ('[notify]\nurl = "https://watch.lab.test/"\n', "[notify]\n",
     "notify.url is http://127.0.0.1:8080: links in messages must lead to the https address that people open"),
    ('sender = "a@lab.test"', 'sender = "a@lab.test"\nsecurity = "none"',
     'notify.smtp.security is "none": mail would cross the network to mail.lab.test in the clear: "starttls"'),
    ('heartbeat = "https://', 'heartbeat = "http://', "notify.heartbeat must be https"),
    ('url = "https://desk', 'url = "http://desk', "notify.channels.desk.url must be https"),
    ('issuer = "https://', 'issuer = "http://', "oidc.issuer is http://id.lab.test: it must be https"),
]  # fmt: skip


def write(folder: Path, text: str) -> Path:
    path = folder / "cloud.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_safe_is_taken(tmp_path: Path) -> None:
    assert load(write(tmp_path, 'mode = "production"\n' + SAFE_TEXT)).production


@pytest.mark.parametrize(("old", "new", "message"), CASES, ids=[case[2].split()[0] for case in CASES])
def test_what_is_not_is_refused_with_the_remedy(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert SAFE_TEXT.count(old) == 1
    text = SAFE_TEXT.replace(old, new)
    path = write(tmp_path, 'mode = "production"\n' + text)
    with pytest.raises(ConfigError) as refused:
        load(path)
    assert refused.value.problems == [f"{path}: in production {message}"]
    assert not load(write(tmp_path, text)).production, "in development it may be"


def test_all_are_told_at_once_and_no_command_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, 'mode = "production"\n[web]\napi_token = "0123456789012345678901"\n')
    for command in (["serve"], ["user", "list"]):
        assert main([*command, "--config", str(path)]) == 2
        said = capsys.readouterr().err.splitlines()
        assert [line.removeprefix(f"{path}: in production ").split()[0] for line in said] == [
            "web.url", "web.api_token", "broker.url",
        ]  # fmt: skip
    assert list(tmp_path.iterdir()) == [path], "nothing was made"


def test_a_local_mail_server_needs_no_tls(tmp_path: Path) -> None:
    text = SAFE_TEXT.replace('host = "mail.lab.test"', 'host = "localhost"\nsecurity = "none"')
    assert load(write(tmp_path, 'mode = "production"\n' + text)).production


@pytest.mark.skipif(os.name == "nt", reason="Windows has no mode of files")
def test_a_secret_that_everybody_can_read_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, 'mode = "production"\n' + SAFE_TEXT)
    config = load(path)
    (tmp_path / "enrolment").mkdir()
    secrets = ["ingest.key", "hook", "enrolment/authority.key", "enrolment/server.key"]
    for name in secrets:
        (tmp_path / name).write_text("secret")
        (tmp_path / name).chmod(0o640)
    assert exposed(config) == []
    for name in secrets:
        (tmp_path / name).chmod(0o644)
    found = exposed(config)
    assert len(found) == len(secrets) and all(str(tmp_path / name) in str(found) for name in secrets)
    for command in ("serve", "ingest"):
        assert main([command, "--config", str(path)]) == 2
        assert "can be read by every account of this machine: chmod o=" in capsys.readouterr().err


def test_the_examples() -> None:
    production = load(ROOT / "config" / "prod" / "cloud.toml")
    assert production.production and unsafe(production) == []
    development = load(ROOT / "config" / "dev" / "cloud.toml")
    assert not development.production and unsafe(development) != [], "the two are not the same"
