"""Each look at the log's files in turn goes wrong, or is overtaken by the writer: no line is lost, doubled, announced.

A virus scanner locks a file for a moment, a writer flushes and renames while the folder is being listed. Random courses
(:mod:`.test_log_model`) hardly ever meet such a moment; here a short course is played once for each of them.
"""

from __future__ import annotations

import errno
import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from fieldwatch_agent.log import cursor, files, inflate, shared_file

from tests.faults.test_log_model import STEPS, Manner, Reader, Writer

COURSE = [
    *("poll", "write", "poll", "write", "rotate", "poll", "write", "poll"),
    *("restart", "poll", "write", "rotate", "pack", "rotate", "write", "poll"),
]


class Looks:
    """Counts the agent's looks at files; at one of them something happens."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.locked: str | None = None
        self.happens: Callable[[str], None] = lambda path: None
        opens, status, entries = shared_file.open_shared, shared_file.status, shared_file.entries

        def open_shared(path: Path) -> BinaryIO:
            self._look(path)
            if str(path) == self.locked:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return opens(path)

        def watched(call: Callable[[Path], Any]) -> Callable[[Path], Any]:
            return lambda path: (self._look(path), call(path))[1]

        for module in (shared_file, inflate):
            patch.setattr(module, "open_shared", open_shared)
        for module in (shared_file, files, cursor, inflate):
            patch.setattr(module, "status", watched(status))
        patch.setattr(files, "entries", watched(entries))

    def _look(self, path: Path) -> None:
        self.count += 1
        self.happens(str(path))


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


def account(writer: Writer, reader: Reader) -> str:
    """Return in what the reader's account differs from the writer's, when all is quiet; empty if in nothing."""
    reader.poll()
    writer.write()
    reader.poll()
    read = Counter(reader.numbers)
    lost = [number for number in range(writer.written) if number not in read]
    doubled = [number for number, count in read.items() if count > 1]
    told = [change.detail for change in reader.changes], reader.tail.lag()
    return "" if not (lost or doubled or any(told)) else f"lost {lost}, doubled {doubled}, told {told}"


def moments(folder: Path, manner: Manner, apart: int) -> Iterator[tuple[int, Writer, Reader]]:
    """Yield a writer and a reader with the number of the look at which something is to happen."""
    for number in itertools.count(1, apart):
        inside = folder / str(number)
        inside.mkdir()
        yield number, Writer(inside, manner), Reader(inside)


@pytest.mark.parametrize("rotation", ["rename", "dated", "copytruncate"])
@pytest.mark.parametrize(
    ("for_long", "apart"),
    [
        pytest.param(False, 41, id="for a moment"),
        pytest.param(True, 19, id="during a restart"),
        pytest.param(False, 1, id="for each moment", marks=pytest.mark.soak),
        pytest.param(True, 1, id="during each restart", marks=pytest.mark.soak),
    ],
)
def test_a_file_that_is_locked_at_any_moment_is_read(
    tmp_path: Path, looks: Looks, rotation: str, for_long: bool, apart: int
) -> None:
    """At each look in turn the file is locked: for this look, or until the agent was restarted and polled twice."""
    for number, writer, reader in moments(tmp_path, Manner(rotation, "each", "", "now"), apart):
        looks.count, looks.locked = 0, None

        def lock(path: str, number: int = number) -> None:
            if looks.count == number:
                looks.locked = path
            elif not for_long:
                looks.locked = None

        looks.happens = lock
        for step in COURSE:
            STEPS[step](writer, reader, 1)
        if for_long:
            reader.restart()
            reader.poll()
            reader.poll()
        reached, looks.happens, looks.locked = looks.count, lambda path: None, None
        assert account(writer, reader) == "", number
        if reached < number:
            return


def test_two_files_that_are_flushed_at_any_moment_are_read_in_order(tmp_path: Path, looks: Looks) -> None:
    """Both had column names alone; a writer flushes what it held for the first, then, at any look, for the second."""
    for number, writer, reader in moments(tmp_path, Manner("dated", "each", "", "now"), 1):
        writer.write(2)
        reader.poll()
        writer.rotate()
        writer.rotate(held=2)
        second = writer.path
        writer.rotate(held=2)
        for age, path in enumerate(sorted(writer.path.parent.iterdir(), reverse=True), 1):
            os.utime(path, (time.time() - 10 * age,) * 2)
        seen = itertools.count(1)

        def flush(
            path: str, number: int = number, writer: Writer = writer, second: str = str(second), seen: Any = seen
        ) -> None:
            if writer.late and path == second and next(seen) == number:
                writer.flush()

        file, rest = writer.late.pop(0)
        with file:
            file.write(rest)
        looks.happens = flush
        reader.poll()
        looks.happens = lambda path: None
        reached = not writer.late
        writer.flush()
        assert account(writer, reader) == "", number
        if not reached:
            return


@pytest.mark.parametrize("restart", [False, True], ids=["agent up", "agent down"])
def test_a_log_that_is_copied_and_truncated_at_any_moment_is_read(tmp_path: Path, looks: Looks, restart: bool) -> None:
    for number, writer, reader in moments(tmp_path, Manner("copytruncate", "each", "", "now"), 1):
        writer.write(2)
        reader.poll()
        writer.write(2)
        if restart:
            reader.restart()
        looks.count = 0

        def rotate(path: str, number: int = number, writer: Writer = writer) -> None:
            if looks.count == number:
                writer.rotate()

        looks.happens = rotate
        reader.poll()
        reached, looks.happens = looks.count, lambda path: None
        assert account(writer, reader) == "", number
        if reached < number:
            return
