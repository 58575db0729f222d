"""The cloud's configuration: one small TOML file; without one, everything runs on this machine with defaults.

Unknown keys are errors that suggest the nearest known name. Relative paths start at the file's folder. In production
mode unsafe settings are errors too: :mod:`.production`.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Sequence
from datetime import time
from email.utils import parseaddr
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fieldwatch_contract import addresses
from fieldwatch_contract.reading.settings import whole
from fieldwatch_contract.topics import DEVICE_ID
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from fieldwatch_cloud.production import unsafe

EMBEDDED = "embedded"


class ConfigError(Exception):
    """The configuration cannot be used; ``problems`` are all the reasons."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _resolve(path: Path, info: ValidationInfo) -> Path:
    base = Path(info.context["base"]) if info.context else Path()
    return base / whole(path)


File = Annotated[Path, AfterValidator(_resolve)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class WebConfig(_Section):
    """``[web]``: where the dashboard listens, and how people reach it. Alone on this machine without ``url``.

    ``url``: the https address that people open. ``proxies``: addresses of the TLS proxies before it, whose
    ``X-Forwarded-For`` counts; or ``certificate`` and ``key``, and TLS ends here. ``start_token``: of the start link,
    drawn at each start if absent; ``api_token``: for scripts. Both are for a dashboard without ``url``.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=1, le=65535)
    url: str | None = None
    proxies: list[str] = []
    certificate: File | None = None
    key: File | None = None
    start_token: SecretStr | None = None
    api_token: SecretStr | None = None

    @model_validator(mode="after")
    def _consistent(self) -> WebConfig:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: give both or none")
        return self


class OidcConfig(_Section):
    """``[oidc]``: the identity provider through which people sign in. Without it, by password alone.

    ``name``: on the button; ``secret_file``: holds the client secret, absent for a public client.
    """

    issuer: str = Field(pattern=r"^https?://\S+$")
    client_id: str = Field(min_length=1)
    secret_file: File | None = None
    name: str = "your organisation"


class StoreConfig(_Section):
    """``[store]``: the database file."""

    path: File = Path("fieldwatch.db")


class BrokerConfig(_Section):
    """``[broker]``: ``url = "embedded"`` starts one on 127.0.0.1; otherwise any MQTT 5 broker.

    ``program``: which one to embed; auto = Mosquitto where it is installed, else iotcore. ``port``: of the embedded
    one, 0 = any free port. ``group``: a name lets several ingest processes share the load ($share).
    """

    url: str = EMBEDDED
    port: int = Field(default=1883, ge=0, le=65535)
    program: Literal["auto", "mosquitto", "iotcore"] = "auto"
    ca: File | None = None
    certificate: File | None = None
    key: File | None = None
    username: str | None = None
    password_file: File | None = None
    client_id: str = "fieldwatch.ingest"
    group: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$")

    @property
    def embedded(self) -> bool:
        """Whether we start the broker ourselves."""
        return self.url == EMBEDDED

    @field_validator("url")
    @classmethod
    def _valid_url(cls, url: str) -> str:
        if url == EMBEDDED:
            return url
        try:
            return addresses.broker(url)
        except ValueError as error:
            raise ValueError(f'{error}; or "{EMBEDDED}"') from None

    @field_validator("client_id")
    @classmethod
    def _no_device(cls, name: str) -> str:
        if DEVICE_ID.fullmatch(name):
            raise ValueError(f"{name!r} could be a device's id, and that device could take ingest's place: use a dot")
        return name

    @model_validator(mode="after")
    def _consistent(self) -> BrokerConfig:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: give both or none")
        if urlsplit(self.url).scheme != "mqtts" and (self.ca or self.certificate):
            raise ValueError('ca, certificate and key need TLS: write url = "mqtts://…"')
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file belong together: give both or none")
        return self


def _updates(url: str) -> str:
    return addresses.web(url, "https://host/folder/")


class EnrolmentConfig(_Section):
    """``[enrolment]``: where devices get their certificates, and what they are told. Without it nobody can enrol.

    ``folder``: made by ``enrolment init``. ``broker``, ``updates``: addresses as the devices reach them; ``root``: the
    trust root of the updates, ``updates_ca``: who vouches for their server, if it is no public authority.
    """

    folder: File = Path("enrolment")
    host: str = "127.0.0.1"
    port: int = Field(default=8443, ge=1, le=65535)
    broker: Annotated[str, AfterValidator(addresses.broker)]
    updates: Annotated[str, AfterValidator(_updates)] | None = None
    updates_ca: File | None = None
    root: File | None = None
    channel: str = Field(default="stable", pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")

    @model_validator(mode="after")
    def _consistent(self) -> EnrolmentConfig:
        if (self.updates is None) != (self.root is None):
            raise ValueError("updates and root belong together: a device trusts no update server without root.json")
        return self


def _span(value: object) -> object:
    """Read a time span as "90s", "15m", "4h"; a default is in seconds."""
    if isinstance(value, int):
        return value
    if isinstance(value, str) and (found := re.fullmatch(r"(\d{1,6})\s*(s|m|h|d)", value)):
        return int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[found[2]]
    raise ValueError('must be a time span as "90s", "15m" or "4h"')


Span = Annotated[int, BeforeValidator(_span)]
"""Seconds."""
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Names = tuple[str, ...]


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f'{name!r} is no time zone such as "Europe/Berlin"') from None
    return name


Zone = Annotated[str, AfterValidator(_zone)]


class HoursConfig(_Section):
    """When a route may be used; ``begin`` after ``end``: over midnight."""

    days: tuple[Day, ...] = get_args(Day)
    begin: time = time(0)
    end: time = time(0)
    zone: Zone = "UTC"


class MatchConfig(_Section):
    """Which incidents a route takes: patterns such as ``press-*``; an absent field takes all."""

    device: Names = ()
    site: Names = ()
    kind: Names = ()
    severity: Names = ()
    audience: Names = ()


class StepConfig(_Section):
    """Channels that are told ``after`` so long, if nobody has acknowledged by then."""

    to: Names = Field(min_length=1)
    after: Span = 0


class RouteConfig(_Section):
    """``[[alerts.routes]]``: who is told of what."""

    name: str
    match: MatchConfig = MatchConfig()
    hours: HoursConfig | None = None
    send: Literal["at once", "digest"] = "at once"
    digest_at: time = time(7)
    zone: Zone = "UTC"
    steps: tuple[StepConfig, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _in_order(self) -> RouteConfig:
        spans = [step.after for step in self.steps]
        if spans != sorted(set(spans)) or spans[0]:
            raise ValueError("the first step has no `after`, each later one a longer one than the step before")
        return self


class AlertsConfig(_Section):
    """``[alerts]``: sites, and routes. ``late``: what reaches us so long after it happened is told in a digest."""

    late: Span = 3600
    sites: dict[str, Names] = {}
    routes: tuple[RouteConfig, ...] = ()


def _address(text: str) -> str:
    """Take an address that every mail server takes: name@host in ASCII, without a display name."""
    if not re.fullmatch(r"[!#-'*+/-9=?A-Z^-~.-]{1,64}@[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?", text):
        more = "" if text.isascii() else '; write the host\'s international name as "xn--…", as DNS has it'
        raise ValueError(f'{text!r} is no address such as "ana@lab.example"{more}')
    return text


def _sender(text: str) -> str:
    _address(parseaddr(text)[1])
    return text


class SmtpConfig(_Section):
    """``[notify.smtp]``: the mail server."""

    host: str
    port: int = Field(default=587, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    ca: File | None = None
    username: str | None = None
    password_file: File | None = None
    sender: Annotated[str, AfterValidator(_sender)] = Field(description="the address in From")


class _Channel(_Section):
    kind: str


class EmailChannel(_Channel):
    """``kind = "email"``: each address is a message of its own."""

    kind: Literal["email"]
    to: tuple[Annotated[str, AfterValidator(_address)], ...] = Field(min_length=1)


class WebhookChannel(_Channel):
    """``kind = "webhook"``: a POST, signed with the first line of ``secret_file``. ``allow``: private networks that it
    may lie in.
    """

    kind: Literal["webhook"]
    url: SecretStr
    secret_file: File
    allow: tuple[IPvAnyNetwork, ...] = ()


class AppriseChannel(_Channel):
    """``kind = "apprise"``: Teams, Slack, ntfy, PagerDuty and many more, by a URL of the library apprise."""

    kind: Literal["apprise"]
    url: SecretStr


class AlertmanagerChannel(_Channel):
    """``kind = "alertmanager"``: Prometheus Alertmanager, API v2; ``url`` without the path of the API."""

    kind: Literal["alertmanager"]
    url: SecretStr
    allow: tuple[IPvAnyNetwork, ...] = ()


Channel = Annotated[EmailChannel | WebhookChannel | AppriseChannel | AlertmanagerChannel, Field(discriminator="kind")]


class NotifyConfig(_Section):
    """``[notify]``: how people are told. ``url``: how they reach the dashboard; ``heartbeat``: is called after each
    self-test, so that another service can tell when that does not come.
    """

    url: str = "http://127.0.0.1:8080"
    heartbeat: SecretStr | None = None
    smtp: SmtpConfig | None = None
    channels: dict[str, Channel] = {}


class Config(_Section):
    """The whole file. ``mode``: in production unsafe settings are refused."""

    mode: Literal["development", "production"] = "development"
    web: WebConfig = WebConfig()
    store: StoreConfig = StoreConfig()
    broker: BrokerConfig = BrokerConfig()
    enrolment: EnrolmentConfig | None = None
    oidc: OidcConfig | None = None
    alerts: AlertsConfig = AlertsConfig()
    notify: NotifyConfig = NotifyConfig()

    @property
    def production(self) -> bool:
        """Whether unsafe settings are refused."""
        return self.mode == "production"

    @model_validator(mode="after")
    def _channels_exist(self) -> Config:
        known = self.notify.channels
        for route in self.alerts.routes:
            for name in (name for step in route.steps for name in step.to):
                if name not in known:
                    listed = ", ".join(known) or "none"
                    raise ValueError(
                        f"alerts.routes: {route.name} tells {name!r}, which is no channel; known: {listed}"
                    )
        if self.notify.smtp is None and (mails := [n for n, one in known.items() if one.kind == "email"]):
            raise ValueError(f"notify.channels: {mails[0]} sends mail, but there is no [notify.smtp]")
        return self

    @model_validator(mode="before")
    @classmethod
    def _all_sections(cls, data: Any) -> Any:
        """Treat an absent section as empty, so that its default paths also start at the file's folder."""
        sections: dict[str, Any] = {
            name: {} for name, field in cls.model_fields.items() if isinstance(field.default, BaseModel)
        }
        return sections | data if isinstance(data, dict) else data


def load(path: Path | None) -> Config:
    """Read ``path``; None = the defaults, with paths in the current folder.

    Raises :class:`ConfigError` with all problems at once.
    """
    if path is None:
        return Config.model_validate({}, context={"base": Path.cwd()})
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {error}"]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: not valid TOML: {error}"]) from error
    try:
        config = Config.model_validate(raw, context={"base": path.resolve().parent})
    except ValidationError as error:
        problems = [f"{path}: {_problem(dict(item))}" for item in error.errors(include_url=False, include_input=False)]
        raise ConfigError(problems) from error
    if config.production and (problems := unsafe(config)):
        raise ConfigError([f"{path}: in production {problem}" for problem in problems])
    return config


def _problem(item: dict[str, Any]) -> str:
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden":
        says = item["msg"].removeprefix("Value error, ")
        return f"{place}: {says}" if place else str(says)
    fields = _fields(item["loc"][:-1])
    near = difflib.get_close_matches(str(item["loc"][-1]), fields, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(fields)}"
    return f"{place}: unknown key; {hint}"


def _fields(place: Sequence[int | str]) -> list[str]:
    """Return the keys of the section at a place, whatever lists, names and kinds lie on the way."""
    models: list[type[BaseModel]] = [Config]
    for part in place:
        inner = _models(one.model_fields[str(part)].annotation for one in models if str(part) in one.model_fields)
        kinds = [
            one
            for one in models
            if "kind" in one.model_fields and part in get_args(one.model_fields["kind"].annotation)
        ]
        models = inner or kinds or models  # an index or a name: still the same section
    return list(dict.fromkeys(name for one in models for name in one.model_fields))


def _models(types: Iterable[Any]) -> list[type[BaseModel]]:
    """Return the sections that these types hold."""
    found: list[type[BaseModel]] = []
    for one in types:
        if isinstance(one, type) and issubclass(one, BaseModel):
            found.append(one)
        else:
            found += _models(get_args(one))
    return found
