"""Returns freed memory to the system after a backlog, so that an idle agent is as small as one that never had any.

Only glibc keeps so much freed memory and offers a call to return it (``malloc_trim``); elsewhere this does nothing.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable


def _find_trim() -> Callable[[int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim


_trim = _find_trim()


def release() -> None:
    """Collect garbage and return free memory to the system."""
    gc.collect()
    if _trim is not None:
        _trim(0)
