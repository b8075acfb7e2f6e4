"""Leases of a confirmation's runs, on both databases."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest
from helpers.workspaces import TINY_STUDY

from gru_optuna import study_file
from gru_optuna.attributes import CONFIRMATION_LEASES, CONFIRMATION_RUNS
from gru_optuna.checkpoints.checkpoint import Saved
from gru_optuna.errors import StudyError
from gru_optuna.storage.database.open import open_engine, open_storage
from gru_optuna.storage.workers.leases import Host, Registration
from gru_optuna.storage.workers.run_leases import (
    EndedRun,
    FinishedRuns,
    RunKey,
    RunLeases,
    remove_weights,
    run_name,
    stored_weights,
)
from gru_optuna.study.study import create_or_resume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study
    from sqlalchemy import Engine

SPEC = study_file.parse(tomllib.loads(TINY_STUDY), source="tiny.toml")
ALL = [(number, index) for index in range(3) for number in (4, 7)]


@pytest.fixture
def study(database_url: str) -> Study:
    """A new study in the database."""
    return create_or_resume(open_storage(database_url, create=True), SPEC, "fingerprint")


@pytest.fixture
def engine(database_url: str, study: Study) -> Engine:
    """Of the database."""
    return open_engine(database_url)


def worker(engine: Engine, study: Study) -> tuple[RunLeases, Registration]:
    """A worker that trains runs."""
    registration = Registration(engine, study._study_id, Host("alpha", 1, "cpu", 2))
    return RunLeases(engine, registration), registration


def left(finished: FinishedRuns) -> Sequence[RunKey]:
    return [key for key in ALL if run_name(key) not in finished]


def test_each_living_worker_has_its_share_and_no_run_has_two_holders(
    study: Study, engine: Engine
) -> None:
    (one, first), (two, second) = worker(engine, study), worker(engine, study)
    assert one.sync({}, 8, left).claimed == tuple(ALL[:3])  # half of them
    synced = two.sync({}, 2, left)
    assert synced.claimed == tuple(ALL[3:5])
    assert (synced.elsewhere, synced.free) == (3, 1)
    synced = one.sync({ALL[0]: EndedRun([0.5, 1, 2])}, 8, left)
    assert (synced.claimed, synced.elsewhere) == ((ALL[5],), 2)
    assert study.user_attrs[CONFIRMATION_RUNS] == {"4/0": [0.5, 1, 2]}
    first.leave()  # what it held is free
    assert two.sync({}, 8, left).claimed == (ALL[1], ALL[2], ALL[5])
    assert two.held[ALL[1]] == 2
    second.leave()


def test_who_has_lost_a_run_writes_nothing_about_it(study: Study, engine: Engine) -> None:
    (one, first), (two, second) = worker(engine, study), worker(engine, study)
    one.sync({}, 3, left)
    first.leave()  # as others see it: it was silent for too long
    two.sync({}, 6, left)
    late = Saved(-1, "1/4-run0-1.safetensors", "", b"late")
    one.sync({ALL[0]: EndedRun([0.25, 1, 2], late)}, 0, left)
    assert study.user_attrs[CONFIRMATION_RUNS] == {}
    assert one.held == {}
    two.sync({ALL[0]: EndedRun([0.5, 1, 2])}, 0, left)
    assert study.user_attrs[CONFIRMATION_RUNS] == {"4/0": [0.5, 1, 2]}
    assert stored_weights(engine, study._study_id, ALL[0]) is None
    second.leave()


def test_a_run_that_is_no_longer_asked_for_is_dropped(study: Study, engine: Engine) -> None:
    one, registration = worker(engine, study)
    one.sync({}, 6, left)
    synced = one.sync({ALL[0]: EndedRun([0.5, 1, 2])}, 0, lambda finished: ALL[1:3])
    assert one.held.keys() == set(ALL[1:3])
    assert (synced.elsewhere, synced.free) == (0, 0)
    assert study.user_attrs[CONFIRMATION_LEASES].keys() == {run_name(key) for key in ALL[1:3]}
    registration.leave()


def test_weights_lie_beside_a_run_until_they_are_removed(study: Study, engine: Engine) -> None:
    for _ in range(5):
        study.tell(study.ask(), 0.5)
    one, registration = worker(engine, study)
    one.sync({}, 1, left)
    saved = Saved(-1, "1/4-run0-1.safetensors", "sha256", b"weights")
    one.sync({ALL[0]: EndedRun([0.5, 1, 2], saved)}, 0, left)
    assert stored_weights(engine, study._study_id, ALL[0]) == saved
    assert stored_weights(engine, study._study_id, ALL[2]) is None
    remove_weights(engine, study._study_id)
    assert stored_weights(engine, study._study_id, ALL[0]) is None
    registration.leave()


def test_the_time_of_the_runs_is_counted_once_for_all_workers(study: Study, engine: Engine) -> None:
    (one, first), (two, second) = worker(engine, study), worker(engine, study)
    for leases in (one, two, one, two):
        leases.sync({}, 0, left)
    attrs = study.user_attrs
    assert 0 < attrs["confirmation_seconds"] == attrs["worked_seconds"]
    first.leave()
    second.leave()


def test_a_study_that_was_deleted_is_said_to_be(study: Study, engine: Engine) -> None:
    import optuna

    one, _ = worker(engine, study)
    optuna.delete_study(study_name=study.study_name, storage=study._storage)
    with pytest.raises(StudyError, match="deleted"):
        one.sync({}, 1, left)
