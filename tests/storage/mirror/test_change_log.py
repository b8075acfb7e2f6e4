"""What has changed since the last look, whoever changed it: nothing is missed or read twice."""

from __future__ import annotations

import shutil
import threading
import time
from typing import TYPE_CHECKING

import optuna
import pytest
from helpers.mirrors import Worker, make
from helpers.storage_rows import checked, execute, run
from helpers.workspaces import REPOSITORY
from optuna.trial import TrialState
from sqlalchemy import text, update

from gru_optuna.storage.database import schema
from gru_optuna.storage.database.open import locate, lock_study, open_engine, open_storage
from gru_optuna.storage.database.tables import changes, trials
from gru_optuna.storage.mirror.change_log import Position, read_changed, read_position
from gru_optuna.storage.workers.heartbeats import BEATS_A_LEASE
from gru_optuna.storage.workers.leases import end_leases

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from optuna import Study


class Looks:
    """Looks at a study again and again, as a worker does."""

    def __init__(self, url: str, study: Study) -> None:
        self._engine, self._study_id = open_engine(url), study._study_id
        with self._engine.connect() as connection:
            self._position: Position = read_position(connection, self._study_id)

    def changed(self) -> list[int]:
        """Ids of the trials that have changed since the last look."""
        with self._engine.connect() as connection:
            found, self._position = read_changed(connection, self._study_id, self._position)
        return sorted(found)


CHANGES: dict[str, Callable[[Study, optuna.Trial], object]] = {
    "a parameter": lambda study, trial: trial.suggest_float("x", 0, 1),
    "a report": lambda study, trial: trial.report(0.5, 1),
    "an attribute": lambda study, trial: trial.set_user_attr("a", 1),
    "a system attribute": lambda study, trial: study._storage.set_trial_system_attr(
        trial._trial_id, "a", 1
    ),
    "its end": lambda study, trial: study.tell(trial, 0.5),
    "its failure": lambda study, trial: study.tell(trial, state=TrialState.FAIL),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_plain_optuna_changes_is_noticed_once(database_url: str, change: str) -> None:
    study = make(database_url)
    trial, other = study.ask(), make(database_url, "another study").ask()
    looks = Looks(database_url, study)
    assert looks.changed() == []
    other.report(0.5, 1)
    assert looks.changed() == []
    CHANGES[change](study, trial)
    assert looks.changed() == [trial._trial_id]
    assert looks.changed() == []


def test_new_trials_are_noticed(database_url: str) -> None:
    study = make(database_url)
    looks = Looks(database_url, study)
    study.enqueue_trial({"x": 0.5})
    asked = study.ask()
    assert looks.changed() == [asked._trial_id]
    study.enqueue_trial({"x": 0.25})
    assert looks.changed() == [asked._trial_id + 1]


def test_an_attribute_that_gets_another_value_is_noticed(database_url: str) -> None:
    study = make(database_url)
    trial = study.ask()
    trial.set_user_attr("a", 1)
    looks = Looks(database_url, study)
    trial.set_user_attr("a", 2)
    assert looks.changed() == [trial._trial_id]


def test_a_transaction_that_ends_after_a_later_one_is_not_missed(
    new_postgresql: Callable[[], str],
) -> None:
    url = new_postgresql()
    study = make(url)
    first, second = study.ask(), study.ask()
    looks = Looks(url, study)

    def end(trial: optuna.Trial) -> object:
        return update(trials).where(trials.c.trial_id == trial._trial_id).values(state="FAIL")

    with open_engine(url).begin() as earlier:
        earlier.execute(end(first))
        with open_engine(url).begin() as later:
            later.execute(end(second))
        assert looks.changed() == [second._trial_id]
    assert looks.changed() == [first._trial_id]
    assert looks.changed() == []


def test_transactions_of_another_server_are_no_changes(
    new_postgresql: Callable[[], str],
) -> None:
    url = new_postgresql()
    study = make(url)
    trial = study.ask()
    with open_engine(url).begin() as connection:  # as a restored dump has it
        connection.execute(update(changes).values(xid=2**60))
    looks = Looks(url, study)
    assert looks.changed() == []
    trial.report(0.5, 1)
    assert looks.changed() == [trial._trial_id]


def test_numbers_of_a_deleted_study_are_not_used_again(database_url: str) -> None:
    study, other = make(database_url), make(database_url, "other")
    trial = study.ask()
    for _ in range(20):
        other.ask()
    looks = Looks(database_url, study)
    optuna.delete_study(study_name="other", storage=open_storage(database_url))
    trial.report(0.5, 1)
    assert looks.changed() == [trial._trial_id]


# --- the database that it needs ---


def test_a_database_of_version_0_1_0_gets_the_table_when_it_is_opened(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "tests/study/assets/studies-0.1.0.db", tmp_path / "old.db")
    url = f"sqlite:///{tmp_path / 'old.db'}"
    with locate(url).passing_engine().connect() as connection:
        assert schema.stored(connection).ours == "0001"
        assert schema.lacks_additions(connection)
    names = {study.study_name for study in open_storage(url).get_all_studies()}
    assert names
    with locate(url).passing_engine().connect() as connection:
        assert schema.stored(connection) == schema.newest()
    study = optuna.load_study(study_name=min(names), storage=open_storage(url))
    looks = Looks(url, study)
    trial = study.ask()
    assert looks.changed() == [trial._trial_id]


def test_lost_triggers_are_found_and_made_again(database_url: str) -> None:
    study = make(database_url)
    on = "" if database_url.startswith("sqlite") else " ON trial_params"
    name = "gru_optuna_trial_params" + ("" if on else "_INSERT")
    execute(database_url, f"DROP TRIGGER {name}{on}")
    assert "don't notice all changes of trial_params" in checked(database_url)["tables"]
    run("upgrade", "--storage", database_url)
    assert "tables" not in checked(database_url, code=0)
    looks = Looks(database_url, study)
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    assert looks.changed() == [trial._trial_id]


# --- who waits for whom ---


def test_a_commit_that_claims_nothing_does_not_wait_for_the_study(
    new_postgresql: Callable[[], str],
) -> None:
    url = new_postgresql()
    worker = Worker(url)
    ((number, _),) = worker.claim(1).items()
    worker.mirror.trial(number).report(0.5, 1)
    with open_engine(url).begin() as other:
        assert lock_study(other, worker.registration.study_id)
        other.execute(text("SET LOCAL lock_timeout = '5s'"))
        worker.mirror.sync()  # would wait for ever
    assert make(url).trials[number].intermediate_values == {1: 0.5}


def watch_in_vain(worker: Worker) -> None:
    """Lets a worker have seen for two leases that no other one beats; it takes over nothing yet."""
    lease = worker.registration.lease_seconds
    began = time.monotonic() - 2 * lease
    with worker.engine.connect() as connection:
        for beat in range(2 * BEATS_A_LEASE):
            worker.registration._watch(connection, began + beat * lease / BEATS_A_LEASE)


def test_a_trial_that_a_silent_worker_ends_just_now_is_not_taken_over(
    new_postgresql: Callable[[], str],
) -> None:
    url = new_postgresql()
    silent, other = Worker(url), Worker(url)
    (number,) = silent.claim(1)
    watch_in_vain(other)
    trial_id = make(url).trials[number]._trial_id
    claimed: list[dict[int, bool]] = []
    with silent.engine.begin() as commit:
        assert silent.registration.held(commit) == {trial_id: 1}
        taking = threading.Thread(target=lambda: claimed.append(other.claim(1, limit=1)))
        taking.start()
        taking.join(0.5)
        assert taking.is_alive()  # it waits for this commit
        commit.execute(update(trials).where(trials.c.trial_id == trial_id).values(state="FAIL"))
        end_leases(commit, [trial_id])
    taking.join()
    assert claimed == [{}]
