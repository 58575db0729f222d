"""Command line entry point: ``fieldwatch-cloud``."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fieldwatch_contract.extras import how_to_install
from fieldwatch_contract.log_lines import OneLine

from fieldwatch_cloud.access import parsers as access
from fieldwatch_cloud.enrolment.parsers import add_parsers

if TYPE_CHECKING:
    from fieldwatch_cloud.server import Part

OK, FAILED, USAGE, REFUSED = 0, 1, 2, 3
_ALL: list[Part] = ["ingest", "worker", "web"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 wrong usage or configuration, 3 a check said no."""
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

    runs: dict[str, tuple[str, list[Part]]] = {
        "serve": ("run everything: ingest, worker, dashboard, and a broker where none is named", _ALL),
        "ingest": ("run ingest alone, with the configured broker: devices → store", ["ingest"]),
        "worker": ("run the worker alone: it tells people; of several one does, the others wait", ["worker"]),
        "web": ("run the dashboard and the API alone", ["web"]),
    }
    for name, (text, parts) in runs.items():
        command = add(name, text, f"fieldwatch-cloud {name} --config cloud.toml")
        command.set_defaults(run=partial(_run, parts))
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
    affected = add(
        "affected",
        "list the devices whose agent has a component in these versions, and those of which it is not known; "
        "exit code 3 unless both lists are empty and there is a device",
        'fieldwatch-cloud affected --config cloud.toml --component "onnxruntime<1.33"',
    )
    affected.add_argument("--component", required=True, help="name as in the SBOM, versions as of Python packages")
    affected.add_argument("--json", action="store_true", help="for programs")
    affected.set_defaults(run=_affected)
    group = access.groups(commands)
    access.add_parsers(group, add)
    notify = group("notify", "how people are told")
    test = notify("test", "send a test message through every channel of a route", "fieldwatch-cloud notify test lab")
    test.add_argument("route", help="its name in the configuration")
    test.set_defaults(run=_notify_test)
    add_parsers(add)
    return parser


def _run(parts: Sequence[Part], options: argparse.Namespace) -> int:
    from fieldwatch_cloud import server
    from fieldwatch_cloud.config import load
    from fieldwatch_cloud.enrolment.folder import FolderError
    from fieldwatch_cloud.ingest.broker import BrokerError
    from fieldwatch_cloud.listen import PortError

    try:
        server.run(load(options.config), options.config, frozenset(parts))
    except (PortError, BrokerError, FolderError) as error:
        print(error, file=sys.stderr)
        return FAILED
    return OK


def _notify_test(options: argparse.Namespace) -> int:
    from fieldwatch_cloud.notify import commands

    return commands.run(options)


def _affected(options: argparse.Namespace) -> int:
    from fieldwatch_cloud import affected
    from fieldwatch_cloud.config import ConfigError, load
    from fieldwatch_cloud.notify import routing_of
    from fieldwatch_cloud.store import Database, inventory, sqlite_url

    config = load(options.config)
    try:
        wanted = affected.parse(options.component)
    except affected.ComponentError as error:
        raise ConfigError([str(error)]) from None
    if not config.store.path.exists():
        print(f"{config.store.path}: no such store; has `serve` run with this configuration?", file=sys.stderr)
        return FAILED
    store = Database(sqlite_url(config.store.path))
    try:
        with store.read() as db:
            fleet = inventory.inventories(db)
    finally:
        store.close()
    found = affected.answer(wanted, fleet, routing_of(config).site)
    print(json.dumps(affected.as_json(found)) if options.json else affected.text(found))
    return OK if found.well else REFUSED


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


if __name__ == "__main__":
    sys.exit(main())
