"""Bundles that a gate must refuse, made from one that it would accept: each is whole, signed-to-be and plausible.

``altered(bundle, out, ...)`` puts another node behind a model's score, or another threshold or range into the manifest,
and writes new golden vectors, so that nothing but its judgement is wrong. ``run.json`` comes along with the new digest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from fieldwatch_contract.bundle import Range, read_bundle, write_arrays, write_bundle
from fieldwatch_contract.scoring import Scorer, golden
from onnx import helper, numpy_helper


def altered(
    source: Path, out: Path, model: str, *, node: str = "", by: float = 0.0, threshold: float | None = None,
    limit: float | None = None,
) -> Path:  # fmt: skip
    """Return the path of a bundle whose ``model`` differs; ``node`` is an ONNX operation applied to its score.

    ``by`` is the operation's first operand where it takes two: ``Sub`` gives by - score, ``Div`` by / score.
    """
    bundle = read_bundle(source / "bundle.zip")
    manifest, files = bundle.manifest, dict(bundle.files)
    files.pop("golden.npz")
    models = []
    for spec in manifest.models:
        changes: dict[str, Any] = {}
        if spec.name == model:
            if threshold is not None:
                changes |= {"threshold": threshold, "level": None}
            if limit is not None:
                changes["range"] = Range(model="detector", limit=limit)
            if node:
                files[spec.file] = _behind(files[spec.file], node, by)
        models.append(spec.model_copy(update=changes))
    manifest = manifest.model_copy(update={"models": models, "version": f"{manifest.version[:20]}-{out.name}"[:60]})
    rows = np.asarray(bundle.arrays("golden.npz")["rows"], np.float64)
    vectors = golden(Scorer(read_bundle(write_bundle(manifest, files))), rows)
    content = write_bundle(manifest, files | {"golden.npz": write_arrays(vectors)})
    out.mkdir()
    (out / "bundle.zip").write_bytes(content)
    run = json.loads((source / "run.json").read_text(encoding="utf-8"))
    run["sha256"] = read_bundle(content).sha256
    (out / "run.json").write_text(json.dumps(run), encoding="utf-8")
    return out / "bundle.zip"


def _behind(graph: bytes, kind: str, by: float) -> bytes:
    model = onnx.load_from_string(graph)
    for node in model.graph.node:
        node.output[:] = ["plain_score" if name == "score" else name for name in node.output]
        node.input[:] = ["plain_score" if name == "score" else name for name in node.input]
    inputs = ["plain_score"]
    if kind in {"Sub", "Div", "Mul", "Pow"}:
        model.graph.initializer.append(numpy_helper.from_array(np.array(by, np.float32), "by"))
        inputs = ["plain_score", "by"] if kind in {"Pow", "Mul"} else ["by", "plain_score"]
    model.graph.node.append(helper.make_node(kind, inputs, ["score"]))
    return bytes(model.SerializeToString(deterministic=True))
