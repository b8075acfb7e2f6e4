"""Opens the database behind a storage URL, SQLite or PostgreSQL.

Everything in which the two differ is in this folder, and nowhere above it.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.storages import get_storage
from sqlalchemy import ColumnElement, DateTime, func, make_url, select
from sqlalchemy.exc import ArgumentError

from gru_optuna.errors import DatabaseMissing, StorageError
from gru_optuna.storage.database import schema
from gru_optuna.storage.database.postgresql import PostgreSQL
from gru_optuna.storage.database.sqlite import SQLite
from gru_optuna.storage.database.tables import studies, submissions
from gru_optuna.storage.optuna_private import engine_of
from gru_optuna.urls import masked_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna import Study
    from optuna.storages import BaseStorage
    from sqlalchemy import URL, Connection, Engine

    from gru_optuna.checkpoints.marker import Owner
    from gru_optuna.storage.database.backend import Database


_FORMS = "Write sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"


def open_storage(url: str, *, create: bool = False) -> BaseStorage:
    """Opens the database behind a storage URL as Optuna's storage.

    Parameters
    ----------
    url
        ``sqlite:///relative/path.db``, ``sqlite:////absolute/path.db`` or
        ``postgresql://user:password@host/database``.
    create
        Whether to create the file (SQLite) and the tables where there are none.

    Raises
    ------
    StorageError
        If it can't be opened, is locked, can't be written (with `create`), isn't ours, or was
        made by an older or newer version.
    """
    database = locate(url) if create else existing(url)
    with database.plain_errors():
        if create:
            database.prepare()
            database.probe(write=True)
            # Of two processes that make the tables, one would find them half made.
            with exclusively(url, "first-run"):
                if not _is_made(database):
                    schema.make(database)
        _add_what_is_new(database, url)
        with database.passing_engine().connect() as connection:
            schema.refuse_other_revisions(str(database), connection, to_read=not create)
        return get_storage(schema.optuna_storage(database))


def upgrade_storage(url: str) -> tuple[schema.Revisions, schema.Revisions]:
    """Brings the tables to their newest form; returns their revisions before and after.

    Raises
    ------
    StorageError
        If there are none, they are newer than this version, or the database is in use.
    """
    database = existing(url)
    with database.plain_errors():
        database.probe(write=True)
        if database.in_use():
            raise StorageError(f"{database} is in use. Stop every worker, then upgrade it.")
        with exclusively(url, "first-run"):
            return schema.upgrade(database)


def open_engine(url: str) -> Engine:
    """An SQLAlchemy engine for our own transactions; on PostgreSQL it holds one connection."""
    return locate(url).engine()


def watch_file(study: Study, url: str) -> Engine:
    """Lets a study raise `DatabaseLost` if its file is deleted or replaced from now on.

    Returns the engine of its storage.
    """
    engine = engine_of(study)
    locate(url).watch(engine)
    return engine


@contextmanager
def exclusively(url: str, name: str, timeout: float | None = None) -> Iterator[None]:
    """Holds a lock by this name among all processes that use this database.

    The lock ends with the process, however that ends.

    Parameters
    ----------
    url
        The database. On SQLite the lock holds on this machine, where the file is.
    name
        Names the work: letters, digits and ``. _ - :``, 150 bytes at most.
    timeout
        Seconds to wait for the lock; None: as long as it takes.

    Raises
    ------
    StorageError
        If another process holds it for longer.
    """
    database = locate(url)
    with ExitStack() as held:
        try:
            held.enter_context(database.exclusively(name, timeout))
        except TimeoutError:
            raise StorageError(
                f"{database}: another process is still busy with {name} after {timeout:g} s. "
                f"Wait for it, or stop it."
            ) from None
        yield


def lock_study(connection: Connection, study_id: int) -> bool:
    """Locks a study for writing until the transaction ends; see `begin_writing`."""
    return begin_writing(connection, study_id, lock=True)


def begin_writing(connection: Connection, study_id: int, *, lock: bool) -> bool:
    """Begins to write to a study.

    Parameters
    ----------
    connection
        In a transaction that has written nothing yet. With the lock, whatever it reads from now
        on stays true until it ends.
    study_id
        The study's in the database.
    lock
        Whether all other transactions that lock the study have to wait. On SQLite they always
        have to: there is one writer at a time. Deleting the study waits in either case.

    Returns
    -------
    bool
        False if the study was deleted.
    """
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    # On PostgreSQL, the row that Optuna itself locks when it creates a trial; rows that refer to it
    # may still be written. SQLite has no locks on rows, and leaves this out.
    row = select(studies.c.study_id).where(studies.c.study_id == study_id)
    row = row.with_for_update(read=not lock, key_share=True)
    return connection.scalar(row) is not None


def begin_queue_change(connection: Connection) -> None:
    """Begins a transaction in which nobody else changes uploads, submissions, jobs, queue workers.

    Others may read meanwhile. On SQLite there is one writer at a time in any case.
    """
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql(f"LOCK TABLE {submissions} IN SHARE ROW EXCLUSIVE MODE")


def now(connection: Connection) -> datetime:
    """The time by the database's clock: UTC, without a zone."""
    time = clock(connection)
    if not isinstance(time, ColumnElement):
        return time
    found: datetime | None = connection.scalar(select(time))
    assert found is not None
    return found


def clock(connection: Connection) -> datetime | ColumnElement[datetime]:
    """The time as `now` returns it, as an expression that saves a statement its own query."""
    if connection.dialect.name == "sqlite":  # its clock is this machine's
        return datetime.now(UTC).replace(tzinfo=None)
    return func.timezone("utc", func.clock_timestamp(), type_=DateTime)


def checkpoint_folder(url: str) -> Path | None:
    """Where the checkpoints of a SQLite database lie; None on PostgreSQL, where they are rows."""
    database = locate(url)
    return None if isinstance(database, PostgreSQL) else database.checkpoint_folder


def owner_of(study: Study) -> Owner:
    """The database of a study, as the places of its checkpoints know it.

    Raises
    ------
    StorageError
        If it can't be asked.
    """
    return database_of(engine_of(study)).owner()


def database_of(engine: Engine) -> Database:
    """The database behind an engine."""
    return locate(engine.url.render_as_string(hide_password=False))


def shown_url(url: str) -> str:
    """A storage URL without anything secret."""
    database = locate(url)
    return str(database) if isinstance(database, PostgreSQL) else database.url


def existing(url: str) -> Database:
    """The database that a storage URL names, whichever version made its tables.

    Raises
    ------
    StorageError
        If there is none, or it belongs to another program.
    """
    database = locate(url)
    with database.plain_errors():
        if not database.exists():
            raise _no_tables(database)
        database.probe(write=False)
        if not _is_made(database):
            raise _no_tables(database)
    return database


def locate(url: str) -> Database:
    """The database that a storage URL names, not opened.

    Raises
    ------
    StorageError
        If it isn't a URL of SQLite or PostgreSQL.
    """
    try:
        # Heroku's and others' short form, which SQLAlchemy doesn't know.
        parsed = make_url(re.sub("^postgres://", "postgresql://", url))
    except (ArgumentError, ValueError):  # ValueError: a port that is not a number
        raise StorageError(
            f'storage "{masked_url(url)}" is not a URL. {_FORMS}, for example sqlite:///storage/gru_optuna.db.'
        ) from None
    match parsed.get_backend_name():
        case "sqlite":
            return _sqlite(parsed)
        case "postgresql":
            return _postgresql(parsed)
        case _:
            raise StorageError(
                f"storage {_hidden(parsed)}: studies are stored in SQLite or PostgreSQL. {_FORMS}."
            )


def _sqlite(parsed: URL) -> SQLite:
    if parsed.host or parsed.query:
        raise StorageError(
            f"storage {_hidden(parsed)}: a SQLite URL takes no host "
            f"and no options. Write sqlite:///FILE, or sqlite:////FILE for an absolute path."
        )
    if not parsed.database or parsed.database == ":memory:":
        raise StorageError(
            f"storage {_hidden(parsed)} is lost when the process ends. Write sqlite:///FILE."
        )
    return SQLite(Path(parsed.database))


def _postgresql(parsed: URL) -> PostgreSQL:
    if "@" in (parsed.host or ""):
        raise StorageError(
            # With the /, or what follows the colon would be masked as a password.
            f"storage postgresql://***@{(parsed.host or '').rpartition('@')[2]}/: "
            f"an @ in a password is written %40."
        )
    if not parsed.database:
        raise StorageError(f"storage {_hidden(parsed)} names no database. {_FORMS}.")
    return PostgreSQL(parsed)


def _hidden(parsed: URL) -> str:
    return masked_url(parsed.render_as_string(hide_password=False))


def _add_what_is_new(database: Database, url: str) -> None:
    """Adds what the tables of an earlier version lack, if they can be written."""
    with database.passing_engine().connect() as connection:
        lacks = schema.lacks_additions(connection)
    if lacks:
        with suppress(StorageError), exclusively(url, "first-run"), database.plain_errors():
            schema.upgrade(database)


def _is_made(database: Database) -> bool:
    with database.passing_engine().connect() as connection:
        return schema.is_made(connection)


def _no_tables(database: Database) -> DatabaseMissing:
    return DatabaseMissing(
        f"{database}: there is no database yet. Create it with gru-optuna tune, or name another "
        f"one with --storage URL."
    )
