"""A line's way as a whole: what a live device costs, and that a restart reads again what it must."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
import time
import tracemalloc
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_agent.config import Config
from fieldwatch_agent.health import Reporter
from fieldwatch_agent.score import intake, past, refill
from fieldwatch_agent.score.past import Past, read_past
from fieldwatch_agent.score.pipeline import Pipeline
from fieldwatch_agent.score.window import REWIND_ROWS
from fieldwatch_agent.send.journal import Journal, Outbox, read_status
from fieldwatch_contract import clock
from fieldwatch_contract.bundle import read_bundle

from tests.bundles import make_bundle
from tests.conftest import wait_until

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


def test_a_bundle_that_is_loaded_does_not_stay_in_memory(tmp_path: Path) -> None:
    log = tmp_path / "readings.csv"
    log.write_text("timestamp,s0,s1,s2\n" + "".join(map(line, range(20))))
    bundle = read_bundle(make_bundle(SENSORS, lookback=5))
    files = bundle.files
    config = Config.model_validate(settings(tmp_path))
    journal = Journal(config.state.dir, 1 << 30)
    pipeline = Pipeline(config, bundle, journal)
    del bundle
    assert pipeline.step() is not None
    together = sys.getrefcount(files)  # with the call's own reference
    kept = [name for name in files if sys.getrefcount(files[name]) > 2]
    assert together == 2, "the pipeline keeps the bundle"
    assert not kept
    journal.close()


def test_a_sparse_log_costs_no_more_memory_than_a_dense_one(tmp_path: Path) -> None:
    """Hours between readings are hours of missing rows: half a million of them must not be held at once."""
    log = tmp_path / "readings.csv"
    log.write_text("timestamp,s0,s1,s2\n" + "".join(line(200 * minute - 1_000_000) for minute in range(4000)))
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


# ---- which lines become rows ---------------------------------------------------------------------------------------


class Device:
    """A device whose log, clock and agent are ours; ``restart()`` begins the agent anew."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, period: int = 60, **options: Any) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.log = folder / "readings.csv"
        self.log.write_text("timestamp,s0,s1,s2\n")
        self.period = period * clock.SECOND
        self.now = START
        monkeypatch.setattr(clock, "now", lambda: self.now)
        wanted = settings(folder)
        wanted["log"]["period"] = f"{period}s"
        self.config = Config.model_validate(wanted)
        self.bundle = read_bundle(make_bundle(SENSORS, lookback=50, period_s=float(period), **options))
        self.journal = Journal(self.config.state.dir, 1 << 30)
        self.pipeline = Pipeline(self.config, self.bundle, self.journal)

    def restart(self) -> None:
        self.journal.close()
        self.journal = Journal(self.config.state.dir, 1 << 30)
        self.pipeline = Pipeline(self.config, self.bundle, self.journal)

    def reading(self, row: int, ts: int | None = None) -> str:
        values = [10 + (row * 7 + sensor * 3) % 5 for sensor in range(SENSORS)]
        return f"{clock.iso(START + row * self.period if ts is None else ts)},{','.join(map(str, values))}\n"

    def append(self, text: str) -> None:
        with self.log.open("a") as file:
            file.write(text)
        os.utime(self.log, ns=(self.now * 1000, self.now * 1000))

    def carry(self) -> None:
        while self.pipeline.step() is not None:
            pass

    def live(self, rows: range) -> None:
        """Write and carry rows one by one, each when the clock says so."""
        for row in rows:
            self.now = START + row * self.period
            self.append(self.reading(row))
            self.carry()

    def results(self) -> list[dict[str, Any]]:
        with closing(Outbox(self.journal.path)) as outbox:
            return [json.loads(each.data) for each in outbox.pending(0, 10**6) if each.event == "result"]

    def alerts(self) -> list[dict[str, Any]]:
        with closing(Outbox(self.journal.path)) as outbox:
            return [json.loads(each.data) for each in outbox.pending(0, 10**6) if each.event == "alert"]

    def refused(self) -> dict[str, dict[str, int]]:
        return {day.day: day.refused for day in self.journal.ledger() if day.refused}


def expected(folder: Path, monkeypatch: pytest.MonkeyPatch, rows: range, **options: Any) -> list[dict[str, Any]]:
    """What an agent without any trouble says of rows."""
    sound = Device(folder, monkeypatch, **options)
    sound.now = START + rows.stop * sound.period
    sound.append("".join(sound.reading(row) for row in rows))
    sound.carry()
    sound.journal.close()
    return sound.results()


def test_a_line_of_the_future_stays_refused_when_its_time_has_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """25 hours ahead in a log with a line every ten minutes: a restart soon after that time reads it again."""
    wanted = expected(tmp_path / "sound", monkeypatch, range(300), period=600)
    device = Device(tmp_path / "device", monkeypatch, period=600)
    device.live(range(20))
    device.append(device.reading(7, ts=device.now + 25 * 60 * clock.MINUTE))
    device.carry()
    assert device.refused() == {"2026-01-17": {"future": 1}}
    device.live(range(20, 180))
    device.restart()
    device.live(range(180, 300))
    assert device.results() == wanted
    assert device.refused() == {"2026-01-17": {"future": 1}}


def test_late_and_duplicate_lines_stay_refused_when_they_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = expected(tmp_path / "sound", monkeypatch, range(200))
    device = Device(tmp_path / "device", monkeypatch)
    device.live(range(100))
    device.append(device.reading(3, ts=START + 99 * clock.MINUTE + 1) + device.reading(4, ts=START - clock.MINUTE))
    device.append(device.reading(5, ts=START + 50 * clock.MINUTE))
    device.carry()
    device.restart()
    device.live(range(100, 200))
    assert device.refused() == {"2026-01-17": {"duplicate": 1, "late": 2}}
    assert device.results() == wanted


@pytest.mark.parametrize("days", [1.1, 2, 29, 400])
def test_a_line_more_than_a_day_ahead_never_becomes_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: float
) -> None:
    device = Device(tmp_path, monkeypatch)
    device.live(range(3))
    device.append(device.reading(9, ts=device.now + int(days * clock.DAY)))
    device.live(range(3, 6))
    assert device.refused() == {"2026-01-17": {"future": 1}}
    assert len(device.results()) == 6


def test_a_refused_line_counts_for_the_day_of_the_row_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(tmp_path, monkeypatch)
    device.now = START + 3 * clock.DAY
    device.append("".join(map(device.reading, range(1438, 1440))) + "nonsense,1,2,3\n")
    device.append("".join(map(device.reading, range(1440, 1442))) + "1,2\n" * 3)
    device.carry()
    assert device.refused() == {"2026-01-17": {"timestamp": 1}, "2026-01-18": {"columns": 3}}
    for count, again in ((4, False), (5, True)):
        if again:
            device.restart()
        device.append("1,2\n")
        device.carry()
        assert device.refused()["2026-01-18"] == {"columns": count}, "in a block of its own, and after a restart"
    assert {day.day: day.read for day in device.journal.ledger()}["2026-01-18"] == 2 + 5


def test_a_clock_that_is_behind_makes_lines_wait_and_refuses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The PC was off for three days and believes that it was not; the device has written on."""
    monkeypatch.setattr(intake, "CLOCK_RETRY_S", 0.0)
    wanted = expected(tmp_path / "sound", monkeypatch, range(4400))
    device = Device(tmp_path / "device", monkeypatch)
    device.live(range(3))
    device.append("".join(map(device.reading, range(3, 4400))) + "nonsense,1,2,3\n")
    written = START + 4400 * clock.MINUTE
    os.utime(device.log, ns=(written * 1000, written * 1000))
    device.restart()
    device.carry()
    taken = len(device.results())
    assert taken == 3 + 1440, "up to a day ahead"
    assert "this computer's clock says 2026-01-17T00:02:00Z" in device.pipeline.intake.clock_wrong
    assert device.pipeline.waiting
    assert device.pipeline.lag() > 2900 * 30
    device.restart()
    device.carry()
    assert len(device.results()) == taken, "and again after a restart"
    assert device.refused() == {}
    device.now = written
    device.carry()
    assert device.results() == wanted
    assert device.refused() == {"2026-01-20": {"timestamp": 1}}, "counted once, when it was read"
    assert (device.pipeline.intake.clock_wrong, device.pipeline.lag()) == ("", 0)


def test_a_clock_that_is_behind_and_that_the_writer_shares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three days of backlog, then lines by the wrong clock: they are late, the backlog is not of the future."""
    monkeypatch.setattr(intake, "CLOCK_RETRY_S", 0.0)
    wanted = expected(tmp_path / "sound", monkeypatch, range(300))
    device = Device(tmp_path / "device", monkeypatch)
    device.live(range(3))
    device.append("".join(map(device.reading, range(3, 300))))
    device.now = START - 3 * clock.DAY
    device.append("".join(map(device.reading, range(-4320, -4310))))
    os.utime(device.log, ns=(device.now * 1000, device.now * 1000))
    device.restart()
    assert "the newest reading is of 2026-01-17T00:02:00Z" in device.pipeline.overtaken
    device.carry()
    assert (len(device.results()), device.refused()) == (3, {})
    assert device.pipeline.waiting
    device.now = START + 300 * clock.MINUTE
    device.carry()
    assert device.results() == wanted
    assert device.refused() == {"2026-01-17": {"late": 10}}
    assert (device.pipeline.waiting, device.pipeline.overtaken) == ("", "")


def test_a_clock_behind_at_the_very_first_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(tmp_path, monkeypatch)
    device.now = START - 10 * clock.DAY
    device.append("".join(map(device.reading, range(30))))
    os.utime(device.log, ns=(START * 1000, START * 1000))
    device.carry()
    assert device.results() == []
    assert device.pipeline.intake.clock_wrong
    device.now = START
    device.carry()
    assert len(device.results()) == 30
    assert device.refused() == {}


# ---- the window after a restart --------------------------------------------------------------------------------------


@pytest.mark.parametrize("away", ["locked", "gone"])
def test_until_the_window_is_filled_again_rows_are_unknown_for_a_told_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    """The rotated file comes back after a while, as after a move to another folder or a scan for viruses."""
    monkeypatch.setattr(refill, "HOLD_S", 0.0)
    monkeypatch.setattr(refill, "RETRY_MOST_S", 0.0)
    wanted = expected(tmp_path / "sound", monkeypatch, range(200))
    device = Device(tmp_path / "device", monkeypatch)
    device.live(range(80))
    old = device.log.rename(device.folder / "readings.csv.1")
    device.log.write_text("timestamp,s0,s1,s2\n")
    device.live(range(80, 100))
    aside = tmp_path / "aside"
    shutil.move(old, aside)
    if away == "locked":
        old.mkdir()  # what cannot be opened as a file
    device.restart()
    device.live(range(100, 110))
    told = device.pipeline.unfilled
    assert "rows before the last restart could not be read again" in told
    if away == "locked":
        old.rmdir()
    shutil.move(aside, old)
    time.sleep(1.1)  # the pause before the next try
    device.live(range(110, 200))
    assert device.pipeline.unfilled == ""
    found = device.results()
    assert len(found) == 200
    unlike = [place for place, (one, other) in enumerate(zip(found, wanted, strict=True)) if one != other]
    assert unlike == list(range(100, 110))
    assert {(s["verdict"], s["why"], s["score"]) for place in unlike for s in found[place]["scores"]} == {
        ("unknown", "window_unfilled", None)
    }


def test_a_log_that_is_gone_for_good_leaves_unknown_rows_only_while_they_are_in_the_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of the past is used: the last 20 rows before the restart are in the live file."""
    wanted = expected(tmp_path / "sound", monkeypatch, range(200))
    device = Device(tmp_path / "device", monkeypatch)
    device.live(range(80))
    device.log.rename(device.folder / "readings.csv.1")
    device.log.write_text("timestamp,s0,s1,s2\n")
    device.live(range(80, 100))
    (device.folder / "readings.csv.1").unlink()
    device.restart()
    device.live(range(100, 200))
    found = device.results()
    unlike = [place for place, (one, other) in enumerate(zip(found, wanted, strict=True)) if one != other]
    assert unlike == list(range(100, 129)), "row 79 is in the window of 50 up to row 128"
    assert all(score["why"] == "window_unfilled" for place in unlike for score in found[place]["scores"])
    assert device.pipeline.unfilled == ""


def test_rows_that_are_gone_were_scored_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest of them too: a line of their time does not become a second row."""
    device = Device(tmp_path, monkeypatch)
    device.live(range(80))
    device.log.rename(device.folder / "readings.csv.1")
    device.log.write_text("timestamp,s0,s1,s2\n")
    device.live(range(80, 100))
    device.log.unlink()
    device.log.write_text("timestamp,s0,s1,s2\n")
    device.restart()
    device.append(device.reading(90))
    device.carry()
    assert device.refused() == {"2026-01-17": {"late": 1}}
    device.live(range(100, 102))
    assert [each["ts"] for each in device.results()] == [clock.iso(START + row * clock.MINUTE) for row in range(102)]
    assert [score["why"] for each in device.results()[100:] for score in each["scores"]] == ["window_unfilled"] * 2
    device.restart()
    device.live(range(102, 103))
    assert device.results()[-1]["scores"][0]["why"] == "window_unfilled", "after a second restart too"


def test_new_lines_wait_a_moment_for_a_window_that_may_be_filled_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(tmp_path, monkeypatch)
    device.live(range(80))
    read = past.read_past
    passing = iter([True, True, False])

    def blocked(*arguments: Any) -> Past:
        found = read(*arguments)
        return replace(found, missing=found.rows.slots, why="locked", passing=True) if next(passing) else found

    monkeypatch.setattr(refill, "read_past", blocked)
    device.restart()
    device.append(device.reading(80))
    assert device.pipeline.step() is None
    assert (device.pipeline.waiting, device.pipeline.lag() > 0) == ("locked", True)
    wait_until(lambda: device.pipeline.step() is not None, "the line to be carried")
    assert [score.get("why") for score in device.results()[-1]["scores"]] == [None]


def test_a_journal_that_does_not_tell_its_rows_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one of the version before: rows are found by the rule."""
    wanted = expected(tmp_path / "sound", monkeypatch, range(120))
    device = Device(tmp_path / "device", monkeypatch)
    device.live(range(100))
    with closing(sqlite3.connect(device.journal.path)) as db:
        (text,) = db.execute("SELECT value FROM meta WHERE key = 'progress'").fetchone()
        progress = json.loads(text)
        del progress["rows"]
        db.execute("UPDATE meta SET value = ? WHERE key = 'progress'", (json.dumps(progress),))
        db.commit()
    device.restart()
    device.live(range(100, 120))
    assert device.results() == wanted


def test_lines_that_are_read_otherwise_now_are_not_called_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(tmp_path, monkeypatch)
    device.live(range(60))
    device.bundle = read_bundle(make_bundle(["x", "y", "z"], "v2", lookback=50))
    device.restart()
    device.append(device.reading(60))
    device.carry()
    assert "60 of the 60 rows" in device.pipeline.unfilled
    assert "their lines are read otherwise now" in device.pipeline.unfilled
    device.log.write_text("timestamp,x,y,z\n")
    device.restart()
    device.append(f"{clock.iso(START + 61 * clock.MINUTE)},10,10,10\n")
    device.carry()
    assert "their lines are no longer in the log" in device.pipeline.unfilled


# ---- alerts whose model is gone --------------------------------------------------------------------------------------


def test_an_alert_of_a_model_that_the_next_bundle_lacks_is_resolved_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(tmp_path, monkeypatch, classifier=True)
    device.live(range(60))
    device.append("".join(f"{clock.iso(START + row * clock.MINUTE)},90,90,90\n" for row in range(60, 64)))
    device.carry()
    opened = {alert["model"]: alert for alert in device.alerts()}
    assert set(opened) == {"classifier", "detector"}
    device.bundle = read_bundle(make_bundle(SENSORS, "v2", lookback=50))
    device.restart()
    device.carry()  # no line comes: the device may be off, and the alert open for ever
    ended = [alert for alert in device.alerts() if alert["transition"] == "resolved"]
    assert [alert["model"] for alert in ended] == ["classifier"]
    assert ended[0]["reason"].startswith("the bundle in use, press/v2, has no model classifier")
    same = ("alert_id", "kind", "severity", "opened_at", "threshold")
    assert [ended[0][key] for key in same] == [opened["classifier"][key] for key in same]
    assert ended[0]["ts"] == clock.iso(START + 63 * clock.MINUTE)
    device.restart()
    device.append(device.reading(64))
    device.carry()
    assert len([alert for alert in device.alerts() if alert["model"] == "classifier"]) == 2, "said once"
    assert "classifier" not in device.journal.progress().alerts
    assert device.journal.progress().alerts["detector"].alert.opened is not None, "the other one goes on"


# ---- what became of the lines --------------------------------------------------------------------------------------


def test_lines_are_counted_with_an_example_that_can_be_found_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(tmp_path, monkeypatch)
    device.live(range(5))
    device.append("1,2\n" + device.reading(5))
    device.carry()
    device.restart()
    device.append(device.reading(6) + "nonsense,1,2,3\n" + device.reading(7).replace("11", "ERR"))
    device.carry()
    device.append("3,4\n")
    device.carry()
    tally, _ = device.pipeline.recent.sum(time.monotonic())
    assert (tally.read, tally.scored, tally.refused) == (4, 2, {"timestamp": 1, "columns": 1})
    assert tally.examples["timestamp"].startswith("readings.csv line 10: ")
    assert tally.examples["columns"].startswith("readings.csv line 12: has 2 fields")
    details = [reject["detail"] for reject in read_status(device.journal.path)["rejects"]]  # type: ignore[attr-defined]
    assert [each.split(":")[0] for each in details] == [f"readings.csv line {number}" for number in (12, 10, 7)]


@pytest.mark.skipif(sys.platform == "win32", reason="a name is no bytes there")
def test_a_file_whose_name_is_no_utf8_is_read_and_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its name stands in refused lines, gaps and troubles: neither the journal nor a message could carry it."""
    caplog.set_level("CRITICAL", "fieldwatch")  # nor can what pytest's processes say to one another
    name = os.fsdecode(b"caf\xe9.csv")
    (tmp_path / name).write_text(f"timestamp,s0,s1,s2\n{line(0)}1,2\n{line(1)}")
    config = Config.model_validate(settings(tmp_path) | {"log": {"path": str(tmp_path / "*.csv"), "period": "60s"}})
    journal = Journal(config.state.dir, 1 << 30)
    pipeline = Pipeline(config, read_bundle(make_bundle(SENSORS, lookback=5)), journal)
    assert pipeline.step() is not None
    (tmp_path / name).write_text(f"timestamp,s0,s1,s2\n{line(2)}")
    pipeline.step()
    reporter = Reporter(config, journal)
    reporter.report(pipeline, [], "", "", 60.0)
    told = json.dumps(read_status(journal.path)["health"])
    assert r"caf\\udce9.csv" in told
    journal.close()
