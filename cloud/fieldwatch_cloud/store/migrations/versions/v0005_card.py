"""What people call a device: its name, site and tags."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, String, Text

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "card",
        Column("device", String(64), primary_key=True),
        Column("name", Text, nullable=False),
        Column("site", Text, nullable=False),
        Column("tags", Text, nullable=False),
        sqlite_with_rowid=False,
    )
