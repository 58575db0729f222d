"""Which file is the one that was read, and which is next, where clocks and configurations are wrong and put right."""

from __future__ import annotations

import gzip
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fieldwatch_agent.log.files
import pytest
from fieldwatch_agent.log.files import Folder, Source
from fieldwatch_agent.log.shared_file import file_id, open_same
from fieldwatch_agent.log.tail import LogLines, Position, Tail
from fieldwatch_contract.clock import DAY, now
from fieldwatch_contract.reading.parse import Parser
from fieldwatch_contract.reading.settings import LogConfig

HEADER = b"time,a,b\n"
START = datetime(2026, 1, 17)
WRITTEN = int(START.replace(tzinfo=UTC).timestamp())


def readings(*minutes: int, value: float = 0.5) -> bytes:
    return b"".join(
        f"{START + timedelta(minutes=minute):%Y-%m-%d %H:%M:%S},{value},{minute}\n".encode() for minute in minutes
    )


def write(path: Path, *minutes: int, at: int | None = None, value: float = 0.5) -> Path:
    """Make a file of a header and readings, last written at a minute: by default that of its last reading."""
    path.write_bytes(HEADER + readings(*minutes, value=value))
    return touch(path, minutes[-1] if at is None else at)


def append(path: Path, *minutes: int) -> None:
    with path.open("ab") as file:
        file.write(readings(*minutes))
    touch(path, minutes[-1])


def touch(path: Path, minute: int) -> Path:
    os.utime(path, (WRITTEN + 60 * minute,) * 2)
    return path


class Reader:
    """A tail that is asked again and again; tells the minutes read, whatever time they were understood as."""

    def __init__(self, pattern: Path, kept: Position | None = None, **log: Any) -> None:
        config = LogConfig.model_validate({"path": str(pattern), "period": "60s", **log})
        self.pattern = pattern
        self.kept = kept
        self.block: LogLines | None = None
        self.tail = Tail(config.path, kept, format=Parser(config, ["a", "b"]))

    def read(self) -> list[int]:
        found: list[int] = []
        while (block := self.tail.read()) is not None:
            self.block, self.kept = block, block.position
            found += [int(line.split(b",")[2]) for line in block.lines if not line.startswith(b"time")]
        return found

    def restarted(self, **log: Any) -> Reader:
        assert self.kept is not None
        return Reader(self.pattern, Position.from_json(self.kept.to_json()), **log)

    def told(self) -> list[str]:
        return [change.detail for change in self.tail.changes()]


@pytest.mark.parametrize("count", [5, 5000], ids=["short", "long"])
@pytest.mark.parametrize(
    "timestamp",
    [
        {"timezone": "Europe/Berlin"},
        {"timezone": "America/New_York"},
        {"format": "%Y-%d-%m %H:%M:%S"},  # a mistake: nothing is understood
    ],
    ids=["earlier", "later", "not at all"],
)
def test_another_zone_or_format_does_not_make_it_another_log(
    tmp_path: Path, count: int, timestamp: dict[str, str]
) -> None:
    log = write(tmp_path / "readings.csv", *range(count))
    reader = Reader(log)
    assert reader.read() == list(range(count))
    for given in (timestamp, {}):
        reader = reader.restarted(timestamp=given)
        append(log, count, count + 1)
        assert reader.read() == [count, count + 1]
        assert reader.tail.resumed is True
        assert reader.told() == []
        count += 2


def test_the_next_file_is_found_though_the_zone_was_corrected(tmp_path: Path) -> None:
    """With the right zone its first reading is earlier than what the first reading before it had been taken for."""
    write(tmp_path / "readings-0.csv", *range(60))
    reader = Reader(tmp_path / "readings-*.csv")
    reader.read()
    write(tmp_path / "readings-1.csv", *range(60, 70))
    reader = reader.restarted(timestamp={"timezone": "Asia/Tokyo"})
    assert reader.read() == list(range(60, 70))


@pytest.mark.parametrize("count", [5, 5000], ids=["short", "long"])
def test_a_wrong_clock_of_the_pc_does_not_make_it_another_log(
    tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PC that begins with 2024 and learns the time later: what was read stays read, either time."""
    log = write(tmp_path / "readings.csv", *range(count))
    reader = Reader(log)
    reader.read()
    for clock in (lambda: now() - 2000 * DAY, now):
        monkeypatch.setattr(fieldwatch_agent.log.files, "now", clock)
        reader = reader.restarted()
        append(log, count)
        assert reader.read() == [count]
        assert reader.told() == []
        count += 1


@pytest.mark.parametrize("place", [0, 1], ids=["at the beginning", "after the header"])
def test_before_the_first_reading_its_time_tells_the_files_apart(tmp_path: Path, place: int) -> None:
    """The bytes there are those of every file."""
    log = write(tmp_path / "readings.csv", *range(5))
    reader = Reader(log)
    reader.read()
    assert reader.block is not None
    reader.kept = reader.block.position_of(place)
    append(log, 5)
    assert reader.restarted().read() == list(range(6))
    write(log, *range(10, 20))
    reader = reader.restarted()
    assert reader.read() == list(range(10, 20))
    assert [str(log) in each for each in reader.told()] == [True]


def test_a_file_begun_after_the_clock_was_set_back_is_read_when_it_is_the_one_that_is_written(tmp_path: Path) -> None:
    write(tmp_path / "readings-1.csv", *range(600, 700))
    reader = Reader(tmp_path / "readings-*.csv")
    assert reader.read() == list(range(600, 700))
    log = write(tmp_path / "readings-2.csv", *range(590, 600))
    assert reader.read() == []
    append(log, *range(600, 650))
    assert reader.read() == []
    (told,) = reader.told()
    assert f"{log} is skipped: its first reading, 2026-01-17T09:50:00Z, is not later" in told
    assert reader.tail.lag() == log.stat().st_size
    append(log, *range(650, 710))
    assert reader.read() == list(range(590, 710))
    write(tmp_path / "readings-3.csv", *range(710, 720))
    assert reader.read() == list(range(710, 720))
    assert reader.tail.lag() == 0
    assert reader.told() == []
    reader = reader.restarted()
    assert reader.read() == []
    assert reader.told() == []


def test_the_file_of_an_hour_that_comes_twice_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    """Its readings begin with the times that the file before it has."""
    log = tmp_path / "readings-*.csv"
    write(tmp_path / "readings-1.csv", *range(60, 120))
    write(tmp_path / "readings-2.csv", *range(60, 120), value=0.25, at=180)
    reader = Reader(log)
    assert len(reader.read()) == 60
    write(tmp_path / "readings-3.csv", *range(120, 180), at=240)
    assert reader.read() == list(range(120, 180))
    (told,) = reader.told()
    assert "readings-2.csv is skipped" in told
    assert reader.tail.lag() == (tmp_path / "readings-2.csv").stat().st_size


def test_the_live_log_is_read_beside_an_edited_copy_that_comes_first(tmp_path: Path) -> None:
    write(tmp_path / "readings-old.csv", *range(30), value=0.25)
    log = write(tmp_path / "readings.csv", *range(60))
    reader = Reader(tmp_path / "readings*.csv")
    assert reader.read() == [*range(30), *range(60)]
    append(log, 60, 61)
    assert reader.read() == [60, 61]
    assert reader.restarted().read() == []
    assert reader.told() == []


def test_an_edited_copy_does_not_lead_away_from_the_live_log(tmp_path: Path) -> None:
    log = write(tmp_path / "readings.csv", *range(60))
    reader = Reader(tmp_path / "readings*.csv")
    reader.read()
    copy = write(tmp_path / "readings-edited.csv", *range(30), value=0.25, at=70)
    assert reader.read() == []
    append(log, *range(60, 80))
    assert reader.read() == list(range(60, 80))
    (told,) = reader.told()
    assert f"{copy} is skipped" in told
    assert "move it out of the folder" in told


def test_the_live_log_is_returned_to_from_a_copy_that_begins_later(tmp_path: Path) -> None:
    """The copy cannot be told from a new log until the live one grows; then reading goes on where it was left."""
    log = write(tmp_path / "readings.csv", *range(60))
    reader = Reader(tmp_path / "readings*.csv")
    reader.read()
    write(tmp_path / "readings-edited.csv", *range(30, 40), value=0.25, at=60)
    assert reader.read() == list(range(30, 40))
    assert reader.told() == []
    before = log.stat().st_size
    append(log, 60, 61)
    assert reader.read() == []
    assert reader.tail.lag() == len(readings(60, 61))
    assert [str(log) in told for told in reader.told()] == [True]
    append(log, 62, 63, 64)
    assert reader.read() == [60, 61, 62, 63, 64]
    assert reader.block is not None
    assert reader.block.header == HEADER.strip()
    assert reader.block.starts[0] == before
    append(log, 65)
    assert reader.read() == [65]
    assert reader.tail.lag() == 0
    assert reader.told() == []


def test_two_logs_that_are_both_written_do_not_send_us_to_and_fro(tmp_path: Path) -> None:
    write(tmp_path / "readings-1.csv", 0, 1)
    write(tmp_path / "readings-2.csv", 1, 2)
    reader = Reader(tmp_path / "readings-*.csv")
    assert reader.read() == [0, 1, 1, 2]
    for minute in range(3, 10):
        append(tmp_path / "readings-1.csv", minute)
        append(tmp_path / "readings-2.csv", minute)
        assert reader.read() == [minute]
    assert [str(tmp_path / "readings-1.csv") in told for told in reader.told()] == [True]
    assert reader.tail.lag() == len(readings(*range(3, 10)))


def test_old_files_that_are_touched_or_packed_are_not_read_again_and_not_announced(tmp_path: Path) -> None:
    for part in range(3):
        write(tmp_path / f"readings-{part}.csv", *range(60 * part, 60 * part + 60))
    reader = Reader(tmp_path / "readings-*.csv")
    assert len(reader.read()) == 180
    touch(tmp_path / "readings-1.csv", 1000)
    (tmp_path / "readings-0.csv.gz").write_bytes(gzip.compress((tmp_path / "readings-0.csv").read_bytes()))
    (tmp_path / "readings-0.csv").unlink()
    for again in (reader, reader.restarted()):
        assert again.read() == []
        assert again.told() == []
        assert again.tail.lag() == 0


@pytest.mark.parametrize("before", [b"", HEADER], ids=["nothing before it", "a header before it"])
@pytest.mark.parametrize("then", [(), (1, 2, 3)], ids=["empty", "longer"])
def test_a_torn_line_that_is_cut_off_is_announced(tmp_path: Path, before: bytes, then: tuple[int, ...]) -> None:
    log = tmp_path / "readings.csv"
    log.write_bytes(before + readings(0)[:18])
    reader = Reader(log)
    assert reader.read() == []
    log.write_bytes(before + readings(*then))
    assert reader.read() == list(then)
    (told,) = reader.told()
    assert f"{log} was truncated or replaced after {len(before)} bytes" in told
    append(log, 4)
    assert reader.read() == [4]
    assert reader.told() == []


@pytest.mark.parametrize("seen", [4, 18], ids=["as every line begins", "a line of its own"])
def test_a_torn_line_that_was_copied_before_it_was_cut_off_is_read(tmp_path: Path, seen: int) -> None:
    write(tmp_path / "readings.csv.2", 0, 1)
    log = tmp_path / "readings.csv"
    log.write_bytes(readings(2)[:seen])
    reader = Reader(log)
    assert reader.read() == [0, 1]
    (tmp_path / "readings.csv.1").write_bytes(readings(2))
    log.write_bytes(readings(3, 4))
    assert reader.read() == [2, 3, 4]
    assert reader.told() == []


def test_a_torn_last_line_that_is_written_anew_is_no_loss(tmp_path: Path) -> None:
    log = write(tmp_path / "readings.csv", 0, 1)
    with log.open("ab") as file:
        file.write(b"2026-01-17 00:0\0\0\0\0")
    reader = Reader(log)
    assert reader.read() == [0, 1]
    log.write_bytes(HEADER + readings(0, 1) + b"# restarted\n" + readings(2))
    reader.tail.read()
    append(log, 3)
    assert reader.read() == [3]
    assert reader.told() == []


def test_a_file_that_was_replaced_between_the_look_and_the_read_is_not_read_for_it(tmp_path: Path) -> None:
    log, next_one = write(tmp_path / "readings.csv", 0), write(tmp_path / "next.csv", 1)
    seen = file_id(log.stat())
    open_same(log, seen).close()
    next_one.replace(log)
    with pytest.raises(FileNotFoundError, match="replaced meanwhile"):
        open_same(log, seen)


def test_no_file_is_begun_while_an_earlier_one_may_be_missing_in_the_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder is read in pieces: a file that is renamed meanwhile may be in none of them."""
    write(tmp_path / "readings.csv.1", *range(5))
    log = write(tmp_path / "readings.csv", *range(5, 9))
    whole = Folder._paths
    partial = iter([[log]])  # the first listing; those after it see all
    monkeypatch.setattr(Folder, "_paths", lambda folder: next(partial, None) or list(whole(folder)))
    reader = Reader(log)
    assert reader.read() == list(range(9))
    assert reader.told() == []


def test_what_is_copied_and_truncated_under_the_look_is_found_by_a_second_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listing has the copy when it is just begun; by the time the log is examined, it is truncated."""
    log, copy = write(tmp_path / "readings.csv", *range(9)), tmp_path / "readings.csv.1"
    reader = Reader(log)
    assert reader.read() == list(range(9))
    content = log.read_bytes()
    append(log, 9)
    copy.write_bytes(content[: len(HEADER)])
    touch(copy, -1)
    fetch, truncated = Folder.fetch, []

    def late(folder: Folder, source: Source, offset: int, size: int) -> bytes:
        if not truncated and offset + size == len(content):
            truncated.append(log)
            copy.write_bytes(log.read_bytes())
            log.write_bytes(HEADER)
        return fetch(folder, source, offset, size)

    reader = reader.restarted()
    monkeypatch.setattr(Folder, "fetch", late)
    assert reader.read() == [9]
    append(log, 10)
    assert reader.read() == [10]
    assert truncated
    assert reader.told() == []


def test_a_copy_that_is_half_done_when_listed_is_not_called_skipped_because_the_log_was_cut_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listing has half of the copy; by the time it is compared with the log, the log is truncated."""
    log, copy = write(tmp_path / "readings.csv", *range(9)), tmp_path / "readings.csv.1"
    reader = Reader(log)
    assert reader.read() == list(range(9))
    content = log.read_bytes()
    copy.write_bytes(content[: len(content) * 2 // 3])
    touch(copy, 8)
    fetch, truncated = Folder.fetch, []

    def late(folder: Folder, source: Source, offset: int, size: int) -> bytes:
        if not truncated and source.path == log and offset + size < len(content):
            truncated.append(log)
            copy.write_bytes(content)
            log.write_bytes(HEADER)
        return fetch(folder, source, offset, size)

    monkeypatch.setattr(Folder, "fetch", late)
    assert reader.read() == []
    append(log, 9)
    assert reader.read() == [9]
    assert truncated
    assert reader.told() == []


def test_a_file_of_column_names_alone_is_not_mistaken_for_an_old_one_with_readings(tmp_path: Path) -> None:
    """An old file takes its name. It was read, and is not read again when it is no longer watched."""
    log, old, blank = tmp_path / "readings.csv", tmp_path / "readings-1.csv.gz", tmp_path / "readings-2.csv"
    write(log, 0, 1)
    reader = Reader(tmp_path / "readings*.csv")
    assert reader.read() == [0, 1]
    blank.write_bytes(HEADER)
    touch(blank, 1)
    write(tmp_path / "readings-3.csv", 2)
    assert reader.read() == [2]
    old.write_bytes(gzip.compress(log.read_bytes()))
    log.unlink()
    touch(old, 1)
    blank.rename(tmp_path / "aside")
    old.rename(tmp_path / "readings-2.csv.gz")
    for minute in range(3, 20):
        write(tmp_path / f"readings-{minute + 1}.csv", minute)
        assert reader.read() == [minute]
    assert reader.restarted().read() == []
    assert reader.told() == []
