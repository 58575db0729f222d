"""Lines as the parser takes them, wherever they come from: a growing file, a finished one, a list in a test."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Whole lines of one file, in order.

    ``lines``: 8-bit text without line ends. ``header``: the header in effect before the first line, where the parser
    cannot know it (after a restart). ``fresh``: they do not continue the ones before; ``at_start``: they begin the
    file. ``before``: after a restart, lines that precede them. ``torn``: the last line has no end and will get none.
    ``overlong``: the only line is longer than 1 MiB, and here is only its beginning.
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
