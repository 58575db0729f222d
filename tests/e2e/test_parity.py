"""One function on both sides: what ``replay`` says of a log is what ``score`` says of the same rows in the lake.

Compared for equality, not closeness: time, model, score, threshold, verdict, sensors and shares; where both begin with
the device's first row also what an alert needed and which one was open.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fieldwatch_contract.clock import iso

pytestmark = pytest.mark.timeout(240)
ROOT = Path(__file__).parents[2]
FIELDS = ("ts", "model", "score", "threshold", "verdict", "sensors", "shares")
ALL = (*FIELDS, "level", "alert")


def run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def scored(path: Path, device: str, fields: Sequence[str] = FIELDS) -> list[dict[str, Any]]:
    table = pq.read_table(path)
    times = table.column("ts").cast(pa.timestamp("us", "UTC")).cast("int64").to_pylist()
    rows = table.to_pylist()
    return [
        {"ts": iso(ts), **{key: row[key] for key in fields[1:]}}
        for ts, row in zip(times, rows, strict=True)
        if row["device"] == device
    ]


def replayed(log: Path, bundle: Path, *more: str, fields: Sequence[str] = FIELDS) -> list[dict[str, Any]]:
    rows = map(json.loads, run("fieldwatch_agent", "replay", str(log), "--bundle", str(bundle), *more).splitlines())
    return [{key: row[key] for key in fields} for row in rows]


def by_row(rows: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["ts"], row["model"]): row for row in rows}


def test_replay_says_what_the_trainer_says(tmp_path: Path) -> None:
    """On simulated devices with both models, gaps and missing values."""
    run("fieldwatch_demo", "simulate", "--out", str(tmp_path), "--devices", "2", "--days", "3", "--sensors", "20")
    lake = tmp_path / "lake"
    run("fieldwatch_trainer", "train", "--lake", str(lake), "--device-type", "press", "--out", str(tmp_path / "run"))
    bundle = tmp_path / "run" / "bundle.zip"
    run(
        "fieldwatch_trainer",
        "score",
        "--bundle",
        str(bundle),
        "--lake",
        str(lake),
        "--out",
        str(tmp_path / "scores.parquet"),
    )
    raised, alerts, levels = set(), set(), set()
    for log in sorted((tmp_path / "logs").iterdir()):
        config = tmp_path / f"{log.name}.toml"  # an alert's id contains the device's
        config.write_text(
            f'[device]\nid = "{log.name}"\ntype = "press"\n'
            f'[log]\npath = {json.dumps(str(log / "readings.csv"))}\nperiod = "60s"\n'
        )
        ours = by_row(replayed(log / "readings.csv", bundle, "--config", str(config), fields=ALL))
        theirs = by_row(scored(tmp_path / "scores.parquet", log.name, ALL))
        assert {model for _, model in ours} == {"detector", "classifier"}
        assert ours == theirs
        raised |= {row["verdict"] for row in ours.values()}
        alerts |= {row["alert"] for row in ours.values()} - {None}
        levels |= {row["level"] for row in ours.values()}
    assert alerts and len(levels) > len(alerts)
    assert raised == {"normal", "anomalous", "faulty", "unknown"}


@pytest.mark.soak
@pytest.mark.realdata
def test_replay_says_what_the_trainer_says_of_real_data(tmp_path: Path, data_dir: Path) -> None:
    """On one SMD device: the part after the split, whose past is in the lake and in the log."""
    smd = data_dir / "smd"
    split = str(smd / "split.json")
    run("fieldwatch_trainer", "train", "--lake", str(smd), "--device-type", "smd-1-6", "--split", split,
        "--out", str(tmp_path / "run"))  # fmt: skip
    bundle = tmp_path / "run" / "bundle.zip"
    run("fieldwatch_trainer", "score", "--bundle", str(bundle), "--lake", str(smd), "--split", split,
        "--out", str(tmp_path / "scores.parquet"))  # fmt: skip
    table = pq.read_table(smd / "readings" / "smd-1-6.parquet")
    sensors = [name for name in table.column_names if name not in ("device", "ts")]
    times = table.column("ts").cast(pa.timestamp("us", "UTC")).cast("int64").to_pylist()
    columns = [table.column(name).to_pylist() for name in sensors]
    log = tmp_path / "log.csv"
    with log.open("w") as file:
        file.write("timestamp," + ",".join(sensors) + "\n")
        for ts, row in zip(times, zip(*columns, strict=True), strict=True):
            file.write(iso(ts) + "," + ",".join("" if value is None else repr(value) for value in row) + "\n")
    ours = by_row(replayed(log, bundle))
    theirs = by_row(scored(tmp_path / "scores.parquet", "smd-1-6"))
    assert len(theirs) > 20_000
    assert {key: ours[key] for key in theirs} == theirs
