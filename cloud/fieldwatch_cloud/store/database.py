"""The database: opened, migrated, read in snapshots, written in one transaction at a time.

``synchronous=FULL``: after our acknowledgement the device deletes its copy, so a commit must survive a power cut. WAL
lets pages be read while ingest writes. ``BEGIN IMMEDIATE`` for writers, because a transaction that starts reading and
then writes fails under contention instead of waiting. Nothing outside this wing knows which database it is.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fieldwatch_contract import clock
from sqlalchemy import Connection, Engine, create_engine, event, insert, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from fieldwatch_cloud.live import LiveFeed
from fieldwatch_cloud.store import documents
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.migrate import UnknownSchemaError, upgrade

BUSY_TIMEOUT = 30.0
"""Seconds that a writer waits for another one."""
DISK_FULL = 1 << 20
"""Bytes that must be free: a commit needs a few pages, and reuses those it has, so that it would fail late."""


class StoreError(Exception):
    """The store cannot be opened or used; the message says why and what would help."""


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file."""
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


class Database:
    """The database and the live feed of its changes. Thread-safe."""

    def __init__(self, url: str, live: LiveFeed | None = None) -> None:
        """Open the database at ``url`` and make its tables where there are none.

        Raises :class:`StoreError` where it cannot be opened or was made by another version.
        """
        self.live = live or LiveFeed()
        self.origin = secrets.token_hex(8)
        """This process among those on the same store."""
        parsed = make_url(url)
        self._name = parsed.render_as_string(hide_password=True)
        self.engine = _engine(parsed)
        self._writer = self.engine.execution_options(write=True)
        self._path = Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None
        try:
            with self.write() as db:
                upgrade(db)
        except UnknownSchemaError as error:
            raise StoreError(f"{self._name}: {error}: use the program that made it, or another path") from error
        except (SQLAlchemyError, OSError) as error:
            cause = getattr(error, "orig", None) or error
            raise StoreError(f"{self._name}: cannot open the store: {cause}; is its folder writable?") from error
        self._file = _identity(self._path) if self._path is not None else None

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read-only snapshot; never waits for ingest."""
        with self.engine.connect() as connection:
            yield connection
            connection.rollback()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One writing transaction: commits when the block ends, rolls back where it raises."""
        with self._writer.begin() as connection:
            yield connection

    def probe(self) -> None:
        """Write a heartbeat, to see that the store can be written. Raises :class:`StoreError` with the cause."""
        path = self._path
        if path is not None:
            try:
                found = _identity(path)
                free = shutil.disk_usage(path.parent).free
            except OSError as error:
                raise StoreError(f"the database file cannot be reached: {error.strerror}") from error
            if self._file != found:
                raise StoreError("the database file was replaced while it is in use: restart this server")
            if free < DISK_FULL:
                raise StoreError(f"the disk of the database is full: {free // 1024:,} KiB are free")
        try:
            with self.write() as db:
                at = clock.now()
                if not db.execute(update(t.heartbeat).values(at=at)).rowcount:
                    db.execute(insert(t.heartbeat), {"id": 1, "at": at})
        except SQLAlchemyError as error:
            raise StoreError(f"the database cannot be written: {getattr(error, 'orig', None) or error}") from error


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, json_serializer=_dumps, json_deserializer=documents.read, pool_pre_ping=True)
    if not url.database or url.database == ":memory:":
        raise StoreError("a store in memory would forget what it has acknowledged: give it a path")
    try:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{url.database}: cannot make its folder: {error}") from error
    connect = {"timeout": BUSY_TIMEOUT}
    engine = create_engine(url, json_serializer=_dumps, json_deserializer=documents.read, connect_args=connect)

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself; we do, below
        connection.text_factory = _text
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "journal_size_limit = 67108864"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _text(raw: bytes) -> str:
    """Decode what SQLite holds as text; bytes that a damaged disk has made no UTF-8 must not keep the rest away."""
    return raw.decode("utf-8", "replace")


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
