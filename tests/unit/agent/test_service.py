"""The service and its bundles: what a model that fails costs, and when a new bundle counts as proven."""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_agent import service
from fieldwatch_agent.check import check
from fieldwatch_agent.config import Config
from fieldwatch_agent.score import pipeline
from fieldwatch_agent.score.pipeline import Pipeline, Step
from fieldwatch_agent.send.journal import FILE, Journal, JournalError, Outbox, read_status
from fieldwatch_agent.send.view import read_owner
from fieldwatch_agent.service import Service
from fieldwatch_agent.update import takeup
from fieldwatch_agent.update.activation import Activation
from fieldwatch_agent.update.states import TRIES
from fieldwatch_agent.update.takeup import PROVEN_BLOCKS
from fieldwatch_contract import clock
from fieldwatch_contract.bundle import BundleBroken
from fieldwatch_contract.events import Ack

from tests.bundles import make_bundle
from tests.conftest import wait_until

START = 1_768_608_000_000_000
FAILING = make_bundle(3, "v2", fails_above=1000)


def rows(minutes: range, value: float = 10.0) -> str:
    return "".join(f"{clock.iso(START + i * clock.MINUTE)},{value},{value},{value}\n" for i in minutes)


class Site:
    """A device with an hour of readings and a bundle."""

    def __init__(self, folder: Path, bundle: bytes) -> None:
        self.log = folder / "readings.csv"
        self.log.write_text("timestamp,s0,s1,s2\n" + rows(range(60)))
        self.state = folder / "state"
        self.config = Config.model_validate(
            {
                "device": {"id": "press-0001", "type": "press"},
                "log": {"path": str(self.log), "period": "60s"},
                "state": {"dir": str(self.state)},
            }
        )
        activation = Activation(self.state)
        activation.commit(self.install(bundle))
        assert self.run() == 0

    def install(self, data: bytes) -> str:
        """Make a bundle the current one, on probation."""
        activation = Activation(self.state)
        sha256 = activation.stage(data)
        activation.switch(sha256)
        return sha256

    def run(self) -> int:
        return Service(self.config, self.state.parent / "agent.toml").run(until_idle=True)

    def append(self, text: str) -> None:
        with self.log.open("a") as file:
            file.write(text)

    def judges(self) -> list[str]:
        """The bundle's version of each result, in the order of the log."""
        outbox = Outbox(self.state / FILE)
        found = [message.data.decode() for message in outbox.pending(0, 100_000) if message.event == "result"]
        outbox.close()
        return [data.partition('"bundle":"press/')[2][:2] for data in found]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A device that runs a proven v1."""
    monkeypatch.setattr(takeup, "PAUSE_S", 0.01)
    return Site(tmp_path, make_bundle(3, "v1"))


def test_a_model_that_fails_on_a_later_row_gives_way_to_the_last_good_one(site: Site) -> None:
    sha256 = site.install(FAILING)
    site.append(rows(range(60, 62)) + rows(range(62, 64), 5000))
    assert site.run() == 0
    state = Activation(site.state).state()
    assert state.current is not None
    assert state.current.version == "v1"
    refusal = state.refusal(sha256)
    assert refusal is not None
    assert refusal.reason.startswith("its model fails: models/detector.onnx: ")
    assert site.judges() == ["v1"] * 64, "no line is lost, none counts twice"


def test_a_model_that_fails_now_and_then_stays(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it may for want of memory."""
    site.install(make_bundle(3, "v2"))
    calls, step = itertools.count(), Pipeline.step

    def shaky(self: Pipeline, *scoring: Any) -> Step | None:
        if next(calls) % 8 < TRIES - 1:
            raise BundleBroken("its model fails: no memory")
        return step(self, *scoring)

    monkeypatch.setattr(Pipeline, "step", shaky)
    monkeypatch.setattr(pipeline, "BLOCK_BYTES", 10_000)
    site.append(rows(range(60, 500)))
    assert site.run() == 0
    assert site.judges()[60:] == ["v2"] * 440


def test_without_another_bundle_a_failing_model_is_tried_again_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeup, "PAUSE_S", 0.01)
    monkeypatch.setattr(service, "IDLE_LIMIT_S", 1.0)
    site = Site(tmp_path, FAILING)
    site.append(rows(range(60, 62), 5000))
    assert site.run() == 1
    health = read_status(site.state / FILE)["health"]
    assert "bundle press/v2 cannot score: its model fails" in health["log_detail"]  # type: ignore[index]
    site.install(make_bundle(3, "v3"))
    assert site.run() == 0
    assert site.judges() == ["v2"] * 60 + ["v3"] * 2
    assert read_status(site.state / FILE)["health"]["log_detail"] == ""  # type: ignore[index]


def test_without_a_bundle_waiting_for_idle_ends_though_health_events_come_and_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "IDLE_LIMIT_S", 2.0)
    monkeypatch.setattr(service, "HEALTH_S", 0.5)
    (tmp_path / "readings.csv").write_text("timestamp,s0\n" + clock.iso(START) + ",1\n")
    config = Config.model_validate(
        {
            "device": {"id": "press-0001", "type": "press"},
            "log": {"path": str(tmp_path / "readings.csv"), "period": "60s"},
            "state": {"dir": str(tmp_path / "state")},
        }
    )
    program, codes = Service(config, tmp_path / "agent.toml"), []
    thread = threading.Thread(target=lambda: codes.append(program.run(until_idle=True)), daemon=True)
    thread.start()
    wait_until((tmp_path / "state" / FILE).exists, "the journal")
    cloud, acknowledged, limit = Outbox(tmp_path / "state" / FILE), 0, time.monotonic() + 20
    while thread.is_alive() and time.monotonic() < limit:
        seqs = [message.seq for message in cloud.pending(0, 100)]
        acknowledged += cloud.acknowledge(Ack(epoch=cloud.epoch, upto=0, also=seqs))
        time.sleep(0.1)
    cloud.close()
    program.stop()
    thread.join()
    assert codes == [1]
    assert acknowledged > 1, "there was something that came and went"


def test_a_bundle_that_ends_the_program_is_refused_after_three_tries(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception is no end in good order: its start counts."""
    sha256 = site.install(make_bundle(3, "v2"))
    step = Pipeline.step

    def crash(self: Pipeline, scoring: Any) -> Step | None:
        if self.bundle.sha256 == sha256:
            with scoring():
                raise RuntimeError
        return step(self, scoring)

    monkeypatch.setattr(Pipeline, "step", crash)
    site.append(rows(range(60, 62)))
    for _ in range(TRIES):
        with pytest.raises(RuntimeError):
            site.run()
    assert site.run() == 0
    refusal = Activation(site.state).state().refusal(sha256)
    assert refusal is not None
    assert "tried 3 times" in refusal.reason
    assert site.judges() == ["v1"] * 62


def test_probation_lasts_until_rows_were_scored(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the lines that a restart reads again nor blocks of refused lines prove a bundle."""
    monkeypatch.setattr(pipeline, "BLOCK_BYTES", 256)
    sha256 = site.install(make_bundle(3, "v2"))
    site.append(rows(range(10 * PROVEN_BLOCKS)))  # older than the newest, so refused
    assert site.run() == 0
    assert sha256 not in Activation(site.state).state().proven
    site.append(rows(range(60, 60 + 10 * PROVEN_BLOCKS)))
    assert site.run() == 0
    assert sha256 in Activation(site.state).state().proven


def test_rows_without_their_past_are_told_before_they_are_unknown(tmp_path: Path) -> None:
    """Though the window is full again within the block, and though the report before is not acknowledged yet."""
    site = Site(tmp_path, make_bundle(3, "v1", lookback=30))
    site.log.unlink()
    site.log.write_text("timestamp,s0,s1,s2\n" + rows(range(60, 200)))
    assert site.run() == 0
    outbox = Outbox(site.state / FILE)
    events = [(message.event, message.data.decode()) for message in outbox.pending(0, 100_000)]
    outbox.close()
    told = [at for at, (event, data) in enumerate(events) if event == "health" and "window_unfilled" in data]
    unknown = [at for at, (event, data) in enumerate(events) if event == "result" and "window_unfilled" in data]
    assert len(unknown) == 29
    assert told
    assert told[0] < unknown[0]
    health = read_status(site.state / FILE)["health"]
    assert isinstance(health, dict)
    assert "window_unfilled" not in {trouble["kind"] for trouble in health["troubles"]}, "it is over"


def test_what_one_device_did_is_not_told_as_another_s(site: Site) -> None:
    """The PC stands beside another instrument now, or two configurations name one state folder."""
    scored = len(site.judges())
    site.config = site.config.model_copy(update={"device": site.config.device.model_copy(update={"id": "press-0002"})})
    site.append(rows(range(60, 65)))
    for _ in range(2):  # the first one let go of the folder
        with pytest.raises(JournalError, match="the journal of press-0001, and this device is press-0002") as refused:
            site.run()
        assert "move journal.db* out of it" in str(refused.value)
    assert len(site.judges()) == scored
    (finding,) = [each for each in check(site.config) if each.where == "[state] dir" and each.level == "error"]
    assert f"{finding.what}; {finding.remedy}" == str(refused.value)

    aside = site.state.parent / "aside"
    aside.mkdir()
    for file in site.state.glob(f"{FILE}*"):
        file.rename(aside / file.name)
    assert site.run() == 0
    assert len(site.judges()) == scored + 5, "the log was read from its beginning"


def test_a_journal_that_was_replaced_is_the_same_device_s(site: Site) -> None:
    """Its unsent alerts are carried over, and are no other device's."""
    with closing(sqlite3.connect(site.state / FILE)) as db, db:
        db.execute("DROP TABLE ledger")
    Journal(site.state, 1 << 30).close()
    assert list(site.state.glob(f"{FILE}.damaged-*"))
    assert read_owner(site.state / FILE) == "press-0001"


def test_a_journal_that_nobody_has_named_yet_is_taken_over(site: Site) -> None:
    with closing(sqlite3.connect(site.state / FILE)) as db, db:
        db.execute("DELETE FROM meta WHERE key = 'device'")
    assert site.run() == 0
    assert read_owner(site.state / FILE) == "press-0001"
