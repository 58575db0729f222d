"""Which libraries each device's agent has told that it runs with: the newest list of each device, in its own time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fieldwatch_contract.clock import parse_iso
from sqlalchemy import Connection, select

from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.batch import HealthSeen
from fieldwatch_cloud.store.devices import is_forward
from fieldwatch_cloud.store.sql import upsert


@dataclass(frozen=True)
class Inventory:
    """A device and what it has told; times in µs.

    ``agent``: the version that runs there now. ``versions`` by component, None where nothing is known of this agent:
    it never told, or it is another one than the agent that did. ``complete``: as :class:`.events.Components` has it.
    """

    device: str
    site: str
    last_seen: int
    agent: str | None
    told_by: str | None
    versions: dict[str, list[str]] | None
    complete: bool


def keep(db: Connection, healths: Sequence[HealthSeen], now: int) -> None:
    """Keep the lists of these reports; an older one changes nothing."""
    told = [
        {"device": seen.device, "at": parse_iso(seen.event.data.ts), "agent": seen.event.data.agent}
        | seen.event.data.components.model_dump()
        for seen in healths
        if seen.event.data.components is not None
    ]
    if not told:
        return
    statement = upsert(db, t.inventory)
    db.execute(
        statement.on_conflict_do_update(
            index_elements=[t.inventory.c.device],
            set_={name: statement.excluded[name] for name in ("at", "agent", "complete", "versions")},
            where=is_forward(t.inventory.c.at, statement.excluded.at, now),
        ),
        told,
    )


def inventories(db: Connection) -> list[Inventory]:
    """Return all devices, by id; ``site`` where people have set one."""
    d, i, c = t.device.c, t.inventory.c, t.card.c
    query = (
        select(d.id, c.site, d.last_seen, d.agent_version, i.agent, i.versions, i.complete)
        .outerjoin_from(t.device, t.inventory, d.id == i.device)
        .outerjoin(t.card, d.id == c.device)
        .order_by(d.id)
    )
    return [_inventory(*row) for row in db.execute(query)]


def _inventory(
    device: str, site: str | None, seen: int, agent: str | None, by: str | None, versions: Any, complete: bool | None
) -> Inventory:
    known = by is not None and by == agent and bool(versions)
    return Inventory(device, site or "", seen, agent, by, dict(versions) if known else None, known and bool(complete))
