"""A plain table: strict reading, honest probabilities, and ``unknown`` for what is unlike anything seen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fieldwatch_contract.bundle import read_bundle
from fieldwatch_contract.scoring import Scorer
from fieldwatch_trainer.__main__ import main
from fieldwatch_trainer.models import TooLittleData
from fieldwatch_trainer.models.folds import folds
from fieldwatch_trainer.models.table import REFERENCES, TableClassifier, TableDetector, conformal_threshold
from fieldwatch_trainer.table import TableData, TableError, read_table
from numpy.typing import NDArray


def moons(count: int = 300, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Return two interleaved arcs in odd units, which no line parts."""
    rng = np.random.default_rng(seed)
    y = (np.arange(count) % 2).astype(np.int8)
    angle = rng.uniform(0, np.pi, count)
    x = np.where(
        y[:, None] == 0,
        np.stack([np.cos(angle), np.sin(angle)], 1),
        np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], 1),
    )
    return np.round((x + rng.normal(size=x.shape) * 0.12) * [1000, 0.01] + [5e5, 3], 5), y


def write(path: Path, x: NDArray[np.float64], y: NDArray[np.int8] | None) -> Path:
    lines = ["temp,flow" + (",label" if y is not None else "")]
    for place, row in enumerate(x):
        lines.append(",".join(f"{v:.5f}" for v in row) + (f",{y[place]}.0" if y is not None else ""))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    write(folder / "history.csv", *moons())
    assert main(["train", "--csv", str(folder / "history.csv"), "--label", "label", "--out", str(folder / "run")]) == 0
    return folder


def test_training_tells_ten_honest_folds(trained: Path) -> None:
    run = json.loads((trained / "run" / "run.json").read_text(encoding="utf-8"))
    table = run["table"]
    assert len(table["folds"]) == 10 and sum(fold["rows"] for fold in table["folds"]) == 300
    assert table["mean"]["accuracy"] > 0.95 and table["mean"]["log_loss"] < 0.15
    assert table["random"]["log_loss"] == pytest.approx(np.log(2), abs=1e-3)
    report = (trained / "run" / "report.html").read_text(encoding="utf-8")
    assert "log loss" in report and "accuracy" in report
    assert run["gate"]["passed"]


def test_rows_unlike_the_training_rows_are_unknown(trained: Path) -> None:
    x, _ = moons(40, 1)
    x[:10, 0] += 5000
    write(trained / "new.csv", x, None)
    out = trained / "scores.parquet"
    bundle = trained / "run" / "bundle.zip"
    assert main(["score", "--bundle", str(bundle), "--csv", str(trained / "new.csv"), "--out", str(out)]) == 0
    table = pq.read_table(out).to_pylist()
    assert len(table) == 80
    classifier = [line for line in table if line["model"] == "classifier"]
    assert [line["line"] for line in classifier] == list(range(2, 42))
    assert {line["verdict"] for line in classifier[:10]} == {"unknown"}
    known = [line["verdict"] for line in classifier[10:]]
    assert known.count("unknown") <= 3 and {"normal", "faulty"} <= set(known)
    detector = [line for line in table if line["model"] == "detector"]
    assert {line["verdict"] for line in detector[:10]} == {"anomalous"}
    assert detector[0]["sensors"][0] == "temp" and detector[0]["shares"][0] > 0.9
    faulty = next(line for line in classifier if line["verdict"] == "faulty")
    assert set(faulty["sensors"]) <= {"temp", "flow"} and faulty["ts"] is None and faulty["device"] == "new"


def test_table_scores_have_the_same_bits_however_rows_are_cut(trained: Path) -> None:
    scorer = Scorer(read_bundle(trained / "run" / "bundle.zip"))
    x, _ = moons(130, 2)
    x[::7, 0] = np.nan
    whole = scorer.score(x)
    for size in (1, 2, 5, 64):
        for start in range(0, len(x), size):
            for part, all_of in zip(scorer.score(x[start : start + size]), whole, strict=True):
                np.testing.assert_array_equal(part.score, all_of.score[start : start + size])


def test_a_table_trains_to_the_same_bytes(trained: Path) -> None:
    out = trained / "again"
    assert main(["train", "--csv", str(trained / "history.csv"), "--label", "label", "--out", str(out)]) == 0
    assert (out / "bundle.zip").read_bytes() == (trained / "run" / "bundle.zip").read_bytes()


def test_scale_and_order_of_columns_do_not_matter(trained: Path) -> None:
    x, _ = moons(20, 3)
    lines = ["unrelated;flow;temp"] + [f"7;{flow:.5f};{temp:.5f}".replace(".", ",") for temp, flow in x]
    path = trained / "other.csv"
    path.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    table = read_table(path, sensors=["temp", "flow"])
    np.testing.assert_allclose(table.values, x)


def test_more_rows_than_references_still_give_one_per_cent() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(REFERENCES + 1500, 3))
    fitted = TableDetector().fit(TableData("t", ["a", "b", "c"], x, np.zeros(len(x), np.int8)))
    assert fitted.facts["references"] == REFERENCES and fitted.threshold is not None
    fresh = fitted.reference(rng.normal(size=(4000, 3)))
    assert 0.003 < float((fresh >= fitted.threshold).mean()) < 0.02


def test_the_conformal_threshold_counts_exactly() -> None:
    calibration = np.arange(1.0, 1000.0)  # n = 999, p(d) = (1 + #{>= d}) / 1000
    threshold = conformal_threshold(calibration, 0.01)
    for d in (990.5, 991.0, 991.5, 992.0):
        p = (1 + (calibration >= d).sum()) / 1000
        assert (d >= threshold) == (p < 0.01)
    assert conformal_threshold(np.arange(10.0), 0.01) > 9


def test_folds_are_stratified_and_complete() -> None:
    label = (np.arange(103) % 3 == 0).astype(np.int8)
    parts = folds(label, 10, 1)
    assert sorted(np.concatenate(parts).tolist()) == list(range(103))
    assert {int(label[part].sum()) for part in parts} <= {3, 4}


def test_one_class_alone_teaches_nothing() -> None:
    x, _ = moons(60)
    with pytest.raises(TooLittleData, match="0 faulty and 60 normal rows"):
        TableClassifier().fit(TableData("t", ["a", "b"], x, np.zeros(60, np.int8)))


@pytest.mark.parametrize("words", [("0", "1"), ("0.0", "1.0"), ("false", "TRUE"), ("0,0", "1,0")])
def test_labels_may_be_written_in_several_ways(tmp_path: Path, words: tuple[str, str]) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"a;y\n1;{words[0]}\n2;{words[1]}\n3;\n", encoding="utf-8")
    table = read_table(path, "y")
    assert table.label is not None and table.label.tolist() == [0, 1, -1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("a,b,label\n", "a header and no rows"),
        ("a,b,label\n1,2,0\n1,hot,1\n", "line 3: column 'b': 'hot' is not a number"),
        ("a,b,label\n1,2,0\n\n1,2\n", "line 4: 2 cells, the header has 3"),
        ("a,b,label\n1,2,maybe\n", "line 2: column 'label': label 'maybe' must be 0 or 1"),
        ("a,b,a\n1,2,0\n", "line 1: column 'a' repeats"),
        ("a,b\n1,2\n", "line 1: no column 'label'; columns are a, b"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(TableError, match=message):
        read_table(path, "label")


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="No such file"):
        read_table(tmp_path / "nowhere.csv")
    (tmp_path / "t.csv").write_bytes("a,b\n1,2\n".encode("utf-16"))
    with pytest.raises(TableError, match="not UTF-8"):
        read_table(tmp_path / "t.csv")
    (tmp_path / "u.csv").write_text("x,y\n1,2\n", encoding="utf-8")
    with pytest.raises(TableError, match="none of the sensors temp, flow"):
        read_table(tmp_path / "u.csv", sensors=["temp", "flow"])


def test_missing_cells_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,\nNA,2\nnan,inf\n", encoding="utf-8")
    assert np.isnan(read_table(path).values).tolist() == [[False, True], [True, False], [True, True]]
