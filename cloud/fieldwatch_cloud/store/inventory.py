"""Which libraries each device's agent has told that it runs with: the list that each device told last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fieldwatch_contract.clock import parse_iso
from sqlalchemy import Connection, or_, select

from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.batch import HealthSeen
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


def keep(db: Connection, healths: Sequence[HealthSeen], epochs: Mapping[str, str | None]) -> None:
    """Keep the lists of these reports; ``epochs``: each device's current one. An older report changes nothing."""
    told = [
        {"device": seen.device, "epoch": seen.epoch, "seq": seen.seq, "at": parse_iso(seen.event.data.ts)}
        | {"agent": seen.event.data.agent}
        | seen.event.data.components.model_dump()
        for seen in healths
        if seen.event.data.components is not None and seen.epoch == epochs[seen.device]
    ]
    if not told:
        return
    statement = upsert(db, t.inventory)
    old, new = t.inventory.c, statement.excluded
    db.execute(
        statement.on_conflict_do_update(
            index_elements=[t.inventory.c.device],
            set_={name: new[name] for name in ("epoch", "seq", "at", "agent", "complete", "versions")},
            where=or_(old.epoch.is_distinct_from(new.epoch), old.seq < new.seq),
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
