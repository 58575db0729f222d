"""A line's way as a whole: what a live device costs, and that a restart reads again what it must."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

from agent.config import Config
from agent.journal import Journal
from agent.pipeline import REWIND_ROWS, Pipeline
from contract import clock
from contract.bundle import read_bundle
from tests.bundles import make_bundle

START = 1_768_608_000_000_000
SENSORS = 3


def line(minute: int) -> str:
    return f"{clock.iso(START + minute * clock.MINUTE)},10,10.5,9.5\n"


def start(folder: Path) -> tuple[Pipeline, Journal]:
    config = Config.model_validate(
        {
            "device": {"id": "press-0001", "type": "press"},
            "log": {"path": str(folder / "readings.csv"), "period": "60s"},
            "state": {"dir": str(folder / "state")},
        }
    )
    journal = Journal(config.state.dir, 1 << 30)
    return Pipeline(config, read_bundle(make_bundle(SENSORS, lookback=5)), journal), journal


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


def test_a_restart_reads_a_day_of_rows_again(tmp_path: Path) -> None:
    log = tmp_path / "readings.csv"
    log.write_text("timestamp,s0,s1,s2\n" + "".join(map(line, range(2000))))
    pipeline, journal = start(tmp_path)
    while pipeline.step() is not None:
        pass
    live(pipeline, log, range(2000, 2005))
    progress = journal.progress()
    assert progress.rewind_lines == REWIND_ROWS
    journal.close()
    again, journal = start(tmp_path)
    live(again, log, range(2005, 2006))
    assert (journal.progress().rewind_lines, journal.progress().newest) == (REWIND_ROWS, START + 2005 * clock.MINUTE)
    assert sum(day.read for day in journal.ledger()) == 2006
    journal.close()
