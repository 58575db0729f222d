"""``fieldwatch-demo``: the whole loop on one machine, or only its simulated data."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from fieldwatch_contract.clock import SECOND, iso, parse_iso
from fieldwatch_contract.extras import how_to_install

from fieldwatch_demo.plant import TYPES

HISTORY_START = "2026-01-05T00:00:00Z"
"""Where ``simulate`` begins: fixed, so that the same command gives the same data on any day."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not all(map(_installed, ("pyarrow", "fastapi"))):
        print(f"fieldwatch-demo: trainer and cloud are not installed: {how_to_install('demo')}", file=sys.stderr)
        return 1
    if options.command == "simulate":
        return _simulate(options)
    if not 1 <= options.devices <= 20:
        parser.error(f"--devices must be 1 to 20 on one machine, not {options.devices}")
    if not 1 <= options.speed <= 600:
        parser.error(f"--speed must be 1 to 600, not {options.speed:g}")
    return _demo(options)


def _installed(library: str) -> bool:
    try:
        return find_spec(library) is not None
    except ModuleNotFoundError:
        return False


def _demo(options: argparse.Namespace) -> int:
    from fieldwatch_demo.folder import FolderError
    from fieldwatch_demo.progress import Progress
    from fieldwatch_demo.run import Options, run
    from fieldwatch_demo.stop import Stop

    stop = Stop()
    stop.listen()
    chosen = Options(options.devices, options.speed, options.dir, options.open, options.until_alert, options.timeout)
    try:
        code, summary = run(chosen, stop, Progress())
    except FolderError as error:
        print(f"fieldwatch-demo: {error}", file=sys.stderr)
        return 2
    if summary is not None:
        print(json.dumps(summary), flush=True)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fieldwatch-demo",
        description="Simulates devices, trains, signs, serves, runs agents, shows the dashboard: all on this machine.",
        epilog="example: fieldwatch-demo --devices 3 --speed 60 --open",
    )
    parser.add_argument("--devices", type=int, default=3, help="devices watched (default: 3)")
    parser.add_argument(
        "--speed", type=float, default=60.0, help="simulated per real time (default: 60, a line a second)"
    )
    parser.add_argument(
        "--dir", type=Path, default=Path("demo-state"), help="folder for everything (default: demo-state)"
    )
    parser.add_argument("--open", action="store_true", help="open the dashboard in the browser")
    parser.add_argument("--until-alert", action="store_true", help="end with an injected fault's alert; JSON on stdout")
    parser.add_argument(
        "--timeout",
        type=float,
        default=180.0,
        help="seconds for --until-alert, from the start of the agents (default: 180)",
    )
    commands = parser.add_subparsers(dest="command", metavar="[simulate]")
    simulate = commands.add_parser(
        "simulate",
        help="only the data: device logs, lake and ground truth",
        description="Writes logs/<device>/readings.csv, lake/ as fieldwatch-trainer reads it, and truth.json.",
        epilog="example: fieldwatch-demo simulate --out sim --devices 6 --days 4",
    )
    simulate.add_argument(
        "--out", type=Path, required=True, help="folder to write to; logs of the same name are replaced"
    )
    simulate.add_argument("--type", choices=TYPES, default="press", help="kind of device (default: press)")
    simulate.add_argument("--devices", type=int, default=6, help="how many (default: 6)")
    simulate.add_argument("--days", type=int, default=4, help="how long (default: 4)")
    simulate.add_argument("--sensors", type=int, default=100, help="a device (default: 100)")
    simulate.add_argument("--period", type=int, default=60, help="seconds between readings (default: 60)")
    simulate.add_argument("--seed", type=int, default=1, help="same seed, same data (default: 1)")
    simulate.add_argument("--rotate", action="store_true", help="a log file a day, as loggers do that rotate")
    return parser


def _simulate(options: argparse.Namespace) -> int:
    from fieldwatch_demo.fleet import make_fleet, write_fleet

    began = time.monotonic()
    try:
        fleet = make_fleet(
            options.type,
            options.devices,
            options.days,
            parse_iso(HISTORY_START),
            options.seed,
            options.sensors,
            options.period * SECOND,
        )
    except ValueError as error:
        print(f"fieldwatch-demo simulate: {error}", file=sys.stderr)
        return 2
    devices = {device.name for device in fleet.devices}
    others = sorted({path.stem for path in (options.out / "lake" / "readings").glob("*.parquet")} - devices)
    if others:
        print(
            f"fieldwatch-demo simulate: {options.out} holds the lake of other devices ({others[0]}); "
            "they would be trained on too: choose another folder, or remove that one",
            file=sys.stderr,
        )
        return 2
    try:
        lines = write_fleet(fleet, options.out, options.rotate)
    except OSError as error:
        print(f"fieldwatch-demo simulate: cannot write to {options.out}: {error}", file=sys.stderr)
        return 1
    first = fleet.devices[0]
    faults = sum(len(device.faults) for device in fleet.devices)
    print(
        f"{len(fleet.devices)} × {fleet.type}, {len(first.plant.sensors)} sensors, {lines} lines, "
        f"{iso(first.start)} to {iso(first.time(fleet.rows))}, "
        f"{faults} faults: {options.out} ({time.monotonic() - began:.1f} s)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
