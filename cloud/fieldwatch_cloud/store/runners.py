"""Which processes do the work of this server: each part that runs says so in the store every few seconds.

Promise: of a part that must be alone (the worker that tells people) one process at a time has the work. What it said
last holds for :data:`LEASE`; a process that was killed is followed by another after that, one that ends in good order
at once.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from fieldwatch_contract import clock
from sqlalchemy import Connection, and_, delete, select
from sqlalchemy.exc import SQLAlchemyError

from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.database import Database
from fieldwatch_cloud.store.sql import upsert

LEASE = 10 * clock.SECOND
RENEW_S = 2.0
"""Seconds between two words of a process: several may be late before its lease ends."""


def say(db: Connection, part: str, holder: str, says: str, now: int) -> None:
    """Note that ``part`` runs in the process ``holder``; ``says``: what is wrong with it, "" where nothing is."""
    statement = upsert(db, t.runner)
    new = {"until": statement.excluded.until, "says": statement.excluded.says}
    row = {"part": part, "holder": holder, "until": now + LEASE, "says": says}
    db.execute(statement.on_conflict_do_update(index_elements=list(t.runner.primary_key.columns), set_=new), row)


def take(db: Connection, part: str, holder: str, says: str, now: int) -> bool:
    """The same for a part that must be alone; return whether this process has it. Needs a writing transaction."""
    r = t.runner.c
    if db.execute(select(r.holder).where(r.part == part, r.holder != holder, r.until > now)).first() is not None:
        return False
    db.execute(delete(t.runner).where(r.part == part, r.holder != holder))
    say(db, part, holder, says, now)
    return True


def leave(db: Connection, part: str, holder: str) -> None:
    """Note that it has ended."""
    db.execute(delete(t.runner).where(and_(t.runner.c.part == part, t.runner.c.holder == holder)))


def running(db: Connection, part: str, now: int) -> list[Any]:
    """Return the rows of the processes that run ``part``."""
    r = t.runner.c
    return list(db.execute(select(t.runner).where(r.part == part, r.until > now)))


class Presence:
    """A thread that says for a part that it runs here; ``says``: what is wrong with it."""

    def __init__(self, store: Database, part: str, says: Callable[[], str]) -> None:
        self._store = store
        self._part = part
        self._says = says
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"presence of {part}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and say so."""
        self._stop.set()
        self._thread.join(RENEW_S)
        with contextlib.suppress(SQLAlchemyError), self._store.write() as db:
            leave(db, self._part, self._store.origin)

    def _run(self) -> None:
        while True:
            with contextlib.suppress(SQLAlchemyError), self._store.write() as db:  # the monitor tells of the database
                say(db, self._part, self._store.origin, self._says(), clock.now())
            if self._stop.wait(RENEW_S):
                return
