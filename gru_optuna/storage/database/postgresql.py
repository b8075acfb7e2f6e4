"""PostgreSQL, for workers on several machines."""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from optuna.exceptions import StorageInternalError
from sqlalchemy import NullPool, create_engine, event, func, inspect, select, text
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from gru_optuna.checkpoints.marker import Owner
from gru_optuna.errors import StorageError
from gru_optuna.storage.database.tables import refuse_collisions
from gru_optuna.urls import SHOWN_OPTIONS, masked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL, Connection, Engine

# Defaults that the query of a URL may override.
_DEFAULTS = {
    "connect_timeout": "5",
    "application_name": "gru-optuna",
    # A server that vanished is noticed within a minute; the system's default is two hours.
    "keepalives_idle": "30",
}

PREPARED_STATEMENTS = "prepared_statements"
"""Our own option in the query of a URL; ``false``: the driver prepares no statements."""

# A worker that vanished or was suspended in the middle of a transaction would hold up all others
# with its lock, so the server ends its session.
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
        A URL of the backend "postgresql", with any driver.
    """

    def __init__(self, address: URL) -> None:
        # Only these are shown of the query: it may hold a password, too.
        place = {key: address.query[key] for key in ("host", "port") if key in address.query}
        self._shown = address.set(drivername="postgresql", query=place).render_as_string()
        self.name = address.database or ""
        hidden = (value for key, value in address.query.items() if key not in SHOWN_OPTIONS)
        values = [v for value in hidden for v in ([value] if isinstance(value, str) else value)]
        self._secrets = [value for value in (address.password, *values) if value]
        query = _DEFAULTS | dict(address.query)
        prepares = query.pop(PREPARED_STATEMENTS, "true")
        if prepares not in ("true", "false"):
            raise StorageError(f"{self}: {PREPARED_STATEMENTS} is neither true nor false.")
        # Poolers of connections that give each transaction another one of the server know none.
        self._arguments = {} if prepares == "true" else {"prepare_threshold": None}
        self._address = address.set(drivername="postgresql+psycopg", query=query)

    def __str__(self) -> str:
        return self._shown

    @property
    def url(self) -> str:
        """Everything that is needed to connect, the password included: never shown."""
        return self._address.render_as_string(hide_password=False)

    @property
    def optuna_arguments(self) -> dict[str, Any]:
        """Arguments of Optuna's engine. It keeps no connection, because a worker has its own."""
        return {"poolclass": NullPool, "connect_args": self._arguments}

    @property
    def checkpoint_folder(self) -> None:
        """None: checkpoints are rows of their table."""
        return None

    @property
    def identity(self) -> tuple[str, ...]:
        """Equal for two URLs of the same database."""
        address = self._address
        host = address.host or str(address.query.get("host", ""))
        return (host, str(address.port or address.query.get("port", 5432)), str(self.name))

    def owner(self) -> Owner:
        """The facts that distinguish this database from its copies, for its checkpoints' places."""
        with self.plain_errors(), self.passing_engine().connect() as connection:
            row = connection.execute(
                text(
                    "SELECT oid, (SELECT system_identifier FROM pg_control_system()) "
                    "FROM pg_database WHERE datname = current_database()"
                )
            ).one()
        return Owner(str(self), {"database": str(row[0]), "server": str(row[1])})

    def engine(self) -> Engine:
        """For a worker: one connection and never a second, because a server has few."""
        with self.plain_errors():
            engine = create_engine(
                self._address,
                connect_args=self._arguments,
                pool_size=1,
                max_overflow=0,
                pool_pre_ping=True,
            )
        event.listen(engine, "connect", _set_session)
        event.listen(engine, "after_cursor_execute", _leave_pipeline)
        return engine

    def watch(self, engine: Engine) -> None:
        """Does nothing: a server holds its database itself."""

    def passing_engine(self) -> Engine:
        """For a command: no connection is kept open."""
        return create_engine(self._address, **self.optuna_arguments)

    def exists(self) -> bool:
        """Always true: only connecting shows whether it exists."""
        return True

    def prepare(self) -> None:
        """Does nothing: a database on a server is created there."""

    def probe(self, *, write: bool) -> None:
        """Checks, before anything is written, that it exists and that its tables are ours."""
        with self.passing_engine().connect() as connection:
            refuse_collisions(str(self), set(inspect(connection).get_table_names()))

    def in_use(self) -> bool:
        """Whether another process of ours, on any machine, is connected to it."""
        others = text(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = :name AND pid != pg_backend_pid()"
        )
        with self.passing_engine().connect() as connection:
            return bool(connection.scalar(others, {"name": _DEFAULTS["application_name"]}))

    @contextmanager
    def exclusively(self, name: str, timeout: float | None) -> Iterator[None]:
        """Holds a lock, as `open.exclusively` does; raises TimeoutError."""
        digest = hashlib.sha256(f"gru-optuna {name}".encode()).digest()
        key = int.from_bytes(digest[:8], signed=True)
        with self.plain_errors():
            engine = self.passing_engine()
            event.listen(engine, "connect", _set_session)
            connection = engine.connect()
        # The lock belongs to a transaction, so the server releases it when the process dies. The
        # lock of a session would outlive it in a pooler, which gives the session to somebody else.
        try:
            with self.plain_errors():
                _lock(connection, key, timeout)
            yield
        finally:
            with suppress(SQLAlchemyError):  # lost with its connection
                connection.close()

    @contextmanager
    def plain_errors(self) -> Iterator[None]:
        """Turns errors of the driver and the server into one plain sentence.

        Raises
        ------
        StorageError
            For each of them.
        """
        try:
            yield
        except ImportError as error:
            raise StorageError(
                f"{self}: the driver is missing. Try: pip install 'gru-optuna[postgres]'"
            ) from error
        except (SQLAlchemyError, StorageInternalError) as error:
            cause = error.__cause__ if isinstance(error, StorageInternalError) else error
            raise StorageError(f"{self}: {self._explain(cause or error)}") from error

    def _explain(self, error: BaseException) -> str:
        cause = getattr(error, "orig", None) or error
        text = " ".join(str(cause).split())
        for secret in self._secrets:  # drivers and servers repeat options that they don't accept
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
        text = masked(text)
        for part, explanation in {
            "password": "the user name or the password is wrong.",
            "no pg_hba.conf entry": (
                "the server accepts no connection from here: see its pg_hba.conf."
            ),
            f'database "{self.name}" does not exist': (
                f"there is no such database. Create it on the server: createdb {self.name}"
            ),
            'role "': "the user name or the password is wrong.",
            "too many clients": "the server has no connection left. Stop a worker, or raise "
            "its max_connections.",
            "connection slots": "the server has no connection left. Stop a worker, or raise "
            "its max_connections.",
            "permission denied for schema": (
                "this user may not create tables. As the database's owner, run: "
                f"GRANT CREATE ON SCHEMA public TO {self._address.username};"
            ),
            "read-only transaction": "this server is read-only. Name the primary server.",
        }.items():
            if part in text:
                return explanation
        if isinstance(error, OperationalError) and "connect" in text:
            reason = text.removeprefix("connection failed: ")
            return f"can't be reached ({reason}). Check host and port, and that the server runs."
        return text


def _set_session(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        for setting in _SESSION:
            cursor.execute(setting)
    connection.commit()


def _leave_pipeline(connection: Connection, *details: Any) -> None:
    *_, executemany = details
    if executemany:
        # The driver sends many rows in a pipeline, after which the server (PostgreSQL 18) doesn't
        # count the time that a transaction is idle: a suspended worker would keep its lock.
        connection.connection.driver_connection.execute("SELECT 1")  # type: ignore[union-attr]


def _lock(connection: Connection, key: int, timeout: float | None) -> None:
    if timeout == 0:
        if not connection.scalar(select(func.pg_try_advisory_xact_lock(key))):
            raise TimeoutError
    elif timeout is not None:
        _set_here(connection, "lock_timeout", f"{max(1, round(timeout * 1000))}ms")
    # The work under the lock is done in other transactions, while this one is idle.
    _set_here(connection, "idle_in_transaction_session_timeout", "0")
    if (connection.dialect.server_version_info or ()) >= (17,):
        _set_here(connection, "transaction_timeout", "0")
    try:
        connection.execute(select(func.pg_advisory_xact_lock(key)))
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == "55P03":  # lock_not_available
            raise TimeoutError from None
        raise


def _set_here(connection: Connection, setting: str, value: str) -> None:
    """Changes a setting until the transaction ends."""
    connection.execute(select(func.set_config(setting, value, True)))
