"""A study in memory and in the database: the same after each sync, on both databases."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from helpers.mirrors import Worker, claim, make, silence
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.storages._rdb.models import TrialUserAttributeModel
from optuna.trial import TrialState
from optuna_dashboard import get_note
from sqlalchemy import event, insert, select
from sqlalchemy.exc import OperationalError

from gru_optuna.attributes import WORKED_SECONDS, WORKED_UNTIL
from gru_optuna.checkpoints.checkpoint import Saved
from gru_optuna.errors import DatabaseLost, StudyError
from gru_optuna.storage.database.open import open_engine, open_storage
from gru_optuna.storage.database.tables import checkpoints, leases
from gru_optuna.storage.mirror.dashboard_notes import Description, NoteWriter
from gru_optuna.storage.mirror.mirror import EpochLimit, Mirror
from gru_optuna.storage.paused_trials import ENDING, PAUSED, UNTIL
from gru_optuna.storage.workers.leases import Host, Registration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from optuna import Trial
    from optuna.trial import FrozenTrial
    from sqlalchemy import Engine


def mirror_of(url: str, name: str = "x", engine: Engine | None = None) -> Mirror:
    """A worker's mirror of a study."""
    study, engine = make(url, name), engine or open_engine(url)
    registration = Registration(engine, study._study_id, Host.here("cpu", 8))
    return Mirror(study, engine, registration)


def everything(trial: FrozenTrial) -> tuple:
    return (
        trial.number, trial.state, trial.params, trial.distributions, trial.values,
        trial.intermediate_values, trial.user_attrs, trial.system_attrs,
        trial.datetime_start, trial.datetime_complete,
    )  # fmt: skip


def assert_same(url: str, *mirrors: Mirror) -> None:
    """Plain Optuna, freshly opened, sees what each mirror holds."""
    name = mirrors[0].study.study_name
    study = optuna.load_study(study_name=name, storage=open_storage(url))
    there = list(map(everything, study.trials))
    for mirror in mirrors:
        assert there == list(map(everything, mirror.study.trials))
        assert study.user_attrs == mirror.study.user_attrs


def test_plain_optuna_reads_what_was_synced(database_url: str) -> None:
    mirror = mirror_of(database_url)
    complete, pruned, failed, running = claim(mirror, 4)
    for trial in (complete, pruned, failed, running):
        trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
        trial.suggest_categorical("decay", ["constant", "time", None, 3, True])
        trial.suggest_int("layers", 1, 3)
        trial.report(0.25, step=1)
    mirror.sync()
    assert_same(database_url, mirror)
    for step, value in enumerate([0.5, float("inf"), float("-inf"), float("nan")], start=2):
        complete.report(value, step)
    complete.set_user_attr("curve", [0.1, 0.2])
    mirror.study.tell(complete, 0.5)
    mirror.study.tell(pruned, state=TrialState.PRUNED)
    mirror.study.tell(failed, state=TrialState.FAIL)
    mirror.study.set_user_attr("note", "三")
    mirror.sync()
    study = make(database_url)
    assert [t.state.name for t in study.trials] == ["COMPLETE", "PRUNED", "FAIL", "RUNNING"]
    assert str(study.trials[0].intermediate_values) == str(
        mirror.study.trials[0].intermediate_values
    )
    assert study.trials[1].value == 0.25
    assert study.user_attrs["note"] == "三"


def test_a_worker_reads_back_nothing_that_it_wrote_itself(database_url: str) -> None:
    """Each trial that is read takes six queries, and a worker ends one trial after another."""
    engine, read = open_engine(database_url), []
    mirror = mirror_of(database_url, engine=engine)
    event.listen(
        engine, "before_cursor_execute", lambda *a: read.append(a[2]) if "SELECT" in a[2] else None
    )
    for _ in range(3):
        (trial,) = claim(mirror, 1)
        trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
        mirror.study.tell(trial, 0.5)
    mirror.sync(wanted=1, limit=None)
    assert read
    assert not any("trial_params" in query for query in read)
    assert_same(database_url, mirror)
    # What somebody else changes in such a trial is read.
    attributes = TrialUserAttributeModel.__table__
    with open_engine(database_url).begin() as other:
        other.execute(insert(attributes).values(trial_id=1, key="seen", value_json="true"))
    mirror.sync()
    assert any("trial_params" in query for query in read)
    assert_same(database_url, mirror)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["claim", "suggest", "report", "attribute", "tell", "prune", "study", "sync"]
        ),
        st.integers(0, 1),
    ),
    max_size=40,
)


@settings(max_examples=10)
@given(steps=STEPS, dies=st.integers(0, 39))
def test_any_course_of_two_workers_arrives_in_the_database(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], dies: int
) -> None:
    """A state machine of two workers on one study, of which one leaves at one point."""
    url = f"sqlite:///{tmp_path_factory.mktemp('study') / 'study.db'}"
    mirrors = [mirror_of(url), mirror_of(url)]
    running: list[list[Trial]] = [[], []]
    for number, (step, who) in enumerate(steps):
        mirror, mine = mirrors[who], running[who]
        if number == dies:
            mirrors[0].sync()
            assert mirrors[0]._registration is not None
            mirrors[0]._registration.leave()
            mirrors[0] = mirror = mirror_of(url)
            running[0] = mine = []
        match step:
            case "claim":
                mine += claim(mirror)
            case "suggest" if mine:
                mine[-1].suggest_float(f"p{number % 3}", 0, 1)
            case "report" if mine:
                mine[0].report(number / 7, step=number)
            case "attribute" if mine:
                mine[0].set_user_attr(f"a{number % 2}", {"at": number})
            case "tell" if mine:
                mirror.study.tell(mine.pop(0), number / 3)
            case "prune" if mine:
                mirror.study.tell(mine.pop(), state=TrialState.PRUNED)
            case "study":
                mirror.study.set_user_attr("note", number)
            case "sync":
                mirror.sync()
    for mirror in (*mirrors, mirrors[0]):
        mirror.sync()
    for mirror in mirrors:
        mirror.pull()
    assert_same(url, *mirrors)
    assert [t.number for t in make(url).trials] == list(range(len(make(url).trials)))


def commits(engine: Engine) -> list[None]:
    """A list that grows with every commit of an engine."""
    counted: list[None] = []
    event.listen(engine, "commit", lambda connection: counted.append(None))
    return counted


def test_a_sync_is_one_transaction_whatever_happened(database_url: str) -> None:
    engine = open_engine(database_url)
    mirror = mirror_of(database_url, engine=engine)
    trials = claim(mirror, 20)
    counted = commits(engine)
    for trial in trials:
        for name in "abcdefg":
            trial.suggest_float(name, 0, 1)
        for step in range(1, 21):
            trial.report(0.5, step)
        mirror.study.tell(trial, 0.5)
    mirror.sync(wanted=3)
    assert len(counted) == 1


def test_workers_see_each_others_trials(database_url: str) -> None:
    """What samplers and pruners know of others: parameters, reports and endings."""
    one, other = mirror_of(database_url), mirror_of(database_url)
    (trial,) = claim(one)
    trial.suggest_float("p", 0, 1)
    trial.report(0.5, step=1)
    trial.storage.set_trial_system_attr(trial._trial_id, "completed_rung_0", 0.5)
    one.sync()
    synced = other.sync()
    (seen,) = other.study.trials
    assert (seen.params, seen.intermediate_values) == (trial.params, {1: 0.5})
    assert seen.system_attrs == {"completed_rung_0": 0.5}
    assert synced.others_running == 1
    one.study.tell(trial, 0.75)
    one.sync()
    assert other.sync().others_running == 0
    assert other.study.best_value == 0.75


def test_another_studys_trials_are_left_alone(database_url: str) -> None:
    first, second = mirror_of(database_url, "first"), mirror_of(database_url, "second")
    for mirror, value in ((second, 1.0), (first, 2.0), (second, 3.0)):
        (trial,) = claim(mirror)
        mirror.study.tell(trial, value)
        mirror.sync()
    assert [t.value for t in make(database_url, "first").trials] == [2]
    assert [t.value for t in make(database_url, "second").trials] == [1, 3]


def test_a_trial_that_plain_optuna_adds_is_taken_up(database_url: str) -> None:
    mirror = mirror_of(database_url)
    claim(mirror)
    study = make(database_url)
    study.enqueue_trial({"p": 0.25})
    _, waiting = [*mirror.study.trials, *claim(mirror)]
    assert waiting.number == 1
    assert waiting.suggest_float("p", 0, 1) == 0.25
    assert mirror.sync(1, limit=2).claims == ()


def test_a_trial_that_plain_optuna_ends_is_let_go(database_url: str) -> None:
    """Somebody fails a running trial in the dashboard: its worker writes nothing more of it."""
    mirror = mirror_of(database_url)
    (trial,) = claim(mirror)
    make(database_url).tell(0, state=TrialState.FAIL)
    trial.report(0.5, step=1)
    assert mirror.sync().lost == (0,)
    (after,) = make(database_url).trials
    assert (after.state, after.intermediate_values) == (TrialState.FAIL, {})
    assert_same(database_url, mirror)


def test_a_study_that_was_deleted_is_reported_plainly(database_url: str) -> None:
    mirror = mirror_of(database_url)
    claim(mirror)
    optuna.delete_study(study_name="x", storage=open_storage(database_url))
    with pytest.raises(StudyError, match='study "x" was deleted by someone else'):
        mirror.sync()


class CutError(Exception):
    """A connection that breaks."""


@contextmanager
def answer_lost(engine: Engine, *, committed: bool) -> Iterator[None]:
    """Commits raise as if the connection broke, before or after the database has committed."""
    real = engine.dialect.do_commit

    def break_off(connection: Any) -> None:
        if committed:
            real(connection)
        raise OperationalError("COMMIT", {}, CutError("the connection was lost"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.dialect, "do_commit", break_off)
        yield


@pytest.mark.parametrize("committed", [False, True], ids=["before", "after"])
def test_a_commit_whose_answer_is_lost_is_found_out(database_url: str, *, committed: bool) -> None:
    """Nothing is written twice and nothing is lost, whichever side the connection broke on."""
    engine = open_engine(database_url)
    mirror = mirror_of(database_url, engine=engine)
    ends, goes_on = claim(mirror, 2)
    for trial in (ends, goes_on):
        trial.suggest_float("p", 0, 1)
        trial.report(0.5, step=1)
    ends.set_user_attr("outcome", "done")
    mirror.study.tell(ends, 0.5)
    with answer_lost(engine, committed=committed), pytest.raises(OperationalError):
        mirror.sync(wanted=1)
    goes_on.report(0.75, step=2)
    synced = mirror.sync(wanted=1)
    assert synced.lost == ()
    assert len(synced.claims) == 1
    assert mirror.over() == {0}
    trials = make(database_url).trials
    assert [t.state.name for t in trials] == ["COMPLETE", "RUNNING", "RUNNING"]
    assert trials[1].intermediate_values == {1: 0.5, 2: 0.75}
    assert_same(database_url, mirror)


def test_a_copy_that_is_older_by_one_change_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    mirror = mirror_of(f"sqlite:///{path}")
    (trial,) = claim(mirror)
    with closing(sqlite3.connect(path)) as database, closing(sqlite3.connect(":memory:")) as older:
        database.backup(older)
        trial.report(0.5, step=1)
        mirror.sync(wanted=0)
        mirror.pull()  # now it knows the change
        older.backup(database)
    trial.report(0.25, step=2)
    with pytest.raises(DatabaseLost):
        mirror.sync()


def test_worked_seconds_are_wall_time_whoever_works(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers in the same hour work one hour; a pause is none; a clock set back neither."""
    from datetime import datetime, timedelta

    from gru_optuna.storage.mirror import mirror
    from gru_optuna.storage.mirror import study_attributes as module

    clock = {"monotonic": 100.0, "database": datetime(2026, 1, 1)}
    monkeypatch.setattr(mirror.time, "monotonic", lambda: clock["monotonic"])
    monkeypatch.setattr(module, "now", lambda connection: clock["database"])

    def later(seconds: float, database: float | None = None) -> None:
        clock["monotonic"] += seconds
        clock["database"] += timedelta(seconds=seconds if database is None else database)

    one, other = mirror_of(database_url), mirror_of(database_url)
    one.sync()
    other.sync()
    for _ in range(10):
        later(3)
        one.sync()
        later(3)
        worked = other.sync().worked_seconds
    assert worked == pytest.approx(60)
    later(1000)  # nobody works; then a new worker comes
    fresh = mirror_of(database_url)
    assert fresh.sync().worked_seconds == pytest.approx(60)
    later(5, database=-3600)
    assert fresh.sync().worked_seconds == pytest.approx(60)
    later(5)
    assert fresh.sync().worked_seconds == pytest.approx(65)
    later(0.25)  # counted here, and in the database only by who leaves
    assert fresh.sync().worked_seconds == pytest.approx(65.25)
    assert make(database_url).user_attrs[WORKED_SECONDS] == pytest.approx(65)
    fresh.sync(leaving=True)
    assert make(database_url).user_attrs[WORKED_SECONDS] == pytest.approx(65.25)


# --- reports and checkpoints ---


def saved_at(epoch: int, number: int = 0) -> dict[int, Saved]:
    return {number: Saved(epoch, f"0/{number}-{epoch}", "0" * 64)}


def stored_epochs(mirror: Mirror) -> list[int]:
    with mirror._engine.connect() as connection:
        return sorted(connection.scalars(select(checkpoints.c.epoch)))


@pytest.mark.parametrize("committed", [False, True], ids=["before", "after"])
def test_after_a_lost_answer_each_trial_keeps_its_newest_checkpoints(
    database_url: str, *, committed: bool
) -> None:
    engine = open_engine(database_url)
    mirror = mirror_of(database_url, engine=engine)
    claim(mirror, 2)
    # Not at the same epochs: what the database holds of one trial says nothing about the other.
    offset = {0: 0, 1: 10}

    def sync(epoch: int) -> set[str]:
        saved = {n: saved_at(epoch + more, n)[n] for n, more in offset.items()}
        return set(mirror.sync(saved=saved).superseded)

    def names(*epochs: int) -> set[str]:
        return {f"0/{n}-{epoch + more}" for n, more in offset.items() for epoch in epochs}

    assert sync(1) | sync(2) == set()
    with answer_lost(engine, committed=committed), pytest.raises(OperationalError):
        sync(3)
    # If it was committed, the row of the first is gone, and the trial's end removes its content.
    assert sync(3) == (set() if committed else names(1))
    assert sync(4) == names(2)
    with engine.connect() as connection:
        assert set(connection.scalars(select(checkpoints.c.name))) == names(3, 4)


def test_reports_wait_for_the_checkpoint_that_they_belong_to(database_url: str) -> None:
    """A worker that adopted the trial in between would report the same epochs again."""
    mirror = mirror_of(database_url)
    (trial,) = claim(mirror)
    trial.report(0.25, step=1)
    mirror.sync(unsaved={0})
    assert make(database_url).trials[0].intermediate_values == {}
    trial.report(0.5, step=2)
    mirror.sync(saved=saved_at(2))
    assert make(database_url).trials[0].intermediate_values == {1: 0.25, 2: 0.5}
    assert stored_epochs(mirror) == [2]


def test_reports_that_were_not_written_are_forgotten_with_their_trial(database_url: str) -> None:
    """Whoever continues it trains these epochs again, and pruners compare what is recorded."""
    mirror = mirror_of(database_url)
    (trial,) = claim(mirror)
    trial.report(0.25, step=1)
    mirror.sync(unsaved={0}, give_back=[0])
    mirror.sync()
    assert mirror.reported(0) == ()


def test_a_trial_is_over_once_its_end_is_committed(database_url: str) -> None:
    """Until then its checkpoints are needed: this worker may die."""
    mirror = mirror_of(database_url)
    (trial,) = claim(mirror)
    mirror.study.tell(trial, 0.5)
    assert mirror.over() == set()
    mirror.sync()
    assert mirror.over() == {0}


def test_the_two_newest_checkpoints_stay_and_older_names_are_given_out(database_url: str) -> None:
    mirror = mirror_of(database_url)
    claim(mirror)
    superseded = [mirror.sync(saved=saved_at(epoch)).superseded for epoch in (1, 2, 3, 4)]
    assert superseded == [(), (), ("0/0-1",), ("0/0-2",)]
    assert stored_epochs(mirror) == [3, 4]


def test_a_checkpoint_before_a_damaged_one_replaces_it(database_url: str) -> None:
    """Epoch 6 couldn't be read, so the trial went on from epoch 3."""
    mirror = mirror_of(database_url)
    claim(mirror)
    for epoch in (3, 6):
        mirror.sync(saved=saved_at(epoch))
    assert mirror.sync(saved=saved_at(4)).superseded == ("0/0-6",)
    assert stored_epochs(mirror) == [3, 4]


def test_a_lost_trials_new_checkpoint_gets_no_row_and_is_given_out(database_url: str) -> None:
    sleeper, heir = Worker(database_url), Worker(database_url)
    sleeper.claim(1)
    sleeper.mirror.sync(saved=saved_at(1))
    silence(sleeper, heir)
    assert heir.claim(1, limit=1) == {0: True}
    synced = sleeper.mirror.sync(saved=saved_at(2))
    assert synced.lost == (0,)
    assert synced.superseded == ("0/0-2",)
    assert stored_epochs(sleeper.mirror) == [1]


def test_a_checkpoint_clears_a_trial_of_blame(database_url: str) -> None:
    """As a report does: with its epoch committed, the trial has shown that it can be trained."""
    holder, heir = Worker(database_url), Worker(database_url)
    holder.claim(1)
    holder.die()
    silence(holder, heir)
    ((_, claim),) = heir.mirror.sync(1, limit=1).claims
    assert claim.deaths == 1
    heir.mirror.sync()
    with heir.engine.connect() as connection:
        assert list(connection.scalars(select(leases.c.deaths))) == [1]
    heir.mirror.sync(saved=saved_at(1))
    with heir.engine.connect() as connection:
        assert list(connection.scalars(select(leases.c.deaths))) == [0]


def test_only_running_trials_of_others_count_as_trained_by_others(database_url: str) -> None:
    mirror, other = mirror_of(database_url), mirror_of(database_url)
    study = make(database_url)
    first, _ = claim(mirror, 2)
    (trial,) = claim(other)
    other.study.tell(trial, 0.5)
    study.enqueue_trial({})
    assert (trial.number, first.number) == (2, 0)
    assert other.sync().others_running == 2
    assert mirror.sync().others_running == 0
    assert other.sync(give_back=[]).others_running == 2
    mirror.study.tell(first, 0.5)
    mirror.sync()
    assert other.sync().others_running == 1


def test_a_mirror_that_only_reads_follows_and_writes_nothing(database_url: str) -> None:
    mirror, engine = mirror_of(database_url), open_engine(database_url)
    reader = Mirror(make(database_url), engine)
    (trial,) = claim(mirror)
    trial.report(0.5, step=1)
    mirror.sync()
    mirror.study.set_user_attr("key", "value")
    mirror.sync(leaving=True)
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    reader.pull()
    assert reader.study.trials[0].intermediate_values == {1: 0.5}
    assert reader.study.user_attrs["key"] == "value"
    assert statements
    assert all(statement.lstrip().upper().startswith("SELECT") for statement in statements)


ADDITIONS: dict[str, Callable[[optuna.Trial], object]] = {
    "a report": lambda trial: trial.report(0.5, 10 * reports(trial) + 10),
    "an earlier report": lambda trial: trial.report(0.25, 10 * reports(trial) - 5),
    "a parameter": lambda trial: trial.suggest_float("x", 0, 1),
    "an attribute": lambda trial: trial.set_user_attr("a", 1),
    "its new value": lambda trial: trial.set_user_attr("a", 2),
    "a system attribute": lambda trial: trial.study._storage.set_trial_system_attr(
        trial._trial_id, "s", 1
    ),
}


def reports(trial: optuna.Trial) -> int:
    """How many reports a trial has."""
    return len(trial.study.trials[trial.number].intermediate_values)


def test_a_look_reads_whatever_plain_optuna_adds_to_running_trials(database_url: str) -> None:
    study = make(database_url)
    trials = [study.ask(), study.ask()]  # the second has no parameter when it is read first
    trials[0].suggest_float("first", 0, 1)
    trials[0].report(0.75, 1)
    reader = Mirror(study, open_engine(database_url))
    for additions in (
        *((name,) for name in ADDITIONS),
        ("a report", "an earlier report", "a report"),
    ):
        for trial in trials:
            for addition in additions:
                ADDITIONS[addition](trial)
        reader.pull()
        assert_same(database_url, reader)
    for trial in trials:
        study.tell(trial, 0.5)
    reader.pull()
    assert_same(database_url, reader)


# --- epochs, pauses, descriptions ---


def until(url: str) -> dict[int, int | None]:
    """How far the database says that each trial may train."""
    return {trial.number: trial.user_attrs.get(UNTIL) for trial in make(url).trials}


def test_claimed_trials_share_the_epochs_that_are_left(database_url: str) -> None:
    mirror = mirror_of(database_url)
    first = mirror.sync(2, epochs=EpochLimit(10, lambda trial: 6)).claims
    assert [number for number, _ in first] == [0, 1]
    assert until(database_url) == {0: 6, 1: 4}
    # Three are left once the first has ended early, and each of two claims gets one at least.
    for step in (1, 2, 3):
        mirror.trial(0).report(0.5, step)
    mirror.study.tell(0, 0.5)
    mirror.sync()
    mirror.sync(2, epochs=EpochLimit(10, lambda trial: 6))
    assert until(database_url) == {0: 6, 1: 4, 2: 2, 3: 1}


def test_a_trial_that_is_taken_over_keeps_what_it_was_granted(database_url: str) -> None:
    holder, heir = Worker(database_url), Worker(database_url)
    limit = EpochLimit(10, lambda trial: 6)
    holder.mirror.sync(1, epochs=limit)
    holder.mirror.trial(0).report(0.5, 1)
    holder.mirror.sync()
    holder.die()
    silence(holder, heir)
    ((number, claimed),) = heir.mirror.sync(1, epochs=replace(limit, most=20)).claims
    assert (number, claimed.taken_over) == (0, True)
    assert until(database_url) == {0: 6}


def test_trials_that_are_taken_over_leave_room_for_those_that_epochs_are_left_for(
    database_url: str,
) -> None:
    holder, heir = Worker(database_url), Worker(database_url)
    limit = EpochLimit(8, lambda trial: 6)
    holder.mirror.sync(1, epochs=limit)
    holder.die()
    silence(holder, heir)
    claims = heir.mirror.sync(3, epochs=limit).claims
    assert {number: claimed.taken_over for number, claimed in claims} == {
        0: True, 1: False, 2: False,
    }  # fmt: skip
    assert until(database_url) == {0: 6, 1: 1, 2: 1}


def paused_at(mirror: Mirror, number: int, epoch: int) -> tuple[str, ...]:
    """Pauses a trial with a checkpoint of this epoch; returns the checkpoints it replaces."""
    mirror.trial(number).set_user_attr(PAUSED, epoch)
    return mirror.sync(saved=saved_at(epoch, number), give_back=[number]).superseded


def test_a_paused_trial_keeps_one_checkpoint(database_url: str) -> None:
    mirror = mirror_of(database_url)
    claim(mirror, 2)
    mirror.sync(saved=saved_at(1) | saved_at(1, 1))
    assert paused_at(mirror, 0, 2) == ("0/0-1",)
    assert stored_epochs(mirror) == [1, 2]  # that of the other trial, and the new one
    assert mirror.sync(saved=saved_at(2, 1)).superseded == ()


def test_the_choice_among_paused_trials_sees_what_others_have_just_done(database_url: str) -> None:
    """Under the study's lock, not as this worker last saw them."""
    mirror, other = mirror_of(database_url), mirror_of(database_url)
    first, second = claim(other, 2)
    for trial, value in ((first, 0.25), (second, 0.5)):
        trial.report(value, 2)
        paused_at(other, trial.number, 2)
    seen: list[dict[int, float]] = []

    def best_and_rest(trials: list[FrozenTrial]) -> tuple[list[int], list[int]]:
        values = {trial.number: trial.intermediate_values[2] for trial in trials}
        seen.append(values)
        best = max(values, key=values.__getitem__)
        return [best], [number for number in values if number != best]

    claims = mirror.sync(2, choose_paused=best_and_rest).claims
    assert seen == [{0: 0.25, 1: 0.5}]
    marks = {number: mirror.trial(number).user_attrs.get(PAUSED) for number, _ in claims}
    assert marks == {0: ENDING, 1: 0, 2: None}  # to be ended, continued, new


def describing(url: str, drawn: list[int]) -> Mirror:
    """A mirror that describes the study, and lists how many trials it then had."""

    def describe(study: optuna.Study) -> Description:
        drawn.append(len(study.get_trials(deepcopy=False)))
        return Description("words", {})

    study, engine = make(url), open_engine(url)
    registration = Registration(engine, study._study_id, Host.here("cpu", 8))
    return Mirror(study, engine, registration, NoteWriter(describe, lambda study, trial: None))


def test_a_description_is_written_when_it_is_due_but_not_when_leaving(database_url: str) -> None:
    drawn: list[int] = []
    mirror = describing(database_url, drawn)
    mirror.sync(leaving=True)
    assert drawn == []
    mirror.sync()
    assert drawn == [0]
    assert get_note(make(database_url)) == "words"
    assert mirror.transactions == 2


def test_what_nobody_reads_of_ended_trials_leaves_the_memory(database_url: str) -> None:
    study, engine = make(database_url), open_engine(database_url)
    registration = Registration(engine, study._study_id, Host.here("cpu", 8))
    mirror = Mirror(study, engine, registration, without=("losses",))
    (trial,) = claim(mirror)
    trial.set_user_attr("losses", [0.5, 0.25])
    trial.set_user_attr("outcome", "done")
    mirror.study.tell(trial, 0.5)
    mirror.sync()
    assert mirror.study.trials[0].user_attrs == {"outcome": "done"}
    assert make(database_url).trials[0].user_attrs["losses"] == [0.5, 0.25]


def test_a_copy_gets_what_was_not_committed_and_counts_the_time_to_the_end(tmp_path: Path) -> None:
    drawn: list[int] = []
    mirror = describing(f"sqlite:///{tmp_path / 'x.db'}", drawn)
    ended, running = claim(mirror, 2)
    mirror.sync(saved=saved_at(1, 1))
    drawn.clear()
    mirror._note_writer.pause = 0.0
    running.report(0.25, 2)  # its checkpoint was never written
    mirror.study.tell(ended, 0.5)
    with (
        closing(sqlite3.connect(tmp_path / "x.db")) as source,
        closing(sqlite3.connect(tmp_path / "copy.db")) as target,
    ):
        source.backup(target)
    copy = f"sqlite:///{tmp_path / 'copy.db'}"
    before = make(copy).user_attrs[WORKED_UNTIL]
    mirror.save_to(open_engine(copy))
    there = make(copy)
    assert [trial.state.name for trial in there.trials] == ["COMPLETE", "RUNNING"]
    assert there.trials[1].intermediate_values == {}
    assert there.user_attrs[WORKED_UNTIL] > before
    assert drawn == []  # the process is about to end
