"""The graph answers as the library that grew the trees does, for every row, NaN and block size."""

from __future__ import annotations

from typing import Any

import fieldwatch_contract.scoring  # noqa: F401  (turns telemetry off before onnxruntime is imported)
import numpy as np
import onnxruntime as ort
import pytest
from fieldwatch_trainer.models import trees
from fieldwatch_trainer.models.classifier import LightGBM, Settings, XGBoost
from numpy.typing import NDArray

SETTINGS = Settings(trees=60, threads=1)
WIDTH = 90


def data(rows: int, seed: int = 1, missing: float = 0.0) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    x = np.round(rng.standard_normal((rows, WIDTH)) * 4, 1).astype(np.float32)  # coarse: values meet thresholds
    y = x[:, 0] * x[:, 1] + 3 * x[:, 2] + rng.standard_normal(rows) > 9
    x[rng.random(x.shape) < missing] = np.nan
    return x, y


def grown(library: LightGBM | XGBoost, x: NDArray[np.float32], y: NDArray[np.bool_], settings: Settings) -> Any:
    loaded = library.load(x, y, np.ones(len(y)), settings)
    return library.grow(loaded, np.arange(len(y)), settings)


def session(model: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("library", [LightGBM, XGBoost])
@pytest.mark.parametrize("learnt_missing", [0.0, 0.1])
def test_graph_and_library_agree(library: type, learnt_missing: float) -> None:
    x, y = data(4000, missing=learnt_missing)
    grower = library()
    booster = grown(grower, x, y, SETTINGS)
    graph = session(trees.to_onnx(grower.forest(booster).calibrated(0.7, -0.2), WIDTH))
    for missing in (0.0, 0.2, 1.0):
        probe, _ = data(3000, seed=2, missing=missing)
        want = 1 / (1 + np.exp(-(0.7 * grower.margin(booster, probe) - 0.2)))
        got = graph.run(["score"], {"features": probe})[0]
        assert got.shape == (3000,)
        assert got.dtype == np.float32
        assert np.abs(got - want).max() < 1e-6


@pytest.mark.parametrize("library", [LightGBM, XGBoost])
def test_same_input_same_bytes(library: type) -> None:
    x, y = data(2000)
    graphs = []
    for _ in range(2):
        grower = library()
        booster = grown(grower, x, y, SETTINGS)
        graphs.append(trees.to_onnx(grower.forest(booster), WIDTH))
    assert graphs[0] == graphs[1]


def test_rounding_thresholds_to_nearest_would_be_wrong() -> None:
    """The reason for flooring: 0.1 lies below its nearest float32, so float32(0.1) must not pass ``x <= 0.1``."""
    x = np.array([0.1], np.float32)
    assert not x.astype(np.float64) <= 0.1
    assert not x <= trees.floor_float32(np.array([0.1]))
    assert x <= np.array([0.1]).astype(np.float32)


def test_flooring_at_the_edges() -> None:
    limit = float(np.finfo(np.float32).max)
    values = np.array([0.0, -0.0, 1.0, 1e-50, -1e-50, 1e300, -1e300, limit])
    floored = trees.floor_float32(values).astype(np.float64)
    assert (floored[:6] <= values[:6]).all()
    assert floored[3] == 0.0
    assert floored[4] < 0.0
    assert np.isfinite(floored).all()


def test_block_size_does_not_change_bits() -> None:
    x, y = data(2000)
    grower = LightGBM()
    forest = grower.forest(grown(grower, x, y, SETTINGS))
    graph = session(trees.to_onnx(forest, WIDTH))
    probe, _ = data(512, seed=4, missing=0.05)
    whole = graph.run(["score"], {"features": probe})[0]
    for size in range(1, 513):
        start = (512 - size) // 2
        part = graph.run(["score"], {"features": probe[start : start + size]})[0]
        assert part.tobytes() == whole[start : start + size].tobytes(), size


def test_a_tree_without_a_split_is_written() -> None:
    x = np.zeros((100, 3), np.float32)
    y = np.arange(100) < 10
    grower = LightGBM()
    booster = grown(grower, x, y, Settings(trees=3, threads=1))
    graph = session(trees.to_onnx(grower.forest(booster), 3))
    assert np.allclose(graph.run(None, {"features": x[:4]})[0], 0.1, atol=1e-6)
