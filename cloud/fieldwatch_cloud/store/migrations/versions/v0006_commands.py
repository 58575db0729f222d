"""Commands to devices."""

from __future__ import annotations

from alembic import op
from sqlalchemy import JSON, BigInteger, Column, Index, LargeBinary, String, Text
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"

Json = JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "command",
        Column("id", String(32), primary_key=True),
        Column("device", String(64), nullable=False),
        Column("kind", String(16), nullable=False),
        Column("arguments", Json, nullable=False),
        Column("issuer", Text, nullable=False),
        Column("given_at", BigInteger, nullable=False),
        Column("ends_at", BigInteger, nullable=False),
        Column("published_at", BigInteger),
        Column("answered_at", BigInteger),
        Column("outcome", String(16)),
        Column("detail", Text),
        Column("reply", LargeBinary),
        Index("command_by_device", "device", "given_at"),
        Index("command_by_end", "ends_at"),
        sqlite_with_rowid=False,
    )
