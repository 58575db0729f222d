"""Folds of independent rows for cross-validation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def folds(label: NDArray[np.int8], count: int, seed: int) -> list[NDArray[np.int64]]:
    """Cut rows into ``count`` folds with the same share of faults in each; the indices of each fold, ascending."""
    rng = np.random.default_rng(seed)
    fold = np.empty(len(label), np.int64)
    offset = 0
    for code in np.unique(label):
        index = rng.permutation(np.flatnonzero(label == code))
        fold[index] = (np.arange(len(index)) + offset) % count
        offset += len(index)
    return [np.flatnonzero(fold == number) for number in range(count)]
