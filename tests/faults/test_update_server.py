"""An update server that is down, stale, hostile or broken: the device says so and keeps what it has.

A real HTTP server, a real repository, the real updater. Each test begins with a device that runs v1 and is offered
v2; whatever the server does, v1 is active and whole afterwards, and once the server is sound again v2 arrives.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fieldwatch_agent.config import Config, load
from fieldwatch_agent.score.pipeline import Pipeline
from fieldwatch_agent.send.journal import Journal
from fieldwatch_agent.update.activation import Activation
from fieldwatch_agent.update.choice import UpdateResult
from fieldwatch_agent.update.source import Limits
from fieldwatch_agent.update.states import TRIES
from fieldwatch_agent.update.updater import pull, update
from fieldwatch_contract import clock
from fieldwatch_contract.alerts import AlertRule
from fieldwatch_contract.bundle import Bundle, read_bundle
from fieldwatch_contract.policy import Policy, policy_path
from fieldwatch_contract.reading.settings import LogConfig
from fieldwatch_trainer.release import actions, ceremony, rollout, work
from fieldwatch_trainer.release.folder import Folder
from fieldwatch_trainer.release.keys import Keyring
from fieldwatch_trainer.release.metadata import Published
from fieldwatch_trainer.release.roles import PROD
from tuf.api.metadata import TargetFile

from tests.bundles import make_bundle
from tests.conftest import wait_until
from tests.updates import Server, Site, body, drip, endless, ranged, serve, stall, status

PORTAL = b"<!doctype html><title>Welcome to Hotel Wi-Fi</title>"
QUICK = Limits(connect=2, read=2, rate=1000, window=0.3, total=30)

V1, V2 = make_bundle(version="v1"), make_bundle(version="v2")


@dataclass
class Device:
    """A device with v1, its repository, and a server in between that can be told to misbehave."""

    site: Site
    server: Server
    state: Path
    root: bytes
    first: Published
    second: Published

    def pull(self, source: str | Path | None = None, **options: object) -> UpdateResult:
        options.setdefault("limits", QUICK)
        url = self.server.url if source is None else source
        log = LogConfig(path=str(self.state / "readings.csv"), period="60s")
        return pull(url, self.root, self.state, "press-0001", "press", "stable", log, **options)  # type: ignore[arg-type]

    @property
    def active(self) -> str:
        bundle = Activation(self.state).current()
        return bundle.manifest.version if bundle is not None else "none"

    def expect_failure(self, trouble: str, says: str, source: str | Path | None = None) -> UpdateResult:
        result = self.pull(source)
        assert (result.outcome, result.trouble) == ("failed", trouble), result
        assert says in result.detail
        assert self.active == "v1"
        assert Activation(self.state).note() == result.detail
        return result

    def expect_recovery(self) -> None:
        self.server.answers.clear()
        result = self.pull()
        assert result.outcome == "activated", result
        assert self.active == "v2"
        assert Activation(self.state).note() == ""


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    site = Site.make(tmp_path)
    first = site.publish(V1)
    with serve(site.repo) as server:
        device = Device(site, server, tmp_path / "state", site.root, first, first)
        assert device.pull().outcome == "activated"
        assert device.pull().outcome == "current"
        device.second = site.publish(V2)
        server.requests.clear()
        yield device


def name_of(device: Device) -> str:
    return device.site.file(device.second).name


# ---- the sound server ------------------------------------------------------------------------------------------


def test_an_idle_poll_costs_two_requests(device: Device) -> None:
    device.expect_recovery()
    device.server.requests.clear()
    assert device.pull().detail == "press/v2 is what this device should run"
    assert [path for path, _ in device.server.requests] == ["/metadata/2.root.json", "/metadata/timestamp.json"]


def test_a_stick_brings_the_same_bundle_with_the_same_verification(device: Device, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    shutil.copytree(device.site.repo, stick)
    file = stick / device.site.file(device.second).relative_to(device.site.repo)
    whole = file.read_bytes()
    file.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    device.expect_failure("damaged", "is not what was signed", stick)
    file.unlink()
    device.expect_failure("absent", "is missing", stick)
    file.write_bytes(whole)
    assert device.pull(stick).outcome == "activated"
    assert device.active == "v2"
    assert device.server.requests == []


def test_the_policy_decides_who_runs_what(device: Device) -> None:
    site, first, second = device.site, device.first, device.second

    def edit(step: Callable[[Policy], Policy]) -> None:
        actions.change_policy(site.repo, [site.keys], "press", "stable", step)

    edit(lambda policy: rollout.share(policy, second.sha256, 0))
    assert device.pull().outcome == "current"
    edit(lambda policy: rollout.halt(rollout.share(policy, second.sha256, 10_000), True))
    result = device.pull()
    assert (result.outcome, result.detail) == ("halted", "the rollout is halted; press/v1 keeps scoring")
    edit(lambda policy: rollout.halt(policy, False))
    assert device.pull().outcome == "activated"
    edit(lambda policy: rollout.revoke(policy, second.sha256))
    result = device.pull()
    assert (result.outcome, result.bundle, result.sha256) == ("activated", "press/v1", first.sha256)
    assert device.pull().outcome == "current"
    assert Activation(device.state).state().previous is None, "a revoked bundle is nothing to fall back to"


# ---- down ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [500, 503, 401])
@pytest.mark.parametrize("path", ["timestamp.json", ".v2.zip"])
def test_errors_of_the_server(device: Device, code: int, path: str) -> None:
    device.server.answers[path] = status(code)
    device.expect_failure("down", f"answers {code}")
    device.expect_recovery()


def test_nobody_listens(device: Device) -> None:
    device.expect_failure("down", "cannot be reached", "http://127.0.0.1:9/")
    device.expect_recovery()


def test_a_wrong_address(device: Device) -> None:
    device.expect_failure("absent", "is updates.url right?", device.server.url + "elsewhere/")


@pytest.mark.parametrize("path", ["2.root.json", "timestamp.json", ".v2.zip", "stable.json"])
def test_a_captive_portal(device: Device, path: str) -> None:
    device.server.answers[path] = body(PORTAL, "text/html; charset=utf-8")
    device.expect_failure("portal", "login")
    device.expect_recovery()


def test_a_portal_that_does_not_admit_to_be_html(device: Device) -> None:
    device.server.answers[""] = body(b"\n  " + PORTAL)
    device.expect_failure("portal", "login")
    device.expect_recovery()


def test_a_bundle_that_happens_to_look_like_html_somewhere(device: Device) -> None:
    """However the network cuts a file, "<" inside it is a byte like any other."""
    assert V2.count(b"<") > 3
    device.server.answers[".v2.zip"] = drip(V2, 0.0)
    assert device.pull().outcome == "activated"
    assert device.active == "v2"


@pytest.mark.parametrize("path", ["timestamp.json", ".v2.zip"])
def test_slow_dripping_is_given_up(device: Device, path: str) -> None:
    device.server.answers[path] = drip(b"P" * 4000, 0.02)
    device.expect_failure("slow", "bytes a second")
    device.expect_recovery()


def test_a_server_that_accepts_and_says_nothing(device: Device) -> None:
    device.server.answers["timestamp.json"] = lambda _: time.sleep(4)
    device.expect_failure("down", "Read timed out")
    device.expect_recovery()


# ---- stale -----------------------------------------------------------------------------------------------------


def test_metadata_that_nobody_signed_anew(tmp_path: Path) -> None:
    past = datetime.now(UTC) - timedelta(days=8)
    site = Site.make(tmp_path, past)
    site.publish(V1, now=past)
    with serve(site.repo) as server:
        device = Device(site, server, tmp_path / "state", site.root, *[site.publish(V1, now=past)] * 2)
        stale = device.pull()
        assert (stale.outcome, stale.trouble) == ("failed", "stale")
        assert "timestamp.json is expired" in stale.detail
        assert "clock" in stale.detail
        ceremony.refresh(site.repo, [site.keys])
        assert device.pull().outcome == "activated"


# ---- hostile ---------------------------------------------------------------------------------------------------


def test_a_foreign_repository(device: Device, tmp_path: Path) -> None:
    foreign = Site.make(tmp_path / "foreign")
    for data in (V1, V2, make_bundle(version="v3")):
        foreign.publish(data)
    with serve(foreign.repo) as server:
        device.expect_failure("hostile", "not signed by the keys that updates.root names", server.url)
    device.expect_recovery()


def test_a_wrong_signature(device: Device) -> None:
    path = device.site.repo / "metadata" / "timestamp.json"
    document = json.loads(path.read_text())
    for signature in document["signatures"]:  # one good one would do
        signature["sig"] = signature["sig"][:-1] + ("0" if signature["sig"][-1] != "0" else "1")
    device.server.answers["timestamp.json"] = body(json.dumps(document).encode())
    device.expect_failure("hostile", "not signed by the keys")
    device.expect_recovery()


def test_an_older_state_replayed(device: Device, tmp_path: Path) -> None:
    """Everything in it was signed, and once true."""
    old = tmp_path / "old"
    shutil.copytree(device.site.repo, old)
    device.site.publish(make_bundle(version="v3"))
    assert device.pull().bundle == "press/v3"
    with serve(old) as server:
        result = device.pull(server.url)
    assert (result.outcome, result.trouble) == ("failed", "hostile")
    assert "older metadata than this device has seen" in result.detail
    assert device.active == "v3"


def test_an_old_bundle_role_under_a_new_snapshot(device: Device) -> None:
    """Mix and match: a device one release behind is offered the bundle list of before."""
    old = (device.site.repo / "metadata" / "2.prod.json").read_bytes()
    device.server.answers["3.prod.json"] = body(old)
    device.expect_failure("damaged", "is not what was signed")
    device.expect_recovery()


def test_the_policy_key_cannot_bring_in_a_bundle(device: Device) -> None:
    """Its delegation covers policy/ alone: what it signs elsewhere is not found."""
    site = device.site
    folder = Folder(site.repo)
    repository = folder.load(datetime.now(UTC))
    evil = make_bundle(version="evil")
    info = TargetFile.from_data("prod/press/evil.zip", evil, ["sha256"])
    repository._targets("prod-policy")["prod/press/evil.zip"] = info
    policy = rollout.offer(Policy(), "prod/press/evil.zip", info.hashes["sha256"], 10_000)
    repository.put_policy(policy_path("press", "stable"), policy.model_dump_json().encode())
    folder.put(repository.seal(Keyring.load([site.keys])), repository.over)
    device.expect_failure("nothing", "which is not published with this sha256")


def test_a_flipped_byte_in_the_bundle(device: Device) -> None:
    data = bytearray(V2)
    data[len(data) // 2] ^= 0x10
    device.server.answers[".v2.zip"] = body(bytes(data))
    device.expect_failure("damaged", "is not what was signed")
    assert list((device.state / "spool").iterdir()) == [], "a poisoned part would fail for ever"
    device.expect_recovery()


@pytest.mark.parametrize("path", [".v2.zip", "timestamp.json"])
def test_endless_data(device: Device, path: str) -> None:
    device.server.answers[path] = endless()
    device.expect_failure("oversized", "more than was announced")
    assert sum(file.stat().st_size for file in (device.state / "spool").iterdir()) == 0
    device.expect_recovery()


@pytest.mark.parametrize("path", ["timestamp.json", "3.prod.json", "stable.json"])
def test_files_cut_short(device: Device, path: str) -> None:
    found = next(device.site.repo.rglob(f"*{path}"))
    device.server.answers[path] = body(found.read_bytes()[:-20])
    device.expect_failure("damaged", "keeps scoring")
    device.expect_recovery()


def test_a_bundle_signed_properly_with_wrong_golden_vectors(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """The release tool would not publish it; here its own check is switched off, as a broken release job would."""
    monkeypatch.setattr(work, "self_test", lambda scorer: None)
    device.site.publish(make_bundle(version="v3", wrong_golden=True))
    result = device.pull()
    assert (result.outcome, result.bundle) == ("refused", "press/v3")
    assert "golden vectors: score.detector differs by 1" in result.detail
    assert device.active == "v1"
    device.server.requests.clear()
    again = device.pull()
    assert again.outcome == "activated", "the next best release is taken"
    assert (again.bundle, device.active) == ("press/v2", "v2")
    final = device.pull()
    assert (final.outcome, final.trouble) == ("refused", "refused")
    assert "v3 was refused here before: golden vectors" in final.detail
    assert not [path for path, _ in device.server.requests if "v3.zip" in path], "and never fetched again"
    told = [(e.transition, e.bundle and e.bundle.version) for e in Activation(device.state).events()]
    assert told.count(("refused", "v3")) == 1


def read_a_log(device: Device) -> None:
    """Let v1 read an hour of readings, the last two of them far off."""
    log = device.state / "readings.csv"
    lines = [f"2026-01-17T00:{i:02d}:00Z,{','.join(3 * ['10' if i < 58 else '5000'])}\n" for i in range(60)]
    log.write_text("timestamp,s0,s1,s2\n" + "".join(lines))
    config = Config.model_validate(
        {
            "device": {"id": "press-0001", "type": "press"},
            "log": {"path": str(log), "period": "60s"},
            "state": {"dir": str(device.state)},
        }
    )
    with closing(Journal(device.state, 1 << 30)) as journal:
        pipeline = Pipeline(config, read_bundle(V1), journal)
        while pipeline.step() is not None:
            pass


def test_a_bundle_whose_model_fails_on_the_last_day_is_refused_with_the_reason(device: Device) -> None:
    read_a_log(device)
    device.site.publish(make_bundle(version="v3", fails_above=1000))
    result = device.pull()
    assert (result.outcome, result.bundle, device.active) == ("refused", "press/v3", "v1")
    assert "press/v3 refused: its model fails: models/detector.onnx: " in result.detail
    assert device.pull().bundle == "press/v2", "refused for good: the next best release is taken"


def test_a_shadow_that_objects_day_after_day_is_no_test_without_an_end(device: Device) -> None:
    read_a_log(device)
    device.site.publish(make_bundle(version="v3", threshold=-1.0, rule=AlertRule(persistence=1)))
    for _ in range(TRIES + 1):
        result = device.pull()
        assert (result.bundle, result.trouble, device.active) == ("press/v3", "shadow", "v1"), result.detail


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"device_type": "mill"}, "trained for devices of type mill"),
        ({"period_s": 10.0}, "made for a period of 10 s, [log] period is 60 s"),
    ],
)
def test_a_bundle_that_does_not_fit(device: Device, changes: dict[str, object], says: str) -> None:
    device.site.publish(make_bundle(version="v3", **changes))  # type: ignore[arg-type]
    for _ in range(2):
        result = device.pull()
        assert (result.outcome, result.bundle) == ("refused", "press/v3")
        assert says in result.detail
        assert device.active == "v1"
    fetched = [path for path, _ in device.server.requests if "v3.zip" in path]
    assert len(fetched) == 1, "it is kept: the configuration may be corrected, and the network is dear"
    assert [e.transition for e in Activation(device.state).events()].count("update_failed") == 1


def test_nothing_below_the_security_floor(device: Device) -> None:
    device.site.publish(make_bundle(version="v3"), security_floor=3)
    assert device.pull().bundle == "press/v3"
    third = next(b for b in Folder(device.site.repo).load(datetime.now(UTC)).bundles() if b.facts.version == "v3")
    actions.change_policy(
        device.site.repo,
        [device.site.keys],
        "press",
        "stable",
        lambda policy: rollout.revoke(policy, third.sha256),
    )
    result = device.pull()
    assert (result.outcome, result.bundle) == ("refused", "press/v2")
    assert "below the security floor 3" in result.detail
    assert device.active == "v3", "revoked, but the only one that may run"


def test_a_foreign_root_file_is_a_mistake_in_the_installation(device: Device) -> None:
    device.root = b'{"signed": {}}'
    result = device.pull()
    assert (result.outcome, result.trouble) == ("failed", "configuration")
    assert "updates.root is not a valid root.json" in result.detail
    assert device.active == "v1"


def test_a_missing_root_file_is_told_by_the_service(device: Device, tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(
        '[device]\nid = "press-0001"\ntype = "press"\n[log]\npath = "x"\nperiod = "60s"\n'
        f'[state]\ndir = "{device.state}"\n[updates]\nurl = "http://127.0.0.1:1/"\nroot = "nowhere.json"\n'
    )
    result = update(load(tmp_path / "agent.toml"))
    assert (result.outcome, result.trouble) == ("failed", "configuration")
    (trouble,) = Activation(device.state).troubles()
    assert (trouble.kind, trouble.detail) == ("update_failing", result.detail)
    assert "nowhere.json cannot be read" in trouble.detail


# ---- broken off ------------------------------------------------------------------------------------------------


def test_a_download_that_breaks_off_goes_on(device: Device) -> None:
    device.server.answers[".v2.zip"] = ranged(V2, cut=700)
    device.expect_failure("truncated", "broke off")
    device.server.answers[".v2.zip"] = ranged(V2)
    assert device.pull().outcome == "activated"
    assert [span for path, span in device.server.requests if ".v2.zip" in path] == [None, "bytes=700-"]
    assert device.active == "v2"


def test_a_server_that_knows_no_ranges_sends_all_again(device: Device) -> None:
    device.server.answers[".v2.zip"] = ranged(V2, cut=700)
    device.expect_failure("truncated", "broke off")
    device.expect_recovery()
    assert (f"/targets/prod/press/{name_of(device)}", "bytes=700-") in device.server.requests


def test_a_part_that_is_longer_than_the_file_is_no_obstacle(device: Device) -> None:
    spool = device.state / "spool"
    (spool / f"{device.second.sha256}.part").write_bytes(b"x" * (len(V2) + 5))
    device.expect_failure("damaged", "is not what was signed")
    device.expect_recovery()


def test_a_poisoned_part_is_thrown_away(device: Device) -> None:
    (device.state / "spool" / f"{device.second.sha256}.part").write_bytes(b"x" * 700)
    device.server.answers[".v2.zip"] = ranged(V2)
    device.expect_failure("damaged", "is not what was signed")
    device.expect_recovery()


def test_killed_while_it_downloads(device: Device, tmp_path: Path) -> None:
    """kill -9 of a real updater in the middle of a download: nothing is active that should not be, and it goes on."""
    (tmp_path / "root.json").write_bytes(device.root)
    config = tmp_path / "agent.toml"
    config.write_text(
        f"""
[device]
id = "press-0001"
type = "press"
[log]
path = "readings*.csv"
period = "60s"
[updates]
url = "{device.server.url}"
root = "root.json"
[state]
dir = "{device.state.as_posix()}"
"""
    )
    command = [sys.executable, "-m", "fieldwatch_agent", "update", "--config", str(config)]
    part = device.state / "spool" / f"{device.second.sha256}.part"

    device.server.answers[".v2.zip"] = stall(V2, 700)
    with subprocess.Popen(command) as child:
        wait_until(part.exists, "the download to begin")
        busy = device.pull()
        assert (busy.outcome, busy.trouble) == ("failed", "busy"), "two updaters never work at once"
        child.kill()
    assert device.active == "v1"
    device.server.answers.clear()
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["outcome"] == "activated"
    assert device.active == "v2"


# ---- the disk --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_FSIZE is POSIX")
def test_a_disk_that_takes_no_more(device: Device, tmp_path: Path) -> None:
    """A child that may write no file longer than 16 kB: the metadata fits, the bundle does not."""
    big = make_bundle(sensors=300, version="v3")
    device.site.publish(big)
    program = (
        "import resource, sys, json; resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))\n"
        "from dataclasses import asdict; from pathlib import Path; from fieldwatch_agent.update.updater import pull\n"
        "url, root, state = sys.argv[1:]\n"
        "print(json.dumps(asdict(pull(url, Path(root).read_bytes(), Path(state), 'press-0001', 'press', 'stable'))))"
    )
    (tmp_path / "root.json").write_bytes(device.root)
    command = [sys.executable, "-c", program, device.server.url, str(tmp_path / "root.json"), str(device.state)]
    assert len(big) > 16384
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert (said["outcome"], said["trouble"]) == ("failed", "disk")
    assert "no room" in said["detail"]
    assert device.active == "v1"
    assert device.pull().bundle == "press/v3"


def test_a_bundle_for_which_there_is_no_room_is_not_begun(device: Device) -> None:
    folder = Folder(device.site.repo)
    repository = folder.load(datetime.now(UTC))
    repository._targets(PROD)[device.second.target].length = 1 << 60
    repository.touch(PROD)
    folder.put(repository.seal(Keyring.load([device.site.keys])), repository.over)
    device.expect_failure("disk", "no room for the update")
    assert not [path for path, _ in device.server.requests if ".zip" in path]


def test_the_disk_keeps_a_reserve(device: Device) -> None:
    """The bundle would fit, and leave less than the journal may need."""
    free = shutil.disk_usage(device.state).free
    folder = Folder(device.site.repo)
    repository = folder.load(datetime.now(UTC))
    repository._targets(PROD)[device.second.target].length = (free - (32 << 20)) // 2
    repository.touch(PROD)
    folder.put(repository.seal(Keyring.load([device.site.keys])), repository.over)
    device.expect_failure("disk", "no room for the update")
    assert not [path for path, _ in device.server.requests if ".zip" in path]


class Synced:
    """What was flushed to the disk and what was renamed, in order, by path."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[tuple[str, Path]] = []
        fsync, replace = os.fsync, Path.replace

        def flushed(handle: int) -> None:
            self.log.append(("flush", Path(f"/proc/self/fd/{handle}").readlink()))
            fsync(handle)

        def renamed(source: Path, target: Path) -> Path:
            self.log += [("rename", source), ("to", target)]
            return replace(source, target)

        monkeypatch.setattr(os, "fsync", flushed)
        monkeypatch.setattr(Path, "replace", renamed)

    def order(self, *steps: tuple[str, Path]) -> None:
        """These steps were taken, in this order."""
        left = iter(self.log)
        for step in steps:
            assert step in left, f"{step} is missing, or out of order: {self.log}"

    def whole(self, path: Path) -> None:
        """The file is on the disk: its bytes before the rename, the rename after it."""
        temporary = path.with_name(path.name + ".tmp")
        self.order(("flush", temporary), ("rename", temporary), ("to", path), ("flush", path.parent))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="paths of handles are told by Linux")
def test_a_first_install_is_on_the_disk_when_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site.make(tmp_path)
    first = site.publish(V1)
    state = tmp_path / "new" / "state"
    synced = Synced(monkeypatch)
    result = pull(site.repo, site.root, state, "press-0001", "press", "stable")
    assert result.outcome == "activated"
    for new in (state.parent, state, state / "bundles", state / "tuf", state / "spool"):
        synced.order(("flush", new.parent))
    assert synced.log.index(("flush", tmp_path)) < synced.log.index(("flush", state)), "parents first"
    part, bundle = state / "spool" / f"{first.sha256}.part", state / "bundles" / f"{first.sha256}.zip"
    synced.order(("flush", part), ("flush", part.parent), ("flush", bundle.with_name(bundle.name + ".tmp")))
    synced.whole(bundle)
    switch = synced.log[synced.log.index(("to", bundle)) :]
    synced.log = switch
    synced.whole(state / "activation.copy.json")
    synced.whole(state / "activation.json")


# ---- what is remembered -----------------------------------------------------------------------------------------


def lose_what_is_known(device: Device) -> None:
    for name in ("activation.json", "activation.copy.json"):
        (device.state / name).unlink()


def test_the_security_floor_holds_though_the_state_is_lost(device: Device) -> None:
    device.site.publish(make_bundle(version="v3"), security_floor=3)
    assert device.pull().bundle == "press/v3"
    lose_what_is_known(device)
    third = next(b for b in Folder(device.site.repo).load(datetime.now(UTC)).bundles() if b.facts.version == "v3")
    actions.change_policy(
        device.site.repo, [device.site.keys], "press", "stable", lambda policy: rollout.revoke(policy, third.sha256)
    )
    result = device.pull()
    assert (result.outcome, result.bundle, device.active) == ("refused", "press/v2", "v3"), result.detail
    assert "below the security floor 3" in result.detail


def test_an_unreadable_state_decides_nothing(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals and floor are not known: no bundle is taken, none is forgotten."""
    read, held = Path.read_bytes, [True]

    def refuse(path: Path) -> bytes:
        if held[0] and path.name.startswith("activation"):
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    result = device.pull()
    assert (result.outcome, result.trouble) == ("failed", "disk")
    assert "activation.json" in result.detail
    held[0] = False
    device.expect_recovery()


def test_a_self_test_without_memory_is_tried_again(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    from fieldwatch_contract import scoring

    right, left = scoring.Scorer, [TRIES + 2]

    def hungry(bundle: Bundle) -> scoring.Scorer:
        if left[0]:
            left[0] -= 1
            raise MemoryError
        return right(bundle)

    monkeypatch.setattr(scoring, "Scorer", hungry)
    while left[0]:
        device.expect_failure("memory", "not enough memory")
    assert Activation(device.state).state().refused == {}
    device.expect_recovery()
    assert len([path for path, _ in device.server.requests if ".v2.zip" in path]) == 1, "it is kept meanwhile"


def test_a_self_test_that_is_interrupted_is_no_test_without_an_end(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fieldwatch_contract import scoring

    def interrupted(bundle: Bundle) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(scoring, "self_test", interrupted)
        for _ in range(TRIES + 1):
            with pytest.raises(KeyboardInterrupt):
                device.pull()
    device.expect_recovery()


def test_a_first_bundle_that_cannot_run_here_makes_room_for_the_next_best(device: Device) -> None:
    """Alone it stays, to be tried again; the updater offers what else this device is admitted to."""
    device.expect_recovery()
    activation = Activation(device.state)
    shutil.rmtree(device.state)
    assert device.pull().bundle == "press/v2"
    activation = Activation(device.state)
    activation.happened("broken", device.second.sha256, "its model fails")
    assert device.active == "v2"
    assert device.pull().bundle == "press/v1"
    assert device.active == "v1"


def test_a_bundle_that_was_set_aside_waits(device: Device) -> None:
    activation = Activation(device.state)
    activation.commit(device.first.sha256)
    assert device.pull().bundle == "press/v2"
    Activation(device.state).happened("failing", device.second.sha256, "no memory")
    assert device.active == "v1"
    result = device.pull()
    assert (result.outcome, result.trouble, device.active) == ("refused", "memory", "v1")
    assert "was set aside: this computer could not run it" in result.detail
    assert Activation(device.state).state().refused == {}


def test_since_when_the_server_cannot_be_reached_is_told(device: Device) -> None:
    before = clock.iso(clock.now())
    for _ in range(2):
        device.expect_failure("down", "cannot be reached", "http://127.0.0.1:9/")
        first, *others = Activation(device.state).troubles()
        assert (first.kind, others) == ("update_failing", [])
        assert first.since is not None
        assert before <= first.since <= clock.iso(clock.now())
        assert "network, proxy, updates.url" in first.remedy
    since = first.since
    device.expect_failure("down", "cannot be reached", "http://127.0.0.1:9/")
    assert Activation(device.state).troubles()[0].since == since
    device.expect_recovery()
    assert Activation(device.state).troubles() == []


@pytest.mark.parametrize("place", ["tuf/snapshot.json", "tuf/policy", "update.lock"])
def test_a_folder_in_the_place_of_a_file_is_named(device: Device, place: str) -> None:
    path = device.state / place
    path.unlink()
    path.mkdir()
    device.expect_failure("blocked", str(path))
    (trouble,) = Activation(device.state).troubles()
    assert "move what is in this place" in trouble.remedy
    path.rmdir()
    device.expect_recovery()


def test_a_state_folder_that_cannot_be_written(device: Device) -> None:
    shutil.rmtree(device.state / "spool")
    (device.state / "spool").write_bytes(b"a file where a folder should be")
    device.expect_failure("disk", "spool")
    (device.state / "spool").unlink()
    device.expect_recovery()
