"""The detector: what a sensor should read, given all sensors a moment ago, and how far it is from that.

**Centre.** z = clip((x - m) / s, ±20), s = max(standard deviation, 1 % of the range, resolution): free of unit and
origin, so a current of 1e-12 A and a pressure of 1e9 ± 1 Pa are judged like any other. The graph takes float64 and
centres before it casts. The resolution is 4 ulp of the largest value. A sensor that was constant has no scale of its
own: s = 1e-6 of its value there, because 0.1 that was stored in single precision is not a change.

**Missing values.** A missing value takes the sensor's last one, up to 7 rows old. Beyond that it is imputed from the
sensors that are there, by two passes of z ← z B, where B_kj = -P_kj / P_jj, P = (ZᵀZ/n + I)⁻¹: for any pattern of
missing sensors the passes go towards the ridge regression on those present, so no pattern needs a matrix of its own. A
missing value never contributes; it only serves to predict the others.

**Heads**, for each sensor j, each divided by its training standard deviation (at least 0.1):

=========  ==========================================================================================
``var``    e = z_t - Σ_{l=1..5} z_{t-l} W_l, ridge, λ = 100: the innovation
``white``  (e Θ)_j / Θ_jj with Θ the inverse covariance (Ledoit-Wolf) of the scaled innovations: what is left of j's
           innovation when all other sensors' innovations are known, the per-sensor part of the Mahalanobis distance
``diff``   z_t - z_{t-1}
``level``  z_t
``slow``   z_t - mean of z_{t-1} … z_{t-32}
=========  ==========================================================================================

**Score.** Contribution of sensor j at t: c = Σ_heads a · min(max(|head| - 3, 0), 50), a = 1 for ``var`` and ¼ for the
others, divided by the number of sensors present; the dead zone of 3 keeps ordinary noise out of the sum. Contributions
are averaged over 32 rows with weights ∝ 0.8^age, and the score is their sum over the sensors: score and attribution are
one thing, and both a function of the last 71 rows only.

The exponential average and the 32-row mean are made by doubling (y_2k = y_k + w^k · y_k shifted by k), so they are
finite, cheap, and, being elementwise, free of how rows are cut into blocks.

Training needs closed forms only: means, one Gram matrix, one solve, one inverse. Each is a sum over devices in name
order, so memory is flat in their number and the result has the same bits every time.

Source: ridge vector autoregression with dead zone and pooled heads, chosen on public sets by average precision;
Ledoit and Wolf (2004), "A well-conditioned estimator for large-dimensional covariance matrices".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from fieldwatch_contract.alerts import AlertRule
from fieldwatch_contract.verdicts import Kind
from numpy.typing import NDArray

from fieldwatch_trainer.models import NORMAL, DeviceRows, Fitted, TooLittleData, TrainingData
from fieldwatch_trainer.models.graph import Graph
from fieldwatch_trainer.models.moments import moments

LAGS = 5
RIDGE = 100.0
CLIP = 20.0
FILL = 3
"""Doublings of the forward fill: a value serves for 2³ - 1 = 7 further rows."""
IMPUTE_PASSES = 2
SLOW = 5
"""Doublings of the slow mean: 2⁵ = 32 rows."""
SMOOTH = 5
"""Doublings of the exponential average: 32 taps."""
DECAY = 0.8
DEAD_ZONE = 3.0
CAP = 50.0
FLOOR = 0.1
CONSTANT = 1e-6
"""Share of its value by which a sensor that was constant in training may move: single precision keeps 6e-8."""
SMALLEST = 1e-300
"""Scale of a sensor that was always 0; its inverse is still a number."""
ENOUGH = 8
"""Values that the slow mean needs."""
WEIGHTS = {"var": 1.0, "white": 0.25, "diff": 0.25, "level": 0.25, "slow": 0.25}
REACH = 2**SLOW + (2**FILL - 1)
"""Rows before t that the heads at t can see."""
LOOKBACK = (2**SMOOTH - 1) + REACH + 1
LEAST_ROWS = 100
ALERT = AlertRule(persistence=2, resolve_after=25)
"""A score is an average over 32 rows already: to wait for a third row loses up to a tenth of the events, and saves
nothing that the level does not."""
BLOCK = 4096
"""Rows worked on together in training; bounds memory, no effect on results beyond rounding."""

Floats = NDArray[np.float64]


@dataclass
class _Parameters:
    """What training finds; float64, ``S`` sensors."""

    mean: Floats  # [S]
    inverse_scale: Floats  # [S], 0 for a sensor never seen
    impute: Floats  # [S, S]
    var: Floats  # [S, LAGS * S]: z_{t-l} times columns (l-1)S … lS
    white: Floats  # [S, S]
    inverse_sd: dict[str, Floats]  # head → [S]


class Detector:
    """Plugin: ridge VAR innovations with whitening, difference, level and slow heads."""

    name = "detector"
    kind: Kind = "detector"

    def fit(self, data: TrainingData) -> Fitted:
        """Learn from the normal rows. Raises :class:`TooLittleData` for fewer than :data:`LEAST_ROWS` of them."""
        parameters, facts = _learn(data)
        single = _as_float32(parameters)
        return Fitted(
            name=self.name,
            kind=self.kind,
            input="rows",
            onnx=_graph(single),
            lookback=LOOKBACK,
            reference=lambda rows: contributions(single, np.asarray(rows, np.float64)).sum(axis=1),
            alert=ALERT,
            facts=facts,
        )


# ---- training ------------------------------------------------------------------------------------------------------


def _learn(data: TrainingData) -> tuple[_Parameters, dict[str, Any]]:
    sensors = len(data.sensors)
    mean, inverse_scale, count = _centre(data)
    parameters = _Parameters(
        mean, inverse_scale, np.zeros((sensors, sensors)), np.zeros((sensors, LAGS * sensors)),
        np.eye(sensors), {head: np.ones(sensors) for head in WEIGHTS},
    )  # fmt: skip

    gram, n = np.zeros((sensors, sensors)), 0
    for fill, use in _blocks(data, parameters):
        z = fill.values[use]
        gram += z.T @ z
        n += len(z)
    precision = np.linalg.inv(gram / n + np.eye(sensors))
    parameters.impute = -precision / np.diag(precision)[None, :]
    np.fill_diagonal(parameters.impute, 0.0)

    past_past, past_now = np.zeros((LAGS * sensors,) * 2), np.zeros((LAGS * sensors, sensors))
    for fill, use in _blocks(data, parameters):
        past = np.hstack([_shift(fill.values, lag) for lag in range(1, LAGS + 1)])[use]
        past_past += past.T @ past
        past_now += past.T @ fill.values[use]
    solution = np.linalg.solve(past_past + RIDGE * np.eye(LAGS * sensors), past_now)
    parameters.var = np.hstack([solution[lag * sensors : (lag + 1) * sensors] for lag in range(LAGS)])

    parameters.white, shrinkage = _whitening(data, parameters)

    squares = {head: np.zeros(sensors) for head in WEIGHTS}
    counts = {head: np.zeros(sensors) for head in WEIGHTS}
    for fill, use in _blocks(data, parameters):
        for head, (value, valid) in _heads(fill, parameters).items():
            kept = valid[use]
            squares[head] += (np.where(kept, value[use], 0.0) ** 2).sum(axis=0)
            counts[head] += kept.sum(axis=0)
    for head in WEIGHTS:
        sd = np.sqrt(squares[head] / np.maximum(counts[head], 1))
        parameters.inverse_sd[head] = (inverse_scale > 0) / np.maximum(sd, FLOOR)
    innovation = 1 / np.maximum(parameters.inverse_sd["var"], 1e-9)
    facts = {
        "rows": count,
        "lags": LAGS,
        "ridge": RIDGE,
        "dead_zone": DEAD_ZONE,
        "heads": WEIGHTS,
        "shrinkage": float(shrinkage),
        "predictable": {
            name: round(float(1 - min(sd, 1.0) ** 2), 4)
            for name, sd, seen in zip(data.sensors, innovation, inverse_scale > 0, strict=True)
            if seen
        },
        "never_seen": [name for name, scale in zip(data.sensors, inverse_scale, strict=True) if scale == 0],
    }
    return parameters, facts


def _centre(data: TrainingData) -> tuple[Floats, Floats, int]:
    """Return mean ``[S]``, 1 / scale ``[S]`` and the number of rows; a sensor never seen has scale 0."""
    found = moments(data)
    if found.rows < LEAST_ROWS:
        raise TooLittleData(f"{found.rows} normal rows to learn from; the detector needs at least {LEAST_ROWS}")
    seen = found.count > 0
    low, high = np.where(seen, found.low, 0.0), np.where(seen, found.high, 0.0)
    size = np.maximum(np.abs(low), np.abs(high))
    resolution = np.where(high > low, 4 * np.finfo(np.float64).eps, CONSTANT) * size
    scale = np.maximum(np.maximum(found.sd, 0.01 * (high - low)), np.maximum(resolution, SMALLEST))
    mean = np.where(high > low, found.mean, low)
    return np.where(seen, mean, 0.0), np.where(seen, 1 / scale, 0.0), found.rows


def _whitening(data: TrainingData, parameters: _Parameters) -> tuple[Floats, float]:
    """Return the matrix of the ``white`` head and the Ledoit-Wolf shrinkage."""
    sensors = len(parameters.mean)
    squares, counts = np.zeros(sensors), np.zeros(sensors)
    for fill, use in _blocks(data, parameters):
        value, valid = _innovation(fill, parameters)
        squares += (value[use] ** 2).sum(axis=0)
        counts += valid[use].sum(axis=0)
    sd = np.maximum(np.sqrt(squares / np.maximum(counts, 1)), FLOOR)

    covariance, fourth, n = np.zeros((sensors, sensors)), np.zeros((sensors, sensors)), 0
    for fill, use in _blocks(data, parameters):
        u = _innovation(fill, parameters)[0][use] / sd
        covariance += u.T @ u
        fourth += (u * u).T @ (u * u)
        n += len(u)
    covariance /= n
    average = np.trace(covariance) / sensors
    target = average * np.eye(sensors)
    distance = ((covariance - target) ** 2).sum() / sensors
    noise = (fourth / n - covariance**2).sum() / sensors / n
    shrinkage = min(noise / distance, 1.0) if distance > 0 else 1.0
    shrunk = (1 - shrinkage) * covariance + shrinkage * target
    precision = np.linalg.inv(shrunk + 0.01 * np.eye(sensors))
    return precision / np.diag(precision)[None, :] * sd[None, :] / sd[:, None], float(shrinkage)


def _blocks(data: TrainingData, parameters: _Parameters) -> Iterator[tuple[_Filled, NDArray[np.bool_]]]:
    """Yield filled rows and which of them to learn from."""
    for device in data:
        use = _learnable(device)
        for start in range(0, len(use), BLOCK):
            chosen = use[start : start + BLOCK]
            if not chosen.any():
                continue
            past = max(start - REACH, 0)
            fill = _fill(device.rows[past : start + BLOCK], parameters)
            yield fill, np.concatenate((np.zeros(start - past, bool), chosen))


def _learnable(device: DeviceRows) -> NDArray[np.bool_]:
    """Return the usable normal rows before which nothing labelled lies within reach of any head."""
    labelled = np.concatenate(([0], np.cumsum(device.label != NORMAL)))
    row = np.arange(len(device.label))
    clean = labelled[row + 1] == labelled[np.maximum(row - REACH, 0)]
    return np.asarray(device.use & clean & (row >= LAGS))


# ---- the model in numpy --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Filled:
    """``values`` ``[R, S]`` with nothing missing; ``there``: read in this row; ``known``: read in the last 8 rows."""

    values: NDArray[Any]
    there: NDArray[np.bool_]
    known: NDArray[np.bool_]


def _shift(x: NDArray[Any], rows: int) -> NDArray[Any]:
    moved = np.zeros_like(x)
    moved[rows:] = x[: len(x) - rows] if rows else x
    return moved


def _fill(rows: Floats, p: _Parameters) -> _Filled:
    there = ~np.isnan(rows) & (p.inverse_scale > 0)
    with np.errstate(over="ignore"):
        z = ((rows - p.mean) * p.inverse_scale).astype(p.impute.dtype)
    z = np.where(there, np.clip(z, -CLIP, CLIP), z.dtype.type(0))
    known = there
    for doubling in range(FILL):
        z = np.where(known, z, _shift(z, 2**doubling))
        known = known | _shift(known, 2**doubling)
    if not known.all():
        held = z  # 0 where it is not known
        for _ in range(IMPUTE_PASSES):
            z = np.where(known, held, np.clip(z @ p.impute, -CLIP, CLIP))
    return _Filled(z, there, known)


def _innovation(fill: _Filled, p: _Parameters) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    z, sensors = fill.values, fill.values.shape[1]
    moved = z @ p.var
    predicted = sum(_shift(moved[:, (lag - 1) * sensors : lag * sensors], lag) for lag in range(1, LAGS + 1))
    valid = fill.there & _shift(fill.known, 1)
    return np.where(valid, z - predicted, 0.0).astype(z.dtype), valid


def _heads(fill: _Filled, p: _Parameters) -> dict[str, tuple[NDArray[Any], NDArray[np.bool_]]]:
    """Return each head's values ``[R, S]`` before scaling, and where they count."""
    z = fill.values
    innovation, valid = _innovation(fill, p)
    total = np.where(fill.known, z, 0.0).astype(z.dtype)
    count = fill.known.astype(z.dtype)
    for doubling in range(SLOW):
        total = total + _shift(total, 2**doubling)
        count = count + _shift(count, 2**doubling)
    total, count = _shift(total, 1), _shift(count, 1)
    return {
        "var": (innovation, valid),
        "white": (innovation @ p.white, valid),
        "diff": (z - _shift(z, 1), valid),
        "level": (z, fill.there),
        "slow": (z - total / np.maximum(count, 1), fill.there & (count >= ENOUGH)),
    }


def contributions(p: _Parameters, rows: Floats) -> NDArray[Any]:
    """Return ``[R, S]`` contributions, in the precision of ``p``; the score of a row is their sum."""
    fill = _fill(rows, p)
    added = np.zeros_like(fill.values)
    for head, (value, valid) in _heads(fill, p).items():
        weight = WEIGHTS[head]
        scaled = np.abs(value * (weight * p.inverse_sd[head]).astype(value.dtype))
        added += np.where(valid, np.clip(scaled - weight * DEAD_ZONE, 0, weight * CAP), 0.0).astype(value.dtype)
    share = added / np.maximum(fill.there.sum(axis=1, keepdims=True), 1).astype(added.dtype)
    for doubling in range(SMOOTH):
        share = share + np.float32(DECAY ** (2**doubling)) * _shift(share, 2**doubling)
    return np.asarray(share * np.float32(_NORM))


_NORM = (1 - DECAY) / (1 - DECAY ** (2**SMOOTH))


def _as_float32(p: _Parameters) -> _Parameters:
    """Return what the graph holds: centre and scale stay float64, the rest is single."""
    single = np.float32
    return _Parameters(
        p.mean, p.inverse_scale, p.impute.astype(single), p.var.astype(single), p.white.astype(single), p.inverse_sd,
    )  # fmt: skip


# ---- the model in ONNX ---------------------------------------------------------------------------------------------


def _graph(p: _Parameters) -> bytes:
    sensors = len(p.mean)
    g = Graph()
    zero, seen = g.number(0.0), p.inverse_scale > 0

    missing = g.op("IsNaN", "rows")
    if not seen.all():
        missing = g.op("Or", missing, g.constant(~seen))
    there = g.op("Not", missing)
    scaled = g.op("Mul", g.op("Sub", "rows", g.constant(p.mean)), g.constant(p.inverse_scale))
    z = g.op("Where", there, g.clip(g.op("Cast", scaled, to=1), -CLIP, CLIP), zero)

    known = there
    for doubling in range(FILL):
        z = g.op("Where", known, z, g.shift(z, 2**doubling, sensors))
        known = g.op("Or", known, g.shift(known, 2**doubling, sensors, np.bool_))
    measured = z  # 0 where it is not known
    for _ in range(IMPUTE_PASSES):
        guess = g.clip(g.op("MatMul", z, g.constant(p.impute)), -CLIP, CLIP)
        z = g.op("Where", known, measured, guess)

    moved = g.op("MatMul", z, g.constant(p.var))
    predicted = ""
    for lag in range(1, LAGS + 1):
        part = g.shift(g.columns(moved, (lag - 1) * sensors, lag * sensors), lag, sensors)
        predicted = g.op("Add", predicted, part) if predicted else part
    valid = g.op("And", there, g.shift(known, 1, sensors, np.bool_))
    innovation = g.op("Where", valid, g.op("Sub", z, predicted), zero)

    total, count = measured, g.op("Cast", known, to=1)
    for doubling in range(SLOW):
        total = g.op("Add", total, g.shift(total, 2**doubling, sensors))
        count = g.op("Add", count, g.shift(count, 2**doubling, sensors))
    total, count = g.shift(total, 1, sensors), g.shift(count, 1, sensors)
    mean = g.op("Div", total, g.op("Max", count, g.number(1.0)))
    enough = g.op("And", there, g.op("GreaterOrEqual", count, g.number(ENOUGH)))

    heads = {
        "var": (innovation, valid),
        "white": (g.op("MatMul", innovation, g.constant(p.white)), valid),
        "diff": (g.op("Sub", z, g.shift(z, 1, sensors)), valid),
        "level": (z, there),
        "slow": (g.op("Sub", z, mean), enough),
    }
    added: dict[str, str] = {}  # summed by mask, so that each mask is applied once
    for head, (value, mask) in heads.items():
        weight = WEIGHTS[head]
        size = g.op("Abs", g.op("Mul", value, g.constant((weight * p.inverse_sd[head]).astype(np.float32))))
        over = g.clip(g.op("Sub", size, g.number(weight * DEAD_ZONE)), 0.0, weight * CAP)
        added[mask] = g.op("Add", added[mask], over) if mask in added else over
    parts = [g.op("Where", mask, value, zero) for mask, value in added.items()]
    summed = g.op("Add", g.op("Add", parts[0], parts[1]), parts[2])

    present = g.op("Max", g.total(g.op("Cast", there, to=1), sensors), g.number(1.0))
    share = g.op("Div", summed, present)
    for doubling in range(SMOOTH):
        older = g.op("Mul", g.shift(share, 2**doubling, sensors), g.number(DECAY ** (2**doubling)))
        share = g.op("Add", share, older)
    share = g.op("Mul", share, g.number(_NORM), output="contributions")
    flat = g.constant(np.array([-1], np.int64))
    g.op("Reshape", g.total(share, sensors), flat, output="score")
    return g.model(sensors, [("score", ["R"]), ("contributions", ["R", sensors])])
