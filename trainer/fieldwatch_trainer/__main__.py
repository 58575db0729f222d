"""``fieldwatch-trainer``: the trainer's door. The work is elsewhere; here are options, messages and exit codes.

0 done, 1 failed, 2 wrong usage or data, 3 a gate or check said no.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fieldwatch_contract.extras import how_to_install

from fieldwatch_trainer import terminal

REFUSED = 3
NEEDED = ("pyarrow", "onnx", "threadpoolctl", "matplotlib")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        args = _parser(argv[0] if argv else None).parse_args(argv)
        from fieldwatch_trainer import check, gate, lake, score, split, table, train
        from fieldwatch_trainer.checks.finding import AcceptError
        from fieldwatch_trainer.ingest.command import IngestError
        from fieldwatch_trainer.ingest.intervals import IntervalsError
        from fieldwatch_trainer.ingest.store import StoreError
        from fieldwatch_trainer.models import TooLittleData
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in NEEDED:
            raise
        return _fail(f"{error.name} is not installed: {how_to_install('trainer')}", 1)
    from fieldwatch_contract.bundle import BundleError

    usage = (
        lake.LakeError, split.SplitError, table.TableError, train.TrainError, score.ScoreError,
        BundleError, TooLittleData, AcceptError, IngestError, IntervalsError, StoreError,
    )  # fmt: skip
    try:
        return int(args.run(args))
    except usage as error:
        return _fail(str(error), 2)
    except (gate.GateError, check.CheckError, score.AbsentError) as error:
        return _fail(str(error), 3)
    except OSError as error:
        return _fail(f"{error.filename or 'input or output'}: {error.strerror or error}", 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 1)


def _parser(wanted: str | None) -> argparse.ArgumentParser:
    """Return the parser; the options of ``check`` stand beside its work, and are read where they are wanted."""
    parser = argparse.ArgumentParser(
        prog="fieldwatch-trainer",
        description="Trains, scores and judges the models that the agents run.",
        epilog="example: fieldwatch-trainer train --lake lake --device-type press --out run",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = _command(
        commands, "train", _train, "make a bundle from a lake or a table",
        "fieldwatch-trainer train --lake lake --device-type press --train-until 2026-05-01 --out run",
    )  # fmt: skip
    _source(train)
    train.add_argument("--device-type", metavar="T", help="of the devices to learn from; with --lake")
    train.add_argument("--label", metavar="COLUMN", help="column with 0 or 1 (or true or false); with --csv")
    train.add_argument("--out", required=True, type=Path, metavar="RUN", help="folder for bundle, run.json and report")
    _border(train, "--train-until", "learn from readings before this time (RFC 3339)")
    train.add_argument(
        "--accept", action="append", default=[], metavar="FINDING[:SENSOR]",
        help="train over this finding of check, such as unit-change:humidity; may be repeated",
    )  # fmt: skip
    train.add_argument(
        "--budget", type=_positive, metavar="N", help="false alarms a device-day that people can bear (default 0.5)"
    )
    train.add_argument(
        "--no-adapt", action="store_true", help="the bundle's alert levels never move: for laboratories that must not"
    )
    _json(train)

    score = _command(
        commands, "score", _score, "write the scores of a lake or a table",
        "fieldwatch-trainer score --bundle run/bundle.zip --lake lake --since 2026-05-01 --out scores.parquet",
    )  # fmt: skip
    score.add_argument("--bundle", required=True, type=Path, metavar="B", help="bundle.zip")
    _source(score)
    score.add_argument("--out", type=Path, default=Path("scores.parquet"), metavar="FILE", help="scores.parquet")
    _border(score, "--since", "score readings from this time on; earlier ones are history")
    _json(score)

    evaluate = _command(
        commands, "evaluate", _evaluate, "hold scores against labels, beside a random score",
        "fieldwatch-trainer evaluate --bundle run/bundle.zip --lake lake --split split.json --html evaluation.html",
    )  # fmt: skip
    evaluate.add_argument("--bundle", required=True, type=Path, metavar="B", help="bundle.zip")
    evaluate.add_argument("--lake", required=True, metavar="L", help="folder or s3://, abfs://, gs:// address")
    _border(evaluate, "--since", "judge readings from this time on")
    evaluate.add_argument(
        "--scores", type=Path, metavar="FILE", help="scores.parquet of this bundle, not to score again"
    )
    evaluate.add_argument("--out", type=Path, metavar="FILE", help="write the evaluation as JSON")
    evaluate.add_argument("--html", type=Path, metavar="FILE", help="write the evaluation as a page")
    _json(evaluate)

    compare = _command(
        commands, "compare", _compare, "may a challenger replace the champion? exit code 3 where it may not",
        "fieldwatch-trainer compare champion/bundle.zip run/bundle.zip --lake lake --since 2026-05-01",
    )  # fmt: skip
    compare.add_argument("champion", type=Path, metavar="CHAMPION", help="bundle.zip that runs now")
    compare.add_argument("challenger", type=Path, metavar="CHALLENGER", help="bundle.zip, its run.json beside it")
    compare.add_argument("--lake", required=True, metavar="L", help="folder or s3://, abfs://, gs:// address")
    _border(compare, "--since", "judge readings from this time on; neither may have learnt from them")
    compare.add_argument(
        "--budget", type=_positive, metavar="N", help="false alarms a device-day (default: the challenger's)"
    )
    _json(compare)

    backtest = _command(
        commands, "backtest", _backtest, "how often the bundle would have fired on a lake",
        "fieldwatch-trainer backtest --bundle run/bundle.zip --lake lake --answers labels:8h --html backtest.html",
    )  # fmt: skip
    backtest.add_argument("--bundle", required=True, type=Path, metavar="B", help="bundle.zip")
    backtest.add_argument("--lake", required=True, metavar="L", help="folder or s3://, abfs://, gs:// address")
    _border(backtest, "--since", "alerts from this time on; earlier readings are history")
    backtest.add_argument(
        "--answers", type=_answers, default=None, metavar="WHO",
        help="none: nobody answers an alert (default); labels:8h: people do, from the labels, so long after it opened",
    )  # fmt: skip
    backtest.add_argument("--html", type=Path, metavar="FILE", help="write a page with a picture of each alert")
    backtest.add_argument(
        "--json", action="store_true",
        help="the alerts, one JSON object a line: device, model, opened_at, ended_at, level, like, sensors",
    )  # fmt: skip

    ingest = _command(
        commands, "ingest", _ingest, "make a lake of device logs",
        "fieldwatch-trainer ingest logs --out lake --device-type press --period 60s",
    )  # fmt: skip
    if wanted == "ingest":
        from fieldwatch_trainer.ingest.command import add_arguments as add_ingest

        add_ingest(ingest)
    check = _command(
        commands, "check", _check, "report on a lake's data before training", "fieldwatch-trainer check --lake lake"
    )
    if wanted == "check":
        from fieldwatch_trainer.check import add_arguments

        add_arguments(check)
    return parser


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], int], does: str, example: str) -> Any:
    parser = commands.add_parser(name, help=does, description=does.capitalize() + ".", epilog=f"example: {example}")
    parser.set_defaults(run=run, usage_error=parser.error)
    return parser


def _source(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--lake", metavar="L", help="folder or s3://, abfs://, gs:// address")
    source.add_argument("--csv", type=Path, metavar="FILE", help="a plain table, one independent reading a row")


def _border(parser: argparse.ArgumentParser, option: str, does: str) -> None:
    border = parser.add_mutually_exclusive_group()
    border.add_argument(option, dest="time", metavar="TS", help=does)
    border.add_argument("--split", metavar="FILE", help='{"train_until": {device: time}}')


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout")


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} must be a number above 0")
    return value


def _train(args: argparse.Namespace) -> int:
    from fieldwatch_trainer import train
    from fieldwatch_trainer.checks.finding import Accepted
    from fieldwatch_trainer.lake import Lake
    from fieldwatch_trainer.split import choose
    from fieldwatch_trainer.table import read_table
    from fieldwatch_trainer.thresholds import BUDGET

    if args.csv is not None:
        if args.label is None:
            args.usage_error("--csv needs --label COLUMN")
        if args.device_type or args.time or args.split or args.budget or args.accept or args.no_adapt:
            args.usage_error(
                "--device-type, --train-until, --split, --budget, --accept and --no-adapt need --lake: "
                "a table has no time"
            )
        run = train.train_table(read_table(args.csv, args.label), args.label, args.out, terminal.progress)
    else:
        if args.device_type is None:
            args.usage_error("--lake needs --device-type T")
        split = choose(args.time, args.split)
        where = args.split or "--train-until"
        accepted = Accepted.read(args.accept)
        lake = Lake(args.lake, strict=False)
        budget = args.budget or BUDGET
        run = train.train_lake(
            lake, args.device_type, args.out, split, budget, terminal.progress, where, accepted, adapt=not args.no_adapt
        )
    terminal.progress("")
    sys.stdout.write(json.dumps(run, indent=1) + "\n" if args.json else train.said(run, args.out))
    return 0


def _score(args: argparse.Namespace) -> int:
    from fieldwatch_trainer import score
    from fieldwatch_trainer.lake import Lake
    from fieldwatch_trainer.split import choose
    from fieldwatch_trainer.table import read_table

    bundle = score.open_bundle(args.bundle)
    if args.csv is not None:
        if args.time or args.split:
            args.usage_error("--since and --split need --lake: a table has no time")
        summary = score.score_table(bundle, read_table(args.csv, sensors=bundle.manifest.sensors), args.out)
    else:
        summary = score.score_lake(bundle, Lake(args.lake), choose(args.time, args.split), args.out, terminal.progress)
    terminal.progress("")
    sys.stdout.write(json.dumps(summary, indent=1) + "\n" if args.json else score.said(summary))
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from fieldwatch_trainer import evaluate, record, report, score
    from fieldwatch_trainer.lake import Lake
    from fieldwatch_trainer.split import choose

    bundle = score.open_bundle(args.bundle)
    split = choose(args.time, args.split)
    for wanted in (args.out, args.html):
        if wanted is not None:
            wanted.parent.mkdir(parents=True, exist_ok=True)
    budget = record.budget_of(record.run_of(args.bundle, bundle.sha256))
    result = evaluate.evaluate_lake(bundle, Lake(args.lake), split, args.scores, terminal.progress, budget)
    terminal.progress("")
    if args.out is not None:
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8", newline="\n")
    if args.html is not None:
        report.write_evaluation(args.html, result)
    sys.stdout.write(json.dumps(result, indent=1) + "\n" if args.json else evaluate.said(result))
    record.note(args.bundle, "evaluate", result)
    return REFUSED if any(gate["status"] == "failed" for gate in result["gates"]) else 0


def _compare(args: argparse.Namespace) -> int:
    from fieldwatch_trainer import compare, record
    from fieldwatch_trainer.lake import Lake
    from fieldwatch_trainer.split import choose

    split = choose(args.time, args.split)
    result = compare.compare(args.champion, args.challenger, Lake(args.lake), split, args.budget, terminal.progress)
    terminal.progress("")
    sys.stdout.write(json.dumps(result, indent=1) + "\n" if args.json else compare.said(result))
    record.note(args.challenger, "compare", result | {"sha256": result["challenger"]["sha256"]})
    return 0 if result["replace"] else REFUSED


def _backtest(args: argparse.Namespace) -> int:
    from fieldwatch_contract.told import page, text

    from fieldwatch_trainer import backtest, score
    from fieldwatch_trainer.lake import Lake
    from fieldwatch_trainer.split import choose

    bundle = score.open_bundle(args.bundle)
    split = choose(args.time, args.split)
    _, told = backtest.backtest_lake(bundle, Lake(args.lake), split, answered=args.answers, progress=terminal.progress)
    terminal.progress("")
    if args.html is not None:
        args.html.parent.mkdir(parents=True, exist_ok=True)
        args.html.write_text(page(told), encoding="utf-8", newline="\n")
    if args.json:
        sys.stdout.writelines(line + "\n" for line in told.lines())
    else:
        sys.stdout.write(text(told))
    return 0


def _answers(value: str) -> int | None:
    from fieldwatch_contract.backtest import answered_after

    try:
        return answered_after(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _check(args: argparse.Namespace) -> int:
    from fieldwatch_trainer import check

    return check.main(args)


def _ingest(args: argparse.Namespace) -> int:
    from fieldwatch_trainer.ingest import command

    return command.main(args)


def _fail(message: str, code: int) -> int:
    terminal.progress("")
    sys.stderr.write(f"fieldwatch-trainer: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
