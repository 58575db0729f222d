"""Detector quality on public data: every device type of a lake is trained, scored and evaluated, as a user would.

    python -m bench.smd                     # SMD and ASD below FIELDWATCH_DATA
    python -m bench.smd --lake LAKE --json

For each device: average precision of the readings after the split (random beside it), event recall and false alarms at
the threshold that training chose without seeing them, hit rate of the responsible sensors, microseconds a row.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from fieldwatch_trainer.evaluate import evaluate_lake
from fieldwatch_trainer.lake import Lake
from fieldwatch_trainer.score import open_bundle, score_lake
from fieldwatch_trainer.split import read_split
from fieldwatch_trainer.train import train_lake

FIGURES = ("average_precision", "event_recall", "false_alarms_per_day", "hit_100", "hit_150")


def data_folder() -> Path:
    """Return the folder with the public data sets."""
    return Path(os.environ.get("FIELDWATCH_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def run(folder: Path, only: list[str] | None = None) -> dict[str, Any]:
    """Train, score and evaluate every device type of the lake, or ``only`` these; return figures by type and means."""
    lake, split = Lake(folder), read_split(folder / "split.json")
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for device_type in only or list(lake.device_types()):
            out = Path(scratch) / device_type
            started = time.process_time()
            train_lake(lake, device_type, out, split)
            trained = time.process_time()
            bundle = open_bundle(out / "bundle.zip")
            scores = out / "scores.parquet"
            readings = score_lake(bundle, lake, split, scores)["readings"]
            scored = time.process_time()
            model = evaluate_lake(bundle, lake, split, scores)["models"]["detector"]
            lines.append(
                {"device_type": device_type}
                | {name: model.get(name) for name in FIGURES}
                | {
                    "random_average_precision": model["random"]["average_precision"],
                    "train_s": round(trained - started, 2),
                    "score_us_a_row": round((scored - trained) / readings * 1e6, 1),
                }
            )
    numbers = [key for key in lines[0] if key != "device_type"]
    mean = {
        key: float(np.mean([line[key] for line in lines if line[key] is not None]))
        for key in numbers
        if any(line[key] is not None for line in lines)
    }
    return {"lake": folder.name, "devices": lines, "mean": mean}


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n", 1)[0], epilog="example: python -m bench.smd"
    )
    parser.add_argument("--lake", type=Path, action="append", metavar="FOLDER", help="default: smd and asd")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    results = [run(folder) for folder in args.lake or [data_folder() / "smd", data_folder() / "asd"]]
    if args.json:
        print(json.dumps(results, indent=1))
        return 0
    for result in results:
        print(f"{result['lake']}: AP, random AP, event recall, false alarms a day, hit 100/150 %, train s, us a row")
        for line in [*result["devices"], {"device_type": "mean"} | result["mean"]]:
            keys = ("average_precision", "random_average_precision", *FIGURES[1:], "train_s", "score_us_a_row")
            cells = ["-" if line.get(key) is None else f"{line[key]:.3f}" for key in keys]
            print(f"  {line['device_type']:<10}" + "".join(f"{cell:>9}" for cell in cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
