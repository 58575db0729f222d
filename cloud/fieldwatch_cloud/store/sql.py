"""SQL that is the same in every database: idempotent inserts, and what moves forward only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, Text, case, cast, func
from sqlalchemy.dialects import postgresql, sqlite

_CHUNK = 400


def upsert(db: Connection, table: Table) -> sqlite.Insert:
    """Return an ``INSERT`` into ``table`` that can say what happens on a conflict."""
    made: Any = postgresql.insert(table) if db.dialect.name == "postgresql" else sqlite.insert(table)
    return made  # type: ignore[no-any-return]


def insert_new(db: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows whose key is new."""
    if rows:
        db.execute(upsert(db, table).on_conflict_do_nothing(), rows)


def insert_new_keys(db: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> set[tuple[Any, ...]]:
    """Insert rows whose key is new and return those keys; ``rows`` must not repeat a key."""
    if not rows:
        return set()
    keys = list(table.primary_key.columns)
    found = db.execute(upsert(db, table).on_conflict_do_nothing().returning(*keys), rows)
    return {tuple(row) for row in found}


def larger(old: Any, new: Any) -> ColumnElement[Any]:
    """Return the larger of two columns, the other where one is null; the same in every database."""
    return case((old.is_(None), new), (new.is_(None), old), (old < new, new), else_=old)


def containing(column: Any, text: str) -> ColumnElement[bool]:
    """Tell whether a column's text has ``text`` as a part of it, upper and lower case alike."""
    pattern = text.lower().replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return func.lower(cast(column, Text)).like(f"%{pattern}%", escape="!")


def chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Cut what is named in a query into pieces that every database takes."""
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
