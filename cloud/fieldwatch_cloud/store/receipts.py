"""What of each device is settled, and what to acknowledge to it (:mod:`fieldwatch_contract.delivery`)."""

from __future__ import annotations

from typing import Any

from fieldwatch_contract.delivery import Receipt, Settled
from sqlalchemy import ColumnElement, Connection, Table, and_, delete, select, update

from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.batch import Batch
from fieldwatch_cloud.store.sql import chunks, insert_new


def settle(db: Connection, batch: Batch) -> list[tuple[str, Receipt]]:
    """Record the delivered numbers and return what to acknowledge to each device.

    A number counts as refused from its first delivery on, until it is delivered again and stored; what was stored
    is not refused because a later copy was.
    """
    result = []
    for device, epoch in sorted(batch.numbers):
        key = {"device": device, "epoch": epoch}
        mine = and_(t.ack.c.device == device, t.ack.c.epoch == epoch)
        query = select(t.ack).where(mine).with_for_update()
        row = db.execute(query).first()
        if row is None:
            insert_new(db, t.ack, [key | {"upto": 0, "also": []}])
            row = db.execute(query).one()
        before = _settled(row)
        floor = batch.floors.get((device, epoch))
        numbers = set(batch.numbers[device, epoch])
        settled = before.add(numbers, floor)
        if settled != before:
            db.execute(update(t.ack).where(mine).values(upto=settled.upto, also=list(settled.beyond)))
        bad = batch.aside.get((device, epoch), set())
        insert_new(db, t.refused, [key | {"seq": seq} for seq in sorted(bad) if seq not in before])
        refused = _refused(db, row)
        if gone := sorted(seq for seq in refused if seq in numbers - bad or (floor is not None and seq < floor)):
            for chunk in chunks(gone):
                db.execute(delete(t.refused).where(_same(t.refused, row), t.refused.c.seq.in_(chunk)))
        result.append((device, Receipt(epoch, settled, frozenset(numbers), refused.difference(gone))))
    return result


def all_receipts(db: Connection) -> list[tuple[str, Receipt]]:
    """Return the receipt of every device in its current epoch."""
    current = and_(t.device.c.id == t.ack.c.device, t.device.c.epoch == t.ack.c.epoch)
    found = db.execute(select(t.ack).join(t.device, current)).all()
    return [(row.device, Receipt(row.epoch, _settled(row), refused=_refused(db, row))) for row in found]


def _same(table: Table, row: Any) -> ColumnElement[bool]:
    return and_(table.c.device == row.device, table.c.epoch == row.epoch)


def _settled(row: Any) -> Settled:
    """Return what a row of ``ack`` says; a damaged one says that nothing is settled.

    The device names its low-water mark with each message, which brings the rest back.
    """
    upto = row.upto if isinstance(row.upto, int) else 0
    return Settled(max(0, upto), tuple(sorted(number for number in row.also if number > upto)))


def _refused(db: Connection, row: Any) -> frozenset[int]:
    """Return the quarantined numbers of the device and epoch of ``row``."""
    found = db.execute(select(t.refused.c.seq).where(_same(t.refused, row))).scalars()
    return frozenset(seq for seq in found if isinstance(seq, int))
