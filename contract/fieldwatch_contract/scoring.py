"""Window → score → verdict, for one row or a year of rows, with the same bits.

:class:`Scorer` is the only place where a bundle is applied to rows. Agent, replay and trainer call it with blocks of
any size; a row's result depends only on the W rows that end with it. onnxruntime computes a row's score independently
of its neighbours except for a single row, where it takes other code paths; so a single row is fed twice (a test checks
this for every block size).
"""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the first import: it is on by default in the wheels

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from fieldwatch_contract import features
from fieldwatch_contract.bundle import (
    NEWER,
    Bundle,
    BundleBroken,
    BundleError,
    BundleFailed,
    BundleMisfit,
    Manifest,
    ModelSpec,
    no_memory,
)
from fieldwatch_contract.verdicts import CODES, WHYS, Kind, Verdict, Why, decide

TOLERANCE = 1e-5
"""Largest allowed difference, absolute and relative, between golden scores of the trainer's machine and this one."""

SHARE_DIGITS = 4
LARGEST = np.finfo(np.float32).max
"""Scores and contributions are clipped to float32's range: JSON has no infinity, and it would hide the sensors."""
NO_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate memory", "out of memory")
TOO_NEW = (
    "ValidateOpsetForDomain",
    "Unsupported model IR version",
    "NOT_IMPLEMENTED",
    "is not a registered function/op",
)


@dataclass(frozen=True)
class Scores:
    """One model's results for ``n`` rows.

    ``score`` float32 ``[n]``; ``verdict`` int8 ``[n]``, codes of :data:`.verdicts.VERDICTS`;
    ``why`` int8 ``[n]``, codes of :data:`.verdicts.WHYS`: not 0 where the verdict is ``unknown``.
    ``contributions`` float32 ``[n, S]``, not negative. A model that does not output contributions is explained by
    occlusion, and only in rows that reach its threshold: all other rows are zero. :meth:`explain` explains any row.
    """

    model: str
    kind: Kind
    threshold: float
    score: NDArray[np.float32]
    verdict: NDArray[np.int8]
    contributions: NDArray[np.float32]
    why: NDArray[np.int8]
    occlude: Callable[[NDArray[np.int64]], NDArray[np.float32]] | None = field(default=None, repr=False, compare=False)

    def explain(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the contributions of ``rows`` (int64 ``[k]``), float32 ``[k, S]``, however low their scores are.

        An alert may open below the bundle's threshold, where occlusion is not done for every row: it costs an inference
        a sensor, so it is done here for the rows that an alert is made of.
        """
        contributions = self.contributions[rows]
        if self.occlude is not None:
            below = self.score[rows].astype(np.float64) < self.threshold
            contributions[below] = self.occlude(rows[below])
        return contributions

    def without(self, rows: NDArray[np.bool_], why: Why) -> Scores:
        """Return the scores with ``rows`` (bool ``[n]``) unknown for the reason ``why``."""
        return replace(
            self,
            score=np.where(rows, np.float32("nan"), self.score),
            verdict=np.where(rows, np.int8(CODES[Verdict.UNKNOWN]), self.verdict),
            contributions=np.where(rows[:, None], np.float32(0), self.contributions),
            why=np.where(rows, _code(why), self.why),
        )


class Scorer:
    """Scores blocks of grid rows with every model of a bundle."""

    def __init__(self, bundle: Bundle) -> None:
        """Load the models.

        Raises :class:`.bundle.BundleBroken` where one does not load or fit its spec, :class:`.bundle.BundleMisfit`
        where it needs a newer onnxruntime, :class:`.bundle.BundleFailed` where memory is short.
        """
        self.manifest = bundle.manifest
        self._models = [_Model(spec, bundle) for spec in self.manifest.models]

    def score(self, rows: NDArray[np.float64]) -> list[Scores]:
        """Score ``rows[W - 1:]``; the rows before them are their past.

        ``rows``: float64 ``[W - 1 + n, S]`` in the manifest's sensor order, NaN = missing. One :class:`Scores` a
        model, in the manifest's order. Raises :class:`.bundle.BundleBroken` where a model fails on these rows,
        :class:`.bundle.BundleFailed` where memory is short.
        """
        try:
            return self._score(rows)
        except MemoryError as error:
            raise no_memory() from error

    def _score(self, rows: NDArray[np.float64]) -> list[Scores]:
        manifest = self.manifest
        count = len(rows) - manifest.window + 1
        raw = [model.run(rows, count, manifest) for model in self._models]
        by_name = {model.spec.name: each.score for model, each in zip(self._models, raw, strict=True)}

        unusable = self._unusable(rows, count)
        result = []
        for model, each in zip(self._models, raw, strict=True):
            spec, score = model.spec, each.score
            why = np.where(np.isnan(score), _code(Why.NO_SCORE), np.int8(0))
            if spec.range is not None:
                gate = by_name[spec.range.model].astype(np.float64)
                why[~(gate <= spec.range.limit)] = _code(Why.OUT_OF_RANGE)
            why = np.where(unusable, unusable, why)
            verdict = decide(spec.kind, score, spec.threshold, why != 0)
            found = each.contributions
            result.append(Scores(spec.name, spec.kind, spec.threshold, score, verdict, found, why, each.occlude))
        return result

    def _unusable(self, rows: NDArray[np.float64], count: int) -> NDArray[np.int8]:
        """Return why no model may judge a row: too many sensors missing or too few rows in the window; 0 elsewhere."""
        manifest = self.manifest
        missing = np.isnan(rows)
        filled = np.concatenate(([0], np.cumsum(~missing.all(axis=1))))
        in_window = filled[manifest.window :] - filled[:count]
        too_many = missing[manifest.window - 1 :].mean(axis=1) > manifest.max_missing
        few = np.where(in_window < manifest.min_rows, _code(Why.FEW_ROWS), np.int8(0))
        return np.where(too_many, _code(Why.SENSORS_MISSING), few)


def _code(why: Why) -> np.int8:
    return np.int8(WHYS.index(why))


@dataclass(frozen=True)
class _Raw:
    """What a graph gives: ``score`` ``[n]``, ``contributions`` ``[n, S]``; how rows are occluded, where they are."""

    score: NDArray[np.float32]
    contributions: NDArray[np.float32]
    occlude: Callable[[NDArray[np.int64]], NDArray[np.float32]] | None = None


class _Model:
    """One loaded graph, how to run it and how to explain its scores."""

    def __init__(self, spec: ModelSpec, bundle: Bundle) -> None:
        self.spec = spec
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(bundle.files[spec.file], options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises several types for this
            raise _cause(error, f"{spec.file} does not load") from error
        self._session.disable_fallback()  # to another provider: for that alone it would keep the model's bytes
        self._session._model_bytes = None
        self._input = self._session.get_inputs()[0]
        expected = "tensor(double)" if spec.input == "rows" else "tensor(float)"
        if self._input.type != expected:
            raise BundleBroken(f"{spec.file}: input {self._input.name} is {self._input.type}, must be {expected}")
        outputs = [output.name for output in self._session.get_outputs()]
        if "score" not in outputs:
            raise BundleBroken(f"{spec.file}: no output named score, only {', '.join(outputs)}")
        self._explains = "contributions" in outputs
        self._neutral: NDArray[Any] | None = None
        if not self._explains and "baseline.npz" in bundle.files:
            neutral = _neutral(bundle, spec)
            self._neutral = None if neutral is None else neutral.reshape(-1, len(bundle.manifest.sensors)).T

    def run(self, rows: NDArray[np.float64], count: int, manifest: Manifest) -> _Raw:
        """Return what the last ``count`` rows give."""
        sensors = rows.shape[1]
        if self.spec.input == "rows":
            past = self.spec.lookback - 1
            fed: NDArray[Any] = rows[len(rows) - count - past :]
        else:
            past = 0
            assert manifest.features is not None  # else it is no manifest
            fed = features.compute(rows, count, manifest.features)
        score, contributions = self._infer(fed)
        score = score[past:]
        if contributions is not None:
            return _Raw(score, contributions[past:])
        contributions = np.zeros((count, sensors), np.float32)
        if self._neutral is None or self.spec.lookback > 1:
            return _Raw(score, contributions)
        occlude = partial(self._occlude, self._neutral, fed, score)
        high = np.flatnonzero(score.astype(np.float64) >= self.spec.threshold)
        contributions[high] = occlude(high)
        return _Raw(score, contributions, occlude)

    def _infer(self, fed: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        lone = len(fed) == 1
        fed = np.repeat(fed, 2, axis=0) if lone else np.ascontiguousarray(fed)
        names = ["score", "contributions"] if self._explains else ["score"]
        try:
            out = self._session.run(names, {self._input.name: fed})
            score = np.clip(np.asarray(out[0], np.float32).reshape(len(fed)), -LARGEST, LARGEST)
            contributions = np.clip(np.asarray(out[1], np.float32), -LARGEST, LARGEST) if self._explains else None
        except Exception as error:  # several types again; a graph that loads may still fail on some rows
            raise _cause(error, f"its model fails: {self.spec.file}") from error
        if lone:
            return score[1:], contributions[1:] if contributions is not None else None
        return score, contributions

    def _occlude(
        self,
        neutral: NDArray[Any],
        fed: NDArray[Any],
        score: NDArray[np.float32],
        rows: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Explain ``rows`` by occlusion: how far the score falls when one sensor is neutral, float32 ``[k, S]``.

        Features are laid out sensor last, so sensor s owns columns s, s + S, s + 2S, …; ``neutral``: ``[S, F / S]``.
        """
        contributions = np.zeros((len(rows), neutral.shape[0]), np.float32)
        each = np.arange(neutral.shape[0])
        for place, row in enumerate(rows.tolist()):
            occluded = np.repeat(fed[row : row + 1], len(each), axis=0)
            occluded.reshape(len(each), -1, len(each))[each, :, each] = neutral
            without, _ = self._infer(occluded)
            contributions[place] = np.maximum(score[row] - without, 0)
        return contributions


def _cause(error: Exception, what: str) -> BundleError:
    """Classify an error of onnxruntime by its message, because its types do not distinguish the three causes.

    A failed allocation is a MemoryError while a model loads, and a RuntimeException or Fail with a C++ message while it
    runs. Unknown opsets, IR versions and operators need a newer onnxruntime.
    """
    text = str(error)
    if isinstance(error, MemoryError) or any(word in text for word in NO_MEMORY):
        return BundleFailed(f"{what}: {no_memory().what}", no_memory().remedy)
    if any(word in text for word in TOO_NEW):
        return BundleMisfit(f"{what}: {text[:300]}", NEWER)
    return BundleBroken(f"{what}: {text[:300]}")


def _neutral(bundle: Bundle, spec: ModelSpec) -> NDArray[Any] | None:
    """Return a model's neutral inputs, None where the baseline has none."""
    name = f"{spec.name}.{spec.input}"
    neutral = bundle.arrays("baseline.npz").get(name)
    if neutral is None:
        return None
    sensors, given = len(bundle.manifest.sensors), bundle.manifest.features
    width = given.width(sensors) if spec.input == "features" and given is not None else sensors
    if neutral.dtype.kind != "f" or neutral.size != width:
        raise BundleBroken(f"baseline.npz: {name} is {neutral.size} of {neutral.dtype}, must be {width} of float32")
    return neutral


def rank(
    contributions: NDArray[np.floating[Any]], limit: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Order the sensors of each row by their share in its score.

    ``contributions``: ``[n, S]``. Returns sensor indices and shares, both ``[n, k]``, most responsible first,
    ``k`` = ``limit`` or S. Shares are rounded to four digits and sum to at most 1 but for rounding; where a share is
    0 the sensor is not responsible.
    """
    sensors = contributions.shape[1]
    exact = contributions.astype(np.float64)
    total = exact.sum(axis=1, keepdims=True)
    shares = np.divide(exact, total, out=np.zeros_like(exact), where=total > 0)
    units = np.rint(shares * 10**SHARE_DIGITS).astype(np.int64)
    # one integer encodes share and sensor: sorting it orders by share, and ties by sensor
    keys = np.sort(np.arange(sensors) - units * sensors, axis=1)[:, :limit]
    return keys % sensors, -(keys // sensors) / 10**SHARE_DIGITS


def responsible(
    contributions: NDArray[np.floating[Any]], sensors: list[str], limit: int | None = None
) -> tuple[list[str], list[float]]:
    """Return the sensors that contribute to a score, most responsible first, and their shares; see :func:`rank`.

    ``contributions``: ``[S]``, of one row or summed over an alert.
    """
    order, shares = rank(contributions[None, :], limit)
    named = shares[0] > 0
    return [sensors[i] for i in order[0][named]], shares[0][named].tolist()


def golden(scorer: Scorer, rows: NDArray[np.float64]) -> dict[str, NDArray[np.generic]]:
    """Make the golden vectors of a bundle from ``rows`` ``[W - 1 + n, S]``: rows and their expected results."""
    arrays: dict[str, NDArray[np.generic]] = {"rows": rows}
    manifest = scorer.manifest
    if manifest.features is not None:
        count = len(rows) - manifest.window + 1
        arrays["features"] = features.compute(rows, count, manifest.features)
    for scores in scorer.score(rows):
        arrays[f"score.{scores.model}"] = scores.score
    return arrays


def self_test(bundle: Bundle) -> None:
    """Prove that this machine computes what the trainer computed.

    Features must agree bit for bit, scores within :data:`TOLERANCE`. Raises :class:`.bundle.BundleBroken` otherwise,
    and the other causes where the models cannot be tried (see :class:`Scorer`).
    """
    try:
        _self_test(bundle)
    except MemoryError as error:
        raise no_memory() from error


def _self_test(bundle: Bundle) -> None:
    scorer = Scorer(bundle)
    if "golden.npz" not in bundle.files:
        raise BundleBroken("no golden.npz inside: the bundle cannot prove itself")
    expected = bundle.arrays("golden.npz")
    manifest = scorer.manifest
    rows = expected.get("rows")
    fits = rows is not None and rows.dtype == np.float64 and rows.ndim == 2 and rows.shape[1] == len(manifest.sensors)
    if rows is None or not fits or len(rows) < manifest.window:
        raise BundleBroken("golden.npz: rows are missing or do not fit the manifest")
    actual = golden(scorer, rows.astype(np.float64))
    for name, value in actual.items():
        want = expected.get(name)
        if want is None or want.shape != value.shape or want.dtype != value.dtype:
            raise BundleBroken(f"golden.npz: {name} is missing or has another shape or type")
        if name == "features":
            if want.tobytes() != value.tobytes():
                raise BundleBroken("golden vectors: this machine computes other feature bits than the trainer")
        elif not np.allclose(value, want, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
            apart = np.abs(value.astype(np.float64) - want.astype(np.float64))
            apart[np.isnan(value) != np.isnan(want)] = np.inf
            worst = float(np.nanmax(apart))
            raise BundleBroken(f"golden vectors: {name} differs by {worst:.3g}, more than {TOLERANCE}")
