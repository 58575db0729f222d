"""The ledger: what became of each day's lines, ``read = scored + refused + evicted + pending``, counted independently.

``scored`` are results the cloud has stored, ``pending`` results in the outbox, ``evicted`` results that were dropped
and announced with a ``gap``. What the cloud could not store counts as refused, reason :data:`QUARANTINED`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from fieldwatch_contract.events import LedgerDay

from fieldwatch_agent.send.database import DAY, Damaged, transaction

QUARANTINED = "quarantined"

_ADD = {
    column: f"INSERT INTO ledger (day, {column}) VALUES (?, ?) "  # noqa: S608 (names of ours)
    f"ON CONFLICT (day) DO UPDATE SET {column} = {column} + excluded.{column}"
    for column in ("read", "scored", "evicted")
}


def add(db: sqlite3.Connection, column: str, counts: Iterable[tuple[str, int]]) -> None:
    """Add ``counts`` by day to ``read``, ``scored`` or ``evicted``."""
    db.executemany(_ADD[column], counts)


def add_refused(db: sqlite3.Connection, counts: Iterable[tuple[str, str, int]]) -> None:
    """Add counts by day and reason to ``refused``."""
    db.executemany(
        "INSERT INTO refused VALUES (?, ?, ?) ON CONFLICT (day, reason) DO UPDATE SET lines = lines + excluded.lines",
        counts,
    )


def days(db: sqlite3.Connection) -> list[tuple[LedgerDay, bool]]:
    """Return every day, oldest first, and whether these counts were reported; call it inside a transaction.

    Raises :class:`.send.database.Damaged` where a row does not parse.
    """
    refused: dict[str, dict[str, int]] = {}
    for row in db.execute("SELECT * FROM refused ORDER BY day, reason"):
        if not _parses(row, 2):
            raise Damaged(f"refused: {row!r}")
        refused.setdefault(row[0], {})[row[1]] = row[2]
    pending = dict(db.execute("SELECT day, count(*) FROM outbox WHERE event = 'result' GROUP BY day"))
    found = []
    for row in db.execute("SELECT * FROM ledger ORDER BY day"):
        if not _parses(row, 1):
            raise Damaged(f"ledger: {row!r}")
        day, count, scored, evicted, told = row
        entry = LedgerDay(
            day=day,
            read=count,
            scored=scored,
            refused=refused.get(day, {}),
            evicted=evicted,
            pending=pending.get(day, 0),
        )
        found.append((entry, entry.model_dump_json() == told))
    return found


def read(db: sqlite3.Connection) -> list[LedgerDay]:
    """Return every day, oldest first, all columns from one snapshot."""
    with transaction(db, "DEFERRED"):
        return [day for day, _ in days(db)]


def settle(db: sqlite3.Connection, lost: int) -> None:
    """Count as evicted the ``lost`` results of damaged outbox rows that were removed.

    Their own ``day`` may be what was damaged, so the equation shows on which day they are missing.
    """
    for day, _ in days(db):
        found = max(0, min(_missing(day), lost))
        add(db, "evicted", [(day.day, found)])
        lost -= found


def unbalanced(db: sqlite3.Connection) -> list[str]:
    """Return the days whose counts do not add up, in words: as every change keeps the equation, they are damaged."""
    return [
        f"{day.day}: {day.read} lines read, {day.read - missing} accounted for"
        for day, _ in days(db)
        if (missing := _missing(day))
    ]


def rebalance(db: sqlite3.Connection) -> None:
    """Let ``read`` of each day be what became of its lines: which count is wrong, none says."""
    homeless = (
        "SELECT day FROM (SELECT day FROM outbox WHERE event = 'result' UNION SELECT day FROM refused) "
        "WHERE day NOT IN (SELECT day FROM ledger)"
    )
    found = [day for (day,) in db.execute(homeless).fetchall() if isinstance(day, str) and DAY.fullmatch(day)]
    add(db, "read", [(day, 0) for day in found])
    db.executemany("UPDATE ledger SET read = read - ? WHERE day = ?", [(_missing(day), day.day) for day, _ in days(db)])


def _missing(day: LedgerDay) -> int:
    return day.read - day.scored - sum(day.refused.values()) - day.evicted - day.pending


def sift(db: sqlite3.Connection) -> list[str]:
    """Remove rows that do not parse and return their content; all others stay."""
    lost = []
    for table, key, columns in (("ledger", 1, 5), ("refused", 2, 3)):
        rows = db.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 (names of ours)
        sound = [row for row in rows if _parses(row, key)]
        if len(sound) < len(rows):
            lost += [f"{table}: {row!r}" for row in rows if not _parses(row, key)]
            db.execute(f"DELETE FROM {table}")  # noqa: S608
            db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * columns)})", sound)  # noqa: S608
    return lost


def _parses(row: tuple[object, ...], key: int) -> bool:
    """Tell whether a row's first ``key`` columns (a day first) are texts and its counts are counts."""
    texts = (*row[:key], *([row[4]] if key == 1 else []))
    counts = row[key:4] if key == 1 else row[key:]
    return (
        all(isinstance(text, str) and text.isprintable() for text in texts)
        and DAY.fullmatch(str(row[0])) is not None
        and all(type(count) is int and count >= 0 for count in counts)
    )
