"""The journal's file: its tables and versions, how it is opened, and which of its errors mean damage.

==========================  =================================================================================
SQLite reports              meaning
==========================  =================================================================================
full, busy, locked,         not possible now: try again, nothing has changed (:class:`JournalError`)
read-only, no memory
I/O, cannot open, closed    the same, over a new connection (:func:`needs_reopening`): the disk, or a file that was
                            truncated while it was open
corrupt, not a database,    the file is damaged: repair or replace it (:func:`is_damage`, :mod:`.send.damage`)
a missing table, a number
assigned twice, a message
that is not UTF-8
==========================  =================================================================================

SQLite does not notice a changed byte in a value. So each row of ``meta`` and ``outbox`` has a checksum; rows of a
version 1 journal have none (NULL) and are checked by parsing them.
"""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fieldwatch_contract import clock, topics

from fieldwatch_agent.send import raised
from fieldwatch_agent.send.message import Message

DAMAGE = "damage"
DEVICE = "device"
"""Key of the device whose journal it is."""
SAID = "said"
"""Key of what people said of alerts (:mod:`.send.said`)."""
COMMANDS = "commands"
"""Key of the commands that were received (:mod:`.send.seen`)."""
RAISED = "raised"
"""Key of the alerts that were raised (:mod:`.send.raised`)."""
NOTES_KEPT = 5
NOTE_LENGTH = 500
FILE = "journal.db"
VERSION = 2

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL, sum INTEGER) WITHOUT ROWID;
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL, time TEXT NOT NULL, day TEXT NOT NULL,
    data TEXT NOT NULL, sum INTEGER);
CREATE INDEX outbox_results ON outbox (day) WHERE event = 'result';
CREATE INDEX outbox_others ON outbox (event, seq) WHERE event <> 'result';
CREATE TABLE ledger (
    day TEXT PRIMARY KEY, read INTEGER NOT NULL DEFAULT 0, scored INTEGER NOT NULL DEFAULT 0,
    evicted INTEGER NOT NULL DEFAULT 0, told TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
CREATE TABLE refused (
    day TEXT NOT NULL, reason TEXT NOT NULL, lines INTEGER NOT NULL, PRIMARY KEY (day, reason)) WITHOUT ROWID;
CREATE TABLE reject (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL,
    line BLOB NOT NULL);
"""
MIGRATIONS = {2: ("ALTER TABLE meta ADD COLUMN sum INTEGER", "ALTER TABLE outbox ADD COLUMN sum INTEGER")}
"""Schema migrations, by the version they lead to."""

DAY = re.compile(r"\d{4}-\d\d-\d\d")
EPOCH = re.compile(r"[0-9a-f]{16}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")

Row = tuple[int, Any, Any, Any, Any, Any]
"""Seq, event, time, day, data and sum of the outbox, of any type after damage."""

_ERROR, _IOERR, _CORRUPT, _CANTOPEN, _CONSTRAINT, _NOTADB = 1, 10, 11, 14, 19, 26


class JournalError(Exception):
    """The journal cannot be used now; the message says why and what would help. A retry may succeed."""


class JournalGone(JournalError):
    """The file was removed or replaced under the running agent: what is written to it now, nobody will ever read.

    Only a restart helps: it makes the state folder again and reads the log again.
    """


class Damaged(ValueError):
    """A value in the journal does not parse or fails its checksum; the message names it."""


UNUSABLE = (sqlite3.Error, Damaged, UnicodeDecodeError)
"""What an operation on the file raises. SQLite quotes a damaged schema in its message, which is then no UTF-8."""


class Draft(NamedTuple):
    """An event to be journalled; ``day`` is the UTC day of the reading it is about."""

    event: str
    day: str
    data: str


def connect(path: Path, new: bool = False) -> sqlite3.Connection:
    """Open the file; ``new``: it is still empty."""
    db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        db.text_factory = _text
        if new:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # stored in the file; setting it again would need disk space
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA journal_size_limit = 4194304")
        db.execute("PRAGMA cache_size = -512")  # KiB: rows are written once and read once, in order
    except BaseException:
        db.close()  # an open file cannot be renamed on Windows
        raise
    return db


def release(db: sqlite3.Connection) -> None:
    """Free the memory in which pages are cached."""
    db.execute("PRAGMA shrink_memory")


def is_damage(error: Exception) -> bool:
    """Tell whether an error means a damaged file rather than one that cannot be used at the moment."""
    if isinstance(error, Damaged | UnicodeDecodeError):
        return True
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    text = str(error)
    return (
        code in (_CORRUPT, _NOTADB)
        or (code == _ERROR and (text.startswith(("no such", "malformed")) or "has no column" in text))
        or (code == _CONSTRAINT and text.startswith("UNIQUE"))
    )


def question(error: Exception, otherwise: str) -> str:
    """Return what to look at where an error is no damage; ``otherwise``: where its code does not tell."""
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "which other program has it open?"
        case sqlite3.SQLITE_READONLY:
            return "may the agent's account write it?"
    return otherwise


def needs_reopening(error: Exception) -> bool:
    """Tell whether only a new connection can help: a file truncated under an open one, or one that is closed."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (_IOERR, _CANTOPEN) or isinstance(error, sqlite3.ProgrammingError)


@contextmanager
def transaction(db: sqlite3.Connection, mode: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
    """Commit at the end of the block, or change nothing where it raises."""
    db.execute(f"BEGIN {mode}")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def columns(db: sqlite3.Connection) -> dict[str, list[str]]:
    """Return the columns of each table; those of a sound journal are those of :data:`SCHEMA`."""
    tables = [
        row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'sqlite_*'")
    ]
    return {table: [row[1] for row in db.execute("SELECT * FROM pragma_table_info(?)", (table,))] for table in tables}


def migrate(db: sqlite3.Connection, version: int) -> None:
    """Migrate a journal of an older version to this one, in one transaction."""
    with transaction(db):
        for step in range(version + 1, VERSION + 1):
            for statement in MIGRATIONS[step]:
                db.execute(statement)
        for key, value in db.execute("SELECT key, value FROM meta").fetchall():
            if isinstance(value, str):
                write_meta(db, key, value)
        db.execute(f"PRAGMA user_version = {VERSION}")


def checksum(*values: str) -> int:
    """Return what stands in ``sum``: CRC-32 of the values with a zero byte between them."""
    return zlib.crc32("\0".join(values).encode("utf-8", "surrogateescape"))


def verify(rows: Sequence[Row]) -> tuple[list[Message], list[int]]:
    """Return the outbox rows that are intact, as messages, and the numbers of the damaged ones.

    ``rows``: seq, event, time, day, data, sum, their texts as bytes (:func:`raw`). A row without a checksum is judged
    by whether it parses.
    """
    sound: list[Message] = []
    damaged: list[int] = []
    known: tuple[Any, ...] = ()
    before, kind, when = 0, "", ""
    for seq, event, time, day, data, total in rows:
        try:
            if (event, time, day) != known:  # they repeat from row to row
                before, kind, when = zlib.crc32(b"%b\0%b\0%b\0" % (event, time, day)), event.decode(), time.decode()
                known = event, time, day
            whole = total == zlib.crc32(data, before) if total is not None else _parses(kind, when, day, data)
        except (TypeError, UnicodeDecodeError):  # no text
            whole = False
        if whole:
            sound.append(Message(seq, kind, when, data))
        else:
            damaged.append(seq)
    return sound, damaged


def _parses(event: str, time: str, day: bytes, data: bytes) -> bool:
    try:
        sound = event in topics.EVENTS and TIME.fullmatch(time) and DAY.fullmatch(day.decode())
        return bool(sound) and isinstance(json.loads(data.decode()), dict)
    except (ValueError, AttributeError):
        return False


def raw(db: sqlite3.Connection, query: str, values: Sequence[object] = ()) -> list[Any]:
    """Return rows with their texts as the bytes on the disk: a damaged text may be no UTF-8."""
    decode, db.text_factory = db.text_factory, bytes
    try:
        return db.execute(query, values).fetchall()
    finally:
        db.text_factory = decode


def read_meta(db: sqlite3.Connection, key: str) -> str | None:
    """Return a value, None where there is none. Raises :class:`Damaged`."""
    row = db.execute("SELECT value, sum FROM meta WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    value, total = row
    if not isinstance(value, str) or (total is not None and total != checksum(key, value)):
        raise Damaged(f"{key} has another checksum")
    return value


def write_meta(db: sqlite3.Connection, key: str, value: str) -> None:
    """Write a value."""
    db.execute(
        "INSERT INTO meta VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value, sum = excluded.sum",
        (key, value, checksum(key, value)),
    )


def note_damage(db: sqlite3.Connection, what: str) -> None:
    """Note for the trouble ``journal_damaged`` what was damaged and what was done about it."""
    try:
        noted = damage_noted(db)
    except Damaged:
        noted = []
    noted.append((clock.iso(clock.now()), what[:NOTE_LENGTH]))
    write_meta(db, DAMAGE, json.dumps(noted[-NOTES_KEPT:]))


def damage_noted(db: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return when and what, oldest first. Raises :class:`Damaged`."""
    text = read_meta(db, DAMAGE)
    try:
        return [(str(at), str(what)) for at, what in json.loads(text or "[]")]
    except (ValueError, TypeError) as error:
        raise Damaged(f"{DAMAGE} does not parse: {error}") from error


def enqueue(db: sqlite3.Connection, now: str, drafts: Iterable[Draft]) -> None:
    """Append events to the outbox; remember the newest alert for ``status``, and when alerts were open."""
    alerts = []
    rows = []
    known, before = ("", ""), 0
    for event, day, data in drafts:
        if (event, day) != known:  # they repeat from row to row
            known, before = (event, day), checksum(event, now, day, "")
        rows.append((event, now, day, data, zlib.crc32(data.encode("utf-8", "surrogateescape"), before)))
        if event == "alert":
            alerts.append(data)
    db.executemany("INSERT INTO outbox (event, time, day, data, sum) VALUES (?, ?, ?, ?, ?)", rows)
    if alerts:
        newest = json.loads(alerts[-1])
        newest.pop("evidence", None)
        write_meta(db, "last_alert", json.dumps(newest))
        write_meta(db, RAISED, raised.with_new(_or_none(db, RAISED), alerts))


def _or_none(db: sqlite3.Connection, key: str) -> str | None:
    """Return a value; None also where it was damaged: it is written anew."""
    try:
        return read_meta(db, key)
    except Damaged:
        return None


def new_epoch(db: sqlite3.Connection) -> str:
    """Draw a new epoch, under which nothing has been sent yet, and return it."""
    epoch = secrets.token_hex(8)
    write_meta(db, "epoch", epoch)
    write_meta(db, "sent", "0")
    return epoch


def given(db: sqlite3.Connection) -> int:
    """Return the highest number assigned."""
    last = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").fetchone()
    return int(last[0]) if last else 0


def size(db: sqlite3.Connection) -> int:
    """Return the bytes in use, without free pages."""
    pages = db.execute("PRAGMA page_count").fetchone()[0] - db.execute("PRAGMA freelist_count").fetchone()[0]
    return int(pages * db.execute("PRAGMA page_size").fetchone()[0])


def _text(raw: bytes) -> str:
    """Decode what SQLite holds as text; bytes that are not UTF-8 survive, to fail their checksum."""
    return raw.decode("utf-8", "surrogateescape")
