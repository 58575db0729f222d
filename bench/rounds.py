"""Fair comparison on a machine that is not quiet: contestants take turns in one process, and ratios are per round.

Absolute figures move by tens of per cent with whatever else runs; the ratio of two neighbours in time moves little.
CPU time is the measure, summed over threads, so that waiting for a busy core counts for nobody.
"""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

LIBRARIES = ("numpy", "onnxruntime", "pandas", "polars", "lightgbm", "river")


@dataclass(frozen=True)
class Times:
    """CPU seconds of every contestant, round by round."""

    cpu: dict[str, list[float]]

    def best(self, name: str) -> float:
        """The least disturbed round."""
        return min(self.cpu[name])

    def median(self, name: str) -> float:
        """The usual round."""
        return statistics.median(self.cpu[name])

    def faster(self, ours: str, peer: str) -> dict[str, float]:
        """How many times faster ``ours`` is than ``peer``: median over the rounds and range."""
        ratios = [b / a for a, b in zip(self.cpu[ours], self.cpu[peer], strict=True)]
        found = {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
        return {key: round(value, 2) for key, value in found.items()}


def take_turns(contestants: dict[str, Callable[[], Any]], rounds: int) -> Times:
    """Run every contestant once to warm up, then ``rounds`` times in turn."""
    for contestant in contestants.values():
        contestant()
    cpu: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            gc.collect()
            before = time.process_time()
            contestant()
            cpu[name].append(time.process_time() - before)
    return Times(cpu)


def conditions() -> dict[str, Any]:
    """Return what a figure means nothing without: processor, load, versions."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": [round(load, 1) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(terse=True),
        "threads per library": 1,
        "versions": versions,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - not a file of ours
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
