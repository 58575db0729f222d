"""The commands ``enrolment``, ``enroll`` and ``broker-config``, and what they print."""

from __future__ import annotations

import argparse
import csv
import logging
import signal
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePath

from fieldwatch_contract import addresses
from fieldwatch_contract.enrolment import NO_PIN, Token, Updates, digest
from fieldwatch_contract.topics import DEVICE_ID

from fieldwatch_cloud.config import ConfigError, EnrolmentConfig, load
from fieldwatch_cloud.enrolment import broker_config as rules
from fieldwatch_cloud.enrolment.authority import COMMON_NAME, Refused
from fieldwatch_cloud.enrolment.desk import Addresses, Desk
from fieldwatch_cloud.enrolment.folder import CA, REVOKED, Folder, FolderError, certify, init
from fieldwatch_cloud.enrolment.register import Device, RegisterError
from fieldwatch_cloud.enrolment.service import Service
from fieldwatch_cloud.listen import PortError

log = logging.getLogger("fieldwatch.enrolment")

OK, FAILED, REFUSED = 0, 1, 3
UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def make_desk(config: EnrolmentConfig) -> Desk:
    """Return the desk of a configuration; raises :class:`.config.ConfigError` or :class:`.folder.FolderError`."""
    updates = None
    if config.updates is not None and config.root is not None:
        ca = _text(config.updates_ca, "updates_ca") if config.updates_ca else None
        updates = Updates(url=config.updates, channel=config.channel, root=_text(config.root, "root"), ca=ca)
    return Desk(Folder(config.folder), Addresses(config.broker, updates))


def make_service(config: EnrolmentConfig) -> Service:
    """Return the enrolment service of a configuration, not started."""
    folder, desk = config.folder, make_desk(config)
    for told in desk.ending():
        log.warning("%s", told)
    return Service(desk, config.host, config.port, folder / "server.pem", folder / "server.key")


def enrolment(options: argparse.Namespace) -> int:
    """``enrolment init|certify|serve|revoke``."""
    config = _section(options.config)
    try:
        if options.act in {"init", "certify"}:
            return _init(options, config)
        if options.act == "revoke":
            return _revoke(options, config)
        service = make_service(config)
        ended = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ended.set())
        service.start()
        print(f"enrolment: https://{config.host}:{config.port}", flush=True)
        while not ended.wait(1.0):  # short waits: on Windows a signal does not interrupt a wait
            pass
        service.stop()
    except (FolderError, PortError, RegisterError, Refused, OSError) as error:
        print(error, file=sys.stderr)
        return FAILED
    return OK


def _init(options: argparse.Namespace, config: EnrolmentConfig) -> int:
    ingest = options.ingest or [load(options.config).broker.client_id]
    problems = [problem for name in ingest if (problem := rules.unfit(name))]
    if not options.host:
        problems.append(f"{options.act} needs --host: the name by which devices reach broker and enrolment; repeatable")
    if not options.name.isprintable() or not 1 <= len(options.name) <= COMMON_NAME:
        problems.append(f"--name {options.name!r}: 1 to {COMMON_NAME} characters in one line")
    hosts = []
    for each in options.host:
        try:
            hosts.append(addresses.host(each))
        except ValueError as error:
            problems.append(f"--host {error}")
    if problems:
        raise ConfigError(problems)
    if options.act == "certify":
        certify(Folder(config.folder), hosts, ingest, datetime.now(UTC))
        print(f"{config.folder}: new certificates for {', '.join(hosts)} and {', '.join(ingest)}")
        print("next: give them to the broker, and restart broker, enrolment and ingest")
        return OK
    init(config.folder, options.name, hosts, ingest, datetime.now(UTC))
    print(f"{config.folder}: authority, certificates for {', '.join(hosts)} and {', '.join(ingest)}")
    print(f"next: keep a copy of {config.folder / 'authority.key'} off line; without it no device can be added")
    print("next: fieldwatch-cloud broker-config mosquitto --out DIR; fieldwatch-cloud enroll DEVICE")
    return OK


def _revoke(options: argparse.Namespace, config: EnrolmentConfig) -> int:
    if options.device is None:
        raise ConfigError(["revoke needs a device"])
    folder, now = Folder(config.folder), datetime.now(UTC)
    count = folder.register.revoke(options.device, now)
    path = folder.write_revocations(now)
    if not count:
        print(f"{options.device} has no certificate that counts; nothing changed", file=sys.stderr)
        return FAILED
    print(f"{options.device}: {count} certificate(s) revoked")
    print(
        f"next: give the broker {path}, and restart it: on a signal (SIGHUP) it reads the list, but an open connection"
    )
    print("      of the device stays until it ends by itself")
    return OK


def enroll(options: argparse.Namespace) -> int:
    """``enroll DEVICE`` or ``enroll --from FILE``: the token on standard output, for whom on standard error."""
    config = _section(options.config)
    devices = _devices(options)
    now, life = datetime.now(UTC), _life(options.valid)
    try:
        folder = Folder(config.folder)
        root = digest(_text(config.root, "root").encode()) if config.root else NO_PIN
        batches = [[device] for device in devices] if options.each else [devices]
        tokens = [(Token.draw(folder.pin, root), batch) for batch in batches]
        folder.register.add_all(tokens, now, life, options.replace)
    except Refused as error:
        print(error, file=sys.stderr)
        return REFUSED
    except (FolderError, RegisterError) as error:
        print(error, file=sys.stderr)
        return FAILED
    if options.each:
        print("device,token")
        for token, batch in tokens:
            print(f"{batch[0].id},{token.text()}")
    else:
        print(tokens[0][0].text())
    who = devices[0].id if len(devices) == 1 else f"{len(devices)} devices"
    print(f"for {who}, once each, until {now + life:%Y-%m-%d %H:%M} UTC", file=sys.stderr)
    for told in folder.ending(now):
        print(told, file=sys.stderr)
    return OK


def _devices(options: argparse.Namespace) -> list[Device]:
    """Return the devices of the command line or of the file; raises :class:`.config.ConfigError` with every problem."""
    if (not options.device) == (options.source is None):
        raise ConfigError(["give a device or --from FILE.csv, and not both"])
    rows = _rows(options.source) if options.source is not None else [(0, [options.device])]
    devices: dict[str, Device] = {}
    problems = []
    for number, row in rows:
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        where = f"{options.source}:{number}: " if number else ""
        if not DEVICE_ID.fullmatch(cells[0]):
            problems.append(f"{where}device id {cells[0]!r} must be 3 to 64 of a-z, 0-9 and '-'")
        elif cells[0] in devices:
            problems.append(f"{where}{cells[0]} stands there twice")
        elif not all(cell.isprintable() for cell in cells):
            problems.append(f"{where}{cells[1]!r} is more than one line: is a quote not closed?")
        else:
            devices[cells[0]] = Device(cells[0], cells[1] if len(cells) > 1 and cells[1] else options.type)
    if problems or not devices:
        raise ConfigError(problems or [f"{options.source}: names no device"])
    return list(devices.values())


def _rows(source: Path) -> list[tuple[int, list[str]]]:
    """Return the lines of a file with their numbers, as a table program writes it: also with semicolons or tabs."""
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            between = next((each for each in first if each in ",;\t"), ",")
            reader = csv.reader(file, delimiter=between, strict=True)
            rows = [(reader.line_num, row) for row in reader]
    except UnicodeDecodeError as error:
        raise ConfigError([f"{source}: not UTF-8 text; save it as UTF-8 (in Excel: CSV UTF-8)"]) from error
    except OSError as error:
        raise ConfigError([f"{source}: cannot be read: {error.strerror or error}"]) from error
    except csv.Error as error:
        raise ConfigError([f"{source}: no CSV: {error}; is a quote not closed?"]) from error
    headed = rows and rows[0][1] and rows[0][1][0].strip().lower() in {"device", "id"}
    return rows[1:] if headed else rows


def _life(text: str) -> timedelta:
    number, unit = text[:-1], text[-1:]
    if unit not in UNITS or not number.isdecimal() or not 0 < int(number) <= 1000:
        raise ConfigError([f'--valid {text!r} is no time such as "30m", "24h" or "7d"'])
    return timedelta(**{UNITS[unit]: int(number)})


def broker_config(options: argparse.Namespace) -> int:
    """``broker-config KIND --out DIR``."""
    config = load(options.config)
    own = config.enrolment.folder if config.enrolment else options.out.resolve()
    folder: PurePath = options.certificates or own
    files = rules.Files(
        folder / CA, folder / "server.pem", folder / "server.key",
        None if options.no_revocations else folder / REVOKED, options.data, options.out.resolve() / "access.acl",
    )  # fmt: skip
    ingest = options.ingest or [config.broker.client_id]
    try:
        texts = rules.render(options.broker, files, port=options.port, ingest=ingest)
    except ValueError as error:
        raise ConfigError([str(error)]) from error
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (options.out / name).write_text(text, encoding="utf-8")
            print(f"wrote {options.out / name}")
    except OSError as error:
        print(f"{options.out}: cannot be written: {error}", file=sys.stderr)
        return FAILED
    if len(ingest) > 1:
        print(f'next: in each ingest process [broker] group = "{rules.group_name()}"; keep it secret')
    return OK


def _section(path: Path | None) -> EnrolmentConfig:
    config = load(path).enrolment
    if config is None:
        where = path or "the default configuration"
        raise ConfigError([f'{where}: has no [enrolment]: name at least broker = "mqtts://…"'])
    return config


def _text(path: Path, key: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"enrolment.{key}: {path} cannot be read: {error}"]) from error
