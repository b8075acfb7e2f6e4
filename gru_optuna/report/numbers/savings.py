"""What pruning saved: the epochs that were run, against those of a search that never prunes."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from gru_optuna.report.numbers.trials import epochs_of, trials_in

if TYPE_CHECKING:
    from optuna import Study

    from gru_optuna.spec import Specification


@dataclass(frozen=True)
class Savings:
    """Epochs, counted.

    How long a pruned trial would have trained nobody knows: it may have stopped early. It counts
    as the mean of the complete ones here, and never as less than it trained.
    """

    trials: int  # that are over and didn't fail
    pruned: int
    run: int  # epochs
    unpruned: float  # epochs, an estimate
    typical: float  # epochs of a complete trial, on average
    most: int  # epochs of a trial, as the study file says
    reached: list[int]  # how many of the trials trained epoch 1, 2, …, `most`

    @property
    def saved(self) -> float:
        """The share of the unpruned search's epochs that weren't run."""
        return 1 - self.run / self.unpruned if self.unpruned else 0.0


def savings(study: Study, spec: Specification) -> Savings | None:
    """None where no trial is complete, or none pruned."""
    complete = [epochs_of(t) for t in trials_in(study, TrialState.COMPLETE)]
    pruned = [epochs_of(t) for t in trials_in(study, TrialState.PRUNED)]
    if not complete or not pruned:
        return None
    typical, every = fmean(complete), complete + pruned
    most = max(spec.training.epochs, *every)
    return Savings(
        trials=len(every),
        pruned=len(pruned),
        run=sum(every),
        unpruned=sum(complete) + sum(max(typical, epochs) for epochs in pruned),
        typical=typical,
        most=most,
        reached=[sum(epochs >= epoch for epochs in every) for epoch in range(1, most + 1)],
    )
