"""A backlog through the whole agent, from the log's bytes to the committed journal, with two models.

The other contestant is the script that would be written instead. pandas reads the file, rolling statistics, a LightGBM
booster of the same size predicts, the detector's formula in numpy gives scores and each sensor's part, and a line of
JSON a reading goes to a file. It holds everything in memory, knows nothing of gaps and twins, and a crash begins it
again. The shorter script, one model and nothing written, is given too.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from fieldwatch_contract.bundle import read_bundle
from fieldwatch_contract.clock import parse_iso
from fieldwatch_contract.features import compute
from fieldwatch_contract.grid import Grid
from fieldwatch_contract.scoring import Scorer

from bench.kernel import with_pandas
from bench.material import NAMES, SENSORS, SPEC, START, bundle, log_lines, models, readings, times
from bench.rounds import take_turns


def write_config(folder: Path, log: str, extra: str = "") -> Path:
    """Write an agent.toml for ``log`` with its state beside it; return its path."""
    path = folder / "agent.toml"
    path.write_text(
        f'[device]\nid = "bench-0001"\ntype = "bench"\n[log]\npath = "{log}"\nperiod = "60s"\n'
        f'[state]\ndir = "{folder.as_posix()}/state"\noutbox_limit = "4GB"\n{extra}',
        encoding="utf-8",
    )
    return path


def with_agent(folder: Path, log: Path, content: bytes) -> Path:
    """Carry the log into a fresh journal and return the journal's path."""
    from fieldwatch_agent.config import load
    from fieldwatch_agent.score.pipeline import Pipeline
    from fieldwatch_agent.send.journal import FILE, Journal

    config = load(write_config(folder, log.as_posix()))
    journal = Journal(config.state.dir, config.state.outbox_limit)
    pipeline = Pipeline(config, read_bundle(content), journal)
    while pipeline.step() is not None:
        pass
    journal.close()
    return config.state.dir / FILE


def train_booster() -> Any:
    """A LightGBM booster as large as the bundle's classifier, on the same features."""
    import lightgbm

    rows = readings(3000, 11)
    labels = (np.arange(3000) % 1000) > 800
    x = compute(rows, len(rows), SPEC)
    settings = {"objective": "binary", "num_leaves": 15, "verbose": -1, "num_threads": 1, "deterministic": True}
    return lightgbm.train(settings, lightgbm.Dataset(x, labels), num_boost_round=150)


def short_script(log: Path, booster: Any) -> tuple[Any, list[float]]:
    """Read, compute, predict."""
    import pandas as pd

    frame = pd.read_csv(log, parse_dates=["timestamp"], index_col="timestamp")
    return frame, booster.predict(with_pandas(frame), num_threads=1).tolist()


def script(log: Path, booster: Any, out: Path) -> int:
    """The same job: both models, the three most responsible sensors of each reading, results in a file."""
    frame, faulty = short_script(log, booster)
    detector = models()[0]
    score = detector.reference(frame.to_numpy())
    parts = np.abs(frame.to_numpy() - np.nanmean(frame.to_numpy(), axis=0))
    order = np.argsort(-parts, axis=1)[:, :3]
    with out.open("w", encoding="utf-8") as file:
        for ts, first, second, worst in zip(frame.index, score.tolist(), faulty, order.tolist(), strict=True):
            sensors = [NAMES[index] for index in worst]
            scores = [
                {"model": "detector", "score": first, "sensors": sensors},
                {"model": "classifier", "score": second},
            ]
            file.write(json.dumps({"ts": ts.isoformat(), "scores": scores}) + "\n")
    return len(frame)


def check(journal: Path, count: int, content: bytes) -> int:
    """Assert that every line became a result with the score of one pass over the whole history; return the results."""
    rows = Scorer(read_bundle(content))
    grid = Grid(rows.manifest.period, rows.manifest.window, SENSORS)
    block = grid.place(times(count), readings(count))
    want = {scores.model: scores.score for scores in rows.score(block.rows)}
    db = sqlite3.connect(journal)
    found = 0
    for (text,) in db.execute("SELECT data FROM outbox WHERE event = 'result' ORDER BY seq"):
        data = json.loads(text)
        row = (parse_iso(data["ts"]) - START) // rows.manifest.period
        assert row == found, "a line is missing, doubled or out of order"
        for score in data["scores"]:
            assert np.float32(score["score"]) == want[score["model"]][row], f"row {row}: another score than in one pass"
        found += 1
    read, refused = db.execute("SELECT (SELECT sum(read) FROM ledger), (SELECT sum(lines) FROM refused)").fetchone()
    db.close()
    assert (found, read, refused or 0) == (count, count, 0), f"{found} results of {count} lines"
    return found


def run(quick: bool) -> dict[str, Any]:
    """Measure; every score is compared with one pass over the whole history."""
    count, rounds = (1_000, 1) if quick else (20_000, 5)
    content = bundle()
    booster = train_booster()
    with tempfile.TemporaryDirectory(prefix="fieldwatch-bench-") as name:
        folder = Path(name)
        log = folder / "readings.csv"
        log.write_bytes(b"".join(log_lines(readings(count), times(count))))
        number = itertools.count()

        def agent() -> Path:
            return with_agent(_made(folder / f"run-{next(number)}"), log, content)

        check(agent(), count, content)
        assert script(log, booster, folder / "results.jsonl") == count
        turns = take_turns(
            {
                "agent": agent,
                "script": lambda: script(log, booster, folder / "results.jsonl"),
                "short": lambda: short_script(log, booster),
            },
            rounds,
        )
        wall = time.perf_counter()
        agent()
        wall = time.perf_counter() - wall
        size = log.stat().st_size
    names = " + ".join(model.name for model in models())
    return {
        "what": f"{count} lines x {SENSORS} sensors ({size / 1e6:.0f} MB), {names}, journal on disk",
        "rounds": rounds,
        "lines/s per core (CPU time)": round(count / turns.median("agent")),
        "lines/s, wall, one run": round(count / wall),
        "script, lines/s per core": round(count / turns.median("script")),
        "times faster than the script for the same job": turns.faster("agent", "script"),
        "times faster than the short script (one model, nothing written)": turns.faster("agent", "short"),
        "a year of minutes, CPU s": round(525_600 / count * turns.median("agent")),
    }


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
