"""Scoring: the same bits however rows are cut, self-proof by golden vectors, and no word to anybody outside."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from fieldwatch_contract.bundle import (
    Bundle,
    BundleBroken,
    BundleMisfit,
    Range,
    read_bundle,
    write_arrays,
    write_bundle,
)
from fieldwatch_contract.scoring import Scorer, golden, rank, responsible, self_test
from fieldwatch_contract.verdicts import CODES, VERDICTS, WHYS, Why
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.bundles import make_bundle
from tests.conftest import ROOT

BOTH = read_bundle(make_bundle(4, classifier=True))
SCORER = Scorer(BOTH)
WINDOW = BOTH.manifest.window


def log(seed: int, count: int, missing: float = 0.1, sensors: int = 4, window: int = WINDOW) -> np.ndarray:
    """Rows with a past, around the tiny bundle's normal, some far off and some missing."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(10, 2, (window - 1 + count, sensors)) * np.where(rng.random((window - 1 + count, 1)) < 0.2, 4, 1)
    rows[rng.random(rows.shape) < missing] = np.nan
    rows[rng.random(len(rows)) < missing] = np.nan
    return rows


def in_blocks(scorer: Scorer, rows: np.ndarray, edges: list[int]) -> list[tuple[bytes, bytes, bytes]]:
    """Score block by block; return the bits of score, verdict and contributions for each model."""
    past = scorer.manifest.window - 1
    parts = [scorer.score(rows[start : stop + past]) for start, stop in pairwise(edges)]
    return [
        (
            np.concatenate([p.score for p in of_model]).tobytes(),
            np.concatenate([p.verdict for p in of_model]).tobytes(),
            np.concatenate([p.contributions for p in of_model]).tobytes(),
        )
        for of_model in zip(*parts, strict=True)
    ]


@given(st.integers(0, 2**32), st.integers(1, 80), st.lists(st.integers(0, 80), max_size=6))
def test_any_cut_gives_the_same_bits(seed, count, cuts):
    rows = log(seed, count)
    edges = sorted({0, count, *(min(cut, count) for cut in cuts)})
    assert in_blocks(SCORER, rows, edges) == in_blocks(SCORER, rows, [0, count])


def wide_bundle(sensors: int) -> Bundle:
    """A detector with what real ones have: matrix products of odd sizes, in float32, on the row and its past."""
    rng = np.random.default_rng(sensors)
    nodes = [
        helper.make_node("IsNaN", ["x"], ["gone"]),
        helper.make_node("Where", ["gone", "zero", "x"], ["filled"]),
        helper.make_node("Cast", ["filled"], ["z"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["z", "start", "one", "axis0"], ["head"]),
        helper.make_node("Slice", ["z", "start", "back", "axis0"], ["body"]),
        helper.make_node("Concat", ["head", "body"], ["earlier"], axis=0),
        helper.make_node("Gemm", ["earlier", "weights", "bias"], ["expected"]),
        helper.make_node("Sub", ["z", "expected"], ["residual"]),
        helper.make_node("MatMul", ["residual", "whiten"], ["white"]),
        helper.make_node("Mul", ["white", "white"], ["contributions"]),
        helper.make_node("MatMul", ["contributions", "ones"], ["column"]),
        helper.make_node("Squeeze", ["column", "axis1"], ["total"]),
        helper.make_node("Sqrt", ["total"], ["score"]),
    ]
    constants = {
        "zero": np.float64(0), "start": np.array([0]), "one": np.array([1]), "back": np.array([-1]),
        "ones": np.ones((sensors, 1), np.float32), "axis0": np.array([0]), "axis1": np.array([1]),
        "bias": rng.normal(size=sensors).astype(np.float32),
        "weights": rng.normal(size=(sensors, sensors)).astype(np.float32) / 10,
        "whiten": rng.normal(size=(sensors, sensors)).astype(np.float32),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes, "wide",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["R", sensors])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["R"]),
         helper.make_tensor_value_info("contributions", TensorProto.FLOAT, ["R", sensors])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    tiny = read_bundle(make_bundle(sensors))
    files = {"models/detector.onnx": model.SerializeToString()}
    return read_bundle(write_bundle(tiny.manifest, files))


@pytest.mark.parametrize("sensors", [1, 2, 7, 38, 100])
def test_blocks_of_every_size_give_the_bits_of_the_whole(sensors):
    """onnxruntime takes other code paths for one row; the scorer may not let that show.

    With ``ReduceSum`` in place of the product with ones this fails for 7 and 38 sensors.
    """
    scorer = Scorer(wide_bundle(sensors))
    count = 67
    rows = log(sensors, count, 0.02, sensors, scorer.manifest.window)
    whole = in_blocks(scorer, rows, [0, count])
    for size in range(1, count):
        assert in_blocks(scorer, rows, [*range(0, count, size), count]) == whole, f"blocks of {size}"


def test_scores_are_those_of_the_formula_and_verdicts_follow():
    rows = np.full((WINDOW - 1 + 3, 4), 10.0)
    rows[-2] = [10, 10, 10, 30]
    detector, classifier = SCORER.score(rows)
    assert detector.score.tolist() == [0, 100, 25]  # z = 10, then only what the row before still explains
    assert detector.contributions[1].tolist() == [0, 0, 0, 100]
    assert [VERDICTS[code] for code in detector.verdict] == ["normal", "anomalous", "normal"]
    assert classifier.score[0] < 0.5 and classifier.model == "classifier"


def test_a_feature_model_is_explained_by_occlusion_only_where_it_raises():
    rows = np.full((WINDOW - 1 + 2, 4), 10.0)
    rows[-1] = [10, 60, 10, 10]
    classifier = SCORER.score(rows)[1]
    assert classifier.contributions[0].tolist() == [0, 0, 0, 0]
    assert classifier.score[1] >= 0.5
    assert responsible(classifier.contributions[1], BOTH.manifest.sensors) == (["s1"], [1.0])


def test_verdict_is_unknown_where_nobody_can_know():
    scorer = Scorer(read_bundle(make_bundle(4, classifier=True, min_rows=3, max_missing=0.5)))
    rows = np.full((WINDOW - 1 + 6, 4), np.nan)
    rows[WINDOW - 1 :] = 10.0
    rows[WINDOW - 1 + 4, :3] = np.nan
    for scores in scorer.score(rows):
        assert [VERDICTS[code] for code in scores.verdict] == [
            "unknown",
            "unknown",
            "normal",
            "normal",
            "unknown",
            "normal",
        ]


def test_a_classifier_is_silent_out_of_the_training_range():
    rows = np.full((WINDOW, 4), 10.0)
    rows[-1] = 1e7
    detector, classifier = SCORER.score(rows)
    assert detector.verdict[0] == CODES["anomalous"] and classifier.verdict[0] == CODES["unknown"]


def test_the_limits_themselves_still_hold():
    """A score at the range's limit is in it; so many sensors missing and so few rows as are allowed are allowed."""
    rows = np.full((WINDOW, 4), 10.0)
    rows[-1] = [10, 10, 10, 30]
    limit = float(SCORER.score(rows)[0].score[0])

    def word(limit, rows=rows, **changes):
        bundle = read_bundle(make_bundle(4, classifier=True, threshold=1e9, **changes))
        models = [spec.model_copy() for spec in bundle.manifest.models]
        models[1] = models[1].model_copy(update={"range": Range(model="detector", limit=limit)})
        manifest = bundle.manifest.model_copy(update={"models": models})
        scores = Scorer(read_bundle(write_bundle(manifest, bundle.files))).score(rows)[1]
        return VERDICTS[scores.verdict[0]].value, WHYS[scores.why[0]].value

    assert limit == 100
    assert word(limit) == ("normal", "")
    assert word(np.nextafter(limit, 0)) == ("unknown", "out_of_range")
    half = rows.copy()
    half[-1, :2] = np.nan
    assert word(1e9, half, max_missing=0.5) == ("normal", "")
    assert word(1e9, half, max_missing=0.49) == ("unknown", "sensors_missing")
    short = rows.copy()
    short[:-3] = np.nan
    assert word(1e9, short, min_rows=3) == ("normal", "")
    assert word(1e9, short, min_rows=4) == ("unknown", "few_rows")


def test_rows_of_a_window_that_is_not_filled_say_nothing_but_that():
    rows = np.full((WINDOW - 1 + 3, 4), 10.0)
    rows[-1] = 30
    found = SCORER.score(rows)[0]
    without = found.without(np.array([False, True, True]), Why.WINDOW_UNFILLED)
    assert [VERDICTS[code] for code in without.verdict] == ["normal", "unknown", "unknown"]
    assert [WHYS[code] for code in without.why] == ["", "window_unfilled", "window_unfilled"]
    assert np.isnan(without.score).tolist() == [False, True, True]
    assert not without.contributions[1:].any()


def test_absurd_numbers_never_end_in_a_bare_verdict_or_an_exception():
    rows = np.full((WINDOW - 1 + 3, 4), 10.0)
    rows[-2, 0] = 1.7e308
    rows[-1, 1] = -1.7e308
    for scores in SCORER.score(rows):
        assert scores.verdict[1] != CODES["normal"]


shares = st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=30)


@given(shares, st.integers(1, 30))
def test_shares_name_the_responsible_in_order_and_sum_to_one(values, limit):
    contributions = np.array(values, np.float32)
    names = [f"s{i}" for i in range(len(values))]
    sensors, named = responsible(contributions, names, limit)
    assert len(sensors) == len(named) <= limit
    assert named == sorted(named, reverse=True) and all(share > 0 for share in named)
    assert sum(named) <= 1 + 5e-5 * len(values)
    for sensor, share in zip(sensors, named, strict=True):
        assert abs(share - values[names.index(sensor)] / sum(values)) < 1e-4
    order, ranked = rank(np.stack([contributions, contributions * 0]), limit)
    assert ranked[1].max() == 0 and names[order[0][0]] == (sensors[0] if sensors else names[order[0][0]])


def test_without_contributions_nobody_is_responsible():
    for nothing in ([0.0, 0.0], [np.nan, 1.0]):
        assert responsible(np.array(nothing, np.float32), ["a", "b"]) == ([], [])


# ---- self-proof ------------------------------------------------------------------------------------------------


def with_golden(edit) -> Bundle:
    """Return the bundle with its golden arrays edited."""
    arrays = BOTH.arrays("golden.npz")
    edit(arrays)
    return read_bundle(write_bundle(BOTH.manifest, BOTH.files | {"golden.npz": write_arrays(arrays)}))


def bend(name: str, by: float):
    def edit(arrays):
        value = arrays[name].copy()
        value.flat[np.flatnonzero(np.isfinite(value))[3]] += by
        arrays[name] = value

    return edit


def test_a_bundle_proves_itself():
    self_test(BOTH)
    self_test(with_golden(bend("score.detector", 1e-6)))  # within what another machine may compute


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (bend("score.detector", 0.01), "score.detector differs by 0.01"),
        (bend("score.classifier", -0.01), "score.classifier differs by 0.01"),
        (bend("features", 1e-5), "other feature bits"),
        (bend("rows", 0.5), "other feature bits"),
        (lambda a: a.pop("rows"), "rows are missing"),
        (lambda a: a.pop("features"), "features is missing"),
        (lambda a: a.update({"score.detector": a["score.detector"][:-1]}), "another shape"),
        (lambda a: a.update({"rows": a["rows"][:, :2]}), "do not fit the manifest"),
        (lambda a: a.update({"rows": a["rows"][: WINDOW - 1]}), "do not fit the manifest"),
        (
            lambda a: a.update({"score.detector": a["score.detector"] * np.float32("nan")}),
            "score.detector differs by inf",
        ),
        (lambda a: a.update({"score.detector": a["score.detector"].astype(str)}), "another shape or type"),
        (lambda a: a.update({"rows": np.full(a["rows"].shape, "x")}), "do not fit the manifest"),
    ],
)
def test_altered_golden_vectors_are_refused(edit, message):
    with pytest.raises(BundleBroken, match=re.escape(message)):
        self_test(with_golden(edit))


def test_golden_vectors_must_be_there_and_readable():
    files = {name: data for name, data in BOTH.files.items() if name != "golden.npz"}
    with pytest.raises(BundleBroken, match="cannot prove itself"):
        self_test(read_bundle(write_bundle(BOTH.manifest, files)))
    with pytest.raises(BundleBroken, match="cannot be read"):
        self_test(read_bundle(write_bundle(BOTH.manifest, files | {"golden.npz": b"nonsense"})))
    with pytest.raises(BundleBroken, match=r"score\.detector differs"):
        self_test(read_bundle(make_bundle(wrong_golden=True)))


def test_golden_vectors_survive_their_own_trip():
    rows = log(1, 20)
    arrays = golden(SCORER, rows)
    with np.load(io.BytesIO(write_arrays(arrays))) as back:
        assert all(back[name].tobytes() == value.tobytes() for name, value in arrays.items())


def test_a_graph_that_does_not_fit_is_refused_with_the_reason():
    def broken(content: bytes) -> Bundle:
        return read_bundle(write_bundle(BOTH.manifest, BOTH.files | {"models/detector.onnx": content}))

    with pytest.raises(BundleBroken, match="does not load"):
        Scorer(broken(b"nonsense"))
    with pytest.raises(BundleBroken, match=r"tensor\(float\), must be tensor\(double\)"):
        Scorer(broken(BOTH.files["models/classifier.onnx"]))
    model = onnx.load_from_string(BOTH.files["models/detector.onnx"])
    model.graph.output.remove(model.graph.output[0])
    with pytest.raises(BundleBroken, match="no output named score"):
        Scorer(broken(model.SerializeToString()))


def test_the_bundle_of_the_first_version_computes_the_same() -> None:
    """What commit cc72598 had as its own: features to the bit, scores within the tolerance, by its golden vectors."""
    bundle = read_bundle(ROOT / "tests" / "data" / "bundle-cc72598" / "self_test.zip")
    self_test(bundle)
    proof = bundle.arrays("golden.npz")
    for name in proof.keys() - {"rows"}:
        golden_file = write_arrays(proof | {name: (proof[name] + 1).astype(proof[name].dtype)})
        with pytest.raises(BundleBroken, match="golden vectors"):
            self_test(read_bundle(write_bundle(bundle.manifest, bundle.files | {"golden.npz": golden_file})))


@pytest.mark.parametrize("change", [{"opset": 99}, {"ir": 99}, {"domain": "com.newer"}])
def test_a_graph_for_a_newer_onnxruntime_is_no_broken_one(change: dict[str, object]) -> None:
    bundle = read_bundle(make_bundle(3, lookback=1))
    model = onnx.load_from_string(bundle.files["models/detector.onnx"])
    if "opset" in change:
        model.opset_import[0].version = 99
    elif "ir" in change:
        model.ir_version = 99
    else:
        model.opset_import.append(helper.make_opsetid("com.newer", 1))
        model.graph.node[0].domain = "com.newer"
    files = bundle.files | {"models/detector.onnx": model.SerializeToString()}
    with pytest.raises(BundleMisfit, match="update the program"):
        Scorer(read_bundle(write_bundle(bundle.manifest, files)))


HUNGRY = """
import os, resource, sys
from pathlib import Path
import numpy as np
from fieldwatch_contract.bundle import BundleError, read_bundle
from fieldwatch_contract.scoring import Scorer

bundle = read_bundle(Path(sys.argv[1]))
scorer = Scorer(bundle)
rows = np.full((3000, len(bundle.manifest.sensors)), 10.0)
scorer.score(rows[:9])
size = os.sysconf("SC_PAGE_SIZE") * int(Path("/proc/self/statm").read_text().split()[0])
for step, attempt in (("load", lambda: Scorer(bundle)), ("score", lambda: scorer.score(rows))):
    for more in range(0, 64, 3):
        limit = size + (more << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        try:
            attempt()
            print(step, "done")
        except BundleError as error:
            print(step, type(error).__name__)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS")
def test_without_memory_a_model_failed_and_is_not_broken(tmp_path: Path) -> None:
    """A real process whose address space ends a little above what it has, and a little more each time."""
    path = tmp_path / "bundle.zip"
    bundle = read_bundle(make_bundle(2000, lookback=2))
    model = onnx.load_from_string(bundle.files["models/detector.onnx"])
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1 << 22, np.float32), "padding"))
    large = bundle.files | {"models/detector.onnx": model.SerializeToString()}
    path.write_bytes(write_bundle(bundle.manifest, large))
    done = subprocess.run([sys.executable, "-c", HUNGRY, str(path)], capture_output=True, text=True, check=True)
    said = set(done.stdout.splitlines())
    assert {"load BundleFailed", "score BundleFailed"} <= said
    assert said <= {"load BundleFailed", "score BundleFailed", "load done", "score done"}


# ---- telemetry -------------------------------------------------------------------------------------------------


def test_a_graph_that_fails_on_some_rows_is_named():
    failing = read_bundle(make_bundle(3, lookback=1, fails_above=1000))
    scorer = Scorer(failing)
    scorer.score(np.full((1, 3), 999.0))
    with pytest.raises(BundleBroken, match=r"its model fails: models/detector\.onnx: .*Gather"):
        scorer.score(np.full((1, 3), 1001.0))
    arrays = failing.arrays("golden.npz")
    files = failing.files | {"golden.npz": write_arrays(arrays | {"rows": np.full_like(arrays["rows"], 1001)})}
    with pytest.raises(BundleBroken, match="its model fails"):
        self_test(read_bundle(write_bundle(failing.manifest, files)))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"garbage", r"baseline\.npz cannot be read"),
        (
            write_arrays({"classifier.features": np.zeros(7, np.float32)}),
            "classifier.features is 7 of float32, must be",
        ),
        (write_arrays({"classifier.features": np.array(["x"])}), "classifier.features is 1 of <U1, must be"),
    ],
)
def test_a_baseline_that_is_none_is_refused(content: bytes, says: str) -> None:
    bundle = read_bundle(write_bundle(BOTH.manifest, BOTH.files | {"baseline.npz": content}))
    with pytest.raises(BundleBroken, match=says):
        Scorer(bundle)


def test_scoring_leaves_no_trace_of_telemetry(tmp_path, clean_env):
    """The wheels of onnxruntime report home by default and keep a database for it under the user's cache."""
    bundle = tmp_path / "bundle.zip"
    bundle.write_bytes(make_bundle(4, classifier=True))
    program = (
        "import json, os, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from fieldwatch_contract.scoring import Scorer\n"
        "from fieldwatch_contract.bundle import read_bundle\n"
        "scorer = Scorer(read_bundle(Path(sys.argv[1])))\n"
        "scores = scorer.score(np.full((scorer.manifest.window, 4), 10.0))\n"
        "print(json.dumps([os.environ['ORT_DISABLE_TELEMETRY'], len(scores)]))\n"
    )
    for wanted in (None, "0"):  # also where somebody set it to keep telemetry on
        env = dict(clean_env) | ({"ORT_DISABLE_TELEMETRY": wanted} if wanted else {})
        done = subprocess.run(
            [sys.executable, "-c", program, str(bundle)],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(done.stdout) == ["1", 2]
    home = tmp_path / "home"
    assert [str(path) for path in home.rglob("*")] == []


def test_a_row_below_the_threshold_is_explained_where_somebody_asks() -> None:
    """An alert may open below it; and a row that reaches it is explained as ever."""
    bundle = read_bundle(make_bundle(4, classifier=True))
    rows = np.full((bundle.manifest.window - 1 + 40, 4), 10.0)
    rows[-20:, 2] += 22.0  # score about 0.44
    rows[-10:, 2] += 30.0
    judged = Scorer(bundle).score(rows)[1]
    low, high = 25, 39
    assert 0.25 < judged.score[low] < judged.threshold < judged.score[high]
    assert not judged.contributions[low].any()
    asked = judged.explain(np.array([low, high, 0]))
    assert asked[0].argmax() == 2 and asked[0].max() > 0.1
    assert asked[1].tobytes() == judged.contributions[high].tobytes()
    alone = Scorer(bundle).score(rows[low : low + bundle.manifest.window])[1]
    assert alone.explain(np.array([0])).tobytes() == asked[:1].tobytes(), "the same bits in a block of one"
