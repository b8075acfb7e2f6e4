"""A paused trial waits for anybody, and exactly one worker continues it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from helpers.mirrors import Worker, make
from optuna.trial import TrialState
from sqlalchemy import select

from gru_optuna.checkpoints.checkpoint import Saved
from gru_optuna.storage.database.tables import checkpoints, leases
from gru_optuna.storage.maintenance.check import check
from gru_optuna.storage.mirror.mirror import EpochLimit
from gru_optuna.storage.paused_trials import PAUSED, UNTIL, is_ending, is_paused
from gru_optuna.storage.trial_counts import count_trials

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.trial import FrozenTrial

FOUR = {number: Saved(1, f"x/{number}-1-1", "0" * 64, b"content") for number in range(4)}


@pytest.fixture
def worker(database_url: str) -> Iterator[Worker]:
    worker = Worker(database_url)
    yield worker
    worker.registration.leave()
    worker.engine.dispose()


def pause_all(worker: Worker) -> None:
    """Begins four trials, each of which reports an epoch and is paused."""
    for number in worker.claim(4):
        trial = worker.mirror.trial(number)
        trial.report(number / 10, step=1)
        trial.set_user_attr(PAUSED, 1)
    worker.mirror.sync(saved=FOUR, give_back=list(FOUR))


def all_paused(trials: list[FrozenTrial]) -> tuple[list[int], list[int]]:
    return [trial.number for trial in trials if is_paused(trial)], []


def test_a_paused_trial_is_not_abandoned_and_not_in_training(
    worker: Worker, database_url: str
) -> None:
    pause_all(worker)
    synced = worker.mirror.sync(2, limit=4)
    assert (synced.claims, synced.others_running) == ((), 0)
    counts, paused = count_trials(make(database_url))
    assert (counts[TrialState.RUNNING], paused) == (4, 4)
    (running,) = [found for found in check(database_url) if found.subject == "running trials"]
    assert running.summary == "4: 0 held by workers, 0 to be adopted, 4 paused"


def test_workers_share_the_paused_trials_among_them(worker: Worker, database_url: str) -> None:
    pause_all(worker)
    others = [Worker(database_url) for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        claimed = pool.map(
            lambda each: each.mirror.sync(2, limit=4, choose_paused=all_paused).claims, others
        )
        found = [(number, claim) for claims in claimed for number, claim in claims]
    assert sorted(number for number, _ in found) == [0, 1, 2, 3]
    assert all(claim.continued and not claim.taken_over for _, claim in found)
    assert [claim.token for _, claim in found] == [2, 2, 2, 2]
    assert all(claim.checkpoints == (FOUR[number],) for number, claim in found)
    for each in others:
        each.mirror.sync()
        assert not any(map(is_paused, each.mirror.study.trials))
        each.registration.leave()
        each.engine.dispose()


def test_paused_trials_come_after_waiting_and_before_new_ones(
    worker: Worker, database_url: str
) -> None:
    pause_all(worker)
    make(database_url).enqueue_trial({})
    claims = worker.mirror.sync(4, choose_paused=lambda trials: ([3, 1], [0])).claims
    assert [number for number, _ in claims] == [4, 3, 1, 5, 0]
    trials = worker.mirror.study.trials
    assert [is_ending(trials[number]) for number, _ in claims] == [False] * 4 + [True]
    assert [claim.continued for _, claim in claims] == [False, True, True, False, True]


def test_that_a_paused_trial_ends_survives_the_worker_that_decided_it(
    worker: Worker, database_url: str
) -> None:
    """Whoever takes the trial over after a death must end it, and not train it on."""
    pause_all(worker)
    other = Worker(database_url)
    assert len(other.mirror.sync(1, limit=4, choose_paused=lambda trials: ([], [2])).claims) == 1
    assert count_trials(make(database_url))[1] == 3
    other.registration.leave()
    other.engine.dispose()
    ((number, claim),) = worker.mirror.sync(1, limit=4).claims
    assert (number, claim.taken_over) == (2, True)
    assert is_ending(worker.mirror.trial(2))
    assert not is_paused(worker.mirror.study.trials[2])


def test_no_more_paused_trials_are_continued_than_are_wanted(
    worker: Worker, database_url: str
) -> None:
    pause_all(worker)
    make(database_url).enqueue_trial({})
    claims = worker.mirror.sync(2, choose_paused=lambda trials: ([3, 1], [])).claims
    assert [number for number, _ in claims] == [4, 3]


def test_a_trial_that_pauses_again_keeps_one_checkpoint(worker: Worker) -> None:
    pause_all(worker)
    ((number, _),) = worker.mirror.sync(1, choose_paused=lambda trials: ([2], [])).claims
    trial = worker.mirror.trial(number)
    trial.report(0.5, step=2)
    trial.set_user_attr(PAUSED, 2)
    saved = {2: Saved(2, "x/2-2-2", "0" * 64, b"content")}
    assert worker.mirror.sync(saved=saved, give_back=[2]).superseded == ("x/2-1-1",)
    with worker.engine.connect() as connection:
        rows = connection.execute(select(checkpoints.c.epoch).order_by(checkpoints.c.epoch))
        assert [row.epoch for row in rows] == [1, 1, 1, 2]
        holders = connection.scalars(select(leases.c.worker_id)).all()
    assert holders == [None] * 4


def test_epochs_are_granted_up_to_the_limit_and_no_further(worker: Worker) -> None:
    limit = EpochLimit(7, wanted=lambda trial: 3)
    claims = worker.mirror.sync(4, epochs=limit).claims
    trials = worker.mirror.study.trials
    assert [trials[number].user_attrs[UNTIL] for number, _ in claims] == [3, 2, 1, 1]
    assert worker.mirror.sync(4, epochs=limit).claims == ()
    # One that ends early leaves the rest to others.
    worker.mirror.trial(0).report(0.5, step=1)
    worker.mirror.study.tell(0, 0.5, state=TrialState.COMPLETE)
    ((number, _),) = worker.mirror.sync(1, epochs=limit).claims
    assert worker.mirror.study.trials[number].user_attrs[UNTIL] == 2
