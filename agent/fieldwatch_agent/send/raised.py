"""The alerts that this device raised, and when they were open.

Where the privacy setting is ``on-alert``, a command may ask for the readings around these alone. The newest
:data:`KEPT` are remembered, whatever has left the outbox meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from fieldwatch_contract import clock

KEPT = 100


class Raised(NamedTuple):
    """An alert: ``opened`` and ``last`` (its newest transition) in µs; ``over``: it was resolved."""

    model: str
    opened: int
    last: int
    over: bool


def with_new(text: str | None, alerts: Sequence[str]) -> str:
    """Return what the journal keeps, after ``alerts``: JSON of :class:`.events.AlertData`, oldest first."""
    try:
        known = dict(from_json(text))
    except ValueError:
        known = {}
    for each in alerts[-KEPT:]:
        alert = json.loads(each)
        with suppress(KeyError, ValueError):  # salvaged from a damaged journal, or of another version
            opened, last = clock.parse_iso(alert["opened_at"]), clock.parse_iso(alert["ts"])
            over = alert["transition"] == "resolved"
            known.pop(alert["alert_id"], None)  # the newest stand last
            known[alert["alert_id"]] = Raised(alert["model"], opened, last, over)
    return json.dumps(dict(list(known.items())[-KEPT:]))


def from_json(text: str | None) -> Mapping[str, Raised]:
    """Read what :func:`with_new` gave: alerts by id. Raises :class:`ValueError` for anything else."""
    value = json.loads(text or "{}")
    try:
        return {
            str(key): Raised(str(model), int(opened), int(last), bool(over))
            for key, (model, opened, last, over) in value.items()
        }
    except (AttributeError, TypeError) as error:
        raise ValueError(f"no alerts: {error}") from error
