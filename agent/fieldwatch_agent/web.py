"""Connections to web servers, through the proxy that the environment or Windows names; never for this machine.

A proxy that wants a name and a password has them in its address: ``http://name:password@proxy:3128``.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3


class BadProxy(urllib3.exceptions.HTTPError):
    """The proxy that is named can be none. What is named is not repeated: it may hold a password."""


def pool(url: str, **tls: Any) -> urllib3.PoolManager:
    """Return a connection pool for ``url``; ``tls``: urllib3's options, such as ``ca_certs``.

    Raises :class:`BadProxy`.
    """
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    host = parts.hostname or ""
    if proxy is None or host in {"localhost", "127.0.0.1", "::1"} or proxy_bypass(host):
        return urllib3.PoolManager(**tls)
    try:
        proxy = proxy if "://" in proxy else f"http://{proxy}"
        named = urlsplit(proxy.strip())
        login = f"{unquote(named.username)}:{unquote(named.password or '')}" if named.username else None
        headers = urllib3.make_headers(proxy_basic_auth=login) if login else None
        return urllib3.ProxyManager(named.geturl(), proxy_headers=headers, **tls)
    except (ValueError, urllib3.exceptions.HTTPError):
        raise BadProxy(
            f"the proxy for {parts.scheme}, as {parts.scheme}_proxy in the environment or Windows name it, is no "
            "address such as http://name:password@proxy:3128; in a password, write % and / : @ as %25 %2F %3A %40"
        ) from None
