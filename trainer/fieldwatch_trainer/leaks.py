"""Signs that a figure is too good: what testing time, or the label itself, has told the model.

* ``leak-sensor``: one sensor's value, or its absence, tells faulty from normal rows almost perfectly. It may be an easy
  fault; it may be a column made of the label: a status, a counter of services. A person must look, so it never fails.
* ``leak-copy``: two devices have the same readings, so one held back is not unseen.
* ``leak-order``: held-back rows come from other devices than were learnt from, or after them; all of them, and so the
  thresholds that were set on them, before testing time.
* ``leak-labels``: the classifier is fitted once more, smaller, on labels turned around in time. It must find no more
  than chance: if it finds more, something reaches it past the labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from fieldwatch_contract.scoring import Scorer
from numpy.typing import NDArray

from fieldwatch_trainer import metrics
from fieldwatch_trainer.baselines import chance
from fieldwatch_trainer.bundle import Frame, draft
from fieldwatch_trainer.data import Fold, LakeData
from fieldwatch_trainer.gates import Gate
from fieldwatch_trainer.models import FAULT, NORMAL, SEED, DeviceRows, Plugin, TooLittleData
from fieldwatch_trainer.models.folds import folds as split_rows
from fieldwatch_trainer.models.table import TableClassifier
from fieldwatch_trainer.outcomes import DeviceScores
from fieldwatch_trainer.score import blocks
from fieldwatch_trainer.table import TableData

TELLS = 0.99
"""Area under ROC of one sensor from which on somebody must look."""
SAMPLE = 20_000
"""Rows of a kind that are looked at."""
SAME = 0.5
"""Share of equal readings that makes one device a copy of another."""
COPY_ROWS = 2000
STRETCH = 16
BEYOND_CHANCE = 0.2
"""Average precision above the share of faulty rows that permuted labels may get."""

Folds = Sequence[tuple[Fold, Fold]]


def examine(data: LakeData, held: Mapping[str, Sequence[DeviceScores]], folds: Mapping[str, Folds]) -> list[Gate]:
    """Return what the data and the folds show; ``folds`` by model: learnt from, tested on."""
    return [_sensor(data), _copies(data), *(_order(name, data, held[name], folds[name]) for name in held)]


# ---- one sensor tells all ------------------------------------------------------------------------------------------


def _sensor(data: LakeData) -> Gate:
    name = "leak-sensor"
    faulty, normal = (_sample(data, code) for code in (FAULT, NORMAL))
    if len(faulty) < 10 or len(normal) < 10:
        return Gate(name, "", "passed", "too few faulty rows for one sensor to tell them")
    told = []
    positive = np.repeat([True, False], [len(faulty), len(normal)])
    for place, sensor in enumerate(data.sensors):
        value = np.concatenate((faulty[:, place], normal[:, place]))
        there = ~np.isnan(value)
        absent = _distance_from_half(area_under_roc(positive, (~there).astype(np.float64)))
        if absent > TELLS:
            told.append(f"{sensor} (missing or not)")
        elif positive[there].any() and not positive[there].all():
            area = _distance_from_half(area_under_roc(positive[there], value[there]))
            if area > TELLS:
                told.append(f"{sensor} (area under ROC {area:.3f})")
    if not told:
        return Gate(name, "", "passed", "no sensor alone tells faulty from normal rows")
    return Gate(
        name, "", "unknown",
        f"{', '.join(told[:5])} alone tells faulty from normal rows: an easy fault, or a column made of the label such "
        "as a status? If so, leave it out and train again",
    )  # fmt: skip


def area_under_roc(positive: NDArray[np.bool_], value: NDArray[np.float64]) -> float:
    """Return the probability that a positive row has the higher value, ties counting half (Mann-Whitney)."""
    distinct, place = np.unique(value, return_inverse=True)
    ups = np.bincount(place[positive], minlength=len(distinct)).astype(np.float64)
    downs = np.bincount(place[~positive], minlength=len(distinct)).astype(np.float64)
    below = np.concatenate(([0.0], np.cumsum(downs)[:-1]))
    return float(np.sum(ups * (below + downs / 2)) / (ups.sum() * downs.sum()))


def _distance_from_half(area: float) -> float:
    return max(area, 1 - area)


def _sample(data: LakeData, code: int) -> NDArray[np.float64]:
    """Return up to about :data:`SAMPLE` rows of a kind, evenly from every device."""
    each = max(SAMPLE // max(len(data.fold.devices), 1), 20)
    parts = []
    for device in data:
        rows = np.flatnonzero(device.use & (device.label == code))
        parts.append(device.rows[rows[:: max(len(rows) // each, 1)]])
    return np.concatenate(parts)


# ---- copies --------------------------------------------------------------------------------------------------------


def _copies(data: LakeData) -> Gate:
    known: dict[str, NDArray[np.uint64]] = {}
    for device in data:
        prints = np.unique(stretches(device.rows[device.use]))
        for other, seen in known.items():
            if len(seen) >= 20 and np.isin(seen, prints).sum() > SAME * len(seen):
                return Gate(
                    "leak-copy", "", "failed",
                    f"{device.device} has the same readings as {other}: held back, one is known from the other; "
                    "remove the copy",
                )  # fmt: skip
        known[device.device] = prints[:: max(len(prints) // COPY_ROWS, 1)]
    return Gate("leak-copy", "", "passed", "no device is a copy of another")


def stretches(rows: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Return a 64-bit fingerprint of each stretch of :data:`STRETCH` rows ``[n, S]``.

    Single rows of rounded values coincide on many devices, stretches of them do not.
    """
    if len(rows) < STRETCH:
        return np.zeros(0, np.uint64)
    odd = np.random.default_rng(SEED).integers(0, 2**63, rows.shape[1] + STRETCH, dtype=np.uint64) * 2 + 1
    bits = np.ascontiguousarray(rows).view(np.uint64)
    mixed = (bits ^ (bits >> np.uint64(29))) * odd[: rows.shape[1]]
    row = np.bitwise_xor.reduce(mixed ^ (mixed >> np.uint64(31)), axis=1)
    found = np.zeros(len(rows) - STRETCH + 1, np.uint64)
    for place in range(STRETCH):
        part = row[place : place + len(found)] * odd[rows.shape[1] + place]
        found ^= part ^ (part >> np.uint64(33))
    return found


# ---- order ---------------------------------------------------------------------------------------------------------


def _order(name: str, data: LakeData, held: Sequence[DeviceScores], folds: Folds) -> Gate:
    for learn, test in folds:
        both = sorted(set(learn.devices) & set(test.devices))
        if both and learn.stop > test.start:
            return Gate("leak-order", name, "failed", f"{both[0]} is learnt from and tested on in the same time")
    for one in held:
        border = data.split.border(one.held.device)
        if border is not None and len(one.held.ts) and int(one.held.ts[-1]) >= border:
            return Gate("leak-order", name, "failed", f"{one.held.device}: held-back rows reach into testing time")
    return Gate("leak-order", name, "passed", "held-back rows are of other devices or later; none is for testing")


# ---- permuted labels ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Turned:
    """The same data with every device's labels turned around within its usable rows."""

    data: LakeData

    @property
    def device_type(self) -> str:
        return self.data.device_type

    @property
    def sensors(self) -> Sequence[str]:
        return self.data.sensors

    @property
    def period(self) -> int:
        return self.data.period

    def __iter__(self) -> Iterator[DeviceRows]:
        rng = np.random.default_rng(SEED)
        for device in self.data:
            rows = np.flatnonzero(device.use)
            label = device.label.copy()
            turn = int(rng.integers(len(rows) // 4, max(3 * len(rows) // 4, len(rows) // 4 + 1))) if len(rows) else 0
            label[rows] = np.roll(label[rows], turn)
            yield replace(device, label=label)


def shuffled(data: TableData) -> Gate:
    """The same for a table's classifier, whose rows are independent: its labels are shuffled, and judged in 3 folds."""
    label = np.random.default_rng(SEED).permutation(data.label)
    found = np.zeros(len(label))
    for test in split_rows(label, 3, SEED):
        learn = np.setdiff1d(np.arange(len(label)), test)
        found[test] = TableClassifier().fit(replace(data, label=label).part(learn)).reference(data.values[test])
    luck, share = metrics.average_precision(label == FAULT, found) or 0.0, float((label == FAULT).mean())
    told = f"fitted on shuffled labels: average precision {luck:.3f}, the share of faults is {share:.3f}"
    return Gate("leak-labels", "classifier", "failed" if luck > share + BEYOND_CHANCE else "passed", told)


def permuted(plugin: Plugin, data: LakeData, frame: Frame, folds: Folds) -> Gate:
    """Fit on turned labels and hold the scores of the first fold against turned labels."""
    name = "leak-labels"
    if not folds:
        return Gate(name, plugin.name, "unknown", "nothing could be held back")
    learn, test = folds[0]
    try:
        fitted = plugin.fit(_Turned(data.part(learn)))
    except TooLittleData as error:
        return Gate(name, plugin.name, "unknown", f"turned labels are too few to fit: {error}")
    scorer = Scorer(draft(frame, [fitted]))
    parts = []
    for device in _Turned(data.part(test)):
        used = np.flatnonzero(device.use)
        if not len(used):
            continue
        first, last = int(used[0]), int(used[-1]) + 1
        score = np.concatenate([block.scores[0].score for block in blocks(scorer, device.rows, first, last)])
        parts.append((device.label[used] == FAULT, score[used - first]))
    luck = chance(parts)
    if luck is None:
        return Gate(name, plugin.name, "unknown", "no fault in the held-back part")
    positive = np.concatenate([part[0] for part in parts])
    found = metrics.average_precision(positive, np.concatenate([part[1] for part in parts])) or 0.0
    told = f"fitted on labels turned around in time: average precision {found:.3f}, by chance up to {luck['high']:.3f}"
    leaks = found > max(luck["high"], float(positive.mean()) + BEYOND_CHANCE)
    return Gate(name, plugin.name, "failed" if leaks else "passed", told)
