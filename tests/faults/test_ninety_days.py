"""Ninety days of a device whose agent is killed anywhere, while people judge its alerts: the bits of one pass.

``make soak`` runs it; with ``-s`` it prints what was cut, killed and compared.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fieldwatch_agent.config import Config
from fieldwatch_agent.score.pipeline import Pipeline
from fieldwatch_agent.send import said
from fieldwatch_agent.send.database import SAID, connect, write_meta
from fieldwatch_agent.send.journal import FILE, Journal, Outbox, read_progress, read_status
from fieldwatch_contract import clock
from fieldwatch_contract.bundle import read_bundle

from tests.conftest import Broker, wait_until
from tests.verdicts import BUNDLE, GOOD, START, Site, say

MINUTES = 90 * 24 * 60


def ninety_days(seed: int) -> list[str]:
    """A line a minute: quiet, with jobs that come back and look alike, and faults of other sensors."""
    rng = np.random.default_rng(seed)
    values = rng.normal(10, 1.2, (MINUTES, 3))
    for start in range(2_000, MINUTES - 500, 4_300):
        values[start : start + 40, 0] += 22
    for start in rng.integers(1_000, MINUTES - 2_000, 25).tolist():
        values[start : start + int(rng.integers(5, 900)), int(rng.integers(0, 3))] += float(rng.uniform(8, 40))
    times = clock.iso_column(START + np.arange(MINUTES) * clock.MINUTE)
    return [
        f"{ts},{a:.3f},{b:.3f},{c:.3f}\n" for ts, (a, b, c) in zip(times, values.tolist(), strict=True)
    ]  # fmt: skip


def alerts(journal: Path) -> list[dict[str, Any]]:
    """The alerts in the outbox; how far a picture's scores reach depends on the block, nothing else does."""
    with closing(Outbox(journal)) as outbox:
        found = [json.loads(each.data) for each in outbox.pending(0, 10**7) if each.event == "alert"]
    for one in found:
        if one["evidence"]:
            one["evidence"].pop("scores")
    return found


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_ninety_days_cut_and_killed_anywhere_are_one_pass(
    mosquitto: Callable[..., Broker], clean_env: Mapping[str, str], tmp_path: Path
) -> None:
    """Alerts, their levels, marks and sensors, and the rule's state: the bits of one pass over all of it, by replay and
    by an agent that nobody disturbs; given the rows from which the journal says that verdicts hold."""
    dice, broker = random.Random(7), mosquitto()
    lines = ninety_days(7)
    site = Site(tmp_path / "site", broker, clean_env)
    document: dict[str, dict[str, Any]] = {}
    written = kills = torn = 0
    site.start()
    try:
        while written < len(lines):
            count = dice.randint(3_000, 16_000)
            until = START + (written + dice.randint(0, count // 2)) * clock.MINUTE
            with site.log.open("a") as file:
                file.writelines(lines[written : written + count])
            written = min(written + count, len(lines))
            if dice.random() < 0.7:
                wait_until(partial(site.has_read, min(until, START + (written - 1) * clock.MINUTE)), "some rows")
            time.sleep(dice.uniform(0, 0.1))  # somewhere in a block, its commit, or after it
            site.end(signal.SIGKILL)
            kills += 1
            torn += site.newest < START + (written - 1) * clock.MINUTE
            for each in alerts(site.state / FILE) if (site.state / FILE).exists() else []:
                if each["transition"] == "opened" and dice.random() < 0.3:
                    document[each["alert_id"]] = GOOD | {
                        "alert_id": each["alert_id"], "verdict": dice.choice(["real", "false", "false", None]),
                    }  # fmt: skip
            latest = list(document.values())[-200:]
            say(broker, latest)
            site.start()
            if dice.random() < 0.7:
                wait_until(partial(site.has_heard, latest), "the verdicts")
        last = START + (len(lines) - 1) * clock.MINUTE
        wait_until(lambda: site.newest == last, "the log's end", 120)
        site.end(signal.SIGTERM)
    finally:
        if site.process is not None:
            site.end(signal.SIGKILL)
    ours = site.state / FILE
    told, progress = alerts(ours), read_progress(ours)
    status = tmp_path / "status.json"
    status.write_text(json.dumps(read_status(ours)))
    known = said.from_json(status.read_text())

    config = Config.model_validate(
        site.wanted | {"state": {"dir": str(tmp_path / "calm"), "outbox_limit": "500MB"}, "mqtt": None}
    )
    calm = Journal(config.state.dir, 1 << 30)
    with closing(connect(calm.path)) as db:
        write_meta(db, SAID, said.to_json(known))
    pipeline = Pipeline(config, read_bundle(BUNDLE), calm)
    while pipeline.step() is not None:
        pass
    assert calm.progress().alerts == progress.alerts
    assert alerts(calm.path) == told
    calm.close()

    zipped = tmp_path / "bundle.zip"
    zipped.write_bytes(BUNDLE)
    command = [sys.executable, "-m", "fieldwatch_agent", "replay", str(site.log), "--bundle", str(zipped),
               "--config", str(site.toml), "--verdicts", str(status)]  # fmt: skip
    done = subprocess.run(command, env=dict(clean_env), capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == len(lines)
    by_time = {row["ts"]: row for row in rows}
    opened = [each for each in told if each["transition"] == "opened"]
    assert [by_time[each["ts"]]["level"] for each in opened] == [each["level"] for each in opened]
    assert list(dict.fromkeys(row["alert"] for row in rows if row["alert"])) == [each["alert_id"] for each in opened]
    effective = [each for each in known if each.verdict is not None]
    alike = sum(each["like"] is not None for each in opened)
    assert kills >= 8 and torn and len(opened) > 30 and len(known) > len(effective) > 10 and alike
    print(
        f"\n90 days, {len(lines)} rows: killed {kills} times, {torn} of them before the log's end; {len(known)} "
        f"verdicts and revisions; {len(opened)} alerts, {alike} of them like a dismissed one: the same bits as one pass"
    )
