"""Models for a plain table: a kernel logistic classifier, and a detector that knows what it has seen.

Both see z = (x - m) / s with mean and standard deviation of the rows they were fitted on, a missing value as z = 0.

:class:`TableDetector` measures the root mean square distance to the 5 nearest reference rows (at most 2,000 of them),
over the sensors that are present, scaled up for those missing. Its threshold is the conformal one: a row is anomalous
where p = (1 + #{calibration distances ≥ d}) / (1 + n) < 0.01, the calibration distances being those of rows to the
references without themselves. With no assumption but exchangeability, 1 % of rows like the training rows exceed it.

:class:`TableClassifier` is logistic regression on Gaussian kernels around 50 centres (k-means), width and penalty
chosen by 3-fold log loss inside the training rows; a smooth decision surface with probabilities that mean what they
say, at a few microseconds a row. The bundle lets it speak only where the detector's p ≥ 0.01; beyond, the verdict is
unknown.

Both graphs compute in float64: kernels of near rows are differences of large numbers.

Sources: Vovk et al. (2005), Algorithmic Learning in a Random World (conformal p-values); Williams and Seeger (2001)
(kernel expansion on landmarks).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from fieldwatch_contract.verdicts import Kind
from numpy.typing import NDArray

from fieldwatch_trainer.models import FAULT, SEED, Fitted, TooLittleData, TrainingData
from fieldwatch_trainer.models.folds import folds
from fieldwatch_trainer.models.graph import Graph

REFERENCES = 2000
NEIGHBOURS = 5
P_VALUE = 0.01
CENTRES = 50
WIDTHS = (0.5, 1.0, 2.0)
"""Kernel exp(-w ‖z - c‖² / S); these w are tried."""
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3)
LEAST_ROWS = 50
LEAST_OF_A_CLASS = 10
CLIP = 1e6

Floats = NDArray[np.float64]


class TableDetector:
    """Plugin: conformal distance to the nearest reference rows."""

    name = "detector"
    kind: Kind = "detector"

    def fit(self, data: TrainingData) -> Fitted:
        """Learn from every row, whatever its label: range means everything the classifier has seen."""
        x, _ = _rows(data)
        mean, inverse = _scaler(x)
        rng = np.random.default_rng(SEED)
        chosen = np.sort(rng.permutation(len(x))[:REFERENCES])
        references = _standard(x[chosen], mean, inverse)
        rest = np.setdiff1d(np.arange(len(x)), chosen)
        there = ~np.isnan(x)
        if len(rest) >= 100:
            calibration = _distance(_standard(x[rest], mean, inverse), there[rest], references)
        else:  # every row is a reference: leave itself out
            calibration = _distance(references, there[chosen], references, skip_self=True)
        threshold = conformal_threshold(calibration, P_VALUE)

        def reference(rows: NDArray[Any]) -> Floats:
            rows = np.asarray(rows, np.float64)
            return _distance(_standard(rows, mean, inverse), ~np.isnan(rows), references)

        facts = {
            "rows": len(x),
            "references": len(references),
            "neighbours": NEIGHBOURS,
            "p_value": P_VALUE,
            "calibration_rows": len(calibration),
        }
        graph = _distance_graph(mean, inverse, references)
        return Fitted(self.name, self.kind, "rows", graph, 1, reference, threshold=threshold, facts=facts)


class TableClassifier:
    """Plugin: logistic regression on Gaussian kernels around k-means centres."""

    name = "classifier"
    kind: Kind = "classifier"

    def fit(self, data: TrainingData) -> Fitted:
        """Learn from both classes. Raises :class:`TooLittleData` for fewer than 10 rows of one of them."""
        x, y = _rows(data)
        faults = int(y.sum())
        if min(faults, len(y) - faults) < LEAST_OF_A_CLASS:
            raise TooLittleData(
                f"{faults} faulty and {len(y) - faults} normal rows; at least {LEAST_OF_A_CLASS} of each are needed"
            )
        mean, inverse = _scaler(x)
        z = _standard(x, mean, inverse)
        width, penalty, loss = _choose(z, y)
        centres = _centres(z)
        weights = _logistic(_kernel(z, centres, width), y, penalty)
        expansion = _Expansion(mean, inverse, centres, width, weights)
        facts = {
            "rows": len(y),
            "faulty": faults,
            "centres": len(centres),
            "width": width,
            "penalty": penalty,
            "inner_log_loss": loss,
        }
        return Fitted(
            self.name, self.kind, "rows", _kernel_graph(expansion), 1, expansion.probability,
            neutral=mean.astype(np.float32), threshold=0.5, facts=facts,
        )  # fmt: skip


def conformal_threshold(calibration: Floats, p_value: float) -> float:
    """Return the smallest float32 that no distance with p ≥ ``p_value`` reaches.

    d has p = (1 + #{calibration ≥ d}) / (1 + n). Where n is too small for any p below ``p_value``, this lies just
    beyond the largest calibration distance.
    """
    allowed = max(int(np.ceil(p_value * (len(calibration) + 1))) - 2, 0)  # this many may lie at or above d
    ordered = np.sort(calibration)[::-1]
    return float(np.nextafter(np.float32(ordered[min(allowed, len(ordered) - 1)]), np.float32(np.inf)))


def log_loss(y: NDArray[Any], p: Floats) -> float:
    """Return the mean negative log likelihood; probabilities are held 1e-15 away from 0 and 1."""
    p = np.clip(p, 1e-15, 1 - 1e-15)
    return float(-np.where(y > 0, np.log(p), np.log(1 - p)).mean())


# ---- shared --------------------------------------------------------------------------------------------------------


def _rows(data: TrainingData) -> tuple[Floats, Floats]:
    """Return values ``[N, S]`` and label ``[N]``, 1.0 = fault."""
    parts = [(device.rows[device.use], device.label[device.use] == FAULT) for device in data]
    x = np.concatenate([part[0] for part in parts])
    if len(x) < LEAST_ROWS:
        raise TooLittleData(f"{len(x)} rows to learn from; at least {LEAST_ROWS} are needed")
    return x, np.concatenate([part[1] for part in parts]).astype(np.float64)


def _scaler(x: Floats) -> tuple[Floats, Floats]:
    """Return mean and 1 / standard deviation; a constant sensor is measured in units of 1e-6 of its value."""
    there = ~np.isnan(x)
    n = np.maximum(there.sum(axis=0), 1)
    mean = np.where(there, x, 0.0).sum(axis=0) / n
    sd = np.sqrt((np.where(there, x - mean, 0.0) ** 2).sum(axis=0) / n)
    scale = np.maximum(sd, 1e-6 * np.abs(mean) + 1e-9)
    return mean, np.where(there.any(axis=0), 1 / scale, 0.0)


def _standard(x: Floats, mean: Floats, inverse: Floats) -> Floats:
    return np.clip((np.where(np.isnan(x), mean, x) - mean) * inverse, -CLIP, CLIP)


# ---- the detector --------------------------------------------------------------------------------------------------


def _distance(
    z: Floats, there: NDArray[np.bool_], references: Floats, *, skip_self: bool = False, chunk: int = 256
) -> Floats:
    """Return the root mean square distance of each row to its nearest references, ``[N]``."""
    found = np.empty(len(z))
    for start in range(0, len(z), chunk):
        part, mask = z[start : start + chunk], there[start : start + chunk].astype(np.float64)
        squared = ((part[:, None, :] - references[None, :, :]) ** 2 * mask[:, None, :]).sum(axis=2)
        if skip_self:
            squared[np.arange(len(part)), start + np.arange(len(part))] = np.inf
        nearest = np.sort(squared, axis=1)[:, :NEIGHBOURS].mean(axis=1)
        found[start : start + chunk] = np.sqrt(nearest * z.shape[1] / np.maximum(mask.sum(axis=1), 1))
    return found


def _distance_graph(mean: Floats, inverse: Floats, references: Floats) -> bytes:
    sensors = len(mean)
    g = Graph()
    missing = g.op("IsNaN", "rows")
    there = g.op("Cast", g.op("Not", missing), to=11)
    z = _standard_nodes(g, missing, mean, inverse)
    # ‖z - r‖² over the present sensors finds the neighbours; their distances are then taken without cancellation.
    cross = g.op("MatMul", z, g.constant(-2 * references.T))
    square = g.op("MatMul", there, g.constant((references**2).T))
    k = g.constant(np.array([NEIGHBOURS], np.int64))
    rough = g.op("Add", cross, square)
    nearest = g.top(rough, k)
    picked = g.op("Gather", g.constant(references), nearest, axis=0)
    apart = g.op("Sub", g.op("Unsqueeze", z, g.constant(np.array([1], np.int64))), picked)
    squared = g.op("Mul", apart, apart)
    parts = [
        g.op("Squeeze", g.columns(squared, i, i + 1), g.constant(np.array([1], np.int64))) for i in range(NEIGHBOURS)
    ]
    added = parts[0]
    for part in parts[1:]:
        added = g.op("Add", added, part)
    per_sensor = g.op("Mul", added, there)
    present = g.op("Max", g.total(there, sensors, np.float64), g.constant(np.array(1.0)))
    factor = g.op("Div", g.constant(np.array(sensors / NEIGHBOURS)), present)
    total = g.op("Mul", g.total(per_sensor, sensors, np.float64), factor)
    distance = g.op("Sqrt", total)
    safe = g.op("Max", distance, g.constant(np.array(1e-12)))
    share = g.op("Div", g.op("Mul", per_sensor, factor), safe)
    g.op("Cast", share, to=1, output="contributions")
    flat = g.op("Reshape", distance, g.constant(np.array([-1], np.int64)))
    g.op("Cast", flat, to=1, output="score")
    return g.model(sensors, [("score", ["R"]), ("contributions", ["R", sensors])])


def _standard_nodes(g: Graph, missing: str, mean: Floats, inverse: Floats) -> str:
    centre = g.constant(mean)
    held = g.op("Where", missing, centre, "rows")
    scaled = g.op("Mul", g.op("Sub", held, centre), g.constant(inverse))
    return g.op("Clip", scaled, g.constant(np.array(-CLIP)), g.constant(np.array(CLIP)))


# ---- the classifier ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Expansion:
    """p = σ(Σ_i w_i exp(-width ‖z - c_i‖² / S) + b); ``weights`` ``[C + 1]``, the last is b."""

    mean: Floats
    inverse: Floats
    centres: Floats
    width: float
    weights: Floats

    def probability(self, rows: NDArray[Any]) -> Floats:
        z = _standard(np.asarray(rows, np.float64), self.mean, self.inverse)
        return _sigmoid(_kernel(z, self.centres, self.width) @ self.weights[:-1] + self.weights[-1])


def _sigmoid(value: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(value, -500, 500))))


def _kernel(z: Floats, centres: Floats, width: float) -> Floats:
    squared = (z**2).sum(axis=1)[:, None] - 2 * z @ centres.T + (centres**2).sum(axis=1)[None, :]
    return np.asarray(np.exp(-width / z.shape[1] * np.maximum(squared, 0.0)))


def _centres(z: Floats) -> Floats:
    """Return k-means centres, ten rounds from a seeded choice of rows."""
    rng = np.random.default_rng(SEED)
    centres = z[np.sort(rng.permutation(len(z))[:CENTRES])]
    for _ in range(10):
        squared = (centres**2).sum(axis=1)[None, :] - 2 * z @ centres.T
        nearest = squared.argmin(axis=1)
        counts = np.bincount(nearest, minlength=len(centres))
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, z)
        centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres)
    return centres


def _logistic(features: Floats, y: Floats, penalty: float) -> Floats:
    """Return weights ``[C + 1]`` of ridge logistic regression by Newton's method; the intercept is free."""
    a = np.hstack([features, np.ones((len(features), 1))])
    ridge = np.full(a.shape[1], penalty)
    ridge[-1] = 1e-9
    weights = np.zeros(a.shape[1])
    for _ in range(100):
        p = _sigmoid(a @ weights)
        gradient = a.T @ (p - y) + ridge * weights
        hessian = (a * (p * (1 - p))[:, None]).T @ a + np.diag(ridge)
        step = np.linalg.solve(hessian, gradient)
        weights -= step * min(1.0, 20.0 / max(float(np.abs(step).max()), 1e-300))
        if float(np.abs(step).max()) < 1e-8:
            break
    return weights


def _choose(z: Floats, y: Floats) -> tuple[float, float, float]:
    """Return the width and penalty with the least 3-fold log loss, and that loss."""
    loss = dict.fromkeys(((w, c) for w in WIDTHS for c in PENALTIES), 0.0)
    for test in folds(y.astype(np.int8), 3, SEED):
        train = np.setdiff1d(np.arange(len(y)), test)
        centres = _centres(z[train])
        for width in WIDTHS:
            fitted, held = _kernel(z[train], centres, width), _kernel(z[test], centres, width)
            for penalty in PENALTIES:
                weights = _logistic(fitted, y[train], penalty)
                p = _sigmoid(held @ weights[:-1] + weights[-1])
                loss[width, penalty] += log_loss(y[test], p) * len(test) / len(y)
    (width, penalty), least = min(loss.items(), key=lambda item: item[1])
    return width, penalty, least


def _kernel_graph(e: _Expansion) -> bytes:
    sensors = len(e.mean)
    g = Graph()
    z = _standard_nodes(g, g.op("IsNaN", "rows"), e.mean, e.inverse)
    square = g.total(g.op("Mul", z, z), sensors, np.float64)
    cross = g.op("MatMul", z, g.constant(-2 * e.centres.T))
    squared = g.op("Add", g.op("Add", cross, square), g.constant((e.centres**2).sum(axis=1)[None, :]))
    apart = g.op("Max", squared, g.constant(np.array(0.0)))
    kernel = g.op("Exp", g.op("Mul", apart, g.constant(np.array(-e.width / sensors))))
    weighted = g.op("Mul", kernel, g.constant(e.weights[:-1]))
    logit = g.op("Add", g.total(weighted, len(e.centres), np.float64), g.constant(np.array(e.weights[-1])))
    flat = g.op("Reshape", g.op("Sigmoid", logit), g.constant(np.array([-1], np.int64)))
    g.op("Cast", flat, to=1, output="score")
    return g.model(sensors, [("score", ["R"])])
