"""The tables of the first releases, or what those made before Alembic: their ``schema_version`` 1, 2 and 3."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from alembic import op
from fieldwatch_cloud.store.migrate import UnknownSchemaError
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Text,
    inspect,
    text,
)
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

Json = JSON().with_variant(postgresql.JSONB(), "postgresql")
Serial = BigInteger().with_variant(Integer(), "sqlite")

_BEFORE = {
    2: (
        "ALTER TABLE device ADD COLUMN status_reason TEXT",
        "ALTER TABLE device ADD COLUMN ahead_at BIGINT",
        "ALTER TABLE device ADD COLUMN ahead_by BIGINT",
        "ALTER TABLE alert ADD COLUMN reason TEXT",
        "ALTER TABLE alert_event ADD COLUMN reason TEXT",
    ),
    3: ("ALTER TABLE result ADD COLUMN why TEXT",),
}
"""What the programs before Alembic did, by the version that it led to."""


def upgrade() -> None:
    """Make the tables, or take over those of an older program."""
    there = inspect(op.get_bind()).get_table_names()
    if "schema_version" in there:
        _take_over()
    _create(there)


def _take_over() -> None:
    version = op.get_bind().execute(text("SELECT version FROM schema_version")).scalar()
    if not isinstance(version, int) or not 0 < version <= max(_BEFORE):
        raise UnknownSchemaError(f"made for schema {version}, this program takes over 1 to {max(_BEFORE)}")
    for step in range(version + 1, max(_BEFORE) + 1):
        for statement in _BEFORE[step]:
            op.execute(statement)
    op.drop_table("schema_version")


def _create(there: Collection[str]) -> None:
    """Make the tables that are not there; those programs added some without a step of their own."""

    def table(name: str, *parts: Column[Any] | Index, rowid: bool = False) -> None:
        if name not in there:
            op.create_table(name, *parts, sqlite_with_rowid=rowid)

    table(
        "heartbeat",
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("at", BigInteger, nullable=False),
        rowid=True,
    )
    table(
        "device",
        Column("id", String(64), primary_key=True),
        Column("type", String(64)),
        Column("first_seen", BigInteger, nullable=False),
        Column("last_seen", BigInteger, nullable=False),
        Column("status", String(8), nullable=False),
        Column("status_since", BigInteger),
        Column("status_reason", Text),
        Column("connection", Text),
        Column("connection_since", BigInteger),
        Column("epoch", Text),
        Column("agent_version", Text),
        Column("bundle_name", Text),
        Column("bundle_version", Text),
        Column("bundle_sha256", String(64)),
        Column("ahead_at", BigInteger),
        Column("ahead_by", BigInteger),
        Column("last_ts", BigInteger),
        Column("health_at", BigInteger),
        Column("health", Json),
    )
    table(
        "result",
        Column("device", String(64), primary_key=True),
        Column("ts", BigInteger, primary_key=True),
        Column("model", String(32), primary_key=True),
        Column("kind", String(16), nullable=False),
        Column("score", Float),
        Column("threshold", Float, nullable=False),
        Column("verdict", SmallInteger, nullable=False),
        Column("why", Text),
        Column("sensors", Json, nullable=False),
        Column("shares", Json, nullable=False),
        Column("bundle", Text, nullable=False),
        Column("received", BigInteger, nullable=False),
    )
    table(
        "reading",
        Column("device", String(64), primary_key=True),
        Column("ts", BigInteger, primary_key=True),
        Column("values", Json, nullable=False),
    )
    table(
        "result_1h",
        Column("device", String(64), primary_key=True),
        Column("hour", BigInteger, primary_key=True),
        Column("model", String(32), primary_key=True),
        Column("n", Integer, nullable=False),
        Column("raised", Integer, nullable=False),
        Column("unknown", Integer, nullable=False),
        Column("score_max", Float),
        Column("ratio_max", Float),
    )
    table(
        "alert",
        Column("alert_id", Text, primary_key=True),
        Column("device", String(64), nullable=False),
        Column("model", String(32), nullable=False),
        Column("kind", String(16), nullable=False),
        Column("severity", String(16), nullable=False),
        Column("state", String(16), nullable=False),
        Column("transition", String(16), nullable=False),
        Column("opened_at", BigInteger, nullable=False),
        Column("last_at", BigInteger, nullable=False),
        Column("resolved_at", BigInteger),
        Column("score", Float, nullable=False),
        Column("peak", Float, nullable=False),
        Column("threshold", Float, nullable=False),
        Column("rows", Integer, nullable=False),
        Column("sensors", Json, nullable=False),
        Column("shares", Json, nullable=False),
        Column("bundle_name", Text, nullable=False),
        Column("bundle_version", Text, nullable=False),
        Column("bundle_sha256", String(64), nullable=False),
        Column("first_received", BigInteger, nullable=False),
        Column("reason", Text),
        Index("alert_by_device", "device", "opened_at"),
        Index("alert_by_state", "state", "opened_at"),
    )
    table(
        "alert_event",
        Column("alert_id", Text, primary_key=True),
        Column("transition", String(16), primary_key=True),
        Column("ts", BigInteger, primary_key=True),
        Column("score", Float, nullable=False),
        Column("peak", Float, nullable=False),
        Column("rows", Integer, nullable=False),
        Column("sensors", Json, nullable=False),
        Column("shares", Json, nullable=False),
        Column("received", BigInteger, nullable=False),
        Column("reason", Text),
        Column("evidence", LargeBinary),
    )
    table(
        "verdict",
        Column("id", Serial, primary_key=True),
        Column("alert_id", Text, nullable=False),
        Column("verdict", String(16), nullable=False),
        Column("note", Text, nullable=False),
        Column("at", BigInteger, nullable=False),
        Index("ix_verdict_alert_id", "alert_id"),
        rowid=True,
    )
    table(
        "event",
        Column("device", String(64), primary_key=True),
        Column("epoch", Text, primary_key=True),
        Column("seq", BigInteger, primary_key=True),
        Column("type", String(16), nullable=False),
        Column("time", BigInteger, nullable=False),
        Column("received", BigInteger, nullable=False),
        Column("data", Json, nullable=False),
        Index("event_by_type", "device", "type", "time"),
    )
    table(
        "ledger",
        Column("device", String(64), primary_key=True),
        Column("epoch", Text, primary_key=True),
        Column("day", String(10), primary_key=True),
        Column("read", BigInteger, nullable=False),
        Column("scored", BigInteger, nullable=False),
        Column("refused", Json, nullable=False),
        Column("evicted", BigInteger, nullable=False),
        Column("pending", BigInteger, nullable=False),
        Column("seq", BigInteger, nullable=False),
        Column("at", BigInteger, nullable=False),
    )
    table(
        "ack",
        Column("device", String(64), primary_key=True),
        Column("epoch", Text, primary_key=True),
        Column("upto", BigInteger, nullable=False),
        Column("also", Json, nullable=False),
    )
    table(
        "refused",
        Column("device", String(64), primary_key=True),
        Column("epoch", Text, primary_key=True),
        Column("seq", BigInteger, primary_key=True),
    )
    table(
        "quarantine",
        Column("id", Serial, primary_key=True),
        Column("sha256", String(64), nullable=False, unique=True),
        Column("topic", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("payload", LargeBinary, nullable=False),
        Column("received", BigInteger, nullable=False),
        rowid=True,
    )
