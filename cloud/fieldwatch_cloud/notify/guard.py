"""Where we may connect to on somebody's behalf: a URL that a person configured must not reach into our own network.

Rules (server-side request forgery)
    * Only ``http`` and ``https``; no user name or password within the URL.
    * Every address that the name resolves to must be a public one: not private, loopback, link-local, multicast,
      reserved or unspecified, and neither such an address within an IPv6 one (mapped, 6to4, NAT64, Teredo).
    * ``allow`` names networks that are meant: a lab's own server.
    * The connection goes to the address that was judged, not to the name: a moment later it could resolve to another.
    * Redirects are not followed: they would be another URL.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from fieldwatch_cloud.notify.channel import RefusedError, TryLaterError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
_NAT64 = IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")


@dataclass(frozen=True)
class Place:
    """A judged destination: connect to ``address``, but speak to ``host``."""

    scheme: str
    host: str
    port: int
    address: str


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a name. Raises :class:`OSError`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def judge(url: str, allow: Sequence[Network], lookup: Callable[[str, int], list[str]] | None = None) -> Place:
    """Return where to connect to. Raises :class:`RefusedError` for a place that may not be reached,
    :class:`TryLaterError` where the name cannot be resolved now. ``lookup``: default :func:`resolve`.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError as error:
        raise RefusedError(f"not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise RefusedError("only http:// and https:// URLs are called")
    if parts.username or parts.password:
        raise RefusedError("a URL must not hold a user name or password")
    port = port or (443 if parts.scheme == "https" else 80)
    try:
        addresses = (lookup or resolve)(parts.hostname, port)
    except (OSError, UnicodeError) as error:
        raise TryLaterError(f"{parts.hostname} cannot be resolved: {error}") from None
    for one in addresses:
        if not permitted(one, allow):
            raise RefusedError(f"{parts.hostname} resolves to {one}, which is not a public address; see `allow`")
    if not addresses:
        raise TryLaterError(f"{parts.hostname} has no address")
    return Place(parts.scheme, parts.hostname, port, addresses[0])


def permitted(text: str, allow: Sequence[Network] = ()) -> bool:
    """Tell whether an address may be connected to.

    >>> [permitted(one) for one in ("93.184.216.34", "10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::a00:1", "fe80::1%eth0")]
    [True, False, False, False, False]
    """
    address = ip_address(text.split("%", 1)[0])
    inner = _inner(address)
    if any(one in network for network in allow for one in (address, inner) if one.version == network.version):
        return True
    if isinstance(address, IPv6Address) and address in _LOCAL_NAT64:
        return False
    return all(
        one.is_global and not one.is_multicast and not one.is_reserved for one in {address, inner} - _ignored(address)
    )


def _ignored(address: Address) -> set[Address]:
    """Of a mapped address only the inner one says where it leads."""
    return {address} if _inner(address) != address else set()


def _inner(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one stands for, or itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64 or (int(address) >> 32 == 0 and int(address) > 1):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
