"""What the pages are told at the start: where they are reached, and by which secrets before there are accounts.

Without accounts the dashboard is for whoever started it, on this machine: a start token of 128 bits or more in the
first URL proves that. ``api_token`` is the same for scripts. Both end where other people come in (``url``): they have
accounts and make tokens of their own.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from fieldwatch_cloud.access.address import Address
from fieldwatch_cloud.access.oidc import Provider

_TOKEN = re.compile(r"[A-Za-z0-9_-]{22,128}")
"""128 bits in base64 are 22 characters, in hex 32."""


@dataclass(frozen=True)
class WebSettings:
    """``public``: how people reach it (``web.url``); ``start_token`` opens the dashboard once.

    Raises :class:`ValueError` for an address by which a password could be read, and for a token that is too short.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    public: str | None = None
    proxies: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None
    start_token: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    api_token: str | None = field(default=None, repr=False)
    provider: Provider | None = None

    def __post_init__(self) -> None:
        assert self.address
        for name, token in (("start_token", self.start_token), ("api_token", self.api_token)):
            if token is not None and not _TOKEN.fullmatch(token):
                raise ValueError(f"web.{name} must be 22 to 128 letters, digits, '-' or '_': 128 random bits at least")
        if self.public is not None and self.api_token is not None:
            raise ValueError(
                "web.api_token is for this machine alone and web.url lets others in: "
                "remove it, and make a token with `fieldwatch-cloud token create`"
            )

    @property
    def address(self) -> Address:
        """Where it is reached, with the rules of that."""
        return Address(self.host, self.port, self.public, self.proxies, self.certificate is not None)

    @property
    def url(self) -> str:
        """The address that people open."""
        return self.address.home

    @property
    def start_url(self) -> str:
        """Where the person who started the server enters; it works once."""
        return f"{self.url}start?token={self.start_token}"
