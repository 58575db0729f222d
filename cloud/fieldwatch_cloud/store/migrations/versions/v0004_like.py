"""What an alert says of its level, and which dismissed alert it resembles."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Column, Float, Text

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns."""
    for column in (Column("level", Float), Column("like", Text), Column("at_bound", Text)):
        op.add_column("alert", column)
