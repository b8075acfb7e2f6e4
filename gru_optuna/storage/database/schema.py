"""Optuna's tables and ours in one database, and their revisions.

Optuna creates and upgrades its own. The scripts in ``migrations/`` create and change ours, and
keep their revision in a version table of their own.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import optuna.storages._rdb
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from optuna.storages._rdb import models
from sqlalchemy import select

from gru_optuna.errors import StorageError
from gru_optuna.storage.database.optuna_storage import BulkStorage
from gru_optuna.storage.database.tables import OPTUNAS_VERSION_TABLE, VERSION_TABLE
from gru_optuna.storage.database.triggers import create_triggers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.storages import RDBStorage
    from sqlalchemy import Connection

    from gru_optuna.storage.database.backend import Database


_MIGRATIONS = Path(__file__).parent / "migrations"
_OPTUNAS_MIGRATIONS = Path(optuna.storages._rdb.__file__).parent / "alembic"


_ONLY_ADDED_TO = ("0001", "0002", "0003")
"""Our revisions of which every later one keeps all tables as they are."""


class Revisions(NamedTuple):
    """The revisions of the tables; None where there are none."""

    optuna: str | None
    ours: str | None

    def __str__(self) -> str:
        return f"Optuna {self.optuna}, gru-optuna {self.ours or 'none'}"


def stored(connection: Connection) -> Revisions:
    """The revisions of a database."""
    return Revisions(
        _revision(connection, OPTUNAS_VERSION_TABLE), _revision(connection, VERSION_TABLE)
    )


def newest() -> Revisions:
    """The revisions that this version creates."""
    return Revisions(
        _scripts(_OPTUNAS_MIGRATIONS).get_current_head(), _scripts(_MIGRATIONS).get_current_head()
    )


def is_made(connection: Connection) -> bool:
    """Whether a first run has created all tables, or there are studies that must not be touched."""
    found = stored(connection)
    if found.optuna is None:
        return False
    return (
        found.ours is not None or connection.scalar(select(models.StudyModel.study_id)) is not None
    )


def lacks_additions(connection: Connection) -> bool:
    """Whether the tables are those of an earlier version, to which later ones only added."""
    found = stored(connection)
    return found.optuna == newest().optuna and found.ours in _ONLY_ADDED_TO


def refuse_other_revisions(where: str, connection: Connection, *, to_read: bool = False) -> None:
    """Refuses tables of an older or newer version.

    Parameters
    ----------
    where
        The database, for the message.
    connection
        To the database.
    to_read
        Whether nothing but Optuna's tables is going to be read, for which additions to ours
        aren't needed.

    Raises
    ------
    StorageError
        If they are; the message says what to do.
    """
    found = stored(connection)
    if found == newest() or (to_read and lacks_additions(connection)):
        return
    _refuse_newer(where, found)
    raise StorageError(
        f"{where} was made by an older gru-optuna. Back it up with gru-optuna storage backup, "
        f"then run gru-optuna storage upgrade."
    )


def make(database: Database) -> None:
    """Creates the tables, or completes what a killed first run left. The caller holds the lock."""
    with _changing_tables(database) as connection:
        models.BaseModel.metadata.create_all(connection)
        if _revision(connection, OPTUNAS_VERSION_TABLE) is None:
            # Optuna does so, too, but loads its dozen scripts twice for it, which takes longer
            # than all the rest.
            MigrationContext.configure(connection).stamp(_scripts(_OPTUNAS_MIGRATIONS), "head")
        _migrate(connection)
    optuna_storage(database).engine.dispose()  # it adds its own version


def upgrade(database: Database) -> tuple[Revisions, Revisions]:
    """Brings both kinds of tables to their newest form. The caller holds the lock.

    Returns
    -------
    tuple
        The revisions before and after.

    Raises
    ------
    StorageError
        If they are newer than this version knows.
    """
    with database.passing_engine().connect() as connection:
        before = stored(connection)
    _refuse_newer(str(database), before)
    now = newest()
    if before.optuna != now.optuna:
        with _own_logging():
            optuna_storage(database).upgrade()
    if before.ours != now.ours:
        with _changing_tables(database) as connection:
            _migrate(connection)
    else:
        # Optuna's upgrade may have made its tables anew, and other programs, too.
        with database.passing_engine().begin() as connection:
            create_triggers(connection)
    return before, now


def optuna_storage(database: Database) -> RDBStorage:
    """Optuna's own storage for a database, whose revisions the caller has compared or will."""
    # Optuna fills in the URL as a template, so braces in a password must be doubled.
    url = database.url.replace("{", "{{").replace("}", "}}")
    return BulkStorage(
        url,
        engine_kwargs=database.optuna_arguments,
        skip_compatibility_check=True,
        skip_table_creation=True,
    )


@contextmanager
def _changing_tables(database: Database) -> Iterator[Connection]:
    """A transaction that makes or changes tables, or leaves them as they were."""
    with database.passing_engine().begin() as connection:
        if connection.dialect.name == "sqlite":
            # SQLite changes a table by making a new one: dropping the old one must not cascade.
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
            # Python's driver begins no transaction for CREATE TABLE: a crash would leave half.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection


def _migrate(connection: Connection) -> None:
    # As `alembic.command.upgrade` does, which loads all scripts and an environment anew each time.
    scripts = _scripts(_MIGRATIONS)
    context = MigrationContext.configure(
        connection,
        opts={
            "version_table": VERSION_TABLE,
            "fn": lambda revision, _: scripts._upgrade_revs("head", revision),
        },
    )
    with _migrating, Operations.context(context):
        context.run_migrations()


def _refuse_newer(where: str, found: Revisions) -> None:
    for revision, folder in zip(found, (_OPTUNAS_MIGRATIONS, _MIGRATIONS), strict=True):
        known = {script.revision for script in _scripts(folder).walk_revisions()}
        if revision is not None and revision not in known:
            raise StorageError(
                f"{where} was made by a newer gru-optuna or Optuna (revision {revision}). "
                f"Update this one: pip install --upgrade gru-optuna optuna"
            )


@contextmanager
def _own_logging() -> Iterator[None]:
    """Keeps Optuna's upgrade from configuring logging, as it does if the root has no handler."""
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


def _revision(connection: Connection, table: str) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table": table})
    return context.get_current_revision()


_migrating = Lock()  # Alembic's scripts find their connection in a global variable


@cache  # it runs a dozen scripts to read what they are called
def _scripts(folder: Path) -> ScriptDirectory:
    return ScriptDirectory(str(folder))
