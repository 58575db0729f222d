"""Finds everything that can be wrong before the agent starts, in one go, each with a remedy.

``check`` reads configuration, paths, certificates, the log and the bundle on this device. It connects to nothing and
changes nothing, so it can be run while the service runs.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from fieldwatch_contract.bundle import Bundle, BundleError, BundleMisfit, check_fit, read_bundle

from fieldwatch_agent import durable, system
from fieldwatch_agent.check_log import check_log
from fieldwatch_agent.check_paths import check_paths
from fieldwatch_agent.config import Config, MqttConfig, ServiceConfig
from fieldwatch_agent.findings import Finding
from fieldwatch_agent.send.database import FILE, JournalError
from fieldwatch_agent.send.view import foreign, read_owner
from fieldwatch_agent.troubles import CERTIFICATE_DAYS, LITTLE_ROOM


def check(config: Config) -> list[Finding]:
    """Return all findings, the good ones too."""
    bundle, findings = _bundle(config)
    sensors = bundle.manifest.sensors if bundle else []
    return [
        *check_log(config.log, sensors),
        *_mqtt(config),
        *_updates(config),
        *_state(config.state.dir, config.device.id),
        *(check_paths(config) if system.WINDOWS else ()),
        *_service(config.service),
        *findings,
    ]


def _mqtt(config: Config) -> Iterator[Finding]:
    mqtt = config.mqtt
    if mqtt is None:
        yield Finding("warning", "[mqtt]", "is absent: nothing is sent", "fine only for trying things out")
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
        yield from _authority("[mqtt] ca", mqtt.ca)
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
            "error",
            "[mqtt] key",
            f"{mqtt.key} does not belong to the certificate, or is protected by a password",
            "give the key that was made with the certificate, without a password",
        )
    left = (certificate.not_valid_after_utc - datetime.now(UTC)).days
    until = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
    if left < 0:
        yield Finding("error", where, f"expired on {until}", "renew it")
    elif left < CERTIFICATE_DAYS:
        yield Finding("warning", where, f"expires on {until}, in {left} days", "renew it")
    else:
        yield Finding("ok", where, f"valid until {until}")
    if certificate.not_valid_before_utc > datetime.now(UTC):
        yield Finding("error", where, "is not valid yet", "is this computer's clock right?")
    names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [device]:
        yield Finding(
            "error", where, f"is for {', '.join(names) or 'nobody'}, the device is {device}", "they must be equal"
        )


def _authority(where: str, path: Path) -> Iterator[Finding]:
    """Say whether a readable file holds a certificate that can vouch for a server."""
    try:
        ssl.create_default_context(cafile=str(path))
    except (ssl.SSLError, OSError):
        yield Finding("error", where, f"{path} holds no certificate", "it must be PEM text")


def _updates(config: Config) -> Iterator[Finding]:
    updates = config.updates
    if updates is None:
        yield Finding("warning", "[updates]", "is absent: no bundle is fetched", "fine if bundles come by hand")
        return
    if updates.ca is not None:
        unreadable = _readable("[updates] ca", updates.ca)
        yield from [unreadable] if unreadable else _authority("[updates] ca", updates.ca)
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
            "error", where, f"{updates.root} is not a root of trust", "get root.json from the release engineers"
        )


def _state(folder: Path, device: str) -> Iterator[Finding]:
    where = "[state] dir"
    existing = _existing(folder)
    if (finding := _writable(where, existing)) is not None:
        yield finding
        return
    with suppress(JournalError, OSError):  # one that cannot be read, the agent repairs
        if (owner := read_owner(folder / FILE)) not in (None, device):
            yield Finding("error", where, *foreign(folder, str(owner), device))
    free = shutil.disk_usage(existing).free
    if free < LITTLE_ROOM:
        yield Finding("warning", where, f"{existing} has {free / 1e6:.1f} MB of room left", "make room on that disk")
    yield Finding("ok", where, str(folder) if folder.exists() else f"{folder} will be created")


def _service(service: ServiceConfig) -> Iterator[Finding]:
    where, path = "[service] log_file", service.log_file
    if path is None:
        return
    if path.is_dir():
        yield Finding("error", where, f"{path} is a folder", "name a file in it, such as agent.log")
    else:
        yield _writable(where, _existing(path.parent)) or Finding("ok", where, str(path))


def _existing(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists; itself where not even its drive does."""
    return next((path for path in (folder, *folder.absolute().parents) if path.exists()), folder)


def _writable(where: str, folder: Path) -> Finding | None:
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "is on a drive or share that is not there"
        return Finding("error", where, f"{folder} {what}", "choose another")
    probe = folder / f"fieldwatch-check-{os.getpid()}.tmp"  # tempfile takes a refusal of Windows for a name in use
    try:
        with probe.open("xb"):
            pass
        durable.remove(probe)
        return None
    except OSError as error:
        what = f"{folder} cannot be written: {error.strerror or error}"
        return Finding("error", where, what, "give the agent's account the right to write there")


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
    try:
        check_fit(manifest, config.device.type, config.log.period)
    except BundleMisfit as error:
        return bundle, [Finding("error", where, error.what, error.remedy)]
    return bundle, [Finding("ok", where, f"{name}, {len(manifest.sensors)} sensors")]


def _readable(where: str, path: Path) -> Finding | None:
    try:
        with path.open("rb"):
            return None
    except OSError as error:
        return Finding("error", where, f"{path} cannot be read: {error.strerror or error}", "check that it exists")
