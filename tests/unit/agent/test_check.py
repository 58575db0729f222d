"""``check``: every finding at once, with where it is and what to do."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fieldwatch_agent.check_paths
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fieldwatch_agent import durable, system
from fieldwatch_agent.check import check
from fieldwatch_agent.check_paths import check_paths
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
    assert "encoding cp1252, delimiter ';', decimal ',', time in 'time', 2 columns of values" in told
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
            '[updates]\nurl = "https://updates/"\nca = "device.key"\n',
        )
    )
    log = str(folder / "logs" / "readings.csv")
    assert found.pop("[log] period") == "readings come every 10 s, period is 60 s"
    assert "lies 2 h after the time its file was written" in found.pop("[log.timestamp]")
    assert found.pop(log) == "values that are no numbers: a (15)"
    assert "holds no certificate" in found.pop("[mqtt] ca")
    assert "does not belong to the certificate" in found.pop("[mqtt] key")
    assert found.pop("[mqtt] certificate") == "is for press-0002, the device is press-0001"
    assert "is not a root of trust" in found.pop("[updates] root")
    assert "holds no certificate" in found.pop("[updates] ca")
    assert "is not a folder" in found.pop("[state] dir")
    assert found == {}


@pytest.mark.parametrize(("days", "level", "what"), [(-2, "error", "expired"), (5, "warning", "in 5 days")])
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
    found = bad(run(folder, '[mqtt]\nurl = "mqtts://b"\nca = "ca.pem"\n[updates]\nurl = "https://u/"\nca = "u.pem"\n'))
    assert "no file matches" in found["[log] path"]
    assert "ca.pem cannot be read: No such file" in found["[mqtt] ca"]
    assert "root.json cannot be read: No such file" in found["[updates] root"]
    assert "u.pem cannot be read: No such file" in found["[updates] ca"]
    assert "not encrypted" in bad(run(folder, '[mqtt]\nurl = "mqtt://far"\n'))["[mqtt] url"]
    assert "not even a folder" in bad(run(folder, base=BASE.replace("logs/", "nowhere/")))["[log] path"]
    (folder / "nowhere").mkdir()
    of_a_folder = bad(run(folder, base=BASE.replace('"logs/readings*.csv"', '"nowhere"')))["[log] path"]
    assert "nowhere is a folder" in of_a_folder


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
    assert found["bundle"] == "bundle press/v1 is made for a period of 60 s, [log] period is 5 s"
    for path in (folder / "state" / "bundles").iterdir():
        path.write_bytes(b"damaged")
    assert "cannot be read" in bad(run(folder))["bundle"]


# ---- what run would make of the log -------------------------------------------------------------------------------


def findings_of(folder: Path, content: str | bytes, more: str = "", written: datetime | None = None) -> list[Finding]:
    path = folder / "logs" / "readings.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if written is not None:
        os.utime(path, (written.timestamp(), written.timestamp()))
    return run(folder, base=BASE.replace("[state]", f"{more}\n[state]"))


def one(findings: list[Finding], words: str) -> Finding:
    (finding,) = (each for each in findings if words in each.what)
    return finding


def test_a_log_whose_last_half_is_refused(folder: Path) -> None:
    """A firmware that writes a column more, far behind the first lines."""
    lines = [f"{ts},1,2" + ",3" * (i >= 30_000) for i, ts in enumerate(stamps(60_000))]
    finding = one(findings_of(folder, "\n".join(["time,a,b", *lines, ""])), "would be refused")
    assert finding.level == "error"
    assert "30000 of 60001 lines and with them the newest would be refused (columns)" in finding.what
    assert "lines 30002 to 60001, the first of which has 4 fields, the header has 3" in finding.what
    assert "new header" in finding.remedy


def test_of_a_large_file_head_and_tail_are_read_and_that_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fieldwatch_agent.check_log.WHOLE", 200_000)
    lines = [f"{ts},1,2" + ",3" * (i >= 30_000) for i, ts in enumerate(stamps(31_000))]
    findings = findings_of(folder, "\n".join(["time,a,b", *lines, ""]))
    assert "1000 of" in one(findings, "and with them the newest would be refused (columns)").what
    assert "at its beginning and its end, not the" in text(findings)


def test_names_that_change_within_the_file(folder: Path) -> None:
    now = stamps(60)
    lines = ["time,s0,s1,s2", *(f"{ts},1,2,3" for ts in now[:30]), "time,s0,s1,p9", *(f"{ts},1,2,3" for ts in now[30:])]
    install(folder, make_bundle(["s0", "s1", "s2"]))
    findings = findings_of(folder, "\n".join([*lines, ""]))
    assert one(findings, "the log's columns changed (gone: s2; new: p9").level == "warning"
    assert "no column for s2; columns that the bundle does not know: p9" in {each.what for each in findings}


def test_newest_first(folder: Path) -> None:
    findings = findings_of(folder, "\n".join(["time,a,b", *(f"{ts},1,2" for ts in reversed(stamps(30))), ""]))
    finding = one(findings, "the readings come newest first")
    assert finding.level == "error"
    assert "29 of 31 lines and with them the newest would be refused (late)" in finding.what
    assert "append its newest reading at the end" in finding.remedy


@pytest.mark.parametrize(
    ("name", "epoch", "ahead"),
    [
        ("labview", datetime(1904, 1, 1, tzinfo=UTC), 0),
        ("gps", datetime(1980, 1, 6, tzinfo=UTC), 18),
    ],
)
def test_seconds_of_another_epoch(folder: Path, name: str, epoch: datetime, ahead: int) -> None:
    now = datetime.now(UTC)
    times = [(now - timedelta(minutes=30 - i) - epoch).total_seconds() + ahead for i in range(30)]
    content = "\n".join(["time,a,b", *(f"{seconds:.0f},1,2" for seconds in times), ""])
    finding = one(findings_of(folder, content), f'by format "{name}" it is {now:%Y-%m}')
    assert (finding.level, finding.remedy) == ("error", f'set [log.timestamp] format = "{name}"')
    good = findings_of(folder, content, f'timestamp = {{format = "{name}"}}')
    assert not [each for each in good if each.where == "[log.timestamp]" and each.level != "ok"]


def test_ticks_of_windows_and_days_of_excel(folder: Path) -> None:
    now = datetime.now(UTC)
    ticks = [int((now.timestamp() - 60 * (30 - i) + 11_644_473_600) * 10**7) for i in range(30)]
    finding = one(findings_of(folder, "\n".join(["time,a,b", *(f"{tick},1,2" for tick in ticks), ""])), "no reading")
    assert 'say [log.timestamp] format = "filetime"' in finding.remedy
    epoch = datetime(1899, 12, 30, tzinfo=UTC)
    days = [(now - timedelta(minutes=30 - i) - epoch) / timedelta(days=1) for i in range(30)]
    finding = one(findings_of(folder, "\n".join(["time,a,b", *(f"{day:.9f},1,2" for day in days), ""])), "no reading")
    assert 'say [log.timestamp] format = "excel"' in finding.remedy


def test_day_and_month_exchanged_against_the_files_time(folder: Path) -> None:
    """A pattern for Europe, a log of the United States: 08/01/2026 is no 8th of January."""
    end = datetime(2026, 8, 1, 12, tzinfo=UTC)
    lines = [f"{end - timedelta(minutes=30 - i):%m/%d/%Y %H:%M:%S},1,2" for i in range(30)]
    lines = [line for line in lines if line.startswith("08/01")]
    findings = findings_of(
        folder, "\n".join(["time,a,b", *lines, ""]), 'timestamp = {format = "%d/%m/%Y %H:%M:%S"}', written=end
    )
    finding = one(findings, "2026-01-08")
    assert finding.level == "error"
    assert 'by format "%m/%d/%Y %H:%M:%S" it is 2026-08-01' in finding.what
    assert finding.remedy == 'set [log.timestamp] format = "%m/%d/%Y %H:%M:%S"'


def test_day_and_month_exchanged_against_the_neighbours(folder: Path) -> None:
    """The file was copied, its time tells nothing; but by the other order each day follows the one before."""
    start = datetime(2026, 3, 5, tzinfo=UTC)
    lines = [f"{start + timedelta(hours=i):%m/%d/%Y %H:%M:%S},1,2" for i in range(24 * 5)]
    findings = findings_of(
        folder,
        "\n".join(["time,a,b", *lines, ""]),
        'timestamp = {format = "%d/%m/%Y %H:%M:%S"}',
        written=datetime(2026, 11, 20, tzinfo=UTC),
    )
    finding = next(each for each in findings if each.where == "[log.timestamp]" and each.level != "ok")
    assert "is 2026-09-03T23:00:00Z as configured" in finding.what
    assert '"%m/%d/%Y %H:%M:%S", which fits the others better, it is 2026-03-09T23:00:00Z' in finding.what


def test_a_stopped_device_or_a_copy_is_said_to_be_one(folder: Path) -> None:
    content = "\n".join(["time,a,b", *(f"2025-01-01 00:{i:02},1,2" for i in range(30)), ""])
    finding = one(findings_of(folder, content), "days later")
    assert finding.level == "warning"
    assert "has stopped" in finding.remedy


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le"])
def test_another_time_zone_in_each_encoding(folder: Path, encoding: str) -> None:
    lines = [f"{ts},1,2" for ts in stamps(30, form="%Y-%m-%d %H:%M:%S", ahead=-5)]
    findings = findings_of(folder, "\n".join(["time,a,b", *lines, ""]).encode(encoding))
    assert "lies 5 h before the time its file was written" in one(findings, "lies").what


@pytest.mark.parametrize("kind", ["newest first", "the last half refused"])
def test_no_time_zone_is_advised_where_the_last_line_is_refused_for_another_reason(folder: Path, kind: str) -> None:
    """The last line that can be read is an hour older than the file, for a reason that another finding names."""
    rows = [f"{ts},1,2" for ts in stamps(121)]
    lines = rows[::-1] if kind == "newest first" else [*rows[:61], *(row + ",3" for row in rows[61:])]
    findings = findings_of(folder, "\n".join(["time,a,b", *lines, ""]))
    assert "timezone" not in text(findings)
    newest = rows[-1 if kind == "newest first" else 60].split(",")[0]
    assert one(findings, "newest reading 2").what == f"newest reading {newest}"


@pytest.mark.parametrize("sentinel", ["-9999", "7999", "9.99e37", "-32768", "-99999.99", "-3.402823466e+38"])
def test_a_number_that_may_stand_for_no_value(folder: Path, sentinel: str) -> None:
    cells = [sentinel if i % 9 == 4 else f"{20 + i % 7 / 10:.1f}" for i in range(60)]
    lines = [f"{ts},{cell},{i}" for i, (ts, cell) in enumerate(zip(stamps(60), cells, strict=True))]
    content = "\n".join(["time,a,count", *lines, ""])
    finding = one(findings_of(folder, content), "does it stand for no value?")
    assert "again and again in a, far" in finding.what
    advised = finding.remedy.removeprefix("then say [log] ")
    assert float(advised.removeprefix("missing = [").removesuffix("]")) == float(sentinel)
    assert "stand for no value" not in text(findings_of(folder, content, advised))


def test_units_thousands_and_amounts_of_a_log_with_a_line_a_value(folder: Path) -> None:
    now = stamps(30)
    found = text(findings_of(folder, "\n".join(["time,a,b", ",°C,bar", *(f"{ts},1.5,2.5" for ts in now), ""])))
    assert "units: a in °C, b in bar" in found
    lines = [f"{ts};{name};1,5" for ts in now for name in "ab"]
    found = text(findings_of(folder, "\n".join(["time;sensor;value", *lines, ""]), 'format = "long"'))
    assert "29 readings would be scored" in found
    found = text(findings_of(folder, "\n".join([*(f'{{"ts": "{ts}", "a": 1}}' for ts in now), ""]), 'format = "jsonl"'))
    assert "readings come every 60 s" in found
    lines = [f"{ts}|{998 if i % 2 else '1,002'}|3" for i, ts in enumerate(now)]
    found = text(findings_of(folder, "\n".join(["time|rpm|n", *lines, ""])))
    assert "1002 or 1.002?" in found


def test_a_log_with_a_line_a_value_that_is_read_as_columns_is_told_as_such(folder: Path) -> None:
    """Not as duplicates, whose remedy would be another period."""
    content = "\n".join(["time,sensor,value", *(f"{ts},{name},1.5" for ts in stamps(30) for name in "ab"), ""])
    finding = one(findings_of(folder, content), "a line seems to hold one value")
    assert (finding.level, finding.remedy) == ("error", 'set [log] format = "long"')
    assert "'sensor' names the sensor, 'value' is its value" in finding.what
    assert "duplicate" not in text(findings_of(folder, content))
    assert "seems to hold" not in text(findings_of(folder, content, 'format = "long"'))
    install(folder, make_bundle(["a", "b"]))
    finding = one(
        findings_of(folder, content), "none of the bundle's 2 sensors has a column, the columns are time, sensor, value"
    )
    assert (finding.level, finding.remedy) == ("error", 'if a line holds one value, say [log] format = "long"')


@pytest.mark.parametrize("form", ["long", "jsonl"])
def test_a_sensor_that_never_has_a_value_is_named(folder: Path, form: str) -> None:
    install(folder, make_bundle(["s0", "s1", "s2"]))
    now = stamps(30)
    lines = ["time,sensor,value", *(f"{ts},{name},1" for ts in now for name in ("s0", "s1", "S2"))]
    if form == "jsonl":
        lines = [f'{{"ts": "{ts}", "s0": 1, "s1": 2, "S2": 3}}' for ts in now]
    finding = one(findings_of(folder, "\n".join([*lines, ""]), f'format = "{form}"'), "no value for s2")
    assert (finding.level, finding.remedy) == ("warning", "do the names in the log differ?")


def test_paths_that_a_person_has_and_a_windows_service_has_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "WINDOWS", True)
    monkeypatch.setattr(fieldwatch_agent.check_paths, "is_remote", lambda drive: drive == "Z:\\")
    path = folder / "agent.toml"
    for log, where in (("Z:\\data\\*.csv", "[log] path"), ("C:\\data\\*.csv", ""), ("\\\\nas\\data\\*.csv", "")):
        path.write_text(BASE, encoding="utf-8")
        config = load(path, {})
        config = config.model_copy(update={"log": config.log.model_copy(update={"path": log})})
        found = list(check_paths(config))
        assert [finding.where for finding in found] == ([where] if where else []), log
        assert all("no service sees" in finding.what and "share" in finding.remedy for finding in found)
    long = load(path, {"FIELDWATCH_STATE__DIR": "/" + "x" * 190})
    assert "Windows takes 169 here" in bad(check(long))["[state] dir"]


def test_a_drive_that_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On POSIX the root exists always."""
    path = folder / "agent.toml"
    path.write_text(BASE, encoding="utf-8")
    config = load(path, {"FIELDWATCH_STATE__DIR": "/gone/state"})
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path != Path("/") and exists(path))
    assert "is on a drive or share that is not there" in bad(check(config))["[state] dir"]
    monkeypatch.setattr(Path, "is_dir", lambda path: False)
    with pytest.raises(FileNotFoundError, match="no such drive or share"):
        durable.make_folder(Path("/gone/state"))
