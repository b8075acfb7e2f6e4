"""Which trials of a study are better than others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.trial import TrialState

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

    from gru_optuna.spec import Specification


def ranked(study: Study, spec: Specification) -> list[FrozenTrial]:
    """The complete trials, best first.

    Among equal ones the lower validation loss comes first, then the earlier trial: on a few
    dozen validation rows, many trials reach the same accuracy.
    """
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    sign = 1 if spec.direction == "minimize" else -1

    def rank(trial: FrozenTrial) -> tuple[float, float, int]:
        assert trial.value is not None
        loss = float(trial.user_attrs["best_validation_loss"])
        return sign * trial.value, loss, trial.number

    # A trial that plain Optuna added may lack what ours hold.
    return sorted((trial for trial in complete if "best_epoch" in trial.user_attrs), key=rank)
