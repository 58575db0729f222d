"""A log that is cut off, replaced, taken away, locked or empty: reading goes on, and what may be missing is said."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fieldwatch_agent.log.tail import LINE_LIMIT, LogLines, Position, Tail
from fieldwatch_contract.reading.parse import Parser
from fieldwatch_contract.reading.settings import LogConfig

HEADER = b"time," + b",".join(b"sensor_with_a_long_name_%03d" % i for i in range(100)) + b"\n"


def reading(minute: int) -> bytes:
    return b"2025-01-17 %02d:%02d:00" % divmod(minute, 60) + b",0.5" * 100 + b"\n"


def readings(*minutes: int) -> bytes:
    return b"".join(reading(minute) for minute in minutes)


class Reader:
    """A tail with its parser; keeps the minutes read and the position after them."""

    def __init__(
        self, pattern: Path, kept: str | None = None, silent_after: float = 180.0, patience: float = 60.0
    ) -> None:
        log = LogConfig(path=str(pattern), period="60s")
        self.parser = Parser(log, ["sensor_with_a_long_name_042"])
        position = Position.from_json(kept) if kept else None
        self.tail = Tail(log.path, position, format=self.parser, silent_after=silent_after, patience=patience)
        self.pattern = pattern
        self.kept = kept

    def read(self) -> list[int]:
        found: list[int] = []
        while (block := self.tail.read()) is not None:
            found += self._parse(block)
        return found

    def _parse(self, block: LogLines) -> list[int]:
        self.kept = block.position.to_json()
        parsed = self.parser.parse(block)
        assert (parsed.values == 0.5).all()
        return [int(ts) // 60_000_000 % 1440 for ts in parsed.ts]

    def restarted(self) -> Reader:
        return Reader(self.pattern, self.kept)

    def reasons(self) -> list[str]:
        return [change.reason for change in self.tail.changes()]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "readings.csv"
    path.write_bytes(HEADER + readings(0, 1, 2))
    return path


@pytest.fixture(params=[False, True], ids=["agent up", "agent down"])
def down(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def truncate(path: Path, then: bytes) -> None:
    with path.open("r+b") as file:
        file.truncate()
    with path.open("ab") as file:
        file.write(then)


@pytest.mark.parametrize("more", [1, 3, 20], ids=["shorter", "as long", "longer"])
def test_truncated_in_place_without_a_copy(log: Path, down: bool, more: int) -> None:
    """The same inode, the same header, in the end longer than what had been read: and yet another log."""
    reader = Reader(log)
    assert reader.read() == [0, 1, 2]
    truncate(log, HEADER + readings(*range(10, 10 + more)))
    reader = reader.restarted() if down else reader
    assert reader.read() == list(range(10, 10 + more))
    (change,) = reader.tail.changes()
    assert change.reason == "log_truncated"
    assert str(log) in change.detail
    assert reader.read() == []
    assert reader.reasons() == []


def test_emptied_and_begun_again_later(log: Path) -> None:
    reader = Reader(log)
    reader.read()
    truncate(log, b"")
    assert reader.read() == []
    assert reader.reasons() == ["log_truncated"]
    truncate(log, HEADER)
    assert reader.read() == []
    truncate(log, HEADER + readings(7))
    assert reader.read() == [7]
    assert reader.reasons() == []


def test_deleted_and_made_anew(log: Path, down: bool) -> None:
    reader = Reader(log)
    reader.read()
    inode = log.stat().st_ino
    log.unlink()
    log.write_bytes(HEADER + readings(*range(10, 20)))
    if log.stat().st_ino != inode:  # most file systems give the inode out again at once; then this is the harder case
        assert log.stat().st_size > len(HEADER)
    reader = reader.restarted() if down else reader
    assert reader.read() == list(range(10, 20))
    assert reader.reasons() == ["log_truncated"]


def test_rewritten_whole_with_each_reading(log: Path, down: bool) -> None:
    """Some programs save the whole table anew: nothing is lost and nothing is read twice."""
    reader = Reader(log)
    reader.read()
    fresh = log.with_name("readings.tmp")
    fresh.write_bytes(HEADER + readings(0, 1, 2, 3))
    fresh.replace(log)
    reader = reader.restarted() if down else reader
    assert reader.read() == [3]
    assert reader.reasons() == []


def test_a_copy_with_half_a_reading_so_far_is_no_new_file(log: Path) -> None:
    reader = Reader(log)
    assert reader.read() == [0, 1, 2]
    copy, content = log.with_name("readings.csv.1"), log.read_bytes()
    copy.write_bytes(HEADER + reading(0)[:12])
    assert reader.read() == []
    copy.write_bytes(content)
    truncate(log, HEADER)
    assert reader.read() == []
    truncate(log, HEADER + reading(3))
    assert reader.read() == [3]
    assert reader.reasons() == []


def test_vanished_for_a_while_and_back(log: Path) -> None:
    """A network share that is gone for ten minutes."""
    reader = Reader(log)
    reader.read()
    elsewhere = log.parent.with_name("elsewhere")
    log.parent.rename(elsewhere)
    assert reader.read() == []
    assert reader.tail.state == "missing"
    assert str(log) in reader.tail.detail
    assert reader.tail.lag() == 0
    elsewhere.rename(log.parent)
    with log.open("ab") as file:
        file.write(readings(3))
    assert reader.read() == [3]
    assert reader.tail.state == "following"
    assert reader.reasons() == []


def test_vanished_for_good(log: Path, down: bool) -> None:
    reader = Reader(log)
    reader.read()
    log.unlink()
    reader = reader.restarted() if down else reader
    assert reader.read() == []
    assert reader.tail.state == "missing"
    assert reader.reasons() == []
    assert reader.tail.resumed is None
    log.with_name("readings.csv.1").write_bytes(HEADER + readings(5))
    assert reader.read() == [5]
    (change,) = reader.tail.changes()
    assert change.reason == "log_vanished"
    assert "readings.csv.1" in change.detail
    assert reader.tail.resumed is (False if down else None)


def test_an_unread_file_deleted_by_rotation_is_announced(tmp_path: Path) -> None:
    pattern = tmp_path / "readings-*.csv"
    for day in range(4):
        (tmp_path / f"readings-{day}.csv").write_bytes(HEADER + readings(10 * day, 10 * day + 1))
    reader = Reader(pattern)
    block = reader.tail.read()
    assert block is not None
    assert block.file.endswith("readings-0.csv")
    reader.kept = block.position_of(2).to_json()  # its last reading is not yet read
    (tmp_path / "readings-0.csv").unlink()
    reader = reader.restarted()
    assert reader.read() == [10, 11, 20, 21, 30, 31]
    assert reader.reasons() == ["log_vanished"]


def test_nothing_there_yet(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "readings.csv"
    reader = Reader(log)
    assert reader.read() == []
    assert reader.tail.state == "waiting"
    assert str(log) in reader.tail.detail
    log.parent.mkdir()
    log.touch()
    assert reader.read() == []
    assert reader.tail.state == "following"
    log.write_bytes(HEADER[:20])
    assert reader.read() == []
    log.write_bytes(HEADER + readings(1))
    assert reader.read() == [1]
    assert reader.reasons() == []


def test_silence_is_told_from_reading(log: Path) -> None:
    reader = Reader(log, silent_after=0.0)
    assert reader.read() == [0, 1, 2]
    assert reader.tail.state == "silent"
    assert "no new line" in reader.tail.detail
    patient = Reader(log)
    patient.read()
    assert patient.tail.state == "following"


def test_unreadable_is_a_state_and_not_the_end(log: Path) -> None:
    reader = Reader(log)
    reader.read()
    with log.open("ab") as file:
        file.write(readings(3))
    if os.geteuid() == 0:
        os.seteuid(65534)
    else:
        log.chmod(0)
    try:
        assert reader.read() == []
        assert reader.tail.state == "unreadable"
        assert "ermission" in reader.tail.detail
        fresh = Reader(log)
        assert fresh.read() == []
        assert fresh.tail.state == "unreadable"
    finally:
        if os.geteuid() == 65534:
            os.seteuid(0)
        log.chmod(0o600)
    assert reader.read() == [3]
    assert fresh.read() == [0, 1, 2, 3]
    assert reader.tail.state == "following"
    assert reader.reasons() == []


def test_a_folder_of_that_name_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "readings.csv").mkdir()
    (tmp_path / "readings.csv.1").write_bytes(HEADER + readings(1))
    reader = Reader(tmp_path / "readings.csv")
    assert reader.read() == [1]


def test_no_file_stays_open_between_polls(log: Path) -> None:
    """What is open cannot be renamed or deleted on Windows; here at least it is seen that nothing is."""
    reader = Reader(log)
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else None
    reader.read()
    log.rename(log.with_name("readings.csv.1"))
    log.write_bytes(HEADER + readings(3))
    assert reader.read() == [3]
    if before is not None:
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_clock_that_was_set_back_does_not_send_us_round(log: Path) -> None:
    """The new file's readings are older than the old file's: it is read, once, and the old one is not read again."""
    reader = Reader(log)
    log.write_bytes(HEADER + readings(600, 601))
    assert reader.read() == [600, 601]
    log.rename(log.with_name("readings.csv.1"))
    log.write_bytes(HEADER + readings(500))
    assert reader.read() == [500]
    assert reader.read() == []
    with log.open("ab") as file:
        file.write(readings(501))
    assert reader.read() == [501]
    assert reader.reasons() == []


@pytest.mark.parametrize("days", [1, -1])
def test_a_torn_last_line_does_not_wait_for_a_clock_that_was_set_back(tmp_path: Path, days: int) -> None:
    """A file of tomorrow was not written a moment ago."""
    old, new = tmp_path / "readings-1.csv", tmp_path / "readings-2.csv"
    old.write_bytes(HEADER + readings(0, 1) + reading(2)[:-4])
    new.write_bytes(HEADER + readings(3))
    for path, at in ((old, time.time() + 86_400 * days), (new, time.time() + 86_400 * days + 60)):
        os.utime(path, (at, at))
    tail = Reader(tmp_path / "readings-*.csv").tail
    blocks = []
    while (block := tail.read()) is not None:
        blocks.append(block)
    assert [block.torn for block in blocks] == [False, True, False]


def test_a_dead_clock_battery_does_not_put_the_newest_file_first(tmp_path: Path) -> None:
    old, new = tmp_path / "readings-b.csv", tmp_path / "readings-a.csv"
    old.write_bytes(HEADER + readings(1))
    new.write_bytes(HEADER + b"1980-01-01 00:00:00" + b",0.5" * 100 + b"\n" + readings(3))
    for path, when in ((old, 1_737_072_060), (new, 1_737_072_240)):
        os.utime(path, (when, when))
    assert Reader(tmp_path / "readings-*.csv").read() == [1, 0, 3]


def test_lag_counts_what_is_unread(tmp_path: Path) -> None:
    log = tmp_path / "readings.csv"
    log.write_bytes(HEADER + readings(*range(50)))
    reader = Reader(log)
    block = reader.tail.read(len(HEADER) + 2000)
    assert block is not None
    assert reader.tail.lag() == log.stat().st_size - block.position.offset > 0
    reader.read()
    assert reader.tail.lag() == 0
    with log.open("ab") as file:
        file.write(b"2025")
    assert reader.tail.lag() == 4


@pytest.mark.parametrize("counts", [("rows 000003", "rows 000004"), ("rows 9", "rows 10")], ids=["in place", "longer"])
@pytest.mark.parametrize("count", [3, 300], ids=["short", "longer than the mark"])
def test_a_title_that_is_written_anew_does_not_make_it_another_log(
    tmp_path: Path, down: bool, counts: tuple[str, str], count: int
) -> None:
    log = tmp_path / "readings.csv"
    before, after = (f"# {each}\r\nStation;4711\n".encode() for each in counts)
    log.write_bytes(before + HEADER + readings(*range(count)))
    reader = Reader(log)
    assert len(reader.read()) == count
    if len(before) == len(after):
        with log.open("r+b") as file:
            file.write(after)
        with log.open("ab") as file:
            file.write(readings(count))
    else:
        fresh = log.with_name("readings.tmp")
        fresh.write_bytes(after + HEADER + readings(*range(count + 1)))
        fresh.replace(log)
    reader = reader.restarted() if down else reader
    assert reader.read() == [count]
    assert reader.reasons() == []


@pytest.mark.parametrize("space", [5000, 3 * LINE_LIMIT], ids=["little", "more than is read at once"])
def test_preallocated_space_is_not_unread(tmp_path: Path, space: int) -> None:
    log = tmp_path / "readings.csv"
    written = HEADER + readings(0, 1)
    log.write_bytes(written + b"\0" * space)
    reader = Reader(log, silent_after=0.0)
    assert reader.read() == [0, 1]
    assert reader.tail.lag() == 0
    assert "without a line end" not in reader.tail.detail
    with log.open("r+b") as file:
        file.seek(len(written))
        file.write(readings(2))
    assert reader.read() == [2]
    with log.open("ab") as file:  # after a crash the space stays, and writing goes on behind it
        file.write(readings(3, 4))
    assert reader.read() == [3, 4]
    assert reader.tail.lag() == 0
    assert reader.restarted().read() == []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_in_mid_file_is_dropped(tmp_path: Path, encoding: str) -> None:
    """Some programs write one each time they open the file."""
    log = tmp_path / "readings.csv"
    log.write_bytes((HEADER + readings(0)).decode().encode(encoding))
    reader = Reader(log)
    assert reader.read() == [0]
    with log.open("ab") as file:
        file.write(readings(1, 2).decode().encode(encoding))
    assert reader.read() == [1, 2]
    with log.open("ab") as file:
        file.write((HEADER + readings(3)).decode().encode(encoding))
    assert reader.read() == [3]
    assert reader.reasons() == []


class Account:
    """Another account than the one that owns the files, in a folder that both may list."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        if os.geteuid() == 0:
            os.seteuid(65534)

    def __exit__(self, *_: object) -> None:
        if os.getuid() == 0:
            os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def days(folder: Path, count: int) -> list[Path]:
    """Make a file of two readings a day, each with its own time of writing."""
    paths = [folder / f"readings-{day}.csv" for day in range(count)]
    for day, path in enumerate(paths):
        path.write_bytes(HEADER + readings(10 * day, 10 * day + 1))
        os.utime(path, (1_737_072_000 + 600 * day,) * 2)
    return paths


def test_an_old_file_that_cannot_be_read_does_not_stop_the_live_one(open_folder: Path) -> None:
    paths = days(open_folder, 3)
    reader = Reader(open_folder / "readings-*.csv")
    assert len(reader.read()) == 6
    paths[0].chmod(0)
    with paths[2].open("ab") as file:
        file.write(readings(22))
    reader = reader.restarted()
    with Account(open_folder):
        assert reader.read() == [22]
        (told,) = reader.tail.unreadable
        assert str(paths[0]) in told
        assert "ermission" in told
        assert reader.tail.lag() == 0
    assert reader.reasons() == []


def test_an_old_file_that_opens_after_a_restart_was_read(open_folder: Path) -> None:
    """Also one that was read too long ago to be remembered."""
    paths = days(open_folder, 15)
    reader = Reader(open_folder / "readings-*.csv")
    assert len(reader.read()) == 30
    paths[0].chmod(0)
    with paths[-1].open("ab") as file:
        file.write(readings(142))
    reader = reader.restarted()
    with Account(open_folder):
        assert reader.read() == [142]
    paths[0].chmod(0o644)
    with Account(open_folder):
        assert reader.read() == []
    assert (reader.reasons(), reader.tail.passed_over, reader.tail.lag()) == ([], [], 0)


def test_a_locked_file_is_waited_for_then_announced_and_read_when_it_opens(open_folder: Path) -> None:
    paths = days(open_folder, 3)
    reader = Reader(open_folder / "readings-*.csv")
    paths[1].chmod(0)
    with Account(open_folder):
        assert reader.read() == [0, 1]
        assert reader.tail.state == "unreadable"
        assert str(paths[1]) in reader.tail.detail
        assert reader.reasons() == []
        assert reader.tail.lag() == 2 * paths[2].stat().st_size
        hasty = Reader(open_folder / "readings-*.csv", patience=0.0)
        assert hasty.read() == [0, 1, 20, 21]
        (change,) = hasty.tail.changes()
        assert f"{paths[1]} is skipped: it cannot be read" in change.detail
        assert hasty.tail.lag() == paths[1].stat().st_size
        assert hasty.tail.passed_over == [str(paths[1])]
    paths[1].chmod(0o644)
    with Account(open_folder):
        assert reader.read() == [10, 11, 20, 21]
        assert hasty.read() == [10, 11]
        assert hasty.tail.lag() == 0
        assert (reader.reasons(), hasty.reasons()) == ([], [])


def test_a_front_that_stays_locked_is_announced_and_its_rest_read_later(open_folder: Path) -> None:
    paths = days(open_folder, 2)
    paths[1].unlink()
    reader = Reader(open_folder / "readings-*.csv", patience=0.0)
    assert reader.read() == [0, 1]
    with paths[0].open("ab") as file:
        file.write(readings(2))
    paths[0].chmod(0)
    with Account(open_folder):
        assert reader.read() == []
        assert reader.tail.state == "unreadable"
    paths[1].write_bytes(HEADER + readings(10))
    with Account(open_folder):
        assert reader.read() == [10]
        (change,) = reader.tail.changes()
        assert f"{paths[0]} cannot be read" in change.detail
    paths[0].chmod(0o644)
    with Account(open_folder):
        assert reader.read() == [2]
        assert reader.reasons() == []


def test_a_position_in_a_locked_file_is_not_gone(open_folder: Path) -> None:
    """At a restart the answer is "not yet" until patience ends."""
    paths = days(open_folder, 2)
    reader = Reader(open_folder / "readings-*.csv")
    block = reader.tail.read()
    assert block is not None
    reader.kept = block.position_of(2).to_json()
    paths[0].chmod(0)
    reader = reader.restarted()
    hasty = Reader(open_folder / "readings-*.csv", reader.kept, patience=0.0)
    with Account(open_folder):
        assert reader.read() == []
        assert (reader.tail.resumed, reader.tail.state) == (None, "unreadable")
        assert hasty.read() == [10, 11]
        assert hasty.tail.resumed is False
        assert hasty.reasons() == ["log_vanished"]
    paths[0].chmod(0o644)
    with Account(open_folder):
        assert hasty.read() == [1]
        assert reader.read() == [1, 10, 11]
        assert reader.tail.resumed is True
        assert reader.reasons() == []


def test_two_files_with_preallocated_space_do_not_hold_up_each_other(tmp_path: Path) -> None:
    """One of them was given up before it had a reading."""
    space = bytes(4096)
    for age, (name, content) in enumerate({"c": readings(2), "b": b"", "a": readings(0, 1)}.items(), 1):
        path = tmp_path / f"readings-{name}.csv"
        path.write_bytes(HEADER + content + space)
        os.utime(path, (time.time() - 60 * age,) * 2)
    reader = Reader(tmp_path / "readings-*.csv")
    assert reader.read() == [0, 1, 2]
    assert (reader.reasons(), reader.tail.lag()) == ([], 0)


def test_preallocated_space_does_not_tell_the_encoding(tmp_path: Path) -> None:
    path = tmp_path / "readings.csv"
    path.write_bytes(bytes(1 << 17))
    reader = Reader(path)
    assert reader.read() == []
    for content in (HEADER, HEADER + readings(0), HEADER + readings(0, 1)):
        with path.open("r+b") as file:
            file.write(content.decode().encode("utf-16"))
    assert reader.read() == [0, 1]
    assert reader.tail.lag() == 0


def test_a_locked_file_that_may_hold_the_column_names_is_waited_for(open_folder: Path) -> None:
    """The log was copied and truncated, so that the copy is the later one by its modification time."""
    log, copy = open_folder / "readings.csv", open_folder / "readings.csv.1"
    log.write_bytes(readings(2, 3))
    copy.write_bytes(HEADER + readings(0, 1))
    os.utime(log, (time.time() - 60,) * 2)
    copy.chmod(0)
    reader = Reader(log)
    with Account(open_folder):
        assert reader.read() == []
        assert reader.tail.state == "unreadable"
    copy.chmod(0o644)
    with Account(open_folder):
        assert reader.read() == [0, 1, 2, 3]
    assert (reader.reasons(), reader.tail.lag()) == ([], 0)
