"""Everything that can be wrong before the agent starts, found at once, each with what to do about it.

``check`` reads: configuration, paths, certificates, a sample of the log, the bundle on this device. It connects to
nothing and changes nothing, so it may be run beside the service.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from fieldwatch_contract import clock
from fieldwatch_contract.bundle import Bundle, BundleError, read_bundle
from fieldwatch_contract.reading.parse import Parser, Readings, Refusal
from fieldwatch_contract.reading.settings import LogConfig

from fieldwatch_agent.config import Config, MqttConfig
from fieldwatch_agent.log.shared_file import open_shared
from fieldwatch_agent.log.tail import LogLines, Tail, read_file
from fieldwatch_agent.troubles import LITTLE_ROOM

SAMPLE = 256 * 1024
"""Bytes read at the beginning of the newest file."""
RENEW_DAYS = 30
"""A certificate that ends sooner is worth a warning."""
ZONE_STEP = 15 * clock.MINUTE
NEAR = 2 * clock.MINUTE
"""A newest reading off the clock by whole quarters of an hour, give or take this (µs), is in another time zone."""

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """``where``: a key, a path; ``what`` was found; ``remedy``: what to do, empty where nothing needs doing."""

    level: Level
    where: str
    what: str
    remedy: str = ""


def check(config: Config) -> list[Finding]:
    """Return all findings, the good ones too."""
    bundle, findings = _bundle(config)
    return [*_log(config.log, bundle), *_mqtt(config), *_updates(config), *_state(config.state.dir), *findings]


def _log(log: LogConfig, bundle: Bundle | None) -> Iterator[Finding]:
    where = "[log] path"
    sensors = bundle.manifest.sensors if bundle else []
    parser = Parser(log, sensors)
    try:
        files = Tail(log.path, encoding=log.encoding, format=parser).files()
        if not files:
            folder = Path(log.path).parent
            missing = "" if folder.is_dir() or "*" in str(folder) else f"; there is not even a folder {folder}"
            yield Finding(
                "warning", where, f"no file matches {log.path}{missing}", "right if the device has not written yet"
            )
            return
        newest = files[-1]
        lines = next(read_file(newest, log, SAMPLE), None)
    except OSError as error:
        yield Finding(
            "error",
            where,
            f"{error.filename or log.path} cannot be read: {error.strerror or error}",
            "give the agent's account the right to read it",
        )
        return
    yield Finding("ok", where, f"{len(files)} file{'s' * (len(files) > 1)}, newest {newest}")
    if lines is None:
        yield Finding("warning", str(newest), "has no whole line yet", "right if the device has just begun it")
        return
    readings = parser.parse(lines)
    if not sensors and parser.columns is not None:
        readings = Parser(log, parser.columns.unknown).parse(lines)  # every column, to see what it holds
    yield from _dialect(log, parser, readings, lines, newest)
    yield from _period(log, parser, lines, newest)


def _dialect(log: LogConfig, parser: Parser, readings: Readings, lines: LogLines, path: Path) -> Iterator[Finding]:
    """Tell how the log is written and what of it is not understood."""
    refused = Counter(refusal.reason for refusal in readings.refused)
    columns = parser.columns
    if lines.torn and len(lines) == 1:
        what = f"no line end in the first {lines.position.offset} bytes, read as {_encoding(log, lines)}"
        remedy = "is [log] encoding right? A line must end with a line feed; a carriage return alone is none"
        yield Finding("error", str(path), what, remedy)
        return
    if columns is None:
        (detail, _), *_ = Counter(refusal.detail for refusal in readings.refused).most_common(1) or [("", 0)]
        what = f"no reading in the first {len(lines)} lines" + (f": {detail}" if detail else "")
        example = next((refusal for refusal in readings.refused if refusal.detail == detail), None)
        general = "the first line must name the columns; say delimiter and timestamp in [log] if they are unusual"
        remedy = (_remedy(parser, example, lines) if example else "") or general
        yield Finding("error" if refused else "warning", str(path), what, remedy)
        return
    delimiter = {"\t": "tab"}.get(columns.delimiter.decode(), repr(columns.delimiter.decode()))
    time = " + ".join(repr(columns.names[column]) for column in columns.time)
    decimal = repr(log.decimal or ".") if log.decimal or columns.delimiter == b"," else "'.' or ','"
    zone = "" if not parser.assumed_zone else f", times without zone are {log.timestamp.timezone}"
    yield Finding(
        "ok",
        str(path),
        f"encoding {_encoding(log, lines)}, delimiter {delimiter}, decimal {decimal}, time in {time}{zone}, "
        f"{len(columns.names) - len(columns.time)} columns of values",
    )
    for reason, count in refused.most_common():
        example = next(refusal for refusal in readings.refused if refusal.reason == reason)
        what = (
            f"{count} of the first {len(lines)} lines are refused ({reason}): line {example.line + 1} {example.detail}"
        )
        remedy = _remedy(parser, example, lines) or "compare with the lines around"
        yield Finding("error" if count > len(readings.ts) else "warning", str(path), what, remedy)
    if readings.bad_values:
        worst = sorted(readings.bad_values.items(), key=lambda pair: -pair[1])[:3]
        told = ", ".join(f"{name} ({count})" for name, count in worst)
        yield Finding("warning", str(path), f"values that are no numbers: {told}", "they count as missing")
    if parser.sensors and (text := columns.describe()):
        level: Level = "error" if len(columns.missing) * 2 > len(parser.sensors) else "warning"
        yield Finding(level, str(path), text, "the bundle was trained with other columns: rename, or train again")
    elif parser.sensors:
        yield Finding("ok", str(path), f"has a column for each of the bundle's {len(parser.sensors)} sensors")


def _remedy(parser: Parser, refusal: Refusal, lines: LogLines) -> str:
    """Return what to do about a refused line, empty where its reason does not tell."""
    if refusal.reason == "timestamp":
        return 'say how the time is written, for example [log.timestamp] format = "%d/%m/%Y %H:%M:%S"'
    header = next((line for line in lines.lines if parser.is_header(line, None)), b"")
    names, fields = (line.count(b",") + 1 for line in (header, lines.lines[refusal.line]))
    if refusal.reason == "columns" and names > 1 and 1.5 * names <= fields <= 2 * names:
        return (
            f"{fields} fields between commas for {names} names: is the comma the decimal sign too? "
            'Let the device write a decimal point, or another delimiter such as ";"'
        )
    return ""


def _encoding(log: LogConfig, lines: LogLines) -> str:
    if lines.encoding != "8-bit":
        return lines.encoding
    try:
        b"".join(lines.lines).decode()
    except UnicodeDecodeError:
        return log.encoding or "cp1252"
    return log.encoding or "utf-8"


def _period(log: LogConfig, parser: Parser, lines: LogLines, path: Path) -> Iterator[Finding]:
    """Compare the readings' times with the period and with this computer's clock."""
    ts = Parser(log, []).parse(lines).ts
    if len(ts) > 2:
        observed = float(np.median(np.diff(ts)))
        told = f"readings come every {observed / clock.SECOND:g} s, period is {log.period / clock.SECOND:g} s"
        if not 0.7 * log.period <= observed <= 1.5 * log.period:
            yield Finding("warning", "[log] period", told, "set it to the time between two readings")
        else:
            yield Finding("ok", "[log] period", told)
    last = _last(log, path, parser)
    if last is None:
        return
    ahead = last - path.stat().st_mtime_ns // 1000
    if (
        abs(ahead) > ZONE_STEP / 2
        and abs(ahead - round(ahead / ZONE_STEP) * ZONE_STEP) <= NEAR
        and abs(ahead) < clock.DAY
    ):
        hours = round(ahead / ZONE_STEP) / 4
        side = "after" if ahead > 0 else "before"
        yield Finding(
            "warning",
            "[log] timestamp",
            f"the newest reading, {clock.iso(last)}, lies {abs(hours):g} h {side} the time its file was written",
            "set timezone in [log.timestamp] to that of the device's clock",
        )
    else:
        yield Finding("ok", "[log] timestamp", f"newest reading {clock.iso(last)}")


def _last(log: LogConfig, path: Path, parser: Parser) -> int | None:
    """Return the time of the newest reading; None where the end of the file cannot be read by itself."""
    if path.suffix == ".gz":
        return None
    with open_shared(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - SAMPLE))
        raw = file.read(SAMPLE).split(b"\n")[1:-1]
    return parser.last_time(raw)


def _mqtt(config: Config) -> Iterator[Finding]:
    mqtt = config.mqtt
    if mqtt is None:
        yield Finding("warning", "[mqtt]", "is absent: nothing is sent", "right for trying out only")
        return
    named = {"ca": mqtt.ca, "certificate": mqtt.certificate, "key": mqtt.key, "password_file": mqtt.password_file}
    unreadable = [finding for key, path in named.items() if path and (finding := _readable(f"[mqtt] {key}", path))]
    yield from unreadable
    if not unreadable:
        yield from _certificate(mqtt, config.device.id)
        yield Finding("ok", "[mqtt]", f"{mqtt.host} port {mqtt.port}, {'TLS' if mqtt.tls else 'not encrypted'}")
    if not mqtt.tls and mqtt.host not in {"localhost", "127.0.0.1", "::1"}:
        yield Finding("warning", "[mqtt] url", "the connection is not encrypted", 'use "mqtts://" with a certificate')


def _certificate(mqtt: MqttConfig, device: str) -> Iterator[Finding]:
    if mqtt.ca is not None:
        try:
            ssl.create_default_context(cafile=str(mqtt.ca))
        except (ssl.SSLError, OSError):
            yield Finding("error", "[mqtt] ca", f"{mqtt.ca} holds no certificate", "it must be PEM text")
    if mqtt.certificate is None:
        return
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    where = "[mqtt] certificate"
    try:
        certificate = x509.load_pem_x509_certificate(mqtt.certificate.read_bytes())
    except ValueError:
        yield Finding("error", where, f"{mqtt.certificate} holds no certificate", "it must be PEM text")
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(mqtt.certificate, mqtt.key, password=str)
    except (ssl.SSLError, ValueError):
        yield Finding(
            "error", "[mqtt] key", f"{mqtt.key} does not belong to the certificate, or is locked by a password"
        )
    left = (certificate.not_valid_after_utc - datetime.now(UTC)).days
    until = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
    if left < 0:
        yield Finding("error", where, f"has ended on {until}", "renew it")
    elif left < RENEW_DAYS:
        yield Finding("warning", where, f"ends on {until}, in {left} days", "renew it")
    else:
        yield Finding("ok", where, f"valid until {until}")
    if certificate.not_valid_before_utc > datetime.now(UTC):
        yield Finding("error", where, "is not valid yet", "is this computer's clock right?")
    names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [device]:
        yield Finding(
            "error", where, f"is for {', '.join(names) or 'nobody'}, the device is {device}", "they must be equal"
        )


def _updates(config: Config) -> Iterator[Finding]:
    updates = config.updates
    if updates is None:
        yield Finding("warning", "[updates]", "is absent: no bundle is fetched", "right where bundles come by hand")
        return
    where = "[updates] root"
    if (finding := _readable(where, updates.root)) is not None:
        yield finding
        return
    try:
        signed = json.loads(updates.root.read_bytes())["signed"]
        right = signed["_type"] == "root"
    except (ValueError, KeyError, TypeError):
        right = False
    if right:
        yield Finding("ok", where, f"version {signed['version']}, valid until {signed['expires'][:10]}")
    else:
        yield Finding(
            "error", where, f"{updates.root} is no root of trust", "take root.json from the release engineers"
        )


def _state(folder: Path) -> Iterator[Finding]:
    where = "[state] dir"
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        yield Finding("error", where, f"{existing} is not a folder", "name another")
        return
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        what = f"{existing} cannot be written: {error.strerror or error}"
        yield Finding("error", where, what, "give the agent's account the right to write there")
        return
    free = shutil.disk_usage(existing).free
    if free < LITTLE_ROOM:
        yield Finding("warning", where, f"{existing} has {free / 1e6:.1f} MB of room left", "make room on that disk")
    yield Finding("ok", where, str(folder) if folder.exists() else f"{folder} will be made")


def _bundle(config: Config) -> tuple[Bundle | None, list[Finding]]:
    """Read the bundle that this device runs, if it has one."""
    where = "bundle"
    path = config.state.dir / "activation.json"
    if not path.exists():
        return None, [Finding("ok", where, "none on this device yet; the first update brings it")]
    try:
        current = json.loads(path.read_bytes())["current"]
        if current is None:
            return None, [Finding("ok", where, "none is active")]
        bundle = read_bundle(config.state.dir / "bundles" / f"{current['sha256']}.zip", current["sha256"])
    except (OSError, ValueError, KeyError, TypeError, BundleError) as error:
        return None, [
            Finding("warning", where, f"cannot be read: {error}", "the agent falls back to the one before it")
        ]
    manifest = bundle.manifest
    name = f"{manifest.name}/{manifest.version}"
    if manifest.period != config.log.period:
        told = f"{name} is made for a period of {manifest.period_s:g} s, not {config.log.period / clock.SECOND:g} s"
        return bundle, [Finding("error", "[log] period", told, "one of the two is wrong")]
    return bundle, [Finding("ok", where, f"{name}, {len(manifest.sensors)} sensors")]


def _readable(where: str, path: Path) -> Finding | None:
    try:
        with path.open("rb"):
            return None
    except OSError as error:
        return Finding("error", where, f"{path} cannot be read: {error.strerror or error}", "see that it is there")
