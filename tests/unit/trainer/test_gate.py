"""The parity gate lets a faithful graph pass and stops every kind of unfaithful one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fieldwatch_contract.bundle import Baseline, Bundle, Manifest, ModelSpec, read_bundle, write_arrays, write_bundle
from fieldwatch_contract.features import FeatureSpec
from fieldwatch_contract.scoring import Scorer, golden
from fieldwatch_trainer.gate import GateError, parity
from fieldwatch_trainer.models import Fitted, trees
from fieldwatch_trainer.models.classifier import LightGBM, Settings
from numpy.typing import NDArray

SPEC = FeatureSpec(windows=(2, 4))
SENSORS = ["a", "b", "c"]
WINDOW = SPEC.longest


def rows(count: int, seed: int = 0) -> NDArray[np.float64]:
    return np.round(np.random.default_rng(seed).standard_normal((WINDOW - 1 + count, 3)), 2)


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    rng = np.random.default_rng(1)
    x = np.round(rng.standard_normal((3000, SPEC.width(3))), 2).astype(np.float32)
    y = x[:, 0] + x[:, 4] > 1
    library = LightGBM()
    settings = Settings(trees=30, threads=1)
    booster = library.grow(library.load(x, y, np.ones(len(y)), settings), np.arange(len(y)), settings)
    return Fitted(
        name="classifier",
        kind="classifier",
        input="features",
        onnx=trees.to_onnx(library.forest(booster), x.shape[1]),
        lookback=1,
        reference=lambda features: 1 / (1 + np.exp(-library.margin(booster, features))),
        features=SPEC,
    )


def pack(fitted: Fitted, threshold: float = 0.5, shift: float = 0.0, vectors: bool = True) -> Bundle:
    """Make a bundle as the trainer does; ``shift`` falsifies the stored golden scores."""
    manifest = Manifest(
        name="press",
        version="1",
        device_type="press",
        period_s=60,
        sensors=SENSORS,
        window=WINDOW,
        min_rows=1,
        features=SPEC,
        models=[
            ModelSpec(name="classifier", kind="classifier", file="models/c.onnx", input="features", threshold=threshold)
        ],
        baseline=Baseline(mean=[0] * 3, scale=[1] * 3, low=[-3] * 3, high=[3] * 3),
        files={"models/c.onnx": ""},
    )
    files = {"models/c.onnx": fitted.onnx}
    if vectors:
        bare = read_bundle(write_bundle(manifest, files))
        arrays = golden(Scorer(bare), rows(20, seed=9))
        arrays["score.classifier"] = (arrays["score.classifier"] + np.float32(shift)).astype(np.float32)
        files["golden.npz"] = write_arrays(arrays)
    return read_bundle(write_bundle(manifest, files))


def test_a_faithful_graph_passes_with_figures(fitted: Fitted) -> None:
    result = parity(pack(fitted), [fitted], [rows(500), rows(300, seed=2), rows(0)[:1]])
    assert result["passed"]
    figures = result["models"]["classifier"]
    assert (figures["rows"], figures["blanked_rows"], figures["golden_rows"]) == (800, 800, 20)
    assert 0 < figures["max_difference"] < 1e-6
    assert figures["flips"] == figures["cut_differences"] == 0
    assert result["runtime"].startswith("onnxruntime ")


def test_another_graph_is_stopped(fitted: Fitted) -> None:
    reference = fitted.reference
    other = replace(fitted, reference=lambda x: reference(x) + 2e-5)
    with pytest.raises(GateError, match=r"differ by up to 2\.\d*e-05") as caught:
        parity(pack(fitted), [other], [rows(200)])
    assert caught.value.result["passed"] is False
    assert caught.value.result["models"]["classifier"]["max_difference"] > 1e-5


def test_a_graph_that_only_errs_on_missing_values_is_stopped(fitted: Fitted) -> None:
    reference = fitted.reference
    other = replace(fitted, reference=lambda x: reference(np.nan_to_num(x, nan=9.0)))
    with pytest.raises(GateError, match="differ by"):
        parity(pack(fitted), [other], [rows(200)])


def test_a_nan_on_one_side_is_a_difference(fitted: Fitted) -> None:
    other = replace(fitted, reference=lambda x: np.full(len(x), np.nan))
    with pytest.raises(GateError, match="differ by up to inf"):
        parity(pack(fitted), [other], [rows(200)])


def test_a_flip_inside_the_band_is_no_flip(fitted: Fitted) -> None:
    data = rows(200)
    exact = Scorer(pack(fitted)).score(data)[0].score
    threshold = float(np.sort(exact)[100]) + 1e-9
    result = parity(pack(fitted, threshold=threshold), [fitted], [data])
    assert result["models"]["classifier"]["flips"] == 0


def test_false_golden_vectors_are_stopped(fitted: Fitted) -> None:
    with pytest.raises(GateError, match="golden vectors"):
        parity(pack(fitted, shift=0.01), [fitted], [rows(200)])
    with pytest.raises(GateError, match="cannot prove itself"):
        parity(pack(fitted, vectors=False), [fitted], [rows(200)])


def test_nothing_compared_is_not_a_pass(fitted: Fitted) -> None:
    with pytest.raises(GateError, match="no validation block"):
        parity(pack(fitted), [fitted], [])
    with pytest.raises(GateError, match="no reference"):
        parity(pack(fitted), [], [rows(200)])
