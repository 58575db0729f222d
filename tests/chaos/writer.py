"""A device that writes its log in one of the manners that loggers have, and remembers each line that it wrote.

====================  ==============================================================================================
manner                what happens to the files
====================  ==============================================================================================
``rename``            ``readings.csv`` becomes ``.1``, ``.1`` becomes ``.2``, …; a while later the newest is gzipped
``dated``             a new file a few hours, named after its time, gzipped a while later; some hold a header alone
``copytruncate``      ``readings.csv`` is copied to ``.1`` and cut to nothing; the header is written once, at the
                      beginning
====================  ==============================================================================================

In each manner lines come in halves now and then, some are malformed, ``gzip`` writes its file in pieces beside the
original, and between rename and re-creation there is no file. In ``rename`` and ``dated`` the writer sometimes flushes
its last lines into the old file after the new one has lines (:attr:`Line.held`).

Files bear the real modification times, the readings are in the past and minutes apart: a file that holds a header alone
therefore always sorts behind the first reading of the file after it.
"""

from __future__ import annotations

import gzip
import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fieldwatch_contract import clock

SENSORS = 3
HEADER = b"timestamp," + b",".join(b"s%d" % i for i in range(SENSORS)) + b"\n"
START = 1_768_608_000_000_000  # 2026-01-17T00:00:00Z
MANNERS = ("rename", "dated", "copytruncate")

Job = Iterator[float]
"""Something that goes on beside the writing; yields the seconds until its next step."""


@dataclass(frozen=True)
class Line:
    """A line as written. ``good``: a reading, not a malformed line. ``held``: written after later lines had been."""

    ts: int
    text: bytes
    good: bool
    held: bool = False


class Writer:
    """Writes in a thread of its own from :meth:`start` to :meth:`stop`; ``lines`` are in the order of their times."""

    lengths: tuple[int, ...] = (20, 150, 400, 700)
    """Lines of a file."""

    def __init__(self, folder: Path, seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.path = folder / "readings.csv"
        self.lines: list[Line] = []
        self.rotations = 0
        self.error: BaseException | None = None
        self._rng = random.Random(seed)
        self._minute = 0
        self._left = 0
        self._jobs: list[tuple[float, Job]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer")

    def start(self) -> Writer:
        """Make the first file and begin."""
        self._create()
        self._thread.start()
        return self

    def stop(self) -> None:
        """End when what has been begun (a held line, a gzip) is done; raises what the thread raised."""
        self._stopping.set()
        self._thread.join()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            while not self._stopping.wait(self._rng.uniform(0.005, 0.06)):
                self._work()
                if self._left <= 0 and self._may_rotate():
                    self._left = self._rng.choice(self.lengths)
                    self.rotations += 1
                    if self._rng.random() < 0.1:
                        self._minute += self._rng.choice((3, 40, 280))  # the device was off
                    self._rotate()
                else:
                    self._append(self._rng.randint(1, 4))
            while self._jobs:
                self._work()
                time.sleep(0.02)
        except BaseException as error:
            self.error = error

    # ---- lines ---------------------------------------------------------------------------------------------------

    def _line(self, held: bool = False) -> Line:
        ts = START + self._minute * clock.MINUTE
        self._minute += 1
        self._left -= 1
        good = self._rng.random() >= 0.02
        off = 60.0 if self._minute % 900 > 880 else 0.0
        values = [f"{10 + self._rng.gauss(0, 1) + off:.3f}" for _ in range(SENSORS if good else SENSORS - 1)]
        line = Line(ts, f"{clock.iso(ts)},{','.join(values)}\n".encode(), good, held)
        self.lines.append(line)
        return line

    def _append(self, count: int) -> None:
        text = b"".join(self._line().text for _ in range(count))
        half = len(text) // 2 if self._rng.random() < 0.05 else len(text)
        with self.path.open("ab", buffering=0) as file:
            file.write(text[:half])
            if half < len(text):
                time.sleep(self._rng.uniform(0, 0.2))
                file.write(text[half:])

    # ---- files ---------------------------------------------------------------------------------------------------

    def _create(self) -> None:
        self._left = self._rng.choice(self.lengths)
        self.path.write_bytes(HEADER)

    def _may_rotate(self) -> bool:
        return not self._jobs

    def _rotate(self) -> None:
        raise NotImplementedError

    def _shift(self) -> None:
        """Give each old file the next number."""
        olds = [path for path in self.folder.glob("readings.csv.*") if path.name.split(".")[2].isdigit()]
        for old in sorted(olds, key=lambda path: -int(path.name.split(".")[2])):
            parts = old.name.split(".")
            parts[2] = str(int(parts[2]) + 1)
            old.rename(self.folder / ".".join(parts))

    def _hold(self) -> tuple[BinaryIO, bytes]:
        """Open the current file as the writer's buffer has it, with lines in it that are flushed later (or none)."""
        count = self._rng.randint(1, 3) if self._rng.random() < 0.2 else 0
        held = b"".join(self._line(held=True).text for _ in range(count))
        return self.path.open("ab", buffering=0), held

    def _finish(self, path: Path, file: BinaryIO, held: bytes) -> Job:
        """Flush what was held, then compress."""
        if held:
            yield self._rng.uniform(0.1, 1.0)
            file.write(held)
        file.close()
        yield self._rng.uniform(0.3, 2.0)
        yield from self._pack(path)

    def _pack(self, path: Path) -> Job:
        """``gzip``: the packed file grows beside the original, which goes last."""
        packed = gzip.compress(path.read_bytes())
        times = path.stat()
        with path.with_name(path.name + ".gz").open("wb", buffering=0) as file:
            file.write(packed[: len(packed) // 2])
            yield self._rng.uniform(0, 0.5)
            file.write(packed[len(packed) // 2 :])
        yield self._rng.uniform(0, 0.1)
        os.utime(path.with_name(path.name + ".gz"), ns=(times.st_atime_ns, times.st_mtime_ns))
        path.unlink()

    def _later(self, job: Job) -> None:
        self._jobs.append((time.monotonic() + next(job), job))

    def _work(self) -> None:
        """Carry on what is due."""
        due = [job for when, job in self._jobs if when <= time.monotonic()]
        self._jobs = [(when, job) for when, job in self._jobs if job not in due]
        for job in due:
            delay = next(job, None)
            if delay is not None:
                self._jobs.append((time.monotonic() + delay, job))


class Rename(Writer):
    """logrotate with ``create`` and ``compress``."""

    def _rotate(self) -> None:
        file, held = self._hold()
        self._shift()
        old = self.path.with_name("readings.csv.1")
        self.path.rename(old)
        time.sleep(self._rng.uniform(0, 0.15))
        self.path.write_bytes(HEADER)
        self._later(self._finish(old, file, held))


class Dated(Writer):
    """A file a few hours; where the device is off at once, a file holds its header alone."""

    def start(self) -> Writer:
        """Name the first file after the first reading."""
        self._name()
        return super().start()

    def _name(self) -> None:
        stamp = clock.iso(START + self._minute * clock.MINUTE).replace(":", "").replace("-", "")[:13]
        self.path = self.folder / f"readings-{stamp}.csv"

    def _may_rotate(self) -> bool:
        return len(self._jobs) < 3

    def _rotate(self) -> None:
        file, held = self._hold()
        old = self.path
        self._name()
        self.path.write_bytes(HEADER)
        self._later(self._finish(old, file, held))
        if self._rng.random() < 0.3:
            time.sleep(self._rng.uniform(0.1, 1.0))
            alone = self.path
            self._minute += self._rng.choice((1, 60, 300))
            self._name()
            self.path.write_bytes(HEADER)
            if self._rng.random() < 0.5:
                self._later(self._finish(alone, alone.open("ab", buffering=0), b""))


class CopyTruncate(Writer):
    """logrotate with ``copytruncate``, and a writer that never looks back: the header is in the oldest file alone."""

    def _rotate(self) -> None:
        self._shift()
        old = self.path.with_name("readings.csv.1")
        self._rng.choice((shutil.copy, shutil.copy2))(self.path, old)
        time.sleep(self._rng.choice((0, 0.05)))
        os.truncate(self.path, 0)
        self._later(self._finish(old, old.open("ab", buffering=0), b""))


_CLASSES = {"rename": Rename, "dated": Dated, "copytruncate": CopyTruncate}


def make_writer(manner: str, folder: Path, seed: int) -> Writer:
    """Return the writer of a manner."""
    return _CLASSES[manner](folder, seed)
