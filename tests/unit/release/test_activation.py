"""How a device gets from one bundle to the next, and back."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fieldwatch_agent import __version__, durable
from fieldwatch_agent.update import record
from fieldwatch_agent.update.activation import Activation
from fieldwatch_agent.update.states import EVENTS_KEPT, TABLE, TRIES, Happening, State, Trial
from fieldwatch_contract.bundle import BundleError, BundleFailed, BundleMisfit, read_bundle
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


def crash(folder: Path, version: str = "v2") -> None:
    """A new process that is killed while it scores a block."""
    activation = Activation(folder)
    bundle = activation.start()
    assert bundle is not None
    assert bundle.manifest.version == version
    activation.attempt(bundle.sha256).__enter__()


def test_three_blocks_that_never_ended_refuse_a_bundle_and_two_do_not(tmp_path: Path) -> None:
    install(tmp_path, V1)
    install(tmp_path, V2, proven=False)
    for _ in range(3):
        crash(tmp_path)
    bundle = Activation(tmp_path).start()
    assert bundle is not None
    assert bundle.manifest.version == "v1"
    assert told(tmp_path)[-1] == ("rolled_back", "v2", "v1")
    state = Activation(tmp_path).state()
    refusal = state.refusal(SHA["v2"])
    assert refusal is not None
    assert "tried 3 times" in refusal.reason
    assert state.phase == "proven", "v1 was proven before"


def test_only_what_is_killed_while_it_scores_counts(tmp_path: Path) -> None:
    """Neither starts of a quiet device, however they end, nor blocks that ended, nor what the service survives."""
    install(tmp_path, V1)
    install(tmp_path, V2, proven=False)
    crash(tmp_path)
    crash(tmp_path)
    for _ in range(5):
        activation = Activation(tmp_path)  # killed before there was a line
        assert activation.start() is not None
        with activation.attempt(SHA["v2"]):
            pass
        with pytest.raises(ZeroDivisionError), activation.attempt(SHA["v2"], (ZeroDivisionError,)):
            raise ZeroDivisionError
    assert running(tmp_path) == "v2"
    crash(tmp_path)
    assert Activation(tmp_path).start() is not None
    assert running(tmp_path) == "v1", "the two before were not forgotten"


def test_loads_that_were_killed_count_until_one_ends(tmp_path: Path) -> None:
    """A power cut now and then while a quiet device starts is no crash of the models; three in a row may be one."""

    def killed_at_load() -> None:
        activation = Activation(tmp_path)
        bundle = activation.start()
        assert bundle is not None
        activation.attempt(bundle.sha256, load=True).__enter__()

    install(tmp_path, V1)
    install(tmp_path, V2, proven=False)
    for _ in range(4):
        killed_at_load()
        killed_at_load()
        activation = Activation(tmp_path)
        assert activation.start() is not None
        with activation.attempt(SHA["v2"], load=True):
            pass
    assert running(tmp_path) == "v2"
    for _ in range(3):
        killed_at_load()
    assert Activation(tmp_path).start() is not None
    assert running(tmp_path) == "v1"


def test_where_there_is_nothing_to_fall_back_to_it_is_tried_for_ever(tmp_path: Path) -> None:
    install(tmp_path, V1, proven=False)
    for _ in range(9):
        crash(tmp_path, "v1")
    assert Activation(tmp_path).state().refusal(SHA["v1"]) is None


def test_the_last_proven_bundle_is_never_refused(tmp_path: Path) -> None:
    install(tmp_path, V1)
    activation = Activation(tmp_path)
    activation.happened("broken", SHA["v1"], "its model fails")
    activation.happened("failing", SHA["v1"], "no memory")
    activation.refuse(read_bundle(V1).ref, "golden vectors")
    assert running(tmp_path) == "v1"
    assert activation.state().refused == {}
    install(tmp_path, V2, proven=False)
    Activation(tmp_path).refuse(read_bundle(V1).ref, "golden vectors, though it is the one to fall back to")
    assert Activation(tmp_path).state().previous is not None
    Activation(tmp_path).commit(SHA["v2"])
    Activation(tmp_path).happened("broken", SHA["v2"], "its model fails")
    Activation(tmp_path).happened("broken", SHA["v1"], "and so does the other")
    assert running(tmp_path) == "v1"
    assert Activation(tmp_path).state().refusal(SHA["v1"]) is None


def test_every_event_in_every_phase_goes_as_the_table_says() -> None:
    """The table of the docstring, row by row, with and without another bundle."""
    one, other = (BundleRef(name="press", version=v, sha256=SHA[v]) for v in ("v1", "v2"))
    new = Trial(sha256=one.sha256, tries=1, since=0, loads=2)
    phases = {
        "none": State(),
        "probation": State(current=one, probation=new),
        "proven": State(current=one, proven=(one.sha256,)),
    }

    def outcome(state: State, event: Happening) -> str:
        after = state.after(event, one.sha256, "why", now=5)
        if after == state:
            return "-"
        words = [after.phase if after.current == one else "gives way" if after.current else "none"]
        words += ["refused"] * (one.sha256 in after.refused) + ["aside"] * (after.aside is not None)
        if after.probation is not None and after.probation.tries != 1 and after.current == one:
            words.append(f"{after.probation.tries} tries")
        if after.probation is not None and after.probation.loads != 2 and after.current == one:
            words.append(f"{after.probation.loads} loads")
        return ", ".join(words)

    expected: dict[Happening, tuple[str, str, str, str, str]] = {
        # none, probation alone, proven alone, probation beside a proven one, proven beside a proven one
        "loading": ("-", "probation, 3 loads", "-", "probation, 3 loads", "-"),
        "loaded": ("-", "probation, 0 loads", "-", "probation, 0 loads", "-"),
        "attempted": ("-", "probation, 2 tries", "-", "probation, 2 tries", "-"),
        "survived": ("-", "probation, 0 tries", "-", "probation, 0 tries", "-"),
        "committed": ("-", "proven", "-", "proven", "-"),
        "crashed": ("-", "-", "-", "gives way, refused", "-"),
        "broken": ("-", "probation, refused", "-", "gives way, refused", "gives way, refused"),
        "failing": ("-", "-", "-", "gives way, aside", "gives way, aside"),
        "lost": ("-", "none", "none", "gives way", "gives way"),
    }
    beside = {"previous": other, "proven": (other.sha256,)}
    both = {"previous": other, "proven": (one.sha256, other.sha256)}
    states = [
        *phases.values(),
        phases["probation"].model_copy(update=beside),
        phases["proven"].model_copy(update=both),
    ]
    assert {event: tuple(outcome(state, event) for state in states) for event in expected} == expected
    assert {event for _, event in TABLE} == set(expected)
    unproven = phases["proven"].model_copy(update={"previous": other})
    assert outcome(unproven, "broken") == "-", "a proven bundle gives way to a proven one alone"


def test_a_bundle_that_was_set_aside_is_offered_again_after_a_pause_that_doubles() -> None:
    one, other = (BundleRef(name="press", version=v, sha256=SHA[v]) for v in ("v1", "v2"))
    state, hour, pauses = State(current=other, proven=(other.sha256,)), 3600 * 10**6, []
    for _ in range(7):
        state = state.switched(one, 0, 0).after("failing", one.sha256, "no memory", now=hour)
        assert state.current == other
        pauses.append(next(h for h in range(1, 100) if not state.put_off(one.sha256, (1 + h) * hour)))
    assert pauses == [1, 2, 4, 8, 16, 24, 24]
    assert not state.put_off(one.sha256, 0), "the clock was set back"
    assert not state.put_off(other.sha256, hour)


def test_an_unproven_bundle_does_not_push_out_the_proven_one(tmp_path: Path) -> None:
    install(tmp_path, V1)
    install(tmp_path, V2, proven=False)
    install(tmp_path, V3, proven=False)
    Activation(tmp_path).happened("broken", SHA["v3"], "sick")
    assert running(tmp_path) == "v1"


def test_falling_back_to_an_unproven_bundle_puts_it_on_probation_again(tmp_path: Path) -> None:
    install(tmp_path, V1, proven=False)
    install(tmp_path, V2, proven=False)
    Activation(tmp_path).happened("broken", SHA["v2"], "sick")
    state = Activation(tmp_path).state()
    assert running(tmp_path) == "v1"
    assert state.probation is not None
    assert state.probation.sha256 == SHA["v1"]


def test_a_refused_bundle_that_is_not_active_changes_nothing_else(tmp_path: Path) -> None:
    install(tmp_path, V1)
    activation = Activation(tmp_path)
    activation.refuse(read_bundle(V2).ref, "golden vectors")
    assert running(tmp_path) == "v1"
    assert told(tmp_path)[-1] == ("refused", "v2", "v1")


def test_a_new_program_gives_a_refused_bundle_a_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, V1)
    Activation(tmp_path).refuse(read_bundle(V2).ref, "crashes")
    assert Activation(tmp_path).state().refusal(SHA["v2"]) is not None
    monkeypatch.setattr("fieldwatch_agent.update.states.__version__", "9.9.9")
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
    (trouble,) = Activation(tmp_path).troubles()
    assert trouble.kind == "no_bundle"
    assert "its file is lost" in trouble.detail, "not that it waits for its first one"
    install(tmp_path, V1)
    assert running(tmp_path) == "v1"


def remembering(folder: Path) -> State:
    """A device that runs v2 beside v1, refused v3, and has a security floor of 5."""
    install(folder, V1)
    activation = Activation(folder)
    activation.switch(activation.stage(V2), security_floor=5)
    activation.commit(SHA["v2"])
    activation.refuse(read_bundle(V3).ref, "golden vectors")
    return activation.state()


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"format": 2}', b"\x00" * 300])
def test_a_lost_state_file_is_recovered_with_refusals_and_floor(tmp_path: Path, content: bytes | None) -> None:
    known = remembering(tmp_path)
    path = tmp_path / "activation.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    activation = Activation(tmp_path)
    assert activation.state() == known
    assert activation.start() is not None
    assert State.model_validate_json(path.read_bytes()) == known, "healed"


@pytest.mark.parametrize("content", [None, b"", b"{"])
def test_without_both_files_the_newest_whole_bundle_is_found(tmp_path: Path, content: bytes | None) -> None:
    remembering(tmp_path)
    old = Activation(tmp_path)
    generation = old.generation()
    (tmp_path / "bundles" / f"{'0' * 64}.zip").write_bytes(b"not whole")
    for name in ("activation.json", "activation.copy.json"):
        (tmp_path / name).unlink()
        if content is not None:
            (tmp_path / name).write_bytes(content)
    assert old.generation() > generation
    bundle = old.start()
    assert bundle is not None
    assert bundle.manifest.version == "v2"
    assert json.loads((tmp_path / "activation.json").read_text())["previous"]["version"] == "v1"


class Unreadable:
    """Files that are there and cannot be read, as while a virus scanner holds them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: set[str] = set()
        self.code = errno.EACCES
        read = Path.read_bytes

        def refuse(path: Path) -> bytes:
            if path.name in self.names or path.suffix in self.names:
                raise OSError(self.code, os.strerror(self.code), str(path))
            return read(path)

        monkeypatch.setattr(Path, "read_bytes", refuse)
        monkeypatch.setattr(record, "AGAIN_S", 0.0)


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> Unreadable:
    return Unreadable(monkeypatch)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.EBUSY, errno.EMFILE])
def test_an_unreadable_state_file_is_not_damaged(tmp_path: Path, unreadable: Unreadable, code: int) -> None:
    """Not while it is known, not at a start with a copy, and not at one without: nothing is written over it."""
    known, before = remembering(tmp_path), (tmp_path / "activation.json").read_bytes()
    running_one = Activation(tmp_path)
    assert running_one.state() == known
    other = Activation(tmp_path)
    other.end_update("down", "nobody listens")
    known = other.state()
    before = (tmp_path / "activation.json").read_bytes()
    unreadable.code, unreadable.names = code, {"activation.json"}
    assert running_one.state().security_floor == 5, "as it was known, though it has changed"
    fresh = Activation(tmp_path)
    assert fresh.state() == known, "by the copy"
    assert fresh.start() is not None
    assert [trouble.kind for trouble in fresh.troubles()] == ["bundle_failing", "update_failing"]
    with pytest.raises(OSError, match=os.strerror(code)):
        fresh.require()
    with pytest.raises(OSError, match=os.strerror(code)):
        fresh.switch(SHA["v1"])
    unreadable.names = {"activation.json", "activation.copy.json"}
    blind = Activation(tmp_path)
    with pytest.raises(BundleFailed, match=r"activation\.json cannot be read"):
        blind.start()
    assert [trouble.kind for trouble in blind.troubles()] == ["bundle_failing"], "nothing says that there is none"
    blind.end_update("down", "still")
    unreadable.names = set()
    assert (tmp_path / "activation.json").read_bytes() == before
    assert blind.state() == known
    assert blind.start() is not None
    assert [trouble.kind for trouble in blind.troubles()] == ["update_failing"]


def test_a_change_that_cannot_be_written_is_told_and_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where 'update' was run by another account, to which the lock file now belongs."""
    monkeypatch.setattr("fieldwatch_agent.update.record.WRITE_AGAIN_S", 0.0)
    install(tmp_path, V1)
    install(tmp_path, V2, proven=False)
    lock = tmp_path / "activation.lock"
    lock.unlink()
    lock.mkdir()
    activation = Activation(tmp_path)
    for _ in range(5):
        with activation.attempt(SHA["v2"]):
            pass
        activation.catch_up()
    activation.commit(SHA["v2"])
    assert caplog.text.count("activation.json cannot be written") == 1, "not for each block"
    (trouble,) = activation.troubles()
    assert trouble.kind == "update_failing"
    assert "activation.json cannot be written" in trouble.detail
    assert Activation(tmp_path).state().phase == "probation"
    lock.rmdir()
    activation.catch_up()
    assert Activation(tmp_path).state().phase == "proven"
    assert activation.troubles() == []


def test_an_unreadable_bundle_is_not_lost(tmp_path: Path, unreadable: Unreadable) -> None:
    known = remembering(tmp_path)
    unreadable.names = {".zip"}
    activation = Activation(tmp_path)
    with pytest.raises(BundleFailed, match="cannot be read"):
        activation.start()
    unreadable.names = set()
    assert activation.start() is not None
    assert activation.state() == known


def test_a_bundle_for_another_program_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older agent was installed: it cannot run the bundle, and says so, and has not lost it."""
    known = remembering(tmp_path)
    monkeypatch.setattr("fieldwatch_contract.bundle.KERNEL", 0)
    with pytest.raises(BundleMisfit, match="update the program"):
        Activation(tmp_path).start()
    monkeypatch.undo()
    assert running(tmp_path) == "v2"
    assert Activation(tmp_path).state() == known


def test_the_state_of_the_landed_version_is_taken_over(tmp_path: Path) -> None:
    """As cc72598 wrote it on a device with a typing slip in its period and two quiet restarts: a proven bundle "refused
    for good", another with two of three tries used up."""
    install(tmp_path, V1)
    install(tmp_path, V2, proven=False)
    (tmp_path / "activation.copy.json").unlink()
    ref = {version: {"name": "press", "version": version, "sha256": sha} for version, sha in SHA.items()}
    old = {
        "format": 1, "generation": 4, "current": ref["v2"], "previous": ref["v1"], "staged": None,
        "proven": [SHA["v1"]], "probation": {"sha256": SHA["v2"], "tries": 3, "since": 1_768_608_000_000_000},
        "trial": None,
        "refused": {SHA["v3"]: {"bundle": ref["v3"], "program": __version__,
                                "reason": "bundle press/v3 is made for a period of 60 s, [log] period is 6 s"}},
        "security_floor": 3, "trouble": "refused", "note": "press/v3 was refused here before", "told": 7,
        "pending": [{"transition": "rolled_back", "bundle": ref["v3"], "previous": ref["v2"], "reason": "words"}],
    }  # fmt: skip
    (tmp_path / "activation.json").write_text(json.dumps(old))
    activation = Activation(tmp_path)
    state = activation.state()
    assert (state.generation, state.security_floor, state.told, len(state.pending)) == (4, 3, 7, 1)
    assert state.refusal(SHA["v3"]) is None, "what the old rules refused is looked at anew"
    bundle = activation.start()
    assert bundle is not None
    assert bundle.manifest.version == "v2", "starts without a block to score are no tries"
    activation.refuse(read_bundle(V3).ref, "golden vectors")
    assert Activation(tmp_path).state().refusal(SHA["v3"]) is not None


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
    service.happened("broken", SHA["v2"], "scores nonsense")
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
