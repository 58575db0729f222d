"""Verdicts: a score alone is never one."""

from __future__ import annotations

import numpy as np
import pytest
from fieldwatch_contract.verdicts import CODES, VERDICTS, Verdict, decide


@pytest.mark.parametrize(("kind", "raised"), [("detector", Verdict.ANOMALOUS), ("classifier", Verdict.FAULTY)])
def test_each_case_has_its_word(kind, raised):
    score = np.array([0.4, 0.5, 0.9, 0.9, np.nan, 0.0], np.float32)
    unusable = np.array([False, False, False, True, False, True])
    words = [VERDICTS[code] for code in decide(kind, score, 0.5, unusable)]
    assert words == ["normal", raised, raised, "unknown", "unknown", "unknown"]


def test_the_threshold_is_compared_in_float64():
    """0.1 as float32 is more than 0.1: a threshold must not be rounded to the score's type first."""
    score = np.array([0.1], np.float32)
    assert decide("detector", score, 0.1, np.zeros(1, bool))[0] == CODES[Verdict.ANOMALOUS]
    assert decide("detector", score, 0.1000000016, np.zeros(1, bool))[0] == CODES[Verdict.NORMAL]


def test_codes_and_names_go_both_ways():
    assert [CODES[verdict] for verdict in VERDICTS] == [0, 1, 2, 3]
    assert VERDICTS == ("normal", "anomalous", "faulty", "unknown")
