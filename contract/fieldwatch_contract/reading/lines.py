"""The parser's input and output: lines; readings and refusals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Whole lines of one file, in order.

    ``lines``: 8-bit text without line ends. ``header``: the header in effect before the first line, where the parser
    cannot know it (after a restart). ``fresh``: they do not continue the previous block; ``at_start``: they begin the
    file. ``before``: after a restart, the lines before them. ``torn``: the last line has no end and will get none.
    ``overlong``: the only line is longer than 1 MiB; this is only its beginning.
    """

    lines: list[bytes]
    header: bytes | None = None
    fresh: bool = False
    at_start: bool = False
    before: list[bytes] = field(default_factory=list)
    torn: bool = False
    overlong: bool = False

    def __len__(self) -> int:
        return len(self.lines)


@dataclass(frozen=True)
class Refusal:
    """Line ``line`` of the block (-1: before it) is not a reading; ``reason`` is counted, ``detail`` is for people.

    Reasons: ``header`` (no column names, or none of a sensor), ``columns`` (more or fewer fields than the header),
    ``timestamp``, ``ambiguous`` (a number with two meanings), ``empty``, ``malformed`` (quotes, JSON), ``encoding``,
    ``torn``, ``too_long``; in logs with one value per line also ``late`` and ``duplicate``.
    """

    line: int
    reason: str
    detail: str


class RefusedError(Exception):
    """A line cannot be a reading."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Readings:
    """What a block of lines contains.

    ``ts``          int64 ``[m]`` µs UTC, in the order of the lines
    ``values``      float64 ``[m, S]`` in the bundle's order, NaN = missing
    ``line``        int64 ``[m]``: the line of the block at which each begins, -1 = before the block
    ``refused``     in the order of the lines
    ``skipped``     how many lines are neither: blank, comment, header, before a header
    ``bad_values``  by sensor: how many fields should be numbers but are not
    ``changes``     how a header differs from the bundle or from the previous header, in words
    ``open_line``   where an incomplete reading begins, at which a restart must begin: a line of the block,
                    -1 = before the block, None = there is none
    """

    ts: NDArray[np.int64]
    values: NDArray[np.float64]
    line: NDArray[np.int64]
    refused: list[Refusal]
    skipped: int
    bad_values: dict[str, int]
    changes: list[str]
    open_line: int | None = None


@dataclass
class Found:
    """Collects readings; ``bad`` by sensor index."""

    ts: list[NDArray[np.int64]] = field(default_factory=list)
    values: list[NDArray[np.float64]] = field(default_factory=list)
    line: list[NDArray[np.int64]] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    skipped: int = 0
    bad: Counter[int] = field(default_factory=Counter)
    changes: list[str] = field(default_factory=list)

    def add(self, ts: int, values: NDArray[np.float64], line: int) -> None:
        """Add one reading; ``values`` ``[S]``."""
        self.ts.append(np.array([ts], np.int64))
        self.values.append(values[None])
        self.line.append(np.array([line], np.int64))

    def readings(self, sensors: Sequence[str], open_line: int | None) -> Readings:
        """Return what was collected."""
        return Readings(
            np.concatenate(self.ts) if self.ts else np.empty(0, np.int64),
            np.concatenate(self.values) if self.values else np.empty((0, len(sensors))),
            np.concatenate(self.line) if self.line else np.empty(0, np.int64),
            self.refused,
            self.skipped,
            {sensors[place]: count for place, count in sorted(self.bad.items())},
            self.changes,
            open_line,
        )
