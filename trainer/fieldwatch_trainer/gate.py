"""The parity gate: what a device will compute is what the training library computed, or there is no bundle.

Exporters and runtimes break silently, so nothing about them is trusted. Every model of a finished bundle is run the
way a device runs it (:class:`.scoring.Scorer`, this onnxruntime) and held against its ``reference``:

1. on every row of the validation data;
2. on a copy in which sensors, single values and a stretch of time are blanked, because missing values take other
   paths through a graph and a model trained on complete data has never been asked;
3. on the golden vectors, as they are stored in the bundle;
4. cut into blocks of other sizes, which may not change a bit.

It passes where no score differs by more than :data:`TOLERANCE` (relative above 1) and no decision flips outside a band
of that width around the threshold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from fieldwatch_contract import features
from fieldwatch_contract.bundle import Bundle, BundleError, ModelSpec
from fieldwatch_contract.scoring import TOLERANCE, Scorer, self_test
from numpy.typing import NDArray

from fieldwatch_trainer.models import SEED, Fitted

CUTS = (1, 2, 3, 5, 17, 64)
"""Block sizes that are tried beside the whole."""

CUT_ROWS = sum(CUTS)


class GateError(Exception):
    """A gate said no: the message gives the figures, ``result`` what ``run.json`` would have held. Exit code 3."""

    def __init__(self, message: str, result: dict[str, Any]) -> None:
        super().__init__(message)
        self.result = result


@dataclass
class _Tally:
    """What was compared for one model. ``worst`` is the largest difference, relative above 1."""

    rows: int = 0
    blanked_rows: int = 0
    golden_rows: int = 0
    worst: float = 0.0
    flips: int = 0
    cut_differences: int = 0

    def compare(self, actual: NDArray[np.float32], expected: NDArray[np.float64], threshold: float) -> None:
        a, e = actual.astype(np.float64), expected.astype(np.float64)
        same = (a == e) | (np.isnan(a) & np.isnan(e))
        with np.errstate(invalid="ignore"):
            difference = np.where(same, 0.0, np.abs(a - e) / np.maximum(1.0, np.abs(e)))
        difference[np.isnan(difference)] = np.inf
        band = TOLERANCE * np.maximum(1.0, np.abs(threshold))
        flipped = ((a >= threshold) != (e >= threshold)) & ~(np.abs(e - threshold) <= band)
        self.worst = max(self.worst, float(difference.max(initial=0.0)))
        self.flips += int(flipped.sum())

    @property
    def passed(self) -> bool:
        return self.worst <= TOLERANCE and self.flips == 0 and self.cut_differences == 0


def parity(bundle: Bundle, fitted: Sequence[Fitted], blocks: Iterable[NDArray[np.float64]]) -> dict[str, Any]:
    """Hold every model of ``bundle`` against its reference and return the figures for ``run.json``.

    ``blocks``: the validation data, float64 ``[W - 1 + n, S]`` each, consecutive grid rows in the manifest's sensor
    order. Result: ``passed``, ``tolerance``, ``runtime`` and by model ``rows``, ``blanked_rows``, ``golden_rows``,
    ``max_difference``, ``flips`` and ``cut_differences``.

    Raises :class:`GateError` where a model fails, and where a model has no reference or saw no row.
    """
    import onnxruntime

    by_name = {one.name: one for one in fitted}
    manifest = bundle.manifest
    tally = {spec.name: _Tally() for spec in manifest.models}
    result: dict[str, Any] = {
        "passed": False,
        "tolerance": TOLERANCE,
        "runtime": f"onnxruntime {onnxruntime.__version__}",
    }
    if unknown := sorted(set(tally) - set(by_name)):
        raise GateError(f"parity gate: model {unknown[0]} has no reference to be held against", result)
    # Explanations are not compared, and occlusion would cost a hundred times the scores.
    scorer = Scorer(
        replace(bundle, files={name: data for name, data in bundle.files.items() if name != "baseline.npz"})
    )
    rng = np.random.default_rng(SEED)

    def compare(rows: NDArray[np.float64]) -> int:
        count = len(rows) - manifest.window + 1
        scores = scorer.score(rows)
        for spec, got in zip(manifest.models, scores, strict=True):
            expected = _reference(by_name[spec.name], spec, rows, count)
            tally[spec.name].compare(got.score, expected, spec.threshold)
        return count

    uncut = True
    for rows in blocks:
        if len(rows) < manifest.window:
            continue
        count = compare(rows)
        blanked = compare(_blank(rows, rng))
        for one in tally.values():
            one.rows += count
            one.blanked_rows += blanked
        if uncut:
            uncut = False
            for name, differing in _cut(scorer, _blank(rows, rng, heavy=False)).items():
                tally[name].cut_differences += differing
    trouble = _golden(bundle, by_name, tally)

    result["models"] = {
        name: {
            "passed": one.passed,
            "rows": one.rows,
            "blanked_rows": one.blanked_rows,
            "golden_rows": one.golden_rows,
            "max_difference": one.worst,
            "flips": one.flips,
            "cut_differences": one.cut_differences,
        }
        for name, one in tally.items()
    }
    for name, one in tally.items():
        if not one.passed:
            trouble.append(
                f"{name}: scores differ by up to {one.worst:.3g} (allowed {TOLERANCE:g}), {one.flips} decisions flip, "
                f"{one.cut_differences} scores change with the block size, over {one.rows} rows, their blanked copy "
                f"and {one.golden_rows} golden rows"
            )
        elif one.rows == 0:
            trouble.append(f"{name}: no validation block is as long as the window of {manifest.window} rows")
    if trouble:
        result["trouble"] = trouble
        raise GateError("parity gate: " + "; ".join(trouble), result)
    result["passed"] = True
    return result


def _reference(fitted: Fitted, spec: ModelSpec, rows: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return the reference's score of the last ``count`` rows."""
    if spec.input == "features":
        assert fitted.features is not None
        return np.asarray(fitted.reference(features.compute(rows, count, fitted.features)), np.float64).reshape(count)
    past = spec.lookback - 1
    return np.asarray(fitted.reference(rows[len(rows) - count - past :]), np.float64)[past:].reshape(count)


def _blank(rows: NDArray[np.float64], rng: np.random.Generator, *, heavy: bool = True) -> NDArray[np.float64]:
    """Return a copy with one value in twenty missing; ``heavy``: a tenth of the sensors and a stretch of rows too."""
    rows = rows.copy()
    rows[rng.random(rows.shape) < 0.05] = np.nan
    if heavy:
        rows[:, rng.random(rows.shape[1]) < 0.1] = np.nan
        start = int(rng.integers(0, len(rows)))
        rows[start : start + len(rows) // 20 + 1] = np.nan
    return rows


def _cut(scorer: Scorer, rows: NDArray[np.float64]) -> dict[str, int]:
    """Score the newest rows whole and in pieces; return how many scores have other bits, by model."""
    past = scorer.manifest.window - 1
    rows = rows[-(past + CUT_ROWS) :]
    whole = scorer.score(rows)
    pieces: list[list[NDArray[np.float32]]] = [[] for _ in whole]
    start = 0
    for size in CUTS:
        stop = min(start + size, len(rows) - past)
        if stop > start:
            for parts, scores in zip(pieces, scorer.score(rows[start : past + stop]), strict=True):
                parts.append(scores.score)
        start = stop
    return {
        scores.model: int((scores.score.view(np.uint32) != np.concatenate(parts).view(np.uint32)).sum())
        for scores, parts in zip(whole, pieces, strict=True)
    }


def _golden(bundle: Bundle, by_name: dict[str, Fitted], tally: dict[str, _Tally]) -> list[str]:
    """Compare the golden vectors as stored with the references; return what is wrong beyond the tallies."""
    try:
        self_test(bundle)
    except BundleError as error:
        return [str(error)]
    stored = bundle.arrays("golden.npz")
    rows = stored["rows"].astype(np.float64)
    count = len(rows) - bundle.manifest.window + 1
    for spec in bundle.manifest.models:
        expected = _reference(by_name[spec.name], spec, rows, count)
        tally[spec.name].compare(stored[f"score.{spec.name}"].astype(np.float32), expected, spec.threshold)
        tally[spec.name].golden_rows += count
    return []
