"""The newest of a device is what it said last, by the place in its journal instead of by its clock."""

from __future__ import annotations

from alembic import op
from sqlalchemy import BigInteger, Column, Text

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the columns. Of what is stored the place is not known, so the next report replaces it."""
    op.add_column("device", Column("connection_before", Text))
    op.add_column("device", Column("epoch_heard", BigInteger))
    op.add_column("device", Column("health_epoch", Text))
    op.add_column("device", Column("health_seq", BigInteger))
    op.add_column("device", Column("health_received", BigInteger))
    op.add_column("device", Column("behind_by", BigInteger))
    received = "CASE WHEN health_at < last_seen THEN health_at ELSE last_seen END"
    op.execute(f"UPDATE device SET health_received = {received} WHERE health_at IS NOT NULL")  # noqa: S608
    op.add_column("inventory", Column("epoch", Text))
    op.add_column("inventory", Column("seq", BigInteger))
