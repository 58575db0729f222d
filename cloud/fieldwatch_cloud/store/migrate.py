"""Brings a store to the tables of this program, by Alembic; the steps are in ``migrations/versions``.

Promise: the whole way happens in the transaction of the caller, or nothing does; a store of a newer program is left
alone. The first revision takes over what programs before Alembic made (their ``schema_version`` 1 to 3).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

if TYPE_CHECKING:
    from alembic.config import Config

NEWEST = "0009"
"""The newest revision. Named here so that a store that has it opens without loading Alembic."""


class UnknownSchemaError(Exception):
    """The store was made by a newer program; the message says for which schema."""


def upgrade(db: Connection) -> None:
    """Bring the store to :data:`NEWEST` inside the transaction of ``db``. Raises :class:`UnknownSchemaError`."""
    found = revision(db)
    if found == NEWEST:
        return
    if found is not None and found > NEWEST:
        raise UnknownSchemaError(f"made for schema {found}, this program has {NEWEST}")
    from alembic import command

    command.upgrade(config(db), "head")


def revision(db: Connection) -> str | None:
    """Return the revision of the store; None where Alembic has not been there yet."""
    if not inspect(db).has_table("alembic_version"):
        return None
    return db.execute(text("SELECT version_num FROM alembic_version")).scalar()


def config(db: Connection | None = None) -> Config:
    """Return Alembic's configuration of our steps, on the connection ``db``."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", (Path(__file__).parent / "migrations").as_posix().replace("%", "%%"))
    made.attributes["connection"] = db
    return made
