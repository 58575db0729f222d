"""Delivery against a model: real sender and outbox, a network that loses, doubles and reorders, a cloud that forgets.

Whatever happened before, once the faults end everything is stored, nothing counts twice, and the outbox is empty.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fieldwatch_agent.send.journal import Commit, Draft, Journal, Progress
from fieldwatch_agent.send.packer import Packer, Parcel
from fieldwatch_agent.send.plan import Plan
from fieldwatch_agent.send.sender import Sender
from fieldwatch_cloud.ingest.decode import Message, decode
from fieldwatch_contract import topics
from fieldwatch_contract.delivery import SELECTIVE_LIMIT, WINDOW, Receipt, Settled, foreign
from fieldwatch_contract.events import Ack
from hypothesis import given
from hypothesis import strategies as st

from tests.delivery import DEVICE, alert, alert_draft, result

LIMIT = 50
"""Window and selective part here: small, so that a few hundred events meet both."""


# ---- the rules alone ---------------------------------------------------------------------------------------------


@given(
    st.sets(st.integers(1, 60)).map(sorted).flatmap(lambda n: st.tuples(st.just(n), st.permutations(n))),
    st.integers(1, 5),
)
def test_what_is_settled_is_what_arrived(numbers: tuple[list[int], list[int]], step: int) -> None:
    known, arriving = numbers
    settled = Settled()
    for start in range(0, len(arriving), step):
        settled = settled.add(arriving[start : start + step], None)
        assert settled.upto + 1 not in settled.beyond
        assert list(settled.beyond) == sorted(settled.beyond)
        assert {*range(1, settled.upto + 1), *settled.beyond} == set(arriving[: start + step])
    assert {*range(1, settled.upto + 1), *settled.beyond} == set(known)


def test_the_low_water_mark_itself_is_still_waited_for() -> None:
    assert Settled().add([], 5) == Settled(4)
    assert Settled().add([6], 5) == Settled(4, (6,)), "5 has not arrived"
    assert Settled(7).add([], 5) == Settled(7), "it never takes back"


SOME = st.frozensets(st.integers(1, 40))


@given(SOME, SOME, SOME, st.integers(1, 12), st.integers(1, 6))
def test_an_acknowledgement_keeps_both_limits_and_never_calls_stored_what_is_not(
    arrived: frozenset[int], earlier: frozenset[int], bad: frozenset[int], selective: int, negative: int
) -> None:
    settled = Settled().add(arrived | earlier, None)
    refused = frozenset(number for number in bad if number in settled)
    ack = Receipt("e", settled, arrived, refused).ack(selective, negative)
    assert len(ack.also) <= selective
    assert len(ack.refused) <= negative
    named = {*range(1, ack.upto + 1), *ack.also}
    assert named <= arrived | earlier
    assert named & refused <= set(ack.refused)
    fresh = arrived - set(range(1, settled.upto + 1)) - refused
    assert len(fresh) > selective or fresh <= named, "what has just arrived comes first"


def test_the_window_is_no_larger_than_what_can_be_named() -> None:
    assert WINDOW <= SELECTIVE_LIMIT


def test_above_the_high_water_mark_lies_another_life() -> None:
    assert not foreign(Ack(epoch="e", upto=7), 7)
    assert foreign(Ack(epoch="e", upto=8), 7)
    assert foreign(Ack(epoch="e", upto=0, also=[3, 8]), 7)


# ---- sender and acknowledger -------------------------------------------------------------------------------------


@dataclass
class Cloud:
    """Stores events under their natural keys and acknowledges; ``old``: as the first version did, the lowest first."""

    old: bool = False
    settled: dict[str, Settled] = field(default_factory=dict)
    owed: dict[str, Receipt] = field(default_factory=dict)
    stored: set[object] = field(default_factory=set)

    def take(self, parcel: Parcel, floor: int) -> None:
        batch = decode([Message(topics.topic(DEVICE, parcel.channel), parcel.payload, floor=floor)])
        assert not batch.refused
        self.stored |= {("result", row["ts"]) for row in batch.results}
        self.stored |= {("alert", seen.data.alert_id) for seen in batch.alerts}
        for (_, epoch), numbers in batch.numbers.items():
            self.settled[epoch] = self.settled.get(epoch, Settled()).add(numbers, floor)
            receipt = Receipt(epoch, self.settled[epoch], frozenset(numbers))
            self.owed[epoch] = self.owed.get(epoch, receipt).then(receipt)

    def tell(self) -> list[Ack]:
        owed, self.owed = self.owed, {}
        return [self._ack(receipt) for receipt in owed.values()]

    def restart(self) -> list[Ack]:
        """Forget what was owed, and tell where everybody stands."""
        self.owed.clear()
        return [self._ack(Receipt(epoch, settled)) for epoch, settled in self.settled.items()]

    def _ack(self, receipt: Receipt) -> Ack:
        return (Receipt(receipt.epoch, receipt.settled) if self.old else receipt).ack(selective=LIMIT)


class World:
    """One device, the network and the cloud."""

    def __init__(self, folder: Path, seed: int, old: bool = False) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.cloud = Cloud(old)
        self.wire: list[tuple[Parcel, int]] = []
        self.back: list[Ack] = []
        self.sent = 0
        self.open()

    def open(self) -> None:
        """Start the device."""
        self.journal = Journal(self.folder / "state", 1 << 30)
        self.sender = Sender(self.journal.open_outbox(), Plan(30, 600, window=LIMIT), Packer(DEVICE))

    def close(self) -> None:
        """Stop it."""
        self.journal.close_outbox(self.sender.outbox)
        self.journal.close()

    @property
    def made(self) -> int:
        """How far the device's log is read."""
        return int(self.journal.progress().position or 0)

    def produce(self, count: int, share: float) -> None:
        """Read ``count`` lines; ``share`` of them open an alert. The same line always gives the same facts."""
        first = self.made
        drafts: list[Draft] = []
        for minute in range(first, first + count):
            drafts.append(result(minute))
            if minute * 0.61803 % 1 < share:
                drafts.append(alert_draft(alert(minute)))
        self.journal.commit(Commit(Progress(position=str(first + count)), {}, {}, [], drafts))

    def send(self, most: int) -> None:
        """Put at most ``most`` messages on the wire."""
        self.sender.begin()
        floor = self.sender.outbox.floor()
        for _ in range(most):
            parcel = self.sender.next(spare=True)
            if parcel is None:
                return
            self.sender.sent(parcel, 0.0)
            self.wire.append((parcel, floor))
            self.sent += len(parcel.numbers)

    def hear(self, ack: Ack) -> None:
        """Take an acknowledgement as the uplink does."""
        if ack.epoch != self.sender.outbox.epoch:
            return
        if self.sender.outbox.foreign(ack):
            self.sender.outbox.renew()
            self.sender.plan.restart()
        else:
            self.sender.acknowledged(ack, 0.0)

    def trouble(self) -> None:
        """One step of a bad day."""
        dice = self.random
        match dice.choice(["produce", "send", "send", "deliver", "deliver", "lose", "ack", "ack", "other"]):
            case "produce":
                self.produce(dice.randint(1, 40), dice.choice([0.0, 0.1, 0.9]))
            case "send":
                self.send(dice.randint(1, 30))
            case "deliver":
                dice.shuffle(self.wire)
                for parcel, floor in self.wire[: dice.randint(0, 20)]:  # they stay on the wire: delivered again
                    self.cloud.take(parcel, floor)
            case "lose":
                self.wire = self.wire[: dice.randint(0, len(self.wire))]
            case "ack":
                self.back += self.cloud.tell()
                dice.shuffle(self.back)
                for ack in self.back[: dice.randint(0, 3)]:
                    self.hear(ack)
                self.back = self.back[: dice.randint(0, len(self.back))]
            case "other":
                self.upheaval()

    def upheaval(self) -> None:
        """A restart of either side, a lost patience, a disk image made or restored."""
        image = self.folder / "image"
        match self.random.choice(["device", "cloud", "patience", "image", "restore"]):
            case "device":
                self.close()
                self.open()
            case "cloud":
                self.back += self.cloud.restart()
            case "patience":
                self.sender.plan.rewind()
            case "image":
                self.close()
                shutil.rmtree(image, ignore_errors=True)
                shutil.copytree(self.folder / "state", image)
                self.open()
            case "restore" if image.exists():
                self.close()
                shutil.rmtree(self.folder / "state")
                shutil.copytree(image, self.folder / "state")
                self.open()

    def settle(self, rounds: int) -> int:
        """Let the faults end; return after how many rounds the outbox was empty, -1 where it never was."""
        for number in range(rounds):
            self.send(10)
            for parcel, floor in self.wire:
                self.cloud.take(parcel, floor)
            self.wire.clear()
            for ack in self.cloud.tell():
                self.hear(ack)
            if self.sender.idle:
                return number
            if self.sender.next(spare=True) is None:  # the retry time has passed
                self.sender.plan.rewind()
        return -1

    def facts(self) -> set[object]:
        """What the log says."""
        minutes = range(self.made)
        return {("result", decode_ts(minute)) for minute in minutes}


def decode_ts(minute: int) -> int:
    """The time of a minute's result."""
    from tests.delivery import START

    return START + minute * 60_000_000


@pytest.mark.parametrize("seed", range(12))
def test_once_the_faults_end_everything_is_stored_and_the_outbox_is_empty(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path, seed)
    for _ in range(120):
        world.trouble()
    world.back.clear()
    assert world.settle(400) >= 0, f"{world.sender.outbox.depth().events} events wait for ever"
    assert {fact for fact in world.cloud.stored if fact[0] == "result"} >= world.facts()  # type: ignore[index]
    world.close()


@pytest.mark.parametrize("old", [False, True], ids=["cloud", "cloud of the first version"])
def test_more_alerts_than_an_acknowledgement_can_name_do_not_stop_delivery(tmp_path: Path, old: bool) -> None:
    """Weeks offline with flapping models: alerts overtake the results before them, far beyond both limits."""
    world = World(tmp_path, 1, old)
    world.produce(300, 0.0)
    world.produce(12 * LIMIT, 1.0)
    total = world.sender.outbox.depth().events
    assert world.settle(400) >= 0, f"{world.sender.outbox.depth().events} events wait for ever"
    assert len(world.cloud.stored) == total
    if not old:
        assert world.sent == total, "nothing was sent twice, for nothing was lost"
    world.close()


def test_never_more_than_the_window_is_under_way(tmp_path: Path) -> None:
    world = World(tmp_path, 1)
    world.produce(3, 0.0)
    world.produce(4 * LIMIT, 1.0)
    world.send(1000)
    assert LIMIT <= world.sender.plan.unacked <= LIMIT + 400, "and one batch from the lowest number"
    world.close()
