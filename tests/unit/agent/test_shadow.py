"""A new bundle's shadow: what it would have said of the last day, against what the running one says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fieldwatch_agent.config import Config
from fieldwatch_agent.score import shadow
from fieldwatch_agent.score.pipeline import Pipeline
from fieldwatch_agent.score.shadow import Shadow, objection, run_shadow
from fieldwatch_agent.score.window import REWIND_ROWS
from fieldwatch_agent.send.journal import Journal, Progress, read_progress
from fieldwatch_contract import clock
from fieldwatch_contract.alerts import AlertRule
from fieldwatch_contract.bundle import Bundle, read_bundle

from tests.bundles import make_bundle

START = 1_768_608_000_000_000
ROWS = 3000
FAULTS = (500, 1700, 1900, 2500)
"""Minutes at which the readings go far off, each for ten minutes."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Progress]:
    """A device whose agent has read a log of 3,000 minutes, rotated once, and where its journal stands."""
    folder = tmp_path_factory.mktemp("site")
    values = np.random.default_rng(1).normal(10, 0.2, (ROWS, 3))
    for minute in FAULTS:
        values[minute : minute + 10] += 40
    lines = [f"{clock.iso(START + i * clock.MINUTE)}," + ",".join(f"{v:.3f}" for v in values[i]) for i in range(ROWS)]
    for name, part in (("readings.csv.1", lines[:2000]), ("readings.csv", lines[2000:])):
        (folder / name).write_text("\n".join(["timestamp,s0,s1,s2", *part, ""]))
    config = Config.model_validate(
        {
            "device": {"id": "press-0001", "type": "press"},
            "log": {"path": str(folder / "readings.csv*"), "period": "60s"},
            "state": {"dir": str(folder / "state")},
        }
    )
    journal = Journal(folder / "state", 1 << 30)
    agent = Pipeline(config, bundle(), journal)
    while agent.step() is not None:
        pass
    journal.close()
    return config, read_progress(folder / "state" / "journal.db")


def bundle(**changes: object) -> Bundle:
    changes = {"rule": AlertRule(persistence=3), "classifier": True} | changes
    return read_bundle(make_bundle(3, lookback=5, **changes))  # type: ignore[arg-type]


def test_the_shadow_is_what_the_agent_said_of_the_last_day(site: tuple[Config, Progress]) -> None:
    config, progress = site
    found = run_shadow(bundle(), config.log, progress)
    assert found.readings == REWIND_ROWS == found.judged
    last_day = [minute for minute in FAULTS if minute >= ROWS - REWIND_ROWS]
    assert found.alerts == 2 * len(last_day), "one of each model for each fault"
    assert 10 * len(last_day) <= found.alarmed < 20 * len(last_day)


def test_casting_a_shadow_writes_nothing(site: tuple[Config, Progress]) -> None:
    config, progress = site
    folder = config.state.dir.parent
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    run_shadow(bundle(), config.log, progress)
    assert {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()} == before


CRIES = AlertRule(persistence=1, resolve_after=1)
STUCK = AlertRule(persistence=1)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ""),
        ({"mean": 10.1, "threshold": 30.0}, ""),
        ({"sensors": ["t0", "t1", "t2"]}, "it could judge 0 of the last 1440 readings here"),
        ({"threshold": 0.15, "rule": CRIES}, "it would have raised"),
        ({"threshold": 0.0001, "rule": STUCK}, "of the last 1440 readings here anomalous"),
    ],
)
def test_what_speaks_against_a_bundle(site: tuple[Config, Progress], changes: dict[str, object], says: str) -> None:
    config, progress = site
    sensors = changes.get("sensors", 3)
    others = {name: value for name, value in changes.items() if name != "sensors"}
    new = read_bundle(make_bundle(sensors, "v2", lookback=5, classifier=True, **others))  # type: ignore[arg-type]
    against = objection(run_shadow(bundle(), config.log, progress), run_shadow(new, config.log, progress))
    assert says in against and bool(says) == bool(against), against


def test_where_there_is_nothing_to_judge_by_nothing_speaks_against(
    site: tuple[Config, Progress], tmp_path: Path
) -> None:
    config, progress = site
    assert read_progress(tmp_path / "journal.db") == Progress()
    assert run_shadow(bundle(), config.log, Progress()) == Shadow()
    elsewhere = config.log.model_copy(update={"path": str(tmp_path / "gone.csv")})
    assert run_shadow(bundle(), elsewhere, progress) == Shadow()
    cries = Shadow(readings=shadow.LEAST_READINGS - 1, judged=29, alarmed=29, alerts=9)
    assert objection(replace(cries, alarmed=0, alerts=0), cries) == ""
    assert objection(Shadow(1440, 1440), Shadow()) == ""
