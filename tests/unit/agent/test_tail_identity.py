"""Which file is the one that was read, and which is next, where clocks and configurations are wrong and put right."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import agent.tail
from agent.config import LogConfig
from agent.parse import Parser
from agent.tail import Lines, Position, Tail
from contract.clock import DAY, now

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
        self.block: Lines | None = None
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
        monkeypatch.setattr(agent.tail, "now", clock)
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
