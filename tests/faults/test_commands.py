"""Commands through a real broker to a real agent and back: each is done at most once and answered once, or expires."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_agent.send.database import COMMANDS, connect, read_meta
from fieldwatch_agent.send.journal import FILE, Journal, read_progress
from fieldwatch_agent.send.seen import Seen, from_json
from fieldwatch_agent.update.activation import Activation
from fieldwatch_cloud.store import Store, commands
from fieldwatch_cloud.store import tables as t
from fieldwatch_contract import clock
from fieldwatch_contract.alerts import AlertRule
from fieldwatch_contract.commands import Arguments, Command, CommandData
from fieldwatch_contract.topics import topic
from paho.mqtt import publish
from paho.mqtt.enums import MQTTProtocolVersion
from sqlalchemy import select, update

from tests.bundles import make_bundle
from tests.conftest import Broker, wait_until
from tests.delivery import DEVICE
from tests.updates import Site as Repository
from tests.updates import serve

START = clock.parse_iso("2026-01-17T00:00:00Z")
MINUTES = 400
LONG = 90.0
"""Seconds to wait for an answer: a process starts for it, on a machine that does other things."""


def at(minute: int) -> str:
    return clock.iso(START + minute * clock.MINUTE)


class Site:
    """A device whose agent is a real process at a real broker; its fault lasts from minute 200 to 219."""

    def __init__(self, folder: Path, url: str, environment: Mapping[str, str], privacy: str, updates: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.toml, self.state, self.log = folder / "agent.toml", folder / "state", folder / "readings.csv"
        rows = [f"{at(minute)},{10 + 30 * (200 <= minute < 220)},10,11\n" for minute in range(MINUTES)]
        self.log.write_text("timestamp,s0,s1,s2\n" + "".join(rows))
        text = f'[device]\nid = "{DEVICE}"\ntype = "press"\n[log]\npath = "readings.csv"\nperiod = "60s"\n'
        text += f'[mqtt]\nurl = "{url}"\n[state]\ndir = "state"\n[privacy]\nevidence = "{privacy}"\n'
        self.toml.write_text(text + updates)
        activation = Activation(self.state)
        bundle = make_bundle(3, "v1", lookback=1, rule=AlertRule(persistence=3, resolve_after=3))
        activation.switch(activation.stage(bundle))
        self._environment = dict(environment)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "fieldwatch_agent", "run", "--config", str(self.toml)]
        with self.toml.with_name("agent.out").open("ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=self._environment)

    def end(self, how: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(LONG)
            self.process = None

    @property
    def path(self) -> Path:
        return self.state / FILE

    def has_read(self) -> bool:
        newest = read_progress(self.path).newest if self.path.exists() else None
        return newest == START + (MINUTES - 1) * clock.MINUTE

    def seen(self) -> dict[str, str]:
        """What the journal remembers: the state of each command by its id."""
        with closing(connect(self.path)) as db:
            return {each.id: each.state for each in from_json(read_meta(db, COMMANDS))}


@pytest.fixture
def site(
    tmp_path: Path, mosquitto: Callable[..., Broker], clean_env: Mapping[str, str]
) -> Iterator[Callable[..., tuple[Site, Broker]]]:
    made: list[Site] = []

    def make(privacy: str = "full", updates: str = "") -> tuple[Site, Broker]:
        broker = mosquitto()
        made.append(Site(tmp_path / "device", broker.url, clean_env, privacy, updates))
        return made[-1], broker

    yield make
    for each in made:
        each.end(signal.SIGKILL)


def ask(store: Store, kind: Any, **arguments: str) -> str:
    return store.give_command(DEVICE, kind, Arguments(**arguments), "eva@lab.example")


def given(store: Store, name: str) -> commands.Given:
    with store.read() as db:
        found = commands.one(db, DEVICE, name)
    assert found is not None
    return found


def answered(store: Store, name: str) -> commands.Given:
    wait_until(lambda: given(store, name).outcome, f"an answer to {name}", LONG)
    return given(store, name)


def value(store: Store, column: Any) -> Any:
    """The one value of a column, as it is now."""
    with store.read() as db:
        return db.execute(select(column)).scalar()


def is_online(store: Store) -> bool:
    return bool(value(store, t.device.c.status) == "online")


def say(broker: Broker, payload: bytes) -> None:
    """Publish on the device's topic what ingest would never publish."""
    publish.single(
        topic(DEVICE, "command"), payload, qos=1, hostname="127.0.0.1", port=broker.port,
        protocol=MQTTProtocolVersion.MQTTv5,
    )  # fmt: skip


def strange(store: Store) -> list[str]:
    """What was set aside, as the answers to commands that nobody gave are."""
    with store.read() as db:
        return list(db.execute(select(t.quarantine.c.reason).order_by(t.quarantine.c.id)).scalars())


@pytest.mark.timeout(300)
def test_what_people_ask_is_done_once_and_within_what_the_device_allows(
    site: Callable[..., tuple[Site, Broker]], taken: Callable[..., Store], tmp_path: Path
) -> None:
    repository = Repository.make(tmp_path / "updates")
    repository.publish(make_bundle(3, "v2", lookback=1, rule=AlertRule(persistence=3)))
    (tmp_path / "device").mkdir()
    (tmp_path / "device" / "root.json").write_bytes(repository.root)
    with serve(repository.repo) as server:
        updates = f'[updates]\nurl = "{server.url}"\ninterval = "7d"\n'
        server.answers["timestamp"] = lambda handler: handler.send_error(503)  # the update at the start finds nothing
        device, broker = site("on-alert", updates)
        store = taken(broker.url)
        device.start()
        wait_until(lambda: is_online(store) and device.has_read(), "the device", LONG)
        alert = wait_until(lambda: value(store, t.alert.c.alert_id), "its alert", LONG)

        replay, around = ask(store, "replay", start=at(190), end=at(389)), ask(store, "evidence", alert_id=alert)
        free = ask(store, "evidence", start=at(190), end=at(210))
        found = answered(store, replay)
        assert found.outcome == "done" and found.reply is not None and found.reply.bundle == "press/v1", found
        (model,) = found.reply.replay
        assert (model.rows, model.raised, model.unknown) == (200, 20, 0)
        assert model.highest_at == at(200) and model.highest == pytest.approx(15**2 + 0.25)

        found = answered(store, around)
        assert found.outcome == "done" and found.reply is not None and found.reply.evidence is not None, found
        picture = found.reply.evidence
        assert picture.sensors[0] == "s0" and picture.times[0] == at(200 - 119)
        assert picture.values[0][119:139] == [40.0] * 20 and len(picture.times) < 150, "nothing after the alert"
        refused = answered(store, free)
        assert refused.outcome == "refused" and "with an alert alone" in (refused.detail or "")

        server.answers.clear()
        done = answered(store, ask(store, "update"))
        assert (done.outcome, done.reply and done.reply.bundle) == ("done", "press/v2"), done

        early = clock.iso(clock.now() - clock.DAY)
        data = CommandData(kind="update", expires_at=clock.iso(clock.now() + clock.MINUTE), issuer="?")
        mine = Command(id="e" * 32, subject=DEVICE, time=clock.iso(clock.now()), data=data)
        for wrong in (
            b"{",
            mine.model_copy(update={"subject": "press-0002"}).model_dump_json().encode(),
            mine.model_copy(update={"id": "f" * 32, "time": early}).model_dump_json().encode(),
            mine.model_copy(update={"id": "f" * 32, "time": early}).model_dump_json().encode(),
        ):
            say(broker, wrong)
        wait_until(lambda: len(strange(store)) == 3, "three refusals, as one came twice", LONG)
        for reason, why in zip(strange(store), ("cannot be read", "it is for 'press-0002'", "an hour"), strict=True):
            assert reason.startswith(f"answers no command that was given to {DEVICE}: refused") and why in reason
        assert list(device.seen().values()).count("ended") == len(device.seen()) == 7
        _is_killed(device, broker, store)


def _is_killed(device: Site, broker: Broker, store: Store) -> None:
    """What was begun is not begun again; what was received and not begun is done; each has one answer."""
    first = ask(store, "replay", start=at(0), end=at(300))
    wait_until(lambda: device.seen().get(first) == "begun", "it to be begun", LONG)
    device.end(signal.SIGKILL)

    # as if it had been killed right after it had received another one
    second = ask(store, "replay", start=at(0), end=at(300))
    (command,) = [each for each, _ in store.commands_due() if each.id == second]
    with closing(Journal(device.state, 10**9)) as journal:
        waits = Seen(second, clock.now(), "waiting", text=command.model_dump_json())
        journal.remember([*journal.commands(), waits])
    device.start()
    failed, done = answered(store, first), answered(store, second)
    assert failed.outcome == "failed" and "does not begin it again" in (failed.detail or "")
    assert done.outcome == "done" and done.reply is not None and done.reply.replay[0].rows == 301

    # the cloud has lost both answers, and publishes the commands again: nothing is done and nothing is said again
    with store.write() as db:
        db.execute(update(t.command).values(answered_at=None, outcome=None, published_at=None))
    say(broker, command.model_dump_json().encode())
    wait_until(lambda: given(store, second).published_at, "it to be published again", LONG)
    with store.write() as db:  # there may be five at once
        db.execute(update(t.command).where(t.command.c.id.not_in([first, second])).values(answered_at=0))
    assert answered(store, ask(store, "evidence", start=at(0), end=at(9))).outcome == "refused"
    assert given(store, first).outcome is None and given(store, second).outcome is None
    device.end()


@pytest.mark.timeout(120)
def test_a_command_to_a_device_that_is_away_expires(
    taken: Callable[..., Store], mosquitto: Callable[..., Broker]
) -> None:
    """It is not published: not even the broker could surprise the device with it."""
    broker = mosquitto()
    store = taken(broker.url)
    say_state = {"status": "offline", "since": at(0), "connection": "ab", "epoch": "ab", "reason": ""}
    publish.single(
        topic(DEVICE, "state"), json.dumps(say_state), qos=1, hostname="127.0.0.1", port=broker.port,
        protocol=MQTTProtocolVersion.MQTTv5,
    )  # fmt: skip
    wait_until(lambda: value(store, t.device.c.id), "the device to be known")
    names = [ask(store, "update") for _ in range(commands.MOST_OPEN)]
    with pytest.raises(commands.TooManyError):
        ask(store, "update")
    now = clock.now()
    assert store.commands_due() == []
    end = given(store, names[0]).ends_at
    assert given(store, names[0]).state(now) == "waiting" and given(store, names[0]).state(end) == "expired"
    with store.write() as db:
        db.execute(update(t.device).values(status="online"))
        assert len(commands.due(db, end - 1)) == commands.MOST_OPEN
        assert len(commands.due(db, end)) == commands.MOST_OPEN - 1, "this one is over"
    wait_until(lambda: given(store, names[0]).published_at, "it to be published to the device that is back")
    assert given(store, names[0]).state(now) == "sent" and given(store, names[0]).state(end) == "unanswered"
