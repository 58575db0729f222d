"""How a device gets from one bundle to the next, and back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fieldwatch_agent import durable
from fieldwatch_agent.update.activation import EVENTS_KEPT, TRIES, Activation, State
from fieldwatch_contract.bundle import BundleError, read_bundle
from fieldwatch_contract.events import BundleRef

from tests.bundles import make_bundle

V1, V2, V3 = (make_bundle(version=version) for version in ("v1", "v2", "v3"))
SHA = {version: read_bundle(data).sha256 for version, data in (("v1", V1), ("v2", V2), ("v3", V3))}


def install(folder: Path, data: bytes, proven: bool = True) -> str:
    activation = Activation(folder)
    sha256 = activation.stage(data)
    activation.switch(sha256)
    if proven:
        activation.commit(sha256)
    return sha256


def running(folder: Path) -> str | None:
    """What a fresh process would load, without counting."""
    bundle = Activation(folder).current()
    return bundle.manifest.version if bundle is not None else None


def told(folder: Path) -> list[tuple[str, str | None, str | None]]:
    return [
        (e.transition, e.bundle.version if e.bundle else None, e.previous.version if e.previous else None)
        for e in Activation(folder).events()
    ]


def test_nothing_yet(tmp_path: Path) -> None:
    activation = Activation(tmp_path / "state")
    assert activation.current() is None
    assert activation.start() is None
    assert activation.events() == []
    assert activation.generation() == 0
    assert activation.note() == ""
    assert not (tmp_path / "state").exists(), "asking writes nothing"


def test_activated_is_said_when_it_has_scored_and_not_before(tmp_path: Path) -> None:
    install(tmp_path, V1)
    activation = Activation(tmp_path)
    before = activation.generation()
    sha256 = Activation(tmp_path).stage(V2)
    assert running(tmp_path) == "v1", "staged is not active"
    Activation(tmp_path).switch(sha256)
    assert activation.generation() > before, "another process sees it"
    assert told(tmp_path) == [("activated", "v1", None)]
    assert activation.start() is not None
    activation.commit(sha256)
    assert told(tmp_path) == [("activated", "v1", None), ("activated", "v2", "v1")]
    install(tmp_path, V3)
    assert {path.stem for path in (tmp_path / "bundles").iterdir()} == {SHA["v2"], SHA["v3"]}, "older ones go"


def test_the_service_clears_up_without_taking_away_what_is_about_to_be_active(tmp_path: Path) -> None:
    service = Activation(tmp_path)
    install(tmp_path, V1, proven=False)
    updater = Activation(tmp_path)
    sha256 = updater.stage(V2)
    service.commit(SHA["v1"])
    updater.switch(sha256)
    assert running(tmp_path) == "v2"


def test_what_never_scores_is_refused_and_the_last_good_one_takes_over(tmp_path: Path) -> None:
    install(tmp_path, V1)
    install(tmp_path, V2, proven=False)
    for _ in range(TRIES):
        bundle = Activation(tmp_path).start()  # a new process each time, which then crashes
        assert bundle is not None
        assert bundle.manifest.version == "v2"
    bundle = Activation(tmp_path).start()
    assert bundle is not None
    assert bundle.manifest.version == "v1"
    assert told(tmp_path)[-1] == ("rolled_back", "v2", "v1")
    state = Activation(tmp_path).state()
    refusal = state.refusal(SHA["v2"])
    assert refusal is not None
    assert "never scored" in refusal.reason
    assert state.probation is None, "v1 was proven before"


def test_one_process_counts_a_start_once_and_a_good_end_takes_it_back(tmp_path: Path) -> None:
    install(tmp_path, V1)
    install(tmp_path, V2, proven=False)
    for _ in range(3 * TRIES):
        activation = Activation(tmp_path)
        for _ in range(5):
            assert activation.start() is not None
        activation.stop()
    assert running(tmp_path) == "v2"


def test_where_there_is_nothing_to_fall_back_to_it_is_tried_for_ever(tmp_path: Path) -> None:
    install(tmp_path, V1, proven=False)
    for _ in range(3 * TRIES):
        assert Activation(tmp_path).start() is not None


def test_an_unproven_bundle_does_not_push_out_the_proven_one(tmp_path: Path) -> None:
    install(tmp_path, V1)
    install(tmp_path, V2, proven=False)
    install(tmp_path, V3, proven=False)
    Activation(tmp_path).refuse(SHA["v3"], "sick")
    assert running(tmp_path) == "v1"


def test_falling_back_to_an_unproven_bundle_puts_it_on_probation_again(tmp_path: Path) -> None:
    install(tmp_path, V1, proven=False)
    install(tmp_path, V2, proven=False)
    Activation(tmp_path).refuse(SHA["v2"], "sick")
    state = Activation(tmp_path).state()
    assert running(tmp_path) == "v1"
    assert state.probation is not None
    assert state.probation.sha256 == SHA["v1"]


def test_a_refused_bundle_that_is_not_active_changes_nothing_else(tmp_path: Path) -> None:
    install(tmp_path, V1)
    activation = Activation(tmp_path)
    activation.refuse(SHA["v2"], "golden vectors", read_bundle(V2).ref)
    assert running(tmp_path) == "v1"
    assert told(tmp_path)[-1] == ("refused", "v2", "v1")


def test_a_new_program_gives_a_refused_bundle_a_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, V1)
    Activation(tmp_path).refuse(SHA["v2"], "crashes", read_bundle(V2).ref)
    assert Activation(tmp_path).state().refusal(SHA["v2"]) is not None
    monkeypatch.setattr("fieldwatch_agent.update.activation.__version__", "9.9.9")
    assert Activation(tmp_path).state().refusal(SHA["v2"]) is None


@pytest.mark.parametrize("damage", ["flip", "cut", "delete", "folder"])
def test_a_damaged_file_falls_back_is_announced_and_can_be_had_again(tmp_path: Path, damage: str) -> None:
    install(tmp_path, V1)
    install(tmp_path, V2)
    path = Activation(tmp_path).path(SHA["v2"])
    if damage == "flip":
        path.write_bytes(V2[:50] + bytes([V2[50] ^ 1]) + V2[51:])
    elif damage == "cut":
        path.write_bytes(V2[:-9])
    else:
        path.unlink()
        if damage == "folder":
            path.mkdir()
    activation = Activation(tmp_path)
    bundle = activation.current()
    assert bundle is not None
    assert bundle.manifest.version == "v1"
    assert told(tmp_path)[-1] == ("rolled_back", "v2", "v1")
    assert Activation(tmp_path).state().refusal(SHA["v2"]) is None, "it is lost, not bad"
    if damage == "folder":
        path.rmdir()
    install(tmp_path, V2)
    assert running(tmp_path) == "v2"


def test_both_files_gone(tmp_path: Path) -> None:
    install(tmp_path, V1)
    install(tmp_path, V2)
    for path in (tmp_path / "bundles").iterdir():
        path.unlink()
    assert running(tmp_path) is None
    assert told(tmp_path)[-2:] == [("rolled_back", "v2", "v1"), ("rolled_back", "v1", None)]
    install(tmp_path, V1)
    assert running(tmp_path) == "v1"


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 2}', b"\x00" * 300])
def test_a_damaged_state_file_finds_the_newest_whole_bundle(tmp_path: Path, content: bytes) -> None:
    install(tmp_path, V1)
    old = Activation(tmp_path)
    generation = old.generation()
    install(tmp_path, V2)
    (tmp_path / "bundles" / f"{'0' * 64}.zip").write_bytes(b"not whole")
    (tmp_path / "activation.json").write_bytes(content)
    assert old.generation() > generation
    bundle = old.start()
    assert bundle is not None
    assert bundle.manifest.version == "v2"
    assert json.loads((tmp_path / "activation.json").read_text())["previous"]["version"] == "v1"


def test_events_survive_until_they_are_announced(tmp_path: Path) -> None:
    install(tmp_path, V1)
    service = Activation(tmp_path)
    assert len(service.events()) == 1
    install(tmp_path, V2)  # the updater's process adds one between
    service.announced(1)
    assert told(tmp_path) == [("activated", "v2", "v1")]
    service.announced(1)
    assert service.events() == []
    assert told(tmp_path) == []


def test_events_are_bounded_and_the_numbering_holds(tmp_path: Path) -> None:
    state = State()
    for i in range(EVENTS_KEPT + 20):
        state = state.noted(f"trouble {i}", "words", announce=True)
    assert len(state.pending) == EVENTS_KEPT
    assert state.told == 20
    assert state.announced(30).told == 30
    assert len(state.announced(30).pending) == EVENTS_KEPT - 10
    assert state.announced(5) == state


def test_trouble_of_one_kind_is_announced_once(tmp_path: Path) -> None:
    updater = Activation(tmp_path)
    for _ in range(3):
        updater.end_update("down", "nobody listens")
    updater.end_update("stale", "nobody signs")
    assert [e.reason for e in updater.events()] == ["nobody listens", "nobody signs"]
    assert updater.note() == "nobody signs"
    updater.end_update()
    assert updater.note() == ""
    updater.end_update("down", "nobody listens")
    assert len(updater.events()) == 3, "it was well between"


def test_a_self_test_that_ends_the_program_is_not_begun_for_ever(tmp_path: Path) -> None:
    ref = read_bundle(V2).ref
    for _ in range(TRIES):
        assert Activation(tmp_path).trying(ref)
    assert not Activation(tmp_path).trying(ref)


def test_what_may_not_be_staged_or_switched(tmp_path: Path) -> None:
    activation = Activation(tmp_path)
    with pytest.raises(BundleError):
        activation.stage(b"no zip")
    with pytest.raises(OSError, match="No such file"):
        activation.switch(SHA["v1"])
    sha256 = activation.stage(V1)
    activation.path(sha256).write_bytes(V2)
    with pytest.raises(BundleError, match="damaged or another file"):
        activation.switch(sha256)
    assert activation.current() is None


def test_the_security_floor_never_falls(tmp_path: Path) -> None:
    activation = Activation(tmp_path)
    activation.switch(activation.stage(V1), security_floor=5)
    activation.switch(activation.stage(V2), security_floor=2)
    activation.switch(activation.stage(V2), security_floor=7)
    assert activation.state().security_floor == 7


def test_a_service_that_cannot_write_goes_on_in_memory(tmp_path: Path) -> None:
    """The file cannot be replaced (its temporary name is taken by a folder): the model still changes, events do not
    repeat within the process, and everything is written once it can be."""
    install(tmp_path, V1)
    install(tmp_path, V2)
    obstacle = tmp_path / "activation.json.tmp"
    obstacle.mkdir()
    service = Activation(tmp_path)
    assert len(service.events()) == 2
    service.announced(2)
    assert service.events() == []
    generation = service.generation()
    service.refuse(SHA["v2"], "scores nonsense")
    assert service.generation() > generation
    bundle = service.start()
    assert bundle is not None
    assert bundle.manifest.version == "v1"
    assert running(tmp_path) == "v2", "the disk still has the old truth"
    with pytest.raises(OSError, match=r"activation\.json\.tmp"):
        service.switch(SHA["v2"])
    obstacle.rmdir()
    service.commit(SHA["v1"])
    service.announced(1)
    assert running(tmp_path) == "v1"
    assert told(tmp_path) == []


def test_locks_die_with_their_holder(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    program = (
        "import sys; from pathlib import Path; from fieldwatch_agent import durable\n"
        "with durable.lock(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "in\n"
        with pytest.raises(durable.Busy), durable.lock(path, patience=0.05):
            pass
        holder.kill()
    with durable.lock(path, patience=5):
        pass


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    durable.write(path, b"old")
    (tmp_path / "folder" / "x").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"):
        durable.write(tmp_path / "folder", b"new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]
    assert path.read_bytes() == b"old"


def test_references_are_whole(tmp_path: Path) -> None:
    install(tmp_path, V1)
    assert Activation(tmp_path).state().current == BundleRef(name="press", version="v1", sha256=SHA["v1"])
