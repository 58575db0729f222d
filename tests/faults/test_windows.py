"""Habits that work on POSIX and would keep the agent down on Windows, run under a shim that refuses what Windows does.

First what the shim itself refuses; then core scenarios of journal, activation, updates, tail and the service's log,
which are tested elsewhere for what they do and here for how; then programs that hold a file for a moment.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID
from fieldwatch_agent import durable, places, service_log, system
from fieldwatch_agent.__main__ import main
from fieldwatch_agent.config import MqttConfig, load
from fieldwatch_agent.enrol import enroll
from fieldwatch_agent.health import Reporter
from fieldwatch_agent.log import shared_file
from fieldwatch_agent.send.connection import _password
from fieldwatch_agent.send.database import given
from fieldwatch_agent.send.journal import Journal, JournalError, Outbox
from fieldwatch_agent.update.activation import Activation
from fieldwatch_contract.enrolment import NO_PIN, Enrolled, Token
from fieldwatch_contract.events import Ack

from tests.authority import Authority
from tests.bundles import make_bundle
from tests.faults import test_log_rotation as rotation
from tests.faults import test_update_server as server
from tests.faults.test_update_server import Device, device  # noqa: F401
from tests.unit.agent import test_journal as journal
from tests.unit.agent import test_journal_damage as damaged
from tests.unit.agent import test_pipeline as pipeline
from tests.unit.agent import test_service_log as written
from tests.unit.agent.test_check import BASE
from tests.unit.agent.test_journal_damage import change, drain, new_journal, told
from tests.unit.release import test_activation as activation
from tests.windows import Windows

# ---- the shim --------------------------------------------------------------------------------------------------


def test_an_open_file_is_neither_renamed_nor_replaced_nor_deleted(windows: Windows, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path, other = folder / "a", folder / "b"
    path.write_bytes(b"a")
    other.write_bytes(b"b")
    acts: list[Callable[[], object]] = [
        lambda: path.rename(folder / "c"), path.unlink, lambda: path.replace(other), lambda: other.replace(path),
        lambda: os.remove(path), lambda: folder.rename(tmp_path / "elsewhere"),  # noqa: PTH107
    ]  # fmt: skip
    with path.open("rb"):
        for act in acts:
            with pytest.raises(PermissionError):
                act()
    with shared_file.open_shared(path):  # the agent's reading of a log is in nobody's way
        path.rename(folder / "c").rename(path)
        with pytest.raises(PermissionError):
            other.replace(path)
    with pytest.raises(FileExistsError):
        path.rename(other)
    path.replace(other)
    assert other.read_bytes() == b"a"


def test_what_sqlite_has_open_counts_too(windows: Windows, tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE a (b)")
        with pytest.raises(PermissionError):
            path.rename(tmp_path / "y.db")
    with windows.held(path), pytest.raises(sqlite3.OperationalError, match="unable to open"):
        sqlite3.connect(path)
    path.rename(tmp_path / "y.db")


def test_what_is_held_without_sharing_is_not_opened(windows: Windows, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"a")
    with windows.held(path), pytest.raises(PermissionError):
        shared_file.open_shared(path)
    with windows.held(path, "rd"):
        path.read_bytes()
        with pytest.raises(PermissionError):
            path.open("r+b")
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(PermissionError):
        folder.open("rb")
    with pytest.raises(PermissionError):
        os.open(folder, os.O_RDONLY)


@pytest.mark.parametrize("name", ["con", "NUL.txt", "com1", "aux ", "a.", "b ", "a:b", "a?b", 'a"b', "x" * 240])
def test_no_such_names(windows: Windows, tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(OSError):
        (tmp_path / name).mkdir()


def test_names_that_differ_in_case_alone(windows: Windows, tmp_path: Path) -> None:
    (tmp_path / "Agent.toml").write_bytes(b"")
    with pytest.raises(AssertionError, match=r"on Windows this is Agent\.toml"):
        (tmp_path / "agent.toml").write_bytes(b"")
    (tmp_path / "concert").write_bytes(b"")


# ---- what is tested elsewhere, under it --------------------------------------------------------------------------

SCENARIOS: list[Callable[..., None]] = [
    journal.test_progress_and_messages_come_back_as_committed,
    journal.test_a_journal_that_was_set_back_takes_a_new_epoch,
    damaged.test_the_journal_of_the_first_version_is_taken_over,
    damaged.test_damage_in_the_middle_of_a_run_is_healed_in_place,
    damaged.test_a_write_ahead_log_that_is_cut_under_us_is_survived,
    damaged.test_a_file_that_cannot_be_opened_again_is_tried_again,
    damaged.test_a_copy_of_the_file_is_not_touched_when_it_is_set_aside,
    activation.test_activated_is_said_when_it_has_scored_and_not_before,
    activation.test_the_service_clears_up_without_taking_away_what_is_about_to_be_active,
    activation.test_both_files_gone,
    partial(activation.test_a_lost_state_file_is_recovered_with_refusals_and_floor, content=b"{"),
    written.test_it_is_rotated_and_bounded,
    *(
        partial(rotation.test_rotation, kind=kind, headers=True, rotations=2, up=up)
        for kind in rotation.KINDS
        for up in (True, False)
    ),
    *(partial(rotation.test_lines_that_were_packed_away_are_found_by_content, rotations=count) for count in (1, 3)),
    rotation.test_a_packed_file_that_is_still_written_is_waited_for,
    rotation.test_half_a_packed_file_is_not_the_end_of_a_position,
]


def name(scenario: Callable[..., None]) -> str:
    """How a scenario is called in a report."""
    if isinstance(scenario, partial):
        return "-".join([scenario.func.__name__, *map(str, scenario.keywords.values())])
    return scenario.__name__


@pytest.mark.parametrize("scenario", SCENARIOS, ids=name)
def test_scenario(windows: Windows, tmp_path: Path, scenario: Callable[..., None]) -> None:
    windows.foreign = "readings*"
    scenario(tmp_path)
    assert windows.refused == []


@pytest.mark.parametrize("damage", ["header", "middle", "version"])
def test_a_damaged_journal_is_set_aside(windows: Windows, tmp_path: Path, damage: str) -> None:
    path = new_journal(tmp_path, results=500)
    if damage == "version":
        change(path, "PRAGMA user_version = 9")
    else:
        with path.open("r+b") as file:
            file.seek(0 if damage == "header" else 8192)
            file.write(b"\xff" * 4096)
    Journal(tmp_path, 1 << 30).close()
    assert len(list(tmp_path.glob("journal.db.damaged-*"))) >= 1
    assert windows.refused == []


def test_a_folder_in_the_place_of_a_bundle_is_no_bundle(windows: Windows, tmp_path: Path) -> None:
    """Windows says of it that one may not read it."""
    activation.test_a_damaged_file_falls_back_is_announced_and_can_be_had_again(tmp_path, "folder")
    assert {act[:4] for act in windows.refused} == {"open"}


UPDATES: list[Callable[[Device], None]] = [
    server.test_a_download_that_breaks_off_goes_on,
    server.test_a_poisoned_part_is_thrown_away,
]


@pytest.mark.parametrize("scenario", UPDATES, ids=name)
def test_update(device: Device, windows: Windows, scenario: Callable[[Device], None]) -> None:  # noqa: F811
    windows.root = str(device.state)  # the repository beside it is no Windows'
    scenario(device)
    assert {act for act in windows.refused if not act.startswith("link")} == set()


# ---- held for a moment -------------------------------------------------------------------------------------------


class Scanner:
    """Holds files as a virus scanner does, and lets go when somebody has waited for the third time."""

    def __init__(self, windows: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
        self._windows = windows
        self._holds = ExitStack()
        self.waits = 0
        monkeypatch.setattr(durable.time, "sleep", self._wait)

    def hold(self, path: Path, sharing: str = "rw") -> None:
        self._holds.enter_context(self._windows.held(path, sharing))

    def let_go(self) -> None:
        self._holds.close()

    def _wait(self, _: float) -> None:
        self.waits += 1
        if self.waits == 3:
            self.let_go()


@pytest.fixture
def scanner(windows: Windows, monkeypatch: pytest.MonkeyPatch) -> Scanner:
    return Scanner(windows, monkeypatch)


def test_a_damaged_journal_that_is_scanned_is_set_aside_a_moment_later(scanner: Scanner, tmp_path: Path) -> None:
    path = new_journal(tmp_path)
    change(path, "PRAGMA user_version = 9")
    scanner.hold(path)
    journal = Journal(tmp_path, 1 << 30)
    assert scanner.waits == 3
    assert [gap["reason"] for gap in told(drain(journal))][-1] == "journal_rebuilt"
    journal.close()


def test_a_damaged_journal_that_somebody_keeps_open_is_tried_again_with_the_next_step(
    windows: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup that takes minutes: nothing is half done, and the next step finds the file free."""
    monkeypatch.setattr(durable.time, "sleep", lambda _: None)
    new_journal(tmp_path, results=500)
    running = Journal(tmp_path, 1 << 30)
    outbox = running.open_outbox()
    running.close_outbox(outbox, sqlite3.DatabaseError("database disk image is malformed"))
    running._file._suspicion = running._file._mended = "the same damage again"  # so it is set aside
    with windows.held(running.path, "rw"):
        for _ in range(2):
            with pytest.raises(JournalError):
                running.progress()
        assert list(tmp_path.glob("journal.db.damaged-*")) == []
    for _ in range(2):
        with pytest.raises(JournalError):
            running.progress()
        if running._file._stale == running._file._suspicion == "":
            break
    assert running.progress() is not None
    outbox = running.open_outbox()
    outbox.acknowledge(Ack(epoch=outbox.epoch, upto=0))
    running.close_outbox(outbox)
    running.close()


def test_a_change_of_the_bundle_waits_for_who_reads_the_state_file(scanner: Scanner, tmp_path: Path) -> None:
    activation.install(tmp_path, activation.V1)
    scanner.hold(tmp_path / "activation.json")
    activation.install(tmp_path, activation.V2)
    assert scanner.waits == 3
    assert activation.running(tmp_path) == "v2"


def test_a_download_that_is_scanned_when_it_has_become_active(
    device: Device, windows: Windows, scanner: Scanner, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    """The update is done, and says so: what is held is deleted by the next one."""
    windows.root = str(device.state)
    part = device.state / "spool" / f"{device.second.sha256}.part"
    staged = Activation.stage

    def scanned(self: Activation, data: bytes) -> str:
        scanner.hold(part)
        scanner.waits = 3  # it does not let go
        return staged(self, data)

    monkeypatch.setattr(Activation, "stage", scanned)
    result = device.pull()
    assert (result.outcome, result.trouble) == ("activated", ""), result
    assert part.exists()
    scanner.let_go()
    monkeypatch.setattr(Activation, "stage", staged)
    device.site.publish(make_bundle(version="v3"))
    assert device.pull().outcome == "activated"
    assert list((device.state / "spool").iterdir()) == []


def test_a_refused_download_that_is_scanned_stays_refused(
    device: Device, windows: Windows, scanner: Scanner, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    windows.root = str(device.state)
    trying = Activation.trying

    def never(self: Activation, bundle: Any) -> bool:
        scanner.hold(device.state / "spool" / f"{device.second.sha256}.part")
        scanner.waits = 3
        trying(self, bundle)
        return False

    monkeypatch.setattr(Activation, "trying", never)
    assert device.pull().outcome == "refused"
    assert list(Activation(device.state).state().refused) == [device.second.sha256]
    scanner.let_go()


def test_what_a_journal_left_behind_is_scanned_when_a_new_one_is_made(scanner: Scanner, tmp_path: Path) -> None:
    """Somebody has deleted the journal and not its write-ahead log, which would be replayed into the new one."""
    path = new_journal(tmp_path)
    orphan = path.with_name(f"{path.name}-wal")
    path.unlink()
    orphan.write_bytes(b"x")
    scanner.hold(orphan)
    Journal(tmp_path, 1 << 30).close()
    assert scanner.waits == 3


def test_a_device_whose_key_is_scanned_is_enrolled(
    scanner: Scanner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token is used up by then: what is told must not be a failure."""
    authority = Authority(tmp_path, "centre")

    def enrol(*given: Any) -> Enrolled:
        asked: Any = x509.load_pem_x509_csr(given[-1])
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "press-0001")])
        made = authority._certificate(name, asked, False, "").public_bytes(serialization.Encoding.PEM)
        ca = authority.file.read_text(encoding="utf-8")
        return Enrolled(
            device="press-0001", device_type="press", certificate=made.decode(), ca=ca, broker="mqtts://a:1"
        )

    def write(path: Path, *given: Any) -> None:
        identity(path, *given)
        scanner.hold(path.with_name(enroll.PENDING))
        scanner.waits = 3  # it does not let go

    identity = enroll.write_identity
    monkeypatch.setattr(enroll.Client, "enrol", enrol)
    monkeypatch.setattr(enroll, "write_identity", write)
    monkeypatch.setattr(places, "close_to_others", lambda _: None)
    log = {"path": str(tmp_path / "readings.csv"), "period": "60s"}
    token = Token(bytes(16), NO_PIN, NO_PIN).text()
    config, state = tmp_path / "agent.toml", tmp_path / "state"
    enroll.enroll(enroll.Wish("https://localhost:1", token, config, state, None, None, log), lambda _: None)
    assert load(config, {}).device.id == "press-0001"
    assert (state / "identity" / enroll.PENDING).exists()


# ---- what people's tools write and the system's print ------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"], ids=["any editor", "Notepad", "PowerShell"])
def test_what_a_person_has_made_is_read(
    windows: Windows, tmp_path: Path, encoding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """``"secret" > password.txt`` and ``status --json > said.json`` in PowerShell."""
    secret, said, config = (tmp_path / name for name in ("password.txt", "said.json", "agent.toml"))
    secret.write_bytes("geheim µ\r\n".encode(encoding))
    assert _password(MqttConfig(url="mqtt://a", username="u", password_file=secret)) == "geheim µ"
    said.write_bytes(b'{"verdicts": []}'.decode().encode(encoding))
    config.write_text(BASE, encoding="utf-8")
    assert main(["replay", "x.csv", "--bundle", "no.zip", "--config", str(config), "--verdicts", str(said)]) == 1
    assert "no.zip" in capsys.readouterr().err, "it went on to the bundle"


def test_what_windows_own_programs_print_is_understood(
    windows: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the code page of the country's consoles, whatever the one of its files is."""
    program = tmp_path / "icacls"
    program.write_bytes(b"#!/bin/sh\nprintf 'Konto f\\201r Ger\\204t fehlt\\r\\n' >&2; exit 5\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(system, "CONSOLE", "cp850")
    with pytest.raises(OSError, match="its rights cannot be set: Konto für Gerät fehlt:"):
        places.close_to_others(tmp_path)


def test_the_services_log_goes_on_while_somebody_looks_at_it(
    windows: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_log, "AGAIN_S", 0.0)
    path = tmp_path / "agent.log"
    file = service_log.RotatingFile(path, size=1000, files=3)
    for number in range(30):
        file.handle(written.record(f"record {number:06}"))
    with windows.held(path, "rw"):
        for number in range(30, 300):
            file.handle(written.record(f"record {number:06}"))
            assert path.read_text(encoding="utf-8").endswith(f"record {number:06}\n")
            assert path.stat().st_size < 2100
    assert "rename agent.log" in windows.refused
    kept = len(list(tmp_path.iterdir()))
    for number in range(300, 450):
        file.handle(written.record(f"record {number:06}"))
    file.close()
    assert len(list(tmp_path.iterdir())) > kept, "rotated again"


# ---- the instrument's log ----------------------------------------------------------------------------------------


def test_a_log_that_its_writer_holds_for_itself_is_read_when_it_lets_go(windows: Windows, tmp_path: Path) -> None:
    writer = rotation.Device(tmp_path, "rename")
    agent = rotation.Agent(writer.pattern)
    writer.write(5)
    agent.poll()
    writer.write(3)
    with windows.held(writer.path):
        agent.poll()
        assert (agent.tail.state, len(agent.minutes)) == ("unreadable", 5)
        assert "used by another process" in agent.tail.detail
    agent.poll()
    assert agent.minutes == list(range(8))
    assert agent.changes == []


def away(number: int, text: str, winerror: int | None = None) -> OSError:
    """An error as Python raises it; it turns some of Windows' numbers into "no such file"."""
    error = OSError(number, text)
    if winerror is not None:
        error.winerror = winerror  # type: ignore[attr-defined]
    return error


AWAY = {
    "network path": away(errno.ENOENT, "The network path was not found", 53),
    "network name": away(errno.ENOENT, "The network name cannot be found", 67),
    "name deleted": away(errno.EINVAL, "The specified network name is no longer available", 64),
    "unexpected": away(errno.EINVAL, "An unexpected network error occurred", 59),
    "timeout": away(errno.EINVAL, "The semaphore timeout period has expired", 121),
    "unreachable": away(errno.EINVAL, "The network location cannot be reached", 1231),
    "not ready": away(errno.EACCES, "The device is not ready", 21),
    "stale": away(errno.ESTALE, "Stale file handle"),
    "i/o": away(errno.EIO, "Input/output error"),
    "host down": away(errno.EHOSTDOWN, "Host is down"),
}
ACTS = {
    "all": ("stat", "listdir", "scandir", "open", "read"),
    "list": ("listdir", "scandir"),
    "open": ("open", "read"),
    "read": ("read",),
}


class Outage:
    """A log on a share that vanishes for ten minutes: the agent has read some of it and looks again and again."""

    def __init__(self, windows: Windows, folder: Path, monkeypatch: pytest.MonkeyPatch, pattern: str) -> None:
        self.share = folder / "share"
        (self.share / "press").mkdir(parents=True)
        self.writer = rotation.Device(self.share / "press", "rename")
        self.agent = rotation.Agent(str(self.share / pattern / "readings*.csv"))
        self._windows = windows
        self._later = 0.0
        monkeypatch.setattr(system, "awake", lambda: time.monotonic() + self._later)
        self.writer.write(5)
        self.agent.poll()
        self.writer.write(2)

    def last(self, error: OSError, acts: Sequence[str], restart: bool = False) -> None:
        """Let it last ten minutes; the state is told all the time, and nothing is called lost."""
        with self._windows.away(self.share, error, *acts):
            for minute in range(10):
                if restart and minute == 5:
                    self.agent.restart()
                self.agent.poll()
                assert self.agent.tail.state == "unreadable", self.agent.tail.detail
                assert str(error.strerror) in self.agent.tail.detail
                assert self.agent.changes == []
                self._later += 60


OUTAGES = [
    *((error, "all", "press") for error in AWAY),
    *(("network path", acts, pattern) for acts in ("list", "open") for pattern in ("press", "p*")),
    *((error, "read", "press") for error in ("name deleted", "stale")),
    *((error, "all", "p*") for error in ("network path", "stale")),
]


@pytest.mark.parametrize("restart", [False, True], ids=["agent up", "agent started meanwhile"])
@pytest.mark.parametrize(("error", "acts", "pattern"), OUTAGES)
def test_a_share_that_vanishes_for_ten_minutes(
    windows: Windows,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: str,
    acts: str,
    pattern: str,
    restart: bool,
) -> None:
    outage = Outage(windows, tmp_path, monkeypatch, pattern)
    outage.last(AWAY[error], ACTS[acts], restart)
    outage.writer.write(1)
    outage.writer.rotate()
    outage.writer.write(2)
    outage.agent.poll()
    assert outage.agent.minutes == list(range(10))
    assert outage.agent.changes == []


@pytest.mark.parametrize("error", ["network path", "name deleted", "stale"])
def test_the_centre_is_told_of_a_share_that_is_away(
    windows: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    """From the line to the health report: each reading has one result, and the trouble ends by itself."""
    press = pipeline.Device(tmp_path, monkeypatch)
    reporter = Reporter(press.config, press.journal)

    def told() -> tuple[str, list[str], str]:
        reporter.report(press.pipeline, [], "", "", 0)
        with closing(Outbox(press.journal.path)) as outbox:
            health = json.loads([each.data for each in outbox.pending(0, 10**6) if each.event == "health"][-1])
            outbox.acknowledge(Ack(epoch=outbox.epoch, upto=given(outbox._db)))
        return health["log"], [trouble["kind"] for trouble in health["troubles"]], health["log_detail"]

    press.live(range(5))
    press.append(press.reading(5) + press.reading(6))
    press.now = pipeline.START + 6 * press.period
    assert len(press.results()) == 5
    assert told()[0] == "following"
    with windows.away(press.log, AWAY[error], *ACTS["all"]):
        press.carry()
        state, kinds, detail = told()
    assert (state, kinds) == ("unreadable", ["log_unreadable"])
    assert str(AWAY[error].strerror) in detail
    press.carry()
    assert len(press.results()) == 2
    assert told()[:2] == ("following", [])
    press.live(range(7, 9))
    assert len(press.results()) == 2
    press.journal.close()


@pytest.mark.parametrize("restart", [False, True], ids=["agent up", "agent started meanwhile"])
def test_a_share_that_comes_back_with_another_log_in_the_place_of_the_one_before(
    windows: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restart: bool
) -> None:
    """What was not read of the old one is gone: said once, and the new one is read from its beginning."""
    outage = Outage(windows, tmp_path, monkeypatch, "press")
    outage.last(AWAY["network path"], ACTS["all"], restart)
    outage.writer.path.write_bytes(rotation.HEADER)
    outage.writer.write(3)
    for _ in range(2):
        outage.agent.poll()
    assert outage.agent.minutes == [*range(5), *range(7, 10)]
    assert [change.reason for change in outage.agent.changes] == ["log_truncated"]


@pytest.mark.parametrize("restart", [False, True], ids=["agent up", "agent started meanwhile"])
def test_one_folder_of_a_log_that_cannot_be_listed_for_a_moment(
    windows: Windows, tmp_path: Path, restart: bool
) -> None:
    """A folder a week, each perhaps a mount of its own: the next one is not begun before this one was read."""
    for name in ("week1", "week2"):
        (tmp_path / name).mkdir()
    (tmp_path / "weeks.txt").write_bytes(b"no folder\n")
    writer = rotation.Device(tmp_path / "week1", "rename")
    agent = rotation.Agent(str(tmp_path / "week*" / "readings*.csv"))
    writer.write(5)
    agent.poll()
    writer.write(2)
    writer.path = tmp_path / "week2" / "readings.csv"
    writer.path.write_bytes(rotation.HEADER)
    writer.write(3)
    with windows.away(tmp_path / "week1", AWAY["stale"], *ACTS["all"]):
        if restart:
            agent.restart()
        for _ in range(3):
            agent.poll()
            assert (agent.tail.state, agent.minutes) == ("unreadable", list(range(5)))
            assert "week1" in agent.tail.detail
    agent.poll()
    assert agent.minutes == list(range(10))
    assert agent.changes == []


def test_a_share_that_comes_and_goes(windows: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outage = Outage(windows, tmp_path, monkeypatch, "press")
    for acts in [*ACTS, *ACTS]:
        outage.writer.write(1)
        outage.last(AWAY["name deleted"], ACTS[acts])
        outage.writer.rotate()
        outage.writer.write(2)
        outage.agent.poll()
    assert outage.agent.minutes == list(range(7 + 3 * 2 * len(ACTS)))
    assert outage.agent.changes == []


@pytest.mark.parametrize("more", [0, 2])
@pytest.mark.parametrize("restart", [False, True], ids=["agent up", "agent down"])
def test_a_log_that_is_replaced_by_a_copy_of_itself(windows: Windows, tmp_path: Path, more: int, restart: bool) -> None:
    """As a synchronisation does it; an instrument that keeps its log open cannot be replaced on Windows at all.

    ``more``: lines that the copy has and the replaced file never had.
    """
    writer = rotation.Device(tmp_path, "rename")
    agent = rotation.Agent(writer.pattern)
    writer.write(5)
    agent.poll()
    for _ in range(2):
        copy, path = tmp_path / "copy.tmp", writer.path
        shutil.copy2(path, copy)
        writer.path = copy
        writer.write(more)
        copy.replace(path)
        writer.path = path
        if restart:
            agent.restart()
        agent.poll()
        writer.write(3)
        agent.poll()
    assert agent.minutes == list(range(5 + 2 * (more + 3)))
    assert agent.changes == []


@pytest.mark.parametrize("kind", ["rename", "daily"])
def test_a_log_that_is_held_at_every_other_look(windows: Windows, tmp_path: Path, kind: rotation.Kind) -> None:
    """By its writer, which keeps it for itself while it writes and rotates: what it left behind is held as well."""
    writer = rotation.Device(tmp_path, kind)
    agent = rotation.Agent(writer.pattern)
    for turn in range(12):
        writer.write(2)
        if turn % 3 == 2:
            agent.poll()
            writer.rotate()
            writer.write(1)
        with ExitStack() as holds:
            for path in tmp_path.glob("readings*"):
                holds.enter_context(windows.held(path))
            agent.poll()
            assert agent.tail.state == "unreadable"
        if turn % 2:
            agent.poll()
    agent.poll()
    assert agent.minutes == list(range(writer.minute))
    assert agent.changes == []
