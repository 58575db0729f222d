"""The journal: one SQLite file in which everything that follows from a line commits together, or not at all.

What it promises
    * The read position, the results and alert states that follow from it, the ledger and the messages to send are
      one transaction. Kill the process anywhere, cut the power anywhere: nothing is lost, nothing counts twice.
    * A message leaves the outbox only when the cloud has said that it is stored (:meth:`Outbox.acknowledge`), or when
      the outbox is full and a ``gap`` event, in the same transaction, says what was given up. Alerts are never
      given up.
    * ``epoch`` is drawn when the file is made and ``seq`` never repeats within it: together with the device they
      name a message for ever. A file that comes back from an image of the disk would break this; it is noticed by an
      acknowledgement of what it never sent, and a new epoch is drawn (:meth:`Outbox.renew`).
    * A damaged file is set aside, never deleted, and the agent starts again from the log with a new epoch; results
      and alerts keep their natural keys, so the cloud sees nothing twice.

Why so
    ``synchronous=FULL`` costs about a millisecond a minute and makes the promise hold under power loss. WAL lets the
    uplink's thread read and acknowledge on a connection of its own while the pipeline commits. Data is kept as the
    JSON text that goes out, so sending copies and does not compute.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fieldwatch_contract import clock
from fieldwatch_contract.alerts import AlertState
from fieldwatch_contract.events import GapData, HealthData, LedgerDay, OutboxState

from fieldwatch_agent import durable

FILE = "journal.db"
VERSION = 1
REJECTS_KEPT = 1000
"""Refused lines kept aside for a look, newest last."""
EVICT_SHARE = 0.1
"""A full outbox gives up this share of its limit at once, so that eviction is rare and its gaps are few."""
HEALTH_HOLD = clock.SECOND * 3600
"""While an older health event waits to be acknowledged, a new one is queued only after this long (µs)."""
DAYS_KEPT = 40
"""Ledger days kept at least; older ones go once the cloud has been told how they ended."""
DAYS_TOLD = 8
"""The newest days of the ledger are in every health event."""
DAYS_AT_ONCE = 200
"""Days of the ledger in one health event at most: a year of backlog is told in two."""

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL, time TEXT NOT NULL, day TEXT NOT NULL,
    data TEXT NOT NULL);
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


class JournalError(Exception):
    """The journal cannot be written; the message says why and what would help."""


@dataclass(frozen=True)
class Message:
    """An event in the outbox; ``data`` is the JSON text of its data, ``time`` RFC 3339."""

    seq: int
    event: str
    time: str
    data: str


@dataclass(frozen=True)
class Draft:
    """An event to be journalled; ``day`` is the UTC day of the reading it tells of."""

    event: str
    day: str
    data: str


@dataclass(frozen=True)
class Reject:
    """A refused line, kept aside."""

    reason: str
    detail: str
    line: bytes


@dataclass(frozen=True)
class Progress:
    """Where reading stands, and what a restart needs: all of it a function of the log read so far.

    ``position``: after the last line journalled. ``rewind``: the line from which on a restart reads again to fill the
    window. Both are the tail's JSON. ``newest``: µs of the newest row. ``alerts``: by model name. ``rows``: which
    periods since ``rewind`` have a row, the text of :class:`.acceptance.Rows`; empty in older journals.
    """

    position: str | None = None
    rewind: str | None = None
    newest: int | None = None
    alerts: Mapping[str, AlertState] = field(default_factory=dict)
    rows: str = ""


@dataclass(frozen=True)
class Commit:
    """Everything that follows from one block of lines."""

    progress: Progress
    read: Mapping[str, int]
    refused: Mapping[tuple[str, str], int]
    rejects: Sequence[Reject]
    drafts: Sequence[Draft]


@dataclass(frozen=True)
class Depth:
    """How much waits in the outbox; ``oldest`` is RFC 3339."""

    events: int
    bytes: int
    oldest: str | None


class Journal:
    """The pipeline's side: the one that reads progress and commits."""

    def __init__(self, state_dir: Path, outbox_limit: int) -> None:
        """Open or make the journal in ``state_dir``; ``outbox_limit`` in bytes of the whole file.

        Raises :class:`JournalError` where the folder cannot be written.
        """
        self.path = state_dir / FILE
        self._limit = outbox_limit
        try:
            state_dir.mkdir(parents=True, exist_ok=True)
            self._db = _open_or_replace(self.path)
        except (OSError, sqlite3.Error) as error:
            raise JournalError(
                f"{self.path}: cannot open the journal: {error}; is the folder writable, with room?"
            ) from error
        self.epoch = _meta(self._db, "epoch") or ""

    def close(self) -> None:
        """Close; everything committed stays."""
        self._db.close()

    def progress(self) -> Progress:
        """Return where reading stood at the last commit."""
        with self._reading():
            return _progress(self._db)

    def commit(self, commit: Commit) -> None:
        """Write one block: position, ledger, results, alerts, messages, in one transaction.

        Raises :class:`JournalError` where the disk is full or the file cannot be written; nothing has changed then,
        and the same block can be tried again.
        """
        now = clock.iso(clock.now())
        with self._write() as db:
            _set_meta(db, "progress", json.dumps(asdict(commit.progress)))
            db.executemany(
                "INSERT INTO ledger (day, read) VALUES (?, ?) "
                "ON CONFLICT (day) DO UPDATE SET read = read + excluded.read",
                commit.read.items(),
            )
            db.executemany(
                "INSERT INTO refused VALUES (?, ?, ?) "
                "ON CONFLICT (day, reason) DO UPDATE SET lines = lines + excluded.lines",
                [(day, reason, lines) for (day, reason), lines in commit.refused.items()],
            )
            _enqueue(db, now, commit.drafts)
            if commit.rejects:
                db.executemany(
                    "INSERT INTO reject (at, reason, detail, line) VALUES (?, ?, ?, ?)",
                    [(now, reject.reason, reject.detail, reject.line) for reject in commit.rejects],
                )
                db.execute("DELETE FROM reject WHERE id <= (SELECT max(id) FROM reject) - ?", (REJECTS_KEPT,))
            self._evict(db, now)

    def enqueue(self, drafts: Iterable[Draft]) -> None:
        """Queue events that follow from no line: gaps of the log, bundle changes."""
        with self._write() as db:
            _enqueue(db, clock.iso(clock.now()), drafts)

    def report(self, health: HealthData, uplink: str = "") -> None:
        """Keep ``health`` for ``status``, queue it as an event, and note which days of the ledger it tells.

        ``uplink`` says what keeps messages from arriving; it is for ``status`` alone, for when the cloud could read
        it, it is over.

        While the cloud has not acknowledged the last one, at most one an hour is queued: the newest tells it all.
        """
        now = clock.now()
        text = health.model_dump_json()
        with self._write() as db:
            _set_meta(db, "health", text)
            _set_meta(db, "uplink", uplink)
            waiting = db.execute(
                "SELECT max(time) FROM outbox WHERE event <> 'result' AND event = 'health'"
            ).fetchone()[0]
            if waiting is None or now - clock.parse_iso(waiting) >= HEALTH_HOLD:
                _enqueue(db, clock.iso(now), [Draft("health", clock.day_of(now), text)])
                db.executemany(
                    "UPDATE ledger SET told = ? WHERE day = ?",
                    [(day.model_dump_json(), day.day) for day in health.ledger],
                )
            ended = [(day.day,) for day, told in _ledger(db)[:-DAYS_KEPT] if told and not day.pending]
            db.executemany("DELETE FROM ledger WHERE day = ?", ended)
            db.executemany("DELETE FROM refused WHERE day = ?", ended)
            db.execute("PRAGMA incremental_vacuum(1000)")

    def news(self) -> list[LedgerDay]:
        """Return what the next health event tells of the ledger, oldest first.

        The newest days, and before them the days whose numbers are no longer those of the last event that told them:
        a backlog is read faster than it is reported, and each of its days is owed its final count.
        """
        with self._reading(), _transaction(self._db, "DEFERRED") as db:
            days = _ledger(db)
        changed = [day for day, told in days[:-DAYS_TOLD] if not told]
        return changed[: DAYS_AT_ONCE - DAYS_TOLD] + [day for day, _ in days[-DAYS_TOLD:]]

    def told(self) -> bool:
        """Tell whether a health event was queued with the numbers of every day as they are now."""
        with self._reading(), _transaction(self._db, "DEFERRED") as db:
            return all(told for _, told in _ledger(db))

    def ledger(self) -> list[LedgerDay]:
        """Return all days that are kept, oldest first."""
        with self._reading():
            return read_ledger(self._db)

    def outbox(self) -> OutboxState:
        """Return the depth of the outbox as health reports it."""
        with self._reading():
            depth = _depth(self._db)
        return OutboxState(events=depth.events, bytes=depth.bytes, oldest=depth.oldest)

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        try:
            with _transaction(self._db) as db:
                yield db
        except sqlite3.Error as error:
            raise JournalError(f"{self.path}: cannot write the journal: {error}; is the disk full?") from error

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise JournalError(f"{self.path}: cannot read the journal: {error}; is the disk sound?") from error

    def _evict(self, db: sqlite3.Connection, now: str) -> None:
        """Give up the oldest results where the file has outgrown its limit, and say so."""
        if _size(db) <= self._limit:
            return
        count, size = db.execute("SELECT count(*), sum(length(data)) FROM outbox WHERE event = 'result'").fetchone()
        if not count:
            return
        share = max(1, min(count, int(count * EVICT_SHARE * self._limit / max(size, 1))))
        last = db.execute(
            "SELECT seq FROM outbox WHERE event = 'result' ORDER BY seq LIMIT 1 OFFSET ?", (share - 1,)
        ).fetchone()[0]
        which = "FROM outbox WHERE event = 'result' AND seq <= ?"
        start, end, lines = db.execute(
            f"SELECT min(json_extract(data, '$.ts')), max(json_extract(data, '$.ts')), count(*) {which}",
            (last,),
        ).fetchone()
        db.execute(
            "INSERT INTO ledger (day, evicted) "
            f"SELECT day, count(*) {which} GROUP BY day "
            "ON CONFLICT (day) DO UPDATE SET evicted = evicted + excluded.evicted",
            (last,),
        )
        db.execute(f"DELETE {which}", (last,))
        detail = f"the outbox reached its limit of {self._limit} bytes before the cloud could be reached"
        gap = GapData(reason="evicted", detail=detail, start=start, end=end, lines=lines)
        _enqueue(db, now, [Draft("gap", now[:10], gap.model_dump_json())])


class Outbox:
    """The uplink's side, with a connection of its own: what to send, and what has arrived."""

    def __init__(self, path: Path) -> None:
        """Open the journal at ``path``, which :class:`Journal` has made."""
        self._db = _connect(path)
        self.epoch = _meta(self._db, "epoch") or ""
        self._sent = int(_meta(self._db, "sent") or self._given())

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def pending(self, after: int, limit: int) -> list[Message]:
        """Return at most ``limit`` messages with ``seq`` above ``after``, oldest first."""
        return self._messages("seq > ?", after, limit)

    def urgent(self, after: int, limit: int) -> list[Message]:
        """Return at most ``limit`` of the alerts with ``seq`` above ``after``, oldest first: they overtake everything.

        An alert may carry tens of kilobytes of evidence, so they are never read all at once.
        """
        # "<> 'result'" is what the index is for: without it every alert would cost a walk over a whole backlog
        return self._messages("event <> 'result' AND event = 'alert' AND seq > ?", after, limit)

    def others(self, after: int, limit: int) -> list[Message]:
        """Return at most ``limit`` messages that are no alerts with ``seq`` above ``after``, oldest first."""
        return self._messages("event <> 'alert' AND seq > ?", after, limit)

    def _messages(self, which: str, after: int, limit: int) -> list[Message]:
        query = f"SELECT seq, event, time, data FROM outbox WHERE {which} ORDER BY seq LIMIT ?"
        return [Message(*row) for row in self._db.execute(query, (after, limit))]

    def floor(self) -> int:
        """Return the lowest ``seq`` that the outbox may still send; everything below is acknowledged or evicted."""
        row = self._db.execute("SELECT min(seq) FROM outbox").fetchone()
        return int(row[0]) if row[0] is not None else self._given() + 1

    def sending(self, seq: int) -> None:
        """Note a number before it goes out: above the highest one nothing can have been acknowledged to this journal.

        A disk that takes no more must not keep an alert from going out. Then the number is known only until the
        program ends, and its acknowledgement after that draws a new epoch for nothing.
        """
        if seq > self._sent:
            self._sent = seq
            with suppress(sqlite3.Error), _transaction(self._db) as db:
                _set_meta(db, "sent", str(seq))

    def foreign(self, upto: int, also: Sequence[int]) -> bool:
        """Tell whether an acknowledgement of our epoch speaks of what we never sent: it belongs to another life."""
        return max(upto, *also, 0) > self._sent

    def renew(self) -> None:
        """Draw a new epoch and say why: this file has been set back, and its numbers mean something else elsewhere."""
        epoch = secrets.token_hex(8)
        detail = (
            "the cloud holds more than this journal ever sent: it was set back, as when a disk is restored from an "
            "image; all that waits is sent under a new epoch"
        )
        gap = GapData(reason="journal_rebuilt", detail=detail)
        now = clock.now()
        with _transaction(self._db) as db:
            _set_meta(db, "epoch", epoch)
            _set_meta(db, "sent", "0")
            _enqueue(db, clock.iso(now), [Draft("gap", clock.day_of(now), gap.model_dump_json())])
        self.epoch, self._sent = epoch, 0

    def acknowledge(self, epoch: str, upto: int, also: Sequence[int]) -> int:
        """Delete what the cloud has stored and return how many messages that were.

        Another epoch is ignored, and so is one that names a number which was never given out: it speaks of others.
        """
        if epoch != self.epoch or max(upto, *also, 0) > self._given():
            return 0
        beyond = json.dumps([seq for seq in also if seq > upto])
        stored = "(seq <= ? OR seq IN (SELECT value FROM json_each(?)))"
        with _transaction(self._db) as db:
            db.execute(
                "INSERT INTO ledger (day, scored) "
                f"SELECT day, count(*) FROM outbox NOT INDEXED WHERE event = 'result' AND {stored} GROUP BY day "
                "ON CONFLICT (day) DO UPDATE SET scored = scored + excluded.scored",
                (upto, beyond),
            )
            return db.execute(f"DELETE FROM outbox WHERE {stored}", (upto, beyond)).rowcount

    def depth(self) -> Depth:
        """Return how much waits."""
        return _depth(self._db)

    def _given(self) -> int:
        """The highest number given out."""
        last = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").fetchone()
        return int(last[0]) if last else 0


def read_progress(path: Path) -> Progress:
    """Return where reading stood at the last commit, from a journal that may be in use; nowhere if there is none.

    Raises :class:`JournalError` where it cannot be read.
    """
    if not path.exists():
        return Progress()
    try:
        with closing(_connect(path)) as db:
            return _progress(db)
    except sqlite3.Error as error:
        raise JournalError(f"{path}: cannot read the journal: {error}") from error


def read_status(path: Path) -> dict[str, object]:
    """Return what ``status`` shows, from a journal that may be in use: epoch, progress, health, ledger, outbox, disk.

    Raises :class:`JournalError` where there is none.
    """
    if not path.exists():
        raise JournalError(f"{path}: no journal yet; has the agent run with this configuration?")
    try:
        db = _connect(path)
        try:
            text = _meta(db, "health")
            progress = _meta(db, "progress")
            alert = db.execute("SELECT data FROM outbox WHERE event = 'alert' ORDER BY seq DESC LIMIT 1").fetchone()
            return {
                "epoch": _meta(db, "epoch"),
                "progress": json.loads(progress) if progress else None,
                "health": json.loads(text) if text else None,
                "ledger": [day.model_dump() for day in read_ledger(db)],
                "outbox": asdict(_depth(db)),
                "disk_free": shutil.disk_usage(path.parent).free,
                "uplink": _meta(db, "uplink") or "",
                "alert_waiting": json.loads(alert[0]) if alert else None,
                "last_alert": json.loads(_meta(db, "last_alert") or "null"),
                "rejects": [
                    {"at": at, "reason": reason, "detail": detail, "line": line.decode("utf-8", "replace")}
                    for at, reason, detail, line in db.execute(
                        "SELECT at, reason, detail, line FROM reject ORDER BY id DESC LIMIT 10"
                    )
                ],
            }
        finally:
            db.close()
    except sqlite3.Error as error:
        raise JournalError(f"{path}: cannot read the journal: {error}") from error


def read_ledger(db: sqlite3.Connection) -> list[LedgerDay]:
    """Return the days of the ledger that are kept, oldest first, all columns from one snapshot."""
    with _transaction(db, "DEFERRED"):
        return [day for day, _ in _ledger(db)]


def _ledger(db: sqlite3.Connection) -> list[tuple[LedgerDay, bool]]:
    """Return every day, oldest first, and whether it was told with these numbers."""
    refused: dict[str, dict[str, int]] = {}
    for day, reason, lines in db.execute("SELECT day, reason, lines FROM refused ORDER BY day, reason"):
        refused.setdefault(day, {})[reason] = lines
    pending = dict(db.execute("SELECT day, count(*) FROM outbox WHERE event = 'result' GROUP BY day"))
    days = []
    query = "SELECT day, read, scored, evicted, told FROM ledger ORDER BY day"
    for day, read, scored, evicted, told in db.execute(query):
        entry = LedgerDay(
            day=day,
            read=read,
            scored=scored,
            refused=refused.get(day, {}),
            evicted=evicted,
            pending=pending.get(day, 0),
        )
        days.append((entry, entry.model_dump_json() == told))
    return days


def _connect(path: Path, new: bool = False) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    if new:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # the file keeps it; saying it again would need room on the disk
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA journal_size_limit = 16777216")
    db.execute("PRAGMA cache_size = -512")  # KiB: rows are written once and read once, in order
    return db


def _open_or_replace(path: Path) -> sqlite3.Connection:
    """Open a sound journal; set a damaged one aside and make a new one that announces the loss."""
    damage = ""
    if path.exists():
        try:
            db = _connect(path)
            verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if verdict == "ok" and version == VERSION and _meta(db, "epoch"):
                return db
            damage = verdict if verdict != "ok" else f"format {version}, this program writes {VERSION}"
            db.close()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            damage = str(error)
        aside = path.with_name(f"{path.name}.damaged-{clock.now() // clock.SECOND}")
        path.rename(aside)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    fresh = path.with_name(path.name + ".new")  # whole before it has its name: a full disk leaves no half journal
    for suffix in ("", "-wal", "-shm"):
        fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
    with closing(_connect(fresh, new=True)) as db, _transaction(db):
        for statement in _SCHEMA.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {VERSION}")
        _set_meta(db, "epoch", secrets.token_hex(8))
        _set_meta(db, "sent", "0")
        if damage:
            gap = GapData(reason="journal_rebuilt", detail=f"the journal was damaged ({damage}); the log is read again")
            now = clock.now()
            _enqueue(db, clock.iso(now), [Draft("gap", clock.day_of(now), gap.model_dump_json())])
    fresh.replace(path)
    durable.sync_folder(path.parent)
    return _connect(path)


@contextmanager
def _transaction(db: sqlite3.Connection, mode: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
    db.execute(f"BEGIN {mode}")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _enqueue(db: sqlite3.Connection, now: str, drafts: Iterable[Draft]) -> None:
    last_alert = None
    rows = []
    for draft in drafts:
        rows.append((draft.event, now, draft.day, draft.data))
        if draft.event == "alert":
            last_alert = draft.data
    db.executemany("INSERT INTO outbox (event, time, day, data) VALUES (?, ?, ?, ?)", rows)
    if last_alert is not None:
        alert = json.loads(last_alert)
        alert.pop("evidence", None)
        _set_meta(db, "last_alert", json.dumps(alert))


def _progress(db: sqlite3.Connection) -> Progress:
    text = _meta(db, "progress")
    if text is None:
        return Progress()
    value = json.loads(text)
    value["alerts"] = {model: AlertState(**state) for model, state in value["alerts"].items()}
    return Progress(**value)


def _meta(db: sqlite3.Connection, key: str) -> str | None:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def _set_meta(db: sqlite3.Connection, key: str, value: str) -> None:
    db.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value))


def _size(db: sqlite3.Connection) -> int:
    """Bytes in use: free pages wait to be reused."""
    pages = db.execute("PRAGMA page_count").fetchone()[0] - db.execute("PRAGMA freelist_count").fetchone()[0]
    return int(pages * db.execute("PRAGMA page_size").fetchone()[0])


def _depth(db: sqlite3.Connection) -> Depth:
    events, oldest = db.execute("SELECT count(*), min(seq) FROM outbox").fetchone()
    time = db.execute("SELECT time FROM outbox WHERE seq = ?", (oldest,)).fetchone() if events else None
    return Depth(events, _size(db) if events else 0, time[0] if time else None)
