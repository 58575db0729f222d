"""A sensor that is stuck is named by the running agent, by the same rows before and after a restart."""

from __future__ import annotations

from pathlib import Path

import pytest
from fieldwatch_agent.config import Config
from fieldwatch_agent.health import Reporter
from fieldwatch_agent.send.journal import read_status
from fieldwatch_contract.bundle import Baseline
from fieldwatch_contract.clock import MINUTE, iso

from tests.unit.agent.test_pipeline import SENSORS, START, Device, settings

TRAINED = Baseline(
    mean=[10] * SENSORS, scale=[1] * SENSORS, low=[7] * SENSORS, high=[13] * SENSORS, still=[3] * SENSORS
)


def write(device: Device, first: int, stop: int, frozen: int | None = None) -> None:
    """Readings whose sensor s1 does not move from row ``frozen`` on."""
    device.now = START + stop * MINUTE
    lines = [device.reading(row).rstrip().split(",") for row in range(first, stop)]
    for row, fields in zip(range(first, stop), lines, strict=True):
        if frozen is not None and row >= frozen:
            fields[2] = "10.25"
    device.append("".join(f"{','.join(fields)}\n" for fields in lines))
    device.carry()


def told(device: Device) -> list[tuple[str, str]]:
    """What ``status`` says is wrong with sensors."""
    config = Config.model_validate(settings(device.folder))
    Reporter(config, device.journal).report(device.pipeline, [], "", "", 60)
    health = read_status(device.journal.path)["health"]
    return [(each["kind"], each["detail"]) for each in health["troubles"] if each["kind"] == "sensors_stuck"]


def test_a_sensor_that_is_stuck_is_named_until_it_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(tmp_path, monkeypatch, baseline=TRAINED)
    write(device, 0, 100)
    write(device, 100, 159, frozen=100)
    assert told(device) == []
    write(device, 159, 165, frozen=100)
    (trouble,) = told(device)
    assert "s1 at 10.25" in trouble[1] and iso(START + 100 * MINUTE) in trouble[1]
    stuck = device.pipeline.stuck
    device.restart()
    write(device, 165, 166, frozen=100)
    again = device.pipeline.stuck
    assert [(each.sensor, each.since, each.readings) for each in again] == [(1, START + 100 * MINUTE, 66)]
    assert [(each.sensor, each.since, each.readings) for each in stuck] == [(1, START + 100 * MINUTE, 65)]
    write(device, 166, 168)
    assert told(device) == []


def test_nothing_is_said_under_a_bundle_that_does_not_know_how_long_sensors_stand_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(tmp_path, monkeypatch)
    write(device, 0, 300, frozen=100)
    assert told(device) == []
