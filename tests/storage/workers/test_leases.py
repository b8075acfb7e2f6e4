"""Who holds a trial: exactly one worker, and when it dies exactly one other."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import optuna
import pytest
from helpers.mirrors import Worker, make, silence
from helpers.workspaces import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState
from sqlalchemy import event, func, select, update

from gru_optuna.checkpoints.checkpoint import Saved
from gru_optuna.storage.database.open import now, open_engine, open_storage
from gru_optuna.storage.database.tables import checkpoints, leases, workers
from gru_optuna.storage.workers.heartbeats import (
    BEATS_A_LEASE,
    LEASE_SECONDS,
    HeartbeatMonitor,
    has_died,
)
from gru_optuna.storage.workers.leases import (
    FEW_WORKERS,
    SUSPICIOUS_DEATHS,
    Host,
    Registration,
)

if TYPE_CHECKING:
    from pathlib import Path


LEASE = LEASE_SECONDS


def make_silent_for_an_hour(worker: Worker) -> None:
    """Sets the time of its last beat, as after a long absence."""
    with worker.engine.begin() as connection:
        connection.execute(
            update(workers)
            .where(workers.c.worker_id == worker.registration.worker_id)
            .values(beaten_at=now(connection) - timedelta(hours=1))
        )


# --- which workers are silent ---


def test_a_worker_that_beats_is_never_silent() -> None:
    monitor = HeartbeatMonitor(LEASE)
    for second in range(0, 1000, 5):
        assert monitor.look({1: second}, float(second)) == set()


def test_a_worker_that_stops_beating_is_silent_after_a_lease() -> None:
    monitor = HeartbeatMonitor(LEASE)
    silent_at = [t for t in range(0, 100, 5) if monitor.look({1: 7, 2: t}, float(t)) == {1}]
    assert silent_at[0] == LEASE + 5
    assert monitor.look({1: 8, 2: 101}, 101.0) == set()  # and lives again


def test_time_in_which_no_worker_looked_makes_none_silent() -> None:
    """This process was stopped, or the database was away, for an hour: the others may live."""
    monitor = HeartbeatMonitor(LEASE)
    monitor.look({1: 7}, 0.0)
    assert monitor.look({1: 7}, 3600.0) == set()
    assert monitor.look({1: 7}, 3601.0) == set()


@given(
    beats=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    pauses=st.lists(st.floats(0.01, 200), min_size=60, max_size=60),
)
def test_silence_counts_no_more_than_was_seen(beats: list[int], pauses: list[float]) -> None:
    """However irregularly one looks: a silent worker was seen unchanged for a whole lease."""
    monitor, at, count, unchanged = HeartbeatMonitor(LEASE), 0.0, 0, 0.0
    for more, pause in zip(beats, pauses, strict=False):
        at += pause
        count += more
        unchanged = 0.0 if more else unchanged + pause
        if monitor.look({1: count}, at):
            assert unchanged > LEASE
    assert 2 * LEASE / BEATS_A_LEASE < LEASE


# --- leases, in both databases ---


def test_trials_are_numbered_and_claimed_once(database_url: str) -> None:
    one, other = Worker(database_url), Worker(database_url)
    assert one.claim(3, limit=5) == {0: False, 1: False, 2: False}
    assert other.claim(3, limit=5) == {3: False, 4: False}
    assert one.claim(3, limit=5) == {}
    assert [t.number for t in make(database_url).trials] == [0, 1, 2, 3, 4]


def test_a_dead_workers_trials_are_adopted_under_their_numbers(database_url: str) -> None:
    dead, heir = Worker(database_url), Worker(database_url)
    dead.claim(2)
    trial = dead.mirror.trial(1)
    trial.suggest_float("p", 0, 1)
    trial.report(0.5, step=1)
    for epoch in (1, 2):
        dead.mirror.sync(saved={1: Saved(epoch, f"0/1-{epoch}.safetensors", "0" * 64)})
    assert heir.claim(2, limit=2) == {}  # it lives
    dead.die()
    silence(dead, heir)
    synced = heir.mirror.sync(2, limit=2)
    assert {n: (c.adopted, c.token, c.deaths) for n, c in synced.claims} == {
        0: (True, 2, 1),
        1: (True, 2, 1),
    }
    (_, first), (_, second) = synced.claims
    assert first.checkpoints == ()
    assert [saved.epoch for saved in second.checkpoints] == [2, 1]  # in this order
    assert heir.mirror.study.trials[1].intermediate_values == {1: 0.5}
    assert heir.mirror.trial(1).params == trial.params


def test_on_one_machine_a_death_is_known_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    dead, heir = Worker(url), Worker(url)
    dead.claim(1)
    assert heir.claim(1, limit=1) == {}
    dead.die()
    ((_, claim),) = heir.mirror.sync(1, limit=1).claims
    assert (claim.adopted, claim.deaths) == (True, 1)


def test_a_killed_process_frees_its_lease_at_once(tmp_path: Path) -> None:
    """The same with a real process and a real SIGKILL."""
    url = f"sqlite:///{tmp_path / 'study.db'}"
    make(url)
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; sys.path.insert(0, sys.argv[2]);"
            "from helpers.mirrors import Worker; worker = Worker(sys.argv[1]);"
            "print(worker.claim(1), flush=True); time.sleep(100)",
            url,
            str(REPOSITORY / "tests"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "{0: False}\n"
    heir = Worker(url)
    assert heir.claim(1, limit=1) == {}
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert heir.claim(1, limit=1) == {0: True}


def test_a_sleeper_writes_nothing_of_what_it_lost(database_url: str) -> None:
    sleeper, heir = Worker(database_url), Worker(database_url)
    sleeper.claim(1)
    late = sleeper.mirror.trial(0)
    silence(sleeper, heir)
    assert heir.claim(1, limit=1) == {0: True}
    heir.mirror.trial(0).report(0.25, step=1)
    heir.mirror.sync()
    late.report(0.5, step=1)
    late.set_user_attr("outcome", "late")
    sleeper.mirror.study.tell(late, 0.5)
    saved = {0: Saved(9, "late", "0" * 64)}
    assert sleeper.mirror.sync(1, limit=1, saved=saved).lost == (0,)
    (trial,) = make(database_url).trials
    assert (trial.state, trial.intermediate_values) == (TrialState.RUNNING, {1: 0.25})
    assert trial.user_attrs == {}
    with sleeper.engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(checkpoints)) == 0


def test_a_sleeper_that_no_worker_missed_continues(database_url: str) -> None:
    """Its row is gone, for it was found dead; its trial is still its own."""
    sleeper, other = Worker(database_url), Worker(database_url)
    sleeper.mirror.sync()
    silence(sleeper, other)
    sleeper.claim(1)
    sleeper.mirror.trial(0).report(0.5, step=1)
    assert sleeper.mirror.sync().lost == ()
    with sleeper.engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(workers)) == 2
    assert other.claim(1, limit=1) == {}


def test_who_leaves_gives_everything_back(database_url: str) -> None:
    leaver, heir = Worker(database_url), Worker(database_url)
    leaver.claim(2)
    leaver.registration.leave()
    synced = heir.mirror.sync(5, limit=2)
    assert {n: (c.adopted, c.deaths) for n, c in synced.claims} == {0: (True, 0), 1: (True, 0)}
    with heir.engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(workers)) == 1


def test_a_beat_after_leaving_brings_no_worker_back(database_url: str) -> None:
    leaver = Worker(database_url)
    leaver.registration.leave()
    leaver.registration.beat_alone()  # another thread's, that was on its way
    with leaver.engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(workers)) == 0


def test_given_back_trials_can_be_taken_again(database_url: str) -> None:
    worker = Worker(database_url)
    worker.claim(2)
    worker.mirror.trial(1).report(0.5, step=1)
    assert worker.mirror.sync(0, give_back=[0, 1]).claims == ()
    assert worker.claim(1, limit=2) == {0: True}
    assert worker.claim(1, limit=2) == {1: True}
    assert worker.mirror.study.trials[1].intermediate_values == {1: 0.5}


def test_deaths_are_counted_until_an_epoch_is_reported(database_url: str) -> None:
    first = Worker(database_url)
    first.claim(1)
    holder = first
    for deaths in (1, 2):
        heir = Worker(database_url)
        holder.die()
        silence(holder, heir)
        ((_, claim),) = heir.mirror.sync(1, limit=1).claims
        assert claim.deaths == deaths
        holder = heir
    holder.mirror.trial(0).report(0.5, step=1)
    holder.mirror.sync()
    heir = Worker(database_url)
    holder.die()
    silence(holder, heir)
    ((_, claim),) = heir.mirror.sync(1, limit=1).claims
    assert claim.deaths == 1


def test_a_worker_that_beats_keeps_its_trials_however_long_others_watch(
    database_url: str,
) -> None:
    worker, other = Worker(database_url), Worker(database_url)
    worker.claim(1)
    began = time.monotonic()
    for look in range(3 * BEATS_A_LEASE):
        worker.registration.beat_alone()
        at = began + look * LEASE / BEATS_A_LEASE
        with other.engine.begin() as connection:
            assert other.registration.claim(connection, 1, 1, at) == []
    with other.engine.connect() as connection:
        beats = dict(connection.execute(select(workers.c.worker_id, workers.c.beats)).all())
    assert beats[worker.registration.worker_id] > 3 * BEATS_A_LEASE - 1


def test_waiting_trials_are_counted_as_begun(database_url: str) -> None:
    """Five may begin: two are waiting, so three can be created."""
    study = make(database_url)
    for _ in range(2):
        study.enqueue_trial({})
    worker = Worker(database_url)
    assert worker.claim(9, limit=5) == dict.fromkeys(range(5), False)
    assert worker.claim(9, limit=5) == {}
    assert all(trial.datetime_start for trial in make(database_url).trials)


def test_a_limit_holds_for_waiting_trials_too(database_url: str) -> None:
    study, worker = make(database_url), Worker(database_url)
    worker.claim(1)
    for _ in range(3):
        study.enqueue_trial({})
    assert worker.claim(9, limit=2) == {1: False}
    assert worker.claim(9, limit=2) == {}


def test_a_waiting_trial_that_another_program_begins_first_is_its_own(database_url: str) -> None:
    make(database_url).enqueue_trial({})
    worker = Worker(database_url)
    (theirs,) = [make(database_url).ask()]
    with worker.engine.begin() as connection:
        # As if the worker had seen it waiting a moment before.
        assert worker.registration._begin(connection, theirs._trial_id) is None
        assert worker.registration.held(connection) == {}


def test_a_death_is_blamed_on_the_suspect_alone(database_url: str) -> None:
    """A worker trains a suspect alone, so the trials that it merely held are innocent."""
    worker, heir = Worker(database_url), Worker(database_url)
    worker.claim(2)
    with worker.engine.begin() as connection:
        first = min(worker.registration.held(connection))
        suspect = leases.c.trial_id == first
        connection.execute(update(leases).where(suspect).values(deaths=SUSPICIOUS_DEATHS))
    worker.die()
    silence(worker, heir)
    claims = heir.mirror.sync(2, limit=2).claims
    assert {number: claim.deaths for number, claim in claims} == {0: SUSPICIOUS_DEATHS + 1, 1: 0}


def test_a_worker_takes_over_one_suspect_at_a_time(database_url: str) -> None:
    """If it dies, too, it was that one."""
    dead, heir, other = (Worker(database_url) for _ in range(3))
    dead.claim(2)
    with dead.engine.begin() as connection:
        connection.execute(update(leases).values(deaths=SUSPICIOUS_DEATHS))
    dead.die()
    silence(dead, heir)
    assert heir.claim(2, limit=2) == {0: True}
    assert heir.claim(1, limit=2) == {}
    assert other.claim(2, limit=2) == {1: True}


def test_a_living_worker_without_trials_stays_when_another_leaves(database_url: str) -> None:
    idle, leaver = Worker(database_url), Worker(database_url)
    leaver.registration.leave()
    with idle.engine.connect() as connection:
        assert list(connection.scalars(select(workers.c.worker_id))) == [
            idle.registration.worker_id
        ]


def test_a_dead_worker_that_still_holds_trials_keeps_its_row(database_url: str) -> None:
    """Whoever adopts them has to see that their worker died, and not that they were released."""
    dead, leaver = Worker(database_url), Worker(database_url)
    dead.claim(1)
    make_silent_for_an_hour(dead)
    leaver.registration.leave()
    with dead.engine.connect() as connection:
        assert list(connection.scalars(select(workers.c.worker_id))) == [
            dead.registration.worker_id
        ]


def test_another_studys_workers_and_leases_are_left_alone(database_url: str) -> None:
    """Even long dead: their own study's workers take over their trials, and blame the right one."""
    other, worker = Worker(database_url, study_name="other"), Worker(database_url)
    other.claim(2)
    idle = Worker(database_url, study_name="other")
    for silent in (other, idle):
        silent.die()
        make_silent_for_an_hour(silent)
        silence(silent, worker)
    worker.claim(1)
    worker.registration.leave()
    with other.engine.connect() as connection:
        assert len(other.registration.held(connection)) == 2
        assert set(connection.scalars(select(workers.c.worker_id))) == {
            other.registration.worker_id,
            idle.registration.worker_id,
        }


def test_a_trial_with_the_id_of_a_deleted_one_inherits_nothing(tmp_path: Path) -> None:
    """A plain program deletes without foreign keys, and SQLite gives the id again."""
    path = tmp_path / "study.db"
    old = Worker(f"sqlite:///{path}")
    old.claim(1)
    old.mirror.sync(saved={0: Saved(7, "0/0-7", "0" * 64, b"content")})
    plain = sqlite3.connect(path)
    with plain:
        plain.execute("DELETE FROM trials")
    plain.close()
    new = Worker(f"sqlite:///{path}")
    ((_, claim),) = new.mirror.sync(1).claims
    with new.engine.connect() as connection:
        assert list(connection.scalars(select(leases.c.trial_id))) == [claim.trial_id]
        assert list(connection.scalars(select(checkpoints.c.epoch))) == []
    new.registration.leave()
    ((_, adopted),) = Worker(f"sqlite:///{path}").mirror.sync(1, limit=1).claims
    assert adopted.checkpoints == ()


def test_an_ended_trial_leaves_no_lease_and_no_checkpoint(database_url: str) -> None:
    worker = Worker(database_url)
    worker.claim(2)
    for epoch in (1, 2, 3):
        worker.mirror.sync(saved={0: Saved(epoch, f"0/0-{epoch}", "0" * 64, b"content")})
    with worker.engine.connect() as connection:
        assert list(connection.scalars(select(checkpoints.c.epoch))) == [2, 3]
    worker.mirror.study.tell(worker.mirror.trial(0), 1.0)
    worker.mirror.sync()
    with worker.engine.connect() as connection:
        assert list(connection.scalars(select(checkpoints.c.epoch))) == []
        assert connection.scalar(select(func.count()).select_from(leases)) == 1


def test_who_leaves_removes_the_leases_of_trials_that_another_program_ended(
    database_url: str,
) -> None:
    worker, leaver = Worker(database_url), Worker(database_url)
    worker.claim(2)
    study = make(database_url)
    study.tell(study.trials[0].number, state=TrialState.FAIL)
    leaver.registration.leave()
    with worker.engine.connect() as connection:
        left = connection.scalars(select(leases.c.trial_id)).all()
    assert left == [study.trials[1]._trial_id]


def test_among_many_workers_one_looks_at_the_others_once_a_heartbeat(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    worker = Worker(url).registration
    beat, now = worker.beat_seconds, 1000.0

    def look(at: float) -> None:
        with worker._engine.begin() as connection:
            worker.claim(connection, 0, 0, at)

    assert worker.is_time_to_watch(now, wanted=0)  # it has never looked
    look(now)
    assert not worker.is_time_to_watch(now + 0.9 * beat, wanted=0)
    assert worker.is_time_to_watch(now + 0.9 * beat, wanted=1)  # a death would be known at once
    assert worker.is_time_to_watch(now + beat, wanted=0)
    others = [Worker(url) for _ in range(FEW_WORKERS + 1)]
    look(now)
    assert not worker.is_time_to_watch(now + 0.9 * beat, wanted=1)
    others[0].registration.leave()
    look(now)
    assert worker.is_time_to_watch(now + 0.9 * beat, wanted=1)


def test_a_deleted_study_takes_its_rows_along(database_url: str) -> None:
    """And whoever gets a trial's old id in SQLite inherits nothing."""
    worker = Worker(database_url)
    worker.claim(1)
    worker.mirror.sync(saved={0: Saved(1, "0/0-1", "0" * 64)})
    optuna.delete_study(study_name="x", storage=open_storage(database_url))
    with worker.engine.connect() as connection:
        for table in (workers, leases, checkpoints):
            assert connection.scalar(select(func.count()).select_from(table)) == 0


def test_a_running_trial_that_knows_no_lease_is_adopted(database_url: str) -> None:
    """Begun by plain Optuna, or by an older version, that is gone."""
    make(database_url).ask()
    heir = Worker(database_url)
    silence(heir, heir)  # it sees for two leases that nobody gets on with the trial
    assert heir.claim(1, limit=1) == {0: True}
    with heir.engine.connect() as connection:
        assert list(heir.registration.held(connection).values()) == [1]  # now it has a lease


@pytest.mark.parametrize("adds", ["reports", "parameters"])
def test_a_trial_that_plain_optuna_trains_is_left_to_it(database_url: str, adds: str) -> None:
    trial, worker = make(database_url).ask(), Worker(database_url)
    began = time.monotonic()
    for look in range(3 * BEATS_A_LEASE):
        if adds == "reports":
            trial.report(0.5, step=look)
        else:
            trial.suggest_float(f"p{look}", 0, 1)
        at = began + look * LEASE / BEATS_A_LEASE
        with worker.engine.begin() as connection:
            assert worker.registration.claim(connection, 1, 1, at) == []


def test_what_another_program_wrote_to_ones_own_trial_stays(database_url: str) -> None:
    """A parameter and a report, which would be there twice."""
    worker = Worker(database_url)
    worker.claim(1)
    theirs, ours = optuna.Trial(make(database_url), 1), worker.mirror.trial(0)
    theirs.suggest_float("p", 0, 1)
    theirs.report(0.25, step=1)
    ours.suggest_float("p", 0, 1)
    ours.report(0.5, step=1)
    ours.report(0.75, step=2)
    assert worker.mirror.sync().lost == ()
    (trial,) = make(database_url).trials
    assert trial.params == theirs.params
    assert trial.intermediate_values == {1: 0.25, 2: 0.75}


def test_many_that_claim_at_once_never_claim_the_same(database_url: str) -> None:
    make(database_url)
    count, limit = 8, 200
    barrier = threading.Barrier(count)

    def work() -> tuple[Worker, list[int]]:
        worker, mine = Worker(database_url), []
        barrier.wait()
        while claimed := worker.claim(3, limit):
            mine += claimed
        return worker, mine  # a worker that is forgotten counts as dead

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(work) for _ in range(count)]
        numbers = sorted(number for future in futures for number in future.result()[1])
    assert numbers == list(range(limit))
    assert [t.number for t in make(database_url).trials] == list(range(limit))


def test_a_worker_holds_one_connection(new_postgresql: object, database_url: str) -> None:
    if not database_url.startswith("postgresql"):
        pytest.skip("SQLite has no connections to count")
    worker = Worker(database_url)
    for _ in range(5):
        worker.claim(1)
        worker.registration.beat_alone()
    with open_engine(database_url).connect() as connection:
        open_now = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid()"
        ).scalar()
    assert open_now == 1


def test_a_beat_is_written_with_its_time(database_url: str) -> None:
    worker = Worker(database_url)
    with worker.engine.begin() as connection:
        connection.execute(update(workers).values(beaten_at=func.current_timestamp()))
    before = worker.mirror.sync(epochs_per_second=2.5)
    assert before.others_running == 0
    with worker.engine.connect() as connection:
        row = connection.execute(select(workers)).one()
    assert (row.process, row.slots, row.device) == (os.getpid(), 8, "cpu")
    assert row.epochs_per_second == 2.5
    assert row.beaten_at >= row.started_at


# --- the files of living workers, beside a SQLite database ---


@pytest.fixture
def url(tmp_path: Path) -> str:
    made = f"sqlite:///{tmp_path / 'x.db'}"
    make(made)
    return made


def test_a_worker_holds_its_file_before_others_see_its_row(url: str, tmp_path: Path) -> None:
    study, engine, other = make(url), open_engine(url), open_engine(url)
    found: list[bool] = []

    def look(_: object) -> None:
        files = (tmp_path / "x.db.locks").glob("worker-*.lock")
        (file,) = files
        found.append(has_died(other, int(file.stem.removeprefix("worker-"))))

    event.listen(engine, "commit", look)
    Registration(engine, study._study_id, Host.here("cpu", 1))
    assert found == [False]


def test_a_registration_that_fails_leaves_the_number_to_the_next(url: str) -> None:
    study, engine = make(url), open_engine(url)

    def fail(_: object) -> None:
        raise OSError(28, "No space left on device")

    event.listen(engine, "commit", fail)
    with pytest.raises(OSError, match="No space") as caught:
        Registration(engine, study._study_id, Host.here("cpu", 1))
    event.remove(engine, "commit", fail)
    # The exception keeps what it met alive, as it does while an attempt is repeated.
    again = Registration(engine, study._study_id, Host.here("cpu", 1), lease_seconds=0.1)
    assert caught.value is not None
    assert not has_died(engine, again.worker_id)


def test_a_dead_worker_is_seen_although_whoever_removed_its_file_died_first(url: str) -> None:
    dead, buries, other = (Worker(url) for _ in range(3))
    dead.die()
    with buries.engine.begin() as connection:
        buries.registration.claim(connection, 1, None, time.monotonic())
        connection.rollback()
    other.claim(1)
    with other.engine.connect() as connection:
        left = set(connection.scalars(select(workers.c.worker_id)))
    assert left == {buries.registration.worker_id, other.registration.worker_id}


def test_a_suspended_worker_keeps_its_file_when_its_trials_are_taken_over(url: str) -> None:
    """It holds the file's lock: without the file it would count as dead when it goes on."""
    sleeper, heir = Worker(url), Worker(url)
    sleeper.claim(1)
    silence(sleeper, heir)
    assert heir.claim(1, limit=1) == {0: True}
    assert not has_died(heir.engine, sleeper.registration.worker_id)
