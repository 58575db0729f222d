"""The commands of enrolment with what people give them: files of table programs, names, folders that are not whole."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509
from fieldwatch_cloud.__main__ import main
from fieldwatch_contract.enrolment import Token

Cloud = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cloud(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cloud:
    """Run a command with a configuration: exit code, output, errors."""
    config = tmp_path / "cloud.toml"
    config.write_text('[enrolment]\nbroker = "mqtts://localhost:8883"\n')

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([*arguments, "--config", str(config)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def centre(cloud: Cloud) -> Cloud:
    assert cloud("enrolment", "init", "--host", "localhost")[0] == 0
    return cloud


@pytest.mark.parametrize(
    "content",
    ["device,type\npress-1,press\npress-2,oven\n", "\ufeffDevice;Type\r\npress-1;press\r\n\r\n press-2 ;oven\r\n",
     "id\ttype\npress-1\tpress\npress-2\toven"],
)  # fmt: skip
def test_devices_as_table_programs_write_them(centre: Cloud, tmp_path: Path, content: str) -> None:
    source = tmp_path / "devices.csv"
    source.write_bytes(content.encode())
    code, out, err = centre("enroll", "--from", str(source), "--each")
    assert code == 0 and "for 2 devices" in err
    head, *lines = out.splitlines()
    assert head == "device,token" and [line.partition(",")[0] for line in lines] == ["press-1", "press-2"]
    assert len({Token.parse(line.partition(",")[2]).secret for line in lines}) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("press-1\nPRESS-1\n".encode("utf-16"), "not UTF-8 text; save it as UTF-8"),
        (b"press-1\npress-1\n", ":2: press-1 stands there twice"),
        (b"press-1\n\nPress-2\n", ":3: device id 'Press-2' must be 3 to 64"),
        (b'press-1,"oven\npress-2,oven\n', "is a quote not closed?"),
        (b'press-1,"oven\npress-2,oven"\n', "is a quote not closed?"),
        (b"a\0b-1\n", "must be 3 to 64"),
        (b"device,type\n", "names no device"),
    ],
)
def test_a_file_of_devices_that_is_none(centre: Cloud, tmp_path: Path, content: bytes, words: str) -> None:
    source = tmp_path / "devices.csv"
    source.write_bytes(content)
    code, out, err = centre("enroll", "--from", str(source))
    assert (code, out) == (2, "") and words in err and err.startswith(str(source))


def test_a_batch_is_recorded_whole_or_not_at_all(centre: Cloud, tmp_path: Path) -> None:
    register = tmp_path / "enrolment" / "register.db"
    with closing(sqlite3.connect(register)) as db, db:
        db.execute("INSERT INTO certificate VALUES ('1', 'press-3', 0, 1e12, NULL)")
    source = tmp_path / "devices.csv"
    source.write_text("press-1\npress-2\npress-3\n")
    code, out, err = centre("enroll", "--from", str(source), "--each")
    assert (code, out) == (3, "") and "enrolled already: press-3" in err
    with closing(sqlite3.connect(register)) as db:
        assert db.execute("SELECT count(*) FROM token").fetchone() == (0,)


@pytest.mark.parametrize("host", ["", "https://x", "x:8443", "a b", "host\n", "a..b", "*.example.org", "[::1]"])
def test_a_host_that_is_none_leaves_no_authority(cloud: Cloud, tmp_path: Path, host: str) -> None:
    code, _, err = cloud("enrolment", "init", "--host", "localhost", "--host", host)
    assert code == 2 and "is no name or address of a machine" in err and not (tmp_path / "enrolment").exists()
    assert cloud("enrolment", "init", "--host", "localhost", "--name", "x" * 65)[0] == 2


def test_long_names_and_names_of_other_alphabets_are_hosts(cloud: Cloud, tmp_path: Path) -> None:
    hosts = [f"{'x' * 60}.example.org", "bücher.example.org", "::1"]
    assert cloud("enrolment", "init", *(word for host in hosts for word in ("--host", host)))[0] == 0
    made = x509.load_pem_x509_certificate((tmp_path / "enrolment" / "server.pem").read_bytes())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [hosts[0], "xn--bcher-kva.example.org"]


def test_servers_are_certified_anew_and_devices_stay(centre: Cloud, tmp_path: Path) -> None:
    folder = tmp_path / "enrolment"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    code, out, _ = centre("enrolment", "certify", "--host", "centre.example.org")
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert code == 0 and "restart" in out
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"server.pem", "server.key", "ingest.pem", "ingest.key", "register.db"}


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda folder: (folder / "register.db").unlink(), "which certificates were revoked; restore it from a backup"),
        (lambda folder: (folder / "register.db").write_bytes(b"x" * 4096), "not a database"),
        (lambda folder: (folder / "register.db").write_bytes(b""), "no such table"),
        (lambda folder: (folder / "ca.pem").unlink(), "ca.pem is missing, and devices trust it: restore it"),
    ],
)
@pytest.mark.parametrize("command", [("enroll", "press-1"), ("enrolment", "revoke", "press-1"), ("enrolment", "serve")])
def test_a_folder_that_is_not_whole_is_said(
    centre: Cloud, tmp_path: Path, broken: Callable[[Path], None], words: str, command: tuple[str, ...]
) -> None:
    broken(tmp_path / "enrolment")
    code, out, err = centre(*command)
    assert (code, out) == (1, "") and words in err


def test_a_service_without_its_key_says_so_and_ends(centre: Cloud, tmp_path: Path) -> None:
    (tmp_path / "enrolment" / "server.key").unlink()
    code, out, err = centre("enrolment", "serve")
    assert (code, out) == (1, "") and "'fieldwatch-cloud enrolment certify' makes new ones" in err
    assert centre("enrolment", "certify", "--host", "localhost")[0] == 0
    assert (tmp_path / "enrolment" / "server.key").is_file()


def test_a_key_that_was_written_before_the_power_failed_is_no_authority(cloud: Cloud, tmp_path: Path) -> None:
    (tmp_path / "enrolment").mkdir()
    (tmp_path / "enrolment" / "authority.key").write_text("half")
    assert cloud("enrolment", "init", "--host", "localhost")[0] == 0


@pytest.mark.parametrize("kind", ["mosquitto", "emqx"])
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--certificates", "/etc/x\nallow_anonymous true"), "a whole path, without quotes and line ends"),
        (("--certificates", '/etc/"x'), "a whole path, without quotes and line ends"),
        (("--certificates", "certs"), "a whole path, without quotes and line ends"),
        (("--data", "/x\nlistener 1883"), "a whole path, without quotes and line ends"),
        (("--port", "0"), "a port is 1 to 65535"),
        (("--port", "70000"), "a port is 1 to 65535"),
        (("--ingest", "a.b\nuser x"), "is no name for ingest"),
    ],
)
def test_nothing_is_written_that_would_make_other_settings_of_it(
    cloud: Cloud, tmp_path: Path, kind: str, flags: tuple[str, str], words: str
) -> None:
    code, out, err = cloud("broker-config", kind, "--out", str(tmp_path / "broker"), *flags)
    assert (code, out) == (2, "") and words in err and not (tmp_path / "broker").exists()
