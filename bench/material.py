"""What the cases work on: a log of correlated sensors and a bundle whose two models were trained on such a log.

The models are the trainer's own, the detector and the classifier in their default size, so the figures speak of what a
device really runs. Everything is drawn from fixed seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from fieldwatch_contract.bundle import Baseline, Manifest, ModelSpec, read_bundle, write_arrays, write_bundle
from fieldwatch_contract.clock import MINUTE, parse_iso
from fieldwatch_contract.features import FeatureSpec
from fieldwatch_contract.scoring import Scorer, golden, self_test
from fieldwatch_trainer.models import FAULT, NORMAL, DeviceRows, Fitted
from numpy.typing import NDArray

SENSORS = 100
NAMES = [f"sensor_{number:03d}" for number in range(SENSORS)]
START = parse_iso("2026-01-01T00:00:00Z")
SPEC = FeatureSpec()
MISSING = 0.005


def readings(count: int, seed: int = 1, missing: float = MISSING) -> NDArray[np.float64]:
    """Return ``[count, SENSORS]``: sensors that share ten slow causes, each with its own noise, to three decimals."""
    rng = np.random.default_rng(seed)
    causes = np.cumsum(rng.normal(size=(count, 10)), axis=0) * 0.05 + rng.normal(size=(count, 10))
    mixing = np.random.default_rng(0).normal(size=(10, SENSORS))
    values = 50 + causes @ mixing + rng.normal(size=(count, SENSORS)) * 0.5
    values[rng.random(values.shape) < missing] = np.nan
    return np.round(values, 3)


def times(count: int, start: int = START) -> NDArray[np.int64]:
    """Return one timestamp a minute, µs."""
    return start + np.arange(count, dtype=np.int64) * MINUTE


def log_lines(values: NDArray[np.float64], ts: NDArray[np.int64]) -> list[bytes]:
    """Write readings as the lines of a CSV log, header first; an empty field is a missing value."""
    stamps = np.datetime_as_string(ts.astype("M8[us]"), unit="s")
    lines = [("timestamp," + ",".join(NAMES) + "\n").encode()]
    for stamp, row in zip(stamps, values.tolist(), strict=True):
        fields = ",".join("" if value != value else f"{value:.3f}" for value in row)  # noqa: PLR0124 - NaN
        lines.append(f"{stamp},{fields}\n".encode())
    return lines


@dataclass(frozen=True)
class _Training:
    """Two devices with a fault each."""

    count: int
    device_type: str = "bench"
    sensors: Sequence[str] = tuple(NAMES)
    period: int = MINUTE

    def __iter__(self) -> Iterator[DeviceRows]:
        for seed in (11, 12, 13):
            rows = readings(self.count, seed)
            label = np.full(self.count, NORMAL, np.int8)
            for start in (self.count // 4, self.count * 3 // 4):
                fault = slice(start, start + 120)
                label[fault] = FAULT
                rows[fault, :5] += np.linspace(0, 12, 120)[:, None]
            yield DeviceRows(f"bench-{seed}", times(self.count), rows, np.ones(self.count, bool), label)


@cache
def models() -> list[Fitted]:
    """Train detector and classifier."""
    from fieldwatch_trainer.models.classifier import Classifier, Settings
    from fieldwatch_trainer.models.detector import Detector

    training = _Training(1500)
    settings = Settings(rows=1500, folds=2, threads=1)  # trees as many and as large as ever, grown on fewer rows
    return [Detector().fit(training), Classifier(SPEC, settings).fit(training)]


@cache
def bundle() -> bytes:
    """Return the bytes of a bundle with both models; thresholds that ordinary rows do not reach."""
    fitted = models()
    files = {f"models/{model.name}.onnx": model.onnx for model in fitted}
    neutral = {f"{m.name}.{m.input}": m.neutral for m in fitted if m.neutral is not None}
    files["baseline.npz"] = write_arrays(dict(neutral))
    window = max(SPEC.longest, *(model.lookback for model in fitted))
    quiet = readings(1000, 99)
    mean, scale = np.nanmean(quiet, axis=0), np.nanstd(quiet, axis=0)
    manifest = Manifest(
        name="bench", version="1", device_type="bench", period_s=60, sensors=NAMES, window=window, min_rows=1,
        features=SPEC,
        models=[
            ModelSpec(
                name=model.name, kind=model.kind, file=f"models/{model.name}.onnx", input=model.input,
                lookback=model.lookback, threshold=1e6 if model.kind == "detector" else 0.999,
            )
            for model in fitted
        ],
        baseline=Baseline(
            mean=mean.tolist(), scale=scale.tolist(), low=(mean - 3 * scale).tolist(), high=(mean + 3 * scale).tolist()
        ),
        files=dict.fromkeys(files, ""),
    )  # fmt: skip
    scorer = Scorer(read_bundle(write_bundle(manifest, files)))
    files["golden.npz"] = write_arrays(golden(scorer, readings(window - 1 + 32, 7)))
    data = write_bundle(manifest, files)
    self_test(read_bundle(data))
    return data
