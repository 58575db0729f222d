"""Models: the only folder a data scientist edits. One idea a module, every one the same three things.

A model *plugin* is a class with a ``name``, a ``kind`` and one method, ``fit(data) -> Fitted``. What it returns is all
that the rest of the trainer needs: an ONNX graph that :class:`.scoring.Scorer` can run, how far it looks back,
and a plain numpy ``reference`` of the same function, against which the parity gate holds the graph. Thresholds are not
the plugin's business: :mod:`.thresholds` finds them from the false-alarm budget on time that the model has not
seen, and it calls ``fit`` once more for each fold. So ``fit`` must be deterministic: the same data, the same bytes.

The graph's contract (:class:`.bundle.ModelSpec`):

* ``input="rows"``: float64 ``[R, S]`` consecutive grid rows, NaN = missing; outputs ``score`` float32 ``[R]`` and, if
  it can, ``contributions`` float32 ``[R, S]``, not negative. The scorer cuts off the first ``lookback - 1`` outputs.
  A row's outputs must not depend on how many rows are fed with it: elementwise operations and MatMul are safe,
  reductions over an axis are not (their order of additions may follow memory alignment).
* ``input="features"``: float32 ``[N, F]`` of :mod:`.features`, laid out by ``features`` (a ``FeatureSpec``);
  output ``score`` float32 ``[N]``. Explained by occlusion with ``neutral`` float32 ``[F]``.

Higher scores are worse; a classifier's score is the calibrated probability of a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from fieldwatch_contract.alerts import AlertRule
from fieldwatch_contract.features import FeatureSpec
from fieldwatch_contract.verdicts import Kind
from numpy.typing import NDArray

NORMAL, FAULT, ANOMALY, MAINTENANCE = 0, 1, 2, 3
"""Codes of :attr:`DeviceRows.label`. Everything outside a labelled interval counts as normal."""

SEED = 20261123
"""The one seed of everything that draws."""


@dataclass(frozen=True)
class DeviceRows:
    """One device's past on its grid.

    ``ts``     int64 ``[T]`` µs, ascending
    ``rows``   float64 ``[T, S]``, NaN = missing; no infinities
    ``use``    bool ``[T]``: the row is a reading, and may be learnt from (training time, this fold, not embargoed).
               Rows with False still serve as the past of those with True.
    ``label``  int8 ``[T]``: :data:`NORMAL`, :data:`FAULT`, :data:`ANOMALY` or :data:`MAINTENANCE` (where ``use`` is
               False)
    """

    device: str
    ts: NDArray[np.int64]
    rows: NDArray[np.float64]
    use: NDArray[np.bool_]
    label: NDArray[np.int8]


class TrainingData(Protocol):
    """What a plugin may learn from. Iterating reads the lake again, one device in memory at a time, in name order."""

    @property
    def device_type(self) -> str:
        """The type all these devices have."""
        ...

    @property
    def sensors(self) -> Sequence[str]:
        """Column names of ``rows``."""
        ...

    @property
    def period(self) -> int:
        """Grid period, µs."""
        ...

    def __iter__(self) -> Iterator[DeviceRows]:
        """Yield every device; may be called any number of times."""
        ...


class TooLittleData(Exception):
    """There is not enough to learn from; the message says what is missing and how much would do."""


@dataclass(frozen=True)
class Fitted:
    """A trained model, ready for the bundle.

    ``reference`` takes what the graph is fed (``rows`` or ``features``) and returns the scores float ``[R]`` that the
    graph must reproduce; ``neutral`` float32 ``[F]`` are neutral features for occlusion; ``threshold`` None means: from
    the budget. ``again``: what fits a part of the data so that a score there means what this model's means; None: the
    plugin itself. ``facts`` are JSON values for ``run.json``, the report and the model card: sizes, parameters,
    importances.
    """

    name: str
    kind: Kind
    input: Literal["rows", "features"]
    onnx: bytes
    lookback: int
    reference: Callable[[NDArray[Any]], NDArray[Any]]
    features: FeatureSpec | None = None
    neutral: NDArray[np.float32] | None = None
    threshold: float | None = None
    alert: AlertRule = field(default_factory=AlertRule)
    again: Plugin | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class Plugin(Protocol):
    """What every model module offers; :func:`.train.train_lake` says which are in use."""

    name: str
    kind: Kind

    def fit(self, data: TrainingData) -> Fitted:
        """Learn from ``data``. Raises :class:`TooLittleData` where it cannot."""
        ...
