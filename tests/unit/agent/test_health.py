"""When the agent looks for troubles: with each line, every few seconds while it waits, and at once where it must."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fieldwatch_agent import health
from fieldwatch_agent.config import Config
from fieldwatch_agent.health import LOOK_S, Reporter

from tests.unit.agent.test_pipeline import Device, settings


def test_a_waiting_agent_looks_every_few_seconds_and_at_once_where_it_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(tmp_path, monkeypatch)
    reporter = Reporter(Config.model_validate(settings(device.folder)), device.journal)
    seconds = time.monotonic()
    monkeypatch.setattr(health.time, "monotonic", lambda: seconds)

    def report() -> None:
        reporter.report(device.pipeline, [], "", "", 60)

    assert reporter.looks, "nothing has been reported yet"
    report()
    seconds += LOOK_S / 2
    assert not reporter.looks
    seconds += LOOK_S / 2
    assert reporter.looks
    report()
    assert not reporter.looks
    reporter.hurry()
    assert reporter.looks
