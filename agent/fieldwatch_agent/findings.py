"""What ``check`` tells: one finding is one thing seen, good or bad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """``where``: a key, a path; ``what`` was found; ``remedy``: what to do, empty where nothing needs doing."""

    level: Level
    where: str
    what: str
    remedy: str = ""
