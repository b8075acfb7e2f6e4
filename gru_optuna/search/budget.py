"""How much of a study is left to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from gru_optuna.search import space
from gru_optuna.spec import Budget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna import Study

    from gru_optuna.spec import Specification


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


def seconds_left(spec: Specification, worked: float) -> float:
    """How much longer a study may be tuned after `worked` seconds; infinity without a limit."""
    return float("inf") if spec.budget.hours is None else spec.budget.hours * 3600 - worked


def renewed(spec: Specification, user_attrs: Mapping[str, Any]) -> Specification:
    """A specification with the budget the study has by now: somebody may have raised it."""
    stored = user_attrs.get("budget")
    if not stored or stored == spec.budget.model_dump(mode="json"):
        return spec
    return spec.model_copy(update={"budget": Budget.model_validate(stored)})
