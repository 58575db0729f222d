"""The device's side of enrolment: the file it writes, when it renews, what people are told."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path, PureWindowsPath

import pytest
from fieldwatch_agent.config import load
from fieldwatch_agent.enrol.renewal import due
from fieldwatch_agent.enrol.settings import Enrolled, Settings, render
from fieldwatch_agent.enrol.watch import FILE, Certificate, CertificateWatch
from fieldwatch_agent.troubles import Facts, derive


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
