"""The four verdicts that Fieldwatch gives on a reading, and the rule that chooses among them.

A score alone is not a verdict. Where the row is unlike anything the model was trained on, where too many sensors are
missing, or while the window is not filled yet, the verdict is ``unknown``: never simply fault or ok.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["detector", "classifier"]


class Verdict(StrEnum):
    """A model's verdict on one grid row; :data:`CODES` gives the integer used in arrays."""

    NORMAL = "normal"
    ANOMALOUS = "anomalous"
    FAULTY = "faulty"
    UNKNOWN = "unknown"


class Why(StrEnum):
    """Why a verdict is ``unknown``; :data:`WHYS` gives the order of the integers used in arrays."""

    JUDGED = ""
    FEW_ROWS = "few_rows"
    SENSORS_MISSING = "sensors_missing"
    OUT_OF_RANGE = "out_of_range"
    NO_SCORE = "no_score"
    WINDOW_UNFILLED = "window_unfilled"


WHYS: tuple[Why, ...] = tuple(Why)
IN_WORDS: dict[Why, str] = {
    Why.FEW_ROWS: "too few readings in the window, as after a start or a gap",
    Why.SENSORS_MISSING: "too many sensors without a value",
    Why.OUT_OF_RANGE: "out of the range that the model was trained on",
    Why.NO_SCORE: "the model gives no number",
    Why.WINDOW_UNFILLED: "readings before a restart could not be read again",
}

VERDICTS: tuple[Verdict, ...] = tuple(Verdict)
CODES: dict[Verdict, int] = {verdict: code for code, verdict in enumerate(VERDICTS)}
RAISED: dict[Kind, Verdict] = {"detector": Verdict.ANOMALOUS, "classifier": Verdict.FAULTY}


def decide(
    kind: Kind,
    score: NDArray[np.float32],
    threshold: float,
    unusable: NDArray[np.bool_],
) -> NDArray[np.int8]:
    """Return verdict codes (int8, shape of ``score``).

    ``unusable`` marks rows that may not be judged (warming up, too many sensors missing, out of the training
    range); a NaN score is not judged either.
    """
    codes = np.full(score.shape, CODES[Verdict.NORMAL], np.int8)
    codes[score.astype(np.float64) >= threshold] = CODES[RAISED[kind]]
    codes[unusable | np.isnan(score)] = CODES[Verdict.UNKNOWN]
    return codes
