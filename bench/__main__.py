"""``python -m bench [CASE …] [--quick]``: measure and print, as a table for people and as JSON for programs.

Each case asserts that what it measures is right, in the same run; a case that is wrong ends the program with 1.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # everybody gets one core; before any of them is imported
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["POLARS_MAX_THREADS"] = "1"

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from bench import catchup, drain, kernel, live, parsing
from bench.rounds import conditions

CASES: dict[str, tuple[Callable[[bool], dict[str, Any]], str]] = {
    "kernel": (kernel.run, "feature kernel in batch against pandas, polars, River"),
    "parse": (parsing.run, "log lines to numbers against numpy, pandas, polars"),
    "catchup": (catchup.run, "a backlog through the whole agent against a pandas + LightGBM script"),
    "drain": (drain.run, "a backlog from the outbox through Mosquitto until it is acknowledged"),
    "latency": (live.latency, "from the appended line to the committed result"),
    "idle": (live.idle, "memory and CPU of a waiting agent"),
    "frozen": (live.frozen, "size of the frozen agent"),
}


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the figures as a markdown table."""
    lines = ["| case | figure | value |", "|---|---|---|"]
    for case, figures in results.items():
        for name, value in figures.items():
            shown = f"{value['median']} ({value['least']}-{value['most']})" if isinstance(value, dict) else value
            lines.append(f"| {case} | {name} | {shown} |")
    return "\n".join(lines)


def main() -> int:
    """Run the chosen cases; 0 done, 1 a case is wrong or failed."""
    listed = "\n".join(f"  {name:9} {text}" for name, (_, text) in CASES.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=f"Figures with their conditions.\n\ncases:\n{listed}",
        epilog="example: python -m bench kernel catchup", formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("cases", nargs="*", metavar="CASE", help="all, where none is named")
    parser.add_argument(
        "--quick", action="store_true", help="a small round that shows that it runs; no figures to quote"
    )
    parser.add_argument("--json", action="store_true", help="JSON alone")
    options = parser.parse_args()
    if unknown := sorted(set(options.cases) - set(CASES)):
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")

    facts = conditions()
    results: dict[str, dict[str, Any]] = {}
    failed = False
    for name in options.cases or CASES:
        print(f"{name} …", file=sys.stderr, flush=True)
        try:
            results[name] = CASES[name][0](options.quick)
        except (AssertionError, RuntimeError, ImportError) as error:
            results[name] = {"failed": str(error)}
            failed = True
    print(json.dumps({"quick": options.quick, "conditions": facts, "cases": results}, indent=1))
    if not options.json:
        where = f"{facts['processor']}, {facts['cores']} cores, load {facts['load']}, 1 thread each"
        versions = ", ".join(f"{name} {value}" for name, value in facts["versions"].items())
        print(f"\n{where}; {versions}\n\n{table(results)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
