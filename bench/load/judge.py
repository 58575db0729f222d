"""What a run has shown: every event that was sent against what the store holds, and how soon people saw the alerts."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fieldwatch_cloud.alerts.routing import SELF_TEST
from fieldwatch_cloud.store import Store, sqlite_url
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.web.queries import Queries
from sqlalchemy import func, select

from bench.load.devices import EPOCH, Device

PAGE_S = 2.0
MAIL_S = 10.0
"""What is promised: 95 of 100 alerts are on a live page, and in the mailbox, within so many seconds."""
MODELS = 2


@dataclass(frozen=True)
class Delays:
    """Seconds from an alert's publication until it was seen, ascending; ``unseen``: how many were not."""

    seconds: Sequence[float]
    unseen: int

    @staticmethod
    def of(sent: Mapping[str, float], seen: Mapping[str, float]) -> Delays:
        """Compare when each was sent and seen."""
        return Delays(sorted(seen[one] - at for one, at in sent.items() if one in seen), len(sent.keys() - seen.keys()))

    def within(self, share: float) -> float:
        """Return the delay that this share of all did not exceed; endless where too many were not seen at all."""
        place = max(0, -(-int(1000 * share * (len(self.seconds) + self.unseen)) // 1000) - 1)
        return self.seconds[place] if place < len(self.seconds) else float("inf")

    def __str__(self) -> str:
        if not self.seconds:
            return "none seen"
        unseen = f", {self.unseen} not seen" if self.unseen else ""
        return f"p50 {self.within(0.5):.2f} s, p95 {self.within(0.95):.2f} s, most {self.seconds[-1]:.2f} s{unseen}"


def median(values: Sequence[float]) -> float:
    """Return the median; 0 of none."""
    return statistics.median(values) if values else 0.0


def lost(path: Path, devices: Sequence[Device], mails: set[str]) -> tuple[dict[str, int], list[str]]:
    """Compare the store with what was sent; return counts, and in words whatever does not agree.

    ``mails``: the ids of the messages that the mail server took.
    """
    store = Store(sqlite_url(path))
    try:
        return _compare(store, devices, mails)
    finally:
        store.close()


def _compare(store: Store, devices: Sequence[Device], mails: set[str]) -> tuple[dict[str, int], list[str]]:
    wrong: list[str] = []

    def expect(what: str, sent: set[object], found: set[object]) -> None:
        if sent != found:
            wrong.append(f"{what}: {len(sent)} sent, {len(sent - found)} not stored, {len(found - sent)} unknown")

    r, e, a = t.result.c, t.event.c, t.alert.c
    with store.read() as db:
        results = {(one.device, one.ts, one.model) for one in db.execute(select(r.device, r.ts, r.model))}
        health = {(one.device, one.seq) for one in db.execute(select(e.device, e.seq).where(e.type == "health"))}
        alerts = set(db.execute(select(a.alert_id)).scalars())
        told = set(db.execute(select(t.incident_signal.c.key)).scalars())
        acks = {one.device: one.upto for one in db.execute(select(t.ack).where(t.ack.c.epoch == EPOCH))}
        m = t.message.c
        messages = db.execute(select(m.id, m.state).where(m.channel != SELF_TEST)).all()
        aside = db.execute(select(func.count()).select_from(t.quarantine)).scalar_one()
        unrouted = db.execute(select(func.count()).where(t.incident_event.c.what == "unrouted")).scalar_one()
    everything = {(one.name, ts) for one in devices for ts in one.sent.results}
    expect("results", {(*one, model) for one in everything for model in ("detector", "classifier")}, set(results))
    expect("health reports", {(one.name, seq) for one in devices for seq in one.sent.health}, set(health))
    opened = {alert for one in devices for alert in one.sent.alerts}
    expect("alerts", set(opened), set(alerts))
    if opened - told:
        wrong.append(f"{len(opened - told)} alerts belong to no incident")
    expect("events acknowledged", {(one.name, one.seq) for one in devices}, set(acks.items()))
    if open_ones := sum(one.open for one in devices):
        wrong.append(f"{open_ones} events were never acknowledged to their device")
    expect("mails", {one.id for one in messages if one.state == "sent"}, set(mails))
    if waiting := sum(1 for one in messages if one.state != "sent"):
        wrong.append(f"{waiting} messages were not sent")
    if aside:
        wrong.append(f"{aside} payloads were set aside")
    if unrouted:
        wrong.append(f"{unrouted} pieces of news had no route")
    queries = Queries(store.engine)
    unbalanced = [
        one.name
        for one in devices
        if (days := queries.conservation(one.name, 2))
        and (
            any(not day.balanced or day.missing for day in days)
            or sum(day.read for day in days) != len(one.sent.results)
        )
    ]
    if unbalanced:
        wrong.append(f"the ledgers of {len(unbalanced)} devices do not add up, such as {unbalanced[0]}")
    counts = {"results": len(results), "health reports": len(health), "alerts": len(alerts), "mails": len(mails)}
    return counts, wrong
