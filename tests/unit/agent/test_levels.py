"""The level in the agent: what a restart, another bundle and verdicts make of it, and that replay repeats it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fieldwatch_agent import status
from fieldwatch_agent.__main__ import main
from fieldwatch_agent.config import Config
from fieldwatch_agent.score import handover
from fieldwatch_agent.score.pipeline import Pipeline
from fieldwatch_agent.score.replay import Replay, Row
from fieldwatch_agent.send import said
from fieldwatch_agent.send.database import SAID, connect, read_meta, write_meta
from fieldwatch_agent.send.journal import Journal, Outbox, read_status
from fieldwatch_agent.send.progress import COPIES
from fieldwatch_contract import clock
from fieldwatch_contract.alerts import AlertRule, Said, alert_id
from fieldwatch_contract.bundle import Bundle, read_bundle
from fieldwatch_contract.events import AlertVerdict, HealthData, LevelNow, OutboxState, Verdicts
from fieldwatch_contract.level import AtBound, LevelRule

from tests.bundles import make_bundle

START = 1_768_608_000_000_000
DEVICE = "press-0001"
LADDER = tuple(float(9 * 1.2**step) for step in range(-8, 17))
LEVEL = LevelRule(ladder=LADDER, start=10, rise=4, hold=30, fall=40)
RULE = AlertRule(persistence=2, resolve_after=5)
LENGTH = 8


def bundle(version: str = "v1", **options: Any) -> Bundle:
    return read_bundle(make_bundle(2, version, **({"level": LEVEL, "rule": RULE, "lookback": 1} | options)))


class Device:
    """A device with a log of its own, its agent and what people say; ``die()`` leaves nothing but the journal."""

    def __init__(self, folder: Path, used: Bundle) -> None:
        self.log = folder / "readings.csv"
        self.log.write_text("timestamp,s0,s1\n")
        self.toml = folder / "agent.toml"
        wanted = {"device": {"id": DEVICE, "type": "press"}, "log": {"path": str(self.log), "period": "60s"},
                  "state": {"dir": str(folder / "state")}}  # fmt: skip
        self.toml.write_text("".join(f"[{name}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in keys.items())
                                     for name, keys in wanted.items()))  # fmt: skip
        self.config = Config.model_validate(wanted)
        self.rows = 0
        self.use(used)

    def use(self, used: Bundle) -> None:
        """Begin with a bundle, as at a start."""
        if hasattr(self, "journal"):
            self.journal.close()
        self.bundle = used
        self.journal = Journal(self.config.state.dir, 1 << 30)
        self.pipeline = Pipeline(self.config, used, self.journal)

    def die(self) -> None:
        self.use(self.bundle)

    def reads(self, scores: Iterable[float], sensor: int = 0) -> None:
        """Write rows that score about ``scores`` and carry them all."""
        with self.log.open("a") as file:
            for score in scores:
                values = [10.0, 10.0]
                values[sensor] += 2 * score**0.5
                file.write(f"{clock.iso(START + self.rows * clock.MINUTE)},{values[0]},{values[1]}\n")
                self.rows += 1
        self.carry()

    def carry(self) -> None:
        while self.pipeline.step() is not None:
            pass

    def fails(self, score: float, rows: int = LENGTH, sensor: int = 0) -> None:
        """An alert and its end."""
        self.reads([score] * rows, sensor)
        self.reads([0.0] * 9)

    def hears(self, *verdicts: tuple[str, str | None]) -> None:
        document = Verdicts(verdicts=[AlertVerdict(alert_id=a, model="detector", verdict=v) for a, v in verdicts])
        self.pipeline.hear(self.journal.hear(document))

    def alerts(self) -> list[dict[str, Any]]:
        with closing(Outbox(self.journal.path)) as outbox:
            return [json.loads(each.data) for each in outbox.pending(0, 10**6) if each.event == "alert"]

    def opened(self) -> list[dict[str, Any]]:
        return [alert for alert in self.alerts() if alert["transition"] == "opened"]

    def state(self) -> Any:
        return self.journal.progress().alerts["detector"]

    def replayed(self, used: Bundle | None = None) -> tuple[list[Row], Any]:
        """One pass over the log with what the journal says people said: its rows, and the state after them."""
        replay = Replay(used or self.bundle, self.config.log, DEVICE, self.journal.said())
        rows = list(replay.rows([self.log]))
        return rows, replay._states["detector"]


@pytest.fixture
def device(tmp_path: Path) -> Iterable[Device]:
    one = Device(tmp_path, bundle())
    yield one
    one.journal.close()


# ---- restarts and verdicts ------------------------------------------------------------------------------------------


def test_a_restart_changes_nothing_wherever_it_comes(device: Device) -> None:
    """Also not what is read again to fill the window: it was folded before."""
    rng = np.random.default_rng(3)
    for _ in range(12):
        device.reads(rng.gamma(1, 3, 20))
        device.reads([float(rng.choice([40.0, 60.0, 90.0]))] * int(rng.integers(1, 6)))
        device.die()
    assert len(device.opened()) > 3
    assert device.state() == device.replayed()[1]


def test_what_people_say_holds_from_the_next_row_and_is_said_once(device: Device) -> None:
    device.fails(60)
    first = device.opened()[0]["alert_id"]
    rung = device.state().rung
    device.hears((first, "real"))
    assert device.state().rung == rung, "rows that are decided stay decided"
    device.reads([0.0])
    assert device.state().rung == rung - LEVEL.rise
    known = device.journal.said()
    assert known == (Said(first, "detector", "real", START + (LENGTH + 8) * clock.MINUTE + 1),)
    for _ in range(3):
        device.hears((first, "real"))  # with each connection
        device.die()
        device.reads([0.0])
    assert device.journal.said() == known
    device.hears((first, None))
    device.reads([0.0])
    assert device.state().rung == rung
    assert device.state() == device.replayed()[1]


def test_an_alert_like_a_dismissed_one_is_marked_and_names_what_it_is_like(device: Device) -> None:
    device.fails(60)
    device.hears((device.opened()[0]["alert_id"], "false"))
    device.reads([0.0])
    device.die()
    device.fails(60)
    device.fails(60, sensor=1)
    first, second, other = device.opened()
    assert (first["like"], second["like"], other["like"]) == (None, first["alert_id"], None)
    assert other["sensors"] == ["s1"]
    assert [alert["level"] for alert in (first, second)] == [LADDER[10], LADDER[14]]
    assert {alert["threshold"] for alert in device.alerts()} == {18.0}, "the bundle's stays beside it"
    assert device.state() == device.replayed()[1]


def test_a_verdict_on_an_alert_that_is_not_known_is_ignored_and_counted(device: Device) -> None:
    device.fails(60)
    device.hears(("0" * 32, "false"), ("1" * 32, "real"))
    device.reads([0.0])
    assert device.state().ignored == 2
    text = status.describe(read_status(device.journal.path), DEVICE)
    assert "verdicts  2 alerts judged, 2 times one that is not known here" in text


def test_results_keep_the_threshold_of_the_bundle(device: Device) -> None:
    """A row that is read again must equal the stored one, whatever the level has become."""
    device.fails(60)
    rows, _ = device.replayed()
    assert {row.threshold for row in rows} == {18.0}
    assert {row.level for row in rows} == {LADDER[10], LADDER[14]}
    assert [row.verdict for row in rows if row.score is not None] == [
        "anomalous" if row.score >= 18 else "normal" for row in rows if row.score is not None
    ]


def test_the_document_may_say_from_which_row_on_it_holds_and_never_reaches_back() -> None:
    one = AlertVerdict(alert_id="0" * 32, model="detector", verdict="real", since="2026-01-17T10:00:00Z")
    ten = clock.parse_iso("2026-01-17T10:00:00Z")
    assert said.with_new((), Verdicts(verdicts=[one]), None)[0].since == ten, "a log that is read again"
    assert said.with_new((), Verdicts(verdicts=[one]), ten - 1)[0].since == ten
    assert said.with_new((), Verdicts(verdicts=[one]), ten + 5)[0].since == ten + 6


def test_a_revised_verdict_replaces_one_that_would_hold_later() -> None:
    """A time to come, by a mistake or of bad intent, must not outlast what is said after it."""
    far = AlertVerdict(alert_id="0" * 32, model="detector", verdict="real", since="2199-01-01T00:00:00Z")
    known = said.with_new((), Verdicts(verdicts=[far]), START)
    now = AlertVerdict(alert_id="0" * 32, model="detector", verdict="false")
    assert said.with_new(known, Verdicts(verdicts=[now]), START + 5) == (
        Said("0" * 32, "detector", "false", START + 6),
    )


@pytest.mark.parametrize("word", ["unclear", "", "REAL", "delete everything"])
def test_a_word_that_nobody_knows_says_nothing(word: str) -> None:
    one = AlertVerdict(alert_id="0" * 32, model="detector", verdict=word)
    assert said.with_new((), Verdicts(verdicts=[one]), START) == ()


def test_what_people_said_is_bounded(device: Device) -> None:
    for block in range(20):
        ids = [f"{block * 200 + each:032x}" for each in range(200)]
        device.hears(*((each, "false") for each in ids))
    kept = device.journal.said()
    assert len(kept) == said.SAID_KEPT and kept[-1].alert_id == f"{20 * 200 - 1:032x}"


def test_a_lost_journal_is_made_again_with_what_people_said(device: Device) -> None:
    """The log is read again from its beginning; the document that the broker retained comes before the first row."""
    device.fails(60)
    first = device.opened()[0]
    device.hears((first["alert_id"], "false"))
    device.reads([0.0])
    device.fails(60)
    device.fails(60, sensor=1)
    before = [alert["like"] for alert in device.opened()]
    assert before == [None, first["alert_id"], None]
    device.journal.close()
    shutil.rmtree(device.config.state.dir)
    device.die()
    since = clock.iso(clock.parse_iso(first["ts"]) + 1)  # as the cloud says it of an open alert
    entry = AlertVerdict(alert_id=first["alert_id"], model="detector", verdict="false", since=since)
    device.pipeline.hear(device.journal.hear(Verdicts(verdicts=[entry])))
    device.carry()
    assert [alert["like"] for alert in device.opened()] == before
    assert device.state().ignored == 0


def test_damaged_verdicts_are_removed_and_nothing_else(device: Device) -> None:
    """They come again with the next connection; until then the state has what they did."""
    device.fails(60)
    device.hears((device.opened()[0]["alert_id"], "real"))
    device.reads([0.0])
    state = device.state()
    device.journal.close()
    with closing(connect(device.journal.path)) as db:
        db.execute("UPDATE meta SET value = replace(value, 'real', 'false') WHERE key = ?", (SAID,))
    device.die()
    assert device.journal.said() == ()
    assert any("what people said of alerts was removed" in what for what in device.journal.damage())
    assert device.state() == state
    device.hears((device.opened()[0]["alert_id"], "real"))
    device.reads([0.0])
    assert device.state().rung == state.rung


# ---- replay ---------------------------------------------------------------------------------------------------------


def test_replay_prints_level_and_alert_and_repeats_what_people_said(
    device: Device, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    device.fails(60)
    device.hears((device.opened()[0]["alert_id"], "false"), ("0" * 32, "real"))
    device.reads([0.0])
    device.fails(60)
    device.journal.close()
    zipped, record = tmp_path / "bundle.zip", tmp_path / "said.json"
    zipped.write_bytes(make_bundle(2, "v1", level=LEVEL, rule=RULE, lookback=1))
    record.write_text(json.dumps(read_status(device.journal.path)))
    command = ["replay", str(device.log), "--bundle", str(zipped), "--config", str(device.toml)]

    def printed(*more: str) -> tuple[list[dict[str, Any]], str]:
        assert main([*command, *more]) == 0
        out = capsys.readouterr()
        return [json.loads(line) for line in out.out.splitlines()], out.err

    rows, told = printed("--verdicts", str(record))
    assert "1 verdicts are on alerts that were not raised here" in told
    assert list(rows[0]) == [
        "ts", "model", "score", "threshold", "verdict", "sensors", "shares", "level", "alert"
    ]  # fmt: skip
    begun = [row["alert"] for row in rows if row["alert"] is not None]
    ids = list(dict.fromkeys(begun))
    assert ids == [alert_id(DEVICE, "detector", START + row * clock.MINUTE) for row in (0, LENGTH + 10)]
    assert rows[-1]["level"] == LADDER[14]
    assert printed()[0][-1]["level"] == LADDER[18], "without what was said it was another alert"
    assert main([*command[:4], "--verdicts", str(record)]) == 2
    assert "--verdicts needs --config" in capsys.readouterr().err
    record.write_text('{"verdicts": 3}')
    assert main([*command, "--verdicts", str(record)]) == 2
    assert "no list of verdicts" in capsys.readouterr().err
    device.journal = Journal(device.config.state.dir, 1 << 30)


# ---- another bundle -------------------------------------------------------------------------------------------------


def history(device: Device) -> None:
    device.fails(60)
    device.reads([0.0] * 50)
    device.fails(90, sensor=1)
    device.hears((device.opened()[0]["alert_id"], "false"))
    device.reads([0.0] * 30)


def test_a_new_bundle_begins_with_its_own_rule_folded_over_the_history(device: Device) -> None:
    """Never with what the old one has learnt to bear: its scores are others."""
    history(device)
    other = bundle("v2", level=replace_level(start=3, rise=1))
    device.use(other)
    device.carry()
    assert device.state() == device.replayed(other)[1]
    assert device.journal.progress().bundle == other.sha256
    device.reads([0.0])
    assert device.state() == device.replayed(other)[1]


def replace_level(**changes: Any) -> LevelRule:
    return LEVEL.model_copy(update=changes)


def test_a_bundle_that_comes_back_goes_on_from_its_own_state(device: Device) -> None:
    """After a rollback it is where it would be had the other one never run."""
    history(device)
    first = device.bundle
    device.use(bundle("v2", level=replace_level(start=3, rise=1)))
    device.carry()
    device.fails(90)
    device.log.rename(device.log.with_suffix(".old"))  # it must not need what it has folded already
    kept = device.journal.progress().kept[first.sha256]["detector"]
    device.log.with_suffix(".old").rename(device.log)
    assert kept.upto == START + (device.rows - LENGTH - 9 - 1) * clock.MINUTE
    device.use(first)
    device.carry()
    assert device.state() == device.replayed()[1]


def test_without_history_a_bundle_begins_where_its_maker_put_it(device: Device) -> None:
    """What is to come is folded, what was before is not: a verdict on an alert of then moves nothing."""
    history(device)
    device.log.unlink()
    other = bundle("v2", level=replace_level(start=3))
    device.use(other)
    device.carry()
    state = device.state()
    assert (state.rung, state.past, state.upto) == (3, (), START + (device.rows - 1) * clock.MINUTE)
    assert state.ignored == 0


def test_a_killed_handover_begins_again(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "BLOCK_BYTES", 500)
    history(device)
    other = bundle("v2", level=replace_level(start=3))
    device.use(other)
    for _ in range(3):
        assert device.pipeline.step() is not None
        device.die()
    device.carry()
    assert device.state() == device.replayed(other)[1]


def test_an_alert_that_both_bundles_find_goes_on(device: Device) -> None:
    device.reads([0.0] * 5 + [90.0] * 5)
    device.use(bundle("v2", level=replace_level(start=12)))
    device.carry()
    device.reads([0.0] * 9)
    assert [alert["transition"] for alert in device.alerts()] == ["opened", "resolved"]
    assert len({alert["alert_id"] for alert in device.alerts()}) == 1
    assert device.alerts()[1]["bundle"]["version"] == "v2"


def test_an_alert_that_the_new_bundle_does_not_find_is_resolved_with_the_reason(device: Device) -> None:
    device.reads([0.0] * 5 + [20.0] * 5)
    device.use(bundle("v2", level=replace_level(start=20)))
    device.carry()  # no line comes: the device may be off, and the alert open for ever
    ended = device.alerts()[-1]
    assert (ended["transition"], ended["alert_id"]) == ("resolved", device.opened()[0]["alert_id"])
    assert "press/v2, does not find it" in ended["reason"]
    device.die()
    device.reads([0.0] * 9)
    assert len(device.alerts()) == 2


def test_an_alert_that_only_the_new_bundle_finds_is_reported_with_the_next_row(device: Device) -> None:
    device.reads([0.0] * 5 + [10.0] * 5)
    assert device.alerts() == []
    device.use(bundle("v2", level=replace_level(start=5)))
    device.carry()
    assert device.alerts() == [], "there is no row to show yet"
    device.die()
    device.reads([11.0])
    opened = device.opened()[0]
    assert opened["opened_at"] == clock.iso(START + 5 * clock.MINUTE)
    assert opened["ts"] == clock.iso(START + 10 * clock.MINUTE)
    assert opened["evidence"]["sensors"] == ["s0"]
    device.reads([0.0] * 9)
    assert [alert["transition"] for alert in device.alerts()] == ["opened", "resolved"]


def test_a_journal_of_before_there_were_levels_is_taken_over(tmp_path: Path) -> None:
    """With the same bundle, which has none: its open alert goes on, and the log is not read again."""
    old = Device(tmp_path, bundle(level=None))
    old.reads([0.0] * 5 + [60.0] * 5)
    assert len(old.opened()) == 1
    progress = json.loads(read_meta(connect(old.journal.path), COPIES[0]) or "")
    alert = progress["alerts"]["detector"]["alert"]
    fields = ("above", "below", "first_above", "opened", "peak", "told", "rows", "kind", "threshold")
    progress = {key: progress[key] for key in ("position", "rewind", "newest", "rows")}
    progress["alerts"] = {"detector": {key: alert[key] for key in fields}}
    old.journal.close()
    with closing(connect(old.journal.path)) as db:
        for key in COPIES:
            write_meta(db, key, json.dumps(progress))
    assert "detector is open since" in status.describe(read_status(old.journal.path), DEVICE)
    old.use(old.bundle)
    old.carry()
    old.reads([0.0] * 9)
    assert [alert["transition"] for alert in old.alerts()] == ["opened", "resolved"]
    assert len({alert["alert_id"] for alert in old.alerts()}) == 1
    old.journal.close()


@pytest.mark.parametrize("level", [None, replace_level(adapt=False)])
def test_a_frozen_bundle_does_not_adapt(tmp_path: Path, level: LevelRule | None) -> None:
    device = Device(tmp_path, bundle(level=level))
    device.fails(60)
    device.hears((device.opened()[0]["alert_id"], "false"))
    device.reads([0.0] * 200)
    device.fails(60)
    assert {alert["level"] for alert in device.alerts()} == {18.0}
    assert {alert["like"] for alert in device.alerts()} == {None}
    assert {row.level for row in device.replayed()[0]} == {18.0}
    assert device.pipeline.levels == []
    device.journal.close()


# ---- what people see ------------------------------------------------------------------------------------------------


def test_the_level_and_its_bounds_are_shown(device: Device) -> None:
    (now,) = device.pipeline.levels
    assert (now.level, now.at_bound) == (LADDER[10], "")
    device.reads([0.0] * 800)
    (now,) = device.pipeline.levels
    assert (now.level, now.at_bound) == (LADDER[0], "lowest")
    device.reads([500.0] * 400)
    (now,) = device.pipeline.levels
    assert (now.level, now.at_bound) == (LADDER[-1], "highest")
    assert replace(device.state(), alert=None).rung == len(LADDER) - 1


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        ("", "level     detector alerts from 7.5 on\n"),
        ("lowest", "level     detector alerts from 7.5 on, the lowest that the bundle allows\n"),
        ("highest", "level     detector alerts from 7.5 on, the highest that the bundle allows\n"),
    ],
)
def test_status_shows_the_level_and_that_it_is_at_a_bound(device: Device, bound: AtBound, words: str) -> None:
    shown = read_status(device.journal.path)
    now = LevelNow(model="detector", level=7.5, at_bound=bound)
    health = HealthData(
        ts=clock.iso(clock.now()), agent="1", bundle=None, log="following", last_reading=None, lag_bytes=0,
        outbox=OutboxState(events=0, bytes=0, oldest=None), ledger=[], levels=[now],
    )  # fmt: skip
    assert words in status.describe(shown | {"health": health.model_dump()}, DEVICE)
