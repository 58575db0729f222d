"""Where the dashboard is reached, and which requests come from there. No I/O.

Two ways, and nothing between:

* On this machine alone: bound to a loopback address, names of this machine in ``Host``.
* By others: ``url`` says how they reach it, which must be ``https``. TLS ends at a proxy (``proxies``: whose forwarded
  addresses we believe) or here (a certificate). Requests that came neither way are refused, so that no password
  crosses the network in the clear.

``url`` fixes what a request might lie about: scheme, host, path prefix, and with them cookies, origins and links.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from fieldwatch_cloud.loopback import is_loopback

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Address:
    """``host`` and ``port`` to bind to; ``url``: how people reach it, None: on this machine at that port.

    Raises :class:`ValueError` for a combination by which a password could be read on its way.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    url: str | None = None
    proxies: tuple[str, ...] = ()
    tls: bool = False

    def __post_init__(self) -> None:
        self._networks()
        if self.url is None:
            if not is_loopback(self.host):
                raise ValueError(
                    f"web.host is {self.host!r}, which other machines reach: give web.url (https) with a TLS proxy "
                    "(web.proxies) or a certificate, and invite an administrator; "
                    'or use "127.0.0.1" and an SSH tunnel'
                )
            if self.proxies:
                raise ValueError("web.proxies needs web.url: the address that people open")
            return
        parts = urlsplit(self.url)
        if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment or parts.username:
            raise ValueError(f"web.url is {self.url!r}: it must be as https://watch.example.org/ or with a path")
        if not self.tls and not self.proxies and not is_loopback(self.host):
            raise ValueError(
                "web.url is https, but who speaks TLS? Name the proxy in web.proxies, or give web.certificate, web.key"
            )

    @property
    def home(self) -> str:
        """The address that people open, with a slash at the end."""
        if self.url is not None:
            return self.url.rstrip("/") + "/"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}/"

    @property
    def prefix(self) -> str:
        """The path under which the pages are, "" where they are at the root."""
        return urlsplit(self.home).path.rstrip("/")

    @property
    def secure(self) -> bool:
        """Whether browsers reach it over TLS."""
        return self.home.startswith("https:")

    @property
    def cookie(self) -> str:
        """The session cookie's name.

        Over TLS no other host and no plain connection can set ``__Host-``; on this machine cookies are shared between
        ports, so the name contains the port.
        """
        return "__Host-fieldwatch" if self.secure else f"fieldwatch_{self.port}"

    def knows_host(self, value: str | None) -> bool:
        """Tell whether a ``Host`` header names us, whatever the port: a foreign name (DNS rebinding) gets nothing.

        >>> [Address().knows_host(host) for host in ("127.0.0.1:8080", "[::1]:80", "lab.example")]
        [True, True, False]
        """
        name = _host_of(value)
        ours = urlsplit(self.url).hostname if self.url is not None else None
        return name is not None and (is_loopback(name) or name == ours)

    def knows_origin(self, origin: str | None, host: str | None) -> bool:
        """Tell whether a changing request with this ``Origin`` may come from a page of ours."""
        if origin is None:
            return True
        parts = urlsplit(self.home)
        allowed = {f"{parts.scheme}://{parts.netloc}".lower()}
        if is_loopback(_host_of(host) or ""):
            allowed.add(f"{'https' if self.tls else 'http'}://{host}".lower())
        return origin.lower() in allowed

    def came_safely(self, peer: str | None) -> bool:
        """Tell whether a connection from ``peer`` cannot be read on its way: TLS, this machine, or the proxy."""
        return self.tls or peer is None or is_loopback(peer) or self._trusts(peer)

    def client(self, peer: str | None, forwarded: Iterable[str]) -> str:
        """Return the address of who asks: the last one in ``X-Forwarded-For`` that is no proxy of ours.

        >>> behind = Address(url="https://a.example/", proxies=("10.0.0.5",), host="10.0.0.2")
        >>> behind.client("10.0.0.5", ["6.6.6.6, 192.0.2.7"]), behind.client("203.0.113.9", ["6.6.6.6"])
        ('192.0.2.7', '203.0.113.9')
        """
        found = peer or "unknown"
        if peer is None or not (self._trusts(peer) or (self.url is not None and is_loopback(peer))):
            return found
        for hop in reversed([one.strip() for line in forwarded for one in line.split(",")]):
            try:
                found = str(ipaddress.ip_address(hop))
            except ValueError:
                break
            if not self._trusts(found):
                break
        return found

    def _trusts(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in self._networks())

    def _networks(self) -> list[Network]:
        try:
            return [ipaddress.ip_network(one, strict=False) for one in self.proxies]
        except ValueError as error:
            raise ValueError(f"web.proxies: {error}: name addresses or networks, as 10.0.0.5 or 10.0.0.0/24") from error


def _host_of(value: str | None) -> str | None:
    if not value:
        return None
    try:
        return urlsplit(f"//{value}").hostname
    except ValueError:
        return None
