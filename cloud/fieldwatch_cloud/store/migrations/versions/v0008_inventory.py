"""Which libraries each device's agent runs with."""

from __future__ import annotations

from alembic import op
from fieldwatch_cloud.store.documents import Versions
from sqlalchemy import BigInteger, Boolean, Column, String, Text

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "inventory",
        Column("device", String(64), primary_key=True),
        Column("at", BigInteger, nullable=False),
        Column("agent", Text, nullable=False),
        Column("complete", Boolean, nullable=False),
        Column("versions", Versions, nullable=False),
        sqlite_with_rowid=False,
    )
