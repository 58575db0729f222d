"""The agent's configuration: one TOML file, environment on top, every mistake reported at once.

A device PC stands in a locked laboratory, and its errors are often read out over the phone. So :func:`load` collects
all problems before it fails, names file, line and key, and says what would be right. An unknown key is an error that
suggests the nearest known name, because a silently ignored key would be noticed months later.

* Every key can be set by environment, ``FIELDWATCH_<SECTION>__<KEY>`` (``FIELDWATCH_MQTT__URL``), which wins.
* Relative paths start at the folder of the TOML file, wherever the program was started.
* A duration is a number with a unit ("500ms", "60s", "15m", "1h", "7d"), here µs; a size is "512MB" (10⁶) or "512MiB"
  (2²⁰), here bytes. A bare number is refused: its unit is unknown.
* ``[mqtt]`` and ``[updates]`` may be absent: then the agent sends no results, or fetches no bundles.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from fieldwatch_contract import addresses
from fieldwatch_contract.clock import MINUTE, SECOND
from fieldwatch_contract.commands import KINDS, Kind
from fieldwatch_contract.reading.settings import (
    Duration,
    LogConfig,
    Section,
    TimestampConfig,
    amount,
    at_least,
    base_folder,
    whole,
)
from fieldwatch_contract.topics import DEVICE_ID
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from fieldwatch_agent import system

ENVIRONMENT = "FIELDWATCH_"

_SIZES = {"b": 1} | {f"{p}b": 10 ** (3 * n) for n, p in enumerate("kmgt", 1)}
_SIZES |= {f"{p}ib": 2 ** (10 * n) for n, p in enumerate("kmgt", 1)}


class ConfigError(Exception):
    """The configuration cannot be used; ``problems`` are all the reasons, each a sentence with file and line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def size(value: object) -> int:
    """Return "512MB" in bytes; raises :class:`ValueError` for anything without a unit."""
    return amount(value, _SIZES, "512MB")


def _resolve(path: Path, info: ValidationInfo) -> Path:
    return base_folder(info) / whole(path)


def _device_id(value: str) -> str:
    if not DEVICE_ID.fullmatch(value):
        raise ValueError(f"{value!r} must be 3 to 64 of a-z, 0-9 and '-', for example \"press-0001\"")
    return value


def _web_url(value: str) -> str:
    return addresses.web(value, "https://host/folder/")


def _secure_url(value: str) -> str:
    return addresses.web(value, "https://host:8443", ["https"])


def _words(value: object) -> object:
    """Take the environment's form of a list: words with commas between."""
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


Size = Annotated[int, BeforeValidator(size)]
File = Annotated[Path, AfterValidator(_resolve)]


class DeviceConfig(Section):
    """``[device]``: which device this is."""

    id: Annotated[str, AfterValidator(_device_id)] = Field(
        description="^[a-z0-9-]{3,64}$; the certificate's common name"
    )
    type: str = Field(min_length=1, description="chooses the model family")


class MqttConfig(Section):
    """``[mqtt]``: the broker. ``ca`` None = the system's certificate store."""

    url: Annotated[str, AfterValidator(addresses.broker)]
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


class UpdatesConfig(Section):
    """``[updates]``: where signed bundles come from. ``root`` is the trusted root.json installed with the agent; ``ca``
    None = the system's certificate store."""

    url: Annotated[str, AfterValidator(_web_url)]
    root: File = Field(default=Path("root.json"), validate_default=True)
    ca: File | None = None
    channel: str = Field(default="stable", pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    interval: Annotated[Duration, at_least(SECOND, '"1s"')] = 15 * MINUTE


class EnrolmentConfig(Section):
    """``[enrolment]``: where the device's certificate is renewed; written by ``enroll``."""

    url: Annotated[str, AfterValidator(_secure_url)]


class StateConfig(Section):
    """``[state]``: where journal and bundles are stored, and how much may wait to be sent (bytes)."""

    dir: File
    outbox_limit: Annotated[Size, at_least(1_000_000, '"1MB"')] = 512_000_000


class ServiceConfig(Section):
    """``[service]``: the service's own log. ``log_file`` None: standard error alone (systemd's journal keeps it)."""

    log_file: File | None = None
    log_format: Literal["text", "json"] = "text"


class PrivacyConfig(Section):
    """``[privacy]``: how much of the readings may leave the laboratory."""

    evidence: Literal["none", "scores", "on-alert", "full"] = "on-alert"


class CommandsConfig(Section):
    """``[commands]``: what people at the cloud may ask this device for; empty: nothing."""

    allow: Annotated[tuple[Kind, ...], BeforeValidator(_words)] = KINDS


class Config(Section):
    """The agent's complete configuration."""

    device: DeviceConfig
    log: LogConfig
    mqtt: MqttConfig | None = None
    updates: UpdatesConfig | None = None
    enrolment: EnrolmentConfig | None = None
    state: StateConfig
    service: ServiceConfig = ServiceConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    commands: CommandsConfig = CommandsConfig()

    @model_validator(mode="before")
    @classmethod
    def _default_state(cls, data: Any) -> Any:
        """Give each device its own state folder: one PC may serve two devices."""
        if not isinstance(data, dict) or not isinstance(state := data.get("state", {}), dict) or "dir" in state:
            return data
        device = data.get("device")
        name = device.get("id", "") if isinstance(device, dict) else getattr(device, "id", "")
        if not isinstance(name, str) or not DEVICE_ID.fullmatch(name):
            name = "device"  # reported as a problem of its own
        from platformdirs import user_state_path

        folder = user_state_path("fieldwatch", appauthor=False) / system.folder_name(name)
        return data | {"state": state | {"dir": folder}}


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Read ``path`` and the environment.

    Raises :class:`ConfigError` with every problem found.
    """
    return parse(path, _read(path), environ)


def parse(path: Path, text: str, environ: Mapping[str, str] = os.environ) -> Config:
    """Return the configuration of a text that is, or is to be, the file ``path``; raises as :func:`load` does."""
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
        problems += [explain(problem, places) for problem in error.errors()]
    if problems:
        raise ConfigError(sorted(set(problems), key=problems.index))
    return config


def _read(path: Path) -> str:
    try:
        whole(path)
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError([f"{path}: no such file; write one after the example config/prod/agent.toml"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror or error}"]) from None
    except ValueError as error:
        raise ConfigError([f"{str(path)!r} {error}"]) from None
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: not UTF-8 text; save it as UTF-8 (in Notepad: Save as, Encoding)"]) from None


class _Places:
    """Where keys are set: the environment variable, or file and line.

    The TOML parser reports no line numbers. A scan for headers and keys finds everything written in the usual way; for
    the rest (a key inside an inline table) the line of the containing table is reported.
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
    """Apply the environment's settings to ``data`` and return what is wrong with them.

    A variable with an unknown section belongs to another program, unless it looks like a typing mistake.
    """
    problems = []
    for variable, value in sorted(environ.items()):
        if not variable.startswith(ENVIRONMENT) or "__" not in variable:
            continue
        key = tuple(part.lower() for part in variable.removeprefix(ENVIRONMENT).split("__"))
        if key[0] not in Config.model_fields:
            if near := _nearest(key[0], Config.model_fields, 0.75):
                right = variable.replace(key[0].upper(), near.upper(), 1)
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


def explain(problem: Any, places: Callable[[tuple[str, ...]], str]) -> str:
    """Turn one of pydantic's errors into a sentence for the person who wrote it; ``places``: where a key was set."""
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
            near = _nearest(key[-1].lower(), known, 0.5)
            advice = f"did you mean {near}?" if near else f"known are {', '.join(known)}"
            return f"{place}: {name}: unknown {'section' if len(key) == 1 else 'key'}; {advice}"
        case "literal_error":
            return f"{place}: {name}: {given!r} is not one of {problem['ctx']['expected']}"
        case "string_pattern_mismatch":
            return f"{place}: {name}: {given!r} does not match {problem['ctx']['pattern']}"
        case "value_error":
            return f"{place}: {name}: {problem['ctx']['error']}"
        case "model_type" | "model_attributes_type":
            return f"{place}: {name}: must be a section: [{'.'.join(key)}] on a line of its own, once"
        case "string_type" | "path_type":
            return f"{place}: {name}: must be text in quotes"
        case _:
            return f"{place}: {name}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _nearest(word: str, known: Iterable[str], alike: float) -> str | None:
    """Return the known word that is most like ``word``, None if none is ``alike`` (0 to 1)."""
    import difflib  # for an error alone: a running agent has no use for it

    return next(iter(difflib.get_close_matches(word, list(known), 1, alike)), None)


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
        ("enrolment",): EnrolmentConfig,
        ("state",): StateConfig,
        ("service",): ServiceConfig,
        ("privacy",): PrivacyConfig,
        ("commands",): CommandsConfig,
    }
    yield from models[section].model_fields
