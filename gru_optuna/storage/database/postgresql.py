"""PostgreSQL, for workers on several machines."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from optuna.exceptions import StorageInternalError
from sqlalchemy import NullPool, create_engine, event, func, inspect, select, text
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from gru_optuna.errors import StorageError
from gru_optuna.storage.database.tables import refuse_collisions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL, Connection, Engine

# What a URL may set differently, in its query.
_DEFAULTS = {
    "connect_timeout": "5",
    "application_name": "gru-optuna",
    # A server that vanished is noticed within a minute, not within two hours.
    "keepalives_idle": "30",
}

# A worker that vanished or is suspended in the middle of a transaction holds up all others; the
# server lets it go.
_SESSION = (
    "SET tcp_keepalives_idle = 30",
    "SET tcp_keepalives_interval = 10",
    "SET tcp_keepalives_count = 3",
    "SET idle_in_transaction_session_timeout = '60s'",
)


class PostgreSQL:
    """A database on a server.

    Parameters
    ----------
    address
        A URL of the backend "postgresql", whatever its driver.
    """

    def __init__(self, address: URL) -> None:
        # A password may stand in the query, too.
        place = {key: address.query[key] for key in ("host", "port") if key in address.query}
        self._shown = address.set(drivername="postgresql", query=place).render_as_string()
        self.name = address.database or ""
        self._address = address.set(
            drivername="postgresql+psycopg", query=_DEFAULTS | dict(address.query)
        )

    def __str__(self) -> str:
        return self._shown

    @property
    def url(self) -> str:
        """With everything that is needed to connect: not to be shown."""
        return self._address.render_as_string(hide_password=False)

    @property
    def optuna_arguments(self) -> dict[str, Any]:
        """What Optuna's engine is made with: it keeps no connection, a worker has its own."""
        return {"poolclass": NullPool}

    @property
    def checkpoint_folder(self) -> None:
        """There is none: checkpoints stand in their table."""
        return None

    @property
    def identity(self) -> tuple[str, ...]:
        """The same for two ways to write the same database."""
        address = self._address
        host = address.host or str(address.query.get("host", ""))
        return (host, str(address.port or address.query.get("port", 5432)), str(self.name))

    def engine(self) -> Engine:
        """For a worker: one connection, and never a second one."""
        with self.plain_errors():
            engine = create_engine(self._address, pool_size=1, max_overflow=0, pool_pre_ping=True)
        event.listen(engine, "connect", _set_session)
        return engine

    def passing_engine(self) -> Engine:
        """For a command: nothing is kept open."""
        return create_engine(self._address, poolclass=NullPool)

    def exists(self) -> bool:
        """Only connecting tells."""
        return True

    def prepare(self) -> None:
        """Nothing: whoever runs the server makes the database."""

    def probe(self, *, write: bool) -> None:
        """Looks before anything is written: is it there, and are its tables ours?"""
        with self.passing_engine().connect() as connection:
            refuse_collisions(str(self), set(inspect(connection).get_table_names()))

    def in_use(self) -> bool:
        """Whether one of our processes works with it, on whatever machine."""
        others = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = :name AND pid != pg_backend_pid()"
        )
        with self.passing_engine().connect() as connection:
            return bool(connection.scalar(others, {"name": _DEFAULTS["application_name"]}))

    @contextmanager
    def exclusively(self, name: str, timeout: float | None) -> Iterator[None]:
        """See `database.exclusively`. Raises TimeoutError."""
        digest = hashlib.sha256(f"gru-optuna {name}".encode()).digest()
        key = int.from_bytes(digest[:8], signed=True)
        with self.plain_errors():
            engine = self.passing_engine().execution_options(isolation_level="AUTOCOMMIT")
            event.listen(engine, "connect", _set_session)
            connection = engine.connect()
        # The lock belongs to this connection: the server frees it when the process dies.
        with connection:
            with self.plain_errors():
                _lock(connection, key, timeout)
            try:
                yield
            finally:
                with suppress(SQLAlchemyError):  # lost with its connection
                    connection.execute(select(func.pg_advisory_unlock(key)))

    @contextmanager
    def plain_errors(self) -> Iterator[None]:
        """Says what driver and server refuse in one sentence."""
        try:
            yield
        except ImportError as error:
            raise StorageError(
                f"{self}: the driver is missing. pip install 'gru-optuna[postgres]'"
            ) from error
        except (SQLAlchemyError, StorageInternalError) as error:
            cause = error.__cause__ if isinstance(error, StorageInternalError) else error
            raise StorageError(f"{self}: {self._explain(cause or error)}") from error

    def _explain(self, error: BaseException) -> str:
        cause = getattr(error, "orig", None) or error
        text = " ".join(str(cause).split())
        for part, explanation in {
            "password": "user or password are wrong.",
            "no pg_hba.conf entry": "the server admits nobody from here: see its pg_hba.conf.",
            f'database "{self.name}" does not exist': (
                f"there is no such database. Make it on the server: createdb {self.name}"
            ),
            'role "': "user or password are wrong.",
            "too many clients": "the server has no connection left. Stop a worker, or raise "
            "its max_connections.",
            "connection slots": "the server has no connection left. Stop a worker, or raise "
            "its max_connections.",
            "permission denied for schema": (
                "this user may not make tables. As its owner: "
                f"GRANT CREATE ON SCHEMA public TO {self._address.username};"
            ),
            "read-only transaction": "may only be read. Name the primary server.",
        }.items():
            if part in text:
                return explanation
        if isinstance(error, OperationalError) and "connect" in text:
            reason = text.removeprefix("connection failed: ")
            return f"can't be reached ({reason}). Check host and port, and that it runs."
        return text


def _set_session(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        for setting in _SESSION:
            cursor.execute(setting)
    connection.commit()


def _lock(connection: Connection, key: int, timeout: float | None) -> None:
    if timeout == 0:
        if not connection.scalar(select(func.pg_try_advisory_lock(key))):
            raise TimeoutError
        return
    if timeout is not None:
        limit = f"{max(1, round(timeout * 1000))}ms"
        connection.execute(select(func.set_config("lock_timeout", limit, False)))
    try:
        connection.execute(select(func.pg_advisory_lock(key)))
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == "55P03":  # lock_not_available
            raise TimeoutError from None
        raise
