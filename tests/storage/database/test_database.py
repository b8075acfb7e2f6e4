"""What holds on every database, SQLite and PostgreSQL."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import optuna
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import Connection, func, insert, inspect, select, text

from gru_optuna.errors import StorageError
from gru_optuna.storage.database import schema, tables
from gru_optuna.storage.database.open import (
    begin_writing,
    exclusively,
    locate,
    lock_study,
    now,
    open_engine,
    open_storage,
    upgrade_storage,
)

if TYPE_CHECKING:
    from pathlib import Path

    from optuna import Study


@pytest.fixture
def database_url(empty_database_url: str) -> str:
    """A fresh, empty database of each kind."""
    return empty_database_url


def names_of_tables(url: str) -> set[str]:
    with locate(url).passing_engine().connect() as connection:
        return set(inspect(connection).get_table_names())


def execute(url: str, *statements: str) -> None:
    with locate(url).passing_engine().begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def refusal(url: str, *, create: bool = False) -> str:
    with pytest.raises(StorageError) as caught:
        open_storage(url, create=create)
    return str(caught.value).removeprefix(str(locate(url)))


def new_study(url: str, name: str = "x") -> Study:
    return optuna.create_study(storage=open_storage(url, create=True), study_name=name)


def hold(connection: Connection, study: Study, trial_id: int) -> None:
    """A row in each of our tables."""
    moment = now(connection)
    made = connection.execute(
        insert(tables.workers).values(
            study_id=study._study_id,
            host="here",
            process=1,
            device="cpu",
            slots=4,
            started_at=moment,
            beaten_at=moment,
        )
    )
    (worker,) = made.inserted_primary_key or (None,)
    connection.execute(
        insert(tables.leases).values(
            trial_id=trial_id, study_id=study._study_id, worker_id=worker, token=1
        )
    )
    connection.execute(
        insert(tables.checkpoints).values(trial_id=trial_id, epoch=3, name="x", sha256="0" * 64)
    )


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Another process, that says "ready" and then waits for a line."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout
    assert process.stdout.readline() == "ready\n"


# --- the first run ---


def test_looking_makes_nothing(database_url: str) -> None:
    assert refusal(database_url).startswith(": there is no database yet. Create it with")
    if database_url.startswith("postgresql"):
        assert names_of_tables(database_url) == set()


def test_making_it_twice_is_making_it_once(database_url: str) -> None:
    new_study(database_url)
    assert len(open_storage(database_url, create=True).get_all_studies()) == 1
    assert len(open_storage(database_url).get_all_studies()) == 1


EIGHT = """
import multiprocessing, sys, optuna
from gru_optuna.storage.database.open import open_storage

def create_study(number):
    together.wait()
    storage = open_storage(sys.argv[1], create=True)
    optuna.create_study(storage=storage, study_name=f"study {number}")

forked = multiprocessing.get_context("fork")  # what they import is imported once
together = forked.Barrier(8)
processes = [forked.Process(target=create_study, args=(number,)) for number in range(8)]
for process in processes:
    process.start()
for process in processes:
    process.join()
sys.exit([process.exitcode for process in processes] != [0] * 8)
"""


def test_eight_processes_may_open_a_fresh_database_at_once(database_url: str) -> None:
    started = start(EIGHT, database_url)
    _, errors = started.communicate(timeout=120)
    assert started.returncode == 0, errors
    assert len(open_storage(database_url).get_all_studies()) == 8


def test_threads_of_a_process_make_a_database_each(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path / f'{number}.db'}" for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(partial(open_storage, create=True), urls))
    assert [storage.get_all_studies() for storage in made] == [[]] * 8


def test_a_first_run_that_was_killed_is_completed_by_the_next(database_url: str) -> None:
    locate(database_url).prepare()
    RDBStorage(locate(database_url).url)  # as an earlier version, killed before ours were made
    assert refusal(database_url).startswith(": there is no database yet.")
    assert new_study(database_url).trials == []


def test_a_pickled_storage_opens_the_same_database(database_url: str) -> None:
    new_study(database_url)
    copy = pickle.loads(pickle.dumps(open_storage(database_url)))  # noqa: S301
    assert optuna.load_study(storage=copy, study_name="x").trials == []


# --- the tables ---


def test_the_migrations_make_what_tables_declares(database_url: str) -> None:
    new_study(database_url)
    with locate(database_url).passing_engine().connect() as connection:
        options = {
            "include_name": lambda name, kind, parents: (
                kind != "table" or name in tables.metadata.tables
            ),
            "compare_server_default": True,
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, tables.metadata) == []


def test_a_workers_number_is_never_given_again(database_url: str) -> None:
    study = new_study(database_url)
    trial = study.ask()
    engine = open_engine(database_url)
    for expected in (1, 2):
        with engine.begin() as connection:
            hold(connection, study, trial._trial_id)
            assert connection.scalar(select(tables.workers.c.worker_id)) == expected
            connection.execute(tables.leases.delete())
            connection.execute(tables.checkpoints.delete())
            connection.execute(tables.workers.delete())


def test_a_deleted_study_takes_its_leases_and_checkpoints_with_it(database_url: str) -> None:
    study = new_study(database_url)
    trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    trial.report(0.5, 1)
    engine = open_engine(database_url)
    with engine.begin() as connection:
        hold(connection, study, trial._trial_id)
    optuna.delete_study(study_name="x", storage=open_storage(database_url))
    with engine.begin() as connection:
        for table in tables.metadata.sorted_tables:
            assert connection.scalar(select(func.count()).select_from(table)) == 0, table.name


def test_a_study_is_deleted_even_if_a_worker_writes_to_it_meanwhile(
    database_url: str,
) -> None:
    """The worker's transaction is waited for, and what it has inserted goes, too."""
    study, other = new_study(database_url), new_study(database_url, "other")
    study.ask()
    other.ask().report(0.5, 1)
    deleter = threading.Thread(
        target=optuna.delete_study,
        kwargs={"study_name": "x", "storage": open_storage(database_url)},
    )
    with open_engine(database_url).begin() as connection:
        assert begin_writing(connection, study._study_id, lock=False)
        deleter.start()
        deleter.join(0.3)
        assert deleter.is_alive()
        trial = connection.scalar(
            insert(tables.trials)
            .values(study_id=study._study_id, number=1, state=TrialState.RUNNING)
            .returning(tables.trials.c.trial_id)
        )
        report = {"trial_id": trial, "step": 1, "intermediate_value_type": "FINITE"}
        table = models.TrialIntermediateValueModel.__table__
        connection.execute(insert(table).values(**report, intermediate_value=0.5))
    deleter.join(60)
    storage = open_storage(database_url)
    assert [found.study_name for found in storage.get_all_studies()] == ["other"]
    assert other.trials[0].intermediate_values == {1: 0.5}
    with pytest.raises(KeyError, match="No study with study_id"):
        storage.delete_study(study._study_id)


# --- older and newer ones ---

OLDER = (
    " was made by an older gru-optuna. Back it up with gru-optuna storage backup, "
    "then run gru-optuna storage upgrade."
)


def plain_optuna(url: str) -> None:
    locate(url).prepare()
    plain = RDBStorage(locate(url).url)
    optuna.create_study(storage=plain, study_name="plain").ask()
    plain.remove_session()
    plain.engine.dispose()


@pytest.mark.parametrize("create", [False, True])
def test_a_database_without_our_tables_is_upgraded_first(database_url: str, create: bool) -> None:
    plain_optuna(database_url)
    assert refusal(database_url, create=create) == OLDER
    before, after = upgrade_storage(database_url)
    assert (before.ours, after.ours) == (None, "0004")
    (study,) = open_storage(database_url, create=create).get_all_studies()
    assert study.study_name == "plain"
    assert upgrade_storage(database_url) == (after, after)


def test_an_older_optunas_tables_are_upgraded_too(database_url: str) -> None:
    new_study(database_url)
    execute(database_url, "UPDATE alembic_version SET version_num = 'v3.0.0.d'")
    assert refusal(database_url) == OLDER
    before, after = upgrade_storage(database_url)
    assert (before.optuna, after.optuna) == ("v3.0.0.d", "v3.2.0.a")
    assert len(open_storage(database_url).get_all_studies()) == 1


@pytest.mark.parametrize("table", ["alembic_version", schema.VERSION_TABLE])
def test_a_newer_ones_tables_are_left_alone(database_url: str, table: str) -> None:
    new_study(database_url)
    execute(database_url, f"UPDATE {table} SET version_num = '9999'")  # noqa: S608
    message = (
        " was made by a newer gru-optuna or Optuna (revision 9999). "
        "Update this one: pip install --upgrade gru-optuna optuna"
    )
    assert refusal(database_url) == refusal(database_url, create=True) == message
    with pytest.raises(StorageError, match="made by a newer"):
        upgrade_storage(database_url)


# --- one at a time ---


def test_a_study_is_locked_until_the_transaction_ends(database_url: str) -> None:
    study = new_study(database_url)
    order: list[str] = []
    locked = threading.Event()

    def other() -> None:
        locked.wait()
        with open_engine(database_url).begin() as connection:
            assert lock_study(connection, study._study_id)
            key = connection.scalar(select(schema.models.StudyUserAttributeModel.key))
            order.append(f"the second reads {key}")

    thread = threading.Thread(target=other)
    thread.start()
    with open_engine(database_url).begin() as connection:
        assert lock_study(connection, study._study_id)
        locked.set()
        time.sleep(0.3)
        connection.execute(
            insert(schema.models.StudyUserAttributeModel.__table__).values(
                study_id=study._study_id, key="what the first wrote", value_json="1"
            )
        )
        order.append("the first writes")
    thread.join(20)
    assert order == ["the first writes", "the second reads what the first wrote"]


def test_a_study_that_was_deleted_cant_be_locked(database_url: str) -> None:
    new_study(database_url)
    with open_engine(database_url).begin() as connection:
        assert not lock_study(connection, 99)


def test_the_databases_clock_tells_utc(database_url: str) -> None:
    new_study(database_url)
    with open_engine(database_url).begin() as connection:
        first = now(connection)
        assert abs(first - datetime.now(UTC).replace(tzinfo=None)) < timedelta(seconds=10)
        time.sleep(0.01)
        assert now(connection) > first  # within one transaction, too


HOLDER = (
    "import sys\n"
    "from gru_optuna.storage.database.open import exclusively\n"
    "with exclusively(sys.argv[1], 'study-音'):\n"
    "    print('ready', flush=True); sys.stdin.readline()\n"
)


def test_one_process_is_inside_until_it_is_gone(database_url: str) -> None:
    new_study(database_url)
    holder = start(HOLDER, database_url)
    try:
        wait_until_ready(holder)
        for timeout in (0, 0.2):
            with (
                pytest.raises(StorageError, match=f"still busy with study-音 after {timeout} s"),
                exclusively(database_url, "study-音", timeout=timeout),
            ):
                pass
        with exclusively(database_url, "another", timeout=0):
            pass
    finally:
        holder.kill()  # SIGKILL: it has no time to let go
        holder.communicate()
    with exclusively(database_url, "study-音", timeout=60):
        pass


def test_one_is_outside_again_after_an_error(database_url: str) -> None:
    new_study(database_url)
    with pytest.raises(ZeroDivisionError), exclusively(database_url, "x"):
        raise ZeroDivisionError
    with exclusively(database_url, "x", timeout=0):
        pass


def test_the_longest_name_in_any_script_will_do(database_url: str) -> None:
    new_study(database_url)
    with exclusively(database_url, "音" * 50, timeout=0):
        pass


# --- URLs ---


def test_another_kind_of_database_is_refused_without_its_password() -> None:
    with pytest.raises(StorageError, match="in SQLite or PostgreSQL") as caught:
        open_storage("mysql://me:secret@host/db")
    assert "mysql://me:***@host/db" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:secret@host:port/db",
        "postgresql:/me:secret@host/db",
        "postgresql:/me:my:secret@host/db",
        "postgresql:/me:se?secret@host/db",
        "postgresql:/host/db?password=secret",
        "postgresql://me:my@secret@host/db",
        "postgresql://me:secret@host",
        "sqlite://me:secret@host/x.db",
        "sqlite:///x.db?password=secret",
        "mysql://host/db?password=secret",
    ],
)
def test_a_password_anywhere_in_a_url_is_not_repeated(address: str) -> None:
    with pytest.raises(StorageError) as caught:
        open_storage(address)
    assert "secret" not in str(caught.value)
