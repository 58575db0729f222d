"""Keeps a waiting agent as small as one that never had a backlog: one heap for all threads, and freed memory returned.

Only glibc gives each thread a heap of its own and keeps so much freed memory, and it offers calls that change this
(``mallopt``, ``malloc_trim``); elsewhere this does nothing.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable

M_ARENA_MAX = -8
"""Option of ``mallopt``, from glibc's malloc.h."""


def _find(name: str) -> Callable[..., int] | None:
    if not sys.platform.startswith("linux"):
        return None
    found: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return found


_trim, _option = _find("malloc_trim"), _find("mallopt")


def share_heap() -> None:
    """Let threads that start from now on share one heap; they take turns in Python anyway."""
    if _option is not None:
        _option(M_ARENA_MAX, 1)


def release() -> None:
    """Collect garbage and return free memory to the system."""
    gc.collect()
    if _trim is not None:
        _trim(0)
