"""SQLite, set up so that several processes can work on one file.

Optuna leaves SQLite at its defaults: a rollback journal, an fsync for each commit, a time-out of
5 s. Here it runs in WAL mode, waits for other writers, and enforces foreign keys.
"""

from __future__ import annotations

import math
import os
import platform
import re
import sqlite3
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.exceptions import StorageInternalError
from sqlalchemy import NullPool, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from gru_optuna.checkpoints.marker import Owner
from gru_optuna.errors import DatabaseLost, StorageError
from gru_optuna.files import limit_access
from gru_optuna.storage.database.tables import refuse_strangers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

BUSY_SECONDS = 60.0
"""How long a statement waits for another writer."""

WORKER_BUSY_SECONDS = 2.0
"""How long a worker's statement waits. SQLite doesn't notice Ctrl-C while it waits, so a worker
waits in short turns (``retry.py``)."""

PROBE_SECONDS = 3.0
"""How long opening waits before it says that the database is locked."""

# Hosts don't share the memory-mapped WAL index on these, so SQLite would corrupt the file.
_NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "afs"}


def connect(path: str, busy_seconds: float = BUSY_SECONDS) -> sqlite3.Connection:
    """Opens a connection with the settings that all our processes use.

    A function at module level, because Optuna pickles its engine's arguments: an event listener
    would be lost with that, and would miss the first connection.
    """
    connection = _open(Path(path), busy_seconds)
    if not is_writable(Path(path)):
        return connection
    # WAL: the dashboard must not block a worker's commit.
    _use_wal(connection)
    # A power cut may lose the last commits, never the database; a killed process loses nothing.
    connection.execute("PRAGMA synchronous=NORMAL")
    # A study deleted in the dashboard takes its leases and checkpoints with it.
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def is_writable(path: Path) -> bool:
    """Whether this process may write a database: its file, and others next to it."""
    effective = os.access in os.supports_effective_ids
    return all(os.access(p, os.W_OK, effective_ids=effective) for p in (path, path.parent))


def _open(path: Path, busy_seconds: float) -> sqlite3.Connection:
    # rw: if the file was deleted, no empty one may take its place.
    mode = "rw"
    if path.exists() and not is_writable(path):
        # Without its log, SQLite reads a database in WAL mode only if it may create one, or is
        # told that the file doesn't change.
        mode = "ro" if Path(f"{path}-wal").exists() else "ro&immutable=1"
    try:
        # IMMEDIATE: a writer waits for its turn at BEGIN, and never fails at an upgrade from
        # reading.
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=busy_seconds,
            isolation_level="IMMEDIATE",
            check_same_thread=False,
        )
    except sqlite3.OperationalError:
        if not path.exists():  # it existed a moment ago: `prepare` creates it, `existing` checks
            raise DatabaseLost(path) from None
        raise


def _use_wal(connection: sqlite3.Connection) -> None:
    """Turns WAL mode on. Where it is on already, this reads one page."""
    give_up = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            # The very first connection changes the file, and the time-out doesn't apply to that:
            # two that start at the same moment get an error at once.
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
        """Everything that is needed to connect."""
        return f"sqlite:///{self.path}"

    @property
    def name(self) -> str:
        """What a backup of this database is named after."""
        return self.path.stem

    @property
    def optuna_arguments(self) -> dict[str, Any]:
        """Arguments of Optuna's engine."""
        return {"creator": partial(connect, str(self.path))}

    @property
    def checkpoint_folder(self) -> Path:
        """Where checkpoints are kept, unless the study names another place."""
        return self.path.with_name(f"{self.path.name}.checkpoints")

    @property
    def _locks(self) -> Path:
        return self.path.with_name(f"{self.path.name}.locks")

    @property
    def identity(self) -> tuple[str, ...]:
        """Equal for two URLs of the same database."""
        return (str(self.path.resolve()),)

    def owner(self) -> Owner:
        """The facts that distinguish this file from its copies, for its checkpoints' places."""
        path = self.path.resolve()
        facts = {"host": platform.node(), "path": str(path), "inode": str(path.stat().st_ino)}
        return Owner(str(path), facts)

    def engine(self) -> Engine:
        """For a worker: connections are kept open."""
        creator = partial(connect, str(self.path), WORKER_BUSY_SECONDS)
        engine = create_engine(self.url, creator=creator)
        self.watch(engine)
        return engine

    def watch(self, engine: Engine) -> None:
        """Lets an engine raise `DatabaseLost` once its file was deleted, replaced or overwritten.

        SQLite itself would keep writing to the deleted file, which can never be read again.
        """
        opened, log, lost = _identity(self.path), Path(f"{self.path}-wal"), False
        content = _ContentCheck(self.path)

        def look(connection: Connection) -> None:
            nonlocal opened, lost
            opened = opened or _identity(self.path)  # the engine may be older than the file
            # Compared per connection: SQLite keeps the -wal file while a connection is open, and
            # deletes it when the last connection of all processes closes, perhaps after an error.
            here = _identity(log)
            if here is not None:
                connection.info.setdefault("log", here)
            replaced = connection.info.get("log", here) != here
            lost = lost or _identity(self.path) != opened or replaced or content.fails(connection)
            if lost:
                raise DatabaseLost(self.path)

        for moment in ("begin", "commit"):  # a commit that is refused is rolled back
            event.listen(engine, moment, look)

    def passing_engine(self) -> Engine:
        """For a command: no connection is kept open."""
        return create_engine(self.url, creator=partial(connect, str(self.path)), poolclass=NullPool)

    def exists(self) -> bool:
        """Whether there is a file."""
        return self.path.exists()

    def prepare(self) -> None:
        """Creates the folder, and an empty file, which SQLite takes for an empty database."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _refuse_network_file_system(self.path.parent)
        with suppress(OSError):  # it exists, or `probe` says what is wrong
            self.path.touch(exist_ok=False)
            limit_access(self.path)  # SQLite gives its -wal and -shm files the same permissions

    def probe(self, *, write: bool) -> None:
        """Checks, before anything is written, that it is a database, ours, and not locked."""
        # To write, without a look at permissions: SQLite's own error says what is wrong.
        connection = (
            sqlite3.connect(self.path, timeout=PROBE_SECONDS)
            if write
            else _open(self.path, PROBE_SECONDS)
        )
        try:
            query = "SELECT name FROM sqlite_master WHERE type='table' AND name NOT LIKE 'sqlite_%'"
            refuse_strangers(str(self), {name for (name,) in connection.execute(query)})
            if write:
                # A write that changes nothing, rolled back: only trying shows a missing permission.
                connection.execute("BEGIN IMMEDIATE")
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                connection.execute(f"PRAGMA user_version = {version}")
                connection.rollback()
        finally:
            connection.close()

    def in_use(self) -> bool:
        """Whether a process on this machine holds one of the database's locks."""
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
        """Holds a lock, as `open.exclusively` does; raises TimeoutError."""
        from filelock import FileLock

        with self.plain_errors():
            with suppress(FileExistsError):
                self._locks.mkdir()
                limit_access(self._locks)
            # A name may come from a database; names that become alike only wait for each other.
            plain = re.sub(r"[^\w.-]", "_", name)
            file = self._locks / f"{plain}.lock"
            lock = FileLock(file, timeout=-1 if timeout is None else timeout)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def plain_errors(self) -> Iterator[None]:
        """Turns errors of SQLite and the file system into one plain sentence.

        Raises
        ------
        StorageError
            For each of them.
        """
        try:
            yield
        except TimeoutError:
            raise
        except (sqlite3.Error, SQLAlchemyError, StorageInternalError) as error:
            cause = error.__cause__ if isinstance(error, StorageInternalError) else error
            explained = _explain(getattr(cause, "orig", None) or cause or error)
            raise StorageError(f"{self}: {explained}") from error
        except OSError as error:
            where = error.filename or self
            raise StorageError(f"{where}: {error.strerror or error}. Check the path.") from error


class _ContentCheck:
    """Notices that a program other than SQLite overwrote a database's file, such as ``cp``.

    In WAL mode only checkpoints of the log write to the file, so that a check after each of them
    is enough. It reads the whole file, so large files are checked less often.
    """

    _SHARE = 0.02  # of the time

    def __init__(self, path: Path) -> None:
        self._path = path
        self._checked = self._written()
        self._next = -math.inf

    def fails(self, connection: Connection) -> bool:
        """Whether the file has changed since the last check, and is no whole database now."""
        written, began = self._written(), time.monotonic()
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        self._checked = self._checked or written  # the engine may be older than the file
        if written == self._checked or began < self._next or driver.in_transaction:
            return False
        try:
            # Otherwise SQLite would look at the pages that it read before.
            driver.execute("PRAGMA shrink_memory")
            whole = driver.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]
        except sqlite3.DatabaseError as error:
            if "locked" in str(error):
                return False
            whole = False
        ended = time.monotonic()
        self._checked, self._next = written, ended + (ended - began) / self._SHARE
        return not whole

    def _written(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_size


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode; None if there is no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _explain(error: BaseException) -> str:
    text = str(error)
    for part, explanation in {
        "not a database": "not a SQLite database. Name another file.",
        "locked": "locked by another program. Close it, or wait, and try again.",
        "readonly": "read-only. Change its permissions, or name another file.",
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
            f"{folder} is on a network file system ({kind}), where SQLite in WAL mode can "
            f"corrupt the database. "
            f"Put the database on a local disk: --storage sqlite:////tmp/study.db."
        )
