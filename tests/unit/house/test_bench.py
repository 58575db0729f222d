"""The benchmark runs, asserts what it measures, and prints what its readers need. No figure is judged here."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from fieldwatch_contract.features import compute

from bench import baselines, detection
from bench.__main__ import table
from bench.baselines import BASELINES
from bench.detection import Line
from bench.kernel import check, with_pandas, with_polars
from bench.material import NAMES, SPEC, log_lines, readings, times
from bench.rounds import Times
from tests.conftest import ROOT
from tests.lakes import correlated


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


def test_a_promise_that_misses_is_told_apart_from_an_aim():
    kept, missed = Line("recall", 0.6, least=0.5), Line("rate", 0.4, most=0.35)
    aim = Line("rate", 0.4, most=0.35, required=False)
    assert (kept.passed, missed.passed, aim.passed) == (True, False, False)
    assert (
        str(kept).startswith("pass ") and str(missed).startswith("MISS ") and str(aim).startswith("not reached aim: ")
    )
    assert "0.400 (<= 0.35)" in str(missed)
    assert not Line("recall", float("nan"), least=0.5).passed


@pytest.mark.parametrize(
    ("arguments", "code", "words"), [(["smf"], 2, "no set smf; there are smd"), (["smd"], 1, "set FIELDWATCH_DATA")]
)
def test_the_detection_bench_says_what_it_cannot_do(tmp_path, monkeypatch, capsys, arguments, code, words):
    monkeypatch.setenv("FIELDWATCH_DATA", str(tmp_path))
    try:
        found = detection.main(arguments)
    except SystemExit as exit_:
        found = exit_.code
    assert found == code and words in capsys.readouterr().err


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_sees_a_jump_and_learns_from_the_past_alone(name):
    """The rows that are tried must not move the scale they are judged by."""
    rows = correlated(3000, 5, 1)
    rows[2500:2530] += 40.0
    score = {"variance": baselines.variance, "pca": baselines.pca, "k-means": baselines.kmeans}[name]
    found = score(rows, 1500)
    assert found[2500:2530].max() > 3 * np.nanmax(found[1600:2400])
    np.testing.assert_array_equal(score(rows[:2600], 1500)[:2500], found[:2500])
