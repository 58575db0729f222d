"""Incidents, their timeline, issues, maintenance windows, and the outbox of messages to people."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, BigInteger, Boolean, Column, Index, Integer, String, Text
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

Json = JSON().with_variant(postgresql.JSONB(), "postgresql")
Serial = BigInteger().with_variant(Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "incident",
        Column("id", Serial, primary_key=True),
        Column("device", String(64), nullable=False),
        Column("kind", String(64), nullable=False),
        Column("audience", String(16), nullable=False),
        Column("site", Text, nullable=False),
        Column("type", Text),
        Column("bundle", Text),
        Column("what", Text, nullable=False),
        Column("remedy", Text, nullable=False),
        Column("severity", String(16), nullable=False),
        Column("state", String(16), nullable=False),
        Column("opened_at", BigInteger, nullable=False),
        Column("ended_at", BigInteger),
        Column("begun", BigInteger, nullable=False),
        Column("wake_at", BigInteger),
        Column("issue_key", Text),
        Column("issue_id", BigInteger),
        Column("life", Json, nullable=False),
        Index("incident_by_device", "device", "kind", "opened_at"),
        Index("incident_by_state", "state", "begun"),
        Index("incident_by_wake", "wake_at"),
        Index("incident_by_key", "issue_key", "begun"),
        Index("ix_incident_issue_id", "issue_id"),
    )
    op.create_table(
        "incident_signal",
        Column("key", Text, primary_key=True),
        Column("incident_id", BigInteger, nullable=False),
        Index("ix_incident_signal_incident_id", "incident_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "incident_event",
        Column("id", Serial, primary_key=True),
        Column("incident_id", BigInteger, nullable=False),
        Column("at", BigInteger, nullable=False),
        Column("what", String(16), nullable=False),
        Column("told", Boolean, nullable=False),
        Column("by", Text, nullable=False),
        Column("text", Text, nullable=False),
        Index("ix_incident_event_incident_id", "incident_id"),
    )
    op.create_table(
        "issue",
        Column("id", Serial, primary_key=True),
        Column("key", Text, nullable=False),
        Column("kind", String(64), nullable=False),
        Column("type", Text, nullable=False),
        Column("sensors", Json, nullable=False),
        Column("bundle", Text, nullable=False),
        Column("opened_at", BigInteger, nullable=False),
        Column("last_at", BigInteger, nullable=False),
        Index("issue_by_key", "key", "last_at"),
    )
    op.create_table(
        "maintenance",
        Column("id", Serial, primary_key=True),
        Column("device", Text, nullable=False),
        Column("site", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("begin", BigInteger, nullable=False),
        Column("end", BigInteger, nullable=False),
        Column("why", Text, nullable=False),
        Column("by", Text, nullable=False),
        Column("made_at", BigInteger, nullable=False),
        Index("ix_maintenance_end", "end"),
    )
    op.create_table(
        "message",
        Column("id", String(32), primary_key=True),
        Column("channel", Text, nullable=False),
        Column("route", Text, nullable=False),
        Column("batch", String(16)),
        Column("step", Integer, nullable=False),
        Column("state", String(16), nullable=False),
        Column("due_at", BigInteger, nullable=False),
        Column("made_at", BigInteger, nullable=False),
        Column("attempts", Integer, nullable=False),
        Column("lease_until", BigInteger),
        Column("done_at", BigInteger),
        Column("error", Text),
        Index("message_by_due", "state", "due_at"),
        Index("message_by_channel", "channel", "made_at"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "message_item",
        Column("message_id", String(32), primary_key=True),
        Column("event_id", BigInteger, primary_key=True),
        sqlite_with_rowid=False,
    )
    # What was over before there were incidents is history: nobody is told of it now.
    op.execute("INSERT INTO incident_signal (\"key\", incident_id) SELECT alert_id, 0 FROM alert WHERE state <> 'open'")
