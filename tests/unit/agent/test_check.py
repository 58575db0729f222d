"""``check``: every finding at once, with where it is and what to do."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fieldwatch_agent.check import check
from fieldwatch_agent.config import load
from fieldwatch_agent.findings import Finding

from tests.bundles import make_bundle

BASE = """\
[device]
id = "press-0001"
type = "press"
[log]
path = "logs/readings*.csv"
period = "60s"
[state]
dir = "state"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "logs").mkdir()
    return tmp_path


def run(folder: Path, more: str = "", base: str = BASE) -> list[Finding]:
    path = folder / "agent.toml"
    path.write_text(base + more, encoding="utf-8")
    return check(load(path, {}))


def bad(findings: list[Finding]) -> dict[str, str]:
    return {finding.where: finding.what for finding in findings if finding.level != "ok"}


def text(findings: list[Finding]) -> str:
    return "\n".join(f"{finding.level} {finding.where}: {finding.what}; {finding.remedy}" for finding in findings)


def write_log(folder: Path, header: str, lines: list[str], encoding: str = "utf-8") -> Path:
    path = folder / "logs" / "readings.csv"
    path.write_bytes("\r\n".join([header, *lines, ""]).encode(encoding))
    return path


def stamps(count: int, step: float = 60, form: str = "%Y-%m-%dT%H:%M:%SZ", ahead: float = 0) -> list[str]:
    end = datetime.now(UTC) + timedelta(hours=ahead)
    return [(end - timedelta(seconds=step * (count - 1 - i))).strftime(form) for i in range(count)]


def make_certificate(folder: Path, name: str, days: int) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=100))
        .not_valid_after(now + timedelta(days=days, hours=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "device.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "device.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def test_a_good_setup_is_told_in_full(folder: Path) -> None:
    write_log(folder, "time;Öl;b", [f"{ts};1,5;2" for ts in stamps(30)], "cp1252")
    make_certificate(folder, "press-0001", 365)
    (folder / "root.json").write_text(json.dumps({"signed": {"_type": "root", "version": 3, "expires": "2030-01-01T"}}))
    findings = run(
        folder,
        '[mqtt]\nurl = "mqtts://broker"\nca = "device.pem"\ncertificate = "device.pem"\nkey = "device.key"\n'
        '[updates]\nurl = "https://updates/"\n',
    )
    assert bad(findings) == {}
    told = text(findings)
    assert "encoding cp1252, delimiter ';', decimal '.' or ',', time in 'time', 2 columns of values" in told
    assert "readings come every 60 s, period is 60 s" in told
    assert "version 3, valid until 2030-01-01" in told
    assert "broker port 8883, TLS" in told
    assert not (folder / "state").exists()


def test_all_problems_at_once(folder: Path) -> None:
    lines = [f"{ts},{'ERR' if i % 2 else 5},2" for i, ts in enumerate(stamps(30, 10, "%Y-%m-%dT%H:%M:%S", ahead=2))]
    write_log(folder, "time,a,b", [*lines, "torn,line"])
    make_certificate(folder, "press-0002", 5)
    (folder / "device.key").write_text("no key")
    (folder / "root.json").write_text("{}")
    (folder / "state").touch()
    found = bad(
        run(
            folder,
            '[mqtt]\nurl = "mqtts://broker"\nca = "root.json"\ncertificate = "device.pem"\nkey = "device.key"\n'
            '[updates]\nurl = "https://updates/"\n',
        )
    )
    log = str(folder / "logs" / "readings.csv")
    assert found.pop("[log] period") == "readings come every 10 s, period is 60 s"
    assert "lies 2 h after the time its file was written" in found.pop("[log.timestamp]")
    assert found.pop(log) == "values that are no numbers: a (15)"
    assert "holds no certificate" in found.pop("[mqtt] ca")
    assert "does not belong to the certificate" in found.pop("[mqtt] key")
    assert found.pop("[mqtt] certificate") == "is for press-0002, the device is press-0001"
    assert "is no root of trust" in found.pop("[updates] root")
    assert "is not a folder" in found.pop("[state] dir")
    assert found == {}


@pytest.mark.parametrize(("days", "level", "what"), [(-2, "error", "has ended"), (5, "warning", "in 5 days")])
def test_certificates_that_end(folder: Path, days: int, level: str, what: str) -> None:
    make_certificate(folder, "press-0001", days)
    findings = run(folder, '[mqtt]\nurl = "mqtts://b"\ncertificate = "device.pem"\nkey = "device.key"\n')
    (finding,) = (each for each in findings if each.where == "[mqtt] certificate")
    assert finding.level == level
    assert what in finding.what


def test_a_key_of_another_certificate(folder: Path) -> None:
    make_certificate(folder, "press-0001", 365)
    other = (folder / "device.key").read_bytes()
    make_certificate(folder, "press-0001", 365)
    (folder / "device.key").write_bytes(other)
    findings = run(folder, '[mqtt]\nurl = "mqtts://b"\ncertificate = "device.pem"\nkey = "device.key"\n')
    assert "does not belong to the certificate" in bad(findings)["[mqtt] key"]


def test_files_that_are_not_there(folder: Path) -> None:
    found = bad(run(folder, '[mqtt]\nurl = "mqtts://b"\nca = "ca.pem"\n[updates]\nurl = "https://u/"\n'))
    assert "no file matches" in found["[log] path"]
    assert "ca.pem cannot be read: No such file" in found["[mqtt] ca"]
    assert "root.json cannot be read: No such file" in found["[updates] root"]
    assert "not encrypted" in bad(run(folder, '[mqtt]\nurl = "mqtt://far"\n'))["[mqtt] url"]
    assert "not even a folder" in bad(run(folder, base=BASE.replace("logs/", "nowhere/")))["[log] path"]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "has no whole line yet"),
        (b"time,a\n", "no reading in the first 1 lines"),
        (b"2025-01-01 00:00,1\n" * 9, "no line with column names has come before it"),
        (b"time,a\n01/02/2025 00:00,1\n", "is no time that is understood; say [log.timestamp] format"),
        ("time,a\n1,2\n".encode("utf-16-le"), "is no time that is understood"),
        (b"time,a,b\n2025-01-01 00:00,1,2\n2025-01-01 00:01,1\n", "line 3 has 2 fields, the header has 3"),
    ],
)
def test_logs_that_are_not_understood(folder: Path, content: bytes, what: str) -> None:
    (folder / "logs" / "readings.csv").write_bytes(content)
    assert what in text(run(folder))


@pytest.mark.parametrize(
    ("content", "more", "what", "remedy"),
    [
        (b"time,a\r2025-01-01 00:00,1\r", "", "no line end in the first 26 bytes, read as utf-8", "carriage return"),
        (b"time,a\n2025-01-01 00:00,1\n", 'encoding = "utf-16"', "read as utf-16-le", "is [log] encoding right?"),
        (
            b"time,a\n01/02/2025 00:00,1\n",
            "",
            "is no time",
            '[log.timestamp] format = "%d/%m/%Y %H:%M" (2025-02-01T00:00:00Z) or "%m/%d/%Y %H:%M" (2025-01-02T',
        ),
        (
            b"time,a,b\n2025-01-01 00:00,1,5,2,5\n",
            "",
            "has 5 fields by the delimiter ',', the header 'time,a,b' has 3",
            "the decimal sign too?",
        ),
        (b"time,a,b\n2025-01-01 00:00,1,2\n2025-01-01 00:01,1,5,2\n", "", "has 4 fields", "must write a new header"),
        (b"time,a,b\n2025-01-01 00:00,1,2\n2025-01-01 00:01,1,5,2,5\n", "", "has 5 fields", "the decimal sign too?"),
    ],
)
def test_what_to_do_fits_what_is_wrong(folder: Path, content: bytes, more: str, what: str, remedy: str) -> None:
    (folder / "logs" / "readings.csv").write_bytes(content)
    findings = run(folder, base=BASE.replace("[state]", f"{more}\n[state]"))
    (finding,) = (each for each in findings if what in each.what)
    assert remedy in finding.remedy
    assert "the first line must name the columns" not in finding.remedy


def install(folder: Path, bundle: bytes) -> None:
    sha256 = hashlib.sha256(bundle).hexdigest()
    (folder / "state" / "bundles").mkdir(parents=True)
    (folder / "state" / "bundles" / f"{sha256}.zip").write_bytes(bundle)
    (folder / "state" / "activation.json").write_text(json.dumps({"current": {"sha256": sha256}}))


def test_the_columns_are_compared_with_the_bundle(folder: Path) -> None:
    write_log(folder, "time,s0,s1,extra", [f"{ts},1,2,3" for ts in stamps(9)])
    install(folder, make_bundle(["s0", "s1", "s2"]))
    log = str(folder / "logs" / "readings.csv")
    assert bad(run(folder))[log] == "no column for s2; columns that the bundle does not know: extra"
    write_log(folder, "time,s2,s0,s1", [f"{ts},1,2,3" for ts in stamps(9)])
    findings = run(folder)
    assert log not in bad(findings)
    assert "has a column for each of the bundle's 3 sensors" in text(findings)
    assert "press/v1, 3 sensors" in text(findings)


def test_a_bundle_for_another_period_and_a_damaged_one(folder: Path) -> None:
    install(folder, make_bundle())
    found = bad(run(folder, base=BASE.replace("60s", "5s")))
    assert found["[log] period"] == "press/v1 is made for a period of 60 s, not 5 s"
    for path in (folder / "state" / "bundles").iterdir():
        path.write_bytes(b"damaged")
    assert "cannot be read" in bad(run(folder))["bundle"]
