"""How long a version is supported: said in one place, and the same everywhere."""

from __future__ import annotations

import doctest
import json
import re
from datetime import date, timedelta
from pathlib import Path

import pytest
from fieldwatch_agent.__main__ import main
from fieldwatch_agent.send.journal import FILE, Journal, read_status
from fieldwatch_agent.status import describe, supported
from fieldwatch_contract import support

from tests.conftest import ROOT


def test_the_examples_hold() -> None:
    outcome = doctest.testmod(support)
    assert outcome.attempted > 0 and outcome.failed == 0


def test_the_changelog_names_the_same_day() -> None:
    newest = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("\n## ")[1]
    assert re.findall(r"Supported until (\d{4}-\d\d-\d\d)\.", newest) == [support.UNTIL.isoformat()]


@pytest.mark.parametrize(
    ("days", "says"),
    [(91, ""), (90, "update the agent: support ends on"), (0, "support ends on"), (-1, "support ended on")],
)
def test_status_says_when_it_has_ended_or_will_soon(tmp_path: Path, days: int, says: str) -> None:
    Journal(tmp_path, 1 << 20).close()
    until = date(2027, 11, 30)
    status = supported(read_status(tmp_path / FILE), until, until - timedelta(days=days))
    (line,) = [line for line in describe(status, "press-0001").splitlines() if line.startswith("support ")]
    assert line.startswith("support   until 2027-11-30") and says in line
    assert (";" in line) == bool(says)


def test_status_and_version_have_it_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(
        '[device]\nid = "press-0001"\ntype = "press"\n[log]\npath = "readings.csv"\nperiod = "60s"\n'
        f"[state]\ndir = {json.dumps(str(tmp_path / 'state'))}\n"
    )
    Journal(tmp_path / "state", 1 << 20).close()
    assert main(["status", "--config", str(config), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["support"]["until"] == support.UNTIL.isoformat()
    assert main(["status", "--config", str(config)]) == 0
    assert f"\nsupport   until {support.UNTIL}" in capsys.readouterr().out
    assert main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["supported_until"] == support.UNTIL.isoformat()
