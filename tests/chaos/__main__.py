"""``make chaos``, ``python -m tests.chaos [--minutes 15] [--seed N] [--folder DIR]``: the kill run.

Exit code 1 on any difference, 0 where there is none.

The folder, with the logs as they lie, what was written, each program's output, the journals and the stores, is kept
where there is a difference.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.run import Outcome, rounds, run_round, table


def main() -> int:
    """Run and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Kill everything; nothing may differ.")
    parser.add_argument("--minutes", type=float, default=15.0, help="of faults, in all (default 15)")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000, help="default: drawn")
    parser.add_argument("--folder", type=Path, help="a folder that does not exist yet; default: a temporary one")
    parser.add_argument("--keep", action="store_true", help="keep the folder also where nothing differs")
    options = parser.parse_args()
    if options.folder is not None and options.folder.exists():
        parser.error(f"{options.folder} exists: name a new folder")
    folder = options.folder or Path(tempfile.mkdtemp(prefix="fieldwatch-chaos-"))
    print(f"seed {options.seed}, {options.minutes:g} min, in {folder}", flush=True)

    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:5.0f} s] {text}", flush=True)

    outcomes: list[tuple[int, Outcome]] = []
    for number, seconds, pairs in rounds(options.minutes, options.seed):
        manners = " and ".join(f"{manner} ({broker})" for manner, broker in pairs)
        say(f"round {number + 1}: {manners}, {seconds:.0f} s")
        found = run_round(folder / f"round-{number + 1}", seconds, pairs, options.seed * 1000 + number, say)
        outcomes += [(number, outcome) for outcome in found]
    print(table(outcomes))
    differs = any(outcome.verdict.differences for _, outcome in outcomes)
    if differs or options.keep or options.folder is not None:
        print(f"kept for a diagnosis: {folder}")
    else:
        shutil.rmtree(folder)
    print(f"seed {options.seed}: " + ("DIFFERENCES, see above" if differs else "no difference"))
    return 1 if differs else 0


if __name__ == "__main__":
    sys.exit(main())
