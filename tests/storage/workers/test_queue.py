"""Workers of the queue as others see them: deaths, and who takes their jobs over."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from helpers.processes import wait_for
from sqlalchemy import select

from gru_optuna.storage import jobs
from gru_optuna.storage.database.tables import queue_workers
from gru_optuna.storage.workers.leases import Host
from gru_optuna.storage.workers.queue import QueueRegistration

if TYPE_CHECKING:
    from sqlalchemy import Engine

LEASE = 0.6


def register(engine: Engine, process: int) -> QueueRegistration:
    """A worker, which here is only a row."""
    return QueueRegistration(engine, Host("host", process, "cpu", 1), LEASE)


def die(worker: QueueRegistration) -> None:
    """What the system does when a process is gone."""
    if worker._life is not None:
        worker._life.release()


def beat_until(worker: QueueRegistration, engine: Engine, job: jobs.Job, state: str) -> jobs.Job:
    """Lets a worker look at the others until the job is in this state."""

    def looked() -> jobs.Job | None:
        worker.beat()
        time.sleep(worker.beat_seconds / 2)
        found = jobs.get(engine, job.job_id)
        return found if found.state == state else None

    found: jobs.Job = wait_for(f"the job to be {state}", looked)
    return found


def test_a_dead_workers_job_is_taken_over_and_its_late_result_ignored(engine: Engine) -> None:
    jobs.create(engine, "reviews", "export", {})
    first, second = register(engine, 1), register(engine, 2)
    taken = jobs.claim(engine, first.worker_id)
    assert taken is not None
    second.beat()
    assert jobs.get(engine, taken.job_id).state == "running"
    die(first)
    waiting = beat_until(second, engine, taken, "waiting")
    assert (waiting.deaths, waiting.worker_id) == (1, None)
    again = jobs.claim(engine, second.worker_id)
    assert again is not None
    assert again.token == taken.token + 1
    assert not jobs.finish(engine, taken)
    assert jobs.finish(engine, again)
    second.leave()
    with engine.connect() as connection:
        assert connection.execute(select(queue_workers)).all() == []


def test_a_job_that_killed_five_workers_fails(engine: Engine) -> None:
    job = jobs.create(engine, "reviews", "export", {})
    watcher = register(engine, 1)
    for state in [*["waiting"] * (jobs.MOST_DEATHS - 1), "failed"]:
        victim = register(engine, 2)
        assert jobs.claim(engine, victim.worker_id) is not None
        die(victim)
        job = beat_until(watcher, engine, job, state)
    assert job.deaths == jobs.MOST_DEATHS
    assert job.error is not None
    assert "5 workers in a row died at it" in job.error
    assert jobs.claim(engine, watcher.worker_id) is None


def test_a_worker_that_was_taken_for_dead_writes_its_row_again(engine: Engine) -> None:
    worker = register(engine, 1)
    with engine.begin() as connection:
        worker.move(connection, "reviews")
        connection.execute(queue_workers.delete())
    worker.beat()
    with engine.connect() as connection:
        (row,) = connection.execute(select(queue_workers)).all()
    assert (row.worker_id, row.study) == (worker.worker_id, "reviews")
