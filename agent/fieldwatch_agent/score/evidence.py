"""Readings over time as they leave the laboratory: those of the sensors named, and a coarse picture of all."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
from fieldwatch_contract import clock
from fieldwatch_contract.bundle import Manifest
from fieldwatch_contract.fields import Evidence
from numpy.typing import NDArray

CELLS = 16_000
"""Most cells of the all-sensor picture, so that an alert stays below the size brokers accept."""
Z_STEPS = 16


def evidence(
    manifest: Manifest,
    times: Sequence[int],
    rows: NDArray[np.float64],
    scores: Sequence[float],
    sensors: Sequence[str],
) -> Evidence:
    """Return the readings of ``rows`` float64 ``[n, S]`` at ``times`` (µs), n at least 1.

    ``scores``: of one model, NaN where it has none; ``sensors``: those whose readings are told exactly.
    """
    baseline = manifest.baseline
    z = (rows - np.array(baseline.mean)) / np.array(baseline.scale)
    widest = max(1, CELLS // len(rows))
    with np.errstate(invalid="ignore"):
        reach = np.nan_to_num(np.abs(z)).max(axis=0)
    drawn = np.sort(np.argsort(-reach, kind="stable")[:widest])
    coarse = np.clip(np.round(z[:, drawn] * Z_STEPS), -127, 127)
    picture = np.where(np.isnan(coarse), -128, coarse).astype(np.int8).T
    place = [manifest.sensors.index(sensor) for sensor in sensors]
    return Evidence(
        times=[clock.iso(time) for time in times],
        sensors=list(sensors),
        values=[_numbers(rows[:, i].tolist()) for i in place],
        mean=[baseline.mean[i] for i in place],
        scale=[baseline.scale[i] for i in place],
        low=[baseline.low[i] for i in place],
        high=[baseline.high[i] for i in place],
        scores=_numbers(scores),
        all_sensors=[manifest.sensors[i] for i in drawn],
        z=base64.b64encode(np.ascontiguousarray(picture).tobytes()).decode(),
    )


def _numbers(values: Sequence[float]) -> list[float | None]:
    return [None if value != value else float(f"{value:.6g}") for value in values]  # noqa: PLR0124 - NaN
