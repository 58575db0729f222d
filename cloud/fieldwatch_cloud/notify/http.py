"""One POST: guarded, without redirects, bounded in time and size."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import httpx

from fieldwatch_cloud.notify.channel import TIMEOUT_S, TOTAL_S, RefusedError, TryLaterError
from fieldwatch_cloud.notify.guard import Network, judge

READ_LIMIT = 4096
"""Bytes of an answer that are read, to say in the error what the other side says."""
_LATER = frozenset({408, 425, 429})


def post(
    url: str, body: bytes, headers: Mapping[str, str], allow: Sequence[Network], trust: ssl.SSLContext | None = None
) -> None:
    """Send ``body`` and return when the answer is a success. Raises :class:`TryLaterError`, :class:`RefusedError`.

    ``trust``: which certificates, default those of the system.
    """
    place = judge(url, allow)
    parts = urlsplit(url)
    host = f"[{place.address}]" if ":" in place.address else place.address
    target = f"{place.scheme}://{host}:{place.port}{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    named = parts.netloc.rpartition("@")[2]
    try:
        status, said = asyncio.run(
            asyncio.wait_for(
                _exchange(target, body, {**headers, "Host": named}, place.host, trust or ssl.create_default_context()),
                TOTAL_S,
            )
        )
    except TimeoutError:
        raise TryLaterError(f"{place.host}: no whole answer within {TOTAL_S:.0f} s") from None
    except httpx.HTTPError as error:
        raise TryLaterError(f"{place.host}: {error or type(error).__name__}") from None
    _judge(status, said)


async def _exchange(
    target: str, body: bytes, headers: Mapping[str, str], name: str, trust: ssl.SSLContext
) -> tuple[int, bytes]:
    """Return status and the beginning of the answer. Asynchronous, so that the whole has an end: a server that sends a
    byte now and then keeps every single read within its limit.
    """
    async with (
        httpx.AsyncClient(verify=trust, trust_env=False, timeout=TIMEOUT_S) as client,
        client.stream(
            "POST",
            target,
            content=body,
            headers=headers,
            follow_redirects=False,
            extensions={"sni_hostname": name},
        ) as answer,
    ):
        said = b""
        async for chunk in answer.aiter_raw():
            said += chunk
            if len(said) > READ_LIMIT:
                break
        return answer.status_code, said


def _judge(status: int, said: bytes) -> None:
    """Raise what a status means; a success returns."""
    if 200 <= status < 300:
        return
    text = f"HTTP {status}: {said[:200].decode(errors='replace').strip()}".rstrip(": ")
    if status in _LATER or status >= 500:
        raise TryLaterError(text)
    if 300 <= status < 400:
        raise RefusedError(f"{text}; redirects are not followed: configure the address that it leads to")
    raise RefusedError(text)
