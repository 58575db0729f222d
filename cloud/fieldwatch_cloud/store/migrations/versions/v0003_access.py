"""Accounts, links, sessions, API tokens and the audit trail."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, BigInteger, Column, Index, Integer, String, Text
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"

Json = JSON().with_variant(postgresql.JSONB(), "postgresql")
Serial = BigInteger().with_variant(Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "person",
        Column("id", Serial, primary_key=True),
        Column("name", String(100), nullable=False, unique=True),
        Column("role", String(16), nullable=False),
        Column("password", Text),
        Column("issuer", Text),
        Column("subject", Text),
        Column("made_at", BigInteger, nullable=False),
        Column("last_at", BigInteger),
        Column("disabled_at", BigInteger),
        Index("person_by_identity", "issuer", "subject", unique=True),
    )
    op.create_table(
        "link",
        Column("hash", String(64), primary_key=True),
        Column("person", BigInteger, nullable=False),
        Column("kind", String(16), nullable=False),
        Column("made_at", BigInteger, nullable=False),
        Column("ends_at", BigInteger, nullable=False),
        Index("ix_link_person", "person"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "session",
        Column("hash", String(64), primary_key=True),
        Column("person", BigInteger, nullable=False),
        Column("made_at", BigInteger, nullable=False),
        Column("used_at", BigInteger, nullable=False),
        Column("address", String(64), nullable=False),
        Column("agent", String(200), nullable=False),
        Index("ix_session_person", "person"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "api_token",
        Column("id", Serial, primary_key=True),
        Column("hash", String(64), nullable=False, unique=True),
        Column("person", BigInteger, nullable=False),
        Column("name", String(80), nullable=False),
        Column("scopes", Json, nullable=False),
        Column("made_at", BigInteger, nullable=False),
        Column("ends_at", BigInteger, nullable=False),
        Column("used_at", BigInteger),
        Column("revoked_at", BigInteger),
        Index("ix_api_token_person", "person"),
    )
    op.create_table(
        "audit",
        Column("id", Serial, primary_key=True, autoincrement=False),
        Column("at", BigInteger, nullable=False),
        Column("who", Text, nullable=False),
        Column("action", String(40), nullable=False),
        Column("target", Text, nullable=False),
        Column("why", Text, nullable=False),
        Column("hash", String(64), nullable=False),
        Index("ix_audit_at", "at"),
    )
