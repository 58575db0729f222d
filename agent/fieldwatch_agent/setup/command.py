"""``fieldwatch-agent setup`` on the command line: flags, the terminal, JSON, exit codes."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fieldwatch_agent.exits import DONE, FAILED, REFUSED, USAGE
from fieldwatch_agent.findings import Finding

EXAMPLE = "setup --url https://fieldwatch.example.org:8443"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``setup``."""
    parser.add_argument(
        "places", nargs="*", type=Path, metavar="FOLDER", help="look for the log below; default: usual places"
    )
    parser.add_argument("--log", help="path or pattern of the device's log; quote a pattern")
    parser.add_argument("--period", help='time between two readings, such as "60s"; default: found in the log')
    parser.add_argument("--timezone", metavar="ZONE", help="of times that carry none, such as Europe/Berlin")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any key of [log], such as decimal=,"
    )
    parser.add_argument("--url", help="the enrolment service's address; absent: not enrolled now")
    parser.add_argument("--yes", action="store_true", help="ask nothing, as where standard input is no terminal")
    parser.add_argument(
        "--replace", action="store_true", help="write [device] and [log] anew where there is an agent.toml"
    )
    parser.add_argument("--json", action="store_true", help="what was found and done as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run it; return the exit code: 3 also where the doctor finds an error."""
    from pydantic import ValidationError

    from fieldwatch_agent import places
    from fieldwatch_agent.config import ConfigError, explain
    from fieldwatch_agent.enrol.client import Refused, Unreachable
    from fieldwatch_agent.enrol.identity import IdentityError
    from fieldwatch_agent.enrol.settings import Unwritable
    from fieldwatch_agent.setup.choose import NoLog
    from fieldwatch_agent.setup.first_run import FirstRun, Options
    from fieldwatch_agent.setup.person import Person, Unanswered

    output = sys.stderr if arguments.json else sys.stdout

    def say(text: str) -> None:
        print(text, file=output, flush=True)

    def ask(question: str) -> str:
        print(question, end="", file=output, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line

    def failed(code: int, text: str) -> int:
        if arguments.json:
            print(json.dumps({"error": text}, indent=1))
        else:
            print(text, file=sys.stderr)
        return code

    terminal = sys.stdin is not None and sys.stdin.isatty() and not arguments.yes
    config, state = places.folders(arguments.config, arguments.state)
    files = [str(place) for place in arguments.places if not place.is_dir()]
    if files:
        return failed(USAGE, f"{files[0]} is no folder; name a log with --log, and put a pattern into quotes")
    token = None if arguments.token in {None, "-"} else arguments.token
    if arguments.url is not None and token is None and not terminal and not _enrolled(state):
        token = sys.stdin.readline() if sys.stdin is not None else ""
    try:
        options = Options(  # an installer gives what nobody has said as an empty text
            config=config, state=state, places=arguments.places, log=arguments.log or None, keys=_keys(arguments),
            device=arguments.device or None, device_type=arguments.type, url=arguments.url,
            token=token, replace=arguments.replace, own=config == places.config_file(),
        )  # fmt: skip
        start = places.start_service if options.own else lambda: ""
        report = FirstRun(options, Person(ask if terminal else None, say), say, _examine, start).run()
    except ConfigError as error:
        return failed(USAGE, str(error))
    except ValidationError as error:
        flags = {"period": arguments.period, "timezone": arguments.timezone}
        wrong = [
            explain(
                {**each, "loc": ("log", *each["loc"])},
                lambda key: "--set" if flags.get(key[-1]) is None else f"--{key[-1]}",
            )
            for each in error.errors()
        ]
        return failed(USAGE, "\n".join(wrong))
    except (Unanswered, _Usage) as error:
        return failed(USAGE, str(error))
    except (NoLog, Refused, Unwritable) as error:
        return failed(REFUSED, str(error))
    except (Unreachable, IdentityError) as error:
        return failed(FAILED, str(error))
    except OSError as error:
        return failed(FAILED, places.why_not(error))
    if arguments.json:
        print(json.dumps(report.as_json(), indent=1, default=str))
    return DONE if report.well else REFUSED


class _Usage(Exception):
    """A flag is wrong."""


def _enrolled(state: Path) -> bool:
    from fieldwatch_agent.enrol.settings import IDENTITY

    return (state / "identity" / IDENTITY).exists()


def _keys(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the keys of ``[log]`` that flags have said."""
    keys: dict[str, Any] = {}
    for each in arguments.set:
        name, equals, text = each.partition("=")
        if not equals or not name.strip():
            raise _Usage(f"--set {each}: write KEY=VALUE, such as decimal=, or timestamp.format=%d/%m/%Y")
        section, dot, inner = name.strip().removeprefix("log.").partition(".")
        if section == "path":
            raise _Usage(f"--set {each}: which log it is, --log says")
        if dot or section == "timestamp":
            keys[section] = {
                **_inner(keys.get(section, {})),
                **({inner: _value(text)} if dot else _inner(_value(text))),
            }
        else:
            keys[section] = _value(text)
    if arguments.period is not None:
        keys["period"] = arguments.period
    if arguments.timezone is not None:
        keys["timestamp"] = {**_inner(keys.get("timestamp", {})), "timezone": arguments.timezone}
    return keys


def _inner(value: Any) -> dict[str, Any]:
    """Return ``[log.timestamp]``, of which a bare value is the column."""
    return value if isinstance(value, dict) else {"column": value}


def _value(text: str) -> Any:
    """Return a value as TOML has it; what is none there is a text."""
    try:
        return tomllib.loads(f"value = {text.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _examine(config: Path) -> Sequence[Finding]:
    """Return what the doctor finds, under the service's account where there is one."""
    from fieldwatch_agent import places
    from fieldwatch_agent.config import load
    from fieldwatch_agent.doctor.examine import examine
    from fieldwatch_agent.service import own_command

    if config == places.config_file():
        done = places.run_as_service(own_command("doctor", "--config", str(config), "--json"), capture=True)
        if done is not None:
            return _findings(done)
    return examine(load(config))


def _findings(done: subprocess.CompletedProcess[str]) -> list[Finding]:
    try:
        return [Finding(**each) for each in json.loads(done.stdout)]
    except (ValueError, TypeError):
        told = (done.stderr or done.stdout).strip()[-500:]
        return [Finding("error", "service", f"the doctor fails under the service's account: {told}", "see above")]
