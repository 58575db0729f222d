"""The audit trail: who did what, when and why.

Each entry holds the SHA-256 of its content and of the entry before, so that a changed, inserted or removed entry breaks
the chain from there on (:func:`check`). An entry is written in the transaction of the act itself: there is no act
without its entry and no entry without its act. Entries removed from the end break nothing; who wants to notice that,
too, keeps a copy of the newest number and hash elsewhere (``fieldwatch-cloud audit verify`` prints them, and takes them
with ``--expect``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from fieldwatch_contract import clock
from sqlalchemy import Connection, insert, select

from fieldwatch_cloud.store import tables as t

START = "0" * 64
"""What the first entry is bound to."""
TEXT_LIMIT = 2000


@dataclass(frozen=True)
class Entry:
    """One act. ``at`` µs; ``who``: a person's name, ``token NAME of PERSON``, or ``command line (USER)``.

    ``action``: noun and verb, as ``alert.acknowledge``; ``target``: what it was done to; ``why``: as the person said.
    """

    id: int
    at: int
    who: str
    action: str
    target: str
    why: str
    hash: str


def digest(before: str, number: int, at: int, who: str, action: str, target: str, why: str) -> str:
    """Return the hash that binds an entry to the one before."""
    content = json.dumps([before, number, at, who, action, target, why], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def record(db: Connection, who: str, action: str, target: str = "", why: str = "", at: int | None = None) -> None:
    """Add an entry in the writing transaction ``db``, which must be the one of the act."""
    a = t.audit
    last = db.execute(select(a.c.id, a.c.hash).order_by(a.c.id.desc()).limit(1)).one_or_none()
    number, before = (last.id + 1, last.hash) if last is not None else (1, START)
    texts = [text[:TEXT_LIMIT] for text in (who, action, target, why)]
    moment = clock.now() if at is None else at
    values = dict(zip(("who", "action", "target", "why"), texts, strict=True))
    db.execute(insert(a), {"id": number, "at": moment, **values, "hash": digest(before, number, moment, *texts)})


def entries(db: Connection, since: int | None = None) -> Iterator[Entry]:
    """Yield the entries in order, from the time ``since`` (µs) on."""
    a = t.audit
    query = select(a).order_by(a.c.id)
    if since is not None:
        query = query.where(a.c.at >= since)
    for row in db.execution_options(yield_per=1000).execute(query):
        yield Entry(row.id, row.at, row.who, row.action, row.target, row.why, row.hash)


def newest(db: Connection, limit: int, before: int | None = None) -> list[Any]:
    """Return ``limit`` entries, newest first, older than the number ``before``."""
    a = t.audit
    query = select(a).order_by(a.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(a.c.id < before)
    return list(db.execute(query))


def check(found: Iterable[Entry], expect: tuple[int, str] | None = None) -> tuple[int, str, str]:
    """Follow the whole chain; return the last sound number and hash, and what is wrong ("" where nothing is).

    ``expect``: a number and hash that were noted earlier and must still be there.
    """
    number, before = 0, START
    seen = expect is None
    for entry in found:
        if entry.id != number + 1:
            return number, before, f"entry {number + 1} is missing: after {number} comes {entry.id}"
        right = digest(before, entry.id, entry.at, entry.who, entry.action, entry.target, entry.why)
        if right != entry.hash:
            return number, before, f"entry {entry.id} was changed, or the one before it"
        number, before = entry.id, right
        seen = seen or (number, before) == expect
    if not seen and expect is not None:
        return (
            number,
            before,
            f"entry {expect[0]} with hash {expect[1][:12]}… is not there: the end was cut or rewritten",
        )
    return number, before, ""
