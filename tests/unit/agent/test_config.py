"""The configuration: examples load, every mistake is reported at once with its place and what would be right."""

from __future__ import annotations

import glob
from pathlib import Path

import pytest
from fieldwatch_agent import system
from fieldwatch_agent.config import Config, ConfigError, load, size
from fieldwatch_contract.reading.settings import duration
from hypothesis import given
from hypothesis import strategies as st

from tests.windows import Windows

EXAMPLES = sorted((Path(__file__).resolve().parents[3] / "config").glob("*/agent.toml"))
MINIMAL = """\
[device]
id = "press-0001"
type = "press"
[log]
path = "logs/readings*.csv"
period = "60s"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(path: Path, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {})
    return caught.value.problems


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.parent.name)
def test_each_example_loads(example: Path) -> None:
    config = load(example, {})
    assert config.device.id == "press-0001"
    assert config.mqtt is not None
    assert config.updates is not None
    assert config.log.period == 60_000_000


def test_examples_are_there_for_dev_and_prod() -> None:
    assert [path.parent.name for path in EXAMPLES] == ["dev", "prod"]


def test_commented_keys_of_the_production_example_are_keys(tmp_path: Path) -> None:
    """A default shown in a comment must be a key that exists, or the example teaches an error."""
    lines = []
    for line in EXAMPLES[1].read_text(encoding="utf-8").splitlines():
        bare = line.removeprefix("# ")
        lines.append(bare if bare.partition(" = ")[1] or bare.startswith("[log.timestamp]") else line)
    config = load(write(tmp_path, "\n".join(lines)), {})
    assert config.log.timestamp.column == "Time"
    assert config.log.encoding == "cp1252"
    assert config.mqtt is not None
    assert config.mqtt.username == "press-0001"


def test_paths_start_at_the_file_and_sections_may_be_absent(tmp_path: Path) -> None:
    folder = tmp_path / "[odd] folder"
    folder.mkdir()
    config = load(write(folder, MINIMAL + '[state]\ndir = "state"\n'), {})
    assert config.mqtt is None
    assert config.updates is None
    assert config.state.dir == folder / "state"
    (folder / "logs").mkdir()
    (folder / "logs" / "readings-1.csv").touch()
    assert glob.glob(config.log.path) == [str(folder / "logs" / "readings-1.csv")]  # noqa: PTH207


def test_state_folder_defaults_to_one_a_device(tmp_path: Path) -> None:
    one = load(write(tmp_path, MINIMAL), {})
    two = load(write(tmp_path, MINIMAL.replace("press-0001", "press-0002")), {})
    assert one.state.dir.is_absolute()
    assert one.state.dir != two.state.dir


def test_environment_wins_and_makes_sections(tmp_path: Path) -> None:
    config = load(
        write(tmp_path, MINIMAL + 'timestamp = "Zeit"\n'),
        {
            "FIELDWATCH_MQTT__URL": "mqtts://broker:1",
            "FIELDWATCH_LOG__PERIOD": "5s",
            "FIELDWATCH_LOG__TIMESTAMP__TIMEZONE": "Europe/Berlin",
            "FIELDWATCH_DATA": "/somewhere",
            "FIELDWATCH_STORE__URL": "of the cloud",
        },
    )
    assert config.mqtt is not None
    assert (config.mqtt.host, config.mqtt.port, config.mqtt.tls) == ("broker", 1, True)
    assert config.log.period == 5_000_000
    assert (config.log.timestamp.column, config.log.timestamp.timezone) == ("Zeit", "Europe/Berlin")


def test_all_problems_at_once_with_their_lines(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """\
[device]
id = "Press 1"
type = "press"
[log]
path = "x.csv"
perid = "60s"
period = 60
format = "xml"
decimal = ","
delimiter = ","
[mqtt]
url = "mqtt://h"
ca = "ca.pem"
[updatse]
url = "x"
[privacy]
evidence = "some"
""",
    )
    found = problems(path, {"FIELDWATCH_STATE__OUTBOX_LIMIT": "5", "FIELDWATCH_MQT__URL": "x"})
    text = "\n".join(found)
    assert f"{path}:2: [device] id: 'Press 1' must be 3 to 64" in text
    assert f"{path}:6: [log] perid: unknown key; did you mean period?" in text
    assert f"{path}:7: [log] period: 60 is not an amount with a unit" in text
    assert f"{path}:8: [log] format: 'xml' is not one of 'csv', 'long' or 'jsonl'" in text
    assert f"{path}:11: [mqtt]: ca, certificate and key need TLS" in text
    assert f"{path}:14: [updatse]: unknown section; did you mean updates?" in text
    assert f"{path}:17: [privacy] evidence: 'some' is not one of" in text
    assert "environment variable FIELDWATCH_STATE__OUTBOX_LIMIT: [state] outbox_limit: '5' is not an amount" in text
    assert "environment variable FIELDWATCH_MQT__URL: no section [mqt]; did you mean FIELDWATCH_MQTT__URL?" in text
    assert len(found) == 9


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('[mqtt]\nurl = "http://broker"', 'is not "mqtt://host:port"'),
        ('[mqtt]\nurl = "mqtt://me:secret@broker"', "must not hold a password"),
        ('[mqtt]\nurl = "mqtts://b"\nkey = "k.pem"', "certificate and key belong together"),
        ('[mqtt]\nurl = "mqtt://b"\nusername = "me"', "username and password_file belong together"),
        ('[mqtt]\nurl = "mqtt://b:99999"', 'is not "mqtt://host:port"'),
        ('[mqtt]\nurl = "http://me:p@secret@broker"', "'http://…@broker' is not"),
        ('[mqtt]\nurl = "mqtts:/me:secret@broker"', "'mqtts:/…@broker' is not"),
        ('[mqtt]\nurl = "mqtts://a..b"', 'is not "mqtt://host:port"'),
        ('[mqtt]\nurl = "mqtts://[::1"', 'is not "mqtt://host:port"'),
        ('[updates]\nurl = "file:///x"', 'is not "https://host/folder/"'),
        ('[updates]\nurl = "https://me:secret@host/"', "must not hold a name or password"),
        ('[updates]\nurl = "https://host:99999/"', 'is not "https://host/folder/"'),
        ('[updates]\nurl = "https://a b/"', 'is not "https://host/folder/"'),
        ('[enrolment]\nurl = "http://host:8443"', 'is not "https://host:8443"'),
        ('[state]\ndir = "~nobody-here/state"', "'~nobody-here', which is nobody's home here"),
        ('[state]\ndir = "a\\u0000b"', "holds a zero character"),
        ("[state]\ndir = 3", "must be text in quotes"),
        ("[[state]]", "[state] on a line of its own, once"),
        ('[updates]\nurl = "http://u/"\ninterval = "1ms"', '[updates] interval: must be at least "1s"'),
        ('[state]\noutbox_limit = "1KB"', '[state] outbox_limit: must be at least "1MB"'),
        ('[log.timestamp]\ntimezone = "Berlin"', "[log.timestamp] timezone: 'Berlin' is unknown"),
        ('[log.timestamp]\nformat = "US"', 'is not one of "iso", "epoch"'),
        ('[log.timestamp]\nformat = "%d/%d/%Y"', "is no pattern of strptime"),
        ('[log.timestamp]\nformat = "%d/%m/%Q"', "is no pattern of strptime"),
        ('[log.timestamp]\nformat = "%H:%M"', "must hold day, month and year"),
    ],
)
def test_each_rule_speaks(tmp_path: Path, lines: str, message: str) -> None:
    found = problems(write(tmp_path, MINIMAL + lines + "\n"))
    assert len(found) == 1
    assert message in found[0]
    assert "secret" not in found[0]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ('encoding = "utf-9"', "'utf-9' is not a text encoding"),
        ('encoding = "utf-32"', "cannot be followed line by line"),
        ('encoding = "base64"', "is not a text encoding"),
        ('encoding = "cp037"', "cannot be followed line by line"),
        ('delimiter = "ab"', "write one character"),
        ('decimal = ";"', "is not one of '.' or ','"),
        ("comment = 5", "must be text in quotes"),
        ('period = "99999999999999999d"', 'must be at most "36500d"'),
        ('path = "~nobody-here/x.csv"', "'~nobody-here', which is nobody's home here"),
        ('path = "a\\u0000b.csv"', "holds a zero character"),
        (f'path = "{"a" * 300}"', "a name of more than 255 characters"),
    ],
)
def test_each_log_key_speaks(tmp_path: Path, key: str, message: str) -> None:
    name = key.partition(" ")[0]
    kept = "".join(line for line in MINIMAL.splitlines(True) if not line.startswith(f"{name} = "))
    found = problems(write(tmp_path, kept + key + "\n"))
    assert len(found) == 1
    assert message in found[0]
    assert f"agent.toml:{kept.count(chr(10)) + 1}: [log] {key.partition(' ')[0]}" in found[0]


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    assert "no such file" in problems(tmp_path / "none.toml")[0]
    assert "cannot be read" in problems(tmp_path)[0]
    path = tmp_path / "agent.toml"
    path.write_bytes(MINIMAL.encode("utf-16"))
    assert "not UTF-8 text" in problems(path)[0]
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert load(path, {}).device.type == "press"
    path.write_text(MINIMAL.replace("logs/", "C:\\logs\\"), encoding="utf-8")
    assert "single quotes" in problems(path)[0]


def test_configuration_is_frozen(tmp_path: Path) -> None:
    config = load(write(tmp_path, MINIMAL), {})
    assert isinstance(config, Config)
    with pytest.raises(ValueError, match="frozen"):
        config.device.id = "other"  # type: ignore[misc]


@given(st.integers(0, 36_500), st.sampled_from([("ms", 1000), ("s", 10**6), ("m", 60 * 10**6), ("d", 86400 * 10**6)]))
def test_durations_are_exact(amount: int, unit: tuple[str, int]) -> None:
    assert duration(f"{amount}{unit[0]}") == amount * unit[1]


def test_amounts_with_fractions() -> None:
    assert duration("0.1s") == 100_000
    assert duration("1.5 h") == 5_400_000_000
    assert size("1.5MiB") == 1_572_864
    assert size("512MB") == 512_000_000
    for wrong in ("s", "-1s", "1e3s", "60", 60, True, None, "1 fortnight"):
        with pytest.raises(ValueError, match="amount with a unit"):
            duration(wrong)


@pytest.mark.parametrize(("device", "folder"), [("con", "con_"), ("lpt1", "lpt1_"), ("console", "console")])
def test_a_device_whose_name_is_no_folder_on_windows_has_a_state_folder(
    windows: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, folder: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    config = load(write(tmp_path, MINIMAL.replace("press-0001", device)), {})
    assert config.state.dir.name == folder
    config.state.dir.mkdir(parents=True)
    monkeypatch.setattr(system, "WINDOWS", False)
    assert load(tmp_path / "agent.toml", {}).state.dir.name == device, "elsewhere nothing moves"
