"""From fitted models to ``bundle.zip``: manifest, graphs, baseline, golden vectors; the same input, the same bytes.

The version is ``<day training ended>-<hash>``, the hash being that of everything in the bundle but the version. So
the same training input gives the same version on the same machine, and two versions that differ say so.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from fieldwatch_contract.bundle import (
    Baseline,
    Bundle,
    Manifest,
    ModelSpec,
    Range,
    read_bundle,
    write_arrays,
    write_bundle,
)
from fieldwatch_contract.clock import SECOND
from fieldwatch_contract.level import LevelRule
from fieldwatch_contract.scoring import Scorer, golden
from numpy.typing import NDArray

from fieldwatch_trainer.models import Fitted, TrainingData

GOLDEN_ROWS = 64
MIN_ROWS = 30
"""Rows with a value that the window needs before a verdict is given."""

NEVER = 3.0e38
"""The threshold of a draft: no score reaches it."""


@dataclass(frozen=True)
class Frame:
    """What a bundle says besides its models."""

    device_type: str
    sensors: list[str]
    period: int
    baseline: Baseline
    timed: bool
    trained_until: str
    day: str

    @property
    def name(self) -> str:
        """The model family: the device type in the letters that a bundle's name allows."""
        return re.sub(r"[^a-z0-9._-]+", "-", self.device_type.lower()).strip("-._")[:64] or "model"


def window_of(fitted: Sequence[Fitted]) -> int:
    """Return W: the longest reach of any model."""
    reach = [one.features.longest if one.features is not None else one.lookback for one in fitted]
    return max(reach)


def draft(frame: Frame, fitted: Sequence[Fitted]) -> Bundle:
    """Return a bundle that scores and never alarms: for scores on held-back time, before there is a threshold."""
    return read_bundle(_write(frame, fitted, {}, {}, {}, {}, "draft"))


def assemble(
    frame: Frame,
    fitted: Sequence[Fitted],
    thresholds: Mapping[str, float],
    ranges: Mapping[str, Range],
    rows: NDArray[np.float64],
    levels: Mapping[str, LevelRule],
) -> bytes:
    """Return the bytes of the finished bundle. ``rows`` float64 ``[W - 1 + n, S]`` become its golden vectors.

    A model without an entry in ``levels`` has a fixed threshold.
    """
    unproven = read_bundle(_write(frame, fitted, thresholds, ranges, levels, {}, "draft"))
    vectors = {"golden.npz": write_arrays(golden(Scorer(unproven), rows))}
    content = _write(frame, fitted, thresholds, ranges, levels, vectors, "draft")
    version = f"{frame.day}-{hashlib.sha256(content).hexdigest()[:8]}"
    return _write(frame, fitted, thresholds, ranges, levels, vectors, version)


def golden_rows(data: TrainingData, window: int) -> NDArray[np.float64]:
    """Return float64 ``[W - 1 + n, S]`` from the device with most rows, with missing values of every kind.

    A row in the middle is missing altogether, then one sensor in each four for the rest, and single values throughout.
    """
    longest = max(data, key=lambda device: len(device.rows)).rows
    rows = longest[-(window - 1 + GOLDEN_ROWS) :].copy()
    if len(rows) < window - 1 + GOLDEN_ROWS:
        pad = np.full((window - 1 + GOLDEN_ROWS - len(rows), rows.shape[1]), np.nan)
        rows = np.concatenate((pad, rows))
    middle = len(rows) - GOLDEN_ROWS // 2
    rows[middle] = np.nan
    if rows.shape[1] > 1:
        rows[middle:, 1::4] = np.nan
        step = np.arange(rows.size).reshape(rows.shape)
        rows[(step * 7919) % 31 == 0] = np.nan
    return rows


def _write(
    frame: Frame,
    fitted: Sequence[Fitted],
    thresholds: Mapping[str, float],
    ranges: Mapping[str, Range],
    levels: Mapping[str, LevelRule],
    extra: Mapping[str, bytes],
    version: str,
) -> bytes:
    files = {f"models/{one.name}.onnx": one.onnx for one in fitted} | dict(extra)
    neutral: dict[str, NDArray[np.generic]] = {
        f"{one.name}.{one.input}": one.neutral for one in fitted if one.neutral is not None
    }
    if neutral:
        files["baseline.npz"] = write_arrays(neutral)
    window = window_of(fitted)
    features = next((one.features for one in fitted if one.features is not None), None)
    manifest = Manifest(
        name=frame.name,
        version=version,
        device_type=frame.device_type,
        period_s=frame.period / SECOND,
        timed=frame.timed,
        sensors=frame.sensors,
        window=window,
        min_rows=min(MIN_ROWS, window) if frame.timed else 1,
        features=features,
        models=[
            ModelSpec(
                name=one.name,
                kind=one.kind,
                file=f"models/{one.name}.onnx",
                input=one.input,
                lookback=one.lookback,
                threshold=thresholds.get(one.name, NEVER),
                alert=one.alert,
                level=levels.get(one.name),
                range=ranges.get(one.name),
            )
            for one in fitted
        ],
        baseline=frame.baseline,
        trained_until=frame.trained_until,
        files=dict.fromkeys(files, ""),
    )
    return write_bundle(manifest, files)
