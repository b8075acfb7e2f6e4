"""Writes a whole database to one file while workers keep writing."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from datetime import datetime
from typing import TYPE_CHECKING

from optuna import copy_study
from optuna.exceptions import OptunaError
from optuna.storages._rdb.models import StudyUserAttributeModel
from sqlalchemy.exc import SQLAlchemyError

from gru_optuna.attributes import CHECKPOINTS
from gru_optuna.errors import DatabaseLost, GRUOptunaError, StorageError
from gru_optuna.files import written_whole
from gru_optuna.storage.database import schema
from gru_optuna.storage.database.open import existing
from gru_optuna.storage.database.sqlite import SQLite
from gru_optuna.storage.database.tables import (
    checkpoints,
    jobs,
    leases,
    queue_workers,
    upload_files,
    upload_places,
    workers,
)
from gru_optuna.storage.maintenance.copy import (
    copy_snapshot,
    read_contents,
    snapshot,
    studies_in,
    whole_queue,
)
from gru_optuna.storage.upload_places import list_contents
from gru_optuna.storage.uploads import bring_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from optuna import Study
    from sqlalchemy import Engine

    from gru_optuna.storage.maintenance.copy import Snapshot

_FAILURES = (sqlite3.Error, SQLAlchemyError, OSError, GRUOptunaError, OptunaError)


def backup(source: str, out: Path) -> tuple[int, list[str]]:
    """Writes a SQLite database with everything that `source` holds at this moment.

    It includes the contents of checkpoints and uploads, wherever they lie. No worker holds its
    running trials, so the first worker that opens it continues them.

    Parameters
    ----------
    source
        Storage URL, of SQLite or PostgreSQL. An older version may have made the database.
    out
        A new file.

    Returns
    -------
    tuple
        How many checkpoints couldn't be read, whose trials continue from an earlier one; and the
        names of the uploads whose contents couldn't be read, which the backup lacks.

    Raises
    ------
    StorageError
        If `source` can't be read, or `out` exists or can't be written.
    """
    database = existing(source)
    with SQLite(out).plain_errors():
        if out.exists():
            raise StorageError(f"{out} exists already. Name another file with --out.")
        if not out.parent.is_dir():
            raise StorageError(
                f"{out}: there is no folder {out.parent}. Create it, or name another file."
            )
        with written_whole(out) as temporary, snapshot(database) as before:
            if isinstance(database, SQLite):
                return _copy_pages(before, temporary)
            return _copy_rows(before, SQLite(temporary))


def rescue(
    engine: Engine,
    lost: DatabaseLost,
    folder: Path,
    memory: Study | None = None,
    add: Callable[[Engine], None] | None = None,
) -> DatabaseLost:
    """Saves a SQLite database whose file is gone, through a connection that is still open.

    If its file was overwritten, the one study that this process has in memory is saved.

    Parameters
    ----------
    engine
        Of the process that noticed the loss.
    lost
        The error that it raised.
    folder
        Where the new database is written.
    memory
        A copy of the study in memory.
    add
        Called with the new database, to write what the old one doesn't hold yet.

    Returns
    -------
    DatabaseLost
        The error to raise, which names the new database; without one if nothing can be read.
    """
    moment = datetime.now().astimezone()
    out = folder / f"{lost.lost.stem}-rescued-{moment:%Y%m%d-%H%M%S}-{os.getpid()}.db"
    with suppress(*_FAILURES):
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(*_FAILURES):
            with written_whole(out) as temporary:
                _rescue_file(engine, lost.lost, temporary, add)
            return DatabaseLost(lost.lost, out)
        if memory is not None:
            with written_whole(out) as temporary:
                _rescue_study(memory, temporary)
            return DatabaseLost(lost.lost, out, memory.study_name)
    return DatabaseLost(lost.lost)


def _rescue_file(
    engine: Engine, lost: Path, out: Path, add: Callable[[Engine], None] | None
) -> None:
    """Copies what an open connection still reads, if that is whole."""
    with closing(engine.raw_connection()) as source, closing(sqlite3.connect(out)) as target:
        source.driver_connection.backup(target)  # type: ignore[union-attr]
        if target.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
            raise DatabaseLost(lost)
    copy = SQLite(out).engine()
    if add is not None:
        add(copy)
    with copy.begin() as connection:
        contents = read_contents(connection, SQLite(lost).checkpoint_folder)
        bring_in(connection, list_contents(connection))
    copy.dispose()
    with closing(sqlite3.connect(out)) as target:
        _stand_alone(target, contents)


def _rescue_study(memory: Study, out: Path) -> None:
    """Writes a study to a new database; its running trials start again, as they had begun."""
    database = SQLite(out)
    database.prepare()
    schema.make(database)
    storage = schema.optuna_storage(database)
    copy_study(from_study_name=memory.study_name, from_storage=memory._storage, to_storage=storage)
    storage.remove_session()
    storage.engine.dispose()
    with closing(sqlite3.connect(out)) as target:
        _stand_alone(target, {})


def _copy_pages(before: Snapshot, out: Path) -> tuple[int, list[str]]:
    source = before.connection.connection.driver_connection
    assert isinstance(source, sqlite3.Connection)
    with closing(sqlite3.connect(out)) as target:
        source.backup(target)
    engine = SQLite(out).engine()
    with engine.begin() as connection:
        lost = bring_in(connection, list_contents(connection))
    engine.dispose()
    with closing(sqlite3.connect(out)) as target:
        return _stand_alone(target, before.contents if before.has(checkpoints) else None), lost


def _stand_alone(target: sqlite3.Connection, contents: Mapping[str, bytes] | None) -> int:
    """Turns a copy of all pages into a separate database; returns how many checkpoints it lacks."""
    # One file, without -wal and -shm next to it.
    target.execute("PRAGMA journal_mode=DELETE")
    if contents is None:  # an older version's, without our tables
        return 0
    with target:
        target.executemany(
            f"UPDATE {checkpoints} SET content = ? WHERE name = ?",  # noqa: S608
            [(content, name) for name, content in contents.items()],
        )
        lost = target.execute(f"DELETE FROM {checkpoints} WHERE content IS NULL").rowcount  # noqa: S608
        # New checkpoints must not go where the original database keeps its own.
        attrs = StudyUserAttributeModel.__table__
        target.execute(f"DELETE FROM {attrs} WHERE key = ?", (CHECKPOINTS,))  # noqa: S608
        target.execute(f"UPDATE {leases} SET worker_id = NULL")  # noqa: S608
        target.execute(f"DELETE FROM {workers}")  # noqa: S608
        tables = {name for (name,) in target.execute("SELECT name FROM sqlite_master")}
        if jobs.name in tables:  # not in an older version's
            running = "WHERE state = 'running'"
            target.execute(f"UPDATE {jobs} SET state = 'waiting', worker_id = NULL {running}")  # noqa: S608
            target.execute(f"DELETE FROM {queue_workers}")  # noqa: S608
        if upload_places.name in tables:  # nor must new uploads
            target.execute(f"DELETE FROM {upload_files}")  # noqa: S608
            target.execute(f"DELETE FROM {upload_places}")  # noqa: S608
    return lost


def _copy_rows(before: Snapshot, out: SQLite) -> tuple[int, list[str]]:
    if schema.stored(before.connection).optuna != schema.newest().optuna:
        raise StorageError(
            f"{before.database} was made by another version of Optuna, whose rows this one can't "
            f"read. Back it up with pg_dump."
        )
    out.prepare()
    schema.make(out)
    copied, lost = copy_snapshot(before, out, studies_in(before), whole_queue(before))
    with closing(sqlite3.connect(out.path)) as target:
        target.execute("PRAGMA journal_mode=DELETE")
    return sum(study.lost for study in copied), lost
