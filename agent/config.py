"""The agent's configuration: one TOML file, environment on top, every mistake reported at once.

A device PC stands in a locked laboratory: whoever writes this file sees the errors once, on the phone. So
:func:`load` collects all problems before it gives up, names file, line and key, and says what would be right; an
unknown key is an error with the nearest right name, because a silently ignored key is found out months later.

* Every key can be set by environment, ``FIELDWATCH_<SECTION>__<KEY>`` (``FIELDWATCH_MQTT__URL``), which wins.
* Relative paths start at the folder of the TOML file, wherever the program was started.
* A duration is a number with a unit ("500ms", "60s", "15m", "1h", "7d"), here µs; a size is "512MB" (10⁶) or "512MiB"
  (2²⁰), here bytes. A bare number is refused: nobody knows its unit.
* ``[mqtt]`` and ``[updates]`` may be absent: the agent then keeps its results, or its bundle, to itself.
"""

from __future__ import annotations

import codecs
import difflib
import glob
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from contract.clock import DAY, MINUTE, SECOND
from contract.topics import DEVICE_ID

ENVIRONMENT = "FIELDWATCH_"

_DURATIONS = {"us": 1, "µs": 1, "ms": SECOND // 1000, "s": SECOND, "m": MINUTE, "h": 60 * MINUTE, "d": DAY}
_SIZES = {"b": 1} | {f"{p}b": 10 ** (3 * n) for n, p in enumerate("kmgt", 1)}
_SIZES |= {f"{p}ib": 2 ** (10 * n) for n, p in enumerate("kmgt", 1)}


class ConfigError(Exception):
    """The configuration cannot be used; ``problems`` are all the reasons, each a sentence with file and line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _amount(value: object, units: Mapping[str, int], example: str) -> int:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zµ]+)\s*", value.lower()) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f'{value!r} is not an amount with a unit: write, for example, "{example}"')
    return int(Decimal(match[1]) * units[match[2]])


def duration(value: object) -> int:
    """Return "60s" in µs; raises :class:`ValueError` for anything without a unit."""
    return _amount(value, _DURATIONS, "60s")


def size(value: object) -> int:
    """Return "512MB" in bytes; raises :class:`ValueError` for anything without a unit."""
    return _amount(value, _SIZES, "512MB")


def _base(info: ValidationInfo) -> Path:
    return Path(info.context["base"]) if info.context else Path()


def _resolve(path: Path, info: ValidationInfo) -> Path:
    return _base(info) / path.expanduser()


def _resolve_pattern(pattern: str, info: ValidationInfo) -> str:
    if not pattern.strip():
        raise ValueError('is empty: name the log, for example "logs/readings*.csv"')
    expanded = Path(pattern).expanduser()
    return str(expanded if expanded.is_absolute() else Path(glob.escape(str(_base(info)))) / expanded)


def _at_least(least: int, text: str) -> AfterValidator:
    def check(value: int) -> int:
        if value < least:
            raise ValueError(f"must be at least {text}")
        return value

    return AfterValidator(check)


def _device_id(value: str) -> str:
    if not DEVICE_ID.fullmatch(value):
        raise ValueError(f"{value!r} must be 3 to 64 of a-z, 0-9 and '-', for example \"press-0001\"")
    return value


def _broker_url(value: str) -> str:
    parts = urlsplit(value)
    try:
        right = parts.scheme in {"mqtt", "mqtts"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        right = False
    if not right or parts.path.strip("/") or parts.query:
        raise ValueError(f'{_public(value)!r} is not "mqtt://host:port" or "mqtts://host:port"')
    if parts.username or parts.password:
        raise ValueError("must not hold a password: use username and password_file")
    return value


def _web_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f'{_public(value)!r} is not "https://host/folder/"')
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (OSError, ValueError, LookupError):
        raise ValueError(f'{value!r} is unknown: write, for example, "Europe/Berlin"') from None
    return value


def _time_format(value: str) -> str:
    if value not in {"iso", "epoch"} and "%" not in value:
        raise ValueError(f'{value!r} is not "iso", "epoch" or a pattern such as "%d/%m/%Y %H:%M:%S"')
    if "%" in value:
        sample = datetime(2026, 12, 31, 23, 58, tzinfo=UTC)
        try:
            again = datetime.strptime(sample.strftime(value), value)
        except (ValueError, re.error) as error:
            raise ValueError(f"{value!r} is no pattern of strptime: {error}") from None
        if again.date() != sample.date():
            raise ValueError(f'{value!r} must hold day, month and year, like "%d/%m/%Y %H:%M:%S"')
    return value


Duration = Annotated[int, BeforeValidator(duration)]
Size = Annotated[int, BeforeValidator(size)]
File = Annotated[Path, AfterValidator(_resolve)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DeviceConfig(_Section):
    """``[device]``: who this is."""

    id: Annotated[str, AfterValidator(_device_id)] = Field(
        description="^[a-z0-9-]{3,64}$; the certificate's common name"
    )
    type: str = Field(min_length=1, description="chooses the model family")


class TimestampConfig(_Section):
    """``[log.timestamp]``, or ``timestamp = "column"``: where a reading's time stands and how it is written.

    ``column``: None = found by name or as the first column that holds a time; two names = date and time apart.
    ``format``: None = ISO 8601, Unix time or dd.mm.yyyy, told apart by shape; "iso", "epoch", or a strptime pattern
    such as "%m/%d/%Y %I:%M:%S %p" (forms with slashes are never guessed).
    ``timezone``: of times that carry none.
    """

    column: str | tuple[str, str] | None = None
    format: Annotated[str, AfterValidator(_time_format)] | None = None
    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"


def _timestamp(value: object) -> object:
    return {"column": value} if isinstance(value, str | list) else value


def _format(value: object) -> object:
    if value in {"long", "jsonl"}:
        raise ValueError(f'{value!r} is not read yet: write the log as "csv", a column a sensor')
    return value


def _delimiter(value: object) -> object:
    names = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
    if not isinstance(value, str) or len(names.get(value, value)) != 1 or value in '\n\r"':
        raise ValueError(f'{value!r} is not a delimiter: write one character, or "tab"')
    return names.get(value, value)


def _encoding(value: str) -> str:
    try:
        name = codecs.lookup(value).name
        plain = "0,;\n".encode(name)
    except (LookupError, UnicodeError):
        raise ValueError(f'{value!r} is not a text encoding: write "utf-8", "utf-16", "cp1252" or "latin-1"') from None
    if plain != b"0,;\n" and name not in {"utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"}:
        raise ValueError(f'{value!r} cannot be followed line by line: write "utf-8", "utf-16", "cp1252" or "latin-1"')
    return name


class LogConfig(_Section):
    """``[log]``: which files and how they are written. None = detected from the file's first lines.

    ``path`` is an absolute glob pattern; files rotated to ``<name>.1``, ``<name>-20260117``, ``….gz`` beside it are
    found without being named.
    """

    path: Annotated[str, AfterValidator(_resolve_pattern)]
    format: Annotated[Literal["csv"], BeforeValidator(_format)] = "csv"
    period: Annotated[Duration, _at_least(1, '"1us"')] = Field(description="µs between two readings")
    delimiter: Annotated[str | None, BeforeValidator(_delimiter)] = None
    decimal: Literal[".", ","] | None = None
    encoding: Annotated[str, AfterValidator(_encoding)] | None = None
    comment: str = Field(default="#", description="lines that begin so are skipped; empty: none are")
    timestamp: Annotated[TimestampConfig, BeforeValidator(_timestamp)] = TimestampConfig()

    @model_validator(mode="after")
    def _consistent(self) -> LogConfig:
        if self.delimiter is not None and self.delimiter == self.decimal:
            raise ValueError(f"delimiter and decimal are both {self.decimal!r}: a number could not be told from two")
        return self


class MqttConfig(_Section):
    """``[mqtt]``: the broker. ``ca`` None = the system's certificate store."""

    url: Annotated[str, AfterValidator(_broker_url)]
    ca: File | None = None
    certificate: File | None = None
    key: File | None = None
    username: str | None = None
    password_file: File | None = Field(default=None, description="its first line is the password")
    acknowledge: Literal["application", "puback"] = "application"

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return urlsplit(self.url).scheme == "mqtts"

    @property
    def host(self) -> str:
        """Host name or address."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port; 1883 or, with TLS, 8883 where the URL has none."""
        return urlsplit(self.url).port or (8883 if self.tls else 1883)

    @model_validator(mode="after")
    def _consistent(self) -> MqttConfig:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: give both or none")
        if not self.tls and (self.ca or self.certificate):
            raise ValueError('ca, certificate and key need TLS: write url = "mqtts://…"')
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file belong together: give both or none")
        return self


class UpdatesConfig(_Section):
    """``[updates]``: where signed bundles come from. ``root`` is the trusted root.json installed with the agent."""

    url: Annotated[str, AfterValidator(_web_url)]
    root: File = Field(default=Path("root.json"), validate_default=True)
    channel: str = Field(default="stable", pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    interval: Annotated[Duration, _at_least(SECOND, '"1s"')] = 15 * MINUTE


class StateConfig(_Section):
    """``[state]``: where the journal and the bundles live, and how much may wait to be sent (bytes)."""

    dir: File
    outbox_limit: Annotated[Size, _at_least(1_000_000, '"1MB"')] = 512_000_000


class PrivacyConfig(_Section):
    """``[privacy]``: how much of the readings may leave the laboratory."""

    evidence: Literal["none", "scores", "on-alert", "full"] = "on-alert"


class Config(_Section):
    """Everything the agent is told."""

    device: DeviceConfig
    log: LogConfig
    mqtt: MqttConfig | None = None
    updates: UpdatesConfig | None = None
    state: StateConfig
    privacy: PrivacyConfig = PrivacyConfig()

    @model_validator(mode="before")
    @classmethod
    def _default_state(cls, data: Any) -> Any:
        """Give each device a state folder of its own: two may live on one PC."""
        if not isinstance(data, dict) or not isinstance(state := data.get("state", {}), dict) or "dir" in state:
            return data
        device = data.get("device")
        name = device.get("id", "") if isinstance(device, dict) else getattr(device, "id", "")
        if not isinstance(name, str) or not DEVICE_ID.fullmatch(name):
            name = "device"  # reported as a problem of its own
        from platformdirs import user_state_path

        return data | {"state": state | {"dir": user_state_path("fieldwatch", appauthor=False) / name}}


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Read ``path`` and the environment.

    Raises :class:`ConfigError` with every problem found.
    """
    text = _read(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        hint = " (Windows paths need single quotes: 'C:\\logs\\readings.csv')" if "\\" in str(error) else ""
        raise ConfigError([f"{path}: not valid TOML: {error}{hint}"]) from None
    places = _Places(path, text)
    problems = _overlay(data, environ, places)
    try:
        config = Config.model_validate(data, context={"base": path.absolute().parent})
    except ValidationError as error:
        problems += [_explain(problem, places) for problem in error.errors()]
    if problems:
        raise ConfigError(sorted(set(problems), key=problems.index))
    return config


def _read(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError([f"{path}: no such file; write one after the example config/prod/agent.toml"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror or error}"]) from None
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: not UTF-8 text; save it as UTF-8 (in Notepad: Save as, Encoding)"]) from None


class _Places:
    """Where keys stand: the environment variable, or file and line.

    TOML's parser tells no lines. A scan for headers and keys finds all that is written the usual way; for the rest
    (a key inside an inline table) the line of what holds it is named.
    """

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines: dict[tuple[str, ...], int] = {}
        self.variables: dict[tuple[str, ...], str] = {}
        section: tuple[str, ...] = ()
        for number, line in enumerate(text.split("\n"), 1):
            if header := re.match(r"\s*\[([^\[\]]+)\]", line):
                section = _keys(header[1])
                self._lines.setdefault(section, number)
            elif key := re.match(r"\s*([\w\"'.\- ]+?)\s*=", line):
                self._lines.setdefault(section + _keys(key[1]), number)

    def __call__(self, key: tuple[str, ...]) -> str:
        for length in range(len(key), 0, -1):
            if variable := self.variables.get(key[:length]):
                return f"environment variable {variable}"
            if line := self._lines.get(key[:length]):
                return f"{self._path}:{line}"
        return str(self._path)


def _keys(text: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in text.split("."))


def _overlay(data: dict[str, Any], environ: Mapping[str, str], places: _Places) -> list[str]:
    """Write the environment's settings into ``data`` and return what is wrong with them.

    A variable of a section that is not the agent's belongs to another program, unless it looks like a slip.
    """
    problems = []
    for variable, value in sorted(environ.items()):
        if not variable.startswith(ENVIRONMENT) or "__" not in variable:
            continue
        key = tuple(part.lower() for part in variable.removeprefix(ENVIRONMENT).split("__"))
        if key[0] not in Config.model_fields:
            if near := difflib.get_close_matches(key[0], Config.model_fields, 1, 0.75):
                right = variable.replace(key[0].upper(), near[0].upper(), 1)
                problems.append(f"environment variable {variable}: no section [{key[0]}]; did you mean {right}?")
            continue
        target = data
        for part in key[:-1]:
            inner = target.setdefault(part, {})
            if not isinstance(inner, dict):
                inner = target[part] = {"column": inner} if part == "timestamp" else {}
            target = inner
        target[key[-1]] = value
        places.variables[key] = variable
    return problems


def _explain(problem: Any, places: _Places) -> str:
    """Turn one of pydantic's errors into a sentence for the person who wrote the file."""
    key = tuple(part for part in problem["loc"] if isinstance(part, str) and not part.endswith("]"))
    key = key[:2] if key[:2] != ("log", "timestamp") else key[:3]
    place, name = places(key), _name(key)
    given = problem["input"]
    match problem["type"]:
        case "missing":
            what = "section" if len(key) == 1 else "key"
            return f"{place}: {name}: this {what} is missing"
        case "extra_forbidden":
            section = key[:-1]
            known = list(_fields(section))
            near = difflib.get_close_matches(key[-1].lower(), known, 1, 0.5)
            advice = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            return f"{place}: {name}: unknown {'section' if len(key) == 1 else 'key'}; {advice}"
        case "literal_error":
            return f"{place}: {name}: {given!r} is not one of {problem['ctx']['expected']}"
        case "string_pattern_mismatch":
            return f"{place}: {name}: {given!r} does not match {problem['ctx']['pattern']}"
        case "value_error":
            return f"{place}: {name}: {problem['ctx']['error']}"
        case "model_type" | "model_attributes_type":
            return f"{place}: {name}: must be a section, [{'.'.join(key)}]"
        case _:
            return f"{place}: {name}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _name(key: tuple[str, ...]) -> str:
    return f"[{key[0]}]" if len(key) == 1 else f"[{'.'.join(key[:-1])}] {key[-1]}"


def _fields(section: tuple[str, ...]) -> Iterator[str]:
    models: dict[tuple[str, ...], type[BaseModel]] = {
        (): Config,
        ("device",): DeviceConfig,
        ("log",): LogConfig,
        ("log", "timestamp"): TimestampConfig,
        ("mqtt",): MqttConfig,
        ("updates",): UpdatesConfig,
        ("state",): StateConfig,
        ("privacy",): PrivacyConfig,
    }
    yield from models[section].model_fields


def _public(url: str) -> str:
    """Return the URL without what may be a password."""
    return re.sub(r"//[^/@]*@", "//…@", url)
