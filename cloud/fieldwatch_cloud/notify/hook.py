"""A webhook of our own, and Prometheus' Alertmanager.

A receiver of the webhook checks ``Fieldwatch-Signature``: ``t=<unix seconds>,v1=<hex>``, the HMAC-SHA256 under the
shared secret over ``<t>.<body>``, and refuses a ``t`` that is more than five minutes old. ``Fieldwatch-Message`` is the
same in every attempt, so that one which comes twice (its answer was lost) can be told.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fieldwatch_contract import clock

from fieldwatch_cloud.notify.channel import RefusedError
from fieldwatch_cloud.notify.guard import Network
from fieldwatch_cloud.notify.http import post
from fieldwatch_cloud.notify.letters import word
from fieldwatch_cloud.store.outbox import Letter

ALERTMANAGER_FIRING = 30 * clock.DAY
"""How long an alert fires that nobody ends; Alertmanager forgets one without an end within minutes."""


def sign(secret: bytes, at: int, body: bytes) -> str:
    """Return the signature's header; ``at`` in seconds since 1970.

    >>> sign(b"k", 1, b"x")[:23]
    't=1,v1=976cb87e4f568d1c'
    """
    digest = hmac.new(secret, f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


class Webhook:
    """POSTs :func:`.letters.word`'s data, signed."""

    def __init__(self, url: str, secret_file: Path, allow: Sequence[Network], base: str) -> None:
        self._url = url
        self._secret_file = secret_file
        self._allow = tuple(allow)
        self._base = base

    def send(self, letter: Letter) -> None:
        """Send a message."""
        body = json.dumps(word(letter, self._base).data, ensure_ascii=False).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "fieldwatch",
            "Fieldwatch-Message": letter.id,
            "Fieldwatch-Signature": sign(self._secret(), int(time.time()), body),
        }
        post(self._url, body, headers, self._allow)

    def _secret(self) -> bytes:
        try:
            secret = self._secret_file.read_bytes().split(b"\n", 1)[0].strip()
        except OSError as error:
            raise RefusedError(f"its secret_file {self._secret_file} cannot be read: {error}") from None
        if len(secret) < 16:
            raise RefusedError(f"the secret in {self._secret_file} is shorter than 16 bytes")
        return secret


class Alertmanager:
    """POSTs to ``/api/v2/alerts``; its labels are the same at the beginning and at the end of an incident."""

    def __init__(self, url: str, allow: Sequence[Network], base: str) -> None:
        self._url = url.rstrip("/") + "/api/v2/alerts"
        self._allow = tuple(allow)
        self._base = base

    def send(self, letter: Letter) -> None:
        """Send a message."""
        body = json.dumps(alertmanager(letter, self._base, clock.now())).encode()
        post(self._url, body, {"Content-Type": "application/json", "User-Agent": "fieldwatch"}, self._allow)


def alertmanager(letter: Letter, base: str, now: int) -> list[dict[str, Any]]:
    """Return a message as Alertmanager takes it: each incident once, as it is now."""
    found = {}
    for item in letter.items:
        row = item.incident
        ends = row.ended_at if row.ended_at is not None else now + ALERTMANAGER_FIRING
        labels = {"alertname": f"fieldwatch {row.kind}", "incident": str(row.id), "device": row.device}
        labels |= {"site": row.site, "severity": row.severity, "audience": row.audience}
        found[row.id] = {
            "labels": {name: value for name, value in labels.items() if value},
            "annotations": {"summary": row.what, "message": letter.id},
            "startsAt": clock.iso(row.opened_at),
            "endsAt": clock.iso(max(ends, row.opened_at)),
            "generatorURL": f"{base.rstrip('/')}/incidents/{row.id}",
        }
    return list(found.values())
