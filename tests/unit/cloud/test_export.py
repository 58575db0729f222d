"""Export: the same rows in every format; verdicts come out as labels for training."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fieldwatch_cloud.__main__ import main
from fieldwatch_cloud.ingest.decode import Message, decode
from fieldwatch_cloud.store import Store
from fieldwatch_contract import topics
from fieldwatch_contract.events import envelope

from tests.delivery import DEVICE, alert, alert_draft, result

OTHER = "press-0002"


@pytest.fixture
def config(tmp_path: Path, store: Store) -> str:
    messages = []
    for device in (DEVICE, OTHER):
        drafts = [result(0), result(1, 4.0), alert_draft(alert(1, device=device))]
        drafts += [alert_draft(alert(9, "resolved", device, 1)), alert_draft(alert(30, device=device))]
        for seq, draft in enumerate(drafts, 1):
            payload = envelope(device, "ab12", seq, draft.event, "2026-11-01T00:00:00Z", draft.data)
            messages.append(Message(topics.topic(device, f"evt/{draft.event}"), payload))
    store.ingest(decode(messages))
    store.add_verdict(alert(1).alert_id, "unclear", "")
    store.add_verdict(alert(1).alert_id, "real", "bearing, said Ann")
    store.add_verdict(alert(30, device=OTHER).alert_id, "false", "")
    path = tmp_path / "cloud.toml"
    path.write_text('[store]\npath = "cloud.db"')
    return str(path)


def test_labels_are_the_newest_verdicts(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "labels", "--config", config]) == 0
    first, second = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (first["device"], first["label"], first["sensors"]) == (DEVICE, "anomaly", ["s1"])
    assert (first["start"], first["end"]) == ("2026-11-01T00:01:00Z", "2026-11-01T00:09:00Z")
    assert first["note"] == "bearing, said Ann"
    assert (second["device"], second["label"], second["end"]) == (OTHER, "normal", "2026-11-01T00:30:00Z")


@pytest.mark.parametrize("what", ["results", "alerts", "labels"])
def test_all_formats_hold_the_same(config: str, tmp_path: Path, what: str) -> None:
    for form in ("jsonl", "csv", "parquet"):
        assert main(["export", what, "--config", config, "--format", form, "--out", str(tmp_path / form)]) == 0
    lines = [json.loads(line) for line in (tmp_path / "jsonl").read_text().splitlines()]
    with (tmp_path / "csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    parquet = pq.read_table(tmp_path / "parquet").to_pylist()
    assert len(lines) == len(table) == len(parquet) > 0
    for line, cells, row in zip(lines, table, parquet, strict=True):
        assert list(line) == list(cells) == list(row)
        for key, value in line.items():
            text = json.dumps(value) if isinstance(value, list) else "" if value is None else str(value)
            assert cells[key] == text
            found = row[key]
            if isinstance(found, datetime):
                assert found == datetime.fromisoformat(value).astimezone(UTC)
            else:
                assert found == value


@pytest.mark.parametrize("what", ["results", "alerts", "labels"])
def test_a_table_without_rows_has_its_header(config: str, tmp_path: Path, what: str) -> None:
    for name, more in (("all", []), ("none", ["--device", "nobody-0001"])):
        out = tmp_path / f"{name}.csv"
        assert main(["export", what, "--config", config, "--format", "csv", "--out", str(out), *more]) == 0
    header, *rest = (tmp_path / "all.csv").read_text().splitlines()
    assert rest
    assert (tmp_path / "none.csv").read_text() == f"{header}\n"


def test_device_and_time_narrow_it(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["export", "results", "--config", config, "--device", OTHER, "--since", "2026-11-01T00:01:00Z"]
    assert main(command) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["device"], row["ts"], row["model"], row["verdict"]) for row in found] == [
        (OTHER, "2026-11-01T00:01:00Z", "classifier", "faulty"),
        (OTHER, "2026-11-01T00:01:00Z", "detector", "anomalous"),
    ]


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--since", "yesterday"], 2, "'yesterday' is not a time such as"),
        (["--format", "parquet"], 2, "needs --out FILE"),
        (["--out", "no/such/folder/x"], 1, "cannot be written"),
    ],
)
def test_mistakes_are_named(
    config: str, more: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "results", "--config", config, *more]) == code
    assert words in capsys.readouterr().err


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other.toml"
    path.write_text('[store]\npath = "none.db"')
    assert main(["export", "alerts", "--config", str(path)]) == 1
    assert "no such store" in capsys.readouterr().err
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("note", ['=HYPERLINK("http://evil")', "+1", "-1+2", "@SUM(A1)", "\t=1", " =1", "＝1"])
def test_no_text_becomes_a_formula_in_a_spreadsheet(config: str, store: Store, tmp_path: Path, note: str) -> None:
    """C7: CSV formulas exported raw."""
    store.add_verdict(alert(1).alert_id, "real", note)
    assert main(["export", "labels", "--config", config, "--format", "csv", "--out", str(tmp_path / "csv")]) == 0
    assert main(["export", "labels", "--config", config, "--format", "jsonl", "--out", str(tmp_path / "jsonl")]) == 0
    with (tmp_path / "csv").open(newline="") as file:
        assert next(csv.DictReader(file))["note"] == f"'{note}"
    assert json.loads((tmp_path / "jsonl").read_text().splitlines()[0])["note"] == note


def test_numbers_stay_numbers_in_csv(config: str, tmp_path: Path) -> None:
    assert main(["export", "results", "--config", config, "--format", "csv", "--out", str(tmp_path / "csv")]) == 0
    with (tmp_path / "csv").open(newline="") as file:
        assert all(float(row["score"]) > 0 for row in csv.DictReader(file))
