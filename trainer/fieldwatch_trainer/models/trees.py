"""Boosted trees as one ONNX graph whose answers are those of the library that grew them.

LightGBM and XGBoost are read into the same flat :class:`Forest`, and the forest is written as one
``TreeEnsembleRegressor`` of ``ai.onnx.ml`` 1 followed by a sigmoid. Three things make it exact where general
converters are not:

* LightGBM compares ``x <= t`` in float64, ONNX in float32. For a float32 ``x`` the test is the same as
  ``x <= (largest float32 not above t)``, so thresholds are rounded down, never to nearest.
* A NaN goes where the library sends it: to the learned side, or, where LightGBM saw no NaN in training and reads
  NaN as 0, to the side of 0.
* Nothing in the file depends on the day, on a version string or on a random name: the same forest gives the same
  bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPSET = 17
IR_VERSION = 8
TREE_OPSET = 1


@dataclass(frozen=True)
class Forest:
    """Binary trees in flat arrays, one entry a node; the margin of a row is ``base`` plus one leaf value a tree.

    ``tree`` and ``node`` int64 number tree and node within it; ``feature`` int64 (0 for leaves); ``threshold``
    float32; ``yes`` and ``no`` int64 are nodes of the same tree; ``nan_yes`` bool tells where NaN goes; ``value``
    float64 is not 0 only at leaves; ``leaf`` bool. ``strict``: the test is ``x < threshold`` (XGBoost), otherwise
    ``x <= threshold`` (LightGBM).
    """

    base: float
    strict: bool
    tree: NDArray[np.int64]
    node: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float32]
    yes: NDArray[np.int64]
    no: NDArray[np.int64]
    nan_yes: NDArray[np.bool_]
    value: NDArray[np.float64]
    leaf: NDArray[np.bool_]

    def calibrated(self, slope: float, offset: float) -> Forest:
        """Return the forest whose margin is ``slope × margin + offset``: Platt's rule costs nothing at run time."""
        return replace(self, base=slope * self.base + offset, value=self.value * slope)


def floor_float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the largest float32 not above each value, never further than the largest finite one.

    >>> floor_float32(np.array([0.1, -0.1, 0.5])).astype(float).tolist()
    [0.09999999403953552, -0.10000000149011612, 0.5]
    """
    limit = np.finfo(np.float32).max
    rounded = np.clip(values, -limit, limit).astype(np.float32)
    above = (rounded.astype(np.float64) > values) & (rounded > -limit)
    lower = np.nextafter(np.where(above, rounded, np.float32(0)), np.float32(-np.inf))
    return np.where(above, lower, rounded).astype(np.float32)


@dataclass
class _Nodes:
    """Collects the nodes of all trees."""

    rows: list[tuple[int, int, int, float, int, int, bool, float, bool]] = field(default_factory=list)

    def add(
        self,
        tree: int,
        node: int,
        *,
        feature: int = 0,
        threshold: float = 0.0,
        yes: int = 0,
        no: int = 0,
        nan_yes: bool = False,
        value: float = 0.0,
        leaf: bool = False,
    ) -> None:
        self.rows.append((tree, node, feature, threshold, yes, no, nan_yes, value, leaf))

    def forest(self, base: float, *, strict: bool) -> Forest:
        tree, node, feature, threshold, yes, no, nan_yes, value, leaf = zip(*sorted(self.rows), strict=True)
        return Forest(
            base=base,
            strict=strict,
            tree=np.array(tree, np.int64),
            node=np.array(node, np.int64),
            feature=np.array(feature, np.int64),
            threshold=floor_float32(np.array(threshold, np.float64)),
            yes=np.array(yes, np.int64),
            no=np.array(no, np.int64),
            nan_yes=np.array(nan_yes, np.bool_),
            value=np.array(value, np.float64),
            leaf=np.array(leaf, np.bool_),
        )


def from_lightgbm(booster: Any) -> Forest:
    """Read a ``lightgbm.Booster`` with numeric features and one output.

    Raises :class:`ValueError` for a kind of split that this file does not write.
    """
    nodes = _Nodes()
    for number, info in enumerate(booster.dump_model()["tree_info"]):
        stack = [(info["tree_structure"], 0)]
        count = 1
        while stack:
            split, place = stack.pop()
            if "split_feature" not in split:
                nodes.add(number, place, value=float(split["leaf_value"]), leaf=True)
                continue
            if split["decision_type"] != "<=" or split["missing_type"] not in ("None", "NaN"):
                raise ValueError(f"LightGBM split {split['decision_type']} / {split['missing_type']} is not supported")
            threshold = float(split["threshold"])
            nodes.add(
                number,
                place,
                feature=int(split["split_feature"]),
                threshold=threshold,
                yes=count,
                no=count + 1,
                nan_yes=bool(split["default_left"]) if split["missing_type"] == "NaN" else threshold >= 0.0,
            )
            stack.append((split["right_child"], count + 1))
            stack.append((split["left_child"], count))
            count += 2
    return nodes.forest(0.0, strict=False)


def from_xgboost(booster: Any) -> Forest:
    """Read an ``xgboost.Booster`` grown with ``binary:logistic`` from its JSON model, which states float32 exactly."""
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    base_score = learner["learner_model_param"]["base_score"]
    probability = float(np.float32(base_score.strip("[]")))
    nodes = _Nodes()
    for number, tree in enumerate(learner["gradient_booster"]["model"]["trees"]):
        for place, left in enumerate(tree["left_children"]):
            condition = float(np.float32(tree["split_conditions"][place]))
            if left == -1:
                nodes.add(number, place, value=condition, leaf=True)
                continue
            nodes.add(
                number,
                place,
                feature=int(tree["split_indices"][place]),
                threshold=condition,
                yes=int(left),
                no=int(tree["right_children"][place]),
                nan_yes=bool(tree["default_left"][place]),
            )
    return nodes.forest(float(np.log(probability / (1 - probability))), strict=True)


def to_onnx(forest: Forest, width: int) -> bytes:
    """Write the graph: input ``features`` float32 ``[N, width]``, output ``score`` float32 ``[N]`` in 0..1."""
    from onnx import TensorProto, helper

    leaf = np.flatnonzero(forest.leaf)
    modes = np.where(forest.leaf, "LEAF", "BRANCH_LT" if forest.strict else "BRANCH_LEQ").tolist()
    trees = helper.make_node(
        "TreeEnsembleRegressor",
        ["features"],
        ["margin"],
        name="trees",
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        base_values=[forest.base],
        nodes_treeids=forest.tree.tolist(),
        nodes_nodeids=forest.node.tolist(),
        nodes_featureids=forest.feature.tolist(),
        nodes_values=forest.threshold.tolist(),
        nodes_modes=modes,
        nodes_truenodeids=forest.yes.tolist(),
        nodes_falsenodeids=forest.no.tolist(),
        nodes_missing_value_tracks_true=forest.nan_yes.astype(np.int64).tolist(),
        target_treeids=forest.tree[leaf].tolist(),
        target_nodeids=forest.node[leaf].tolist(),
        target_ids=[0] * len(leaf),
        target_weights=forest.value[leaf].astype(np.float32).tolist(),
    )
    flat = helper.make_node("Reshape", ["margin", "shape"], ["flat"], name="flat")
    sigmoid = helper.make_node("Sigmoid", ["flat"], ["score"], name="probability")
    graph = helper.make_graph(
        [trees, flat, sigmoid],
        "fieldwatch-classifier",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", width])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"])],
        [helper.make_tensor("shape", TensorProto.INT64, [1], [-1])],
    )
    model = helper.make_model(
        graph,
        producer_name="fieldwatch",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", TREE_OPSET)],
    )
    return bytes(model.SerializeToString(deterministic=True))
