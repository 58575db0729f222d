"""The store: one transaction per batch of events, idempotent, so that the effect is exactly once.

What it promises
    * :meth:`Store.ingest` commits the whole batch together with the record of what was delivered, or nothing. Only then
      may the caller acknowledge.
    * Delivering again, in any order and in any batches, changes nothing: rows have natural keys and the first one wins
      (different content under the same key is counted as a conflict), the hourly rollup is updated only from rows that
      were really inserted, and what is replaced (alert, device, ledger) only moves forward in the device's time.
      A device row never keeps a time in the future: a clock that was wrong once would freeze it.
    * A resolved alert still names the sensors of its cause: a ``resolved`` describes the recovery, so its
      sensors count only while nothing else of the alert has come.
    * What cannot be read is kept once in ``quarantine`` and never blocks the rest.

Why so
    ``synchronous=FULL``: after our acknowledgement the device deletes its copy, so a commit must survive a power cut.
    WAL lets pages be read while ingest writes. ``BEGIN IMMEDIATE`` for writers, because a transaction that starts
    reading and then writes fails under contention instead of waiting. Nothing outside this module knows which
    database it is.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import zstandard
from fieldwatch_contract import clock
from fieldwatch_contract.clock import parse_iso
from fieldwatch_contract.delivery import Receipt, Settled
from fieldwatch_contract.events import Evidence
from fieldwatch_contract.verdicts import CODES, VERDICTS, Verdict
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Table,
    and_,
    case,
    create_engine,
    delete,
    event,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from fieldwatch_cloud import documents
from fieldwatch_cloud import tables as t
from fieldwatch_cloud.decode import REASON_LIMIT, AlertSeen, Batch, HealthSeen, Refused, StateSeen, unpack
from fieldwatch_cloud.live import LiveFeed, Notice

BUSY_TIMEOUT = 30.0
"""Seconds that a writer waits for another one."""
QUARANTINE_KEPT = 10_000
"""Number of newest refused payloads kept."""
AHEAD = clock.DAY
"""How far a device's clock may be ahead of ours (µs) before its times stop counting as progress."""
CLOCK_WRONG = 10 * clock.MINUTE
"""A time further ahead of us than this (µs) is considered wrong and is replaced by any later report."""
DISK_FULL = 1 << 20
"""Bytes that must be free: a commit needs a few pages, and reuses those it has, so that it would fail late."""
RATIO_LIMIT = 1e9
EVIDENCE_LIMIT = 16 * 1024 * 1024
_CHUNK = 400
_RANK = {"opened": 0, "updated": 1, "resolved": 2}
_RAISED = (CODES[Verdict.ANOMALOUS], CODES[Verdict.FAULTY])

UserVerdict = Literal["real", "false", "unclear"]
USER_VERDICTS: tuple[UserVerdict, ...] = ("real", "false", "unclear")


class StoreError(Exception):
    """The store cannot be opened or used; the message says why and what would help."""


@dataclass(frozen=True)
class Outcome:
    """What a batch changed. ``receipts``: what to acknowledge, by device; ``notices`` are already on the live feed."""

    receipts: list[tuple[str, Receipt]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    inserted: int = 0
    duplicates: int = 0
    conflicts: int = 0
    refused: int = 0


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite file."""
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def pack(evidence: Evidence) -> bytes:
    """Encode evidence as stored in ``alert_event.evidence``."""
    return zstandard.ZstdCompressor(level=9).compress(evidence.model_dump_json().encode())


def unpack_evidence(blob: bytes) -> Evidence:
    """Read ``alert_event.evidence``."""
    return Evidence.model_validate_json(unpack(blob, EVIDENCE_LIMIT))


class Store:
    """The database and the live feed of its changes. Thread-safe."""

    def __init__(self, url: str, live: LiveFeed | None = None) -> None:
        """Open the database at ``url`` and make its tables where there are none.

        Raises :class:`StoreError` where it cannot be opened or was made by another version.
        """
        self.live = live or LiveFeed()
        parsed = make_url(url)
        self._name = parsed.render_as_string(hide_password=True)
        self.engine = _engine(parsed)
        self._writer = self.engine.execution_options(write=True)
        self._path = Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None
        dialect = self.engine.dialect.name
        self._insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
        try:
            self._open()
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

    # ---- ingest ----

    def ingest(self, batch: Batch, received: int | None = None) -> Outcome:
        """Store a batch in one transaction and tell the live feed; ``received`` in µs, default now.

        Raises :class:`sqlalchemy.exc.DataError`, :class:`sqlalchemy.exc.IntegrityError`, :class:`ValueError`,
        :class:`TypeError`, :class:`OverflowError`, or a :class:`sqlalchemy.exc.StatementError` around one of the last
        three, where the database will not take these values (set the offending message aside); any other
        :class:`sqlalchemy.exc.SQLAlchemyError` where it cannot be written now (try again).
        """
        now = clock.now() if received is None else received
        with self.write() as db:
            inserted, conflicts = self._results(db, batch.results, now)
            self._ignore(db, t.reading, batch.readings)
            new_events = self._events(db, batch.events, now)
            self._healths(db, batch.healths)
            new_alerts, transitions = self._alerts(db, batch.alerts, now)
            self._quarantine(db, batch.refused, now)
            self._seen(db, batch, now)
            states = self._states(db, batch.states, now)
            receipts = self._receipts(db, batch)
            notices = self._notices(db, inserted, new_alerts, new_events, states)
        self.live.publish(notices)
        taken = len(inserted) + transitions + len(new_events)
        offered = len(batch.results) + len(batch.alerts) + len(batch.events)
        return Outcome(receipts, notices, taken, offered - taken, conflicts, len(batch.refused))

    def receipts(self) -> list[tuple[str, Receipt]]:
        """Return the receipt of every device in its current epoch, to acknowledge to all of them after a restart."""
        with self.read() as db:
            current = and_(t.device.c.id == t.ack.c.device, t.device.c.epoch == t.ack.c.epoch)
            found = db.execute(select(t.ack).join(t.device, current)).all()
            return [(row.device, Receipt(row.epoch, _settled(row), refused=_refused(db, row))) for row in found]

    def add_verdict(self, alert_id: str, verdict: UserVerdict, note: str = "") -> bool:
        """Store a user's verdict on an alert, a label. Returns False if there is no such alert."""
        now = clock.now()
        with self.write() as db:
            device = db.execute(select(t.alert.c.device).where(t.alert.c.alert_id == alert_id)).scalar()
            if device is None:
                return False
            row = {"alert_id": alert_id, "verdict": verdict, "note": note, "at": now}
            db.execute(insert(t.verdict), row)
        self.live.publish([Notice("verdict", device, dict(row))])
        return True

    # ---- inside the transaction ----

    def _ignore(self, db: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
        """Insert rows whose key is new."""
        if rows:
            db.execute(self._insert(table).on_conflict_do_nothing(), rows)

    def _new(self, db: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> set[tuple[Any, ...]]:
        """Insert rows whose key is new and return those keys; ``rows`` must not repeat a key."""
        if not rows:
            return set()
        keys = list(table.primary_key.columns)
        found = db.execute(self._insert(table).on_conflict_do_nothing().returning(*keys), rows)
        return {tuple(row) for row in found}

    def _results(self, db: Connection, rows: list[dict[str, Any]], now: int) -> tuple[list[dict[str, Any]], int]:
        """Insert results and update the rollup from the new ones; return the new ones and the number of conflicts."""
        unique: dict[tuple[str, int, str], dict[str, Any]] = {}
        conflicts = 0
        for row in rows:
            row["received"] = now
            first = unique.setdefault((row["device"], row["ts"], row["model"]), row)
            conflicts += first is not row and _differs(first, row)
        ordered = [unique[key] for key in sorted(unique)]  # one order for all writers: no deadlocks
        new = self._new(db, t.result, ordered)
        if len(new) < len(ordered):
            old = [key for key in sorted(unique) if key not in new]
            for chunk in _chunks(old):
                stored = db.execute(
                    select(t.result).where(tuple_(t.result.c.device, t.result.c.ts, t.result.c.model).in_(chunk))
                ).mappings()
                conflicts += sum(_differs(row, unique[row["device"], row["ts"], row["model"]]) for row in stored)
        fresh = [row for row in ordered if (row["device"], row["ts"], row["model"]) in new]
        self._rollup(db, fresh)
        return fresh, conflicts

    def _rollup(self, db: Connection, fresh: list[dict[str, Any]]) -> None:
        hours: dict[tuple[str, int, str], list[dict[str, Any]]] = defaultdict(list)
        for row in fresh:
            hours[row["device"], row["ts"] // t.HOUR * t.HOUR, row["model"]].append(row)
        if not hours:
            return
        rows = []
        for key in sorted(hours):
            group = hours[key]
            scores = [row["score"] for row in group if row["score"] is not None]
            ratios = [value for row in group if (value := ratio(row["score"], row["threshold"])) is not None]
            rows.append(
                {
                    "device": key[0],
                    "hour": key[1],
                    "model": key[2],
                    "n": len(group),
                    "raised": sum(row["verdict"] in _RAISED for row in group),
                    "unknown": sum(row["verdict"] == CODES[Verdict.UNKNOWN] for row in group),
                    "score_max": max(scores, default=None),
                    "ratio_max": max(ratios, default=None),
                }
            )
        statement = self._insert(t.result_1h)
        old, new = t.result_1h.c, statement.excluded
        db.execute(
            statement.on_conflict_do_update(
                index_elements=list(t.result_1h.primary_key.columns),
                set_={
                    "n": old.n + new.n,
                    "raised": old.raised + new.raised,
                    "unknown": old.unknown + new.unknown,
                    "score_max": _larger(old.score_max, new.score_max),
                    "ratio_max": _larger(old.ratio_max, new.ratio_max),
                },
            ),
            rows,
        )

    def _events(self, db: Connection, rows: list[dict[str, Any]], now: int) -> list[dict[str, Any]]:
        unique = {(row["device"], row["epoch"], row["seq"]): row | {"received": now} for row in reversed(rows)}
        new = self._new(db, t.event, [unique[key] for key in sorted(unique)])
        return [unique[key] for key in sorted(new)]

    def _healths(self, db: Connection, healths: list[HealthSeen]) -> None:
        """Update the ledger in the order of the journal; an older report changes nothing."""
        for seen in sorted(healths, key=lambda health: health.seq):
            data = seen.event.data
            days = [
                day.model_dump()
                | {"device": seen.device, "epoch": seen.epoch, "seq": seen.seq, "at": parse_iso(data.ts)}
                for day in sorted(data.ledger, key=lambda day: day.day)
            ]
            if days:
                statement = self._insert(t.ledger)
                values = ("read", "scored", "refused", "evicted", "pending", "seq", "at")
                db.execute(
                    statement.on_conflict_do_update(
                        index_elements=list(t.ledger.primary_key.columns),
                        set_={name: statement.excluded[name] for name in values},
                        where=t.ledger.c.seq < statement.excluded.seq,
                    ),
                    days,
                )

    def _alerts(self, db: Connection, seen: list[AlertSeen], now: int) -> tuple[list[str], int]:
        """Insert transitions and bring alerts forward; return the ids of those with news and how much that was."""
        news: dict[str, None] = {}
        count = 0
        for device, data in sorted(seen, key=lambda alert: (alert.data.alert_id, alert.data.ts)):
            ts = parse_iso(data.ts)
            resolved = data.transition == "resolved"
            told: dict[str, Any] = {
                "score": data.score,
                "peak": data.peak,
                "rows": data.rows,
                "sensors": data.sensors,
                "shares": data.shares,
                "reason": data.reason or None,
            }
            row = told | {
                "severity": data.severity,
                "state": "resolved" if resolved else "open",
                "transition": data.transition,
                "last_at": ts,
                "resolved_at": ts if resolved else None,
                "threshold": data.threshold,
                "bundle_name": data.bundle.name,
                "bundle_version": data.bundle.version,
                "bundle_sha256": data.bundle.sha256,
            }
            fixed = {
                "alert_id": data.alert_id,
                "device": device,
                "model": data.model,
                "kind": data.kind,
                "opened_at": parse_iso(data.opened_at),
                "first_received": now,
            }
            first = self._new(db, t.alert, [fixed | row])
            key = {"alert_id": data.alert_id, "transition": data.transition, "ts": ts}
            evidence = pack(data.evidence) if data.evidence is not None else None
            if not self._new(db, t.alert_event, [key | told | {"received": now, "evidence": evidence}]):
                continue
            if not first:
                lower = [name for name, rank in _RANK.items() if rank < _RANK[data.transition]]
                mine = t.alert.c.alert_id == data.alert_id
                same_time = and_(t.alert.c.last_at == ts, t.alert.c.transition.in_(lower))
                db.execute(update(t.alert).where(mine, or_(t.alert.c.last_at < ts, same_time)).values(row))
                db.execute(update(t.alert).where(mine).values(self._blamed(db, data.alert_id)))
            news[data.alert_id] = None
            count += 1
        return list(news), count

    def _blamed(self, db: Connection, alert_id: str) -> dict[str, Any]:
        """Return sensors and shares of the newest transition that is not ``resolved``; of that where it is alone."""
        e = t.alert_event.c
        order = (e.transition == "resolved", e.ts.desc(), (e.transition == "opened"))
        query = select(e.sensors, e.shares).where(e.alert_id == alert_id).order_by(*order).limit(1)
        return dict(db.execute(query).mappings().one())

    def _quarantine(self, db: Connection, refused: list[Refused], now: int) -> None:
        if not refused:
            return
        rows = {}
        for item in refused:
            digest = hashlib.sha256(b"\0".join([item.topic.encode(), item.reason.encode(), item.payload])).hexdigest()
            rows[digest] = item._asdict() | {"sha256": digest, "received": now}
        self._ignore(db, t.quarantine, list(rows.values()))
        newest = select(func.max(t.quarantine.c.id)).scalar_subquery()
        db.execute(delete(t.quarantine).where(t.quarantine.c.id <= newest - QUARANTINE_KEPT))

    def _seen(self, db: Connection, batch: Batch, now: int) -> None:
        """Update the device rows: last seen, newest reading, newest health."""
        empty = {"last_ts": None, "health_at": None, "health": None, "type": None, "agent_version": None}
        empty |= {"bundle_name": None, "bundle_version": None, "bundle_sha256": None}
        empty |= {"ahead_at": None, "ahead_by": None}
        found: dict[str, dict[str, Any]] = {}

        def row(device: str) -> dict[str, Any]:
            return found.setdefault(
                device, {"id": device, "first_seen": now, "last_seen": now, "status": "unknown", "epoch": None} | empty
            )

        def advance(mine: dict[str, Any], name: str, at: int) -> bool:
            """Tell whether ``at`` replaces ``mine[name]``; note a clock that is ahead."""
            if at > now + CLOCK_WRONG:
                mine |= {"ahead_at": now, "ahead_by": max(at - now, mine["ahead_by"] or 0)}
            return _forward(mine[name], at, now)

        for device, epoch in batch.numbers:
            row(device)["epoch"] = epoch
        for seen in batch.states:
            row(seen.device)
        for result in batch.results:
            mine = row(result["device"])
            if advance(mine, "last_ts", result["ts"]):
                mine["last_ts"] = result["ts"]
        for health in batch.healths:
            mine, data = row(health.device), health.event.data
            at = parse_iso(data.ts)
            if advance(mine, "health_at", at):
                mine |= {"health_at": at, "health": data.model_dump(mode="json"), "agent_version": data.agent}
                if data.bundle is not None:
                    mine |= {"type": data.bundle.name, "bundle_name": data.bundle.name}
                    mine |= {"bundle_version": data.bundle.version, "bundle_sha256": data.bundle.sha256}
        if not found:
            return
        statement = self._insert(t.device)
        old, new = t.device.c, statement.excluded
        newer = _is_forward(old.health_at, new.health_at, now)
        by_health = ("health_at", "health", "agent_version", "bundle_name", "bundle_version", "bundle_sha256")
        db.execute(
            statement.on_conflict_do_update(
                index_elements=[t.device.c.id],
                set_={
                    "last_seen": _larger(old.last_seen, new.last_seen),
                    "last_ts": case((_is_forward(old.last_ts, new.last_ts, now), new.last_ts), else_=old.last_ts),
                    "ahead_at": func.coalesce(new.ahead_at, old.ahead_at),
                    "ahead_by": func.coalesce(new.ahead_by, old.ahead_by),
                    "epoch": func.coalesce(old.epoch, new.epoch),
                    "type": case((newer, func.coalesce(new.type, old.type)), else_=old.type),
                    **{name: case((newer, new[name]), else_=old[name]) for name in by_health},
                },
            ),
            [found[device] for device in sorted(found)],
        )

    def _states(self, db: Connection, states: list[StateSeen], now: int) -> list[StateSeen]:
        """Apply connection states in order; return those that counted.

        A late last will of an older connection is ignored. A retained message may be such a will, so its connection
        must not be older than the known one. One dated in the future counts as older.
        """
        applied = []
        limit = now + AHEAD
        for seen in states:
            state = seen.state
            since = parse_iso(state.since)
            where: ColumnElement[bool] = t.device.c.id == seen.device
            if state.status == "offline" or seen.retained:
                known = t.device.c.connection
                same_or_first = or_(known.is_(None), known == state.connection)
                begun = t.device.c.connection_since
                not_older = or_(begun > limit, begun < since) if since <= limit else and_(begun > limit, begun < since)
                where = and_(where, or_(same_or_first, not_older))
            d = t.device.c
            unchanged = and_(
                d.connection == state.connection,
                d.status == state.status,
                func.coalesce(d.status_reason, "") == state.reason[:REASON_LIMIT],
            )
            statement = (
                update(t.device)
                .where(where)
                .values(
                    status=state.status,
                    status_since=case((func.coalesce(unchanged, False), t.device.c.status_since), else_=now),
                    status_reason=state.reason[:REASON_LIMIT],
                    connection=state.connection,
                    connection_since=since,
                    epoch=state.epoch,
                )
            )
            if db.execute(statement).rowcount:
                applied.append(seen)
        return applied

    def _receipts(self, db: Connection, batch: Batch) -> list[tuple[str, Receipt]]:
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
                self._ignore(db, t.ack, [key | {"upto": 0, "also": []}])
                row = db.execute(query).one()
            before = _settled(row)
            floor = batch.floors.get((device, epoch))
            numbers = set(batch.numbers[device, epoch])
            settled = before.add(numbers, floor)
            if settled != before:
                db.execute(update(t.ack).where(mine).values(upto=settled.upto, also=list(settled.beyond)))
            bad = batch.aside.get((device, epoch), set())
            self._ignore(db, t.refused, [key | {"seq": seq} for seq in sorted(bad) if seq not in before])
            refused = _refused(db, row)
            if gone := sorted(seq for seq in refused if seq in numbers - bad or (floor is not None and seq < floor)):
                for chunk in _chunks(gone):
                    db.execute(delete(t.refused).where(_same(t.refused, row), t.refused.c.seq.in_(chunk)))
            result.append((device, Receipt(epoch, settled, frozenset(numbers), refused.difference(gone))))
        return result

    def _notices(
        self,
        db: Connection,
        results: list[dict[str, Any]],
        alerts: list[str],
        events: list[dict[str, Any]],
        states: list[StateSeen],
    ) -> list[Notice]:
        notices = []
        by_device: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in results:
            by_device[row["device"]].append(row)
        for device, rows in by_device.items():
            ts = max(row["ts"] for row in rows)
            scores = [_score(row) for row in rows if row["ts"] == ts]
            notices.append(
                Notice("result", device, {"ts": ts, "n": len({row["ts"] for row in rows}), "scores": scores})
            )
        for chunk in _chunks(alerts):
            for alert in db.execute(select(t.alert).where(t.alert.c.alert_id.in_(chunk))).mappings():
                notices.append(Notice("alert", alert["device"], dict(alert)))
        for row in events:
            if row["type"] == "health":
                notices.append(Notice("health", row["device"], row["data"]))
            else:
                data = {"type": row["type"], "time": row["time"], "data": row["data"]}
                notices.append(Notice("event", row["device"], data))
        for seen in states:
            since = parse_iso(seen.state.since)
            data = {"status": seen.state.status, "since": since, "reason": seen.state.reason}
            notices.append(Notice("state", seen.device, data))
        return notices

    def _open(self) -> None:
        with self.write() as db:
            t.metadata.create_all(db)
            version = db.execute(select(t.schema_version.c.version)).scalar()
            if version is None:
                db.execute(insert(t.schema_version), {"version": t.SCHEMA_VERSION})
                return
            if not 0 < version <= t.SCHEMA_VERSION:
                raise StoreError(
                    f"{self._name}: made for schema {version}, this program has {t.SCHEMA_VERSION}: "
                    f"use the program that made it, or another path"
                )
            for step in range(version + 1, t.SCHEMA_VERSION + 1):
                for statement in t.MIGRATIONS[step]:
                    db.exec_driver_sql(statement)
            if version < t.SCHEMA_VERSION:
                db.execute(update(t.schema_version).values(version=t.SCHEMA_VERSION))


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


def ratio(score: float | None, threshold: float | None) -> float | None:
    """Return score / threshold, 1 = would raise; None where there is no score or the threshold is not positive.

    At most :data:`RATIO_LIMIT`: JSON and charts know no infinity.

    >>> ratio(3.0, 2.0), ratio(1e300, 1e-300), ratio(None, 2.0), ratio(1.0, 0.0)
    (1.5, 1000000000.0, None, None)
    """
    if not isinstance(score, float | int) or not isinstance(threshold, float | int) or threshold <= 0:
        return None  # a damaged disk may have made it a text
    return max(-RATIO_LIMIT, min(RATIO_LIMIT, score / threshold))


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


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _larger(old: Any, new: Any) -> ColumnElement[Any]:
    """Return the larger of two columns, the other where one is null; the same in every database."""
    return case((old.is_(None), new), (new.is_(None), old), (old < new, new), else_=old)


def _forward(old: int | None, new: int, now: int) -> bool:
    """Tell whether the device's time ``new`` replaces ``old``; a wrong one is replaced by any other."""
    return old is None or old > now + CLOCK_WRONG or old < new <= now + AHEAD


def _is_forward(old: ColumnElement[Any], new: ColumnElement[Any], now: int) -> ColumnElement[bool]:
    """As :func:`_forward` in the database; a ``new`` that is null replaces nothing."""
    return and_(new.is_not(None), or_(old.is_(None), old > now + CLOCK_WRONG, and_(old < new, new <= now + AHEAD)))


def _differs(stored: Any, row: dict[str, Any]) -> bool:
    return any(stored[name] != row[name] for name in ("score", "threshold", "verdict", "bundle"))


def _score(row: dict[str, Any]) -> dict[str, Any]:
    shown = {name: row[name] for name in ("model", "kind", "score", "threshold", "sensors", "shares")}
    return shown | {"verdict": VERDICTS[row["verdict"]].value}


def _chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
