"""Who works on a study, as `status` shows it and as `tune` watches it; on both databases."""

from __future__ import annotations

import json
import tomllib
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from helpers.workspaces import TINY_STUDY
from optuna.trial import TrialState
from sqlalchemy import update
from typer.testing import CliRunner

from gru_optuna import study_file
from gru_optuna.attributes import BUDGET
from gru_optuna.cli import app
from gru_optuna.storage.database.open import lock_study, open_engine, open_storage
from gru_optuna.storage.database.tables import workers
from gru_optuna.storage.mirror.mirror import Mirror
from gru_optuna.storage.paused_trials import PAUSED
from gru_optuna.storage.workers.heartbeats import LEASE_SECONDS
from gru_optuna.storage.workers.leases import Host, Registration
from gru_optuna.storage.workers.run_leases import EndedRun, RunLeases
from gru_optuna.storage.workers.status import read_workers
from gru_optuna.study.study import create_or_resume
from gru_optuna.study.trial_attributes import BEST_EPOCH
from gru_optuna.study_file import Budget, Confirmation
from gru_optuna.worker.events import (
    BudgetChanged,
    Confirming,
    EpochTrained,
    TrialEnded,
    TrialPaused,
    TrialStarted,
)
from gru_optuna.worker.watcher import Watcher

if TYPE_CHECKING:
    from optuna import Study
    from sqlalchemy import Engine

SPEC = study_file.parse(tomllib.loads(TINY_STUDY), source="tiny.toml")


@pytest.fixture
def study(database_url: str) -> Study:
    """A new study in the database."""
    return create_or_resume(open_storage(database_url, create=True), SPEC, "fingerprint")


@pytest.fixture
def engine(database_url: str, study: Study) -> Engine:
    """Of the database."""
    return open_engine(database_url)


def join(engine: Engine, study: Study, process: int) -> tuple[Registration, Mirror]:
    """A worker of two slots."""
    host = Host("alpha", process, "cpu", 2)
    registration = Registration(engine, study._study_id, host)
    return registration, Mirror(study, engine, registration)


def silence(engine: Engine, worker: Registration, seconds: float) -> None:
    """Sets a worker's last beat back."""
    with engine.begin() as connection:
        mine = workers.c.worker_id == worker.worker_id
        beaten = connection.scalar(workers.select().with_only_columns(workers.c.beaten_at))
        at = beaten - timedelta(seconds=seconds)
        connection.execute(update(workers).where(mine).values(beaten_at=at))


def shown(url: str, *flags: str) -> str:
    done = CliRunner().invoke(app, ["status", "tiny", "--storage", url, *flags])
    assert done.exit_code == 0, done.output
    return done.stdout


# --- status ---


def test_no_worker_runs_at_first(database_url: str, study: Study) -> None:
    assert read_workers(database_url, study._study_id) == []
    assert shown(database_url).endswith("\nworkers  none\n")
    assert json.loads(shown(database_url, "--json"))["workers"] == []


def test_a_worker_is_shown_with_what_it_holds(
    database_url: str, study: Study, engine: Engine
) -> None:
    one, mirror = join(engine, study, 11)
    mirror.sync(wanted=2, epochs_per_second=12.345)
    engine.dispose()
    (worker,) = json.loads(shown(database_url, "--json"))["workers"]
    assert 0 <= worker.pop("last_beat_seconds") < 10
    assert worker == {
        "host": "alpha",
        "process": 11,
        "device": "cpu",
        "slots": 2,
        "epochs_per_second": 12.35,
        "trials": [0, 1],
    }
    header, row = shown(database_url).splitlines()[-2:]
    assert header.split() == [
        *("worker", "process", "device", "slots", "last", "beat", "epochs/s", "trials")
    ]
    assert row.split()[:4] == ["alpha", "11", "cpu", "2"]
    assert row.split()[5:] == ["s", "ago", "12.3", "0,", "1"]
    assert header.index("trials") == row.index("0, 1")
    one.leave()
    assert read_workers(database_url, study._study_id) == []


def test_a_worker_silent_for_longer_than_a_lease_is_marked(
    database_url: str, study: Study, engine: Engine
) -> None:
    late, alive = join(engine, study, 11)[0], join(engine, study, 12)[0]
    silence(engine, late, LEASE_SECONDS + 10)
    found = read_workers(database_url, study._study_id)
    assert [(one.process, one.silent) for one in found] == [(11, True), (12, False)]
    assert LEASE_SECONDS + 10 <= found[0].last_beat_seconds < LEASE_SECONDS + 20
    rows = {line.split()[1]: line for line in shown(database_url).splitlines()[-2:]}
    assert "s ago, silent" in rows["11"]
    assert "silent" not in rows["12"]
    late.leave()
    alive.leave()


def test_a_trial_that_is_over_is_held_by_no_worker(
    database_url: str, study: Study, engine: Engine
) -> None:
    one, mirror = join(engine, study, 11)
    mirror.sync(wanted=2)
    mirror.study.tell(mirror.trial(0), 0.5)
    mirror.sync()
    assert read_workers(database_url, study._study_id)[0].trials == (1,)
    one.leave()


def test_another_studys_workers_are_not_shown(
    database_url: str, study: Study, engine: Engine
) -> None:
    other = SPEC.model_copy(update={"name": "other"})
    elsewhere = create_or_resume(open_storage(database_url), other, "fingerprint")
    one, mirror = join(engine, elsewhere, 11)
    mirror.sync(wanted=1)
    assert read_workers(database_url, study._study_id) == []
    assert len(read_workers(database_url, elsewhere._study_id)) == 1
    one.leave()


# --- watching ---


def report(mirror: Mirror, number: int, *values: float) -> None:
    """Further epochs of a trial."""
    trial = mirror.trial(number)
    done = len(mirror.study.get_trials(deepcopy=False)[number].intermediate_values)
    for epoch, value in enumerate(values, done + 1):
        trial.report(value, step=epoch)
    mirror.sync()


def test_a_watcher_tells_what_a_worker_was_told(study: Study, engine: Engine) -> None:
    watcher = Watcher(study, engine)
    one, mirror = join(engine, study, 11)
    assert list(watcher.poll()) == []
    mirror.sync(wanted=1)
    assert list(watcher.poll()) == [TrialStarted(0, adopted=False)]
    assert list(watcher.poll()) == []
    report(mirror, 0, 0.25, 0.5)
    assert list(watcher.poll()) == [EpochTrained(0, 1, 0.25), EpochTrained(0, 2, 0.5)]
    mirror.trial(0).set_user_attr("outcome", "trained all 3 epochs")
    mirror.study.tell(0, 0.5)
    mirror.sync()
    (ended,) = watcher.poll()
    assert ended == TrialEnded(0, TrialState.COMPLETE, 0.5, "trained all 3 epochs", 2)
    assert list(watcher.poll()) == []
    one.leave()


def test_a_watcher_tells_of_a_budget_only_if_it_comes_into_force(
    study: Study, engine: Engine
) -> None:
    watcher = Watcher(study, engine, Budget(trials=12))
    for given, told in ((5, []), (20, [BudgetChanged(20, None)]), (5, [BudgetChanged(12, None)])):
        study.set_user_attr(BUDGET, {"trials": given})
        assert list(watcher.poll()) == told


def test_a_watcher_tells_an_adoption_with_the_curve_until_then(
    study: Study, engine: Engine
) -> None:
    watcher = Watcher(study, engine)
    one, mirror = join(engine, study, 11)
    mirror.sync(wanted=1)
    report(mirror, 0, 0.25, 0.5)
    assert len(list(watcher.poll())) == 3
    one.leave()
    assert list(watcher.poll()) == []
    two, mirror = join(engine, study, 12)
    mirror.sync(wanted=1)
    assert list(watcher.poll()) == [TrialStarted(0, True, 2, (0.25, 0.5))]
    report(mirror, 0, 0.75)
    assert list(watcher.poll()) == [EpochTrained(0, 3, 0.75)]
    two.leave()


def test_a_trial_left_running_is_reported_when_a_worker_resumes_it(
    study: Study, engine: Engine
) -> None:
    one, mirror = join(engine, study, 11)
    mirror.sync(wanted=1)
    report(mirror, 0, 0.25)
    one.leave()
    watcher = Watcher(study, engine)
    assert list(watcher.poll()) == []
    two, mirror = join(engine, study, 12)
    mirror.sync(wanted=1)
    assert list(watcher.poll()) == [TrialStarted(0, True, 1, (0.25,))]
    two.leave()


def test_a_trial_that_somebody_elsewhere_trains_on_is_no_adoption(
    study: Study, engine: Engine
) -> None:
    one, mirror = join(engine, study, 11)
    mirror.sync(wanted=1)
    report(mirror, 0, 0.25)
    watcher = Watcher(study, engine)
    report(mirror, 0, 0.5)
    assert list(watcher.poll()) == [TrialStarted(0, False, 1, (0.25,)), EpochTrained(0, 2, 0.5)]
    one.leave()


def test_a_trial_that_paused_and_was_continued_between_two_looks_is_no_adoption(
    study: Study, engine: Engine
) -> None:
    watcher = Watcher(study, engine)
    one, mirror = join(engine, study, 11)
    mirror.sync(wanted=1)
    mirror.trial(0).set_user_attr(PAUSED, 1)
    report(mirror, 0, 0.25)
    mirror.sync(give_back=[0])
    assert list(watcher.poll()) == [
        TrialStarted(0, adopted=False),
        EpochTrained(0, 1, 0.25),
        TrialPaused(0, 1),
    ]
    mirror.sync(1, choose_paused=lambda trials: ([0], []))
    mirror.trial(0).set_user_attr(PAUSED, 1)
    mirror.sync(give_back=[0])
    mirror.sync(1, choose_paused=lambda trials: ([0], []))
    mirror.sync()
    (started,) = watcher.poll()
    assert (started.number, started.adopted) == (0, False)
    one.leave()


def test_a_trial_of_plain_optuna_without_a_lease_is_reported_too(
    study: Study, engine: Engine
) -> None:
    watcher = Watcher(study, engine)
    trial = study.ask()
    trial.report(0.5, step=1)
    assert list(watcher.poll()) == [TrialStarted(0, adopted=False), EpochTrained(0, 1, 0.5)]
    study.tell(trial, 0.5)
    (ended,) = watcher.poll()
    assert isinstance(ended, TrialEnded)


def test_a_watcher_reports_how_far_the_confirmation_is(study: Study, engine: Engine) -> None:
    one, mirror = join(engine, study, 11)
    mirror.sync(wanted=1)
    trial = mirror.trial(0)
    trial.suggest_float("learning_rate", 1e-3, 3e-2, log=True)
    trial.suggest_float("dropout", 0.0, 0.4)
    report(mirror, 0, 0.5)
    trial.set_user_attr(BEST_EPOCH, 1)
    mirror.study.tell(trial, 0.5)
    mirror.sync()
    asked = Confirmation(candidates=1, seeds=2)
    watchers = [Watcher(study, engine, confirmation=asked), Watcher(study, engine)]
    assert [list(watcher.poll()) for watcher in watchers] == [[], []]

    runs = RunLeases(engine, one)
    runs.sync({}, 1, lambda finished: [(0, 0), (0, 1)])
    assert list(watchers[0].poll()) == [Confirming(0, 2, 1, 2, begins=True)]
    runs.sync({(0, 0): EndedRun([0.5, 1, 1])}, 1, lambda finished: [(0, 1)])
    assert list(watchers[0].poll()) == [Confirming(1, 2, 1, 2)]
    assert list(watchers[0].poll()) == list(watchers[1].poll()) == []
    one.leave()


def test_a_watcher_writes_nothing_and_waits_for_no_worker(study: Study, engine: Engine) -> None:
    """Another's open transaction, a commit in flight, doesn't hold it up."""
    other = open_engine(str(engine.url.render_as_string(hide_password=False)))
    watcher = Watcher(study, engine)
    with other.begin() as connection:
        assert lock_study(connection, study._study_id)
        assert list(watcher.poll()) == []
    other.dispose()
