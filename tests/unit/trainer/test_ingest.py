"""Logs become a lake: with the agent's readings, once each, whatever was refused told with its line."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from fieldwatch_agent.__main__ import main as agent
from fieldwatch_contract.clock import iso
from fieldwatch_trainer.__main__ import main
from fieldwatch_trainer.lake import Lake

from tests.lakes import MINUTE, START, LakeMaker, correlated

ROWS = 200


def lines(values: np.ndarray, names: Sequence[str] = ("a", "b"), first: int = 0, step: int = MINUTE) -> list[str]:
    times = (iso(START + (first + row) * step) for row in range(len(values)))
    rows = (",".join((ts, *map(str, each))) for ts, each in zip(times, values.tolist(), strict=True))
    return [",".join(("timestamp", *names)), *rows]


def write(file: Path, text: Sequence[str], encoding: str = "utf-8") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    content = ("\n".join(text) + "\n").encode(encoding)
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return file


def ingest(capsys: pytest.CaptureFixture[str], out: Path, *args: str | Path, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["ingest", *(str(each) for each in args), "--out", str(out), "--json"]) == code
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


@pytest.fixture
def values() -> np.ndarray:
    return correlated(ROWS, 2)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def rows_of(lake: Path, device: str = "press-0") -> tuple[list[int], np.ndarray]:
    opened = Lake(lake)
    readings = opened.readings(device, opened.sensors(opened.info(device).device_type))
    return readings.ts.tolist(), readings.values


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_log_in_any_encoding_becomes_a_lake(
    tmp_path: Path, lake: Path, values: np.ndarray, encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("a", "Öldruck") if encoding != "utf-8" else ("a", "b")
    log = write(tmp_path / "press-0" / "readings.csv", lines(values, names), encoding)
    more = []
    if encoding == "cp1252":
        (tmp_path / "agent.toml").write_text('[log]\npath = "x"\nperiod = "60s"\nencoding = "cp1252"\n')
        more = ["--config", tmp_path / "agent.toml"]
    (done,) = ingest(capsys, lake, log, "--device-type", "press", *more)["devices"]
    assert (done["device"], done["device_type"], done["period_s"]) == ("press-0", "press", 60.0)
    assert (done["count"]["read"], done["count"]["skipped"], done["added"]["new"]) == (ROWS + 1, 1, ROWS)
    assert Lake(lake).sensors("press") == list(names)
    ts, read = rows_of(lake)
    assert ts == [START + row * MINUTE for row in range(ROWS)]
    np.testing.assert_array_equal(read, values)


def test_rotated_packed_and_grown_logs_come_once(
    tmp_path: Path, lake: Path, values: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "logs" / "press-0"
    write(folder / "readings.csv.2.gz", lines(values[:80]))
    write(folder / "readings.csv.1", lines(values[80:150], first=80)[1:])  # no header of its own
    newest = write(folder / "readings.csv", lines(values[150:180], first=150)[1:])
    (done,) = ingest(capsys, lake, tmp_path / "logs")["devices"]
    assert (done["count"]["files"], done["added"]["new"]) == (3, 180)
    before = {file: file.read_bytes() for file in lake.rglob("*.parquet")}
    (done,) = ingest(capsys, lake, tmp_path / "logs")["devices"]
    assert (done["added"]["new"], done["added"]["known"]) == (0, 180)
    assert {file: file.read_bytes() for file in lake.rglob("*.parquet")} == before
    write(newest, lines(values[150:], first=150)[1:])
    (done,) = ingest(capsys, lake, tmp_path / "logs")["devices"]
    assert (done["added"]["new"], done["added"]["known"]) == (20, 180)
    np.testing.assert_array_equal(rows_of(lake)[1], values)


def test_what_is_refused_is_counted_by_reason_with_its_line(
    tmp_path: Path, lake: Path, values: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    text = lines(values)
    text[10] = "yesterday,1,2"
    text[20] += ",9"
    text[30] = text[30].replace(text[30].split(",")[1], "ERR")
    text.insert(5, "# a comment")
    file = write(tmp_path / "press-0" / "log.csv", text)
    file.write_bytes(file.read_bytes() + b"2026-01-02T00:00:00Z,1.5")  # torn
    (done,) = ingest(capsys, lake, file)["devices"]
    refused = done["count"]["refused"]
    assert {reason: one["count"] for reason, one in refused.items()} == {"timestamp": 1, "columns": 1, "torn": 1}
    assert refused["timestamp"]["where"] == f"{file} line 12"
    assert refused["torn"]["where"] == f"{file} line {ROWS + 3}"
    assert done["count"]["no_numbers"] == {"a": 1}
    assert done["count"]["skipped"] == 2
    main(["ingest", str(file), "--out", str(lake)])
    told = capsys.readouterr().out
    assert f"1 timestamp: {file} line 12" in told and "a: 1 values are no numbers" in told


def test_what_an_agent_would_have_refused_as_late_is_told(
    tmp_path: Path, lake: Path, values: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    text = lines(values)
    text[50], text[51], text[120] = text[51], text[50], text[101]  # one comes late, and one twice, an hour after
    file = write(tmp_path / "press-0" / "log.csv", text[:150])
    write(tmp_path / "press-0" / "log.csv.1", text[150:])
    write(tmp_path / "press-0" / "older.csv", lines(values[:30]))  # a copy: its readings are known, none is late
    (done,) = ingest(capsys, lake, tmp_path / "press-0")["devices"]
    assert done["count"]["late"] == 2
    assert done["count"]["first_late"].startswith(f"{file} line 52 has {iso(START + 49 * MINUTE)} after")
    assert rows_of(lake)[0] == [START + row * MINUTE for row in range(ROWS) if row != 119]
    main(["ingest", str(file), "--out", str(lake)])
    assert "2 readings are older than one before them in their file" in capsys.readouterr().out


def test_the_lake_has_the_readings_that_the_agent_replays(
    tmp_path: Path, lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same lines, refused and taken by the same parser: a replay and a score of the lake agree to the bit."""
    made = LakeMaker(tmp_path / "made", rows=900, count=1)
    made.fault("press-0", 300, 360)
    train = ["train", "--lake", str(made.write()), "--device-type", "press", "--out", str(tmp_path / "run")]
    assert main(train) == 0
    text = lines(made.values["press-0"], made.names)
    text[50] = "nonsense"
    log = write(tmp_path / "press-0" / "readings.csv", text)
    ingest(capsys, lake, log, "--device-type", "press")
    bundle = str(tmp_path / "run" / "bundle.zip")
    assert main(["score", "--bundle", bundle, "--lake", str(lake), "--out", str(tmp_path / "s.parquet")]) == 0
    capsys.readouterr()
    assert agent(["replay", str(log), "--bundle", bundle]) == 0
    replayed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    scored = pq.read_table(tmp_path / "s.parquet").to_pylist()
    assert len(replayed) == len(scored) > 800
    assert [one["score"] for one in replayed] == [one["score"] for one in scored]


def test_components_of_one_device_make_one_reading(
    tmp_path: Path, lake: Path, values: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of AWS Lookout for Equipment: a CSV a component, and intervals without column names."""
    root = tmp_path / "asset"
    pump = lines(values, ("flow", "heat"))
    write(root / "pump" / "pump.csv", [line.replace("timestamp", "Timestamp") for line in pump])
    later = [f"{iso(START + row * MINUTE + 7_000_000)},{row}" for row in range(ROWS)]
    write(root / "motor" / "motor.csv", ["Timestamp,rpm", *later])
    first, last = iso(START + 50 * MINUTE), iso(START + 60 * MINUTE)
    labels = write(tmp_path / "labels.csv", [f"{first},{last}", f"{last},{first}", "yesterday,today"])
    args = [root, "--device", "pump-1", "--device-type", "pump", "--labels", labels]
    result = ingest(capsys, lake, *args)
    assert result["labels"]["new"] == 1
    assert [each.split(" ", 1)[1] for each in result["labels"]["refused"]] == [
        "line 2: it ends before it starts", "line 3: 'yesterday' is not a time",
    ]  # fmt: skip
    opened = Lake(lake)
    assert sorted(opened.sensors("pump")) == ["flow", "heat", "rpm"]
    readings = opened.readings("pump-1", ["flow", "heat", "rpm"])
    assert len(readings.ts) == ROWS
    np.testing.assert_array_equal(readings.values, np.column_stack([values, np.arange(ROWS)]))
    (label,) = opened.labels("pump-1")
    assert (iso(label.start), iso(label.end), label.label) == (first, last, "fault")
    assert ingest(capsys, lake, *args)["labels"]["new"] == 0
    assert len(Lake(lake).labels("pump-1")) == 1


def test_many_devices_from_a_table(
    tmp_path: Path, lake: Path, values: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in" / "one.csv", lines(values))
    write(tmp_path / "in" / "two-1.csv", lines(values[:100], step=10_000_000))
    write(tmp_path / "in" / "two-2.csv", lines(values[100:], first=100, step=10_000_000))
    devices = ["device,device_type,period,logs", "p-1,press,60s,in/one.csv", "l-1,lathe,,in/two-*"]
    table = write(tmp_path / "devices.csv", devices)
    label = f"{iso(START)},{iso(START + MINUTE)},l-1,maintenance,a b"
    labels = write(tmp_path / "labels.csv", ["start,end,device,label,sensors", label])
    done = ingest(capsys, lake, "--devices", table, "--labels", labels)["devices"]
    assert [(one["device"], one["device_type"], one["period_s"], one["added"]["new"]) for one in done] == [
        ("p-1", "press", 60.0, ROWS), ("l-1", "lathe", 10.0, ROWS),
    ]  # fmt: skip
    assert Lake(lake).labels("l-1")[0].label == "maintenance" and Lake(lake).labels("l-1")[0].sensors == ("a", "b")


def test_long_and_json(tmp_path: Path, lake: Path, values: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    text = ["time,sensor,value"]
    objects = []
    for row, (a, b) in enumerate(values.tolist()):
        ts = iso(START + row * MINUTE)
        text += [f"{ts},a,{a}", f"{ts},b,{b}"]
        objects.append(json.dumps({"timestamp": ts, "a": a, "b": b}))
    write(tmp_path / "long-1" / "log.csv", text)
    write(tmp_path / "json-1" / "log.jsonl", objects)
    ingest(capsys, lake, tmp_path / "long-1", "--format", "long", "--period", "60s")
    ingest(capsys, lake, tmp_path / "json-1", "--format", "jsonl")
    np.testing.assert_array_equal(rows_of(lake, "json-1")[1], values)
    np.testing.assert_array_equal(rows_of(lake, "long-1")[1], values[:-1])  # the last one may still grow
    write(tmp_path / "long-1" / "log.csv", [*text, f"{iso(START + ROWS * MINUTE)},a,1"])
    ingest(capsys, lake, tmp_path / "long-1", "--format", "long", "--period", "60s")
    np.testing.assert_array_equal(rows_of(lake, "long-1")[1], values)


@pytest.mark.parametrize("header", ["time,sensor,value", "Timestamp,Tag Name,Messwert"])
def test_how_a_log_is_written_and_its_odd_period_are_found_out(
    tmp_path: Path, lake: Path, values: np.ndarray, header: str, capsys: pytest.CaptureFixture[str]
) -> None:
    step = 97_000_000
    text, objects = [header], []
    for row, (a, b) in enumerate(values.tolist()):
        ts = iso(START + row * step)
        text += [f"{ts},a,{a}", f"{ts[:-1]}.004Z,b,{b}"]  # the second one a moment later
        text += [f"{ts},rare,1"] * (row % 10 == 9)
        objects.append(json.dumps({"timestamp": ts, "a": a, "b": b}))
    write(tmp_path / "long-1" / "log.csv", text)
    write(tmp_path / "json-1" / "log.jsonl", objects)
    ingest(capsys, tmp_path / "asked", tmp_path / "long-1", "--format", "long", "--period", "97s")
    (done,) = ingest(capsys, lake, tmp_path / "long-1")["devices"]
    assert (done["format"], done["period_s"]) == ("long", 97.0)
    assert rows_of(lake, "long-1")[0] == rows_of(tmp_path / "asked", "long-1")[0]
    assert rows_of(lake, "long-1")[1].tobytes() == rows_of(tmp_path / "asked", "long-1")[1].tobytes()
    (done,) = ingest(capsys, lake, tmp_path / "json-1")["devices"]
    assert (done["format"], done["period_s"]) == ("jsonl", 97.0)

    assert main(["ingest", str(tmp_path / "long-1"), "--out", str(tmp_path / "said")]) == 0
    said = capsys.readouterr().out
    assert f"{len(text)} lines with a value each (format long), 0 refused" in said and "one every 97 s" in said


def test_numbers_under_a_word_for_sensors_are_a_sensor_all_the_same(
    tmp_path: Path, lake: Path, values: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "press-0" / "log.csv", lines(values, ("Channel", "Value")))
    (done,) = ingest(capsys, lake, tmp_path / "press-0")["devices"]
    assert (done["format"], done["sensors"]) == ("csv", ["Channel", "Value"])


def test_a_column_of_text_and_a_number_for_no_value(
    tmp_path: Path, lake: Path, values: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    values[::10, 0] = -9999
    text = [line + ("," + ("operator" if row == 0 else "Kim")) for row, line in enumerate(lines(values))]
    write(tmp_path / "press-0" / "log.csv", text)
    (done,) = ingest(capsys, lake, tmp_path / "press-0", "--missing", "-9999")["devices"]
    assert done["sensors"] == ["a", "b"]
    assert done["count"]["no_numbers"] == {"operator": ROWS}
    assert np.isnan(rows_of(lake)[1][::10, 0]).all()


def test_a_column_that_comes_later_is_a_sensor_too(
    tmp_path: Path, lake: Path, values: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    text = lines(values[:100]) + lines(np.column_stack([values[100:], values[100:, 0]]), ("a", "b", "c"), first=100)
    write(tmp_path / "press-0" / "log.csv", text)
    (done,) = ingest(capsys, lake, tmp_path / "press-0")["devices"]
    assert done["sensors"] == ["a", "b", "c"] and done["added"]["new"] == ROWS
    assert np.isnan(rows_of(lake)[1][:100, 2]).all()


NAMES = ("Druck", "Fluss [l/min]")


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("Fluss [l/min]", (NAMES[1],)),
        ("Druck;Fluss [l/min]", NAMES),
        ("Druck | Fluss [l/min]", NAMES),
        ('"Druck, Fluss [l/min]"', NAMES),
        ("Druck", (NAMES[0],)),
        ("", ()),
    ],
)
def test_labels_name_sensors_as_the_log_does(
    tmp_path: Path,
    lake: Path,
    values: np.ndarray,
    cell: str,
    found: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = write(tmp_path / "press-0" / "readings.csv", lines(values, NAMES))
    line = f"{iso(START)},{iso(START + 9 * MINUTE)},fault,{cell}"
    labels = write(tmp_path / "labels.csv", ["start,end,label,sensors", line])
    ingest(capsys, lake, log, "--labels", labels)
    assert Lake(lake).labels("press-0")[0].sensors == found


def test_one_devices_configuration_does_not_make_one_device_of_many_logs(
    tmp_path: Path, lake: Path, values: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor are its times taken for UTC without a word where the log has no zone."""
    naive = [line.replace("Z", "") for line in lines(values)]
    for name in ("press-0", "press-1"):
        write(tmp_path / "logs" / name / "readings.csv", naive)
    toml = tmp_path / "agent.toml"
    toml.write_text(
        '[device]\nid = "press-0"\ntype = "press"\n[log]\npath = "logs/press-0/*.csv"\nperiod = "60s"\n'
        '[log.timestamp]\ntimezone = "Europe/Berlin"\n'
    )
    done = ingest(capsys, lake, tmp_path / "logs", "--config", toml)["devices"]
    assert [(one["device"], one["added"]["new"], one["count"]["zone"]) for one in done] == [
        ("press-0", ROWS, "Europe/Berlin"), ("press-1", ROWS, "Europe/Berlin"),
    ]  # fmt: skip
    assert [one["device"] for one in ingest(capsys, lake, "--config", toml)["devices"]] == ["press-0"]
    other = tmp_path / "PRESS 9" / "readings.csv"
    assert main(["ingest", str(write(other, naive)), "--out", str(lake)]) == 0
    told = capsys.readouterr().out
    assert "'PRESS 9' is no id that an agent may have" in told
    assert "times have no zone and are taken as UTC; another one: [log.timestamp] timezone" in told
    assert main(["ingest", str(write(other, lines(values))), "--out", str(lake)]) == 0
    assert "zone" not in capsys.readouterr().out


def test_what_stands_in_the_lake_stays_and_a_contradiction_is_counted(
    tmp_path: Path, lake: Path, values: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    log = write(tmp_path / "press-0" / "log.csv", lines(values))
    ingest(capsys, lake, log)
    write(log, lines(values + 1))
    (done,) = ingest(capsys, lake, log)["devices"]
    assert done["added"] == {"new": 0, "known": ROWS, "conflicts": 2 * ROWS}
    np.testing.assert_array_equal(rows_of(lake)[1], values)


def test_a_damaged_packed_file_gives_what_it_has_and_exit_1(
    tmp_path: Path, lake: Path, values: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "press-0" / "log.csv.gz", lines(values))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    (done,) = ingest(capsys, lake, file, code=1)["devices"]
    assert "log.csv.gz: the packed file ends too early" in done["count"]["problems"][0]
    assert 0 < done["added"]["new"] < ROWS


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["no-such.csv"], "no-such.csv: there is no log"),
        ([], "name a log"),
        (["press-0", "--period", "1"], r"\[log\] period: '1' is not an amount with a unit"),
        (["few", "--format", "long"], "too few values to measure their period: say --period"),
        (["press-0", "--config", "none.toml"], "none.toml: cannot be read"),
        (["press-0", "--labels", "press-0/log.csv"], "neither a time nor the names"),
        (["--devices", "press-0/log.csv"], "column 'device' is missing"),
        (["press-0", "--device-type", "lathe"], "press-0 stands there as press"),
    ],
)
def test_wrong_usage_is_told(
    tmp_path: Path, lake: Path, values: np.ndarray, args: list[str], told: str,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "press-0" / "log.csv", [line.replace("timestamp", "when") for line in lines(values)])
    write(tmp_path / "few" / "log.csv", ["time,sensor,value", *(f"{iso(START)},{name},1" for name in "abcd")])
    ingest(capsys, lake, tmp_path / "press-0", "--device-type", "press")
    if "lathe" not in args and "press-0" in args:
        args = [*args, "--device-type", "press"]
    assert main(["ingest", *args, "--out", str(lake)]) == 2
    assert re.search(told, capsys.readouterr().err)


def test_a_file_without_a_reading_is_told(tmp_path: Path, lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "press-0" / "notes.txt", ["hello", "world"])
    assert main(["ingest", str(tmp_path / "press-0"), "--out", str(lake)]) == 1
    assert "no reading: is --format right?" in capsys.readouterr().out
    assert not lake.exists()
