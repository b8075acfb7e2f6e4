"""SQLite, so that several processes can work on one file.

Optuna leaves SQLite at its defaults (rollback journal, full fsync, 5 s of patience). Here it
runs in WAL mode, waits for other writers, and keeps its foreign keys.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.exceptions import StorageInternalError
from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import SQLAlchemyError

from gru_optuna.errors import StorageError
from gru_optuna.storage.database.tables import refuse_strangers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Engine

BUSY_SECONDS = 60.0
"""How long a statement waits for another writer."""

WORKER_BUSY_SECONDS = 2.0
"""How long a worker's does. It tries again for long, but not deaf to Ctrl-C."""

PROBE_SECONDS = 3.0
"""How long opening waits before it says that the database is locked."""

# On these a memory-mapped WAL index isn't shared between hosts, and SQLite corrupts.
_NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "afs"}


def connect(path: str, busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """A connection as every process here uses it.

    At module level, because Optuna pickles its engine's arguments, and an event listener
    would come too late for the first connection and be lost on the way.
    """
    # IMMEDIATE: a writer waits for its turn at BEGIN, and never fails at an upgrade from reading.
    connection = sqlite3.connect(
        path, timeout=busy_seconds, isolation_level="IMMEDIATE", check_same_thread=False
    )
    # WAL: the dashboard must not block a worker's commit.
    _use_wal(connection)
    # A power cut may lose the last commits, never the database; a killed process loses nothing.
    connection.execute("PRAGMA synchronous=NORMAL")
    # A study deleted in the dashboard takes its leases and checkpoints with it.
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """Turns WAL mode on. Where it is on, that reads one page."""
    give_up = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            # The first of all connections changes the file, and SQLite doesn't wait for that as
            # it waits for a writer: another one that begins at the same moment is an error.
            if "locked" not in str(error) or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            return


@dataclass(frozen=True)
class SQLite:
    """A database in one file."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def url(self) -> str:
        """With everything that is needed to connect."""
        return f"sqlite:///{self.path}"

    @property
    def name(self) -> str:
        """What a file about this database may be called after."""
        return self.path.stem

    @property
    def optuna_arguments(self) -> dict[str, Any]:
        """What Optuna's engine is made with."""
        return {"creator": partial(connect, str(self.path))}

    @property
    def checkpoint_folder(self) -> Path:
        """Where checkpoints lie."""
        return self.path.with_name(f"{self.path.name}.checkpoints")

    @property
    def _locks(self) -> Path:
        return self.path.with_name(f"{self.path.name}.locks")

    @property
    def identity(self) -> tuple[str, ...]:
        """The same for two ways to write the same database."""
        return (str(self.path.resolve()),)

    def engine(self) -> Engine:
        """For a worker: connections that are kept."""
        creator = partial(connect, str(self.path), WORKER_BUSY_SECONDS)
        return create_engine(self.url, creator=creator)

    def passing_engine(self) -> Engine:
        """For a command: nothing is kept open."""
        return create_engine(self.url, creator=partial(connect, str(self.path)), poolclass=NullPool)

    def exists(self) -> bool:
        """Whether there is a file."""
        return self.path.exists()

    def prepare(self) -> None:
        """Makes the folder."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _refuse_network_file_system(self.path.parent)

    def probe(self, *, write: bool) -> None:
        """Looks before anything is written: is it a database, ours, and free?"""
        connection = sqlite3.connect(self.path, timeout=PROBE_SECONDS)
        try:
            query = "SELECT name FROM sqlite_master WHERE type='table' AND name NOT LIKE 'sqlite_%'"
            refuse_strangers(str(self), {name for (name,) in connection.execute(query)})
            if write:
                connection.execute("BEGIN IMMEDIATE")
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                connection.execute(f"PRAGMA user_version = {version}")
                connection.rollback()
        finally:
            connection.close()

    def in_use(self) -> bool:
        """Whether a process on this machine works with it: it holds one of the locks."""
        from filelock import FileLock

        for path in self._locks.glob("*.lock"):
            lock = FileLock(path, timeout=0)
            try:
                lock.acquire()
            except TimeoutError:
                return True
            lock.release()
        return False

    @contextmanager
    def exclusively(self, name: str, timeout: float | None) -> Iterator[None]:
        """See `database.exclusively`. Raises TimeoutError."""
        from filelock import FileLock

        with self.plain_errors():
            self._locks.mkdir(exist_ok=True)
            file = self._locks / f"{name}.lock"
            lock = FileLock(file, timeout=-1 if timeout is None else timeout)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def plain_errors(self) -> Iterator[None]:
        """Says what SQLite and the file system refuse in one sentence."""
        try:
            yield
        except TimeoutError:
            raise
        except (sqlite3.Error, SQLAlchemyError, StorageInternalError) as error:
            cause = error.__cause__ if isinstance(error, StorageInternalError) else error
            explained = _explain(getattr(cause, "orig", None) or cause or error)
            raise StorageError(f"{self}: {explained}") from error
        except OSError as error:
            raise StorageError(f"{self}: {error.strerror or error}. Check the path.") from error


def _explain(error: BaseException) -> str:
    text = str(error)
    for part, explanation in {
        "not a database": "not a SQLite database. Name another file.",
        "locked": "locked by another program. Close it, or wait, and try again.",
        "readonly": "may not be written. Change its permissions, or name another file.",
        "unable to open": "can't be opened. Check the path and its permissions.",
        "disk is full": "the disk is full. Free some space and run the same command again.",
        "malformed": "damaged. Restore a backup, or save what sqlite3's .recover can read.",
    }.items():
        if part in text:
            return explanation
    return text


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
