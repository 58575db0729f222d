"""The live feed between processes: what one has stored, the others' pages show.

Promise: a notice is written in the transaction of what it tells of, so no other process hears of something that is not
stored, and none misses what is. Only the newest :data:`.live.RING` are kept; a reader that fell behind them must load
everything again, as a browser must.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Sequence

from pydantic_core import to_json
from sqlalchemy import Connection, delete, func, insert, select
from sqlalchemy.exc import SQLAlchemyError

from fieldwatch_cloud.live import RING, Notice
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.database import Database

POLL_S = 0.5

log = logging.getLogger("fieldwatch.store")


def write(db: Connection, origin: str, notices: Sequence[Notice]) -> None:
    """Write notices for the other processes; ``origin``: which process this is."""
    if not notices:
        return
    n = t.notice
    db.execute(
        insert(n),
        [
            {
                "origin": origin,
                "kind": one.kind,
                "device": one.device,
                "data": to_json(one.data, inf_nan_mode="null").decode(),
            }
            for one in notices
        ],
    )
    newest = select(func.max(n.c.id)).scalar_subquery()
    db.execute(delete(n).where(n.c.id <= newest - RING))


class Follower:
    """A thread that puts the other processes' notices on this one's live feed."""

    def __init__(self, store: Database) -> None:
        self._store = store
        self._last = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Begin with what is stored from now on."""
        with self._store.read() as db:
            self._last = db.execute(select(func.max(t.notice.c.id))).scalar() or 0
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(POLL_S + 5)

    def _run(self) -> None:
        while not self._stop.wait(POLL_S):
            try:
                self.look()
            except SQLAlchemyError as error:
                log.warning("the feed cannot be read: %s", getattr(error, "orig", None) or error)
            except Exception:
                log.exception("follower: unexpected error; trying again")

    def look(self) -> None:
        """Pass on what is new."""
        n = t.notice.c
        with self._store.read() as db:
            rows = db.execute(select(t.notice).where(n.id > self._last).order_by(n.id)).all()
        if not rows:
            return
        if rows[0].id > self._last + 1:
            self._store.live.skip()
        self._last = rows[-1].id
        others = [row for row in rows if row.origin != self._store.origin]
        self._store.live.publish(Notice(row.kind, row.device, json.loads(row.data)) for row in others)
