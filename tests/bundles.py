"""Tiny real bundles for every test that needs one: ONNX graphs made in a millisecond, with golden vectors.

``make_bundle()`` gives the bytes of a bundle with a detector; ``classifier=True`` adds a feature model. Both are
plain enough to work out by hand:

* ``detector`` (``rows``): z = (x - mean) / scale, a missing value counts as z = 0; a sensor contributes
  (z_t - z_{t-lookback+1} / 2)², for ``lookback=1`` simply z²; the score is the sum. Threshold 9 a sensor.
* ``classifier`` (``features``): logistic of (the sensors' average of |newest value - mean| / scale) - 3; threshold
  0.5. Explained by occlusion through its baseline.

Options make what must be refused: ``wrong_golden=True`` is well formed, but promises scores that no machine computes;
``fails_above`` gives a detector that raises an error where a reading is above it.

``python -m tests.bundles`` renews the bundle that the agent's ``self-test`` carries: a new kernel needs one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from fieldwatch_contract.alerts import AlertRule
from fieldwatch_contract.bundle import Baseline, Manifest, ModelSpec, Range, read_bundle, write_arrays, write_bundle
from fieldwatch_contract.features import FeatureSpec
from fieldwatch_contract.level import LevelRule
from fieldwatch_contract.scoring import Scorer, golden
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FEATURES = FeatureSpec(windows=(2, 5), statistics=("mean", "std", "last"))


def make_bundle(
    sensors: int | list[str] = 3,
    version: str = "v1",
    *,
    name: str = "press",
    lookback: int = 2,
    mean: float = 10.0,
    scale: float = 2.0,
    threshold: float | None = None,
    classifier: bool = False,
    wrong_golden: bool = False,
    fails_above: float | None = None,
    rule: AlertRule | None = None,
    level: LevelRule | None = None,
    **changes: Any,
) -> bytes:
    """Return the zip's bytes. ``sensors``: names, or how many (``s0``, ``s1``, …); ``level``: how the detector's
    moves; ``changes``: manifest fields.
    """
    names = [f"s{i}" for i in range(sensors)] if isinstance(sensors, int) else sensors
    count = len(names)
    rule = rule or AlertRule(persistence=3)
    models = [
        ModelSpec(
            name="detector",
            kind="detector",
            file="models/detector.onnx",
            input="rows",
            lookback=lookback,
            threshold=9.0 * count if threshold is None else threshold,
            alert=rule,
            level=level,
        )
    ]
    files = {"models/detector.onnx": _detector(count, lookback, mean, scale, fails_above)}
    if classifier:
        models.append(
            ModelSpec(
                name="classifier",
                kind="classifier",
                file="models/classifier.onnx",
                input="features",
                threshold=0.5,
                alert=rule,
                range=Range(model="detector", limit=1e6),
            )
        )
        files["models/classifier.onnx"] = _classifier(count, mean, scale)
        neutral = np.zeros(FEATURES.width(count), np.float32).reshape(-1, len(FEATURES.statistics), count)
        neutral[:, [0, 2]] = mean
        files["baseline.npz"] = write_arrays({"classifier.features": neutral.reshape(-1)})
    fields: dict[str, Any] = {
        "name": name,
        "version": version,
        "device_type": name,
        "period_s": 60.0,
        "sensors": names,
        "window": max(lookback, FEATURES.longest if classifier else 1),
        "min_rows": 1,
        "features": FEATURES if classifier else None,
        "models": models,
        "baseline": Baseline(
            mean=[mean] * count, scale=[scale] * count, low=[mean - 3 * scale] * count, high=[mean + 3 * scale] * count
        ),
        "files": dict.fromkeys(files, ""),
    }
    manifest = Manifest(**(fields | changes))
    vectors = golden(Scorer(read_bundle(write_bundle(manifest, files))), _rows(manifest, mean, scale))
    if wrong_golden:
        vectors["score.detector"] = vectors["score.detector"] + np.float32(1)
    return write_bundle(manifest, files | {"golden.npz": write_arrays(vectors)})


def _rows(manifest: Manifest, mean: float, scale: float) -> NDArray[np.float64]:
    """Rows for the golden vectors: mostly normal, some far off, some missing."""
    shape = (manifest.window - 1 + 16, len(manifest.sensors))
    rng = np.random.default_rng(7)
    rows = rng.normal(mean, scale, shape)
    rows[-3:] += 8 * scale
    rows[rng.random(shape) < 0.1] = np.nan
    return rows


def _const(name: str, value: Any, dtype: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def _save(graph: onnx.GraphProto) -> bytes:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _detector(sensors: int, lookback: int, mean: float, scale: float, fails_above: float | None) -> bytes:
    constants = [
        _const("zero", 0.0, np.float64),
        _const("mean", [mean] * sensors, np.float64),
        _const("scale", [scale] * sensors, np.float64),
        _const("half", 0.5, np.float64),
        _const("ones", np.ones((sensors, 1)), np.float64),
        _const("axis1", [1], np.int64),
    ]
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "scale"], ["scaled"]),
        helper.make_node("IsNaN", ["scaled"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "scaled"], ["z"]),
    ]
    if lookback > 1:
        constants += [
            _const("axis0", [0], np.int64),
            _const("start", [0], np.int64),
            _const("lag", [lookback - 1], np.int64),
            _const("minus_lag", [1 - lookback], np.int64),
        ]
        nodes += [
            helper.make_node("Slice", ["z", "start", "lag", "axis0"], ["head"]),
            helper.make_node("Slice", ["z", "start", "minus_lag", "axis0"], ["body"]),
            helper.make_node("Concat", ["head", "body"], ["earlier"], axis=0),
            helper.make_node("Mul", ["earlier", "half"], ["expected"]),
            helper.make_node("Sub", ["z", "expected"], ["residual"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["z"], ["residual"]))
    if fails_above is not None:  # a place outside a table of one
        constants += [
            _const("limit", fails_above, np.float64),
            _const("table", [0.0], np.float64),
            _const("far", 1_000_000, np.int64),
        ]
        nodes += [
            helper.make_node("Greater", ["x", "limit"], ["above"]),
            helper.make_node("Cast", ["above"], ["counted"], to=TensorProto.INT64),
            helper.make_node("Mul", ["counted", "far"], ["place"]),
            helper.make_node("Gather", ["table", "place"], ["nothing"]),
            helper.make_node("Add", ["residual", "nothing"], ["checked"]),
        ]
    nodes += [
        helper.make_node("Mul", 2 * ["residual" if fails_above is None else "checked"], ["squared"]),
        helper.make_node("Cast", ["squared"], ["contributions"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["squared", "ones"], ["column"]),  # ReduceSum's bits depend on the row's address
        helper.make_node("Squeeze", ["column", "axis1"], ["total"]),
        helper.make_node("Cast", ["total"], ["score"], to=TensorProto.FLOAT),
    ]
    return _save(
        helper.make_graph(
            nodes,
            "detector",
            [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["R", sensors])],
            [
                helper.make_tensor_value_info("score", TensorProto.FLOAT, ["R"]),
                helper.make_tensor_value_info("contributions", TensorProto.FLOAT, ["R", sensors]),
            ],
            constants,
        )
    )


def _classifier(sensors: int, mean: float, scale: float) -> bytes:
    width = FEATURES.width(sensors)
    weights = np.zeros((len(FEATURES.windows), len(FEATURES.statistics), sensors), np.float32)
    weights[0, 2] = 1 / (sensors * scale)
    centre = np.zeros(weights.shape, np.float32)
    centre[0, 2] = mean
    constants = [
        _const("centre", centre.reshape(-1), np.float32),
        _const("zero", 0.0, np.float32),
        _const("weights", weights.reshape(-1), np.float32),
        _const("offset", 3.0, np.float32),
        _const("ones", np.ones((width, 1)), np.float32),
        _const("axis1", [1], np.int64),
    ]
    nodes = [
        helper.make_node("Sub", ["x", "centre"], ["centred"]),
        helper.make_node("IsNaN", ["centred"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "centred"], ["present"]),
        helper.make_node("Abs", ["present"], ["distance"]),
        helper.make_node("Mul", ["distance", "weights"], ["weighted"]),
        helper.make_node("MatMul", ["weighted", "ones"], ["column"]),
        helper.make_node("Squeeze", ["column", "axis1"], ["sum"]),
        helper.make_node("Sub", ["sum", "offset"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
    ]
    return _save(
        helper.make_graph(
            nodes,
            "classifier",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", width])],
            [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"])],
            constants,
        )
    )


if __name__ == "__main__":
    made = make_bundle(4, "built-in", name="self-test", lookback=5, classifier=True)
    (Path(__file__).parent.parent / "agent" / "fieldwatch_agent" / "self_test.zip").write_bytes(made)
