"""Command line entry point: ``fieldwatch-cloud``."""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fieldwatch_contract.extras import how_to_install
from fieldwatch_contract.log_lines import OneLine

from fieldwatch_cloud.access import parsers as access
from fieldwatch_cloud.enrolment.parsers import add_parsers

if TYPE_CHECKING:
    from fieldwatch_cloud.config import Config
    from fieldwatch_cloud.web import WebSettings

OK, FAILED, USAGE = 0, 1, 2
INGEST_S = 10.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 wrong usage or configuration."""
    options = _parser().parse_args(argv)
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[output])
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        import sqlalchemy  # noqa: F401 (the first of the extra's packages that everything needs)

        from fieldwatch_cloud.config import ConfigError
        from fieldwatch_cloud.store import StoreError
    except ModuleNotFoundError as error:
        print(f"{error.name} is missing: {how_to_install('cloud')}", file=sys.stderr)
        return FAILED
    try:
        return int(options.run(options))
    except ConfigError as error:
        print("\n".join(error.problems), file=sys.stderr)
        return USAGE
    except StoreError as error:
        print(error, file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        return OK
    except KeyboardInterrupt:
        return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fieldwatch-cloud",
        description="Receives, stores and shows what the devices send.",
        epilog="example: fieldwatch-cloud serve --config cloud.toml",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, text: str, example: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=f"example: {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("--config", type=Path, help="cloud.toml; without one, everything runs here with defaults")
        return command

    serve = add("serve", "run broker, ingest and dashboard", "fieldwatch-cloud serve --config cloud.toml")
    serve.set_defaults(run=_serve)
    ingest = add("ingest", "run only ingest, with the configured broker", "fieldwatch-cloud ingest --config cloud.toml")
    ingest.set_defaults(run=_ingest)
    export = add(
        "export",
        "export results, alerts, labels (people's verdicts) or the audit trail",
        "fieldwatch-cloud export labels --config cloud.toml --format parquet --out labels.parquet",
    )
    export.add_argument("what", choices=["results", "alerts", "labels", "audit"])
    export.add_argument("--device", help="only this device")
    export.add_argument("--since", metavar="TIME", help="only from this time on, such as 2026-11-01T00:00:00Z")
    export.add_argument("--format", choices=["jsonl", "csv", "parquet"], default="jsonl")
    export.add_argument("--out", type=Path, help="file to write; default: standard output (not for Parquet)")
    export.set_defaults(run=_export)
    group = access.groups(commands)
    access.add_parsers(group, add)
    notify = group("notify", "how people are told")
    test = notify("test", "send a test message through every channel of a route", "fieldwatch-cloud notify test lab")
    test.add_argument("route", help="its name in the configuration")
    test.set_defaults(run=_notify_test)
    add_parsers(add)
    return parser


def _serve(options: argparse.Namespace) -> int:
    from fieldwatch_cloud.access.accounts import Accounts
    from fieldwatch_cloud.config import ConfigError, load
    from fieldwatch_cloud.enrolment.commands import make_service
    from fieldwatch_cloud.enrolment.folder import FolderError
    from fieldwatch_cloud.enrolment.service import EnrolmentError
    from fieldwatch_cloud.ingest import Ingest
    from fieldwatch_cloud.ingest.broker import Broker, BrokerError
    from fieldwatch_cloud.notify import Telling, routing_of
    from fieldwatch_cloud.store import Store, sqlite_url
    from fieldwatch_cloud.web import create_app, make_server

    config = load(options.config)
    _keep_secrets(config, options.config)
    settings = _web_settings(config, options.config)
    if _taken(settings.host, settings.port):
        print(f"port {settings.port} of {settings.host} is in use: set web.port to a free one", file=sys.stderr)
        return FAILED
    store = Store(sqlite_url(config.store.path), routing=routing_of(config))
    accounts = Accounts(store).exist()
    if settings.public is not None and not accounts:
        store.close()
        invite = f"fieldwatch-cloud user invite NAME --role admin --config {options.config}"
        raise ConfigError([f"{options.config}: web.url lets others in, and nobody has an account: first `{invite}`"])
    broker = None
    ingest = None
    enrolment = None
    telling = None
    try:
        if config.broker.embedded:
            broker = Broker(config.store.path.parent / "broker", config.broker.port, config.broker.program).start()
            print(broker.note, file=sys.stderr)
        ingest = Ingest(store, config.broker, broker.url if broker is not None else None)
        ingest.start()
        if config.enrolment is not None:
            enrolment = make_service(config.enrolment)
            enrolment.start()
        ingest.wait_connected(INGEST_S)  # be ready for an agent's first event before the dashboard is announced
        telling = Telling(store, config)
        app = create_app(store, store.live, settings, ingest, telling)
        telling.start(app.state.monitor.others)
        says = f"dashboard: {settings.url if accounts else settings.start_url}"  # who reads it may come at once
        server = make_server(app, settings, ready=lambda: print(says, flush=True))
        # The server handles these signals and then raises the same signal again, which must be ignored.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        server.run()
    except (BrokerError, FolderError, EnrolmentError) as error:
        print(error, file=sys.stderr)
        return FAILED
    finally:
        if telling is not None:
            telling.stop()
        if enrolment is not None:
            enrolment.stop()
        if ingest is not None:
            ingest.stop()
        if broker is not None:
            broker.stop()
        store.close()
    return OK


def _notify_test(options: argparse.Namespace) -> int:
    from fieldwatch_cloud.notify import commands

    return commands.run(options)


def _keep_secrets(config: Config, where: Path | None) -> None:
    """Raise :class:`.config.ConfigError` where in production everybody on this machine could read a secret file."""
    from fieldwatch_cloud.config import ConfigError
    from fieldwatch_cloud.production import exposed

    if config.production and (problems := exposed(config)):
        raise ConfigError([f"{where}: in production {problem}" for problem in problems])


def _web_settings(config: Config, where: Path | None) -> WebSettings:
    """Put together what the dashboard is told. Raises :class:`.config.ConfigError` where that cannot be."""
    from fieldwatch_cloud.access.oidc import Provider
    from fieldwatch_cloud.config import ConfigError
    from fieldwatch_cloud.web import WebSettings

    web, oidc = config.web, config.oidc
    tokens = {"start_token": web.start_token, "api_token": web.api_token}
    try:
        provider = None
        if oidc is not None:
            secret = oidc.secret_file.read_text(encoding="utf-8").strip() if oidc.secret_file is not None else None
            provider = Provider(oidc.issuer, oidc.client_id, secret, oidc.name)
        return WebSettings(
            host=web.host,
            port=web.port,
            public=web.url,
            proxies=tuple(web.proxies),
            certificate=web.certificate,
            key=web.key,
            provider=provider,
            **{name: token.get_secret_value() for name, token in tokens.items() if token is not None},
        )
    except OSError as error:
        raise ConfigError([f"{where}: oidc.secret_file: {error.strerror}: {error.filename}"]) from error
    except ValueError as error:
        raise ConfigError([f"{where}: {error}"]) from error


def _ingest(options: argparse.Namespace) -> int:
    from fieldwatch_cloud.config import ConfigError, load
    from fieldwatch_cloud.ingest import Ingest
    from fieldwatch_cloud.notify import routing_of
    from fieldwatch_cloud.store import Store, sqlite_url

    config = load(options.config)
    if config.broker.embedded:
        where = options.config or "the default configuration"
        raise ConfigError([f'{where}: broker.url is "embedded", which `serve` starts: name the broker to take from'])
    _keep_secrets(config, options.config)
    store = Store(sqlite_url(config.store.path), routing=routing_of(config))
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ingest = Ingest(store, config.broker)
    ingest.start()
    while not ended.wait(1.0):  # short waits: on Windows a signal does not interrupt a wait
        pass
    ingest.stop()
    store.close()
    return OK


def _export(options: argparse.Namespace) -> int:
    from fieldwatch_contract.clock import parse_iso

    from fieldwatch_cloud.config import ConfigError, load
    from fieldwatch_cloud.store import Store, export, sqlite_url

    config = load(options.config)
    try:
        since = parse_iso(options.since) if options.since else None
    except ValueError:
        raise ConfigError([f"--since {options.since!r} is not a time such as 2026-11-01T00:00:00Z"]) from None
    if options.format == "parquet" and options.out is None:
        raise ConfigError(["--format parquet needs --out FILE"])
    if not config.store.path.exists():
        print(f"{config.store.path}: no such store; has `serve` run with this configuration?", file=sys.stderr)
        return FAILED
    store = Store(sqlite_url(config.store.path))
    try:
        found = export.rows(store, options.what, options.device, since)
        if options.format == "parquet":
            count = export.write_parquet(found, options.what, options.out)
        elif options.out is None:
            count = export.write_text(found, options.what, options.format, sys.stdout)
        else:
            with options.out.open("w", encoding="utf-8", newline="") as out:
                count = export.write_text(found, options.what, options.format, out)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        print(f"{options.out}: cannot be written: {error}", file=sys.stderr)
        return FAILED
    finally:
        store.close()
    print(f"{count} {options.what}", file=sys.stderr)
    return OK


def _taken(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.settimeout(1)
        return sock.connect_ex((host, port)) == 0


if __name__ == "__main__":
    sys.exit(main())
