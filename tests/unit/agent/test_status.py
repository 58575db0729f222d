"""What ``status`` makes of the time at which the agent has reported last."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from fieldwatch_agent.send.journal import Journal, read_status
from fieldwatch_agent.status import describe
from fieldwatch_contract import clock
from fieldwatch_contract.events import HealthData


@pytest.mark.parametrize(
    ("ago", "says"),
    [
        (60, "60 s ago by agent 1"),
        (600, "600 s ago by agent 1; the agent does not run"),
        (-3 * 86_400, "259200 s ahead of this computer's clock: set back? by agent 1"),
    ],
)
def test_when_the_agent_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ago: int, says: str) -> None:
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)
    with closing(Journal(tmp_path, 1 << 30)) as journal:
        health = HealthData(
            ts=clock.iso(now - ago * clock.SECOND), agent="1", bundle=None, log="following", last_reading=None,
            lag_bytes=0, outbox=journal.outbox(), ledger=[],
        )  # fmt: skip
        journal.report(health)
        assert f"reported  {says}" in describe(read_status(journal.path), "press-0001")
