"""The command line of ``enrolment``, ``enroll`` and ``broker-config``; a command loads its libraries when it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path, PurePosixPath

Add = Callable[[str, str, str], argparse.ArgumentParser]


def add_parsers(add: Add) -> None:
    """Add the commands' parsers with ``add(name, what it does, example)``."""
    enrolment = add(
        "enrolment",
        "make the authority that gives devices their certificates, certify the servers anew, serve it, revoke a device",
        "fieldwatch-cloud enrolment init --config cloud.toml --host broker.example.org",
    )
    enrolment.add_argument("act", choices=["init", "certify", "serve", "revoke"])
    enrolment.add_argument("device", nargs="?", help="with revoke: whose certificates end")
    enrolment.add_argument(
        "--host", action="append", default=[], help="with init, certify: name or address of broker and enrolment"
    )
    enrolment.add_argument("--name", default="Fieldwatch devices", help="with init: the authority's name")
    enrolment.add_argument(
        "--ingest", action="append", metavar="NAME", help="with init, certify: an ingest process; default: by [broker]"
    )
    enrolment.set_defaults(run=_later("enrolment"))

    enroll = add(
        "enroll",
        "print the token with which a device, or a batch of them, enrols",
        "fieldwatch-cloud enroll press-0001 --type press --config cloud.toml",
    )
    enroll.add_argument("device", nargs="?", help="the device's id")
    enroll.add_argument("--from", dest="source", type=Path, metavar="FILE.csv", help="devices: a line is id[,type]")
    enroll.add_argument("--each", action="store_true", help="a token for each device, as CSV; else one for all")
    enroll.add_argument("--type", help="the device's type, where the file names none")
    enroll.add_argument("--valid", default="24h", metavar="TIME", help='how long: "30m", "24h", "7d"; default 24h')
    enroll.add_argument("--replace", action="store_true", help="for another PC: revokes the old one's certificate")
    enroll.set_defaults(run=_later("enroll"))

    broker = add(
        "broker-config",
        "write configuration and access rules for a broker",
        "fieldwatch-cloud broker-config mosquitto --out /etc/mosquitto/fieldwatch",
    )
    broker.add_argument("broker", choices=["mosquitto", "emqx"])
    broker.add_argument("--out", type=Path, required=True, help="the folder to write to")
    broker.add_argument(
        "--certificates",
        type=PurePosixPath,
        metavar="DIR",
        help="where the broker finds ca.pem, server.pem, server.key, revoked.pem; default: the folder of [enrolment]",
    )
    broker.add_argument("--data", type=PurePosixPath, default=PurePosixPath("/var/lib/mosquitto"), help="its state")
    broker.add_argument("--port", type=int, default=8883)
    broker.add_argument(
        "--ingest", action="append", metavar="NAME", help="an ingest process; default: one, by [broker]"
    )
    broker.add_argument("--no-revocations", action="store_true", help="there is no list of revoked certificates")
    broker.set_defaults(run=_later("broker_config"))


def _later(name: str) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        from fieldwatch_cloud.enrolment import commands

        return int(getattr(commands, name)(options))

    return run
