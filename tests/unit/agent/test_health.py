"""When the agent looks for troubles: with each line, every few seconds while it waits, and at once where it must."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from fieldwatch_agent import health
from fieldwatch_agent.config import Config
from fieldwatch_agent.health import LOOK_S, Reporter
from fieldwatch_agent.send.journal import FILE, Outbox
from fieldwatch_agent.send.view import read_status
from fieldwatch_contract.events import Ack

from tests.unit.agent.test_pipeline import Device, settings


def test_a_waiting_agent_looks_every_few_seconds_and_at_once_where_it_must(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(tmp_path, monkeypatch)
    reporter = Reporter(Config.model_validate(settings(device.folder)), device.journal)
    seconds = time.monotonic()
    monkeypatch.setattr(health, "time", SimpleNamespace(monotonic=lambda: seconds))

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


def test_components_are_told_until_they_are_queued_and_once_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While an older report waits to be acknowledged, this one is not queued: the next one has to say it again."""
    device = Device(tmp_path, monkeypatch)
    seconds = time.monotonic()
    monkeypatch.setattr(health, "time", SimpleNamespace(monotonic=lambda: seconds))

    def told(reporter: Reporter) -> bool:
        reporter.report(device.pipeline, [], "", "", 0)
        return read_status(device.folder / "state" / FILE)["health"]["components"] is not None

    config = Config.model_validate(settings(device.folder))
    first = Reporter(config, device.journal)
    assert [told(first), told(first)] == [True, False], "queued at once"
    seconds += health.COMPONENTS_S
    assert [told(first), told(first)] == [True, True], "one waits in the outbox"
    second = Reporter(config, device.journal)
    assert told(second)
    with closing(Outbox(device.folder / "state" / FILE)) as outbox:
        waiting = [message.seq for message in outbox.pending(0, 10**6)]
        outbox.acknowledge(Ack(epoch=outbox.epoch, upto=max(waiting)))
    assert [told(second), told(second)] == [True, False]
