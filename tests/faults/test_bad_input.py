"""Bad weather, with the whole agent: the real program on real files, judged by its journal, its status and its log.

The parts have their own tests for each kind of bad input. Here it is seen that none of it ends the agent or stops
scoring, that every line is accounted for, and that the person who asks ``status`` is told what is wrong and where.
"""

from __future__ import annotations

import ctypes
import gzip
import itertools
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_agent import service
from fieldwatch_agent.config import load
from fieldwatch_agent.score import pipeline
from fieldwatch_agent.send.journal import FILE, JournalError, Outbox, read_status
from fieldwatch_agent.send.uplink import Uplink
from fieldwatch_agent.service import Service
from fieldwatch_agent.update.activation import Activation
from fieldwatch_cloud.store import Store
from fieldwatch_contract import clock
from fieldwatch_contract.events import AlertData

from tests.bundles import make_bundle
from tests.conftest import find_port, wait_until
from tests.delivery import make_journal, result, stored, waiting
from tests.updates import Site

pytestmark = pytest.mark.timeout(120)
ROOT = Path(__file__).parents[2]
START = 1_768_608_000_000_000
HEADER = "timestamp,s0,s1,s2"
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, PR_CAPBSET_DROP = 1, 2, 24


def as_anybody() -> None:
    """Let file permissions count for a child of root too: it is started without the right to pass them over."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
                raise OSError(ctypes.get_errno(), "cannot drop a capability")


def limit_files(size: int) -> None:
    """Let a child write no file beyond so many bytes."""
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


class Device:
    """A folder with a log, a configuration and a bundle, and what the agent says of it."""

    def __init__(self, folder: Path, more: str = "", log: str = "", period: str = "60s") -> None:
        self.folder = folder
        self.log = folder / "logs" / "readings.csv"
        self.config = folder / "agent.toml"
        self.state = folder / "state"
        self.output = folder / "agent.log"
        self.written = 0
        self.log.parent.mkdir(exist_ok=True)
        self.config.write_text(
            '[device]\nid = "press-0001"\ntype = "press"\n'
            f'[log]\npath = "logs/readings.csv"\nperiod = "{period}"\n{log}\n'
            f'[state]\ndir = "state"\n{more}'
        )

    def install(self, **options: Any) -> None:
        activation = Activation(self.state)
        activation.switch(activation.stage(make_bundle(3, lookback=5, **options)))

    def command(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fieldwatch_agent", arguments[0], "--config", str(self.config), *arguments[1:]]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=60, **options)

    def start(self, spawn: Callable[..., subprocess.Popen[bytes]], **options: Any) -> subprocess.Popen[bytes]:
        with self.output.open("ab") as output:
            return spawn(
                [sys.executable, "-m", "fieldwatch_agent", "run", "--config", str(self.config)],
                stdout=output, stderr=output, cwd=ROOT, **options,
            )  # fmt: skip

    # ---- writing -----------------------------------------------------------------------------------------------

    def write(self, text: str | bytes) -> None:
        with self.log.open("ab") as file:
            file.write(text if isinstance(text, bytes) else text.encode())

    def line(self, *values: object) -> str:
        """The next reading; a minute after the one before."""
        self.written += 1
        return f"{clock.iso(START + self.written * clock.MINUTE)},{','.join(map(str, values or (10, 10.5, 9.5)))}\n"

    # ---- what the agent says -----------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        try:
            return read_status(self.state / FILE)
        except JournalError:
            return {"health": None, "ledger": [], "uplink": ""}

    def health(self) -> dict[str, Any]:
        return self.status()["health"] or {"log": "", "log_detail": "", "update": ""}

    def trouble(self, kind: str) -> dict[str, Any]:
        """What health tells of this kind; empty where there is none."""
        return next((each for each in self.health().get("troubles", []) if each["kind"] == kind), {})

    def events(self, kind: str) -> list[dict[str, Any]]:
        if not (self.state / FILE).exists():
            return []
        with closing(Outbox(self.state / FILE)) as outbox:
            return [json.loads(message.data) for message in outbox.pending(0, 10**6) if message.event == kind]

    def refused(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for day in self.status()["ledger"]:
            found.update(day["refused"])
        return found

    def expect_results(self, count: int) -> list[dict[str, Any]]:
        """Wait for so many, of all readings written so far, in order, each once."""
        wait_until(lambda: len(self.events("result")) >= count, f"{count} results")
        results = self.events("result")
        assert len(results) == count
        times = [result["ts"] for result in results]
        assert times == sorted(set(times))
        return results

    def expect_log(self, state: str, *words: str) -> None:
        """Wait until ``status`` tells this state of the log, with these words."""

        def told() -> bool:
            health = self.health()
            return health["log"] == state and all(word in health["log_detail"] for word in words)

        wait_until(told, f"status to say {state} {words}")

    def expect_refused(self, **counts: int) -> None:
        wait_until(lambda: self.refused() == Counter(counts), f"refused lines: {counts}")

    def assert_conserved(self, lines: int) -> None:
        ledger = self.status()["ledger"]
        for day in ledger:
            assert day["read"] == day["scored"] + sum(day["refused"].values()) + day["evicted"] + day["pending"], day
        assert sum(day["read"] for day in ledger) == lines
        assert sum(day["evicted"] for day in ledger) == 0

    def said(self, text: str) -> bool:
        return text in self.output.read_text()


def test_one_agent_through_all_weathers(tmp_path: Path, spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    """No log, an empty one, nonsense of every kind, a lost right, a lost file; no broker and no update server."""
    broker, server = find_port(), find_port()
    mqtt = f'[mqtt]\nurl = "mqtt://127.0.0.1:{broker}"\n'
    device = Device(tmp_path, f'{mqtt}[updates]\nurl = "http://127.0.0.1:{server}/"\nroot = "root.json"\n')
    (tmp_path / "repo").mkdir()
    (tmp_path / "root.json").write_bytes(Site.make(tmp_path / "repo").root)
    device.install()
    agent = device.start(spawn, preexec_fn=as_anybody)

    device.expect_log("waiting", str(device.log))
    device.log.touch()
    device.expect_log("following")

    device.write(f"{HEADER}\n" + "".join(device.line() for _ in range(3)))
    device.expect_results(3)

    # values that are none: the line counts, the value is missing and told
    device.write(device.line(10, "ERR", 10) + device.line(10, "inf", 10) + device.line("-1e999", "nan?", 10))
    results = device.expect_results(6)
    assert all(isinstance(score["score"], float) for result in results for score in result["scores"]), results
    device.expect_log("following", "values that are not numbers", "s1 3×", "s0 1×")

    # a number that no model can square: a score still, an alert that the cloud can read, and a sensor that is to blame
    device.write("".join(device.line(10, "1e99", 10) for _ in range(4)))
    results = device.expect_results(10)
    top = results[-1]["scores"][0]
    assert (top["verdict"], top["sensors"]) == ("anomalous", ["s1"])
    assert 1e38 < top["score"] < 1e39
    alert = AlertData.model_validate(wait_until(lambda: device.events("alert"), "the alert")[0])
    assert (alert.sensors, alert.score) == (["s1"], top["score"])

    # more and fewer columns, no time, no text
    device.write(device.line(10, 10) + device.line(10, 10, 10, 10) + "yesterday,10,10,10\n" + "\n# note\n")
    device.write(device.line(10, 10, 10).replace("10,", "1\0\0,").encode())
    device.expect_refused(columns=2, timestamp=1, encoding=1)

    # a torn line waits for its end
    whole = device.line()
    device.write(whole[:30])
    device.write(whole[30:])
    device.expect_results(11)

    # the clock: twice the same minute, an hour back, years ahead
    at = START + device.written * clock.MINUTE
    device.write(
        f"{clock.iso(at + 1)},10,10,10\n{clock.iso(at - 60 * clock.MINUTE)},10,10,10\n2099-01-01T00:00:00Z,1,1,1\n"
    )
    device.expect_refused(columns=2, timestamp=1, encoding=1, duplicate=1, late=1, future=1)
    details = {reject["reason"]: reject["detail"] for reject in device.status()["rejects"]}
    assert clock.iso(at) in details["late"]
    assert "clock" in details["future"]
    device.write(device.line())
    device.expect_results(12)

    # sensors reordered, one renamed, one new: found by name, the difference told
    device.write("timestamp,s2,temp,flow,s0\n" + "".join(device.line(100, 10, 1, 10) for _ in range(3)))
    results = device.expect_results(15)
    device.expect_log("following", "1 of the bundle's 3 sensors have no column: s1", "temp, flow")
    assert results[-3]["scores"][0]["sensors"][0] == "s2", results[-3]
    assert device.said("gone: s1; new: temp, flow")
    device.write(f"{HEADER}\n" + device.line())
    device.expect_results(16)
    wait_until(lambda: "no column" not in device.health()["log_detail"], "the columns to be well again")

    # the right to read is taken away: as by a lock
    device.write(device.line()[:-1])
    device.log.chmod(0)
    os.utime(device.log)
    device.expect_log("unreadable", str(device.log), "ermission")
    device.log.chmod(0o600)
    device.write("\n")
    device.expect_results(17)

    # away and back, and cut off
    aside = device.log.with_name("away")
    device.log.rename(aside)
    device.expect_log("missing", str(device.log))
    aside.rename(device.log)
    device.write(device.line())
    device.expect_results(18)
    device.log.write_text(f"{HEADER}\n" + device.line())
    device.expect_results(19)
    (gap,) = device.events("gap")
    assert gap["reason"] == "log_truncated"
    assert device.said("was truncated or replaced")

    # neither broker nor update server: said, and no harm
    wait_until(lambda: "nobody listens" in device.status()["uplink"], "the broker's absence to be told")
    wait_until(lambda: str(server) in device.health()["update"], "the server's absence to be told")
    told = device.command("status").stdout
    assert f"uplink    broker 127.0.0.1:{broker}: nobody listens there" in told
    assert "update    " in told
    assert agent.poll() is None
    device.assert_conserved(19 + 7)
    assert "Traceback" not in device.output.read_text()
    agent.terminate()
    assert agent.wait(10) == 0


def test_a_device_whose_lines_are_all_refused_is_not_well_anywhere(
    tmp_path: Path, spawn: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """After an update of the device's program each line has a column more: status, health and the log say so."""
    device = Device(tmp_path)
    device.install()
    device.write(f"{HEADER}\n" + "".join(device.line() for _ in range(5)))
    device.start(spawn)
    device.expect_results(5)
    device.write("".join(device.line(1, 2, 3, 4) for _ in range(7)))
    trouble = wait_until(lambda: device.trouble("lines_refused"), "the trouble")
    assert "7 of 12 lines of the last 10 minutes were refused: 7 columns; readings.csv line " in trouble["detail"]
    assert "has 5 fields, the header has 4" in trouble["detail"]
    assert "check" in trouble["remedy"]
    assert trouble["since"] <= device.health()["ts"]
    lines = device.health()["lines"]
    assert (lines["read"], lines["scored"], lines["refused"]) == (12, 5, {"columns": 7})
    assert device.said("WARNING lines_refused: 7 of 12 lines of the last 10 minutes were refused: 7 columns")
    told = device.command("status").stdout
    assert f"trouble   lines_refused since {trouble['since']}: 7 of 12 lines" in told
    assert f"          to do: {trouble['remedy']}" in told
    assert "12 read, 5 scored" in told
    device.write("".join(device.line(1, 2, 3, 4) for _ in range(20)))
    device.expect_refused(columns=27)
    assert device.output.read_text().count("lines_refused") == 1, "not for each line"
    device.write(f"timestamp,s0,temp,s2\n{device.line()}")
    wait_until(lambda: device.trouble("sensors_missing"), "the missing sensor")
    assert device.trouble("columns_unknown")["detail"] == "1 columns are unknown to the bundle: temp"
    device.write(f"{HEADER}\n{device.line()}")
    wait_until(lambda: device.said("sensors_missing: over"), "its end to be said")
    assert not device.trouble("sensors_missing") and not device.trouble("columns_unknown")


def test_a_state_folder_that_is_removed_ends_the_agent_with_the_reason(
    tmp_path: Path, spawn: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """What it would write from then on, nobody could ever read; the restart reads the log again."""
    device = Device(tmp_path)
    device.install()
    device.write("timestamp,s0,s1,s2\n" + "".join(device.line() for _ in range(10)))
    agent = device.start(spawn)
    device.expect_results(10)
    for path in sorted(device.state.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)  # the agent writes and renames there
    device.write(device.line())
    assert agent.wait(60) == 1
    said = device.output.read_text()
    assert "was removed while the agent was running" in said, said
    assert "Traceback" not in said
    device.install()
    device.start(spawn)
    device.expect_results(11)


def test_models_that_cannot_judge_are_told(tmp_path: Path, spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    device = Device(tmp_path)
    device.install(classifier=True, max_missing=0.5)
    device.write(f"{HEADER}\n" + "".join(device.line("", "", 9.5) for _ in range(6)))
    device.start(spawn)
    trouble = wait_until(lambda: device.trouble("models_unknown"), "the trouble")
    assert "detector could not judge 6 of 6 (too many sensors without a value)" in trouble["detail"]
    assert "classifier could not judge 6 of 6" in trouble["detail"]
    assert device.health()["lines"]["unknown"] == 6
    wait_until(lambda: device.said("WARNING models_unknown: "), "the log to say so")


def test_a_journal_that_was_damaged_is_told_by_health_status_and_log(tmp_path: Path) -> None:
    """For a day after it was healed: the disk that did it is still there."""
    device = Device(tmp_path)
    device.install()
    device.write(f"{HEADER}\n" + "".join(device.line() for _ in range(10)))
    assert device.command("run", "--until-idle").returncode == 0
    assert not device.trouble("journal_damaged")
    with closing(sqlite3.connect(device.state / FILE, isolation_level=None)) as db:
        db.execute("UPDATE meta SET value = 'x' WHERE key = 'epoch'")
    for _ in range(2):  # another start does not end it
        done = device.command("run", "--until-idle")
        assert done.returncode == 0, done.stderr
        assert "WARNING journal_damaged: " in done.stderr
        trouble = device.trouble("journal_damaged")
        assert "repaired: epoch has " in trouble["detail"]
        assert "see that the disk is sound" in trouble["remedy"]
    assert "epoch" not in device.health()["log_detail"], "it says nothing of the log"
    assert "trouble   journal_damaged since " in device.command("status").stdout


def test_status_and_log_name_each_alert(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.install(classifier=True)
    device.write(f"{HEADER}\n" + "".join(device.line(*(3 * [90 if 10 <= i < 40 else 10])) for i in range(70)))
    device.write("".join(device.line(90, 90, 90) for _ in range(4)))
    done = device.command("run", "--until-idle")
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "alert: " in line]
    assert len(said) == len(device.events("alert")) <= 6
    assert any("alert: detector opened 2026-01-17T00:13:00Z: score " in line for line in said), said
    assert any("alert: classifier resolved " in line for line in said), said
    told = device.command("status").stdout
    assert "alert     " in told
    since = clock.iso(START + 71 * clock.MINUTE)
    assert f"          detector is open since {since}" in told
    assert f"          classifier is open since {since}" in told


def test_status_by_an_account_that_may_not_read_says_so(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.install()
    assert device.command("run", "--until-idle").returncode == 0
    device.state.chmod(0)
    done = device.command("status", preexec_fn=as_anybody)
    device.state.chmod(0o700)
    assert done.returncode == 1
    assert f"{device.state / FILE}: Permission denied; use the agent's account" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_before_the_first_run_names_the_bundle(tmp_path: Path) -> None:
    device = Device(tmp_path)
    assert "is active" not in device.command("status").stderr
    device.install(version="v7")
    done = device.command("status")
    assert done.returncode == 1
    assert "has the agent run with this configuration?" in done.stderr
    assert "bundle press/v7 is active" in done.stderr


def test_waiting_for_idle_does_not_end_well_while_lines_wait_for_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service, "IDLE_LIMIT_S", 1.0)
    device = Device(tmp_path)
    device.install()
    device.write(f"{HEADER}\n" + "".join(device.line() for _ in range(5)))
    os.utime(device.log, ns=(START * 1000, START * 1000))
    monkeypatch.setattr(clock, "now", lambda: START - 9 * clock.DAY)
    assert Service(load(device.config), device.config).run(until_idle=True) == 1
    assert "this computer's clock says 2026-01-08" in caplog.text
    assert device.trouble("clock_wrong")
    assert device.health()["lag_bytes"] == device.log.stat().st_size - len(f"{HEADER}\n")
    assert device.refused() == Counter()


def test_a_log_in_another_encoding_than_configured(tmp_path: Path) -> None:
    device = Device(tmp_path, log='encoding = "utf-8"')
    device.install()
    device.write("".join([f"{HEADER}\n", *(device.line() for _ in range(5))]).encode("utf-16-le"))
    run = device.command("run", "--until-idle")
    assert run.returncode == 0, run.stderr
    assert device.refused()["encoding"] >= 5
    told = device.command("status").stdout
    assert "is [log] encoding right?" in told
    assert device.events("result") == []


def test_a_log_without_line_ends(tmp_path: Path, spawn: Callable[..., subprocess.Popen[bytes]]) -> None:
    """8-bit text that is configured as UTF-16: not one line can be cut off it."""
    device = Device(tmp_path, log='encoding = "utf-16"', period="1s")
    device.install(period_s=1.0)
    device.write(f"{HEADER}\n" + device.line())
    device.start(spawn)
    device.expect_log("silent", f"{device.log.stat().st_size} bytes", "without a line end", "[log] encoding")


@pytest.mark.parametrize("command", ["run", "check", "status", "update"])
def test_an_unknown_key_ends_with_2(tmp_path: Path, command: str) -> None:
    device = Device(tmp_path, log='delimeter = ";"')
    done = device.command(command)
    assert done.returncode == 2
    assert f"{device.config}:7: [log] delimeter: unknown key; did you mean delimiter?" in done.stderr
    assert "Traceback" not in done.stderr
    assert not device.state.exists()


def test_replay_refuses_what_the_agent_refuses(tmp_path: Path) -> None:
    """One line of the year 2099 in the middle: as a row it would make all that come after it late."""
    device = Device(tmp_path)
    device.install()
    device.write(f"{HEADER}\n" + "".join(device.line() for _ in range(5)) + "2099-01-01T00:00:00Z,1,1,1\n")
    device.write(
        "".join(device.line() for _ in range(5)) + device.line().replace("T00:11", "T00:02") + "nonsense,1,2,3\n"
    )
    assert device.command("run", "--until-idle").returncode == 0
    bundle = tmp_path / "b.zip"
    bundle.write_bytes(make_bundle(3, lookback=5))
    command = [sys.executable, "-m", "fieldwatch_agent", "replay", str(device.log), "--bundle", str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)
    scores = [(row["ts"], row["score"], row["verdict"]) for row in map(json.loads, done.stdout.splitlines())]
    agent = [(each["ts"], each["scores"][0]["score"], each["scores"][0]["verdict"]) for each in device.events("result")]
    assert scores == agent
    assert len(scores) == 10
    for reason, count in device.refused().items():
        assert f"'{reason}': {count}" in done.stderr


def test_replay_says_what_is_wrong(tmp_path: Path) -> None:
    def replay(log: Path, *more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fieldwatch_agent", "replay", str(log), "--bundle", str(bundle), *more]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=60)

    device = Device(tmp_path)
    bundle = tmp_path / "b.zip"
    bundle.write_bytes(make_bundle(3))
    device.write(f"{HEADER}\n{device.line()}")
    nowhere = tmp_path / "no" / "picture.html"
    done = replay(device.log, "--html", str(nowhere))
    assert (done.returncode, done.stderr.strip()) == (1, f"{nowhere}: No such file or directory")
    packed = tmp_path / "part.csv.gz"
    packed.write_bytes(gzip.compress(device.log.read_bytes() + "".join(device.line() for _ in range(99)).encode())[:-9])
    done = replay(packed)
    assert done.returncode == 1
    assert f"{packed}: this gzip file is incomplete" in done.stderr
    assert done.stdout, "what is there is scored"
    device.log.write_text("time,sensor,value\n2026-01-01T00:00:00Z,s0,1\n2026-01-01T00:00:00Z,s1,1\n")
    done = replay(device.log)
    assert done.returncode == 1
    assert f"{device.log} line 2: none of the bundle's 3 sensors has a column" in done.stderr
    assert 'say [log] format = "long"' in done.stderr and "the file that --config names" in done.stderr
    device.log.write_bytes(b"")
    done = replay(device.log)
    assert done.returncode == 1
    assert "no reading was found" in done.stderr


# ---- the disk ------------------------------------------------------------------------------------------------------


class Room:
    """A state folder that takes little; ``more()`` makes room."""

    def __init__(self, device: Device, mounted: bool) -> None:
        self._device = device
        self.mounted = mounted
        self.child: int | None = None

    def preexec(self) -> None:
        if not self.mounted:
            limit_files(700_000)

    def more(self) -> None:
        if self.mounted:
            (self._device.state / "ballast").unlink()
        else:
            assert self.child is not None
            resource.prlimit(self.child, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.fixture(params=["file system", "file size"])
def cramped(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Device, Room]]:
    """A device with a bundle on a file system of its own; without the right to mount, with files of limited size."""
    device = Device(tmp_path)
    device.state.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(device.state)]
    mounted = request.param == "file system" and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    device.install()
    if mounted:
        free = shutil.disk_usage(device.state).free
        (device.state / "ballast").write_bytes(b"\0" * (free - 700_000))
    yield device, Room(device, mounted)
    if mounted:
        subprocess.run(["umount", "--lazy", str(device.state)], check=True)


def test_a_full_disk(
    cramped: tuple[Device, Room], mosquitto: Callable[..., Any], spawn: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """Nothing journalled is lost and no line is; the agent says so, waits, and goes on when there is room."""
    device, room = cramped
    with device.config.open("a") as file:
        file.write(f'[mqtt]\nurl = "{mosquitto().url}"\n')
    device.write(f"{HEADER}\n")
    agent = device.start(spawn, preexec_fn=room.preexec)
    room.child = agent.pid
    lines = 0
    while not device.said("cannot write the journal"):
        assert agent.poll() is None, device.output.read_text()
        assert lines < 100_000
        device.write("".join(device.line() for _ in range(500)))
        lines += 500
        wait_until(
            lambda: device.said("cannot write the journal") or len(device.events("result")) == device.written, "a block"
        )
    kept = device.events("result")
    assert 0 < len(kept) < lines
    assert device.said(f"{device.state / FILE}: cannot write the journal")
    assert device.said("is the disk full?")
    told = device.command("status")
    assert told.returncode == 0, told.stderr
    if room.mounted:
        assert "disk      0.0 MB free where the state is: make room" in told.stdout
        assert f"warning [state] dir: {device.state} has 0.0 MB of room left" in device.command("check").stdout
    device.write("".join(device.line() for _ in range(100)))
    lines += 100
    assert agent.poll() is None

    room.more()
    results = device.expect_results(lines)
    assert results[: len(kept)] == kept, "what was journalled is what it was"
    wait_until(lambda: device.said("can be written again"), "the end of it to be said")
    device.assert_conserved(lines)
    assert device.output.read_text().count("cannot write the journal") == 1, "said once, not every five seconds"
    assert "Traceback" not in device.output.read_text()
    assert agent.poll() is None


@pytest.mark.parametrize("limit", [0, 5000, 20_000])
def test_no_room_for_the_first_journal(tmp_path: Path, limit: int) -> None:
    """Nothing half-made stays that a later start would take for a damaged journal."""
    device = Device(tmp_path)
    device.install()
    device.write(f"{HEADER}\n{device.line()}")
    for _ in range(2):
        done = device.command("run", "--until-idle", preexec_fn=partial(limit_files, limit))
        assert done.returncode == 1
        assert f"{device.state / FILE}: cannot open the journal" in done.stderr
        assert "with room?" in done.stderr
        assert "Traceback" not in done.stderr
    done = device.command("run", "--until-idle")
    assert done.returncode == 0, done.stderr
    device.expect_results(1)
    assert device.events("gap") == []
    assert {path.name for path in device.state.glob("journal*")} == {FILE}


def test_acknowledgements_that_cannot_be_written(
    tmp_path: Path, mosquitto: Callable[..., Any], linked: Callable[..., Uplink], taken: Callable[..., Store]
) -> None:
    """They come again: what the cloud has leaves the outbox when there is room, and is stored once."""
    broker = mosquitto()
    store = taken(broker.url)
    journal = make_journal(tmp_path / "state", [result(minute) for minute in range(300)])
    with closing(sqlite3.connect(journal.path)) as db:
        db.execute("CREATE TRIGGER full BEFORE DELETE ON outbox BEGIN SELECT RAISE(ABORT, 'no room'); END")
    uplink = linked(journal, broker.url)
    wait_until(
        lambda: f"{journal.path}: the outbox cannot be read or cleared: no room" in (uplink.error or ""), "it said"
    )
    wait_until(lambda: stored(store) == 300, "the results")
    assert waiting(journal.path) == 300
    with closing(sqlite3.connect(journal.path)) as db:
        db.execute("DROP TRIGGER full")
    wait_until(lambda: waiting(journal.path) == 0, "the outbox to empty")
    assert stored(store) == 300
    assert [(day.read, day.scored, day.pending) for day in journal.ledger()] == [(0, 300, 0)]
    assert uplink.error is None
    journal.close()


@pytest.mark.soak
def test_commits_that_fail_lose_and_double_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every third commit fails, in the middle of it: nothing differs from an agent without trouble."""
    caplog.set_level("INFO", "fieldwatch.agent")
    monkeypatch.setattr(service, "RETRY_S", 0.0)
    monkeypatch.setattr(pipeline, "BLOCK_BYTES", 600)
    told: list[list[tuple[str, Any]]] = []
    inserts = itertools.count(1)
    for name in ("sound", "shaken"):
        folder = tmp_path / name
        folder.mkdir()
        device = Device(folder)
        device.install(classifier=True)
        device.write(f"{HEADER}\n")
        for part in range(60):
            device.write("".join(device.line(*(3 * [90 if part % 20 > 17 else 10])) for _ in range(20)) + "nonsense\n")
        agent = Service(load(device.config), device.config)
        if name == "shaken":
            agent._journal._file.db.create_function("shaken", 0, lambda: next(inserts) % 47 == 0)
            with closing(sqlite3.connect(device.state / FILE)) as db:
                db.execute(
                    "CREATE TRIGGER shake BEFORE INSERT ON outbox WHEN NEW.event = 'result' AND shaken() "
                    "BEGIN SELECT RAISE(ABORT, 'the disk is shaken'); END"
                )
        assert agent.run(until_idle=True) == 0
        device.assert_conserved(60 * 21)
        told.append([("result", result) for result in device.events("result")])
        told[-1] += [("alert", alert) for alert in device.events("alert")]
    sound, shaken = told
    assert len([kind for kind, _ in sound if kind == "alert"]) > 3
    assert shaken == sound
    failed, over = (caplog.text.count(text) for text in ("cannot write the journal", "can be written again"))
    assert failed == over > 20, "each time of trouble is said once, and its end"
