"""Several processes on one store: which part runs where, and the live feed between them."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Integer, String, Text

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "runner",
        Column("part", String(16), primary_key=True),
        Column("holder", String(32), primary_key=True),
        Column("until", BigInteger, nullable=False),
        Column("says", Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "notice",
        Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
        Column("origin", String(32), nullable=False),
        Column("kind", String(16), nullable=False),
        Column("device", String(64), nullable=False),
        Column("data", Text, nullable=False),
        sqlite_autoincrement=True,
    )
