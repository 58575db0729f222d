"""A bundle that does not fit, does not load or does not score: what the service does, by cause."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from fieldwatch_agent.config import Config
from fieldwatch_agent.score import pipeline
from fieldwatch_agent.send.journal import FILE, read_status
from fieldwatch_agent.service import Service
from fieldwatch_agent.update import child, takeup
from fieldwatch_agent.update.activation import Activation
from fieldwatch_agent.update.child import Updating
from fieldwatch_agent.update.takeup import Takeup
from fieldwatch_contract import clock
from fieldwatch_contract.bundle import Bundle, BundleBroken, BundleFailed, BundleMisfit, read_bundle

from tests.bundles import make_bundle
from tests.conftest import wait_until

START = 1_768_608_000_000_000
V1, V2 = make_bundle(version="v1"), make_bundle(version="v2")


class Site:
    """A device with readings and a proven v1."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.minute = 0
        (folder / "readings.csv").write_text("timestamp,s0,s1,s2\n")
        self.install(V1)
        Activation(self.state).commit(read_bundle(V1).sha256)
        self.write(60)

    def install(self, data: bytes) -> None:
        activation = Activation(self.state)
        activation.switch(activation.stage(data))

    def write(self, rows: int) -> None:
        with (self.folder / "readings.csv").open("a") as file:
            for _ in range(rows):
                file.write(f"{clock.iso(START + self.minute * clock.MINUTE)},10,10,10\n")
                self.minute += 1

    def run(self, period: str = "60s", kind: str = "press") -> tuple[int, list[tuple[str, str, str]]]:
        """Run until idle; return the exit code and the troubles that were told last."""
        config = Config.model_validate(
            {
                "device": {"id": "press-0001", "type": kind},
                "log": {"path": str(self.folder / "readings.csv"), "period": period},
                "state": {"dir": str(self.state)},
            }
        )
        code = Service(config, self.folder / "agent.toml").run(until_idle=True)
        health = read_status(self.state / FILE)["health"]
        assert health is not None
        return code, [(each["kind"], each["detail"], each["remedy"]) for each in health["troubles"]]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr("fieldwatch_agent.service.IDLE_LIMIT_S", 3.0)
    monkeypatch.setattr(takeup, "PAUSE_S", 0.01)
    return Site(tmp_path)


@pytest.mark.parametrize(
    ("slip", "says", "remedy"),
    [
        ({"period": "6s"}, "made for a period of 60 s, [log] period is 6 s", "correct [log] period"),
        ({"kind": "mill"}, "trained for devices of type press, this one is mill", "correct [device] type"),
    ],
)
def test_a_slip_in_the_configuration_is_told_and_heals(
    site: Site, slip: dict[str, str], says: str, remedy: str
) -> None:
    for _ in range(2):
        code, troubles = site.run(**slip)
        assert code == 1
        _, detail, helps = next(each for each in troubles if each[0] == "bundle_misfit")
        assert says in detail
        assert remedy in helps
    state = Activation(site.state).state()
    assert (state.phase, state.refused) == ("proven", {}), "nothing is remembered against the bundle"
    assert site.run() == (0, [])


@pytest.mark.parametrize("where", ["load", "score"])
def test_failed_allocations_refuse_nothing(site: Site, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Five in a row, of a bundle on probation beside a proven one."""
    site.install(V2)
    left = [5]

    class Hungry(pipeline.Scorer):
        def __init__(self, bundle: Bundle) -> None:
            self._want("load")
            super().__init__(bundle)

        def _score(self, rows: object) -> object:  # type: ignore[override]
            self._want("score")
            return super()._score(rows)  # type: ignore[arg-type]

        def _want(self, place: str) -> None:
            if place == where and left[0]:
                left[0] -= 1
                raise MemoryError

    monkeypatch.setattr(pipeline, "Scorer", Hungry)
    site.write(4)
    code, troubles = site.run()
    assert (code, troubles, left) == (0, [], [0])
    state = Activation(site.state).state()
    assert state.current is not None
    assert (state.current.version, state.refused) == ("v2", {})


class Clock:
    """Seconds that pass when the test says so; for one module: a server in another thread lives by the real ones."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(takeup, "time", SimpleNamespace(monotonic=lambda: self.now))


@pytest.fixture
def hands(tmp_path: Path) -> tuple[Activation, Takeup]:
    """A proven v1 and, current, a v2 on probation."""
    site = Site(tmp_path)
    site.install(V2)
    activation = Activation(site.state)
    return activation, Takeup(activation, (BundleFailed, BundleBroken, BundleMisfit, MemoryError))


def current(activation: Activation) -> str | None:
    bundle = activation.state().current
    return bundle.version if bundle is not None else None


def fails(error: Exception) -> Callable[[Bundle], str]:
    def load(bundle: Bundle) -> str:
        raise error

    return load


def version(bundle: Bundle) -> str:
    return bundle.manifest.version


def test_a_failure_that_lasts_sets_a_bundle_aside_and_refuses_nothing(
    hands: tuple[Activation, Takeup], monkeypatch: pytest.MonkeyPatch
) -> None:
    (activation, hand), time_ = hands, Clock(monkeypatch)
    pauses = []
    while current(activation) == "v2":
        assert hand.due()
        assert hand.load(fails(BundleFailed("no memory"))) is None
        began = time_.now
        while not hand.due():
            time_.now += 1
        pauses.append(time_.now - began)
    assert len(pauses) == takeup.FAILURES
    assert pauses[:3] == [5, 10, 15]
    assert max(pauses) == 60
    assert hand.load(version) == "v1"
    state = activation.state()
    assert state.refused == {}
    assert state.put_off(read_bundle(V2).sha256, clock.now())


def test_a_broken_bundle_gives_way_after_three_tries(hands: tuple[Activation, Takeup]) -> None:
    activation, hand = hands
    for tries in range(3):
        assert current(activation) == "v2", tries
        assert hand.load(fails(BundleBroken("does not load"))) is None
    assert hand.load(version) == "v1"
    assert activation.state().refusal(read_bundle(V2).sha256) is not None
    assert hand.trouble() is None


def test_a_misfit_waits_for_another_bundle(
    hands: tuple[Activation, Takeup], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand, time_ = hands[1], Clock(monkeypatch)
    assert hand.load(fails(BundleMisfit("made for mills", "correct [device] type"))) is None
    time_.now += 1e6
    assert not hand.due()
    trouble = hand.trouble()
    assert trouble is not None
    assert (trouble.kind, trouble.detail, trouble.remedy) == (
        "bundle_misfit",
        "made for mills",
        "correct [device] type",
    )
    other = Activation(tmp_path / "state")
    other.switch(other.stage(make_bundle(version="v3")))
    assert hand.due()
    assert hand.load(version) == "v3"
    assert hand.trouble() is None


def test_while_the_new_one_does_not_load_the_old_one_scores_on(tmp_path: Path) -> None:
    site = Site(tmp_path)
    activation = Activation(site.state)
    hand = Takeup(activation, (BundleFailed,))
    assert hand.load(version) == "v1"
    site.install(V2)
    assert hand.due()
    assert hand.load(fails(BundleFailed("no memory"))) is None
    for _ in range(5):
        with hand.block():
            pass
        hand.scored()
    assert activation.state().phase == "probation", "what v1 scores proves nothing of v2"
    trouble = hand.trouble()
    assert trouble is not None
    assert trouble.kind == "bundle_failing"
    assert hand.load(version) == "v2"


def test_a_bundle_is_proven_by_its_third_block(hands: tuple[Activation, Takeup]) -> None:
    activation, hand = hands
    hand.load(version)
    phases = []
    for _ in range(3):
        with hand.block():
            pass
        hand.scored()
        phases.append(activation.state().phase)
    assert phases == ["probation", "probation", "proven"]


# ---- the updater's process ---------------------------------------------------------------------------------------


def ended(updating: Updating) -> None:
    wait_until(lambda: updating.follow() or not updating.running, "the updater ends")


def test_an_updater_that_starts_late_has_its_full_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backlog, or a computer that slept, can make it late by more than it may run."""
    monkeypatch.setattr(child, "LIMIT_S", 2.0)
    updating = Updating([sys.executable, "-c", "import time; time.sleep(0.5)"], 60)
    time.sleep(2.1)
    updating.follow()
    updating.follow()
    ended(updating)
    assert updating.trouble() is None, "it was killed"


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("import os; os.kill(os.getpid(), 9)", "ended without a result"),
        ("import time; time.sleep(60)", "ended without a result"),
        ("raise SystemExit(1)", None),
        ("raise SystemExit(2)", "cannot use the configuration"),
        (
            "import sys, fieldwatch_agent.__main__ as door; door._version = None; sys.exit(door.main(['version']))",
            "ended without a result (exit code 70)",
        ),
    ],
)
def test_an_updater_that_cannot_tell_is_told_of(
    program: str, says: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "LIMIT_S", 1.0 if "sleep" in program else 60.0)
    updating = Updating([sys.executable, "-c", program], 0.1)
    updating.follow()
    ended(updating)
    trouble = updating.trouble()
    assert (trouble.detail if trouble is not None else None) == says or (trouble and says and says in trouble.detail)


def test_an_updater_that_we_had_to_kill_has_no_result_whatever_its_exit_code(
    monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """On Windows that is 1, which says elsewhere that it failed and has recorded why."""

    class LikeWindows(subprocess.Popen[bytes]):
        def kill(self) -> None:
            self.terminate()

    monkeypatch.setattr(subprocess, "Popen", LikeWindows)
    monkeypatch.setattr(child, "LIMIT_S", 1.0)
    says = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(1)); time.sleep(60)"
    updating = Updating([sys.executable, "-c", says], 0.1)
    updating.follow()
    ended(updating)
    trouble = updating.trouble()
    assert trouble is not None and "ended without a result" in trouble.detail


def test_an_updater_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    updating = Updating([str(tmp_path / "nothing")], 0.05)
    updating.follow()
    trouble = updating.trouble()
    assert trouble is not None
    assert "cannot be started" in trouble.detail
    (tmp_path / "nothing").symlink_to(sys.executable)
    updating._command = [sys.executable, "-c", ""]
    wait_until(lambda: updating.follow() or updating.running, "the next try")
    ended(updating)
    assert updating.trouble() is None


SIGNALLED = '''
"""Sends a signal at one line after another of the code that the loop waits in; ends by a time limit if one is lost."""
import os, signal, sys, threading
from fieldwatch_agent.bell import Bell

FILES = ("threading.py", "queue.py", "bell.py")

def run(fatal):
    """Wait as the loop does, and be told to stop at line number ``fatal`` of it; return whether there was one."""
    bell, seen = Bell(), 0
    signal.signal(signal.SIGTERM, lambda number, frame: bell.stop())
    def tracer(frame, event, arg):
        nonlocal seen
        if not frame.f_code.co_filename.endswith(FILES):
            return None
        if event == "line":
            seen += 1
            if seen == fatal:
                os.kill(os.getpid(), signal.SIGTERM)
        return tracer
    rounds = 0
    sys.settrace(tracer)
    while not bell.stopped and rounds < 3:
        bell.ring()
        bell.wait(0.001)
        bell.wait(0.001)
        bell.pause(0.001)
        rounds += 1
    sys.settrace(None)
    return seen >= fatal

fatal = 1
while run(fatal):
    fatal += 1
print(fatal)
'''


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals; on Windows they come in a thread of their own")
def test_a_stop_by_signal_ends_every_wait() -> None:
    """A handler that takes a lock waits for ever where the main thread holds it, as ``threading.Event`` does."""
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) > 20, "so many places"
