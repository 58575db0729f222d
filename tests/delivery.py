"""What the delivery tests share: a journal with events in it, quick timing, and what the store then holds."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fieldwatch_agent.config import MqttConfig
from fieldwatch_agent.send.connection import Timing
from fieldwatch_agent.send.journal import Draft, Journal, Outbox
from fieldwatch_cloud.store import Store, sqlite_url
from fieldwatch_cloud.store import tables as t
from fieldwatch_contract import clock
from fieldwatch_contract.alerts import alert_id
from fieldwatch_contract.events import Ack, AlertData, BundleRef, Components, HealthData, LedgerDay, OutboxState
from fieldwatch_contract.fields import Evidence
from sqlalchemy import func, select

START = clock.parse_iso("2026-11-01T00:00:00Z")
BUNDLE = BundleRef(name="press", version="1", sha256="ab" * 32)
DEVICE = "press-0001"

QUICK = Timing(
    start_delay=0.0,
    first_retry=0.4,
    last_retry=1.0,
    stable=2.0,
    connect=3.0,
    keepalive=4,
    will_delay=0,
    stall=3.0,
    stalled=2.5,
    note=0.3,
    retained_ack=0.1,
    no_ack=1.5,
    no_ack_longest=3.0,
    hold=0.3,
    hold_longest=1.0,
    poll=0.2,
)
"""Delays short enough for a test that meets every one of them."""


def result(minute: int, score: float = 0.5, values: dict[str, float] | None = None) -> Draft:
    """A reading of minute ``minute``, scored by two models."""
    ts = clock.iso(START + minute * clock.MINUTE)
    scores = [
        {
            "model": model,
            "kind": model,
            "score": score,
            "threshold": 3.0,
            "verdict": "normal" if score < 3 else raised,
            "sensors": ["s1", "s2"],
            "shares": [0.7, 0.2],
        }
        for model, raised in (("detector", "anomalous"), ("classifier", "faulty"))
    ]
    data: dict[str, Any] = {"ts": ts, "bundle": "press/1", "scores": scores}
    if values is not None:
        data["values"] = values
    return Draft("result", ts[:10], json.dumps(data))


def alert(minute: int, transition: str = "opened", device: str = DEVICE, opened: int | None = None) -> AlertData:
    """A transition of the detector's alert that opened at minute ``opened`` (default: this one).

    Every transition blames others, ``resolved`` nobody.
    """
    blamed = {"opened": ["s1"], "updated": ["s2"]}.get(transition, [])
    first = minute if opened is None else opened
    ts = clock.iso(START + minute * clock.MINUTE)
    times = [clock.iso(START + (minute + i) * clock.MINUTE) for i in range(-2, 1)]
    evidence = Evidence(
        times=times, sensors=["s1"], values=[[1.0, None, 9.5]], mean=[1.0], scale=[0.5], scores=[0.1, None, 4.0]
    )
    return AlertData.model_validate(
        {
            "alert_id": alert_id(device, "detector", START + first * clock.MINUTE),
            "transition": transition,
            "model": "detector",
            "kind": "detector",
            "severity": "warning",
            "opened_at": clock.iso(START + first * clock.MINUTE),
            "ts": ts,
            "score": 4.0,
            "peak": 4.0 + minute - first,
            "threshold": 3.0,
            "rows": 1 + minute - first,
            "sensors": blamed,
            "shares": [0.9] * len(blamed),
            "bundle": BUNDLE,
            "evidence": evidence if transition == "opened" else None,
        }
    )


def alert_draft(data: AlertData) -> Draft:
    """An alert's transition, as it is journalled."""
    return Draft("alert", data.ts[:10], data.model_dump_json())


def health(minute: int, components: Components | None = None, **numbers: int) -> HealthData:
    """A report of minute ``minute``; ``numbers`` go into the ledger of the first day."""
    ts = clock.iso(START + minute * clock.MINUTE)
    counts = {"read": 0, "scored": 0, "evicted": 0, "pending": 0} | numbers
    return HealthData(
        ts=ts,
        agent="0.1.0",
        bundle=BUNDLE,
        log="following",
        last_reading=ts,
        lag_bytes=0,
        outbox=OutboxState(events=0, bytes=0, oldest=None),
        ledger=[LedgerDay(day="2026-11-01", refused={"malformed": 1}, **counts)],
        components=components,
    )


def make_journal(folder: Path, drafts: Iterable[Draft] = ()) -> Journal:
    """A journal in ``folder`` with ``drafts`` in its outbox."""
    journal = Journal(folder, 1 << 30)
    journal.enqueue(list(drafts))
    return journal


def make_store(folder: Path) -> Store:
    """The store in ``folder``, new or as it was left."""
    return Store(sqlite_url(folder / "cloud.db"))


def mqtt(url: str, **more: Any) -> MqttConfig:
    """The agent's ``[mqtt]``."""
    return MqttConfig.model_validate({"url": url, **more})


def waiting(path: Path) -> int:
    """How many events the outbox of the journal at ``path`` still holds."""
    outbox = Outbox(path)
    try:
        return outbox.depth().events
    finally:
        outbox.close()


def stored(store: Store, device: str = DEVICE) -> int:
    """How many readings of ``device`` have results in the store."""
    with store.read() as db:
        query = select(func.count(func.distinct(t.result.c.ts))).where(t.result.c.device == device)
        return int(db.execute(query).scalar_one())


def rows(store: Store, table: Any, *without: str) -> list[dict[str, Any]]:
    """The whole content of a table in the order of its key, without the columns named."""
    with store.read() as db:
        found = db.execute(select(table).order_by(*table.primary_key.columns)).mappings()
        return [{key: value for key, value in row.items() if key not in without} for row in found]


def last_ack(store: Store, device: str = DEVICE) -> Ack | None:
    """What the store has acknowledged to a device with one epoch."""
    found = [receipt.ack() for name, receipt in store.receipts() if name == device]
    return found[0] if found else None
