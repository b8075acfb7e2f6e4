"""The loop: claim a trial, train it, report every epoch, end it, claim the next.

A worker that is stopped leaves its trial running in the database; the next worker adopts it
under the same number. What a trial computes depends on its parameters and seed alone, so it
trains again from its first epoch and arrives at the curve it would have had.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import optuna
import torch
from optuna.trial import TrialState

from gru_optuna import seeds
from gru_optuna.errors import StudyFailed, TrialFailed
from gru_optuna.search import budget, space
from gru_optuna.training.reference import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from threading import Event as Flag

    from optuna import Study, Trial

    from gru_optuna.data.dataset import Dataset
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.spec import Specification
    from gru_optuna.training.progress import EpochResult, Progress

HOPELESS_TRIALS = 10
"""When so many trials are over and every one of them failed, the next would fail as well."""


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
    """A trial is over and stands in the database."""

    number: int
    state: TrialState
    value: float | None
    outcome: str
    epochs: int


Event: TypeAlias = TrialStarted | EpochTrained | TrialEnded


class Worker:
    """Trains the trials of one study until its budget is spent or it is told to stop.

    Parameters
    ----------
    study, spec
        The study and the file it was made with.
    dataset
        Its data, on the device to train on.
    stop
        Set from outside to end after the epoch in flight.
    on_event
        Told about every `Event`, in order.
    """

    def __init__(
        self,
        study: Study,
        spec: Specification,
        dataset: Dataset,
        stop: Flag,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.study = study
        self.spec = spec
        self.dataset = dataset
        self.stop = stop
        self.on_event = on_event
        self._started = time.monotonic()
        self._seconds_left = budget.seconds_left(study, spec)
        self._seconds_before = float(study.user_attrs.get(budget.WORKED_SECONDS, 0.0))

    def run(self) -> None:
        """Works until nothing is left to do.

        Raises
        ------
        StudyFailed
            If every trial fails.
        """
        # Beside other workers, a second thread costs more than it brings.
        torch.set_num_threads(1)
        try:
            for trial, adopted in self._claims():
                self._train(trial, adopted)
                self._stop_if_hopeless()
        finally:
            self.study.set_user_attr(
                budget.WORKED_SECONDS, self._seconds_before + time.monotonic() - self._started
            )

    def _claims(self) -> Iterator[tuple[Trial, bool]]:
        # The caller holds the study's lock, so a running trial is one that nobody runs.
        left_behind = self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING])
        for frozen in left_behind:
            if self._may_go_on():
                yield optuna.Trial(self.study, frozen._trial_id), True
        while self._may_go_on() and budget.trials_left(self.study, self.spec) > 0:
            yield self.study.ask(), False

    def _may_go_on(self) -> bool:
        return not self.stop.is_set() and not self._out_of_time()

    def _out_of_time(self) -> bool:
        return time.monotonic() - self._started >= self._seconds_left

    def _train(self, trial: Trial, adopted: bool) -> None:
        hyperparameters = space.suggest(trial, self.spec)
        seed = seeds.trial_seed(self.spec.seed, trial.number)
        self.on_event(TrialStarted(trial.number, hyperparameters, adopted))
        began = time.monotonic()
        trainer = Trainer(self.spec, self.dataset, hyperparameters, seed)
        progress = trainer.progress
        try:
            ending = self._train_epochs(trial, trainer)
        except TrialFailed as failure:
            ending = TrialState.FAIL, str(failure)
        except (RuntimeError, MemoryError) as error:
            # torch, out of memory above all. The next trial may be smaller.
            ending = TrialState.FAIL, f"{type(error).__name__}: {error}"
        if ending is None:
            return  # interrupted: left as it is, for adoption
        state, outcome = ending
        value = progress.best.value if state == TrialState.COMPLETE else None
        attributes = {
            "outcome": outcome,
            "epochs": progress.epoch,
            "seconds": round(time.monotonic() - began, 3),
            "network_parameters": trainer.network.size(),
            **_curves(progress),
        }
        for key, content in attributes.items():
            trial.set_user_attr(key, content)
        self.study.tell(trial, values=value, state=state)
        self.on_event(TrialEnded(trial.number, state, value, outcome, progress.epoch))

    def _train_epochs(self, trial: Trial, trainer: Trainer) -> tuple[TrialState, str] | None:
        """Trains to a trial's end and says which; None if it was interrupted."""
        progress = trainer.progress
        reported = trial.storage.get_trial(trial._trial_id).last_step or 0
        while True:
            if self.stop.is_set():
                return None
            result = trainer.train_epoch()
            self.on_event(EpochTrained(trial.number, progress.epoch, result))
            if progress.epoch > reported:
                trial.report(result.value, step=progress.epoch)
            if progress.finished:
                return TrialState.COMPLETE, f"trained all {progress.epoch} epochs"
            if progress.out_of_patience:
                return (
                    TrialState.COMPLETE,
                    f"stopped early after epoch {progress.epoch}, "
                    f"none better since epoch {progress.best_epoch}",
                )
            if progress.epoch >= reported and trial.should_prune():
                return TrialState.PRUNED, f"pruned after epoch {progress.epoch}"
            if self._out_of_time():
                return (
                    TrialState.PRUNED,
                    f"pruned after epoch {progress.epoch}: the study's hours are over",
                )

    def _stop_if_hopeless(self) -> None:
        trials = self.study.get_trials(deepcopy=False)
        failed = [trial for trial in trials if trial.state == TrialState.FAIL]
        over = [trial for trial in trials if trial.state.is_finished()]
        if len(failed) == len(over) >= HOPELESS_TRIALS:
            reason = failed[-1].user_attrs.get("outcome", "unknown")
            raise StudyFailed(
                f"all {len(failed)} trials failed, the last one: {reason}. "
                f"Look at the data's scale, and at the range of the learning rate."
            )


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
