"""A short kill run: programs die while logs grow and rotate; every line arrives once, with the scores of one pass.

``make chaos`` is the long one; what it does and what it expects stands in ``tests/chaos``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.run import run_round, table

pytestmark = [pytest.mark.soak, pytest.mark.mosquitto, pytest.mark.timeout(600)]


def test_every_line_arrives_exactly_once_with_the_scores_of_one_pass(tmp_path: Path) -> None:
    """Two agents, a log that is renamed and one that is copied and cut, either broker."""
    manners = [("copytruncate", "mosquitto"), ("dated", "embedded")]
    outcomes = run_round(tmp_path / "round", 15.0, manners, seed=11, say=print)
    told = table([(0, each) for each in outcomes])
    assert [each.verdict.differences for each in outcomes] == [[], []], told
    for each in outcomes:
        assert each.faults.total() >= 2 and each.rotations >= 3 and each.verdict.stored > 500, told
    assert any(each.verdict.alerts for each in outcomes), f"the faults in the log raised alerts\n{told}"
