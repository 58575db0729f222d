"""Faults that no sensor shows alone: the detector must see them, and the test must be one that single sensors fail."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from bench.phase import RADIANS, ROWS, SENSORS, SHIFTS, run
from tests.lakes import in_step


@pytest.mark.parametrize("radians", RADIANS)
def test_the_detector_sees_a_sensor_out_of_step_and_no_look_at_single_sensors_does(radians: float) -> None:
    found = {name: figures[0] for name, figures in run(radians).items()}
    detector, share = found.pop("detector"), found.pop("share")
    assert detector > 0.6
    for name, figure in found.items():
        assert figure < 2 * share and detector > 2.5 * figure, name


def test_nothing_about_the_sensor_alone_has_changed() -> None:
    """Values, their steps and their spread are those of the same sensor in normal time."""
    rows = in_step(ROWS, SENSORS, 1, [(*shift, 1.5) for shift in SHIFTS])
    for first, last, sensor in SHIFTS:
        out = rows[first : last + 1, sensor]
        normal = np.delete(rows[:, sensor], np.concatenate([np.arange(a - 130, b + 130) for a, b, _ in SHIFTS]))
        assert ks_2samp(out, normal).statistic < 0.15
        assert ks_2samp(np.diff(out), np.diff(normal)).statistic < 0.15
        assert out.std() == pytest.approx(normal.std(), rel=0.1)
