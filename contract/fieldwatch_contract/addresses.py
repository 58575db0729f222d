"""Addresses as a person gives them: what can be none is refused where it is written, before anything connects.

A name or a password in an address would be written wherever the address is, into logs and messages: it is refused, and
not repeated there either.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit


def broker(url: str) -> str:
    """Return the address of a broker as it is given; raises :class:`ValueError`.

    >>> broker("mqtts://broker.example.org:8883"), broker("mqtt://[::1]")
    ('mqtts://broker.example.org:8883', 'mqtt://[::1]')
    """
    parts = _split(url, {"mqtt", "mqtts"}, '"mqtt://host:port" or "mqtts://host:port"')
    if parts.path.strip("/"):
        raise ValueError(f'{public(url)!r} is not "mqtt://host:port" or "mqtts://host:port"')
    if "@" in parts.netloc:
        raise ValueError("must not hold a password: use username and password_file")
    return url


def web(url: str, example: str, schemes: Collection[str] = ("http", "https")) -> str:
    """Return the address of a web server as it is given; raises :class:`ValueError`, which shows ``example``.

    >>> web("https://me:secret@example.org/", "https://host/folder/")
    Traceback (most recent call last):
    ...
    ValueError: must not hold a name or password: it would be seen in logs
    """
    if "@" in _split(url, schemes, f'"{example}"').netloc:
        raise ValueError("must not hold a name or password: it would be seen in logs")
    return url


def host(name: str) -> str:
    """Return the name or address of a machine, as certificates have it; raises :class:`ValueError`.

    >>> host("bücher.example.org"), host("::1")
    ('xn--bcher-kva.example.org', '::1')
    """
    try:
        right = name.isprintable() and _is_host(name)
    except ValueError:
        right = False
    if not right:
        raise ValueError(f"{name!r} is no name or address of a machine, without https:// and port")
    return name if ":" in name else name.encode("idna").decode()


def public(url: str) -> str:
    """Return an address, whatever it is, without anything that may be a password.

    >>> public("mqtt://me:p@ss/word@host"), public("me:secret@host:1883")
    ('mqtt://…@host', 'me:…@host:1883')
    """
    return re.sub(r"^([A-Za-z]*:/*)?.*@", r"\1…@", url, flags=re.S)


def _split(url: str, schemes: Collection[str], example: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        right = parts.scheme in schemes and parts.port != 0 and _is_host(parts.hostname or "")
        right = right and url.isprintable() and " " not in url and not (parts.query or parts.fragment)
    except ValueError:
        right = False
    if not right:
        raise ValueError(f"{public(url)!r} is not {example}")
    return parts


def _is_host(name: str) -> bool:
    """Tell whether a name server could know it; raises :class:`ValueError` where a part is empty or too long."""
    if ":" in name:
        return bool(ipaddress.IPv6Address(name))
    return re.fullmatch(r"[A-Za-z0-9_.-]+", name.encode("idna").decode()) is not None
