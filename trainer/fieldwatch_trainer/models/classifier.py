"""The fault classifier: boosted trees on window features, with a score that is a probability.

Trees need few assumptions and little care: no scaling, no imputation, sensors of any unit side by side. The rest is
done here, and each step is there because its absence has fooled someone:

1. **Rows are sampled**, at most :attr:`Settings.rows` of each class, uniformly and by a hash of device and time, so
   memory does not grow with the lake and the same lake gives the same sample. Weights restore the natural share of
   faults.
2. **An embargo** keeps rows out of the fit whose label is doubtful: the windows just before a fault is labelled and
   those just after it ended, which still contain it.
3. **Sensors are blanked at random** in the fit, so the trees know which way to go when one fails; otherwise a NaN
   would be read as zero.
4. **Calibration on held-back groups.** The fit is repeated without one group of devices at a time (without one group
   of fault episodes where too few devices had a fault), and every sampled row gets the margin of a model that has
   not seen its group. Platt's rule is fitted on those, embargo included, and folded into the trees. The margins of
   rows that a forest was grown on would promise far too much.
5. **One scale.** A part of the data has too few faults to find that rule again: fitted on two of them it came out flat,
   and the threshold that was chosen in those scores meant nothing to the model that ships (7 false alarms a
   device-day for a budget of 0.5). So held-back parts are scored with the rule of the whole (``Fitted.again``).

LightGBM grows the trees; where it cannot be loaded (its Linux wheel wants the system's libgomp), XGBoost does, and
the run says so. Both give the same kind of graph (:mod:`.models.trees`). Their threads are told to sleep while
they wait: by default they spin, and on a machine with other work that made a fit three times slower (measured).

Platt, J. (1999), Probabilistic outputs for support vector machines.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from fieldwatch_contract import features
from fieldwatch_contract.features import FeatureSpec
from fieldwatch_contract.verdicts import Kind
from numpy.typing import NDArray

from fieldwatch_trainer.models import FAULT, NORMAL, SEED, DeviceRows, Fitted, TooLittleData, TrainingData, trees
from fieldwatch_trainer.models.moments import moments
from fieldwatch_trainer.models.trees import Forest

NEAR = 32
STRETCH = 1024
"""Rows this near are computed together in :func:`features_at`, in stretches of at most so many."""

DRAW = 1024
"""Rows of one device whose features are held at once while sampling."""

MIN_ROWS = 10
"""Fewer labelled rows of either class teach nothing."""


@dataclass(frozen=True)
class Settings:
    """Size and pace of the forest. The defaults cost about 4 µs a row in onnxruntime at 1,800 features.

    ``rows`` limits each class; of normal rows no more than ``normal_ratio`` for each faulty one are taken, but
    ``normal_least`` in any case. ``colsample`` is the share of features that a tree may use, at least 60 of them.
    """

    rows: int = 10_000
    normal_ratio: int = 10
    normal_least: int = 4000
    trees: int = 100
    leaves: int = 15
    learning_rate: float = 0.08
    colsample: float = 0.1
    min_leaf: int = 20
    l2: float = 1.0
    max_bin: int = 63
    blanked: float = 0.05
    folds: int = 3
    threads: int = 2
    seed: int = SEED


@dataclass(frozen=True)
class Sample:
    """Rows to learn from: features float32 ``[N, F]``, everything else ``[N]``.

    ``unit`` is the group that must stay together, ``weight`` restores the natural share of faults, ``doubtful``
    rows are kept out of the fit and count in the calibration.
    """

    features: NDArray[np.float32]
    fault: NDArray[np.bool_]
    doubtful: NDArray[np.bool_]
    unit: NDArray[np.int64]
    weight: NDArray[np.float64]
    fault_rows: int
    normal_rows: int


class _Grower(Protocol):
    """A library that grows trees."""

    name: str

    def load(self, x: NDArray[np.float32], y: NDArray[np.bool_], w: NDArray[np.float64], settings: Settings) -> Any: ...

    def grow(self, data: Any, rows: NDArray[np.int64], settings: Settings) -> Any: ...

    def margin(self, booster: Any, x: NDArray[np.float32]) -> NDArray[np.float64]: ...

    def gain(self, booster: Any, width: int) -> NDArray[np.float64]: ...

    def forest(self, booster: Any) -> Forest: ...


class LightGBM:
    """Grows with LightGBM; raises ImportError or OSError where it cannot be loaded."""

    def __init__(self) -> None:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        import lightgbm

        self._library = lightgbm
        self.name = f"LightGBM {lightgbm.__version__}"

    def load(self, x: NDArray[np.float32], y: NDArray[np.bool_], w: NDArray[np.float64], settings: Settings) -> Any:
        """Bin float32 ``[N, F]`` once for all the fits that follow."""
        parameters = self._parameters(settings, y, x.shape[1])
        return self._library.Dataset(x, y.astype(np.float32), weight=w, params=parameters).construct()

    def grow(self, data: Any, rows: NDArray[np.int64], settings: Settings) -> Any:
        """Grow a booster on some rows; the same input gives the same trees."""
        parameters = self._parameters(settings, data.get_label()[rows] > 0, data.num_feature())
        return self._library.train(parameters, data.subset(rows, params=parameters), settings.trees)

    @staticmethod
    def _parameters(settings: Settings, y: NDArray[np.bool_], width: int) -> dict[str, Any]:
        return {
            "objective": "binary",
            "learning_rate": settings.learning_rate,
            "num_leaves": settings.leaves,
            "max_bin": settings.max_bin,
            "min_data_in_leaf": _min_leaf(settings, y),
            "feature_pre_filter": False,
            "lambda_l2": settings.l2,
            "feature_fraction": _colsample(settings, width),
            "seed": settings.seed,
            "num_threads": settings.threads,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }

    def margin(self, booster: Any, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the raw margin, float64 ``[N]``."""
        return np.asarray(booster.predict(x, raw_score=True, num_threads=2), np.float64)

    def gain(self, booster: Any, width: int) -> NDArray[np.float64]:
        """Return how much each of ``width`` features lowered the loss."""
        return np.asarray(booster.feature_importance("gain"), np.float64)

    def forest(self, booster: Any) -> Forest:
        """Read the trees."""
        return trees.from_lightgbm(booster)


class XGBoost:
    """Grows with XGBoost; raises ImportError or OSError where it cannot be loaded."""

    def __init__(self) -> None:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        import xgboost

        self._library = xgboost
        self.name = f"XGBoost {xgboost.__version__}"

    def load(self, x: NDArray[np.float32], y: NDArray[np.bool_], w: NDArray[np.float64], settings: Settings) -> Any:
        """Bin float32 ``[N, F]`` once for all the fits that follow."""
        matrix = self._library.QuantileDMatrix(
            x, y.astype(np.float32), weight=w, max_bin=settings.max_bin, nthread=settings.threads
        )
        return matrix, w

    def grow(self, data: Any, rows: NDArray[np.int64], settings: Settings) -> Any:
        """Grow a booster on some rows, the others weighing nothing; the same input gives the same trees."""
        matrix, w = data
        own = np.zeros(len(w))
        own[rows] = w[rows]
        matrix.set_weight(own)
        parameters = {
            "objective": "binary:logistic",
            "tree_method": "hist",
            "grow_policy": "lossguide",
            "eta": settings.learning_rate,
            "max_leaves": settings.leaves,
            "max_depth": 0,
            "max_bin": settings.max_bin,
            "min_child_weight": 1.0,
            "lambda": settings.l2,
            "colsample_bytree": _colsample(settings, matrix.num_col()),
            "seed": settings.seed,
            "nthread": settings.threads,
            "verbosity": 0,
        }
        return self._library.train(parameters, matrix, settings.trees)

    def margin(self, booster: Any, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the raw margin, float64 ``[N]``."""
        return np.asarray(booster.inplace_predict(x, predict_type="margin"), np.float64)

    def gain(self, booster: Any, width: int) -> NDArray[np.float64]:
        """Return how much each of ``width`` features lowered the loss."""
        result = np.zeros(width)
        for name, value in booster.get_score(importance_type="total_gain").items():
            result[int(name.removeprefix("f"))] = value
        return result

    def forest(self, booster: Any) -> Forest:
        """Read the trees."""
        return trees.from_xgboost(booster)


def grower() -> tuple[_Grower, list[str]]:
    """Return the library that will grow the trees, and what the report should say about the choice.

    Raises :class:`RuntimeError` where neither library loads, with both reasons.
    """
    try:
        return LightGBM(), []
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    try:
        library = XGBoost()
    except (ImportError, OSError) as error:
        raise RuntimeError(f"neither LightGBM ({reason}) nor XGBoost ({error}) can be loaded") from error
    return library, [f"LightGBM could not be loaded ({reason}); the trees were grown by {library.name} instead."]


class Classifier:
    """The plugin. ``spec`` tells which window features the trees may use.

    ``facts`` of what it returns: ``library``, ``trees``, ``leaves``, counts of rows, ``importance`` by sensor (sums to
    1), ``notes`` for people, and ``calibration``, None where nothing could be held back: how many ``folds``, grouped by
    what, Platt's ``slope`` and ``offset``, ``average_precision``, ``brier`` and the ``reliability`` table of
    the held-back rows.
    """

    name = "classifier"
    kind: Kind = "classifier"

    def __init__(
        self,
        spec: FeatureSpec | None = None,
        settings: Settings | None = None,
        platt: tuple[float, float] | None = None,
    ) -> None:
        """``platt``: slope and offset of a calibration that is known; None: it is fitted."""
        self.spec = spec or FeatureSpec()
        self.settings = settings or Settings()
        self.platt = platt

    def fit(self, data: TrainingData) -> Fitted:
        """Learn from ``data``.

        Raises :class:`.models.TooLittleData` where there are too few faulty or normal rows.
        """
        settings, spec = self.settings, centred(self.spec, data)
        library, notes = grower()
        sample, units = draw(data, spec, settings)
        x, y, teach = sample.features, sample.fault, ~sample.doubtful
        counts = int((y & teach).sum()), int((~y & teach).sum())
        if min(counts) < MIN_ROWS:
            raise TooLittleData(
                f"{counts[0]} faulty and {counts[1]} normal rows to learn from; a classifier needs {MIN_ROWS} of each"
            )
        sensors = x.shape[1] // (len(spec.windows) * len(spec.statistics))
        loaded = library.load(_blank(x, sensors, settings), y, sample.weight, settings)
        folds = _folds(units, settings.folds) if self.platt is None else None
        calibration = None
        slope, offset = self.platt or (1.0, 0.0)
        if folds is not None:
            fold = folds[sample.unit]
            margins = np.empty(len(y))
            for number in range(int(fold.max()) + 1):
                out = fold == number
                booster = library.grow(loaded, np.flatnonzero(teach & ~out), settings)
                margins[out] = library.margin(booster, x[out])
            slope, offset = platt(margins, y, sample.weight)
            calibration = {
                "folds": int(fold.max()) + 1,
                "grouped_by": "device" if _by_device(units, settings.folds) else "episode",
                "slope": slope,
                "offset": offset,
            } | calibration_figures(_sigmoid(slope * margins + offset), y, sample.weight)
            if slope <= MIN_SLOPE:
                notes.append("On groups held back, the classifier ranked faults no better than chance.")
        elif self.platt is None:
            notes.append(
                "All faults belong to one episode: nothing could be held back, so the classifier's score is not "
                "calibrated and no honest figure can be given for it."
            )
        booster = library.grow(loaded, np.flatnonzero(teach), settings)
        importance = library.gain(booster, x.shape[1]).reshape(-1, sensors).sum(axis=0)
        importance /= max(float(importance.sum()), 1e-12)
        normal = np.flatnonzero(~y & teach)
        forest = library.forest(booster).calibrated(slope, offset)
        return Fitted(
            name=self.name,
            kind=self.kind,
            input="features",
            onnx=trees.to_onnx(forest, x.shape[1]),
            lookback=1,
            reference=lambda features: _sigmoid(slope * library.margin(booster, features) + offset),
            features=spec,
            neutral=neutral(x[normal[:: max(1, len(normal) // 4000)]]),
            again=Classifier(self.spec, settings, (slope, offset)),
            facts={
                "library": library.name,
                "trees": settings.trees,
                "leaves": settings.leaves,
                "window": spec.longest,
                "features": x.shape[1],
                "rows": {
                    "fault": sample.fault_rows,
                    "normal": sample.normal_rows,
                    "sampled_fault": int(y.sum()),
                    "sampled_normal": int((~y).sum()),
                    "doubtful": int(sample.doubtful.sum()),
                },
                "importance": {name: float(value) for name, value in zip(data.sensors, importance, strict=True)},
                "calibration": calibration,
                "notes": notes,
            },
        )


LOST = 1e4
"""A sensor whose mean exceeds this multiple of its spread is centred: single precision has 1.7e7 steps to a number."""


def centred(spec: FeatureSpec, data: TrainingData) -> FeatureSpec:
    """Return ``spec`` with a centre for the sensors that need one; 1e9 ± 1 would else be one number to the trees."""
    found = moments(data)
    needs = (found.count > 0) & (found.sd > 0) & (np.abs(found.mean) > LOST * found.sd)
    if not needs.any():
        return spec
    return spec.model_copy(update={"centre": tuple(float(x) for x in np.where(needs, found.mean, 0.0))})


# -- rows -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unit:
    """Rows that may be held back together: a stretch of a device around one fault, or a whole device."""

    number: int
    device: str
    faults: int
    rows: int


def draw(histories: Iterable[DeviceRows], spec: FeatureSpec, settings: Settings) -> tuple[Sample, list[Unit]]:
    """Sample rows of both classes, at most ``settings.rows`` each, and compute their features.

    A row's place in the draw is a hash of its device and time: the rows with the smallest hashes win, whatever the
    order of the devices. Only the winners so far are held.
    """
    kept = {True: _Smallest(settings.rows), False: _Smallest(settings.rows)}
    units: list[Unit] = []
    for number, history in enumerate(histories):
        fault = history.label == FAULT
        usable = history.use & (fault | (history.label == NORMAL))
        stretch, doubtful = _stretches(fault, spec)
        first = len(units)
        for place in range(int(stretch.max(initial=-1)) + 1):
            mine = (stretch == place) & usable
            units.append(Unit(first + place, history.device, int((fault & mine).sum()), int(mine.sum())))
        lots = _lots(history.device, history.ts)
        for wanted, smallest in kept.items():
            index = np.flatnonzero(usable & (fault == wanted))
            smallest.seen += len(index)
            index = index[lots[index] < smallest.bar]
            if len(index) > settings.rows:
                index = np.sort(index[np.argsort(lots[index], kind="stable")[: settings.rows]])
            for start in range(0, len(index), DRAW):
                part = index[start : start + DRAW]
                facts = np.stack(
                    [np.full(len(part), number), stretch[part] + first, history.ts[part], doubtful[part]], 1
                )
                smallest.add(lots[part], features_at(history.rows, part, spec), facts)
    kept[True].prune()
    kept[False].limit = min(settings.rows, max(settings.normal_least, settings.normal_ratio * len(kept[True].facts)))
    kept[False].prune()
    # Sorted by device and time, so the order of the draw leaves no trace in the sample.
    x = np.concatenate([smallest.features for smallest in kept.values() if len(smallest.features)] or [EMPTY])
    drawn = np.concatenate([smallest.facts for smallest in kept.values()])
    faulty = np.repeat([True, False], [len(kept[True].facts), len(kept[False].facts)])
    share = np.where(faulty, kept[True].share, kept[False].share)
    order = np.lexsort((drawn[:, 2], drawn[:, 0]))
    x, drawn, faulty, share = x[order], drawn[order], faulty[order], share[order]
    return (
        Sample(
            features=x,
            fault=faulty,
            doubtful=drawn[:, 3].astype(bool),
            unit=drawn[:, 1],
            weight=share / share.mean() if len(share) else share,
            fault_rows=kept[True].seen,
            normal_rows=kept[False].seen,
        ),
        units,
    )


EMPTY: NDArray[np.float32] = np.empty((0, 0), np.float32)


class _Smallest:
    """Keeps the ``limit`` rows with the smallest lots, holding at most twice as many."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.seen = 0
        self.bar = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
        self._parts: list[tuple[NDArray[np.uint64], NDArray[np.float32], NDArray[np.int64]]] = []
        self._held = 0
        self.features = EMPTY
        self.facts: NDArray[np.int64] = np.empty((0, 4), np.int64)

    @property
    def share(self) -> float:
        """Rows seen for each row kept."""
        return self.seen / max(1, len(self.facts))

    def add(self, lots: NDArray[np.uint64], x: NDArray[np.float32], facts: NDArray[np.int64]) -> None:
        self._parts.append((lots, x, facts))
        self._held += len(lots)
        if self._held > self.limit + self.limit // 2:
            self.prune()

    def prune(self) -> None:
        if not self._parts:
            return
        lots, x, facts = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        if len(lots) > self.limit:
            best = np.argpartition(lots, self.limit)[: self.limit]
            lots, x, facts = lots[best], x[best], facts[best]
            self.bar = lots.max()
        self._parts = [(lots, x, facts)]
        self._held = len(lots)
        self.features, self.facts = x, facts


def _lots(device: str, ts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return a well mixed number for each row of a device (the finaliser of splitmix64, Steele et al. 2014)."""
    salt = np.frombuffer(hashlib.sha256(device.encode()).digest()[:8], "<u8")[0]
    z = ts.astype(np.uint64) ^ salt
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))


def _stretches(fault: NDArray[np.bool_], spec: FeatureSpec) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Cut a history midway between its faults: the stretch of each row ``[T]``, and which rows are doubtful ``[T]``.

    Doubtful are the rows up to the shortest window before a fault, and the rows after a fault or after a cut whose
    window reaches back over it.
    """
    starts, stops = _runs(fault)
    doubtful = np.zeros(len(fault), np.bool_)
    stretch = np.zeros(len(fault), np.int64)
    for start, stop in zip(starts, stops, strict=True):
        doubtful[max(0, start - spec.windows[0]) : start] = True
        doubtful[stop : stop + spec.longest - 1] = True
    for stop, start in zip(stops[:-1], starts[1:], strict=True):
        if start - stop >= 2 * spec.longest:
            cut = (start + stop) // 2
            stretch[cut:] += 1
            doubtful[cut : cut + spec.longest - 1] = True
    return stretch, doubtful & ~fault


def _runs(mask: NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    """Return first and past-the-last index of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return edges[::2].tolist(), edges[1::2].tolist()


def features_at(rows: NDArray[np.float64], index: NDArray[np.int64], spec: FeatureSpec) -> NDArray[np.float32]:
    """Return the features of some rows, ``index`` ascending: float32 ``[len(index), F]``.

    Rows near to one another are computed together with those between them: to begin anew costs as much as about
    :data:`NEAR` rows more.
    """
    result = np.empty((len(index), spec.width(rows.shape[1])), np.float32)
    start = 0
    while start < len(index):
        first = int(index[start])
        ahead = index[start : start + STRETCH]
        apart = np.flatnonzero((np.diff(ahead) > NEAR) | (ahead[1:] - first >= STRETCH))
        stop = start + (int(apart[0]) + 1 if len(apart) else len(ahead))
        places = index[start:stop] - first
        count = int(places[-1]) + 1
        found = features.compute(rows[max(0, first - spec.longest + 1) : first + count], count, spec)
        result[start:stop] = found[places]
        start = stop
    return result


def _folds(units: list[Unit], count: int) -> NDArray[np.int64] | None:
    """Give each unit a fold so that faults, then rows, are spread evenly; None where nothing can be held back."""
    whole = _by_device(units, count)
    key = [unit.device if whole else f"{unit.device}\0{unit.number}" for unit in units]
    faults: dict[str, int] = {}
    rows: dict[str, int] = {}
    for name, unit in zip(key, units, strict=True):
        faults[name] = faults.get(name, 0) + unit.faults
        rows[name] = rows.get(name, 0) + unit.rows
    if sum(1 for value in faults.values() if value) < 2:
        return None
    count = min(count, sum(1 for value in faults.values() if value))
    load = [(0, 0)] * count
    fold: dict[str, int] = {}
    for name in sorted(faults, key=lambda name: (-faults[name], -rows[name], name)):
        lightest = min(range(count), key=lambda number: (load[number] if faults[name] else load[number][::-1], number))
        fold[name] = lightest
        load[lightest] = (load[lightest][0] + faults[name], load[lightest][1] + rows[name])
    return np.array([fold[name] for name in key], np.int64)


def _by_device(units: list[Unit], count: int) -> bool:
    """Whether enough devices had faults to hold back whole devices."""
    return len({unit.device for unit in units if unit.faults}) >= count


def _blank(x: NDArray[np.float32], sensors: int, settings: Settings) -> NDArray[np.float32]:
    """Return a copy in which all features of some sensors are NaN, drawn row by row."""
    rng = np.random.default_rng(settings.seed)
    x = x.copy()
    gone = rng.random((len(x), sensors), np.float32) < settings.blanked
    x.reshape(len(x), -1, sensors).transpose(0, 2, 1)[gone] = np.nan
    return x


def neutral(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the median of each feature, float32 ``[F]``, 0 where it never has a value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # columns of NaN, answered on the next line
        return np.nan_to_num(np.nanmedian(x, axis=0), nan=0.0).astype(np.float32)


def _colsample(settings: Settings, width: int) -> float:
    """The share of ``width`` features that a tree may use."""
    return float(np.clip(60 / width, settings.colsample, 1.0))


def _min_leaf(settings: Settings, y: NDArray[np.bool_]) -> int:
    """Leaves may not demand more rows than a small class can give."""
    return int(np.clip(int(y.sum()) // 10, 2, settings.min_leaf))


# -- calibration ------------------------------------------------------------------------------------------------------

MIN_SLOPE = 0.1
"""Platt's slope is kept above this: a larger margin must mean a larger probability, and so much larger that the end of
an alert, at a share of its level, can be told from its beginning."""


def platt(margin: NDArray[np.float64], fault: NDArray[np.bool_], weight: NDArray[np.float64]) -> tuple[float, float]:
    """Return slope and offset that make ``sigmoid(slope × margin + offset)`` a probability.

    Newton's method on the weighted log loss, with Platt's targets, which keep the result finite where the classes
    separate. All arrays ``[N]``.
    """
    positive, negative = float(fault.sum()), float((~fault).sum())
    target = np.where(fault, (positive + 1) / (positive + 2), 1 / (negative + 2))
    scale = max(float(np.abs(margin).max(initial=0.0)), 1e-9)
    m = margin / scale
    theta = np.array([scale, 0.0])
    best = _loss(theta, m, target, weight)
    for _ in range(100):
        p = _sigmoid(theta[0] * m + theta[1])
        gradient = np.array([(weight * (p - target) * m).sum(), (weight * (p - target)).sum()])
        h = weight * np.maximum(p * (1 - p), 1e-12)
        curvature = np.array([[(h * m * m).sum(), (h * m).sum()], [(h * m).sum(), h.sum()]]) + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while size > 1e-6 and (loss := _loss(theta - size * step, m, target, weight)) > best:
            size /= 2
        if size <= 1e-6 or best - loss < 1e-12 * abs(best):
            break
        theta, best = theta - size * step, loss
    slope = float(theta[0] / scale)
    if slope > MIN_SLOPE:
        return slope, float(theta[1])
    share = float(np.average(target, weights=weight))
    return MIN_SLOPE, float(np.log(share / (1 - share)) - MIN_SLOPE * np.average(margin, weights=weight))


def _loss(
    theta: NDArray[np.float64], m: NDArray[np.float64], target: NDArray[np.float64], weight: NDArray[np.float64]
) -> float:
    z = theta[0] * m + theta[1]
    return float((weight * (np.logaddexp(0, z) - target * z)).sum())


def _sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-z)))


def calibration_figures(
    p: NDArray[np.float64], fault: NDArray[np.bool_], weight: NDArray[np.float64], bins: int = 10
) -> dict[str, Any]:
    """Return average precision, Brier score and a reliability table of probabilities ``p`` ``[N]``, weighted.

    A row of the table, as in :func:`.metrics.reliability`: ``low`` and ``high`` of the bin, ``mean_score``,
    ``rate`` of faults, ``n`` rows. Empty bins are left out.
    """
    order = np.argsort(-p, kind="stable")
    hits = np.cumsum((weight * fault)[order])
    flagged = np.cumsum(weight[order])
    last = np.append(np.diff(p[order]) != 0, True)  # ties are flagged together
    recall = hits[last] / hits[-1]
    precision = hits[last] / flagged[last]
    place = np.minimum((p * bins).astype(int), bins - 1)
    table = []
    for number in range(bins):
        mine = place == number
        if not mine.any():
            continue
        total = float(weight[mine].sum())
        table.append(
            {
                "low": number / bins,
                "high": (number + 1) / bins,
                "mean_score": float((weight * p)[mine].sum()) / total,
                "rate": float((weight * fault)[mine].sum()) / total,
                "n": int(mine.sum()),
            }
        )
    return {
        "average_precision": float((np.diff(recall, prepend=0.0) * precision).sum()),
        "brier": float(np.average((p - fault) ** 2, weights=weight)),
        "reliability": table,
    }
