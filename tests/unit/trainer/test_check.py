"""The data report finds what is wrong with a lake, says where, and is quiet about a good one."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fieldwatch_trainer import check
from fieldwatch_trainer.checks import drift
from fieldwatch_trainer.lake import LakeError
from numpy.typing import NDArray

MINUTE = 60_000_000
START = 1_767_225_600_000_000
"""2026-01-01T00:00:00Z in µs."""


class Made:
    """A lake on disk with one healthy type ``press``; tests spoil a part of it."""

    def __init__(self, folder: Path, rows: int = 2000) -> None:
        self.folder = folder
        self.devices: list[dict[str, Any]] = []
        self.labels: list[dict[str, Any]] | None = []
        self.ts: dict[str, NDArray[np.int64]] = {}
        self.values: dict[str, dict[str, NDArray[np.float64]]] = {}
        for number in range(2):
            rng = np.random.default_rng(number)
            name = f"press-{number}"
            self.devices.append({"device": name, "device_type": "press", "period_s": 60.0})
            self.ts[name] = START + np.arange(rows) * MINUTE
            self.values[name] = {sensor: rng.standard_normal(rows) for sensor in ("flow", "heat")}
            self.label(name, 500, 560)

    def label(self, device: str, first: int, last: int, kind: str = "fault", sensors: tuple[str, ...] = ()) -> None:
        assert self.labels is not None
        start, end = START + first * MINUTE, START + last * MINUTE
        self.labels.append({"device": device, "start": start, "end": end, "label": kind, "sensors": list(sensors)})

    def write(self) -> Path:
        (self.folder / "readings").mkdir(parents=True, exist_ok=True)
        utc = pa.timestamp("us", tz="UTC")
        for name, ts in self.ts.items():
            table = pa.table({"device": [name] * len(ts), "ts": pa.array(ts, utc), **self.values[name]})
            pq.write_table(table, self.folder / "readings" / f"{name}.parquet")
        pq.write_table(pa.Table.from_pylist(self.devices), self.folder / "devices.parquet")
        if self.labels:
            schema = pa.schema(
                [
                    ("device", pa.string()),
                    ("start", utc),
                    ("end", utc),
                    ("label", pa.string()),
                    ("sensors", pa.list_(pa.string())),
                ]
            )
            pq.write_table(pa.Table.from_pylist(self.labels, schema), self.folder / "labels.parquet")
        return self.folder


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "lake")


def run(lake: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, Any]]:
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    code = check.main(parser.parse_args(["--lake", str(lake), "--json", *more]))
    return code, json.loads(capsys.readouterr().out)


def findings(result: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {one["kind"]: one for report in result["types"] for one in report["findings"]}


def test_a_good_lake_is_usable_and_gives_no_finding(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    code, result = run(made.write(), capsys)
    assert code == 0
    assert result["usable"]
    assert findings(result) == {}
    report = result["types"][0]
    assert [device["readings"] for device in report["devices"]] == [2000, 2000]
    assert report["devices"][0]["fault_rows"] == 61
    assert report["labels"] == {"fault": 2}
    assert report["sensors"][0]["psi"] < report["sensors"][0]["psi_chance"] * 3


def test_gaps_duplicates_and_disorder_are_counted(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    ts = made.ts["press-0"]
    ts[1000:] += 600 * MINUTE
    ts[11] = ts[10] + 1  # same period, other values
    ts[13] = ts[12] + 1
    for sensor in made.values["press-0"].values():
        sensor[13] = sensor[12]  # same period, same values
    ts[20], ts[21] = ts[21], ts[20]
    _, result = run(made.write(), capsys)
    device = result["types"][0]["devices"][0]
    assert (device["duplicates"], device["conflicting"], device["disorder"]) == (2, 1, 1)
    assert (device["gaps"], device["missing_periods"], device["longest_gap_s"]) == (3, 602, 36_000)
    found = findings(result)
    assert "10 h" in found["gaps"]["what"]
    assert found["conflicting-duplicates"]["severity"] == "told"
    assert found["time-backwards"]["device"] == "press-0"


def test_sensors_that_say_nothing_or_too_much(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(5)
    for name in ("press-0", "press-1"):
        made.values[name] |= {
            "frozen": np.full(2000, 7.0),
            "empty": np.full(2000, np.nan),
            "wild": np.where(np.arange(2000) == 99, np.inf, rng.standard_normal(2000)),
            "coded": np.where(np.arange(2000) == 5, -9.99e8, rng.standard_normal(2000)),
            "held": np.where((np.arange(2000) > 300) & (np.arange(2000) < 400), 1.0, rng.standard_normal(2000)),
        }
    made.values["press-1"]["half"] = rng.standard_normal(2000)
    code, result = run(made.write(), capsys)
    assert code == 0
    found = {kind: one["sensor"] for kind, one in findings(result).items()}
    assert found == {
        "constant": "frozen", "empty": "empty", "infinite": "wild", "outliers": "coded", "stuck": "held",
        "absent-sensor": "half",
    }  # fmt: skip


def test_every_sensor_constant_is_unusable(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    for values in made.values.values():
        for name in values:
            values[name][:] = 1.0
    code, result = run(made.write(), capsys)
    assert code == 3
    assert not result["usable"]
    assert "right columns exported" in findings(result)["nothing-varies"]["remedy"]


def test_too_few_readings_and_a_false_period_are_unusable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Made(tmp_path / "few", rows=100)
    made.labels = []
    code, result = run(made.write(), capsys)
    assert code == 3
    assert "200 readings in all" in findings(result)["too-few-readings"]["what"]
    made = Made(tmp_path / "period")
    for device in made.devices:
        device["period_s"] = 1.0
    code, result = run(made.write(), capsys)
    assert code == 3
    assert "set period_s of press-1 to 60" in findings(result)["wrong-period"]["remedy"]


def test_labels_are_judged(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made.label("press-0", 540, 600, "normal")
    made.label("press-0", 90_000, 90_010)
    made.label("press-1", 700, 710, sensors=("flow", "flwo"))
    made.label("pres-1", 700, 710)
    _, result = run(made.write(), capsys)
    found = findings(result)
    assert "overlap" in found["label-overlap"]["what"]
    assert "covers no reading" in found["label-outside"]["what"]
    assert "'flwo'" in found["label-unknown-sensor"]["what"]
    assert found["label-unknown-device"]["device"] == "pres-1"
    assert "is it press-" in found["label-unknown-device"]["what"]


def test_a_lake_without_labels_trains_a_detector_alone(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made.labels = None
    code, result = run(made.write(), capsys)
    assert code == 0
    assert "no labels" in findings(result)["no-labels"]["what"]


def test_mostly_faulty_and_a_single_faulty_device(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made.labels = []
    made.label("press-0", 0, 2000)
    made.label("press-0", 0, 2000, "anomaly")
    _, result = run(made.write(), capsys)
    assert "one-faulty-device" in findings(result)
    made.label("press-1", 200, 2000)
    _, result = run(made.write(), capsys)
    assert "100%" in findings(result)["faulty-throughout"]["what"]
    assert [device["anomaly_rows"] for device in result["types"][0]["devices"]] == [0, 0]


def test_a_recent_shift_stands_out_and_a_daily_cycle_does_not(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("press-0", "press-1"):
        made.values[name]["flow"][1800:] += 1.5
        made.values[name]["heat"] = np.sin(np.arange(2000) / 1440 * 2 * np.pi)  # the newest ninth sees a part of it
    _, result = run(made.write(), capsys)
    assert findings(result)["drift"]["sensor"] == "flow"
    heat = next(sensor for sensor in result["types"][0]["sensors"] if sensor["sensor"] == "heat")
    assert heat["psi"] > 0.25  # the usual limit would have cried wolf


def test_psi_under_the_null_is_what_the_formula_says() -> None:
    rng = np.random.default_rng(3)
    n, m = 2000, 500
    counts = [rng.multinomial(size, [1 / drift.BINS] * drift.BINS, 400).astype(float) for size in (n, m)]
    expected = (drift.BINS - 1) * (1 / n + 1 / m)
    assert drift.psi(*counts).mean() == pytest.approx(expected, rel=0.1)


def test_text_names_level_place_and_verdict(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made.labels = None
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    assert check.main(parser.parse_args(["--lake", str(made.write()), "--device-type", "press"])) == 0
    text = capsys.readouterr().out
    assert "2 devices, 2 sensors, a reading every 1 min, 4000 readings" in text
    assert text.index("no-labels (told)") < text.index("2 devices"), "the report begins with what to do"
    assert text.rstrip().endswith("usable for training")


def test_unknown_type_and_no_lake(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LakeError, match=r"devices\.parquet has: press"):
        run(made.write(), capsys, "--device-type", "pres")
    with pytest.raises(LakeError, match="no such lake"):
        run(made.folder / "none", capsys)
    made.devices.append({"device": "ghost", "device_type": "ghost", "period_s": 60.0})
    code, result = run(made.write(), capsys)
    assert code == 3
    assert "have no readings" in findings(result)["unreadable"]["what"]
