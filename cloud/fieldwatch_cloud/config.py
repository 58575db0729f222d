"""The cloud's configuration: one small TOML file; without one, everything runs on this machine with defaults.

Unknown keys are errors that suggest the nearest known name. Relative paths start at the file's folder.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from fieldwatch_contract.topics import DEVICE_ID
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

EMBEDDED = "embedded"


class ConfigError(Exception):
    """The configuration cannot be used; ``problems`` are all the reasons."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _resolve(path: Path, info: ValidationInfo) -> Path:
    base = Path(info.context["base"]) if info.context else Path()
    return base / path.expanduser()


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
        parts = urlsplit(url)
        try:
            right = parts.scheme in {"mqtt", "mqtts"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            right = False
        if not right or parts.path.strip("/") or parts.query:
            raise ValueError('must be "embedded", "mqtt://host:port" or "mqtts://host:port"')
        if parts.username or parts.password:
            raise ValueError("must not hold a password: use username and password_file")
        return url

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


class EnrolmentConfig(_Section):
    """``[enrolment]``: where devices get their certificates, and what they are told. Without it nobody can enrol.

    ``folder``: made by ``enrolment init``. ``broker``, ``updates``: addresses as the devices reach them; ``root``: the
    trust root of the updates, ``updates_ca``: who vouches for their server, if it is no public authority.
    """

    folder: File = Path("enrolment")
    host: str = "127.0.0.1"
    port: int = Field(default=8443, ge=1, le=65535)
    broker: str = Field(pattern=r"^mqtts?://[^/\s]+$")
    updates: str | None = Field(default=None, pattern=r"^https?://\S+$")
    updates_ca: File | None = None
    root: File | None = None
    channel: str = "stable"

    @model_validator(mode="after")
    def _consistent(self) -> EnrolmentConfig:
        if (self.updates is None) != (self.root is None):
            raise ValueError("updates and root belong together: a device trusts no update server without root.json")
        return self


class Config(_Section):
    """The whole file."""

    web: WebConfig = WebConfig()
    store: StoreConfig = StoreConfig()
    broker: BrokerConfig = BrokerConfig()
    enrolment: EnrolmentConfig | None = None
    oidc: OidcConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _all_sections(cls, data: Any) -> Any:
        """Treat an absent section as empty, so that its default paths also start at the file's folder."""
        sections: dict[str, Any] = {name: {} for name, field in cls.model_fields.items() if field.default is not None}
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
        return Config.model_validate(raw, context={"base": path.resolve().parent})
    except ValidationError as error:
        problems = [f"{path}: {_problem(dict(item))}" for item in error.errors(include_url=False, include_input=False)]
        raise ConfigError(problems) from error


def _problem(item: dict[str, Any]) -> str:
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] != "extra_forbidden":
        return f"{place}: {item['msg'].removeprefix('Value error, ')}"
    fields: dict[str, Any] = dict(Config.model_fields)
    for part in item["loc"][:-1]:
        section = fields[str(part)].annotation
        fields = dict((get_args(section) or (section,))[0].model_fields)  # an optional one is ``Section | None``
    near = difflib.get_close_matches(str(item["loc"][-1]), fields, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(fields)}"
    return f"{place}: unknown key; {hint}"
