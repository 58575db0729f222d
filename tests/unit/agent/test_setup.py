"""First run: the log is found and understood, nothing is overwritten, and nobody has to answer."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_agent.__main__ import main
from fieldwatch_agent.config import load
from fieldwatch_agent.enrol.settings import Unwritable, replace
from fieldwatch_agent.setup.find import pattern_of, search, usual_places
from fieldwatch_agent.setup.understand import GLANCE, understand
from fieldwatch_agent.zones import zone_for

from tests.unit.contract.reading.test_formats import FORMATS, ROWS

COUNT = 40


def table(
    step: float = 60, form: str = "%Y-%m-%dT%H:%M:%SZ", ahead: float = 0, sep: str = ",", names: str = "time,s0,s1,s2"
) -> str:
    """A log that ends now."""
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=ahead)
    rows = [
        sep.join([(end - timedelta(seconds=step * (COUNT - 1 - i))).strftime(form), str(10 + i), f"{i % 7}.5", "9"])
        for i in range(COUNT)
    ]
    return "\n".join([names, *rows]) + "\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def setup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str | Path, name: str = "press-0001") -> tuple[int, str, str]:
        config = tmp_path / "etc" / "agent.toml"
        named = ["--device", name, "--type", "press"] if name else []
        code = main(["setup", *map(str, arguments), "--config", str(config), *named])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def written(tmp_path: Path) -> Any:
    return load(tmp_path / "etc" / "agent.toml", {})


# ---- which file ----------------------------------------------------------------------------------------------------


def test_the_log_is_found_shown_and_written_down(tmp_path: Path, data: Path, setup: Any) -> None:
    (data / "readings.csv").write_text(table().replace("s2\n", "s2\n,°C,bar,\n", 1))
    (data / "notes.txt").write_text("call Kim\n" * 20)
    code, out, _ = setup(data)
    assert code == 0
    config = written(tmp_path)
    assert (config.log.path, config.log.period) == (str(data / "readings.csv"), 60_000_000)
    assert (config.device.id, config.device.type) == ("press-0001", "press")
    assert config.state.dir == tmp_path / "etc" / "state"
    assert " °C " in out and "readings come every 60 s" in out and "delimiter ','" in out
    assert "next: to send results" in out and "run it here: fieldwatch-agent run --config" in out
    assert "service install" not in out, "the service reads another configuration than this one"


def test_none_is_found(data: Path, setup: Any) -> None:
    (data / "notes.txt").write_text("call Kim\n" * 20)
    code, _, err = setup(data)
    assert code == 3
    assert f"no log of a device found below {data}" in err and "notes.txt: " in err and "--log 'PATTERN'" in err


def test_of_two_that_grow_one_must_be_named(tmp_path: Path, data: Path, setup: Any) -> None:
    for name in ("press-0001.csv", "press-0002.csv"):
        (data / name).write_text(table())
    code, _, err = setup(data)
    assert code == 2 and "press-0001.csv: every 60s" in err and "press-0002.csv: every 60s" in err
    assert not (tmp_path / "etc").exists()
    assert setup(data, "--log", data / "press-0002.csv")[0] == 0
    assert written(tmp_path).log.path == str(data / "press-0002.csv")


def test_the_one_that_grows_is_taken(tmp_path: Path, data: Path, setup: Any) -> None:
    (data / "now.csv").write_text(table())
    (data / "last year.csv").write_text(table())
    os.utime(data / "last year.csv", (1.7e9, 1.7e9))
    assert setup(data)[0] == 0
    assert written(tmp_path).log.path == str(data / "now.csv")


def test_files_by_day_and_rotated_ones_are_one_log(tmp_path: Path, data: Path, setup: Any) -> None:
    for day in ("2026-11-24", "2026-11-25"):
        (data / f"Prüfstand [7] {day}.csv").write_text(table(ahead=-24))
    (data / "Prüfstand [7] 2026-11-26.csv").write_text(table())
    (data / "Prüfstand [7] 2026-11-23.csv.gz").write_bytes(gzip.compress(table(ahead=-48).encode()))
    code, out, _ = setup(data)
    assert code == 0, out
    assert "4 files" in out
    assert written(tmp_path).log.path == str(data / "Prüfstand [[]7] *.csv")


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("readings.csv", "readings.csv"),
        ("readings.csv.1", "readings.csv"),
        ("readings.csv.12.gz", "readings.csv"),
        ("readings.csv-20261126", "readings.csv"),
        ("readings-20261126.csv", "readings-*.csv"),
        ("26.11.2026 log.txt", "* log.txt"),
        ("log_2026-11-26_14-05-00.csv", "log_*.csv"),
        ("2026-11.csv", "*.csv"),
        ("press-0001.csv", "press-0001.csv"),
        ("SN20301234.csv", "SN20301234.csv"),
        ("Öl & Wärme.CSV", "Öl & Wärme.CSV"),
    ],
)
def test_a_name_becomes_a_pattern(name: str, pattern: str) -> None:
    assert pattern_of(Path("/d") / name) == str(Path("/d") / pattern)


def test_a_named_log_may_not_be_there_yet_or_empty(tmp_path: Path, data: Path, setup: Any) -> None:
    code, out, _ = setup("--log", data / "readings*.csv")
    assert code == 0 and "no file matches" in out and "a reading every 60s is assumed" in out
    (data / "readings.csv").touch()
    code, out, _ = setup("--log", data / "readings.csv", "--period", "10s", "--replace")
    assert code == 0 and "is empty" in out
    assert written(tmp_path).log.period == 10_000_000


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="rights as POSIX has them")
def test_one_that_cannot_be_read_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with tempfile.TemporaryDirectory() as made:
        data = Path(made)
        data.chmod(0o755)
        (data / "readings.csv").write_text(table())
        (data / "readings.csv").chmod(0)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)  # root may read everything
        try:
            config = ["--config", str(data / "agent.toml")]
            code = main(["setup", str(data), *config])
            err = capsys.readouterr().err
            named = main(["setup", "--log", str(data / "readings.csv"), *config])
            told = capsys.readouterr().err
        finally:
            if root:
                os.seteuid(0)
    assert code == 3 and "readings.csv: cannot be read: Permission denied" in err
    assert named == 1 and "readings.csv: Permission denied" in told


def test_a_folder_that_cannot_be_listed_is_named(data: Path) -> None:
    found = search([data / "gone"])
    assert found.unreadable == [f"{data / 'gone'}: No such file or directory"]


def test_what_came_with_this_program_is_not_looked_at(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the tables of time zones below ``/opt``."""
    for name in ("agent", "press"):
        (data / name).mkdir()
        (data / name / "zones.tab").write_text(table())
    monkeypatch.setattr(sys, "prefix", str(data / "agent"))
    assert [each.newest for each in search([data]).candidates] == [data / "press" / "zones.tab"]


def test_the_current_folder_is_a_place_but_no_whole_disk(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data)
    assert usual_places()[0].absolute() == data
    monkeypatch.chdir(data.anchor)
    assert Path(data.anchor) not in [place.absolute() for place in usual_places()]


def test_of_a_huge_log_little_is_read(data: Path) -> None:
    path = data / "readings.csv"
    start = datetime(2026, 1, 1, tzinfo=UTC)
    rows = (f"{start + timedelta(seconds=10 * i):%Y-%m-%dT%H:%M:%SZ},{i % 9},2.5" for i in range(100_000))
    path.write_text("\n".join(["time,s0,s1", *rows]) + "\n")
    seen = understand(str(path), path, {})
    assert seen.readable and seen.keys["period"] == "10s"
    assert seen.sample.skipped > path.stat().st_size - 2 * GLANCE


def test_a_file_without_lines_is_no_log_however_large(data: Path, setup: Any) -> None:
    with (data / "image.dat").open("wb") as file:
        file.truncate(5_000_000_000)  # sparse; reading it would take a minute
    code, _, err = setup(data)
    assert code == 3 and "image.dat: no text" in err
    code, _, err = setup("--log", data / "image.dat")
    assert code == 3 and "has no line end" in err


def test_a_pattern_that_the_shell_has_expanded_is_told(data: Path, setup: Any) -> None:
    for name in ("a.csv", "b.csv"):
        (data / name).write_text(table())
    code, _, err = setup("--log", data / "a.csv", data / "b.csv")
    assert code == 2 and "put a pattern into quotes" in err


# ---- how it is written ---------------------------------------------------------------------------------------------

UNDERSTOOD: dict[str, dict[str, Any]] = {
    "semicolon and decimal comma": {},
    "tab": {},
    "UTF-16 with a byte order mark": {},
    "UTF-16 without": {},
    "Latin-1 names around": {},
    "a remark in some rows": {},
    "title lines": {},
    "comments": {},
    "no value is -9999": {"missing": [-9999]},
    "no value is 9.99e37 or a word": {"missing": [9.99e37]},
    "US, not said": {"timestamp": {"format": "%m/%d/%Y %I:%M:%S %p"}},
    "zone said": {"timestamp": {"timezone": "Etc/GMT-1"}},
    "zone in the name": {},
    "month by name, not said": {"timestamp": {"format": "%d-%b-%Y %H:%M:%S"}},
    "LabVIEW seconds, said so": {"timestamp": {"format": "labview"}},
    "FILETIME, said so": {"timestamp": {"format": "filetime"}},
    "Excel's days, said so": {"timestamp": {"format": "excel"}},
    "Campbell TOA5": {},
    "HOBO": {"timestamp": {"format": "%m/%d/%y %I:%M:%S %p"}},
    "WinCC, a line a value": {"format": "long"},
    "a line a value": {"format": "long"},
    "JSON objects": {"format": "jsonl"},
    "JSON objects in an object": {"format": "jsonl"},
}


def log_of(data: Path, name: str) -> Path:
    """The file, as its writer left it."""
    path = data / "log.csv"
    path.write_bytes(FORMATS[name].text.encode(FORMATS[name].encoding))
    end = ROWS[-1][0].timestamp()
    os.utime(path, (end, end))
    return path


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_how_a_log_is_written_is_found(data: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("TZ", "UTC")
    path = log_of(data, name)
    seen = understand(str(path), path, {})
    assert seen.readable, seen.found.refused[:1]
    assert seen.keys == {"path": str(path), "period": "60s", **UNDERSTOOD[name]}
    assert {"rpm", "temp", "flow"} <= set(seen.numeric)
    assert int(seen.found.ts[0]) == int(ROWS[0][0].timestamp() * 1e6)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("thousands in a column of whole numbers alone", "; here: --set thousands=, or --set decimal=,"),
        ("no names, not said", "name the columns in [log] columns"),
        ("a zone's name in the name", "say [log.timestamp] timezone"),
        ("LabVIEW LVM, relative", "there is no column that holds a time"),
        ("US or EU, not said", "--set timestamp.format="),
        ("carriage returns alone", "has no line end"),
    ],
)
def test_what_cannot_be_known_is_told_with_the_remedy(data: Path, setup: Any, name: str, words: str) -> None:
    code, _, err = setup("--log", log_of(data, name))
    assert code in {2, 3} and words in err


def test_the_remedy_is_one(tmp_path: Path, data: Path, setup: Any) -> None:
    path = log_of(data, "US or EU, not said")
    assert setup("--log", path, "--set", "timestamp.format=%d/%m/%Y %H:%M:%S")[0] == 0
    assert written(tmp_path).log.timestamp.format == "%d/%m/%Y %H:%M:%S"
    path = log_of(data, "no names, not said")
    assert setup("--log", path, "--replace", "--set", 'columns=["time","rpm","temp","flow"]')[0] == 0
    assert written(tmp_path).log.columns == ("time", "rpm", "temp", "flow")
    path = log_of(data, "a zone's name in the name")
    assert setup("--log", path, "--replace", "--timezone", "Europe/Berlin")[0] == 0
    assert written(tmp_path).log.timestamp.timezone == "Europe/Berlin"


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("decimal=x", "--set: [log] decimal: 'x' is not one of"),
        ("decimals=,", "--set: [log] decimals: unknown key; did you mean decimal?"),
        ("decimal", "write KEY=VALUE"),
        ("path=other.csv", "which log it is, --log says"),
    ],
)
def test_a_wrong_key_is_named(data: Path, setup: Any, flag: str, words: str) -> None:
    (data / "readings.csv").write_text(table())
    code, _, err = setup("--log", data / "readings.csv", "--set", flag)
    assert code == 2 and words in err


@pytest.mark.parametrize(("step", "period"), [(1, "1s"), (10, "10s"), (3600, "3600s"), (0.25, "250ms")])
def test_the_period_is_found(data: Path, step: float, period: str) -> None:
    path = data / "readings.csv"
    path.write_text(table(step, "%Y-%m-%d %H:%M:%S.%f"))
    assert understand(str(path), path, {}).keys["period"] == period


@pytest.mark.parametrize(("hours", "zone"), [(2, "Etc/GMT-2"), (-5, "Etc/GMT+5"), (0, None), (5.5, None)])
def test_a_clock_of_another_zone(data: Path, monkeypatch: pytest.MonkeyPatch, hours: float, zone: str | None) -> None:
    monkeypatch.setenv("TZ", "UTC")
    path = data / "readings.csv"
    path.write_text(table(form="%Y-%m-%d %H:%M:%S", ahead=hours))
    seen = understand(str(path), path, {})
    assert seen.keys.get("timestamp", {}).get("timezone") == zone
    assert seen.guessed_zone == (hours == 5.5)


def test_this_computers_zone_is_named_where_it_fits() -> None:
    summer = int(datetime(2026, 7, 1, tzinfo=UTC).timestamp()) * 1_000_000
    assert zone_for(2 * 3_600_000_000, summer, "Europe/Berlin") == "Europe/Berlin"
    assert zone_for(1 * 3_600_000_000, summer, "Europe/Berlin") == "Etc/GMT-1"
    assert zone_for(30 * 60_000_000, summer, "Europe/Berlin") is None


# ---- what is written -----------------------------------------------------------------------------------------------


def test_what_is_there_is_kept(tmp_path: Path, data: Path, setup: Any) -> None:
    (data / "readings.csv").write_text(table())
    assert setup(data)[0] == 0
    path = tmp_path / "etc" / "agent.toml"
    path.write_text(path.read_text().replace('evidence = "on-alert"', 'evidence = "none"') + "# mine\n")
    before = path.read_text()
    code, out, _ = setup(data, name="press-0002")
    assert code == 0 and "is there and stays as it is; --replace finds the log anew" in out
    assert path.read_text() == before
    (data / "readings.csv").write_text(table(10))
    assert setup(data, "--replace", name="")[0] == 0
    config = written(tmp_path)
    assert (config.log.period, config.device.id) == (10_000_000, "press-0001")
    assert config.privacy.evidence == "none" and path.read_text().endswith("# mine\n")
    assert path.with_name("agent.toml.old").read_text() == before


def test_a_wrong_configuration_is_told_and_not_touched(tmp_path: Path, data: Path, setup: Any) -> None:
    path = tmp_path / "etc" / "agent.toml"
    path.parent.mkdir()
    path.write_text("[device\n")
    code, _, err = setup(data, "--replace")
    assert code == 2 and "not valid TOML" in err and path.read_text() == "[device\n"


def test_sections_are_replaced_to_the_letter() -> None:
    text = '# top\n[log] # mine\npath = "a"\n[log.timestamp]\ncolumn = "t"\n\n[x]\ny = 1 # kept\n'
    made = replace(text, {"log": '[log]\npath = "b"\n', "new": "[new]\nz = 2\n"})
    assert made.startswith('# top\n[log]\npath = "b"\n') and "y = 1 # kept\n" in made and "[new]\nz = 2\n" in made
    assert "timestamp" not in made
    with pytest.raises(Unwritable, match=r"edit \[log\] by hand"):
        replace('log = {path = "a"}\n', {"log": '[log]\npath = "b"\n'})
    with pytest.raises(Unwritable):
        replace('[a]\nx = """\n[log]\n"""\n[log]\npath = "a"\n', {"log": '[log]\npath = "b"\n'})


def test_json_holds_what_was_found_and_done(data: Path, setup: Any) -> None:
    (data / "readings.csv").write_text(table())
    code, out, err = setup(data, "--json")
    told = json.loads(out)
    assert code == 0 and "readings come every 60 s" in err
    assert told["columns"] == ["s0", "s1", "s2"] and told["log"]["period"] == "60s" and told["wrote"]
    assert {each["level"] for each in told["findings"]} == {"ok", "warning"}
    code, out, _ = setup("--json", "--log", data / "readings.csv", "--set", "decimal=x", "--replace")
    assert code == 2 and "--set: [log] decimal" in json.loads(out)["error"]


# ---- who answers ---------------------------------------------------------------------------------------------------


def test_without_a_terminal_an_open_question_names_its_flag(
    data: Path, setup: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    (data / "readings.csv").write_text(table())
    code, _, err = setup(data, "--device", "press-0001", name="")
    assert code == 2 and "--type TYPE" in err
    code, _, err = setup(data, "--url", "https://127.0.0.1:1", name="")
    assert code == 2 and "the token: on standard input, or --token" in err
    monkeypatch.setattr(sys, "stdin", io.StringIO("fw1-nonsense\n"))
    code, _, err = setup(data, "--url", "https://127.0.0.1:1", name="")
    assert code == 3 and "the token is incomplete or mistyped" in err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_person_is_asked_again_until_it_is_right(
    tmp_path: Path, data: Path, setup: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("press-0001.csv", "press-0002.csv"):
        (data / name).write_text(table())
    monkeypatch.setattr(sys, "stdin", Terminal("7\n2\n\nPress 1\npress-1\n\npress\n"))
    code, out, err = setup(data, name="")
    assert code == 0, err
    assert "a number from 1 to 2" in out and "3 to 64 of a-z" in out and "an answer is needed" in out
    assert written(tmp_path).device.id == "press-1"
    chosen = written(tmp_path).log.path
    monkeypatch.setattr(sys, "stdin", Terminal("1\nn\n"))
    code, _, err = setup(data, "--replace")
    assert code == 3 and "--set KEY=VALUE" in err and written(tmp_path).log.path == chosen


def test_a_person_who_leaves_ends_it(data: Path, setup: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(""))
    code, _, err = setup(data)
    assert code == 2 and "--log 'PATTERN'" in err


def test_a_real_terminal(tmp_path: Path, data: Path, clean_env: Mapping[str, str]) -> None:
    pty = pytest.importorskip("pty", reason="a terminal of POSIX")
    (data / "readings.csv").write_text(table(form="%d/%m/%Y %H:%M:%S", ahead=-24 * 40))
    config = tmp_path / "agent.toml"
    command = [sys.executable, "-m", "fieldwatch_agent", "setup", str(data), "--config", str(config)]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=clean_env)
    os.close(theirs)
    said = b""
    answers = {b"]: ": b"\n", b"models: ": b"press\n", b"ID: ": b"x\n", b"id: ": b"press-0001\n"}
    done = 0
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other side has closed it
            break
        if not part:
            break
        said += part
        for prompt, answer in answers.items():
            if said[done:].endswith(prompt):
                os.write(ours, answer)
                done = len(said)
    os.close(ours)
    assert process.wait(60) == 0, said.decode()
    assert load(config, {}).device.type == "press"
    assert "Is this right?" in said.decode() and "next:" in said.decode()


@pytest.mark.parametrize(
    "flags", [("timestamp=time", "timestamp.format=iso"), ("timestamp.format=iso", "timestamp=time")]
)
def test_a_column_of_times_and_its_format_are_said_in_any_order(
    setup: Callable[..., tuple[int, str, str]], data: Path, tmp_path: Path, flags: tuple[str, str]
) -> None:
    (data / "readings.csv").write_text("time,s0\n" + "".join(f"2026-11-26T20:0{i}:00Z,{i}\n" for i in range(9)))
    said = [word for flag in flags for word in ("--set", flag)]
    assert setup("--log", data / "readings.csv", *said)[0] == 0
    time = written(tmp_path).log.timestamp
    assert (time.column, time.format) == ("time", "iso")
    code, _, err = setup("--log", data / "readings.csv", "--replace", "--period", "60")
    assert code == 2 and err.startswith("--period: [log] period: '60' is not an amount")
