"""Run by alembic before the scripts: on the connection that ``schema.py`` gives it."""

from __future__ import annotations

from alembic import context

from gru_optuna.storage.database.tables import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,  # SQLite can't change a column in place
)
with context.begin_transaction():
    context.run_migrations()
