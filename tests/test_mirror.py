"""A study in memory and in the database: the same after each flush, for a few commits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from gru_optuna.errors import StudyError
from gru_optuna.storage.database import open_engine, open_storage
from gru_optuna.storage.mirror import Mirror

if TYPE_CHECKING:
    from pathlib import Path

    from optuna import Study, Trial
    from optuna.trial import FrozenTrial


def make(folder: Path, name: str = "x") -> tuple[str, Study]:
    url = f"sqlite:///{folder / 'study.db'}"
    storage = open_storage(url, create=True)
    return url, optuna.create_study(
        storage=storage, study_name=name, direction="maximize", load_if_exists=True
    )


def everything(trial: FrozenTrial) -> tuple:
    return (
        trial.number, trial.state, trial.params, trial.distributions, trial.values,
        trial.intermediate_values, trial.user_attrs, trial.system_attrs,
        trial.datetime_start, trial.datetime_complete,
    )  # fmt: skip


def assert_same(url: str, mirror: Mirror) -> None:
    """Plain Optuna, freshly opened, sees what the mirror holds."""
    study = optuna.load_study(study_name=mirror.study.study_name, storage=url)
    here, there = mirror.study.trials, study.trials
    assert list(map(everything, there)) == list(map(everything, here))
    assert study.user_attrs == mirror.study.user_attrs


def test_plain_optuna_reads_what_was_flushed(tmp_path: Path) -> None:
    url, study = make(tmp_path)
    mirror = Mirror(study, open_engine(url))
    complete, pruned, failed, running = (mirror.study.ask() for _ in range(4))
    for trial in (complete, pruned, failed, running):
        trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
        trial.suggest_categorical("decay", ["constant", "time", None, 3, True])
        trial.suggest_int("layers", 1, 3)
        trial.report(0.25, step=1)
    mirror.flush()
    assert_same(url, mirror)
    for step, value in enumerate([0.5, float("inf"), float("-inf"), float("nan")], start=2):
        complete.report(value, step)
    complete.set_user_attr("curve", [0.1, 0.2])
    mirror.study.tell(complete, 0.5)
    mirror.study.tell(pruned, state=TrialState.PRUNED)
    mirror.study.tell(failed, state=TrialState.FAIL)
    mirror.study.set_user_attr("worked_seconds", 1.5)
    mirror.flush()
    trials = optuna.load_study(study_name="x", storage=url).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "PRUNED", "FAIL", "RUNNING"]
    assert str(trials[0].intermediate_values) == str(mirror.study.trials[0].intermediate_values)
    assert trials[1].value == 0.25


STEPS = st.lists(
    st.sampled_from(["ask", "suggest", "report", "attribute", "tell", "prune", "study", "flush"]),
    max_size=40,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS, again=st.integers(0, 39))
def test_any_course_of_a_study_arrives_in_the_database(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], again: int
) -> None:
    """A state machine of asking and telling, with the process restarted at one point."""
    folder = tmp_path_factory.mktemp("study")
    url, study = make(folder)
    mirror = Mirror(study, open_engine(url))
    running: list[Trial] = []
    for number, step in enumerate(steps):
        if number == again:
            mirror.flush()
            mirror = Mirror(make(folder)[1], open_engine(url))
            left = mirror.study.get_trials(states=(TrialState.RUNNING,))
            running = [optuna.Trial(mirror.study, frozen._trial_id) for frozen in left]
        match step:
            case "ask":
                running.append(mirror.study.ask())
            case "suggest" if running:
                running[-1].suggest_float(f"p{number % 3}", 0, 1)
            case "report" if running:
                running[0].report(number / 7, step=number)
            case "attribute" if running:
                running[0].set_user_attr(f"a{number % 2}", {"at": number})
            case "tell" if running:
                mirror.study.tell(running.pop(0), number / 3)
            case "prune" if running:
                mirror.study.tell(running.pop(), state=TrialState.PRUNED)
            case "study":
                mirror.study.set_user_attr("worked", number)
            case "flush":
                mirror.flush()
                assert_same(url, mirror)
    mirror.flush()
    assert_same(url, mirror)


def test_a_flush_is_one_transaction_and_none_without_changes(tmp_path: Path) -> None:
    url, study = make(tmp_path)
    mirror = Mirror(study, open_engine(url))
    for _ in range(20):
        trial = mirror.study.ask()
        for name in "abcdefg":
            trial.suggest_float(name, 0, 1)
        for step in range(1, 21):
            trial.report(0.5, step)
        mirror.study.tell(trial, 0.5)
    mirror.flush()
    mirror.flush()
    assert mirror.transactions == 1
    assert_same(url, mirror)


def test_another_studys_trials_are_left_alone(tmp_path: Path) -> None:
    url, first = make(tmp_path, "first")
    _, second = make(tmp_path, "second")
    second.tell(second.ask(), 1.0)
    mirror = Mirror(first, open_engine(url))
    mirror.study.tell(mirror.study.ask(), 2.0)
    second.tell(second.ask(), 3.0)
    mirror.flush()
    assert_same(url, mirror)
    assert [t.value for t in optuna.load_study(study_name="second", storage=url).trials] == [1, 3]


def test_a_stranger_in_the_study_stops_the_flush_whole(tmp_path: Path) -> None:
    url, study = make(tmp_path)
    mirror = Mirror(study, open_engine(url))
    mirror.study.ask()
    stranger = optuna.load_study(study_name="x", storage=url)
    stranger.tell(stranger.ask(), 1.0)
    with pytest.raises(StudyError, match=r"0 known here, 1 in the database"):
        mirror.flush()
    assert len(stranger.trials) == 1


def test_a_flush_that_failed_is_tried_whole_again(tmp_path: Path) -> None:
    url, study = make(tmp_path)
    mirror = Mirror(study, open_engine(url))
    mirror.study.tell(mirror.study.ask(), 1.0)
    stranger = optuna.load_study(study_name="x", storage=url)
    stranger.ask()
    with pytest.raises(StudyError):
        mirror.flush()
    stranger._storage._backend.engine.dispose()
    with open_engine(url).begin() as connection:
        connection.exec_driver_sql("DELETE FROM trials")
    mirror.flush()
    assert_same(url, mirror)
