"""Until when the device's certificate is valid, as the last attempt to renew it left it on the disk.

No cryptography here: the service reads this.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

FILE = "renewal.json"
LOOK_S = 60.0


@dataclass(frozen=True)
class Certificate:
    """``days``: left until it expires, less than none after that; ``problem``: why it is not renewed though due."""

    until: str
    days: float
    problem: str


class CertificateWatch:
    """Looks at the record once a minute."""

    def __init__(self, state: Path) -> None:
        self._path = state / FILE
        self._next = 0.0
        self._seen: Certificate | None = None

    def look(self) -> Certificate | None:
        """Return what is known; None where the device has no certificate, or nobody has looked at it yet."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + LOOK_S
            self._seen = _read(self._path, datetime.now(UTC))
        return self._seen


def _read(path: Path, now: datetime) -> Certificate | None:
    try:
        record = json.loads(path.read_bytes())
        expires = datetime.fromisoformat(record["expires"])
        return Certificate(f"{expires:%Y-%m-%d}", (expires - now).total_seconds() / 86_400, str(record["problem"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
