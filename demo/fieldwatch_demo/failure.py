"""Why the demo failed, in a sentence, and what would help: the last two lines that a person sees.

==========================================  =====================================================================
the output of a program that ended          its reason
==========================================  =====================================================================
ends with its message                       the message
ends with a traceback                       its last line, the error
goes on with a library's warning, or the    the last line that is neither a warning, nor a remark of a service
remarks of a service that shuts down        that all is well, nor indented
is empty                                    none: the exit code has to do
==========================================  =====================================================================
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_NOISE = re.compile(r"^\s|^\s*$|\w*Warning: |\[W:|\b(INFO|DEBUG|WARNING)\b|^The above exception|^During handling")
_REMEDIES = (
    (r"No space left on device|no room for|Disk quota exceeded|database or disk is full",
     "free some space, or choose a folder on another disk with --dir"),
    (r"\bport\b.* in use|Address already in use", "start the demo again: it takes other ports"),
    (r"MemoryError|Cannot allocate memory|bad_alloc|signal 9", "it needs about 1.5 GB of memory: close other programs"),
)  # fmt: skip


class DemoError(Exception):
    """The demo cannot go on. ``str()`` is what failed, in a sentence; ``details`` are lines to read before it."""

    def __init__(self, what: str, remedy: str = "", details: str = "") -> None:
        super().__init__(what)
        self.details = details
        self._remedy = remedy

    @property
    def remedy(self) -> str:
        """What would help."""
        return remedy(str(self)) or self._remedy


def reason(lines: Sequence[str]) -> str:
    """Return the line of a program's output that says why it ended; empty where none does.

    >>> reason(["lake: no readings", "x.py:3: FutureWarning: soon gone", "  warnings.warn("])
    'lake: no readings'
    """
    return next((line.strip() for line in reversed(lines) if not _NOISE.search(line)), "")


def remedy(what: str) -> str:
    """Return what helps against a failure that every program may have; empty for others."""
    return next((text for pattern, text in _REMEDIES if re.search(pattern, what)), "")
