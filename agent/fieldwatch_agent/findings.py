"""What ``check`` reports: a finding is one observation, good or bad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """``where``: a key or a path; ``what`` was found; ``remedy``: what to do, empty where nothing is needed."""

    level: Level
    where: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        """As one line, the same in ``check``, ``doctor`` and ``setup``."""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.level:7} {self.where}: {self.what}{remedy}"
