"""Opens the database: SQLite, so that several processes can work on it.

Optuna leaves SQLite at its defaults (rollback journal, full fsync, 5 s of patience). Here it
runs in WAL mode, waits for other writers, and its tables are made once, under a file lock.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from gru_optuna.errors import StorageError, StudyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.storages import BaseStorage
    from sqlalchemy import Engine

BUSY_SECONDS = 60.0
"""How long a statement waits for another writer."""

PROBE_SECONDS = 3.0
"""How long opening waits before it says that the database is locked."""

# On these a memory-mapped WAL index isn't shared between hosts, and SQLite corrupts.
_NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "afs"}


def connect(path: str) -> sqlite3.Connection:
    """A connection as every process here uses it.

    At module level, because Optuna pickles its engine's arguments, and an event listener
    would come too late for the first connection and be lost on the way.
    """
    # IMMEDIATE: a writer waits for its turn at BEGIN, and never fails at an upgrade from reading.
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level="IMMEDIATE", check_same_thread=False
    )
    # WAL: the dashboard must not block a worker's commit.
    connection.execute("PRAGMA journal_mode=WAL")
    # A power cut may lose the last commits, never the database; a killed process loses nothing.
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


def open_storage(url: str, *, create: bool = False) -> BaseStorage:
    """Opens the database behind a storage URL.

    Parameters
    ----------
    url
        ``sqlite:///relative/path.db`` or ``sqlite:////absolute/path.db``.
    create
        Whether to make it where there is none.

    Raises
    ------
    StorageError
        If it can't be opened, is locked, can't be written (with `create`), or isn't ours.
    """
    path = sqlite_path(url)
    with _plain_errors(path):
        exists = path.exists()
    if not exists and not create:
        raise _no_database(path)
    # After the first check: reading commands make no folder.
    from optuna.storages import RDBStorage, get_storage

    with _plain_errors(path):
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
            _refuse_network_file_system(path.parent)
        _probe(path, write=create)
        storage = partial(RDBStorage, url, engine_kwargs={"creator": partial(connect, str(path))})
        if not create:
            return get_storage(storage())
        # Two processes making the same tables: one of them would find them half made.
        with FileLock(_lock_file(path, "first-run")):
            return get_storage(storage())


def open_engine(url: str) -> Engine:
    """An SQLAlchemy engine over the same connections, for transactions of our own."""
    return create_engine(url, creator=partial(connect, str(sqlite_path(url))))


@contextmanager
def study_lock(url: str, study: str) -> Iterator[None]:
    """Holds the right to tune a study on this machine; the system frees it if the holder dies.

    Raises
    ------
    StudyError
        If another living process holds it.
    """
    path = sqlite_path(url)
    with _plain_errors(path):
        lock = FileLock(_lock_file(path, f"study-{study}"), timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise StudyError(
                f'study "{study}" in {path} is being tuned by another process. '
                f"Wait for it or stop it; gru-optuna status {study} shows how far it is."
            ) from None
    try:
        yield
    finally:
        lock.release()


def sqlite_path(url: str) -> Path:
    """The file behind a storage URL.

    Raises
    ------
    StorageError
        If it isn't a URL of a SQLite file.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise StorageError(
            f'storage "{re.sub(":[^:@]*@", ":***@", url)}" is not a URL. Write sqlite:///FILE, '
            f"for example "
            f"sqlite:///storage/gru_optuna.db."
        ) from None
    if parsed.get_backend_name() != "sqlite":
        raise StorageError(
            f"storage {parsed.set(query={}).render_as_string(hide_password=True)}: this version "
            f"stores studies in SQLite only. Write sqlite:///FILE."
        )
    if parsed.host or parsed.query:
        raise StorageError(
            f"storage {parsed.render_as_string(hide_password=True)}: only the file is used, "
            f"without host or options. Write sqlite:///FILE, or sqlite:////FILE from the root."
        )
    if not parsed.database or parsed.database == ":memory:":
        raise StorageError(f"storage {url} forgets everything at its end. Write sqlite:///FILE.")
    return Path(parsed.database)


@contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, SQLAlchemyError) as error:
        raise StorageError(f"{path}: {_explain(getattr(error, 'orig', None) or error)}") from error
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}. Check the path.") from error
    except RuntimeError as error:
        # Optuna, about a schema newer or older than its own.
        raise StorageError(f"{path}: {error}") from error


def _explain(error: BaseException) -> str:
    text = str(error)
    for part, explanation in {
        "not a database": "not a SQLite database. Name another file.",
        "locked": "locked by another program. Close it, or wait, and try again.",
        "readonly": "may not be written. Change its permissions, or name another file.",
        "unable to open": "can't be opened. Check the path and its permissions.",
        "disk is full": "the disk is full. Free some space and run the same command again.",
    }.items():
        if part in text:
            return explanation
    return text


def _no_database(path: Path) -> StorageError:
    return StorageError(
        f"{path}: no database yet. gru-optuna tune makes it; "
        f"or name another one: --storage sqlite:///FILE."
    )


def _probe(path: Path, *, write: bool) -> None:
    """Looks before anything is written: is it a database, ours, and free?"""
    from optuna.storages._rdb.models import BaseModel

    existed = path.exists() and path.stat().st_size > 0
    connection = sqlite3.connect(path, timeout=PROBE_SECONDS)
    try:
        tables = {
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
        }
        if existed and not tables <= set(BaseModel.metadata.tables) | {"alembic_version"}:
            listed = ", ".join(sorted(tables)[:4])
            raise StorageError(
                f"{path}: a database of something else (it has the tables {listed}). "
                f"Name another file."
            )
        if not write and "alembic_version" not in tables:  # the last table that Optuna makes
            raise _no_database(path)
        if write:
            connection.execute("BEGIN IMMEDIATE")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute(f"PRAGMA user_version = {version}")
            connection.rollback()
    finally:
        connection.close()


def _lock_file(path: Path, name: str) -> Path:
    folder = path.with_name(f"{path.name}.locks")
    folder.mkdir(exist_ok=True)
    return folder / f"{name}.lock"


def _refuse_network_file_system(folder: Path) -> None:
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return
    kinds = {}
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        _, point, kind, *_ = line.split(" ")
        kinds[Path(point.replace("\\040", " "))] = kind
    here = folder.resolve()
    kind = next((kinds[place] for place in (here, *here.parents) if place in kinds), "")
    if kind in _NETWORK_FILE_SYSTEMS:
        raise StorageError(
            f"{folder} is on a network file system ({kind}), where SQLite's WAL mode corrupts. "
            f"Put the database on a local disk: --storage sqlite:////tmp/study.db."
        )
