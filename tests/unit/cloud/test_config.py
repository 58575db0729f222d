"""cloud.toml: one clear sentence for each mistake, all of them at once; the examples are right."""

from __future__ import annotations

from pathlib import Path

import pytest
from fieldwatch_cloud.__main__ import main
from fieldwatch_cloud.config import ConfigError, load

from tests.conftest import ROOT


def write(folder: Path, text: str) -> Path:
    path = folder / "cloud.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["dev", "prod"])
def test_the_examples_are_right(name: str) -> None:
    config = load(ROOT / "config" / name / "cloud.toml")
    assert config.web.host == "127.0.0.1"
    assert config.broker.embedded == (name == "dev")


def test_the_development_example_shows_the_defaults() -> None:
    shown, plain = load(ROOT / "config" / "dev" / "cloud.toml"), load(None)
    assert (shown.web, shown.broker) == (plain.web, plain.broker)
    assert shown.store.path.name == plain.store.path.name


def test_paths_start_at_the_file(tmp_path: Path) -> None:
    assert load(write(tmp_path, '[store]\npath = "data/x.db"')).store.path == tmp_path / "data" / "x.db"
    assert load(write(tmp_path, "[web]\nport = 1")).store.path.parent == tmp_path, "defaults too"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[web]\nprot = 1", ["web.prot: unknown key; did you mean port?"]),
        ("[wbe]\nport = 1", ["wbe: unknown key; did you mean web?"]),
        ("[web]\nport = 70000", ["web.port"]),
        ('[broker]\nurl = "http://x"', ["broker.url", "mqtt://host:port"]),
        ('[broker]\nurl = "mqtt://me:secret@x:1"', ["broker.url", "username and password_file"]),
        ('[broker]\nprogram = "rabbit"', ["broker.program", "mosquitto"]),
        ('[broker]\nurl = "mqtt://x:1"\nca = "ca.pem"', ["broker: ca, certificate and key need TLS", "mqtts://"]),
        ('[broker]\nurl = "mqtt://x"\ncertificate = "a.pem"\nkey = "a.key"', ["broker: ca, certificate and key need"]),
        ('[broker]\nca = "ca.pem"', ["broker: ca, certificate and key need TLS"]),
        ('[broker]\nurl = "mqtts://x"\ncertificate = "a.pem"', ["broker: certificate and key belong together"]),
        ('[broker]\nurl = "mqtts://x"\nkey = "a.key"', ["broker: certificate and key belong together"]),
        ('[broker]\nurl = "mqtts://x"\nusername = "u"', ["broker: username and password_file belong together"]),
        ('[broker]\nurl = "mqtts://x"\npassword_file = "p"', ["broker: username and password_file belong together"]),
        ("[web", ["not valid TOML"]),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, text)
    assert main(["serve", "--config", str(path)]) == 2
    printed = capsys.readouterr().err
    for word in [str(path), *words]:
        assert word in printed
    assert "secret" not in printed
    assert "Traceback" not in printed


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, '[web]\nport = "x"\n[broker]\ngroup = "a b"\nsession = 1'))
    assert len(caught.value.problems) == 3


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ingest", "--config", str(tmp_path / "no.toml")]) == 2
    assert "no.toml: cannot be read" in capsys.readouterr().err


def test_ingest_alone_needs_a_broker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ingest", "--config", str(write(tmp_path, ""))]) == 2
    assert "name the broker" in capsys.readouterr().err


def test_other_machines_may_not_reach_the_dashboard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--config", str(write(tmp_path, '[web]\nhost = "0.0.0.0"'))]) == 2
    assert "127.0.0.1" in capsys.readouterr().err
