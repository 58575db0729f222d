"""What a command tells a terminal while it works."""

from __future__ import annotations

import sys


def progress(text: str) -> None:
    """Tell a terminal what is being done; an empty text clears the line."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
