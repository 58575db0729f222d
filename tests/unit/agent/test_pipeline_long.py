"""A log with a line a value: wherever it is cut and the agent restarts, no reading is halved or counted twice."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_agent.config import Config
from fieldwatch_agent.score.pipeline import Pipeline
from fieldwatch_agent.send.journal import Journal, Outbox
from fieldwatch_contract import clock
from fieldwatch_contract.bundle import read_bundle

from tests.bundles import make_bundle

START = 1_768_608_000_000_000
READINGS = 40


def lines() -> list[str]:
    rng = random.Random(6)
    out = []
    for minute in range(READINGS):
        for place, sensor in enumerate(["s0", "s1", "other", "s2"]):
            stamp = clock.iso(START + minute * clock.MINUTE + place * 20_000)
            out.append(f"{stamp},{sensor},{rng.uniform(5, 15):.4f}\n")
        if minute % 7 == 3:
            out.append("2026-01-17,pump restarted\n")
    return out


def pipeline(folder: Path) -> tuple[Pipeline, Journal]:
    config = Config.model_validate(
        {
            "device": {"id": "press-0001", "type": "press"},
            "log": {"path": str(folder / "readings.csv"), "period": "60s", "format": "long"},
            "state": {"dir": str(folder / "state")},
        }
    )
    journal = Journal(config.state.dir, 1 << 30)
    return Pipeline(config, read_bundle(make_bundle(3, lookback=5)), journal), journal


def results(journal: Journal) -> list[Any]:
    outbox = Outbox(journal.path)
    found = [json.loads(message.data) for message in outbox.pending(0, 10_000) if message.event == "result"]
    outbox.close()
    return found


def one_pass(folder: Path) -> tuple[list[Any], int, int]:
    folder.mkdir()
    (folder / "readings.csv").write_text("time,sensor,value\n" + "".join(lines()))
    runner, journal = pipeline(folder)
    while runner.step() is not None:
        pass
    days = journal.ledger()
    found = results(journal), sum(day.read for day in days), sum(sum(day.refused.values()) for day in days)
    journal.close()
    return found


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(6))
def test_restarts_halve_no_reading_and_count_no_line_twice(tmp_path: Path, seed: int) -> None:
    expected = one_pass(tmp_path / "whole")
    assert len(expected[0]) == READINGS - 1  # the last one is open
    rng = random.Random(seed)
    log = tmp_path / "readings.csv"
    log.write_text("time,sensor,value\n")
    runner, journal = pipeline(tmp_path)
    for number, line in enumerate(lines()):
        if number > 4 and rng.random() < 0.05:
            log.rename(tmp_path / f"readings.csv-{20260101 + number}")
            log.write_text("time,sensor,value\n")
        with log.open("a") as file:
            file.write(line)
        if rng.random() < 0.5:
            while runner.step() is not None:
                pass
        if rng.random() < 0.2:
            journal.close()
            runner, journal = pipeline(tmp_path)
    while runner.step() is not None:
        pass
    days = journal.ledger()
    assert (results(journal), sum(day.read for day in days), sum(sum(day.refused.values()) for day in days)) == expected
    journal.close()
