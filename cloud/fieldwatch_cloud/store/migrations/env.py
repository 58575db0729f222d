"""Run by Alembic: takes the steps on the connection, and in the transaction, of whoever called it."""

from alembic import context
from fieldwatch_cloud.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
