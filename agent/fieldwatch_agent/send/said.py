"""What people said of this device's alerts: kept in the journal as input, each verdict with the row from which it
holds.

The cloud's document (:class:`.events.Verdicts`) is retained and comes again with every connection; what it has not said
before is new. A verdict holds from the row after the newest one on: rows before it are decided, and so the same log
with the same verdicts gives the same alerts. Only while a log is read again, after a journal was lost, it may hold from
a later row on: from the one that was the device's newest when the person said it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import get_args

from fieldwatch_contract import clock
from fieldwatch_contract.alerts import Said
from fieldwatch_contract.events import AlertVerdict, Verdicts
from fieldwatch_contract.likeness import Answer

SAID_KEPT = 1000
"""Verdicts kept, with every revision: the latest. The rule remembers far fewer alerts."""


def with_new(known: Sequence[Said], document: Verdicts, newest: int | None) -> tuple[Said, ...]:
    """Return ``known`` with what ``document`` says anew, in the order in which it holds; ``newest``: µs of that row.

    Where nothing is new it is ``known``. What a revised verdict said for rows that are still to come is dropped.
    """
    latest = {said.alert_id: said.verdict for said in known}
    found = list(known)
    for entry in document.verdicts:
        verdict = answer(entry)
        if latest.get(entry.alert_id) == verdict:
            continue
        latest[entry.alert_id] = verdict
        first = newest + 1 if newest is not None else 0
        found = [said for said in found if said.alert_id != entry.alert_id or said.since < first]
        found.append(Said(entry.alert_id, entry.model, verdict, max(first, _since(entry))))
    return tuple(sorted(found, key=lambda said: said.since)[-SAID_KEPT:])


def _since(entry: AlertVerdict) -> int:
    """Return when the cloud says a verdict holds from (µs); 0 where it does not, or names no time that there is."""
    with suppress(ValueError):
        return clock.parse_iso(entry.since) if entry.since else 0
    return 0


def answer(entry: AlertVerdict) -> Answer | None:
    """Return what counts of a verdict; a word that this program does not know says nothing."""
    return next((word for word in get_args(Answer) if word == entry.verdict), None)


def to_json(said: Sequence[Said]) -> str:
    """Return verdicts as the journal keeps them, and as ``replay --verdicts`` reads them."""
    return json.dumps([each.__dict__ | {"since": clock.iso(each.since)} for each in said])


def from_json(text: str | None) -> tuple[Said, ...]:
    """Read what :func:`to_json` gave, a document of the cloud, or the ``verdicts`` of ``status --json``.

    Raises :class:`ValueError` for anything else.
    """
    value = json.loads(text or "[]")
    entries = value.get("verdicts") if isinstance(value, dict) else value
    if not isinstance(entries, list):
        raise ValueError("no list of verdicts, and no object that has one as 'verdicts'")
    found = [AlertVerdict.model_validate(entry) for entry in entries]
    said = [Said(each.alert_id, each.model, answer(each), _since(each)) for each in found]
    return tuple(sorted(said, key=lambda each: each.since))
