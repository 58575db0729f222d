"""A line's way as a whole: what a live device costs, and that a restart reads again what it must."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_agent.config import Config
from fieldwatch_agent.score.past import read_past
from fieldwatch_agent.score.pipeline import Pipeline
from fieldwatch_agent.score.window import REWIND_ROWS
from fieldwatch_agent.send.journal import Journal
from fieldwatch_contract import clock
from fieldwatch_contract.bundle import read_bundle

from tests.bundles import make_bundle

START = 1_768_608_000_000_000
SENSORS = 3


def line(minute: int) -> str:
    return f"{clock.iso(START + minute * clock.MINUTE)},10,10.5,9.5\n"


def settings(folder: Path) -> dict[str, Any]:
    return {
        "device": {"id": "press-0001", "type": "press"},
        "log": {"path": str(folder / "readings.csv"), "period": "60s"},
        "state": {"dir": str(folder / "state")},
    }


def start(folder: Path) -> tuple[Pipeline, Journal]:
    config = Config.model_validate(settings(folder))
    journal = Journal(config.state.dir, 1 << 30)
    return Pipeline(config, read_bundle(make_bundle(SENSORS, lookback=5)), journal), journal


def first_reread(folder: Path, journal: Journal) -> int:
    """Return the time of the first reading that a restart would read again."""
    log = Config.model_validate(settings(folder)).log
    return int(read_past(log, ["s0", "s1", "s2"], journal.progress(), clock.MINUTE).ts[0])


def live(pipeline: Pipeline, log: Path, minutes: range) -> None:
    """Append lines one by one and carry each at once."""
    for minute in minutes:
        with log.open("a") as file:
            file.write(line(minute))
        assert pipeline.step() is not None


def test_live_lines_are_not_kept_with_all_that_was_read_before_them(tmp_path: Path) -> None:
    log = tmp_path / "readings.csv"
    log.write_text("timestamp,s0,s1,s2\n" + "".join(map(line, range(4000))))  # more than the 64 KiB of a window
    pipeline, journal = start(tmp_path)
    while pipeline.step() is not None:
        pass
    live(pipeline, log, range(4000, 4050))
    tracemalloc.start()
    live(pipeline, log, range(4050, 4150))
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 100 * 8_000, f"{grown / 100:.0f} bytes stay of each line"
    journal.close()


def test_a_sparse_log_costs_no_more_memory_than_a_dense_one(tmp_path: Path) -> None:
    """Hours between readings are hours of missing rows: half a million of them must not be held at once."""
    log = tmp_path / "readings.csv"
    log.write_text("timestamp,s0,s1,s2\n" + "".join(line(200 * minute) for minute in range(4000)))
    pipeline, journal = start(tmp_path)
    tracemalloc.start()
    while pipeline.step() is not None:
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16e6, f"{peak / 1e6:.0f} MB at once"
    assert sum(day.read for day in journal.ledger()) == 4000
    journal.close()


def test_a_restart_reads_a_day_of_rows_again(tmp_path: Path) -> None:
    log = tmp_path / "readings.csv"
    log.write_text("timestamp,s0,s1,s2\n" + "".join(map(line, range(2000))))
    pipeline, journal = start(tmp_path)
    while pipeline.step() is not None:
        pass
    live(pipeline, log, range(2000, 2005))
    assert first_reread(tmp_path, journal) == START + (2005 - REWIND_ROWS) * clock.MINUTE
    journal.close()
    again, journal = start(tmp_path)
    live(again, log, range(2005, 2006))
    assert first_reread(tmp_path, journal) == START + (2006 - REWIND_ROWS) * clock.MINUTE
    assert journal.progress().newest == START + 2005 * clock.MINUTE
    assert sum(day.read for day in journal.ledger()) == 2006
    journal.close()


@pytest.mark.parametrize("loss", ["truncated", "begun anew"])
def test_a_restart_passes_over_no_line_of_a_log_that_lost_lines(tmp_path: Path, loss: str) -> None:
    """The lines read again are fewer than those read before; none of the new ones may be taken for one of them."""
    log, header = tmp_path / "readings.csv", "timestamp,s0,s1,s2\n"
    log.write_text(header + "".join(map(line, range(500))))
    pipeline, journal = start(tmp_path)
    pipeline.step()
    log.rename(tmp_path / "readings.csv.1")
    log.write_text(header + "".join(map(line, range(500, 800))))
    while pipeline.step() is not None:
        pass
    if loss == "begun anew":
        log.unlink()
    log.write_text(header + "".join(map(line, range(800, 850))))
    while pipeline.step() is not None:
        pass
    journal.close()
    with log.open("a") as file:
        file.write("".join(map(line, range(850, 1050))))
    again, journal = start(tmp_path)
    while again.step() is not None:
        pass
    assert sum(day.read for day in journal.ledger()) == 1050
    journal.close()
