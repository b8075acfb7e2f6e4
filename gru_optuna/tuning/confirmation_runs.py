"""The runs of a confirmation: each is trained by one of the study's workers, whichever has room.

A run is a function of its configuration and seed: it doesn't matter which worker trained it. Every
finished run is written to the study when it ends, so whoever resumes after a crash or Ctrl-C trains
only the others.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import torch
from sqlalchemy.exc import SQLAlchemyError

from gru_optuna.attributes import WORKED_SECONDS
from gru_optuna.checkpoints.checkpoint import Checkpoint, DamagedCheckpoint
from gru_optuna.errors import GRUOptunaError, TrialFailed
from gru_optuna.storage.database.open import open_engine
from gru_optuna.storage.database.retry import with_retries
from gru_optuna.storage.optuna_private import study_id
from gru_optuna.storage.workers.leases import Host, Registration
from gru_optuna.storage.workers.run_leases import (
    EndedRun,
    RunLeases,
    remove_weights,
    stored_weights,
)
from gru_optuna.study.budget import expected_confirmation
from gru_optuna.study.confirmation import Run, RunPlan, finalists, read_runs, runs_from_json
from gru_optuna.tuning.retrain import PlannedRun, train_runs
from gru_optuna.worker.commits import storage_events
from gru_optuna.worker.events import Confirming
from gru_optuna.worker.run import open_study_checkpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from threading import Event

    from optuna import Study

    from gru_optuna.storage.workers.run_leases import RunKey
    from gru_optuna.study_file import Specification
    from gru_optuna.training.folded_pool import TrialPool
    from gru_optuna.training.slot import EpochResult, Slot
    from gru_optuna.tuning.retrain import Networks
    from gru_optuna.worker.events import WorkerEvent

logger = logging.getLogger(__name__)

_KEPT_BYTES = 256 * 2**20
"""Weights of finished runs that a worker keeps for the test; what exceeds it is trained again."""

_LOOK_SECONDS = 1.0
"""Between two looks at the runs that other workers train."""


@contextmanager
def lease_runs(
    study: Study,
    url: str,
    host: Host,
    lease_seconds: float,
    stop: Event,
    on_event: Callable[[WorkerEvent], None],
) -> Iterator[RunLeases]:
    """Joins a study as a worker that trains runs of its confirmation, and leaves it at the end.

    What it holds then is free for others.

    Raises
    ------
    StorageError
        If the database fails for too long.
    """
    engine = open_engine(url)
    try:
        registration = with_retries(
            lambda: Registration(engine, study_id(study), host, lease_seconds),
            stop,
            storage_events(on_event),
        )
        leases = RunLeases(engine, registration)
        try:
            with registration.beating(leases.seconds_since_sync):
                yield leases
        finally:
            # If this can't be written, the others find out when the lease ends.
            with suppress(SQLAlchemyError, OSError, GRUOptunaError):
                registration.leave()
    finally:
        engine.dispose()


class ConfirmationRuns:
    """The finalists on fresh seeds, as one worker trains them beside the others.

    Parameters
    ----------
    study, url
        The study, and its database.
    spec
        The study file; its ``confirmation`` says how many candidates and seeds.
    pool, slots
        Where the runs train, and how many together at most.
    leases
        This worker's.
    decides
        Whether this worker decides in the end. It keeps the weights of its runs; the others store
        them for the one that does.
    stop, on_event, seconds_left
        As in `confirm`.

    Attributes
    ----------
    finalists : list
        The candidates, the best first, and their hyperparameters.
    plan : RunPlan
        Which runs there are, and the finished ones.
    kept : dict
        The weights of finished runs, while there is room.
    """

    def __init__(
        self,
        study: Study,
        url: str,
        spec: Specification,
        pool: TrialPool,
        slots: int,
        leases: RunLeases,
        stop: Event,
        on_event: Callable[[WorkerEvent], None],
        seconds_left: Callable[[], float],
        *,
        decides: bool,
    ) -> None:
        self._study, self._url, self._spec = study, url, spec
        self._pool, self._slots, self._leases = pool, slots, leases
        self._stop, self._on_event, self._seconds_left = stop, on_event, seconds_left
        self._decides = decides
        self._checkpoints = open_study_checkpoints(study, url)
        self._weights_bytes = 0  # kept or stored
        self.finalists = finalists(study, spec)
        self._configurations = {trial.number: found for trial, found in self.finalists}
        self.kept: dict[RunKey, Networks] = {}
        self.plan = self._plan(read_runs(study))

    def train(self) -> None:
        """Trains runs until none is free; whoever decides waits until no other worker has one.

        It ends earlier if it is stopped, or if no time is left.
        """
        if not self.plan.left:
            return
        self._report(begins=True)
        best: dict[RunKey, Networks] = {}
        ended: dict[RunKey, EndedRun] = {}
        elsewhere = looked = 0

        def next_runs(free: int) -> Sequence[PlannedRun]:
            nonlocal elsewhere, looked
            pause = self._leases.beat_seconds if self._leases.held else _LOOK_SECONDS
            if looked and not ended and self._leases.seconds_since_sync() < pause:
                return []
            looked += 1
            synced = with_retries(
                lambda: self._leases.sync(
                    ended,
                    free if self._seconds_left() > 0 else 0,
                    lambda finished: self._plan(runs_from_json(finished)).left,
                ),
                self._stop,
                storage_events(self._on_event),
            )
            ended.clear()
            elsewhere = synced.elsewhere
            before, self.plan = self.plan, self._plan(runs_from_json(synced.finished))
            if self.plan.runs.keys() != before.runs.keys() or self.plan.asked != before.asked:
                self._report()
            return [
                PlannedRun.of(self._spec, *key, self._configurations[key[0]])
                for key in synced.claimed
            ]

        def is_over(run: PlannedRun, slot: Slot, outcome: EpochResult | TrialFailed) -> bool:
            if run.key not in self._leases.held:
                return True  # its candidate can't win any more, or another worker has it
            progress = slot.progress
            if isinstance(outcome, TrialFailed):
                ended[run.key] = EndedRun(Run(None, 0, progress.epoch).as_json())
                return True
            if progress.best_epoch == progress.epoch:
                best[run.key] = self._pool.networks(slot)
            if not progress.ending:
                return self._seconds_left() <= 0
            finished = Run(progress.best.value, progress.best_epoch, progress.epoch)
            ended[run.key] = self._end(run.key, finished, best.pop(run.key))
            return True

        while not self._stop.is_set():
            train_runs(self._pool, next_runs, self._slots, self._stop, is_over)
            if ended:
                next_runs(0)
            waits = self._decides and elsewhere and self._seconds_left() > 0
            if not waits or self._stop.wait(_LOOK_SECONDS):
                return

    def networks(self, keys: Sequence[RunKey]) -> dict[RunKey, Networks]:
        """The weights of these runs, without those that are neither kept nor stored."""
        for key in keys:
            if key in self.kept:
                continue
            saved = stored_weights(self._leases.engine, study_id(self._study), key)
            if saved is None:
                continue
            try:
                tensors = self._checkpoints.take(saved).tensors
            except (DamagedCheckpoint, OSError) as error:
                logger.warning("a finished run of trial %d is trained again: %s", key[0], error)
                continue
            parts = 1 + max(int(name.partition("/")[0]) for name in tensors)
            networks: Networks = [{} for _ in range(parts)]
            for name, tensor in tensors.items():
                part, _, own = name.partition("/")
                networks[int(part)][own] = tensor.to(self._pool.device)
            self.kept[key] = networks
        return {key: self.kept[key] for key in keys if key in self.kept}

    def keep(self, key: RunKey, networks: Networks) -> None:
        """Keeps the weights of a run if there is room."""
        if self._has_room(networks):
            self.kept[key] = networks

    def _has_room(self, networks: Networks) -> bool:
        size = sum(weight.nbytes for network in networks for weight in network.values())
        if self._weights_bytes + size > _KEPT_BYTES:
            return False
        self._weights_bytes += size
        return True

    def clear(self) -> None:
        """Removes the stored weights, once the winner is known."""
        remove_weights(self._leases.engine, study_id(self._study))
        self._checkpoints.sweep_runs()

    def _plan(self, runs: dict[RunKey, Run]) -> RunPlan:
        return RunPlan([trial.number for trial, _ in self.finalists], self._spec, runs)

    def _end(self, key: RunKey, run: Run, networks: Networks) -> EndedRun:
        if self._decides:
            self.keep(key, networks)
            return EndedRun(run.as_json())
        if not self._has_room(networks):
            return EndedRun(run.as_json())
        cpu = torch.device("cpu")
        weights = Checkpoint(
            {
                f"{part}/{name}": tensor.to(cpu).contiguous()
                for part, network in enumerate(networks)
                for name, tensor in network.items()
            },
            {},
        )
        saved = with_retries(
            lambda: self._checkpoints.put_run(*key, self._leases.held[key], weights),
            self._stop,
            storage_events(self._on_event),
        )
        return EndedRun(run.as_json(), saved)

    def _report(self, *, begins: bool = False) -> None:
        asked, expected = len(self.plan.asked), None
        done = asked - len(self.plan.left)
        if begins and (seconds := expected_confirmation(self._study, self._spec, self._slots)):
            seconds *= 1 - done / asked
            worked = float(self._study.user_attrs.get(WORKED_SECONDS, 0.0))
            expected = (seconds, seconds / (worked + seconds)) if seconds else None
        seeds = self._spec.confirmation.seeds
        self._on_event(Confirming(done, asked, len(self.finalists), seeds, begins, expected))
