"""A log with repetitions, a second reading in a period and a drifting clock: trainer and device have the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fieldwatch_agent.score.replay import Replay
from fieldwatch_contract.bundle import read_bundle
from fieldwatch_contract.clock import SECOND, iso
from fieldwatch_contract.reading.settings import LogConfig
from fieldwatch_contract.scoring import Scorer
from fieldwatch_trainer import together
from fieldwatch_trainer.__main__ import main
from fieldwatch_trainer.lake import Lake

from tests.bundles import make_bundle
from tests.lakes import MINUTE, START, UTC

NAMES = ["a", "b", "c"]
BUNDLE = read_bundle(make_bundle(NAMES))
COUNT = 300
Line = tuple[int, Sequence[str]]
Bits = list[tuple[int, int, bytes]]
"""Time, bits of the score and of the row, of each reading."""


def lines(drift: int, second: int = 41) -> list[Line]:
    """Readings of a device that gains ``drift`` seconds a minute: some delivered twice, some with another one after
    them in the same period, some values missing."""
    rng = np.random.default_rng(3)
    found: list[Line] = []
    for row in range(COUNT):
        ts = START + second * SECOND + row * (MINUTE + drift * SECOND)
        values = [f"{1 + value:.3f}" if rng.random() > 0.3 else "" for value in rng.random(3)]
        found.append((ts, values))
        if rng.random() < 0.1:
            found.append((ts, values))
        if rng.random() < 0.15:
            later = ts + int(rng.integers(4, 26)) * SECOND
            found.append((later, [f"{3 + value:.3f}" if rng.random() > 0.3 else "" for value in rng.random(3)]))
    return found


def spread(found: Sequence[Line], seconds: int) -> list[tuple[int, str, str]]:
    """The same, a line a value, ``seconds`` after one another."""
    every = [
        (ts + place * seconds * SECOND, NAMES[place], value)
        for ts, values in found
        for place, value in enumerate(values)
        if value
    ]
    return sorted(every, key=lambda one: one[0])


def replayed(log: Path, form: str) -> Bits:
    replay = Replay(BUNDLE, LogConfig.model_validate({"path": str(log), "period": "60s", "format": form}))
    before = BUNDLE.manifest.window - 1
    return [
        (int(block.ts[row]), int(scores[0].score[row].view(np.int32)), block.rows[before + row].tobytes())
        for block, scores in replay.scored([log])
        for row in np.flatnonzero(block.source >= 0)
    ]


def of_lake(folder: Path) -> Bits:
    grid = Lake(folder).grid("press-0", NAMES, BUNDLE.manifest.window)
    past = np.full((BUNDLE.manifest.window - 1, len(NAMES)), np.nan)
    (judged,) = Scorer(BUNDLE).score(np.concatenate((past, grid.rows)))
    return [
        (int(grid.ts[row]), int(judged.score[row].view(np.int32)), grid.rows[row].tobytes())
        for row in np.flatnonzero(grid.reading)
    ]


@pytest.mark.parametrize("drift", [0, 1, -1, 4])
def test_a_log_of_columns(tmp_path: Path, drift: int) -> None:
    log = tmp_path / "press-0" / "log.csv"
    log.parent.mkdir()
    log.write_text("time,a,b,c\n" + "".join(f"{iso(ts)},{','.join(values)}\n" for ts, values in lines(drift)))
    for _ in range(2):  # and again, when nothing new has come
        assert main(["ingest", str(log), "--out", str(tmp_path / "lake"), "--period", "60s"]) == 0
        assert of_lake(tmp_path / "lake") == replayed(log, "csv")


@pytest.mark.parametrize("drift", [0, 1, -1, 4])
@pytest.mark.parametrize("apart", [0, 3, 8])
def test_a_log_with_a_line_a_value_by_ingest_and_as_a_lake_from_elsewhere(
    tmp_path: Path, drift: int, apart: int
) -> None:
    log = tmp_path / "press-0" / "log.csv"
    log.parent.mkdir()
    every = spread(lines(drift), apart)
    log.write_text("time,sensor,value\n" + "".join(f"{iso(ts)},{name},{value}\n" for ts, name, value in every))
    device = replayed(log, "long")
    assert len(device) > COUNT * 0.9
    assert main(["ingest", str(log), "--out", str(tmp_path / "lake"), "--period", "60s"]) == 0
    assert of_lake(tmp_path / "lake") == device
    elsewhere = tmp_path / "elsewhere" / "readings"
    elsewhere.mkdir(parents=True)
    (tmp_path / "elsewhere" / "devices.parquet").write_bytes((tmp_path / "lake" / "devices.parquet").read_bytes())
    ts, names, values = zip(*every, strict=True)
    columns = {"device": ["press-0"] * len(ts), "ts": pa.array(ts, UTC), "sensor": names}
    pq.write_table(pa.table(columns | {"value": [float(value) for value in values]}), elsewhere / "part.parquet")
    assert of_lake(tmp_path / "elsewhere")[: len(device)] == device  # which waits for the end of the last one


def write(folder: Path, name: str, ts: Sequence[int], **columns: Sequence[float]) -> None:
    (folder / "readings").mkdir(parents=True, exist_ok=True)
    devices = {"device": ["press-0"], "device_type": ["press"], "period_s": [60.0]}
    pq.write_table(pa.table(devices), folder / "devices.parquet")
    told = {"device": ["press-0"] * len(ts), "ts": pa.array(ts, UTC)}
    pq.write_table(pa.table(told | columns), folder / "readings" / f"{name}.parquet")


def test_a_sensor_that_comes_later_puts_no_two_readings_of_a_period_together(tmp_path: Path) -> None:
    nan = float("nan")
    write(tmp_path, "january", [START, START + 9 * SECOND, START + MINUTE], a=[1.0, nan, 3.0], b=[nan, 2.0, 3.0])
    write(tmp_path, "february", [START + 2 * MINUTE], a=[4.0], b=[4.0], c=[4.0])
    readings = Lake(tmp_path).readings("press-0", NAMES)
    assert readings.ts.tolist() == [START, START + 9 * SECOND, START + MINUTE, START + 2 * MINUTE]
    grid = Lake(tmp_path).grid("press-0", NAMES, 4)
    np.testing.assert_array_equal(grid.rows, [[1.0, nan, nan], [3.0, 3.0, nan], [4.0, 4.0, 4.0]])
    assert grid.duplicate == 1
    assert Lake(tmp_path).readings("press-0", ["a"]).ts.tolist() == readings.ts.tolist(), "whichever are asked for"


def test_components_and_sensors_that_are_read_in_turn_make_readings(tmp_path: Path) -> None:
    row = np.arange(50)
    times = START + row * (MINUTE + SECOND)
    write(tmp_path / "wide", "pump", times.tolist(), a=(row + 0.0).tolist(), b=(row + 100.0).tolist())
    write(tmp_path / "wide", "motor", (times + 7 * SECOND).tolist(), c=(row + 200.0).tolist())
    readings = Lake(tmp_path / "wide").readings("press-0", NAMES)
    np.testing.assert_array_equal(readings.values, np.column_stack([row, row + 100, row + 200]))
    assert readings.ts.tolist() == times.tolist()

    turns = START + np.arange(150) * 20 * SECOND
    told = {"sensor": NAMES * 50, "value": np.arange(150.0).tolist()}
    write(tmp_path / "long", "part", turns.tolist(), **told)
    readings = Lake(tmp_path / "long").readings("press-0", NAMES)
    np.testing.assert_array_equal(readings.values, np.arange(150.0).reshape(50, 3))


def test_what_stands_first_counts_of_rows_that_cover_a_sensor() -> None:
    nan = float("nan")
    values = np.array([[1.0, nan, nan], [5.0, 2.0, nan], [nan, nan, 3.0]])
    covers = np.array([[True, True, False], [True, True, False], [False, False, True]])
    out, covered, repeats, differ = together.put(values, covers, np.array([0]))
    np.testing.assert_array_equal(out, [[1.0, nan, 3.0]])
    assert covered.all() and (repeats, differ) == (2, 2)
    assert together.parted(covers, np.array([0])).tolist() == [0, 1, 2]
    assert together.parted(covers[1:], np.array([0])).tolist() == [0]
