"""Writes a whole database into one file while workers go on writing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from optuna.storages._rdb.models import StudyUserAttributeModel

from gru_optuna.attributes import CHECKPOINTS
from gru_optuna.errors import StorageError
from gru_optuna.files import written_whole
from gru_optuna.storage.database import schema
from gru_optuna.storage.database.open import existing
from gru_optuna.storage.database.sqlite import SQLite
from gru_optuna.storage.database.tables import checkpoints, leases, workers
from gru_optuna.storage.maintenance.copy import copy_snapshot, snapshot, studies_in

if TYPE_CHECKING:
    from pathlib import Path

    from gru_optuna.storage.maintenance.copy import Snapshot


def backup(source: str, out: Path) -> int:
    """Writes a SQLite database with everything that `source` holds at this moment.

    It includes the contents of checkpoints. No worker holds its running trials, so the first
    worker that opens it continues them.

    Parameters
    ----------
    source
        Storage URL, of SQLite or PostgreSQL. An older version may have made the database.
    out
        A new file.

    Returns
    -------
    int
        How many checkpoints couldn't be read; their trials continue from an earlier one.

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
        with written_whole(out) as beside, snapshot(database) as before:
            if isinstance(database, SQLite):
                return _copy_pages(before, beside)
            return _copy_rows(before, SQLite(beside))


def _copy_pages(before: Snapshot, out: Path) -> int:
    source = before.connection.connection.driver_connection
    assert isinstance(source, sqlite3.Connection)
    with closing(sqlite3.connect(out)) as target:
        source.backup(target)
        # One file, without -wal and -shm next to it.
        target.execute("PRAGMA journal_mode=DELETE")
        if not before.has_checkpoints:
            return 0
        with target:
            target.executemany(
                f"UPDATE {checkpoints} SET content = ? WHERE name = ?",  # noqa: S608
                [(content, name) for name, content in before.contents.items()],
            )
            lost = target.execute(f"DELETE FROM {checkpoints} WHERE content IS NULL").rowcount  # noqa: S608
            # New checkpoints must not go where the original database keeps its own.
            attrs = StudyUserAttributeModel.__table__
            target.execute(f"DELETE FROM {attrs} WHERE key = ?", (CHECKPOINTS,))  # noqa: S608
            target.execute(f"UPDATE {leases} SET worker_id = NULL")  # noqa: S608
            target.execute(f"DELETE FROM {workers}")  # noqa: S608
    return lost


def _copy_rows(before: Snapshot, out: SQLite) -> int:
    if schema.stored(before.connection).optuna != schema.newest().optuna:
        raise StorageError(
            f"{before.database} was made by another version of Optuna, whose rows this one can't "
            f"read. Back it up with pg_dump."
        )
    schema.make(out)
    copied = copy_snapshot(before, out, studies_in(before))
    with closing(sqlite3.connect(out.path)) as target:
        target.execute("PRAGMA journal_mode=DELETE")
    return sum(study.lost for study in copied)
