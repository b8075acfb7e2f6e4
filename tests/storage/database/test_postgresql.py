"""PostgreSQL: what can go wrong with a server, told plainly and without its password."""

from __future__ import annotations

import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import optuna
import psycopg
import pytest
from sqlalchemy import func, insert, make_url, select

from gru_optuna.errors import StorageError
from gru_optuna.storage.database.open import locate, open_engine, open_storage, shown_url
from gru_optuna.storage.database.tables import studies

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def url(new_postgresql: Callable[[], str]) -> str:
    return new_postgresql()


@pytest.fixture
def guarded(url: str) -> str:
    """The same database for a user who needs the password "secret" and owns nothing."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS guest")
        connection.execute("CREATE ROLE guest LOGIN PASSWORD 'secret'")
        (rules,) = connection.execute("SHOW hba_file").fetchone() or ("",)
        with open(rules, "r+", encoding="utf-8") as file:  # noqa: PTH123
            before = file.read()
            if "guest" not in before:
                file.seek(0)
                file.write(f"local all guest scram-sha-256\n{before}")
        connection.execute("SELECT pg_reload_conf()")
    for _ in range(100):  # the server rereads its rules when it gets to it
        with suppress(psycopg.OperationalError), psycopg.connect(url, user="guest", password="no"):  # noqa: S106
            time.sleep(0.05)
            continue
        break
    return changed(url, username="guest", password="secret")  # noqa: S106


def changed(url: str, **parts: str) -> str:
    return make_url(url).set(**parts).render_as_string(hide_password=False)  # type: ignore[arg-type]


def refusal(url: str, *, create: bool = False) -> str:
    with pytest.raises(StorageError) as caught:
        open_storage(url, create=create)
    assert "secret" not in str(caught.value)
    return str(caught.value).removeprefix(f"{locate(url)}: ")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_scheme_means_the_same_driver(url: str, scheme: str) -> None:
    address = url.replace("postgresql", scheme, 1)
    assert open_storage(address, create=True).get_all_studies() == []
    assert open_engine(address).url.drivername == "postgresql+psycopg"
    assert str(locate(address)) == str(locate(url))


def test_a_worker_holds_one_connection(url: str) -> None:
    study = optuna.create_study(storage=open_storage(url, create=True), study_name="x")
    study.tell(study.ask(), 1.0)
    engine = open_engine(url)
    for _ in range(3):
        with engine.begin() as connection:
            assert connection.scalar(select(func.count()).select_from(studies)) == 1
    study.trials  # noqa: B018 (through Optuna's own engine)
    with psycopg.connect(url) as other:
        query = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'gru-optuna'"
        )
        assert other.execute(query).fetchone() == (1,)


def test_a_worker_survives_a_restarted_server(url: str) -> None:
    open_storage(url, create=True)
    engine = open_engine(url)
    with engine.begin() as connection:
        mine = connection.scalar(select(func.pg_backend_pid()))
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [mine])
        while other.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [mine]).fetchone():
            time.sleep(0.01)
    with engine.begin() as connection:
        assert connection.scalar(select(func.count()).select_from(studies)) == 0


def test_a_suspended_worker_lets_go_of_its_locks(url: str) -> None:
    with open_engine(url).begin() as connection:
        setting = "idle_in_transaction_session_timeout"
        assert connection.scalar(select(func.current_setting(setting))) == "1min"


def test_a_worker_that_was_suspended_after_writing_many_rows_lets_go_too(url: str) -> None:
    """The driver sends many rows in a pipeline, after which the server doesn't count the time."""
    open_storage(url, create=True)
    with open_engine(url).connect() as worker, psycopg.connect(url, autocommit=True) as other:
        worker.exec_driver_sql("SET idle_in_transaction_session_timeout = '100ms'")
        mine = worker.scalar(select(func.pg_backend_pid()))
        worker.execute(insert(studies), [{"study_name": name} for name in "abc"])
        give_up = time.monotonic() + 30
        while other.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [mine]).fetchone():
            assert time.monotonic() < give_up
            time.sleep(0.01)
        worker.invalidate()


def test_a_url_may_switch_prepared_statements_off(url: str) -> None:
    with open_engine(url).connect() as connection:
        assert connection.connection.driver_connection.prepare_threshold == 5  # type: ignore[union-attr]
    off = make_url(url).update_query_dict({"prepared_statements": "false"})
    with open_engine(off.render_as_string(hide_password=False)).connect() as connection:
        assert connection.connection.driver_connection.prepare_threshold is None  # type: ignore[union-attr]
    neither = make_url(url).update_query_dict({"prepared_statements": "no"})
    with pytest.raises(StorageError, match="prepared_statements is neither true nor false"):
        open_engine(neither.render_as_string(hide_password=False))


@pytest.mark.parametrize("create", [False, True])
def test_a_wrong_password_is_reported_and_not_repeated(guarded: str, create: bool) -> None:
    wrong = changed(guarded, password="not secret")  # noqa: S106
    assert refusal(wrong, create=create) == "the user name or the password is wrong."
    nobody = changed(guarded, username="nobody")
    assert refusal(nobody, create=create) == "the user name or the password is wrong."


def test_a_user_who_may_make_no_tables_is_reported(guarded: str) -> None:
    assert refusal(guarded, create=True) == (
        "this user may not create tables. As the database's owner, run: "
        "GRANT CREATE ON SCHEMA public TO guest;"
    )


def test_a_database_that_is_not_there_is_told(url: str) -> None:
    assert refusal(changed(url, database="nowhere")) == (
        "there is no such database. Create it on the server: createdb nowhere"
    )


def test_a_server_that_is_not_there_is_reported_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        port = taken.getsockname()[1]
        message = refusal(f"postgresql://me:secret@127.0.0.1:{port}/db", create=True)
    assert message.startswith("can't be reached (")
    assert message.endswith("Check host and port, and that the server runs.")
    assert "\n" not in message


def test_a_server_that_does_not_answer_is_given_up() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        message = refusal(f"postgresql://me:secret@127.0.0.1:{port}/db?connect_timeout=2")
    assert message.startswith("can't be reached (")


def test_a_missing_driver_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    message = "the driver is missing. Try: pip install 'gru-optuna[postgres]'"
    assert refusal(url) == refusal(url, create=True) == message


def test_tables_of_another_program_may_stand_beside_ours(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    assert open_storage(url, create=True).get_all_studies() == []


def test_tables_of_another_program_with_the_same_names_are_left_alone(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE trials (patient TEXT)")
        for create in (False, True):
            assert refusal(url, create=create) == (
                "a database of another program (with the tables trials). Name another one."
            )
        query = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        assert connection.execute(query).fetchone() == (1,)


def test_what_is_shown_holds_no_secret(tmp_path: Path) -> None:
    assert shown_url("postgres://me:secret@host/db") == "postgresql://me:***@host/db"
    assert shown_url("postgresql://host/db?password=secret") == "postgresql://host/db"
    assert shown_url("sqlite:///x.db") == "sqlite:///x.db"


def test_an_unknown_option_is_told(url: str) -> None:
    assert "speed" in refusal(f"{url}&speed=high")
