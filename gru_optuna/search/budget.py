"""How much of a study is left to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna.trial import TrialState

from gru_optuna.search import space

if TYPE_CHECKING:
    from optuna import Study

    from gru_optuna.spec import Specification

WORKED_SECONDS = "worked_seconds"
"""User attribute of a study: how long it has been tuned, over all runs."""


def trial_limit(spec: Specification) -> int | None:
    """How many trials a study may have; a grid has an end of its own."""
    limits = [spec.budget.trials] if spec.budget.trials is not None else []
    if spec.sampler.name == "grid":
        limits.append(len(space.grid(spec)))
    return min(limits, default=None)


def claimed(study: Study) -> int:
    """Trials that were begun, whatever became of them. A failed one counts: it was tried."""
    trials = study.get_trials(deepcopy=False)
    return sum(trial.state != TrialState.WAITING for trial in trials)


def trials_left(study: Study, spec: Specification) -> float:
    """How many more trials may begin; infinity where only time limits the study."""
    limit = trial_limit(spec)
    return float("inf") if limit is None else max(0, limit - claimed(study))


def seconds_left(study: Study, spec: Specification) -> float:
    """How much longer the study may be tuned; infinity where only trials limit it."""
    if spec.budget.hours is None:
        return float("inf")
    return spec.budget.hours * 3600 - float(study.user_attrs.get(WORKED_SECONDS, 0.0))
