"""What of each device is settled, and what to acknowledge to it (:mod:`fieldwatch_contract.delivery`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fieldwatch_contract.delivery import Receipt, Settled
from sqlalchemy import Connection, and_, delete, select, tuple_

from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.batch import Batch
from fieldwatch_cloud.store.sql import chunks, insert_new, upsert

Key = tuple[str, str]
"""Device and epoch."""


def settle(db: Connection, batch: Batch) -> list[tuple[str, Receipt]]:
    """Record the delivered numbers and return what to acknowledge to each device.

    A number counts as refused from its first delivery on, until it is delivered again and stored; what was stored
    is not refused because a later copy was. All devices of a batch together take a few statements: one each would be
    most of what ingest does.
    """
    keys = sorted(batch.numbers)
    known = _lock(db, keys)
    before = {key: _settled(known[key]) for key in keys}
    after = {key: before[key].add(set(batch.numbers[key]), batch.floors.get(key)) for key in keys}
    _keep(db, {key: after[key] for key in keys if after[key] != before[key]})
    bad = {key: {seq for seq in batch.aside.get(key, ()) if seq not in before[key]} for key in keys}
    insert_new(db, t.refused, [_row(key) | {"seq": seq} for key in keys for seq in sorted(bad[key])])
    refused = _refused(db, keys)
    gone = {key: _gone(refused[key], batch, key) for key in keys if refused.get(key)}
    for (device, epoch), numbers in gone.items():
        mine = and_(t.refused.c.device == device, t.refused.c.epoch == epoch)
        for chunk in chunks(sorted(numbers)):
            db.execute(delete(t.refused).where(mine, t.refused.c.seq.in_(chunk)))
    return [
        (key[0], Receipt(key[1], after[key], frozenset(batch.numbers[key]), refused[key] - gone.get(key, set())))
        for key in keys
    ]


def all_receipts(db: Connection) -> list[tuple[str, Receipt]]:
    """Return the receipt of every device in its current epoch."""
    current = and_(t.device.c.id == t.ack.c.device, t.device.c.epoch == t.ack.c.epoch)
    found = db.execute(select(t.ack).join(t.device, current)).all()
    refused = _refused(db, [(row.device, row.epoch) for row in found])
    return [(row.device, Receipt(row.epoch, _settled(row), refused=refused[row.device, row.epoch])) for row in found]


def _lock(db: Connection, keys: Sequence[Key]) -> dict[Key, Any]:
    """Return the rows of ``ack``, which nobody else changes until we commit; those that are missing are made."""
    known = _known(db, keys)
    if missing := [key for key in keys if key not in known]:
        insert_new(db, t.ack, [_row(key) | {"upto": 0, "also": []} for key in missing])
        known |= _known(db, missing)  # another process may have made it, and more
    return known


def _known(db: Connection, keys: Sequence[Key]) -> dict[Key, Any]:
    found: dict[Key, Any] = {}
    for chunk in chunks(keys):
        query = select(t.ack).where(tuple_(t.ack.c.device, t.ack.c.epoch).in_(chunk)).with_for_update()
        found |= {(row.device, row.epoch): row for row in db.execute(query)}
    return found


def _keep(db: Connection, settled: Mapping[Key, Settled]) -> None:
    if not settled:
        return
    statement = upsert(db, t.ack)
    new = {"upto": statement.excluded.upto, "also": statement.excluded.also}
    rows = [_row(key) | {"upto": one.upto, "also": list(one.beyond)} for key, one in settled.items()]
    db.execute(statement.on_conflict_do_update(index_elements=list(t.ack.primary_key.columns), set_=new), rows)


def _gone(refused: frozenset[int], batch: Batch, key: Key) -> set[int]:
    """Return the refused numbers that were delivered again and stored, or that the device no longer has."""
    stored = set(batch.numbers[key]) - batch.aside.get(key, set())
    floor = batch.floors.get(key)
    return {seq for seq in refused if seq in stored or (floor is not None and seq < floor)}


def _row(key: Key) -> dict[str, Any]:
    return {"device": key[0], "epoch": key[1]}


def _settled(row: Any) -> Settled:
    """Return what a row of ``ack`` says; a damaged one says that nothing is settled.

    The device names its low-water mark with each message, which brings the rest back.
    """
    upto = row.upto if isinstance(row.upto, int) else 0
    return Settled(max(0, upto), tuple(sorted(number for number in row.also if number > upto)))


def _refused(db: Connection, keys: Sequence[Key]) -> dict[Key, frozenset[int]]:
    """Return the quarantined numbers of each device and epoch."""
    found: dict[Key, set[int]] = {key: set() for key in keys}
    r = t.refused.c
    for chunk in chunks(keys):
        for row in db.execute(select(r.device, r.epoch, r.seq).where(tuple_(r.device, r.epoch).in_(chunk))):
            if isinstance(row.seq, int):
                found[row.device, row.epoch].add(row.seq)
    return {key: frozenset(numbers) for key, numbers in found.items()}
