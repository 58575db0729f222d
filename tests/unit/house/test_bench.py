"""The benchmark runs, asserts what it measures, and prints what its readers need. No figure is judged here."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from fieldwatch_contract.features import compute

from bench.__main__ import table
from bench.kernel import check, with_pandas, with_polars
from bench.material import NAMES, SPEC, log_lines, readings, times
from bench.rounds import Times
from tests.conftest import ROOT


def test_the_cheap_cases_run():
    command = [sys.executable, "-m", "bench", "parse", "frozen", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text, _, shown = done.stdout.partition("\n\n")
    result = json.loads(text)
    assert result["quick"] and set(result["cases"]) == {"parse", "frozen"}
    assert result["conditions"]["versions"]["numpy"] == np.__version__
    assert result["cases"]["parse"]["lines/s"] > 0
    assert "| case | figure | value |" in shown


def test_an_unknown_case_is_named():
    done = subprocess.run(
        [sys.executable, "-m", "bench", "speed"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "no case speed; there are kernel" in done.stderr


def test_the_peers_compute_what_the_kernel_computes():
    """Otherwise the comparison would be of different work."""
    import pandas as pd
    import polars as pl

    rows = readings(150, missing=0.05)
    ours = compute(rows, 150, SPEC)
    check(rows, ours, with_pandas(pd.DataFrame(rows, columns=NAMES)))
    check(rows, ours, with_polars(pl.DataFrame(rows, schema=NAMES).fill_nan(None)))
    with pytest.raises(AssertionError, match="slope"):
        check(rows, ours, with_pandas(pd.DataFrame(rows, columns=NAMES), gaps=False))


def test_ratios_are_taken_round_by_round():
    assert Times({"a": [1, 2, 4], "b": [2, 4, 4]}).faster("a", "b") == {"median": 2, "least": 1, "most": 2}


def test_log_lines_say_what_the_readings_are():
    rows = readings(3, missing=0.5)
    header, *lines = log_lines(rows, times(3))
    assert header.decode().rstrip().split(",") == ["timestamp", *NAMES]
    assert lines[1].startswith(b"2026-01-01T00:01:00,")
    back = [[float(field or "nan") for field in line.decode().rstrip().split(",")[1:]] for line in lines]
    assert np.array_equal(back, rows, equal_nan=True)


def test_the_table_shows_ratios_with_their_range():
    shown = table({"x": {"faster": {"median": 2.0, "least": 1.5, "most": 2.5}, "n": 3}})
    assert "| x | faster | 2.0 (1.5-2.5) |" in shown and "| x | n | 3 |" in shown
