"""Command line entry point of the agent: ``fieldwatch-agent``.

Heavy libraries are imported by the command that needs them, so that ``--help`` and a Windows service start quickly.
"""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before anything can import onnxruntime
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # one core is enough; the device's own software has the others

import argparse
import json
import platform
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from fieldwatch_agent import __version__, system
from fieldwatch_agent.exits import CRASHED, DONE, FAILED, REFUSED, USAGE
from fieldwatch_agent.places import ServiceError
from fieldwatch_agent.setup import command as setup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fieldwatch_agent.config import Config
    from fieldwatch_agent.findings import Finding
    from fieldwatch_agent.score.replay import Replay
    from fieldwatch_agent.service import Service


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code (:mod:`.exits`)."""
    system.speak_plainly(sys.stdout, sys.stderr)
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except KeyboardInterrupt:
        return FAILED
    except Exception as error:
        if isinstance(error, OSError) and system.reader_left(error):
            sys.stderr.close()
            return DONE
        traceback.print_exc()
        return CRASHED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fieldwatch-agent",
        description="Scores a device's log on the spot and sends results and alerts.",
        epilog="example: fieldwatch-agent run --config agent.toml",
    )
    parser.add_argument("--version", action="version", version=f"fieldwatch-agent {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: object, text: str, example: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, epilog=f"example: fieldwatch-agent {example}")
        sub.set_defaults(command=command)
        return sub

    sub = add("run", _run, "run the service in the foreground", "run --config agent.toml")
    _config_argument(sub)
    sub.add_argument("--until-idle", action="store_true", help="exit 0 when everything is read and acknowledged")
    sub.add_argument("--verbose", action="store_true", help="log more")

    sub = add("check", _check, "validate configuration, paths, certificates and a sample of the log",
              "check --config agent.toml")  # fmt: skip
    _config_argument(sub)
    sub.add_argument("--json", action="store_true", help="findings as JSON")

    sub = add("doctor", _doctor, "try the real thing: log, broker, ingest, updates, and say what to do",
              "doctor --config agent.toml")  # fmt: skip
    _config_argument(sub)
    sub.add_argument("--json", action="store_true", help="findings as JSON")

    sub = add("status", _status, "show the agent's state, also while it runs", "status --config agent.toml")
    _config_argument(sub)
    sub.add_argument("--json", action="store_true", help="as JSON")

    sub = add("replay", _replay, "score a log without side effects, or repeat the decisions of a dossier",
              "replay readings.csv --bundle bundle.zip")  # fmt: skip
    sub.add_argument(
        "logs", nargs="+", type=Path, metavar="LOG", help="log files, read in this order as one log; or one dossier"
    )
    sub.add_argument(
        "--bundle", type=Path, help="the bundle to score with; of a dossier it is also found by its digest, beside the "
        "dossier and in the state folder of --config"
    )  # fmt: skip
    sub.add_argument("--config", type=Path, help="take the log's dialect from this agent.toml")
    sub.add_argument("--json", action="store_true", help="JSON lines (what replay prints anyway)")
    sub.add_argument(
        "--verdicts",
        type=Path,
        metavar="FILE",
        help="repeat what people said of alerts, as 'status --json' has it; needs --config, whose device they are of",
    )
    sub.add_argument("--html", type=Path, metavar="OUT", help="write charts of the scores")

    sub = add("backtest", _backtest, "how often a bundle would have fired on a log: alerts by week, and other budgets",
              "backtest --bundle bundle.zip readings.csv --html backtest.html")  # fmt: skip
    sub.add_argument("logs", nargs="+", type=Path, metavar="LOG", help="log files, read in this order as one log")
    sub.add_argument("--bundle", type=Path, required=True, help="the bundle to try")
    sub.add_argument("--config", type=Path, help="take the log's dialect and the device's id from this agent.toml")
    sub.add_argument(
        "--answers", default="none", metavar="WHO",
        help="none: nobody answers an alert; labels:8h needs labels, so a lake: 'fieldwatch-trainer backtest'",
    )  # fmt: skip
    sub.add_argument(
        "--json", action="store_true",
        help="the alerts, one JSON object a line: device, model, opened_at, ended_at, level, like, sensors",
    )  # fmt: skip
    sub.add_argument("--html", type=Path, metavar="OUT", help="write a page with a picture of each alert")

    sub = add("update", _update, "fetch the bundle that this device should run", "update --config agent.toml")
    _config_argument(sub)
    sub.add_argument("--once", action="store_true", help="once (the default; the service repeats it)")
    sub.add_argument("--from", dest="source", type=Path, metavar="DIR", help="from a folder, for example a USB stick")
    sub.add_argument("--json", action="store_true", help="outcome as JSON")

    sub = add("setup", setup.run, "first run: find the log, write agent.toml, enrol, try everything, start the service",
              setup.EXAMPLE)  # fmt: skip
    setup.add_arguments(sub)
    _identity_arguments(sub)

    sub = add("answer", _answer, "what the service runs to carry out a command of the cloud, read from standard input",
              "answer --config agent.toml <task.json")  # fmt: skip
    _config_argument(sub)

    sub = add("enroll", _enroll, "get this device's certificate, trust root and configuration with a token",
              "enroll --url https://fieldwatch.example.org:8443 --log '/data/press/*.csv' --token fw1-…")  # fmt: skip
    sub.add_argument("--url", required=True, help="the enrolment service's address")
    sub.add_argument("--log", help="path or glob of the device's log, where there is no configuration yet")
    sub.add_argument("--period", default="60s", help='time between two readings; default "60s"')
    _identity_arguments(sub)

    sub = add("service", _service, "run as a service of this computer: systemd, or Windows' own", "service install")
    sub.add_argument("verb", choices=["install", "uninstall", "start", "stop", "status", "run"])
    which = sub.add_mutually_exclusive_group()
    which.add_argument("--config", type=Path, help="on Windows: another instrument's agent.toml, a service of its own")
    which.add_argument("--all", action="store_true", help="on Windows: every instrument's service")

    sub = add("self-test", _self_test, "check that this program scores correctly on this machine", "self-test")
    sub.add_argument("--bundle", type=Path, help="with this bundle instead of the built-in one")

    sub = add("version", _version, "show the versions of agent, Python, onnxruntime, feature kernel", "version --json")
    sub.add_argument("--json", action="store_true", help="as JSON")
    return parser


def _config_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, required=True, help="the agent's configuration, agent.toml")


def _identity_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--token", help="absent or '-': read from standard input, so that no list of processes shows it"
    )
    parser.add_argument("--device", metavar="ID", help="the device's id, where the token does not say it")
    parser.add_argument("--type", metavar="TYPE", help="the device's type, where the token does not say it")
    parser.add_argument("--config", type=Path, help="the configuration to write; default: the service's")
    parser.add_argument("--state", type=Path, help="the state folder; default: the service's, or beside --config")


def _load(path: Path) -> Config | None:
    """Load the configuration; print every problem and return None where there is one."""
    from fieldwatch_agent.config import ConfigError, load

    try:
        return load(path)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return None


def _run(arguments: argparse.Namespace) -> int:
    config = _load(arguments.config)
    if config is None:
        return USAGE
    from fieldwatch_agent import service_log
    from fieldwatch_agent.send.journal import JournalError
    from fieldwatch_agent.service import run

    service_log.begin(config, arguments.verbose)

    def on_start(service: Service) -> None:
        for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), lambda _number, _frame: service.stop())

    try:
        return run(config, arguments.config, arguments.until_idle, on_start)
    except JournalError as error:
        print(error, file=sys.stderr)
        return FAILED


def _check(arguments: argparse.Namespace) -> int:
    config = _load(arguments.config)
    if config is None:
        return USAGE
    from fieldwatch_agent.check import check

    return _tell(check(config), arguments.json)


def _tell(findings: Sequence[Finding], as_json: bool) -> int:
    if as_json:
        print(json.dumps([finding.__dict__ for finding in findings], indent=1))
    else:
        for finding in findings:
            print(finding)
    return REFUSED if any(finding.level == "error" for finding in findings) else DONE


def _doctor(arguments: argparse.Namespace) -> int:
    from fieldwatch_agent import places
    from fieldwatch_agent.service import own_command

    more = ["--json"] if arguments.json else []
    command = own_command("doctor", "--config", str(arguments.config.absolute()), *more)
    if (done := places.run_as_service(command)) is not None:
        return done.returncode
    config = _load(arguments.config)
    if config is None:
        return USAGE
    from fieldwatch_agent.doctor.examine import examine

    return _tell(examine(config), arguments.json)


def _status(arguments: argparse.Namespace) -> int:
    config = _load(arguments.config)
    if config is None:
        return USAGE
    from fieldwatch_agent.send.journal import FILE, JournalError, read_status
    from fieldwatch_agent.status import describe, supported

    try:
        status = supported(read_status(config.state.dir / FILE))
    except JournalError as error:
        print(f"{error}{_active(config)}", file=sys.stderr)
        return FAILED
    print(json.dumps(status, indent=1) if arguments.json else describe(status, config.device.id))
    return DONE


def _active(config: Config) -> str:
    """Name the bundle that is active before the first run, for example after a manual update."""
    from fieldwatch_agent.update.activation import Activation

    bundle = Activation(config.state.dir).state().current
    return f"\nbundle {bundle.name}/{bundle.version} is active: 'fieldwatch-agent run' begins with it" if bundle else ""


def _replay(arguments: argparse.Namespace) -> int:
    from fieldwatch_contract.bundle import BundleError, read_bundle
    from fieldwatch_contract.reading.settings import LogConfig

    from fieldwatch_agent import dossier
    from fieldwatch_agent.score.picture import picture
    from fieldwatch_agent.score.replay import Replay
    from fieldwatch_agent.send.said import from_json

    config = None
    if arguments.config is not None:
        config = _load(arguments.config)
        if config is None:
            return USAGE
    if any(dossier.looks_like_dossier(path) for path in arguments.logs):
        if len(arguments.logs) > 1 or arguments.verdicts is not None or arguments.html is not None:
            print("a dossier is repeated alone, without --verdicts and --html: it has all it needs", file=sys.stderr)
            return USAGE
        return dossier.replay(arguments.logs[0], arguments.bundle, [config.state.dir / "bundles"] if config else [])
    if arguments.bundle is None:
        print("--bundle FILE is missing: the bundle to score the log with", file=sys.stderr)
        return USAGE
    said = from_json(None)
    if arguments.verdicts is not None:
        if config is None:
            print("--verdicts needs --config: an alert's id contains the device's", file=sys.stderr)
            return USAGE
        try:
            said = from_json(system.decode(arguments.verdicts.read_bytes()))
        except (OSError, ValueError) as error:
            print(f"{arguments.verdicts}: no verdicts as 'status --json' writes them: {error}", file=sys.stderr)
            return USAGE
    try:
        bundle = read_bundle(arguments.bundle)
        log = config.log if config else LogConfig(path=str(arguments.logs[0]), period=f"{bundle.manifest.period}us")
        replay = Replay(bundle, log, config.device.id if config else "replay", said)
        rows = []
        for row in replay.rows(arguments.logs):
            print(row.to_json())
            if arguments.html:
                rows.append(row)
        if rows:
            title = f"{bundle.manifest.name}/{bundle.manifest.version} on {arguments.logs[0].name}"
            arguments.html.write_text(picture(rows, title, bundle.manifest.period), encoding="utf-8")
    except BundleError as error:
        print(f"{arguments.bundle}: {error}", file=sys.stderr)
        return FAILED
    except OSError as error:
        if system.reader_left(error):
            raise
        print(f"{error.filename}: {error.strerror}" if error.filename else error, file=sys.stderr)
        return FAILED
    return _read_to_the_end(replay)


def _backtest(arguments: argparse.Namespace) -> int:
    from fieldwatch_contract.backtest import answered_after
    from fieldwatch_contract.bundle import BundleError, read_bundle
    from fieldwatch_contract.reading.settings import LogConfig
    from fieldwatch_contract.told import page, text

    from fieldwatch_agent.score.backtest import backtest
    from fieldwatch_agent.score.replay import Replay

    config = None
    if arguments.config is not None and (config := _load(arguments.config)) is None:
        return USAGE
    try:
        if answered_after(arguments.answers) is not None:
            print(
                "--answers: a log has no labels to answer from; put it into a lake ('fieldwatch-trainer ingest') and "
                "use 'fieldwatch-trainer backtest'",
                file=sys.stderr,
            )
            return USAGE
    except ValueError as error:
        print(f"--answers: {error}", file=sys.stderr)
        return USAGE
    device = config.device.id if config else arguments.logs[0].parent.resolve().name or "log"
    try:
        bundle = read_bundle(arguments.bundle)
        log = config.log if config else LogConfig(path=str(arguments.logs[0]), period=f"{bundle.manifest.period}us")
        replay = Replay(bundle, log, device)
        about = f"{', '.join(path.name for path in arguments.logs[:3])}; nobody answers"
        told = backtest(bundle, device, replay.scored(arguments.logs), about)
        if arguments.html is not None:
            arguments.html.write_text(page(told), encoding="utf-8")
    except BundleError as error:
        print(f"{arguments.bundle}: {error}", file=sys.stderr)
        return FAILED
    except OSError as error:
        print(f"{error.filename}: {error.strerror}" if error.filename else error, file=sys.stderr)
        return FAILED
    if arguments.json:
        for line in told.lines():
            print(line)
    else:
        print(text(told), end="")
    return _read_to_the_end(replay)


def _read_to_the_end(replay: Replay) -> int:
    """Tell what was read, refused and missing; return the exit code."""
    refused = {reason: count for reason, count in replay.refused.items() if count}
    print(f"{replay.readings} readings scored, refused: {refused or 'none'}", file=sys.stderr)
    if replay.ignored:
        print(f"{replay.ignored} verdicts are on alerts that were not raised here", file=sys.stderr)
    if replay.columns:
        print(f"note: {replay.columns}", file=sys.stderr)
    for path in replay.incomplete:
        print(f"{path}: this gzip file is incomplete or damaged: readings after that are missing here", file=sys.stderr)
    if not replay.readings:
        if replay.first:
            print(replay.first, file=sys.stderr)
        print(
            "no reading was found: how the log is written is said in [log] of the file that --config names; "
            "'fieldwatch-agent setup --log LOG' finds it out and writes it",
            file=sys.stderr,
        )
    return DONE if replay.readings and not replay.incomplete else FAILED


def _update(arguments: argparse.Namespace) -> int:
    config = _load(arguments.config)
    if config is None:
        return USAGE
    from fieldwatch_agent import places
    from fieldwatch_agent.service import own_command
    from fieldwatch_agent.update.updater import update, update_from

    if arguments.config.absolute() == places.config_file():  # what root wrote, the service could not change any more
        source = ["--from", str(arguments.source.absolute())] if arguments.source else []
        more = ["--json"] if arguments.json else []
        command = own_command("update", "--config", str(places.config_file()), *source, *more)
        if (done := places.run_as_service(command)) is not None:
            return done.returncode
    if not arguments.source:
        _renew(config)
    result = update_from(config, arguments.source) if arguments.source else update(config)
    if arguments.json:
        print(json.dumps(result.__dict__, default=str))
    else:
        print(f"{result.outcome}: {result.detail}")
    return {"failed": FAILED, "refused": REFUSED}.get(result.outcome, DONE)


def _renew(config: Config) -> None:
    """Renew the certificate on the way, where that is due; a problem is told by the service, and here."""
    from datetime import UTC, datetime

    from fieldwatch_agent.enrol.renewal import renew

    outcome = renew(config, datetime.now(UTC))
    if outcome is not None and (outcome.renewed or outcome.problem):
        what = "renewed" if outcome.renewed else f"not renewed: {outcome.problem}"
        print(f"certificate, valid until {outcome.expires:%Y-%m-%d}: {what}", file=sys.stderr)


def _answer(arguments: argparse.Namespace) -> int:
    config = _load(arguments.config)
    if config is None:
        return USAGE
    from pydantic import ValidationError

    from fieldwatch_agent.command.answer import Task, answer

    try:
        task = Task.model_validate_json(sys.stdin.buffer.read())
    except ValidationError as error:
        print(f"standard input holds no task: {error.errors()[0]['msg']}", file=sys.stderr)
        return USAGE
    print(answer(config, task).model_dump_json())
    return DONE


def _enroll(arguments: argparse.Namespace) -> int:
    from fieldwatch_contract.reading.settings import whole

    from fieldwatch_agent import places
    from fieldwatch_agent.config import ConfigError
    from fieldwatch_agent.enrol.client import Refused, Unreachable
    from fieldwatch_agent.enrol.enroll import Wish, enroll
    from fieldwatch_agent.enrol.identity import IdentityError
    from fieldwatch_agent.enrol.settings import Unwritable

    token = sys.stdin.readline() if arguments.token in {None, "-"} else arguments.token
    config, state = places.folders(arguments.config, arguments.state)
    log = None
    try:
        if arguments.log:  # as setup takes it: relative to where the command is given
            log = {"path": str(whole(Path(arguments.log)).absolute()), "period": arguments.period}
    except ValueError as error:
        print(f"--log {error}", file=sys.stderr)
        return USAGE
    wish = Wish(arguments.url, token, config, state, arguments.device, arguments.type, log)
    try:
        enroll(wish, print)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return USAGE
    except (Refused, Unwritable) as error:
        print(error, file=sys.stderr)
        return REFUSED
    except (Unreachable, IdentityError) as error:
        print(error, file=sys.stderr)
        return FAILED
    except OSError as error:
        print(places.why_not(error), file=sys.stderr)
        return FAILED
    if config == places.config_file() and (started := places.start_service()):
        print(started)
    print(f"next: fieldwatch-agent doctor --config {config}")
    return DONE


def _service(arguments: argparse.Namespace) -> int:
    act = _on_windows if system.WINDOWS else _on_systemd
    try:
        return act(arguments)
    except ServiceError as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}" if error.filename else error, file=sys.stderr)
    return FAILED


def _on_systemd(arguments: argparse.Namespace) -> int:
    from fieldwatch_agent import systemd

    if arguments.config is not None or arguments.all or arguments.verb == "run":
        what = "'run'" if arguments.verb == "run" else "--all" if arguments.all else "--config"
        raise ServiceError(f"service: {what} is for Windows; here a unit of your own says 'fieldwatch-agent run'")
    if arguments.verb == "status":
        return _tell_state(*systemd.state())
    acts = {"install": systemd.install, "uninstall": systemd.uninstall}
    for done in acts[arguments.verb]() if arguments.verb in acts else systemd.control(arguments.verb):
        print(done)
    return DONE


def _on_windows(arguments: argparse.Namespace) -> int:
    from fieldwatch_agent import places
    from fieldwatch_agent import windows_service as service

    if arguments.all and arguments.verb in {"status", "run"}:
        raise ServiceError(f"service {arguments.verb}: name the instrument with --config, not --all")
    if arguments.verb == "run":
        from fieldwatch_agent import windows_manager

        windows_manager.serve((arguments.config or places.config_file()).absolute())
        return DONE
    if arguments.verb == "status":
        return _tell_state(*service.state(arguments.config))
    if arguments.verb == "install":
        act = service.install(arguments.config, arguments.all)
    elif arguments.verb == "uninstall":
        act = service.uninstall(arguments.config, arguments.all)
    else:
        act = service.control(arguments.verb, arguments.config, arguments.all)
    for done in act:
        print(done)
    return DONE


def _tell_state(runs: bool, words: str) -> int:
    print(words)
    return DONE if runs else FAILED


def _self_test(arguments: argparse.Namespace) -> int:
    from fieldwatch_contract.bundle import BundleError, read_bundle
    from fieldwatch_contract.scoring import self_test

    source = arguments.bundle or Path(__file__).with_name("self_test.zip")
    try:
        bundle = read_bundle(source)
        self_test(bundle)
    except (BundleError, OSError) as error:
        print(f"self-test failed: {error}", file=sys.stderr)
        return REFUSED
    print(f"self-test passed: {bundle.manifest.name}/{bundle.manifest.version} gives the trainer's scores here")
    return DONE


def _version(arguments: argparse.Namespace) -> int:
    import onnxruntime
    from fieldwatch_contract import support
    from fieldwatch_contract.features import KERNEL

    versions = {
        "agent": __version__,
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "kernel": KERNEL,
        "supported_until": support.UNTIL.isoformat(),
    }
    if arguments.json:
        print(json.dumps(versions))
    else:
        print(", ".join(f"{name.replace('_', ' ')} {version}" for name, version in versions.items()))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
