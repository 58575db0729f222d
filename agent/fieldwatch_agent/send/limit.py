"""The journal's size limit: it holds after each commit, and what is evicted to keep it is announced.

=========================================  ============================================================
evicted, in this order                     until
=========================================  ============================================================
refused lines kept for inspection          a hundred are left
results, the oldest first                  the pages in use are :data:`EVICT_TO` of the limit
the evidence of alerts, the oldest first   the same; alerts themselves are never evicted
=========================================  ============================================================

Results count as ``evicted`` in the ledger; the ``gap`` that announces them is queued in the same transaction.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import suppress

from fieldwatch_contract.events import GapData

from fieldwatch_agent.send import ledger
from fieldwatch_agent.send.database import TIME, Draft, checksum, enqueue, raw, size, verify
from fieldwatch_agent.send.outbox import without_evidence

EVICT_TO = 0.9
"""A full journal is reduced to this share of its limit at once, so that evictions and their gaps are few."""
REJECTS_LEFT = 100
ALERTS_AT_ONCE = 50
"""Alerts that lose their evidence in one step."""
FREE_PAGES = 1000
"""Free pages kept in the file for the next messages."""

_WHICH = "FROM outbox WHERE event = 'result' AND seq <= ?"


def evict(db: sqlite3.Connection, limit: int, now: str) -> None:
    """Reduce a journal that exceeds ``limit`` (bytes); call it in the transaction that made it grow."""
    if size(db) <= limit:
        return
    target = int(EVICT_TO * limit)
    keep_rejects(db, REJECTS_LEFT)
    lines, start, end = _evict_results(db, target)
    bare = _strip_evidence(db, target)
    if lines or bare:
        detail = f"the outbox reached its limit of {limit} bytes before the cloud could be reached"
        if bare:
            detail += f"; {bare} alert(s) lost their evidence"
        gap = GapData(reason="evicted", detail=detail, start=start, end=end, lines=lines)
        enqueue(db, now, [Draft("gap", now[:10], gap.model_dump_json())])


def shrink(db: sqlite3.Connection, limit: int) -> None:
    """Return free pages to the disk: all if the file exceeds ``limit``, otherwise those beyond :data:`FREE_PAGES`."""
    with suppress(sqlite3.OperationalError):
        pages, free = (int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count"))
        over = pages * int(db.execute("PRAGMA page_size").fetchone()[0]) > limit
        if free > (0 if over else FREE_PAGES):
            # execute() would take one step of it, and a step gives back one page
            db.executescript(f"PRAGMA incremental_vacuum({free if over else FREE_PAGES})")
        if over:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def keep_rejects(db: sqlite3.Connection, count: int) -> None:
    """Keep the newest ``count`` refused lines."""
    db.execute("DELETE FROM reject WHERE id <= (SELECT max(id) FROM reject) - ?", (count,))


def _evict_results(db: sqlite3.Connection, target: int) -> tuple[int, str | None, str | None]:
    """Delete the oldest results until the pages in use fit; return how many, and their first and last time."""
    lines, start, end = 0, None, None
    while (excess := size(db) - target) > 0:
        count, total = db.execute("SELECT count(*), sum(length(data)) FROM outbox WHERE event = 'result'").fetchone()
        if not count:
            break
        share = max(1, min(count, int(count * excess / max(total, 1)) + 1))
        last = db.execute(
            "SELECT seq FROM outbox WHERE event = 'result' ORDER BY seq LIMIT 1 OFFSET ?", (share - 1,)
        ).fetchone()[0]
        for (text,) in db.execute(f"SELECT data {_WHICH} AND seq IN ((SELECT min(seq) {_WHICH}), ?)", (last,) * 3):
            ts = _timestamp(text)
            start, end = start or ts, ts or end
        lines += share
        ledger.add(db, "evicted", db.execute(f"SELECT day, count(*) {_WHICH} GROUP BY day", (last,)).fetchall())
        db.execute(f"DELETE {_WHICH}", (last,))
    return lines, start, end


def _strip_evidence(db: sqlite3.Connection, target: int) -> int:
    """Remove the evidence of the oldest alerts until the journal fits; return of how many."""
    bare = after = 0
    while size(db) > target:
        query = (
            "SELECT seq, event, time, day, data, sum FROM outbox "
            "WHERE event <> 'result' AND event = 'alert' AND seq > ? ORDER BY seq LIMIT ?"
        )
        rows = raw(db, query, (after, ALERTS_AT_ONCE))
        if not rows:
            break
        after = rows[-1][0]
        days = {row[0]: row[3] for row in rows}
        for alert in verify(rows)[0]:
            if (rest := without_evidence(alert.data)) is not None:
                values = (rest, checksum(alert.event, alert.time, days[alert.seq].decode(), rest), alert.seq)
                db.execute("UPDATE outbox SET data = ?, sum = ? WHERE seq = ?", values)
                bare += 1
    return bare


def _timestamp(data: object) -> str | None:
    """Return a result's ``ts``, None where the row is damaged."""
    try:
        ts = json.loads(str(data))["ts"]
    except (ValueError, KeyError, TypeError):
        return None
    return ts if isinstance(ts, str) and TIME.fullmatch(ts) else None
