"""Rotation in every form, the agent up or down meanwhile: each reading exactly once, in order.

The log is one that content fingerprints fall for: a hundred column names, so that every file begins with the same
kilobyte, on a file system that gives inodes out again.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest
from fieldwatch_agent.log import files, shared_file
from fieldwatch_agent.log.tail import LogChange, Position, Tail
from fieldwatch_contract.reading.parse import Parser
from fieldwatch_contract.reading.settings import LogConfig
from hypothesis import given, settings
from hypothesis import strategies as st

SENSORS = [f"chamber_{i:03d}_temperature" for i in range(100)]
HEADER = ("timestamp," + ",".join(SENSORS) + "\n").encode()
START = datetime(2025, 1, 1)
Kind = Literal["rename", "copytruncate", "gzip", "daily", "gone dated"]
KINDS: tuple[Kind, ...] = ("rename", "copytruncate", "gzip", "daily", "gone dated")


class Device:
    """Writes a reading a minute and rotates its log as it was told; files bear the times of its clock."""

    def __init__(self, folder: Path, kind: Kind, headers: bool = True) -> None:
        self.folder = folder
        self.kind = kind
        self.headers = headers
        self.minute = 0
        self.files = 0
        self.rest = b""
        self.path = folder / ("readings-20250101.csv" if kind == "daily" else "readings.csv")
        self.path.write_bytes(HEADER)
        self._touch()

    @property
    def pattern(self) -> str:
        return str(self.folder / "readings*.csv")

    def line(self) -> bytes:
        stamp = START + timedelta(minutes=self.minute)
        self.minute += 1
        return f"{stamp:%Y-%m-%dT%H:%M:%S},{','.join(['0.125'] * 100)}\n".encode()

    def _touch(self) -> None:
        now = int((START - datetime(1970, 1, 1)).total_seconds() + 60 * self.minute) * 10**9
        os.utime(self.path, ns=(now, now))

    def write(self, count: int = 1) -> None:
        with self.path.open("ab") as file:
            for _ in range(count):
                file.write(self.rest or self.line())
                self.rest = b""
        self._touch()

    def write_half(self) -> None:
        """Write the first part of a line; the next write brings the rest."""
        if not self.rest:
            whole = self.line()
            with self.path.open("ab") as file:
                file.write(whole[: len(whole) // 2])
            self.rest = whole[len(whole) // 2 :]
            self._touch()

    def rotate(self) -> None:
        if self.rest:
            self.write()
        self._rotate()
        self._touch()

    def _rotate(self) -> None:
        self.files += 1
        begin = HEADER if self.headers else b""
        if self.kind == "daily":
            self.path = self.folder / f"readings-2025{1 + self.files // 28:02d}{1 + self.files % 28:02d}.csv"
            self.path.write_bytes(begin)
            return
        if self.kind == "gone dated":
            self.path.rename(self.folder / f"readings.csv-2025010{self.files}")
            self.path.write_bytes(begin)
            return
        for old in sorted(self.folder.glob("readings.csv.*"), key=lambda path: -int(path.name.split(".")[2])):
            parts = old.name.split(".")
            parts[2] = str(int(parts[2]) + 1)
            old.rename(self.folder / ".".join(parts))
        first = self.folder / "readings.csv.1"
        if self.kind == "copytruncate":
            shutil.copy2(self.path, first)
            with self.path.open("r+b") as file:
                file.truncate()
            with self.path.open("ab") as file:
                file.write(begin)
            return
        self.path.rename(first)
        if self.kind == "gzip":
            packed = first.with_suffix(".1.gz")
            packed.write_bytes(gzip.compress(first.read_bytes()))
            os.utime(packed, ns=(first.stat().st_atime_ns, first.stat().st_mtime_ns))
            first.unlink()
        self.path.write_bytes(begin)


class Agent:
    """Reads as the pipeline does: a position is kept for every block, and a restart knows nothing else."""

    def __init__(self, pattern: str) -> None:
        self.log = LogConfig(path=pattern, period="60s")
        self.minutes: list[int] = []
        self.kept: str | None = None
        self.changes: list[LogChange] = []
        self.refused: list[str] = []
        self.restart()

    def restart(self) -> None:
        self.parser = Parser(self.log, SENSORS)
        self.tail = Tail(self.log.path, Position.from_json(self.kept) if self.kept else None, format=self.parser)

    def poll(self, limit: int = 1 << 20, blocks: int = 1000) -> None:
        for _ in range(blocks):
            block = self.tail.read(limit)
            self.changes += self.tail.changes()
            if block is None:
                return
            readings = self.parser.parse(block)
            assert (readings.values == 0.125).all()
            self.minutes += [
                (ts // 1_000_000 - int((START - datetime(1970, 1, 1)).total_seconds())) // 60 for ts in readings.ts
            ]
            self.refused += [refusal.reason for refusal in readings.refused]
            self.kept = block.position.to_json()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


def test_every_file_begins_alike() -> None:
    assert len(HEADER) > 1024


@pytest.mark.parametrize("headers", [True, False], ids=["header in each file", "header in the first file"])
@pytest.mark.parametrize("rotations", [1, 2, 3])
@pytest.mark.parametrize("up", [True, False], ids=["agent up", "agent down"])
def test_rotation(tmp_path: Path, kind: Kind, headers: bool, rotations: int, up: bool) -> None:
    device = Device(tmp_path, kind, headers)
    agent = Agent(device.pattern)
    device.write(5)
    agent.poll()
    assert agent.minutes == list(range(5))
    for _ in range(rotations):
        device.write(3)  # not yet read when the file is rotated
        device.rotate()
        if up:
            agent.poll()
        device.write(4)
    if not up:
        agent.restart()
    agent.poll()
    device.write(2)
    agent.poll()
    agent.restart()
    device.write(1)
    agent.poll()
    assert agent.minutes == list(range(device.minute))
    assert agent.changes == []
    assert agent.refused == []
    assert agent.tail.lag() == 0


Operation = Callable[[Device, Agent], None]
OPERATIONS: dict[str, Operation] = {
    "write": lambda device, agent: device.write(),
    "write many": lambda device, agent: device.write(7),
    "half a line": lambda device, agent: device.write_half(),
    "rotate": lambda device, agent: device.rotate(),
    "poll": lambda device, agent: agent.poll(),
    "poll a block": lambda device, agent: agent.poll(1500, 1),
    "restart": lambda device, agent: agent.restart(),
}


@settings(max_examples=60)
@given(st.sampled_from(KINDS), st.booleans(), st.lists(st.sampled_from(sorted(OPERATIONS)), max_size=25))
def test_any_course_of_events(kind: Kind, headers: bool, course: list[str]) -> None:
    """Whatever happens in whatever order: each reading exactly once, in order."""
    with tempfile.TemporaryDirectory() as folder:
        device = Device(Path(folder), kind, headers)
        agent = Agent(device.pattern)
        for name in course:
            OPERATIONS[name](device, agent)
        device.write()
        agent.poll()
        assert agent.minutes == list(range(device.minute))
        assert agent.changes == []
        assert agent.refused == []


def test_a_torn_last_line_of_a_rotated_file_is_refused_and_counted(tmp_path: Path) -> None:
    device = Device(tmp_path, "rename")
    agent = Agent(device.pattern)
    device.write(2)
    device.write_half()
    agent.poll()
    device.rest = b""  # the device lost power: the rest never comes
    device.rotate()
    device.write(2)
    agent.poll()
    assert agent.minutes == [0, 1, 3, 4]
    assert agent.refused == ["torn"]
    agent.restart()
    device.write()
    agent.poll()
    assert agent.minutes == [0, 1, 3, 4, 5]
    assert agent.refused == ["torn"]


def test_what_is_written_while_the_rotation_is_noticed_is_not_lost(tmp_path: Path) -> None:
    """A writer that holds the renamed file open goes on writing to it until the new one gets its first line."""
    device = Device(tmp_path, "rename")
    agent = Agent(device.pattern)
    device.write(2)
    agent.poll()
    with device.path.open("ab") as held:
        device.path.rename(tmp_path / "readings.csv.1")
        held.write(device.line())
        held.flush()
        agent.poll()
        held.write(device.line())
    device.path.write_bytes(HEADER)
    device.write(1)
    agent.poll()
    assert agent.minutes == list(range(5))


@pytest.mark.soak
def test_a_year_of_backlog_is_read_oldest_first_whatever_the_file_times(tmp_path: Path) -> None:
    """A copied folder has one time for all files, and names say nothing either: the readings do."""
    device = Device(tmp_path, "daily")
    for _ in range(80):
        device.write(2)
        device.rotate()
    for place, path in enumerate(sorted(tmp_path.iterdir())):
        shuffled = path.rename(tmp_path / f"readings {place * 37 % 81}.csv")
        os.utime(shuffled, ns=(10**18, 10**18))
    agent = Agent(device.pattern)
    while (before := len(agent.minutes)) < 160:
        agent.poll(3000, 5)
        agent.restart()
        assert len(agent.minutes) > before
    assert agent.minutes == list(range(160))


def test_copies_of_the_log_are_not_read_again(tmp_path: Path) -> None:
    device = Device(tmp_path, "rename")
    agent = Agent(device.pattern)
    device.write(50)
    shutil.copy(device.path, tmp_path / "readings before.csv")
    agent.poll()
    shutil.copy(device.path, tmp_path / "readings - copy.csv")
    device.write(5)
    agent.poll()
    shutil.copy(device.path, tmp_path / "readings.csv.7")
    agent.restart()
    device.write(5)
    agent.poll()
    assert agent.minutes == list(range(60))
    assert agent.changes == []


def test_a_packed_file_beside_its_original_is_not_read_twice(tmp_path: Path) -> None:
    device = Device(tmp_path, "rename")
    device.write(30)
    device.rotate()
    old = tmp_path / "readings.csv.1"
    packed = gzip.compress(old.read_bytes())
    (tmp_path / "readings.csv.1.gz").write_bytes(packed[: len(packed) // 2])  # gzip at work
    device.write(3)
    agent = Agent(device.pattern)
    agent.poll(2000, 3)
    (tmp_path / "readings.csv.1.gz").write_bytes(packed)
    old.unlink()
    agent.poll()
    assert agent.minutes == list(range(33))


def test_a_link_to_the_newest_file_is_not_a_second_log(tmp_path: Path) -> None:
    device = Device(tmp_path, "daily")
    link = tmp_path / "readings.csv"
    agent = Agent(device.pattern)
    for _ in range(3):
        link.unlink(missing_ok=True)
        link.symlink_to(device.path)
        device.write(3)
        agent.poll()
        device.rotate()
    agent.poll()
    assert agent.minutes == list(range(9))


def test_a_damaged_packed_file_gives_what_can_be_read(tmp_path: Path) -> None:
    device = Device(tmp_path, "rename")
    device.write(400)
    device.rotate()
    device.write(2)
    old = tmp_path / "readings.csv.1"
    raw = gzip.compress(old.read_bytes(), compresslevel=0)
    packed = tmp_path / "readings.csv.1.gz"
    packed.write_bytes(raw[: len(raw) * 3 // 4])
    os.utime(packed, ns=(old.stat().st_atime_ns, old.stat().st_mtime_ns))
    old.unlink()
    agent = Agent(device.pattern)
    agent.poll()
    assert agent.minutes[-2:] == [400, 401]
    assert 250 < len(agent.minutes) < 350
    assert agent.minutes == sorted(set(agent.minutes))
    (change,) = agent.changes
    assert change.reason == "log_truncated"
    assert f"{packed} is damaged after" in change.detail


def test_a_packed_file_that_is_still_written_is_waited_for(tmp_path: Path) -> None:
    """Copied to a share bit by bit: its end counts as missing only when nobody writes it any more."""
    device = Device(tmp_path, "rename")
    device.write(400)
    device.rotate()
    device.write(2)
    old = tmp_path / "readings.csv.1"
    raw = gzip.compress(old.read_bytes(), compresslevel=0)
    old.unlink()
    packed = tmp_path / "readings.csv.1.gz"
    packed.write_bytes(raw[: len(raw) // 2])
    agent = Agent(device.pattern)
    agent.poll()
    assert 0 < len(agent.minutes) < 250
    assert agent.tail.state == "unreadable"
    assert str(packed) in agent.tail.detail
    packed.write_bytes(raw)
    agent.poll()
    assert agent.minutes == list(range(402))
    assert agent.changes == []


def touched(path: Path, minute: int) -> None:
    os.utime(path, (int((START - datetime(1970, 1, 1)).total_seconds()) + 60 * minute,) * 2)


@pytest.mark.parametrize("behind", [-600, 2, 600], ids=["before", "just behind", "far behind"])
@pytest.mark.parametrize("seen", [True, False], ids=["its header was read", "it is new"])
def test_a_file_of_column_names_alone_hides_no_other(tmp_path: Path, behind: int, seen: bool) -> None:
    """Its modification time may lie behind the first reading of the next file, and a restart may fall there."""
    device = Device(tmp_path, "daily")
    agent = Agent(device.pattern)
    device.write(50)
    agent.poll()
    device.rotate()
    only = device.path
    if seen:
        agent.poll()
        agent.restart()
    device.rotate()
    touched(only, device.minute + behind)
    for _ in range(7):
        device.write(50)
        agent.poll()
        agent.restart()
    assert agent.minutes == list(range(400))
    assert agent.changes == []
    assert agent.tail.lag() == 0 or agent.tail.read() is None


def test_a_position_in_the_column_names_of_an_earlier_version_is_taken_over(tmp_path: Path) -> None:
    """What the first version committed there: no first reading, a mark of the header, which every file has."""
    device = Device(tmp_path, "daily")
    device.write(50)
    floor = int((START - datetime(1970, 1, 1)).total_seconds()) * 1_000_000
    device.rotate()
    only = device.path
    mark = hashlib.sha256(HEADER).hexdigest()[:32]
    kept = {"path": str(only), "file": _id(only), "offset": len(HEADER), "mark": mark, "first": None, "floor": floor}
    for _ in range(3):
        device.rotate()
        device.write(50)
    touched(only, device.minute + 10)
    agent = Agent(device.pattern)
    agent.kept = json.dumps(kept)
    agent.restart()
    agent.poll()
    assert agent.minutes == list(range(50, 200))
    assert agent.changes == []


def _id(path: Path) -> str:
    return f"{path.stat().st_dev}:{path.stat().st_ino}"


@pytest.mark.parametrize("count", [10, 300], ids=["short", "longer than the mark"])
def test_a_position_of_an_earlier_version_is_taken_over(tmp_path: Path, count: int) -> None:
    device = Device(tmp_path, "gzip", headers=False)
    device.write(count)
    content = device.path.read_bytes()
    first = int((START - datetime(1970, 1, 1)).total_seconds()) * 1_000_000
    kept = {
        "path": str(device.path),
        "file": _id(device.path),
        "offset": len(content),
        "mark": hashlib.sha256(content[-64 * 1024 :]).hexdigest()[:32],
        "first": first,
        "floor": first,
    }
    device.write(5)
    device.rotate()
    device.write(5)
    agent = Agent(device.pattern)
    agent.kept = json.dumps(kept)
    agent.restart()
    agent.poll()
    assert agent.minutes == list(range(count, count + 10))
    assert agent.tail.resumed is True
    assert (agent.changes, agent.refused) == ([], [])


@pytest.mark.parametrize("kind", ["copytruncate", "rename", "daily"])
def test_column_names_written_once_hold_for_ever(tmp_path: Path, kind: Kind) -> None:
    """More files later than anybody would look back, over restarts, and when the first file is long deleted."""
    device = Device(tmp_path, kind, headers=False)
    agent = Agent(device.pattern)
    first = sorted(tmp_path.iterdir())[0]
    for turn in range(12):
        device.write(3)
        agent.poll()
        device.rotate()
        if turn == 6:
            oldest = first if kind == "daily" else tmp_path / "readings.csv.7"
            assert HEADER in oldest.read_bytes()
            oldest.unlink()
    agent.restart()
    device.write(3)
    agent.poll()
    agent.restart()
    device.write(3)
    agent.poll()
    assert agent.minutes == list(range(42))
    assert agent.refused == []


def test_the_column_names_in_effect_within_a_block_belong_to_the_position(tmp_path: Path) -> None:
    device = Device(tmp_path, "daily")
    device.write(2)
    with device.path.open("ab") as file:
        file.write(HEADER.replace(b"_temperature", b"_pressure"))
    device.write(2)
    block = Tail(device.pattern, format=Parser(LogConfig(path=device.pattern, period="60s"), SENSORS)).read()
    assert block is not None
    names = [block.position_of(index).header for index in range(len(block) + 1)]
    old, new = HEADER.strip(), HEADER.strip().replace(b"_temperature", b"_pressure")
    assert names == [None, old, old, old, new, new, new]
    assert Position.from_json(block.position.to_json()) == block.position


@pytest.mark.parametrize("down", [False, True], ids=["agent up", "agent down"])
@pytest.mark.parametrize("torn", [False, True], ids=["whole lines", "from the middle of a line on"])
@pytest.mark.parametrize("kind", ["rename", "daily"])
def test_what_is_flushed_into_the_old_file_late_is_read(tmp_path: Path, kind: Kind, torn: bool, down: bool) -> None:
    device = Device(tmp_path, kind)
    agent = Agent(device.pattern)
    device.write(52)
    held = b"".join(device.line() for _ in range(8))
    cut = 100 if torn else 0
    with device.path.open("ab") as old:
        old.write(held[:cut])
        old.flush()
        device.rotate()
        device.write(10)
        if torn:  # the writer is at work now
            for path in tmp_path.iterdir():
                os.utime(path)
        agent.poll()
        assert agent.minutes == [*range(52), *range(60, 70)]
        if down:
            agent.restart()
        old.write(held[cut:])
    agent.poll()
    assert agent.minutes == [*range(52), *range(60, 70), *range(52, 60)]
    device.write(1)
    agent.poll()
    agent.restart()
    agent.poll()
    assert agent.minutes[70:] == [70]
    assert (agent.changes, agent.refused, agent.tail.lag()) == ([], [], 0)


def test_the_torn_end_of_an_old_file_is_given_up_when_nobody_ends_it(tmp_path: Path) -> None:
    device = Device(tmp_path, "daily")
    agent = Agent(device.pattern)
    device.write(3)
    with device.path.open("ab") as old:
        old.write(device.line()[:100])
    torn = device.path
    device.rotate()
    device.write(1)
    os.utime(torn)
    agent.poll()
    assert agent.minutes == [0, 1, 2, 4]
    assert agent.refused == []
    assert agent.tail.lag() == 100
    touched(torn, 0)
    agent.poll()
    assert agent.refused == ["torn"]
    assert agent.tail.lag() == 0


@pytest.mark.parametrize("rotations", [1, 3])
def test_lines_that_were_packed_away_are_found_by_content(tmp_path: Path, rotations: int) -> None:
    """Also beside a plain file of the packed one's name, which is the next file and not its original."""
    device = Device(tmp_path, "rename")
    agent = Agent(device.pattern)
    device.write(20)
    agent.poll()
    device.write(7)
    for _ in range(rotations):
        device.rotate()
        device.write(2)
    kept = tmp_path / f"readings.csv.{rotations}"
    packed = tmp_path / "readings.csv.1.gz"
    packed.write_bytes(gzip.compress(kept.read_bytes()))
    kept.unlink()
    if not (tmp_path / "readings.csv.1").exists():
        device.path.rename(tmp_path / "readings.csv.1")
        device.path.write_bytes(HEADER)
    device.write(1)
    agent.restart()
    agent.poll()
    assert agent.minutes == list(range(28 + 2 * rotations))
    assert agent.changes == []


def test_files_that_are_renamed_and_packed_under_the_listing_are_not_missed(tmp_path: Path) -> None:
    """A writer at full speed in a thread of its own; its list is what counts."""
    device = Device(tmp_path, "gzip")
    agent = Agent(device.pattern)

    def write() -> None:
        for _ in range(40):
            device.write(3)
            device.rotate()
            time.sleep(0.02)

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        agent.poll(4000, 3)
        agent.restart()
    device.write(1)
    agent.poll()
    assert agent.minutes == list(range(device.minute))
    assert agent.changes == []


@pytest.mark.parametrize("number", [1, 12])
def test_a_file_that_a_restart_found_in_neither_place_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """It was renamed while the folder was being listed: only the next listing has it."""
    device = Device(tmp_path, "gzip")
    agent = Agent(device.pattern)
    for _ in range(12):
        device.write(3)
        device.rotate()
    device.write(1)
    agent.poll()
    agent.restart()
    device.write(1)
    listings = []

    def entries(folder: Path) -> list[Path]:
        listings.append(folder)
        hidden = f"readings.csv.{number}.gz" if len(listings) == 1 else None
        return [path for path in shared_file.entries(folder) if path.name != hidden]

    monkeypatch.setattr(files, "entries", entries)
    agent.poll()
    assert listings
    assert agent.minutes == list(range(device.minute))
    assert (agent.changes, agent.tail.lag()) == ([], 0)


def test_half_a_packed_file_is_not_the_end_of_a_position(tmp_path: Path) -> None:
    """A restart in the midst of a rotation: what was read is not there yet, which is not the same as gone."""
    device = Device(tmp_path, "rename")
    agent = Agent(device.pattern)
    device.write(300)
    agent.poll()
    device.write(1)
    device.rotate()
    device.write(1)
    old = tmp_path / "readings.csv.1"
    packed = gzip.compress(old.read_bytes(), compresslevel=0)
    old.unlink()
    target = tmp_path / "readings.csv.1.gz"
    target.write_bytes(packed[: len(packed) // 3])
    agent.restart()
    agent.poll()
    assert (agent.tail.resumed, agent.tail.state, agent.changes) == (None, "unreadable", [])
    assert str(target) in agent.tail.detail
    target.write_bytes(packed)
    agent.poll()
    assert agent.tail.resumed is True
    assert agent.minutes == list(range(302))
    assert agent.changes == []
