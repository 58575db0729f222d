"""Renews the device's certificate in time, without a person and without a restart.

Due when a third of its life is left, and also when it has expired: a PC that was off for months comes back by itself
as long as the authority allows it. Key and certificate are one file and replaced at once; the next connection uses
them. What came of it is kept in ``renewal.json``, from which the service tells people before anything ends
(:mod:`.enrol.watch`).

The updater runs this, as a child process: the service does not load cryptography.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fieldwatch_agent import durable
from fieldwatch_agent.config import Config
from fieldwatch_agent.enrol.client import Client, Refused, Unreachable
from fieldwatch_agent.enrol.enroll import write_identity
from fieldwatch_agent.enrol.identity import IdentityError, check, life, new_key, read_key, request, sign
from fieldwatch_agent.enrol.watch import FILE


@dataclass(frozen=True)
class Outcome:
    """``renewed``; until when the certificate in use is valid; ``problem``: why it was not renewed though due."""

    renewed: bool
    expires: datetime
    problem: str = ""


def due(begins: datetime, expires: datetime, now: datetime) -> bool:
    """Tell whether a third of the life, or less, is left.

    >>> due(datetime(2026, 1, 1), datetime(2026, 7, 1), datetime(2026, 4, 30))
    False
    >>> due(datetime(2026, 1, 1), datetime(2026, 7, 1), datetime(2026, 5, 2))
    True
    """
    return expires - now <= (expires - begins) / 3


def renew(config: Config, now: datetime) -> Outcome | None:
    """Renew if due, and keep what came of it; None where this device has no certificate."""
    mqtt = config.mqtt
    if mqtt is None or mqtt.certificate is None or mqtt.key is None:
        return None
    outcome = _renew(config, mqtt.certificate, mqtt.key, now)
    record = {"expires": outcome.expires.isoformat(), "problem": outcome.problem}
    durable.write(config.state.dir / FILE, json.dumps(record).encode())
    return outcome


def _renew(config: Config, certificate: Path, key_file: Path, now: datetime) -> Outcome:
    try:
        old = durable.read(certificate)
        begins, expires = life(old)
    except (OSError, IdentityError) as error:
        return Outcome(False, now, str(error))
    if not due(begins, expires, now):
        return Outcome(False, expires)
    if config.enrolment is None or certificate != key_file:
        return Outcome(False, expires, "it was not made by enrolment: whoever issued it must renew it")
    try:
        key = new_key()
        asked = request(key)
        authority = durable.read(config.mqtt.ca) if config.mqtt is not None and config.mqtt.ca else None
        client = Client(config.enrolment.url, authority)
        new = client.renew(old, asked, sign(read_key(durable.read(key_file)), asked))
        if authority is not None:
            check(new, authority, key, config.device.id)
        write_identity(certificate, key, new)
    except (OSError, IdentityError, Refused, Unreachable) as error:
        return Outcome(False, expires, str(error))
    return Outcome(True, life(new)[1])
