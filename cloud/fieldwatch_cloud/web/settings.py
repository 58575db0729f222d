"""Where the dashboard listens and who may open it: one machine, one person, until accounts exist.

There are no accounts yet, so the dashboard binds only to a loopback address; a start token of 128 bits in the first URL
proves that whoever opens it also started the server.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from dataclasses import dataclass, field

_TOKEN = re.compile(r"[A-Za-z0-9_-]{22,128}")
"""128 bits in base64 are 22 characters, in hex 32."""


@dataclass(frozen=True)
class WebSettings:
    """``start_token`` opens the dashboard once; ``api_token``, where given, is a bearer token for scripts.

    Raises :class:`ValueError` for an address that other machines could reach and for a token that is too short.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    start_token: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    api_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not is_loopback(self.host):
            raise ValueError(
                f"web.host is {self.host!r}: without accounts the dashboard may be reached from this machine alone. "
                'Use "127.0.0.1", and an SSH tunnel to look at it from elsewhere'
            )
        for name, token in (("start_token", self.start_token), ("api_token", self.api_token)):
            if token is not None and not _TOKEN.fullmatch(token):
                raise ValueError(f"web.{name} must be 22 to 128 letters, digits, '-' or '_': 128 random bits at least")

    @property
    def url(self) -> str:
        """Where the dashboard is."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"

    @property
    def start_url(self) -> str:
        """Where the person who started the server enters; it works once."""
        return f"{self.url}start?token={self.start_token}"


def is_loopback(host: str) -> bool:
    """Tell whether ``host``, a name or an address without port, means this machine and no other."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
