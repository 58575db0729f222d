"""A device whose minute is not the clock's loses no reading, restarts change nothing, and the trainer has its rows."""

from __future__ import annotations

import base64
import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from fieldwatch_agent.send.database import checksum
from fieldwatch_contract.acceptance import Rows
from fieldwatch_contract.clock import MINUTE, SECOND, iso
from fieldwatch_contract.scoring import Scorer
from fieldwatch_trainer.lake import Lake
from numpy.typing import NDArray

from tests.lakes import LakeMaker
from tests.unit.agent.test_pipeline import START, Device

COUNT = 240


def minutes(kind: str, count: int = COUNT) -> NDArray[np.int64]:
    """When a device of this kind writes its readings."""
    rng = np.random.default_rng(5)
    row = np.arange(count, dtype=np.int64)
    jitter = rng.integers(-SECOND // 5, SECOND // 5, count, endpoint=True)
    match kind:
        case "jitter":
            return START + row * MINUTE + jitter
        case "ahead":  # its clock gains three seconds a minute
            return START + 10 * SECOND + row * (MINUTE + 3 * SECOND) + jitter
        case "behind":
            return START + 10 * SECOND + row * (MINUTE - 3 * SECOND) + jitter
        case "restarts":  # each time in another phase
            return START + row * MINUTE + (row // 60) * (7 * MINUTE + 25 * SECOND) + jitter
        case "crowded":  # every ten seconds for a while
            often = (row > 60) & (row < 180)
            return START + np.cumsum(np.where(often, 10 * SECOND, MINUTE)) + jitter
    raise AssertionError(kind)


KINDS = ["jitter", "ahead", "behind", "restarts", "crowded"]


def write(device: Device, ts: NDArray[np.int64]) -> list[str]:
    """The lines of readings at ``ts``; the clock goes with them."""
    device.now = int(ts[-1])
    return [device.reading(row, ts=time) for row, time in enumerate(ts.tolist())]


@pytest.mark.parametrize("kind", ["jitter", "ahead", "behind", "restarts"])
def test_every_reading_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    device, ts = Device(tmp_path, monkeypatch), minutes(kind)
    device.append("".join(write(device, ts)))
    device.carry()
    assert device.refused() == {}
    assert [each["ts"] for each in device.results()] == [iso(time) for time in ts.tolist()]


@pytest.mark.parametrize("kind", KINDS)
def test_restarts_anywhere_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    ts = minutes(kind)
    sound = Device(tmp_path / "sound", monkeypatch)
    sound.append("".join(write(sound, ts)))
    sound.carry()
    device = Device(tmp_path / "device", monkeypatch)
    lines, rng = write(device, ts), random.Random(kind)
    while lines:
        count = rng.choice([1, 1, 2, 7, 30])
        device.append("".join(lines[:count]))
        del lines[:count]
        device.carry()
        if rng.random() < 0.5:
            device.restart()
    assert device.results() == sound.results()
    assert device.refused() == sound.refused()


def record_as_before(device: Device) -> None:
    """Write the rows into the journal as the version before did, whose grid never moved: a bitmap of slots."""
    with closing(sqlite3.connect(device.journal.path)) as db:
        (text,) = db.execute("SELECT value FROM meta WHERE key = 'progress'").fetchone()
        progress = json.loads(text)
        slots = Rows.from_text(progress["rows"]).quarters // 4
        bits = np.zeros(int(slots[-1] - slots[0]) + 1, np.uint8)
        bits[slots[-1] - slots] = 1
        progress["rows"] = f"{MINUTE}:{slots[-1]}:{base64.b64encode(np.packbits(bits).tobytes()).decode()}"
        text = json.dumps(progress)
        for key in ("progress", "progress_copy"):
            db.execute("UPDATE meta SET value = ?, sum = ? WHERE key = ?", (text, checksum(key, text), key))
        db.commit()


@pytest.mark.parametrize("second", [0.1, 17.0, 59.9])
def test_a_journal_of_a_grid_that_never_moved_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: float
) -> None:
    """And no reading is lost when the device's jitter crosses the minute after that, nor at the restarts to come."""
    ts = START + round(second * SECOND) + np.arange(130) * MINUTE
    ts[100::2] -= SECOND // 5
    sound = Device(tmp_path / "sound", monkeypatch)
    sound.append("".join(write(sound, ts)))
    sound.carry()
    device = Device(tmp_path / "device", monkeypatch)
    lines = write(device, ts)
    device.append("".join(lines[:100]))
    device.carry()
    record_as_before(device)
    for line in lines[100:]:
        device.restart()
        device.append(line)
        device.carry()
    assert device.refused() == {}
    assert device.results() == sound.results()


@pytest.mark.parametrize("kind", KINDS)
def test_the_lake_has_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    ts = minutes(kind)
    maker = LakeMaker(tmp_path / "lake", sensors=3, count=1, rows=len(ts))
    maker.names = ["s0", "s1", "s2"]
    maker.ts["press-0"] = ts
    maker.write()
    device = Device(tmp_path / "device", monkeypatch)
    device.now = int(ts[-1])
    rows = zip(ts.tolist(), maker.values["press-0"].tolist(), strict=True)
    device.append("".join(f"{iso(time)},{','.join(map(str, values))}\n" for time, values in rows))
    device.carry()
    window = device.bundle.manifest.window
    grid = Lake(tmp_path / "lake").grid("press-0", maker.names, window)
    assert [each["ts"] for each in device.results()] == [iso(time) for time in grid.ts[grid.reading].tolist()]
    assert sum(count for day in device.refused().values() for count in day.values()) == grid.duplicate
    past = np.full((window - 1, 3), np.nan)
    (judged,) = Scorer(device.bundle).score(np.concatenate((past, grid.rows)))
    found = np.array([each["scores"][0]["score"] for each in device.results()], np.float64)
    assert np.array_equal(found.astype(np.float32), judged.score[grid.reading], equal_nan=True)
