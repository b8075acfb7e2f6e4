"""The loop: claim trials, train them together, report every epoch, end them, claim the next.

A worker that is stopped leaves its trials running in the database; the next worker adopts them
under the same numbers. What a trial computes depends on its parameters and seed alone, so it
trains again from its first epoch and arrives at the curve it would have had.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import optuna
import torch
from optuna.trial import TrialState

from gru_optuna import seeds
from gru_optuna.errors import Diverged, StudyFailed
from gru_optuna.search import budget, space
from gru_optuna.training.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from threading import Event as Flag

    from optuna import Trial

    from gru_optuna.data.dataset import Dataset
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.spec import Specification
    from gru_optuna.storage.mirror import Mirror
    from gru_optuna.training.pool import Engine, Slot
    from gru_optuna.training.progress import EpochResult, Progress

HOPELESS_TRIALS = 10
"""When so many trials are over and every one of them failed, the next would fail as well."""

FLUSH_SECONDS = 0.25
"""How long results may wait in memory. Epochs of milliseconds would else each pay a commit."""


@dataclass(frozen=True)
class EngineReady:
    """Everything is compiled and sized."""

    threads: int
    slots: int
    memory: int | None  # bytes at most, for the slots; None: not known


@dataclass(frozen=True)
class TrialStarted:
    """A trial was claimed, or adopted from a worker that stopped."""

    number: int
    hyperparameters: Hyperparameters
    adopted: bool


@dataclass(frozen=True)
class EpochTrained:
    """A trial finished an epoch, counted from 1."""

    number: int
    epoch: int
    result: EpochResult


@dataclass(frozen=True)
class TrialEnded:
    """A trial is over."""

    number: int
    state: TrialState
    value: float | None
    outcome: str
    epochs: int


Event: TypeAlias = EngineReady | TrialStarted | EpochTrained | TrialEnded


@dataclass(frozen=True)
class _Claim:
    """A trial that waits for the next epoch to begin."""

    trial: Trial
    hyperparameters: Hyperparameters
    adopted: bool
    reported: int  # epochs that an earlier worker has reported


@dataclass(frozen=True)
class _Running:
    """A trial in its slot."""

    trial: Trial
    slot: Slot
    began: float
    reported: int  # epochs that an earlier worker has reported


class Worker:
    """Trains the trials of one study until its budget is spent or it is told to stop.

    Parameters
    ----------
    mirror
        The study. The caller holds its lock.
    spec
        The file it was made with.
    dataset, engine
        Its data, and what trains on them.
    slots
        How many trials train together.
    stop
        Set from outside to end after the epoch in flight.
    on_event
        Told about every `Event`, in order.
    """

    def __init__(
        self,
        mirror: Mirror,
        spec: Specification,
        dataset: Dataset,
        engine: Engine,
        slots: int,
        stop: Flag,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.study = mirror.study
        self.spec = spec
        self.pool = Pool(spec, dataset, engine)
        self.slots = slots
        self.stop = stop
        self.on_event = on_event
        self.training_seconds = 0.0
        self._mirror = mirror
        self._running: dict[Slot, _Running] = {}
        trials = self.study.get_trials(deepcopy=False)
        self._all_failed = all(t.state == TrialState.FAIL for t in trials if t.state.is_finished())
        self._left_behind = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self._started = self._flushed = time.monotonic()
        self._seconds_left = budget.seconds_left(self.study, spec)
        self._seconds_before = float(self.study.user_attrs.get(budget.WORKED_SECONDS, 0.0))

    def run(self) -> None:
        """Works until nothing is left to do.

        Raises
        ------
        StudyFailed
            If every trial fails.
        """
        # Threads train slots; a second thread within one operation costs more than it brings.
        torch.set_num_threads(1)
        try:
            with _short_turns(), ThreadPoolExecutor(1, "pool") as background:
                claims = self._claim()
                while not self.stop.is_set():
                    if not claims and not self._running:
                        claims = self._claim()  # the last slots were freed a moment ago
                    if not self._admit(claims):
                        break
                    training = background.submit(self._train_epoch)
                    # Bookkeeping goes on meanwhile. What it knows is the epochs before this
                    # one, however fast the machine is, so the search is the same at each run.
                    claims = self._claim()
                    if time.monotonic() - self._flushed > FLUSH_SECONDS:
                        self._flush()
                    for slot, result in training.result():
                        self._after_epoch(self._running[slot], result)
                    self._stop_if_hopeless()
        finally:
            self._flush()

    def _train_epoch(self) -> list[tuple[Slot, EpochResult | Diverged]]:
        began = time.monotonic()
        trained = self.pool.train_epoch()
        self.training_seconds += time.monotonic() - began
        return trained

    def _claim(self) -> list[_Claim]:
        """Trials for all free slots, as far as the budget goes; those left running come first."""
        claims: list[_Claim] = []
        while len(self._running) + len(claims) < self.slots and not self._out_of_time():
            # Nobody else holds the study's lock, so a trial left running is one nobody runs.
            adopted = bool(self._left_behind)
            if adopted:
                trial = optuna.Trial(self.study, self._left_behind.pop(0)._trial_id)
            elif budget.trials_left(self.study, self.spec) > 0:
                trial = self.study.ask()
            else:
                break
            reported = self.study._storage.get_trial(trial._trial_id).last_step or 0
            claims.append(_Claim(trial, space.suggest(trial, self.spec), adopted, reported))
        return claims

    def _admit(self, claims: list[_Claim]) -> bool:
        """Gives claimed trials their slots; false if nothing is left to train."""
        for claim in claims:
            trial, hyperparameters = claim.trial, claim.hyperparameters
            self.on_event(TrialStarted(trial.number, hyperparameters, claim.adopted))
            seed = seeds.trial_seed(self.spec.seed, trial.number)
            slot = self.pool.admit(hyperparameters, seed)
            self._running[slot] = _Running(trial, slot, time.monotonic(), claim.reported)
        return bool(self._running)

    def _after_epoch(self, running: _Running, result: EpochResult | Diverged) -> None:
        trial, progress = running.trial, running.slot.progress
        if isinstance(result, Diverged):
            self._end(running, TrialState.FAIL, str(result))
            return
        self.on_event(EpochTrained(trial.number, progress.epoch, result))
        if progress.epoch > running.reported:
            trial.report(result.value, step=progress.epoch)
        if progress.finished:
            self._end(running, TrialState.COMPLETE, f"trained all {progress.epoch} epochs")
        elif progress.out_of_patience:
            self._end(
                running,
                TrialState.COMPLETE,
                f"stopped early after epoch {progress.epoch}, "
                f"none better since epoch {progress.best_epoch}",
            )
        elif progress.epoch >= running.reported and trial.should_prune():
            self._end(running, TrialState.PRUNED, f"pruned after epoch {progress.epoch}")
        elif self._out_of_time():
            self._end(
                running,
                TrialState.PRUNED,
                f"pruned after epoch {progress.epoch}: the study's hours are over",
            )

    def _end(self, running: _Running, state: TrialState, outcome: str) -> None:
        trial, slot = running.trial, running.slot
        progress = slot.progress
        value = progress.best.value if state == TrialState.COMPLETE else None
        attributes = {
            "outcome": outcome,
            "epochs": progress.epoch,
            "seconds": round(time.monotonic() - running.began, 3),
            "network_parameters": slot.network.size(),
            **_curves(progress),
        }
        for key, content in attributes.items():
            trial.set_user_attr(key, content)
        self.study.tell(trial, values=value, state=state)
        self._all_failed &= state == TrialState.FAIL
        self.pool.release(slot)
        del self._running[slot]
        self.on_event(TrialEnded(trial.number, state, value, outcome, progress.epoch))

    def _flush(self) -> None:
        worked = self._seconds_before + time.monotonic() - self._started
        self.study.set_user_attr(budget.WORKED_SECONDS, round(worked, 3))
        self._mirror.flush()
        self._flushed = time.monotonic()

    def _out_of_time(self) -> bool:
        return time.monotonic() - self._started >= self._seconds_left

    def _stop_if_hopeless(self) -> None:
        if not self._all_failed:
            return
        failed = self.study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
        if len(failed) >= HOPELESS_TRIALS:
            reason = failed[-1].user_attrs.get("outcome", "unknown")
            raise StudyFailed(
                f"all {len(failed)} trials failed, the last one: {reason}. "
                f"Look at the data's scale, and at the range of the learning rate."
            )


@contextmanager
def _short_turns() -> Iterator[None]:
    """Lets a thread that comes back from compiled code wait 0.2 ms for the interpreter, not 5.

    An epoch of a small GRU takes as long as Python's own turn, so bookkeeping would hold up
    every one of them.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-4)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _curves(progress: Progress) -> dict[str, object]:
    """What the report draws beside the metric, which Optuna holds itself."""
    if not progress.curve:
        return {}
    return {
        "best_epoch": progress.best_epoch,
        "best_validation_loss": progress.best.validation_loss,
        "train_loss": [round(result.train_loss, 6) for result in progress.curve],
        "validation_loss": [round(result.validation_loss, 6) for result in progress.curve],
    }
